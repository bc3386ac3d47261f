/* Log-probs of given tokens, and the likeliest tokens at each place: one forward pass of training's packed batches, whose
 * numbers are those that the engine draws with, bit for bit (invariant I2). On the engine thread, between two steps. */
#ifndef COHORT_SERVE_SCORE_H
#define COHORT_SERVE_SCORE_H

#include "model/packing.h"
#include "recipe/session.h"

struct scorer {
    struct model *model; /* borrowed */
    struct arena arena;
    struct tree_runner runner;
    float *logits; /* (host) a chunk of the head's, for who asks for alternatives */
    int32_t n_choosable;
    int32_t most; /* tokens of a sequence; 0: nothing can be scored */
};
/* Takes memory for sequences of up to most tokens. */
cohort_status scorer_open(struct scorer *scorer, const struct session *session, int32_t most, cohort_error *err);
void scorer_close(struct scorer *scorer, struct backend *backend);

/* What is asked for, and what it gives: of n_tokens tokens behind a prompt the log-probs at the temperature, and of each
 * place the n_top likeliest ids, the likeliest first (of equal ones the lowest), with theirs. */
struct score {
    const int32_t *prompt, *tokens;
    int32_t n_prompt, n_tokens, n_top;
    float temperature;
    float *logprobs;     /* [n_tokens] */
    int32_t *top;        /* [n_tokens, n_top] */
    float *top_logprobs; /* [n_tokens, n_top] */
};
cohort_status scorer_run(struct scorer *scorer, struct score *score, cohort_error *err);

#endif
