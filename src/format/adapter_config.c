/* adapter_config.json, as PEFT writes it and as MLX-LM does, and what a run's options say. */
#include "format/adapter_internal.h"

#include "base/json_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char CONFIG[] = "adapter_config.json", GATE_UP[] = "gate_up_proj";
/* MOST_OVERRIDES: each is matched with every projection. PEFT's own tools write one for each of them. */
enum { CONFIG_LIMIT = 1 << 24, MOST_OVERRIDES = 1024 };

void adapter_settings_default(struct adapter_settings *settings)
{
    *settings = (struct adapter_settings){.r = 16, .alpha = 32};
}

void adapter_names_free(struct adapter_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        mem_free(names->items[i]);
    mem_free(names->items);
    memset(names, 0, sizeof *names);
}

static void overrides_free(struct adapter_overrides *overrides)
{
    for (size_t i = 0; i < overrides->count; i++)
        mem_free(overrides->items[i].pattern);
    mem_free(overrides->items);
}

void adapter_settings_free(struct adapter_settings *settings)
{
    mem_free(settings->base);
    mem_free(settings->target_pattern);
    mem_free(settings->exclude_pattern);
    adapter_names_free(&settings->parameters);
    adapter_names_free(&settings->targets);
    adapter_names_free(&settings->exclude);
    adapter_names_free(&settings->layer_names);
    adapter_names_free(&settings->saved);
    mem_free(settings->layers.items);
    overrides_free(&settings->ranks);
    overrides_free(&settings->alphas);
    memset(settings, 0, sizeof *settings);
}

cohort_status adapter_settings_scores(struct adapter_settings *settings, cohort_error *err)
{
    /* PEFT adds both names to every adapter of a classifier; models here have the first. */
    static const char head[] = "score", other[] = "classifier";
    struct adapter_names *saved = &settings->saved;
    bool there = false;
    size_t n = 0;
    for (size_t i = 0; i < saved->count; i++) {
        there = there || strcmp(saved->items[i], head) == 0;
        if (strcmp(saved->items[i], other) == 0)
            mem_free(saved->items[i]);
        else
            saved->items[n++] = saved->items[i];
    }
    saved->count = n;
    settings->scores = true;
    return there ? COHORT_OK : adapter_names_add(saved, head, err);
}

static bool is_pattern(const char *word) { return strpbrk(word, "*+?()[]|^$\\") != NULL; }

/* Of names, or the one word that is something else. */
static cohort_status set_targets(struct adapter_settings *s, const char *word, bool pattern, cohort_error *err)
{
    if (ascii_same(word, "all-linear")) {
        s->all_linear = true;
        return COHORT_OK;
    }
    return pattern ? mem_strdup(&s->target_pattern, word, strlen(word), err)
                   : adapter_names_add(&s->targets, word, err);
}

cohort_status adapter_settings_targets(struct adapter_settings *settings, const char *const *words, size_t n,
                                       cohort_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (n > 1 && (is_pattern(words[i]) || ascii_same(words[i], "all-linear")))
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "lora_target_modules: '%.200s' is %s and stands alone; give it by itself, or names only",
                             words[i], is_pattern(words[i]) ? "a pattern" : "a word for all projections");
        TRY(set_targets(settings, words[i], is_pattern(words[i]), err));
    }
    return COHORT_OK;
}

/* ---- reading PEFT's ---- */

struct reader {
    const char *path;
    struct adapter_settings *out;
    struct text *notes;
};

static cohort_status expected(const struct reader *r, const char *key, const char *what, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s: \"%.100s\": expected %s", r->path, key, what);
}

static cohort_status read_bool(const struct reader *r, const char *key, const json_t *value, bool *to,
                               cohort_error *err)
{
    if (!json_is_boolean(value) && !json_is_null(value))
        return expected(r, key, "true or false", err);
    *to = json_is_true(value);
    return COHORT_OK;
}

static cohort_status read_text(const struct reader *r, const char *key, const json_t *value, char **to,
                               cohort_error *err)
{
    const char *text = json_string_value(value);
    if (text == NULL && !json_is_null(value))
        return expected(r, key, "a text or null", err);
    if (text == NULL || *text == '\0' || *to != NULL)
        return COHORT_OK;
    return mem_strdup(to, text, strlen(text), err);
}

static cohort_status read_names(const struct reader *r, const char *key, const json_t *value, struct adapter_names *to,
                                cohort_error *err)
{
    if (json_is_null(value))
        return COHORT_OK;
    if (!json_is_array(value))
        return expected(r, key, "a list of texts or null", err);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *name = json_string_value(json_array_get(value, i));
        if (name == NULL || *name == '\0')
            return expected(r, key, "a list of texts, none of them empty", err);
        TRY(adapter_names_add(to, name, err));
    }
    return COHORT_OK;
}

static cohort_status read_overrides(const struct reader *r, const char *key, const json_t *value,
                                    struct adapter_overrides *to, cohort_error *err)
{
    const char *pattern = NULL;
    json_t *number = NULL;
    if (json_is_null(value))
        return COHORT_OK;
    if (!json_is_object(value))
        return expected(r, key, "an object of numbers by pattern", err);
    json_object_foreach((json_t *)value, pattern, number)
    {
        if (!json_is_number(number))
            return expected(r, key, "an object of numbers by pattern", err);
        if (to->count == MOST_OVERRIDES)
            return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: \"%s\": more than %d patterns", r->path, key,
                             (int)MOST_OVERRIDES);
        TRY(mem_grow(&to->items, &to->capacity, to->count + 1, sizeof *to->items, "adapter overrides", err));
        TRY(mem_strdup(&to->items[to->count].pattern, pattern, strlen(pattern), err));
        to->items[to->count++].value = json_number_value(number);
    }
    return COHORT_OK;
}

static cohort_status read_layers(const struct reader *r, const char *key, const json_t *value, cohort_error *err)
{
    struct adapter_layers *to = &r->out->layers;
    const size_t n = json_is_array(value) ? json_array_size(value) : !json_is_null(value);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(item))
            return expected(r, key, "a layer number, a list of them, or null", err);
        TRY(mem_grow(&to->items, &to->capacity, to->count + 1, sizeof *to->items, "layers", err));
        to->items[to->count++] = json_integer_value(item);
    }
    return COHORT_OK;
}

/* A list of names, or a text that is a pattern. */
static cohort_status read_modules(const struct reader *r, const char *key, const json_t *value,
                                  struct adapter_names *names, char **pattern, bool *all_linear, cohort_error *err)
{
    const char *text = json_string_value(value);
    if (text == NULL)
        return read_names(r, key, value, names, err);
    if (all_linear != NULL && ascii_same(text, "all-linear")) {
        *all_linear = true;
        return COHORT_OK;
    }
    return read_text(r, key, value, pattern, err);
}

static cohort_status read_layer_names(const struct reader *r, const char *key, const json_t *value, cohort_error *err)
{
    if (json_is_string(value))
        return *json_string_value(value) == '\0'
                   ? COHORT_OK
                   : adapter_names_add(&r->out->layer_names, json_string_value(value), err);
    return read_names(r, key, value, &r->out->layer_names, err);
}

/* How the start values were made: some ways change the base's own weights when the adapter is loaded. */
static cohort_status read_init(const struct reader *r, const json_t *value, cohort_error *err)
{
    static const char *const harmless[] = {"gaussian", "orthogonal", "eva"};
    const char *text = json_string_value(value);
    if (json_is_boolean(value) || json_is_null(value))
        return COHORT_OK;
    if (text == NULL)
        return expected(r, "init_lora_weights", "true, false or a text", err);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (strcmp(text, harmless[i]) == 0)
            return COHORT_OK;
    if (strcmp(text, "mica") == 0) {
        r->out->loads_only = true;
        return COHORT_OK;
    }
    return error_set(
        err, COHORT_ERR_UNSUPPORTED,
        "%s: \"init_lora_weights\" is \"%.60s\": its adapter belongs to a base whose weights were changed; "
        "save it as a plain adapter with PEFT: save_pretrained(..., path_initial_model_for_weight_"
        "conversion=...)",
        r->path, text);
}

/* Keys that describe how an adapter was made, or that say something in one value only. */
static bool is_ignored(const char *key)
{
    static const char *const keys[] = {"auto_mapping",  "peft_version",   "inference_mode",    "megatron_core",
                                       "revision",      "loftq_config",   "eva_config",        "corda_config",
                                       "task_type",     "lora_ga_config", "qalora_group_size", "peft_type",
                                       "runtime_config"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

/* Nothing was asked for: null, false, an empty list or object. */
static bool is_off(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static cohort_status read_refused(const struct reader *r, const char *key, const json_t *value, bool *known,
                                  cohort_error *err)
{
    static const struct {
        const char *key, *what;
    } refused[] = {{"alora_invocation_tokens", "an adapter that begins at a token (aLoRA)"},
                   {"layer_replication", "layers that are used several times"},
                   {"arrow_config", "several adapters with a router"},
                   {"kasa_config", "another decomposition"},
                   {"monteclora_config", "random adapters"},
                   {"use_bdlora", "block-diagonal factors"},
                   {"megatron_config", "Megatron's layers"},
                   {"use_qalora", "QALoRA's pooled inputs"},
                   {"enable_lora", "adapters of parts of a merged projection"},
                   {"trainable_token_indices", "trained rows of the embedding"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(key, refused[i].key) == 0) {
            *known = true;
            if (!is_off(value))
                return error_set(err, COHORT_ERR_UNSUPPORTED,
                                 "%s: \"%s\": %s are not supported; merge the adapter with "
                                 "PEFT's merge_and_unload",
                                 r->path, key, refused[i].what);
        }
    if (strcmp(key, "velora_config") == 0) {
        *known = true;
        r->out->loads_only = r->out->loads_only || !is_off(value);
    }
    return COHORT_OK;
}

static cohort_status read_number(const struct reader *r, const char *key, const json_t *value, double least,
                                 double most, double *to, cohort_error *err)
{
    const double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= least && number <= most))
        return error_set(err, COHORT_ERR_FORMAT, "%s: \"%s\": expected a number from %g to %g", r->path, key, least,
                         most);
    *to = number;
    return COHORT_OK;
}

/* By PEFT's words. */
static const char *const biases_words[] = {"none", "all", "lora_only"};

static cohort_status read_biases(const struct reader *r, const json_t *value, cohort_error *err)
{
    const char *text = json_string_value(value);
    for (size_t i = 0; text != NULL && i < sizeof biases_words / sizeof *biases_words; i++)
        if (strcmp(text, biases_words[i]) == 0) {
            r->out->biases = (enum adapter_biases)i;
            return COHORT_OK;
        }
    return expected(r, "bias", "\"none\", \"all\" or \"lora_only\"", err);
}

static cohort_status read_key(const struct reader *r, const char *key, const json_t *value, cohort_error *err)
{
    struct adapter_settings *s = r->out;
    double number = 0;
    bool known = false, transposed = false;
    if (strcmp(key, "base_model_name_or_path") == 0)
        return read_text(r, key, value, &s->base, err);
    if (strcmp(key, "r") == 0) {
        TRY(read_number(r, key, value, 1, 1 << 16, &number, err));
        if (number != floor(number))
            return expected(r, key, "a whole number", err);
        s->r = (int32_t)number;
        return COHORT_OK;
    }
    if (strcmp(key, "lora_alpha") == 0)
        return read_number(r, key, value, -1e9, 1e9, &s->alpha, err);
    if (strcmp(key, "lora_dropout") == 0)
        return json_is_null(value) ? COHORT_OK : read_number(r, key, value, 0, 1, &s->dropout, err);
    if (strcmp(key, "use_rslora") == 0)
        return read_bool(r, key, value, &s->rslora, err);
    if (strcmp(key, "use_dora") == 0)
        return read_bool(r, key, value, &s->dora, err);
    if (strcmp(key, "ensure_weight_tying") == 0)
        return read_bool(r, key, value, &s->ties, err);
    if (strcmp(key, "lora_bias") == 0)
        return read_bool(r, key, value, &s->bias, err);
    if (strcmp(key, "target_modules") == 0 && json_is_array(value) && json_array_size(value) == 0) {
        s->no_modules = true;
        return COHORT_OK;
    }
    if (strcmp(key, "target_parameters") == 0)
        return read_names(r, key, value, &s->parameters, err);
    if (strcmp(key, "target_modules") == 0)
        return read_modules(r, key, value, &s->targets, &s->target_pattern, &s->all_linear, err);
    if (strcmp(key, "exclude_modules") == 0)
        return read_modules(r, key, value, &s->exclude, &s->exclude_pattern, NULL, err);
    if (strcmp(key, "layers_to_transform") == 0)
        return read_layers(r, key, value, err);
    if (strcmp(key, "layers_pattern") == 0)
        return read_layer_names(r, key, value, err);
    if (strcmp(key, "rank_pattern") == 0)
        return read_overrides(r, key, value, &s->ranks, err);
    if (strcmp(key, "alpha_pattern") == 0)
        return read_overrides(r, key, value, &s->alphas, err);
    if (strcmp(key, "modules_to_save") == 0)
        return read_names(r, key, value, &s->saved, err);
    if (strcmp(key, "init_lora_weights") == 0)
        return read_init(r, value, err);
    if (strcmp(key, "fan_in_fan_out") == 0) {
        TRY(read_bool(r, key, value, &transposed, err));
        if (transposed && r->notes != NULL)
            return text_printf(r->notes, err,
                               "%s: \"fan_in_fan_out\" is ignored: the projections of this family are not stored "
                               "transposed\n",
                               r->path);
        return COHORT_OK;
    }
    if (strcmp(key, "bias") == 0)
        return read_biases(r, value, err);
    TRY(read_refused(r, key, value, &known, err));
    if (!known && !is_ignored(key) && r->notes != NULL)
        return text_printf(r->notes, err, "%s: the key \"%.100s\" is not known and is ignored\n", r->path, key);
    return COHORT_OK;
}

static cohort_status read_peft(const struct reader *r, const json_t *config, cohort_error *err)
{
    const char *type = json_string_value(json_object_get(config, "peft_type"));
    const json_t *task = json_object_get(config, "task_type");
    const char *key = NULL;
    json_t *value = NULL;
    if (type == NULL || strcmp(type, "LORA") != 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: \"peft_type\": expected \"LORA\", found \"%.40s\"; merge it with PEFT's merge_and_unload",
                         r->path, type == NULL ? "" : type);
    const char *kind = task == NULL || json_is_null(task) ? "CAUSAL_LM" : json_string_value(task);
    const bool scores = kind != NULL && strcmp(kind, "SEQ_CLS") == 0;
    if (!scores && (kind == NULL || strcmp(kind, "CAUSAL_LM") != 0))
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: \"task_type\": expected \"CAUSAL_LM\", or \"SEQ_CLS\" of a reward model, found "
                         "\"%.40s\"",
                         r->path, kind == NULL ? "no text" : kind);
    r->out->r = 8;
    r->out->alpha = 8;
    json_object_foreach((json_t *)config, key, value) TRY(read_key(r, key, value, err));
    if (scores)
        TRY(adapter_settings_scores(r->out, err));
    if (r->out->no_modules && r->out->parameters.count == 0)
        return expected(r, "target_modules",
                        "names, a pattern or null (PEFT's own targets); an empty list names no module", err);
    if (r->out->layers.count > 0 && (r->out->target_pattern != NULL || r->out->all_linear))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"layers_to_transform\" goes with a list of target_modules, not with %s", r->path,
                         r->out->all_linear ? "all-linear" : "a pattern");
    if (r->out->dora && r->out->bias)
        return error_set(err, COHORT_ERR_FORMAT, "%s: \"lora_bias\" does not go with \"use_dora\"", r->path);
    if (r->out->layers.count == 0 && r->out->layer_names.count > 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: \"layers_pattern\" goes with \"layers_to_transform\"", r->path);
    return COHORT_OK;
}

/* ---- reading MLX-LM's ---- */

static cohort_status read_mlx(const struct reader *r, const json_t *config, cohort_error *err)
{
    struct adapter_settings *s = r->out;
    const json_t *p = json_object_get(config, "lora_parameters");
    const char *type = json_string_value(json_object_get(config, "fine_tune_type"));
    const json_t *layers = json_object_get(config, "num_layers");
    double rank = 8, scale = 20;
    if (json_object_get(config, "fine_tune_type") != NULL && type == NULL)
        return expected(r, "fine_tune_type", "\"lora\" or \"dora\"", err);
    if (layers != NULL && !json_is_integer(layers))
        return expected(r, "num_layers", "a whole number", err);
    if (type != NULL && strcmp(type, "lora") != 0 && strcmp(type, "dora") != 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: \"fine_tune_type\": expected \"lora\" or \"dora\", found \"%.40s\"; fuse the model with "
                         "mlx_lm.fuse",
                         r->path, type);
    if (!json_is_object(p))
        return expected(r, "lora_parameters", "an object", err);
    if (json_object_get(p, "rank") != NULL)
        TRY(read_number(r, "rank", json_object_get(p, "rank"), 1, 1 << 16, &rank, err));
    if (rank != floor(rank))
        return expected(r, "rank", "a whole number", err);
    if (json_object_get(p, "scale") != NULL)
        TRY(read_number(r, "scale", json_object_get(p, "scale"), -1e9, 1e9, &scale, err));
    if (json_object_get(p, "dropout") != NULL)
        TRY(read_number(r, "dropout", json_object_get(p, "dropout"), 0, 1, &s->dropout, err));
    s->mlx = true;
    s->dora = type != NULL && strcmp(type, "dora") == 0;
    s->r = (int32_t)rank;
    s->alpha = scale * rank; /* their scale is used as it stands */
    if (json_object_get(p, "keys") != NULL && !json_is_null(json_object_get(p, "keys")))
        TRY(read_names(r, "keys", json_object_get(p, "keys"), &s->targets, err));
    s->all_linear = s->targets.count == 0;
    s->last_layers = layers == NULL ? 16 : json_integer_value(layers) > 0 ? json_integer_value(layers) : 0;
    return read_text(r, "model", json_object_get(config, "model"), &s->base, err);
}

cohort_status adapter_is_folder(const char *dir, bool *there, cohort_error *err)
{
    char *path = NULL;
    TRY(file_join(&path, dir, CONFIG, err));
    cohort_status status = file_exists(path, there, err);
    mem_free(path);
    return status;
}

cohort_status adapter_settings_read(struct adapter_settings *out, const char *dir, struct text *notes,
                                    cohort_error *err)
{
    char *path = NULL;
    json_t *config = NULL;
    cohort_status status = COHORT_OK;
    memset(out, 0, sizeof *out);
    TRY_GOTO(file_join(&path, dir, CONFIG, err));
    TRY_GOTO(json_text_read(&config, path, CONFIG_LIMIT, 0, err));
    const struct reader reader = {path, out, notes};
    if (!json_is_object(config))
        status = error_set(err, COHORT_ERR_FORMAT, "%s: expected a JSON object", path);
    else if (json_object_get(config, "peft_type") == NULL && json_object_get(config, "lora_parameters") != NULL)
        status = read_mlx(&reader, config, err);
    else
        status = read_peft(&reader, config, err);
cleanup:
    json_decref(config);
    mem_free(path);
    if (status != COHORT_OK)
        adapter_settings_free(out);
    return status;
}

/* ---- writing ---- */

static json_t *names_json(const struct adapter_names *names)
{
    if (names->count == 0)
        return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < names->count; i++)
        if (json_array_append_new(list, json_string(names->items[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *number_json(double value)
{
    return value == floor(value) && fabs(value) < 1e15 ? json_integer((json_int_t)value) : json_real(value);
}

/* doubled: 0, or what gate_up_proj has where nothing else is said of it. */
static json_t *overrides_json(const struct adapter_overrides *overrides, double doubled)
{
    json_t *object = json_object();
    for (size_t i = 0; i < overrides->count; i++) {
        const double value = overrides->items[i].value;
        json_t *number = value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
        if (json_object_set_new(object, overrides->items[i].pattern, number) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    for (size_t i = 0; i < overrides->count; i++)
        doubled = strstr(overrides->items[i].pattern, GATE_UP) != NULL ? 0 : doubled;
    if (doubled != 0 && json_object_set_new_nocheck(object, GATE_UP, number_json(doubled)) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* Those that were named, or the last ones that MLX-LM's count came to. */
static json_t *layers_json(const struct adapter_settings *s, const struct adapter_layout *layout)
{
    int64_t before = -1;
    bool built = true;
    if (s->layers.count == 0 && s->last_layers == 0)
        return json_null();
    json_t *list = json_array();
    for (size_t i = 0; built && i < s->layers.count; i++)
        built = json_array_append_new(list, json_integer(s->layers.items[i])) == 0;
    for (int32_t i = 0; built && s->layers.count == 0 && i < layout->n_sites; i++) {
        const int64_t layer = layout->sites[i].layer;
        if (layer > before) {
            built = json_array_append_new(list, json_integer(layer)) == 0;
            before = layer;
        }
    }
    if (built)
        return list;
    json_decref(list);
    return NULL;
}

/* The last components of the sites' paths, each once: what all-linear and PEFT's own table come to in this model. */
static json_t *site_names(const struct adapter_layout *layout)
{
    json_t *seen = json_object(), *list = json_array();
    bool built = seen != NULL && list != NULL;
    for (int32_t i = 0; built && i < layout->n_sites; i++) {
        char path[sizeof layout->sites->base->name];
        adapter_site_path(&layout->sites[i], path);
        const char *last = strrchr(path, '.') == NULL ? path : strrchr(path, '.') + 1;
        if (json_object_get(seen, last) == NULL)
            built = json_object_set_new(seen, last, json_true()) == 0 &&
                    json_array_append_new(list, json_string(last)) == 0;
    }
    json_decref(seen);
    if (built)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *targets_json(const struct adapter_settings *s, const struct adapter_layout *layout)
{
    if (layout->targets.experts)
        return layout->targets.modules.count > 0 ? names_json(&layout->targets.modules) : json_array();
    if (s->target_pattern != NULL)
        return json_string(s->target_pattern);
    return s->targets.count > 0 ? names_json(&s->targets) : site_names(layout);
}

/* Whether all were made; sets key of object, which takes over the value. */
static bool put(json_t *object, const char *key, json_t *value) { return json_object_set_new(object, key, value) == 0; }

cohort_status adapter_config_write(const char *dir, const struct adapter_settings *s,
                                   const struct adapter_layout *layout, cohort_error *err)
{
    static const char *const nulls[] = {"alora_invocation_tokens", "auto_mapping",
                                        "layer_replication",       "revision",
                                        "megatron_config",         "trainable_token_indices"};
    static const char *const falses[] = {"fan_in_fan_out", "use_qalora"};
    const bool doubled = layout->targets.doubled;
    cohort_status status = COHORT_OK;
    struct text text = {0};
    char *path = NULL;
    json_t *c = json_object();
    bool built = c != NULL;
    for (size_t i = 0; built && i < sizeof nulls / sizeof *nulls; i++)
        built = put(c, nulls[i], json_null());
    for (size_t i = 0; built && i < sizeof falses / sizeof *falses; i++)
        built = put(c, falses[i], json_false());
    built = built && put(c, "peft_type", json_string("LORA")) &&
            put(c, "task_type", json_string(s->scores ? "SEQ_CLS" : "CAUSAL_LM")) &&
            put(c, "base_model_name_or_path", s->base == NULL ? json_null() : json_string(s->base)) &&
            put(c, "bias", json_string(biases_words[s->biases])) && put(c, "inference_mode", json_true()) &&
            put(c, "init_lora_weights", json_true()) && put(c, "r", json_integer(s->r)) &&
            put(c, "lora_alpha", number_json(s->alpha)) && put(c, "lora_dropout", json_real(s->dropout)) &&
            put(c, "use_rslora", json_boolean(s->rslora)) && put(c, "use_dora", json_boolean(s->dora)) &&
            put(c, "lora_bias", json_boolean(s->bias)) && put(c, "target_modules", targets_json(s, layout)) &&
            put(c, "target_parameters", names_json(&layout->targets.parameters)) &&
            put(c, "exclude_modules",
                s->exclude_pattern != NULL ? json_string(s->exclude_pattern) : names_json(&s->exclude)) &&
            put(c, "layers_to_transform", layers_json(s, layout)) &&
            put(c, "layers_pattern", names_json(&s->layer_names)) &&
            put(c, "rank_pattern", overrides_json(&s->ranks, doubled ? 2 * s->r : 0)) &&
            put(c, "alpha_pattern", overrides_json(&s->alphas, doubled ? 2 * s->alpha : 0)) &&
            put(c, "modules_to_save", names_json(&s->saved));
    TRY_GOTO(file_join(&path, dir, CONFIG, err));
    if (!built) {
        status = error_set(err, COHORT_ERR_MEMORY, "%s: cannot build its JSON", path);
        goto cleanup;
    }
    TRY_GOTO(json_text_write(c, JSON_INDENT(2) | JSON_SORT_KEYS, &text, err));
    TRY_GOTO(text_append(&text, "\n", 1, err));
    status = file_write_atomic(path, text.data, text.length, err);
cleanup:
    json_decref(c);
    text_free(&text);
    mem_free(path);
    return status;
}
