#include "rollout/scheduler.h"

#include <assert.h>
#include <string.h>

cohort_status scheduler_create(struct scheduler *q, const struct engine_config *config,
                               const struct tokenizer *tokenizer, cohort_error *err)
{
    memset(q, 0, sizeof *q);
    q->tokenizer = tokenizer;
    q->max_sequences = config->max_sequences;
    TRY(page_pool_create(&q->pool, config->n_pages, err));
    return mem_alloc(&q->running, (size_t)config->max_sequences, sizeof(struct sequence *), "rollout engine", err);
}

void scheduler_free(struct scheduler *q)
{
    while (q->requests != NULL) {
        struct request *next = q->requests->next;
        request_destroy(q->requests);
        q->requests = next;
    }
    completion_queue_free(&q->finished);
    mem_free(q->running);
    page_pool_free(&q->pool);
}

void scheduler_add(struct scheduler *q, struct request *r)
{
    struct request **tail = &q->requests;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = r;
}

void scheduler_cancel(struct scheduler *q, int64_t id)
{
    for (struct request *r = q->requests; r != NULL; r = r->next)
        if (r->id == id)
            r->cancelled = true;
}

/* Moves what a sequence made into the queue of finished ones, tells the callback's last word, frees its pages. */
static cohort_status finish_sequence(struct scheduler *q, struct sequence *s, cohort_error *err)
{
    struct request *r = s->request;
    struct completion done = {.request = r->id,
                              .index = s->index,
                              .n_prompt = r->ask.n_prompt,
                              .n_tokens = s->n_tokens,
                              .finish_reason = s->finish_reason};
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&done.tokens, (size_t)s->n_tokens, sizeof(int32_t), "completion", err));
    TRY_GOTO(mem_alloc(&done.logp, (size_t)s->n_tokens, sizeof(float), "completion", err));
    memcpy(done.tokens, s->history + r->ask.n_prompt, (size_t)s->n_tokens * sizeof(int32_t));
    memcpy(done.logp, s->logp, (size_t)s->n_tokens * sizeof(float));
    if (q->tokenizer != NULL) {
        TRY_GOTO(mem_strdup(&done.text, s->text.data == NULL ? "" : s->text.data, s->text.length, err));
        done.text_length = s->text.length;
    }
    TRY_GOTO(completion_queue_push(&q->finished, &done, err));
    if (s->state == SEQUENCE_RUNNING)
        page_list_release(&s->pages, &q->pool);
    s->state = SEQUENCE_FINISHED;
    r->n_unfinished--;
    return COHORT_OK;
cleanup:
    completion_free(&done);
    return status;
}

cohort_status scheduler_take(struct scheduler *q, struct sequence *s, const struct sample_row *draw, cohort_error *err)
{
    if (draw->token < 0) {
        s->finish_reason = FINISH_FAILED;
    } else {
        TRY(sequence_append(s, q->tokenizer, draw->token, draw->logp, err));
        q->generated_tokens++;
    }
    if (q->callback != NULL) {
        struct engine_event event = {.request = s->request->id,
                                     .index = s->index,
                                     .token = draw->token,
                                     .logp = draw->logp,
                                     .finish_reason = s->finish_reason};
        event.text = sequence_new_text(s, &event.text_length);
        q->callback(q->callback_context, &event);
    }
    return s->finish_reason == FINISH_NONE ? COHORT_OK : finish_sequence(q, s, err);
}

void scheduler_sweep(struct scheduler *q)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < q->n_running; i++)
        if (q->running[i]->state == SEQUENCE_RUNNING)
            q->running[kept++] = q->running[i];
    q->n_running = kept;
    for (struct request **at = &q->requests; *at != NULL;) {
        struct request *r = *at;
        if (r->n_unfinished > 0) {
            at = &r->next;
            continue;
        }
        page_list_release(&r->pages, &q->pool);
        *at = r->next;
        request_destroy(r);
    }
}

static cohort_status apply_cancellations(struct scheduler *q, cohort_error *err)
{
    for (struct request *r = q->requests; r != NULL; r = r->next) {
        for (int32_t i = 0; r->cancelled && i < r->ask.n; i++) {
            struct sequence *s = &r->sequences[i];
            if (s->state == SEQUENCE_FINISHED)
                continue;
            s->finish_reason = FINISH_CANCELLED;
            if (q->tokenizer != NULL)
                TRY(token_stream_finish(&s->stream, &s->text, err));
            if (q->callback != NULL) {
                struct engine_event event = {
                    .request = r->id, .index = s->index, .token = -1, .finish_reason = FINISH_CANCELLED};
                event.text = sequence_new_text(s, &event.text_length);
                q->callback(q->callback_context, &event);
            }
            TRY(finish_sequence(q, s, err));
        }
    }
    return COHORT_OK;
}

/* Pending sequences of active requests get slots and pages, oldest request first. */
static cohort_status admit_sequences(struct scheduler *q, cohort_error *err)
{
    for (struct request *r = q->requests; r != NULL; r = r->next) {
        if (r->state != REQUEST_ACTIVE)
            continue;
        for (int32_t i = 0; i < r->ask.n && q->n_running < q->max_sequences; i++) {
            struct sequence *s = &r->sequences[i];
            bool granted = false;
            if (s->state != SEQUENCE_PENDING)
                continue;
            TRY(page_list_reserve(&s->pages, &q->pool, completion_pages(r->ask.n_prompt, r->max_tokens), &granted,
                                  err));
            if (!granted)
                return COHORT_OK;
            s->state = SEQUENCE_RUNNING;
            q->running[q->n_running++] = s;
        }
    }
    return COHORT_OK;
}

/* Waiting requests get pages for their prompt when at least one of their completions could then run to its end: so a
 * request that was let in can always finish, whatever the others hold. */
static cohort_status admit_requests(struct scheduler *q, cohort_error *err)
{
    int64_t promised = 0; /* pages that earlier requests need to run at least one completion */
    for (struct request *r = q->requests; r != NULL; r = r->next) {
        int64_t one = completion_pages(r->ask.n_prompt, r->max_tokens);
        if (r->state == REQUEST_WAITING) {
            bool granted = false;
            int64_t prompt = prompt_pages(r->ask.n_prompt);
            if (q->pool.n_free - q->pool.reserved < prompt + one + promised)
                return COHORT_OK;
            TRY(page_list_reserve(&r->pages, &q->pool, prompt, &granted, err));
            assert(granted);
            r->state = REQUEST_PREFILL;
        }
        bool runs = false;
        for (int32_t i = 0; i < r->ask.n; i++)
            runs = runs || r->sequences[i].state == SEQUENCE_RUNNING;
        promised += runs ? 0 : one;
    }
    return COHORT_OK;
}

cohort_status scheduler_admit(struct scheduler *q, cohort_error *err)
{
    TRY(apply_cancellations(q, err));
    scheduler_sweep(q);
    TRY(admit_sequences(q, err));
    return admit_requests(q, err);
}

void scheduler_prompt_done(struct scheduler *q, struct request *r)
{
    (void)q;
    r->state = REQUEST_ACTIVE;
}

bool scheduler_prefills(const struct scheduler *q)
{
    for (const struct request *r = q->requests; r != NULL; r = r->next)
        if (r->state == REQUEST_PREFILL)
            return true;
    return false;
}
