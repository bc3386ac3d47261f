#include "serve/score.h"

#include "backend/ops.h"

#include <string.h>

cohort_status scorer_open(struct scorer *s, const struct session *session, int32_t most, cohort_error *err)
{
    s->model = session->model;
    s->n_choosable = tokenizer_size(session->tokenizer);
    if (most == 0)
        return COHORT_OK;
    s->runner.logits_bytes = session->backend->sizes->logits_bytes;
    for (int pass = 0; pass < 2; pass++) {
        TRY(tree_runner_plan(&s->runner, &s->arena, &session->model->config, session->model->type, most, most,
                             DECODER_INFER, err));
        if (pass == 0)
            TRY(arena_allocate(&s->arena, session->backend, "scoring", err));
    }
    TRY(mem_alloc(&s->logits, (size_t)s->runner.head.chunk * (size_t)session->model->config.vocab_size,
                  sizeof *s->logits, "logits", err));
    s->most = most;
    return COHORT_OK;
}

void scorer_close(struct scorer *s, struct backend *backend)
{
    tree_runner_free(&s->runner);
    arena_release(&s->arena, backend);
    mem_free(s->logits);
    memset(s, 0, sizeof *s);
}

/* The n likeliest of a row, by insertion. */
static void likeliest(const float *logits, int32_t vocab, int32_t n, int32_t *ids)
{
    int32_t found = 0;
    for (int32_t id = 0; id < vocab; id++) {
        if (found == n && !(logits[id] > logits[ids[n - 1]]))
            continue;
        int32_t at = found < n ? found++ : n - 1;
        for (; at > 0 && logits[id] > logits[ids[at - 1]]; at--)
            ids[at] = ids[at - 1];
        ids[at] = id;
    }
}

/* Behind the runner's forward: of outputs [first, first + count) the likeliest, into ids and logp [count of n_top]. */
static cohort_status look_at(struct scorer *s, const struct score *score, int32_t first, int32_t count, int32_t *ids,
                             float *logp, int32_t *column, float *values)
{
    struct head_work *head = &s->runner.head;
    struct backend *be = s->model->backend;
    const int32_t vocab = s->model->config.vocab_size, n = score->n_top;
    const float *logits = head_logits(s->model, head, first, count);
    be->ops->download(be, s->logits, logits, (size_t)count * (size_t)vocab * sizeof(float));
    for (int32_t i = 0; i < count; i++)
        likeliest(s->logits + (int64_t)i * vocab, s->n_choosable < vocab ? s->n_choosable : vocab, n, ids + i * n);
    for (int32_t k = 0; k < n; k++) {
        for (int32_t i = 0; i < count; i++)
            column[i] = ids[i * n + k];
        be->ops->upload(be, head->target + first, column, (size_t)count * sizeof *column);
        be->ops->head_stats(be, &(struct head_stats){.rows = count,
                                                     .vocab = vocab,
                                                     .logits = logits,
                                                     .temperature = score->temperature,
                                                     .target = head->target + first,
                                                     .logp = head->logp + first,
                                                     .lse = head->lse + first});
        be->ops->download(be, values, head->logp + first, (size_t)count * sizeof *values);
        for (int32_t i = 0; i < count; i++)
            logp[i * n + k] = values[i];
    }
    return backend_check(be, NULL);
}

static cohort_status alternatives(struct scorer *s, struct score *score, cohort_error *err)
{
    const int32_t total = s->runner.packed.outputs.count, n = score->n_top, chunk = (int32_t)s->runner.head.chunk;
    int32_t *ids = NULL, *column = NULL;
    float *logp = NULL, *values = NULL, *numbers = NULL, *order = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&ids, (size_t)total * (size_t)n, sizeof *ids, "alternatives", err));
    TRY_GOTO(mem_alloc(&logp, (size_t)total * (size_t)n, sizeof *logp, "alternatives", err));
    TRY_GOTO(mem_alloc(&column, (size_t)total, sizeof *column, "alternatives", err));
    TRY_GOTO(mem_alloc(&values, (size_t)total, sizeof *values, "alternatives", err));
    TRY_GOTO(mem_alloc(&numbers, (size_t)total, sizeof *numbers, "alternatives", err));
    TRY_GOTO(mem_alloc(&order, (size_t)score->n_tokens, sizeof *order, "alternatives", err));
    for (int32_t first = 0; first < total; first += chunk) {
        const int32_t count = total - first < chunk ? total - first : chunk;
        TRY_GOTO(look_at(s, score, first, count, ids + (size_t)first * (size_t)n, logp + (size_t)first * (size_t)n,
                         column, values));
    }
    for (int32_t i = 0; i < total; i++)
        numbers[i] = (float)i; /* exact: a sequence has fewer than 2^24 tokens */
    packed_gather(&s->runner.packed, 0, score->n_tokens, numbers, order);
    for (int32_t t = 0; t < score->n_tokens; t++) {
        const size_t from = (size_t)order[t] * (size_t)n, to = (size_t)t * (size_t)n;
        memcpy(score->top + to, ids + from, (size_t)n * sizeof *ids);
        memcpy(score->top_logprobs + to, logp + from, (size_t)n * sizeof *logp);
    }
cleanup:
    mem_free(ids);
    mem_free(logp);
    mem_free(column);
    mem_free(values);
    mem_free(numbers);
    mem_free(order);
    return status;
}

cohort_status scorer_run(struct scorer *s, struct score *score, cohort_error *err)
{
    const struct completion_tokens completion = {.tokens = score->tokens, .n_tokens = score->n_tokens};
    const struct tree tree = {
        .prompt = score->prompt, .n_prompt = score->n_prompt, .completions = &completion, .n_completions = 1};
    if (score->n_prompt < 1 || score->n_tokens < 1 || score->n_prompt + score->n_tokens > s->most)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%d tokens behind a prompt of %d: expected at least one of each, and at most %d together",
                         (int)score->n_tokens, (int)score->n_prompt, (int)s->most);
    float *const logprobs = score->logprobs;
    TRY(tree_runner_score(&s->runner, s->model, &tree, 1, score->temperature, &logprobs, NULL, err));
    return score->n_top > 0 ? alternatives(s, score, err) : COHORT_OK;
}
