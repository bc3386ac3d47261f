/* The JSONL rows that generate prints, and that logprobs reads and prints again. */
#ifndef COHORT_RECIPE_JSON_ROWS_H
#define COHORT_RECIPE_JSON_ROWS_H

#include "run/options.h"

#include <jansson.h>

/* Whether the option format asks for them. */
bool json_rows_asked(const struct options *options);

/* Appends {"index", "completion_index", "prompt", "completion", "prompt_tokens", "tokens", "logprobs", "kept_logprobs",
 * "top_token_ids", "top_logprobs", "prompt_logprobs", "temperature", "finish_reason", "parsed"} and a newline. prompt, completion, kept,
 * top_ids, prompt_logp, finish_reason and parsed may be NULL (left out).
 * Floats are printed in the shortest decimal form that reads back to the same float; NaN and infinities as null. */
struct json_row {
    int64_t index, completion_index;
    const char *prompt;
    size_t prompt_length;
    const char *completion;
    size_t completion_length;
    const int32_t *prompt_tokens, *tokens;
    const float *logprobs;
    const float *kept; /* as in struct completion; NULL: left out */
    float temperature; /* that logprobs are of, which is said where it is neither 0 nor 1 */
    int32_t n_prompt, n_tokens, n_top;
    const int32_t *top_ids; /* [n_tokens, n_top] */
    const float *top_logp;
    const float *prompt_logp; /* [n_prompt] */
    const char *finish_reason;
    const json_t *parsed;
};
cohort_status json_row_write(const struct json_row *row, struct text *out, cohort_error *err);

/* Appends a JSON string (UTF-8; what is not becomes U+FFFD). */
cohort_status json_string_write(const char *bytes, size_t length, struct text *out, cohort_error *err);
/* Shortest decimal form that reads back to the same float. */
cohort_status json_float_write(float value, struct text *out, cohort_error *err);

/* Reads a list of ids from 0 to vocab - 1. where and key are for messages. */
cohort_status json_read_ids(const json_t *row, const char *key, const char *where, int32_t vocab, int32_t **ids,
                            int32_t *count, cohort_error *err);

#endif
