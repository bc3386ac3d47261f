#include "rollout/scheduler.h"

#include "base/rng.h"
#include "rollout/admission.h"
#include "rollout/prefix.h"

#include <assert.h>
#include <string.h>

static struct request_list *list_of(struct scheduler *q, const struct request *r)
{
    return r->state == REQUEST_WAITING ? &q->waiting : &q->admitted;
}

/* The place of the request with this id, which is one of first_id .. next_id. */
static struct request **place_of(const struct scheduler *q, int64_t id)
{
    return &q->by_id[(size_t)id & (q->id_capacity - 1)];
}

static cohort_status grow_ids(struct scheduler *q, cohort_error *err)
{
    enum { LEAST = 64 };
    struct scheduler grown = {.id_capacity = q->id_capacity > 0 ? 2 * q->id_capacity : LEAST};
    TRY(mem_alloc(&grown.by_id, grown.id_capacity, sizeof(struct request *), "requests", err));
    for (int64_t id = q->first_id; id < q->next_id; id++)
        *place_of(&grown, id) = *place_of(q, id);
    mem_free(q->by_id);
    q->by_id = grown.by_id;
    q->id_capacity = grown.id_capacity;
    return COHORT_OK;
}

int32_t scheduler_pages_at_once(int32_t kv_pages, int32_t prefill_tokens)
{
    return kv_pages + page_chunk(prefill_tokens) + 2;
}

cohort_status scheduler_create(struct scheduler *q, const struct engine_config *config,
                               const struct tokenizer *tokenizer, bool windows, cohort_error *err)
{
    memset(q, 0, sizeof *q);
    q->tokenizer = tokenizer;
    q->max_sequences = config->max_sequences;
    q->prefill_tokens = config->prefill_tokens;
    q->kv_pages = config->kv_pages;
    TRY(page_pool_create(&q->pool, config->n_pages, err));
    TRY(mem_alloc(&q->aside, (size_t)config->max_sequences, sizeof(struct sequence *), "rollout engine", err));
    TRY(drafts_create(&q->drafts, config->draft_tokens, config->n_pages, windows, err));
    return mem_alloc(&q->running, (size_t)config->max_sequences, sizeof(struct sequence *), "rollout engine", err);
}

void scheduler_free(struct scheduler *q)
{
    for (int64_t id = q->first_id; id < q->next_id; id++)
        request_destroy(*place_of(q, id));
    mem_free(q->by_id);
    completion_queue_free(&q->finished);
    mem_free(q->running);
    mem_free(q->aside);
    page_pool_free(&q->pool);
    drafts_free(&q->drafts);
}

/* ---- Submission and cancellation ---- */

/* Callers take turns: a request's turn is as many completions behind that of its caller's last one as it has, or behind the
 * turn that is up, and those that wait stand in the order of their turns. With one caller that is the order of submission. */
static void queue_in_turn(struct scheduler *q, struct request *r)
{
    int64_t *last = &q->last_turn[rng_stream(r->ask.caller, 0) % SCHEDULER_CALLERS];
    r->turn = (*last > q->turn ? *last : q->turn) + r->ask.n;
    *last = r->turn;
    const struct request *first = q->waiting.first, *end = q->waiting.last;
    struct request *after = q->waiting.last;
    if (first != NULL && r->turn - first->turn < end->turn - r->turn) {
        after = NULL; /* nearer to the front */
        for (struct request *at = q->waiting.first; at != NULL && at->turn <= r->turn; at = at->next)
            after = at;
    } else {
        while (after != NULL && after->turn > r->turn)
            after = after->previous;
    }
    request_list_insert(&q->waiting, after, r);
}

cohort_status scheduler_add(struct scheduler *q, struct request *r, cohort_error *err)
{
    TRY(completion_queue_reserve(&q->finished, q->n_unfinished + (size_t)r->ask.n, err));
    while (q->first_id < q->next_id && *place_of(q, q->first_id) == NULL)
        q->first_id++;
    if ((size_t)(q->next_id - q->first_id) == q->id_capacity)
        TRY(grow_ids(q, err));
    r->step_tokens = q->kv_pages > 0 ? q->prefill_tokens : 0;
    r->id = q->next_id++;
    *place_of(q, r->id) = r;
    queue_in_turn(q, r);
    q->n_queued++;
    q->n_unfinished += (size_t)r->ask.n;
    return COHORT_OK;
}

void scheduler_cancel(struct scheduler *q, int64_t id)
{
    struct request *r = id >= q->first_id && id < q->next_id ? *place_of(q, id) : NULL;
    if (r == NULL)
        return;
    const bool none = q->cancel_first >= q->cancel_end;
    r->cancelled = true;
    if (none || id < q->cancel_first)
        q->cancel_first = id;
    if (none || id >= q->cancel_end)
        q->cancel_end = id + 1;
}

/* ---- The end of a completion ---- */

cohort_status scheduler_take_routes(const struct scheduler *q, const struct sequence *s, uint16_t **routes,
                                    cohort_error *err)
{
    const struct request *r = s->request;
    const int32_t P = r->ask.n_prompt, fed = s->n_tokens - 1;
    TRY(mem_alloc(routes, (size_t)(P + fed) * (size_t)q->route_width, sizeof **routes, "routes", err));
    q->fetch_routes(q->fetch_context, &r->pages, 0, 0, P, *routes);
    q->fetch_routes(q->fetch_context, &s->pages, page_chunk(P), P, P + fed,
                    *routes + (size_t)P * (size_t)q->route_width);
    return COHORT_OK;
}

/* Moves what a sequence produced into the queue of finished completions, makes its last callback, and frees its pages.
 */
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
    TRY_GOTO(mem_alloc(&done.entropy, (size_t)s->n_tokens, sizeof(float), "completion", err));
    memcpy(done.tokens, s->history + r->ask.n_prompt, (size_t)s->n_tokens * sizeof(int32_t));
    memcpy(done.logp, s->logp, (size_t)s->n_tokens * sizeof(float));
    memcpy(done.entropy, s->entropy, (size_t)s->n_tokens * sizeof(float));
    if (s->sampled != NULL) {
        TRY_GOTO(mem_alloc(&done.sampled, (size_t)s->n_tokens, sizeof(bool), "completion", err));
        memcpy(done.sampled, s->sampled, (size_t)s->n_tokens * sizeof(bool));
    }
    if (s->kept != NULL) {
        TRY_GOTO(mem_alloc(&done.kept, (size_t)s->n_tokens, sizeof(float), "completion", err));
        memcpy(done.kept, s->kept, (size_t)s->n_tokens * sizeof(float));
    }
    const size_t top = (size_t)s->n_tokens * (size_t)r->ask.n_top;
    if (top > 0) {
        done.n_top = r->ask.n_top;
        TRY_GOTO(mem_alloc(&done.top_ids, top, sizeof *done.top_ids, "completion", err));
        TRY_GOTO(mem_alloc(&done.top_logp, top, sizeof *done.top_logp, "completion", err));
        memcpy(done.top_ids, s->top_ids, top * sizeof *done.top_ids);
        memcpy(done.top_logp, s->top_logp, top * sizeof *done.top_logp);
    }
    if (r->prompt_logp != NULL && r->begun) {
        TRY_GOTO(mem_alloc(&done.prompt_logp, (size_t)r->ask.n_prompt, sizeof *done.prompt_logp, "completion", err));
        memcpy(done.prompt_logp, r->prompt_logp, (size_t)r->ask.n_prompt * sizeof *done.prompt_logp);
    }
    if (q->route_width > 0 && s->finish_reason != FINISH_CANCELLED && s->n_tokens > 0 && s->n_behind == 0) {
        if (s->routes == NULL)
            TRY_GOTO(scheduler_take_routes(q, s, &s->routes, err));
        done.routes = s->routes;
        s->routes = NULL;
    }
    if (q->tokenizer != NULL) {
        TRY_GOTO(mem_strdup(&done.text, s->text.data == NULL ? "" : s->text.data, s->text.length, err));
        done.text_length = s->text.length;
    }
    completion_queue_push(&q->finished, &done);
    drafts_forget(&q->drafts, s);
    q->n_unfinished--;
    prefix_know_own(q, s);
    page_list_release(&s->pages, &q->pool);
    q->n_waiting -= s->state == SEQUENCE_WAITING ? 1 : 0;
    sequence_list_remove(s->state == SEQUENCE_READY ? &q->ready : &q->turns, s);
    s->state = SEQUENCE_FINISHED;
    if (--r->n_unfinished == 0) {
        q->n_queued -= r->state == REQUEST_WAITING ? 1 : 0;
        request_list_remove(list_of(q, r), r);
        q->n_prefill -= r->state == REQUEST_PREFILL ? 1 : 0;
        r->next = q->ended;
        q->ended = r;
    }
    return COHORT_OK;
cleanup:
    completion_free(&done);
    return status;
}

/* It keeps its pages, if it has any, and its row is free from the next scheduler_sweep on. */
static void turn_over(struct scheduler *q, struct sequence *s)
{
    s->state = SEQUENCE_WAITING;
    q->n_waiting++;
    sequence_list_append(&q->turns, s);
}

cohort_status scheduler_take(struct scheduler *q, struct sequence *s, const struct sample_row *draw, cohort_error *err)
{
    if (draw->token < 0) {
        s->finish_reason = FINISH_FAILED;
    } else {
        TRY(sequence_append(s, q->tokenizer, draw, err));
        q->generated_tokens++;
        drafts_know(&q->drafts, s, 1, true);
    }
    if (q->callback != NULL) {
        struct engine_event event = {.request = s->request->id,
                                     .index = s->index,
                                     .token = draw->token,
                                     .logp = draw->logp,
                                     .finish_reason = s->finish_reason};
        if (draw->token >= 0 && s->request->ask.n_top > 0) {
            event.n_top = s->request->ask.n_top;
            event.top_ids = s->top_ids + (s->n_tokens - 1) * event.n_top;
            event.top_logp = s->top_logp + (s->n_tokens - 1) * event.n_top;
        }
        event.text = sequence_new_text(s, &event.text_length);
        q->callback(q->callback_context, &event);
    }
    if (s->finish_reason != FINISH_NONE)
        return finish_sequence(q, s, err);
    if (s->turned)
        turn_over(q, s);
    return COHORT_OK;
}

/* Ends a completion between its tokens. */
static cohort_status end_between(struct scheduler *q, struct sequence *s, enum finish_reason reason, cohort_error *err)
{
    s->finish_reason = reason;
    if (q->tokenizer != NULL)
        TRY(token_stream_finish(&s->stream, q->tokenizer, &s->text, err));
    if (q->callback != NULL) {
        struct engine_event event = {
            .request = s->request->id, .index = s->index, .token = -1, .finish_reason = reason};
        event.text = sequence_new_text(s, &event.text_length);
        q->callback(q->callback_context, &event);
    }
    return finish_sequence(q, s, err);
}

/* ---- Turns ---- */

struct sequence *scheduler_poll_turn(struct scheduler *q) { return sequence_list_pop(&q->turns); }

struct sequence *scheduler_waiting(const struct scheduler *q, int64_t request, int32_t index)
{
    const struct request *r = request >= q->first_id && request < q->next_id ? *place_of(q, request) : NULL;
    const int32_t i = r == NULL ? -1 : index - r->ask.first_index;
    return i >= 0 && i < r->ask.n && r->sequences[i].state == SEQUENCE_WAITING ? &r->sequences[i] : NULL;
}

/* A row is all that it lacks, or the pages too that it gave up. */
static void waits_no_more(struct scheduler *q, struct sequence *s)
{
    q->n_waiting--;
    if (s->pages.count > 0) {
        s->state = SEQUENCE_READY;
        sequence_list_append(&q->ready, s);
    } else {
        sequence_pending(s);
    }
}

cohort_status scheduler_go_on(struct scheduler *q, struct sequence *s, const int32_t *tokens, int32_t n,
                              cohort_error *err)
{
    assert(s->state == SEQUENCE_WAITING && n >= 1 && n <= s->request->max_tokens - s->n_tokens);
    sequence_list_remove(&q->turns, s);
    TRY(sequence_go_on(s, q->tokenizer, tokens, n, err));
    q->outside_tokens += n;
    drafts_know(&q->drafts, s, n, false);
    if (s->n_tokens == s->request->max_tokens)
        return end_between(q, s, FINISH_LENGTH, err);
    mem_free(s->routes);
    s->routes = NULL;
    waits_no_more(q, s);
    return COHORT_OK;
}

void scheduler_retrace(struct scheduler *q, struct sequence *s, const int32_t *tokens, int32_t n, int32_t ahead)
{
    assert(s->state == SEQUENCE_WAITING && n >= 1 && n + ahead < s->request->max_tokens && s->request->ask.pause > 0);
    sequence_list_remove(&q->turns, s);
    sequence_retrace(s, tokens, n, ahead);
    waits_no_more(q, s);
}

cohort_status scheduler_end(struct scheduler *q, struct sequence *s, cohort_error *err)
{
    assert(s->state == SEQUENCE_WAITING);
    return end_between(q, s, FINISH_EOS, err);
}

void scheduler_sweep(struct scheduler *q)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < q->n_running; i++)
        if (q->running[i]->state == SEQUENCE_RUNNING)
            q->running[kept++] = q->running[i];
    q->n_running = kept;
    while (q->ended != NULL) {
        struct request *r = q->ended;
        q->ended = r->next;
        prefix_know_prompt(q, r);
        page_list_release(&r->pages, &q->pool);
        *place_of(q, r->id) = NULL;
        request_destroy(r);
    }
}

/* ---- Ahead of a step ---- */

/* In the order of submission. */
static cohort_status apply_cancellations(struct scheduler *q, cohort_error *err)
{
    for (; q->cancel_first < q->cancel_end; q->cancel_first++) {
        struct request *r = *place_of(q, q->cancel_first);
        for (int32_t i = 0; r != NULL && r->cancelled && i < r->ask.n; i++) {
            struct sequence *s = &r->sequences[i];
            if (s->state == SEQUENCE_FINISHED)
                continue;
            TRY(end_between(q, s, FINISH_CANCELLED, err));
        }
    }
    return COHORT_OK;
}

cohort_status scheduler_admit(struct scheduler *q, int32_t ahead, bool open, cohort_error *err)
{
    TRY(apply_cancellations(q, err));
    scheduler_sweep(q);
    return admission_run(q, ahead, open, err);
}

bool scheduler_busy(const struct scheduler *q) { return q->waiting.first != NULL || q->admitted.first != NULL; }

bool scheduler_waits(const struct scheduler *q) { return q->n_waiting > 0 && (size_t)q->n_waiting == q->n_unfinished; }

bool scheduler_catches_up(const struct scheduler *q)
{
    for (int32_t i = 0; i < q->n_running; i++)
        if (q->running[i]->n_behind > 0)
            return true;
    return false;
}

static bool prefills(const struct request *r, const struct scheduler *q)
{
    return r->state == REQUEST_PREFILL && r->ask.wears == q->wears;
}

bool scheduler_prefills(const struct scheduler *q)
{
    const struct request *r = q->n_prefill > 0 ? q->admitted.first : NULL;
    while (r != NULL && !prefills(r, q))
        r = r->next;
    return r != NULL;
}

int32_t scheduler_due(const struct scheduler *q)
{
    int64_t due = 0;
    for (int32_t i = 0; i < q->n_running && due < q->prefill_tokens; i++)
        due += q->running[i]->n_behind;
    for (const struct request *r = q->n_prefill > 0 ? q->admitted.first : NULL; r != NULL && due < q->prefill_tokens;
         r = r->next)
        due += prefills(r, q) ? r->ask.n_prompt - r->n_prefilled : 0;
    return due < q->prefill_tokens ? (int32_t)due : q->prefill_tokens;
}

/* How far behind the last step's what a request wears is. */
static uint32_t turns_behind(const struct scheduler *q, const struct request *r)
{
    return (uint32_t)r->ask.wears - (uint32_t)q->wears - 1;
}

int32_t scheduler_next_wears(const struct scheduler *q)
{
    const struct request *next = NULL;
    for (int32_t i = 0; i < q->n_running; i++)
        if (next == NULL || turns_behind(q, q->running[i]->request) < turns_behind(q, next))
            next = q->running[i]->request;
    for (const struct request *r = q->n_prefill > 0 ? q->admitted.first : NULL; r != NULL; r = r->next)
        if (r->state == REQUEST_PREFILL && (next == NULL || turns_behind(q, r) < turns_behind(q, next)))
            next = r;
    return next == NULL ? q->wears : next->ask.wears;
}

void scheduler_set_aside(struct scheduler *q, int32_t wears)
{
    int32_t kept = 0;
    q->wears = wears;
    q->n_aside = 0;
    for (int32_t i = 0; i < q->n_running; i++)
        *(q->running[i]->request->ask.wears == wears ? &q->running[kept++] : &q->aside[q->n_aside++]) = q->running[i];
    q->n_running = kept;
}

void scheduler_put_back(struct scheduler *q)
{
    memcpy(q->running + q->n_running, q->aside, (size_t)q->n_aside * sizeof(struct sequence *));
    q->n_running += q->n_aside;
    q->n_aside = 0;
}

void scheduler_prompt_done(struct scheduler *q, struct request *r)
{
    r->state = REQUEST_ACTIVE;
    if (!r->begun)
        drafts_know_prompt(&q->drafts, r);
    r->begun = true;
    q->n_prefill--;
}
