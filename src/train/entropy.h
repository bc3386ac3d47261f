/* What entropies do in a GRPO step beside the metric: the filter that leaves only the most uncertain tokens in the
 * policy term (TRL's top_entropy_quantile), and the controller of the entropy bonus (TRL's use_adaptive_entropy). Sums
 * and quantiles are those of the whole optimizer step (invariant I5). */
#ifndef COHORT_TRAIN_ENTROPY_H
#define COHORT_TRAIN_ENTROPY_H

#include "base/error.h"

/* The entropy from which on a token is kept: the quantile 1 - top (0 <= top <= 1) of values[n], as torch.quantile
 * interpolates it in float32. Time is linear in n, and values may have any order. n 0: infinity. */
float entropy_threshold(const float *values, int64_t n, double top);

struct entropy_control {
    double coef; /* as configured, and where it adapts what has become of it: state that outlives a step */
    double last; /* adaptive: entropy of the step before; infinity before the first */
    bool adaptive;
    double least, most, delta; /* adaptive: bounds of coef, and how far it moves in a step */
    double target;             /* adaptive: the entropy below which the bonus applies and grows */
};
/* Whether there is a bonus at all; its coefficient may be 0 for a while. */
bool entropy_control_on(const struct entropy_control *control);
/* The coefficient that applies in the coming step. */
double entropy_control_coef(const struct entropy_control *control);
/* After a step whose kept tokens had this mean entropy. */
void entropy_control_update(struct entropy_control *control, double entropy);

#endif
