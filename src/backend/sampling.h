/* Drawing tokens from logits, and decoding without host round trips: what the rollout engine asks of a backend. */
#ifndef COHORT_BACKEND_SAMPLING_H
#define COHORT_BACKEND_SAMPLING_H

#include "backend/backend.h"

/* How one request samples. Semantics and order are MLX-LM's (sample_utils.py), after the row's constraint: logit bias,
 * repetition, presence and frequency penalty on raw logits; then top-p, min-p, XTC and top-k on log-probs at
 * temperature 1; then temperature; then one draw. With hf_order the order is transformers' (its logits warpers):
 * temperature, then top-k, top-p of what that leaves, min-p, and XTC. temperature 0 takes the arg max of the penalised
 * logits and ignores the filters. */
struct sampling_params {
    float temperature;
    bool hf_order;
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

/* Whether a draw sees logits other than the model's: a bias, a penalty or a filter changes them. */
static inline bool sampling_changes_logits(const struct sampling_params *p)
{
    bool penalty = p->n_bias > 0 || (p->repetition_penalty != 0.0f && p->repetition_penalty != 1.0f) ||
                   p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f;
    bool filter = (p->top_p > 0.0f && p->top_p < 1.0f) || p->min_p != 0.0f || p->xtc_probability > 0.0f || p->top_k > 0;
    return penalty || (filter && p->temperature != 0.0f);
}

/* Whether the temperature divides before filters look. */
static inline bool sampling_scales_first(const struct sampling_params *p)
{
    return p->hf_order && p->temperature != 0.0f && p->temperature != 1.0f;
}

/* One row to sample. The draw is a function of (seed, stream, position) (invariant I3). */
struct sample_row {
    const struct sampling_params *params; /* (host) */
    const int32_t *history;               /* (host) prompt + output so far */
    int32_t n_history;
    const uint32_t *allowed; /* (host) [allowed_words(n_choosable)] a bit for every id, the lowest first, 1 where it may
                                be chosen: the others are as with a bias of -infinity. NULL: all may */
    bool masked;             /* logp and entropy are those of the distribution over what is allowed */
    int32_t logits_row;      /* row of logits: rows may be shared (the first token of a group) */
    uint64_t seed, stream, position;
    int32_t token; /* out: the choice */
    float logp;    /* out: its log-prob at the sampling temperature (1 if that is 0), unfiltered, unpenalised */
    float entropy; /* out: of that same distribution, in nats: what head_stats gives for the row, or, masked, for
                      the row behind forbid */
    float kept;    /* out: the log of the probability that allowed leaves, at that temperature; 0 without it */
};

/* Whether a row is drawn from logits other than the model's. */
static inline bool sample_row_changes(const struct sample_row *row)
{
    return row->allowed != NULL || sampling_changes_logits(row->params);
}

struct sample {
    int64_t vocab;
    int64_t n_choosable;     /* ids >= this are never chosen (rows of the head without a token); they stay in the
                                log-prob */
    const float *logits;     /* [R, V], not modified */
    struct sample_row *rows; /* (host) */
    int32_t n_rows;
};

/* One sequence that a device decodes without the host for some steps. What it points to is copied. */
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
    struct sample_row draw; /* its next draw; n_history counts the token above too. allowed is NULL: what it says would
                               hold for one step only */
};

/* The most steps of one decode_load. */
enum { DECODE_STEPS_MOST = 16 };

/* The token of a step in a slot that had already stopped. */
enum { DECODE_STOPPED = -2 };

/* Prepares up to n_rows slots for steps of decoding. Rows of the batch from n_slots on are idle: their kv_row is -1 and
 * their results are ignored. It replaces attention_prepare until the next batch. */
struct decode_load {
    const struct decode_slot *slots; /* (host) */
    int32_t n_slots, n_rows, steps;
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t *token, *position, *kv_row; /* [n_rows] the batch's, written here and by every step */
};

/* Ends a step: draws a token for every slot from its row of logits (row i for slot i) and advances the slot: token,
 * position and kv_row of the batch are then what the next step feeds. Records token, log-prob and entropy for
 * decode_fetch. It may be called for parts of the rows; the step ends with the part that holds the last row. */
struct decode_draw {
    int64_t vocab;
    const float *logits; /* [count, V] of rows first .. first + count */
    int32_t first, count;
};

#endif
