/* Data sets as the options say: which files, how many rows, which columns; and what a person is told of them. */
#ifndef COHORT_RECIPE_DATA_OPEN_H
#define COHORT_RECIPE_DATA_OPEN_H

#include "recipe/session.h"

/* Opens what the option named (data, eval_data or batch) names, and tells its notes. limit: rows taken at most (0:
 * all), beside data_limit where the option is data. forms: published forms become prompts and completions
 * (data_columns.h). Options used: columns, data_limit. observer may be NULL; it must live as long as the set. */
cohort_status data_open(struct dataset *set, const struct options *options, enum option_id named, size_t limit,
                        bool forms, const cohort_observer *observer, cohort_error *err);

/* The same of a spec (data_paths.h) and a limit as they are given. Options used: columns. */
cohort_status data_open_spec(struct dataset *set, const char *spec, size_t limit, bool forms,
                             const struct options *options, const cohort_observer *observer, cohort_error *err);

/* The order in which a run takes the rows of parts. Options used: shuffle_dataset, data_shuffle_seed, seed. */
cohort_status data_order(struct dataset_order *order, const struct dataset_part *parts, size_t n_parts,
                         const struct options *options, cohort_error *err);

/* Tells the observer now and then that row i of the set has been read, and looks for a request to stop: from the
 * observer it is COHORT_ERR_CANCELLED. */
cohort_status data_report(const struct dataset *set, size_t i, const struct options *options,
                          const cohort_observer *observer, cohort_error *err);

#endif
