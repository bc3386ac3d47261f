/* Columns scaled by factors (DoRA), and the gradients of what they scale and of the magnitudes, against double references
 * on every backend; a factor of 1 changes no bit; the same bits for a row alone, among others, at any address and with
 * any number of threads. */
#include "kernels/kernel_test.h"

static void check_forward(int64_t rows, int64_t width, enum dtype type, bool residual, bool ones)
{
    const size_t row = (size_t)width * dtype_bytes(type);
    const struct array *z = array_new(rows * width, DTYPE_F32, 1, 4.0), *factor = array_new(width, DTYPE_F32, 2, 2.0),
                       *before = array_new(rows * width, DTYPE_F32, 3, 4.0), *y = array_new(rows * width, type, 4, 1.0);
    const struct array *z2 = array_shifted(rows * width, DTYPE_F32, 1, 4.0, 1),
                       *y2 = array_shifted(rows * width, type, 4, 1.0, 1),
                       *alone = array_new(rows * width, type, 4, 1.0);
    for (int64_t i = 0; ones && i < width; i++)
        set(factor, i, 1.0f);
    push(factor);
    struct magnitude_forward p = {.rows = rows,
                                  .width = width,
                                  .z = z->d,
                                  .factor = factor->d,
                                  .before = residual ? before->d : NULL,
                                  .y = y->d,
                                  .y_type = type};
    use_threads(1);
    backend->ops->magnitude_forward(backend, &p);
    pull(y);
    for (int64_t i = 0; i < rows * width; i++) {
        const double product = was(z, i) * get(factor, i % width), old = residual ? was(before, i) : 0.0;
        expect_near(get(y, i), product + old, type, fabs(product) + fabs(old), 1.3e-7);
        if (ones && !residual)
            assert_true(get(y, i) ==
                        (type == DTYPE_F32 ? was(z, i) : (double)f32_from_bf16(bf16_from_f32((float)was(z, i)))));
    }
    use_threads(2);
    p.z = z2->d;
    p.y = y2->d;
    backend->ops->magnitude_forward(backend, &p);
    expect_same("another address, two threads", y, y2);
    p.rows = 1;
    p.z = (const float *)z->d + (rows - 1) * width;
    p.before = residual ? (const float *)before->d + (rows - 1) * width : NULL;
    p.y = (char *)alone->d + (size_t)(rows - 1) * row;
    backend->ops->magnitude_forward(backend, &p);
    pull(alone);
    assert_memory_equal((char *)alone->x + (size_t)(rows - 1) * row, (char *)y->x + (size_t)(rows - 1) * row, row);
    arrays_free();
}

/* Two parts with something between them, as q and v of q, k, v. */
static void check_backward(int64_t rows, int64_t width, enum dtype type)
{
    const int64_t n[2] = {(width + 2) / 3, width / 3}, column[2] = {0, width - n[1]};
    const struct array *dy = array_new(rows * width, type, 1, 1.0), *z = array_new(rows * width, DTYPE_F32, 2, 4.0),
                       *factor = array_new(width, DTYPE_F32, 3, 2.0), *norm = array_new(width, DTYPE_F32, 4, 0.4);
    const struct array *dy2 = array_shifted(rows * width, type, 1, 1.0, 1), *dz[2], *sum[2][2];
    for (int64_t i = 0; i < width; i++)
        set(norm, i, i == 1 ? 0.0f : (float)(0.5 + fabs(was(norm, i))));
    push(norm);
    for (int again = 0; again < 2; again++) {
        dz[again] = array_shifted(rows * width, type, 5, 1.0, (size_t)again);
        struct magnitude_backward p = {.rows = rows,
                                       .width = width,
                                       .dy = again ? dy2->d : dy->d,
                                       .z = z->d,
                                       .factor = factor->d,
                                       .type = type,
                                       .dz = dz[again]->d,
                                       .n_parts = n[1] > 0 ? 2 : 1};
        for (int i = 0; i < p.n_parts; i++) {
            sum[again][i] = array_new(n[i], DTYPE_F32, 6 + (uint64_t)i, 1.0);
            p.part[i] = (struct magnitude_part){column[i], n[i], (const float *)norm->d + column[i], sum[again][i]->d};
        }
        use_threads(1 + again);
        backend->ops->magnitude_backward(backend, &p);
    }
    pull(dz[0]);
    for (int64_t i = 0; i < rows * width; i++)
        expect_near(get(dz[0], i), was(dy, i) * was(factor, i % width), type, fabs(was(dy, i) * was(factor, i % width)),
                    6e-8);
    expect_same("dz, two threads", dz[0], dz[1]);
    for (int part = 0; part < (n[1] > 0 ? 2 : 1); part++) {
        pull(sum[0][part]);
        for (int64_t i = 0; i < n[part]; i++) {
            const int64_t c = column[part] + i;
            double want = 0, size = 0;
            for (int64_t r = 0; r < rows; r++) {
                want += was(dy, r * width + c) * was(z, r * width + c);
                size += fabs(was(dy, r * width + c) * was(z, r * width + c));
            }
            const double over = get(norm, c) > 0 ? 1 / get(norm, c) : 0.0;
            expect_near(get(sum[0][part], i), was(sum[0][part], i) + want * over, DTYPE_F32,
                        size * over + fabs(was(sum[0][part], i)), 2e-6);
        }
        expect_same("sums, two threads", sum[0][part], sum[1][part]);
    }
    arrays_free();
}

static void test_reference(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 15, 17, 63, 64, 65, 130};
    EACH_BACKEND
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        for (int w = 0; w < N_WIDTHS; w++) {
            for (int kind = 0; kind < 4; kind++)
                if (kind < 2 || type == DTYPE_F32)
                    check_forward(3, test_width[w], (enum dtype)type, kind >= 2, kind % 2 == 1);
            check_backward(3, test_width[w], (enum dtype)type);
        }
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            check_backward(rows[r], 40, (enum dtype)type);
        check_forward(2, 2051, (enum dtype)type, false, false);
    }
}

/* What is added to may be what is written; the sign of a zero stays; nothing to do is no error. */
static void test_edges(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        static const float zeros[] = {-0.0f, 0.0f, -0.0f}, ones[] = {1.0f, 1.0f, 1.0f};
        const struct array *z = array_of(zeros, 3, DTYPE_F32), *factor = array_of(ones, 3, DTYPE_F32),
                           *y = array_new(3, DTYPE_BF16, 1, 1.0), *old = array_new(3, DTYPE_F32, 2, 1.0);
        backend->ops->magnitude_forward(backend,
                                        &(struct magnitude_forward){1, 3, z->d, factor->d, NULL, y->d, DTYPE_BF16});
        backend->ops->magnitude_forward(
            backend, &(struct magnitude_forward){1, 3, factor->d, factor->d, old->d, old->d, DTYPE_F32});
        pull(y), pull(old);
        for (int i = 0; i < 3; i++) {
            assert_true((signbit(get(y, i)) != 0) == (signbit(zeros[i]) != 0));
            assert_true(get(old, i) == (double)((float)was(old, i) + 1.0f));
        }
        backend->ops->magnitude_forward(backend, &(struct magnitude_forward){.width = 3, .y_type = DTYPE_F32});
        backend->ops->magnitude_backward(backend, &(struct magnitude_backward){.width = 3, .type = DTYPE_F32});
        arrays_free();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
