/* For tests of the public API: a small model and data set of their own, and calls that must be refused. */
#ifndef COHORT_TESTS_API_TEST_H
#define COHORT_TESTS_API_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cohort.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort_misuse_XXXXXX";
static char model_dir[64], data_path[64];

static inline cohort_options *make_options(cohort_command command, ...)
{
    cohort_options *options = NULL;
    cohort_error err = {0};
    va_list args;
    assert_int_equal(cohort_options_create(&options, command, &err), COHORT_OK);
    va_start(args, command);
    for (const char *name; (name = va_arg(args, const char *)) != NULL;) {
        if (cohort_options_set(options, name, va_arg(args, const char *), NULL, &err) != COHORT_OK)
            fail_msg("%s", err.message);
    }
    va_end(args);
    return options;
}

static inline int make_model(void **state)
{
    (void)state;
    cohort_error err = {0};
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(model_dir, sizeof model_dir, "%s/nano", folder);
    snprintf(data_path, sizeof data_path, "%s/data.jsonl", folder);
    cohort_options *options =
        make_options(COHORT_INIT, "preset", "nano", "tokenizer", "bytes", "seed", "3", "out", model_dir, NULL);
    cohort_status status = cohort_run(options, NULL, &err);
    cohort_options_destroy(options);
    FILE *file = fopen(data_path, "w");
    if (file == NULL)
        return -1;
    for (int i = 0; i < 8; i++)
        fprintf(file, "{\"prompt\": \"question %d\", \"completion\": \" answer\"}\n", i);
    fclose(file);
    if (status != COHORT_OK)
        fprintf(stderr, "%s\n", err.message);
    return status == COHORT_OK ? 0 : -1;
}

static inline int remove_model(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static inline cohort_model *open_model(const cohort_stop *stop)
{
    cohort_model *model = NULL;
    cohort_error err = {0};
    cohort_options *options = make_options(COHORT_GENERATE, "model", model_dir, "threads", "2", NULL);
    assert_int_equal(cohort_options_set_stop(options, stop, &err), COHORT_OK);
    if (cohort_model_open(&model, options, 256, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    cohort_options_destroy(options);
    return model;
}

static const int32_t prompt_ids[] = {104, 101, 108, 108, 111};

static inline cohort_request good_request(void)
{
    cohort_request request;
    cohort_request_init(&request);
    request.prompt = prompt_ids;
    request.n_prompt = 5;
    request.max_tokens = 8;
    request.seed = 1;
    return request;
}

#define REFUSED(call, wanted)                                                                                          \
    do {                                                                                                               \
        memset(&err, 0, sizeof err);                                                                                   \
        assert_int_equal((call), (wanted));                                                                            \
        assert_int_equal(err.status, (wanted));                                                                        \
        assert_true(err.message[0] != '\0');                                                                           \
    } while (0)

/* A struct that was not initialised is refused with the name of its initialiser. */
#define UNINITIALISED(call, initialiser)                                                                               \
    do {                                                                                                               \
        REFUSED(call, COHORT_ERR_ARGUMENT);                                                                            \
        assert_non_null(strstr(err.message, initialiser));                                                             \
    } while (0)

static inline void *trigger_soon(void *stop)
{
    nanosleep(&(struct timespec){0, 300000000}, NULL);
    cohort_stop_trigger(stop);
    return NULL;
}

static inline cohort_status slow_reward(void *context, const cohort_reward_row *const *rows, size_t n_rows,
                                        double *rewards, cohort_error *err)
{
    (void)context, (void)rows, (void)err;
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = (double)(i % 2);
    return COHORT_OK;
}

#endif
