/* Status and error forwarding. Every fallible internal function returns a cohort_status and takes a
 * cohort_error as its last argument (NULL allowed). The function that detects the problem calls
 * error_set; callers forward with TRY and may add a prefix with error_context. */
#ifndef COHORT_BASE_ERROR_H
#define COHORT_BASE_ERROR_H

#include "cohort.h"

#include <stdarg.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PRINTF_LIKE(fmt, args)
#endif

/* Fills err (if not NULL) and returns status, so that "return error_set(...)" reads well. A message too long for err
 * loses a part of its middle, of a long path if there is one: the reason, which stands last, stays. */
cohort_status error_set(cohort_error *err, cohort_status status, const char *format, ...) PRINTF_LIKE(3, 4);

#ifdef __clang_analyzer__ /* clang-tidy sees one file at a time: that the status comes back is said here */
#define error_set(err, status, ...) ((void)(error_set)(err, status, __VA_ARGS__), (status))
#endif

/* Prefixes the message of err with "context: ". */
void error_context(cohort_error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* Forwards a failing status to the caller. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        cohort_status try_status_ = (call);                                                                            \
        if (try_status_ != COHORT_OK)                                                                                  \
            return try_status_;                                                                                        \
    } while (0)

/* The same with the function's single cleanup label; needs a local "cohort_status status". */
#define TRY_GOTO(call)                                                                                                 \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != COHORT_OK)                                                                                       \
            goto cleanup;                                                                                              \
    } while (0)

#endif
