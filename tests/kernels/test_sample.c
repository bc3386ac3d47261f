/* Sampling: MLX-LM's processors and filters (its own test vectors, llama.cpp's, and distributions
 * computed by MLX-LM), and the draw: frequencies, reproducibility, what can never be chosen. */
#include "backend/ops.h"
#include "backend/sampling.h"
#include "kernels/isa_test.h"

#include "backend/cpu/sample_filters.h"
#include "base/memory.h"

#include <jansson.h>

typedef cohort_status process_fn(const struct sample_row *, float *, int64_t, struct sample_scratch *);
typedef cohort_status filter_fn(const struct sample_row *, float *, int64_t, struct sample_scratch *, bool *);
static process_fn *const process[] = OPERATION(sample_process);
static filter_fn *const filter[] = OPERATION(sample_filter);
static void (*const sample[])(struct backend *, struct sample *) = OPERATION(sample);
static void (*const head_stats[])(struct backend *, const struct head_stats *) = OPERATION(head_stats);

enum { MAX_VOCAB = 128 };

static struct sampling_params plain_params(void)
{
    struct sampling_params params = {.temperature = 1.0f,
                                     .min_tokens_to_keep = 1,
                                     .repetition_context = 20,
                                     .presence_context = 20,
                                     .frequency_context = 20};
    return params;
}

static void scratch_free(struct sample_scratch *scratch)
{
    mem_free(scratch->logits);
    mem_free(scratch->window);
    mem_free(scratch->ranked);
}

/* probs = softmax of what the filters leave of logits, divided by the temperature. */
static void distribution(int isa, const struct sample_row *row, const float *logits, int n, double *probs)
{
    struct sample_scratch scratch = {0};
    float *left = guarded((size_t)n * sizeof *left);
    memcpy(left, logits, (size_t)n * sizeof *left);
    bool valid = false;
    assert_int_equal(filter[isa](row, left, n, &scratch, &valid), COHORT_OK);
    assert_true(valid);
    double max = -INFINITY;
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        max = (double)left[i] > max ? (double)left[i] : max;
    for (int i = 0; i < n; i++) {
        probs[i] = exp(((double)left[i] - max) / (double)row->params->temperature);
        sum += probs[i];
    }
    for (int i = 0; i < n; i++)
        probs[i] /= sum;
    guarded_free(left, (size_t)n * sizeof *left);
    scratch_free(&scratch);
}

/* ---- Test vectors of MLX-LM (tests/test_sample_utils.py) and llama.cpp (tests/test-sampling.cpp)
 * ---- */

struct vector {
    const char *name;
    int n;
    float in[5];
    double out[5];
    float top_p, min_p;
    int32_t top_k;
    float xtc_probability, xtc_threshold;
    int32_t n_special; /* the first ids */
};

static const struct vector vectors[] = {
    {.name = "top_p", .n = 4, .in = {.9f, 0, 0, .1f}, .out = {1, 0, 0, 0}, .top_p = .3f},
    {.name = "top_p", .n = 4, .in = {.9f, 0, 0, .1f}, .out = {.9, 0, 0, .1}, .top_p = .95f},
    {.name = "top_p", .n = 4, .in = {0, .5f, .4f, .1f}, .out = {0, 1, 0, 0}, .top_p = .4f},
    {.name = "top_p", .n = 4, .in = {0, .5f, .4f, .1f}, .out = {0, 5. / 9, 4. / 9, 0}, .top_p = .6f},
    {.name = "top_p", .n = 4, .in = {0, .5f, .4f, .1f}, .out = {0, .5, .4, .1}, .top_p = .95f},
    {.name = "top_p to the edge", .n = 4, .in = {.1f, .2f, .3f, .4f}, .out = {0, 0, 3. / 7, 4. / 7}, .top_p = .7f},
    /* MLX-LM ends all of these where the sum is p in decimals. */
    {.name = "top_p to the edge",
     .n = 4,
     .in = {.1f, .2f, .3f, .4f},
     .out = {0, .2 / .9, .3 / .9, .4 / .9},
     .top_p = .9f},
    {.name = "top_p to the edge", .n = 3, .in = {.5f, .3f, .2f}, .out = {.5 / .8, .3 / .8, 0}, .top_p = .8f},
    {.name = "top_p to the edge", .n = 3, .in = {.5f, .3f, .2f}, .out = {.5 / .5, 0, 0}, .top_p = .5f},
    {.name = "top_p to the edge", .n = 3, .in = {.5f, .4f, .1f}, .out = {.5 / .9, .4 / .9, 0}, .top_p = .9f},
    {.name = "top_p to the edge", .n = 3, .in = {.6f, .3f, .1f}, .out = {.6 / .9, .3 / .9, 0}, .top_p = .9f},
    {.name = "top_p to the edge", .n = 3, .in = {.6f, .25f, .15f}, .out = {.6 / .85, .25 / .85, 0}, .top_p = .85f},
    {.name = "top_p to the edge",
     .n = 4,
     .in = {.35f, .3f, .2f, .15f},
     .out = {.35 / .65, .3 / .65, 0, 0},
     .top_p = .65f},
    {.name = "top_p to the edge",
     .n = 4,
     .in = {.35f, .3f, .2f, .15f},
     .out = {.35 / .85, .3 / .85, .2 / .85, 0},
     .top_p = .85f},
    {.name = "top_p to the edge", .n = 3, .in = {.45f, .35f, .2f}, .out = {.45 / .8, .35 / .8, 0}, .top_p = .8f},
    {.name = "top_p to the edge", .n = 3, .in = {.7f, .2f, .1f}, .out = {.7 / .9, .2 / .9, 0}, .top_p = .9f},
    {.name = "top_p to the edge",
     .n = 4,
     .in = {.55f, .15f, .1f, .2f},
     .out = {.55 / .75, 0, 0, .2 / .75},
     .top_p = .75f},
    {.name = "top_p off", .n = 4, .in = {.1f, .2f, .3f, .4f}, .out = {.1, .2, .3, .4}, .top_p = 1.0f},
    {.name = "top_p, equals stay", .n = 5, .in = {.2f, .2f, .2f, .2f, .2f}, .out = {.2, .2, .2, .2, .2}, .top_p = .3f},
    {.name = "min_p", .n = 4, .in = {.9f, 0, 0, .1f}, .out = {1, 0, 0, 0}, .min_p = .8f},
    {.name = "min_p", .n = 4, .in = {.9f, 0, 0, .1f}, .out = {.9, 0, 0, .1}, .min_p = .05f},
    {.name = "min_p", .n = 4, .in = {0, .8f, 0, .1f}, .out = {0, 1, 0, 0}, .min_p = .7f},
    {.name = "min_p", .n = 4, .in = {.1f, .2f, .3f, .4f}, .out = {0, 2. / 9, 3. / 9, 4. / 9}, .min_p = .26f},
    {.name = "top_k", .n = 4, .in = {.9f, 0, 0, .1f}, .out = {1, 0, 0, 0}, .top_k = 1},
    {.name = "top_k", .n = 4, .in = {.6f, 0, .1f, .3f}, .out = {2. / 3, 0, 0, 1. / 3}, .top_k = 2},
    {.name = "top_k, few left", .n = 4, .in = {.6f, 0, 0, .4f}, .out = {.6, 0, 0, .4}, .top_k = 3},
    {.name = "top_k of equals", .n = 5, .in = {.2f, .2f, .2f, .2f, .2f}, .out = {.5, .5, 0, 0, 0}, .top_k = 2},
    {.name = "top_k of all", .n = 3, .in = {.2f, .3f, .5f}, .out = {.2, .3, .5}, .top_k = 3},
    {.name = "xtc",
     .n = 4,
     .in = {.4f, .3f, .15f, .15f},
     .out = {0, .5, .25, .25},
     .xtc_probability = 1,
     .xtc_threshold = .2f},
    {.name = "xtc",
     .n = 4,
     .in = {.4f, .3f, .15f, .15f},
     .out = {0, 0, .5, .5},
     .xtc_probability = 1,
     .xtc_threshold = .1f},
    {.name = "xtc special",
     .n = 4,
     .in = {.4f, .3f, .15f, .15f},
     .out = {4. / 7, 0, 1.5 / 7, 1.5 / 7},
     .xtc_probability = 1,
     .xtc_threshold = .1f,
     .n_special = 1},
    {.name = "xtc off",
     .n = 4,
     .in = {.4f, .3f, .15f, .15f},
     .out = {.4, .3, .15, .15},
     .xtc_probability = 0,
     .xtc_threshold = .1f},
    {.name = "xtc, none above",
     .n = 4,
     .in = {.4f, .3f, .15f, .15f},
     .out = {.4, .3, .15, .15},
     .xtc_probability = 1,
     .xtc_threshold = .5f},
    {.name = "xtc",
     .n = 4,
     .in = {.1f, .2f, .3f, .4f},
     .out = {1. / 3, 2. / 3, 0, 0},
     .xtc_probability = .99f,
     .xtc_threshold = .19f},
};

static void test_vectors(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++) {
        const struct vector *test = &vectors[v];
        const int32_t special[1] = {0};
        struct sampling_params params = plain_params();
        params.top_p = test->top_p;
        params.min_p = test->min_p;
        params.top_k = test->top_k;
        params.xtc_probability = test->xtc_probability;
        params.xtc_threshold = test->xtc_threshold;
        params.xtc_special = special;
        params.n_xtc_special = test->n_special;
        struct sample_row row = {.params = &params, .seed = 5};
        float logits[5];
        double probs[5];
        for (int i = 0; i < test->n; i++)
            logits[i] = logf(test->in[i]);
        distribution(isa, &row, logits, test->n, probs);
        for (int i = 0; i < test->n; i++)
            if (!(fabs(probs[i] - test->out[i]) < 1e-6))
                fail_msg("%s (%zu): probability %d is %.7f, expected %.7f", test->name, v, i, probs[i], test->out[i]);
    }
}

/* The XTC coin falls by its probability, and is a function of (seed, stream, position). */
static void test_xtc_coin(void **state)
{
    (void)state;
    const float logits[2] = {1.0f, 0.5f};
    struct sampling_params params = plain_params();
    params.xtc_probability = 0.25f;
    params.xtc_threshold = 0.1f;
    EACH_ISA(isa)
    {
        int applied = 0;
        for (uint64_t i = 0; i < 1000; i++) {
            struct sample_row row = {.params = &params, .seed = 1, .stream = i % 10, .position = i / 10};
            double probs[2];
            distribution(isa, &row, logits, 2, probs);
            applied += probs[0] == 0.0;
        }
        assert_in_range(applied, 250 - 41, 250 + 41); /* three standard deviations of 13.7 */
    }
}

static void check_processed(int isa, const struct sampling_params *params, const int32_t *history, int n_history,
                            const float *in, const float *out, int n)
{
    struct sample_scratch scratch = {0};
    struct sample_row row = {.params = params, .history = history, .n_history = n_history};
    float *logits = guarded((size_t)n * sizeof *logits);
    memcpy(logits, in, (size_t)n * sizeof *logits);
    assert_int_equal(process[isa](&row, logits, n, &scratch), COHORT_OK);
    for (int i = 0; i < n; i++)
        expect_near((double)logits[i], (double)out[i], DTYPE_F32, 1.0 + fabs((double)out[i]), 2e-7);
    guarded_free(logits, (size_t)n * sizeof *logits);
    scratch_free(&scratch);
}

static void test_penalty_vectors(void **state)
{
    (void)state;
    const int32_t history[5] = {0, 0, 0, 1, 1};
    const float zeros[4] = {0};
    EACH_ISA(isa)
    {
        struct sampling_params params = plain_params();
        params.presence_penalty = .5f;
        check_processed(isa, &params, history, 5, zeros, (float[]){-.5f, -.5f, 0, 0}, 4);
        params = plain_params();
        params.frequency_penalty = .5f;
        check_processed(isa, &params, history, 5, zeros, (float[]){-1.5f, -1.f, 0, 0}, 4);
        params.frequency_context = 3; /* the last three: 0, 1, 1 */
        check_processed(isa, &params, history, 5, zeros, (float[]){-.5f, -1.f, 0, 0}, 4);
        params.frequency_context = 0; /* all */
        check_processed(isa, &params, history, 5, zeros, (float[]){-1.5f, -1.f, 0, 0}, 4);
        /* All three: their order shows. */
        params = plain_params();
        params.repetition_penalty = 1.5f;
        params.presence_penalty = .5f;
        params.frequency_penalty = .25f;
        check_processed(isa, &params, history, 5, (float[]){1.f, .5f, 0, -.5f},
                        (float[]){-.58333333f, -.66666667f, 0, -.5f}, 4);
        /* A negative logit is multiplied; no history, no change; bias first; ids out of range are
         * skipped. */
        const int32_t odd[4] = {3, -1, 99, 3};
        check_processed(isa, &params, odd, 4, (float[]){1.f, .5f, 0, -.5f}, (float[]){1.f, .5f, 0, -1.75f}, 4);
        check_processed(isa, &params, NULL, 0, (float[]){1.f, .5f, 0, -.5f}, (float[]){1.f, .5f, 0, -.5f}, 4);
        params.bias_id = (const int32_t[]){3, 7, -2};
        params.bias = (const float[]){1.5f, 9.f, 9.f};
        params.n_bias = 3;
        check_processed(isa, &params, odd, 1, (float[]){1.f, .5f, 0, -.5f}, (float[]){1.f, .5f, 0, -.08333333f}, 4);
    }
}

/* ---- What MLX-LM itself computes (oracle/sampler_mlx.py) ---- */

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("the fixture has no number %s", key);
    return json_number_value(value);
}

static int list_of(const json_t *object, const char *key, double *out)
{
    const json_t *array = json_object_get(object, key);
    assert_true(json_is_array(array) && json_array_size(array) <= MAX_VOCAB);
    for (size_t i = 0; i < json_array_size(array); i++)
        out[i] = json_number_value(json_array_get(array, i));
    return (int)json_array_size(array);
}

static int ids_of(const json_t *object, const char *key, int32_t *out)
{
    double list[MAX_VOCAB];
    int n = list_of(object, key, list);
    for (int i = 0; i < n; i++)
        out[i] = (int32_t)list[i];
    return n;
}

static int floats_of(const json_t *object, const char *key, float *out)
{
    double list[MAX_VOCAB];
    int n = list_of(object, key, list);
    for (int i = 0; i < n; i++)
        out[i] = (float)list[i];
    return n;
}

static void check_mlx_case(int isa, const json_t *test, size_t index)
{
    int32_t history[MAX_VOCAB], special[MAX_VOCAB], bias_id[MAX_VOCAB];
    float bias[MAX_VOCAB], logits[MAX_VOCAB], processed[MAX_VOCAB];
    double probs[MAX_VOCAB], wanted[MAX_VOCAB];
    struct sampling_params params = {.temperature = (float)number_of(test, "temperature"),
                                     .top_k = (int32_t)number_of(test, "top_k"),
                                     .top_p = (float)number_of(test, "top_p"),
                                     .min_p = (float)number_of(test, "min_p"),
                                     .min_tokens_to_keep = (int32_t)number_of(test, "min_tokens_to_keep"),
                                     .xtc_probability = (float)number_of(test, "xtc_probability"),
                                     .xtc_threshold = (float)number_of(test, "xtc_threshold"),
                                     .xtc_special = special,
                                     .n_xtc_special = ids_of(test, "xtc_special", special),
                                     .repetition_penalty = (float)number_of(test, "repetition_penalty"),
                                     .presence_penalty = (float)number_of(test, "presence_penalty"),
                                     .frequency_penalty = (float)number_of(test, "frequency_penalty"),
                                     .repetition_context = (int32_t)number_of(test, "repetition_context"),
                                     .presence_context = (int32_t)number_of(test, "presence_context"),
                                     .frequency_context = (int32_t)number_of(test, "frequency_context"),
                                     .bias_id = bias_id,
                                     .bias = bias,
                                     .n_bias = ids_of(test, "bias_id", bias_id)};
    assert_int_equal(floats_of(test, "bias", bias), params.n_bias);
    struct sample_row row = {.params = &params, .history = history, .n_history = ids_of(test, "history", history)};
    int n = floats_of(test, "logits", logits);
    assert_int_equal(floats_of(test, "processed", processed), n);
    check_processed(isa, &params, history, row.n_history, logits, processed, n);
    assert_int_equal(list_of(test, "probs", wanted), n);
    distribution(isa, &row, processed, n, probs);
    for (int i = 0; i < n; i++)
        if (!(fabs(probs[i] - wanted[i]) <= 3e-6) || (probs[i] > 1e-30) != (wanted[i] > 1e-30))
            fail_msg("case %zu: probability %d is %.8g, MLX-LM has %.8g", index, i, probs[i], wanted[i]);
}

static void test_against_mlx(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/sampler_mlx.json", 0, &error);
    assert_non_null(root);
    const json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(cases), 160);
    for (size_t i = 0; i < json_array_size(cases); i++)
        EACH_ISA(isa) check_mlx_case(isa, json_array_get(cases, i), i);
    json_decref(root);
}

/* ---- Large rows: ranking by histogram ---- */

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* On 20,000 logits: the top-k set is the k largest; the top-p set is the shortest prefix of the
 * sorted probabilities that reaches p. */
static void test_large_filters(void **state)
{
    (void)state;
    enum { N = 20000 };
    static float logits[N], sorted[N];
    static double probs[N];
    const double spread[] = {0.001, 3.0, 60.0}; /* in one bin, over many, and beyond the last */
    for (int s = 0; s < 3; s++) {
        const double last_place = s < 2 ? 1e-6 : 8e-6; /* of a log-prob down to -16, to -128 */
        fill(logits, DTYPE_F32, N, 60, spread[s]);
        memcpy(sorted, logits, sizeof logits);
        qsort(sorted, N, sizeof *sorted, descending);
        double whole = 0.0;
        for (int i = 0; i < N; i++)
            whole += exp((double)(sorted[i] - sorted[0]));
        EACH_ISA(isa)
        {
            const int ks[] = {1, 7, 1000, N - 1};
            for (int k = 0; k < 4; k++) {
                struct sampling_params params = plain_params();
                params.temperature = 50.0f; /* so that nothing kept vanishes */
                params.top_k = ks[k];
                struct sample_row row = {.params = &params};
                distribution(isa, &row, logits, N, probs);
                int kept = 0;
                for (int i = 0; i < N; i++) {
                    kept += probs[i] > 0.0;
                    /* Ranked by log-prob: two logits closer than its last place may tie. */
                    double above = (double)(logits[i] - sorted[ks[k] - 1]);
                    assert_true(probs[i] > 0.0 ? above >= -last_place : above <= last_place);
                }
                assert_int_equal(kept, ks[k]);
            }
            const float ps[] = {0.01f, 0.5f, 0.95f, 0.999f};
            for (int k = 0; k < 4; k++) {
                struct sampling_params params = plain_params();
                params.temperature = 50.0f;
                params.top_p = ps[k];
                struct sample_row row = {.params = &params};
                distribution(isa, &row, logits, N, probs);
                double mass = 0.0;
                float least = INFINITY;
                for (int i = 0; i < N; i++)
                    if (probs[i] > 0.0) {
                        mass += exp((double)(logits[i] - sorted[0])) / whole;
                        least = logits[i] < least ? logits[i] : least;
                    }
                /* Those that do not tie with the last one are not enough. */
                double better = 0.0;
                for (int i = 0; (double)(sorted[i] - least) > last_place; i++)
                    better += exp((double)(sorted[i] - sorted[0])) / whole;
                assert_true(mass >= (double)ps[k] * (1.0 - 1e-5));
                assert_true(better < (double)ps[k] * (1.0 + 1e-5));
            }
        }
    }
}

/* ---- The draw ---- */

static struct sample_row sample_single(int isa, const float *logits, int64_t vocab, int64_t choosable,
                                       const struct sampling_params *params, uint64_t seed, uint64_t stream,
                                       uint64_t position)
{
    struct backend backend = backend_with(1);
    struct sample_row row = {.params = params, .seed = seed, .stream = stream, .position = position};
    struct sample op = {vocab, choosable, logits, &row, 1};
    sample[isa](&backend, &op);
    return row;
}

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

static void test_frequencies(void **state)
{
    (void)state;
    enum { N = 2200, DRAWS = 8000 }; /* two blocks */
    static float logits[N];
    static double probs[N];
    static int seen[N];
    fill(logits, DTYPE_F32, N, 61, 4.0);
    logits[3] = -INFINITY;
    logits[2100] = 7.0f;
    for (int variant = 0; variant < 3; variant++) {
        struct sampling_params params = plain_params();
        params.temperature = variant == 1 ? 0.7f : 1.0f;
        params.top_p = variant == 2 ? 0.6f : 0.0f;
        const int64_t choosable = variant == 1 ? 2110 : N; /* within the second block */
        EACH_ISA(isa)
        {
            struct sample_row row = {.params = &params};
            distribution(isa, &row, logits, (int)choosable, probs);
            for (int64_t i = choosable; i < N; i++)
                probs[i] = 0.0;
            memset(seen, 0, sizeof seen);
            int draws = isa == 0 ? DRAWS / 4 : DRAWS;
            for (int i = 0; i < draws; i++) {
                row = sample_single(isa, logits, N, choosable, &params, 9, 1, (uint64_t)i);
                assert_in_range(row.token, 0, choosable - 1);
                seen[row.token]++;
            }
            check_frequencies(seen, probs, N, draws);
        }
    }
}

/* The log-prob of a sampled token is the one of head_stats bit for bit, with and without filters,
 * at every temperature; and at temperature 0 that of temperature 1. */
static void test_logp_is_that_of_head_stats(void **state)
{
    (void)state;
    enum { N = 5001 };
    static float logits[N];
    fill(logits, DTYPE_F32, N, 62, 6.0);
    const float temperature[] = {1.0f, 0.6f, 1.3f, 0.0f};
    EACH_ISA(isa)
    for (int t = 0; t < 4; t++)
        for (int variant = 0; variant < 3; variant++)
            for (uint64_t i = 0; i < 8; i++) {
                struct sampling_params params = plain_params();
                const int32_t bias_id[1] = {17};
                const float bias[1] = {3.0f};
                params.temperature = temperature[t];
                params.top_k = variant == 1 ? 50 : 0;
                params.n_bias = variant == 2;
                params.bias_id = bias_id;
                params.bias = bias;
                struct sample_row row = sample_single(isa, logits, N, N, &params, 3, 4, i);
                float logp, lse;
                struct backend backend = backend_with(2);
                struct head_stats stats = {1, N, logits, t == 3 ? 1.0f : temperature[t], &row.token, &logp, &lse, NULL};
                assert_in_range(row.token, 0, N - 1);
                head_stats[isa](&backend, &stats);
                assert_memory_equal(&row.logp, &logp, sizeof logp);
            }
}

/* Each row alone, among others on one thread and on two, and with its neighbours reversed: the same
 * token and log-prob. */
static void test_alone_or_among_others(void **state)
{
    (void)state;
    enum { N = 3000, LOGITS = 7, ROWS = 24 };
    static float logits[LOGITS * N];
    const int32_t history[4] = {5, 6, 7, 5};
    fill(logits, DTYPE_F32, LOGITS * N, 63, 3.0);
    struct sampling_params params[4];
    for (int i = 0; i < 4; i++)
        params[i] = plain_params();
    params[1].temperature = 0.5f;
    params[1].top_p = 0.9f;
    params[2].top_k = 40;
    params[2].presence_penalty = 1.0f;
    params[3].temperature = 0.0f;
    EACH_ISA(isa)
    {
        struct sample_row alone[ROWS];
        for (int i = 0; i < ROWS; i++) {
            struct backend backend = backend_with(1);
            /* Runs of rows share logits, and within a run the parameters change. */
            struct sample_row row = {.params = &params[i % 11 % 4],
                                     .history = history,
                                     .n_history = 4,
                                     .logits_row = i / 4 % LOGITS,
                                     .seed = 1,
                                     .stream = (uint64_t)i,
                                     .position = 100};
            alone[i] = row;
            struct sample op = {N, N, logits, &alone[i], 1};
            sample[isa](&backend, &op);
        }
        for (int variant = 0; variant < 6; variant++) {
            struct backend backend = backend_with(variant % 3 == 2 ? 16 : variant % 3 + 1);
            struct sample_row rows[ROWS];
            for (int i = 0; i < ROWS; i++) {
                rows[i] = alone[variant < 3 ? i : ROWS - 1 - i];
                rows[i].token = -7;
                rows[i].logp = 0.0f;
            }
            struct sample op = {N, N, logits, rows, ROWS};
            sample[isa](&backend, &op);
            for (int i = 0; i < ROWS; i++) {
                const struct sample_row *wanted = &alone[variant < 3 ? i : ROWS - 1 - i];
                assert_int_equal(rows[i].token, wanted->token);
                assert_memory_equal(&rows[i].logp, &wanted->logp, sizeof(float));
            }
        }
    }
}

/* Different streams, positions and seeds draw differently. */
static void test_draws_differ(void **state)
{
    (void)state;
    enum { N = 4096 };
    static float logits[N]; /* all equal */
    struct sampling_params params = plain_params();
    int32_t first = sample_single(0, logits, N, N, &params, 1, 1, 1).token;
    assert_int_equal(first, sample_single(0, logits, N, N, &params, 1, 1, 1).token);
    int same = 0;
    for (uint64_t i = 2; i < 12; i++) {
        same += sample_single(0, logits, N, N, &params, i, 1, 1).token == first;
        same += sample_single(0, logits, N, N, &params, 1, i, 1).token == first;
        same += sample_single(0, logits, N, N, &params, 1, 1, i).token == first;
    }
    assert_in_range(same, 0, 1);
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
    EACH_ISA(isa)
    {
        assert_int_equal(sample_single(isa, logits, N, N, &params, 1, 1, 1).token, 2400);
        /* Beyond n_choosable: never; of equals the lowest id. Filters do nothing. */
        params.top_k = 3;
        params.xtc_probability = 1.0f;
        assert_int_equal(sample_single(isa, logits, N, 2400, &params, 1, 1, 1).token, 40);
        params.bias_id = (const int32_t[]){2300};
        params.bias = (const float[]){0.5f};
        params.n_bias = 1;
        assert_int_equal(sample_single(isa, logits, N, 2400, &params, 1, 1, 1).token, 2300);
        params = plain_params();
        params.temperature = 0.0f;
    }
}

/* Tokens without probability, before, between and behind those with it, on many draws; all the mass
 * beyond n_choosable. */
static void test_never_impossible(void **state)
{
    (void)state;
    enum { N = 6500 };
    static float logits[N];
    for (int i = 0; i < N; i++)
        logits[i] = i % 3 == 0 ? -INFINITY : i % 3 == 1 ? -200.0f : -INFINITY;
    logits[2047] = 1.0f;
    logits[4098] = 0.0f;
    struct sampling_params params = plain_params();
    EACH_ISA(isa)
    {
        int other = 0;
        for (uint64_t i = 0; i < 200; i++) {
            int32_t token = sample_single(isa, logits, N, N, &params, 2, 2, i).token;
            assert_true(token == 2047 || token == 4098);
            other += token == 4098;
            token = sample_single(isa, logits, N, 2500, &params, 2, 2, i).token;
            assert_int_equal(token, 2047);
            /* What is left after the cut at 40 is -200, in sum less than a float beside the row's
             * maximum. */
            token = sample_single(isa, logits, N, 40, &params, 2, 2, i).token;
            assert_in_range(token, 0, 39);
            assert_int_equal(token % 3, 1);
        }
        assert_in_range(other, 54 - 20, 54 + 20); /* 200 / (1 + e), about three standard deviations */
    }
}

/* No distribution: token -1 and NaN, with and without filters, and the neighbour is well. */
static void test_broken_rows(void **state)
{
    (void)state;
    enum { N = 2100 };
    static float logits[2 * N];
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    fill(logits, DTYPE_F32, 2 * N, 65, 1.0);
    struct sampling_params params[4];
    for (int i = 0; i < 4; i++)
        params[i] = plain_params();
    params[1].top_p = 0.5f;
    params[2].temperature = 0.0f;
    params[3].presence_penalty = 1.0f;
    EACH_ISA(isa)
    for (int b = 0; b < 3; b++)
        for (int v = 0; v < 4; v++) {
            for (int i = 0; i < N; i++)
                logits[i] = b == 2 ? -INFINITY : 0.5f;
            logits[2060] = bad[b];
            struct backend backend = backend_with(2);
            struct sample_row rows[2] = {{.params = &params[v], .logits_row = 0},
                                         {.params = &params[v], .logits_row = 1}};
            struct sample op = {N, N, logits, rows, 2};
            sample[isa](&backend, &op);
            assert_int_equal(rows[0].token, -1);
            assert_true(isnan(rows[0].logp));
            assert_in_range(rows[1].token, 0, N - 1);
            assert_true(rows[1].logp < 0.0f);
        }
    /* A bias that leaves nothing to choose from; so does a cut to ids that are -inf. */
    for (int i = 0; i < N; i++)
        logits[i] = i < 2 ? 0.0f : -INFINITY;
    params[0].bias_id = (const int32_t[]){0, 1};
    params[0].bias = (const float[]){-INFINITY, -INFINITY};
    params[0].n_bias = 2;
    struct sampling_params unfiltered = plain_params();
    EACH_ISA(isa)
    {
        assert_int_equal(sample_single(isa, logits, N, N, &params[0], 1, 1, 1).token, -1);
        logits[0] = logits[1] = -INFINITY;
        logits[9] = 1.0f;
        struct sample_row row = sample_single(isa, logits, N, 9, &unfiltered, 1, 1, 1);
        assert_int_equal(row.token, -1);
        assert_true(isnan(row.logp));
        logits[0] = logits[1] = 0.0f;
        logits[9] = -INFINITY;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_xtc_coin),
        cmocka_unit_test(test_penalty_vectors),
        cmocka_unit_test(test_against_mlx),
        cmocka_unit_test(test_large_filters),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_logp_is_that_of_head_stats),
        cmocka_unit_test(test_alone_or_among_others),
        cmocka_unit_test(test_draws_differ),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_never_impossible),
        cmocka_unit_test(test_broken_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
