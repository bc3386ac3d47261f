/* Adafactor's means and scaled gradients against double references, and the same bits from any number of threads, on
 * every backend. */
#include "kernels/kernel_test.h"

enum { MOST_ROWS = 70, MOST_COLUMNS = 200 };

struct state {
    const struct array *grad, *row, *col, *mean;
};

static struct state run(int64_t rows, int64_t columns, bool factored)
{
    struct state s = {array_new(rows * columns, DTYPE_F32, 100, 1.0),
                      array_new(factored ? rows : rows * columns, DTYPE_F32, 101, 0.0),
                      array_new(columns, DTYPE_F32, 102, 0.0), array_new(1, DTYPE_F32, 103, 0.0)};
    for (int step = 0; step < 2; step++)
        backend->ops->adafactor_means(backend, &(struct adafactor_means){.rows = rows,
                                                                         .columns = columns,
                                                                         .grad = s.grad->d,
                                                                         .scale = 0.5f,
                                                                         .floor = 1e-30f,
                                                                         .keep = 0.5f * (float)step,
                                                                         .mix = 1.0f - 0.5f * (float)step,
                                                                         .row = s.row->d,
                                                                         .col = factored ? s.col->d : NULL,
                                                                         .row_mean = s.mean->d});
    backend->ops->adafactor_scale(backend, &(struct adafactor_scale){.rows = rows,
                                                                     .columns = columns,
                                                                     .grad = s.grad->d,
                                                                     .scale = 0.5f,
                                                                     .row = s.row->d,
                                                                     .col = factored ? s.col->d : NULL,
                                                                     .row_mean = s.mean->d});
    return s;
}

static double square(const struct array *grad, int64_t i) { return 0.25 * was(grad, i) * was(grad, i); }

static void check(int64_t rows, int64_t columns, bool factored)
{
    use_threads(1);
    const struct state s = run(rows, columns, factored);
    double row[MOST_ROWS] = {0}, col[MOST_COLUMNS] = {0}, mean = 0.0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++) {
            row[r] += square(s.grad, r * columns + j) / (double)columns;
            col[j] += square(s.grad, r * columns + j) / (double)rows;
        }
    for (int64_t r = 0; r < rows; r++)
        mean += row[r] / (double)rows;
    pull(s.grad);
    pull(s.row);
    pull(s.col);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++) {
            const int64_t i = r * columns + j;
            const double scale = factored ? sqrt(row[r] / mean) * sqrt(col[j]) : sqrt(square(s.grad, i));
            expect_near(get(s.grad, i), 0.5 * was(s.grad, i) / scale, DTYPE_F32, fabs(0.5 * was(s.grad, i) / scale),
                        1e-6);
        }
    for (int64_t r = 0; r < rows && factored; r++)
        expect_near(get(s.row, r), row[r], DTYPE_F32, row[r], 1e-6);
    for (int64_t j = 0; j < columns && factored; j++)
        expect_near(get(s.col, j), col[j], DTYPE_F32, col[j], 1e-6);
    use_threads(2);
    const struct state other = run(rows, columns, factored);
    expect_same("the gradient", s.grad, other.grad);
    expect_same("the row means", s.row, other.row);
    if (factored)
        expect_same("the column means", s.col, other.col);
    arrays_free();
}

static void test_reference(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {1, 200}, {70, 1}, {33, 65}, {70, 200}, {2, 31}};
    EACH_BACKEND
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check(sizes[i][0], sizes[i][1], true);
        check(sizes[i][0], sizes[i][1], false);
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
