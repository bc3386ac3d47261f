#include "format/model_config.h"

#include "base/json_text.h"
#include "format/architecture.h"
#include "format/config_keys.h"
#include "format/expert_layout.h"
#include "format/model_folder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bounds that keep every product of sizes far below 2^63: the largest model they allow has fewer
 * than 2^58 weights. */
enum {
    MAX_VOCAB = 1 << 24,
    MAX_WIDTH = 1 << 20,
    MAX_FFN = 1 << 22,
    MAX_LAYERS = MODEL_MAX_LAYERS,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = 256, /* what the kernels of attention take */
    MAX_POSITIONS = 1 << 28,
    MAX_CONFIG_BYTES = 1 << 24
};

/* ---- what we do not do, refused by name (I7) ---- */

/* names: of the key architectures. It is absent, empty, or holds the row's class alone, of the one kind or the other. */
static bool has_class(const json_t *names, const struct architecture *row, bool classifier)
{
    char class_name[ARCHITECTURE_CLASS_BYTES];
    architecture_class(row, classifier, class_name);
    if (names == NULL || (json_is_array(names) && json_array_size(names) == 0))
        return !classifier;
    const char *name = json_string_value(json_array_get(names, 0));
    return json_array_size(names) == 1 && name != NULL && strcmp(name, class_name) == 0;
}

static bool has_type(const json_t *type, const struct architecture *row)
{
    return type == NULL || (json_is_string(type) && strcmp(json_string_value(type), row->model_type) == 0);
}

cohort_status model_config_score(struct model_config *config, const char *dir, cohort_error *err)
{
    if (config->n_labels > 1)
        return error_set(
            err, COHORT_ERR_UNSUPPORTED,
            "%s: a sequence classifier of %d labels: a reward model has one (num_labels of config.json, or "
            "one name in id2label)",
            dir, (int)config->n_labels);
    config->head_is_new = config->n_labels == 0;
    config->n_labels = 1;
    return COHORT_OK;
}

/* How many scores a sequence classifier gives: as many as it has names for, two where the file says nothing. */
static cohort_status read_labels(struct model_config *config, const struct config_source *source)
{
    enum { MAX_LABELS = 1 << 16 };
    const json_t *names = config_get(source->json, "id2label");
    const size_t n = json_object_size(names);
    if (names == NULL)
        return config_size(source, "num_labels", 1, MAX_LABELS, 2, &config->n_labels);
    if (!json_is_object(names) || n < 1 || n > MAX_LABELS)
        return config_refuse(source, COHORT_ERR_FORMAT, "id2label", names, "an object with a name for each label");
    config->n_labels = (int32_t)n;
    return COHORT_OK;
}

/* The row of a family that both keys name, as far as they are there. */
static cohort_status read_architecture(struct model_config *config, const struct config_source *source)
{
    const json_t *names = config_get(source->json, "architectures"), *type = config_get(source->json, "model_type");
    const json_t *server = config_get(source->json, "error");
    bool named = false;
    char supported[600] = "", types[200] = "";
    for (size_t i = 0; i < N_ARCHITECTURES; i++) {
        const struct architecture *row = &architectures[i];
        const char *between = i == 0 ? "" : i + 1 < N_ARCHITECTURES ? ", " : " or ";
        const size_t n = strlen(supported), m = strlen(types);
        snprintf(supported + n, sizeof supported - n, "%s%s (model_type \"%s\")", between, row->class_name,
                 row->model_type);
        snprintf(types + m, sizeof types - m, "%s\"%s\"", between, row->model_type);
    }
    strcat(supported, ": this version supports no other");
    if (names == NULL && type == NULL && json_is_string(server))
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: the error message of a server (%s), not the file: the download went "
                         "wrong; download it again",
                         source->origin, json_string_value(server));
    if (names == NULL && type == NULL)
        return config_refuse(source, COHORT_ERR_FORMAT, "model_type", NULL, types);
    for (size_t i = 0; i < N_ARCHITECTURES; i++)
        for (int classifier = 0; classifier < 2; classifier++) {
            const bool is = has_class(names, &architectures[i], classifier);
            named = named || is;
            if (is && has_type(type, &architectures[i])) {
                config->architecture = &architectures[i];
                return classifier ? read_labels(config, source) : COHORT_OK;
            }
        }
    return named ? config_refuse(source, COHORT_ERR_UNSUPPORTED, "model_type", type, supported)
                 : config_refuse(source, COHORT_ERR_UNSUPPORTED, "architectures", names, supported);
}

static cohort_status check_absent(const struct config_source *source, const char *key, const char *advice)
{
    if (config_get(source->json, key) != NULL)
        return error_set(source->err, COHORT_ERR_UNSUPPORTED,
                         "%s: \"%s\" is present: quantized checkpoints are not supported; %s", source->origin, key,
                         advice);
    return COHORT_OK;
}

bool model_config_sparse(const struct model_config *config, int32_t layer)
{
    return expert_config_sparse(&config->experts, layer);
}

int32_t model_config_n_sparse(const struct model_config *config)
{
    int32_t n = 0;
    for (int32_t l = 0; l < config->n_layers; l++)
        n += model_config_sparse(config, l) ? 1 : 0;
    return n;
}

/* ---- windows ---- */

int32_t model_config_window(const struct model_config *config, int32_t layer)
{
    return config->sliding[layer / 64] >> layer % 64 & 1 ? config->window : 0;
}

static void set_sliding(struct model_config *config, int32_t layer)
{
    config->sliding[layer / 64] |= (uint64_t)1 << layer % 64;
}

/* layer_types says which layers slide. on: there is a window; only: the only type that there may be without one. */
static cohort_status read_layer_types(struct model_config *config, const struct config_source *source,
                                      const json_t *types, bool on)
{
    const int32_t n_layers = config->n_layers;
    if (!json_is_array(types) || json_array_size(types) != (size_t)n_layers)
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: \"layer_types\" is not a list of num_hidden_layers (%d) names", source->origin, n_layers);
    for (int32_t i = 0; i < n_layers; i++) {
        const json_t *type = json_array_get(types, (size_t)i);
        const char *word = json_is_string(type) ? json_string_value(type) : "";
        if (strcmp(word, "full_attention") == 0)
            continue;
        if (strcmp(word, "sliding_attention") == 0 && on) {
            set_sliding(config, i);
            continue;
        }
        char key[40];
        snprintf(key, sizeof key, "layer_types[%d]", i);
        return config_refuse(source, COHORT_ERR_UNSUPPORTED, key, type,
                             strcmp(word, "sliding_attention") == 0
                                 ? "\"full_attention\": the file states no window (use_sliding_window, sliding_window)"
                                 : "\"full_attention\" or \"sliding_attention\": this version supports no other");
    }
    return COHORT_OK;
}

/* As in transformers. WINDOWS_BY_FLAG: a window is there only with use_sliding_window, and slides in the layers from
 * max_window_layers on unless layer_types says which. WINDOWS_EVERYWHERE: sliding_window slides in every layer unless it
 * is null. WINDOWS_ALL_BY_FLAG: both. A window of max_position_embeddings or more hides nothing, and is none. */
static cohort_status read_windows(struct model_config *config, const struct config_source *source)
{
    const struct architecture *family = config->architecture;
    const json_t *types = config_get(source->json, "layer_types");
    const json_t *window = json_object_get(source->json, "sliding_window");
    int32_t size = family->absent.sliding_window, first = 0;
    bool on = family->windows == WINDOWS_EVERYWHERE;
    if (family->windows == WINDOWS_NONE)
        return COHORT_OK;
    if (family->windows == WINDOWS_BY_FLAG || family->windows == WINDOWS_ALL_BY_FLAG)
        TRY(config_flag(source, "use_sliding_window", false, &on));
    if (family->windows != WINDOWS_BY_FLAG && types != NULL) /* the class of transformers does not read it */
        return config_refuse(source, COHORT_ERR_UNSUPPORTED, "layer_types", types,
                             "no such key in a model of this family, whose layers are all alike");
    if (json_is_null(window) || (window == NULL && size == 0))
        on = false;
    else if (on)
        TRY(config_size(source, "sliding_window", 1, INT32_MAX, size, &size));
    if (on && family->windows == WINDOWS_BY_FLAG)
        TRY(config_size(source, "max_window_layers", 0, INT32_MAX, family->absent.max_window_layers, &first));
    config->window = on ? size : 0;
    if (types != NULL)
        TRY(read_layer_types(config, source, types, on));
    else
        for (int32_t i = first; on && i < config->n_layers; i++)
            set_sliding(config, i);
    if (size >= config->max_positions)
        memset(config->sliding, 0, sizeof config->sliding);
    return COHORT_OK;
}

/* A family has biases always, never, or as a key says; where it has none a key that asks for them is refused. */
static cohort_status read_biases(struct model_config *config, const struct config_source *source)
{
    const struct architecture *family = config->architecture;
    const bool attention = family->tensors[TENSOR_QUERY_BIAS] != NULL, mlp = family->tensors[TENSOR_DOWN_BIAS] != NULL;
    if (family->biased) {
        config->attention_bias = true;
        return config_flag_off(source, "mlp_bias");
    }
    TRY(attention ? config_flag(source, "attention_bias", false, &config->attention_bias)
                  : config_flag_off(source, "attention_bias"));
    return mlp ? config_flag(source, "mlp_bias", false, &config->mlp_bias) : config_flag_off(source, "mlp_bias");
}

static cohort_status check_supported(const struct config_source *source)
{
    TRY(check_absent(source, "quantization_config", "use the unquantized checkpoint"));
    TRY(check_absent(source, "quantization", "use the unquantized checkpoint"));
    TRY(config_number_only(source, source->json, "partial_rotary_factor", 1.0));
    TRY(config_flag_off(source, "rope_interleaved"));
    const json_t *act = json_object_get(source->json, "hidden_act");
    const char *name = json_string_value(act);
    /* transformers has swish as another name of silu. */
    if (act != NULL && (name == NULL || (strcmp(name, "silu") != 0 && strcmp(name, "swish") != 0)))
        return config_refuse(source, COHORT_ERR_UNSUPPORTED, "hidden_act", act,
                             "\"silu\": this version supports no other");
    return COHORT_OK;
}

/* ---- special tokens ---- */

/* An id that no token can have stands for none, as in transformers: -1 in many files, and those beyond the vocabulary,
 * which are never drawn. */
static cohort_status read_id(const struct model_config *config, const struct config_source *source, const char *key,
                             const json_t *value, int32_t *out)
{
    if (!json_is_integer(value))
        return config_refuse(source, COHORT_ERR_FORMAT, key, value, "a token id");
    json_int_t id = json_integer_value(value);
    *out = id < 0 || id >= config->vocab_size ? -1 : (int32_t)id;
    return COHORT_OK;
}

static cohort_status add_eos(struct model_config *config, const struct config_source *source, int32_t id)
{
    if (id < 0)
        return COHORT_OK;
    for (int32_t i = 0; i < config->n_eos; i++)
        if (config->eos_ids[i] == id)
            return COHORT_OK;
    if (config->n_eos == MODEL_MAX_EOS)
        return error_set(source->err, COHORT_ERR_UNSUPPORTED, "%s: \"eos_token_id\" lists more than %d ids",
                         source->origin, MODEL_MAX_EOS);
    config->eos_ids[config->n_eos++] = id;
    return COHORT_OK;
}

static cohort_status add_all_eos(struct model_config *config, const struct config_source *source)
{
    const json_t *eos = config_get(source->json, "eos_token_id");
    const bool list = json_is_array(eos);
    for (size_t i = 0; eos != NULL && i < (list ? json_array_size(eos) : 1); i++) {
        int32_t id = -1;
        const json_t *item = list ? json_array_get(eos, i) : eos;
        TRY(read_id(config, source, "eos_token_id", item, &id));
        if (json_integer_value(item) >= config->vocab_size)
            config->eos_beyond = json_integer_value(item);
        TRY(add_eos(config, source, id));
    }
    return COHORT_OK;
}

/* Of bos and pad those that source states replace what config holds. Every eos counts: source's come first, then what
 * config held. */
static cohort_status read_ids(struct model_config *config, const struct config_source *source)
{
    const json_t *bos = config_get(source->json, "bos_token_id");
    const json_t *pad = config_get(source->json, "pad_token_id");
    const int32_t n_held = config->n_eos;
    int32_t held[MODEL_MAX_EOS];
    memcpy(held, config->eos_ids, sizeof held);
    config->n_eos = 0;
    TRY(add_all_eos(config, source));
    for (int32_t i = 0; i < n_held; i++)
        TRY(add_eos(config, source, held[i]));
    if (bos != NULL)
        TRY(read_id(config, source, "bos_token_id", bos, &config->bos_id));
    if (pad != NULL)
        TRY(read_id(config, source, "pad_token_id", pad, &config->pad_id));
    return COHORT_OK;
}

/* ---- the whole file ---- */

static cohort_status read_dtype(struct model_config *config, const struct config_source *source)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } names[] = {{"float32", DTYPE_F32},
                 {"float", DTYPE_F32},
                 {"bfloat16", DTYPE_BF16},
                 {"float16", DTYPE_F16},
                 {"half", DTYPE_F16}};
    const char *key = config_get(source->json, "dtype") != NULL ? "dtype" : "torch_dtype";
    const json_t *value = config_get(source->json, key);
    const char *name = json_is_string(value) ? json_string_value(value) : "";
    config->dtype = DTYPE_F32;
    config->has_dtype = value != NULL && strcmp(name, "auto") != 0;
    if (!config->has_dtype)
        return COHORT_OK;
    if (strncmp(name, "torch.", 6) == 0)
        name += 6;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i].name) == 0) {
            config->dtype = names[i].dtype;
            return COHORT_OK;
        }
    }
    return config_refuse(source, COHORT_ERR_UNSUPPORTED, key, value, "\"bfloat16\", \"float16\" or \"float32\"");
}

static cohort_status read_sizes(struct model_config *config, const struct config_source *source)
{
    const struct config_defaults *absent = &config->architecture->absent;
    TRY(config_size(source, "vocab_size", 1, MAX_VOCAB, absent->vocab_size, &config->vocab_size));
    TRY(config_size(source, "hidden_size", 1, MAX_WIDTH, absent->hidden_size, &config->hidden_size));
    TRY(config_size(source, "num_hidden_layers", 1, MAX_LAYERS, absent->n_layers, &config->n_layers));
    TRY(config_size(source, "num_attention_heads", 1, MAX_HEADS, absent->n_heads, &config->n_heads));
    TRY(config_size(source, "intermediate_size", 1, MAX_FFN, absent->intermediate_size, &config->intermediate_size));
    TRY(config_size(source, "max_position_embeddings", 1, MAX_POSITIONS, absent->max_positions,
                    &config->max_positions));
    const int32_t head_dim = absent->head_dim > 0 ? absent->head_dim : config->hidden_size / config->n_heads;
    config->head_dim = head_dim;
    /* null is as good as absent where the class works it out itself. */
    if (absent->head_dim > 0 || !json_is_null(json_object_get(source->json, "head_dim")))
        TRY(config_size(source, "head_dim", 2, MAX_HEAD_DIM, head_dim, &config->head_dim));
    config->n_kv_heads = config->n_heads; /* what null means */
    if (!json_is_null(json_object_get(source->json, "num_key_value_heads")))
        TRY(config_size(source, "num_key_value_heads", 1, MAX_HEADS,
                        absent->n_kv_heads > 0 ? absent->n_kv_heads : config->n_heads, &config->n_kv_heads));
    if (config->n_heads % config->n_kv_heads != 0)
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: \"num_attention_heads\" (%d) is not a multiple of "
                         "\"num_key_value_heads\" (%d%s)",
                         source->origin, config->n_heads, config->n_kv_heads,
                         json_object_get(source->json, "num_key_value_heads") == NULL
                             ? ", the default, since the key is absent"
                             : "");
    if (config->head_dim % 2 != 0 || config->head_dim < 2 || config->head_dim > MAX_HEAD_DIM)
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: \"head_dim\" is %d%s, expected an even size (rotary embeddings turn pairs) up to %d",
                         source->origin, config->head_dim,
                         config_get(source->json, "head_dim") == NULL
                             ? " (hidden_size / num_attention_heads, since the key is absent)"
                             : "",
                         MAX_HEAD_DIM);
    const json_t *dropout = config_get(source->json, "attention_dropout");
    config->attention_dropout = json_number_value(dropout);
    if (dropout != NULL &&
        (!json_is_number(dropout) || !(config->attention_dropout >= 0.0) || !(config->attention_dropout < 1.0)))
        return config_refuse(source, COHORT_ERR_FORMAT, "attention_dropout", dropout, "a number from 0 to less than 1");
    return COHORT_OK;
}

static cohort_status parse_object(json_t **out, const char *text, size_t length, const char *origin, cohort_error *err)
{
    cohort_status status = json_text_parse(out, text, length, origin, 1, 0, err);
    const char *found = wrong_file(text, length, WRONG_FILE_JSON);
    if (status == COHORT_ERR_FORMAT && found != NULL)
        return error_set(err, status, "%s: %s", origin, found);
    TRY(status);
    if (!json_is_object(*out))
        return error_set(err, COHORT_ERR_FORMAT, "%s: expected a JSON object", origin);
    return COHORT_OK;
}

cohort_status model_config_parse(struct model_config *config, const char *text, size_t length, const char *origin,
                                 cohort_error *err)
{
    cohort_status status = COHORT_OK;
    json_t *json = NULL;
    memset(config, 0, sizeof *config);
    config->pad_id = -1;
    config->bos_id = -1;
    TRY_GOTO(parse_object(&json, text, length, origin, err));
    struct config_source source = {json, origin, err};
    TRY_GOTO(read_architecture(config, &source));
    const struct config_defaults *absent = &config->architecture->absent;
    TRY_GOTO(check_supported(&source));
    TRY_GOTO(read_sizes(config, &source));
    TRY_GOTO(expert_config_read(&config->experts, &source, absent, config->n_layers, config->intermediate_size));
    TRY_GOTO(read_biases(config, &source));
    TRY_GOTO(read_windows(config, &source));
    TRY_GOTO(rope_config_read(&config->rope, &source, absent->rope_theta, config->max_positions));
    const json_t *eps = json_object_get(source.json, "rms_norm_eps");
    config->rms_norm_eps = eps == NULL ? absent->rms_norm_eps : (float)json_number_value(eps);
    if ((eps != NULL && !json_is_number(eps)) || !(config->rms_norm_eps > 0.0f) || config->rms_norm_eps >= 1.0f) {
        status = config_refuse(&source, COHORT_ERR_FORMAT, "rms_norm_eps", eps, "a number between 0 and 1");
        goto cleanup;
    }
    TRY_GOTO(config_flag(&source, "tie_word_embeddings", absent->tie_embeddings, &config->tie_embeddings));
    TRY_GOTO(read_dtype(config, &source));
    TRY_GOTO(read_ids(config, &source));
    if (json_object_get(json, "eos_token_id") == NULL && absent->eos_id > 0 && absent->eos_id < config->vocab_size)
        TRY_GOTO(add_eos(config, &source, absent->eos_id));
    if (json_object_get(json, "bos_token_id") == NULL && absent->bos_id > 0 && absent->bos_id < config->vocab_size)
        config->bos_id = absent->bos_id;
    const json_t *range = json_object_get(json, "initializer_range");
    config->initializer_range = json_is_number(range) ? json_number_value(range) : absent->initializer_range;
cleanup:
    json_decref(json);
    return status;
}

/* Adds generation_config.json's content to a parsed config. */
static cohort_status parse_generation(struct model_config *config, const char *text, size_t length, const char *origin,
                                      cohort_error *err)
{
    json_t *json = NULL;
    cohort_status status = parse_object(&json, text, length, origin, err);
    const struct config_source source = {json, origin, err};
    if (status == COHORT_OK)
        status = read_ids(config, &source);
    json_decref(json);
    return status;
}

void config_files_free(struct config_files *files)
{
    text_free(&files->config);
    text_free(&files->generation);
}

cohort_status model_config_load(struct model_config *config, struct config_files *files, const char *dir,
                                cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *path = NULL;
    char *generation_path = NULL;
    bool there = false;
    struct config_files own = {0};
    memset(config, 0, sizeof *config);
    TRY_GOTO(file_join(&path, dir, "config.json", err));
    TRY_GOTO(file_exists(path, &there, err));
    if (!there) {
        status = model_folder_refuse(dir, "no config.json", err);
        goto cleanup;
    }
    TRY_GOTO(file_read(path, MAX_CONFIG_BYTES, &own.config, err));
    TRY_GOTO(model_config_parse(config, own.config.data, own.config.length, path, err));
    if (config->experts.n > 0)
        TRY_GOTO(expert_layout_look(dir, &config->experts.fused, err));
    TRY_GOTO(file_join(&generation_path, dir, "generation_config.json", err));
    TRY_GOTO(file_exists(generation_path, &there, err));
    if (there) {
        TRY_GOTO(file_read(generation_path, MAX_CONFIG_BYTES, &own.generation, err));
        TRY_GOTO(parse_generation(config, own.generation.data, own.generation.length, generation_path, err));
    }
    if (files != NULL) {
        *files = own;
        own = (struct config_files){0};
    }
cleanup:
    config_files_free(&own);
    mem_free(path);
    mem_free(generation_path);
    return status;
}
