/* A program that answers a batch of JSON lines with a line for each. */
#ifndef COHORT_REWARD_PROGRAM_H
#define COHORT_REWARD_PROGRAM_H

#include "reward/reward_internal.h"

struct program;

struct program_limits {
    double timeout_s;                 /* for a batch */
    const struct stop *stop, *ending; /* looked at while an answer is waited for; borrowed, either may be NULL */
    const char *role;                 /* what it is called in messages; NULL: "reward" */
};
/* Starts arguments[0] (a path, or a name that PATH knows); the list ends with NULL. label names it in messages. */
cohort_status program_start(struct program **out, const char *label, char *const arguments[],
                            const struct program_limits *limits, cohort_error *err);
/* Accepts NULL. Ends the program with all that it started, after 2 s for it to end by itself. */
void program_destroy(struct program *program);

/* Writes what the program takes of bytes at once, without waiting, and reads away what it says: for programs that are told
 * and not asked. *sent: how much. False where it has ended or does not read any more: why[size] says so, with the end of
 * its stderr. */
bool program_tell(struct program *program, const char *bytes, size_t length, size_t *sent, char *why, size_t size);

/* Lines to be asked, and where their answers go. */
struct program_batch {
    const char *request;
    size_t left;            /* of request, in bytes */
    size_t n_rows;          /* answers that are expected */
    double *rewards;        /* [n_rows]; NaN: null; the sum where there is a list */
    double **lists;         /* [n_rows] NULLs, which become the lists of rows that have one: the caller's to free */
    const int32_t *tokens;  /* [n_rows] that a list has; negative: the ids are not known, and there cannot be a list */
    const size_t *places;   /* [n_rows] rows of the log; NULL: 0, 1, ... */
    struct reward_log *log; /* NULL: what is said beside rewards is dropped */
    bool waits_whole;       /* the answers are of one call of a function */
    char **name;            /* not NULL: a greeting is asked for, whose one answer is {"name": ...}; mem_alloc'ed */
    /* program_ask's own */
    size_t n_answers;
    double deadline;
};
/* COHORT_ERR_REWARD, with what happened and the end of the program's stderr, is for good: the program is ended, and
 * every later call fails with the first message. One call at a time. */
cohort_status program_ask(struct program *program, const char *name, struct program_batch *batch, cohort_error *err);

#endif
