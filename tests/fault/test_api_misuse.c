/* The public API used wrongly: every call gets a status with a message, or does nothing; nothing crashes, and what was
 * right goes on. */
#include "support/api_test.h"

#include <math.h>
#include <sys/wait.h>

/* Runs to the end; the number of tokens of the one completion, and its text in *out (caller frees). */
static size_t finish(cohort_model *model, cohort_completion *out)
{
    cohort_error err = {0};
    bool found = false;
    cohort_completion_init(out);
    for (bool busy = true; busy;)
        if (cohort_step(model, &busy, &err) != COHORT_OK)
            fail_msg("%s", err.message);
    assert_int_equal(cohort_poll(model, out, &found, &err), COHORT_OK);
    assert_true(found);
    return out->n_tokens;
}

static void test_null_arguments(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_options *options = NULL;
    cohort_command command = COHORT_INFO;
    int32_t *ids = NULL;
    size_t count = 0;
    char *text = NULL;
    bool busy = false;
    int64_t id = 0;
    cohort_request request = good_request();
    assert_false(cohort_command_find(NULL, &command));
    assert_false(cohort_command_find("grpo", NULL));
    assert_null(cohort_command_name((cohort_command)99));
    assert_null(cohort_command_summary((cohort_command)-1));
    REFUSED(cohort_options_create(NULL, COHORT_GRPO, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_options_create(&options, (cohort_command)77, &err), COHORT_ERR_ARGUMENT);
    assert_null(options);
    REFUSED(cohort_options_set(NULL, "a", "b", NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_options_read_yaml(NULL, "x", &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_options_add_reward(NULL, "x", NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_options_add_token_reward(NULL, "x", NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_options_set_stop(NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_reward_log_metric(NULL, "x", 1.0, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_reward_log_extra(NULL, "x", "1", &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_help((cohort_command)99, &text, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_help(COHORT_GRPO, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_options_docs(NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_run(NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_stop_create(NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_model_open(NULL, NULL, 0, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_encode(NULL, "x", &ids, &count, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_decode(NULL, prompt_ids, 1, &text, &count, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_chat_prompt(NULL, "[]", true, &text, &count, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_chat_parse(NULL, "[]", true, NULL, &text, &count, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_text_parse(NULL, 0, &text, &count, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_submit(NULL, &request, &id, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_step(NULL, &busy, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_poll(NULL, NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    cohort_request_init_sized(NULL, 8);
    cohort_observer_init_sized(NULL, 8);
    cohort_completion_init_sized(NULL, 8);
    cohort_cancel(NULL, 0);
    cohort_on_token(NULL, NULL, NULL);
    cohort_completion_free(NULL);
    cohort_model_close(NULL);
    cohort_options_destroy(NULL);
    cohort_stop_destroy(NULL);
    cohort_stop_trigger(NULL);
    cohort_stop_reset(NULL);
    assert_false(cohort_stop_triggered(NULL));
    cohort_free(NULL);
    cohort_trainer *trainer = NULL;
    cohort_batch batch;
    const cohort_reward_row *const *rows = NULL;
    cohort_batch_init(&batch);
    REFUSED(cohort_trainer_open(NULL, NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_open(&trainer, NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_step(NULL, &batch, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_rollout(NULL, &batch, &rows, &count, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_update(NULL, NULL, 0, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_save(NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_trainer_save_final(NULL, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(cohort_trainer_steps(NULL), 0);
    assert_null(cohort_trainer_model(NULL));
    cohort_trainer_close(NULL);
    cohort_batch_init_sized(NULL, 8);
    assert_int_equal(cohort_options_create(NULL, COHORT_GRPO, NULL), COHORT_ERR_ARGUMENT); /* no error wanted */
}

/* Options of every other command, and without a model. */
static void test_wrong_options(void **state)
{
    (void)state;
    cohort_error err = {0};
    for (int c = 0; c <= COHORT_DATA; c++) {
        cohort_model *model = NULL;
        cohort_options *options = make_options((cohort_command)c, NULL);
        REFUSED(cohort_model_open(&model, options, 0, &err), COHORT_ERR_ARGUMENT);
        assert_null(model);
        REFUSED(cohort_options_set(options, "no_such_option", "1", NULL, &err), COHORT_ERR_ARGUMENT);
        cohort_options_destroy(options);
    }
    cohort_options *options = make_options(COHORT_GENERATE, "model", model_dir, NULL);
    cohort_model *model = NULL;
    REFUSED(cohort_model_open(&model, options, -1, &err), COHORT_ERR_ARGUMENT);
    cohort_options_destroy(options);
}

/* A bad request fails by itself: what was submitted before it runs to its end with the tokens it has alone. */
static void test_bad_requests(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_model *model = open_model(NULL);
    cohort_completion alone = {0}, after = {0};
    cohort_request good = good_request(), zeros;
    int64_t id = 0;
    assert_int_equal(cohort_submit(model, &good, &id, &err), COHORT_OK);
    finish(model, &alone);
    assert_int_equal(cohort_submit(model, &good, &id, &err), COHORT_OK);

    memset(&zeros, 0, sizeof zeros);
    REFUSED(cohort_submit(model, &zeros, &id, &err), COHORT_ERR_ARGUMENT);
    const float wrong[] = {(float)NAN, (float)INFINITY, -(float)INFINITY, -1.0f};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        float *const fields[] = {&good.temperature, &good.top_p, &good.min_p, &good.repetition_penalty};
        for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
            float kept = *fields[f];
            *fields[f] = wrong[i];
            REFUSED(cohort_submit(model, &good, &id, &err), COHORT_ERR_ARGUMENT);
            *fields[f] = kept;
        }
        float *const penalties[] = {&good.presence_penalty, &good.frequency_penalty};
        for (size_t f = 0; f < 2 && i < 3; f++) {
            *penalties[f] = wrong[i];
            REFUSED(cohort_submit(model, &good, &id, &err), COHORT_ERR_ARGUMENT);
            *penalties[f] = 0.0f;
        }
    }
#define WITH(field, value, status)                                                                                     \
    do {                                                                                                               \
        cohort_request bad = good;                                                                                     \
        bad.field = (value);                                                                                           \
        REFUSED(cohort_submit(model, &bad, &id, &err), status);                                                        \
    } while (0)
    WITH(temperature, 1e-39f, COHORT_ERR_ARGUMENT);
    WITH(temperature, 1e-37f, COHORT_ERR_ARGUMENT);
    WITH(min_p, 2.0f, COHORT_ERR_ARGUMENT);
    WITH(top_p, 1.5f, COHORT_ERR_ARGUMENT);
    WITH(top_k, -1, COHORT_ERR_ARGUMENT);
    WITH(n, 0, COHORT_ERR_ARGUMENT);
    WITH(n, -5, COHORT_ERR_ARGUMENT);
    WITH(max_tokens, 0, COHORT_ERR_ARGUMENT);
    WITH(max_tokens, INT32_MIN, COHORT_ERR_ARGUMENT);
    WITH(n_prompt, 0, COHORT_ERR_ARGUMENT);
    WITH(n_prompt, (size_t)INT32_MAX + 1, COHORT_ERR_ARGUMENT);
    WITH(prompt, NULL, COHORT_ERR_ARGUMENT);
    WITH(repetition_max_pattern_size, -1, COHORT_ERR_ARGUMENT);
    WITH(n_stop, 1, COHORT_ERR_ARGUMENT); /* stop is NULL */
    const char *stops[] = {"a", NULL};
    cohort_request bad = good;
    bad.repetition_max_pattern_size = 4;
    bad.repetition_min_count = 1;
    REFUSED(cohort_submit(model, &bad, &id, &err), COHORT_ERR_ARGUMENT);
    bad = good;
    bad.stop = stops;
    bad.n_stop = 2;
    REFUSED(cohort_submit(model, &bad, &id, &err), COHORT_ERR_ARGUMENT);
    int32_t ids[] = {104, -1}, beyond[] = {104, 1 << 30};
    bad = good;
    bad.prompt = ids;
    bad.n_prompt = 2;
    REFUSED(cohort_submit(model, &bad, &id, &err), COHORT_ERR_ARGUMENT);
    bad.prompt = beyond;
    REFUSED(cohort_submit(model, &bad, &id, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_submit(model, &good, NULL, &err), COHORT_ERR_ARGUMENT);
    cohort_cancel(model, 123456);

    assert_int_equal(finish(model, &after), alone.n_tokens);
    assert_memory_equal(after.tokens, alone.tokens, alone.n_tokens * sizeof(int32_t));
    assert_memory_equal(after.logprobs, alone.logprobs, alone.n_tokens * sizeof(float));
    cohort_completion_free(&alone);
    cohort_completion_free(&after);
    bool found = true;
    assert_int_equal(cohort_poll(model, &after, &found, &err), COHORT_OK);
    assert_false(found);
    cohort_model_close(model);
}

/* Every token is 'a': the third in a row ends it. */
static void test_repetition(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_model *model = open_model(NULL);
    cohort_completion made;
    cohort_request stuck;
    const int32_t ids[] = {104, 101}, a[] = {97};
    const float bias[] = {1000.0f};
    int64_t id = 0;
    cohort_request_init(&stuck);
    cohort_completion_init(&made);
    assert_int_equal(stuck.repetition_max_pattern_size, 0);
    stuck.prompt = ids;
    stuck.n_prompt = 2;
    stuck.max_tokens = 20;
    stuck.bias_ids = a;
    stuck.bias = bias;
    stuck.n_bias = 1;
    stuck.repetition_max_pattern_size = 2;
    stuck.repetition_min_count = 3;
    assert_int_equal(cohort_submit(model, &stuck, &id, &err), COHORT_OK);
    assert_int_equal(finish(model, &made), 3);
    assert_string_equal(made.finish_reason, "repetition");
    cohort_completion_free(&made);
    cohort_model_close(model);
}

static void test_uninitialised_structs(void **state)
{
    (void)state;
    const unsigned char fills[] = {0, 0x01, 0xff};
    cohort_error err = {0};
    cohort_model *model = open_model(NULL);
    cohort_options *options = make_options(COHORT_INFO, "preset", "nano", NULL);
    int64_t id = 0;
    bool found = true;
    for (size_t i = 0; i < sizeof fills; i++) {
        cohort_request request;
        cohort_completion completion;
        cohort_observer observer;
        memset(&request, fills[i], sizeof request);
        memset(&completion, fills[i], sizeof completion);
        memset(&observer, fills[i], sizeof observer);
        UNINITIALISED(cohort_submit(model, &request, &id, &err), "cohort_request_init");
        UNINITIALISED(cohort_poll(model, &completion, &found, &err), "cohort_completion_init");
        UNINITIALISED(cohort_run(options, &observer, &err), "cohort_observer_init");
    }
    cohort_completion completion;
    cohort_completion_init_sized(&completion, offsetof(cohort_completion, n_top) - 1); /* less than any version had */
    UNINITIALISED(cohort_poll(model, &completion, &found, &err), "cohort_completion_init");
    cohort_options_destroy(options);
    cohort_model_close(model);
}

struct reentry {
    cohort_model *model;
    cohort_options *options;
    int calls, refused;
    bool close;
};

static void step_again(void *context, int64_t request, int32_t index, int32_t token, float logprob, const char *text,
                       size_t length, const char *finish_reason)
{
    struct reentry *r = context;
    cohort_error err = {0};
    bool busy = false;
    (void)request, (void)index, (void)token, (void)logprob, (void)text, (void)length, (void)finish_reason;
    r->calls++;
    r->refused += cohort_step(r->model, &busy, &err) == COHORT_ERR_STATE && err.message[0] != '\0';
    if (r->close)
        cohort_model_close(r->model);
}

static void test_step_in_callback(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct reentry r = {.model = open_model(NULL)};
    cohort_completion done = {0};
    cohort_request request = good_request();
    int64_t id = 0;
    cohort_on_token(r.model, step_again, &r);
    assert_int_equal(cohort_submit(r.model, &request, &id, &err), COHORT_OK);
    size_t n = finish(r.model, &done);
    assert_int_equal(r.calls, n);
    assert_int_equal(r.refused, n);
    cohort_completion_free(&done);
    r.close = true; /* takes effect when cohort_step returns, and frees everything (the leak sanitizer looks) */
    assert_int_equal(cohort_submit(r.model, &request, &id, &err), COHORT_OK);
    bool busy = true;
    REFUSED(cohort_step(r.model, &busy, &err), COHORT_ERR_STATE);
    assert_false(busy);
}

static void change_options(void *context, const char *text)
{
    struct reentry *r = context;
    cohort_error err = {0};
    (void)text;
    r->calls++;
    r->refused += cohort_options_set(r->options, "steps", "9", NULL, &err) == COHORT_ERR_STATE &&
                  cohort_options_set_stop(r->options, NULL, &err) == COHORT_ERR_STATE &&
                  cohort_options_read_yaml(r->options, "x", &err) == COHORT_ERR_STATE &&
                  cohort_run(r->options, NULL, &err) == COHORT_ERR_STATE;
    if (r->close)
        cohort_options_destroy(r->options);
}

static void test_options_in_callback(void **state)
{
    (void)state;
    cohort_error err = {0};
    for (int close = 0; close < 2; close++) {
        char out[64];
        snprintf(out, sizeof out, "%s/sft%d", folder, close);
        struct reentry r = {.close = close == 1};
        cohort_observer observer;
        cohort_observer_init(&observer);
        observer.context = &r;
        observer.message = change_options;
        r.options = make_options(COHORT_SFT, "model", model_dir, "data", data_path, "steps", "1", "out", out, NULL);
        if (cohort_run(r.options, &observer, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_true(r.calls > 0);
        assert_int_equal(r.refused, r.calls);
        if (!r.close)
            cohort_options_destroy(r.options);
    }
}

static void test_after_fork(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_model *model = open_model(NULL);
    cohort_request request = good_request();
    cohort_completion done = {0};
    int64_t id = 0;
    assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_OK);
    pid_t child = fork();
    if (child == 0) {
        bool busy = true;
        alarm(20); /* a hang is a failure */
        int good = cohort_step(model, &busy, &err) == COHORT_ERR_STATE && strstr(err.message, "fork") != NULL &&
                   cohort_submit(model, &request, &id, &err) == COHORT_ERR_STATE;
        cohort_model_close(model);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    finish(model, &done);
    cohort_completion_free(&done);
    cohort_model_close(model);
}

/* A stop before and within a generation: the call ends, and after the reset the same tokens come as without it. */
static void test_stopped_generation(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_stop *stop = NULL;
    cohort_completion whole = {0}, cut = {0};
    int64_t id = 0;
    bool busy = true;
    assert_int_equal(cohort_stop_create(&stop, &err), COHORT_OK);
    cohort_model *model = open_model(stop);
    cohort_request request = good_request();
    assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_OK);
    size_t n = finish(model, &whole);
    for (size_t at = 0; at < n; at++) {
        assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_OK);
        for (size_t i = 0; i < at; i++)
            assert_int_equal(cohort_step(model, &busy, &err), COHORT_OK);
        cohort_stop_trigger(stop);
        assert_true(cohort_stop_triggered(stop));
        REFUSED(cohort_step(model, &busy, &err), COHORT_ERR_CANCELLED);
        REFUSED(cohort_step(model, &busy, &err), COHORT_ERR_CANCELLED);
        cohort_stop_reset(stop);
        assert_int_equal(finish(model, &cut), n);
        assert_memory_equal(cut.tokens, whole.tokens, n * sizeof(int32_t));
        assert_memory_equal(cut.logprobs, whole.logprobs, n * sizeof(float));
        cohort_completion_free(&cut);
    }
    cohort_completion_free(&whole);
    cohort_model_close(model);
    cohort_stop_trigger(stop); /* a load that is stopped leaves nothing behind */
    cohort_options *options = make_options(COHORT_GENERATE, "model", model_dir, NULL);
    assert_int_equal(cohort_options_set_stop(options, stop, &err), COHORT_OK);
    REFUSED(cohort_model_open(&model, options, 0, &err), COHORT_ERR_CANCELLED);
    assert_null(model);
    cohort_options_destroy(options);
    cohort_stop_destroy(stop);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Another thread stops long runs: sft, grpo, and one that waits for a reward program which never answers. */
static void test_stopped_runs(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_stop *stop = NULL;
    assert_int_equal(cohort_stop_create(&stop, &err), COHORT_OK);
    for (int kind = 0; kind < 3; kind++) {
        char out[64];
        pthread_t thread;
        snprintf(out, sizeof out, "%s/stopped%d", folder, kind);
        cohort_options *options = make_options(kind == 0 ? COHORT_SFT : COHORT_GRPO, "model", model_dir, "data",
                                               data_path, "steps", "100000", "out", out, NULL);
        if (kind == 1)
            assert_int_equal(cohort_options_add_reward(options, "slow", slow_reward, NULL, &err), COHORT_OK);
        if (kind == 2)
            assert_int_equal(cohort_options_set(options, "reward", "exec:sleep 100", NULL, &err), COHORT_OK);
        assert_int_equal(cohort_options_set_stop(options, stop, &err), COHORT_OK);
        double begun = seconds();
        assert_int_equal(pthread_create(&thread, NULL, trigger_soon, stop), 0);
        REFUSED(cohort_run(options, NULL, &err), COHORT_ERR_CANCELLED);
        assert_true(seconds() - begun < 10.0); /* far below the minutes it would take */
        pthread_join(thread, NULL);
        cohort_stop_reset(stop);
        cohort_options_destroy(options);
    }
    cohort_stop_destroy(stop);
}

static bool count_option(void *context, const cohort_option *option)
{
    size_t *count = context;
    assert_non_null(option->name);
    assert_true(option->size == sizeof *option && option->help[0] != '\0' && option->type[0] != '\0');
    (*count)++;
    return true;
}

static bool loss_type(void *context, const cohort_option *option)
{
    const bool found = strcmp(option->name, "loss_type") == 0;
    if (found) {
        assert_string_equal(option->type, "word");
        assert_string_equal(option->fallback, "dapo");
        assert_true(option->n_choices >= 9);
        assert_string_equal(option->choices[0], "grpo");
        *(size_t *)context = 1;
    }
    return !found; /* and no further */
}

static bool steps_has_max_steps(void *context, const cohort_option *option)
{
    if (strcmp(option->name, "steps") == 0)
        for (size_t i = 0; i < option->n_names; i++)
            *(size_t *)context += strcmp(option->names[i], "max_steps") == 0;
    return true;
}

/* The option table as bindings read it, and names that are no options. */
static void options_are_described(void **state)
{
    (void)state;
    cohort_error err = {0};
    cohort_options *options = NULL;
    size_t count = 0;
    char *text = NULL;
    bool needless = false;
    REFUSED(cohort_options_list(COHORT_GRPO, NULL, NULL, &err), COHORT_ERR_ARGUMENT);
    REFUSED(cohort_options_list((cohort_command)999, count_option, &count, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(count, 0);
    assert_int_equal(cohort_options_list(COHORT_GRPO, count_option, &count, &err), COHORT_OK);
    assert_true(count > 100);
    count = 0;
    assert_int_equal(cohort_options_list(COHORT_GRPO, loss_type, &count, &err), COHORT_OK);
    assert_int_equal(count, 1);
    count = 0;
    assert_int_equal(cohort_options_list(COHORT_GRPO, steps_has_max_steps, &count, &err), COHORT_OK);
    assert_int_equal(count, 1);

    REFUSED(cohort_options_explain(NULL, "x", &text, &needless, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(cohort_options_create(&options, COHORT_GRPO, &err), COHORT_OK);
    REFUSED(cohort_options_explain(options, "beta", &text, &needless, &err), COHORT_ERR_ARGUMENT);
    static const struct {
        const char *name, *says;
        bool needless;
    } names[] = {{"use_vllm", "one engine", true},
                 {"disable-dropout", "no dropout", true},
                 {"load_in_4bit", "does not quantise", false},
                 {"learning_rat", "did you mean 'learning_rate'", false},
                 {"nothing_like_it", "--help", false}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(cohort_options_explain(options, names[i].name, &text, &needless, &err), COHORT_OK);
        assert_non_null(strstr(text, names[i].says));
        assert_int_equal(needless, names[i].needless);
        cohort_free(text);
    }
    cohort_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_described),
        cmocka_unit_test(test_null_arguments),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_uninitialised_structs),
        cmocka_unit_test(test_repetition),
        cmocka_unit_test(test_step_in_callback),
        cmocka_unit_test(test_options_in_callback),
        cmocka_unit_test(test_after_fork),
        cmocka_unit_test(test_stopped_generation),
        cmocka_unit_test(test_stopped_runs),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
