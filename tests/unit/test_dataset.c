/* JSONL data sets: what is accepted, every refusal with its place, and the shuffled order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "run/dataset.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort-dataset-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/rows.jsonl", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static cohort_status load(struct dataset *set, const char *bytes, size_t length, cohort_error *err)
{
    assert_int_equal(file_write_atomic(path, bytes, length, NULL), COHORT_OK);
    return dataset_load(set, path, err);
}

static void refuses(const char *bytes, size_t length, const char *place, const char *says)
{
    struct dataset set;
    cohort_error err = {0};
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s:%s ", path, place);
    if (load(&set, bytes, length, &err) != COHORT_ERR_FORMAT)
        fail_msg("'%s' was accepted", bytes);
    if (strncmp(err.message, prefix, strlen(prefix)) != 0 || strstr(err.message, says) == NULL)
        fail_msg("'%s': \"%s\" is not at %s with \"%s\"", bytes, err.message, place, says);
    assert_null(set.rows);
    assert_null(set.path);
}
#define REFUSES(text, place, says) refuses(text, sizeof(text) - 1, place, says)

static void test_accepts(void **state)
{
    (void)state;
    struct dataset set;
    cohort_error err = {0};
    const char rows[] =
        "\xef\xbb\xbf{\"a\": 1}\r\n\n  \t\r\n{\"a\": \"\xc3\xa9\\u0000\", \"b\": [1.5]}\n{\"a\":3}";
    assert_int_equal(load(&set, rows, sizeof rows - 1, &err), COHORT_OK);
    assert_int_equal(set.n_rows, 3);
    assert_int_equal(set.rows[0].line, 1);
    assert_int_equal(set.rows[1].line, 4);
    assert_int_equal(set.rows[2].line, 5);
    assert_int_equal(json_integer_value(json_object_get(set.rows[2].json, "a")), 3);
    assert_string_equal(json_string_value(json_object_get(set.rows[1].json, "a")), "\xc3\xa9");
    assert_int_equal(json_string_length(json_object_get(set.rows[1].json, "a")),
                     3); /* with its NUL */
    assert_string_equal(set.path, path);
    char hex[HASH_HEX];
    assert_int_equal(hash_file(path, hex, &err), COHORT_OK);
    assert_string_equal(set.sha256, hex);
    dataset_free(&set);
    dataset_free(&set);
}

static void test_refuses(void **state)
{
    (void)state;
    REFUSES("", "", "no rows");
    REFUSES("\n \n", "", "no rows");
    REFUSES("{\"a\":1}\n[1]\n", "2:1:", "array");
    REFUSES("{\"a\":1}\n3\n", "2:1:", "'[' or '{'");
    REFUSES("{\"a\":1}\n\n{\"a\":1,\"a\":2}\n", "3:10:", "duplicate");
    REFUSES("{\"a\":\"\xff\"}\n", "1:6:", "decode");
    REFUSES("{\"a\":\"x\0y\"}\n", "1:8:", "NUL");
    REFUSES("{\"a\":1}{\"b\":2}\n", "1:8:", "end of file");
    REFUSES("{\"a\":1e999}\n", "1:10:", "overflow");
    REFUSES("{\"a\":\n1}\n", "1:5:", "JSON object");
    REFUSES("{\"a\":NaN}\n", "1:8:", "JSON object");
    REFUSES("{\"a\":1}\n\xef\xbb\xbf{\"a\":1}\n",
            "2:1:", "JSON object"); /* a mark only at the start */

    struct dataset set;
    cohort_error err = {0};
    assert_int_equal(dataset_load(&set, "/nonexistent/rows", &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "/nonexistent/rows"));
    assert_int_equal(dataset_load(&set, folder, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "folder"));

    /* Deep nesting must not take the stack. */
    size_t depth = 200000;
    char *deep = malloc(depth + 8);
    assert_non_null(deep);
    memset(deep, '[', depth + 8);
    memcpy(deep, "{\"a\":", 5);
    assert_int_equal(load(&set, deep, depth, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "depth"));
    free(deep);
}

/* Lines over the reader's chunk, and one over the limit. */
static void test_long_lines(void **state)
{
    (void)state;
    struct dataset set;
    cohort_error err = {0};
    size_t big = 300000, limit = (size_t)64 << 20;
    struct text bytes = {0};
    for (int row = 0; row < 3; row++) {
        assert_int_equal(text_printf(&bytes, NULL, "{\"n\":%d,\"s\":\"", row), COHORT_OK);
        for (size_t i = 0; i < big / 10; i++)
            text_append(&bytes, "0123456789", 10, NULL);
        assert_int_equal(text_printf(&bytes, NULL, "\"}\n"), COHORT_OK);
    }
    assert_int_equal(load(&set, bytes.data, bytes.length, &err), COHORT_OK);
    assert_int_equal(set.n_rows, 3);
    for (int row = 0; row < 3; row++) {
        assert_int_equal(json_integer_value(json_object_get(set.rows[row].json, "n")), row);
        assert_int_equal(json_string_length(json_object_get(set.rows[row].json, "s")), big);
    }
    dataset_free(&set);
    text_free(&bytes);

    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600); /* sparse, so nothing is written */
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{}\n", 3), 3);
    assert_int_equal(ftruncate(fd, (off_t)limit + 100000), 0);
    close(fd);
    assert_int_equal(dataset_load(&set, path, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, ":2:"));
    assert_non_null(strstr(err.message, "64 MB"));
}

static void test_standard_input(void **state)
{
    (void)state;
    int ends[2];
    struct dataset set;
    cohort_error err = {0};
    int kept = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "{\"a\":1}\n{\n", 10), 10);
    close(ends[1]);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    cohort_status status = dataset_load(&set, "-", &err);
    dup2(kept, STDIN_FILENO);
    close(kept);
    assert_int_equal(status, COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "standard input:2:"));
}

static void test_order(void **state)
{
    (void)state;
    enum { N = 100 };
    struct dataset_order a = {.n = N, .seed = 7, .shuffle = true}, b = a, other = a;
    other.seed = 8;
    size_t first[N], second[N], row = 0;
    int count[N] = {0}, same_place = 0, same_seed = 0;
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(dataset_order_at(&a, i, &first[i], NULL), COHORT_OK);
        count[first[i]]++;
    }
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(dataset_order_at(&a, N + i, &second[i], NULL), COHORT_OK);
        assert_int_equal(count[i], 1); /* a permutation */
        same_place += first[i] == second[i];
        assert_int_equal(dataset_order_at(&other, i, &row, NULL), COHORT_OK);
        same_seed += row == first[i];
    }
    /* One place in common is expected of two permutations; ten has a chance of about 1e-7. */
    assert_true(same_place < 10 && same_seed < 10);
    /* A function of i: a fresh walk from the middle, and backwards, gives the same rows. */
    for (size_t i = 2 * N; i-- > 0;) {
        assert_int_equal(dataset_order_at(&b, i, &row, NULL), COHORT_OK);
        assert_int_equal(row, i < N ? first[i] : second[i - N]);
    }
    struct dataset_order plain = {.n = 3}, none = {.n = 0, .shuffle = true},
                         one = {.n = 1, .shuffle = true};
    assert_int_equal(dataset_order_at(&plain, 7, &row, NULL), COHORT_OK);
    assert_int_equal(row, 1);
    assert_int_equal(dataset_order_at(&one, 7, &row, NULL), COHORT_OK);
    assert_int_equal(row, 0);
    assert_int_equal(dataset_order_at(&none, 0, &row, NULL), COHORT_ERR_ARGUMENT);
    dataset_order_free(&a);
    dataset_order_free(&b);
    dataset_order_free(&other);
    dataset_order_free(&one);
}

/* Every one of the 6 orders of 3 rows comes about equally often: 600 epochs, 100 expected, standard
 * deviation 9. */
static void test_order_uniform(void **state)
{
    (void)state;
    struct dataset_order order = {.n = 3, .seed = 42, .shuffle = true};
    int counts[27] = {0};
    for (uint64_t epoch = 0; epoch < 600; epoch++) {
        size_t code = 0, row = 0;
        for (uint64_t i = 0; i < 3; i++) {
            assert_int_equal(dataset_order_at(&order, epoch * 3 + i, &row, NULL), COHORT_OK);
            code = code * 3 + row;
        }
        counts[code]++;
    }
    int seen = 0;
    for (size_t i = 0; i < 27; i++) {
        seen += counts[i] > 0;
        assert_true(counts[i] == 0 || (counts[i] > 55 && counts[i] < 145));
    }
    assert_int_equal(seen, 6);
    dataset_order_free(&order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),    cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_long_lines), cmocka_unit_test(test_standard_input),
        cmocka_unit_test(test_order),      cmocka_unit_test(test_order_uniform),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
