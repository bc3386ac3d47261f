/* The frozen reference of a run: the model that it began with or the one that ref_model names, beside an adapter its base
 * or the adapter that it began with or that is named, or, with sync_ref_model, what was mixed since. */
#ifndef COHORT_RECIPE_RUN_REFERENCE_H
#define COHORT_RECIPE_RUN_REFERENCE_H

#include "recipe/training.h"
#include "train/reference_sync.h"

/* Zero: the run has none. */
struct run_reference {
    bool wanted;
    const char *named;  /* the folder of ref_model; NULL: the model that the run began with */
    bool named_adapter; /* it is an adapter's */
    /* NULL without one. It may be the session's model itself, which then wears adapter while it scores: NULL, its base, or
     * the adapter that the run began with. */
    struct model *model;
    struct model_adapter *adapter;
    struct reference_sync sync;
    bool mixed; /* it came from a checkpoint */
};

/* Sets the folder that is compared with in place of the model that the run begins with; dir: ref_model, or NULL. */
cohort_status run_reference_name(struct run_reference *reference, const char *dir, cohort_error *err);
/* Reads sync_ref_model and what goes with it; wanted is set. none: in the words of the options, why there is no reference
 * where it is not wanted. Options used: sync_ref_model, ref_model_sync_steps, ref_model_mixup_alpha. */
cohort_status run_reference_configure(struct run_reference *reference, const struct options *options,
                                      const cohort_observer *observer, const char *none, cohort_error *err);
/* Whether memory is held for one: the base of an adapter is there anyway. */
bool run_reference_holds(const struct run_reference *reference, const struct training *t);
/* Reads it, from the checkpoint where it was mixed, else from the model that the run began with. */
cohort_status run_reference_load(struct run_reference *reference, struct training *t, cohort_error *err);
/* Whether a checkpoint had what its step needs, once that is known. */
cohort_status run_reference_check(const struct run_reference *reference, const struct training *t, cohort_error *err);
/* Mixes it where that is due after a step. */
void run_reference_step(struct run_reference *reference, const struct training *t);
/* trainer/reference of a checkpoint, where there was anything mixed. */
cohort_status run_reference_write(const struct run_reference *reference, const struct training *t, const char *dir,
                                  struct manifest *manifest, cohort_error *err);
/* Before training_close. */
void run_reference_close(struct run_reference *reference, const struct training *t);

#endif
