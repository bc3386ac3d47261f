/* What comes out of the engine: finished completions, the queue in which they wait to be polled, and events for tokens
 * as they are drawn.
 *
 * A completion is moved, never shared: the queue owns it from the moment its sequence ends until engine_poll hands it
 * to the caller, who frees it. Its token ids are those that were drawn (invariant I4). */
#ifndef COHORT_ROLLOUT_COMPLETION_H
#define COHORT_ROLLOUT_COMPLETION_H

#include "base/error.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FAILED: nothing could be drawn, because the logits are not numbers or a bias or a constraint forbids every token.
 * REPETITION: its last tokens are one run again and again (struct repeat_limit of a request).
 * LOST: its environment failed it, which whoever answers turns says; the engine never does. */
enum finish_reason {
    FINISH_NONE,
    FINISH_EOS,
    FINISH_STOP,
    FINISH_LENGTH,
    FINISH_CANCELLED,
    FINISH_FAILED,
    FINISH_LOST,
    FINISH_REPETITION
};
const char *
finish_reason_name(enum finish_reason reason); /* "eos", "stop", "length", "cancelled", "error", "lost", "repetition" */

/* A finished completion. tokens, logp and entropy include the EOS; text leaves out special tokens and the stop string,
 * and what came from outside: it is what the model wrote, a line break between turns. */
struct completion {
    int64_t request;
    int32_t index;
    int32_t n_prompt, n_tokens;
    int32_t *tokens;    /* [n_tokens] */
    bool *sampled;      /* [n_tokens] of a request with turns; what came from outside was not. NULL: all were */
    float *logp;        /* [n_tokens] at the sampling temperature, unfiltered and unpenalised; of a constraint that is
                           masked over what it allows; 0 where not sampled */
    float *entropy;     /* [n_tokens] of the distribution that logp is of, in nats; 0 where not sampled */
    float *kept;        /* [n_tokens] the log of the probability of what its constraint allowed; NULL without one */
    char *text;         /* NUL-terminated; NULL without a tokenizer */
    size_t text_length; /* bytes: text may hold NULs of its own */
    enum finish_reason finish_reason;
    int32_t n_top;
    int32_t
        *top_ids;    /* [n_tokens, n_top] the most likely ids at each place; -1 where it was not sampled. NULL with 0 */
    float *top_logp; /* likewise, as logp of what is not masked */
    float *prompt_logp; /* [n_prompt] of the prompt's tokens, 0 for the first; NULL: not asked for */
    /* What happened between its turns, for rewards and logs (docs/ENVIRONMENTS.md), attached by whoever answers them;
     * NULL: nothing did. */
    json_t *episode;
    uint16_t
        *routes; /* [n_prompt + n_tokens - 1, route_width of the model] the experts that each token went to, in each
                         layer that has some; NULL: not asked for (engine_keep_routes), or cancelled */
};
void completion_free(struct completion *completion);
/* Whether its token t was drawn. */
bool completion_sampled(const struct completion *completion, int32_t t);
/* How many of its tokens were drawn. */
int32_t completion_n_sampled(const struct completion *completion);
/* Returns COHORT_ERR_NUMERIC with the place of a completion that failed. */
cohort_status completion_check(const struct completion *completion, cohort_error *err);

/* Called for every token as it is drawn. text is what became certain with it (no partial characters, no beginning of a
 * stop string); finish_reason is FINISH_NONE until the last call for a completion. */
struct engine_event {
    int64_t request;
    int32_t index, token;
    float logp;
    int32_t n_top; /* of a completion that asked for them; 0 where token is -1 */
    const int32_t *top_ids;
    const float *top_logp;
    const char *text; /* text_length bytes, not NUL-terminated */
    size_t text_length;
    enum finish_reason finish_reason;
};
typedef void engine_callback(void *context, const struct engine_event *event);

/* A first-in, first-out ring. Zero-initialise it. */
struct completion_queue {
    struct completion *list;
    size_t first, count, capacity; /* list[(first + i) % capacity], i < count, wait */
};
/* Makes room for this many in addition to those that wait. */
cohort_status completion_queue_reserve(struct completion_queue *queue, size_t more, cohort_error *err);
/* Takes the completion over. Room must have been reserved. */
void completion_queue_push(struct completion_queue *queue, const struct completion *completion);
/* Moves the oldest one out; false if there is none. */
bool completion_queue_pop(struct completion_queue *queue, struct completion *out);
/* Also frees the completions that nobody took. */
void completion_queue_free(struct completion_queue *queue);

#endif
