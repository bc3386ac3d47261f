/* Elementwise and norm kernels of the CUDA backend against those of the CPU: exact where the order of operations is the
 * same (embedding, conversion, AdamW), else within stated rounding; and what a row gets does not depend on other rows
 * or on how its memory is aligned. Every array lies between guard bytes. --small: for the emulation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/ops.h"
#include "base/rng.h"

#ifdef COHORT_CUDA_EMULATED
#include "cuda_emulation_control.h"
#endif

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, GUARD_BYTE = 0xA5, MAX_ARRAYS = 32 };

static struct backend *gpu, *cpu;
static bool small;

/* ---- arrays: here (x) and on the device (d, behind guard bytes), equal until a kernel writes ---- */

struct array {
    unsigned char *base; /* device: GUARD + shift bytes, the array, GUARD bytes */
    void *d;             /* device: base + GUARD + shift */
    void *x;             /* here */
    enum dtype type;
    size_t bytes, shift;
};
static struct array arrays[MAX_ARRAYS];
static int n_arrays;

static void must_be_well(void)
{
    cohort_error err;
    gpu->ops->wait(gpu);
    if (gpu->ops->check(gpu, &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

static void push(struct array *a)
{
    unsigned char *with_guards = malloc(a->bytes + 2 * GUARD + a->shift);
    assert_non_null(with_guards);
    memset(with_guards, GUARD_BYTE, a->bytes + 2 * GUARD + a->shift);
    memcpy(with_guards + GUARD + a->shift, a->x, a->bytes);
    gpu->ops->upload(gpu, a->base, with_guards, a->bytes + 2 * GUARD + a->shift);
    free(with_guards);
}

/* Uniform in (-scale, scale), of a stream; zeros for scale 0. Shifted so many elements from an aligned address. */
static struct array *array_new(int64_t count, enum dtype type, uint64_t stream, double scale, size_t shift)
{
    assert_true(n_arrays < MAX_ARRAYS);
    struct array *a = &arrays[n_arrays++];
    *a = (struct array){.type = type, .bytes = (size_t)count * dtype_bytes(type), .shift = shift * dtype_bytes(type)};
    a->x = calloc(1, a->bytes + 1);
    assert_non_null(a->x);
    for (int64_t i = 0; i < count && scale > 0.0; i++) {
        struct rng_block block = rng_philox(17, RNG_TEST, stream, (uint64_t)i);
        float value = (float)(scale * (2.0 * rng_uniform_double(block.word[0], block.word[1]) - 1.0));
        if (type == DTYPE_F32)
            ((float *)a->x)[i] = value;
        else
            ((uint16_t *)a->x)[i] = bf16_from_f32(value);
    }
    cohort_error err;
    void *base = NULL;
    if (gpu->ops->alloc(gpu, &base, a->bytes + 2 * GUARD + a->shift, "a test's array", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    a->base = base;
    a->d = a->base + GUARD + a->shift;
    push(a);
    return a;
}

/* int32_t, here and on the device. */
static struct array *ids_new(int64_t count, int32_t (*id)(int64_t))
{
    struct array *a = array_new(count, DTYPE_F32, 0, 0.0, 0);
    for (int64_t i = 0; i < count; i++)
        ((int32_t *)a->x)[i] = id(i);
    push(a);
    return a;
}

/* What the device holds now, guards checked. Free it. */
static void *pull(const struct array *a)
{
    const size_t all = a->bytes + 2 * GUARD + a->shift;
    unsigned char *with_guards = malloc(all);
    assert_non_null(with_guards);
    must_be_well();
    gpu->ops->download(gpu, with_guards, a->base, all);
    for (size_t i = 0; i < GUARD + a->shift; i++)
        assert_int_equal(with_guards[i], GUARD_BYTE);
    for (size_t i = 0; i < GUARD; i++)
        assert_int_equal(with_guards[GUARD + a->shift + a->bytes + i], GUARD_BYTE);
    memmove(with_guards, with_guards + GUARD + a->shift, a->bytes);
    return with_guards;
}

static void arrays_free(void)
{
    for (int i = 0; i < n_arrays; i++) {
        gpu->ops->free(gpu, arrays[i].base);
        free(arrays[i].x);
    }
    n_arrays = 0;
}

static double at(const void *x, enum dtype type, int64_t i)
{
    return type == DTYPE_F32 ? (double)((const float *)x)[i] : (double)f32_from_bf16(((const uint16_t *)x)[i]);
}

/* The device's array equals x, which the CPU has computed. Two roundings to bf16 of nearly the same number may lie one
 * step of 2^-7 apart; slack is that of fp32, absolute + relative. */
static void expect_near(const char *what, const struct array *a, double absolute, double relative)
{
    void *got = pull(a);
    for (int64_t i = 0; i < (int64_t)(a->bytes / dtype_bytes(a->type)); i++) {
        const double want = at(a->x, a->type, i), have = at(got, a->type, i);
        const double step = a->type == DTYPE_BF16 ? 0x1p-7 : 0.0;
        if (!(fabs(have - want) <= absolute + (relative + step) * fabs(want)))
            fail_msg("%s, element %lld of %lld: %.9g, on the CPU %.9g", what, (long long)i,
                     (long long)(a->bytes / dtype_bytes(a->type)), have, want);
    }
    free(got);
}

static void expect_equal(const char *what, const struct array *a)
{
    unsigned char *got = pull(a);
    const size_t n = dtype_bytes(a->type);
    for (size_t i = 0; i < a->bytes; i++)
        if (got[i] != ((unsigned char *)a->x)[i])
            fail_msg("%s, element %zu of %zu: %.9g, on the CPU %.9g", what, i / n, a->bytes / n,
                     at(got, a->type, (int64_t)(i / n)), at(a->x, a->type, (int64_t)(i / n)));
    free(got);
}

/* The same bytes in two arrays of the device. */
static void expect_same(const struct array *a, const struct array *b)
{
    void *first = pull(a), *second = pull(b);
    assert_memory_equal(first, second, a->bytes);
    free(first);
    free(second);
}

/* ---- embedding ---- */

static int32_t vocab;
/* Half of the tokens have one id, the others any. */
static int32_t skewed(int64_t i)
{
    const uint32_t word = rng_philox(17, RNG_TEST, 900, (uint64_t)i).word[0];
    return word & 1u ? vocab / 3 : (int32_t)(word >> 1) % vocab;
}

static void check_embed(int64_t tokens, int64_t width, enum dtype type, size_t shift)
{
    const struct array *token = ids_new(tokens, skewed);
    struct array *table = array_new(vocab * width, type, 1, 1.0, shift);
    struct array *y = array_new(tokens * width, DTYPE_F32, 2, 1.0, shift);
    struct array *d_table = array_new(vocab * width, DTYPE_F32, 3, 1.0, shift);
    struct embed_forward forward = {tokens, width, token->d, table->d, type, y->d};
    struct embed_backward backward = {tokens, width, vocab, token->d, y->d, d_table->d};
    gpu->ops->embed_backward(gpu, &backward);
    gpu->ops->embed_forward(gpu, &forward);
    backward.token = token->x, backward.dy = y->x, backward.d_table = d_table->x;
    cpu->ops->embed_backward(cpu, &backward);
    forward.token = token->x, forward.table = table->x, forward.y = y->x;
    cpu->ops->embed_forward(cpu, &forward);
    expect_equal("embed_forward", y);
    expect_equal("embed_backward", d_table);
    arrays_free();
}

static void test_embed(void **state)
{
    (void)state;
    const int64_t shapes[][3] = {{1, 1, 1},     {5, 7, 3},       {9, 8, 1},      {300, 100, 600},
                                 {33, 1024, 9}, {700, 12, 1500}, {20, 2052, 513}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
            vocab = (int32_t)shapes[i][2];
            check_embed(shapes[i][0], shapes[i][1], (enum dtype)type, i % 2);
        }
    vocab = small ? 2000 : 151936;
    check_embed(small ? 2500 : 20000, small ? 8 : 1024, DTYPE_BF16, 0);
}

/* ---- RMS norm ---- */

static int32_t reversed_of;
static int32_t reversed(int64_t i) { return reversed_of - 1 - (int32_t)i; }

struct norm {
    struct array *x, *gain, *y, *dy, *dx, *d_gain, *row;
    struct rmsnorm_forward forward;
    struct rmsnorm_backward backward;
};

static struct norm norm_new(int64_t rows, int64_t width, enum dtype gain_type, enum dtype y_type, bool list,
                            size_t shift)
{
    reversed_of = (int32_t)rows;
    struct norm n = {.x = array_new(rows * width, DTYPE_F32, 10, 2.0, shift),
                     .gain = array_new(width, gain_type, 11, 1.5, shift),
                     .y = array_new(rows * width, y_type, 12, 0.0, shift),
                     .dy = array_new(rows * width, DTYPE_F32, 13, 1.0, shift),
                     .dx = array_new(rows * width, DTYPE_F32, 14, 1.0, shift),
                     .d_gain = array_new(width, DTYPE_F32, 15, 1.0, shift),
                     .row = list ? ids_new(rows, reversed) : NULL};
    n.forward = (struct rmsnorm_forward){rows,   width, list ? n.row->d : NULL, n.x->d, n.gain->d, gain_type, 1e-3f,
                                         n.y->d, y_type};
    n.backward = (struct rmsnorm_backward){rows,      width, n.forward.row, n.x->d,  n.gain->d,
                                           gain_type, 1e-3f, n.dy->d,       n.dx->d, n.d_gain->d};
    return n;
}

static void norm_on_cpu(const struct norm *n)
{
    struct rmsnorm_forward f = n->forward;
    struct rmsnorm_backward b = n->backward;
    f.row = b.row = n->row ? n->row->x : NULL;
    f.x = b.x = n->x->x;
    f.gain = b.gain = n->gain->x;
    f.y = n->y->x;
    b.dy = n->dy->x, b.dx = n->dx->x, b.d_gain = n->d_gain->x;
    cpu->ops->rmsnorm_forward(cpu, &f);
    cpu->ops->rmsnorm_backward(cpu, &b);
}

static void check_norm(int64_t rows, int64_t width, enum dtype gain_type, enum dtype y_type, bool list)
{
    struct norm n = norm_new(rows, width, gain_type, y_type, list, 0);
    gpu->ops->rmsnorm_forward(gpu, &n.forward);
    gpu->ops->rmsnorm_backward(gpu, &n.backward);
    norm_on_cpu(&n);
    expect_near("y", n.y, 0.0, 2e-6);
    /* Numbers of about 1; with width 1 and eps, up to 30 times more cancel. */
    expect_near("dx", n.dx, 2e-5, 2e-6);
    expect_near("d_gain", n.d_gain, 2e-7 * (double)(rows + 10), 2e-6);
    /* Elsewhere in memory, and without a gradient of the gain: the same bits. */
    struct norm moved = norm_new(rows, width, gain_type, y_type, list, 1);
    gpu->ops->rmsnorm_forward(gpu, &moved.forward);
    gpu->ops->rmsnorm_backward(gpu, &moved.backward);
    expect_same(n.y, moved.y);
    expect_same(n.dx, moved.dx);
    expect_same(n.d_gain, moved.d_gain);
    struct array *dx = array_new(rows * width, DTYPE_F32, 14, 1.0, 0);
    n.backward.dx = dx->d;
    n.backward.d_gain = NULL;
    gpu->ops->rmsnorm_backward(gpu, &n.backward);
    expect_same(n.dx, dx);
    /* The last row alone. */
    struct array *alone = array_new(width, y_type, 12, 0.0, 0);
    const size_t last = (size_t)((rows - 1) * width);
    n.forward.rows = 1;
    n.forward.row = NULL;
    n.forward.x = (const float *)n.x->d + (list ? 0 : last);
    n.forward.y = alone->d;
    gpu->ops->rmsnorm_forward(gpu, &n.forward);
    char *all = pull(n.y), *one = pull(alone);
    assert_memory_equal(one, all + last * dtype_bytes(y_type), alone->bytes);
    free(all);
    free(one);
    arrays_free();
}

static void test_rmsnorm(void **state)
{
    (void)state;
    const int64_t widths[] = {1, 3, 4, 100, 128, 129, 1024, 1028, 4096, 4100, 5120, 8192};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int types = 0; types < 4; types++) {
            const int64_t rows = w < 6 ? 17 : 9;
            check_norm(types == 0 ? 1 : rows, widths[w], types & 1 ? DTYPE_BF16 : DTYPE_F32,
                       types & 2 ? DTYPE_BF16 : DTYPE_F32, types == 2 || types == 3);
        }
    check_norm(9001, 4, DTYPE_BF16, DTYPE_BF16, true); /* blocks of nine rows */
    if (!small)
        check_norm(20011, 1024, DTYPE_BF16, DTYPE_BF16, false);
}

/* ---- split, norm, rotation ---- */

enum { POSITIONS = 300 };
static int32_t hidden; /* every so many tokens have no key row; 0: none */
static int32_t n_rows;
static int32_t position_of(int64_t t) { return (int32_t)(t * 37 % POSITIONS); }
static int32_t kv_row_of(int64_t t) { return hidden && t % hidden == hidden - 1 ? -1 : 2 * (n_rows - 1 - (int32_t)t); }

struct qkv {
    struct array *qkv, *position, *kv_row, *cosine, *sine, *q_gain, *k_gain, *q, *k, *v;
    struct array *dq, *dk, *dv, *d_qkv, *d_q_gain, *d_k_gain;
    struct qkv_backward p; /* p.forward too */
};

static struct qkv qkv_new(int64_t tokens, int32_t heads, int32_t kv, int32_t dim, enum dtype act, enum dtype gain_type,
                          bool norm, size_t shift)
{
    n_rows = (int32_t)tokens;
    const int64_t nkv = 2 * tokens * kv * dim;
    struct qkv b = {.qkv = array_new(tokens * (heads + 2 * kv) * dim, act, 20, 1.0, shift),
                    .position = ids_new(tokens, position_of),
                    .kv_row = ids_new(tokens, kv_row_of),
                    .cosine = array_new(POSITIONS * (dim / 2), DTYPE_F32, 0, 0.0, shift),
                    .sine = array_new(POSITIONS * (dim / 2), DTYPE_F32, 0, 0.0, shift),
                    .q_gain = array_new(dim, gain_type, 21, 2.0, shift),
                    .k_gain = array_new(dim, gain_type, 22, 2.0, shift),
                    .q = array_new(tokens * heads * dim, act, 23, 0.0, shift),
                    .k = array_new(nkv, act, 24, 0.0, shift),
                    .v = array_new(nkv, act, 25, 0.0, shift),
                    .dq = array_new(tokens * heads * dim, DTYPE_F32, 26, 1.0, shift),
                    .dk = array_new(nkv, DTYPE_F32, 27, 1.0, shift),
                    .dv = array_new(nkv, DTYPE_F32, 28, 1.0, shift),
                    .d_qkv = array_new(tokens * (heads + 2 * kv) * dim, act, 29, 1.0, shift),
                    .d_q_gain = array_new(dim, DTYPE_F32, 30, 1.0, shift),
                    .d_k_gain = array_new(dim, DTYPE_F32, 31, 1.0, shift)};
    for (int32_t t = 0; t < POSITIONS; t++)
        for (int32_t i = 0; i < dim / 2; i++) {
            const double angle = t * pow(10000.0, -2.0 * i / dim);
            ((float *)b.cosine->x)[t * (dim / 2) + i] = (float)cos(angle);
            ((float *)b.sine->x)[t * (dim / 2) + i] = (float)sin(angle);
        }
    push(b.cosine);
    push(b.sine);
    b.p = (struct qkv_backward){.forward = {.tokens = tokens,
                                            .n_heads = heads,
                                            .n_kv_heads = kv,
                                            .head_dim = dim,
                                            .qkv = b.qkv->d,
                                            .position = b.position->d,
                                            .kv_row = b.kv_row->d,
                                            .cos_table = b.cosine->d,
                                            .sin_table = b.sine->d,
                                            .q_gain = norm ? b.q_gain->d : NULL,
                                            .k_gain = norm ? b.k_gain->d : NULL,
                                            .gain_type = gain_type,
                                            .eps = 1e-6f,
                                            .act = act,
                                            .q = b.q->d,
                                            .k = b.k->d,
                                            .v = b.v->d},
                                .dq = b.dq->d,
                                .dk = b.dk->d,
                                .dv = b.dv->d,
                                .d_qkv = b.d_qkv->d,
                                .d_q_gain = b.d_q_gain->d,
                                .d_k_gain = b.d_k_gain->d};
    return b;
}

static struct qkv_backward qkv_on_cpu(const struct qkv *b)
{
    struct qkv_backward p = b->p;
    p.forward.qkv = b->qkv->x, p.forward.position = b->position->x;
    p.forward.kv_row = b->kv_row->x;
    p.forward.cos_table = b->cosine->x, p.forward.sin_table = b->sine->x;
    p.forward.q_gain = p.forward.q_gain ? b->q_gain->x : NULL;
    p.forward.k_gain = p.forward.k_gain ? b->k_gain->x : NULL;
    p.forward.q = b->q->x, p.forward.k = b->k->x, p.forward.v = b->v->x;
    p.dq = b->dq->x, p.dk = b->dk->x, p.dv = b->dv->x, p.d_qkv = b->d_qkv->x;
    p.d_q_gain = b->d_q_gain->x, p.d_k_gain = b->d_k_gain->x;
    return p;
}

static void check_qkv(int64_t tokens, int32_t heads, int32_t kv, int32_t dim, enum dtype act, enum dtype gain_type,
                      bool norm)
{
    hidden = 0;
    struct qkv b = qkv_new(tokens, heads, kv, dim, act, gain_type, norm, 0);
    gpu->ops->qkv_forward(gpu, &b.p.forward);
    gpu->ops->qkv_backward(gpu, &b.p);
    struct qkv_backward host = qkv_on_cpu(&b);
    cpu->ops->qkv_forward(cpu, &host.forward);
    cpu->ops->qkv_backward(cpu, &host);
    /* Numbers of up to 5; a rotation subtracts. */
    expect_near("q", b.q, 5e-6, 1e-6);
    expect_near("k", b.k, 5e-6, 1e-6);
    expect_equal("v", b.v);
    expect_near("d_qkv", b.d_qkv, 3e-5, 1e-6);
    expect_near("d_q_gain", b.d_q_gain, 2e-6 * (double)(tokens * heads), 1e-6);
    expect_near("d_k_gain", b.d_k_gain, 2e-6 * (double)(tokens * kv), 1e-6);
    must_be_well();
    void *q = pull(b.q), *d_qkv = pull(b.d_qkv), *d_q_gain = pull(b.d_q_gain), *k = pull(b.k);
    const size_t q_bytes = b.q->bytes, d_bytes = b.d_qkv->bytes, g_bytes = b.d_q_gain->bytes;
    const size_t k_row = (size_t)(kv * dim) * dtype_bytes(act);
    arrays_free();

    /* Elsewhere in memory and with tokens whose keys nobody stores: the other bits are the same, the rows that were
     * theirs stay zero. */
    hidden = 3;
    b = qkv_new(tokens, heads, kv, dim, act, gain_type, norm, 1);
    gpu->ops->qkv_forward(gpu, &b.p.forward);
    void *q2 = pull(b.q), *k2 = pull(b.k);
    assert_memory_equal(q2, q, q_bytes);
    unsigned char *zeros = calloc(1, k_row);
    assert_non_null(zeros);
    for (int64_t r = 0; r < 2 * tokens; r++) {
        const int64_t t = tokens - 1 - r / 2;
        const bool written = r % 2 == 0 && t % hidden != hidden - 1;
        const unsigned char *want = written ? (unsigned char *)k + (size_t)r * k_row : zeros;
        assert_memory_equal((unsigned char *)k2 + (size_t)r * k_row, want, k_row);
    }
    free(zeros);
    arrays_free();
    hidden = 0;
    b = qkv_new(tokens, heads, kv, dim, act, gain_type, norm, 1);
    gpu->ops->qkv_backward(gpu, &b.p);
    void *d_qkv2 = pull(b.d_qkv), *d_q_gain2 = pull(b.d_q_gain);
    assert_memory_equal(d_qkv2, d_qkv, d_bytes);
    assert_memory_equal(d_q_gain2, d_q_gain, g_bytes);
    void *all[] = {q, k, q2, k2, d_qkv, d_qkv2, d_q_gain, d_q_gain2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    arrays_free();
}

static void test_qkv(void **state)
{
    (void)state;
    const struct {
        int64_t tokens;
        int32_t heads, kv, dim;
    } shapes[] = {{1, 1, 1, 4},    {5, 4, 2, 8},   {63, 2, 1, 16}, {17, 3, 3, 40}, {9, 5, 1, 64},
                  {37, 4, 2, 128}, {3, 2, 2, 256}, {7, 2, 1, 6},   {4, 3, 1, 248}, {2, 1, 1, 250}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int which = 0; which < 4; which++)
            check_qkv(shapes[i].tokens, shapes[i].heads, shapes[i].kv, shapes[i].dim,
                      which & 1 ? DTYPE_BF16 : DTYPE_F32, which == 3 ? DTYPE_F32 : DTYPE_BF16, which != 2);
    check_qkv(small ? 80 : 9001, 16, 8, 128, DTYPE_BF16, DTYPE_BF16, true);
}

/* ---- SwiGLU ---- */

static void check_swiglu(int64_t tokens, int64_t width, enum dtype act)
{
    struct array *y[2], *d_gate_up[2], *x = NULL, *dy = NULL;
    for (size_t shift = 0; shift < 2; shift++) {
        x = array_new(tokens * 2 * width, act, 40, 8.0, shift);
        dy = array_new(tokens * width, act, 41, 1.0, shift);
        y[shift] = array_new(tokens * width, act, 42, 0.0, shift);
        d_gate_up[shift] = array_new(tokens * 2 * width, act, 43, 0.0, shift);
        gpu->ops->swiglu_forward(gpu, &(struct swiglu_forward){tokens, width, x->d, y[shift]->d, act});
        gpu->ops->swiglu_backward(gpu, &(struct swiglu_backward){tokens, width, x->d, dy->d, d_gate_up[shift]->d, act});
    }
    expect_same(y[0], y[1]);
    expect_same(d_gate_up[0], d_gate_up[1]);
    cpu->ops->swiglu_forward(cpu, &(struct swiglu_forward){tokens, width, x->x, y[0]->x, act});
    cpu->ops->swiglu_backward(cpu, &(struct swiglu_backward){tokens, width, x->x, dy->x, d_gate_up[0]->x, act});
    expect_near("swiglu_forward", y[0], 0.0, 1e-6);
    expect_near("swiglu_backward", d_gate_up[0], 2e-6, 1e-6); /* 1 + g (1 - s) has a zero */
    arrays_free();
}

/* A row alone gets the bits that it gets among others. */
static void check_swiglu_rows(int64_t tokens, int64_t width)
{
    struct array *x = array_new(tokens * 2 * width, DTYPE_BF16, 44, 8.0, 0);
    struct array *all = array_new(tokens * width, DTYPE_BF16, 45, 0.0, 0);
    struct array *alone = array_new(tokens * width, DTYPE_BF16, 46, 0.0, 0);
    gpu->ops->swiglu_forward(gpu, &(struct swiglu_forward){tokens, width, x->d, all->d, DTYPE_BF16});
    for (int64_t t = 0; t < tokens; t++)
        gpu->ops->swiglu_forward(gpu, &(struct swiglu_forward){1, width, (uint16_t *)x->d + t * 2 * width,
                                                               (uint16_t *)alone->d + t * width, DTYPE_BF16});
    expect_same(all, alone);
    arrays_free();
}

static void test_swiglu(void **state)
{
    (void)state;
    const int64_t widths[] = {1, 7, 8, 100, 256, 3072, 4104};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        check_swiglu(3, widths[w], DTYPE_F32);
        check_swiglu(3, widths[w], DTYPE_BF16);
    }
    check_swiglu(1, 25600, DTYPE_BF16);
    if (!small)
        check_swiglu(3000, 3072, DTYPE_BF16);
    check_swiglu_rows(8, 3072); /* alone in small blocks, together in large ones */
    if (!small)
        check_swiglu_rows(256, 3072);

    /* Where exp(-g) would overflow or vanish. */
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        struct array *x = array_new(16, (enum dtype)type, 0, 0.0, 0);
        struct array *dy = array_new(8, (enum dtype)type, 0, 0.0, 0);
        struct array *y = array_new(8, (enum dtype)type, 0, 0.0, 0);
        struct array *dx = array_new(16, (enum dtype)type, 0, 0.0, 0);
        const float gates[8] = {-200.0f, -88.5f, 0.0f, 200.0f, -1e30f, 1e30f, -87.0f, 87.0f};
        const float wanted_y[8] = {0, 0, 0, 400, 0, 2e30f, 0, 174};
        const float wanted_gate[8] = {0, 0, 1, 2, 0, 2, 0, 2};
        const float wanted_up[8] = {0, 0, 0, 200, 0, 1e30f, 0, 87};
        for (int i = 0; i < 8; i++) {
            const float value[3] = {gates[i], 2.0f, 1.0f};
            for (int part = 0; part < 3; part++) {
                void *to = part == 2 ? dy->x : x->x;
                const int at_i = part == 1 ? 8 + i : i;
                if (type == DTYPE_F32)
                    ((float *)to)[at_i] = value[part];
                else
                    ((uint16_t *)to)[at_i] = bf16_from_f32(value[part]);
            }
        }
        push(x);
        push(dy);
        gpu->ops->swiglu_forward(gpu, &(struct swiglu_forward){1, 8, x->d, y->d, (enum dtype)type});
        gpu->ops->swiglu_backward(gpu, &(struct swiglu_backward){1, 8, x->d, dy->d, dx->d, (enum dtype)type});
        void *got = pull(y), *gradient = pull(dx);
        for (int i = 0; i < 8; i++) {
            const double have[3] = {at(got, y->type, i), at(gradient, y->type, i), at(gradient, y->type, 8 + i)};
            const double want[3] = {(double)wanted_y[i], (double)wanted_gate[i], (double)wanted_up[i]};
            for (int part = 0; part < 3; part++)
                assert_true(fabs(have[part] - want[part]) <= 1e-30 + 0x1p-7 * fabs(want[part]));
        }
        free(got);
        free(gradient);
        arrays_free();
    }
}

/* ---- conversion ---- */

static void check_convert(int64_t count, enum dtype from, enum dtype to, size_t shift)
{
    struct array *x = array_new(count, from, 0, 0.0, shift);
    struct array *y = array_new(count, to, 0, 0.0, shift);
    for (int64_t i = 0; i < count; i++) { /* any bits: infinities, numbers below the normal ones */
        struct rng_block block = rng_philox(3, RNG_TEST, 9, (uint64_t)i);
        memcpy((char *)x->x + (size_t)i * dtype_bytes(from), block.word, dtype_bytes(from));
    }
    push(x);
    gpu->ops->convert(gpu, &(struct convert){count, x->d, from, y->d, to});
    cpu->ops->convert(cpu, &(struct convert){count, x->x, from, y->x, to});
    unsigned char *got = pull(y);
    const size_t n = dtype_bytes(to);
    for (int64_t i = 0; i < count; i++) {
        /* Devices have one NaN where the CPU keeps some of its bits. */
        if (from != to && isnan(at(y->x, to, i)))
            assert_true(isnan(at(got, to, i)));
        else
            assert_memory_equal(got + (size_t)i * n, (char *)y->x + (size_t)i * n, n);
    }
    free(got);
    arrays_free();
}

static void test_convert(void **state)
{
    (void)state;
    const int64_t counts[] = {1, 7, 8, 9, 2048, 5003};
    for (int from = DTYPE_F32; from <= DTYPE_F16; from++)
        for (int to = DTYPE_F32; to <= DTYPE_BF16; to++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                check_convert(counts[c], (enum dtype)from, (enum dtype)to, c % 2);
}

/* ---- AdamW ---- */

/* One step of one weight in fp32 as kernel_adamw.c has it on processors with fused operations. */
static float stepped(const struct adamw *p, float w, float grad, float *m, float *v)
{
    const double b1 = (double)p->beta1, b2 = (double)p->beta2, rate = (double)p->learning_rate;
    const float g = grad * p->grad_scale;
    *m = fmaf((float)(1.0 - b1), g - *m, *m);
    *v = fmaf((float)(1.0 - b2), g * g, *v * p->beta2);
    const float bias = (float)sqrt(1.0 - pow(b2, (double)p->step));
    const float denominator = sqrtf(*v) / bias + p->eps;
    const float step = (float)(rate / (1.0 - pow(b1, (double)p->step)));
    return fmaf(-step, *m / denominator, w * (float)(1.0 - rate * (double)p->weight_decay));
}

/* A moment rounded at random, as kernel_adamw.c does it. */
static uint16_t rounded(float value, uint32_t random)
{
    return (uint16_t)((f32_bits(value) + (random & 0xffffu)) >> 16);
}

static void check_adamw(int64_t count, enum dtype type, enum dtype moment, size_t shift)
{
    struct array *w = array_new(count, type, 50, 0.1, shift);
    struct array *low = array_new(count, DTYPE_BF16, 51, 1e30, shift); /* any bits */
    struct array *grad = array_new(count, DTYPE_F32, 52, 1.0, shift);
    struct array *m = array_new(count, moment, 53, 0.0, shift);
    struct array *v = array_new(count, moment, 54, 0.0, shift);
    struct adamw p = {.count = count,
                      .weight = w->d,
                      .low = type == DTYPE_BF16 ? low->d : NULL,
                      .type = type,
                      .grad = grad->d,
                      .m = m->d,
                      .v = v->d,
                      .moment_type = moment,
                      .first = 64 + (int64_t)shift,
                      .grad_scale = 0.5f,
                      .learning_rate = 1e-3f,
                      .beta1 = 0.9f,
                      .beta2 = 0.99f,
                      .eps = 1e-8f,
                      .weight_decay = 0.1f};
    for (p.step = 1; p.step <= 3; p.step++) {
        gpu->ops->adamw(gpu, &p);
        for (int64_t i = 0; i < count; i++) {
            uint16_t *high = (uint16_t *)w->x + i;
            int16_t *rest = (int16_t *)low->x + i;
            float master = type == DTYPE_F32 ? ((float *)w->x)[i]
                                             : f32_from_bits(((uint32_t)*high << 16) + (uint32_t)(int32_t)*rest);
            float m1 = (float)at(m->x, moment, i), v1 = (float)at(v->x, moment, i);
            master = stepped(&p, master, ((float *)grad->x)[i], &m1, &v1);
            if (moment == DTYPE_F32) {
                ((float *)m->x)[i] = m1;
                ((float *)v->x)[i] = v1;
            } else {
                uint64_t element = (uint64_t)(p.first + i);
                uint32_t word = rng_philox(0, RNG_ROUND, (uint64_t)p.step, element / 4).word[element % 4];
                ((uint16_t *)m->x)[i] = rounded(m1, word);
                ((uint16_t *)v->x)[i] = rounded(v1, word >> 16);
            }
            if (type == DTYPE_F32) {
                ((float *)w->x)[i] = master;
            } else {
                *high = (uint16_t)((f32_bits(master) + 0x8000u) >> 16);
                *rest = (int16_t)(uint16_t)(f32_bits(master) & 0xffffu);
            }
        }
    }
    expect_equal("weight", w);
    expect_equal("low", low);
    expect_equal("m", m);
    expect_equal("v", v);
    arrays_free();
}

static void test_adamw(void **state)
{
    (void)state;
    const int64_t counts[] = {1, 3, 4, 5, 1024, 1027, 5000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t shift = 0; shift < 2; shift++) {
            check_adamw(counts[c], DTYPE_F32, DTYPE_F32, shift);
            check_adamw(counts[c], DTYPE_F32, DTYPE_BF16, shift);
            check_adamw(counts[c], DTYPE_BF16, DTYPE_F32, shift);
            check_adamw(counts[c], DTYPE_BF16, DTYPE_BF16, shift);
        }
}

static void test_sum_squares(void **state)
{
    (void)state;
    const int64_t counts[] = {0, 1, 5, 1023, 16384, 16385, 70001, small ? 70001 : 20000001};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        double sum[2];
        for (size_t shift = 0; shift < 2; shift++) {
            struct array *x = array_new(counts[c], DTYPE_F32, 60, 3.0, shift);
            long double exact = 0.0L; /* one chain of doubles would itself be off by more */
            for (int64_t i = 0; i < counts[c]; i++)
                exact += (double)((float *)x->x)[i] * (double)((float *)x->x)[i];
            const double wanted = (double)exact;
            sum[shift] = gpu->ops->sum_squares(gpu, x->d, counts[c]);
            assert_true(fabs(sum[shift] - wanted) <= 1e-12 * wanted);
            arrays_free();
        }
        assert_true(sum[0] == sum[1]);
    }
    /* Squares beyond fp32 are no overflow; a NaN shows. */
    struct array *x = array_new(2, DTYPE_F32, 0, 0.0, 0);
    ((float *)x->x)[0] = 3e30f, ((float *)x->x)[1] = 4e30f;
    push(x);
    assert_true(fabs(sqrt(gpu->ops->sum_squares(gpu, x->d, 2)) - 5e30) < 1e24);
    ((float *)x->x)[1] = NAN;
    push(x);
    assert_true(isnan(gpu->ops->sum_squares(gpu, x->d, 2)));
    arrays_free();
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    gpu->ops->embed_forward(gpu, &(struct embed_forward){.width = 8});
    gpu->ops->embed_backward(gpu, &(struct embed_backward){.width = 8, .vocab = 8});
    gpu->ops->rmsnorm_forward(gpu, &(struct rmsnorm_forward){.width = 8});
    gpu->ops->rmsnorm_backward(gpu, &(struct rmsnorm_backward){.width = 8});
    const struct qkv_forward qkv = {.n_heads = 1, .n_kv_heads = 1, .head_dim = 8};
    gpu->ops->qkv_forward(gpu, &qkv);
    gpu->ops->qkv_backward(gpu, &(struct qkv_backward){.forward = qkv});
    gpu->ops->swiglu_forward(gpu, &(struct swiglu_forward){.width = 8});
    gpu->ops->swiglu_backward(gpu, &(struct swiglu_backward){.width = 8});
    gpu->ops->convert(gpu, &(struct convert){.x_type = DTYPE_F32, .y_type = DTYPE_BF16});
    gpu->ops->adamw(gpu, &(struct adamw){.type = DTYPE_F32, .step = 1});
    must_be_well();
}

/* A row that no block can hold is an error of the backend, not a wrong result. */
static void test_too_wide(void **state)
{
    (void)state;
    enum { WIDTH = 8196 };
    cohort_error err;
    struct backend *other = NULL, *one = gpu;
    assert_int_equal(backend_cuda_create(&other, 0, &err), COHORT_OK);
    gpu = other;
    struct norm n = norm_new(2, WIDTH, DTYPE_BF16, DTYPE_BF16, false, 0);
    assert_int_equal(other->ops->check(other, &err), COHORT_OK);
    other->ops->rmsnorm_forward(other, &n.forward);
    assert_int_not_equal(other->ops->check(other, &err), COHORT_OK);
    assert_non_null(strstr(err.message, "rmsnorm_forward"));
    arrays_free();
    gpu = one;
    backend_destroy(other);
}

static int setup(void **state)
{
    (void)state;
    cohort_error err;
    return backend_cuda_create(&gpu, 0, &err) == COHORT_OK && backend_cpu_create(&cpu, NULL, 1, &err) == COHORT_OK ? 0
                                                                                                                   : -1;
}

static int teardown(void **state)
{
    (void)state;
    backend_destroy(gpu);
    backend_destroy(cpu);
    return 0;
}

int main(int argc, char **argv)
{
    small = argc > 1 && (strcmp(argv[1], "--small") == 0 || strcmp(argv[1], "--brief") == 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),       cmocka_unit_test(test_rmsnorm), cmocka_unit_test(test_qkv),
        cmocka_unit_test(test_swiglu),      cmocka_unit_test(test_convert), cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_sum_squares), cmocka_unit_test(test_nothing), cmocka_unit_test(test_too_wide),
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);
#ifdef COHORT_CUDA_EMULATED
    /* Warps and blocks in any order: a barrier that is missing shows. */
    cuda_emulation_set_order(CUDA_EMULATION_SHUFFLED, 5);
    failed += cmocka_run_group_tests(tests, setup, teardown);
#endif
    return failed;
}
