/* RMS norm and its gradient against a double reference, which is held by finite differences, on every backend; the same
 * bits for a row alone, among others and at any address. */
#include "kernels/kernel_test.h"

static const float eps = 1e-3f; /* large enough to matter in the comparison */

/* ---- Reference: one row of width numbers ---- */

static double reference_rstd(const double *x, int64_t width)
{
    double sum = 0.0;
    for (int64_t i = 0; i < width; i++)
        sum += x[i] * x[i];
    return 1.0 / sqrt(sum / (double)width + (double)eps);
}

/* sum of dy . y; the derivative by x is what the backward gives. */
static double objective(const double *x, const double *gain, const double *dy, int64_t width)
{
    double rstd = reference_rstd(x, width);
    double sum = 0.0;
    for (int64_t i = 0; i < width; i++)
        sum += dy[i] * x[i] * rstd * gain[i];
    return sum;
}

/* dx, and d_gain added to. */
static void reference_backward(const double *x, const double *gain, const double *dy, int64_t width, double *dx,
                               double *d_gain)
{
    const double rstd = reference_rstd(x, width);
    double mean = 0.0;
    for (int64_t i = 0; i < width; i++)
        mean += gain[i] * dy[i] * x[i] * rstd / (double)width;
    for (int64_t i = 0; i < width; i++) {
        dx[i] = rstd * (gain[i] * dy[i] - x[i] * rstd * mean);
        d_gain[i] += dy[i] * x[i] * rstd;
    }
}

static void test_reference_differences(void **state)
{
    (void)state;
    enum { WIDTH = 23 };
    double x[WIDTH], gain[WIDTH], dy[WIDTH], dx[WIDTH], d_gain[WIDTH] = {0};
    for (int i = 0; i < WIDTH; i++) {
        x[i] = number(3, i);
        gain[i] = 1.5 * number(7, i);
        dy[i] = number(4, i);
    }
    for (int width = 1; width <= WIDTH; width += 11) {
        memset(d_gain, 0, sizeof d_gain);
        reference_backward(x, gain, dy, width, dx, d_gain);
        const double h = 1e-5;
        for (int i = 0; i < width; i++)
            for (int part = 0; part < 2; part++) {
                double *variable = part == 0 ? &x[i] : &gain[i];
                const double middle = *variable;
                *variable = middle + h;
                const double up = objective(x, gain, dy, width);
                *variable = middle - h;
                const double down = objective(x, gain, dy, width);
                *variable = middle;
                assert_true(fabs((up - down) / (2.0 * h) - (part == 0 ? dx[i] : d_gain[i])) < 1e-7);
            }
    }
}

/* ---- Cases ---- */

struct norm {
    int64_t rows, width, x_rows;
    const int32_t *list; /* [rows], NULL: all rows in order */
    const struct array *x, *gain, *y, *dy, *dx, *d_gain;
    struct rmsnorm_forward forward;
    struct rmsnorm_backward backward;
};

static struct norm norm_new(int64_t rows, int64_t width, int64_t x_rows, const int32_t *list, enum dtype gain_type,
                            enum dtype y_type, size_t shift)
{
    struct norm n = {.rows = rows,
                     .width = width,
                     .x_rows = x_rows,
                     .list = list,
                     .x = array_shifted(x_rows * width, DTYPE_F32, 1, 2.0, shift),
                     .gain = array_shifted(width, gain_type, 2, 1.5, shift),
                     .y = array_shifted(rows * width, y_type, 0, 0.0, shift),
                     .dy = array_shifted(rows * width, DTYPE_F32, 4, 1.0, shift),
                     .dx = array_shifted(x_rows * width, DTYPE_F32, 5, 1.0, shift),
                     .d_gain = array_shifted(width, DTYPE_F32, 6, 1.0, shift)};
    const int32_t *row = list != NULL ? ids_of(list, rows)->d : NULL;
    n.forward = (struct rmsnorm_forward){rows, width, row, n.x->d, n.gain->d, gain_type, eps, n.y->d, y_type};
    n.backward =
        (struct rmsnorm_backward){rows, width, row, n.x->d, n.gain->d, gain_type, eps, n.dy->d, n.dx->d, n.d_gain->d};
    return n;
}

static int64_t row_of(const struct norm *n, int64_t r) { return n->list != NULL ? n->list[r] : r; }

static void run(const struct norm *n)
{
    backend->ops->rmsnorm_forward(backend, &n->forward);
    backend->ops->rmsnorm_backward(backend, &n->backward);
}

static void reference_check(const struct norm *n)
{
    const int64_t width = n->width;
    double *x = widened(n->x), *gain = widened(n->gain), *dy = widened(n->dy);
    double *dx = malloc((size_t)width * sizeof *dx), *d_gain = calloc((size_t)width, sizeof *d_gain);
    bool *listed = calloc((size_t)n->x_rows, sizeof *listed);
    assert_true(dx && d_gain && listed);
    pull(n->y);
    pull(n->dx);
    pull(n->d_gain);
    /* A GPU sums in other chains. */
    const double y_slack = test_options.cuda ? 2e-6 : 5e-7;
    for (int64_t r = 0; r < n->rows; r++) {
        const int64_t at_row = row_of(n, r) * width;
        const double rstd = reference_rstd(x + at_row, width);
        reference_backward(x + at_row, gain, dy + r * width, width, dx, d_gain);
        listed[row_of(n, r)] = true;
        for (int64_t i = 0; i < width; i++) {
            const double wanted = x[at_row + i] * rstd * gain[i], start = was(n->dx, at_row + i);
            expect_near(get(n->y, r * width + i), wanted, n->y->type, fabs(wanted), y_slack);
            /* rstd is up to 30 at width 1. */
            expect_near(get(n->dx, at_row + i), dx[i] + start, DTYPE_F32, 1.0 + rstd, 2e-6);
        }
    }
    for (int64_t r = 0; r < n->x_rows; r++) /* nobody's */
        for (int64_t i = 0; i < width && !listed[r]; i++)
            assert_true(get(n->dx, r * width + i) == was(n->dx, r * width + i));
    for (int64_t i = 0; i < width; i++) {
        const double wanted = d_gain[i] + was(n->d_gain, i);
        expect_near(get(n->d_gain, i), wanted, DTYPE_F32, 4.0, 3e-7 + 5e-8 * (double)n->rows);
    }
    free(x), free(gain), free(dy), free(dx), free(d_gain), free(listed);
}

static void check(int64_t rows, int64_t width, int64_t x_rows, const int32_t *list, enum dtype gain_type,
                  enum dtype y_type)
{
    use_threads(1);
    struct norm n = norm_new(rows, width, x_rows, list, gain_type, y_type, 0);
    run(&n);
    reference_check(&n);
    /* Two threads elsewhere in memory, and without a gradient of the gain: the same bits. */
    use_threads(2);
    struct norm moved = norm_new(rows, width, x_rows, list, gain_type, y_type, 1);
    run(&moved);
    expect_same("y", n.y, moved.y);
    expect_same("dx", n.dx, moved.dx);
    expect_same("d_gain", n.d_gain, moved.d_gain);
    const struct array *dx = array_new(x_rows * width, DTYPE_F32, 5, 1.0);
    n.backward.dx = dx->d;
    n.backward.d_gain = NULL;
    backend->ops->rmsnorm_backward(backend, &n.backward);
    expect_same("dx without d_gain", n.dx, dx);
    /* The first and the last row alone, without a list. */
    for (int64_t r = 0; r<rows; r += rows> 1 ? rows - 1 : 1) {
        const struct array *alone = array_new(width, y_type, 0, 0.0);
        n.forward.rows = 1;
        n.forward.row = NULL;
        n.forward.x = (const float *)n.x->d + row_of(&n, r) * width;
        n.forward.y = alone->d;
        backend->ops->rmsnorm_forward(backend, &n.forward);
        pull(alone);
        assert_memory_equal(alone->x, (char *)n.y->x + (size_t)(r * width) * dtype_bytes(y_type), alone->bytes);
    }
    arrays_free();
}

static void test_reference(void **state)
{
    (void)state;
    static const int32_t list[] = {3, 0, 4, 1, 2}, part[] = {2, 0, 3};
    static const int64_t wide[] = {3, 4, 128, 129, 1028, 4096, 4100, 5120, 8192};
    enum { N_WIDE = sizeof wide / sizeof *wide, ROWS = 17 };
    int32_t reversed[ROWS];
    for (int32_t i = 0; i < ROWS; i++)
        reversed[i] = ROWS - 1 - i;
    EACH_BACKEND
    for (int types = 0; types < 4; types++) {
        const enum dtype gain = types & 1 ? DTYPE_BF16 : DTYPE_F32, y = types & 2 ? DTYPE_BF16 : DTYPE_F32;
        for (int w = 0; w < N_WIDTHS; w++) {
            check(5, test_width[w], 5, list, gain, y);
            check(3, test_width[w], 4, part, gain, y);
        }
        for (int w = 0; w < N_WIDE; w++) {
            const int rows = types == 0 ? 1 : w < 4 ? ROWS : 9;
            check(rows, wide[w], rows, types >= 2 ? reversed + ROWS - rows : NULL, gain, y);
        }
    }
}

/* Many rows: on the CPU more blocks of the sum over rows than the threads do between two barriers, on a GPU blocks of
 * nine rows. */
static void test_many_rows(void **state)
{
    (void)state;
    enum { MOST = 20011 };
    static int32_t reversed[MOST];
    for (int32_t i = 0; i < 9001; i++)
        reversed[i] = 9000 - i;
    EACH_BACKEND
    {
        check(600, 100, 600, NULL, DTYPE_F32, DTYPE_F32);
        check(9001, 4, 9001, reversed, DTYPE_BF16, DTYPE_BF16);
        if (test_options.cuda && !test_options.small)
            check(MOST, 1024, MOST, NULL, DTYPE_BF16, DTYPE_BF16);
    }
}

/* Other rows do not change dx; and on the CPU, whose blocks are 64 rows whatever their number, adding block by block in
 * two calls is adding in one. */
static void test_backward_in_two_calls(void **state)
{
    (void)state;
    enum { ROWS = 600, WIDTH = 100, FIRST = 192 };
    EACH_BACKEND
    {
        const struct norm whole = norm_new(ROWS, WIDTH, ROWS, NULL, DTYPE_F32, DTYPE_F32, 0);
        struct norm parts = norm_new(ROWS, WIDTH, ROWS, NULL, DTYPE_F32, DTYPE_F32, 0);
        backend->ops->rmsnorm_backward(backend, &whole.backward);
        parts.backward.rows = FIRST;
        backend->ops->rmsnorm_backward(backend, &parts.backward);
        parts.backward.rows = ROWS - FIRST;
        parts.backward.x += FIRST * WIDTH;
        parts.backward.dy += FIRST * WIDTH;
        parts.backward.dx += FIRST * WIDTH;
        backend->ops->rmsnorm_backward(backend, &parts.backward);
        expect_same("dx", whole.dx, parts.dx);
        if (!test_options.cuda)
            expect_same("d_gain", whole.d_gain, parts.d_gain);
        arrays_free();
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->rmsnorm_forward(backend, &(struct rmsnorm_forward){.width = 8});
        backend->ops->rmsnorm_backward(backend, &(struct rmsnorm_backward){.width = 8});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_differences),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_backward_in_two_calls),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
