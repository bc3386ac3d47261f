/* RNG reproducibility, SHA-256, text and error helpers, atomic writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Known answer of Random123 for philox4x32-10 with a zero counter and key, here reached with
 * purpose bits zero. */
static void test_philox_known_answer(void **state)
{
    (void)state;
    struct rng_block zero = rng_philox(0, (enum rng_purpose)0, 0, 0);
    assert_int_equal(zero.word[0], 0x6627e8d5u);
    assert_int_equal(zero.word[1], 0xe169c58du);
    assert_int_equal(zero.word[2], 0xbc57ac4cu);
    assert_int_equal(zero.word[3], 0x9b00dbd8u);
    struct rng_block other = rng_philox(0, RNG_SAMPLE, 0, 0);
    assert_memory_not_equal(&zero, &other, sizeof zero);
}

static void test_error_context(void **state)
{
    (void)state;
    cohort_error err = {0};
    error_set(&err, COHORT_ERR_IO, "disk %d", 7);
    error_context(&err, "while saving %s", "x");
    assert_string_equal(err.message, "while saving x: disk 7");
    assert_int_equal(err.status, COHORT_ERR_IO);
}

static void test_atomic_write(void **state)
{
    (void)state;
    cohort_error err = {0};
    char folder[] = "/tmp/cohort-base-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = NULL;
    assert_int_equal(file_join(&path, folder, "deep/er/file", &err), COHORT_OK);
    assert_int_equal(file_write_atomic(path, "abc", 3, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, path));
    char *parent = NULL;
    assert_int_equal(file_join(&parent, folder, "deep/er", &err), COHORT_OK);
    assert_int_equal(file_make_dirs(parent, &err), COHORT_OK);
    assert_int_equal(file_write_atomic(path, "abc", 3, &err), COHORT_OK);
    struct text text = {0};
    assert_int_equal(file_read(path, 2, &text, &err), COHORT_ERR_FORMAT);
    text_free(&text);
    assert_int_equal(file_read(path, 0, &text, &err), COHORT_OK);
    assert_string_equal(text.data, "abc");
    text_free(&text);
    assert_int_equal(file_remove_all(folder, &err), COHORT_OK);
    assert_false(file_exists(folder));
    mem_free(path);
    mem_free(parent);
}

/* FIPS 180-4's examples; a file hashes like its bytes, and boundaries of texts count. */
static void test_hash_known_answers(void **state)
{
    (void)state;
    cohort_error err = {0};
    char hex[HASH_HEX], other[HASH_HEX], path[] = "/tmp/cohort_hash_XXXXXX";
    struct hash hash;
    hash_begin(&hash);
    hash_end(&hash, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_begin(&hash);
    hash_add(&hash, "a", 1);
    hash_add(&hash, "bc", 2);
    hash_end(&hash, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "abc", 3), 3);
    close(fd);
    assert_int_equal(hash_file(path, other, &err), COHORT_OK);
    assert_string_equal(other, hex);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(hash_file(path, other, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, path));
    for (int i = 0; i < 2; i++) {
        hash_begin(&hash);
        hash_add_text(&hash, "ab", i == 0 ? 1 : 2);
        hash_add_text(&hash, i == 0 ? "bc" : "c", i == 0 ? 2 : 1);
        hash_end(&hash, i == 0 ? hex : other);
    }
    assert_string_not_equal(hex, other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answer),
        cmocka_unit_test(test_error_context),
        cmocka_unit_test(test_atomic_write),
        cmocka_unit_test(test_hash_known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
