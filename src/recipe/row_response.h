/* What a completion says, taken apart as text/response.h does it: for rewards, and for logs of completions. */
#ifndef COHORT_RECIPE_ROW_RESPONSE_H
#define COHORT_RECIPE_ROW_RESPONSE_H

#include "recipe/row_prompt.h"
#include "reward/reward.h"

/* Lets the row be taken apart (row->parse), if its prompt is a conversation that the session's chat template rendered.
 * session and style must stay as long as the row. */
void row_response_set(struct reward_row *row, const struct session *session, const struct row_style *style);

/* For logs: what row->parse gives, a new reference. NULL if the row has none, or if the completion has neither thinking nor
 * calls, so that its text says it all. */
cohort_status row_response_notable(const struct reward_row *row, json_t **out, cohort_error *err);

/* What a text says whose template is not known: calls in the form of Hermes. A new reference. */
cohort_status row_response_text(const char *text, size_t length, json_t **out, cohort_error *err);

#endif
