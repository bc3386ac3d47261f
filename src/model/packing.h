/* Prompts with their completions, packed for one pass: a tree is a prompt and the completions that follow it; the
 * prompt is computed once for all of them. Rows that predict a wanted token are the outputs: only they enter the head.
 * A completion's last wanted token and those behind it predict nothing and are not fed. */
#ifndef COHORT_MODEL_PACKING_H
#define COHORT_MODEL_PACKING_H

#include "model/decoder.h"
#include "model/head.h"
#include "model/score_head.h"
#include "ranks/ranks.h"

/* Which tokens the draws of a completion could choose, said again from its tokens, so that log-probs can be those of the
 * distribution over these alone. The same in sampling and here: a function of the tokens. */
struct mask_replay {
    void *context;
    int32_t n_ids;    /* tokens from here on were never chosen */
    const char *text; /* what it is made of, for checkpoints */
    size_t text_length;
    /* A run of sampled tokens begins, behind n_tokens of the completion. */
    void (*begin)(void *context, int32_t n_tokens);
    /* The bitset for the next token, borrowed until accept; NULL: any. */
    const uint32_t *(*allowed)(void *context);
    void (*accept)(void *context, int32_t token);
};

struct completion_tokens {
    const int32_t *tokens;
    int32_t n_tokens;
    const bool *sampled; /* [n_tokens] the tokens whose log-probs are wanted: those that were sampled; NULL: all */
    const uint16_t
        *routes; /* [n_tokens - 1, route_width] with experts, of the tokens as they were sampled; NULL: not known */
    const struct mask_replay *masks; /* log-probs and entropies are of what it allows; NULL: of all tokens */
};
/* How many of its tokens are fed: those before the last wanted one. */
int32_t completion_fed(const struct completion_tokens *completion);
/* How many of its log-probs are wanted. */
int32_t completion_outputs(const struct completion_tokens *completion);

struct tree {
    const int32_t *prompt; /* at least one token, unless completions are scored */
    int32_t n_prompt;
    const struct completion_tokens *completions;
    int32_t n_completions;
    const uint16_t *prompt_routes; /* [n_prompt, route_width]; NULL: not known */
    bool prompt_wanted;            /* the log-probs of the prompt's tokens but the first are wanted too */
};

/* Completions begin .. end of a tree. */
struct tree_slice {
    int32_t tree, begin, end;
};

/* A split of trees into micro-batches of at most a number of fed tokens: micro-batch i holds slices slice_begin[i] ..
 * slice_begin[i + 1]. */
struct packing {
    struct tree_slice *slices;
    int32_t *slice_begin;
    int32_t n_micro, n_slices;
    bool whole; /* a tree is cut only where it fits into no micro-batch; set before packing_split */
    /* For a sequence classifier: a completion has one output, its last row (of an empty one the prompt's), and all of its
     * tokens are fed; with an empty prompt none may be empty; set before packing_split. */
    bool scored;
    size_t slice_capacity, micro_capacity;
};
/* A micro-batch also holds at most max_completions completions. A prompt with one completion that does not fit into
 * max_tokens is an error that says how many tokens would do. */
cohort_status packing_split(struct packing *packing, const struct tree *trees, int32_t n_trees, int64_t max_tokens,
                            int64_t max_completions, cohort_error *err);
void packing_free(struct packing *packing);

/* One micro-batch ready to run, and where each wanted log-prob comes out. */
struct packed {
    struct batch batch;
    struct head_outputs outputs;
    int32_t *first_output; /* [completions here] output of token 0; -1: not wanted */
    int32_t *rest_output;  /* [completions here] output of the first wanted token behind it, the rest behind that */
    int32_t
        *prompt_output; /* [slices here] output of the prompt's second token, the others behind it; -1: not wanted here
                               (a tree in several slices has them in the one of its first completion) */
    int32_t n_completions;
    int32_t route_width;      /* of a model with experts that trains; 0: the batch gets no routes */
    int64_t vocab;            /* of masks; 0: completions have none */
    struct token_masks masks; /* of the completions here */
    int32_t *completion_mask; /* of the completion at work */
    size_t mask_capacity, completion_mask_capacity;
    size_t output_capacity, completion_capacity, wave_capacity, slice_capacity;
};
cohort_status packed_build(struct packed *packed, const struct tree *trees, const struct packing *packing,
                           int32_t micro, cohort_error *err);
void packed_free(struct packed *packed);
/* Copies the n outputs (in the order of packed->outputs) of completion c (counted over the micro-batch) to values,
 * which are in the order of its tokens; and back. n: its completion_outputs. */
void packed_gather(const struct packed *packed, int32_t c, int32_t n, const float *outputs, float *values);
void packed_scatter(const struct packed *packed, int32_t c, int32_t n, const float *values, float *outputs);

/* What a runner gives beyond log-probs and entropies. */
struct tree_extras {
    bool top;     /* whether a target is the likeliest token */
    bool mean;    /* the mean log-prob of the vocabulary */
    bool d_mean;  /* and its gradient */
    bool lse;     /* the log of the sum of exp(logit / temperature) */
    bool squares; /* the log of the sum over the vocabulary of p squared; only with lse */
    bool noise;   /* on embeddings: batches may have it */
    bool whole;   /* trees stay whole where they can (struct packing) */
    bool scores;  /* of a sequence classifier: a score of each label for each completion, in place of log-probs */
    bool masks;   /* completions may have masks; not with top, mean or squares */
    bool compare; /* distributions are compared with another model's (teacher.h) */
};

/* Buffers and bookkeeping for running trees through a model; planned once and reused. */
struct tree_runner {
    struct tree_extras extras; /* set before planning; tree_runner_free leaves it */
    struct ranks *ranks;       /* that score together (tree_runner_score); NULL: one. Likewise */

    struct decoder_work decoder;
    struct head_work head;   /* without extras.scores */
    struct score_work score; /* with them */
    struct packing packing;
    struct packed packed;
    float *logp, *entropy, *d_logp, *d_entropy; /* (host) [max_tokens + completions], in output order; owned */
    float *mean, *d_mean, *lse, *squares;       /* likewise, with the extras of their names */
    int32_t *top;                               /* likewise */
    float *scores,
        *d_scores; /* (host) [completions, labels], in output order, with extras.scores, in place of the others */
    int64_t max_tokens, max_outputs;
    size_t logits_bytes; /* the backend's; set before planning (0: 64 MB) */
    bool keep_logits;    /* for the backward, which otherwise computes them again; set before planning too */
};
/* Takes device buffers from the arena; called twice, to measure and to allocate. max_tokens bounds the fed tokens of a
 * micro-batch, max_completions its completions. */
cohort_status tree_runner_plan(struct tree_runner *runner, struct arena *arena, const struct model_config *config,
                               enum dtype act, int64_t max_tokens, int64_t max_completions, enum decoder_mode mode,
                               cohort_error *err);
void tree_runner_free(struct tree_runner *runner);
/* The part of it that is the decoder's: buffers for packed batches, whose keys and values are in the batch's own rows. */
cohort_status packed_decoder_plan(struct decoder_work *work, struct arena *arena, const struct model_config *config,
                                  enum dtype act, int64_t max_tokens, enum decoder_mode mode, cohort_error *err);
/* The rows of logits that its head works on at once. */
int64_t tree_runner_chunk(const struct tree_runner *runner, const struct model_config *config);

/* Runs one micro-batch (built into runner->packed) forward; log-probs and entropies are left in runner->logp,
 * runner->entropy, extras in what has their names; with scores these alone. */
void tree_runner_forward(struct tree_runner *runner, struct model *model, float temperature);
/* The backward of the same micro-batch, from runner->d_logp (and d_entropy if with_entropy, d_mean with extras.d_mean), or
 * from runner->d_scores. */
void tree_runner_backward(struct tree_runner *runner, struct model *model, float temperature, bool with_entropy);

/* Log-probs (and entropies unless NULL) of every wanted token of trees, one pointer for each completion, in order. With
 * ranks each computes some of the micro-batches, and all get everything. */
cohort_status tree_runner_score(struct tree_runner *runner, struct model *model, const struct tree *trees,
                                int32_t n_trees, float temperature, float *const *logp, float *const *entropy,
                                cohort_error *err);
/* Of a sequence classifier: scores (host) [completions, labels] of the completions of all trees, in order. What one scores
 * is a function of its prompt and tokens, with the same bits in any batch (I2). */
cohort_status tree_runner_scores(struct tree_runner *runner, struct model *model, const struct tree *trees,
                                 int32_t n_trees, float *scores, cohort_error *err);

#endif
