/* Many comparisons with one tolerance, of which the worst is told. */
#ifndef COHORT_TESTS_SUPPORT_TALLY_H
#define COHORT_TESTS_SUPPORT_TALLY_H

#include "support/test_backend.h"

/* Collects comparisons: every one over its tolerance is printed, report fails if there was any. */
struct tally {
    const char *what; /* quantity, for messages */
    double tolerance, worst;
    char worst_name[400];
    int compared, failed;
};

static inline void tally_add(struct tally *tally, double value, const char *setting, const char *name)
{
    tally->compared++;
    if (!(value <= tally->worst)) {
        tally->worst = value;
        snprintf(tally->worst_name, sizeof tally->worst_name, "%s %s", setting, name);
    }
    if (!(value <= tally->tolerance)) {
        tally->failed++;
        print_error("%s: %s of %s differs by %.3g, allowed %.3g\n", setting, tally->what, name, value,
                    tally->tolerance);
    }
}

static inline void tally_report(const struct tally *tally)
{
    print_message("%s: %d compared, worst %.2e (allowed %.2g) at %s\n", tally->what, tally->compared, tally->worst,
                  tally->tolerance, tally->compared > 0 && tally->worst == 0 ? "none" : tally->worst_name);
    if (tally->failed > 0)
        fail_msg("%s: %d of %d over the tolerance", tally->what, tally->failed, tally->compared);
    if (tally->compared == 0)
        fail_msg("%s: nothing compared", tally->what);
    /* What comes nearest to its tolerance is the test's figure. */
    static double nearest = -1;
    const double share = tally->tolerance > 0 ? tally->worst / tally->tolerance : 0;
    if (share > nearest) {
        nearest = share;
        test_figure("%s %.1e (%.2g)", tally->what, tally->worst, tally->tolerance);
    }
}

#endif
