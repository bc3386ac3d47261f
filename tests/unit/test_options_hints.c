/* Names of other programs: every field of TRL's configurations and of transformers' TrainingArguments
 * (tests/fixtures/other_options.txt) is an option of ours, another name of one, or has a hint, and every hint names options that exist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "run/options_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool in_table(const char *name, size_t length)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++)
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
            return true;
    return false;
}

static bool is_alias(const char *name)
{
    size_t count = 0;
    const struct option_alias *aliases = options_aliases(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(aliases[i].name, name) == 0)
            return true;
    return false;
}

static void check_table(const struct option_hint *hints, size_t count)
{
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

static void test_hints(void **state)
{
    (void)state;
    size_t count = 0;
    const struct option_hint *hints = options_hints(&count);
    assert_true(count > 300);
    check_table(hints, count);
    hints = options_hints_more(&count);
    check_table(hints, count);
    for (size_t i = 0; i < count; i++) /* a name is in one of the two */
        assert_ptr_equal(options_hint(hints[i].name), &hints[i]);
}

static void check_fields(const char *path, size_t least)
{
    struct text names = {0};
    size_t n_names = 0;
    assert_int_equal(file_read(path, 1 << 16, &names, NULL), COHORT_OK);
    for (const char *line = names.data; *line != '\0';) {
        size_t n = strcspn(line, "\n");
        char name[128];
        if (*line != '#') {
            snprintf(name, sizeof name, "%.*s", (int)n, line);
            const char *dot = strrchr(name, '.');
            const bool own = dot == NULL ? in_table(name, n) : in_table(dot + 1, strlen(dot + 1));
            if (!own && !is_alias(name) && options_hint(name) == NULL)
                fail_msg("'%s' is no option and has no hint", name);
            n_names++;
        }
        line += n + (line[n] == '\n');
    }
    assert_true(n_names > least);
    text_free(&names);
}

static void test_fields(void **state)
{
    (void)state;
    check_fields(COHORT_SOURCE_DIR "/tests/fixtures/other_options.txt", 300);
    check_fields(COHORT_SOURCE_DIR "/tests/fixtures/verl_llama_options.txt", 190);
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
    says(FOR_EVAL, "max_steps",
         "eval has no option 'max_steps', called 'steps' here (an option of sft, grpo, dpo, kto, orpo, cpo, "
         "rloo, reward, distill)");
    says(FOR_GRPO, "train-data", "it is called 'data'");
    says(FOR_SFT, "train_batch_size", "called 'batch_size' here");
    says(FOR_GRPO, "train_batch_size", "called 'prompts_per_step' here");
    says(FOR_EVAL, "num_generations_eval", "it is called 'n' here");
    says(FOR_SFT, "reward_funcs", "called 'reward' here (an option of grpo, eval, score, rloo, distill)");
    says(FOR_GRPO, "vllm_server_host", "one engine");
    says(FOR_GRPO, "vllm-mode", "one engine");
    says(FOR_SFT, "bema_update_freq",
         "called 'ema_decay' here; the bias-corrected mean of TRL's BEMACallback is not there");
    says(FOR_GRPO, "clip_ratio_c", "called 'delta' here");
    says(FOR_SFT, "vespo_k_pos", "not an option of sft (it is one of grpo, rloo)");
    says(FOR_GENERATE, "temp", "called 'temperature'");
    says(FOR_GENERATE, "n_predict", "called 'max_completion_length'");
    says(FOR_SFT, "scale_rewards", "not an option of sft (it is one of grpo, rloo)");
    says(FOR_GRPO, "neftune_noise_alpha", "not an option of grpo (it is one of sft)");
    says(FOR_GRPO, "actor_rollout_ref.rollout.n", "it is called 'num_generations' here");
    says(FOR_GRPO, "actor_rollout_ref.actor.optim.lr", "it is called 'learning_rate' here");
    says(FOR_GRPO, "data.max_prompt_length", "no groups here: it is called 'max_prompt_length'");
    says(FOR_GRPO, "critic.optim.lr", "there is no critic");
    says(FOR_GENERATE, "rope-freq-base", "how positions are rotated");
    says(FOR_GRPO, "lerning_rate", "did you mean 'learning_rate'"); /* a slip, no name of others */
}

/* Every synonym is taken by every command that has the option, as flag and in a file, and nowhere beside its own name. */
static void test_synonyms(void **state)
{
    (void)state;
    size_t count = 0, taken = 0;
    const struct option_synonym *synonyms = options_synonyms(&count);
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < N_COMMANDS; c++) {
            struct options *options = NULL;
            struct text notes = {0};
            char want[96];
            assert_false(in_table(synonyms[i].name, strlen(synonyms[i].name)));
            assert_non_null(options_hint(synonyms[i].name)); /* for commands without the option */
            assert_int_equal(options_create(&options, (enum option_command)(1 << c), NULL), COHORT_OK);
            struct option_value *value = options->by_id[synonyms[i].id];
            assert_ptr_equal(options_find(options, synonyms[i].name), value);
            assert_int_equal(options_notes(options, &notes, NULL), COHORT_OK);
            assert_int_equal(notes.length, 0);
            if (value != NULL) {
                cohort_error err = {0};
                assert_int_equal(options_set(options, synonyms[i].name, "7", "--x", NULL), COHORT_OK);
                assert_string_equal(value->text, "7");
                assert_int_equal(options_notes(options, &notes, NULL), COHORT_OK);
                snprintf(want, sizeof want, "note: %s is called %s here", synonyms[i].name, value->spec->name);
                assert_string_equal(notes.data, want);
                assert_int_equal(options_set(options, value->spec->name, "8", "--y", &err), COHORT_ERR_ARGUMENT);
                assert_non_null(strstr(err.message, "--y: "));
                assert_non_null(strstr(err.message, synonyms[i].name));
                assert_string_equal(value->text, "7");
                taken++;
            }
            text_free(&notes);
            options_destroy(options);
        }
    assert_true(taken > 20);
}

static void read_as(const char *name, const char *value, enum option_id id, const char *want)
{
    for (int file = 0; file < 2; file++) {
        struct options *options = NULL;
        cohort_error err = {0};
        char path[] = "/tmp/cohort-synonym-XXXXXX";
        const int fd = mkstemp(path);
        assert_int_equal(options_create(&options, FOR_GRPO, NULL), COHORT_OK);
        assert_true(fd >= 0 && dprintf(fd, "%s: %s\n", name, value) > 0);
        if ((file ? options_read_yaml(options, path, &err) : options_set(options, name, value, "--x", &err)) !=
            COHORT_OK)
            fail_msg("%s: %s", name, err.message);
        const char *text = options->by_id[id]->given ? options->by_id[id]->text : NULL;
        if (want == NULL ? text != NULL : text == NULL || strcmp(text, want) != 0)
            fail_msg("%s %s is %s", name, value, text);
        options_destroy(options);
        close(fd);
        unlink(path);
    }
}

/* What TRL and transformers write for the values. */
static void test_synonym_values(void **state)
{
    (void)state;
    read_as("max_steps", "-1", OPTION_STEPS, NULL);
    read_as("max_steps", "12", OPTION_STEPS, "12");
    read_as("num_train_epochs", "3.0", OPTION_EPOCHS, "3");
    read_as("num_train_epochs", "2", OPTION_EPOCHS, "2");
    read_as("resume_from_checkpoint", "true", OPTION_RESUME, "latest");
    read_as("resume_from_checkpoint", "False", OPTION_RESUME, NULL);
    read_as("resume_from_checkpoint", "runs/a/checkpoints/step-2", OPTION_RESUME, "runs/a/checkpoints/step-2");
    struct options *options = NULL;
    cohort_error err = {0};
    assert_int_equal(options_create(&options, FOR_GRPO, NULL), COHORT_OK);
    assert_int_equal(options_set(options, "num_train_epochs", "0.5", "--x", &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "epochs cannot be '0.5'"));
    assert_int_equal(options_set(options, "max_steps", "0", "--x", &err), COHORT_ERR_ARGUMENT);
    assert_string_equal(options_alone(options, "resume-from-checkpoint"), "latest");
    options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hints),    cmocka_unit_test(test_fields),         cmocka_unit_test(test_messages),
        cmocka_unit_test(test_synonyms), cmocka_unit_test(test_synonym_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
