/* JSON that does not go by lines: a file that is one array of objects, or objects one behind the other of which one may
 * take several lines (as jq and json.dump with an indent write them, and as `datasets` reads them). */
#include "run/data_file.h"

#include "base/json_text.h"

/* A pass over the file. It says where rows begin and that the brackets close; what stands inside a row is read,
 * and refused, when the row is. */
struct array {
    struct data_file *file;
    bool bare;            /* objects without an array around them */
    int64_t line, column; /* of the byte in hand, from 1; columns in bytes */
    uint64_t start;       /* of the element, and its line */
    int64_t start_line;
    uint64_t depth;                                             /* open brackets and braces; 1: between elements */
    bool text, escaped;                                         /* within a text, behind a backslash of it */
    enum { BEFORE, FIRST, ELEMENT, BEHIND, NEXT, AFTER } state; /* of bare ones: NEXT and ELEMENT */
};

static cohort_status wrong(const struct array *a, const char *what, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s:%lld:%lld: %s", a->file->bytes.path, (long long)a->line,
                     (long long)a->column, what);
}

static cohort_status inside(struct array *a, char c, uint64_t at, cohort_error *err)
{
    if (a->text) {
        a->text = c != '"' || a->escaped;
        a->escaped = c == '\\' && !a->escaped;
    } else if (c == '"') {
        a->text = true;
    } else if (c == '{' || c == '[') {
        a->depth++;
    } else if (c == '}' || c == ']') {
        a->depth--;
        if (a->depth == 1)
            a->state = a->bare ? NEXT : BEHIND;
        if (a->depth == 1 && a->bare)
            a->file->index.end = at + 1;
    }
    if (at - a->start < DATA_ROW_BYTES)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT, "%s: row %zu is longer than the limit of %d MB", a->file->bytes.path,
                     a->file->index.n_rows, DATA_ROW_BYTES >> 20);
}

static cohort_status between(struct array *a, char c, uint64_t at, cohort_error *err)
{
    switch (a->state) {
    case BEFORE:
        if (c != '[')
            return wrong(a, "expected '[', with which an array begins", err);
        a->state = FIRST;
        a->depth = 1;
        return COHORT_OK;
    case FIRST:
    case NEXT:
        if (c == ']' && a->state == FIRST) {
            a->state = AFTER;
            return COHORT_OK;
        }
        if (c != '{')
            return wrong(a,
                         a->bare ? "expected an object, {\"column\": value, ...}, with nothing between it and the one "
                                   "before it"
                                 : "expected an object, {\"column\": value, ...}: an array of data holds one for each "
                                   "row",
                         err);
        a->start = at;
        a->start_line = a->line;
        a->depth = 2;
        a->state = ELEMENT;
        return data_index_add(&a->file->index, at, a->bare ? a->line : (int64_t)a->file->index.n_rows + 1, err);
    case BEHIND:
        if (c != ',' && c != ']')
            return wrong(a, "expected ',' or ']' behind a row", err);
        a->file->index.end = at;
        a->state = c == ',' ? NEXT : AFTER;
        return COHORT_OK;
    case ELEMENT:
    case AFTER: break;
    }
    return wrong(a, "expected nothing behind the array", err);
}

static cohort_status take_piece(void *context, const char *piece, size_t length, size_t at, cohort_error *err)
{
    struct array *a = context;
    for (size_t i = 0; i < length; i++) {
        const char c = piece[i];
        const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        if (a->state == ELEMENT)
            TRY(inside(a, c, at + i, err));
        else if (!blank && at + i >= a->file->mark)
            TRY(between(a, c, at + i, err));
        a->column++;
        if (c == '\n') {
            a->line++;
            a->column = 1;
        }
    }
    return COHORT_OK;
}

static cohort_status open_array(struct data_file *file, cohort_error *err)
{
    struct array a = {.file = file, .line = 1, .column = 1, .state = BEFORE};
    TRY(data_bytes_pass(&file->bytes, take_piece, &a, err));
    file->n_rows = file->index.n_rows;
    return a.state == AFTER
               ? COHORT_OK
               : wrong(&a, "the file ends before its array does: it was cut off; fetch or write it again", err);
}

static cohort_status open_objects(struct data_file *file, cohort_error *err)
{
    struct array a = {.file = file, .bare = true, .line = 1, .column = 1, .depth = 1, .state = NEXT};
    TRY(data_bytes_pass(&file->bytes, take_piece, &a, err));
    file->n_rows = file->index.n_rows;
    if (a.state == NEXT)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s:%lld: the object that begins here does not end before the file does: it was cut off, or a "
                     "bracket or a quote is missing; expected one JSON object a line",
                     file->bytes.path, (long long)a.start_line);
}

/* The row's bytes up to its last brace: behind it a comma and blanks may stand. */
static cohort_status take_element(struct data_file *file, size_t row, size_t *length, cohort_error *err)
{
    TRY(data_file_text(file, row, err));
    *length = file->buffer.length;
    while (*length > 0 && file->buffer.data[*length - 1] != '}')
        (*length)--;
    return COHORT_OK;
}

static cohort_status read_element(struct data_file *file, size_t row, json_t **out, cohort_error *err)
{
    char place[DATA_PLACE];
    size_t length = 0;
    TRY(take_element(file, row, &length, err));
    data_file_place(file, row, place);
    const cohort_status status =
        json_text_parse(out, file->buffer.data, length, place, 1, JSON_TEXT_NUL | JSON_TEXT_NAN_NULL, err);
    if (status != COHORT_ERR_FORMAT)
        return status;
    return error_set(err, status, "%s (line and column within the row); expected a JSON object",
                     err == NULL ? "" : err->message);
}

static cohort_status read_object(struct data_file *file, size_t row, json_t **out, cohort_error *err)
{
    size_t length = 0;
    TRY(take_element(file, row, &length, err));
    const cohort_status status =
        json_text_parse(out, file->buffer.data, length, file->bytes.path, data_index_line(&file->index, row),
                        JSON_TEXT_NUL | JSON_TEXT_NAN_NULL, err);
    if (status != COHORT_ERR_FORMAT)
        return status;
    return error_set(err, status, "%s; expected a JSON object", err == NULL ? "" : err->message);
}

const struct data_format data_format_array = {
    .name = "a JSON array",
    .endings = " .json ",
    .lines = false,
    .open = open_array,
    .row = read_element,
};

const struct data_format data_format_objects = {
    .name = "JSON objects over several lines",
    .endings = " .jsonl .ndjson .json ",
    .lines = true,
    .open = open_objects,
    .row = read_object,
};
