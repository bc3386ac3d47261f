#include "rollout/completion.h"

#include "base/memory.h"

#include <assert.h>
#include <string.h>

const char *finish_reason_name(enum finish_reason reason)
{
    static const char *const names[] = {"", "eos", "stop", "length", "cancelled", "error", "lost", "repetition"};
    return names[reason];
}

void completion_free(struct completion *completion)
{
    mem_free(completion->tokens);
    mem_free(completion->sampled);
    mem_free(completion->logp);
    mem_free(completion->entropy);
    mem_free(completion->kept);
    mem_free(completion->text);
    mem_free(completion->routes);
    mem_free(completion->top_ids);
    mem_free(completion->top_logp);
    mem_free(completion->prompt_logp);
    json_decref(completion->episode);
    memset(completion, 0, sizeof *completion);
}

bool completion_sampled(const struct completion *completion, int32_t t)
{
    return completion->sampled == NULL || completion->sampled[t];
}

int32_t completion_n_sampled(const struct completion *completion)
{
    int32_t n = 0;
    for (int32_t t = 0; t < completion->n_tokens; t++)
        n += completion_sampled(completion, t) ? 1 : 0;
    return n;
}

cohort_status completion_check(const struct completion *completion, cohort_error *err)
{
    if (completion->finish_reason != FINISH_FAILED)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_NUMERIC,
                     "request %lld, completion %d, token %d: the logits are not numbers or leave "
                     "nothing to choose; "
                     "the weights are damaged, or a filter, bias or constraint forbids every token",
                     (long long)completion->request, (int)completion->index, (int)completion->n_tokens);
}

cohort_status completion_queue_reserve(struct completion_queue *queue, size_t more, cohort_error *err)
{
    struct completion *grown = NULL;
    size_t capacity = 0;
    if (queue->count + more <= queue->capacity)
        return COHORT_OK;
    TRY(mem_grow(&grown, &capacity, queue->count + more, sizeof *grown, "finished completions", err));
    for (size_t i = 0; i < queue->count; i++)
        grown[i] = queue->list[(queue->first + i) % queue->capacity];
    mem_free(queue->list);
    queue->list = grown;
    queue->capacity = capacity;
    queue->first = 0;
    return COHORT_OK;
}

void completion_queue_push(struct completion_queue *queue, const struct completion *completion)
{
    assert(queue->count < queue->capacity);
    queue->list[(queue->first + queue->count++) % queue->capacity] = *completion;
}

bool completion_queue_pop(struct completion_queue *queue, struct completion *out)
{
    if (queue->count == 0)
        return false;
    *out = queue->list[queue->first];
    queue->first = (queue->first + 1) % queue->capacity;
    queue->count--;
    return true;
}

void completion_queue_free(struct completion_queue *queue)
{
    struct completion left;
    while (completion_queue_pop(queue, &left))
        completion_free(&left);
    mem_free(queue->list);
    memset(queue, 0, sizeof *queue);
}
