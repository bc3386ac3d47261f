/* Environments: the protocol's course, and what programs do wrong: every begun episode ends exactly once, what fails is one
 * episode or one program's, the others go on, and nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "environment/environment.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { MOST = 40 };

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        cohort_error err_ = {0}, *err = &err_;                                                                         \
        if ((call) != COHORT_OK)                                                                                       \
            fail_msg("%s: %s", #call, err_.message);                                                                   \
    } while (0)

static int open_descriptors(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void expect_no_children(void)
{
    errno = 0;
    assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

/* ---- Programs ---- */

static char said[20000]; /* what was told a person */

static void tell(void *context, const char *line)
{
    (void)context;
    const size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", line);
}

struct setting {
    const char *mode;
    int workers, concurrency;
    double delay, turn_s, episode_s;
};

static cohort_status open_script(struct environment **env, const struct setting *s, cohort_error *err)
{
    static char command[600];
    static char *arguments[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", command, NULL};
    snprintf(command, sizeof command, "exec python3 %s/tests/support/environment_script.py %s %d %.9g",
             COHORT_SOURCE_DIR, s->mode, s->concurrency > 0 ? s->concurrency : 64, s->delay);
    said[0] = '\0';
    return environment_open(env,
                            &(struct environment_options){.label = s->mode,
                                                          .arguments = arguments,
                                                          .workers = s->workers > 0 ? s->workers : 1,
                                                          .turn_s = s->turn_s > 0 ? s->turn_s : 20.0,
                                                          .episode_s = s->episode_s,
                                                          .seed = 7,
                                                          .tell = tell},
                            err);
}

/* ---- Episodes ---- */

struct one {
    struct environment_episode *at;
    int32_t turns, ended;
    enum environment_end end;
    double reward; /* of all answers */
    bool bad;
    char why[300];
};

static json_t *turn_of(int32_t number)
{
    return json_pack("{s:i, s:s, s:[], s:s}", "turn", (int)number, "text", "hi", "calls", "stop", "eos");
}

static void begin(struct environment *env, struct one *one, int i)
{
    static int serial; /* ids are never used again */
    char id[32];
    snprintf(id, sizeof id, "0.%d.0.%d", i, serial++);
    OK(environment_begin(
        env, id, json_pack("{s:{s:b}, s:i, s:i}", "row", "bad", (int)one->bad, "seed", 40 + i, "episode_seed", i), one,
        &one->at, err));
    one->turns = 1;
    OK(environment_turn(env, one->at, turn_of(1), 1, 0, err));
}

static double reward_in(const json_t *body)
{
    const json_t *reward = json_object_get(body, "reward");
    return json_is_number(reward) ? json_number_value(reward) : 0.0;
}

/* Runs n episodes to their ends; last: the turn after which an episode is ended from here (0: never). */
static cohort_status run(struct environment *env, struct one *list, int n, int32_t last, cohort_error *mistake)
{
    int ended = 0;
    const double limit = clock_seconds() + 60.0;
    environment_new_round(env);
    for (int i = 0; i < n; i++)
        begin(env, &list[i], i);
    while (ended < n) {
        struct environment_event event;
        assert_true(clock_seconds() < limit);
        cohort_status status = environment_pump(env, 0.05, mistake);
        if (status != COHORT_OK)
            return status;
        while (environment_poll(env, &event)) {
            struct one *one = event.owner;
            assert_int_equal(one->ended, 0);
            one->reward += reward_in(event.body);
            if (event.kind == ENVIRONMENT_ENDED) {
                one->ended = 1;
                one->end = event.end;
                snprintf(one->why, sizeof one->why, "%s", event.why);
                ended++;
            } else if (one->turns == last) {
                OK(environment_finish(env, one->at, ENVIRONMENT_TURNS, err));
            } else {
                one->turns++;
                OK(environment_turn(env, one->at, turn_of(one->turns), one->turns, 0, err));
            }
            json_decref(event.body);
        }
    }
    return COHORT_OK;
}

static void expect_whole(const struct one *one, int i)
{
    assert_int_equal(one->end, ENVIRONMENT_DONE);
    assert_int_equal(one->turns, 3);
    assert_true(fabs(one->reward - (0.5 + (40 + i) % 7 + 2)) < 1e-9);
}

static void test_course(void **state)
{
    (void)state;
    static const struct setting settings[] = {{.mode = "ok"},
                                              {.mode = "ok", .concurrency = 1},
                                              {.mode = "ok", .workers = 3, .concurrency = 2},
                                              {.mode = "ok", .workers = 2, .concurrency = 5, .delay = 0.02},
                                              {.mode = "foreign"},
                                              {.mode = "late"},
                                              {.mode = "stderr"}};
    const int before = open_descriptors();
    for (size_t s = 0; s < sizeof settings / sizeof settings[0]; s++) {
        struct environment *env = NULL;
        struct environment_figures figures;
        OK(open_script(&env, &settings[s], err));
        for (int round = 0; round < 2; round++) {
            struct one list[MOST] = {0};
            OK(run(env, list, MOST, 0, err));
            for (int i = 0; i < MOST; i++)
                expect_whole(&list[i], i);
        }
        OK(environment_figures(env, &figures, err));
        assert_int_equal(figures.turns, 3 * MOST);
        assert_int_equal(figures.late, strcmp(settings[s].mode, "late") == 0 ? 2 * 3 * MOST : 0);
        assert_true(figures.deaths == 0 && figures.latency_p99 >= figures.latency_p50);
        environment_close(env);
        assert_true((strstr(said, "no JSON") != NULL) == (strcmp(settings[s].mode, "foreign") == 0));
    }
    assert_int_equal(open_descriptors(), before);
    expect_no_children();
}

/* What is ended from here is scored by the program. */
static void test_finish(void **state)
{
    (void)state;
    struct environment *env = NULL;
    struct one list[MOST] = {0};
    OK(open_script(&env, &(struct setting){.mode = "ok", .concurrency = 3}, err));
    OK(run(env, list, MOST, 2, err));
    for (int i = 0; i < MOST; i++) {
        assert_int_equal(list[i].end, ENVIRONMENT_TURNS);
        assert_true(fabs(list[i].reward - (0.5 + 0.125)) < 1e-9);
    }
    environment_close(env);
    expect_no_children();
}

/* One of ten episodes meets what goes wrong. */
static void test_one_fails(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        enum environment_end end;
        const char *why;
        bool dies; /* and with it what else is in the program */
    } cases[] = {{"die-begin", ENVIRONMENT_DIED, "about to die", true},
                 {"die-turn", ENVIRONMENT_DIED, "exit status 3", true},
                 {"flood", ENVIRONMENT_DIED, "more than 8388608 bytes", true},
                 {"garbage", ENVIRONMENT_DIED, "hello there", true},
                 {"close", ENVIRONMENT_DIED, "closed its standard output", true},
                 {"fork", ENVIRONMENT_DIED, "no answer|ended", true},
                 {"log-flood", ENVIRONMENT_DIED, "of log in a second", true},
                 {"hang-turn", ENVIRONMENT_TURN_TIME, "within 1 s", false},
                 {"error", ENVIRONMENT_ERROR, "the sandbox is gone", false},
                 {"wrong-turn", ENVIRONMENT_PROTOCOL, "answers turn 6, turn 1 was asked", false},
                 {"no-content", ENVIRONMENT_PROTOCOL, "message 1", false},
                 {"system", ENVIRONMENT_PROTOCOL, "message 1", false}};
    const int before = open_descriptors();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        enum { N = 10, BAD = 4 };
        struct environment *env = NULL;
        struct one list[N] = {0};
        list[BAD].bad = true;
        /* Only silence shows by the time that passes: what else goes wrong has longer than a busy machine takes. */
        const bool silent = strcmp(cases[c].mode, "hang-turn") == 0 || strcmp(cases[c].mode, "fork") == 0;
        OK(open_script(&env, &(struct setting){.mode = cases[c].mode, .concurrency = 2, .turn_s = silent ? 1.0 : 60.0},
                       err));
        OK(run(env, list, N, 0, err));
        if (strcmp(cases[c].mode, "fork") == 0) /* its child keeps the pipe: it is silence that shows */
            assert_true(list[BAD].end == ENVIRONMENT_TURN_TIME || list[BAD].end == ENVIRONMENT_DIED);
        else if (list[BAD].end != cases[c].end || strstr(list[BAD].why, cases[c].why) == NULL)
            fail_msg("%s: ended as %s: %s", cases[c].mode, environment_end_word(list[BAD].end), list[BAD].why);
        int lost = 0;
        for (int i = 0; i < N; i++) {
            if (environment_end_loses(list[i].end))
                lost++;
            else
                expect_whole(&list[i], i);
        }
        /* Beside it, at most the one that was in the same program. */
        if (lost > (cases[c].end == ENVIRONMENT_ERROR || cases[c].end == ENVIRONMENT_PROTOCOL ? 1 : 2))
            fail_msg("%s: %d lost", cases[c].mode, lost);
        environment_close(env);
    }
    assert_int_equal(open_descriptors(), before);
    expect_no_children();
}

/* Three deaths in a round end the run, with the last words; a program that does not start at all ends it at once. */
static void test_all_fail(void **state)
{
    (void)state;
    static const char *const modes[] = {"die-turn", "no-ready"};
    for (int m = 0; m < 2; m++) {
        struct environment *env = NULL;
        struct one list[MOST] = {0};
        cohort_error mistake = {0};
        cohort_status status = open_script(&env, &(struct setting){.mode = modes[m], .concurrency = 1}, &mistake);
        for (int i = 0; i < MOST; i++)
            list[i].bad = true;
        if (m == 0) {
            assert_int_equal(status, COHORT_OK);
            status = run(env, list, MOST, 0, &mistake);
        }
        assert_int_equal(status, COHORT_ERR_REWARD);
        assert_non_null(strstr(mistake.message, m == 0 ? "died 3 times" : "ended"));
        if (m == 0)
            assert_non_null(strstr(mistake.message, "about to die"));
        environment_close(env);
        expect_no_children();
    }
}

/* A rollout that is given up leaves nothing that the next one hears. */
static void test_abandon(void **state)
{
    (void)state;
    struct environment *env = NULL;
    OK(open_script(&env, &(struct setting){.mode = "ok", .concurrency = 2, .delay = 0.05}, err));
    for (int round = 0; round < 3; round++) {
        struct one list[MOST] = {0};
        for (int i = 0; i < MOST; i++)
            begin(env, &list[i], i);
        OK(environment_pump(env, 0.02, err));
        environment_abandon(env);
    }
    struct one list[MOST] = {0};
    OK(run(env, list, MOST, 0, err));
    for (int i = 0; i < MOST; i++)
        expect_whole(&list[i], i);
    environment_close(env);
    expect_no_children();
}

/* ---- A function ---- */

struct function_state {
    int late; /* answers that are given when it is asked for nothing */
    char waiting[MOST][200];
    int n_waiting;
};

static cohort_status answer(void *context, struct environment *env, const char *request, size_t length,
                            cohort_error *err)
{
    struct function_state *state = context;
    char out[200];
    if (request == NULL) {
        for (; state->n_waiting > 0; state->n_waiting--)
            TRY(environment_say(env, state->waiting[state->n_waiting - 1], strlen(state->waiting[state->n_waiting - 1]),
                                err));
        return COHORT_OK;
    }
    json_t *m = json_loadb(request, length, JSON_ALLOW_NUL, NULL);
    assert_non_null(m);
    const char *type = json_string_value(json_object_get(m, "type")), *id = json_string_value(json_object_get(m, "id"));
    const int turn = (int)json_integer_value(json_object_get(m, "turn"));
    out[0] = '\0';
    if (strcmp(type, "hello") == 0)
        snprintf(out, sizeof out, "{\"type\":\"ready\",\"protocol\":1,\"concurrency\":7}");
    else if (strcmp(type, "begin") == 0)
        snprintf(out, sizeof out, "{\"type\":\"reply\",\"id\":\"%s\",\"turn\":0}", id);
    else if (strcmp(type, "turn") == 0 && turn < 3)
        snprintf(out, sizeof out,
                 "{\"type\":\"reply\",\"id\":\"%s\",\"turn\":%d,\"reward\":0.25,\"messages\":[{\"role\":\"user\","
                 "\"content\":\"x\"}]}",
                 id, turn);
    else if (strcmp(type, "turn") == 0)
        snprintf(out, sizeof out, "{\"type\":\"end\",\"id\":\"%s\",\"reward\":2}", id);
    const bool later = strcmp(type, "turn") == 0 && state->late;
    json_decref(m);
    if (later) {
        memcpy(state->waiting[state->n_waiting++], out, sizeof out);
        return COHORT_OK;
    }
    return environment_say(env, out, strlen(out), err);
}

static void test_function(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        struct function_state own = {.late = late};
        struct environment *env = NULL;
        struct one list[MOST] = {0};
        cohort_error mistake = {0};
        OK(environment_open(
            &env,
            &(struct environment_options){.label = "function", .function = answer, .context = &own, .turn_s = 20.0},
            err));
        OK(run(env, list, MOST, 0, err));
        for (int i = 0; i < MOST; i++)
            assert_true(list[i].end == ENVIRONMENT_DONE && fabs(list[i].reward - 2.5) < 1e-9);
        assert_int_equal(environment_say(env, "{}", 2, &mistake), COHORT_ERR_STATE);
        environment_close(env);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_course),    cmocka_unit_test(test_finish),
                                       cmocka_unit_test(test_one_fails), cmocka_unit_test(test_all_fail),
                                       cmocka_unit_test(test_abandon),   cmocka_unit_test(test_function)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
