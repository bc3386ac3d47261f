/* From the fused projection to attention's q, k, v: per head RMS norm and rotary position, forward
 * and backward. A token's output is a function of its own row (I2): the sum of squares is vf_fma
 * over vectors of D ascending, then vf_sum. */
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/simd.h"

#include <assert.h>
#include <float.h>
#include <math.h>

enum {
    MAX_HEAD_DIM = 256,
    GAIN_ROWS = 64,  /* rows whose gain gradients are summed as one block */
    GAIN_BLOCKS = 64 /* blocks in flight; more tokens go in further rounds */
};

/* A head in fp32, zeros up to a whole number of vectors. */
struct head {
    float x[MAX_HEAD_DIM + VW] __attribute__((aligned(64)));
};

static void head_load(struct head *head, const void *from, enum dtype type, int64_t at, int32_t n)
{
    int32_t d = 0;
    for (; d + VW <= n; d += VW)
        vf_store(head->x + d, vf_load_act(from, type, at + d));
    vf_store(head->x + d, vf_zero());
    for (; d < n; d++)
        head->x[d] = act_load(from, type, at + d);
}

static void head_store(const struct head *head, void *to, enum dtype type, int64_t at, int32_t n)
{
    int32_t d = 0;
    for (; d + VW <= n; d += VW)
        vf_store_act(to, type, at + d, vf_load(head->x + d));
    for (; d < n; d++)
        act_store(to, type, at + d, head->x[d]);
}

/* In 8 bits (KV8_HEAD_BYTES). */
static void head_store_kv8(const struct head *head, void *to, int32_t n)
{
    int8_t *number = to;
    float most = 0.0f, scale = 0.0f;
    bool finite = true;
    for (int32_t d = 0; d < n; d++) {
        const float x = fabsf(head->x[d]);
        finite = finite && x <= FLT_MAX;
        most = x > most ? x : most;
    }
    const bool some = finite && most >= 1e-30f;
    const float inverse = some ? 127.0f / most : 0.0f;
    for (int32_t d = 0; d < n; d++)
        number[d] = some ? (int8_t)rintf(head->x[d] * inverse) : 0;
    scale = finite ? some ? most / 127.0f : 0.0f : NAN;
    memcpy(number + KV8_SCALE_AT(n), &scale, sizeof scale);
}

/* Head number h of row kv_row of keys or values. */
static void store_key(const struct qkv_forward *p, const struct head *head, void *to, int64_t kv_row, int32_t h)
{
    const int64_t at = kv_row * p->n_kv_heads + h;
    if (p->kv8)
        head_store_kv8(head, (char *)to + at * KV8_HEAD_BYTES(p->head_dim), p->head_dim);
    else
        head_store(head, to, p->act, at * p->head_dim, p->head_dim);
}

static float head_dot(const struct head *a, const struct head *b, int32_t n)
{
    vf sum = vf_zero();
    for (int32_t d = 0; d < n; d += VW)
        sum = vf_fma(vf_load(a->x + d), vf_load(b->x + d), sum);
    return vf_sum(sum);
}

static float head_rstd(const struct head *head, int32_t n, float eps)
{
    return 1.0f / sqrtf(head_dot(head, head, n) / (float)n + eps);
}

/* (x_i, x_{i + n/2}) turned by the angle whose cosine and sine are given; sign -1 turns back. */
static void head_rotate(struct head *head, const float *cosine, const float *sine, int32_t n, float sign)
{
    const int32_t half = n / 2;
    struct head y;
    int32_t i = 0;
    for (; i + VW <= half; i += VW) {
        const vf c = vf_load(cosine + i), s = vf_mul(vf_load(sine + i), vf_set(sign));
        const vf a = vf_load(head->x + i), b = vf_load(head->x + half + i);
        vf_store(y.x + i, vf_sub(vf_mul(a, c), vf_mul(b, s)));
        vf_store(y.x + half + i, vf_add(vf_mul(b, c), vf_mul(a, s)));
    }
    for (; i < half; i++) {
        const float c = cosine[i], s = sine[i] * sign, a = head->x[i], b = head->x[half + i];
        y.x[i] = a * c - b * s;
        y.x[half + i] = b * c + a * s;
    }
    memcpy(head->x, y.x, (size_t)n * sizeof *y.x);
}

static void head_forward(const struct qkv_forward *p, int64_t token, int64_t from, const struct head *gain,
                         struct head *x)
{
    const int32_t n = p->head_dim;
    const int64_t angle = (int64_t)p->position[token] * (n / 2);
    head_load(x, p->qkv, p->act, from, n);
    if (gain) {
        const vf rstd = vf_set(head_rstd(x, n, p->eps));
        for (int32_t d = 0; d < n; d += VW)
            vf_store(x->x + d, vf_mul(vf_mul(vf_load(x->x + d), rstd), vf_load(gain->x + d)));
    }
    head_rotate(x, p->cos_table + angle, p->sin_table + angle, n, 1.0f);
}

struct gains {
    struct head q, k;
};

static void gains_load(struct gains *gains, const struct qkv_forward *p)
{
    if (p->q_gain)
        head_load(&gains->q, p->q_gain, p->gain_type, 0, p->head_dim);
    if (p->k_gain)
        head_load(&gains->k, p->k_gain, p->gain_type, 0, p->head_dim);
}

struct forward_job {
    const struct qkv_forward *p;
    struct gains gains;
};

static void forward_tokens(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct forward_job *job = context;
    const struct qkv_forward *p = job->p;
    const int32_t n = p->head_dim, n_heads = p->n_heads, n_kv = p->n_kv_heads;
    const int64_t width = (int64_t)(n_heads + 2 * n_kv) * n;
    const struct head *q_gain = p->q_gain ? &job->gains.q : NULL, *k_gain = p->k_gain ? &job->gains.k : NULL;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        struct head x;
        for (int32_t h = 0; h < n_heads; h++) {
            head_forward(p, t, t * width + h * n, q_gain, &x);
            head_store(&x, p->q, p->act, (t * n_heads + h) * n, n);
        }
        for (int32_t h = 0; h < n_kv; h++) {
            head_forward(p, t, t * width + (n_heads + h) * n, k_gain, &x);
            store_key(p, &x, p->k, p->kv_row[t], h);
            head_load(&x, p->qkv, p->act, t * width + (n_heads + n_kv + h) * n, n);
            store_key(p, &x, p->v, p->kv_row[t], h);
        }
    }
}

void CPU_NAME(qkv_forward)(struct backend *backend, const struct qkv_forward *p)
{
    const int32_t n = p->head_dim;
    assert(n > 0 && n <= MAX_HEAD_DIM && n % 2 == 0);
    const int64_t width = (int64_t)(p->n_heads + 2 * p->n_kv_heads) * n;
    struct forward_job job = {.p = p};
    gains_load(&job.gains, p);
    cpu_run(backend, cpu_threads(backend, p->tokens * width, 0.4), p->tokens, 0, forward_tokens, &job);
}

/* With y = x * rstd: dx = rstd * (g*dy - y * mean(g*dy*y)), d_gain += dy * y. */
static void head_backward(const struct qkv_backward *b, int64_t token, int64_t at, const struct head *gain,
                          const float *dy, struct head *d_gain)
{
    const struct qkv_forward *p = &b->forward;
    const int32_t n = p->head_dim;
    const int64_t angle = (int64_t)p->position[token] * (n / 2);
    struct head g;
    head_load(&g, dy, DTYPE_F32, 0, n);
    head_rotate(&g, p->cos_table + angle, p->sin_table + angle, n, -1.0f);
    if (gain) {
        struct head y;
        head_load(&y, p->qkv, p->act, at, n);
        const vf rstd = vf_set(head_rstd(&y, n, p->eps));
        for (int32_t d = 0; d < n; d += VW) {
            const vf norm = vf_mul(vf_load(y.x + d), rstd), dn = vf_load(g.x + d);
            vf_store(d_gain->x + d, vf_fma(dn, norm, vf_load(d_gain->x + d)));
            vf_store(y.x + d, norm);
            vf_store(g.x + d, vf_mul(dn, vf_load(gain->x + d)));
        }
        const vf mean = vf_set(head_dot(&g, &y, n) / (float)n);
        for (int32_t d = 0; d < n; d += VW)
            vf_store(g.x + d, vf_mul(rstd, vf_sub(vf_load(g.x + d), vf_mul(vf_load(y.x + d), mean))));
    }
    head_store(&g, b->d_qkv, p->act, at, n);
}

static void rows_backward(const struct qkv_backward *b, int64_t begin, int64_t end, const struct head *q_gain,
                          const struct head *k_gain, struct head *d_q_gain, struct head *d_k_gain)
{
    const struct qkv_forward *p = &b->forward;
    const int32_t n = p->head_dim, n_heads = p->n_heads, n_kv = p->n_kv_heads;
    const int64_t width = (int64_t)(n_heads + 2 * n_kv) * n;
    memset(d_q_gain, 0, sizeof *d_q_gain);
    memset(d_k_gain, 0, sizeof *d_k_gain);
    for (int64_t t = begin; t < end; t++) {
        const int64_t kv_at = (int64_t)p->kv_row[t] * n_kv * n, row = t * width;
        for (int32_t h = 0; h < n_heads; h++)
            head_backward(b, t, row + h * n, q_gain, b->dq + (t * n_heads + h) * n, d_q_gain);
        for (int32_t h = 0; h < n_kv; h++)
            head_backward(b, t, row + (n_heads + h) * n, k_gain, b->dk + kv_at + h * n, d_k_gain);
        for (int32_t h = 0; h < n_kv; h++) {
            struct head dv;
            head_load(&dv, b->dv + kv_at + h * n, DTYPE_F32, 0, n);
            head_store(&dv, b->d_qkv, p->act, row + (n_heads + n_kv + h) * n, n);
        }
    }
}

struct backward_job {
    const struct qkv_backward *b;
    struct gains gains;
    int64_t first; /* block of this round */
    struct gains *d_gains;
};

static void backward_blocks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct backward_job *job = context;
    const struct qkv_forward *p = &job->b->forward;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = (job->first + i) * GAIN_ROWS;
        const int64_t last = p->tokens - first < GAIN_ROWS ? p->tokens : first + GAIN_ROWS;
        rows_backward(job->b, first, last, p->q_gain ? &job->gains.q : NULL, p->k_gain ? &job->gains.k : NULL,
                      &job->d_gains[i].q, &job->d_gains[i].k);
    }
}

void CPU_NAME(qkv_backward)(struct backend *backend, const struct qkv_backward *b)
{
    const struct qkv_forward *p = &b->forward;
    const int32_t n = p->head_dim;
    assert(n > 0 && n <= MAX_HEAD_DIM && n % 2 == 0);
    const int64_t n_blocks = (p->tokens + GAIN_ROWS - 1) / GAIN_ROWS;
    const int64_t at_once = n_blocks < GAIN_BLOCKS ? n_blocks : GAIN_BLOCKS;
    const int threads = cpu_threads(backend, p->tokens * (p->n_heads + 2 * p->n_kv_heads) * n, 0.8);
    struct backward_job job = {.b = b};
    job.d_gains = cpu_scratch(backend, (size_t)at_once * sizeof *job.d_gains);
    if (job.d_gains == NULL)
        return;
    gains_load(&job.gains, p);
    for (; job.first < n_blocks; job.first += GAIN_BLOCKS) {
        const int64_t round = n_blocks - job.first < at_once ? n_blocks - job.first : at_once;
        cpu_run(backend, threads, round, 1, backward_blocks, &job);
        for (int64_t i = 0; i < round; i++)
            for (int32_t d = 0; d < n; d++) {
                if (p->q_gain && b->d_q_gain)
                    b->d_q_gain[d] += job.d_gains[i].q.x[d];
                if (p->k_gain && b->d_k_gain)
                    b->d_k_gain[d] += job.d_gains[i].k.x[d];
            }
    }
}
