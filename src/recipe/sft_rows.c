#include "recipe/sft_rows.h"

#include "recipe/best_fit.h"
#include "recipe/data_open.h"

#include <string.h>

void sft_rows_free(struct sft_rows *rows)
{
    mem_free(rows->kept);
    mem_free(rows->cuts);
    mem_free(rows->begin);
    mem_free(rows->parts);
    sft_row_free(&rows->whole);
    dataset_free(&rows->data);
    memset(rows, 0, sizeof *rows);
}

/* A row of the set, in whole. */
static cohort_status read_whole(struct sft_rows *rows, size_t i, struct sft_row *row, cohort_error *err)
{
    char place[DATA_PLACE];
    json_t *json = NULL;
    TRY(dataset_row(&rows->data, i, &json, err));
    dataset_place(&rows->data, i, place);
    cohort_status status = sft_row_make(rows->session, &rows->style, json, place, row, err);
    if (status == COHORT_OK && rows->wraps && row->weighted && row->weight != 1.0)
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: the row has a weight, and packing_strategy wrapped makes one row of several: leave the "
                           "weight out, or take bfd_split",
                           place);
    json_decref(json);
    return status;
}

static cohort_status read_cut(struct sft_rows *rows, const struct sft_cut *cut, struct sft_row *row, cohort_error *err)
{
    int32_t first = cut->first, left = cut->n;
    sft_row_clear(row);
    for (size_t i = cut->row; left > 0; i++, first = 0) {
        TRY(read_whole(rows, i, &rows->whole, err));
        const int32_t here = (int32_t)rows->whole.ids.count - first, n = here < left ? here : left;
        TRY(sft_row_append(row, &rows->whole, first, n, err));
        left -= n;
    }
    if (!rows->wraps) {
        row->weight = rows->whole.weight;
        row->weighted = rows->whole.weighted;
    }
    sft_row_finish(row);
    return COHORT_OK;
}

cohort_status sft_rows_read(struct sft_rows *rows, size_t i, struct sft_row *row, cohort_error *err)
{
    if (rows->cuts != NULL)
        return read_cut(rows, &rows->cuts[i], row, err);
    TRY(read_whole(rows, rows->kept[i], row, err));
    sft_row_cut(row, &rows->style);
    return COHORT_OK;
}

size_t sft_rows_unit(const struct sft_rows *rows, size_t unit, size_t *first)
{
    *first = rows->begin == NULL ? unit : rows->begin[unit];
    return rows->begin == NULL ? 1 : rows->begin[unit + 1] - rows->begin[unit];
}

/* What is made of the rows while they are read: entries of rows, and where windows of them begin, in entries. */
struct maker {
    struct sft_rows *rows;
    const struct sft_packing *packing;
    struct sft_row row;
    int32_t *lengths; /* [rows->n] tokens; NULL: not asked for */
    size_t lengths_capacity, cuts_capacity;
    size_t *windows, n_windows, windows_capacity, in_window; /* in_window: rows of data of the last */
    struct sft_cut open;                                     /* of WRAPPED: not yet full */
    int32_t open_learned;
};

/* Counts a row of data, of which so many tokens are kept. */
static void count_row(struct sft_rows *rows, const struct sft_row *row)
{
    rows->n_cut += row->n_whole > (int32_t)row->ids.count;
    rows->tokens_cut += row->n_whole - (int32_t)row->ids.count;
    rows->learned_cut += row->n_learned_whole - row->n_learned;
    rows->n_weighted += row->weighted;
    rows->n_zero += row->weight == 0.0;
    rows->conversations = rows->conversations || row->conversation;
}

/* An entry of n tokens more in part p. */
static cohort_status add_entry(struct maker *m, size_t p, const struct sft_cut *cut, cohort_error *err)
{
    struct sft_rows *rows = m->rows;
    if (m->lengths != NULL || m->packing->on) {
        TRY(mem_grow(&m->lengths, &m->lengths_capacity, rows->n + 1, sizeof *m->lengths, "rows", err));
        m->lengths[rows->n] = cut->n;
    }
    if (rows->kept == NULL) {
        TRY(mem_grow(&rows->cuts, &m->cuts_capacity, rows->n + 1, sizeof *rows->cuts, "rows", err));
        rows->cuts[rows->n] = *cut;
    } else {
        rows->kept[rows->n] = cut->row;
    }
    rows->n++;
    rows->parts[p].n_rows++;
    if (cut->idle) {
        rows->n_dropped++;
        return COHORT_OK;
    }
    rows->tokens += cut->n;
    rows->longest = cut->n > rows->longest ? cut->n : rows->longest;
    return COHORT_OK;
}

static int32_t learned_in(const struct sft_row *row, int32_t first, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = first; i < first + n; i++)
        sum += row->learned[i] ? 1 : 0;
    return sum;
}

/* The pieces of a row, each a row of its own, whose first token is not learned. */
static cohort_status split_row(struct maker *m, size_t p, uint32_t i, cohort_error *err)
{
    const int32_t n = (int32_t)m->row.ids.count, most = m->rows->style.max_length;
    for (int32_t first = 0; first < n; first += most) {
        struct sft_cut cut = {.row = i, .first = first, .n = n - first < most ? n - first : most};
        cut.idle = learned_in(&m->row, first + 1, cut.n - 1) == 0;
        TRY(add_entry(m, p, &cut, err));
    }
    return COHORT_OK;
}

/* Ends the row that is being filled. */
static cohort_status close_open(struct maker *m, size_t p, cohort_error *err)
{
    if (m->open.n > 0 && m->open_learned == 0)
        m->rows->n_dropped++;
    else if (m->open.n > 0)
        TRY(add_entry(m, p, &m->open, err));
    m->open = (struct sft_cut){0};
    m->open_learned = 0;
    return COHORT_OK;
}

/* Fills rows of max_length tokens one after the other. */
static cohort_status wrap_row(struct maker *m, size_t p, uint32_t i, cohort_error *err)
{
    const int32_t n = (int32_t)m->row.ids.count, most = m->rows->style.max_length;
    for (int32_t first = 0; first < n;) {
        if (m->open.n == 0)
            m->open = (struct sft_cut){.row = i, .first = first};
        const int32_t room = most - m->open.n, here = n - first < room ? n - first : room;
        if (m->open.n > 0 && first == 0 && m->row.first_learned)
            m->open_learned++;
        m->open_learned += m->open.n == 0 ? learned_in(&m->row, first + 1, here - 1) : learned_in(&m->row, first, here);
        m->open.n += here;
        first += here;
        if (m->open.n == most)
            TRY(close_open(m, p, err));
    }
    return COHORT_OK;
}

/* A window of rows begins where a part does, and behind BEST_FIT_WINDOW rows. */
static cohort_status begin_window(struct maker *m, size_t p, bool part, cohort_error *err)
{
    if (!part && m->in_window < BEST_FIT_WINDOW)
        return COHORT_OK;
    TRY(close_open(m, p, err));
    TRY(mem_grow(&m->windows, &m->windows_capacity, m->n_windows + 1, sizeof *m->windows, "rows", err));
    m->windows[m->n_windows++] = m->rows->n;
    m->in_window = 0;
    return COHORT_OK;
}

static cohort_status take_row(struct maker *m, size_t p, size_t i, cohort_error *err)
{
    struct sft_rows *rows = m->rows;
    const bool wraps = rows->wraps, splits = rows->kept == NULL && !wraps;
    TRY(read_whole(rows, i, &m->row, err));
    if (!wraps && !splits)
        sft_row_cut(&m->row, &rows->style);
    count_row(rows, &m->row);
    if (splits ? m->row.weight == 0.0 : !wraps && !sft_row_teaches(&m->row)) {
        rows->n_dropped += m->row.n_learned == 0;
        return COHORT_OK;
    }
    TRY(begin_window(m, p, false, err));
    m->in_window++;
    rows->n_rows++;
    if (wraps)
        return wrap_row(m, p, (uint32_t)i, err);
    if (splits)
        return split_row(m, p, (uint32_t)i, err);
    return add_entry(m, p, &(struct sft_cut){.row = (uint32_t)i, .n = (int32_t)m->row.ids.count}, err);
}

/* Reads every row of the set once, and keeps the places of those that teach something. */
static cohort_status keep_rows(struct maker *m, const struct options *options, const cohort_observer *observer,
                               cohort_error *err)
{
    struct sft_rows *rows = m->rows;
    size_t part = 0, end = rows->data.parts[0].n_rows; /* end: of the part, in rows of data */
    TRY(begin_window(m, 0, true, err));
    for (size_t i = 0; i < rows->data.n_rows; i++) {
        for (; i == end; end += rows->data.parts[part].n_rows) {
            TRY(begin_window(m, part, true, err));
            rows->parts[++part].first = rows->n;
        }
        TRY(data_report(&rows->data, i, options, observer, err));
        TRY(take_row(m, part, i, err));
    }
    return close_open(m, part, err);
}

/* Entries first .. first + n become bins, which are added behind those there are: *done entries. work: [3 n] */
static cohort_status pack_window(struct maker *m, size_t first, size_t n, size_t *done, uint32_t *work,
                                 cohort_error *err)
{
    struct sft_rows *rows = m->rows;
    uint32_t *order = work, *begin = work + n, *kept = work + 2 * n;
    struct sft_cut *cuts = NULL;
    size_t n_bins = 0;
    TRY(best_fit_pack(m->lengths + first, n, m->packing->room, order, begin, &n_bins, err));
    if (rows->cuts != NULL) {
        TRY(mem_alloc(&cuts, n, sizeof *cuts, "packing", err));
        memcpy(cuts, rows->cuts + first, n * sizeof *cuts);
    } else {
        memcpy(kept, rows->kept + first, n * sizeof *kept);
    }
    for (size_t b = 0; b < n_bins; b++) {
        const size_t before = *done, end = b + 1 < n_bins ? begin[b + 1] : n;
        for (size_t i = begin[b]; i < end; i++) {
            if (cuts == NULL)
                rows->kept[(*done)++] = kept[order[i]];
            else if (!cuts[order[i]].idle)
                rows->cuts[(*done)++] = cuts[order[i]];
        }
        rows->most = *done - before > rows->most ? *done - before : rows->most;
        if (*done > before)
            rows->begin[rows->n_units++] = (uint32_t)before;
    }
    mem_free(cuts);
    return COHORT_OK;
}

/* Packs each window for itself. */
static cohort_status pack_rows(struct maker *m, cohort_error *err)
{
    struct sft_rows *rows = m->rows;
    uint32_t *work = NULL;
    size_t work_capacity = 0, w = 0, done = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&rows->begin, rows->n + 1, sizeof *rows->begin, "bins", err));
    for (size_t p = 0; p < rows->data.n_parts; p++) {
        const size_t end = rows->parts[p].first + rows->parts[p].n_rows, before = rows->n_units;
        for (; w < m->n_windows && m->windows[w] < end; w++) {
            const size_t first = m->windows[w],
                         next = w + 1 < m->n_windows && m->windows[w + 1] < end ? m->windows[w + 1] : end;
            if (next == first)
                continue;
            TRY_GOTO(mem_grow(&work, &work_capacity, 3 * (next - first), sizeof *work, "packing", err));
            TRY_GOTO(pack_window(m, first, next - first, &done, work, err));
        }
        rows->parts[p].first = before;
        rows->parts[p].n_rows = rows->n_units - before;
    }
    rows->n = done;
    rows->begin[rows->n_units] = (uint32_t)done;
cleanup:
    mem_free(work);
    return status;
}

cohort_status sft_rows_load(struct sft_rows *rows, const struct session *session, enum option_id named, size_t limit,
                            int32_t max_length, const struct sft_packing *packing, const struct options *options,
                            const cohort_observer *observer, cohort_error *err)
{
    struct maker m = {.rows = rows, .packing = packing};
    cohort_status status = COHORT_OK;
    memset(rows, 0, sizeof *rows);
    rows->session = session;
    rows->style = sft_style(options, max_length);
    rows->most = 1;
    rows->wraps = packing->on && packing->strategy == PACKING_WRAPPED;
    TRY(data_open(&rows->data, options, named, limit, true, observer, err));
    if (rows->data.n_rows >= UINT32_MAX)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: has %zu rows; at most %lu", rows->data.path,
                         rows->data.n_rows, (unsigned long)UINT32_MAX - 1);
    if (!packing->on || packing->strategy == PACKING_BFD)
        TRY(mem_alloc(&rows->kept, rows->data.n_rows, sizeof *rows->kept, "rows", err));
    TRY(mem_alloc(&rows->parts, rows->data.n_parts, sizeof *rows->parts, "rows", err));
    for (size_t p = 0; p < rows->data.n_parts; p++)
        rows->parts[p].weight = rows->data.parts[p].weight;
    TRY_GOTO(keep_rows(&m, options, observer, err));
    const bool bins = packing->on && !rows->wraps;
    rows->n_units = bins ? 0 : rows->n;
    if (bins)
        TRY_GOTO(pack_rows(&m, err));
    for (size_t p = 0; p < rows->data.n_parts; p++)
        if (rows->parts[p].n_rows == 0) {
            status = error_set(err, COHORT_ERR_ARGUMENT, "%s: no row%s has a completion within --max-length %d%s",
                               rows->data.path, rows->data.n_parts > 1 ? " of one of the files" : "", (int)max_length,
                               rows->n_zero > 0 ? " and a weight above 0" : "");
            goto cleanup;
        }
cleanup:
    sft_row_free(&m.row);
    mem_free(m.lengths);
    mem_free(m.windows);
    return status;
}

void sft_rows_tell(const struct sft_rows *rows, const cohort_observer *observer)
{
    const char *path = rows->data.path;
    if (rows->wraps)
        observer_message(
            observer,
            "%s: %zu rows wrapped into %zu of up to %d tokens: they are cut where one is full, and attention "
            "crosses from row to row (packing_strategy wrapped; bfd_split keeps rows apart)",
            path, rows->n_rows, rows->n, (int)rows->style.max_length);
    else if (rows->cuts != NULL && rows->n + rows->n_dropped > rows->n_rows)
        observer_message(observer,
                         "%s: %zu rows cut into %zu pieces of up to %d tokens, which do not see what came before them "
                         "(packing_strategy bfd_split)",
                         path, rows->n_rows, rows->n + rows->n_dropped, (int)rows->style.max_length);
    if (rows->cuts != NULL && rows->n_dropped > 0)
        observer_message(observer, "%s: %zu rows or pieces left out because nothing in them is learned", path,
                         rows->n_dropped);
    else if (rows->n_cut + rows->n_dropped > 0)
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
