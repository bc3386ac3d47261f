/* Says in time that a run does not learn, and why: rules over the metrics of its steps, in docs/RUN.md with their
 * thresholds and sources. It knows nothing of options, observers or files of a run: whoever has metrics (a run that
 * trains, a reader of its records) gives them step by step and takes the warnings.
 *
 * State: what the windows of the rules hold, what was said, what was given to whom it speaks. It is a function of the
 * metrics of all steps, and lies in checkpoints (diagnosis_write), so that a resumed run says what an undisturbed one
 * says, and nothing twice. What depends on the clock is not in it: rules about speed begin anew after a resume. */
#ifndef COHORT_RUN_DIAGNOSIS_H
#define COHORT_RUN_DIAGNOSIS_H

#include "base/memory.h"

#include <stdint.h>

enum diagnosis_severity {
    DIAGNOSIS_NONE,
    DIAGNOSIS_NOTE,    /* worth knowing */
    DIAGNOSIS_WARNING, /* somebody should look */
    DIAGNOSIS_FATAL    /* the run will not recover by itself */
};

enum {
    DIAGNOSIS_SENTENCE = 400, /* bytes */
    DIAGNOSIS_FRAMES = 120    /* steps that windows reach back */
};

/* What rules must know of a run beside its metrics. Zero is "unknown" throughout: the rule is then silent, or takes
 * what its comment says. */
struct diagnosis_setup {
    int32_t group;           /* completions of a prompt */
    int32_t prompts;         /* of a step */
    int64_t eval_prompts;    /* held out */
    double peak_rate;        /* of the learning rate; 0: every step counts */
    double max_grad_norm;    /* 0: gradients are not clipped */
    double entropy_target;   /* of an entropy bonus */
    int64_t reference_steps; /* steps after which the reference of the KL is replaced; 0: never */
    bool sequence_ratio;     /* one ratio for a sequence, which clips much by its nature */
};

/* A rule. Several may have the same id. */
struct diagnosis_rule {
    const char *id;      /* "C1" */
    const char *name;    /* "no_spread" */
    const char *usually; /* what people do about it: the rest of a sentence that begins with "Usually:" */
};
/* All of them, i from 0; NULL behind the last. */
const struct diagnosis_rule *diagnosis_rule_at(size_t i);

struct diagnosis_warning {
    const struct diagnosis_rule *rule;
    enum diagnosis_severity severity;
    int64_t step;
    char sentence[DIAGNOSIS_SENTENCE]; /* one, with its number, without a full stop */
};

/* "note", "warning", "fatal"; static. */
const char *diagnosis_severity_name(enum diagnosis_severity severity);

struct diagnosis;
cohort_status diagnosis_create(struct diagnosis **out, const struct diagnosis_setup *setup, cohort_error *err);
/* Accepts NULL. */
void diagnosis_destroy(struct diagnosis *d);

/* Takes the metrics of a step as they are logged, in any order: every step once, ascending; step 0 is the evaluation
 * before the first. evaluation: whether an evaluation among them counts; one that is made only because the run ends here
 * does not, for a longer run would not have it. COHORT_ERR_MEMORY is the only error, and nothing was taken then. */
cohort_status diagnosis_step(struct diagnosis *d, int64_t step, const cohort_metric *metrics, size_t count,
                             bool evaluation, cohort_error *err);
/* After the last step: rules that want some steps in a row take all there were, where there were fewer. */
void diagnosis_end(struct diagnosis *d);
/* Moves the next warning out; false if there is none. */
bool diagnosis_next(struct diagnosis *d, struct diagnosis_warning *out);

/* What was said up to now, oldest first, of which the last DIAGNOSIS_SAID are kept: entry i < diagnosis_said. */
enum { DIAGNOSIS_SAID = 64 };
size_t diagnosis_said(const struct diagnosis *d);
const struct diagnosis_warning *diagnosis_said_at(const struct diagnosis *d, size_t i);

/* trainer/diagnosis.json of a checkpoint in dir. A checkpoint without one (older versions wrote none) is that of a
 * diagnosis that begins. */
cohort_status diagnosis_write(const struct diagnosis *d, const char *dir, cohort_error *err);
cohort_status diagnosis_read(struct diagnosis *d, const char *dir, cohort_error *err);

/* "warning: step 40, C1: SENTENCE. Usually: ADVICE." (a note begins with "note:"), as people read it. */
cohort_status diagnosis_describe(const struct diagnosis_warning *warning, struct text *out, cohort_error *err);

#endif
