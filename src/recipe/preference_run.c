#include "recipe/preference_run.h"

#include "format/safetensors.h"
#include "recipe/end_of_text.h"
#include "recipe/routing_options.h"
#include "recipe/run_inputs.h"

#include <stdio.h>
#include <string.h>

static const char SCORES[] = "trainer/reference_scores.safetensors"; /* of a checkpoint, with precompute */

/* ---- rows ---- */

static enum preference_kind kind_of(const struct preference_run *run)
{
    return preference_scores(&run->p.config)      ? PREFERENCE_SEQUENCES
           : preference_is_single(&run->p.config) ? PREFERENCE_SINGLES
                                                  : PREFERENCE_PAIRS;
}

static cohort_status load_set(struct preference_run *run, struct preference_rows *rows, enum option_id named,
                              enum input_kind input, size_t limit, cohort_error *err)
{
    struct training *t = &run->r.t;
    const struct options *o = t->options;
    const int32_t context = t->session.model->max_context, most = (int32_t)options_int(o, OPTION_MAX_LENGTH);
    run->p.max_length = most < context ? most : context;
    TRY(preference_rows_load(rows, &t->session, named, limit, kind_of(run), run->p.max_length, o, t->observer, err));
    TRY(run_inputs_add(&t->inputs, input, options_string(o, named), rows->data.sha256, err));
    preference_rows_tell(rows, t->observer);
    return COHORT_OK;
}

/* A model that names no padding has its tokenizer's. */
static void find_padding(struct preference_run *run)
{
    const struct session *session = &run->r.t.session;
    struct model_config *config = &session->model->config;
    const char *token = json_string_value(json_object_get(tokenizer_special_tokens(session->tokenizer), "pad_token"));
    const int32_t id = token == NULL || config->pad_id >= 0 ? -1 : tokenizer_find(session->tokenizer, token);
    if (id >= 0 && id < config->vocab_size)
        config->pad_id = id;
}

/* transformers reads a score at the last token that is no padding: config.json must name none that ends a row. */
static void choose_padding(struct preference_run *run)
{
    struct training *t = &run->r.t;
    struct model_config *config = &t->session.model->config;
    if (run->train.n_padded == 0)
        return;
    observer_message(
        t->observer,
        "note: %zu sides end in token %d, which is the model's padding too: transformers would read their "
        "scores one token earlier than they are trained here, so that config.json of what is written names "
        "no padding; give transformers another pad token, or rows one by one",
        run->train.n_padded, (int)config->pad_id);
    config->pad_id = -1;
}

static cohort_status load_data(struct preference_run *run, cohort_error *err)
{
    struct training *t = &run->r.t;
    const struct options *o = t->options;
    if (options_string(o, OPTION_DATA) == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no training rows given: pass --data FILE");
    if (kind_of(run) == PREFERENCE_SEQUENCES)
        find_padding(run);
    TRY(load_set(run, &run->train, OPTION_DATA, INPUT_DATA, 0, err));
    if (options_string(o, OPTION_EVAL_DATA) != NULL)
        TRY(load_set(run, &run->held_out, OPTION_EVAL_DATA, INPUT_EVAL_DATA,
                     (size_t)options_int_or(o, OPTION_EVAL_LIMIT, 0), err));
    if (run->train.conversations && kind_of(run) != PREFERENCE_SEQUENCES)
        TRY(end_of_text_learned(&t->session, err));
    TRY(row_tell_template(&t->session, true, t->observer, err));
    if (kind_of(run) == PREFERENCE_SEQUENCES)
        choose_padding(run);
    return row_run_plan(&run->r, run->train.parts, run->train.data.n_parts, run->train.n, err);
}

/* Whether it is known ahead which completion a prompt meets for KTO's KL: with scores that are computed once it cannot be
 * that of the step. */
static bool meets_one(const struct preference_run *run)
{
    return run->precompute && preference_needs_kl(&run->p.config);
}

/* Reads the row whose completion the prompt of row i meets. */
static cohort_status take_other(struct preference_run *run, struct preference_rows *rows, size_t i, size_t end,
                                cohort_error *err)
{
    if (!meets_one(run))
        return COHORT_OK;
    TRY(mem_grow(&run->others, &run->room[6], end, sizeof *run->others, "batch", err));
    TRY(mem_grow(&run->mismatched, &run->room[7], end, sizeof *run->mismatched, "batch", err));
    return preference_rows_read(rows, preference_rows_before(rows, i), &run->others[end - 1], err);
}

/* Reads a row behind those in hand. */
static cohort_status take_row(struct preference_run *run, struct preference_rows *rows,
                              const struct preference_reference *known, size_t i, cohort_error *err)
{
    const size_t end = run->n_batch + 1;
    TRY(mem_grow(&run->batch, &run->room[0], end, sizeof *run->batch, "batch", err));
    TRY(mem_grow(&run->trees, &run->room[1], end, sizeof *run->trees, "batch", err));
    TRY(mem_grow(&run->completions, &run->room[2], 2 * end, sizeof *run->completions, "batch", err));
    TRY(mem_grow(&run->scores, &run->room[3], end, sizeof *run->scores, "batch", err));
    TRY(mem_grow(&run->wanted, &run->room[4], end, sizeof *run->wanted, "batch", err));
    TRY(mem_grow(&run->margins, &run->room[5], end, sizeof *run->margins, "batch", err));
    TRY(take_other(run, rows, i, end, err));
    TRY(preference_rows_read(rows, i, &run->batch[run->n_batch], err));
    run->margins[run->n_batch] = run->batch[run->n_batch].margin;
    run->wanted[run->n_batch] = run->batch[run->n_batch].wanted;
    if (known != NULL)
        run->scores[run->n_batch] = known[i];
    run->n_batch++;
    return COHORT_OK;
}

/* The rows in hand. known: their scores of the reference are. */
static struct preference_batch batch_of(struct preference_run *run, bool known)
{
    const bool single = preference_is_single(&run->p.config);
    for (size_t i = 0; i < run->n_batch; i++) {
        run->trees[i] = preference_row_tree(&run->batch[i], single, &run->completions[2 * i]);
        run->trees[i].prompt_wanted = run->p.config.nll_prompts;
    }
    for (size_t i = 0; meets_one(run) && i < run->n_batch; i++) {
        struct completion_tokens other[2];
        preference_row_tree(&run->others[i], true, other);
        run->mismatched[i] = other[0];
    }
    return (struct preference_batch){.trees = run->trees,
                                     .wanted = single ? run->wanted : NULL,
                                     .margins = run->margins,
                                     .n = (int32_t)run->n_batch,
                                     .reference = known ? run->scores : NULL,
                                     .mismatched = meets_one(run) ? run->mismatched : NULL};
}

/* ---- the reference, computed ahead ---- */

static cohort_status score_set(struct preference_run *run, struct preference_rows *rows,
                               struct preference_reference **out, cohort_error *err)
{
    enum { AT_ONCE = 64 };
    TRY(mem_alloc(out, rows->n, sizeof **out, "reference", err));
    for (size_t first = 0; first < rows->n; first += AT_ONCE) {
        run->n_batch = 0;
        for (size_t i = first; i < rows->n && i < first + AT_ONCE; i++)
            TRY(take_row(run, rows, NULL, i, err));
        const struct preference_batch batch = batch_of(run, false);
        TRY(preference_score_reference(&run->p, &batch, *out + first, err));
        if (meets_one(run))
            TRY(preference_score_mismatched(&run->p, &batch, *out + first, err));
        if (!training_progress(&run->r.t, &(cohort_progress){.phase = "reference",
                                                             .done = (int64_t)(first + run->n_batch),
                                                             .total = (int64_t)rows->n,
                                                             .unit = "rows"}))
            return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
    }
    return COHORT_OK;
}

/* The name of a set's scores: of these rows and no others. */
static void name_set(const struct preference_rows *rows, char name[HASH_HEX])
{
    snprintf(name, HASH_HEX, "%s", rows->data.sha256);
}

static cohort_status read_set(const struct safetensors *file, const char *path, const struct preference_rows *rows,
                              const char *what, struct preference_reference **out, cohort_error *err)
{
    char name[HASH_HEX];
    name_set(rows, name);
    const struct safetensor *tensor = safetensors_find(file, name);
    if (tensor == NULL || tensor->rank != 2 || tensor->shape[0] != (int64_t)rows->n || tensor->shape[1] != 2 ||
        strcmp(tensor->dtype_name, "F64") != 0)
        return error_set(err, COHORT_ERR_STATE,
                         "%s has no scores of the reference for %s of %zu rows: with precompute_ref_log_probs they are "
                         "computed before the first step, and %s must stay what it was",
                         path, rows->data.path, rows->n, what);
    TRY(mem_alloc(out, rows->n, sizeof **out, "reference", err));
    memcpy(*out, tensor->data, rows->n * sizeof **out);
    return COHORT_OK;
}

static cohort_status read_scores(struct preference_run *run, cohort_error *err)
{
    struct safetensors file = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, run->r.t.resume_dir, SCORES, err));
    TRY_GOTO(safetensors_open(&file, path, err));
    TRY_GOTO(read_set(&file, path, &run->train, "data", &run->known, err));
    if (run->held_out.n > 0)
        TRY_GOTO(read_set(&file, path, &run->held_out, "eval_data", &run->known_held_out, err));
cleanup:
    safetensors_close(&file);
    mem_free(path);
    return status;
}

static cohort_status precompute(struct preference_run *run, cohort_error *err)
{
    struct training *t = &run->r.t;
    if (!run->precompute)
        return COHORT_OK;
    if (t->resume_dir != NULL)
        return read_scores(run, err);
    if (run->p.reference == NULL) /* nothing was trained yet: the policy is the reference */
        run->p.reference = t->session.model;
    TRY(score_set(run, &run->train, &run->known, err));
    if (run->held_out.n > 0)
        TRY(score_set(run, &run->held_out, &run->known_held_out, err));
    return COHORT_OK;
}

static cohort_status read_doubles(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    (void)err;
    memcpy(to, (const char *)context + offset, length);
    return COHORT_OK;
}

static cohort_status write_scores(struct preference_run *run, const char *dir, struct manifest *manifest,
                                  cohort_error *err)
{
    struct preference_reference *scores[2] = {run->known, run->known_held_out};
    const struct preference_rows *rows[2] = {&run->train, &run->held_out};
    struct safetensors_source sources[2];
    char names[2][HASH_HEX], hex[HASH_HEX];
    char *path = NULL;
    size_t n = 0;
    for (int k = 0; k < 2; k++) {
        if (scores[k] == NULL)
            continue;
        name_set(rows[k], names[k]);
        if (n > 0 && strcmp(names[0], names[1]) == 0)
            continue; /* the same rows held out */
        sources[n++] = (struct safetensors_source){.name = names[k],
                                                   .dtype_name = "F64",
                                                   .rank = 2,
                                                   .shape = {(int64_t)rows[k]->n, 2},
                                                   .bytes = rows[k]->n * sizeof *scores[k],
                                                   .read = read_doubles,
                                                   .context = scores[k]};
    }
    TRY(file_join(&path, dir, SCORES, err));
    cohort_status status = safetensors_write(path, sources, n, hex, err);
    if (status == COHORT_OK && manifest != NULL)
        status = manifest_add(manifest, SCORES, hex, err);
    mem_free(path);
    return status;
}

static cohort_status write_more(void *context, const char *dir, struct manifest *manifest, cohort_error *err)
{
    struct preference_run *run = context;
    TRY(run_reference_write(&run->reference, &run->r.t, dir, manifest, err));
    return run->precompute ? write_scores(run, dir, manifest, err) : COHORT_OK;
}

/* ---- steps ---- */

static cohort_status one_step(void *context, const size_t *units, size_t n, struct metrics *metrics, cohort_error *err)
{
    struct preference_run *run = context;
    run->n_batch = 0;
    for (size_t i = 0; i < n; i++)
        TRY(take_row(run, &run->train, run->known, units[i], err));
    const struct preference_batch batch = batch_of(run, run->precompute);
    return preference_step(&run->p, &batch, metrics, err);
}

static void after_step(void *context)
{
    struct preference_run *run = context;
    run_reference_step(&run->reference, &run->r.t);
}

static cohort_status evaluate(void *context, struct metrics *metrics, cohort_error *err)
{
    struct preference_run *run = context;
    run->n_batch = 0;
    for (size_t i = 0; i < run->held_out.n; i++)
        TRY(take_row(run, &run->held_out, run->known_held_out, i, err));
    const struct preference_batch batch = batch_of(run, run->precompute);
    return preference_evaluate(&run->p, &batch, metrics, err);
}

static cohort_status allocate(struct preference_run *run, cohort_error *err)
{
    struct training *t = &run->r.t;
    struct memory_plan plan = {0};
    const struct preference_rows *train = &run->train, *held_out = &run->held_out;
    int32_t longest = train->longest > held_out->longest ? train->longest : held_out->longest;
    if (preference_needs_kl(&run->p.config)) { /* a prompt meets another's completion, cut to max_length */
        const int32_t a = train->longest_prompt + train->longest_completion,
                      b = held_out->longest_prompt + held_out->longest_completion, most = a > b ? a : b;
        longest = most < run->p.max_length ? most : run->p.max_length;
    }
    run->runner.extras = preference_extras(&run->p);
    memory_plan_begin(&plan, t->session.model, t->options, run_reference_holds(&run->reference, t), &run->runner,
                      2 * run->r.batch_size, longest, run->r.batch_size * train->tokens);
    return training_allocate(t, &plan, err);
}

static cohort_status begin(struct preference_run *run, const char *title, cohort_error *err)
{
    struct training *t = &run->r.t;
    struct preference *p = &run->p;
    p->model = t->session.model;
    p->runner = &run->runner;
    TRY(run_reference_load(&run->reference, t, err));
    p->reference = run->reference.model;
    p->reference_adapter = run->reference.adapter;
    const bool scores = preference_scores(&p->config), single = preference_is_single(&p->config);
    TRY(row_run_begin(&run->r,
                      &(struct row_trainer){.step = one_step,
                                            .after_step = after_step,
                                            .evaluate = evaluate,
                                            .context = run,
                                            .optimizer = &p->optimizer,
                                            .schedule = &p->schedule,
                                            .skipped = &p->skipped,
                                            .tokens_seen = &p->tokens_seen,
                                            .warning = p->warning,
                                            .title = title,
                                            .figure = scores   ? "accuracy"
                                                      : single ? "rewards/margins"
                                                               : "rewards/accuracies",
                                            .figure_name = single ? "margin" : "accuracy"},
                      err));
    TRY(run_reference_check(&run->reference, t, err));
    t->write_more = write_more;
    t->more_context = run;
    return precompute(run, err);
}

cohort_status preference_run_reference(struct preference_run *run, const char *none, cohort_error *err)
{
    const struct options *o = run->r.t.options;
    run->precompute = options_bool(o, OPTION_PRECOMPUTE_REF_LOG_PROBS);
    if (none != NULL && run->precompute)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s has no reference whose log-probs precompute_ref_log_probs could compute: leave "
                         "one of the two out",
                         none);
    TRY(run_reference_name(&run->reference, options_string(o, OPTION_REF_MODEL), err));
    if (none != NULL && run->reference.named != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s has no reference that ref_model could name: leave one out",
                         none);
    run->reference.wanted = none == NULL && !run->precompute;
    TRY(run_reference_configure(&run->reference, o, run->r.t.observer,
                                none != NULL
                                    ? "with reference_free there is none: leave one of the two out"
                                    : "precompute_ref_log_probs computes what it gives once: leave one of the two out",
                                err));
    /* Beside an adapter the reference costs nothing. There, and where it is named, it is what the scores are computed with. */
    run->reference.wanted =
        run->reference.wanted || (run->precompute && (run->r.t.session.adapter.there || run->reference.named != NULL));
    return COHORT_OK;
}

cohort_status preference_run(struct options *options, const char *command, const char *title,
                             preference_configure *configure, const cohort_observer *observer, cohort_error *err)
{
    struct preference_run *run = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&run, 1, sizeof *run, "run", err));
    TRY_GOTO(row_run_open(&run->r, options, command, observer, err));
    TRY_GOTO(configure(run, err));
    TRY_GOTO(preference_check(&run->p.config, err));
    if (!preference_scores(&run->p.config)) /* TRL's RewardTrainer has no auxiliary loss of routers */
        TRY_GOTO(routing_options(&run->p.routing, options, &run->r.t.session.model->config, err));
    TRY_GOTO(load_data(run, err));
    TRY_GOTO(allocate(run, err));
    TRY_GOTO(begin(run, title, err));
    TRY_GOTO(row_run_go(&run->r, err));
cleanup:
    training_end(&run->r.t, status, err);
    run_reference_close(&run->reference, &run->r.t);
    tree_runner_free(&run->runner);
    preference_rows_free(&run->train);
    preference_rows_free(&run->held_out);
    for (size_t i = 0; i < run->room[0]; i++)
        preference_row_free(&run->batch[i]);
    for (size_t i = 0; i < run->room[6]; i++)
        preference_row_free(&run->others[i]);
    preference_free(&run->p);
    mem_free(run->batch);
    mem_free(run->trees);
    mem_free(run->completions);
    mem_free(run->scores);
    mem_free(run->wanted);
    mem_free(run->margins);
    mem_free(run->others);
    mem_free(run->mismatched);
    mem_free(run->known);
    mem_free(run->known_held_out);
    row_run_close(&run->r);
    mem_free(run);
    return status;
}
