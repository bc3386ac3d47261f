/* The record of a run, run.db in its folder: written here, read by store_read.h and through cohort.h by everything that
 * shows a run. The tables are described in docs/RUN.md.
 *
 * A step's rows are gathered on the thread that trains (store_completion) and handed over as
 * one transaction (store_commit) to a thread of the store's own, in the order of their hand-over. What waits is bounded:
 * beyond QUEUE_BYTES the trainer waits for the disk.
 *
 * States of the store: closed (NULL), open, failing. It is failing from a transaction that could not be written, after
 * another try, until one can be. Rows that were handed over are never dropped: they wait, store_commit says what is
 * wrong, and the next checkpoint carries them (store_carry). A database that turns out to be damaged is set aside under
 * another name, and a new one is filled from metrics.jsonl and goes on (store_take_notes tells).
 *
 * Invariant I6: rows up to a step are durable before the checkpoint of that step has its name (store_carry), and a run
 * that goes on from it has the rows of later steps removed (store_open). */
#ifndef COHORT_RUN_STORE_H
#define COHORT_RUN_STORE_H

#include "run/store_rows.h"

struct store; /* not thread-safe but for its own thread */

/* What the run reads, by hash. */
struct store_input {
    const char *kind, *path, *sha256;
};
/* What is said of a run when its store is opened. It is copied. */
struct store_start {
    const char *run; /* the folder */
    const char *command, *model, *config;
    const char *device;     /* what computes, in words */
    int64_t steps;          /* planned; 0: no end */
    int64_t keep;           /* completions of the last so many steps; 0: none, -1: all */
    int64_t step;           /* that it goes on from; -1: a new run, or one that begins again */
    const char *checkpoint; /* that it goes on from, which may carry rows; NULL: none */
    const char *parent;     /* path of the run that it was forked from; NULL: none */
    int64_t parent_step;
    const struct store_input *inputs; /* [n_inputs], those of one kind in their order */
    size_t n_inputs;
};
/* Opens or makes run.db. What it holds of later steps is removed, but for events. notes gets a line for everything that
 * the caller might not expect. */
cohort_status store_open(struct store **out, const struct store_start *start, struct text *notes, cohort_error *err);
/* Writes what is left, says how the run ended ("finished", "stopped", "failed"; message may be NULL), and closes.
 * COHORT_OK, or why something is not in the database. Accepts NULL. */
cohort_status store_close(struct store *store, const char *status, const char *message, cohort_error *err);
/* Forgets it in a child that was forked since: the database is the parent's. */
void store_leave(struct store *store);

/* Whether completions are kept at all. */
bool store_keeps_completions(const struct store *store);
/* A row of the step that is being gathered. */
cohort_status store_completion(struct store *store, const struct store_completion *completion, cohort_error *err);
/* A transaction of its own. */
cohort_status store_event(struct store *store, const struct store_event *event, cohort_error *err);
/* Ends the step: the rows gathered, with these metrics of a step. epoch NaN: none. is_step: the step's own metrics, else
 * figures that are added to it. evaluated: an evaluation is among them, which took this many seconds (negative: none;
 * NaN: unknown). Where the database cannot be written the rows are kept all the same and the status says why;
 * COHORT_ERR_MEMORY where they could not be kept: then *lost (may be NULL) is true. */
struct store_step {
    int64_t step;
    double epoch;
    const cohort_metric *metrics;
    size_t n_metrics;
    bool is_step;
    double evaluated;
};
cohort_status store_commit(struct store *store, const struct store_step *step, bool *lost, cohort_error *err);
/* Forgets what was gathered since the last commit. */
void store_discard(struct store *store);
/* Waits until everything that was handed over is durable. What still cannot be written is written into dir/trainer/ in
 * place of it, for store_open with this checkpoint. */
cohort_status store_carry(struct store *store, const char *dir, cohort_error *err);
/* Appends lines that the caller tells the user, and empties them. */
cohort_status store_take_notes(struct store *store, struct text *notes, cohort_error *err);
/* Seconds that the caller's thread and the store's have spent in it since it was opened. */
double store_seconds(struct store *store, double *behind);

#endif
