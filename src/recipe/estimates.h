/* What a few completions of each question say about a model: pass@k, mean@n and maj@k, with their standard errors.
 *
 * The questions are the sample. Every question gives one number, an unbiased estimate from its completions; the estimate
 * of the set is their mean, its standard error their sample deviation over the square root of their number. That holds
 * both the choice of the questions and the draws of the completions, which are not independent of each other
 * (arXiv 2411.00640). Arithmetic in double. */
#ifndef COHORT_RECIPE_ESTIMATES_H
#define COHORT_RECIPE_ESTIMATES_H

#include "base/error.h"

/* Numbers of questions as they come (Welford's sums). Zero-initialise it. */
struct estimate {
    int64_t n;
    double mean, squares; /* of n numbers: the mean, and the sum of squared distances from it */
};
void estimate_add(struct estimate *estimate, double value);
double estimate_mean(const struct estimate *estimate);  /* NaN of nothing */
double estimate_error(const struct estimate *estimate); /* the standard error; NaN of fewer than 2 */

/* The chance that at least one of k completions passes, where c of n did: 1 - C(n - c, k) / C(n, k), the mean over all
 * choices of k among the n (arXiv 2107.03374). 1 <= k <= n. */
double estimate_pass(int64_t n, int64_t c, int64_t k);

/* The vote of k completions, the mean over as many groups of k as n consecutive ones make: 1 where most state the right
 * answer, 0 where most state the same wrong one or none states any, and where the right one shares the first place with
 * t others 1 / (1 + t). answers[n]: VOTE_RIGHT, or a number from 1 to n for each other answer; or VOTE_NONE.
 * count[n + 1]: 0 before and after. 1 <= k <= n. */
enum { VOTE_NONE = -1, VOTE_RIGHT = 0 };
double estimate_votes(const int32_t *answers, int64_t n, int64_t k, int32_t *count);

#endif
