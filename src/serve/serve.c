#include "serve/serve.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "recipe/end_of_text.h"
#include "recipe/generation_file.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- What the I/O thread does ---- */

/* With the lock. */
static cohort_status accepts(const struct serve *s, struct fault *fault)
{
    switch (s->state) {
    case SERVE_READY: return COHORT_OK;
    case SERVE_LOADING: return fault_set(fault, 503, "loading", NULL, "the model is being loaded; try again");
    case SERVE_DRAINING:
        return fault_set(fault, 503, "draining", NULL, "the server is about to end; it takes nothing new");
    default: return fault_set(fault, 503, "engine_failed", NULL, "the engine has failed: %s", s->reason);
    }
}

cohort_status serve_accepts(struct serve *s, struct fault *fault)
{
    pthread_mutex_lock(&s->lock);
    const cohort_status status = accepts(s, fault);
    pthread_mutex_unlock(&s->lock);
    return status;
}

cohort_status serve_send(struct serve *s, struct errand *errand, struct fault *fault)
{
    pthread_mutex_lock(&s->lock);
    const cohort_status status = accepts(s, fault);
    if (status == COHORT_OK) {
        errand->next = NULL;
        if (s->first == NULL)
            s->first = errand;
        else
            s->last->next = errand;
        s->last = errand;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* Whether nothing waits in the queue. */
static bool queue_empty(struct serve *s)
{
    pthread_mutex_lock(&s->lock);
    const bool empty = s->first == NULL;
    pthread_mutex_unlock(&s->lock);
    return empty;
}

uint64_t serve_seed(struct serve *s)
{
    uint64_t seed = 0;
    if (options_given(s->options, OPTION_SEED))
        return (uint64_t)options_int(s->options, OPTION_SEED);
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&s->lock);
    seed = rng_stream(rng_stream((uint64_t)now.tv_sec, (uint64_t)now.tv_nsec), ++s->n_seeds) >> 12;
    pthread_mutex_unlock(&s->lock);
    return seed;
}

unsigned serve_health(struct serve *s, char reason[400])
{
    static const double idle_most = 2.0, step_most = 60.0;
    const double now = clock_seconds(), from = atomic_load(&s->step_from), beat = atomic_load(&s->beat);
    pthread_mutex_lock(&s->lock);
    const enum serve_state state = s->state;
    snprintf(reason, 400, "%s", s->reason);
    pthread_mutex_unlock(&s->lock);
    if (state == SERVE_LOADING)
        snprintf(reason, 400, "loading");
    else if (state == SERVE_DRAINING)
        snprintf(reason, 400, "draining");
    else if (state == SERVE_READY && from > 0 && now - from > step_most)
        snprintf(reason, 400, "the engine has been in one step for %d s", (int)(now - from));
    else if (state == SERVE_READY && from <= 0 && now - beat > idle_most)
        snprintf(reason, 400, "the engine's thread was last seen %d s ago", (int)(now - beat));
    else if (state == SERVE_READY)
        return 200;
    return 503;
}

void serve_over(void *context, unsigned status)
{
    struct serve *s = context;
    pthread_mutex_lock(&s->lock);
    metrics_count(&s->metrics, status);
    pthread_mutex_unlock(&s->lock);
}

/* ---- Jobs, on the engine thread ---- */

static void count_waiting(struct serve *s, int32_t waiting, int32_t running)
{
    pthread_mutex_lock(&s->lock);
    s->n_waiting += waiting;
    s->n_running += running;
    pthread_mutex_unlock(&s->lock);
}

static cohort_status submit_prompt(struct serve *s, struct job *job, size_t p, cohort_error *err)
{
    const struct ask *ask = &job->ask;
    const struct token_list *ids = &ask->prompts[p].ids;
    const int32_t room = s->reading.context - (int32_t)ids->count;
    uint64_t before = 0;
    for (size_t i = 0; i < p; i++)
        before += ask->prompts[i].ids.count == ids->count &&
                  memcmp(ask->prompts[i].ids.ids, ids->ids, ids->count * sizeof *ids->ids) == 0;
    struct engine_request request = s->pattern;
    request.prompt = ids->ids;
    request.n_prompt = (int32_t)ids->count;
    request.n = ask->n;
    request.sampling = ask->sampling;
    request.seed = job->seed;
    request.stream = prompt_stream(ids->ids, ids->count, before);
    request.max_tokens = ask->max_tokens > 0 && ask->max_tokens < room ? ask->max_tokens : room;
    request.eos_ids = ask->eos_ids;
    request.n_eos = ask->n_eos;
    request.stop = ask->stop;
    request.n_stop = ask->n_stop;
    request.min_tokens = ask->min_tokens < request.max_tokens ? ask->min_tokens : request.max_tokens;
    request.repetition = ask->repetition;
    request.n_top = ask->top_logprobs;
    request.wears = serve_adapters_find(&s->adapters, ask->model);
    request.logp_temperature = ask->logprobs ? ask->logp_temperature : 0;
    const struct row_guides guides = {0};
    TRY(row_constraints_open(&job->constraints[p], &guides, ask->guide, ask->n, request.max_tokens, err));
    request.constraints = job->constraints[p].constraints;
    TRY(mem_grow(&s->places, &s->place_capacity, s->n_places + 1, sizeof *s->places, "requests", err));
    TRY(engine_submit(s->engine, &request, &job->requests[p], err));
    s->places[s->n_places++] = (struct serve_place){.request = job->requests[p], .job = job, .prompt = (int32_t)p};
    return COHORT_OK;
}

static void cancel_job(struct serve *s, struct job *job)
{
    job->cancelled = true;
    for (size_t p = 0; p < job->ask.n_prompts; p++)
        if (job->requests[p] >= 0)
            engine_cancel(s->engine, job->requests[p]);
}

/* What a job leaves behind: places, counts. */
static void forget(struct serve *s, struct job *job)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n_places; i++)
        if (s->places[i].job != job)
            s->places[kept++] = s->places[i];
    s->n_places = kept;
    pthread_mutex_lock(&s->lock);
    struct serve_metrics *m = &s->metrics;
    *(job->first > 0 ? &s->n_running : &s->n_waiting) -= 1;
    const int64_t drawn = job_drawn_tokens(job);
    m->prompt_tokens += job_prompt_tokens(job);
    m->drawn_tokens += drawn;
    m->cancelled += job->cancelled;
    for (int32_t i = 0; i < job->n_choices; i++) {
        m->calls += job->choices[i].speech.n_calls;
        m->broken_calls += job->choices[i].speech.n_broken;
    }
    if (job->started > 0)
        histogram_add(&m->queue, job->started - job->arrived);
    if (job->first > 0)
        histogram_add(&m->first_token, job->first - job->arrived);
    if (drawn > job->n_choices)
        histogram_add(&m->per_token, (job->last - job->first) * job->n_choices / (double)(drawn - job->n_choices));
    histogram_add(&m->whole, clock_seconds() - job->arrived);
    pthread_mutex_unlock(&s->lock);
    if (job->cancelled && !job->failed) { /* whoever asked is gone: what is left of the connection may go too */
        struct fault fault = {0};
        (void)fault_set(&fault, 503, "cancelled", NULL, "the request was cancelled");
        job_fail(job, &fault);
    }
    job_destroy(job);
}

static void start_job(struct serve *s, struct errand *errand)
{
    struct job *job = errand->context;
    struct fault fault = {0};
    mem_free(errand);
    job->started = clock_seconds();
    cohort_status status =
        mem_grow(&s->jobs, &s->job_capacity, s->n_jobs + 1, sizeof(struct job *), "requests", &fault.err);
    for (size_t p = 0; p < job->ask.n_prompts && status == COHORT_OK; p++)
        status = submit_prompt(s, job, p, &fault.err);
    if (status != COHORT_OK) {
        job_fail(job, &fault);
        cancel_job(s, job);
    }
    if (s->n_jobs < s->job_capacity)
        s->jobs[s->n_jobs++] = job;
    else
        forget(s, job);
}

static void drop_job(struct errand *errand, const struct fault *fault)
{
    struct job *job = errand->context;
    job_fail(job, fault);
    job_destroy(job);
    mem_free(errand);
}

cohort_status serve_submit(struct serve *s, struct job *job, struct fault *fault)
{
    struct errand *errand = NULL;
    cohort_status status = serve_accepts(s, fault);
    pthread_mutex_lock(&s->lock);
    if (status == COHORT_OK && s->n_waiting >= s->max_waiting)
        status = fault_set(fault, 429, "queue_full", NULL, "%d requests wait already; try again", (int)s->n_waiting);
    s->n_waiting += status == COHORT_OK;
    pthread_mutex_unlock(&s->lock);
    if (status != COHORT_OK) {
        job_destroy(job);
        return status;
    }
    status = mem_alloc(&errand, 1, sizeof *errand, "request", &fault->err);
    if (status == COHORT_OK) {
        *errand = (struct errand){.run = start_job, .drop = drop_job, .call = job->call, .context = job};
        status = serve_send(s, errand, fault);
    }
    if (status != COHORT_OK) {
        count_waiting(s, -1, 0);
        mem_free(errand);
        job_destroy(job);
    }
    return status;
}

static void on_event(void *context, const struct engine_event *event)
{
    struct serve *s = context;
    size_t low = 0, high = s->n_places;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (s->places[middle].request < event->request)
            low = middle + 1;
        else
            high = middle;
    }
    struct job *job = low < s->n_places && s->places[low].request == event->request ? s->places[low].job : NULL;
    if (job == NULL)
        return;
    struct fault fault = {0};
    const bool first = job->first == 0;
    const int32_t at = s->places[low].prompt * job->ask.n + event->index;
    if (job_take(&job->choices[at], event, &fault.err) != COHORT_OK && !job->failed) {
        job_fail(job, &fault);
        cancel_job(s, job);
    }
    if (first && job->first > 0)
        count_waiting(s, -1, 1);
}

/* Ends what nobody waits for any more. */
static void end_unwanted(struct serve *s, double now)
{
    for (size_t i = 0; i < s->n_jobs; i++) {
        struct job *job = s->jobs[i];
        if (job->cancelled || job->n_open == 0)
            continue;
        if (http_gone(job->call)) {
            cancel_job(s, job);
        } else if (s->request_timeout > 0 && now - job->arrived > s->request_timeout) {
            struct fault fault = {0};
            (void)fault_set(&fault, 504, "timeout", NULL, "the request took longer than --request-timeout allows");
            job_fail(job, &fault);
            cancel_job(s, job);
        }
    }
}

/* Hands out what a step brought; jobs that have ended go. */
static void flush(struct serve *s)
{
    size_t kept = 0;
    struct completion done;
    while (engine_poll(s->engine, &done))
        completion_free(&done);
    for (size_t i = 0; i < s->n_jobs; i++) {
        struct job *job = s->jobs[i];
        struct fault fault = {0};
        if (!job->cancelled && !job->failed &&
            (serve_prompt_score(s, job, &fault.err) != COHORT_OK || job_flush(job, &fault.err) != COHORT_OK))
            job_fail(job, &fault);
        if (job->failed && !job->cancelled)
            cancel_job(s, job);
        bool over = job->n_open == 0 && (job->failed || job->cancelled || !job_lacks_scores(job));
        if (job->cancelled && !over) { /* where its submission failed half way */
            over = true;
            for (size_t p = 0; p < job->ask.n_prompts; p++)
                over = over && job->requests[p] < 0;
        }
        if (over)
            forget(s, job);
        else
            s->jobs[kept++] = job;
    }
    s->n_jobs = kept;
    const struct engine_stats stats = engine_stats(s->engine);
    pthread_mutex_lock(&s->lock);
    s->metrics.pages_used = stats.pages_used;
    s->metrics.known_tokens = stats.known_tokens;
    s->metrics.set_back = stats.set_back;
    s->metrics.drafted = stats.drafted;
    s->metrics.accepted = stats.accepted;
    pthread_mutex_unlock(&s->lock);
}

/* Errands that came, in their order; waits for one, a little, where nothing else is to be done. */
static struct errand *take_errands(struct serve *s, bool idle)
{
    static const double nap = 0.25;
    pthread_mutex_lock(&s->lock);
    if (idle && s->first == NULL)
        clock_wait(&s->wake, &s->lock, nap);
    struct errand *first = s->first;
    s->first = s->last = NULL;
    pthread_mutex_unlock(&s->lock);
    return first;
}

/* Runs what came, up to one that has to wait until it is alone. */
static void run_errands(struct serve *s)
{
    struct errand *came = take_errands(s, s->n_jobs == 0 && s->held == NULL), **end = &s->held;
    while (*end != NULL)
        end = &(*end)->next;
    *end = came;
    while (s->held != NULL && !(s->held->alone && s->n_jobs > 0)) {
        struct errand *errand = s->held;
        s->held = errand->next;
        errand->run(s, errand);
    }
}

static void set_state(struct serve *s, enum serve_state state, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    s->state = state;
    snprintf(s->reason, sizeof s->reason, "%.390s", reason);
    pthread_mutex_unlock(&s->lock);
}

/* The engine cannot go on: everything that waits hears it, and /health says it until the server is ended. */
void serve_fail(struct serve *s, const cohort_error *why)
{
    struct fault fault = {0};
    set_state(s, SERVE_FAILED, why->message);
    observer_message(s->observer, "the engine has failed, and nothing more is served: %s", why->message);
    (void)fault_set(&fault, 500, "engine_failed", NULL, "the engine has failed: %s", why->message);
    for (size_t i = 0; i < s->n_jobs; i++) {
        if (!s->jobs[i]->failed)
            job_fail(s->jobs[i], &fault);
        forget(s, s->jobs[i]);
    }
    s->n_jobs = 0;
}

static void drop_errands(struct serve *s, const char *reason)
{
    struct fault fault = {0};
    (void)fault_set(&fault, 503, "ended", NULL, "%s", reason);
    for (int i = 0; i < 2; i++) {
        struct errand *errand = i == 0 ? s->held : take_errands(s, false), *next = NULL;
        for (; errand != NULL; errand = next) {
            next = errand->next;
            errand->drop(errand, &fault);
        }
    }
    s->held = NULL;
}

static cohort_status step(struct serve *s, cohort_error *err)
{
    bool busy = false;
    atomic_store(&s->step_from, clock_seconds());
    const cohort_status status = s->n_jobs > 0 ? engine_step(s->engine, &busy, err) : COHORT_OK;
    atomic_store(&s->step_from, 0.0);
    atomic_store(&s->beat, clock_seconds());
    return status;
}

/* Requests that are under way when the time to end is up. */
static void cut_off(struct serve *s)
{
    struct fault fault = {0};
    (void)fault_set(&fault, 503, "ended", NULL, "the server has ended");
    for (size_t i = 0; i < s->n_jobs; i++) {
        if (!s->jobs[i]->failed && !s->jobs[i]->cancelled)
            job_fail(s->jobs[i], &fault);
        forget(s, s->jobs[i]);
    }
    s->n_jobs = 0;
}

cohort_status serve_run(struct serve *s, cohort_error *err)
{
    const struct stop *stop = options_stop(s->options);
    double deadline = 0;
    cohort_error why = {0};
    cohort_status failed = COHORT_OK;
    set_state(s, SERVE_READY, "");
    atomic_store(&s->beat, clock_seconds());
    observer_message(s->observer, "serving %s at %s://%s:%d/", s->name,
                     options_string(s->options, OPTION_TLS_CERT) != NULL ? "https" : "http",
                     options_string(s->options, OPTION_HOST), http_port(s->http));
    for (;;) {
        const double now = clock_seconds();
        if (deadline == 0 && stop_requested(stop)) {
            deadline = now + s->drain;
            if (s->state != SERVE_FAILED)
                set_state(s, SERVE_DRAINING, "");
            observer_message(s->observer, "ending: %zu requests are under way", s->n_jobs);
        }
        if (deadline > 0 && (s->n_jobs == 0 || now > deadline) && failed == COHORT_OK && s->held == NULL &&
            queue_empty(s))
            break;
        if (deadline > 0 && failed != COHORT_OK)
            break;
        run_errands(s);
        http_sweep(s->http);
        end_unwanted(s, now);
        if (failed != COHORT_OK || s->state == SERVE_FAILED) {
            atomic_store(&s->beat, now);
            continue;
        }
        failed = step(s, &why);
        if (failed != COHORT_OK)
            serve_fail(s, &why);
        else
            flush(s);
    }
    const bool broken = s->state == SERVE_FAILED;
    memcpy(why.message, s->reason, sizeof s->reason);
    cut_off(s);
    set_state(s, broken ? SERVE_FAILED : SERVE_DRAINING, why.message);
    drop_errands(s, "the server has ended");
    return !broken ? COHORT_OK
                   : error_set(err, failed == COHORT_OK ? COHORT_ERR_STATE : failed, "the engine had failed: %s",
                               why.message);
}

/* ---- Opening and closing ---- */

/* The last part of a path. */
static const char *folder_name(const char *path)
{
    const char *last = path;
    for (const char *at = path; *at != '\0'; at++)
        if (*at == '/' && at[1] != '\0' && at[1] != '/')
            last = at + 1;
    return last;
}

static cohort_status read_key(struct serve *s, const struct options *options, cohort_error *err)
{
    const char *host = options_string(options, OPTION_HOST);
    const bool loopback = strcmp(host, "127.0.0.1") == 0 || strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0;
    s->api_key = options_string(options, OPTION_API_KEY);
    if (s->api_key != NULL && s->api_key[0] == '\0')
        return error_set(err, COHORT_ERR_ARGUMENT, "--api-key: the key is empty");
    if (s->api_key == NULL && !loopback && !options_bool(options, OPTION_WITHOUT_KEY))
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "--host %s can be reached from elsewhere: give an --api-key, or --without-key if everybody there "
            "may use the model",
            host);
    return COHORT_OK;
}

static cohort_status read_file(const char *path, struct text *out, cohort_error *err)
{
    enum { LARGEST = 1 << 20 };
    return path == NULL ? COHORT_OK : file_read(path, LARGEST, out, err);
}

static cohort_status listen_on(struct serve *s, const struct options *options, cohort_error *err)
{
    struct text certificate = {0}, key = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(read_file(options_string(options, OPTION_TLS_CERT), &certificate, err));
    TRY_GOTO(read_file(options_string(options, OPTION_TLS_KEY), &key, err));
    if ((certificate.length > 0) != (key.length > 0)) {
        status = error_set(err, COHORT_ERR_ARGUMENT, "--tls-cert and --tls-key go together");
        goto cleanup;
    }
    TRY_GOTO(http_open(&s->http,
                       &(struct http_config){.host = options_string(options, OPTION_HOST),
                                             .port = (int)options_int(options, OPTION_PORT),
                                             .connections = (int)options_int(options, OPTION_MAX_CONNECTIONS),
                                             .max_body = (size_t)(options_float(options, OPTION_MAX_BODY) * 1e6),
                                             .read_seconds = options_float(options, OPTION_READ_TIMEOUT),
                                             .certificate = certificate.data,
                                             .key = key.data,
                                             .origin = options_string(options, OPTION_CORS),
                                             .handle = serve_handle,
                                             .over = serve_over,
                                             .context = s},
                       err));
cleanup:
    text_free(&certificate);
    text_free(&key);
    return status;
}

/* What tells whether equal requests can be expected to give equal bits. */
void serve_fingerprint(struct serve *s)
{
    struct hash hash;
    char hex[HASH_HEX];
    const struct backend *be = s->session.backend;
    const char *parts[] = {cohort_version(), s->session.dir, be->device, be->provider_bf16, be->provider_f32};
    hash_begin(&hash);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i] != NULL)
            hash_add_text(&hash, parts[i], strlen(parts[i]));
    hash_add(&hash, &s->session.model->type, sizeof s->session.model->type);
    hash_add(&hash, &s->n_weights, sizeof s->n_weights);
    hash_add(&hash, &s->session.kv8, sizeof s->session.kv8);
    hash_add(&hash, &s->session.kv_pages, sizeof s->session.kv_pages);
    hash_end(&hash, hex);
    snprintf(s->fingerprint, sizeof s->fingerprint, "fp_%.16s", hex);
}

static bool knows(void *context, const char *name) { return serve_adapters_find(context, name) > 0; }

static cohort_status make_engine(struct serve *s, struct options *options, cohort_error *err)
{
    struct rollout_need need = {0};
    const int64_t asked = options_int(options, OPTION_MAX_CONTEXT);
    int32_t context = s->session.model->max_context;
    if (asked > 0 && asked < context)
        context = (int32_t)asked;
    rollout_need_any(&need, s->session.backend, (int32_t)options_int(options, OPTION_DECODE_CONCURRENCY), context);
    need.step_tokens = (int32_t)options_int(options, OPTION_PREFILL_STEP_SIZE);
    need.draft_tokens = session_drafts(&s->session, options);
    need.history = context; /* a request may bring any penalty */
    need.modest = true;
    need.adapters = (const struct model_adapter *const *)s->adapters.of;
    need.n_adapters = s->adapters.n;
    const int64_t score = options_int(options, OPTION_MAX_SCORE);
    TRY(scorer_open(&s->scorer, &s->session, (int32_t)(score < context ? score : context), err));
    TRY(session_engine(&s->session, options, &need, &s->engine, err));
    TRY(engine_keep_prefixes(s->engine, err));
    TRY(engine_set_adapters(s->engine, need.adapters, need.n_adapters, err));
    engine_set_callback(s->engine, on_event, s);
    s->reading = (struct ask_context){.session = &s->session,
                                      .pattern = &s->pattern,
                                      .vocabulary = s->vocabulary,
                                      .model = s->name,
                                      .context = context,
                                      .max_tokens = (int32_t)options_int(options, OPTION_MAX_COMPLETION_LENGTH),
                                      .thinking = !options_is_set(options, OPTION_THINKING) ? CHAT_THINKING_UNSAID
                                                  : options_bool(options, OPTION_THINKING)  ? CHAT_THINKING_ON
                                                                                            : CHAT_THINKING_OFF,
                                      .max_score = s->scorer.most,
                                      .knows = knows,
                                      .knows_context = &s->adapters,
                                      .trust = options_bool(options, OPTION_TRUST_CONTENT),
                                      .lenient = options_bool(options, OPTION_LENIENT)};
    return COHORT_OK;
}

cohort_status serve_open(struct serve *s, struct options *options, const cohort_observer *observer, cohort_error *err)
{
    const char *model = options_string(options, OPTION_MODEL),
               *name = options_string(options, OPTION_SERVED_MODEL_NAME);
    if (pthread_mutex_init(&s->lock, NULL) != 0 || clock_condition(&s->wake) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "cannot make a lock");
    s->options = options;
    s->observer = observer;
    s->created = (int64_t)time(NULL);
    s->max_waiting = (int32_t)options_int(options, OPTION_MAX_WAITING);
    s->request_timeout = options_float(options, OPTION_REQUEST_TIMEOUT);
    s->drain = options_float(options, OPTION_DRAIN);
    s->admin = options_bool(options, OPTION_ADMIN);
    s->name = name != NULL ? name : folder_name(model == NULL ? "" : model);
    s->reading.model = s->name;
    TRY(read_key(s, options, err));
    TRY(listen_on(s, options, err));
    observer_message(observer, "listening at %s://%s:%d, loading the model",
                     options_string(options, OPTION_TLS_CERT) != NULL ? "https" : "http",
                     options_string(options, OPTION_HOST), http_port(s->http));
    const bool adapted = options_list_count(options, OPTION_LORA_MODULES) > 0;
    TRY(session_open(&s->session, options, NULL, SESSION_TOKENIZER | (adapted ? SESSION_ADAPTED : 0), observer, err));
    end_of_text_note(&s->session, observer);
    TRY(serve_adapters_open(&s->adapters, &s->session, options, s->name, observer, err));
    s->session.backend->stop = NULL; /* from here on a stop lets what is under way end */
    TRY(generation_file_apply(&s->session, options, observer, err));
    TRY(session_request(&s->session, options, &s->pattern, err));
    TRY(guide_vocabulary_create(&s->vocabulary, s->session.tokenizer, tokenizer_size(s->session.tokenizer), err));
    serve_fingerprint(s);
    return make_engine(s, options, err);
}

void serve_close(struct serve *s)
{
    http_close(s->http);
    for (size_t i = 0; i < s->n_jobs; i++)
        job_destroy(s->jobs[i]);
    mem_free(s->jobs);
    mem_free(s->places);
    engine_destroy(s->engine);
    session_request_free(&s->pattern);
    guide_vocabulary_destroy(s->vocabulary);
    if (s->session.backend != NULL)
        scorer_close(&s->scorer, s->session.backend);
    serve_adapters_close(&s->adapters);
    session_close(&s->session);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
}
