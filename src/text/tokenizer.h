/* BPE tokenizers, read from tokenizer.json as it stands: byte-level ones (Qwen, GPT-2, Llama 3) and those in the manner
 * of SentencePiece (Llama 2, Mistral). docs/TOKENIZERS.md lists what of a file is supported. Immutable after loading:
 * any number of threads may encode with one. */
#ifndef COHORT_TEXT_TOKENIZER_H
#define COHORT_TEXT_TOKENIZER_H

#include "base/memory.h"

#include <jansson.h>

struct tokenizer;

struct token_list {
    int32_t *ids;
    size_t count, capacity;
};
void token_list_free(struct token_list *list);

/* Reads DIR/tokenizer.json, the chat templates from DIR/chat_template.jinja and DIR/chat_templates/ or else
 * DIR/tokenizer_config.json, and the named special tokens from that or else DIR/special_tokens_map.json. A part of it that changes ids and is
 * not supported (another model type, normaliser, pre-tokenizer, byte_fallback, ...) is refused by name. */
cohort_status tokenizer_load(struct tokenizer **out, const char *dir, cohort_error *err);
void tokenizer_destroy(struct tokenizer *tokenizer);

/* Appends the ids of text (must be valid UTF-8: the message says at which byte it is not). With parse_added, added
 * tokens in the text become their ids; without, they are encoded as plain text. No token is put around it. */
cohort_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length, bool parse_added,
                               struct token_list *out, cohort_error *err);
/* As tokenizer_encode with parse_added, and with the tokens that the file's post-processor puts around a text (BOS): for
 * plain text that is handed to a model as it stands. A rendered template has its own. goes_on: more ids of the same text
 * follow, so that what belongs behind it is left out. */
cohort_status tokenizer_encode_text(const struct tokenizer *tokenizer, const char *text, size_t length, bool goes_on,
                                    struct token_list *out, cohort_error *err);

/* A part of a text that somebody wrote into a message: bytes [from, to). */
enum content_kind {
    CONTENT_FOREIGN,  /* a user's, a system's, a tool's */
    CONTENT_ASSISTANT /* the model's own: <think>, <tool_call> and the like are tokens in it */
};
struct content_span {
    size_t from, to;
    enum content_kind kind;
};
struct content_spans { /* ascending, without overlap */
    struct content_span *items;
    size_t count, capacity;
    /* Tokens that the model's own words never become, borrowed: what opens and closes a turn. NULL: all that are marked
     * special. */
    const struct token_list *markers;
};
void content_spans_free(struct content_spans *spans);
cohort_status content_spans_push(struct content_spans *spans, size_t from, size_t to, enum content_kind kind,
                                 cohort_error *err);

/* As tokenizer_encode with parse_added, except that content stays content (invariant I12). An added token is matched
 * across no border of a span; within a span of CONTENT_ASSISTANT only if it is none of the spans' markers; within one
 * of CONTENT_FOREIGN only if it is vocabulary, which is an added token that is not special and has none of the
 * characters < > [ ] { } | of markup. Text without control tokens gets the ids that tokenizer_encode gives it. spans may
 * be NULL: none. */
cohort_status tokenizer_encode_content(const struct tokenizer *tokenizer, const char *text, size_t length,
                                       const struct content_spans *spans, struct token_list *out, cohort_error *err);
/* The same for a text that goes on behind what out holds, as a completion behind its prompt: a step that puts a space
 * before a text (Llama 2's Prepend and Metaspace) puts none, because the two are one text. Where the last token of out
 * is an added one, a step that puts a space behind these does. out empty: as tokenizer_encode_content. */
cohort_status tokenizer_encode_more(const struct tokenizer *tokenizer, const char *text, size_t length,
                                    const struct content_spans *spans, struct token_list *out, cohort_error *err);

/* Appends the text of ids. Bytes that are not UTF-8 become U+FFFD as Hugging Face's decode does. skip_special leaves
 * out added tokens marked special. Ids without a token are skipped. */
cohort_status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                               struct text *out, cohort_error *err);

/* Streaming decode: emits only whole characters; what is held back comes with later ids or at the end. Zero-initialise,
 * free in the end. The concatenation of what is emitted equals tokenizer_decode of all ids. */
struct token_stream {
    unsigned char held[8]; /* the beginning of a character */
    size_t n_held;
    struct text run;   /* bytes of <0x..> tokens, which are text or not when the last is known */
    size_t n_stripped; /* of what the decoder takes off the start */
    bool begun;
};
cohort_status token_stream_push(struct token_stream *stream, const struct tokenizer *tokenizer, int32_t id,
                                bool skip_special, struct text *out, cohort_error *err);
cohort_status token_stream_finish(struct token_stream *stream, const struct tokenizer *tokenizer, struct text *out,
                                  cohort_error *err);
void token_stream_free(struct token_stream *stream);

/* Highest id + 1 (base and added). */
int32_t tokenizer_size(const struct tokenizer *tokenizer);
/* -1 if there is none. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *token);
/* The bytes of one token (added tokens: their text); NULL if none. */
const char *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *length);
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);
/* Whether a token is an added one that text must not become: a special one, or markup such as <think>. */
bool tokenizer_is_control(const struct tokenizer *tokenizer, int32_t id);
/* The token as tokenizer.json spells it; NULL if none. */
const char *tokenizer_text(const struct tokenizer *tokenizer, int32_t id, size_t *length);
/* The tokenizer's own eos_token; -1 if it names none, or none of its tokens. */
int32_t tokenizer_eos(const struct tokenizer *tokenizer);
/* A chat template of the folder, as it stands there. */
struct tokenizer_template {
    char *name; /* "default", or what chat_templates/ or tokenizer_config.json calls it ("tool_use") */
    char *text; /* length bytes, and a NUL */
    size_t length;
    char *origin; /* the file, and the key, for messages */
};
/* All of them, by name. Of a folder with chat_template.jinja or chat_templates/ those, else tokenizer_config.json's. */
const struct tokenizer_template *tokenizer_templates(const struct tokenizer *tokenizer, size_t *count);
/* bos_token and so on by name, and the named ones of extra_special_tokens: an object of texts, or NULL. */
const json_t *tokenizer_special_tokens(const struct tokenizer *tokenizer);

/* Writes a byte-level tokenizer as an ordinary tokenizer.json + tokenizer_config.json that Hugging Face loads: 256 byte
 * tokens (ids 0..255 = the byte), then <|endoftext|> 256, <|im_start|> 257, <|im_end|> 258, <think> 259, </think> 260,
 * NFC, Qwen's split regex, no merges, and the Qwen3 chat template. 264 rows (multiple of 8) suit as vocabulary size. */
enum { TOKENIZER_BYTES_VOCAB = 264 };
cohort_status tokenizer_write_bytes(const char *dir, cohort_error *err);

#endif
