/* What was meant by a path at which there is nothing: an address, or a name of the Hugging Face Hub. Everything here is
 * read from local files, so that the message says how to get them. */
#ifndef COHORT_BASE_ABSENT_H
#define COHORT_BASE_ABSENT_H

#include "base/error.h"

enum absent_wanted { ABSENT_MODEL, ABSENT_DATA };

/* Whether path is an address: letters, digits or + - . and "://". */
bool absent_is_address(const char *path);

/* The error that path is an address or may be a name of the Hub (OWNER/NAME, also with ":" and more behind it), with the
 * command that downloads it; COHORT_OK and err as it was where it is neither. Whether there is something at path is for
 * the caller to look. */
cohort_status absent_explain(const char *path, enum absent_wanted wanted, cohort_error *err);

#endif
