/* Weights from the type of a file to that of a table. */
#ifndef COHORT_FORMAT_CHECKPOINT_CONVERT_H
#define COHORT_FORMAT_CHECKPOINT_CONVERT_H

#include "tensor/dtype.h"

#include <stdbool.h>

/* count elements, rounded to nearest even; want is F32 or BF16. from may lie at any byte. False if some result is not
 * finite. */
bool checkpoint_convert(enum dtype from_type, const unsigned char *from, int64_t count, enum dtype want, void *to);
/* Whether all of count elements that lie at a multiple of their size are finite. */
bool checkpoint_finite(enum dtype type, const void *from, int64_t count);

#endif
