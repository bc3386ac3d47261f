/* The recogniser: a pushdown automaton made deterministic as it is used.
 *
 * A configuration is a set of items (state, stack), whose numbers are interned: equal sets are one number. Stacks are
 * linked cells, interned too: where to go on when a rule is finished, how often a repetition has been through, and the
 * cell below. A row of a configuration says for each class of bytes which configuration follows; what nobody has asked
 * yet is worked out on demand. So a machine is a cache, and what it answers is a function of the grammar alone.
 *
 * It grows up to a bound; machine_flush then forgets all but the configurations that are in use. Between two flushes,
 * numbers stay what they are. Not for several threads at once. */
#ifndef COHORT_GUIDE_MACHINE_H
#define COHORT_GUIDE_MACHINE_H

#include "guide/grammar_tables.h"

enum { CONFIG_DEAD = 0 }; /* the empty set */
#define ROW_UNKNOWN UINT32_MAX

struct machine_item {
    uint32_t state, cell;
};
struct machine_config {
    size_t first; /* of its items */
    uint32_t n;
    uint32_t row;      /* 0: none yet */
    uint32_t distance; /* the fewest bytes to an end */
    bool accepts;      /* the text may end here */
    bool tokens;       /* an item reads a token as such */
};

struct machine {
    const struct grammar_tables *tables;
    struct machine_cell *cells; /* 0: the bottom */
    size_t n_cells, cell_capacity;
    uint32_t *cell_slots;
    size_t n_cell_slots;
    struct machine_item *items;
    size_t n_items, item_capacity;
    struct machine_config *configs;
    size_t n_configs, config_capacity;
    uint32_t *config_slots;
    size_t n_config_slots;
    uint32_t *rows; /* [n_rows, n_classes] */
    size_t n_rows, row_capacity;
    uint32_t start;
    /* Of the closure at work. */
    struct machine_item *todo, *found;
    size_t n_todo, todo_capacity, n_found, found_capacity;
    struct machine_seen *seen;
    size_t n_seen, n_seen_slots;
    uint32_t round;
    bool accepting;
};

cohort_status machine_open(struct machine *machine, const struct grammar_tables *tables, cohort_error *err);
void machine_close(struct machine *machine);

/* What follows a configuration by a byte, or by a token that an item reads as such. CONFIG_DEAD: nothing. */
cohort_status machine_step(struct machine *machine, uint32_t config, unsigned char byte, uint32_t *next,
                           cohort_error *err);
cohort_status machine_token(struct machine *machine, uint32_t config, uint32_t token, uint32_t *next,
                            cohort_error *err);
/* The configuration of both (a token that may be read as bytes and as such). */
cohort_status machine_union(struct machine *machine, uint32_t a, uint32_t b, uint32_t *both, cohort_error *err);

/* Known already? Else ROW_UNKNOWN. */
static inline uint32_t machine_known(const struct machine *machine, uint32_t config, unsigned char byte)
{
    return machine
        ->rows[(size_t)machine->configs[config].row * machine->tables->n_classes + machine->tables->class_of[byte]];
}

/* The repetitions that the item's stack still allows to begin, this one included, where its state begins one; 0: it
 * does not. */
uint32_t machine_left(const struct machine *machine, struct machine_item item);

/* Bytes held. */
size_t machine_bytes(const struct machine *machine);
/* Forgets everything but the n configurations of live, whose numbers change. */
cohort_status machine_flush(struct machine *machine, uint32_t *const *live, size_t n, cohort_error *err);

#endif
