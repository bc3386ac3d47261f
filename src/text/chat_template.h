/* Chat templates: a conversation as the text that the model was trained on. Any template is run (text/jinja.h), in the
 * environment and with the variables of transformers' apply_chat_template; none is known by its text. A folder without
 * a template gets that of the first Qwen3 models. What messages, tools and settings say is told apart from what the
 * template itself writes (invariant I12). */
#ifndef COHORT_TEXT_CHAT_TEMPLATE_H
#define COHORT_TEXT_CHAT_TEMPLATE_H

#include "text/tokenizer.h"

#include <jansson.h>

struct chat_template; /* changed by chat_template_add_markers alone: any number of threads may render one */

/* The templates of a tokenizer's folder ("default", and "tool_use" where tools are given), or file (NULL: none) in their
 * place. A template that cannot be parsed is an error at once if it is file's, else where messages are rendered. tokenizer
 * must stay. */
cohort_status chat_template_open(struct chat_template **out, const struct tokenizer *tokenizer, const char *file,
                                 cohort_error *err);
void chat_template_close(struct chat_template *chat);

/* Whether the folder, or a file, names a template; else it is the one of our own. */
bool chat_template_given(const struct chat_template *chat);
/* The text that messages are rendered with, as it was read: with tools (where it differs), or without. NULL: of our own,
 * or none. */
const char *chat_template_text(const struct chat_template *chat, bool tools, size_t *length);

/* The special token that the template writes behind an assistant's message, found by rendering one; -1: none. */
int32_t chat_template_turn_end(const struct chat_template *chat);
/* More tokens that an assistant's words never become (what ends a completion). */
cohort_status chat_template_add_markers(struct chat_template *chat, const int32_t *ids, size_t count,
                                        cohort_error *err);
/* By which form the template has an assistant call tools: see response.h. */
enum response_form chat_template_form(const struct chat_template *chat);

enum chat_thinking {
    CHAT_THINKING_UNSAID, /* the template decides: enable_thinking is undefined */
    CHAT_THINKING_OFF,
    CHAT_THINKING_ON
};
struct chat_options {
    bool add_generation_prompt;
    /* The last message, the assistant's, is left open: the model goes on with it (transformers'
     * continue_final_message). Not together with add_generation_prompt. */
    bool continue_final;
    enum chat_thinking thinking;
    const json_t *tools;    /* an array of JSON schemas, in the form that the template expects (OpenAI's); or NULL */
    const json_t *settings; /* further variables by name (chat_template_kwargs), or NULL; null is absent */
};

/* Lines, if a conversation was rendered since the template was opened, about what its training or its prompts lack: where
 * a model is asked without the beginning of its turn and, with learns, where nothing ends one. */
cohort_status chat_template_notes(const struct chat_template *chat, bool learns, struct text *notes, cohort_error *err);

/* Appends messages, a JSON array of objects with a role, as the template renders them; null is absent, for every key of
 * a message. where is for messages ("data.jsonl:12"). spans (may be NULL) gets what of out is content, as bytes of out,
 * and the template's markers, which live as long as chat. On failure out and spans are as they were. */
cohort_status chat_template_render(const struct chat_template *chat, const json_t *messages,
                                   const struct chat_options *options, const char *where, struct text *out,
                                   struct content_spans *spans, cohort_error *err);

/* The same for training: spans of kind CONTENT_ASSISTANT in generation are the bytes within {% generation %} blocks.
 * False in *marked: the template has no such blocks. */
cohort_status chat_template_render_marked(const struct chat_template *chat, const json_t *messages,
                                          const struct chat_options *options, const char *where, struct text *out,
                                          struct content_spans *spans, struct content_spans *generation, bool *marked,
                                          cohort_error *err);

/* Whether Jinja takes the value for false: absent, null, false, or empty. */
bool chat_value_absent(const json_t *value);

/* The text of the template of our own (written by tokenizer_write_bytes). Static storage. */
const char *chat_template_qwen3(void);

#endif
