/* What requests share without knowing of each other: pages of prompts, and of completions behind them, that were computed
 * before are held in place of computing them again (known pages, pages.h), while weights and adapter are the same. Only
 * full pages are shared, and the last token of a prompt is always computed, because its logits are wanted. A prompt that
 * begins with vectors of the caller's shares nothing.
 *
 * A chat's next request finds what the one before said: the first completion of a request goes on in its prompt's last
 * page, whose other rows nobody uses, so that its pages are full. (The others of a group begin pages of their own there,
 * and are not known.) */
#ifndef COHORT_ROLLOUT_PREFIX_H
#define COHORT_ROLLOUT_PREFIX_H

#include "rollout/scheduler.h"

/* What is known belongs to these weights from here on; changed: those before are gone. */
void prefix_weights(struct scheduler *scheduler, uint64_t weights, bool changed);
/* No page is known any more, and what requests hold that were admitted never will be: others wrote there. */
void prefix_forget(struct scheduler *scheduler);
/* The page of chunk number chunk of a text, known and held by nobody new, *name its name; -1: it or one before it is not known. */
int32_t prefix_find(struct scheduler *scheduler, const int32_t *tokens, int32_t chunk, int64_t *name);
/* Adds the known pages that a prompt begins with to those that it holds, none, and says so in n_prefilled. */
void prefix_take_prompt(struct scheduler *scheduler, struct request *request);
/* Of a prompt in computation: pages that became known since, in place of those that it holds. */
void prefix_catch_up(struct scheduler *scheduler, struct request *request);
/* Makes known what is computed of the prompt. */
void prefix_know_prompt(struct scheduler *scheduler, struct request *request);
/* Likewise the own pages of a completion: known ones for what is behind, where it holds none. */
void prefix_take_own(struct scheduler *scheduler, struct sequence *sequence);
void prefix_know_own(struct scheduler *scheduler, const struct sequence *sequence);
/* Whether the completion's first page is the last one of its prompt. */
bool prefix_continues(const struct sequence *sequence);

#endif
