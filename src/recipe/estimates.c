#include "recipe/estimates.h"

#include <assert.h>
#include <math.h>

void estimate_add(struct estimate *estimate, double value)
{
    const double distance = value - estimate->mean;
    estimate->n++;
    estimate->mean += distance / (double)estimate->n;
    estimate->squares += distance * (value - estimate->mean);
}

double estimate_mean(const struct estimate *estimate) { return estimate->n > 0 ? estimate->mean : (double)NAN; }

double estimate_error(const struct estimate *estimate)
{
    const double n = (double)estimate->n;
    return estimate->n < 2 ? (double)NAN : sqrt(estimate->squares / (n - 1.0) / n);
}

double estimate_pass(int64_t n, int64_t c, int64_t k)
{
    double none = 1.0;
    assert(k >= 1 && k <= n && c >= 0 && c <= n);
    if (n - c < k)
        return 1.0;
    for (int64_t i = n - c + 1; i <= n; i++)
        none *= 1.0 - (double)k / (double)i;
    return 1.0 - none;
}

static double vote(const int32_t *answers, int64_t n, int32_t *count)
{
    int32_t most = 0, first = 0;
    for (int64_t i = 0; i < n; i++)
        if (answers[i] != VOTE_NONE)
            count[answers[i]]++;
    const int32_t right = count[VOTE_RIGHT];
    for (int64_t i = 0; i < n; i++)
        if (answers[i] != VOTE_NONE) {
            const int32_t here = count[answers[i]];
            count[answers[i]] = 0; /* each answer is looked at once */
            first = here > most ? 1 : here == most && here > 0 ? first + 1 : first;
            most = here > most ? here : most;
        }
    return most > 0 && right == most ? 1.0 / (double)first : 0.0;
}

double estimate_votes(const int32_t *answers, int64_t n, int64_t k, int32_t *count)
{
    double sum = 0.0;
    int64_t groups = 0;
    assert(k >= 1 && k <= n);
    for (; (groups + 1) * k <= n; groups++)
        sum += vote(answers + groups * k, k, count);
    return sum / (double)groups;
}
