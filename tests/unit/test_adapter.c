/* Adapters: which modules PEFT adapts, with which rank and scale; its files read, merged and written again; MLX-LM's
 * files; and what is refused. Fixtures: oracle/adapter_peft.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "format/adapter_internal.h"
#include "format/adapter_merge.h"
#include "format/architecture.h"

#include "base/file.h"
#include "base/json_text.h"
#include "support/temporary_folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/adapter"

static cohort_error error;

static json_t *load_json(const char *path)
{
    json_t *json = NULL;
    assert_int_equal(json_text_read(&json, path, 0, 0, &error), COHORT_OK);
    return json;
}

static struct model_config config; /* of the base that was opened last */

/* The table of a fixture's base. */
static void open_base(struct param_table *table, const char *kind, enum storage_format format)
{
    char path[300];
    snprintf(path, sizeof path, FIXTURES "/base_%s", kind);
    assert_int_equal(model_config_load(&config, NULL, path, &error), COHORT_OK);
    assert_int_equal(architecture_params(&config, format, table, &error), COHORT_OK);
}

static void write_config(const char *text) { put("adapter_config.json", text); }

/* ---- targets ---- */

static void check_sites(const struct adapter_layout *layout, const json_t *sites, const char *what)
{
    if ((size_t)layout->n_sites != json_array_size(sites))
        fail_msg("%s: %d modules, PEFT has %zu", what, (int)layout->n_sites, json_array_size(sites));
    for (int32_t i = 0; i < layout->n_sites; i++) {
        const struct adapter_site *site = &layout->sites[i];
        char path[96];
        bool found = false;
        snprintf(path, sizeof path, "%s", site->base->name);
        *strrchr(path, '.') = '\0';
        for (size_t j = 0; j < json_array_size(sites) && !found; j++) {
            const json_t *theirs = json_array_get(sites, j);
            if (strcmp(json_string_value(json_array_get(theirs, 0)), path) != 0)
                continue;
            found = true;
            if (site->r != json_integer_value(json_array_get(theirs, 1)) ||
                site->scale != (float)json_number_value(json_array_get(theirs, 2)))
                fail_msg("%s: %s: r %d, scale %g", what, path, (int)site->r, (double)site->scale);
        }
        if (!found)
            fail_msg("%s: %s is not adapted by PEFT", what, path);
        assert_int_equal(site->a->shape[0], site->r);
        assert_int_equal(site->a->shape[1], site->base->shape[1]);
        assert_int_equal(site->b->shape[0], site->base->shape[0]);
        assert_int_equal(site->b->shape[1], site->r);
    }
}

/* A pattern that also names modules without weights (an activation) is taken here, PEFT finds them and gives up; so is an empty
 * list of layers beside a pattern. */
static bool taken_by_us(const json_t *settings, const char *message)
{
    const json_t *layers = json_object_get(settings, "layers_to_transform");
    return strncmp(message, "Target module ", 14) == 0 || (json_is_array(layers) && json_array_size(layers) == 0);
}

/* Some settings that PEFT takes are refused here on purpose. */
static bool refused_by_us(const char *message)
{
    return strstr(message, "both name") != NULL || strstr(message, "goes with") != NULL;
}

static void targets_are_pefts(void **state)
{
    (void)state;
    json_t *rows = load_json(FIXTURES "/targets.json");
    struct param_table base;
    size_t n_sites = 0, n_refused = 0;
    open_base(&base, "qwen3_f32", STORAGE_F32);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i), *settings_json = json_object_get(row, "settings"),
               *sites = json_object_get(row, "sites");
        struct adapter_settings settings;
        struct adapter_layout layout = {0};
        struct text text = {0};
        json_object_set_new(settings_json, "peft_type", json_string("LORA"));
        assert_int_equal(json_text_write(settings_json, 0, &text, &error), COHORT_OK);
        write_config(text.data);
        cohort_status status = adapter_settings_read(&settings, folder, NULL, &error);
        if (status == COHORT_OK) {
            status = adapter_layout_open(&layout, &settings, &base, &config, STORAGE_F32, &error);
            adapter_settings_free(&settings);
        }
        const char *refused = json_string_value(json_object_get(row, "refused"));
        if (sites == NULL && status == COHORT_OK && !taken_by_us(settings_json, refused))
            fail_msg("%s: PEFT refuses it: %s", text.data, refused);
        if (sites != NULL && status != COHORT_OK && !refused_by_us(error.message))
            fail_msg("%s: refused: %s", text.data, error.message);
        if (sites != NULL && status == COHORT_OK) {
            check_sites(&layout, sites, text.data);
            n_sites += json_array_size(sites);
        }
        n_refused += status != COHORT_OK;
        adapter_layout_free(&layout);
        text_free(&text);
    }
    assert_true(n_sites > 1000);
    assert_in_range(n_refused, 50, 110);
    param_table_free(&base);
    json_decref(rows);
}

/* A site of experts or a router as PEFT has it: its path, rank, scale, and the shapes in its file. */
static void check_expert_sites(const struct adapter_layout *layout, const json_t *sites, const char *what)
{
    if (layout->n_sites != (int32_t)json_array_size(sites))
        fail_msg("%s: %d sites, PEFT has %zu", what, (int)layout->n_sites, json_array_size(sites));
    for (int32_t i = 0; i < layout->n_sites; i++) {
        const struct adapter_site *site = &layout->sites[i];
        char path[sizeof site->a->name];
        bool found = false;
        snprintf(path, sizeof path, "%.*s", (int)(strlen(site->a->name) - strlen(".lora_A.weight")), site->a->name);
        for (size_t j = 0; j < json_array_size(sites) && !found; j++) {
            const json_t *theirs = json_array_get(sites, j), *a = json_array_get(theirs, 3),
                         *b = json_array_get(theirs, 4);
            const int64_t E = site->n_experts > 0 ? site->n_experts : 1;
            if (strcmp(path, json_string_value(json_array_get(theirs, 0))) != 0)
                continue;
            found = true;
            if (site->r != json_integer_value(json_array_get(theirs, 1)) ||
                site->scale != (float)json_number_value(json_array_get(theirs, 2)))
                fail_msg("%s: %s: r %d, scale %g", what, path, (int)site->r, (double)site->scale);
            assert_int_equal(E * site->r, json_integer_value(json_array_get(a, 0)));
            assert_int_equal(param_columns(site->a), json_integer_value(json_array_get(a, 1)));
            assert_int_equal(param_rows(site->b) / E, json_integer_value(json_array_get(b, 0)));
            assert_int_equal(param_columns(site->b) * E, json_integer_value(json_array_get(b, 1)));
        }
        if (!found)
            fail_msg("%s: %s is not adapted by PEFT", what, path);
    }
}

/* What target_modules and target_parameters come to in models with experts; what is written of the settings, read again,
 * comes to the same. */
static void targets_of_experts_are_pefts(void **state)
{
    (void)state;
    json_t *rows = load_json(FIXTURES "/targets_experts.json");
    size_t n_sites = 0, n_refused = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i), *settings_json = json_object_get(row, "settings"),
               *sites = json_object_get(row, "sites");
        const char *kind = json_string_value(json_object_get(row, "kind")),
                   *refused = json_string_value(json_object_get(row, "refused"));
        struct adapter_settings settings = {0};
        struct adapter_layout layout = {0};
        struct param_table base;
        struct text text = {0};
        open_base(&base, strcmp(kind, "mixtral") == 0 ? "mixtral_f32" : "qwen3moe_f32", STORAGE_F32);
        json_object_set_new(settings_json, "peft_type", json_string("LORA"));
        assert_int_equal(json_text_write(settings_json, 0, &text, &error), COHORT_OK);
        write_config(text.data);
        for (int again = 0; again < 2; again++) {
            cohort_status status = adapter_settings_read(&settings, folder, NULL, &error);
            if (status == COHORT_OK)
                status = adapter_layout_open(&layout, &settings, &base, &config, STORAGE_F32, &error);
            if (sites == NULL && status == COHORT_OK && strstr(refused, "Target module ") == NULL)
                fail_msg("%s: %s: PEFT refuses it: %s", kind, text.data, refused);
            if (sites != NULL && status != COHORT_OK && !refused_by_us(error.message) &&
                strstr(error.message, "names no experts and no router") == NULL)
                fail_msg("%s: %s: refused: %s", kind, text.data, error.message);
            if (sites != NULL && status == COHORT_OK) {
                check_expert_sites(&layout, sites, text.data);
                n_sites += json_array_size(sites);
                assert_int_equal(adapter_config_write(folder, &settings, &layout, &error), COHORT_OK);
            }
            n_refused += status != COHORT_OK;
            again += status != COHORT_OK || sites == NULL;
            adapter_layout_free(&layout);
            adapter_settings_free(&settings);
        }
        param_table_free(&base);
        text_free(&text);
    }
    assert_true(n_sites > 1000);
    assert_in_range(n_refused, 90, 170);
    json_decref(rows);
}

/* A of q, k and v lie side by side; B stand alone. */
static void fused_parts_lie_together(void **state)
{
    (void)state;
    struct adapter_settings settings;
    struct adapter_layout layout;
    struct param_table base;
    static const char *const words[] = {"v_proj", "q_proj"};
    open_base(&base, "qwen3_f32", STORAGE_BF16);
    adapter_settings_default(&settings);
    assert_int_equal(settings.r, 16);
    assert_int_equal(adapter_settings_targets(&settings, words, 2, &error), COHORT_OK);
    assert_int_equal(adapter_layout_open(&layout, &settings, &base, &config, STORAGE_BF16, &error), COHORT_OK);
    assert_int_equal(layout.n_sites, 6);
    assert_string_equal(layout.sites[0].a->name, "model.layers.0.self_attn.q_proj.lora_A.weight");
    assert_ptr_equal(layout.sites[1].a, layout.sites[0].a + 1);
    assert_true(layout.sites[1].a->adjacent);
    assert_false(layout.sites[0].b->adjacent || layout.sites[1].b->adjacent || layout.sites[2].a->adjacent);
    assert_int_equal(layout.sites[1].a->offset - layout.sites[0].a->offset, 2 * 16 * 16);
    adapter_layout_free(&layout);
    adapter_settings_free(&settings);
    param_table_free(&base);
}

/* ---- files ---- */

static void check_tensor(const char *what, const struct param *param, const void *values, const json_t *expected)
{
    struct hash hash;
    char hex[HASH_HEX];
    if (json_is_array(expected)) {
        for (int64_t i = 0; i < param->count; i++) {
            const double theirs = json_number_value(json_array_get(expected, (size_t)i)),
                         ours = (double)storage_get(param->format, values, i);
            /* Of experts PEFT sums the change in an order that torch chooses, and in bf16 rounds it before it is added;
             * neither it nor a weight of the fixture is beyond 0.1. That of an embedding is rounded likewise, and below 0.5. */
            const double unit = param->format == STORAGE_BF16 ? 0x1p-9 : 0x1p-24;
            const double most = param->expert ? 0.1 : param->kind == PARAM_EMBEDDING ? 0.5 : -HUGE_VAL;
            if (fabs(ours - theirs) <= 4 * unit * fabs(theirs) + 2 * unit * most)
                continue;
            /* Three roundings of fp32 (norm, factor, product), there and here: the order in which PEFT sums the norm of
             * a row is not defined, so that none of them is the same. */
            if (!(fabs(ours - theirs) <= 6 * 0x1p-24 * fabs(theirs)))
                fail_msg("%s: %s[%d]: %.9g, PEFT has %.9g", what, param->name, (int)i, ours, theirs);
        }
        return;
    }
    hash_begin(&hash);
    hash_add(&hash, values, storage_bytes(param->format, param->count));
    hash_end(&hash, hex);
    if (expected == NULL || strcmp(hex, json_string_value(expected)) != 0)
        fail_msg("%s: %s differs from what PEFT merges", what, param->name);
}

/* Fetched in parts that cut rows. */
static void *fetch_whole(struct adapter_merge *merge, const struct param *param)
{
    const size_t size = storage_bytes(param->format, 1);
    char *values = malloc(size * (size_t)param->count);
    for (int64_t first = 0; first < param->count;) {
        const int64_t count = param->count - first < 37 ? param->count - first : 37;
        assert_int_equal(adapter_merge_fetch(merge, param, first, count, values + size * (size_t)first, &error),
                         COHORT_OK);
        first += count;
    }
    return values;
}

static void check_merge(const char *name, const char *dir, const json_t *expected)
{
    struct adapter_settings settings;
    struct adapter_merge merge;
    struct param_table base;
    char kind[16], base_dir[300];
    snprintf(kind, sizeof kind, "%s", name);
    *strchr(strchr(kind, '_') + 1, '_') = '\0';
    open_base(&base, kind, strstr(kind, "bf16") != NULL ? STORAGE_BF16 : STORAGE_F32);
    snprintf(base_dir, sizeof base_dir, FIXTURES "/base_%s", kind);
    if (adapter_settings_read(&settings, dir, NULL, &error) != COHORT_OK ||
        adapter_merge_open(&merge, base_dir, &base, &config, dir, &settings, &error) != COHORT_OK)
        fail_msg("%s: %s", name, error.message);
    for (int32_t i = 0; i < base.n_params; i++) {
        void *values = fetch_whole(&merge, &base.params[i]);
        check_tensor(name, &base.params[i], values, json_object_get(expected, base.params[i].name));
        free(values);
    }
    adapter_merge_close(&merge);
    adapter_settings_free(&settings);
    param_table_free(&base);
}

static void merges_are_pefts(void **state)
{
    (void)state;
    json_t *all = load_json(FIXTURES "/merged.json"), *expected = NULL;
    const char *name = NULL;
    assert_int_equal(json_object_size(all), 43);
    json_object_foreach(all, name, expected)
    {
        char dir[300];
        snprintf(dir, sizeof dir, FIXTURES "/%s", name);
        check_merge(name, dir, expected);
    }
    json_decref(all);
}

struct values {
    unsigned char *bytes;
};

static cohort_status keep(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                          cohort_error *err)
{
    const struct values *values = context;
    (void)err;
    memcpy(values->bytes + param->offset + storage_bytes(param->format, first), data,
           storage_bytes(param->format, count));
    return COHORT_OK;
}

static cohort_status give(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                          cohort_error *err)
{
    const struct values *values = context;
    (void)err;
    memcpy(to, values->bytes + param->offset + storage_bytes(param->format, first),
           storage_bytes(param->format, count));
    return COHORT_OK;
}

/* What is read and written again has PEFT's names, types and values, and merges to the same. */
static void files_are_written_as_pefts(void **state)
{
    (void)state;
    json_t *all = load_json(FIXTURES "/merged.json"), *expected = NULL;
    const char *name = NULL;
    json_object_foreach(all, name, expected)
    {
        struct adapter_settings settings;
        struct adapter_layout layout;
        struct param_table base;
        struct values values;
        struct safetensors theirs, ours;
        char dir[300], file[340], kind[16];
        snprintf(kind, sizeof kind, "%s", name);
        *strchr(strchr(kind, '_') + 1, '_') = '\0';
        open_base(&base, kind, strstr(kind, "bf16") != NULL ? STORAGE_BF16 : STORAGE_F32);
        snprintf(dir, sizeof dir, FIXTURES "/%s", name);
        assert_int_equal(adapter_settings_read(&settings, dir, NULL, &error), COHORT_OK);
        assert_int_equal(adapter_layout_open(&layout, &settings, &base, &config, STORAGE_F32, &error), COHORT_OK);
        values.bytes = malloc(layout.table.bytes);
        assert_int_equal(adapter_read(dir, &settings, &layout, keep, &values, NULL, &error), COHORT_OK);
        assert_int_equal(adapter_write(folder, &settings, &layout, give, &values, NULL, &error), COHORT_OK);
        snprintf(file, sizeof file, "%s/adapter_model.safetensors", dir);
        assert_int_equal(safetensors_open(&theirs, file, &error), COHORT_OK);
        assert_int_equal(safetensors_open(&ours, in_folder("adapter_model.safetensors"), &error), COHORT_OK);
        for (size_t i = 0; i < theirs.n_tensors; i++) {
            const struct safetensor *t = &theirs.tensors[i], *o = safetensors_find(&ours, t->name);
            if (strstr(t->name, ".base_layer.") != NULL)
                continue; /* the frozen head, which PEFT adds */
            assert_non_null(o);
            assert_string_equal(o->dtype_name, t->dtype_name);
            assert_memory_equal(o->data, t->data, t->bytes);
        }
        safetensors_close(&theirs);
        safetensors_close(&ours);
        check_merge(name, folder, expected);
        free(values.bytes);
        adapter_layout_free(&layout);
        adapter_settings_free(&settings);
        param_table_free(&base);
        assert_int_equal(setup(NULL), 0);
    }
    json_decref(all);
}

/* MLX-LM's file holds the transposes, under its own names; its scale is used as it stands. */
static void mlx_files_are_read(void **state)
{
    (void)state;
    struct adapter_settings settings;
    struct adapter_layout layout;
    struct param_table base;
    enum { K = 16, R = 2, N = 16 };
    float a[K * R], b[R * N], *values = NULL;
    open_base(&base, "qwen3_f32", STORAGE_F32);
    write_config(
        "{\"fine_tune_type\": \"lora\", \"num_layers\": 1, \"lora_parameters\": {\"rank\": 2, \"scale\": 20.0, "
        "\"dropout\": 0.0, \"keys\": [\"self_attn.q_proj\"]}, \"model\": \"somewhere\"}");
    assert_int_equal(adapter_settings_read(&settings, folder, NULL, &error), COHORT_OK);
    assert_string_equal(settings.base, "somewhere");
    assert_int_equal(adapter_layout_open(&layout, &settings, &base, &config, STORAGE_F32, &error), COHORT_OK);
    assert_int_equal(layout.n_sites, 1);
    assert_string_equal(layout.sites[0].base->name, "model.layers.2.self_attn.q_proj.weight");
    assert_true(layout.sites[0].scale == 20.0f);
    for (int i = 0; i < K * R; i++)
        a[i] = (float)i;
    for (int i = 0; i < R * N; i++)
        b[i] = (float)-i;
    struct values out;
    struct param_table theirs = {0};
    struct param params[2] = {
        {.name = "model.layers.2.self_attn.q_proj.lora_a", .rank = 2, .shape = {K, R}, .count = K * R},
        {.name = "model.layers.2.self_attn.q_proj.lora_b", .rank = 2, .shape = {R, N}, .count = R * N}};
    theirs.params = params;
    theirs.n_params = 2;
    param_table_layout(&theirs);
    out.bytes = calloc(1, theirs.bytes);
    memcpy(out.bytes + params[0].offset, a, sizeof a);
    memcpy(out.bytes + params[1].offset, b, sizeof b);
    assert_int_equal(checkpoint_write_weights(folder, &theirs, 0, give, &out, NULL, &error), COHORT_OK);
    char from[300];
    snprintf(from, sizeof from, "%s", in_folder("model.safetensors"));
    assert_int_equal(rename(from, in_folder("adapters.safetensors")), 0);
    free(out.bytes);
    out.bytes = calloc(1, layout.table.bytes);
    assert_int_equal(adapter_read(folder, &settings, &layout, keep, &out, NULL, &error), COHORT_OK);
    values = (float *)(out.bytes + layout.sites[0].a->offset);
    for (int j = 0; j < R; j++)
        for (int i = 0; i < K; i++)
            assert_true(values[j * K + i] == a[i * R + j]);
    values = (float *)(out.bytes + layout.sites[0].b->offset);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < R; j++)
            assert_true(values[i * R + j] == b[j * N + i]);
    free(out.bytes);
    adapter_layout_free(&layout);
    adapter_settings_free(&settings);
    param_table_free(&base);
}

static cohort_status open_config(struct adapter_layout *layout, const struct param_table *base, const char *text)
{
    struct adapter_settings settings;
    write_config(text);
    TRY(adapter_settings_read(&settings, folder, NULL, &error));
    cohort_status status = adapter_layout_open(layout, &settings, base, &config, STORAGE_F32, &error);
    adapter_settings_free(&settings);
    return status;
}

/* The part of a merged tensor that MLX-LM has under a name: all of it, or of Mixtral's gate and up a half. */
static void check_fused(struct adapter_merge *merge, const struct param_table *base, const struct safetensor *fused)
{
    char name[sizeof base->params->name];
    const size_t length = strlen(fused->name);
    const bool gate = text_ends(fused->name, ".experts.gate_proj"), up = text_ends(fused->name, ".experts.up_proj");
    snprintf(name, sizeof name, "%.*s%s",
             (int)(length - (gate ? 9
                             : up ? 7
                                  : 0)),
             fused->name, gate || up ? "gate_up_proj" : "");
    const struct param *param = param_find(base, name);
    assert_non_null(param);
    const int64_t E = gate || up ? param->shape[0] : 1, all = param->count / E, part = fused->count / E;
    float *values = fetch_whole(merge, param);
    for (int64_t e = 0; e < E; e++)
        for (int64_t i = 0; i < part; i++) {
            const float ours = values[e * all + (up ? part : 0) + i];
            float theirs = 0.0f; /* MLX's headers end anywhere */
            memcpy(&theirs, fused->data + (e * part + i) * (int64_t)sizeof theirs, sizeof theirs);
            if (fabsf(ours - theirs) > 0x1p-25f) /* all are below 0.5: a rounding */
                fail_msg("%s[%d]: %.9g, MLX-LM has %.9g", fused->name, (int)(e * part + i), (double)ours,
                         (double)theirs);
        }
    free(values);
}

/* Experts, whose gate and up are apart there, routers and attention; of the last layers, or by keys
 * (oracle/adapter_mlx.py). */
static void mlx_experts_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *base, *name;
        size_t n_fused;
        int32_t n_sites;
    } cases[] = {{"qwen3moe_f32", "qwen3moe_f32_all", 17, 7},
                 {"qwen3moe_f32", "qwen3moe_f32_keys", 12, 6},
                 {"mixtral_f32", "mixtral_f32_keys", 8, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct adapter_settings settings;
        struct adapter_merge merge;
        struct param_table base;
        struct safetensors fused;
        char dir[300], base_dir[300], path[340];
        open_base(&base, cases[i].base, STORAGE_F32);
        snprintf(base_dir, sizeof base_dir, FIXTURES "/base_%s", cases[i].base);
        snprintf(dir, sizeof dir, FIXTURES "/mlx_%s", cases[i].name);
        snprintf(path, sizeof path, "%s/fused.safetensors", dir);
        assert_int_equal(safetensors_open(&fused, path, &error), COHORT_OK);
        assert_int_equal(fused.n_tensors, cases[i].n_fused);
        if (adapter_settings_read(&settings, dir, NULL, &error) != COHORT_OK ||
            adapter_merge_open(&merge, base_dir, &base, &config, dir, &settings, &error) != COHORT_OK)
            fail_msg("%s: %s", cases[i].name, error.message);
        assert_int_equal(merge.layout.n_sites, cases[i].n_sites);
        for (size_t t = 0; t < fused.n_tensors; t++)
            check_fused(&merge, &base, &fused.tensors[t]);
        safetensors_close(&fused);
        adapter_merge_close(&merge);
        adapter_settings_free(&settings);
        param_table_free(&base);
    }
    struct param_table base;
    struct adapter_layout layout;
    open_base(&base, "qwen3moe_f32", STORAGE_F32);
    assert_int_not_equal(
        open_config(&layout, &base,
                    "{\"fine_tune_type\": \"lora\", \"model\": \"m\", \"lora_parameters\": {\"rank\": 2, \"scale\": 2, "
                    "\"keys\": [\"mlp.switch_mlp.up_proj\"]}}"),
        COHORT_OK);
    assert_non_null(strstr(error.message, "'switch_mlp.up_proj' without 'switch_mlp.gate_proj'"));
    param_table_free(&base);
}

/* ---- start values ---- */

static void starts_are_uniform_and_zero(void **state)
{
    (void)state;
    struct checkpoint_init init = {.seed = 3};
    struct param a = {.name = "x.lora_A.weight", .rank = 2, .shape = {64, 100}, .count = 6400},
                 b = {.name = "x.lora_B.weight", .rank = 2, .shape = {64, 100}, .count = 6400};
    static float whole[6400], part[7];
    double sum = 0, most = 0;
    assert_int_equal(adapter_init_fetch(&init, &a, 0, 6400, whole, &error), COHORT_OK);
    for (int i = 0; i < 6400; i++) {
        sum += (double)(whole[i] * whole[i]);
        most = fmax(most, fabs((double)whole[i]));
    }
    assert_true(most < 0.1 && most > 0.0999);          /* 1 / sqrt(100) */
    assert_true(fabs(sum / 6400 - 0.01 / 3) < 0.0001); /* the variance of a uniform distribution */
    assert_int_equal(adapter_init_fetch(&init, &a, 1001, 7, part, &error), COHORT_OK);
    assert_memory_equal(part, whole + 1001, sizeof part);
    assert_int_equal(adapter_init_fetch(&init, &b, 0, 6400, whole, &error), COHORT_OK);
    for (int i = 0; i < 6400; i++)
        assert_true(whole[i] == 0);
}

/* ---- refusals ---- */

static void bad_settings_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *config, *message;
    } bad[] = {
        {"[]", "expected a JSON object"},
        {"{\"peft_type\": \"IA3\"}", "\"peft_type\": expected \"LORA\", found \"IA3\""},
        {"{\"peft_type\": \"LORA\", \"task_type\": \"TOKEN_CLS\"}", "found \"TOKEN_CLS\""},
        {"{\"peft_type\": \"LORA\", \"task_type\": 5}", "\"task_type\": expected \"CAUSAL_LM\""},
        {"{\"peft_type\": \"LORA\", \"target_modules\": []}", "an empty list names no module"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"all-linear\", \"layers_to_transform\": 1}",
         "not with all-linear"},
        {"{\"fine_tune_type\": 3, \"lora_parameters\": {}}", "\"fine_tune_type\": expected"},
        {"{\"lora_parameters\": {\"rank\": 2.5}}", "\"rank\": expected a whole number"},
        {"{\"lora_parameters\": {}, \"num_layers\": \"all\"}", "\"num_layers\": expected a whole number"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \".*(?<a>q)_proj\"}", "has '(?<', which is not supported"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \".*(?|q|v)_proj\"}", "has '(?|', which is not supported"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \".{,40}q_proj\"}", "has '{,', which is not supported"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \".*\\\\Rq_proj\"}", "has '\\R', which is not supported"},
        {"{\"peft_type\": \"LORA\", \"r\": 0}", "\"r\": expected a number from 1"},
        {"{\"peft_type\": \"LORA\", \"r\": 2.5}", "\"r\": expected a whole number"},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": \"x\"}", "\"lora_alpha\": expected a number"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [1]}", "\"target_modules\": expected a list of texts"},
        {"{\"peft_type\": \"LORA\", \"rank_pattern\": {\"a\": \"b\"}}",
         "\"rank_pattern\": expected an object of numbers"},
        {"{\"peft_type\": \"LORA\", \"bias\": \"some\"}", "\"bias\": expected \"none\", \"all\" or \"lora_only\""},
        {"{\"peft_type\": \"LORA\", \"use_dora\": true, \"lora_bias\": true}", "does not go with \"use_dora\""},
        {"{\"peft_type\": \"LORA\", \"init_lora_weights\": \"pissa_niter_16\"}",
         "path_initial_model_for_weight_conversion"},
        {"{\"peft_type\": \"LORA\", \"init_lora_weights\": \"olora\"}", "belongs to a base whose weights were changed"},
        {"{\"peft_type\": \"LORA\", \"init_lora_weights\": \"loftq\"}", "belongs to a base whose weights were changed"},
        {"{\"peft_type\": \"LORA\", \"init_lora_weights\": \"corda\"}", "belongs to a base whose weights were changed"},
        {"{\"peft_type\": \"LORA\", \"init_lora_weights\": \"lora_ga\"}",
         "belongs to a base whose weights were changed"},
        {"{\"peft_type\": \"LORA\", \"layer_replication\": [[0, 4]]}", "\"layer_replication\""},
        {"{\"peft_type\": \"LORA\", \"alora_invocation_tokens\": [1]}", "\"alora_invocation_tokens\""},
        {"{\"peft_type\": \"LORA\", \"arrow_config\": {\"a\": 1}}", "\"arrow_config\""},
        {"{\"peft_type\": \"LORA\", \"use_qalora\": true}", "\"use_qalora\""},
        {"{\"peft_type\": \"LORA\", \"trainable_token_indices\": [5]}", "\"trainable_token_indices\""},
        {"{\"peft_type\": \"LORA\", \"target_parameters\": [\"mlp.experts.down_proj\"]}", "this model has no experts"},
        {"{\"peft_type\": \"LORA\", \"target_parameters\": \"down_proj\"}", "\"target_parameters\": expected a list"},
        {"{\"fine_tune_type\": \"full\", \"lora_parameters\": {}}", "mlx_lm.fuse"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \".*q_proj(\"}", "does not compile"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"(*ANY)q_proj\"}", "has '(*', which is not supported"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"((a*)*)*b|(.*)*(.*)*(.*)*(.*)*x\"}", "takes too long"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [\"qproj\"]}",
         "no projection of the model is named by target_modules 'qproj'"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"q_proj\"}", "it must match a whole path"},
        {"{\"fine_tune_type\": \"dora\", \"model\": \"x\", \"lora_parameters\": {\"keys\": [\"model.embed_tokens\"]}}",
         "MLX-LM's DoRA, with a magnitude of each token, is not supported with an adapter of the embedding"},
        {"{\"peft_type\": \"LORA\", \"lora_bias\": true, \"target_modules\": [\"embed_tokens\"]}",
         "lora_bias does not go, as in PEFT, with an adapter of the embedding"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [\"q_norm\"]}", "it is not a projection"},
        {"{\"peft_type\": \"LORA\", \"modules_to_save\": [\"score\"]}", "the model has no module 'score'"},
        {"{\"peft_type\": \"LORA\", \"rank_pattern\": {\"q_proj\": 2, \".*q_proj\": 3}}", "both name"},
    };
    struct param_table base;
    open_base(&base, "qwen3_f32", STORAGE_F32);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct adapter_settings settings;
        struct adapter_layout layout = {0};
        write_config(bad[i].config);
        cohort_status status = adapter_settings_read(&settings, folder, NULL, &error);
        if (status == COHORT_OK) {
            status = adapter_layout_open(&layout, &settings, &base, &config, STORAGE_F32, &error);
            adapter_settings_free(&settings);
        }
        if (status == COHORT_OK || strstr(error.message, bad[i].message) == NULL)
            fail_msg("%s: %s", bad[i].config, status == COHORT_OK ? "is taken" : error.message);
        adapter_layout_free(&layout);
    }
    param_table_free(&base);
}

/* A backslash of its own before a letter is no escape; groups of a layers_pattern are not the number, and it
 * names whole components; the groups of a rank_pattern count from 3, as PEFT puts two before them. */
static void patterns_are_pythons(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        int n;
    } good[] = {
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"(.*\\\\\\\\R)?.*q_proj\"}", 3},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"(?P<m>.*)\\\\.(?:q|k)_proj(?<!k_proj)\"}", 3},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [\"q_proj\"], \"layers_to_transform\": 1, \"layers_pattern\": "
         "[\"(lay)(ers)\"]}",
         1},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [\"o_proj\"], \"rank_pattern\": {\"(o)_pr\\\\3j\": 3}}", 3},
    };
    struct param_table base;
    struct adapter_layout layout;
    open_base(&base, "qwen3_f32", STORAGE_F32);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (open_config(&layout, &base, good[i].config) != COHORT_OK)
            fail_msg("%s: %s", good[i].config, error.message);
        assert_int_equal(layout.n_sites, good[i].n);
        adapter_layout_free(&layout);
    }
    assert_int_not_equal(open_config(&layout, &base,
                                     "{\"peft_type\": \"LORA\", \"target_modules\": [\"q_proj\"], "
                                     "\"layers_to_transform\": 1, \"layers_pattern\": \"ayers\"}"),
                         COHORT_OK);
    param_table_free(&base);
}

/* The head of a model that ties it to the embedding has no tensor of its own: head and embedding are two sites of one. */
static void tied_tensors_have_two_sites(void **state)
{
    (void)state;
    static const char both[] =
        "{\"peft_type\": \"LORA\", \"target_modules\": [\"q_proj\", \"lm_head\", \"embed_tokens\"]%s}";
    struct param_table base;
    struct adapter_layout layout;
    char text[200], path[sizeof base.params->name];
    int64_t row = 0;
    assert_int_equal(model_config_load(&config, NULL, FIXTURES "/base_qwen3_f32", &error), COHORT_OK);
    config.tie_embeddings = true;
    assert_int_equal(architecture_params(&config, STORAGE_F32, &base, &error), COHORT_OK);
    assert_null(param_find(&base, "lm_head.weight"));
    snprintf(text, sizeof text, both, "");
    assert_int_equal(open_config(&layout, &base, text), COHORT_OK);
    assert_int_equal(layout.n_sites, 5);
    const struct param *embedding = param_find(&base, "model.embed_tokens.weight");
    const struct adapter_site *rows = adapter_site_of(&layout, embedding, false, &row),
                              *head = adapter_site_of(&layout, embedding, true, &row);
    assert_ptr_equal(rows->base, head->base);
    assert_string_equal(rows->b->name, "model.embed_tokens.lora_embedding_A");
    assert_int_equal(rows->b->shape[0], config.vocab_size);
    assert_string_equal(head->b->name, "lm_head.lora_B.weight");
    adapter_site_path(head, path);
    assert_string_equal(path, "lm_head");
    adapter_layout_free(&layout);
    snprintf(text, sizeof text, both, ", \"ensure_weight_tying\": true");
    assert_int_not_equal(open_config(&layout, &base, text), COHORT_OK);
    assert_non_null(strstr(error.message, "with ensure_weight_tying this model's head"));
    assert_int_equal(open_config(&layout, &base, "{\"peft_type\": \"LORA\", \"target_modules\": \"all-linear\"}"),
                     COHORT_OK);
    assert_int_equal(layout.n_sites, 21);
    adapter_layout_free(&layout);
    param_table_free(&base);
}

/* PEFT writes the frozen head beside an adapter of it: one value of the base's head that is another is another base. */
static void another_base_is_refused(void **state)
{
    (void)state;
    const char *const adapter = FIXTURES "/qwen3_f32_head";
    struct adapter_settings settings;
    struct adapter_merge merge;
    struct param_table base;
    struct values values;
    open_base(&base, "qwen3_f32", STORAGE_F32);
    const struct param *head = param_find(&base, "lm_head.weight");
    values.bytes = calloc(1, base.bytes);
    assert_int_equal(checkpoint_read(FIXTURES "/base_qwen3_f32", &base, keep, &values, &error), COHORT_OK);
    assert_int_equal(adapter_settings_read(&settings, adapter, NULL, &error), COHORT_OK);
    for (int changed = 0; changed < 2; changed++) {
        ((float *)(values.bytes + head->offset))[head->count - 1] += (float)changed;
        assert_int_equal(checkpoint_write_weights(folder, &base, 0, give, &values, NULL, &error), COHORT_OK);
        cohort_status status = adapter_merge_open(&merge, folder, &base, &config, adapter, &settings, &error);
        assert_int_equal(status == COHORT_OK, changed == 0);
        adapter_merge_close(&merge);
        assert_int_equal(setup(NULL), 0);
    }
    assert_non_null(strstr(error.message, "base_model.model.lm_head.base_layer.weight differs from the base's"));
    adapter_settings_free(&settings);
    param_table_free(&base);
    free(values.bytes);
}

static void unknown_keys_are_noted(void **state)
{
    (void)state;
    struct adapter_settings settings;
    struct text notes = {0};
    write_config(
        "{\"peft_type\": \"LORA\", \"r\": 4, \"brand_new\": 1, \"fan_in_fan_out\": true, \"peft_version\": \"0.4.0\"}");
    assert_int_equal(adapter_settings_read(&settings, folder, &notes, &error), COHORT_OK);
    assert_int_equal(settings.r, 4);
    assert_true(settings.alpha == 8.0); /* PEFT's default */
    assert_non_null(strstr(notes.data, "\"brand_new\" is not known"));
    assert_non_null(strstr(notes.data, "\"fan_in_fan_out\" is ignored"));
    assert_null(strstr(notes.data, "peft_version"));
    text_free(&notes);
    adapter_settings_free(&settings);
}

/* Tensors of another rank, missing, too many; a pickle. */
static void bad_tensors_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *config, *tensors, *message;
    } bad[] = {
        {"{\"peft_type\": \"LORA\", \"r\": 3, \"target_modules\": [\"q_proj\", \"v_proj\"]}", "qwen3_f32_plain",
         "12 tensors of the wrong shape"},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": [\"q_proj\"]}", "qwen3_f32_plain",
         "6 unexpected tensors"},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": [\"q_proj\", \"v_proj\", \"o_proj\"]}",
         "qwen3_f32_plain", "6 missing tensors"},
        {"{\"peft_type\": \"LORA\", \"r\": 2}", NULL, "holds no adapter_model.safetensors"},
        {"{\"peft_type\": \"LORA\", \"r\": 2}", "", "a pickle, which is not read"},
    };
    struct param_table base;
    open_base(&base, "qwen3_f32", STORAGE_F32);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct adapter_settings settings;
        struct adapter_merge merge;
        char from[300];
        write_config(bad[i].config);
        if (bad[i].tensors != NULL && bad[i].tensors[0] != '\0') {
            snprintf(from, sizeof from, FIXTURES "/%s/adapter_model.safetensors", bad[i].tensors);
            assert_int_equal(file_copy(from, in_folder("adapter_model.safetensors"), &error), COHORT_OK);
        } else if (bad[i].tensors != NULL) {
            put("adapter_model.bin", "x");
        }
        assert_int_equal(adapter_settings_read(&settings, folder, NULL, &error), COHORT_OK);
        cohort_status status =
            adapter_merge_open(&merge, FIXTURES "/base_qwen3_f32", &base, &config, folder, &settings, &error);
        if (status == COHORT_OK || strstr(error.message, bad[i].message) == NULL)
            fail_msg("%s: %s", bad[i].config, status == COHORT_OK ? "is taken" : error.message);
        adapter_settings_free(&settings);
        assert_int_equal(setup(NULL), 0);
    }
    param_table_free(&base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(targets_are_pefts, setup),
        cmocka_unit_test_setup(targets_of_experts_are_pefts, setup),
        cmocka_unit_test_setup(fused_parts_lie_together, setup),
        cmocka_unit_test_setup(merges_are_pefts, setup),
        cmocka_unit_test_setup(files_are_written_as_pefts, setup),
        cmocka_unit_test_setup(mlx_files_are_read, setup),
        cmocka_unit_test_setup(mlx_experts_are_read, setup),
        cmocka_unit_test_setup(starts_are_uniform_and_zero, setup),
        cmocka_unit_test_setup(bad_settings_are_refused_by_name, setup),
        cmocka_unit_test_setup(patterns_are_pythons, setup),
        cmocka_unit_test_setup(tied_tensors_have_two_sites, setup),
        cmocka_unit_test_setup(another_base_is_refused, setup),
        cmocka_unit_test_setup(unknown_keys_are_noted, setup),
        cmocka_unit_test_setup(bad_tensors_are_refused_by_name, setup),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
