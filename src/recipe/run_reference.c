#include "recipe/run_reference.h"

#include "recipe/run_identity.h"

#include <stdio.h>

static const char FOLDER[] = "trainer/reference"; /* of a checkpoint */

cohort_status run_reference_configure(struct run_reference *r, const struct options *o, const cohort_observer *observer,
                                      const char *none, cohort_error *err)
{
    if (!options_bool(o, OPTION_SYNC_REF_MODEL)) {
        if (options_given(o, OPTION_REF_MODEL_MIXUP_ALPHA) || options_given(o, OPTION_REF_MODEL_SYNC_STEPS))
            observer_message(observer, "note: ref_model_mixup_alpha and ref_model_sync_steps do nothing without "
                                       "sync_ref_model");
        return COHORT_OK;
    }
    if (!r->wanted)
        return error_set(err, COHORT_ERR_ARGUMENT, "sync_ref_model changes the reference, and %s", none);
    r->sync.steps = options_int(o, OPTION_REF_MODEL_SYNC_STEPS);
    r->sync.alpha = options_float(o, OPTION_REF_MODEL_MIXUP_ALPHA);
    return COHORT_OK;
}

bool run_reference_holds(const struct run_reference *r, const struct training *t)
{
    const struct session_adapter *adapter = &t->session.adapter;
    return r->wanted && (!adapter->there || adapter->start != NULL);
}

/* Beside an adapter the reference is its base; where the run began with an adapter, a copy of that one. */
static cohort_status adapter_reference(struct run_reference *r, const struct training *t, cohort_error *err)
{
    struct model *model = t->session.model;
    const struct session_adapter *adapter = &t->session.adapter;
    struct adapter_settings settings = {0};
    if (r->sync.steps > 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--sync-ref-model mixes whole models; beside an adapter the reference stays the base, or the "
                         "adapter that the run began with (TRL refuses it too): leave it out");
    r->model = model;
    if (adapter->start == NULL)
        return COHORT_OK;
    TRY(adapter_settings_read(&settings, adapter->start, NULL, err));
    settings.merged = adapter->settings.merged; /* so that both compute alike */
    cohort_status status = model_adapter_open(&r->adapter, model, &settings, err);
    if (status == COHORT_OK)
        status = model_adapter_read(r->adapter, adapter->start, &settings, NULL, err);
    adapter_settings_free(&settings);
    return status;
}

/* Tells the observer how the reference's folder is read. */
static cohort_status tell_notes(const struct training *t, cohort_error *err)
{
    const char *dir = options_string(t->options, OPTION_MODEL);
    struct model_config config = {0};
    struct text notes = {0};
    enum dtype type = DTYPE_F32;
    TRY(model_config_load(&config, NULL, dir, err));
    cohort_status status = session_type(t->options, &config, dir, false, &type, NULL, &notes, err);
    if (status == COHORT_OK)
        observer_notes(t->observer, &notes);
    text_free(&notes);
    return status;
}

/* The folder of a checkpoint that holds a reference which was mixed; *dir NULL: there is none, and it is the model that
 * the run began with. */
static cohort_status mixed_reference(const struct run_reference *r, const struct training *t, char **dir,
                                     cohort_error *err)
{
    char *config = NULL;
    bool there = false;
    *dir = NULL;
    if (t->resume_dir == NULL || r->sync.steps == 0)
        return COHORT_OK;
    TRY(file_join(dir, t->resume_dir, FOLDER, err));
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
cohort_status run_reference_load(struct run_reference *r, struct training *t, cohort_error *err)
{
    const char *dir = options_string(t->options, OPTION_MODEL);
    struct weight_files files = {0};
    char *mixed = NULL;
    if (!r->wanted)
        return COHORT_OK;
    if (t->session.adapter.there)
        return adapter_reference(r, t, err);
    TRY(reference_sync_open(&r->sync, err));
    TRY(mixed_reference(r, t, &mixed, err));
    if (mixed != NULL) {
        r->mixed = true;
        cohort_status read = session_load_reference(&t->session, t->options, mixed, NULL, &r->model, err);
        mem_free(mixed);
        return read;
    }
    if (dir == NULL) /* --resume CHECKPOINT without the run's config.yaml */
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the reference is the model that the run began with: pass it as --model DIR");
    if (t->resume_dir != NULL)
        TRY(tell_notes(t, err));
    TRY(session_load_reference(&t->session, t->options, dir, t->resume_dir == NULL ? NULL : &files, &r->model, err));
    cohort_status status =
        t->resume_dir == NULL ? COHORT_OK : run_identity_add_model(&t->inputs, INPUT_MODEL, dir, &files, err);
    weight_files_free(&files);
    return status;
}

cohort_status run_reference_check(const struct run_reference *r, const struct training *t, cohort_error *err)
{
    const bool mixed = reference_sync_mixed(&r->sync, t->state.step);
    if (t->resume_dir == NULL || mixed == r->mixed)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s: %s %s, but by step %lld the reference %s; the checkpoint is damaged: resume from another one",
                     t->resume_dir, FOLDER, mixed ? "is missing" : "is there", (long long)t->state.step,
                     mixed ? "was mixed" : "was not mixed yet");
}

void run_reference_step(struct run_reference *r, const struct training *t)
{
    if (reference_sync_due(&r->sync, t->state.step))
        reference_sync_mix(&r->sync, r->model, t->session.model);
}

cohort_status run_reference_write(const struct run_reference *r, const struct training *t, const char *dir,
                                  struct manifest *manifest, cohort_error *err)
{
    struct model *reference = r->model;
    struct manifest weights = {0};
    char *folder = NULL, name[256];
    cohort_status status = COHORT_OK;
    if (!reference_sync_mixed(&r->sync, t->state.step))
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

void run_reference_close(struct run_reference *r, const struct training *t)
{
    model_adapter_destroy(r->adapter);
    if (r->model != t->session.model)
        model_destroy(r->model);
    reference_sync_close(&r->sync);
}
