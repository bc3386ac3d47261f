#include "support/reference.h"

#include <math.h>
#include <stdlib.h>

static int64_t key_row(const struct attention_forward *p, const struct attention_seq *seq, int32_t position)
{
    for (int32_t s = seq->span_begin; s < seq->span_begin + seq->n_spans; s++)
        if (position >= p->spans[s].position && position < p->spans[s].position + p->spans[s].length)
            return p->spans[s].row + position - p->spans[s].position;
    abort();
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* One query and head: the softmax weights of its keys; returns their log-sum-exp. */
static double attend(const struct attention_forward *p, const struct attention_seq *seq, int32_t query, int32_t head,
                     const double *q, const double *k, double *weight)
{
    const int32_t n = p->head_dim, position = seq->first_position + query;
    const int32_t kv_head = head / (p->n_heads / p->n_kv_heads);
    const double *q_row = q + ((int64_t)(seq->query_row + query) * p->n_heads + head) * n;
    double max = -INFINITY, sum = 0;
    for (int32_t j = 0; j <= position; j++) {
        weight[j] = p->window > 0 && j <= position - p->window
                        ? -INFINITY
                        : p->scale * dot(q_row, k + (key_row(p, seq, j) * p->n_kv_heads + kv_head) * n, n);
        max = fmax(max, weight[j]);
    }
    for (int32_t j = 0; j <= position; j++)
        sum += exp(weight[j] - max);
    for (int32_t j = 0; j <= position; j++)
        weight[j] = exp(weight[j] - max) / sum;
    return max + log(sum);
}

void reference_attention_forward(const struct attention_forward *p, const double *q, const double *k, const double *v,
                                 double *out, double *lse)
{
    const int32_t n = p->head_dim;
    for (int32_t s = 0; s < p->n_seqs; s++)
        for (int32_t i = 0; i < p->seqs[s].n_queries; i++)
            for (int32_t h = 0; h < p->n_heads; h++) {
                const struct attention_seq *seq = &p->seqs[s];
                const int32_t position = seq->first_position + i;
                const int32_t kv_head = h / (p->n_heads / p->n_kv_heads);
                const int64_t at = (int64_t)(seq->query_row + i) * p->n_heads + h;
                double *weight = malloc((size_t)(position + 1) * sizeof *weight);
                if (!weight)
                    abort();
                lse[at] = attend(p, seq, i, h, q, k, weight);
                for (int32_t d = 0; d < n; d++) {
                    out[at * n + d] = 0;
                    for (int32_t j = 0; j <= position; j++)
                        out[at * n + d] += weight[j] * v[(key_row(p, seq, j) * p->n_kv_heads + kv_head) * n + d];
                }
                free(weight);
            }
}

void reference_attention_backward(const struct attention_forward *p, const double *q, const double *k, const double *v,
                                  const double *d_out, double *dq, double *dk, double *dv)
{
    const int32_t n = p->head_dim;
    for (int32_t s = 0; s < p->n_seqs; s++)
        for (int32_t i = 0; i < p->seqs[s].n_queries; i++)
            for (int32_t h = 0; h < p->n_heads; h++) {
                const struct attention_seq *seq = &p->seqs[s];
                const int32_t position = seq->first_position + i;
                const int32_t kv_head = h / (p->n_heads / p->n_kv_heads);
                const int64_t at = ((int64_t)(seq->query_row + i) * p->n_heads + h) * n;
                double *weight = malloc((size_t)(position + 1) * 2 * sizeof *weight);
                if (!weight)
                    abort();
                double *d_weight = weight + position + 1, mean = 0;
                attend(p, seq, i, h, q, k, weight);
                for (int32_t j = 0; j <= position; j++) {
                    const int64_t key = (key_row(p, seq, j) * p->n_kv_heads + kv_head) * n;
                    d_weight[j] = dot(d_out + at, v + key, n);
                    mean += weight[j] * d_weight[j];
                }
                for (int32_t j = 0; j <= position; j++) {
                    const int64_t key = (key_row(p, seq, j) * p->n_kv_heads + kv_head) * n;
                    const double d_score = weight[j] * (d_weight[j] - mean) * p->scale;
                    for (int32_t d = 0; d < n; d++) {
                        dq[at + d] += d_score * k[key + d];
                        dk[key + d] += d_score * q[at + d];
                        dv[key + d] += weight[j] * d_out[at + d];
                    }
                }
                free(weight);
            }
}

static double rstd(const struct qkv_forward *p, const double *x)
{
    return 1 / sqrt(dot(x, x, p->head_dim) / p->head_dim + p->eps);
}

static void head_forward(const struct qkv_forward *p, int64_t token, const double *x, const double *gain, double *y)
{
    const int32_t n = p->head_dim, half = n / 2;
    const double scale = gain ? rstd(p, x) : 1;
    for (int32_t i = 0; i < half; i++) {
        const double a = x[i] * scale * (gain ? gain[i] : 1);
        const double b = x[i + half] * scale * (gain ? gain[i + half] : 1);
        const double c = p->cos_table[p->position[token] * half + i];
        const double s = p->sin_table[p->position[token] * half + i];
        y[i] = a * c - b * s;
        y[i + half] = b * c + a * s;
    }
}

void reference_qkv_forward(const struct qkv_forward *p, const double *qkv, const double *q_gain, const double *k_gain,
                           double *q, double *k, double *v)
{
    const int64_t n = p->head_dim, heads = p->n_heads, kv = p->n_kv_heads;
    for (int64_t t = 0; t < p->tokens; t++) {
        const double *row = qkv + t * (heads + 2 * kv) * n;
        for (int64_t h = 0; h < heads; h++)
            head_forward(p, t, row + h * n, q_gain, q + (t * heads + h) * n);
        for (int64_t h = 0; h < kv; h++)
            head_forward(p, t, row + (heads + h) * n, k_gain, k + (p->kv_row[t] * kv + h) * n);
        for (int64_t i = 0; i < kv * n; i++)
            v[p->kv_row[t] * kv * n + i] = row[(heads + kv) * n + i];
    }
}

/* y_j = sum_i R_ji g_i x_i r with r = (mean x^2 + eps)^(-1/2), so dr/dx_i = -r^3 x_i / n. */
static void head_backward(const struct qkv_forward *p, int64_t token, const double *x, const double *gain,
                          const double *dy, double *dx, double *d_gain)
{
    const int32_t n = p->head_dim, half = n / 2;
    for (int32_t i = 0; i < half; i++) {
        const double c = p->cos_table[p->position[token] * half + i];
        const double s = p->sin_table[p->position[token] * half + i];
        dx[i] = dy[i] * c + dy[i + half] * s;
        dx[i + half] = dy[i + half] * c - dy[i] * s;
    }
    if (!gain)
        return;
    const double r = rstd(p, x);
    double d_r = 0;
    for (int32_t i = 0; i < n; i++) {
        d_gain[i] += dx[i] * x[i] * r;
        d_r += dx[i] * gain[i] * x[i];
    }
    for (int32_t i = 0; i < n; i++)
        dx[i] = dx[i] * gain[i] * r - d_r * r * r * r * x[i] / n;
}

void reference_qkv_backward(const struct qkv_forward *p, const double *qkv, const double *q_gain, const double *k_gain,
                            const double *dq, const double *dk, const double *dv, double *d_qkv, double *d_q_gain,
                            double *d_k_gain)
{
    const int64_t n = p->head_dim, heads = p->n_heads, kv = p->n_kv_heads;
    for (int64_t t = 0; t < p->tokens; t++) {
        const int64_t at = t * (heads + 2 * kv) * n;
        for (int64_t h = 0; h < heads; h++)
            head_backward(p, t, qkv + at + h * n, q_gain, dq + (t * heads + h) * n, d_qkv + at + h * n, d_q_gain);
        for (int64_t h = 0; h < kv; h++)
            head_backward(p, t, qkv + at + (heads + h) * n, k_gain, dk + (p->kv_row[t] * kv + h) * n,
                          d_qkv + at + (heads + h) * n, d_k_gain);
        for (int64_t i = 0; i < kv * n; i++)
            d_qkv[at + (heads + kv) * n + i] = dv[p->kv_row[t] * kv * n + i];
    }
}
