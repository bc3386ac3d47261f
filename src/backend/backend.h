/* A backend: where tensors live and what computes with them. Everything above this header is written once; a backend
 * (CPU or CUDA) fills the table of operations. The params structs of the operations are in ops.h, those of drawing and
 * decoding in sampling.h. */
#ifndef COHORT_BACKEND_BACKEND_H
#define COHORT_BACKEND_BACKEND_H

#include "backend/cpu_isa_list.h"
#include "base/error.h"
#include "base/stop.h"
#include "tensor/storage.h"

#include <stdbool.h>
#include <stdint.h>

/* Defined in backend/ops.h, those of drawing and decoding in backend/sampling.h, those of experts in
 * backend/expert_ops.h. */
struct backend;
struct weight;
struct matmul_forward;
struct matmul_backward_input;
struct matmul_backward_weight;
struct embed_forward;
struct embed_backward;
struct embed_noise;
struct embed_change_forward;
struct embed_change_backward;
struct rmsnorm_forward;
struct rmsnorm_backward;
struct qkv_forward;
struct qkv_backward;
struct attention_batch;
struct attention_forward;
struct attention_backward;
struct swiglu_forward;
struct swiglu_backward;
struct bias_forward;
struct bias_backward;
struct lowrank_forward;
struct lowrank_backward;
struct route_forward;
struct route_backward;
struct route_sums;
struct grouped_forward;
struct grouped_backward_input;
struct grouped_backward_weight;
struct grouped_change_forward;
struct grouped_change_backward;
struct combine_forward;
struct combine_backward;
struct fold;
struct magnitude_forward;
struct magnitude_backward;
struct dropout;
struct convert;
struct head_stats;
struct head_gradient;
struct divergence;
struct sample;
struct decode_load;
struct decode_draw;
struct adamw;
struct adamw_8bit;
struct descent;
struct average;
struct add;
struct adafactor_means;
struct adafactor_scale;
struct muon_momentum;
struct muon_mix;
struct muon_transpose;

/* How large the batches will be that a backend is asked for. They determine its working memory, which is separate from
 * the tensors it is given. */
struct backend_load {
    int32_t n_heads, n_kv_heads, head_dim;
    int64_t width, vocab, n_weights;
    int32_t context; /* tokens of the longest sequence */
    /* Of a rollout; sequences 0: there is none. */
    int32_t sequences;   /* decoding at once */
    int64_t step_tokens; /* of prompts in one step */
    int64_t prompts;     /* in one step at most */
    int64_t draws;       /* of one step */
    int32_t history;     /* ids that penalties look back at most; -1: no penalty, bias or constraint */
    int64_t logits_rows; /* at once */
    /* Of training; train_tokens 0: there is none. */
    int64_t train_tokens, train_sequences, train_logits_rows;
    /* Of an adapter: the sum of the ranks of one projection's parts, and the columns of its input, at most. Rank 0: there
     * is none. */
    int64_t adapter_rank, adapter_depth;
    int64_t expert_rank; /* of what changes an expert, at most */
    /* Of a layer with experts; n_experts 0: there is none. */
    int32_t n_experts, chosen;
};

/* Facts about a device that plans read: the sizes beyond which its products gain nothing. */
struct backend_sizes {
    size_t logits_bytes;      /* of logits worked on at once: still small beside the weights */
    int32_t prefill_tokens;   /* of prompts in one step of the engine */
    int32_t decode_sequences; /* decoding in one step of the engine */
    /* In a micro-batch of training: of a model up to FULL_MICRO_WIDTH wide (session.c), and of one of just that width
     * from which on they fall with the width. */
    int64_t train_tokens, train_tokens_wide;
    int64_t square_block; /* elements of a block of sum_squares */
};

/* What a weight for products is made from: a matrix [n, k] as it is stored. */
struct weight_source {
    enum storage_format format;
    const void *data;   /* backend memory, [n, k] row-major */
    const void *scales; /* of a format that has them apart from the data; NULL for F32, BF16 and F16 */
    int64_t n, k;
    bool lowrank; /* it is a factor of a struct lowrank */
    void *room;   /* backend memory for the packed copy, which stays the caller's; NULL: it is allocated */
};

struct backend_ops {
    const char *name;
    /* Allocates zeroed memory, 64-byte aligned. what is for the message. */
    cohort_status (*alloc)(struct backend *, void *out, size_t bytes, const char *what, cohort_error *);
    /* Allocates zeroed memory of the host that operations can use as any other, more slowly. Products go through stages,
     * buffers of the backend's own memory for its largest matrix and for the largest but that one (0, 0: no products
     * are asked for). NULL in a backend whose own memory is the host's. */
    cohort_status (*alloc_host)(struct backend *, void *out, size_t bytes, const size_t stages[2], const char *what,
                                cohort_error *);
    void (*free)(struct backend *, void *memory);
    void (*upload)(struct backend *, void *to, const void *from_host, size_t bytes);
    void (*download)(struct backend *, void *to_host, const void *from, size_t bytes);
    /* The same on another thread than the one that computes meanwhile, for memory that nothing writes: what was issued
     * before has been waited for. NULL in a backend that has no way to. */
    cohort_status (*download_beside)(struct backend *, void *to_host, const void *from, size_t bytes, cohort_error *);
    void (*zero)(struct backend *, void *memory, size_t bytes);
    void (*copy)(struct backend *, void *to, const void *from, size_t bytes);
    /* Bytes that could be allocated now. */
    size_t (*available)(struct backend *);
    /* The most bytes that operations hold beside their tensors. NULL: too few to plan. */
    size_t (*working_bytes)(struct backend *, const struct backend_load *);
    /* Waits until everything that was issued is done. Downloads, sum_squares, sample and decode_fetch wait themselves;
     * other operations may not have happened yet when they return. */
    void (*wait)(struct backend *);

    /* A weight for products. What the source refers to must stay where it is: weight_refresh and the backward read it
     * again. weight_create allocates the packed copy, or takes room, whose size weight_bytes returns (0: there is no copy; it
     * does not read data). With data NULL the copy is all there is: weight_fill makes it, and the backward and weight_refresh are
     * not for it. COHORT_ERR_UNSUPPORTED: a format that products do not support. Free with weight_destroy (NULL
     * allowed). */
    size_t (*weight_bytes)(struct backend *, const struct weight_source *);
    cohort_status (*weight_create)(struct backend *, struct weight **out, const struct weight_source *, cohort_error *);
    void (*weight_refresh)(struct backend *, struct weight *);
    /* Packs rows [first, first + rows) of a weight from data [rows, k] of its source's format; first is a multiple of
     * PARAM_PART_ROWS, and so is rows unless the matrix ends there. Several threads may call it, each with rows of its
     * own. NULL in a backend whose weights refer to their source. */
    void (*weight_fill)(struct backend *, struct weight *, int64_t first, int64_t rows, const void *data);
    void (*weight_destroy)(struct backend *, struct weight *);

    /* Operations return nothing: a failure in one (no scratch memory, an error of the device) is kept, and this returns
     * it from then on. Called through backend_check. */
    cohort_status (*check)(struct backend *, cohort_error *);

    void (*matmul_forward)(struct backend *, const struct matmul_forward *);
    void (*matmul_backward_input)(struct backend *, const struct matmul_backward_input *);
    void (*matmul_backward_weight)(struct backend *, const struct matmul_backward_weight *);
    void (*embed_forward)(struct backend *, const struct embed_forward *);
    void (*embed_backward)(struct backend *, const struct embed_backward *);
    void (*embed_noise)(struct backend *, const struct embed_noise *);
    void (*embed_change_forward)(struct backend *, const struct embed_change_forward *);
    void (*embed_change_backward)(struct backend *, const struct embed_change_backward *);
    void (*rmsnorm_forward)(struct backend *, const struct rmsnorm_forward *);
    void (*rmsnorm_backward)(struct backend *, const struct rmsnorm_backward *);
    void (*qkv_forward)(struct backend *, const struct qkv_forward *);
    void (*qkv_backward)(struct backend *, const struct qkv_backward *);
    /* Called before the layers of a batch with its sequences, for attention_forward and _backward of every layer until
     * the next prepare. Their own seqs and spans say the same. */
    void (*attention_prepare)(struct backend *, const struct attention_batch *);
    void (*attention_forward)(struct backend *, const struct attention_forward *);
    void (*attention_backward)(struct backend *, const struct attention_backward *);
    void (*swiglu_forward)(struct backend *, const struct swiglu_forward *);
    void (*swiglu_backward)(struct backend *, const struct swiglu_backward *);
    void (*bias_forward)(struct backend *, const struct bias_forward *);
    void (*bias_backward)(struct backend *, const struct bias_backward *);
    void (*lowrank_forward)(struct backend *, const struct lowrank_forward *);
    void (*lowrank_backward)(struct backend *, const struct lowrank_backward *);
    void (*route_forward)(struct backend *, const struct route_forward *);
    void (*route_backward)(struct backend *, const struct route_backward *);
    void (*route_sums)(struct backend *, const struct route_sums *);
    void (*grouped_forward)(struct backend *, const struct grouped_forward *);
    void (*grouped_backward_input)(struct backend *, const struct grouped_backward_input *);
    void (*grouped_backward_weight)(struct backend *, const struct grouped_backward_weight *);
    void (*grouped_change_forward)(struct backend *, const struct grouped_change_forward *);
    void (*grouped_change_backward)(struct backend *, const struct grouped_change_backward *);
    void (*combine_forward)(struct backend *, const struct combine_forward *);
    void (*combine_backward)(struct backend *, const struct combine_backward *);
    void (*fold)(struct backend *, const struct fold *);
    void (*magnitude_forward)(struct backend *, const struct magnitude_forward *);
    void (*magnitude_backward)(struct backend *, const struct magnitude_backward *);
    void (*dropout)(struct backend *, const struct dropout *);
    void (*convert)(struct backend *, const struct convert *);
    void (*head_stats)(struct backend *, const struct head_stats *);
    void (*head_gradient)(struct backend *, const struct head_gradient *);
    void (*divergence)(struct backend *, const struct divergence *);
    void (*divergence_gradient)(struct backend *, const struct divergence *);
    void (*sample)(struct backend *, struct sample *);
    /* Decoding without a host round trip between steps. NULL in a backend that does not have it: the engine then
     * advances step by step. A step is what repeat runs; decode_fetch waits for all of them and gives [steps, n_slots]
     * tokens (DECODE_STOPPED, or -1 as in sample), log-probs and entropies. */
    cohort_status (*decode_load)(struct backend *, const struct decode_load *, cohort_error *);
    void (*decode_draw)(struct backend *, const struct decode_draw *);
    void (*decode_fetch)(struct backend *, int32_t steps, int32_t *tokens, float *logp, float *entropy);
    /* Has the effect of calling step(context) count times. The step issues the same operations on the same buffers
     * every time, and always under this key, so that a device may record them once and then repeat the recording.
     * Freeing any memory forgets all recordings. NULL where decode_load is. */
    void (*repeat)(struct backend *, uint64_t key, int32_t count, void (*step)(void *context), void *context);
    /* Sum of squares of count floats, in double, in fixed blocks ascending. */
    double (*sum_squares)(struct backend *, const float *x, int64_t count);
    /* The same in two parts, for who has a piece of x: (host) sums of the blocks of square_block elements of struct
     * backend_sizes, and, of those of all blocks, what sum_squares makes of them. */
    void (*square_sums)(struct backend *, const float *x, int64_t count, double *sums);
    double (*add_square_sums)(struct backend *, const double *sums, int64_t n);
    void (*adamw)(struct backend *, const struct adamw *);
    void (*adamw_8bit)(struct backend *, const struct adamw_8bit *);
    void (*descent)(struct backend *, const struct descent *);
    void (*average)(struct backend *, const struct average *);
    void (*add)(struct backend *, const struct add *);
    void (*adafactor_means)(struct backend *, const struct adafactor_means *);
    void (*adafactor_scale)(struct backend *, const struct adafactor_scale *);
    void (*muon_momentum)(struct backend *, const struct muon_momentum *);
    void (*muon_mix)(struct backend *, const struct muon_mix *);
    void (*muon_transpose)(struct backend *, const struct muon_transpose *);
    void (*destroy)(struct backend *);
};

struct backend {
    const struct backend_ops *ops;
    int threads;
    const char *threads_note; /* why there are no more of them; "" or NULL: no reason */
    /* Work that one thread does in less time is not divided among threads: a fork and join costs microseconds, and far
     * more if other processes use the cores. No result depends on it. Tests set it to 0, so that small shapes are
     * divided too. */
    double alone_ns;
    /* Whether backend memory is ordinary memory that the host may read and write. */
    bool host_memory;
    /* Allows products to split their sums where that is faster: rows then no longer have the same bits in every batch.
     * Only for measuring what exactness costs. */
    bool inexact_products;
    const struct backend_sizes *sizes; /* what plans read */
    const char *device;                /* in words: "CPU", "GPU 0 (its name)" */
    /* The matrix product provider and instruction set in words ("amx-bf16", "avx512-bf16", "avx512", "avx2",
     * "portable"). */
    const char *provider_bf16, *provider_f32;
    /* The caller's; NULL: none. Once a stop is requested, operations may skip their work, so that a call ends soon, and
     * backend_check reports it. Work that must be finished once it has begun (an update of the weights, the recording
     * of a step) holds the stop off by adding one to unstoppable. */
    const struct stop *stop;
    int unstoppable;
    int gpu;      /* its number on this host; -1: none */
    void *stream; /* what its operations are issued to, in order (cudaStream_t); NULL: they are done when they return */
    /* The caller's; NULL: none. Called before the host waits for the stream, which may itself wait for what the caller
     * has issued to it. */
    void (*before_wait)(void *context);
    void *before_wait_context;
    void *state; /* the backend's own */
};

#ifndef __cplusplus
static inline bool backend_stopped(const struct backend *backend)
{
    return backend->unstoppable == 0 && stop_requested(backend->stop);
}
/* Must be called before results are used: after a micro-batch, after a step of the engine. Returns COHORT_ERR_CANCELLED
 * if a stop cut them short, else what went wrong in an operation since the backend was created. */
static inline cohort_status backend_download_beside(struct backend *backend, void *to_host, const void *from,
                                                    size_t bytes, cohort_error *err)
{
    return backend->ops->download_beside(backend, to_host, from, bytes, err);
}
static inline cohort_status backend_check(struct backend *backend, cohort_error *err)
{
    if (backend_stopped(backend))
        return stop_check(backend->stop, err);
    return backend->ops->check(backend, err);
}
#endif

/* Kernels of a GPU call it too. */
#ifdef __CUDACC__
#define HOST_AND_DEVICE __host__ __device__
#else
#define HOST_AND_DEVICE
#endif

/* The number of words of a bitset over n ids. */
static inline HOST_AND_DEVICE int64_t allowed_words(int64_t n) { return (n + 31) / 32; }

#define CPU_ISA(id, ...) CPU_ISA_##id,
enum cpu_isa { CPU_ISA_AUTO, CPU_ISA_LIST(CPU_ISA) N_CPU_ISAS };
#undef CPU_ISA

/* isa: CPU_ISA_AUTO is the best that this machine has; if it lacks the one asked for, the error is
 * COHORT_ERR_UNSUPPORTED and names the best. threads: 1 to 1024 (0: as many as affinity and CPU quota allow); the
 * backend has fewer if the system gives fewer. It takes one caller at a time, from any thread. */
cohort_status backend_cpu_create(struct backend **out, enum cpu_isa isa, int threads, cohort_error *err);
/* GPU number device, counted as nvidia-smi does in its default order. COHORT_ERR_UNSUPPORTED says what is missing: a
 * build with CUDA, a driver, a device, a newer one. */
cohort_status backend_cuda_create(struct backend **out, int device, cohort_error *err);
/* Whether there is a GPU that backend_cuda_create would accept. */
bool backend_cuda_present(void);
void backend_destroy(struct backend *backend);

#endif
