/* KV pages. A page is the rows of ATTENTION_CHUNK positions in the key and value store of every layer, so that page
 * boundaries are the chunks in which attention walks (invariant I2): page p holds rows p * ATTENTION_CHUNK on.
 *
 * The pool knows which pages are free and how many are promised; a page list owns the pages that it took until
 * page_list_release gives them back. A page is free -> promised (page_pool_reserve, page_list_reserve) -> taken
 * (page_pool_take, page_list_row) -> free. Always reserved <= n_free, so that every promise can be kept: its holder
 * never waits for a page. */
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
/* Promises count pages; false if they are not available now. */
bool page_pool_reserve(struct page_pool *pool, int64_t count);
/* Takes back a promise. */
void page_pool_unreserve(struct page_pool *pool, int64_t count);
/* Takes one promised page. */
int32_t page_pool_take(struct page_pool *pool);
void page_pool_return(struct page_pool *pool, int32_t page);

/* The chunk that a position lies in. */
int32_t page_chunk(int32_t position);
/* Pages of a prompt, at positions 0 .. n_prompt. */
int64_t prompt_pages(int32_t n_prompt);
/* Pages of a completion's fed tokens (all but its last) at positions n_prompt, ... Its first page begins with the chunk
 * that n_prompt lies in, which the prompt's last page may hold the beginning of. */
int64_t completion_pages(int32_t n_prompt, int32_t max_tokens);

/* Pages in order of their chunk. */
struct page_list {
    int32_t *pages;             /* [most] */
    int32_t count, limit, most; /* limit: promised, 0 or most */
};
/* An empty list with room for most pages. */
cohort_status page_list_create(struct page_list *list, int64_t most, cohort_error *err);
void page_list_free(struct page_list *list);
/* Promises as many pages to the list, which has none yet, as it has room for; false if they are not available now. */
bool page_list_reserve(struct page_list *list, struct page_pool *pool);
/* Gives back its pages and what is left of the promise. */
void page_list_release(struct page_list *list, struct page_pool *pool);
/* The row of a position, whose page is taken if the list lacks it. first_chunk: chunk of the list's first page. */
int32_t page_list_row(struct page_list *list, struct page_pool *pool, int32_t first_chunk, int32_t position);

#endif
