/* judge:URL: a model behind a server that speaks OpenAI's chat completions scores completions by a rubric.
 *
 * A batch is shared out to threads, each with a connection of its own, which live as long as the batch; which of them asks
 * about a row is chance, and nothing depends on it. What gets no score is null: the run goes on, and the share of such rows is
 * the metric judge/unscored. A judge that has never yet given a score is taken to be set up wrongly: that is an error
 * which says what to look at.
 *
 * Tried again, after a pause that doubles from one attempt to the next: no answer, 408, 409, 429, 5xx. A server that says when to
 * come back (Retry-After) is waited for, up to LONGEST_PAUSE. The key is read from an environment variable when the reward is
 * made and goes into the header of requests alone. */
#include "base/clock.h"
#include "base/http_client.h"
#include "base/file.h"
#include "reward/judge.h"
#include "reward/reward_internal.h"
#include "reward/score_cache.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ANSWER_BYTES = 4 << 20, RUBRIC_BYTES = 1 << 20, CA_BYTES = 16 << 20, STACK_BYTES = 512 << 10 };
static const double FIRST_PAUSE = 0.5, LONGEST_PAUSE = 30.0;

struct judge_state {
    char *url, *model, *rubric, *key, *ca;
    double least, most, timeout_s;
    int workers, retries;
    const struct stop *stop;
    struct score_cache *cache; /* NULL: none */
    bool answered;             /* it has given a score */
    bool warned;               /* of rows without one, since it last gave one to all */
    bool tells;                /* warning is to be told */
    struct reward_log log;     /* since it was last taken */
    char warning[512];
};

/* A batch while it is asked. */
struct batch {
    struct judge_state *state;
    const struct reward_row *rows;
    size_t n_rows, next;
    double *rewards;
    pthread_mutex_t lock; /* of next, failed, problem and status */
    size_t failed;
    char problem[400]; /* of the first row without a score */
    cohort_status status;
    cohort_error error;
};

/* Waits, looking for a stop ten times a second. */
static cohort_status pause_for(double seconds, const struct stop *stop, cohort_error *err)
{
    const double end = clock_seconds() + seconds;
    while (clock_seconds() < end) {
        const double left = end - clock_seconds(), piece = left < 0.0 ? 0.0 : left < 0.1 ? left : 0.1;
        TRY(stop_check(stop, err));
        nanosleep(&(struct timespec){.tv_nsec = (long)(piece * 1e9)}, NULL);
    }
    return stop_check(stop, err);
}

static bool worth_another(const struct http_answer *answer)
{
    const int code = answer->code;
    return (code == 0 && !answer->untrusted) || code == 408 || code == 409 || code == 429 || code >= 500;
}

static const char *advice(const struct http_answer *answer)
{
    const int code = answer->code;
    return answer->untrusted ? "; give the PEM file of the certificates that it is trusted by: --judge-ca FILE"
           : code == 401 || code == 403 ? "; see that the key is right (--judge-key-env)"
           : code == 404                ? "; see that the URL and --judge-model name what the server has"
           : code == 429                ? "; it is asked too often: lower --reward-workers"
           : code == 0                  ? "; see that the server runs and that --reward-timeout is long enough"
                                        : "";
}

/* One row: rewards[i], or NaN with the problem. */
static cohort_status ask_row(const struct judge_state *state, struct http_client *client, const struct reward_row *row,
                             double *score, char *problem, size_t bytes, cohort_error *err)
{
    struct text request = {0};
    struct http_answer answer = {0};
    double pause = FIRST_PAUSE;
    cohort_status status = judge_request(state->model, state->rubric, state->least, state->most, row, &request, err);
    *score = (double)NAN;
    for (int attempt = 0; status == COHORT_OK; attempt++) {
        const struct http_post post = {.url = state->url,
                                       .body = request.data,
                                       .length = request.length,
                                       .ca = state->ca,
                                       .key = state->key,
                                       .timeout_s = state->timeout_s,
                                       .most_bytes = ANSWER_BYTES,
                                       .stop = state->stop};
        text_free(&answer.body);
        status = http_client_post(client, &post, &answer, err);
        if (status != COHORT_OK)
            break;
        if (answer.code == 200) {
            *score = judge_score(answer.body.data == NULL ? "" : answer.body.data, answer.body.length, state->least,
                                 state->most, problem, bytes);
            break;
        }
        if (answer.code == 0)
            snprintf(problem, bytes, "%.200s%s", answer.problem, advice(&answer));
        else
            snprintf(problem, bytes, "HTTP %d: %.80s%s", answer.code, answer.body.data == NULL ? "" : answer.body.data,
                     advice(&answer));
        if (attempt >= state->retries || !worth_another(&answer))
            break;
        const double wait = answer.retry_after_s > pause ? answer.retry_after_s : pause;
        status = pause_for(wait < LONGEST_PAUSE ? wait : LONGEST_PAUSE, state->stop, err);
        pause *= 2.0;
    }
    text_free(&answer.body);
    text_free(&request);
    return status;
}

/* A row's score, from the cache where it knows it. */
static cohort_status score_row(struct batch *batch, struct http_client *client, size_t i, char *problem, size_t bytes,
                               cohort_error *err)
{
    struct judge_state *state = batch->state;
    struct score_key key;
    bool known = false;
    if (state->cache != NULL) {
        TRY(score_key(&key, &batch->rows[i], err));
        pthread_mutex_lock(&batch->lock);
        known = score_cache_get(state->cache, &key, &batch->rewards[i]);
        pthread_mutex_unlock(&batch->lock);
    }
    if (known)
        return COHORT_OK;
    TRY(ask_row(state, client, &batch->rows[i], &batch->rewards[i], problem, bytes, err));
    if (state->cache == NULL || isnan(batch->rewards[i]))
        return COHORT_OK;
    pthread_mutex_lock(&batch->lock);
    const cohort_status status = score_cache_put(state->cache, &key, batch->rewards[i], err);
    pthread_mutex_unlock(&batch->lock);
    return status;
}

static void *work(void *opaque)
{
    struct batch *batch = opaque;
    struct http_client *client = NULL;
    cohort_error error = {0};
    cohort_status status = http_client_create(&client, &error);
    for (;;) {
        char problem[320] = "";
        pthread_mutex_lock(&batch->lock);
        if (status != COHORT_OK && batch->status == COHORT_OK) {
            batch->status = status;
            batch->error = error;
        }
        const size_t i = batch->next;
        const bool more = i < batch->n_rows && batch->status == COHORT_OK;
        batch->next += more ? 1 : 0;
        pthread_mutex_unlock(&batch->lock);
        if (!more)
            break;
        status = score_row(batch, client, i, problem, sizeof problem, &error);
        if (status != COHORT_OK || !isnan(batch->rewards[i]))
            continue;
        pthread_mutex_lock(&batch->lock);
        if (batch->failed++ == 0)
            snprintf(batch->problem, sizeof batch->problem, "%s", problem);
        pthread_mutex_unlock(&batch->lock);
    }
    http_client_destroy(client);
    return NULL;
}

/* Runs work on so many threads, this one among them. What cannot be started is done by the others. */
static void share_out(struct batch *batch, int workers)
{
    pthread_t threads[REWARD_MAX_WORKERS];
    pthread_attr_t attributes;
    sigset_t all, before;
    int n = 0;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) == 0) {
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the host's */
        while (n < workers - 1 && pthread_create(&threads[n], &attributes, work, batch) == 0)
            n++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    work(batch);
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

static cohort_status judge_score_rows(void *opaque, const char *name, const struct reward_row *rows, size_t n_rows,
                                      double *rewards, cohort_error *err)
{
    struct judge_state *state = opaque;
    struct batch batch = {.state = state, .rows = rows, .n_rows = n_rows, .rewards = rewards};
    pthread_mutex_init(&batch.lock, NULL);
    share_out(&batch, (size_t)state->workers < n_rows ? state->workers : (int)n_rows);
    pthread_mutex_destroy(&batch.lock);
    if (batch.status != COHORT_OK)
        return error_set(err, batch.status, "%s", batch.error.message);
    if (batch.failed == n_rows && !state->answered)
        return error_set(err, COHORT_ERR_REWARD,
                         "reward '%s': %.80s has not given a single score, to none of %zu completions: %s", name,
                         state->url, n_rows, batch.problem);
    state->answered = true;
    if (!reward_log_metric(&state->log, "judge/unscored", (double)batch.failed, (int64_t)n_rows))
        return error_set(err, COHORT_ERR_MEMORY, "reward '%s': out of memory", name);
    state->tells = batch.failed > 0 && !state->warned;
    if (state->tells)
        snprintf(state->warning, sizeof state->warning,
                 "warning: reward '%s': %zu of %zu completions got no score, which is null: %s", name, batch.failed,
                 n_rows, batch.problem);
    state->warned = batch.failed > 0;
    return COHORT_OK;
}

static void judge_destroy(void *opaque)
{
    struct judge_state *state = opaque;
    score_cache_destroy(state->cache);
    reward_log_free(&state->log);
    if (state->key != NULL)
        memset(state->key, 0, strlen(state->key));
    mem_free(state->key);
    mem_free(state->url);
    mem_free(state->model);
    mem_free(state->rubric);
    mem_free(state->ca);
    mem_free(state);
}

static const char *judge_warning(void *opaque)
{
    struct judge_state *state = opaque;
    if (!state->tells)
        return NULL;
    state->tells = false;
    return state->warning;
}

static struct reward_log *judge_log(void *opaque) { return &((struct judge_state *)opaque)->log; }

/* ---- creation ---- */

static const char default_rubric[] = "You judge answers of a language model. Score how well the answer does what the "
                                     "prompt asks: correctness first, then "
                                     "whether it is complete, clear and to the point. The least score is for an answer "
                                     "that is wrong or no answer, the most "
                                     "for one that leaves nothing to be desired.";

/* Where requests go: the URL as it is, or the server's with the path of chat completions. */
static cohort_status find_url(struct judge_state *state, const char *url, cohort_error *err)
{
    static const char ending[] = "/chat/completions", version[] = "/v1";
    const char *host = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : NULL;
    struct text full = {0};
    size_t length = strlen(url);
    if (host == NULL || *host == '\0' || *host == '/')
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward 'judge:%.80s': expected judge:http://HOST:PORT/v1 or judge:https://...", url);
    if (memchr(host, '@', strcspn(host, "/")) != NULL)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "reward 'judge:': the URL has a user or a password in it, which would stand in the run's files; "
            "put the key into an environment variable and name it with --judge-key-env");
    while (url[length - 1] == '/')
        length--;
    TRY(text_printf(&full, err, "%.*s", (int)length, url));
    cohort_status status = COHORT_OK;
    if (!text_ends(full.data, ending))
        status = text_printf(&full, err, "%s%s", text_ends(full.data, version) ? "" : version, ending);
    if (status == COHORT_OK)
        state->url = full.data;
    else
        text_free(&full);
    return status;
}

/* A file of this name, else the text itself. */
static cohort_status find_rubric(struct judge_state *state, const char *rubric, cohort_error *err)
{
    struct text text = {0};
    bool there = false;
    if (rubric == NULL)
        return mem_strdup(&state->rubric, default_rubric, sizeof default_rubric - 1, err);
    TRY(reward_judge_rubric_is_file(rubric, &there, err));
    if (!there)
        return mem_strdup(&state->rubric, rubric, strlen(rubric), err);
    cohort_status status = file_read(rubric, RUBRIC_BYTES, &text, err);
    if (status == COHORT_OK && text.length == 0)
        status = error_set(err, COHORT_ERR_ARGUMENT, "--judge-rubric %.200s: the file is empty", rubric);
    if (status == COHORT_OK)
        status = mem_strdup(&state->rubric, text.data, text.length, err);
    text_free(&text);
    return status;
}

cohort_status reward_judge_rubric_is_file(const char *rubric, bool *is_file, cohort_error *err)
{
    *is_file = false;
    if (*rubric == '\0' || strlen(rubric) > 1024 || strchr(rubric, '\n') != NULL)
        return COHORT_OK;
    TRY(file_exists(rubric, is_file, err));
    if (!*is_file && strchr(rubric, ' ') == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--judge-rubric %.200s: there is no such file, and one word is no rubric", rubric);
    return COHORT_OK;
}

cohort_status reward_judge_create(void **out, const char *url, const struct reward_options *options, cohort_error *err)
{
    const char *variable = options->judge_key_env != NULL ? options->judge_key_env : "OPENAI_API_KEY";
    const char *key = getenv(variable), *model = options->judge_model != NULL ? options->judge_model : "default";
    struct judge_state *state = NULL;
    struct http_client *client = NULL;
    cohort_status status = COHORT_OK;
    TRY(http_client_create(&client, err)); /* whether this build can */
    http_client_destroy(client);
    TRY(mem_alloc(&state, 1, sizeof *state, "reward", err));
    state->least = options->judge_least;
    state->most = options->judge_least == 0.0 && options->judge_most == 0.0 ? 1.0 : options->judge_most;
    state->timeout_s = options->timeout_s == 0 ? 60 : options->timeout_s;
    state->workers = options->workers == 0 ? 1 : options->workers;
    state->retries = options->judge_retries;
    state->stop = options->stop;
    TRY_GOTO(find_url(state, url, err));
    TRY_GOTO(find_rubric(state, options->judge_rubric, err));
    TRY_GOTO(mem_strdup(&state->model, model, strlen(model), err));
    if (!(state->least < state->most)) {
        status = error_set(err, COHORT_ERR_ARGUMENT, "--judge-scale: expected LEAST,MOST, two numbers that rise");
        goto cleanup;
    }
    if (state->workers < 1 || state->workers > REWARD_MAX_WORKERS) {
        status = error_set(err, COHORT_ERR_ARGUMENT, "reward 'judge': %d requests at once; expected 1 to %d",
                           state->workers, REWARD_MAX_WORKERS);
        goto cleanup;
    }
    if (options->judge_key_env != NULL && key == NULL) {
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "--judge-key-env %.80s: there is no such environment variable; set it to the server's key",
                           variable);
        goto cleanup;
    }
    if (options->judge_ca != NULL) {
        struct text pem = {0};
        status = file_read(options->judge_ca, CA_BYTES, &pem, err);
        text_free(&pem);
        if (status == COHORT_OK)
            status = mem_strdup(&state->ca, options->judge_ca, strlen(options->judge_ca), err);
        if (status != COHORT_OK)
            goto cleanup;
    }
    if (key != NULL && *key != '\0')
        TRY_GOTO(mem_strdup(&state->key, key, strlen(key), err));
    *out = state;
    state = NULL;
cleanup:
    if (state != NULL)
        judge_destroy(state);
    return status;
}

cohort_status reward_judge_keep_scores(void *opaque, cohort_error *err)
{
    struct judge_state *state = opaque;
    return state->cache == NULL ? score_cache_create(&state->cache, err) : COHORT_OK;
}

const struct reward_kind reward_kind_judge = {
    .score = judge_score_rows, .destroy = judge_destroy, .warning = judge_warning, .log = judge_log};
