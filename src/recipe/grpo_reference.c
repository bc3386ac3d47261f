/* The reference of a GRPO run: the model that it began with, or, with sync_ref_model, what was mixed since. */
#include "recipe/grpo_run.h"

#include "recipe/run_identity.h"

#include <stdio.h>

static const char FOLDER[] = "trainer/reference"; /* of a checkpoint */

bool grpo_run_wants_reference(const struct grpo_run *run) { return options_float(run->t.options, OPTION_BETA) != 0.0; }

bool grpo_run_holds_reference(const struct grpo_run *run)
{
    const struct session_adapter *adapter = &run->t.session.adapter;
    return grpo_run_wants_reference(run) && (!adapter->there || adapter->start != NULL);
}

/* Beside an adapter the reference is its base; where the run began with an adapter, a copy of that one. */
static cohort_status adapter_reference(struct grpo_run *run, cohort_error *err)
{
    struct model *model = run->t.session.model;
    const struct session_adapter *adapter = &run->t.session.adapter;
    struct adapter_settings settings = {0};
    if (run->sync.steps > 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--sync-ref-model mixes whole models; beside an adapter the reference stays the base, or the "
                         "adapter that the run began with (TRL refuses it too): leave it out");
    run->grpo.reference = model;
    if (adapter->start == NULL)
        return COHORT_OK;
    TRY(adapter_settings_read(&settings, adapter->start, NULL, err));
    settings.merged = adapter->settings.merged; /* so that both compute alike */
    cohort_status status = model_adapter_open(&run->reference_adapter, model, &settings, err);
    if (status == COHORT_OK)
        status = model_adapter_read(run->reference_adapter, adapter->start, &settings, NULL, err);
    run->grpo.reference_adapter = run->reference_adapter;
    adapter_settings_free(&settings);
    return status;
}

/* Tells the observer how the reference's folder is read. */
static cohort_status tell_reference_notes(const struct grpo_run *run, cohort_error *err)
{
    const char *dir = options_string(run->t.options, OPTION_MODEL);
    struct model_config config = {0};
    struct text notes = {0};
    enum dtype type = DTYPE_F32;
    TRY(model_config_load(&config, NULL, dir, err));
    cohort_status status = session_type(run->t.options, &config, dir, false, &type, NULL, &notes, err);
    if (status == COHORT_OK)
        observer_notes(run->t.observer, &notes);
    text_free(&notes);
    return status;
}

/* The folder of a checkpoint that holds a reference which was mixed; *dir NULL: there is none, and it is the model that
 * the run began with. */
static cohort_status mixed_reference(const struct grpo_run *run, char **dir, cohort_error *err)
{
    char *config = NULL;
    bool there = false;
    *dir = NULL;
    if (run->t.resume_dir == NULL || run->sync.steps == 0)
        return COHORT_OK;
    TRY(file_join(dir, run->t.resume_dir, FOLDER, err));
    cohort_status status = file_join(&config, *dir, "config.json", err);
    if (status == COHORT_OK)
        status = file_exists(config, &there, err);
    if (status != COHORT_OK || !there) {
        mem_free(*dir);
        *dir = NULL;
    }
    mem_free(config);
    return status;
}

/* The reference is the model that the run began with. Where the policy was opened from the same folder, the
 * notes about it have been told. A resumed run has read a checkpoint instead, so it tells the notes and hashes the
 * reference here. */
cohort_status grpo_run_load_reference(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    const char *dir = options_string(t->options, OPTION_MODEL);
    struct weight_files files = {0};
    char *mixed = NULL;
    if (!grpo_run_wants_reference(run))
        return COHORT_OK;
    if (t->session.adapter.there)
        return adapter_reference(run, err);
    TRY(reference_sync_open(&run->sync, err));
    TRY(mixed_reference(run, &mixed, err));
    if (mixed != NULL) {
        run->mixed = true;
        cohort_status read = session_load_reference(&t->session, t->options, mixed, NULL, &run->grpo.reference, err);
        mem_free(mixed);
        return read;
    }
    if (dir == NULL) /* --resume CHECKPOINT without the run's config.yaml */
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--beta needs the model that the run began with as its reference: pass "
                         "--model DIR");
    if (t->resume_dir != NULL)
        TRY(tell_reference_notes(run, err));
    TRY(session_load_reference(&t->session, t->options, dir, t->resume_dir == NULL ? NULL : &files,
                               &run->grpo.reference, err));
    cohort_status status = t->resume_dir == NULL ? COHORT_OK : run_identity_add_model(&t->inputs, dir, &files, err);
    weight_files_free(&files);
    return status;
}

cohort_status grpo_run_check_reference(const struct grpo_run *run, cohort_error *err)
{
    const struct training *t = &run->t;
    const bool mixed = reference_sync_mixed(&run->sync, t->state.step);
    if (t->resume_dir == NULL || mixed == run->mixed)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s: %s %s, but by step %lld the reference %s; the checkpoint is damaged: resume from another one",
                     t->resume_dir, FOLDER, mixed ? "is missing" : "is there", (long long)t->state.step,
                     mixed ? "was mixed" : "was not mixed yet");
}

cohort_status grpo_run_write_reference(const struct grpo_run *run, const char *dir, struct manifest *manifest,
                                       cohort_error *err)
{
    const struct training *t = &run->t;
    struct model *reference = run->grpo.reference;
    struct manifest weights = {0};
    char *folder = NULL, name[256];
    cohort_status status = COHORT_OK;
    if (!reference_sync_mixed(&run->sync, t->state.step))
        return COHORT_OK;
    TRY_GOTO(file_join(&folder, dir, FOLDER, err));
    TRY_GOTO(file_make_dirs(folder, err));
    TRY_GOTO(model_config_save(&reference->config, &t->session.config_files, reference->type, folder, err));
    TRY_GOTO(
        checkpoint_write_weights(folder, &reference->base.table, 0, param_set_fetch, &reference->base, &weights, err));
    for (size_t i = 0; manifest != NULL && i < weights.n; i++) {
        snprintf(name, sizeof name, "%s/%s", FOLDER, weights.entries[i].name);
        TRY_GOTO(manifest_add(manifest, name, weights.entries[i].hex, err));
    }
cleanup:
    manifest_free(&weights);
    mem_free(folder);
    return status;
}
