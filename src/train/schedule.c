/* Learning rate schedules. Formulas: transformers/optimization.py, the lr_lambda of
 * get_constant_schedule_with_warmup, get_linear_schedule_with_warmup and
 * get_cosine_schedule_with_warmup (half a cycle). */
#include "train/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

/* Share of the way from the end of warm-up to the last step, in [0, 1]. transformers lets it pass
 * 1, where its cosine rises again; here the rate stays at 0 after the end. */
static double progress(int64_t step, int64_t warmup_steps, int64_t total_steps)
{
    int64_t span = total_steps > warmup_steps ? total_steps - warmup_steps : 1;
    double share = (double)(step - warmup_steps) / (double)span;
    return share < 1.0 ? share : 1.0;
}

double schedule_rate(enum schedule_type type, double base, int64_t step, int64_t warmup_steps, int64_t total_steps)
{
    if (step < 0)
        step = 0;
    if (warmup_steps < 0)
        warmup_steps = 0;
    if (step < warmup_steps)
        return base * ((double)step / (double)warmup_steps);
    switch (type) {
    case SCHEDULE_CONSTANT: return base;
    case SCHEDULE_LINEAR:
        if (total_steps <= step)
            return 0.0;
        return base * ((double)(total_steps - step) / (double)(total_steps - warmup_steps));
    case SCHEDULE_COSINE: return base * (0.5 * (1.0 + cos(PI * progress(step, warmup_steps, total_steps))));
    }
    return base;
}
