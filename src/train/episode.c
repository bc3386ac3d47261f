#include "train/episode.h"

#include "base/memory.h"

#include <string.h>

static cohort_status append(struct episode *e, const int32_t *tokens, int32_t n, bool sampled, cohort_error *err)
{
    const size_t wanted = (size_t)e->n_tokens + (size_t)n;
    size_t capacity = e->token_capacity;
    TRY(mem_grow(&e->tokens, &capacity, wanted, sizeof *e->tokens, "episode", err));
    TRY(mem_grow(&e->sampled, &e->token_capacity, wanted, sizeof *e->sampled, "episode", err));
    if (n > 0)
        memcpy(e->tokens + e->n_tokens, tokens, (size_t)n * sizeof *tokens);
    for (int32_t i = 0; i < n; i++)
        e->sampled[e->n_tokens + i] = sampled;
    e->n_tokens += n;
    return COHORT_OK;
}

cohort_status episode_append_completion(struct episode *e, const struct completion *c, cohort_error *err)
{
    const size_t n = (size_t)c->n_tokens, wanted = (size_t)e->n_sampled + n;
    size_t capacity = e->sampled_capacity;
    TRY(mem_grow(&e->logp, &capacity, wanted, sizeof *e->logp, "episode", err));
    TRY(mem_grow(&e->entropy, &e->sampled_capacity, wanted, sizeof *e->entropy, "episode", err));
    for (int32_t t = 0, end = 0; t < c->n_tokens; t = end) {
        const bool sampled = completion_sampled(c, t);
        while (end < c->n_tokens && completion_sampled(c, end) == sampled)
            end++;
        TRY(append(e, c->tokens + t, end - t, sampled, err));
        if (!sampled)
            continue;
        memcpy(e->logp + e->n_sampled, c->logp + t, (size_t)(end - t) * sizeof *c->logp);
        memcpy(e->entropy + e->n_sampled, c->entropy + t, (size_t)(end - t) * sizeof *c->entropy);
        e->n_sampled += end - t;
    }
    e->finish_reason = c->finish_reason;
    return COHORT_OK;
}

cohort_status episode_append_outside(struct episode *e, const int32_t *tokens, int32_t n, cohort_error *err)
{
    return append(e, tokens, n, false, err);
}

void episode_free(struct episode *e)
{
    mem_free(e->tokens);
    mem_free(e->sampled);
    mem_free(e->logp);
    mem_free(e->entropy);
    mem_free(e->routes);
    memset(e, 0, sizeof *e);
}

void episode_take_routes(struct episode *e, struct completion *c)
{
    mem_free(e->routes);
    e->routes = NULL;
    if (e->n_tokens != c->n_tokens)
        return;
    e->routes = c->routes;
    c->routes = NULL;
}

bool episode_truncated(const struct episode *e)
{
    return e->finish_reason == FINISH_LENGTH || e->finish_reason == FINISH_CANCELLED;
}

struct completion_tokens episode_tokens(const struct episode *e)
{
    return (struct completion_tokens){.tokens = e->tokens, .n_tokens = e->n_tokens, .sampled = e->sampled};
}
