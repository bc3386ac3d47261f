/* A second model that says what the first one's distributions should be: it is run over the same packed batches, and the
 * loss of a token is the divergence between both distributions at its position, over the whole vocabulary (struct
 * divergence of backend/ops.h). Its weights stay as they are. */
#ifndef COHORT_MODEL_TEACHER_H
#define COHORT_MODEL_TEACHER_H

#include "model/packing.h"

struct teacher {
    struct model *model; /* borrowed; of the same vocabulary as the runner's */
    float beta;
    struct decoder_work decoder;
    struct head_work head;
    float *divergence, *weight; /* (host) [max_outputs of the runner], in output order; owned */
};
/* The buffers beside a runner with extras.compare, for as many tokens and completions; as tree_runner_plan, called twice.
 * What the teacher leaves for the runner's pass comes from arena, what its own pass alone needs from passing, which may be
 * the memory of the runner's. */
cohort_status teacher_plan(struct teacher *teacher, const struct tree_runner *runner, struct arena *arena,
                           struct arena *passing, int64_t max_tokens, int64_t max_completions, cohort_error *err);
/* The host part; the model stays. */
void teacher_free(struct teacher *teacher);

/* The pass of a micro-batch that was built into runner->packed: both forwards, and where train the backward from
 * teacher->weight. Leaves teacher->divergence, runner->logp and runner->entropy. Of a backward the decoder's part is
 * still to be done: teacher_backward, unless no weight is other than 0. */
void teacher_forward(struct teacher *teacher, struct tree_runner *runner, struct model *model, float temperature,
                     bool train);
void teacher_backward(struct tree_runner *runner, struct model *model);

#endif
