/* What a completion may consist of: a grammar, a schema, a list of words. The engine asks before every draw which tokens
 * may come, and tells what was drawn.
 *
 * A constraint belongs to one completion, whose state is behind context. The calls come from within engine_step; the
 * order is allowed (once or more, without a change of state between two of them), accept, done, and so on, until the
 * completion ends. Tokens that are not allowed are never drawn. Log-probs stay those of the unconstrained distribution,
 * as with filters. Where no token is allowed the completion ends with FINISH_FAILED.
 *
 * On a backend that decodes by itself, all sequences go step by step while one of them has a constraint: the host must
 * have seen a token before it can say what may follow. */
#ifndef COHORT_ROLLOUT_CONSTRAINT_H
#define COHORT_ROLLOUT_CONSTRAINT_H

#include <stdbool.h>
#include <stdint.h>

struct constraint {
    void *context; /* the caller's, until the completion was polled */
    /* The tokens that may come next: a bit for every id of the vocabulary, 32 to a word, the lowest id in the lowest bit.
     * NULL: any. Stays as it is until accept. An EOS that is to end the completion must be among them. */
    const uint32_t *(*allowed)(void *context);
    /* The token that was drawn, the EOS too. */
    void (*accept)(void *context, int32_t token);
    /* Whether the completion ends behind what was accepted (FINISH_STOP). */
    bool (*done)(void *context);
};

#endif
