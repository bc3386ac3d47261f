/* What fits where, before anything is fetched, bought or started: what generating with a model and training it take, beside
 * the memory of common cards and of this machine. An estimate from the shape alone; cohort info --memory has the exact plan
 * of a run on the device at hand. */
#ifndef COHORT_RECIPE_MODEL_FIT_H
#define COHORT_RECIPE_MODEL_FIT_H

#include "recipe/session.h"

/* Appends the table. The model need only be open, and trains whole (no adapter). */
cohort_status model_fit_print(struct model *model, struct text *out, cohort_error *err);

#endif
