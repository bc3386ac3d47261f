#include "guide/guide_machine.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_ITEMS = 20000,  /* of a configuration: more ambiguity than a grammar in use has */
    MOST_BYTES = 1 << 28 /* of a machine, in the middle of a walk */
};

struct machine_cell {
    uint32_t state;    /* where the rule that is finished goes on */
    uint32_t repeat;   /* + 1; 0: the rule was read once */
    uint32_t count;    /* repetitions that were finished before this one; of one without end at most its least */
    uint32_t below;    /* a cell */
    uint32_t distance; /* the fewest bytes from the end of the rule to the end of the text */
};

struct machine_seen {
    struct machine_item item;
    uint32_t round;
};

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

/* ---- Interning ---- */

static uint64_t cell_hash(const struct machine_cell *cell)
{
    return mix(mix(cell->state, cell->repeat), (uint64_t)cell->count << 32 | cell->below);
}

static cohort_status grow_slots(uint32_t **slots, size_t *n_slots, cohort_error *err)
{
    uint32_t *larger = NULL;
    const size_t n = *n_slots == 0 ? 64 : *n_slots * 4;
    TRY(mem_alloc(&larger, n, sizeof *larger, "guide", err));
    mem_free(*slots);
    *slots = larger;
    *n_slots = n;
    return COHORT_OK;
}

static void place(uint32_t *slots, size_t n_slots, uint64_t hash, uint32_t number)
{
    size_t at = (size_t)hash & (n_slots - 1);
    while (slots[at] != 0)
        at = (at + 1) & (n_slots - 1);
    slots[at] = number + 1;
}

static cohort_status intern_cell(struct machine *m, struct machine_cell cell, uint32_t *number, cohort_error *err)
{
    if (2 * (m->n_cells + 1) > m->n_cell_slots) {
        TRY(grow_slots(&m->cell_slots, &m->n_cell_slots, err));
        for (uint32_t i = 1; i < m->n_cells; i++)
            place(m->cell_slots, m->n_cell_slots, cell_hash(&m->cells[i]), i);
    }
    const uint64_t hash = cell_hash(&cell);
    for (size_t at = (size_t)hash & (m->n_cell_slots - 1); m->cell_slots[at] != 0;
         at = (at + 1) & (m->n_cell_slots - 1)) {
        const struct machine_cell *other = &m->cells[m->cell_slots[at] - 1];
        if (other->state == cell.state && other->repeat == cell.repeat && other->count == cell.count &&
            other->below == cell.below) {
            *number = m->cell_slots[at] - 1;
            return COHORT_OK;
        }
    }
    const struct grammar_tables *t = m->tables;
    cell.distance = distance_add(t->distance[cell.state], m->cells[cell.below].distance);
    if (cell.repeat != 0) {
        const struct repetition *repeat = &t->repetitions[cell.repeat - 1];
        const uint32_t missing = repeat->least > cell.count + 1 ? repeat->least - cell.count - 1 : 0;
        const uint64_t bytes = (uint64_t)missing * t->rule_distance[repeat->rule];
        cell.distance = distance_add(cell.distance, bytes < DISTANCE_NEVER ? (uint32_t)bytes : DISTANCE_NEVER);
    }
    TRY(mem_grow(&m->cells, &m->cell_capacity, m->n_cells + 1, sizeof *m->cells, "guide", err));
    *number = (uint32_t)m->n_cells;
    m->cells[m->n_cells++] = cell;
    place(m->cell_slots, m->n_cell_slots, hash, *number);
    return COHORT_OK;
}

static int by_item(const void *a, const void *b)
{
    const struct machine_item *x = a, *y = b;
    if (x->state != y->state)
        return x->state < y->state ? -1 : 1;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

static uint64_t items_hash(const struct machine_item *items, size_t n, bool accepts)
{
    uint64_t hash = accepts ? 1 : 2;
    for (size_t i = 0; i < n; i++)
        hash = mix(hash, (uint64_t)items[i].state << 32 | items[i].cell);
    return hash;
}

static cohort_status new_row(struct machine *m, uint32_t *row, cohort_error *err)
{
    const size_t n = m->tables->n_classes;
    TRY(mem_grow(&m->rows, &m->row_capacity, (m->n_rows + 1) * n, sizeof *m->rows, "guide", err));
    memset(m->rows + m->n_rows * n, 0xFF, n * sizeof *m->rows);
    *row = (uint32_t)m->n_rows++;
    return COHORT_OK;
}

/* The number of the set m->found, with m->accepting. */
static cohort_status intern_config(struct machine *m, uint32_t *number, cohort_error *err)
{
    const size_t n = m->n_found;
    if (n == 0 && !m->accepting) {
        *number = CONFIG_DEAD;
        return COHORT_OK;
    }
    if (n > 1)
        qsort(m->found, n, sizeof *m->found, by_item);
    if (2 * (m->n_configs + 1) > m->n_config_slots) {
        TRY(grow_slots(&m->config_slots, &m->n_config_slots, err));
        for (uint32_t i = 1; i < m->n_configs; i++) {
            const struct machine_config *c = &m->configs[i];
            place(m->config_slots, m->n_config_slots, items_hash(m->items + c->first, c->n, c->accepts), i);
        }
    }
    const uint64_t hash = items_hash(m->found, n, m->accepting);
    for (size_t at = (size_t)hash & (m->n_config_slots - 1); m->config_slots[at] != 0;
         at = (at + 1) & (m->n_config_slots - 1)) {
        const struct machine_config *c = &m->configs[m->config_slots[at] - 1];
        if (c->n == n && c->accepts == m->accepting &&
            (n == 0 || memcmp(m->items + c->first, m->found, n * sizeof *m->found) == 0)) {
            *number = m->config_slots[at] - 1;
            return COHORT_OK;
        }
    }
    if (machine_bytes(m) > MOST_BYTES)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "the grammar leaves too much open at once: more than %d MB for what may follow",
                         (int)(MOST_BYTES >> 20));
    struct machine_config config = {
        .first = m->n_items, .n = (uint32_t)n, .distance = m->accepting ? 0 : DISTANCE_NEVER, .accepts = m->accepting};
    TRY(mem_grow(&m->items, &m->item_capacity, m->n_items + n + 1, sizeof *m->items, "guide", err));
    TRY(mem_grow(&m->configs, &m->config_capacity, m->n_configs + 1, sizeof *m->configs, "guide", err));
    for (size_t i = 0; i < n; i++) {
        const struct machine_item item = m->found[i];
        const uint32_t way = distance_add(m->tables->distance[item.state], m->cells[item.cell].distance);
        config.distance = way < config.distance ? way : config.distance;
        for (uint32_t e = m->tables->label_first[item.state]; e < m->tables->label_first[item.state + 1]; e++)
            config.tokens = config.tokens || m->tables->labels[e].lo < LABEL_RULE;
        m->items[m->n_items++] = item;
    }
    *number = (uint32_t)m->n_configs;
    m->configs[m->n_configs++] = config;
    place(m->config_slots, m->n_config_slots, hash, *number);
    return COHORT_OK;
}

/* ---- Closure ---- */

static uint64_t item_hash(struct machine_item item) { return mix(item.state, item.cell); }

static cohort_status grow_seen(struct machine *m, cohort_error *err)
{
    struct machine_seen *old = m->seen, *larger = NULL;
    const size_t n = m->n_seen_slots == 0 ? 64 : m->n_seen_slots * 4;
    TRY(mem_alloc(&larger, n, sizeof *larger, "guide", err));
    for (size_t i = 0; i < m->n_seen_slots; i++) {
        if (old[i].round != m->round)
            continue;
        size_t at = (size_t)item_hash(old[i].item) & (n - 1);
        while (larger[at].round != 0)
            at = (at + 1) & (n - 1);
        larger[at] = old[i];
    }
    mem_free(old);
    m->seen = larger;
    m->n_seen_slots = n;
    return COHORT_OK;
}

/* Puts an item on the list of work unless it was there in this round. */
static cohort_status visit(struct machine *m, uint32_t state, uint32_t cell, cohort_error *err)
{
    const struct machine_item item = {state, cell};
    if (2 * (m->n_seen + 1) > m->n_seen_slots)
        TRY(grow_seen(m, err));
    size_t at = (size_t)item_hash(item) & (m->n_seen_slots - 1);
    for (; m->seen[at].round == m->round; at = (at + 1) & (m->n_seen_slots - 1))
        if (m->seen[at].item.state == state && m->seen[at].item.cell == cell)
            return COHORT_OK;
    m->seen[at] = (struct machine_seen){item, m->round};
    m->n_seen++;
    if (m->n_seen > MOST_ITEMS)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "the grammar leaves too much open at once: more than %d ways to read one text",
                         (int)MOST_ITEMS);
    TRY(mem_grow(&m->todo, &m->todo_capacity, m->n_todo + 1, sizeof *m->todo, "guide", err));
    m->todo[m->n_todo++] = item;
    return COHORT_OK;
}

/* A rule is finished: what is behind it. */
static cohort_status pop(struct machine *m, uint32_t number, cohort_error *err)
{
    if (number == 0) {
        m->accepting = true;
        return COHORT_OK;
    }
    const struct machine_cell cell = m->cells[number];
    if (cell.repeat == 0)
        return visit(m, cell.state, cell.below, err);
    const struct repetition *repeat = &m->tables->repetitions[cell.repeat - 1];
    const uint32_t count = cell.count + 1;
    if (count >= repeat->least)
        TRY(visit(m, cell.state, cell.below, err));
    if (count >= repeat->most)
        return COHORT_OK;
    struct machine_cell next = cell;
    next.count = repeat->most == REPEAT_FOREVER && count > repeat->least ? repeat->least : count;
    TRY(intern_cell(m, next, &number, err));
    return visit(m, m->tables->rule_start[repeat->rule], number, err);
}

/* A rule or a repetition is entered, from which edge->to goes on. */
static cohort_status push(struct machine *m, const struct label_edge *edge, uint32_t cell, cohort_error *err)
{
    const struct grammar_tables *t = m->tables;
    const bool repeats = edge->lo >= LABEL_REPEAT;
    const struct repetition *repeat = repeats ? &t->repetitions[label_repeat(edge->lo)] : NULL;
    const uint32_t rule = repeats ? repeat->rule : label_rule(edge->lo), to = edge->to;
    if (repeats && repeat->least == 0)
        TRY(visit(m, to, cell, err));
    uint32_t below = cell;
    /* Nothing to do behind the rule but to finish the one that it stands in: recursion at the end needs no stack. */
    const bool last =
        t->accepts[to] && t->byte_first[to] == t->byte_first[to + 1] && t->label_first[to] == t->label_first[to + 1];
    if (repeats || !last)
        TRY(intern_cell(
            m, (struct machine_cell){.state = to, .repeat = repeats ? label_repeat(edge->lo) + 1 : 0, .below = cell},
            &below, err));
    return visit(m, t->rule_start[rule], below, err);
}

static void begin(struct machine *m)
{
    m->n_todo = 0;
    m->n_found = 0;
    m->n_seen = 0;
    m->accepting = false;
    if (++m->round == 0) { /* the rounds are used up: none of the old ones may be met again */
        memset(m->seen, 0, m->n_seen_slots * sizeof *m->seen);
        m->round = 1;
    }
}

/* Follows everything that reads nothing from what was visited, and interns what is left. */
static cohort_status finish(struct machine *m, uint32_t *config, cohort_error *err)
{
    const struct grammar_tables *t = m->tables;
    while (m->n_todo > 0) {
        const struct machine_item item = m->todo[--m->n_todo];
        const uint32_t q = item.state;
        bool reads = t->byte_first[q] < t->byte_first[q + 1];
        if (t->accepts[q])
            TRY(pop(m, item.cell, err));
        for (uint32_t e = t->label_first[q]; e < t->label_first[q + 1]; e++) {
            if (t->labels[e].lo >= LABEL_RULE)
                TRY(push(m, &t->labels[e], item.cell, err));
            else
                reads = true;
        }
        if (reads) {
            TRY(mem_grow(&m->found, &m->found_capacity, m->n_found + 1, sizeof *m->found, "guide", err));
            m->found[m->n_found++] = item;
        }
    }
    return intern_config(m, config, err);
}

/* ---- Public ---- */

static cohort_status machine_clear(struct machine *m, cohort_error *err)
{
    uint32_t row = 0;
    m->n_cells = 0;
    m->n_items = 0;
    m->n_configs = 0;
    m->n_rows = 0;
    TRY(mem_grow(&m->cells, &m->cell_capacity, 1, sizeof *m->cells, "guide", err));
    TRY(mem_grow(&m->configs, &m->config_capacity, 1, sizeof *m->configs, "guide", err));
    m->cells[m->n_cells++] = (struct machine_cell){0};
    m->configs[m->n_configs++] = (struct machine_config){.distance = DISTANCE_NEVER};
    TRY(new_row(m, &row, err)); /* row 0: of all that have none yet */
    return COHORT_OK;
}

static cohort_status find_start(struct machine *m, cohort_error *err)
{
    begin(m);
    TRY(visit(m, m->tables->rule_start[0], 0, err));
    return finish(m, &m->start, err);
}

cohort_status machine_open(struct machine *machine, const struct grammar_tables *tables, cohort_error *err)
{
    *machine = (struct machine){.tables = tables};
    TRY(machine_clear(machine, err));
    return find_start(machine, err);
}

void machine_close(struct machine *machine)
{
    mem_free(machine->cells);
    mem_free(machine->cell_slots);
    mem_free(machine->items);
    mem_free(machine->configs);
    mem_free(machine->config_slots);
    mem_free(machine->rows);
    mem_free(machine->todo);
    mem_free(machine->found);
    mem_free(machine->seen);
    memset(machine, 0, sizeof *machine);
}

cohort_status machine_step(struct machine *machine, uint32_t config, unsigned char byte, uint32_t *next,
                           cohort_error *err)
{
    const struct grammar_tables *t = machine->tables;
    *next = machine_known(machine, config, byte);
    if (*next != ROW_UNKNOWN)
        return COHORT_OK;
    begin(machine);
    const struct machine_config c = machine->configs[config];
    for (uint32_t i = 0; i < c.n; i++) {
        const struct machine_item item = machine->items[c.first + i];
        for (uint32_t e = t->byte_first[item.state]; e < t->byte_first[item.state + 1]; e++)
            if (t->bytes[e].lo <= byte && byte <= t->bytes[e].hi)
                TRY(visit(machine, t->bytes[e].to, item.cell, err));
    }
    TRY(finish(machine, next, err));
    if (machine->configs[config].row == 0) {
        uint32_t row = 0;
        TRY(new_row(machine, &row, err));
        machine->configs[config].row = row;
    }
    machine->rows[(size_t)machine->configs[config].row * t->n_classes + t->class_of[byte]] = *next;
    return COHORT_OK;
}

cohort_status machine_token(struct machine *machine, uint32_t config, uint32_t token, uint32_t *next, cohort_error *err)
{
    const struct grammar_tables *t = machine->tables;
    const uint32_t label = LABEL_TOKEN + token;
    const struct machine_config c = machine->configs[config];
    *next = CONFIG_DEAD;
    if (!c.tokens)
        return COHORT_OK;
    begin(machine);
    for (uint32_t i = 0; i < c.n; i++) {
        const struct machine_item item = machine->items[c.first + i];
        for (uint32_t e = t->label_first[item.state]; e < t->label_first[item.state + 1]; e++)
            if (t->labels[e].lo <= label && label <= t->labels[e].hi && t->labels[e].lo < LABEL_RULE)
                TRY(visit(machine, t->labels[e].to, item.cell, err));
    }
    return finish(machine, next, err);
}

cohort_status machine_union(struct machine *machine, uint32_t a, uint32_t b, uint32_t *both, cohort_error *err)
{
    if (a == CONFIG_DEAD || b == CONFIG_DEAD || a == b) {
        *both = a == CONFIG_DEAD ? b : a;
        return COHORT_OK;
    }
    const struct machine_config *list = machine->configs;
    const struct machine_config pair[2] = {list[a], list[b]};
    begin(machine);
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; i < pair[k].n; i++)
            TRY(visit(machine, machine->items[pair[k].first + i].state, machine->items[pair[k].first + i].cell, err));
    machine->accepting = pair[0].accepts || pair[1].accepts;
    return finish(machine, both, err);
}

uint32_t machine_left(const struct machine *machine, struct machine_item item)
{
    const struct machine_cell *cell = &machine->cells[item.cell];
    if (item.cell == 0 || cell->repeat == 0)
        return 0;
    const struct repetition *repeat = &machine->tables->repetitions[cell->repeat - 1];
    if (machine->tables->rule_start[repeat->rule] != item.state)
        return 0;
    return repeat->most == REPEAT_FOREVER ? REPEAT_FOREVER : repeat->most - cell->count;
}

size_t machine_bytes(const struct machine *machine)
{
    return machine->n_cells * sizeof *machine->cells + machine->n_items * sizeof *machine->items +
           machine->n_configs * sizeof *machine->configs +
           machine->n_rows * machine->tables->n_classes * sizeof *machine->rows;
}

/* ---- Flushing ---- */

/* A cell of the old machine in the new one; stacks are walked from the bottom up. */
static cohort_status move_cell(struct machine *m, const struct machine *old, uint32_t number, uint32_t *moved,
                               uint32_t *path, cohort_error *err)
{
    size_t n = 0;
    for (; number != 0 && moved[number] == 0; number = old->cells[number].below)
        path[n++] = number;
    while (n > 0) {
        struct machine_cell cell = old->cells[path[--n]];
        cell.below = cell.below == 0 ? 0 : moved[cell.below];
        TRY(intern_cell(m, cell, &moved[path[n]], err));
    }
    return COHORT_OK;
}

cohort_status machine_flush(struct machine *machine, uint32_t *const *live, size_t n, cohort_error *err)
{
    struct machine fresh = {.tables = machine->tables};
    uint32_t *moved = NULL, *path = NULL, *numbers = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&moved, machine->n_cells, sizeof *moved, "guide", err));
    TRY_GOTO(mem_alloc(&path, machine->n_cells, sizeof *path, "guide", err));
    TRY_GOTO(mem_alloc(&numbers, n, sizeof *numbers, "guide", err));
    TRY_GOTO(machine_clear(&fresh, err));
    for (size_t i = 0; i < n; i++) {
        const struct machine_config c = machine->configs[*live[i]];
        begin(&fresh);
        fresh.accepting = c.accepts;
        TRY_GOTO(mem_grow(&fresh.found, &fresh.found_capacity, c.n, sizeof *fresh.found, "guide", err));
        for (uint32_t k = 0; k < c.n; k++) {
            const struct machine_item item = machine->items[c.first + k];
            TRY_GOTO(move_cell(&fresh, machine, item.cell, moved, path, err));
            fresh.found[fresh.n_found++] = (struct machine_item){item.state, item.cell == 0 ? 0 : moved[item.cell]};
        }
        TRY_GOTO(intern_config(&fresh, &numbers[i], err));
    }
    TRY_GOTO(find_start(&fresh, err));
    for (size_t i = 0; i < n; i++)
        *live[i] = numbers[i];
    machine_close(machine);
    *machine = fresh;
    fresh = (struct machine){0};
cleanup:
    machine_close(&fresh);
    mem_free(moved);
    mem_free(path);
    mem_free(numbers);
    return status;
}
