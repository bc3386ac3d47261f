/* The public trainer over the recipe of cohort grpo. */
#include "api/handles.h"
#include "api/sized.h"
#include "base/rng.h"
#include "recipe/grpo_run.h"

#include <string.h>
#include <unistd.h>

struct cohort_trainer {
    struct grpo_run run;
    cohort_options *options;
    cohort_observer observer;
    struct cohort_model model; /* lent */
    struct reward *own_reward; /* "scores", where the options have none */
    /* Scores of the update that is running, of completions or of tokens; NULL: none. */
    const double *scores;
    const double *const *token_scores;
    int32_t room; /* tokens of a prompt */
    /* The current batch. */
    struct prompt_set set;
    int64_t *indices;        /* [prompts_per_step] */
    uint64_t *ids;           /* [prompts_per_step] */
    size_t *places;          /* [prompts_per_step] 0, 1, ... */
    struct public_rows rows; /* its completions, once they were asked for */
    atomic_bool running;     /* inside a call */
    bool closed;             /* cohort_trainer_close was called there */
};

static cohort_status give_scores(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                 double **lists, struct reward_log *log, cohort_error *err)
{
    const cohort_trainer *trainer = context;
    (void)log;
    for (size_t i = 0; trainer->token_scores != NULL && i < n_rows; i++) {
        const size_t n = (size_t)rows[i].n_tokens;
        if (trainer->token_scores[i] == NULL)
            continue;
        TRY(mem_alloc(&lists[i], n, sizeof *lists[i], "rewards of tokens", err));
        if (n > 0)
            memcpy(lists[i], trainer->token_scores[i], n * sizeof *lists[i]);
        rewards[i] = reward_list_sum(lists[i], rows[i].n_tokens);
    }
    if (trainer->token_scores != NULL)
        return COHORT_OK;
    if (trainer->scores == NULL) /* the evaluation of eval_data */
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the options name no reward, and completions of eval_data have no scores of the caller's");
    memcpy(rewards, trainer->scores, n_rows * sizeof *rewards);
    return COHORT_OK;
}

static cohort_status check_options(const cohort_trainer *trainer, cohort_error *err)
{
    const struct options *o = trainer->run.t.options;
    if (options_string(o, OPTION_DATA) != NULL)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "cohort_trainer_open: the rows of data '%s' would not be read: leave data out and give rows to "
            "cohort_trainer_step, or use cohort_run",
            options_string(o, OPTION_DATA));
    if (!options_is_set(o, OPTION_MAX_PROMPT_LENGTH))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "cohort_trainer_open: set max_prompt_length, the tokens of the longest prompt that will come: "
                         "memory is planned for it");
    if (trainer->run.dynamic.on)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "cohort_trainer_open: dynamic_sampling draws further rows of a data set, and here the caller gives "
            "them: leave it out, or use cohort_run");
    if (!step_plan_aligned(&trainer->run.grpo.config.plan))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "cohort_trainer_open: a step would take from more than one batch: gradient_accumulation_steps "
                         "must divide steps_per_generation times num_iterations; cohort_run has no such bound");
    if (trainer->own_reward != NULL && options_string(o, OPTION_EVAL_DATA) != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_trainer_open: eval_data needs a reward among the options");
    return COHORT_OK;
}

static cohort_status begin(cohort_trainer *trainer, cohort_error *err)
{
    const struct options *o = trainer->run.t.options;
    const size_t n = (size_t)trainer->run.prompts_per_step;
    TRY(check_options(trainer, err));
    TRY(grpo_run_room(&trainer->run, &trainer->room, err));
    TRY(mem_alloc(&trainer->indices, n, sizeof *trainer->indices, "batch", err));
    TRY(mem_alloc(&trainer->ids, n, sizeof *trainer->ids, "batch", err));
    TRY(mem_alloc(&trainer->places, n, sizeof *trainer->places, "batch", err));
    for (size_t i = 0; i < n; i++)
        trainer->places[i] = i;
    TRY(grpo_run_begin(
        &trainer->run,
        &(struct grpo_extent){.max_prompt = trainer->room,
                              .steps = options_is_set(o, OPTION_STEPS) ? options_int(o, OPTION_STEPS) : 0,
                              .lends = true},
        err));
    trainer->model.session = &trainer->run.t.session;
    trainer->model.engine = trainer->run.engine;
    trainer->model.trust_content = options_bool(o, OPTION_TRUST_CONTENT);
    return COHORT_OK;
}

cohort_status cohort_trainer_open(cohort_trainer **out, cohort_options *options, const cohort_observer *observer,
                                  cohort_error *err)
{
    static const char NAME[] = "cohort_trainer_open";
    cohort_trainer *trainer = NULL;
    struct reward_list rewards = {0};
    cohort_status status = COHORT_OK;
    if (out == NULL || options == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: out and options must not be NULL", NAME);
    *out = NULL;
    if (options->command != COHORT_GRPO)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: these are options of %s; create them with COHORT_GRPO", NAME,
                         cohort_command_name(options->command));
    TRY(options_check_free(options, NAME, err));
    TRY(mem_alloc(&trainer, 1, sizeof *trainer, "trainer", err));
    trainer->model.owner = getpid();
    trainer->model.lender = trainer;
    trainer->options = options;
    options_acquire(options, "a trainer; close it first");
    atomic_store(&trainer->running, true);
    if (observer != NULL)
        TRY_GOTO(sized_read(&sized_observer, NAME, observer, &trainer->observer, err));
    TRY_GOTO(options_tell(options, &trainer->observer, err));
    rewards = (struct reward_list){.rewards = options->rewards, .count = options->n_rewards};
    if (options->n_rewards == 0 && options_list_count(options->options, OPTION_REWARD) == 0) {
        TRY_GOTO(reward_create_callback(&trainer->own_reward, "scores", give_scores, trainer, err));
        rewards = (struct reward_list){.rewards = &trainer->own_reward, .count = 1};
    }
    TRY_GOTO(grpo_run_open(&trainer->run, options->options, "grpo", &rewards, &trainer->observer, err));
    TRY_GOTO(begin(trainer, err));
cleanup:
    atomic_store(&trainer->running, false);
    if (status == COHORT_OK)
        *out = trainer;
    else
        cohort_trainer_close(trainer);
    return status;
}

void cohort_trainer_close(cohort_trainer *trainer)
{
    if (trainer == NULL)
        return;
    if (atomic_load(&trainer->running) || atomic_load(&trainer->model.stepping)) { /* from a callback */
        trainer->closed = trainer->model.closed = true;
        return;
    }
    if (trainer->model.owner != getpid()) { /* a forked child: folder and reward programs are its parent's */
        training_leave(&trainer->run.t);
        trainer->run.scoring.n_owned = 0;
    }
    public_rows_free(&trainer->rows);
    grpo_run_close(&trainer->run);
    prompt_set_free(&trainer->set);
    reward_destroy(trainer->own_reward);
    mem_free(trainer->indices);
    mem_free(trainer->ids);
    mem_free(trainer->places);
    options_release(trainer->options);
    mem_free(trainer);
}

/* Begins a call; one that changes weights or draws needs exclusive use of the model. */
static cohort_status enter(cohort_trainer *trainer, const char *function, cohort_error *err)
{
    TRY(check_process(trainer->model.owner, function, "the trainer", err));
    if (atomic_exchange(&trainer->running, true))
        return error_set(err, COHORT_ERR_STATE, "%s: another call of this trainer is running; wait until it returns",
                         function);
    cohort_status status = model_suspend(&trainer->model, function, err);
    if (status == COHORT_OK && !grpo_run_whole(&trainer->run)) {
        model_resume(&trainer->model);
        status = error_set(err, COHORT_ERR_STATE,
                           "%s: an earlier step failed between the updates of its batch: close the trainer and open it "
                           "again with the option resume, from its last checkpoint",
                           function);
    }
    if (status != COHORT_OK)
        atomic_store(&trainer->running, false);
    return status;
}

static cohort_status leave(cohort_trainer *trainer, const char *function, cohort_status status, cohort_error *err)
{
    model_resume(&trainer->model);
    atomic_store(&trainer->running, false);
    if (!trainer->closed)
        return status;
    cohort_trainer_close(trainer);
    return error_set(err, COHORT_ERR_STATE, "%s: the trainer was closed by its callback", function);
}

/* Copies the rows into the trainer, and computes what their draws are keyed by. */
static cohort_status take_rows(cohort_trainer *trainer, const char *function, const cohort_batch *batch,
                               cohort_error *err)
{
    const struct grpo_run *run = &trainer->run;
    const size_t most = (size_t)run->prompts_per_step;
    if (batch->rows == NULL || batch->n_rows == 0 || batch->n_rows > most)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: the batch has %zu rows, expected 1 to %zu (the option prompts_per_step)", function,
                         batch->rows == NULL ? (size_t)0 : batch->n_rows, most);
    for (size_t i = 0; i < batch->n_rows; i++) {
        if (batch->rows[i] == NULL)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s: row %zu of the batch is NULL", function, i);
        const int64_t epoch = batch->epochs == NULL ? 0 : batch->epochs[i];
        trainer->indices[i] =
            batch->indices == NULL ? run->grpo.batches * run->prompts_per_step + (int64_t)i : batch->indices[i];
        if (trainer->indices[i] < 0 || epoch < 0)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s: row %zu of the batch has index %lld and epoch %lld",
                             function, i, (long long)trainer->indices[i], (long long)epoch);
        trainer->ids[i] = rng_stream((uint64_t)trainer->indices[i], (uint64_t)epoch);
    }
    prompt_set_free(&trainer->set);
    TRY(prompt_set_take(&trainer->set, &run->t.session, batch->rows, batch->n_rows, trainer->room, run->t.options,
                        err));
    trainer->set.indices = trainer->indices;
    return COHORT_OK;
}

static cohort_status rollout(cohort_trainer *trainer, const char *function, const cohort_batch *given,
                             cohort_error *err)
{
    struct grpo_run *run = &trainer->run;
    cohort_batch batch = {0};
    TRY(sized_read(&sized_batch, function, given, &batch, err));
    if (run->t.steps > 0 && run->t.state.step >= run->t.steps)
        return error_set(err, COHORT_ERR_STATE, "%s: the %lld steps that the option steps planned are done", function,
                         (long long)run->t.steps);
    public_rows_free(&trainer->rows);
    grpo_run_discard(run);
    TRY(take_rows(trainer, function, &batch, err));
    return grpo_run_rollout(run, &trainer->set, trainer->places, trainer->ids, (int32_t)batch.n_rows, err);
}

/* scores or token_scores [n_scores], or neither. */
static cohort_status update(cohort_trainer *trainer, const char *function, const double *scores,
                            const double *const *token_scores, size_t n_scores, cohort_error *err)
{
    const bool given = scores != NULL || token_scores != NULL;
    const struct grpo_batch *batch = grpo_run_batch(&trainer->run);
    if (trainer->own_reward == NULL && (given || n_scores > 0))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: the options have rewards, which score the completions; give NULL and 0 scores", function);
    if (batch == NULL)
        return error_set(err, COHORT_ERR_STATE, "%s: there is no batch; call cohort_trainer_rollout first", function);
    if (trainer->own_reward != NULL && (!given || n_scores != (size_t)batch->n))
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "%s: %zu scores were given for %d completions; the options have no reward, so every completion "
            "needs one",
            function, !given ? (size_t)0 : n_scores, (int)batch->n);
    trainer->scores = scores;
    trainer->token_scores = token_scores;
    cohort_status status = grpo_run_update(&trainer->run, err);
    trainer->scores = NULL;
    trainer->token_scores = NULL;
    if (grpo_run_batch(&trainer->run) == NULL) /* the batch was used up */
        public_rows_free(&trainer->rows);
    return status;
}

cohort_status cohort_trainer_step(cohort_trainer *trainer, const cohort_batch *batch, cohort_error *err)
{
    static const char NAME[] = "cohort_trainer_step";
    if (trainer == NULL || batch == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: trainer and batch must not be NULL", NAME);
    if (trainer->own_reward != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: the options have no reward; add one, or use cohort_trainer_rollout and "
                         "cohort_trainer_update",
                         NAME);
    TRY(enter(trainer, NAME, err));
    cohort_status status = rollout(trainer, NAME, batch, err);
    if (status == COHORT_OK)
        status = update(trainer, NAME, NULL, NULL, 0, err);
    return leave(trainer, NAME, status, err);
}

static cohort_status make_rows(cohort_trainer *trainer, cohort_error *err)
{
    const struct grpo_batch *batch = grpo_run_batch(&trainer->run);
    struct reward_row *table = NULL;
    TRY(mem_alloc(&table, (size_t)batch->n, sizeof *table, "reward rows", err));
    const struct prompt_batch prompts = grpo_run_prompts(&trainer->run);
    scoring_table(&prompts, batch->n_prompts, batch->n / batch->n_prompts, batch->completions, table);
    cohort_status status = public_rows_make(&trainer->rows, table, (size_t)batch->n, NULL, err);
    if (status != COHORT_OK)
        public_rows_free(&trainer->rows);
    mem_free(table);
    return status;
}

cohort_status cohort_trainer_rollout(cohort_trainer *trainer, const cohort_batch *batch,
                                     const cohort_reward_row *const **rows, size_t *n_rows, cohort_error *err)
{
    static const char NAME[] = "cohort_trainer_rollout";
    if (trainer == NULL || batch == NULL || rows == NULL || n_rows == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: no argument may be NULL", NAME);
    *rows = NULL;
    *n_rows = 0;
    TRY(enter(trainer, NAME, err));
    cohort_status status = rollout(trainer, NAME, batch, err);
    if (status == COHORT_OK)
        status = make_rows(trainer, err);
    if (status == COHORT_OK && !trainer->closed) {
        *rows = trainer->rows.pointers;
        *n_rows = trainer->rows.n;
    }
    return leave(trainer, NAME, status, err);
}

cohort_status cohort_trainer_update(cohort_trainer *trainer, const double *scores, size_t n_scores, cohort_error *err)
{
    static const char NAME[] = "cohort_trainer_update";
    if (trainer == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: trainer must not be NULL", NAME);
    TRY(enter(trainer, NAME, err));
    return leave(trainer, NAME, update(trainer, NAME, scores, NULL, n_scores, err), err);
}

cohort_status cohort_trainer_update_tokens(cohort_trainer *trainer, const double *const *scores, size_t n_scores,
                                           cohort_error *err)
{
    static const char NAME[] = "cohort_trainer_update_tokens";
    if (trainer == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: trainer must not be NULL", NAME);
    TRY(enter(trainer, NAME, err));
    return leave(trainer, NAME, update(trainer, NAME, NULL, scores, n_scores, err), err);
}

int64_t cohort_trainer_steps(const cohort_trainer *trainer) { return trainer == NULL ? 0 : trainer->run.t.state.step; }

/* Saving reads the weights, which a stop would end. */
static cohort_status save(cohort_trainer *trainer, const char *function, bool final, cohort_error *err)
{
    if (trainer == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: trainer must not be NULL", function);
    struct grpo_run *run = &trainer->run;
    struct training *t = &run->t;
    cohort_status status = COHORT_OK;
    TRY(enter(trainer, function, err));
    const struct stop *stop = t->session.backend->stop;
    t->session.backend->stop = NULL;
    if (final)
        training_end(t, status = grpo_run_finish(run, err), err);
    else if (t->state.step == 0)
        status = error_set(err, COHORT_ERR_STATE, "%s: no step was done yet", function);
    else if (t->saved_step != t->state.step)
        status = training_save(t, &run->grpo.optimizer, true, err);
    t->session.backend->stop = stop;
    return leave(trainer, function, status, err);
}

cohort_status cohort_trainer_save(cohort_trainer *trainer, cohort_error *err)
{
    return save(trainer, "cohort_trainer_save", false, err);
}

cohort_status cohort_trainer_save_final(cohort_trainer *trainer, cohort_error *err)
{
    return save(trainer, "cohort_trainer_save_final", true, err);
}

cohort_model *cohort_trainer_model(cohort_trainer *trainer) { return trainer == NULL ? NULL : &trainer->model; }

void cohort_batch_init_sized(cohort_batch *batch, size_t size) { sized_init(&sized_batch, batch, size); }
