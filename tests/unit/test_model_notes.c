/* What the C API tells of how a model was read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "support/temporary_folder.h"

#include <string.h>

static void must(cohort_status status, const cohort_error *err)
{
    if (status != COHORT_OK)
        fail_msg("%s", err->message);
}

static cohort_options *options_of(cohort_command command, const char *const *pairs)
{
    cohort_error err = {0};
    cohort_options *options = NULL;
    must(cohort_options_create(&options, command, &err), &err);
    for (; *pairs != NULL; pairs += 2)
        must(cohort_options_set(options, pairs[0], pairs[1], NULL, &err), &err);
    return options;
}

/* A model that init writes with this type, whose config then says another. */
static void make_model(const char *path, const char *dtype, const char *from, const char *to)
{
    cohort_error err = {0};
    const char *const pairs[] = {"preset", "nano", "tokenizer", "bytes", "dtype", dtype, "out", path, NULL};
    cohort_options *options = options_of(COHORT_INIT, pairs);
    must(cohort_run(options, NULL, &err), &err);
    cohort_options_destroy(options);
    char *config = NULL;
    struct text text = {0}, changed = {0};
    must(file_join(&config, path, "config.json", &err), &err);
    must(file_read(config, 0, &text, &err), &err);
    char *at = strstr(text.data, from);
    assert_non_null(at);
    must(text_printf(&changed, &err, "%.*s%s%s", (int)(at - text.data), text.data, to, at + strlen(from)), &err);
    must(file_write_atomic(config, changed.data, changed.length, &err), &err);
    text_free(&text);
    text_free(&changed);
    mem_free(config);
}

static void check_notes(const char *path, const char *dtype, const char *expected)
{
    cohort_error err = {0};
    cohort_model *model = NULL;
    const char *const pairs[] = {"model", path, "dtype", dtype, "device", "cpu", NULL};
    cohort_options *options = options_of(COHORT_GENERATE, pairs);
    must(cohort_model_open(&model, options, 64, &err), &err);
    if (expected == NULL)
        assert_string_equal(cohort_model_notes(model), "");
    else if (strstr(cohort_model_notes(model), expected) == NULL)
        fail_msg("%s", cohort_model_notes(model));
    cohort_model_close(model);
    cohort_options_destroy(options);
}

static void test_notes(void **state)
{
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s", in_folder("single"));
    make_model(path, "f32", "\"float32\"", "\"bfloat16\"");
    check_notes(path, "auto",
                "24 of 24 tensors are F32, config.json says bfloat16: they are "
                "rounded to BF16");
    check_notes(path, "bf16", NULL);
    check_notes(path, "f32", NULL);
    snprintf(path, sizeof path, "%s", in_folder("half"));
    make_model(path, "bf16", "\"bfloat16\"", "null");
    check_notes(path, "auto", NULL);
    assert_string_equal(cohort_model_notes(NULL), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_notes, setup)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
