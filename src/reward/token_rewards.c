/* Rewards of a completion's length and tokens, with TRL's formulas; n is the length in tokens.
 *
 * - soft_overlong_punishment (DAPO, arXiv 2503.14476, equation 13), L = max_completion_len, C = soft_punish_cache: 0 up
 *   to n = L - C, then (L - C - n) / C up to n = L, and -1 beyond.
 * - repetition_penalty (arXiv 2502.03373, C.2): max_penalty times the share of n-grams of ngram_size tokens that repeat
 *   an earlier one; 0 for fewer tokens than that.
 * - cosine_scaled (the same, C.1): the accuracy, falling (correct) or rising (wrong) from one value to the other along
 *   half a cosine of min(n / max_len, 1); null where accuracy is. */
#include "reward/reward_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

cohort_status reward_tokens_create(void **state, const struct reward_kind *kind, const struct reward_options *options,
                                   cohort_error *err)
{
    struct reward_options *kept = NULL;
    if (kind == &reward_kind_overlong && (options->max_completion_len <= 0 || options->soft_punish_cache < 0))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward 'soft_overlong_punishment' needs --max-completion-len, the tokens from which on a "
                         "completion gets -1, and --soft-punish-cache, over how many tokens before it falls to that");
    if (kind == &reward_kind_cosine && options->max_len <= 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward 'cosine_scaled' needs --max-len, the tokens at which its schedule ends");
    TRY(mem_alloc(&kept, 1, sizeof *kept, "reward", err));
    *kept = *options;
    kept->reasoning_delimiters = kept->tags = NULL; /* the caller's, and not of these rewards */
    kept->ngram_size = options->ngram_size == 0 ? 3 : options->ngram_size;
    *state = kept;
    return COHORT_OK;
}

static cohort_status need_tokens(const struct reward_row *row, const char *name, bool ids, cohort_error *err)
{
    if (row->length >= 0 && (!ids || row->length == row->n_tokens))
        return COHORT_OK;
    return error_set(
        err, COHORT_ERR_ARGUMENT,
        "reward '%s': prompt %lld, completion %d: %s not known; add a column 'completion_ids', the list of "
        "its token ids%s",
        name, (long long)row->prompt_index, (int)row->completion_index,
        ids ? "the tokens of the completion are" : "the length of the completion in tokens is",
        ids ? "" : ", or 'completion_tokens', their number");
}

static cohort_status overlong_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                    double *rewards, cohort_error *err)
{
    const struct reward_options *options = state;
    const int64_t longest = options->max_completion_len, cache = options->soft_punish_cache;
    for (size_t i = 0; i < n_rows; i++) {
        TRY(need_tokens(&rows[i], name, false, err));
        const int64_t n = rows[i].length;
        if (n <= longest - cache)
            rewards[i] = 0.0;
        else
            rewards[i] = n <= longest ? (double)(longest - cache - n) / (double)cache : -1.0;
    }
    return COHORT_OK;
}

struct ngram {
    const int32_t *at;
    size_t bytes;
};

/* Equal n-grams become neighbours; which order the others have does not matter. */
static int compare_ngrams(const void *a, const void *b)
{
    const struct ngram *x = a, *y = b;
    return memcmp(x->at, y->at, x->bytes);
}

/* Sorting keeps the time within n log n comparisons for any tokens. */
static cohort_status repetition(const struct reward_row *row, int64_t size, double max_penalty, double *reward,
                                cohort_error *err)
{
    *reward = 0.0;
    if (row->n_tokens < size)
        return COHORT_OK;
    const size_t total = (size_t)(row->n_tokens - size + 1);
    struct ngram *ngrams = NULL;
    size_t distinct = 1;
    TRY(mem_alloc(&ngrams, total, sizeof *ngrams, "n-grams", err));
    for (size_t i = 0; i < total; i++)
        ngrams[i] = (struct ngram){row->tokens + i, (size_t)size * sizeof *row->tokens};
    qsort(ngrams, total, sizeof *ngrams, compare_ngrams);
    for (size_t i = 1; i < total; i++)
        distinct += compare_ngrams(&ngrams[i - 1], &ngrams[i]) != 0;
    mem_free(ngrams);
    if (distinct < total)
        *reward = (1.0 - (double)distinct / (double)total) * max_penalty;
    return COHORT_OK;
}

static cohort_status repetition_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                      double *rewards, cohort_error *err)
{
    const struct reward_options *options = state;
    for (size_t i = 0; i < n_rows; i++) {
        TRY(need_tokens(&rows[i], name, true, err));
        TRY(repetition(&rows[i], options->ngram_size, options->max_penalty, &rewards[i], err));
    }
    return COHORT_OK;
}

static cohort_status cosine_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                  double *rewards, cohort_error *err)
{
    const struct reward_options *options = state;
    for (size_t i = 0; i < n_rows; i++) {
        double correct = 0.0;
        TRY(need_tokens(&rows[i], name, false, err));
        TRY(reward_accuracy_row(&rows[i], name, (struct span){rows[i].completion, rows[i].completion_length}, &correct,
                                err));
        if (isnan(correct))
            continue; /* null, as reward_score has set it */
        /* A correct completion is worth most, and a wrong one least, when it is short. */
        const double longest = correct != 0.0 ? options->min_value_correct : options->max_value_wrong,
                     shortest = correct != 0.0 ? options->max_value_correct : options->min_value_wrong;
        const double progress = fmin((double)rows[i].length / (double)options->max_len, 1.0);
        rewards[i] = longest + 0.5 * (shortest - longest) * (1.0 + cos(progress * PI));
    }
    return COHORT_OK;
}

const struct reward_kind reward_kind_overlong = {.score = overlong_score, .destroy = mem_free};
const struct reward_kind reward_kind_repetition = {.score = repetition_score, .destroy = mem_free};
const struct reward_kind reward_kind_cosine = {.score = cosine_score, .destroy = mem_free};
