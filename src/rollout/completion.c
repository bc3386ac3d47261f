#include "rollout/completion.h"

#include "base/memory.h"

#include <string.h>

const char *finish_reason_name(enum finish_reason reason)
{
    static const char *const names[] = {"", "eos", "stop", "length", "cancelled", "error"};
    return names[reason];
}

void completion_free(struct completion *completion)
{
    mem_free(completion->tokens);
    mem_free(completion->logp);
    mem_free(completion->text);
    memset(completion, 0, sizeof *completion);
}

cohort_status completion_check(const struct completion *completion, cohort_error *err)
{
    if (completion->finish_reason != FINISH_FAILED)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_NUMERIC,
                     "request %lld, completion %d, token %d: the logits are not numbers or leave "
                     "nothing to choose; "
                     "the weights are damaged, or a filter or bias forbids every token",
                     (long long)completion->request, (int)completion->index, (int)completion->n_tokens);
}

cohort_status completion_queue_push(struct completion_queue *queue, const struct completion *completion,
                                    cohort_error *err)
{
    TRY(mem_grow(&queue->list, &queue->capacity, queue->end + 1, sizeof *queue->list, "finished completions", err));
    queue->list[queue->end++] = *completion;
    return COHORT_OK;
}

bool completion_queue_pop(struct completion_queue *queue, struct completion *out)
{
    if (queue->first == queue->end)
        return false;
    *out = queue->list[queue->first++];
    if (queue->first == queue->end)
        queue->first = queue->end = 0;
    return true;
}

void completion_queue_free(struct completion_queue *queue)
{
    for (size_t i = queue->first; i < queue->end; i++)
        completion_free(&queue->list[i]);
    mem_free(queue->list);
    memset(queue, 0, sizeof *queue);
}
