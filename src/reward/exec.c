/* Rewards from a program: started once, asked with JSON lines, one batch at a time.
 *
 * Owns the child (its own process group), the write end of its stdin, the read ends of its stdout
 * and stderr, what was read of the two and not used yet. States: running -> broken    on any
 * failure: what the program would say next belongs to no batch. The group is killed at once, and
 *                        later batches fail with the first message;
 *   running -> finished  when it ends or closes its output after the last answer of a batch; the
 * next batch fails. All descriptors are non-blocking and served by one poll, so that neither side can wait for the
 * other for ever.
 *
 * Request: a line per row, nothing else, so that a program may answer line by line; the last has
 * "last_of_batch": true for one that works in batches. The field is in no other row: what is the
 * same for nearly all rows need not be written, and Python's row.get("last_of_batch") is then None,
 * which is false. Names of ours ("prompt", "completion", ...) win over columns of the same name,
 * which the rendered text replaces. Answer: a line per row; empty lines
 * are passed over, a last line may lack its newline if the program ends. */
#include "base/number.h"
#include "base/json_text.h"
#include "reward/reward_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utf8proc.h>

enum {
    STDERR_TAIL = 2000,
    ANSWER_LIMIT = 1 << 20, /* bytes of one line */
    CHUNK = 1 << 16,
    GOODBYE_MS = 2000, /* from closing stdin to SIGTERM */
    ENDING_MS = 1000,  /* from the end of stdout to the exit, whose status the message tells */
    TERM_MS = 500      /* from SIGTERM to SIGKILL */
};

struct exec_state {
    const struct stop *stop; /* borrowed */
    double timeout_s;
    pid_t pid;       /* 0: none, or reaped */
    int exit_status; /* of waitpid, once reaped */
    bool reaped;
    int to, from, errors;         /* -1: closed */
    bool broken, finished, asked; /* asked: a batch has been answered */
    struct text answers;          /* of stdout, not yet used */
    struct text tail;             /* of stderr */
    char failure[1000];           /* the first one */
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --- the child --- */

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

static int spawn(struct exec_state *state, const char *program, const int child[3])
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    char shell[] = "sh", option[] = "-c";
    char *arguments[] = {shell, option, (char *)(uintptr_t)program, NULL};
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
        code = posix_spawn_file_actions_adddup2(&actions, child[i], i);
    if (code == 0)
        code = posix_spawn(&state->pid, "/bin/sh", &actions, &attributes, arguments, environ);
    if (code != 0)
        state->pid = 0;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return code;
}

/* Whether the child has ended; it stays a zombie, so that its group's number cannot be given to
 * others before end_child has sent the group its signals. */
static bool has_ended(const struct exec_state *state)
{
    siginfo_t info = {0};
    if (state->pid == 0)
        return true;
    if (waitid(P_PID, (id_t)state->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
        return errno == ECHILD; /* the host ignores SIGCHLD: nothing to wait for */
    return info.si_pid != 0;
}

static bool read_some(int *fd, struct text *into);
static void keep_tail(struct text *tail);

/* Waits for the end, reading what the program still says, so that it does not wait for us. */
static bool wait_end(struct exec_state *state, int limit_ms)
{
    double deadline = now_s() + limit_ms * 1e-3;
    for (;;) {
        bool ended = has_ended(state);
        if (state->from >= 0) {
            read_some(&state->from, &state->answers);
            state->answers.length = 0;
        }
        if (state->errors >= 0) {
            read_some(&state->errors, &state->tail);
            keep_tail(&state->tail);
        }
        if (ended || now_s() >= deadline)
            return ended;
        struct timespec pause = {0, 5000000};
        nanosleep(&pause, NULL);
    }
}

/* Ends the child and all it started, waiting grace_ms for it to end by itself. */
static void end_child(struct exec_state *state, int grace_ms)
{
    close_fd(&state->to);
    if (state->pid != 0) {
        if (!wait_end(state, grace_ms)) {
            kill(-state->pid, SIGTERM);
            wait_end(state, TERM_MS);
        }
        kill(-state->pid, SIGKILL); /* the rest of the group too */
        int code = 0;
        pid_t got = 0;
        do
            got = waitpid(state->pid, &code, 0);
        while (got < 0 && errno == EINTR);
        state->reaped = got == state->pid;
        state->exit_status = code;
        state->pid = 0;
    }
    close_fd(&state->from);
    close_fd(&state->errors);
}

static void exec_destroy(void *opaque)
{
    struct exec_state *state = opaque;
    end_child(state, state->broken ? 0 : GOODBYE_MS);
    text_free(&state->answers);
    text_free(&state->tail);
    mem_free(state);
}

cohort_status reward_exec_create(void **out, const char *program, double timeout_s, const struct stop *stop,
                                 cohort_error *err)
{
    struct exec_state *state = NULL;
    int in[2] = {-1, -1}, answers[2] = {-1, -1}, errors[2] = {-1, -1};
    cohort_status status = COHORT_OK;
    if (!isfinite(timeout_s) || timeout_s < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the timeout of reward 'exec:%.80s' is %g; expected seconds above 0, or 0 "
                         "for 60",
                         program, timeout_s);
    TRY(mem_alloc(&state, 1, sizeof *state, "reward", err));
    state->to = state->from = state->errors = -1;
    state->stop = stop;
    state->timeout_s = timeout_s == 0 ? 60 : timeout_s;
    TRY_GOTO(text_append(&state->tail, "", 0, err));
    TRY_GOTO(text_append(&state->answers, "", 0, err));
    if (make_pipe(in) != 0 || make_pipe(answers) != 0 || make_pipe(errors) != 0) {
        status = error_set(err, COHORT_ERR_IO, "reward 'exec:%.80s': cannot make a pipe: %s", program, strerror(errno));
        goto cleanup;
    }
    state->to = in[1];
    state->from = answers[0];
    state->errors = errors[0];
    in[1] = answers[0] = errors[0] = -1;
    const int child[3] = {in[0], answers[1], errors[1]};
    int code = spawn(state, program, child);
    if (code != 0) {
        status =
            error_set(err, COHORT_ERR_REWARD, "reward 'exec:%.80s': cannot start /bin/sh: %s", program, strerror(code));
        goto cleanup;
    }
    const int mine[3] = {state->to, state->from, state->errors};
    for (int i = 0; i < 3; i++)
        if (fcntl(mine[i], F_SETFL, O_NONBLOCK) != 0) {
            status = error_set(err, COHORT_ERR_IO, "reward 'exec:%.80s': cannot set up a pipe: %s", program,
                               strerror(errno));
            goto cleanup;
        }
    *out = state;
    state = NULL;
cleanup:
    for (int i = 0; i < 2; i++) {
        close_fd(&in[i]);
        close_fd(&answers[i]);
        close_fd(&errors[i]);
    }
    if (state != NULL) {
        state->broken = true;
        exec_destroy(state);
    }
    return status;
}

/* --- reading and writing without blocking --- */

/* Writes without the SIGPIPE that a closed pipe would send to the host: blocked for this thread,
 * and taken back if it came. */
static ssize_t write_quietly(int fd, const char *bytes, size_t length)
{
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    ssize_t n = write(fd, bytes, length);
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

/* Reads what is there, at most a chunk; closes at the end of the stream. False: out of memory. */
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

/* --- one batch --- */

/* text as JSON, NULs too; what is not UTF-8 becomes U+FFFD (a completion may end within a character). */
static json_t *json_text(const char *text, size_t length)
{
    json_t *json = json_stringn(text, length);
    if (json != NULL)
        return json;
    struct text clean = {0};
    bool good = text_append(&clean, "", 0, NULL) == COHORT_OK;
    while (good && length > 0) {
        utf8proc_int32_t code = 0;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &code);
        size_t used = n > 0 ? (size_t)n : 1;
        good = text_append(&clean, n > 0 ? text : "\xef\xbf\xbd", n > 0 ? used : 3, NULL) == COHORT_OK;
        text += used;
        length -= used;
    }
    json = good ? json_stringn(clean.data, clean.length) : NULL;
    text_free(&clean);
    return json;
}

static cohort_status append_row(struct text *request, const struct reward_row *row, bool last, cohort_error *err)
{
    static const char last_of_batch[] = "last_of_batch";
    json_t *object = json_object();
    json_t *tokens = json_array();
    const char *key = NULL;
    json_t *value = NULL;
    bool bad = object == NULL || tokens == NULL;
    for (int32_t i = 0; !bad && i < row->n_tokens; i++)
        bad = json_array_append_new(tokens, json_integer(row->tokens[i])) != 0;
    bad = bad || json_object_set_new(object, "prompt", json_text(row->prompt, row->prompt_length)) != 0 ||
          json_object_set_new(object, "completion", json_text(row->completion, row->completion_length)) != 0 ||
          json_object_set(object, "tokens", tokens) != 0 ||
          json_object_set_new(object, "finish_reason", json_string(row->finish_reason)) != 0 ||
          json_object_set_new(object, "prompt_index", json_integer(row->prompt_index)) != 0 ||
          json_object_set_new(object, "completion_index", json_integer(row->completion_index)) != 0 ||
          (last && json_object_set_new(object, last_of_batch, json_true()) != 0);
    if (!bad) {
        json_object_foreach((json_t *)(uintptr_t)row->data, key, value)
        {
            if (!bad && json_object_get(object, key) == NULL && strcmp(key, last_of_batch) != 0)
                bad = json_object_set(object, key, value) != 0;
        }
    }
    cohort_status status = bad ? error_set(err, COHORT_ERR_MEMORY, "a row for a reward program: out of memory")
                               : json_text_write(object, JSON_COMPACT, request, err);
    if (status == COHORT_OK)
        status = text_append(request, "\n", 1, err);
    json_decref(tokens);
    json_decref(object);
    return status;
}

/* Fails the batch, for good: says what happened, how the program ended if it did, and the end of
 * its stderr. */
static cohort_status break_down(struct exec_state *state, const char *name, const char *problem, int grace_ms,
                                cohort_error *err)
{
    char ending[80] = "";
    bool by_itself = wait_end(state, grace_ms);
    end_child(state, 0);
    if (by_itself && state->reaped && WIFEXITED(state->exit_status))
        snprintf(ending, sizeof ending, " (exit status %d)", WEXITSTATUS(state->exit_status));
    else if (by_itself && state->reaped && WIFSIGNALED(state->exit_status))
        snprintf(ending, sizeof ending, " (killed by signal %d)", WTERMSIG(state->exit_status));
    /* The end is what tells; as much of it as the message has room for. */
    const char *tail = state->tail.data;
    size_t length = state->tail.length;
    size_t room = sizeof state->failure - strlen(problem) - strlen(ending) - 40;
    while (length > 0 && (tail[length - 1] == '\n' || tail[length - 1] == ' '))
        length--;
    size_t skipped = length > room ? length - room : 0;
    while (skipped < length && ((unsigned char)tail[skipped] & 0xc0) == 0x80)
        skipped++; /* not from within a character */
    state->broken = true;
    snprintf(state->failure, sizeof state->failure, "%s%s; its stderr %s%s%.*s", problem, ending,
             length > 0 ? "ends: " : "is empty", skipped > 0 ? "..." : "", (int)(length - skipped), tail + skipped);
    return error_set(err, COHORT_ERR_REWARD, "reward '%.100s': %s", name, state->failure);
}

/* One line of an answer. False, with problem filled, if it is not a number, null or {"reward":
 * ...}. */
static bool parse_answer(const char *line, size_t length, double *reward, char *problem, size_t problem_size)
{
    json_t *answer = NULL;
    (void)json_text_parse(&answer, line, length, "answer", 2, JSON_TEXT_ANY, NULL);
    const json_t *value = json_is_object(answer) ? json_object_get(answer, "reward") : answer;
    bool good = json_is_number(value) || json_is_null(value);
    if (good)
        *reward = json_is_null(value) ? (double)NAN : json_number_value(value);
    else
        snprintf(problem, problem_size,
                 "answered '%.*s%s'; expected a finite number, null or {\"reward\": ...}, and "
                 "nothing else on its standard output: print what is for you to standard error "
                 "(Python: file=sys.stderr in print)",
                 (int)(length > 100 ? 100 : length), line, length > 100 ? "..." : "");
    json_decref(answer);
    return good;
}

static bool blank_line(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* Uses up the whole lines of what was read (at the end of the stream also the rest); *n_answers of
 * them so far. False: problem says why. */
static bool take_answers(struct exec_state *state, double *rewards, size_t n_rows, size_t *n_answers, char *problem,
                         size_t problem_size)
{
    size_t start = 0;
    bool good = true;
    while (good && start < state->answers.length) {
        const char *line = state->answers.data + start;
        size_t left = state->answers.length - start;
        const char *newline = memchr(line, '\n', left);
        if (newline == NULL && state->from >= 0) {
            if (left > ANSWER_LIMIT) {
                snprintf(problem, problem_size,
                         "answered a line of more than %d bytes; expected a "
                         "number, null or {\"reward\": ...}",
                         ANSWER_LIMIT);
                good = false;
            }
            break;
        }
        size_t length = newline != NULL ? (size_t)(newline - line) : left;
        start += length + (newline != NULL);
        if (blank_line(line, length))
            continue;
        if (*n_answers == n_rows) {
            snprintf(problem, problem_size,
                     "answered more lines than the %zu rows of the batch; expected one for each, "
                     "and what is for you on standard error",
                     n_rows);
            good = false;
        } else {
            char reason[400];
            good = parse_answer(line, length, &rewards[*n_answers], reason, sizeof reason);
            if (!good)
                snprintf(problem, problem_size, "row %zu of %zu: %s", *n_answers + 1, n_rows, reason);
            ++*n_answers;
        }
    }
    state->answers.length -= start;
    memmove(state->answers.data, state->answers.data + start, state->answers.length);
    return good;
}

struct batch {
    const char *request;
    size_t left; /* of request, in bytes */
    size_t n_rows, n_answers;
    double *rewards;
    double deadline;
};

/* Waits for a descriptor and serves all that are ready. */
static bool serve(struct exec_state *state, struct batch *batch, double wait_s, char *problem, size_t problem_size)
{
    struct pollfd polled[3] = {{.fd = state->from, .events = POLLIN},
                               {.fd = state->errors, .events = POLLIN},
                               {.fd = batch->left > 0 ? state->to : -1, .events = POLLOUT}};
    int wait_ms = wait_s > 1e6 ? 1000000000 : (int)(wait_s * 1e3) + 1;
    if (wait_s <= 0)
        wait_ms = 0;
    if (poll(polled, 3, wait_ms) < 0 && errno != EINTR) {
        snprintf(problem, problem_size, "poll failed: %s", strerror(errno));
        return false;
    }
    bool good = true;
    if (polled[1].revents != 0) {
        good = read_some(&state->errors, &state->tail);
        keep_tail(&state->tail);
    }
    if (good && polled[0].revents != 0)
        good = read_some(&state->from, &state->answers);
    if (!good) {
        snprintf(problem, problem_size, "out of memory for its output");
        return false;
    }
    if (polled[2].revents != 0) {
        size_t piece = batch->left < CHUNK ? batch->left : CHUNK;
        ssize_t n = write_quietly(state->to, batch->request, piece);
        if (n >= 0) {
            batch->request += n;
            batch->left -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            close_fd(&state->to); /* it reads no more; it may have read enough to answer */
            batch->left = 0;
        }
    }
    return polled[0].revents == 0 ||
           take_answers(state, batch->rewards, batch->n_rows, &batch->n_answers, problem, problem_size);
}

/* Why the answers of a batch may be missing when its time is over. */
static void describe_silence(const struct exec_state *state, const struct batch *batch, char *problem,
                             size_t problem_size)
{
    char why[400] = "";
    size_t part = state->answers.length; /* of a line */
    if (batch->left > 0)
        snprintf(why, sizeof why,
                 "it does not read its input: the pipe is full and %zu bytes of the batch wait; "
                 "it must read its standard input.",
                 batch->left);
    else if (batch->n_answers == 0 && part == 0)
        snprintf(why, sizeof why,
                 "it printed nothing: does it flush its output (Python: print(..., flush=True))? "
                 "Does it wait for an empty line? There is none: the last row of a batch has "
                 "\"last_of_batch\": true.");
    else if (part > 0)
        snprintf(why, sizeof why,
                 "its last line, '%.*s%s', has no newline; does it flush its output (Python: "
                 "print(..., flush=True))?",
                 (int)(part > 40 ? 40 : part), state->answers.data, part > 40 ? "..." : "");
    else
        snprintf(why, sizeof why,
                 "the others are missing: does it answer every row, and flush its output (Python: "
                 "print(..., flush=True))?");
    number_format(problem, problem_size,
                  "no answer within %g s (%zu of %zu rows answered): %s Or raise --reward-timeout if it "
                  "needs longer",
                  state->timeout_s, batch->n_answers, batch->n_rows, why);
}

static cohort_status ask(struct exec_state *state, const char *name, struct batch *batch, cohort_error *err)
{
    static const double look_s = 0.05; /* between two looks at stop */
    char problem[700] = "";
    while (batch->n_answers < batch->n_rows || batch->left > 0) {
        if (stop_requested(state->stop)) { /* what the program says from now on belongs to no batch */
            state->broken = true;
            snprintf(state->failure, sizeof state->failure, "stopped on request");
            return stop_check(state->stop, err);
        }
        if (state->from < 0 && batch->n_answers == batch->n_rows)
            break; /* all is answered and it has gone */
        if (state->from < 0) {
            snprintf(problem, sizeof problem, "the program ended after %zu of %zu answers", batch->n_answers,
                     batch->n_rows);
            return break_down(state, name, problem, ENDING_MS, err);
        }
        double wait_s = batch->deadline - now_s();
        if (wait_s <= 0) {
            describe_silence(state, batch, problem, sizeof problem);
            return break_down(state, name, problem, 0, err);
        }
        if (!serve(state, batch, wait_s < look_s ? wait_s : look_s, problem, sizeof problem))
            return break_down(state, name, problem, 0, err);
    }
    /* What came with the last answer belongs to this batch; what comes later is found before the
     * next. */
    if (state->from >= 0 && !serve(state, batch, 0, problem, sizeof problem))
        return break_down(state, name, problem, 0, err);
    if (state->answers.length > 0 && !blank_line(state->answers.data, state->answers.length)) {
        snprintf(problem, sizeof problem, "answered more than the %zu rows of the batch", batch->n_rows);
        return break_down(state, name, problem, 0, err);
    }
    state->finished = state->from < 0 || state->to < 0;
    state->asked = true;
    return COHORT_OK;
}

static cohort_status exec_score(void *opaque, const char *name, const struct reward_row *rows, size_t n_rows,
                                double *rewards, cohort_error *err)
{
    struct exec_state *state = opaque;
    struct text request = {0};
    cohort_status status = COHORT_OK;
    char problem[200] = "";
    if (state->broken)
        return error_set(err, COHORT_ERR_REWARD, "reward '%.100s': stopped by an earlier failure: %s", name,
                         state->failure);
    for (size_t i = 0; i < n_rows; i++)
        TRY_GOTO(append_row(&request, &rows[i], i + 1 == n_rows, err));
    struct batch batch = {.rewards = rewards, .deadline = now_s() + state->timeout_s};
    /* No rows are expected yet, so any answer is one too many for the batch before. */
    if (state->asked && !state->finished && !serve(state, &batch, 0, problem, sizeof problem)) {
        status = break_down(state, name, "answered more lines than the batch before this one had rows", 0, err);
        goto cleanup;
    }
    if (state->asked && (state->finished || state->from < 0)) {
        status = break_down(state, name,
                            "the program has ended after an earlier batch; it must go on until its "
                            "input ends",
                            ENDING_MS, err);
        goto cleanup;
    }
    batch.request = request.data;
    batch.left = request.length;
    batch.n_rows = n_rows;
    status = ask(state, name, &batch, err);
cleanup:
    text_free(&request);
    return status;
}

const struct reward_kind reward_kind_exec = {exec_score, exec_destroy, NULL};
