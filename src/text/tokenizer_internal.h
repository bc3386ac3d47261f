/* What the tokenizer's files share. Nothing outside src/text/tokenizer*.c and its tests includes this.
 *
 * tokenizer.json is compiled into a pipeline. Text goes through added tokens (tokenizer_encode.c), the steps of the
 * normaliser (tokenizer_normalize.c), the steps of the pre-tokenizer (tokenizer_pieces.c), which hand out words, and
 * BPE (tokenizer_bpe.c). Ids go through the steps of the decoder (tokenizer_decode.c). No step knows a family. */
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
    TOKEN_NORMALIZED = 8,   /* an added token matched in normalised text */
    TOKEN_WORD = 16,        /* an added token that is vocabulary: no special one, no markup */
    TOKEN_BASE = 32,        /* in model.vocab */
    TOKEN_BYTE = 64,        /* the decoder reads it as the byte that its text names, as in <0x0A> */
    TOKEN_LSTRIP = 128,     /* an added token that takes the white space before it along, */
    TOKEN_RSTRIP = 256,     /* behind it, */
    TOKEN_SINGLE = 512,     /* and one that no letter may touch */
    TOKEN_KEY_BYTES = 1024, /* its key is bytes */
    /* Ids index arrays, so one huge id in a small file must not cost gigabytes. The largest
     * published vocabularies have about 300,000 ids. */
    TOKENIZER_MAX_IDS = 1 << 22,
    TOKENIZER_MAX_BYTES = 1 << 28, /* of a file: the arena holds a few times that, in 32-bit offsets */
    TOKENIZER_MAX_STEPS = 32       /* of a normaliser, a pre-tokenizer, a decoder */
};

/* Offsets into tokenizer.arena. text is the token as the file spells it, source what the decoder reads (the normal form
 * of an added token that is matched in one), key what words are looked up by (byte-level characters as their bytes), bytes
 * what it decodes to behind other tokens. */
struct token_entry {
    uint32_t text, text_length;
    uint32_t source, source_length;
    uint32_t key, key_length;
    uint32_t bytes, bytes_length;
    uint32_t flags;
};

struct vocab_slot {
    uint64_t head;   /* the key's first 8 bytes */
    uint32_t length; /* of the key */
    int32_t id;      /* id + 1; 0: free */
};

/* Merges by their pair, in a hash whose slots are left id << 42 | right id << 20 | rank: small, because every pair of
 * neighbours in a word is looked up, most in vain. A bit for each of so many hashes tells most of those apart before. */
enum { MERGE_ID_BITS = 22, MERGE_RANK_BITS = 20, MERGE_FILTER_BITS = 21 };
#define MERGE_EMPTY UINT64_MAX
#define MERGE_NEVER ((uint32_t)(1u << MERGE_RANK_BITS) - 1) /* a rank that no merge has */

/* Added tokens that are matched at the same stage, sorted by content. */
struct added_set {
    int32_t *ids;
    struct text *contents;
    size_t count;
    bool first[256]; /* bytes that begin a content */
};

/* ---- classes of characters ---- */

enum char_class {
    CHAR_LETTER = 1,  /* \p{L} of a split regex */
    CHAR_NUMBER = 2,  /* \p{N} of it */
    CHAR_SPACE = 4,   /* White_Space */
    CHAR_WORD = 8,    /* \w of Rust's regex */
    CHAR_DIGIT = 16,  /* what the pre-tokenizer Digits cuts at */
    CHAR_PUNCT = 32,  /* what Punctuation cuts at */
    CHAR_NEWLINE = 64 /* CR, LF */
};
/* The classes of any character, worked out. */
unsigned char_classes(uint32_t code_point);
uint32_t char_lower(uint32_t code_point);
/* What StripAccents takes away. */
bool char_is_mark(uint32_t code_point);
/* Whether code_point lies in one of the ranges [first, last], which ascend. */
bool char_in_ranges(const uint32_t (*ranges)[2], size_t count, uint32_t code_point);
extern const uint32_t char_new_letters[][2], char_new_numbers[][2];
extern const size_t char_n_new_letters, char_n_new_numbers;

/* The characters below CHAR_TABLED as tables, for the steps that look at every character. */
enum { CHAR_TABLED = 0x20000 };
struct char_tables {
    unsigned char *classes; /* [CHAR_TABLED] */
    unsigned char *nfc;     /* [CHAR_TABLED] as nfc_table_fill has it; NULL where no step composes */
};

/* ---- text ---- */

/* The byte-level alphabet of GPT-2: the code point that stands for a byte, and back (-1: stands for none). */
uint32_t byte_level_char(unsigned char byte);
int32_t byte_level_byte(uint32_t code_point);
/* The bytes that text stands for, at most TOKENIZER_KEY_BYTES; false where it has other characters, or stands for more:
 * the longest word that is looked up as a whole. */
enum { TOKENIZER_KEY_BYTES = 512 };
bool byte_level_bytes(const char *text, size_t length, char *bytes, size_t *n);

/* Where the character that ends at text + end begins; end > 0. */
size_t utf8_before(const char *text, size_t end);

/* Unicode's normal forms as Hugging Face's tables have them (Unicode 9). *normal = the form of text (valid UTF-8),
 * which may be text itself when nothing changes, else in buffer. */
enum normal_form { FORM_NFC, FORM_NFD, FORM_NFKC, FORM_NFKD };
struct form_buffer {
    int32_t *code_points;
    size_t capacity;
    struct text text;
};
cohort_status form_normalize(enum normal_form form, const char *text, size_t length, struct form_buffer *buffer,
                             const char **normal, size_t *normal_length, cohort_error *err);
/* NFC by the table: only what may change goes through form_normalize. The result may be in out. */
cohort_status nfc_normalize(const unsigned char *table, const char *text, size_t length, struct form_buffer *buffer,
                            struct text *out, const char **normal, size_t *normal_length, cohort_error *err);
/* What NFC may do to each character: its combining class (0: nothing, and text may be cut before it), or NFC_UNSURE. */
enum { NFC_UNSURE = 255 };
void nfc_table_fill(unsigned char *table);
void form_buffer_free(struct form_buffer *buffer);

/* ---- regular expressions ---- */

/* pattern is what tokenizer.json has, in Oniguruma's dialect; literal: a text to be found. place for messages. */
cohort_status regex_compile(pcre2_code **out, const char *pattern, size_t length, bool literal, const char *origin,
                            const char *place, cohort_error *err);
/* What matching needs, made when the first regex runs. Zero-initialise. */
struct regex_run {
    pcre2_match_data *match;
    pcre2_match_context *context;
};
void regex_run_free(struct regex_run *run);
struct regex_cursor {
    size_t start;    /* where the next match is looked for */
    size_t last_end; /* of the last match, SIZE_MAX: none */
};
/* The next match of a text, without the empty ones that touch the match before them. found false: none is left. */
cohort_status regex_next(struct regex_run *run, const pcre2_code *code, const char *text, size_t length,
                         struct regex_cursor *cursor, bool *found, size_t *from, size_t *to, cohort_error *err);

/* Split regexes that are matched by hand-written code, recognised by their text. */
enum known_split { SPLIT_REGEX, SPLIT_GPT2, SPLIT_QWEN, SPLIT_LLAMA3 };
enum known_split known_split_find(const char *pattern, size_t length);
const char *known_split_pattern(enum known_split known);
/* Where the word ends that begins at byte at; these patterns match everywhere. */
size_t known_split_match(enum known_split known, const unsigned char *classes, const char *text, size_t length,
                         size_t at);

/* ---- steps ---- */

enum normal_kind {
    NORMAL_FORM,
    NORMAL_LOWERCASE,
    NORMAL_STRIP,
    NORMAL_STRIP_ACCENTS,
    NORMAL_REPLACE,
    NORMAL_PREPEND,
    NORMAL_BYTE_LEVEL
};
struct normal_step {
    enum normal_kind kind;
    enum normal_form form;
    bool left, right;    /* Strip */
    pcre2_code *pattern; /* Replace */
    struct text content; /* Replace, Prepend */
};
struct normal_scratch {
    struct text pages[2];
    struct form_buffer forms;
    struct regex_run regex;
};
/* What stands before and behind a text that is a part of another: then no step treats that end as one. */
struct normal_ends {
    bool left, right;
};
cohort_status normalizer_run(const struct tokenizer *tokenizer, const char *text, size_t length,
                             struct normal_ends ends, struct normal_scratch *scratch, const char **normal,
                             size_t *normal_length, bool *start_lost, cohort_error *err);
void normal_scratch_free(struct normal_scratch *scratch);

enum split_behavior {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_CONTIGUOUS,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT
};
enum piece_kind {
    PIECE_REGEX,     /* cuts at the matches of a regex, */
    PIECE_CLASS,     /* of characters of some classes, */
    PIECE_WORDS,     /* of \w+|[^\w\s]+, */
    PIECE_CHARACTER, /* of one character */
    PIECE_SPACES,    /* ' ' becomes content */
    PIECE_PREPEND,   /* content is put before a piece that does not begin with it */
    PIECE_BYTE_LEVEL,
    PIECE_WORD_STARTS /* cuts before each content that does not follow one: no step of the file's, see
                       * tokenizer_load.c */
};
struct piece_step {
    enum piece_kind kind;
    enum split_behavior behavior;
    bool invert;
    bool first_only; /* Prepend: only the piece at the text's start */
    enum known_split known;
    pcre2_code *pattern;
    unsigned classes;
    struct text content;
};

enum decode_kind { DECODE_REPLACE, DECODE_METASPACE, DECODE_STRIP };
/* A step of the decoder on each token alone. */
struct decode_step {
    enum decode_kind kind;
    bool drop_first; /* Metaspace: the first token's are dropped, those of others become ' ' */
    pcre2_code *pattern;
    struct text content;
    size_t start, stop; /* Strip */
};
struct decoder {
    struct decode_step *steps;
    size_t n_steps, step_capacity;
    bool byte_level, byte_fallback, fused;
    struct text strip; /* what is taken off the whole text's start, */
    size_t n_strip;    /* so many times at most */
};

/* Owns all it points to. Written while loading, read-only afterwards (but for whole, which is a memory of what is so
 * anyway), so threads share it without locks. */
struct tokenizer {
    struct token_entry *entries;  /* [size] */
    _Atomic unsigned char *whole; /* [size] whether BPE of the token's text gives the token: enum whole_state */
    int32_t size;                 /* highest id + 1 */
    size_t entry_capacity;
    struct text arena;              /* bytes of all tokens, each followed by NUL */
    struct vocab_slot *vocab;       /* hash of keys */
    size_t vocab_mask, vocab_count; /* slots - 1, slots in use */
    uint64_t *merges;
    size_t merge_mask;
    int32_t *merged; /* [rank] the token that a merge makes */
    size_t merged_capacity;
    uint64_t *merge_filter;    /* [1 << MERGE_FILTER_BITS] bits */
    int32_t byte_ids[256];     /* the token of each byte (byte-level), -1: none */
    int32_t fallback_ids[256]; /* <0x00> to <0xFF>, -1: none */
    int32_t unk;               /* -1: unknown characters are left out */
    struct added_set raw, normalized;
    struct char_tables tables;
    struct normal_step *normal_steps;
    size_t n_normal, normal_capacity;
    struct piece_step *piece_steps;
    size_t n_pieces, piece_capacity;
    struct decoder decoder;
    struct token_list prefix, suffix; /* what the post-processor puts around a text */
    bool byte_units;                  /* BPE begins with bytes, else with characters */
    bool ignore_merges, byte_fallback, fuse_unk;
    int32_t eos;                          /* -1: none */
    struct tokenizer_template *templates; /* [n_templates], by name */
    size_t n_templates, templates_capacity;
    json_t *special; /* an object; NULL where no folder was read */
};

/* tokenizer_load without the folder: json is the content of a tokenizer.json, origin names it in messages. */
cohort_status tokenizer_parse(struct tokenizer **out, const char *json, size_t length, const char *origin,
                              cohort_error *err);

/* "a string", "null", ...: what was found, in messages. */
const char *tokenizer_type_name(const json_t *value);

/* Lookup in the base vocabulary and what was added so far, by the text that the file has, or by key (byte_level: it
 * stands for bytes); -1 if there is none. */
int32_t tokenizer_find_text(const struct tokenizer *tokenizer, const char *text, size_t length);
int32_t tokenizer_find_key(const struct tokenizer *tokenizer, const char *key, size_t length, bool byte_level);
#define KEY_OF_BYTES 0x80000000u /* in a slot's length: the key is bytes, which may also be the text of another token */
uint64_t tokenizer_key_head(const char *key, size_t length);
uint64_t tokenizer_key_hash(uint64_t head, const char *key, size_t length);
/* The rank of a pair, MERGE_NEVER: it has no merge. tokenizer.merged has what comes of it. */
static inline uint64_t tokenizer_merge_hash(uint64_t key) { return key * 0x9e3779b97f4a7c15u; }
static inline uint32_t tokenizer_find_merge(const struct tokenizer *tokenizer, int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << MERGE_ID_BITS | (uint32_t)right;
    const uint64_t hash = tokenizer_merge_hash(key), bit = hash >> (64 - MERGE_FILTER_BITS);
    if ((tokenizer->merge_filter[bit / 64] >> bit % 64 & 1) == 0)
        return MERGE_NEVER;
    for (size_t at = (size_t)(hash >> 24) & tokenizer->merge_mask;; at = (at + 1) & tokenizer->merge_mask) {
        const uint64_t slot = tokenizer->merges[at];
        if (slot >> MERGE_RANK_BITS == key)
            return (uint32_t)slot & MERGE_NEVER;
        if (slot == MERGE_EMPTY)
            return MERGE_NEVER;
    }
}
/* Whether an added token must not result from plain text: text that spells such a token does not become its id. */
bool token_is_control(const struct tokenizer *tokenizer, int32_t id);
cohort_status token_list_push(struct token_list *list, int32_t id, cohort_error *err);

/* Byte pair encoding of one word; scratch is reused from word to word. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_candidate *heap;
    size_t symbol_capacity, heap_capacity, heap_count;
    struct token_list ids;
};
cohort_status bpe_encode(const struct tokenizer *tokenizer, const char *word, size_t length,
                         struct bpe_scratch *scratch, struct token_list *out, cohort_error *err);
void bpe_scratch_free(struct bpe_scratch *scratch);

/* Where a text begins: within another (behind an added token, or a cut), at the start of all, or behind a text that was
 * encoded before, where nothing is put before it: that text and this are one. */
enum text_start { START_WITHIN, START_OF_ALL, START_GOES_ON };

/* The steps of the pre-tokenizer, then BPE of every word. */
struct piece_scratch {
    struct text pages[TOKENIZER_MAX_STEPS];
    struct regex_run regex;
    struct bpe_scratch bpe;
};
cohort_status pieces_encode(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *text,
                            size_t length, enum text_start start, struct token_list *out, cohort_error *err);
void piece_scratch_free(struct piece_scratch *scratch);

/* Appends what the decoder's steps make of a token's text; first: no token stands before it. */
cohort_status decoder_token(const struct decoder *decoder, const char *text, size_t length, bool first,
                            struct text *out, cohort_error *err);

#endif
