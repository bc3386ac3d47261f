#include "guide/grammar_tables.h"

#include <string.h>

enum { RULE_MOST_STATES = 20000, MINIMIZED_STATES = 3000 };

void grammar_tables_free(struct grammar_tables *tables)
{
    mem_free(tables->byte_first);
    mem_free(tables->label_first);
    mem_free(tables->bytes);
    mem_free(tables->labels);
    mem_free(tables->accepts);
    mem_free(tables->deterministic);
    mem_free(tables->distance);
    mem_free(tables->rule_start);
    mem_free(tables->rule_distance);
    mem_free(tables->repetitions);
    memset(tables, 0, sizeof *tables);
}

struct compiler {
    const struct grammar *grammar;
    struct grammar_tables *tables;
    struct automaton *automata; /* [n_rules]; empty: not reached, or nothing */
    bool *reached, *determined; /* [n_rules] */
    size_t state_capacity[5], byte_capacity, label_capacity;
};

static uint32_t rule_of_label(const struct compiler *c, uint32_t label)
{
    return label >= LABEL_REPEAT ? c->grammar->repetitions[label_repeat(label)].rule : label_rule(label);
}

/* Automata of the rules that rule 0 leads to. */
static cohort_status make_automata(struct compiler *c, cohort_error *err)
{
    uint32_t *todo = NULL;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&todo, c->grammar->n_rules, sizeof *todo, "grammar", err));
    c->reached[0] = true;
    todo[n++] = 0;
    while (n > 0) {
        const uint32_t r = todo[--n];
        const struct rule *rule = c->grammar->rules[r];
        struct automaton *a = &c->automata[r];
        TRY_GOTO(
            automaton_determinize(a, &rule->nfa, rule->start, rule->end, RULE_MOST_STATES, &c->determined[r], err));
        if (c->determined[r])
            TRY_GOTO(automaton_minimize(a, MINIMIZED_STATES, err));
        else
            TRY_GOTO(automaton_plain(a, &rule->nfa, rule->start, rule->end, err));
        for (size_t e = 0; a->n_states > 0 && e < a->first[a->n_states]; e++)
            if (a->edges[e].lo >= LABEL_RULE && !c->reached[rule_of_label(c, a->edges[e].lo)]) {
                c->reached[rule_of_label(c, a->edges[e].lo)] = true;
                todo[n++] = rule_of_label(c, a->edges[e].lo);
            }
    }
cleanup:
    mem_free(todo);
    return status;
}

/* ---- Distances ---- */

static uint32_t label_distance(const struct compiler *c, const uint32_t *rule_distance, uint32_t label)
{
    if (label < LABEL_RULE)
        return 1;
    if (label < LABEL_REPEAT)
        return rule_distance[label_rule(label)];
    const struct repetition *repeat = &c->grammar->repetitions[label_repeat(label)];
    const uint64_t all = (uint64_t)repeat->least * rule_distance[repeat->rule];
    return all < DISTANCE_NEVER ? (uint32_t)all : (uint32_t)DISTANCE_NEVER;
}

/* Relaxes the states of one rule until nothing changes; distance[] holds those of its states. */
static void relax(const struct compiler *c, const struct automaton *a, const uint32_t *rule_distance,
                  uint32_t *distance)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t q = a->n_states; q-- > 0;) {
            uint32_t best = a->accepts[q] ? 0 : distance[q];
            for (uint32_t e = a->first[q]; e < a->first[q + 1]; e++) {
                const uint32_t way =
                    distance_add(label_distance(c, rule_distance, a->edges[e].lo), distance[a->edges[e].to]);
                best = way < best ? way : best;
            }
            changed = changed || best < distance[q];
            distance[q] = best;
        }
    }
}

static cohort_status find_distances(const struct compiler *c, uint32_t **distances, uint32_t *rule_distance,
                                    cohort_error *err)
{
    const size_t n = c->grammar->n_rules;
    for (size_t r = 0; r < n; r++) {
        const uint32_t states = c->automata[r].n_states;
        rule_distance[r] = DISTANCE_NEVER;
        TRY(mem_alloc(&distances[r], states, sizeof *distances[r], "grammar", err));
        for (uint32_t q = 0; q < states; q++)
            distances[r][q] = DISTANCE_NEVER;
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t r = n; r-- > 0;) {
            if (c->automata[r].n_states == 0)
                continue;
            relax(c, &c->automata[r], rule_distance, distances[r]);
            changed = changed || distances[r][0] < rule_distance[r];
            rule_distance[r] = distances[r][0];
        }
    }
    return COHORT_OK;
}

/* ---- Tables ---- */

static cohort_status add_state(struct compiler *c, cohort_error *err)
{
    struct grammar_tables *t = c->tables;
    const size_t n = (size_t)t->n_states + 2;
    TRY(mem_grow(&t->byte_first, &c->state_capacity[0], n, sizeof *t->byte_first, "grammar", err));
    TRY(mem_grow(&t->label_first, &c->state_capacity[1], n, sizeof *t->label_first, "grammar", err));
    TRY(mem_grow(&t->accepts, &c->state_capacity[2], n, sizeof *t->accepts, "grammar", err));
    TRY(mem_grow(&t->deterministic, &c->state_capacity[3], n, sizeof *t->deterministic, "grammar", err));
    TRY(mem_grow(&t->distance, &c->state_capacity[4], n, sizeof *t->distance, "grammar", err));
    t->n_states++;
    t->byte_first[t->n_states] = t->byte_first[t->n_states - 1];
    t->label_first[t->n_states] = t->label_first[t->n_states - 1];
    return COHORT_OK;
}

static cohort_status add_edge(struct compiler *c, const struct range_edge *edge, uint32_t base, cohort_error *err)
{
    struct grammar_tables *t = c->tables;
    const uint32_t n = t->n_states;
    if (edge->lo <= 255) {
        const size_t at = t->byte_first[n];
        TRY(mem_grow(&t->bytes, &c->byte_capacity, at + 1, sizeof *t->bytes, "grammar", err));
        t->bytes[at] = (struct byte_edge){(unsigned char)edge->lo, (unsigned char)edge->hi, base + edge->to};
        t->byte_first[n]++;
        return COHORT_OK;
    }
    const size_t at = t->label_first[n];
    TRY(mem_grow(&t->labels, &c->label_capacity, at + 1, sizeof *t->labels, "grammar", err));
    t->labels[at] = (struct label_edge){edge->lo, edge->hi, base + edge->to};
    t->label_first[n]++;
    return COHORT_OK;
}

static cohort_status fill_tables(struct compiler *c, uint32_t *const *distances, cohort_error *err)
{
    struct grammar_tables *t = c->tables;
    const size_t n = c->grammar->n_rules;
    uint32_t base = 0;
    for (size_t r = 0; r < n; base += c->automata[r].n_states, r++) {
        const struct automaton *a = &c->automata[r];
        t->rule_start[r] = base;
        for (uint32_t q = 0; q < a->n_states; q++) {
            TRY(add_state(c, err));
            t->accepts[base + q] = a->accepts[q];
            t->deterministic[base + q] = c->determined[r];
            t->distance[base + q] = distances[r][q];
            for (uint32_t e = a->first[q]; e < a->first[q + 1]; e++) {
                const struct range_edge *edge = &a->edges[e];
                if (distances[r][edge->to] < DISTANCE_NEVER &&
                    (edge->lo < LABEL_RULE || t->rule_distance[rule_of_label(c, edge->lo)] < DISTANCE_NEVER))
                    TRY(add_edge(c, edge, base, err));
            }
        }
    }
    t->n_repetitions = c->grammar->n_repetitions;
    TRY(mem_alloc(&t->repetitions, t->n_repetitions, sizeof *t->repetitions, "grammar", err));
    for (size_t i = 0; i < t->n_repetitions; i++) {
        t->repetitions[i] = c->grammar->repetitions[i];
        if (t->rule_distance[t->repetitions[i].rule] == 0)
            t->repetitions[i].least = 0; /* what may be empty counts as often as one likes */
    }
    return COHORT_OK;
}

static void find_classes(struct grammar_tables *t)
{
    bool begins[257] = {true};
    for (uint32_t e = 0; e < t->byte_first[t->n_states]; e++) {
        begins[t->bytes[e].lo] = true;
        begins[t->bytes[e].hi + 1] = true;
    }
    for (int b = 0; b < 256; b++) {
        if (begins[b])
            t->byte_of[t->n_classes++] = (unsigned char)b;
        t->class_of[b] = (unsigned char)(t->n_classes - 1);
    }
}

/* ---- Rules that begin with themselves ---- */

static uint32_t entered_rule(const struct grammar_tables *t, uint32_t label)
{
    return label >= LABEL_REPEAT ? t->repetitions[label_repeat(label)].rule : label_rule(label);
}

/* Whether an edge may read nothing. */
static bool reads_nothing(const struct grammar_tables *t, uint32_t label)
{
    return label >= LABEL_REPEAT ? t->repetitions[label_repeat(label)].least == 0
                                 : label >= LABEL_RULE && t->rule_distance[label_rule(label)] == 0;
}

struct recursion {
    uint32_t *list; /* rules that a rule may begin with, all rules' behind each other */
    size_t n, capacity;
    size_t *first;  /* [n_rules + 1] */
    bool *seen;     /* [n_states] */
    uint32_t *todo; /* [n_states] */
};

/* The rules that rule r may begin with. */
static cohort_status rule_begins(const struct grammar_tables *t, struct recursion *x, uint32_t r, cohort_error *err)
{
    size_t n = 0, done = 0;
    x->todo[n++] = t->rule_start[r];
    x->seen[t->rule_start[r]] = true;
    for (; done < n; done++) {
        const uint32_t q = x->todo[done];
        for (uint32_t e = t->label_first[q]; e < t->label_first[q + 1]; e++) {
            const struct label_edge *edge = &t->labels[e];
            if (edge->lo < LABEL_RULE)
                continue;
            TRY(mem_grow(&x->list, &x->capacity, x->n + 1, sizeof *x->list, "grammar", err));
            x->list[x->n++] = entered_rule(t, edge->lo);
            if (reads_nothing(t, edge->lo) && !x->seen[edge->to]) {
                x->seen[edge->to] = true;
                x->todo[n++] = edge->to;
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        x->seen[x->todo[i]] = false;
    return COHORT_OK;
}

static const char *rule_name(const struct grammar *grammar, uint32_t rule)
{
    while (rule > 0 && grammar->rules[rule]->name == NULL)
        rule--;
    return grammar->rules[rule]->name != NULL ? grammar->rules[rule]->name : "root";
}

/* Depth first through the rules; one that is met while it is open begins with itself. */
static cohort_status check_recursion(const struct grammar_tables *t, const struct grammar *grammar, const char *origin,
                                     cohort_error *err)
{
    enum { NEW, OPEN, DONE };
    struct recursion x = {0};
    unsigned char *mark = NULL;
    uint32_t *path = NULL;
    size_t *next = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&x.first, (size_t)t->n_rules + 1, sizeof *x.first, "grammar", err));
    TRY_GOTO(mem_alloc(&x.seen, t->n_states, sizeof *x.seen, "grammar", err));
    TRY_GOTO(mem_alloc(&x.todo, t->n_states, sizeof *x.todo, "grammar", err));
    TRY_GOTO(mem_alloc(&mark, t->n_rules, 1, "grammar", err));
    TRY_GOTO(mem_alloc(&path, t->n_rules, sizeof *path, "grammar", err));
    TRY_GOTO(mem_alloc(&next, t->n_rules, sizeof *next, "grammar", err));
    for (uint32_t r = 0; r < t->n_rules; r++) {
        x.first[r] = x.n;
        if (t->rule_distance[r] < DISTANCE_NEVER)
            TRY_GOTO(rule_begins(t, &x, r, err));
    }
    x.first[t->n_rules] = x.n;
    for (uint32_t r = 0; r < t->n_rules; r++) {
        size_t depth = 0;
        if (mark[r] != NEW)
            continue;
        path[depth++] = r;
        mark[r] = OPEN;
        next[r] = x.first[r];
        while (depth > 0) {
            const uint32_t top = path[depth - 1];
            if (next[top] == x.first[top + 1]) {
                mark[top] = DONE;
                depth--;
                continue;
            }
            const uint32_t other = x.list[next[top]++];
            if (mark[other] == OPEN) {
                status = error_set(err, COHORT_ERR_UNSUPPORTED,
                                   "%s: rule '%s' begins with itself, through other rules or behind what may be empty: "
                                   "write it as a repetition, or let it recur at its end",
                                   origin, rule_name(grammar, other));
                goto cleanup;
            }
            if (mark[other] == NEW) {
                mark[other] = OPEN;
                next[other] = x.first[other];
                path[depth++] = other;
            }
        }
    }
cleanup:
    mem_free(x.list);
    mem_free(x.first);
    mem_free(x.seen);
    mem_free(x.todo);
    mem_free(mark);
    mem_free(path);
    mem_free(next);
    return status;
}

cohort_status grammar_compile(struct grammar_tables *tables, const struct grammar *grammar, const char *origin,
                              cohort_error *err)
{
    const size_t n = grammar->n_rules;
    struct compiler c = {.grammar = grammar, .tables = tables};
    uint32_t **distances = NULL;
    cohort_status status = grammar_check(grammar, err);
    memset(tables, 0, sizeof *tables);
    if (status != COHORT_OK) {
        error_context(err, "%s", origin);
        return status;
    }
    TRY_GOTO(mem_alloc(&c.automata, n, sizeof *c.automata, "grammar", err));
    TRY_GOTO(mem_alloc(&c.reached, n, sizeof *c.reached, "grammar", err));
    TRY_GOTO(mem_alloc(&c.determined, n, sizeof *c.determined, "grammar", err));
    TRY_GOTO(mem_alloc(&distances, n, sizeof *distances, "grammar", err));
    TRY_GOTO(mem_alloc(&tables->rule_start, n, sizeof *tables->rule_start, "grammar", err));
    TRY_GOTO(mem_alloc(&tables->rule_distance, n, sizeof *tables->rule_distance, "grammar", err));
    tables->n_rules = (uint32_t)n;
    TRY_GOTO(mem_grow(&tables->byte_first, &c.state_capacity[0], 2, sizeof *tables->byte_first, "grammar", err));
    TRY_GOTO(mem_grow(&tables->label_first, &c.state_capacity[1], 2, sizeof *tables->label_first, "grammar", err));
    TRY_GOTO(make_automata(&c, err));
    TRY_GOTO(find_distances(&c, distances, tables->rule_distance, err));
    if (tables->rule_distance[0] >= DISTANCE_NEVER) {
        status =
            error_set(err, COHORT_ERR_FORMAT,
                      "%s: no text meets this: there is nothing to generate (or nothing of less than 4 GB)", origin);
        goto cleanup;
    }
    TRY_GOTO(fill_tables(&c, distances, err));
    find_classes(tables);
    TRY_GOTO(check_recursion(tables, grammar, origin, err));
cleanup:
    for (size_t r = 0; r < n; r++) {
        if (c.automata != NULL)
            automaton_free(&c.automata[r]);
        if (distances != NULL)
            mem_free(distances[r]);
    }
    mem_free(c.automata);
    mem_free(c.reached);
    mem_free(c.determined);
    mem_free(distances);
    if (status != COHORT_OK)
        grammar_tables_free(tables);
    return status;
}
