#include "run/data_file.h"

#include "base/json_text.h"
#include "base/number.h"
#include "base/wrong_file.h"

#include <stdio.h>
#include <string.h>

static const struct data_format *const formats[] = {&data_format_jsonl, &data_format_objects, &data_format_array,
                                                    &data_format_csv,   &data_format_tsv,     &data_format_parquet,
                                                    &data_format_arrow};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* ---- names ---- */

static bool ends_with(const char *name, size_t length, const char *ending, size_t n)
{
    return length > n && ascii_same_bytes(name + length - n, ending, n);
}

/* The length of a name without the ending of a packing. */
static size_t unpacked_length(const char *name)
{
    static const char *const packings[] = {".gz", ".zst", ".zstd"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++)
        if (ends_with(name, length, packings[i], strlen(packings[i])))
            return length - strlen(packings[i]);
    return length;
}

static bool is_named(const struct data_format *format, const char *name)
{
    const size_t length = unpacked_length(name);
    for (const char *at = format->endings + 1; *at != '\0';) {
        const size_t n = strcspn(at, " ");
        if (ends_with(name, length, at, n))
            return true;
        at += n + 1;
    }
    return false;
}

const struct data_format *data_file_named(const char *name)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (is_named(formats[i], name))
            return formats[i];
    return NULL;
}

/* ---- content ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static size_t skip_blanks(const char *text, size_t at, size_t length)
{
    while (at < length && is_blank(text[at]))
        at++;
    return at;
}

/* Whether the object that begins at first goes on behind its line. One that was cut off does not: there the next object
 * begins in the next line, where none can stand. */
static bool goes_on(const char *text, size_t first, size_t length)
{
    const char *newline = memchr(text + first, '\n', length - first);
    size_t end = newline == NULL ? length : (size_t)(newline - text);
    const size_t next = skip_blanks(text, end, length);
    if (newline == NULL || json_text_end(text, end, first) > 0 || next == length)
        return false;
    while (is_blank(text[end - 1]))
        end--;
    return text[next] != '{' || strchr("[:,", text[end - 1]) != NULL;
}

/* The format that the first bytes say, or NULL. A table may begin with any character, so that one that its name says
 * must go on as JSON does to be taken for that. */
static const struct data_format *told(const char *text, size_t mark, size_t length, const struct data_format *by_name)
{
    const size_t first = skip_blanks(text, mark, length), second = skip_blanks(text, first + 1, length);
    const bool table = by_name == &data_format_csv || by_name == &data_format_tsv;
    const char next = second < length ? text[second] : '\0';
    if (length >= 4 && memcmp(text, "PAR1", 4) == 0)
        return &data_format_parquet;
    if (length >= 6 && (memcmp(text, "ARROW1", 6) == 0 || memcmp(text, "\xff\xff\xff\xff", 4) == 0))
        return &data_format_arrow;
    if (first >= length)
        return NULL;
    if (text[first] == '{' && (!table || next == '"' || next == '}'))
        return goes_on(text, first, length) ? &data_format_objects : &data_format_jsonl;
    if (text[first] == '[' && (!table || next == '{'))
        return &data_format_array;
    return NULL;
}

/* A table named .csv that has tabs in its first line and no comma. */
static bool has_tabs(const char *text, size_t length)
{
    const char *newline = memchr(text, '\n', length);
    const size_t line = newline == NULL ? length : (size_t)(newline - text);
    return memchr(text, '\t', line) != NULL && memchr(text, ',', line) == NULL;
}

static cohort_status choose(struct data_file *file, struct text *notes, cohort_error *err)
{
    const char *path = file->bytes.path;
    const struct data_format *by_name = data_file_named(path);
    char beginning[DATA_BEGINNING];
    const size_t length = file->bytes.size < sizeof beginning ? file->bytes.size : sizeof beginning;
    TRY(data_bytes_read(&file->bytes, 0, beginning, length, err));
    file->mark = length >= 3 && memcmp(beginning, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    file->format = told(beginning, file->mark, length, by_name);
    if (length == 0 && (by_name == &data_format_parquet || by_name == &data_format_arrow))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: the file is empty, not even %s without rows: it was cut off; fetch or write it again",
                         path, by_name == &data_format_parquet ? "a Parquet file" : "an Arrow file");
    if (file->format == NULL && (by_name == &data_format_csv || by_name == &data_format_tsv)) {
        const char *found = wrong_file(beginning, length, WRONG_FILE_ROWS);
        if (found != NULL)
            return error_set(err, COHORT_ERR_FORMAT, "%s:1:1: %s", path, found);
        file->format = has_tabs(beginning, length) ? &data_format_tsv : by_name;
    }
    if (file->format == NULL && by_name == &data_format_arrow && length > 0 &&
        wrong_file(beginning, length, WRONG_FILE_ROWS) == NULL)
        file->format = by_name; /* a stream of the years before 2019, which begins without a mark */
    if (file->format == NULL) {
        const char *found = wrong_file(beginning, length, WRONG_FILE_ROWS);
        const size_t line = strcspn(length == 0 ? "\n" : beginning, "\n");
        if (found == NULL && length > 0 && memchr(beginning, ',', line < length ? line : length) != NULL)
            found = "no JSON; expected one JSON object a line: if the file is a table, name it .csv (or .tsv)";
        if (found != NULL)
            return error_set(err, COHORT_ERR_FORMAT, "%s:1:1: %s", path, found);
        file->format = &data_format_jsonl;
    }
    if (by_name != NULL && !is_named(file->format, path))
        return text_printf(notes, err, "note: %.300s: holds %s, though its name says %s; it is read as what it holds\n",
                           path, file->format->name, by_name->name);
    return COHORT_OK;
}

cohort_status data_file_open(struct data_file *file, const char *path, struct data_room *room, struct hash *hash,
                             const struct stop *stop, struct text *notes, cohort_error *err)
{
    memset(file, 0, sizeof *file);
    TRY(data_bytes_open(&file->bytes, path, room, hash, stop, err));
    TRY(choose(file, notes, err));
    TRY(file->format->open(file, err));
    return data_bytes_pass(&file->bytes, NULL, NULL, err);
}

void data_file_close(struct data_file *file)
{
    if (file->format != NULL && file->format->close != NULL)
        file->format->close(file);
    data_bytes_close(&file->bytes);
    data_index_free(&file->index);
    text_free(&file->buffer);
    memset(file, 0, sizeof *file);
}

void data_file_rest(struct data_file *file)
{
    if (file->format->rest != NULL)
        file->format->rest(file);
    data_bytes_rest(&file->bytes);
    text_free(&file->buffer);
}

void data_file_place(const struct data_file *file, size_t row, char place[DATA_PLACE])
{
    if (file->format->lines)
        snprintf(place, DATA_PLACE, "%.480s:%lld", file->bytes.path, (long long)data_index_line(&file->index, row));
    else
        snprintf(place, DATA_PLACE, "%.480s:row %zu", file->bytes.path, row + 1);
}

cohort_status data_file_text(struct data_file *file, size_t row, cohort_error *err)
{
    const uint64_t at = data_index_at(&file->index, row), end = data_index_at(&file->index, row + 1);
    size_t length = (size_t)(end - at);
    if (length > DATA_ROW_BYTES + 2) /* many empty lines behind the row */
        length = DATA_ROW_BYTES + 2;
    if (file->buffer.capacity < length + 1) {
        text_free(&file->buffer);
        TRY(mem_grow(&file->buffer.data, &file->buffer.capacity, length + 1, 1, "row", err));
    }
    TRY(data_bytes_read(&file->bytes, (size_t)at, file->buffer.data, length, err));
    file->buffer.data[length] = '\0';
    file->buffer.length = length;
    return COHORT_OK;
}
