/* Event files as TensorBoard reads them (its own readers are the tests' oracle).
 *
 * One file for each start of a program: TensorBoard's loaders ignore an older one once a newer is there. It begins with a
 * mark that says which step it starts from, so that steps of an earlier file that are done again are dropped there. Each
 * record is one write, so that a reader sees it whole or waits. */
#ifndef COHORT_RUN_EVENT_FILE_H
#define COHORT_RUN_EVENT_FILE_H

#include "base/memory.h"

struct event_file {
    int fd; /* 0: closed */
    char *path;
    uint32_t crc[256];
    struct text record;
};
/* Makes a file in dir, which must exist. step: the first that will be written. */
cohort_status event_file_open(struct event_file *file, const char *dir, double time, int64_t step, cohort_error *err);
/* One event with these scalars; NaN and infinity are written as they are. time: seconds since 1970. */
cohort_status event_file_scalars(struct event_file *file, double time, int64_t step, const cohort_metric *metrics,
                                 size_t n, cohort_error *err);
/* A text, which TensorBoard shows as Markdown. */
cohort_status event_file_text(struct event_file *file, double time, int64_t step, const char *tag, const char *text,
                              size_t length, cohort_error *err);
/* Accepts a zeroed one. */
void event_file_close(struct event_file *file);

#endif
