#include "backend/ops.h"
#include "backend/sampling.h"
#include "rollout/sequence.h"
#include "rollout/window.h"

#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct engine {
    struct model *model;
    const struct tokenizer *tokenizer;
    struct engine_config config;
    struct decoder_work work;
    struct head_work head;
    struct kv_store kv;
    struct page_pool pool;
    struct batch batch;
    struct request *requests;  /* in order of submission */
    struct sequence **running; /* [max_sequences], a request's sequences together */
    int32_t n_running;
    int32_t *output_row;             /* [max outputs] rows of the batch whose logits are wanted */
    struct sequence **output_of;     /* [max outputs] the sequence that reads it; NULL: output_request */
    struct request **output_request; /* all completions of which draw their first token here */
    int32_t n_outputs;
    struct sample_row *draws; /* room for the draws of one chunk of logits */
    size_t draw_capacity;
    struct decode_window window;
    struct completion *finished;
    size_t n_finished, first_finished, finished_capacity;
    int64_t next_id;
    engine_callback *callback;
    void *callback_context;
    struct engine_stats stats;
};

const char *finish_reason_name(enum finish_reason reason)
{
    static const char *const names[] = {"", "eos", "stop", "length", "cancelled", "error"};
    return names[reason];
}

void completion_free(struct completion *completion)
{
    mem_free(completion->tokens);
    mem_free(completion->logp);
    mem_free(completion->text);
    memset(completion, 0, sizeof *completion);
}

cohort_status completion_check(const struct completion *completion, cohort_error *err)
{
    if (completion->finish_reason != FINISH_FAILED)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_NUMERIC,
                     "request %lld, completion %d, token %d: the logits are not numbers or leave "
                     "nothing to choose; "
                     "the weights are damaged, or a filter or bias forbids every token",
                     (long long)completion->request, (int)completion->index, (int)completion->n_tokens);
}

static int32_t chunk_of(int32_t position) { return position / ATTENTION_CHUNK; }

/* Pages for the prompt, and for a completion's fed tokens (all but its last) at positions n_prompt, ... */
static int64_t prompt_pages(int32_t n_prompt) { return chunk_of(n_prompt - 1) + 1; }

static int64_t completion_pages(int32_t n_prompt, int32_t max_tokens)
{
    return max_tokens < 2 ? 0 : chunk_of(n_prompt + max_tokens - 2) - chunk_of(n_prompt) + 1;
}

int64_t engine_pages(int32_t n_prompt, int32_t max_tokens, int32_t n)
{
    return prompt_pages(n_prompt) + n * completion_pages(n_prompt, max_tokens);
}

size_t engine_page_bytes(const struct model_config *config, enum dtype act)
{
    return 2 * (size_t)config->n_layers * kv_layer_bytes(config, act, ATTENTION_CHUNK);
}

static int32_t max_outputs(const struct engine_config *config)
{
    return config->max_sequences + config->prefill_tokens;
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
    e->tokenizer = tokenizer;
    e->config = *config;
    size_t outputs = (size_t)max_outputs(config);
    TRY_GOTO(page_pool_create(&e->pool, config->n_pages, err));
    TRY_GOTO(mem_alloc(&e->running, (size_t)config->max_sequences, sizeof(struct sequence *), "rollout engine", err));
    TRY_GOTO(mem_alloc(&e->output_row, outputs, sizeof *e->output_row, "rollout engine", err));
    TRY_GOTO(mem_alloc(&e->output_of, outputs, sizeof(struct sequence *), "rollout engine", err));
    TRY_GOTO(mem_alloc(&e->output_request, outputs, sizeof(struct request *), "rollout engine", err));
    *out = e;
    return COHORT_OK;
cleanup:
    engine_destroy(e);
    return status;
}

cohort_status engine_plan(struct engine *e, struct arena *arena, cohort_error *err)
{
    const struct model_config *c = &e->model->config;
    enum dtype act = e->model->type;
    assert(e->requests == NULL);
    TRY(decoder_work_plan(&e->work, arena, c, act, max_outputs(&e->config), DECODER_INFER, err));
    head_work_plan(&e->head, arena, c, act, max_outputs(&e->config), head_chunk(c, e->model->backend->logits_bytes),
                   false, false);
    e->kv.rows = e->config.n_pages * ATTENTION_CHUNK;
    e->kv.layer_bytes = kv_layer_bytes(c, act, e->kv.rows);
    e->kv.k = arena_take(arena, (size_t)c->n_layers * e->kv.layer_bytes);
    e->kv.v = arena_take(arena, (size_t)c->n_layers * e->kv.layer_bytes);
    return COHORT_OK;
}

cohort_status engine_buffer_bytes(struct model *model, const struct engine_config *config, size_t *bytes,
                                  cohort_error *err)
{
    struct engine e = {.model = model, .config = *config};
    struct arena measured = {0};
    cohort_status status = engine_plan(&e, &measured, err);
    decoder_work_free(&e.work);
    *bytes = measured.used;
    return status;
}

void engine_destroy(struct engine *e)
{
    if (e == NULL)
        return;
    while (e->requests != NULL) {
        struct request *next = e->requests->next;
        request_destroy(e->requests);
        e->requests = next;
    }
    for (size_t i = e->first_finished; i < e->n_finished; i++)
        completion_free(&e->finished[i]);
    mem_free(e->finished);
    mem_free(e->draws);
    decode_window_free(&e->window);
    mem_free(e->running);
    mem_free(e->output_row);
    mem_free(e->output_of);
    mem_free(e->output_request);
    batch_free(&e->batch);
    page_pool_free(&e->pool);
    decoder_work_free(&e->work);
    mem_free(e);
}

void engine_set_callback(struct engine *e, engine_callback *callback, void *context)
{
    e->callback = callback;
    e->callback_context = context;
}

static cohort_status check_range(const char *name, float value, double least, double most, cohort_error *err)
{
    if ((double)value >= least && (double)value <= most) /* false for NaN */
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT, "%s is %g, expected a number from %g to %g", name, (double)value, least,
                     most);
}

/* What the kernels are made for. The zero of top_p and repetition_penalty means off, for our own callers. */
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
                         "raise the context",
                         (int)request->n_prompt, (int)context);
    for (int32_t i = 0; i < request->n_prompt; i++)
        if (request->prompt[i] < 0 || request->prompt[i] >= e->model->config.vocab_size)
            return error_set(err, COHORT_ERR_ARGUMENT, "prompt token %d is %d, expected an id from 0 to %d", (int)i,
                             (int)request->prompt[i], (int)e->model->config.vocab_size - 1);
    TRY(check_sampling(&request->sampling, err));
    for (int32_t i = 0; i < request->n_stop; i++)
        if (request->stop[i] == NULL)
            return error_set(err, COHORT_ERR_ARGUMENT, "stop string %d is NULL", (int)i);
    for (int32_t i = 0; i < request->sampling.n_bias; i++)
        if (request->sampling.bias_id[i] < 0 || request->sampling.bias_id[i] >= e->model->config.vocab_size)
            return error_set(err, COHORT_ERR_ARGUMENT, "logit bias for token %d, expected an id from 0 to %d",
                             (int)request->sampling.bias_id[i], (int)e->model->config.vocab_size - 1);
    int32_t max_tokens = request->max_tokens;
    if (max_tokens > context - request->n_prompt)
        max_tokens = context - request->n_prompt;
    int64_t least = engine_pages(request->n_prompt, max_tokens, 1);
    if (least > e->config.n_pages)
        return error_set(err, COHORT_ERR_MEMORY,
                         "a prompt of %d tokens with up to %d new ones needs %lld KV pages, the "
                         "pool has %lld: allow more memory or fewer tokens",
                         (int)request->n_prompt, (int)max_tokens, (long long)least, (long long)e->config.n_pages);
    struct request *r = NULL;
    TRY(request_create(&r, request, e->next_id, max_tokens, err));
    struct request **tail = &e->requests;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = r;
    *id = e->next_id++;
    return COHORT_OK;
}

void engine_cancel(struct engine *e, int64_t id)
{
    for (struct request *r = e->requests; r != NULL; r = r->next)
        if (r->id == id)
            r->cancelled = true;
}

bool engine_poll(struct engine *e, struct completion *out)
{
    if (e->first_finished == e->n_finished)
        return false;
    *out = e->finished[e->first_finished++];
    if (e->first_finished == e->n_finished)
        e->first_finished = e->n_finished = 0;
    return true;
}

struct engine_stats engine_stats(const struct engine *e)
{
    struct engine_stats stats = e->stats;
    stats.pages_used = e->pool.n_pages - e->pool.n_free;
    stats.pages_peak = e->pool.peak;
    stats.running = e->n_running;
    return stats;
}

static void release_pages(struct engine *e, struct page_list *list)
{
    page_pool_unreserve(&e->pool, list->limit - list->count);
    for (int32_t i = 0; i < list->count; i++)
        page_pool_return(&e->pool, list->pages[i]);
    list->count = list->limit = 0;
}

static cohort_status reserve_pages(struct engine *e, struct page_list *list, int64_t count, bool *granted,
                                   cohort_error *err)
{
    TRY(mem_alloc(&list->pages, (size_t)count, sizeof *list->pages, "page list", err));
    *granted = page_pool_reserve(&e->pool, count);
    if (*granted) {
        list->limit = (int32_t)count;
    } else {
        mem_free(list->pages);
        list->pages = NULL;
    }
    return COHORT_OK;
}

/* Moves what a sequence made into the finished list, tells the callback's last word, frees its pages. */
static cohort_status finish_sequence(struct engine *e, struct sequence *s, cohort_error *err)
{
    struct request *r = s->request;
    struct completion done = {.request = r->id,
                              .index = s->index,
                              .n_prompt = r->ask.n_prompt,
                              .n_tokens = s->n_tokens,
                              .finish_reason = s->finish_reason};
    cohort_status status = COHORT_OK;
    TRY(mem_grow(&e->finished, &e->finished_capacity, e->n_finished + 1, sizeof *e->finished, "finished completions",
                 err));
    TRY_GOTO(mem_alloc(&done.tokens, (size_t)s->n_tokens, sizeof(int32_t), "completion", err));
    TRY_GOTO(mem_alloc(&done.logp, (size_t)s->n_tokens, sizeof(float), "completion", err));
    memcpy(done.tokens, s->history + r->ask.n_prompt, (size_t)s->n_tokens * sizeof(int32_t));
    memcpy(done.logp, s->logp, (size_t)s->n_tokens * sizeof(float));
    if (e->tokenizer != NULL) {
        TRY_GOTO(mem_strdup(&done.text, s->text.data == NULL ? "" : s->text.data, s->text.length, err));
        done.text_length = s->text.length;
    }
    e->finished[e->n_finished++] = done;
    if (s->state == SEQUENCE_RUNNING)
        release_pages(e, &s->pages);
    s->state = SEQUENCE_FINISHED;
    r->n_unfinished--;
    return COHORT_OK;
cleanup:
    completion_free(&done);
    return status;
}

/* Puts a drawn token into its sequence, or ends the sequence if nothing could be drawn: its neighbours go on. */
static cohort_status take_draw(struct engine *e, struct sequence *s, const struct sample_row *draw, cohort_error *err)
{
    if (draw->token < 0) {
        s->finish_reason = FINISH_FAILED;
    } else {
        TRY(sequence_append(s, e->tokenizer, draw->token, draw->logp, err));
        e->stats.generated_tokens++;
    }
    if (e->callback != NULL) {
        struct engine_event event = {.request = s->request->id,
                                     .index = s->index,
                                     .token = draw->token,
                                     .logp = draw->logp,
                                     .finish_reason = s->finish_reason};
        event.text = sequence_new_text(s, &event.text_length);
        e->callback(e->callback_context, &event);
    }
    return s->finish_reason == FINISH_NONE ? COHORT_OK : finish_sequence(e, s, err);
}

/* Takes finished sequences off the running list, keeping order, and finished requests off theirs. */
static void sweep(struct engine *e)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < e->n_running; i++)
        if (e->running[i]->state == SEQUENCE_RUNNING)
            e->running[kept++] = e->running[i];
    e->n_running = kept;
    for (struct request **at = &e->requests; *at != NULL;) {
        struct request *r = *at;
        if (r->n_unfinished > 0) {
            at = &r->next;
            continue;
        }
        release_pages(e, &r->pages);
        *at = r->next;
        request_destroy(r);
    }
}

static cohort_status apply_cancellations(struct engine *e, cohort_error *err)
{
    for (struct request *r = e->requests; r != NULL; r = r->next) {
        for (int32_t i = 0; r->cancelled && i < r->ask.n; i++) {
            struct sequence *s = &r->sequences[i];
            if (s->state == SEQUENCE_FINISHED)
                continue;
            s->finish_reason = FINISH_CANCELLED;
            if (e->tokenizer != NULL)
                TRY(token_stream_finish(&s->stream, &s->text, err));
            if (e->callback != NULL) {
                struct engine_event event = {
                    .request = r->id, .index = s->index, .token = -1, .finish_reason = FINISH_CANCELLED};
                event.text = sequence_new_text(s, &event.text_length);
                e->callback(e->callback_context, &event);
            }
            TRY(finish_sequence(e, s, err));
        }
    }
    return COHORT_OK;
}

/* Pending sequences of active requests get slots and pages, oldest request first. */
static cohort_status admit_sequences(struct engine *e, cohort_error *err)
{
    for (struct request *r = e->requests; r != NULL; r = r->next) {
        if (r->state != REQUEST_ACTIVE)
            continue;
        for (int32_t i = 0; i < r->ask.n && e->n_running < e->config.max_sequences; i++) {
            struct sequence *s = &r->sequences[i];
            bool granted = false;
            if (s->state != SEQUENCE_PENDING)
                continue;
            TRY(reserve_pages(e, &s->pages, completion_pages(r->ask.n_prompt, r->max_tokens), &granted, err));
            if (!granted)
                return COHORT_OK;
            s->state = SEQUENCE_RUNNING;
            e->running[e->n_running++] = s;
        }
    }
    return COHORT_OK;
}

/* Waiting requests get pages for their prompt when at least one of their completions could then run to its end: so a
 * request that was let in can always finish, whatever the others hold. */
static cohort_status admit_requests(struct engine *e, cohort_error *err)
{
    int64_t promised = 0; /* pages that earlier requests need to run at least one completion */
    for (struct request *r = e->requests; r != NULL; r = r->next) {
        int64_t one = completion_pages(r->ask.n_prompt, r->max_tokens);
        if (r->state == REQUEST_WAITING) {
            bool granted = false;
            int64_t prompt = prompt_pages(r->ask.n_prompt);
            if (e->pool.n_free - e->pool.reserved < prompt + one + promised)
                return COHORT_OK;
            TRY(reserve_pages(e, &r->pages, prompt, &granted, err));
            assert(granted);
            r->state = REQUEST_PREFILL;
        }
        bool runs = false;
        for (int32_t i = 0; i < r->ask.n; i++)
            runs = runs || r->sequences[i].state == SEQUENCE_RUNNING;
        promised += runs ? 0 : one;
    }
    return COHORT_OK;
}

/* Sees to it that list has the page of the position's chunk; first: chunk of the list's first page. */
static int32_t page_row(struct engine *e, struct page_list *list, int32_t first_chunk, int32_t position)
{
    int32_t index = chunk_of(position) - first_chunk;
    while (list->count <= index)
        list->pages[list->count++] = page_pool_take(&e->pool);
    return list->pages[index] * ATTENTION_CHUNK + position % ATTENTION_CHUNK;
}

/* Spans for positions begin .. end that lie in list. */
static void add_page_spans(struct engine *e, const struct page_list *list, int32_t first_chunk, int32_t begin,
                           int32_t end)
{
    for (int32_t p = begin; p < end;) {
        int32_t next = (chunk_of(p) + 1) * ATTENTION_CHUNK;
        if (next > end)
            next = end;
        int32_t row = list->pages[chunk_of(p) - first_chunk] * ATTENTION_CHUNK + p % ATTENTION_CHUNK;
        batch_add_span(&e->batch, p, row, next - p);
        p = next;
    }
}

static void add_output(struct engine *e, int32_t row, struct sequence *s, struct request *r)
{
    e->output_row[e->n_outputs] = row;
    e->output_of[e->n_outputs] = s;
    e->output_request[e->n_outputs] = r;
    e->n_outputs++;
}

static cohort_status add_decode(struct engine *e, cohort_error *err)
{
    struct batch *b = &e->batch;
    for (int32_t i = 0; i < e->n_running; i++) {
        struct sequence *s = e->running[i];
        const struct request *r = s->request;
        int32_t P = r->ask.n_prompt, position = P + s->n_tokens - 1;
        TRY(batch_reserve(b, (size_t)b->n_tokens + 1, (size_t)b->n_seqs + 1,
                          (size_t)(b->n_spans + chunk_of(position) + 3), err));
        batch_add_seq(b, &s->history[position], 1, position, b->n_trees);
        b->kv_row[b->n_tokens - 1] = page_row(e, &s->pages, chunk_of(P), position);
        add_page_spans(e, &r->pages, 0, 0, P);
        add_page_spans(e, &s->pages, chunk_of(P), P, position + 1);
        add_output(e, b->n_tokens - 1, s, NULL);
    }
    return COHORT_OK;
}

static cohort_status add_prefill(struct engine *e, cohort_error *err)
{
    struct batch *b = &e->batch;
    int32_t room = e->config.prefill_tokens;
    for (struct request *r = e->requests; r != NULL && room > 0; r = r->next) {
        if (r->state != REQUEST_PREFILL)
            continue;
        int32_t n = r->ask.n_prompt - r->n_prefilled;
        if (n > room)
            n = room;
        if (e->config.prefill_chunk > 0 && n > e->config.prefill_chunk)
            n = e->config.prefill_chunk;
        int32_t first = r->n_prefilled, end = first + n, row = b->n_tokens;
        TRY(batch_reserve(b, (size_t)(row + n), (size_t)b->n_seqs + 1, (size_t)(b->n_spans + chunk_of(end) + 2), err));
        batch_add_seq(b, r->prompt + first, n, first, b->n_trees);
        for (int32_t i = 0; i < n; i++)
            b->kv_row[row + i] = page_row(e, &r->pages, 0, first + i);
        add_page_spans(e, &r->pages, 0, 0, end);
        r->n_prefilled = end;
        r->n_in_step = n;
        room -= n;
        e->stats.prompt_tokens += n;
        if (end == r->ask.n_prompt)
            add_output(e, row + n - 1, NULL, r);
    }
    return COHORT_OK;
}

static struct sample_row draw_for(const struct sequence *s, int32_t logits_row)
{
    const struct request *r = s->request;
    return (struct sample_row){.params = &r->ask.sampling,
                               .history = s->history,
                               .n_history = r->ask.n_prompt + s->n_tokens,
                               .logits_row = logits_row,
                               .seed = r->ask.seed,
                               .stream = rng_stream(r->ask.stream, (uint64_t)s->index),
                               .position = (uint64_t)s->n_tokens};
}

/* The request that output i belongs to, and how many draws it takes: all of a group's first tokens come from one
 * row. */
static struct request *output_owner(const struct engine *e, int32_t i, int32_t *draws)
{
    struct sequence *s = e->output_of[i];
    struct request *r = s != NULL ? s->request : e->output_request[i];
    *draws = s != NULL ? 1 : r->ask.n;
    return r;
}

static int32_t choosable_ids(const struct engine *e, const struct request *r)
{
    int32_t vocab = e->model->config.vocab_size;
    return r->ask.n_choosable > 0 && r->ask.n_choosable < vocab ? r->ask.n_choosable : vocab;
}

/* Draws for outputs first .. first + count, whose logits are in the head's buffer. One call for each run of requests
 * that may choose from the same ids. */
static cohort_status sample_outputs(struct engine *e, int32_t first, int32_t count, cohort_error *err)
{
    struct backend *be = e->model->backend;
    size_t n = 0, at = 0;
    int32_t draws = 0;
    for (int32_t i = first; i < first + count; i++) {
        struct request *r = output_owner(e, i, &draws);
        TRY(mem_grow(&e->draws, &e->draw_capacity, n + (size_t)draws, sizeof *e->draws, "draws", err));
        for (int32_t c = 0; c < draws; c++)
            e->draws[n++] = draw_for(e->output_of[i] != NULL ? e->output_of[i] : &r->sequences[c], i - first);
    }
    for (int32_t i = first; i < first + count;) {
        int32_t limit = choosable_ids(e, output_owner(e, i, &draws));
        size_t run = 0;
        for (; i < first + count && choosable_ids(e, output_owner(e, i, &draws)) == limit; i++)
            run += (size_t)draws;
        be->ops->sample(be, &(struct sample){.vocab = e->model->config.vocab_size,
                                             .n_choosable = limit,
                                             .logits = e->head.logits,
                                             .rows = e->draws + at,
                                             .n_rows = (int32_t)run});
        at += run;
    }
    TRY(backend_check(be, err)); /* draws after a failure mean nothing */
    at = 0;
    for (int32_t i = first; i < first + count; i++) {
        struct request *r = output_owner(e, i, &draws);
        r->state = REQUEST_ACTIVE;
        for (int32_t c = 0; c < draws; c++)
            TRY(take_draw(e, e->output_of[i] != NULL ? e->output_of[i] : &r->sequences[c], &e->draws[at++], err));
    }
    return COHORT_OK;
}

/* ---- Steps that a device takes by itself ---- */

static bool prefill_waits(const struct engine *e)
{
    for (const struct request *r = e->requests; r != NULL; r = r->next)
        if (r->state == REQUEST_PREFILL)
            return true;
    return false;
}

/* What one step of the window does; recorded once for a number of rows (invariant I1: the same decoder and head as
 * everywhere). */
static void decode_step(void *context)
{
    struct engine *e = context;
    struct backend *be = e->model->backend;
    const int32_t rows = e->batch.n_tokens;
    const float *x = decoder_layers(e->model, &e->work, &e->batch, &e->kv);
    head_norm(e->model, &e->head, x, NULL, rows);
    for (int32_t first = 0; first < rows; first += (int32_t)e->head.chunk) {
        int32_t count = rows - first < e->head.chunk ? rows - first : (int32_t)e->head.chunk;
        head_logits(e->model, &e->head, first, count);
        be->ops->decode_draw(
            be, &(struct decode_draw){
                    .vocab = e->model->config.vocab_size, .logits = e->head.logits, .first = first, .count = count});
    }
}

/* Every running sequence as a slot, its pages taken for all steps. */
static cohort_status fill_slots(struct engine *e, cohort_error *err)
{
    struct decode_window *w = &e->window;
    int32_t tree = -1;
    TRY(decode_window_reserve(w, e->n_running, err));
    for (int32_t i = 0; i < e->n_running; i++) {
        struct sequence *s = e->running[i];
        const struct request *r = s->request;
        const int32_t P = r->ask.n_prompt, position = P + s->n_tokens - 1;
        const int32_t left = r->max_tokens - s->n_tokens;
        const int32_t last = position + (left < w->steps ? left : w->steps) - 1;
        (void)page_row(e, &s->pages, chunk_of(P), last);
        tree += i == 0 || e->running[i - 1]->request != r ? 1 : 0;
        w->slots[i] = (struct decode_slot){.token = s->history[position],
                                           .position = position,
                                           .n_left = left,
                                           .tree = tree,
                                           .n_prompt = P,
                                           .prompt_page = r->pages.pages,
                                           .own_page = s->pages.pages,
                                           .n_own_pages = s->pages.count,
                                           .eos = r->eos_ids,
                                           .n_eos = r->ask.n_eos,
                                           .n_choosable = choosable_ids(e, r),
                                           .draw = draw_for(s, i)};
    }
    return COHORT_OK;
}

static cohort_status take_window(struct engine *e, cohort_error *err)
{
    struct decode_window *w = &e->window;
    const int32_t n = e->n_running;
    for (int32_t step = 0; step < w->steps; step++)
        for (int32_t i = 0; i < n; i++) {
            struct sequence *s = e->running[i];
            struct sample_row draw = {.token = w->tokens[(int64_t)step * n + i],
                                      .logp = w->logp[(int64_t)step * n + i]};
            if (s->state == SEQUENCE_RUNNING && draw.token != DECODE_STOPPED)
                TRY(take_draw(e, s, &draw, err));
        }
    return COHORT_OK;
}

/* Several tokens for every running sequence without a word from the host between them. A sequence that a stop string
 * ends has drawn for nothing until the window's end. */
static cohort_status run_window(struct engine *e, cohort_error *err)
{
    struct backend *be = e->model->backend;
    struct decode_window *w = &e->window;
    w->steps = DECODE_WINDOW;
    for (int32_t i = 0, longest = 0; i < e->n_running; i++) {
        int32_t left = e->running[i]->request->max_tokens - e->running[i]->n_tokens;
        longest = left > longest ? left : longest;
        if (i == e->n_running - 1 && longest < w->steps)
            w->steps = longest;
    }
    int32_t rows = decode_rows(e->n_running);
    rows = rows < e->config.max_sequences ? rows : e->config.max_sequences;
    TRY(fill_slots(e, err));
    batch_clear(&e->batch);
    e->batch.n_tokens = rows;
    TRY(be->ops->decode_load(be,
                             &(struct decode_load){.slots = w->slots,
                                                   .n_slots = e->n_running,
                                                   .n_rows = rows,
                                                   .steps = w->steps,
                                                   .n_heads = e->model->config.n_heads,
                                                   .n_kv_heads = e->model->config.n_kv_heads,
                                                   .head_dim = e->model->config.head_dim,
                                                   .token = e->work.token,
                                                   .position = e->work.position,
                                                   .kv_row = e->work.kv_row},
                             err));
    be->unstoppable++; /* a recording must not lack what a stop left out */
    be->ops->repeat(be, decode_window_key(w, e->work.token, e->n_running, rows), w->steps, decode_step, e);
    be->ops->decode_fetch(be, w->steps, w->tokens, w->logp);
    cohort_status status = be->ops->check(be, err);
    be->unstoppable--;
    TRY(status);
    e->stats.steps += w->steps;
    TRY(take_window(e, err));
    sweep(e);
    return COHORT_OK;
}

/* A step that was cut short has computed nothing: the prompts in it are computed again. */
static void undo_prefill(struct engine *e)
{
    for (struct request *r = e->requests; r != NULL; r = r->next)
        if (r->state == REQUEST_PREFILL) {
            r->n_prefilled -= r->n_in_step;
            e->stats.prompt_tokens -= r->n_in_step;
            r->n_in_step = 0;
        }
}

static cohort_status run_batch(struct engine *e, cohort_error *err)
{
    struct backend *be = e->model->backend;
    const float *x = decoder_forward(e->model, &e->work, &e->batch, &e->kv);
    if (e->n_outputs > 0)
        head_norm(e->model, &e->head, x, e->output_row, e->n_outputs);
    const int32_t chunk = (int32_t)e->head.chunk;
    for (int32_t first = 0; first < e->n_outputs; first += chunk) {
        int32_t count = e->n_outputs - first < chunk ? e->n_outputs - first : chunk;
        head_logits(e->model, &e->head, first, count);
        TRY(sample_outputs(e, first, count, err));
    }
    TRY(backend_check(be, err));
    e->stats.steps++;
    return COHORT_OK;
}

cohort_status engine_step(struct engine *e, bool *busy, cohort_error *err)
{
    TRY(backend_check(e->model->backend, err));
    TRY(apply_cancellations(e, err));
    sweep(e);
    TRY(admit_sequences(e, err));
    TRY(admit_requests(e, err));
    if (e->model->backend->ops->decode_load != NULL && e->n_running > 0 && !prefill_waits(e)) {
        TRY(run_window(e, err));
        *busy = e->requests != NULL;
        return COHORT_OK;
    }
    batch_clear(&e->batch);
    e->n_outputs = 0;
    for (struct request *r = e->requests; r != NULL; r = r->next)
        r->n_in_step = 0;
    cohort_status status = add_decode(e, err);
    if (status == COHORT_OK)
        status = add_prefill(e, err);
    if (status == COHORT_OK && e->batch.n_tokens > 0)
        status = run_batch(e, err);
    if (status != COHORT_OK)
        undo_prefill(e);
    sweep(e);
    TRY(status);
    assert(e->batch.n_tokens > 0 || e->requests == NULL);
    *busy = e->requests != NULL;
    return COHORT_OK;
}
