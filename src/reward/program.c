/* A program that scores: started once, asked with JSON lines, one batch at a time. exec.c knows what the lines say.
 *
 * Owns the child. States: running -> broken    on any failure: what the program would say next belongs to no batch. Its
 *                        group is killed at once, and later batches fail with the first message;
 *   running -> finished  when it ends or closes its output after the last answer of a batch; the
 * next batch fails. All descriptors are non-blocking and served by one poll, so that neither side can wait for the
 * other for ever.
 *
 * Answer: a line per row; empty lines are passed over, a last line may lack its newline if the program ends. */
#include "base/child.h"
#include "base/clock.h"
#include "base/number.h"
#include "base/json_text.h"
#include "reward/program.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

enum {
    ANSWER_LIMIT = 1 << 24, /* bytes of one line: a list for 2^19 tokens */
    CHUNK = 1 << 16,
    GOODBYE_MS = 2000, /* from closing stdin to SIGTERM */
    ENDING_MS = 1000,  /* from the end of stdout to the exit, whose status the message tells */
    PROBLEM_SIZE = 700
};

struct program {
    const struct stop *stop, *ending; /* borrowed */
    const char *role;                 /* static */
    double timeout_s;
    struct child child;           /* its output: what is not yet used */
    bool broken, finished, asked; /* asked: a batch has been answered */
    bool told;                    /* it said itself what is wrong */
    char failure[1000];           /* the first one */
};

void program_destroy(struct program *program)
{
    if (program == NULL)
        return;
    child_end(&program->child, program->broken ? 0 : GOODBYE_MS);
    child_free(&program->child);
    mem_free(program);
}

cohort_status program_start(struct program **out, const char *label, char *const arguments[],
                            const struct program_limits *limits, cohort_error *err)
{
    struct program *program = NULL;
    char who[120];
    *out = NULL;
    TRY(mem_alloc(&program, 1, sizeof *program, "reward", err));
    program->stop = limits->stop;
    program->role = limits->role == NULL ? "reward" : limits->role;
    program->ending = limits->ending;
    program->timeout_s = limits->timeout_s;
    snprintf(who, sizeof who, "%s '%.80s'", program->role, label);
    const cohort_status status = child_start(&program->child, who, arguments, err);
    if (status == COHORT_OK)
        *out = program;
    else
        mem_free(program);
    return status;
}

/* --- one batch --- */

/* What the program says from now on belongs to no batch. */
static cohort_status stopped(struct program *program, cohort_error *err)
{
    program->broken = true;
    snprintf(program->failure, sizeof program->failure, "stopped on request");
    return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
}

/* Fails the batch, for good: says what happened, how the program ended if it did, and the end of
 * its stderr. */
static cohort_status break_down(struct program *program, const char *name, const char *problem, int grace_ms,
                                cohort_error *err)
{
    const bool by_itself = child_wait(&program->child, grace_ms);
    child_end(&program->child, 0);
    if (by_itself && stop_follows(program->stop))
        return stopped(program, err);
    program->broken = true;
    child_describe(&program->child, problem, by_itself, program->told, program->failure, sizeof program->failure);
    return error_set(err, COHORT_ERR_REWARD, "reward '%.100s': %s", name, program->failure);
}

bool program_tell(struct program *program, const char *bytes, size_t length, size_t *sent, char *why, size_t size)
{
    cohort_error problem = {0};
    *sent = 0;
    for (int i = 0; i < 16 && program->child.from >= 0;
         i++) { /* a flood is read away in part: more waits in the pipe */
        program->child.output.length = 0;
        (void)child_read(&program->child);
        if (program->child.output.length == 0)
            break;
    }
    program->child.output.length = 0;
    if (program->child.errors >= 0)
        (void)child_read_errors(&program->child);
    if (!program->broken && !child_has_ended(&program->child) && program->child.to >= 0) {
        const ssize_t n = length == 0 ? 0 : child_write(&program->child, bytes, length);
        *sent = n > 0 ? (size_t)n : 0;
        if (n >= 0 || errno == EAGAIN || errno == EINTR)
            return true;
    }
    if (!program->broken)
        break_down(program, "", child_has_ended(&program->child) ? "ended" : "does not read any more", 0, &problem);
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
    while (good && start < program->child.output.length) {
        const char *line = program->child.output.data + start;
        size_t left = program->child.output.length - start;
        const char *newline = memchr(line, '\n', left);
        if (newline == NULL && program->child.from >= 0) {
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
    program->child.output.length -= start;
    memmove(program->child.output.data, program->child.output.data + start, program->child.output.length);
    return good;
}

/* Waits for a descriptor and serves all that are ready. */
static bool serve(struct program *program, struct program_batch *batch, double wait_s, char *problem,
                  size_t problem_size)
{
    struct pollfd polled[3] = {{.fd = program->child.from, .events = POLLIN},
                               {.fd = program->child.errors, .events = POLLIN},
                               {.fd = batch->left > 0 ? program->child.to : -1, .events = POLLOUT}};
    int wait_ms = wait_s > 1e6 ? 1000000000 : (int)(wait_s * 1e3) + 1;
    if (wait_s <= 0)
        wait_ms = 0;
    if (poll(polled, 3, wait_ms) < 0 && errno != EINTR) {
        snprintf(problem, problem_size, "poll failed: %s", strerror(errno));
        return false;
    }
    bool good = true;
    if (polled[1].revents != 0)
        good = child_read_errors(&program->child);
    if (good && polled[0].revents != 0)
        good = child_read(&program->child);
    if (!good) {
        snprintf(problem, problem_size, "out of memory for its output");
        return false;
    }
    if (polled[2].revents != 0) {
        size_t piece = batch->left < CHUNK ? batch->left : CHUNK;
        ssize_t n = child_write(&program->child, batch->request, piece);
        if (n >= 0) {
            batch->request += n;
            batch->left -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            child_close_input(&program->child); /* it reads no more; it may have read enough to answer */
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
    size_t part = program->child.output.length; /* of a line */
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
                 (int)(part > 40 ? 40 : part), program->child.output.data, part > 40 ? "..." : "");
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
        if (program->child.from < 0 && batch->n_answers == batch->n_rows)
            break; /* all is answered and it has gone */
        if (program->child.from < 0) {
            snprintf(problem, sizeof problem, "the program ended after %zu of %zu answers", batch->n_answers,
                     batch->n_rows);
            return break_down(program, name, problem, ENDING_MS, err);
        }
        double wait_s = batch->deadline - clock_seconds();
        if (wait_s <= 0) {
            describe_silence(program, batch, problem, sizeof problem);
            return break_down(program, name, problem, 0, err);
        }
        if (!serve(program, batch, wait_s < look_s ? wait_s : look_s, problem, sizeof problem))
            return break_down(program, name, problem, 0, err);
    }
    /* What came with the last answer belongs to this batch; what comes later is found before the
     * next. */
    if (program->child.from >= 0 && !serve(program, batch, 0, problem, sizeof problem))
        return break_down(program, name, problem, 0, err);
    if (program->child.output.length > 0 && !blank_line(program->child.output.data, program->child.output.length)) {
        snprintf(problem, sizeof problem, "answered more than the %zu rows of the batch", batch->n_rows);
        return break_down(program, name, problem, 0, err);
    }
    program->finished = program->child.from < 0 || program->child.to < 0;
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
    if (program->asked && (program->finished || program->child.from < 0))
        return break_down(program, name,
                          "the program has ended after an earlier batch; it must go on until its input ends", ENDING_MS,
                          err);
    batch->deadline = clock_seconds() + program->timeout_s;
    return converse(program, name, batch, err);
}
