/* Choosing tokens. Without constraint, penalties and filters (the usual case in training) a row costs one pass over its
 * logits: the block sums of head_row serve the statistics and the draw alike. With them the row is copied and goes
 * through MLX-LM's steps.
 *
 * A draw is one uniform number from (seed, stream, position) (invariant I3) put through the inverse of the cumulative
 * distribution over ids in ascending order: blocks first, then the tokens of one block. Ids from n_choosable on are cut
 * off before penalties, filters and draw, so they take no place in a top-k; they stay in the reported log-prob.
 *
 * A row whose logits have no distribution (a NaN, +inf, or -inf throughout, also after penalties) gets token -1, and
 * NaN for its log-prob and entropy: the engine reports it. The same happens if there is no memory for a filter; then
 * the backend is marked as failed too. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/head_row.h"
#include "backend/cpu/sample_filters.h"
#include "base/memory.h"
#include "base/rng.h"

#include <assert.h>
#include <float.h>
#include <stdlib.h>

enum {
    BINS = 512,       /* of a histogram of log-probs below the largest */
    BINS_PER_NAT = 16 /* so it reaches 32 nats down; the rest is in the last bin */
};

/* A sum of probabilities counts as having reached top_p when it is this close: log-probs are
 * floats, and a nucleus of .4 + .3 is meant to reach .7. */
#define TOP_P_ROUNDING 4e-7

static bool ranks_before(const struct ranked *a, const struct ranked *b)
{
    return a->logp > b->logp || (a->logp == b->logp && a->id < b->id);
}

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *first = a;
    const struct ranked *second = b;
    return ranks_before(first, second) ? -1 : ranks_before(second, first) ? 1 : 0;
}

static bool has_top_p(const struct sampling_params *p) { return p->top_p > 0.0f && p->top_p < 1.0f; }

/* ---- Constraint and penalties ---- */

/* The ids that a penalty looks at. */
static const int32_t *window_of(const struct sample_row *row, int32_t context, int32_t *n)
{
    *n = context > 0 && context < row->n_history ? context : row->n_history;
    return *n > 0 ? row->history + (row->n_history - *n) : NULL;
}

static bool in_row(int32_t id, int64_t count) { return id >= 0 && id < count; }

/* Changes the logits of the window's ids, each from its value before: an id that occurs twice is
 * changed once. */
static void penalise_once(const int32_t *id, int32_t n, float *logits, int64_t count, float *before, float divisor,
                          float subtract)
{
    for (int32_t i = 0; i < n; i++)
        before[i] = in_row(id[i], count) ? logits[id[i]] : 0.0f;
    for (int32_t i = 0; i < n; i++) {
        if (!in_row(id[i], count))
            continue;
        float scaled = before[i] < 0.0f ? before[i] * divisor : before[i] / divisor;
        logits[id[i]] = scaled - subtract;
    }
}

cohort_status CPU_NAME(sample_process)(const struct sample_row *row, float *logits, int64_t count,
                                       struct sample_scratch *scratch)
{
    const struct sampling_params *p = row->params;
    if (row->allowed != NULL)
        head_forbid(row->allowed, logits, count);
    for (int32_t i = 0; i < p->n_bias; i++)
        if (in_row(p->bias_id[i], count))
            logits[p->bias_id[i]] += p->bias[i];
    if (row->n_history <= 0)
        return COHORT_OK;
    TRY(mem_grow(&scratch->window, &scratch->window_capacity, (size_t)row->n_history, sizeof *scratch->window,
                 "penalty window", NULL));
    int32_t n = 0;
    if (p->repetition_penalty != 0.0f && p->repetition_penalty != 1.0f) {
        const int32_t *id = window_of(row, p->repetition_context, &n);
        penalise_once(id, n, logits, count, scratch->window, p->repetition_penalty, 0.0f);
    }
    if (p->presence_penalty != 0.0f) {
        const int32_t *id = window_of(row, p->presence_context, &n);
        penalise_once(id, n, logits, count, scratch->window, 1.0f, p->presence_penalty);
    }
    if (p->frequency_penalty != 0.0f) {
        const int32_t *id = window_of(row, p->frequency_context, &n);
        for (int32_t i = 0; i < n; i++)
            if (in_row(id[i], count))
                logits[id[i]] -= p->frequency_penalty;
    }
    return COHORT_OK;
}

/* ---- Filters: on log-probs, in place ---- */

static float largest(const float *logp, int64_t count)
{
    vf max = vf_set(-INFINITY);
    int64_t i = 0;
    for (; i + VW <= count; i += VW)
        max = vf_max(vf_load(logp + i), max);
    float best = vf_max_lane(max);
    for (; i < count; i++)
        best = logp[i] > best ? logp[i] : best;
    return best;
}

struct histogram {
    double mass[BINS];
    int64_t count[BINS];
    float max;
    float floor; /* log-probs below it are left out, as are removed tokens */
};

/* Bins descend: a larger log-prob is never in a later bin. */
static inline vf bins_of(vf logp, float max)
{
    vf bin = vf_mul(vf_sub(vf_set(max), logp), vf_set((float)BINS_PER_NAT));
    return vf_min(bin, vf_set((float)(BINS - 1)));
}

/* Whether any of n numbers lies in [low, high]. */
static bool any_within(const float *x, int n, float low, float high)
{
    int any = 0;
    for (int j = 0; j < n; j++)
        any |= (x[j] >= low) & (x[j] <= high);
    return any != 0;
}

static void histogram_fill(struct histogram *h, const float *logp, int64_t count, float floor)
{
    memset(h, 0, sizeof *h);
    h->max = largest(logp, count);
    h->floor = floor;
    for (int64_t i = 0; i < count; i += VW) {
        int n = part_of(i, count);
        if (!any_within(logp + i, n, floor, INFINITY))
            continue;
        vf x = vf_load_act_part(logp, DTYPE_F32, i, n);
        float prob[VW], bin[VW];
        vf_store(prob, vf_exp(x));
        vf_store(bin, bins_of(x, h->max));
        for (int j = 0; j < n; j++) {
            if (logp[i + j] < floor)
                continue;
            h->mass[(int)bin[j]] += (double)prob[j];
            h->count[(int)bin[j]]++;
        }
    }
}

/* The entries of one bin, best first. */
static cohort_status rank_bin(const struct histogram *h, int wanted, const float *logp, int64_t count,
                              struct sample_scratch *scratch)
{
    TRY(mem_grow(&scratch->ranked, &scratch->ranked_capacity, (size_t)h->count[wanted], sizeof *scratch->ranked,
                 "ranking of tokens", NULL));
    int64_t found = 0;
    for (int64_t i = 0; i < count && found < h->count[wanted]; i += VW) {
        int n = part_of(i, count);
        float bin[VW];
        vf_store(bin, bins_of(vf_load_act_part(logp, DTYPE_F32, i, n), h->max));
        if (!any_within(bin, n, (float)wanted, (float)(wanted + 1)))
            continue;
        for (int j = 0; j < n; j++)
            if ((int)bin[j] == wanted && logp[i + j] >= h->floor)
                scratch->ranked[found++] = (struct ranked){logp[i + j], (int32_t)(i + j)};
    }
    qsort(scratch->ranked, (size_t)found, sizeof *scratch->ranked, compare_ranked);
    return COHORT_OK;
}

/* Keeps a token while the mass of those before it is below top_p of the whole; equals of the last
 * one stay. */
static cohort_status filter_top_p(float *logp, int64_t count, float top_p, double whole, struct sample_scratch *scratch)
{
    /* All tokens less likely than (1 - top_p) / count together hold less than 1 - top_p: none of
     * them is kept. */
    double least = (1.0 - (double)top_p) * whole / (double)count;
    struct histogram h;
    histogram_fill(&h, logp, count, (float)(log(least) - 1e-3));
    const double wanted = (double)top_p * whole * (1.0 - TOP_P_ROUNDING);
    double above = 0.0;
    int bin = 0;
    while (bin < BINS - 1 && above + h.mass[bin] < wanted)
        above += h.mass[bin++];
    if (h.count[bin] == 0)
        return COHORT_OK;
    TRY(rank_bin(&h, bin, logp, count, scratch));
    float threshold = scratch->ranked[0].logp;
    for (int64_t i = 0; i < h.count[bin] && above < wanted; i++) {
        threshold = scratch->ranked[i].logp;
        float lane[VW];
        vf_store(lane, vf_exp(vf_set(threshold)));
        above += (double)lane[0];
    }
    for (int64_t i = 0; i < count; i++)
        if (logp[i] < threshold)
            logp[i] = -INFINITY;
    return COHORT_OK;
}

/* *last = the k-th best token; -inf with the largest id if there are no k. */
static cohort_status kth_best(const float *logp, int64_t count, int64_t k, struct sample_scratch *scratch,
                              struct ranked *last)
{
    *last = (struct ranked){-INFINITY, INT32_MAX};
    struct histogram h;
    histogram_fill(&h, logp, count, -FLT_MAX);
    int64_t before = 0;
    for (int bin = 0; bin < BINS; bin++) {
        if (before + h.count[bin] >= k) {
            TRY(rank_bin(&h, bin, logp, count, scratch));
            *last = scratch->ranked[k - before - 1];
            return COHORT_OK;
        }
        before += h.count[bin];
    }
    return COHORT_OK;
}

static cohort_status filter_top_k(float *logp, int64_t count, int32_t top_k, struct sample_scratch *scratch)
{
    if (top_k >= count)
        return COHORT_OK;
    struct ranked last;
    TRY(kth_best(logp, count, top_k, scratch, &last));
    for (int64_t i = 0; i < count; i++) {
        struct ranked token = {logp[i], (int32_t)i};
        if (ranks_before(&last, &token))
            logp[i] = -INFINITY;
    }
    return COHORT_OK;
}

static cohort_status filter_min_p(float *logp, int64_t count, float min_p, int32_t keep, struct sample_scratch *scratch)
{
    struct ranked last = {INFINITY, 0}; /* no token is as good: none is protected */
    if (keep > 1)
        TRY(kth_best(logp, count, keep, scratch, &last));
    const float threshold = largest(logp, count) + (float)log((double)min_p);
    for (int64_t i = 0; i < count; i++) {
        struct ranked token = {logp[i], (int32_t)i};
        if (logp[i] < threshold && ranks_before(&last, &token))
            logp[i] = -INFINITY;
    }
    return COHORT_OK;
}

static bool is_special(const struct sampling_params *p, int64_t id)
{
    for (int32_t i = 0; i < p->n_xtc_special; i++)
        if (p->xtc_special[i] == id)
            return true;
    return false;
}

/* Exclude top choices (github.com/oobabooga/text-generation-webui/pull/6335): of the tokens above
 * the threshold only the least likely stays. */
static void filter_xtc(const struct sampling_params *p, float *logp, int64_t count)
{
    struct head_row whole;
    CPU_NAME(head_row)(NULL, &whole, logp, count, 1.0f);
    if (!whole.valid)
        return;
    const vf shift = vf_set((float)whole.lse);
    float weakest = INFINITY;
    for (int remove = 0; remove < 2; remove++)
        for (int64_t i = 0; i < count; i += VW) {
            int n = part_of(i, count);
            if (!any_within(logp + i, n, -FLT_MAX, INFINITY))
                continue;
            float prob[VW];
            vf_store(prob, vf_exp(vf_sub(vf_load_act_part(logp, DTYPE_F32, i, n), shift)));
            for (int j = 0; j < n; j++) {
                if (!remove)
                    weakest = prob[j] > p->xtc_threshold && prob[j] < weakest ? prob[j] : weakest;
                else if (prob[j] > weakest && !is_special(p, i + j))
                    logp[i + j] = -INFINITY;
            }
        }
}

/* The probability of what filters have left. */
static double mass_left(const float *logp, int64_t count)
{
    struct histogram h;
    double mass = 0.0;
    histogram_fill(&h, logp, count, -FLT_MAX);
    for (int bin = 0; bin < BINS; bin++)
        mass += h.mass[bin];
    return mass;
}

cohort_status CPU_NAME(sample_filter)(const struct sample_row *row, float *logits, int64_t count,
                                      struct sample_scratch *scratch, bool *valid)
{
    const struct sampling_params *p = row->params;
    struct head_row whole;
    if (sampling_scales_first(p))
        for (int64_t i = 0; i < count; i++)
            logits[i] *= 1.0f / p->temperature;
    CPU_NAME(head_row)(NULL, &whole, logits, count, 1.0f);
    *valid = whole.valid;
    if (!whole.valid)
        return COHORT_OK;
    const float lse = (float)whole.lse;
    const double mass = exp(whole.lse - (double)lse); /* 1 but for the rounding of lse */
    for (int64_t i = 0; i < count; i++)
        logits[i] -= lse;
    if (p->hf_order && p->top_k > 0)
        TRY(filter_top_k(logits, count, p->top_k, scratch));
    if (has_top_p(p))
        TRY(filter_top_p(logits, count, p->top_p, p->hf_order && p->top_k > 0 ? mass_left(logits, count) : mass,
                         scratch));
    if (p->min_p != 0.0f)
        TRY(filter_min_p(logits, count, p->min_p, p->min_tokens_to_keep, scratch));
    if (p->xtc_probability > 0.0f) {
        struct rng_block coin = rng_philox(row->seed, RNG_XTC, row->stream, row->position);
        if (rng_uniform(coin.word[0]) <= p->xtc_probability)
            filter_xtc(p, logits, count);
    }
    if (!p->hf_order && p->top_k > 0)
        TRY(filter_top_k(logits, count, p->top_k, scratch));
    return COHORT_OK;
}

/* ---- Choice ---- */

/* The lowest id of the largest logit. */
static int32_t arg_max(const float *logits, int64_t count)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return logits[best] > -INFINITY ? (int32_t)best : -1;
}

/* The first token of a block at which the sum of exp(z - max) passes wanted; the last one that adds
 * to it if rounding keeps the sum below. A token that adds nothing is never it. */
static int64_t draw_in_block(const struct head_block *block, const float *logits, int64_t count, float inv_temperature,
                             double wanted)
{
    double sum = 0.0;
    int64_t chosen = -1;
    for (int64_t i = 0; i < count; i += VW) {
        int n = part_of(i, count);
        vf z = vf_mul(vf_load_act_part(logits, DTYPE_F32, i, n), vf_set(inv_temperature));
        float lane[VW];
        vf_store(lane, vf_exp(vf_sub(z, vf_set(block->max))));
        for (int j = 0; j < n; j++) {
            if (!(lane[j] > 0.0f))
                continue;
            sum += (double)lane[j];
            chosen = i + j;
            if (sum > wanted)
                return chosen;
        }
    }
    return chosen;
}

/* One draw by u in (0, 1) from softmax(logits * inv_temperature) over the first choosable ids, of
 * which row holds the statistics (over these or more). -1 if there is nothing to draw from. */
static int32_t draw(const struct head_row *row, const float *logits, int64_t choosable, double u)
{
    const int n = (int)((choosable + row->block_size - 1) / row->block_size);
    const int64_t last_count = choosable - (n - 1) * row->block_size;
    struct head_block last = row->block[n - 1];
    if (choosable < row->count && last_count < row->block_size)
        CPU_NAME(head_block)
    (&last, logits + (n - 1) * row->block_size, last_count, row->inv_temperature);
    float max = last.max;
    for (int b = 0; b < n - 1; b++)
        max = row->block[b].max > max ? row->block[b].max : max;
    if (max == -INFINITY)
        return -1;

    double scale[HEAD_MAX_BLOCKS];
    double whole = 0.0;
    for (int b = 0; b < n; b++) {
        const struct head_block *part = b < n - 1 ? &row->block[b] : &last;
        scale[b] = exp((double)part->max - (double)max);
        whole += scale[b] * (double)part->sum;
    }
    const double wanted = u * whole;
    double sum = 0.0;
    double before = 0.0;
    int chosen = -1;
    for (int b = 0; b < n; b++) {
        const struct head_block *part = b < n - 1 ? &row->block[b] : &last;
        double weight = scale[b] * (double)part->sum;
        if (!(weight > 0.0))
            continue;
        chosen = b;
        before = sum;
        sum += weight;
        if (sum > wanted)
            break;
    }
    const struct head_block *part = chosen < n - 1 ? &row->block[chosen] : &last;
    const int64_t begin = chosen * row->block_size;
    const int64_t count = chosen < n - 1 ? row->block_size : last_count;
    return (int32_t)(begin + draw_in_block(part, logits + begin, count, row->inv_temperature,
                                           (wanted - before) / scale[chosen]));
}

static double uniform_of(const struct sample_row *r)
{
    struct rng_block block = rng_philox(r->seed, RNG_SAMPLE, r->stream, r->position);
    return rng_uniform_double(block.word[0], block.word[1]);
}

/* The temperature of the reported log-prob. */
static float stats_temperature(const struct sample_row *r)
{
    return r->params->temperature == 0.0f ? 1.0f : r->params->temperature;
}

/* Chooses from a copy of the row. *allowed: of a constrained row the statistics of all of it, with the same blocks as
 * the row without a constraint, behind what is forbidden. */
static cohort_status choose_changed(const struct sample *p, const struct sample_row *r, const float *logits,
                                    struct sample_scratch *scratch, struct head_row *allowed, int32_t *token)
{
    const int64_t count = p->n_choosable, copied = r->allowed != NULL ? p->vocab : count;
    *token = -1;
    TRY(mem_grow(&scratch->logits, &scratch->logits_capacity, (size_t)copied, sizeof *scratch->logits,
                 "logits of a row", NULL));
    memcpy(scratch->logits, logits, (size_t)count * sizeof *logits);
    if (r->allowed != NULL) {
        head_forbid(r->allowed, scratch->logits, count);
        for (int64_t i = count; i < copied; i++)
            scratch->logits[i] = -INFINITY;
        CPU_NAME(head_row)(NULL, allowed, scratch->logits, copied, 1.0f / stats_temperature(r));
    }
    TRY(CPU_NAME(sample_process)(r, scratch->logits, count, scratch));
    struct head_row row;
    if (r->params->temperature == 0.0f) {
        CPU_NAME(head_row)(NULL, &row, scratch->logits, count, 1.0f);
        if (row.valid)
            *token = arg_max(scratch->logits, count);
        return COHORT_OK;
    }
    bool valid = false;
    TRY(CPU_NAME(sample_filter)(r, scratch->logits, count, scratch, &valid));
    if (!valid)
        return COHORT_OK;
    CPU_NAME(head_row)
    (NULL, &row, scratch->logits, count, sampling_scales_first(r->params) ? 1.0f : 1.0f / r->params->temperature);
    if (row.valid)
        *token = draw(&row, scratch->logits, count, uniform_of(r));
    return COHORT_OK;
}

/* ---- Rows ---- */

static bool shares_stats(const struct sample_row *a, const struct sample_row *b)
{
    return a->logits_row == b->logits_row && stats_temperature(a) == stats_temperature(b);
}

/* thread: of the cpu_run. */
static void sample_one(struct backend *backend, const struct sample *p, const struct head_row *row,
                       struct sample_row *r, int thread)
{
    const float *logits = p->logits + r->logits_row * p->vocab;
    struct head_row allowed;
    r->token = -1;
    r->logp = r->entropy = NAN;
    r->kept = 0.0f;
    if (!row->valid)
        return;
    if (sample_row_changes(r)) {
        struct cpu_state *state = backend->state;
        if (choose_changed(p, r, logits, &cpu_worker(backend, thread)->sample, &allowed, &r->token) != COHORT_OK)
            atomic_store(&state->failed, true);
    } else if (r->params->temperature == 0.0f) {
        r->token = arg_max(logits, p->n_choosable);
    } else {
        r->token = draw(row, logits, p->n_choosable, uniform_of(r));
    }
    if (r->token < 0)
        return;
    if (r->allowed != NULL)
        r->kept = (float)(allowed.lse - row->lse);
    if (r->allowed != NULL && r->masked)
        row = &allowed;
    r->logp = head_row_logp(row, logits[r->token]);
    r->entropy = (float)row->entropy;
}

/* The rows first .. end of one (logits row, temperature). */
static int32_t run_end(const struct sample *p, int32_t first)
{
    int32_t end = first + 1;
    while (end < p->n_rows && shares_stats(&p->rows[first], &p->rows[end]))
        end++;
    return end;
}

/* backend: as for head_row. */
static void run_stats(struct backend *backend, const struct sample *p, int32_t first, struct head_row *row)
{
    const struct sample_row *r = &p->rows[first];
    assert(stats_temperature(r) > 0.0f);
    CPU_NAME(head_row)
    (backend, row, p->logits + r->logits_row * p->vocab, p->vocab, 1.0f / stats_temperature(r));
}

struct job {
    struct backend *backend;
    const struct sample *p;
    const struct head_row *row; /* of the rows from first on, for draw_rows */
    int32_t first;
};

/* The thread that gets the first row of a run does all of it. */
static void sample_runs(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct sample *p = job->p;
    for (int32_t first = (int32_t)begin; first < end; first++) {
        if (first > 0 && shares_stats(&p->rows[first - 1], &p->rows[first]))
            continue;
        struct head_row row;
        run_stats(NULL, p, first, &row);
        const int32_t last = run_end(p, first);
        for (int32_t i = first; i < last; i++)
            sample_one(job->backend, p, &row, &p->rows[i], thread);
    }
}

static void draw_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    for (int64_t i = begin; i < end; i++)
        sample_one(job->backend, job->p, job->row, &job->p->rows[job->first + i], thread);
}

void CPU_NAME(sample)(struct backend *backend, struct sample *p)
{
    assert(p->n_choosable > 0 && p->n_choosable <= p->vocab && p->n_choosable <= INT32_MAX);
    int32_t runs = 0;
    for (int32_t i = 0; i < p->n_rows; i = run_end(p, i))
        runs++;
    const int threads = cpu_threads(backend, p->n_rows * p->vocab, 0.5);
    struct job job = {.backend = backend, .p = p};
    if (threads == 1 || runs >= 2 * threads) {
        cpu_run(backend, threads, p->n_rows, 1, sample_runs, &job);
        return;
    }
    /* With few runs the threads share the blocks of a run's statistics, then its draws. */
    for (int32_t end = 0; end < p->n_rows;) {
        struct head_row row;
        job.first = end;
        job.row = &row;
        end = run_end(p, job.first);
        run_stats(backend, p, job.first, &row);
        cpu_run(backend, threads, end - job.first, 1, draw_rows, &job);
    }
}
