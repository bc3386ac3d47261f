/* What generation_config.json of a model folder says of sampling. Commands that answer people take it where an option was
 * not given; those that train or evaluate keep the defaults of the option table, and say where the file differs. Its
 * eos_token_id is everybody's (end_of_text.h). */
#ifndef COHORT_RECIPE_GENERATION_FILE_H
#define COHORT_RECIPE_GENERATION_FILE_H

#include "recipe/session.h"

/* Makes the file's values what options are that were not given, and tells the observer which ones changed, and which keys
 * of consequence have none here. do_sample false is temperature 0; repetition_penalty looks at all of prompt and answer, as
 * transformers' does. Nothing where the option generation_config says none. */
cohort_status generation_file_apply(const struct session *session, struct options *options,
                                    const cohort_observer *observer, cohort_error *err);
/* Tells the observer which options are not as the file says, and were not given. command: what samples otherwise. */
cohort_status generation_file_note(const struct session *session, const struct options *options, const char *command,
                                   const cohort_observer *observer, cohort_error *err);

#endif
