/* Shared by the files of episodes. */
#ifndef COHORT_RECIPE_EPISODES_INTERNAL_H
#define COHORT_RECIPE_EPISODES_INTERNAL_H

#include "recipe/episodes.h"

struct rollout_turns episodes_hooks(struct episodes *episodes);

/* ---- episodes_ranks.c ---- */

/* Whether the environments of all ranks are of one kind. */
cohort_status episodes_compare(const struct episodes *episodes, cohort_error *err);
/* Whose episodes a rollout's are: episodes->mine. */
cohort_status episodes_deal(struct episodes *episodes, const struct episodes_start *start, cohort_error *err);
/* The prompts that environments changed, of which each rank asked those of its own. */
cohort_status episodes_share_prompts(const struct episodes *episodes, const struct episodes_start *start,
                                     cohort_error *err);
/* A line that a program, or the environment of it, says to people: rank 0 tells it, others keep it for
 * episodes_share_words. */
void episodes_tell(void *episodes, const char *line);
cohort_status episodes_share_words(struct episodes *episodes, cohort_error *err);
/* What is counted of a rollout, and measured: sums over ranks; of times of answers the longest. */
struct episodes_figures {
    int64_t turns, waiting, waited, late, deaths, tokens, steps, set_back;
    double latency_p50, latency_p99, seconds, single_seconds;
};
cohort_status episodes_share_figures(const struct episodes *episodes, struct episodes_figures *figures,
                                     cohort_error *err);

#endif
