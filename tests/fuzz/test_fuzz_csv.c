/* Data files of any bytes: CSV, TSV, JSON arrays, JSON lines, and whatever an archive of gzip or zstd holds; the first
 * byte of an input says which name the file has. What is accepted can be written again, every field in quotes, and is
 * then read as the same rows; what is refused names the file. A row is the same in whatever order rows are read. */
#include "support/fuzz.h"

#include "base/file.h"
#include "run/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NAMES = 5, MOST_ROWS = 300 };
static const char *const names[NAMES] = {"x.csv", "x.tsv", "x.json", "x.jsonl", "x.csv.gz"};

static int file = -1;
static char folder[] = "/tmp/cohort-fuzz-csv-XXXXXX", paths[NAMES][64];

static void require(bool holds, const char *property)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", property);
    abort();
}

static void remove_folder(void) { (void)file_remove_all(folder, NULL); }

/* A file in memory, with a name for each format. */
static void make_files(void)
{
    char target[64];
    file = memfd_create("input", MFD_CLOEXEC);
    require(file >= 0 && mkdtemp(folder) != NULL, "a folder to work in");
    atexit(remove_folder);
    snprintf(target, sizeof target, "/proc/self/fd/%d", file);
    for (size_t i = 0; i < NAMES; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
        require(symlink(target, paths[i]) == 0, "a name");
    }
}

static void write_input(const char *bytes, size_t length)
{
    require(ftruncate(file, 0) == 0 && pwrite(file, bytes, length, 0) == (ssize_t)length, "the input written");
}

static json_t *read_row(struct dataset *set, size_t i)
{
    cohort_error err = {0};
    json_t *row = NULL;
    const cohort_status status = dataset_row(set, i, &row, &err);
    require(status == COHORT_OK || status == COHORT_ERR_FORMAT, "a row, or that it is none");
    require((status == COHORT_OK) == (row != NULL), "a row only where it is one");
    require(row == NULL || json_is_object(row), "an object");
    require(row != NULL || strstr(err.message, folder) != NULL, "the file in the message of a row");
    return row;
}

static void add(struct text *text, const char *bytes, size_t length)
{
    require(text_append(text, bytes, length, NULL) == COHORT_OK, "memory");
}

static void add_field(struct text *text, const char *bytes, size_t length, char separator)
{
    add(text, "\"", 1);
    for (size_t i = 0; i < length; i++)
        add(text, bytes[i] == '"' ? "\"\"" : bytes + i, bytes[i] == '"' ? 2 : 1);
    add(text, separator == '\n' ? "\"\r\n" : "\"", separator == '\n' ? 3 : 1);
    if (separator != '\n')
        add(text, &separator, 1);
}

/* A row of a table as a record; header: the names. */
static void add_record(struct text *text, json_t *row, bool header, char separator)
{
    size_t left = json_object_size(row);
    const char *name;
    json_t *value;
    json_object_foreach(row, name, value)
    {
        left--;
        add_field(text, header ? name : json_string_value(value), header ? strlen(name) : json_string_length(value),
                  left == 0 ? '\n' : separator);
    }
}

/* rows written as a table are read as the same rows. */
static void check_table(json_t *rows, const char *path, char separator)
{
    struct text text = {0};
    struct dataset set;
    cohort_error err = {0};
    if (json_array_size(rows) == 0)
        return;
    add_record(&text, json_array_get(rows, 0), true, separator);
    for (size_t i = 0; i < json_array_size(rows); i++)
        add_record(&text, json_array_get(rows, i), false, separator);
    write_input(text.data, text.length);
    require(dataset_open(&set, &(struct dataset_request){.spec = path}, &err) == COHORT_OK, "a written table is one");
    require(set.n_rows == json_array_size(rows), "as many rows as were written");
    for (size_t i = 0; i < set.n_rows; i++) {
        json_t *row = read_row(&set, i);
        require(row != NULL && json_equal(row, json_array_get(rows, i)), "the same row");
        json_decref(row);
    }
    dataset_free(&set);
    text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dataset set;
    cohort_error err = {0};
    if (file < 0)
        make_files();
    if (size == 0)
        return 0;
    const char *path = paths[data[0] % NAMES];
    write_input((const char *)data + 1, size - 1);
    if (dataset_open(&set, &(struct dataset_request){.spec = path, .recognise = true}, &err) != COHORT_OK) {
        require(strstr(err.message, path) != NULL, "the file in the message");
        return 0;
    }
    const struct data_format *format = set.files[0].data.format;
    const bool table = format == &data_format_csv || format == &data_format_tsv;
    const char separator = format == &data_format_tsv ? '\t' : ',';
    json_t *rows = json_array();
    bool whole = set.n_rows <= MOST_ROWS; /* every row is one, and the first was left as it is */
    for (size_t i = 0; i < set.n_rows && i < MOST_ROWS; i++) {
        char place[DATA_PLACE];
        json_t *row = read_row(&set, i), *again = read_row(&set, set.n_rows - 1 - i);
        dataset_place(&set, i, place);
        require(strncmp(place, path, strlen(path)) == 0, "a place");
        whole = whole && row != NULL;
        if (row != NULL)
            json_array_append_new(rows, row);
        json_decref(again);
    }
    for (size_t i = 0; whole && i < set.n_rows; i++) {
        json_t *row = read_row(&set, set.n_rows - 1 - i);
        require(json_equal(row, json_array_get(rows, set.n_rows - 1 - i)), "the same row backwards");
        json_decref(row);
    }
    whole = whole && set.files[0].form.kind == DATA_FORM_NONE;
    dataset_free(&set);
    if (whole && table)
        check_table(rows, paths[separator == '\t' ? 1 : 0], separator);
    json_decref(rows);
    return 0;
}

#ifndef COHORT_LIBFUZZER
#define SEED(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof(text) - 1                                                                                         \
    }
static const struct fuzz_seed seeds[] = {
    SEED("\x00prompt,answer\n\"a, b\",1\r\n\"x \"\"y\"\"\",\n\n\"two\nlines\",3\n"),
    SEED("\x01prompt\tanswer\na\t1\n\"b\tc\"\t2\n"),
    SEED("\x02[{\"a\": [1, \"]\"]}, {\"b\": \"\\\"}\"}]"),
    SEED("\x03{\"a\": 1}\n\n{\"question\": \"q\", \"answer\": \"x #### 4\"}\n"),
    SEED("\x03{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}]}\n"),
    SEED("\x03{\"instruction\": \"i\", \"input\": \"\", \"output\": \"o\", \"history\": [[\"a\", \"b\"]]}\n"),
    SEED("\x04\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\xd4\x49\xe2\x32\xd4\x31\xe2\x02\x00\x7b\x07\x97\x0a\x08\x00"
         "\x00\x00"),
    SEED("\x04\x28\xb5\x2f\xfd\x00\x48\x41\x00\x00\x61\x2c\x62\x0a\x31\x2c\x32\x0a"),
    SEED("\x00\xef\xbb\xbf\"a\",b\r1,\"2\"\r\r,\r"),
};
static const char *const words[] = {
    "\"", "\"\"", ",",    "\t",  "\r\n", "\n",   "\r",       "\xef\xbb\xbf", "{\"a\":1}", "[",         "]",
    "{",  "}",    "\\\"", "a,b", "\n\n", "\xff", "\x1f\x8b", "Unnamed: 0",   "\"from\":", "\"value\":"};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "csv",
                                       .one = LLVMFuzzerTestOneInput,
                                       .seeds = seeds,
                                       .n_seeds = sizeof seeds / sizeof *seeds,
                                       .words = words,
                                       .n_words = sizeof words / sizeof *words};
    return fuzz_run(&target, argc, argv);
}
#endif
