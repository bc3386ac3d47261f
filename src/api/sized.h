/* Structs of the API begin with their size, because a caller's may be older or newer than ours (see the top of
 * cohort.h). */
#ifndef COHORT_API_SIZED_H
#define COHORT_API_SIZED_H

#include "base/error.h"

struct sized {
    const char *name;   /* "cohort_request"; its initialiser is NAME_init */
    size_t size, least; /* bytes: ours, and those that a call cannot do without */
    const void *fresh;  /* one of ours as the initialiser leaves it; its size field is not used */
};

/* Initialises the first size bytes at to, a caller's struct of that size. */
void sized_init(const struct sized *type, void *to, size_t size);
/* Copies the caller's given into *known, one of ours: fields that the caller's does not have keep their defaults.
 * COHORT_ERR_ARGUMENT, with function in the message, if it was not initialised or uses fields that we do not know. */
cohort_status sized_read(const struct sized *type, const char *function, const void *given, void *known,
                         cohort_error *err);
/* Whether the caller's to, which sized_write is to fill, was initialised; COHORT_ERR_ARGUMENT. */
cohort_status sized_check(const struct sized *type, const char *function, const void *to, cohort_error *err);
/* Fills to, which sized_check passed, from one of ours; fields that we do not know become 0. */
void sized_write(const struct sized *type, const void *ours, void *to);

extern const struct sized sized_request, sized_batch, sized_completion, sized_completion_query, sized_observer;

#endif
