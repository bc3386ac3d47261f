/* Plain double references of the operations: formulas as in a text book, no chunks, no tricks. */
#ifndef COHORT_TESTS_SUPPORT_REFERENCE_H
#define COHORT_TESTS_SUPPORT_REFERENCE_H

#include "backend/ops.h"

/* Causal attention over the segments that p describes (its tensor pointers are not used). q [T,
 * H*D], k and v [kv rows, K*D], out [T, H*D], lse [T, H]. */
void reference_attention_forward(const struct attention_forward *p, const double *q, const double *k, const double *v,
                                 double *out, double *lse);

/* dq, dk, dv: accumulated into. */
void reference_attention_backward(const struct attention_forward *p, const double *q, const double *k, const double *v,
                                  const double *d_out, double *dq, double *dk, double *dv);

/* Fused projection to q, k, v, per head norm and rotation. Of p: sizes, position, kv_row, tables,
 * eps. Gains [D] or NULL. */
void reference_qkv_forward(const struct qkv_forward *p, const double *qkv, const double *q_gain, const double *k_gain,
                           double *q, double *k, double *v);

/* d_qkv overwritten, d gains accumulated into. */
void reference_qkv_backward(const struct qkv_forward *p, const double *qkv, const double *q_gain, const double *k_gain,
                            const double *dq, const double *dk, const double *dv, double *d_qkv, double *d_q_gain,
                            double *d_k_gain);

#endif
