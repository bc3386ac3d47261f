/* One step: builds a batch of a token for every running completion and a chunk of the prompts that were let in, runs it
 * through the decoder and the head, and draws.
 *
 * It owns the buffers for this (from an arena, step_plan): the decoder's and the head's work and the keys and values of
 * all pages; and the lists that describe a batch, as long as the largest batch needs. Between steps it holds nothing
 * else that matters: everything that lasts is in the sequences, their pages and the key and value store.
 *
 * No step allocates memory for itself (invariant I8). Only what the caller gets may grow inside one: the text of a
 * sequence, and at its end the arrays of its completion.
 *
 * Keeps I1 (prefill and decode are rows of one batch through one decoder_forward), I2 (the batch's composition never
 * reaches a sequence's numbers: decoder) and I3 (a draw depends on seed, stream, completion index and position). */
#ifndef COHORT_ROLLOUT_STEP_H
#define COHORT_ROLLOUT_STEP_H

#include "rollout/row_logits.h"
#include "rollout/scheduler.h"

#include "model/decoder.h"
#include "model/head.h"

struct step {
    struct model *model; /* borrowed */
    struct engine_config config;
    struct decoder_work work;
    struct head_work head;
    struct kv_store kv;
    struct batch batch;
    int32_t *output_row;             /* [max outputs] rows of the batch whose logits are wanted */
    struct sequence **output_of;     /* [max outputs] the sequence that reads it; NULL: output_request */
    struct request **output_request; /* [max outputs] all completions of which draw their first token here */
    int32_t *
        output_scored; /* [max outputs] the place in the prompt of the token whose log-prob is asked for; 0: it draws */
    int32_t *output_behind; /* [max outputs] how many drafts of its sequence stand before what it draws; -2: it drew */
    int32_t *drawing;       /* [max outputs] those that draw at once */
    int32_t n_outputs;
    struct row_logits rows;
    struct sample_row *draws; /* [draw_capacity] as many as the outputs, and as the completions of any request */
    size_t draw_capacity;
    int64_t prompt_tokens, n_steps, n_rows; /* of all steps so far */
};
cohort_status step_create(struct step *step, struct model *model, const struct engine_config *config,
                          cohort_error *err);
/* Takes the buffers from the arena: called twice, to measure and then to allocate. */
cohort_status step_plan(struct step *step, struct arena *arena, cohort_error *err);
void step_free(struct step *step);

/* Makes room for a request. */
cohort_status step_reserve(struct step *step, const struct engine_request *ask, cohort_error *err);
/* After COHORT_ERR_CANCELLED it is as if the step had not begun, except for completions that had already drawn in it.
 */
cohort_status step_run(struct step *step, struct scheduler *scheduler, cohort_error *err);

#endif
