#include "recipe/run_fork.h"

#include "base/json_text.h"
#include "base/number.h"
#include "format/checkpoint.h"
#include "format/manifest.h"
#include "recipe/json_rows.h"
#include "recipe/run_identity.h"
#include "run/run_folder.h"
#include "run/store.h"

#include <string.h>

struct fork {
    char *run;        /* the parent's folder */
    char *checkpoint; /* in it */
    int64_t step;
    struct text config; /* the parent's config.yaml */
    char *model, *command;
};

/* The run's folder: a path that has checkpoints, else a name in runs. */
static cohort_status find_run(const char *name, size_t length, const char *runs, struct fork *fork, cohort_error *err)
{
    struct run_steps steps = {0};
    char *plain = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_strdup(&plain, name, length, err));
    TRY_GOTO(run_folder_checkpoints(plain, &steps, NULL, err));
    if (steps.n > 0) {
        fork->run = plain;
        plain = NULL;
        goto cleanup;
    }
    TRY_GOTO(file_join(&fork->run, runs, plain, err));
    TRY_GOTO(run_folder_checkpoints(fork->run, &steps, NULL, err));
    if (steps.n == 0)
        status = error_set(err, COHORT_ERR_IO,
                           "%s: there is no run of that name with a checkpoint: neither %s/checkpoints nor "
                           "%s/checkpoints has one",
                           plain, plain, fork->run);
cleanup:
    run_steps_free(&steps);
    mem_free(plain);
    return status;
}

/* fork->checkpoint: that of the step, or the newest where step is negative. */
static cohort_status find_checkpoint(struct fork *fork, int64_t step, cohort_error *err)
{
    struct run_steps steps = {0};
    struct text there = {0};
    bool found = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_folder_checkpoints(fork->run, &steps, NULL, err));
    fork->step = step < 0 ? steps.at[steps.n - 1] : step;
    for (size_t i = 0; i < steps.n; i++) {
        found = found || steps.at[i] == fork->step;
        TRY_GOTO(text_printf(&there, err, "%s%lld", i == 0 ? "" : ", ", (long long)steps.at[i]));
    }
    if (found)
        status = run_folder_checkpoint_path(fork->run, fork->step, &fork->checkpoint, err);
    else
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s has no checkpoint of step %lld; it has those of %.300s",
                           fork->run, (long long)step, there.data);
cleanup:
    run_steps_free(&steps);
    text_free(&there);
    return status;
}

static cohort_status find(const char *from, const char *runs, struct fork *fork, cohort_error *err)
{
    const char *at = strrchr(from, '@');
    int64_t step = -1;
    if (at != NULL && !(number_read_integer(at + 1, strlen(at + 1), &step) && step >= 0)) {
        if (strchr(at, '/') == NULL)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s: expected RUN@STEP, with a number behind the @", from);
        at = NULL; /* a part of a path */
        step = -1;
    }
    TRY(find_run(from, at == NULL ? strlen(from) : (size_t)(at - from), runs, fork, err));
    return find_checkpoint(fork, step, err);
}

/* What the parent says of itself: its options, model and command. */
static cohort_status read_parent(struct fork *fork, cohort_error *err)
{
    static const char key[] = "model: ";
    char *path = NULL;
    json_t *state = NULL, *model = NULL;
    const char *command = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, fork->run, "config.yaml", err));
    TRY_GOTO(file_read(path, 1 << 20, &fork->config, err));
    for (const char *line = fork->config.data; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, sizeof key - 1) == 0 &&
            json_text_parse(&model, line + sizeof key - 1, strcspn(line + sizeof key - 1, "\n"), path, 1, JSON_TEXT_ANY,
                            NULL) == COHORT_OK)
            break;
    }
    if (json_is_string(model))
        TRY_GOTO(mem_strdup(&fork->model, json_string_value(model), json_string_length(model), err));
    mem_free(path);
    path = NULL;
    TRY_GOTO(file_join(&path, fork->checkpoint, "trainer/state.json", err));
    TRY_GOTO(json_text_read(&state, path, 1 << 20, 0, err));
    command = json_string_value(json_object_get(state, "command"));
    if (command == NULL)
        status = error_set(err, COHORT_ERR_FORMAT, "%s: there is no \"command\"; the checkpoint is damaged", path);
    else
        status = mem_strdup(&fork->command, command, strlen(command), err);
cleanup:
    json_decref(state);
    json_decref(model);
    mem_free(path);
    return status;
}

static cohort_status verify(const struct fork *fork, const struct stop *stop, cohort_error *err)
{
    struct manifest_report report = {0};
    cohort_status status = manifest_verify(fork->checkpoint, NULL, &report, stop, err);
    if (status == COHORT_OK && (!report.found || report.n_bad > 0))
        status = error_set(err, COHORT_ERR_FORMAT, "%s: the checkpoint is damaged: %.*s", fork->checkpoint,
                           report.found ? (int)strcspn(report.bad.data, "\n") : 40,
                           report.found ? report.bad.data : "it has no " MANIFEST_NAME);
    text_free(&report.bad);
    return status;
}

/* Copies the files that the manifest lists, with their hashes. */
static cohort_status copy_files(const struct fork *fork, struct checkpoint_folder *folder, cohort_error *err)
{
    struct manifest manifest = {0};
    char *source = NULL, *target = NULL;
    bool found = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(manifest_read(&manifest, fork->checkpoint, &found, err));
    for (size_t i = 0; i < manifest.n; i++) {
        const struct manifest_entry *entry = &manifest.entries[i];
        if (strcmp(entry->name, run_origin_name) == 0)
            continue; /* of a fork that is forked again */
        TRY_GOTO(file_join(&source, fork->checkpoint, entry->name, err));
        TRY_GOTO(file_join(&target, folder->temporary, entry->name, err));
        char *slash = strrchr(target, '/');
        *slash = '\0';
        TRY_GOTO(file_make_dirs(target, err));
        *slash = '/';
        TRY_GOTO(file_copy(source, target, err));
        TRY_GOTO(manifest_add(&folder->manifest, entry->name, entry->hex, err));
        mem_free(source);
        mem_free(target);
        source = target = NULL;
    }
cleanup:
    manifest_free(&manifest);
    mem_free(source);
    mem_free(target);
    return status;
}

static cohort_status write_origin(const struct fork *fork, const char *dir, cohort_error *err)
{
    struct text text = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_printf(&text, err, "{\"format\": 1, \"step\": %lld, \"run\": ", (long long)fork->step));
    TRY_GOTO(json_string_write(fork->run, strlen(fork->run), &text, err));
    TRY_GOTO(text_append(&text, "}\n", 2, err));
    TRY_GOTO(file_join(&path, dir, run_origin_name, err));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    text_free(&text);
    mem_free(path);
    return status;
}

static cohort_status copy_checkpoint(const struct fork *fork, const char *out, cohort_error *err)
{
    struct checkpoint_folder folder = {0};
    char *checkpoints = NULL, *target = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&checkpoints, out, "checkpoints", err));
    TRY_GOTO(file_make_dirs(checkpoints, err));
    TRY_GOTO(run_folder_checkpoint_path(out, fork->step, &target, err));
    TRY_GOTO(checkpoint_folder_begin(&folder, target, err));
    TRY_GOTO(copy_files(fork, &folder, err));
    TRY_GOTO(write_origin(fork, folder.temporary, err));
    TRY_GOTO(checkpoint_folder_commit(&folder, err));
cleanup:
    checkpoint_folder_abandon(&folder);
    mem_free(checkpoints);
    mem_free(target);
    return status;
}

static cohort_status write_run(const struct fork *fork, const char *out, cohort_error *err)
{
    const struct store_start start = {.run = out,
                                      .command = fork->command,
                                      .model = fork->model,
                                      .config = fork->config.data,
                                      .step = fork->step,
                                      .keep = -1,
                                      .parent = fork->run,
                                      .parent_step = fork->step};
    struct store *store = NULL;
    struct text notes = {0}, said = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK, closed = COHORT_OK;
    TRY_GOTO(copy_checkpoint(fork, out, err));
    TRY_GOTO(store_open(&store, &start, &notes, err));
    TRY_GOTO(text_printf(&said, err, "forked from %s at step %lld", fork->run, (long long)fork->step));
    TRY_GOTO(store_event(store, &(struct store_event){.step = fork->step, .kind = "fork", .text = said.data}, err));
    /* The last file: it says that there is a run. */
    TRY_GOTO(file_join(&path, out, "config.yaml", err));
    TRY_GOTO(file_write_atomic(path, fork->config.data, fork->config.length, err));
cleanup:
    closed = store_close(store, "stopped", NULL, status == COHORT_OK ? err : NULL);
    text_free(&notes);
    text_free(&said);
    mem_free(path);
    return status == COHORT_OK ? closed : status;
}

cohort_status run_fork(const char *from, const char *runs, const char *out, const struct stop *stop,
                       const cohort_observer *observer, cohort_error *err)
{
    struct fork fork = {0};
    bool there = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_exists(out, &there, err));
    if (there) {
        status = error_set(err, COHORT_ERR_STATE, "%s: already exists; remove it or choose another --out", out);
        goto cleanup;
    }
    TRY_GOTO(find(from, runs, &fork, err));
    TRY_GOTO(verify(&fork, stop, err));
    TRY_GOTO(read_parent(&fork, err));
    status = write_run(&fork, out, err);
    if (status != COHORT_OK)
        (void)file_remove_all(out, NULL); /* it was not there before */
    else
        observer_message(
            observer,
            "%s begins with the checkpoint of step %lld of %s; go on with: cohort %s --out %s --resume, and "
            "the options that are to be others",
            out, (long long)fork.step, fork.run, fork.command, out);
cleanup:
    mem_free(fork.run);
    mem_free(fork.checkpoint);
    mem_free(fork.model);
    mem_free(fork.command);
    text_free(&fork.config);
    return status;
}
