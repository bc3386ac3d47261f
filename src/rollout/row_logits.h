/* Rows of logits for those who want more of them than a draw: log-probs of given tokens and of the most likely ones, and
 * logits that a function of the caller's changes before the draw. All of them are head_stats of the row, so that a token's
 * log-prob is the same bits wherever it is asked for (I1, I2). The rows may lie on a device: they are copied for those
 * requests alone.
 *
 * Owns rows on the host, as many as submissions reserved. */
#ifndef COHORT_ROLLOUT_ROW_LOGITS_H
#define COHORT_ROLLOUT_ROW_LOGITS_H

#include "rollout/sequence.h"

#include "model/head.h"

struct row_logits {
    float *row, *changed; /* [vocab] on the host */
    size_t row_capacity, changed_capacity;
};
/* Makes room for a request that asks for such things. */
cohort_status row_logits_reserve(struct row_logits *rows, const struct engine_request *ask, int32_t vocab,
                                 cohort_error *err);
void row_logits_free(struct row_logits *rows);

/* Log-probs of a token each for logits rows first .. first + n at a temperature (0: 1), into logp on the host. */
void row_logits_score(struct model *model, struct head_work *head, int32_t first, int32_t n, float temperature,
                      const int32_t *tokens, float *logp);
/* The n most likely ids of a logits row below n_choosable, those with the lower id first among equals, and their
 * log-probs. */
void row_logits_top(struct row_logits *rows, struct model *model, struct head_work *head, int32_t row,
                    float temperature, int32_t n_choosable, int32_t n, int32_t *ids, float *logp);
/* Draws from what the sequence's function makes of the logits. The log-prob and the entropy are those of the model's. */
void row_logits_draw(struct row_logits *rows, struct model *model, struct head_work *head, const struct sequence *s,
                     int32_t n_choosable, struct sample_row *draw);

#endif
