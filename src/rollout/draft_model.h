/* Drafts from a smaller model: an engine of its own (engine.h) generates what comes behind the completions of another, with
 * the draws that these are going to make (same seed, stream, index and position), so that a draft is right wherever both
 * models would choose alike.
 *
 * It owns, for each completion that it drafted for, a request of that engine with turns. Between two drafts that waits at
 * the end of a turn; then it is set on the track of its completion (engine_retrace) and goes on for some tokens. */
#ifndef COHORT_ROLLOUT_DRAFT_MODEL_H
#define COHORT_ROLLOUT_DRAFT_MODEL_H

#include "rollout/engine.h"

struct draft_model;
struct sequence;

/* vocab: ids of the engine's model. always: drafts whatever they cost. The engine is borrowed. */
cohort_status draft_model_create(struct draft_model **out, struct engine *engine, int32_t vocab, bool always,
                                 cohort_error *err);
void draft_model_destroy(struct draft_model *model);
bool draft_model_always(const struct draft_model *model);

/* Drafts for [n] running completions, at most most[i] tokens for each (0: none), behind their histories (n_drafted). vocab: of the
 * model that they are of. */
cohort_status draft_model_place(struct draft_model *model, struct sequence **running, const int32_t *most, int32_t n,
                                int32_t vocab, cohort_error *err);
/* Seconds: of all its steps so far, of those of them in which it began with completions, of a token of its last drafts for all
 * completions, and of a row where it last began with some (0: it did not yet). */
struct draft_costs {
    double all, beginning, each, row;
};
struct draft_costs draft_model_costs(const struct draft_model *model);
/* Whether it drafted for a completion before, so that its text is computed but for the end, or never will. */
enum draft_standing { DRAFT_BEGUN, DRAFT_NEW, DRAFT_NEVER };
enum draft_standing draft_model_standing(const struct draft_model *model, const struct sequence *sequence);
/* The completion is over. */
void draft_model_forget(struct draft_model *model, const struct sequence *sequence);

#endif
