/* RMS norm against a double reference and finite differences, on every instruction set. */
#include "backend/ops.h"
#include "kernels/kernel_test.h"

static void (*const forward[])(struct backend *, const struct rmsnorm_forward *) = OPERATION(rmsnorm_forward);
static void (*const backward[])(struct backend *, const struct rmsnorm_backward *) = OPERATION(rmsnorm_backward);

static const float eps = 1e-3f; /* large enough to matter in the comparison */

static double reference_rstd(const double *x, int64_t width)
{
    double sum = 0.0;
    for (int64_t i = 0; i < width; i++)
        sum += x[i] * x[i];
    return 1.0 / sqrt(sum / (double)width + (double)eps);
}

static void check_forward(int isa, int64_t width, enum dtype gain_type, enum dtype y_type)
{
    enum { ROWS = 5 };
    struct backend backend = backend_with(1);
    const int32_t row[ROWS] = {3, 0, 4, 1, 2};
    const size_t y_bytes = (size_t)(ROWS * width) * dtype_bytes(y_type);
    float *x = guarded((size_t)(ROWS * width) * sizeof *x);
    void *gain = guarded((size_t)width * dtype_bytes(gain_type));
    void *y = guarded(y_bytes);
    fill(x, DTYPE_F32, ROWS * width, 1, 2.0);
    fill(gain, gain_type, width, 2, 1.5);
    struct rmsnorm_forward params = {ROWS, width, row, x, gain, gain_type, eps, y, y_type};
    forward[isa](&backend, &params);
    for (int r = 0; r < ROWS; r++) {
        double wide[1024];
        for (int64_t i = 0; i < width; i++)
            wide[i] = (double)x[row[r] * width + i];
        double rstd = reference_rstd(wide, width);
        for (int64_t i = 0; i < width; i++) {
            double wanted = wide[i] * rstd * at(gain, gain_type, i);
            expect_near(at(y, y_type, r * width + i), wanted, y_type, fabs(wanted), 5e-7);
        }
    }
    /* Two threads, and one row alone without a list: the same bits. */
    void *again = guarded(y_bytes);
    params.y = again;
    backend = backend_with(2);
    forward[isa](&backend, &params);
    assert_memory_equal(again, y, y_bytes);
    memset(again, 0, y_bytes);
    params.rows = 1;
    params.row = NULL;
    params.x = x + 3 * width;
    forward[isa](&backend, &params);
    assert_memory_equal(again, y, y_bytes / ROWS);
    guarded_free(again, y_bytes);
    guarded_free(x, (size_t)(ROWS * width) * sizeof *x);
    guarded_free(gain, (size_t)width * dtype_bytes(gain_type));
    guarded_free(y, y_bytes);
}

static void test_forward(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (int w = 0; w < N_WIDTHS; w++)
        for (int types = 0; types < 4; types++)
            check_forward(isa, test_width[w], types & 1 ? DTYPE_BF16 : DTYPE_F32, types & 2 ? DTYPE_BF16 : DTYPE_F32);
}

/* sum over rows of dy . y in double; the derivative by x and gain is what the backward gives. */
static double objective(const double *x, const double *gain, const float *dy, int64_t width)
{
    double rstd = reference_rstd(x, width);
    double sum = 0.0;
    for (int64_t i = 0; i < width; i++)
        sum += (double)dy[i] * x[i] * rstd * gain[i];
    return sum;
}

static void check_backward(int isa, int64_t width, enum dtype gain_type)
{
    enum { ROWS = 3 };
    struct backend backend = backend_with(1);
    const int32_t row[ROWS] = {2, 0, 3}; /* of four rows of x; row 1 gets nothing */
    const size_t bytes = (size_t)(4 * width) * sizeof(float);
    float *x = guarded(bytes);
    float *dx = guarded(bytes);
    float *dy = guarded(bytes);
    void *gain = guarded((size_t)width * sizeof(float));
    float *d_gain = guarded((size_t)width * sizeof(float));
    fill(x, DTYPE_F32, 4 * width, 3, 1.0);
    fill(dy, DTYPE_F32, ROWS * width, 4, 1.0);
    fill(dx, DTYPE_F32, 4 * width, 5, 1.0);
    fill(d_gain, DTYPE_F32, width, 6, 1.0);
    fill(gain, gain_type, width, 7, 1.5);
    struct rmsnorm_backward params = {ROWS, width, row, x, gain, gain_type, eps, dy, dx, d_gain};
    backward[isa](&backend, &params);

    double *wide = guarded((size_t)width * sizeof *wide);
    double *g = guarded((size_t)width * sizeof *g);
    double *gain_sum = guarded((size_t)width * sizeof *gain_sum);
    for (int64_t i = 0; i < width; i++)
        g[i] = at(gain, gain_type, i);
    const int64_t stride = width > 64 ? 37 : 1; /* differences are quadratic in the width */
    const double h = 1e-5;
    for (int r = 0; r < ROWS; r++) {
        for (int64_t i = 0; i < width; i++)
            wide[i] = (double)x[row[r] * width + i];
        double rstd = reference_rstd(wide, width);
        for (int64_t i = 0; i < width; i++)
            gain_sum[i] += (double)dy[r * width + i] * wide[i] * rstd;
        for (int64_t i = 0; i < width; i += stride) {
            double middle = wide[i];
            wide[i] = middle + h;
            double up = objective(wide, g, dy + r * width, width);
            wide[i] = middle - h;
            double down = objective(wide, g, dy + r * width, width);
            wide[i] = middle;
            double wanted = (up - down) / (2.0 * h) + (double)(float)number(5, row[r] * width + i);
            /* The difference itself is good to about 1e-7 at this h. rstd is up to 30 at width 1.
             */
            expect_near((double)dx[row[r] * width + i], wanted, DTYPE_F32, 1.0 + rstd, 2e-6);
        }
    }
    for (int64_t i = 0; i < width; i++) {
        assert_true(dx[width + i] == (float)number(5, width + i));
        expect_near((double)d_gain[i], gain_sum[i] + (double)(float)number(6, i), DTYPE_F32, 4.0, 3e-7);
    }
    guarded_free(wide, (size_t)width * sizeof *wide);
    guarded_free(g, (size_t)width * sizeof *g);
    guarded_free(gain_sum, (size_t)width * sizeof *gain_sum);
    guarded_free(x, bytes);
    guarded_free(dx, bytes);
    guarded_free(dy, bytes);
    guarded_free(gain, (size_t)width * sizeof(float));
    guarded_free(d_gain, (size_t)width * sizeof(float));
}

static void test_backward(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (int w = 0; w < N_WIDTHS; w++) {
        check_backward(isa, test_width[w], DTYPE_F32);
        check_backward(isa, test_width[w], DTYPE_BF16);
    }
}

/* 600 rows: ten blocks of the sum over rows, more than the threads do between two barriers. Threads
 * change nothing; neither do other rows change dx; and adding block by block in two calls is adding
 * in one. */
static void test_backward_order(void **state)
{
    (void)state;
    enum { ROWS = 600, WIDTH = 100 };
    static float x[ROWS * WIDTH], dy[ROWS * WIDTH], gain[WIDTH];
    static float dx[3][ROWS * WIDTH], d_gain[3][WIDTH];
    fill(x, DTYPE_F32, ROWS * WIDTH, 8, 1.0);
    fill(dy, DTYPE_F32, ROWS * WIDTH, 9, 1.0);
    fill(gain, DTYPE_F32, WIDTH, 10, 1.0);
    EACH_ISA(isa)
    {
        memset(dx, 0, sizeof dx);
        memset(d_gain, 0, sizeof d_gain);
        for (int run = 0; run < 3; run++) {
            struct backend backend = backend_with(run == 1 ? 2 : 1);
            struct rmsnorm_backward params = {ROWS, WIDTH, NULL, x, gain, DTYPE_F32, eps, dy, dx[run], d_gain[run]};
            if (run == 2) {
                params.rows = 192;
                backward[isa](&backend, &params);
                params.rows = ROWS - 192;
                params.x += 192 * WIDTH;
                params.dy += 192 * WIDTH;
                params.dx += 192 * WIDTH;
            }
            backward[isa](&backend, &params);
        }
        for (int run = 1; run < 3; run++) {
            assert_memory_equal(dx[run], dx[0], sizeof dx[0]);
            assert_memory_equal(d_gain[run], d_gain[0], sizeof d_gain[0]);
        }
        /* Without d_gain, dx is the same. */
        struct backend backend = backend_with(2);
        memset(dx[1], 0, sizeof dx[1]);
        struct rmsnorm_backward params = {ROWS, WIDTH, NULL, x, gain, DTYPE_F32, eps, dy, dx[1], NULL};
        backward[isa](&backend, &params);
        assert_memory_equal(dx[1], dx[0], sizeof dx[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_backward_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
