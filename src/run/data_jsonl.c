/* JSON lines: an object a line. */
#include "run/data_file.h"

#include "base/json_text.h"

#include <string.h>

/* A pass over the lines. A line is a row if anything but blanks stands in it. */
struct lines {
    struct data_file *file;
    int64_t number; /* of the line, from 1 */
    uint64_t start; /* of the line */
    bool row;       /* it has something */
};

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static cohort_status take_piece(void *context, const char *piece, size_t length, size_t at, cohort_error *err)
{
    struct lines *lines = context;
    for (size_t i = 0; i < length;) {
        const char *newline = memchr(piece + i, '\n', length - i);
        const size_t end = newline == NULL ? length : (size_t)(newline - piece);
        while (!lines->row && i < end && (is_blank(piece[i]) || at + i < lines->file->mark))
            i++;
        if (!lines->row && i < end) {
            lines->row = true;
            TRY(data_index_add(&lines->file->index, lines->start, lines->number, err));
        }
        if (lines->row && at + end - lines->start > DATA_ROW_BYTES)
            return error_set(err, COHORT_ERR_FORMAT, "%s:%lld: the line is longer than the limit of %d MB",
                             lines->file->bytes.path, (long long)lines->number, DATA_ROW_BYTES >> 20);
        if (newline == NULL)
            break;
        i = end + 1;
        lines->row = false;
        lines->start = at + i;
        lines->number++;
    }
    return COHORT_OK;
}

static cohort_status open_lines(struct data_file *file, cohort_error *err)
{
    struct lines lines = {.file = file, .number = 1};
    TRY(data_bytes_pass(&file->bytes, take_piece, &lines, err));
    file->index.end = file->bytes.size;
    file->n_rows = file->index.n_rows;
    return COHORT_OK;
}

static cohort_status read_line(struct data_file *file, size_t row, json_t **out, cohort_error *err)
{
    const char *path = file->bytes.path;
    const int64_t number = data_index_line(&file->index, row);
    TRY(data_file_text(file, row, err));
    const char *line = file->buffer.data, *newline = memchr(line, '\n', file->buffer.length);
    size_t length = newline == NULL ? file->buffer.length : (size_t)(newline - line);
    if (length > 0 && line[length - 1] == '\r')
        length--;
    const char *nul = memchr(line, '\0', length);
    if (nul != NULL)
        return error_set(err, COHORT_ERR_FORMAT, "%s:%lld:%zu: a NUL byte; expected UTF-8 text, one JSON object a line",
                         path, (long long)number, (size_t)(nul - line) + 1);
    /* Written \u0000 it may stand in a text: generate prints what a model says, and that is read again. Equal keys are
     * an error, as in datasets. */
    const cohort_status status =
        json_text_parse(out, line, length, path, number, JSON_TEXT_NUL | JSON_TEXT_NAN_NULL, err);
    if (status == COHORT_ERR_FORMAT) {
        const char *found = row == 0 ? wrong_file(line, length, WRONG_FILE_ROWS) : NULL;
        if (found != NULL)
            return error_set(err, status, "%s:%lld:1: %s", path, (long long)number, found);
        const size_t first = strspn(line, " \t\r");
        const bool ended = err != NULL && strstr(err->message, "end of ") != NULL; /* not: nested too deeply */
        if (ended && line[first] == '{' && json_text_end(line, length, first) == 0)
            return error_set(err, status, "%s:%lld: the object does not end in its line: %s", path, (long long)number,
                             row + 1 == file->n_rows
                                 ? "the file was cut off there, or a bracket or a quote is missing; expected one JSON "
                                   "object a line"
                                 : "a bracket or a quote is missing, or it goes on in the next; expected one JSON "
                                   "object a line, as 'jq -c . FILE' writes them");
        return error_set(err, status, "%s; expected one JSON object a line", err == NULL ? "" : err->message);
    }
    TRY(status);
    if (json_is_object(*out))
        return COHORT_OK;
    json_decref(*out);
    *out = NULL;
    return error_set(err, COHORT_ERR_FORMAT, "%s:%lld:1: an array; expected one JSON object a line", path,
                     (long long)number);
}

const struct data_format data_format_jsonl = {
    .name = "JSON lines",
    .endings = " .jsonl .ndjson .json ",
    .lines = true,
    .open = open_lines,
    .row = read_line,
};
