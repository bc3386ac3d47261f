/* Qwen3's chat templates without tools, rendered by hand and byte for byte as Hugging Face's
 * apply_chat_template renders them. The template text of the folder decides which: the hybrid one
 * (thinking on and off), or one that we do not know, which is an error that says so. A folder with
 * no template at all gets the hybrid one. */
#ifndef COHORT_FORMAT_CHAT_TEMPLATE_H
#define COHORT_FORMAT_CHAT_TEMPLATE_H

#include "base/memory.h"

#include <jansson.h>

struct chat_options {
    bool add_generation_prompt;
    bool enable_thinking; /* default true */
};

/* template_text: tokenizer_chat_template(), may be NULL. messages: a JSON array of {"role",
 * "content" (string), "reasoning_content"?}. where is for messages
 * ("data.jsonl:12"). Errors: unknown template, tools or tool_calls present, missing or mistyped
 * fields, unknown roles, no messages. */
cohort_status chat_template_render(const char *template_text, const json_t *messages,
                                   const struct chat_options *options, const char *where,
                                   struct text *out, cohort_error *err);

/* The hybrid Qwen3 template's own text (written by tokenizer_write_bytes). Static storage. */
const char *chat_template_qwen3(void);

#endif
