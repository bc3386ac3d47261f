/* Rows packed into bins: best fit, longest first, as TRL packs them (strategy "bfd"; Ding et al., "Fewer
 * Truncations Improve Language Modeling", https://arxiv.org/abs/2404.10830). */
#ifndef COHORT_RECIPE_BEST_FIT_H
#define COHORT_RECIPE_BEST_FIT_H

#include "base/memory.h"

#include <stdint.h>

/* As many rows are looked at together, as TRL has them of datasets.map. */
enum { BEST_FIT_WINDOW = 1000 };

/* order[0 .. n) becomes the n rows, bin after bin, begin[b] where bin b begins in it; *n_bins of them.
 * length: tokens, 1 to room. The longest row comes first (of equal ones the earlier), and goes into the bin that it fills
 * best, of equal ones into the one that has had that room for longest, else into a new one. */
cohort_status best_fit_pack(const int32_t *length, size_t n, int32_t room, uint32_t *order, uint32_t *begin,
                            size_t *n_bins, cohort_error *err);

#endif
