/* The public handles that more than one file of the API looks into. */
#ifndef COHORT_API_HANDLES_H
#define COHORT_API_HANDLES_H

#include "base/stop.h"
#include "environment/environment.h"
#include "ranks/ranks.h"
#include "recipe/session.h"
#include "reward/reward.h"
#include "run/options.h"

#include <stdatomic.h>
#include <sys/types.h>

struct reward_binding {
    cohort_reward_function function; /* NULL: tokens is it */
    cohort_token_reward_function tokens;
    void *context;
};

struct environment_bound {
    cohort_environment_function function;
    void *context;
};

struct cohort_environment {
    struct environment *inner;
};

struct cohort_options {
    struct options *options;
    cohort_command command;
    struct reward **rewards;          /* [n_rewards] */
    struct reward_binding **bindings; /* [n_rewards] each a block of its own: rewards point at it */
    size_t n_rewards, reward_room, binding_room;
    struct environment_bound bound; /* function NULL: none */
    struct environment_binding environment;
    const struct cohort_stop *stop; /* the caller's */
    const char *user;               /* "cohort_run": what works with them now; NULL: nothing */
    bool destroyed;                 /* cohort_options_destroy was called meanwhile */
};
/* Returns COHORT_ERR_STATE, with function in the message, if something works with them. */
cohort_status options_check_free(const cohort_options *options, const char *function, cohort_error *err);
/* Tells an observer what is to be known of the values. */
cohort_status options_tell(const cohort_options *options, const cohort_observer *observer, cohort_error *err);
void options_acquire(cohort_options *options, const char *user);
/* Returns COHORT_ERR_UNSUPPORTED for a command that knows no ranks, where the options have some. */
cohort_status ranks_allowed(const cohort_options *options, cohort_error *err);
/* Destroys them if that was asked for meanwhile. */
void options_release(cohort_options *options);

struct cohort_stop {
    struct stop stop;
};

/* Rows for rewards in the form of the public header; pointers[n] is what is handed out. Texts that struct reward_row
 * already has are borrowed. */
struct cohort_reward_log {
    struct reward_log *log;
    size_t row; /* from 0 */
};

struct public_rows {
    cohort_reward_log *logs;
    const cohort_reward_row **pointers;
    cohort_reward_row *rows;
    struct text *texts, *parsed; /* each row's JSON, and that of its completion taken apart */
    struct text *episodes;       /* each episode's JSON */
    size_t n;
};
/* They must be freed also after a failure. log: where functions log; NULL: nowhere. */
cohort_status public_rows_make(struct public_rows *out, const struct reward_row *rows, size_t n, struct reward_log *log,
                               cohort_error *err);
void public_rows_free(struct public_rows *rows);

/* Returns COHORT_ERR_STATE, with function in the message, in a child that was forked after process owner opened what (a
 * model): the child has the memory, but none of the threads that compute on it. */
cohort_status check_process(pid_t owner, const char *function, const char *what, cohort_error *err);

struct cohort_model {
    struct session *session;
    struct session own; /* unless it is lent */
    struct engine *engine;
    cohort_token_callback callback;
    void *callback_context;
    pid_t owner;          /* threads and devices do not survive a fork */
    atomic_bool stepping; /* inside cohort_step */
    bool closed;          /* cohort_model_close, or the lender's, was called there */
    bool trust_content;
    /* Of a trainer, whose rollouts use the engine too. */
    cohort_trainer *lender; /* NULL: it is nobody's */
    atomic_bool training;   /* inside a call of the lender */
    /* Requests before this id are not the model's: they belong to rollouts that were abandoned. */
    _Atomic int64_t first;
    _Atomic int64_t open; /* completions that were asked for and not polled yet */
};
/* Begins a call of the trainer, which alone uses the engine until model_resume. COHORT_ERR_STATE, with function in the
 * message, if the model is in use. */
cohort_status model_suspend(cohort_model *model, const char *function, cohort_error *err);
void model_resume(cohort_model *model);

#endif
