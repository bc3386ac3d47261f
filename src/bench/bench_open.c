/* The model that is measured: of a folder, or of a known shape with random weights. */
#include "bench/bench_report.h"

#include "format/model_preset.h"

/* Positions that the measurements use. */
enum { MAX_CONTEXT = 32768 };

static cohort_status random_weights(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                    cohort_error *err)
{
    (void)err;
    struct bench *bench = context;
    const enum dtype type = storage_dtype(param->format);
    if (param->rank > 1) { /* uniform with the deviation of transformers' initialisation */
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
    const struct session_adapter *adapter = &bench->session.adapter;
    const cohort_status status = adapter->there ? model_adapt(model, &adapter->settings, err) : COHORT_OK;
    const size_t weights = model_weight_bytes(model);
    model_destroy(model);
    TRY(status);
    if (weights <= bench->limit)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_MEMORY,
                     "weights take %.2f GB, %.2f GB are there; use %sa smaller model or another "
                     "--device",
                     (double)weights / 1e9, (double)bench->limit / 1e9,
                     bench->type == DTYPE_F32 ? "--dtype bf16, " : "");
}

cohort_status bench_open_model(struct bench *bench, cohort_error *err)
{
    const char *dir = options_string(bench->options, OPTION_MODEL);
    const int preset = options_choice(bench->options, OPTION_PRESET);
    struct model_config config = {0};
    struct session_adapter *adapter = &bench->session.adapter;
    cohort_status status = COHORT_OK;
    if (dir == NULL)
        dir = options_string(bench->options, OPTION_ADAPTER);
    if (preset >= 0 && dir != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --preset NAME or --model DIR (with --adapter DIR)");
    session_adapter_free(adapter);
    if (dir != NULL) {
        TRY(session_adapter_find(adapter, bench->options, NULL, ADAPTER_COMPUTED, &bench->session.notes, err));
        dir = adapter->base;
    }
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
    if (adapter->there) {
        TRY_GOTO(model_adapt(bench->session.model, &adapter->settings, err));
        model_train_adapter(bench->session.model);
        TRY_GOTO(session_adapter_read(adapter, bench->session.model, bench->seed, NULL, err));
    }
    bench->session.model->config.n_eos = 0; /* lengths are what was asked */
    param_set_offload(bench->session.model->trained, session_offload(bench->options));
cleanup:
    return status;
}
