/* What comes between two turns of the assistant: the messages that answer one, and the prompt for the next. A turn that was
 * sampled stays as it is; only what follows it is rendered, so that nothing before it is ever written again. */
#ifndef COHORT_TEXT_CHAT_TURN_H
#define COHORT_TEXT_CHAT_TURN_H

#include "text/chat_template.h"

/* Whether conversations of several turns (tools: with calls and their answers) can be gone on with this way. A template may
 * leave the thinking of earlier turns out of a conversation that is rendered anew: here every turn stays as it was written,
 * as in chat_training_render. One that writes earlier turns in another way is COHORT_ERR_UNSUPPORTED with the reason. */
cohort_status chat_turn_check(const struct chat_template *chat, const struct tokenizer *tokenizer,
                              const struct chat_options *options, bool tools, cohort_error *err);

/* Appends what follows the end of an assistant's turn: answers, an array of messages of role tool or user, and the prompt
 * for the next turn, as the template renders them behind a turn of one word or one call (as TRL has it). An answer may
 * have the "tool_call_id" of its call. spans (as of chat_template_render) are bytes of out, and *from is the first byte
 * behind the turn's end. out must be empty. */
cohort_status chat_turn_render(const struct chat_template *chat, const struct tokenizer *tokenizer,
                               const json_t *answers, const struct chat_options *options, const char *where,
                               struct text *out, struct content_spans *spans, size_t *from, cohort_error *err);

#endif
