/* What a completion says, taken apart as text/response.h does it: for rewards, and for logs of completions. */
#ifndef COHORT_RECIPE_ROW_RESPONSE_H
#define COHORT_RECIPE_ROW_RESPONSE_H

#include "recipe/row_prompt.h"
#include "reward/reward.h"

/* Lets the row be taken apart (row->parse), if its prompt is a conversation that the session's chat template rendered.
 * session and style must stay as long as the row. */
void row_response_set(struct reward_row *row, const struct session *session, const struct row_style *style);

#endif
