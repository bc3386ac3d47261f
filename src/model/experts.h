/* The feed-forward half of a layer with experts: out = mid + sum over the experts j that the router chose for a token of
 * w_j * down_j(silu(gate_j(norm(mid))) * up_j(norm(mid))), ascending by the number of the expert.
 *
 * The routing of a token is a function of its row of the residual stream alone: the router's product, its softmax and
 * the choice are the same operations in prefill, decoding and training (invariant I1), so that a token that was sampled
 * goes to the same experts when it is trained. */
#ifndef COHORT_MODEL_EXPERTS_H
#define COHORT_MODEL_EXPERTS_H

#include "model/expert_stack.h"
#include "model/linear.h"

struct arena;
struct layer_run;
struct model_config;

struct experts {
    int32_t index;               /* among the layers with experts */
    struct norm norm;            /* of the block's input */
    struct linear router;        /* [E, C] */
    struct expert_stack gate_up; /* [E, 2I, C] */
    struct expert_stack down;    /* [E, C, I] */
};

/* What the backward reads of a layer with experts, beside gate_up [T*k, 2I] of struct layer_acts. */
struct expert_acts {
    float *logits;       /* [T, E] */
    int32_t *expert;     /* [T, k] */
    float *weight;       /* [T, k] */
    int32_t *begin;      /* [E + 1] */
    int32_t *pair, *row; /* [T * k] */
};

/* What training asks of the layers with experts beside their gradients; all off at first. */
struct expert_switches {
    bool compare; /* the batch's routes are what was sampled: differ counts for each token the layers that differ */
    bool replay;  /* with compare: tokens go where they went */
    bool sums;    /* a forward adds what is in struct route_sums to sums */
    bool aux;     /* the backward adds the gradient of the auxiliary loss, from aux */
};

/* What layers with experts work in, beside normed, ffn [T*k, I] and the like of struct decoder_work. */
struct expert_work {
    struct expert_switches on;
    void *out; /* [T*k, C] act */
    /* backward */
    float *d_pair;   /* [T*k, C]; out lies in the same memory */
    float *d_weight; /* [T, k] */
    void *d_logits;  /* [T, E] act */
    uint16_t *given; /* [T, route_width] */
    int32_t *differ; /* [T] */
    int32_t *count;  /* [T] */
    double *sums;    /* [layers with experts, 2 * E + 2] */
    float *aux;      /* [E] by which a token's p of each expert weighs in the auxiliary loss */
};
/* The elements of sums. */
size_t expert_sums_size(const struct model_config *config);
void expert_acts_plan(struct expert_acts *acts, struct arena *arena, const struct model_config *config,
                      int64_t max_tokens);
void expert_work_plan(struct expert_work *work, struct arena *arena, const struct model_config *config, enum dtype act,
                      int64_t max_tokens, bool train);

/* out[T, C]. In inference out may be mid itself. With out NULL it computes only what the backward reads. */
void experts_forward(const struct layer_run *r, const float *mid, float *out);
/* work->d_x: from dL/d out to dL/d mid. */
void experts_backward(const struct layer_run *r);

#endif
