/* cohort bench: the canonical measurements, on random weights, each with the share of what this
 * machine could do at the same time. */
#include "command/bench_report.h"
#include "command/command.h"

#include "base/clock.h"
#include "base/cores.h"
#include "base/pool.h"

#include <string.h>

/* Positions that the measurements use. */
enum { MAX_CONTEXT = 32768 };

static cohort_status random_weights(void *context, const struct param *param, int64_t first,
                                    int64_t count, void *to, cohort_error *err)
{
    (void)err;
    struct bench *bench = context;
    if (param->rank == 2) { /* uniform with the deviation of transformers' initialisation */
        bench_fill(bench, to, bench->type, first, count, bench->seed, (uint64_t)param->offset,
                   0.02f * 1.7320508f);
        return COHORT_OK;
    }
    for (int64_t i = 0; i < count; i++) {
        if (bench->type == DTYPE_F32)
            ((float *)to)[i] = 1.0f;
        else
            ((uint16_t *)to)[i] = bf16_from_f32(1.0f);
    }
    return COHORT_OK;
}

static cohort_status open_model(struct bench *bench, cohort_error *err)
{
    const char *preset = options_string(bench->options, "preset"),
               *dir = options_string(bench->options, "model");
    struct model_config config = {0};
    cohort_status status = COHORT_OK;
    if (preset != NULL && dir != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --preset NAME or --model DIR");
    bench->type =
        strcmp(options_string(bench->options, "dtype"), "f32") == 0 ? DTYPE_F32 : DTYPE_BF16;
    if (dir != NULL)
        TRY(model_load(&bench->session.model, bench->session.backend, dir, bench->type, MAX_CONTEXT,
                       err));
    else {
        TRY(model_config_preset(&config, preset != NULL ? preset : "qwen3-0.6b", 0, err));
        status = model_create(&bench->session.model, bench->session.backend, &config, bench->type,
                              MAX_CONTEXT, random_weights, bench, err);
        model_config_free(&config);
        TRY(status);
    }
    bench->session.model->config.n_eos = 0; /* lengths are what was asked */
    return COHORT_OK;
}

static bool wanted(const struct options *options, const char *kind)
{
    size_t n = options_list_count(options, "kind");
    for (size_t i = 0; i < n; i++)
        if (strcmp(options_list_item(options, "kind", i), kind) == 0)
            return true;
    return n == 0;
}

static const struct {
    const char *name;
    cohort_status (*run)(struct bench *, cohort_error *);
} kinds[] = {{"gemm", bench_gemm},   {"prefill", bench_prefill}, {"decode", bench_decode},
             {"train", bench_train}, {"grpo", bench_grpo},       {"exactness", bench_exactness}};

/* One kind between two measurements of the machine; the better one is the limit. */
static cohort_status run_kind(struct bench *bench, size_t i, cohort_error *err)
{
    struct bench_limits limits = {0};
    double start = clock_seconds();
    TRY(bench_measure_limits(bench, &limits, err));
    TRY(kinds[i].run(bench, err));
    TRY(bench_measure_limits(bench, &limits, err));
    TRY(bench_print(bench, &limits, err));
    observer_message(bench->observer, "%s: %.0f s", kinds[i].name, clock_seconds() - start);
    return COHORT_OK;
}

cohort_status command_bench(struct options *options, const struct command_rewards *extra,
                            const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    struct bench *bench = NULL;
    struct cores cores;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&bench, 1, sizeof *bench, "bench", err));
    bench->options = options;
    bench->observer = observer;
    bench->quick = options_bool(options, "quick");
    bench->jsonl = strcmp(options_string(options, "format"), "jsonl") == 0;
    bench->seed = (uint64_t)options_int(options, "seed");
    TRY_GOTO(session_backend(&bench->session.backend, options, err));
    cores_find(&cores);
    TRY_GOTO(pool_create(
        &bench->pool,
        bench->session.backend->host_memory ? bench->session.backend->threads : cores.usable, err));
    bench->available = bench->session.backend->ops->available(bench->session.backend);
    TRY_GOTO(open_model(bench, err));
    observer_message(observer, "%s, %d threads",
                     bench->type == DTYPE_F32 ? bench->session.backend->provider_f32
                                              : bench->session.backend->provider_bf16,
                     bench->session.backend->threads);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (wanted(options, kinds[i].name))
            TRY_GOTO(run_kind(bench, i, err));
cleanup:
    session_close(&bench->session);
    pool_destroy(bench->pool);
    mem_free(bench);
    return status;
}
