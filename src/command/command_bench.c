/* cohort bench: the canonical measurements, on random weights, each with the share of what this machine could do at the
 * same time. */
#include "bench/bench_list.h"
#include "bench/bench_report.h"
#include "command/command.h"

#include "base/clock.h"
#include "base/cores.h"
#include "base/pool.h"
#include "format/model_preset.h"
#include "recipe/json_rows.h"

#include <string.h>

/* Positions that the measurements use. */
enum { MAX_CONTEXT = 32768 };

static cohort_status random_weights(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                    cohort_error *err)
{
    (void)err;
    struct bench *bench = context;
    const enum dtype type = storage_dtype(param->format);
    if (param->rank == 2) { /* uniform with the deviation of transformers' initialisation */
        bench_fill(bench, to, type, first, count, bench->seed, param->offset / dtype_bytes(type), 0.02f * 1.7320508f);
        return COHORT_OK;
    }
    for (int64_t i = 0; i < count; i++) {
        if (type == DTYPE_F32)
            ((float *)to)[i] = param->start;
        else
            ((uint16_t *)to)[i] = bf16_from_f32(param->start);
    }
    return COHORT_OK;
}

/* Before anything large is allocated. */
static cohort_status check_room(const struct bench *bench, const struct model_config *config, cohort_error *err)
{
    struct model *model = NULL;
    TRY(model_open(&model, bench->session.backend, config, bench->type, MAX_CONTEXT, err));
    const size_t weights = model_weight_bytes(model);
    model_destroy(model);
    if (weights <= bench->limit)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_MEMORY,
                     "weights take %.2f GB, %.2f GB are there; use %sa smaller model or another "
                     "--device",
                     (double)weights / 1e9, (double)bench->limit / 1e9,
                     bench->type == DTYPE_F32 ? "--dtype bf16, " : "");
}

static cohort_status open_model(struct bench *bench, cohort_error *err)
{
    const char *dir = options_string(bench->options, OPTION_MODEL);
    const int preset = options_choice(bench->options, OPTION_PRESET);
    struct model_config config = {0};
    cohort_status status = COHORT_OK;
    if (preset >= 0 && dir != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --preset NAME or --model DIR");
    if (dir != NULL)
        TRY(model_config_load(&config, NULL, dir, err));
    else
        TRY(model_config_preset(&config, NULL, preset >= 0 ? (enum model_preset)preset : PRESET_QWEN3_0_6B, 0, err));
    TRY_GOTO(session_type(bench->options, &config, dir, false, &bench->type, NULL, &bench->session.notes, err));
    observer_notes(bench->observer, &bench->session.notes);
    TRY_GOTO(check_room(bench, &config, err));
    if (dir != NULL)
        TRY_GOTO(model_load(&bench->session.model, bench->session.backend, dir, bench->type, MAX_CONTEXT, err));
    else
        TRY_GOTO(model_create(&bench->session.model, bench->session.backend, &config, bench->type, MAX_CONTEXT,
                              random_weights, bench, err));
    bench->session.model->config.n_eos = 0; /* lengths are what was asked */
cleanup:
    return status;
}

static bool wanted(const struct options *options, size_t kind)
{
    size_t n = options_list_count(options, OPTION_KIND);
    for (size_t i = 0; i < n; i++)
        if (options_list_choice(options, OPTION_KIND, i) == (int)kind)
            return true;
    return n == 0;
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
    TRY_GOTO(open_model(bench, err));
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
