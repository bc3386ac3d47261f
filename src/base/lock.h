/* A lock that tells one writer from another, by the open file description (F_OFD_SETLK): the kernel releases it when
 * the last descriptor of that description is closed, so at the latest at the death of its holder, and two handles of
 * one process refuse each other like two processes. Descriptors are closed on exec, so programs that are started do not
 * hold it; a fork without exec shares the description, which is why a holder unlocks before it closes. */
#ifndef COHORT_BASE_LOCK_H
#define COHORT_BASE_LOCK_H

#include "base/memory.h"

enum lock_result {
    LOCK_TAKEN,
    LOCK_HELD,       /* by another description */
    LOCK_UNSUPPORTED /* the file system knows no locks (some network file systems) */
};
/* Does not wait. fd must be open for writing; path is for the message. */
cohort_status lock_take(int fd, const char *path, enum lock_result *result, cohort_error *err);
void lock_release(int fd);

/* Who holds a lock, as it is written into the locked file: one line each for what, host, pid and since. */
cohort_status lock_write_holder(int fd, const char *path, const char *what, cohort_error *err);
struct lock_holder {
    char host[256], since[40]; /* empty if it cannot be read */
    long pid;                  /* 0 likewise */
    bool here;                 /* on this machine */
    bool alive;                /* only with here */
    bool cut;                  /* not even the first line is whole: nothing is filled */
};
/* Text that nobody else's file has: "cohort WHAT". False if the file begins with anything else. A file whose writer was cut
 * off (it is empty, ends within that line, or has zeros in place of it) is true. */
bool lock_read_holder(int fd, const char *what, struct lock_holder *holder);

#endif
