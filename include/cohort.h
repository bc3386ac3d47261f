/* cohort: post-training of language models with group-relative reinforcement learning, in C.
 *
 * The only public header. C99 and C++ clean. Every function that can fail returns a cohort_status
 * and, when the caller passes a cohort_error, fills it with a message that names the file, the place,
 * what was expected and what to do. The library never prints, never exits and reads no environment
 * variables. */
#ifndef COHORT_H
#define COHORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(COHORT_STATIC)
#define COHORT_API __attribute__((visibility("default")))
#else
#define COHORT_API
#endif

/* What went wrong, coarsely; the message of cohort_error has the detail. */
typedef enum cohort_status {
    COHORT_OK = 0,
    COHORT_ERR_ARGUMENT,    /* the caller or the user gave a value that cannot be used */
    COHORT_ERR_IO,          /* a file or a pipe could not be read or written */
    COHORT_ERR_FORMAT,      /* a file was read and its content is wrong */
    COHORT_ERR_UNSUPPORTED, /* valid, but not something this version does */
    COHORT_ERR_MEMORY,      /* memory could not be had, or the plan does not fit */
    COHORT_ERR_STATE,       /* a call in the wrong order, or a run folder in the wrong state */
    COHORT_ERR_REWARD,      /* a reward program died, hung or answered garbage */
    COHORT_ERR_NUMERIC,     /* NaN or infinity where training cannot go on */
    COHORT_ERR_CANCELLED,   /* stopped on request; what was saved is whole */
    COHORT_ERR_INTERNAL     /* a mistake of ours */
} cohort_status;

/* Filled by the call that failed, untouched by calls that succeed. May be NULL in every call. */
typedef struct cohort_error {
    cohort_status status;
    char message[1200];
} cohort_error;

/* A short English name of the status ("invalid argument"). Static storage. */
COHORT_API const char *cohort_status_name(cohort_status status);

/* Version of the library as "major.minor.patch". Static storage. */
COHORT_API const char *cohort_version(void);

/* ---- Being told how work goes -------------------------------------------------------------------------------------------------- */

/* Where a long piece of work stands. */
typedef struct cohort_progress {
    const char *phase;    /* "load", "rollout", "reward", "train", "evaluate", ...; valid during the call */
    int64_t step, steps;  /* optimizer steps done and planned; 0 of 0 where there are none */
    int64_t done, total;  /* of the phase, in unit; total 0: unknown */
    const char *unit;     /* "tokens", "rows", "micro-batches" */
    double per_second;    /* of unit */
} cohort_progress;

/* Callbacks; each may be NULL. They are called on the thread that called the library. Texts are valid during the call. */
typedef struct cohort_observer {
    void *context;
    /* Results: what a program writes to its standard output. length bytes. */
    void (*output)(void *context, const char *bytes, size_t length);
    /* A note for a person: one line without a newline. */
    void (*message)(void *context, const char *text);
    /* Return false to stop: training saves a checkpoint and the call returns COHORT_ERR_CANCELLED. */
    bool (*progress)(void *context, const cohort_progress *progress);
} cohort_observer;

#ifdef __cplusplus
}
#endif
#endif /* COHORT_H */
