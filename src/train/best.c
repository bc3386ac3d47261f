#include "train/best.h"

#include <math.h>

bool best_take(struct best *best, const struct best_rule *rule, int64_t step, double value)
{
    const bool first = best->step == 0 && isfinite(value);
    const bool better =
        first || (best->step > 0 && isfinite(value) && (rule->greater ? value > best->value : value < best->value));
    const bool enough = first || (better && fabs(value - best->value) > rule->threshold);
    best->counted = step;
    best->worse = enough ? 0 : best->worse + 1;
    if (better) {
        best->step = step;
        best->value = value;
    }
    return better;
}

bool best_stops(const struct best *best, const struct best_rule *rule)
{
    return rule->patience > 0 && best->worse >= rule->patience;
}
