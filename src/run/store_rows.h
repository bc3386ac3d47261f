/* What one step adds to a run's database: gathered by the thread that trains, written in one transaction by another. */
#ifndef COHORT_RUN_STORE_ROWS_H
#define COHORT_RUN_STORE_ROWS_H

#include "run/store_db.h"

/* Bytes that may hold NULs; data NULL: there are none, which is NULL in the database too. */
struct store_text {
    const char *data;
    size_t length;
};

struct store_turn {
    struct store_text role, name, text;
    int64_t tokens;
};

struct store_completion {
    struct store_text set; /* "": of training; else the name of a set of evaluation prompts */
    int64_t group, index;  /* the prompt's place in its batch, and the completion's in its group */
    int64_t row;           /* of the data set */
    struct store_text prompt, text, thinking, tools, extra;
    const char *finish; /* static */
    int64_t tokens;
    double logp, reward, advantage; /* NaN: none */
    const char *const *names;       /* [n_scores] of reward functions; they outlive the call that takes the row */
    const double *scores;           /* [n_scores]; NaN: unscorable */
    size_t n_scores;
    const struct store_turn *turns; /* [n_turns] */
    size_t n_turns;
};

struct store_event {
    int64_t step;
    double time;                                      /* 0: now */
    const char *kind, *rule, *severity, *text, *json; /* texts; json may be NULL, rule and severity too */
};

/* The rows of one transaction, as copies. Zero-initialise. */
struct store_rows {
    int64_t step;
    double time, epoch;
    bool is_step;              /* there is a row in step, and metrics replace those of the same name */
    bool is_evaluation;        /* there is a row in evaluation */
    double evaluation_seconds; /* NaN: unknown */
    struct {
        size_t name; /* place in texts */
        double value;
    } * metrics;
    size_t n_metrics, metrics_room;
    struct store_kept *completions;
    size_t n_completions, completions_room;
    struct {
        size_t name;
        double value;
    } * scores;
    size_t n_scores, scores_room;
    struct store_kept_turn *turns;
    size_t n_turns, turns_room;
    struct store_kept_event *events;
    size_t n_events, events_room;
    struct text texts; /* all of them, each with a NUL */
    struct store_rows *next;
};
void store_rows_free(struct store_rows *rows);
/* Memory that it holds. */
size_t store_rows_bytes(const struct store_rows *rows);
bool store_rows_empty(const struct store_rows *rows);

/* Each copies what it is given; after a failure the row is not there. */
cohort_status store_rows_metric(struct store_rows *rows, const char *name, double value, cohort_error *err);
cohort_status store_rows_completion(struct store_rows *rows, const struct store_completion *completion,
                                    cohort_error *err);
cohort_status store_rows_event(struct store_rows *rows, const struct store_event *event, cohort_error *err);

/* Writes all of it, within a transaction that the caller has begun. keep: as of store_start. Returns a result code of
 * SQLite; SQLITE_OK where all went well. */
int store_rows_write(struct store_db *db, const struct store_rows *rows, int64_t keep);

#endif
