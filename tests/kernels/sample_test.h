/* Shared by the tests of sampling: parameters, test vectors, MLX-LM's fixture. */
#ifndef COHORT_TESTS_KERNELS_SAMPLE_TEST_H
#define COHORT_TESTS_KERNELS_SAMPLE_TEST_H

#include "backend/cpu/sample_filters.h"
#include "backend/sampling.h"
#include "base/memory.h"
#include "support/numbers.h"

#include <jansson.h>

static inline struct sampling_params plain_params(void)
{
    return (struct sampling_params){.temperature = 1.0f,
                                    .min_tokens_to_keep = 1,
                                    .repetition_context = 20,
                                    .presence_context = 20,
                                    .frequency_context = 20};
}

static inline void scratch_free(struct sample_scratch *scratch)
{
    mem_free(scratch->logits);
    mem_free(scratch->window);
    mem_free(scratch->ranked);
}

static inline int descending(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* ---- Test vectors of MLX-LM (tests/test_sample_utils.py) and llama.cpp (tests/test-sampling.cpp), and what follows
 * from MLX-LM's rules ---- */

struct vector {
    const char *name;
    int n;
    float in[5];
    double out[5];
    float top_p, min_p;
    int32_t top_k;
    float xtc_probability, xtc_threshold;
    int32_t n_special; /* the first ids */
    int32_t keep;      /* min_tokens_to_keep; 0: 1 */
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
    {.name = "min_p, of equals the first",
     .n = 5,
     .in = {.1f, .3f, .1f, .4f, .1f},
     .out = {.1 / .8, .3 / .8, 0, .4 / .8, 0},
     .min_p = .9f,
     .keep = 3},
    {.name = "min_p, few left", .n = 4, .in = {.9f, 0, 0, .1f}, .out = {.9, 0, 0, .1}, .min_p = .8f, .keep = 4},
    {.name = "xtc and top_k",
     .n = 4,
     .in = {.4f, .3f, .15f, .15f},
     .out = {0, 0, 1, 0},
     .xtc_probability = 1,
     .xtc_threshold = .1f,
     .top_k = 1},
    {.name = "top_p, min_p and xtc",
     .n = 4,
     .in = {.4f, .3f, .15f, .15f},
     .out = {0, 1, 0, 0},
     .xtc_probability = 1,
     .xtc_threshold = .2f,
     .top_p = .8f,
     .min_p = .4f},
};
enum { N_VECTORS = sizeof vectors / sizeof *vectors };

/* The logits of a vector, and its parameters. */
static inline struct sampling_params vector_params(const struct vector *v, float *logits)
{
    static const int32_t special[1] = {0};
    struct sampling_params params = plain_params();
    params.top_p = v->top_p;
    params.min_p = v->min_p;
    params.top_k = v->top_k;
    params.min_tokens_to_keep = v->keep > 0 ? v->keep : 1;
    params.xtc_probability = v->xtc_probability;
    params.xtc_threshold = v->xtc_threshold;
    params.xtc_special = special;
    params.n_xtc_special = v->n_special;
    for (int i = 0; i < v->n; i++)
        logits[i] = logf(v->in[i]);
    return params;
}

/* ---- What MLX-LM and transformers themselves compute (oracle/sampler_mlx.py, oracle/sampler_transformers.py) ---- */

enum { MLX_MOST = 128 };

struct mlx_case {
    struct sampling_params params; /* points into what follows */
    int32_t history[MLX_MOST], special[MLX_MOST], bias_id[MLX_MOST];
    float bias[MLX_MOST], logits[MLX_MOST], processed[MLX_MOST];
    double probs[MLX_MOST];
    int n, n_history;
};

static inline double mlx_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("the fixture has no number %s", key);
    return json_number_value(value);
}

/* A list as doubles, floats or ids; the others are NULL. */
static inline int mlx_list(const json_t *object, const char *key, double *numbers, float *floats, int32_t *ids)
{
    const json_t *array = json_object_get(object, key);
    assert_true(json_is_array(array) && json_array_size(array) <= MLX_MOST);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const double x = json_number_value(json_array_get(array, i));
        if (numbers != NULL)
            numbers[i] = x;
        if (floats != NULL)
            floats[i] = (float)x;
        if (ids != NULL)
            ids[i] = (int32_t)x;
    }
    return (int)json_array_size(array);
}

static inline void mlx_case_read(const json_t *test, struct mlx_case *c)
{
    c->params = (struct sampling_params){.temperature = (float)mlx_number(test, "temperature"),
                                         .hf_order = json_is_true(json_object_get(test, "hf_order")),
                                         .top_k = (int32_t)mlx_number(test, "top_k"),
                                         .top_p = (float)mlx_number(test, "top_p"),
                                         .min_p = (float)mlx_number(test, "min_p"),
                                         .min_tokens_to_keep = (int32_t)mlx_number(test, "min_tokens_to_keep"),
                                         .xtc_probability = (float)mlx_number(test, "xtc_probability"),
                                         .xtc_threshold = (float)mlx_number(test, "xtc_threshold"),
                                         .xtc_special = c->special,
                                         .n_xtc_special = mlx_list(test, "xtc_special", NULL, NULL, c->special),
                                         .repetition_penalty = (float)mlx_number(test, "repetition_penalty"),
                                         .presence_penalty = (float)mlx_number(test, "presence_penalty"),
                                         .frequency_penalty = (float)mlx_number(test, "frequency_penalty"),
                                         .repetition_context = (int32_t)mlx_number(test, "repetition_context"),
                                         .presence_context = (int32_t)mlx_number(test, "presence_context"),
                                         .frequency_context = (int32_t)mlx_number(test, "frequency_context"),
                                         .bias_id = c->bias_id,
                                         .bias = c->bias,
                                         .n_bias = mlx_list(test, "bias_id", NULL, NULL, c->bias_id)};
    assert_int_equal(mlx_list(test, "bias", NULL, c->bias, NULL), c->params.n_bias);
    c->n_history = mlx_list(test, "history", NULL, NULL, c->history);
    c->n = mlx_list(test, "logits", NULL, c->logits, NULL);
    assert_int_equal(mlx_list(test, "processed", NULL, c->processed, NULL), c->n);
    assert_int_equal(mlx_list(test, "probs", c->probs, NULL, NULL), c->n);
}

/* The fixtures, with the number of their cases. */
static const struct {
    const char *path;
    size_t n;
} sampler_files[] = {{COHORT_SOURCE_DIR "/tests/fixtures/sampler_mlx.json", 160},
                     {COHORT_SOURCE_DIR "/tests/fixtures/sampler_transformers.json", 120}};
enum { N_SAMPLER_FILES = sizeof sampler_files / sizeof *sampler_files };

/* One of them, for json_decref. */
static inline json_t *sampler_load(int file, const json_t **cases)
{
    json_error_t error;
    json_t *root = json_load_file(sampler_files[file].path, 0, &error);
    assert_non_null(root);
    *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(*cases), sampler_files[file].n);
    return root;
}

/* What the filters leave is divided by at the draw. */
static inline float temperature_left(const struct sampling_params *p)
{
    return sampling_scales_first(p) ? 1.0f : p->temperature;
}

#endif
