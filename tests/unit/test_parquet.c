/* Parquet files of other writers: their rows in any order, columns left out, and every refusal by its message. The files
 * and the rows that are expected come from oracle/parquet_files.py. With arguments (FILE ORDER, where ORDER is ascending,
 * descending or scattered) it prints the rows of a file, for the sweep of that script; with FILE time, how many rows were
 * read in ascending order and in how many seconds of the processor's time, for bench/peers/peer_parquet.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "format/parquet_internal.h"
#include "support/row_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FOLDER COHORT_SOURCE_DIR "/tests/fixtures/parquet/"

static const char *fixture(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s%s", FOLDER, name);
    return path;
}

/* JSON as text shows the order of keys, and 1 apart from 1.0. */
static cohort_status write_row(struct parquet_file *file, int64_t row, struct text *out, cohort_error *err)
{
    json_t *json = NULL;
    out->length = 0;
    TRY(parquet_row(file, row, &json, err));
    cohort_status status = json_text_write(json, JSON_COMPACT, out, err);
    json_decref(json);
    return status;
}

/* ---- rows ---- */

static void expect_row(struct parquet_file *file, const char *name, const struct lines *lines, size_t row)
{
    struct text text = {0};
    cohort_error err = {0};
    if (write_row(file, (int64_t)row, &text, &err) != COHORT_OK)
        fail_msg("%s, row %zu: %s", name, row, err.message);
    if (strcmp(text.data, lines->line[row]) != 0)
        fail_msg("%s, row %zu:\n%s\nexpected:\n%s", name, row, text.data, lines->line[row]);
    text_free(&text);
}

static void expect_rows(const char *name, const char *expected)
{
    struct lines lines;
    struct parquet_file *file = NULL;
    cohort_error err = {0};
    read_lines(&lines, fixture(expected));
    if (parquet_open(&file, fixture(name), &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(parquet_n_rows(file), lines.n);
    for (size_t i = 0; i < lines.n; i++)
        expect_row(file, name, &lines, i);
    for (size_t i = lines.n; i-- > 0;)
        expect_row(file, name, &lines, i);
    for (size_t i = 0; i < lines.n; i++)
        expect_row(file, name, &lines, (i * 7919 + 13) % lines.n);
    parquet_close(file);
    /* Of a file that was just opened, the last row first. */
    assert_int_equal(parquet_open(&file, fixture(name), &err), COHORT_OK);
    if (lines.n > 0)
        expect_row(file, name, &lines, lines.n - 1);
    parquet_close(file);
    text_free(&lines.text);
}

static void test_encodings(void **state)
{
    (void)state;
    static const char *const codecs[] = {"none", "snappy", "gzip", "zstd"};
    char name[64];
    for (size_t i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "encodings_%s_%zu.parquet", codecs[i / 2], i % 2 + 1);
        expect_rows(name, "encodings.jsonl");
    }
}

static void test_nested(void **state)
{
    (void)state;
    expect_rows("nested_1.parquet", "nested.jsonl");
    expect_rows("nested_2.parquet", "nested.jsonl");
    expect_rows("two_level.parquet", "two_level.jsonl");
}

static void test_types(void **state)
{
    (void)state;
    expect_rows("types.parquet", "types.jsonl");
    expect_rows("int96.parquet", "int96.jsonl");
    expect_rows("converted.parquet", "converted.jsonl");
    expect_rows("bit_packed.parquet", "bit_packed.jsonl");
}

static void test_files(void **state)
{
    (void)state;
    expect_rows("groups.parquet", "groups.jsonl");
    expect_rows("no_rows.parquet", "no_rows.jsonl");
    expect_rows("no_groups.parquet", "no_rows.jsonl");
    expect_rows("wide.parquet", "wide.jsonl");
    expect_rows("unicode.parquet", "unicode.jsonl");
    expect_rows("pandas.parquet", "pandas.jsonl");
}

/* With hardly any room for pages they are given up and decoded again, and dictionaries with them. */
static void test_small_cache(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"groups.parquet", "groups.jsonl"},
                                           {"nested_1.parquet", "nested.jsonl"},
                                           {"encodings_zstd_1.parquet", "encodings.jsonl"}};
    static const size_t rooms[] = {0, 1000, 20000};
    static const size_t most[] = {4500, 2200, 16000}; /* of a page or two of each column with its dictionary */
    for (size_t i = 0; i < 9; i++) {
        struct lines lines;
        struct parquet_file *file = NULL;
        cohort_error err = {0};
        read_lines(&lines, fixture(names[i / 3][1]));
        assert_int_equal(parquet_open(&file, fixture(names[i / 3][0]), &err), COHORT_OK);
        file->cache_bytes = rooms[i % 3];
        for (size_t row = 0; row < lines.n; row++) {
            expect_row(file, names[i / 3][0], &lines, (row * 7919 + 13) % lines.n);
            size_t current = 0;
            for (size_t slot = 0; slot < file->n_slots; slot++)
                current += file->slots[slot]->bytes;
            assert_int_equal(current, file->slot_bytes);
        }
        assert_true(file->slot_bytes < rooms[i % 3] + most[i / 3]);
        assert_true(file->slot_bytes < rooms[i % 3] + file->n_leaves * 6000);
        parquet_close(file);
        text_free(&lines.text);
    }
}

/* ---- columns ---- */

static void test_columns(void **state)
{
    (void)state;
    static const char *const columns[][2] = {
        {"messages", "list<struct<role: string, content: string>>"},
        {"lists", "list<list<int32>>"},
        {"must", "struct<id: int32, tags: list<string>>"},
        {"object", "struct<a: struct<b: struct<c: int64>>, d: list<double>>"},
        {"named", "map<string, int32>"},
        {"numbered", "map<int32, list<string>>"},
        {"deep", "list<struct<calls: list<struct<name: string, arguments: map<string, string>>>>>"},
        {"three", "list<list<list<bool>>>"}};
    struct parquet_file *file = NULL;
    cohort_error err = {0};
    json_t *row = NULL;
    assert_int_equal(parquet_open(&file, fixture("nested_1.parquet"), &err), COHORT_OK);
    assert_int_equal(parquet_n_columns(file), 8);
    for (int32_t i = 0; i < 8; i++) {
        assert_string_equal(parquet_column_name(file, i), columns[i][0]);
        assert_string_equal(parquet_column_type(file, i), columns[i][1]);
        parquet_column_read(file, i, i == 2);
    }
    assert_int_equal(parquet_row(file, 30, &row, &err), COHORT_OK);
    assert_int_equal(json_object_size(row), 1);
    assert_non_null(json_object_get(row, "must"));
    json_decref(row);
    parquet_column_read(file, 0, true);
    assert_int_equal(parquet_row(file, 30, &row, &err), COHORT_OK);
    assert_int_equal(json_object_size(row), 2);
    json_decref(row);
    parquet_close(file);
    parquet_close(NULL);
}

/* A column that is not read may be anything. */
static void test_left_out(void **state)
{
    (void)state;
    struct parquet_file *file = NULL;
    cohort_error err = {0};
    json_t *row = NULL;
    assert_int_equal(parquet_open(&file, fixture("wrong_lz4.parquet"), &err), COHORT_OK);
    assert_int_equal(parquet_row(file, 0, &row, &err), COHORT_ERR_UNSUPPORTED);
    assert_null(row);
    parquet_column_read(file, 0, false);
    assert_int_equal(parquet_row(file, 0, &row, &err), COHORT_OK);
    assert_int_equal(json_object_size(row), 0);
    json_decref(row);
    assert_int_equal(parquet_row(file, 2, &row, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(parquet_row(file, -1, &row, &err), COHORT_ERR_ARGUMENT);
    parquet_close(file);
}

/* ---- refusals ---- */

static cohort_status read_all(const char *path, cohort_error *err)
{
    struct parquet_file *file = NULL;
    struct text text = {0};
    TRY(parquet_open(&file, path, err));
    cohort_status status = COHORT_OK;
    for (int64_t row = 0; row < parquet_n_rows(file) && status == COHORT_OK; row++)
        status = write_row(file, row, &text, err);
    if (status != COHORT_OK) { /* it stays refused */
        cohort_error again = {0};
        for (int64_t row = 0; row < parquet_n_rows(file) && row < 3; row++)
            (void)write_row(file, row, &text, &again);
    }
    text_free(&text);
    parquet_close(file);
    return status;
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const refusals[][2] = {
        {"cut_short", "does not end like one (PAR1), so that it was cut short"},
        {"magic", "not a Parquet file: it does not begin with PAR1"},
        {"tiny", "does not end like one"},
        {"encrypted", "it is encrypted"},
        {"encrypted_columns", "it is encrypted"},
        {"encrypted_column", "column x, row group 1: it is encrypted"},
        {"elsewhere", "column x, row group 1: its data lie in another file"},
        {"footer_length", "its footer of 1073741824 bytes does not lie within the file"},
        {"footer_text", ", at byte "},
        {"outside", "column x, row group 1: its pages do not lie within the file"},
        {"negative", "column x, row group 1: its place or size is missing or negative"},
        {"overlap", "column y: its pages at byte 6 lie within those of another column"},
        {"many_rows", "it states 3 rows, its row groups hold 2"},
        {"many_values", "column x, row group 1: it states more values than its bytes can hold"},
        {"few_values", "column x, row group 1: its pages hold 2 values, expected 3"},
        {"no_columns", "the schema has no columns"},
        {"twice", "two columns or fields are named \"x\""},
        {"deep", "too deep within each other (more than 64)"},
        {"children", "it has fewer fields than it states"},
        {"kind", "column x: its type is not one of the format's"},
        {"name", "its name is not text in UTF-8"},
        {"encoding",
         "column x, page at byte 4: values of this type are not read in the encoding DELTA_LENGTH_BYTE_ARRAY"},
        {"encoding_unknown", "column x, page at byte 4: an unknown encoding (77)"},
        {"short_page", "column x, page at byte 4: its bytes end before its values"},
        {"crc", "column x, page at byte 4: its checksum does not fit its bytes"},
        {"bomb", "column x, page at byte 4: its data cannot unpack to as many bytes as its head states"},
        {"bomb_snappy", "column x, page at byte 4: its data cannot unpack to as many bytes as its head states"},
        {"bomb_zstd", "column x, page at byte 4: its data cannot unpack to as many bytes as its head states"},
        {"unpacked", "column x, page at byte 4: its data do not unpack to the size that its head states"},
        {"snappy", "its data are not compressed with SNAPPY"},
        {"zstd", "its data are not compressed with ZSTD"},
        {"gzip", "its data are not compressed with GZIP"},
        {"lz4", "column x: compressed with LZ4_RAW, which is not read; write the file with SNAPPY, GZIP, ZSTD"},
        {"brotli", "column x: compressed with BROTLI, which is not read"},
        {"many_items", "row 1 has more than 16777216 values"},
        {"many_bytes", "column x[], row 1: the row has more than 268435456 bytes of text"},
        {"utf8", "column x, row 2: its text is not UTF-8"},
        {"map_key", "column x (its keys), row 2: a key holds a NUL byte"},
        {"long_text", "a value is longer than the page"},
        {"dictionary", "its values point into a dictionary, and the column has none"},
        {"index", "a value points behind the end of the dictionary"},
        {"two_dictionaries", "page at byte 21: a dictionary that is not the column's first page"},
        {"level", "column g.h.x, page at byte 4: a level is higher than the schema allows"},
        {"within", "column x[], page at byte 4: the column begins within a row"},
        {"disagree", "column s.b[], row 1: its nesting is not that of the columns beside it"},
        {"absent", "column s.b, row 1: its nesting is not that of the columns beside it"},
        {"wide_delta", "a difference has more than 64 bits"},
        {"prefix", "a value takes more from the one before than that has"}};
    check_refusals(refusals, sizeof refusals / sizeof *refusals, "parquet", fixture, read_all);
}

static void test_cut(void **state)
{
    (void)state;
    check_cuts(fixture("groups.parquet"), 41, read_all);
}

/* ---- UTF-8 ---- */

static void test_utf8(void **state)
{
    (void)state;
    static const char text[] = "0123456789abcdef \xc3\xa4\xe6\x97\xa5\xf0\x9f\x98\x80 0123456789abcdef";
    static const struct {
        const char *bytes;
        size_t length, valid;
    } wrong[] = {{"01234567\x80", 9, 8}, {"0123456789abcde\xff", 16, 15},
                 {"\xc3", 1, 0},         {"01234567\xed\xa0\x80", 11, 8},
                 {"\xc0\x80", 2, 0},     {"\xf4\x90\x80\x80", 4, 0}};
    assert_int_equal(utf8_check(text, sizeof text - 1), sizeof text - 1);
    for (size_t at = 0; at < sizeof text - 1; at++) { /* one wrong byte anywhere */
        char bytes[sizeof text];
        memcpy(bytes, text, sizeof text);
        bytes[at] = (char)0xff;
        const size_t valid = utf8_check(bytes, sizeof text - 1);
        assert_true(valid <= at && at - valid < 4);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(utf8_check(wrong[i].bytes, wrong[i].length), wrong[i].valid);
}

static int print_rows(const char *path, const char *order)
{
    struct parquet_file *file = NULL;
    struct text text = {0};
    cohort_error err = {0};
    cohort_status status = parquet_open(&file, path, &err);
    const int64_t n = status == COHORT_OK ? parquet_n_rows(file) : 0;
    for (int64_t i = 0; i < n && status == COHORT_OK; i++) {
        const int64_t row = order[0] == 'a' ? i : order[0] == 'd' ? n - 1 - i : (i * 7919 + 13) % n;
        status = write_row(file, row, &text, &err);
        if (status == COHORT_OK)
            printf("%s\n", text.data);
    }
    if (status != COHORT_OK)
        fprintf(stderr, "%s\n", err.message);
    text_free(&text);
    parquet_close(file);
    return status != COHORT_OK;
}

static int time_rows(const char *path)
{
    struct parquet_file *file = NULL;
    cohort_error err = {0};
    const clock_t start = clock();
    cohort_status status = parquet_open(&file, path, &err);
    const int64_t n = status == COHORT_OK ? parquet_n_rows(file) : 0;
    for (int64_t row = 0; row < n && status == COHORT_OK; row++) {
        json_t *json = NULL;
        status = parquet_row(file, row, &json, &err);
        json_decref(json);
    }
    parquet_close(file);
    if (status == COHORT_OK)
        printf("%lld %.6f\n", (long long)n, (double)(clock() - start) / CLOCKS_PER_SEC);
    else
        fprintf(stderr, "%s\n", err.message);
    return status != COHORT_OK;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[2], "time") == 0)
        return time_rows(argv[1]);
    if (argc > 1)
        return print_rows(argv[1], argc > 2 ? argv[2] : "ascending");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_encodings), cmocka_unit_test(test_nested),
                                       cmocka_unit_test(test_types),     cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_columns),   cmocka_unit_test(test_small_cache),
                                       cmocka_unit_test(test_left_out),  cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_cut),       cmocka_unit_test(test_utf8)};
    return cmocka_run_group_tests_name("parquet", tests, NULL, NULL);
}
