#include "rollout/pages.h"

#include "backend/ops.h"
#include "base/rng.h"

#include <assert.h>
#include <string.h>

struct known_page {
    int64_t name, behind; /* name 0: it is not known */
    int32_t tokens[ATTENTION_CHUNK];
    int32_t next_alike;     /* in its bucket; -1: the last */
    int32_t earlier, later; /* idle ones; -1: none */
};

cohort_status page_pool_create(struct page_pool *pool, int64_t n_pages, cohort_error *err)
{
    memset(pool, 0, sizeof *pool);
    TRY(mem_alloc(&pool->free_pages, (size_t)n_pages, sizeof *pool->free_pages, "page pool", err));
    TRY(mem_alloc(&pool->n_holders, (size_t)n_pages, sizeof *pool->n_holders, "page pool", err));
    pool->n_pages = pool->n_free = pool->n_unknown = n_pages;
    pool->first_idle = pool->last_idle = -1;
    for (int64_t i = 0; i < n_pages; i++)
        pool->free_pages[i] = (int32_t)(n_pages - 1 - i);
    return COHORT_OK;
}

cohort_status page_pool_keep(struct page_pool *pool, cohort_error *err)
{
    int64_t n = 1;
    while (n < pool->n_pages)
        n *= 2;
    if (pool->known != NULL)
        return COHORT_OK;
    TRY(mem_alloc(&pool->buckets, (size_t)n, sizeof *pool->buckets, "known pages", err));
    TRY(mem_alloc(&pool->known, (size_t)pool->n_pages, sizeof *pool->known, "known pages", err));
    pool->n_buckets = n;
    for (int64_t i = 0; i < n; i++)
        pool->buckets[i] = -1;
    return COHORT_OK;
}

void page_pool_free(struct page_pool *pool)
{
    mem_free(pool->free_pages);
    mem_free(pool->n_holders);
    mem_free(pool->known);
    mem_free(pool->buckets);
    memset(pool, 0, sizeof *pool);
}

/* ---- Known pages ---- */

static bool is_known(const struct page_pool *pool, int32_t page)
{
    return pool->known != NULL && pool->known[page].name != 0;
}

static int32_t *bucket_of(const struct page_pool *pool, int64_t behind, const int32_t *tokens)
{
    uint64_t mixed = (uint64_t)behind;
    for (int32_t i = 0; i < ATTENTION_CHUNK; i += 2)
        mixed = rng_stream(mixed, (uint64_t)(uint32_t)tokens[i] << 32 | (uint32_t)tokens[i + 1]);
    return &pool->buckets[mixed & (uint64_t)(pool->n_buckets - 1)];
}

static void leave_idle(struct page_pool *pool, int32_t page)
{
    const struct known_page *k = &pool->known[page];
    *(k->earlier >= 0 ? &pool->known[k->earlier].later : &pool->first_idle) = k->later;
    *(k->later >= 0 ? &pool->known[k->later].earlier : &pool->last_idle) = k->earlier;
}

static void enter_idle(struct page_pool *pool, int32_t page)
{
    struct known_page *k = &pool->known[page];
    k->earlier = pool->last_idle;
    k->later = -1;
    *(pool->last_idle >= 0 ? &pool->known[pool->last_idle].later : &pool->first_idle) = page;
    pool->last_idle = page;
}

static void unknow(struct page_pool *pool, int32_t page)
{
    struct known_page *k = &pool->known[page];
    int32_t *at = bucket_of(pool, k->behind, k->tokens);
    while (*at != page)
        at = &pool->known[*at].next_alike;
    *at = k->next_alike;
    k->name = 0;
}

static int32_t find(const struct page_pool *pool, int64_t behind, const int32_t *tokens)
{
    if (pool->known == NULL)
        return -1;
    int32_t page = *bucket_of(pool, behind, tokens);
    while (page >= 0 && (pool->known[page].behind != behind ||
                         memcmp(pool->known[page].tokens, tokens, sizeof pool->known[page].tokens) != 0))
        page = pool->known[page].next_alike;
    return page;
}

int64_t page_pool_know(struct page_pool *pool, int32_t page, int64_t behind, const int32_t *tokens)
{
    const int32_t same = find(pool, behind, tokens);
    assert(pool->known != NULL && pool->n_holders[page] > 0);
    if (same >= 0)
        return pool->known[same].name;
    struct known_page *k = &pool->known[page];
    assert(k->name == 0);
    int32_t *bucket = bucket_of(pool, behind, tokens);
    k->name = ++pool->n_named;
    k->behind = behind;
    memcpy(k->tokens, tokens, sizeof k->tokens);
    k->next_alike = *bucket;
    *bucket = page;
    return k->name;
}

int32_t page_pool_find(struct page_pool *pool, int64_t behind, const int32_t *tokens, int64_t *name)
{
    const int32_t page = find(pool, behind, tokens);
    if (page < 0)
        return -1;
    *name = pool->known[page].name;
    if (pool->n_holders[page]++ > 0)
        return page;
    leave_idle(pool, page);
    pool->n_free--;
    if (pool->n_pages - pool->n_free > pool->peak)
        pool->peak = pool->n_pages - pool->n_free;
    return page;
}

void page_pool_forget(struct page_pool *pool)
{
    for (int32_t page = 0; pool->known != NULL && page < pool->n_pages; page++) {
        if (pool->known[page].name != 0 && pool->n_holders[page] == 0)
            pool->free_pages[pool->n_unknown++] = page;
        pool->known[page].name = 0;
    }
    for (int64_t i = 0; i < pool->n_buckets; i++)
        pool->buckets[i] = -1;
    pool->first_idle = pool->last_idle = -1;
}

/* ---- Holding ---- */

int32_t page_pool_take(struct page_pool *pool)
{
    assert(pool->n_free > 0);
    int32_t page = pool->first_idle;
    if (pool->n_unknown > 0) {
        page = pool->free_pages[--pool->n_unknown];
    } else {
        leave_idle(pool, page);
        unknow(pool, page);
    }
    pool->n_free--;
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
    if (--pool->n_holders[page] > 0)
        return;
    pool->n_free++;
    if (is_known(pool, page))
        enter_idle(pool, page);
    else
        pool->free_pages[pool->n_unknown++] = page;
}

/* ---- Lists ---- */

int32_t page_chunk(int32_t position) { return position / ATTENTION_CHUNK; }

int64_t prompt_pages(int32_t n_prompt) { return page_chunk(n_prompt - 1) + 1; }

int64_t completion_pages(int32_t n_prompt, int32_t max_tokens)
{
    return max_tokens < 2 ? 0 : page_chunk(n_prompt + max_tokens - 2) - page_chunk(n_prompt) + 1;
}

int32_t pages_left_out(int32_t kv_pages, int32_t chunk)
{
    return kv_pages > 0 && chunk >= kv_pages ? chunk - kv_pages + 1 : 0;
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
        if (list->pages[--list->count] >= 0)
            page_pool_release(pool, list->pages[list->count]);
    list->gone = 0;
}

void page_list_leave_out(struct page_list *list, struct page_pool *pool, int32_t first_chunk, int32_t left_out)
{
    const int32_t end = left_out + 1 - first_chunk < list->count ? left_out + 1 - first_chunk : list->count;
    for (int32_t i = list->gone; i < end; i++)
        if (first_chunk + i > 0) {
            page_pool_release(pool, list->pages[i]);
            list->pages[i] = -1;
        }
    list->gone = end > list->gone ? end : list->gone;
}

int32_t page_list_row(const struct page_list *list, int32_t first_chunk, int32_t position)
{
    const int32_t index = page_chunk(position) - first_chunk;
    assert(index >= 0 && index < list->count && list->pages[index] >= 0);
    return list->pages[index] * ATTENTION_CHUNK + position % ATTENTION_CHUNK;
}
