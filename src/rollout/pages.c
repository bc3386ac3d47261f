#include "rollout/pages.h"

#include "backend/ops.h"

#include <assert.h>
#include <string.h>

cohort_status page_pool_create(struct page_pool *pool, int64_t n_pages, cohort_error *err)
{
    memset(pool, 0, sizeof *pool);
    TRY(mem_alloc(&pool->free_pages, (size_t)n_pages, sizeof *pool->free_pages, "page pool", err));
    TRY(mem_alloc(&pool->n_holders, (size_t)n_pages, sizeof *pool->n_holders, "page pool", err));
    pool->n_pages = pool->n_free = n_pages;
    for (int64_t i = 0; i < n_pages; i++)
        pool->free_pages[i] = (int32_t)(n_pages - 1 - i);
    return COHORT_OK;
}

void page_pool_free(struct page_pool *pool)
{
    mem_free(pool->free_pages);
    mem_free(pool->n_holders);
    memset(pool, 0, sizeof *pool);
}

int32_t page_pool_take(struct page_pool *pool)
{
    assert(pool->n_free > 0);
    const int32_t page = pool->free_pages[--pool->n_free];
    pool->n_holders[page] = 1;
    if (pool->n_pages - pool->n_free > pool->peak)
        pool->peak = pool->n_pages - pool->n_free;
    return page;
}

void page_pool_hold(struct page_pool *pool, int32_t page)
{
    assert(pool->n_holders[page] > 0);
    pool->n_holders[page]++;
}

void page_pool_release(struct page_pool *pool, int32_t page)
{
    assert(pool->n_holders[page] > 0);
    if (--pool->n_holders[page] == 0)
        pool->free_pages[pool->n_free++] = page;
}

int32_t page_chunk(int32_t position) { return position / ATTENTION_CHUNK; }

int64_t prompt_pages(int32_t n_prompt) { return page_chunk(n_prompt - 1) + 1; }

int64_t completion_pages(int32_t n_prompt, int32_t max_tokens)
{
    return max_tokens < 2 ? 0 : page_chunk(n_prompt + max_tokens - 2) - page_chunk(n_prompt) + 1;
}

cohort_status page_list_create(struct page_list *list, int64_t most, cohort_error *err)
{
    *list = (struct page_list){.most = (int32_t)most};
    return mem_alloc(&list->pages, (size_t)most, sizeof *list->pages, "page list", err);
}

void page_list_free(struct page_list *list)
{
    mem_free(list->pages);
    memset(list, 0, sizeof *list);
}

void page_list_grow(struct page_list *list, struct page_pool *pool, int32_t count)
{
    assert(count <= list->most);
    while (list->count < count)
        list->pages[list->count++] = page_pool_take(pool);
}

void page_list_release(struct page_list *list, struct page_pool *pool)
{
    while (list->count > 0)
        page_pool_release(pool, list->pages[--list->count]);
}

int32_t page_list_row(const struct page_list *list, int32_t first_chunk, int32_t position)
{
    const int32_t index = page_chunk(position) - first_chunk;
    assert(index >= 0 && index < list->count);
    return list->pages[index] * ATTENTION_CHUNK + position % ATTENTION_CHUNK;
}
