/* Log-probs, entropy and their gradient on the CUDA backend, against double references and the CPU backend; the same
 * bits for a row alone, among others and at any address. */
#include "backend/ops.h"
#include "cuda/device_test.h"

struct reference {
    double logp, lse, entropy;
};

static struct reference reference_of(const float *logits, float temperature, int64_t vocab, int32_t target)
{
    const float inverse = 1.0f / temperature;
    double max = -INFINITY;
    for (int64_t i = 0; i < vocab; i++)
        max = fmax(max, (double)(logits[i] * inverse));
    double sum = 0.0, weighted = 0.0;
    for (int64_t i = 0; i < vocab; i++) {
        double z = (double)(logits[i] * inverse) - max;
        sum += exp(z);
        weighted += z == -INFINITY ? 0.0 : exp(z) * z;
    }
    return (struct reference){(double)(logits[target] * inverse) - max - log(sum), max + log(sum),
                              log(sum) - weighted / sum};
}

struct stats {
    float logp, lse, entropy;
};

/* Of rows of logits that lie shift floats behind an aligned address. */
static void device_stats(const float *logits, int64_t rows, int64_t vocab, float temperature, const int32_t *target,
                         int shift, bool with_entropy, struct stats *out)
{
    const size_t row_bytes = (size_t)rows * sizeof(float);
    float *host = guarded(row_bytes);
    float *memory = device_copy(NULL, (size_t)(rows * vocab + shift) * sizeof(float));
    int32_t *target_at = device_copy(target, (size_t)rows * sizeof *target);
    float *result[3];
    for (int i = 0; i < 3; i++)
        result[i] = device_copy(NULL, row_bytes + sizeof(float)); /* a guard behind */
    device->ops->upload(device, memory + shift, logits, (size_t)(rows * vocab) * sizeof(float));
    device->ops->head_stats(device, &(struct head_stats){rows, vocab, memory + shift, temperature, target_at, result[0],
                                                         result[1], with_entropy ? result[2] : NULL});
    for (int i = 0; i < 3; i++) {
        float behind = 1.0f;
        device->ops->download(device, &behind, result[i] + rows, sizeof behind);
        assert_true(behind == 0.0f);
        device_take(host, result[i], row_bytes);
        for (int64_t r = 0; r < rows; r++) {
            if (i == 0)
                out[r].logp = host[r];
            else if (i == 1)
                out[r].lse = host[r];
            else
                out[r].entropy = host[r];
        }
    }
    device->ops->free(device, memory);
    device->ops->free(device, target_at);
    guarded_free(host, row_bytes);
    device_must_be_well();
}

enum { ROWS = 5 };

static void check_stats(int64_t vocab, float temperature)
{
    const int64_t rows = vocab > 10000 && small_run ? 2 : ROWS;
    float *logits = malloc((size_t)(rows * vocab) * sizeof *logits);
    int32_t target[ROWS];
    struct stats got[ROWS], again[ROWS];
    fill(logits, DTYPE_F32, rows * vocab, (uint64_t)vocab, 12.0);
    for (int64_t r = 0; r < rows; r++)
        target[r] = (int32_t)((vocab - 1) * r / rows);
    if (vocab > 20)
        logits[vocab - 3] = -INFINITY;
    device_stats(logits, rows, vocab, temperature, target, 0, true, got);
    for (int64_t r = 0; r < rows; r++) {
        struct reference wanted = reference_of(logits + r * vocab, temperature, vocab, target[r]);
        expect_near((double)got[r].logp, wanted.logp, DTYPE_F32, 1.0 + fabs(wanted.logp), 2e-7);
        expect_near((double)got[r].lse, wanted.lse, DTYPE_F32, 1.0 + fabs(wanted.lse), 2e-7);
        /* A part's sums are of 2048 floats. */
        expect_near((double)got[r].entropy, wanted.entropy, DTYPE_F32, 1.0 + fabs(wanted.lse), 5e-7);
        /* Alone, at an address that is not aligned, without entropy. */
        device_stats(logits + r * vocab, 1, vocab, temperature, target + r, (int)(r + 1), false, again);
        assert_memory_equal(&again[0].logp, &got[r].logp, sizeof(float));
        assert_memory_equal(&again[0].lse, &got[r].lse, sizeof(float));
    }
    free(logits);
}

static void test_stats(void **state)
{
    (void)state;
    const int64_t vocab[] = {1,    2,    3,    4,    5,    31,   127,    128,           129,
                             1001, 2047, 2048, 2049, 4096, 6001, 151936, 2048 * 256 + 1};
    for (size_t v = 0; v < sizeof vocab / sizeof *vocab; v++) {
        if (small_run && vocab[v] > 200000)
            continue;
        check_stats(vocab[v], 1.0f);
        if (vocab[v] < 10000)
            check_stats(vocab[v], 0.6f);
    }
}

/* A peaked row of large logits must not overflow; a row whose parts are far apart. */
static void test_stats_peaked(void **state)
{
    (void)state;
    enum { VOCAB = 5000 };
    static float logits[VOCAB];
    const int32_t target = 4321;
    struct stats got;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 3000.0f;
    logits[target] = 3025.0f;
    device_stats(logits, 1, VOCAB, 1.0f, &target, 0, true, &got);
    double tail = 4999.0 * exp(-25.0);
    expect_near((double)got.logp, -log1p(tail), DTYPE_F32, 1.0, 1.2e-7);
    assert_true(got.logp <= 0.0f);
    expect_near((double)got.lse, 3025.0, DTYPE_F32, 3025.0, 1e-7);
    double wanted = log1p(tail) + 25.0 * tail / (1.0 + tail);
    expect_near((double)got.entropy, wanted, DTYPE_F32, 1.0, 1.2e-7 + 1e-6 * wanted);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = i < 700 ? -3e38f : -2e5f;
    logits[target] = 3e38f;
    device_stats(logits, 1, VOCAB, 1.0f, &target, 0, true, &got);
    assert_true(got.logp == 0.0f && got.lse == 3e38f && fabsf(got.entropy) < 1e-30f);
}

/* Rows that hold no distribution: NaN throughout; the row beside is untouched. */
static void test_stats_broken(void **state)
{
    (void)state;
    enum { VOCAB = 4100 };
    static float logits[2 * VOCAB];
    const int32_t target[2] = {5, 5};
    const float bad[2] = {NAN, INFINITY};
    const int place[] = {0, 5, 17, 600, 2047, 2048, 4096, 4099};
    struct stats got[2];
    fill(logits, DTYPE_F32, 2 * VOCAB, 3, 5.0);
    device_stats(logits, 2, VOCAB, 1.0f, target, 0, true, got);
    const float good = got[1].logp;
    for (size_t i = 0; i < 2 * sizeof place / sizeof *place; i++)
        for (int others = 0; others < 2; others++) {
            fill(logits, DTYPE_F32, VOCAB, 3, 5.0);
            for (int j = 0; j < VOCAB && others; j++)
                logits[j] = -INFINITY;
            logits[place[i / 2]] = bad[i % 2];
            device_stats(logits, 2, VOCAB, 1.0f, target, 0, true, got);
            assert_true(isnan(got[0].logp) && isnan(got[0].lse) && isnan(got[0].entropy));
            assert_true(got[1].logp == good);
        }
    for (int j = 0; j < VOCAB; j++)
        logits[j] = -INFINITY;
    device_stats(logits, 2, VOCAB, 1.0f, target, 0, true, got);
    assert_true(isnan(got[0].logp) && isnan(got[0].lse) && isnan(got[0].entropy));
    logits[5] = -3.5f; /* one token only is a distribution */
    device_stats(logits, 2, VOCAB, 1.0f, target, 0, true, got);
    assert_true(got[0].logp == 0.0f && got[0].lse == -3.5f && got[0].entropy == 0.0f);
}

/* Rows of d_logits between guards, on both backends from the same lse and entropy. */
static void check_gradient(int64_t vocab, float temperature, enum dtype act, bool with_entropy)
{
    enum { GAP = 32 }; /* guards of 32 elements: outputs stay aligned as they would be */
    const int64_t count = ROWS * vocab;
    const size_t element = dtype_bytes(act);
    const size_t bytes = (size_t)(count + 2 * GAP) * element;
    float *logits = malloc((size_t)count * sizeof *logits);
    unsigned char *wanted = malloc(bytes), *got = malloc(bytes);
    float logp[ROWS], lse[ROWS], entropy[ROWS];
    const float d_logp[ROWS] = {1.0f, -0.7f, 0.0f, 2.5f, 0.3f};
    const float d_entropy[ROWS] = {0.5f, 0.0f, -1.0f, 0.1f, 2.0f};
    int32_t target[ROWS];
    fill(logits, DTYPE_F32, count, 77, 4.0);
    for (int r = 0; r < ROWS; r++)
        target[r] = (int32_t)((vocab - 1) * r / (ROWS - 1));
    if (vocab > 20)
        logits[2 * vocab + 7] = -INFINITY;
    logits[vocab + vocab / 2] = NAN; /* row 1 has no distribution */
    cpu->ops->head_stats(cpu, &(struct head_stats){ROWS, vocab, logits, temperature, target, logp, lse, entropy});
    memset(wanted, GUARD_BYTE, bytes);
    struct head_gradient p = {ROWS,
                              vocab,
                              logits,
                              temperature,
                              target,
                              lse,
                              with_entropy ? entropy : NULL,
                              d_logp,
                              with_entropy ? d_entropy : NULL,
                              wanted + GAP * element,
                              act};
    cpu->ops->head_gradient(cpu, &p);
    float *logits_at = device_copy(logits, (size_t)count * sizeof *logits);
    int32_t *target_at = device_copy(target, sizeof target);
    float *small[4] = {device_copy(lse, sizeof lse), device_copy(entropy, sizeof entropy),
                       device_copy(d_logp, sizeof d_logp), device_copy(d_entropy, sizeof d_entropy)};
    memset(got, GUARD_BYTE, bytes);
    unsigned char *out = device_copy(got, bytes);
    p.logits = logits_at;
    p.target = target_at;
    p.lse = small[0];
    p.entropy = with_entropy ? small[1] : NULL;
    p.d_logp = small[2];
    p.d_entropy = with_entropy ? small[3] : NULL;
    p.d_logits = out + GAP * element;
    device->ops->head_gradient(device, &p);
    device_take(got, out, bytes);
    assert_memory_equal(got, wanted, GAP * element);
    assert_memory_equal(got + (size_t)(GAP + count) * element, wanted + (size_t)(GAP + count) * element, GAP * element);
    for (int64_t i = GAP; i < GAP + count; i++) {
        const int64_t r = (i - GAP) / vocab;
        const double x = at(got, act, i), y = at(wanted, act, i);
        const double scale =
            (double)(1.0f / temperature) * (fabs((double)d_logp[r]) + 20.0 * fabs((double)d_entropy[r]));
        assert_true(isnan(x) == isnan(y) && isnan(x) == (r == 1));
        if (r != 1)
            expect_near(x, y, act, scale + 1e-30, 4e-7); /* two exps of about 1e-7 each */
    }
    device->ops->free(device, logits_at);
    device->ops->free(device, target_at);
    for (int i = 0; i < 4; i++)
        device->ops->free(device, small[i]);
    free(logits);
    free(wanted);
    free(got);
    device_must_be_well();
}

static void test_gradient(void **state)
{
    (void)state;
    const int64_t vocabs[] = {1, 2, 3, 4, 7, 8, 100, 127, 128, 129, 2047, 2048, 2049, 4100};
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++)
        for (int variant = 0; variant < 4; variant++)
            check_gradient(vocabs[v], variant & 1 ? 0.6f : 1.0f, variant & 2 ? DTYPE_BF16 : DTYPE_F32, variant != 1);
    if (!small_run)
        check_gradient(151936, 1.0f, DTYPE_BF16, true);
}

/* No rows: nothing happens. */
static void test_no_rows(void **state)
{
    (void)state;
    device->ops->head_stats(device, &(struct head_stats){.vocab = 10, .temperature = 1.0f});
    device->ops->head_gradient(device, &(struct head_gradient){.vocab = 10, .temperature = 1.0f, .act = DTYPE_F32});
    device_must_be_well();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stats),    cmocka_unit_test(test_stats_peaked), cmocka_unit_test(test_stats_broken),
        cmocka_unit_test(test_gradient), cmocka_unit_test(test_no_rows),
    };
    device_test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, device_setup, device_teardown);
}
