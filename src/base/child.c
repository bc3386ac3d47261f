#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    STDERR_TAIL = 2000,
    CHUNK = 1 << 16,
    TERM_MS = 500 /* from SIGTERM to SIGKILL */
};

const struct child child_empty = {.to = -1, .from = -1, .errors = -1};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* A pipe of descriptors above 2 (the host may have closed its own 0 to 2), closed on exec. */
static int make_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0) {
        ends[0] = ends[1] = -1;
        return -1;
    }
    for (int i = 0; i < 2; i++)
        if (ends[i] <= 2) {
            int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
            close(ends[i]);
            ends[i] = moved;
            if (moved < 0)
                return -1;
        }
    return 0;
}

static int spawn(struct child *child, char *const arguments[], const int ends[3])
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    int code = posix_spawn_file_actions_init(&actions);
    if (code != 0)
        return code;
    code = posix_spawnattr_init(&attributes);
    if (code != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return code;
    }
    /* A group of its own, so that what the shell starts ends with it; and the signals a fresh
     * program expects. */
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGXFSZ);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes,
                             (short)(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
    for (int i = 0; i < 3 && code == 0; i++)
        code = posix_spawn_file_actions_adddup2(&actions, ends[i], i);
    if (code == 0)
        code = posix_spawnp(&child->pid, arguments[0], &actions, &attributes, arguments, environ);
    if (code != 0)
        child->pid = 0;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return code;
}

/* SIGPIPE is blocked for this thread, and taken back if it came. */
ssize_t child_write(const struct child *child, const char *bytes, size_t length)
{
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    ssize_t n = write(child->to, bytes, length);
    int code = errno;
    if (n < 0 && code == EPIPE && !was_pending) {
        const struct timespec at_once = {0, 0};
        while (sigtimedwait(&pipe_signal, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return n;
}

static bool read_some(int *fd, struct text *into)
{
    char chunk[CHUNK];
    ssize_t n = read(*fd, chunk, sizeof chunk);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0) {
        close_fd(fd);
        return true;
    }
    return text_append(into, chunk, (size_t)n, NULL) == COHORT_OK;
}

static void keep_tail(struct text *tail)
{
    if (tail->length > STDERR_TAIL) {
        size_t start = tail->length - STDERR_TAIL;
        memmove(tail->data, tail->data + start, STDERR_TAIL);
        tail->length = STDERR_TAIL;
        tail->data[tail->length] = '\0';
    }
}

bool child_read(struct child *child) { return read_some(&child->from, &child->output); }

bool child_read_errors(struct child *child)
{
    const bool good = read_some(&child->errors, &child->tail);
    keep_tail(&child->tail);
    return good;
}

void child_close_input(struct child *child) { close_fd(&child->to); }

bool child_has_ended(const struct child *child)
{
    siginfo_t info = {0};
    if (child->pid == 0)
        return true;
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
        return errno == ECHILD; /* the host ignores SIGCHLD: nothing to wait for */
    return info.si_pid != 0;
}

bool child_wait(struct child *child, int limit_ms)
{
    double deadline = clock_seconds() + limit_ms * 1e-3;
    for (;;) {
        bool ended = child_has_ended(child);
        if (child->from >= 0) {
            (void)child_read(child);
            child->output.length = 0;
        }
        if (child->errors >= 0) {
            (void)child_read_errors(child);
        }
        if (ended || clock_seconds() >= deadline)
            return ended;
        struct timespec pause = {0, 5000000};
        nanosleep(&pause, NULL);
    }
}

void child_end(struct child *child, int grace_ms)
{
    close_fd(&child->to);
    if (child->pid != 0) {
        if (!child_wait(child, grace_ms)) {
            kill(-child->pid, SIGTERM);
            child_wait(child, TERM_MS);
        }
        kill(-child->pid, SIGKILL); /* the rest of the group too */
        int code = 0;
        pid_t got = 0;
        do
            got = waitpid(child->pid, &code, 0);
        while (got < 0 && errno == EINTR);
        child->reaped = got == child->pid;
        child->exit_status = code;
        child->pid = 0;
    }
    close_fd(&child->from);
    close_fd(&child->errors);
}

/* ---- The life of one ---- */

static cohort_status open_pipes(struct child *child, int ends[3], const char *who, cohort_error *err)
{
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    bool made = true;
    for (int i = 0; i < 3; i++)
        made = made && make_pipe(pipes[i]) == 0;
    const int code = errno;
    ends[0] = pipes[0][0]; /* the child's */
    ends[1] = pipes[1][1];
    ends[2] = pipes[2][1];
    child->to = pipes[0][1];
    child->from = pipes[1][0];
    child->errors = pipes[2][0];
    return made ? COHORT_OK : error_set(err, COHORT_ERR_IO, "%s: cannot make a pipe: %s", who, strerror(code));
}

cohort_status child_start(struct child *child, const char *who, char *const arguments[], cohort_error *err)
{
    int ends[3] = {-1, -1, -1};
    cohort_status status = COHORT_OK;
    *child = child_empty;
    TRY_GOTO(text_append(&child->tail, "", 0, err));
    TRY_GOTO(text_append(&child->output, "", 0, err));
    TRY_GOTO(open_pipes(child, ends, who, err));
    int code = spawn(child, arguments, ends);
    if (code != 0)
        TRY_GOTO(error_set(err, COHORT_ERR_REWARD, "%s: cannot start %s: %s", who, arguments[0], strerror(code)));
    const int mine[3] = {child->to, child->from, child->errors};
    for (int i = 0; i < 3 && status == COHORT_OK; i++)
        if (fcntl(mine[i], F_SETFL, O_NONBLOCK) != 0)
            status = error_set(err, COHORT_ERR_IO, "%s: cannot set up a pipe: %s", who, strerror(errno));
cleanup:
    for (int i = 0; i < 3; i++)
        close_fd(&ends[i]);
    if (status != COHORT_OK) {
        child_end(child, 0);
        child_free(child);
    }
    return status;
}

void child_free(struct child *child)
{
    text_free(&child->output);
    text_free(&child->tail);
    *child = child_empty;
}

/* $1: --python, else that of the virtual environment that is active, else the python3 of PATH. */
static const char start_interpreter[] =
    "p=${1:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python3}\n"
    "command -v \"$p\" >/dev/null || {\n"
    "    echo \"there is no interpreter '$p': name one with --python, or activate a virtual environment\" >&2\n"
    "    exit 127\n"
    "}\n"
    "exec \"$p\" -c \"$2\" \"$3\" \"$4\"\n";

void child_python(char *arguments[CHILD_PYTHON_ARGUMENTS], const char *python, const char *script, const char *first,
                  const char *second)
{
    const char *const all[CHILD_PYTHON_ARGUMENTS] = {
        "/bin/sh", "-c", start_interpreter, "cohort", python == NULL ? "" : python, script, first, second, NULL};
    for (int i = 0; i < CHILD_PYTHON_ARGUMENTS; i++)
        arguments[i] = (char *)(uintptr_t)all[i];
}

bool stop_follows(const struct stop *stop)
{
    enum { MOST_MS = 200, LOOK_MS = 10 };
    for (int waited_ms = 0; !stop_requested(stop); waited_ms += LOOK_MS) {
        if (stop == NULL || waited_ms == MOST_MS)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    }
    return true;
}

void child_describe(const struct child *child, const char *problem, bool by_itself, bool bare, char *out, size_t size)
{
    char ending[80] = "";
    if (by_itself && child->reaped && WIFEXITED(child->exit_status))
        snprintf(ending, sizeof ending, " (exit status %d)", WEXITSTATUS(child->exit_status));
    else if (by_itself && child->reaped && WIFSIGNALED(child->exit_status))
        snprintf(ending, sizeof ending, " (killed by signal %d)", WTERMSIG(child->exit_status));
    /* The end is what tells; as much of it as the message has room for. */
    const char *tail = child->tail.data;
    size_t length = child->tail.length;
    const size_t used = strlen(problem) + strlen(ending) + 40, room = size > used ? size - used : 0;
    while (length > 0 && (tail[length - 1] == '\n' || tail[length - 1] == ' '))
        length--;
    size_t skipped = length > room ? length - room : 0;
    while (skipped < length && ((unsigned char)tail[skipped] & 0xc0) == 0x80)
        skipped++; /* not from within a character */
    if (length == 0 && bare)
        snprintf(out, size, "%s", problem);
    else
        snprintf(out, size, "%s%s; its stderr %s%s%.*s", problem, ending, length > 0 ? "ends: " : "is empty",
                 skipped > 0 ? "..." : "", (int)(length - skipped), tail + skipped);
}
