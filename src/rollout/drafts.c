#include "rollout/drafts.h"

#include "backend/ops.h"
#include "base/rng.h"

#include <string.h>

enum {
    MOST_TRUST = DRAFT_TRUSTS - 1,
    /* Entries for each token that pages hold: four lengths, and as much again for what is gone. */
    ENTRIES = 8,
    LEAST_ENTRIES = 1 << 10,
    MOST_ENTRIES = 1 << 22 /* 32 MB */
};

static const int32_t order_length[DRAFT_ORDERS] = {2, 4, 8, 16};
/* Before anything was counted. */
static const float right_at_first[DRAFT_ORDERS] = {0.3f, 0.5f, 0.7f, 0.8f};
/* A draw counts as much as this share of all before. */
static const float right_moves = 1.0f / 32.0f;
/* A row must promise so many times what it costs. */
static const double margin = 1.15;
/* Of all time, what drafts may have lost before they pause. */
static const double loss_borne = 0.005;
/* A step with drafts on a device that has windows, in plain steps, before one was measured. */
static const double verifying_at_first = 1.5;
/* What is taken to be right of a model's drafts before any was tried, and what a draft counts of all before. */
static const double model_right_at_first = 0.7;
enum { MODEL_MEMORY = 64 };
static const double model_step_moves = 0.1;
/* A model's drafts that promise nothing are tried all the same while they have lost less than this share of what may be lost. */
static const double probing = 0.25;
/* Gains of long ago do not pay for losses. */
static const double seconds_remembered = 0.99;

cohort_status drafts_create(struct drafts *d, int32_t most, int64_t n_pages, bool windows, cohort_error *err)
{
    *d = (struct drafts){.most = most, .windows = windows, .model_right = model_right_at_first};
    if (most == 0)
        return COHORT_OK;
    size_t n = LEAST_ENTRIES;
    while (n < MOST_ENTRIES && (int64_t)n < ENTRIES * ATTENTION_CHUNK * n_pages)
        n *= 2;
    TRY(mem_alloc(&d->entries, n, sizeof *d->entries, "drafts", err));
    d->n_entries = n;
    for (int32_t order = 0; order < DRAFT_ORDERS; order++)
        for (int32_t trust = 0; trust < DRAFT_TRUSTS; trust++)
            d->right[order][trust] = right_at_first[order];
    return COHORT_OK;
}

void drafts_free(struct drafts *d)
{
    draft_model_destroy(d->model);
    mem_free(d->most_each);
    mem_free(d->entries);
    memset(d, 0, sizeof *d);
}

/* ---- The table ---- */

/* The place of what stands behind history[0 .. at], looking back so many tokens, in texts behind one prompt. */
static struct draft_entry *place_of(const struct drafts *d, uint64_t scope, const int32_t *history, int32_t at,
                                    int32_t length, uint32_t *check)
{
    uint64_t hash = scope + (uint64_t)length;
    for (int32_t i = at - length; i < at; i++)
        hash = (hash ^ (uint32_t)history[i]) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    *check = (uint32_t)(hash >> 32) | 1u;
    return &d->entries[(hash ^ hash >> 29) & (d->n_entries - 1)];
}

/* The entry that says most about the token at this place; NULL: nothing is known. */
static const struct draft_entry *expected(const struct drafts *d, uint64_t scope, const int32_t *history, int32_t at,
                                          int32_t *order)
{
    for (*order = DRAFT_ORDERS - 1; *order >= 0; --*order) {
        uint32_t check = 0;
        if (at < order_length[*order])
            continue;
        const struct draft_entry *e = place_of(d, scope, history, at, order_length[*order], &check);
        if (e->check == check)
            return e;
    }
    return NULL;
}

/* What was seen once gives way to what is seen now, what was seen often more slowly. */
static void remember(struct drafts *d, uint64_t scope, const int32_t *history, int32_t at)
{
    const uint32_t token = (uint32_t)history[at];
    for (int32_t order = 0; order < DRAFT_ORDERS && order_length[order] <= at; order++) {
        uint32_t check = 0;
        struct draft_entry *e = place_of(d, scope, history, at, order_length[order], &check);
        if (e->check != check || (e->token != token && e->trust < 2)) {
            e->check = check;
            e->token = token & 0xfffffffu;
            e->trust = 0;
        } else if (e->token != token) {
            e->trust = (e->trust - 2u) & MOST_TRUST;
        } else if (e->trust < MOST_TRUST) {
            e->trust = (e->trust + 1u) & MOST_TRUST;
        }
    }
}

void drafts_know_prompt(struct drafts *d, const struct request *r)
{
    for (int32_t at = order_length[0]; d->most > 0 && at < r->ask.n_prompt; at++)
        remember(d, r->scope, r->prompt, at);
}

void drafts_know(struct drafts *d, const struct sequence *s, int32_t n, bool drawn)
{
    const uint64_t scope = s->request->scope;
    const int32_t end = s->request->ask.n_prompt + s->n_tokens;
    for (int32_t at = end - n; d->most > 0 && at < end; at++) {
        int32_t order = 0;
        const struct draft_entry *e = drawn ? expected(d, scope, s->history, at, &order) : NULL;
        if (e != NULL) {
            float *right = &d->right[order][e->trust];
            *right += right_moves * ((e->token == (uint32_t)s->history[at] ? 1.0f : 0.0f) - *right);
        }
        remember(d, scope, s->history, at);
    }
}

/* ---- What is worth a row ---- */

/* What a step is expected to be. */
struct outlook {
    struct step_line line;
    double tokens, rows;
};

/* Drafts for one completion, most of them, which its length leaves room for. */
static int32_t draft(const struct drafts *d, struct sequence *s, struct outlook *o, int32_t most)
{
    const struct request *r = s->request;
    const int32_t end = r->ask.n_prompt + s->n_tokens;
    int32_t n = 0, order = 0;
    double chance = 1.0;
    for (; n < most; n++) {
        const struct draft_entry *e = expected(d, r->scope, s->history, end + n, &order);
        if (e == NULL)
            break;
        chance *= (double)d->right[order][e->trust];
        if (chance * step_line_at(&o->line, o->rows) < margin * o->line.row * o->tokens)
            break;
        s->history[end + n] = (int32_t)e->token;
        o->tokens += chance;
        o->rows += 1.0;
    }
    return n;
}

static int32_t most_of(const struct drafts *d, const struct sequence *s, int32_t room)
{
    const int32_t left = s->n_behind > 0 ? 0 : s->request->max_tokens - s->n_tokens - 1,
                  most = d->most < room ? d->most : room;
    return left < most ? left : most;
}

static void place_guesses(struct drafts *d, struct sequence **running, int32_t n_running, int32_t room)
{
    for (int32_t i = 0; i < n_running; i++) {
        struct sequence *s = running[i];
        const int32_t most = most_of(d, s, room - d->n_drafted), end = s->request->ask.n_prompt + s->n_tokens;
        if (most > 0)
            s->n_drafted =
                d->guess(d->guess_context, s->request->id, s->index, s->history, end, s->history + end, most);
        d->n_drafted += s->n_drafted;
    }
}

/* What was seen before. */
static void place_known(struct drafts *d, struct sequence **running, int32_t n_running, int32_t room)
{
    struct step_line plain;
    if (d->most == 0 || d->n_decoding == 0 || !step_cost_line(&d->plain, &plain) || d->lost > loss_borne * d->spent)
        return;
    const double n = d->n_decoding, seconds = step_line_at(&plain, n);
    struct outlook o = {.line = plain, .tokens = n, .rows = n};
    if (d->windows && !step_cost_line(&d->verifying, &o.line))
        o.line = (struct step_line){.fixed = verifying_at_first * seconds - plain.row * n, .row = plain.row};
    for (int32_t i = 0; i < n_running; i++) {
        struct sequence *s = running[i];
        s->n_drafted = draft(d, s, &o, most_of(d, s, room - d->n_drafted));
        d->n_drafted += s->n_drafted;
    }
    if (d->windows && o.tokens * seconds < margin * n * step_line_at(&o.line, o.rows)) {
        for (int32_t i = 0; i < n_running; i++)
            running[i]->n_drafted = 0;
        d->n_drafted = 0;
    }
}

void drafts_forget(struct drafts *d, const struct sequence *s)
{
    if (d->model != NULL)
        draft_model_forget(d->model, s);
}

/* ---- A model's drafts ---- */

/* Of n completions, how many times as many tokens a second a step gives where each has k drafts. */
static double model_gain(const struct drafts *d, const struct step_line *plain, const struct step_line *line, double n,
                         int32_t k)
{
    double tokens = 1.0, chance = 1.0;
    for (int32_t i = 0; i < k; i++)
        tokens += chance *= d->model_right;
    const double seconds = step_line_at(line, n * (double)(k + 1)) + (double)k * d->model_step;
    return tokens * step_line_at(plain, n) / seconds;
}

/* How many drafts for each promise the most; 0: none promise anything, and there is nothing to lose in a try. */
static int32_t model_depth(const struct drafts *d, const struct step_line *plain)
{
    struct step_line line = *plain;
    double best = 1.0;
    int32_t depth = 0;
    if (d->windows && !step_cost_line(&d->verifying, &line))
        line.fixed = verifying_at_first * step_line_at(plain, d->n_decoding) - plain->row * d->n_decoding;
    for (int32_t k = 1; k <= d->most; k++) {
        const double gain = model_gain(d, plain, &line, d->n_decoding, k);
        depth = gain > best ? k : depth;
        best = gain > best ? gain : best;
    }
    return depth > 0 ? depth : d->lost < probing * loss_borne * d->spent ? 1 : 0;
}

/* What was tried of its last drafts. */
static void learn_right(struct drafts *d)
{
    const double tried = (double)(d->drafted - d->tried), hit = (double)(d->accepted - d->hit);
    const double share = tried < MODEL_MEMORY ? tried / MODEL_MEMORY : 1.0;
    if (tried > 0)
        d->model_right += share * (hit / tried - d->model_right);
    d->tried = d->drafted;
    d->hit = d->accepted;
}

static cohort_status place_model(struct drafts *d, struct sequence **running, int32_t n_running, int32_t room,
                                 int32_t vocab, cohort_error *err)
{
    const bool always = draft_model_always(d->model);
    struct step_line plain;
    double each = 0.0;
    learn_right(d);
    if (!always && (!step_cost_line(&d->plain, &plain) || d->lost > loss_borne * d->spent))
        return COHORT_OK;
    const int32_t depth = always ? d->most : model_depth(d, &plain);
    if (depth == 0)
        return COHORT_OK;
    TRY(mem_grow(&d->most_each, &d->most_room, (size_t)n_running, sizeof *d->most_each, "drafts", err));
    for (int32_t i = 0, left = room; i < n_running; i++) {
        const int32_t most = most_of(d, running[i], left), take = most < depth ? most : depth;
        d->most_each[i] = take > 0 ? take : 0;
        left -= d->most_each[i];
    }
    const double start = draft_model_seconds(d->model, &each);
    TRY(draft_model_place(d->model, running, d->most_each, n_running, vocab, err));
    d->model_seconds = draft_model_seconds(d->model, &each) - start;
    d->model_step = d->model_step == 0.0 ? each : d->model_step + model_step_moves * (each - d->model_step);
    for (int32_t i = 0; i < n_running; i++)
        d->n_drafted += running[i]->n_drafted;
    return COHORT_OK;
}

cohort_status drafts_place(struct drafts *d, struct sequence **running, int32_t n_running, int32_t room, int32_t vocab,
                           bool alone, bool *placed, cohort_error *err)
{
    d->n_decoding = d->n_drafted = 0;
    d->model_seconds = 0.0;
    for (int32_t i = 0; i < n_running; i++) {
        running[i]->n_drafted = 0;
        d->n_decoding += running[i]->n_behind == 0 ? 1 : 0;
    }
    if (d->guess != NULL)
        place_guesses(d, running, n_running, room);
    else if (d->model != NULL && (alone || draft_model_always(d->model)) && d->n_decoding > 0)
        TRY(place_model(d, running, n_running, room, vocab, err));
    else if (d->model == NULL)
        place_known(d, running, n_running, room);
    *placed = d->n_drafted > 0;
    return COHORT_OK;
}

void drafts_measure(struct drafts *d, int32_t rows, int64_t tokens, double seconds)
{
    struct step_line plain;
    if (d->most == 0 || rows == 0)
        return;
    d->spent = seconds_remembered * d->spent + seconds + d->model_seconds;
    d->lost *= seconds_remembered;
    if (d->n_drafted == 0)
        d->lost += d->model_seconds;
    if (d->n_drafted > 0 && step_cost_line(&d->plain, &plain)) {
        const double n = d->n_decoding, each = step_line_at(&plain, n) / n;
        d->lost += seconds + d->model_seconds - (double)tokens * each;
        if (d->lost < -loss_borne * d->spent)
            d->lost = -loss_borne * d->spent;
    }
    step_cost_add(d->n_drafted > 0 && d->windows ? &d->verifying : &d->plain, rows, seconds);
}
