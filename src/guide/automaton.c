#include "guide/automaton.h"

#include "base/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- Building ---- */

static bool room(struct nfa *nfa, void *array, size_t *capacity, size_t wanted, size_t size)
{
    if (nfa->status == COHORT_OK)
        nfa->status = mem_grow(array, capacity, wanted, size, "grammar", &nfa->problem);
    return nfa->status == COHORT_OK;
}

uint32_t nfa_state(struct nfa *nfa) { return nfa->status == COHORT_OK ? nfa->n_states++ : 0; }

void nfa_edge(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    if (nfa->status == COHORT_OK && nfa->n_edges >= NFA_MOST_EDGES)
        nfa->status = error_set(&nfa->problem, COHORT_ERR_UNSUPPORTED,
                                "one rule would need more than %d edges: lower the counts of its repetitions",
                                (int)NFA_MOST_EDGES);
    if (room(nfa, &nfa->edges, &nfa->edge_capacity, nfa->n_edges + 1, sizeof *nfa->edges))
        nfa->edges[nfa->n_edges++] = (struct range_edge){from, lo, hi, to};
}

void nfa_skip(struct nfa *nfa, uint32_t from, uint32_t to) { nfa_edge(nfa, from, NFA_NOTHING, NFA_NOTHING, to); }

uint32_t nfa_bytes(struct nfa *nfa, uint32_t from, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const uint32_t to = nfa_state(nfa), byte = (unsigned char)bytes[i];
        nfa_edge(nfa, from, byte, byte, to);
        from = to;
    }
    return from;
}

/* Code points whose encodings have the same length: split until all bytes but one leading run of ranges agree. */
static void utf8_range(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    for (uint32_t shift = 6; shift <= 18; shift += 6) {
        const uint32_t mask = (1u << shift) - 1;
        if ((lo & ~mask) == (hi & ~mask))
            break;
        if ((lo & mask) != 0) {
            utf8_range(nfa, from, lo, lo | mask, to);
            utf8_range(nfa, from, (lo | mask) + 1, hi, to);
            return;
        }
        if ((hi & mask) != mask) {
            utf8_range(nfa, from, lo, (hi & ~mask) - 1, to);
            utf8_range(nfa, from, hi & ~mask, hi, to);
            return;
        }
    }
    char low[4], high[4];
    const size_t n = utf8_encode(lo, low);
    (void)utf8_encode(hi, high);
    for (size_t i = 0; i < n; i++) {
        const uint32_t next = i + 1 < n ? nfa_state(nfa) : to;
        nfa_edge(nfa, from, (unsigned char)low[i], (unsigned char)high[i], next);
        from = next;
    }
}

void nfa_utf8(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const uint32_t parts[][2] = {
        {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const uint32_t a = lo > parts[i][0] ? lo : parts[i][0], b = hi < parts[i][1] ? hi : parts[i][1];
        if (a <= b)
            utf8_range(nfa, from, a, b, to);
    }
}

cohort_status nfa_check(const struct nfa *nfa, cohort_error *err)
{
    return nfa->status == COHORT_OK ? COHORT_OK : error_set(err, nfa->status, "%s", nfa->problem.message);
}

void nfa_free(struct nfa *nfa)
{
    mem_free(nfa->edges);
    memset(nfa, 0, sizeof *nfa);
}

void automaton_free(struct automaton *automaton)
{
    mem_free(automaton->first);
    mem_free(automaton->edges);
    mem_free(automaton->accepts);
    memset(automaton, 0, sizeof *automaton);
}

/* ---- Automata under construction: edges in any order, then sorted into place and trimmed ---- */

struct draft {
    struct range_edge *edges;
    size_t n_edges, edge_capacity;
    bool *accepts;
    size_t n_states, state_capacity;
};

static void draft_free(struct draft *draft)
{
    mem_free(draft->edges);
    mem_free(draft->accepts);
}

static cohort_status draft_state(struct draft *draft, bool accepts, cohort_error *err)
{
    TRY(mem_grow(&draft->accepts, &draft->state_capacity, draft->n_states + 1, sizeof *draft->accepts, "automaton",
                 err));
    draft->accepts[draft->n_states++] = accepts;
    return COHORT_OK;
}

static cohort_status draft_edge(struct draft *draft, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to,
                                cohort_error *err)
{
    TRY(mem_grow(&draft->edges, &draft->edge_capacity, draft->n_edges + 1, sizeof *draft->edges, "automaton", err));
    draft->edges[draft->n_edges++] = (struct range_edge){from, lo, hi, to};
    return COHORT_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct range_edge *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    if (x->lo != y->lo)
        return x->lo < y->lo ? -1 : 1;
    if (x->to != y->to)
        return x->to < y->to ? -1 : 1;
    return (x->hi > y->hi) - (x->hi < y->hi);
}

static int by_target(const void *a, const void *b)
{
    const struct range_edge *x = a, *y = b;
    return (x->to > y->to) - (x->to < y->to);
}

/* marks[q] gains bit where a marked state leads (forwards) or from where a marked one is reached (backwards). The edges
 * are sorted by the end that is followed. */
static cohort_status spread(const struct draft *draft, bool forwards, unsigned char *marks, unsigned char bit,
                            cohort_error *err)
{
    uint32_t *todo = NULL, *first = NULL;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&todo, draft->n_states + 1, sizeof *todo, "automaton", err));
    TRY_GOTO(mem_alloc(&first, draft->n_states + 2, sizeof *first, "automaton", err));
    for (size_t i = 0; i < draft->n_edges; i++)
        first[(forwards ? draft->edges[i].from : draft->edges[i].to) + 1]++;
    for (size_t q = 0; q < draft->n_states; q++)
        first[q + 1] += first[q];
    for (uint32_t q = 0; q < draft->n_states; q++)
        if ((marks[q] & bit) != 0)
            todo[n++] = q;
    while (n > 0) {
        const uint32_t q = todo[--n];
        for (uint32_t i = first[q]; i < first[q + 1]; i++) {
            const uint32_t other = forwards ? draft->edges[i].to : draft->edges[i].from;
            if ((marks[other] & bit) == 0) {
                marks[other] |= bit;
                todo[n++] = other;
            }
        }
    }
cleanup:
    mem_free(todo);
    mem_free(first);
    return status;
}

/* State 0 is the start. What is not reached, or leads nowhere, is left out. */
static cohort_status draft_finish(struct draft *draft, struct automaton *out, cohort_error *err)
{
    enum { REACHED = 1, USEFUL = 2, BOTH = 3 };
    unsigned char *marks = NULL;
    uint32_t *number = NULL;
    size_t kept = 0;
    cohort_status status = COHORT_OK;
    memset(out, 0, sizeof *out);
    TRY_GOTO(mem_alloc(&marks, draft->n_states + 1, 1, "automaton", err));
    TRY_GOTO(mem_alloc(&number, draft->n_states + 1, sizeof *number, "automaton", err));
    for (size_t q = 0; q < draft->n_states; q++)
        marks[q] = draft->accepts[q] ? USEFUL : 0;
    if (draft->n_states > 0)
        marks[0] |= REACHED;
    if (draft->n_edges > 0)
        qsort(draft->edges, draft->n_edges, sizeof *draft->edges, by_target);
    TRY_GOTO(spread(draft, false, marks, USEFUL, err));
    if (draft->n_edges > 0)
        qsort(draft->edges, draft->n_edges, sizeof *draft->edges, by_place);
    TRY_GOTO(spread(draft, true, marks, REACHED, err));
    for (size_t q = 0; q < draft->n_states; q++)
        if (marks[q] == BOTH)
            number[q] = out->n_states++;
    if (out->n_states == 0 || marks[0] != BOTH) {
        out->n_states = 0;
        goto cleanup;
    }
    for (size_t i = 0; i < draft->n_edges; i++)
        kept += marks[draft->edges[i].from] == BOTH && marks[draft->edges[i].to] == BOTH;
    TRY_GOTO(mem_alloc(&out->first, (size_t)out->n_states + 1, sizeof *out->first, "automaton", err));
    TRY_GOTO(mem_alloc(&out->edges, kept, sizeof *out->edges, "automaton", err));
    TRY_GOTO(mem_alloc(&out->accepts, out->n_states, sizeof *out->accepts, "automaton", err));
    for (size_t q = 0; q < draft->n_states; q++)
        if (marks[q] == BOTH)
            out->accepts[number[q]] = draft->accepts[q];
    kept = 0;
    for (size_t i = 0; i < draft->n_edges; i++) {
        const struct range_edge *e = &draft->edges[i];
        if (marks[e->from] != BOTH || marks[e->to] != BOTH)
            continue;
        out->edges[kept++] = (struct range_edge){number[e->from], e->lo, e->hi, number[e->to]};
        out->first[number[e->from] + 1]++;
    }
    for (uint32_t q = 0; q < out->n_states; q++)
        out->first[q + 1] += out->first[q];
cleanup:
    if (status != COHORT_OK)
        automaton_free(out);
    mem_free(marks);
    mem_free(number);
    return status;
}

/* ---- Sets of states by number ---- */

struct sets {
    uint32_t *members;
    size_t n_members, member_capacity;
    struct set {
        size_t at;
        uint32_t n;
    } * list;
    size_t n, capacity;
    uint32_t *slots; /* number + 1, open addressing */
    size_t n_slots;
};

static void sets_free(struct sets *sets)
{
    mem_free(sets->members);
    mem_free(sets->list);
    mem_free(sets->slots);
}

static uint64_t hash_members(const uint32_t *members, size_t n)
{
    uint64_t hash = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ members[i]) * 0x100000001b3u + (hash >> 29);
    return hash ^ hash >> 32;
}

static cohort_status sets_grow(struct sets *sets, cohort_error *err)
{
    const size_t n_slots = sets->n_slots == 0 ? 256 : sets->n_slots * 4;
    uint32_t *slots = NULL;
    TRY(mem_alloc(&slots, n_slots, sizeof *slots, "automaton", err));
    for (size_t i = 0; i < sets->n; i++) {
        size_t at = (size_t)hash_members(sets->members + sets->list[i].at, sets->list[i].n) & (n_slots - 1);
        while (slots[at] != 0)
            at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    mem_free(sets->slots);
    sets->slots = slots;
    sets->n_slots = n_slots;
    return COHORT_OK;
}

/* The number of an ascending set. */
static cohort_status sets_number(struct sets *sets, const uint32_t *members, size_t n, uint32_t *number,
                                 cohort_error *err)
{
    if (2 * (sets->n + 1) > sets->n_slots)
        TRY(sets_grow(sets, err));
    size_t at = (size_t)hash_members(members, n) & (sets->n_slots - 1);
    for (; sets->slots[at] != 0; at = (at + 1) & (sets->n_slots - 1)) {
        assert(sets->list != NULL); /* a slot names one of them */
        const struct set *set = &sets->list[sets->slots[at] - 1];
        if (set->n == n && (n == 0 || memcmp(sets->members + set->at, members, n * sizeof *members) == 0)) {
            *number = sets->slots[at] - 1;
            return COHORT_OK;
        }
    }
    TRY(mem_grow(&sets->members, &sets->member_capacity, sets->n_members + n + 1, sizeof *sets->members, "automaton",
                 err));
    TRY(mem_grow(&sets->list, &sets->capacity, sets->n + 1, sizeof *sets->list, "automaton", err));
    if (n > 0)
        memcpy(sets->members + sets->n_members, members, n * sizeof *members);
    sets->list[sets->n] = (struct set){sets->n_members, (uint32_t)n};
    sets->n_members += n;
    *number = (uint32_t)sets->n++;
    sets->slots[at] = *number + 1;
    return COHORT_OK;
}

/* ---- Subsets ---- */

struct subsets {
    const struct nfa *nfa;
    struct range_edge *edges; /* of the nfa, by place */
    uint32_t *first;          /* [n_states + 1] */
    uint32_t *stamp;          /* [n_states] the round that a state was last put into a set */
    uint32_t round;
    uint32_t *work; /* [n_states] */
    struct range_edge *out, *active;
    size_t out_capacity, active_capacity;
};

static void subsets_free(struct subsets *s)
{
    mem_free(s->edges);
    mem_free(s->first);
    mem_free(s->stamp);
    mem_free(s->work);
    mem_free(s->out);
    mem_free(s->active);
}

static cohort_status subsets_open(struct subsets *s, const struct nfa *nfa, cohort_error *err)
{
    *s = (struct subsets){.nfa = nfa};
    TRY(mem_alloc(&s->edges, nfa->n_edges, sizeof *s->edges, "automaton", err));
    TRY(mem_alloc(&s->first, (size_t)nfa->n_states + 2, sizeof *s->first, "automaton", err));
    TRY(mem_alloc(&s->stamp, nfa->n_states, sizeof *s->stamp, "automaton", err));
    TRY(mem_alloc(&s->work, nfa->n_states, sizeof *s->work, "automaton", err));
    if (nfa->n_edges == 0)
        return COHORT_OK;
    memcpy(s->edges, nfa->edges, nfa->n_edges * sizeof *s->edges);
    qsort(s->edges, nfa->n_edges, sizeof *s->edges, by_place);
    for (size_t i = 0; i < nfa->n_edges; i++)
        s->first[s->edges[i].from + 1]++;
    for (uint32_t q = 0; q < nfa->n_states; q++)
        s->first[q + 1] += s->first[q];
    return COHORT_OK;
}

/* Adds a state to the work set unless it is there. */
static void add(struct subsets *s, uint32_t state, size_t *n)
{
    if (s->stamp[state] == s->round)
        return;
    s->stamp[state] = s->round;
    s->work[(*n)++] = state;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Adds what is reached without reading; only states that read something, or the end, need to stay. Ascending. */
static size_t close_set(struct subsets *s, size_t n, uint32_t end)
{
    for (size_t i = 0; i < n; i++)
        for (uint32_t e = s->first[s->work[i]]; e < s->first[s->work[i] + 1]; e++)
            if (s->edges[e].lo == NFA_NOTHING)
                add(s, s->edges[e].to, &n);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t q = s->work[i];
        if (q == end || (s->first[q] < s->first[q + 1] && s->edges[s->first[q]].lo != NFA_NOTHING))
            s->work[kept++] = q;
    }
    qsort(s->work, kept, sizeof *s->work, by_number);
    return kept;
}

static int by_lo(const void *a, const void *b)
{
    const struct range_edge *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* The edges of one set of states, cut where ranges begin and end. */
static cohort_status step_set(struct subsets *s, struct sets *sets, struct draft *draft, uint32_t number, uint32_t end,
                              cohort_error *err)
{
    size_t n = 0, n_active = 0, next = 0;
    for (uint32_t i = 0; i < sets->list[number].n; i++) {
        const uint32_t q = sets->members[sets->list[number].at + i];
        TRY(mem_grow(&s->out, &s->out_capacity, n + s->first[q + 1] - s->first[q], sizeof *s->out, "automaton", err));
        for (uint32_t e = s->first[q]; e < s->first[q + 1]; e++)
            if (s->edges[e].lo != NFA_NOTHING)
                s->out[n++] = s->edges[e];
    }
    if (n == 0)
        return COHORT_OK;
    qsort(s->out, n, sizeof *s->out, by_lo);
    TRY(mem_grow(&s->active, &s->active_capacity, n, sizeof *s->active, "automaton", err));
    const size_t first_edge = draft->n_edges;
    for (uint32_t at = s->out[0].lo;;) {
        size_t kept = 0;
        for (size_t i = 0; i < n_active; i++)
            if (s->active[i].hi >= at)
                s->active[kept++] = s->active[i];
        n_active = kept;
        if (n_active == 0 && next < n)
            at = s->out[next].lo;
        while (next < n && s->out[next].lo == at)
            s->active[n_active++] = s->out[next++];
        if (n_active == 0)
            return COHORT_OK;
        uint32_t last = next < n ? s->out[next].lo - 1 : UINT32_MAX, to = 0;
        size_t members = 0;
        s->round++;
        for (size_t i = 0; i < n_active; i++) {
            last = s->active[i].hi < last ? s->active[i].hi : last;
            add(s, s->active[i].to, &members);
        }
        members = close_set(s, members, end);
        TRY(sets_number(sets, s->work, members, &to, err));
        struct range_edge *before = draft->n_edges > first_edge ? &draft->edges[draft->n_edges - 1] : NULL;
        if (before != NULL && before->to == to && before->hi + 1 == at)
            before->hi = last;
        else
            TRY(draft_edge(draft, number, at, last, to, err));
        at = last + 1;
    }
}

static bool set_has(const struct sets *sets, uint32_t number, uint32_t member)
{
    const struct set *set = &sets->list[number];
    return set->n > 0 && bsearch(&member, sets->members + set->at, set->n, sizeof member, by_number) != NULL;
}

cohort_status automaton_determinize(struct automaton *out, const struct nfa *nfa, uint32_t start, uint32_t end,
                                    uint32_t limit, bool *fits, cohort_error *err)
{
    struct subsets s = {0};
    struct sets sets = {0};
    struct draft draft = {0};
    uint32_t number = 0;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    memset(out, 0, sizeof *out);
    *fits = true;
    TRY(nfa_check(nfa, err));
    TRY_GOTO(subsets_open(&s, nfa, err));
    s.round = 1;
    add(&s, start, &n);
    n = close_set(&s, n, end);
    TRY_GOTO(sets_number(&sets, s.work, n, &number, err));
    for (uint32_t i = 0; i < sets.n; i++) {
        if (sets.n > limit) {
            *fits = false;
            goto cleanup;
        }
        TRY_GOTO(draft_state(&draft, set_has(&sets, i, end), err));
        TRY_GOTO(step_set(&s, &sets, &draft, i, end, err));
    }
    TRY_GOTO(draft_finish(&draft, out, err));
cleanup:
    subsets_free(&s);
    sets_free(&sets);
    draft_free(&draft);
    return status;
}

cohort_status automaton_plain(struct automaton *out, const struct nfa *nfa, uint32_t start, uint32_t end,
                              cohort_error *err)
{
    struct subsets s = {0};
    struct draft draft = {0};
    cohort_status status = COHORT_OK;
    memset(out, 0, sizeof *out);
    TRY(nfa_check(nfa, err));
    TRY_GOTO(subsets_open(&s, nfa, err));
    for (uint32_t i = 0; i < nfa->n_states; i++) {
        const uint32_t q = i == 0 ? start : i == start ? 0 : i; /* the start comes first */
        size_t n = 0;
        bool accepts = false;
        s.round++;
        add(&s, q, &n);
        n = close_set(&s, n, end);
        for (size_t k = 0; k < n; k++) {
            const uint32_t member = s.work[k];
            accepts = accepts || member == end;
            for (uint32_t e = s.first[member]; e < s.first[member + 1]; e++) {
                const struct range_edge *edge = &s.edges[e];
                const uint32_t to = edge->to == start ? 0 : edge->to == 0 ? start : edge->to;
                if (edge->lo != NFA_NOTHING)
                    TRY_GOTO(draft_edge(&draft, i, edge->lo, edge->hi, to, err));
            }
        }
        TRY_GOTO(draft_state(&draft, accepts, err));
    }
    TRY_GOTO(draft_finish(&draft, out, err));
cleanup:
    subsets_free(&s);
    draft_free(&draft);
    return status;
}

/* ---- Minimal ---- */

/* Refines classes of states by what their edges lead to until nothing changes (Moore). The description of a state is
 * interned as a set of numbers, in its own order. */
cohort_status automaton_minimize(struct automaton *automaton, uint32_t limit, cohort_error *err)
{
    const uint32_t n = automaton->n_states;
    uint32_t *of = NULL, *next = NULL, *text = NULL;
    size_t text_capacity = 0, classes = 0;
    struct sets sets = {0};
    struct draft draft = {0};
    cohort_status status = COHORT_OK;
    if (n == 0 || n > limit)
        return COHORT_OK;
    TRY_GOTO(mem_alloc(&of, n, sizeof *of, "automaton", err));
    TRY_GOTO(mem_alloc(&next, n, sizeof *next, "automaton", err));
    for (;;) {
        sets_free(&sets);
        memset(&sets, 0, sizeof sets);
        for (uint32_t q = 0; q < n; q++) {
            size_t length = 0;
            TRY_GOTO(mem_grow(&text, &text_capacity, 3 * (size_t)(automaton->first[q + 1] - automaton->first[q]) + 2,
                              sizeof *text, "automaton", err));
            text[length++] = automaton->accepts[q];
            text[length++] = of[q];
            for (uint32_t e = automaton->first[q]; e < automaton->first[q + 1]; e++) {
                const struct range_edge *edge = &automaton->edges[e];
                if (length > 2 && text[length - 1] == of[edge->to] && text[length - 2] + 1 == edge->lo) {
                    text[length - 2] = edge->hi;
                    continue;
                }
                text[length++] = edge->lo;
                text[length++] = edge->hi;
                text[length++] = of[edge->to];
            }
            TRY_GOTO(sets_number(&sets, text, length, &next[q], err));
        }
        memcpy(of, next, n * sizeof *of);
        if (sets.n == classes)
            break;
        classes = sets.n;
    }
    if (classes == n)
        goto cleanup;
    for (uint32_t c = 0; c < classes;
         c++) { /* a class's first state stands for it; classes are numbered in their order */
        TRY_GOTO(draft_state(&draft, false, err));
    }
    memset(next, 0, n * sizeof *next);
    assert(draft.accepts != NULL); /* there is a class at least */
    for (uint32_t q = 0; q < n; q++) {
        if (next[of[q]]++ != 0)
            continue;
        draft.accepts[of[q]] = automaton->accepts[q];
        for (uint32_t e = automaton->first[q]; e < automaton->first[q + 1]; e++) {
            const struct range_edge *edge = &automaton->edges[e];
            struct range_edge *before = draft.n_edges > 0 ? &draft.edges[draft.n_edges - 1] : NULL;
            if (before != NULL && before->from == of[q] && before->to == of[edge->to] && before->hi + 1 == edge->lo)
                before->hi = edge->hi;
            else
                TRY_GOTO(draft_edge(&draft, of[q], edge->lo, edge->hi, of[edge->to], err));
        }
    }
    struct automaton small = {0};
    TRY_GOTO(draft_finish(&draft, &small, err));
    automaton_free(automaton);
    *automaton = small;
cleanup:
    mem_free(of);
    mem_free(next);
    mem_free(text);
    sets_free(&sets);
    draft_free(&draft);
    return status;
}

/* ---- Products ---- */

enum { GONE = 0 }; /* in a pair, states count from 1 */

static bool pair_accepts(const struct automaton *a, const struct automaton *b, enum automaton_product product,
                         const uint32_t pair[2])
{
    const bool in_b = pair[1] != GONE && b->accepts[pair[1] - 1];
    return a->accepts[pair[0] - 1] && (product == PRODUCT_BOTH ? in_b : !in_b);
}

/* Edges of a, cut where those of b begin and end. */
static cohort_status pair_edges(const struct automaton *a, const struct automaton *b, enum automaton_product product,
                                struct sets *pairs, struct draft *draft, uint32_t number, cohort_error *err)
{
    const uint32_t p = pairs->members[pairs->list[number].at] - 1, q = pairs->members[pairs->list[number].at + 1];
    uint32_t f = q == GONE ? 0 : b->first[q - 1];
    const uint32_t f_end = q == GONE ? 0 : b->first[q];
    for (uint32_t e = a->first[p]; e < a->first[p + 1]; e++) {
        const struct range_edge *x = &a->edges[e];
        for (uint32_t at = x->lo;;) {
            while (f < f_end && b->edges[f].hi < at)
                f++;
            const struct range_edge *y = f < f_end ? &b->edges[f] : NULL;
            const bool inside = y != NULL && y->lo <= at;
            uint32_t last = x->hi;
            if (inside)
                last = y->hi < last ? y->hi : last;
            else if (y != NULL)
                last = y->lo - 1 < last ? y->lo - 1 : last;
            const uint32_t pair[2] = {x->to + 1, inside ? y->to + 1 : GONE};
            if (inside || product == PRODUCT_WITHOUT) {
                uint32_t to = 0;
                TRY(sets_number(pairs, pair, 2, &to, err));
                TRY(draft_edge(draft, number, at, last, to, err));
            }
            if (last == x->hi)
                break;
            at = last + 1;
        }
    }
    return COHORT_OK;
}

cohort_status automaton_combine(struct automaton *out, const struct automaton *a, const struct automaton *b,
                                enum automaton_product product, uint32_t limit, bool *fits, cohort_error *err)
{
    struct sets pairs = {0};
    struct draft draft = {0};
    uint32_t number = 0;
    cohort_status status = COHORT_OK;
    memset(out, 0, sizeof *out);
    *fits = true;
    if (a->n_states == 0 || (b->n_states == 0 && product == PRODUCT_BOTH))
        return COHORT_OK;
    const uint32_t start[2] = {1, b->n_states > 0 ? 1 : GONE};
    TRY_GOTO(sets_number(&pairs, start, 2, &number, err));
    for (uint32_t i = 0; i < pairs.n; i++) {
        if (pairs.n > limit) {
            *fits = false;
            goto cleanup;
        }
        TRY_GOTO(draft_state(&draft, pair_accepts(a, b, product, pairs.members + pairs.list[i].at), err));
        TRY_GOTO(pair_edges(a, b, product, &pairs, &draft, i, err));
    }
    TRY_GOTO(draft_finish(&draft, out, err));
cleanup:
    sets_free(&pairs);
    draft_free(&draft);
    return status;
}

bool automaton_accepts(const struct automaton *automaton, const uint32_t *labels, size_t n)
{
    uint32_t q = 0;
    if (automaton->n_states == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct range_edge *found = NULL;
        for (uint32_t e = automaton->first[q]; found == NULL && e < automaton->first[q + 1]; e++)
            if (automaton->edges[e].lo <= labels[i] && labels[i] <= automaton->edges[e].hi)
                found = &automaton->edges[e];
        if (found == NULL)
            return false;
        q = found->to;
    }
    return automaton->accepts[q];
}

uint32_t nfa_automaton(struct nfa *nfa, uint32_t from, const struct automaton *automaton)
{
    const uint32_t end = nfa_state(nfa), base = nfa->n_states;
    for (uint32_t q = 0; q < automaton->n_states; q++)
        (void)nfa_state(nfa);
    if (automaton->n_states > 0)
        nfa_skip(nfa, from, base);
    for (uint32_t q = 0; q < automaton->n_states; q++) {
        for (uint32_t e = automaton->first[q]; e < automaton->first[q + 1]; e++)
            nfa_edge(nfa, base + q, automaton->edges[e].lo, automaton->edges[e].hi, base + automaton->edges[e].to);
        if (automaton->accepts[q])
            nfa_skip(nfa, base + q, end);
    }
    return end;
}
