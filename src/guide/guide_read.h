/* What the readers of guided_regex, guided_json and so on share. Nothing outside src/guide includes this. */
#ifndef COHORT_GUIDE_GUIDE_READ_H
#define COHORT_GUIDE_GUIDE_READ_H

#include "guide/guide.h"

struct guide_reading {
    struct grammar *grammar;
    const struct guide_vocabulary *vocabulary;
    const struct guide_options *options;
    const char *origin;
    struct text *ignored; /* may be NULL */
};

#endif
