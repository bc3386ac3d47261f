#include "train/repetition.h"

#include <stdlib.h>
#include <string.h>

enum { LONG = 100 };

struct four {
    int32_t at[4];
};

static int compare_four(const void *a, const void *b) { return memcmp(a, b, sizeof(struct four)); }

/* fours: room for as many as the episode has tokens. */
static bool repeats(const struct episode *e, struct four *fours)
{
    const int32_t n = e->n_tokens - 3;
    int32_t before = 0;
    if (e->n_sampled < LONG)
        return false;
    for (int32_t i = 0; i < n; i++)
        memcpy(fours[i].at, e->tokens + i, sizeof fours[i].at);
    qsort(fours, (size_t)n, sizeof *fours, compare_four);
    for (int32_t i = 1; i < n; i++)
        before += compare_four(&fours[i - 1], &fours[i]) == 0 ? 1 : 0;
    return 2 * before > n;
}

static int compare_tokens(const void *a, const void *b)
{
    const struct episode *x = *(const struct episode *const *)a, *y = *(const struct episode *const *)b;
    if (x->n_tokens != y->n_tokens)
        return x->n_tokens < y->n_tokens ? -1 : 1;
    return x->n_tokens == 0 ? 0 : memcmp(x->tokens, y->tokens, (size_t)x->n_tokens * sizeof *x->tokens);
}

cohort_status repetition_measure(const struct episode *episodes, int32_t n, int32_t group, double *repeated,
                                 double *distinct, cohort_error *err)
{
    struct four *fours = NULL;
    const struct episode **sorted = NULL;
    int32_t longest = 0, n_repeated = 0, n_distinct = 0;
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; i < n; i++)
        longest = episodes[i].n_tokens > longest ? episodes[i].n_tokens : longest;
    TRY_GOTO(mem_alloc(&fours, (size_t)longest, sizeof *fours, "repetition", err));
    TRY_GOTO(mem_alloc(&sorted, (size_t)group, sizeof *sorted, "repetition", err));
    for (int32_t first = 0; first < n; first += group) {
        for (int32_t i = 0; i < group; i++) {
            sorted[i] = &episodes[first + i];
            n_repeated += repeats(sorted[i], fours) ? 1 : 0;
        }
        qsort(sorted, (size_t)group, sizeof *sorted, compare_tokens);
        for (int32_t i = 0; i < group; i++)
            n_distinct += i == 0 || compare_tokens(&sorted[i - 1], &sorted[i]) != 0 ? 1 : 0;
    }
    *repeated = (double)n_repeated / n;
    *distinct = (double)n_distinct / n;
cleanup:
    mem_free(fours);
    mem_free(sorted);
    return status;
}
