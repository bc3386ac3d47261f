/* How a run's database begins and ends: what is said of the run, what of a resumed run's rows stays, rows that a
 * checkpoint carries, and what is done where the file is damaged. */
#ifndef COHORT_RUN_STORE_BEGIN_H
#define COHORT_RUN_STORE_BEGIN_H

#include "run/store.h"

extern const char store_carried_name[]; /* in a checkpoint: "trainer/unwritten.db" */

/* Seconds since 1970. */
double store_time(void);

/* See store_open. */
cohort_status store_begin(struct store_db *db, const struct store_start *start, struct text *notes, cohort_error *err);
/* Sets a damaged database aside and opens a new one in its place, with the steps up to start->step that metrics.jsonl
 * has. */
cohort_status store_begin_anew(struct store_db *db, const struct store_start *start, struct text *notes,
                               cohort_error *err);
/* Says how the run ended, and writes the WAL back. What fails is left: the run has ended. */
void store_end(struct store_db *db, const char *status, const char *message);
/* Makes everything that was committed durable. */
cohort_status store_durable(struct store_db *db, cohort_error *err);
/* A database of one file, without a journal: it is not used before it is whole. */
cohort_status store_carried_open(struct store_db *db, const char *path, cohort_error *err);

#endif
