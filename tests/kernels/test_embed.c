/* The embedding and its gradient: exact bits, on every backend. */
#include "kernels/kernel_test.h"

static void check(int64_t tokens, int64_t width, int32_t vocab, const int32_t *token, enum dtype type, size_t shift)
{
    const struct array *id = ids_of(token, tokens);
    const struct array *table = array_shifted(vocab * width, type, 1, 1.0, shift);
    const struct array *y = array_shifted(tokens * width, DTYPE_F32, 0, 0.0, shift);
    const struct array *dy = array_shifted(tokens * width, DTYPE_F32, 2, 1.0, shift);
    const struct array *d_table = array_shifted(vocab * width, DTYPE_F32, 3, 1.0, shift);
    backend->ops->embed_forward(backend, &(struct embed_forward){tokens, width, id->d, table->d, type, y->d});
    backend->ops->embed_backward(backend, &(struct embed_backward){tokens, width, vocab, id->d, dy->d, d_table->d});
    /* In fp32, tokens ascending: the exact bits. */
    float *sum = malloc(d_table->bytes);
    assert_non_null(sum);
    memcpy(sum, d_table->x, d_table->bytes);
    pull(y);
    pull(d_table);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < width; i++) {
            assert_true(get(y, t * width + i) == get(table, token[t] * width + i));
            sum[token[t] * width + i] += ((float *)dy->x)[t * width + i];
        }
    assert_memory_equal(d_table->x, sum, d_table->bytes);
    free(sum);
    arrays_free();
}

static void check_f16(int64_t width)
{
    static const int32_t token[] = {2, 0, 2, 3, 1};
    const struct array *f16 = NULL, *f32 = NULL, *id = ids_of(token, 5), *y = array_new(5 * width, DTYPE_F32, 0, 0.0);
    halves_of(4 * width, 1, 1.0, &f16, &f32);
    backend->ops->embed_forward(backend, &(struct embed_forward){5, width, id->d, f16->d, DTYPE_F16, y->d});
    pull(y);
    for (int64_t t = 0; t < 5; t++)
        assert_memory_equal((float *)y->x + t * width, (float *)f32->x + token[t] * width,
                            (size_t)width * sizeof(float));
    arrays_free();
}

static void test_widths(void **state)
{
    (void)state;
    static const int32_t token[] = {2, 0, 2, 3, 2};
    EACH_BACKEND
    for (int w = 0; w < N_WIDTHS; w++)
        for (int threads = 1; threads <= 3; threads++) {
            use_threads(threads);
            check(5, test_width[w], 4, token, DTYPE_F32, 0);
            check(5, test_width[w], 4, token, DTYPE_BF16, 0);
            check_f16(test_width[w]);
        }
}

/* Half of the tokens have one id, the others any. */
static int32_t *skewed(int64_t tokens, int32_t vocab)
{
    int32_t *token = malloc((size_t)tokens * sizeof *token);
    assert_non_null(token);
    for (int64_t i = 0; i < tokens; i++) {
        const uint32_t word = rng_philox(17, RNG_TEST, 900, (uint64_t)i).word[0];
        token[i] = word & 1u ? vocab / 3 : (int32_t)(word >> 1) % vocab;
    }
    return token;
}

static void test_ids(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},     {5, 7, 3},       {9, 8, 1},       {300, 100, 600},
                                        {33, 1024, 9}, {700, 12, 1500}, {20, 2052, 513}, {20000, 1024, 151936}};
    enum { N = sizeof shapes / sizeof *shapes };
    EACH_BACKEND
    for (size_t i = 0; i < N; i++)
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
            const bool large = i + 1 == N, small = large && (test_options.small || !test_options.cuda);
            const int64_t tokens = small ? 2500 : shapes[i][0], width = small ? 8 : shapes[i][1];
            const int32_t vocab = small ? 2000 : (int32_t)shapes[i][2];
            if (large && type == DTYPE_F32)
                continue;
            int32_t *token = skewed(tokens, vocab);
            use_threads(1 + (int)i % 2);
            check(tokens, width, vocab, token, (enum dtype)type, i % 2);
            free(token);
        }
}

/* Noise: the exact bits of the formula of ops.h, for a token alone as among others; within its bounds, with mean 0 and
 * the variance of a uniform number. */
static void check_noise(int64_t tokens, int64_t width, size_t shift)
{
    const struct array *y = array_shifted(tokens * width, DTYPE_F32, 4, 1.0, shift);
    const struct array *alone = array_shifted(width, DTYPE_F32, 0, 0.0, shift);
    const struct array *scale = array_new(tokens, DTYPE_F32, 5, 0.1);
    int32_t *position = malloc((size_t)tokens * sizeof *position);
    int32_t *words = malloc((size_t)tokens * sizeof(uint64_t)); /* streams, as the ids that tests have */
    double sum = 0.0, squares = 0.0;
    assert_true(position != NULL && words != NULL);
    for (int64_t t = 0; t < tokens; t++) {
        const uint64_t stream = rng_stream(3, (uint64_t)t / 3);
        position[t] = (int32_t)(t * 5 % 7);
        memcpy(words + 2 * t, &stream, sizeof stream);
        set(scale, t, t == 1 ? 0.0f : (float)fabs(get(scale, t)) + 0.01f);
    }
    push(scale);
    const int32_t *places = ids_of(position, tokens)->d, *streams = ids_of(words, 2 * tokens)->d;
    struct embed_noise p = {tokens, width, places, scale->d, (const uint64_t *)(const void *)streams, 77, y->d};
    backend->ops->embed_noise(backend, &p);
    pull(y);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < width; i++) {
            const uint64_t counter = (uint64_t)position[t] * (uint64_t)((width + 3) / 4) + (uint64_t)i / 4;
            const float u = rng_uniform(rng_philox(77, RNG_NOISE, rng_stream(3, (uint64_t)t / 3), counter).word[i % 4]);
            const float noise = (float)get(scale, t) * (2.0f * u - 1.0f);
            assert_true((float)get(y, t * width + i) == (float)was(y, t * width + i) + noise);
            if (t != 1) {
                const double unit = (double)noise / get(scale, t);
                assert_true(fabs(unit) <= 1.0);
                sum += unit;
                squares += unit * unit;
            }
        }
    const double n = (double)((tokens - 1) * width);
    if (n > 5000) { /* five standard deviations */
        assert_true(fabs(sum / n) < 5.0 / sqrt(3.0 * n));
        assert_true(fabs(squares / n - 1.0 / 3.0) < 5.0 * sqrt(4.0 / 45.0 / n));
    }
    for (int64_t i = 0; i < width; i++)
        set(alone, i, (float)was(y, 2 * width + i));
    push(alone);
    p = (struct embed_noise){1, width, places + 2, (float *)scale->d + 2, p.stream + 2, 77, alone->d};
    backend->ops->embed_noise(backend, &p);
    pull(alone);
    assert_memory_equal(alone->x, (float *)y->x + 2 * width, alone->bytes);
    free(position), free(words);
    arrays_free();
}

static void test_noise(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        for (int w = 0; w < N_WIDTHS; w++) {
            use_threads(1 + w % 3);
            check_noise(5, test_width[w], (size_t)w % 2);
        }
        check_noise(40, 1100, 0);
    }
}

/* A change of low rank and its gradients against sums in double; rows of 0 leave y as it is, and a token's bits are the same
 * alone as among others. */
static void check_change(int64_t tokens, int64_t width, int64_t r, int32_t vocab, enum dtype type)
{
    const float scale = 1.5f;
    int32_t *token = skewed(tokens, vocab);
    const struct array *id = ids_of(token, tokens), *a = array_new(vocab * r, type, 6, 1.0),
                       *b = array_new(r * width, type, 7, 1.0), *y = array_new(tokens * width, DTYPE_F32, 8, 1.0),
                       *alone = array_new(width, DTYPE_F32, 0, 0.0), *dy = array_new(tokens * width, DTYPE_F32, 9, 1.0),
                       *d = array_new(tokens * r, DTYPE_F32, 0, 0.0), *da = array_new(vocab * r, DTYPE_F32, 10, 1.0),
                       *db = array_new(r * width, DTYPE_F32, 11, 1.0);
    for (int64_t j = 0; j < r; j++)
        set(a, token[0] * r + j, 0.0f);
    for (int64_t c = 0; c < width; c++) {
        set(y, c, -0.0f);
        set(alone, c, (float)was(y, (tokens - 1) * width + c));
    }
    push(a), push(y), push(alone);
    backend->ops->embed_change_forward(
        backend, &(struct embed_change_forward){tokens, width, r, id->d, a->d, b->d, type, scale, y->d});
    backend->ops->embed_change_forward(backend,
                                       &(struct embed_change_forward){1, width, r, (const int32_t *)id->d + tokens - 1,
                                                                      a->d, b->d, type, scale, alone->d});
    backend->ops->embed_change_backward(backend,
                                        &(struct embed_change_backward){tokens, width, r, vocab, id->d, a->d, b->d,
                                                                        type, scale, dy->d, d->d, da->d, db->d});
    pull(y), pull(alone), pull(da), pull(db);
    for (int64_t c = 0; c < width; c++)
        assert_true(signbit(get(y, c)) && get(y, c) == 0.0);
    assert_memory_equal(alone->x, (float *)y->x + (tokens - 1) * width, alone->bytes);
    double *sum_a = calloc((size_t)(vocab * r), sizeof *sum_a), *sum_b = calloc((size_t)(r * width), sizeof *sum_b);
    assert_true(sum_a != NULL && sum_b != NULL);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t c = 0; c < width; c++) {
            double sum = 0.0;
            const double slope = scale * get(dy, t * width + c);
            for (int64_t j = 0; j < r; j++) {
                sum += get(a, token[t] * r + j) * get(b, j * width + c);
                sum_a[token[t] * r + j] += slope * get(b, j * width + c);
                sum_b[j * width + c] += slope * get(a, token[t] * r + j);
            }
            if (token[t] != token[0])
                assert_true(fabs(get(y, t * width + c) - was(y, t * width + c) - scale * sum) < 1e-5 * (double)(4 + r));
        }
    for (int64_t i = 0; i < vocab * r; i++)
        assert_true(fabs(get(da, i) - was(da, i) - sum_a[i]) < 1e-5 * (double)(tokens + 10) * sqrt((double)width));
    for (int64_t i = 0; i < r * width; i++)
        assert_true(fabs(get(db, i) - was(db, i) - sum_b[i]) < 1e-5 * (double)(tokens + 10));
    free(sum_a), free(sum_b), free(token);
    arrays_free();
}

static void test_change(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        use_threads(1 + type);
        check_change(3, 1, 1, 5, (enum dtype)type);
        check_change(9, 40, 3, 6, (enum dtype)type);
        check_change(33, 133, 8, 20, (enum dtype)type);
        check_change(20, 700, 17, 300, (enum dtype)type);
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->embed_forward(backend, &(struct embed_forward){.width = 8});
        backend->ops->embed_backward(backend, &(struct embed_backward){.width = 8, .vocab = 8});
        backend->ops->embed_change_forward(backend, &(struct embed_change_forward){.width = 8, .r = 1});
        backend->ops->embed_change_backward(backend, &(struct embed_change_backward){.width = 8, .r = 1, .vocab = 8});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_widths), cmocka_unit_test(test_ids),
                                       cmocka_unit_test(test_noise), cmocka_unit_test(test_change),
                                       cmocka_unit_test(test_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
