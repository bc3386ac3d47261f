/* What the files of the CUDA backend share. Host files are C, kernels (kernel_*.cu) CUDA C++ behind extern "C"; a
 * launcher has the signature of the operation it implements.
 *
 * Everything runs on one stream in the order it is issued. What goes wrong is noted by cuda_note and reported by the
 * backend's check. Exactness (invariant I2) here: no float atomics, no reduction whose order depends on the number of
 * rows or blocks, --fmad=false with fmaf where a product and a sum are meant to fuse. */
#ifndef COHORT_BACKEND_CUDA_CUDA_INTERNAL_H
#define COHORT_BACKEND_CUDA_CUDA_INTERNAL_H

#include "backend/ops.h"
#include "backend/sampling.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Attention starts a fresh online softmax every CUDA_SPLIT absolute positions and merges the splits in ascending order,
 * whether one block walks them or several: long contexts and shared prompts can be divided without a change of bits. A
 * tile holds up to CUDA_TILE rows, a row being one (query, head) of the heads that share a key head. */
enum { CUDA_SPLIT = 4 * ATTENTION_CHUNK, CUDA_TILE = 64, CUDA_FEW_ROWS = 16 };

/* One sequence of the prepared batch. Its key at position p lies in row
 * (p < boundary ? chunk.low : chunk.high) + p % ATTENTION_CHUNK, chunk = chunks[chunk_begin + p /
 * ATTENTION_CHUNK]. Keys exist at positions 0 .. n_keys. */
struct cuda_seq {
    int32_t query_row, n_queries, first_position;
    int32_t boundary, chunk_begin, n_keys;
};

struct cuda_chunk {
    int32_t low, high;
};

/* Work of attention's forward (times kv heads): rows query_row .. + n_queries (consecutive tokens of one sequence, or
 * the decoding tokens of sequences that share these keys) against the keys of seq's splits split_begin .. split_end;
 * row t sees keys up to position[t] (array of the batch). An item that is not partial covers all splits that its rows
 * need and writes the result; a partial one is one split, and whoever finishes a row's last split (position[t] /
 * CUDA_SPLIT + 1 in all) merges them. Splits that begin beyond every row's position are empty. A partial item has with
 * it what is needed of its sequence, so that one read tells a block where its keys are. */
struct cuda_item {
    int32_t query_row, n_queries, seq, split_begin, split_end, partial;
    int32_t boundary, n_keys;
    struct cuda_chunk chunks[CUDA_SPLIT / ATTENTION_CHUNK];
};

/* Work of attention's backward for keys: the keys that sequence seq itself wrote, in chunk (absolute positions chunk *
 * ATTENTION_CHUNK ...), seen by the queries of sequences seq_begin .. seq_end. */
struct cuda_key_item {
    int32_t seq, chunk, seq_begin, seq_end;
};

/* The batch prepared for attention, in device memory. */
struct cuda_attention {
    const struct cuda_seq *seqs;
    const struct cuda_chunk *chunks;
    const struct cuda_item *items;
    const int32_t *n_items; /* (device) so that a recorded step need not know it */
    const struct cuda_key_item *key_items;
    int32_t max_items; /* (host value) items at most: *n_items, or more in a recorded step */
    int32_t n_key_items;
    int32_t n_tokens, n_seqs;
    /* All items are partial, or none is. recorded: a window of decoding; the grid then depends on nothing but the
     * machine. */
    bool partial, recorded;
    bool few; /* all items are partial and of at most CUDA_FEW_ROWS rows */
    /* Partial results of row t's split s lie in rows split_base[t] + s of [split rows, H]: o [D] unscaled, m (of scores
     * in base 2) and l; arrived [n_tokens, K] counts finished splits, 0 between launches. NULL without partial
     * items. */
    const int32_t *split_base;
    float *partial_o, *partial_m, *partial_l;
    int32_t *arrived;
};

/* Where the plan of a window of decoding lies. Recorded steps hold these addresses, so they change only together: the
 * memory is then freed, which forgets the recordings. */
struct cuda_decode_plan {
    void *memory;
    size_t bytes;
    int64_t rows, chunks, items, split_rows; /* room for so many */
    int32_t n_heads, n_kv_heads, head_dim;
};

/* A recorded step. */
struct cuda_graph {
    uint64_t key;
    cudaGraphExec_t exec;
    struct cuda_graph *next;
};

struct cuda_decode;
struct cuda_host_block;

/* Shared memory that a block may have on request, of GPUs of a compute capability: 227 KiB in data centres since
 * Hopper, 163 before, 99 on workstation cards. */
static inline size_t cuda_shared_of(int compute)
{
    const bool hopper = compute >= 90 && compute < 120, ampere = compute == 80 || compute == 87;
    return (size_t)(hopper ? 227 : ampere ? 163 : 99) << 10;
}

struct cuda_state {
    int device;
    int multiprocessors;
    int compute;             /* capability: 80, 90, ... */
    size_t shared_per_block; /* bytes a block may have on request */
    cudaStream_t stream;
    struct cuda_host_block *host_blocks; /* tensors in memory of the host */
    cudaStream_t copy_in, copy_out;      /* of those; NULL until there are any */
    cudaStream_t beside;                 /* of cuda_download_beside, whose thread makes it; NULL until then */
    void *blas;                          /* cublasLtHandle_t */
    void *scratch;
    size_t scratch_bytes;
    struct cuda_attention attention;
    void *attention_memory; /* device memory of the plan's lists */
    size_t attention_bytes;
    void *partial_memory;
    size_t partial_bytes;
    struct cuda_decode_plan decode_plan;
    void *plan; /* (host) lists being built */
    size_t plan_bytes;
    struct cuda_decode *decode;
    struct cuda_graph *graphs;
    bool capturing;
    /* Of kernel_lowrank.cu, NULL until they are wanted: counters, and for recorded steps a stream beside the other. */
    int32_t *lowrank_arrived;
    cudaStream_t side;
    cudaEvent_t fork, join;
    void *workspace;   /* of products that may be inexact */
    cudaError_t error; /* the first */
    char error_where[200];
    char name[300];
};

static inline struct cuda_state *cuda_state_of(const struct backend *backend)
{
    return (struct cuda_state *)backend->state;
}

/* Calls go down: from the table (cuda_backend.c) to windows of decoding, attention's plan, products and kernels, and
 * from all of these to the device and the host's memory, which call none of them. */

/* ---- cuda_device.c: the device, its memory, its stream, what went wrong ---- */
cohort_status cuda_device_open(struct backend *, int device, cohort_error *err);
void cuda_device_close(struct backend *);
/* Makes the backend's device the calling thread's current one. */
void cuda_make_current(struct backend *backend);
/* Notes an error of a call or (result cudaSuccess) of the launch before. */
void cuda_note(struct backend *backend, const char *what, cudaError_t result);
cohort_status cuda_check(struct backend *, cohort_error *err);
/* Device memory for the work of one operation, which the next caller overwrites. NULL if there is none (and the error
 * is noted). */
void *cuda_scratch(struct backend *backend, size_t bytes);
/* Copies host memory to the device in order with the stream; from may change when this returns. */
void cuda_upload(struct backend *backend, void *to, const void *from, size_t bytes);
void cuda_download(struct backend *backend, void *to, const void *from, size_t bytes);
cohort_status cuda_download_beside(struct backend *backend, void *to, const void *from, size_t bytes,
                                   cohort_error *err);
/* Everything that was issued is done, and lies where its tensors lie, in the host's memory too. */
void cuda_wait_all(struct backend *backend);
void cuda_zero(struct backend *, void *memory, size_t bytes);
void cuda_copy(struct backend *, void *to, const void *from, size_t bytes);
void cuda_wait(struct backend *);
size_t cuda_available(struct backend *);
cohort_status cuda_alloc(struct backend *backend, void *out, size_t bytes, const char *what, cohort_error *err);
void cuda_free(struct backend *backend, void *memory);
/* Makes *memory at least bytes large: it is kept if it is large enough, else replaced and its content lost. */
bool cuda_grow(struct backend *backend, void **memory, size_t *capacity, size_t bytes);
/* How much cuda_grow allocates for this many bytes; 0 for 0. */
size_t cuda_grown_bytes(size_t bytes);

/* ---- cuda_host_memory.c: tensors in memory of the host ---- */
/* Bytes of pinned memory of the host, zeroed, that the device can use in place; stages: room for its largest matrix and
 * for the largest but that one, by which products go (0, 0: there are no products). Freed by cuda_free. */
cohort_status cuda_alloc_host(struct backend *backend, void *out, size_t bytes, const size_t stages[2],
                              const char *what, cohort_error *err);
/* False if the memory is not of these. */
bool cuda_free_host(struct backend *backend, void *memory);
void cuda_host_close(struct backend *backend);
bool cuda_on_host(const struct backend *backend, const void *p);
/* Where a product finds a matrix: on a stage, if it lies in host memory, else where it is. Once the product is issued,
 * cuda_staged says so. */
void *cuda_stage(struct backend *backend, const void *matrix, size_t bytes, bool writes);
void cuda_staged(struct backend *backend, const void *matrix);
/* Has what products wrote on stages be in host memory for whatever is issued from here on. */
void cuda_host_flush(struct backend *backend);
/* The matrix has changed in host memory: a stage with it is of no use. */
void cuda_host_forget(struct backend *backend, const void *matrix);

/* ---- Operations: kernel_*.cu, or the file named ---- */
#define CUDA_OPERATIONS(OPERATION)                                                                                     \
    OPERATION(matmul_forward, const struct matmul_forward *)                 /* cuda_matmul.c */                       \
    OPERATION(matmul_backward_input, const struct matmul_backward_input *)   /* cuda_matmul.c */                       \
    OPERATION(matmul_backward_weight, const struct matmul_backward_weight *) /* cuda_matmul.c */                       \
    OPERATION(embed_forward, const struct embed_forward *)                                                             \
    OPERATION(embed_backward, const struct embed_backward *)                                                           \
    OPERATION(embed_noise, const struct embed_noise *)                                                                 \
    OPERATION(embed_change_forward, const struct embed_change_forward *)                                               \
    OPERATION(embed_change_backward, const struct embed_change_backward *)                                             \
    OPERATION(rmsnorm_forward, const struct rmsnorm_forward *)                                                         \
    OPERATION(rmsnorm_backward, const struct rmsnorm_backward *)                                                       \
    OPERATION(qkv_forward, const struct qkv_forward *) /* kv_row -1: q only */                                         \
    OPERATION(qkv_backward, const struct qkv_backward *)                                                               \
    OPERATION(attention_prepare, const struct attention_batch *) /* cuda_attention_plan.c */                           \
    OPERATION(attention_forward, const struct attention_forward *)                                                     \
    OPERATION(attention_backward, const struct attention_backward *)                                                   \
    OPERATION(swiglu_forward, const struct swiglu_forward *)                                                           \
    OPERATION(swiglu_backward, const struct swiglu_backward *)                                                         \
    OPERATION(bias_forward, const struct bias_forward *)                                                               \
    OPERATION(bias_backward, const struct bias_backward *)                                                             \
    OPERATION(lowrank_forward, const struct lowrank_forward *)                                                         \
    OPERATION(lowrank_backward, const struct lowrank_backward *)                                                       \
    OPERATION(route_forward, const struct route_forward *)                                                             \
    OPERATION(route_backward, const struct route_backward *)                                                           \
    OPERATION(route_sums, const struct route_sums *)                                                                   \
    OPERATION(grouped_forward, const struct grouped_forward *)                                                         \
    OPERATION(grouped_backward_input, const struct grouped_backward_input *)                                           \
    OPERATION(grouped_backward_weight, const struct grouped_backward_weight *)                                         \
    OPERATION(grouped_change_forward, const struct grouped_change_forward *)                                           \
    OPERATION(grouped_change_backward, const struct grouped_change_backward *)                                         \
    OPERATION(combine_forward, const struct combine_forward *)                                                         \
    OPERATION(combine_backward, const struct combine_backward *)                                                       \
    OPERATION(fold, const struct fold *)                                                                               \
    OPERATION(magnitude_forward, const struct magnitude_forward *)                                                     \
    OPERATION(magnitude_backward, const struct magnitude_backward *)                                                   \
    OPERATION(dropout, const struct dropout *)                                                                         \
    OPERATION(convert, const struct convert *)                                                                         \
    OPERATION(head_stats, const struct head_stats *)                                                                   \
    OPERATION(head_gradient, const struct head_gradient *)                                                             \
    OPERATION(divergence, const struct divergence *)                                                                   \
    OPERATION(divergence_gradient, const struct divergence *)                                                          \
    OPERATION(sample, struct sample *)                 /* cuda_decode.c */                                             \
    OPERATION(decode_draw, const struct decode_draw *) /* cuda_decode.c */                                             \
    OPERATION(adamw, const struct adamw *)                                                                             \
    OPERATION(adamw_8bit, const struct adamw_8bit *)                                                                   \
    OPERATION(descent, const struct descent *)                                                                         \
    OPERATION(average, const struct average *)                                                                         \
    OPERATION(add, const struct add *)                                                                                 \
    OPERATION(adafactor_means, const struct adafactor_means *)                                                         \
    OPERATION(adafactor_scale, const struct adafactor_scale *)                                                         \
    OPERATION(muon_momentum, const struct muon_momentum *)                                                             \
    OPERATION(muon_mix, const struct muon_mix *)                                                                       \
    OPERATION(muon_transpose, const struct muon_transpose *)
#define CUDA_DECLARE(name, params) void cuda_##name(struct backend *, params);
CUDA_OPERATIONS(CUDA_DECLARE)
double cuda_sum_squares(struct backend *, const float *x, int64_t count);
void cuda_square_sums(struct backend *, const float *x, int64_t count, double *sums);
double cuda_add_square_sums(struct backend *, const double *sums, int64_t n);
enum { CUDA_SQUARE_BLOCK = 16384 }; /* elements whose squares one block of sum_squares adds up */

/* The working memory of the operations above, for up to this many rows. */
size_t cuda_head_scratch(int64_t vocab, int64_t rows);
size_t cuda_divergence_scratch(int64_t vocab, int64_t rows);
size_t cuda_rmsnorm_scratch(int64_t rows, int64_t width);
size_t cuda_qkv_scratch(int64_t tokens, int32_t head_dim);
size_t cuda_embed_scratch(int64_t tokens);
size_t cuda_sum_squares_scratch(int64_t count);
size_t cuda_attention_gradient_scratch(int64_t tokens, int32_t n_heads);
size_t cuda_lowrank_scratch(int64_t tokens, int64_t rank, int64_t depth);
size_t cuda_grouped_scratch(int64_t rows, int64_t rank);
size_t cuda_route_scratch(int64_t tokens, int32_t n_experts, int32_t chosen);
/* to[columns, rows] = from[rows, columns]^T */
void cuda_transpose(struct backend *, const void *from, void *to, int64_t rows, int64_t columns, enum dtype type);
void cuda_lowrank_destroy(struct backend *);

/* ---- cuda_working.c: what the backend comes to hold beside the tensors ---- */
size_t cuda_working_bytes(struct backend *, const struct backend_load *);

/* ---- cuda_matmul.c ---- */
/* The weight matrix [n, k] itself. A factor of a struct lowrank has its transpose too, as the last refresh made it. */
struct weight {
    const void *natural;
    void *transposed; /* [k, n], owned; NULL: not a factor */
    int64_t n, k;
    enum dtype type;   /* of x and y */
    enum dtype stored; /* of natural: the same, or F16 where type is F32 */
};
size_t cuda_weight_bytes(struct backend *, const struct weight_source *source);
cohort_status cuda_weight_create(struct backend *, struct weight **out, const struct weight_source *source,
                                 cohort_error *err);
void cuda_weight_refresh(struct backend *, struct weight *);
void cuda_weight_destroy(struct backend *, struct weight *);
cohort_status cuda_blas_create(struct backend *, cohort_error *err);
void cuda_blas_destroy(struct backend *);

/* ---- kernel_matmul_skinny.cu: products of few rows, bit for bit those of cuda_matmul.c ---- */
/* Runs the product, with the norm that produces its x, if it supports the sizes; otherwise it does nothing and returns
 * false. */
bool cuda_skinny_forward(struct backend *, const void *w, int64_t n, int64_t k, const struct matmul_forward *);

/* ---- cuda_attention_plan.c ---- */
/* The most bytes that the lists and partial results take. */
size_t cuda_attention_working_bytes(const struct backend *, const struct backend_load *);
/* For steps of decoding: items for positions up to position + steps. */
bool cuda_attention_prepare_decode(struct backend *, const struct decode_load *);
void cuda_attention_destroy(struct backend *);

/* ---- cuda_decode.c: drawing and windows of decoding ---- */
/* The most bytes that windows take, and that one sample operation works in. */
size_t cuda_decode_working_bytes(const struct backend *, const struct backend_load *);
size_t cuda_sample_scratch(const struct backend *, const struct backend_load *);
cohort_status cuda_decode_load(struct backend *, const struct decode_load *, cohort_error *err);
void cuda_decode_fetch(struct backend *, int32_t steps, int32_t *tokens, float *logp, float *entropy);
void cuda_decode_destroy(struct backend *);

#ifdef __cplusplus
}
#endif

#endif
