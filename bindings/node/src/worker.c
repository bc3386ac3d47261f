/* A thread for each handle of the library.
 *
 * It owns the handle and its options. States: open (takes jobs) -> closing (jobs fail, what is under way is stopped) -> ended
 * (joined). holders counts the JavaScript object and the thread; the struct is freed on the JavaScript thread. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char CLOSED[] = "it was closed";

void post(struct addon *addon, struct message *message)
{
    if (napi_call_threadsafe_function(addon->calls, message, napi_tsfn_nonblocking) != napi_ok)
        message->arrive(NULL, message);
}

void node_job_fail(struct job *job, cohort_status status, const char *message)
{
    job->status = status;
    cohort_error_init(&job->err);
    job->err.status = status;
    strncpy(job->err.message, message, sizeof job->err.message - 1);
    job->err.message[sizeof job->err.message - 1] = '\0';
}

void node_job_done(struct job *job) { post(job->worker->addon, &job->message); }

/* ---- The thread -------------------------------------------------------------------------------------------------- */

static struct job *take_job(struct worker *worker, bool *closing)
{
    pthread_mutex_lock(&worker->lock);
    while (worker->first == NULL && !worker->closing && !worker->busy)
        pthread_cond_wait(&worker->wake, &worker->lock);
    struct job *job = worker->first;
    if (job != NULL) {
        worker->first = job->next;
        worker->last = worker->first == NULL ? NULL : worker->last;
    }
    *closing = worker->closing;
    pthread_mutex_unlock(&worker->lock);
    return job;
}

struct ending {
    struct message message;
    struct worker *worker;
};

static void worker_drop(struct worker *worker)
{
    if (--worker->holders > 0)
        return;
    struct addon *addon = worker->addon;
    for (struct worker **at = &addon->workers; *at != NULL; at = &(*at)->next)
        if (*at == worker) {
            *at = worker->next;
            break;
        }
    if (worker->handler != NULL && !addon->ended)
        napi_delete_reference(addon->env, worker->handler);
    for (size_t i = 0; i < worker->n_rewards; i++)
        free(worker->rewards[i].name);
    free(worker->rewards);
    free(worker->environment);
    environment_lines_free(worker->lines);
    addon_text_free(&worker->output);
    cohort_stop_destroy(worker->stop);
    pthread_cond_destroy(&worker->wake);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
    if (--addon->holders == 0)
        free(addon);
}

static void join(struct worker *worker)
{
    if (!worker->joined)
        pthread_join(worker->thread, NULL);
    worker->joined = true;
}

static void on_ending(napi_env env, struct message *message)
{
    struct ending *ending = (struct ending *)message;
    if (env != NULL) { /* otherwise workers_join has, or will have, seen to it */
        join(ending->worker);
        worker_drop(ending->worker);
    }
    free(ending);
}

static void close_handle(struct worker *worker)
{
    if (worker->kind == WORKER_MODEL)
        cohort_model_close(worker->handle.model);
    else if (worker->kind == WORKER_TRAINER)
        cohort_trainer_close(worker->handle.trainer);
    else if (worker->kind == WORKER_STORE)
        cohort_store_close(worker->handle.store);
    cohort_options_destroy(worker->options);
}

static void *thread_main(void *context)
{
    struct worker *worker = context;
    struct ending *ending = NULL;
    for (;;) {
        bool closing = false;
        struct job *job = take_job(worker, &closing);
        if (closing && worker->generations != NULL)
            model_drop(worker, COHORT_ERR_STATE, CLOSED);
        if (job != NULL) {
            if (closing)
                node_job_fail(job, COHORT_ERR_STATE, CLOSED);
            else
                job->work(job);
            if (!job->kept)
                node_job_done(job);
        } else if (closing) {
            break;
        } else {
            model_turn(worker);
        }
    }
    close_handle(worker);
    ending = calloc(1, sizeof *ending);
    if (ending != NULL) { /* without it the worker stays until its environment ends */
        ending->message.arrive = on_ending;
        ending->worker = worker;
        post(worker->addon, &ending->message);
    }
    return NULL;
}

/* ---- Of the JavaScript thread ------------------------------------------------------------------------------------ */

static void finalize_handle(napi_env env, void *data, void *hint)
{
    struct worker *worker = data;
    (void)env;
    (void)hint;
    worker_close(worker);
    worker_drop(worker);
}

struct worker *worker_new(napi_env env, struct addon *addon, enum worker_kind kind, napi_value *handle)
{
    struct worker *worker = calloc(1, sizeof *worker);
    pthread_condattr_t attributes;
    cohort_error err;
    cohort_error_init(&err);
    if (worker == NULL || cohort_stop_create(&worker->stop, &err) != COHORT_OK) {
        free(worker);
        throw_error(env, COHORT_ERR_MEMORY, "out of memory");
        return NULL;
    }
    worker->kind = kind;
    worker->addon = addon;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    worker->holders = 1;
    addon->holders++;
    worker->next = addon->workers;
    addon->workers = worker;
    if (addon->ended || pthread_create(&worker->thread, NULL, thread_main, worker) != 0) {
        worker->joined = true;
        worker_drop(worker);
        throw_error(env, COHORT_ERR_STATE, "no thread could be started");
        return NULL;
    }
    worker->holders++;
    if (napi_create_external(env, worker, finalize_handle, NULL, handle) != napi_ok) {
        throw_pending(env, "napi_create_external");
        worker_close(worker);
        worker_drop(worker);
        return NULL;
    }
    return worker;
}

struct worker *worker_of(napi_env env, napi_value handle, unsigned kinds)
{
    napi_valuetype type = napi_undefined;
    void *data = NULL;
    if (napi_typeof(env, handle, &type) == napi_ok && type == napi_external &&
        napi_get_value_external(env, handle, &data) == napi_ok && (kinds & 1u << ((struct worker *)data)->kind) != 0)
        return data;
    throw_error(env, COHORT_ERR_ARGUMENT, "expected a handle of the addon");
    return NULL;
}

static void settle(napi_env env, struct job *job)
{
    struct addon *addon = job->worker->addon;
    napi_handle_scope scope = NULL;
    napi_value value = NULL, error = NULL;
    bool failed = job->status != COHORT_OK || job->text.failed;
    if (--addon->busy == 0)
        napi_unref_threadsafe_function(env, addon->calls);
    if (napi_open_handle_scope(env, &scope) != napi_ok)
        return;
    if (!failed && job->result != NULL) {
        value = job->result(env, job);
        failed = value == NULL;
    } else if (!failed) {
        napi_get_undefined(env, &value);
    }
    if (failed) {
        bool pending = false;
        napi_is_exception_pending(env, &pending);
        if (pending)
            napi_get_and_clear_last_exception(env, &error);
        else
            error = make_error(env, addon, job->status == COHORT_OK ? COHORT_ERR_MEMORY : job->status,
                               job->worker->timed_out, job->status == COHORT_OK ? "out of memory" : job->err.message);
        napi_reject_deferred(env, job->deferred, error);
    } else {
        napi_resolve_deferred(env, job->deferred, value);
    }
    napi_close_handle_scope(env, scope);
}

static void on_job(napi_env env, struct message *message)
{
    struct job *job = (struct job *)message;
    if (env != NULL)
        settle(env, job);
    if (job->release != NULL)
        job->release(env, job);
    addon_text_free(&job->text);
    free(job);
}

napi_value worker_queue(napi_env env, struct worker *worker, struct job *job)
{
    struct addon *addon = worker->addon;
    napi_value promise = NULL;
    job->worker = worker;
    job->message.arrive = on_job;
    cohort_error_init(&job->err);
    if (napi_create_promise(env, &job->deferred, &promise) != napi_ok) {
        throw_pending(env, "napi_create_promise");
        on_job(NULL, &job->message);
        return NULL;
    }
    if (addon->busy++ == 0)
        napi_ref_threadsafe_function(env, addon->calls);
    pthread_mutex_lock(&worker->lock);
    const bool closing = worker->closing;
    if (!closing) {
        if (worker->last != NULL)
            worker->last->next = job;
        else
            worker->first = job;
        worker->last = job;
        pthread_cond_broadcast(&worker->wake);
    }
    pthread_mutex_unlock(&worker->lock);
    if (closing) {
        node_job_fail(job, COHORT_ERR_STATE, CLOSED);
        node_job_done(job);
    }
    return promise;
}

void worker_close(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->closing = true;
    cohort_stop_trigger(worker->stop);
    pthread_cond_broadcast(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
}

void workers_join(struct addon *addon)
{
    addon->ended = true;
    for (struct worker *worker = addon->workers; worker != NULL; worker = worker->next)
        worker_close(worker);
    for (struct worker *worker = addon->workers, *next; worker != NULL; worker = next) {
        next = worker->next;
        if (worker->joined)
            continue;
        join(worker);
        worker_drop(worker); /* the thread's part */
    }
}
