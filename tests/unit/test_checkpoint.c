/* Checkpoints: round trips, conversions against the scalar ones, every refusal, shards, initial
 * weights, and folders that survive full disks and crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "format/checkpoint.h"
#include "format/model_preset.h"

#include "base/file.h"
#include "format/architecture.h"
#include "support/temporary_folder.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- tensors of a test ---- */

struct blob {
    const void *data;
};

static cohort_status give_blob(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    (void)err;
    memcpy(to, (const char *)((const struct blob *)context)->data + offset, length);
    return COHORT_OK;
}

static struct safetensors_source source_of(const char *name, const char *type, int64_t rows, int64_t columns,
                                           size_t bytes, struct blob *blob)
{
    struct safetensors_source source = {.name = name,
                                        .dtype_name = type,
                                        .rank = columns > 0 ? 2 : 1,
                                        .shape = {rows, columns},
                                        .bytes = bytes,
                                        .read = give_blob,
                                        .context = blob};
    if (columns == 0)
        source.shape[1] = 0;
    return source;
}

static struct param vector(const char *name, int64_t count)
{
    struct param param = {.rank = 1, .shape = {count, 1}, .count = count};
    snprintf(param.name, sizeof param.name, "%s", name);
    return param;
}

static struct param matrix(const char *name, int64_t rows, int64_t columns)
{
    struct param param = {.rank = 2, .shape = {rows, columns}, .count = rows * columns};
    snprintf(param.name, sizeof param.name, "%s", name);
    param.decay = true;
    return param;
}

/* ---- a buffer of parameters, as a backend would hold it ---- */

struct buffer {
    char *data;
    _Atomic int64_t received;
};

static cohort_status to_buffer(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                               cohort_error *err)
{
    (void)err;
    struct buffer *buffer = context;
    memcpy(buffer->data + param->offset + storage_bytes(param->format, first), data,
           storage_bytes(param->format, count));
    buffer->received += count;
    return COHORT_OK;
}

static cohort_status from_buffer(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                 cohort_error *err)
{
    (void)err;
    struct buffer *buffer = context;
    memcpy(to, buffer->data + param->offset + storage_bytes(param->format, first), storage_bytes(param->format, count));
    return COHORT_OK;
}

/* The table is laid out with all tensors in this type. */
static struct buffer buffer_new(struct param_table *table, enum dtype type)
{
    struct buffer buffer = {0};
    cohort_error err = {0};
    for (int32_t i = 0; i < table->n_params; i++)
        table->params[i].format = storage_of(type);
    param_table_layout(table);
    assert_int_equal(mem_alloc(&buffer.data, table->bytes, 1, "test", &err), COHORT_OK);
    return buffer;
}

static void nano_table(struct param_table *table, bool tied)
{
    struct model_config config;
    cohort_error err = {0};
    assert_int_equal(model_config_preset(&config, NULL, PRESET_NANO, 264, &err), COHORT_OK);
    config.tie_embeddings = tied;
    assert_int_equal(architecture_params(&config, STORAGE_BF16, table, &err), COHORT_OK);
}

/* ---- conversion ---- */

enum { LONG = (1 << 20) + 37 }; /* more than one part */

/* Reads one vector of LONG elements stored as type and compares with the scalar conversions. With
 * odd set, the tensor lies at an odd address. */
static void check_conversion(enum dtype type, enum dtype want, const void *data, bool odd)
{
    cohort_error err = {0};
    struct param params[] = {vector("model.norm.weight", LONG)};
    struct param_table table = {.params = params, .n_params = 1};
    struct text text = {0};
    char header[200];
    size_t bytes = LONG * dtype_bytes(type);
    int n = snprintf(header, sizeof header,
                     "{\"model.norm.weight\":{\"dtype\":\"%s\",\"shape\":[%d],"
                     "\"data_offsets\":[0,%zu]}}",
                     dtype_name(type), LONG, bytes);
    size_t padded = ((size_t)n + 7) / 8 * 8 + (odd ? 1 : 0);
    uint64_t length = padded;
    assert_int_equal(text_append(&text, (const char *)&length, 8, &err), COHORT_OK);
    assert_int_equal(text_printf(&text, &err, "%-*s", (int)padded, header), COHORT_OK);
    assert_int_equal(text_append(&text, data, bytes, &err), COHORT_OK);
    assert_int_equal(file_write_atomic(in_folder("model.safetensors"), text.data, text.length, &err), COHORT_OK);
    text_free(&text);

    struct buffer buffer = buffer_new(&table, want);
    if (checkpoint_read(folder, &table, to_buffer, &buffer, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(buffer.received, LONG);
    for (size_t i = 0; i < LONG; i++) {
        float value = 0;
        if (type == DTYPE_F32)
            value = ((const float *)data)[i];
        else if (type == DTYPE_BF16)
            value = f32_from_bf16(((const uint16_t *)data)[i]);
        else
            value = f32_from_f16(((const uint16_t *)data)[i]);
        if (want == DTYPE_F32)
            assert_int_equal(f32_bits(((float *)(void *)buffer.data)[i]), f32_bits(value));
        else
            assert_int_equal(((uint16_t *)(void *)buffer.data)[i], bf16_from_f32(value));
    }
    mem_free(buffer.data);
}

/* Every finite F16 and BF16 value, and F32 values with every kind of lower half (ties among them).
 */
static void test_conversions(void **state)
{
    (void)state;
    cohort_error err = {0};
    uint16_t *halves = NULL;
    float *singles = NULL;
    assert_int_equal(mem_alloc(&halves, LONG, sizeof *halves, "test", &err), COHORT_OK);
    assert_int_equal(mem_alloc(&singles, LONG, sizeof *singles, "test", &err), COHORT_OK);
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16};
    static const uint16_t exponents[] = {0x7f80, 0x7c00};
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; i < LONG; i++) {
            uint16_t half = (uint16_t)i;
            halves[i] = (half & exponents[t]) == exponents[t] ? (uint16_t)(i & 0x3ff) : half;
        }
        check_conversion(types[t], DTYPE_F32, halves, false);
        check_conversion(types[t], DTYPE_BF16, halves, true);
    }
    static const uint16_t lows[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (size_t i = 0; i < LONG; i++) {
        uint32_t high = (uint32_t)(i * 2654435761u >> 8) & 0xffffu;
        if ((high & 0x7f80u) == 0x7f80u || (high & 0x7fffu) == 0x7f7fu)
            high = (uint32_t)(i & 0x7fu); /* not finite, or may round to infinity */
        singles[i] = f32_from_bits(high << 16 | lows[i % 6]);
    }
    check_conversion(DTYPE_F32, DTYPE_F32, singles, true);
    check_conversion(DTYPE_F32, DTYPE_BF16, singles, true);
    check_conversion(DTYPE_F32, DTYPE_BF16, singles, false);
    mem_free(halves);
    mem_free(singles);
}

static void test_not_finite(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        uint32_t bits;
        enum dtype want;
        const char *part; /* NULL: accepted */
    } cases[] = {{"F32", 0x7f800001, DTYPE_F32, "element 5 is nan, expected a finite number"},
                 {"F32", 0x7fffffff, DTYPE_BF16, "element 5 is nan"},
                 {"F32", 0xffffffff, DTYPE_BF16, "element 5 is -nan"},
                 {"F32", 0x7f800001, DTYPE_BF16, "element 5 is nan"},
                 {"F32", 0xff800000, DTYPE_BF16, "element 5 is -inf"},
                 {"F32", 0x7f7fffff, DTYPE_BF16, "expected a value within BF16's range"},
                 {"F32", 0x7f7f7fff, DTYPE_BF16, NULL},
                 {"F32", 0x7f7fffff, DTYPE_F32, NULL},
                 {"BF16", 0x7f81, DTYPE_F32, "element 5 is nan"},
                 {"BF16", 0xff80, DTYPE_BF16, "element 5 is -inf"},
                 {"F16", 0x7c01, DTYPE_F32, "element 5 is nan"},
                 {"F16", 0xfc00, DTYPE_BF16, "element 5 is -inf"},
                 {"F16", 0x7bff, DTYPE_BF16, NULL}};
    struct param params[] = {vector("model.norm.weight", 9)};
    struct param_table table = {.params = params, .n_params = 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_error err = {0};
        uint32_t singles[9] = {0};
        uint16_t halves[9] = {0};
        singles[5] = cases[i].bits;
        halves[5] = (uint16_t)cases[i].bits;
        bool single = strcmp(cases[i].type, "F32") == 0;
        struct blob blob = {single ? (void *)singles : (void *)halves};
        struct safetensors_source source = source_of("model.norm.weight", cases[i].type, 9, 0, single ? 36 : 18, &blob);
        assert_int_equal(safetensors_write(in_folder("model.safetensors"), &source, 1, NULL, &err), COHORT_OK);
        struct buffer buffer = buffer_new(&table, cases[i].want);
        cohort_status status = checkpoint_read(folder, &table, to_buffer, &buffer, &err);
        if (cases[i].part == NULL) {
            assert_int_equal(status, COHORT_OK);
        } else {
            assert_int_equal(status, COHORT_ERR_NUMERIC);
            if (strstr(err.message, cases[i].part) == NULL ||
                strstr(err.message, "model.safetensors: tensor model.norm.weight: ") == NULL)
                fail_msg("%s %x: %s", cases[i].type, cases[i].bits, err.message);
        }
        mem_free(buffer.data);
    }
}

/* ---- matching ---- */

static const struct blob zeros = {(const unsigned char[256]){0}};

/* The type a model is computed in and what is said, by the config's dtype and the tensors'. */
static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *dtype; /* of the config, NULL: none */
        int32_t n[3];      /* by enum dtype: F32, BF16, F16 */
        enum dtype type;
        const char *said; /* NULL: nothing */
    } cases[] = {{"bfloat16", {0, 3, 0}, DTYPE_BF16, NULL},
                 {"bfloat16", {3, 0, 0}, DTYPE_BF16, "3 of 3 tensors are F32, config.json says bfloat16"},
                 {"bfloat16", {1, 2, 0}, DTYPE_BF16, "1 of 3 tensors are F32"},
                 {"bfloat16", {0, 1, 2}, DTYPE_BF16, "2 of 3 tensors are F16"},
                 {"bfloat16", {1, 1, 1}, DTYPE_BF16, "2 of 3 tensors are F32 or F16"},
                 {"float32", {3, 0, 0}, DTYPE_F32, NULL},
                 {"float32", {0, 3, 0}, DTYPE_F32, NULL},
                 {"float32", {0, 0, 3}, DTYPE_F32, "weights are F16: computed in F32, which keeps every"},
                 {"float16", {0, 0, 3}, DTYPE_F32, "weights are F16: computed in F32"},
                 {"float16", {3, 0, 0}, DTYPE_F32, "config.json says float16: computed in F32"},
                 {NULL, {0, 3, 0}, DTYPE_BF16, NULL},
                 {NULL, {3, 0, 0}, DTYPE_F32, NULL},
                 {NULL, {0, 0, 3}, DTYPE_F32, "weights are F16: computed in F32"},
                 {NULL, {1, 2, 0}, DTYPE_F32, "states no dtype, 2 of 3 tensors are BF16"},
                 {NULL, {0, 0, 0}, DTYPE_F32, NULL}};
    static const char *const names[] = {"F32", "BF16", "F16"};
    struct param params[] = {vector("a", 2), vector("b", 2), vector("c", 2)};
    struct param_table table = {.params = params, .n_params = 3};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_error err = {0};
        struct blob zero = zeros;
        struct checkpoint_types types = {0};
        struct safetensors_source sources[3];
        size_t n = 0;
        for (int type = 0; type < 3; type++)
            for (int j = 0; j < cases[i].n[type]; j++, n++)
                sources[n] = source_of(params[n].name, names[type], 2, 0, type == 0 ? 8 : 4, &zero);
        if (n > 0) {
            assert_int_equal(safetensors_write(in_folder("model.safetensors"), sources, n, NULL, &err), COHORT_OK);
            assert_int_equal(checkpoint_look(folder, &table, &types, &err), COHORT_OK);
            assert_memory_equal(types.n, cases[i].n, sizeof types.n);
        }
        struct model_config config;
        struct text text = {0}, notes = {0};
        assert_int_equal(text_printf(&text, &err, "{\"model_type\": \"qwen3\", \"dtype\": %s%s%s}",
                                     cases[i].dtype ? "\"" : "", cases[i].dtype ? cases[i].dtype : "null",
                                     cases[i].dtype ? "\"" : ""),
                         COHORT_OK);
        assert_int_equal(model_config_parse(&config, text.data, text.length, "x", &err), COHORT_OK);
        assert_int_equal(checkpoint_auto_type(&config, &types), cases[i].type);
        assert_int_equal(checkpoint_type_notes("m", &config, &types, cases[i].type, true, &notes, &err), COHORT_OK);
        if ((notes.data == NULL) != (cases[i].said == NULL) ||
            (notes.data != NULL && (strncmp(notes.data, "m: ", 3) != 0 || strstr(notes.data, cases[i].said) == NULL)))
            fail_msg("case %zu: %s", i, notes.data == NULL ? "nothing said" : notes.data);
        text_free(&text);
        text_free(&notes);
    }
}

/* Tensors of shape [4, 2] (embed), [2] (norm), and what else a case asks for. */
static void test_mismatch(void **state)
{
    (void)state;
    struct param params[] = {matrix("model.embed_tokens.weight", 4, 2),
                             vector("model.norm.weight", 2),
                             vector("a", 2),
                             vector("b", 2),
                             vector("c", 2),
                             vector("d", 2)};
    struct param_table table = {.params = params, .n_params = 6};
    struct blob zero = zeros;
    struct blob ones = {(const unsigned char[32]){1, 1, 1, 1}};
    static const char *const names[] = {"a", "b", "c", "d"};
    struct safetensors_source good[8] = {source_of("model.embed_tokens.weight", "F32", 4, 2, 32, &zero),
                                         source_of("model.norm.weight", "BF16", 2, 0, 4, &zero)};
    for (size_t i = 0; i < 4; i++)
        good[2 + i] = source_of(names[i], "F16", 2, 0, 4, &zero);
    cohort_error err = {0};
    char file[300];
    snprintf(file, sizeof file, "%s", in_folder("model.safetensors"));
    struct buffer buffer = buffer_new(&table, DTYPE_F32);

    /* Good, with a tied head and a buffer of old that are to be skipped. */
    good[6] = source_of("lm_head.weight", "F32", 4, 2, 32, &zero);
    good[7] = source_of("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 2, 0, 8, &ones);
    assert_int_equal(safetensors_write(file, good, 8, NULL, &err), COHORT_OK);
    if (checkpoint_read(folder, &table, to_buffer, &buffer, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(buffer.received, 18);

    /* The head differs from the embedding in its bytes, its shape. */
    good[6].context = &ones;
    assert_int_equal(safetensors_write(file, good, 8, NULL, &err), COHORT_OK);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &buffer, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "1 unexpected tensors (lm_head.weight (the config ties it"));
    good[6] = source_of("lm_head.weight", "F32", 2, 4, 32, &zero);
    assert_int_equal(safetensors_write(file, good, 8, NULL, &err), COHORT_OK);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &buffer, &err), COHORT_ERR_FORMAT);

    /* All kinds of complaint in one message; of each the first three names. */
    struct safetensors_source bad[] = {source_of("model.embed_tokens.weight", "F32", 2, 4, 32, &zero),
                                       source_of("model.norm.weight", "F32", 2, 1, 8, &zero),
                                       source_of("v1", "F32", 1, 0, 4, &zero),
                                       source_of("v2", "F32", 1, 0, 4, &zero),
                                       source_of("v3", "F32", 1, 0, 4, &zero),
                                       source_of("v4", "F32", 1, 0, 4, &zero),
                                       source_of("v5", "F32", 1, 0, 4, &zero)};
    assert_int_equal(safetensors_write(file, bad, 7, NULL, &err), COHORT_OK);
    buffer.received = 0;
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &buffer, &err), COHORT_ERR_FORMAT);
    assert_int_equal(buffer.received, 0);
    char wanted[800];
    snprintf(wanted, sizeof wanted,
             "%s: does not hold the model that config.json describes: "
             "2 tensors of the wrong shape (model.embed_tokens.weight in model.safetensors: "
             "expected [4, 2], found [2, 4], model.norm.weight in model.safetensors: "
             "expected [2], found [2, 1]); 4 missing tensors (a, b, c, ...); "
             "5 unexpected tensors (v1, v2, v3, ...)",
             file);
    assert_string_equal(err.message, wanted);

    /* A name that tells what the file is. */
    bad[6] = source_of("model.layers.0.self_attn.q_proj.scales", "F32", 1, 0, 4, &zero);
    assert_int_equal(safetensors_write(file, bad, 7, NULL, &err), COHORT_OK);
    assert_int_equal(checkpoint_look(folder, &table, NULL, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "; the weights are quantized (MLX-LM writes .scales)"));

    good[2] = source_of("a", "I16", 2, 0, 4, &zero);
    assert_int_equal(safetensors_write(file, good, 6, NULL, &err), COHORT_OK);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &buffer, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "1 tensors not of type F32, F16 or BF16 (a in "
                                        "model.safetensors: I16)"));
    unlink(file);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &buffer, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "no model.safetensors and no model.safetensors.index.json"));
    mem_free(buffer.data);
}

static cohort_status refuse_sink(void *context, const struct param *param, int64_t first, int64_t count,
                                 const void *data, cohort_error *err)
{
    (void)context;
    (void)first;
    (void)count;
    (void)data;
    return error_set(err, COHORT_ERR_CANCELLED, "stopped at %s", param->name);
}

/* ---- shards ---- */

static void expect_read_error(struct param_table *table, cohort_status status, const char *part)
{
    cohort_error err = {0};
    struct buffer buffer = buffer_new(table, DTYPE_F32);
    assert_int_equal(checkpoint_read(folder, table, to_buffer, &buffer, &err), status);
    if (strstr(err.message, part) == NULL)
        fail_msg("%s\nexpected: %s", err.message, part);
    mem_free(buffer.data);
}

static void test_index_refusals(void **state)
{
    (void)state;
    struct param params[] = {vector("a", 2), vector("b", 2)};
    struct param_table table = {.params = params, .n_params = 2};
    struct blob zero = zeros;
    cohort_error err = {0};
    struct safetensors_source sources[] = {source_of("a", "F32", 2, 0, 8, &zero),
                                           source_of("b", "F32", 2, 0, 8, &zero)};
    assert_int_equal(safetensors_write(in_folder("1.safetensors"), &sources[0], 1, NULL, &err), COHORT_OK);
    assert_int_equal(safetensors_write(in_folder("2.safetensors"), &sources[1], 1, NULL, &err), COHORT_OK);
    static const struct {
        const char *index;
        cohort_status status;
        const char *part;
    } cases[] = {
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}", COHORT_ERR_FORMAT,
         "model.safetensors.index.json:1:"},
        {"{\"map\": {}}", COHORT_ERR_FORMAT, "\"weight_map\" is not an object"},
        {"[]", COHORT_ERR_FORMAT, "\"weight_map\" is not an object"},
        {"{\"weight_map\": {\"a\": 1}}", COHORT_ERR_FORMAT, "\"a\" is not mapped to the name of"},
        {"{\"weight_map\": {\"a\": \"../1.safetensors\"}}", COHORT_ERR_FORMAT, "\"a\" is not mapped"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", COHORT_ERR_FORMAT, "\"a\" is not mapped"},
        {"{\"weight_map\": {\"a\": \"\"}}", COHORT_ERR_FORMAT, "\"a\" is not mapped"},
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"3.safetensors\"}}", COHORT_ERR_IO,
         "1 of 2 shards that it names are not there (3.safetensors)"},
        {"{\"weight_map\": {\"a\": \"2.safetensors\", \"b\": \"1.safetensors\"}}", COHORT_ERR_FORMAT,
         "2.safetensors: tensor b lies in this file, but the index"},
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"1.safetensors\"}}", COHORT_ERR_FORMAT,
         "1 tensors of the index are in no file; the first is b, expected in 1.safetensors"},
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"c\": \"2.safetensors\"}}", COHORT_ERR_FORMAT,
         "2.safetensors: tensor b is not in the index"},
        {"{\"weight_map\": {\"a\": \"1.safetensors\"}}", COHORT_ERR_FORMAT, "1 missing tensors (b)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("model.safetensors.index.json", cases[i].index);
        expect_read_error(&table, cases[i].status, cases[i].part);
    }
    put("model.safetensors.index.json", "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}}");
    struct buffer buffer = buffer_new(&table, DTYPE_F32);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &buffer, &err), COHORT_OK);
    assert_int_equal(checkpoint_read(folder, &table, refuse_sink, NULL, &err), COHORT_ERR_CANCELLED);
    assert_string_equal(err.message, "stopped at a");
    mem_free(buffer.data);
}

/* The hashes of files that are read are those of sha256sum, whatever lies in them; the weights are the same, read so or
 * so. */
static void hashes_are_of_the_files_by(struct param_table *table, size_t n_files, struct pool *pool)
{
    cohort_error err = {0};
    struct weight_files read = {0}, alone = {0};
    struct buffer plain = buffer_new(table, DTYPE_F32), hashed = buffer_new(table, DTYPE_F32);
    assert_int_equal(checkpoint_read(folder, table, to_buffer, &plain, &err), COHORT_OK);
    assert_int_equal(checkpoint_read_hashed(folder, table, to_buffer, &hashed, &read, pool, &err), COHORT_OK);
    assert_int_equal(checkpoint_hash(folder, &alone, &err), COHORT_OK);
    assert_int_equal(hashed.received, plain.received);
    assert_memory_equal(plain.data, hashed.data, table->bytes);
    assert_int_equal(read.count, n_files);
    assert_int_equal(alone.count, n_files);
    for (size_t i = 0; i < n_files; i++) {
        char hex[HASH_HEX];
        assert_int_equal(hash_file(read.files[i].path, hex, NULL, &err), COHORT_OK);
        assert_string_equal(read.files[i].sha256, hex);
        assert_string_equal(alone.files[i].sha256, hex);
        assert_string_equal(alone.files[i].path, read.files[i].path);
        if (i > 0)
            assert_true(strcmp(read.files[i - 1].path, read.files[i].path) < 0);
    }
    weight_files_free(&read);
    weight_files_free(&alone);
    mem_free(plain.data);
    mem_free(hashed.data);
}

/* One thread, and several that share the parts. */
static void hashes_are_of_the_files(struct param_table *table, size_t n_files)
{
    cohort_error err = {0};
    struct pool *pool = NULL;
    hashes_are_of_the_files_by(table, n_files, NULL);
    assert_int_equal(pool_create(&pool, 3, &err), COHORT_OK);
    hashes_are_of_the_files_by(table, n_files, pool);
    pool_destroy(pool);
}

/* Of several tensors that are wrong the first in the file is named, whichever thread comes first; a stop ends it. */
static void test_threads(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct param_table table;
    struct pool *pool = NULL;
    struct stop stop;
    atomic_init(&stop.requested, false);
    nano_table(&table, true);
    struct checkpoint_init init = {.seed = 5, .standard_deviation = 0.02f};
    struct buffer weights = buffer_new(&table, DTYPE_F32);
    assert_int_equal(checkpoint_write_weights(folder, &table, 0, checkpoint_init_fetch, &init, NULL, &err), COHORT_OK);
    assert_int_equal(pool_create(&pool, 3, &err), COHORT_OK);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &weights, &err), COHORT_OK);
    const struct param *wrong[2] = {&table.params[3], &table.params[table.n_params - 2]};
    for (int i = 0; i < 2; i++)
        ((float *)(void *)((char *)weights.data + wrong[i]->offset))[wrong[i]->count - 1] = NAN;
    struct weight_files files = {0};
    char one[sizeof err.message];
    assert_int_equal(checkpoint_write_weights(folder, &table, 0, from_buffer, &weights, NULL, &err), COHORT_OK);
    assert_int_equal(checkpoint_read_hashed(folder, &table, to_buffer, &weights, &files, NULL, &err),
                     COHORT_ERR_NUMERIC);
    memcpy(one, err.message, sizeof one);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(checkpoint_read_hashed(folder, &table, to_buffer, &weights, &files, pool, &err),
                         COHORT_ERR_NUMERIC);
        assert_string_equal(err.message, one);
        assert_int_equal(files.count, 0);
    }
    pool_set_stop(pool, &stop);
    atomic_store(&stop.requested, true);
    assert_int_equal(checkpoint_read_hashed(folder, &table, to_buffer, &weights, &files, pool, &err),
                     COHORT_ERR_CANCELLED);
    pool_destroy(pool);
    mem_free(weights.data);
    param_table_free(&table);
}

static void test_hashes(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct param_table table;
    struct weight_files files = {0};
    nano_table(&table, true);
    struct checkpoint_init init = {.seed = 5, .standard_deviation = 0.02f};
    assert_int_equal(checkpoint_write_weights(folder, &table, 0, checkpoint_init_fetch, &init, NULL, &err), COHORT_OK);
    hashes_are_of_the_files(&table, 1);
    struct buffer weights = buffer_new(&table, DTYPE_BF16);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &weights, &err), COHORT_OK);
    assert_int_equal(checkpoint_write_weights(folder, &table, 30000, from_buffer, &weights, NULL, &err), COHORT_OK);
    hashes_are_of_the_files(&table, count_entries(folder) - 1); /* and the index */
    assert_int_equal(checkpoint_read_hashed(folder, &table, refuse_sink, NULL, &files, NULL, &err),
                     COHORT_ERR_CANCELLED);
    assert_int_equal(files.count, 0);
    mem_free(weights.data);
    param_table_free(&table);

    /* Tensors that are passed over, before, between and behind, are hashed too; in a file whose order is not the
     * table's. */
    assert_int_equal(setup(NULL), 0);
    struct param params[] = {vector("model.norm.weight", 2), vector("a", 2)};
    struct param_table two = {.params = params, .n_params = 2};
    static const char header[] =
        "{\"x.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]},"
        "\"y.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]},"
        "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]},"
        "\"z.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[24,28]}}";
    static const float data[7] = {1, 2, 3, 4, 5, 6, 7};
    struct text text = {0};
    uint64_t length = sizeof header - 1;
    assert_int_equal(text_append(&text, (const char *)&length, 8, &err), COHORT_OK);
    assert_int_equal(text_append(&text, header, sizeof header - 1, &err), COHORT_OK);
    assert_int_equal(text_append(&text, (const char *)data, sizeof data, &err), COHORT_OK);
    assert_int_equal(file_write_atomic(in_folder("model.safetensors"), text.data, text.length, &err), COHORT_OK);
    text_free(&text);
    hashes_are_of_the_files(&two, 1);
}

static void test_round_trip(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct param_table table;
    nano_table(&table, false);
    struct checkpoint_init init = {.seed = 5, .standard_deviation = 0.02f};
    struct buffer single = buffer_new(&table, DTYPE_BF16);
    struct buffer sharded = buffer_new(&table, DTYPE_BF16);
    assert_int_equal(checkpoint_write_weights(folder, &table, 0, checkpoint_init_fetch, &init, NULL, &err), COHORT_OK);
    assert_true(is_there(in_folder("model.safetensors")));
    assert_int_equal(count_entries(folder), 1);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &single, &err), COHORT_OK);
    assert_int_equal(single.received, table.n_weights);

    /* 33792 bytes of embedding alone, over the limit; then as many as fit; and no single file left
     * beside. */
    assert_int_equal(checkpoint_write_weights(folder, &table, 30000, from_buffer, &single, NULL, &err), COHORT_OK);
    assert_false(is_there(in_folder("model.safetensors")));
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &sharded, &err), COHORT_OK);
    assert_int_equal(sharded.received, table.n_weights);
    assert_memory_equal(single.data, sharded.data, table.bytes);

    json_t *index = json_load_file(in_folder("model.safetensors.index.json"), 0, NULL);
    assert_non_null(index);
    json_t *metadata = json_object_get(index, "metadata");
    json_t *map = json_object_get(index, "weight_map");
    assert_int_equal(json_integer_value(json_object_get(metadata, "total_size")), table.n_weights * 2);
    assert_int_equal(json_integer_value(json_object_get(metadata, "total_parameters")), table.n_weights);
    assert_int_equal(json_object_size(map), table.n_params);
    /* In bytes: embedding and head 33792 each; of a layer 128 + 16384 (q, k, v) + 64 + 8192 (o) +
     * 128, then 24576 for each of gate, up, down, and the next layer's first gain beside down. So 1
     * + 4 + 4 + 1 files. */
    const char *first = json_string_value(json_object_get(map, "model.embed_tokens.weight"));
    const char *second = json_string_value(json_object_get(map, "model.layers.0.input_layernorm.weight"));
    const char *third = json_string_value(json_object_get(map, "model.layers.0.mlp.gate_proj.weight"));
    const char *o = json_string_value(json_object_get(map, "model.layers.0.self_attn.o_proj.weight"));
    assert_string_equal(first, "model-00001-of-00010.safetensors");
    assert_string_equal(second, "model-00002-of-00010.safetensors");
    assert_string_equal(o, "model-00002-of-00010.safetensors");
    assert_string_equal(third, "model-00003-of-00010.safetensors");
    assert_int_equal(count_entries(folder), 11);
    json_decref(index);

    /* And back to one file: the index would be a second truth. */
    assert_int_equal(checkpoint_write_weights(folder, &table, 0, from_buffer, &single, NULL, &err), COHORT_OK);
    assert_false(is_there(in_folder("model.safetensors.index.json")));
    mem_free(single.data);
    mem_free(sharded.data);
    param_table_free(&table);
}

/* Every tensor has a format of its own: F32 gains beside BF16 matrices are written as such and read back as such. */
static void test_formats(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct param_table table;
    struct safetensors file;
    size_t bytes = 0;
    nano_table(&table, true);
    struct buffer mixed = buffer_new(&table, DTYPE_F32); /* larger than is needed */
    for (int32_t i = 0; i < table.n_params; i++) {
        struct param *param = &table.params[i];
        param->format = param->rank == 1 ? STORAGE_F32 : STORAGE_BF16;
        bytes += storage_bytes(param->format, param->count);
    }
    param_table_layout(&table);
    for (int32_t i = 1; i < table.n_params; i++) {
        const struct param *param = &table.params[i], *before = param - 1;
        const size_t end = before->offset + storage_bytes(before->format, before->count);
        if (param->adjacent)
            assert_int_equal(param->offset, end);
        else
            assert_true(param->offset >= end && param->offset % (param->rank == 1 ? 256u : 128u) == 0);
    }
    struct checkpoint_init init = {.seed = 5, .standard_deviation = 0.02f};
    assert_int_equal(checkpoint_write_weights(folder, &table, 0, checkpoint_init_fetch, &init, NULL, &err), COHORT_OK);
    assert_int_equal(safetensors_open(&file, in_folder("model.safetensors"), &err), COHORT_OK);
    for (int32_t i = 0; i < table.n_params; i++) {
        const struct safetensor *tensor = safetensors_find(&file, table.params[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->dtype, table.params[i].rank == 1 ? DTYPE_F32 : DTYPE_BF16);
        bytes -= tensor->bytes;
    }
    assert_int_equal(bytes, 0);
    assert_int_equal(checkpoint_read(folder, &table, to_buffer, &mixed, &err), COHORT_OK);
    for (int32_t i = 0; i < table.n_params; i++) {
        const struct safetensor *tensor = safetensors_find(&file, table.params[i].name);
        assert_memory_equal(mixed.data + table.params[i].offset, tensor->data, tensor->bytes);
    }
    safetensors_close(&file);
    mem_free(mixed.data);
    param_table_free(&table);
}

static cohort_status fail_late(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                               cohort_error *err)
{
    (void)context;
    (void)first;
    if (strcmp(param->name, "model.layers.1.mlp.down_proj.weight") == 0)
        return error_set(err, COHORT_ERR_NUMERIC, "no more");
    memset(to, 0, (size_t)count * 2);
    return COHORT_OK;
}

static void test_failed_write(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct param_table table;
    nano_table(&table, false);
    assert_int_equal(checkpoint_write_weights(folder, &table, 30000, fail_late, NULL, NULL, &err), COHORT_ERR_NUMERIC);
    assert_string_equal(err.message, "no more");
    assert_int_equal(count_entries(folder), 0);
    param_table_free(&table);
}

/* ---- initial weights ---- */

static void test_init(void **state)
{
    (void)state;
    enum { N = 200000 };
    cohort_error err = {0};
    struct param param = matrix("w", N, 1);
    struct param other = matrix("v", N, 1);
    struct param gain = vector("g", 70), bias = vector("b", 70);
    gain.start = 1.0f;
    struct checkpoint_init init = {.seed = 11, .standard_deviation = 0.5f};
    float *all = NULL;
    float *part = NULL;
    assert_int_equal(mem_alloc(&all, N, sizeof *all, "test", &err), COHORT_OK);
    assert_int_equal(mem_alloc(&part, N, sizeof *part, "test", &err), COHORT_OK);
    assert_int_equal(checkpoint_init_fetch(&init, &param, 0, N, all, &err), COHORT_OK);
    /* Element i does not depend on what is asked for with it. */
    for (int64_t first = 0; first < 9; first++) {
        for (int64_t count = 1; count < 9; count++) {
            part[count] = -77.0f;
            assert_int_equal(checkpoint_init_fetch(&init, &param, first, count, part, &err), COHORT_OK);
            assert_memory_equal(part, all + first, (size_t)count * sizeof *part);
            assert_true(part[count] == -77.0f);
        }
    }
    /* Moments of N(0, 0.5^2): standard errors 0.5 / sqrt(N) = 0.0011, and of the variance 0.25
     * sqrt(2 / N) = 0.0008, of the kurtosis sqrt(24 / N) = 0.011, of the correlation 1 / sqrt(N) =
     * 0.0022; five of each. */
    double mean = 0;
    double square = 0;
    double fourth = 0;
    double neighbour = 0;
    for (int i = 0; i < N; i++) {
        double x = (double)all[i];
        mean += x / N;
        square += x * x / N;
        fourth += x * x * x * x / N;
        neighbour += i > 0 ? x * (double)all[i - 1] / N : 0;
    }
    assert_true(fabs(mean) < 0.0056);
    assert_true(fabs(square - 0.25) < 0.004);
    assert_true(fabs(fourth / (square * square) - 3.0) < 0.055);
    assert_true(fabs(neighbour / square) < 0.0112);
    /* Another name, another seed: other numbers, uncorrelated. */
    for (int k = 0; k < 2; k++) {
        init.seed = k == 0 ? 11 : 12;
        assert_int_equal(checkpoint_init_fetch(&init, k == 0 ? &other : &param, 0, N, part, &err), COHORT_OK);
        double cross = 0;
        for (int i = 0; i < N; i++)
            cross += (double)all[i] * (double)part[i] / N;
        assert_true(fabs(cross / square) < 0.0112);
    }
    /* BF16 is the same numbers, rounded. */
    uint16_t halves[64];
    init.seed = 11;
    param.format = gain.format = bias.format = STORAGE_BF16;
    assert_int_equal(checkpoint_init_fetch(&init, &param, 0, 64, halves, &err), COHORT_OK);
    for (int i = 0; i < 64; i++)
        assert_int_equal(halves[i], bf16_from_f32(all[i]));
    assert_int_equal(checkpoint_init_fetch(&init, &gain, 0, 64, halves, &err), COHORT_OK);
    assert_int_equal(halves[0], 0x3f80);
    assert_int_equal(halves[63], 0x3f80);
    assert_int_equal(checkpoint_init_fetch(&init, &bias, 0, 64, halves, &err), COHORT_OK);
    assert_int_equal(halves[0], 0);
    assert_int_equal(halves[63], 0);
    mem_free(all);
    mem_free(part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_conversions, setup),
                                       cmocka_unit_test_setup(test_types, setup),
                                       cmocka_unit_test_setup(test_not_finite, setup),
                                       cmocka_unit_test_setup(test_mismatch, setup),
                                       cmocka_unit_test_setup(test_index_refusals, setup),
                                       cmocka_unit_test_setup(test_hashes, setup),
                                       cmocka_unit_test_setup(test_threads, setup),
                                       cmocka_unit_test_setup(test_round_trip, setup),
                                       cmocka_unit_test_setup(test_formats, setup),
                                       cmocka_unit_test_setup(test_failed_write, setup),
                                       cmocka_unit_test_setup(test_init, setup)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
