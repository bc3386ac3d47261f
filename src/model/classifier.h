/* A model whose head gives scores of a whole sequence in place of logits of the next token (transformers'
 * NAMEForSequenceClassification): score . norm(x) of the sequence's last token, n_labels of config.json of them. With one
 * label it is a reward model.
 *
 * Sequences are packed and run alone: what one scores is a function of its tokens and the weights, with the same bits in any
 * batch (I2). The same decoder computes it (I1); this file only chooses rows and applies the head. */
#ifndef COHORT_MODEL_CLASSIFIER_H
#define COHORT_MODEL_CLASSIFIER_H

#include "model/decoder.h"

struct token_row {
    const int32_t *tokens;
    int32_t n; /* at least 1 */
};

/* Buffers for micro-batches of up to max_rows sequences of max_tokens in all. Zero-initialise. */
struct classifier {
    int64_t max_tokens, max_rows;
    bool train;
    struct decoder_work decoder;
    struct batch batch;
    int32_t *last;   /* (host) [max_rows] rows of the last tokens; owned */
    int32_t n;       /* of the micro-batch in hand */
    int32_t *row;    /* [max_rows] last, on the device */
    void *hidden;    /* [max_rows, C] act: normed */
    float *scores;   /* [max_rows, labels] */
    float *x;        /* the residual that the forward left */
    float *d_scores; /* [max_rows, labels] */
    void *d_out;     /* [max_rows, labels] act: d_scores as products read it */
    float *d_hidden; /* [max_rows, C] */
};

/* Takes the buffers from the arena: called twice, to measure and then to allocate. A mode other than DECODER_INFER: a
 * backward will follow. Free the host part with classifier_free. */
cohort_status classifier_plan(struct classifier *classifier, struct arena *arena, const struct model_config *config,
                              enum dtype act, int64_t max_tokens, int64_t max_rows, enum decoder_mode mode,
                              cohort_error *err);
void classifier_free(struct classifier *classifier);

/* scores (host) [n, labels] of any number of rows, each of up to max_tokens. */
cohort_status classifier_score(struct classifier *classifier, struct model *model, const struct token_row *rows,
                               int32_t n, float *scores, cohort_error *err);

/* The same for rows that are one micro-batch (which must hold them); a backward may follow. */
cohort_status classifier_forward(struct classifier *classifier, struct model *model, const struct token_row *rows,
                                 int32_t n, float *scores, cohort_error *err);
/* Adds up the gradients of everything that trains, from d_scores (host) [n, labels], the derivatives of a loss by the
 * scores of the last forward. */
void classifier_backward(struct classifier *classifier, struct model *model, const float *d_scores);

#endif
