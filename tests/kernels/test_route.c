/* Which experts a token goes to, against plain references: softmax, choice with ties to the lower number, weights, the
 * order of pairs; its gradient against finite differences in double; the sums of a layer. The same for a row alone and
 * among others. */
#include "kernels/kernel_test.h"

#include "backend/expert_ops.h"

struct shape {
    int64_t tokens;
    int32_t n, k;
    bool normalised;
};

/* Around warps and vectors, the two ways to sort (few pairs; many, or many experts), and Qwen3's. */
static const struct shape shapes[] = {{1, 1, 1, true},    {5, 2, 1, false},   {7, 8, 2, true},     {33, 31, 3, false},
                                      {40, 33, 4, true},  {3, 128, 8, true},  {70, 128, 8, false}, {9, 200, 32, true},
                                      {20, 300, 5, true}, {6, 1024, 9, false}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

struct routed {
    const struct array *logits, *expert, *weight, *begin, *pair, *row;
    struct route_forward forward;
};

/* logits: NULL, or what they are. */
static void route(struct routed *r, const struct shape *s, const float *logits)
{
    const int64_t pairs = s->tokens * s->k;
    r->logits =
        logits != NULL ? array_of(logits, s->tokens * s->n, DTYPE_F32) : array_new(s->tokens * s->n, DTYPE_F32, 3, 4.0);
    r->expert = array_new(pairs, DTYPE_F32, 0, 0.0);
    r->weight = array_new(pairs, DTYPE_F32, 0, 0.0);
    r->begin = array_new(s->n + 1, DTYPE_F32, 0, 0.0);
    r->pair = array_new(pairs, DTYPE_F32, 0, 0.0);
    r->row = array_new(pairs, DTYPE_F32, 0, 0.0);
    r->forward = (struct route_forward){.tokens = s->tokens,
                                        .n_experts = s->n,
                                        .chosen = s->k,
                                        .normalised = s->normalised,
                                        .logits = r->logits->d,
                                        .expert = r->expert->d,
                                        .weight = r->weight->d,
                                        .begin = r->begin->d,
                                        .pair = r->pair->d,
                                        .row = r->row->d};
    backend->ops->route_forward(backend, &r->forward);
    pull(r->expert);
    pull(r->weight);
    pull(r->begin);
    pull(r->pair);
    pull(r->row);
}

static void softmax(const struct shape *s, const double *logits, double *p)
{
    double most = logits[0], sum = 0.0;
    for (int32_t e = 1; e < s->n; e++)
        most = fmax(most, logits[e]);
    for (int32_t e = 0; e < s->n; e++)
        sum += p[e] = exp(logits[e] - most);
    for (int32_t e = 0; e < s->n; e++)
        p[e] /= sum;
}

/* Every expert that was taken has at least the probability of all others, up to rounding. */
static void check_choice(const struct shape *s, const struct routed *r, int64_t t)
{
    const int32_t *expert = (const int32_t *)r->expert->x + t * s->k;
    double logits[ROUTE_MAX_EXPERTS] = {0}, p[ROUTE_MAX_EXPERTS] = {0}, least = 1.0, other = 0.0, sum = 0.0;
    bool taken[ROUTE_MAX_EXPERTS] = {false};
    for (int32_t e = 0; e < s->n; e++)
        logits[e] = get(r->logits, t * s->n + e);
    softmax(s, logits, p);
    for (int32_t j = 0; j < s->k; j++) {
        assert_true(expert[j] >= 0 && expert[j] < s->n && (j == 0 || expert[j] > expert[j - 1]));
        taken[expert[j]] = true;
        least = fmin(least, p[expert[j]]);
        sum += p[expert[j]];
    }
    for (int32_t e = 0; e < s->n; e++)
        other = taken[e] ? other : fmax(other, p[e]);
    assert_true(least >= other * (1.0 - 1e-5));
    for (int32_t j = 0; j < s->k; j++)
        expect_near(get(r->weight, t * s->k + j), p[expert[j]] / (s->normalised ? sum : 1.0), DTYPE_F32, 1.0, 2e-6);
}

/* begin, pair and row are those of a stable counting sort. */
static void check_groups(const struct shape *s, const struct routed *r)
{
    const int32_t *expert = r->expert->x, *begin = r->begin->x, *pair = r->pair->x, *row = r->row->x;
    int32_t at = 0;
    for (int32_t e = 0; e < s->n; e++) {
        assert_int_equal(begin[e], at);
        for (int64_t i = 0; i < s->tokens * s->k; i++)
            if (expert[i] == e) {
                assert_int_equal(pair[at], i);
                assert_int_equal(row[i], at);
                at++;
            }
    }
    assert_int_equal(begin[s->n], at);
    assert_int_equal(at, s->tokens * s->k);
}

static void test_forward(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int i = 0; i < N_SHAPES; i++) {
        const struct shape *s = &shapes[i];
        struct routed all, again, alone;
        use_threads(1);
        route(&all, s, NULL);
        for (int64_t t = 0; t < s->tokens; t++)
            check_choice(s, &all, t);
        check_groups(s, &all);
        use_threads(3);
        route(&again, s, NULL);
        expect_same("experts with three threads", all.expert, again.expert);
        expect_same("weights with three threads", all.weight, again.weight);
        expect_same("rows with three threads", all.row, again.row);
        const struct shape one = {1, s->n, s->k, s->normalised};
        route(&alone, &one, (const float *)all.logits->x + (s->tokens - 1) * s->n);
        assert_memory_equal(alone.expert->x, (int32_t *)all.expert->x + (s->tokens - 1) * s->k,
                            (size_t)s->k * sizeof(int32_t));
        assert_memory_equal(alone.weight->x, (float *)all.weight->x + (s->tokens - 1) * s->k,
                            (size_t)s->k * sizeof(float));
        arrays_free();
    }
}

/* More pairs than one block of a GPU sorts. */
static void test_many(void **state)
{
    (void)state;
    static const struct shape many[] = {{1100, 16, 8, true}, {600, 5, 2, false}};
    EACH_BACKEND
    for (int i = 0; i < 2; i++) {
        struct routed r;
        route(&r, &many[i], NULL);
        check_groups(&many[i], &r);
        arrays_free();
    }
}

/* Of equal experts the lower numbers; all tokens to one expert; a NaN below all; logits far apart. */
static void test_ties(void **state)
{
    (void)state;
    enum { N = 40, K = 3 };
    const struct shape s = {4, N, K, true};
    float logits[4 * N] = {0};
    EACH_BACKEND
    {
        struct routed r;
        for (int e = 0; e < N; e++) {
            logits[e] = 1.0f;
            logits[N + e] = e == 17 || e == 33 || e == 35 || e == 39 ? 2.0f : 1.0f;
            logits[2 * N + e] = e == 5 ? NAN : 0.0f;
            logits[3 * N + e] = e == 38 ? 1e4f : -1e4f;
        }
        route(&r, &s, logits);
        static const int32_t wanted[2 * K] = {0, 1, 2, 17, 33, 35};
        assert_memory_equal(r.expert->x, wanted, sizeof wanted);
        const int32_t *expert = r.expert->x;
        for (int j = 0; j < K; j++)
            assert_true(expert[2 * K + j] >= 0 && expert[2 * K + j] < N);
        static const int32_t far[K] = {0, 1, 38};
        assert_memory_equal(expert + 3 * K, far, sizeof far);
        assert_true(get(r.weight, 3 * K + 2) == 1.0);
        check_groups(&s, &r);
        arrays_free();
    }
}

/* Routes are written where they are asked for; what was recorded is compared, and taken with replay. */
static void test_routes(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int i = 0; i < N_SHAPES; i++) {
        const struct shape *s = &shapes[i];
        const int64_t stride = 2 * s->k + 1;
        struct routed r;
        route(&r, s, NULL);
        int32_t rows[128];
        uint16_t given[128 * 65];
        for (int64_t t = 0; t < s->tokens; t++) {
            rows[t] = t % 3 == 1 ? -1 : (int32_t)(s->tokens - 1 - t);
            for (int32_t j = 0; j < s->k; j++)
                given[t * stride + j] = (uint16_t)((const int32_t *)r.expert->x)[t * s->k + j];
            if (t % 4 == 2) /* others: the first k, which may be its own */
                for (int32_t j = 0; j < s->k; j++)
                    given[t * stride + j] = (uint16_t)j;
            if (t % 4 == 3)
                given[t * stride] = ROUTE_UNKNOWN;
        }
        const struct array *record_row = ids_of(rows, s->tokens),
                           *record = array_new(s->tokens * stride, DTYPE_BF16, 0, 0.0),
                           *known = array_of(given, s->tokens * stride, DTYPE_BF16),
                           *differ = array_new(s->tokens, DTYPE_F32, 0, 0.0);
        memset(differ->x, 0, differ->bytes);
        push(differ);
        const struct array *expert = r.expert, *weight = r.weight;
        struct routed again = r;
        again.expert = array_new(s->tokens * s->k, DTYPE_F32, 0, 0.0);
        again.weight = array_new(s->tokens * s->k, DTYPE_F32, 0, 0.0);
        for (int replay = 0; replay < 2; replay++) {
            struct route_forward f = r.forward;
            f.expert = again.expert->d;
            f.weight = again.weight->d;
            f.record = record->d;
            f.record_row = record_row->d;
            f.given = known->d;
            f.stride = stride;
            f.replay = replay == 1;
            f.differ = differ->d;
            backend->ops->route_forward(backend, &f);
            pull(again.expert);
            pull(again.weight);
            pull(record);
            pull(differ);
            for (int64_t t = 0; t < s->tokens; t++) {
                const int32_t *own = (const int32_t *)expert->x + t * s->k,
                              *now = (const int32_t *)again.expert->x + t * s->k;
                bool same = true;
                for (int32_t j = 0; j < s->k; j++)
                    same = same && given[t * stride + j] == own[j];
                const bool unknown = given[t * stride] == ROUTE_UNKNOWN;
                assert_int_equal(((const int32_t *)differ->x)[t], (same || unknown ? 0 : 1) * (replay + 1));
                for (int32_t j = 0; j < s->k; j++) {
                    assert_int_equal(now[j], replay == 1 && !unknown ? given[t * stride + j] : own[j]);
                    if (rows[t] >= 0)
                        assert_int_equal(((const uint16_t *)record->x)[rows[t] * stride + j], now[j]);
                }
                if (same || unknown || replay == 0)
                    assert_memory_equal((const float *)weight->x + t * s->k, (const float *)again.weight->x + t * s->k,
                                        (size_t)s->k * sizeof(float));
            }
        }
        check_groups(s, &r);
        arrays_free();
    }
}

/* The loss: sum of c * weight over the chosen, plus times * sum of aux * p. */
static double loss(const struct shape *s, const double *logits, const int32_t *expert, const double *c, double times,
                   const double *aux)
{
    double p[ROUTE_MAX_EXPERTS], sum = 0.0, value = 0.0;
    softmax(s, logits, p);
    for (int32_t j = 0; j < s->k; j++)
        sum += p[expert[j]];
    for (int32_t j = 0; j < s->k; j++)
        value += c[j] * p[expert[j]] / (s->normalised ? sum : 1.0);
    for (int32_t e = 0; aux != NULL && e < s->n; e++)
        value += times * aux[e] * p[e];
    return value;
}

static void check_backward(const struct shape *s, enum dtype act, bool with_aux)
{
    struct routed r;
    int32_t times[128];
    route(&r, s, NULL);
    for (int64_t t = 0; t < s->tokens; t++)
        times[t] = (int32_t)(t % 4);
    const struct array *c = array_new(s->tokens * s->k, DTYPE_F32, 5, 1.0), *aux = array_new(s->n, DTYPE_F32, 6, 1.0),
                       *count = ids_of(times, s->tokens), *d = array_new(s->tokens * s->n, act, 0, 0.0),
                       *d2 = array_new(s->tokens * s->n, act, 0, 0.0);
    struct route_backward backward = {.tokens = s->tokens,
                                      .n_experts = s->n,
                                      .chosen = s->k,
                                      .normalised = s->normalised,
                                      .logits = r.logits->d,
                                      .expert = r.expert->d,
                                      .d_weight = c->d,
                                      .aux = with_aux ? aux->d : NULL,
                                      .count = with_aux ? count->d : NULL,
                                      .d_logits = d->d,
                                      .act = act};
    use_threads(1);
    backend->ops->route_backward(backend, &backward);
    backward.d_logits = d2->d;
    use_threads(3);
    backend->ops->route_backward(backend, &backward);
    expect_same("gradient with three threads", d, d2);
    double *x = widened(r.logits), *cs = widened(c), *as = widened(aux);
    for (int64_t t = 0; t < s->tokens; t++)
        for (int32_t e = 0; e<s->n; e += s->n> 64 ? 7 : 1) {
            const int32_t *expert = (const int32_t *)r.expert->x + t * s->k;
            const double h = 1e-4, was_x = x[t * s->n + e];
            double value[2];
            for (int side = 0; side < 2; side++) {
                x[t * s->n + e] = was_x + (side == 0 ? h : -h);
                value[side] = loss(s, x + t * s->n, expert, cs + t * s->k, times[t], with_aux ? as : NULL);
            }
            x[t * s->n + e] = was_x;
            /* Third derivatives of the softmax are below 1: the quotient is good to 1e-8, fp32 sums to 1e-6. */
            expect_near(get(d, t * s->n + e), (value[0] - value[1]) / (2.0 * h), act, 1.0, 3e-6);
        }
    free(x);
    free(cs);
    free(as);
    arrays_free();
}

static void test_backward(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int i = 0; i < N_SHAPES; i++)
        for (int act = DTYPE_F32; act <= DTYPE_BF16; act++)
            for (int aux = 0; aux < 2; aux++)
                check_backward(&shapes[i], (enum dtype)act, aux == 1);
}

static void test_sums(void **state)
{
    (void)state;
    const struct shape s = {130, 40, 3, true};
    int32_t times[130];
    EACH_BACKEND
    {
        struct routed r;
        double wanted[2 * 40 + 2] = {0}, sums[2 * 40 + 2] = {0}, logits[40] = {0}, p[40] = {0};
        cohort_error err = {0};
        void *device = NULL;
        route(&r, &s, NULL);
        for (int64_t t = 0; t < s.tokens; t++) {
            times[t] = (int32_t)(t % 3);
            for (int32_t e = 0; e < s.n; e++)
                logits[e] = get(r.logits, t * s.n + e);
            softmax(&s, logits, p);
            for (int32_t j = 0; j < s.k; j++)
                wanted[((const int32_t *)r.expert->x)[t * s.k + j]] += 2 * times[t];
            for (int32_t e = 0; e < s.n; e++) {
                wanted[s.n + e] += 2 * times[t] * p[e];
                wanted[2 * s.n] -= 2 * times[t] * p[e] * log(p[e]);
            }
            wanted[2 * s.n + 1] += 2 * times[t];
        }
        const struct array *count = ids_of(times, s.tokens);
        assert_int_equal(backend->ops->alloc(backend, &device, sizeof sums, "sums", &err), COHORT_OK);
        for (int twice = 0; twice < 2; twice++) /* they add up */
            backend->ops->route_sums(backend, &(struct route_sums){.tokens = s.tokens,
                                                                   .n_experts = s.n,
                                                                   .chosen = s.k,
                                                                   .logits = r.logits->d,
                                                                   .expert = r.expert->d,
                                                                   .count = count->d,
                                                                   .sums = device});
        backend->ops->download(backend, sums, device, sizeof sums);
        for (int32_t i = 0; i < 2 * s.n + 2; i++)
            if (i < s.n || i == 2 * s.n + 1)
                assert_true(sums[i] == wanted[i]);
            else
                expect_near(sums[i], wanted[i], DTYPE_F32, 1.0 + fabs(wanted[i]), 1e-6);
        backend->ops->free(backend, device);
        arrays_free();
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    const struct shape s = {0, 4, 2, true};
    EACH_BACKEND
    {
        if (test_options.cuda) { /* where begin is not written: nobody reads it */
            struct route_forward f = {.n_experts = s.n, .chosen = s.k};
            backend->ops->route_forward(backend, &f);
        }
        backend->ops->route_backward(backend, &(struct route_backward){.n_experts = s.n, .chosen = s.k});
        backend->ops->route_sums(backend, &(struct route_sums){.n_experts = s.n, .chosen = s.k});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward), cmocka_unit_test(test_many),     cmocka_unit_test(test_ties),
        cmocka_unit_test(test_routes),  cmocka_unit_test(test_backward), cmocka_unit_test(test_sums),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
