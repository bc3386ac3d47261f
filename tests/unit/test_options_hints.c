/* Names of other programs: every field of TRL's configurations and of transformers' TrainingArguments
 * (tests/fixtures/other_options.txt) is an option of ours or has a hint, and every hint names options that exist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "run/options_internal.h"

#include <stdio.h>
#include <string.h>

static bool in_table(const char *name, size_t length)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++)
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
            return true;
    return false;
}

static void test_hints(void **state)
{
    (void)state;
    size_t count = 0;
    const struct option_hint *hints = options_hints(&count);
    assert_true(count > 300);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(hints[i - 1].name, hints[i].name) >= 0)
            fail_msg("'%s' and '%s' are not in order", hints[i - 1].name, hints[i].name);
        if (hints[i].targets == NULL && hints[i].says == NULL)
            fail_msg("the hint of '%s' says nothing", hints[i].name);
        for (const char *at = hints[i].targets; at != NULL && *at != '\0';) {
            size_t n = strcspn(at, "|");
            if (!in_table(at, n))
                fail_msg("'%s' leads to '%.*s', which is no option", hints[i].name, (int)n, at);
            at += n;
            at += *at == '|';
        }
    }
}

static void test_fields(void **state)
{
    (void)state;
    struct text names = {0};
    size_t n_names = 0;
    assert_int_equal(file_read(COHORT_SOURCE_DIR "/tests/fixtures/other_options.txt", 1 << 16, &names, NULL),
                     COHORT_OK);
    for (const char *line = names.data; *line != '\0';) {
        size_t n = strcspn(line, "\n");
        char name[128];
        if (*line != '#') {
            snprintf(name, sizeof name, "%.*s", (int)n, line);
            if (!in_table(name, n) && options_hint(name) == NULL)
                fail_msg("'%s' is no option and has no hint", name);
            n_names++;
        }
        line += n + (line[n] == '\n');
    }
    assert_true(n_names > 300);
    text_free(&names);
}

static void says(enum option_command command, const char *name, const char *what)
{
    struct options *options = NULL;
    cohort_error err = {0};
    assert_int_equal(options_create(&options, command, NULL), COHORT_OK);
    assert_int_equal(options_set(options, name, "1", "run.yaml:1", &err), COHORT_ERR_ARGUMENT);
    if (strncmp(err.message, "run.yaml:1: ", 12) != 0 || strstr(err.message, what) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", name, err.message, what);
    options_destroy(options);
}

static void test_messages(void **state)
{
    (void)state;
    says(FOR_SFT, "max_steps", "sft has no option 'max_steps': it is called 'steps' here");
    says(FOR_GRPO, "max-steps", "it is called 'steps'");
    says(FOR_SFT, "train_batch_size", "called 'batch_size' here");
    says(FOR_GRPO, "train_batch_size", "called 'prompts_per_step' here");
    says(FOR_EVAL, "num_generations_eval", "it is called 'n' here");
    says(FOR_SFT, "reward_funcs", "called 'reward' here (an option of grpo, eval, score)");
    says(FOR_GRPO, "vllm_server_host", "one engine");
    says(FOR_GRPO, "vllm-mode", "one engine");
    says(FOR_GRPO, "clip_ratio_c", "called 'delta' here");
    says(FOR_SFT, "vespo_k_pos", "not an option of sft (it is one of grpo)");
    says(FOR_GENERATE, "temp", "called 'temperature'");
    says(FOR_GENERATE, "n_predict", "called 'max_completion_length'");
    says(FOR_SFT, "scale_rewards", "not an option of sft (it is one of grpo)");
    says(FOR_GRPO, "neftune_noise_alpha", "not an option of grpo (it is one of sft)");
    says(FOR_GRPO, "lerning_rate", "did you mean 'learning_rate'"); /* a slip, no name of others */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
