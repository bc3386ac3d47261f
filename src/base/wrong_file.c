#include "base/wrong_file.h"

#include "base/number.h"

#include <string.h>

enum { LOOKED_AT = 512, TAR_AT = 257 };

struct signature {
    const char *bytes;
    size_t length;
    const char *said[3]; /* by enum wrong_file_wanted */
};

#define SIGNATURE(bytes) bytes, sizeof(bytes) - 1
#define ALIKE(text)                                                                                                    \
    {                                                                                                                  \
        text, text, text                                                                                               \
    }
#define PYTHON_ROWS "convert it to one JSON object a line, for example python -c \"import pandas as pd; "

static const struct signature signatures[] = {
    {SIGNATURE("version https://git-lfs.github.com/spec/"),
     ALIKE("a pointer of Git LFS, not the file it stands for; fetch the file with 'git lfs pull' "
           "in the repository it came from, or download it")},
    {SIGNATURE("GGUF"),
     {"a GGUF file; expected safetensors: take the checkpoint in Hugging Face format that it was "
      "made from",
      "a GGUF file; expected JSON: take the checkpoint in Hugging Face format that it was made "
      "from",
      "a GGUF file; expected one JSON object a line"}},
    {SIGNATURE("\x1f\x8b"),
     ALIKE("compressed with gzip; unpack it first, for example with gzip -dk FILE.gz, or pipe it in "
           "where '-' reads standard input")},
    {SIGNATURE("\x28\xb5\x2f\xfd"), ALIKE("compressed with zstd; unpack it first, for example with zstd -dk FILE.zst")},
    {SIGNATURE("\xfd"
               "7zXZ"),
     ALIKE("compressed with xz; unpack it first, for example with xz -dk FILE.xz")},
    {SIGNATURE("BZh"), ALIKE("compressed with bzip2; unpack it first, for example with bzip2 -dk "
                             "FILE.bz2")},
    {SIGNATURE("PAR1"),
     {"a Parquet file; expected safetensors", "a Parquet file; expected JSON",
      "a Parquet file; " PYTHON_ROWS "pd.read_parquet('FILE').to_json('rows.jsonl', orient='records', lines=True)\""}},
    {SIGNATURE("ARROW1"),
     {"an Arrow file; expected safetensors", "an Arrow file; expected JSON",
      "an Arrow file; give it as it lies on a disk, not packed or through a pipe"}},
    {SIGNATURE("FEA1"),
     {"a Feather file; expected safetensors", "a Feather file; expected JSON",
      "a Feather file of version 1, which is not read; write it again, with python -c \"import pyarrow.feather as f; "
      "f.write_feather(f.read_table('FILE'), 'rows.feather')\""}},
    {SIGNATURE("ORC"),
     {"an ORC file; expected safetensors", "an ORC file; expected JSON",
      "an ORC file; write it as Parquet, with python -c \"import pyarrow.orc as o, pyarrow.parquet as p; "
      "p.write_table(o.read_table('FILE'), 'rows.parquet')\""}},
    {SIGNATURE("PK\x03\x04"),
     {"a zip archive, as torch.save writes; expected safetensors: load it with transformers and "
      "save it with save_pretrained",
      "a zip archive (an Excel workbook is one); expected JSON",
      "a zip archive (an Excel workbook is one); unpack it, or " PYTHON_ROWS
      "pd.read_excel('FILE').to_json('rows.jsonl', orient='records', lines=True)\""}},
    {SIGNATURE("\x80\x02"), /* pickle, protocol 2: torch.save before 1.6 */
     ALIKE("a Python pickle, as torch.save wrote; it is not read because it may run any program: "
           "load it where you trust it and save it as safetensors or JSON")},
    {SIGNATURE("\x89HDF"), ALIKE("an HDF5 file, as Keras writes; expected another format")},
    {SIGNATURE("SQLite format 3"),
     {"an SQLite database; expected safetensors", "an SQLite database; expected JSON",
      "an SQLite database; write the table as CSV, with sqlite3 -header -csv FILE 'select * from NAME' > rows.csv"}},
    {SIGNATURE("Obj\x01"),
     {"an Avro file; expected safetensors", "an Avro file; expected JSON",
      "an Avro file, which is not read; write it as Parquet or JSON lines"}},
    {SIGNATURE("\xff\xfe"),
     ALIKE("text in UTF-16; expected UTF-8: save it as UTF-8, or convert it with iconv -f UTF-16 "
           "-t UTF-8")},
    {SIGNATURE("\xfe\xff"),
     ALIKE("text in UTF-16; expected UTF-8: save it as UTF-8, or convert it with iconv -f UTF-16 "
           "-t UTF-8")},
};

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool begins(const char *text, size_t length, const char *with)
{
    size_t n = strlen(with);
    return length >= n && ascii_same_bytes(text, with, n);
}

const char *wrong_file(const void *bytes, size_t length, enum wrong_file_wanted wanted)
{
    const char *text = bytes;
    if (text == NULL || length == 0)
        return NULL;
    length = length < LOOKED_AT ? length : LOOKED_AT;
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
        if (length >= signatures[i].length && memcmp(text, signatures[i].bytes, signatures[i].length) == 0)
            return signatures[i].said[wanted];
    if (length >= TAR_AT + 5 && memcmp(text + TAR_AT, "ustar", 5) == 0)
        return "a tar archive; unpack it, with tar -xf FILE, and give what is meant of it, a file or a folder";
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        length -= 3;
    }
    for (; length > 0 && is_blank(*text); length--)
        text++;
    static const char *const pages[] = {"<!doctype html", "<html", "<head", "<?xml"};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (begins(text, length, pages[i]))
            return "a web page, not the file: the download went wrong (a login, a missing file or "
                   "a "
                   "link to the page about the file); download the file itself";
    static const char *const errors[] = {"Entry not found", "Invalid username or password",
                                         "{\"error\":",     "Access to model",
                                         "404: Not Found",  "Repository not found"};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (begins(text, length, errors[i]))
            return "the error message of a server, not the file: the download went wrong (a login, "
                   "a licence to accept, or a wrong name); download the file again";
    if (wanted == WRONG_FILE_WEIGHTS && length > 0 && (*text == '{' || *text == '['))
        return "JSON text; expected safetensors";
    return NULL;
}
