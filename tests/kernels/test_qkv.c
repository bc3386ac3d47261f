/* Split, per head norm and rotation against double references; derivatives against central
 * differences; bits that do not depend on batch or threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/cpu/cpu_kernels.h"
#include "backend/ops.h"
#include "base/rng.h"
#include "support/threads.h"
#include "support/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct isa {
    const char *name;
    void (*forward)(struct backend *, const struct qkv_forward *);
    void (*backward)(struct backend *, const struct qkv_backward *);
};

static int isas(struct isa list[3])
{
    int n = 0;
    list[n++] = (struct isa){"portable", qkv_forward_portable, qkv_backward_portable};
#ifdef COHORT_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        list[n++] = (struct isa){"avx2", qkv_forward_avx2, qkv_backward_avx2};
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        list[n++] = (struct isa){"avx512", qkv_forward_avx512, qkv_backward_avx512};
#endif
    return n;
}

enum { GUARD = 64, MAX_POSITION = 300 }; /* GUARD in bytes */

struct buffer {
    unsigned char *memory;
    size_t bytes;
};

static struct buffer buffer_new(int64_t n, enum dtype type)
{
    struct buffer b = {.bytes = (size_t)n * dtype_bytes(type)};
    b.memory = malloc(b.bytes + 2 * GUARD);
    assert_non_null(b.memory);
    memset(b.memory, 0x5a, b.bytes + 2 * GUARD);
    return b;
}

static void *buffer_data(const struct buffer *b) { return b->memory + GUARD; }

static void buffer_check(const struct buffer *b)
{
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(b->memory[i], 0x5a);
        assert_int_equal(b->memory[GUARD + b->bytes + i], 0x5a);
    }
}

static void put(void *x, enum dtype type, int64_t i, float value)
{
    if (type == DTYPE_F32)
        ((float *)x)[i] = value;
    else
        ((uint16_t *)x)[i] = bf16_from_f32(value);
}

static double get(const void *x, enum dtype type, int64_t i)
{
    return type == DTYPE_F32 ? (double)((const float *)x)[i] : (double)f32_from_bf16(((const uint16_t *)x)[i]);
}

static struct buffer random_new(uint64_t what, int64_t n, enum dtype type, float offset)
{
    struct buffer b = buffer_new(n, type);
    for (int64_t i = 0; i < n; i++)
        put(buffer_data(&b), type, i,
            offset + 2.0f * rng_uniform(rng_philox(what, RNG_TEST, 0, (uint64_t)i).word[0]) - 1.0f);
    return b;
}

static double *widen(const struct buffer *b, enum dtype type)
{
    const int64_t n = (int64_t)(b->bytes / dtype_bytes(type));
    double *y = malloc((size_t)(n + 1) * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++)
        y[i] = get(buffer_data(b), type, i);
    return y;
}

static double *zeros(int64_t n)
{
    double *y = calloc((size_t)(n + 1), sizeof *y);
    assert_non_null(y);
    return y;
}

/* A batch: tokens at scattered positions, key rows in reverse order with a row of nobody behind
 * each. */
struct problem {
    struct qkv_forward p;
    struct buffer qkv, q_gain, k_gain, q, k, v, dq, dk, dv;
    int32_t position[200], kv_row[200];
    float *cosine, *sine;
    int64_t nq, nkv, nqkv; /* elements of q; of k and v; of qkv */
};

static struct problem *problem_new(int64_t tokens, int32_t heads, int32_t kv, int32_t n, enum dtype act, bool norm)
{
    struct problem *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->nq = tokens * heads * n;
    b->nkv = 2 * tokens * kv * n;
    b->nqkv = tokens * (heads + 2 * kv) * n;
    b->qkv = random_new(1, b->nqkv, act, 0.1f);
    b->q_gain = random_new(2, n, act, 1.0f);
    b->k_gain = random_new(3, n, act, 1.0f);
    b->q = buffer_new(b->nq, act);
    b->k = buffer_new(b->nkv, act);
    b->v = buffer_new(b->nkv, act);
    b->dq = random_new(4, b->nq, DTYPE_F32, 0.0f);
    b->dk = random_new(5, b->nkv, DTYPE_F32, 0.0f);
    b->dv = random_new(6, b->nkv, DTYPE_F32, 0.0f);
    b->cosine = malloc((size_t)(MAX_POSITION * n) * sizeof(float));
    b->sine = malloc((size_t)(MAX_POSITION * n) * sizeof(float));
    assert_true(b->cosine && b->sine);
    for (int32_t t = 0; t < MAX_POSITION; t++)
        for (int32_t i = 0; i < n / 2; i++) {
            const double angle = t * pow(10000.0, -2.0 * i / n);
            b->cosine[t * (n / 2) + i] = (float)cos(angle);
            b->sine[t * (n / 2) + i] = (float)sin(angle);
        }
    for (int32_t t = 0; t < tokens; t++) {
        b->position[t] = (t * 37) % MAX_POSITION;
        b->kv_row[t] = 2 * ((int32_t)tokens - 1 - t);
    }
    b->p = (struct qkv_forward){.tokens = tokens,
                                .n_heads = heads,
                                .n_kv_heads = kv,
                                .head_dim = n,
                                .qkv = buffer_data(&b->qkv),
                                .position = b->position,
                                .kv_row = b->kv_row,
                                .cos_table = b->cosine,
                                .sin_table = b->sine,
                                .q_gain = norm ? buffer_data(&b->q_gain) : NULL,
                                .k_gain = norm ? buffer_data(&b->k_gain) : NULL,
                                .gain_type = act,
                                .eps = 1e-6f,
                                .act = act,
                                .q = buffer_data(&b->q),
                                .k = buffer_data(&b->k),
                                .v = buffer_data(&b->v)};
    return b;
}

static void problem_free(struct problem *b)
{
    struct buffer *all[] = {&b->qkv, &b->q_gain, &b->k_gain, &b->q, &b->k, &b->v, &b->dq, &b->dk, &b->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->memory);
    free(b->cosine), free(b->sine), free(b);
}

static void close_to(const char *what, const struct isa *isa, const struct buffer *have, enum dtype type,
                     const double *want, double bound)
{
    const int64_t n = (int64_t)(have->bytes / dtype_bytes(type));
    buffer_check(have);
    for (int64_t i = 0; i < n; i++) { /* bf16 (8 bits) rounds by up to 2^-8 of the value */
        const double limit = bound + (type == DTYPE_F32 ? 0 : 0x1p-8 * fabs(want[i]));
        const double x = get(buffer_data(have), type, i);
        if (!(fabs(x - want[i]) <= limit))
            fail_msg("%s %s element %lld: %g, reference %g", isa->name, what, (long long)i, x, want[i]);
    }
}

static const struct {
    int64_t tokens;
    int32_t heads, kv, n;
} shapes[] = {{1, 1, 1, 4},   {5, 4, 2, 8},     {63, 2, 1, 16}, {64, 3, 3, 40},
              {65, 4, 1, 64}, {130, 4, 2, 128}, {3, 2, 2, 256}, {7, 2, 1, 6}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* Row kv_row[t] of k and v is written, the rows between keep their pattern. */
static void rows_between_check(const struct problem *b)
{
    const size_t row = (size_t)(b->p.n_kv_heads * b->p.head_dim) * dtype_bytes(b->p.act);
    for (int64_t r = 1; r < 2 * b->p.tokens; r += 2)
        for (size_t i = 0; i < row; i++) {
            assert_int_equal(((unsigned char *)b->p.k)[(size_t)r * row + i], 0x5a);
            assert_int_equal(((unsigned char *)b->p.v)[(size_t)r * row + i], 0x5a);
        }
}

static void check(struct problem *b, const struct isa *isa)
{
    const enum dtype act = b->p.act;
    const int32_t n = b->p.head_dim, kv_width = b->p.n_kv_heads * n;
    double *qkv = widen(&b->qkv, act), *qg = widen(&b->q_gain, act), *kg = widen(&b->k_gain, act);
    double *q = zeros(b->nq), *k = widen(&b->k, act), *v = widen(&b->v, act);
    const double *q_gain = b->p.q_gain ? qg : NULL, *k_gain = b->p.k_gain ? kg : NULL;
    struct backend backend = backend_with(2);
    isa->forward(&backend, &b->p);
    reference_qkv_forward(&b->p, qkv, q_gain, k_gain, q, k, v);
    for (int64_t i = 0; i < b->nkv; i++)
        if (i / kv_width % 2 == 1) /* nobody's row: a pattern, not compared here */
            k[i] = v[i] = get(b->p.k, act, i);
    close_to("q", isa, &b->q, act, q, 3e-6);
    close_to("k", isa, &b->k, act, k, 3e-6);
    close_to("v", isa, &b->v, act, v, 0);
    rows_between_check(b);

    /* Backward twice: one and two threads, gains starting at 0.25. */
    double *dq = widen(&b->dq, DTYPE_F32), *dk = widen(&b->dk, DTYPE_F32), *dv = widen(&b->dv, DTYPE_F32);
    double *d_qkv = zeros(b->nqkv), *d_qg = zeros(n), *d_kg = zeros(n);
    for (int32_t i = 0; i < n; i++)
        d_qg[i] = d_kg[i] = 0.25;
    reference_qkv_backward(&b->p, qkv, q_gain, k_gain, dq, dk, dv, d_qkv, d_qg, d_kg);
    struct buffer have[2], gain[2][2];
    for (int threads = 1; threads <= 2; threads++) {
        struct buffer *g = gain[threads - 1];
        have[threads - 1] = buffer_new(b->nqkv, act);
        for (int w = 0; w < 2; w++) {
            g[w] = buffer_new(n, DTYPE_F32);
            for (int32_t i = 0; i < n; i++)
                put(buffer_data(&g[w]), DTYPE_F32, i, 0.25f);
        }
        backend = backend_with(threads);
        const struct qkv_backward p = {.forward = b->p,
                                       .dq = buffer_data(&b->dq),
                                       .dk = buffer_data(&b->dk),
                                       .dv = buffer_data(&b->dv),
                                       .d_qkv = buffer_data(&have[threads - 1]),
                                       .d_q_gain = buffer_data(&g[0]),
                                       .d_k_gain = buffer_data(&g[1])};
        isa->backward(&backend, &p);
        /* Gradients of a head are of size rstd (about 2 here) times sums over D. */
        close_to("d_qkv", isa, &have[threads - 1], act, d_qkv, 2e-5);
        close_to("d_q_gain", isa, &g[0], DTYPE_F32, d_qg, 1e-4);
        close_to("d_k_gain", isa, &g[1], DTYPE_F32, d_kg, 1e-4);
    }
    assert_memory_equal(have[0].memory, have[1].memory, have[0].bytes);
    for (int w = 0; w < 2; w++) {
        assert_memory_equal(gain[0][w].memory, gain[1][w].memory, gain[0][w].bytes + GUARD);
        free(gain[0][w].memory), free(gain[1][w].memory), free(have[w].memory);
    }
    double *all[] = {qkv, qg, kg, q, k, v, dq, dk, dv, d_qkv, d_qg, d_kg};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void test_reference(void **state)
{
    (void)state;
    struct isa list[3];
    const int n = isas(list);
    for (int i = 0; i < N_SHAPES; i++)
        for (int which = 0; which < 4; which++) {
            const enum dtype act = which & 1 ? DTYPE_BF16 : DTYPE_F32;
            for (int s = 0; s < n; s++) {
                struct problem *b =
                    problem_new(shapes[i].tokens, shapes[i].heads, shapes[i].kv, shapes[i].n, act, which & 2);
                check(b, &list[s]);
                problem_free(b);
            }
        }
}

static double objective(struct problem *b, const double *qkv, const double *q_gain, const double *k_gain,
                        const double *dq, const double *dk, const double *dv)
{
    double *q = zeros(b->nq), *k = zeros(b->nkv), *v = zeros(b->nkv), sum = 0;
    reference_qkv_forward(&b->p, qkv, q_gain, k_gain, q, k, v);
    for (int64_t i = 0; i < b->nq; i++)
        sum += q[i] * dq[i];
    for (int64_t i = 0; i < b->nkv; i++)
        sum += k[i] * dk[i] + v[i] * dv[i];
    free(q), free(k), free(v);
    return sum;
}

static void test_reference_differences(void **state)
{
    (void)state;
    struct problem *b = problem_new(4, 2, 1, 6, DTYPE_F32, true);
    double *x[3] = {widen(&b->qkv, DTYPE_F32), widen(&b->q_gain, DTYPE_F32), widen(&b->k_gain, DTYPE_F32)};
    double *dq = widen(&b->dq, DTYPE_F32), *dk = widen(&b->dk, DTYPE_F32), *dv = widen(&b->dv, DTYPE_F32);
    const int64_t size[3] = {b->nqkv, 6, 6};
    double *d[3] = {zeros(size[0]), zeros(size[1]), zeros(size[2])};
    reference_qkv_backward(&b->p, x[0], x[1], x[2], dq, dk, dv, d[0], d[1], d[2]);
    for (int w = 0; w < 3; w++)
        for (int64_t i = 0; i < size[w]; i++) {
            const double step = 1e-5, at = x[w][i];
            x[w][i] = at + step;
            const double up = objective(b, x[0], x[1], x[2], dq, dk, dv);
            x[w][i] = at - step;
            const double down = objective(b, x[0], x[1], x[2], dq, dk, dv);
            x[w][i] = at;
            assert_true(fabs((up - down) / (2 * step) - d[w][i]) < 1e-7);
        }
    for (int w = 0; w < 3; w++)
        free(x[w]), free(d[w]);
    free(dq), free(dk), free(dv);
    problem_free(b);
}

/* A token alone gives the bits it gives in a batch, and a NaN in another token does not reach it.
 */
static void test_rows_independent(void **state)
{
    (void)state;
    struct isa list[3];
    const int n = isas(list);
    for (int s = 0; s < n; s++)
        for (int which = 0; which < 2; which++) {
            const enum dtype act = which ? DTYPE_BF16 : DTYPE_F32;
            const int32_t dim = 40, heads = 3, kv = 1, width = (heads + 2 * kv) * dim;
            struct problem *b = problem_new(70, heads, kv, dim, act, true);
            put(buffer_data(&b->qkv), act, 11 * width + 5, NAN);
            struct backend backend = backend_with(2);
            list[s].forward(&backend, &b->p);
            struct problem *one = problem_new(1, heads, kv, dim, act, true);
            for (int32_t t = 0; t < 70; t++) {
                const size_t bytes = dtype_bytes(act);
                one->p.qkv = (const char *)b->p.qkv + (size_t)(t * width) * bytes;
                one->position[0] = b->position[t];
                list[s].forward(&backend, &one->p);
                if (t == 11)
                    assert_true(isnan(get(b->p.q, act, t * heads * dim)));
                else
                    assert_memory_equal(one->p.q, (char *)b->p.q + (size_t)(t * heads * dim) * bytes,
                                        (size_t)(heads * dim) * bytes);
                assert_memory_equal(one->p.k, (char *)b->p.k + (size_t)(b->kv_row[t] * kv * dim) * bytes,
                                    (size_t)(kv * dim) * bytes);
            }
            problem_free(b), problem_free(one);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_reference_differences),
        cmocka_unit_test(test_rows_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
