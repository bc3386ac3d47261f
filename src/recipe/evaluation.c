#include "recipe/evaluation.h"

#include "recipe/episodes.h"
#include "recipe/estimates.h"
#include "reward/vote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PREFIX = 80, SHOWN_PROMPT = 1500, SHOWN_COMPLETION = 3000 };

/* One set while it is evaluated. */
struct asked_set {
    const struct evaluation *e;
    struct prompt_batch batch;
    size_t n_prompts, total;
    struct completion *completions; /* [total] */
    double *rewards;                /* [total, scoring->n] */
    char prefix[PREFIX];            /* of its metrics */
};

static double reward_of(const struct asked_set *s, size_t i, int32_t f)
{
    return s->rewards[i * (size_t)s->e->scoring->n + (size_t)f];
}

/* The weighted sum of a completion's rewards; NaN where all are null. */
static double sum_of(const struct asked_set *s, size_t i)
{
    double sum = 0.0;
    bool any = false;
    for (int32_t f = 0; f < s->e->scoring->n; f++) {
        const double value = reward_of(s, i, f);
        sum += isnan(value) ? 0.0 : s->e->scoring->weights[f] * value;
        any = any || !isnan(value);
    }
    return any ? sum : (double)NAN;
}

static void mean_metrics(const struct asked_set *s, struct metrics *metrics)
{
    const struct scoring *scoring = s->e->scoring;
    double length = 0.0, reward = 0.0;
    size_t truncated = 0, scored = 0;
    for (size_t i = 0; i < s->total; i++) {
        const double sum = sum_of(s, i);
        reward += isnan(sum) ? 0.0 : sum;
        scored += isnan(sum) ? 0 : 1;
        length += s->completions[i].n_tokens;
        truncated += s->completions[i].finish_reason == FINISH_LENGTH;
    }
    if (scoring->n > 0)
        metrics_setf(metrics, scored > 0 ? reward / (double)scored : (double)NAN, "%sreward", s->prefix);
    for (int32_t f = 0; f < scoring->n; f++) {
        double sum = 0.0;
        size_t count = 0;
        for (size_t i = 0; i < s->total; i++) {
            const double value = reward_of(s, i, f);
            sum += isnan(value) ? 0.0 : value;
            count += isnan(value) ? 0 : 1;
        }
        metrics_setf(metrics, count > 0 ? sum / (double)count : (double)NAN, "%srewards/%s/mean", s->prefix,
                     scoring->names[f]);
    }
    metrics_setf(metrics, length / (double)s->total, "%scompletions/mean_length", s->prefix);
    metrics_setf(metrics, (double)truncated / (double)s->total, "%scompletions/clipped_ratio", s->prefix);
}

/* ---- What the questions say ---- */

/* A question's completions that were scored, in the order of their draws, and what is counted over questions. */
struct question {
    struct reward_row *rows; /* [n] */
    bool *passed;            /* [n] */
    int32_t *answers;        /* [n] */
    int32_t *count;          /* [n + 1] of estimate_votes: zero */
    int64_t n, n_passed;
    double mean; /* of the judge's reward */
};

static void question_free(struct question *q)
{
    mem_free(q->rows);
    mem_free(q->passed);
    mem_free(q->answers);
    mem_free(q->count);
}

static cohort_status question_alloc(struct question *q, size_t n, cohort_error *err)
{
    TRY(mem_alloc(&q->rows, n, sizeof *q->rows, "evaluation", err));
    TRY(mem_alloc(&q->passed, n, sizeof *q->passed, "evaluation", err));
    TRY(mem_alloc(&q->answers, n, sizeof *q->answers, "evaluation", err));
    return mem_alloc(&q->count, n + 1, sizeof *q->count, "evaluation", err);
}

static cohort_status question_read(struct question *q, const struct asked_set *s, size_t prompt, cohort_error *err)
{
    const struct evaluation_judge *judge = s->e->judge;
    const size_t n = (size_t)s->e->n;
    double sum = 0.0;
    q->n = q->n_passed = 0;
    for (size_t i = prompt * n; i < (prompt + 1) * n; i++) {
        const double value = reward_of(s, i, judge->reward);
        if (isnan(value))
            continue;
        q->passed[q->n] = value >= judge->threshold;
        q->rows[q->n] = (struct reward_row){.completion = s->completions[i].text,
                                            .completion_length = s->completions[i].text_length};
        q->n_passed += q->passed[q->n] ? 1 : 0;
        q->n++;
        sum += value;
    }
    q->mean = sum / (double)q->n;
    return judge->votes ? reward_vote(q->rows, q->passed, (size_t)q->n, s->e->stop, q->answers, err) : COHORT_OK;
}

static void estimate_metrics(const struct estimate *estimate, const char *prefix, const char *what, int32_t k,
                             struct metrics *metrics)
{
    metrics_setf(metrics, estimate_mean(estimate), "%s%s@%d", prefix, what, (int)k);
    metrics_setf(metrics, estimate_error(estimate), "%s%s@%d/stderr", prefix, what, (int)k);
    metrics_setf(metrics, (double)estimate->n, "%s%s@%d/n", prefix, what, (int)k);
}

static cohort_status question_metrics(const struct asked_set *s, struct metrics *metrics, cohort_error *err)
{
    const struct evaluation_judge *judge = s->e->judge;
    struct estimate mean = {0}, *pass = NULL, *votes = NULL;
    struct question q = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(question_alloc(&q, (size_t)s->e->n, err));
    TRY_GOTO(mem_alloc(&pass, judge->n_k, sizeof *pass, "evaluation", err));
    TRY_GOTO(mem_alloc(&votes, judge->n_k, sizeof *votes, "evaluation", err));
    for (size_t p = 0; p < s->n_prompts; p++) {
        TRY_GOTO(question_read(&q, s, p, err));
        if (q.n > 0)
            estimate_add(&mean, q.mean);
        for (size_t i = 0; i < judge->n_k && judge->k[i] <= q.n; i++) {
            estimate_add(&pass[i], estimate_pass(q.n, q.n_passed, judge->k[i]));
            if (judge->votes)
                estimate_add(&votes[i], estimate_votes(q.answers, q.n, judge->k[i], q.count));
        }
    }
    estimate_metrics(&mean, s->prefix, "mean", s->e->n, metrics);
    for (size_t i = 0; i < judge->n_k; i++)
        estimate_metrics(&pass[i], s->prefix, "pass", judge->k[i], metrics);
    for (size_t i = 0; judge->votes && i < judge->n_k; i++)
        if (judge->k[i] > 1) /* a vote of one is pass@1 */
            estimate_metrics(&votes[i], s->prefix, "maj", judge->k[i], metrics);
cleanup:
    question_free(&q);
    mem_free(pass);
    mem_free(votes);
    return status;
}

/* ---- Samples for a person ---- */

static cohort_status show_text(const char *title, const char *bytes, size_t length, size_t most, struct text *out,
                               cohort_error *err)
{
    size_t shown = length < most ? length : most;
    while (shown < length && ((unsigned char)bytes[shown] & 0xc0) == 0x80) /* not within a character */
        shown--;
    TRY(text_printf(out, err, "%s", title));
    TRY(text_append_shown(out, bytes, shown, err));
    return shown < length ? text_printf(out, err, " ... and %zu bytes more\n", length - shown)
                          : text_append(out, "\n", 1, err);
}

/* Completion 0 of prompts that lie evenly in the set. */
static cohort_status show_samples(const struct asked_set *s, size_t n, struct text *out, cohort_error *err)
{
    n = n < s->n_prompts ? n : s->n_prompts;
    for (size_t k = 0; k < n; k++) {
        const size_t p = k * s->n_prompts / n, i = p * (size_t)s->e->n;
        const struct completion *c = &s->completions[i];
        const struct prompt *prompt = &s->batch.prompts[p];
        char place[DATA_PLACE];
        dataset_place(&s->batch.set->data, p, place);
        TRY(text_printf(out, err, "\n--- %s%s", s->batch.name == NULL ? "" : s->batch.name,
                        s->batch.name == NULL ? "" : ", "));
        TRY(text_append_shown(out, place, strlen(place), err));
        for (int32_t f = 0; f < s->e->scoring->n; f++) {
            const double value = reward_of(s, i, f);
            TRY(text_printf(out, err, ", %s ", s->e->scoring->names[f]));
            TRY(isnan(value) ? text_printf(out, err, "null") : text_printf(out, err, "%.6g", value));
        }
        TRY(text_printf(out, err, ", %d tokens (%s)\n", (int)c->n_tokens, finish_reason_name(c->finish_reason)));
        TRY(show_text("prompt: ", prompt->text.data, prompt->text.length, SHOWN_PROMPT, out, err));
        TRY(show_text("completion: ", c->text, c->text_length, SHOWN_COMPLETION, out, err));
    }
    return COHORT_OK;
}

/* ---- A set ---- */

/* Draws of evaluations never meet those of training batches, which count up from 0. Sets count down. */
static const uint64_t EVALUATION_BATCH = UINT64_MAX;

/* Programs begin to score what is there. */
struct begun {
    const struct evaluation *e;
    const struct prompt_batch *batch;
};

static cohort_status begin_rewards(void *context, int32_t prompt, const struct completion *group, cohort_error *err)
{
    const struct begun *b = context;
    return scoring_begin(b->e->scoring, b->batch, (size_t)prompt, b->e->n, group, err);
}

static cohort_status record_set(const struct asked_set *s, const struct evaluation_out *out, cohort_error *err)
{
    double *sums = NULL;
    if (out->record == NULL)
        return COHORT_OK;
    TRY(mem_alloc(&sums, s->total, sizeof *sums, "evaluation", err));
    for (size_t i = 0; i < s->total; i++)
        sums[i] = sum_of(s, i);
    cohort_status status = out->record(out->record_context, &s->batch, (int32_t)s->n_prompts, s->e->n, s->completions,
                                       s->rewards, sums, err);
    mem_free(sums);
    return status;
}

static cohort_status run_set(const struct evaluation *e, size_t index, struct metrics *metrics,
                             const struct evaluation_out *out, cohort_error *err)
{
    struct evaluation_set *set = &e->sets->items[index];
    size_t n_prompts = set->prompts.data.n_rows, total = n_prompts * (size_t)e->n;
    struct asked_set s = {.e = e, .n_prompts = n_prompts, .total = total};
    struct grpo_prompt *asked = NULL;
    struct prompt *prompts = NULL;
    size_t *rows = NULL;
    uint64_t *ids = NULL;
    int32_t *expected = NULL; /* nothing is */
    struct engine_request pattern = e->pattern;
    struct episodes *episodes = e->episodes == NULL || e->episodes->environment == NULL ? NULL : e->episodes;
    struct row_constraints *guided = NULL;
    const bool keeps_extra = e->scoring->keeps_extra;
    cohort_status status = COHORT_OK;
    snprintf(s.prefix, sizeof s.prefix, set->name == NULL ? "eval_" : "eval_%s_", set->name == NULL ? "" : set->name);
    TRY_GOTO(mem_alloc(&asked, n_prompts, sizeof *asked, "evaluation", err));
    TRY_GOTO(mem_alloc(&prompts, n_prompts, sizeof *prompts, "evaluation", err));
    TRY_GOTO(mem_alloc(&rows, n_prompts, sizeof *rows, "evaluation", err));
    TRY_GOTO(mem_alloc(&ids, n_prompts, sizeof *ids, "evaluation", err));
    TRY_GOTO(mem_alloc(&expected, n_prompts, sizeof *expected, "evaluation", err));
    TRY_GOTO(mem_alloc(&s.completions, total, sizeof *s.completions, "evaluation", err));
    TRY_GOTO(mem_alloc(&s.rewards, total * (size_t)e->scoring->n, sizeof *s.rewards, "evaluation", err));
    TRY_GOTO(mem_alloc(&guided, n_prompts, sizeof *guided, "evaluation", err));
    for (size_t i = 0; i < n_prompts; i++) {
        rows[i] = i;
        TRY_GOTO(prompt_set_read(&set->prompts, i, &prompts[i], err));
        ids[i] = i;
    }
    s.batch = (struct prompt_batch){.set = &set->prompts, .rows = rows, .prompts = prompts, .name = set->name};
    if (episodes != NULL)
        TRY_GOTO(episodes_start(episodes,
                                &(struct episodes_start){.batch = &s.batch,
                                                         .prompts = prompts,
                                                         .n_prompts = (int32_t)n_prompts,
                                                         .n = e->n,
                                                         .batch_index = EVALUATION_BATCH - index,
                                                         .ids = ids,
                                                         .expected = expected,
                                                         .step = e->step,
                                                         .eval = true},
                                err));
    for (size_t i = 0; i < n_prompts; i++) {
        char place[DATA_PLACE];
        dataset_place(&set->prompts.data, i, place);
        const int32_t room = set->prompts.session->model->max_context - (int32_t)prompts[i].ids.count;
        TRY_GOTO(row_constraints_ask(&guided[i], e->guides, prompts[i].row, place, e->n,
                                     room < e->pattern.max_tokens ? room : e->pattern.max_tokens, err));
        asked[i] = (struct grpo_prompt){.tokens = prompts[i].ids.ids,
                                        .n_tokens = (int32_t)prompts[i].ids.count,
                                        .id = i,
                                        .constraints = guided[i].constraints};
    }
    pattern.turns = episodes != NULL;
    struct begun begun = {.e = e, .batch = &s.batch};
    TRY_GOTO(grpo_rollout(e->engine, e->ranks, asked, (int32_t)n_prompts, e->n, &pattern, EVALUATION_BATCH - index,
                          s.completions, e->progress, e->progress_context, begin_rewards, &begun,
                          episodes == NULL ? NULL : &episodes->hooks, err));
    if (episodes != NULL)
        TRY_GOTO(episodes_end(episodes, s.completions, &e->scoring->log, err));
    e->scoring->keeps_extra = out->rows != NULL || out->record != NULL;
    TRY_GOTO(scoring_completions(e->scoring, &s.batch, (int32_t)n_prompts, e->n, s.completions, s.rewards, NULL, err));
    mean_metrics(&s, metrics);
    scoring_take_metrics(e->scoring, s.prefix, metrics);
    if (e->scoring->n > 0)
        TRY_GOTO(question_metrics(&s, metrics, err));
    for (size_t i = 0; out->rows != NULL && i < total; i++)
        TRY_GOTO(scoring_write(e->scoring, &s.batch, i / (size_t)e->n, -1, &s.completions[i],
                               &(struct scoring_result){.rewards = s.rewards + i * (size_t)e->scoring->n}, out->rows,
                               err));
    TRY_GOTO(record_set(&s, out, err));
    if (out->shown != NULL)
        TRY_GOTO(show_samples(&s, out->n_shown, out->shown, err));
cleanup:
    e->scoring->keeps_extra = keeps_extra;
    scoring_forget(e->scoring, s.completions, s.completions == NULL ? 0 : total);
    for (size_t i = 0; s.completions != NULL && i < total; i++)
        completion_free(&s.completions[i]);
    for (size_t i = 0; prompts != NULL && i < n_prompts; i++)
        prompt_free(&prompts[i]);
    for (size_t i = 0; guided != NULL && i < n_prompts; i++)
        row_constraints_free(&guided[i]);
    mem_free(guided);
    mem_free(s.completions);
    mem_free(s.rewards);
    mem_free(prompts);
    mem_free(asked);
    mem_free(rows);
    mem_free(ids);
    mem_free(expected);
    if (status != COHORT_OK && episodes != NULL)
        episodes_abandon(episodes);
    return status;
}

cohort_status evaluation_run(const struct evaluation *e, struct metrics *metrics, const struct evaluation_out *out,
                             cohort_error *err)
{
    double sum = 0.0;
    for (size_t i = 0; i < e->sets->n; i++) {
        char name[PREFIX + 16];
        TRY(run_set(e, i, metrics, out, err));
        if (e->sets->items[i].name != NULL && e->scoring->n > 0) {
            snprintf(name, sizeof name, "eval_%s_reward", e->sets->items[i].name);
            sum += metrics_get(metrics, name);
        }
    }
    if (e->sets->items[0].name != NULL && e->scoring->n > 0)
        metrics_set(metrics, "eval_reward", sum / (double)e->sets->n);
    return COHORT_OK;
}
