#include "rollout/draft_model.h"

#include "rollout/sequence.h"

#include <string.h>

/* A completion and who drafts for it. */
struct pair {
    int64_t request; /* the completion's */
    int32_t index;
    int64_t drafting; /* the request of the drafts' engine; -1: nobody can draft for it */
    int32_t most;     /* tokens that it may come to */
    bool rests;       /* it waits at the end of a turn */
};

struct draft_model {
    struct engine *engine;
    int32_t vocab;
    bool always;
    struct pair *pairs;
    size_t n_pairs, capacity;
    struct draft_costs costs;
};

cohort_status draft_model_create(struct draft_model **out, struct engine *engine, int32_t vocab, bool always,
                                 cohort_error *err)
{
    TRY(mem_alloc(out, 1, sizeof **out, "draft model", err));
    **out = (struct draft_model){.engine = engine, .vocab = vocab, .always = always};
    return COHORT_OK;
}

void draft_model_destroy(struct draft_model *m)
{
    if (m == NULL)
        return;
    mem_free(m->pairs);
    mem_free(m);
}

bool draft_model_always(const struct draft_model *m) { return m->always; }

struct draft_costs draft_model_costs(const struct draft_model *m) { return m->costs; }

static struct pair *find(const struct draft_model *m, const struct sequence *s)
{
    for (size_t i = 0; i < m->n_pairs; i++)
        if (m->pairs[i].request == s->request->id && m->pairs[i].index == s->index)
            return &m->pairs[i];
    return NULL;
}

enum draft_standing draft_model_standing(const struct draft_model *m, const struct sequence *s)
{
    const struct pair *pair = find(m, s);
    return pair == NULL ? DRAFT_NEW : pair->drafting < 0 ? DRAFT_NEVER : DRAFT_BEGUN;
}

void draft_model_forget(struct draft_model *m, const struct sequence *s)
{
    struct pair *pair = find(m, s);
    if (pair == NULL)
        return;
    if (pair->drafting >= 0)
        engine_cancel(m->engine, pair->drafting);
    *pair = m->pairs[--m->n_pairs];
}

/* The same draws of the same prompt; what only looks at results, or changes them by a function, is left out: it can make a
 * draft wrong. What ends the completion ends a turn. */
static struct engine_request same_draws(const struct draft_model *m, const struct sequence *s, int32_t vocab)
{
    const struct request *r = s->request;
    const int32_t choosable = request_choosable(r, vocab);
    struct engine_request ask = r->ask;
    ask.n = 1;
    ask.first_index = s->index;
    ask.max_tokens = r->max_tokens;
    ask.n_eos = r->ask.n_eos + r->ask.n_stop_ids;
    ask.n_stop_ids = ask.n_stop = ask.n_top = ask.wears = 0;
    ask.n_choosable = choosable < m->vocab ? choosable : m->vocab;
    ask.constraints = NULL;
    ask.process = NULL;
    ask.prompt_logp = false;
    ask.logp_temperature = 0;
    ask.repetition = (struct repeat_limit){0};
    ask.turns = true;
    ask.pause = 1;
    return ask;
}

/* What cannot be drafted for (its prompt is longer than the drafts' context, an id is none of theirs) goes without. */
static cohort_status begin(struct draft_model *m, const struct sequence *s, int32_t vocab, cohort_error *err)
{
    struct pair pair = {.request = s->request->id, .index = s->index, .drafting = -1};
    const struct engine_request ask = same_draws(m, s, vocab);
    TRY(mem_grow(&m->pairs, &m->capacity, m->n_pairs + 1, sizeof *m->pairs, "drafts", err));
    if (ask.vectors != NULL || ask.max_tokens < 3 || engine_submit(m->engine, &ask, &pair.drafting, NULL) != COHORT_OK)
        pair.drafting = -1;
    m->pairs[m->n_pairs++] = pair;
    return COHORT_OK;
}

static struct pair *drafting(const struct draft_model *m, int64_t request)
{
    for (size_t i = 0; i < m->n_pairs; i++)
        if (m->pairs[i].drafting == request)
            return &m->pairs[i];
    return NULL;
}

/* Takes what ended: turns, and requests that are over although they should not be. */
static void take_turns(struct draft_model *m)
{
    struct engine_turn turn;
    struct completion over;
    while (engine_poll_turn(m->engine, &turn)) {
        struct pair *pair = drafting(m, turn.request);
        if (pair == NULL)
            continue;
        pair->rests = true;
        pair->most = turn.n_tokens + turn.room;
    }
    while (engine_poll(m->engine, &over)) {
        struct pair *pair = drafting(m, over.request);
        if (pair != NULL)
            pair->drafting = -1;
        completion_free(&over);
    }
}

/* Steps until all rest that can. */
static cohort_status run(struct draft_model *m, cohort_error *err)
{
    for (bool busy = true, rest = false; busy && !rest;) {
        TRY(engine_step(m->engine, &busy, err));
        take_turns(m);
        rest = true;
        for (size_t i = 0; i < m->n_pairs; i++)
            rest = rest && (m->pairs[i].drafting < 0 || m->pairs[i].rests);
    }
    return COHORT_OK;
}

static cohort_status on_track(struct draft_model *m, const struct sequence *s, struct pair *pair, int32_t most,
                              cohort_error *err)
{
    const int32_t room = pair->most - 1 - s->n_tokens, ahead = most < room ? most : room;
    if (!pair->rests || ahead < 1)
        return COHORT_OK;
    if (engine_retrace(m->engine, pair->drafting, s->index, s->history + s->request->ask.n_prompt, s->n_tokens, ahead,
                       err) == COHORT_ERR_ARGUMENT) { /* an id that is none of theirs */
        engine_cancel(m->engine, pair->drafting);
        pair->drafting = -1;
        return COHORT_OK;
    }
    pair->rests = false;
    return COHORT_OK;
}

/* What was drafted behind a completion's tokens. */
static void take_drafts(const struct draft_model *m, struct sequence *s, const struct pair *pair, int32_t most)
{
    int32_t *own = s->history + s->request->ask.n_prompt;
    const int32_t *drafts = NULL;
    const int32_t n = engine_waiting_tokens(m->engine, pair->drafting, s->index, &drafts) - s->n_tokens;
    for (; s->n_drafted < n && s->n_drafted < most; s->n_drafted++)
        own[s->n_tokens + s->n_drafted] = drafts[s->n_tokens + s->n_drafted];
}

cohort_status draft_model_place(struct draft_model *m, struct sequence **running, const int32_t *most, int32_t n,
                                int32_t vocab, cohort_error *err)
{
    bool fresh = false;
    int32_t longest = 1;
    for (int32_t i = 0; i < n; i++)
        if (most[i] > 0 && find(m, running[i]) == NULL) {
            TRY(begin(m, running[i], vocab, err));
            fresh = true;
        }
    if (fresh) {
        const struct engine_stats before = engine_stats(m->engine);
        TRY(run(m, err));
        const struct engine_stats behind = engine_stats(m->engine);
        const double seconds = behind.seconds - before.seconds;
        m->costs.beginning += seconds;
        if (behind.rows > before.rows)
            m->costs.row = seconds / (double)(behind.rows - before.rows);
    }
    for (int32_t i = 0; i < n; i++)
        if (most[i] > 0) {
            TRY(on_track(m, running[i], find(m, running[i]), most[i], err));
            longest = most[i] > longest ? most[i] : longest;
        }
    const double start = engine_stats(m->engine).seconds;
    TRY(run(m, err));
    m->costs.all = engine_stats(m->engine).seconds;
    m->costs.each = (m->costs.all - start) / (double)longest;
    for (int32_t i = 0; i < n; i++) {
        const struct pair *pair = most[i] > 0 ? find(m, running[i]) : NULL;
        if (pair != NULL && pair->rests)
            take_drafts(m, running[i], pair, most[i]);
    }
    return COHORT_OK;
}
