/* The decoder: one forward for prefill, decode and training (invariant I1), and its backward, layer by layer.
 *
 * A batch is a list of segments packed into one row of tokens, without padding. Spans of rows of a kv_store say where
 * the keys and values of a sequence lie: in pages of a pool in rollout, in the batch's own rows in training. */
#ifndef COHORT_MODEL_DECODER_H
#define COHORT_MODEL_DECODER_H

#include "model/arena.h"
#include "model/model.h"

/* What training adds to a batch at random, from a Philox stream and position of each token: noise on its embedding,
 * uniform in [-scale, scale) (NEFTune), and dropout of what an adapter reads. */
struct batch_noise {
    float *scale;     /* (host) [n_tokens]; NULL: no noise */
    double dropout;   /* 0: none */
    uint64_t *stream; /* (host) [n_tokens] */
    uint64_t seed;
};

/* Rows row .. row + n of a batch that begin with these vectors in place of their ids' rows of the embedding. */
struct batch_vectors {
    int32_t row, n;
    const float *values; /* (host) [n, C]; borrowed */
};

/* The arrays are in host memory and owned; batch_reserve makes room, batch_clear empties them. */
struct batch {
    int32_t n_tokens, n_seqs, n_spans, n_trees;
    int32_t *token, *position, *kv_row; /* [n_tokens] */
    int32_t *key_position;              /* [n_tokens] as attention counts them; where shifted, else as position */
    bool shifted;
    struct attention_seq *seqs;
    struct attention_span *spans;
    struct batch_vectors *vectors; /* [n_vectors]; of inference only */
    int32_t n_vectors;
    size_t token_capacity, seq_capacity, span_capacity, vectors_capacity;
    const struct batch_noise *noise; /* borrowed; NULL: none */
    /* Of training a model with experts (batch_add_routes), [n_tokens]: how many rows of data a row stands for, a prompt's
     * one for each of its completions here; and the routes with which it was sampled. */
    int32_t *count;
    uint16_t *routes; /* [n_tokens, route_width] */
    int32_t route_width;
    size_t count_capacity, route_capacity;
};
cohort_status batch_reserve(struct batch *batch, size_t tokens, size_t seqs, size_t spans, cohort_error *err);
void batch_clear(struct batch *batch);
void batch_free(struct batch *batch);
/* Appends one sequence's n new tokens at first_position; the caller writes their rows into batch->kv_row afterwards.
 * Its spans are appended with batch_add_span. Room must have been reserved. */
void batch_add_seq(struct batch *batch, const int32_t *tokens, int32_t n, int32_t first_position, int32_t tree);
/* The last sequence sees keys of which so many before its own are left out: to attention its positions are less by that. */
void batch_shift(struct batch *batch, int32_t left_out);
void batch_add_span(struct batch *batch, int32_t position, int32_t row, int32_t length);
/* At most once for each sequence. */
void batch_add_vectors(struct batch *batch, int32_t row, int32_t n, const float *values);
/* What belongs to the last n rows: count, and routes [n, width], or NULL where they are not known. */
cohort_status batch_add_routes(struct batch *batch, int32_t n, int32_t count, const uint16_t *routes, int32_t width,
                               cohort_error *err);
/* The elements of a token's routes: its experts in each layer that has some. */
int32_t route_width(const struct model_config *config);

/* What one layer keeps of earlier tokens: the rows of keys and values that spans refer to. */
struct layer_state {
    void *k, *v;      /* [rows, K*D] act, or in 8 bits as struct qkv_forward says */
    uint16_t *routes; /* with experts: where a token went, [rows, route_width]; NULL: not kept */
    bool kv8;
};

/* The states of all layers: layer l's rows start at l * layer_bytes. */
struct kv_store {
    void *k, *v;      /* [L, rows, K*D] act */
    uint16_t *routes; /* [rows, route_width] of all layers; NULL: not kept */
    int64_t rows;
    size_t layer_bytes; /* 0: layers share one set of rows (training with recomputation) */
    bool kv8;           /* in 8 bits, which no training reads: its log-probs would be of rounded keys and values */
};
size_t kv_layer_bytes(const struct model_config *config, enum dtype act, bool kv8, int64_t rows);
struct layer_state kv_layer_state(const struct kv_store *kv, int32_t layer);

enum decoder_mode {
    DECODER_INFER,    /* nothing kept */
    DECODER_TRAIN,    /* every layer's activations kept for the backward */
    DECODER_RECOMPUTE /* only every layer's input kept; the backward runs the layer's forward again */
};

/* What a layer's backward reads, besides its input. */
struct layer_acts {
    void *qkv;     /* [T, (H+2K)*D] act */
    void *q;       /* [T, H*D] act, normed and rotated */
    void *attn;    /* [T, H*D] act */
    float *lse;    /* [T, H] */
    float *mid;    /* [T, C] residual between attention and feed-forward */
    void *gate_up; /* [T, 2F] act; with experts [T*k, 2I], in the order of the experts */
    struct expert_acts experts;
};

/* Buffers for batches of up to max_tokens. */
struct decoder_work {
    enum decoder_mode mode;
    int64_t max_tokens;
    int32_t *key_position;              /* [T] of inference */
    bool noisy;                         /* batches may have noise; set before planning */
    int32_t *token, *position, *kv_row; /* [T] */
    float *noise_scale;                 /* [T], noisy; noise_stream too */
    uint64_t *noise_stream;
    float *x;                  /* [1 or L+1, T, C] residual at each layer's entry */
    struct layer_acts *layers; /* (host) [1 or L], owned */
    int32_t n_layers;          /* slots of layers */
    struct kv_store kv;        /* training: the batch's own rows */
    void *normed;              /* [T, C] act */
    void *ffn;                 /* [T, F] act, or of experts [T*k, I] */
    struct expert_work experts;
    /* backward */
    float *d_x;       /* [T, C] gradient of the residual stream at the layer in hand */
    void *d_out;      /* [T, C] act: d_x as products read it */
    float *d_normed;  /* [T, C] */
    void *d_ffn;      /* as ffn */
    void *d_gate_up;  /* as gate_up */
    void *d_attn;     /* [T, H*D] act */
    float *d_q;       /* [T, H*D] */
    float *d_k, *d_v; /* [T, K*D] */
    void *d_qkv;      /* [T, (H+2K)*D] act */
};
/* Takes everything from the arena: called twice, to measure and then to allocate. Free the host part with
 * decoder_work_free. */
cohort_status decoder_work_plan(struct decoder_work *work, struct arena *arena, const struct model_config *config,
                                enum dtype act, int64_t max_tokens, enum decoder_mode mode, cohort_error *err);
void decoder_work_free(struct decoder_work *work);

/* Runs the batch through all layers. Returns the residual after the last layer, [T, C] (backend memory, in work). kv:
 * NULL uses work's own. */
float *decoder_forward(struct model *model, struct decoder_work *work, const struct batch *batch,
                       const struct kv_store *kv);
/* The same for rows whose token, position and kv_row are already in work and whose attention is prepared. */
float *decoder_layers(struct model *model, struct decoder_work *work, const struct batch *batch,
                      const struct kv_store *kv);
/* Computes, from work->d_x = dL/d(residual after the last layer), the gradients of everything that trains and adds them
 * up. Must follow decoder_forward of the same batch in a training mode. */
void decoder_backward(struct model *model, struct decoder_work *work, const struct batch *batch);

#endif
