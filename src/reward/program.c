/* A program that scores: started once, asked with JSON lines, one batch at a time. exec.c knows what the lines say.
 *
 * Owns the child (its own process group), the write end of its stdin, the read ends of its stdout
 * and stderr, what was read of the two and not used yet. States: running -> broken    on any
 * failure: what the program would say next belongs to no batch. The group is killed at once, and
 *                        later batches fail with the first message;
 *   running -> finished  when it ends or closes its output after the last answer of a batch; the
 * next batch fails. All descriptors are non-blocking and served by one poll, so that neither side can wait for the
 * other for ever.
 *
 * Answer: a line per row; empty lines are passed over, a last line may lack its newline if the program ends. */
#include "base/number.h"
#include "base/json_text.h"
#include "reward/program.h"

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

enum {
    STDERR_TAIL = 2000,
    ANSWER_LIMIT = 1 << 24, /* bytes of one line: a list for 2^19 tokens */
    CHUNK = 1 << 16,
    GOODBYE_MS = 2000, /* from closing stdin to SIGTERM */
    STOP_MS = 200,     /* in which a stop may follow the program's end */
    ENDING_MS = 1000,  /* from the end of stdout to the exit, whose status the message tells */
    TERM_MS = 500,     /* from SIGTERM to SIGKILL */
    PROBLEM_SIZE = 700
};

struct program {
    const struct stop *stop, *ending; /* borrowed */
    const char *role;                 /* static */
    double timeout_s;
    pid_t pid;       /* 0: none, or reaped */
    int exit_status; /* of waitpid, once reaped */
    bool reaped;
    int to, from, errors;         /* -1: closed */
    bool broken, finished, asked; /* asked: a batch has been answered */
    bool told;                    /* it said itself what is wrong */
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

static int spawn(struct program *program, char *const arguments[], const int child[3])
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
        code = posix_spawn_file_actions_adddup2(&actions, child[i], i);
    if (code == 0)
        code = posix_spawnp(&program->pid, arguments[0], &actions, &attributes, arguments, environ);
    if (code != 0)
        program->pid = 0;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return code;
}

/* Whether the child has ended; it stays a zombie, so that its group's number cannot be given to
 * others before end_child has sent the group its signals. */
static bool has_ended(const struct program *program)
{
    siginfo_t info = {0};
    if (program->pid == 0)
        return true;
    if (waitid(P_PID, (id_t)program->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
        return errno == ECHILD; /* the host ignores SIGCHLD: nothing to wait for */
    return info.si_pid != 0;
}

static bool read_some(int *fd, struct text *into);
static void keep_tail(struct text *tail);

/* Waits for the end, reading what the program still says, so that it does not wait for us. */
static bool wait_end(struct program *program, int limit_ms)
{
    double deadline = now_s() + limit_ms * 1e-3;
    for (;;) {
        bool ended = has_ended(program);
        if (program->from >= 0) {
            read_some(&program->from, &program->answers);
            program->answers.length = 0;
        }
        if (program->errors >= 0) {
            read_some(&program->errors, &program->tail);
            keep_tail(&program->tail);
        }
        if (ended || now_s() >= deadline)
            return ended;
        struct timespec pause = {0, 5000000};
        nanosleep(&pause, NULL);
    }
}

/* Ends the child and all it started, waiting grace_ms for it to end by itself. */
static void end_child(struct program *program, int grace_ms)
{
    close_fd(&program->to);
    if (program->pid != 0) {
        if (!wait_end(program, grace_ms)) {
            kill(-program->pid, SIGTERM);
            wait_end(program, TERM_MS);
        }
        kill(-program->pid, SIGKILL); /* the rest of the group too */
        int code = 0;
        pid_t got = 0;
        do
            got = waitpid(program->pid, &code, 0);
        while (got < 0 && errno == EINTR);
        program->reaped = got == program->pid;
        program->exit_status = code;
        program->pid = 0;
    }
    close_fd(&program->from);
    close_fd(&program->errors);
}

void program_destroy(struct program *program)
{
    if (program == NULL)
        return;
    end_child(program, program->broken ? 0 : GOODBYE_MS);
    text_free(&program->answers);
    text_free(&program->tail);
    mem_free(program);
}

cohort_status program_start(struct program **out, const char *label, char *const arguments[],
                            const struct program_limits *limits, cohort_error *err)
{
    struct program *program = NULL;
    int in[2] = {-1, -1}, answers[2] = {-1, -1}, errors[2] = {-1, -1};
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&program, 1, sizeof *program, "reward", err));
    program->to = program->from = program->errors = -1;
    program->stop = limits->stop;
    program->role = limits->role == NULL ? "reward" : limits->role;
    program->ending = limits->ending;
    program->timeout_s = limits->timeout_s;
    TRY_GOTO(text_append(&program->tail, "", 0, err));
    TRY_GOTO(text_append(&program->answers, "", 0, err));
    if (make_pipe(in) != 0 || make_pipe(answers) != 0 || make_pipe(errors) != 0) {
        status =
            error_set(err, COHORT_ERR_IO, "%s '%.80s': cannot make a pipe: %s", program->role, label, strerror(errno));
        goto cleanup;
    }
    program->to = in[1];
    program->from = answers[0];
    program->errors = errors[0];
    in[1] = answers[0] = errors[0] = -1;
    const int child[3] = {in[0], answers[1], errors[1]};
    int code = spawn(program, arguments, child);
    if (code != 0) {
        status = error_set(err, COHORT_ERR_REWARD, "%s '%.80s': cannot start %s: %s", program->role, label,
                           arguments[0], strerror(code));
        goto cleanup;
    }
    const int mine[3] = {program->to, program->from, program->errors};
    for (int i = 0; i < 3; i++)
        if (fcntl(mine[i], F_SETFL, O_NONBLOCK) != 0) {
            status = error_set(err, COHORT_ERR_IO, "%s '%.80s': cannot set up a pipe: %s", program->role, label,
                               strerror(errno));
            goto cleanup;
        }
    *out = program;
    program = NULL;
cleanup:
    for (int i = 0; i < 2; i++) {
        close_fd(&in[i]);
        close_fd(&answers[i]);
        close_fd(&errors[i]);
    }
    if (program != NULL) {
        program->broken = true;
        program_destroy(program);
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

/* What the program says from now on belongs to no batch. */
static cohort_status stopped(struct program *program, cohort_error *err)
{
    program->broken = true;
    snprintf(program->failure, sizeof program->failure, "stopped on request");
    return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
}

/* A scheduler tells every process of a job that it ends: a program may be gone a moment before we are asked to stop. */
static bool is_stopped_soon(const struct program *program)
{
    for (int waited_ms = 0; !stop_requested(program->stop); waited_ms += 10) {
        if (program->stop == NULL || waited_ms == STOP_MS)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return true;
}

/* Fails the batch, for good: says what happened, how the program ended if it did, and the end of
 * its stderr. */
static cohort_status break_down(struct program *program, const char *name, const char *problem, int grace_ms,
                                cohort_error *err)
{
    char ending[80] = "";
    bool by_itself = wait_end(program, grace_ms);
    end_child(program, 0);
    if (by_itself && is_stopped_soon(program))
        return stopped(program, err);
    if (by_itself && program->reaped && WIFEXITED(program->exit_status))
        snprintf(ending, sizeof ending, " (exit status %d)", WEXITSTATUS(program->exit_status));
    else if (by_itself && program->reaped && WIFSIGNALED(program->exit_status))
        snprintf(ending, sizeof ending, " (killed by signal %d)", WTERMSIG(program->exit_status));
    /* The end is what tells; as much of it as the message has room for. */
    const char *tail = program->tail.data;
    size_t length = program->tail.length;
    size_t room = sizeof program->failure - strlen(problem) - strlen(ending) - 40;
    while (length > 0 && (tail[length - 1] == '\n' || tail[length - 1] == ' '))
        length--;
    size_t skipped = length > room ? length - room : 0;
    while (skipped < length && ((unsigned char)tail[skipped] & 0xc0) == 0x80)
        skipped++; /* not from within a character */
    program->broken = true;
    if (length == 0 && program->told)
        snprintf(program->failure, sizeof program->failure, "%s", problem);
    else
        snprintf(program->failure, sizeof program->failure, "%s%s; its stderr %s%s%.*s", problem, ending,
                 length > 0 ? "ends: " : "is empty", skipped > 0 ? "..." : "", (int)(length - skipped), tail + skipped);
    return error_set(err, COHORT_ERR_REWARD, "reward '%.100s': %s", name, program->failure);
}

bool program_tell(struct program *program, const char *bytes, size_t length, size_t *sent, char *why, size_t size)
{
    cohort_error problem = {0};
    *sent = 0;
    for (int i = 0; i < 16 && program->from >= 0; i++) { /* a flood is read away in part: more waits in the pipe */
        program->answers.length = 0;
        read_some(&program->from, &program->answers);
        if (program->answers.length == 0)
            break;
    }
    program->answers.length = 0;
    if (program->errors >= 0) {
        read_some(&program->errors, &program->tail);
        keep_tail(&program->tail);
    }
    if (!program->broken && !has_ended(program) && program->to >= 0) {
        const ssize_t n = length == 0 ? 0 : write_quietly(program->to, bytes, length);
        *sent = n > 0 ? (size_t)n : 0;
        if (n >= 0 || errno == EAGAIN || errno == EINTR)
            return true;
    }
    if (!program->broken)
        break_down(program, "", has_ended(program) ? "ended" : "does not read any more", 0, &problem);
    snprintf(why, size, "%s", program->failure);
    return false;
}

/* What a line's object says beside the reward. */
static bool parse_more(const json_t *answer, struct program_batch *batch, char *problem, size_t problem_size)
{
    const size_t row = batch->places == NULL ? batch->n_answers : batch->places[batch->n_answers];
    const json_t *metrics = json_object_get(answer, "metrics"), *extra = json_object_get(answer, "extra");
    json_t *warning = json_object_get(answer, "warning");
    const char *key = NULL;
    json_t *value = NULL;
    if (json_is_string(warning) && batch->log != NULL && batch->log->warning == NULL)
        batch->log->warning = json_incref(warning);
    if ((metrics != NULL && !json_is_object(metrics)) || (extra != NULL && !json_is_object(extra))) {
        snprintf(problem, problem_size, "\"metrics\" and \"extra\" of an answer are objects, {\"NAME\": value, ...}");
        return false;
    }
    json_object_foreach((json_t *)(uintptr_t)metrics, key, value)
    {
        const size_t n = json_is_array(value) ? json_array_size(value) : 1;
        for (size_t i = 0; i < n; i++) {
            const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
            if (!json_is_number(one) && !json_is_null(one)) {
                snprintf(problem, problem_size, "the metric '%.80s' is no number; expected {\"NAME\": number, ...}",
                         key);
                return false;
            }
            if (batch->log != NULL &&
                !reward_log_metric(batch->log, key, json_is_null(one) ? (double)NAN : json_number_value(one), 1)) {
                snprintf(problem, problem_size, "out of memory for its metrics");
                return false;
            }
        }
    }
    json_object_foreach((json_t *)(uintptr_t)extra, key, value)
    {
        if (batch->log != NULL && !reward_log_extra(batch->log, key, row, value)) {
            snprintf(problem, problem_size, "out of memory for its columns");
            return false;
        }
    }
    return true;
}

/* A list in place of a reward: a number or null for each token. */
static bool parse_list(const json_t *value, struct program_batch *batch, char *problem, size_t problem_size)
{
    const int32_t n = batch->tokens[batch->n_answers];
    double **list = &batch->lists[batch->n_answers];
    if (n < 0) {
        snprintf(problem, problem_size,
                 "answered a list, rewards of tokens, for a row whose token ids are not known; give them in the column "
                 "\"completion_ids\", or answer a number");
        return false;
    }
    if (json_array_size(value) != (size_t)n) {
        snprintf(problem, problem_size,
                 "answered a list of %zu for a completion of %d tokens; expected a number or null for each of its "
                 "tokens, or one number",
                 json_array_size(value), (int)n);
        return false;
    }
    if (reward_list_new(list, n, NULL) != COHORT_OK) {
        snprintf(problem, problem_size, "out of memory for its list");
        return false;
    }
    for (int32_t t = 0; t < n; t++) {
        const json_t *one = json_array_get(value, (size_t)t);
        if (!json_is_number(one) && !json_is_null(one)) {
            snprintf(problem, problem_size, "answered a list whose item %d is neither a number nor null", (int)t + 1);
            return false;
        }
        (*list)[t] = json_is_null(one) ? (double)NAN : json_number_value(one);
    }
    batch->rewards[batch->n_answers] = reward_list_sum(*list, n);
    return true;
}

/* One line of an answer. False, with problem filled, if it is not a number, null, a list or {"reward": ...}; of a
 * greeting, {"name": ...}. What the program itself calls an error is the problem. */
static bool parse_answer(struct program *program, const char *line, size_t length, struct program_batch *batch,
                         char *problem, size_t problem_size)
{
    json_t *answer = NULL;
    (void)json_text_parse(&answer, line, length, "answer", 1, JSON_TEXT_ANY | JSON_TEXT_NUL, NULL);
    const json_t *value = json_is_object(answer) ? json_object_get(answer, "reward") : answer;
    const char *said = json_string_value(json_object_get(answer, "error")),
               *name = json_string_value(json_object_get(answer, "name"));
    program->told = said != NULL;
    const bool listed = json_is_array(value) && batch->lists != NULL;
    bool good =
        said == NULL && (batch->name == NULL ? json_is_number(value) || json_is_null(value) || listed : name != NULL);
    if (good && batch->name != NULL) {
        good = mem_strdup(batch->name, name, strlen(name), NULL) == COHORT_OK;
        if (!good)
            snprintf(problem, problem_size, "out of memory for its name");
    } else if (good) {
        if (!listed)
            batch->rewards[batch->n_answers] = json_is_null(value) ? (double)NAN : json_number_value(value);
        good = (!listed || parse_list(value, batch, problem, problem_size)) &&
               parse_more(answer, batch, problem, problem_size);
    } else if (said != NULL) {
        snprintf(problem, problem_size, "%s", said);
    } else {
        snprintf(problem, problem_size,
                 "answered '%.*s%s'; expected a finite number, null, a list of them for the tokens or {\"reward\": "
                 "...}, and "
                 "nothing else on its standard output: print what is for you to standard error "
                 "(Python: file=sys.stderr in print)",
                 (int)(length > 100 ? 100 : length), line, length > 100 ? "..." : "");
    }
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

/* Uses up the whole lines of what was read (at the end of the stream also the rest). False: problem says why. */
static bool take_answers(struct program *program, struct program_batch *batch, char *problem, size_t problem_size)
{
    size_t start = 0;
    bool good = true;
    while (good && start < program->answers.length) {
        const char *line = program->answers.data + start;
        size_t left = program->answers.length - start;
        const char *newline = memchr(line, '\n', left);
        if (newline == NULL && program->from >= 0) {
            if (left > ANSWER_LIMIT) {
                snprintf(problem, problem_size,
                         "answered a line of more than %d bytes; expected a "
                         "number, null, a list or {\"reward\": ...}",
                         ANSWER_LIMIT);
                good = false;
            }
            break;
        }
        size_t length = newline != NULL ? (size_t)(newline - line) : left;
        start += length + (newline != NULL);
        if (blank_line(line, length))
            continue;
        if (batch->n_answers == batch->n_rows) {
            snprintf(problem, problem_size,
                     "answered more lines than the %zu rows of the batch; expected one for each, "
                     "and what is for you on standard error",
                     batch->n_rows);
            good = false;
        } else {
            char reason[PROBLEM_SIZE - 60];
            good = parse_answer(program, line, length, batch, reason, sizeof reason);
            if (!good && program->told)
                snprintf(problem, problem_size, "%s", reason);
            else if (!good)
                snprintf(problem, problem_size, "row %zu of %zu: %s", batch->n_answers + 1, batch->n_rows, reason);
            batch->n_answers++;
        }
    }
    program->answers.length -= start;
    memmove(program->answers.data, program->answers.data + start, program->answers.length);
    return good;
}

/* Waits for a descriptor and serves all that are ready. */
static bool serve(struct program *program, struct program_batch *batch, double wait_s, char *problem,
                  size_t problem_size)
{
    struct pollfd polled[3] = {{.fd = program->from, .events = POLLIN},
                               {.fd = program->errors, .events = POLLIN},
                               {.fd = batch->left > 0 ? program->to : -1, .events = POLLOUT}};
    int wait_ms = wait_s > 1e6 ? 1000000000 : (int)(wait_s * 1e3) + 1;
    if (wait_s <= 0)
        wait_ms = 0;
    if (poll(polled, 3, wait_ms) < 0 && errno != EINTR) {
        snprintf(problem, problem_size, "poll failed: %s", strerror(errno));
        return false;
    }
    bool good = true;
    if (polled[1].revents != 0) {
        good = read_some(&program->errors, &program->tail);
        keep_tail(&program->tail);
    }
    if (good && polled[0].revents != 0)
        good = read_some(&program->from, &program->answers);
    if (!good) {
        snprintf(problem, problem_size, "out of memory for its output");
        return false;
    }
    if (polled[2].revents != 0) {
        size_t piece = batch->left < CHUNK ? batch->left : CHUNK;
        ssize_t n = write_quietly(program->to, batch->request, piece);
        if (n >= 0) {
            batch->request += n;
            batch->left -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            close_fd(&program->to); /* it reads no more; it may have read enough to answer */
            batch->left = 0;
        }
    }
    return polled[0].revents == 0 || take_answers(program, batch, problem, problem_size);
}

/* Why the answers of a batch may be missing when its time is over. */
static void describe_silence(const struct program *program, const struct program_batch *batch, char *problem,
                             size_t problem_size)
{
    char why[400] = "";
    size_t part = program->answers.length; /* of a line */
    if (batch->waits_whole) {
        number_format(problem, problem_size,
                      "no answer within %g s: %s. Give it a time limit of its own where it waits for others, or raise "
                      "--reward-timeout if it needs longer",
                      program->timeout_s,
                      batch->name != NULL ? "the file is still being imported" : "the function has not returned");
        return;
    }
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
                 (int)(part > 40 ? 40 : part), program->answers.data, part > 40 ? "..." : "");
    else
        snprintf(why, sizeof why,
                 "the others are missing: does it answer every row, and flush its output (Python: "
                 "print(..., flush=True))?");
    number_format(problem, problem_size,
                  "no answer within %g s (%zu of %zu rows answered): %s Or raise --reward-timeout if it "
                  "needs longer",
                  program->timeout_s, batch->n_answers, batch->n_rows, why);
}

static cohort_status converse(struct program *program, const char *name, struct program_batch *batch, cohort_error *err)
{
    static const double look_s = 0.05; /* between two looks at stop */
    char problem[PROBLEM_SIZE] = "";
    while (batch->n_answers < batch->n_rows || batch->left > 0) {
        if (stop_requested(program->stop) || stop_requested(program->ending))
            return stopped(program, err);
        if (program->from < 0 && batch->n_answers == batch->n_rows)
            break; /* all is answered and it has gone */
        if (program->from < 0) {
            snprintf(problem, sizeof problem, "the program ended after %zu of %zu answers", batch->n_answers,
                     batch->n_rows);
            return break_down(program, name, problem, ENDING_MS, err);
        }
        double wait_s = batch->deadline - now_s();
        if (wait_s <= 0) {
            describe_silence(program, batch, problem, sizeof problem);
            return break_down(program, name, problem, 0, err);
        }
        if (!serve(program, batch, wait_s < look_s ? wait_s : look_s, problem, sizeof problem))
            return break_down(program, name, problem, 0, err);
    }
    /* What came with the last answer belongs to this batch; what comes later is found before the
     * next. */
    if (program->from >= 0 && !serve(program, batch, 0, problem, sizeof problem))
        return break_down(program, name, problem, 0, err);
    if (program->answers.length > 0 && !blank_line(program->answers.data, program->answers.length)) {
        snprintf(problem, sizeof problem, "answered more than the %zu rows of the batch", batch->n_rows);
        return break_down(program, name, problem, 0, err);
    }
    program->finished = program->from < 0 || program->to < 0;
    program->asked = true;
    return COHORT_OK;
}

cohort_status program_ask(struct program *program, const char *name, struct program_batch *batch, cohort_error *err)
{
    char problem[200] = "";
    if (program->broken)
        return error_set(err, COHORT_ERR_REWARD, "reward '%.100s': stopped by an earlier failure: %s", name,
                         program->failure);
    /* No rows are expected yet, so any answer is one too many for the batch before. */
    struct program_batch early = {0};
    if (program->asked && !program->finished && !serve(program, &early, 0, problem, sizeof problem))
        return break_down(program, name, "answered more lines than the batch before this one had rows", 0, err);
    if (program->asked && (program->finished || program->from < 0))
        return break_down(program, name,
                          "the program has ended after an earlier batch; it must go on until its input ends", ENDING_MS,
                          err);
    batch->deadline = now_s() + program->timeout_s;
    return converse(program, name, batch, err);
}
