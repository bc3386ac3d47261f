/* Log-probs, entropy and their gradient against double references, which are held by finite differences, on every
 * backend; the same bits for a row alone, among others and at any address. */
#include "kernels/kernel_test.h"

struct reference {
    double logp, lse, entropy, mean;
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
    struct reference r = {z[target] - max - log(sum), max + log(sum), log(sum) - weighted / sum, 0.0};
    double mean = 0.0;
    for (int64_t i = 0; i < vocab; i++)
        mean += z[i] / (double)vocab;
    r.mean = mean - r.lse;
    return r;
}

/* z = logits / temperature as the kernels round it, for free. */
static double *scaled_row(const float *logits, int64_t vocab, float temperature)
{
    double *z = malloc((size_t)vocab * sizeof *z);
    assert_non_null(z);
    for (int64_t i = 0; i < vocab; i++)
        z[i] = (double)(logits[i] * (1.0f / temperature));
    return z;
}

/* ---- Statistics ---- */

enum { ROWS = 5 };

struct stats {
    const struct array *logp, *lse, *entropy, *mean; /* entropy, mean NULL: not wanted, nor is top */
    int32_t top[ROWS];
};

static struct stats stats_of(const float *logits, const int32_t *target, int64_t rows, int64_t vocab, float temperature,
                             bool entropy)
{
    static const int32_t none[ROWS] = {-1, -1, -1, -1, -1};
    struct stats s = {.logp = array_new(rows, DTYPE_F32, 0, 0.0),
                      .lse = array_new(rows, DTYPE_F32, 0, 0.0),
                      .entropy = entropy ? array_new(rows, DTYPE_F32, 0, 0.0) : NULL,
                      .mean = entropy ? array_new(rows, DTYPE_F32, 0, 0.0) : NULL};
    int32_t *top = ids_of(none, rows)->d;
    backend->ops->head_stats(backend, &(struct head_stats){.rows = rows,
                                                           .vocab = vocab,
                                                           .logits = logits,
                                                           .temperature = temperature,
                                                           .target = target,
                                                           .logp = s.logp->d,
                                                           .lse = s.lse->d,
                                                           .entropy = entropy ? s.entropy->d : NULL,
                                                           .top = entropy ? top : NULL,
                                                           .mean = entropy ? s.mean->d : NULL});
    if (entropy)
        pull(s.mean);
    backend->ops->download(backend, s.top, top, (size_t)rows * sizeof *top);
    pull(s.logp);
    pull(s.lse);
    if (entropy)
        pull(s.entropy);
    return s;
}

/* Widths around the vector, and around one, two and 256 blocks of 2048. */
static const int64_t vocab_size[] = {1,    2,    3,    4,      5,
                                     7,    8,    9,    15,     16,
                                     17,   31,   100,  127,    128,
                                     129,  1001, 1024, 2047,   2048,
                                     2049, 4096, 6001, 151936, 2048 * 256 + 1};
enum { N_VOCABS = sizeof vocab_size / sizeof *vocab_size };

static void check_stats(int64_t vocab, float temperature)
{
    const int64_t rows = vocab <= 10000 ? ROWS : test_options.cuda && !test_options.small ? ROWS : 2;
    const struct array *logits = array_new(rows * vocab, DTYPE_F32, (uint64_t)vocab, 12.0);
    int32_t targets[ROWS];
    for (int64_t r = 0; r < rows; r++)
        targets[r] = (int32_t)((vocab - 1) * r / ROWS);
    if (vocab > 20)
        set(logits, vocab - 3, -INFINITY);
    push(logits);
    const int32_t *target = ids_of(targets, rows)->d;
    use_threads(1);
    const struct stats all = stats_of(logits->d, target, rows, vocab, temperature, true);
    for (int64_t r = 0; r < rows; r++) {
        double *z = scaled_row((float *)logits->x + r * vocab, vocab, temperature);
        const struct reference wanted = reference_of(z, vocab, targets[r]);
        expect_near(get(all.logp, r), wanted.logp, DTYPE_F32, 1.0 + fabs(wanted.logp), 2e-7);
        expect_near(get(all.lse, r), wanted.lse, DTYPE_F32, 1.0 + fabs(wanted.lse), 2e-7);
        /* The sums of a block are of 2048 floats. */
        expect_near(get(all.entropy, r), wanted.entropy, DTYPE_F32, 1.0 + fabs(wanted.lse), 5e-7);
        if (isinf(wanted.mean))
            assert_true(get(all.mean, r) == wanted.mean); /* of a row with a token that cannot be */
        else /* 2048 floats, of which many accumulators hold a share each */
            expect_near(get(all.mean, r), wanted.mean, DTYPE_F32, 12.0 + fabs(wanted.lse), 5e-7);
        free(z);
    }
    /* 2, 3 and 8 threads (the last: blocks instead of rows): the same bits. */
    for (int threads = 2; threads <= (test_options.cuda ? 2 : 8); threads += threads == 3 ? 5 : 1) {
        use_threads(threads);
        const struct stats again = stats_of(logits->d, target, rows, vocab, temperature, true);
        expect_same("log-prob", all.logp, again.logp);
        expect_same("log-sum-exp", all.lse, again.lse);
        expect_same("entropy", all.entropy, again.entropy);
        expect_same("mean", all.mean, again.mean);
        assert_memory_equal(all.top, again.top, sizeof all.top);
    }
    /* A row alone, at an address that is not aligned, without entropy. */
    for (int64_t r = 0; r < rows; r++) {
        const struct array *row = array_shifted(vocab, DTYPE_F32, 0, 0.0, (size_t)r + 1);
        memcpy(row->x, (float *)logits->x + r * vocab, row->bytes);
        push(row);
        const struct stats alone = stats_of(row->d, target + r, 1, vocab, temperature, false);
        assert_memory_equal(alone.logp->x, (float *)all.logp->x + r, sizeof(float));
        assert_memory_equal(alone.lse->x, (float *)all.lse->x + r, sizeof(float));
    }
    arrays_free();
}

static void test_stats(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int v = 0; v < N_VOCABS; v++) {
        if (test_options.small && vocab_size[v] > 200000)
            continue;
        check_stats(vocab_size[v], 1.0f);
        if (vocab_size[v] < 10000)
            check_stats(vocab_size[v], 0.6f);
    }
}

/* A peaked row of large logits, which must not overflow, and one whose blocks are far apart. Sums of a block are floats
 * and the largest term is 1: log-prob and entropy are good to its last place, 1.2e-7, however small they are. */
static void test_stats_peaked(void **state)
{
    (void)state;
    enum { VOCAB = 5000, TARGET = 4321 };
    const int32_t target = TARGET;
    EACH_BACKEND
    {
        const struct array *logits = array_new(VOCAB, DTYPE_F32, 0, 0.0), *id = ids_of(&target, 1);
        for (int i = 0; i < VOCAB; i++)
            set(logits, i, i == TARGET ? 3025.0f : 3000.0f);
        push(logits);
        struct stats s = stats_of(logits->d, id->d, 1, VOCAB, 1.0f, true);
        const double tail = 4999.0 * exp(-25.0), wanted = log1p(tail) + 25.0 * tail / (1.0 + tail);
        expect_near(get(s.logp, 0), -log1p(tail), DTYPE_F32, 1.0, 1.2e-7);
        assert_true(get(s.logp, 0) <= 0.0);
        expect_near(get(s.lse, 0), 3025.0, DTYPE_F32, 3025.0, 1e-7);
        expect_near(get(s.entropy, 0), wanted, DTYPE_F32, 1.0, 1.2e-7 + 1e-6 * wanted);
        for (int i = 0; i < VOCAB; i++)
            set(logits, i, i == TARGET ? 3e38f : i < 700 ? -3e38f : -2e5f);
        push(logits);
        s = stats_of(logits->d, id->d, 1, VOCAB, 1.0f, true);
        assert_true(get(s.logp, 0) == 0.0 && get(s.lse, 0) == (double)3e38f && fabs(get(s.entropy, 0)) < 1e-30);
        arrays_free();
    }
}

/* The target is on top where it is the first with the largest z: not beside an earlier equal one, but beside a later. */
static void test_stats_top(void **state)
{
    (void)state;
    enum { MOST = 6200 };
    static const int64_t vocabs[] = {1, 5, 100, 2048, 2049, MOST};
    EACH_BACKEND
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++)
        for (int place = 0; place < 4; place++) {
            const int64_t vocab = vocabs[v], target = (vocab - 1) * place / 3;
            const int64_t others[] = {0, target / 2, target - 1, target + 1, vocab - 1, target};
            const int32_t targets[ROWS] = {(int32_t)target, (int32_t)target, (int32_t)target, (int32_t)target,
                                           (int32_t)target};
            for (size_t o = 0; o < sizeof others / sizeof *others; o++) {
                const int64_t other = others[o];
                if (other < 0 || other >= vocab)
                    continue;
                /* Row 0: the target alone has the most; 1: another has as much; 2: another has more; 3: a NaN beside it;
                 * 4: the least there is. */
                const struct array *logits = array_new(ROWS * vocab, DTYPE_F32, 11, 3.0);
                for (int r = 0; r < 4; r++)
                    set(logits, r * vocab + target, 7.25f);
                set(logits, vocab + other, 7.25f);
                set(logits, 2 * vocab + other, 7.5f);
                set(logits, 3 * vocab + other, NAN);
                set(logits, 4 * vocab + target, -9.0f);
                push(logits);
                use_threads(1 + (int)(o % 2));
                const struct stats s = stats_of(logits->d, ids_of(targets, ROWS)->d, ROWS, vocab, 1.0f, true);
                assert_int_equal(s.top[0], 1);
                assert_int_equal(s.top[1], other >= target);
                assert_int_equal(s.top[2], other == target);
                assert_int_equal(s.top[3], 0);
                assert_int_equal(s.top[4], vocab == 1);
                arrays_free();
            }
        }
}

static bool broken(const struct stats *s)
{
    return isnan(get(s->logp, 0)) && isnan(get(s->lse, 0)) && isnan(get(s->entropy, 0)) && isnan(get(s->mean, 0)) &&
           s->top[0] == 0;
}

/* Rows that hold no distribution: NaN throughout, whatever the place and the neighbours; the row beside is untouched. */
static void test_stats_broken(void **state)
{
    (void)state;
    enum { VOCAB = 4100 };
    static const int32_t targets[2] = {5, 5};
    static const float bad[2] = {NAN, INFINITY};
    static const int place[] = {0, 5, 17, 600, 2047, 2048, 4096, 4099};
    enum { N = 2 * sizeof place / sizeof *place };
    EACH_BACKEND
    {
        double good = 0.0;
        for (int i = -1; i < 2 * (int)N + 2; i++) {
            const struct array *logits = array_new(2 * VOCAB, DTYPE_F32, 3, 5.0);
            const bool others = i >= (int)N; /* are all -inf */
            for (int j = 0; j < VOCAB && others; j++)
                set(logits, j, -INFINITY);
            if (i >= 0 && i < 2 * (int)N)
                set(logits, place[i % (int)N / 2], bad[i % 2]);
            if (i > 2 * (int)N)
                set(logits, 5, -3.5f); /* one token only is a distribution */
            push(logits);
            const struct stats s = stats_of(logits->d, ids_of(targets, 2)->d, 2, VOCAB, 1.0f, true);
            if (i < 0)
                good = get(s.logp, 1);
            else if (i <= 2 * (int)N)
                assert_true(broken(&s));
            else
                assert_true(get(s.logp, 0) == 0.0 && get(s.lse, 0) == -3.5 && get(s.entropy, 0) == 0.0);
            assert_true(get(s.logp, 1) == good);
            arrays_free();
        }
    }
}

/* ---- Gradient ---- */

/* What a row's derivatives multiply: d_logp * logp + d_entropy * entropy + d_mean * mean of logits. */
static double objective(const double *logits, int64_t vocab, double inverse, int32_t target, double d_logp,
                        double d_entropy, double d_mean, double *z)
{
    for (int64_t i = 0; i < vocab; i++)
        z[i] = logits[i] * inverse;
    const struct reference r = reference_of(z, vocab, target);
    return d_logp * r.logp + d_entropy * r.entropy + (d_mean == 0.0 ? 0.0 : d_mean * r.mean);
}

static const float d_logp[ROWS] = {1.0f, -0.7f, 0.0f, 2.5f, 0.3f};
static const float d_entropy[ROWS] = {0.5f, 0.0f, -1.0f, 0.1f, 2.0f};
static const float d_mean[ROWS] = {0.4f, 1.5f, 0.0f, -0.8f, 0.6f}; /* 0 where a row has a masked token */

/* Every element against the formula of ops.h in double, from the backend's own statistics: what is left is the error of
 * an exp, about 1e-7. */
static void check_formula(const struct head_gradient *p, const struct array *logits, const int32_t *targets,
                          const struct stats *s, const struct array *out, bool bad)
{
    const float inverse = 1.0f / p->temperature;
    for (int r = 0; r < ROWS; r++)
        for (int64_t i = 0; i < p->vocab && !(bad && r == 1); i++) {
            const double z = (double)((float)get(logits, r * p->vocab + i) * inverse), lse = get(s->lse, r);
            const double prob = exp(z - lse), d_h = p->d_entropy != NULL ? (double)d_entropy[r] : 0.0;
            const double by_entropy = prob > 0.0 ? -prob * (z - lse + get(s->entropy, r)) : 0.0;
            const double d_m = p->d_mean != NULL ? (double)d_mean[r] : 0.0;
            const double wanted = (double)d_logp[r] * ((i == targets[r] ? 1.0 : 0.0) - prob) + d_h * by_entropy +
                                  d_m * (1.0 / (double)p->vocab - prob);
            const double scale = (double)inverse * (fabs((double)d_logp[r]) + 20.0 * fabs(d_h) + fabs(d_m)) + 1e-30;
            expect_near(get(out, r * p->vocab + i), (double)inverse * wanted, out->type, scale, 4e-7);
        }
}

/* The statistics that the gradient starts from are the backend's own. bad: row 2 has a masked token, row 1 no
 * distribution. */
static void check_gradient(int64_t vocab, float temperature, enum dtype act, bool with_entropy, bool with_mean,
                           bool bad)
{
    const int64_t n = ROWS * vocab;
    const struct array *logits = array_new(n, DTYPE_F32, 77, 4.0), *out = array_new(n, act, 0, 0.0);
    int32_t targets[ROWS];
    for (int r = 0; r < ROWS; r++)
        targets[r] = (int32_t)((vocab - 1) * r / (ROWS - 1));
    if (bad && vocab > 20)
        set(logits, 2 * vocab + 7, -INFINITY);
    if (bad)
        set(logits, vocab + vocab / 2, NAN);
    push(logits);
    const int32_t *target = ids_of(targets, ROWS)->d;
    const struct array *dl = array_of(d_logp, ROWS, DTYPE_F32), *de = array_of(d_entropy, ROWS, DTYPE_F32),
                       *dm = array_of(d_mean, ROWS, DTYPE_F32);
    use_threads(1);
    const struct stats s = stats_of(logits->d, target, ROWS, vocab, temperature, true);
    struct head_gradient p = {ROWS,
                              vocab,
                              logits->d,
                              temperature,
                              target,
                              s.lse->d,
                              with_entropy ? s.entropy->d : NULL,
                              dl->d,
                              with_entropy ? de->d : NULL,
                              out->d,
                              act,
                              with_mean ? dm->d : NULL,
                              {0}};
    backend->ops->head_gradient(backend, &p);
    pull(out);
    check_formula(&p, logits, targets, &s, out, bad);
    const double inverse = (double)(1.0f / temperature), h = 1e-4;
    const int64_t stride = vocab > 200 ? 97 : 1; /* differences are quadratic in V */
    double *wide = malloc((size_t)vocab * sizeof *wide), *z = malloc((size_t)vocab * sizeof *z);
    assert_true(wide && z);
    for (int r = 0; r < ROWS; r++) {
        const double d_h = with_entropy ? (double)d_entropy[r] : 0.0, d_m = with_mean ? (double)d_mean[r] : 0.0;
        for (int64_t i = 0; i < vocab; i++)
            wide[i] = get(logits, r * vocab + i);
        for (int64_t i = 0; i < vocab; i++)
            assert_int_equal(isnan(get(out, r * vocab + i)) != 0, bad && r == 1);
        for (int64_t k = 0; k <= vocab / stride && !(bad && r == 1); k++) {
            const int64_t i = k == vocab / stride ? targets[r] : k * stride; /* the target at last */
            const double middle = wide[i];
            if (middle == -INFINITY) {
                assert_true(get(out, r * vocab + i) == 0.0);
                continue;
            }
            wide[i] = middle + h;
            const double up = objective(wide, vocab, inverse, targets[r], (double)d_logp[r], d_h, d_m, z);
            wide[i] = middle - h;
            const double down = objective(wide, vocab, inverse, targets[r], (double)d_logp[r], d_h, d_m, z);
            wide[i] = middle;
            /* lse as a float is good to 1e-6 here, and so is p; the quotient to about 1e-8. A vocabulary of a token or
             * two has nothing to cancel it. */
            expect_near(get(out, r * vocab + i), (up - down) / (2.0 * h), act,
                        inverse * (fabs((double)d_logp[r]) + 4.0 * fabs(d_h) + fabs(d_m)), 2e-6);
        }
    }
    free(wide), free(z);
    const struct array *again = array_shifted(n, act, 0, 0.0, 0);
    p.d_logits = again->d;
    use_threads(2);
    backend->ops->head_gradient(backend, &p);
    if (!bad) /* NaNs are not compared by bits */
        expect_same("two threads", out, again);
    arrays_free();
}

static void test_gradient(void **state)
{
    (void)state;
    static const int64_t vocabs[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 100, 127, 128, 129, 2047, 2048, 2049, 4100};
    EACH_BACKEND
    {
        for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++)
            for (int variant = 0; variant < 8; variant++)
                if (!test_options.small || variant < 4 || v % 3 == 0)
                    for (int mean = 0; mean < 2; mean++)
                        check_gradient(vocabs[v], variant & 1 ? 0.6f : 1.0f, variant & 2 ? DTYPE_BF16 : DTYPE_F32,
                                       variant % 4 != 1, mean == 1, variant >= 4);
        if (test_options.cuda && !test_options.small)
            check_gradient(151936, 1.0f, DTYPE_BF16, true, true, false);
    }
}

/* A gradient of a log-prob sums to zero, a masked token (-inf) gets none, a row without a distribution gives NaN. */
static void test_gradient_special(void **state)
{
    (void)state;
    enum { VOCAB = 3000 };
    static const int32_t targets[2] = {2999, 0};
    static const float ones[2] = {1.0f, 1.0f};
    EACH_BACKEND
    for (int with_entropy = 0; with_entropy < 2; with_entropy++) {
        const struct array *logits = array_new(2 * VOCAB, DTYPE_F32, 5, 3.0), *one = array_of(ones, 2, DTYPE_F32);
        const struct array *out = array_new(2 * VOCAB, DTYPE_F32, 0, 0.0), *target = ids_of(targets, 2);
        set(logits, 70, -INFINITY);
        set(logits, VOCAB + 1, NAN);
        push(logits);
        const struct stats s = stats_of(logits->d, target->d, 2, VOCAB, 1.0f, true);
        backend->ops->head_gradient(backend, &(struct head_gradient){2,
                                                                     VOCAB,
                                                                     logits->d,
                                                                     1.0f,
                                                                     target->d,
                                                                     s.lse->d,
                                                                     with_entropy ? s.entropy->d : NULL,
                                                                     one->d,
                                                                     with_entropy ? one->d : NULL,
                                                                     out->d,
                                                                     DTYPE_F32,
                                                                     NULL,
                                                                     {0}});
        pull(out);
        double sum = 0.0;
        for (int i = 0; i < VOCAB; i++)
            sum += get(out, i);
        expect_near(sum, 0.0, DTYPE_F32, 1.0, 3e-6);
        assert_true(get(out, 70) == 0.0);
        for (int i = 0; i < VOCAB; i++)
            assert_true(isnan(get(out, VOCAB + i)));
        arrays_free();
    }
}

/* Rows that may not take every token: statistics and gradient have the bits of rows whose other logits are -infinity. */
static void check_allowed(int64_t vocab, float temperature, enum dtype act, int threads)
{
    enum { MASKS = 3 };
    static const int32_t which[ROWS] = {1, -1, 0, 2, 1};
    const int64_t n = ROWS * vocab, words = allowed_words(vocab);
    const struct array *logits = array_new(n, DTYPE_F32, (uint64_t)vocab + 3, 6.0),
                       *forbidden = array_new(n, DTYPE_F32, (uint64_t)vocab + 3, 6.0);
    int32_t targets[ROWS];
    uint32_t *bits = calloc((size_t)(MASKS * words), sizeof *bits);
    void *device_bits = NULL;
    cohort_error err = {0};
    assert_non_null(bits);
    for (int64_t i = 0; i < MASKS * words; i++) /* about half of all, nearly all, a few; ids from vocab on too */
        bits[i] = i / words == 0   ? (uint32_t)i * 2654435761u
                  : i / words == 1 ? ~(1u << (i % 32))
                                   : (i % 7 == 0 ? 1u << (i % 32) : 0u);
    for (int r = 0; r < ROWS; r++) {
        targets[r] = (int32_t)((vocab - 1) * r / (ROWS - 1));
        if (which[r] >= 0)
            bits[which[r] * words + targets[r] / 32] |= 1u << (targets[r] % 32);
    }
    for (int64_t i = 0; i < n; i++)
        if (which[i / vocab] >= 0 && (bits[which[i / vocab] * words + i % vocab / 32] >> (i % vocab % 32) & 1u) == 0)
            set(forbidden, i, -INFINITY);
    push(forbidden);
    assert_int_equal(backend->ops->alloc(backend, &device_bits, (size_t)(MASKS * words) * 4, "test", &err), COHORT_OK);
    backend->ops->upload(backend, device_bits, bits, (size_t)(MASKS * words) * 4);
    const struct array *target = ids_of(targets, ROWS), *dl = array_of(d_logp, ROWS, DTYPE_F32),
                       *de = array_of(d_entropy, ROWS, DTYPE_F32);
    const struct head_allowed allowed = {device_bits, ids_of(which, ROWS)->d};
    const struct array *out[2][4];
    use_threads(threads);
    for (int masked = 0; masked < 2; masked++) {
        const float *rows = masked ? logits->d : forbidden->d;
        for (int k = 0; k < 3; k++)
            out[masked][k] = array_new(ROWS, DTYPE_F32, 0, 0.0);
        out[masked][3] = array_new(n, act, 0, 0.0);
        backend->ops->head_stats(backend, &(struct head_stats){.rows = ROWS,
                                                               .vocab = vocab,
                                                               .logits = rows,
                                                               .temperature = temperature,
                                                               .target = target->d,
                                                               .logp = out[masked][0]->d,
                                                               .lse = out[masked][1]->d,
                                                               .entropy = out[masked][2]->d,
                                                               .allowed = masked ? allowed : (struct head_allowed){0}});
        backend->ops->head_gradient(backend,
                                    &(struct head_gradient){.rows = ROWS,
                                                            .vocab = vocab,
                                                            .logits = rows,
                                                            .temperature = temperature,
                                                            .target = target->d,
                                                            .lse = out[masked][1]->d,
                                                            .entropy = out[masked][2]->d,
                                                            .d_logp = dl->d,
                                                            .d_entropy = de->d,
                                                            .d_logits = out[masked][3]->d,
                                                            .act = act,
                                                            .allowed = masked ? allowed : (struct head_allowed){0}});
        for (int k = 0; k < 4; k++)
            pull(out[masked][k]);
    }
    expect_same("log-probs of what is allowed", out[0][0], out[1][0]);
    expect_same("sums of what is allowed", out[0][1], out[1][1]);
    expect_same("entropies of what is allowed", out[0][2], out[1][2]);
    expect_same("gradients of what is allowed", out[0][3], out[1][3]);
    backend->ops->free(backend, device_bits);
    free(bits);
    arrays_free();
}

static void test_allowed(void **state)
{
    (void)state;
    static const int64_t vocabs[] = {1, 2, 7, 31, 32, 33, 64, 129, 2047, 2048, 2049, 4100, 151936};
    EACH_BACKEND
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++)
        for (int variant = 0; variant < 4 && !(test_options.small && vocabs[v] > 5000); variant++)
            check_allowed(vocabs[v], variant & 1 ? 0.6f : 1.0f, variant & 2 ? DTYPE_BF16 : DTYPE_F32, variant + 1);
}

/* No rows: nothing happens. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->head_stats(backend, &(struct head_stats){.vocab = 10, .temperature = 1.0f});
        backend->ops->head_gradient(backend, &(struct head_gradient){.vocab = 10, .temperature = 1.0f});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stats),    cmocka_unit_test(test_stats_peaked),     cmocka_unit_test(test_stats_broken),
        cmocka_unit_test(test_gradient), cmocka_unit_test(test_gradient_special), cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_nothing),  cmocka_unit_test(test_stats_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
