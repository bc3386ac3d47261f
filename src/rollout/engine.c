#include "rollout/engine.h"

#include "backend/ops.h"
#include "base/clock.h"
#include "base/rng.h"
#include "model/model_adapter.h"
#include "rollout/prefix.h"
#include "rollout/window.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

struct engine {
    struct model *model;
    struct engine_config config;
    struct scheduler scheduler;
    struct step step;
    struct decode_window window;
    const struct model_adapter **adapters; /* [n_adapters] that requests may name from 1 on */
    int32_t n_adapters;
    uint64_t weights;               /* the model's as of the step before */
    double seconds, single_seconds; /* engine_stats */
    engine_clock *clock;
    void *clock_context;
    int32_t closed; /* steps for which those that go on behind a turn are not let in */
    /* What came while a step ran, from its callbacks or from other threads; the next one begins with it. lock guards it, and
     * everything else while no step runs. */
    pthread_mutex_t lock;
    bool locks, stepping;
    struct request_list posted;
    int32_t n_posted;
    int64_t *cancelled; /* [n_cancelled] ids */
    size_t n_cancelled, cancelled_capacity;
    int32_t n_queued; /* requests that waited when the step began */
    int64_t next_id;  /* of the first that is posted */
};

int64_t engine_pages(int32_t n_prompt, int32_t max_tokens, int32_t n)
{
    return prompt_pages(n_prompt) + n * completion_pages(n_prompt, max_tokens);
}

int64_t engine_pages_at_once(const struct engine_config *config)
{
    return config->kv_pages == 0 ? INT32_MAX : scheduler_pages_at_once(config->kv_pages, config->prefill_tokens);
}

struct model *engine_model(const struct engine *engine) { return engine->model; }

size_t engine_page_bytes(const struct model_config *config, enum dtype act, bool kv8)
{
    return 2 * (size_t)config->n_layers * kv_layer_bytes(config, act, kv8, ATTENTION_CHUNK) +
           ATTENTION_CHUNK * (size_t)route_width(config) * sizeof(uint16_t);
}

static double usual_clock(void *context)
{
    (void)context;
    return clock_seconds();
}

cohort_status engine_create(struct engine **out, struct model *model, const struct tokenizer *tokenizer,
                            const struct engine_config *config, cohort_error *err)
{
    struct engine *e = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    assert(config->max_sequences > 0 && config->prefill_tokens > 0 && config->n_pages > 0);
    TRY(mem_alloc(&e, 1, sizeof *e, "rollout engine", err));
    e->model = model;
    e->config = *config;
    e->clock = usual_clock;
    e->locks = pthread_mutex_init(&e->lock, NULL) == 0;
    if (!e->locks)
        TRY_GOTO(error_set(err, COHORT_ERR_MEMORY, "rollout engine: a lock could not be had"));
    TRY_GOTO(scheduler_create(&e->scheduler, config, tokenizer, model->backend->ops->decode_load != NULL, err));
    TRY_GOTO(step_create(&e->step, model, config, err));
    if (model->backend->ops->decode_load != NULL)
        TRY_GOTO(decode_window_create(&e->window, config->max_sequences, err));
    *out = e;
    return COHORT_OK;
cleanup:
    engine_destroy(e);
    return status;
}

cohort_status engine_plan(struct engine *e, struct arena *arena, cohort_error *err)
{
    assert(!scheduler_busy(&e->scheduler));
    return step_plan(&e->step, arena, err);
}

cohort_status engine_buffer_bytes(struct model *model, const struct engine_config *config, size_t *bytes,
                                  cohort_error *err)
{
    struct step step = {.model = model, .config = *config};
    struct arena measured = {0};
    cohort_status status = step_plan(&step, &measured, err);
    step_free(&step);
    *bytes = measured.used;
    return status;
}

void engine_destroy(struct engine *e)
{
    if (e == NULL)
        return;
    for (struct request *r = e->posted.first, *next = NULL; r != NULL; r = next) {
        next = r->next;
        request_destroy(r);
    }
    if (e->locks)
        pthread_mutex_destroy(&e->lock);
    mem_free(e->cancelled);
    mem_free(e->adapters);
    scheduler_free(&e->scheduler);
    step_free(&e->step);
    decode_window_free(&e->window);
    mem_free(e);
}

static void fetch_routes(void *context, const struct page_list *list, int32_t first_chunk, int32_t begin, int32_t end,
                         uint16_t *to)
{
    const struct engine *e = context;
    const struct kv_store *kv = &e->step.kv;
    struct backend *be = e->model->backend;
    const size_t width = (size_t)route_width(&e->model->config);
    for (int32_t p = begin; p < end;) {
        int32_t next = (page_chunk(p) + 1) * ATTENTION_CHUNK;
        next = next > end ? end : next;
        const int32_t row = list->pages[page_chunk(p) - first_chunk] * ATTENTION_CHUNK + p % ATTENTION_CHUNK;
        be->ops->download(be, to + (size_t)(p - begin) * width, kv->routes + (size_t)row * width,
                          (size_t)(next - p) * width * sizeof *to);
        p = next;
    }
}

cohort_status engine_set_adapters(struct engine *e, const struct model_adapter *const *adapters, int32_t n,
                                  cohort_error *err)
{
    const struct model_adapter **copy = NULL;
    TRY(mem_alloc(&copy, (size_t)n, sizeof *copy, "adapters", err));
    for (int32_t i = 0; i < n; i++)
        copy[i] = adapters[i];
    mem_free(e->adapters);
    e->adapters = copy;
    e->n_adapters = n;
    return COHORT_OK;
}

void engine_keep_routes(struct engine *e)
{
    assert(e->config.kv_pages == 0); /* those of tokens that are left out would be lost */
    e->scheduler.route_width = route_width(&e->model->config);
    e->scheduler.fetch_routes = fetch_routes;
    e->scheduler.fetch_context = e;
}

int32_t engine_route_width(const struct engine *e) { return e->scheduler.route_width; }

cohort_status engine_keep_prefixes(struct engine *e, cohort_error *err)
{
    return page_pool_keep(&e->scheduler.pool, err);
}

void engine_forget(struct engine *e) { prefix_forget(&e->scheduler); }

void engine_set_clock(struct engine *e, engine_clock *clock, void *context)
{
    e->clock = clock;
    e->clock_context = context;
}

void engine_set_guess(struct engine *e, engine_guess *guess, void *context)
{
    e->scheduler.drafts.guess = guess;
    e->scheduler.drafts.guess_context = context;
}

cohort_status engine_set_draft_model(struct engine *e, struct engine *drafts, bool always, cohort_error *err)
{
    struct draft_model *model = NULL;
    assert(e->config.draft_tokens > 0 && e->scheduler.drafts.model == NULL);
    TRY(draft_model_create(&model, drafts, drafts->model->config.vocab_size, always, err));
    return drafts_use_model(&e->scheduler.drafts, model, e->config.max_sequences, err);
}

void engine_set_callback(struct engine *e, engine_callback *callback, void *context)
{
    e->scheduler.callback = callback;
    e->scheduler.callback_context = context;
}

static cohort_status check_range(const char *name, float value, double least, double most, cohort_error *err)
{
    if ((double)value >= least && (double)value <= most) /* false for NaN */
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT, "%s is %g, expected a number from %g to %g", name, (double)value, least,
                     most);
}

/* The ranges that the kernels support. A top_p or repetition_penalty of 0 means off, for our own callers. */
static cohort_status check_sampling(const struct sampling_params *s, cohort_error *err)
{
    enum { MOST_TEMPERATURE = 100, MOST_PENALTY = 100 };
    static const double least_temperature = 1e-30; /* below it logits / temperature overflow */
    TRY(check_range("temperature", s->temperature, 0, MOST_TEMPERATURE, err));
    if (s->temperature > 0 && (double)s->temperature < least_temperature)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "temperature is %g, too little to divide by: expected at least %g, or 0 "
                         "for the most likely token",
                         (double)s->temperature, least_temperature);
    TRY(check_range("top_p", s->top_p, 0, 1, err));
    TRY(check_range("min_p", s->min_p, 0, 1, err));
    TRY(check_range("xtc_probability", s->xtc_probability, 0, 1, err));
    TRY(check_range("xtc_threshold", s->xtc_threshold, 0, 1, err));
    TRY(check_range("repetition_penalty", s->repetition_penalty, 0, MOST_PENALTY, err));
    TRY(check_range("presence_penalty", s->presence_penalty, -MOST_PENALTY, MOST_PENALTY, err));
    TRY(check_range("frequency_penalty", s->frequency_penalty, -MOST_PENALTY, MOST_PENALTY, err));
    if (s->top_k < 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "top_k is %d, expected 0 (all tokens) or more", (int)s->top_k);
    for (int32_t i = 0; i < s->n_bias; i++)
        if (isnan(s->bias[i]) || (isinf(s->bias[i]) && s->bias[i] > 0))
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "the logit bias for token %d is %g, expected a number or -infinity", (int)s->bias_id[i],
                             (double)s->bias[i]);
    return COHORT_OK;
}

static cohort_status check_vectors(const struct engine *e, const struct engine_request *request, cohort_error *err)
{
    const int64_t width = e->model->config.hidden_size;
    if (request->vectors == NULL)
        return COHORT_OK;
    if (request->width != width)
        return error_set(err, COHORT_ERR_ARGUMENT, "the prompt's embeddings are %d wide, the model %lld",
                         (int)request->width, (long long)width);
    for (int64_t i = 0; i < request->n_prompt * width; i++)
        if (!isfinite(request->vectors[i]))
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "the embedding of prompt position %lld is %g at element %lld, expected finite numbers",
                             (long long)(i / width), (double)request->vectors[i], (long long)(i % width));
    return COHORT_OK;
}

static cohort_status check_ids(const struct engine *e, const char *what, const int32_t *ids, int32_t n,
                               cohort_error *err)
{
    for (int32_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= e->model->config.vocab_size)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s %d is %d, expected an id from 0 to %d", what, (int)i,
                             (int)ids[i], (int)e->model->config.vocab_size - 1);
    return COHORT_OK;
}

static cohort_status check_wishes(const struct engine *e, const struct engine_request *request, cohort_error *err)
{
    const struct repeat_limit *r = &request->repetition;
    if (r->max_size < 0 || (r->max_size > 0 && (r->min_size > r->max_size || r->min_count < 2)))
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "repetitions of %d to %d tokens, %d in a row, expected a shortest run that is no longer than the "
            "longest, and at least 2 in a row",
            (int)r->min_size, (int)r->max_size, (int)r->min_count);
    TRY(check_ids(e, "stop id", request->stop_ids, request->n_stop_ids, err));
    if (request->min_tokens < 0 || request->min_tokens > request->max_tokens)
        return error_set(err, COHORT_ERR_ARGUMENT, "min_tokens is %d, expected 0 to max_tokens, which is %d",
                         (int)request->min_tokens, (int)request->max_tokens);
    if (request->n_top < 0 || request->n_top > ENGINE_TOP_MOST ||
        request->n_top > (request->n_choosable > 0 && request->n_choosable < e->model->config.vocab_size
                              ? request->n_choosable
                              : e->model->config.vocab_size))
        return error_set(err, COHORT_ERR_ARGUMENT, "%d most likely tokens are asked for, expected 0 to %d",
                         (int)request->n_top, (int)ENGINE_TOP_MOST);
    if (!isfinite(request->logp_temperature) || request->logp_temperature < 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "log-probs are asked for at temperature %g, expected more than 0",
                         (double)request->logp_temperature);
    if (request->wears < 0 || request->wears > e->n_adapters)
        return error_set(err, COHORT_ERR_ARGUMENT, "adapter %d is asked for, expected 0 to %d", (int)request->wears,
                         (int)e->n_adapters);
    if (request->pause < 0 || request->pause >= request->max_tokens || (request->pause > 0 && !request->turns))
        return error_set(err, COHORT_ERR_ARGUMENT, "a pause at token %d, expected one of a turn", (int)request->pause);
    if (request->process != NULL && request->constraints != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "a completion with a constraint cannot have a function that changes its logits");
    return COHORT_OK;
}

/* ---- Requests of other threads ---- */

/* Gives the request to the scheduler, with all the room that it needs. */
static cohort_status enter(struct engine *e, struct request *r, cohort_error *err)
{
    TRY(step_reserve(&e->step, &r->ask, err));
    return scheduler_add(&e->scheduler, r, err);
}

/* Under the lock. The request is the engine's afterwards, except on failure. */
static cohort_status post(struct engine *e, struct request *r, int64_t *id, cohort_error *err)
{
    const int32_t waiting = (e->stepping ? e->n_queued : e->scheduler.n_queued) + e->n_posted;
    if (e->config.max_waiting > 0 && waiting >= e->config.max_waiting)
        return error_set(err, COHORT_ERR_STATE,
                         "%d requests wait already, as many as may: try again when some have begun", (int)waiting);
    if (!e->stepping && e->n_posted == 0) {
        TRY(enter(e, r, err));
        *id = r->id;
    } else {
        *id = (e->stepping ? e->next_id : e->scheduler.next_id) + e->n_posted;
        request_list_append(&e->posted, r);
        e->n_posted++;
    }
    return COHORT_OK;
}

/* Takes over what came meanwhile; begins a step. */
static cohort_status begin_step(struct engine *e, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&e->lock);
    while (e->posted.first != NULL && status == COHORT_OK) {
        struct request *r = e->posted.first;
        request_list_remove(&e->posted, r);
        status = enter(e, r, err);
        if (status == COHORT_OK)
            e->n_posted--;
        else
            request_list_insert(&e->posted, NULL, r);
    }
    for (size_t i = 0; i < e->n_cancelled && status == COHORT_OK; i++)
        scheduler_cancel(&e->scheduler, e->cancelled[i]);
    if (status == COHORT_OK) {
        e->n_cancelled = 0;
        e->next_id = e->scheduler.next_id;
        e->n_queued = e->scheduler.n_queued;
        e->stepping = true;
    }
    pthread_mutex_unlock(&e->lock);
    return status;
}

static void end_step(struct engine *e, bool *busy)
{
    pthread_mutex_lock(&e->lock);
    e->stepping = false;
    *busy = scheduler_busy(&e->scheduler) || e->n_posted > 0;
    pthread_mutex_unlock(&e->lock);
}

void engine_cancel(struct engine *e, int64_t id)
{
    pthread_mutex_lock(&e->lock);
    if (!e->stepping && e->n_posted == 0)
        scheduler_cancel(&e->scheduler, id);
    else if (mem_grow(&e->cancelled, &e->cancelled_capacity, e->n_cancelled + 1, sizeof *e->cancelled, "requests",
                      NULL) == COHORT_OK)
        e->cancelled[e->n_cancelled++] = id;
    pthread_mutex_unlock(&e->lock);
}

int64_t engine_next_id(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    const int64_t id = (e->stepping ? e->next_id : e->scheduler.next_id) + e->n_posted;
    pthread_mutex_unlock(&e->lock);
    return id;
}

cohort_status engine_submit(struct engine *e, const struct engine_request *request, int64_t *id, cohort_error *err)
{
    int32_t context = e->config.max_context < e->model->max_context ? e->config.max_context : e->model->max_context;
    if (request->n_prompt < 1)
        return error_set(err, COHORT_ERR_ARGUMENT, "the prompt is empty: a prompt needs at least one token");
    if (request->n < 1 || request->max_tokens < 1)
        return error_set(err, COHORT_ERR_ARGUMENT, "%d completions of at most %d tokens: both must be at least 1",
                         (int)request->n, (int)request->max_tokens);
    if (request->n_prompt >= context)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the prompt has %d tokens, the context holds %d: shorten the prompt or "
                         "raise the context%s",
                         (int)request->n_prompt, (int)context, rope_config_limit(&e->model->config.rope));
    for (int32_t i = 0; i < request->n_prompt; i++)
        if (request->prompt[i] < 0 || request->prompt[i] >= e->model->config.vocab_size)
            return error_set(err, COHORT_ERR_ARGUMENT, "prompt token %d is %d, expected an id from 0 to %d", (int)i,
                             (int)request->prompt[i], (int)e->model->config.vocab_size - 1);
    TRY(check_vectors(e, request, err));
    TRY(check_sampling(&request->sampling, err));
    TRY(check_wishes(e, request, err));
    for (int32_t i = 0; i < request->n_stop; i++)
        if (request->stop[i] == NULL)
            return error_set(err, COHORT_ERR_ARGUMENT, "stop string %d is NULL", (int)i);
    for (int32_t i = 0; request->constraints != NULL && i < request->n; i++) {
        const struct constraint *c = &request->constraints[i];
        if (c->allowed == NULL || c->accept == NULL || c->done == NULL)
            return error_set(err, COHORT_ERR_ARGUMENT, "constraint %d lacks a function", (int)i);
        if (request->turns && c->turn == NULL)
            return error_set(err, COHORT_ERR_ARGUMENT, "constraint %d cannot begin a turn", (int)i);
    }
    for (int32_t i = 0; i < request->sampling.n_bias; i++)
        if (request->sampling.bias_id[i] < 0 || request->sampling.bias_id[i] >= e->model->config.vocab_size)
            return error_set(err, COHORT_ERR_ARGUMENT, "logit bias for token %d, expected an id from 0 to %d",
                             (int)request->sampling.bias_id[i], (int)e->model->config.vocab_size - 1);
    int32_t max_tokens = request->max_tokens;
    if (max_tokens > context - request->n_prompt)
        max_tokens = context - request->n_prompt;
    const int64_t once = engine_pages_at_once(&e->config), own = completion_pages(request->n_prompt, max_tokens);
    int64_t least = prompt_pages(request->n_prompt);
    least = (least < once ? least : once) + (own < once ? own : once);
    if (least > e->config.n_pages)
        return error_set(err, COHORT_ERR_MEMORY,
                         "a prompt of %d tokens with up to %d new ones needs %lld KV pages, the "
                         "pool has %lld: allow more memory or fewer tokens",
                         (int)request->n_prompt, (int)max_tokens, (long long)least, (long long)e->config.n_pages);
    struct request *r = NULL;
    TRY(request_create(&r, request, max_tokens, err));
    pthread_mutex_lock(&e->lock);
    const cohort_status status = post(e, r, id, err);
    pthread_mutex_unlock(&e->lock);
    if (status != COHORT_OK)
        request_destroy(r);
    return status;
}

bool engine_poll(struct engine *e, struct completion *out) { return completion_queue_pop(&e->scheduler.finished, out); }

struct engine_stats engine_stats(const struct engine *e)
{
    const struct page_pool *pool = &e->scheduler.pool;
    return (struct engine_stats){.prompt_tokens = e->step.prompt_tokens,
                                 .generated_tokens = e->scheduler.generated_tokens,
                                 .outside_tokens = e->scheduler.outside_tokens,
                                 .steps = e->step.n_steps,
                                 .rows = e->step.n_rows,
                                 .pages_used = pool->n_pages - pool->n_free,
                                 .pages_peak = pool->peak,
                                 .known_tokens = e->scheduler.known_tokens,
                                 .set_back = e->scheduler.n_set_back,
                                 .set_back_tokens = e->scheduler.set_back_tokens,
                                 .drafted = e->scheduler.drafts.drafted,
                                 .accepted = e->scheduler.drafts.accepted,
                                 .seconds = e->seconds,
                                 .single_seconds = e->single_seconds,
                                 .running = e->scheduler.n_running,
                                 .waiting = e->scheduler.n_waiting};
}

bool engine_poll_turn(struct engine *e, struct engine_turn *turn)
{
    const struct sequence *s = scheduler_poll_turn(&e->scheduler);
    if (s == NULL)
        return false;
    *turn = (struct engine_turn){.request = s->request->id,
                                 .index = s->index,
                                 .tokens = s->history + s->request->ask.n_prompt,
                                 .n_tokens = s->n_tokens,
                                 .first = s->turn_begin,
                                 .room = s->request->max_tokens - s->n_tokens};
    return true;
}

static cohort_status find_waiting(struct engine *e, int64_t request, int32_t index, struct sequence **out,
                                  cohort_error *err)
{
    *out = scheduler_waiting(&e->scheduler, request, index);
    return *out != NULL
               ? COHORT_OK
               : error_set(err, COHORT_ERR_ARGUMENT, "completion %d of request %lld does not wait at the end of a turn",
                           (int)index, (long long)request);
}

cohort_status engine_go_on(struct engine *e, int64_t request, int32_t index, const int32_t *tokens, int32_t n,
                           cohort_error *err)
{
    struct sequence *s = NULL;
    TRY(find_waiting(e, request, index, &s, err));
    const int32_t room = s->request->max_tokens - s->n_tokens;
    if (n < 1 || n > room)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%d tokens from outside for completion %d of request %lld, expected 1 to %d", (int)n,
                         (int)index, (long long)request, (int)room);
    for (int32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= e->model->config.vocab_size)
            return error_set(err, COHORT_ERR_ARGUMENT, "token %d from outside is %d, expected an id from 0 to %d",
                             (int)i, (int)tokens[i], (int)e->model->config.vocab_size - 1);
    return scheduler_go_on(&e->scheduler, s, tokens, n, err);
}

cohort_status engine_retrace(struct engine *e, int64_t request, int32_t index, const int32_t *tokens, int32_t n,
                             int32_t ahead, cohort_error *err)
{
    struct sequence *s = NULL;
    assert(e->scheduler.tokenizer == NULL);
    TRY(find_waiting(e, request, index, &s, err));
    const int32_t room = s->request->max_tokens - 1;
    if (s->request->ask.pause == 0 || s->constraint != NULL || n < 1 || ahead < 1 || n > room - ahead)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "completion %d of request %lld cannot become %d tokens with %d of its own behind, of %d",
                         (int)index, (long long)request, (int)n, (int)ahead, (int)room);
    TRY(check_ids(e, "token", tokens, n, err));
    scheduler_retrace(&e->scheduler, s, tokens, n, ahead);
    return COHORT_OK;
}

int32_t engine_waiting_tokens(const struct engine *e, int64_t request, int32_t index, const int32_t **tokens)
{
    const struct sequence *s = scheduler_waiting(&e->scheduler, request, index);
    *tokens = s == NULL ? NULL : s->history + s->request->ask.n_prompt;
    return s == NULL ? 0 : s->n_tokens;
}

cohort_status engine_end(struct engine *e, int64_t request, int32_t index, cohort_error *err)
{
    struct sequence *s = NULL;
    TRY(find_waiting(e, request, index, &s, err));
    return scheduler_end(&e->scheduler, s, err);
}

bool engine_waits(const struct engine *e) { return scheduler_waits(&e->scheduler); }

/* Whether the device may take several steps without the host. */
static bool may_open_window(const struct engine *e)
{
    const struct scheduler *scheduler = &e->scheduler;
    bool watched = false;
    for (int32_t i = 0; i < scheduler->n_running; i++)
        watched = watched || request_watched(scheduler->running[i]->request);
    return e->model->backend->ops->decode_load != NULL && scheduler->n_running > 0 && !watched &&
           e->config.kv_pages == 0;
}

/* Tokens for which those that run have pages before a step. */
static int32_t tokens_ahead(const struct engine *e)
{
    const int32_t window = e->model->backend->ops->decode_load != NULL ? DECODE_WINDOW : 1,
                  drafts = e->config.draft_tokens + 1;
    return window > drafts ? window : drafts;
}

/* A step of those that wear the same, with drafts where they pay, or a window of steps.
 *
 * Where the device takes several steps without the host, those that go on behind a turn are let in together, once a
 * window: answers of tools come one by one, and while any is computed all that run take single steps. They wait for no more
 * than TURN_STEPS where no window can be opened. */
static cohort_status run_alike(struct engine *e, bool open, cohort_error *err)
{
    enum { TURN_STEPS = 8 };
    struct scheduler *scheduler = &e->scheduler;
    const bool decodes = !scheduler_prefills(scheduler) && !scheduler_catches_up(scheduler);
    bool drafted = false;
    TRY(drafts_place(&scheduler->drafts, scheduler->running, scheduler->n_running,
                     e->config.prefill_tokens - scheduler_due(scheduler), e->model->config.vocab_size, decodes,
                     &drafted, err));
    const bool window = decodes && !drafted && may_open_window(e);
    const int64_t before = scheduler->generated_tokens, steps = e->step.n_steps;
    const int32_t rows = scheduler->n_running + scheduler->drafts.n_drafted;
    const double begin = e->clock(e->clock_context);
    if (window) {
        e->closed = 0;
        decode_window_expect(&e->window, scheduler->next_id);
    } else {
        e->closed = open && scheduler_catches_up(scheduler) ? TURN_STEPS : e->closed > 0 ? e->closed - 1 : 0;
    }
    TRY(window ? decode_window_run(&e->window, &e->step, scheduler, err) : step_run(&e->step, scheduler, err));
    const int64_t taken = e->step.n_steps - steps;
    const double seconds = e->clock(e->clock_context) - begin;
    e->seconds += seconds;
    e->single_seconds += window ? 0.0 : seconds;
    if (decodes && taken > 0)
        drafts_measure(&scheduler->drafts, rows, scheduler->generated_tokens - before, seconds / (double)taken);
    return COHORT_OK;
}

/* What is known is of the weights as they are. */
static void see_weights(struct engine *e)
{
    prefix_weights(&e->scheduler, rng_stream(e->model->n_changes, (uint64_t)(uintptr_t)e->model->worn),
                   e->model->n_changes != e->weights);
    e->weights = e->model->n_changes;
}

static cohort_status run_step(struct engine *e, cohort_error *err)
{
    struct scheduler *scheduler = &e->scheduler;
    const struct model_adapter *usual = e->model->worn;
    const bool windows = e->model->backend->ops->decode_load != NULL;
    const bool open = !windows || e->closed == 0 || scheduler->n_running == 0;
    see_weights(e);
    TRY(scheduler_admit(scheduler, tokens_ahead(e), open, err));
    scheduler_set_aside(scheduler, scheduler_next_wears(scheduler));
    if (scheduler->wears > 0)
        model_wear(e->model, e->adapters[scheduler->wears - 1]);
    const cohort_status status = run_alike(e, open, err);
    scheduler_put_back(scheduler);
    if (scheduler->wears > 0)
        model_wear(e->model, usual);
    return status;
}

cohort_status engine_step(struct engine *e, bool *busy, cohort_error *err)
{
    bool left = false;
    TRY(backend_check(e->model->backend, err));
    TRY(begin_step(e, err));
    const cohort_status status = run_step(e, err);
    end_step(e, &left);
    TRY(status);
    *busy = left;
    return COHORT_OK;
}

/* ---- Pages from outside ---- */

int32_t engine_known(struct engine *e, const int32_t *tokens, int32_t n)
{
    int32_t chunk = 0;
    int64_t name = 0;
    see_weights(e);
    while ((chunk + 1) * ATTENTION_CHUNK <= n && prefix_find(&e->scheduler, tokens, chunk, &name) >= 0)
        chunk++;
    return chunk * ATTENTION_CHUNK;
}

/* The rows of a page, part by part: of each layer keys and values, then the routes. */
struct page_part {
    char *rows;
    size_t bytes;
};

static struct page_part page_part(const struct engine *e, int32_t page, int32_t part)
{
    const struct model_config *c = &e->model->config;
    const struct kv_store *kv = &e->step.kv;
    const size_t bytes = kv_layer_bytes(c, e->model->type, kv->kv8, ATTENTION_CHUNK);
    if (part == 2 * c->n_layers) {
        const size_t routes = ATTENTION_CHUNK * (size_t)route_width(c) * sizeof *kv->routes;
        return (struct page_part){routes > 0 ? (char *)kv->routes + (size_t)page * routes : NULL, routes};
    }
    char *store = part % 2 == 0 ? (char *)kv->k : (char *)kv->v;
    return (struct page_part){store + (size_t)(part / 2) * kv->layer_bytes + (size_t)page * bytes, bytes};
}

void engine_fetch_page(struct engine *e, const int32_t *tokens, int32_t chunk, void *bytes)
{
    struct backend *be = e->model->backend;
    int64_t name = 0;
    const int32_t page = prefix_find(&e->scheduler, tokens, chunk, &name);
    char *to = bytes;
    assert(page >= 0);
    for (int32_t i = 0; i <= 2 * e->model->config.n_layers; i++) {
        const struct page_part part = page_part(e, page, i);
        if (part.bytes > 0)
            be->ops->download(be, to, part.rows, part.bytes);
        to += part.bytes;
    }
}

cohort_status engine_know_page(struct engine *e, const int32_t *tokens, int32_t chunk, const void *bytes,
                               cohort_error *err)
{
    struct scheduler *q = &e->scheduler;
    struct backend *be = e->model->backend;
    const char *from = bytes;
    int64_t name = 0;
    see_weights(e);
    if (q->pool.known == NULL || q->pool.n_unknown < 1 || (chunk > 0 && prefix_find(q, tokens, chunk - 1, &name) < 0))
        return error_set(err, COHORT_ERR_STATE, "there is no room for page %d of a text that is known", (int)chunk);
    name = chunk > 0 ? name : q->beginning;
    const int32_t page = page_pool_take(&q->pool);
    for (int32_t i = 0; i <= 2 * e->model->config.n_layers; i++) {
        const struct page_part part = page_part(e, page, i);
        if (part.bytes > 0)
            be->ops->upload(be, part.rows, from, part.bytes);
        from += part.bytes;
    }
    page_pool_know(&q->pool, page, name, tokens + (int64_t)chunk * ATTENTION_CHUNK);
    page_pool_release(&q->pool, page);
    return backend_check(be, err);
}
