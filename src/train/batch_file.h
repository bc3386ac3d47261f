/* A generation batch of which later steps will take more, in a checkpoint (invariant I6): trainer/batch.safetensors with
 * what was drawn, its log-probs and advantages, and trainer/batch.json with its place, its metrics, and, where the
 * constrained distribution is trained, the texts of what guided its prompts. */
#ifndef COHORT_TRAIN_BATCH_FILE_H
#define COHORT_TRAIN_BATCH_FILE_H

#include "format/manifest.h"
#include "train/grpo.h"

/* dir/trainer/ exists. manifest, if not NULL, gets the hash of the tensors. */
cohort_status batch_file_write(const char *dir, const struct grpo_batch *batch, struct manifest *manifest,
                               cohort_error *err);
/* Whether a checkpoint has one. */
cohort_status batch_file_exists(const char *dir, bool *there, cohort_error *err);
/* Reads it back: a batch that is scored and has no completions (texts and rewards were logged before). config and
 * vocab_size: what it must fit. */
cohort_status batch_file_read(const char *dir, const struct grpo_config *config, int32_t vocab_size,
                              struct grpo_batch *batch, cohort_error *err);

#endif
