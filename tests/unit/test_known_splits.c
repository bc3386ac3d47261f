/* The hand-written splits of Qwen, Llama 3 and GPT-2 against the matches that PCRE2 finds of the same patterns, on random
 * texts of characters on which the alternatives hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "text/tokenizer_internal.h"

#include <string.h>

static unsigned char classes[CHAR_TABLED];

static int set_up(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < CHAR_TABLED; c++)
        classes[c] = (unsigned char)char_classes(c);
    return 0;
}

/* Text n: up to 40 characters, half of them from a list, the others from all of Unicode. */
static size_t make_text(uint64_t n, char *text)
{
    static const char *const pieces[] = {" ",    "  ", "\n",       "\r",       "\t",           "'",
                                         "s",    "S",  "ll",       "LL",       "re",           "'Ve",
                                         "d",    "m",  "t",        "1",        "23",           "a",
                                         "word", ".",  "!?",       "\xC2\xA0", "\xC5\xBF",     "\xE2\x80\xA8",
                                         "_",    "-",  "\xC2\xBD", "\xCC\x81", "\xE1\xA0\x8E", "\xE4\xB8\xAD"};
    size_t length = 0;
    const uint64_t count = rng_philox(3, RNG_TEST, n, 0).word[0] % 40u;
    for (uint64_t i = 1; i <= count; i++) {
        struct rng_block draw = rng_philox(3, RNG_TEST, n, i);
        uint32_t c = draw.word[1] % (draw.word[2] % 4 == 0 ? 0x110000u : draw.word[2] % 4 == 1 ? 0x3000u : 0x20000u);
        if (draw.word[0] % 4 != 0 || (c >= 0xD800 && c < 0xE000)) {
            const char *piece = pieces[draw.word[3] % (sizeof pieces / sizeof pieces[0])];
            memcpy(text + length, piece, strlen(piece));
            length += strlen(piece);
        } else {
            length += utf8_encode(c, text + length);
        }
    }
    return length;
}

static void check(enum known_split known, uint64_t texts)
{
    const char *pattern = known_split_pattern(known);
    struct regex_run run = {0};
    pcre2_code *code = NULL;
    char text[400];
    assert_int_equal(regex_compile(&code, pattern, strlen(pattern), false, "test", "pattern", NULL), COHORT_OK);
    assert_int_equal(known_split_find(pattern, strlen(pattern)), known);
    for (uint64_t n = 0; n < texts; n++) {
        const size_t length = make_text(n, text);
        struct regex_cursor cursor = {0, SIZE_MAX};
        size_t from = 0, to = 0, at = 0;
        bool found = false;
        for (;;) {
            assert_int_equal(regex_next(&run, code, text, length, &cursor, &found, &from, &to, NULL), COHORT_OK);
            if (!found)
                break;
            const size_t end = known_split_match(known, classes, text, length, at);
            if (from != at || to != end)
                fail_msg("pattern %d, text %d \"%.*s\": from byte %zu to %zu, PCRE2 from %zu to %zu", (int)known,
                         (int)n, (int)length, text, at, end, from, to);
            at = to;
        }
        assert_int_equal(at, length);
    }
    regex_run_free(&run);
    pcre2_code_free(code);
}

static void test_gpt2(void **state)
{
    (void)state;
    check(SPLIT_GPT2, 60000);
}

static void test_qwen(void **state)
{
    (void)state;
    check(SPLIT_QWEN, 60000);
}

static void test_llama3(void **state)
{
    (void)state;
    check(SPLIT_LLAMA3, 60000);
}

static void test_others(void **state)
{
    (void)state;
    assert_int_equal(known_split_find("\\p{L}+", 6), SPLIT_REGEX);
    assert_null(known_split_pattern(SPLIT_REGEX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
