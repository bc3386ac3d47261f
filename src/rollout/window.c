#include "rollout/window.h"

#include "backend/ops.h"
#include "base/rng.h"

#include <string.h>

void decode_window_free(struct decode_window *w)
{
    mem_free(w->slots);
    mem_free(w->tokens);
    mem_free(w->logp);
    mem_free(w->entropy);
    memset(w, 0, sizeof *w);
}

cohort_status decode_window_create(struct decode_window *w, int32_t max_sequences, cohort_error *err)
{
    const size_t n = (size_t)max_sequences;
    w->most = w->calm = DECODE_WINDOW;
    TRY(mem_alloc(&w->slots, n, sizeof *w->slots, "decoding slots", err));
    TRY(mem_alloc(&w->tokens, n * DECODE_WINDOW, sizeof *w->tokens, "decoded tokens", err));
    TRY(mem_alloc(&w->logp, n * DECODE_WINDOW, sizeof *w->logp, "decoded tokens", err));
    return mem_alloc(&w->entropy, n * DECODE_WINDOW, sizeof *w->entropy, "decoded tokens", err);
}

/* How many rows a step computes for n sequences. There are few distinct numbers, because a step is recorded for each.
 */
static int32_t decode_rows(int32_t n)
{
    int32_t unit = 1;
    while (n > 8 * unit) /* eight sizes for every doubling beyond 8 */
        unit *= 2;
    return (n + unit - 1) / unit * unit;
}

/* The key of a recording: the engine (by the address of one of its buffers), what the model wears, the number of rows, and
 * whether any of the n slots needs more than a plain draw. */
static uint64_t decode_window_key(const struct decode_window *w, const struct step *step, int32_t n, int32_t rows)
{
    bool changes = false;
    for (int32_t i = 0; i < n; i++)
        changes = changes || sampling_changes_logits(w->slots[i].draw.params);
    return rng_stream(rng_stream((uint64_t)(uintptr_t)step->work.token, (uint64_t)(uintptr_t)step->model->worn),
                      (uint64_t)rows << 1 | (uint64_t)changes);
}

/* What one step of the window does; recorded once for a number of rows (invariant I1: the same decoder and head as
 * everywhere). */
static void decode_step(void *context)
{
    struct step *step = context;
    struct backend *be = step->model->backend;
    const int32_t rows = step->batch.n_tokens;
    const float *x = decoder_layers(step->model, &step->work, &step->batch, &step->kv);
    head_norm(step->model, &step->head, x, NULL, rows);
    for (int32_t first = 0; first < rows; first += (int32_t)step->head.chunk) {
        int32_t count = rows - first < step->head.chunk ? rows - first : (int32_t)step->head.chunk;
        head_logits(step->model, &step->head, first, count);
        be->ops->decode_draw(be, &(struct decode_draw){.vocab = step->model->config.vocab_size,
                                                       .logits = step->head.logits,
                                                       .first = first,
                                                       .count = count});
    }
}

/* Tokens that it may draw before it ends or pauses. */
static int32_t tokens_left(const struct sequence *s)
{
    const int32_t left = s->request->max_tokens - s->n_tokens, pause = s->pause_at - s->n_tokens;
    return pause > 0 && pause < left ? pause : left;
}

/* Every running sequence as a slot. It has pages for all steps. */
static void fill_slots(struct decode_window *w, const struct step *step, const struct scheduler *scheduler)
{
    int32_t tree = -1;
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        struct sequence *s = scheduler->running[i];
        const struct request *r = s->request;
        const int32_t P = r->ask.n_prompt, position = P + s->n_tokens - 1;
        tree += i == 0 || scheduler->running[i - 1]->request != r ? 1 : 0;
        w->slots[i] = (struct decode_slot){.token = s->history[position],
                                           .position = position,
                                           .n_left = tokens_left(s),
                                           .tree = tree,
                                           .n_prompt = P,
                                           .prompt_page = r->pages.pages,
                                           .own_page = s->pages.pages,
                                           .n_own_pages = s->pages.count,
                                           .eos = r->eos_ids,
                                           .n_eos = r->ask.n_eos + r->ask.n_stop_ids,
                                           .n_choosable = request_choosable(r, step->model->config.vocab_size),
                                           .draw = sequence_draw(s, i)};
    }
}

enum { WASTE_MOST = 8, WASTE_LITTLE = 32, LEAST_STEPS = DECODE_WINDOW / 4 };

int32_t decode_window_steps(const struct decode_window *w, const struct scheduler *scheduler)
{
    const int32_t n = scheduler->n_running;
    int32_t steps = w->most < w->calm ? w->most : w->calm, longest = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct sequence *s = scheduler->running[i];
        const int32_t left = tokens_left(s),
                      early = s->request->ask.min_tokens - s->n_tokens; /* draws that may not end it */
        steps = early > 0 && early < steps ? early : steps;
        longest = left > longest ? left : longest;
    }
    steps = longest < steps ? longest : steps;
    for (; steps > 1; steps--) {
        int64_t wasted = 0;
        for (int32_t i = 0; i < n; i++) {
            const int32_t left = tokens_left(scheduler->running[i]);
            wasted += left < steps ? steps - left : 0;
        }
        if (wasted * WASTE_MOST <= (int64_t)n * steps)
            break;
    }
    return steps;
}

void decode_window_note(struct decode_window *w, int64_t draws, int64_t wasted)
{
    if (wasted * WASTE_MOST > draws && w->most > LEAST_STEPS)
        w->most /= 2;
    else if (wasted * WASTE_LITTLE < draws && w->most < DECODE_WINDOW)
        w->most *= 2;
}

void decode_window_expect(struct decode_window *w, int64_t came)
{
    if (came != w->came)
        w->calm = LEAST_STEPS;
    else if (w->calm < DECODE_WINDOW)
        w->calm *= 2;
    w->came = came;
}

static cohort_status take_window(struct decode_window *w, struct scheduler *scheduler, cohort_error *err)
{
    const int32_t n = scheduler->n_running;
    int64_t wasted = 0;
    for (int32_t step = 0; step < w->steps; step++)
        for (int32_t i = 0; i < n; i++) {
            struct sequence *s = scheduler->running[i];
            const int64_t at = (int64_t)step * n + i;
            const struct sample_row draw = {.token = w->tokens[at], .logp = w->logp[at], .entropy = w->entropy[at]};
            if (s->state == SEQUENCE_RUNNING && draw.token != DECODE_STOPPED)
                TRY(scheduler_take(scheduler, s, &draw, err));
            else
                wasted += s->finish_reason == FINISH_LENGTH ? 0 : 1;
        }
    decode_window_note(w, (int64_t)w->steps * n, wasted);
    return COHORT_OK;
}

cohort_status decode_window_run(struct decode_window *w, struct step *step, struct scheduler *scheduler,
                                cohort_error *err)
{
    struct backend *be = step->model->backend;
    w->steps = decode_window_steps(w, scheduler);
    int32_t rows = decode_rows(scheduler->n_running);
    rows = rows < step->config.max_sequences ? rows : step->config.max_sequences;
    fill_slots(w, step, scheduler);
    batch_clear(&step->batch);
    step->batch.n_tokens = rows;
    TRY(be->ops->decode_load(be,
                             &(struct decode_load){.slots = w->slots,
                                                   .n_slots = scheduler->n_running,
                                                   .n_rows = rows,
                                                   .steps = w->steps,
                                                   .n_heads = step->model->config.n_heads,
                                                   .n_kv_heads = step->model->config.n_kv_heads,
                                                   .head_dim = step->model->config.head_dim,
                                                   .token = step->work.token,
                                                   .position = step->work.position,
                                                   .kv_row = step->work.kv_row},
                             err));
    be->unstoppable++; /* a recording must not lack operations that a stop skipped */
    be->ops->repeat(be, decode_window_key(w, step, scheduler->n_running, rows), w->steps, decode_step, step);
    be->ops->decode_fetch(be, w->steps, w->tokens, w->logp, w->entropy);
    cohort_status status = be->ops->check(be, err);
    be->unstoppable--;
    TRY(status);
    step->n_steps += w->steps;
    step->n_rows += (int64_t)w->steps * scheduler->n_running;
    TRY(take_window(w, scheduler, err));
    scheduler_sweep(scheduler);
    return COHORT_OK;
}
