#include "recipe/grpo_run.h"

#include "backend/sampling.h"
#include "base/clock.h"
#include "recipe/evaluation.h"
#include "recipe/run_identity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct prompt_batch grpo_run_prompts(const struct grpo_run *run)
{
    return (struct prompt_batch){.set = run->set, .rows = run->rows, .prompts = run->asked};
}

static cohort_status score_batch(void *context, const struct completion *completions, int32_t n, double *rewards,
                                 cohort_error *err)
{
    struct grpo_run *run = context;
    int32_t group = run->grpo.config.group;
    const struct prompt_batch batch = grpo_run_prompts(run);
    return scoring_completions(&run->scoring, &batch, n / group, group, completions, rewards, err);
}

static cohort_status begin_rewards(void *context, int32_t prompt, const struct completion *group, cohort_error *err)
{
    struct grpo_run *run = context;
    const struct prompt_batch batch = grpo_run_prompts(run);
    return scoring_begin(&run->scoring, &batch, (size_t)prompt, run->grpo.config.group, group, err);
}

/* Frees the current batch, and what rewards keep of it. */
static void drop_batch(struct grpo_run *run)
{
    scoring_forget(&run->scoring, run->batch.completions, (size_t)run->batch.n);
    grpo_batch_free(&run->batch);
}

static bool report(void *context, const char *phase, int64_t done, int64_t total)
{
    struct grpo_run *run = context;
    double now = clock_seconds();
    if (run->phase != phase) {
        run->phase = phase;
        run->phase_start = now;
    }
    const char *unit = strcmp(phase, "train") == 0 ? "micro-batches" : strcmp(phase, "reward") == 0 ? "rows" : "tokens";
    double seconds = now - run->phase_start;
    return training_progress(&run->t, phase, done, total, unit, seconds > 0.0 ? (double)done / seconds : 0.0);
}

static bool report_evaluation(void *context, const char *phase, int64_t done, int64_t total)
{
    (void)phase;
    return report(context, "evaluate", done, total);
}

/* ---- Loss and advantages, from the options ---- */

/* A default that depends on another option becomes a value that was given, so that config.yaml has it. */
static cohort_status default_to(struct options *o, enum option_id id, const char *name, const char *value,
                                cohort_error *err)
{
    return options_given(o, id) ? COHORT_OK : options_set(o, name, value, name, err);
}

static cohort_status configure_advantage(struct grpo_run *run, cohort_error *err)
{
    struct options *o = run->t.options;
    struct advantage_config *c = &run->grpo.config.advantage;
    c->estimator = (enum advantage_estimator)options_choice(o, OPTION_ADVANTAGE_ESTIMATOR);
    switch (c->estimator) {
    case ADVANTAGE_GRPO: break;
    case ADVANTAGE_RLOO: TRY(default_to(o, OPTION_SCALE_REWARDS, "scale_rewards", "none", err)); break;
    case ADVANTAGE_REINFORCE_PLUS_PLUS:
    case ADVANTAGE_REINFORCE_PLUS_PLUS_BASELINE:
        TRY(default_to(o, OPTION_SCALE_REWARDS, "scale_rewards", "batch", err));
        break;
    }
    c->aggregation = (enum advantage_aggregation)options_choice(o, OPTION_MULTI_OBJECTIVE_AGGREGATION);
    c->scale = (enum advantage_scale)options_choice(o, OPTION_SCALE_REWARDS);
    c->epsilon = options_float(o, OPTION_ADVANTAGE_EPSILON);
    return advantage_check(c, options_bool(o, OPTION_KL_IN_REWARD), err);
}

static cohort_status configure_loss(struct grpo_run *run, cohort_error *err)
{
    struct options *o = run->t.options;
    struct loss_config *c = &run->grpo.config.loss;
    c->type = (enum loss_type)options_choice(o, OPTION_LOSS_TYPE);
    if (c->type == LOSS_GMPO)
        TRY(default_to(o, OPTION_EPSILON, "epsilon", "0.4", err)); /* TRL's GMPOConfig */
    if (!loss_traits(c->type)->corrects_kl || options_bool(o, OPTION_KL_IN_REWARD))
        TRY(default_to(o, OPTION_USE_BIAS_CORRECTION_KL, "use_bias_correction_kl", "false", err));
    const double epsilon = options_float(o, OPTION_EPSILON);
    c->level = (enum loss_level)options_choice(o, OPTION_IMPORTANCE_SAMPLING_LEVEL);
    c->epsilon = epsilon;
    c->epsilon_high = options_float_or(o, OPTION_EPSILON_HIGH, epsilon);
    c->delta = options_float_or(o, OPTION_DELTA, 0.0);
    c->sapo_temperature_pos = options_float(o, OPTION_SAPO_TEMPERATURE_POS);
    c->sapo_temperature_neg = options_float(o, OPTION_SAPO_TEMPERATURE_NEG);
    c->vespo_k_pos = options_float(o, OPTION_VESPO_K_POS);
    c->vespo_lambda_pos = options_float(o, OPTION_VESPO_LAMBDA_POS);
    c->vespo_k_neg = options_float(o, OPTION_VESPO_K_NEG);
    c->vespo_lambda_neg = options_float(o, OPTION_VESPO_LAMBDA_NEG);
    c->beta = options_float(o, OPTION_BETA);
    c->kl = (enum loss_kl)options_choice(o, OPTION_KL_ESTIMATOR);
    c->kl_correction = options_bool(o, OPTION_USE_BIAS_CORRECTION_KL);
    c->off_policy_mask = options_is_set(o, OPTION_OFF_POLICY_MASK_THRESHOLD);
    c->off_policy_threshold = options_float_or(o, OPTION_OFF_POLICY_MASK_THRESHOLD, 0.0);
    c->max_completion_length = run->grpo.config.max_completion_length;
    TRY(loss_check(c, err));
    if (c->kl_correction && !loss_traits(c->type)->corrects_kl)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "loss_type %s never multiplies its KL by a ratio (TRL's trainer of it does not either): leave "
                         "use_bias_correction_kl out",
                         options_choice_word(o, OPTION_LOSS_TYPE));
    if (!options_bool(o, OPTION_KL_IN_REWARD))
        return COHORT_OK;
    if (c->beta == 0.0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "kl_in_reward takes beta times the KL from the reward, and beta is 0: give beta, or leave "
                         "kl_in_reward out");
    if (c->kl_correction)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "use_bias_correction_kl is of the KL in the loss, and kl_in_reward puts it into the reward: "
                         "leave one of them out");
    run->grpo.config.reward_beta = c->beta;
    c->beta = 0.0;
    return COHORT_OK;
}

static cohort_status configure_entropy(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    struct grpo_config *c = &run->grpo.config;
    c->top_entropy_quantile = options_float(o, OPTION_TOP_ENTROPY_QUANTILE);
    c->filter_entropy = c->top_entropy_quantile < 1.0;
    run->grpo.entropy = (struct entropy_control){.coef = options_float(o, OPTION_ENTROPY_COEF),
                                                 .last = (double)INFINITY,
                                                 .adaptive = options_bool(o, OPTION_USE_ADAPTIVE_ENTROPY),
                                                 .least = options_float(o, OPTION_ENTROPY_COEF_MIN),
                                                 .most = options_float(o, OPTION_ENTROPY_COEF_MAX),
                                                 .delta = options_float(o, OPTION_ENTROPY_COEF_DELTA),
                                                 .target = options_float(o, OPTION_ENTROPY_TARGET)};
    if (run->grpo.entropy.least > run->grpo.entropy.most)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "entropy_coef_min %g is above entropy_coef_max %g: the bonus moves between them",
                         run->grpo.entropy.least, run->grpo.entropy.most);
    return COHORT_OK;
}

/* What goes on as asked, but seldom as meant. */
static void note_switches(const struct grpo_run *run)
{
    const struct options *o = run->t.options;
    const struct loss_config *c = &run->grpo.config.loss;
    const cohort_observer *observer = run->t.observer;
    const char *word = options_choice_word(o, OPTION_LOSS_TYPE);
    if (c->type == LOSS_CISPO && !options_is_set(o, OPTION_EPSILON_HIGH))
        observer_message(
            observer,
            "note: cispo caps the ratio at epsilon_high, which is unset and so %g (epsilon): every gradient is "
            "scaled by it; the paper's setting is epsilon_high 5.0",
            c->epsilon_high);
    if (c->type == LOSS_LUSPO && c->level != LOSS_LEVEL_SEQUENCE)
        observer_message(observer, "note: luspo is meant for importance_sampling_level sequence, as in its paper");
    if (c->type == LOSS_VESPO && c->level != LOSS_LEVEL_TOKEN)
        observer_message(observer,
                         "note: vespo has weights of whole sequences by itself; importance_sampling_level changes "
                         "the correction of the KL only");
    if (c->level == LOSS_LEVEL_SEQUENCE &&
        (c->type == LOSS_BNPO || c->type == LOSS_DR_GRPO || c->type == LOSS_DAPO || c->type == LOSS_CISPO))
        observer_message(
            observer,
            "note: with importance_sampling_level sequence, loss_type %s weighs sequences by their length; "
            "GSPO's paper has loss_type grpo",
            word);
    if (c->off_policy_mask && run->grpo.config.num_iterations == 1)
        observer_message(observer,
                         "note: off_policy_mask_threshold drops nothing with num_iterations 1: what is trained "
                         "on is exactly what the policy sampled");
}

static cohort_status configure(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    struct grpo_config *c = &run->grpo.config;
    int32_t n_completions = 0;
    TRY(session_batch_size(o, &n_completions, err));
    TRY(session_request(&run->t.session, o, &run->pattern, err));
    c->group = (int32_t)options_int(o, OPTION_NUM_GENERATIONS);
    c->max_completion_length = run->pattern.max_tokens;
    c->num_iterations = (int32_t)options_int(o, OPTION_NUM_ITERATIONS);
    c->sampling = run->pattern.sampling;
    c->seed = run->pattern.seed;
    TRY(configure_loss(run, err));
    TRY(configure_advantage(run, err));
    TRY(configure_entropy(run, err));
    c->mask_truncated = options_bool(o, OPTION_MASK_TRUNCATED_COMPLETIONS);
    c->stop = run->pattern.stop;
    c->n_stop = run->pattern.n_stop;
    c->n_choosable = run->pattern.n_choosable;
    c->reward_weights = run->scoring.weights;
    c->reward_names = run->scoring.names;
    c->n_functions = run->scoring.n;
    run->prompts_per_step = (int32_t)options_int(o, OPTION_PROMPTS_PER_STEP);
    run->save_steps = options_int(o, OPTION_SAVE_STEPS);
    run->eval_steps = options_int(o, OPTION_EVAL_STEPS);
    run->eval_n = 1;
    note_switches(run);
    if (c->sampling.top_k > 0 || (c->sampling.top_p > 0.0f && c->sampling.top_p < 1.0f) || c->sampling.min_p > 0.0f ||
        c->sampling.xtc_probability > 0.0f || c->sampling.repetition_penalty != 1.0f ||
        c->sampling.presence_penalty != 0.0f || c->sampling.frequency_penalty != 0.0f || c->sampling.n_bias > 0)
        observer_message(run->t.observer,
                         "note: filters, penalties or a bias change what is sampled; the log-probs trained on "
                         "are those of the plain "
                         "distribution at this temperature, so the policy gradient is biased by what they cut");
    return COHORT_OK;
}

cohort_status grpo_run_room(const struct grpo_run *run, int32_t *room, cohort_error *err)
{
    const struct options *o = run->t.options;
    *room = run->t.session.model->max_context - run->grpo.config.max_completion_length;
    if (*room < 1)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--max-completion-length %d leaves no room for a prompt in the model's context of %d",
                         (int)run->grpo.config.max_completion_length, (int)run->t.session.model->max_context);
    const int64_t asked = options_int_or(o, OPTION_MAX_PROMPT_LENGTH, *room);
    *room = asked < *room ? (int32_t)asked : *room;
    return COHORT_OK;
}

static cohort_status load_held_out(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    const char *path = options_string(o, OPTION_EVAL_DATA);
    int32_t room = 0;
    if (path == NULL)
        return COHORT_OK;
    size_t limit = (size_t)options_int_or(o, OPTION_EVAL_LIMIT, 0);
    TRY(grpo_run_room(run, &room, err));
    TRY(prompt_set_load(&run->held_out, &run->t.session, &run->scoring, OPTION_EVAL_DATA, limit, room, o,
                        run->t.observer, err));
    TRY(run_inputs_add(&run->t.inputs, INPUT_EVAL_DATA, path, run->held_out.data.sha256, err));
    run->has_held_out = true;
    if (run->held_out.longest > run->extent.max_prompt)
        run->extent.max_prompt = run->held_out.longest;
    return COHORT_OK;
}

static int32_t completions_per_step(const struct grpo_run *run)
{
    return run->prompts_per_step * run->grpo.config.group;
}

/* The KL is in the loss or in the reward. */
static bool wants_reference(const struct grpo_run *run) { return options_float(run->t.options, OPTION_BETA) != 0.0; }

static cohort_status allocate(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    struct memory_plan plan = {0};
    const int32_t P = run->extent.max_prompt, C = run->grpo.config.max_completion_length, n = completions_per_step(run);
    struct rollout_need need = {.sequences = (int32_t)options_int(t->options, OPTION_DECODE_CONCURRENCY)};
    rollout_need_add(&need, run->prompts_per_step, P, C, run->grpo.config.group);
    need.history = run->extent.lends ? need.context : rollout_history(&run->grpo.config.sampling, need.context);
    memory_plan_begin(&plan, t->session.model, t->options, wants_reference(run), &run->runner, n, P + C,
                      (int64_t)run->prompts_per_step * P + (int64_t)n * C);
    TRY(memory_plan_engine(&plan, t->session.tokenizer, &need, &run->engine, err));
    TRY(training_allocate(t, &plan, err));
    TRY(mem_alloc(&run->rows, (size_t)run->prompts_per_step, sizeof *run->rows, "batch", err));
    TRY(mem_alloc(&run->asked, (size_t)run->prompts_per_step, sizeof *run->asked, "batch", err));
    TRY(mem_alloc(&run->prompts, (size_t)run->prompts_per_step, sizeof *run->prompts, "batch", err));
    return mem_alloc(&run->metrics, (size_t)run->grpo.config.num_iterations, sizeof *run->metrics, "metrics", err);
}

/* Tells the observer how the reference's folder is read. */
static cohort_status tell_reference_notes(const struct grpo_run *run, cohort_error *err)
{
    const char *dir = options_string(run->t.options, OPTION_MODEL);
    struct model_config config = {0};
    struct text notes = {0};
    enum dtype type = DTYPE_F32;
    TRY(model_config_load(&config, NULL, dir, err));
    cohort_status status = session_type(run->t.options, &config, dir, false, &type, NULL, &notes, err);
    if (status == COHORT_OK)
        observer_notes(run->t.observer, &notes);
    text_free(&notes);
    return status;
}

/* The frozen reference is the model that the run began with. Where the policy was opened from the same folder, the
 * notes about it have been told. A resumed run has read a checkpoint instead, so it tells the notes and hashes the
 * reference here. */
static cohort_status load_reference(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    const char *dir = options_string(t->options, OPTION_MODEL);
    struct weight_files files = {0};
    if (!wants_reference(run))
        return COHORT_OK;
    if (dir == NULL) /* --resume CHECKPOINT without the run's config.yaml */
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--beta needs the model that the run began with as its reference: pass "
                         "--model DIR");
    if (t->resume_dir != NULL)
        TRY(tell_reference_notes(run, err));
    TRY(model_load_hashed(&run->grpo.reference, t->session.backend, dir, t->session.model->type, 0,
                          t->resume_dir == NULL ? NULL : &files, err));
    cohort_status status = t->resume_dir == NULL ? COHORT_OK : run_identity_add_model(&t->inputs, dir, &files, err);
    weight_files_free(&files);
    return status;
}

static double epoch_of(const struct grpo_run *run)
{
    return run->extent.rows == 0 ? (double)NAN
                                 : (double)run->grpo.batches * run->prompts_per_step / (double)run->extent.rows;
}

/* What rewards are told of the run; it stands until the next batch is drawn or the next evaluation begins. */
static void tell_progress(struct grpo_run *run)
{
    const double epoch = epoch_of(run);
    run->scoring.progress = (struct reward_progress){.step = run->t.state.step,
                                                     .max_steps = run->t.steps,
                                                     .epoch = isnan(epoch) ? 0.0 : epoch,
                                                     .tokens_seen = run->t.state.tokens_seen};
}

/* Adds all of an evaluation to metrics or nothing: a missing one is made up for by a run that resumes here
 * (owed_evaluation). */
static cohort_status held_out_metrics(struct grpo_run *run, struct metrics *metrics, cohort_error *err)
{
    const struct options *o = run->t.options;
    struct metrics found = {0};
    struct text samples = {0};
    char name[64];
    cohort_status status = COHORT_OK;
    if (!run->has_held_out)
        return COHORT_OK;
    struct evaluation evaluation = {.engine = run->engine,
                                    .scoring = &run->scoring,
                                    .set = &run->held_out,
                                    .pattern = run->pattern,
                                    .n = run->eval_n,
                                    .progress = report_evaluation,
                                    .progress_context = run};
    float *temperature = &evaluation.pattern.sampling.temperature;
    *temperature = (float)options_float_or(o, OPTION_EVAL_TEMPERATURE, (double)*temperature);
    tell_progress(run);
    TRY_GOTO(evaluation_run(&evaluation, &found, &samples, err));
    snprintf(name, sizeof name, "eval-step-%lld.jsonl", (long long)run->t.state.step);
    TRY_GOTO(run_folder_write(&run->t.run, name, samples.data, samples.length, err));
    observer_message(run->t.observer, "step %lld: held-out reward %.4f (%zu prompts)", (long long)run->t.state.step,
                     metrics_get(&found, "eval_reward"), run->held_out.data.n_rows);
    metrics_add(metrics, &found);
cleanup:
    metrics_free(&found);
    text_free(&samples);
    return status;
}

static cohort_status log_completions(struct grpo_run *run, cohort_error *err)
{
    if (!options_bool(run->t.options, OPTION_LOG_COMPLETIONS))
        return COHORT_OK;
    const struct prompt_batch prompts = grpo_run_prompts(run);
    cohort_status status = scoring_log(&run->scoring, &prompts, &run->batch, &run->t.run, run->t.state.step, err);
    if (status != COHORT_OK && run->t.run.logs[RUN_COMPLETIONS].pending.length == 0)
        run->t.lines_lost = true; /* could not even be kept for the checkpoint */
    return status;
}

/* Whether the current batch reached or passed a multiple of steps; never where steps is 0. */
static bool every(const struct grpo_run *run, int64_t steps)
{
    int64_t before = run->t.state.step - run->grpo.config.num_iterations;
    return steps > 0 && run->t.state.step / steps != before / steps;
}

/* Whether the held-out prompts are evaluated after the current batch. */
static bool evaluates_now(const struct grpo_run *run)
{
    return (run->t.steps > 0 && run->t.state.step >= run->t.steps) || every(run, run->eval_steps);
}

static void report_step(struct training *t, const struct metrics *last)
{
    char planned[32] = "";
    if (t->steps > 0)
        snprintf(planned, sizeof planned, "/%lld", (long long)t->steps);
    observer_message(t->observer,
                     "step %lld%s  reward %.4f  grad_norm %.3g  entropy %.3f  length %.0f  %.1f "
                     "s  (rollout %.0f tok/s, train %.0f tok/s)",
                     (long long)t->state.step, planned, metrics_get(last, "reward"), metrics_get(last, "grad_norm"),
                     metrics_get(last, "entropy"), metrics_get(last, "completions/mean_length"),
                     metrics_get(last, "step_time"), metrics_get(last, "throughput/rollout_tokens_per_second"),
                     metrics_get(last, "throughput/train_tokens_per_second"));
}

cohort_status grpo_run_rollout(struct grpo_run *run, struct prompt_set *set, const size_t *rows, const uint64_t *ids,
                               int32_t n, cohort_error *err)
{
    TRY(grpo_run_start(run, err));
    drop_batch(run);
    run->set = set;
    tell_progress(run);
    for (int32_t i = 0; i < n; i++) {
        TRY(prompt_set_read(set, rows[i], &run->asked[i], err));
        const struct token_list *tokens = &run->asked[i].ids;
        run->rows[i] = rows[i];
        run->prompts[i] = (struct grpo_prompt){.tokens = tokens->ids, .n_tokens = (int32_t)tokens->count, .id = ids[i]};
    }
    cohort_status status = grpo_generate(&run->grpo, run->prompts, n, &run->batch, err);
    if (status != COHORT_OK)
        scoring_abandon(&run->scoring);
    return status;
}

/* The controller of the entropy bonus outlives a step (I6). */
static void keep_entropy(struct grpo_run *run)
{
    run->t.state.adapts_entropy = run->grpo.entropy.adaptive;
    run->t.state.entropy_coef = run->grpo.entropy.coef;
    run->t.state.last_entropy = run->grpo.entropy.last;
}

static void restore_entropy(struct grpo_run *run)
{
    if (run->t.state.adapts_entropy) {
        run->grpo.entropy.coef = run->t.state.entropy_coef;
        run->grpo.entropy.last = run->t.state.last_entropy;
    }
    keep_entropy(run);
}

bool grpo_run_whole(const struct grpo_run *run)
{
    return run->grpo.optimizer.step + run->grpo.skipped == run->t.state.step;
}

cohort_status grpo_run_update(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    struct grpo *grpo = &run->grpo;
    cohort_status status = COHORT_OK;
    int32_t n_iterations = grpo->config.num_iterations;
    for (int32_t i = 0; i < n_iterations; i++)
        metrics_free(&run->metrics[i]);
    TRY(grpo_learn(grpo, run->prompts, &run->batch, run->metrics, err));
    if (grpo->warning[0] != '\0')
        observer_message(t->observer, "%s (%lld so far)", grpo->warning, (long long)grpo->skipped);
    t->state.step += n_iterations;
    t->state.skipped = grpo->skipped;
    t->state.batches = grpo->batches;
    t->state.tokens_seen = grpo->tokens_seen;
    keep_entropy(run);
    scoring_take_metrics(&run->scoring, "", &run->metrics[0]);
    struct metrics *last = &run->metrics[n_iterations - 1];
    bool end = t->steps > 0 && t->state.step >= t->steps;
    /* A failure here comes after the update: the step is logged all the same, because it will not be repeated. The
     * first failure is reported. */
    cohort_status failed = log_completions(run, err);
    const bool evaluates = evaluates_now(run);
    if (failed == COHORT_OK && evaluates)
        failed = held_out_metrics(run, last, err);
    for (int32_t i = 0; i < n_iterations; i++) {
        cohort_status logged = training_log(t, t->state.step - n_iterations + 1 + i, epoch_of(run), &run->metrics[i],
                                            failed == COHORT_OK ? err : NULL);
        failed = failed == COHORT_OK ? logged : failed;
        training_watch(t, &run->metrics[i]);
    }
    TRY_GOTO(failed);
    training_draw(t, evaluates ? DRAW_EVALUATION : DRAW_STEP);
    if (end || every(run, options_int(t->options, OPTION_LOGGING_STEPS)))
        report_step(t, last);
    TRY_GOTO(training_save(t, &grpo->optimizer, end || every(run, run->save_steps), err));
cleanup:
    drop_batch(run);
    return status;
}

/* The evaluation of the step that a run resumes from, if it is still owed. */
static cohort_status owed_evaluation(struct grpo_run *run, cohort_error *err)
{
    struct metrics metrics = {0};
    bool owes = false;
    cohort_status status = COHORT_OK;
    if (!run->has_held_out || !evaluates_now(run))
        return COHORT_OK;
    TRY(training_owes_evaluation(&run->t, "eval_reward", &owes, err));
    if (!owes)
        return COHORT_OK;
    TRY_GOTO(held_out_metrics(run, &metrics, err));
    TRY_GOTO(training_log_evaluation(&run->t, &metrics, err));
cleanup:
    metrics_free(&metrics);
    return status;
}

cohort_status grpo_run_start(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    if (run->started)
        return COHORT_OK;
    if (t->state.step == 0 && run->has_held_out) {
        struct metrics metrics = {0};
        cohort_status status = held_out_metrics(run, &metrics, err);
        if (status == COHORT_OK)
            status = training_log(t, 0, run->extent.rows == 0 ? (double)NAN : 0.0, &metrics, err);
        metrics_free(&metrics);
        TRY(status);
    }
    if (run->grpo.config.num_iterations == 1 && run->grpo.config.loss.beta == 0.0 &&
        !entropy_control_on(&run->grpo.entropy) && loss_traits(run->grpo.config.loss.type)->event == NULL)
        observer_message(t->observer, "note: on-policy, the ratio is 1 and the loss stays near 0 "
                                      "while its gradient does not; watch reward and grad_norm");
    TRY(owed_evaluation(run, err));
    run->started = true;
    return COHORT_OK;
}

cohort_status grpo_run_open(struct grpo_run *run, struct options *options, const struct reward_list *extra,
                            const cohort_observer *observer, cohort_error *err)
{
    memset(run, 0, sizeof *run);
    TRY(training_open(&run->t, options, "grpo", observer, err));
    TRY(scoring_open(&run->scoring, options, extra, err));
    run->scoring.observer = observer;
    run->scoring.keeps_extra = options_bool(options, OPTION_LOG_COMPLETIONS);
    TRY(configure(run, err));
    return run_identity_add_rewards(&run->t.inputs, options, err);
}

cohort_status grpo_run_begin(struct grpo_run *run, const struct grpo_extent *extent, cohort_error *err)
{
    struct training *t = &run->t;
    struct grpo *grpo = &run->grpo;
    run->extent = *extent;
    t->steps = extent->steps;
    TRY(training_plan_schedule(t, err));
    TRY(load_held_out(run, err));
    TRY(allocate(run, err));
    TRY(load_reference(run, err));
    TRY(training_begin(t, err));
    restore_entropy(run);
    grpo->config.schedule = t->schedule;
    grpo->model = t->session.model;
    grpo->engine = run->engine;
    grpo->runner = &run->runner;
    grpo->optimizer = training_optimizer(t);
    grpo->batches = t->state.batches;
    grpo->skipped = t->state.skipped;
    grpo->tokens_seen = t->state.tokens_seen;
    grpo->reward = score_batch;
    grpo->reward_context = run;
    grpo->arrived = begin_rewards;
    grpo->arrived_context = run;
    grpo->progress = report;
    grpo->progress_context = run;
    training_curve(t, "reward", run->has_held_out ? "eval_reward" : NULL, "GRPO: reward", "reward.svg");
    return COHORT_OK;
}

cohort_status grpo_run_finish(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    training_watch_end(t);
    TRY(training_save_final(t, err));
    training_draw(t, DRAW_END);
    observer_message(t->observer, "done: %s/final is the trained model, %s/reward.svg the curve", t->run.path,
                     t->run.path);
    return COHORT_OK;
}

void grpo_run_rescue(struct grpo_run *run) { training_rescue(&run->t, &run->grpo.optimizer); }

void grpo_run_close(struct grpo_run *run)
{
    drop_batch(run);
    engine_destroy(run->engine);
    tree_runner_free(&run->runner);
    model_destroy(run->grpo.reference);
    prompt_set_free(&run->held_out);
    scoring_close(&run->scoring);
    session_request_free(&run->pattern);
    for (int32_t i = 0; run->asked != NULL && i < run->prompts_per_step; i++)
        prompt_free(&run->asked[i]);
    mem_free(run->asked);
    mem_free(run->rows);
    mem_free(run->prompts);
    for (int32_t i = 0; run->metrics != NULL && i < run->grpo.config.num_iterations; i++)
        metrics_free(&run->metrics[i]);
    mem_free(run->metrics);
    training_close(&run->t);
}
