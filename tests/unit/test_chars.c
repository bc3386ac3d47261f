/* What every character is, its lower case and its normal forms, against Hugging Face's tokenizers (fixtures of
 * oracle/tokenizer_classes.py: a hash for each property of all characters). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "text/tokenizer_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static json_t *fixture;

static int set_up(void **state)
{
    json_error_t position;
    (void)state;
    fixture = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/tokenizer/classes.json", 0, &position);
    return fixture == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(fixture);
    return 0;
}

static void hash_bytes(uint64_t *hash, const void *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        *hash = (*hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
}

static void check(const char *name, uint64_t hash)
{
    char found[20];
    const char *wanted = json_string_value(json_object_get(fixture, name));
    snprintf(found, sizeof found, "%016" PRIx64, hash);
    assert_non_null(wanted);
    if (strcmp(found, wanted) != 0)
        fail_msg("%s: the hash is %s, expected %s", name, found, wanted);
}

static uint32_t next(uint32_t c) { return c == 0xD7FF ? 0xE000 : c + 1; }

static void test_classes(void **state)
{
    static const struct {
        const char *name;
        unsigned classes;
    } cases[] = {{"digit", CHAR_DIGIT}, {"word", CHAR_WORD}, {"space", CHAR_SPACE}, {"punct", CHAR_PUNCT}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t hash = 0xcbf29ce484222325u;
        for (uint32_t c = 0; c < 0x110000; c = next(c)) {
            unsigned char has = (char_classes(c) & cases[i].classes) != 0;
            hash_bytes(&hash, &has, 1);
        }
        check(cases[i].name, hash);
    }
}

static void test_marks(void **state)
{
    (void)state;
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint32_t c = 0; c < 0x110000; c = next(c)) {
        unsigned char mark = char_is_mark(c);
        hash_bytes(&hash, &mark, 1);
    }
    check("mark", hash);
}

/* The steps of a normaliser, one at a time. */
static void check_step(const char *name, struct normal_step step)
{
    struct tokenizer tokenizer = {.normal_steps = &step, .n_normal = 1};
    struct normal_scratch scratch = {0};
    const struct normal_ends whole = {true, true};
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint32_t c = 0; c < 0x110000; c = next(c)) {
        char text[4];
        const char *normal = NULL;
        size_t n = 0;
        bool lost = false;
        const size_t length = utf8_encode(c, text);
        assert_int_equal(normalizer_run(&tokenizer, text, length, whole, &scratch, &normal, &n, &lost, NULL),
                         COHORT_OK);
        hash_bytes(&hash, normal, n);
        hash_bytes(&hash, "\n", 1);
    }
    normal_scratch_free(&scratch);
    check(name, hash);
}

static void test_forms(void **state)
{
    (void)state;
    check_step("lower", (struct normal_step){.kind = NORMAL_LOWERCASE});
    check_step("nfd", (struct normal_step){.kind = NORMAL_FORM, .form = FORM_NFD});
    check_step("nfkc", (struct normal_step){.kind = NORMAL_FORM, .form = FORM_NFKC});
    check_step("nfkd", (struct normal_step){.kind = NORMAL_FORM, .form = FORM_NFKD});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_forms),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
