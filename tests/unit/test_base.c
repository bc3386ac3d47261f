/* RNG reproducibility, SHA-256, text and error helpers, atomic writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/wrong_file.h"
#include "tensor/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Known answer of Random123 for philox4x32-10 with a zero counter and key, here reached with purpose bits zero. */
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
    assert_false(access(folder, F_OK) == 0);
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
    assert_int_equal(hash_file(path, other, NULL, &err), COHORT_OK);
    assert_string_equal(other, hex);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(hash_file(path, other, NULL, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, path));
    for (int i = 0; i < 2; i++) {
        hash_begin(&hash);
        hash_add_text(&hash, "ab", i == 0 ? 1 : 2);
        hash_add_text(&hash, i == 0 ? "bc" : "c", i == 0 ? 2 : 1);
        hash_end(&hash, i == 0 ? hex : other);
    }
    assert_string_not_equal(hex, other);
}

/* A message too long keeps its reason, and both ends of the path. */
static void test_long_messages(void **state)
{
    (void)state;
    cohort_error err = {0};
    char path[6000];
    memset(path, 'p', sizeof path);
    memcpy(path, "/begin", 6);
    strcpy(path + sizeof path - 5, "/end");
    error_set(&err, COHORT_ERR_IO, "%s: cannot open: %s", path, "File name too long");
    assert_true(strlen(err.message) == sizeof err.message - 1);
    assert_memory_equal(err.message, "/begin", 6);
    assert_non_null(strstr(err.message, "ppp...ppp"));
    assert_non_null(strstr(err.message, "p/end: cannot open: File name too long"));
    error_set(&err, COHORT_ERR_IO, "x: the reason");
    error_context(&err, "%s", path);
    assert_true(strlen(err.message) == sizeof err.message - 1);
    assert_non_null(strstr(err.message, "p/end: x: the reason"));
    /* No word is long enough: the middle of the text goes. No character of UTF-8 is cut in two. */
    struct text words = {0};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(text_append(&words, "\xc3\xa9\xe2\x80\xa6 ", 6, &err), COHORT_OK);
    for (int shift = 1; shift <= 6; shift++) { /* the cut falls on every byte of them */
        error_set(&err, COHORT_ERR_FORMAT, "%.*s: %s: the end", shift, "abcdef", words.data);
        size_t length = strlen(err.message);
        assert_true(length <= sizeof err.message - 1 && length > sizeof err.message - 16);
        assert_string_equal(err.message + length - 7, "the end");
        for (size_t i = 0; i < length; i++) {
            unsigned char c = (unsigned char)err.message[i];
            size_t n = c == 0xc3 ? 2 : c == 0xe2 ? 3 : 1;
            assert_true(n > 1 || c < 0x80);
            for (; n > 1; n--)
                assert_true(((unsigned char)err.message[++i] & 0xc0) == 0x80);
        }
    }
    text_free(&words);
    /* The arguments may be the message itself. */
    error_set(&err, COHORT_ERR_IO, "inner");
    error_set(&err, COHORT_ERR_IO, "%s, and more", err.message);
    assert_string_equal(err.message, "inner, and more");
}

/* Only what is not there is absent. */
static void test_file_look(void **state)
{
    (void)state;
    cohort_error err = {0};
    char folder[] = "/tmp/cohort-look-XXXXXX", path[400];
    enum file_kind kind = FILE_ABSENT;
    bool there = true;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(file_look(folder, &kind, &err), COHORT_OK);
    assert_int_equal(kind, FILE_FOLDER);
    snprintf(path, sizeof path, "%s/a", folder);
    assert_int_equal(file_exists(path, &there, &err), COHORT_OK);
    assert_false(there);
    assert_int_equal(file_write_atomic(path, "x", 1, &err), COHORT_OK);
    assert_int_equal(file_look(path, &kind, &err), COHORT_OK);
    assert_int_equal(kind, FILE_FILE);
    snprintf(path, sizeof path, "%s/a/b", folder); /* ENOTDIR */
    assert_int_equal(file_exists(path, &there, &err), COHORT_OK);
    assert_false(there);
    snprintf(path, sizeof path, "%s/nowhere", folder);
    assert_int_equal(symlink("no-such-file", path), 0);
    assert_int_equal(file_exists(path, &there, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "nowhere: a link to something that is not there"));
    snprintf(path, sizeof path, "%s/loop", folder);
    assert_int_equal(symlink("loop", path), 0);
    assert_int_equal(file_look(path, &kind, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "loop: cannot look at it"));
    snprintf(path, sizeof path, "%s/%0300d", folder, 0); /* ENAMETOOLONG */
    there = true;
    assert_int_equal(file_exists(path, &there, &err), COHORT_OK);
    assert_false(there);
    assert_int_equal(file_remove_all(folder, &err), COHORT_OK);
}

static void test_wrong_file(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *said;
        enum wrong_file_wanted wanted;
    } cases[] = {{"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS", WRONG_FILE_JSON},
                 {"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS", WRONG_FILE_WEIGHTS},
                 {"GGUF\x03", "a GGUF file", WRONG_FILE_WEIGHTS},
                 {" \n<!doctype HTML><html>", "a web page", WRONG_FILE_WEIGHTS},
                 {"\xef\xbb\xbf<html lang=", "a web page", WRONG_FILE_JSON},
                 {"Invalid username or password.", "error message of a server", WRONG_FILE_JSON},
                 {"PK\x03\x04", "torch.save", WRONG_FILE_WEIGHTS},
                 {"\x80\x02}q", "pickle", WRONG_FILE_WEIGHTS},
                 {"PAR1", "read_parquet", WRONG_FILE_ROWS},
                 {"{\"a\": 1}", "JSON text", WRONG_FILE_WEIGHTS},
                 {"{\"a\": 1}", NULL, WRONG_FILE_JSON},
                 {"{\"a\": 1}", NULL, WRONG_FILE_ROWS},
                 {"G", NULL, WRONG_FILE_WEIGHTS},
                 {"   ", NULL, WRONG_FILE_ROWS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *said = wrong_file(cases[i].bytes, strlen(cases[i].bytes), cases[i].wanted);
        if ((said == NULL) != (cases[i].said == NULL) || (said != NULL && strstr(said, cases[i].said) == NULL))
            fail_msg("%s gave %s", cases[i].bytes, said == NULL ? "nothing" : said);
    }
    assert_null(wrong_file(NULL, 0, WRONG_FILE_JSON));
}

/* Every F16 number is its own rounding; between two neighbours the nearer one is taken, of equally near ones the even. */
static void f16_is_rounded_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000u; h++) {
        const uint16_t half = (uint16_t)h;
        const float value = f32_from_f16(half);
        if ((half & 0x7c00u) == 0x7c00u && (half & 0x3ffu) != 0) {
            assert_true(isnan(value) && isnan(f32_from_f16(f16_from_f32(value))));
            continue;
        }
        assert_int_equal(f16_from_f32(value), half);
        if ((half & 0x7fffu) >= 0x7bffu)
            continue;
        const float next = f32_from_f16((uint16_t)(half + 1)), middle = value + (next - value) / 2;
        assert_int_equal(f16_from_f32(middle), half % 2 == 0 ? half : half + 1);
        assert_int_equal(f16_from_f32(nextafterf(middle, value)), half);
        assert_int_equal(f16_from_f32(nextafterf(middle, next)), half + 1);
    }
    assert_int_equal(f16_from_f32(65519.996f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
    assert_int_equal(f16_from_f32(-1e30f), 0xfc00);
    assert_int_equal(f16_from_f32(-INFINITY), 0xfc00);
    assert_int_equal(f16_from_f32(1e-30f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_is_rounded_to_even), cmocka_unit_test(test_philox_known_answer),
        cmocka_unit_test(test_error_context),     cmocka_unit_test(test_atomic_write),
        cmocka_unit_test(test_long_messages),     cmocka_unit_test(test_file_look),
        cmocka_unit_test(test_wrong_file),        cmocka_unit_test(test_hash_known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
