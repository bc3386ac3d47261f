#include "recipe/table_out.h"

#include "base/file.h"
#include "base/number.h"
#include "recipe/json_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static cohort_status emit(void *context, const char *bytes, size_t length, cohort_error *err)
{
    struct table_out *out = context;
    if (out->fd > 0)
        return file_write_all(out->fd, out->temporary, bytes, length, err);
    struct text text = {0};
    TRY(text_append(&text, bytes, length, err));
    observer_output(out->observer, &text);
    text_free(&text);
    return COHORT_OK;
}

/* A field of CSV: in quotes where it has a comma, a quote, a line's end or blanks around it. */
static cohort_status csv_field(struct text *line, const char *bytes, size_t length, cohort_error *err)
{
    bool quoted = length == 0;
    for (size_t i = 0; i < length && !quoted; i++)
        quoted = strchr(",\"\r\n\t ", bytes[i]) != NULL;
    if (!quoted)
        return text_append(line, bytes, length, err);
    TRY(text_append(line, "\"", 1, err));
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '"')
            TRY(text_append(line, "\"", 1, err));
        TRY(text_append(line, bytes + i, 1, err));
    }
    return text_append(line, "\"", 1, err);
}

/* Text on one line for a person: tabs and line ends are shown. */
static cohort_status tab_field(struct text *line, const char *bytes, size_t length, cohort_error *err)
{
    for (size_t i = 0; i < length;) {
        size_t n = i;
        while (n < length && bytes[n] != '\n' && bytes[n] != '\t')
            n++;
        TRY(text_append_shown(line, bytes + i, n - i, err));
        if (n < length)
            TRY(text_append(line, bytes[n] == '\n' ? "\\n" : "\\t", 2, err));
        i = n + 1;
    }
    return COHORT_OK;
}

static cohort_status write_head(struct table_out *out, cohort_error *err)
{
    if (out->form != TABLE_CSV && out->form != TABLE_TABS)
        return COHORT_OK;
    for (size_t c = 0; c < out->n; c++) {
        if (c > 0)
            TRY(text_append(&out->line, out->form == TABLE_CSV ? "," : "\t", 1, err));
        TRY(out->form == TABLE_CSV ? csv_field(&out->line, out->columns[c].name, strlen(out->columns[c].name), err)
                                   : tab_field(&out->line, out->columns[c].name, strlen(out->columns[c].name), err));
    }
    TRY(text_append(&out->line, "\n", 1, err));
    TRY(emit(out, out->line.data, out->line.length, err));
    out->line.length = 0;
    return COHORT_OK;
}

cohort_status table_open(struct table_out *out, enum table_form form, const struct parquet_column *columns, size_t n,
                         const char *path, const cohort_observer *observer, cohort_error *err)
{
    *out = (struct table_out){.form = form, .columns = columns, .n = n, .observer = observer};
    if (path != NULL) {
        struct text temporary = {0};
        TRY(mem_strdup(&out->path, path, strlen(path), err));
        TRY(text_printf(&temporary, err, "%s.tmp-%llu", path, (unsigned long long)file_unique_number()));
        out->temporary = temporary.data;
        const int fd = file_open(out->temporary, O_WRONLY | O_CREAT | O_EXCL);
        if (fd < 0)
            return error_set(err, COHORT_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
        out->fd = fd;
    }
    return form == TABLE_PARQUET ? parquet_writer_open(&out->parquet, columns, n, emit, out, err)
                                 : write_head(out, err);
}

/* What stands before a value; nothing in Parquet. */
static cohort_status begin_value(struct table_out *out, cohort_error *err)
{
    const bool first = out->next == 0;
    if (out->form == TABLE_JSONL) {
        const char *name = out->columns[out->next].name;
        TRY(text_append(&out->line, first ? "{" : ", ", first ? 1 : 2, err));
        TRY(json_string_write(name, strlen(name), &out->line, err));
        TRY(text_append(&out->line, ": ", 2, err));
    } else if (!first && out->form != TABLE_PARQUET) {
        TRY(text_append(&out->line, out->form == TABLE_CSV ? "," : "\t", 1, err));
    }
    return COHORT_OK;
}

cohort_status table_integer(struct table_out *out, int64_t value, cohort_error *err)
{
    TRY(begin_value(out, err));
    TRY(out->form == TABLE_PARQUET ? parquet_put_integer(&out->parquet, out->next, value, err)
                                   : text_printf(&out->line, err, "%lld", (long long)value));
    out->next++;
    return COHORT_OK;
}

cohort_status table_number(struct table_out *out, double value, cohort_error *err)
{
    char text[NUMBER_BYTES] = "";
    TRY(begin_value(out, err));
    if (out->form == TABLE_PARQUET) {
        TRY(parquet_put_number(&out->parquet, out->next, value, err));
    } else {
        if (isfinite(value))
            number_write_double(value, text);
        else if (out->form == TABLE_JSONL)
            strcpy(text, "null");
        else
            strcpy(text, isnan(value) ? "nan" : value > 0.0 ? "inf" : "-inf");
        TRY(text_append(&out->line, text, strlen(text), err));
    }
    out->next++;
    return COHORT_OK;
}

cohort_status table_null(struct table_out *out, cohort_error *err)
{
    TRY(begin_value(out, err));
    if (out->form == TABLE_JSONL)
        TRY(text_append(&out->line, "null", 4, err));
    out->next++;
    return COHORT_OK;
}

cohort_status table_absent(struct table_out *out, cohort_error *err)
{
    if (out->form != TABLE_JSONL)
        return table_null(out, err);
    out->next++;
    return COHORT_OK;
}

cohort_status table_text(struct table_out *out, const char *bytes, size_t length, cohort_error *err)
{
    if (bytes == NULL)
        return table_null(out, err);
    TRY(begin_value(out, err));
    switch (out->form) {
    case TABLE_JSONL: TRY(json_string_write(bytes, length, &out->line, err)); break;
    case TABLE_CSV: TRY(csv_field(&out->line, bytes, length, err)); break;
    case TABLE_TABS: TRY(tab_field(&out->line, bytes, length, err)); break;
    case TABLE_PARQUET: TRY(parquet_put_text(&out->parquet, out->next, bytes, length, err)); break;
    }
    out->next++;
    return COHORT_OK;
}

cohort_status table_json(struct table_out *out, const char *bytes, size_t length, cohort_error *err)
{
    if (bytes == NULL || out->form != TABLE_JSONL)
        return table_text(out, bytes, length, err);
    TRY(begin_value(out, err));
    TRY(text_append(&out->line, bytes, length, err));
    out->next++;
    return COHORT_OK;
}

cohort_status table_end_row(struct table_out *out, cohort_error *err)
{
    out->next = 0;
    if (out->form == TABLE_PARQUET)
        return parquet_end_row(&out->parquet, err);
    TRY(text_append(&out->line, out->form == TABLE_JSONL ? "}\n" : "\n", out->form == TABLE_JSONL ? 2 : 1, err));
    TRY(emit(out, out->line.data, out->line.length, err));
    out->line.length = 0;
    return COHORT_OK;
}

cohort_status table_finish(struct table_out *out, cohort_error *err)
{
    if (out->form == TABLE_PARQUET)
        TRY(parquet_finish(&out->parquet, err));
    if (out->fd <= 0)
        return COHORT_OK;
    const bool good = fsync(out->fd) == 0 && close(out->fd) == 0;
    out->fd = 0;
    if (!good || rename(out->temporary, out->path) != 0)
        return error_set(err, COHORT_ERR_IO, "%s: cannot write: %s", out->path, strerror(errno));
    mem_free(out->temporary);
    out->temporary = NULL;
    return COHORT_OK;
}

void table_close(struct table_out *out)
{
    if (out->fd > 0)
        close(out->fd);
    if (out->temporary != NULL)
        unlink(out->temporary);
    if (out->form == TABLE_PARQUET)
        parquet_writer_close(&out->parquet);
    mem_free(out->temporary);
    mem_free(out->path);
    text_free(&out->line);
    memset(out, 0, sizeof *out);
}
