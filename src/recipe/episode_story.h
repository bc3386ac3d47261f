/* What is said in an episode, as JSON: for the environment, for rewards and logs. */
#ifndef COHORT_RECIPE_EPISODE_STORY_H
#define COHORT_RECIPE_EPISODE_STORY_H

#include "environment/environment.h"
#include "text/response.h"

/* {"messages": [...], "tokens": [of each message], "turn_rewards": [[tokens before its end, number]], "calls", "failed",
 * "malformed", and once it is over "end", "why", "reward", "rewards", "metrics"}. NULL: out of memory. */
json_t *story_new(void);
/* The model's turn of n tokens: its message, as TRL has it. */
cohort_status story_turn(json_t *story, const struct response *response, int32_t n_tokens, cohort_error *err);
/* Messages that an environment answered, n tokens in all, which the first counts. */
cohort_status story_answer(json_t *story, const json_t *messages, int32_t n_tokens, cohort_error *err);
/* "reward" of an answer, to the turn that ends behind n_tokens of the completion. */
cohort_status story_turn_reward(json_t *story, const json_t *body, int32_t n_tokens, cohort_error *err);
/* body: what the environment said last, or NULL. */
cohort_status story_end(json_t *story, const json_t *body, enum environment_end end, const char *why,
                        cohort_error *err);
/* Adds to a count. */
bool story_count(json_t *story, const char *key, int64_t n);
/* The calls of all of its turns in order, as a completion that is taken apart has them: [{"id", "name", "arguments", "error"}] with
 * what is known; a new reference. */
cohort_status story_calls(const json_t *story, json_t **out, cohort_error *err);
/* The sum of what was given, NaN: nothing was. */
double story_reward(const json_t *story);

/* A "turn" of the protocol. text: the completion's, of which the calls are parts. NULL: out of memory. */
json_t *story_protocol_turn(const struct response *response, const char *text, int32_t number, int32_t used,
                            int32_t left, int64_t turns_left);

#endif
