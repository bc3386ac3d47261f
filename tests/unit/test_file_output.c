/* A file and its hash as they are written: of every length around the parts, past the page cache and through it, and whatever
 * a file system answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/file_output.h"
#include "support/temporary_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- a file system ---- */

static bool refuses_direct, breaks_promise, writes_half;
static int fails_at, n_direct, n_through;

int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    long argument = va_arg(args, long);
    va_end(args);
    if (command == F_SETFL && (argument & O_DIRECT) != 0 && refuses_direct) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    const bool direct = (syscall(SYS_fcntl, fd, F_GETFL, 0) & O_DIRECT) != 0;
    if (direct && (breaks_promise || length % 512 != 0 || (uintptr_t)bytes % 512 != 0)) {
        errno = EINVAL;
        return -1;
    }
    *(direct ? &n_direct : &n_through) += 1;
    if (n_direct + n_through == fails_at) {
        errno = ENOSPC;
        return -1;
    }
    /* What follows is not aligned. */
    return (ssize_t)syscall(SYS_write, fd, bytes, writes_half && length > 2000 ? length / 2 + 7 : length);
}

/* ---- a file ---- */

enum { MIB = 1 << 20, MOST = 13 * MIB };
static unsigned char *bytes;

/* Adds the first length bytes, so many at once as there is room for, and at most step. */
static cohort_status write_file(const char *path, size_t length, size_t step, char hex[HASH_HEX], cohort_error *err)
{
    struct file_output *out = NULL;
    cohort_status status = COHORT_OK;
    n_direct = n_through = 0;
    TRY(file_output_open(&out, path, length, err));
    for (size_t at = 0, n; at < length; at += n) {
        void *room = file_output_room(out, &n);
        assert_true(n >= 8);
        n = n < step ? n : step;
        n = n < length - at ? n : length - at;
        memcpy(room, bytes + at, n);
        TRY_GOTO(file_output_add(out, n, err));
    }
    TRY_GOTO(file_output_end(out, hex, err));
cleanup:
    file_output_destroy(out);
    return status;
}

static void check_file(size_t length, size_t step)
{
    cohort_error err = {0};
    char hex[HASH_HEX], wanted[HASH_HEX];
    struct hash hash;
    struct text found = {0};
    const char *path = in_folder("file");
    assert_int_equal(write_file(path, length, step, hex, &err), COHORT_OK);
    hash_begin(&hash);
    hash_add(&hash, bytes, length);
    hash_end(&hash, wanted);
    assert_string_equal(hex, wanted);
    assert_int_equal(file_read(path, 0, &found, &err), COHORT_OK);
    assert_int_equal(found.length, length);
    assert_memory_equal(found.data, bytes, length);
    text_free(&found);
}

static void test_lengths(void **state)
{
    (void)state;
    static const size_t lengths[] = {
        0,           1,           4095,    4096,        4097,     4 * MIB - 1,        4 * MIB,
        4 * MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 8, 12 * MIB, 12 * MIB + 4096 + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        check_file(lengths[i], SIZE_MAX);
        if (lengths[i] < 8 * MIB)
            assert_int_equal(n_direct, 0);
    }
    check_file(9 * MIB + 13, 777 * 8); /* many small tensors */
}

static void test_past_the_cache(void **state)
{
    (void)state;
    check_file(12 * MIB + 100, SIZE_MAX);
    if (n_direct == 0)
        skip(); /* this file system cannot */
    assert_int_equal(n_direct, 3);
    assert_int_equal(n_through, 1);
}

static void test_where_it_cannot(void **state)
{
    (void)state;
    refuses_direct = true;
    check_file(12 * MIB + 100, SIZE_MAX);
    assert_int_equal(n_direct, 0);
    assert_int_equal(n_through, 4);
    refuses_direct = false;
    breaks_promise = true;
    check_file(12 * MIB + 100, SIZE_MAX);
    assert_int_equal(n_direct, 0);
    breaks_promise = false;
}

static void test_by_halves(void **state)
{
    (void)state;
    writes_half = true;
    check_file(12 * MIB + 100, SIZE_MAX);
    check_file(5 * MIB + 100, SIZE_MAX);
    writes_half = false;
}

static void test_failures(void **state)
{
    (void)state;
    cohort_error err = {0};
    for (fails_at = 1; fails_at <= 4; fails_at++) {
        assert_int_equal(write_file(in_folder("file"), 12 * MIB + 100, SIZE_MAX, NULL, &err), COHORT_ERR_IO);
        assert_non_null(strstr(err.message, "/file: cannot write: No space left on device; free some space"));
        assert_false(is_there(in_folder("file")));
    }
    fails_at = 0;
    struct file_output *out = NULL;
    assert_int_equal(file_output_open(&out, in_folder("none/file"), 1, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "cannot create"));
    assert_null(out);
    /* Left before its end. */
    assert_int_equal(file_output_open(&out, in_folder("file"), 100, &err), COHORT_OK);
    size_t room = 0;
    memset(file_output_room(out, &room), 1, 50);
    assert_int_equal(file_output_add(out, 50, &err), COHORT_OK);
    file_output_destroy(out);
    assert_false(is_there(in_folder("file")));
    file_output_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lengths, setup), cmocka_unit_test_setup(test_past_the_cache, setup),
        cmocka_unit_test_setup(test_where_it_cannot, setup), cmocka_unit_test_setup(test_by_halves, setup),
        cmocka_unit_test_setup(test_failures, setup)};
    bytes = malloc(MOST);
    for (size_t i = 0; bytes != NULL && i < MOST; i++)
        bytes[i] = (unsigned char)(i * 7 + (i >> 8) * 13 + (i >> 20));
    const int failed = bytes == NULL ? 1 : cmocka_run_group_tests(tests, group_setup, group_teardown);
    free(bytes);
    return failed;
}
