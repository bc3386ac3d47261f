/* Embeddings in place of a prompt's ids, through the public functions: the embedding's own rows give the completions of
 * the ids, bit for bit, alone and among others, whatever the ids say; other rows give others; what cannot be used is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "cohort.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 70, TOKENS = 20 };

static char folder[] = "/tmp/cohort-embeddings-XXXXXX";

static void set(cohort_options *options, const char *name, const char *value)
{
    cohort_error err = {0};
    if (cohort_options_set(options, name, value, NULL, &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) != COHORT_OK;
}

static cohort_model *make_model(const char *dtype)
{
    cohort_options *options = NULL;
    cohort_model *model = NULL;
    cohort_error err = {0};
    char dir[100];
    snprintf(dir, sizeof dir, "%s/%s", folder, dtype);
    assert_int_equal(cohort_options_create(&options, COHORT_INIT, &err), COHORT_OK);
    set(options, "preset", "nano");
    set(options, "tokenizer", "bytes");
    set(options, "dtype", dtype);
    set(options, "out", dir);
    if (cohort_run(options, NULL, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    cohort_options_destroy(options);
    assert_int_equal(cohort_options_create(&options, COHORT_GENERATE, &err), COHORT_OK);
    set(options, "model", dir);
    set(options, "device", "cpu");
    set(options, "threads", "2");
    if (cohort_model_open(&model, options, 256, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    cohort_options_destroy(options);
    return model;
}

/* Draws to the end the completions of all that was submitted, into out by request's order. */
static void finish(cohort_model *model, cohort_completion *out, int n)
{
    cohort_error err = {0};
    for (bool busy = true; busy;)
        if (cohort_step(model, &busy, &err) != COHORT_OK)
            fail_msg("%s", err.message);
    for (int i = 0; i < n; i++) {
        cohort_completion one;
        bool found = false;
        cohort_completion_init(&one);
        assert_int_equal(cohort_poll(model, &one, &found, &err), COHORT_OK);
        assert_true(found);
        out[one.request % n] = one;
    }
}

static void same(const cohort_completion *a, const cohort_completion *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->logprobs, b->logprobs, a->n_tokens * sizeof *a->logprobs);
}

static void check(const char *dtype)
{
    cohort_model *model = make_model(dtype);
    const size_t width = cohort_model_width(model);
    cohort_error err = {0};
    cohort_request request;
    cohort_completion of[3] = {{0}};
    int32_t ids[N], others[N];
    float *rows = malloc(N * width * sizeof *rows);
    int64_t id = 0;
    assert_non_null(rows);
    assert_int_equal(width, 64);
    for (int i = 0; i < N; i++) {
        ids[i] = 33 + i * 7 % 90;
        others[i] = 0;
    }
    assert_int_equal(cohort_embed(model, ids, N, rows, &err), COHORT_OK);
    cohort_request_init(&request);
    request.n_prompt = N;
    request.max_tokens = TOKENS;
    request.seed = 5;
    /* By ids; by rows, with ids that say something else; by other rows. */
    for (int i = 0; i < 3; i++) {
        request.prompt = i == 0 ? ids : others;
        request.prompt_embeddings = i == 0 ? NULL : rows;
        request.prompt_width = width;
        if (i == 2)
            rows[3 * width + 1] += 0.5f;
        assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_OK); /* which copies the rows */
    }
    finish(model, of, 3);
    const int first = (int)((id - 2) % 3);
    same(&of[first], &of[(first + 1) % 3]);
    assert_memory_not_equal(of[first].logprobs, of[(first + 2) % 3].logprobs, sizeof(float));

    /* Alone, in pieces of the prompt: the same. */
    cohort_completion alone;
    rows[3 * width + 1] -= 0.5f;
    assert_int_equal(cohort_embed(model, ids, N, rows, &err), COHORT_OK);
    assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_OK);
    finish(model, &alone, 1);
    same(&of[first], &alone);

    rows[7] = NAN;
    assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "embedding of prompt position 0 is nan at element 7"));
    request.prompt_width = 63;
    assert_int_equal(cohort_submit(model, &request, &id, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "prompt_width is 63, the model's is 64"));
    ids[0] = 100000;
    assert_int_equal(cohort_embed(model, ids, 1, rows, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "id 0 is 100000"));
    assert_int_equal(cohort_embed(NULL, ids, 1, rows, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(cohort_model_width(NULL), 0);
    cohort_completion_free(&alone);
    for (int i = 0; i < 3; i++)
        cohort_completion_free(&of[i]);
    free(rows);
    cohort_model_close(model);
}

static void test_f32(void **state)
{
    (void)state;
    check("f32");
}

static void test_bf16(void **state)
{
    (void)state;
    check("bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
