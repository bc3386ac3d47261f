/* Options: the table itself, flags, YAML (every refusal with its place), round trips, help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "run/options_internal.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort-options-XXXXXX";
static char yaml_path[64];

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(yaml_path, sizeof yaml_path, "%s/run.yaml", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static struct options *make(enum option_command command)
{
    struct options *options = NULL;
    cohort_error err = {0};
    if (options_create(&options, command, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return options;
}

static void set(struct options *options, const char *name, const char *value)
{
    cohort_error err = {0};
    if (options_set(options, name, value, "--flag", &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

/* options_set must fail and say all of these. */
static void refuses(struct options *options, const char *name, const char *value, const char *says)
{
    cohort_error err = {0};
    cohort_status status = options_set(options, name, value, "--flag", &err);
    if (status != COHORT_ERR_ARGUMENT || err.status != COHORT_ERR_ARGUMENT)
        fail_msg("%s = '%s' was accepted", name, value);
    if (strncmp(err.message, "--flag: ", 8) != 0 || strstr(err.message, says) == NULL)
        fail_msg("%s = '%s': \"%s\" does not say \"%s\"", name, value, err.message, says);
}

static cohort_status read_yaml_bytes(struct options *options, const char *yaml, size_t length, cohort_error *err)
{
    assert_int_equal(file_write_atomic(yaml_path, yaml, length, NULL), COHORT_OK);
    return options_read_yaml(options, yaml_path, err);
}

static void read_yaml(struct options *options, const char *yaml)
{
    cohort_error err = {0};
    if (read_yaml_bytes(options, yaml, strlen(yaml), &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

/* Reading must fail at "line:column" and say so. */
static void yaml_refuses(const char *yaml, const char *place, const char *says)
{
    struct options *options = make(FOR_GRPO);
    cohort_error err = {0};
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s:%s: ", yaml_path, place);
    cohort_status status = read_yaml_bytes(options, yaml, strlen(yaml), &err);
    if (status != COHORT_ERR_FORMAT || err.status != status)
        fail_msg("'%s' gave status %d, message '%s'", yaml, status, err.message);
    if (strncmp(err.message, prefix, strlen(prefix)) != 0 || strstr(err.message, says) == NULL)
        fail_msg("'%s': \"%s\" is not at %s with \"%s\"", yaml, err.message, place, says);
    options_destroy(options);
}

static bool is_words(enum option_type type)
{
    return type == OPTION_TYPE_ENUM || type == OPTION_TYPE_LIST || type == OPTION_TYPE_STRING;
}

static void test_table(void **state)
{
    (void)state;
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        const struct option_spec *spec = &table[i];
        for (const char *c = spec->name; *c != '\0'; c++)
            assert_true((*c >= 'a' && *c <= 'z') || *c == '_' || (*c >= '0' && *c <= '9'));
        assert_true(spec->commands != 0 && spec->help[0] != '\0' && strlen(spec->help) <= 100);
        assert_null(strchr(spec->help, '\n'));
        /* A name may have two rows for two commands, never two for one: a second would be
         * unreachable. */
        for (size_t j = 0; j < i; j++)
            if (strcmp(table[j].name, spec->name) == 0) {
                assert_int_equal(table[j].commands & spec->commands, 0);
                assert_int_equal(table[j].id, spec->id);
                /* One word of a list for one command may be several for another, loss_type of dpo, or any text for
                 * a third: metric_for_best_model of grpo. */
                if (!((table[j].type == OPTION_TYPE_ENUM && is_words(spec->type)) ||
                      (spec->type == OPTION_TYPE_ENUM && is_words(table[j].type))))
                    assert_int_equal(table[j].type, spec->type);
                /* Both commands that train answer alike: a checkpoint's line is looked up by its name. */
                if ((table[j].commands & FOR_TRAIN) != 0 && (spec->commands & FOR_TRAIN) != 0)
                    assert_true(table[j].resume == spec->resume && table[j].input == spec->input);
            }
        if (spec->type == OPTION_TYPE_INT || spec->type == OPTION_TYPE_FLOAT)
            assert_true(spec->minimum < spec->maximum);
        if (spec->type == OPTION_TYPE_ENUM)
            assert_true(spec->choices[0] != NULL &&
                        (spec->choices[1] != NULL || strcmp(spec->name, "packing_strategy") == 0)); /* TRL has more */
        assert_int_equal(spec->type == OPTION_TYPE_STRING, spec->placeholder != NULL);
        /* Where commands that train have it, and there alone, a run that is resumed may ask. */
        if (((spec->commands & FOR_TRAIN) != 0 || spec->resume == RESUME_PLACE) != (spec->resume != RESUME_NO_RUN))
            fail_msg("%s: what a resumed run may change is said of commands that train, and of no others", spec->name);
        if (spec->type == OPTION_TYPE_BOOL)
            assert_true(spec->fallback != NULL || strcmp(spec->name, "chat") == 0 ||
                        strcmp(spec->name, "thinking") == 0 || strcmp(spec->name, "completion_only_loss") == 0 ||
                        strcmp(spec->name, "greater_is_better") == 0); /* unset means: it depends */
        /* Groups are contiguous, or --help would repeat a heading. */
        if (i > 0 && strcmp(table[i - 1].group, spec->group) != 0)
            for (size_t j = 0; j < i; j++)
                assert_string_not_equal(table[j].group, spec->group);
    }
    size_t n_aliases = 0;
    const struct option_alias *aliases = options_aliases(&n_aliases);
    assert_true(n_aliases > 0);
    for (size_t i = 0; i < n_aliases; i++)
        assert_null(options_row(~0u, aliases[i].name, strlen(aliases[i].name)));
    for (int c = 0; c < N_COMMANDS; c++) /* and every default parses */
        options_destroy(make((enum option_command)(1 << c)));
}

/* OPTION_BETA is the name "beta" in capitals, in every row. */
static void test_names(void **state)
{
    (void)state;
    static const char *const ids[] = {
#define OPTION(id, ...) #id,
#define ALSO(...)
#define ALIAS(...)
#define SYNONYM(...)
#include "run/options_table.h"
    };
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    assert_int_equal(sizeof ids / sizeof *ids, N_OPTIONS);
    for (size_t i = 0; i < count; i++) {
        const char *name = table[i].name, *id = ids[table[i].id];
        for (; *name != '\0' && *id == (*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name); name++, id++)
            ;
        if (*name != '\0' || *id != '\0')
            fail_msg("OPTION_%s is called '%s'", ids[table[i].id], table[i].name);
    }
    assert_int_equal(options_row(FOR_GRPO, "beta: 1", 4)->id, OPTION_BETA);
    assert_null(options_row(FOR_SFT, "beta", 4));
    assert_null(options_row(FOR_GRPO, "bet", 3));
    assert_true(options_row(FOR_SFT, "epochs", 6) != options_row(FOR_GRPO, "epochs", 6));
}

static void test_defaults(void **state)
{
    (void)state;
    struct options *grpo = make(FOR_GRPO), *sft = make(FOR_SFT);
    assert_int_equal(options_int(grpo, OPTION_NUM_GENERATIONS), 8);
    assert_int_equal(options_int(grpo, OPTION_MAX_COMPLETION_LENGTH), 512);
    assert_true(options_float(grpo, OPTION_LEARNING_RATE) == 1e-6);
    assert_true(options_float(sft, OPTION_LEARNING_RATE) == 2e-5);
    assert_int_equal(options_int(sft, OPTION_EPOCHS), 3);
    assert_int_equal(options_int(grpo, OPTION_EPOCHS), 1);
    assert_true(options_float(grpo, OPTION_BETA) == 0 && options_float(grpo, OPTION_EPSILON) == 0.2);
    assert_string_equal(options_choice_word(grpo, OPTION_LOSS_TYPE), "dapo");
    assert_string_equal(options_choice_word(grpo, OPTION_SCALE_REWARDS), "group");
    assert_int_equal(options_choice(grpo, OPTION_LOSS_TYPE), 3);
    /* TRL's (tests/fixtures/loss/switches.json has those of its installed configuration). */
    assert_true(options_float(grpo, OPTION_SAPO_TEMPERATURE_NEG) == 1.05);
    assert_true(options_float(grpo, OPTION_SAPO_TEMPERATURE_POS) == 1.0);
    assert_true(options_float(grpo, OPTION_VESPO_K_POS) == 2.0 && options_float(grpo, OPTION_VESPO_LAMBDA_POS) == 3.0);
    assert_true(options_float(grpo, OPTION_VESPO_K_NEG) == 3.0 && options_float(grpo, OPTION_VESPO_LAMBDA_NEG) == 2.0);
    assert_true(options_float(grpo, OPTION_TOP_ENTROPY_QUANTILE) == 1.0);
    assert_true(options_float(grpo, OPTION_ENTROPY_COEF) == 0.0 && !options_bool(grpo, OPTION_USE_ADAPTIVE_ENTROPY));
    assert_true(options_float(grpo, OPTION_ENTROPY_COEF_MIN) == 0.0);
    assert_true(options_float(grpo, OPTION_ENTROPY_COEF_MAX) == 1.0);
    assert_true(options_float(grpo, OPTION_ENTROPY_COEF_DELTA) == 0.005);
    assert_true(options_float(grpo, OPTION_ENTROPY_TARGET) == 0.2);
    assert_true(options_bool(grpo, OPTION_USE_BIAS_CORRECTION_KL) && !options_bool(grpo, OPTION_KL_IN_REWARD));
    assert_false(options_is_set(grpo, OPTION_OFF_POLICY_MASK_THRESHOLD) || options_is_set(grpo, OPTION_DELTA));
    assert_string_equal(options_choice_word(grpo, OPTION_MULTI_OBJECTIVE_AGGREGATION), "sum_then_normalize");
    assert_string_equal(options_choice_word(grpo, OPTION_KL_ESTIMATOR), "k3");
    assert_string_equal(options_choice_word(grpo, OPTION_ADVANTAGE_ESTIMATOR), "grpo");
    assert_true(options_float(grpo, OPTION_ADVANTAGE_EPSILON) == 1e-4);
    assert_false(options_is_set(grpo, OPTION_EPSILON_HIGH));
    assert_false(options_given(grpo, OPTION_EPSILON));
    assert_true(options_is_set(grpo, OPTION_EPSILON));
    assert_null(options_string(grpo, OPTION_OUT));
    assert_int_equal(options_list_count(grpo, OPTION_REWARD), 0);
    assert_false(options_is_set(grpo, OPTION_THINKING));
    options_destroy(grpo);
    options_destroy(sft);
    options_destroy(NULL);
}

static void test_set(void **state)
{
    (void)state;
    struct options *o = make(FOR_GRPO);
    set(o, "beta", "4e-2");
    assert_true(options_float(o, OPTION_BETA) == 0.04 && options_given(o, OPTION_BETA));
    set(o, "learning-rate", "+.5e-6");
    assert_true(options_float(o, OPTION_LEARNING_RATE) == 5e-7);
    set(o, "seed", "9007199254740992");
    assert_true(options_int(o, OPTION_SEED) == 9007199254740992);
    set(o, "reward", "accuracy,exec:cut -d\\, -f1 \\n");
    assert_int_equal(options_list_count(o, OPTION_REWARD), 2);
    assert_string_equal(options_list_item(o, OPTION_REWARD, 1), "exec:cut -d, -f1 \\n");
    set(o, "reward", "format"); /* adds */
    assert_int_equal(options_list_count(o, OPTION_REWARD), 3);
    assert_string_equal(options_list_item(o, OPTION_REWARD, 2), "format");
    set(o, "reward", ""); /* empties */
    assert_int_equal(options_list_count(o, OPTION_REWARD), 0);
    set(o, "logit_bias", "0:1,151645:-2.5e1");
    set(o, "reward_weights", "1,-0.5");
    assert_string_equal(options_list_item(o, OPTION_REWARD_WEIGHTS, 1), "-0.5");
    set(o, "thinking", "no");
    assert_false(options_bool(o, OPTION_THINKING));
    set(o, "scale_rewards", "none");
    assert_string_equal(options_choice_word(o, OPTION_SCALE_REWARDS), "none");

    refuses(o, "seed", "9007199254740993", "integer");
    refuses(o, "seed", "-1", "0 or more");
    refuses(o, "seed", "4x", "integer");
    refuses(o, "seed", "", "integer");
    refuses(o, "seed", " 4", "integer");
    refuses(o, "seed", "1e3", "integer");
    refuses(o, "seed", "99999999999999999999", "integer");
    refuses(o, "num_generations", "1", "from 2 to 4096");
    refuses(o, "epsilon", "1.01", "from 0 to 1");
    refuses(o, "top_p", "0", "above 0, at most 1");
    static const char *const bad[] = {"nan", "inf", "0x1p-3", "1e999", "1e-999", "0,5",  "1.5 ",
                                      "",    ".",   "e5",     "1e",    "--1",    "1.2.3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refuses(o, "epsilon", bad[i], "a number from 0 to 1");
    refuses(o, "loss_type", "dap", "grpo, bnpo, dr_grpo, dapo");
    refuses(o, "loss_type", "grpo|bnpo", "one of");
    refuses(o, "thinking", "maybe", "true or false");
    set(o, "thinking", "On");
    assert_true(options_bool(o, OPTION_THINKING));
    refuses(o, "reward_weights", "1,x", "numbers");
    refuses(o, "reward", "a,,b", "item 2");
    refuses(o, "logit_bias", "5", "ID:NUMBER");
    refuses(o, "logit_bias", "4294967296:1", "ID:NUMBER");
    refuses(o, "logit_bias", "1:nan", "ID:NUMBER");
    refuses(o, "out", "", "empty");
    /* A refused value leaves the old one. */
    assert_true(options_float(o, OPTION_EPSILON) == 0.2);
    assert_string_equal(options_list_item(o, OPTION_REWARD_WEIGHTS, 0), "1");
    assert_int_equal(options_list_count(o, OPTION_REWARD_WEIGHTS), 2);

    /* Whether the name or the value is wrong is asked, not read from the message. */
    assert_true(options_has(o, "num-generations") && options_is_switch(o, "thinking"));
    assert_false(options_has(o, "num-generation") || options_is_switch(o, "num_generations"));
    /* What a flag means alone, and another name. */
    assert_string_equal(options_alone(o, "thinking"), "true");
    assert_string_equal(options_alone(o, "resume"), "latest");
    assert_null(options_alone(o, "out"));
    assert_null(options_alone(o, "num-generation"));
    assert_int_equal(options_set(o, "max-tokens", "77", "test", NULL), COHORT_OK);
    assert_int_equal(options_int(o, OPTION_MAX_COMPLETION_LENGTH), 77);
    refuses(o, "num-generation", "8", "did you mean 'num_generations'");
    refuses(o, "lerning_rate", "8", "did you mean 'learning_rate'");
    refuses(o, "prefill_step_size", "8", "it is one of generate");
    refuses(o, "zzzzzzzzzz", "8", "cohort grpo --help");
    options_destroy(o);
}

/* Flags' lists take the place of the file's, whichever is read first, for every list there is; they add up among
 * themselves. */
static void test_lists(void **state)
{
    (void)state;
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        const struct option_spec *spec = &table[i];
        if (spec->type != OPTION_TYPE_LIST)
            continue;
        const bool numbers = spec->minimum < spec->maximum;
        static const char *const ids[] = {"1:1", "2:2", "3:3"}, *const pairs[] = {"a=1", "b=2", "c=3"},
                                 *const figures[] = {"1", "2", "3"};
        static const char *const letters[] = {"a", "b", "c"};
        const char *const *words = spec->choices != NULL ? spec->choices /* at least three of them */
                                   : spec->biases        ? ids
                                   : spec->pairs         ? pairs
                                   : numbers             ? figures
                                                         : letters;
        const char *one = words[0], *two = words[1], *three = words[2];
        for (int file_first = 0; file_first < 2; file_first++) {
            struct options *o = make((enum option_command)(spec->commands & ~(spec->commands - 1)));
            char yaml[128];
            snprintf(yaml, sizeof yaml, "%s: [\"%s\", \"%s\"]\n", spec->name, one, one);
            if (file_first)
                read_yaml(o, yaml);
            set(o, spec->name, two);
            set(o, spec->name, three);
            if (!file_first)
                read_yaml(o, yaml);
            assert_int_equal(options_list_count(o, spec->id), 2);
            assert_string_equal(options_list_item(o, spec->id, 0), two);
            assert_string_equal(options_list_item(o, spec->id, 1), three);
            options_destroy(o);
        }
    }
}

/* What is used in single precision must not vanish or become infinite there. */
static void test_single(void **state)
{
    (void)state;
    size_t count = 0, n = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        const struct option_spec *spec = &table[i];
        struct options *o = make((enum option_command)(spec->commands & ~(spec->commands - 1)));
        if (spec->single) {
            assert_int_equal(spec->type, OPTION_TYPE_FLOAT);
            n++;
            /* Where there is a lower bound that is higher, it is what the message tells. */
            const char *says = spec->minimum > 1e-30 ? "expected a number" : "single precision";
            refuses(o, spec->name, "1e-39", says);
            refuses(o, spec->name, "1e-46", says);
            if (spec->minimum <= 1e-30)
                set(o, spec->name, "1.2e-38");
            refuses(o, spec->name, "1e39", "expected a number");
        }
        options_destroy(o);
    }
    assert_true(n >= 14);
    struct options *o = make(FOR_GRPO);
    set(o, "top_p", "1.2e-38");
    set(o, "adam_beta2", "0.9999999");
    assert_true((float)options_float(o, OPTION_ADAM_BETA2) < 1.0f);
    refuses(o, "logit_bias", "1:1e39", "single precision");
    refuses(o, "logit_bias", "1:-1e-40", "single precision");
    options_destroy(o);
}

/* A program may have set a locale with a decimal comma; files and flags do not change their
 * meaning. */
static void test_locale(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && found == NULL; i++)
        found = setlocale(LC_ALL, names[i]);
    struct options *o = make(FOR_GRPO);
    struct text yaml = {0};
    set(o, "epsilon", "0.25");
    assert_true(options_float(o, OPTION_EPSILON) == 0.25);
    assert_int_equal(options_write_yaml(o, &yaml, NULL), COHORT_OK);
    assert_non_null(strstr(yaml.data, "\nepsilon: 0.25\n"));
    setlocale(LC_ALL, "C");
    text_free(&yaml);
    options_destroy(o);
    if (found == NULL)
        skip(); /* no such locale here: the checks above ran in C */
}

static void test_yaml_reads(void **state)
{
    (void)state;
    struct options *o = make(FOR_GRPO);
    set(o, "beta", "0.5");
    read_yaml(o, "# a run\n---\nbeta: 0.25   # the flag wins\n\"learning-rate\": 1e-5\n"
                 "reward: [accuracy, 'exec:p a,b']\nstop:\n  - \"\\n\\n\"\n  - ','\n"
                 "logit_bias: 7:1.5,8:-1\nepsilon_high: null\nmodel: 0.6\nthinking: false\n"
                 "reward_weights: [1, 2.5]\nout: >-\n  runs/a\n  b\n");
    assert_true(options_float(o, OPTION_BETA) == 0.5);
    assert_true(options_float(o, OPTION_LEARNING_RATE) == 1e-5 && options_given(o, OPTION_LEARNING_RATE));
    assert_int_equal(options_list_count(o, OPTION_REWARD), 2);
    assert_string_equal(options_list_item(o, OPTION_REWARD, 1), "exec:p a,b");
    assert_string_equal(options_list_item(o, OPTION_STOP, 0), "\n\n");
    assert_string_equal(options_list_item(o, OPTION_STOP, 1), ",");
    assert_int_equal(options_list_count(o, OPTION_LOGIT_BIAS), 2);
    assert_false(options_is_set(o, OPTION_EPSILON_HIGH));
    assert_string_equal(options_string(o, OPTION_MODEL), "0.6");
    assert_string_equal(options_string(o, OPTION_OUT), "runs/a b");
    assert_false(options_bool(o, OPTION_THINKING));
    assert_string_equal(options_list_item(o, OPTION_REWARD_WEIGHTS, 1), "2.5");
    options_destroy(o);
}

static void test_yaml_refuses(void **state)
{
    (void)state;
    yaml_refuses("", "1:1", "no options");
    yaml_refuses("# nothing\n", "2:1", "no options");
    yaml_refuses("- a\n", "1:1", "mapping");
    yaml_refuses("beta: 0\n---\nseed: 1\n", "2:1", "second document");
    yaml_refuses("beta: 0.1\nlearning_rte: 1e-6\n", "2:1", "did you mean 'learning_rate'");
    yaml_refuses("beta: 0.1\nprefill_step_size: 5\n", "2:1", "not an option of grpo");
    yaml_refuses("seed: 1\nseed: 2\n", "2:1", "given twice");
    yaml_refuses("top_k: 1\ntop-k: 2\n", "2:1", "given twice");
    yaml_refuses("beta: 0.1\nepsilon: big\n", "2:10", "a number from 0 to 1");
    yaml_refuses("seed:\n", "1:6", "no value");
    yaml_refuses("train:\n  beta: 1\n", "1:1", "no option 'train'");
    yaml_refuses("beta:\n  a: 1\n", "2:3", "found a mapping");
    yaml_refuses("beta: [1]\n", "1:7", "found a sequence");
    yaml_refuses("stop: [a, [b]]\n", "1:11", "found a sequence");
    yaml_refuses("stop: [a, ]\nreward: [~]\n", "2:10", "is empty");
    yaml_refuses("reward_weights: [1, a]\n", "1:17", "list of numbers");
    yaml_refuses("? [a]\n: 1\n", "1:3", "name of an option");
    yaml_refuses("model: &x a\nout: b\n", "1:8", "anchors");
    yaml_refuses("model: a\nout: *x\n", "2:6", "aliases");
    yaml_refuses("seed: !!int 3\n", "1:7", "tags");
    yaml_refuses("&top\nseed: 3\n", "1:1", "anchors");
    yaml_refuses("config: other.yaml\n", "1:1", "--config");
    yaml_refuses("model: \"a\\0b\"\n", "1:8", "NUL");
    yaml_refuses("model: \"a\n", "2:1", "not YAML");
    yaml_refuses("model: b: c\n", "1:9", "not YAML");
    yaml_refuses("seed: 1\n\tbeta: 2\n", "2:1", "not YAML");
    yaml_refuses("seed: 1\nmodel: \xff\xfe\n", "2:8", "not YAML");

    struct options *o = make(FOR_GRPO);
    cohort_error err = {0};
    assert_int_equal(options_read_yaml(o, "/nonexistent/x.yaml", &err), COHORT_ERR_IO);
    /* A wrong value is told of even where a flag wins. */
    set(o, "epsilon", "0.3");
    assert_int_equal(read_yaml_bytes(o, "epsilon: 7\n", 11, &err), COHORT_ERR_FORMAT);
    options_destroy(o);
}

/* What is written reads back to the same values, and writing that gives the same text. */
static void test_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {"plain",
                                        "true",
                                        "null",
                                        "~",
                                        "1e5",
                                        " leading",
                                        "a: b # c",
                                        "- x",
                                        "\"q\" 'q' \\",
                                        "tab\tend",
                                        "line\nline\n",
                                        "\r",
                                        "\x01\x1f\x7f",
                                        "h\xc3\xa9\xe2\x80\xa8\xc2\x85\xef\xbb\xbf",
                                        "\xf0\x9f\x98\x80",
                                        "\xef\xbf\xbe",
                                        "&a",
                                        "*a",
                                        "!t",
                                        "%",
                                        "@",
                                        "{",
                                        "[",
                                        ",",
                                        "a,b",
                                        "---"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct options *a = make(FOR_GRPO), *b = make(FOR_GRPO);
        struct text first = {0}, second = {0};
        set(a, "model", texts[i]);
        set(a, "config", "run.yaml");
        set(a, "stop", i % 2 == 0 ? "x,a\\,b,\n" : "");
        set(a, "learning_rate", "1.2345678901234567e-7");
        set(a, "temperature", "0.1");
        set(a, "max_grad_norm", "1e20");
        set(a, "thinking", "0");
        assert_int_equal(options_write_yaml(a, &first, NULL), COHORT_OK);
        assert_null(strstr(first.data, "epsilon_high"));
        assert_null(strstr(first.data, "config"));
        assert_non_null(strstr(first.data, "\nmax_grad_norm: 1.0e+20\n"));
        read_yaml(b, first.data);
        assert_string_equal(options_string(b, OPTION_MODEL), texts[i]);
        assert_true(options_float(b, OPTION_LEARNING_RATE) == 1.2345678901234567e-7);
        assert_true(options_float(b, OPTION_TEMPERATURE) == 0.1);
        assert_int_equal(options_list_count(b, OPTION_STOP), i % 2 == 0 ? 3 : 0);
        if (i % 2 == 0)
            assert_string_equal(options_list_item(b, OPTION_STOP, 1), "a,b");
        assert_int_equal(options_write_yaml(b, &second, NULL), COHORT_OK);
        assert_string_equal(first.data, second.data);
        text_free(&first);
        text_free(&second);
        options_destroy(a);
        options_destroy(b);
    }
    struct options *o = make(FOR_GRPO);
    struct text out = {0};
    cohort_error err = {0};
    set(o, "model", "\xff");
    assert_int_equal(options_write_yaml(o, &out, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "model"));
    text_free(&out);
    options_destroy(o);
}

static void test_help(void **state)
{
    (void)state;
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    for (int c = 0; c < N_COMMANDS; c++) {
        struct text help = {0};
        assert_int_equal(options_write_help((enum option_command)(1 << c), 0, &help, NULL), COHORT_OK);
        for (const char *line = help.data; *line != '\0';) {
            size_t n = strcspn(line, "\n");
            if (n > 100 || (n > 0 && line[n - 1] == ' '))
                fail_msg("%zu columns: %.*s", n, (int)n, line);
            line += n + 1;
        }
        for (size_t i = 0; i < count; i++) {
            char flag[64] = "  --";
            bool on = table[i].type == OPTION_TYPE_BOOL && table[i].fallback != NULL &&
                      strcmp(table[i].fallback, "true") == 0;
            snprintf(flag, sizeof flag, "\n  --%s%s", on ? "no-" : "", table[i].name);
            for (char *at = flag; *at != '\0'; at++)
                if (*at == '_')
                    *at = '-';
            if ((table[i].commands & (1u << c)) != 0 && strstr(help.data, flag) == NULL)
                fail_msg("no %s in the help of command %d", flag + 1, c);
        }
        text_free(&help);
    }
    struct text docs = {0};
    assert_int_equal(options_write_docs(&docs, NULL), COHORT_OK);
    for (size_t i = 0; i < count; i++) {
        char cell[80];
        snprintf(cell, sizeof cell, "\n| `%s` |", table[i].name);
        assert_non_null(strstr(docs.data, cell));
    }
    /* Each row has its five cells: a bare bar in a text would make more. */
    for (const char *line = docs.data; *line != '\0';) {
        size_t n = strcspn(line, "\n"), bars = 0;
        for (size_t i = 0; i < n; i++)
            bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
        if (line[0] == '|' && bars != 6)
            fail_msg("%zu bars: %.*s", bars, (int)n, line);
        line += n + 1;
    }
    text_free(&docs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),      cmocka_unit_test(test_names),      cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_set),        cmocka_unit_test(test_locale),     cmocka_unit_test(test_lists),
        cmocka_unit_test(test_single),     cmocka_unit_test(test_yaml_reads), cmocka_unit_test(test_yaml_refuses),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
