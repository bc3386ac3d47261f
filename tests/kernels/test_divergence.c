/* The divergence of two rows of logits and its gradient against double references, which are held by finite differences,
 * on every backend; the same bits for a row alone, among others and at any address. */
#include "kernels/kernel_test.h"

enum { ROWS = 5 };

static const float betas[] = {0.0f, 0.1f, 0.5f, 0.9f, 1.0f};
enum { N_BETAS = sizeof betas / sizeof *betas };

static void softmax(const double *z, int64_t n, double *lp)
{
    double max = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, z[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - max);
    for (int64_t i = 0; i < n; i++)
        lp[i] = z[i] - max - log(sum);
}

static double log_mix(double lp, double lq, double beta) { return log((1.0 - beta) * exp(lp) + beta * exp(lq)); }

/* Of log-probs; own: KL(p || m). */
static double divergence_of(const double *lp, const double *lq, int64_t n, double beta, double *own)
{
    double p_to_m = 0.0, q_to_m = 0.0, forward = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double lm = log_mix(lp[i], lq[i], beta);
        p_to_m += lp[i] == -INFINITY ? 0.0 : exp(lp[i]) * (lp[i] - lm);
        q_to_m += lq[i] == -INFINITY ? 0.0 : exp(lq[i]) * (lq[i] - lm);
        forward += lq[i] == -INFINITY ? 0.0 : exp(lq[i]) * (lq[i] - lp[i]);
    }
    *own = beta == 0.0 ? 0.0 : p_to_m;
    return beta == 0.0 ? forward : beta == 1.0 ? p_to_m : beta * q_to_m + (1.0 - beta) * p_to_m;
}

/* Two sets of rows, with what the backend says of each alone. */
struct pair {
    int64_t vocab;
    float temperature;
    const struct array *logits, *teacher, *lse, *lse_teacher;
};

static const struct array *lse_of(const float *logits, int64_t rows, int64_t vocab, float temperature)
{
    static const int32_t targets[ROWS] = {0};
    const struct array *lse = array_new(rows, DTYPE_F32, 0, 0.0), *logp = array_new(rows, DTYPE_F32, 0, 0.0);
    backend->ops->head_stats(backend, &(struct head_stats){.rows = rows,
                                                           .vocab = vocab,
                                                           .logits = logits,
                                                           .temperature = temperature,
                                                           .target = ids_of(targets, rows)->d,
                                                           .logp = logp->d,
                                                           .lse = lse->d});
    pull(lse);
    return lse;
}

/* Row 0 is alike in both, row 1 far apart, the others are drawn. */
static struct pair pair_new(int64_t vocab, float temperature, bool masked)
{
    struct pair p = {.vocab = vocab, .temperature = temperature};
    p.logits = array_new(ROWS * vocab, DTYPE_F32, (uint64_t)vocab, 4.0);
    p.teacher = array_new(ROWS * vocab, DTYPE_F32, (uint64_t)vocab + 1000, 5.0);
    for (int64_t i = 0; i < vocab; i++) {
        set(p.teacher, i, (float)get(p.logits, i));
        set(p.teacher, vocab + i, i % 2 == 0 ? 30.0f : -30.0f);
        set(p.logits, vocab + i, i % 2 == 0 ? -30.0f : 30.0f);
    }
    if (masked && vocab > 20) { /* in both: what neither can say */
        set(p.logits, 2 * vocab + 7, -INFINITY);
        set(p.teacher, 2 * vocab + 7, -INFINITY);
    }
    push(p.logits);
    push(p.teacher);
    p.lse = lse_of(p.logits->d, ROWS, vocab, temperature);
    p.lse_teacher = lse_of(p.teacher->d, ROWS, vocab, temperature);
    return p;
}

static struct divergence of_pair(const struct pair *p, float beta, const struct array *value, const struct array *mix)
{
    return (struct divergence){.rows = ROWS,
                               .vocab = p->vocab,
                               .logits = p->logits->d,
                               .teacher = p->teacher->d,
                               .temperature = p->temperature,
                               .lse = p->lse->d,
                               .lse_teacher = p->lse_teacher->d,
                               .beta = beta,
                               .value = value->d,
                               .to_mix = mix->d};
}

static void scaled(const struct array *logits, int64_t row, const struct pair *p, double *z)
{
    for (int64_t i = 0; i < p->vocab; i++)
        z[i] = (double)((float)get(logits, row * p->vocab + i) * (1.0f / p->temperature));
}

static void check(int64_t vocab, float temperature, float beta, enum dtype act, bool masked)
{
    static const float weights[ROWS] = {1.0f, 0.5f, -0.25f, 2.0f, 0.0f};
    const double b = (double)beta, inverse = (double)(1.0f / temperature);
    double *z = malloc((size_t)vocab * 4 * sizeof *z);
    assert_non_null(z);
    double *lp = z + vocab, *lq = lp + vocab, *moved = lq + vocab;
    use_threads(1);
    const struct pair p = pair_new(vocab, temperature, masked);
    const struct array *value = array_new(ROWS, DTYPE_F32, 0, 0.0), *mix = array_new(ROWS, DTYPE_F32, 0, 0.0),
                       *out = array_new(ROWS * vocab, act, 0, 0.0), *weight = array_of(weights, ROWS, DTYPE_F32);
    struct divergence d = of_pair(&p, beta, value, mix);
    backend->ops->divergence(backend, &d);
    pull(value);
    pull(mix);
    d.weight = weight->d;
    d.d_logits = out->d;
    d.act = act;
    backend->ops->divergence_gradient(backend, &d);
    pull(out);
    for (int64_t r = 0; r < ROWS; r++) {
        double own = 0.0, slack = 0.0;
        scaled(p.teacher, r, &p, z);
        softmax(z, vocab, lq);
        scaled(p.logits, r, &p, z);
        softmax(z, vocab, lp);
        const double wanted = divergence_of(lp, lq, vocab, b, &own);
        /* An lse as a float is off by half a place, and so is every log-prob of its row: all probabilities are too large
         * by that much, and all differences of log-probs are off by it. */
        slack = 3.0 + (1.0 + fabs(wanted)) * (1.0 + (fabs(get(p.lse, r)) + fabs(get(p.lse_teacher, r))) / 2.0);
        expect_near(get(value, r), wanted, DTYPE_F32, slack, 3e-7);
        expect_near(get(mix, r), own, DTYPE_F32, slack, 3e-7);
        if (r == 0) /* alike */
            assert_true(fabs(get(value, r)) < 1e-6);
        const int64_t stride = vocab > 200 ? 97 : 1;
        for (int64_t i = 0; i < vocab; i++) {
            const double prob = exp(lp[i]);
            const double slope = beta == 0.0f   ? prob - exp(lq[i])
                                 : prob == 0.0  ? 0.0
                                 : beta == 1.0f ? prob * (lp[i] - lq[i] - own)
                                                : (1.0 - b) * prob * (lp[i] - log_mix(lp[i], lq[i], b) - own);
            expect_near(get(out, r * vocab + i), inverse * (double)weights[r] * slope, act,
                        inverse * fabs((double)weights[r]) * slack + 1e-30, 4e-7);
            if (i % stride != 0 || z[i] == -INFINITY)
                continue;
            const double h = 1e-4, middle = z[i];
            double unused;
            z[i] = middle + h;
            softmax(z, vocab, moved);
            const double up = divergence_of(moved, lq, vocab, b, &unused);
            z[i] = middle - h;
            softmax(z, vocab, moved);
            const double down = divergence_of(moved, lq, vocab, b, &unused);
            z[i] = middle;
            expect_near(get(out, r * vocab + i), inverse * (double)weights[r] * (up - down) / (2.0 * h), act,
                        inverse * fabs((double)weights[r]) * slack + 1e-30, 2e-6);
        }
    }
    for (int threads = 2; threads <= 3; threads++) { /* the same bits */
        const struct array *again = array_new(ROWS, DTYPE_F32, 0, 0.0), *mix_again = array_new(ROWS, DTYPE_F32, 0, 0.0),
                           *out_again = array_shifted(ROWS * vocab, act, 0, 0.0, (size_t)threads);
        use_threads(threads);
        d.value = again->d;
        d.to_mix = mix_again->d;
        d.d_logits = out_again->d;
        backend->ops->divergence(backend, &d);
        backend->ops->divergence_gradient(backend, &d);
        pull(out_again);
        expect_same("divergence", value, again);
        expect_same("KL to the mixture", mix, mix_again);
        assert_memory_equal(out->x, out_again->x, out->bytes);
    }
    for (int64_t r = 0; r < ROWS; r++) { /* alone, at an address that is not aligned */
        const struct array *row = array_shifted(vocab, DTYPE_F32, 0, 0.0, (size_t)r + 1),
                           *other = array_shifted(vocab, DTYPE_F32, 0, 0.0, 1),
                           *alone = array_new(1, DTYPE_F32, 0, 0.0), *mix_alone = array_new(1, DTYPE_F32, 0, 0.0);
        memcpy(row->x, (float *)p.logits->x + r * vocab, row->bytes);
        memcpy(other->x, (float *)p.teacher->x + r * vocab, other->bytes);
        push(row);
        push(other);
        struct divergence one = of_pair(&p, beta, alone, mix_alone);
        one.rows = 1;
        one.logits = row->d;
        one.teacher = other->d;
        one.lse = (const float *)p.lse->d + r;
        one.lse_teacher = (const float *)p.lse_teacher->d + r;
        backend->ops->divergence(backend, &one);
        pull(alone);
        assert_memory_equal(alone->x, (float *)value->x + r, sizeof(float));
    }
    free(z);
    arrays_free();
}

static void test_divergence(void **state)
{
    (void)state;
    static const int64_t vocabs[] = {1, 2, 3, 7, 8, 9, 16, 17, 33, 100, 127, 129, 2047, 2048, 2049, 4100};
    EACH_BACKEND
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++)
        for (int k = 0; k < N_BETAS; k++)
            if (!test_options.small || v % 3 == 0 || vocabs[v] == 2049)
                check(vocabs[v], (v + (size_t)k) % 2 != 0 ? 0.6f : 1.0f, betas[k],
                      (v + (size_t)k) % 3 == 0 ? DTYPE_BF16 : DTYPE_F32, k % 2 == 0);
}

/* The values of GKD's own function in float64, of two tokens (mean), and the gradient of the first. */
static void test_golden(void **state)
{
    (void)state;
    static const float student[2 * 4] = {0.5f, -1.0f, 2.0f, 0.0f, 1.0f, 1.5f, -0.5f, 0.25f},
                                   teacher[2 * 4] = {1.0f, -0.5f, 1.0f, 0.3f, -1.0f, 2.0f, 0.0f, 0.5f},
                                   half[2] = {0.5f, 0.5f};
    static const struct {
        float temperature, beta;
        double value, gradient[4];
    } golden[] = {{1, 0, 0.2453321122, {-.10462041, -.02334397, .17120720, -.04324283}},
                  {1, 0.1f, 0.0222428386, {-.00904179, -.00201750, .01490586, -.00384658}},
                  {1, 0.5f, 0.0657729369, {-.02253654, -.00502858, .03797991, -.01041479}},
                  {1, 0.9f, 0.0275705631, {-.00775245, -.00172981, .01327170, -.00378945}},
                  {1, 1, 0.3302678468, {-.08590636, -.01916830, .14756934, -.04249468}},
                  {2, 0, 0.0792745623, {-.02145700, -.01013557, .04247142, -.01087885}},
                  {2, 0.5f, 0.0212097219, {-.00534437, -.00252450, .01076815, -.00289927}},
                  {2, 1, 0.0943278083, {-.02182328, -.01030859, .04467060, -.01253874}}};
    EACH_BACKEND
    for (size_t g = 0; g < sizeof golden / sizeof *golden; g++) {
        const struct array *s = array_of(student, 8, DTYPE_F32), *t = array_of(teacher, 8, DTYPE_F32),
                           *weight = array_of(half, 2, DTYPE_F32), *value = array_new(2, DTYPE_F32, 0, 0.0),
                           *mix = array_new(2, DTYPE_F32, 0, 0.0), *out = array_new(8, DTYPE_F32, 0, 0.0);
        struct pair p = {.vocab = 4, .temperature = golden[g].temperature, .logits = s, .teacher = t};
        use_threads(1);
        p.lse = lse_of(s->d, 2, 4, p.temperature);
        p.lse_teacher = lse_of(t->d, 2, 4, p.temperature);
        struct divergence d = of_pair(&p, golden[g].beta, value, mix);
        d.rows = 2;
        d.weight = weight->d;
        d.d_logits = out->d;
        d.act = DTYPE_F32;
        backend->ops->divergence(backend, &d);
        backend->ops->divergence_gradient(backend, &d);
        pull(value);
        pull(out);
        expect_near((get(value, 0) + get(value, 1)) / 2.0, golden[g].value, DTYPE_F32, 1.0, 3e-7);
        for (int i = 0; i < 4; i++)
            expect_near(get(out, i), golden[g].gradient[i], DTYPE_F32, 1.0, 1e-7);
        arrays_free();
    }
}

/* A row without a distribution gives NaN and leaves its neighbours alone; no rows are nothing. */
static void test_broken(void **state)
{
    (void)state;
    enum { VOCAB = 2100 };
    EACH_BACKEND
    for (int k = 0; k < N_BETAS; k++)
        for (int which = 0; which < 2; which++) {
            const struct array *value = array_new(ROWS, DTYPE_F32, 0, 0.0), *mix = array_new(ROWS, DTYPE_F32, 0, 0.0),
                               *out = array_new(ROWS * VOCAB, DTYPE_F32, 0, 0.0), *weight;
            static const float ones[ROWS] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
            use_threads(2);
            struct pair p = pair_new(VOCAB, 1.0f, false);
            set(which == 0 ? p.logits : p.teacher, 3 * VOCAB + 2070, which == 0 ? NAN : INFINITY);
            push(p.logits);
            push(p.teacher);
            p.lse = lse_of(p.logits->d, ROWS, VOCAB, 1.0f);
            p.lse_teacher = lse_of(p.teacher->d, ROWS, VOCAB, 1.0f);
            weight = array_of(ones, ROWS, DTYPE_F32);
            struct divergence d = of_pair(&p, betas[k], value, mix);
            d.weight = weight->d;
            d.d_logits = out->d;
            backend->ops->divergence(backend, &d);
            backend->ops->divergence_gradient(backend, &d);
            pull(value);
            pull(out);
            for (int r = 0; r < ROWS; r++) {
                assert_int_equal(isnan(get(value, r)) != 0, r == 3);
                for (int i = 0; i < VOCAB; i++)
                    assert_int_equal(isnan(get(out, r * VOCAB + i)) != 0, r == 3);
            }
            arrays_free();
        }
    EACH_BACKEND
    {
        backend->ops->divergence(backend, &(struct divergence){.vocab = 10, .temperature = 1.0f});
        backend->ops->divergence_gradient(backend, &(struct divergence){.vocab = 10, .temperature = 1.0f});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divergence), cmocka_unit_test(test_golden),
                                       cmocka_unit_test(test_broken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
