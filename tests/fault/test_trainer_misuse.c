/* The embedded trainer used wrongly: every call gets a status with a message, and what was right goes on. */
#include "support/api_test.h"

#include <fcntl.h>
#include <math.h>
#include <sys/wait.h>

static cohort_options *trainer_options(const char *name)
{
    char out[64];
    snprintf(out, sizeof out, "%s/%s", folder, name);
    return make_options(COHORT_GRPO, "model", model_dir, "out", out, "max_prompt_length", "32", "max_completion_length",
                        "8", "prompts_per_step", "2", "num_generations", "2", "learning_rate", "1e-3", "threads", "2",
                        "device", "cpu", NULL);
}

static cohort_trainer *open_trainer(cohort_options *options, const cohort_observer *observer)
{
    cohort_trainer *trainer = NULL;
    cohort_error err = {0};
    if (cohort_trainer_open(&trainer, options, observer, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return trainer;
}

static const char *const two_rows[] = {"{\"prompt\": \"one\"}", "{\"prompt\": \"two\", \"answer\": 2}"};

static cohort_batch good_batch(void)
{
    cohort_batch batch;
    cohort_batch_init(&batch);
    batch.rows = two_rows;
    batch.n_rows = 2;
    return batch;
}

static void test_trainer_options(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_trainer *trainer = NULL, *second = NULL;
    cohort_options *options = make_options(COHORT_SFT, NULL);
    REFUSED(cohort_trainer_open(&trainer, options, NULL, &err), COHORT_ERR_ARGUMENT);
    cohort_options_destroy(options);
    const char *const wrong[][2] = {{"data", data_path},
                                    {"lr_scheduler_type", "cosine"}, /* without steps */
                                    {"eval_data", data_path},        /* without a reward */
                                    {"max_completion_length", "1000000"},
                                    {"model", folder}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        options = trainer_options("refused");
        assert_int_equal(cohort_options_set(options, wrong[i][0], wrong[i][1], NULL, &err), COHORT_OK);
        cohort_status status = cohort_trainer_open(&trainer, options, NULL, &err);
        assert_true(status == COHORT_ERR_ARGUMENT || status == COHORT_ERR_FORMAT || status == COHORT_ERR_IO);
        assert_null(trainer);
        cohort_options_destroy(options); /* is free again */
    }
    options = make_options(COHORT_GRPO, "model", model_dir, "out", folder, NULL);
    REFUSED(cohort_trainer_open(&trainer, options, NULL, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "max_prompt_length"));
    cohort_options_destroy(options);
    cohort_observer observer;
    memset(&observer, 0, sizeof observer);
    options = trainer_options("once");
    UNINITIALISED(cohort_trainer_open(&trainer, options, &observer, &err), "cohort_observer_init");
    trainer = open_trainer(options, NULL);
    /* They are in use, and the run folder is. */
    REFUSED(cohort_trainer_open(&second, options, NULL, &err), COHORT_ERR_STATE);
    REFUSED(cohort_options_set(options, "seed", "2", NULL, &err), COHORT_ERR_STATE);
    REFUSED(cohort_run(options, NULL, &err), COHORT_ERR_STATE);
    cohort_options *others = trainer_options("once");
    REFUSED(cohort_trainer_open(&second, others, NULL, &err), COHORT_ERR_STATE);
    cohort_options_destroy(others);
    cohort_options_destroy(options); /* takes effect with the trainer (the leak sanitizer looks) */
    cohort_trainer_close(trainer);
}

/* A batch that cannot be used fails alone: what comes after it trains. */
static void test_bad_batches(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_options *options = trainer_options("batches");
    cohort_trainer *trainer = open_trainer(options, NULL);
    const cohort_reward_row *const *rows = NULL;
    size_t n = 0;
    cohort_batch batch = good_batch();
    double scores[4] = {0.0, 1.0, 1.0, 0.0};
    REFUSED(cohort_trainer_step(trainer, &batch, &err), COHORT_ERR_ARGUMENT);   /* there is no reward */
    REFUSED(cohort_trainer_update(trainer, scores, 4, &err), COHORT_ERR_STATE); /* there is no batch */
    REFUSED(cohort_trainer_save(trainer, &err), COHORT_ERR_STATE);              /* there is no step */
    REFUSED(cohort_trainer_rollout(trainer, NULL, &rows, &n, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_rollout(trainer, &batch, NULL, &n, &err), COHORT_ERR_ARGUMENT);
    const char *const bad_rows[] = {"",
                                    "{",
                                    "[1]",
                                    "1",
                                    "{}",
                                    "{\"prompt\": 3}",
                                    "{\"prompt\": \"\"}",
                                    "{\"prompt\": \"a\"} x",
                                    "{\"prompt\": \"a prompt of more bytes than thirty-two tokens hold\"}",
                                    "{\"prompt\": \"\xff\"}"};
    for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++) {
        const char *const both[] = {two_rows[0], bad_rows[i]};
        batch = good_batch();
        batch.rows = both;
        REFUSED(cohort_trainer_rollout(trainer, &batch, &rows, &n, &err), COHORT_ERR_FORMAT);
        assert_non_null(strstr(err.message, "rows:2"));
        assert_null(rows);
    }
    const char *const with_null[] = {two_rows[0], NULL};
    const int64_t negative[] = {0, -1};
    for (int i = 0; i < 6; i++) {
        batch = good_batch();
        batch.rows = i == 0 ? NULL : i == 1 ? with_null : two_rows;
        batch.n_rows = i == 2 ? 0 : i == 3 ? 3 : 2;
        batch.indices = i == 4 ? negative : NULL;
        batch.epochs = i == 5 ? negative : NULL;
        REFUSED(cohort_trainer_rollout(trainer, &batch, &rows, &n, &err), COHORT_ERR_ARGUMENT);
    }
    memset(&batch, 0, sizeof batch);
    UNINITIALISED(cohort_trainer_rollout(trainer, &batch, &rows, &n, &err), "cohort_batch_init");
    batch = good_batch();
    assert_int_equal(cohort_trainer_rollout(trainer, &batch, &rows, &n, &err), COHORT_OK);
    assert_int_equal(n, 4);
    assert_string_equal(rows[3]->row_json, "{\"prompt\":\"two\",\"answer\":2}");
    REFUSED(cohort_trainer_update(trainer, NULL, 0, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_update(trainer, scores, 3, &err), COHORT_ERR_ARGUMENT);
    const double one[8] = {(double)INFINITY}, /* as many as a completion may have tokens */
        *const of_tokens[4] = {NULL, one, NULL, NULL};
    REFUSED(cohort_trainer_update_tokens(NULL, of_tokens, 4, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_update_tokens(trainer, NULL, 4, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_update_tokens(trainer, of_tokens, 3, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_update_tokens(trainer, of_tokens, 4, &err), COHORT_ERR_REWARD);
    scores[2] = (double)INFINITY;
    REFUSED(cohort_trainer_update(trainer, scores, 4, &err), COHORT_ERR_REWARD);
    assert_int_equal(cohort_trainer_steps(trainer), 0);
    scores[2] = (double)NAN; /* unscorable */
    assert_int_equal(cohort_trainer_update(trainer, scores, 4, &err), COHORT_OK);
    assert_int_equal(cohort_trainer_steps(trainer), 1);
    REFUSED(cohort_trainer_update(trainer, scores, 4, &err), COHORT_ERR_STATE); /* it was used up */
    batch.n_rows = 1;
    assert_int_equal(cohort_trainer_rollout(trainer, &batch, &rows, &n, &err), COHORT_OK);
    assert_int_equal(n, 2);
    assert_int_equal(rows[0]->prompt_index, 2); /* behind those of the first step */
    assert_int_equal(cohort_trainer_update(trainer, scores, 2, &err), COHORT_OK);
    assert_int_equal(cohort_trainer_save(trainer, &err), COHORT_OK);
    cohort_trainer_close(trainer);
    cohort_options_destroy(options);
}

/* Rewards, from whose callback everything of the trainer is called. */
struct within {
    cohort_trainer *trainer;
    cohort_options *options;
    int calls, refused;
    bool close, fail;
};

static cohort_status call_trainer(void *context, const cohort_reward_row *const *rows, size_t n_rows, double *rewards,
                                  cohort_error *err)
{
    struct within *w = context;
    cohort_model *model = cohort_trainer_model(w->trainer);
    cohort_request request = good_request();
    cohort_completion completion;
    cohort_batch batch = good_batch();
    cohort_error inner = {0};
    const cohort_reward_row *const *other = NULL;
    size_t n = 0;
    int64_t id = 0;
    bool busy = true, found = true;
    cohort_completion_init(&completion);
    const cohort_status statuses[] = {cohort_trainer_step(w->trainer, &batch, &inner),
                                      cohort_trainer_rollout(w->trainer, &batch, &other, &n, &inner),
                                      cohort_trainer_update(w->trainer, NULL, 0, &inner),
                                      cohort_trainer_save(w->trainer, &inner),
                                      cohort_trainer_save_final(w->trainer, &inner),
                                      cohort_submit(model, &request, &id, &inner),
                                      cohort_step(model, &busy, &inner),
                                      cohort_poll(model, &completion, &found, &inner),
                                      cohort_options_set(w->options, "seed", "2", NULL, &inner)};
    w->calls++;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        w->refused += statuses[i] == COHORT_ERR_STATE;
    cohort_cancel(model, 0);
    cohort_model_close(model);
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = (double)(rows[i]->completion_index % 2);
    if (w->close)
        cohort_trainer_close(w->trainer);
    if (!w->fail)
        return COHORT_OK;
    snprintf(err->message, sizeof err->message, "the judge is away");
    return COHORT_ERR_REWARD;
}

static void count_token(void *context, int64_t request, int32_t index, int32_t token, float logprob, const char *text,
                        size_t length, const char *finish_reason)
{
    struct within *w = context;
    cohort_error err = {0};
    (void)request, (void)index, (void)token, (void)logprob, (void)text, (void)length, (void)finish_reason;
    w->calls++;
    cohort_batch batch = good_batch();
    w->refused += cohort_trainer_step(w->trainer, &batch, &err) == COHORT_ERR_STATE;
    if (w->close)
        cohort_trainer_close(w->trainer);
}

static void test_trainer_in_callbacks(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct within w = {.options = trainer_options("callbacks")};
    assert_int_equal(cohort_options_add_reward(w.options, "within", call_trainer, &w, &err), COHORT_OK);
    w.trainer = open_trainer(w.options, NULL);
    cohort_batch batch = good_batch();
    double score = 1.0;
    assert_int_equal(cohort_trainer_step(w.trainer, &batch, &err), COHORT_OK);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.refused, 9);
    REFUSED(cohort_trainer_update(w.trainer, &score, 1, &err), COHORT_ERR_ARGUMENT); /* no batch, and rewards */
    w.fail = true;
    REFUSED(cohort_trainer_step(w.trainer, &batch, &err), COHORT_ERR_REWARD);
    assert_non_null(strstr(err.message, "the judge is away"));
    assert_int_equal(cohort_trainer_steps(w.trainer), 1);
    w.fail = false;
    assert_int_equal(cohort_trainer_update(w.trainer, NULL, 0, &err), COHORT_OK); /* the batch is still there */
    assert_int_equal(cohort_trainer_steps(w.trainer), 2);

    /* The model's callback sees its own requests alone, and a step waits until all of them were polled. */
    cohort_model *model = cohort_trainer_model(w.trainer);
    struct within tokens = {.trainer = w.trainer};
    cohort_request request = good_request();
    cohort_completion done;
    int64_t id = 0;
    cohort_on_token(model, count_token, &tokens);
    assert_int_equal(cohort_trainer_step(w.trainer, &batch, &err), COHORT_OK);
    assert_int_equal(tokens.calls, 0);
    assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_OK);
    REFUSED(cohort_trainer_step(w.trainer, &batch, &err), COHORT_ERR_STATE);
    bool busy = true, found = false;
    while (busy)
        assert_int_equal(cohort_step(model, &busy, &err), COHORT_OK);
    REFUSED(cohort_trainer_step(w.trainer, &batch, &err), COHORT_ERR_STATE);
    cohort_completion_init(&done);
    assert_int_equal(cohort_poll(model, &done, &found, &err), COHORT_OK);
    assert_true(found);
    assert_int_equal(tokens.calls, done.n_tokens);
    assert_int_equal(tokens.refused, done.n_tokens);
    cohort_completion_free(&done);
    assert_int_equal(cohort_trainer_step(w.trainer, &batch, &err), COHORT_OK);
    /* Closed from both kinds of callbacks; everything is freed (the leak sanitizer looks). */
    cohort_options_destroy(w.options);
    w.close = true;
    REFUSED(cohort_trainer_step(w.trainer, &batch, &err), COHORT_ERR_STATE);
    cohort_options *options = trainer_options("closing");
    tokens = (struct within){.trainer = open_trainer(options, NULL), .close = true};
    cohort_options_destroy(options);
    model = cohort_trainer_model(tokens.trainer);
    cohort_on_token(model, count_token, &tokens);
    assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_OK);
    busy = true;
    REFUSED(cohort_step(model, &busy, &err), COHORT_ERR_STATE);
    assert_false(busy);
}

/* A forked child can use nothing of it, and closing it there leaves the run to its parent, lock included. */
static void test_trainer_after_fork(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_options *options = trainer_options("fork"), *others = trainer_options("fork");
    assert_int_equal(cohort_options_add_reward(options, "slow", slow_reward, NULL, &err), COHORT_OK);
    cohort_trainer *trainer = open_trainer(options, NULL), *second = NULL;
    cohort_batch batch = good_batch();
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* a hang is a failure */
        int good = cohort_trainer_step(trainer, &batch, &err) == COHORT_ERR_STATE &&
                   strstr(err.message, "fork") != NULL && cohort_trainer_save(trainer, &err) == COHORT_ERR_STATE;
        cohort_trainer_close(trainer);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* Still locked: with resume nothing else is in the way. */
    assert_int_equal(cohort_options_set(others, "resume", "latest", NULL, &err), COHORT_OK);
    REFUSED(cohort_trainer_open(&second, others, NULL, &err), COHORT_ERR_STATE);
    assert_int_equal(cohort_trainer_step(trainer, &batch, &err), COHORT_OK);
    cohort_trainer_close(trainer);
    cohort_options_destroy(options);
    cohort_options_destroy(others);
}

/* A host without standard input, output and error: files of the run must not take their numbers. */
static void test_closed_descriptors(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        cohort_error err = {0};
        cohort_trainer *trainer = NULL;
        cohort_options *options = trainer_options("closed");
        cohort_batch batch = good_batch();
        alarm(60);
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        bool good = cohort_options_add_reward(options, "slow", slow_reward, NULL, &err) == COHORT_OK &&
                    cohort_trainer_open(&trainer, options, NULL, &err) == COHORT_OK &&
                    cohort_trainer_step(trainer, &batch, &err) == COHORT_OK;
        for (int fd = 0; fd < 3; fd++)
            good = good && fcntl(fd, F_GETFD) < 0;
        good = good && cohort_trainer_save(trainer, &err) == COHORT_OK;
        cohort_trainer_close(trainer);
        cohort_options_destroy(options);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A stop ends a step, from before it or from another thread; what was done can be saved, and the step done again. */
static void test_stopped_trainer(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_stop *stop = NULL;
    pthread_t thread;
    assert_int_equal(cohort_stop_create(&stop, &err), COHORT_OK);
    cohort_options *options = trainer_options("stop");
    assert_int_equal(cohort_options_set_stop(options, stop, &err), COHORT_OK);
    assert_int_equal(cohort_options_add_reward(options, "slow", slow_reward, NULL, &err), COHORT_OK);
    cohort_trainer *trainer = open_trainer(options, NULL);
    cohort_batch batch = good_batch();
    assert_int_equal(cohort_trainer_step(trainer, &batch, &err), COHORT_OK);
    cohort_stop_trigger(stop);
    REFUSED(cohort_trainer_step(trainer, &batch, &err), COHORT_ERR_CANCELLED);
    assert_int_equal(cohort_trainer_save(trainer, &err), COHORT_OK);
    assert_int_equal(cohort_trainer_save_final(trainer, &err), COHORT_OK);
    cohort_stop_reset(stop);
    assert_int_equal(cohort_trainer_step(trainer, &batch, &err), COHORT_OK);
    assert_int_equal(cohort_trainer_steps(trainer), 2);
    assert_int_equal(pthread_create(&thread, NULL, trigger_soon, stop), 0);
    cohort_status status = COHORT_OK;
    for (int i = 0; i < 100000 && status == COHORT_OK; i++)
        status = cohort_trainer_step(trainer, &batch, &err);
    assert_int_equal(status, COHORT_ERR_CANCELLED);
    pthread_join(thread, NULL);
    cohort_stop_reset(stop);
    assert_int_equal(cohort_trainer_step(trainer, &batch, &err), COHORT_OK);
    cohort_trainer_close(trainer);
    cohort_options_destroy(options);
    cohort_stop_destroy(stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trainer_options),      cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_trainer_in_callbacks), cmocka_unit_test(test_trainer_after_fork),
        cmocka_unit_test(test_closed_descriptors),   cmocka_unit_test(test_stopped_trainer),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
