#include "recipe/session_adapter.h"

#include "base/file.h"

#include <string.h>

enum { MOST_WORDS = 256 };

void session_adapter_free(struct session_adapter *adapter)
{
    mem_free(adapter->base);
    mem_free(adapter->dir);
    mem_free(adapter->start);
    mem_free(adapter->tokenizer);
    adapter_settings_free(&adapter->settings);
    memset(adapter, 0, sizeof *adapter);
}

static cohort_status keep(char **to, const char *path, cohort_error *err)
{
    return mem_strdup(to, path, strlen(path), err);
}

static cohort_status has_file(const char *dir, const char *name, bool *there, cohort_error *err)
{
    char *path = NULL;
    TRY(file_join(&path, dir, name, err));
    const cohort_status status = file_exists(path, there, err);
    mem_free(path);
    return status;
}

/* Whether a folder holds an adapter and no model. */
static cohort_status is_adapter(const char *dir, bool *adapter, cohort_error *err)
{
    bool model = false;
    *adapter = false;
    if (dir == NULL)
        return COHORT_OK;
    TRY(adapter_is_folder(dir, adapter, err));
    TRY(has_file(dir, "config.json", &model, err));
    *adapter = *adapter && !model;
    return COHORT_OK;
}

/* The folder that an adapter names as its base: seen from here, then from the adapter's folder. */
static cohort_status named_base(char **out, const char *name, const char *dir, cohort_error *err)
{
    enum file_kind kind = FILE_ABSENT;
    char *beside = NULL;
    if (name == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: adapter_config.json does not say which model it belongs to (base_model_name_or_path): "
                         "pass --model BASE --adapter %s",
                         dir, dir);
    TRY(file_look(name, &kind, err));
    if (kind == FILE_FOLDER)
        return keep(out, name, err);
    TRY(file_join(&beside, dir, name, err));
    cohort_status status = file_look(beside, &kind, err);
    if (status == COHORT_OK && kind == FILE_FOLDER) {
        *out = beside;
        return COHORT_OK;
    }
    mem_free(beside);
    TRY(status);
    return error_set(
        err, COHORT_ERR_IO,
        "%s: its base model '%.200s' (base_model_name_or_path) is no folder here or beside it: pass --model "
        "BASE --adapter %s, BASE being where that model lies",
        dir, name, dir);
}

/* How many names a list may have. */
static cohort_status check_words(size_t n, const char *name, cohort_error *err)
{
    if (n <= MOST_WORDS)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT, "--%s: %zu names, expected at most %d", name, n, (int)MOST_WORDS);
}

cohort_status session_adapter_settings(struct adapter_settings *settings, const struct options *options,
                                       enum adapter_use use, cohort_error *err)
{
    const char *words[MOST_WORDS];
    const size_t n = options_list_count(options, OPTION_LORA_TARGET_MODULES),
                 n_saved = options_list_count(options, OPTION_LORA_MODULES_TO_SAVE),
                 n_parameters = options_list_count(options, OPTION_LORA_TARGET_PARAMETERS);
    const double dropout = options_float(options, OPTION_LORA_DROPOUT);
    adapter_settings_default(settings);
    if (dropout != 0.0 && use != ADAPTER_TRAINED_WITH_DROPOUT)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "--lora-dropout %g: with dropout, training would compute another function than sampling does, "
                         "and the log-probs of the two would differ; leave it at 0",
                         dropout);
    settings->r = (int32_t)options_int(options, OPTION_LORA_R);
    settings->alpha = options_float(options, OPTION_LORA_ALPHA);
    settings->rslora = options_bool(options, OPTION_USE_RSLORA);
    settings->dora = options_bool(options, OPTION_USE_DORA);
    settings->dropout = dropout;
    settings->merged = options_bool(options, OPTION_LORA_MERGE);
    TRY(check_words(n_saved, "lora-modules-to-save", err));
    TRY(check_words(n, "lora-target-modules", err));
    TRY(check_words(n_parameters, "lora-target-parameters", err));
    for (size_t i = 0; i < n_parameters; i++)
        TRY(adapter_names_add(&settings->parameters, options_list_item(options, OPTION_LORA_TARGET_PARAMETERS, i),
                              err));
    for (size_t i = 0; i < n_saved; i++)
        TRY(adapter_names_add(&settings->saved, options_list_item(options, OPTION_LORA_MODULES_TO_SAVE, i), err));
    for (size_t i = 0; i < n; i++)
        words[i] = options_list_item(options, OPTION_LORA_TARGET_MODULES, i);
    return n == 0 ? COHORT_OK : adapter_settings_targets(settings, words, n, err);
}

static cohort_status read_settings(struct session_adapter *adapter, enum adapter_use use, struct text *notes,
                                   cohort_error *err)
{
    struct adapter_settings *s = &adapter->settings;
    const bool merged = s->merged;
    TRY(adapter_settings_read(s, adapter->dir, notes, err));
    s->merged = merged;
    adapter->there = true;
    if (use != ADAPTER_COMPUTED && s->loads_only)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: adapter_config.json asks for a training of its own (init_lora_weights), which is not "
                         "supported; merge the adapter with cohort merge and train on from there",
                         adapter->dir);
    if (use == ADAPTER_TRAINED_WITH_DROPOUT && !s->dora && !s->merged)
        return COHORT_OK;
    if (use != ADAPTER_COMPUTED && s->dropout != 0.0)
        TRY(text_printf(notes, err,
                        "%s: adapter_config.json has lora_dropout %g; it is trained without dropout here%s\n",
                        adapter->dir, s->dropout,
                        use == ADAPTER_TRAINED ? ", so that training computes what sampling does"
                                               : ": with DoRA or merged weights there is none"));
    s->dropout = 0.0;
    return COHORT_OK;
}

cohort_status session_adapter_find(struct session_adapter *adapter, const struct options *options, const char *dir,
                                   enum adapter_use use, struct text *notes, cohort_error *err)
{
    const bool training = use != ADAPTER_COMPUTED;
    const char *model = options_string(options, OPTION_MODEL), *given = options_string(options, OPTION_ADAPTER);
    bool alone = false, resumes = false, own = false;
    const bool fresh = training && options_bool(options, OPTION_USE_PEFT);
    TRY(is_adapter(model, &alone, err));
    if (alone && given != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--model %s is an adapter, and --adapter names another: give the model itself as --model",
                         model);
    if (alone) {
        given = model;
        model = NULL;
    }
    if (given != NULL && fresh)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--use-peft makes a new adapter, and %s is one to go on from: leave one of them out", given);
    if (given != NULL) {
        enum file_kind kind = FILE_ABSENT;
        TRY(file_look(given, &kind, err));
        if (kind != FILE_FOLDER && kind != FILE_ABSENT)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "--adapter %s: expected the folder that adapter_config.json is in", given);
        TRY(keep(&adapter->start, given, err));
    }
    TRY(is_adapter(dir, &resumes, err));
    if (resumes || (dir == NULL && given != NULL)) {
        TRY(keep(&adapter->dir, resumes ? dir : given, err));
        adapter->settings.merged = options_bool(options, OPTION_LORA_MERGE);
        TRY(read_settings(adapter, use, notes, err));
    } else if (fresh && dir == NULL) {
        TRY(session_adapter_settings(&adapter->settings, options, use, err));
        adapter->there = true;
    }
    if (!adapter->there && options_bool(options, OPTION_LORA_MERGE))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--lora-merge: there is no adapter to merge: pass --adapter DIR%s, or leave it out",
                         training ? " or --use-peft" : "");
    if (dir != NULL && !resumes)
        TRY(keep(&adapter->base, dir, err));
    else if (model != NULL)
        TRY(keep(&adapter->base, model, err));
    else if (adapter->there)
        TRY(named_base(&adapter->base, adapter->settings.base, adapter->dir, err));
    else
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no model given: pass --model DIR, a folder with config.json and model.safetensors");
    if (adapter->there && adapter->settings.base == NULL)
        TRY(keep(&adapter->settings.base, adapter->base, err));
    if (adapter->dir != NULL)
        TRY(has_file(adapter->dir, "tokenizer.json", &own, err));
    return keep(&adapter->tokenizer, own ? adapter->dir : adapter->base, err);
}

cohort_status session_adapter_read(const struct session_adapter *adapter, struct model *model, uint64_t seed,
                                   struct weight_files *files, cohort_error *err)
{
    if (adapter->dir == NULL)
        return model_adapter_start(model->adapter, seed, err);
    TRY(model_adapter_read(model->adapter, adapter->dir, &adapter->settings, files, err));
    return adapter_check_base(adapter->dir, &adapter->settings, &model->adapter->layout, param_set_fetch, &model->base,
                              err);
}

cohort_status session_adapter_write(const struct session_adapter *adapter, const struct model *model, const char *dir,
                                    checkpoint_fetch *fetch, struct manifest *manifest, cohort_error *err)
{
    return adapter_write(dir, &adapter->settings, &model->adapter->layout, fetch, &model->adapter->set, manifest, err);
}
