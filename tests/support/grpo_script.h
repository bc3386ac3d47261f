/* Scripted GRPO: rounds of prompts, completions and rewards as oracle/grpo_steps_trl.py and grpo_hundred_trl.py write
 * them, and the settings of TRL's trainer that ran on them, as this library's structs. */
#ifndef COHORT_TESTS_SUPPORT_GRPO_SCRIPT_H
#define COHORT_TESTS_SUPPORT_GRPO_SCRIPT_H

#include "support/model_test.h"

#include "train/grpo.h"

enum { GROUP = 4, N_PROMPTS = 2, N_ROWS = GROUP * N_PROMPTS, MAX_PROMPT = 80, MAX_COMPLETION = 24 };

struct round {
    int32_t prompt[N_PROMPTS][MAX_PROMPT], tokens[N_ROWS][MAX_COMPLETION];
    float logp[N_ROWS][MAX_COMPLETION], entropy[N_ROWS][MAX_COMPLETION];
    struct grpo_prompt prompts[N_PROMPTS];
    struct episode episodes[N_ROWS];
    struct completion_tokens spans[N_ROWS];
    struct tree trees[N_PROMPTS];
    double reward[N_ROWS];
    struct grpo_batch batch;
    float advantage[N_ROWS], row_reward[N_ROWS];
    struct advantage_output output;
    double mean, std;
};

static inline bool is_eos(const struct model_config *config, int32_t token)
{
    for (int32_t i = 0; i < config->n_eos; i++)
        if (config->eos_ids[i] == token)
            return true;
    return false;
}

/* r is large and points into itself: filled in place. */
static inline void round_read(struct round *r, const json_t *json, const struct model_config *config)
{
    memset(r, 0, sizeof *r);
    for (size_t p = 0; p < N_PROMPTS; p++) {
        int32_t n = read_ids(json_array_get(json_object_get(json, "prompts"), p), r->prompt[p], MAX_PROMPT);
        r->prompts[p] = (struct grpo_prompt){.tokens = r->prompt[p], .n_tokens = n, .id = p};
        r->trees[p] = (struct tree){
            .prompt = r->prompt[p], .n_prompt = n, .completions = &r->spans[p * GROUP], .n_completions = GROUP};
    }
    for (size_t i = 0; i < N_ROWS; i++) {
        int32_t n = read_ids(json_array_get(json_object_get(json, "completions"), i), r->tokens[i], MAX_COMPLETION);
        const json_t *reward = json_array_get(json_object_get(json, "rewards"), i);
        r->reward[i] = json_is_null(reward) ? (double)NAN : json_number_value(reward);
        r->spans[i] = (struct completion_tokens){.tokens = r->tokens[i], .n_tokens = n};
        r->episodes[i] =
            (struct episode){.n_tokens = n,
                             .n_sampled = n,
                             .tokens = r->tokens[i],
                             .finish_reason = is_eos(config, r->tokens[i][n - 1]) ? FINISH_EOS : FINISH_LENGTH};
    }
    r->batch = (struct grpo_batch){.n_prompts = N_PROMPTS,
                                   .n = N_ROWS,
                                   .episodes = r->episodes,
                                   .rewards = r->reward,
                                   .reward = r->row_reward,
                                   .advantage = r->advantage};
}

static inline double setting(const json_t *settings, const char *key, double otherwise)
{
    const json_t *value = json_object_get(settings, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

/* The index of a setting's word among words. */
static inline int choice_of(const json_t *settings, const char *key, const char *const *words, int n)
{
    const char *word = json_string_value(json_object_get(settings, key));
    assert_non_null(word);
    for (int i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    fail_msg("%s: %s is not known", key, word);
    return 0;
}

#define SCRIPT_WORD(id, word, ...) word,
#define CHOICE(settings, key, list)                                                                                    \
    choice_of(settings, key, (const char *const[]){list(SCRIPT_WORD)}, sizeof((int[]){list(SCRIPT_ONE)}) / sizeof(int))
#define SCRIPT_ONE(...) 0,

static inline struct schedule schedule_of(const json_t *settings)
{
    struct schedule schedule;
    cohort_error err = {0};
    schedule_init(&schedule, (enum schedule_type)CHOICE(settings, "lr_scheduler_type", SCHEDULE_LIST),
                  json_number(settings, "learning_rate"));
    must(schedule_plan(&schedule, json_number(settings, "warmup_steps"), (int64_t)json_number(settings, "max_steps"),
                       &err),
         &err);
    return schedule;
}

/* Settings of TRL's RLOOTrainer, whose loss, advantages and KL have no names there. */
static inline void rloo_config(struct grpo_config *config, const json_t *settings)
{
    const json_t *range = json_object_get(settings, "reward_clip_range");
    config->loss.type = LOSS_RLOO;
    config->loss.beta = 0.0;
    config->loss.kl = LOSS_KL_K1;
    config->reward_beta = json_number(settings, "beta");
    config->advantage.estimator = ADVANTAGE_RLOO;
    config->advantage.scale =
        json_is_true(json_object_get(settings, "normalize_advantages")) ? ADVANTAGE_SCALE_BATCH : ADVANTAGE_SCALE_NONE;
    config->advantage.clips = json_array_size(range) == 2;
    config->advantage.clip_low = json_number_value(json_array_get(range, 0));
    config->advantage.clip_high = json_number_value(json_array_get(range, 1));
}

static inline struct grpo_config config_of(const json_t *settings)
{
    assert_int_equal(json_number(settings, "num_generations"), GROUP);
    const double top = setting(settings, "top_entropy_quantile", 1.0);
    const bool rloo = json_object_get(settings, "loss_type") == NULL;
    struct grpo_config config = {
        .group = GROUP,
        .max_completion_length = MAX_COMPLETION,
        .plan = {1, 1, (int32_t)json_number(settings, "num_iterations")},
        .sampling = {.temperature = (float)json_number(settings, "temperature")},
        .mask_truncated = json_is_true(json_object_get(settings, "mask_truncated_completions")),
        .loss = {.type = rloo ? LOSS_RLOO : (enum loss_type)CHOICE(settings, "loss_type", LOSS_LIST),
                 .level = rloo ? LOSS_LEVEL_TOKEN
                               : (enum loss_level)CHOICE(settings, "importance_sampling_level", LOSS_LEVEL_LIST),
                 .epsilon = json_number(settings, "epsilon"),
                 .epsilon_high = json_number(settings, "epsilon_high"),
                 .sapo_temperature_pos = 1.0,
                 .sapo_temperature_neg = 1.05,
                 .beta = json_number(settings, "beta"),
                 .kl_correction = json_is_true(json_object_get(settings, "use_bias_correction_kl")),
                 .off_policy_mask = json_object_get(settings, "off_policy_mask_threshold") != NULL,
                 .off_policy_threshold = setting(settings, "off_policy_mask_threshold", 0.0),
                 .max_completion_length = MAX_COMPLETION},
        .advantage = {.scale = rloo ? ADVANTAGE_SCALE_NONE
                                    : (enum advantage_scale)CHOICE(settings, "scale_rewards", ADVANTAGE_SCALE_LIST),
                      .epsilon = 1e-4}, /* TRL's constant */
        .filter_entropy = top < 1.0,
        .top_entropy_quantile = top,
        .schedule = schedule_of(settings)};
    if (rloo)
        rloo_config(&config, settings);
    return config;
}

static inline struct entropy_control control_of(const json_t *settings)
{
    return (struct entropy_control){.coef = setting(settings, "entropy_coef", 0.0),
                                    .last = (double)INFINITY,
                                    .adaptive = json_is_true(json_object_get(settings, "use_adaptive_entropy")),
                                    .most = setting(settings, "entropy_coef_max", 1.0),
                                    .delta = setting(settings, "entropy_coef_delta", 0.005),
                                    .target = setting(settings, "entropy_target", 0.2)};
}

static inline struct optimizer optimizer_of(const json_t *settings)
{
    return (struct optimizer){.beta1 = (float)json_number(settings, "adam_beta1"),
                              .beta2 = (float)json_number(settings, "adam_beta2"),
                              .eps = (float)json_number(settings, "adam_epsilon"),
                              .weight_decay = (float)json_number(settings, "weight_decay"),
                              .max_grad_norm = json_number(settings, "max_grad_norm")};
}

/* Log-probs of the round's completions by model into to, compared with TRL's if it recorded them.
 */
static inline void score(struct model_test *test, struct model *model, const struct round *r,
                         const struct grpo_config *config, const json_t *seen, const char *key,
                         float to[N_ROWS][MAX_COMPLETION], float entropy[N_ROWS][MAX_COMPLETION], const char *run,
                         struct tally *tally)
{
    float *rows[N_ROWS], *entropies[N_ROWS];
    cohort_error err = {0};
    for (int i = 0; i < N_ROWS; i++) {
        rows[i] = to[i];
        entropies[i] = entropy[i];
    }
    must(tree_runner_score(&test->runner, model, r->trees, N_PROMPTS, config->sampling.temperature, rows, entropies,
                           &err),
         &err);
    const json_t *recorded = json_object_get(seen, key);
    for (size_t i = 0; i < N_ROWS && recorded != NULL; i++) {
        const json_t *row = json_array_get(recorded, i);
        double worst = 0;
        assert_int_equal(json_array_size(row), r->spans[i].n_tokens);
        for (size_t t = 0; t < json_array_size(row); t++)
            worst = fmax(worst, fabs(json_number_value(json_array_get(row, t)) - (double)to[i][t]));
        tally_add(tally, worst, run, key);
    }
}

#endif
