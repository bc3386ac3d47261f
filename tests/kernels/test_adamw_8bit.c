/* AdamW with moments in 8 bits: a table worked out by hand, codes and weights against the formula in plain C bit for bit,
 * and what a code book must be, on every backend. */
#include "kernels/kernel_test.h"

#include <stdlib.h>

enum { BOOK = 256 };

/* Ascending: for i = 0 .. 6 the middles of the cells that [0.1, 1] is cut into, times 10^(i - 6). */
static void book_of(float *book, bool is_signed)
{
    int n = 0;
    for (int i = 0; i < 7; i++) {
        const int cells = is_signed ? 1 << i : 2 << i;
        for (int c = 0; c < cells; c++) {
            const double middle = (0.1 + 0.9 * (c + 0.5) / cells) * pow(10.0, i - 6);
            book[n++] = (float)middle;
            if (is_signed)
                book[n++] = (float)-middle;
        }
    }
    book[n++] = 0.0f;
    book[n++] = 1.0f;
    assert_int_equal(n, BOOK);
    for (int i = 1; i < n; i++) /* insertion */
        for (int j = i; j > 0 && book[j - 1] > book[j]; j--) {
            const float swap = book[j];
            book[j] = book[j - 1];
            book[j - 1] = swap;
        }
}

/* By looking at all codes. */
static uint8_t nearest(const float *book, float x)
{
    int best = 0;
    for (int i = 1; i < BOOK; i++)
        if (fabs((double)book[i] - (double)x) < fabs((double)book[best] - (double)x))
            best = i;
    return (uint8_t)best;
}

static const struct array *bytes_of(int64_t count)
{
    const struct array *a = array_new((count + 1) / 2, DTYPE_BF16, 0, 0.0);
    memset(a->x, 0, a->bytes);
    push(a);
    return a;
}

static const struct array *floats_of(int64_t count)
{
    const struct array *a = array_new(count, DTYPE_F32, 0, 0.0);
    memset(a->x, 0, a->bytes);
    push(a);
    return a;
}

struct state {
    const struct array *w, *low, *grad, *m, *v, *most_m, *most_v, *books;
    struct adamw_8bit p;
};

static void open_state(struct state *s, int64_t count, enum dtype type)
{
    const int64_t blocks = (count + ADAMW_8BIT_BLOCK - 1) / ADAMW_8BIT_BLOCK;
    float books[2 * BOOK];
    book_of(books, true);
    book_of(books + BOOK, false);
    s->w = array_new(count, type, 70, 0.5);
    s->low = array_new(count, DTYPE_BF16, 71, 1e30);
    s->grad = array_new(count, DTYPE_F32, 72, 1.0);
    s->m = bytes_of(count);
    s->v = bytes_of(count);
    s->most_m = floats_of(blocks);
    s->most_v = floats_of(blocks);
    s->books = array_of(books, 2 * BOOK, DTYPE_F32);
    s->p = (struct adamw_8bit){.step = {.count = count,
                                        .weight = s->w->d,
                                        .low = type == DTYPE_BF16 ? s->low->d : NULL,
                                        .type = type,
                                        .grad = s->grad->d,
                                        .m = s->m->d,
                                        .v = s->v->d,
                                        .grad_scale = 1.0f,
                                        .learning_rate = 0.1f,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.999f,
                                        .eps = 1e-8f,
                                        .weight_decay = 0.1f},
                               .largest_m = s->most_m->d,
                               .largest_v = s->most_v->d,
                               .books = s->books->d};
}

/* Three steps of six weights, the decay first: weights, codes and largest magnitudes. */
static void test_table(void **state)
{
    (void)state;
    static const float start[6] = {1, -.5f, .25f, .5f, .75f, -1};
    static const float grads[3][6] = {
        {.1f, -.2f, .3f, .4f, .05f, -.6f}, {-.3f, .1f, .2f, .2f, -.4f, .5f}, {.05f, .6f, -.1f, -.2f, .3f, .1f}};
    static const double wanted[3][6] = {{.89, -.395, .1475, .395, .6425, -.89},
                                        {.9309671, -.3645966, .0490599, .2972848, .7014809, -.8776497},
                                        {.9492056, -.4140382, -.006384, .2544959, .6966383, -.8743317}};
    static const uint8_t codes_m[6] = {52, 255, 227, 224, 88, 192}, codes_v[6] = {136, 206, 145, 167, 170, 255};
    EACH_BACKEND
    {
        struct state s;
        open_state(&s, 6, DTYPE_F32);
        memcpy(s.w->x, start, sizeof start);
        push(s.w);
        for (int step = 0; step < 3; step++) {
            memcpy(s.grad->x, grads[step], sizeof grads[step]);
            push(s.grad);
            s.p.step.step = step + 1;
            backend->ops->adamw_8bit(backend, &s.p);
            pull(s.w);
            for (int i = 0; i < 6; i++)
                if (fabs(get(s.w, i) - wanted[step][i]) > 1e-6)
                    fail_msg("%s: step %d, weight %d: %.8g, expected %.8g", provider, step + 1, i, get(s.w, i),
                             wanted[step][i]);
        }
        pull(s.m);
        pull(s.v);
        pull(s.most_m);
        pull(s.most_v);
        assert_memory_equal(s.m->x, codes_m, 6);
        assert_memory_equal(s.v->x, codes_v, 6);
        assert_true(fabs(get(s.most_m, 0) - .0531693) < 1e-7 && fabs(get(s.most_v, 0) - 6.1903e-4) < 1e-8);
        arrays_free();
    }
}

/* ---- Against the formula ---- */

static void step_of(const struct adamw *p, const float *books, float *w, const float *grad, uint8_t *m, uint8_t *v,
                    float *most_m, float *most_v, int64_t n)
{
    float m1[ADAMW_8BIT_BLOCK], v1[ADAMW_8BIT_BLOCK], largest_m = 0.0f, largest_v = 0.0f;
    const double b1 = (double)p->beta1, b2 = (double)p->beta2, rate = (double)p->learning_rate;
    for (int64_t i = 0; i < n; i++) {
        const float g = grad[i] * p->grad_scale, old_m = books[m[i]] * *most_m, old_v = books[BOOK + v[i]] * *most_v;
        m1[i] = fmaf((float)(1.0 - b1), g - old_m, old_m);
        v1[i] = fmaf((float)(1.0 - b2), g * g, old_v * p->beta2);
        const float bias = (float)sqrt(1.0 - pow(b2, (double)p->step));
        const float denominator = sqrtf(v1[i]) / bias + p->eps;
        const float step = (float)(rate / (1.0 - pow(b1, (double)p->step)));
        w[i] = fmaf(-step, m1[i] / denominator, w[i] * (float)(1.0 - rate * (double)p->weight_decay));
        largest_m = fmaxf(largest_m, fabsf(m1[i]));
        largest_v = fmaxf(largest_v, fabsf(v1[i]));
    }
    *most_m = largest_m;
    *most_v = largest_v;
    for (int64_t i = 0; i < n; i++) {
        m[i] = nearest(books, largest_m > 0.0f ? m1[i] / largest_m : 0.0f);
        v[i] = nearest(books + BOOK, largest_v > 0.0f ? v1[i] / largest_v : 0.0f);
    }
}

static void check_formula(int64_t count, enum dtype type, bool zeros)
{
    const int64_t blocks = (count + ADAMW_8BIT_BLOCK - 1) / ADAMW_8BIT_BLOCK;
    struct state s;
    open_state(&s, count, type);
    if (zeros) { /* a block without any gradient */
        memset(s.grad->x, 0, s.grad->bytes);
        push(s.grad);
    }
    float *w = malloc((size_t)count * sizeof *w), *most = calloc((size_t)blocks * 2, sizeof *most);
    uint8_t *codes = calloc((size_t)count * 2, 1);
    assert_true(w != NULL && most != NULL && codes != NULL);
    for (int64_t i = 0; i < count; i++)
        w[i] = type == DTYPE_F32 ? ((float *)s.w->x)[i]
                                 : f32_from_bits(((uint32_t)((uint16_t *)s.w->x)[i] << 16) +
                                                 (uint32_t)(int32_t)((int16_t *)s.low->x)[i]);
    for (int step = 1; step <= 4; step++) {
        s.p.step.step = step;
        s.p.step.grad_scale = 1.0f / (float)step;
        backend->ops->adamw_8bit(backend, &s.p);
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t i = b * ADAMW_8BIT_BLOCK, left = count - i;
            step_of(&s.p.step, s.books->x, w + i, (float *)s.grad->x + i, codes + i, codes + count + i, most + b,
                    most + blocks + b, left < ADAMW_8BIT_BLOCK ? left : ADAMW_8BIT_BLOCK);
        }
    }
    pull(s.w);
    pull(s.low);
    pull(s.m);
    pull(s.v);
    pull(s.most_m);
    pull(s.most_v);
    for (int64_t i = 0; i < count; i++) {
        const float got = type == DTYPE_F32 ? ((float *)s.w->x)[i]
                                            : f32_from_bits(((uint32_t)((uint16_t *)s.w->x)[i] << 16) +
                                                            (uint32_t)(int32_t)((int16_t *)s.low->x)[i]);
        if (f32_bits(got) != f32_bits(w[i]))
            fail_msg("%s: weight %lld of %lld: %.9g, expected %.9g", provider, (long long)i, (long long)count,
                     (double)got, (double)w[i]);
    }
    assert_memory_equal(s.m->x, codes, (size_t)count);
    assert_memory_equal(s.v->x, codes + count, (size_t)count);
    assert_memory_equal(s.most_m->x, most, (size_t)blocks * sizeof *most);
    assert_memory_equal(s.most_v->x, most + blocks, (size_t)blocks * sizeof *most);
    free(w);
    free(most);
    free(codes);
    arrays_free();
}

static void test_formula(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 255, 256, 257, 1000};
    EACH_BACKEND
    {
        if (strcmp(provider, "portable") == 0)
            continue; /* without fused operations */
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
                use_threads(1 + (int)c % 2);
                check_formula(counts[c], (enum dtype)type, c == 1);
            }
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_formula)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
