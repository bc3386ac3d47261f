/* The tokens of a tokenizer as byte strings in a trie, for masks: which tokens lead from a configuration to one that is
 * alive. A trie lies depth first in an array, so that a byte that leads nowhere skips all that begins with it.
 *
 * Slices are large sets of tokens that are mostly allowed together: those that consist of characters which may stand in a JSON
 * string as they are, of at most 10, at most 30, and of any number. Where a slice is allowed as a whole its mask is
 * copied and only the rest of the vocabulary is walked, a thirtieth of it. Immutable once made: any number of guides may
 * share it, in any thread. */
#ifndef COHORT_GUIDE_GUIDE_VOCABULARY_H
#define COHORT_GUIDE_GUIDE_VOCABULARY_H

#include "text/tokenizer.h"

enum { SLICE_NONE, SLICE_SHORT, SLICE_MEDIUM, SLICE_ANY, SLICES };
enum { SHORT_CHARS = 10, MEDIUM_CHARS = 30 };

struct trie_node {
    uint32_t next; /* the node behind all that begins with this one */
    int32_t token; /* -1: none ends here */
    uint16_t depth;
    unsigned char byte;
};
struct token_trie {
    struct trie_node *nodes;
    uint32_t n;
};

struct guide_vocabulary {
    const struct tokenizer *tokenizer;
    int32_t size;                    /* ids, at least the tokenizer's */
    size_t n_words;                  /* of a mask: 32 ids to a word, the lowest in the lowest bit */
    struct token_trie tries[SLICES]; /* of the tokens that are not in the slice */
    uint32_t *masks[SLICES];         /* [n_words] of those that are; SLICE_NONE: NULL */
    uint32_t slice_chars[SLICES];    /* characters of the longest token in it */
    uint32_t *by_chars; /* [MEDIUM_CHARS, n_words] row n: the tokens of SLICE_ANY of at most n characters */
    size_t depth;       /* bytes of the longest token */
};

/* Tokens that text does not become (tokenizer_is_control) are in no trie: a grammar names them. size: ids that a mask has
 * to cover; the tokenizer, which is borrowed, may have more. */
cohort_status guide_vocabulary_create(struct guide_vocabulary **out, const struct tokenizer *tokenizer, int32_t size,
                                      cohort_error *err);
void guide_vocabulary_destroy(struct guide_vocabulary *vocabulary);
/* The bytes of a token that is in the trie; NULL: it is not. */
const char *guide_token_bytes(const struct guide_vocabulary *vocabulary, int32_t id, size_t *length);

#endif
