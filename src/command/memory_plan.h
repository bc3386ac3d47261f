/* What a training run holds in memory, and the choice that fits. Everything here follows from
 * config.json, the options and the data's lengths: the model need only be open (model_open), so
 * that a run is refused, or its plan printed, before its weights are read. The buffers are measured
 * by the code that takes them (invariant I8).
 *
 * Rollout and training never run at once: they share one block, as large as the larger. */
#ifndef COHORT_COMMAND_MEMORY_PLAN_H
#define COHORT_COMMAND_MEMORY_PLAN_H

#include "command/session.h"

/* What the backward computes again, from the fastest to the one that takes the least memory:
 * nothing, the head's logits, these and the layers' activations. */
enum recompute { RECOMPUTE_NONE, RECOMPUTE_LOGITS, RECOMPUTE_LAYER, N_RECOMPUTE };
extern const char *const recompute_names[N_RECOMPUTE];

struct memory_plan {
    struct model *model;
    struct tree_runner *runner; /* borrowed; its buffers are those of training */
    struct engine *engine;      /* borrowed; NULL: no rollout */
    int64_t completions;        /* of a step */
    enum recompute recompute;
    int64_t micro_tokens;

    /* Bytes. */
    size_t limit;                     /* for everything below */
    size_t weights, reference, state; /* state: gradient, moments, low halves of the master */
    size_t rollout, kv;               /* kv: the pages, which are a part of rollout */
    size_t training;                  /* with recompute and micro_tokens, once measured */
    bool measured; /* by memory_plan_choose, also where it refuses: what the sizes say is so */
};

/* What does not depend on the choice. reference: whether a second model is kept. Options used:
 * memory_limit, moments_dtype. */
void memory_plan_begin(struct memory_plan *plan, struct model *model, const struct options *options,
                       bool reference, struct tree_runner *runner, int64_t completions);
/* The engine of a rollout of prompts x group completions of up to C tokens, behind prompts of up to
 * P: pages for all of them, but no more than half of what weights and training state leave (the
 * rest waits its turn), and for one completion at least. */
cohort_status memory_plan_engine(struct memory_plan *plan, const struct tokenizer *tokenizer,
                                 int32_t prompts, int32_t group, int32_t P, int32_t C,
                                 struct engine **out, cohort_error *err);
/* Sizes of the buffers with this much recomputation and as many tokens. */
cohort_status memory_plan_measure(struct memory_plan *plan, enum recompute recompute,
                                  int64_t micro_tokens, cohort_error *err);
/* Measures with recompute as the option says; auto: the fastest that fits, else layer. Options
 * used: recompute. */
cohort_status memory_plan_fit(struct memory_plan *plan, const struct options *options,
                              int64_t micro_tokens, cohort_error *err);
/* Tokens of a micro-batch (longest: of a row; most_useful: of a whole step), and what fits them.
 * COHORT_ERR_MEMORY says what is missing and what would fit; the plan then holds what was refused.
 * Options used: micro_batch_tokens, moments_dtype, recompute. */
cohort_status memory_plan_choose(struct memory_plan *plan, const struct options *options,
                                 int64_t longest, int64_t most_useful, cohort_error *err);
size_t memory_plan_total(const struct memory_plan *plan);
/* Appends the plan as one line, without its end. */
cohort_status memory_plan_describe(const struct memory_plan *plan, struct text *out,
                                   cohort_error *err);
/* Allocates the block of the plan as it stands, and hands it out. */
cohort_status memory_plan_allocate(struct memory_plan *plan, struct arena *arena,
                                   cohort_error *err);

#endif
