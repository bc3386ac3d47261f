#include "cohort.h"

const char *cohort_version(void) { return COHORT_VERSION; }
