/* KV pages. A page is the rows of ATTENTION_CHUNK positions in the key and value store of every layer, so that page
 * boundaries are the chunks in which attention walks (invariant I2): page p holds rows p * ATTENTION_CHUNK on.
 *
 * The pool knows which pages are free and how many hold each of the others. A page list holds the pages that it took
 * until page_list_release gives them back. A page is free -> held (page_pool_take, page_list_grow) -> free, when the
 * last of its holders lets it go (page_pool_release). Nothing is promised ahead: whoever wants a page asks n_free first,
 * and the scheduler sees to it that there is one.
 *
 * Known pages. A page that is full may be made known (page_pool_know) as what stands behind another known page, or at the
 * beginning: keys and values are a function of the tokens up to their position and of the weights, so that whoever has
 * these tokens may hold the page in place of computing it (page_pool_find), with the same bits. A known page that nobody
 * holds counts as free, and keeps its rows until it is taken, the one that was let go first before others, and after all
 * that are not known. Tokens are compared, no hash is trusted. */
#ifndef COHORT_ROLLOUT_PAGES_H
#define COHORT_ROLLOUT_PAGES_H

#include "base/memory.h"

struct known_page;

struct page_pool {
    int32_t *free_pages; /* [n_pages] stack of those that are not known */
    int32_t *n_holders;  /* [n_pages] of each page */
    int64_t n_free, n_pages;
    int64_t peak;                  /* most pages in use */
    int64_t n_unknown;             /* of the stack; the others of n_free are known */
    struct known_page *known;      /* [n_pages]; NULL: none are kept */
    int32_t *buckets;              /* [n_buckets] a power of 2: known pages by what they hold, -1 at the end */
    int64_t n_buckets, n_named;    /* names given so far */
    int32_t first_idle, last_idle; /* known and held by nobody, as they were let go; -1: none */
};
cohort_status page_pool_create(struct page_pool *pool, int64_t n_pages, cohort_error *err);
void page_pool_free(struct page_pool *pool);
/* Pages can be made known from here on. */
cohort_status page_pool_keep(struct page_pool *pool, cohort_error *err);
/* Takes one of the free pages, of which there is one. */
int32_t page_pool_take(struct page_pool *pool);
/* One more holder of a page that somebody holds. */
void page_pool_hold(struct page_pool *pool, int32_t page);
void page_pool_release(struct page_pool *pool, int32_t page);

/* A known page has a name, by which those behind it are known: a positive number that no other page ever had. Behind the
 * beginning is what the caller says, a number below 0 for each set of weights. */
/* Makes a page that somebody holds known by its tokens [ATTENTION_CHUNK] behind another. Returns its name, or that of the
 * page which was known as the same before. */
int64_t page_pool_know(struct page_pool *pool, int32_t page, int64_t behind, const int32_t *tokens);
/* Holds the page with these tokens behind another, *name of which is then its name; -1: it is not known. */
int32_t page_pool_find(struct page_pool *pool, int64_t behind, const int32_t *tokens, int64_t *name);
/* No page is known any more: the weights have changed. */
void page_pool_forget(struct page_pool *pool);

/* The chunk that a position lies in. */
int32_t page_chunk(int32_t position);
/* Pages of a prompt, at positions 0 .. n_prompt. */
int64_t prompt_pages(int32_t n_prompt);
/* Pages of a completion's fed tokens (all but its last) at positions n_prompt, ... Its first page begins with the chunk
 * that n_prompt lies in, which the prompt's last page may hold the beginning of. */
int64_t completion_pages(int32_t n_prompt, int32_t max_tokens);

/* Of a rotating window of so many pages (0: none): how many chunks behind the first one a token in this chunk does not see.
 * It sees the first page, and of the others the last ones with its own. */
int32_t pages_left_out(int32_t kv_pages, int32_t chunk);

/* Pages in order of their chunk. */
struct page_list {
    int32_t *pages; /* [most]; -1: it was left out, and is held no more */
    int32_t count, most;
    int32_t gone; /* before this one all are left out that will be */
};
/* An empty list with room for most pages. */
cohort_status page_list_create(struct page_list *list, int64_t most, cohort_error *err);
void page_list_free(struct page_list *list);
/* Takes pages until it holds count of them; the pool has those that it lacks. */
void page_list_grow(struct page_list *list, struct page_pool *pool, int32_t count);
/* Gives back those that are left out, of chunks 1 .. left_out; first_chunk as in page_list_row. */
void page_list_leave_out(struct page_list *list, struct page_pool *pool, int32_t first_chunk, int32_t left_out);
/* The last one first, so that of a known text the end is forgotten before its beginning. */
void page_list_release(struct page_list *list, struct page_pool *pool);
/* The row of a position, whose page the list holds. first_chunk: chunk of the list's first page. */
int32_t page_list_row(const struct page_list *list, int32_t first_chunk, int32_t position);

#endif
