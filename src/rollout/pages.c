#include "rollout/pages.h"

#include <assert.h>
#include <string.h>

cohort_status page_pool_create(struct page_pool *pool, int64_t n_pages, cohort_error *err)
{
    memset(pool, 0, sizeof *pool);
    TRY(mem_alloc(&pool->free_pages, (size_t)n_pages, sizeof *pool->free_pages, "page pool", err));
    pool->n_pages = pool->n_free = n_pages;
    for (int64_t i = 0; i < n_pages; i++)
        pool->free_pages[i] = (int32_t)(n_pages - 1 - i);
    return COHORT_OK;
}

void page_pool_free(struct page_pool *pool)
{
    mem_free(pool->free_pages);
    memset(pool, 0, sizeof *pool);
}

bool page_pool_reserve(struct page_pool *pool, int64_t count)
{
    if (pool->n_free - pool->reserved < count)
        return false;
    pool->reserved += count;
    return true;
}

void page_pool_unreserve(struct page_pool *pool, int64_t count)
{
    assert(count <= pool->reserved);
    pool->reserved -= count;
}

int32_t page_pool_take(struct page_pool *pool)
{
    assert(pool->reserved > 0 && pool->n_free > 0);
    pool->reserved--;
    int32_t page = pool->free_pages[--pool->n_free];
    if (pool->n_pages - pool->n_free > pool->peak)
        pool->peak = pool->n_pages - pool->n_free;
    return page;
}

void page_pool_return(struct page_pool *pool, int32_t page)
{
    assert(pool->n_free < pool->n_pages);
    pool->free_pages[pool->n_free++] = page;
}
