/* What a judge is asked, and the score that its answer states: the text side of judge.c. */
#ifndef COHORT_REWARD_JUDGE_H
#define COHORT_REWARD_JUDGE_H

#include "base/memory.h"
#include "reward/reward.h"

/* Appends the body of a request for a row: model, the rubric as the system's message, and in the user's the prompt, the
 * row's answer or solution if it has one, and the completion. temperature 0. */
cohort_status judge_request(const char *model, const char *rubric, double least, double most,
                            const struct reward_row *row, struct text *out, cohort_error *err);
/* The score in a server's answer (the JSON of OpenAI's chat completions), scaled from [least, most] to [0, 1]. NaN: there
 * is none that can be read, and problem says why.
 *
 * The judge's text is what follows its last </think>. If it is a JSON object, alone or in a fence of ```, its "score" counts.
 * Else the number behind the last "score" (whatever its case), with :, =, is, of, quotes, asterisks and blanks between. Else
 * the only number of the text. A number may be followed by "/ MOST", and nothing else may follow the slash. A score outside of
 * [least, most] is none. */
double judge_score(const char *body, size_t length, double least, double most, char *problem, size_t problem_bytes);

#endif
