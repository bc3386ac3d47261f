/* Shared by the files of episodes. */
#ifndef COHORT_RECIPE_EPISODES_INTERNAL_H
#define COHORT_RECIPE_EPISODES_INTERNAL_H

#include "recipe/episodes.h"

struct rollout_turns episodes_hooks(struct episodes *episodes);

#endif
