/* Says what a file is that is not what was expected: users pass pointers of Git LFS, error pages of a failed
 * download, archives and files of other tools. Every reader of model files and data asks here when a file is not in
 * its format, so that the message says what the file is and what to do. */
#ifndef COHORT_BASE_WRONG_FILE_H
#define COHORT_BASE_WRONG_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* What a reader of the file wants. */
enum wrong_file_wanted { WRONG_FILE_WEIGHTS, WRONG_FILE_JSON, WRONG_FILE_ROWS };

/* Returns a clause about the bytes that a file begins with, to follow "PATH: ", or NULL if they are of no known
 * kind: "a pointer of Git LFS in place of the file; ...". Advice fits what is wanted. At most the first 512 bytes
 * are looked at. */
const char *wrong_file(const void *bytes, size_t length, enum wrong_file_wanted wanted);

#endif
