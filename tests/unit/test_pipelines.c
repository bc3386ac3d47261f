/* Every kind of step against Hugging Face's tokenizers (fixtures of oracle/tokenizers_train.py): two small vocabularies
 * that were trained there, in the pipelines of GPT-2, Qwen, Llama 3, Llama 2, Mistral and others, on lines in 60 scripts;
 * and Qwen3's own tokenizer on 5,000 lines, where it is at hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "text/tokenizer_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/tokenizer/"

static json_t *scripts;

static json_t *load(const char *name)
{
    char path[1000];
    json_error_t where;
    snprintf(path, sizeof path, FIXTURES "%s", name);
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &where);
    if (json == NULL)
        fail_msg("%s: %s", path, where.text);
    return json;
}

static int set_up(void **state)
{
    (void)state;
    scripts = load("scripts.json");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(scripts);
    return 0;
}

/* ---- lines: class Line of oracle/tokenizers_train.py ---- */

static uint64_t generator;

static uint64_t draw(uint64_t limit)
{
    generator = generator * 6364136223846793005u + 1442695040888963407u;
    return (generator >> 33) % limit;
}

static int64_t bound(const json_t *ranges, size_t at, size_t end)
{
    return json_integer_value(json_array_get(json_array_get(ranges, at), end));
}

static void append_character(const json_t *ranges, struct text *out)
{
    int64_t total = 0;
    char utf8[4];
    for (size_t i = 0; i < json_array_size(ranges); i++)
        total += bound(ranges, i, 1) - bound(ranges, i, 0) + 1;
    int64_t at = (int64_t)draw((uint64_t)total);
    for (size_t i = 0; i < json_array_size(ranges); i++) {
        int64_t size = bound(ranges, i, 1) - bound(ranges, i, 0) + 1;
        if (at < size) {
            size_t n = utf8_encode((uint32_t)(bound(ranges, i, 0) + at), utf8);
            assert_int_equal(text_append(out, utf8, n, NULL), COHORT_OK);
            return;
        }
        at -= size;
    }
}

static void make_line(uint64_t series, uint64_t n, struct text *out)
{
    const json_t *ranges = json_object_get(scripts, "ranges"), *pieces = json_object_get(scripts, "pieces");
    const size_t own = n % json_array_size(ranges);
    out->length = 0;
    generator = series * 1000003 + n * 7919 + 12345;
    draw(1);
    const uint64_t words = 1 + draw(9);
    for (uint64_t word = 0; word < words; word++) {
        const uint64_t kind = draw(8);
        if (kind < 2) {
            const json_t *piece = json_array_get(pieces, draw(json_array_size(pieces)));
            assert_int_equal(text_append(out, json_string_value(piece), json_string_length(piece), NULL), COHORT_OK);
        } else {
            const size_t script = kind < 7 ? own : draw(json_array_size(ranges));
            for (uint64_t k = 1 + draw(9); k > 0; k--)
                append_character(json_array_get(ranges, script), out);
        }
        if (draw(3) > 0)
            assert_int_equal(text_append(out, " ", 1, NULL), COHORT_OK);
    }
}

/* ---- comparing ---- */

static void hash_bytes(uint64_t *hash, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        *hash = (*hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
}

static void hash_ids(uint64_t *hash, const struct token_list *list)
{
    char number[24];
    for (size_t i = 0; i < list->count; i++) {
        int n = snprintf(number, sizeof number, i == 0 ? "%d" : " %d", (int)list->ids[i]);
        hash_bytes(hash, number, (size_t)n);
    }
    hash_bytes(hash, "\n", 1);
}

/* The text of ids; a stream of them must give the same, in whole characters. */
static void hash_text(uint64_t *hash, const struct tokenizer *tokenizer, const struct token_list *list, bool skip)
{
    struct text whole = {0}, streamed = {0};
    struct token_stream stream = {0};
    assert_int_equal(tokenizer_decode(tokenizer, list->ids, list->count, skip, &whole, NULL), COHORT_OK);
    assert_int_equal(text_append(&streamed, "", 0, NULL), COHORT_OK);
    for (size_t i = 0; i < list->count; i++) {
        size_t before = streamed.length;
        assert_int_equal(token_stream_push(&stream, tokenizer, list->ids[i], skip, &streamed, NULL), COHORT_OK);
        assert_int_equal(utf8_check(streamed.data + before, streamed.length - before), streamed.length - before);
    }
    assert_int_equal(token_stream_finish(&stream, tokenizer, &streamed, NULL), COHORT_OK);
    assert_int_equal(streamed.length, whole.length);
    assert_memory_equal(streamed.data, whole.data, whole.length);
    hash_bytes(hash, whole.data, whole.length);
    hash_bytes(hash, "\n", 1);
    token_stream_free(&stream);
    text_free(&whole);
    text_free(&streamed);
}

/* With COHORT_PRINT_LINES=NAME the lines of that pipeline and their ids are printed, to be compared by hand. */
static void check_blocks(const struct tokenizer *tokenizer, const char *name, uint64_t series, const json_t *blocks)
{
    enum { BLOCK = 100 };
    static const char *const what[] = {"ids", "text", "text without special tokens"};
    const char *printed = getenv("COHORT_PRINT_LINES");
    struct text line = {0};
    struct token_list list = {0};
    int wrong = 0;
    for (size_t block = 0; block < json_array_size(blocks); block++) {
        uint64_t hashes[3] = {0xcbf29ce484222325u, 0xcbf29ce484222325u, 0xcbf29ce484222325u};
        for (uint64_t n = block * BLOCK; n < (block + 1) * BLOCK; n++) {
            cohort_error err = {0};
            make_line(series, n, &line);
            list.count = 0;
            if (tokenizer_encode_text(tokenizer, line.data, line.length, false, &list, &err) != COHORT_OK)
                fail_msg("%s, line %d: %s", name, (int)n, err.message);
            hash_ids(&hashes[0], &list);
            hash_text(&hashes[1], tokenizer, &list, false);
            hash_text(&hashes[2], tokenizer, &list, true);
            for (size_t i = 0; printed != NULL && strcmp(printed, name) == 0 && i < list.count; i++)
                printf("%d%c", (int)list.ids[i], i + 1 == list.count ? '\n' : ' ');
        }
        for (size_t k = 0; k < 3; k++) {
            char found[20];
            snprintf(found, sizeof found, "%016" PRIx64, hashes[k]);
            if (strcmp(found, json_string_value(json_array_get(json_array_get(blocks, block), k))) != 0)
                print_error("%s: lines from %d: the %s differ (%d)\n", name, (int)(block * BLOCK), what[k], ++wrong);
        }
    }
    text_free(&line);
    token_list_free(&list);
    if (wrong > 0)
        fail();
}

static void set_at(json_t *root, const char *path, json_t *value)
{
    const char *dot = strchr(path, '.');
    if (dot != NULL) {
        assert_int_equal((int)(dot - path), 5); /* model */
        root = json_object_get(root, "model");
        path = dot + 1;
    }
    assert_int_equal(json_object_set(root, path, value), 0);
}

/* The vocabulary and merges with one token across words. */
static void add_across(json_t *root)
{
    json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    json_object_set_new(vocab, "e\xE2\x96\x81", json_integer((json_int_t)json_object_size(vocab)));
    json_array_insert_new(json_object_get(model, "merges"), 0, json_pack("[s, s]", "e", "\xE2\x96\x81"));
}

static struct tokenizer *build(const json_t *row)
{
    char name[64];
    const char *key = NULL;
    json_t *value = NULL;
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    snprintf(name, sizeof name, "trained_%s.json", json_string_value(json_object_get(row, "base")));
    json_t *root = load(name);
    json_object_foreach(json_object_get(row, "changes"), key, value) set_at(root, key, value);
    if (json_is_true(json_object_get(row, "across")))
        add_across(root);
    char *text = json_dumps(root, JSON_COMPACT);
    if (tokenizer_parse(&tokenizer, text, strlen(text), name, &err) != COHORT_OK)
        fail_msg("%s: %s", json_string_value(json_object_get(row, "name")), err.message);
    free(text);
    json_decref(root);
    return tokenizer;
}

static void test_pipelines(void **state)
{
    (void)state;
    json_t *rows = load("pipelines.json");
    assert_true(json_array_size(rows) >= 30);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        struct tokenizer *tokenizer = build(row);
        check_blocks(tokenizer, json_string_value(json_object_get(row, "name")),
                     (uint64_t)json_integer_value(json_object_get(row, "series")), json_object_get(row, "blocks"));
        tokenizer_destroy(tokenizer);
    }
    json_decref(rows);
}

/* A text in two parts, cut before a space between words: the ids are those of the whole. */
static void check_going_on(const struct tokenizer *tokenizer, const char *name)
{
    static const char text[] = "the cat and the dog, 12 of them";
    struct token_list whole = {0}, parts = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, sizeof text - 1, true, &whole, NULL), COHORT_OK);
    for (size_t cut = 1; cut < sizeof text - 1; cut++) {
        if (text[cut] != ' ')
            continue;
        parts.count = 0;
        assert_int_equal(tokenizer_encode_more(tokenizer, text, cut, NULL, &parts, NULL), COHORT_OK);
        assert_int_equal(tokenizer_encode_more(tokenizer, text + cut, sizeof text - 1 - cut, NULL, &parts, NULL),
                         COHORT_OK);
        if (parts.count != whole.count || memcmp(parts.ids, whole.ids, whole.count * sizeof *whole.ids) != 0)
            fail_msg("%s: other ids if cut at byte %zu", name, cut);
    }
    token_list_free(&whole);
    token_list_free(&parts);
}

static void test_going_on(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2",      "gpt2 with a space before the text",
                                        "qwen",      "llama3",
                                        "llama2",    "mistral",
                                        "metaspace", "metaspace, first"};
    json_t *rows = load("pipelines.json"), *row = NULL;
    size_t at = 0, checked = 0;
    json_array_foreach(rows, at, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            if (strcmp(name, names[i]) != 0)
                continue;
            struct tokenizer *tokenizer = build(row);
            check_going_on(tokenizer, name);
            tokenizer_destroy(tokenizer);
            checked++;
        }
    }
    assert_int_equal(checked, sizeof names / sizeof *names);
    json_decref(rows);
}

static void test_qwen(void **state)
{
    (void)state;
    char dir[1000], path[1100];
    const char *given = getenv("COHORT_TEST_DATA");
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    snprintf(dir, sizeof dir, "%s/qwen3-tokenizer", given != NULL ? given : COHORT_SOURCE_DIR "/../shared/data");
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    if (access(path, F_OK) != 0) {
        print_message("%s is absent: skipped (set COHORT_TEST_DATA)\n", path);
        skip();
    }
    if (tokenizer_load(&tokenizer, dir, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(json_array_size(json_object_get(scripts, "qwen")), 50);
    check_blocks(tokenizer, "Qwen3", 1000, json_object_get(scripts, "qwen"));
    tokenizer_destroy(tokenizer);
}

/* What is put around a text, and where it is not. In a file of Llama's, add_prefix_space of tokenizer_config.json says what
 * the pipeline does anyway. */
static void test_around(void **state)
{
    static const char config[] = "{\"tokenizer_class\": \"LlamaTokenizer\", \"add_prefix_space\": true}";
    char folder[] = "/tmp/cohort-pipelines-XXXXXX", path[200];
    struct tokenizer *tokenizer = NULL;
    struct token_list bare = {0}, whole = {0}, going_on = {0};
    cohort_error err = {0};
    (void)state;
    json_t *rows = load("pipelines.json"), *root = load("trained_chars.json"), *mistral = NULL, *row = NULL,
           *value = NULL;
    const char *key = NULL;
    size_t at = 0;
    json_array_foreach(rows, at, row) if (strcmp(json_string_value(json_object_get(row, "name")), "mistral") == 0)
        mistral = row;
    json_object_foreach(json_object_get(mistral, "changes"), key, value) set_at(root, key, value);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    assert_int_equal(file_write_atomic(path, config, sizeof config - 1, NULL), COHORT_OK);
    if (tokenizer_load(&tokenizer, folder, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(tokenizer_encode(tokenizer, "the <s>", 7, true, &bare, NULL), COHORT_OK);
    assert_int_equal(tokenizer_encode_text(tokenizer, "the <s>", 7, false, &whole, NULL), COHORT_OK);
    assert_int_equal(tokenizer_encode_text(tokenizer, "the <s>", 7, true, &going_on, NULL), COHORT_OK);
    assert_int_equal(whole.count, bare.count + 2); /* <s> before, </s> behind */
    assert_int_equal(going_on.count, bare.count + 1);
    assert_int_equal(whole.ids[0], 1);
    assert_int_equal(whole.ids[whole.count - 1], 2);
    assert_memory_equal(whole.ids + 1, bare.ids, bare.count * sizeof *bare.ids);
    assert_memory_equal(whole.ids, going_on.ids, going_on.count * sizeof *going_on.ids);
    bare.count = 0;
    assert_int_equal(tokenizer_encode_content(tokenizer, "the <s>", 7, NULL, &bare, NULL), COHORT_OK);
    assert_int_equal(bare.count, going_on.count - 1);
    assert_int_equal(file_remove_all(folder, NULL), COHORT_OK);
    token_list_free(&bare);
    token_list_free(&whole);
    token_list_free(&going_on);
    tokenizer_destroy(tokenizer);
    json_decref(root);
    json_decref(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipelines),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_around),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
