/* An adapter of a whole model: its gradients against those of the weights that it changes, by the chain rule (and those
 * against PyTorch's: tests/parity/test_model.c); the base frozen to the bit under optimizer steps; a new adapter that
 * changes no bit; the model without its adapter as the reference. On every provider, or with --device cuda. */
#include "model/model_adapter.h"

#include "base/file.h"
#include "support/differences.h"
#include "support/model_test.h"
#include "train/optimizer.h"

#include <stdlib.h>

enum { STEPS = 3, RANK = 3 };

struct bench {
    struct model_test test;
    struct fixture fixture;
    struct model_case c;
    struct case_trees trees;
};

enum kind { PLAIN, LORA, DORA, DROPPED, EXPERTS, LORA_F16 };

/* With an adapter of every projection but the head that trains (EXPERTS: of experts alone), its B not 0 where b is not 0;
 * or plain. */
static void bench_open(struct bench *b, struct backend *backend, const char *fixture, enum dtype type, enum kind kind,
                       int32_t rank, float b_scale)
{
    const bool adapted = kind != PLAIN;
    static const char *const all[] = {"all-linear"};
    struct model_config config;
    struct adapter_settings settings;
    char dir[256];
    cohort_error err = {0};
    memset(b, 0, sizeof *b);
    snprintf(dir, sizeof dir, FIXTURES "%s", fixture);
    fixture_open(&b->fixture, fixture);
    for (size_t i = 0; fixture_case(&b->fixture, i, &b->c) && strcmp(b->c.name, "cold") != 0; i++)
        continue;
    assert_string_equal(b->c.name, "cold");
    case_trees_build(&b->trees, &b->c, true);
    b->test.backend = backend;
    must(model_config_load(&config, NULL, dir, &err), &err);
    must(model_open(&b->test.model, backend, &config, type, 0, &err), &err);
    struct model *model = b->test.model;
    if (kind == LORA_F16)
        model_store_f16(model);
    if (adapted) {
        adapter_settings_default(&settings);
        settings.r = rank;
        settings.dora = kind == DORA;
        settings.dropout = kind == DROPPED ? 0.3 : 0.0;
        if (kind == EXPERTS)
            must(adapter_names_add(&settings.parameters, "experts.gate_up_proj", &err), &err);
        if (kind == EXPERTS)
            must(adapter_names_add(&settings.parameters, "experts.down_proj", &err), &err);
        else
            must(adapter_settings_targets(&settings, all, 1, &err), &err);
        must(model_adapt(model, &settings, &err), &err);
        adapter_settings_free(&settings);
        model_train_adapter(model);
    }
    must(model_read(model, dir, NULL, &err), &err);
    if (adapted) {
        must(model_adapter_start(model->adapter, 5, &err), &err);
        const struct adapter_layout *layout = &model->adapter->layout;
        for (int32_t s = 0; b_scale != 0.0f && s < layout->n_sites; s++) {
            const struct param *param = layout->sites[s].b;
            float *values = calloc((size_t)param->count, sizeof *values);
            assert_non_null(values);
            for (int64_t i = 0; i < param->count; i++)
                values[i] = b_scale * (float)((i * 7 + s) % 11 - 5);
            if (type == DTYPE_BF16)
                for (int64_t i = 0; i < param->count; i++)
                    ((uint16_t *)values)[i] = bf16_from_f32(values[i]);
            must(param_set_store(&model->adapter->set, param, 0, param->count, values, &err), &err);
            free(values);
        }
        model_adapter_refresh(model->adapter);
    }
    must(param_set_train_begin(model->trained, DTYPE_F32, &err), &err);
    b->test.runner.extras.noise = kind == DROPPED;
    model_test_plan(&b->test, b->trees.fed, b->c.n, DECODER_RECOMPUTE, 0);
}

static void bench_close(struct bench *b)
{
    model_test_close(&b->test);
    fixture_close(&b->fixture);
}

static float *floats_of(const struct param_set *set, const struct param *param)
{
    return fetched(set->backend, param_values(set, param), (size_t)param->count * sizeof(float));
}

static void score(struct bench *b, float logp[CASE_SEQUENCES][CASE_TOKENS])
{
    float *logp_of[CASE_SEQUENCES];
    cohort_error err = {0};
    memset(logp, 0, sizeof(float) * CASE_SEQUENCES * CASE_TOKENS);
    for (int32_t i = 0; i < b->c.n; i++)
        logp_of[i] = logp[i];
    must(tree_runner_score(&b->test.runner, b->test.model, b->trees.trees, b->trees.n_trees, b->c.temperature, logp_of,
                           NULL, &err),
         &err);
}

/* W + s B A in place of W in the plain model. */
static void merge(const struct bench *plain, const struct bench *adapted)
{
    const struct model_adapter *adapter = adapted->test.model->adapter;
    struct param_set *base = &plain->test.model->base;
    cohort_error err = {0};
    for (int32_t i = 0; i < adapter->layout.n_sites; i++) {
        const struct adapter_site *site = &adapter->layout.sites[i];
        const struct param *param = param_find(&base->table, site->base->name);
        const int64_t n = param->shape[0], k = param->shape[1];
        float *w = floats_of(base, param), *a = floats_of(&adapter->set, site->a),
              *b = floats_of(&adapter->set, site->b);
        for (int64_t row = 0; row < n; row++)
            for (int64_t j = 0; j < k; j++)
                for (int32_t c = 0; c < site->r; c++)
                    w[row * k + j] += site->scale * b[row * site->r + c] * a[c * k + j];
        must(param_set_store(base, param, 0, param->count, w, &err), &err);
        free(w);
        free(a);
        free(b);
    }
    model_refresh(plain->test.model);
}

static void check_site(const struct bench *plain, const struct bench *adapted, const struct adapter_site *site)
{
    const struct model_adapter *adapter = adapted->test.model->adapter;
    const struct param *param = param_find(&plain->test.model->base.table, site->base->name);
    const int64_t n = param->shape[0], k = param->shape[1];
    float *dw = fetched_grad(plain->test.model, param), *a = floats_of(&adapter->set, site->a),
          *b = floats_of(&adapter->set, site->b);
    float *da = fetched(adapter->set.backend, param_grad(&adapter->set, site->a), (size_t)(site->r * k) * sizeof *da),
          *db = fetched(adapter->set.backend, param_grad(&adapter->set, site->b), (size_t)(site->r * n) * sizeof *db);
    float *want_a = calloc((size_t)(site->r * k), sizeof *want_a),
          *want_b = calloc((size_t)(site->r * n), sizeof *want_b);
    assert_true(want_a && want_b);
    for (int64_t row = 0; row < n; row++)
        for (int64_t j = 0; j < k; j++)
            for (int32_t c = 0; c < site->r; c++) {
                want_a[c * k + j] += site->scale * b[row * site->r + c] * dw[row * k + j];
                want_b[row * site->r + c] += site->scale * a[c * k + j] * dw[row * k + j];
            }
    const double error_a = relative_norm(da, want_a, site->r * k), error_b = relative_norm(db, want_b, site->r * n);
    if (!(error_a < 1e-4 && error_b < 1e-4))
        fail_msg("%s: the gradient of A is off by %.3g, that of B by %.3g", site->base->name, error_a, error_b);
    float *const all[] = {dw, a, b, da, db, want_a, want_b};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void check_gradients(struct backend *backend)
{
    static const char *const fixtures[] = {"model_tied", "model_untied", "model_qwen2"};
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        struct bench plain, adapted;
        bench_open(&plain, backend, fixtures[f], DTYPE_F32, PLAIN, 0, 0.0f);
        bench_open(&adapted, backend, fixtures[f], DTYPE_F32, LORA, RANK, 0.004f);
        merge(&plain, &adapted);
        const double one = case_backward(&plain.test, &plain.fixture, &plain.c, &plain.trees),
                     other = case_backward(&adapted.test, &adapted.fixture, &adapted.c, &adapted.trees);
        assert_true(fabs(one - other) < 1e-3 * fabs(one));
        for (int32_t i = 0; i < adapted.test.model->adapter->layout.n_sites; i++)
            check_site(&plain, &adapted, &adapted.test.model->adapter->layout.sites[i]);
        bench_close(&plain);
        bench_close(&adapted);
    }
}

static void check_frozen(struct backend *backend, const char *fixture, enum dtype type, enum kind kind, int32_t rank)
{
    struct bench plain, b;
    float base[CASE_SEQUENCES][CASE_TOKENS], now[CASE_SEQUENCES][CASE_TOKENS];
    bench_open(&plain, backend, fixture, type, PLAIN, 0, 0.0f);
    bench_open(&b, backend, fixture, type, kind, rank, 0.0f);
    struct model *model = b.test.model;
    struct param_set *set = &model->adapter->set;
    const size_t bytes = model->base.table.bytes;
    assert_ptr_equal(model->trained, set);
    assert_true(param_set_train_bytes(set, DTYPE_F32) < param_set_train_bytes(&plain.test.model->base, DTYPE_F32));
    score(&plain, base);
    score(&b, now);
    assert_memory_equal(base, now, sizeof base);

    void *before = fetched(backend, model->base.values, bytes),
         *start = fetched(backend, set->values, set->table.bytes);
    struct optimizer optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.1f};
    for (int step = 0; step < STEPS; step++) {
        double norm = 0.0;
        bool skipped = true;
        case_backward(&b.test, &b.fixture, &b.c, &b.trees);
        for (int32_t i = 0; i < model->base.table.n_params; i++)
            assert_null(param_grad(&model->base, &model->base.table.params[i]));
        assert_int_equal(optimizer_apply(&optimizer, model->trained, 0.01, &norm, &skipped, NULL), COHORT_OK);
        assert_true(!skipped && norm > 0.0);
        model_refresh(model);
    }
    void *after = fetched(backend, model->base.values, bytes), *moved = fetched(backend, set->values, set->table.bytes);
    assert_memory_equal(before, after, bytes);
    assert_memory_not_equal(start, moved, set->table.bytes);
    score(&b, now);
    assert_memory_not_equal(base, now, sizeof base);
    /* Without its adapter it is the base, and then itself again. */
    float again[CASE_SEQUENCES][CASE_TOKENS];
    model_wear(model, NULL);
    score(&b, again);
    assert_memory_equal(base, again, sizeof base);
    model_wear(model, model->adapter);
    score(&b, again);
    assert_memory_equal(now, again, sizeof now);
    void *const all[] = {before, start, after, moved};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    bench_close(&plain);
    bench_close(&b);
}

static const char *const providers[] = {"portable", "avx2", "avx512", "avx512-bf16", "amx-bf16"};

static void on_all_providers(void (*check)(struct backend *backend))
{
    const char *provider = NULL;
    for (size_t i = 0; (provider = test_provider(providers, sizeof providers / sizeof *providers, i)) != NULL; i++) {
        struct backend *backend = backend_here(provider, 2);
        if (backend != NULL)
            check(backend);
        backend_destroy(backend);
    }
}

static void test_gradients(void **state)
{
    (void)state;
    on_all_providers(check_gradients);
}

static void check_both_types(struct backend *backend)
{
    check_frozen(backend, "model_tied", DTYPE_F32, LORA, RANK);
    check_frozen(backend, "model_bf16", DTYPE_BF16, LORA, RANK); /* a rank for which a device has no fast kernel */
    check_frozen(backend, "model_bf16", DTYPE_BF16, LORA, 8);    /* and one for which it has */
    check_frozen(backend, "model_tied", DTYPE_F32, DORA, RANK);
    check_frozen(backend, "model_qwen2", DTYPE_F32, DORA, 8);
    check_frozen(backend, "model_bf16", DTYPE_BF16, DORA, 8);
    check_frozen(backend, "model_mixtral", DTYPE_BF16, EXPERTS, 8);
    if (test_options.small) /* minutes on an emulated device */
        return;
    check_frozen(backend, "model_experts", DTYPE_F32, LORA, RANK);
    check_frozen(backend, "model_experts_fused", DTYPE_BF16, LORA, RANK);
}

static void test_frozen(void **state)
{
    (void)state;
    on_all_providers(check_both_types);
}

/* A frozen base whose matrices stay in F16, as its files have them: log-probs and gradients have the bits of the one that
 * holds the same values in F32, in half of the memory. */
static void check_f16(struct backend *backend)
{
    struct bench wide, narrow;
    float logp[2][CASE_SEQUENCES][CASE_TOKENS];
    bench_open(&wide, backend, "model_experts_f16", DTYPE_F32, LORA, RANK, 0.004f);
    bench_open(&narrow, backend, "model_experts_f16", DTYPE_F32, LORA_F16, RANK, 0.004f);
    const struct param_set *one = &wide.test.model->adapter->set, *other = &narrow.test.model->adapter->set;
    assert_true((double)narrow.test.model->base.table.bytes < 0.6 * (double)wide.test.model->base.table.bytes);
    score(&wide, logp[0]);
    score(&narrow, logp[1]);
    assert_memory_equal(logp[0], logp[1], sizeof logp[0]);
    case_backward(&wide.test, &wide.fixture, &wide.c, &wide.trees);
    case_backward(&narrow.test, &narrow.fixture, &narrow.c, &narrow.trees);
    const size_t bytes = (size_t)one->training.n_elements * sizeof(float);
    void *const all[] = {fetched(backend, one->training.grad, bytes), fetched(backend, other->training.grad, bytes)};
    assert_memory_equal(all[0], all[1], bytes);
    free(all[0]), free(all[1]);
    bench_close(&wide);
    bench_close(&narrow);
}

static void test_f16(void **state)
{
    (void)state;
    on_all_providers(check_f16);
}

/* In how many rows at a time a projection with magnitudes works changes no log-prob. */
static void check_chunks(struct backend *backend)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    for (size_t t = 0; t < 2; t++) {
        struct bench b;
        float whole[CASE_SEQUENCES][CASE_TOKENS], cut[CASE_SEQUENCES][CASE_TOKENS];
        bench_open(&b, backend, types[t] == DTYPE_F32 ? "model_tied" : "model_bf16", types[t], DORA, 8, 0.004f);
        score(&b, whole);
        b.test.model->adapter->room.rows = 3;
        score(&b, cut);
        assert_memory_equal(whole, cut, sizeof whole);
        bench_close(&b);
    }
}

static void test_chunks(void **state)
{
    (void)state;
    on_all_providers(check_chunks);
}

/* ---- derivatives of the loss by central differences, with dropout too, whose masks are the same every time ---- */

struct probe {
    struct bench bench;
    const struct param *param;
    float *values;
};

static double loss_at(void *context)
{
    struct probe *p = context;
    struct model_adapter *adapter = p->bench.test.model->adapter;
    cohort_error err = {0};
    must(param_set_store(&adapter->set, p->param, 0, p->param->count, p->values, &err), &err);
    model_adapter_refresh(adapter);
    return case_backward(&p->bench.test, &p->bench.fixture, &p->bench.c, &p->bench.trees);
}

static void check_differences(struct backend *backend, enum kind kind, struct tally *tally)
{
    enum { TOKENS = 64 };
    static uint64_t stream[TOKENS];
    struct probe p = {0};
    const struct batch_noise noise = {.stream = stream, .seed = 11, .dropout = 0.3};
    for (uint64_t t = 0; t < TOKENS; t++)
        stream[t] = rng_stream(3, t / 9);
    bench_open(&p.bench, backend, kind == EXPERTS ? "model_experts" : "model_tied", DTYPE_F32, kind, RANK, 0.004f);
    assert_true(p.bench.trees.fed <= TOKENS);
    struct param_set *set = &p.bench.test.model->adapter->set;
    p.bench.test.noise = kind == DROPPED ? &noise : NULL;
    param_set_zero_grad(set);
    const double dropped = case_backward(&p.bench.test, &p.bench.fixture, &p.bench.c, &p.bench.trees);
    p.bench.test.noise = NULL;
    const double kept = case_backward(&p.bench.test, &p.bench.fixture, &p.bench.c, &p.bench.trees);
    assert_true((dropped != kept) == (kind == DROPPED));
    p.bench.test.noise = kind == DROPPED ? &noise : NULL;
    param_set_zero_grad(set);
    case_backward(&p.bench.test, &p.bench.fixture, &p.bench.c, &p.bench.trees);
    float *all = fetched(backend, set->training.grad, (size_t)set->training.n_elements * sizeof(float));
    for (int32_t i = 0; i < set->table.n_params; i += test_options.small ? 9 : 1) {
        p.param = &set->table.params[i];
        const int64_t n = p.param->count;
        const float *gradient = all + set->training.first[i];
        float *direction = malloc((size_t)n * sizeof *direction), *origin = malloc((size_t)n * sizeof *origin);
        assert_true(direction && origin);
        /* The norms of DoRA are constants in the gradients of A and B, and no difference keeps them. */
        const bool moves_norms = kind == DORA && p.param->rank == 2;
        /* What a layer's experts do moves the routers behind it, whose choice jumps: the last layer has none behind. */
        const bool moves_routes = kind == EXPERTS && strstr(p.param->name, "layers.2.") == NULL;
        const double step = p.param->rank == 1 ? 0x1p-8 : 0.02; /* a magnitude scales a whole output */
        p.values = floats_of(set, p.param);
        for (uint64_t d = 0; d < (test_options.small ? 1 : 2) && !moves_norms && !moves_routes; d++) {
            direction_make(direction, gradient, n, 2 * (uint64_t)i + d);
            tally_add(tally, directional_error(loss_at, &p, p.values, origin, gradient, direction, n, step),
                      kind == DROPPED   ? "dropout"
                      : kind == EXPERTS ? "experts"
                      : kind == DORA    ? "DoRA"
                                        : "LoRA",
                      p.param->name);
        }
        loss_at(&p); /* puts the values back */
        free(p.values), free(direction), free(origin);
    }
    free(all);
    bench_close(&p.bench);
}

static void check_all_differences(struct backend *backend)
{
    /* As test_decoder's: fp32 forwards through a whole model. */
    struct tally tally = {.what = "directional derivatives", .tolerance = 1e-3};
    /* On an emulated device a few tensors, with dropout: the rest of it takes minutes there. */
    for (int kind = test_options.small ? DROPPED : LORA; kind <= (test_options.small ? DROPPED : EXPERTS); kind++)
        check_differences(backend, (enum kind)kind, &tally);
    tally_report(&tally);
}

static void test_differences(void **state)
{
    (void)state;
    struct backend *backend = backend_here(test_options.cuda ? "cuda" : "auto", 2);
    check_all_differences(backend);
    backend_destroy(backend);
}

/* What cannot be computed beside a base is refused by name, and nothing is left behind. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *fixture, *saved, *words;
        bool bias;
    } rows[] = {{"model_untied", "k_proj",
                 "self_attn.k_proj.weight is the adapter's own and model.layers.0.self_attn.q_proj", false},
                {"model_tied", "lm_head", "this model's head is its embedding", false},
                {"model_untied", NULL, "lora_bias", true},
                {"model_untied", "proj", "both target_modules and modules_to_save name it", false},
                {"model_experts", "mlp", "is no projection, norm or embedding", false},
                {"model_experts_fused", "mlp", "holds all experts of a layer", false},
                {"model_untied", "nothing", "the model has no module 'nothing'", false}};
    struct backend *backend = backend_here(test_options.cuda ? "cuda" : "portable", 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_config config;
        struct model *model = NULL;
        struct adapter_settings settings;
        char dir[256];
        cohort_error err = {0};
        snprintf(dir, sizeof dir, FIXTURES "%s", rows[i].fixture);
        must(model_config_load(&config, NULL, dir, &err), &err);
        must(model_open(&model, backend, &config, DTYPE_F32, 0, &err), &err);
        adapter_settings_default(&settings);
        settings.bias = rows[i].bias;
        must(adapter_names_add(&settings.targets, i == 0 ? "down_proj" : "q_proj", &err), &err);
        if (rows[i].saved != NULL)
            must(adapter_names_add(&settings.saved, rows[i].saved, &err), &err);
        assert_int_not_equal(model_adapt(model, &settings, &err), COHORT_OK);
        if (strstr(err.message, rows[i].words) == NULL)
            fail_msg("'%s', expected '%s'", err.message, rows[i].words);
        assert_null(model->adapter);
        adapter_settings_free(&settings);
        model_destroy(model);
    }
    backend_destroy(backend);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients),   cmocka_unit_test(test_frozen),
                                       cmocka_unit_test(test_f16),         cmocka_unit_test(test_chunks),
                                       cmocka_unit_test(test_differences), cmocka_unit_test(test_refused)};
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
