/* The batches of a GRPO run: which rows they ask, and, with dynamic sampling, which of the groups that were drawn are
 * kept. What a batch is depends on seed, step and rewards alone: rows are taken in the order of the data, every draw is
 * keyed by batch, row and epoch, and groups are kept in the order of their draws. */
#include "recipe/grpo_run.h"

#include <math.h>
#include <string.h>

struct prompt_batch live_batch_prompts(const struct live_batch *live)
{
    return (struct prompt_batch){.set = live->set, .rows = live->rows, .prompts = live->asked};
}

struct prompt_batch grpo_run_prompts(const struct grpo_run *run)
{
    return live_batch_prompts(&run->live[run->n_live - 1]);
}

const struct grpo_batch *grpo_run_batch(const struct grpo_run *run)
{
    return run->n_live == 0 ? NULL : &run->live[run->n_live - 1].batch;
}

void live_batch_free(struct live_batch *live)
{
    for (int32_t i = 0; live->asked != NULL && i < live->n_asked; i++)
        prompt_free(&live->asked[i]);
    mem_free(live->asked);
    mem_free(live->rows);
    for (int32_t i = 0; live->masks != NULL && i < live->n_masks; i++)
        row_masks_free(live->masks[i]);
    mem_free(live->masks);
    if (live->scoring != NULL)
        scoring_forget(live->scoring, live->batch.completions, (size_t)live->batch.n);
    grpo_batch_free(&live->batch);
    memset(live, 0, sizeof *live);
}

int64_t grpo_run_next(const struct grpo_run *run)
{
    return run->n_live == 0 ? run->grpo.batches : run->live[run->n_live - 1].batch.index + 1;
}

bool grpo_run_wants(const struct grpo_run *run)
{
    return grpo_run_next(run) < step_plan_batches(&run->grpo.config.plan, run->t.state.step + 1);
}

void grpo_run_discard(struct grpo_run *run)
{
    while (run->n_live > 0 && run->live[run->n_live - 1].batch.index >= run->grpo.batches)
        live_batch_free(&run->live[--run->n_live]);
}

int64_t grpo_run_cursor(const struct grpo_run *run)
{
    return run->n_live == 0 ? run->prompts_drawn : run->live[run->n_live - 1].cursor_end;
}

/* Who was long the last time will be: a group's longest completion, by row. What is not known begins first. */
static int32_t expected_length(const struct grpo_run *run, size_t row)
{
    if (run->longest == NULL)
        return 0;
    return run->longest[row] == 0 ? INT32_MAX : run->longest[row];
}

static void learn_lengths(struct grpo_run *run, const struct live_batch *live)
{
    const int32_t group = run->grpo.config.group;
    for (int32_t p = 0; run->longest != NULL && p < live->n_asked; p++) {
        int32_t most = 0;
        for (int32_t i = 0; i < group; i++) {
            const int32_t length = live->batch.completions[(int64_t)p * group + i].n_tokens;
            most = length > most ? length : most;
        }
        run->longest[live->rows[p]] = most;
    }
}

/* The most tokens that a completion of a prompt may have. */
static int32_t completion_room(const struct grpo_run *run, int32_t n_prompt)
{
    const int32_t room = run->t.session.model->max_context - n_prompt, most = run->grpo.config.max_completion_length;
    return room < most ? room : most;
}

cohort_status live_batch_guide(const struct grpo_run *run, struct live_batch *live, int32_t p,
                               struct grpo_prompt *prompt, struct guide *guide, const struct text *text,
                               cohort_error *err)
{
    TRY(row_masks_open(&live->masks[p], &run->guides, guide, text, completion_room(run, prompt->n_tokens),
                       run->grpo.config.n_choosable, err));
    prompt->masks = &live->masks[p]->replay;
    return COHORT_OK;
}

/* Draws n prompts of a set into *live, which is empty, and stays so after a failure. */
static cohort_status draw(struct grpo_run *run, struct live_batch *live, struct prompt_set *set, const size_t *rows,
                          const uint64_t *ids, int32_t n, cohort_error *err)
{
    struct grpo_prompt *prompts = NULL;
    struct row_constraints *guided = NULL;
    int32_t *expected = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&expected, (size_t)n, sizeof *expected, "batch", err));
    TRY_GOTO(mem_alloc(&guided, (size_t)n, sizeof *guided, "batch", err));
    TRY_GOTO(mem_alloc(&live->rows, (size_t)n, sizeof *live->rows, "batch", err));
    TRY_GOTO(mem_alloc(&live->asked, (size_t)n, sizeof *live->asked, "batch", err));
    TRY_GOTO(mem_alloc(&prompts, (size_t)n, sizeof *prompts, "batch", err));
    if (run->guides.masked)
        TRY_GOTO(mem_alloc(&live->masks, (size_t)n, sizeof *live->masks, "batch", err));
    live->n_masks = live->masks == NULL ? 0 : n;
    live->set = set;
    live->n_asked = n;
    for (int32_t i = 0; i < n; i++) {
        TRY_GOTO(prompt_set_read(set, rows[i], &live->asked[i], err));
        live->rows[i] = rows[i];
        expected[i] = expected_length(run, rows[i]);
    }
    const struct prompt_batch batch = live_batch_prompts(live);
    TRY_GOTO(episodes_start(&run->episodes,
                            &(struct episodes_start){.batch = &batch,
                                                     .prompts = live->asked,
                                                     .n_prompts = n,
                                                     .n = run->grpo.config.group,
                                                     .batch_index = (uint64_t)grpo_run_next(run),
                                                     .ids = ids,
                                                     .expected = expected,
                                                     .step = run->t.state.step},
                            err));
    for (int32_t i = 0; i < n; i++) {
        const struct token_list *tokens = &live->asked[i].ids;
        char place[DATA_PLACE];
        dataset_place(&set->data, rows[i], place);
        TRY_GOTO(row_constraints_ask(&guided[i], &run->guides, live->asked[i].row, place, run->grpo.config.group,
                                     completion_room(run, (int32_t)tokens->count), err));
        prompts[i] = (struct grpo_prompt){.tokens = tokens->ids,
                                          .n_tokens = (int32_t)tokens->count,
                                          .expected = expected[i],
                                          .id = ids[i],
                                          .constraints = guided[i].constraints};
        if (live->masks != NULL)
            TRY_GOTO(live_batch_guide(run, live, i, &prompts[i], guided[i].guide, &run->guides.text, err));
    }
    grpo_run_tell_progress(run);
    run->scored = live; /* rewards begin with the groups that are there */
    live->scoring = &run->scoring;
    TRY_GOTO(grpo_generate(&run->grpo, prompts, n, grpo_run_next(run), &live->batch, err));
    learn_lengths(run, live);
    TRY_GOTO(episodes_end(&run->episodes, live->batch.completions, &run->scoring.log, err));
cleanup:
    if (status != COHORT_OK) {
        episodes_abandon(&run->episodes);
        scoring_abandon(&run->scoring);
        live_batch_free(live);
    }
    for (int32_t i = 0; guided != NULL && i < n; i++) {
        if (status == COHORT_ERR_NUMERIC && row_constraints_check(&guided[i], err) != COHORT_OK)
            status = COHORT_ERR_UNSUPPORTED;
        row_constraints_free(&guided[i]);
    }
    mem_free(guided);
    mem_free(expected);
    mem_free(prompts);
    return status;
}

cohort_status grpo_run_rollout(struct grpo_run *run, struct prompt_set *set, const size_t *rows, const uint64_t *ids,
                               int32_t n, cohort_error *err)
{
    struct live_batch *live = &run->live[run->n_live];
    TRY(grpo_run_start(run, err));
    TRY(draw(run, live, set, rows, ids, n, err));
    live->cursor_end = (live->batch.index + 1) * run->prompts_per_step;
    run->n_live++;
    return COHORT_OK;
}

/* Draws the next n prompts of the data behind cursor. */
static cohort_status draw_next(struct grpo_run *run, const struct grpo_source *source, int64_t cursor, int32_t n,
                               struct live_batch *live, cohort_error *err)
{
    size_t *rows = NULL;
    uint64_t *ids = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&rows, (size_t)n, sizeof *rows, "batch", err));
    TRY_GOTO(mem_alloc(&ids, (size_t)n, sizeof *ids, "batch", err));
    for (int32_t i = 0; i < n; i++)
        TRY_GOTO(source->prompt(source->context, (uint64_t)(cursor + i), &rows[i], &ids[i], err));
    TRY_GOTO(draw(run, live, source->set, rows, ids, n, err));
    live->cursor_end = cursor + n;
cleanup:
    mem_free(rows);
    mem_free(ids);
    return status;
}

/* ---- Dynamic sampling ---- */

/* The rounds of a batch: the first draw and its refills. */
struct rounds {
    struct live_batch *list; /* [n], room for all */
    int32_t n;
    struct grpo_pick *kept; /* [n_kept] groups whose rewards differ, in the order of their draws, up to a batch */
    struct grpo_pick *flat; /* [n_flat] others, up to a batch */
    int32_t n_kept, n_flat;
    int64_t dropped, surplus, prompts; /* groups without a spread, and with one but beyond the batch; all */
};

static void rounds_free(struct rounds *rounds)
{
    for (int32_t r = 0; rounds->list != NULL && r < rounds->n; r++)
        live_batch_free(&rounds->list[r]);
    mem_free(rounds->list);
    mem_free(rounds->kept);
    mem_free(rounds->flat);
}

/* Sorts the groups of the last round. */
static void sort_groups(const struct grpo_run *run, struct rounds *rounds)
{
    struct live_batch *round = &rounds->list[rounds->n - 1];
    const int32_t wanted = run->prompts_per_step;
    rounds->prompts += round->n_asked;
    for (int32_t p = 0; p < round->n_asked; p++) {
        const struct grpo_pick pick = {.from = &round->batch, .group = p};
        if (!grpo_group_spreads(&run->grpo, &round->batch, p)) {
            rounds->dropped++;
            if (rounds->n_flat < wanted)
                rounds->flat[rounds->n_flat++] = pick;
        } else if (rounds->n_kept < wanted) {
            rounds->kept[rounds->n_kept++] = pick;
        } else {
            rounds->surplus++;
        }
    }
}

/* The batch of the groups that were kept; what is missing are groups without a spread, which teach nothing. */
static cohort_status assemble(struct grpo_run *run, struct rounds *rounds, struct live_batch *live, cohort_error *err)
{
    const int32_t wanted = run->prompts_per_step, kept = rounds->n_kept;
    struct grpo_batch **all = NULL;
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; rounds->n_kept < wanted; i++)
        rounds->kept[rounds->n_kept++] = rounds->flat[i];
    TRY_GOTO(mem_alloc(&all, (size_t)rounds->n, sizeof(struct grpo_batch *), "batch", err));
    for (int32_t r = 0; r < rounds->n; r++)
        all[r] = &rounds->list[r].batch;
    TRY_GOTO(mem_alloc(&live->rows, (size_t)wanted, sizeof *live->rows, "batch", err));
    TRY_GOTO(mem_alloc(&live->asked, (size_t)wanted, sizeof *live->asked, "batch", err));
    live->n_asked = wanted;
    if (run->guides.masked)
        TRY_GOTO(mem_alloc(&live->masks, (size_t)wanted, sizeof *live->masks, "batch", err));
    live->n_masks = live->masks == NULL ? 0 : wanted;
    TRY_GOTO(grpo_batch_pick(&run->grpo, rounds->kept, wanted, all, rounds->n, &live->batch, err));
    live->scoring = &run->scoring;
    for (int32_t p = 0; p < wanted; p++) {
        const int64_t group = run->grpo.config.group;
        TRY_GOTO(scoring_move(&run->scoring, rounds->kept[p].from->completions + rounds->kept[p].group * group,
                              live->batch.completions + p * group, (size_t)group, err));
    }
    live->set = rounds->list[0].set;
    live->cursor_end = rounds->list[rounds->n - 1].cursor_end;
    for (int32_t p = 0; p < wanted; p++)
        for (int32_t r = 0; r < rounds->n; r++)
            if (rounds->kept[p].from == &rounds->list[r].batch) {
                struct prompt *asked = &rounds->list[r].asked[rounds->kept[p].group];
                live->rows[p] = rounds->list[r].rows[rounds->kept[p].group];
                live->asked[p] = *asked;
                memset(asked, 0, sizeof *asked);
                if (live->masks != NULL) {
                    live->masks[p] = rounds->list[r].masks[rounds->kept[p].group];
                    rounds->list[r].masks[rounds->kept[p].group] = NULL;
                }
            }
    run->scored = live;
    TRY_GOTO(grpo_score(&run->grpo, &live->batch, err));
    scoring_take_metrics(&run->scoring, "", &live->batch.metrics);
    metrics_set(&live->batch.metrics, "dynamic_sampling/refills", (double)(rounds->n - 1));
    metrics_set(&live->batch.metrics, "dynamic_sampling/prompts", (double)rounds->prompts);
    metrics_set(&live->batch.metrics, "dynamic_sampling/dropped", (double)rounds->dropped);
    metrics_set(&live->batch.metrics, "dynamic_sampling/surplus", (double)rounds->surplus);
    metrics_set(&live->batch.metrics, "dynamic_sampling/filled", (double)(wanted - kept));
    if (kept < wanted)
        observer_message(run->t.observer,
                         "note: generation batch %lld has %d of %d groups whose rewards differ, after %d refills "
                         "(dynamic_sampling_refills); the others teach nothing",
                         (long long)live->batch.index + 1, (int)kept, (int)wanted, (int)rounds->n - 1);
cleanup:
    mem_free(all);
    if (status != COHORT_OK)
        live_batch_free(live);
    return status;
}

static cohort_status draw_rounds(struct grpo_run *run, const struct grpo_source *source, struct live_batch *live,
                                 cohort_error *err)
{
    const int32_t wanted = run->prompts_per_step, most = run->dynamic.refills + 1;
    struct rounds rounds = {0};
    int64_t cursor = grpo_run_cursor(run);
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&rounds.list, (size_t)most, sizeof *rounds.list, "batch", err));
    TRY_GOTO(mem_alloc(&rounds.kept, (size_t)wanted, sizeof *rounds.kept, "batch", err));
    TRY_GOTO(mem_alloc(&rounds.flat, (size_t)wanted, sizeof *rounds.flat, "batch", err));
    while (rounds.n_kept < wanted && rounds.n < most) {
        struct live_batch *round = &rounds.list[rounds.n];
        const int32_t n = (int32_t)ceil((wanted - rounds.n_kept) * run->dynamic.oversample - 1e-9);
        TRY_GOTO(draw_next(run, source, cursor, n, round, err));
        rounds.n++;
        cursor = round->cursor_end;
        run->scored = round;
        TRY_GOTO(grpo_reward_batch(&run->grpo, &round->batch, err));
        sort_groups(run, &rounds);
    }
    TRY_GOTO(assemble(run, &rounds, live, err));
cleanup:
    rounds_free(&rounds);
    return status;
}

cohort_status grpo_run_draw(struct grpo_run *run, const struct grpo_source *source, cohort_error *err)
{
    struct live_batch *live = &run->live[run->n_live];
    TRY(grpo_run_start(run, err));
    if (run->dynamic.on)
        TRY(draw_rounds(run, source, live, err));
    else
        TRY(draw_next(run, source, grpo_run_cursor(run), run->prompts_per_step, live, err));
    run->n_live++;
    return COHORT_OK;
}
