/* What the fuzz targets of guided decoding share: any bytes as a guide are refused with a message that begins with its origin,
 * or guide a text whose every allowed token is accepted, with the same masks whatever the cache has forgotten. */
#ifndef COHORT_TESTS_SUPPORT_GUIDE_FUZZ_H
#define COHORT_TESTS_SUPPORT_GUIDE_FUZZ_H

#include "support/fuzz.h"

#include "support/guide_test.h"

#include <time.h>

enum { GUIDE_FUZZ_TOKENS = 24, GUIDE_FUZZ_CLOSE = 12 };

/* A vocabulary that stays for the life of the process. */
static inline const struct guide_vocabulary *guide_fuzz_vocabulary(int32_t *eos)
{
    static const char *const tokens[] = {"a", "ab", "b", "\\\":\xC4\xA0", "{\\\"", "0", "12", "true", ",\xC4\xA0\\\"",
                                         "]", "]]"};
    static const char *const special[] = {"<end>", "<call>"};
    static struct tokenizer *tokenizer;
    static struct guide_vocabulary *vocabulary;
    if (vocabulary == NULL) {
        tokenizer = guide_test_tokenizer(tokens, sizeof tokens / sizeof *tokens, special, 2);
        if (guide_vocabulary_create(&vocabulary, tokenizer, 0, NULL) != COHORT_OK)
            abort();
    }
    *eos = tokenizer_find(tokenizer, "<end>");
    return vocabulary;
}

/* One text of the guide: which of the allowed tokens comes next is a function of key and place. tokens: the ids, and their
 * number. Returns whether it ended by its own. */
static inline bool guide_fuzz_walk(struct guide *guide, const struct guide_vocabulary *v, uint64_t key, uint64_t *hash,
                                   int32_t tokens[GUIDE_FUZZ_TOKENS], int32_t *n)
{
    struct guide_state *state = NULL;
    bool ended = false;
    *hash = 1469598103934665603u;
    if (guide_start(&state, guide, GUIDE_FUZZ_TOKENS, GUIDE_FUZZ_CLOSE, NULL) != COHORT_OK)
        abort();
    for (*n = 0; *n < GUIDE_FUZZ_TOKENS && !ended; (*n)++) {
        const uint32_t *mask = guide_mask(state);
        int32_t count = 0, chosen = -1;
        for (int32_t id = 0; id < v->size; id++)
            count += guide_test_bit(mask, id);
        for (size_t i = 0; i < v->n_words; i++)
            *hash = (*hash ^ mask[i]) * 1099511628211u;
        if (count == 0) { /* only where it says why */
            if (guide_problem(guide) == NULL)
                abort();
            break;
        }
        key = key * 6364136223846793005u + 1442695040888963407u;
        int32_t left = (int32_t)((key >> 33) % (uint64_t)count);
        for (int32_t id = 0; id < v->size && chosen < 0; id++)
            if (guide_test_bit(mask, id) && left-- == 0)
                chosen = id;
        tokens[*n] = chosen;
        if (!guide_accept(state, chosen) && guide_problem(guide) == NULL)
            abort();
        ended = guide_must_end(state);
    }
    guide_stop(state);
    return ended && guide_problem(guide) == NULL;
}

/* Returns whether the text was taken. check: of every text that ended by its own, as bytes; NULL: none. */
static inline bool guide_fuzz_one(enum guide_kind kind, const uint8_t *data, size_t size,
                                  void (*check)(const char *guide, size_t size, const char *text, size_t length))
{
    int32_t eos = 0, tokens[GUIDE_FUZZ_TOKENS], again[GUIDE_FUZZ_TOKENS], n = 0, m = 0;
    const struct guide_vocabulary *v = guide_fuzz_vocabulary(&eos);
    const struct guide_options options = {.eos_ids = &eos, .n_eos = 1, .after = -1};
    struct guide *guide = NULL;
    struct text ignored = {0};
    cohort_error err = {0};
    uint64_t key = 0, one = 0, two = 0;
    const clock_t begin = clock(); /* of the processor: the machine may be busy */
    for (size_t i = 0; i < size; i++)
        key = key * 31 + data[i];
    const cohort_status status =
        guide_create(&guide, v, kind, (const char *)data, size, &options, "fuzz", &ignored, &err);
    text_free(&ignored);
    if (clock() - begin > 20 * CLOCKS_PER_SEC) /* seconds without sanitizers would be too many already */
        abort();
    if (status != COHORT_OK) {
        if (status != COHORT_ERR_MEMORY && strncmp(err.message, "fuzz", 4) != 0)
            abort();
        return false;
    }
    const bool ended = guide_fuzz_walk(guide, v, key, &one, tokens, &n);
    if (guide_problem(guide) == NULL) {
        guide_set_bound(guide, 1); /* forgets at every step */
        if (guide_fuzz_walk(guide, v, key, &two, again, &m) != ended || m != n || one != two)
            abort();
    }
    if (ended && check != NULL) {
        struct text text = {0};
        for (int32_t i = 0; i < n; i++) {
            size_t length = 0;
            const char *bytes = guide_token_bytes(v, tokens[i], &length);
            if (bytes != NULL && text_append(&text, bytes, length, NULL) != COHORT_OK)
                abort();
        }
        check((const char *)data, size, text.data != NULL ? text.data : "", text.length);
        text_free(&text);
    }
    guide_release(guide);
    return true;
}

#endif
