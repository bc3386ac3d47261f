/* What the tokenizer's files share. Nothing outside src/text/tokenizer*.c and its tests includes
 * this. */
#ifndef COHORT_TEXT_TOKENIZER_INTERNAL_H
#define COHORT_TEXT_TOKENIZER_INTERNAL_H

#include "base/utf8.h"
#include "text/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>

enum {
    TOKEN_PRESENT = 1, /* the id has a token */
    TOKEN_ADDED = 2,
    TOKEN_SPECIAL = 4,
    TOKEN_NORMALIZED = 8, /* an added token matched after NFC */
    TOKEN_WORD = 16,      /* an added token that is vocabulary: no special one, no markup */
    /* Ids index arrays, so one huge id in a small file must not cost gigabytes. The largest
     * published vocabularies have about 300,000 ids. */
    TOKENIZER_MAX_IDS = 1 << 22,
    TOKENIZER_MAX_BYTES = 1 << 28 /* of a file: the arena holds twice that, in 32-bit offsets */
};

/* Offsets into tokenizer.arena. text is the token as the file spells it (byte-level characters for
 * base tokens), bytes what it decodes to. */
struct token_entry {
    uint32_t text, text_length;
    uint32_t bytes, bytes_length;
    uint32_t flags;
};

struct merge_slot {
    uint64_t key; /* left id << 32 | right id; MERGE_EMPTY: free */
    uint32_t rank;
    int32_t id; /* of the merged token */
};

/* Added tokens that are matched at the same stage, sorted by content. */
struct added_set {
    int32_t *ids;
    struct text *contents;
    size_t count;
    bool first[256]; /* bytes that begin a content */
};

/* Owns all it points to. Written while loading, read-only afterwards, so threads share it without
 * locks. */
struct tokenizer {
    struct token_entry *entries; /* [size] */
    int32_t size;                /* highest id + 1 */
    struct text arena;           /* bytes of all tokens, each followed by NUL */
    int32_t *vocab_slots;        /* hash of text -> id + 1, 0 free */
    size_t vocab_mask;
    struct merge_slot *merges;
    size_t merge_mask;
    int32_t byte_ids[256]; /* -1: the byte has no token (only bytes that UTF-8 never contains) */
    struct added_set raw, normalized;
    pcre2_code *split;
    bool nfc, ignore_merges;
    int32_t eos;                          /* -1: none */
    struct tokenizer_template *templates; /* [n_templates], by name */
    size_t n_templates, templates_capacity;
    json_t *special; /* an object; NULL where no folder was read */
};

/* tokenizer_load without the folder: json is the content of a tokenizer.json, origin names it in
 * messages. */
cohort_status tokenizer_parse(struct tokenizer **out, const char *json, size_t length, const char *origin,
                              cohort_error *err);

/* "a string", "null", ...: what was found, in messages. */
const char *tokenizer_type_name(const json_t *value);

/* Lookup in the base vocabulary and what was added so far; -1 if there is none. */
int32_t tokenizer_find_text(const struct tokenizer *tokenizer, const char *text, size_t length);
const struct merge_slot *tokenizer_find_merge(const struct tokenizer *tokenizer, int32_t left, int32_t right);
uint64_t tokenizer_merge_hash(uint64_t key);
uint64_t tokenizer_text_hash(const char *text, size_t length);
#define MERGE_EMPTY UINT64_MAX
#define MERGE_NEVER UINT32_MAX /* a rank */

/* The byte-level alphabet of GPT-2: the code point that stands for a byte, and back (-1: stands for
 * none). */
uint32_t byte_level_char(unsigned char byte);
int32_t byte_level_byte(uint32_t code_point);

/* *normal = NFC of text (valid UTF-8), which may be text itself when nothing changes, else in
 * buffer. */
struct nfc_buffer {
    int32_t *code_points;
    size_t capacity;
    struct text text;
};
cohort_status nfc_normalize(const char *text, size_t length, struct nfc_buffer *buffer, const char **normal,
                            size_t *normal_length, cohort_error *err);
void nfc_buffer_free(struct nfc_buffer *buffer);

/* The split regex: pattern is what tokenizer.json has, in Oniguruma's dialect. */
cohort_status split_compile(pcre2_code **out, const char *pattern, size_t length, const char *origin,
                            cohort_error *err);

/* Byte pair encoding of one word (bytes, not byte-level characters); scratch is reused from word to
 * word. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_candidate *heap;
    size_t symbol_capacity, heap_capacity, heap_count;
};
cohort_status bpe_encode(const struct tokenizer *tokenizer, const unsigned char *word, size_t length,
                         struct bpe_scratch *scratch, struct token_list *out, cohort_error *err);
void bpe_scratch_free(struct bpe_scratch *scratch);
/* Whether an added token must not result from plain text: text that spells such a token does not become its id. */
bool token_is_control(const struct tokenizer *tokenizer, int32_t id);
cohort_status token_list_push(struct token_list *list, int32_t id, cohort_error *err);

#endif
