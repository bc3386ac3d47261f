#include "rollout/scheduler.h"

#include <assert.h>
#include <string.h>

/* Inserts behind after; at the front where after is NULL. */
static void list_insert(struct request_list *list, struct request *after, struct request *r)
{
    r->previous = after;
    r->next = after != NULL ? after->next : list->first;
    *(r->next != NULL ? &r->next->previous : &list->last) = r;
    *(after != NULL ? &after->next : &list->first) = r;
}

static void list_remove(struct request_list *list, struct request *r)
{
    *(r->previous != NULL ? &r->previous->next : &list->first) = r->next;
    *(r->next != NULL ? &r->next->previous : &list->last) = r->previous;
    r->previous = r->next = NULL;
}

static struct request_list *list_of(struct scheduler *q, const struct request *r)
{
    return r->state == REQUEST_WAITING ? &q->waiting : r->state == REQUEST_PREFILL ? &q->prefill : &q->active;
}

static void queue_push(struct sequence_list *list, struct sequence *s)
{
    s->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = s;
    list->last = s;
}

static struct sequence *queue_pop(struct sequence_list *list)
{
    struct sequence *s = list->first;
    if (s != NULL && (list->first = s->next) == NULL)
        list->last = NULL;
    return s;
}

/* Takes it out wherever it is, if it is there. */
static void queue_drop(struct sequence_list *list, const struct sequence *s)
{
    struct sequence *before = NULL;
    for (struct sequence *at = list->first; at != NULL; before = at, at = at->next)
        if (at == s) {
            *(before != NULL ? &before->next : &list->first) = s->next;
            if (list->last == s)
                list->last = before;
            return;
        }
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

/* The most pages that one completion of the request can need. */
static int64_t one_completion(const struct request *r) { return r->sequences[0].pages.most; }

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
    for (int64_t id = q->first_id; id < q->next_id; id++)
        request_destroy(*place_of(q, id));
    mem_free(q->by_id);
    completion_queue_free(&q->finished);
    mem_free(q->running);
    page_pool_free(&q->pool);
}

/* ---- Submission and cancellation ---- */

cohort_status scheduler_add(struct scheduler *q, struct request *r, cohort_error *err)
{
    TRY(completion_queue_reserve(&q->finished, q->n_unfinished + (size_t)r->ask.n, err));
    while (q->first_id < q->next_id && *place_of(q, q->first_id) == NULL)
        q->first_id++;
    if ((size_t)(q->next_id - q->first_id) == q->id_capacity)
        TRY(grow_ids(q, err));
    r->id = q->next_id++;
    *place_of(q, r->id) = r;
    list_insert(&q->waiting, q->waiting.last, r);
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

/* The routes of the prompt and of all tokens but the last, which is not fed. */
static cohort_status take_routes(const struct scheduler *q, const struct sequence *s, uint16_t **routes,
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
    if (q->route_width > 0 && s->finish_reason != FINISH_CANCELLED && s->n_tokens > 0 && s->n_behind == 0)
        TRY_GOTO(take_routes(q, s, &done.routes, err));
    if (q->tokenizer != NULL) {
        TRY_GOTO(mem_strdup(&done.text, s->text.data == NULL ? "" : s->text.data, s->text.length, err));
        done.text_length = s->text.length;
    }
    completion_queue_push(&q->finished, &done);
    q->n_unfinished--;
    if (s->state != SEQUENCE_PENDING) {
        page_list_release(&s->pages, &q->pool);
        q->promised += --r->n_holding == 0 ? one_completion(r) : 0;
    }
    q->n_waiting -= s->state == SEQUENCE_WAITING ? 1 : 0;
    queue_drop(s->state == SEQUENCE_READY ? &q->ready : &q->turns, s);
    s->state = SEQUENCE_FINISHED;
    if (--r->n_unfinished == 0) {
        q->promised -= r->state != REQUEST_WAITING ? one_completion(r) : 0;
        list_remove(list_of(q, r), r);
        r->next = q->ended;
        q->ended = r;
    }
    return COHORT_OK;
cleanup:
    completion_free(&done);
    return status;
}

/* It keeps its pages, and its row is free from the next scheduler_sweep on. */
static void turn_over(struct scheduler *q, struct sequence *s)
{
    s->state = SEQUENCE_WAITING;
    q->n_waiting++;
    queue_push(&q->turns, s);
}

cohort_status scheduler_take(struct scheduler *q, struct sequence *s, const struct sample_row *draw, cohort_error *err)
{
    if (draw->token < 0) {
        s->finish_reason = FINISH_FAILED;
    } else {
        TRY(sequence_append(s, q->tokenizer, draw, err));
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
    if (s->finish_reason != FINISH_NONE)
        return finish_sequence(q, s, err);
    if (s->turned && s->state == SEQUENCE_RUNNING)
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

struct sequence *scheduler_poll_turn(struct scheduler *q) { return queue_pop(&q->turns); }

struct sequence *scheduler_waiting(const struct scheduler *q, int64_t request, int32_t index)
{
    const struct request *r = request >= q->first_id && request < q->next_id ? *place_of(q, request) : NULL;
    const int32_t i = r == NULL ? -1 : index - r->ask.first_index;
    return i >= 0 && i < r->ask.n && r->sequences[i].state == SEQUENCE_WAITING ? &r->sequences[i] : NULL;
}

cohort_status scheduler_go_on(struct scheduler *q, struct sequence *s, const int32_t *tokens, int32_t n,
                              cohort_error *err)
{
    assert(s->state == SEQUENCE_WAITING && n >= 1 && n <= s->request->max_tokens - s->n_tokens);
    queue_drop(&q->turns, s);
    TRY(sequence_go_on(s, q->tokenizer, tokens, n, err));
    q->outside_tokens += n;
    if (s->n_tokens == s->request->max_tokens)
        return end_between(q, s, FINISH_LENGTH, err);
    s->state = SEQUENCE_READY;
    q->n_waiting--;
    queue_push(&q->ready, s);
    return COHORT_OK;
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

/* Pending sequences of active requests get slots and pages, oldest request first. */
static void admit_sequences(struct scheduler *q)
{
    for (struct request *r = q->active.first; r != NULL; r = r->next)
        for (; r->first_pending < r->ask.n; r->first_pending++) {
            struct sequence *s = &r->sequences[r->first_pending];
            if (s->state != SEQUENCE_PENDING) /* its first token ended it */
                continue;
            if ((!s->turned && q->n_running == q->max_sequences) || !page_list_reserve(&s->pages, &q->pool))
                return;
            q->promised -= r->n_holding++ == 0 ? one_completion(r) : 0;
            if (s->turned) {
                turn_over(q, s);
                continue;
            }
            s->state = SEQUENCE_RUNNING;
            q->running[q->n_running++] = s;
        }
}

/* Those that go on get rows, beside others of their requests. */
static void admit_ready(struct scheduler *q)
{
    while (q->ready.first != NULL && q->n_running < q->max_sequences) {
        struct sequence *s = queue_pop(&q->ready);
        int32_t at = q->n_running;
        while (at > 0 && q->running[at - 1]->request != s->request)
            at--;
        at = at == 0 ? q->n_running : at;
        memmove(q->running + at + 1, q->running + at, (size_t)(q->n_running - at) * sizeof(struct sequence *));
        q->running[at] = s;
        q->n_running++;
        s->state = SEQUENCE_RUNNING;
    }
}

/* A waiting request gets pages for its prompt when at least one of its completions could then run to its end, so that a
 * request that was admitted can always finish, whatever the others hold. */
static void admit_requests(struct scheduler *q)
{
    while (q->waiting.first != NULL) {
        struct request *r = q->waiting.first;
        if (q->pool.n_free - q->pool.reserved < r->pages.most + one_completion(r) + q->promised)
            return;
        const bool granted = page_list_reserve(&r->pages, &q->pool);
        assert(granted);
        (void)granted;
        list_remove(&q->waiting, r);
        r->state = REQUEST_PREFILL;
        list_insert(&q->prefill, q->prefill.last, r);
        q->promised += one_completion(r);
    }
}

cohort_status scheduler_admit(struct scheduler *q, cohort_error *err)
{
    TRY(apply_cancellations(q, err));
    scheduler_sweep(q);
    admit_ready(q);
    admit_sequences(q);
    admit_requests(q);
    return COHORT_OK;
}

bool scheduler_busy(const struct scheduler *q)
{
    return q->waiting.first != NULL || q->prefill.first != NULL || q->active.first != NULL;
}

bool scheduler_waits(const struct scheduler *q)
{
    return q->n_waiting > 0 && q->n_running == 0 && q->prefill.first == NULL && q->ready.first == NULL;
}

bool scheduler_catches_up(const struct scheduler *q)
{
    for (int32_t i = 0; i < q->n_running; i++)
        if (q->running[i]->n_behind > 0)
            return true;
    return false;
}

bool scheduler_prefills(const struct scheduler *q) { return q->prefill.first != NULL; }

void scheduler_prompt_done(struct scheduler *q, struct request *r)
{
    struct request *after = q->active.last;
    list_remove(&q->prefill, r);
    r->state = REQUEST_ACTIVE;
    /* Only a short prompt that was computed beside a longer, older one has any to pass. */
    while (after != NULL && after->id > r->id)
        after = after->previous;
    list_insert(&q->active, after, r);
}
