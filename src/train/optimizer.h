/* Clipping by the global norm and one update of what trains of a set of parameters, by any of the optimizers of
 * OPTIMIZER_LIST (docs/OPTIMIZERS.md has their rules), and the mean of the weights over the updates. */
#ifndef COHORT_TRAIN_OPTIMIZER_H
#define COHORT_TRAIN_OPTIMIZER_H

#include "model/param_set.h"
#include "train/optimizer_list.h"

#define TYPE(id, ...) OPTIMIZER_##id,
enum optimizer_type { OPTIMIZER_LIST(TYPE) };
enum optimizer_argument { OPTIMIZER_ARGUMENT_LIST(TYPE) N_OPTIMIZER_ARGUMENTS };
#undef TYPE
#define RATE(id, ...) OPTIMIZER_RATE_##id,
enum optimizer_rate { OPTIMIZER_RATE_LIST(RATE) };
#undef RATE

/* Tensors by their names, and a number for them. */
struct optimizer_group {
    char pattern[96];
    double value;
};
enum { OPTIMIZER_GROUPS = 16 };

/* All zero but for what is used: AdamW without groups. */
struct optimizer {
    enum optimizer_type type;
    float beta1, beta2, eps, weight_decay;
    double max_grad_norm; /* 0: no clipping */
    int64_t step;         /* updates done */
    double arguments[N_OPTIMIZER_ARGUMENTS];
    bool given[N_OPTIMIZER_ARGUMENTS];
    /* The first that a tensor's name matches counts: factors of the learning rate, and weight decays in place of
     * weight_decay (of tensors that have none, too). */
    struct optimizer_group lr[OPTIMIZER_GROUPS], decay[OPTIMIZER_GROUPS];
    int32_t n_lr, n_decay;
    double ema_decay; /* of the mean of the weights; 0: there is none */
};

/* ---- optimizer_arguments.c: what options say ---- */

/* The type that this word of optim (its number in OPTIM_LIST) names, with the defaults of its arguments. */
void optimizer_init(struct optimizer *optimizer, int word);
/* One item NAME=VALUE of optim_args. */
cohort_status optimizer_set(struct optimizer *optimizer, const char *item, cohort_error *err);
/* One item PATTERN=NUMBER of lr_groups, or of weight_decay_groups. */
cohort_status optimizer_add_group(struct optimizer *optimizer, bool decay, const char *item, cohort_error *err);
/* Whether the arguments go together. */
cohort_status optimizer_check(const struct optimizer *optimizer, cohort_error *err);
/* Whether a pattern is of this name: with '*' (any characters) it must match all of the name, without it be one or
 * several of its parts between dots: lm_head, self_attn.q_proj, bias. */
bool optimizer_matches(const char *pattern, const char *name);

/* ---- optimizer.c ---- */

/* Says what the optimizer keeps for each tensor of the set (param_set_keep). A group that matches nothing that trains is
 * an error. */
cohort_status optimizer_lay_out(const struct optimizer *optimizer, struct param_set *set, cohort_error *err);
/* sqrt of the sum of squares of all gradients, before clipping: the same bits on any number of ranks, which call it
 * together. */
cohort_status optimizer_grad_norm(const struct param_set *set, double *norm, cohort_error *err);
/* One update with the set's gradients, which are zeroed afterwards; frozen tensors keep their bits. A norm that is not
 * finite skips the update (*skipped) and leaves values and states untouched. Code that uses the values in another form
 * (packed weights) must rebuild it afterwards: model_refresh. Ranks call it together: each updates what it owns, and all get the values. Only what
 * is exchanged between ranks can fail, and then the values are no longer of use. */
cohort_status optimizer_apply(struct optimizer *optimizer, struct param_set *set, double learning_rate,
                              double *grad_norm, bool *skipped, cohort_error *err);
/* Starts the mean of the weights at the weights, where the set keeps one. */
void optimizer_start_mean(struct param_set *set);

#endif
