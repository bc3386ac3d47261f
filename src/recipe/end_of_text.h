/* Which tokens end a completion, and which one SFT teaches at the end of a text. */
#ifndef COHORT_RECIPE_END_OF_TEXT_H
#define COHORT_RECIPE_END_OF_TEXT_H

#include "recipe/session.h"

/* Adds to config's eos_ids (those of generation_config.json and config.json) what the tokenizer's files name:
 * eos_token, and what ends a turn in the chat template. */
cohort_status end_of_text_unite(struct model_config *config, const struct tokenizer *tokenizer,
                                const struct chat_template *chat, cohort_error *err);

/* Appends a line for each special token with a name (eos_token and so on) that tokenizer.json does not have: transformers
 * would add it as a new one, here it is text wherever a template writes it, and ends nothing. dir: of the tokenizer. */
cohort_status end_of_text_unknown(const struct tokenizer *tokenizer, const char *dir, struct text *notes,
                                  cohort_error *err);

/* Settles eos_ids of the session's model, which everything that generates or saves reads, and the session's text_end
 * and turn_end. With option eos_token only what it names ends a completion, and the first of it is taught; else the
 * union of all that the folder names. No words of an assistant become one of these. Needs model, tokenizer and chat. */
cohort_status end_of_text_open(struct session *session, const struct options *options, cohort_error *err);

/* Called when conversations were rendered for training: what ends their turns ends completions from now on. */
cohort_status end_of_text_learned(struct session *session, cohort_error *err);

/* Tells the observer once if nothing ends a completion. */
void end_of_text_note(const struct session *session, const cohort_observer *observer);

/* With option eos_token, writes it into dir's tokenizer files too. */
cohort_status end_of_text_save(const struct session *session, const struct options *options, const char *dir,
                               cohort_error *err);

#endif
