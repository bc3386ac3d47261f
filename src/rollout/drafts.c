#include "rollout/drafts.h"

#include "backend/ops.h"
#include "base/rng.h"

#include <math.h>
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
/* Of each step's time, what it pays of debts, and of the time of the last steps, what may be lost without one. */
static const double loss_borne = 0.01;
/* A step with drafts on a device that has windows, in plain steps, before one was measured. */
static const double verifying_at_first = 1.5;
/* What is taken to be right of a model's drafts before any was tried, what a draft counts of all before, and how many are
 * tried of one completion. */
static const double model_right_at_first = 0.7;
enum { MODEL_MEMORY = 32, MODEL_TRIAL = 16 };
/* Behind so many steps its costs may be others than they were. */
enum { MODEL_RESTS = 2000 };
/* The time of steps is remembered so, and what was gained. */
static const double seconds_remembered = 0.99;
static const double length_moves = 0.125;

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

cohort_status drafts_use_model(struct drafts *d, struct draft_model *model, int32_t max_sequences, cohort_error *err)
{
    d->model = model;
    return mem_alloc(&d->most_each, (size_t)max_sequences, sizeof *d->most_each, "drafts", err);
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

/* What a model or a caller guesses needs no table. */
static bool has_table(const struct drafts *d) { return d->most > 0 && d->model == NULL && d->guess == NULL; }

void drafts_know_prompt(struct drafts *d, const struct request *r)
{
    for (int32_t at = order_length[0]; has_table(d) && at < r->ask.n_prompt; at++)
        remember(d, r->scope, r->prompt, at);
}

void drafts_know(struct drafts *d, const struct sequence *s, int32_t n, bool drawn)
{
    const uint64_t scope = s->request->scope;
    const int32_t end = s->request->ask.n_prompt + s->n_tokens;
    for (int32_t at = end - n; has_table(d) && at < end; at++) {
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
    if (d->most == 0 || d->n_decoding == 0 || !step_cost_line(&d->plain, &plain) || d->lost > 0.0)
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
    const double tokens = s->n_tokens;
    d->length = d->length == 0.0 ? tokens : d->length + length_moves * (tokens - d->length);
    if (d->model != NULL)
        draft_model_forget(d->model, s);
}

/* ---- A model's drafts ---- */

/* How many times as many tokens a second a step gives where so many of its completions have k drafts each, of which this
 * share is right. */
static double model_gain(const struct drafts *d, const struct step_line *plain, const struct step_line *line,
                         double right, double drafted_for, int32_t k)
{
    const double n = d->n_decoding;
    struct step_line drafting = {0};
    double tokens = n, chance = drafted_for;
    (void)step_cost_line(&d->model_steps, &drafting);
    for (int32_t i = 0; i < k; i++)
        tokens += chance *= right;
    const double seconds =
        step_line_at(line, n + drafted_for * (double)k) + (double)k * step_line_at(&drafting, drafted_for);
    return tokens * step_line_at(plain, n) / (n * seconds);
}

/* How many drafts for each of so many promise the most, *gain times as many tokens a second; 0: none promise anything. */
static int32_t model_depth(const struct drafts *d, const struct step_line *plain, double right, int32_t drafted_for,
                           double *gain)
{
    struct step_line line = *plain;
    int32_t depth = 0;
    *gain = 1.0;
    if (d->windows && !step_cost_line(&d->verifying, &line))
        line.fixed = verifying_at_first * step_line_at(plain, d->n_decoding) - plain->row * d->n_decoding;
    for (int32_t k = 1; k <= d->most && drafted_for > 0; k++) {
        const double times = model_gain(d, plain, &line, right, drafted_for, k);
        depth = times > *gain ? k : depth;
        *gain = times > *gain ? times : *gain;
    }
    return depth;
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

/* Whether a completion that the model does not know is expected to last until its text was worth computing. */
static bool worth_beginning(const struct drafts *d, const struct sequence *s, const struct step_line *plain,
                            double gain)
{
    const double left = s->request->max_tokens - s->n_tokens,
                 usual = d->length > 0.0 && d->length < left ? d->length : left,
                 each = step_line_at(plain, d->n_decoding) / d->n_decoding,
                 cost = draft_model_costs(d->model).row * (double)(s->request->ask.n_prompt + s->n_tokens);
    return s->n_behind == 0 && usual * each * (1.0 - 1.0 / gain) > margin * cost;
}

/* The completion whose drafts are tried: one that the model knows, or where it may begin the first; -1: none. */
static int32_t tried_one(const struct drafts *d, struct sequence *const *running, int32_t n_running)
{
    int32_t first = -1;
    for (int32_t i = 0; i < n_running; i++) {
        const enum draft_standing standing = draft_model_standing(d->model, running[i]);
        if (standing == DRAFT_BEGUN && running[i]->n_behind == 0)
            return i;
        if (first < 0 && standing == DRAFT_NEW && running[i]->n_behind == 0 && d->invested <= 0.0)
            first = i;
    }
    return first;
}

/* Drafts for those that the model knows, and for others where there is no investment that was not gained back; false: they
 * promise nothing. */
static bool choose_all(struct drafts *d, struct sequence *const *running, int32_t n_running,
                       const struct step_line *plain)
{
    double gain = 1.0;
    const bool invests = d->invested <= 0.0 && model_depth(d, plain, d->model_right, d->n_decoding, &gain) > 0;
    int32_t n = 0;
    for (int32_t i = 0; i < n_running; i++) {
        const enum draft_standing standing = draft_model_standing(d->model, running[i]);
        const bool drafts = (standing == DRAFT_BEGUN && running[i]->n_behind == 0) ||
                            (standing == DRAFT_NEW && invests && worth_beginning(d, running[i], plain, gain));
        d->most_each[i] = drafts ? 1 : 0;
        n += drafts ? 1 : 0;
    }
    const int32_t depth = model_depth(d, plain, d->model_right, n, &gain);
    for (int32_t i = 0; i < n_running; i++)
        d->most_each[i] *= depth;
    return depth > 0;
}

/* Drafts that promise nothing are tried for one completion; false: not now. */
static bool choose_one(struct drafts *d, struct sequence *const *running, int32_t n_running,
                       const struct step_line *plain, bool tried)
{
    double gain = 1.0;
    if (d->trial == 0 && tried && d->lost > -0.75 * loss_borne * d->spent)
        return false;
    const bool may_pay = !tried || d->idle > MODEL_RESTS || model_depth(d, plain, 1.0, d->n_decoding, &gain) > 0;
    const int32_t one = may_pay ? tried_one(d, running, n_running) : -1;
    if (d->trial > 0 &&
        (--d->trial == 0 || one < 0)) { /* it was not enough: what was gained before pays for no other */
        d->trial = 0;
        d->lost = d->lost > 0.0 ? d->lost : 0.0;
        d->invested = d->invested > 0.0 ? d->invested : 0.0;
        return false;
    }
    if (one < 0)
        return false;
    d->trial = d->trial > 0 ? d->trial : MODEL_TRIAL;
    for (int32_t i = 0; i < n_running; i++)
        d->most_each[i] = i == one ? 1 : 0;
    return true;
}

/* Who is drafted for, and how much; false: nobody. */
static bool choose_each(struct drafts *d, struct sequence *const *running, int32_t n_running)
{
    struct step_line plain, drafting;
    const bool tried = step_cost_line(&d->model_steps, &drafting);
    if (!step_cost_line(&d->plain, &plain))
        return false;
    if (!tried || d->lost > 0.0 || !choose_all(d, running, n_running, &plain))
        return choose_one(d, running, n_running, &plain, tried);
    d->trial = 0;
    return true;
}

static cohort_status place_model(struct drafts *d, struct sequence **running, int32_t n_running, int32_t room,
                                 int32_t vocab, cohort_error *err)
{
    const bool always = draft_model_always(d->model);
    int32_t n = 0;
    learn_right(d);
    d->idle += d->idle < INT32_MAX ? 1 : 0;
    for (int32_t i = 0; i < n_running; i++)
        d->most_each[i] = d->most;
    if (!always && !choose_each(d, running, n_running))
        return COHORT_OK;
    for (int32_t i = 0, left = room; i < n_running; i++) {
        const int32_t most = most_of(d, running[i], left), take = most < d->most_each[i] ? most : d->most_each[i];
        d->most_each[i] = take > 0 ? take : 0;
        left -= d->most_each[i];
        n += d->most_each[i] > 0 ? 1 : 0;
    }
    if (n == 0)
        return COHORT_OK;
    const struct draft_costs before = draft_model_costs(d->model);
    TRY(draft_model_place(d->model, running, d->most_each, n_running, vocab, err));
    const struct draft_costs costs = draft_model_costs(d->model);
    d->idle = 0;
    d->invested += costs.beginning - before.beginning;
    d->model_seconds = costs.all - before.all - (costs.beginning - before.beginning);
    (void)step_cost_add(&d->model_steps, n, costs.each);
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

/* A step pays of debts; without any, it adds to what may be lost, up to a share of the last steps' time. What was gained
 * beyond investments fades. */
static void pay(struct drafts *d, double seconds)
{
    const double free = -loss_borne * d->spent, pays = loss_borne * seconds, due = d->lost - free,
                 paid = due > pays  ? pays
                        : due > 0.0 ? due
                                    : 0.0;
    d->lost -= paid;
    d->invested -= d->invested > 0.0 ? pays - paid : 0.0;
    if (d->invested < 0.0)
        d->invested *= seconds_remembered;
}

void drafts_measure(struct drafts *d, int32_t rows, int64_t tokens, double seconds)
{
    struct step_line plain;
    if (d->most == 0 || rows == 0)
        return;
    const bool known = step_cost_line(&d->plain, &plain);
    seconds = step_cost_add(d->n_drafted > 0 && d->windows ? &d->verifying : &d->plain, rows, seconds);
    d->spent = seconds_remembered * d->spent + seconds + d->model_seconds;
    pay(d, seconds + d->model_seconds);
    double loss = d->model_seconds;
    if (d->n_drafted > 0 && known)
        loss += seconds - (double)tokens * step_line_at(&plain, d->n_decoding) / d->n_decoding;
    const double least = -loss_borne * d->spent;
    d->lost = d->lost + loss > least ? d->lost + loss : least;
    if (d->model != NULL && loss < 0.0)
        d->invested = d->invested + loss > -d->spent ? d->invested + loss : -d->spent;
}
