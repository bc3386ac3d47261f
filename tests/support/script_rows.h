/* Fixed completions for the tests that divide an optimizer step: round 4 of the GRPO script, eight completions of
 * different lengths for two prompts. Included by programs of cmocka. */
#ifndef COHORT_TESTS_SCRIPT_ROWS_H
#define COHORT_TESTS_SCRIPT_ROWS_H

#include "support/model_test.h"

#include "train/grpo.h"

enum { GROUP = 4, N_PROMPTS = 2, N_ROWS = GROUP * N_PROMPTS, MAX_IDS = 100 };

struct script_rows {
    int32_t prompt[N_PROMPTS][MAX_IDS], tokens[N_ROWS][MAX_IDS];
    struct grpo_prompt prompts[N_PROMPTS];
    struct episode episodes[N_ROWS]; /* ended by EOS; no log-probs yet */
    struct completion_tokens spans[N_ROWS];
    struct tree trees[N_ROWS]; /* one for each row */
    float advantage[N_ROWS];
    float of_tokens[N_ROWS][MAX_IDS], *token_advantages[N_ROWS]; /* of tokens, where a test wants them */
    float logp[N_ROWS][MAX_IDS];                                 /* room for old log-probs */
    float reward[N_ROWS];                                        /* of a batch, unused */
    double rewards[N_ROWS];
    int32_t longest; /* tokens that the longest row needs */
};

static inline void script_rows_read(struct script_rows *rows)
{
    json_t *script = load_json(FIXTURES "grpo_steps/script.json");
    const json_t *round = json_array_get(json_object_get(script, "rounds"), 4);
    memset(rows, 0, sizeof *rows);
    for (size_t i = 0; i < N_ROWS; i++) {
        const size_t p = i / GROUP;
        int32_t n_prompt = read_ids(json_array_get(json_object_get(round, "prompts"), p), rows->prompt[p], MAX_IDS);
        int32_t n = read_ids(json_array_get(json_object_get(round, "completions"), i), rows->tokens[i], MAX_IDS);
        rows->prompts[p] = (struct grpo_prompt){.tokens = rows->prompt[p], .n_tokens = n_prompt};
        rows->spans[i] = (struct completion_tokens){.tokens = rows->tokens[i], .n_tokens = n};
        rows->episodes[i] =
            (struct episode){.tokens = rows->tokens[i], .n_tokens = n, .n_sampled = n, .finish_reason = FINISH_EOS};
        rows->trees[i] = (struct tree){
            .prompt = rows->prompt[p], .n_prompt = n_prompt, .completions = &rows->spans[i], .n_completions = 1};
        rows->token_advantages[i] = rows->of_tokens[i];
        rows->advantage[i] = 0.25f * (float)i - 0.8f;
        rows->longest = n_prompt + n - 1 > rows->longest ? n_prompt + n - 1 : rows->longest;
    }
    json_decref(script);
}

/* Points into rows. */
static inline struct grpo_batch script_batch(struct script_rows *rows)
{
    return (struct grpo_batch){.n_prompts = N_PROMPTS,
                               .n = N_ROWS,
                               .episodes = rows->episodes,
                               .rewards = rows->rewards,
                               .reward = rows->reward,
                               .advantage = rows->advantage};
}

/* Makes a copy of a model differ, as a reference must for the KL to have a gradient. */
static inline void other_norm(struct model *model)
{
    struct backend *backend = model->backend;
    const struct param *norm = model->final_norm.gain;
    float *w = fetched_tensor(model, norm);
    for (int64_t i = 0; i < norm->count; i++)
        w[i] *= i % 2 == 0 ? 1.1f : 0.9f;
    backend->ops->upload(backend, param_values(&model->base, norm), w, (size_t)norm->count * sizeof *w);
    free(w);
}

#endif
