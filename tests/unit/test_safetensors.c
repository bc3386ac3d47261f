/* Safetensors: what is read, every refusal by its message, what is written, and failing writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "format/safetensors.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort-safetensors-XXXXXX";
static char path[128];

static int setup(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static void put_file(uint64_t header_length, const char *header, const void *data, size_t data_bytes)
{
    struct text text = {0};
    cohort_error err = {0};
    assert_int_equal(text_append(&text, (const char *)&header_length, 8, &err), COHORT_OK);
    assert_int_equal(text_append(&text, header, strlen(header), &err), COHORT_OK);
    assert_int_equal(text_append(&text, data, data_bytes, &err), COHORT_OK);
    assert_int_equal(file_write_atomic(path, text.data, text.length, &err), COHORT_OK);
    text_free(&text);
}

static const unsigned char bytes[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static void put_header(const char *header, size_t data_bytes) { put_file(strlen(header), header, bytes, data_bytes); }

static void expect_refusal(const char *header, size_t data_bytes, const char *part)
{
    struct safetensors file;
    cohort_error err = {0};
    put_header(header, data_bytes);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_ERR_FORMAT);
    if (strstr(err.message, part) == NULL || strstr(err.message, path) != err.message)
        fail_msg("header %s\n  gave: %s\n  expected in it: %s", header, err.message, part);
    assert_null(file.tensors); /* nothing is left to close */
    assert_null(file.map.data);
}

static void test_read(void **state)
{
    (void)state;
    struct safetensors file;
    cohort_error err = {0};
    /* Out of order in name and in place, an empty tensor, a scalar, a type of another, an unaligned
     * one. */
    put_header("{\"__metadata__\":{\"format\":\"pt\"},"
               "\"w\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[1,9]},"
               "\"b\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[0,1]},"
               "\"e\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[9,9]},"
               "\"q\":{\"dtype\":\"NF4\",\"shape\":[14],\"data_offsets\":[9,16]}}  ",
               16);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_OK);
    assert_int_equal(file.n_tensors, 4);
    assert_string_equal(file.tensors[0].name, "b");
    assert_string_equal(file.tensors[3].name, "w");
    const struct safetensor *w = safetensors_find(&file, "w");
    assert_non_null(w);
    assert_true(w->has_dtype);
    assert_int_equal(w->dtype, DTYPE_BF16);
    assert_int_equal(w->rank, 2);
    assert_int_equal(w->shape[0], 2);
    assert_int_equal(w->shape[1], 2);
    assert_int_equal(w->count, 4);
    assert_int_equal(w->bytes, 8);
    assert_memory_equal(w->data, bytes + 1, 8);
    const struct safetensor *b = safetensors_find(&file, "b");
    assert_int_equal(b->count, 1);
    assert_int_equal(b->rank, 0);
    assert_false(b->has_dtype);
    assert_int_equal(safetensors_find(&file, "e")->count, 0);
    const struct safetensor *q = safetensors_find(&file, "q");
    assert_string_equal(q->dtype_name, "NF4");
    assert_false(q->has_dtype);
    assert_int_equal(q->bytes, 7);
    assert_null(safetensors_find(&file, "a"));
    assert_null(safetensors_find(&file, "x"));
    safetensors_close(&file);

    put_header("{}", 0);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_OK);
    assert_int_equal(file.n_tensors, 0);
    assert_null(safetensors_find(&file, "a"));
    safetensors_close(&file);
}

static void test_refuse_sizes(void **state)
{
    (void)state;
    struct safetensors file;
    cohort_error err = {0};
    assert_int_equal(file_write_atomic(path, "1234567", 7, &err), COHORT_OK);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "7 bytes are too few"));
    assert_int_equal(file_write_atomic(path, "", 0, &err), COHORT_OK);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "x.safetensors: empty"));
    static const uint64_t lengths[] = {3, 100000001, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put_file(lengths[i], "{}", "", 0);
        assert_int_equal(safetensors_open(&file, path, &err), COHORT_ERR_FORMAT);
        assert_non_null(strstr(err.message, "does not fit the file of 10 bytes"));
    }
    put_file(0, "", "", 0);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_ERR_FORMAT);
    unlink(path);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, path));
}

static void test_refuse_json(void **state)
{
    (void)state;
    char where[160];
    snprintf(where, sizeof where, "%s:2:", path);
    expect_refusal("{\n \"a\": }", 0, where);
    expect_refusal("[]", 0, "not a JSON object");
    expect_refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                   "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                   2, "duplicate object key");
    expect_refusal("{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "\\u0000");
    expect_refusal("{\"__metadata__\":[]}", 0, "__metadata__ is not an object");
    expect_refusal("{\"__metadata__\":null,\"a\":7}", 0,
                   "tensor a: its entry is not an object"); /* as MLX writes none */
    expect_refusal("{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: \"k\" is not a string");
    expect_refusal("{\"a\":7}", 0, "tensor a: its entry is not an object");
    expect_refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"z\":1}}", 1,
                   "tensor a: unknown key \"z\"");
}

static void test_refuse_tensor(void **state)
{
    (void)state;
    static const struct {
        const char *entry, *part;
    } cases[] = {
        {"\"shape\":[1],\"data_offsets\":[0,8]", "\"dtype\" is not a type name"},
        {"\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,8]", "\"dtype\" is not a type name"},
        {"\"dtype\":\"\",\"shape\":[1],\"data_offsets\":[0,8]", "\"dtype\" is not a type name"},
        {"\"dtype\":\"LONGNAME\",\"shape\":[1],\"data_offsets\":[0,8]", "\"dtype\" is not a type"},
        {"\"dtype\":\"U8\",\"data_offsets\":[0,8]", "\"shape\" is not a list"},
        {"\"dtype\":\"U8\",\"shape\":8,\"data_offsets\":[0,8]", "\"shape\" is not a list"},
        {"\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,8],\"data_offsets\":[0,8]", "at most 8"},
        {"\"dtype\":\"U8\",\"shape\":[8.0],\"data_offsets\":[0,8]", "shape[0] is not a whole"},
        {"\"dtype\":\"U8\",\"shape\":[1,-8],\"data_offsets\":[0,8]", "shape[1] is not a whole"},
        {"\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]", "overflows"},
        {"\"dtype\":\"F64\",\"shape\":[4611686018427387905],\"data_offsets\":[0,8]",
         "4611686018427387905 elements of F64 do not fill its 8 bytes"},
        {"\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]", "3 elements of F32 do not fill"},
        {"\"dtype\":\"F8_E5M2\",\"shape\":[4],\"data_offsets\":[0,8]", "4 elements of F8_E5M2"},
        {"\"dtype\":\"U8\",\"shape\":[8]", "\"data_offsets\" is not [begin, end]"},
        {"\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8,8]", "\"data_offsets\" is not"},
        {"\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,\"8\"]", "\"data_offsets\" is not"},
        {"\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[-1,7]", "do not lie within the 8 bytes"},
        {"\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,0]", "do not lie within the 8 bytes"},
        {"\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]", "do not lie within the 8 bytes"},
        {"\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9223372036854775806,"
         "9223372036854775807]",
         "do not lie within the 8 bytes"},
        {"\"dtype\":\"NEW\",\"shape\":[9],\"data_offsets\":[0,9]", "do not lie within the 8 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[300];
        snprintf(header, sizeof header, "{\"layer.a\":{%s}}", cases[i].entry);
        expect_refusal(header, 8, cases[i].part);
        expect_refusal(header, 8, "tensor layer.a");
    }
}

static void test_refuse_layout(void **state)
{
    (void)state;
    const char *pair = "{\"a\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]},"
                       "\"b\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]}}";
    static const struct {
        int begin_a, end_a, begin_b, end_b;
        const char *part;
    } cases[] = {{0, 5, 4, 8, "tensors a and b overlap at byte 4"},
                 {0, 8, 0, 8, "overlap at byte 0"},
                 {0, 8, 2, 4, "tensors a and b overlap at byte 2"},
                 {0, 8, 3, 3, "tensors a and b overlap at byte 3"},
                 {0, 3, 4, 8, "bytes 3 to 4 of the data, before tensor b, belong to no tensor"},
                 {4, 8, 1, 4, "bytes 0 to 1 of the data, before tensor b, belong to no tensor"},
                 {0, 3, 3, 6, "the last 2 bytes belong to no tensor"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[300];
        snprintf(header, sizeof header, pair, cases[i].end_a - cases[i].begin_a, cases[i].begin_a, cases[i].end_a,
                 cases[i].end_b - cases[i].begin_b, cases[i].begin_b, cases[i].end_b);
        expect_refusal(header, 8, cases[i].part);
    }
    expect_refusal("{}", 8, "the last 8 bytes belong to no tensor");
}

/* ---- writing ---- */

static cohort_status give_pattern(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    (void)err;
    const unsigned char *salt = context;
    for (size_t i = 0; i < length; i++)
        ((unsigned char *)to)[i] = (unsigned char)((offset + i) * 7 + (offset + i) / 256 + *salt);
    return COHORT_OK;
}

static cohort_status give_error(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    (void)context;
    (void)length;
    (void)to;
    return error_set(err, COHORT_ERR_NUMERIC, "no data at %zu", offset);
}

static void test_write(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct safetensors file;
    static unsigned char salts[] = {3, 90, 7, 1};
    /* The second is larger than two parts of the writer and not a multiple of them. */
    struct safetensors_source sources[] = {
        {"odd", "I8", 1, {3}, 3, give_pattern, &salts[0]},
        {"big \"quoted\" \xc3\xa9", "BF16", 2, {3, 1500001}, 9000006, give_pattern, &salts[1]},
        {"scalar", "F32", 0, {0}, 4, give_pattern, &salts[2]},
        {"empty", "F64", 2, {0, 9}, 0, give_pattern, &salts[3]}};
    char hex[HASH_HEX], hashed[HASH_HEX];
    assert_int_equal(safetensors_write(path, sources, 4, hex, &err), COHORT_OK);
    assert_int_equal(hash_file(path, hashed, NULL, &err), COHORT_OK);
    assert_string_equal(hex, hashed);
    assert_int_equal(safetensors_open(&file, path, &err), COHORT_OK);
    assert_int_equal(file.n_tensors, 4);
    uint64_t length = 0;
    memcpy(&length, file.map.data, 8);
    assert_int_equal(length % 8, 0);
    assert_non_null(strstr((const char *)file.map.data + 8, "{\"__metadata__\":{\"format\":\"pt\"},"));
    for (size_t i = 0; i < 4; i++) {
        const struct safetensor *tensor = safetensors_find(&file, sources[i].name);
        assert_non_null(tensor);
        assert_string_equal(tensor->dtype_name, sources[i].dtype_name);
        assert_int_equal(tensor->rank, sources[i].rank);
        assert_int_equal(tensor->bytes, sources[i].bytes);
        if (tensor->has_dtype)
            assert_int_equal((uintptr_t)tensor->data % dtype_bytes(tensor->dtype), 0);
        unsigned char *wanted = NULL;
        assert_int_equal(mem_alloc(&wanted, tensor->bytes, 1, "test", &err), COHORT_OK);
        give_pattern(sources[i].context, 0, tensor->bytes, wanted, NULL);
        assert_memory_equal(tensor->data, wanted, tensor->bytes);
        mem_free(wanted);
    }
    safetensors_close(&file);
}

static void test_write_refuses(void **state)
{
    (void)state;
    cohort_error err = {0};
    unlink(path);
    struct safetensors_source twice[] = {{"a", "U8", 1, {1}, 1, give_pattern, (void *)"a"},
                                         {"a", "U8", 1, {1}, 1, give_pattern, (void *)"a"}};
    assert_int_equal(safetensors_write(path, twice, 2, NULL, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "two tensors are named a"));
    twice[0].bytes = 2;
    assert_int_equal(safetensors_write(path, twice, 1, NULL, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "does not make 2 bytes"));
    twice[0].dtype_name = "Q4";
    assert_int_equal(safetensors_write(path, twice, 1, NULL, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "cannot write the type Q4"));
    struct safetensors_source broken = {"a", "U8", 1, {2000000}, 2000000, give_error, NULL};
    assert_int_equal(safetensors_write(path, &broken, 1, NULL, &err), COHORT_ERR_NUMERIC);
    assert_string_equal(err.message, "no data at 0");
    assert_false(access(path, F_OK) == 0);
    char nowhere[160];
    snprintf(nowhere, sizeof nowhere, "%s/none/x", folder);
    assert_int_equal(safetensors_write(nowhere, &broken, 0, NULL, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, nowhere));
}

/* A disk that is full after 1.5 MB, in a child whose file size is limited. */
static void test_write_full_disk(void **state)
{
    (void)state;
    unlink(path);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = {1500000, 1500000};
        cohort_error err = {0};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(2);
        struct safetensors_source source = {"a", "U8", 1, {4000000}, 4000000, give_pattern, (void *)"a"};
        cohort_status status = safetensors_write(path, &source, 1, NULL, &err);
        _exit(status == COHORT_ERR_IO && strstr(err.message, path) == err.message ? 0 : 1);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
    assert_false(access(path, F_OK) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read),          cmocka_unit_test(test_refuse_sizes),
                                       cmocka_unit_test(test_refuse_json),   cmocka_unit_test(test_refuse_tensor),
                                       cmocka_unit_test(test_refuse_layout), cmocka_unit_test(test_write),
                                       cmocka_unit_test(test_write_refuses), cmocka_unit_test(test_write_full_disk)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
