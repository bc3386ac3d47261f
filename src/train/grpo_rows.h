/* Rows of an optimizer step as trees, and arrays of a value for each of their tokens: shared by grpo.c and grpo_step.c. */
#ifndef COHORT_TRAIN_GRPO_ROWS_H
#define COHORT_TRAIN_GRPO_ROWS_H

#include "train/grpo.h"

/* Prompts with those of their completions that are rows: consecutive rows of one prompt are a tree. */
struct row_trees {
    struct tree *trees;                    /* [n_trees] */
    int32_t *first;                        /* [n_trees] the row of the tree's first completion */
    struct completion_tokens *completions; /* [n] */
    int32_t n_trees;
};
/* Points into the rows' prompts and episodes. To be freed also after a failure. */
cohort_status row_trees_build(struct row_trees *trees, const struct grpo_row *rows, int32_t n, cohort_error *err);
/* Gives the trees the routes of their rows, of width elements a token. Returns whether all are known. */
bool row_trees_route(struct row_trees *trees, const struct grpo_row *rows, int32_t width);
void row_trees_free(struct row_trees *trees);

/* values[n][n_sampled of the row]; what: for messages. To be freed also after a failure. */
cohort_status row_values_alloc(float ***values, const struct grpo_row *rows, int32_t n, const char *what,
                               cohort_error *err);
void row_values_free(float **values, int32_t n);

/* Scores rows with the reference. */
cohort_status row_reference(struct grpo *grpo, const struct row_trees *trees, float *const *values, cohort_error *err);

/* Whether an episode is left out of the loss: one that its environment lost always is. */
bool grpo_masks(const struct grpo_config *config, const struct episode *episode);
cohort_status grpo_cancelled(cohort_error *err);

#endif
