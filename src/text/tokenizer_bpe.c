/* Byte pair encoding: the pair of lowest rank is merged first, of equal ranks the leftmost, until
 * no pair of neighbours has a merge. Short words are searched, long ones use a heap; both give the
 * same ids. */
#include "text/tokenizer_internal.h"

#include <stdatomic.h>
#include <string.h>

enum { SHORT_WORD = 48 };

struct bpe_symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t previous, next;
};

struct bpe_candidate {
    uint32_t rank;
    int32_t at; /* left symbol */
};

void bpe_scratch_free(struct bpe_scratch *scratch)
{
    mem_free(scratch->symbols);
    mem_free(scratch->heap);
    token_list_free(&scratch->ids);
    memset(scratch, 0, sizeof *scratch);
}

/* The pair of lowest rank is looked for among all that are left. */
static size_t encode_short(const struct tokenizer *tokenizer, int32_t *ids, size_t count)
{
    uint32_t rank[SHORT_WORD];
    for (size_t i = 0; i + 1 < count; i++)
        rank[i] = tokenizer_find_merge(tokenizer, ids[i], ids[i + 1]);
    while (count > 1) {
        size_t best = 0;
        uint32_t lowest = rank[0];
        for (size_t i = 1; i + 1 < count; i++) {
            best = rank[i] < lowest ? i : best;
            lowest = rank[i] < lowest ? rank[i] : lowest;
        }
        if (lowest == MERGE_NEVER)
            break;
        ids[best] = tokenizer->merged[lowest];
        count--;
        for (size_t i = best + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            rank[i - 1] = rank[i];
        }
        if (best > 0)
            rank[best - 1] = tokenizer_find_merge(tokenizer, ids[best - 1], ids[best]);
        if (best + 1 < count)
            rank[best] = tokenizer_find_merge(tokenizer, ids[best], ids[best + 1]);
    }
    return count;
}

static bool comes_before(struct bpe_candidate a, struct bpe_candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static cohort_status heap_push(struct bpe_scratch *scratch, struct bpe_candidate candidate, cohort_error *err)
{
    size_t at = scratch->heap_count;
    TRY(mem_grow(&scratch->heap, &scratch->heap_capacity, at + 1, sizeof *scratch->heap, "merge candidates", err));
    scratch->heap_count++;
    while (at > 0 && comes_before(candidate, scratch->heap[(at - 1) / 2])) {
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    scratch->heap[at] = candidate;
    return COHORT_OK;
}

static struct bpe_candidate heap_pop(struct bpe_scratch *scratch)
{
    struct bpe_candidate *heap = scratch->heap;
    struct bpe_candidate top = heap[0], last = heap[--scratch->heap_count];
    size_t at = 0, count = scratch->heap_count;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && comes_before(heap[child + 1], heap[child]))
            child++;
        if (!comes_before(heap[child], last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    if (count > 0)
        heap[at] = last;
    return top;
}

static cohort_status push_pair(const struct tokenizer *tokenizer, struct bpe_scratch *scratch, int32_t at,
                               cohort_error *err)
{
    const struct bpe_symbol *symbols = scratch->symbols;
    if (at < 0 || symbols[at].next < 0)
        return COHORT_OK;
    struct bpe_candidate candidate = {.at = at};
    candidate.rank = tokenizer_find_merge(tokenizer, symbols[at].id, symbols[symbols[at].next].id);
    return candidate.rank == MERGE_NEVER ? COHORT_OK : heap_push(scratch, candidate, err);
}

/* ids [n] merged in place; returns how many are left in *left. */
static cohort_status encode_long(const struct tokenizer *tokenizer, int32_t *ids, size_t n, struct bpe_scratch *scratch,
                                 size_t *left_count, cohort_error *err)
{
    TRY(mem_grow(&scratch->symbols, &scratch->symbol_capacity, n, sizeof *scratch->symbols, "symbols of a long word",
                 err));
    struct bpe_symbol *symbols = scratch->symbols;
    int32_t count = (int32_t)n;
    for (int32_t i = 0; i < count; i++)
        symbols[i] = (struct bpe_symbol){ids[i], i - 1, i + 1 < count ? i + 1 : -1};
    scratch->heap_count = 0;
    for (int32_t i = 0; i + 1 < count; i++)
        TRY(push_pair(tokenizer, scratch, i, err));
    while (scratch->heap_count > 0) {
        struct bpe_candidate top = heap_pop(scratch);
        struct bpe_symbol *left = &symbols[top.at];
        /* A candidate is stale when either of its symbols has been merged since. */
        if (left->id < 0 || left->next < 0)
            continue;
        struct bpe_symbol *right = &symbols[left->next];
        if (tokenizer_find_merge(tokenizer, left->id, right->id) != top.rank)
            continue;
        left->id = tokenizer->merged[top.rank];
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            symbols[left->next].previous = top.at;
        TRY(push_pair(tokenizer, scratch, left->previous, err));
        TRY(push_pair(tokenizer, scratch, top.at, err));
    }
    *left_count = 0;
    for (int32_t i = 0; i >= 0; i = symbols[i].next)
        ids[(*left_count)++] = symbols[i].id;
    return COHORT_OK;
}

/* ---- what merging begins with ---- */

/* Bytes of a character that has no token become <0x..> tokens, where the vocabulary has them all. */
static bool push_fallback(const struct tokenizer *tokenizer, const char *at, size_t n, int32_t *ids, size_t *count)
{
    for (size_t i = 0; i < n; i++)
        if (tokenizer->fallback_ids[(unsigned char)at[i]] < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        ids[(*count)++] = tokenizer->fallback_ids[(unsigned char)at[i]];
    return true;
}

/* The ids of word's bytes or characters; ids has room for one a byte. An unknown character waits until the next known
 * one, past bytes that stand for characters: tokenizers has that order. */
static size_t first_ids(const struct tokenizer *tokenizer, const char *word, size_t length, int32_t *ids)
{
    size_t count = 0;
    bool waiting = false;
    if (tokenizer->byte_units) {
        for (size_t i = 0; i < length; i++)
            ids[i] = tokenizer->byte_ids[(unsigned char)word[i]];
        return length;
    }
    for (size_t i = 0, n = 0; i < length; i += n) {
        uint32_t code_point = 0;
        n = utf8_decode(word + i, &code_point);
        int32_t id = tokenizer_find_key(tokenizer, word + i, n, false);
        if (id >= 0 && (tokenizer->entries[id].flags & TOKEN_BASE) != 0 && !token_is_control(tokenizer, id)) {
            if (waiting)
                ids[count++] = tokenizer->unk;
            waiting = false;
            ids[count++] = id;
        } else if (!tokenizer->byte_fallback || !push_fallback(tokenizer, word + i, n, ids, &count)) {
            if (waiting && !tokenizer->fuse_unk)
                ids[count++] = tokenizer->unk;
            waiting = tokenizer->unk >= 0;
        }
    }
    if (waiting)
        ids[count++] = tokenizer->unk;
    return count;
}

static cohort_status merge_word(const struct tokenizer *tokenizer, const char *word, size_t length,
                                struct bpe_scratch *scratch, struct token_list *out, cohort_error *err)
{
    if (length > INT32_MAX)
        return error_set(err, COHORT_ERR_ARGUMENT, "a word of %zu bytes is too long to encode", length);
    TRY(mem_grow(&out->ids, &out->capacity, out->count + length, sizeof *out->ids, "token ids", err));
    int32_t *ids = out->ids + out->count;
    size_t count = first_ids(tokenizer, word, length, ids);
    if (count > SHORT_WORD)
        TRY(encode_long(tokenizer, ids, count, scratch, &count, err));
    else
        count = encode_short(tokenizer, ids, count);
    out->count += count;
    return COHORT_OK;
}

/* ---- words that are tokens ---- */

enum whole_state { WHOLE_UNKNOWN, WHOLE_YES, WHOLE_NO };

/* Whether word, which is the text of token id, is encoded as that token: always with ignore_merges, else if merges lead
 * to it, which is worked out when it is first asked. Threads that ask at once find the same. Added tokens were taken out
 * of the text before, where they count. */
static cohort_status is_whole(const struct tokenizer *tokenizer, int32_t id, const char *word, size_t length,
                              struct bpe_scratch *scratch, bool *whole, cohort_error *err)
{
    unsigned char state = atomic_load_explicit(&tokenizer->whole[id], memory_order_relaxed);
    if (state == WHOLE_UNKNOWN) {
        bool yes = (tokenizer->entries[id].flags & TOKEN_BASE) != 0 && !token_is_control(tokenizer, id);
        if (yes && !tokenizer->ignore_merges) {
            scratch->ids.count = 0;
            TRY(merge_word(tokenizer, word, length, scratch, &scratch->ids, err));
            yes = scratch->ids.count == 1 && scratch->ids.ids[0] == id;
        }
        state = yes ? WHOLE_YES : WHOLE_NO;
        atomic_store_explicit(&tokenizer->whole[id], state, memory_order_relaxed);
    }
    *whole = state == WHOLE_YES;
    return COHORT_OK;
}

cohort_status bpe_encode(const struct tokenizer *tokenizer, const char *word, size_t length,
                         struct bpe_scratch *scratch, struct token_list *out, cohort_error *err)
{
    int32_t id = tokenizer_find_key(tokenizer, word, length, tokenizer->byte_units);
    if (id >= 0) {
        bool whole = false;
        TRY(is_whole(tokenizer, id, word, length, scratch, &whole, err));
        if (whole)
            return token_list_push(out, id, err);
    }
    return merge_word(tokenizer, word, length, scratch, out, err);
}
