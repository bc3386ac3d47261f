#include "rollout/step.h"

#include "backend/ops.h"
#include "backend/sampling.h"
#include "rollout/prefix.h"

#include <assert.h>
#include <string.h>

static int32_t max_outputs(const struct engine_config *config)
{
    return config->max_sequences + config->prefill_tokens;
}

/* The most spans that a batch can have: a decoding sequence has at most one for each page of its positions and one
 * more, where the prompt's last page ends, and never more than there are pages; the prompts in a step have together at
 * most one for each page. With a rotating window those of each chunk of their tokens more. */
static size_t max_spans(const struct engine_config *config)
{
    const int64_t pages = page_chunk(config->max_context) + 2;
    const int64_t each = pages < config->n_pages ? pages : config->n_pages;
    const int64_t pieces = config->kv_pages == 0 ? 0 : page_chunk(max_outputs(config)) + config->max_sequences + 2;
    return (size_t)(config->max_sequences * each + config->n_pages + pieces * (config->kv_pages + 1));
}

cohort_status step_create(struct step *step, struct model *model, const struct engine_config *config, cohort_error *err)
{
    const size_t outputs = (size_t)max_outputs(config);
    *step = (struct step){.model = model, .config = *config};
    TRY(mem_alloc(&step->output_row, outputs, sizeof *step->output_row, "rollout engine", err));
    TRY(mem_alloc(&step->output_of, outputs, sizeof(struct sequence *), "rollout engine", err));
    TRY(mem_alloc(&step->output_request, outputs, sizeof(struct request *), "rollout engine", err));
    TRY(mem_alloc(&step->output_scored, outputs, sizeof *step->output_scored, "rollout engine", err));
    TRY(mem_alloc(&step->output_behind, outputs, sizeof *step->output_behind, "rollout engine", err));
    TRY(mem_alloc(&step->drawing, outputs, sizeof *step->drawing, "rollout engine", err));
    TRY(batch_reserve(&step->batch, outputs, outputs, max_spans(config), err));
    return mem_grow(&step->draws, &step->draw_capacity, outputs, sizeof *step->draws, "draws", err);
}

cohort_status step_reserve(struct step *step, const struct engine_request *ask, cohort_error *err)
{
    TRY(row_logits_reserve(&step->rows, ask, step->model->config.vocab_size, err));
    return mem_grow(&step->draws, &step->draw_capacity, (size_t)ask->n, sizeof *step->draws, "draws", err);
}

cohort_status step_plan(struct step *step, struct arena *arena, cohort_error *err)
{
    const struct model_config *c = &step->model->config;
    const enum dtype act = step->model->type;
    const int32_t outputs = max_outputs(&step->config);
    TRY(decoder_work_plan(&step->work, arena, c, act, outputs, DECODER_INFER, err));
    head_work_plan(&step->head, arena, c, act, outputs, head_chunk(c, step->model->backend->sizes->logits_bytes), false,
                   false);
    step->kv.rows = step->config.n_pages * ATTENTION_CHUNK;
    step->kv.kv8 = step->config.kv8;
    step->kv.layer_bytes = kv_layer_bytes(c, act, step->kv.kv8, step->kv.rows);
    step->kv.k = arena_take(arena, (size_t)c->n_layers * step->kv.layer_bytes);
    step->kv.v = arena_take(arena, (size_t)c->n_layers * step->kv.layer_bytes);
    if (route_width(c) > 0)
        step->kv.routes = arena_take(arena, (size_t)step->kv.rows * (size_t)route_width(c) * sizeof *step->kv.routes);
    return COHORT_OK;
}

void step_free(struct step *step)
{
    mem_free(step->output_row);
    mem_free(step->output_of);
    mem_free(step->output_request);
    mem_free(step->output_scored);
    mem_free(step->output_behind);
    mem_free(step->drawing);
    row_logits_free(&step->rows);
    mem_free(step->draws);
    batch_free(&step->batch);
    decoder_work_free(&step->work);
}

/* ---- Building the batch ---- */

/* Spans for positions begin .. end that lie in list, but for those of chunks 1 .. left_out. */
static void add_page_spans(struct step *step, const struct page_list *list, int32_t first_chunk, int32_t begin,
                           int32_t end, int32_t left_out)
{
    for (int32_t p = begin; p < end;) {
        const int32_t chunk = page_chunk(p);
        int32_t next = (chunk + 1) * ATTENTION_CHUNK;
        if (next > end)
            next = end;
        if (chunk == 0 || chunk > left_out)
            batch_add_span(&step->batch, chunk == 0 ? p : p - left_out * ATTENTION_CHUNK,
                           list->pages[chunk - first_chunk] * ATTENTION_CHUNK + p % ATTENTION_CHUNK, next - p);
        p = next;
    }
}

/* Tokens first .. first + n of a request's prompt, or (s not NULL) of its sequence. With a rotating window those of a chunk
 * that see other pages than the chunk before are a sequence of the batch by themselves. */
static void add_tokens(struct step *step, const int32_t *tokens, int32_t n, int32_t first, const struct request *r,
                       const struct sequence *s)
{
    struct batch *b = &step->batch;
    const int32_t P = r->ask.n_prompt, kv_pages = step->config.kv_pages, end = first + n;
    for (int32_t p = first; p < end;) {
        const int32_t chunk = page_chunk(p), left_out = pages_left_out(kv_pages, chunk);
        int32_t next = kv_pages == 0 ? end : (chunk < kv_pages ? kv_pages : chunk + 1) * ATTENTION_CHUNK;
        next = next < end ? next : end;
        const int32_t row = b->n_tokens;
        batch_add_seq(b, tokens + (p - first), next - p, p, b->n_trees);
        batch_shift(b, left_out * ATTENTION_CHUNK);
        for (int32_t k = 0; k < next - p; k++)
            b->kv_row[row + k] =
                s != NULL ? page_list_row(&s->pages, page_chunk(P), p + k) : page_list_row(&r->pages, 0, p + k);
        add_page_spans(step, &r->pages, 0, 0, s != NULL ? P : next, left_out);
        if (s != NULL)
            add_page_spans(step, &s->pages, page_chunk(P), P, next, left_out);
        p = next;
    }
}

/* Spans that these tokens take at most. */
static size_t spans_of(const struct step *step, int32_t first, int32_t n)
{
    const size_t all = (size_t)page_chunk(first + n - 1) + 2, kv_pages = (size_t)step->config.kv_pages;
    const size_t pieces = (size_t)(page_chunk(first + n - 1) - page_chunk(first) + 1);
    return kv_pages == 0 ? all - 1 : pieces * (all < kv_pages + 1 ? all : kv_pages + 1);
}

/* An output of request r, or of its sequence s, drawn behind as many of its drafts. */
static void add_output(struct step *step, int32_t row, struct sequence *s, struct request *r, int32_t behind)
{
    step->output_row[step->n_outputs] = row;
    step->output_of[step->n_outputs] = s;
    step->output_request[step->n_outputs] = r;
    step->output_scored[step->n_outputs] = 0;
    step->output_behind[step->n_outputs] = behind;
    step->n_outputs++;
}

/* How many of a completion's tokens a step computes: the last, and those behind if there is room for them all, else as
 * many as there is room for; where none is behind, drafts. */
static int32_t decode_tokens(const struct step *step, const struct sequence *s, int32_t room)
{
    const int32_t chunk = step->config.prefill_chunk, most = chunk > 0 && chunk < room ? chunk : room;
    const int32_t P = s->request->ask.n_prompt, first = P + s->n_tokens - 1 - s->n_behind,
                  there = (page_chunk(P) + s->pages.count) * ATTENTION_CHUNK - first; /* that it has pages for */
    if (s->n_behind > 0 && s->n_behind > most)
        return most < there ? most : there;
    if (s->n_behind > 0)
        return s->n_behind + 1 < there ? s->n_behind + 1 : there;
    return 1 + (s->n_drafted < room ? s->n_drafted : room);
}

/* Returns the room that is left for prompts, in tokens. */
static int32_t add_decode(struct step *step, struct scheduler *scheduler)
{
    struct batch *b = &step->batch;
    int32_t room = step->config.prefill_tokens;
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        struct sequence *s = scheduler->running[i];
        const struct request *r = s->request;
        const int32_t P = r->ask.n_prompt, first = P + s->n_tokens - 1 - s->n_behind, n = decode_tokens(step, s, room);
        s->n_in_step = n;
        s->n_drafted = s->n_behind == 0 && n > 1 ? n - 1 : 0;
        s->n_verified = 0;
        if (n == 0)
            continue;
        add_tokens(step, &s->history[first], n, first, r, s);
        for (int32_t k = s->n_behind; k < n; k++)
            add_output(step, b->n_tokens - n + k, s, NULL, k - s->n_behind);
        room -= n > s->n_behind ? n - 1 : n;
    }
    return room;
}

static bool prefills(const struct request *r, const struct scheduler *scheduler)
{
    return r->state == REQUEST_PREFILL && r->ask.wears == scheduler->wears;
}

/* The next n tokens of a prompt, or as many as one may have; returns how many. */
static int32_t add_prompt(struct step *step, struct request *r, int32_t n)
{
    struct batch *b = &step->batch;
    const int32_t left = r->ask.n_prompt - r->n_prefilled, chunk = step->config.prefill_chunk;
    n = n < left ? n : left;
    n = chunk > 0 && chunk < n ? chunk : n;
    const int32_t first = r->n_prefilled, there = r->pages.count * ATTENTION_CHUNK - first, row = b->n_tokens;
    n = n < there ? n : there;
    const int32_t end = first + n;
    if (n <= 0 || (size_t)b->n_spans + spans_of(step, first, n) > b->span_capacity)
        return 0; /* prompts share pages, so that there may be more spans than pages; the first one always fits */
    add_tokens(step, r->prompt + first, n, first, r, NULL);
    if (r->vectors != NULL)
        batch_add_vectors(b, row, n, r->vectors + (int64_t)first * r->ask.width);
    r->n_prefilled = end;
    r->n_in_step = n;
    step->prompt_tokens += n;
    for (int32_t i = 0; r->all_logits && !r->begun && i < n && first + i + 1 < r->ask.n_prompt; i++) {
        add_output(step, row + i, NULL, r, 0);
        step->output_scored[step->n_outputs - 1] = first + i + 1;
    }
    if (end == r->ask.n_prompt && !r->begun)
        add_output(step, row + n - 1, NULL, r, 0);
    return n;
}

/* Prompts, the oldest first. One that takes several steps leaves up to half of each to those behind it that fit in there
 * whole, so that a short one does not wait for a long one. */
static void add_prefill(struct step *step, struct scheduler *scheduler, int32_t room)
{
    int32_t others = room / 2;
    const struct request *oldest = NULL;
    for (struct request *r = scheduler->admitted.first; r != NULL && room > 0; r = r->next) {
        if (!prefills(r, scheduler))
            continue;
        prefix_catch_up(scheduler, r);
        const int32_t left = r->ask.n_prompt - r->n_prefilled;
        if (oldest == NULL && left <= room - others)
            break; /* nobody waits for it */
        const int32_t pages = page_chunk(r->ask.n_prompt - 1) + 1;
        if (oldest != NULL && left <= others &&
            step->batch.n_spans + pages + page_chunk(oldest->ask.n_prompt) < (int64_t)step->batch.span_capacity) {
            const int32_t n = add_prompt(step, r, left);
            others -= n;
            room -= n;
        }
        oldest = oldest == NULL ? r : oldest;
    }
    for (struct request *r = scheduler->admitted.first; r != NULL && room > 0; r = r->next)
        if (prefills(r, scheduler) && r->n_in_step == 0) {
            prefix_catch_up(scheduler, r);
            room -= add_prompt(step, r, room);
        }
}

/* ---- Running it and drawing ---- */

/* The request that output i belongs to, and how many draws it takes: all of a group's first tokens come from one
 * row. */
static struct request *output_owner(const struct step *step, int32_t i, int32_t *draws)
{
    struct sequence *s = step->output_of[i];
    struct request *r = s != NULL ? s->request : step->output_request[i];
    *draws = s != NULL ? 1 : step->output_scored[i] > 0 ? 0 : r->ask.n;
    return r;
}

/* Outputs first .. end, or as many of them as there is room for their draws. */
static int32_t outputs_at_once(const struct step *step, int32_t first, int32_t end)
{
    size_t n = 0;
    int32_t draws = 0, i = first;
    for (; i < end; i++) {
        (void)output_owner(step, i, &draws);
        n += (size_t)draws;
        if (n > step->draw_capacity)
            break;
    }
    return i - first;
}

/* The most likely tokens of an output, for all that draw from it. */
static void take_top(struct step *step, struct request *r, int32_t output, int32_t row, int32_t draws)
{
    const int32_t n = r->ask.n_top;
    struct sequence *one = step->output_of[output] != NULL ? step->output_of[output] : &r->sequences[0];
    if (n == 0)
        return;
    int32_t *ids = one->top_ids + one->n_tokens * n;
    float *logp = one->top_logp + one->n_tokens * n;
    row_logits_top(&step->rows, step->model, &step->head, row, request_logp_temperature(r),
                   request_choosable(r, step->model->config.vocab_size), n, ids, logp);
    for (int32_t c = 1; c < draws; c++) {
        memcpy(r->sequences[c].top_ids, ids, (size_t)n * sizeof *ids);
        memcpy(r->sequences[c].top_logp, logp, (size_t)n * sizeof *logp);
    }
}

/* Log-probs of prompts' tokens from outputs first .. first + count, whose logits are in the head's buffer. */
static void score_outputs(struct step *step, int32_t first, int32_t count)
{
    for (int32_t i = first, n = 1; i < first + count; i += n) {
        const struct request *r = step->output_request[i];
        const int32_t place = step->output_scored[i];
        n = 1;
        if (place == 0)
            continue;
        while (i + n < first + count && step->output_request[i + n] == r && step->output_scored[i + n] == place + n)
            n++;
        row_logits_score(step->model, &step->head, i - first, n, request_logp_temperature(r), r->prompt + place,
                         r->prompt_logp + place);
    }
}

/* Those of outputs first .. first + count that draw now, in step->drawing: each behind all that its sequence drew. Returns
 * how many. */
static int32_t outputs_now(struct step *step, int32_t first, int32_t count)
{
    int32_t n = 0, draws = 0;
    for (int32_t i = first; i < first + count; i++) {
        const struct sequence *s = step->output_of[i];
        (void)output_owner(step, i, &draws);
        if (step->output_behind[i] == (s != NULL ? s->n_verified : 0) && draws > 0)
            step->drawing[n++] = i;
    }
    return n;
}

/* The sequence of an output that takes its draw c. */
static struct sequence *output_sequence(const struct step *step, int32_t i, int32_t c)
{
    return step->output_of[i] != NULL ? step->output_of[i] : &step->output_request[i]->sequences[c];
}

/* Draws for n outputs of step->drawing, whose logits are in the head's buffer, which begins with those of output chunk.
 * One call for each run of requests that may choose from the same ids. */
static void draw_outputs(struct step *step, int32_t chunk, int32_t n)
{
    struct backend *be = step->model->backend;
    const int32_t vocab = step->model->config.vocab_size;
    int32_t draws = 0;
    size_t at = 0;
    for (int32_t k = 0; k < n; k++) {
        (void)output_owner(step, step->drawing[k], &draws);
        for (int32_t c = 0; c < draws; c++)
            step->draws[at++] = sequence_draw(output_sequence(step, step->drawing[k], c), step->drawing[k] - chunk);
    }
    at = 0;
    for (int32_t k = 0; k < n;) {
        struct request *r = output_owner(step, step->drawing[k], &draws);
        const int32_t limit = request_choosable(r, vocab);
        size_t run = 0;
        if (r->ask.process != NULL) {
            for (int32_t c = 0; c < draws; c++, at++)
                row_logits_draw(&step->rows, step->model, &step->head, output_sequence(step, step->drawing[k], c),
                                limit, &step->draws[at]);
            k++;
            continue;
        }
        for (; k < n && (r = output_owner(step, step->drawing[k], &draws))->ask.process == NULL &&
               request_choosable(r, vocab) == limit;
             k++)
            run += (size_t)draws;
        be->ops->sample(be, &(struct sample){.vocab = vocab,
                                             .n_choosable = limit,
                                             .logits = step->head.logits,
                                             .rows = step->draws + at,
                                             .n_rows = (int32_t)run});
        at += run;
    }
}

/* A draw of a sequence: where it is the draft at its place the next row draws too. */
static cohort_status take_draw(struct scheduler *scheduler, struct sequence *s, const struct sample_row *draw,
                               cohort_error *err)
{
    struct drafts *d = &scheduler->drafts;
    const bool drafted = s->n_verified < s->n_drafted,
               right = drafted && s->history[s->request->ask.n_prompt + s->n_tokens] == draw->token;
    d->drafted += drafted ? 1 : 0;
    d->accepted += right ? 1 : 0;
    s->n_verified = right ? s->n_verified + 1 : -1;
    TRY(scheduler_take(scheduler, s, draw, err));
    if (s->state != SEQUENCE_RUNNING)
        s->n_verified = -1;
    return COHORT_OK;
}

/* All draws of outputs first .. first + count: those behind a draft when it was drawn. A group draws all its first tokens
 * or none. */
static cohort_status sample_outputs(struct step *step, struct scheduler *scheduler, int32_t chunk, int32_t first,
                                    int32_t count, cohort_error *err)
{
    int32_t draws = 0;
    for (int32_t n = outputs_now(step, first, count); n > 0; n = outputs_now(step, first, count)) {
        size_t at = 0;
        draw_outputs(step, chunk, n);
        TRY(backend_check(step->model->backend, err)); /* draws after a failure mean nothing */
        for (int32_t k = 0; k < n; k++) {
            const int32_t i = step->drawing[k];
            struct request *r = output_owner(step, i, &draws);
            take_top(step, r, i, i - chunk, draws);
            for (int32_t c = 0; request_logp_apart(r) && c < draws; c++)
                if (step->draws[at + (size_t)c].token >= 0)
                    row_logits_score(step->model, &step->head, i - chunk, 1, request_logp_temperature(r),
                                     &step->draws[at + (size_t)c].token, &step->draws[at + (size_t)c].logp);
            step->output_behind[i] = -2; /* it drew */
            if (step->output_of[i] == NULL)
                scheduler_prompt_done(scheduler, r);
            else
                step->output_of[i]->n_behind = 0;
            for (int32_t c = 0; c < draws; c++, at++)
                TRY(step->output_of[i] != NULL ? take_draw(scheduler, step->output_of[i], &step->draws[at], err)
                                               : scheduler_take(scheduler, &r->sequences[c], &step->draws[at], err));
        }
    }
    return COHORT_OK;
}

/* Takes the prompts of the step out of it. A step that was cut short has computed nothing of those that are not done, so
 * that work is done again. One whose completions had their first tokens before it was set back draws nothing. */
static void leave_prefill(struct step *step, struct scheduler *scheduler, bool computed)
{
    for (struct request *r = scheduler->admitted.first; r != NULL; r = r->next) {
        if (r->state == REQUEST_PREFILL && r->n_in_step > 0 && !computed) {
            r->n_prefilled -= r->n_in_step;
            step->prompt_tokens -= r->n_in_step;
            r->n_in_step = 0;
            continue;
        }
        if (computed && r->n_in_step > 0)
            prefix_know_prompt(scheduler, r);
        if (r->state == REQUEST_PREFILL && r->begun && r->n_prefilled == r->ask.n_prompt) {
            scheduler_prompt_done(scheduler, r);
        }
        r->n_in_step = 0;
    }
}

/* What a step computed of completions that did not draw in it. */
static void advance_behind(struct scheduler *scheduler)
{
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        struct sequence *s = scheduler->running[i];
        if (s->state == SEQUENCE_RUNNING && s->n_in_step <= s->n_behind)
            s->n_behind -= s->n_in_step;
    }
}

static cohort_status run_batch(struct step *step, struct scheduler *scheduler, cohort_error *err)
{
    struct backend *be = step->model->backend;
    const float *x = decoder_forward(step->model, &step->work, &step->batch, &step->kv);
    if (step->n_outputs > 0)
        head_norm(step->model, &step->head, x, step->output_row, step->n_outputs);
    const int32_t chunk = (int32_t)step->head.chunk;
    for (int32_t first = 0; first < step->n_outputs; first += chunk) {
        int32_t count = step->n_outputs - first < chunk ? step->n_outputs - first : chunk;
        head_logits(step->model, &step->head, first, count);
        score_outputs(step, first, count);
        for (int32_t i = first, n = 0; i < first + count; i += n) {
            n = outputs_at_once(step, i, first + count);
            TRY(sample_outputs(step, scheduler, first, i, n, err));
        }
    }
    TRY(backend_check(be, err));
    step->n_steps++;
    step->n_rows += step->batch.n_tokens;
    return COHORT_OK;
}

cohort_status step_run(struct step *step, struct scheduler *scheduler, cohort_error *err)
{
    batch_clear(&step->batch);
    step->n_outputs = 0;
    add_prefill(step, scheduler, add_decode(step, scheduler));
    const cohort_status status = step->batch.n_tokens > 0 ? run_batch(step, scheduler, err) : COHORT_OK;
    leave_prefill(step, scheduler, status == COHORT_OK);
    if (status == COHORT_OK)
        advance_behind(scheduler);
    scheduler_sweep(scheduler);
    TRY(status);
    assert(step->batch.n_tokens > 0 || !scheduler_busy(scheduler) || scheduler_waits(scheduler));
    return COHORT_OK;
}
