#include "recipe/sft_rows.h"

#include "recipe/best_fit.h"
#include "recipe/data_open.h"

#include <string.h>

void sft_rows_free(struct sft_rows *rows)
{
    mem_free(rows->kept);
    mem_free(rows->begin);
    mem_free(rows->parts);
    dataset_free(&rows->data);
    memset(rows, 0, sizeof *rows);
}

/* A row of the set. */
static cohort_status read_row(struct sft_rows *rows, size_t i, struct sft_row *row, cohort_error *err)
{
    char place[DATA_PLACE];
    json_t *json = NULL;
    TRY(dataset_row(&rows->data, i, &json, err));
    dataset_place(&rows->data, i, place);
    const cohort_status status = sft_row_make(rows->session, &rows->style, json, place, row, err);
    json_decref(json);
    if (status == COHORT_OK)
        sft_row_cut(row, &rows->style);
    return status;
}

cohort_status sft_rows_read(struct sft_rows *rows, size_t i, struct sft_row *row, cohort_error *err)
{
    return read_row(rows, rows->kept[i], row, err);
}

size_t sft_rows_unit(const struct sft_rows *rows, size_t unit, size_t *first)
{
    *first = rows->begin == NULL ? unit : rows->begin[unit];
    return rows->begin == NULL ? 1 : rows->begin[unit + 1] - rows->begin[unit];
}

/* Counts a row that was read; whether it is kept. */
static bool take(struct sft_rows *rows, const struct sft_row *row)
{
    rows->n_cut += row->n_whole > (int32_t)row->ids.count;
    rows->tokens_cut += row->n_whole - (int32_t)row->ids.count;
    rows->learned_cut += row->n_learned_whole - row->n_learned;
    rows->n_weighted += row->weighted;
    rows->n_zero += row->weight == 0.0;
    rows->conversations = rows->conversations || row->conversation;
    if (!sft_row_teaches(row)) {
        rows->n_dropped += row->n_learned == 0;
        return false;
    }
    rows->tokens += (int64_t)row->ids.count;
    if ((int32_t)row->ids.count > rows->longest)
        rows->longest = (int32_t)row->ids.count;
    return true;
}

/* Reads every row of the set once, and keeps the places of those that teach something. lengths (may be NULL) gets their
 * tokens. */
static cohort_status keep_rows(struct sft_rows *rows, int32_t *lengths, const struct options *options,
                               const cohort_observer *observer, cohort_error *err)
{
    struct sft_row row = {0};
    size_t part = 0, end = rows->data.parts[0].n_rows; /* end: of the part, in rows of data */
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < rows->data.n_rows; i++) {
        for (; i == end; end += rows->data.parts[part].n_rows)
            rows->parts[++part].first = rows->n;
        TRY_GOTO(data_report(&rows->data, i, options, observer, err));
        TRY_GOTO(read_row(rows, i, &row, err));
        if (!take(rows, &row))
            continue;
        if (lengths != NULL)
            lengths[rows->n] = (int32_t)row.ids.count;
        rows->kept[rows->n++] = (uint32_t)i;
        rows->parts[part].n_rows++;
    }
cleanup:
    sft_row_free(&row);
    return status;
}

/* Rows first .. first + n, n <= BEST_FIT_WINDOW, become bins. */
static cohort_status pack_window(struct sft_rows *rows, const int32_t *lengths, size_t first, size_t n, int32_t room,
                                 uint32_t *work, cohort_error *err)
{
    uint32_t *order = work, *begin = work + BEST_FIT_WINDOW, *before = work + 2 * BEST_FIT_WINDOW;
    size_t n_bins = 0;
    TRY(best_fit_pack(lengths + first, n, room, order, begin, &n_bins, err));
    memcpy(before, rows->kept + first, n * sizeof *before);
    for (size_t i = 0; i < n; i++)
        rows->kept[first + i] = before[order[i]];
    for (size_t b = 0; b < n_bins; b++) {
        const size_t size = (b + 1 < n_bins ? begin[b + 1] : n) - begin[b];
        rows->most = size > rows->most ? size : rows->most;
        rows->begin[rows->n_units++] = (uint32_t)(first + begin[b]);
    }
    return COHORT_OK;
}

/* Packs each part for itself. */
static cohort_status pack_rows(struct sft_rows *rows, const int32_t *lengths, int32_t room, cohort_error *err)
{
    uint32_t *work = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&work, 3 * BEST_FIT_WINDOW, sizeof *work, "packing", err));
    TRY_GOTO(mem_alloc(&rows->begin, rows->n + 1, sizeof *rows->begin, "bins", err));
    for (size_t p = 0; p < rows->data.n_parts; p++) {
        const size_t first = rows->parts[p].first, end = first + rows->parts[p].n_rows, before = rows->n_units;
        for (size_t at = first; at < end; at += BEST_FIT_WINDOW) {
            const size_t n = end - at < BEST_FIT_WINDOW ? end - at : BEST_FIT_WINDOW;
            TRY_GOTO(pack_window(rows, lengths, at, n, room, work, err));
        }
        rows->parts[p].first = before;
        rows->parts[p].n_rows = rows->n_units - before;
    }
    rows->begin[rows->n_units] = (uint32_t)rows->n;
cleanup:
    mem_free(work);
    return status;
}

cohort_status sft_rows_load(struct sft_rows *rows, const struct session *session, enum option_id named, size_t limit,
                            int32_t max_length, int32_t room, const struct options *options,
                            const cohort_observer *observer, cohort_error *err)
{
    int32_t *lengths = NULL;
    cohort_status status = COHORT_OK;
    memset(rows, 0, sizeof *rows);
    rows->session = session;
    rows->style = sft_style(options, max_length);
    rows->most = 1;
    TRY(data_open(&rows->data, options, named, limit, true, observer, err));
    if (rows->data.n_rows >= UINT32_MAX)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: has %zu rows; at most %lu", rows->data.path,
                         rows->data.n_rows, (unsigned long)UINT32_MAX - 1);
    TRY(mem_alloc(&rows->kept, rows->data.n_rows, sizeof *rows->kept, "rows", err));
    TRY(mem_alloc(&rows->parts, rows->data.n_parts, sizeof *rows->parts, "rows", err));
    if (room > 0)
        TRY(mem_alloc(&lengths, rows->data.n_rows, sizeof *lengths, "rows", err));
    for (size_t p = 0; p < rows->data.n_parts; p++)
        rows->parts[p].weight = rows->data.parts[p].weight;
    TRY_GOTO(keep_rows(rows, lengths, options, observer, err));
    for (size_t p = 0; p < rows->data.n_parts; p++)
        if (rows->parts[p].n_rows == 0) {
            status = error_set(err, COHORT_ERR_ARGUMENT, "%s: no row%s has a completion within --max-length %d%s",
                               rows->data.path, rows->data.n_parts > 1 ? " of one of the files" : "", (int)max_length,
                               rows->n_zero > 0 ? " and a weight above 0" : "");
            goto cleanup;
        }
    rows->n_units = room > 0 ? 0 : rows->n;
    if (room > 0)
        TRY_GOTO(pack_rows(rows, lengths, room, err));
cleanup:
    mem_free(lengths);
    return status;
}

void sft_rows_tell(const struct sft_rows *rows, const cohort_observer *observer)
{
    const char *path = rows->data.path;
    if (rows->n_cut + rows->n_dropped > 0)
        observer_message(
            observer,
            "%s: %zu rows cut to --max-length %d (at the %s; %lld tokens, %lld of them to learn), %zu of them "
            "left out because no completion was left",
            path, rows->n_cut, (int)rows->style.max_length, rows->style.keep_end ? "beginning" : "end",
            (long long)rows->tokens_cut, (long long)rows->learned_cut, rows->n_dropped);
    if (rows->n_weighted > 0)
        observer_message(observer, "%s: %zu rows have a weight, %zu of them 0: these are left out", path,
                         rows->n_weighted, rows->n_zero);
    if (rows->begin != NULL)
        observer_message(observer, "%s: %zu rows packed into %zu bins of up to %zu rows, %lld tokens", path, rows->n,
                         rows->n_units, rows->most, (long long)rows->tokens);
}
