/* An environment in C through the public interface: a run with it is the run with a program that says the same; what it says
 * wrongly ends one episode, and its own error ends the run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cohort.h"

#include "base/file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum how { ANSWERS, ANSWERS_LATER, GARBAGE, GIVES_UP };

struct state {
    enum how how;
    int turns, begun, ended, waiting;
    char later[64][300];
};

static cohort_status say(struct state *s, cohort_environment *environment, const char *line, cohort_error *err)
{
    if (s->how == ANSWERS_LATER && s->waiting < 64) {
        snprintf(s->later[s->waiting++], sizeof s->later[0], "%s", line);
        return COHORT_OK;
    }
    return cohort_environment_answer(environment, line, strlen(line), err);
}

static cohort_status answer(void *context, cohort_environment *environment, const char *request, size_t length,
                            cohort_error *err)
{
    struct state *s = context;
    char line[300];
    if (request == NULL) {
        while (s->waiting > 0) {
            const char *late = s->later[--s->waiting];
            if (cohort_environment_answer(environment, late, strlen(late), err) != COHORT_OK)
                return COHORT_ERR_REWARD;
        }
        return COHORT_OK;
    }
    assert_int_equal(strlen(request), length);
    json_t *m = json_loads(request, JSON_ALLOW_NUL, NULL);
    assert_non_null(m);
    const char *type = json_string_value(json_object_get(m, "type")), *id = json_string_value(json_object_get(m, "id"));
    const int turn = (int)json_integer_value(json_object_get(m, "turn"));
    cohort_status status = COHORT_OK;
    line[0] = '\0';
    if (strcmp(type, "hello") == 0) {
        const char ready[] = "{\"type\":\"ready\",\"protocol\":1,\"concurrency\":1000}";
        json_decref(m);
        return cohort_environment_answer(environment, ready, strlen(ready), err);
    }
    if (strcmp(type, "begin") == 0) {
        s->begun++;
        snprintf(line, sizeof line, "{\"type\":\"reply\",\"id\":\"%s\",\"turn\":0}", id);
    } else if (strcmp(type, "turn") == 0 && turn < 3) {
        s->turns++;
        snprintf(line, sizeof line,
                 "{\"type\":\"reply\",\"id\":\"%s\",\"turn\":%d,\"reward\":0.5,\"messages\":[{\"role\":\"user\","
                 "\"content\":\"on\"}]}",
                 id, s->how == GARBAGE ? turn + 3 : turn);
        if (s->how == GIVES_UP) {
            snprintf(err->message, sizeof err->message, "the world has ended");
            status = COHORT_ERR_REWARD;
        }
    } else {
        s->ended++;
        snprintf(line, sizeof line, "{\"type\":\"end\",\"id\":\"%s\",\"reward\":%d}", id, s->ended % 3);
    }
    json_decref(m);
    return status == COHORT_OK ? say(s, environment, line, err) : status;
}

/* ---- Runs ---- */

static struct {
    double reward, done, protocol, difference;
} seen;

static void look(void *context, const cohort_metrics *metrics)
{
    (void)context;
    for (size_t i = 0; i < metrics->count; i++) {
        const char *name = metrics->items[i].name;
        const double value = metrics->items[i].value;
        if (strcmp(name, "reward") == 0)
            seen.reward = value;
        else if (strcmp(name, "environments/end/done") == 0)
            seen.done = value;
        else if (strcmp(name, "environments/end/protocol") == 0)
            seen.protocol = value;
        else if (strcmp(name, "sampling/sampling_logp_difference/max") == 0)
            seen.difference = value;
    }
}

static void set(cohort_options *options, const char *key, const char *value)
{
    cohort_error err = {0};
    if (cohort_options_set(options, key, value, "test", &err) != COHORT_OK)
        fail_msg("%s: %s", key, err.message);
}

static cohort_status run(struct state *state, const char *folder, const char *out, cohort_error *err)
{
    cohort_options *options = NULL;
    cohort_observer observer;
    char path[300];
    assert_int_equal(cohort_options_create(&options, COHORT_GRPO, err), COHORT_OK);
    snprintf(path, sizeof path, "%s/model", folder);
    set(options, "model", path);
    snprintf(path, sizeof path, "%s/rows.jsonl", folder);
    set(options, "data", path);
    snprintf(path, sizeof path, "%s/%s", folder, out);
    set(options, "out", path);
    set(options, "prompts_per_step", "2");
    set(options, "num_generations", "4");
    set(options, "max_completion_length", "120");
    set(options, "steps", "2");
    set(options, "threads", "1");
    assert_int_equal(cohort_options_set_environment(options, "of the test", answer, state, err), COHORT_OK);
    cohort_observer_init(&observer);
    observer.metrics = look;
    memset(&seen, 0, sizeof seen);
    const cohort_status status = cohort_run(options, &observer, err);
    cohort_options_destroy(options);
    return status;
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[300];
    cohort_error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text), &err), COHORT_OK);
}

static void make_model(const char *folder)
{
    cohort_options *options = NULL;
    cohort_error err = {0};
    char path[300];
    write_file(folder, "shape.json",
               "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"hidden_act\": \"silu\", "
               "\"attention_bias\": false, \"rms_norm_eps\": 1e-6, \"max_position_embeddings\": 512, \"rope_theta\": "
               "10000.0, \"vocab_size\": 300, \"hidden_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": "
               "4, \"num_key_value_heads\": 2, \"head_dim\": 12, \"intermediate_size\": 80, \"tie_word_embeddings\": "
               "true, \"initializer_range\": 0.25}");
    assert_int_equal(cohort_options_create(&options, COHORT_INIT, &err), COHORT_OK);
    snprintf(path, sizeof path, "%s/shape.json", folder);
    set(options, "config", path);
    set(options, "tokenizer", "bytes");
    set(options, "dtype", "f32");
    snprintf(path, sizeof path, "%s/model", folder);
    set(options, "out", path);
    if (cohort_run(options, NULL, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    cohort_options_destroy(options);
    write_file(folder, "model/generation_config.json",
               "{\"eos_token_id\": [100, 101, 102, 103, 104, 105, 106, 107, 108]}");
    write_file(folder, "rows.jsonl",
               "{\"messages\": [{\"role\": \"user\", \"content\": \"go\"}]}\n"
               "{\"messages\": [{\"role\": \"user\", \"content\": \"go on\"}]}\n");
}

static void test_answers(void **state)
{
    const char *folder = *state;
    double rewards[2] = {0};
    for (int later = 0; later < 2; later++) {
        struct state own = {.how = later == 0 ? ANSWERS : ANSWERS_LATER};
        cohort_error err = {0};
        if (run(&own, folder, later == 0 ? "now" : "later", &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_int_equal(own.begun, 16);
        assert_int_equal(own.ended, 16);
        assert_true(own.turns > 16 && seen.done > 0.3 && seen.difference == 0.0);
        rewards[later] = seen.reward;
    }
    assert_true(rewards[0] > 0.0 && rewards[1] > 0.0);
}

static void test_wrong_answers(void **state)
{
    const char *folder = *state;
    struct state garbage = {.how = GARBAGE}, gives_up = {.how = GIVES_UP};
    cohort_error err = {0};
    if (run(&garbage, folder, "garbage", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_true(seen.protocol > 0.5);
    assert_int_equal(run(&gives_up, folder, "gives-up", &err), COHORT_ERR_REWARD);
    assert_non_null(strstr(err.message, "the world has ended"));
}

static void test_misuse(void **state)
{
    (void)state;
    cohort_options *options = NULL;
    cohort_error err = {0};
    assert_int_equal(cohort_options_create(&options, COHORT_SFT, &err), COHORT_OK);
    assert_int_equal(cohort_options_set_environment(options, "x", answer, NULL, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(cohort_options_set_environment(NULL, "x", answer, NULL, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(cohort_environment_answer(NULL, "{}", 2, &err), COHORT_ERR_ARGUMENT);
    cohort_options_destroy(options);
}

static int setup(void **state)
{
    static char folder[] = "/tmp/cohort-environment-XXXXXX";
    if (mkdtemp(folder) == NULL)
        return -1;
    make_model(folder);
    *state = folder;
    return 0;
}

static int teardown(void **state) { return file_remove_all(*state, NULL) == COHORT_OK ? 0 : -1; }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_misuse), cmocka_unit_test(test_answers),
                                       cmocka_unit_test(test_wrong_answers)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
