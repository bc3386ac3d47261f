#include "model/arena.h"

#include <assert.h>

void *arena_take(struct arena *arena, size_t bytes)
{
    size_t rounded = (bytes + 63) / 64 * 64;
    void *piece = arena->base == NULL ? NULL : arena->base + arena->used;
    arena->used += rounded;
    assert(arena->base == NULL || arena->used <= arena->size);
    return piece;
}

cohort_status arena_allocate(struct arena *arena, struct backend *backend, const char *what, cohort_error *err)
{
    size_t size = arena->used;
    void *base = NULL;
    TRY(backend->ops->alloc(backend, &base, size, what, err));
    arena->base = base;
    arena->size = size;
    arena->used = 0;
    return COHORT_OK;
}

void arena_release(struct arena *arena, struct backend *backend)
{
    if (arena->base != NULL)
        backend->ops->free(backend, arena->base);
    arena->base = NULL;
    arena->used = arena->size = 0;
}
