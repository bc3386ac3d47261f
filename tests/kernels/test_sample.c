/* Draws on every backend. Each is checked against the cumulative distribution that the penalties and filters of the
 * portable CPU kernels leave (test_cpu_sample.c holds these against MLX-LM), and against the draw of that provider: they
 * may differ only where the uniform number is within 1e-6 of a border. Further: frequencies, what can never be chosen,
 * and the bits of log-prob and entropy. */
#include "kernels/kernel_test.h"
#include "kernels/sample_test.h"

enum { MOST_DRAWS = 64 };

static struct backend *portable;

/* Draws checked, and those that are not the portable kernels'. */
static int n_draws, n_different;

/* A copy in the backend's memory, for arrays_free. */
static const struct array *on_backend(const float *logits, int64_t count) { return array_of(logits, count, DTYPE_F32); }

/* The backend's draws for rows of logits, which must stay as they are. */
static void draw(const struct array *logits, int64_t vocab, int64_t choosable, struct sample_row *rows, int n)
{
    float *before = malloc(logits->bytes);
    assert_non_null(before);
    memcpy(before, logits->x, logits->bytes);
    for (int i = 0; i < n; i++) {
        rows[i].token = -7;
        rows[i].logp = rows[i].entropy = 1.0f;
    }
    backend->ops->sample(backend, &(struct sample){vocab, choosable, logits->d, rows, n});
    pull(logits);
    assert_memory_equal(before, logits->x, logits->bytes);
    free(before);
}

static struct sample_row draw_one(const struct array *logits, int64_t vocab, int64_t choosable,
                                  const struct sampling_params *params, uint64_t seed, uint64_t stream,
                                  uint64_t position)
{
    struct sample_row row = {.params = params, .seed = seed, .stream = stream, .position = position};
    draw(logits, vocab, choosable, &row, 1);
    return row;
}

/* What is left of a row's probability, summed: below[i] of the ids before i; for free. At temperature 0 the arg max has
 * it all. */
static double *sums_of(const struct sample_row *row, const float *logits, int64_t choosable)
{
    struct sample_scratch scratch = {0};
    float *left = malloc((size_t)choosable * sizeof *left);
    double *below = malloc((size_t)(choosable + 1) * sizeof *below);
    bool valid = true;
    int64_t largest = 0;
    assert_true(left && below);
    memcpy(left, logits, (size_t)choosable * sizeof *left);
    assert_int_equal(sample_process_portable(row, left, choosable, &scratch), COHORT_OK);
    const bool greedy = row->params->temperature == 0.0f;
    if (!greedy)
        assert_int_equal(sample_filter_portable(row, left, choosable, &scratch, &valid), COHORT_OK);
    assert_true(valid);
    for (int64_t i = 0; i < choosable; i++)
        largest = left[i] > left[largest] ? i : largest;
    const double inverse = greedy ? 0.0 : (double)(1.0f / temperature_left(row->params));
    below[0] = 0.0;
    for (int64_t i = 0; i < choosable; i++)
        below[i + 1] = below[i] + (greedy ? (double)(i == largest) : exp((double)(left[i] - left[largest]) * inverse));
    for (int64_t i = 1; i <= choosable; i++)
        below[i] /= below[choosable];
    free(left);
    scratch_free(&scratch);
    return below;
}

/* Fails unless the row's token is the one that its uniform number falls on within slack. */
static void check_token(const struct sample_row *row, const double *below, int64_t choosable, double slack)
{
    const struct rng_block block = rng_philox(row->seed, RNG_SAMPLE, row->stream, row->position);
    const double u = rng_uniform_double(block.word[0], block.word[1]);
    assert_in_range(row->token, 0, choosable - 1);
    const double low = below[row->token], high = below[row->token + 1];
    if (!(high > low) || (row->params->temperature > 0.0f && (u < low - slack || u > high + slack)))
        fail_msg("%s: token %d has %.9f .. %.9f, the draw is %.9f", provider, row->token, low, high, u);
}

/* Whether b's probabilities are a's. */
static bool alike(const struct sample_row *a, const struct sample_row *b)
{
    const bool coin = a->params->xtc_probability > 0.0f && a->params->xtc_probability < 1.0f;
    return a->params == b->params && a->history == b->history && a->allowed == b->allowed &&
           a->logits_row == b->logits_row && !coin;
}

static void check_tokens(const float *logits, int64_t vocab, int64_t choosable, const struct sample_row *rows, int n,
                         double slack)
{
    double *below = NULL;
    for (int i = 0; i < n; i++) {
        if (i == 0 || !alike(&rows[i - 1], &rows[i])) {
            free(below);
            below = sums_of(&rows[i], logits + rows[i].logits_row * vocab, choosable);
        }
        check_token(&rows[i], below, choosable, slack);
    }
    free(below);
}

/* Draws, checked; those of the portable kernels are counted where they differ. */
static void check_rows(const float *logits, int n_logits, int64_t vocab, int64_t choosable, struct sample_row *rows,
                       int n)
{
    struct sample_row other[MOST_DRAWS];
    assert_true(n <= MOST_DRAWS);
    draw(on_backend(logits, n_logits * vocab), vocab, choosable, rows, n);
    arrays_free();
    check_tokens(logits, vocab, choosable, rows, n, 1e-6);
    memcpy(other, rows, (size_t)n * sizeof *rows);
    portable->ops->sample(portable, &(struct sample){vocab, choosable, logits, other, n});
    for (int i = 0; i < n; i++) {
        n_draws++;
        n_different += rows[i].token != other[i].token;
        if (rows[i].token == other[i].token)
            expect_near((double)rows[i].logp, (double)other[i].logp, DTYPE_F32, 1.0 + fabs((double)other[i].logp),
                        3e-7);
    }
}

/* The same row on several streams and positions. */
static void check_draws(const float *logits, int64_t vocab, int64_t choosable, const struct sampling_params *params,
                        const int32_t *history, int32_t n_history, int n)
{
    struct sample_row rows[MOST_DRAWS];
    for (int i = 0; i < n; i++)
        rows[i] = (struct sample_row){.params = params,
                                      .history = history,
                                      .n_history = n_history,
                                      .seed = 5,
                                      .stream = (uint64_t)(i % 3),
                                      .position = (uint64_t)i};
    check_rows(logits, 1, vocab, choosable, rows, n);
}

/* ---- Small distributions ---- */

static void test_vectors(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int v = 0; v < N_VECTORS; v++) {
        float logits[5];
        const struct sampling_params params = vector_params(&vectors[v], logits);
        check_draws(logits, vectors[v].n, vectors[v].n, &params, NULL, 0, test_options.brief ? 4 : 24);
    }
}

static void test_against_others(void **state)
{
    (void)state;
    for (int file = 0; file < N_SAMPLER_FILES; file++) {
        const json_t *cases;
        json_t *root = sampler_load(file, &cases);
        EACH_BACKEND
        for (size_t i = 0; i < json_array_size(cases); i += test_options.brief ? 15 : 1) {
            struct mlx_case c;
            mlx_case_read(json_array_get(cases, i), &c);
            check_draws(c.logits, c.n, c.n, &c.params, c.history, c.n_history, 6);
            struct sample_row row = {.params = &c.params, .history = c.history, .n_history = c.n_history, .seed = 8};
            draw(on_backend(c.logits, c.n), c.n, c.n, &row, 1);
            arrays_free();
            assert_true(c.probs[row.token] > 1e-30);
        }
        json_decref(root);
    }
}

/* ---- Everything at once, at random ---- */

static uint32_t pick(uint64_t stream, uint64_t i, uint32_t n) { return rng_philox(4, RNG_TEST, stream, i).word[0] % n; }

enum { FUZZ_LISTS = 200, FUZZ_VOCAB = 3001 };
struct fuzz_case {
    struct sampling_params params;
    int32_t history[FUZZ_LISTS], bias_id[FUZZ_LISTS], special[3];
    float bias[FUZZ_LISTS];
    uint32_t allowed[FUZZ_VOCAB / 32 + 1];
    int32_t n_history;
};

static void fuzz_make(struct fuzz_case *f, uint64_t i)
{
    const float temperature[] = {1.0f, 0.0f, 0.6f, 1.7f};
    const float top_p[] = {0.0f, 0.3f, 0.9f, 0.999f}, min_p[] = {0.0f, 0.0f, 0.02f, 0.3f};
    const int32_t context[] = {20, 0, 3, 150, -1}, top_k[] = {0, 0, 1, 20, 700};
    f->params = plain_params();
    f->params.temperature = temperature[pick(i, 0, 4)];
    f->params.hf_order = pick(i, 16, 3) == 0;
    f->params.top_p = top_p[pick(i, 1, 4)];
    f->params.min_p = min_p[pick(i, 2, 4)];
    f->params.top_k = top_k[pick(i, 3, 5)];
    f->params.min_tokens_to_keep = (int32_t)pick(i, 4, 4);
    f->params.xtc_probability = pick(i, 5, 3) == 0 ? 0.7f : 0.0f;
    f->params.xtc_threshold = 0.004f;
    f->params.xtc_special = f->special;
    f->params.n_xtc_special = (int32_t)pick(i, 6, 4);
    f->params.repetition_penalty = pick(i, 7, 2) ? 1.4f : 0.0f;
    f->params.presence_penalty = pick(i, 8, 2) ? 0.6f : 0.0f;
    f->params.frequency_penalty = pick(i, 9, 2) ? 0.37f : 0.0f;
    f->params.repetition_context = context[pick(i, 10, 5)];
    f->params.presence_context = context[pick(i, 11, 5)];
    f->params.frequency_context = context[pick(i, 12, 5)];
    f->params.bias_id = f->bias_id;
    f->params.bias = f->bias;
    f->params.n_bias = pick(i, 13, 3) == 0 ? (int32_t)pick(i, 14, FUZZ_LISTS) : 0;
    f->n_history = (int32_t)pick(i, 15, FUZZ_LISTS);
    for (uint64_t j = 0; j < FUZZ_LISTS; j++) {
        /* Ids repeat, and some do not exist. */
        f->history[j] = (int32_t)pick(i, 1000 + j, j % 2 ? 40 : FUZZ_VOCAB + 50) - 5;
        f->bias_id[j] = (int32_t)pick(i, 2000 + j, j % 2 ? 30 : FUZZ_VOCAB + 50) - 5;
        f->bias[j] = (float)number(i, (int64_t)j);
    }
    for (int j = 0; j < 3; j++)
        f->special[j] = (int32_t)pick(i, 20 + (uint64_t)j, 40);
    for (size_t j = 0; j < sizeof f->allowed / sizeof *f->allowed; j++)
        f->allowed[j] = rng_philox(5, RNG_TEST, i, j).word[0];
}

static void test_fuzz(void **state)
{
    (void)state;
    enum { LOGITS = 3, ROWS = 24 };
    static float logits[LOGITS * FUZZ_VOCAB];
    static struct fuzz_case fuzz[ROWS];
    EACH_BACKEND
    for (uint64_t round = 0; round < (test_options.brief ? 2u : test_options.small ? 8u : 40u); round++) {
        const int64_t choosable = FUZZ_VOCAB - (int64_t)pick(round, 30, 3) * 470;
        fill(logits, DTYPE_F32, LOGITS * FUZZ_VOCAB, 900 + round, 2.0 + 2.0 * (double)(round % 4));
        struct sample_row rows[ROWS];
        for (uint64_t i = 0; i < ROWS; i++) {
            fuzz_make(&fuzz[i], 100 * round + i);
            rows[i] = (struct sample_row){.params = &fuzz[i].params,
                                          .history = fuzz[i].history,
                                          .n_history = fuzz[i].n_history,
                                          .allowed = pick(i, 40, 4) == 0 ? fuzz[i].allowed : NULL,
                                          .logits_row = (int32_t)(i / 4 % LOGITS),
                                          .seed = 1 + round,
                                          .stream = i,
                                          .position = 100};
        }
        check_rows(logits, LOGITS, FUZZ_VOCAB, choosable, rows, ROWS);
    }
}

/* ---- Large rows ---- */

/* On 20,000 logits that lie in one bin, over many, and beyond the last: tokens are among the k largest, or in the
 * nucleus, and where they should be in the distribution. Ranked by log-prob: two logits closer than its last place may
 * tie, and which of them is in differs between kernels where the last place of the log-sum-exp does: one token of k, or
 * its like in a nucleus. */
static void test_large_filters(void **state)
{
    (void)state;
    enum { N = 20000, DRAWS = 12 };
    static float logits[N], sorted[N];
    static const double spread[] = {0.001, 3.0, 60.0};
    static const int ks[] = {1, 7, 1000, N - 1};
    static const float ps[] = {0.01f, 0.5f, 0.95f, 0.999f};
    EACH_BACKEND
    for (int s = 0; s < 3; s++) {
        const double last_place = s < 2 ? 2e-6 : 1.6e-5; /* of a log-prob down to -16, to -128 */
        fill(logits, DTYPE_F32, N, 60, spread[s]);
        memcpy(sorted, logits, sizeof logits);
        qsort(sorted, N, sizeof *sorted, descending);
        for (int k = 0; k < 8; k++) {
            if (test_options.brief && (s != 1 || k % 3 != 1)) /* top-k and top-p */
                continue;
            struct sampling_params params = plain_params();
            struct sample_row rows[DRAWS];
            params.temperature = s == 2 ? 50.0f : 1.0f; /* so that nothing kept vanishes */
            params.top_k = k < 4 ? ks[k] : 0;
            params.top_p = k < 4 ? 0.0f : ps[k - 4];
            for (int i = 0; i < DRAWS; i++)
                rows[i] = (struct sample_row){.params = &params, .position = (uint64_t)i};
            draw(on_backend(logits, N), N, N, rows, DRAWS);
            arrays_free();
            if (k > 0)
                check_tokens(logits, N, N, rows, DRAWS, k < 4 ? 2.0 / ks[k] : s == 2 ? 0.05 : 0.01);
            for (int i = 0; i < DRAWS && k < 4; i++)
                assert_true((double)(logits[rows[i].token] - sorted[ks[k] - 1]) >= -last_place);
        }
    }
}

/* More tokens that tie than fit in a list, in every filter. */
static void test_many_equals(void **state)
{
    (void)state;
    enum { N = 9000 };
    static float logits[N];
    for (int i = 0; i < N; i++)
        logits[i] = i % 3 == 2 ? 1.0f : i % 7 == 3 ? 1.5f : -0.0f;
    EACH_BACKEND
    for (int variant = 0; variant < 5; variant++) {
        struct sampling_params params = plain_params();
        params.top_k = variant == 0 ? 4000 : variant == 4 ? 2 : 0;
        params.top_p = variant == 1 || variant == 4 ? 0.7f : 0.0f;
        params.min_p = variant == 2 ? 0.9f : 0.0f;
        params.min_tokens_to_keep = 3500;
        params.xtc_probability = variant >= 3 ? 1.0f : 0.0f;
        params.xtc_threshold = 1.0f / N;
        check_draws(logits, N, N, &params, NULL, 0, test_options.brief ? 2 : 16);
    }
}

/* ---- The draw ---- */

/* Chi-square of N draws against probs over cells with an expected count of at least 5, the rest in
 * one. Seeds are fixed, so the outcome is too; the bound is mean + 4 standard deviations. */
static void check_frequencies(const int *seen, const double *probs, int n, int draws)
{
    double chi = 0.0;
    double rest = 0.0;
    double rest_seen = 0.0;
    int cells = 0;
    for (int i = 0; i < n; i++) {
        double expected = probs[i] * draws;
        assert_true(expected > 0.0 || seen[i] == 0);
        if (expected < 5.0) {
            rest += expected;
            rest_seen += seen[i];
            continue;
        }
        chi += (seen[i] - expected) * (seen[i] - expected) / expected;
        cells++;
    }
    if (rest > 1.0) {
        chi += (rest_seen - rest) * (rest_seen - rest) / rest;
        cells++;
    }
    assert_true(cells > 2);
    double free = cells - 1;
    if (chi > free + 4.0 * sqrt(2.0 * free))
        fail_msg("chi-square is %.1f with %.0f degrees of freedom", chi, free);
}

/* Over two blocks: plain, tempered and cut, and filtered. */
static void test_frequencies(void **state)
{
    (void)state;
    enum { N = 2200, ROWS = 500 };
    static float logits[N];
    static struct sample_row rows[ROWS];
    static double probs[N];
    static int seen[N];
    fill(logits, DTYPE_F32, N, 61, 40.0);
    logits[3] = -INFINITY;
    logits[2100] = 38.0f;
    EACH_BACKEND
    for (int variant = 0; variant < (test_options.brief ? 1 : 3); variant++) {
        const int rounds = test_options.small ? 2 : provider_index == 0 && !test_options.cuda ? 4 : 16;
        const int64_t choosable = variant == 1 ? 2110 : N; /* within the second block */
        struct sampling_params params = plain_params();
        params.temperature = variant == 1 ? 0.7f : 1.0f;
        params.top_p = variant == 2 ? 0.6f : 0.0f;
        const struct array *on = on_backend(logits, N);
        memset(seen, 0, sizeof seen);
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < ROWS; i++)
                rows[i] = (struct sample_row){
                    .params = &params, .seed = 9, .stream = 1, .position = (uint64_t)(round * ROWS + i)};
            draw(on, N, choosable, rows, ROWS);
            for (int i = 0; i < ROWS; i++) {
                assert_in_range(rows[i].token, 0, choosable - 1);
                seen[rows[i].token]++;
            }
        }
        double *below = sums_of(&rows[0], logits, choosable);
        for (int64_t i = 0; i < N; i++)
            probs[i] = i < choosable ? below[i + 1] - below[i] : 0.0;
        free(below);
        check_frequencies(seen, probs, N, rounds * ROWS);
        arrays_free();
    }
}

/* Plain draws at every size, among them Qwen3's, cut and uncut; and one whose parts are more than a lane keeps. */
static void test_plain_draws(void **state)
{
    (void)state;
    static const int64_t size[][2] = {{1, 1},       {2, 2},       {5, 3},       {2048, 2048},     {2049, 2048},
                                      {4099, 4097}, {6001, 4096}, {9000, 5000}, {151936, 151669}, {300001, 262100}};
    static const float temperature[] = {1.0f, 0.6f, 0.0f, 30.0f};
    for (size_t s = 0; s < sizeof size / sizeof *size; s += test_options.brief ? 4 : 1) {
        float *logits = malloc((size_t)size[s][0] * sizeof *logits);
        assert_non_null(logits);
        fill(logits, DTYPE_F32, size[s][0], s, 9.0);
        EACH_BACKEND
        for (int t = 0; t < 4; t++) {
            struct sampling_params params = plain_params();
            params.temperature = temperature[t];
            check_draws(logits, size[s][0], size[s][1], &params, NULL, 0,
                        test_options.cuda && !test_options.small ? MOST_DRAWS : 8);
        }
        free(logits);
    }
}

/* Log-prob and entropy of a draw are those of head_stats bit for bit, with and without filters, at every temperature;
 * at temperature 0 those of temperature 1. */
static void test_statistics_are_those_of_head_stats(void **state)
{
    (void)state;
    enum { N = 5001, DRAWS = 4 };
    static float logits[N];
    static const float temperature[] = {1.0f, 0.6f, 1.3f, 0.0f};
    const int32_t bias_id[1] = {17};
    const float bias[1] = {3.0f};
    fill(logits, DTYPE_F32, N, 62, 6.0);
    EACH_BACKEND
    for (int t = 0; t < 4; t++)
        for (int variant = 0; variant < 3; variant++) {
            struct sampling_params params = plain_params();
            params.temperature = temperature[t];
            params.top_k = variant == 1 ? 50 : 0;
            params.n_bias = variant == 2;
            params.bias_id = bias_id;
            params.bias = bias;
            const struct array *on = on_backend(logits, N);
            for (uint64_t i = 0; i < DRAWS; i++) {
                use_threads(1);
                const struct sample_row row = draw_one(on, N, N, &params, 3, 4, i);
                const struct array *stats = array_new(3, DTYPE_F32, 0, 0.0);
                assert_in_range(row.token, 0, N - 1);
                use_threads(2);
                float *out = stats->d;
                backend->ops->head_stats(backend, &(struct head_stats){1,
                                                                       N,
                                                                       on->d,
                                                                       t == 3 ? 1.0f : temperature[t],
                                                                       ids_of(&row.token, 1)->d,
                                                                       out,
                                                                       out + 1,
                                                                       out + 2,
                                                                       NULL,
                                                                       NULL,
                                                                       {0}});
                pull(stats);
                assert_memory_equal(&row.logp, stats->x, sizeof row.logp);
                assert_memory_equal(&row.entropy, (float *)stats->x + 2, sizeof row.entropy);
            }
            arrays_free();
        }
}

/* Each row alone, among others on one thread and on several, and with its neighbours reversed: the same token and
 * log-prob. Runs of rows share logits, and within a run the parameters change. */
static void test_alone_or_among_others(void **state)
{
    (void)state;
    enum { N = 3000, LOGITS = 7, ROWS = 24 };
    static float logits[LOGITS * N];
    const int32_t history[4] = {5, 6, 7, 5};
    struct sampling_params params[4];
    struct sample_row alone[ROWS], rows[ROWS];
    fill(logits, DTYPE_F32, LOGITS * N, 63, 3.0);
    for (int i = 0; i < 4; i++)
        params[i] = plain_params();
    params[1].temperature = 0.5f;
    params[1].top_p = 0.9f;
    params[2].top_k = 40;
    params[2].presence_penalty = 1.0f;
    params[3].temperature = 0.0f;
    EACH_BACKEND
    {
        const struct array *on = on_backend(logits, LOGITS * N);
        for (int i = 0; i < ROWS; i++) {
            alone[i] = (struct sample_row){.params = &params[i % 11 % 4],
                                           .history = history,
                                           .n_history = 4,
                                           .logits_row = i / 4 % LOGITS,
                                           .seed = 1,
                                           .stream = (uint64_t)i,
                                           .position = 100};
            draw(on, N, N, &alone[i], 1);
        }
        for (int variant = 0; variant < 6; variant++) {
            if (test_options.cuda && variant % 4 != 0)
                continue;
            use_threads(variant % 3 == 2 ? 16 : variant % 3 + 1);
            for (int i = 0; i < ROWS; i++)
                rows[i] = alone[variant < 3 ? i : ROWS - 1 - i];
            draw(on, N, N, rows, ROWS);
            for (int i = 0; i < ROWS; i++) {
                const struct sample_row *wanted = &alone[variant < 3 ? i : ROWS - 1 - i];
                assert_int_equal(rows[i].token, wanted->token);
                assert_memory_equal(&rows[i].logp, &wanted->logp, sizeof(float));
            }
        }
        arrays_free();
    }
}

/* Different streams, positions and seeds draw differently. */
static void test_draws_differ(void **state)
{
    (void)state;
    enum { N = 4096, ROWS = 32 };
    static float logits[N]; /* all equal */
    struct sampling_params params = plain_params();
    EACH_BACKEND
    {
        struct sample_row rows[ROWS];
        int same = 0;
        for (int i = 0; i < ROWS; i++) /* the first two are the same */
            rows[i] = (struct sample_row){.params = &params,
                                          .seed = i > 1 && i % 3 == 0 ? (uint64_t)i : 1,
                                          .stream = i > 1 && i % 3 == 1 ? (uint64_t)i : 1,
                                          .position = i > 1 && i % 3 == 2 ? (uint64_t)i : 1};
        draw(on_backend(logits, N), N, N, rows, ROWS);
        assert_int_equal(rows[0].token, rows[1].token);
        for (int i = 2; i < ROWS; i++)
            same += rows[i].token == rows[0].token;
        assert_in_range(same, 0, 1);
        arrays_free();
    }
}

static void test_greedy(void **state)
{
    (void)state;
    enum { N = 2500 };
    static float logits[N];
    fill(logits, DTYPE_F32, N, 64, 1.0);
    logits[40] = logits[2300] = 2.0f;
    logits[2400] = 9.0f;
    EACH_BACKEND
    {
        struct sampling_params params = plain_params();
        const struct array *on = on_backend(logits, N);
        params.temperature = 0.0f;
        assert_int_equal(draw_one(on, N, N, &params, 1, 1, 1).token, 2400);
        /* Beyond n_choosable: never; of equals the lowest id. Filters do nothing. */
        params.top_k = 3;
        params.xtc_probability = 1.0f;
        assert_int_equal(draw_one(on, N, 2400, &params, 1, 1, 1).token, 40);
        params.bias_id = (const int32_t[]){2300};
        params.bias = (const float[]){0.5f};
        params.n_bias = 1;
        assert_int_equal(draw_one(on, N, 2400, &params, 1, 1, 1).token, 2300);
        params.bias_id = (const int32_t[]){7};
        assert_int_equal(draw_one(on, N, 2400, &params, 1, 1, 1).token, 40);
        arrays_free();
    }
}

/* Tokens without probability, before, between and behind those with it, on many draws; all the mass beyond
 * n_choosable. */
static void test_never_impossible(void **state)
{
    (void)state;
    enum { N = 6500, MOST = 200 };
    static float logits[N];
    static const int64_t choosable[] = {N, 2500, 40};
    const int draws = test_options.cuda ? 50 : MOST;
    for (int i = 0; i < N; i++)
        logits[i] = i % 3 == 1 ? -200.0f : -INFINITY;
    logits[2047] = 1.0f;
    logits[4098] = 0.0f;
    EACH_BACKEND
    for (int filtered = 0; filtered < 2; filtered++)
        for (int c = 0; c < (test_options.brief && filtered ? 1 : 3); c++) {
            struct sample_row rows[MOST];
            struct sampling_params params = plain_params();
            params.top_k = filtered ? N - 1 : 0;
            int other = 0;
            for (int i = 0; i < draws; i++)
                rows[i] = (struct sample_row){.params = &params, .seed = 2, .stream = 2, .position = (uint64_t)i};
            draw(on_backend(logits, N), N, choosable[c], rows, draws);
            arrays_free();
            for (int i = 0; i < draws; i++) {
                const int32_t token = rows[i].token;
                other += token == 4098;
                /* What is left after the cut at 40 is -200, in sum less than a float beside the row's maximum. */
                if (c == 0)
                    assert_true(token == 2047 || token == 4098);
                else if (c == 1)
                    assert_int_equal(token, 2047);
                else
                    assert_true(token >= 0 && token < 40 && token % 3 == 1);
            }
            const double expected = draws / (1.0 + exp(1.0)), deviation = sqrt(expected * exp(1.0) / (1.0 + exp(1.0)));
            assert_true(c > 0 ? other == 0 : fabs(other - expected) < 3.1 * deviation);
        }
}

static void no_distribution(struct sample_row row)
{
    assert_int_equal(row.token, -1);
    assert_true(isnan(row.logp));
}

/* A row that cannot be drawn from, of N logits, so many of them choosable. */
static void check_broken(const float *logits, int64_t n, int64_t choosable, const struct sampling_params *params)
{
    no_distribution(draw_one(on_backend(logits, n), n, choosable, params, 1, 1, 1));
    arrays_free();
}

/* No distribution: token -1 and NaN, with and without filters, and the neighbour is well. */
static void test_broken_rows(void **state)
{
    (void)state;
    enum { N = 2100 };
    static float logits[2 * N];
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    struct sampling_params params[4];
    fill(logits, DTYPE_F32, 2 * N, 65, 1.0);
    for (int i = 0; i < 4; i++)
        params[i] = plain_params();
    params[1].top_p = 0.5f;
    params[2].temperature = 0.0f;
    params[3].presence_penalty = 1.0f;
    EACH_BACKEND
    {
        use_threads(2);
        for (int b = 0; b < 3; b++)
            for (int v = 0; v < 4; v++) {
                for (int i = 0; i < N; i++)
                    logits[i] = b == 2 ? -INFINITY : 0.5f;
                logits[2060] = bad[b];
                struct sample_row rows[2] = {{.params = &params[v], .logits_row = 0},
                                             {.params = &params[v], .logits_row = 1}};
                draw(on_backend(logits, (int64_t)2 * N), N, N, rows, 2);
                arrays_free();
                no_distribution(rows[0]);
                assert_in_range(rows[1].token, 0, N - 1);
                assert_true(rows[1].logp < 0.0f);
            }
        /* A bias that leaves nothing to choose from, or makes a NaN; so does a cut to ids that are -inf. */
        struct sampling_params biased = plain_params(), plain = plain_params();
        for (int i = 0; i < N; i++)
            logits[i] = i < 2 ? 0.0f : -INFINITY;
        biased.bias_id = (const int32_t[]){1, 0};
        biased.bias = (const float[]){-INFINITY, -INFINITY};
        biased.n_bias = 2;
        check_broken(logits, N, N, &biased);
        biased.bias = (const float[]){NAN, 0.0f};
        check_broken(logits, N, N, &biased);
        logits[0] = logits[1] = -INFINITY;
        logits[9] = 1.0f;
        check_broken(logits, N, 9, &plain);
        plain.temperature = 0.0f;
        check_broken(logits, N, 9, &plain);
        backend->ops->sample(backend, &(struct sample){N, N, NULL, NULL, 0}); /* no rows */
        backend_must_be_well();
    }
}

/* Of all draws checked, next to none is not the portable kernels'. */
static void test_differences_are_few(void **state)
{
    (void)state;
    print_message("%d draws, %d not those of the portable kernels\n", n_draws, n_different);
    assert_true(n_draws > (test_options.brief ? 100 : 1000) && n_different * 500 <= n_draws);
}

static int open_portable(void **state)
{
    (void)state;
    portable = backend_here("portable", 1);
    return 0;
}

static int close_portable(void **state)
{
    (void)state;
    backend_destroy(portable);
    return 0;
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_against_others),
        cmocka_unit_test(test_fuzz),
        cmocka_unit_test(test_large_filters),
        cmocka_unit_test(test_many_equals),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_plain_draws),
        cmocka_unit_test(test_statistics_are_those_of_head_stats),
        cmocka_unit_test(test_alone_or_among_others),
        cmocka_unit_test(test_draws_differ),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_never_impossible),
        cmocka_unit_test(test_broken_rows),
        cmocka_unit_test(test_differences_are_few),
    };
    return cmocka_run_group_tests(tests, open_portable, close_portable);
}
