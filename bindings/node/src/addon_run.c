/* Runs of commands, and trainers that go step by step: what they call back is told to JavaScript by one function, the handler
 * (kind, text, number, index):
 *   "output", text                 results, of a run, when it ends
 *   "message", text                a note
 *   "metrics", JSON                a step's; the run waits until the handler has returned
 *   "progress", JSON               if it was asked for
 *   "reward", JSON, number, index  rows to score by reward index; answer(handle, number, ...) gives the scores
 *   "environment", JSON            a message of the protocol of docs/ENVIRONMENTS.md; environmentAnswer(handle, JSON) answers it
 *
 * One question is open at a time. It has a number, so that an answer that comes after its time is known as such. */
#include "addon.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const unsigned RUNS = 1u << WORKER_RUN | 1u << WORKER_TRAINER;

/* ---- Telling ----------------------------------------------------------------------------------------------------- */

struct telling {
    struct message message;
    struct worker *worker;
    const char *kind;
    struct addon_text text;
    int64_t number;
    size_t index;
    bool returns; /* the question is answered when the handler has returned */
};

/* Answers the question if it is still the one that is open. On the JavaScript thread. */
static void answer(struct worker *worker, int64_t number, const double *values, size_t n, const char *refusal)
{
    pthread_mutex_lock(&worker->lock);
    if (worker->question == number && !worker->answered) {
        worker->answered = true;
        worker->refused = refusal != NULL || n != worker->n_answers;
        if (refusal != NULL)
            snprintf(worker->refusal, sizeof worker->refusal, "%s", refusal);
        else if (n != worker->n_answers)
            snprintf(worker->refusal, sizeof worker->refusal, "%zu numbers for %zu", n, worker->n_answers);
        else if (n > 0)
            memcpy(worker->answers, values, n * sizeof *values);
        pthread_cond_broadcast(&worker->wake);
    }
    pthread_mutex_unlock(&worker->lock);
}

static void on_telling(napi_env env, struct message *message)
{
    struct telling *t = (struct telling *)message;
    napi_handle_scope scope = NULL;
    if (env != NULL && !t->text.failed && napi_open_handle_scope(env, &scope) == napi_ok) {
        napi_value function = NULL, global = NULL, values[4], ignored = NULL;
        values[0] = text_value(env, t->kind, strlen(t->kind));
        values[1] = text_value(env, t->text.data, t->text.length);
        if (napi_create_double(env, (double)t->number, &values[2]) == napi_ok &&
            napi_create_double(env, (double)t->index, &values[3]) == napi_ok &&
            napi_get_global(env, &global) == napi_ok &&
            napi_get_reference_value(env, t->worker->handler, &function) == napi_ok)
            napi_call_function(env, global, function, 4, values, &ignored);
        bool pending = false;
        if (napi_is_exception_pending(env, &pending) == napi_ok && pending) {
            napi_get_and_clear_last_exception(env, &ignored); /* the handler keeps what its callbacks throw */
            cohort_stop_trigger(t->worker->stop);
        }
        napi_close_handle_scope(env, scope);
        if (t->returns)
            answer(t->worker, t->number, NULL, 0, NULL);
        else if (t->text.failed)
            answer(t->worker, t->number, NULL, 0, "out of memory");
    } else if (env != NULL && t->number != 0) {
        answer(t->worker, t->number, NULL, 0, "out of memory");
    }
    addon_text_free(&t->text);
    free(t);
}

static void tell(struct worker *worker, const char *kind, struct addon_text *text, int64_t number, size_t index,
                 bool returns)
{
    struct telling *t = malloc(sizeof *t);
    if (t == NULL) {
        addon_text_free(text);
        if (number != 0)
            answer(worker, number, NULL, 0, "out of memory");
        return;
    }
    *t = (struct telling){{on_telling}, worker, kind, *text, number, index, returns};
    post(worker->addon, &t->message);
}

void worker_tell(struct worker *worker, const char *kind, struct addon_text *text)
{
    tell(worker, kind, text, 0, 0, false);
}

/* Asks, and waits until it is answered, the worker is closing, or timeout_ms have passed (0: no limit). False with refusal
 * set. */
static bool ask(struct worker *worker, const char *kind, struct addon_text *text, size_t index, double *answers,
                size_t n, int64_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&worker->lock);
    const int64_t number = worker->question = ++worker->asked;
    worker->answers = answers;
    worker->n_answers = n;
    worker->answered = worker->refused = false;
    pthread_mutex_unlock(&worker->lock);
    tell(worker, kind, text, number, index, answers == NULL);
    pthread_mutex_lock(&worker->lock);
    int waited = 0;
    while (!worker->answered && !worker->closing && waited != ETIMEDOUT)
        waited = timeout_ms > 0 ? pthread_cond_timedwait(&worker->wake, &worker->lock, &until)
                                : pthread_cond_wait(&worker->wake, &worker->lock);
    const bool good = worker->answered && !worker->refused;
    if (!worker->answered && worker->closing)
        snprintf(worker->refusal, sizeof worker->refusal, "it was closed before the function answered");
    else if (!worker->answered) {
        snprintf(worker->refusal, sizeof worker->refusal, "timed out after %lldms without an answer (rewardTimeout)",
                 (long long)timeout_ms);
        worker->timed_out = true;
    }
    worker->question = 0;
    worker->answers = NULL;
    pthread_mutex_unlock(&worker->lock);
    return good;
}

/* ---- What the library calls back --------------------------------------------------------------------------------- */

static void on_output(void *context, const char *bytes, size_t length)
{
    struct worker *worker = context;
    addon_text_add(&worker->output, bytes, length);
}

static void on_message(void *context, const char *line)
{
    struct addon_text text = {0};
    addon_text_say(&text, line);
    tell(context, "message", &text, 0, 0, false);
}

static void on_metrics(void *context, const cohort_metrics *metrics)
{
    struct addon_text text = {0};
    addon_text_say(&text, "{");
    for (size_t i = 0; i < metrics->count; i++) {
        addon_text_key(&text, metrics->items[i].name);
        addon_text_number(&text, metrics->items[i].value);
    }
    addon_text_say(&text, "}");
    ask(context, "metrics", &text, 0, NULL, 0, 0);
}

static bool on_progress(void *context, const cohort_progress *progress)
{
    struct addon_text text = {0};
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"step", (double)progress->step},
                   {"steps", (double)progress->steps},
                   {"done", (double)progress->done},
                   {"total", (double)progress->total},
                   {"perSecond", progress->per_second}};
    addon_text_say(&text, "{");
    addon_text_key(&text, "phase");
    addon_text_string(&text, progress->phase);
    addon_text_key(&text, "unit");
    addon_text_string(&text, progress->unit);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        addon_text_key(&text, numbers[i].key);
        addon_text_number(&text, numbers[i].value);
    }
    addon_text_say(&text, "}");
    tell(context, "progress", &text, 0, 0, false);
    return true;
}

/* logprobs: of its tokens too; rewards have no use for them. */
static void write_row(struct addon_text *text, const cohort_reward_row *row, bool logprobs)
{
    char digits[24];
    addon_text_say(text, "{");
    addon_text_key(text, "prompt");
    addon_text_json(text, row->prompt, row->prompt_length);
    addon_text_key(text, "completion");
    addon_text_json(text, row->completion, row->completion_length);
    addon_text_key(text, "finishReason");
    addon_text_string(text, row->finish_reason);
    addon_text_key(text, "promptIndex");
    addon_text_number(text, (double)row->prompt_index);
    addon_text_key(text, "completionIndex");
    addon_text_number(text, row->completion_index);
    addon_text_key(text, "row");
    addon_text_say(text, row->row_json);
    addon_text_key(text, "parsed");
    addon_text_say(text, row->parsed_json == NULL ? "null" : row->parsed_json);
    addon_text_key(text, "tokens");
    addon_text_say(text, "[");
    for (int32_t i = 0; i < row->n_tokens; i++) {
        snprintf(digits, sizeof digits, i == 0 ? "%d" : ",%d", (int)row->tokens[i]);
        addon_text_say(text, digits);
    }
    addon_text_say(text, "]");
    if (logprobs && row->logprobs != NULL) {
        addon_text_key(text, "logprobs");
        addon_text_say(text, "[");
        for (int32_t i = 0; i < row->n_tokens; i++) {
            addon_text_say(text, i == 0 ? "" : ",");
            addon_text_number(text, row->logprobs[i]);
        }
        addon_text_say(text, "]");
    }
    if (row->episode_json != NULL) {
        addon_text_key(text, "episode");
        addon_text_say(text, row->episode_json);
    }
    addon_text_say(text, "}");
}

static void write_rows(struct addon_text *text, const cohort_reward_row *const *rows, size_t n, bool logprobs)
{
    addon_text_say(text, "[");
    for (size_t i = 0; i < n; i++) {
        addon_text_say(text, i == 0 ? "" : ",");
        write_row(text, rows[i], logprobs);
    }
    addon_text_say(text, "]");
}

static cohort_status refuse(const struct reward_slot *slot, cohort_error *err)
{
    if (err != NULL)
        snprintf(err->message, sizeof err->message, "reward '%s': %s", slot->name, slot->worker->refusal);
    return COHORT_ERR_REWARD;
}

static cohort_status score(struct reward_slot *slot, const cohort_reward_row *const *rows, size_t n_rows,
                           double *answers, size_t n, cohort_error *err)
{
    struct addon_text text = {0};
    write_rows(&text, rows, n_rows, false);
    return ask(slot->worker, "reward", &text, slot->index, answers, n, slot->worker->timeout_ms) ? COHORT_OK
                                                                                                 : refuse(slot, err);
}

static cohort_status on_reward(void *context, const cohort_reward_row *const *rows, size_t n_rows, double *rewards,
                               cohort_error *err)
{
    return score(context, rows, n_rows, rewards, n_rows, err);
}

static cohort_status on_token_reward(void *context, const cohort_reward_row *const *rows, size_t n_rows,
                                     double *const *rewards, cohort_error *err)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < n_rows; i++)
        n += (size_t)rows[i]->n_tokens;
    double *flat = malloc(n * sizeof *flat + 1);
    if (flat == NULL)
        return COHORT_ERR_MEMORY;
    const cohort_status status = score(context, rows, n_rows, flat, n, err);
    for (size_t i = 0; status == COHORT_OK && i < n_rows; at += (size_t)rows[i++]->n_tokens)
        memcpy(rewards[i], flat + at, (size_t)rows[i]->n_tokens * sizeof *flat);
    free(flat);
    return status;
}

/* ---- Starting ---------------------------------------------------------------------------------------------------- */

struct start {
    struct job job;
    cohort_command command;
    char **pairs;
    size_t count;
};

static void start_release(napi_env env, struct job *job)
{
    struct start *start = (struct start *)job;
    (void)env;
    strings_free(start->pairs, start->count);
}

static cohort_status prepare(struct start *start, cohort_observer *observer)
{
    struct job *job = &start->job;
    struct worker *worker = job->worker;
    cohort_status status = options_make(&worker->options, start->command, start->pairs, start->count, &job->err);
    for (size_t i = 0; status == COHORT_OK && i < worker->n_rewards; i++) {
        struct reward_slot *slot = &worker->rewards[i];
        status = slot->tokens
                     ? cohort_options_add_token_reward(worker->options, slot->name, on_token_reward, slot, &job->err)
                     : cohort_options_add_reward(worker->options, slot->name, on_reward, slot, &job->err);
    }
    if (status == COHORT_OK && worker->environment != NULL)
        status =
            cohort_options_set_environment(worker->options, worker->environment, on_environment, worker, &job->err);
    if (status == COHORT_OK)
        status = cohort_options_set_stop(worker->options, worker->stop, &job->err);
    cohort_observer_init(observer);
    observer->context = worker;
    observer->output = on_output;
    observer->message = on_message;
    observer->metrics = on_metrics;
    observer->progress = worker->wants_progress ? on_progress : NULL;
    return status;
}

static void run_work(struct job *job)
{
    struct start *start = (struct start *)job;
    struct worker *worker = job->worker;
    cohort_observer observer;
    job->status = prepare(start, &observer);
    if (job->status == COHORT_OK)
        job->status = cohort_run(worker->options, &observer, &job->err);
    job->text = worker->output;
    worker->output = (struct addon_text){0};
}

static void trainer_open_work(struct job *job)
{
    struct start *start = (struct start *)job;
    struct worker *worker = job->worker;
    cohort_observer observer;
    job->status = prepare(start, &observer);
    if (job->status == COHORT_OK)
        job->status = cohort_trainer_open(&worker->handle.trainer, worker->options, &observer, &job->err);
    if (job->status == COHORT_OK)
        addon_text_number(&job->text, (double)cohort_trainer_steps(worker->handle.trainer));
}

/* Names of rewards, those of rewards of tokens with a '*' before them, and of what answers turns, with a '@' before it. */
static bool take_rewards(napi_env env, napi_value names, struct worker *worker)
{
    size_t count = 0;
    char **strings = strings_of(env, names, &count);
    if (strings == NULL)
        return false;
    worker->rewards = calloc(count + 1, sizeof *worker->rewards);
    for (size_t i = 0; worker->rewards != NULL && i < count; i++) {
        const bool tokens = strings[i][0] == '*', turns = strings[i][0] == '@';
        if (tokens || turns)
            memmove(strings[i], strings[i] + 1, strlen(strings[i]));
        if (turns) {
            free(worker->environment);
            worker->environment = strings[i];
        } else {
            worker->rewards[worker->n_rewards] = (struct reward_slot){worker, worker->n_rewards, strings[i], tokens};
            worker->n_rewards++;
        }
        strings[i] = NULL;
    }
    strings_free(strings, count);
    if (worker->rewards == NULL)
        throw_error(env, COHORT_ERR_MEMORY, "out of memory");
    return worker->rewards != NULL;
}

/* (command, pairs, rewards, timeout_ms, progress, handler) -> [handle, promise] */
static napi_value begin(napi_env env, napi_callback_info info, enum worker_kind kind, void (*work)(struct job *))
{
    napi_value values[6], handle = NULL;
    double timeout = 0;
    char *name = NULL;
    struct worker *worker = NULL;
    struct start *start = calloc(1, sizeof *start);
    if (start == NULL || !arguments(env, info, 6, values) || !number_of(env, values[3], &timeout) ||
        (name = string_of(env, values[0], NULL)) == NULL)
        goto failed;
    if (!cohort_command_find(name, &start->command)) {
        throw_error(env, COHORT_ERR_ARGUMENT, "there is no such command");
        goto failed;
    }
    start->pairs = strings_of(env, values[1], &start->count);
    if (start->pairs == NULL || (worker = worker_new(env, addon_of(env), kind, &handle)) == NULL)
        goto failed;
    worker->timeout_ms = (int64_t)timeout;
    if (!take_rewards(env, values[2], worker) ||
        napi_get_value_bool(env, values[4], &worker->wants_progress) != napi_ok ||
        napi_create_reference(env, values[5], 1, &worker->handler) != napi_ok) {
        worker_close(worker);
        goto failed;
    }
    start->job.work = work;
    start->job.result = result_text;
    start->job.release = start_release;
    free(name);
    return pair(env, handle, worker_queue(env, worker, &start->job));
failed:
    throw_pending(env, "a run could not be started");
    free(name);
    if (start != NULL)
        start_release(env, &start->job);
    free(start);
    return NULL;
}

static napi_value run(napi_env env, napi_callback_info info) { return begin(env, info, WORKER_RUN, run_work); }

static napi_value trainer_open(napi_env env, napi_callback_info info)
{
    return begin(env, info, WORKER_TRAINER, trainer_open_work);
}

/* (handle, number, Float64Array or null, refusal) */
static napi_value give_answer(napi_env env, napi_callback_info info)
{
    napi_value values[4];
    double number = 0;
    bool typed = false;
    void *data = NULL;
    size_t n = 0;
    napi_typedarray_type type = napi_int8_array;
    if (!arguments(env, info, 4, values) || !number_of(env, values[1], &number))
        return NULL;
    struct worker *worker = worker_of(env, values[0], RUNS);
    if (worker == NULL)
        return NULL;
    OK_OR(NULL, napi_is_typedarray(env, values[2], &typed));
    if (typed)
        OK_OR(NULL, napi_get_typedarray_info(env, values[2], &type, &n, &data, NULL, NULL));
    char *refusal = typed && type == napi_float64_array ? NULL : string_of(env, values[3], NULL);
    if (!typed && refusal == NULL)
        return NULL;
    answer(worker, (int64_t)number, data, n, refusal);
    free(refusal);
    return NULL;
}

/* Asks a run to stop at the next step: it saves and ends with ERR_COHORT_CANCELLED. */
static napi_value stop(napi_env env, napi_callback_info info)
{
    napi_value values[1];
    if (!arguments(env, info, 1, values))
        return NULL;
    struct worker *worker = worker_of(env, values[0], RUNS);
    if (worker != NULL)
        cohort_stop_trigger(worker->stop);
    return NULL;
}

/* ---- Step by step ------------------------------------------------------------------------------------------------ */

struct stepping {
    struct job job;
    char **rows;
    size_t n_rows;
    double *scores;
    size_t n_scores;
};

static void stepping_release(napi_env env, struct job *job)
{
    struct stepping *s = (struct stepping *)job;
    (void)env;
    strings_free(s->rows, s->n_rows);
    free(s->scores);
}

static bool is_open(struct job *job)
{
    if (job->worker->handle.trainer != NULL)
        return true;
    node_job_fail(job, COHORT_ERR_STATE, "the trainer is not open");
    return false;
}

static cohort_batch batch_of(const struct stepping *s)
{
    cohort_batch batch;
    cohort_batch_init(&batch);
    batch.rows = (const char *const *)s->rows;
    batch.n_rows = s->n_rows;
    return batch;
}

static void say_steps(struct job *job)
{
    if (job->status == COHORT_OK)
        addon_text_number(&job->text, (double)cohort_trainer_steps(job->worker->handle.trainer));
}

static void step_work(struct job *job)
{
    const cohort_batch batch = batch_of((struct stepping *)job);
    if (!is_open(job))
        return;
    job->status = cohort_trainer_step(job->worker->handle.trainer, &batch, &job->err);
    say_steps(job);
}

static void rollout_work(struct job *job)
{
    const cohort_batch batch = batch_of((struct stepping *)job);
    const cohort_reward_row *const *rows = NULL;
    size_t n = 0;
    if (!is_open(job))
        return;
    job->status = cohort_trainer_rollout(job->worker->handle.trainer, &batch, &rows, &n, &job->err);
    if (job->status == COHORT_OK)
        write_rows(&job->text, rows, n, true);
}

static void update_work(struct job *job)
{
    const struct stepping *s = (struct stepping *)job;
    if (!is_open(job))
        return;
    job->status =
        cohort_trainer_update(job->worker->handle.trainer, s->n_scores > 0 ? s->scores : NULL, s->n_scores, &job->err);
    say_steps(job);
}

static void save_work(struct job *job)
{
    if (is_open(job))
        job->status = cohort_trainer_save(job->worker->handle.trainer, &job->err);
    say_steps(job);
}

static void save_final_work(struct job *job)
{
    if (is_open(job))
        job->status = cohort_trainer_save_final(job->worker->handle.trainer, &job->err);
    say_steps(job);
}

/* (handle, rows or Float64Array) -> promise */
static napi_value step_by_step(napi_env env, napi_callback_info info, void (*work)(struct job *))
{
    napi_value values[2];
    napi_typedarray_type type = napi_int8_array;
    bool list = false, typed = false;
    void *data = NULL;
    if (!arguments(env, info, 2, values))
        return NULL;
    struct worker *worker = worker_of(env, values[0], 1u << WORKER_TRAINER);
    struct stepping *s = worker == NULL ? NULL : calloc(1, sizeof *s);
    if (s == NULL) {
        throw_pending(env, "out of memory");
        return NULL;
    }
    bool good =
        napi_is_array(env, values[1], &list) == napi_ok && napi_is_typedarray(env, values[1], &typed) == napi_ok;
    if (good && list) {
        s->rows = strings_of(env, values[1], &s->n_rows);
        good = s->rows != NULL;
    } else if (good && typed) {
        good = napi_get_typedarray_info(env, values[1], &type, &s->n_scores, &data, NULL, NULL) == napi_ok &&
               type == napi_float64_array && (s->scores = malloc(s->n_scores * sizeof *s->scores + 1)) != NULL;
        if (good && s->n_scores > 0)
            memcpy(s->scores, data, s->n_scores * sizeof *s->scores);
    }
    if (!good) {
        throw_pending(env, "expected rows or a Float64Array");
        stepping_release(env, &s->job);
        free(s);
        return NULL;
    }
    s->job.work = work;
    s->job.result = result_text;
    s->job.release = stepping_release;
    return worker_queue(env, worker, &s->job);
}

static napi_value trainer_step(napi_env env, napi_callback_info info) { return step_by_step(env, info, step_work); }
static napi_value trainer_rollout(napi_env env, napi_callback_info info)
{
    return step_by_step(env, info, rollout_work);
}
static napi_value trainer_update(napi_env env, napi_callback_info info) { return step_by_step(env, info, update_work); }
static napi_value trainer_save(napi_env env, napi_callback_info info) { return step_by_step(env, info, save_work); }
static napi_value trainer_save_final(napi_env env, napi_callback_info info)
{
    return step_by_step(env, info, save_final_work);
}

bool run_exports(napi_env env, napi_value exports)
{
    return export_function(env, exports, "run", run) && export_function(env, exports, "answer", give_answer) &&
           export_function(env, exports, "environmentAnswer", environment_answer) &&
           export_function(env, exports, "stop", stop) && export_function(env, exports, "trainerOpen", trainer_open) &&
           export_function(env, exports, "trainerStep", trainer_step) &&
           export_function(env, exports, "trainerRollout", trainer_rollout) &&
           export_function(env, exports, "trainerUpdate", trainer_update) &&
           export_function(env, exports, "trainerSave", trainer_save) &&
           export_function(env, exports, "trainerSaveFinal", trainer_save_final);
}
