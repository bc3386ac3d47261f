/* What trains of a set of parameters, and what its values are stored in: a frozen tensor has no gradient and keeps its
 * bits while everything else trains as if it were not frozen; gains in F32 beside projections in BF16 are the model that
 * the all-BF16 one is. On every instruction set, or with --device cuda on the GPU. Nothing here has a tolerance. */
#include "support/test_backend.h"

#include "base/file.h"
#include "support/model_test.h"
#include "support/temporary_folder.h"
#include "train/optimizer.h"
#include "train/state.h"

#include <stdlib.h>

enum { STEPS = 3 };
static const double RATE = 0.003; /* of an order that BF16 does not hold beside 1 */

/* A fused projection, a plain one, one of the two gains of a layer's heads, and the embedding, which is the head too. */
static const char *const frozen[] = {"model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight",
                                     "model.layers.1.self_attn.k_norm.weight", "model.embed_tokens.weight"};
enum { N_FROZEN = sizeof frozen / sizeof *frozen, N_FROZEN_TENSORS = N_FROZEN + 2 /* k and v */ };

struct training {
    struct model_test test;
    struct fixture fixture;
    struct model_case c;
    struct case_trees trees;
    struct optimizer optimizer;
};

static void training_open(struct training *t, struct backend *backend, const char *fixture, enum dtype type,
                          bool freeze, bool gains_in_f32)
{
    char dir[256];
    cohort_error err = {0};
    struct model_config config;
    memset(t, 0, sizeof *t);
    snprintf(dir, sizeof dir, FIXTURES "%s", fixture);
    fixture_open(&t->fixture, fixture);
    for (size_t i = 0; fixture_case(&t->fixture, i, &t->c) && strcmp(t->c.name, "cold") != 0; i++)
        continue;
    assert_string_equal(t->c.name, "cold");
    case_trees_build(&t->trees, &t->c, true);
    t->test.backend = backend;
    must(model_config_load(&config, NULL, dir, &err), &err);
    must(model_open(&t->test.model, backend, &config, type, 0, &err), &err);
    struct param_set *set = &t->test.model->base;
    for (int32_t i = 0; i < set->table.n_params; i++)
        if (gains_in_f32 && set->table.params[i].rank == 1)
            set->table.params[i].format = STORAGE_F32;
    param_set_layout(set);
    for (size_t i = 0; freeze && i < N_FROZEN; i++)
        param_set_freeze(set, param_find(&set->table, frozen[i]));
    must(model_read(t->test.model, dir, NULL, &err), &err);
    must(param_set_train_begin(set, DTYPE_F32, &err), &err);
    model_test_plan(&t->test, t->trees.fed, t->c.n, DECODER_RECOMPUTE, 0);
    t->optimizer = (struct optimizer){.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.1f};
}

static void training_close(struct training *t)
{
    model_test_close(&t->test);
    fixture_close(&t->fixture);
}

/* Also *norm of the gradient. */
static void update(struct training *t, double *norm)
{
    bool skipped = true;
    assert_int_equal(optimizer_apply(&t->optimizer, t->test.model->trained, RATE, norm, &skipped, NULL), COHORT_OK);
    assert_false(skipped);
    model_refresh(t->test.model);
}

static void backward(struct training *t) { case_backward(&t->test, &t->fixture, &t->c, &t->trees); }

/* Host copies (for free) of part of a set's memory. */
static void *values_of(const struct param_set *set, int32_t i)
{
    const struct param *param = &set->table.params[i];
    return fetched(set->backend, param_values(set, param), storage_bytes(param->format, param->count));
}

static float *grad_of(const struct param_set *set, int32_t i)
{
    const struct param *param = &set->table.params[i];
    return fetched(set->backend, param_grad(set, param), (size_t)param->count * sizeof(float));
}

static void same(void *a, void *b, size_t bytes, const char *what, const char *name)
{
    if (memcmp(a, b, bytes) != 0)
        fail_msg("%s: %s differs", name, what);
    free(a);
    free(b);
}

static bool differ(void *a, void *b, size_t bytes)
{
    const bool different = memcmp(a, b, bytes) != 0;
    free(a);
    free(b);
    return different;
}

/* Log-probs of the case with the model's packed weights. */
static void score(struct training *t, struct model *model, float logp[CASE_SEQUENCES][CASE_TOKENS])
{
    float *logp_of[CASE_SEQUENCES];
    cohort_error err = {0};
    memset(logp, 0, sizeof(float) * CASE_SEQUENCES * CASE_TOKENS);
    for (int32_t i = 0; i < t->c.n; i++)
        logp_of[i] = logp[i];
    must(tree_runner_score(&t->test.runner, model, t->trees.trees, t->trees.n_trees, t->c.temperature, logp_of, NULL,
                           &err),
         &err);
}

/* The optimizer's state on disk is of what trains, and comes back into a set that trains the same. */
static void check_state(struct training *t, struct backend *backend, const char *fixture, enum dtype type)
{
    const struct train_state state = {.command = "sft", .step = STEPS, .updates = STEPS, .batches = STEPS};
    struct train_state back = {0};
    struct training again, whole;
    struct safetensors file;
    cohort_error err = {0};
    const struct param_set *set = t->test.model->trained;
    must(train_state_write(folder, set, &state, &err), &err);
    must(train_state_write_tensors(folder, set, false, NULL, &err), &err);
    must(safetensors_open(&file, in_folder("trainer/optimizer.safetensors"), &err), &err);
    assert_int_equal(file.n_tensors, (set->table.n_params - N_FROZEN_TENSORS) * (type == DTYPE_BF16 ? 3 : 2));
    assert_null(safetensors_find(&file, "exp_avg.model.layers.0.self_attn.v_proj.weight"));
    assert_non_null(safetensors_find(&file, "exp_avg.model.layers.1.self_attn.v_proj.weight"));
    safetensors_close(&file);
    training_open(&again, backend, fixture, type, true, false);
    must(train_state_read(folder, again.test.model->trained, &back, &err), &err);
    for (int32_t i = 0; i < set->table.n_params; i++)
        for (int32_t k = 0; k < N_PARAM_STATES; k++) {
            struct param_state_tensor a, b;
            const bool there = param_state_get(set, i, (enum param_state)k, &a);
            assert_int_equal(param_state_get(again.test.model->trained, i, (enum param_state)k, &b), there);
            if (there)
                same(fetched(backend, a.data, a.bytes), fetched(backend, b.data, b.bytes), a.bytes, a.name,
                     set->table.params[i].name);
        }
    training_close(&again);
    training_open(&whole, backend, fixture, type, false, false);
    assert_int_equal(train_state_read(folder, whole.test.model->trained, &back, &err), COHORT_ERR_STATE);
    training_close(&whole);
}

static void check_frozen(struct backend *backend, const char *fixture, enum dtype type)
{
    struct training all, some;
    double all_norm = 0, some_norm = 0;
    cohort_error err = {0};
    training_open(&all, backend, fixture, type, false, false);
    training_open(&some, backend, fixture, type, true, false);
    const struct param_set *of_all = &all.test.model->base, *of_some = &some.test.model->base;
    const int32_t n = of_all->table.n_params;
    void **first = calloc((size_t)n, sizeof *first);
    assert_non_null(first);
    for (int32_t i = 0; i < n; i++)
        first[i] = values_of(of_some, i);
    assert_true(param_set_train_bytes(of_some, DTYPE_F32) < param_set_train_bytes(of_all, DTYPE_F32));

    backward(&all);
    backward(&some);
    int32_t n_frozen = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct param *param = &of_some->table.params[i];
        if (param_trains(of_some, param)) { /* so everything that it depends on went through what is frozen */
            same(grad_of(of_all, i), grad_of(of_some, i), (size_t)param->count * sizeof(float), "gradient",
                 param->name);
            continue;
        }
        assert_null(param_grad(of_some, param));
        n_frozen++;
    }
    assert_int_equal(n_frozen, N_FROZEN_TENSORS);
    update(&all, &all_norm);
    update(&some, &some_norm);
    assert_true(some_norm > 0 && some_norm < all_norm);
    for (int32_t i = 0; i < n; i++) {
        const struct param *param = &of_some->table.params[i];
        const size_t bytes = storage_bytes(param->format, param->count);
        if (param_trains(of_some, param))
            same(values_of(of_all, i), values_of(of_some, i), bytes, "value after a step", param->name);
        else
            assert_true(differ(values_of(of_all, i), values_of(of_some, i), bytes));
    }
    for (int step = 1; step < STEPS; step++) {
        backward(&some);
        update(&some, &some_norm);
    }
    for (int32_t i = 0; i < n; i++) {
        const struct param *param = &of_some->table.params[i];
        if (differ(first[i], values_of(of_some, i), storage_bytes(param->format, param->count)) !=
            param_trains(of_some, param))
            fail_msg("%s: %s", param->name, param_trains(of_some, param) ? "has not changed" : "has changed");
    }
    free(first);

    /* The packed weights are those of the values: a model that is packed anew computes the same. */
    float trained[CASE_SEQUENCES][CASE_TOKENS], packed[CASE_SEQUENCES][CASE_TOKENS];
    struct model *clone = NULL;
    must(model_clone(&clone, some.test.model, &err), &err);
    score(&some, some.test.model, trained);
    score(&some, clone, packed);
    assert_memory_equal(trained, packed, sizeof trained);
    model_destroy(clone);
    check_state(&some, backend, fixture, type);
    training_close(&all);
    training_close(&some);
}

/* The master of element j of a tensor: its value, with the low half where the value is BF16. */
static uint32_t master(const struct param *param, const void *values, const int16_t *low, int64_t j)
{
    if (param->format == STORAGE_F32)
        return f32_bits(((const float *)values)[j]);
    return ((uint32_t)((const uint16_t *)values)[j] << 16) + (uint32_t)(int32_t)low[j];
}

static void check_formats(struct backend *backend)
{
    struct training plain, mixed;
    double plain_norm = 0, mixed_norm = 0;
    float of_plain[CASE_SEQUENCES][CASE_TOKENS], of_mixed[CASE_SEQUENCES][CASE_TOKENS];
    training_open(&plain, backend, "model_bf16", DTYPE_BF16, false, false);
    training_open(&mixed, backend, "model_bf16", DTYPE_BF16, false, true);
    const struct param_set *a = &plain.test.model->base, *b = &mixed.test.model->base;
    assert_true(b->table.bytes > a->table.bytes);
    score(&plain, plain.test.model, of_plain);
    score(&mixed, mixed.test.model, of_mixed);
    assert_memory_equal(of_plain, of_mixed, sizeof of_plain);
    backward(&plain);
    backward(&mixed);
    for (int32_t i = 0; i < a->table.n_params; i++)
        same(grad_of(a, i), grad_of(b, i), (size_t)a->table.params[i].count * sizeof(float), "gradient",
             a->table.params[i].name);
    update(&plain, &plain_norm);
    update(&mixed, &mixed_norm);
    assert_true(plain_norm == mixed_norm);
    int32_t n_f32 = 0;
    bool rounded = false; /* some gain has more bits in F32 than BF16 holds */
    for (int32_t i = 0; i < a->table.n_params; i++) {
        const struct param *one = &a->table.params[i], *other = &b->table.params[i];
        const size_t low_bytes = (size_t)one->count * sizeof(int16_t);
        void *one_values = values_of(a, i), *other_values = values_of(b, i);
        int16_t *one_low = fetched(backend, param_state(a, i, PARAM_STATE_LOW), low_bytes),
                *other_low = other->format == STORAGE_F32
                                 ? NULL
                                 : fetched(backend, param_state(b, i, PARAM_STATE_LOW), low_bytes);
        for (int64_t j = 0; j < one->count; j++) {
            if (master(one, one_values, one_low, j) != master(other, other_values, other_low, j))
                fail_msg("%s: master of element %d differs", one->name, (int)j);
            rounded = rounded || (other->format == STORAGE_F32 && (master(other, other_values, NULL, j) & 0xffff) != 0);
        }
        n_f32 += other->format == STORAGE_F32;
        free(one_values);
        free(other_values);
        free(one_low);
        free(other_low);
    }
    assert_int_equal(n_f32, 2 * 4 + 1);
    assert_true(rounded);
    /* The gains of a clone are F32 too. */
    struct model *clone = NULL;
    cohort_error err = {0};
    must(model_clone(&clone, mixed.test.model, &err), &err);
    score(&mixed, mixed.test.model, of_mixed);
    score(&mixed, clone, of_plain);
    assert_memory_equal(of_plain, of_mixed, sizeof of_plain);
    model_destroy(clone);
    training_close(&plain);
    training_close(&mixed);
}

static const char *const providers[] = {"portable", "avx2", "avx512", "avx512-bf16", "amx-bf16"};
enum { N_PROVIDERS = sizeof providers / sizeof *providers };

static void on_all_providers(void (*check)(struct backend *backend))
{
    const char *provider = NULL;
    for (size_t i = 0; (provider = test_provider(providers, N_PROVIDERS, i)) != NULL; i++) {
        struct backend *backend = backend_here(provider, 2);
        if (backend == NULL)
            continue;
        check(backend);
        backend_destroy(backend);
    }
}

static void check_both_types(struct backend *backend)
{
    check_frozen(backend, "model_tied", DTYPE_F32);
    check_frozen(backend, "model_bf16", DTYPE_BF16);
}

static void test_frozen(void **state)
{
    (void)state;
    on_all_providers(check_both_types);
}

static void test_formats(void **state)
{
    (void)state;
    on_all_providers(check_formats);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_frozen, setup),
                                       cmocka_unit_test_setup(test_formats, setup)};
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
