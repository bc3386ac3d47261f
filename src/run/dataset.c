/* JSONL data sets, read as a stream: memory is the rows plus one line. */
#include "run/dataset.h"

#include "base/file.h"
#include "base/json_text.h"
#include "base/number.h"
#include "base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_LIMIT = 64 << 20, CHUNK = 1 << 16 };

/* How the file begins, for the message when its first row is none. */
struct beginning {
    char bytes[512];
    size_t length;
};

static bool has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && ascii_same(path + n - m, ending);
}

/* A clause about a file whose first row is no JSON object, or NULL. */
static const char *wrong_rows(const char *path, const struct beginning *beginning)
{
    const char *found = wrong_file(beginning->bytes, beginning->length, WRONG_FILE_ROWS);
    if (found != NULL)
        return found;
    const char *text = beginning->bytes;
    size_t at = 0;
    while (at < beginning->length && strchr(" \t\r\n\xef\xbb\xbf", text[at]) != NULL && text[at])
        at++;
    size_t second = at + 1;
    while (second < beginning->length && strchr(" \t\r\n", text[second]) != NULL && text[second])
        second++;
    if (second < beginning->length && text[at] == '[' && text[second] == '{')
        return "an array; expected one JSON object a line: if the file is one array of rows, "
               "convert "
               "it with jq -c '.[]' FILE > rows.jsonl, or with python -c \"import json; [print("
               "json.dumps(row)) for row in json.load(open('FILE'))]\" > rows.jsonl";
    size_t line = 0;
    while (at + line < beginning->length && text[at + line] != '\n')
        line++;
    if (has_ending(path, ".csv") || has_ending(path, ".tsv") ||
        (line > 0 && text[at] != '{' && memchr(text + at, ',', line) != NULL))
        return "no JSON; expected one JSON object a line: if the file is a table in CSV, convert "
               "it "
               "with python -c \"import pandas as pd; pd.read_csv('FILE').to_json('rows.jsonl', "
               "orient='records', lines=True)\"";
    return NULL;
}

cohort_status dataset_add(struct dataset *dataset, const char *line, size_t length, int64_t number, cohort_error *err)
{
    json_t *json = NULL;
    const char *nul = memchr(line, '\0', length);
    if (nul != NULL)
        return error_set(err, COHORT_ERR_FORMAT, "%s:%lld:%zu: a NUL byte; expected UTF-8 text, one JSON object a line",
                         dataset->path, (long long)number, (size_t)(nul - line) + 1);
    /* Written \u0000 it may stand in a text: generate prints what a model says, and that is read again. Equal keys are
     * an error, as in datasets. */
    cohort_status status =
        json_text_parse(&json, line, length, dataset->path, number, JSON_TEXT_NUL | JSON_TEXT_NAN_NULL, err);
    if (status == COHORT_ERR_FORMAT)
        return error_set(err, status, "%s; expected one JSON object a line", err == NULL ? "" : err->message);
    TRY(status);
    if (!json_is_object(json)) {
        json_decref(json);
        return error_set(err, COHORT_ERR_FORMAT, "%s:%lld:1: an array; expected one JSON object a line", dataset->path,
                         (long long)number);
    }
    status = mem_grow(&dataset->rows, &dataset->capacity, dataset->n_rows + 1, sizeof *dataset->rows,
                      "rows of the data set", err);
    if (status != COHORT_OK) {
        json_decref(json);
        return status;
    }
    dataset->rows[dataset->n_rows].json = json;
    dataset->rows[dataset->n_rows].line = number;
    dataset->n_rows++;
    return COHORT_OK;
}

/* One line without its newline. */
static cohort_status take_line(struct dataset *dataset, const char *line, size_t length, int64_t number,
                               cohort_error *err)
{
    if (length > 0 && line[length - 1] == '\r')
        length--;
    size_t blank = number == 1 && length >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (blank < length && (line[blank] == ' ' || line[blank] == '\t'))
        blank++;
    return blank == length ? COHORT_OK : dataset_add(dataset, line, length, number, err);
}

/* Takes the whole lines of bytes and keeps the rest; at the end of the file the rest is a line too.
 */
static cohort_status take_lines(struct dataset *dataset, struct text *bytes, size_t *scanned, int64_t *number, bool end,
                                cohort_error *err)
{
    size_t start = 0;
    while (*scanned < bytes->length) {
        const char *from = bytes->data + *scanned;
        const char *newline = memchr(from, '\n', bytes->length - *scanned);
        if (newline == NULL)
            break;
        size_t stop = (size_t)(newline - bytes->data);
        TRY(take_line(dataset, bytes->data + start, stop - start, ++*number, err));
        start = *scanned = stop + 1;
    }
    if (end && start < bytes->length) {
        TRY(take_line(dataset, bytes->data + start, bytes->length - start, ++*number, err));
        start = bytes->length;
    }
    bytes->length -= start;
    if (start > 0 && bytes->length > 0)
        memmove(bytes->data, bytes->data + start, bytes->length);
    *scanned = bytes->length; /* no newline in what is left */
    if (bytes->length > LINE_LIMIT)
        return error_set(err, COHORT_ERR_FORMAT, "%s:%lld: the line is longer than the limit of %d MB", dataset->path,
                         (long long)*number + 1, LINE_LIMIT >> 20);
    return COHORT_OK;
}

static cohort_status read_all(struct dataset *dataset, int fd, cohort_error *err)
{
    struct text bytes = {0};
    struct beginning beginning = {0};
    struct hash hash;
    size_t scanned = 0;
    int64_t number = 0;
    char chunk[CHUNK];
    cohort_status status = COHORT_OK;
    hash_begin(&hash);
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = error_set(err, COHORT_ERR_IO, "%s: cannot read: %s", dataset->path, strerror(errno));
            goto cleanup;
        }
        size_t more = sizeof beginning.bytes - beginning.length;
        more = (size_t)n < more ? (size_t)n : more;
        memcpy(beginning.bytes + beginning.length, chunk, more);
        beginning.length += more;
        hash_add(&hash, chunk, (size_t)n);
        TRY_GOTO(text_append(&bytes, chunk, (size_t)n, err));
        TRY_GOTO(take_lines(dataset, &bytes, &scanned, &number, n == 0, err));
        if (n == 0)
            break;
    }
    hash_end(&hash, dataset->sha256);
cleanup:
    text_free(&bytes);
    if (status == COHORT_ERR_FORMAT && dataset->n_rows == 0) {
        const char *found = wrong_rows(dataset->path, &beginning);
        if (found != NULL)
            return error_set(err, status, "%s:1:1: %s", dataset->path, found);
    }
    return status;
}

cohort_status dataset_load(struct dataset *dataset, const char *path, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    int fd = -1;
    struct stat st;
    bool standard_input = strcmp(path, "-") == 0;
    const char *name = standard_input ? "standard input" : path;
    memset(dataset, 0, sizeof *dataset);
    TRY_GOTO(mem_strdup(&dataset->path, name, strlen(name), err));
    if (standard_input) {
        fd = STDIN_FILENO;
    } else {
        fd = file_open(path, O_RDONLY);
        if (fd < 0) {
            status = error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
            goto cleanup;
        }
    }
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        status = error_set(err, COHORT_ERR_IO, "%s: is a folder, expected a JSONL file", path);
        goto cleanup;
    }
    TRY_GOTO(read_all(dataset, fd, err));
    if (dataset->n_rows == 0)
        status = error_set(err, COHORT_ERR_FORMAT, "%s: has no rows; expected one JSON object a line", name);
cleanup:
    if (fd >= 0 && !standard_input)
        close(fd);
    if (status != COHORT_OK)
        dataset_free(dataset);
    return status;
}

void dataset_free(struct dataset *dataset)
{
    for (size_t i = 0; i < dataset->n_rows; i++)
        json_decref(dataset->rows[i].json);
    mem_free(dataset->rows);
    mem_free(dataset->path);
    memset(dataset, 0, sizeof *dataset);
}

/* Fisher-Yates; draw j of the epoch picks the partner of element j. The modulo of a 64-bit draw is
 * biased by less than 2^-32. */
static void permute(uint32_t *permutation, size_t n, uint64_t seed, uint64_t epoch)
{
    for (size_t j = 0; j < n; j++)
        permutation[j] = (uint32_t)j;
    for (size_t j = n; j-- > 1;) {
        struct rng_block block = rng_philox(seed, RNG_SHUFFLE, epoch, j);
        uint64_t draw = (uint64_t)block.word[0] << 32 | block.word[1];
        size_t partner = (size_t)(draw % (j + 1));
        uint32_t kept = permutation[j];
        permutation[j] = permutation[partner];
        permutation[partner] = kept;
    }
}

cohort_status dataset_order_at(struct dataset_order *order, uint64_t i, size_t *row, cohort_error *err)
{
    if (order->n == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "a data set without rows has no order");
    if (order->n > UINT32_MAX)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "a data set of %zu rows; at most %lu", order->n,
                         (unsigned long)UINT32_MAX);
    uint64_t epoch = i / order->n;
    size_t within = (size_t)(i % order->n);
    if (!order->shuffle) {
        *row = within;
        return COHORT_OK;
    }
    if (order->permutation == NULL || order->cached_epoch != epoch) {
        if (order->permutation == NULL)
            TRY(mem_alloc(&order->permutation, order->n, sizeof *order->permutation, "order of the data set", err));
        permute(order->permutation, order->n, order->seed, epoch);
        order->cached_epoch = epoch;
    }
    *row = order->permutation[within];
    return COHORT_OK;
}

void dataset_order_free(struct dataset_order *order)
{
    mem_free(order->permutation);
    order->permutation = NULL;
}
