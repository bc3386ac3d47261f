/* What the operations of a backend take, forward beside backward, each as one params struct.
 *
 * Conventions
 * - Every operation takes one params struct. Tensor pointers are backend memory (got from alloc); code above never
 *   dereferences them. Pointers marked (host) are ordinary memory.
 * - Shapes stand in brackets, row-major: B sequences, T tokens, C width, H query heads, K key/value heads, D head size,
 *   F feed-forward, V vocabulary, R rows. "act" is the activation type of the model: BF16 or F32.
 * - Exactness (invariant I2): what an operation writes for a row is a function of that row's inputs and the weights
 *   alone: not of the other rows, their number, the number of threads or the address. Reductions have one stated order.
 *   Backward reductions over rows work in fixed blocks of rows combined in ascending order, so they do not depend on
 *   the number of threads either.
 * - Arguments are checked by the callers: a wrong shape here is our mistake (assert). */
#ifndef COHORT_BACKEND_OPS_H
#define COHORT_BACKEND_OPS_H

#include "backend/backend.h"

/* Attention walks keys in chunks of this many absolute positions; a KV page holds one chunk. */
enum { ATTENTION_CHUNK = 64 };

/* A weight matrix [n, k] in the backend's own layout for products. weight_create makes it from a weight_source, whose
 * data stays where it is (the optimizer updates it; weight_refresh must follow) and is used by the backward products.
 * The struct is opaque above the backend. */
struct weight;

/* y[m, n] = x[m, k] . w[n, k]^T, or y += that. The reduction over k has one order, fixed by (n, k, type, provider) and
 * never by m. accumulate needs y_type F32; the sum over k is finished before y is added.
 *
 * norm: the operation on m rows that produces x (its y is x). It runs first or is fused into the product; the content
 * of x is undefined afterwards. */
struct matmul_forward {
    const struct weight *w;
    int64_t m;
    const void *x; /* [m, k] act */
    void *y;       /* [m, n] y_type, rows y_stride elements apart */
    int64_t y_stride;
    enum dtype y_type;
    bool accumulate;
    const float *before;                /* [m, n] what accumulate adds to, y_stride then n; NULL: y */
    const struct rmsnorm_forward *norm; /* NULL: none, x is there */
};

/* dx[m, k] = dy[m, n] . w[n, k], or dx += that (then dx_type must be F32). */
struct matmul_backward_input {
    const struct weight *w;
    int64_t m;
    const void *dy; /* [m, n] act, rows dy_stride elements apart */
    int64_t dy_stride;
    void *dx; /* [m, k] dx_type */
    enum dtype dx_type;
    bool accumulate;
};

/* dw[n, k] += dy[m, n]^T . x[m, k], fp32. */
struct matmul_backward_weight {
    int64_t m, n, k;
    const void *dy; /* [m, n] act, rows dy_stride elements apart */
    int64_t dy_stride;
    const void *x;   /* [m, k] act */
    enum dtype type; /* of dy and x */
    float *dw;       /* [n, k] */
};

/* y[t, :] = table[token[t], :] as fp32 (the residual stream). */
struct embed_forward {
    int64_t tokens, width;
    const int32_t *token; /* [T] */
    const void *table;    /* [V, C] type */
    enum dtype type;
    float *y; /* [T, C] */
};

/* d_table[token[t], :] += dy[t, :], tokens in ascending order. */
struct embed_backward {
    int64_t tokens, width, vocab;
    const int32_t *token; /* [T] */
    const float *dy;      /* [T, C] */
    float *d_table;       /* [V, C] */
};

/* A change of low rank of the table: y[t, :] += scale * a[token[t], :] . b, the sum over r ascending in fp32 with fused
 * multiply-adds (where the instruction set has them), then scaled. What adds 0 leaves y as it is, a negative zero too. */
struct embed_change_forward {
    int64_t tokens, width, r;
    const int32_t *token; /* [T] */
    const void *a, *b;    /* [V, r], [r, C] type: F32 or BF16 */
    enum dtype type;
    float scale;
    float *y; /* [T, C] */
};

/* With d = scale * dy . b^T in fp32: da[token[t], :] += d[t, :], and db += scale * sum over t of a[token[t], :]^T . dy[t, :],
 * tokens in ascending order in both. */
struct embed_change_backward {
    int64_t tokens, width, r, vocab;
    const int32_t *token; /* [T] */
    const void *a, *b;    /* [V, r], [r, C] type */
    enum dtype type;
    float scale;
    const float *dy; /* [T, C] */
    float *d;        /* [T, r] room */
    float *da, *db;  /* [V, r], [r, C] */
};

/* y[t][c] += scale[t] * u, u uniform in [-1, 1): word c % 4 of the Philox block (seed, RNG_NOISE, stream[t],
 * position[t] * ceil(width / 4) + c / 4). */
struct embed_noise {
    int64_t tokens, width;
    const int32_t *position; /* [T] */
    const float *scale;      /* [T] */
    const uint64_t *stream;  /* [T] */
    uint64_t seed;
    float *y; /* [T, C] */
};

/* y = x / sqrt(mean(x^2) + eps) * gain; of the rows listed in row[] if given, else of all rows in order. */
struct rmsnorm_forward {
    int64_t rows, width;
    const int32_t *row; /* NULL, or [rows]: y row i is x row row[i] */
    const float *x;     /* [*, C] residual */
    const void *gain;   /* [C] gain_type */
    enum dtype gain_type;
    float eps;
    void *y; /* [rows, C] y_type */
    enum dtype y_type;
};

/* With n = x * rstd (rstd recomputed from x): dx += rstd * (g*dy - n * mean(g*dy*n)), d_gain += sum over rows of dy *
 * n. With row[], the gradient of row i of dy goes to row row[i] of dx (each row at most once). */
struct rmsnorm_backward {
    int64_t rows, width;
    const int32_t *row;
    const float *x; /* [*, C] */
    const void *gain;
    enum dtype gain_type;
    float eps;
    const float *dy; /* [rows, C] */
    float *dx;       /* [*, C], accumulated into */
    float *d_gain;   /* [C], accumulated into; NULL: not wanted */
};

/* Keys and values in 8 bits (kv8): of a head of a row D whole numbers from -127 to 127, and behind them, at a multiple of 4
 * bytes, the float that one of them is worth: the largest magnitude divided by 127 (0 where that is below 1e-30, NaN where
 * an element is not finite). What is read is their product, rounded to act. */
#define KV8_SCALE_AT(head_dim)   (((head_dim) + 3) / 4 * 4)
#define KV8_HEAD_BYTES(head_dim) (KV8_SCALE_AT(head_dim) + 4)

/* Splits the fused projection and prepares attention: per head RMS norm of q and k (gains [D]; NULL gain: no norm),
 * then rotation of the halves (i, i + D/2) by the angle of the token's position; v is copied. k and v go to rows
 * kv_row[t]. */
struct qkv_forward {
    int64_t tokens;
    int32_t n_heads, n_kv_heads, head_dim;
    const void *qkv;         /* [T, (H+2K)*D] act: q heads, k heads, v heads */
    const int32_t *position; /* [T] */
    const int32_t *kv_row;   /* [T] */
    const float *cos_table;  /* [max position, D/2] */
    const float *sin_table;
    const void *q_gain, *k_gain; /* [D] gain_type */
    enum dtype gain_type;
    float eps;
    enum dtype act;
    void *q;     /* [T, H*D] act */
    void *k, *v; /* [kv rows, K*D] act, or with kv8 [kv rows, K, KV8_HEAD_BYTES(D)] bytes */
    bool kv8;
};

/* Computes the gradient of the fused projection from those after rotation. The rows of dk and dv are kv_row[t]. */
struct qkv_backward {
    struct qkv_forward forward; /* qkv, position, kv_row, tables, gains as in the forward; q, k, v unused */
    const float *dq;            /* [T, H*D] */
    const float *dk, *dv;       /* [kv rows, K*D] */
    void *d_qkv;                /* [T, (H+2K)*D] act */
    float *d_q_gain, *d_k_gain; /* [D], accumulated into; NULL: not wanted */
};

/* The queries of one sequence in this batch: rows query_row .. query_row + n_queries of q at absolute positions
 * first_position, +1, ... . Its keys at positions 0 .. last query's position lie where its spans say. */
struct attention_seq {
    int32_t query_row, n_queries, first_position;
    int32_t span_begin, n_spans; /* into spans[]: ascending positions, from 0, without gaps */
    int32_t tree;                /* sequences of one tree share key rows (a prompt and its completions); ascending over
                                    seqs */
};

/* Keys at positions position .. position + length lie in rows row .. row + length of k and v. */
struct attention_span {
    int32_t position, row, length;
};

/* What attention_prepare gets before the layers of a batch run. */
struct attention_batch {
    int32_t n_tokens, n_seqs, n_spans, n_trees;
    const struct attention_seq *seqs;   /* (host) */
    const struct attention_span *spans; /* (host) */
    int32_t n_heads, n_kv_heads, head_dim;
    bool backward; /* a backward will follow: keys and values of a sequence's own tokens lie in the rows of its
                      queries */
};

/* Causal attention, one softmax per (query, head), over all keys before the query and its own, or with a window over the
 * last `window` of these, in chunks of ATTENTION_CHUNK absolute positions ascending with the
 * online recurrence m' = max(m, max s), l = l * exp(m - m') + sum exp(s - m'), o likewise; o / l at the end. The score
 * of a key is a dot product of fixed order over D, computed from q and k as stored (act). Query head h uses kv head h /
 * (H / K). */
struct attention_forward {
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t window; /* keys that a query sees at most, its own included; 0: no window */
    float scale;
    enum dtype act;
    int32_t n_seqs, n_spans;
    const struct attention_seq *seqs;   /* (host) */
    const struct attention_span *spans; /* (host) */
    const int32_t *position;            /* [T] of the queries; what seqs say too */
    const void *q;                      /* [T, H*D] act */
    const void *k, *v;                  /* [kv rows, K*D] act, or as struct qkv_forward has them with kv8 */
    bool kv8;                           /* never where a backward follows */
    void *out;                          /* [T, H*D] act */
    float *lse;                         /* [T, H] log-sum-exp of the scaled scores, or NULL */
};

/* Gradient of the above by recomputation from lse. One worker owns a (tree, kv head), so dk and dv have one order of
 * summation: sequences ascending, queries ascending, heads ascending. */
struct attention_backward {
    struct attention_forward forward; /* out and lse as the forward left them */
    const void *d_out;                /* [T, H*D] act */
    float *dq;                        /* [T, H*D], overwritten */
    float *dk, *dv;                   /* [kv rows, K*D], accumulated into */
};

/* y = silu(gate) * up. */
struct swiglu_forward {
    int64_t tokens, width;
    const void *gate_up; /* [T, 2F] act: gate, then up */
    void *y;             /* [T, F] act */
    enum dtype act;
};

struct swiglu_backward {
    int64_t tokens, width;
    const void *gate_up; /* [T, 2F] act */
    const void *dy;      /* [T, F] act */
    void *d_gate_up;     /* [T, 2F] act */
    enum dtype act;
};

/* y[r, :] += bias, in fp32, rounded once to y_type. */
struct bias_forward {
    int64_t rows, width;
    void *y; /* [R, width] y_type */
    enum dtype y_type;
    const void *bias; /* [width] bias_type */
    enum dtype bias_type;
};

/* d_bias += scale * the sum over rows of dy, in an order that follows from the number of rows alone. */
struct bias_backward {
    int64_t rows, width;
    const void *dy; /* [R, width] type, rows dy_stride elements apart */
    int64_t dy_stride;
    enum dtype type;
    float scale;
    float *d_bias; /* [width] */
};

/* A change of low rank to a projection (LoRA): part p of it, n columns from column on, gets scale * x . a^T . b^T beside
 * its product with the weight. The parts are those of a fused projection that have one. */
enum { LOWRANK_PARTS = 3 };

struct lowrank_part {
    int64_t column, n, r;
    float scale;
    const struct weight *b; /* [n, r] */
    float *db;              /* [n, r] its gradient, accumulated into */
};

struct lowrank {
    int64_t k, r;           /* r: the sum of the parts' */
    const struct weight *a; /* [r, k] those of the parts below each other */
    float *da;              /* [r, k] */
    int32_t n_parts;
    struct lowrank_part part[LOWRANK_PARTS];
};

/* A product and its change. With h = scale * (x . a^T), rounded once to act: y += h . b^T in fp32, rounded once to y_type. What adds 0 leaves y as
 * it is, a negative zero too: a change whose b is 0 has no effect on any bit. The reductions over k and r have one order,
 * fixed by the sizes of the change and never by m. */
struct lowrank_forward {
    const struct lowrank *change;
    /* Runs too, before its y gets the change; with w NULL it is in y already. Its x is of the type of a and b. */
    const struct matmul_forward *product;
};

/* With d = scale * (dy . b), rounded once to act: b's gradient += dy^T . h, a's += d^T . x, and dx += d . a. */
struct lowrank_backward {
    const struct lowrank *change;
    int64_t m;
    const void *dy; /* [m, *] act, rows dy_stride elements apart */
    int64_t dy_stride;
    const void *x; /* [m, k] act */
    void *dx;      /* [m, k] dx_type; NULL: not wanted */
    enum dtype dx_type;
};

/* The rows of a weight with a change of low rank: v = w + scale * (b . a), each element's sum over r ascending in fp32
 * with fused multiply-adds (where the instruction set has them), then scaled and added. With a magnitude (DoRA) row i is
 * factor[i] * v[i, :], factor = magnitude / norm, norm = |v[i, :]| from a sum in double: lane c % 32 has the squares of
 * columns c ascending, and the lanes are added in halves. A row of zeros has the factor magnitude. What is NULL is not
 * made. by_column: magnitude, norm and factor (which it then needs) are those of the columns, [k], whose lane i % 32 has the
 * squares of rows i ascending. */
struct fold {
    int64_t n, k, r;
    enum dtype type; /* of w, a, b and to */
    const void *w;   /* [n, k] */
    const void *a;   /* [r, k] */
    const void *b;   /* [n, r] */
    float scale;
    bool by_column;
    const float *magnitude; /* [n]; NULL: none */
    float *norm;            /* [n] */
    float *factor;          /* [n], with a magnitude */
    void *to;               /* [n, k], rounded once */
};

/* Rows of a projection with a magnitude: y = factor * z, column by column, or y = before + factor * z; in fp32, rounded
 * once to y_type. A factor of 1 changes no bit. */
struct magnitude_forward {
    int64_t rows, width;
    const float *z, *factor; /* [R, width], [width] */
    const float *before;     /* [R, width]; NULL: none */
    void *y;                 /* [R, width] y_type; may be before, or z where it is F32 */
    enum dtype y_type;
};

/* dz = factor * dy, rounded once; the norm counts as a constant, so that the gradient of a part's magnitude is the sum
 * over the rows of dy * z / norm, in an order that follows from the number of rows alone. Where the norm is 0 it is 0. */
struct magnitude_part {
    int64_t column, n;
    const float *norm;  /* [n] */
    float *d_magnitude; /* [n], accumulated into */
};
struct magnitude_backward {
    int64_t rows, width;
    const void *dy;          /* [R, width] type */
    const float *z, *factor; /* [R, width], [width] */
    enum dtype type;
    void *dz; /* [R, width] type */
    int32_t n_parts;
    struct magnitude_part part[LOWRANK_PARTS];
};

/* y = x / (1 - p) where an element is kept and 0 elsewhere, or y += that; in fp32, rounded once. Element c of row t is
 * kept if u >= p, u uniform in [0, 1): word c % 4 of the Philox block (seed, RNG_DROPOUT, stream[t],
 * position[t] * ceil(width / 4) + c / 4). */
struct dropout {
    int64_t rows, width;
    const int32_t *position; /* [R] */
    const uint64_t *stream;  /* [R] */
    uint64_t seed;
    float p;       /* in [0, 1) */
    const void *x; /* [R, width] x_type */
    enum dtype x_type;
    void *y; /* [R, width] y_type; may be x */
    enum dtype y_type;
    bool accumulate;
};

/* y = x in another type, elementwise. */
struct convert {
    int64_t count;
    const void *x;
    enum dtype x_type;
    void *y;
    enum dtype y_type;
};

/* Which ids of a row there are: those of bitset which[r], the lowest id in the lowest bit; the others are as with a logit
 * of -infinity. which[r] = -1, or bits NULL: all. */
struct head_allowed {
    const uint32_t *bits; /* [*, allowed_words(V)] */
    const int32_t *which; /* [R] */
};

/* Statistics of rows of logits z = logits * (1 / temperature): lse = log sum exp z in a fixed order over the
 * vocabulary, log-prob of target = z[target] - lse, entropy = lse - sum softmax(z) z. sample uses the same function for
 * its log-prob. What may be NULL is not computed, and changes no bit of the rest. */
struct head_stats {
    int64_t rows, vocab;
    const float *logits;         /* [R, V] */
    float temperature;           /* > 0 */
    const int32_t *target;       /* [R] */
    float *logp, *lse, *entropy; /* [R]; entropy may be NULL */
    int32_t *top;                /* [R] 1: the target is the first entry with the largest z, else 0; may be NULL */
    float *mean;                 /* [R] of log p over the vocabulary; may be NULL */
    struct head_allowed allowed; /* where it has bits, top and mean are NULL; sample's masked rows have the same bits */
};

/* d_logits of sum_r d_logp[r] * logp[r] + d_entropy[r] * entropy[r] + d_mean[r] * mean[r]:
 * (1/T) * (d_logp * (onehot - p) + d_entropy * (-p * (log p + entropy)) + d_mean * (1/V - p)). */
struct head_gradient {
    int64_t rows, vocab;
    const float *logits; /* [R, V] */
    float temperature;
    const int32_t *target;           /* [R] */
    const float *lse, *entropy;      /* [R] as head_stats gave them */
    const float *d_logp, *d_entropy; /* [R]; d_entropy and entropy may be NULL */
    void *d_logits;                  /* [R, V] act; may not alias logits */
    enum dtype act;
    const float *d_mean;         /* [R]; may be NULL */
    struct head_allowed allowed; /* as head_stats had it; d_logits of the others is 0 */
};

/* The generalised Jensen-Shannon divergence of two distributions of the vocabulary, p = softmax(logits * (1 / T)) and
 * q = softmax(teacher * (1 / T)) (Agarwal et al. 2023, arXiv 2306.13649, as TRL's DistillationTrainer has it): beta 0:
 * KL(q || p); beta 1: KL(p || q); between them, with m = (1 - beta) p + beta q: beta KL(q || m) + (1 - beta) KL(p || m).
 * A row's sums are in a fixed order over the vocabulary. A row without a distribution gives NaN. What neither of both
 * can be (-inf) adds nothing; what only the other one can be is no number that trains (1e30).
 *
 * divergence_gradient: d_logits of sum_r weight[r] * divergence[r], by the logits of p alone:
 * beta 0: (weight / T) * (p - q); else (weight / T) * (1 - beta, or 1 where beta is 1) * p * (ln p - ln m - to_mix), with
 * m = q where beta is 1. */
struct divergence {
    int64_t rows, vocab;
    const float *logits, *teacher; /* [R, V] */
    float temperature;
    const float *lse, *lse_teacher; /* [R] as head_stats gave them */
    float beta;                     /* in [0, 1] */
    float *value;                   /* [R] the divergence */
    float *to_mix;                  /* [R] KL(p || m), which the gradient reads; 0 where beta is 0 */
    const float *weight;            /* [R]; of the gradient, as what follows */
    void *d_logits;                 /* [R, V] act; may not alias logits and teacher */
    enum dtype act;
};

/* AdamW (Loshchilov and Hutter; torch.optim.AdamW's formulation with bias correction) on count elements. With type
 * BF16, weight holds the high half and low the signed low 16 bits of an fp32 master: master bits = (weight << 16) +
 * (int16)low. */
struct adamw {
    int64_t count;
    void *weight; /* type */
    int16_t *low; /* with BF16, else NULL */
    enum dtype type;
    const float *grad;
    void *m, *v;            /* moment_type */
    enum dtype moment_type; /* F32, or BF16: rounded up or down at random (by step and element) in proportion, so that
                               small changes add up; unbiased, but not the numbers of F32 */
    int64_t first;          /* index of element 0 among all parameters: tells the draws apart */
    float grad_scale;       /* clipping factor, multiplied onto grad */
    float learning_rate, beta1, beta2, eps, weight_decay;
    int64_t step; /* from 1 */
};

/* The same step with both moments in 8 bits (Dettmers et al. 2022, block-wise and dynamic): a code of a book for each
 * element, and for each block of ADAMW_8BIT_BLOCK elements the largest magnitude, by which the book's values are
 * multiplied. The weight moves by the moments as they are before they become codes again; a code is the nearest. */
enum { ADAMW_8BIT_BLOCK = 256 };
struct adamw_8bit {
    struct adamw step;            /* m and v: codes, bytes, at multiples of 4; moment_type and first are not used */
    float *largest_m, *largest_v; /* [blocks] */
    const float *books;           /* [2, 256] ascending: of m, of v */
};

/* Elementwise steps on masters as AdamW's, with one state m (fp32) or none. Products and sums are rounded one by one.
 * SGD (torch.optim.SGD): g = direction * scale + coupled_decay * w; m = g where fresh, else momentum * m + (1 -
 * dampening) * g; w -= rate * (nesterov: g + momentum * m; m; without a state g).
 * LION: w = w * keep - rate * sign(momentum * m + (1 - momentum) * g); m = beta2 * m + (1 - beta2) * g.
 * ALONG: w = w * keep - rate * g, or with a state m = momentum * m + (1 - momentum) * (rate * g), w = w * keep - m. */
enum descent_rule { DESCENT_SGD, DESCENT_LION, DESCENT_ALONG };
struct descent {
    enum descent_rule rule;
    int64_t count;
    void *weight; /* type */
    int16_t *low; /* with BF16, else NULL */
    enum dtype type;
    const void *direction;     /* direction_type: the gradient, or what was made of it */
    enum dtype direction_type; /* F32 or BF16 */
    float *m;                  /* NULL: none */
    float scale, rate, keep, coupled_decay, momentum, dampening, beta2;
    bool nesterov, fresh;
};

/* mean += share * (master - mean); with share 1 the mean becomes the master itself. */
struct average {
    int64_t count;
    const void *weight; /* type */
    const int16_t *low; /* with BF16, else NULL: the weight is its own master */
    enum dtype type;
    float *mean;
    float share;
};

/* y += x. Where both are -0 the sum is, else a sum of 0 is +0: IEEE's addition, one for each element. */
struct add {
    int64_t count;
    const float *x;
    float *y;
};

/* Adafactor's means of q = (grad * scale)^2 + floor, over a matrix: row = keep * row + mix * mean over columns, col
 * likewise over rows, and *row_mean = the mean of row. col NULL: row has the shape of the gradient, and q is its own
 * mean. */
struct adafactor_means {
    int64_t rows, columns;
    const float *grad; /* [R, columns] */
    float scale, floor, keep, mix;
    float *row, *col; /* [R], [columns]; col NULL: row is [R, columns] */
    float *row_mean;  /* [1]; not used without col */
};

/* grad becomes grad * scale / sqrt(row / *row_mean) / sqrt(col), or without col grad * scale / sqrt(row). */
struct adafactor_scale {
    int64_t rows, columns;
    float *grad;
    float scale;
    const float *row, *col, *row_mean;
};

/* Muon's momentum (torch.optim.Muon): m = m + (1 - momentum) * (g - m), g = grad * scale; x = nesterov: g moved towards
 * m by momentum; else m. */
struct muon_momentum {
    int64_t count;
    const float *grad;
    float scale, momentum;
    bool nesterov;
    float *m;
    uint16_t *x; /* bf16 */
};

/* y = (a * x + b * z) / divisor, rounded once to bf16; x or z NULL: without it. y may be x. */
struct muon_mix {
    int64_t count;
    const uint16_t *x; /* bf16 */
    const float *z;
    float a, b, divisor;
    uint16_t *y; /* bf16 */
};

/* y[j, i] = x[i, j], bf16. */
struct muon_transpose {
    int64_t rows, columns; /* of x */
    const uint16_t *x;
    uint16_t *y;
};

/* For backends and sizes that do not fuse them: the norm that produces the input of a product, and a copy of what y
 * starts from. */
static inline void matmul_make_input(struct backend *backend, const struct matmul_forward *p)
{
    if (p->norm != NULL)
        backend->ops->rmsnorm_forward(backend, p->norm);
}
static inline void matmul_copy_before(struct backend *backend, const struct matmul_forward *p)
{
    if (p->before != NULL && p->before != p->y)
        backend->ops->copy(backend, p->y, p->before, (size_t)p->m * (size_t)p->y_stride * sizeof(float));
}

#endif
