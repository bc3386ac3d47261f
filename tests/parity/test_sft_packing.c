/* Rows that are cut to be packed, packing_strategy bfd_split and wrapped, against what TRL trains on
 * (tests/fixtures/sft/cuts.json, oracle/sft_trl.py): which tokens are in a bin, and which of them are learned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json_text.h"
#include "recipe/sft_rows.h"
#include "support/temporary_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 97 };

static void must(cohort_status status, const cohort_error *err)
{
    if (status != COHORT_OK)
        fail_msg("%s", err->message);
}

/* Row i's token j is (7 i + j) mod 95; flags say which are learned. */
static void write_rows(const char *path, const json_t *rows)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *flags = json_string_value(json_array_get(rows, i));
        for (int labels = 0; labels < 2; labels++) {
            fprintf(file, labels ? "], \"labels\": [" : "{\"input_ids\": [");
            for (size_t j = 0; flags[j] != '\0'; j++) {
                const int id = (int)((7 * i + j) % 95);
                fprintf(file, "%s%d", j == 0 ? "" : ", ", labels && flags[j] == '0' ? -100 : id);
            }
        }
        fprintf(file, "]}\n");
    }
    assert_int_equal(fclose(file), 0);
}

static void check_piece(size_t unit, const json_t *want, const struct sft_row *row)
{
    if (json_is_integer(want)) {
        assert_int_equal(json_integer_value(want), row->ids.count);
        return;
    }
    const json_t *ids = json_object_get(want, "ids");
    const char *learned = json_string_value(json_object_get(want, "learned"));
    assert_int_equal(json_array_size(ids), row->ids.count);
    for (size_t j = 0; j < row->ids.count; j++)
        if (json_integer_value(json_array_get(ids, j)) != row->ids.ids[j] || (learned[j] == '1') != row->learned[j])
            fail_msg("unit %zu, token %zu: %d%s", unit, j, (int)row->ids.ids[j], row->learned[j] ? " learned" : "");
}

static void check_case(const char *path, const json_t *item)
{
    struct model model = {.config = {.vocab_size = VOCAB}};
    const struct session session = {.model = &model};
    const char *strategy = json_string_value(json_object_get(item, "strategy"));
    const json_t *bins = json_object_get(item, "bins");
    struct options *options = NULL;
    struct sft_rows rows;
    struct sft_row row = {0};
    cohort_error err = {0};
    int64_t learned = 0;
    const int32_t room = (int32_t)json_integer_value(json_object_get(item, "room"));
    const struct sft_packing packing = {
        .on = true, .strategy = strcmp(strategy, "wrapped") == 0 ? PACKING_WRAPPED : PACKING_BFD_SPLIT, .room = room};
    write_rows(path, json_object_get(item, "rows"));
    must(options_create(&options, FOR_SFT, &err), &err);
    must(options_set(options, "data", path, "--data", &err), &err);
    must(sft_rows_load(&rows, &session, OPTION_DATA, 0, room, &packing, options, NULL, &err), &err);
    assert_int_equal(rows.n_units, json_array_size(bins));
    for (size_t unit = 0; unit < rows.n_units; unit++) {
        size_t first = 0;
        const size_t n = sft_rows_unit(&rows, unit, &first);
        const json_t *want = json_array_get(bins, unit);
        assert_int_equal(n, json_array_size(want));
        for (size_t i = 0; i < n; i++) {
            must(sft_rows_read(&rows, first + i, &row, &err), &err);
            assert_true(sft_row_teaches(&row) && (int32_t)row.ids.count <= rows.longest);
            check_piece(unit, json_array_get(want, i), &row);
            learned += row.n_learned;
        }
    }
    assert_int_equal(learned, json_integer_value(json_object_get(item, "learned")));
    sft_row_free(&row);
    sft_rows_free(&rows);
    options_destroy(options);
}

static void test_cuts(void **state)
{
    (void)state;
    json_t *cases = NULL, *item;
    cohort_error err = {0};
    char path[300];
    size_t i;
    snprintf(path, sizeof path, "%s", in_folder("rows.jsonl"));
    must(json_text_read(&cases, COHORT_SOURCE_DIR "/tests/fixtures/sft/cuts.json", 1 << 24, 0, &err), &err);
    assert_int_equal(json_array_size(cases), 6);
    json_array_foreach(cases, i, item) check_case(path, item);
    json_decref(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_cuts, setup)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
