/* Tables as text, with commas (CSV, RFC 4180) or tabs (TSV). The first record names the columns; a value is text, as it
 * stands there, and an empty one an empty text.
 *
 * Beyond the RFC, as pandas and so `datasets` read: a record may also end with LF or CR alone, an empty line is passed
 * over, a quote within an unquoted field is a character, a column without a name is "Unnamed: 3" (its place from 0), a
 * byte order mark may stand first. Not as there: a record with more or fewer fields than the header, and text behind a
 * closing quote, are errors. */
#include "run/data_file.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { MAX_COLUMNS = 16384 };

/* One byte after the other. */
struct csv {
    char separator;
    enum { AT_FIELD, IN_FIELD, IN_QUOTES, AT_QUOTE } state;
    bool after_return; /* a CR ended the record: a LF belongs to it */
    size_t n_fields;   /* that have ended in this record */
    bool anything;     /* the record has a byte */
};

enum csv_event {
    CSV_NOTHING,
    CSV_BYTE,   /* a byte of the field */
    CSV_FIELD,  /* the field ends, another follows */
    CSV_RECORD, /* the last field of the record ends */
    CSV_EMPTY,  /* an empty line ends */
    CSV_WRONG   /* text behind a closing quote */
};

static enum csv_event end_record(struct csv *csv, char c)
{
    const bool empty = !csv->anything;
    csv->after_return = c == '\r';
    csv->state = AT_FIELD;
    csv->anything = false;
    return empty ? CSV_EMPTY : CSV_RECORD;
}

static enum csv_event csv_take(struct csv *csv, char c)
{
    const bool after_return = csv->after_return;
    csv->after_return = false;
    if (c == '\n' && after_return)
        return CSV_NOTHING;
    if (csv->state == IN_QUOTES) {
        csv->state = c == '"' ? AT_QUOTE : IN_QUOTES;
        return c == '"' ? CSV_NOTHING : CSV_BYTE;
    }
    if (c == '\n' || c == '\r')
        return end_record(csv, c);
    csv->anything = true;
    if (c == csv->separator) {
        csv->state = AT_FIELD;
        return CSV_FIELD;
    }
    if (c == '"' && csv->state != IN_FIELD) {
        const bool doubled = csv->state == AT_QUOTE;
        csv->state = IN_QUOTES;
        return doubled ? CSV_BYTE : CSV_NOTHING;
    }
    if (csv->state == AT_QUOTE)
        return CSV_WRONG;
    csv->state = IN_FIELD;
    return CSV_BYTE;
}

/* What a file says of its rows. */
struct table {
    char **names;
    size_t n, capacity;
};

static void close_table(struct data_file *file)
{
    struct table *table = file->state;
    for (size_t i = 0; table != NULL && i < table->n; i++)
        mem_free(table->names[i]);
    if (table != NULL)
        mem_free(table->names);
    mem_free(table);
}

static bool table_column(const struct data_file *file, size_t i, const char **name, const char **type)
{
    const struct table *table = file->state;
    if (i >= table->n)
        return false;
    *name = table->names[i];
    *type = "text";
    return true;
}

static char separator_of(const struct data_file *file) { return file->format == &data_format_tsv ? '\t' : ','; }

/* ---- opening ---- */

/* A pass over the records. */
struct records {
    struct data_file *file;
    struct csv csv;
    struct table *table;
    struct text field;          /* of the header */
    bool header, begun;         /* the header is still being read; a record has begun */
    uint64_t start;             /* of the record */
    int64_t line, first, quote; /* of the byte in hand; where the record began; where the last quote opened */
};

static cohort_status at_line(const struct records *r, int64_t line, const char *what, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s:%lld: %s", r->file->bytes.path, (long long)line, what);
}

static cohort_status add_name(struct records *r, cohort_error *err)
{
    struct table *table = r->table;
    const char *path = r->file->bytes.path;
    if (r->field.length == 0)
        TRY(text_printf(&r->field, err, "Unnamed: %zu", table->n));
    if (table->n == MAX_COLUMNS)
        return error_set(err, COHORT_ERR_FORMAT, "%s:1: more than %d columns", path, MAX_COLUMNS);
    if (memchr(r->field.data, '\0', r->field.length) != NULL ||
        utf8_check(r->field.data, r->field.length) < r->field.length)
        return error_set(err, COHORT_ERR_FORMAT, "%s:1: the name of column %zu is no UTF-8 text", path, table->n + 1);
    for (size_t i = 0; i < table->n; i++)
        if (strcmp(table->names[i], r->field.data) == 0)
            return error_set(err, COHORT_ERR_FORMAT, "%s:1: two columns are called \"%.80s\"; give each its own name",
                             path, r->field.data);
    TRY(mem_grow(&table->names, &table->capacity, table->n + 1, sizeof *table->names, "columns", err));
    TRY(mem_strdup(&table->names[table->n], r->field.data, r->field.length, err));
    table->n++;
    r->field.length = 0;
    return COHORT_OK;
}

static cohort_status end_header(struct records *r, cohort_error *err)
{
    TRY(add_name(r, err));
    r->header = false;
    if (r->table->n == 1 && strchr(r->table->names[0], ';') != NULL)
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s:1: one column, \"%.80s\": the fields seem to stand between semicolons; write the table with "
            "commas (CSV) or tabs (TSV)",
            r->file->bytes.path, r->table->names[0]);
    return COHORT_OK;
}

static cohort_status end_row(struct records *r, cohort_error *err)
{
    const size_t n = r->csv.n_fields + 1;
    if (n != r->table->n)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s:%lld: %zu field%s, the header has %zu; a field with a %s or a line break in it must stand "
                         "in quotes",
                         r->file->bytes.path, (long long)r->first, n, n == 1 ? "" : "s", r->table->n,
                         r->csv.separator == ',' ? "comma" : "tab");
    return data_index_add(&r->file->index, r->start, r->first, err);
}

static cohort_status take_event(struct records *r, enum csv_event event, char c, cohort_error *err)
{
    switch (event) {
    case CSV_NOTHING:
    case CSV_EMPTY: return COHORT_OK;
    case CSV_BYTE: return r->header ? text_append(&r->field, &c, 1, err) : COHORT_OK;
    case CSV_FIELD:
        if (r->header)
            TRY(add_name(r, err));
        r->csv.n_fields++;
        return COHORT_OK;
    case CSV_RECORD:
        TRY(r->header ? end_header(r, err) : end_row(r, err));
        r->csv.n_fields = 0;
        return COHORT_OK;
    case CSV_WRONG: break;
    }
    return at_line(r, r->line, "text behind a closing quote; a quote within a quoted field is written twice", err);
}

static cohort_status take_piece(void *context, const char *piece, size_t length, size_t at, cohort_error *err)
{
    struct records *r = context;
    for (size_t i = 0; i < length; i++) {
        const char c = piece[i];
        if (at + i < r->file->mark)
            continue;
        const bool quoted = r->csv.state == IN_QUOTES, was_begun = r->csv.anything;
        const enum csv_event event = csv_take(&r->csv, c);
        if (!was_begun && r->csv.anything) {
            r->start = at + i;
            r->first = r->line;
        }
        if (!quoted && r->csv.state == IN_QUOTES)
            r->quote = r->line;
        TRY(take_event(r, event, c, err));
        if (r->csv.anything && at + i - r->start >= DATA_ROW_BYTES)
            return error_set(err, COHORT_ERR_FORMAT, "%s:%lld: the row is longer than the limit of %d MB%s",
                             r->file->bytes.path, (long long)r->first, DATA_ROW_BYTES >> 20,
                             r->csv.state == IN_QUOTES ? "; is a quote not closed?" : "");
        r->line += c == '\n' || (c == '\r' && event != CSV_BYTE);
        r->line -= c == '\n' && event == CSV_NOTHING; /* of a CR LF, which the CR has counted */
    }
    return COHORT_OK;
}

static cohort_status end_file(struct records *r, cohort_error *err)
{
    if (r->csv.state == IN_QUOTES)
        return at_line(r, r->quote, "a quote opens here and is not closed before the end of the file", err);
    if (r->csv.anything)
        TRY(take_event(r, CSV_RECORD, '\0', err));
    if (r->header)
        return at_line(r, 1, "the file is empty; expected a line with the names of the columns", err);
    return COHORT_OK;
}

static cohort_status open_table(struct data_file *file, cohort_error *err)
{
    struct records r = {.file = file, .csv = {.separator = separator_of(file)}, .header = true, .line = 1};
    TRY(mem_alloc(&file->state, 1, sizeof *r.table, "table", err));
    r.table = file->state;
    cohort_status status = data_bytes_pass(&file->bytes, take_piece, &r, err);
    if (status == COHORT_OK)
        status = end_file(&r, err);
    text_free(&r.field);
    file->index.end = file->bytes.size;
    file->n_rows = file->index.n_rows;
    return status;
}

/* ---- rows ---- */

static cohort_status add_value(const struct data_file *file, size_t row, json_t *out, size_t column,
                               const struct text *field, cohort_error *err)
{
    const struct table *table = file->state;
    char place[DATA_PLACE];
    const size_t valid = utf8_check(field->data, field->length);
    data_file_place(file, row, place);
    if (column >= table->n)
        return error_set(err, COHORT_ERR_STATE, "%s: was changed while it is in use", place);
    if (valid < field->length)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: column \"%.80s\": byte %zu of the field is no UTF-8 text; save the table as UTF-8", place,
                         table->names[column], valid + 1);
    if (memchr(field->data, '\0', field->length) != NULL)
        return error_set(err, COHORT_ERR_FORMAT, "%s: column \"%.80s\": a NUL byte; expected UTF-8 text", place,
                         table->names[column]);
    if (json_object_set_new(out, table->names[column], json_stringn_nocheck(field->data, field->length)) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build the row", place);
    return COHORT_OK;
}

static cohort_status read_record(struct data_file *file, size_t row, json_t **out, cohort_error *err)
{
    struct csv csv = {.separator = separator_of(file)};
    struct text field = {0};
    enum csv_event event = CSV_NOTHING;
    cohort_status status = COHORT_OK;
    TRY(data_file_text(file, row, err));
    *out = json_object();
    if (*out == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build a row", file->bytes.path);
    TRY_GOTO(text_append(&field, "", 0, err));
    for (size_t i = 0; i < file->buffer.length && event != CSV_RECORD; i++) {
        event = csv_take(&csv, file->buffer.data[i]);
        if (event == CSV_BYTE)
            TRY_GOTO(text_append(&field, &file->buffer.data[i], 1, err));
        if (event == CSV_FIELD || event == CSV_RECORD) {
            TRY_GOTO(add_value(file, row, *out, csv.n_fields++, &field, err));
            field.length = 0;
        }
    }
    if (event != CSV_RECORD) /* the end of the file ended it */
        status = add_value(file, row, *out, csv.n_fields, &field, err);
cleanup:
    text_free(&field);
    if (status != COHORT_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

const struct data_format data_format_csv = {
    .name = "CSV",
    .endings = " .csv ",
    .lines = true,
    .open = open_table,
    .row = read_record,
    .column = table_column,
    .close = close_table,
};

const struct data_format data_format_tsv = {
    .name = "TSV",
    .endings = " .tsv ",
    .lines = true,
    .open = open_table,
    .row = read_record,
    .column = table_column,
    .close = close_table,
};
