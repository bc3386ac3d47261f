/* What a file is that is not what was expected: people hand over pointers of Git LFS, pages of a download that failed,
 * archives and files of other tools. Every reader of model files and data asks here when a file is not what it reads,
 * so that the message says what it is and what to do. */
#ifndef COHORT_BASE_WRONG_FILE_H
#define COHORT_BASE_WRONG_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* What a reader of the file wants. */
enum wrong_file_wanted { WRONG_FILE_WEIGHTS, WRONG_FILE_JSON, WRONG_FILE_ROWS };

/* A clause about the bytes a file begins with, to stand behind "PATH: ", or NULL if they are nothing known: "a pointer
 * of Git LFS in place of the file; ...". Advice fits what is wanted. At most the first 512 bytes are looked at. */
const char *wrong_file(const void *bytes, size_t length, enum wrong_file_wanted wanted);

#endif
