#include "guide/guide_slices.h"

#include <string.h>

enum {
    MOST_CHARS = 30,  /* that are followed from a state: more of them only where they come back to where they were */
    MOST_STATES = 64, /* reached by them */
    /* Of what is known of a state: how many characters may follow without leaving its rule (FOREVER: any number), and
     * whether the rule ends behind each first one, with nothing that could follow within it. */
    KNOWN = 0x80,
    ENDS = 0x40,
    CHARS = 0x3F,
    FOREVER = 0x3F
};

/* The characters of slices as UTF-8: places between bytes, 0 the start and the end of a character. */
static const struct {
    unsigned char from, lo, hi, to;
} places[] = {
    {0, 0x20, 0x21, 0}, {0, 0x23, 0x5B, 0}, {0, 0x5D, 0x7E, 0}, {0, 0xC2, 0xDF, 1}, {0, 0xE0, 0xE0, 4},
    {0, 0xE1, 0xEC, 2}, {0, 0xED, 0xED, 5}, {0, 0xEE, 0xEF, 2}, {0, 0xF0, 0xF0, 6}, {0, 0xF1, 0xF3, 3},
    {0, 0xF4, 0xF4, 7}, {1, 0x80, 0xBF, 0}, {2, 0x80, 0xBF, 1}, {3, 0x80, 0xBF, 2}, {4, 0xA0, 0xBF, 1},
    {5, 0x80, 0x9F, 1}, {6, 0x90, 0xBF, 2}, {7, 0x80, 0x8F, 2},
};

struct state_list {
    uint32_t states[MOST_STATES];
    size_t n;
};

static bool list_add(struct state_list *list, uint32_t state)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->states[i] == state)
            return true;
    if (list->n == MOST_STATES)
        return false;
    list->states[list->n++] = state;
    return true;
}

/* Adds the states behind every character of a slice, from a state in the middle of one; false: not all may follow. */
static bool follow_char(const struct grammar_tables *t, uint32_t state, unsigned char place, struct state_list *behind)
{
    if (!t->deterministic[state])
        return false;
    uint32_t e = t->byte_first[state];
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (places[i].from != place)
            continue;
        for (unsigned byte = places[i].lo; byte <= places[i].hi;) {
            while (e < t->byte_first[state + 1] && t->bytes[e].hi < byte)
                e++;
            if (e == t->byte_first[state + 1] || t->bytes[e].lo > byte)
                return false;
            if (places[i].to == 0 ? !list_add(behind, t->bytes[e].to)
                                  : !follow_char(t, t->bytes[e].to, places[i].to, behind))
                return false;
            byte = t->bytes[e].hi < places[i].hi ? (unsigned)t->bytes[e].hi + 1 : (unsigned)places[i].hi + 1;
        }
    }
    return true;
}

static unsigned char look(const struct grammar_tables *t, uint32_t state)
{
    struct state_list seen = {.states = {state}, .n = 1}, now = seen;
    unsigned char known = KNOWN;
    for (int chars = 0; chars < MOST_CHARS; chars++) {
        struct state_list behind = {.n = 0};
        const size_t before = seen.n;
        bool ends = true, all = true;
        for (size_t i = 0; i < now.n && all; i++)
            all = follow_char(t, now.states[i], 0, &behind);
        if (!all)
            return (unsigned char)(known | chars);
        for (size_t i = 0; i < behind.n; i++) {
            const uint32_t q = behind.states[i];
            ends = ends && t->accepts[q] && t->byte_first[q] == t->byte_first[q + 1] &&
                   t->label_first[q] == t->label_first[q + 1];
            if (!list_add(&seen, behind.states[i]))
                return (unsigned char)(known | chars);
        }
        if (chars == 0 && ends)
            known |= ENDS;
        if (seen.n == before) /* nothing new: it goes on like this */
            return (unsigned char)(known | FOREVER);
        now = behind;
    }
    return (unsigned char)(known | MOST_CHARS);
}

cohort_status guide_slices_open(struct guide_slices *slices, const struct grammar_tables *tables, cohort_error *err)
{
    slices->tables = tables;
    return mem_alloc(&slices->known, tables->n_states, 1, "guide", err);
}

void guide_slices_close(struct guide_slices *slices)
{
    mem_free(slices->known);
    memset(slices, 0, sizeof *slices);
}

int guide_slice(struct guide_slices *slices, const struct machine *machine, const struct guide_vocabulary *vocabulary,
                uint32_t config)
{
    const struct machine_config *c = &machine->configs[config];
    uint32_t most = 0;
    int slice = SLICE_NONE;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct machine_item item = machine->items[c->first + i];
        unsigned char *known = &slices->known[item.state];
        if (*known == 0)
            *known = look(slices->tables, item.state);
        const uint32_t left = (*known & ENDS) != 0 ? machine_left(machine, item) : 0;
        const uint32_t chars = (*known & CHARS) == FOREVER ? REPEAT_FOREVER : *known & CHARS;
        most = chars > most ? chars : most;
        most = left > most ? left : most;
    }
    for (int s = SLICE_SHORT; s < SLICES; s++)
        if (vocabulary->slice_chars[s] > 0 && vocabulary->slice_chars[s] <= most)
            slice = s;
    return slice;
}

cohort_status guide_counted(struct guide_slices *slices, struct machine *machine, uint32_t config, uint32_t *chars,
                            cohort_error *err)
{
    const struct machine_config *c = &machine->configs[config];
    *chars = 0;
    if (c->n != 1)
        return COHORT_OK;
    const struct machine_item item = machine->items[c->first];
    const uint32_t left = machine_left(machine, item);
    if ((slices->known[item.state] & ENDS) == 0 || left == 0 || left >= MEDIUM_CHARS)
        return COHORT_OK;
    uint32_t at = config, next = CONFIG_DEAD;
    for (uint32_t i = 0; i < left; i++)
        TRY(machine_step(machine, at, 'a', &at, err));
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        for (unsigned byte = places[i].lo; places[i].from == 0 && byte <= places[i].hi; byte++) {
            TRY(machine_step(machine, at, (unsigned char)byte, &next, err));
            if (next != CONFIG_DEAD)
                return COHORT_OK;
        }
    *chars = left;
    return COHORT_OK;
}
