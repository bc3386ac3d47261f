/* The pool of KV pages: which are free, how many are promised. */
#ifndef COHORT_ROLLOUT_PAGES_H
#define COHORT_ROLLOUT_PAGES_H

#include "base/memory.h"

struct page_pool {
    int32_t *free_pages; /* stack */
    int64_t n_free, n_pages;
    int64_t reserved; /* promised to running sequences and not yet taken; reserved <= n_free */
    int64_t peak;     /* most pages in use */
};
cohort_status page_pool_create(struct page_pool *pool, int64_t n_pages, cohort_error *err);
void page_pool_free(struct page_pool *pool);
/* Promises count pages; false if they cannot be had now. */
bool page_pool_reserve(struct page_pool *pool, int64_t count);
/* Takes back a promise. */
void page_pool_unreserve(struct page_pool *pool, int64_t count);
/* Takes one promised page. */
int32_t page_pool_take(struct page_pool *pool);
void page_pool_return(struct page_pool *pool, int32_t page);

#endif
