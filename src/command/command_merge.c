/* cohort merge: a base and an adapter become one checkpoint. */
#include "command/command.h"
#include "format/adapter_merge.h"
#include "format/architecture.h"
#include "recipe/session.h"

#include <stdio.h>
#include <string.h>

/* The folder that the tokenizer comes from: the adapter's if it has one, as TRL writes it, with the template that was
 * trained with. */
static cohort_status tokenizer_folder(const char *base, const char *adapter, const char **out, cohort_error *err)
{
    char *path = NULL;
    bool there = false;
    TRY(file_join(&path, adapter, "tokenizer.json", err));
    cohort_status status = file_exists(path, &there, err);
    mem_free(path);
    *out = there ? adapter : base;
    return status;
}

cohort_status command_merge(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                            cohort_error *err)
{
    (void)extra;
    const char *dir = options_string(options, OPTION_MODEL), *adapter = options_string(options, OPTION_ADAPTER),
               *out = options_string(options, OPTION_OUT), *tokenizer = NULL;
    struct model_config config = {0};
    struct config_files files = {0};
    struct param_table params = {0}, untied = {0};
    const struct param_table *written = &params;
    struct adapter_settings settings = {0};
    struct adapter_merge merge = {0};
    struct checkpoint_folder folder = {0};
    struct tokenizer_files small = {0};
    struct text notes = {0};
    enum dtype type = DTYPE_BF16;
    struct checkpoint_types types = {0};
    bool there = false;
    cohort_status status = COHORT_OK;
    if (adapter == NULL || out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no %s given: pass --%s DIR",
                         adapter == NULL ? "adapter" : "folder to write", adapter == NULL ? "adapter" : "out");
    TRY(file_exists(out, &there, err));
    if (there)
        return error_set(err, COHORT_ERR_STATE, "%s: already exists; remove it or choose another --out", out);
    TRY_GOTO(adapter_settings_read(&settings, adapter, &notes, err));
    dir = dir == NULL ? settings.base : dir;
    if (dir == NULL) {
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s: does not say which model it belongs to: pass --model DIR",
                           adapter);
        goto cleanup;
    }
    status = model_config_load(&config, &files, dir, err);
    if (status != COHORT_OK) {
        if (options_string(options, OPTION_MODEL) == NULL)
            error_context(err, "the base model that %s names; pass --model DIR if it lies elsewhere", adapter);
        goto cleanup;
    }
    if (settings.scores)
        TRY_GOTO(model_config_score(&config, dir, err));
    TRY_GOTO(session_type(options, &config, dir, true, &type, &types, &notes, err));
    const bool f16 = session_writes_f16(options, &config, &types);
    observer_notes(observer, &notes);
    TRY_GOTO(architecture_params(&config, storage_of(type), &params, err));
    TRY_GOTO(adapter_merge_open(&merge, dir, &params, &config, adapter, &settings, err));
    if (merge.untied) {
        config.tie_embeddings = false;
        TRY_GOTO(architecture_params(&config, storage_of(type), &untied, err));
        written = &untied;
        observer_message(observer,
                         "note: the adapter changes the embedding or the head, which are one tensor of the base: the "
                         "checkpoint has two (tie_word_embeddings false), so that it computes what the adapter does");
    }
    TRY_GOTO(checkpoint_folder_begin(&folder, out, err));
    folder.exclusive = true; /* somebody else may make it meanwhile */
    TRY_GOTO(tokenizer_folder(dir, adapter, &tokenizer, err));
    TRY_GOTO(checkpoint_read_tokenizer(&small, tokenizer, err));
    TRY_GOTO(checkpoint_read_documents(&small, dir, err));
    TRY_GOTO(checkpoint_write_tokenizer(&small, folder.temporary, err));
    TRY_GOTO(model_config_save(&config, &files, f16 ? DTYPE_F16 : type, folder.temporary, err));
    TRY_GOTO(f16 ? checkpoint_write_weights_f16(folder.temporary, written, adapter_merge_fetch, &merge,
                                                &folder.manifest, err)
                 : checkpoint_write_weights(folder.temporary, written, 0, adapter_merge_fetch, &merge, &folder.manifest,
                                            err));
    TRY_GOTO(checkpoint_folder_commit(&folder, err));
    observer_message(observer, "%s: %.1f M parameters, %s; %d projections with the adapter merged into them", out,
                     (double)written->n_weights / 1e6, dtype_name(f16 ? DTYPE_F16 : type), (int)merge.layout.n_sites);
cleanup:
    checkpoint_folder_abandon(&folder);
    adapter_merge_close(&merge);
    adapter_settings_free(&settings);
    tokenizer_files_free(&small);
    param_table_free(&params);
    param_table_free(&untied);
    config_files_free(&files);
    text_free(&notes);
    return status;
}
