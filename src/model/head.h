/* The language-model head in chunks of rows: final norm, logits, log-probs and their gradient. Unless the logits are
 * kept for the backward, [tokens, vocabulary] is never held at once. Only rows that predict a token whose log-prob is
 * wanted enter it. */
#ifndef COHORT_MODEL_HEAD_H
#define COHORT_MODEL_HEAD_H

#include "model/arena.h"
#include "model/model.h"
#include "model/token_masks.h"

/* The log-probs that are wanted. Each is a residual row that predicts and the token whose log-prob is asked (invariant
 * I10: the row at t scores the token at t + 1). A prompt's last row serves the first token of every completion, so rows
 * may repeat: the outputs of a wave stand behind those of all earlier waves, and no row repeats within a wave. */
struct head_outputs {
    int32_t *row, *target; /* (host) [count] */
    int32_t count;
    int32_t *wave_begin; /* (host) [n_waves + 1] */
    int32_t n_waves;
    /* Values are those of the distribution over the tokens that a mask leaves, renormalised. */
    const struct token_masks *masks; /* (host) NULL: of all tokens */
    int32_t *mask;                   /* (host) [count] with masks: which one of them; -1: all tokens */
};

/* What is asked of each output, into host arrays [count]; all but logp may be NULL. top and mean (struct head_stats), and
 * squares only of a head_work that is extended. */
struct head_values {
    float *logp, *entropy, *mean;
    int32_t *top;
    float *lse;     /* log of the sum of exp(logit / temperature) */
    float *squares; /* log of the sum over the vocabulary of p squared; asked only with lse */
};
/* Derivatives by them, host arrays [count]; all but logp may be NULL. */
struct head_derivatives {
    const float *logp, *entropy, *mean;
};

struct head_work {
    int64_t max_rows, chunk;
    bool extended;               /* it gives top, mean and squares too; set before planning */
    bool masked;                 /* outputs may have masks; set before planning too; not with extended */
    bool compared;               /* its distributions are compared with another model's; set before planning */
    bool train, keep;            /* keep: all rows' logits, else those of a chunk */
    int32_t *row, *target;       /* [max_rows] */
    void *hidden;                /* [max_rows, C] act: normed */
    float *logits;               /* [keep ? max_rows : chunk, V] */
    float *logp, *lse, *entropy; /* [max_rows] */
    float *mean;                 /* [max_rows], extended; top and lse_half too */
    int32_t *top;
    float *lse_half; /* of the logits at half the temperature: the sum of squares, not yet divided */
    /* masked: */
    int64_t mask_room; /* masks of the device, at least those of a chunk of rows */
    uint32_t *bits;    /* [mask_room, allowed_words(V)] */
    int32_t *which;    /* [max_rows] */
    bool loaded;       /* bits has all masks of the outputs, by their numbers; else those of a chunk, by its rows */
    /* backward */
    void *d_logits;                      /* [chunk, V] act */
    float *d_hidden;                     /* [max_rows, C] */
    float *d_logp, *d_entropy;           /* [max_rows] */
    float *d_mean;                       /* [max_rows], extended */
    float *divergence, *to_mix, *weight; /* [max_rows], compared */
};
void head_work_plan(struct head_work *work, struct arena *arena, const struct model_config *config, enum dtype act,
                    int64_t max_rows, int64_t chunk, bool train, bool keep);

/* How many rows of logits fit into bytes, but at least as many as make a product worthwhile. */
int64_t head_chunk(const struct model_config *config, size_t bytes);

/* hidden[i] = final norm of x[row[i]] for i < count <= max_rows; of x[i] where row is NULL. */
void head_norm(struct model *model, struct head_work *work, const float *x, const int32_t *row, int32_t count);
/* Computes the logits of hidden[first .. first + count), count <= chunk, and returns where they lie. */
float *head_logits(struct model *model, struct head_work *work, int32_t first, int32_t count);

/* The values of the outputs at a temperature > 0. */
void head_forward(struct model *model, struct head_work *work, const float *x, const struct head_outputs *outputs,
                  float temperature, const struct head_values *values);
/* After head_forward of the same outputs: adds the gradient of the sum of derivatives times values to the head's and
 * the final norm's gradients and to d_x ([T, C], which the caller zeroed). */
void head_backward(struct model *model, struct head_work *work, const float *x, const struct head_outputs *outputs,
                   float temperature, const struct head_derivatives *derivatives, float *d_x);

/* The model whose distributions those of a head are compared with (distillation): the vocabulary is the same, all else is
 * its own. hidden of its work has been made by head_norm from the rows that the outputs name; its chunk is not smaller. */
struct head_teacher {
    struct model *model;
    struct head_work *work;
    float beta; /* of struct divergence */
};
/* In place of head_forward and head_backward, where the loss is the sum of weight times the divergence of each output: no
 * chunk of logits is computed twice, and none of more rows than a chunk is ever there. divergence[count] (host). weight
 * (host) [count]: adds the gradient as head_backward does; NULL: the values alone. Values: logp and entropy. */
void head_compare(struct model *model, struct head_work *work, const float *x, const struct head_outputs *outputs,
                  float temperature, const struct head_teacher *teacher, const struct head_values *values,
                  float *divergence, const float *weight, float *d_x);

#endif
