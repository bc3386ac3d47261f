/* The head of a sequence classifier (transformers' NAMEForSequenceClassification): score . norm(x) of chosen rows, n_labels
 * of config.json of them, in place of logits of the next token. With one label it is a reward model. */
#ifndef COHORT_MODEL_SCORE_HEAD_H
#define COHORT_MODEL_SCORE_HEAD_H

#include "model/head.h"

struct score_work {
    int64_t max_rows;
    int32_t labels;
    int32_t *row;  /* [max_rows] */
    void *hidden;  /* [max_rows, C] act: normed */
    float *scores; /* [max_rows, labels] */
    /* backward */
    float *d_scores; /* [max_rows, labels] */
    void *d_out;     /* [max_rows, labels] act: d_scores as products read it */
    float *d_hidden; /* [max_rows, C] */
};
void score_work_plan(struct score_work *work, struct arena *arena, const struct model_config *config, enum dtype act,
                     int64_t max_rows, bool train);

/* scores (host) [count, labels] of the outputs' rows of the residual x; targets are not read. */
void score_forward(struct model *model, struct score_work *work, const float *x, const struct head_outputs *outputs,
                   float *scores);
/* After score_forward of the same outputs: adds the gradient of the sum of d_scores (host) [count, labels] times scores to
 * the head's and the final norm's gradients and to d_x ([T, C], which the caller zeroed). */
void score_backward(struct model *model, struct score_work *work, const float *x, const struct head_outputs *outputs,
                    const float *d_scores, float *d_x);

#endif
