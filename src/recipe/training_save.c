/* What a run leaves on disk: its folder taken and continued, metrics, checkpoints, the last save of a run that
 * fails. */
#include "recipe/training.h"

#include "base/clock.h"
#include "base/number.h"
#include "model/param_shard.h"
#include "recipe/end_of_text.h"
#include "recipe/record.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { PERIODIC_KEPT = 2 };            /* checkpoints by the clock alone */
static const double save_share = 0.03; /* of the time may go into saving by the clock */

/* ---- taking the folder ---- */

cohort_status training_lock(struct training *t, const char *out, cohort_error *err)
{
    enum file_kind kind = FILE_ABSENT;
    TRY(file_look(out, &kind, err));
    return kind == FILE_FOLDER ? run_folder_lock(&t->run, out, err) : COHORT_OK;
}

/* Sends each line of text as a message. */
static void tell(const struct training *t, const struct text *lines)
{
    for (const char *line = lines->length > 0 ? lines->data : ""; *line != '\0';) {
        int length = (int)strcspn(line, "\n");
        observer_message(t->observer, "%.*s", length, line);
        line += length + (line[length] == '\n');
    }
}

cohort_status training_find_latest(struct training *t, const char *out, cohort_error *err)
{
    struct run_steps steps = {0};
    struct text odd = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_folder_checkpoints(out, &steps, &odd, err));
    if (steps.n > 0)
        TRY_GOTO(run_folder_checkpoint_path(out, steps.at[steps.n - 1], &t->resume_dir, err));
    for (char *line = odd.length > 0 ? odd.data : NULL; line != NULL && *line != '\0';) {
        size_t length = strcspn(line, "\n");
        observer_message(t->observer,
                         "note: %.*s is not how cohort names a checkpoint (step-N, N without zeros "
                         "in front); it is left alone, name it with --resume to use it",
                         (int)length, line);
        line += length + 1;
    }
cleanup:
    run_steps_free(&steps);
    text_free(&odd);
    return status;
}

/* ---- verifying ---- */

static const char *const of_model[] = {"config.json", "trainer/state.json", "trainer/options.yaml",
                                       "trainer/optimizer.safetensors", NULL};
static const char *const of_adapter[] = {"adapter_config.json", "trainer/state.json", "trainer/options.yaml",
                                         "trainer/optimizer.safetensors", NULL};

/* The files without which a checkpoint is none. */
static cohort_status needed_in(const char *dir, const char *const **needed, cohort_error *err)
{
    bool adapter = false;
    TRY(adapter_is_folder(dir, &adapter, err));
    *needed = adapter ? of_adapter : of_model;
    return COHORT_OK;
}

/* *path is the newest checkpoint, other than the damaged one, whose files are all as they were saved; NULL if there is
 * none. */
static cohort_status newest_intact(const char *out, const char *damaged, char **path, const struct stop *stop,
                                   cohort_error *err)
{
    struct run_steps steps = {0};
    cohort_status status = COHORT_OK;
    *path = NULL;
    TRY(run_folder_checkpoints(out, &steps, NULL, err));
    for (size_t i = steps.n; i-- > 0 && *path == NULL;) {
        struct manifest_report report = {0};
        char *candidate = NULL;
        const char *const *needed = NULL;
        TRY_GOTO(run_folder_checkpoint_path(out, steps.at[i], &candidate, err));
        bool other = strcmp(candidate, damaged) != 0 && run_folder_step_of(damaged) != steps.at[i];
        status = needed_in(candidate, &needed, err);
        if (status == COHORT_OK && other)
            status = manifest_verify(candidate, needed, &report, stop, err);
        if (status == COHORT_OK && report.found && report.n_bad == 0) {
            *path = candidate;
            candidate = NULL;
        }
        text_free(&report.bad);
        mem_free(candidate);
        TRY_GOTO(status);
    }
cleanup:
    run_steps_free(&steps);
    return status;
}

cohort_status training_verify(struct training *t, const char *out, cohort_error *err)
{
    struct manifest_report report = {0};
    char *intact = NULL, *trainer = NULL;
    const char *const *needed = NULL;
    enum file_kind kind = FILE_ABSENT;
    const struct stop *stop = options_stop(t->options);
    cohort_status status = COHORT_OK;
    if (t->resume_dir == NULL)
        return COHORT_OK;
    /* A folder without trainer/ may be intact and still not be something to resume from; its reader says so. */
    TRY_GOTO(file_join(&trainer, t->resume_dir, "trainer", err));
    TRY_GOTO(file_look(trainer, &kind, err));
    TRY_GOTO(needed_in(t->resume_dir, &needed, err));
    TRY_GOTO(manifest_verify(t->resume_dir, kind == FILE_FOLDER ? needed : NULL, &report, stop, err));
    if (!report.found)
        observer_message(t->observer,
                         "note: %s has no " MANIFEST_NAME
                         " (older versions wrote none): its files are not checked for damage",
                         t->resume_dir);
    if (report.n_bad == 0)
        goto cleanup;
    TRY_GOTO(newest_intact(out, t->resume_dir, &intact, stop, err));
    char more[64] = "";
    if (report.n_bad > 1)
        snprintf(more, sizeof more, ", and %lld more", (long long)report.n_bad - 1);
    status = intact == NULL ? error_set(err, COHORT_ERR_FORMAT,
                                        "the checkpoint is damaged: %.*s%s; %s/checkpoints has no other one "
                                        "that is intact",
                                        (int)strcspn(report.bad.data, "\n"), report.bad.data, more, out)
                            : error_set(err, COHORT_ERR_FORMAT,
                                        "the checkpoint is damaged: %.*s%s; the newest intact one is %s: to go "
                                        "on from it, pass --resume %s",
                                        (int)strcspn(report.bad.data, "\n"), report.bad.data, more, intact, intact);
cleanup:
    text_free(&report.bad);
    mem_free(intact);
    mem_free(trainer);
    return status;
}

cohort_status training_continue(struct training *t, const char *out, const struct text *yaml, cohort_error *err)
{
    struct text notes = {0};
    cohort_status status = COHORT_OK;
    const int64_t named = run_folder_step_of(t->resume_dir);
    if (named >= 0 && named != t->state.step)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: its name says step %lld, trainer/state.json in it says step %lld; "
                         "give the folder its own name back",
                         t->resume_dir, (long long)named, (long long)t->state.step);
    if (t->run.path == NULL) {
        TRY(file_make_dirs(out, err));
        TRY(run_folder_lock(&t->run, out, err));
    }
    status = run_folder_set_aside(&t->run, t->state.step, &notes, err);
    tell(t, &notes);
    text_free(&notes);
    TRY(status);
    return run_folder_open(&t->run, out, t->state.step, t->resume_dir, yaml, err);
}

/* ---- metrics ---- */

static cohort_status write_line(struct training *t, const struct metrics *line, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = metrics_write(line, &text, err);
    const size_t before = t->run.logs[RUN_METRICS].pending.length;
    if (status == COHORT_OK)
        status = run_folder_log(&t->run, RUN_METRICS, &text, err);
    /* Kept for the next checkpoint, unless there was no memory even for that. */
    t->lines_lost = status != COHORT_OK && t->run.logs[RUN_METRICS].pending.length == before;
    text_free(&text);
    return status;
}

cohort_status training_log(struct training *t, int64_t step, double epoch, const struct metrics *metrics,
                           cohort_error *err)
{
    struct metrics line = {0};
    bool lost_before = t->lines_lost;
    if (!training_writes(t))
        return COHORT_OK;
    metrics_set(&line, "step", (double)step);
    if (!isnan(epoch))
        metrics_set(&line, "epoch", epoch);
    metrics_add(&line, metrics);
    cohort_status status = write_line(t, &line, err);
    if (t->lines_lost && write_line(t, &line, NULL) == COHORT_OK)
        status = COHORT_OK;
    t->lines_lost = t->lines_lost || lost_before;
    cohort_status recorded = record_step(t, step, epoch, metrics, true, t->evaluated, status == COHORT_OK ? err : NULL);
    t->evaluated = -1.0;
    status = status == COHORT_OK ? recorded : status;
    observer_metrics(t->observer, &line);
    report_to_step(t->report, step, &line);
    metrics_free(&line);
    return status;
}

cohort_status training_owes_evaluation(struct training *t, const char *metric, bool *owes, cohort_error *err)
{
    *owes = false;
    if (t->resume_dir == NULL)
        return COHORT_OK;
    if (training_writes(t))
        TRY(run_folder_lacks(&t->run, RUN_METRICS, t->state.step, metric, owes, err));
    return training_share_flag(t, owes, err);
}

cohort_status training_log_evaluation(struct training *t, const struct metrics *metrics, cohort_error *err)
{
    struct text text = {0}, fields = {0};
    struct metrics told = {0};
    cohort_status status = COHORT_OK;
    if (!training_writes(t))
        return COHORT_OK;
    TRY_GOTO(metrics_write(metrics, &text, err));
    TRY_GOTO(text_append(&fields, text.data + 1, text.length - 3, err)); /* without {, } and the newline */
    TRY_GOTO(run_folder_extend(&t->run, RUN_METRICS, &fields, err));
    status = record_step(t, t->state.step, (double)NAN, metrics, false, t->evaluated, err);
    t->evaluated = -1.0;
    TRY_GOTO(status);
    metrics_set(&told, "step", (double)t->state.step);
    metrics_add(&told, metrics);
    observer_metrics(t->observer, &told);
    report_to_step(t->report, t->state.step, &told);
cleanup:
    metrics_free(&told);
    text_free(&text);
    text_free(&fields);
    return status;
}

/* ---- checkpoints ---- */

/* A checkpoint folder that is being written. Its small files come first, then what is large, on this thread or another. */
struct save_beside {
    struct training *t; /* of which no rollout changes what is read here: model, adapter, optimizer's tensors */
    struct checkpoint_folder folder;
    char *path, name[64];
    int64_t step;
    bool periodic, beside; /* by the clock; on another thread */
    pthread_t thread;
    sem_t read;               /* posted when the thread has read all that an update changes, or has failed */
    bool was_read;            /* the run has waited for that */
    cohort_status written;    /* before the post: whether what was read is in the folder */
    double begun, took, held; /* of the clock; seconds until it was whole, for which the run was held up */
    cohort_status status;
    cohort_error err;
};

/* What other tools read in a model folder beside the weights. */
static cohort_status write_files(const struct training *t, const char *dir, cohort_error *err)
{
    const struct model *model = t->session.model;
    if (model->adapter == NULL)
        TRY(model_config_save(&model->config, &t->session.config_files, t->session.f16 ? DTYPE_F16 : model->type, dir,
                              err));
    TRY(checkpoint_write_tokenizer(&t->tokenizer, dir, err));
    return end_of_text_save(&t->session, t->options, dir, err);
}

/* last: no run goes on from it, so that a model whose files are F16 can be rounded to it. */
static cohort_status write_weights(const struct training *t, struct checkpoint_folder *folder, checkpoint_fetch *fetch,
                                   bool last, cohort_error *err)
{
    struct model *model = t->session.model;
    if (model->adapter != NULL)
        return session_adapter_write(&t->session.adapter, model, folder->temporary, fetch, &folder->manifest, err);
    if (t->session.f16 && last)
        return checkpoint_write_weights_f16(folder->temporary, &model->base.table, fetch, &model->base,
                                            &folder->manifest, err);
    return checkpoint_write_weights(folder->temporary, &model->base.table, 0, fetch, &model->base, &folder->manifest,
                                    err);
}

static void tell_kept(const struct training *t, const struct checkpoint_folder *folder, const char *name)
{
    if (folder->kept != NULL)
        observer_message(t->observer, "note: the %s that was there holds files of yours: it is now %s", name,
                         folder->kept);
}

/* A folder with the model alone, or with the mean of its weights. */
static cohort_status save_model(struct training *t, const char *name, bool mean, cohort_error *err)
{
    struct checkpoint_folder folder = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY(run_folder_check(&t->run, err));
    TRY(run_folder_path(&t->run, name, &path, err));
    TRY_GOTO(checkpoint_folder_begin(&folder, path, err));
    TRY_GOTO(write_files(t, folder.temporary, err));
    TRY_GOTO(write_weights(t, &folder, mean ? param_set_fetch_mean : param_set_fetch, true, err));
    TRY_GOTO(checkpoint_folder_commit(&folder, err));
    tell_kept(t, &folder, name);
cleanup:
    if (status != COHORT_OK)
        error_context(err, "saving %s", path);
    checkpoint_folder_abandon(&folder);
    mem_free(path);
    return status;
}

/* Deletes old checkpoints: of all with save_total_limit, else of those that were written by the clock alone. A
 * checkpoint that cannot be deleted does not end the run. */
static void prune(struct training *t)
{
    struct text notes = {0};
    cohort_error why = {0};
    bool limited = options_is_set(t->options, OPTION_SAVE_TOTAL_LIMIT);
    int64_t keep = limited ? options_int(t->options, OPTION_SAVE_TOTAL_LIMIT) : PERIODIC_KEPT;
    if (run_folder_prune(&t->run, keep, !limited, &notes, &why) != COHORT_OK)
        observer_message(t->observer, "note: old checkpoints were not removed: %s", why.message);
    tell(t, &notes);
    text_free(&notes);
}

/* What a rollout could change, and what is small. */
static cohort_status save_begin(struct save_beside *s, const struct optimizer *optimizer, cohort_error *err)
{
    struct training *t = s->t;
    TRY(run_folder_path(&t->run, s->name, &s->path, err));
    TRY(run_folder_check(&t->run, err));
    TRY(checkpoint_folder_begin(&s->folder, s->path, err));
    TRY(write_files(t, s->folder.temporary, err));
    TRY(training_write_trainer(t, optimizer, s->folder.temporary, &s->folder.manifest, err));
    TRY(run_folder_carry(&t->run, s->folder.temporary, err));
    return store_carry(t->store, s->folder.temporary, err);
}

static cohort_status write_large(struct save_beside *s, cohort_error *err)
{
    TRY(write_weights(s->t, &s->folder, s->beside ? param_set_fetch_beside : param_set_fetch, false, err));
    return train_state_write_tensors(s->folder.temporary, s->t->session.model->trained, s->beside, &s->folder.manifest,
                                     err);
}

static void *work(void *context)
{
    struct save_beside *s = context;
    const cohort_status written = write_large(s, &s->err);
    s->written = written;
    (void)sem_post(&s->read);
    s->status = written == COHORT_OK ? checkpoint_folder_commit(&s->folder, &s->err) : written;
    s->took = clock_seconds() - s->begun;
    return NULL;
}

/* Signals are the host's. */
static bool start_thread(struct save_beside *s)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->beside = sem_init(&s->read, 0, 0) == 0; /* before the thread reads it */
    if (s->beside && pthread_create(&s->thread, NULL, work, s) != 0) {
        (void)sem_destroy(&s->read);
        s->beside = false;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->beside;
}

/* Once its folder is written, or is not. */
static cohort_status save_end(struct save_beside *s, cohort_error *err)
{
    struct training *t = s->t;
    cohort_error why = {0};
    const cohort_status status = s->status;
    const double end = clock_seconds();
    char json[120];
    if (status == COHORT_OK) {
        tell_kept(t, &s->folder, s->name);
        t->saved_step = s->step;
        number_format(json, sizeof json, "{\"by\": \"%s\", \"seconds\": %.3f, \"held_up\": %.3f}",
                      s->periodic ? "clock" : "step", s->took, s->held);
        record_event_of(t, s->step, "checkpoint", NULL, NULL, s->name, json);
        /* Without the record it is never deleted. */
        if (run_folder_note_periodic(&t->run, s->step, s->periodic, &why) != COHORT_OK)
            observer_message(t->observer, "note: %s", why.message);
        prune(t);
    } else {
        error_set(err, status, "%s", s->err.message);
        error_context(err, "saving %s", s->path == NULL ? s->name : s->path);
    }
    t->saved_at = clock_seconds();
    t->save_seconds = s->held + t->saved_at - end;
    checkpoint_folder_abandon(&s->folder);
    mem_free(s->path);
    mem_free(s);
    return status;
}

/* A checkpoint that the clock asked for and that fails does not end the run. */
static cohort_status unless_periodic(struct training *t, bool periodic, cohort_status status, const cohort_error *why,
                                     cohort_error *err)
{
    if (status != COHORT_OK && periodic)
        observer_message(t->observer, "note: %s; training goes on and tries again in %.3g minutes", why->message,
                         options_float(t->options, OPTION_SAVE_MINUTES));
    else if (status != COHORT_OK)
        error_set(err, status, "%s", why->message);
    return periodic ? COHORT_OK : status;
}

static cohort_status save_checkpoint(struct training *t, const struct optimizer *optimizer, bool periodic,
                                     bool meanwhile, cohort_error *err)
{
    struct save_beside *s = NULL;
    const double begin = clock_seconds();
    TRY(mem_alloc(&s, 1, sizeof *s, "checkpoint", err));
    *s = (struct save_beside){.t = t, .step = t->state.step, .periodic = periodic, .begun = begin};
    snprintf(s->name, sizeof s->name, "checkpoints/step-%lld", (long long)s->step);
    s->status = save_begin(s, optimizer, &s->err);
    if (s->status == COHORT_OK && meanwhile && t->session.backend->ops->download_beside != NULL) {
        t->session.backend->ops->wait(t->session.backend);
        if (start_thread(s)) {
            s->held = clock_seconds() - begin;
            t->beside = s;
            return COHORT_OK;
        }
    }
    if (s->status == COHORT_OK)
        s->status = write_large(s, &s->err);
    if (s->status == COHORT_OK)
        s->status = checkpoint_folder_commit(&s->folder, &s->err);
    s->held = s->took = clock_seconds() - begin;
    return save_end(s, err);
}

cohort_status training_before_update(struct training *t, cohort_error *err)
{
    struct save_beside *s = t->beside;
    if (s == NULL || s->was_read)
        return COHORT_OK;
    const double begin = clock_seconds();
    while (sem_wait(&s->read) != 0 && errno == EINTR)
        continue;
    s->was_read = true;
    s->held += clock_seconds() - begin;
    return s->written == COHORT_OK ? COHORT_OK : training_settle(t, err);
}

cohort_status training_settle(struct training *t, cohort_error *err)
{
    struct save_beside *s = t->beside;
    cohort_error why = {0};
    if (s == NULL)
        return COHORT_OK;
    const bool periodic = s->periodic;
    const double begin = clock_seconds();
    t->beside = NULL;
    pthread_join(s->thread, NULL);
    (void)sem_destroy(&s->read);
    s->held += clock_seconds() - begin;
    const cohort_status status = save_end(s, &why);
    return unless_periodic(t, periodic, status, &why, err);
}

/* Due every save_minutes, but never so often that saving takes more than a few percent of the time. */
static bool clock_says(const struct training *t)
{
    const double minutes = options_float(t->options, OPTION_SAVE_MINUTES);
    const double since = clock_seconds() - t->saved_at;
    return minutes > 0.0 && since >= 60.0 * minutes && t->save_seconds <= save_share * since;
}

static cohort_status save_if_due(struct training *t, const struct optimizer *optimizer, bool asked, bool meanwhile,
                                 cohort_error *err)
{
    cohort_error why = {0};
    TRY(training_settle(t, err));
    if (!asked && !clock_says(t))
        return COHORT_OK;
    const cohort_status status = save_checkpoint(t, optimizer, !asked, meanwhile, &why);
    return unless_periodic(t, !asked, status, &why, err);
}

/* Behind rank 0's writing, and on the other ranks in its place: they answer what it asks for. */
static cohort_status end_writing(struct training *t, cohort_status status, cohort_error *err)
{
    const struct param_set *set = t->session.model->trained;
    cohort_error why = {0};
    if (ranks_count(t->ranks) == 1 || t->ranks->failed)
        return status;
    const cohort_status ended = training_writes(t) ? param_shard_release(set, &why) : param_shard_serve(set, &why);
    if (ended != COHORT_OK)
        return error_set(err, ended, "%s", why.message);
    return training_agree(t, status, err);
}

cohort_status training_save(struct training *t, const struct optimizer *optimizer, bool asked, bool meanwhile,
                            cohort_error *err)
{
    const bool alone = ranks_count(t->ranks) == 1; /* else what a rollout leaves alone lies on other ranks */
    const cohort_status status =
        training_writes(t) ? save_if_due(t, optimizer, asked, meanwhile && alone, err) : COHORT_OK;
    return end_writing(t, status, err);
}

/* final-ema/ beside final/, where a mean of the weights is kept. */
static cohort_status save_mean(struct training *t, cohort_error *err)
{
    if (t->session.optimizer.ema_decay == 0.0)
        return COHORT_OK;
    TRY(save_model(t, "final-ema", true, err));
    observer_message(t->observer, "%s/final-ema is the mean of the weights (ema_decay %g), %s/final the weights",
                     t->run.path, t->session.optimizer.ema_decay, t->run.path);
    return COHORT_OK;
}

static cohort_status save_last(struct training *t, cohort_error *err)
{
    TRY(training_settle(t, err));
    TRY(save_model(t, "final", false, err));
    return save_mean(t, err);
}

cohort_status training_save_final(struct training *t, cohort_error *err)
{
    return end_writing(t, training_writes(t) ? save_last(t, err) : COHORT_OK, err);
}

/* Copies what a checkpoint has beside trainer/, which its manifest names. */
static cohort_status copy_model(const char *from, struct checkpoint_folder *folder, cohort_error *err)
{
    static const char trainer[] = "trainer/";
    struct manifest manifest = {0};
    char *source = NULL, *target = NULL;
    bool found = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(manifest_read(&manifest, from, &found, err));
    for (size_t i = 0; i < manifest.n; i++) {
        const struct manifest_entry *entry = &manifest.entries[i];
        if (strncmp(entry->name, trainer, strlen(trainer)) == 0)
            continue;
        mem_free(source);
        mem_free(target);
        source = target = NULL;
        TRY_GOTO(file_join(&source, from, entry->name, err));
        TRY_GOTO(file_join(&target, folder->temporary, entry->name, err));
        TRY_GOTO(file_copy(source, target, err));
        TRY_GOTO(manifest_add(&folder->manifest, entry->name, entry->hex, err));
    }
cleanup:
    manifest_free(&manifest);
    mem_free(source);
    mem_free(target);
    return status;
}

static cohort_status save_final_of(struct training *t, int64_t step, cohort_error *err)
{
    struct checkpoint_folder folder = {0};
    struct manifest_report report = {0};
    char *from = NULL, *path = NULL;
    const char *const *needed = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_folder_checkpoint_path(t->run.path, step, &from, err));
    TRY_GOTO(needed_in(from, &needed, err));
    TRY_GOTO(manifest_verify(from, needed, &report, options_stop(t->options), err));
    if (!report.found || report.n_bad > 0) {
        status = error_set(err, COHORT_ERR_STATE,
                           "%s: the checkpoint with the best evaluation is %s, so that final/ cannot be made of it; "
                           "without load_best_model_at_end it is the last model",
                           from, report.found ? "damaged" : "not there");
        goto cleanup;
    }
    TRY_GOTO(run_folder_check(&t->run, err));
    TRY_GOTO(run_folder_path(&t->run, "final", &path, err));
    TRY_GOTO(checkpoint_folder_begin(&folder, path, err));
    TRY_GOTO(copy_model(from, &folder, err));
    TRY_GOTO(checkpoint_folder_commit(&folder, err));
    tell_kept(t, &folder, "final");
    TRY_GOTO(save_mean(t, err));
cleanup:
    checkpoint_folder_abandon(&folder);
    text_free(&report.bad);
    mem_free(from);
    mem_free(path);
    return status;
}

cohort_status training_save_final_of(struct training *t, int64_t step, cohort_error *err)
{
    return end_writing(t, training_writes(t) ? save_final_of(t, step, err) : COHORT_OK, err);
}

static void rescue(struct training *t, const struct optimizer *optimizer)
{
    cohort_error save = {0};
    bool boundary = optimizer->step + t->state.skipped == t->state.step && (ranks_count(t->ranks) == 1 || t->together);
    if (!t->run.open)
        return;
    t->session.backend->stop = NULL; /* a save is complete or has not begun */
    if (training_settle(t, &save) != COHORT_OK)
        observer_message(t->observer, "and a checkpoint could not be saved: %s", save.message);
    /* A step whose metrics could not be kept must be repeated. */
    if (boundary && !t->lines_lost && t->state.step > t->saved_step && t->state.step > 0 &&
        save_checkpoint(t, optimizer, false, false, &save) != COHORT_OK)
        observer_message(t->observer, "and the checkpoint could not be saved: %s", save.message);
    if (t->saved_step >= 0)
        observer_message(t->observer,
                         "checkpoint of step %lld is in %s/checkpoints; continue with the same "
                         "command and --resume",
                         (long long)t->saved_step, t->run.path);
    else
        observer_message(t->observer,
                         "there is no checkpoint yet: the same command with --resume starts the "
                         "run in %s again",
                         t->run.path);
    training_draw(t, DRAW_END);
}

void training_rescue(struct training *t, const struct optimizer *optimizer)
{
    if (training_writes(t))
        rescue(t, optimizer);
    if (t->together)
        (void)end_writing(t, COHORT_OK, NULL);
}
