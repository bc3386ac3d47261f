/* AdamW with a split master, its form with moments in 8 bits, and the sum of squares for the gradient norm. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/split_master.h"
#include "base/rng.h"

#include <assert.h>
#include <math.h>

enum {
    TILE = 256,        /* masters assembled at a time */
    CHUNK = 64 * TILE, /* elements a thread takes at a time */
    SUM_LANES = 32,    /* element i of a block is added to lane i mod SUM_LANES */
    SUM_BLOCK = CPU_SQUARE_BLOCK,
    SUM_BATCH = 256 /* blocks whose sums are kept at a time */
};

static inline vf vf_sqrt(vf x)
{
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
    return _mm512_sqrt_ps(x);
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_sqrt_ps(x);
#else
    float lane[VW];
    vf_store(lane, x);
    for (int i = 0; i < VW; i++)
        lane[i] = sqrtf(lane[i]);
    return vf_load(lane);
#endif
}

/* The factors of one step, from double as torch computes them. */
struct factors {
    float decay;         /* 1 - lr * weight_decay */
    float m_mix;         /* 1 - beta1 */
    float v_keep, v_mix; /* beta2, 1 - beta2 */
    float bias;          /* sqrt(1 - beta2^step) */
    float rate;          /* lr / (1 - beta1^step) */
    float eps, grad_scale;
};

static struct factors factors_of(const struct adamw *p)
{
    struct factors f;
    f.decay = (float)(1.0 - (double)p->learning_rate * (double)p->weight_decay);
    f.m_mix = (float)(1.0 - (double)p->beta1);
    f.v_keep = p->beta2;
    f.v_mix = (float)(1.0 - (double)p->beta2);
    f.bias = (float)sqrt(1.0 - pow((double)p->beta2, (double)p->step));
    f.rate = (float)((double)p->learning_rate / (1.0 - pow((double)p->beta1, (double)p->step)));
    f.eps = p->eps;
    f.grad_scale = p->grad_scale;
    return f;
}

/* One step on count fp32 masters. */
static void update(const struct factors *f, float *w, const float *grad, float *m, float *v, int64_t count)
{
    for (int64_t i = 0; i < count; i += VW) {
        int n = part_of(i, count);
        vf g = vf_mul(vf_load_act_part(grad, DTYPE_F32, i, n), vf_set(f->grad_scale));
        vf m1 = vf_load_act_part(m, DTYPE_F32, i, n);
        vf v1 = vf_load_act_part(v, DTYPE_F32, i, n);
        m1 = vf_fma(vf_set(f->m_mix), vf_sub(g, m1), m1);
        v1 = vf_fma(vf_set(f->v_mix), vf_mul(g, g), vf_mul(v1, vf_set(f->v_keep)));
        vf denominator = vf_add(vf_div(vf_sqrt(v1), vf_set(f->bias)), vf_set(f->eps));
        vf decayed = vf_mul(vf_load_act_part(w, DTYPE_F32, i, n), vf_set(f->decay));
        vf moved = vf_fma(vf_set(-f->rate), vf_div(m1, denominator), decayed);
        vf_store_act_part(w, DTYPE_F32, i, moved, n);
        vf_store_act_part(m, DTYPE_F32, i, m1, n);
        vf_store_act_part(v, DTYPE_F32, i, v1, n);
    }
}

static void widen(const uint16_t *from, int64_t count, float *to)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = f32_from_bf16(from[i]);
}

/* Rounds up with the probability that the cut-off bits give: the 16 random bits carry into the half that stays. Values
 * that are not finite remain so. */
static uint16_t round_at_random(float value, uint32_t random)
{
    uint32_t bits = f32_bits(value);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return bf16_from_f32(value);
    return (uint16_t)((bits + (random & 0xffffu)) >> 16);
}

/* Element i's word of the step's stream: the low half is for m, the high half for v. */
static void narrow(const struct adamw *p, int64_t begin, int64_t count, const float *m, const float *v)
{
    uint16_t *to_m = (uint16_t *)p->m + begin;
    uint16_t *to_v = (uint16_t *)p->v + begin;
    struct rng_block block = {{0}};
    uint64_t have = UINT64_MAX;
    for (int64_t i = 0; i < count; i++) {
        uint64_t element = (uint64_t)(p->first + begin + i);
        if (element / 4 != have) {
            have = element / 4;
            block = rng_philox(0, RNG_ROUND, (uint64_t)p->step, have);
        }
        uint32_t word = block.word[element % 4];
        to_m[i] = round_at_random(m[i], word);
        to_v[i] = round_at_random(v[i], word >> 16);
    }
}

/* Updates count elements (at most a tile) from begin on, with moments in bf16. */
static void update_narrow(const struct factors *f, const struct adamw *p, float *w, int64_t begin, int64_t count)
{
    float m[TILE];
    float v[TILE];
    widen((const uint16_t *)p->m + begin, count, m);
    widen((const uint16_t *)p->v + begin, count, v);
    update(f, w, p->grad + begin, m, v, count);
    narrow(p, begin, count, m, v);
}

struct update_job {
    const struct adamw *p;
    struct factors factors;
};

static void update_chunks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct update_job *job = context;
    const struct adamw *p = job->p;
    const int64_t end = last * CHUNK < p->count ? last * CHUNK : p->count;
    (void)thread;
    for (int64_t i = first * CHUNK; i < end; i += TILE) {
        int64_t n = end - i < TILE ? end - i : TILE;
        float master[TILE];
        const bool is_split = p->type == DTYPE_BF16;
        float *w = is_split ? master : (float *)p->weight + i;
        if (is_split)
            master_join((const uint16_t *)p->weight + i, p->low + i, n, master);
        if (p->moment_type == DTYPE_BF16)
            update_narrow(&job->factors, p, w, i, n);
        else
            update(&job->factors, w, p->grad + i, (float *)p->m + i, (float *)p->v + i, n);
        if (is_split)
            master_split(master, n, (uint16_t *)p->weight + i, p->low + i);
    }
}

void CPU_NAME(adamw)(struct backend *backend, const struct adamw *p)
{
    assert(p->type == DTYPE_F32 || (p->type == DTYPE_BF16 && p->low != NULL));
    assert(p->step >= 1);
    const struct update_job job = {p, factors_of(p)};
    cpu_run(backend, cpu_threads(backend, p->count, 0.5), (p->count + CHUNK - 1) / CHUNK, 0, update_chunks, &job);
}

/* ---- Moments in 8 bits ---- */

/* A block's moment as codes and the largest magnitude, which they are relative to. The code is the nearest of an
 * ascending book of 256; of two as near, the lower. Elements go through the steps of the search together: loops without
 * branches, of which the compiler makes vectors. */
static void encode(const float *book, const float *x, int64_t count, uint8_t *code, float *largest)
{
    enum { LANES = 16 };
    float scaled[ADAMW_8BIT_BLOCK], lane[LANES] = {0}, most = 0.0f;
    int32_t low[ADAMW_8BIT_BLOCK] = {0}; /* the last code that is at most x, or the first */
    int64_t whole = count / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] = fabsf(x[i + j]) > lane[j] ? fabsf(x[i + j]) : lane[j];
    for (int64_t i = whole; i < count; i++)
        lane[i - whole] = fabsf(x[i]) > lane[i - whole] ? fabsf(x[i]) : lane[i - whole];
    for (int j = 0; j < LANES; j++)
        most = lane[j] > most ? lane[j] : most;
    *largest = most;
    for (int64_t i = 0; i < count; i++)
        scaled[i] = most > 0.0f ? x[i] / most : 0.0f;
    for (int32_t half = 128; half > 0; half /= 2)
        for (int64_t i = 0; i < count; i++)
            low[i] += book[low[i] + half] <= scaled[i] ? half : 0;
    for (int64_t i = 0; i < count; i++) {
        const int32_t next = low[i] < 255 ? low[i] + 1 : 255;
        low[i] = book[next] - scaled[i] < scaled[i] - book[low[i]] ? next : low[i];
    }
    for (int64_t i = 0; i < count; i++)
        code[i] = (uint8_t)low[i];
}

static void decode(const float *book, const uint8_t *code, int64_t count, float largest, float *x)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = book[code[i]] * largest;
}

struct update_8bit_job {
    const struct adamw_8bit *p;
    struct factors factors;
};

static void update_blocks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct update_8bit_job *job = context;
    const struct adamw_8bit *p = job->p;
    (void)thread;
    for (int64_t b = first; b < last; b++) {
        const int64_t i = b * ADAMW_8BIT_BLOCK, left = p->step.count - i;
        const int64_t n = left < ADAMW_8BIT_BLOCK ? left : ADAMW_8BIT_BLOCK;
        float master[ADAMW_8BIT_BLOCK], m[ADAMW_8BIT_BLOCK], v[ADAMW_8BIT_BLOCK];
        uint8_t *code_m = (uint8_t *)p->step.m + i, *code_v = (uint8_t *)p->step.v + i;
        const bool is_split = p->step.type == DTYPE_BF16;
        float *w = is_split ? master : (float *)p->step.weight + i;
        if (is_split)
            master_join((const uint16_t *)p->step.weight + i, p->step.low + i, n, master);
        decode(p->books, code_m, n, p->largest_m[b], m);
        decode(p->books + 256, code_v, n, p->largest_v[b], v);
        update(&job->factors, w, p->step.grad + i, m, v, n);
        encode(p->books, m, n, code_m, &p->largest_m[b]);
        encode(p->books + 256, v, n, code_v, &p->largest_v[b]);
        if (is_split)
            master_split(master, n, (uint16_t *)p->step.weight + i, p->step.low + i);
    }
}

void CPU_NAME(adamw_8bit)(struct backend *backend, const struct adamw_8bit *p)
{
    assert(p->step.type == DTYPE_F32 || (p->step.type == DTYPE_BF16 && p->step.low != NULL));
    assert(p->step.step >= 1);
    const struct update_8bit_job job = {p, factors_of(&p->step)};
    cpu_run(backend, cpu_threads(backend, p->step.count, 20.0),
            (p->step.count + ADAMW_8BIT_BLOCK - 1) / ADAMW_8BIT_BLOCK, 0, update_blocks, &job);
}

/* A square of a float is exact in double, so this gives the same bits on every instruction set. */
static double block_squares(const float *x, int64_t count)
{
    double lane[SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES)
        for (int j = 0; j < SUM_LANES; j++)
            lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < count; i++, j++)
        lane[j] += (double)x[i] * (double)x[i];
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] += lane[j + half];
    return lane[0];
}

struct sum_job {
    const float *x; /* of block 0 */
    int64_t count;
    double *sum; /* [blocks] */
};

static void sum_blocks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct sum_job *job = context;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        const int64_t left = job->count - b * SUM_BLOCK;
        job->sum[b] = block_squares(job->x + b * SUM_BLOCK, left < SUM_BLOCK ? left : SUM_BLOCK);
    }
}

/* Not ended by a stop, because the update that follows would be clipped by a wrong norm. */
double CPU_NAME(sum_squares)(struct backend *backend, const float *x, int64_t count)
{
    double total = 0.0;
    const int64_t blocks = (count + SUM_BLOCK - 1) / SUM_BLOCK;
    const int threads = cpu_threads(backend, count, 0.1);
    for (int64_t first = 0; first < blocks; first += SUM_BATCH) {
        double sum[SUM_BATCH];
        const int64_t n = blocks - first < SUM_BATCH ? blocks - first : SUM_BATCH;
        const struct sum_job job = {x + first * SUM_BLOCK, count - first * SUM_BLOCK, sum};
        cpu_run(backend, threads, n, 0, sum_blocks, &job);
        for (int64_t b = 0; b < n; b++)
            total += sum[b];
    }
    return total;
}

void CPU_NAME(square_sums)(struct backend *backend, const float *x, int64_t count, double *sums)
{
    const struct sum_job job = {x, count, sums};
    cpu_run(backend, cpu_threads(backend, count, 0.1), (count + SUM_BLOCK - 1) / SUM_BLOCK, 0, sum_blocks, &job);
}
