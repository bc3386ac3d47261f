/* The teacher of a distillation run: a frozen model with the policy's vocabulary, whose files are an input of the run. */
#ifndef COHORT_RECIPE_RUN_TEACHER_H
#define COHORT_RECIPE_RUN_TEACHER_H

#include "model/teacher.h"
#include "recipe/training.h"

/* Zero: the run has none. */
struct run_teacher {
    const char *dir; /* NULL: none */
    struct model *model;
    struct teacher pass;
};

/* Opens the teacher beside the policy of t, without its weights, and refuses one of another vocabulary. Options used:
 * teacher_model_name_or_path, beta, dtype, offload. Close it also after a failure. */
cohort_status run_teacher_open(struct run_teacher *teacher, const struct training *t, cohort_error *err);
/* Whether it can score sequences of so many tokens. */
cohort_status run_teacher_check_length(const struct run_teacher *teacher, int32_t longest, cohort_error *err);
/* Reads the weights, which become an input of the run. */
cohort_status run_teacher_read(struct run_teacher *teacher, struct training *t, cohort_error *err);
/* Before training_close. */
void run_teacher_close(struct run_teacher *teacher);

#endif
