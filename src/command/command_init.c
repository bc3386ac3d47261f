/* cohort init: a random checkpoint. */
#include "command/command.h"
#include "format/model_preset.h"
#include "recipe/session.h"

#include "base/cores.h"
#include "base/pool.h"

#include <stdio.h>
#include <string.h>

/* The shape: a preset or a config.json; with the byte tokenizer the vocabulary is its own. */
static cohort_status read_shape(struct model_config *config, struct config_files *files, const struct options *options,
                                bool bytes, cohort_error *err)
{
    const char *path = options_string(options, OPTION_CONFIG);
    const int preset = options_choice(options, OPTION_PRESET);
    if ((preset >= 0) == (path != NULL))
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --preset NAME or --config FILE (a config.json)");
    if (preset >= 0)
        return model_config_preset(config, files, (enum model_preset)preset, bytes ? TOKENIZER_BYTES_VOCAB : 0, err);
    TRY(file_read(path, 1 << 24, &files->config, err));
    TRY(model_config_parse(config, files->config.data, files->config.length, path, err));
    if (bytes && config->vocab_size < TOKENIZER_BYTES_VOCAB)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: vocab_size %d is less than the %d of the byte tokenizer", path,
                         (int)config->vocab_size, (int)TOKENIZER_BYTES_VOCAB);
    return COHORT_OK;
}

/* The ids that end a completion, from the tokenizer that is in the folder now. */
static void set_special_ids(struct model_config *config, const struct tokenizer *tokenizer)
{
    int32_t end = tokenizer_find(tokenizer, "<|im_end|>"), text_end = tokenizer_find(tokenizer, "<|endoftext|>");
    int32_t n = 0;
    if (end >= 0 && end < config->vocab_size)
        config->eos_ids[n++] = end;
    if (text_end >= 0 && text_end < config->vocab_size) {
        config->eos_ids[n++] = text_end;
        config->pad_id = config->bos_id = text_end;
    }
    if (n > 0)
        config->n_eos = n;
}

cohort_status command_init(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    (void)extra;
    const char *out = options_string(options, OPTION_OUT), *source = options_string(options, OPTION_TOKENIZER);
    bool bytes = source != NULL && strcmp(source, "bytes") == 0;
    struct model_config config = {0};
    struct config_files config_files = {0};
    struct param_table params = {0};
    struct checkpoint_folder folder = {0};
    struct tokenizer *tokenizer = NULL;
    enum dtype type = DTYPE_BF16;
    bool there = false;
    struct cores cores;
    cohort_status status = COHORT_OK;
    session_asked_type(options, &type);
    if (out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no folder given: pass --out DIR");
    TRY(file_exists(out, &there, err));
    if (there)
        return error_set(err, COHORT_ERR_STATE, "%s: already exists; remove it or choose another --out", out);
    struct checkpoint_init init = {.seed = (uint64_t)options_int(options, OPTION_SEED)};
    TRY_GOTO(read_shape(&config, &config_files, options, bytes, err));
    init.standard_deviation = (float)config.initializer_range;
    if (source != NULL && !bytes) /* there, so that messages name the files that were given */
        TRY_GOTO(tokenizer_load(&tokenizer, source, err));
    cores_find(&cores);
    TRY_GOTO(pool_create(&init.pool, cores.usable, err));
    TRY_GOTO(architecture_params(&config, storage_of(type), &params, err));
    TRY_GOTO(checkpoint_folder_begin(&folder, out, err));
    folder.exclusive = true; /* somebody else may make it meanwhile */
    if (bytes)
        TRY_GOTO(tokenizer_write_bytes(folder.temporary, err));
    else if (source != NULL)
        TRY_GOTO(checkpoint_copy_tokenizer(source, folder.temporary, err));
    if (bytes)
        TRY_GOTO(tokenizer_load(&tokenizer, folder.temporary, err));
    if (source != NULL) {
        if (tokenizer_size(tokenizer) > config.vocab_size) {
            status = error_set(err, COHORT_ERR_ARGUMENT, "%s: the tokenizer has %d tokens, the model only %d rows",
                               source, (int)tokenizer_size(tokenizer), (int)config.vocab_size);
            goto cleanup;
        }
        set_special_ids(&config, tokenizer);
    }
    TRY_GOTO(model_config_save(&config, &config_files, type, folder.temporary, err));
    TRY_GOTO(
        checkpoint_write_weights(folder.temporary, &params, 0, checkpoint_init_fetch, &init, &folder.manifest, err));
    TRY_GOTO(checkpoint_folder_commit(&folder, err));
    observer_message(observer, "%s: %.1f M parameters, %s%s", out, (double)params.n_weights / 1e6, dtype_name(type),
                     source == NULL ? "; no tokenizer (pass --tokenizer DIR or bytes to add one)" : "");
cleanup:
    checkpoint_folder_abandon(&folder);
    pool_destroy(init.pool);
    tokenizer_destroy(tokenizer);
    param_table_free(&params);
    config_files_free(&config_files);
    return status;
}
