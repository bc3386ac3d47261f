/* Arrow files, by the reader of src/format. As with Parquet an open one is mapped and holds memory: it is closed when a
 * set turns to others (data_file_rest). */
#include "run/data_file.h"

#include "format/arrow.h"

static cohort_status open_arrow(struct data_file *file, cohort_error *err)
{
    struct arrow_file *arrow = NULL;
    if (!file->bytes.plain)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: an Arrow file %s; its rows can only be read from a file on a disk%s", file->bytes.path,
                         file->bytes.packing == NULL ? "from a pipe" : "that is packed once more",
                         file->bytes.packing == NULL ? "" : ": unpack it");
    TRY(arrow_open(&arrow, file->bytes.path, err));
    file->state = arrow;
    file->n_rows = (size_t)arrow_n_rows(arrow);
    return COHORT_OK;
}

static cohort_status read_arrow(struct data_file *file, size_t row, json_t **out, cohort_error *err)
{
    char magic[4];
    const size_t n_rows = file->n_rows;
    TRY(data_bytes_read(&file->bytes, 0, magic, sizeof magic, err)); /* it is what it was */
    if (file->state == NULL)
        TRY(open_arrow(file, err));
    if (file->n_rows != n_rows)
        return error_set(err, COHORT_ERR_STATE, "%s: was changed while it is in use", file->bytes.path);
    return arrow_row(file->state, (int64_t)row, out, err);
}

static bool arrow_column(const struct data_file *file, size_t i, const char **name, const char **type)
{
    const struct arrow_file *arrow = file->state;
    if (arrow == NULL || i >= (size_t)arrow_n_columns(arrow))
        return false;
    *name = arrow_column_name(arrow, (int32_t)i);
    *type = arrow_column_type(arrow, (int32_t)i);
    return true;
}

static const char *lost_arrow(struct data_file *file) { return arrow_lost(file->state); }

static void close_arrow(struct data_file *file)
{
    arrow_close(file->state);
    file->state = NULL;
}

const struct data_format data_format_arrow = {
    .name = "Arrow",
    .endings = " .arrow .arrows .feather .ipc ",
    .lines = false,
    .open = open_arrow,
    .row = read_arrow,
    .column = arrow_column,
    .lost = lost_arrow,
    .rest = close_arrow,
    .close = close_arrow,
};
