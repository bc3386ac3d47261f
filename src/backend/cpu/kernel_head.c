/* The end of the model: log-probs and entropy of rows of logits, and their gradient. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/head_row.h"
#include "base/memory.h"

#include <assert.h>
#include <string.h>

enum { N_ACC = 4 };

/* exp(z) is exactly 0 below this, so a log-prob may be raised to it wherever it is multiplied by
 * its probability: that keeps -inf * 0 out of the sums. */
#define LOG_OF_NOTHING (-100.0f)

static inline vf load_logits(const float *x, int64_t i, int64_t count)
{
    if (count - i >= VW)
        return vf_load(x + i);
    float lane[VW];
    for (int j = 0; j < VW; j++)
        lane[j] = i + j < count ? x[i + j] : -INFINITY;
    return vf_load(lane);
}

/* One vector of z: adds exp(z - max) and exp(z - max) * (z - max). vf_max gives its second operand
 * where either is NaN, so a NaN passes into weighted. */
static inline void add_exp(vf logits, vf scale, vf max, vf *sum, vf *weighted)
{
    vf d = vf_sub(vf_mul(logits, scale), max);
    vf e = vf_exp(d);
    *sum = vf_add(*sum, e);
    *weighted = vf_fma(e, vf_max(vf_set(LOG_OF_NOTHING), d), *weighted);
}

static inline float acc_sum(const vf acc[N_ACC])
{
    return vf_sum(vf_add(vf_add(acc[0], acc[1]), vf_add(acc[2], acc[3])));
}

/* Vector i of the block goes to accumulator i mod N_ACC; entries past the end count as -inf. */
void CPU_NAME(head_block)(struct head_block *out, const float *logits, int64_t count, float inv_temperature)
{
    const int64_t whole = count / (N_ACC * VW) * (N_ACC * VW);
    vf top[N_ACC];
    vf sum[N_ACC];
    vf weighted[N_ACC];
    for (int a = 0; a < N_ACC; a++) {
        top[a] = vf_set(-INFINITY);
        sum[a] = vf_zero();
        weighted[a] = vf_zero();
    }
    for (int64_t i = 0; i < whole; i += N_ACC * VW)
        for (int a = 0; a < N_ACC; a++)
            top[a] = vf_max(vf_load(logits + i + a * VW), top[a]);
    for (int64_t i = whole; i < count; i += VW)
        top[0] = vf_max(load_logits(logits, i, count), top[0]);
    /* The scale is positive and rounding is monotone: the largest logit has the largest z. */
    float max = inv_temperature * vf_max_lane(vf_max(vf_max(top[0], top[1]), vf_max(top[2], top[3])));
    out->max = max;
    if (max == -INFINITY) {
        /* Only -inf, or NaN among it, which the maximum does not see. */
        float nan = 0.0f;
        for (int64_t i = 0; i < count; i++)
            nan = logits[i] != logits[i] ? logits[i] : nan;
        out->sum = 0.0f;
        out->weighted = nan;
        return;
    }
    const vf scale = vf_set(inv_temperature);
    const vf base = vf_set(max);
    for (int64_t i = 0; i < whole; i += N_ACC * VW)
        for (int a = 0; a < N_ACC; a++)
            add_exp(vf_load(logits + i + a * VW), scale, base, &sum[a], &weighted[a]);
    for (int64_t i = whole, a = 0; i < count; i += VW, a++)
        add_exp(load_logits(logits, i, count), scale, base, &sum[a], &weighted[a]);
    out->sum = acc_sum(sum);
    out->weighted = acc_sum(weighted);
}

static void finish_row(struct head_row *row)
{
    float max = -INFINITY;
    for (int b = 0; b < row->n_blocks; b++)
        max = row->block[b].max > max ? row->block[b].max : max;
    /* Relative to the row's maximum: block b scales by s = exp(max_b - max), and its sum of exp(z -
     * max) * (z - max) is s * (weighted + sum * (max_b - max)). */
    double sum = 0.0;
    double weighted = 0.0;
    for (int b = 0; b < row->n_blocks; b++) {
        const struct head_block *part = &row->block[b];
        if (part->weighted != part->weighted)
            weighted = (double)part->weighted;
        if (part->max == -INFINITY)
            continue;
        double shift = (double)part->max - (double)max;
        double scale = exp(shift);
        sum += scale * (double)part->sum;
        weighted += scale * ((double)part->weighted + shift * (double)part->sum);
    }
    row->valid = sum > 0.0 && weighted == weighted && max < INFINITY;
    row->lse = row->valid ? (double)max + log(sum) : (double)NAN;
    row->entropy = row->valid ? log(sum) - weighted / sum : (double)NAN;
}

struct row_job {
    struct head_row *row;
    const float *logits;
};

static void row_blocks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct row_job *job = context;
    const int64_t size = job->row->block_size;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        const int64_t left = job->row->count - b * size;
        CPU_NAME(head_block)
        (&job->row->block[b], job->logits + b * size, left < size ? left : size, job->row->inv_temperature);
    }
}

void CPU_NAME(head_row)(struct backend *backend, struct head_row *out, const float *logits, int64_t count,
                        float inv_temperature)
{
    assert(count > 0);
    out->count = count;
    out->inv_temperature = inv_temperature;
    int64_t size = (count + HEAD_MAX_BLOCKS - 1) / HEAD_MAX_BLOCKS;
    size = (size + HEAD_BLOCK - 1) / HEAD_BLOCK * HEAD_BLOCK;
    out->block_size = size;
    out->n_blocks = (int)((count + size - 1) / size);
    const struct row_job job = {out, logits};
    if (backend != NULL)
        cpu_run(backend, backend->threads, out->n_blocks, 0, row_blocks, &job);
    else
        row_blocks(&job, 0, out->n_blocks, 0);
    finish_row(out);
}

/* The mean of log p over the vocabulary: a sum for each block, as many accumulators as there, the blocks in ascending
 * order in double. */
static float mean_logp(const struct head_row *row, const float *logits)
{
    const vf scale = vf_set(row->inv_temperature);
    double total = 0.0;
    for (int64_t begin = 0; begin < row->count; begin += row->block_size) {
        const int64_t left = row->count - begin, n = left < row->block_size ? left : row->block_size;
        const int64_t whole = n / (N_ACC * VW) * (N_ACC * VW);
        vf sum[N_ACC];
        for (int a = 0; a < N_ACC; a++)
            sum[a] = vf_zero();
        for (int64_t i = 0; i < whole; i += N_ACC * VW)
            for (int a = 0; a < N_ACC; a++)
                sum[a] = vf_add(sum[a], vf_mul(vf_load(logits + begin + i + a * VW), scale));
        total += (double)acc_sum(sum);
        for (int64_t i = whole; i < n; i++)
            total += (double)(logits[begin + i] * row->inv_temperature);
    }
    return row->valid ? (float)(total / (double)row->count - row->lse) : NAN;
}

/* The bitset of a row; NULL: all ids are there. */
static const uint32_t *allowed_of(const struct head_allowed *allowed, int64_t r, int64_t vocab)
{
    if (allowed->bits == NULL || allowed->which[r] < 0)
        return NULL;
    return allowed->bits + allowed->which[r] * allowed_words(vocab);
}

/* A copy of a row without the ids that are not allowed, in the worker's memory; NULL: there is none to be had. */
static const float *allowed_row(struct backend *backend, int thread, const uint32_t *allowed, const float *logits,
                                int64_t vocab)
{
    struct cpu_state *state = backend->state;
    struct sample_scratch *scratch = &cpu_worker(backend, thread)->sample;
    if (mem_grow(&scratch->logits, &scratch->logits_capacity, (size_t)vocab, sizeof *scratch->logits, "logits of a row",
                 NULL) != COHORT_OK) {
        atomic_store(&state->failed, true);
        return NULL;
    }
    memcpy(scratch->logits, logits, (size_t)vocab * sizeof *logits);
    head_forbid(allowed, scratch->logits, vocab);
    return scratch->logits;
}

/* shared: the row's blocks are shared by all threads, of which this is the calling one. */
static void stats_row(struct backend *backend, const struct head_stats *p, int64_t r, int thread, bool shared)
{
    struct head_row row;
    const float *logits = p->logits + r * p->vocab;
    const uint32_t *allowed = allowed_of(&p->allowed, r, p->vocab);
    assert(p->target[r] >= 0 && p->target[r] < p->vocab);
    assert(allowed == NULL || (p->top == NULL && p->mean == NULL));
    if (allowed != NULL)
        logits = allowed_row(backend, thread, allowed, logits, p->vocab);
    if (logits == NULL) /* the operation has failed; no value may look like one */
        logits = p->logits + r * p->vocab;
    CPU_NAME(head_row)(shared ? backend : NULL, &row, logits, p->vocab, 1.0f / p->temperature);
    p->lse[r] = (float)row.lse;
    p->logp[r] = head_row_logp(&row, logits[p->target[r]]);
    if (p->entropy != NULL)
        p->entropy[r] = (float)row.entropy;
    if (p->top != NULL)
        p->top[r] = head_row_is_top(&row, logits, p->target[r]) ? 1 : 0;
    if (p->mean != NULL)
        p->mean[r] = mean_logp(&row, logits);
}

struct stats_job {
    struct backend *backend;
    const struct head_stats *p;
};

static void stats_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct stats_job *job = context;
    for (int64_t r = begin; r < end; r++)
        stats_row(job->backend, job->p, r, thread, false);
}

void CPU_NAME(head_stats)(struct backend *backend, const struct head_stats *p)
{
    assert(p->temperature > 0.0f);
    const int threads = cpu_threads(backend, p->rows * p->vocab, 0.4);
    /* With few rows the threads share each row's blocks instead: the same sums in the same order. */
    if (threads == 1 || p->rows >= 2 * threads) {
        cpu_run(backend, threads, p->rows, 0, stats_rows, &(struct stats_job){backend, p});
        return;
    }
    for (int64_t r = 0; r < p->rows; r++)
        stats_row(backend, p, r, 0, true);
}

/* What one row's gradient is made of: with l = log p and p = exp(l),
 * d z_v = d_logp * onehot - p * (d_logp + d_mean + d_entropy * (l + entropy)) + d_mean / V, d_logit = inv_temperature *
 * d z. A row without a distribution has a NaN lse, which passes through slope_of into every entry. */
struct slope {
    float inv_temperature, lse, entropy, d_logp, d_entropy;
    float d_both;  /* d_logp + d_mean */
    float uniform; /* d_mean / V */
};

static inline vf slope_of(const struct slope *s, vf logits, vf *prob)
{
    vf l = vf_sub(vf_mul(logits, vf_set(s->inv_temperature)), vf_set(s->lse));
    *prob = vf_exp(l);
    vf gain = vf_add(vf_max(vf_set(LOG_OF_NOTHING), l), vf_set(s->entropy));
    return vf_fma(vf_set(s->d_entropy), gain, vf_set(s->d_both));
}

/* smooth: there is a d_mean. */
ALWAYS_INLINE void gradient_block(const struct slope *s, const float *logits, int64_t begin, int64_t end,
                                  int32_t target, void *out, enum dtype act, bool smooth)
{
    const vf scale = vf_set(-s->inv_temperature);
    vf prob;
    for (int64_t i = begin; i < end; i += VW) {
        vf slope = slope_of(s, load_logits(logits, i, end), &prob);
        vf down = vf_mul(prob, slope);
        if (smooth)
            down = vf_sub(down, vf_set(s->uniform));
        vf_store_act_part(out, act, i, vf_mul(down, scale), part_of(i, end));
    }
    if (target >= begin && target < end) {
        /* Here onehot is 1: d_logp * (1 - p) - d_entropy * p * (l + entropy) = d_logp - p * slope.
         */
        vf slope = slope_of(s, vf_set(logits[target]), &prob);
        vf sum = vf_sub(vf_set(s->d_logp), vf_mul(prob, slope));
        if (smooth)
            sum = vf_add(sum, vf_set(s->uniform));
        float lane[VW];
        vf_store(lane, vf_mul(sum, vf_set(s->inv_temperature)));
        act_store(out, act, target, lane[0]);
    }
}

/* Item: (row, block). */
static void gradient_blocks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct head_gradient *p = context;
    const int64_t blocks = (p->vocab + HEAD_BLOCK - 1) / HEAD_BLOCK;
    (void)thread;
    for (int64_t item = first; item < last; item++) {
        int64_t r = item / blocks;
        int64_t begin = item % blocks * HEAD_BLOCK;
        int64_t end = begin + HEAD_BLOCK < p->vocab ? begin + HEAD_BLOCK : p->vocab;
        struct slope s = {1.0f / p->temperature, p->lse[r], 0.0f, p->d_logp[r], 0.0f, p->d_logp[r], 0.0f};
        if (p->d_entropy != NULL) {
            s.entropy = p->entropy[r];
            s.d_entropy = p->d_entropy[r];
        }
        const float *logits = p->logits + r * p->vocab;
        const uint32_t *allowed = allowed_of(&p->allowed, r, p->vocab);
        void *out = act_at_mut(p->d_logits, p->act, r * p->vocab);
        int32_t target = p->target[r];
        float left[HEAD_BLOCK]; /* of the block, where some ids are not allowed */
        if (allowed != NULL) {
            memcpy(left, logits + begin, (size_t)(end - begin) * sizeof *left);
            head_forbid(allowed + begin / 32, left, end - begin);
            logits = left;
            out = act_at_mut(out, p->act, begin);
            target = target >= begin && target < end ? (int32_t)(target - begin) : -1;
            end -= begin;
            begin = 0;
        }
        const bool smooth = p->d_mean != NULL;
        if (smooth) {
            s.d_both = p->d_logp[r] + p->d_mean[r];
            s.uniform = p->d_mean[r] / (float)p->vocab;
        }
        if (p->act == DTYPE_F32 && !smooth)
            gradient_block(&s, logits, begin, end, target, out, DTYPE_F32, false);
        else if (p->act == DTYPE_F32)
            gradient_block(&s, logits, begin, end, target, out, DTYPE_F32, true);
        else if (!smooth)
            gradient_block(&s, logits, begin, end, target, out, DTYPE_BF16, false);
        else
            gradient_block(&s, logits, begin, end, target, out, DTYPE_BF16, true);
    }
}

void CPU_NAME(head_gradient)(struct backend *backend, const struct head_gradient *p)
{
    assert(p->temperature > 0.0f && p->act != DTYPE_F16);
    assert(p->d_entropy == NULL || p->entropy != NULL);
    const int64_t blocks = (p->vocab + HEAD_BLOCK - 1) / HEAD_BLOCK;
    cpu_run(backend, cpu_threads(backend, p->rows * p->vocab, 0.4), p->rows * blocks, 0, gradient_blocks, p);
}
