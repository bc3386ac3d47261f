/* Model configs: published files, both spellings of rope and dtype, every refusal by its message,
 * presets, the parameter table and what is written back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "format/model_preset.h"

#include "format/architecture.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort-config-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static void put(const char *name, const char *content)
{
    char path[160];
    cohort_error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (content == NULL)
        unlink(path);
    else
        assert_int_equal(file_write_atomic(path, content, strlen(content), &err), COHORT_OK);
}

static json_t *read_json(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *json = json_load_file(path, 0, NULL);
    assert_non_null(json);
    return json;
}

/* As Qwen publishes Qwen3-0.6B. */
static const char published[] =
    "{\"architectures\": [\"Qwen3ForCausalLM\"], \"attention_bias\": false, "
    "\"attention_dropout\": 0.0, \"bos_token_id\": 151643, \"eos_token_id\": 151645, "
    "\"head_dim\": 128, \"hidden_act\": \"silu\", \"hidden_size\": 1024, "
    "\"initializer_range\": 0.02, \"intermediate_size\": 3072, \"max_position_embeddings\": 40960, "
    "\"max_window_layers\": 28, \"model_type\": \"qwen3\", \"num_attention_heads\": 16, "
    "\"num_hidden_layers\": 28, \"num_key_value_heads\": 8, \"rms_norm_eps\": 1e-06, "
    "\"rope_scaling\": null, \"rope_theta\": 1000000, \"sliding_window\": null, "
    "\"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\", "
    "\"transformers_version\": \"4.51.0\", \"use_cache\": true, \"use_sliding_window\": false, "
    "\"vocab_size\": 151936}";
static const char published_generation[] =
    "{\"bos_token_id\": 151643, \"do_sample\": true, \"eos_token_id\": [151645, 151643], "
    "\"pad_token_id\": 151643, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95, "
    "\"transformers_version\": \"4.51.0\"}";

static void test_published(void **state)
{
    (void)state;
    struct model_config config;
    cohort_error err = {0};
    put("config.json", published);
    put("generation_config.json", published_generation);
    assert_int_equal(model_config_load(&config, NULL, folder, &err), COHORT_OK);
    assert_int_equal(config.vocab_size, 151936);
    assert_int_equal(config.hidden_size, 1024);
    assert_int_equal(config.n_layers, 28);
    assert_int_equal(config.n_heads, 16);
    assert_int_equal(config.n_kv_heads, 8);
    assert_int_equal(config.head_dim, 128);
    assert_int_equal(config.intermediate_size, 3072);
    assert_int_equal(config.max_positions, 40960);
    assert_true(config.rms_norm_eps == 1e-6f);
    assert_true(config.rope.theta == 1e6);
    assert_true(config.tie_embeddings);
    assert_int_equal(config.dtype, DTYPE_BF16);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_ids[0], 151645);
    assert_int_equal(config.eos_ids[1], 151643);
    assert_int_equal(config.pad_id, 151643);
    assert_int_equal(config.bos_id, 151643);

    put("generation_config.json", NULL);
    assert_int_equal(model_config_load(&config, NULL, folder, &err), COHORT_OK);
    assert_int_equal(config.n_eos, 1);
    assert_int_equal(config.eos_ids[0], 151645);
    assert_int_equal(config.pad_id, -1);

    put("generation_config.json", "{\"eos_token_id\": 151643}"); /* adds, and comes first */
    assert_int_equal(model_config_load(&config, NULL, folder, &err), COHORT_OK);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_ids[0], 151643);
    assert_int_equal(config.eos_ids[1], 151645);

    put("generation_config.json", "{\"eos_token_id\": [1, 200000, -1, 151645], "
                                  "\"pad_token_id\": -1}"); /* ids that no token has are none */
    assert_int_equal(model_config_load(&config, NULL, folder, &err), COHORT_OK);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_ids[0], 1);
    assert_int_equal(config.eos_ids[1], 151645);
    assert_int_equal(config.pad_id, -1);

    put("generation_config.json", "{\"eos_token_id\": [1, \"</s>\"]}");
    assert_int_equal(model_config_load(&config, NULL, folder, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "generation_config.json: \"eos_token_id\" is \"</s>\", "
                                        "expected a token id"));
    put("generation_config.json", "{\"eos_token_id\": ");
    assert_int_equal(model_config_load(&config, NULL, folder, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "generation_config.json:1:"));
    put("generation_config.json", NULL);
    put("config.json", NULL);
    assert_int_equal(model_config_load(&config, NULL, folder, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "config.json"));
}

/* The published config with keys replaced (a JSON object; a key mapped to "DEL" is removed). */
static cohort_status parse_with(struct model_config *config, const char *changes, cohort_error *err)
{
    json_error_t where;
    json_t *json = json_loads(published, 0, &where);
    json_t *change = json_loads(changes, 0, &where);
    const char *key = NULL;
    json_t *value = NULL;
    assert_non_null(json);
    if (change == NULL)
        fail_msg("%s: %s", changes, where.text);
    assert_int_equal(json_object_update(json, change), 0);
    json_object_foreach(change, key, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "DEL") == 0)
            json_object_del(json, key);
    }
    char *text = json_dumps(json, 0);
    cohort_status status = model_config_parse(config, text, strlen(text), "x.json", err);
    free(text);
    json_decref(json);
    json_decref(change);
    return status;
}

static void test_accepted(void **state)
{
    (void)state;
    struct model_config config;
    static const char *const accepted[] = {
        "{\"architectures\": \"DEL\"}",
        "{\"model_type\": \"DEL\"}",
        "{\"rope_theta\": \"DEL\", \"rope_parameters\": {\"rope_theta\": 1000000}}",
        "{\"rope_theta\": null, \"rope_parameters\": {\"rope_theta\": 1e6, \"type\": \"default\"}}",
        "{\"rope_scaling\": {\"type\": \"default\"}}",
        "{\"rope_scaling\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 1.0}}",
        "{\"rope_parameters\": {\"rope_theta\": 1000000.0, \"rope_type\": \"default\"}}",
        "{\"use_sliding_window\": false, \"sliding_window\": 4096}",
        "{\"use_sliding_window\": \"DEL\", \"attention_bias\": \"DEL\", \"hidden_act\": \"DEL\"}",
        "{\"quantization_config\": null}",
        "{\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", \"full_attention\"]}",
        "{\"something_new\": [1, {\"a\": 2}]}"};
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        cohort_error err = {0};
        if (parse_with(&config, accepted[i], &err) != COHORT_OK)
            fail_msg("%s: %s", accepted[i], err.message);
        assert_true(config.rope.theta == 1e6);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct model_config config;
    cohort_error err = {0};
    assert_int_equal(parse_with(&config,
                                "{\"head_dim\": \"DEL\", \"num_key_value_heads\": null, "
                                "\"tie_word_embeddings\": \"DEL\", \"torch_dtype\": \"DEL\", "
                                "\"eos_token_id\": null, \"bos_token_id\": \"DEL\"}",
                                &err),
                     COHORT_OK);
    assert_int_equal(config.head_dim, 128);
    assert_int_equal(config.n_kv_heads, 16);
    assert_false(config.tie_embeddings);
    assert_int_equal(config.dtype, DTYPE_F32);
    assert_int_equal(config.n_eos, 0);
    assert_int_equal(config.bos_id, -1);
    assert_int_equal(parse_with(&config,
                                "{\"dtype\": \"float16\", \"eos_token_id\": [5, 6, 5], "
                                "\"pad_token_id\": 0}",
                                &err),
                     COHORT_OK);
    assert_int_equal(config.dtype, DTYPE_F16);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_ids[1], 6);
    assert_int_equal(config.pad_id, 0);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        cohort_status status;
        const char *part;
    } cases[] = {
        {"{\"architectures\": [\"PhiForCausalLM\"]}", COHORT_ERR_UNSUPPORTED,
         "\"architectures\" is [\"PhiForCausalLM\"], expected Qwen3ForCausalLM"},
        {"{\"architectures\": [\"LlamaForCausalLM\"]}", COHORT_ERR_UNSUPPORTED, "\"model_type\" is \"qwen3\""},
        {"{\"architectures\": [\"Qwen3ForCausalLM\", \"X\"]}", COHORT_ERR_UNSUPPORTED, "\"architectures\" is"},
        {"{\"architectures\": \"Qwen3ForCausalLM\"}", COHORT_ERR_UNSUPPORTED, "\"architectures\""},
        {"{\"model_type\": \"qwen3_moe\"}", COHORT_ERR_UNSUPPORTED,
         "\"model_type\" is \"qwen3_moe\", expected Qwen3ForCausalLM"},
        {"{\"model_type\": \"DEL\", \"architectures\": \"DEL\"}", COHORT_ERR_FORMAT, "\"model_type\" is missing"},
        {"{\"mlp_bias\": true}", COHORT_ERR_UNSUPPORTED, "\"mlp_bias\" is true"},
        {"{\"rope_interleaved\": true}", COHORT_ERR_UNSUPPORTED, "\"rope_interleaved\" is true"},
        {"{\"attention_bias\": 0}", COHORT_ERR_FORMAT, "\"attention_bias\" is 0"},
        {"{\"attention_dropout\": 1.0}", COHORT_ERR_FORMAT, "\"attention_dropout\" is 1.0"},
        {"{\"use_sliding_window\": true, \"sliding_window\": 0}", COHORT_ERR_FORMAT, "\"sliding_window\" is 0"},
        {"{\"use_sliding_window\": 1}", COHORT_ERR_FORMAT, "\"use_sliding_window\" is 1"},
        {"{\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
         COHORT_ERR_UNSUPPORTED,
         "\"layer_types[1]\" is \"sliding_attention\", expected \"full_attention\": the file states no window"},
        {"{\"num_hidden_layers\": 1, \"layer_types\": [\"linear_attention\"]}", COHORT_ERR_UNSUPPORTED,
         "\"layer_types[0]\" is \"linear_attention\", expected \"full_attention\" or \"sliding_attention\""},
        {"{\"layer_types\": [\"full_attention\"]}", COHORT_ERR_FORMAT,
         "\"layer_types\" is not a list of num_hidden_layers (28)"},
        {"{\"hidden_act\": \"gelu\"}", COHORT_ERR_UNSUPPORTED, "\"hidden_act\" is \"gelu\", expected \"silu\""},
        {"{\"quantization_config\": {\"quant_method\": \"fp8\"}}", COHORT_ERR_UNSUPPORTED,
         "\"quantization_config\" is present"},
        {"{\"quantization\": {\"bits\": 4}}", COHORT_ERR_UNSUPPORTED, "\"quantization\" is present"},
        {"{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 4.0}}", COHORT_ERR_UNSUPPORTED,
         "\"rope_scaling.rope_type\" is \"longrope\""},
        {"{\"rope_scaling\": {\"type\": 3}}", COHORT_ERR_UNSUPPORTED, "\"rope_scaling.type\" is 3"},
        {"{\"rope_scaling\": {\"rope_type\": \"yarn\"}}", COHORT_ERR_FORMAT, "\"rope_scaling.factor\" is missing"},
        {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"beta_fast\": \"x\"}}", COHORT_ERR_FORMAT,
         "\"rope_scaling.beta_fast\" is \"x\", expected a positive number"},
        {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"truncate\": 1}}", COHORT_ERR_FORMAT,
         "\"rope_scaling.truncate\" is 1"},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", COHORT_ERR_FORMAT,
         "\"rope_scaling.factor\" is 0, expected a positive number"},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 4}}",
         COHORT_ERR_FORMAT, "\"rope_scaling.high_freq_factor\" is 4, expected more than low_freq_factor"},
        {"{\"rope_parameters\": {\"rope_type\": \"dynamic\"}}", COHORT_ERR_FORMAT,
         "\"rope_parameters.factor\" is missing"},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}", COHORT_ERR_UNSUPPORTED,
         "\"rope_parameters.full_attention\" is"},
        {"{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2}, \"rope_parameters\": {\"rope_type\": "
         "\"linear\", \"factor\": 3}}",
         COHORT_ERR_FORMAT, "\"rope_scaling\" (linear, factor 2) and \"rope_parameters\" (linear, factor 3) differ"},
        {"{\"rope_scaling\": {\"mrope_section\": [1]}}", COHORT_ERR_UNSUPPORTED,
         "\"rope_scaling.mrope_section\" is [1]"},
        {"{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", COHORT_ERR_UNSUPPORTED,
         "\"partial_rotary_factor\" is 0.5"},
        {"{\"partial_rotary_factor\": 0.5}", COHORT_ERR_UNSUPPORTED, "\"partial_rotary_factor\""},
        {"{\"rope_scaling\": 2}", COHORT_ERR_FORMAT, "\"rope_scaling\" is 2, expected an object"},
        {"{\"rope_parameters\": {\"rope_theta\": 10000}}", COHORT_ERR_FORMAT,
         "\"rope_parameters.rope_theta\" is 10000 but \"rope_theta\" is 1e+06"},
        {"{\"rope_theta\": 0}", COHORT_ERR_FORMAT, "\"rope_theta\" is 0, expected a number from 1"},
        {"{\"torch_dtype\": \"float8\"}", COHORT_ERR_UNSUPPORTED, "\"torch_dtype\" is \"float8\""},
        {"{\"rms_norm_eps\": 0}", COHORT_ERR_FORMAT, "\"rms_norm_eps\" is 0"},
        {"{\"rms_norm_eps\": 1e-60}", COHORT_ERR_FORMAT, "\"rms_norm_eps\" is 1e-60"},
        {"{\"vocab_size\": 0}", COHORT_ERR_FORMAT, "\"vocab_size\" is 0, expected a whole number"},
        {"{\"vocab_size\": 17000000}", COHORT_ERR_FORMAT, "from 1 to 16777216"},
        {"{\"hidden_size\": -1}", COHORT_ERR_FORMAT, "\"hidden_size\" is -1"},
        {"{\"hidden_size\": 1000.5}", COHORT_ERR_FORMAT, "\"hidden_size\" is 1000.5"},
        {"{\"num_hidden_layers\": null}", COHORT_ERR_FORMAT, "\"num_hidden_layers\" is null"},
        {"{\"intermediate_size\": 9223372036854775807}", COHORT_ERR_FORMAT, "\"intermediate_size\""},
        {"{\"max_position_embeddings\": null}", COHORT_ERR_FORMAT, "\"max_position_embeddings\" is null"},
        {"{\"num_key_value_heads\": \"DEL\"}", COHORT_ERR_FORMAT, "\"num_key_value_heads\" (32, the default"},
        {"{\"num_key_value_heads\": 3}", COHORT_ERR_FORMAT,
         "\"num_attention_heads\" (16) is not a multiple of \"num_key_value_heads\" (3)"},
        {"{\"num_key_value_heads\": 32}", COHORT_ERR_FORMAT, "is not a multiple"},
        {"{\"head_dim\": 63}", COHORT_ERR_FORMAT, "\"head_dim\" is 63, expected an even size"},
        {"{\"head_dim\": null}", COHORT_ERR_FORMAT, "\"head_dim\" is null"},
        {"{\"tie_word_embeddings\": \"yes\"}", COHORT_ERR_FORMAT, "\"tie_word_embeddings\" is \"ye"},
        {"{\"eos_token_id\": [1, null]}", COHORT_ERR_FORMAT, "\"eos_token_id\" is null"},
        {"{\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}", COHORT_ERR_UNSUPPORTED,
         "\"eos_token_id\" lists more than 16 ids"},
        {"{\"bos_token_id\": \"1\"}", COHORT_ERR_FORMAT, "\"bos_token_id\" is \"1\", expected a"},
        {"{\"pad_token_id\": 2.5}", COHORT_ERR_FORMAT, "\"pad_token_id\" is 2.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config config;
        cohort_error err = {0};
        cohort_status status = parse_with(&config, cases[i].changes, &err);
        if (status != cases[i].status || strncmp(err.message, "x.json: ", 8) != 0 ||
            strstr(err.message, cases[i].part) == NULL)
            fail_msg("%s\n  gave %d: %s\n  expected: %s", cases[i].changes, status, err.message, cases[i].part);
    }
}

static void test_refused_json(void **state)
{
    (void)state;
    static const char *const texts[][2] = {{"{\"a\": 1,\n \"a\": 2}", "x.json:2:4: duplicate"},
                                           {"[1]", "x.json: expected a JSON object"},
                                           {"", "x.json:1:1: "},
                                           {"{\"a\": 1} x", "x.json:1:10: "}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct model_config config;
        cohort_error err = {0};
        assert_int_equal(model_config_parse(&config, texts[i][0], strlen(texts[i][0]), "x.json", &err),
                         COHORT_ERR_FORMAT);
        if (strstr(err.message, texts[i][1]) == NULL)
            fail_msg("%s gave %s", texts[i][0], err.message);
    }
}

static const char *name_of(const struct model_config *config)
{
    return !config->has_dtype            ? NULL
           : config->dtype == DTYPE_F32  ? "float32"
           : config->dtype == DTYPE_BF16 ? "bfloat16"
                                         : "float16";
}

static void same_number(const char *name, const json_t *wanted, const char *key, double found)
{
    const json_t *value = json_object_get(wanted, key);
    if (!json_is_number(value) || json_number_value(value) != found)
        fail_msg("%s: %s is %.17g, not as in transformers", name, key, found);
}

/* transformers computes frequencies in fp32, step by step; ours are rounded once: two bits of the last place apart. */
static void same_rope(const char *name, const json_t *wanted, const struct model_config *c)
{
    float frequencies[512];
    const json_t *list = json_object_get(wanted, "frequencies");
    rope_config_frequencies(&c->rope, c->head_dim, frequencies);
    assert_int_equal(json_array_size(list), c->head_dim / 2);
    for (int32_t i = 0; i < c->head_dim / 2; i++) {
        const double want = json_number_value(json_array_get(list, (size_t)i));
        if (!(fabs((double)frequencies[i] - want) <= 4e-7 * want))
            fail_msg("%s: frequency %d is %.9g, not %.9g", name, i, (double)frequencies[i], want);
    }
    assert_string_equal(rope_type_names[c->rope.type], json_string_value(json_object_get(wanted, "rope_type")));
    assert_true(fabs(c->rope.attention_factor - json_number_value(json_object_get(wanted, "attention_factor"))) < 1e-7);
}

static void same_windows(const char *name, const json_t *wanted, const struct model_config *c)
{
    int32_t layer = 0;
    size_t i = 0;
    json_t *run = NULL;
    json_array_foreach(json_object_get(wanted, "windows"), i, run)
    {
        const json_int_t window = json_integer_value(json_array_get(run, 0));
        for (json_int_t n = json_integer_value(json_array_get(run, 1)); n > 0; n--, layer++)
            if (model_config_window(c, layer) != window)
                fail_msg("%s: window of layer %d is %d, not %d", name, layer, model_config_window(c, layer),
                         (int)window);
    }
    assert_int_equal(layer, c->n_layers);
}

/* Files in the manner of other tools: the numbers that transformers resolves, or a refusal that names the key
 * (oracle/config_transformers.py). */
static void test_other_tools(void **state)
{
    (void)state;
    size_t i = 0, n_read = 0;
    json_t *wanted = NULL, *entry = NULL,
           *cases = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/configs.json", 0, NULL);
    assert_true(json_array_size(cases) >= 50);
    json_array_foreach(cases, i, entry)
    {
        struct model_config c;
        cohort_error err = {0};
        const char *name = json_string_value(json_object_get(entry, "name")),
                   *text = json_string_value(json_object_get(entry, "text")),
                   *refused = json_string_value(json_object_get(entry, "refused"));
        cohort_status status = model_config_parse(&c, text, strlen(text), "x.json", &err);
        wanted = json_object_get(entry, "wanted");
        if (refused != NULL) {
            if (status == COHORT_OK || strstr(err.message, refused) == NULL)
                fail_msg("%s: expected a refusal that names %s, found %s", name, refused,
                         status == COHORT_OK ? "none" : err.message);
            continue;
        }
        if (status != COHORT_OK)
            fail_msg("%s: %s", name, err.message);
        same_number(name, wanted, "vocab_size", c.vocab_size);
        same_number(name, wanted, "hidden_size", c.hidden_size);
        same_number(name, wanted, "n_layers", c.n_layers);
        same_number(name, wanted, "n_heads", c.n_heads);
        same_number(name, wanted, "n_kv_heads", c.n_kv_heads);
        same_number(name, wanted, "head_dim", c.head_dim);
        same_number(name, wanted, "intermediate_size", c.intermediate_size);
        same_number(name, wanted, "max_positions", c.max_positions);
        same_number(name, wanted, "rope_theta", c.rope.theta);
        same_number(name, wanted, "attention_dropout", c.attention_dropout);
        same_rope(name, wanted, &c);
        same_windows(name, wanted, &c);
        assert_int_equal(c.attention_bias, json_is_true(json_object_get(wanted, "attention_bias")));
        assert_int_equal(c.mlp_bias, json_is_true(json_object_get(wanted, "mlp_bias")));
        same_number(name, wanted, "bos", c.bos_id);
        json_t *eos = json_object_get(wanted, "eos");
        assert_int_equal(c.n_eos, json_array_size(eos));
        for (int32_t e = 0; e < c.n_eos; e++)
            assert_int_equal(c.eos_ids[e], json_integer_value(json_array_get(eos, (size_t)e)));
        double eps = json_number_value(json_object_get(wanted, "rms_norm_eps"));
        assert_true(c.rms_norm_eps == (float)eps);
        assert_int_equal(c.tie_embeddings, json_is_true(json_object_get(wanted, "tied")));
        const char *dtype = json_string_value(json_object_get(wanted, "dtype")), *found = name_of(&c);
        if ((dtype == NULL) != (found == NULL) || (dtype != NULL && strcmp(dtype, found) != 0))
            fail_msg("%s: dtype %s, not %s", name, found == NULL ? "none" : found, dtype == NULL ? "none" : dtype);
        n_read++;
    }
    assert_true(n_read >= 35);
    json_decref(cases);
}

/* Weights as the model cards count them (with the embedding, a tied head once). */
static void test_presets(void **state)
{
    (void)state;
    static const struct {
        enum model_preset preset;
        int64_t n_weights;
    } presets[] = {
        {PRESET_QWEN3_0_6B, 596049920},   {PRESET_QWEN3_1_7B, 1720574976},   {PRESET_QWEN3_4B, 4022468096},
        {PRESET_QWEN3_8B, 8190735360},    {PRESET_QWEN3_14B, 14768307200},   {PRESET_QWEN3_32B, 32762123264},
        {PRESET_QWEN2_5_0_5B, 494032768}, {PRESET_QWEN2_5_1_5B, 1543714304}, {PRESET_QWEN2_5_3B, 3085938688},
        {PRESET_QWEN2_5_7B, 7615616512},  {PRESET_QWEN2_5_14B, 14770033664}, {PRESET_QWEN2_5_32B, 32763876352},
        {PRESET_LLAMA3_2_1B, 1235814400}, {PRESET_LLAMA3_2_3B, 3212749824},  {PRESET_LLAMA3_1_8B, 8030261248},
        {PRESET_SMOLLM2_135M, 134515008}, {PRESET_SMOLLM2_360M, 361821120},  {PRESET_MISTRAL_7B, 7248023552}};
    struct model_config config;
    struct param_table table;
    cohort_error err = {0};
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        assert_int_equal(model_config_preset(&config, NULL, presets[i].preset, 0, &err), COHORT_OK);
        assert_true(config.n_eos > 0 && config.bos_id >= 0 && config.eos_ids[0] < config.vocab_size);
        if (presets[i].preset <= PRESET_QWEN3_32B) {
            assert_int_equal(config.vocab_size, 151936);
            assert_int_equal(config.eos_ids[0], 151645);
            assert_int_equal(config.n_eos, 2);
        }
        assert_int_equal(architecture_params(&config, STORAGE_BF16, &table, &err), COHORT_OK);
        assert_int_equal(table.n_weights, presets[i].n_weights);
        param_table_free(&table);
    }
    assert_int_equal(model_config_preset(&config, NULL, PRESET_TINY, 264, &err), COHORT_OK);
    assert_int_equal(config.vocab_size, 264);
    assert_int_equal(config.hidden_size, 128);
    assert_int_equal(config.n_eos, 0);
    assert_int_equal(config.pad_id, -1);
    assert_int_equal(model_config_preset(&config, NULL, PRESET_NANO, 0, &err), COHORT_OK);
    assert_int_equal(config.max_positions, 1024);
    assert_int_equal(config.intermediate_size, 192);
    assert_int_equal(model_config_preset(&config, NULL, PRESET_NANO, -5, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "vocabulary size -5"));
}

static void test_params(void **state)
{
    (void)state;
    struct model_config config;
    struct param_table table;
    cohort_error err = {0};
    /* Odd sizes, so that every alignment gap and every adjacency shows. */
    assert_int_equal(parse_with(&config,
                                "{\"vocab_size\": 7, \"hidden_size\": 10, \"num_hidden_layers\": 2, "
                                "\"num_attention_heads\": 3, \"num_key_value_heads\": 1, "
                                "\"head_dim\": 2, \"intermediate_size\": 5, "
                                "\"tie_word_embeddings\": false, \"eos_token_id\": 1, "
                                "\"bos_token_id\": 1}",
                                &err),
                     COHORT_OK);
    assert_int_equal(architecture_params(&config, STORAGE_BF16, &table, &err), COHORT_OK);
    static const struct {
        const char *name;
        int32_t rank;
        int64_t rows, columns, offset; /* in elements */
    } rows[] = {{"model.embed_tokens.weight", 2, 7, 10, 0},
                {"model.layers.0.input_layernorm.weight", 1, 10, 1, 128},
                {"model.layers.0.self_attn.q_proj.weight", 2, 6, 10, 192},
                {"model.layers.0.self_attn.k_proj.weight", 2, 2, 10, 252},
                {"model.layers.0.self_attn.v_proj.weight", 2, 2, 10, 272},
                {"model.layers.0.self_attn.q_norm.weight", 1, 2, 1, 320},
                {"model.layers.0.self_attn.k_norm.weight", 1, 2, 1, 384},
                {"model.layers.0.self_attn.o_proj.weight", 2, 10, 6, 448},
                {"model.layers.0.post_attention_layernorm.weight", 1, 10, 1, 512},
                {"model.layers.0.mlp.gate_proj.weight", 2, 5, 10, 576},
                {"model.layers.0.mlp.up_proj.weight", 2, 5, 10, 626},
                {"model.layers.0.mlp.down_proj.weight", 2, 10, 5, 704},
                {"model.layers.1.input_layernorm.weight", 1, 10, 1, 768}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct param *param = &table.params[i];
        assert_string_equal(param->name, rows[i].name);
        assert_int_equal(param->rank, rows[i].rank);
        assert_int_equal(param->shape[0], rows[i].rows);
        assert_int_equal(param->shape[1], rows[i].columns);
        assert_int_equal(param->count, rows[i].rows * rows[i].columns);
        assert_int_equal(param->offset, 2 * rows[i].offset);
        assert_int_equal(param->decay, rows[i].rank == 2);
        assert_ptr_equal(param_find(&table, rows[i].name), param);
    }
    assert_int_equal(table.n_params, 1 + 2 * 11 + 2);
    assert_string_equal(table.params[23].name, "model.norm.weight");
    assert_int_equal(table.params[23].offset, 2 * (128 + 2 * 640));
    assert_string_equal(table.params[24].name, "lm_head.weight");
    assert_int_equal(table.params[24].offset, 2 * (128 + 2 * 640 + 64));
    assert_int_equal(table.bytes, 2 * (128 + 2 * 640 + 64 + 128));
    assert_int_equal(table.n_weights, 70 + 2 * (10 + 60 + 20 + 20 + 4 + 60 + 10 + 150) + 10 + 70);
    assert_null(param_find(&table, "model.layers.2.input_layernorm.weight"));
    param_table_free(&table);
}

/* Biases lie as the parts of their fused projection do, and there is no norm of the heads. */
static void test_qwen2_params(void **state)
{
    (void)state;
    static const char text[] = "{\"model_type\": \"qwen2\", \"vocab_size\": 7, \"hidden_size\": 12, "
                               "\"num_hidden_layers\": 1, \"num_attention_heads\": 3, \"num_key_value_heads\": 1, "
                               "\"intermediate_size\": 5}";
    static const struct {
        const char *name;
        int64_t count, offset; /* in elements */
        float start;
    } rows[] = {{"model.layers.0.self_attn.v_proj.weight", 48, 128 + 64 + 192, 1},
                {"model.layers.0.self_attn.q_proj.bias", 12, 448, 0},
                {"model.layers.0.self_attn.k_proj.bias", 4, 460, 0},
                {"model.layers.0.self_attn.v_proj.bias", 4, 464, 0},
                {"model.layers.0.self_attn.o_proj.weight", 144, 512, 1}};
    struct model_config config;
    struct param_table table;
    cohort_error err = {0};
    assert_int_equal(model_config_parse(&config, text, sizeof text - 1, "x.json", &err), COHORT_OK);
    assert_int_equal(config.head_dim, 4);
    assert_int_equal(architecture_params(&config, STORAGE_F32, &table, &err), COHORT_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct param *param = &table.params[4 + i];
        assert_string_equal(param->name, rows[i].name);
        assert_int_equal(param->count, rows[i].count);
        assert_int_equal(param->offset, 4 * rows[i].offset);
        assert_true(param->rank == 2 || (!param->decay && param->start == rows[i].start));
    }
    assert_int_equal(table.n_params, 1 + 12 + 2);
    assert_null(architecture_param(&config, &table, TENSOR_QUERY_NORM, 0));
    assert_non_null(architecture_param(&config, &table, TENSOR_VALUE_BIAS, 0));
    param_table_free(&table);
    /* Sizes of heads that come from two keys are checked as one that is stated. */
    static const char *const refused[][2] = {
        {"{\"model_type\": \"qwen2\", \"hidden_size\": 15, \"num_attention_heads\": 5, \"num_key_value_heads\": 5}",
         "\"head_dim\" is 3 (hidden_size / num_attention_heads, since the key is absent), expected an even size"},
        {"{\"model_type\": \"qwen2\", \"hidden_size\": 8, \"num_attention_heads\": 32}", "\"head_dim\" is 0 (hidden"},
        {"{\"model_type\": \"qwen2\", \"hidden_size\": 1048576, \"num_attention_heads\": 32}",
         "\"head_dim\" is 32768 ("},
        {"{\"model_type\": \"qwen2\", \"architectures\": [\"Qwen3ForCausalLM\"]}",
         "\"model_type\" is \"qwen2\", expected Qwen3ForCausalLM (model_type \"qwen3\"), Qwen2ForCausalLM (model_type "
         "\"qwen2\"), LlamaForCausalLM (model_type \"llama\"), MistralForCausalLM (model_type \"mistral\"), "
         "Qwen3MoeForCausalLM (model_type \"qwen3_moe\") or MixtralForCausalLM (model_type \"mixtral\"): this "
         "version supports no other"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_not_equal(model_config_parse(&config, refused[i][0], strlen(refused[i][0]), "x.json", &err),
                             COHORT_OK);
        if (strstr(err.message, refused[i][1]) == NULL)
            fail_msg("%s gave %s", refused[i][0], err.message);
    }
}

static void test_save(void **state)
{
    (void)state;
    struct model_config config, copy, again;
    struct config_files files = {0}, files_again = {0};
    cohort_error err = {0};
    put("config.json", published);
    put("generation_config.json", published_generation);
    assert_int_equal(model_config_load(&config, &files, folder, &err), COHORT_OK);
    assert_int_equal(model_config_save(&config, &files, DTYPE_BF16, folder, &err), COHORT_OK);
    /* An untouched config comes back as the same JSON, transformers_version and all. */
    json_t *before = json_loads(published, 0, NULL);
    json_t *after = read_json("config.json");
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
    before = json_loads(published_generation, 0, NULL);
    after = read_json("generation_config.json");
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);

    /* What we know is updated, what we do not know is kept. */
    copy = config;
    copy.vocab_size = 264;
    copy.n_eos = 1;
    copy.eos_ids[0] = 258;
    copy.bos_id = -1;
    copy.pad_id = 256;
    copy.rope.theta = 5e6;
    copy.tie_embeddings = false;
    assert_int_equal(files.config.data[--files.config.length], '}');
    assert_int_equal(text_printf(&files.config, &err, "%s",
                                 ", \"rope_parameters\": {\"rope_theta\": 1000000}, \"dtype\": \"float16\", "
                                 "\"mine\": \"kept\"}"),
                     COHORT_OK);
    assert_int_equal(model_config_save(&copy, &files, DTYPE_F32, folder, &err), COHORT_OK);
    config_files_free(&files);
    assert_int_equal(model_config_load(&again, &files_again, folder, &err), COHORT_OK);
    assert_int_equal(again.vocab_size, 264);
    assert_int_equal(again.n_eos, 1);
    assert_int_equal(again.eos_ids[0], 258);
    assert_int_equal(again.bos_id, -1);
    assert_int_equal(again.pad_id, 256);
    assert_true(again.rope.theta == 5e6);
    assert_false(again.tie_embeddings);
    assert_int_equal(again.dtype, DTYPE_F32);
    assert_true(again.rms_norm_eps == 1e-6f);
    config_files_free(&files_again);
    after = read_json("config.json");
    assert_string_equal(json_string_value(json_object_get(after, "mine")), "kept");
    assert_null(json_object_get(after, "rope_parameters"));
    assert_null(json_object_get(after, "pad_token_id"));
    json_decref(after);
    after = read_json("generation_config.json");
    assert_non_null(json_object_get(after, "top_k"));
    json_decref(after);

    char nowhere[160];
    snprintf(nowhere, sizeof nowhere, "%s/none", folder);
    assert_int_equal(model_config_preset(&config, NULL, PRESET_NANO, 0, &err), COHORT_OK);
    assert_int_equal(model_config_save(&config, NULL, DTYPE_F32, nowhere, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, nowhere));
}

/* Rotation, windows and biases of every file come back from what is written, with and without the file's own text. */
static void test_save_families(void **state)
{
    (void)state;
    size_t i = 0, n = 0;
    json_t *entry = NULL, *cases = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/configs.json", 0, NULL);
    json_array_foreach(cases, i, entry)
    {
        const char *text = json_string_value(json_object_get(entry, "text"));
        const json_t *wanted = json_object_get(entry, "wanted");
        for (int kept = 0; wanted != NULL && kept < 2; kept++) {
            struct model_config config, again;
            struct config_files files = {0};
            cohort_error err = {0};
            put("config.json", text);
            assert_int_equal(model_config_load(&config, &files, folder, &err), COHORT_OK);
            assert_int_equal(model_config_save(&config, kept ? &files : NULL, config.dtype, folder, &err), COHORT_OK);
            config_files_free(&files);
            if (model_config_load(&again, NULL, folder, &err) != COHORT_OK)
                fail_msg("%s, written: %s", json_string_value(json_object_get(entry, "name")), err.message);
            same_rope(json_string_value(json_object_get(entry, "name")), wanted, &again);
            same_windows(json_string_value(json_object_get(entry, "name")), wanted, &again);
            assert_int_equal(again.head_dim, config.head_dim);
            assert_int_equal(again.attention_bias, config.attention_bias);
            assert_int_equal(again.mlp_bias, config.mlp_bias);
            assert_int_equal(again.bos_id, config.bos_id);
            assert_int_equal(again.n_eos, config.n_eos);
            n++;
        }
    }
    assert_true(n >= 150);
    json_decref(cases);
    put("config.json", NULL);
    put("generation_config.json", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),   cmocka_unit_test(test_accepted),     cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_refused_json), cmocka_unit_test(test_presets),
        cmocka_unit_test(test_other_tools), cmocka_unit_test(test_params),       cmocka_unit_test(test_qwen2_params),
        cmocka_unit_test(test_save),        cmocka_unit_test(test_save_families)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
