#include "recipe/best_fit.h"

#include <assert.h>
#include <stdlib.h>

struct item {
    int32_t length;
    uint32_t row, bin;
};

struct bin {
    int32_t left;
    uint32_t since; /* which placement gave it this room */
    uint32_t n;     /* rows */
};

static int by_length(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->length != y->length)
        return x->length > y->length ? -1 : 1;
    return x->row < y->row ? -1 : 1;
}

/* n: there is none. */
static uint32_t best_bin(const struct bin *bins, uint32_t n, int32_t length)
{
    uint32_t best = n;
    for (uint32_t b = 0; b < n; b++)
        if (bins[b].left >= length && (best == n || bins[b].left < bins[best].left ||
                                       (bins[b].left == bins[best].left && bins[b].since < bins[best].since)))
            best = b;
    return best;
}

cohort_status best_fit_pack(const int32_t *length, size_t n, int32_t room, uint32_t *order, uint32_t *begin,
                            size_t *n_bins, cohort_error *err)
{
    struct item *items = NULL;
    struct bin *bins = NULL;
    uint32_t n_open = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&items, n, sizeof *items, "packing", err));
    TRY_GOTO(mem_alloc(&bins, n, sizeof *bins, "packing", err));
    for (size_t i = 0; i < n; i++)
        items[i] = (struct item){.length = length[i], .row = (uint32_t)i};
    qsort(items, n, sizeof *items, by_length);
    for (size_t i = 0; i < n; i++) {
        const uint32_t b = best_bin(bins, n_open, items[i].length);
        assert(items[i].length > 0 && items[i].length <= room);
        if (b == n_open)
            bins[n_open++].left = room;
        bins[b].left -= items[i].length;
        bins[b].since = (uint32_t)i;
        bins[b].n++;
        items[i].bin = b;
    }
    uint32_t at = 0;
    for (uint32_t b = 0; b < n_open; b++) {
        begin[b] = at;
        at += bins[b].n;
        bins[b].n = begin[b]; /* from here on: where its next row goes */
    }
    for (size_t i = 0; i < n; i++)
        order[bins[items[i].bin].n++] = items[i].row;
    *n_bins = n_open;
cleanup:
    mem_free(items);
    mem_free(bins);
    return status;
}
