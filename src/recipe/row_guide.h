/* What guides completions, as the options guided_... say: one guide for all rows of a command, or one of each row. */
#ifndef COHORT_RECIPE_ROW_GUIDE_H
#define COHORT_RECIPE_ROW_GUIDE_H

#include "guide/guide.h"
#include "recipe/run_inputs.h"
#include "recipe/session.h"
#include "rollout/constraint.h"

/* Zero-initialise it. Without an option that guides nothing is in it, and row_guide gives none. */
struct row_guides {
    bool on;
    struct guide_vocabulary *vocabulary;
    struct guide_options options;
    enum guide_kind kind;
    const char *origin;     /* the option */
    const char *column;     /* of the rows, which has what guides each of them; NULL: one guide holds for all */
    enum guide_tools tools; /* of GUIDE_TOOLS */
    const struct session *session;
    struct guide *shared; /* it, or the last one of a column, made of text */
    struct text text;
    const cohort_observer *observer;
    int32_t close;
    bool masked; /* log-probs are those of what is allowed (guided_logprob) */
};
/* Session and options must stay. Options used: those of the group Guided,
 * guided_logprob where trains. */
cohort_status row_guides_open(struct row_guides *guides, const struct session *session, const struct options *options,
                              const cohort_observer *observer, bool trains, cohort_error *err);
void row_guides_close(struct row_guides *guides);
/* What guides all rows is what a run reads. */
cohort_status row_guides_identity(const struct row_guides *guides, struct run_inputs *inputs, cohort_error *err);
/* *out = what guides the completions of a row, a use for the caller to release (guide_release), or NULL. place begins messages.
 */
cohort_status row_guide(struct row_guides *guides, const json_t *row, const char *place, struct guide **out,
                        cohort_error *err);

/* *out = what guides rows whose guide was made of this text, as row_guide. */
cohort_status row_guide_of_text(struct row_guides *guides, const char *text, size_t length, const char *place,
                                struct guide **out, cohort_error *err);

/* The constraints of a group of completions of one row. Zero-initialise it; it must stay until they are finished. */
struct row_constraints {
    struct guide *guide;
    struct guide_state **states;    /* [n] */
    struct constraint *constraints; /* [n], for engine_request; NULL: there is no guide */
    int32_t n;
};
/* guide may be NULL. max_tokens: what the completions may have, the context considered. */
cohort_status row_constraints_open(struct row_constraints *c, const struct row_guides *guides, struct guide *guide,
                                   int32_t n, int32_t max_tokens, cohort_error *err);
void row_constraints_free(struct row_constraints *c);
/* row_guide and row_constraints_open together. */
cohort_status row_constraints_ask(struct row_constraints *c, struct row_guides *guides, const json_t *row,
                                  const char *place, int32_t n, int32_t max_tokens, cohort_error *err);
/* Says what went wrong in a guide, where that ended a completion (FINISH_FAILED). */
cohort_status row_constraints_check(const struct row_constraints *c, cohort_error *err);

#endif
