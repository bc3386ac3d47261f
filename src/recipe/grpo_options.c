/* What a GRPO run is, from its options. */
#include "recipe/grpo_run.h"

#include "recipe/routing_options.h"

#include <math.h>
#include <stdio.h>

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
    case ADVANTAGE_GRPO:
    case ADVANTAGE_PASS_AT_K: break;
    case ADVANTAGE_RLOO: TRY(default_to(o, OPTION_SCALE_REWARDS, "scale_rewards", "none", err)); break;
    case ADVANTAGE_REINFORCE_PLUS_PLUS:
    case ADVANTAGE_REINFORCE_PLUS_PLUS_BASELINE:
        TRY(default_to(o, OPTION_SCALE_REWARDS, "scale_rewards", "batch", err));
        break;
    }
    c->aggregation = (enum advantage_aggregation)options_choice(o, OPTION_MULTI_OBJECTIVE_AGGREGATION);
    c->scale = (enum advantage_scale)options_choice(o, OPTION_SCALE_REWARDS);
    c->epsilon = options_float(o, OPTION_ADVANTAGE_EPSILON);
    c->k = (int32_t)options_int(o, OPTION_ADVANTAGE_K);
    if (c->estimator == ADVANTAGE_PASS_AT_K && c->k > options_int(o, OPTION_NUM_GENERATIONS))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "advantage_k %d is above num_generations %d: a group has no so many completions to draw from",
                         (int)c->k, (int)options_int(o, OPTION_NUM_GENERATIONS));
    c->clips = options_given(o, OPTION_REWARD_CLIP_RANGE);
    if (c->clips && options_list_count(o, OPTION_REWARD_CLIP_RANGE) != 2)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward_clip_range has %zu numbers: expected two, the least and the most that a reward counts",
                         options_list_count(o, OPTION_REWARD_CLIP_RANGE));
    if (c->clips) {
        c->clip_low = options_list_number(o, OPTION_REWARD_CLIP_RANGE, 0);
        c->clip_high = options_list_number(o, OPTION_REWARD_CLIP_RANGE, 1);
    }
    return advantage_check(c, run->grpo.config.reward_beta != 0.0, err); /* configure_loss was called */
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
    if (c->beta == 0.0 && !options_given(o, OPTION_KL_IN_REWARD)) /* rloo's default, and no KL */
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

/* ---- Batches and steps ---- */

static cohort_status configure_steps(struct grpo_run *run, cohort_error *err)
{
    struct options *o = run->t.options;
    struct step_counts counts = {
        .group = options_int(o, OPTION_NUM_GENERATIONS),
        .iterations = run->distills ? 1 : options_int(o, OPTION_NUM_ITERATIONS),
        .slice = options_int_or(o, OPTION_PER_DEVICE_TRAIN_BATCH_SIZE, 0),
        .accumulated = options_int(o, OPTION_GRADIENT_ACCUMULATION_STEPS),
        .slices = run->distills ? 0 : options_int_or(o, OPTION_STEPS_PER_GENERATION, 0),
        .completions = run->distills ? 0 : options_int_or(o, OPTION_GENERATION_BATCH_SIZE, 0),
        .prompts = options_given(o, OPTION_PROMPTS_PER_STEP) ? options_int(o, OPTION_PROMPTS_PER_STEP) : 0};
    char text[32];
    TRY(step_plan_count(&run->grpo.config.plan, &counts, options_int(o, OPTION_PROMPTS_PER_STEP), err));
    snprintf(text, sizeof text, "%lld", (long long)counts.prompts);
    run->t.plan = run->grpo.config.plan;
    return default_to(o, OPTION_PROMPTS_PER_STEP, "prompts_per_step", text, err);
}

static cohort_status configure_reference(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    run->reference.wanted = options_float(o, OPTION_BETA) != 0.0;
    return run_reference_configure(&run->reference, o, run->t.observer,
                                   "beta is 0, so that there is none: give beta, or leave sync_ref_model out", err);
}

static cohort_status configure_dynamic(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    run->dynamic.on = options_bool(o, OPTION_DYNAMIC_SAMPLING);
    run->dynamic.refills = (int32_t)options_int(o, OPTION_DYNAMIC_SAMPLING_REFILLS);
    run->dynamic.oversample = options_float(o, OPTION_DYNAMIC_SAMPLING_OVERSAMPLE);
    if (!run->dynamic.on)
        return COHORT_OK;
    if (run->grpo.config.advantage.estimator == ADVANTAGE_REINFORCE_PLUS_PLUS)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "dynamic_sampling drops groups without a spread, and advantage_estimator reinforce_plus_plus "
                         "compares with the batch, where such groups count: leave one of them out");
    if (run->dynamic.oversample * (double)options_int(o, OPTION_PROMPTS_PER_STEP) > 65536.0)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "dynamic_sampling_oversample %g times prompts_per_step %lld: at most 65536 prompts are drawn at "
            "once",
            run->dynamic.oversample, (long long)options_int(o, OPTION_PROMPTS_PER_STEP));
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
    if (c->off_policy_mask && !step_plan_reuses(&run->grpo.config.plan))
        observer_message(
            observer,
            "note: off_policy_mask_threshold drops nothing with %s: what is trained on is exactly what the "
            "policy sampled",
            run->grpo.config.plan.slices == 1 ? "num_iterations 1" : "one step for each batch");
}

/* Of what a batch's rewards become; a run that distills makes nothing of them. */
static cohort_status configure_learning(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    struct grpo_config *c = &run->grpo.config;
    TRY(configure_loss(run, err));
    TRY(configure_advantage(run, err));
    TRY(configure_entropy(run, err));
    TRY(configure_reference(run, err));
    TRY(configure_dynamic(run, err));
    c->mask_truncated = options_bool(o, OPTION_MASK_TRUNCATED_COMPLETIONS);
    run->grpo.routing.replay = (enum router_replay)options_choice(o, OPTION_ROUTER_REPLAY);
    if (run->grpo.routing.replay == ROUTER_REPLAY_ROLLOUT) {
        c->route_width = route_width(&run->t.session.model->config);
        c->n_experts = run->t.session.model->config.experts.n;
    }
    return COHORT_OK;
}

cohort_status grpo_run_configure(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    struct grpo_config *c = &run->grpo.config;
    int32_t n_completions = 0;
    TRY(configure_steps(run, err));
    TRY(session_batch_size(o, &n_completions, err));
    TRY(session_request(&run->t.session, o, &run->pattern, err));
    c->group = (int32_t)options_int(o, OPTION_NUM_GENERATIONS);
    c->max_completion_length = run->pattern.max_tokens;
    c->sampling = run->pattern.sampling;
    c->seed = run->pattern.seed;
    TRY(routing_options(&run->grpo.routing, o, &run->t.session.model->config, err));
    if (!run->distills)
        TRY(configure_learning(run, err));
    c->stop = run->pattern.stop;
    c->n_stop = run->pattern.n_stop;
    c->n_choosable = run->pattern.n_choosable;
    c->reward_weights = run->scoring.weights;
    c->reward_names = run->scoring.names;
    c->n_functions = run->scoring.n;
    run->prompts_per_step = (int32_t)options_int(o, OPTION_PROMPTS_PER_STEP);
    run->save_steps = options_int(o, OPTION_SAVE_STEPS);
    run->eval_steps = options_int(o, OPTION_EVAL_STEPS);
    TRY(best_model_open(&run->best, o, options_string(o, OPTION_METRIC_FOR_BEST_MODEL), run->eval_steps > 0, err));
    run->eval_n = (int32_t)options_int(o, OPTION_NUM_GENERATIONS_EVAL);
    if (run->distills) /* what is sampled is where distributions are compared, and no more */
        return COHORT_OK;
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
