/* What a training run holds in memory, and the choice that fits. Everything here follows from config.json, the options
 * and the data's lengths: the model need only be open (model_open), so that a run is refused, or its plan printed,
 * before its weights are read. The buffers are measured by the code that takes them (invariant I8).
 *
 * Rollout, models that reward and training never run at the same time, so they share one block, which has the size of the largest. KV pages
 * may therefore use all that weights and training state leave, as far as the rollout gains from them. */
#ifndef COHORT_RECIPE_MEMORY_PLAN_H
#define COHORT_RECIPE_MEMORY_PLAN_H

#include "recipe/recompute_list.h"
#include "model/teacher.h"
#include "recipe/reward_model.h"
#include "recipe/session.h"

#define RECOMPUTE(id, word) RECOMPUTE_##id,
enum recompute { RECOMPUTE_LIST(RECOMPUTE) N_RECOMPUTE };
#undef RECOMPUTE
extern const char *const recompute_names[N_RECOMPUTE];

struct memory_plan {
    struct model *model;
    struct tree_runner *runner; /* borrowed; its buffers are those of training */
    struct engine *engine;      /* borrowed; NULL: no rollout */
    struct teacher *teacher;    /* borrowed, its model open; NULL: none */
    struct reward_models
        *scorers;        /* borrowed, opened; NULL: no model rewards. They score between rollout and training */
    int64_t completions; /* of a step */
    int64_t longest;     /* tokens of a row */
    enum recompute recompute;
    enum dtype moments;
    int64_t micro_tokens;
    struct rollout_need need;     /* with an engine */
    struct rollout_choice choice; /* likewise */
    bool refused;                 /* by memory_plan_choose, whose error says so */

    /* Bytes. */
    size_t limit;                     /* for everything below */
    size_t weights, reference, state; /* reference: or teacher; state: gradient, moments, low halves of the master */
    size_t rollout, kv;               /* kv: the pages, which are a part of rollout */
    size_t gathered;                  /* likewise: weights that ranks divide, whole (model_plan_whole) */
    size_t training;                  /* with recompute and micro_tokens, once measured */
    size_t scorer_weights, scoring;   /* of models that reward */
    /* In memory of the host, with option offload: of the state and the reference, and how much is there. weights,
     * reference and state above are what the backend's own memory holds of them. */
    size_t host, host_limit;
    size_t working; /* of the backend's operations, beside all buffers */
};

/* Fills in what does not depend on the choice, and the tokens of a micro-batch (longest: of a row; most_useful: of a
 * whole step). reference: whether a second model is kept. Options used: memory_limit, moments_dtype,
 * micro_batch_tokens, offload; the set that trains has its offload already (param_set_offload). */
void memory_plan_begin(struct memory_plan *plan, struct model *model, const struct options *options, bool reference,
                       struct tree_runner *runner, int64_t completions, int64_t longest, int64_t most_useful);
/* Models that reward: before memory_plan_engine. */
void memory_plan_scorers(struct memory_plan *plan, struct reward_models *scorers);
/* The teacher of a distillation, beside whose pass those of training are measured; before memory_plan_engine. */
void memory_plan_teacher(struct memory_plan *plan, struct teacher *teacher);
/* The engine of the rollout, sized by rollout_choose for what weights and training state leave. */
cohort_status memory_plan_engine(struct memory_plan *plan, const struct tokenizer *tokenizer,
                                 const struct rollout_need *need, struct engine **out, cohort_error *err);
/* The sizes of the buffers with this level of recomputation and this many tokens. */
cohort_status memory_plan_measure(struct memory_plan *plan, enum recompute recompute, int64_t micro_tokens,
                                  cohort_error *err);
/* Measures with recompute as the option says; auto is the fastest level that fits, else layer. What does not fit is
 * COHORT_ERR_MEMORY with refused set: the error says what is missing and what would fit, the plan holds what was
 * refused. (If the planning itself runs out of memory, refused is not set.) Options used: recompute. */
cohort_status memory_plan_choose(struct memory_plan *plan, const struct options *options, cohort_error *err);
/* Whether what is offloaded fits this host. */
cohort_status memory_plan_check_host(const struct memory_plan *plan, cohort_error *err);
size_t memory_plan_total(const struct memory_plan *plan);
/* Appends the plan as one line, without its end. */
cohort_status memory_plan_describe(const struct memory_plan *plan, struct text *out, cohort_error *err);
/* Allocates the block of the plan as it stands and hands out its pieces. */
cohort_status memory_plan_allocate(struct memory_plan *plan, struct arena *arena, cohort_error *err);

#endif
