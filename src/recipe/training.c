#include "recipe/training.h"

#include "base/clock.h"
#include "recipe/end_of_text.h"
#include "recipe/record.h"
#include "recipe/run_identity.h"
#include "recipe/run_start.h"
#include "report/run_plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Handles --resume latest without a checkpoint, so that one job script serves the first start and all later ones. */
static cohort_status start_instead(struct training *t, const char *out, cohort_error *err)
{
    enum run_start start;
    char *foreign = NULL;
    TRY(run_start_look(out, &start, &foreign, err));
    if (start == RUN_START_OTHER)
        error_set(err, COHORT_ERR_STATE,
                  "%s/checkpoints: no checkpoint to resume from, and %s in %s is nothing that a "
                  "run which has just begun would have written; remove it and start without "
                  "--resume, name a checkpoint folder, or choose another --out",
                  out, foreign, out);
    else
        observer_message(t->observer, "no checkpoint in %s yet: the run starts from its beginning%s", out,
                         start != RUN_START_NEW ? ", over what an earlier start left there" : "");
    mem_free(foreign);
    t->again = start == RUN_START_AGAIN || start == RUN_START_UNSTEPPED;
    return start == RUN_START_OTHER ? COHORT_ERR_STATE : COHORT_OK;
}

/* A run that ended before its first step is not in the way of the same command. */
static cohort_status start_over(struct training *t, const char *out, cohort_error *err)
{
    enum run_start start;
    char *foreign = NULL;
    struct run_steps steps = {0};
    TRY(run_folder_checkpoints(out, &steps, NULL, err));
    const bool saved = steps.n > 0;
    run_steps_free(&steps);
    if (saved)
        return COHORT_OK; /* whoever creates the run refuses it */
    TRY(run_start_look(out, &start, &foreign, err));
    mem_free(foreign);
    if (start != RUN_START_UNSTEPPED)
        return COHORT_OK;
    TRY(training_lock(t, out, err));
    observer_message(t->observer, "note: a run began in %s and ended before its first step: it starts again", out);
    return COHORT_OK;
}

static cohort_status find_resume(struct training *t, const char *out, cohort_error *err)
{
    const char *resume = options_string(t->options, OPTION_RESUME);
    if (resume == NULL || strcmp(resume, "false") == 0)
        return start_over(t, out, err);
    TRY(training_lock(t, out, err));
    if (strcmp(resume, "latest") == 0 || strcmp(resume, "true") == 0) {
        TRY(training_find_latest(t, out, err));
        return t->resume_dir == NULL ? start_instead(t, out, err) : COHORT_OK;
    }
    enum file_kind kind = FILE_ABSENT;
    TRY(file_look(resume, &kind, err));
    if (kind != FILE_FOLDER)
        return error_set(err, COHORT_ERR_IO,
                         "--resume %s: not a folder; give a checkpoint folder of this run, or 'latest'", resume);
    return mem_strdup(&t->resume_dir, resume, strlen(resume), err);
}

cohort_status training_open(struct training *t, struct options *options, const char *command,
                            const cohort_observer *observer, cohort_error *err)
{
    const char *out = options_string(options, OPTION_OUT);
    memset(t, 0, sizeof *t);
    t->options = options;
    t->observer = observer;
    t->command = command;
    t->saved_step = -1;
    t->evaluated = -1.0;
    t->plan = (struct step_plan){.slices = 1, .accumulated = 1, .iterations = 1};
    t->ranks = options_ranks(options);
    ranks_set_timeout(t->ranks, options_float(options, OPTION_RANK_TIMEOUT));
    if (ranks_count(t->ranks) > 1) { /* a step that was cut would leave the others waiting */
        t->stop = options_stop(options);
        options_set_stop(options, NULL);
    }
    if (out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no run folder given: pass --out DIR, for example --out runs/first");
    TRY(report_to_check(options, err));
    TRY(training_agree(t, training_writes(t) ? find_resume(t, out, err) : COHORT_OK, err));
    TRY(training_share_text(t, &t->resume_dir, err));
    TRY(training_share_flag(t, &t->again, err));
    TRY(training_agree(t, training_writes(t) ? training_verify(t, out, err) : COHORT_OK, err));
    if ((t->resume_dir != NULL || t->again) && !options_given(options, OPTION_CONFIG)) {
        char *config = NULL;
        TRY(file_join(&config, out, "config.yaml", err));
        bool there = false;
        cohort_status status = file_exists(config, &there, err);
        if (status == COHORT_OK && there)
            status = options_read_yaml(options, config, err);
        mem_free(config);
        TRY(status);
    }
    const unsigned own = strcmp(command, "sft") == 0      ? SESSION_DROPOUT
                         : strcmp(command, "reward") == 0 ? SESSION_REWARD
                                                          : 0;
    TRY(session_open(&t->session, options, t->resume_dir, SESSION_TOKENIZER | SESSION_TRAINING | own, observer, err));
    TRY(training_join(t, err));
    TRY(session_check_room(&t->session, options, true, err));
    end_of_text_note(&t->session, observer);
    TRY(checkpoint_read_tokenizer(&t->tokenizer, t->session.adapter.tokenizer, err));
    TRY(checkpoint_read_documents(&t->tokenizer, t->session.dir, err));
    size_t length = 0; /* a file of the caller's: what is trained with it has it */
    const char *text =
        options_is_set(options, OPTION_CHAT_TEMPLATE) ? chat_template_text(t->session.chat, false, &length) : NULL;
    return text == NULL ? COHORT_OK : checkpoint_set_template(&t->tokenizer, text, length, err);
}

void training_end(struct training *t, cohort_status status, const cohort_error *err)
{
    t->outcome = status == COHORT_OK ? "finished" : status == COHORT_ERR_CANCELLED ? "stopped" : "failed";
    mem_free(t->why);
    t->why = NULL;
    if (status != COHORT_OK && status != COHORT_ERR_CANCELLED && err != NULL)
        (void)mem_strdup(&t->why, err->message, strlen(err->message), NULL);
}

void training_leave(struct training *t)
{
    run_folder_leave(&t->run);
    steering_leave(t->steering);
    store_leave(t->store);
    report_to_leave(t->report);
    t->steering = NULL;
    t->store = NULL;
    t->report = NULL;
    t->beside = NULL; /* its thread is the parent's */
}

void training_close(struct training *t)
{
    (void)training_settle(t, NULL);
    steering_close(t->steering); /* before the folder's lock goes: its next trainer finds no socket of this one */
    t->steering = NULL;
    report_to_close(t->report, t->outcome == NULL ? "failed" : t->outcome);
    t->report = NULL;
    record_close(t);
    run_folder_close(&t->run);
    tokenizer_files_free(&t->tokenizer);
    session_close(&t->session);
    if (ranks_count(t->ranks) > 1)
        options_set_stop(t->options, t->stop);
    run_inputs_free(&t->inputs);
    diagnosis_destroy(t->diagnosis);
    t->diagnosis = NULL;
    step_line_free(&t->lines);
    mem_free(t->resume_dir);
    t->resume_dir = NULL;
    mem_free(t->why);
    t->why = NULL;
}

/* The options are those of the checkpoint at this point: a state that does not fit them is damaged. */
static cohort_status check_state(const struct training *t, cohort_error *err)
{
    const bool grpo = (options_command(t->command) & FOR_GROUPS) != 0;
    const int64_t seed = options_int(t->options, OPTION_SEED), batches = step_plan_batches(&t->plan, t->state.step);
    if (t->state.adapts_entropy != (grpo && options_bool(t->options, OPTION_USE_ADAPTIVE_ENTROPY)))
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s/trainer/state.json: %s \"entropy_control\", which only a run with use_adaptive_entropy has; "
            "the file is damaged: resume from another checkpoint",
            t->resume_dir, t->state.adapts_entropy ? "unexpected" : "there is no");
    if (t->forked && t->state.batches != batches)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "a fork goes on in the data where its parent was, and with other batches than its parent's that "
            "place is unknown: leave num_iterations, steps_per_generation and gradient_accumulation_steps "
            "as they were, or begin a new run with --model %s",
            t->resume_dir);
    if (t->forked || (t->state.seed == (uint64_t)seed && t->state.batches == batches))
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s/trainer/state.json: step %lld, %lld batches and seed %llu do not fit a run "
                     "that has begun %lld batches by then and has seed %lld; the file is damaged: resume from "
                     "another checkpoint",
                     t->resume_dir, (long long)t->state.step, (long long)t->state.batches,
                     (unsigned long long)t->state.seed, (long long)batches, (long long)seed);
}

/* The run folder is created, or continued where the run's checkpoint is. */
static cohort_status take_folder(struct training *t, const char *out, cohort_error *err)
{
    const bool resumes = t->resume_dir != NULL;
    struct text yaml = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(options_write_yaml(t->options, &yaml, err));
    if (resumes)
        TRY_GOTO(training_continue(t, out, &yaml, err));
    else /* With --resume an existing folder is locked already and has been checked. */
        TRY_GOTO(t->run.path != NULL ? run_folder_open(&t->run, out, -1, NULL, &yaml, err)
                                     : run_folder_create(&t->run, out, &yaml, err));
    TRY_GOTO(record_open(t, resumes ? t->state.step : -1, err));
    TRY_GOTO(report_to_open(&t->report, t->options, t->command, t->run.path, resumes ? t->state.step : -1, t->observer,
                            err));
    if (t->run.lock_unsupported)
        observer_message(t->observer,
                         "note: the file system of %s knows no locks: nothing keeps a second "
                         "trainer out of this folder",
                         out);
cleanup:
    text_free(&yaml);
    return status;
}

cohort_status training_begin(struct training *t, cohort_error *err)
{
    const char *out = options_string(t->options, OPTION_OUT);
    TRY(run_identity_add_tokenizer(&t->inputs, &t->session, err));
    run_identity_set_schedule(&t->inputs, t->options, &t->schedule);
    TRY(training_compare(t, err));
    TRY(param_set_train_begin(t->session.model->trained, session_moments(t->options), err));
    if (t->resume_dir != NULL) {
        TRY(train_state_read(t->resume_dir, t->session.model->trained, &t->state, err));
        if (strcmp(t->state.command, t->command) != 0)
            return error_set(err, COHORT_ERR_STATE,
                             "%s is a checkpoint of cohort %s, this is cohort %s: to go on from "
                             "its weights, pass it as --model",
                             t->resume_dir, t->state.command, t->command);
        TRY(run_identity_is_fork(t->resume_dir, &t->forked, err));
        TRY(run_identity_check(t, err));
        TRY(check_state(t, err));
    } else {
        optimizer_start_mean(t->session.model->trained);
        snprintf(t->state.command, sizeof t->state.command, "%s", t->command);
    }
    TRY(training_agree(t, training_writes(t) ? take_folder(t, out, err) : COHORT_OK, err));
    t->state.seed = (uint64_t)options_int(t->options, OPTION_SEED);
    if (t->resume_dir != NULL) {
        t->saved_step = t->state.step;
        observer_message(t->observer, "resuming from %s: step %lld", t->resume_dir, (long long)t->state.step);
    }
    TRY(training_diagnosis_begin(t, err));
    t->started = t->saved_at = clock_seconds();
    t->started_step = t->state.step;
    return COHORT_OK;
}

/* The weights that a run begins with are hashed as they are read; those of a checkpoint are not what --model names, but
 * a checkpoint that holds an adapter belongs to a base that is read again. */
static cohort_status read_weights(struct training *t, cohort_error *err)
{
    const struct session_adapter *adapter = &t->session.adapter;
    struct weight_files files = {0};
    cohort_status status = COHORT_OK;
    if (t->resume_dir != NULL && !adapter->there)
        return session_read(&t->session, NULL, NULL, err);
    TRY_GOTO(session_read(&t->session, &files, NULL, err));
    TRY_GOTO(run_identity_add_model(&t->inputs, INPUT_MODEL, t->session.dir, &files, err));
    if (adapter->start != NULL)
        TRY_GOTO(run_identity_add_adapter(&t->inputs, INPUT_ADAPTER, adapter->start, err));
cleanup:
    weight_files_free(&files);
    return status;
}

cohort_status training_allocate(struct training *t, struct memory_plan *plan, cohort_error *err)
{
    struct text line = {0};
    cohort_status status = COHORT_OK;
    TRY(memory_plan_check_host(plan, err));
    TRY(memory_plan_choose(plan, t->options, err));
    TRY_GOTO(memory_plan_describe(plan, &line, err));
    observer_message(t->observer, "%s", line.data);
    TRY_GOTO(read_weights(t, err));
    TRY_GOTO(memory_plan_allocate(plan, &t->session.arena, err));
cleanup:
    text_free(&line);
    return status;
}

struct optimizer training_optimizer(const struct training *t)
{
    struct optimizer optimizer = t->session.optimizer;
    optimizer.step = t->state.updates;
    return optimizer;
}

cohort_status training_plan_schedule(struct training *t, cohort_error *err)
{
    const struct options *o = t->options;
    schedule_init(&t->schedule, (enum schedule_type)options_choice(o, OPTION_LR_SCHEDULER_TYPE),
                  options_float(o, OPTION_LEARNING_RATE));
    for (size_t i = 0; i < options_list_count(o, OPTION_LR_SCHEDULER_KWARGS); i++)
        TRY(schedule_set(&t->schedule, options_list_item(o, OPTION_LR_SCHEDULER_KWARGS, i), err));
    return schedule_plan(&t->schedule, options_float(o, OPTION_WARMUP_STEPS), t->steps, err);
}

cohort_status training_write_trainer(struct training *t, const struct optimizer *optimizer, const char *dir,
                                     struct manifest *manifest, cohort_error *err)
{
    t->state.updates = optimizer->step;
    TRY(train_state_write(dir, t->session.model->trained, &t->state, err));
    if (t->write_more != NULL)
        TRY(t->write_more(t->more_context, dir, manifest, err));
    TRY(diagnosis_write(t->diagnosis, dir, err));
    return run_identity_write(t, dir, err);
}

void training_curve(struct training *t, const char *metric, const char *eval_metric, const char *title,
                    const char *file)
{
    t->curve = (struct drawn_curve){.metric = metric, .eval_metric = eval_metric, .title = title, .file = file};
}

void training_draw(struct training *t, enum draw_when when)
{
    const double SHARE = 0.01;      /* of the time */
    const double LEAST_PAUSE = 5.0; /* seconds: more often is of no use */
    struct drawn_curve *c = &t->curve;
    cohort_error problem = {0};
    const double begin = clock_seconds(),
                 pause = when == DRAW_STEP ? fmax(LEAST_PAUSE, c->cost / SHARE) : c->cost / SHARE;
    if (c->metric == NULL || !training_writes(t) || (when != DRAW_END && c->drawn > 0.0 && begin - c->drawn < pause))
        return;
    if (run_plot(&t->run, c->metric, c->eval_metric, c->title, c->file, &problem) != COHORT_OK && !c->failed) {
        c->failed = true;
        observer_message(t->observer, "warning: the curve could not be drawn: %s", problem.message);
    }
    c->drawn = clock_seconds();
    c->cost = c->drawn - begin;
}
