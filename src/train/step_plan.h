/* How generation batches are divided into optimizer steps, as TRL counts (docs/GRPO.md, A step). A generation batch has
 * equal slices (TRL: steps_per_generation of per_device_train_batch_size completions). They are gone through in order,
 * as often as there are iterations, then come those of the next batch; an optimizer step takes the next slices of this
 * walk (TRL: gradient_accumulation_steps of them), from one batch or from several. */
#ifndef COHORT_TRAIN_STEP_PLAN_H
#define COHORT_TRAIN_STEP_PLAN_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct step_plan {
    int32_t slices;      /* of a generation batch */
    int32_t accumulated; /* slices of an optimizer step */
    int32_t iterations;  /* times that a generation batch is gone through */
};

/* The counts of options; 0: not given. */
struct step_counts {
    int64_t group, iterations;  /* num_generations, num_iterations */
    int64_t slice, accumulated; /* per_device_train_batch_size, gradient_accumulation_steps (1 if not given) */
    int64_t slices;             /* steps_per_generation */
    int64_t completions;        /* generation_batch_size */
    int64_t prompts;            /* prompts_per_step */
};
/* What they come to: the plan, and counts->prompts, which is usual where nothing says it. COHORT_ERR_ARGUMENT, in the
 * words of the options, where they do not fit each other. */
cohort_status step_plan_count(struct step_plan *plan, struct step_counts *counts, int64_t usual, cohort_error *err);

/* Slice number place of the walk, from 0: which batch it is of, and which slice of that batch. */
struct step_slice {
    int64_t batch;
    int32_t slice;
};
struct step_slice step_plan_slice(const struct step_plan *plan, int64_t place);
/* Batches that the first steps optimizer steps take anything from. */
int64_t step_plan_batches(const struct step_plan *plan, int64_t steps);
/* Batches of which these steps leave nothing for later ones. */
int64_t step_plan_done(const struct step_plan *plan, int64_t steps);
/* Batches that one step can take from, at most. */
int32_t step_plan_most_batches(const struct step_plan *plan);
/* Whether every step takes from one batch, and every batch ends with a step. */
bool step_plan_aligned(const struct step_plan *plan);
/* Whether more than one step takes from a batch. */
bool step_plan_reuses(const struct step_plan *plan);

/* order[n] becomes the order in which the completions of a batch are cut into slices: as they are for one slice, else
 * shuffled, as TRL does, by (seed, batch) alone. */
void step_plan_order(const struct step_plan *plan, uint64_t seed, int64_t batch, int32_t n, int32_t *order);

#endif
