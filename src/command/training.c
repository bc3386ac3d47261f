#include "command/training.h"

#include "base/clock.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Options that a resumed run may change: they do not enter the numbers of a step. */
static const char *const free_options[] = {"out",
                                           "resume",
                                           "steps",
                                           "epochs",
                                           "save_steps",
                                           "save_total_limit",
                                           "eval_data",
                                           "eval_steps",
                                           "eval_limit",
                                           "eval_temperature",
                                           "logging_steps",
                                           "threads",
                                           "memory_limit",
                                           "decode_concurrency",
                                           "log_completions",
                                           "config",
                                           "device",
                                           "reward_timeout",
                                           "recompute"};

static bool is_free(const char *line, size_t length)
{
    for (size_t i = 0; i < sizeof free_options / sizeof free_options[0]; i++) {
        size_t n = strlen(free_options[i]);
        if (length > n && strncmp(line, free_options[i], n) == 0 && line[n] == ':')
            return true;
    }
    return false;
}

/* The lines of a resolved configuration that a resumed run must share. */
static cohort_status binding_options(const char *yaml, struct text *out, cohort_error *err)
{
    TRY(text_append(out, "", 0, err));
    bool keep = true;
    for (const char *line = yaml; *line != '\0';) {
        size_t length = strcspn(line, "\n") + 1;
        if (line[0] != ' ' && line[0] != '-') /* a list's items go with their key */
            keep = line[0] != '#' && !is_free(line, length);
        if (keep)
            TRY(text_append(out, line, length, err));
        line += length;
    }
    return COHORT_OK;
}

/* A crash may have left half-written folders, of checkpoints and of final. */
static cohort_status recover(const char *out, cohort_error *err)
{
    char *checkpoints = NULL;
    TRY(file_join(&checkpoints, out, "checkpoints", err));
    cohort_status status = checkpoint_folders_recover(checkpoints, err);
    mem_free(checkpoints);
    return status == COHORT_OK ? checkpoint_folders_recover(out, err) : status;
}

static cohort_status find_resume(struct training *t, const char *out, cohort_error *err)
{
    const char *resume = options_string(t->options, "resume");
    if (resume == NULL || strcmp(resume, "false") == 0)
        return COHORT_OK;
    TRY(recover(out, err));
    if (strcmp(resume, "latest") == 0 || strcmp(resume, "true") == 0) {
        TRY(run_folder_latest(out, &t->resume_dir, err));
        if (t->resume_dir == NULL)
            return error_set(err, COHORT_ERR_STATE,
                             "%s/checkpoints: no checkpoint to resume from; remove %s and start "
                             "without --resume, or name a checkpoint folder",
                             out, out);
        return COHORT_OK;
    }
    if (!file_is_dir(resume))
        return error_set(
            err, COHORT_ERR_IO,
            "--resume %s: not a folder; give a checkpoint folder of this run, or 'latest'", resume);
    return mem_strdup(&t->resume_dir, resume, strlen(resume), err);
}

cohort_status training_open(struct training *t, struct options *options, const char *command,
                            const cohort_observer *observer, cohort_error *err)
{
    const char *out = options_string(options, "out");
    memset(t, 0, sizeof *t);
    t->run.metrics = -1;
    t->options = options;
    t->observer = observer;
    t->command = command;
    t->saved_step = -1;
    if (out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no run folder given: pass --out DIR, for example --out runs/first");
    TRY(find_resume(t, out, err));
    if (t->resume_dir != NULL && !options_given(options, "config")) {
        char *config = NULL;
        TRY(file_join(&config, out, "config.yaml", err));
        cohort_status status =
            file_exists(config) ? options_read_yaml(options, config, err) : COHORT_OK;
        mem_free(config);
        TRY(status);
    }
    return session_open(&t->session, options, t->resume_dir, SESSION_TOKENIZER | SESSION_TRAINING,
                        err);
}

void training_close(struct training *t)
{
    run_folder_close(&t->run);
    session_close(&t->session);
    mem_free(t->resume_dir);
    t->resume_dir = NULL;
}

/* Compares the options a checkpoint was made with to ours, and names the first that differs. */
static cohort_status check_options(const struct training *t, const char *ours, cohort_error *err)
{
    char *path = NULL;
    struct text theirs = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, t->resume_dir, "trainer/options.yaml", err));
    TRY_GOTO(file_read(path, 1 << 20, &theirs, err));
    const char *a = theirs.data, *b = ours;
    while (*a != '\0' && *b != '\0' && strcspn(a, "\n") == strcspn(b, "\n") &&
           strncmp(a, b, strcspn(a, "\n")) == 0) {
        a += strcspn(a, "\n");
        b += strcspn(b, "\n");
        a += *a == '\n'; /* a file of others may end without one */
        b += *b == '\n';
    }
    if (*a != '\0' || *b != '\0')
        status = error_set(err, COHORT_ERR_STATE,
                           "%s was made with '%.*s', this run says '%.*s': a resumed run must keep "
                           "its options (only length, saving, evaluation and "
                           "machine may change)",
                           t->resume_dir, (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
cleanup:
    mem_free(path);
    text_free(&theirs);
    return status;
}

cohort_status training_begin(struct training *t, cohort_error *err)
{
    const char *out = options_string(t->options, "out");
    struct text yaml = {0}, binding = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(options_write_yaml(t->options, &yaml, err));
    TRY_GOTO(binding_options(yaml.data, &binding, err));
    TRY_GOTO(model_train_begin(t->session.model, session_moments(t->options), err));
    if (t->resume_dir != NULL) {
        TRY_GOTO(train_state_read(t->resume_dir, t->session.model, &t->state, err));
        if (strcmp(t->state.command, t->command) != 0) {
            status = error_set(err, COHORT_ERR_STATE,
                               "%s is a checkpoint of cohort %s, this is cohort %s: to go on from "
                               "its weights, pass it as --model",
                               t->resume_dir, t->state.command, t->command);
            goto cleanup;
        }
        TRY_GOTO(check_options(t, binding.data, err));
        TRY_GOTO(run_folder_open(&t->run, out, t->state.step, err));
        t->saved_step = t->state.step;
        observer_message(t->observer, "resuming from %s: step %lld", t->resume_dir,
                         (long long)t->state.step);
    } else {
        TRY_GOTO(run_folder_create(&t->run, out, err));
        t->state.seed = (uint64_t)options_int(t->options, "seed");
        snprintf(t->state.command, sizeof t->state.command, "%s", t->command);
    }
    TRY_GOTO(run_folder_path(&t->run, "config.yaml", &path, err));
    TRY_GOTO(file_write_atomic(path, yaml.data, yaml.length, err));
    t->started = clock_seconds();
    t->started_step = t->state.step;
cleanup:
    text_free(&yaml);
    text_free(&binding);
    mem_free(path);
    return status;
}

cohort_status training_allocate(struct training *t, struct memory_plan *plan, cohort_error *err)
{
    struct text line = {0};
    cohort_status status = COHORT_OK;
    TRY(memory_plan_choose(plan, t->options, err));
    TRY_GOTO(memory_plan_describe(plan, &line, err));
    observer_message(t->observer, "%s", line.data);
    TRY_GOTO(session_read(&t->session, err));
    TRY_GOTO(memory_plan_allocate(plan, &t->session.arena, err));
cleanup:
    text_free(&line);
    return status;
}

struct optimizer training_optimizer(const struct training *t)
{
    const struct options *o = t->options;
    return (struct optimizer){.beta1 = (float)options_float(o, "adam_beta1"),
                              .beta2 = (float)options_float(o, "adam_beta2"),
                              .eps = (float)options_float(o, "adam_epsilon"),
                              .weight_decay = (float)options_float(o, "weight_decay"),
                              .max_grad_norm = options_float(o, "max_grad_norm"),
                              .step = t->state.updates};
}

enum schedule_type training_schedule(const struct options *options)
{
    const char *name = options_string(options, "lr_scheduler_type");
    return strcmp(name, "linear") == 0   ? SCHEDULE_LINEAR
           : strcmp(name, "cosine") == 0 ? SCHEDULE_COSINE
                                         : SCHEDULE_CONSTANT;
}

cohort_status training_log(struct training *t, int64_t step, double epoch,
                           const struct metrics *metrics, cohort_error *err)
{
    struct metrics line = {0};
    struct text text = {0};
    metrics_set(&line, "step", (double)step);
    metrics_set(&line, "epoch", epoch);
    for (size_t i = 0; i < metrics->count; i++)
        metrics_set(&line, metrics->items[i].name, metrics->items[i].value);
    cohort_status status = metrics_write(&line, &text, err);
    if (status == COHORT_OK)
        status = run_folder_log(&t->run, &text, err);
    text_free(&text);
    return status;
}

/* Everything a folder that other tools read holds. */
static cohort_status write_model(const struct training *t, const char *dir, cohort_error *err)
{
    struct model *model = t->session.model;
    const char *source =
        t->resume_dir != NULL ? t->resume_dir : options_string(t->options, "model");
    TRY(model_config_save(&model->config, model->type, dir, err));
    TRY(checkpoint_write_weights(dir, &model->params, model->type, 0, model_fetch, model, err));
    return checkpoint_copy_tokenizer(source, dir, err);
}

static cohort_status write_trainer(struct training *t, const struct optimizer *optimizer,
                                   const char *dir, cohort_error *err)
{
    struct text yaml = {0}, binding = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    t->state.updates = optimizer->step;
    TRY_GOTO(train_state_write(dir, t->session.model, &t->state, err));
    TRY_GOTO(options_write_yaml(t->options, &yaml, err));
    TRY_GOTO(binding_options(yaml.data, &binding, err));
    TRY_GOTO(file_join(&path, dir, "trainer/options.yaml", err));
    TRY_GOTO(file_write_atomic(path, binding.data, binding.length, err));
cleanup:
    text_free(&yaml);
    text_free(&binding);
    mem_free(path);
    return status;
}

/* optimizer NULL: the model alone. */
static cohort_status save_folder(struct training *t, const char *name,
                                 const struct optimizer *optimizer, cohort_error *err)
{
    struct checkpoint_folder folder = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY(run_folder_path(&t->run, name, &path, err));
    TRY_GOTO(checkpoint_folder_begin(&folder, path, err));
    status = write_model(t, folder.temporary, err);
    if (status == COHORT_OK && optimizer != NULL)
        status = write_trainer(t, optimizer, folder.temporary, err);
    if (status == COHORT_OK)
        status = checkpoint_folder_commit(&folder, err);
    if (status != COHORT_OK) {
        checkpoint_folder_abandon(&folder);
        error_context(err, "saving %s", path);
    }
cleanup:
    mem_free(path);
    return status;
}

cohort_status training_save(struct training *t, const struct optimizer *optimizer,
                            cohort_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "checkpoints/step-%lld", (long long)t->state.step);
    TRY(save_folder(t, name, optimizer, err));
    t->saved_step = t->state.step;
    if (options_is_set(t->options, "save_total_limit"))
        return run_folder_prune(&t->run, options_int(t->options, "save_total_limit"), err);
    return COHORT_OK;
}

cohort_status training_save_final(struct training *t, cohort_error *err)
{
    return save_folder(t, "final", NULL, err);
}

void training_rescue(struct training *t, const struct optimizer *optimizer)
{
    cohort_error save = {0};
    bool boundary = optimizer->step + t->state.skipped == t->state.step;
    if (t->run.path == NULL)
        return;
    if (boundary && t->state.step > t->saved_step && t->state.step > 0 &&
        training_save(t, optimizer, &save) != COHORT_OK)
        observer_message(t->observer, "and the checkpoint could not be saved: %s", save.message);
    if (t->saved_step >= 0)
        observer_message(t->observer,
                         "checkpoint of step %lld is in %s/checkpoints; continue with the same "
                         "command and --resume",
                         (long long)t->saved_step, t->run.path);
    else
        observer_message(
            t->observer,
            "no step was finished, so there is no checkpoint; remove %s before you start again",
            t->run.path);
}

bool training_progress(struct training *t, const char *phase, int64_t done, int64_t total,
                       const char *unit, double per_second)
{
    cohort_progress progress = {.phase = phase,
                                .step = t->state.step,
                                .steps = t->steps,
                                .done = done,
                                .total = total,
                                .unit = unit,
                                .per_second = per_second};
    return observer_progress(t->observer, &progress);
}
