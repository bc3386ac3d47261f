/* Batches for the tests of the loss core: sequences with their own memory, read from a fixture or random, and every
 * combination of the core's switches. Included by programs of cmocka. */
#ifndef COHORT_TESTS_LOSS_BATCH_H
#define COHORT_TESTS_LOSS_BATCH_H

#include "base/rng.h"
#include "train/loss.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define MAX_TOKENS    16
#define MAX_SEQUENCES 16

struct batch {
    size_t n;
    struct loss_sequence sequence[MAX_SEQUENCES];
    float logp[MAX_SEQUENCES][MAX_TOKENS], logp_old[MAX_SEQUENCES][MAX_TOKENS];
    float logp_ref[MAX_SEQUENCES][MAX_TOKENS], entropy[MAX_SEQUENCES][MAX_TOKENS];
    bool kept[MAX_SEQUENCES][MAX_TOKENS];
    float advantages[MAX_SEQUENCES][MAX_TOKENS];
    float d_logp[MAX_SEQUENCES][MAX_TOKENS], d_entropy[MAX_SEQUENCES][MAX_TOKENS];
    double entropy_coef;
};

static inline struct loss_sequence *batch_add(struct batch *batch, int32_t n_tokens)
{
    assert_true(batch->n < MAX_SEQUENCES && n_tokens <= MAX_TOKENS);
    size_t i = batch->n++;
    batch->sequence[i] = (struct loss_sequence){.n_tokens = n_tokens,
                                                .logp = batch->logp[i],
                                                .logp_old = batch->logp_old[i],
                                                .logp_ref = batch->logp_ref[i],
                                                .d_logp = batch->d_logp[i],
                                                .d_entropy = batch->d_entropy[i],
                                                .entropy = batch->entropy[i]};
    return &batch->sequence[i];
}

static inline struct loss_scale batch_scale(const struct batch *batch)
{
    struct loss_scale scale = {.n_sequences = (int64_t)batch->n, .entropy_coef = batch->entropy_coef};
    for (size_t i = 0; i < batch->n; i++) {
        const struct loss_sequence *sequence = &batch->sequence[i];
        if (sequence->masked)
            continue;
        scale.n_tokens += sequence->n_tokens;
        for (int32_t t = 0; t < sequence->n_tokens; t++)
            scale.n_kept += sequence->kept == NULL || sequence->kept[t] ? 1 : 0;
    }
    return scale;
}

static inline struct loss_sums batch_apply(const struct batch *batch, const struct loss_config *config)
{
    struct loss_scale scale = batch_scale(batch);
    struct loss_sums sums;
    loss_sums_init(&sums);
    for (size_t i = 0; i < batch->n; i++)
        loss_sequence_apply(config, &scale, &batch->sequence[i], &sums);
    return sums;
}

static inline void check(const char *what, size_t index, double got, double want, double relative, double absolute)
{
    if (isnan(want) ? isnan(got) : fabs(got - want) <= relative * fabs(want) + absolute)
        return;
    fail_msg("%s of case %zu: %.15g, expected %.15g", what, index, got, want);
}

/* ---- Fixtures ---- */

static inline json_t *load_fixture(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (root == NULL)
        fail_msg("%s: %s", path, error.text);
    return root;
}

static inline const char *text_of(const json_t *item, const char *key)
{
    const char *text = json_string_value(json_object_get(item, key));
    assert_non_null(text);
    return text;
}

static inline double number_of(const json_t *item, const char *key)
{
    const json_t *value = json_object_get(item, key);
    if (value == NULL)
        fail_msg("no %s", key);
    return json_is_null(value) ? (double)NAN : json_number_value(value);
}

static inline void read_floats(const json_t *item, const char *key, float *out, size_t n)
{
    const json_t *array = json_object_get(item, key);
    assert_int_equal(json_array_size(array), n);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)json_number_value(json_array_get(array, i));
}

static inline void read_batch(const json_t *json, struct batch *batch)
{
    batch->n = 0;
    batch->entropy_coef = 0.0;
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(json, "sequences"), index, item)
    {
        size_t n = json_array_size(json_object_get(item, "logp"));
        struct loss_sequence *sequence = batch_add(batch, (int32_t)n);
        sequence->masked = json_is_true(json_object_get(item, "masked"));
        if (json_is_array(json_object_get(item, "advantage"))) {
            read_floats(item, "advantage", batch->advantages[index], n);
            sequence->advantages = batch->advantages[index];
        } else {
            sequence->advantage = (float)number_of(item, "advantage");
        }
        read_floats(item, "logp", batch->logp[index], n);
        read_floats(item, "logp_old", batch->logp_old[index], n);
        read_floats(item, "logp_ref", batch->logp_ref[index], n);
        read_floats(item, "entropy", batch->entropy[index], n);
    }
}

#define WORD(id, word, ...) word,
#define ONE(id, ...)        +1
enum { N_LOSSES = 0 LOSS_LIST(ONE), N_LEVELS = 0 LOSS_LEVEL_LIST(ONE), N_KL = 0 LOSS_KL_LIST(ONE) };

static inline size_t word_index(const char *const *words, size_t count, const char *word)
{
    size_t i = 0;
    while (strcmp(words[i], word) != 0)
        assert_true(++i < count);
    return i;
}

/* With TRL's defaults of what a fixture does not name. */
static inline struct loss_config read_config(const json_t *item, int32_t max_completion_length)
{
    static const char *const names[] = {LOSS_LIST(WORD)};
    static const char *const levels[] = {LOSS_LEVEL_LIST(WORD)};
    struct loss_config config = {
        .epsilon = number_of(item, "epsilon"),
        .epsilon_high = number_of(item, "epsilon_high"),
        .delta = number_of(item, "delta"),
        .sapo_temperature_pos = 1.0,
        .sapo_temperature_neg = 1.05,
        .vespo_k_pos = 2.0,
        .vespo_lambda_pos = 3.0,
        .vespo_k_neg = 3.0,
        .vespo_lambda_neg = 2.0,
        .beta = number_of(item, "beta"),
        .kl = LOSS_KL_K3,
        .max_completion_length = max_completion_length,
    };
    config.type = (enum loss_type)word_index(names, N_LOSSES, text_of(item, "type"));
    config.level = (enum loss_level)word_index(levels, N_LEVELS, text_of(item, "level"));
    return config;
}

/* ---- Random batches, every switch ---- */

static uint64_t draw_counter;

static inline float uniform(float low, float high)
{
    struct rng_block block = rng_philox(3, RNG_TEST, 0, draw_counter++);
    return low + (high - low) * rng_uniform(block.word[0]);
}

/* filters: half of the tokens have no policy term. */
static inline void random_batch(struct batch *batch, size_t n, bool filters, double entropy_coef)
{
    batch->n = 0;
    batch->entropy_coef = entropy_coef;
    for (size_t i = 0; i < n; i++) {
        int32_t length = 1 + (int32_t)uniform(0, MAX_TOKENS - 1);
        struct loss_sequence *sequence = batch_add(batch, length);
        sequence->masked = i % 4 == 3;
        sequence->advantage = uniform(-2, 2);
        sequence->kept = filters ? batch->kept[i] : NULL;
        for (int32_t t = 0; t < length; t++) {
            batch->logp[i][t] = uniform(-4, 0);
            batch->logp_old[i][t] = batch->logp[i][t] + uniform(-.5f, .5f);
            batch->logp_ref[i][t] = batch->logp[i][t] + uniform(-.5f, .5f);
            batch->entropy[i][t] = uniform(0, 3);
            batch->kept[i][t] = uniform(0, 1) < 0.5f;
        }
    }
}

/* Two of three sequences get an advantage for each token, some of them 0. */
static inline void random_advantages(struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        if (i % 3 == 2)
            continue;
        batch->sequence[i].advantages = batch->advantages[i];
        for (int32_t t = 0; t < batch->sequence[i].n_tokens; t++)
            batch->advantages[i][t] = uniform(0, 1) < 0.1f ? 0.0f : uniform(-2, 2);
    }
}

/* Every legal combination of type, level, delta and KL (off, or an estimator, corrected or not); the off-policy mask,
 * the filter and the bonus take turns. Returns false for what is not legal. */
#define N_CONFIGS (N_LOSSES * N_LEVELS * 2 * (1 + 2 * N_KL))
static inline bool config_number(int i, struct loss_config *config)
{
    const int kl = i / (2 * N_LEVELS * N_LOSSES);
    *config = (struct loss_config){
        .type = (enum loss_type)(i % N_LOSSES),
        .level = (enum loss_level)(i / N_LOSSES % N_LEVELS),
        .delta = i / (N_LEVELS * N_LOSSES) % 2 ? 1.35 : 0.0,
        .epsilon = 0.1,
        .epsilon_high = 0.15,
        .sapo_temperature_pos = 0.8,
        .sapo_temperature_neg = 1.4,
        .vespo_k_pos = 1.5,
        .vespo_lambda_pos = 2.5,
        .vespo_k_neg = 3.5,
        .vespo_lambda_neg = 2.0,
        .beta = kl > 0 ? 0.3 : 0.0,
        .kl = (enum loss_kl)(kl > 0 ? (kl - 1) % N_KL : 0),
        .kl_correction = kl > N_KL,
        .off_policy_mask = i % 5 == 2,
        .off_policy_threshold = 0.02,
        .max_completion_length = 20,
    };
    if (config->type == LOSS_CISPO)
        config->epsilon_high = 1.15;
    return loss_check(config, NULL) == COHORT_OK;
}
static inline bool config_filters(int i) { return i % 3 == 1; }
static inline double config_bonus(int i) { return i % 4 == 1 ? 0.7 : 0.0; }

#endif
