/* The completions of a batch's prompts: requests in, groups out as they are there. */
#include "train/grpo_rows.h"

#include "base/rng.h"
#include "rollout/completion_pack.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The order in which prompts are submitted: the longest first, so that at the end of a rollout few wait for one. What
 * is drawn does not depend on it (I3). */
struct place {
    int32_t prompt, expected;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->expected != y->expected)
        return x->expected > y->expected ? -1 : 1;
    return (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

struct rollout {
    struct engine *engine;
    struct ranks *ranks;
    const struct grpo_prompt *prompts;
    int32_t n_prompts, n;
    struct place *places; /* [n_places] in the order of their requests: what this rank draws of */
    int32_t n_places;
    int64_t first_id, submitted;    /* of the requests */
    int32_t *there;                 /* [n_prompts] completions that have come and whose episodes are over */
    int64_t done;                   /* of all prompts */
    struct completion *completions; /* [n_prompts * n] */
    grpo_arrived *arrived;
    void *arrived_context;
    const struct rollout_turns *turns;
};

static int32_t prompt_of(const struct rollout *r, int64_t request) { return r->places[request - r->first_id].prompt; }

/* Sorts the places of a rollout, all of which are there. Returns how many are this rank's, which then come first: forth and
 * back, so that every one gets about as much. */
static int32_t deal_places(const struct ranks *ranks, struct place *places, int32_t n)
{
    const int32_t count = ranks_count(ranks);
    int32_t own = 0;
    qsort(places, (size_t)n, sizeof *places, compare_places);
    for (int32_t i = 0; i < n; i++) {
        const int32_t turn = i % (2 * count), rank = turn < count ? turn : 2 * count - 1 - turn;
        if (rank == ranks_rank(ranks))
            places[own++] = places[i];
    }
    return own;
}

cohort_status grpo_rollout_deal(const struct ranks *ranks, const int32_t *expected, int32_t n, bool *mine,
                                cohort_error *err)
{
    struct place *places = NULL;
    TRY(mem_alloc(&places, (size_t)n, sizeof *places, "rollout", err));
    for (int32_t p = 0; p < n; p++) {
        places[p] = (struct place){.prompt = p, .expected = expected[p]};
        mine[p] = false;
    }
    const int32_t own = deal_places(ranks, places, n);
    for (int32_t i = 0; i < own; i++)
        mine[places[i].prompt] = true;
    mem_free(places);
    return COHORT_OK;
}

static cohort_status submit_all(struct rollout *r, const struct engine_request *pattern, uint64_t batch_index,
                                cohort_error *err)
{
    for (int32_t i = 0; i < r->n_places; i++) {
        struct engine_request request = *pattern;
        const struct grpo_prompt *prompt = &r->prompts[r->places[i].prompt];
        int64_t id = 0;
        request.prompt = prompt->tokens;
        request.n_prompt = prompt->n_tokens;
        request.n = r->n;
        request.constraints = prompt->constraints;
        request.stream = rng_stream(batch_index, prompt->id);
        TRY(engine_submit(r->engine, &request, &id, err));
        r->submitted++;
        if (i == 0)
            r->first_id = id;
    }
    return COHORT_OK;
}

/* One more completion of a prompt is done with. */
static cohort_status count_one(struct rollout *r, int32_t prompt, cohort_error *err)
{
    r->done++;
    if (++r->there[prompt] == r->n && r->arrived != NULL)
        TRY(r->arrived(r->arrived_context, prompt, r->completions + (int64_t)prompt * r->n, err));
    return COHORT_OK;
}

static cohort_status take_completions(struct rollout *r, cohort_error *err)
{
    struct completion completion;
    while (engine_poll(r->engine, &completion)) {
        if (completion.request < r->first_id) { /* of a rollout that was given up */
            completion_free(&completion);
            continue;
        }
        const int32_t prompt = prompt_of(r, completion.request);
        struct completion *place = &r->completions[(int64_t)prompt * r->n + completion.index];
        *place = completion;
        TRY(completion_check(place, err));
        TRY(r->turns != NULL ? r->turns->ended(r->turns->context, prompt, place, err) : count_one(r, prompt, err));
    }
    return COHORT_OK;
}

static cohort_status serve_turns(struct rollout *r, bool idle, cohort_error *err)
{
    struct engine_turn turn;
    int32_t prompt = 0;
    while (engine_poll_turn(r->engine, &turn))
        if (turn.request >= r->first_id)
            TRY(r->turns->turn(r->turns->context, prompt_of(r, turn.request), &turn, err));
    TRY(r->turns->answer(r->turns->context, r->engine, idle, err));
    while (r->turns->over(r->turns->context, &prompt))
        TRY(count_one(r, prompt, err));
    return COHORT_OK;
}

/* What the others drew. */
static cohort_status gather(const struct rollout *r, cohort_error *err)
{
    struct text own = {0}, *all = NULL;
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; i < r->n_places; i++) {
        TRY_GOTO(text_append(&own, (const char *)&r->places[i].prompt, sizeof r->places[i].prompt, err));
        for (int32_t c = 0; c < r->n; c++)
            TRY_GOTO(completion_pack(&r->completions[(int64_t)r->places[i].prompt * r->n + c],
                                     engine_route_width(r->engine), &own, err));
    }
    TRY_GOTO(ranks_gather_texts(r->ranks, &own, &all, err));
    for (int32_t k = 0; k < ranks_count(r->ranks); k++)
        for (size_t at = 0; k != ranks_rank(r->ranks) && at < all[k].length;) {
            int32_t prompt = -1;
            if (all[k].length - at >= sizeof prompt)
                memcpy(&prompt, all[k].data + at, sizeof prompt);
            if (prompt < 0 || prompt >= r->n_prompts) {
                status = error_set(err, COHORT_ERR_INTERNAL, "rank %d drew for other prompts", (int)k);
                goto cleanup;
            }
            at += sizeof prompt;
            for (int32_t c = 0; c < r->n; c++)
                TRY_GOTO(completion_unpack(&all[k], &at, &r->completions[(int64_t)prompt * r->n + c], err));
        }
cleanup:
    text_free(&own);
    ranks_texts_free(r->ranks, all);
    return status;
}

cohort_status grpo_rollout(struct engine *engine, struct ranks *ranks, const struct grpo_prompt *prompts,
                           int32_t n_prompts, int32_t n, const struct engine_request *pattern, uint64_t batch_index,
                           struct completion *completions, grpo_progress *progress, void *progress_context,
                           grpo_arrived *arrived, void *arrived_context, const struct rollout_turns *turns,
                           cohort_error *err)
{
    struct rollout r = {.engine = engine,
                        .ranks = ranks,
                        .prompts = prompts,
                        .n_prompts = n_prompts,
                        .n = n,
                        .completions = completions,
                        .arrived = ranks_count(ranks) > 1 ? NULL : arrived,
                        .arrived_context = arrived_context,
                        .turns = turns};
    cohort_status status = COHORT_OK;
    assert(pattern->turns == (turns != NULL));
    TRY(model_gather_whole(engine_model(engine), err)); /* ranks draw each by itself */
    TRY_GOTO(mem_alloc(&r.places, (size_t)n_prompts, sizeof *r.places, "rollout", err));
    TRY_GOTO(mem_alloc(&r.there, (size_t)n_prompts, sizeof *r.there, "rollout", err));
    for (int32_t p = 0; p < n_prompts; p++)
        r.places[p] = (struct place){.prompt = p, .expected = prompts[p].expected};
    r.n_places = deal_places(ranks, r.places, n_prompts);
    const int64_t total = (int64_t)r.n_places * n;
    engine_forget(engine); /* since the last rollout its block was training's, or that of models that reward */
    TRY_GOTO(submit_all(&r, pattern, batch_index, err));
    const int64_t before = engine_stats(engine).generated_tokens;
    for (bool busy = true; busy || r.done < total;) {
        TRY_GOTO(engine_step(engine, &busy, err));
        const bool idle = !busy || engine_waits(engine);
        TRY_GOTO(take_completions(&r, err));
        if (turns != NULL)
            TRY_GOTO(serve_turns(&r, idle, err));
        const int64_t tokens = engine_stats(engine).generated_tokens - before;
        if (progress != NULL && !progress(progress_context, &(struct grpo_at){.phase = "rollout",
                                                                              .done = tokens,
                                                                              .total = total * pattern->max_tokens,
                                                                              .ended = r.done,
                                                                              .begun = total})) {
            status = grpo_cancelled(err);
            goto cleanup;
        }
    }
    assert(r.done == total);
    if (ranks_count(ranks) > 1)
        TRY_GOTO(gather(&r, err));
cleanup:
    for (int64_t i = 0; status != COHORT_OK && i < r.submitted; i++)
        engine_cancel(engine, r.first_id + i);
    model_leave_whole(engine_model(engine));
    mem_free(r.places);
    mem_free(r.there);
    return status;
}
