/* Multiple choice by log-likelihood, as lm-evaluation-harness does it: the choice that the model finds the most likely behind
 * the question, as it stands and divided by its length. */
#ifndef COHORT_RECIPE_CHOICES_H
#define COHORT_RECIPE_CHOICES_H

#include "recipe/session.h"

/* Reads the rows of option data and prints what came out: lines for a person, or rows of JSON and behind them the metrics.
 * Options used: data and what data_open reads, eval_limit, format, chat and what rows are rendered by. */
cohort_status choices_run(struct session *session, const struct options *options, const cohort_observer *observer,
                          cohort_error *err);

#endif
