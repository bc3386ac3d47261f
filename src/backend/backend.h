/* The backend table: the coarse operations that the decoder, the rollout engine and the optimizer are written in.
 * Everything above this header is written once; a backend (CPU or CUDA) fills the table.
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
#ifndef COHORT_BACKEND_BACKEND_H
#define COHORT_BACKEND_BACKEND_H

#include "base/error.h"
#include "base/stop.h"
#include "tensor/dtype.h"

#include <stdbool.h>
#include <stdint.h>

/* Attention walks keys in chunks of this many absolute positions; a KV page holds one chunk. */
enum { ATTENTION_CHUNK = 64 };

struct backend;

/* A weight matrix [n, k] in the backend's own layout for products. Made by weight_create from a natural row-major
 * tensor that stays where it is (the optimizer updates it; weight_refresh follows) and is used by the backward
 * products. The struct is opaque above the backend. */
struct weight;

/* y[m, n] = x[m, k] . w[n, k]^T, or y += that. Reduction over k in one order fixed by (n, k, type, provider), never by
 * m. accumulate needs y_type F32; the sum over k is finished before y is added.
 *
 * norm: the operation on m rows that makes x (its y is x). It is done first, or as part of the product; what x holds
 * afterwards is then not defined. */
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

/* dx[m, k] = dy[m, n] . w[n, k], or dx += that (dx_type F32 then). */
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

/* y = x / sqrt(mean(x^2) + eps) * gain; rows of the list row[] if given, else all in order. */
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
 * n. With row[]: dx row row[i] is what gets the gradient of dy row i (each row at most once). */
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
    void *k, *v; /* [kv rows, K*D] act */
};

/* From the gradients after rotation to that of the fused projection. dk, dv rows are kv_row[t]. */
struct qkv_backward {
    struct qkv_forward forward; /* qkv, position, kv_row, tables, gains as in the forward; q, k, v unused */
    const float *dq;            /* [T, H*D] */
    const float *dk, *dv;       /* [kv rows, K*D] */
    void *d_qkv;                /* [T, (H+2K)*D] act */
    float *d_q_gain, *d_k_gain; /* [D], accumulated into */
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

/* What attention_prepare is told before a batch's layers run. */
struct attention_batch {
    int32_t n_tokens, n_seqs, n_spans, n_trees;
    const struct attention_seq *seqs;   /* (host) */
    const struct attention_span *spans; /* (host) */
    int32_t n_heads, n_kv_heads, head_dim;
    bool backward; /* a backward will follow: keys and values of a sequence's own tokens lie in the rows of its
                      queries */
};

/* Causal attention, one softmax per (query, head), in chunks of ATTENTION_CHUNK absolute positions ascending with the
 * online recurrence m' = max(m, max s), l = l * exp(m - m') + sum exp(s - m'), o likewise; o / l at the end. The score
 * of a key is a dot product of fixed order over D, computed from q and k as stored (act). Query head h uses kv head h /
 * (H / K). */
struct attention_forward {
    int32_t n_heads, n_kv_heads, head_dim;
    float scale;
    enum dtype act;
    int32_t n_seqs, n_spans;
    const struct attention_seq *seqs;   /* (host) */
    const struct attention_span *spans; /* (host) */
    const int32_t *position;            /* [T] of the queries; what seqs say too */
    const void *q;                      /* [T, H*D] act */
    const void *k, *v;                  /* [kv rows, K*D] act */
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

/* y = x in another type, elementwise. */
struct convert {
    int64_t count;
    const void *x;
    enum dtype x_type;
    void *y;
    enum dtype y_type;
};

/* Statistics of rows of logits z = logits * (1 / temperature): lse = log sum exp z in a fixed order over the
 * vocabulary, log-prob of target = z[target] - lse, entropy = lse - sum softmax(z) z. The same function that sample
 * uses for its log-prob. */
struct head_stats {
    int64_t rows, vocab;
    const float *logits;         /* [R, V] */
    float temperature;           /* > 0 */
    const int32_t *target;       /* [R] */
    float *logp, *lse, *entropy; /* [R]; entropy may be NULL */
};

/* d_logits of sum_r d_logp[r] * logp[r] + d_entropy[r] * entropy[r]:
 * (1/T) * (d_logp * (onehot - p) + d_entropy * (-p * (log p + entropy))). */
struct head_gradient {
    int64_t rows, vocab;
    const float *logits; /* [R, V] */
    float temperature;
    const int32_t *target;           /* [R] */
    const float *lse, *entropy;      /* [R] as head_stats gave them */
    const float *d_logp, *d_entropy; /* [R]; d_entropy and entropy may be NULL */
    void *d_logits;                  /* [R, V] act; may not alias logits */
    enum dtype act;
};

/* How one request samples. Semantics and order are MLX-LM's (sample_utils.py): logit bias, repetition, presence and
 * frequency penalty on raw logits; then on temperature-1 log-probs top-p, min-p, XTC, top-k; then temperature; then
 * one draw. temperature 0 takes the arg max of the penalised logits and ignores the filters. */
struct sampling_params {
    float temperature;
    int32_t top_k;              /* 0: off */
    float top_p;                /* 0 or >= 1: off */
    float min_p;                /* 0: off */
    int32_t min_tokens_to_keep; /* of min_p; at least 1 */
    float xtc_probability, xtc_threshold;
    const int32_t *xtc_special; /* (host) ids XTC never removes */
    int32_t n_xtc_special;
    float repetition_penalty; /* 0 or 1: off */
    float presence_penalty, frequency_penalty;
    int32_t repetition_context, presence_context,
        frequency_context;  /* last so many ids of prompt + output; default 20 */
    const int32_t *bias_id; /* (host) */
    const float *bias;
    int32_t n_bias;
};

/* Whether a draw sees other logits than the model gave: a bias, a penalty or a filter. */
static inline bool sampling_changes_logits(const struct sampling_params *p)
{
    bool penalty = p->n_bias > 0 || (p->repetition_penalty != 0.0f && p->repetition_penalty != 1.0f) ||
                   p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f;
    bool filter = (p->top_p > 0.0f && p->top_p < 1.0f) || p->min_p != 0.0f || p->xtc_probability > 0.0f || p->top_k > 0;
    return penalty || (filter && p->temperature != 0.0f);
}

/* One row to sample. The draw is a function of (seed, stream, position) (invariant I3). */
struct sample_row {
    const struct sampling_params *params; /* (host) */
    const int32_t *history;               /* (host) prompt + output so far */
    int32_t n_history;
    int32_t logits_row; /* row of logits: rows may be shared (the first token of a group) */
    uint64_t seed, stream, position;
    int32_t token; /* out: the choice */
    float logp;    /* out: its log-prob at the sampling temperature (1 if that is 0), unfiltered, unpenalised */
};

struct sample {
    int64_t vocab;
    int64_t n_choosable;     /* ids >= this are never chosen (rows of the head without a token); they stay in the
                                log-prob */
    const float *logits;     /* [R, V], not modified */
    struct sample_row *rows; /* (host) */
    int32_t n_rows;
};

/* One sequence that a device decodes by itself for some steps. What is pointed to is copied. */
struct decode_slot {
    int32_t token, position;    /* fed next, and where */
    int32_t n_left;             /* tokens it may still draw: it stops there, or behind an EOS */
    int32_t tree;               /* slots of one tree (next to each other) share the prompt's pages */
    int32_t n_prompt;           /* positions below it lie in prompt_page, the others in own_page */
    const int32_t *prompt_page; /* (host) page of chunk 0, 1, ... */
    const int32_t *own_page;    /* (host) page of chunk n_prompt / ATTENTION_CHUNK, ... */
    int32_t n_own_pages;        /* enough for position + steps */
    const int32_t *eos;         /* (host) */
    int32_t n_eos;
    int32_t n_choosable;
    struct sample_row draw; /* its next draw; n_history counts the token above too */
};

/* Steps of one decode_load at most. */
enum { DECODE_STEPS_MOST = 16 };

/* What the token of a step is where a slot had already stopped. */
enum { DECODE_STOPPED = -2 };

/* Readies up to n_rows slots for steps of decoding. Rows of the batch from n_slots on are idle: their kv_row is -1,
 * what they compute is not looked at. Stands in for attention_prepare until the next batch. */
struct decode_load {
    const struct decode_slot *slots; /* (host) */
    int32_t n_slots, n_rows, steps;
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t *token, *position, *kv_row; /* [n_rows] the batch's, written here and by every step */
};

/* The end of a step: draws a token for every slot from its row of logits (row i for slot i) and moves it on: token,
 * position and kv_row of the batch are what the next step feeds. Notes token and log-prob for decode_fetch. May be
 * called for parts of the rows; the step ends with the part that holds the last row. */
struct decode_draw {
    int64_t vocab;
    const float *logits; /* [count, V] of rows first .. first + count */
    int32_t first, count;
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

/* How large the batches will be that a backend is asked for: what its working memory, which is beside the tensors it is
 * given, follows from. */
struct backend_load {
    int32_t n_heads, n_kv_heads, head_dim;
    int64_t width, vocab, n_weights;
    int32_t context; /* tokens of the longest sequence */
    /* Of a rollout; sequences 0: there is none. */
    int32_t sequences;   /* decoding at once */
    int64_t step_tokens; /* of prompts in one step */
    int64_t prompts;     /* in one step at most */
    int64_t draws;       /* of one step */
    int32_t history;     /* ids that penalties look back at most; -1: no penalty and no bias */
    int64_t logits_rows; /* at once */
    /* Of training; train_tokens 0: there is none. */
    int64_t train_tokens, train_sequences, train_logits_rows;
};

struct backend_ops {
    const char *name;
    /* Memory, zeroed, 64-byte aligned. what is for the message. */
    cohort_status (*alloc)(struct backend *, void *out, size_t bytes, const char *what, cohort_error *);
    void (*free)(struct backend *, void *memory);
    void (*upload)(struct backend *, void *to, const void *from_host, size_t bytes);
    void (*download)(struct backend *, void *to_host, const void *from, size_t bytes);
    void (*zero)(struct backend *, void *memory, size_t bytes);
    void (*copy)(struct backend *, void *to, const void *from, size_t bytes);
    /* Bytes that could be allocated now. */
    size_t (*available)(struct backend *);
    /* Bytes that operations come to hold at most beside their tensors. NULL: not worth planning. */
    size_t (*working_bytes)(struct backend *, const struct backend_load *);
    /* Waits until everything asked for is done. Downloads, sum_squares, sample and decode_fetch wait by themselves;
     * other operations need not have happened when they return. */
    void (*wait)(struct backend *);

    /* natural: [n, k] of type in backend memory, kept by reference. Allocates the packed copy (weight_bytes tells
     * its size before). Free with weight_destroy (NULL allowed). */
    size_t (*weight_bytes)(struct backend *, int64_t n, int64_t k, enum dtype type);
    cohort_status (*weight_create)(struct backend *, struct weight **out, const void *natural, int64_t n, int64_t k,
                                   enum dtype type, cohort_error *);
    void (*weight_refresh)(struct backend *, struct weight *);
    void (*weight_destroy)(struct backend *, struct weight *);

    /* Operations return nothing: what went wrong in one (scratch that could not be had; later, a device) is kept, and
     * is what this returns from then on. Called through backend_check. */
    cohort_status (*check)(struct backend *, cohort_error *);

    void (*matmul_forward)(struct backend *, const struct matmul_forward *);
    void (*matmul_backward_input)(struct backend *, const struct matmul_backward_input *);
    void (*matmul_backward_weight)(struct backend *, const struct matmul_backward_weight *);
    void (*embed_forward)(struct backend *, const struct embed_forward *);
    void (*embed_backward)(struct backend *, const struct embed_backward *);
    void (*rmsnorm_forward)(struct backend *, const struct rmsnorm_forward *);
    void (*rmsnorm_backward)(struct backend *, const struct rmsnorm_backward *);
    void (*qkv_forward)(struct backend *, const struct qkv_forward *);
    void (*qkv_backward)(struct backend *, const struct qkv_backward *);
    /* Before the layers of a batch: its sequences, for attention_forward and _backward of every layer until the next
     * prepare. Their own seqs and spans say the same. */
    void (*attention_prepare)(struct backend *, const struct attention_batch *);
    void (*attention_forward)(struct backend *, const struct attention_forward *);
    void (*attention_backward)(struct backend *, const struct attention_backward *);
    void (*swiglu_forward)(struct backend *, const struct swiglu_forward *);
    void (*swiglu_backward)(struct backend *, const struct swiglu_backward *);
    void (*convert)(struct backend *, const struct convert *);
    void (*head_stats)(struct backend *, const struct head_stats *);
    void (*head_gradient)(struct backend *, const struct head_gradient *);
    void (*sample)(struct backend *, struct sample *);
    /* Decoding that needs no word from the host between steps. NULL in a backend that has none: the engine then goes
     * step by step. A step is what repeat runs; decode_fetch waits for all of them and gives [steps, n_slots] tokens
     * (DECODE_STOPPED, or -1 as in sample) and log-probs. */
    cohort_status (*decode_load)(struct backend *, const struct decode_load *, cohort_error *);
    void (*decode_draw)(struct backend *, const struct decode_draw *);
    void (*decode_fetch)(struct backend *, int32_t steps, int32_t *tokens, float *logp);
    /* Calls step(context) count times in effect. It issues the same operations on the same buffers every time, and
     * always under this key, so that a device may record them once and then repeat the recording. Freeing any memory
     * forgets all recordings. NULL where decode_load is. */
    void (*repeat)(struct backend *, uint64_t key, int32_t count, void (*step)(void *context), void *context);
    /* Sum of squares of count floats, in double, in fixed blocks ascending. */
    double (*sum_squares)(struct backend *, const float *x, int64_t count);
    void (*adamw)(struct backend *, const struct adamw *);
    void (*destroy)(struct backend *);
};

struct backend {
    const struct backend_ops *ops;
    int threads;
    const char *threads_note; /* why there are no more of them, or ""; NULL likewise */
    /* Work that one thread does in less is not shared out: a fork and join costs microseconds, and far more where other
     * processes use the cores. No result depends on it. Tests set it to 0, so that small shapes are shared out too. */
    double alone_ns;
    /* Whether backend memory is ordinary memory that the host may read and write. */
    bool host_memory;
    /* Lets products split their sums as they like where that is faster: rows are then no longer the same bits in every
     * batch. Only to measure what exactness costs. */
    bool inexact_products;
    /* Bytes of logits worked on at once: enough for the products to run at full speed, small beside the weights. */
    size_t logits_bytes;
    /* Prompt tokens computed, and sequences decoding, in one step of the engine beyond which the products gain
     * nothing. */
    int32_t prefill_tokens, decode_sequences;
    /* Likewise of a micro-batch of training: of a model up to FULL_MICRO_WIDTH wide (session.c), and of one of just
     * that width from which on they fall with the width. */
    int64_t train_tokens, train_tokens_wide;
    const char *device; /* in words: "CPU", "GPU 0 (its name)" */
    /* The matrix product provider and instruction set in words ("amx-bf16", "avx512-bf16", "avx512", "avx2",
     * "portable"). */
    const char *provider_bf16, *provider_f32;
    /* The caller's; NULL: none. Once it is requested, operations may leave out what they were asked for, so that a call
     * ends soon, and backend_check tells of it. Work that must be finished once it has begun (an update of the weights,
     * the recording of a step) holds it off by adding one to unstoppable. */
    const struct stop *stop;
    int unstoppable;
    void *state; /* the backend's own */
};

#ifndef __cplusplus
static inline bool backend_stopped(const struct backend *backend)
{
    return backend->unstoppable == 0 && stop_requested(backend->stop);
}
/* Before results are believed: after a micro-batch, after a step of the engine. COHORT_ERR_CANCELLED if they were cut
 * short by a stop, else what went wrong in an operation since the backend was created. */
static inline cohort_status backend_check(struct backend *backend, cohort_error *err)
{
    if (backend_stopped(backend))
        return stop_check(backend->stop, err);
    return backend->ops->check(backend, err);
}
#endif

/* isa: NULL or "auto" for the best this machine has; else one of the provider names above, which must be available.
 * threads: 1 to 1024 (0: as many as affinity and CPU quota allow); the backend has fewer where the system gives fewer.
 * One caller at a time; any thread may be it. */
cohort_status backend_cpu_create(struct backend **out, const char *isa, int threads, cohort_error *err);
/* GPU number device, counted as nvidia-smi does in its default order. COHORT_ERR_UNSUPPORTED says what is missing: a
 * build with CUDA, a driver, a device, a newer one. */
cohort_status backend_cuda_create(struct backend **out, int device, cohort_error *err);
/* Whether a GPU is there that backend_cuda_create would take. */
bool backend_cuda_present(void);
void backend_destroy(struct backend *backend);

/* What a product names beside itself, for backends and sizes that do it apart: the norm that makes x, and a copy of
 * what y starts from. */
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
