/* One block of backend memory, handed out in pieces by the same code that computed its size: a plan function calls
 * arena_take for every buffer; on an arena without memory that only adds up, on one with memory it hands out addresses
 * (invariant I8). */
#ifndef COHORT_MODEL_ARENA_H
#define COHORT_MODEL_ARENA_H

#include "backend/backend.h"

struct arena {
    char *base; /* NULL: measuring */
    size_t used, size;
};

/* The next bytes, 64-byte aligned. Returns NULL while measuring. Running past the size is our mistake (assert). */
void *arena_take(struct arena *arena, size_t bytes);
/* Allocates what a measuring pass added up and makes the arena ready for the second pass. */
cohort_status arena_allocate(struct arena *arena, struct backend *backend, const char *what, cohort_error *err);
void arena_release(struct arena *arena, struct backend *backend);

#endif
