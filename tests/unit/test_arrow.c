/* Arrow files of other writers: their rows in any order, and every refusal by its message. The files and the rows that are
 * expected come from oracle/arrow_files.py. With arguments (FILE ORDER, where ORDER is ascending, descending or scattered)
 * it prints the rows of a file, for the sweep of that script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "format/arrow_internal.h"
#include "support/row_lines.h"

#include <stdio.h>
#include <stdlib.h>

static const char *fixture(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/tests/fixtures/arrow/%s", COHORT_SOURCE_DIR, name);
    return path;
}

static cohort_status write_row(struct arrow_file *file, int64_t row, struct text *out, cohort_error *err)
{
    json_t *json = NULL;
    out->length = 0;
    TRY(arrow_row(file, row, &json, err));
    const cohort_status status = json_text_write(json, JSON_COMPACT, out, err);
    json_decref(json);
    return status;
}

static void expect_row(struct arrow_file *file, const char *name, const struct lines *lines, size_t row)
{
    struct text text = {0};
    cohort_error err = {0};
    if (write_row(file, (int64_t)row, &text, &err) != COHORT_OK)
        fail_msg("%s, row %zu: %s", name, row, err.message);
    if (strcmp(text.data, lines->line[row]) != 0)
        fail_msg("%s, row %zu:\n%s\nexpected:\n%s", name, row, text.data, lines->line[row]);
    text_free(&text);
}

/* cache: bytes of unpacked batches that may stay. */
static void expect_rows(const char *name, const char *expected, size_t cache)
{
    struct lines lines;
    struct arrow_file *file = NULL;
    cohort_error err = {0};
    read_lines(&lines, fixture(expected));
    if (arrow_open(&file, fixture(name), &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(arrow_n_rows(file), lines.n);
    file->cache_bytes = cache;
    for (size_t i = 0; i < lines.n; i++)
        expect_row(file, name, &lines, i);
    for (size_t i = lines.n; i-- > 0;)
        expect_row(file, name, &lines, i);
    for (size_t i = 0; i < lines.n; i++)
        expect_row(file, name, &lines, (i * 7919 + 13) % lines.n);
    assert_true(file->n_slots <= 1 || file->slot_bytes <= cache);
    json_t *row = NULL;
    assert_int_equal(arrow_row(file, -1, &row, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(arrow_row(file, (int64_t)lines.n, &row, &err), COHORT_ERR_ARGUMENT);
    arrow_close(file);
    text_free(&lines.text);
}

static void test_rows(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"stream.arrow", "stream.jsonl"},    {"framed.arrow", "stream.jsonl"},
        {"zstd.arrow", "stream.jsonl"},      {"lz4.arrow", "stream.jsonl"},
        {"version_4.arrow", "stream.jsonl"}, {"sliced.arrow", "sliced.jsonl"},
        {"small.arrow", "small.jsonl"},      {"small_framed.arrow", "small.jsonl"},
        {"small_zstd.arrow", "small.jsonl"}, {"small_lz4.arrow", "small.jsonl"},
        {"legacy.arrow", "legacy.jsonl"},    {"default.feather", "default.jsonl"},
        {"no_rows.arrow", "no_rows.jsonl"},  {"replaced.arrow", "replaced.jsonl"},
        {"deltas.arrow", "deltas.jsonl"},    {"framed_deltas.arrow", "deltas.jsonl"},
        {"nested.arrow", "nested.jsonl"},    {"extensions.arrow", "extensions.jsonl"}};
    static const size_t caches[] = {ARROW_CACHE_BYTES, 20000, 0};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (size_t c = 0; c < sizeof caches / sizeof *caches; c++)
            expect_rows(files[i][0], files[i][1], caches[c]);
    arrow_close(NULL);
}

static void test_columns(void **state)
{
    (void)state;
    static const char *const columns[][2] = {{"messages", "list<struct<role: string, content: string>>"},
                                             {"large", "list<list<int16>>"},
                                             {"fixed", "list<string>"},
                                             {"views", "list<string>"},
                                             {"map", "map<string, int32>"},
                                             {"pairs", "map<int32, list<bool>>"},
                                             {"object", "struct<a: struct<b: list<null>>, c: date>"},
                                             {"categories", "list<string>"}};
    struct arrow_file *file = NULL;
    cohort_error err = {0};
    size_t found = 0;
    assert_int_equal(arrow_open(&file, fixture("stream.arrow"), &err), COHORT_OK);
    for (int32_t i = 0; i < arrow_n_columns(file); i++)
        for (size_t k = 0; k < sizeof columns / sizeof *columns; k++)
            if (strcmp(arrow_column_name(file, i), columns[k][0]) == 0) {
                assert_string_equal(arrow_column_type(file, i), columns[k][1]);
                found++;
            }
    assert_int_equal(found, sizeof columns / sizeof *columns);
    arrow_close(file);
}

/* Bytes that are not UTF-8 become null, and the file knows of which column. */
static void test_lost(void **state)
{
    (void)state;
    struct arrow_file *file = NULL;
    cohort_error err = {0};
    int32_t lost = 0;
    assert_int_equal(arrow_open(&file, fixture("stream.arrow"), &err), COHORT_OK);
    assert_null(arrow_lost(file));
    for (int64_t row = 0; row < arrow_n_rows(file); row++) {
        json_t *json = NULL;
        assert_int_equal(arrow_row(file, row, &json, &err), COHORT_OK);
        json_decref(json);
    }
    for (const char *name; (name = arrow_lost(file)) != NULL; lost++)
        for (int32_t i = 0; i < arrow_n_columns(file); i++)
            assert_true(strcmp(arrow_column_name(file, i), name) != 0 ||
                        strcmp(arrow_column_type(file, i), "binary") == 0);
    assert_true(lost > 1);
    assert_null(arrow_lost(file));
    arrow_close(file);
}

/* ---- refusals ---- */

static cohort_status read_all(const char *path, cohort_error *err)
{
    struct arrow_file *file = NULL;
    struct text text = {0};
    TRY(arrow_open(&file, path, err));
    cohort_status status = COHORT_OK;
    for (int64_t row = 0; row < arrow_n_rows(file) && status == COHORT_OK; row++)
        status = write_row(file, row, &text, err);
    text_free(&text);
    arrow_close(file);
    return status;
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const refusals[][2] = {{"cut", "it was cut short, or its writer was not closed; get it again"},
                                              {"no_end", "before its end mark"},
                                              {"head", "it was cut short"},
                                              {"twice", "behind its end mark; several streams are several files"},
                                              {"cut_framed", "does not end like one (ARROW1)"},
                                              {"footer", "its footer of 1073741824 bytes does not lie within the file"},
                                              {"metadata", "its metadata at byte 0 are damaged: "},
                                              {"offsets", "column x, row 1: it points outside of its bytes"},
                                              {"falling", "column x, row 2: it points outside of its bytes"},
                                              {"utf8", "column x, row 2: its text is not UTF-8"},
                                              {"map_key", "row 2: a key holds a NUL byte"},
                                              {"index", "column x, row 2: a value points outside of its dictionary"},
                                              {"union", "column x: its type is a union, which is not read"},
                                              {"runs", "column x: it is run-end encoded, which is not read"},
                                              {"interval", "column x: its type is an interval, which is not read"},
                                              {"no_columns", "the schema has no columns"},
                                              {"names", "two columns or fields are named \"x\""},
                                              {"text", "it was cut short"},
                                              {"bomb", "cannot unpack to as many bytes as its head states"},
                                              {"unpacked", "column x, batch at byte "},
                                              {"negative", "a buffer states a negative length"},
                                              {"damaged", "its data are not compressed with ZSTD"},
                                              {"deep", "it has more than 64 columns within each other"}};
    check_refusals(refusals, sizeof refusals / sizeof *refusals, "arrow", fixture, read_all);
}

static void test_cut(void **state)
{
    (void)state;
    check_cuts(fixture("stream.arrow"), 0, read_all);
    check_cuts(fixture("lz4.arrow"), 0, read_all);
    check_cuts(fixture("deltas.arrow"), 0, read_all);
}

/* ---- LZ4 ---- */

static void test_lz4(void **state)
{
    (void)state;
    /* By hand: literals "abcd", a copy that laps over what it writes, a stored block, checksums that are passed over. */
    static const uint8_t packed[] = {4,   0x22, 0x4d, 0x18, 0x74, 0x40, 0, 9, 0, 0, 0, 0x44, 'a',  'b', 'c',
                                     'd', 2,    0,    0x10, '!',  9,    9, 9, 9, 3, 0, 0,    0x80, 'x', 'y',
                                     'z', 9,    9,    9,    9,    0,    0, 0, 0, 9, 9, 9,    9};
    static const char text[] = "abcdcdcdcdcd!xyz";
    uint8_t out[32];
    assert_true(lz4_frame_unpack(packed, sizeof packed, out, sizeof text - 1));
    assert_memory_equal(out, text, sizeof text - 1);
    assert_false(lz4_frame_unpack(packed, sizeof packed, out, sizeof text - 2));
    assert_false(lz4_frame_unpack(packed, sizeof packed, out, sizeof text));
    for (size_t length = 0; length < sizeof packed; length++)
        assert_false(lz4_frame_unpack(packed, length, out, sizeof text - 1));
    for (size_t i = 0; i < 6; i++) { /* a wrong head; the second of its bytes says no more than how large blocks are */
        uint8_t wrong[sizeof packed];
        memcpy(wrong, packed, sizeof packed);
        wrong[i] ^= 0xff;
        assert_true(i == 5 || !lz4_frame_unpack(wrong, sizeof wrong, out, sizeof text - 1));
    }
}

static int print_rows(const char *path, const char *order)
{
    struct arrow_file *file = NULL;
    struct text text = {0};
    cohort_error err = {0};
    cohort_status status = arrow_open(&file, path, &err);
    const int64_t n = status == COHORT_OK ? arrow_n_rows(file) : 0;
    for (int64_t i = 0; i < n && status == COHORT_OK; i++) {
        const int64_t row = order[0] == 'a' ? i : order[0] == 'd' ? n - 1 - i : (i * 7919 + 13) % n;
        status = write_row(file, row, &text, &err);
        if (status == COHORT_OK)
            printf("%s\n", text.data);
    }
    if (status != COHORT_OK)
        fprintf(stderr, "%s\n", err.message);
    text_free(&text);
    arrow_close(file);
    return status != COHORT_OK;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return print_rows(argv[1], argc > 2 ? argv[2] : "ascending");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_columns),
                                       cmocka_unit_test(test_lost), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_cut),  cmocka_unit_test(test_lz4)};
    return cmocka_run_group_tests_name("arrow", tests, NULL, NULL);
}
