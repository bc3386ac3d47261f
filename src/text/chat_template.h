/* Qwen3's chat templates without tools, rendered by hand and byte for byte as Hugging Face's apply_chat_template
 * renders them. The template text of the folder decides which: the hybrid one (thinking on and off), Instruct-2507's,
 * Thinking-2507's, TRL's variants of them for training, or one that we do not know, which is an error that says so. A
 * folder with no template at all gets the hybrid one. */
#ifndef COHORT_TEXT_CHAT_TEMPLATE_H
#define COHORT_TEXT_CHAT_TEMPLATE_H

#include "text/tokenizer.h"

#include <jansson.h>

struct chat_options {
    bool add_generation_prompt;
    bool enable_thinking; /* default true */
    /* The last message, the assistant's, is left open: the model goes on with it (transformers'
     * continue_final_message). Not together with add_generation_prompt. */
    bool continue_final;
};

/* template_text: tokenizer_chat_template(), may be NULL. messages: a JSON array of {"role", "content" (string),
 * "reasoning_content"?}; null is absent, for every key. where is for messages ("data.jsonl:12"). spans (may be NULL)
 * gets what of out the messages say, as bytes of out. Errors: unknown template, tools or tool_calls present, missing or
 * mistyped fields, unknown roles, no messages, a message to go on with that is not the assistant's. */
cohort_status chat_template_render(const char *template_text, const json_t *messages,
                                   const struct chat_options *options, const char *where, struct text *out,
                                   struct content_spans *spans, cohort_error *err);

/* The token that the template writes behind an assistant's message, or NULL if it has none that we know. template_text
 * as above. Static storage. */
const char *chat_template_turn_end(const char *template_text);

/* Whether Jinja takes the value for false: absent, null, false, or empty. */
bool chat_value_absent(const json_t *value);

/* The hybrid Qwen3 template's own text (written by tokenizer_write_bytes). Static storage. */
const char *chat_template_qwen3(void);

#endif
