/* What the host tells the device of draws, and the slots of sequences that the device decodes by itself. Shared by
 * cuda_decode.c (packs it), kernel_sample_draw.cu and kernel_sample_filter.cu.
 *
 * All of a window (or of one sample operation) is one upload: these structs, then the lists they point to. Pointers are
 * device addresses. */
#ifndef COHORT_BACKEND_CUDA_SAMPLE_ROWS_H
#define COHORT_BACKEND_CUDA_SAMPLE_ROWS_H

#include "backend/cuda/cuda_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

struct draw_bias {
    int32_t id, index; /* index: its place in what was given */
    float bias;
};

struct draw_row {
    uint64_t seed, stream, position;
    float temperature;        /* 0: arg max */
    float inv_temperature;    /* of the reported log-prob: 1 / temperature, or 1 */
    int32_t hf_order;         /* the filters come in transformers' order */
    int32_t scales_first;     /* its temperature divides before them, in the copy */
    int32_t n_choosable;      /* ids from here on are never chosen */
    int32_t logits_row;       /* sample: which logits; a decoding slot reads its own row */
    int32_t stats_row;        /* sample: which row of statistics */
    int32_t changes;          /* goes through the filters' kernel */
    int32_t penalised;        /* its logits are changed in a copy */
    int32_t window_penalised; /* by a penalty on its history */
    float top_p;              /* 0: off */
    int32_t min_p;            /* on */
    float log_min_p;
    int32_t min_tokens_to_keep;
    float xtc_probability, xtc_threshold;
    int32_t top_k;                                                 /* 0: off */
    float repetition_penalty, presence_penalty, frequency_penalty; /* 1, 0, 0: off */
    int32_t repetition_context, presence_context, frequency_context;
    int32_t n_special, n_bias, n_history;
    const uint32_t *allowed; /* a bit for every choosable id; NULL: all are allowed */
    int32_t masked;          /* log-prob and entropy are of what is allowed */
    const int32_t *special;
    const struct draw_bias *bias; /* ids ascending; equal ones in the order they were given */
    int32_t *history;             /* the last n_history ids: as many as the penalties look at, with room for what a
                                     window of decoding adds */
};

/* Copies of rows that a constraint, a bias or penalties change. Blocks take turns with the rows: block b has copy b. */
struct draw_work {
    float *copy;    /* [n_copies, stride] */
    uint32_t *seen; /* [n_copies, stride] how often an id is in a window */
    int64_t stride;
    int32_t n_copies;
};

/* A sequence being decoded. The batch's token, position and kv_row of its row say what is fed. */
struct decode_slot_state {
    int32_t n_left, stopped;
    int32_t step; /* of the window; every slot counts by itself */
    int32_t first_own_chunk, n_own_pages, n_eos;
    const int32_t *own_page, *eos;
};

struct decode_state {
    int32_t n_slots, n_rows, steps;
    struct decode_slot_state *slots;                            /* [n_slots] */
    struct draw_row *draws;                                     /* [n_slots] */
    int32_t *token, *position, *kv_row;                         /* [n_rows] of the batch */
    const int32_t *first_token, *first_position, *first_kv_row; /* [n_rows] for the first step */
    int32_t *ring; /* [steps, 3, n_slots] tokens, then the bits of the log-probs, then those of the entropies */
    struct draw_work work;
};

struct draw_result {
    int32_t token; /* -1: nothing to draw, the others are NaN */
    float logp, entropy, kept;
};

/* One launch of draws: rows first .. first + count of decode, or rows[0 .. count] of a sample operation. */
struct draw_job {
    const float *logits; /* [*, V]; decode: row i is that of slot first + i */
    int64_t vocab;
    struct logits_part *parts; /* [stats rows, n_parts + 1]: those of the row, then the part that n_choosable cuts */
    int32_t n_parts;           /* of vocab */
    struct logits_part
        *allowed_parts; /* sample: [count, n_parts] of what the draws' constraints allow; NULL: no draw has
                                          one */
    int32_t first, count;
    int32_t n_stats;             /* sample: rows of statistics; decode: count */
    const int32_t *stats_first;  /* sample: [n_stats] a draw that uses them */
    const struct draw_row *rows; /* sample */
    struct draw_work work;       /* sample */
    struct draw_result *result;  /* sample: [count] */
    struct decode_state *decode; /* NULL in sample */
};

/* Bytes of job.parts. */
size_t cuda_draw_parts_bytes(int64_t vocab, int64_t stats_rows);
int32_t cuda_draw_parts_of(int64_t vocab);
/* Bytes of job.allowed_parts. */
size_t cuda_allowed_parts_bytes(int64_t vocab, int64_t draws);
/* Statistics, then the draws of rows that change nothing, then with changes those of the others. */
void cuda_draw_launch(struct backend *, const struct draw_job *job, bool changes);
void cuda_filter_launch(struct backend *, const struct draw_job *job);
/* Rows with changes that are worked on at once, of n. */
static inline int32_t cuda_draw_copies(const struct backend *backend, int32_t n)
{
    const int32_t most = cuda_state_of(backend)->multiprocessors;
    return n < most ? n : most;
}
/* Writes the batch's token, position and kv_row of a window's first step. */
void cuda_decode_start(struct backend *, struct decode_state *decode, int32_t n_rows);

#ifdef __cplusplus
}
#endif

#endif
