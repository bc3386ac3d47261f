/* cohort bench: the canonical measurements, on random weights, each with the share of what this machine could do at the
 * same time. */
#include "bench/bench_list.h"
#include "bench/bench_report.h"
#include "command/command.h"

#include "base/clock.h"
#include "base/cores.h"
#include "base/pool.h"
#include "recipe/json_rows.h"

#include <string.h>

#define KIND(name, word) BENCH_##name,
enum { BENCH_LIST(KIND) N_KINDS };
#undef KIND

static bool wanted(const struct options *options, size_t kind)
{
    size_t n = options_list_count(options, OPTION_KIND);
    for (size_t i = 0; i < n; i++)
        if (options_list_choice(options, OPTION_KIND, i) == (int)kind)
            return true;
    return n == 0 && kind != BENCH_lora; /* that one is asked for */
}

static const struct {
    const char *name;
    cohort_status (*run)(struct bench *, cohort_error *);
} kinds[] = {
#define KIND(name, word) {word, bench_##name},
    BENCH_LIST(KIND)
#undef KIND
};

/* One kind between two measurements of the machine; the better one is the limit. *nothing: memory allows nothing of
 * it. */
static cohort_status run_kind(struct bench *bench, size_t i, bool *nothing, cohort_error *err)
{
    struct bench_limits limits = {0};
    double start = clock_seconds();
    const int left_out = bench->n_left_out;
    TRY(bench_measure_limits(bench, &limits, err));
    TRY(kinds[i].run(bench, err));
    *nothing = bench->n_rows == 0 && bench->n_left_out > left_out;
    TRY(bench_measure_limits(bench, &limits, err));
    TRY(bench_print(bench, &limits, err));
    observer_message(bench->observer, "%s: %.0f s", kinds[i].name, clock_seconds() - start);
    return COHORT_OK;
}

cohort_status command_bench(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                            cohort_error *err)
{
    (void)extra;
    struct bench *bench = NULL;
    const char *missing = NULL;
    struct cores cores;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&bench, 1, sizeof *bench, "bench", err));
    bench->options = options;
    bench->observer = observer;
    bench->quick = options_bool(options, OPTION_QUICK);
    bench->jsonl = json_rows_asked(options);
    bench->seed = (uint64_t)options_int(options, OPTION_SEED);
    TRY_GOTO(session_backend(&bench->session.backend, options, err));
    cores_find(&cores);
    TRY_GOTO(pool_create(&bench->pool,
                         bench->session.backend->host_memory ? bench->session.backend->threads : cores.usable, err));
    bench->available = bench->session.backend->ops->available(bench->session.backend);
    bench->limit = session_memory_limit(bench->session.backend, options);
    TRY_GOTO(bench_open_model(bench, err));
    observer_message(observer, "%s, %d threads",
                     bench->type == DTYPE_F32 ? bench->session.backend->provider_f32
                                              : bench->session.backend->provider_bf16,
                     bench->session.backend->threads);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        bool nothing = false;
        if (!wanted(options, i))
            continue;
        TRY_GOTO(run_kind(bench, i, &nothing, err));
        /* What was asked for by name and cannot be is an error, once the rest has been measured. */
        if (nothing && options_list_count(options, OPTION_KIND) > 0 && missing == NULL)
            missing = kinds[i].name;
    }
    if (missing != NULL)
        status = error_set(err, COHORT_ERR_MEMORY,
                           "--kind %s: there is not enough memory for any of it; the lines above "
                           "say what each case would need",
                           missing);
cleanup:
    session_close(&bench->session);
    pool_destroy(bench->pool);
    mem_free(bench);
    return status;
}
