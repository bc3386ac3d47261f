/* NFC against that of Hugging Face's tokenizers (tests/fixtures/tokenizer/nfc.json): every code point, every syllable
 * of Hangul, and random texts of marks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "text/tokenizer_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static json_t *fixture;
static struct form_buffer buffer;
static struct text page;
static unsigned char table[CHAR_TABLED];

static int set_up(void **state)
{
    json_error_t position;
    (void)state;
    nfc_table_fill(table);
    fixture = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/tokenizer/nfc.json", JSON_ALLOW_NUL, &position);
    return fixture == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(fixture);
    form_buffer_free(&buffer);
    text_free(&page);
    return 0;
}

/* As a whole, and by the table; both must agree. */
static const char *normalize(const char *text, size_t length, size_t *n)
{
    const char *normal = NULL, *quick = NULL;
    size_t n_quick = 0;
    assert_int_equal(form_normalize(FORM_NFC, text, length, &buffer, &normal, n, NULL), COHORT_OK);
    char *copy = NULL;
    assert_int_equal(mem_strdup(&copy, normal, *n, NULL), COHORT_OK);
    assert_int_equal(nfc_normalize(table, text, length, &buffer, &page, &quick, &n_quick, NULL), COHORT_OK);
    if (n_quick != *n || memcmp(quick, copy, *n) != 0)
        fail_msg("\"%.*s\": by the table \"%.*s\", expected \"%s\"", (int)length, text, (int)n_quick, quick, copy);
    mem_free(copy);
    return quick;
}

static void hash_normal(const char *text, size_t length, uint64_t *hash)
{
    size_t n = 0;
    const char *normal = normalize(text, length, &n);
    for (size_t i = 0; i < n; i++)
        *hash = (*hash ^ (unsigned char)normal[i]) * 0x100000001b3u;
}

static void check_hash(uint64_t hash, const json_t *wanted, const char *what)
{
    char found[20];
    snprintf(found, sizeof found, "%016" PRIx64, hash);
    if (json_string_value(wanted) == NULL || strcmp(found, json_string_value(wanted)) != 0)
        fail_msg("%s: the hash is %s, expected %s", what, found, json_string_value(wanted));
}

static void test_code_points(void **state)
{
    (void)state;
    for (uint32_t block = 0; block < 0x110; block++) {
        uint64_t hash = 0xcbf29ce484222325u;
        bool any = false;
        char key[8];
        for (uint32_t c = block << 12; c < (block + 1) << 12; c++) {
            char text[16] = "e";
            if (c >= 0xD800 && c < 0xE000)
                continue;
            size_t length = 1 + utf8_encode(c, text + 1);
            memcpy(text + length, "\xCC\x81\xCC\xA3\n", 5);
            hash_normal(text, length + 5, &hash);
            any = true;
        }
        snprintf(key, sizeof key, "%x", (unsigned)block);
        if (any)
            check_hash(hash, json_object_get(json_object_get(fixture, "blocks"), key), key);
    }
}

static void test_hangul(void **state)
{
    static const uint32_t finals[] = {0x11A6, 0x11A7, 0x11A8, 0x11C2, 0x11C3};
    uint64_t hash = 0xcbf29ce484222325u;
    (void)state;
    for (uint32_t syllable = 0xAC00; syllable < 0xD7A4; syllable++) {
        for (size_t i = 0; i < sizeof finals / sizeof finals[0]; i++) {
            char text[16];
            size_t length = utf8_encode(syllable, text);
            length += utf8_encode(finals[i], text + length);
            text[length++] = '\n';
            hash_normal(text, length, &hash);
        }
    }
    check_hash(hash, json_object_get(fixture, "hangul"), "hangul");
}

static void test_texts(void **state)
{
    const json_t *texts = json_object_get(fixture, "texts");
    (void)state;
    assert_true(json_array_size(texts) >= 300);
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(json_array_get(texts, i), 0),
                     *wanted = json_array_get(json_array_get(texts, i), 1);
        size_t n = 0;
        const char *normal = normalize(json_string_value(text), json_string_length(text), &n);
        if (n != json_string_length(wanted) || memcmp(normal, json_string_value(wanted), n) != 0)
            fail_msg("text %zu: \"%s\" became \"%.*s\", expected \"%s\"", i, json_string_value(text), (int)n, normal,
                     json_string_value(wanted));
    }
}

/* Marks in and out of their order, by the table and as a whole. */
static void test_order(void **state)
{
    static const char *const others[] = {"\xCC\xA7",     "\xD6\xB0",     "\xD9\x8B",
                                         "\xE0\xB8\xB8", "\xE0\xB9\x88", "\xE3\x82\x99"};
    (void)state;
    for (uint32_t c = 0x300; c < 0x1100; c++) {
        for (size_t i = 0; table[c] != 0 && i < sizeof others / sizeof others[0]; i++) {
            char text[16] = "a";
            size_t length = 1 + utf8_encode(c, text + 1), n = 0;
            memcpy(text + length, others[i], strlen(others[i]));
            normalize(text, length + strlen(others[i]), &n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_points),
        cmocka_unit_test(test_hangul),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
