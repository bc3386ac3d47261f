/* Log-probs, entropy and their gradient against double references and finite differences, on every
 * instruction set. */
#include "backend/ops.h"
#include "kernels/kernel_test.h"

#include "backend/cpu/head_row.h"

static void (*const head_stats[])(struct backend *, const struct head_stats *) = OPERATION(head_stats);
static void (*const head_gradient[])(struct backend *, const struct head_gradient *) = OPERATION(head_gradient);

struct reference {
    double logp, lse, entropy;
};

static struct reference reference_of(const double *z, int64_t vocab, int32_t target)
{
    double max = -INFINITY;
    for (int64_t i = 0; i < vocab; i++)
        max = z[i] > max ? z[i] : max;
    double sum = 0.0;
    double weighted = 0.0;
    for (int64_t i = 0; i < vocab; i++) {
        sum += exp(z[i] - max);
        weighted += z[i] == -INFINITY ? 0.0 : exp(z[i] - max) * (z[i] - max);
    }
    struct reference r = {z[target] - max - log(sum), max + log(sum), log(sum) - weighted / sum};
    return r;
}

static void scaled_row(const float *logits, int64_t vocab, float temperature, double *z)
{
    for (int64_t i = 0; i < vocab; i++)
        z[i] = (double)(logits[i] * (1.0f / temperature));
}

/* Widths around the vector, and around one, two and 256 blocks of 2048. */
static const int64_t vocab_size[] = {
    1, 2, 7, 8, 9, 15, 16, 17, 100, 1024, 2047, 2048, 2049, 4096, 6001, 151936, 2048 * 256 + 1};
enum { N_VOCABS = sizeof vocab_size / sizeof *vocab_size, ROWS = 5 };

static void check_stats(int isa, int64_t vocab, float temperature)
{
    const int rows = vocab > 10000 ? 1 : ROWS;
    const size_t bytes = (size_t)(rows * vocab) * sizeof(float);
    float *logits = guarded(bytes);
    float *out[3];
    for (int i = 0; i < 3; i++)
        out[i] = guarded(ROWS * sizeof(float));
    double *z = guarded((size_t)vocab * sizeof *z);
    int32_t target[ROWS];
    fill(logits, DTYPE_F32, rows * vocab, (uint64_t)vocab, 12.0);
    for (int r = 0; r < rows; r++)
        target[r] = (int32_t)((vocab - 1) * r / ROWS);
    if (vocab > 20)
        logits[vocab - 3] = -INFINITY;
    struct backend backend = backend_with(1);
    struct head_stats params = {rows, vocab, logits, temperature, target, out[0], out[1], out[2]};
    head_stats[isa](&backend, &params);
    for (int r = 0; r < rows; r++) {
        scaled_row(logits + r * vocab, vocab, temperature, z);
        struct reference wanted = reference_of(z, vocab, target[r]);
        expect_near((double)out[0][r], wanted.logp, DTYPE_F32, 1.0 + fabs(wanted.logp), 2e-7);
        expect_near((double)out[1][r], wanted.lse, DTYPE_F32, 1.0 + fabs(wanted.lse), 2e-7);
        expect_near((double)out[2][r], wanted.entropy, DTYPE_F32, 1.0 + fabs(wanted.lse), 5e-7);
    }
    /* 2, 3 and 8 threads (the last: blocks instead of rows), and one row alone: the same bits. */
    for (int threads = 2; threads <= 8; threads += threads == 3 ? 5 : 1) {
        float again[3][ROWS];
        backend = backend_with(threads);
        struct head_stats other = {rows, vocab, logits, temperature, target, again[0], again[1], again[2]};
        head_stats[isa](&backend, &other);
        for (int i = 0; i < 3; i++)
            assert_memory_equal(again[i], out[i], (size_t)rows * sizeof(float));
        int last = rows - 1;
        struct head_stats alone = {1,        vocab, logits + last * vocab, temperature, target + last, again[0],
                                   again[1], NULL};
        head_stats[isa](&backend, &alone);
        assert_memory_equal(again[0], out[0] + last, sizeof(float));
        assert_memory_equal(again[1], out[1] + last, sizeof(float));
    }
    for (int i = 0; i < 3; i++)
        guarded_free(out[i], ROWS * sizeof(float));
    guarded_free(logits, bytes);
    guarded_free(z, (size_t)vocab * sizeof *z);
}

static void test_stats(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (int v = 0; v < N_VOCABS; v++) {
        check_stats(isa, vocab_size[v], 1.0f);
        if (vocab_size[v] < 10000)
            check_stats(isa, vocab_size[v], 0.6f);
    }
}

/* A peaked row of large logits, which must not overflow. Sums of a block are floats and the largest
 * term is 1: log-prob and entropy are good to its last place, 1.2e-7, however small they are. */
static void test_stats_peaked(void **state)
{
    (void)state;
    enum { VOCAB = 5000 };
    static float logits[VOCAB];
    EACH_ISA(isa)
    {
        for (int i = 0; i < VOCAB; i++)
            logits[i] = 3000.0f;
        logits[4321] = 3025.0f;
        const int32_t target = 4321;
        float logp, lse, entropy;
        struct backend backend = backend_with(1);
        struct head_stats params = {1, VOCAB, logits, 1.0f, &target, &logp, &lse, &entropy};
        head_stats[isa](&backend, &params);
        double tail = 4999.0 * exp(-25.0);
        expect_near((double)logp, -log1p(tail), DTYPE_F32, 1.0, 1.2e-7);
        assert_true(logp <= 0.0f);
        expect_near((double)lse, 3025.0, DTYPE_F32, 3025.0, 1e-7);
        double wanted = log1p(tail) + 25.0 * tail / (1.0 + tail);
        expect_near((double)entropy, wanted, DTYPE_F32, 1.0, 1.2e-7 + 1e-6 * wanted);
    }
}

/* Rows that hold no distribution: NaN throughout, whatever the place and the neighbours; the row
 * beside is untouched. */
static void test_stats_broken(void **state)
{
    (void)state;
    enum { VOCAB = 4100 };
    static float logits[2 * VOCAB];
    const int32_t target[2] = {5, 5};
    const float bad[2] = {NAN, INFINITY};
    const int place[] = {0, 5, 17, 2047, 2048, 4096, 4099};
    EACH_ISA(isa)
    {
        float logp[2], lse[2], entropy[2];
        struct backend backend = backend_with(1);
        struct head_stats params = {2, VOCAB, logits, 1.0f, target, logp, lse, entropy};
        fill(logits, DTYPE_F32, 2 * VOCAB, 3, 5.0);
        head_stats[isa](&backend, &params);
        const float good = logp[1];
        for (size_t i = 0; i < 2 * sizeof place / sizeof *place; i++)
            for (int others = 0; others < 2; others++) {
                fill(logits, DTYPE_F32, VOCAB, 3, 5.0);
                for (int j = 0; j < VOCAB && others; j++)
                    logits[j] = -INFINITY;
                logits[place[i / 2]] = bad[i % 2];
                head_stats[isa](&backend, &params);
                assert_true(isnan(logp[0]) && isnan(lse[0]) && isnan(entropy[0]));
                assert_true(logp[1] == good);
            }
        for (int j = 0; j < VOCAB; j++)
            logits[j] = -INFINITY;
        head_stats[isa](&backend, &params);
        assert_true(isnan(logp[0]) && isnan(lse[0]) && isnan(entropy[0]));
        /* One token only is a distribution. */
        logits[5] = -3.5f;
        head_stats[isa](&backend, &params);
        assert_true(logp[0] == 0.0f && lse[0] == -3.5f && entropy[0] == 0.0f);
    }
}

/* d_logp * logp + d_entropy * entropy in double, of logits. */
static double objective(const double *logits, int64_t vocab, double inv_temperature, int32_t target, double d_logp,
                        double d_entropy, double *z)
{
    for (int64_t i = 0; i < vocab; i++)
        z[i] = logits[i] * inv_temperature;
    struct reference r = reference_of(z, vocab, target);
    return d_logp * r.logp + d_entropy * r.entropy;
}

static void check_gradient(int isa, int64_t vocab, float temperature, enum dtype act, bool with_entropy)
{
    const size_t bytes = (size_t)(ROWS * vocab) * sizeof(float);
    const size_t out_bytes = (size_t)(ROWS * vocab) * dtype_bytes(act);
    float *logits = guarded(bytes);
    void *out = guarded(out_bytes);
    double *wide = guarded((size_t)vocab * sizeof *wide);
    double *z = guarded((size_t)vocab * sizeof *z);
    float logp[ROWS], lse[ROWS], entropy[ROWS];
    const float d_logp[ROWS] = {1.0f, -0.7f, 0.0f, 2.5f, 0.3f};
    const float d_entropy[ROWS] = {0.5f, 0.0f, -1.0f, 0.1f, 2.0f};
    int32_t target[ROWS];
    fill(logits, DTYPE_F32, ROWS * vocab, 77, 4.0);
    for (int r = 0; r < ROWS; r++)
        target[r] = (int32_t)((vocab - 1) * r / (ROWS - 1));
    struct backend backend = backend_with(1);
    struct head_stats stats = {ROWS, vocab, logits, temperature, target, logp, lse, entropy};
    head_stats[isa](&backend, &stats);
    struct head_gradient params = {ROWS,
                                   vocab,
                                   logits,
                                   temperature,
                                   target,
                                   lse,
                                   with_entropy ? entropy : NULL,
                                   d_logp,
                                   with_entropy ? d_entropy : NULL,
                                   out,
                                   act};
    head_gradient[isa](&backend, &params);
    const double inverse = (double)(1.0f / temperature);
    const double h = 1e-4;
    const int64_t stride = vocab > 200 ? 97 : 1; /* differences are quadratic in V */
    for (int r = 0; r < ROWS; r++) {
        for (int64_t i = 0; i < vocab; i++)
            wide[i] = (double)logits[r * vocab + i];
        for (int64_t n = 0; n <= vocab / stride; n++) {
            int64_t i = n == vocab / stride ? target[r] : n * stride; /* the target at last */
            double middle = wide[i];
            double d_h = with_entropy ? (double)d_entropy[r] : 0.0;
            wide[i] = middle + h;
            double up = objective(wide, vocab, inverse, target[r], (double)d_logp[r], d_h, z);
            wide[i] = middle - h;
            double down = objective(wide, vocab, inverse, target[r], (double)d_logp[r], d_h, z);
            wide[i] = middle;
            /* lse as a float is good to 1e-6 here, and so is p; the quotient to about 1e-8. */
            expect_near(at(out, act, r * vocab + i), (up - down) / (2.0 * h), act,
                        inverse * (fabs((double)d_logp[r]) + 4.0 * fabs(d_h)), 2e-6);
        }
    }
    void *again = guarded(out_bytes);
    params.d_logits = again;
    backend = backend_with(2);
    head_gradient[isa](&backend, &params);
    assert_memory_equal(again, out, out_bytes);
    guarded_free(again, out_bytes);
    guarded_free(out, out_bytes);
    guarded_free(logits, bytes);
    guarded_free(wide, (size_t)vocab * sizeof *wide);
    guarded_free(z, (size_t)vocab * sizeof *z);
}

static void test_gradient(void **state)
{
    (void)state;
    const int64_t vocabs[] = {2, 7, 8, 9, 15, 16, 17, 100, 2049};
    EACH_ISA(isa)
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++)
        for (int variant = 0; variant < 4; variant++)
            check_gradient(isa, vocabs[v], variant & 1 ? 0.6f : 1.0f, variant & 2 ? DTYPE_BF16 : DTYPE_F32,
                           variant != 1);
}

/* A gradient of a log-prob sums to zero, a masked token (-inf) gets none, a row without a
 * distribution gives NaN. */
static void test_gradient_special(void **state)
{
    (void)state;
    enum { VOCAB = 3000 };
    static float logits[2 * VOCAB], out[2 * VOCAB];
    fill(logits, DTYPE_F32, 2 * VOCAB, 5, 3.0);
    logits[70] = -INFINITY;
    logits[VOCAB + 1] = NAN;
    const int32_t target[2] = {2999, 0};
    const float d_logp[2] = {1.0f, 1.0f}, d_entropy[2] = {1.0f, 1.0f};
    EACH_ISA(isa)
    for (int with_entropy = 0; with_entropy < 2; with_entropy++) {
        float logp[2], lse[2], entropy[2];
        struct backend backend = backend_with(1);
        struct head_stats stats = {2, VOCAB, logits, 1.0f, target, logp, lse, entropy};
        head_stats[isa](&backend, &stats);
        struct head_gradient params = {2,
                                       VOCAB,
                                       logits,
                                       1.0f,
                                       target,
                                       lse,
                                       with_entropy ? entropy : NULL,
                                       d_logp,
                                       with_entropy ? d_entropy : NULL,
                                       out,
                                       DTYPE_F32};
        head_gradient[isa](&backend, &params);
        double sum = 0.0;
        for (int i = 0; i < VOCAB; i++)
            sum += (double)out[i];
        expect_near(sum, 0.0, DTYPE_F32, 1.0, 3e-6);
        assert_true(out[70] == 0.0f);
        for (int i = 0; i < VOCAB; i++)
            assert_true(isnan(out[VOCAB + i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stats),    cmocka_unit_test(test_stats_peaked),     cmocka_unit_test(test_stats_broken),
        cmocka_unit_test(test_gradient), cmocka_unit_test(test_gradient_special),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
