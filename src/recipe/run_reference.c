#include "recipe/run_reference.h"

#include "recipe/run_identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char FOLDER[] = "trainer/reference"; /* of a checkpoint */

cohort_status run_reference_name(struct run_reference *r, const char *dir, cohort_error *err)
{
    r->named = dir;
    return dir == NULL ? COHORT_OK : adapter_is_folder(dir, &r->named_adapter, err);
}

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

/* The adapter that the reference wears; NULL: it is the base. */
static const char *worn(const struct run_reference *r, const struct training *t)
{
    return r->named == NULL ? t->session.adapter.start : r->named_adapter ? r->named : NULL;
}

bool run_reference_holds(const struct run_reference *r, const struct training *t)
{
    return r->wanted && (!t->session.adapter.there || worn(r, t) != NULL);
}

static bool same_folder(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    const bool same = x != NULL && y != NULL && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

/* Beside an adapter the reference is its base; where the run began with an adapter, a copy of that one. */
static cohort_status adapter_reference(struct run_reference *r, struct training *t, cohort_error *err)
{
    struct model *model = t->session.model;
    const struct session_adapter *adapter = &t->session.adapter;
    const char *wears = worn(r, t), *base = options_string(t->options, OPTION_MODEL);
    struct adapter_settings settings = {0};
    if (r->sync.steps > 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--sync-ref-model mixes whole models; beside an adapter the reference stays the base, or the "
                         "adapter that the run began with (TRL refuses it too): leave it out");
    if (r->named != NULL && wears == NULL && (base == NULL || !same_folder(r->named, base)))
        return error_set(
            err, COHORT_ERR_UNSUPPORTED,
            "--ref-model %s: beside an adapter the reference is the base, which is in memory once (%s), or "
            "an adapter of it: give one of these folders",
            r->named, base == NULL ? "--model" : base);
    r->model = model;
    if (wears == NULL)
        return COHORT_OK;
    if (r->named != NULL)
        TRY(run_identity_add_adapter(&t->inputs, INPUT_REFERENCE, wears, err));
    TRY(adapter_settings_read(&settings, wears, NULL, err));
    settings.merged = adapter->settings.merged; /* so that both compute alike */
    cohort_status status = model_adapter_open(&r->adapter, model, &settings, err);
    if (status == COHORT_OK)
        status = model_adapter_read(r->adapter, wears, &settings, NULL, err);
    adapter_settings_free(&settings);
    return status;
}

/* Both run over the same batches and in the same memory, and may be mixed. */
static cohort_status check_shape(const struct run_reference *r, const struct training *t, cohort_error *err)
{
    const struct model *policy = t->session.model, *reference = r->model;
    const struct model_config *a = &policy->config, *b = &reference->config;
    const struct param_table *x = &policy->base.table, *y = &reference->base.table;
    bool same = a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads && a->head_dim == b->head_dim &&
                x->n_params == y->n_params;
    for (int32_t i = 0; same && i < x->n_params; i++)
        same = strcmp(x->params[i].name, y->params[i].name) == 0 && x->params[i].rank == y->params[i].rank &&
               memcmp(x->params[i].shape, y->params[i].shape, sizeof x->params[i].shape) == 0;
    if (same)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "--ref-model %s: its tensors are not those of the model (%s); a reference is a model of the same "
                     "shape",
                     r->named, t->session.dir);
}

/* The model that ref_model names, which is an input of its own. */
static cohort_status named_reference(struct run_reference *r, struct training *t, cohort_error *err)
{
    struct weight_files files = {0};
    cohort_status status = session_load_reference(&t->session, t->options, r->named, &files, &r->model, err);
    if (status == COHORT_OK)
        status = check_shape(r, t, err);
    if (status == COHORT_OK)
        status = run_identity_add_model(&t->inputs, INPUT_REFERENCE, r->named, &files, err);
    weight_files_free(&files);
    return status;
}

/* Tells the observer how the reference's folder is read. */
static cohort_status tell_notes(const struct training *t, const char *dir, cohort_error *err)
{
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
    if (r->named != NULL) {
        TRY(tell_notes(t, r->named, err));
        return named_reference(r, t, err);
    }
    if (dir == NULL) /* --resume CHECKPOINT without the run's config.yaml */
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the reference is the model that the run began with: pass it as --model DIR");
    if (t->resume_dir != NULL)
        TRY(tell_notes(t, dir, err));
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
