/* Byte pair encoding: the pair of lowest rank is merged first, of equal ranks the leftmost, until
 * no pair of neighbours has a merge. Short words are searched, long ones use a heap; both give the
 * same ids. */
#include "text/tokenizer_internal.h"

#include <string.h>

enum { SHORT_WORD = 48 };

struct bpe_symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t previous, next;
};

struct bpe_candidate {
    uint32_t rank;
    int32_t at; /* left symbol */
    int32_t id; /* of the merged token */
};

void bpe_scratch_free(struct bpe_scratch *scratch)
{
    mem_free(scratch->symbols);
    mem_free(scratch->heap);
    memset(scratch, 0, sizeof *scratch);
}

static uint32_t pair_rank(const struct tokenizer *tokenizer, int32_t left, int32_t right, int32_t *id)
{
    const struct merge_slot *merge = tokenizer_find_merge(tokenizer, left, right);
    if (merge == NULL)
        return MERGE_NEVER;
    *id = merge->id;
    return merge->rank;
}

static size_t encode_short(const struct tokenizer *tokenizer, int32_t *ids, size_t count)
{
    uint32_t rank[SHORT_WORD];
    int32_t merged[SHORT_WORD] = {0};
    for (size_t i = 0; i + 1 < count; i++)
        rank[i] = pair_rank(tokenizer, ids[i], ids[i + 1], &merged[i]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == MERGE_NEVER)
            break;
        ids[best] = merged[best];
        count--;
        for (size_t i = best + 1; i < count; i++)
            ids[i] = ids[i + 1];
        for (size_t i = best; i + 1 < count; i++) {
            rank[i] = rank[i + 1];
            merged[i] = merged[i + 1];
        }
        if (best > 0)
            rank[best - 1] = pair_rank(tokenizer, ids[best - 1], ids[best], &merged[best - 1]);
        if (best + 1 < count)
            rank[best] = pair_rank(tokenizer, ids[best], ids[best + 1], &merged[best]);
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
    candidate.rank = pair_rank(tokenizer, symbols[at].id, symbols[symbols[at].next].id, &candidate.id);
    return candidate.rank == MERGE_NEVER ? COHORT_OK : heap_push(scratch, candidate, err);
}

static cohort_status encode_long(const struct tokenizer *tokenizer, const unsigned char *word, size_t length,
                                 struct bpe_scratch *scratch, struct token_list *out, cohort_error *err)
{
    TRY(mem_grow(&scratch->symbols, &scratch->symbol_capacity, length, sizeof *scratch->symbols,
                 "symbols of a long word", err));
    struct bpe_symbol *symbols = scratch->symbols;
    int32_t count = (int32_t)length;
    for (int32_t i = 0; i < count; i++)
        symbols[i] = (struct bpe_symbol){tokenizer->byte_ids[word[i]], i - 1, i + 1 < count ? i + 1 : -1};
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
        int32_t id = -1;
        if (pair_rank(tokenizer, left->id, right->id, &id) != top.rank || id != top.id)
            continue;
        left->id = id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            symbols[left->next].previous = top.at;
        TRY(push_pair(tokenizer, scratch, left->previous, err));
        TRY(push_pair(tokenizer, scratch, top.at, err));
    }
    for (int32_t i = 0; i >= 0; i = symbols[i].next)
        TRY(token_list_push(out, symbols[i].id, err));
    return COHORT_OK;
}

/* With ignore_merges a word that is a token is that token, whether merges lead to it or not. Added tokens were taken
 * out of the text before, where they count. */
static int32_t whole_word(const struct tokenizer *tokenizer, const unsigned char *word, size_t length)
{
    enum { LONGEST = 1024 };
    char text[LONGEST] = {0};
    size_t n = 0;
    if (length > LONGEST / 2) /* a byte-level character takes up to 2 bytes */
        return -1;
    for (size_t i = 0; i < length; i++)
        n += utf8_encode(byte_level_char(word[i]), text + n);
    int32_t id = tokenizer_find_text(tokenizer, text, n);
    return id >= 0 && !token_is_control(tokenizer, id) ? id : -1;
}

cohort_status bpe_encode(const struct tokenizer *tokenizer, const unsigned char *word, size_t length,
                         struct bpe_scratch *scratch, struct token_list *out, cohort_error *err)
{
    if (tokenizer->ignore_merges) {
        int32_t id = whole_word(tokenizer, word, length);
        if (id >= 0)
            return token_list_push(out, id, err);
    }
    if (length > SHORT_WORD)
        return encode_long(tokenizer, word, length, scratch, out, err);
    int32_t ids[SHORT_WORD];
    for (size_t i = 0; i < length; i++)
        ids[i] = tokenizer->byte_ids[word[i]];
    size_t count = encode_short(tokenizer, ids, length);
    TRY(mem_grow(&out->ids, &out->capacity, out->count + count, sizeof *out->ids, "token ids", err));
    memcpy(out->ids + out->count, ids, count * sizeof *ids);
    out->count += count;
    return COHORT_OK;
}
