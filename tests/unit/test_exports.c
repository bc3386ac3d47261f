/* The files that runs are exported to, byte by byte: a record of a TensorBoard event file, and Parquet pages of several row
 * groups with nulls, which our own reader takes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "format/parquet_write.h"
#include "run/dataset.h"
#include "run/event_file.h"
#include "support/temporary_folder.h"

#include <math.h>
#include <string.h>

/* What TensorBoard 2.21 wrote and reads: reward 0.5 at step 2, with the checksums of length and content. */
static const unsigned char record[] = {0x1c, 0,    0,    0,    0,    0,    0,    0,    0xc8, 0xc1, 0x95,
                                       0x1d, 0x09, 0,    0,    0x80, 0x0c, 0x76, 0x4a, 0xda, 0x41, 0x10,
                                       0x02, 0x2a, 0x0f, 0x0a, 0x0d, 0x0a, 0x06, 'r',  'e',  'w',  'a',
                                       'r',  'd',  0x15, 0,    0,    0,    0x3f, 0xf7, 0x3f, 0xe6, 0x6b};

static void test_event_record(void **state)
{
    (void)state;
    struct event_file file = {0};
    struct text bytes = {0};
    cohort_error err = {0};
    double time = 0.0;
    memcpy(&time, record + 13, sizeof time);
    assert_int_equal(event_file_open(&file, folder, time, 2, &err), COHORT_OK);
    char name[64];
    snprintf(name, sizeof name, "/events.out.tfevents.%010.0f.", floor(time));
    assert_non_null(strstr(file.path, name));
    assert_int_equal(file_read(file.path, 0, &bytes, &err), COHORT_OK);
    const size_t head = bytes.length;
    assert_non_null(memmem(bytes.data, head, "brain.Event:2", 13));
    const cohort_metric reward = {"reward", 0.5};
    assert_int_equal(event_file_scalars(&file, time, 2, &reward, 1, &err), COHORT_OK);
    bytes.length = 0;
    assert_int_equal(file_read(file.path, 0, &bytes, &err), COHORT_OK);
    assert_int_equal(bytes.length, head + sizeof record);
    assert_memory_equal(bytes.data + head, record, sizeof record);
    /* Another one of the same second has another name. */
    struct event_file second = {0};
    assert_int_equal(event_file_open(&second, folder, time, 3, &err), COHORT_OK);
    assert_string_not_equal(file.path, second.path);
    event_file_close(&second);
    event_file_close(&file);
    text_free(&bytes);
    assert_int_equal(event_file_open(&file, in_folder("nowhere"), time, 2, &err), COHORT_ERR_IO);
}

static cohort_status take(void *context, const char *bytes, size_t length, cohort_error *err)
{
    return text_append(context, bytes, length, err);
}

/* Row i: number i, half of it where i % 3 == 0, and a text where i % 5 == 0. */
static void test_parquet(void **state)
{
    (void)state;
    enum { ROWS = (1 << 20) + 77 }; /* two row groups */
    static const struct parquet_column columns[] = {
        {"i", PARQUET_INTEGER}, {"half", PARQUET_NUMBER}, {"text", PARQUET_TEXT}, {"nothing", PARQUET_TEXT}};
    struct parquet_writer writer = {0};
    struct text bytes = {0};
    struct dataset set = {0};
    cohort_error err = {0};
    assert_int_equal(parquet_writer_open(&writer, columns, 4, take, &bytes, &err), COHORT_OK);
    for (int64_t i = 0; i < ROWS; i++) {
        char text[32];
        const int n = snprintf(text, sizeof text, "t%lld\"\n", (long long)-i);
        assert_int_equal(parquet_put_integer(&writer, 0, -i, &err), COHORT_OK);
        if (i % 3 == 0)
            assert_int_equal(parquet_put_number(&writer, 1, (double)i / 2, &err), COHORT_OK);
        if (i % 5 == 0)
            assert_int_equal(parquet_put_text(&writer, 2, text, i == 0 ? 0 : (size_t)n, &err), COHORT_OK);
        assert_int_equal(parquet_end_row(&writer, &err), COHORT_OK);
    }
    assert_int_equal(parquet_finish(&writer, &err), COHORT_OK);
    parquet_writer_close(&writer);
    assert_int_equal(file_write_atomic(in_folder("t.parquet"), bytes.data, bytes.length, &err), COHORT_OK);
    text_free(&bytes);
    const struct dataset_request request = {.spec = in_folder("t.parquet")};
    if (dataset_open(&set, &request, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(set.n_rows, ROWS);
    for (int64_t i = 0; i < ROWS; i += i < 40 || i > ROWS - 40 ? 1 : 9973) {
        json_t *row = NULL;
        char text[32];
        snprintf(text, sizeof text, "t%lld\"\n", (long long)-i);
        assert_int_equal(dataset_row(&set, (size_t)i, &row, &err), COHORT_OK);
        assert_int_equal(json_integer_value(json_object_get(row, "i")), -i);
        assert_int_equal(json_is_real(json_object_get(row, "half")), i % 3 == 0);
        assert_true(i % 3 != 0 || json_real_value(json_object_get(row, "half")) == (double)i / 2);
        assert_int_equal(json_is_string(json_object_get(row, "text")), i % 5 == 0);
        if (i % 5 == 0)
            assert_string_equal(json_string_value(json_object_get(row, "text")), i == 0 ? "" : text);
        assert_false(json_is_string(json_object_get(row, "nothing")));
        json_decref(row);
    }
    dataset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_event_record, setup),
                                       cmocka_unit_test_setup(test_parquet, setup)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
