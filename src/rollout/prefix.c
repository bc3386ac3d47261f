#include "rollout/prefix.h"

#include "backend/ops.h"
#include "base/rng.h"

static bool shares(const struct scheduler *q, const struct request *r)
{
    return q->pool.known != NULL && r->vectors == NULL && !r->apart;
}

/* The name of what stands before all texts, for weights and adapter. */
static int64_t beginning_of(uint64_t weights) { return -1 - (int64_t)(weights >> 2); }

/* The name behind which pages stand that are known for a request's first chunk. */
static int64_t name_behind(const struct scheduler *q, const struct request *r)
{
    if (r->n_known > 0)
        return r->known;
    return r->ask.wears == 0 ? q->beginning : beginning_of(rng_stream((uint64_t)q->beginning, (uint64_t)r->ask.wears));
}

/* What those that were admitted hold is not what it would be if it were computed now. */
static void set_apart(struct scheduler *q)
{
    for (struct request *r = q->admitted.first; r != NULL; r = r->next)
        r->apart = true;
}

void prefix_forget(struct scheduler *q)
{
    page_pool_forget(&q->pool);
    set_apart(q);
}

void prefix_weights(struct scheduler *q, uint64_t weights, bool changed)
{
    const int64_t beginning = beginning_of(weights);
    if (changed)
        page_pool_forget(&q->pool);
    if (beginning == q->beginning && !changed)
        return;
    q->beginning = beginning;
    set_apart(q); /* some of their keys and values are of the weights before */
}

int32_t prefix_find(struct scheduler *q, const int32_t *tokens, int32_t chunk, int64_t *name)
{
    int32_t page = -1;
    *name = q->beginning;
    for (int32_t c = 0; q->pool.known != NULL && c <= chunk; c++) {
        page = page_pool_find(&q->pool, *name, tokens + (int64_t)c * ATTENTION_CHUNK, name);
        if (page < 0)
            return -1;
        page_pool_release(&q->pool, page);
    }
    return page;
}

/* The page of chunk n_known, which is held from then on; -1: it is not known, or not full. */
static int32_t find_next(struct scheduler *q, struct request *r)
{
    int64_t name = 0;
    if (r->n_known >= page_chunk(r->ask.n_prompt - 1))
        return -1;
    const int32_t page = page_pool_find(&q->pool, name_behind(q, r), r->prompt + r->n_known * ATTENTION_CHUNK, &name);
    if (page < 0)
        return -1;
    r->known = name;
    r->n_known++;
    return page;
}

void prefix_take_prompt(struct scheduler *q, struct request *r)
{
    r->n_known = r->n_prefilled = 0;
    if (!shares(q, r) || r->all_logits)
        return;
    for (int32_t page = find_next(q, r); page >= 0; page = find_next(q, r))
        r->pages.pages[r->pages.count++] = page;
    r->n_prefilled = r->n_known * ATTENTION_CHUNK;
}

void prefix_catch_up(struct scheduler *q, struct request *r)
{
    if (!shares(q, r) || r->all_logits || r->n_prefilled != r->n_known * ATTENTION_CHUNK || q->kv_pages > 0)
        return;
    for (int32_t page = find_next(q, r); page >= 0; page = find_next(q, r)) {
        page_pool_release(&q->pool, r->pages.pages[r->n_known - 1]);
        r->pages.pages[r->n_known - 1] = page;
        r->n_prefilled = r->n_known * ATTENTION_CHUNK;
        q->known_tokens += ATTENTION_CHUNK;
    }
}

void prefix_know_prompt(struct scheduler *q, struct request *r)
{
    if (!shares(q, r) || r->pages.count == 0)
        return;
    for (; (r->n_known + 1) * ATTENTION_CHUNK <= r->n_prefilled && r->pages.pages[r->n_known] >= 0; r->n_known++)
        r->known = page_pool_know(&q->pool, r->pages.pages[r->n_known], name_behind(q, r),
                                  r->prompt + r->n_known * ATTENTION_CHUNK);
}

static bool is_first(const struct sequence *s) { return s == s->request->sequences; }

bool prefix_continues(const struct sequence *s)
{
    return is_first(s) && s->request->ask.n_prompt % ATTENTION_CHUNK != 0;
}

/* Whether all chunks before the completion's are known, and its own stay what they are: not where it can be retraced. */
static bool may_follow(const struct scheduler *q, const struct sequence *s)
{
    const struct request *r = s->request;
    return shares(q, r) && q->kv_pages == 0 && r->ask.pause == 0 && is_first(s) &&
           r->n_known == page_chunk(r->ask.n_prompt);
}

void prefix_take_own(struct scheduler *q, struct sequence *s)
{
    const struct request *r = s->request;
    const int32_t P = r->ask.n_prompt, last = P + s->n_tokens - 1;
    int64_t name = name_behind(q, r);
    if (!may_follow(q, s) || s->pages.count > 0)
        return;
    for (int32_t chunk = page_chunk(P); (chunk + 1) * ATTENTION_CHUNK <= last; chunk++) {
        const int32_t page = page_pool_find(&q->pool, name, s->history + chunk * ATTENTION_CHUNK, &name);
        if (page < 0)
            return;
        s->pages.pages[s->pages.count++] = page;
        s->n_behind = last - (chunk + 1) * ATTENTION_CHUNK;
        q->known_tokens += ATTENTION_CHUNK;
    }
}

void prefix_know_own(struct scheduler *q, const struct sequence *s)
{
    const struct request *r = s->request;
    const int32_t P = r->ask.n_prompt, computed = P + s->n_tokens - 1 - s->n_behind;
    int64_t name = name_behind(q, r);
    if (!may_follow(q, s) || s->pages.count == 0 || s->n_tokens == 0)
        return;
    for (int32_t chunk = page_chunk(P); (chunk + 1) * ATTENTION_CHUNK <= computed; chunk++)
        name =
            page_pool_know(&q->pool, s->pages.pages[chunk - page_chunk(P)], name, s->history + chunk * ATTENTION_CHUNK);
}
