/* cohort grpo: the main job; and cohort rloo, which is the same with other defaults. */
#include "command/command_grpo.h"

#include "base/rng.h"
#include "recipe/data_open.h"
#include "recipe/grpo_run.h"

/* A run over a data set, in the order that its seed says. */
struct grpo_job {
    struct grpo_run run;
    struct prompt_set train;
    struct dataset_order order;
};

static cohort_status load_data(struct grpo_job *job, cohort_error *err)
{
    struct training *t = &job->run.t;
    const struct options *o = t->options;
    const char *data = options_string(o, OPTION_DATA);
    int32_t room = 0;
    if (data == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no training prompts given: pass --data FILE");
    TRY(grpo_run_room(&job->run, &room, err));
    TRY(prompt_set_load(&job->train, &t->session, &job->run.scoring, OPTION_DATA, 0, room, o, t->observer, err));
    TRY(run_inputs_add(&t->inputs, INPUT_DATA, data, job->train.data.sha256, err));
    TRY(row_tell_template(&t->session, false, t->observer, err));
    return data_order(&job->order, job->train.data.parts, job->train.data.n_parts, o, err);
}

static int64_t planned_steps(const struct grpo_job *job)
{
    const struct grpo_run *run = &job->run;
    const struct options *o = run->t.options;
    const struct step_plan *plan = &run->grpo.config.plan;
    const int64_t per_epoch = ((int64_t)job->train.data.n_rows + run->prompts_per_step - 1) / run->prompts_per_step,
                  slices = per_epoch * options_int(o, OPTION_EPOCHS) * plan->slices * plan->iterations,
                  steps = slices / plan->accumulated;
    return options_int_or(o, OPTION_STEPS, steps > 0 ? steps : 1);
}

/* A row comes once an epoch: with the epoch, two draws are never alike. */
static cohort_status prompt_of(void *context, uint64_t i, size_t *row, uint64_t *id, cohort_error *err)
{
    struct grpo_job *job = context;
    uint64_t epoch = 0;
    TRY(dataset_order_at(&job->order, i, row, &epoch, err));
    *id = rng_stream((uint64_t)*row, epoch);
    return COHORT_OK;
}

static cohort_status train(struct grpo_job *job, cohort_error *err)
{
    const struct grpo_source source = {.set = &job->train, .prompt = prompt_of, .context = job};
    TRY(grpo_run_start(&job->run, err));
    while (!grpo_run_ends(&job->run)) {
        TRY(training_steer(&job->run.t, &job->run.grpo.optimizer, err));
        while (grpo_run_wants(&job->run))
            TRY(grpo_run_draw(&job->run, &source, err));
        TRY(grpo_run_update(&job->run, err));
    }
    return COHORT_OK;
}

cohort_status command_groups(struct options *options, const char *command, const struct reward_list *extra,
                             const cohort_observer *observer, cohort_error *err)
{
    struct grpo_job *job = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&job, 1, sizeof *job, "run", err));
    TRY_GOTO(grpo_run_open(&job->run, options, command, extra, observer, err));
    TRY_GOTO(load_data(job, err));
    TRY_GOTO(grpo_run_begin(&job->run,
                            &(struct grpo_extent){.max_prompt = job->train.longest,
                                                  .rows = (int64_t)job->train.data.n_rows,
                                                  .steps = planned_steps(job)},
                            err));
    training_listen(&job->run.t);
    status = train(job, err);
    if (status != COHORT_OK)
        grpo_run_rescue(&job->run);
    else
        status = grpo_run_finish(&job->run, err);
cleanup:
    training_end(&job->run.t, status, err);
    grpo_run_close(&job->run);
    prompt_set_free(&job->train);
    dataset_order_free(&job->order);
    mem_free(job);
    return status;
}

cohort_status command_grpo(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    return command_groups(options, "grpo", extra, observer, err);
}
