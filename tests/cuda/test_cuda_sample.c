/* Sampling on the CUDA backend. Every token drawn is checked against the cumulative distribution that the CPU's
 * penalties and filters leave, and against the CPU's own draw: they may differ only where the uniform number is within
 * 1e-6 of a border. */
#include "backend/ops.h"
#include "backend/sampling.h"
#include "cuda/device_test.h"

#include "backend/cpu/sample_filters.h"
#include "base/memory.h"

#include <jansson.h>

enum { MAX_VOCAB = 128, MAX_ROWS = 64 };

/* Draws checked, and those that are not the CPU's. */
static int n_draws, n_different;

static struct sampling_params plain_params(void)
{
    return (struct sampling_params){.temperature = 1.0f,
                                    .min_tokens_to_keep = 1,
                                    .repetition_context = 20,
                                    .presence_context = 20,
                                    .frequency_context = 20};
}

static void scratch_free(struct sample_scratch *scratch)
{
    mem_free(scratch->logits);
    mem_free(scratch->window);
    mem_free(scratch->ranked);
}

/* The device's draws for rows; logits (here) of n_logits rows. */
static void device_sample(const float *logits, int n_logits, int64_t vocab, int64_t choosable, struct sample_row *rows,
                          int n)
{
    const size_t bytes = (size_t)(n_logits * vocab) * sizeof *logits;
    float *at = device_copy(logits, bytes);
    float *after = malloc(bytes);
    struct sample op = {vocab, choosable, at, rows, n};
    for (int i = 0; i < n; i++) {
        rows[i].token = -7;
        rows[i].logp = 1.0f;
    }
    device->ops->sample(device, &op);
    device_take(after, at, bytes);
    assert_memory_equal(after, logits, bytes); /* not modified */
    free(after);
    device_must_be_well();
}

static struct sample_row single(const float *logits, int64_t vocab, int64_t choosable,
                                const struct sampling_params *params, uint64_t seed, uint64_t stream, uint64_t position)
{
    struct sample_row row = {.params = params, .seed = seed, .stream = stream, .position = position};
    device_sample(logits, 1, vocab, choosable, &row, 1);
    return row;
}

static double uniform_of(const struct sample_row *r)
{
    struct rng_block block = rng_philox(r->seed, RNG_SAMPLE, r->stream, r->position);
    return rng_uniform_double(block.word[0], block.word[1]);
}

/* Fails unless the row's token is the one that its uniform number falls on within slack, by what the CPU's steps leave
 * of logits; at temperature 0, unless it is the arg max. */
static void check_token(const struct sample_row *row, const float *logits, int64_t choosable, double slack)
{
    struct sample_scratch scratch = {0};
    float *left = malloc((size_t)choosable * sizeof *left);
    memcpy(left, logits, (size_t)choosable * sizeof *left);
    bool valid = true;
    assert_int_equal(sample_process_portable(row, left, choosable, &scratch), COHORT_OK);
    const bool greedy = row->params->temperature == 0.0f;
    if (!greedy)
        assert_int_equal(sample_filter_portable(row, left, choosable, &scratch, &valid), COHORT_OK);
    assert_true(valid);
    assert_in_range(row->token, 0, choosable - 1);
    double max = -INFINITY;
    for (int64_t i = 0; i < choosable; i++)
        max = fmax(max, (double)left[i]);
    if (greedy) {
        assert_true((double)left[row->token] == max);
        for (int32_t i = 0; i < row->token; i++)
            assert_true((double)left[i] < max);
    } else {
        const double inverse = (double)(1.0f / row->params->temperature);
        double whole = 0.0, below = 0.0;
        for (int64_t i = 0; i < choosable; i++) {
            whole += exp(((double)left[i] - max) * inverse);
            below = i + 1 == row->token ? whole : below;
        }
        below /= whole;
        const double own = exp(((double)left[row->token] - max) * inverse) / whole;
        const double u = uniform_of(row);
        if (!(own > 0.0) || u < below - slack || u > below + own + slack)
            fail_msg("token %d has %.9f .. %.9f, the draw is %.9f", row->token, below, below + own, u);
    }
    free(left);
    scratch_free(&scratch);
}

/* Draws on the device, checked; and the CPU's, counted where they differ. */
static void check_rows(const float *logits, int n_logits, int64_t vocab, int64_t choosable, struct sample_row *rows,
                       int n)
{
    struct sample_row other[MAX_ROWS];
    assert_true(n <= MAX_ROWS);
    memcpy(other, rows, (size_t)n * sizeof *rows);
    device_sample(logits, n_logits, vocab, choosable, rows, n);
    struct sample op = {vocab, choosable, logits, other, n};
    cpu->ops->sample(cpu, &op);
    for (int i = 0; i < n; i++) {
        check_token(&rows[i], logits + rows[i].logits_row * vocab, choosable, 1e-6);
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
    struct sample_row rows[MAX_ROWS];
    for (int i = 0; i < n; i++)
        rows[i] = (struct sample_row){.params = params,
                                      .history = history,
                                      .n_history = n_history,
                                      .seed = 5,
                                      .stream = (uint64_t)(i % 3),
                                      .position = (uint64_t)i};
    check_rows(logits, 1, vocab, choosable, rows, n);
}

/* ---- Small distributions: MLX-LM's and llama.cpp's test vectors (tests/kernels/test_sample.c has their outcomes; here
 * the CPU says them) ---- */

struct vector {
    int n;
    float in[5];
    float top_p, min_p;
    int32_t top_k, keep;
    float xtc_threshold; /* with probability 1 */
    int32_t n_special;   /* the first ids */
};

static const struct vector vectors[] = {
    {.n = 4, .in = {.9f, 0, 0, .1f}, .top_p = .3f},
    {.n = 4, .in = {.9f, 0, 0, .1f}, .top_p = .95f},
    {.n = 4, .in = {0, .5f, .4f, .1f}, .top_p = .4f},
    {.n = 4, .in = {0, .5f, .4f, .1f}, .top_p = .6f},
    {.n = 4, .in = {.1f, .2f, .3f, .4f}, .top_p = .7f},
    {.n = 4, .in = {.1f, .2f, .3f, .4f}, .top_p = .9f},
    {.n = 3, .in = {.5f, .3f, .2f}, .top_p = .8f},
    {.n = 3, .in = {.5f, .3f, .2f}, .top_p = .5f},
    {.n = 3, .in = {.5f, .4f, .1f}, .top_p = .9f},
    {.n = 3, .in = {.6f, .3f, .1f}, .top_p = .9f},
    {.n = 3, .in = {.6f, .25f, .15f}, .top_p = .85f},
    {.n = 4, .in = {.35f, .3f, .2f, .15f}, .top_p = .65f},
    {.n = 4, .in = {.35f, .3f, .2f, .15f}, .top_p = .85f},
    {.n = 3, .in = {.45f, .35f, .2f}, .top_p = .8f},
    {.n = 3, .in = {.7f, .2f, .1f}, .top_p = .9f},
    {.n = 4, .in = {.55f, .15f, .1f, .2f}, .top_p = .75f},
    {.n = 4, .in = {.1f, .2f, .3f, .4f}, .top_p = 1.0f},
    {.n = 5, .in = {.2f, .2f, .2f, .2f, .2f}, .top_p = .3f},
    {.n = 4, .in = {.9f, 0, 0, .1f}, .min_p = .8f},
    {.n = 4, .in = {.1f, .2f, .3f, .4f}, .min_p = .26f},
    {.n = 5, .in = {.1f, .3f, .1f, .4f, .1f}, .min_p = .9f, .keep = 3}, /* of equals the first */
    {.n = 4, .in = {.9f, 0, 0, .1f}, .min_p = .8f, .keep = 4},
    {.n = 4, .in = {.9f, 0, 0, .1f}, .top_k = 1},
    {.n = 4, .in = {.6f, 0, .1f, .3f}, .top_k = 2},
    {.n = 4, .in = {.6f, 0, 0, .4f}, .top_k = 3},
    {.n = 5, .in = {.2f, .2f, .2f, .2f, .2f}, .top_k = 2},
    {.n = 3, .in = {.2f, .3f, .5f}, .top_k = 3},
    {.n = 4, .in = {.4f, .3f, .15f, .15f}, .xtc_threshold = .2f},
    {.n = 4, .in = {.4f, .3f, .15f, .15f}, .xtc_threshold = .1f},
    {.n = 4, .in = {.4f, .3f, .15f, .15f}, .xtc_threshold = .1f, .n_special = 1},
    {.n = 4, .in = {.4f, .3f, .15f, .15f}, .xtc_threshold = .5f},
    {.n = 4, .in = {.4f, .3f, .15f, .15f}, .xtc_threshold = .1f, .top_k = 1},
    {.n = 4, .in = {.4f, .3f, .15f, .15f}, .xtc_threshold = .2f, .top_p = .8f, .min_p = .4f},
};

static void test_vectors(void **state)
{
    (void)state;
    const int32_t special[1] = {0};
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++) {
        const struct vector *t = &vectors[v];
        struct sampling_params params = plain_params();
        float logits[5];
        params.top_p = t->top_p;
        params.min_p = t->min_p;
        params.top_k = t->top_k;
        params.min_tokens_to_keep = t->keep > 0 ? t->keep : 1;
        params.xtc_probability = t->xtc_threshold > 0.0f ? 1.0f : 0.0f;
        params.xtc_threshold = t->xtc_threshold;
        params.xtc_special = special;
        params.n_xtc_special = t->n_special;
        for (int i = 0; i < t->n; i++)
            logits[i] = logf(t->in[i]);
        check_draws(logits, t->n, t->n, &params, NULL, 0, brief_run ? 4 : 24);
    }
}

/* ---- MLX-LM's fixture ---- */

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("the fixture has no number %s", key);
    return json_number_value(value);
}

static int list_of(const json_t *object, const char *key, float *floats, int32_t *ids)
{
    const json_t *array = json_object_get(object, key);
    assert_true(json_is_array(array) && json_array_size(array) <= MAX_VOCAB);
    const int n = (int)json_array_size(array);
    for (int i = 0; i < n; i++) {
        double x = json_number_value(json_array_get(array, (size_t)i));
        if (floats != NULL)
            floats[i] = (float)x;
        else
            ids[i] = (int32_t)x;
    }
    return n;
}

static void check_mlx_case(const json_t *test)
{
    int32_t history[MAX_VOCAB], special[MAX_VOCAB], bias_id[MAX_VOCAB];
    float bias[MAX_VOCAB], logits[MAX_VOCAB], probs[MAX_VOCAB];
    struct sampling_params params = {.temperature = (float)number_of(test, "temperature"),
                                     .top_k = (int32_t)number_of(test, "top_k"),
                                     .top_p = (float)number_of(test, "top_p"),
                                     .min_p = (float)number_of(test, "min_p"),
                                     .min_tokens_to_keep = (int32_t)number_of(test, "min_tokens_to_keep"),
                                     .xtc_probability = (float)number_of(test, "xtc_probability"),
                                     .xtc_threshold = (float)number_of(test, "xtc_threshold"),
                                     .xtc_special = special,
                                     .n_xtc_special = list_of(test, "xtc_special", NULL, special),
                                     .repetition_penalty = (float)number_of(test, "repetition_penalty"),
                                     .presence_penalty = (float)number_of(test, "presence_penalty"),
                                     .frequency_penalty = (float)number_of(test, "frequency_penalty"),
                                     .repetition_context = (int32_t)number_of(test, "repetition_context"),
                                     .presence_context = (int32_t)number_of(test, "presence_context"),
                                     .frequency_context = (int32_t)number_of(test, "frequency_context"),
                                     .bias_id = bias_id,
                                     .bias = bias,
                                     .n_bias = list_of(test, "bias_id", NULL, bias_id)};
    assert_int_equal(list_of(test, "bias", bias, NULL), params.n_bias);
    const int32_t n_history = list_of(test, "history", NULL, history);
    const int n = list_of(test, "logits", logits, NULL);
    check_draws(logits, n, n, &params, history, n_history, 6);
    assert_int_equal(list_of(test, "probs", probs, NULL), n);
    struct sample_row row = {.params = &params, .history = history, .n_history = n_history, .seed = 8};
    device_sample(logits, 1, n, n, &row, 1);
    assert_true(probs[row.token] > 1e-30f);
}

static void test_against_mlx(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/sampler_mlx.json", 0, &error);
    assert_non_null(root);
    const json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(cases), 160);
    for (size_t i = 0; i < json_array_size(cases); i += brief_run ? 15 : 1)
        check_mlx_case(json_array_get(cases, i));
    json_decref(root);
}

/* ---- Everything at once, at random ---- */

static uint32_t pick(uint64_t stream, uint64_t i, uint32_t n) { return rng_philox(4, RNG_TEST, stream, i).word[0] % n; }

enum { FUZZ_LISTS = 200 };
struct fuzz_case {
    struct sampling_params params;
    int32_t history[FUZZ_LISTS], bias_id[FUZZ_LISTS], special[3];
    float bias[FUZZ_LISTS];
    int32_t n_history;
};

static void fuzz_make(struct fuzz_case *f, uint64_t i, int32_t vocab)
{
    const float temperature[] = {1.0f, 0.0f, 0.6f, 1.7f};
    const float top_p[] = {0.0f, 0.3f, 0.9f, 0.999f}, min_p[] = {0.0f, 0.0f, 0.02f, 0.3f};
    const int32_t context[] = {20, 0, 3, 150, -1}, top_k[] = {0, 0, 1, 20, 700};
    f->params = plain_params();
    f->params.temperature = temperature[pick(i, 0, 4)];
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
        f->history[j] = (int32_t)pick(i, 1000 + j, j % 2 ? 40 : (uint32_t)vocab + 50) - 5;
        f->bias_id[j] = (int32_t)pick(i, 2000 + j, j % 2 ? 30 : (uint32_t)vocab + 50) - 5;
        f->bias[j] = (float)number(i, (int64_t)j);
    }
    for (int j = 0; j < 3; j++)
        f->special[j] = (int32_t)pick(i, 20 + (uint64_t)j, 40);
}

static void test_fuzz(void **state)
{
    (void)state;
    enum { VOCAB = 3001, LOGITS = 3, ROWS = 24 };
    static float logits[LOGITS * VOCAB];
    static struct fuzz_case fuzz[ROWS];
    for (uint64_t round = 0; round < (brief_run ? 2u : small_run ? 8u : 40u); round++) {
        const int64_t choosable = VOCAB - (int64_t)pick(round, 30, 3) * 470;
        fill(logits, DTYPE_F32, LOGITS * VOCAB, 900 + round, 2.0 + 2.0 * (double)(round % 4));
        struct sample_row rows[ROWS];
        for (uint64_t i = 0; i < ROWS; i++) {
            fuzz_make(&fuzz[i], 100 * round + i, VOCAB);
            rows[i] = (struct sample_row){.params = &fuzz[i].params,
                                          .history = fuzz[i].history,
                                          .n_history = fuzz[i].n_history,
                                          .logits_row = (int32_t)(i / 4 % LOGITS),
                                          .seed = 1 + round,
                                          .stream = i,
                                          .position = 100};
        }
        check_rows(logits, LOGITS, VOCAB, choosable, rows, ROWS);
    }
}

/* ---- Large rows ---- */

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* On 20,000 logits that lie in one bin, over many, and beyond the last: tokens are among the k largest, or in the
 * nucleus, and where they should be in the distribution. Ranked by log-prob: two logits closer than its last place may
 * tie, and which of them is in differs from the CPU where the last place of the log-sum-exp does: one token of k, or
 * its like in a nucleus. */
static void test_large_filters(void **state)
{
    (void)state;
    enum { N = 20000, DRAWS = 12 };
    static float logits[N], sorted[N];
    const double spread[] = {0.001, 3.0, 60.0};
    for (int s = 0; s < 3; s++) {
        const double last_place = s < 2 ? 2e-6 : 1.6e-5; /* of a log-prob down to -16, to -128 */
        fill(logits, DTYPE_F32, N, 60, spread[s]);
        memcpy(sorted, logits, sizeof logits);
        qsort(sorted, N, sizeof *sorted, descending);
        const int ks[] = {1, 7, 1000, N - 1};
        const float ps[] = {0.01f, 0.5f, 0.95f, 0.999f};
        for (int k = 0; k < 8; k++) {
            if (brief_run && (s != 1 || k % 3 != 1)) /* top-k and top-p */
                continue;
            struct sampling_params params = plain_params();
            struct sample_row rows[DRAWS];
            params.temperature = s == 2 ? 50.0f : 1.0f; /* so that nothing kept vanishes */
            params.top_k = k < 4 ? ks[k] : 0;
            params.top_p = k < 4 ? 0.0f : ps[k - 4];
            for (int i = 0; i < DRAWS; i++)
                rows[i] = (struct sample_row){.params = &params, .position = (uint64_t)i};
            device_sample(logits, 1, N, N, rows, DRAWS);
            for (int i = 0; i < DRAWS; i++) {
                if (k == 0) {
                    assert_true((double)(logits[rows[i].token] - sorted[0]) >= -last_place);
                    continue;
                }
                check_token(&rows[i], logits, N, k < 4 ? 2.0 / ks[k] : s == 2 ? 0.05 : 0.01);
                if (k < 4)
                    assert_true((double)(logits[rows[i].token] - sorted[ks[k] - 1]) >= -last_place);
            }
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
    for (int variant = 0; variant < 5; variant++) {
        struct sampling_params params = plain_params();
        params.top_k = variant == 0 ? 4000 : variant == 4 ? 2 : 0;
        params.top_p = variant == 1 || variant == 4 ? 0.7f : 0.0f;
        params.min_p = variant == 2 ? 0.9f : 0.0f;
        params.min_tokens_to_keep = 3500;
        params.xtc_probability = variant >= 3 ? 1.0f : 0.0f;
        params.xtc_threshold = 1.0f / N;
        check_draws(logits, N, N, &params, NULL, 0, brief_run ? 2 : 16);
    }
}

/* ---- The draw ---- */

/* Frequencies over two parts: chi-square within mean + 4 standard deviations. Seeds are fixed, so the outcome is
 * too. */
static void test_frequencies(void **state)
{
    (void)state;
    enum { N = 2200, ROWS = 500 };
    static float logits[N];
    static struct sample_row rows[ROWS];
    static int seen[N];
    const int rounds = small_run ? 2 : 16;
    struct sampling_params params = plain_params();
    fill(logits, DTYPE_F32, N, 61, 40.0);
    logits[3] = -INFINITY;
    logits[2100] = 38.0f;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < ROWS; i++)
            rows[i] = (struct sample_row){.params = &params, .seed = 9, .position = (uint64_t)(round * ROWS + i)};
        device_sample(logits, 1, N, 2110, rows, ROWS);
        for (int i = 0; i < ROWS; i++) {
            assert_in_range(rows[i].token, 0, 2109);
            seen[rows[i].token]++;
        }
    }
    double whole = 0.0, chi = 0.0, rest = 0.0, rest_seen = 0.0;
    int cells = 0;
    for (int i = 0; i < 2110; i++)
        whole += exp((double)logits[i]);
    for (int i = 0; i < 2110; i++) {
        double expected = exp((double)logits[i]) / whole * rounds * ROWS;
        assert_true(expected > 0.0 || seen[i] == 0);
        if (expected < 5.0) {
            rest += expected;
            rest_seen += seen[i];
            continue;
        }
        chi += (seen[i] - expected) * (seen[i] - expected) / expected;
        cells++;
    }
    chi += (rest_seen - rest) * (rest_seen - rest) / rest;
    assert_true(cells > 2 && chi < cells + 4.0 * sqrt(2.0 * cells));
}

/* Plain draws at every size, among them Qwen3's, cut and uncut; and one whose parts are more than a lane keeps. */
static void test_plain_draws(void **state)
{
    (void)state;
    const int64_t size[][2] = {{1, 1},       {2, 2},       {5, 3},       {2048, 2048},     {2049, 2048},
                               {4099, 4097}, {6001, 4096}, {9000, 5000}, {151936, 151669}, {300001, 262100}};
    const float temperature[] = {1.0f, 0.6f, 0.0f, 30.0f};
    for (size_t s = 0; s < sizeof size / sizeof *size; s += brief_run ? 4 : 1) {
        float *logits = malloc((size_t)size[s][0] * sizeof *logits);
        fill(logits, DTYPE_F32, size[s][0], s, 9.0);
        for (int t = 0; t < 4; t++) {
            struct sampling_params params = plain_params();
            params.temperature = temperature[t];
            check_draws(logits, size[s][0], size[s][1], &params, NULL, 0, small_run ? 8 : 64);
        }
        free(logits);
    }
}

/* The log-prob of a sampled token is the one of head_stats bit for bit, with and without filters,
 * at every temperature; and at temperature 0 that of temperature 1. */
static void test_logp_is_that_of_head_stats(void **state)
{
    (void)state;
    enum { N = 5001, DRAWS = 4 };
    static float logits[N];
    const float temperature[] = {1.0f, 0.6f, 1.3f, 0.0f};
    const int32_t bias_id[1] = {17};
    const float bias[1] = {3.0f};
    fill(logits, DTYPE_F32, N, 62, 6.0);
    float *at = device_copy(logits, sizeof logits);
    for (int t = 0; t < 4; t++)
        for (int variant = 0; variant < 3; variant++) {
            struct sampling_params params = plain_params();
            params.temperature = temperature[t];
            params.top_k = variant == 1 ? 50 : 0;
            params.n_bias = variant == 2;
            params.bias_id = bias_id;
            params.bias = bias;
            for (uint64_t i = 0; i < DRAWS; i++) {
                struct sample_row row = single(logits, N, N, &params, 3, 4, i);
                float *out = device_copy(NULL, 2 * sizeof(float));
                int32_t *target = device_copy(&row.token, sizeof row.token);
                float logp;
                device->ops->head_stats(
                    device, &(struct head_stats){1, N, at, t == 3 ? 1.0f : temperature[t], target, out, out + 1, NULL});
                device->ops->download(device, &logp, out, sizeof logp);
                assert_memory_equal(&row.logp, &logp, sizeof logp);
                device->ops->free(device, out);
                device->ops->free(device, target);
            }
        }
    device->ops->free(device, at);
}

/* Each row alone, among others and among others in reverse: the same token and log-prob. */
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
    for (int i = 0; i < ROWS; i++) {
        alone[i] = (struct sample_row){.params = &params[i % 11 % 4],
                                       .history = history,
                                       .n_history = 4,
                                       .logits_row = i / 4 % LOGITS,
                                       .seed = 1,
                                       .stream = (uint64_t)i,
                                       .position = 100};
        device_sample(logits, LOGITS, N, N, &alone[i], 1);
    }
    for (int variant = 0; variant < 2; variant++) {
        for (int i = 0; i < ROWS; i++)
            rows[i] = alone[variant == 0 ? i : ROWS - 1 - i];
        device_sample(logits, LOGITS, N, N, rows, ROWS);
        for (int i = 0; i < ROWS; i++) {
            const struct sample_row *wanted = &alone[variant == 0 ? i : ROWS - 1 - i];
            assert_int_equal(rows[i].token, wanted->token);
            assert_memory_equal(&rows[i].logp, &wanted->logp, sizeof(float));
        }
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
    struct sampling_params params = plain_params();
    params.temperature = 0.0f;
    assert_int_equal(single(logits, N, N, &params, 1, 1, 1).token, 2400);
    /* Beyond n_choosable: never; of equals the lowest id. Filters do nothing. */
    params.top_k = 3;
    params.xtc_probability = 1.0f;
    assert_int_equal(single(logits, N, 2400, &params, 1, 1, 1).token, 40);
    params.bias_id = (const int32_t[]){2300};
    params.bias = (const float[]){0.5f};
    params.n_bias = 1;
    assert_int_equal(single(logits, N, 2400, &params, 1, 1, 1).token, 2300);
    params.bias_id = (const int32_t[]){7};
    assert_int_equal(single(logits, N, 2400, &params, 1, 1, 1).token, 40);
}

/* Tokens without probability, before, between and behind those with it; all the mass beyond n_choosable. */
static void test_never_impossible(void **state)
{
    (void)state;
    enum { N = 6500, DRAWS = 50 };
    static float logits[N];
    struct sample_row rows[DRAWS];
    const int64_t choosable[] = {N, 2500, 40};
    for (int i = 0; i < N; i++)
        logits[i] = i % 3 == 1 ? -200.0f : -INFINITY;
    logits[2047] = 1.0f;
    logits[4098] = 0.0f;
    for (int filtered = 0; filtered < 2; filtered++)
        for (int c = 0; c < (brief_run && filtered ? 1 : 3); c++) {
            struct sampling_params params = plain_params();
            params.top_k = filtered ? N - 1 : 0;
            int other = 0;
            for (int i = 0; i < DRAWS; i++)
                rows[i] = (struct sample_row){.params = &params, .seed = 2, .stream = 2, .position = (uint64_t)i};
            device_sample(logits, 1, N, choosable[c], rows, DRAWS);
            for (int i = 0; i < DRAWS; i++) {
                const int32_t token = rows[i].token;
                other += token == 4098;
                if (c == 0)
                    assert_true(token == 2047 || token == 4098);
                else if (c == 1)
                    assert_int_equal(token, 2047);
                else
                    assert_true(token >= 0 && token < 40 && token % 3 == 1);
            }
            /* 50 / (1 + e), about three standard deviations */
            assert_true(c > 0 ? other == 0 : other > 3 && other < 24);
        }
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
    for (int b = 0; b < 3; b++)
        for (int v = 0; v < 4; v++) {
            for (int i = 0; i < N; i++)
                logits[i] = b == 2 ? -INFINITY : 0.5f;
            logits[2060] = bad[b];
            struct sample_row rows[2] = {{.params = &params[v], .logits_row = 0},
                                         {.params = &params[v], .logits_row = 1}};
            device_sample(logits, 2, N, N, rows, 2);
            assert_int_equal(rows[0].token, -1);
            assert_true(isnan(rows[0].logp));
            assert_in_range(rows[1].token, 0, N - 1);
            assert_true(rows[1].logp < 0.0f);
        }
    /* A bias that leaves nothing to choose from, or makes a NaN; so does a cut to ids that are -inf. */
    for (int i = 0; i < N; i++)
        logits[i] = i < 2 ? 0.0f : -INFINITY;
    params[0].bias_id = (const int32_t[]){1, 0};
    params[0].bias = (const float[]){-INFINITY, -INFINITY};
    params[0].n_bias = 2;
    assert_int_equal(single(logits, N, N, &params[0], 1, 1, 1).token, -1);
    params[0].bias = (const float[]){NAN, 0.0f};
    assert_int_equal(single(logits, N, N, &params[0], 1, 1, 1).token, -1);
    logits[0] = logits[1] = -INFINITY;
    logits[9] = 1.0f;
    struct sampling_params unfiltered = plain_params();
    struct sample_row row = single(logits, N, 9, &unfiltered, 1, 1, 1);
    assert_int_equal(row.token, -1);
    assert_true(isnan(row.logp));
    unfiltered.temperature = 0.0f;
    assert_int_equal(single(logits, N, 9, &unfiltered, 1, 1, 1).token, -1);
    device->ops->sample(device, &(struct sample){N, N, NULL, NULL, 0}); /* no rows */
    device_must_be_well();
}

/* Of all draws checked, next to none is not the CPU's. */
static void test_differences_are_few(void **state)
{
    (void)state;
    print_message("%d draws, %d not the CPU's\n", n_draws, n_different);
    assert_true(n_draws > (brief_run ? 100 : 1000) && n_different * 500 <= n_draws);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_against_mlx),
        cmocka_unit_test(test_fuzz),
        cmocka_unit_test(test_large_filters),
        cmocka_unit_test(test_many_equals),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_plain_draws),
        cmocka_unit_test(test_logp_is_that_of_head_stats),
        cmocka_unit_test(test_alone_or_among_others),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_never_impossible),
        cmocka_unit_test(test_broken_rows),
        cmocka_unit_test(test_differences_are_few),
    };
    device_test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, device_setup, device_teardown);
}
