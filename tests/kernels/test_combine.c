/* What a token's experts computed added to the residual stream, and the gradient of their weights, against double
 * references on every backend; the same bits for a token alone, among others, with any number of threads. */
#include "kernels/kernel_test.h"

#include "backend/expert_ops.h"

/* Row of a pair: a permutation that is not the identity. */
static void shuffle(int32_t *row, int32_t *pair, int64_t pairs)
{
    const int64_t step = pairs % 5 != 0 ? 5 : pairs % 3 != 0 ? 3 : 7;
    for (int64_t i = 0; i < pairs; i++) {
        row[i] = (int32_t)((i * step + 1) % pairs);
        pair[row[i]] = (int32_t)i;
    }
}

static void check(int64_t tokens, int32_t chosen, int64_t width, enum dtype type, bool weighted)
{
    const int64_t pairs = tokens * chosen;
    int32_t row[256], pair[256];
    assert_true(pairs <= 256);
    shuffle(row, pair, pairs);
    const struct array *rows = ids_of(row, pairs), *x = array_new(pairs * width, type, 2, 1.0),
                       *weight = array_new(pairs, DTYPE_F32, 3, 1.0),
                       *before = array_new(tokens * width, DTYPE_F32, 4, 2.0),
                       *y = array_new(tokens * width, DTYPE_F32, 0, 0.0),
                       *in_place = array_new(tokens * width, DTYPE_F32, 4, 2.0);
    struct combine_forward f = {.tokens = tokens,
                                .width = width,
                                .chosen = chosen,
                                .row = rows->d,
                                .weight = weighted ? weight->d : NULL,
                                .x = x->d,
                                .x_type = type,
                                .before = before->d,
                                .y = y->d};
    use_threads(1);
    backend->ops->combine_forward(backend, &f);
    f.before = f.y = in_place->d;
    use_threads(3);
    backend->ops->combine_forward(backend, &f);
    expect_same("in place", y, in_place);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < width; i++) {
            double sum = get(before, t * width + i), scale = fabs(sum);
            for (int32_t j = 0; j < chosen; j++) {
                const int64_t p = t * chosen + j;
                const double v = (weighted ? get(weight, p) : 1.0) * get(x, row[p] * width + i);
                sum += v;
                scale += fabs(v);
            }
            expect_near(get(y, t * width + i), sum, DTYPE_F32, scale, 5e-7);
        }
    /* The last token alone, with its rows in the order of its experts. */
    const struct array *own = array_new(chosen * width, type, 0, 0.0), *alone = array_new(width, DTYPE_F32, 0, 0.0);
    int32_t ascending[256];
    for (int32_t j = 0; j < chosen; j++) {
        ascending[j] = j;
        memcpy((char *)own->x + (size_t)(j * width) * dtype_bytes(type),
               (const char *)x->x + (size_t)(row[(tokens - 1) * chosen + j] * width) * dtype_bytes(type),
               (size_t)width * dtype_bytes(type));
    }
    push(own);
    const struct array *own_rows = ids_of(ascending, chosen);
    backend->ops->combine_forward(
        backend, &(struct combine_forward){.tokens = 1,
                                           .width = width,
                                           .chosen = chosen,
                                           .row = own_rows->d,
                                           .weight = weighted ? (float *)weight->d + (tokens - 1) * chosen : NULL,
                                           .x = own->d,
                                           .x_type = type,
                                           .before = (float *)before->d + (tokens - 1) * width,
                                           .y = alone->d});
    pull(alone);
    assert_memory_equal(alone->x, (float *)y->x + (tokens - 1) * width, (size_t)width * sizeof(float));
    arrays_free();
}

static void test_forward(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 8, 17, 64, 200, 2056};
    EACH_BACKEND
    for (int w = 0; w < 6; w++)
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++)
            for (int weighted = 0; weighted < 2; weighted++) {
                check(1, 2, widths[w], (enum dtype)type, weighted == 1);
                check(23, 8, widths[w], (enum dtype)type, weighted == 1);
                check(16, 3, widths[w], (enum dtype)type, weighted == 1);
            }
}

static void check_backward(int64_t rows, int64_t width, enum dtype act)
{
    int32_t row[256], pair[256];
    shuffle(row, pair, rows);
    const struct array *pairs = ids_of(pair, rows), *weight = array_new(rows, DTYPE_F32, 3, 1.0),
                       *x = array_new(rows * width, act, 4, 1.0), *dx = array_new(rows * width, act, 5, 1.0),
                       *d = array_new(rows, DTYPE_F32, 0, 0.0);
    double *x_was = widened(x), *dx_was = widened(dx);
    use_threads(3);
    backend->ops->combine_backward(backend, &(struct combine_backward){.rows = rows,
                                                                       .width = width,
                                                                       .pair = pairs->d,
                                                                       .weight = weight->d,
                                                                       .x = x->d,
                                                                       .dx = dx->d,
                                                                       .act = act,
                                                                       .d_weight = d->d});
    pull(x);
    pull(dx);
    pull(d);
    for (int64_t r = 0; r < rows; r++) {
        const double w = get(weight, pair[r]);
        double dot = 0.0, scale = 0.0;
        for (int64_t i = r * width; i < (r + 1) * width; i++) {
            dot += x_was[i] * dx_was[i];
            scale += fabs(x_was[i] * dx_was[i]);
            expect_near(get(x, i), w * x_was[i], act, 1.0, 2e-7);
            expect_near(get(dx, i), w * dx_was[i], act, 1.0, 2e-7);
        }
        expect_near(get(d, pair[r]), dot, DTYPE_F32, scale, 1e-6);
    }
    free(x_was);
    free(dx_was);
    arrays_free();
}

static void test_backward(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int w = 0; w < N_WIDTHS; w++)
        for (int act = DTYPE_F32; act <= DTYPE_BF16; act++) {
            check_backward(1, test_width[w], (enum dtype)act);
            check_backward(19, test_width[w], (enum dtype)act);
        }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->combine_forward(backend, &(struct combine_forward){.width = 8, .chosen = 2});
        backend->ops->combine_backward(backend, &(struct combine_backward){.width = 8});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
