/* Rewards of programs: exec:PROGRAM and python:FILE:FUNCTION.
 *
 * A reward has one program or several, each with a thread that asks it, and a queue of batches. Which program answers
 * a batch is chance; what is in a batch is not, so the rewards do not depend on it.
 *
 * Request: a line per row, nothing else, so that a program may answer line by line; the last has
 * "last_of_batch": true for one that works in batches. The field is in no other row: what is the
 * same for nearly all rows need not be written, and Python's row.get("last_of_batch") is then None,
 * which is false. Names of ours ("prompt", "completion", ...) win over columns of the same name,
 * which the rendered text replaces. A function in Python gets the columns by themselves, for it needs the prompt as the
 * data set has it, and "trainer_state" in the last row. */
#include "base/json_text.h"
#include "reward/program.h"
#include "reward/score_cache.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { STACK_BYTES = 256 << 10 };

struct worker {
    struct exec_state *state;
    struct program *program; /* owned */
    pthread_t thread;
    bool runs;
};

struct exec_state {
    char *name; /* in messages; it may become another than the one in the option */
    enum reward_form form;
    struct score_cache *cache;       /* NULL: none */
    struct stop ending;              /* set when the reward is destroyed */
    struct worker *broken;           /* the first whose program failed: nothing is asked any more */
    struct reward_job *first, *last; /* waiting for a program */
    pthread_mutex_t lock;            /* of the queue, broken and the jobs' done */
    pthread_cond_t changed;
    int n_workers;
    struct worker workers[]; /* [n_workers] */
};

struct reward_job {
    struct exec_state *state;
    struct reward_job *next;
    struct text request;
    double *rewards;        /* [n_rows]: those of asked rows first, from finish on all in order */
    double **lists;         /* [n_rows] of asked rows, as rewards */
    int32_t *tokens;        /* [n_asked] what program_batch has */
    size_t *asked;          /* [n_asked] rows that no cache knows */
    struct score_key *keys; /* [n_rows] with a cache */
    double *known;          /* [n_rows] with a cache: NaN where n_asked has the row */
    size_t n_rows, n_asked;
    struct reward_log log;
    bool done;
    cohort_status status;
    cohort_error error;
};

/* --- rows as lines --- */

static json_t *json_progress(const struct reward_progress *progress)
{
    static const struct reward_progress none = {0};
    if (progress == NULL)
        progress = &none;
    return json_pack("{s:I, s:I, s:f, s:I}", "global_step", (json_int_t)progress->step, "max_steps",
                     (json_int_t)progress->max_steps, "epoch", progress->epoch, "num_input_tokens_seen",
                     (json_int_t)progress->tokens_seen);
}

/* last: of its batch. */
static cohort_status append_row(struct text *request, const struct reward_row *row, enum reward_form form, bool last,
                                const struct reward_progress *progress, cohort_error *err)
{
    static const char last_of_batch[] = "last_of_batch";
    json_t *object = json_object();
    json_t *tokens = json_array();
    const char *key = NULL;
    json_t *value = NULL;
    json_t *parsed = NULL;
    cohort_status status = row->parse == NULL ? COHORT_OK : row->parse(row, &parsed, err);
    bool bad = object == NULL || tokens == NULL;
    for (int32_t i = 0; !bad && i < row->n_tokens; i++)
        bad = json_array_append_new(tokens, json_integer(row->tokens[i])) != 0;
    bad = bad || json_object_set_new(object, "prompt", json_text_value(row->prompt, row->prompt_length)) != 0 ||
          json_object_set_new(object, "completion", json_text_value(row->completion, row->completion_length)) != 0 ||
          json_object_set(object, "tokens", tokens) != 0 ||
          json_object_set_new(object, "finish_reason", json_string(row->finish_reason)) != 0 ||
          json_object_set_new(object, "prompt_index", json_integer(row->prompt_index)) != 0 ||
          json_object_set_new(object, "completion_index", json_integer(row->completion_index)) != 0 ||
          (parsed != NULL && json_object_set(object, "parsed", parsed) != 0) ||
          (row->episode != NULL && json_object_set(object, "episode", (json_t *)(uintptr_t)row->episode) != 0) ||
          (last && json_object_set_new(object, last_of_batch, json_true()) != 0);
    if (!bad && form == REWARD_PYTHON) {
        bad = json_object_set(object, "columns", (json_t *)(uintptr_t)row->data) != 0 ||
              (last && json_object_set_new(object, "trainer_state", json_progress(progress)) != 0);
    } else if (!bad) {
        json_object_foreach((json_t *)(uintptr_t)row->data, key, value)
        {
            if (!bad && json_object_get(object, key) == NULL && strcmp(key, last_of_batch) != 0)
                bad = json_object_set(object, key, value) != 0;
        }
    }
    if (status == COHORT_OK)
        status = bad ? error_set(err, COHORT_ERR_MEMORY, "a row for a reward program: out of memory")
                     : json_text_write(object, JSON_COMPACT, request, err);
    if (status == COHORT_OK)
        status = text_append(request, "\n", 1, err);
    json_decref(parsed);
    json_decref(tokens);
    json_decref(object);
    return status;
}

/* --- threads --- */

static void answer_job(struct worker *worker, struct reward_job *job, struct worker *broken)
{
    struct program *program = (broken == NULL ? worker : broken)->program;
    struct program_batch batch = {.request = job->request.data,
                                  .left = job->request.length,
                                  .n_rows = job->n_asked,
                                  .rewards = job->rewards,
                                  .lists = job->lists,
                                  .tokens = job->tokens,
                                  .places = job->asked,
                                  .log = &job->log,
                                  .waits_whole = worker->state->form == REWARD_PYTHON};
    job->status = program_ask(program, worker->state->name, &batch, &job->error);
}

static void *work(void *opaque)
{
    struct worker *worker = opaque;
    struct exec_state *state = worker->state;
    pthread_mutex_lock(&state->lock);
    for (;;) {
        while (state->first == NULL && !stop_requested(&state->ending))
            pthread_cond_wait(&state->changed, &state->lock);
        if (stop_requested(&state->ending))
            break;
        struct reward_job *job = state->first;
        struct worker *broken = state->broken;
        state->first = job->next;
        if (state->first == NULL)
            state->last = NULL;
        pthread_mutex_unlock(&state->lock);
        answer_job(worker, job, broken);
        pthread_mutex_lock(&state->lock);
        if (job->status != COHORT_OK && state->broken == NULL)
            state->broken = worker;
        job->done = true;
        pthread_cond_broadcast(&state->changed);
    }
    pthread_mutex_unlock(&state->lock);
    return NULL;
}

static cohort_status start_thread(struct worker *worker, cohort_error *err)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    int code = pthread_attr_init(&attributes);
    if (code == 0) {
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the host's */
        code = pthread_attr_setstacksize(&attributes, STACK_BYTES);
        if (code == 0)
            code = pthread_create(&worker->thread, &attributes, work, worker);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    worker->runs = code == 0;
    return code == 0 ? COHORT_OK
                     : error_set(err, COHORT_ERR_MEMORY, "reward '%.80s': cannot start a thread: %s",
                                 worker->state->name, strerror(code));
}

static void exec_destroy(void *opaque)
{
    struct exec_state *state = opaque;
    pthread_mutex_lock(&state->lock);
    atomic_store(&state->ending.requested, true);
    pthread_cond_broadcast(&state->changed);
    pthread_mutex_unlock(&state->lock);
    for (int i = 0; i < state->n_workers; i++)
        if (state->workers[i].runs)
            pthread_join(state->workers[i].thread, NULL);
    for (int i = 0; i < state->n_workers; i++)
        program_destroy(state->workers[i].program);
    pthread_cond_destroy(&state->changed);
    pthread_mutex_destroy(&state->lock);
    score_cache_destroy(state->cache);
    mem_free(state->name);
    mem_free(state);
}

/* --- creation --- */

/* A function in Python says its name, or why there is none. */
static cohort_status greet(struct exec_state *state, const char *label, cohort_error *err)
{
    static const char hello[] = "{}\n";
    for (int i = 0; i < state->n_workers; i++) {
        char *name = NULL;
        struct program_batch batch = {
            .request = hello, .left = sizeof hello - 1, .n_rows = 1, .name = &name, .waits_whole = true};
        TRY(program_ask(state->workers[i].program, label, &batch, err));
        mem_free(state->name);
        state->name = name;
    }
    return COHORT_OK;
}

cohort_status reward_exec_create(void **out, const struct reward_command *command, const struct reward_options *options,
                                 char **name, cohort_error *err)
{
    struct exec_state *state = NULL;
    cohort_status status = COHORT_OK;
    const int n = options->workers == 0 ? 1 : options->workers;
    if (!isfinite(options->timeout_s) || options->timeout_s < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the timeout of reward '%.80s' is %g; expected seconds above 0, or 0 for 60", command->label,
                         options->timeout_s);
    if (n < 1 || n > REWARD_MAX_WORKERS)
        return error_set(err, COHORT_ERR_ARGUMENT, "reward '%.80s': %d programs; expected 1 to %d", command->label, n,
                         REWARD_MAX_WORKERS);
    TRY(mem_alloc(&state, 1, sizeof *state + (size_t)n * sizeof state->workers[0], "reward", err));
    pthread_mutex_init(&state->lock, NULL);
    pthread_cond_init(&state->changed, NULL);
    state->form = command->form;
    TRY_GOTO(mem_strdup(&state->name, *name, strlen(*name), err));
    const struct program_limits limits = {.timeout_s = options->timeout_s == 0 ? 60 : options->timeout_s,
                                          .stop = options->stop,
                                          .ending = &state->ending};
    for (; state->n_workers < n; state->n_workers++) {
        struct worker *worker = &state->workers[state->n_workers];
        worker->state = state;
        TRY_GOTO(program_start(&worker->program, command->label, command->arguments, &limits, err));
    }
    if (state->form == REWARD_PYTHON) {
        TRY_GOTO(greet(state, command->label, err));
        char *copy = NULL;
        TRY_GOTO(mem_strdup(&copy, state->name, strlen(state->name), err));
        mem_free(*name);
        *name = copy;
    }
    for (int i = 0; i < n; i++)
        TRY_GOTO(start_thread(&state->workers[i], err));
    *out = state;
    state = NULL;
cleanup:
    if (state != NULL)
        exec_destroy(state);
    return status;
}

cohort_status reward_exec_keep_scores(void *opaque, cohort_error *err)
{
    struct exec_state *state = opaque;
    return state->cache == NULL ? score_cache_create(&state->cache, err) : COHORT_OK;
}

/* --- jobs --- */

int reward_exec_workers(const void *opaque) { return ((const struct exec_state *)opaque)->n_workers; }

/* Which rows must be asked. */
static cohort_status choose_rows(struct reward_job *job, const struct reward_row *rows, cohort_error *err)
{
    struct score_cache *cache = job->state->cache;
    for (size_t i = 0; i < job->n_rows; i++) {
        bool found = false;
        if (cache != NULL) {
            TRY(score_key(&job->keys[i], &rows[i], err));
            pthread_mutex_lock(&job->state->lock);
            found = score_cache_get(cache, &job->keys[i], &job->known[i]);
            pthread_mutex_unlock(&job->state->lock);
        }
        if (!found)
            job->asked[job->n_asked++] = i;
    }
    return COHORT_OK;
}

cohort_status reward_exec_start(struct reward_job **out, void *opaque, const struct reward_row *rows, size_t n_rows,
                                const struct reward_progress *progress, cohort_error *err)
{
    struct exec_state *state = opaque;
    struct reward_job *job = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&job, 1, sizeof *job, "reward", err));
    job->state = state;
    job->n_rows = n_rows;
    job->done = true;
    TRY_GOTO(mem_alloc(&job->rewards, n_rows, sizeof *job->rewards, "reward", err));
    TRY_GOTO(mem_alloc(&job->asked, n_rows, sizeof *job->asked, "reward", err));
    TRY_GOTO(mem_alloc(&job->lists, n_rows, sizeof(double *), "reward", err));
    TRY_GOTO(mem_alloc(&job->tokens, n_rows, sizeof *job->tokens, "reward", err));
    if (state->cache != NULL) {
        TRY_GOTO(mem_alloc(&job->keys, n_rows, sizeof *job->keys, "reward", err));
        TRY_GOTO(mem_alloc(&job->known, n_rows, sizeof *job->known, "reward", err));
    }
    TRY_GOTO(choose_rows(job, rows, err));
    for (size_t i = 0; i < job->n_asked; i++) {
        const struct reward_row *row = &rows[job->asked[i]];
        job->tokens[i] = row->n_tokens > 0 || row->length == 0 ? row->n_tokens : -1;
        TRY_GOTO(append_row(&job->request, row, state->form, i + 1 == job->n_asked, progress, err));
    }
    if (job->n_asked > 0) {
        job->done = false;
        pthread_mutex_lock(&state->lock);
        if (state->last == NULL)
            state->first = job;
        else
            state->last->next = job;
        state->last = job;
        pthread_cond_broadcast(&state->changed);
        pthread_mutex_unlock(&state->lock);
    }
    *out = job;
    job = NULL;
cleanup:
    reward_job_free(job);
    return status;
}

static void wait_done(struct reward_job *job)
{
    struct exec_state *state = job->state;
    pthread_mutex_lock(&state->lock);
    while (!job->done)
        pthread_cond_wait(&state->changed, &state->lock);
    pthread_mutex_unlock(&state->lock);
}

/* Whether there are numbers alone: what was said with them goes with the call, not the row. */
static bool keeps_scores(const struct reward_job *job)
{
    bool keeps = job->state->cache != NULL && reward_log_empty(&job->log);
    for (size_t i = 0; i < job->n_asked; i++)
        keeps = keeps && job->lists[i] == NULL;
    return keeps;
}

cohort_status reward_finish(struct reward_job *job, double *rewards, double **lists, struct reward_log *log,
                            size_t first_row, cohort_error *err)
{
    struct exec_state *state = job->state;
    cohort_status status = COHORT_OK;
    wait_done(job);
    if (job->status != COHORT_OK)
        return error_set(err, job->status, "%s", job->error.message);
    for (size_t i = 0; state->cache != NULL && i < job->n_rows; i++)
        rewards[i] = job->known[i];
    const bool keeps = keeps_scores(job);
    pthread_mutex_lock(&state->lock);
    for (size_t i = 0; i < job->n_asked; i++) {
        rewards[job->asked[i]] = job->rewards[i];
        if (lists != NULL) {
            lists[job->asked[i]] = job->lists[i];
            job->lists[i] = NULL;
        }
        if (keeps && status == COHORT_OK)
            status = score_cache_put(state->cache, &job->keys[job->asked[i]], job->rewards[i], err);
    }
    pthread_mutex_unlock(&state->lock);
    if (status == COHORT_OK && log != NULL && !reward_log_merge(log, &job->log, first_row))
        status = error_set(err, COHORT_ERR_MEMORY, "reward '%.80s': out of memory for what it logged", state->name);
    return status;
}

void reward_job_free(struct reward_job *job)
{
    if (job == NULL)
        return;
    if (!job->done) {
        struct exec_state *state = job->state;
        pthread_mutex_lock(&state->lock);
        struct reward_job *before = NULL;
        for (struct reward_job *j = state->first; j != NULL; before = j, j = j->next)
            if (j == job) { /* nobody has begun it */
                *(before == NULL ? &state->first : &before->next) = job->next;
                if (state->last == job)
                    state->last = before;
                job->done = true;
                break;
            }
        pthread_mutex_unlock(&state->lock);
        wait_done(job);
    }
    text_free(&job->request);
    reward_log_free(&job->log);
    reward_lists_clear(job->lists, job->n_rows);
    mem_free(job->lists);
    mem_free(job->tokens);
    mem_free(job->rewards);
    mem_free(job->asked);
    mem_free(job->keys);
    mem_free(job->known);
    mem_free(job);
}

static cohort_status exec_score_lists(void *opaque, const char *name, const struct reward_row *rows, size_t n_rows,
                                      double *rewards, double **lists, cohort_error *err)
{
    struct reward_job *job = NULL;
    (void)name;
    TRY(reward_exec_start(&job, opaque, rows, n_rows, NULL, err));
    cohort_status status = reward_finish(job, rewards, lists, NULL, 0, err);
    reward_job_free(job);
    return status;
}

const struct reward_kind reward_kind_exec = {.destroy = exec_destroy, .score_lists = exec_score_lists};
