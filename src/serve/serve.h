/* The server: a queue of requests between the I/O thread and the engine thread, and the state that /health tells.
 *
 * The engine thread (serve_run, on the caller's thread) owns engine, jobs and weights. Between two steps it takes what
 * is queued, ends what nobody waits for, and hands out what the step brought. Everything else, above all reading a request,
 * rendering and tokenising, is done on the I/O thread, so that a step is never waited for by more than a queue. */
#ifndef COHORT_SERVE_SERVE_H
#define COHORT_SERVE_SERVE_H

#include "serve/ask.h"
#include "serve/http.h"
#include "serve/job.h"
#include "serve/score.h"
#include "serve/serve_adapters.h"
#include "serve/serve_metrics.h"

#include <pthread.h>
#include <stdatomic.h>

enum serve_state { SERVE_LOADING, SERVE_READY, SERVE_DRAINING, SERVE_FAILED };

/* Something for the engine thread to do, in the order in which it came. */
struct errand {
    struct errand *next;
    void (*run)(struct serve *serve, struct errand *errand);        /* it ends the errand */
    void (*drop)(struct errand *errand, const struct fault *fault); /* instead, where nothing runs any more */
    struct http_call *call;                                         /* held by whoever made the errand */
    void *context;
    bool alone; /* it runs when no job is under way, and what comes behind it waits */
};

/* What a request asks of the engine thread beside completions. */
struct errand_kind {
    size_t body_bytes; /* of a struct, zeros at first, that the body is read into */
    cohort_status (*read)(struct serve *serve, const json_t *json, void *body, struct fault *fault);
    void (*run)(struct serve *serve, const void *body, struct http_call *call); /* answers */
    void (*release)(void *body);                                                /* what is in it */
    bool alone;
};

/* Which completion a request of the engine is. */
struct serve_place {
    int64_t request;
    struct job *job; /* NULL: it has ended */
    int32_t prompt;
};

struct serve {
    struct session session;
    struct engine *engine;
    struct engine_request pattern;
    struct guide_vocabulary *vocabulary;
    struct scorer scorer;
    struct serve_adapters adapters;
    struct ask_context reading;
    struct http_server *http;
    const struct options *options;
    const cohort_observer *observer;
    const char *name, *api_key;
    char fingerprint[24];
    int64_t created;
    int32_t max_waiting;
    bool admin;
    double request_timeout, drain;

    pthread_mutex_t lock; /* of what follows, up to the blank line */
    pthread_cond_t wake;
    struct errand *first, *last;
    int32_t n_waiting, n_running; /* jobs: before and behind their first token */
    enum serve_state state;
    char reason[400]; /* of SERVE_FAILED */
    struct serve_metrics metrics;

    _Atomic double beat;      /* when the engine thread was last seen between steps */
    _Atomic double step_from; /* when the step that it is in began; 0: it is in none */

    struct job **jobs; /* [n_jobs] in the order in which they came */
    size_t n_jobs, job_capacity;
    struct serve_place *places; /* [n_places] requests ascending */
    size_t n_places, place_capacity;
    uint64_t n_seeds;
    int64_t n_weights;   /* how often they were exchanged */
    struct errand *held; /* that waits to be alone, and those behind it */
};
/* Listens (so that /health can say that it loads), opens the session, makes the engine. serve must be zeroed; close it
 * also after a failure. */
cohort_status serve_open(struct serve *serve, struct options *options, const cohort_observer *observer,
                         cohort_error *err);
/* Until a stop is requested and what was under way has ended, or its time is up. */
cohort_status serve_run(struct serve *serve, cohort_error *err);
void serve_close(struct serve *serve);

/* ---- For routes, on the I/O thread ---- */

/* A request came (struct http_config): serve_routes.c. */
void serve_handle(void *context, struct http_call *call);
/* One was answered with this status. */
void serve_over(void *context, unsigned status);
/* Whether anything new is taken. */
cohort_status serve_accepts(struct serve *serve, struct fault *fault);
/* Queues a job, which is used up. 429 where too many wait. */
cohort_status serve_submit(struct serve *serve, struct job *job, struct fault *fault);
/* Queues an errand of another kind. */
cohort_status serve_send(struct serve *serve, struct errand *errand, struct fault *fault);
/* Reads a request of such a kind and queues its errand: serve_errand.c. */
cohort_status serve_errand(struct serve *serve, struct http_call *call, const struct errand_kind *kind,
                           struct fault *fault);
/* POST /score: serve_score.c. */
cohort_status serve_score(struct serve *serve, struct http_call *call, struct fault *fault);
/* POST /v1/weights: serve_weights.c. */
cohort_status serve_weights(struct serve *serve, struct http_call *call, struct fault *fault);
/* On the engine thread: nothing more can be served, and why; what /health and answers tell of what they are made with. */
void serve_fail(struct serve *serve, const cohort_error *why);
void serve_fingerprint(struct serve *serve);
/* Of a job that has drawn all and asks for log-probs of its prompts: finds those of one. On the engine thread;
 * serve_score.c. */
cohort_status serve_prompt_score(struct serve *serve, struct job *job, cohort_error *err);
/* The seed of a request that brings none. */
uint64_t serve_seed(struct serve *serve);
/* The status of /health, and why. */
unsigned serve_health(struct serve *serve, char reason[400]);

#endif
