#include "recipe/json_rows.h"

#include "base/json_text.h"
#include "base/number.h"
#include "run/output_format.h"

#include <math.h>
#include <string.h>

bool json_rows_asked(const struct options *options)
{
    switch ((enum output_format)options_choice(options, OPTION_FORMAT)) {
    case OUTPUT_TEXT:
    case OUTPUT_JSON: break; /* a document is the command's own */
    case OUTPUT_JSONL: return true;
    }
    return false;
}

cohort_status json_float_write(float value, struct text *out, cohort_error *err)
{
    char digits[NUMBER_BYTES];
    if (!isfinite(value))
        return text_append(out, "null", 4, err);
    number_write_float(value, digits);
    return text_append(out, digits, strlen(digits), err);
}

/* Length of the valid UTF-8 character at bytes, or 0. */
static size_t character_length(const unsigned char *bytes, size_t left)
{
    unsigned char lead = bytes[0];
    size_t length = lead < 0x80                   ? 1
                    : lead >= 0xc2 && lead < 0xe0 ? 2
                    : lead >= 0xe0 && lead < 0xf0 ? 3
                    : lead >= 0xf0 && lead < 0xf5 ? 4
                                                  : 0;
    if (length == 0 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    if ((lead == 0xe0 && bytes[1] < 0xa0) || (lead == 0xed && bytes[1] > 0x9f) || (lead == 0xf0 && bytes[1] < 0x90) ||
        (lead == 0xf4 && bytes[1] > 0x8f))
        return 0;
    return length;
}

cohort_status json_string_write(const char *bytes, size_t length, struct text *out, cohort_error *err)
{
    TRY(text_append(out, "\"", 1, err));
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t n = character_length((const unsigned char *)bytes + i, length - i);
        if (c == '"' || c == '\\')
            TRY(text_printf(out, err, "\\%c", c));
        else if (c == '\n')
            TRY(text_append(out, "\\n", 2, err));
        else if (c == '\t')
            TRY(text_append(out, "\\t", 2, err));
        else if (c == '\r')
            TRY(text_append(out, "\\r", 2, err));
        else if (c < 0x20 || c == 0x7f)
            TRY(text_printf(out, err, "\\u%04x", c));
        else if (n > 0)
            TRY(text_append(out, bytes + i, n, err));
        else
            TRY(text_append(out, "\xef\xbf\xbd", 3, err));
        i += n > 0 ? n : 1;
    }
    return text_append(out, "\"", 1, err);
}

static cohort_status write_ids(const char *key, const int32_t *ids, int32_t count, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, ", \"%s\": [", key));
    for (int32_t i = 0; i < count; i++)
        TRY(text_printf(out, err, i == 0 ? "%d" : ", %d", (int)ids[i]));
    return text_append(out, "]", 1, err);
}

static cohort_status write_floats(const char *key, const float *values, int32_t count, struct text *out,
                                  cohort_error *err)
{
    TRY(text_printf(out, err, ", \"%s\": [", key));
    for (int32_t i = 0; i < count; i++) {
        if (i > 0)
            TRY(text_append(out, ", ", 2, err));
        TRY(json_float_write(values[i], out, err));
    }
    return text_append(out, "]", 1, err);
}

/* [[ids of the first token], ...] beside [[their log-probs], ...] */
static cohort_status write_top(const struct json_row *row, struct text *out, cohort_error *err)
{
    const int32_t n = row->n_top;
    TRY(text_printf(out, err, ", \"top_token_ids\": ["));
    for (int32_t t = 0; t < row->n_tokens; t++)
        for (int32_t i = 0; i < n; i++)
            TRY(text_printf(out, err, "%s%d%s",
                            i > 0   ? ", "
                            : t > 0 ? ", ["
                                    : "[",
                            (int)row->top_ids[t * n + i], i == n - 1 ? "]" : ""));
    TRY(text_printf(out, err, "], \"top_logprobs\": ["));
    for (int32_t t = 0; t < row->n_tokens; t++)
        for (int32_t i = 0; i < n; i++) {
            TRY(text_printf(out, err, "%s", i > 0 ? ", " : t > 0 ? ", [" : "["));
            TRY(json_float_write(row->top_logp[t * n + i], out, err));
            TRY(text_printf(out, err, "%s", i == n - 1 ? "]" : ""));
        }
    return text_append(out, "]", 1, err);
}

/* Nothing stands before the first token, which has none. */
static cohort_status write_prompt_logprobs(const struct json_row *row, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, ", \"prompt_logprobs\": [null"));
    for (int32_t i = 1; i < row->n_prompt; i++) {
        TRY(text_append(out, ", ", 2, err));
        TRY(json_float_write(row->prompt_logp[i], out, err));
    }
    return text_append(out, "]", 1, err);
}

cohort_status json_row_write(const struct json_row *row, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "{\"index\": %lld, \"completion_index\": %lld", (long long)row->index,
                    (long long)row->completion_index));
    if (row->prompt != NULL) {
        TRY(text_append(out, ", \"prompt\": ", 12, err));
        TRY(json_string_write(row->prompt, row->prompt_length, out, err));
    }
    if (row->completion != NULL) {
        TRY(text_append(out, ", \"completion\": ", 16, err));
        TRY(json_string_write(row->completion, row->completion_length, out, err));
    }
    TRY(write_ids("prompt_tokens", row->prompt_tokens, row->n_prompt, out, err));
    TRY(write_ids("tokens", row->tokens, row->n_tokens, out, err));
    TRY(write_floats("logprobs", row->logprobs, row->n_tokens, out, err));
    if (row->kept != NULL)
        TRY(write_floats("kept_logprobs", row->kept, row->n_tokens, out, err));
    if (row->top_ids != NULL)
        TRY(write_top(row, out, err));
    if (row->prompt_logp != NULL)
        TRY(write_prompt_logprobs(row, out, err));
    if (row->temperature != 0.0f && row->temperature != 1.0f) {
        TRY(text_append(out, ", \"temperature\": ", 17, err));
        TRY(json_float_write(row->temperature, out, err));
    }
    if (row->finish_reason != NULL) {
        TRY(text_append(out, ", \"finish_reason\": ", 19, err));
        TRY(json_string_write(row->finish_reason, strlen(row->finish_reason), out, err));
    }
    if (row->parsed != NULL) {
        TRY(text_append(out, ", \"parsed\": ", 12, err));
        TRY(json_text_write(row->parsed, 0, out, err));
    }
    return text_append(out, "}\n", 2, err);
}

cohort_status json_read_ids(const json_t *row, const char *key, const char *where, int32_t vocab, int32_t **ids,
                            int32_t *count, cohort_error *err)
{
    const json_t *list = json_object_get(row, key);
    *ids = NULL;
    if (!json_is_array(list))
        return error_set(err, COHORT_ERR_FORMAT, "%s: expected \"%s\", a list of token ids", where, key);
    size_t n = json_array_size(list);
    if (n > INT32_MAX)
        return error_set(err, COHORT_ERR_FORMAT, "%s: \"%s\" has %zu ids, more than can be used", where, key, n);
    TRY(mem_alloc(ids, n, sizeof **ids, "token ids", err));
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) >= vocab) {
            mem_free(*ids);
            *ids = NULL;
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: \"%s\"[%zu] is not a token id of this model, expected a whole "
                             "number from 0 to %d",
                             where, key, i, (int)vocab - 1);
        }
        (*ids)[i] = (int32_t)json_integer_value(item);
    }
    *count = (int32_t)n;
    return COHORT_OK;
}
