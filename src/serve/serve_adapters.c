#include "serve/serve_adapters.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>

static cohort_status read_one(struct serve_adapters *a, const char *item, const char *served, cohort_error *err)
{
    const char *dir = strchr(item, '=');
    char *name = NULL;
    if (dir == NULL || dir == item || dir[1] == '\0')
        return error_set(err, COHORT_ERR_ARGUMENT, "--lora-modules: '%s' is not NAME=DIR, for example sql=adapters/sql",
                         item);
    TRY(mem_strdup(&name, item, (size_t)(dir - item), err));
    if (strcmp(name, served) == 0 || strcmp(name, "default_model") == 0 || serve_adapters_find(a, name) > 0) {
        const cohort_status status = error_set(
            err, COHORT_ERR_ARGUMENT, "--lora-modules: the name %s is that of the model, or of another adapter", name);
        mem_free(name);
        return status;
    }
    a->list[a->n++] = (struct serve_adapter){.name = name, .dir = dir + 1};
    return COHORT_OK;
}

static bool keeps_f16(const struct model *model)
{
    for (int32_t i = 0; i < model->base.table.n_params; i++)
        if (model->type == DTYPE_F32 && model->base.table.params[i].format == STORAGE_F16)
            return true;
    return false;
}

static cohort_status check(const struct session *session, const struct serve_adapter *one,
                           const struct adapter_settings *settings, cohort_error *err)
{
    if (settings->scores)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: the adapter of a sequence classifier (task_type SEQ_CLS), which answers nothing",
                         one->dir);
    if (keeps_f16(session->model) && (settings->merged || settings->dora || settings->saved.count > 0))
        return error_set(
            err, COHORT_ERR_UNSUPPORTED,
            "%s: an adapter with DoRA, merged weights or whole modules (modules_to_save) goes with a model "
            "that is in memory in F16 only by --dtype f32",
            one->dir);
    return COHORT_OK;
}

/* A tokenizer of an adapter's own would make other ids of the same text. */
static cohort_status check_tokenizer(const struct session *session, const struct serve_adapter *one, cohort_error *err)
{
    enum { LARGEST = 1 << 28 };
    char *own = NULL, *base = NULL;
    struct text a = {0}, b = {0};
    bool there = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&own, one->dir, "tokenizer.json", err));
    TRY_GOTO(file_exists(own, &there, err));
    if (!there)
        goto cleanup;
    TRY_GOTO(file_join(&base, session->adapter.tokenizer, "tokenizer.json", err));
    TRY_GOTO(file_read(own, LARGEST, &a, err));
    TRY_GOTO(file_read(base, LARGEST, &b, err));
    if (a.length != b.length || memcmp(a.data, b.data, a.length) != 0)
        status = error_set(err, COHORT_ERR_UNSUPPORTED,
                           "%s differs from the model's: serve this adapter by itself (--adapter %s)", own, one->dir);
cleanup:
    mem_free(own);
    mem_free(base);
    text_free(&a);
    text_free(&b);
    return status;
}

static cohort_status load(struct serve_adapters *a, int32_t i, struct session *session, struct text *notes,
                          cohort_error *err)
{
    const struct serve_adapter *one = &a->list[i];
    struct adapter_settings settings = {0};
    TRY(check_tokenizer(session, one, err));
    cohort_status status = adapter_settings_read(&settings, one->dir, notes, err);
    settings.dropout = 0.0; /* of training */
    settings.merged = session->adapter.settings.merged;
    if (status == COHORT_OK)
        status = check(session, one, &settings, err);
    if (status == COHORT_OK)
        status = model_adapter_open(&a->of[i], session->model, &settings, err);
    if (status == COHORT_OK)
        status = model_adapter_read(a->of[i], one->dir, &settings, NULL, err);
    adapter_settings_free(&settings);
    if (status == COHORT_OK)
        session->beside += model_adapter_bytes(a->of[i]);
    return status;
}

cohort_status serve_adapters_open(struct serve_adapters *a, struct session *session, const struct options *options,
                                  const char *served, const cohort_observer *observer, cohort_error *err)
{
    const size_t n = options_list_count(options, OPTION_LORA_MODULES);
    struct text notes = {0};
    TRY(mem_alloc(&a->list, n, sizeof *a->list, "adapters", err));
    TRY(mem_alloc(&a->of, n, sizeof *a->of, "adapters", err));
    for (size_t i = 0; i < n; i++)
        TRY(read_one(a, options_list_item(options, OPTION_LORA_MODULES, i), served, err));
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; i < a->n && status == COHORT_OK; i++)
        status = load(a, i, session, &notes, err);
    observer_notes(observer, &notes);
    text_free(&notes);
    return status;
}

void serve_adapters_close(struct serve_adapters *a)
{
    for (int32_t i = 0; i < a->n; i++) {
        mem_free(a->list[i].name);
        model_adapter_destroy(a->of[i]);
    }
    mem_free(a->list);
    mem_free(a->of);
    memset(a, 0, sizeof *a);
}

int32_t serve_adapters_find(const struct serve_adapters *a, const char *name)
{
    for (int32_t i = 0; i < a->n; i++)
        if (strcmp(a->list[i].name, name) == 0)
            return i + 1;
    return 0;
}

void serve_adapters_wear(const struct serve_adapters *a, struct model *model, const char *name)
{
    const int32_t found = name == NULL ? 0 : serve_adapters_find(a, name);
    model_wear(model, found > 0 ? a->of[found - 1] : model->adapter);
}
