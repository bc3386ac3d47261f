/* Models that wear an adapter of a fixture's folder, for tests. */
#ifndef COHORT_TESTS_SUPPORT_ADAPTER_TEST_H
#define COHORT_TESTS_SUPPORT_ADAPTER_TEST_H

#include "model/model_adapter.h"
#include "support/model_test.h"

/* Before every name in a file of PEFT. */
#define PEFT_PREFIX "base_model.model."

/* Opens the adapter of a folder, with its values, for a model that has its own. */
static inline struct model_adapter *adapter_test_read(const struct model *model, const char *dir)
{
    struct adapter_settings settings;
    struct model_adapter *adapter = NULL;
    cohort_error err = {0};
    must(adapter_settings_read(&settings, dir, NULL, &err), &err);
    must(model_adapter_open(&adapter, model, &settings, &err), &err);
    must(model_adapter_read(adapter, dir, &settings, NULL, &err), &err);
    adapter_settings_free(&settings);
    return adapter;
}

/* As model_test_open, of a model in fp32 whose adapter trains, with merged weights or beside the base's. The runner is to
 * be planned. */
static inline void adapter_test_open(struct model_test *test, struct backend *backend, const char *fixture,
                                     const char *adapter_dir, bool merged)
{
    struct model_config config;
    struct adapter_settings settings;
    char dir[256];
    cohort_error err = {0};
    memset(test, 0, sizeof *test);
    test->backend = backend;
    snprintf(dir, sizeof dir, FIXTURES "%s", fixture);
    must(model_config_load(&config, NULL, dir, &err), &err);
    must(model_open(&test->model, backend, &config, DTYPE_F32, 0, &err), &err);
    must(adapter_settings_read(&settings, adapter_dir, NULL, &err), &err);
    settings.merged = merged;
    must(model_adapt(test->model, &settings, &err), &err);
    model_train_adapter(test->model);
    must(model_read(test->model, dir, NULL, &err), &err);
    must(model_adapter_read(test->model->adapter, adapter_dir, &settings, NULL, &err), &err);
    adapter_settings_free(&settings);
    must(param_set_train_begin(test->model->trained, DTYPE_F32, &err), &err);
}

#endif
