/* AdamW against torch and against its own formula bit for bit, its split master, and the sum of squares, on every
 * backend. */
#include "kernels/kernel_test.h"

#include <jansson.h>

enum { MAX_COUNT = 64 };

static int read_floats(const json_t *array, float *out)
{
    int n = (int)json_array_size(array);
    assert_in_range(n, 1, MAX_COUNT);
    for (int i = 0; i < n; i++)
        out[i] = (float)json_number_value(json_array_get(array, (size_t)i));
    return n;
}

static float number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return (float)json_number_value(value);
}

/* Within 1e-6 of the expected value, or of the size of what was summed up to it if that is given. */
static void check_floats(const json_t *wanted, const struct array *got, const double *size)
{
    float expected[MAX_COUNT];
    int n = read_floats(wanted, expected);
    pull(got);
    for (int i = 0; i < n; i++)
        expect_near(get(got, i), (double)expected[i], DTYPE_F32, size ? size[i] : fabs((double)expected[i]), 1e-6);
}

static const struct array *zeros(int64_t count, enum dtype type)
{
    const struct array *a = array_new(count, type, 0, 0.0);
    memset(a->x, 0, a->bytes);
    push(a);
    return a;
}

static void check_against_torch(const json_t *test)
{
    float start[MAX_COUNT];
    const json_t *grads = json_object_get(test, "grads");
    const json_t *weights = json_object_get(test, "weights");
    const int n = read_floats(json_object_get(test, "start"), start);
    const struct array *w = array_of(start, n, DTYPE_F32), *grad = array_new(n, DTYPE_F32, 0, 0.0);
    const struct array *m = zeros(n, DTYPE_F32), *v = zeros(n, DTYPE_F32);
    struct adamw params = {.count = n,
                           .weight = w->d,
                           .type = DTYPE_F32,
                           .grad = grad->d,
                           .m = m->d,
                           .v = v->d,
                           .grad_scale = number_of(test, "grad_scale"),
                           .learning_rate = number_of(test, "learning_rate"),
                           .beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = number_of(test, "eps"),
                           .weight_decay = number_of(test, "weight_decay")};
    for (size_t step = 0; step < json_array_size(grads); step++) {
        assert_int_equal(read_floats(json_array_get(grads, step), grad->x), n);
        push(grad);
        params.step = (int64_t)step + 1;
        backend->ops->adamw(backend, &params);
        check_floats(json_array_get(weights, step), w, NULL);
    }
    check_floats(json_object_get(test, "v"), v, NULL);
    /* m adds gradients of either sign: its rounding is relative to their root mean square. */
    double rms[MAX_COUNT];
    for (int i = 0; i < n; i++)
        rms[i] = sqrt(get(v, i) / (1.0 - pow((double)0.999f, 10.0)));
    check_floats(json_object_get(test, "m"), m, rms);
    arrays_free();
}

static void test_against_torch(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/adamw_torch.json", 0, &error);
    assert_non_null(root);
    const json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(cases), 3);
    EACH_BACKEND
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_against_torch(json_array_get(cases, i));
    json_decref(root);
}

/* ---- Bit for bit ---- */

/* One step of one weight in fp32, with the fused operations of the kernels. */
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

/* A moment rounded at random. */
static uint16_t rounded(float value, uint32_t random)
{
    return (uint16_t)((f32_bits(value) + (random & 0xffffu)) >> 16);
}

static float master_of(uint16_t high, int16_t low)
{
    return f32_from_bits(((uint32_t)high << 16) + (uint32_t)(int32_t)low);
}

static void split(float master, uint16_t *high, int16_t *low)
{
    const uint32_t bits = f32_bits(master);
    *high = (uint16_t)((bits + 0x8000u) >> 16);
    *low = (int16_t)(uint16_t)(bits & 0xffffu);
}

static void expect_bits(const char *what, const struct array *a, const void *wanted)
{
    pull(a);
    if (memcmp(a->x, wanted, a->bytes) != 0)
        fail_msg("%s: %s of %lld elements has other bits", provider, what, (long long)a->count);
}

/* Three steps. The low halves and the second moments begin with any bits. */
static void check_formula(int64_t count, enum dtype type, enum dtype moment, size_t shift)
{
    const struct array *w = array_shifted(count, type, 50, 0.1, shift);
    const struct array *low = array_shifted(count, DTYPE_BF16, 51, 1e30, shift);
    const struct array *grad = array_shifted(count, DTYPE_F32, 52, 1.0, shift);
    const struct array *m = array_shifted(count, moment, 53, 0.0, shift);
    const struct array *v = array_shifted(count, moment, 54, 0.0, shift);
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
    unsigned char *want[4]; /* w, low, m, v */
    const struct array *all[4] = {w, low, m, v};
    for (int i = 0; i < 4; i++) {
        want[i] = malloc(all[i]->bytes);
        assert_non_null(want[i]);
        memcpy(want[i], all[i]->x, all[i]->bytes);
    }
    for (p.step = 1; p.step <= 3; p.step++) {
        backend->ops->adamw(backend, &p);
        for (int64_t i = 0; i < count; i++) {
            uint16_t *high = (uint16_t *)(void *)want[0] + i;
            int16_t *rest = (int16_t *)(void *)want[1] + i;
            float m1 = (float)at(want[2], moment, i), v1 = (float)at(want[3], moment, i);
            const float old = type == DTYPE_F32 ? ((float *)(void *)want[0])[i] : master_of(*high, *rest);
            const float master = stepped(&p, old, ((float *)grad->x)[i], &m1, &v1);
            if (moment == DTYPE_F32) {
                put(want[2], moment, i, m1);
                put(want[3], moment, i, v1);
            } else {
                const uint64_t element = (uint64_t)(p.first + i);
                const uint32_t word = rng_philox(0, RNG_ROUND, (uint64_t)p.step, element / 4).word[element % 4];
                ((uint16_t *)(void *)want[2])[i] = rounded(m1, word);
                ((uint16_t *)(void *)want[3])[i] = rounded(v1, word >> 16);
            }
            if (type == DTYPE_F32)
                put(want[0], type, i, master);
            else
                split(master, high, rest);
        }
    }
    static const char *const names[4] = {"the weight", "the low half", "m", "v"};
    for (int i = 0; i < 4; i++) {
        expect_bits(names[i], all[i], want[i]);
        free(want[i]);
    }
    arrays_free();
}

static void test_formula(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 3, 4, 5, 1024, 1027, 5000};
    EACH_BACKEND
    {
        if (strcmp(provider, "portable") == 0)
            continue; /* without fused operations */
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (size_t shift = 0; shift < 2; shift++)
                for (int types = 0; types < 4; types++) {
                    use_threads(1 + (int)shift);
                    check_formula(counts[c], types & 2 ? DTYPE_BF16 : DTYPE_F32, types & 1 ? DTYPE_BF16 : DTYPE_F32,
                                  shift);
                }
    }
}

/* Many steps of split bf16 and of plain fp32 leave the same master bits, moments included; the high half is the master
 * rounded. */
static void test_split_is_exact(void **state)
{
    (void)state;
    enum { COUNT = 300 }; /* a whole tile of 256 and a part */
    const int steps = test_options.small ? 100 : 1000;
    EACH_BACKEND
    {
        const struct array *plain = array_new(COUNT, DTYPE_F32, 20, 0.1), *grad = zeros(COUNT, DTYPE_F32);
        const struct array *high = zeros(COUNT, DTYPE_BF16), *low = zeros(COUNT, DTYPE_BF16);
        const struct array *m[2], *v[2];
        for (int i = 0; i < COUNT; i++)
            split(((float *)plain->x)[i], (uint16_t *)high->x + i, (int16_t *)low->x + i);
        push(high);
        push(low);
        for (int i = 0; i < 2; i++) {
            m[i] = zeros(COUNT, DTYPE_F32);
            v[i] = zeros(COUNT, DTYPE_F32);
        }
        struct adamw params = {COUNT, plain->d, NULL,  DTYPE_F32, grad->d, m[0]->d, v[0]->d, DTYPE_F32,
                               0,     0.5f,     1e-4f, 0.9f,      0.99f,   1e-8f,   0.01f,   1};
        struct adamw halves = params;
        halves.weight = high->d;
        halves.low = low->d;
        halves.type = DTYPE_BF16;
        halves.m = m[1]->d;
        halves.v = v[1]->d;
        for (int step = 1; step <= steps; step++) {
            fill(grad->x, DTYPE_F32, COUNT, 21 + (uint64_t)step % 16, 1.0);
            push(grad);
            params.step = halves.step = step;
            backend->ops->adamw(backend, &params);
            backend->ops->adamw(backend, &halves);
        }
        pull(plain);
        pull(high);
        pull(low);
        for (int i = 0; i < COUNT; i++) {
            const uint16_t half = ((uint16_t *)high->x)[i];
            const float master = master_of(half, ((int16_t *)low->x)[i]);
            assert_memory_equal(&master, (float *)plain->x + i, sizeof master);
            assert_true(fabsf(f32_from_bf16(half) - master) <= fabsf(master) * 0x1p-8f);
        }
        expect_same("m", m[0], m[1]);
        expect_same("v", v[0], v[1]);
        arrays_free();
    }
}

/* At a learning rate of 1e-6 a step is far below half a bf16 step at 1: bf16 alone stands still, the split master moves
 * by 1000 steps of 1e-6. */
static void test_small_rate_is_not_lost(void **state)
{
    (void)state;
    const uint16_t one = 0x3f80;
    const float wide_one = 1.0f;
    EACH_BACKEND
    {
        const struct array *high = array_of(&one, 1, DTYPE_BF16), *low = zeros(1, DTYPE_BF16);
        const struct array *bare = array_of(&wide_one, 1, DTYPE_F32), *grad = array_of(&wide_one, 1, DTYPE_F32);
        const struct array *m = zeros(2, DTYPE_F32), *v = zeros(2, DTYPE_F32);
        struct adamw params = {1, high->d, low->d, DTYPE_BF16, grad->d, m->d,  v->d, DTYPE_F32,
                               0, 1.0f,    1e-6f,  0.9f,       0.999f,  1e-8f, 0.0f, 1};
        for (int step = 1; step <= 1000; step++) {
            params.step = step;
            backend->ops->adamw(backend, &params);
            struct adamw plain = params;
            plain.weight = bare->d;
            plain.type = DTYPE_F32;
            plain.low = NULL;
            plain.m = (float *)m->d + 1;
            plain.v = (float *)v->d + 1;
            backend->ops->adamw(backend, &plain);
            pull(bare);
            set(bare, 0, f32_from_bf16(bf16_from_f32((float)get(bare, 0))));
            push(bare);
        }
        assert_true(get(bare, 0) == 1.0);
        pull(high);
        pull(low);
        /* 1000 roundings to the fp32 step below 1, 6e-8, each half of it at most. */
        expect_near((double)master_of(*(uint16_t *)high->x, *(int16_t *)low->x), 1.0 - 1e-3, DTYPE_F32, 1.0, 3e-5);
        arrays_free();
    }
}

/* Chunks of threads: 40,000 elements, both types. */
static void test_threads(void **state)
{
    (void)state;
    enum { COUNT = 40001 };
    EACH_BACKEND
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        const struct array *w[2], *low[2], *m[2], *v[2], *grad = array_new(COUNT, DTYPE_F32, 40, 1.0);
        for (int i = 0; i < 2; i++) {
            use_threads(i + 1);
            w[i] = array_new(COUNT, (enum dtype)type, 41, 1.0);
            low[i] = zeros(COUNT, DTYPE_BF16);
            m[i] = zeros(COUNT, DTYPE_F32);
            v[i] = zeros(COUNT, DTYPE_F32);
            struct adamw params = {COUNT, w[i]->d, low[i]->d, (enum dtype)type, grad->d, m[i]->d, v[i]->d, DTYPE_F32, 0,
                                   1.0f,  1e-3f,   0.9f,      0.999f,           1e-8f,   0.1f,    1};
            backend->ops->adamw(backend, &params);
        }
        expect_same("the weight", w[0], w[1]);
        expect_same("the low half", low[0], low[1]);
        expect_same("m", m[0], m[1]);
        expect_same("v", v[0], v[1]);
        arrays_free();
    }
}

/* Moments in bf16. With a constant gradient v creeps up by less than half a unit of bf16 a step, so rounding to nearest
 * would leave it standing still; rounded at random its mean follows fp32. One call, two threads and two calls with
 * their own first draw the same. */
static void test_narrow_moments(void **state)
{
    (void)state;
    const int count = test_options.small ? 2000 : 40000, half = count / 2, steps = test_options.small ? 30 : 300;
    EACH_BACKEND
    {
        const struct array *w[2], *m[2], *v[2], *grad = array_new(count, DTYPE_F32, 0, 0.0);
        const struct array *one = zeros(1, DTYPE_F32), *wide_m = zeros(1, DTYPE_F32), *wide_v = zeros(1, DTYPE_F32);
        for (int i = 0; i < count; i++)
            set(grad, i, 0.75f);
        push(grad);
        for (int i = 0; i < 2; i++) {
            w[i] = zeros(count, DTYPE_F32);
            m[i] = zeros(count, DTYPE_BF16);
            v[i] = zeros(count, DTYPE_BF16);
        }
        for (int step = 1; step <= steps; step++) {
            struct adamw params = {.count = count,
                                   .weight = w[0]->d,
                                   .type = DTYPE_F32,
                                   .grad = grad->d,
                                   .m = m[0]->d,
                                   .v = v[0]->d,
                                   .moment_type = DTYPE_BF16,
                                   .first = 1002,
                                   .grad_scale = 1.0f,
                                   .learning_rate = 1e-3f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.9999f,
                                   .eps = 1e-8f,
                                   .step = step};
            use_threads(2);
            backend->ops->adamw(backend, &params);
            use_threads(1);
            for (int part = 0; part < 2; part++) {
                struct adamw halved = params;
                halved.count = half;
                halved.first = params.first + part * half;
                halved.weight = (float *)w[1]->d + part * half;
                halved.m = (uint16_t *)m[1]->d + part * half;
                halved.v = (uint16_t *)v[1]->d + part * half;
                backend->ops->adamw(backend, &halved);
            }
            struct adamw wide = params;
            wide.count = 1;
            wide.weight = one->d;
            wide.m = wide_m->d;
            wide.v = wide_v->d;
            wide.moment_type = DTYPE_F32;
            backend->ops->adamw(backend, &wide);
        }
        expect_same("m", m[0], m[1]);
        expect_same("v", v[0], v[1]);
        expect_same("the weight", w[0], w[1]);
        pull(wide_m);
        pull(wide_v);
        double mean_m = 0.0, mean_v = 0.0;
        for (int i = 0; i < count; i++) {
            mean_m += get(m[0], i) / count;
            mean_v += get(v[0], i) / count;
        }
        /* 300 roundings of at most 2^-8, their errors' mean over 40,000 elements: well below 1e-3. (Of 30 roundings
         * over 2,000 elements: too.) */
        expect_near(mean_m, get(wide_m, 0), DTYPE_F32, 0.75, 1e-3);
        expect_near(mean_v, get(wide_v, 0), DTYPE_F32, get(wide_v, 0), 1e-3);
        arrays_free();
    }
}

/* ---- The sum of squares ---- */

/* The same from the sums of two pieces, as ranks have them: cut at a block, the first piece may be empty. */
static double sum_of_parts(const struct array *x, int64_t count)
{
    enum { MOST = 2000 };
    static double sums[MOST];
    const int64_t block = backend->sizes->square_block, blocks = (count + block - 1) / block, cut = blocks / 2;
    assert_true(blocks <= MOST);
    backend->ops->square_sums(backend, x->d, cut * block, sums);
    backend->ops->square_sums(backend, (const float *)x->d + cut * block, count - cut * block, sums + cut);
    return backend->ops->add_square_sums(backend, sums, blocks);
}

/* More than one batch of the CPU's blocks would be 64 MB; two blocks and a part show the order. The same bits with two
 * threads, at another address and on all instruction sets. */
static void test_sum_squares(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 5, 31, 32, 33, 1023, 16384, 16385, 65536, 65537, 2 * 65536 + 77, 20000001};
    enum { N = sizeof counts / sizeof *counts };
    double first[N] = {0};
    bool computed = false;
    EACH_BACKEND
    {
        for (int c = 0; c < N; c++) {
            if (counts[c] > 200000 && (test_options.small || !test_options.cuda))
                continue;
            double sum[2];
            for (int run = 0; run < 2; run++) {
                use_threads(run + 1);
                const struct array *x = array_shifted(counts[c], DTYPE_F32, 50, 3.0, (size_t)run);
                long double exact = 0.0L; /* one chain of doubles would itself be off by more */
                for (int64_t i = 0; i < counts[c]; i++)
                    exact += (long double)(get(x, i) * get(x, i));
                sum[run] = backend->ops->sum_squares(backend, x->d, counts[c]);
                expect_near(sum[run], (double)exact, DTYPE_F32, (double)exact, test_options.cuda ? 1e-12 : 1e-13);
                assert_true(sum_of_parts(x, counts[c]) == sum[run]);
                arrays_free();
            }
            assert_true(sum[0] == sum[1]);
            assert_true(!computed || sum[0] == first[c]);
            first[c] = sum[0];
        }
        computed = true;
        /* Squares beyond fp32 are no overflow; a NaN shows. */
        const float large[2] = {3e30f, 4e30f}, broken[2] = {3e30f, NAN};
        const struct array *x = array_of(large, 2, DTYPE_F32), *y = array_of(broken, 2, DTYPE_F32);
        expect_near(sqrt(backend->ops->sum_squares(backend, x->d, 2)), 5e30, DTYPE_F32, 5e30, 1e-7);
        assert_true(isnan(backend->ops->sum_squares(backend, y->d, 2)));
        arrays_free();
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->adamw(backend, &(struct adamw){.type = DTYPE_F32, .step = 1});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_torch),  cmocka_unit_test(test_formula),
        cmocka_unit_test(test_split_is_exact), cmocka_unit_test(test_small_rate_is_not_lost),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_narrow_moments),
        cmocka_unit_test(test_sum_squares),    cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
