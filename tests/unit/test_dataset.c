/* JSONL data sets: what is accepted, every refusal with its place, and the shuffled order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "run/dataset.h"
#include "run/dataset_order.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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

enum { MOST = 8 };

/* A set with its first rows. */
struct loaded {
    struct dataset set;
    json_t *rows[MOST];
};

static void unload(struct loaded *loaded)
{
    for (size_t i = 0; i < MOST; i++)
        json_decref(loaded->rows[i]);
    memset(loaded->rows, 0, sizeof loaded->rows);
    dataset_free(&loaded->set);
}

/* Opens the set and reads every row. */
static cohort_status load_named(struct loaded *loaded, const char *name, cohort_error *err)
{
    memset(loaded->rows, 0, sizeof loaded->rows);
    cohort_status status = dataset_open(&loaded->set, &(struct dataset_request){.spec = name}, err);
    for (size_t i = 0; status == COHORT_OK && i < loaded->set.n_rows; i++) {
        json_t *row = NULL;
        status = dataset_row(&loaded->set, i, &row, err);
        if (i < MOST)
            loaded->rows[i] = row;
        else
            json_decref(row);
    }
    if (status != COHORT_OK)
        unload(loaded);
    return status;
}

static cohort_status load(struct loaded *loaded, const char *bytes, size_t length, cohort_error *err)
{
    assert_int_equal(file_write_atomic(path, bytes, length, NULL), COHORT_OK);
    return load_named(loaded, path, err);
}

/* The line that a row's messages say. */
static int line_of(const struct loaded *loaded, size_t row)
{
    char place[DATA_PLACE];
    dataset_place(&loaded->set, row, place);
    assert_memory_equal(place, path, strlen(path));
    return atoi(place + strlen(path) + 1);
}

static void refuses(const char *bytes, size_t length, const char *place, const char *says)
{
    struct loaded set;
    cohort_error err = {0};
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s:%s ", path, place);
    if (load(&set, bytes, length, &err) != COHORT_ERR_FORMAT)
        fail_msg("'%s' was accepted", bytes);
    if (strncmp(err.message, prefix, strlen(prefix)) != 0 || strstr(err.message, says) == NULL)
        fail_msg("'%s': \"%s\" is not at %s with \"%s\"", bytes, err.message, place, says);
    assert_null(set.set.files);
    assert_null(set.set.path);
}
#define REFUSES(text, place, says) refuses(text, sizeof(text) - 1, place, says)

static void test_accepts(void **state)
{
    (void)state;
    struct loaded set;
    cohort_error err = {0};
    const char rows[] = "\xef\xbb\xbf{\"a\": 1}\r\n\n  \t\r\n{\"a\": \"\xc3\xa9\\u0000\", \"b\": [1.5]}\n{\"a\":3}";
    assert_int_equal(load(&set, rows, sizeof rows - 1, &err), COHORT_OK);
    assert_int_equal(set.set.n_rows, 3);
    assert_int_equal(line_of(&set, 0), 1);
    assert_int_equal(line_of(&set, 1), 4);
    assert_int_equal(line_of(&set, 2), 5);
    assert_int_equal(json_integer_value(json_object_get(set.rows[2], "a")), 3);
    assert_string_equal(json_string_value(json_object_get(set.rows[1], "a")), "\xc3\xa9");
    assert_int_equal(json_string_length(json_object_get(set.rows[1], "a")), 3); /* with its NUL */
    assert_string_equal(set.set.path, path);
    char hex[HASH_HEX];
    assert_int_equal(hash_file(path, hex, NULL, &err), COHORT_OK);
    assert_string_equal(set.set.sha256, hex);
    unload(&set);
    unload(&set);
}

static void test_refuses(void **state)
{
    (void)state;
    REFUSES("", "", "the file is empty");
    REFUSES("\n \n", "", "no rows");
    REFUSES("prompt,answer\n\"2+2\",4\n", "1:1:", "name it .csv");
    REFUSES("\x1f\x8b\x08\x00\x01", "", "gzip stream is cut off");
    REFUSES("\xff\xfe{\0\"\0", "1:1:", "iconv -f UTF-16");
    REFUSES("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 3\n", "1:1:", "git lfs pull");
    REFUSES("\n<!DOCTYPE html>\n<html>", "1:1:", "a web page");
    REFUSES("{\"a\":1}\n[1]\n", "2:1:", "array");
    REFUSES("{\"a\":1}\n3\n", "2:1:", "'[' or '{'");
    REFUSES("{\"a\":1}\n\n{\"a\":1,\"a\":2}\n", "3:10:", "duplicate");
    REFUSES("{\"a\":\"\xff\"}\n", "1:6:", "decode");
    REFUSES("{\"a\":\"x\0y\"}\n", "1:8:", "NUL");
    REFUSES("{\"a\":1}{\"b\":2}\n", "1:8:", "end of file");
    REFUSES("{\"a\":1}\n{\"a\":\n1}\n", "2:", "does not end in its line");
    REFUSES("{\"a\":1}\n\xef\xbb\xbf{\"a\":1}\n", "2:1:", "JSON object"); /* a mark only at the start */

    struct loaded set;
    cohort_error err = {0};
    assert_int_equal(load_named(&set, "/nonexistent/rows", &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "/nonexistent/rows"));
    assert_int_equal(file_remove_all(path, &err), COHORT_OK);
    assert_int_equal(load_named(&set, folder, &err), COHORT_ERR_IO);
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

/* Numbers that neither int64 nor double holds refuse no row, wherever they stand; what the row says otherwise is as it
 * was, and mistakes are still at their place in the file. */
static void test_large_numbers(void **state)
{
    (void)state;
    struct loaded set;
    cohort_error err = {0};
    const char rows[] = "{\"p\":\"1e999 \\\" NaN\",\"u\":18446744073709551615,\"m\":-9223372036854775809,"
                        "\"i\":9223372036854775807,\"n\":-9223372036854775808}\n"
                        "{\"x\":[{\"y\":123456789012345678901234567890,\"z\":-1e400}],\"t\":1e999,\"q\":1e-400}\n"
                        "{\"a\":NaN,\"b\":Infinity,\"c\":[-Infinity,1.7976931348623157e308,1.8e308,"
                        "1.7976931348623158e+308],\"d\":0.25}\n";
    assert_int_equal(load(&set, rows, sizeof rows - 1, &err), COHORT_OK);
    assert_int_equal(set.set.n_rows, 3);
    static const char *const wanted[] = {
        "{\"p\":\"1e999 \\\" NaN\",\"u\":1.8446744073709552e19,\"m\":-9.2233720368547758e18,"
        "\"i\":9223372036854775807,\"n\":-9223372036854775808}",
        "{\"x\":[{\"y\":1.2345678901234568e29,\"z\":\"-1e400\"}],\"t\":\"1e999\",\"q\":0.0}",
        "{\"a\":null,\"b\":\"Infinity\",\"c\":[\"-Infinity\",1.7976931348623157e308,\"1.8e308\","
        "1.7976931348623157e308],\"d\":0.25}"};
    for (size_t i = 0; i < set.set.n_rows; i++) {
        char *text = json_dumps(set.rows[i], JSON_COMPACT);
        assert_string_equal(text, wanted[i]);
        free(text);
    }
    unload(&set);
    REFUSES("{\"a\":1}\n{\"u\":18446744073709551615,\"t\":1e999,}\n", "2:37:", "one JSON object a line");
    REFUSES("{\"a\":01e999}\n", "1:6:", "one JSON object a line");
    REFUSES("{\"a\":1e999,\"a\":2}\n", "1:14:", "duplicate");
    REFUSES("{\"a\":-Infinite}\n", "1:6:", "one JSON object a line");
}

/* A row of 100,000 of them is read in one more pass, not in one for each. */
static void test_many_large_numbers(void **state)
{
    (void)state;
    struct loaded set;
    cohort_error err = {0};
    struct text row = {0};
    enum { N = 100000 };
    assert_int_equal(text_append(&row, "{\"a\":[0", 7, &err), COHORT_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(text_append(&row, ",18446744073709551615", 21, &err), COHORT_OK);
    assert_int_equal(text_append(&row, "]}\n", 3, &err), COHORT_OK);
    clock_t start = clock();
    assert_int_equal(load(&set, row.data, row.length, &err), COHORT_OK);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    assert_int_equal(json_array_size(json_object_get(set.rows[0], "a")), N + 1);
    /* One pass takes a few hundredths; one for each number would take minutes. */
    assert_true(seconds < 5.0);
    unload(&set);
    text_free(&row);
}

/* Rows as other tools write them. */
static void test_other_tools(void **state)
{
    (void)state;
    static const struct {
        const char *row, *key, *value; /* the value as compact JSON */
    } cases[] = {                      /* pandas.to_json(lines=True): escaped slashes, null, whole numbers as reals */
                 {"{\"u\":\"http:\\/\\/a.b\\/c\",\"n\":null,\"f\":1.0}\n", "u", "\"http://a.b/c\""},
                 {"{\"u\":\"http:\\/\\/a.b\\/c\",\"n\":null,\"f\":1.0}\n", "n", "null"},
                 {"{\"d\":1700000000000,\"e\":\"\\u00e9\\ud83d\\ude00\"}\n", "e", "\"\xc3\xa9\xf0\x9f\x98\x80\""},
                 /* datasets.to_json, with nested lists and absent fields as null */
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":null}]}\n", "messages",
                  "[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":null}]"},
                 /* json.dumps: blanks, NaN and Infinity */
                 {"{\"a\": \"b\", \"s\": NaN}\n", "s", "null"},
                 {"{\"a\": \"b\", \"s\": -Infinity}\n", "s", "\"-Infinity\""},
                 {"{\"big\": 123456789012345678901234567890}\n", "big", "1.2345678901234568e29"},
                 {"{\"e\": 1E5, \"m\": -0, \"z\": -0.0, \"t\": true}\n", "e", "100000.0"},
                 {"{\"e\": 1E5, \"m\": -0, \"z\": -0.0, \"t\": true}\n", "z", "-0.0"},
                 /* jq -c keeps 1e1000 as the largest double, and writes 17 digits */
                 {"{\"a\":1.7976931348623157e+308}\n", "a", "1.7976931348623157e308"},
                 {"{\"a\":0.1,\"b\":100000000000000000000}\n", "b", "1e20"},
                 /* Excel and Windows editors: a byte order mark, CRLF, no newline at the end */
                 {"\xef\xbb\xbf{\"a\":1}\r\n{\"a\":2}\r\n", "a", "1"},
                 {"\xef\xbb\xbf\r\n{\"a\":1}", "a", "1"},
                 {"{\"a\":1}\r", "a", "1"},
                 /* line separators of Unicode are no ends of lines */
                 {"{\"a\":\"x\xe2\x80\xa8y\xc2\x85z\x7f\"}\n", "a", "\"x\xe2\x80\xa8y\xc2\x85z\x7f\""},
                 {"{\"a\":\"x\\u2028y\\u0000\"}\n", "a", "\"x\xe2\x80\xa8y\\u0000\""},
                 /* blank lines, blanks around rows, empty keys */
                 {"\n  \n\t{\"a\" : [ ] }  \n\n", "a", "[]"},
                 {"{\"\":1,\"a\":{}}\n", "", "1"},
                 {"{\"a\":\"\\b\\f\\n\\r\\t\\\\\\\"\"}\n", "a", "\"\\b\\f\\n\\r\\t\\\\\\\"\""},
                 {"{\"text\":\"<|im_start|>user\\n\"}\n", "text", "\"<|im_start|>user\\n\""},
                 {"{\"\xe7\xad\x94\":\"\xe5\x9b\x9b\"}\n", "\xe7\xad\x94", "\"\xe5\x9b\x9b\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct loaded set;
        cohort_error err = {0};
        if (load(&set, cases[i].row, strlen(cases[i].row), &err) != COHORT_OK)
            fail_msg("%s: %s", cases[i].row, err.message);
        char *text = json_dumps(json_object_get(set.rows[0], cases[i].key), JSON_COMPACT | JSON_ENCODE_ANY);
        assert_non_null(text);
        assert_string_equal(text, cases[i].value);
        free(text);
        unload(&set);
    }
}

/* Lines over the reader's chunk, and one over the limit. */
static void test_long_lines(void **state)
{
    (void)state;
    struct loaded set;
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
    assert_int_equal(set.set.n_rows, 3);
    for (int row = 0; row < 3; row++) {
        assert_int_equal(json_integer_value(json_object_get(set.rows[row], "n")), row);
        assert_int_equal(json_string_length(json_object_get(set.rows[row], "s")), big);
    }
    unload(&set);
    text_free(&bytes);

    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600); /* sparse, so nothing is written */
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{}\n", 3), 3);
    assert_int_equal(ftruncate(fd, (off_t)limit + 100000), 0);
    close(fd);
    assert_int_equal(load_named(&set, path, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, ":2:"));
    assert_non_null(strstr(err.message, "64 MB"));
}

static void test_standard_input(void **state)
{
    (void)state;
    int ends[2];
    struct loaded set;
    cohort_error err = {0};
    int kept = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "{\"a\":1}\n{\n", 10), 10);
    close(ends[1]);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    cohort_status status = load_named(&set, "-", &err);
    dup2(kept, STDIN_FILENO);
    close(kept);
    assert_int_equal(status, COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "standard input:2:"));
}

static struct dataset_order order_of(size_t n, uint64_t seed, bool shuffle)
{
    struct dataset_order order;
    assert_int_equal(dataset_order_create(&order, &(struct dataset_part){.n_rows = n}, 1, seed, shuffle, NULL),
                     COHORT_OK);
    return order;
}

static void test_order(void **state)
{
    (void)state;
    enum { N = 100 };
    struct dataset_order a = order_of(N, 7, true), b = order_of(N, 7, true), other = order_of(N, 8, true);
    size_t first[N], second[N], row = 0;
    int count[N] = {0}, same_place = 0, same_seed = 0;
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(dataset_order_at(&a, i, &first[i], NULL, NULL), COHORT_OK);
        count[first[i]]++;
    }
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(dataset_order_at(&a, N + i, &second[i], NULL, NULL), COHORT_OK);
        assert_int_equal(count[i], 1); /* a permutation */
        same_place += first[i] == second[i];
        assert_int_equal(dataset_order_at(&other, i, &row, NULL, NULL), COHORT_OK);
        same_seed += row == first[i];
    }
    /* One place in common is expected of two permutations; ten has a chance of about 1e-7. */
    assert_true(same_place < 10 && same_seed < 10);
    /* A function of i: a fresh walk from the middle, and backwards, gives the same rows. */
    for (size_t i = 2 * N; i-- > 0;) {
        assert_int_equal(dataset_order_at(&b, i, &row, NULL, NULL), COHORT_OK);
        assert_int_equal(row, i < N ? first[i] : second[i - N]);
    }
    struct dataset_order plain = order_of(3, 0, false), none = {0}, one = order_of(1, 0, true);
    uint64_t epoch = 0;
    assert_int_equal(dataset_order_at(&plain, 7, &row, &epoch, NULL), COHORT_OK);
    assert_int_equal(row, 1);
    assert_int_equal(epoch, 2);
    assert_int_equal(dataset_order_at(&one, 7, &row, NULL, NULL), COHORT_OK);
    assert_int_equal(row, 0);
    assert_int_equal(dataset_order_at(&none, 0, &row, NULL, NULL), COHORT_ERR_ARGUMENT);
    assert_int_equal(dataset_order_create(&none, &(struct dataset_part){0}, 1, 0, true, NULL), COHORT_ERR_ARGUMENT);
    dataset_order_free(&none);
    dataset_order_free(&plain);
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
    struct dataset_order order = order_of(3, 42, true);
    int counts[27] = {0};
    for (uint64_t epoch = 0; epoch < 600; epoch++) {
        size_t code = 0, row = 0;
        for (uint64_t i = 0; i < 3; i++) {
            assert_int_equal(dataset_order_at(&order, epoch * 3 + i, &row, NULL, NULL), COHORT_OK);
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

/* The order of a seed is what it was: a run that was begun by an earlier version goes on as it would have. */
static void test_order_recorded(void **state)
{
    (void)state;
    static const size_t wanted[2][5] = {{4, 3, 2, 0, 1}, {2, 0, 1, 4, 3}};
    struct dataset_order order = order_of(5, 42, true);
    for (uint64_t i = 0; i < 10; i++) {
        size_t row = 0;
        assert_int_equal(dataset_order_at(&order, i, &row, NULL, NULL), COHORT_OK);
        assert_int_equal(row, wanted[i / 5][i % 5]);
    }
    dataset_order_free(&order);
}

/* Weighted parts: shares to within one in every block and exact in the long run, each part walked as a set of its own,
 * never the same row and epoch twice, the same from any place, with and without shuffle. */
static void test_mixture(void **state)
{
    (void)state;
    enum { DRAWS = 20 * DATASET_BLOCK };
    static const struct dataset_part parts[] = {{.first = 0, .n_rows = 50, .weight = 0.7},
                                                {.first = 50, .n_rows = 7, .weight = 0.298},
                                                {.first = 57, .n_rows = 1000, .weight = 0.002}};
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        struct dataset_order order, again;
        cohort_error err = {0};
        size_t counts[3] = {0}, within[3] = {0};
        static size_t rows[DRAWS];
        static unsigned char seen[3][DRAWS + 1000];
        memset(seen, 0, sizeof seen);
        assert_int_equal(dataset_order_create(&order, parts, 3, 9, shuffle == 1, &err), COHORT_OK);
        assert_int_equal(dataset_order_create(&again, parts, 3, 9, shuffle == 1, &err), COHORT_OK);
        assert_int_equal(order.n, 1057);
        for (size_t i = 0; i < DRAWS; i++) {
            uint64_t epoch = 0;
            assert_int_equal(dataset_order_at(&order, i, &rows[i], &epoch, &err), COHORT_OK);
            const size_t p = rows[i] < 50 ? 0 : rows[i] < 57 ? 1 : 2, row = rows[i] - parts[p].first;
            assert_true(row < parts[p].n_rows);
            assert_int_equal(epoch, counts[p] / parts[p].n_rows);
            if (shuffle == 0)
                assert_int_equal(row, counts[p] % parts[p].n_rows);
            assert_int_equal(seen[p][epoch * parts[p].n_rows + row]++, 0);
            counts[p]++;
            within[p]++;
            if (i % DATASET_BLOCK == DATASET_BLOCK - 1)
                for (size_t q = 0; q < 3; q++) {
                    assert_true(fabs((double)within[q] - parts[q].weight * DATASET_BLOCK) <= 1.0 + 1e-6);
                    assert_true(fabs((double)counts[q] - parts[q].weight * (double)(i + 1)) <= 1.0 + 1e-6);
                    within[q] = 0;
                }
        }
        for (size_t k = 0; k < 500; k++) {
            const size_t i = (k * 7919) % DRAWS;
            size_t row = 0;
            assert_int_equal(dataset_order_at(&again, i, &row, NULL, &err), COHORT_OK);
            assert_int_equal(row, rows[i]);
        }
        dataset_order_free(&order);
        dataset_order_free(&again);
    }
    /* A share that is not drawn in every block has no exact place. */
    struct dataset_order order;
    cohort_error err = {0};
    const struct dataset_part uneven[] = {{.n_rows = 5, .weight = 1.0}, {.first = 5, .n_rows = 5, .weight = 5000.0}};
    assert_int_equal(dataset_order_create(&order, uneven, 2, 9, true, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "weight 1 of file 1"));
    dataset_order_free(&order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_numbers),  cmocka_unit_test(test_many_large_numbers),
        cmocka_unit_test(test_other_tools),    cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_standard_input), cmocka_unit_test(test_order),
        cmocka_unit_test(test_order_uniform),  cmocka_unit_test(test_order_recorded),
        cmocka_unit_test(test_mixture),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
