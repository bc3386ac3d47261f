/* What the readers of tokenizer.json share: tokenizer_load.c, tokenizer_steps.c, tokenizer_tables.c. */
#ifndef COHORT_TEXT_TOKENIZER_LOADER_H
#define COHORT_TEXT_TOKENIZER_LOADER_H

#include "text/tokenizer_internal.h"

struct loader {
    struct tokenizer *tokenizer;
    const char *origin;
    cohort_error *err;
};

#define REFUSE(loader, ...) error_set((loader)->err, COHORT_ERR_UNSUPPORTED, __VA_ARGS__)
#define WRONG(loader, ...)  error_set((loader)->err, COHORT_ERR_FORMAT, __VA_ARGS__)

/* The "type" of a component, or NULL with an error when there is none. */
const char *loader_type(const struct loader *loader, const json_t *component, const char *place);
/* Reads the boolean key of object; absent gives fallback. */
cohort_status loader_flag(const struct loader *loader, const json_t *object, const char *place, const char *key,
                          bool fallback, bool *out);
/* Reads the text key of object, which must be there. */
cohort_status loader_text(const struct loader *loader, const json_t *object, const char *place, const char *key,
                          struct text *out);

/* The normaliser, the pre-tokenizer, the decoder as steps. */
cohort_status loader_normalizer(const struct loader *loader, const json_t *normalizer, int depth);
cohort_status loader_pre_tokenizer(const struct loader *loader, const json_t *pre, int depth);
cohort_status loader_decoder(const struct loader *loader, const json_t *decoder, int depth);
/* What is put around a text; read when the vocabulary is. */
cohort_status loader_post_processor(const struct loader *loader, const json_t *component, int depth);

/* ---- the big tables, which are read without a tree ---- */

/* A value as it stands in the file; at NULL: there is none. */
struct json_span {
    const char *at;
    size_t length;
};
struct table_spans {
    struct json_span vocab, merges;
};
/* Copies json to rest, with {} and [] in place of model.vocab and model.merges. False where json is none. */
cohort_status tables_cut(const char *json, size_t length, struct text *rest, struct table_spans *spans, bool *whole,
                         cohort_error *err);
/* Reads the tables into the tokenizer. *broken: they are no JSON, and the caller knows how to say where. */
cohort_status tables_vocab(const struct loader *loader, struct json_span span, bool *broken);
cohort_status tables_merges(const struct loader *loader, struct json_span span, bool *broken);
cohort_status tables_id(const struct loader *loader, const json_t *value, const char *token, int32_t *id);
/* Gives id, which has none, a text that no token has, and makes room for it. */
cohort_status tables_add(const struct loader *loader, int32_t id, const char *text, size_t length, uint32_t flags);

#endif
