/* The smaller model that drafts for a session's (option draft_model): its weights, its engine and their memory. What it is
 * changes no result (rollout/drafts.h). */
#ifndef COHORT_RECIPE_SESSION_DRAFT_H
#define COHORT_RECIPE_SESSION_DRAFT_H

#include "recipe/rollout_plan.h"
#include "run/options.h"

struct session;
struct session_draft;

/* *out is NULL where no model is asked for. Reads its weights; refuses one whose vocabulary is not the session's. Options
 * used: draft_model, speculative, dtype. */
cohort_status session_draft_open(struct session_draft **out, const struct session *session,
                                 const struct options *options, cohort_error *err);
/* Accepts NULL. After the engine that it drafts for. */
void session_draft_close(struct session_draft *draft);
/* Bytes that it holds, but for what session_draft_engine takes. */
size_t session_draft_bytes(const struct session_draft *draft);
/* Of room bytes for the buffers of both engines, those for the session's. */
size_t session_draft_leaves(const struct session_draft *draft, const struct session *session, size_t room);
/* Has it draft for an engine that was made for need; its own takes up to room bytes. */
cohort_status session_draft_engine(struct session_draft *draft, struct engine *engine, const struct rollout_need *need,
                                   size_t room, cohort_error *err);

#endif
