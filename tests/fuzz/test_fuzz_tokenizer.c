/* The tokenizer on files and texts that nobody meant to write. An input that begins with '{' is a
 * tokenizer.json, which must be refused or work; any other is a text, whose ids must decode to it,
 * at once and as a stream alike.
 *
 * Without libFuzzer main runs mutations of a small valid file and of short texts for two seconds;
 * the n-th is a function of n. */
#include "base/file.h"
#include "base/rng.h"
#include "text/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *fixed;

static void require(bool holds, const char *property)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", property);
    abort();
}

static void check_decode(const struct tokenizer *tokenizer, const struct token_list *list, struct text *whole)
{
    for (int skip = 1; skip >= 0; skip--) {
        struct token_stream stream = {0};
        struct text streamed = {0};
        whole->length = 0;
        require(tokenizer_decode(tokenizer, list->ids, list->count, skip == 1, whole, NULL) == COHORT_OK, "decode");
        for (size_t i = 0; i < list->count; i++) {
            size_t before = streamed.length;
            require(token_stream_push(&stream, tokenizer, list->ids[i], skip == 1, &streamed, NULL) == COHORT_OK,
                    "stream");
            size_t added = streamed.length - before;
            require(added == 0 || utf8_check(streamed.data + before, added) == added, "whole characters");
        }
        require(token_stream_finish(&stream, &streamed, NULL) == COHORT_OK, "stream end");
        require(streamed.length == whole->length, "stream length");
        require(streamed.length == 0 || memcmp(streamed.data, whole->data, streamed.length) == 0, "stream text");
        text_free(&streamed);
    }
}

static void try_text(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    for (int parse = 0; parse < 2; parse++) {
        struct token_list list = {0};
        struct text whole = {0};
        cohort_error err = {0};
        if (tokenizer_encode(tokenizer, text, length, parse == 1, &list, &err) == COHORT_OK) {
            require(utf8_check(text, length) == length, "only UTF-8 is encoded");
            for (size_t i = 0; i < list.count; i++)
                require(list.ids[i] >= 0 && list.ids[i] < tokenizer_size(tokenizer), "ids in range");
            check_decode(tokenizer, &list, &whole);
            if (tokenizer == fixed) {
                struct nfc_buffer nfc = {0};
                const char *normal = NULL;
                size_t normal_length = 0;
                require(nfc_normalize(text, length, &nfc, &normal, &normal_length, NULL) == COHORT_OK, "NFC");
                /* With added tokens each piece is normalised by itself, so only without is the text
                 * that of NFC. */
                require(parse == 1 || (whole.length == normal_length &&
                                       (normal_length == 0 || memcmp(whole.data, normal, normal_length) == 0)),
                        "ids decode to the normalised text");
                nfc_buffer_free(&nfc);
            }
        } else {
            require(err.message[0] != '\0', "a message");
            require(list.count == 0, "nothing is left of a failure");
        }
        text_free(&whole);
        token_list_free(&list);
    }
}

/* The text as content, cut into spans at random: no control token comes of it, and of the fixed tokenizer's the ids are
 * those of plain text. */
static void try_content(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    struct token_list list = {0}, plain = {0};
    struct content_spans spans = {0};
    for (size_t at = 0; at < length;) {
        size_t to = at + 1 + (size_t)(unsigned char)text[at] % 9;
        to = to > length ? length : to;
        require(content_spans_push(&spans, at, to, CONTENT_FOREIGN, NULL) == COHORT_OK, "span");
        at = to;
    }
    if (tokenizer_encode_content(tokenizer, text, length, &spans, &list, NULL) == COHORT_OK) {
        for (size_t i = 0; i < list.count; i++) {
            size_t n = 0; /* a byte must be encoded, even where its token is marked special */
            require(tokenizer_text(tokenizer, list.ids[i], &n) != NULL, "a token");
            require(n <= 2 || !tokenizer_is_special(tokenizer, list.ids[i]), "content is content");
        }
        require(tokenizer != fixed ||
                    (tokenizer_encode(tokenizer, text, length, false, &plain, NULL) == COHORT_OK &&
                     plain.count == list.count &&
                     (list.count == 0 || memcmp(plain.ids, list.ids, list.count * sizeof *list.ids) == 0)),
                "content has the ids of plain text");
    }
    content_spans_free(&spans);
    token_list_free(&list);
    token_list_free(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (fixed == NULL) {
        char folder[] = "/tmp/cohort-fuzz-XXXXXX";
        require(mkdtemp(folder) != NULL, "a temporary folder");
        require(tokenizer_write_bytes(folder, NULL) == COHORT_OK, "write");
        require(tokenizer_load(&fixed, folder, NULL) == COHORT_OK, "load");
        require(file_remove_all(folder, NULL) == COHORT_OK, "remove");
    }
    if (size == 0 || data[0] != '{') {
        try_text(fixed, (const char *)data, size);
        try_content(fixed, (const char *)data, size);
        /* The same bytes as ids, some out of range: seldom UTF-8. */
        struct token_list list = {0};
        struct text whole = {0};
        for (size_t i = 0; i < size; i++)
            require(token_list_push(&list, data[i] == '#' ? INT32_MIN : data[i] + (data[i] == '$' ? 0x7000 : 0),
                                    NULL) == COHORT_OK,
                    "push");
        check_decode(fixed, &list, &whole);
        text_free(&whole);
        token_list_free(&list);
        return 0;
    }
    static const char SAMPLE[] = "I'm a<|im_end|>b 12\n\n  caf\xC3\xA9 e\xCC\x81 \xF0\x9F\x98\x80<think>\tabc";
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    if (tokenizer_parse(&tokenizer, (const char *)data, size, "fuzz.json", &err) != COHORT_OK) {
        require(tokenizer == NULL && strstr(err.message, "fuzz.json") != NULL, "a message that names the file");
        return 0;
    }
    try_text(tokenizer, SAMPLE, sizeof SAMPLE - 1);
    try_content(tokenizer, SAMPLE, sizeof SAMPLE - 1);
    tokenizer_destroy(tokenizer);
    return 0;
}

#ifndef COHORT_LIBFUZZER

static const char *const WORDS[] = {
    "null",
    "true",
    "-1",
    "4194303",
    "1e99",
    "\"\"",
    "[]",
    "{}",
    "\"NFC\"",
    "\"type\"",
    "\"a b\"",
    "[\"a\",\"b\"]",
    "\\u0000",
    "\\ud800",
    ",",
    ":",
    "\"",
    "(",
    "[",
    "a*",
    "(?=b)",
    "\\\\p{L}",
    "<|im_end|>",
    "<think>",
    "\xCC\x81",
    "\xE1\x84\x80\xE1\x85\xA1",
    "\xF0\x9F\x98\x80",
    "\xED\xA0\x80",
    "\xF4\x90",
    "#",
    "$",
    "\r\n",
    "   ",
    "\"ignore_merges\":true",
    "\"normalized\":true",
};
enum { N_WORDS = sizeof WORDS / sizeof WORDS[0] };

/* Replaces, removes, repeats or inserts a few times. */
static void mutate(struct text *text, uint64_t n)
{
    uint32_t rounds = 1 + rng_philox(2, RNG_TEST, n, 0).word[0] % 5u;
    for (uint32_t round = 0; round < rounds; round++) {
        struct rng_block draw = rng_philox(2, RNG_TEST, n, round + 1);
        size_t at = text->length == 0 ? 0 : draw.word[1] % text->length;
        size_t span = draw.word[2] % 12u;
        struct text changed = {0};
        const char *word = WORDS[draw.word[3] % N_WORDS];
        char byte = (char)(draw.word[3] >> 24);
        if (span > text->length - at)
            span = text->length - at;
        require(text_append(&changed, text->data, at, NULL) == COHORT_OK, "memory");
        switch (draw.word[0] % 5u) {
        case 0: text_append(&changed, &byte, 1, NULL); break;
        case 1: break;
        case 2:
            text_append(&changed, text->data + at, span, NULL);
            span = 0;
            break;
        case 3: text_append(&changed, word, strlen(word), NULL); break;
        default:
            text_append(&changed, word, strlen(word), NULL);
            span = 0;
            break;
        }
        require(text_append(&changed, text->data + at + span, text->length - at - span, NULL) == COHORT_OK, "memory");
        text_free(text);
        *text = changed;
    }
}

/* A valid file, compact, with two merges. */
static char *make_seed(void)
{
    char folder[] = "/tmp/cohort-fuzz-XXXXXX";
    char path[64];
    json_error_t position;
    require(mkdtemp(folder) != NULL, "a temporary folder");
    require(tokenizer_write_bytes(folder, NULL) == COHORT_OK, "write");
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    json_t *root = json_load_file(path, 0, &position);
    json_t *model = json_object_get(root, "model");
    json_array_clear(json_object_get(root, "added_tokens"));
    json_object_set_new(json_object_get(model, "vocab"), "ab", json_integer(256));
    json_object_set_new(json_object_get(model, "vocab"), "abc", json_integer(257));
    json_object_set_new(model, "merges", json_pack("[s, [s, s]]", "a b", "ab", "c"));
    json_array_append_new(
        json_object_get(root, "added_tokens"),
        json_pack("{s:i, s:s, s:b, s:b}", "id", 258, "content", "<|im_end|>", "special", 1, "normalized", 0));
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    require(file_remove_all(folder, NULL) == COHORT_OK, "remove");
    return text;
}

int main(void)
{
    static const char TEXT[] = "The <|im_start|> caf\xC3\xA9 e\xCC\x81\xCC\xA3 \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8 "
                               "\xF0\x9F\x98\x80 12\r\n  \t x'll "
                               "\xE4\xB8\xAD\xE6\x96\x87 "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa<think>";
    char *seed = make_seed();
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    require(tokenizer_parse(&tokenizer, seed, strlen(seed), "seed.json", &err) == COHORT_OK, err.message);
    tokenizer_destroy(tokenizer);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t n = 0;
    do {
        struct text input = {0};
        const char *from = n % 3 == 0 ? seed : TEXT;
        require(text_append(&input, from, strlen(from), NULL) == COHORT_OK, "memory");
        mutate(&input, n++);
        LLVMFuzzerTestOneInput((const uint8_t *)input.data, input.length);
        text_free(&input);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < 2);
    printf("%llu inputs\n", (unsigned long long)n);
    tokenizer_destroy(fixed);
    free(seed);
    return 0;
}
#endif
