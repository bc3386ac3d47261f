#include "guide/guide_vocabulary.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

struct token_text {
    const char *bytes;
    uint32_t length;
    int32_t id;
    int slice; /* the smallest one that it is in */
};

const char *guide_token_bytes(const struct guide_vocabulary *vocabulary, int32_t id, size_t *length)
{
    if (id < 0 || id >= tokenizer_size(vocabulary->tokenizer) || tokenizer_is_control(vocabulary->tokenizer, id))
        return NULL;
    const char *bytes = tokenizer_bytes(vocabulary->tokenizer, id, length);
    return bytes == NULL || *length == 0 || *length > UINT16_MAX - 1 ? NULL : bytes;
}

/* The number of characters where all of them may stand in a JSON string as they are; else 0. */
static uint32_t plain_chars(const char *bytes, size_t length)
{
    uint32_t n = 0;
    if (utf8_check(bytes, length) < length)
        return 0;
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)bytes[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F)
            return 0;
        n += (c & 0xC0) != 0x80;
    }
    return n;
}

static int by_bytes(const void *a, const void *b)
{
    const struct token_text *x = a, *y = b;
    const uint32_t n = x->length < y->length ? x->length : y->length;
    const int order = memcmp(x->bytes, y->bytes, n);
    if (order != 0)
        return order;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static uint32_t first_two(const struct token_text *text)
{
    return (uint32_t)(unsigned char)text->bytes[0] << 8 |
           (text->length > 1 ? (uint32_t)(unsigned char)text->bytes[1] : 0);
}

/* By their first two bytes, then each of these parts: many times faster than all at once. */
static cohort_status sort_texts(struct token_text **texts, size_t n, cohort_error *err)
{
    struct token_text *sorted = NULL;
    uint32_t *first = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&sorted, n, sizeof *sorted, "token trie", err));
    TRY_GOTO(mem_alloc(&first, 65536 + 1, sizeof *first, "token trie", err));
    for (size_t i = 0; i < n; i++)
        first[first_two(&(*texts)[i]) + 1]++;
    for (size_t k = 0; k < 65536; k++)
        first[k + 1] += first[k];
    for (size_t i = 0; i < n; i++)
        sorted[first[first_two(&(*texts)[i])]++] = (*texts)[i];
    for (size_t i = 0, end = 0; i < n; i = end) {
        for (end = i; end < n && first_two(&sorted[end]) == first_two(&sorted[i]);)
            end++;
        qsort(sorted + i, end - i, sizeof *sorted, by_bytes);
    }
    mem_free(*texts);
    *texts = sorted;
    sorted = NULL;
cleanup:
    mem_free(sorted);
    mem_free(first);
    return status;
}

/* Of the sorted texts that are in no slice up to without. path holds the open node of each depth. */
static cohort_status make_trie(struct token_trie *trie, const struct token_text *texts, size_t n, int without,
                               uint32_t *path, cohort_error *err)
{
    const struct token_text *before = NULL;
    size_t depth = 0, capacity = 0;
    for (size_t i = 0; i < n; i++) {
        const struct token_text *text = &texts[i];
        uint32_t shared = 0;
        if (text->slice != SLICE_NONE && text->slice <= without)
            continue;
        while (before != NULL && shared < before->length && shared < text->length &&
               before->bytes[shared] == text->bytes[shared])
            shared++;
        if (shared == text->length)
            shared--; /* the same bytes again: a second leaf beside the first */
        for (; depth > shared; depth--)
            trie->nodes[path[depth]].next = trie->n;
        TRY(mem_grow(&trie->nodes, &capacity, (size_t)trie->n + text->length, sizeof *trie->nodes, "token trie", err));
        for (; depth < text->length; depth++) {
            path[depth + 1] = trie->n;
            trie->nodes[trie->n++] = (struct trie_node){
                .token = -1, .depth = (uint16_t)(depth + 1), .byte = (unsigned char)text->bytes[depth]};
        }
        trie->nodes[trie->n - 1].token = text->id;
        before = text;
    }
    for (; depth > 0; depth--)
        trie->nodes[path[depth]].next = trie->n;
    return COHORT_OK;
}

cohort_status guide_vocabulary_create(struct guide_vocabulary **out, const struct tokenizer *tokenizer, int32_t size,
                                      cohort_error *err)
{
    struct guide_vocabulary *v = NULL;
    struct token_text *texts = NULL;
    uint32_t *path = NULL;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(mem_alloc(&v, 1, sizeof *v, "token trie", err));
    v->tokenizer = tokenizer;
    v->size = size > tokenizer_size(tokenizer) ? size : tokenizer_size(tokenizer);
    v->n_words = ((size_t)v->size + 31) / 32;
    for (int s = SLICE_SHORT; s < SLICES; s++)
        TRY_GOTO(mem_alloc(&v->masks[s], v->n_words, sizeof *v->masks[s], "token trie", err));
    TRY_GOTO(mem_alloc(&v->by_chars, MEDIUM_CHARS * v->n_words, sizeof *v->by_chars, "token trie", err));
    TRY_GOTO(mem_alloc(&texts, (size_t)v->size, sizeof *texts, "token trie", err));
    for (int32_t id = 0; id < v->size; id++) {
        size_t length = 0;
        const char *bytes = guide_token_bytes(v, id, &length);
        if (bytes == NULL)
            continue;
        const uint32_t chars = plain_chars(bytes, length);
        const int slice = chars == 0              ? SLICE_NONE
                          : chars <= SHORT_CHARS  ? SLICE_SHORT
                          : chars <= MEDIUM_CHARS ? SLICE_MEDIUM
                                                  : SLICE_ANY;
        for (int s = slice; s != SLICE_NONE && s < SLICES; s++) {
            v->masks[s][id / 32] |= 1u << (id % 32);
            v->slice_chars[s] = chars > v->slice_chars[s] ? chars : v->slice_chars[s];
        }
        for (uint32_t k = chars; chars > 0 && k < MEDIUM_CHARS; k++)
            v->by_chars[k * v->n_words + (size_t)id / 32] |= 1u << (id % 32);
        v->depth = length > v->depth ? length : v->depth;
        texts[n++] = (struct token_text){bytes, (uint32_t)length, id, slice};
    }
    TRY_GOTO(sort_texts(&texts, n, err));
    TRY_GOTO(mem_alloc(&path, v->depth + 2, sizeof *path, "token trie", err));
    for (int s = SLICE_NONE; s < SLICES; s++)
        TRY_GOTO(make_trie(&v->tries[s], texts, n, s, path, err));
    *out = v;
    v = NULL;
cleanup:
    guide_vocabulary_destroy(v);
    mem_free(texts);
    mem_free(path);
    return status;
}

void guide_vocabulary_destroy(struct guide_vocabulary *vocabulary)
{
    if (vocabulary == NULL)
        return;
    for (int s = SLICE_NONE; s < SLICES; s++) {
        mem_free(vocabulary->tries[s].nodes);
        mem_free(vocabulary->masks[s]);
    }
    mem_free(vocabulary->by_chars);
    mem_free(vocabulary);
}
