/* What the operations on experts take: who goes where (route), products of groups of rows (grouped), and back
 * (combine). Conventions are those of ops.h; T tokens, E experts of a layer, k of them for a token.
 *
 * Pair t * k + j is token t with its j-th expert. Operations on experts work on pairs in the order of their experts,
 * those of one expert in ascending order: the grouped rows. Nothing of that is known to the host. */
#ifndef COHORT_BACKEND_EXPERT_OPS_H
#define COHORT_BACKEND_EXPERT_OPS_H

#include "backend/backend.h"

enum { ROUTE_MAX_EXPERTS = 1024, ROUTE_MAX_CHOSEN = 32, ROUTE_UNKNOWN = 0xffff };

/* The experts that each token goes to. p = softmax of a row of logits over all experts, in fp32; the k largest are
 * taken, of equal ones those of lower number, and listed by ascending number. Their weights are p, or with normalised p
 * over the sum of the k in that order. A NaN counts as less than any number. */
struct route_forward {
    int64_t tokens;
    int32_t n_experts, chosen; /* E, k */
    bool normalised;
    const float *logits; /* [T, E] */
    int32_t *expert;     /* [T, k] */
    float *weight;       /* [T, k] */
    /* The grouped rows. */
    int32_t *begin; /* [E + 1] expert e has rows begin[e] .. begin[e + 1] */
    int32_t *pair;  /* [T * k] of a grouped row */
    int32_t *row;   /* [T * k] the grouped row of a pair */
    /* Routes: a token's experts as they are listed, rows stride elements apart. record: NULL, or gets those of token t
     * in row record_row[t], if that is not negative. given: NULL, or what was recorded of the same tokens, row t for
     * token t (ROUTE_UNKNOWN first where nothing is known): differ[t] grows by 1 where a token would go to others; with
     * replay it goes where it went. */
    uint16_t *record;
    const int32_t *record_row;
    const uint16_t *given;
    int64_t stride;
    bool replay;
    int32_t *differ; /* [T] with given */
};

/* d_logits from the gradient of weight; the choice itself has none. With p, dp of those chosen, 0 of others: d_logits =
 * p * (dp - sum dp * p). aux: added to every dp of token t after multiplication by count[t] (the auxiliary loss). */
struct route_backward {
    int64_t tokens;
    int32_t n_experts, chosen;
    bool normalised;
    const float *logits;   /* [T, E] */
    const int32_t *expert; /* [T, k] */
    const float *d_weight; /* [T, k] */
    const float *aux;      /* [E]; NULL: none */
    const int32_t *count;  /* [T] with aux */
    void *d_logits;        /* [T, E] act */
    enum dtype act;
};

/* What a layer adds to the sums of an auxiliary loss and of metrics: count[t] times token t. */
struct route_sums {
    int64_t tokens;
    int32_t n_experts, chosen;
    const float *logits;   /* [T, E] */
    const int32_t *expert; /* [T, k] */
    const int32_t *count;  /* [T] */
    /* [2 * E + 2]: how often each expert was taken, the sum of p of each, that of entropies of p, that of counts. In an
     * order that follows from the number of tokens. */
    double *sums;
};

/* Rows of a grouped operation. */
struct row_groups {
    int32_t n;    /* E */
    int32_t each; /* k: grouped row r belongs to row pair[r] / each of tensors that are not grouped */
    int64_t rows;
    const int32_t *begin, *pair; /* as of struct route_forward */
};

/* y[r] = x . w[e]^T for the rows r of each group e. The reduction over k has one order, fixed by (n, k, type, provider)
 * and never by the number of rows of a group. */
struct grouped_forward {
    const struct row_groups *groups;
    const struct weight *const *w; /* (host) [E] of one size [n, k], one behind the other in memory */
    bool gather;                   /* x is not grouped */
    const void *x;                 /* [rows, k] act, or [rows / each, k] */
    void *y;                       /* [rows, n] act */
};

/* dx[r] = dy . w[e]. */
struct grouped_backward_input {
    const struct row_groups *groups;
    const struct weight *const *w; /* as above */
    bool gather;                   /* dy is not grouped */
    const void *dy;                /* [rows, n] act, or [rows / each, n] */
    void *dx;                      /* [rows, k] dx_type */
    enum dtype dx_type;
};

/* dw[e] += dy^T . x over the rows of group e, ascending. */
struct grouped_backward_weight {
    const struct row_groups *groups;
    int64_t n, k;
    bool gather_dy, gather_x; /* which of them is not grouped */
    const void *dy;           /* [rows, n] type */
    const void *x;            /* [rows, k] type */
    enum dtype type;
    float *dw; /* [E, n, k] */
};

/* A change of low rank to the products of groups (LoRA): each group e has a factor a[e] and a factor b[e] of its own. With
 * h = scale * (x . a[e]^T), rounded once to act, y gets h . b[e]^T as in struct lowrank_forward: in fp32, rounded once to
 * act; what adds 0 leaves y as it is. The reductions over k and r have one order, as above. */
struct expert_change {
    int64_t n, k, r;
    float scale;
    const struct weight *const *a, *const *b; /* (host) [E] of [r, k] and of [n, r], each list as w above */
    float *da, *db;                           /* [E, r, k], [E, n, r] the gradients, accumulated into */
};

struct grouped_change_forward {
    const struct row_groups *groups;
    const struct expert_change *change;
    bool gather;   /* x is not grouped */
    const void *x; /* [rows, k] act, or [rows / each, k] */
    void *y;       /* [rows, n] act */
};

/* With d = scale * (dy . b[e]), rounded once to act: dx += d . a[e], and from x the gradients db[e] += dy^T . h and da[e]
 * += d^T . x over the rows of group e, ascending. */
struct grouped_change_backward {
    const struct row_groups *groups;
    const struct expert_change *change;
    bool gather_dy, gather_x; /* which of them is not grouped; not both */
    const void *dy;           /* [rows, n] act */
    const void *x;            /* [rows, k] act; NULL: no gradients */
    void *dx;                 /* [rows, k] dx_type; NULL: not wanted */
    enum dtype dx_type;
};

/* y[t] = before[t] + sum over j ascending of weight[t, j] * x[row[t * k + j]]. */
struct combine_forward {
    int64_t tokens, width;
    int32_t chosen;
    const int32_t *row;  /* [T * k] */
    const float *weight; /* [T, k]; NULL: 1 */
    const void *x;       /* [T * k, width] x_type */
    enum dtype x_type;
    const float *before; /* [T, width] */
    float *y;            /* [T, width]; may be before */
};

/* Where y = weight * (x . w^T) and dx = dy . w: d_weight of grouped row r's pair = <dx[r], x[r]>, and after that both
 * rows are multiplied by the weight, so that dx is the gradient of x, and x the factor of w's. */
struct combine_backward {
    int64_t rows, width;
    const int32_t *pair; /* [rows] */
    const float *weight; /* [rows] of pairs */
    void *x, *dx;        /* [rows, width] act */
    enum dtype act;
    float *d_weight; /* [rows] of pairs */
};

#endif
