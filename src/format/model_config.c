#include "format/model_config.h"

#include "base/number.h"
#include "base/json_text.h"
#include "format/architecture.h"
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
    MAX_LAYERS = 1 << 12,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = 1 << 10,
    MAX_POSITIONS = 1 << 28,
    MAX_CONFIG_BYTES = 1 << 24
};

/* What is being read, for messages. */
struct source {
    const json_t *json;
    const char *origin;
    cohort_error *err;
};

/* ---- single keys ---- */

/* JSON null counts as absent, as it does for transformers. */
static const json_t *get(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* The value as it stands in the file, cut to fit a message. */
static const char *show(const json_t *value, char *buffer, size_t size)
{
    struct text text = {0};
    bool fits =
        json_text_write(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9), &text, NULL) == COHORT_OK &&
        text.length < size;
    snprintf(buffer, size, "%s", fits ? text.data : "a long value");
    text_free(&text);
    return buffer;
}

static cohort_status refuse(const struct source *source, cohort_status status, const char *key, const json_t *value,
                            const char *expected)
{
    char shown[160];
    return error_set(source->err, status, "%s: \"%s\" is %s, expected %s", source->origin, key,
                     value == NULL ? "missing" : show(value, shown, sizeof shown), expected);
}

/* A whole number; written 32.0 it is one too. absent: the value of a key that is not there. */
static cohort_status read_size(const struct source *source, const char *key, int32_t least, int32_t most,
                               int32_t absent, int32_t *out)
{
    const json_t *value = json_object_get(source->json, key);
    double number = json_number_value(value);
    *out = absent;
    if (value == NULL)
        return COHORT_OK;
    if (!json_is_number(value) || !(number >= least) || !(number <= most) || number != floor(number)) {
        char expected[80];
        snprintf(expected, sizeof expected, "a whole number from %d to %d", least, most);
        return refuse(source, COHORT_ERR_FORMAT, key, value, expected);
    }
    *out = (int32_t)number;
    return COHORT_OK;
}

static cohort_status read_flag(const struct source *source, const char *key, bool absent, bool *out)
{
    const json_t *value = get(source->json, key);
    if (value != NULL && !json_is_boolean(value))
        return refuse(source, COHORT_ERR_FORMAT, key, value, "true or false");
    *out = value == NULL ? absent : json_is_true(value);
    return COHORT_OK;
}

/* ---- what we do not do, refused by name (I7) ---- */

/* names: of the key architectures. It is absent, empty, or holds the row's class alone. */
static bool has_class(const json_t *names, const struct architecture *row)
{
    if (names == NULL || (json_is_array(names) && json_array_size(names) == 0))
        return true;
    const char *name = json_string_value(json_array_get(names, 0));
    return json_array_size(names) == 1 && name != NULL && strcmp(name, row->class_name) == 0;
}

static bool has_type(const json_t *type, const struct architecture *row)
{
    return type == NULL || (json_is_string(type) && strcmp(json_string_value(type), row->model_type) == 0);
}

/* The row of a family that both keys name, as far as they are there. */
static cohort_status read_architecture(struct model_config *config, const struct source *source)
{
    const json_t *names = get(source->json, "architectures"), *type = get(source->json, "model_type");
    const json_t *server = get(source->json, "error");
    bool named = false;
    char supported[400] = "", types[160] = "";
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
        return refuse(source, COHORT_ERR_FORMAT, "model_type", NULL, types);
    for (size_t i = 0; i < N_ARCHITECTURES; i++) {
        named = named || has_class(names, &architectures[i]);
        if (has_class(names, &architectures[i]) && has_type(type, &architectures[i])) {
            config->architecture = &architectures[i];
            return COHORT_OK;
        }
    }
    return named ? refuse(source, COHORT_ERR_UNSUPPORTED, "model_type", type, supported)
                 : refuse(source, COHORT_ERR_UNSUPPORTED, "architectures", names, supported);
}

static cohort_status check_flag_off(const struct source *source, const char *key)
{
    bool on = false;
    TRY(read_flag(source, key, false, &on));
    if (on)
        return refuse(source, COHORT_ERR_UNSUPPORTED, key, get(source->json, key),
                      "false: this version does not support it");
    return COHORT_OK;
}

static cohort_status check_absent(const struct source *source, const char *key, const char *advice)
{
    if (get(source->json, key) != NULL)
        return error_set(source->err, COHORT_ERR_UNSUPPORTED,
                         "%s: \"%s\" is present: quantized checkpoints are not supported; %s", source->origin, key,
                         advice);
    return COHORT_OK;
}

static cohort_status check_number(const struct source *source, const json_t *object, const char *key, double only)
{
    const json_t *value = get(object, key);
    if (value == NULL || (json_is_number(value) && json_number_value(value) == only))
        return COHORT_OK;
    char expected[80];
    number_format(expected, sizeof expected, "%g: this version supports no other", only);
    return refuse(source, COHORT_ERR_UNSUPPORTED, key, value, expected);
}

/* Layers that slide are refused, windows that never do are read. As in transformers a window is there only with
 * use_sliding_window, and slides in the layers from max_window_layers on unless layer_types says which. A window of
 * max_position_embeddings or more hides nothing. */
static cohort_status check_sliding(const struct source *source, const struct model_config *config)
{
    const int32_t n_layers = config->n_layers;
    const json_t *types = get(source->json, "layer_types"), *window = json_object_get(source->json, "sliding_window");
    int32_t size = config->architecture->absent.sliding_window, first = config->architecture->absent.max_window_layers;
    bool on = false;
    TRY(read_flag(source, "use_sliding_window", false, &on));
    if (json_is_null(window))
        on = false;
    else if (on)
        TRY(read_size(source, "sliding_window", 1, INT32_MAX, size, &size));
    if (on)
        TRY(read_size(source, "max_window_layers", 0, INT32_MAX, first, &first));
    const bool wide = on && size >= config->max_positions;
    if (types == NULL && on && !wide && first < n_layers)
        return error_set(source->err, COHORT_ERR_UNSUPPORTED,
                         "%s: \"use_sliding_window\" is true: the layers from "
                         "\"max_window_layers\" (%d) to %d see a window of %d positions only; "
                         "expected full attention in every layer: this version supports no other",
                         source->origin, first, n_layers - 1, size);
    if (types == NULL)
        return COHORT_OK;
    if (!json_is_array(types) || json_array_size(types) != (size_t)n_layers)
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: \"layer_types\" is not a list of num_hidden_layers (%d) names", source->origin, n_layers);
    for (int32_t i = 0; i < n_layers; i++) {
        const json_t *type = json_array_get(types, (size_t)i);
        if (wide && json_is_string(type) && strcmp(json_string_value(type), "sliding_attention") == 0)
            continue;
        if (!json_is_string(type) || strcmp(json_string_value(type), "full_attention") != 0) {
            char key[40];
            snprintf(key, sizeof key, "layer_types[%d]", i);
            return refuse(source, COHORT_ERR_UNSUPPORTED, key, type,
                          "\"full_attention\": this version supports no other");
        }
    }
    return COHORT_OK;
}

static cohort_status check_supported(const struct source *source, const struct architecture *family)
{
    TRY(check_absent(source, "quantization_config", "use the unquantized checkpoint"));
    TRY(check_absent(source, "quantization", "use the unquantized checkpoint"));
    if (family->tensors[TENSOR_QUERY_BIAS] == NULL) /* else the family has biases whatever the key says */
        TRY(check_flag_off(source, "attention_bias"));
    TRY(check_number(source, source->json, "partial_rotary_factor", 1.0));
    const json_t *act = json_object_get(source->json, "hidden_act");
    const char *name = json_string_value(act);
    /* transformers has swish as another name of silu. */
    if (act != NULL && (name == NULL || (strcmp(name, "silu") != 0 && strcmp(name, "swish") != 0)))
        return refuse(source, COHORT_ERR_UNSUPPORTED, "hidden_act", act, "\"silu\": this version supports no other");
    return COHORT_OK;
}

/* ---- rope ---- */

/* One of rope_scaling (transformers 4) and rope_parameters (5): only the default type, whose other keys nobody reads,
 * and the linear one by a factor of 1, which is the same. */
static cohort_status check_rope_object(const struct source *source, const char *where, const json_t *rope)
{
    if (!json_is_object(rope))
        return refuse(source, COHORT_ERR_FORMAT, where, rope, "an object or null");
    char name[160];
    const char *key = get(rope, "rope_type") != NULL ? "rope_type" : "type";
    const json_t *type = get(rope, key), *sections = get(rope, "mrope_section");
    const char *kind = json_string_value(type);
    snprintf(name, sizeof name, "%s.%s", where, key);
    if (kind != NULL && strcmp(kind, "linear") == 0) {
        const json_t *factor = get(rope, "factor");
        if (!json_is_number(factor) || json_number_value(factor) != 1.0)
            return error_set(source->err, COHORT_ERR_UNSUPPORTED,
                             "%s: \"%s\" is \"linear\" with a factor other than 1, expected "
                             "\"default\": this version supports no other",
                             source->origin, name);
    } else if (type != NULL && (kind == NULL || strcmp(kind, "default") != 0)) {
        return refuse(source, COHORT_ERR_UNSUPPORTED, name, type, "\"default\": this version supports no other");
    }
    snprintf(name, sizeof name, "%s.mrope_section", where);
    if (sections != NULL)
        return refuse(source, COHORT_ERR_UNSUPPORTED, name, sections,
                      "no such key: it belongs to models of text and images");
    return check_number(source, rope, "partial_rotary_factor", 1.0);
}

static cohort_status read_rope(struct model_config *config, const struct source *source)
{
    static const char *const places[] = {"rope_scaling", "rope_parameters"};
    const json_t *theta = get(source->json, "rope_theta");
    const char *where = "rope_theta";
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const json_t *rope = get(source->json, places[i]);
        if (rope == NULL)
            continue;
        TRY(check_rope_object(source, places[i], rope));
        const json_t *inner = get(rope, "rope_theta");
        if (inner != NULL && theta != NULL && json_number_value(inner) != json_number_value(theta))
            return error_set(source->err, COHORT_ERR_FORMAT,
                             "%s: \"%s.rope_theta\" is %g but \"%s\" is %g; expected one value", source->origin,
                             places[i], json_number_value(inner), where, json_number_value(theta));
        if (theta == NULL)
            theta = inner;
    }
    double value = theta == NULL ? config->architecture->absent.rope_theta : json_number_value(theta);
    if ((theta != NULL && !json_is_number(theta)) || !(value >= 1.0) || !(value <= 1e15))
        return refuse(source, COHORT_ERR_FORMAT, where, theta, "a number from 1 to 1e15");
    config->rope_theta = value;
    return COHORT_OK;
}

/* ---- special tokens ---- */

/* An id that no token can have stands for none, as in transformers: -1 in many files, and those beyond the vocabulary,
 * which are never drawn. */
static cohort_status read_id(const struct model_config *config, const struct source *source, const char *key,
                             const json_t *value, int32_t *out)
{
    if (!json_is_integer(value))
        return refuse(source, COHORT_ERR_FORMAT, key, value, "a token id");
    json_int_t id = json_integer_value(value);
    *out = id < 0 || id >= config->vocab_size ? -1 : (int32_t)id;
    return COHORT_OK;
}

static cohort_status add_eos(struct model_config *config, const struct source *source, int32_t id)
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

static cohort_status add_all_eos(struct model_config *config, const struct source *source)
{
    const json_t *eos = get(source->json, "eos_token_id");
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
static cohort_status read_ids(struct model_config *config, const struct source *source)
{
    const json_t *bos = get(source->json, "bos_token_id");
    const json_t *pad = get(source->json, "pad_token_id");
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

static cohort_status read_dtype(struct model_config *config, const struct source *source)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } names[] = {{"float32", DTYPE_F32},
                 {"float", DTYPE_F32},
                 {"bfloat16", DTYPE_BF16},
                 {"float16", DTYPE_F16},
                 {"half", DTYPE_F16}};
    const char *key = get(source->json, "dtype") != NULL ? "dtype" : "torch_dtype";
    const json_t *value = get(source->json, key);
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
    return refuse(source, COHORT_ERR_UNSUPPORTED, key, value, "\"bfloat16\", \"float16\" or \"float32\"");
}

static cohort_status read_sizes(struct model_config *config, const struct source *source)
{
    const struct config_defaults *absent = &config->architecture->absent;
    TRY(read_size(source, "vocab_size", 1, MAX_VOCAB, absent->vocab_size, &config->vocab_size));
    TRY(read_size(source, "hidden_size", 1, MAX_WIDTH, absent->hidden_size, &config->hidden_size));
    TRY(read_size(source, "num_hidden_layers", 1, MAX_LAYERS, absent->n_layers, &config->n_layers));
    TRY(read_size(source, "num_attention_heads", 1, MAX_HEADS, absent->n_heads, &config->n_heads));
    TRY(read_size(source, "intermediate_size", 1, MAX_FFN, absent->intermediate_size, &config->intermediate_size));
    TRY(read_size(source, "max_position_embeddings", 1, MAX_POSITIONS, absent->max_positions, &config->max_positions));
    const int32_t head_dim = absent->head_dim > 0 ? absent->head_dim : config->hidden_size / config->n_heads;
    TRY(read_size(source, "head_dim", 2, MAX_HEAD_DIM, head_dim, &config->head_dim));
    config->n_kv_heads = config->n_heads; /* what null means */
    if (!json_is_null(json_object_get(source->json, "num_key_value_heads")))
        TRY(read_size(source, "num_key_value_heads", 1, MAX_HEADS, absent->n_kv_heads, &config->n_kv_heads));
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
                         json_object_get(source->json, "head_dim") == NULL
                             ? " (hidden_size / num_attention_heads, since the key is absent)"
                             : "",
                         MAX_HEAD_DIM);
    const json_t *dropout = get(source->json, "attention_dropout");
    config->attention_dropout = json_number_value(dropout);
    if (dropout != NULL &&
        (!json_is_number(dropout) || !(config->attention_dropout >= 0.0) || !(config->attention_dropout < 1.0)))
        return refuse(source, COHORT_ERR_FORMAT, "attention_dropout", dropout, "a number from 0 to less than 1");
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
    struct source source = {json, origin, err};
    TRY_GOTO(read_architecture(config, &source));
    const struct config_defaults *absent = &config->architecture->absent;
    TRY_GOTO(check_supported(&source, config->architecture));
    TRY_GOTO(read_sizes(config, &source));
    TRY_GOTO(check_sliding(&source, config));
    TRY_GOTO(read_rope(config, &source));
    const json_t *eps = json_object_get(source.json, "rms_norm_eps");
    config->rms_norm_eps = eps == NULL ? absent->rms_norm_eps : (float)json_number_value(eps);
    if ((eps != NULL && !json_is_number(eps)) || !(config->rms_norm_eps > 0.0f) || config->rms_norm_eps >= 1.0f) {
        status = refuse(&source, COHORT_ERR_FORMAT, "rms_norm_eps", eps, "a number between 0 and 1");
        goto cleanup;
    }
    TRY_GOTO(read_flag(&source, "tie_word_embeddings", absent->tie_embeddings, &config->tie_embeddings));
    TRY_GOTO(read_dtype(config, &source));
    TRY_GOTO(read_ids(config, &source));
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
    const struct source source = {json, origin, err};
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
