/* Structs of callers that were built with an older or a newer cohort.h, by the functions that read and fill them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "api/sized.h"

#include <stdio.h>
#include <string.h>

/* Three versions of one struct. */
struct older {
    size_t size;
    int32_t needed;
};
struct ours {
    size_t size;
    int32_t needed, number;
    const char *text;
};
struct newer {
    struct ours known;
    int64_t added;
};
static const struct ours fresh = {.number = 7};
static const struct sized type = {"cohort_thing", sizeof(struct ours), offsetof(struct ours, number), &fresh};

static void test_older(void **state)
{
    (void)state;
    struct older given[2];
    struct ours known;
    cohort_error err = {0};
    memset(given, 0xff, sizeof given);
    sized_init(&type, &given[0], sizeof given[0]);
    assert_int_equal(given[0].size, sizeof given[0]);
    assert_int_equal(given[0].needed, 0);
    assert_int_equal(given[1].needed, -1); /* nothing behind it is touched */
    given[0].needed = 3;
    assert_int_equal(sized_read(&type, "f", &given[0], &known, &err), COHORT_OK);
    assert_int_equal(known.size, sizeof known);
    assert_int_equal(known.needed, 3);
    assert_int_equal(known.number, 7); /* what it does not have is as initialised */
    assert_null(known.text);
    sized_write(&type, &(struct ours){.needed = 4, .number = 5, .text = "x"}, &given[0]);
    assert_int_equal(given[0].size, sizeof given[0]);
    assert_int_equal(given[0].needed, 4);
    assert_int_equal(given[1].needed, -1);
}

static void test_newer(void **state)
{
    (void)state;
    struct newer given;
    struct ours known;
    cohort_error err = {0};
    sized_init(&type, &given, sizeof given);
    assert_int_equal(given.known.size, sizeof given);
    assert_int_equal(given.known.number, 7);
    assert_int_equal(given.added, 0);
    given.known.text = "x";
    assert_int_equal(sized_read(&type, "f", &given, &known, &err), COHORT_OK);
    assert_string_equal(known.text, "x");
    given.added = (int64_t)1 << 56; /* the last byte alone */
    assert_int_equal(sized_read(&type, "f", &given, &known, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "cohort_thing"));
    sized_write(&type, &(struct ours){.needed = 4}, &given);
    assert_int_equal(given.known.size, sizeof given);
    assert_int_equal(given.known.needed, 4);
    assert_int_equal(given.added, 0); /* nothing was filled in */
}

static void test_no_size(void **state)
{
    (void)state;
    const size_t wrong[] = {0, 1, sizeof(size_t), sizeof(struct older) - 5, 1 << 20, SIZE_MAX};
    struct ours given = {0}, known;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cohort_error err = {0};
        given.size = wrong[i];
        assert_int_equal(sized_read(&type, "f", &given, &known, &err), COHORT_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "cohort_thing_init"));
    }
}

/* An error of another version: what has room is filled, and nothing else is touched. */
static void test_error_sizes(void **state)
{
    (void)state;
    const size_t before = offsetof(cohort_error, message);
    for (size_t size = 0; size < sizeof(cohort_error) + 100; size += size < 200 ? 1 : 97) {
        union {
            cohort_error err;
            unsigned char bytes[sizeof(cohort_error) + 256];
        } u;
        memset(&u, 0xaa, sizeof u);
        u.err.size = size;
        const size_t room = size == 0 || size > sizeof u.err ? sizeof u.err : size < sizeof size ? sizeof size : size;
        assert_int_equal(error_set(&u.err, COHORT_ERR_IO, "%s", "reading /a/long/path/to/some/file: no such file"),
                         COHORT_ERR_IO);
        error_context(&u.err, "opening");
        for (size_t i = room; i < sizeof u.bytes; i++)
            assert_int_equal(u.bytes[i], 0xaa);
        assert_int_equal(u.err.size, size);
        if (size == 0 || size >= before)
            assert_int_equal(u.err.status, COHORT_ERR_IO);
        if (size == 0 || size > before + 64)
            assert_string_equal(u.err.message, "opening: reading /a/long/path/to/some/file: no such file");
        else if (size >= before + 16)
            assert_true(strlen(u.err.message) < size - before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older),
        cmocka_unit_test(test_newer),
        cmocka_unit_test(test_no_size),
        cmocka_unit_test(test_error_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
