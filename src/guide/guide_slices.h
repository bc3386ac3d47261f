/* Whether all tokens of a slice of the vocabulary may follow a configuration: seen from the states of its items alone, by
 * walking the characters of a slice and the states of a rule together. What is found about a state is kept. */
#ifndef COHORT_GUIDE_GUIDE_SLICES_H
#define COHORT_GUIDE_GUIDE_SLICES_H

#include "guide/guide_machine.h"
#include "guide/guide_vocabulary.h"

struct guide_slices {
    const struct grammar_tables *tables;
    unsigned char *known; /* [n_states] */
};
cohort_status guide_slices_open(struct guide_slices *slices, const struct grammar_tables *tables, cohort_error *err);
void guide_slices_close(struct guide_slices *slices);

/* The largest slice of which every token may follow the configuration, or SLICE_NONE. */
int guide_slice(struct guide_slices *slices, const struct machine *machine, const struct guide_vocabulary *vocabulary,
                uint32_t config);
/* *chars > 0: of the tokens of SLICE_ANY exactly those of at most so many characters may follow, because a repetition
 * counts them, and what is behind it begins with none. After guide_slice of the same configuration. */
cohort_status guide_counted(struct guide_slices *slices, struct machine *machine, uint32_t config, uint32_t *chars,
                            cohort_error *err);

#endif
