/* The tokenizer against Hugging Face's ids and texts (fixtures of oracle/tokenizer_hf.py, made with
 * Qwen3's tokenizer), against a plain reference on a small tokenizer, and on files and texts that
 * are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "text/chat_template.h"
#include "text/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FIXTURES  COHORT_SOURCE_DIR "/tests/fixtures/tokenizer/"
#define BYTES_DIR COHORT_BINARY_DIR "/test-tokenizer-bytes"

static struct tokenizer *qwen;  /* NULL where the data is absent */
static struct tokenizer *bytes; /* of tokenizer_write_bytes */
static char *bytes_json;        /* its tokenizer.json */
static char data_dir[1000];

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The text of the folder's template named default; "" where it has others alone, NULL where it has none. */
static const char *default_template(const struct tokenizer *tokenizer)
{
    size_t count = 0;
    const struct tokenizer_template *templates = tokenizer_templates(tokenizer, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(templates[i].name, "default") == 0)
            return templates[i].text;
    return count == 0 ? NULL : "";
}

static void need_qwen(void)
{
    if (qwen != NULL)
        return;
    print_message("%s/tokenizer.json is absent: skipped (set COHORT_TEST_DATA)\n", data_dir);
    skip();
}

static int set_up(void **state)
{
    (void)state;
    const char *given = getenv("COHORT_TEST_DATA");
    snprintf(data_dir, sizeof data_dir, "%s/qwen3-tokenizer",
             given != NULL ? given : COHORT_SOURCE_DIR "/../shared/data");
    cohort_error err = {0};
    char path[1100];
    snprintf(path, sizeof path, "%s/tokenizer.json", data_dir);
    if (access(path, F_OK) == 0) {
        double start = seconds();
        if (tokenizer_load(&qwen, data_dir, &err) != COHORT_OK) {
            print_error("%s\n", err.message);
            return 1;
        }
        print_message("loaded in %.3f s\n", seconds() - start);
    }
    struct text json = {0};
    if (tokenizer_write_bytes(BYTES_DIR, &err) != COHORT_OK || tokenizer_load(&bytes, BYTES_DIR, &err) != COHORT_OK ||
        file_read(BYTES_DIR "/tokenizer.json", 0, &json, &err) != COHORT_OK) {
        print_error("%s\n", err.message);
        return 1;
    }
    bytes_json = json.data;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tokenizer_destroy(qwen);
    tokenizer_destroy(bytes);
    mem_free(bytes_json);
    return 0;
}

/* ---- fixtures ---- */

typedef void row_check(const json_t *row, int line);

static void each_row(const char *path, int at_least, row_check *check)
{
    struct text content = {0};
    assert_int_equal(file_read(path, 0, &content, NULL), COHORT_OK);
    int line = 0;
    for (char *at = content.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        json_error_t position;
        json_t *row = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, &position);
        assert_non_null(row);
        check(row, ++line);
        json_decref(row);
    }
    assert_true(line >= at_least);
    text_free(&content);
}

static void assert_ids(const struct token_list *list, const json_t *wanted, const char *place, int line)
{
    bool same = list->count == json_array_size(wanted);
    for (size_t i = 0; same && i < list->count; i++)
        same = list->ids[i] == json_integer_value(json_array_get(wanted, i));
    if (same)
        return;
    char *text = json_dumps(wanted, JSON_COMPACT);
    print_error("%s, line %d: expected %s, found %zu ids:", place, line, text, list->count);
    for (size_t i = 0; i < list->count; i++)
        print_error(" %d", (int)list->ids[i]);
    free(text);
    fail();
}

static void check_encode(const json_t *row, int line)
{
    const json_t *text = json_object_get(row, "text"), *added = json_object_get(row, "added");
    const json_t *plain = json_object_get(row, "plain");
    for (int parse = 0; parse < 2; parse++) {
        struct token_list list = {0};
        cohort_error err = {0};
        assert_int_equal(
            tokenizer_encode(qwen, json_string_value(text), json_string_length(text), parse == 1, &list, &err),
            COHORT_OK);
        assert_ids(&list, parse == 0 && plain != NULL ? plain : added,
                   parse == 1 ? "with added tokens" : "without added tokens", line);
        token_list_free(&list);
    }
}

static void test_encode(void **state)
{
    (void)state;
    need_qwen();
    each_row(FIXTURES "encode.jsonl", 500, check_encode);
}

static void assert_bytes(const struct text *found, const char *wanted, size_t length, const char *place, int line)
{
    if (found->length == length && memcmp(found->data, wanted, length) == 0)
        return;
    print_error("%s, line %d: expected \"%s\", found \"%s\"\n", place, line, wanted, found->data);
    fail();
}

static void check_decode(const json_t *row, int line)
{
    int32_t ids[4096];
    const json_t *list = json_object_get(row, "ids");
    size_t count = json_array_size(list);
    assert_true(count <= 4096);
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    for (int skip_special = 0; skip_special < 2; skip_special++) {
        const json_t *wanted = json_object_get(row, skip_special ? "skip" : "keep");
        if (wanted == NULL)
            wanted = json_object_get(row, "keep");
        struct text whole = {0}, streamed = {0};
        assert_int_equal(tokenizer_decode(qwen, ids, count, skip_special == 1, &whole, NULL), COHORT_OK);
        assert_bytes(&whole, json_string_value(wanted), json_string_length(wanted), "decode", line);
        struct token_stream stream = {0};
        for (size_t i = 0; i < count; i++) {
            size_t before = streamed.length;
            assert_int_equal(token_stream_push(&stream, qwen, ids[i], skip_special == 1, &streamed, NULL), COHORT_OK);
            if (streamed.data != NULL) /* never half a character */
                assert_int_equal(utf8_check(streamed.data + before, streamed.length - before),
                                 streamed.length - before);
        }
        assert_int_equal(token_stream_finish(&stream, qwen, &streamed, NULL), COHORT_OK);
        token_stream_free(&stream);
        assert_int_equal(text_append(&streamed, "", 0, NULL), COHORT_OK);
        assert_bytes(&streamed, json_string_value(wanted), json_string_length(wanted), "stream", line);
        text_free(&whole);
        text_free(&streamed);
    }
}

static void test_decode(void **state)
{
    (void)state;
    need_qwen();
    each_row(FIXTURES "decode.jsonl", 200, check_decode);
}

/* llama.cpp's 46 cases: inputs joined by a separator line, ids a line each. */
static void test_vectors(void **state)
{
    (void)state;
    need_qwen();
    static const char SEPARATOR[] = "\n__ggml_vocab_test__\n";
    char path[1100];
    struct text inputs = {0}, outputs = {0};
    snprintf(path, sizeof path, "%s/vectors.inp", data_dir);
    assert_int_equal(file_read(path, 0, &inputs, NULL), COHORT_OK);
    snprintf(path, sizeof path, "%s/vectors.out", data_dir);
    assert_int_equal(file_read(path, 0, &outputs, NULL), COHORT_OK);
    int cases = 0;
    char *ids = outputs.data;
    for (char *text = inputs.data, *end; (end = strstr(text, SEPARATOR)) != NULL;
         text = end + sizeof SEPARATOR - 1, cases++) {
        struct token_list list = {0};
        assert_int_equal(tokenizer_encode(qwen, text, (size_t)(end - text), false, &list, NULL), COHORT_OK);
        char *line_end = strchr(ids, '\n');
        assert_non_null(line_end);
        *line_end = '\0';
        size_t n = 0;
        for (char *at = ids, *next; (void)(n), *at != '\0'; at = next, n++) {
            long id = strtol(at, &next, 10);
            if (next == at)
                break;
            assert_true(n < list.count);
            assert_int_equal(list.ids[n], id);
        }
        assert_int_equal(n, list.count);
        ids = line_end + 1;
        token_list_free(&list);
    }
    assert_int_equal(cases, 46);
    text_free(&inputs);
    text_free(&outputs);
}

static void test_lookup(void **state)
{
    (void)state;
    need_qwen();
    assert_int_equal(tokenizer_size(qwen), 151669);
    assert_int_equal(tokenizer_find(qwen, "<|im_end|>"), 151645);
    assert_int_equal(tokenizer_find(qwen, "\xC4\xA0the"), 279); /* U+0120 stands for a space */
    assert_int_equal(tokenizer_find(qwen, " the"), -1);
    assert_true(tokenizer_is_special(qwen, 151645));
    assert_false(tokenizer_is_special(qwen, 151667)); /* <think> */
    assert_false(tokenizer_is_special(qwen, -1));
    assert_false(tokenizer_is_special(qwen, 151669));
    size_t length = 0;
    assert_memory_equal(tokenizer_bytes(qwen, 279, &length), " the", 4);
    assert_int_equal(length, 4);
    assert_string_equal(tokenizer_bytes(qwen, 151668, &length), "</think>");
    assert_null(tokenizer_bytes(qwen, 151669, &length));
    assert_null(tokenizer_bytes(qwen, INT32_MIN, &length));
    assert_string_equal(default_template(qwen), chat_template_qwen3());
}

/* ---- the byte tokenizer ---- */

static void test_bytes(void **state)
{
    (void)state;
    static const char TEXT[] = "<|im_start|>A\xCC\x8A caf\xC3\xA9\n<think></think><|im_end|>";
    static const int32_t WANTED[] = {257, 0xC3, 0x85, ' ', 'c', 'a', 'f', 0xC3, 0xA9, '\n', 259, 260, 258};
    struct token_list list = {0};
    assert_int_equal(tokenizer_encode(bytes, TEXT, sizeof TEXT - 1, true, &list, NULL), COHORT_OK);
    assert_int_equal(list.count, sizeof WANTED / sizeof WANTED[0]);
    assert_memory_equal(list.ids, WANTED, sizeof WANTED);
    for (int32_t byte = 0; byte < 256; byte++) {
        size_t length = 0;
        const char *text = tokenizer_bytes(bytes, byte, &length);
        assert_int_equal(length, 1);
        assert_int_equal((unsigned char)text[0], byte);
    }
    assert_int_equal(tokenizer_size(bytes), 261);
    assert_true(tokenizer_size(bytes) <= TOKENIZER_BYTES_VOCAB);
    assert_string_equal(default_template(bytes), chat_template_qwen3());
    token_list_free(&list);
}

/* ---- small tokenizers made from the byte tokenizer ---- */

static cohort_status parse_json(struct tokenizer **out, const json_t *root, cohort_error *err)
{
    char *text = json_dumps(root, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(text);
    cohort_status status = tokenizer_parse(out, text, strlen(text), "small.json", err);
    free(text);
    return status;
}

static json_t *bytes_root(void)
{
    json_error_t position;
    json_t *root = json_loads(bytes_json, 0, &position);
    assert_non_null(root);
    return root;
}

/* Reads JSON written with single quotes. */
static json_t *read_json(const char *text)
{
    char copy[2048];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *at = copy; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    json_error_t position;
    json_t *value = json_loads(copy, JSON_DECODE_ANY, &position);
    assert_non_null(value);
    return value;
}

/* Puts value at a path like "model.vocab" (an empty value removes it). */
static void change(json_t *root, const char *path, const char *value)
{
    char copy[200];
    snprintf(copy, sizeof copy, "%s", path);
    json_t *object = root;
    char *key = copy;
    for (char *dot; (dot = strchr(key, '.')) != NULL; key = dot + 1) {
        *dot = '\0';
        object = json_is_array(object) ? json_array_get(object, (size_t)atoi(key)) : json_object_get(object, key);
        assert_non_null(object);
    }
    if (value[0] == '\0')
        assert_int_equal(json_object_del(object, key), 0);
    else if (json_is_array(object))
        assert_int_equal(json_array_append_new(object, read_json(value)), 0);
    else
        assert_int_equal(json_object_set_new(object, key, read_json(value)), 0);
}

/* Byte tokens and merges over a, b, c in an order in which ranks cross. */
static const char *const MERGES[] = {"b c", "a a",  "a b",  "aa a",   "ab c",    "bc a",    "aa aa", "ab ab",
                                     "c c", "cc a", "a bc", "abab c", "aaaa aa", "bca bca", "b b"};
enum { N_MERGES = sizeof MERGES / sizeof MERGES[0] };

static struct tokenizer *merging_tokenizer(bool as_pairs, bool ignore_merges)
{
    json_t *root = bytes_root();
    json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    json_t *merges = json_array();
    json_array_clear(json_object_get(root, "added_tokens"));
    for (int i = 0; i < N_MERGES; i++) {
        const char *space = strchr(MERGES[i], ' ');
        char joined[32];
        snprintf(joined, sizeof joined, "%.*s%s", (int)(space - MERGES[i]), MERGES[i], space + 1);
        if (json_object_get(vocab, joined) == NULL)
            json_object_set_new(vocab, joined, json_integer((json_int_t)json_object_size(vocab)));
        json_array_append_new(merges, as_pairs ? json_pack("[s%, s]", MERGES[i], (size_t)(space - MERGES[i]), space + 1)
                                               : json_string(MERGES[i]));
    }
    json_object_set_new(model, "merges", merges);
    json_object_set_new(vocab, "cbabc", json_integer((json_int_t)json_object_size(vocab)));
    json_object_set_new(model, "ignore_merges", json_boolean(ignore_merges));
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    if (parse_json(&tokenizer, root, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    json_decref(root);
    return tokenizer;
}

/* The definition, on strings: look for the first merge of the list that some neighbours have, join
 * its leftmost. */
static void check_against_definition(const struct tokenizer *tokenizer, const char *word)
{
    char parts[256][16];
    size_t count = strlen(word);
    for (size_t i = 0; i < count; i++)
        snprintf(parts[i], sizeof parts[i], "%c", word[i]);
    for (bool merged = true; merged;) {
        merged = false;
        for (int m = 0; m < N_MERGES && !merged; m++) {
            for (size_t i = 0; i + 1 < count && !merged; i++) {
                char pair[40];
                snprintf(pair, sizeof pair, "%.15s %.15s", parts[i], parts[i + 1]);
                if (strcmp(pair, MERGES[m]) != 0)
                    continue;
                strcat(parts[i], parts[i + 1]);
                memmove(parts + i + 1, parts + i + 2, (count - i - 2) * sizeof parts[0]);
                count--;
                merged = true;
            }
        }
    }
    struct token_list list = {0};
    assert_int_equal(tokenizer_encode(tokenizer, word, strlen(word), true, &list, NULL), COHORT_OK);
    assert_int_equal(list.count, count);
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        const char *text = tokenizer_bytes(tokenizer, list.ids[i], &length);
        if (length != strlen(parts[i]) || memcmp(text, parts[i], length) != 0)
            fail_msg("%s: part %zu: expected %s, found %s", word, i, parts[i], text);
    }
    token_list_free(&list);
}

/* Lengths on both sides of the change from searching to the heap (48), and a merge list in both
 * spellings. */
static void test_merge_order(void **state)
{
    (void)state;
    for (int as_pairs = 0; as_pairs < 2; as_pairs++) {
        struct tokenizer *tokenizer = merging_tokenizer(as_pairs == 1, false);
        for (uint64_t trial = 0; trial < 400; trial++) {
            char word[201];
            struct rng_block draw = rng_philox(1, RNG_TEST, trial, 0);
            size_t length = 1 + draw.word[0] % (trial < 200 ? 48u : 200u);
            unsigned letters = 1 + draw.word[1] % 3u;
            for (size_t i = 0; i < length; i++)
                word[i] = (char)('a' + rng_philox(1, RNG_TEST, trial, i + 1).word[0] % letters);
            word[length] = '\0';
            check_against_definition(tokenizer, word);
        }
        tokenizer_destroy(tokenizer);
    }
}

static void test_ignore_merges(void **state)
{
    (void)state;
    for (int ignore = 0; ignore < 2; ignore++) {
        struct tokenizer *tokenizer = merging_tokenizer(true, ignore == 1);
        struct token_list list = {0};
        assert_int_equal(tokenizer_encode(tokenizer, "cbabc", 5, true, &list, NULL), COHORT_OK);
        assert_int_equal(list.count, ignore ? 1 : 3); /* c b abc */
        token_list_free(&list);
        tokenizer_destroy(tokenizer);
    }
}

/* Merging, normalising and splitting must not be quadratic in a hostile text. */
static void test_long_texts(void **state)
{
    (void)state;
    enum { LENGTH = 600000 };
    struct tokenizer *merging = merging_tokenizer(true, false);
    static const char *const units[] = {"a", " ", "\xCC\x81\xCC\xA3", "bca", "\n ", "-", "<|im_start|", "\xE1\x84\x80"};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        struct text text = {0}, back = {0};
        struct token_list list = {0};
        cohort_error err = {0};
        while (text.length < LENGTH)
            assert_int_equal(text_append(&text, units[u], strlen(units[u]), &err), COHORT_OK);
        double start = seconds();
        if (tokenizer_encode(u % 2 == 0 ? merging : bytes, text.data, text.length, true, &list, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        /* linear takes 0.05 s (0.6 s with sanitizers), quadratic minutes */
        assert_true(seconds() - start < 8);
        assert_int_equal(tokenizer_decode(bytes, list.ids, list.count, false, &back, &err), COHORT_OK);
        if (u != 2 && u % 2 == 1) /* the marks are reordered */
            assert_bytes(&back, text.data, text.length, units[u], 0);
        text_free(&text);
        text_free(&back);
        token_list_free(&list);
    }
    tokenizer_destroy(merging);
}

static void test_added_tokens(void **state)
{
    (void)state;
    json_t *root = bytes_root();
    /* <think matches only where <think> does not; <a\u030a> is matched in normalised text, \u00e9
     * being normalised too */
    change(root, "added_tokens.+", "{'id':261,'content':'<think','special':false,'normalized':false}");
    change(root, "added_tokens.+", "{'id':262,'content':'<\\u00e5>','special':false,'normalized':true}");
    change(root, "added_tokens.+", "{'id':65,'content':'A','special':true,'normalized':false}");
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    if (parse_json(&tokenizer, root, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    static const char TEXT[] = "<think><think <a\xCC\x8A>A";
    static const int32_t WANTED[] = {259, 261, ' ', 262, 65};
    struct token_list list = {0};
    struct text text = {0};
    assert_int_equal(tokenizer_encode(tokenizer, TEXT, sizeof TEXT - 1, true, &list, NULL), COHORT_OK);
    assert_int_equal(list.count, 5);
    assert_memory_equal(list.ids, WANTED, sizeof WANTED);
    assert_int_equal(tokenizer_decode(tokenizer, list.ids, list.count, true, &text, NULL), COHORT_OK);
    /* as Hugging Face: characters of the byte-level alphabet decode to bytes, in added tokens too:
     * U+00E5 is no UTF-8 then */
    assert_string_equal(text.data, "<think><think <\xEF\xBF\xBD>");
    list.count = 0;
    assert_int_equal(tokenizer_encode(tokenizer, "<think", 6, false, &list, NULL), COHORT_OK);
    assert_int_equal(list.count, 6);
    text_free(&text);
    token_list_free(&list);
    tokenizer_destroy(tokenizer);
    json_decref(root);
}

/* ---- what is wrong ---- */

static void test_bad_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
        const char *message;
    } cases[] = {
        {"ab\xFFz", 4, "byte 2 (0xff)"},
        {"\xC3", 1, "byte 0"},
        {"a\xE2\x82", 3, "byte 1"},
        {"\xED\xA0\x80", 3, "byte 0"},
        {"x\xF4\x90\x80\x80", 5, "byte 1"},
        {"\xC0\x80", 2, "byte 0"},
        {"ok\xF0\x9F\x98\xC3\xA9", 7, "byte 2"},
        {"\xE0\x9F\xBF", 3, "byte 0"},
    };
    struct token_list list = {0};
    assert_int_equal(token_list_push(&list, 7, NULL), COHORT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cohort_error err = {0};
        assert_int_equal(tokenizer_encode(bytes, cases[i].text, cases[i].length, true, &list, &err), COHORT_ERR_FORMAT);
        if (strstr(err.message, cases[i].message) == NULL)
            fail_msg("case %zu: %s", i, err.message);
        assert_int_equal(list.count, 1);
    }
    token_list_free(&list);
}

static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value;
        cohort_status status;
        const char *message;
    } cases[] = {
        {"normalizer", "{'type':'Nmt'}", COHORT_ERR_UNSUPPORTED, "normalizer \"Nmt\""},
        {"normalizer", "'NFC'", COHORT_ERR_FORMAT, "normalizer: expected an object"},
        {"normalizer", "{'type':'Sequence','normalizers':[{'type':'NFC'},{'type':'Precompiled'}]}",
         COHORT_ERR_UNSUPPORTED, "\"Precompiled\""},
        {"normalizer", "{'type':'Sequence'}", COHORT_ERR_FORMAT, "normalizers: expected an array"},
        {"normalizer", "{'type':'Prepend'}", COHORT_ERR_FORMAT, "Prepend.prepend: expected a string"},
        {"normalizer", "{'type':'Replace','content':'','pattern':{'String':''}}", COHORT_ERR_UNSUPPORTED, "empty"},
        {"normalizer", "{'type':'Replace','content':'','pattern':{'Regex':'('}}", COHORT_ERR_FORMAT,
         "normalizer Replace: the regex does not compile"},
        {"normalizer", "{'type':'Replace','content':'x','pattern':'a'}", COHORT_ERR_UNSUPPORTED, "expected pattern"},
        {"pre_tokenizer", "{'type':'BertPreTokenizer'}", COHORT_ERR_UNSUPPORTED, "pre_tokenizer \"BertPreTokenizer\""},
        {"pre_tokenizer", "7", COHORT_ERR_FORMAT, "pre_tokenizer: expected an object"},
        {"pre_tokenizer", "{'type':'Sequence','pretokenizers':[{'type':'ByteLevel'},{'type':'ByteLevel'}]}",
         COHORT_ERR_UNSUPPORTED, "second ByteLevel"},
        {"pre_tokenizer", "{'type':'Metaspace','replacement':'ab'}", COHORT_ERR_FORMAT, "expected one character"},
        {"pre_tokenizer", "{'type':'Metaspace','replacement':'_','prepend_scheme':'last'}", COHORT_ERR_FORMAT,
         "prepend_scheme"},
        {"pre_tokenizer.pretokenizers.0.behavior", "'Sometimes'", COHORT_ERR_UNSUPPORTED, "\"Sometimes\""},
        {"pre_tokenizer.pretokenizers.0.invert", "3", COHORT_ERR_FORMAT, "expected true or false"},
        {"pre_tokenizer.pretokenizers.0.pattern", "{'String':''}", COHORT_ERR_UNSUPPORTED, "pattern"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "'('", COHORT_ERR_FORMAT, "does not compile"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "'[a&&b]'", COHORT_ERR_UNSUPPORTED, "character class"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "'\\\\h+'", COHORT_ERR_UNSUPPORTED, "\\h"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "'a\\\\C'", COHORT_ERR_UNSUPPORTED, "\\C"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "'(*UTF)a'", COHORT_ERR_UNSUPPORTED, "(*"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "'(((((a{900}){900}){900}){900}){900})'", COHORT_ERR_FORMAT,
         "does not compile"},
        {"post_processor",
         "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>','type_id':0}},"
         "{'Sequence':{'id':'A','type_id':0}}]}",
         COHORT_ERR_FORMAT, "no ids for \"<s>\""},
        {"post_processor",
         "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>'}},{'Sequence':{'id':'A'}}],"
         "'special_tokens':{'<s>':{'ids':[999]}}}",
         COHORT_ERR_FORMAT, "999, which is no token"},
        {"post_processor", "{'type':'TemplateProcessing','single':[{'Sequence':{'id':'B'}}]}", COHORT_ERR_UNSUPPORTED,
         "the sequence A once"},
        {"post_processor", "{'type':'Sequence','processors':[{'type':'BertProcessing'}]}", COHORT_ERR_UNSUPPORTED,
         "BertProcessing"},
        {"post_processor", "{'type':'TemplateProcessing'}", COHORT_ERR_FORMAT, "TemplateProcessing"},
        {"decoder", "null", COHORT_ERR_FORMAT, "decoder"},
        {"decoder", "{'type':'WordPiece'}", COHORT_ERR_UNSUPPORTED, "WordPiece"},
        {"decoder", "{'type':'Sequence','decoders':[{'type':'Fuse'},{'type':'ByteFallback'}]}", COHORT_ERR_UNSUPPORTED,
         "\"ByteFallback\" behind"},
        {"decoder",
         "{'type':'Sequence','decoders':[{'type':'Fuse'},{'type':'Strip','content':' ','start':1,'stop':1}]}",
         COHORT_ERR_UNSUPPORTED, "Strip.stop"},
        {"model", "7", COHORT_ERR_FORMAT, "model: expected an object"},
        {"model.type", "'Unigram'", COHORT_ERR_UNSUPPORTED, "Unigram"},
        {"model.dropout", "0.1", COHORT_ERR_UNSUPPORTED, "dropout"},
        {"model.end_of_word_suffix", "'</w>'", COHORT_ERR_UNSUPPORTED, "end_of_word_suffix"},
        {"model.ignore_merges", "'yes'", COHORT_ERR_FORMAT, "ignore_merges"},
        {"model.vocab", "[]", COHORT_ERR_FORMAT, "model.vocab: expected an object"},
        {"model.vocab", "{}", COHORT_ERR_UNSUPPORTED, "byte 0x00"},
        {"model.vocab.a", "", COHORT_ERR_UNSUPPORTED, "byte 0x61"},
        {"model.vocab.a", "'5'", COHORT_ERR_FORMAT, "token \"a\": expected an integer"},
        {"model.vocab.a", "-1", COHORT_ERR_FORMAT, "-1 is not in"},
        {"model.vocab.a", "4194304", COHORT_ERR_FORMAT, "4194304 is not in"},
        {"model.vocab.a", "9223372036854775807", COHORT_ERR_FORMAT, "is not in"},
        {"model.vocab.a", "98", COHORT_ERR_FORMAT, "same id 98"},
        {"model.merges", "", COHORT_ERR_FORMAT, "model.merges: expected an array"},
        {"model.merges", "['a b']", COHORT_ERR_FORMAT, "model.merges[0]: token \"ab\""},
        {"model.merges", "['ab c']", COHORT_ERR_FORMAT, "token \"ab\""},
        {"model.merges", "[['a']]", COHORT_ERR_FORMAT, "model.merges[0]: expected"},
        {"model.merges", "[['a',1]]", COHORT_ERR_FORMAT, "model.merges[0]: expected"},
        {"model.merges", "['a']", COHORT_ERR_FORMAT, "model.merges[0]: expected"},
        {"model.merges", "['a b c']", COHORT_ERR_FORMAT, "model.merges[0]: expected"},
        {"added_tokens", "'x'", COHORT_ERR_FORMAT, "added_tokens: expected an array"},
        {"added_tokens.+", "7", COHORT_ERR_FORMAT, "added_tokens[5]"},
        {"added_tokens.+", "{'id':261,'content':''}", COHORT_ERR_FORMAT, "added_tokens[5]"},
        {"added_tokens.+", "{'content':'x'}", COHORT_ERR_FORMAT, "token \"x\": expected an integer"},
        {"added_tokens.+", "{'id':262,'content':'xx'}", COHORT_ERR_UNSUPPORTED, "would give it 261"},
        {"added_tokens.+", "{'id':90,'content':'xx'}", COHORT_ERR_UNSUPPORTED, "would give it 261"},
        {"added_tokens.+", "{'id':261,'content':'a'}", COHORT_ERR_UNSUPPORTED, "would give it 97"},
        {"added_tokens.+", "{'id':256,'content':'<|endoftext|>'}", COHORT_ERR_FORMAT, "twice"},
        {"added_tokens.0.rstrip", "7", COHORT_ERR_FORMAT, "rstrip"},
        {"model.vocab.a", "1.5", COHORT_ERR_FORMAT, "token \"a\": expected an integer, found a number"},
        {"model.vocab.a", "null", COHORT_ERR_FORMAT, "token \"a\": expected an integer, found null"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *root = bytes_root();
        change(root, cases[i].path, cases[i].value);
        struct tokenizer *tokenizer = NULL;
        cohort_error err = {0};
        cohort_status status = parse_json(&tokenizer, root, &err);
        if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL ||
            strstr(err.message, "small.json") == NULL)
            fail_msg("%s = %s: status %d, message \"%s\"", cases[i].path, cases[i].value, (int)status, err.message);
        assert_null(tokenizer);
        json_decref(root);
    }
}

/* What other tools write and what changes no ids. */
static void test_harmless(void **state)
{
    static const char *const cases[][2] = {
        {"model.byte_fallback", "true"},
        {"model.dropout", "0.0"},
        {"model.unk_token", "'<unk>'"},
        {"post_processor", "null"},
        {"post_processor", "{'type':'TemplateProcessing','single':[{'Sequence':{'id':'A',"
                           "'type_id':0}}],'pair':[],'special_tokens':{}}"},
        {"post_processor", "{'type':'Sequence','processors':[{'type':'ByteLevel'}]}"},
        {"truncation", "{'direction':'Right','max_length':1,'strategy':'LongestFirst','stride':0}"},
        {"padding", "{'strategy':{'Fixed':16},'direction':'Left','pad_id':256,'pad_token':'x'}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *root = bytes_root();
        struct tokenizer *tokenizer = NULL;
        struct token_list list = {0};
        cohort_error err = {0};
        change(root, cases[i][0], cases[i][1]);
        if (parse_json(&tokenizer, root, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_int_equal(tokenizer_encode(tokenizer, "ab", 2, true, &list, NULL), COHORT_OK);
        assert_int_equal(list.count, 2);
        token_list_free(&list);
        tokenizer_destroy(tokenizer);
        json_decref(root);
    }
}

static void test_truncated_file(void **state)
{
    (void)state;
    size_t length = strlen(bytes_json);
    for (size_t cut = 0; cut < length - 2; cut += cut < 64 ? 1 : 97) {
        struct tokenizer *tokenizer = NULL;
        cohort_error err = {0};
        assert_int_equal(tokenizer_parse(&tokenizer, bytes_json, cut, "cut.json", &err), COHORT_ERR_FORMAT);
        assert_non_null(strstr(err.message, "cut.json:"));
    }
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    assert_int_equal(tokenizer_parse(&tokenizer, "{\"model\":1,\"model\":2}", 21, "twice.json", &err),
                     COHORT_ERR_FORMAT);
    assert_int_equal(tokenizer_load(&tokenizer, "/nonexistent-folder", &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "/nonexistent-folder: there is nothing of that name; expected"));
}

/* A regex that backtracks exponentially is an error, not a hang; one with empty matches ends. */
static void test_hostile_regex(void **state)
{
    (void)state;
    static const struct {
        const char *regex;
        const char *text;
        cohort_status status;
    } cases[] = {
        /* the text has a b, or the matcher would see that no match is possible */
        {"'(a+)+$(?!\\\\n)b'", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!b", COHORT_ERR_FORMAT},
        {"''", "abc", COHORT_OK},
        {"'(?=b)'", "abcb\xC3\xA9", COHORT_OK},
        {"'x*'", "axxb", COHORT_OK},
        {"'(?:(?:a|b)*c)?'", "ababababab", COHORT_OK},
        {"'^|$'", "a\nb\n", COHORT_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *root = bytes_root();
        change(root, "pre_tokenizer.pretokenizers.0.pattern.Regex", cases[i].regex);
        struct tokenizer *tokenizer = NULL;
        cohort_error err = {0};
        if (parse_json(&tokenizer, root, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        struct token_list list = {0};
        assert_int_equal(tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text), true, &list, &err),
                         cases[i].status);
        if (cases[i].status == COHORT_OK)
            assert_int_equal(list.count, strlen(cases[i].text));
        else
            assert_non_null(strstr(err.message, "match limit"));
        token_list_free(&list);
        tokenizer_destroy(tokenizer);
        json_decref(root);
    }
}

static void write_file(const char *dir, const char *name, const char *content)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(file_write_atomic(path, content, strlen(content), NULL), COHORT_OK);
}

static void test_template_sources(void **state)
{
    (void)state;
    static const struct {
        const char *config, *jinja;
        cohort_status status;
        const char *expected; /* template or part of the message */
    } cases[] = {
        {NULL, NULL, COHORT_OK, NULL},
        {"{}", NULL, COHORT_OK, NULL},
        {"{\"chat_template\":null}", NULL, COHORT_OK, NULL},
        {"{\"chat_template\":\"T\"}", NULL, COHORT_OK, "T"},
        {"{\"chat_template\":\"T\"}", "J\n", COHORT_OK, "J\n"},
        {"{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"X\"},{\"name\":\"default\","
         "\"template\":\"D\"}]}",
         NULL, COHORT_OK, "D"},
        {"{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"X\"}]}", NULL, COHORT_OK, ""},
        {"{", "J", COHORT_ERR_FORMAT, "tokenizer_config.json:1:"},
        {"{\"chat_template\":{\"x\":\"X\",\"default\":\"D\"}}", NULL, COHORT_OK, "D"},
        {"{\"chat_template\":5}", NULL, COHORT_ERR_FORMAT, "chat_template: expected a string"},
        {"[]", NULL, COHORT_ERR_FORMAT, "an array"},
        {"{", NULL, COHORT_ERR_FORMAT, "tokenizer_config.json:1:"},
    };
    char folder[] = "/tmp/cohort-tokenizer-XXXXXX";
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(file_remove_all(folder, NULL), COHORT_OK);
        assert_int_equal(file_make_dirs(folder, NULL), COHORT_OK);
        write_file(folder, "tokenizer.json", bytes_json);
        if (cases[i].config != NULL)
            write_file(folder, "tokenizer_config.json", cases[i].config);
        if (cases[i].jinja != NULL)
            write_file(folder, "chat_template.jinja", cases[i].jinja);
        struct tokenizer *tokenizer = NULL;
        cohort_error err = {0};
        assert_int_equal(tokenizer_load(&tokenizer, folder, &err), cases[i].status);
        if (cases[i].status != COHORT_OK)
            assert_non_null(strstr(err.message, cases[i].expected));
        else if (cases[i].expected == NULL)
            assert_null(default_template(tokenizer));
        else
            assert_string_equal(default_template(tokenizer), cases[i].expected);
        tokenizer_destroy(tokenizer);
    }
    assert_int_equal(file_remove_all(folder, NULL), COHORT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),       cmocka_unit_test(test_encode),
        cmocka_unit_test(test_decode),        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_bytes),         cmocka_unit_test(test_merge_order),
        cmocka_unit_test(test_ignore_merges), cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_added_tokens),  cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_bad_files),     cmocka_unit_test(test_truncated_file),
        cmocka_unit_test(test_hostile_regex), cmocka_unit_test(test_template_sources),
        cmocka_unit_test(test_harmless),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
