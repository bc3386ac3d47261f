/* How much of a rollout runs at once: decided here for generate, eval, the embedded engine, bench and GRPO alike, from
 * the request and the available memory. Results do not depend on it. */
#ifndef COHORT_RECIPE_ROLLOUT_PLAN_H
#define COHORT_RECIPE_ROLLOUT_PLAN_H

#include "rollout/engine.h"

/* What the engine will be asked for. Zero-initialise it; rollout_need_add adds to it. */
struct rollout_need {
    int64_t requests, completions;
    int64_t prompt_tokens;          /* of all prompts */
    int64_t pages;                  /* that all of it could come to need at once */
    int64_t least;                  /* for the largest request with one of its completions */
    int64_t prompt_pages;           /* of the longest prompt */
    int64_t completion_pages;       /* of the longest completion */
    int32_t group;                  /* the most completions of one request */
    int32_t context;                /* tokens of the longest prompt with its completion */
    int32_t sequences, step_tokens; /* completions and prompt tokens at once, as an option says;
                                        0: chosen */
    int32_t history;                /* of struct backend_load */
    int32_t draft_tokens;           /* of struct engine_config */
    bool kv8;                       /* likewise */
    int32_t kv_pages;               /* likewise */
    bool training;                  /* of a command that trains, which plans all of its memory */
    bool turns;                     /* completions wait at the end of turns, with their pages and without a row */
    bool modest;                    /* leaves half of what is free to others */
    bool whole;                     /* all sequences at once or none */
    const struct model_adapter *const *adapters; /* [n_adapters] that requests may name beside what the model wears */
    int32_t n_adapters;
};
/* Adds times requests of n completions, each of up to max_tokens, for a prompt of n_prompt tokens. */
void rollout_need_add(struct rollout_need *need, int64_t times, int32_t n_prompt, int32_t max_tokens, int32_t n);
/* Adds requests of any kind of up to context tokens each, with this many sequences at once (0: chosen). */
void rollout_need_any(struct rollout_need *need, const struct backend *backend, int32_t sequences, int32_t context);
/* Sets history for draws with these parameters. */
int32_t rollout_history(const struct sampling_params *sampling, int32_t context);

struct rollout_choice {
    struct engine_config config;
    size_t buffers; /* bytes of the engine's buffers, pages included */
    size_t pages;   /* bytes of the pages */
    size_t working; /* bytes of the backend's working memory, training's included */
    bool refused;   /* by session_rollout */
    int64_t useful; /* pages beyond which nothing is gained with so many sequences */
};
/* Chooses as many sequences as the backend gains from and as fit into room bytes, which the engine's buffers and the
 * backend's working memory share (training is the part of load that belongs to training, NULL if nothing trains). There
 * are pages for all of them at their longest, where they fit; else sequences are as many as are expected to do with the
 * pages that do fit,
 *
 *     1 + (pages - least) / ceil(completion_pages / 4),
 *
 * with fewer prompt tokens per step where that makes room for more. If not even one completion fits, the choice is the
 * smallest that could run. */
cohort_status rollout_choose(struct model *model, const struct rollout_need *need, size_t room,
                             const struct backend_load *training, struct rollout_choice *choice, cohort_error *err);

/* The shape of a model, and of the rollout chosen for it (config NULL: none), as a backend wants to know it. Adds to
 * *load, which holds training's part or zeros. */
void rollout_load(const struct model *model, const struct rollout_need *need, const struct engine_config *config,
                  struct backend_load *load);
size_t backend_working_bytes(struct backend *backend, const struct backend_load *load);

#endif
