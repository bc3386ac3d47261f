/* A run is what it reads (invariant I11): gathers the hashes of a run's inputs, keeps them in its checkpoints, and
 * compares them when a run is resumed. */
#ifndef COHORT_RECIPE_RUN_IDENTITY_H
#define COHORT_RECIPE_RUN_IDENTITY_H

#include "recipe/run_inputs.h"
#include "recipe/training.h"

/* The weights' files, as they were hashed while they were read, and config.json beside them. */
cohort_status run_identity_add_model(struct run_inputs *inputs, enum input_kind kind, const char *dir,
                                     const struct weight_files *files, cohort_error *err);
/* The two files of an adapter that a run begins with or compares with; none where the folder is gone meanwhile. */
cohort_status run_identity_add_adapter(struct run_inputs *inputs, enum input_kind kind, const char *dir,
                                       cohort_error *err);
/* tokenizer.json and the chat template of the session. */
cohort_status run_identity_add_tokenizer(struct run_inputs *inputs, const struct session *session, cohort_error *err);
/* The files that the exec: rewards of the options name. */
cohort_status run_identity_add_rewards(struct run_inputs *inputs, const struct options *options, cohort_error *err);
/* The files of a model that rewards, and its template. */
cohort_status run_identity_add_reward_model(struct run_inputs *inputs, const char *dir,
                                            const struct chat_template *chat, const struct weight_files *files,
                                            cohort_error *err);
/* If the learning rate of a step depends on the number of all steps, what that is. */
void run_identity_set_schedule(struct run_inputs *inputs, const struct options *options,
                               const struct schedule *schedule);

/* The options of a resolved configuration that a resumed run must share, one per line. */
cohort_status run_identity_options(const char *yaml, struct text *out, cohort_error *err);

/* Writes dir/trainer/inputs.json and dir/trainer/options.yaml (dir/trainer exists). */
cohort_status run_identity_write(const struct training *t, const char *dir, cohort_error *err);

/* Compares inputs and options to those of the checkpoint t->resume_dir: what differs is refused with its name and what
 * to do, or is reported and kept in t->inputs if --accept-changed names it. A checkpoint without inputs.json (of an
 * earlier version) is reported too. */
cohort_status run_identity_check(struct training *t, cohort_error *err);

/* Whether a checkpoint is one that cohort fork put into its run folder (run_fork.h). */
extern const char run_origin_name[]; /* "trainer/origin.json" */
cohort_status run_identity_is_fork(const char *dir, bool *forked, cohort_error *err);

#endif
