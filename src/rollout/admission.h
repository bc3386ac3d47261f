/* Who gets pages and rows ahead of a step, and who gives pages up.
 *
 * Pages are given for the tokens that there are. So the pool may run out while many run, and then the youngest holder is
 * set back until there is enough: a completion first, and a prompt when no completion of its request holds pages any more.
 * Requests are as old as they were first admitted, completions of one request by their index. Set back means that pages are
 * free and tokens kept; the tokens' keys and values are computed again later, by the same decoder from the same ids, so
 * that they are the same bits (I1, I2), and draws are keyed by position (I3).
 *
 * The oldest that runs or has its prompt computed is never set back. Whatever another holds can be had for it, and what one
 * request needs alone fits in the pool (engine_submit), so it always gets on; nobody younger is admitted while an older one
 * waits for pages, and where nothing runs, those that wait for the answer to their turn give up pages for one that wants to.
 *
 * So that those that were just admitted are not set back at once, a page is given to one that does not run only while what
 * runs has the pages of its next tokens besides (HEADROOM). */
#ifndef COHORT_ROLLOUT_ADMISSION_H
#define COHORT_ROLLOUT_ADMISSION_H

#include "rollout/scheduler.h"

/* Every running completion has pages for its next ahead tokens afterwards, as far as its length goes. open: those that go
 * on behind a turn are let in, which they must be where nothing runs. */
cohort_status admission_run(struct scheduler *scheduler, int32_t ahead, bool open, cohort_error *err);

#endif
