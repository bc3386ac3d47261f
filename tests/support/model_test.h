/* Shared by the tests that run a whole decoder: a fixture's model with a runner, the cases that
 * oracle/model_transformers.py wrote, comparison of tensors. They run on any backend (support/test_backend.h). */
#ifndef COHORT_TESTS_SUPPORT_MODEL_TEST_H
#define COHORT_TESTS_SUPPORT_MODEL_TEST_H

#include "support/tally.h"
#include "support/test_backend.h"

#include "format/safetensors.h"
#include "model/packing.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/"

/* Instruction sets by provider name; those this machine lacks are left out by backend_here. */
static const char *const test_isas[] = {"portable", "avx2", "avx512"};
enum { N_TEST_ISAS = sizeof test_isas / sizeof *test_isas };

static inline void must(cohort_status status, const cohort_error *err)
{
    if (status != COHORT_OK)
        fail_msg("%s: %s", cohort_status_name(status), err->message);
}

/* ---- A model and a runner ---- */

struct model_test {
    bool keep_logits; /* of the runner planned next */
    const struct batch_noise
        *noise;              /* of case_backward's only micro-batch, or NULL; the runner must have been planned with
                                        extras.noise */
    struct backend *backend; /* borrowed */
    struct model *model;
    struct tree_runner runner;
    struct arena arena;
};

static inline void model_test_load(struct model_test *test, struct backend *backend, const char *dir, enum dtype type)
{
    cohort_error err = {0};
    memset(test, 0, sizeof *test);
    test->backend = backend;
    must(model_load(&test->model, backend, dir, type, 0, &err), &err);
    must(param_set_train_begin(test->model->trained, DTYPE_F32, &err), &err);
}

static inline void model_test_open(struct model_test *test, struct backend *backend, const char *fixture,
                                   enum dtype type)
{
    char dir[256];
    snprintf(dir, sizeof dir, FIXTURES "%s", fixture);
    model_test_load(test, backend, dir, type);
}

static inline void model_test_unplan(struct model_test *test)
{
    tree_runner_free(&test->runner);
    arena_release(&test->arena, test->backend);
}

/* Sets up the runner anew. head_chunk 0: as planned; else the head works in so many rows. */
static inline void model_test_plan(struct model_test *test, int64_t max_tokens, int64_t max_completions,
                                   enum decoder_mode mode, int64_t head_chunk)
{
    cohort_error err = {0};
    model_test_unplan(test);
    test->runner.keep_logits = test->keep_logits;
    for (int pass = 0; pass < 2; pass++) {
        must(tree_runner_plan(&test->runner, &test->arena, &test->model->config, test->model->type, max_tokens,
                              max_completions, mode, &err),
             &err);
        if (pass == 0)
            must(arena_allocate(&test->arena, test->backend, "test", &err), &err);
    }
    if (head_chunk > 0 && head_chunk < test->runner.head.chunk)
        test->runner.head.chunk = head_chunk;
}

static inline void model_test_close(struct model_test *test)
{
    model_test_unplan(test);
    model_destroy(test->model);
    memset(test, 0, sizeof *test);
}

static inline void zero_grad(struct model_test *test) { param_set_zero_grad(test->model->trained); }

/* Host copies (for free) of a tensor's gradient, and of one of an fp32 model. */
static inline float *fetched_grad(const struct model *model, const struct param *param)
{
    return fetched(model->backend, param_grad(&model->base, param), (size_t)param->count * sizeof(float));
}

static inline float *fetched_tensor(const struct model *model, const struct param *param)
{
    assert_int_equal(model->type, DTYPE_F32);
    return fetched(model->backend, param_values(&model->base, param), (size_t)param->count * sizeof(float));
}

/* ---- Comparison ---- */

/* Largest absolute difference over the largest wanted magnitude. */
static inline double relative_max(const float *got, const float *want, int64_t n)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        difference = d > difference || isnan(d) ? d : difference;
        size = fmax(size, fabs((double)want[i]));
    }
    return difference == 0 ? 0 : difference / size;
}

/* Norm of the difference over the norm of the wanted. */
static inline double relative_norm(const float *got, const float *want, int64_t n)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)got[i] - (double)want[i];
        difference += d * d;
        size += (double)want[i] * (double)want[i];
    }
    return difference == 0 ? 0 : sqrt(difference / size);
}

/* ---- The cases of a model fixture ---- */

enum { CASE_SEQUENCES = 12, CASE_TOKENS = 160 };

struct case_sequence {
    int32_t tokens[CASE_TOKENS];
    int32_t n, n_prompt, group, logits_from;
};

struct model_case {
    char name[32];
    float temperature;
    bool gradients;
    int32_t n;
    struct case_sequence sequence[CASE_SEQUENCES];
};

struct fixture {
    json_t *json;
    struct safetensors expected;
};

static inline json_t *load_json(const char *path)
{
    json_error_t error;
    json_t *json = json_load_file(path, 0, &error);
    if (json == NULL)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return json;
}

static inline void fixture_open(struct fixture *fixture, const char *name)
{
    char path[256];
    cohort_error err = {0};
    snprintf(path, sizeof path, FIXTURES "%s/cases.json", name);
    fixture->json = load_json(path);
    snprintf(path, sizeof path, FIXTURES "%s/expected.safetensors", name);
    must(safetensors_open(&fixture->expected, path, &err), &err);
}

static inline void fixture_close(struct fixture *fixture)
{
    json_decref(fixture->json);
    safetensors_close(&fixture->expected);
}

static inline double json_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("no number %s", key);
    return json_number_value(value);
}

static inline int32_t read_ids(const json_t *array, int32_t *ids, size_t room)
{
    size_t n = json_array_size(array);
    assert_true(json_is_array(array) && n <= room);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (int32_t)n;
}

/* False behind the last case. */
static inline bool fixture_case(const struct fixture *fixture, size_t index, struct model_case *out)
{
    const json_t *json = json_array_get(json_object_get(fixture->json, "cases"), index);
    if (json == NULL)
        return false;
    const json_t *sequences = json_object_get(json, "sequences");
    snprintf(out->name, sizeof out->name, "%s", json_string_value(json_object_get(json, "name")));
    out->temperature = (float)json_number(json, "temperature");
    out->gradients = json_is_true(json_object_get(json, "gradients"));
    out->n = (int32_t)json_array_size(sequences);
    assert_true(out->n > 0 && out->n <= CASE_SEQUENCES);
    for (int32_t i = 0; i < out->n; i++) {
        const json_t *item = json_array_get(sequences, (size_t)i);
        struct case_sequence *s = &out->sequence[i];
        s->n = read_ids(json_object_get(item, "tokens"), s->tokens, CASE_TOKENS);
        s->n_prompt = (int32_t)json_number(item, "n_prompt");
        s->group = (int32_t)json_number(item, "group");
        s->logits_from = (int32_t)json_number(item, "logits_from");
    }
    return true;
}

/* The tensor whose name the format makes, checked to hold count floats. */
static inline const float *fixture_tensor(const struct safetensors *file, int64_t count, const char *format, ...)
    PRINTF_LIKE(3, 4);
static inline const float *fixture_tensor(const struct safetensors *file, int64_t count, const char *format, ...)
{
    char name[160];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const struct safetensor *tensor = safetensors_find(file, name);
    if (tensor == NULL || !tensor->has_dtype || tensor->dtype != DTYPE_F32 || tensor->count != count)
        fail_msg("%s: no float32 tensor %s of %lld elements", file->path, name, (long long)count);
    return (const float *)(const void *)tensor->data;
}

/* A case as trees: with shared one for each group, else one for each sequence. Completion i of the
 * trees is sequence i of the case, because groups are consecutive. */
struct case_trees {
    struct completion_tokens completions[CASE_SEQUENCES];
    struct tree trees[CASE_SEQUENCES];
    int32_t n_trees;
    int64_t fed; /* tokens, all trees together */
};

static inline void case_trees_build(struct case_trees *out, const struct model_case *c, bool shared)
{
    out->n_trees = 0;
    out->fed = 0;
    for (int32_t i = 0; i < c->n; i++) {
        const struct case_sequence *s = &c->sequence[i];
        out->completions[i] =
            (struct completion_tokens){.tokens = s->tokens + s->n_prompt, .n_tokens = s->n - s->n_prompt};
        out->fed += s->n - s->n_prompt - 1;
        if (shared && i > 0 && s->group == c->sequence[i - 1].group) {
            out->trees[out->n_trees - 1].n_completions++;
            continue;
        }
        out->trees[out->n_trees++] = (struct tree){
            .prompt = s->tokens, .n_prompt = s->n_prompt, .completions = &out->completions[i], .n_completions = 1};
        out->fed += s->n_prompt;
    }
}

/* Adds the gradient of L = sum c * logp + e * entropy of a case to the model's and returns L. */
static inline double case_backward(struct model_test *test, const struct fixture *fixture, const struct model_case *c,
                                   const struct case_trees *trees)
{
    struct tree_runner *runner = &test->runner;
    double loss = 0;
    int32_t done = 0;
    cohort_error err = {0};
    must(packing_split(&runner->packing, trees->trees, trees->n_trees, runner->max_tokens,
                       runner->max_outputs - runner->max_tokens, &err),
         &err);
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        must(packed_build(&runner->packed, trees->trees, &runner->packing, m, &err), &err);
        runner->packed.batch.noise = test->noise;
        tree_runner_forward(runner, test->model, c->temperature);
        for (int32_t k = 0; k < runner->packed.n_completions; k++) {
            float logp[CASE_TOKENS], entropy[CASE_TOKENS];
            int32_t n = trees->completions[done + k].n_tokens;
            const float *coefficient = fixture_tensor(&fixture->expected, n, "%s.%d.c", c->name, (int)(done + k));
            const float *e = fixture_tensor(&fixture->expected, n, "%s.%d.e", c->name, (int)(done + k));
            packed_gather(&runner->packed, k, n, runner->logp, logp);
            packed_gather(&runner->packed, k, n, runner->entropy, entropy);
            for (int32_t t = 0; t < n; t++)
                loss += (double)coefficient[t] * (double)logp[t] + (double)e[t] * (double)entropy[t];
            packed_scatter(&runner->packed, k, n, coefficient, runner->d_logp);
            packed_scatter(&runner->packed, k, n, e, runner->d_entropy);
        }
        done += runner->packed.n_completions;
        tree_runner_backward(runner, test->model, c->temperature, true);
    }
    assert_int_equal(done, c->n);
    return loss;
}

#endif
