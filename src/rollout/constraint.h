/* What a completion may consist of: a grammar, a schema, a list of words. The engine asks before every draw which
 * tokens may come next, and reports what was drawn.
 *
 * A constraint belongs to one completion, whose state is behind context. The calls come from within engine_step, in the
 * order allowed (once or more, with the same state each time), accept, done, and so on until the completion ends; turn comes
 * where a completion with turns goes on behind an answer.
 * Tokens that are not allowed are never drawn. Log-probs stay those of the unconstrained distribution, as with filters,
 * unless masked says otherwise; with every token comes the log of the probability that the allowed ones had together.
 * Where no token is allowed the completion ends with FINISH_FAILED.
 *
 * On a backend that decodes without the host, all sequences advance step by step while one of them has a constraint:
 * the host must see a token before it can say what may follow. */
#ifndef COHORT_ROLLOUT_CONSTRAINT_H
#define COHORT_ROLLOUT_CONSTRAINT_H

#include <stdbool.h>
#include <stdint.h>

struct constraint {
    void *context; /* the caller's, until the completion was polled */
    /* The tokens that may come next: a bit for every id of the vocabulary, 32 to a word, the lowest id in the lowest
     * bit. NULL: any. The bitset must stay unchanged until accept. It must contain any EOS that may end the completion.
     */
    const uint32_t *(*allowed)(void *context);
    /* The token that was drawn, the EOS too. */
    void (*accept)(void *context, int32_t token);
    /* Whether the completion ends behind what was accepted (FINISH_STOP). */
    bool (*done)(void *context);
    /* Of a completion with turns: the model's next turn begins, behind n_tokens of the completion. NULL: it has one. */
    void (*turn)(void *context, int32_t n_tokens);
    bool masked; /* log-probs and entropies are those of the distribution over the allowed tokens, renormalised */
};

#endif
