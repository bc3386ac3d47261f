/* Parquet files, by the reader of src/format. It maps the file and keeps decoded pages, so that an open one costs memory:
 * it is closed when a set turns to others (data_file_rest). */
#include "run/data_file.h"

#include "format/parquet.h"

#include <string.h>

static cohort_status open_parquet(struct data_file *file, cohort_error *err)
{
    struct parquet_file *parquet = NULL;
    if (!file->bytes.plain)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: a Parquet file %s; its rows can only be read from a file on a disk%s", file->bytes.path,
                         file->bytes.packing == NULL ? "from a pipe" : "that is packed once more",
                         file->bytes.packing == NULL ? "" : ": unpack it (its pages are packed already)");
    TRY(parquet_open(&parquet, file->bytes.path, err));
    file->state = parquet;
    file->n_rows = (size_t)parquet_n_rows(parquet);
    return COHORT_OK;
}

static cohort_status read_parquet(struct data_file *file, size_t row, json_t **out, cohort_error *err)
{
    char magic[4];
    const size_t n_rows = file->n_rows;
    TRY(data_bytes_read(&file->bytes, 0, magic, sizeof magic, err)); /* it is what it was */
    if (file->state == NULL)
        TRY(open_parquet(file, err));
    if (file->n_rows != n_rows)
        return error_set(err, COHORT_ERR_STATE, "%s: was changed while it is in use", file->bytes.path);
    return parquet_row(file->state, (int64_t)row, out, err);
}

static bool parquet_column(const struct data_file *file, size_t i, const char **name, const char **type)
{
    const struct parquet_file *parquet = file->state;
    if (parquet == NULL || i >= (size_t)parquet_n_columns(parquet))
        return false;
    *name = parquet_column_name(parquet, (int32_t)i);
    *type = parquet_column_type(parquet, (int32_t)i);
    return true;
}

static const char *lost_parquet(struct data_file *file) { return parquet_lost(file->state); }

static void close_parquet(struct data_file *file)
{
    parquet_close(file->state);
    file->state = NULL;
}

const struct data_format data_format_parquet = {
    .name = "Parquet",
    .endings = " .parquet ",
    .lines = false,
    .open = open_parquet,
    .row = read_parquet,
    .column = parquet_column,
    .lost = lost_parquet,
    .rest = close_parquet,
    .close = close_parquet,
};
