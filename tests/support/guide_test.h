/* Guides over a small vocabulary, for tests. */
#ifndef TESTS_SUPPORT_GUIDE_TEST_H
#define TESTS_SUPPORT_GUIDE_TEST_H

#include "guide/guide.h"
#include "text/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A tokenizer whose tokens are these texts (letters, as byte-level tokens are spelled), id by id, then the 256 bytes that
 * are not among them, then the special ones. */
static inline struct tokenizer *guide_test_tokenizer(const char *const *tokens, size_t n, const char *const *special,
                                                     size_t n_special)
{
    struct tokenizer *tokenizer = NULL;
    struct text json = {0};
    cohort_error err = {0};
    struct text vocab = {0};
    size_t next = n;
    bool good = true;
    for (size_t i = 0; i < n && good; i++)
        good = text_printf(&vocab, &err, "%s\"%s\": %zu", i > 0 ? ", " : "", tokens[i], i) == COHORT_OK;
    for (int byte = 0; byte < 256 && good; byte++) {
        char letter[5] = "";
        (void)utf8_encode(byte_level_char((unsigned char)byte), letter);
        bool there = false;
        for (size_t i = 0; i < n; i++)
            there = there || strcmp(tokens[i], letter) == 0;
        if (!there)
            good = text_printf(&vocab, &err, ", \"%s%s\": %zu", letter[0] == '"' || letter[0] == '\\' ? "\\" : "",
                               letter, next++) == COHORT_OK;
    }
    good = good && text_printf(&json, &err, "{\"added_tokens\": [") == COHORT_OK;
    for (size_t i = 0; i < n_special && good; i++)
        good = text_printf(&json, &err,
                           "%s{\"id\": %zu, \"content\": \"%s\", \"special\": true, \"single_word\": false, "
                           "\"lstrip\": false, \"rstrip\": false, \"normalized\": false}",
                           i > 0 ? ", " : "", next + i, special[i]) == COHORT_OK;
    good =
        good && text_printf(&json, &err,
                            "], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
                            "\"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false}, "
                            "\"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": "
                            "\"BPE\", \"vocab\": {%s}, \"merges\": []}}",
                            vocab.data) == COHORT_OK;
    if (!good || tokenizer_parse(&tokenizer, json.data, json.length, "toy", &err) != COHORT_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    text_free(&json);
    text_free(&vocab);
    return tokenizer;
}

static inline bool guide_test_bit(const uint32_t *mask, int32_t id) { return (mask[id / 32] >> (id % 32) & 1u) != 0; }

#endif
