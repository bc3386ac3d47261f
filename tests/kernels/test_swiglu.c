/* SwiGLU and its gradient against double references, on every backend; the same bits for a row alone, among others and
 * at any address. */
#include "kernels/kernel_test.h"

static double silu(double x) { return x / (1.0 + exp(-x)); }

/* A GPU's expf is off by up to 2 units in the last place, twice the CPU's. */
static double slack(double cpu) { return test_options.cuda ? 2.0 * cpu : cpu; }

static void check(int64_t tokens, int64_t width, enum dtype act)
{
    const int64_t n = tokens * width;
    const struct array *x = array_new(2 * n, act, 4, 8.0), *dy = array_new(n, act, 5, 1.0);
    const struct array *y = array_new(n, act, 0, 0.0), *dx = array_new(2 * n, act, 0, 0.0);
    struct swiglu_forward forward = {tokens, width, x->d, y->d, act};
    struct swiglu_backward backward = {tokens, width, x->d, dy->d, dx->d, act};
    use_threads(1);
    backend->ops->swiglu_forward(backend, &forward);
    backend->ops->swiglu_backward(backend, &backward);
    pull(y);
    pull(dx);
    const double h = 1e-5;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < width; i++) {
            const int64_t g_at = t * 2 * width + i, u_at = g_at + width;
            const double g = get(x, g_at), u = get(x, u_at), d = get(dy, t * width + i);
            expect_near(get(y, t * width + i), silu(g) * u, act, fabs(silu(g) * u), slack(5e-7));
            const double d_gate = d * u * (silu(g + h) - silu(g - h)) / (2.0 * h), d_up = d * silu(g);
            /* The difference quotient is good to about 1e-9 * 8. */
            expect_near(get(dx, g_at), d_gate, act, fabs(d * u), slack(1e-6));
            expect_near(get(dx, u_at), d_up, act, fabs(d_up), slack(5e-7));
        }
    /* Two threads, another address, and the last token alone: the same bits. */
    const struct array *x2 = array_shifted(2 * n, act, 4, 8.0, 1), *dy2 = array_shifted(n, act, 5, 1.0, 1);
    const struct array *y2 = array_shifted(n, act, 0, 0.0, 1), *dx2 = array_shifted(2 * n, act, 0, 0.0, 1);
    use_threads(2);
    backend->ops->swiglu_forward(backend, &(struct swiglu_forward){tokens, width, x2->d, y2->d, act});
    backend->ops->swiglu_backward(backend, &(struct swiglu_backward){tokens, width, x2->d, dy2->d, dx2->d, act});
    expect_same("forward", y, y2);
    expect_same("backward", dx, dx2);
    const struct array *alone = array_new(width, act, 0, 0.0);
    const size_t row = (size_t)width * dtype_bytes(act), last = (size_t)(tokens - 1);
    backend->ops->swiglu_forward(
        backend, &(struct swiglu_forward){1, width, (const char *)x->d + 2 * row * last, alone->d, act});
    pull(alone);
    assert_memory_equal(alone->x, (const char *)y->x + row * last, row);
    arrays_free();
}

static void test_reference(void **state)
{
    (void)state;
    static const int64_t wide[] = {256, 3072, 4104};
    EACH_BACKEND
    for (int act = DTYPE_F32; act <= DTYPE_BF16; act++) {
        for (int w = 0; w < N_WIDTHS; w++)
            check(5, test_width[w], (enum dtype)act);
        for (int w = 0; w < 3; w++)
            check(3, wide[w], (enum dtype)act);
    }
    EACH_BACKEND
    {
        check(1, 25600, DTYPE_BF16);
        if (test_options.cuda && !test_options.small)
            check(3000, 3072, DTYPE_BF16);
    }
}

/* Every row alone gets the bits that it gets among others: on a GPU alone in small blocks, together in large ones. */
static void test_rows(void **state)
{
    (void)state;
    const int64_t width = 3072;
    EACH_BACKEND
    for (int64_t tokens = 8; tokens <= (test_options.small ? 8 : 256); tokens *= 32) {
        const struct array *x = array_new(tokens * 2 * width, DTYPE_BF16, 44, 8.0);
        const struct array *all = array_new(tokens * width, DTYPE_BF16, 0, 0.0);
        const struct array *alone = array_new(tokens * width, DTYPE_BF16, 0, 0.0);
        backend->ops->swiglu_forward(backend, &(struct swiglu_forward){tokens, width, x->d, all->d, DTYPE_BF16});
        for (int64_t t = 0; t < tokens; t++)
            backend->ops->swiglu_forward(backend,
                                         &(struct swiglu_forward){1, width, (const uint16_t *)x->d + t * 2 * width,
                                                                  (uint16_t *)alone->d + t * width, DTYPE_BF16});
        expect_same("rows alone", all, alone);
        arrays_free();
    }
}

/* Where exp(-g) would overflow or vanish. The CPU's exp stays what it is at 88: beyond, silu is 2^-127 of the gate in
 * place of 0. */
static void test_extremes(void **state)
{
    (void)state;
    enum { N = 8 };
    static const float gate[N] = {-200.0f, -88.5f, 0.0f, 200.0f, -87.0f, 87.0f, -1e30f, 1e30f};
    static const float y[N] = {0, 0, 0, 400, 0, 174, 0, 2e30f};
    static const float d_gate[N] = {0, 0, 1, 2, 0, 2, 0, 2}, d_up[N] = {0, 0, 0, 200, 0, 87, 0, 1e30f};
    const int n = test_options.cuda ? N : 6;
    EACH_BACKEND
    for (int act = DTYPE_F32; act <= DTYPE_BF16; act++) {
        const struct array *x = array_new(2 * n, (enum dtype)act, 0, 0.0), *dy = array_new(n, (enum dtype)act, 0, 0.0);
        const struct array *out = array_new(n, (enum dtype)act, 0, 0.0),
                           *dx = array_new(2 * n, (enum dtype)act, 0, 0.0);
        for (int i = 0; i < n; i++) {
            set(x, i, gate[i]);
            set(x, n + i, 2.0f);
            set(dy, i, 1.0f);
        }
        push(x);
        push(dy);
        backend->ops->swiglu_forward(backend, &(struct swiglu_forward){1, n, x->d, out->d, (enum dtype)act});
        backend->ops->swiglu_backward(backend, &(struct swiglu_backward){1, n, x->d, dy->d, dx->d, (enum dtype)act});
        pull(out);
        pull(dx);
        for (int i = 0; i < n; i++) {
            const double have[3] = {get(out, i), get(dx, i), get(dx, n + i)};
            const double want[3] = {(double)y[i], (double)d_gate[i], (double)d_up[i]};
            for (int part = 0; part < 3; part++) {
                /* Nothing is rounded but the input: 88.5 and 1e30 are no bf16. */
                const double bound = 1e-30 + (act == DTYPE_BF16 ? 0x1p-7 * fabs(want[part]) : 0.0);
                if (!(fabs(have[part] - want[part]) <= bound))
                    fail_msg("%s: gate %g, output %d is %g, expected %g", provider, (double)gate[i], part, have[part],
                             want[part]);
            }
        }
        arrays_free();
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->swiglu_forward(backend, &(struct swiglu_forward){.width = 8});
        backend->ops->swiglu_backward(backend, &(struct swiglu_backward){.width = 8});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
