#include "rollout/admission.h"

#include "rollout/prefix.h"

#include <assert.h>
#include <string.h>

enum {
    /* Tokens of every running completion, beyond those that it has pages for, that are left room for where another one is
     * admitted. */
    HEADROOM = 16,
    /* Prompts are computed before there are rows for their completions only while a share of 1 / SPARE of the pool is
     * free. */
    SPARE = 4
};

/* ---- Setting back ---- */

/* A completion that waits may end without its pages. */
static cohort_status keep_routes(const struct scheduler *q, struct sequence *s, cohort_error *err)
{
    if (q->route_width == 0 || s->state != SEQUENCE_WAITING || s->routes != NULL)
        return COHORT_OK;
    return scheduler_take_routes(q, s, &s->routes, err);
}

static void leave_running(struct scheduler *q, const struct sequence *s)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < q->n_running; i++)
        if (q->running[i] != s)
            q->running[kept++] = q->running[i];
    q->n_running = kept;
}

static cohort_status set_back(struct scheduler *q, struct sequence *s, cohort_error *err)
{
    TRY(keep_routes(q, s, err));
    prefix_know_own(q, s);
    page_list_release(&s->pages, &q->pool);
    q->n_set_back++;
    q->set_back_tokens += s->n_tokens - 1 - s->n_behind;
    if (s->state == SEQUENCE_RUNNING)
        leave_running(q, s);
    if (s->state == SEQUENCE_READY)
        sequence_list_remove(&q->ready, s);
    if (s->state != SEQUENCE_WAITING)
        sequence_pending(s);
    return COHORT_OK;
}

static cohort_status set_prompt_back(struct scheduler *q, struct request *r, cohort_error *err)
{
    for (int32_t i = 0; r->begun && i < r->ask.n; i++)
        TRY(keep_routes(q, &r->sequences[i], err));
    page_list_release(&r->pages, &q->pool);
    q->n_set_back++;
    q->set_back_tokens += r->n_prefilled;
    q->n_prefill -= r->state == REQUEST_PREFILL ? 1 : 0;
    r->n_prefilled = r->n_known = 0;
    r->state = REQUEST_BACK;
    return COHORT_OK;
}

/* The oldest that gets on by itself: a running completion, or, with *sequence NULL, a prompt that is being computed. */
static struct request *oldest_moving(const struct scheduler *q, struct sequence **sequence)
{
    *sequence = NULL;
    for (struct request *r = q->admitted.first; r != NULL; r = r->next) {
        if (r->state == REQUEST_PREFILL)
            return r;
        for (int32_t i = 0; r->state == REQUEST_ACTIVE && i < r->ask.n; i++)
            if (r->sequences[i].state == SEQUENCE_RUNNING) {
                *sequence = &r->sequences[i];
                return r;
            }
    }
    return NULL;
}

/* Sets back the youngest that holds pages, but for this completion and this request's prompt. False if there is none. */
static cohort_status set_back_youngest(struct scheduler *q, const struct request *but_prompt,
                                       const struct sequence *but, bool *done, cohort_error *err)
{
    *done = true;
    for (struct request *r = q->admitted.last; r != NULL; r = r->previous) {
        if (r->pages.count == 0)
            continue;
        bool held = r == but_prompt;
        for (int32_t i = r->ask.n - 1; i >= 0; i--) {
            struct sequence *s = &r->sequences[i];
            if (s->pages.count == 0)
                continue;
            if (s != but)
                return set_back(q, s, err);
            held = true;
        }
        if (!held)
            return set_prompt_back(q, r, err);
    }
    *done = false;
    return COHORT_OK;
}

/* ---- Pages for those that run ---- */

static int64_t lacking(const struct sequence *s, int32_t ahead)
{
    const int32_t there = s->pages.count == 0 && prefix_continues(s) ? 1 : s->pages.count;
    const int32_t more = sequence_pages(s, ahead) - there;
    return more > 0 ? more : 0;
}

static void grow(struct scheduler *q, struct sequence *s, int32_t ahead)
{
    const struct page_list *prompt = &s->request->pages;
    if (s->pages.count == 0 && prefix_continues(s)) {
        s->pages.pages[s->pages.count++] = prompt->pages[prompt->count - 1];
        page_pool_hold(&q->pool, s->pages.pages[0]);
    }
    page_list_grow(&s->pages, &q->pool, sequence_pages(s, ahead));
}

static int64_t all_lack(const struct scheduler *q, int32_t ahead)
{
    int64_t n = 0;
    for (int32_t i = 0; i < q->n_running; i++)
        n += lacking(q->running[i], ahead);
    return n;
}

static cohort_status grow_running(struct scheduler *q, int32_t ahead, cohort_error *err)
{
    while (all_lack(q, ahead) > q->pool.n_free) {
        struct sequence *oldest = NULL;
        const struct request *r = oldest_moving(q, &oldest);
        bool done = false;
        TRY(set_back_youngest(q, r, oldest, &done, err));
        assert(done);
    }
    for (int32_t i = 0; i < q->n_running; i++)
        grow(q, q->running[i], ahead);
    return COHORT_OK;
}

/* ---- The rotating window ---- */

/* Pages that a prompt has at this point of its computation: those that its next tokens see, and those that a step may fill. */
static int32_t prompt_due(const struct scheduler *q, const struct request *r)
{
    if (q->kv_pages == 0)
        return r->pages.most;
    const int32_t due = pages_left_out(q->kv_pages, page_chunk(r->n_prefilled)) +
                        scheduler_pages_at_once(q->kv_pages, q->prefill_tokens);
    return due < r->pages.most ? due : r->pages.most;
}

/* What nobody sees any more is given back. A prompt in computation gets as many for what comes next; behind its end it keeps
 * those that the first token behind it sees, since completions may be computed again. */
static cohort_status rotate(struct scheduler *q, cohort_error *err)
{
    for (struct request *r = q->admitted.first; q->kv_pages > 0 && r != NULL; r = r->next) {
        const int32_t at = r->state == REQUEST_ACTIVE ? r->ask.n_prompt : r->n_prefilled;
        page_list_leave_out(&r->pages, &q->pool, 0, pages_left_out(q->kv_pages, page_chunk(at)));
        /* As many as it gave back, of which others may hold some. */
        for (bool more = true;
             more && r->state == REQUEST_PREFILL && prompt_due(q, r) - r->pages.count > q->pool.n_free;) {
            struct sequence *oldest = NULL;
            const struct request *first = oldest_moving(q, &oldest);
            TRY(set_back_youngest(q, first, oldest, &more, err));
        }
        if (r->state == REQUEST_PREFILL)
            page_list_grow(&r->pages, &q->pool, prompt_due(q, r));
    }
    for (int32_t i = 0; q->kv_pages > 0 && i < q->n_running; i++) {
        struct sequence *s = q->running[i];
        const int32_t P = s->request->ask.n_prompt, at = P + s->n_tokens - 1 - s->n_behind;
        page_list_leave_out(&s->pages, &q->pool, page_chunk(P), pages_left_out(q->kv_pages, page_chunk(at)));
    }
    return COHORT_OK;
}

/* ---- Admission ---- */

/* What is known while one step is prepared. */
struct admission {
    int32_t ahead;
    bool open;
    int64_t headroom;      /* pages that those that run are going to want soon */
    int64_t prompt_tokens; /* of admitted requests, not computed yet (soon) */
    int64_t later;         /* completions of admitted requests that have no row */
};

static bool nothing_moves(const struct scheduler *q) { return q->n_running == 0 && q->n_prefill == 0; }

/* Whether that many pages may be taken by one that does not run; with nothing else that gets on, those that wait give up
 * theirs. */
static cohort_status have_pages(struct scheduler *q, const struct admission *a, int64_t pages, const struct request *r,
                                const struct sequence *s, bool *there, cohort_error *err)
{
    *there = q->pool.n_free >= pages + (nothing_moves(q) ? 0 : a->headroom);
    for (bool more = nothing_moves(q); more && !*there; *there = q->pool.n_free >= pages)
        TRY(set_back_youngest(q, r, s, &more, err));
    return COHORT_OK;
}

/* Puts a sequence into running, beside others of its request. */
static void run(struct scheduler *q, struct admission *a, struct sequence *s)
{
    int32_t at = q->n_running;
    while (at > 0 && q->running[at - 1]->request != s->request)
        at--;
    at = at == 0 ? q->n_running : at;
    memmove(q->running + at + 1, q->running + at, (size_t)(q->n_running - at) * sizeof(struct sequence *));
    q->running[at] = s;
    q->n_running++;
    s->state = SEQUENCE_RUNNING;
    prefix_take_own(q, s);
    grow(q, s, a->ahead);
    a->headroom += lacking(s, a->ahead + HEADROOM);
}

/* Those that go on behind a turn, in that order. */
static cohort_status admit_ready(struct scheduler *q, struct admission *a, bool *blocked, cohort_error *err)
{
    while (q->ready.first != NULL && q->n_running < q->max_sequences) {
        struct sequence *s = q->ready.first;
        bool there = false;
        TRY(have_pages(q, a, lacking(s, a->ahead), s->request, s, &there, err));
        if (!there) {
            *blocked = true;
            return COHORT_OK;
        }
        run(q, a, sequence_list_pop(&q->ready));
    }
    return COHORT_OK;
}

/* Pending completions of an active request. */
static cohort_status admit_sequences(struct scheduler *q, struct admission *a, struct request *r, bool *blocked,
                                     cohort_error *err)
{
    for (; r->first_pending < r->ask.n; r->first_pending++) {
        struct sequence *s = &r->sequences[r->first_pending];
        bool there = false;
        if (s->state != SEQUENCE_PENDING)
            continue;
        if (q->n_running < q->max_sequences) /* even where its first page is known and not its prompt's last one */
            TRY(have_pages(q, a, sequence_pages(s, a->ahead), r, s, &there, err));
        if (!there) {
            *blocked = true;
            break;
        }
        run(q, a, s);
    }
    for (int32_t i = r->first_pending; i < r->ask.n; i++)
        a->later += r->sequences[i].state == SEQUENCE_PENDING ? 1 : 0;
    return COHORT_OK;
}

static bool wants_on(const struct request *r)
{
    for (int32_t i = r->first_pending; i < r->ask.n; i++)
        if (r->sequences[i].state == SEQUENCE_PENDING)
            return true;
    return false;
}

/* Tokens of an admitted prompt for which others behind it wait: a long one leaves them some of each step (step.c). */
static int64_t soon(const struct scheduler *q, const struct request *r)
{
    const int64_t left = r->ask.n_prompt - r->n_prefilled, most = q->prefill_tokens / 2 + 1;
    return left < most ? left : most;
}

/* A prompt gets its pages, and those of one completion must be there besides. Prompts are not admitted far ahead of their
 * computation, nor, where pages are short, before there is a row for one of their completions. */
static cohort_status admit_prompt(struct scheduler *q, struct admission *a, struct request *r, bool *there,
                                  cohort_error *err)
{
    const int64_t most = q->kv_pages > 0 ? scheduler_pages_at_once(q->kv_pages, q->prefill_tokens) : r->pages.most,
                  pages = (most < r->pages.most ? most : r->pages.most) + (r->max_tokens > 1 ? 1 : 0);
    const bool row = q->n_running + a->later < q->max_sequences, moves = !nothing_moves(q);
    *there = false;
    if (moves && ((a->prompt_tokens >= 2 * (int64_t)q->prefill_tokens) ||
                  (!row && q->pool.n_free - pages < q->pool.n_pages / SPARE)))
        return COHORT_OK;
    prefix_take_prompt(q, r);
    page_list_leave_out(&r->pages, &q->pool, 0, pages_left_out(q->kv_pages, page_chunk(r->n_prefilled)));
    const int64_t lacks = prompt_due(q, r) - r->pages.count;
    const cohort_status status =
        have_pages(q, a, (lacks > 0 ? lacks : 0) + (r->max_tokens > 1 ? 1 : 0), r, NULL, there, err);
    if (!*there) {
        page_list_release(&r->pages, &q->pool);
        r->n_known = r->n_prefilled = 0;
        return status;
    }
    q->known_tokens += r->n_prefilled;
    page_list_grow(&r->pages, &q->pool, prompt_due(q, r));
    r->state = REQUEST_PREFILL;
    q->n_prefill++;
    a->prompt_tokens += soon(q, r);
    a->later += r->n_unfinished;
    return COHORT_OK;
}

static cohort_status admit_all(struct scheduler *q, struct admission *a, cohort_error *err)
{
    bool blocked = false, there = true;
    if (a->open)
        TRY(admit_ready(q, a, &blocked, err));
    for (struct request *r = q->admitted.first; r != NULL && !blocked; r = r->next) {
        if (r->state == REQUEST_ACTIVE)
            TRY(admit_sequences(q, a, r, &blocked, err));
        else if (r->state == REQUEST_BACK && wants_on(r)) {
            TRY(admit_prompt(q, a, r, &there, err));
            blocked = !there;
        }
    }
    while (q->waiting.first != NULL && !blocked) {
        struct request *r = q->waiting.first;
        TRY(admit_prompt(q, a, r, &there, err));
        blocked = !there;
        if (there) {
            request_list_remove(&q->waiting, r);
            q->n_queued--;
            q->turn = r->turn;
            request_list_append(&q->admitted, r);
        }
    }
    return COHORT_OK;
}

cohort_status admission_run(struct scheduler *q, int32_t ahead, bool open, cohort_error *err)
{
    struct admission a = {.ahead = ahead, .open = open};
    TRY(rotate(q, err));
    TRY(grow_running(q, ahead, err));
    a.headroom = all_lack(q, ahead + HEADROOM);
    for (const struct request *r = q->admitted.first; r != NULL; r = r->next)
        if (r->state == REQUEST_PREFILL) {
            a.prompt_tokens += soon(q, r);
            a.later += r->n_unfinished;
        }
    return admit_all(q, &a, err);
}
