/* A program that was started and is talked with through pipes, without waiting: its stdin, stdout and stderr are
 * non-blocking here. It has a process group of its own, so that what it starts ends with it.
 *
 * Owns the process, the write end of its stdin, the read ends of its stdout and stderr, and what was read of the two.
 * Whoever waits polls `to`, `from` and `errors`, which are -1 once closed. */
#ifndef COHORT_BASE_CHILD_H
#define COHORT_BASE_CHILD_H

#include "base/memory.h"
#include "base/stop.h"

#include <sys/types.h>

/* Start from child_empty; end it with child_end, then child_free. */
struct child {
    pid_t pid;       /* 0: none, or reaped */
    int exit_status; /* of waitpid, once reaped */
    bool reaped;
    int to, from, errors; /* -1: closed */
    struct text output;   /* of stdout, not yet used */
    struct text tail;     /* the end of stderr */
};
extern const struct child child_empty;

/* Starts arguments[0] (a path, or a name that PATH knows); the list ends with NULL. who begins messages ("reward 'x'").
 * After a failure nothing runs. COHORT_ERR_REWARD: it cannot be started. */
cohort_status child_start(struct child *child, const char *who, char *const arguments[], cohort_error *err);
/* Ends it and all that it started: closes its stdin, waits grace_ms for it to end by itself, then SIGTERM, then SIGKILL.
 * Its texts stay. */
void child_end(struct child *child, int grace_ms);
void child_free(struct child *child);

/* Whether it has ended; it stays a zombie, so that its group's number is not given to others before child_end has sent
 * the group its signals. */
bool child_has_ended(const struct child *child);
/* Waits for its end, reading away what it still says, so that it does not wait for us. Whether it has ended. */
bool child_wait(struct child *child, int limit_ms);

/* Reads what is there, at most 64 KB, to the end of output; closes at the end of the stream. False: out of memory. */
bool child_read(struct child *child);
/* The same of stderr, of which the last 2,000 bytes are kept. */
bool child_read_errors(struct child *child);
/* write, without the SIGPIPE that a closed pipe would send to the host. */
ssize_t child_write(const struct child *child, const char *bytes, size_t length);
void child_close_input(struct child *child);

/* Fills arguments, which end with NULL, for a Python interpreter that runs the text script with two arguments: python by
 * name or path, else (NULL) that of the virtual environment that is active, else python3. What is given stays the
 * caller's. */
enum { CHILD_PYTHON_ARGUMENTS = 9 };
void child_python(char *arguments[CHILD_PYTHON_ARGUMENTS], const char *python, const char *script, const char *first,
                  const char *second);

/* Whether a stop is requested, or will be within a moment: a scheduler tells every process of a job that it ends, and a
 * program may be gone before we are asked to stop. */
bool stop_follows(const struct stop *stop);

/* What happened to a child that was ended, in out[size]: problem, how it ended (by_itself), and the end of its stderr;
 * bare: without a word about a stderr that is empty. */
void child_describe(const struct child *child, const char *problem, bool by_itself, bool bare, char *out, size_t size);

#endif
