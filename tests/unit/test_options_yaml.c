/* Scalars of a YAML file against what PyYAML and argparse make of them for TRL's configurations
 * (tests/fixtures/yaml_scalars.json, written by oracle/yaml_scalars.py): the same value, or refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/number.h"
#include "run/options.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A file in memory: thousands of real ones would be mostly waiting. */
static int file = -1;
static char yaml_path[64];

static int open_file(void **state)
{
    (void)state;
    file = memfd_create("run.yaml", MFD_CLOEXEC);
    snprintf(yaml_path, sizeof yaml_path, "/proc/self/fd/%d", file);
    return file >= 0 ? 0 : -1;
}

static int close_file(void **state)
{
    (void)state;
    return close(file);
}

static void write_file(const char *bytes, size_t length)
{
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(pwrite(file, bytes, length, 0), length);
}

/* Options of grpo after reading one line, or NULL and the message. */
static struct options *read_line(const char *key, const char *between, const char *text, cohort_error *err)
{
    struct options *options = NULL;
    struct text yaml = {0};
    assert_int_equal(text_printf(&yaml, NULL, "%s%s%s\n", key, between, text), COHORT_OK);
    write_file(yaml.data, yaml.length);
    text_free(&yaml);
    assert_int_equal(options_create(&options, FOR_GRPO, NULL), COHORT_OK);
    if (options_read_yaml(options, yaml_path, err) == COHORT_OK)
        return options;
    options_destroy(options);
    return NULL;
}

/* What YAML 1.1 and 1.2 read as different numbers, or not as one scalar of our own. */
static bool may_be_refused(const char *text, const char *message)
{
    const bool octal = strstr(message, "is octal to YAML 1.1") != NULL;
    const bool base_60 = strstr(message, "in base 60 to YAML 1.1") != NULL;
    const bool tag = strstr(message, "tags are not supported") != NULL;
    const bool vanishes = strstr(text, "e-400") != NULL; /* zero, which was not written */
    return vanishes || (octal && strchr(text, '0') != NULL) || (base_60 && strchr(text, ':') != NULL) ||
           (tag && strncmp(text, "!!", 2) == 0);
}

static void check_number(const char *text, bool integer, const json_t *expected)
{
    cohort_error err = {0};
    const double right = json_number_value(expected);
    const bool negative = json_is_number(expected) && (right < 0 || signbit(right));
    struct options *o = read_line(integer ? "seed" : "max_grad_norm", ": ", text, &err);
    if (o != NULL) {
        double value = integer ? (double)options_int(o, OPTION_SEED) : options_float(o, OPTION_MAX_GRAD_NORM);
        if (!json_is_number(expected) || value != right)
            fail_msg("%s as %s is %.17g, expected %s%.17g", text, integer ? "int" : "float", value,
                     json_is_number(expected) ? "" : "an error, not ", right);
        options_destroy(o);
    } else if (json_is_number(expected) && !negative && !may_be_refused(text, err.message)) {
        fail_msg("%s as %s: \"%s\", expected %.17g", text, integer ? "int" : "float", err.message, right);
    }
    if (integer)
        return;
    o = read_line("reward_weights", ":\n- ", text, &err); /* of either sign */
    if (o != NULL) {
        const char *item = options_list_item(o, OPTION_REWARD_WEIGHTS, 0);
        double value = 0.0;
        if (!json_is_number(expected) || !number_read(item, strlen(item), &value) || value != right)
            fail_msg("- %s is %s, expected %.17g", text, item, right);
        options_destroy(o);
    } else if (json_is_number(expected) && !may_be_refused(text, err.message)) {
        fail_msg("- %s: \"%s\", expected %.17g", text, err.message, right);
    }
}

static void check_bool(const char *text, const json_t *expected)
{
    cohort_error err = {0};
    struct options *o = read_line("thinking", ": ", text, &err);
    /* "on" in quotes is an error there and means to us what it means without. */
    const bool quoted_on = strchr("\"'", text[0]) != NULL && (text[1] == 'o' || text[1] == 'O');
    if (o != NULL && !quoted_on &&
        (!json_is_boolean(expected) || options_bool(o, OPTION_THINKING) != (bool)json_is_true(expected)))
        fail_msg("%s is %d as a bool", text, (int)options_bool(o, OPTION_THINKING));
    if (o == NULL && json_is_boolean(expected) && !may_be_refused(text, err.message))
        fail_msg("%s: \"%s\", expected a bool", text, err.message);
    if (o == NULL && strstr(err.message, ":1:1") == NULL)
        fail_msg("%s: no place in \"%s\"", text, err.message);
    options_destroy(o);
}

static void test_scalars(void **state)
{
    (void)state;
    json_t *rows = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/yaml_scalars.json", 0, NULL);
    size_t i = 0;
    json_t *row = NULL;
    assert_true(json_array_size(rows) > 1000);
    json_array_foreach(rows, i, row)
    {
        const char *text = json_string_value(json_object_get(row, "text"));
        check_number(text, true, json_object_get(row, "int"));
        check_number(text, false, json_object_get(row, "float"));
        check_bool(text, json_object_get(row, "bool"));
    }
    json_decref(rows);
}

static void refused(const char *key, const char *text, const char *says)
{
    cohort_error err = {0};
    struct options *o = read_line(key, ": ", text, &err);
    if (o != NULL || strstr(err.message, says) == NULL)
        fail_msg("%s: %s: \"%s\" does not say \"%s\"", key, text, err.message, says);
}

/* Refused by name, with what to do. */
static void test_reasons(void **state)
{
    (void)state;
    refused("seed", "1:30", "base 60");
    refused("learning_rate", "1:30.5", "base 60");
    refused("seed", "010", "octal");
    refused("learning_rate", "010", "octal");
    refused("reward_weights", "[1, 010]", "octal");
    refused("seed", "8.0", "expected an integer");
    refused("seed", "1e3", "expected an integer");
    refused("learning_rate", ".inf", "expected a number from 0 to 10");
    refused("learning_rate", ".NaN", "expected a number from 0 to 10");
    refused("thinking", "maybe", "true or false");
    refused("<<", "*base", "merge keys");
    refused("iters", "5", "'steps'");
    refused("seed", "[1]", "found a sequence");
    refused("learning_rate", "1e-40", "single precision");
    refused("learning_rate", "\"1e-40\"", "single precision");
}

/* Bytes around the scalars: a byte order mark, line ends of Windows, UTF-16. */
static void test_bytes(void **state)
{
    (void)state;
    static const char marked[] = "\xef\xbb\xbfseed: 7\r\nreward:\r\n- accuracy\r\n";
    static const char wide[] = "\xff\xfes\0e\0e\0d\0:\0 \0007\0\n\0";
    for (int i = 0; i < 2; i++) {
        struct options *o = NULL;
        cohort_error err = {0};
        write_file(i == 0 ? marked : wide, i == 0 ? sizeof marked - 1 : sizeof wide - 1);
        assert_int_equal(options_create(&o, FOR_GRPO, NULL), COHORT_OK);
        if (options_read_yaml(o, yaml_path, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_int_equal(options_int(o, OPTION_SEED), 7);
        assert_int_equal(options_list_count(o, OPTION_REWARD), i == 0 ? 1 : 0);
        options_destroy(o);
    }
}

/* A long list in one scalar is not cut. */
static void test_long_list(void **state)
{
    (void)state;
    struct text list = {0};
    cohort_error err = {0};
    for (int i = 0; i < 500; i++)
        assert_int_equal(text_printf(&list, NULL, "%s%d.25", i == 0 ? "" : ",", i), COHORT_OK);
    struct options *o = read_line("reward_weights", ": ", list.data, &err);
    assert_non_null(o);
    assert_int_equal(options_list_count(o, OPTION_REWARD_WEIGHTS), 500);
    assert_string_equal(options_list_item(o, OPTION_REWARD_WEIGHTS, 499), "499.25");
    options_destroy(o);
    text_free(&list);
}

/* Parameters are a mapping, as TRL's files have it, or a list; numbers are read as elsewhere. */
static void test_parameters(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "{num_decay_steps: 0x10, warmup_type: 1-sqrt, min_lr_ratio: null, lr_end: 0.0_1}",
        "\n  num_decay_steps: '16'\n  warmup_type: \"1-sqrt\"\n  num_cycles:\n  lr_end: 0.01",
        "[num_decay_steps=16, warmup_type=1-sqrt, lr_end=0.01]", "num_decay_steps=16,warmup_type=1-sqrt,lr_end=0.01"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        cohort_error err = {0};
        struct options *o = read_line("lr_scheduler_kwargs", ": ", forms[i], &err);
        if (o == NULL)
            fail_msg("%s: %s", forms[i], err.message);
        assert_int_equal(options_list_count(o, OPTION_LR_SCHEDULER_KWARGS), 3);
        assert_string_equal(options_list_item(o, OPTION_LR_SCHEDULER_KWARGS, 0), "num_decay_steps=16");
        assert_string_equal(options_list_item(o, OPTION_LR_SCHEDULER_KWARGS, 1), "warmup_type=1-sqrt");
        assert_string_equal(options_list_item(o, OPTION_LR_SCHEDULER_KWARGS, 2), "lr_end=0.01");
        options_destroy(o);
    }
    static const struct {
        const char *key, *text, *says;
    } wrong[] = {
        {"lr_scheduler_kwargs", "{num_cycles: {a: 1}}", ":1:35: expected the value of a parameter, found a mapping"},
        {"lr_scheduler_kwargs", "{[a]: 1}", "expected the name of a parameter, found a sequence"},
        {"lr_scheduler_kwargs", "{num_cycles: 010}", "lr_scheduler_kwargs cannot be 010, which is octal to YAML 1.1"},
        {"lr_scheduler_kwargs", "{'': 1}", "lr_scheduler_kwargs cannot be '=1': expected a list of NAME=VALUE"},
        {"lr_scheduler_kwargs", "&a {num_cycles: 1}", "anchors are not supported"},
        {"lr_scheduler_kwargs", "{num_cycles: *a}", "alias"},
        {"lr_scheduler_kwargs", "{num_cycles: 1", "yaml"},
        {"lr_scheduler_kwargs", "'{\"num_cycles\": 2}'", "expected a list of NAME=VALUE"},
        {"stop", "{a: b}", "expected a list, found a mapping"},
        {"lr_scheduler_type", "greedy", "cannot be 'greedy', which follows a metric of evaluations"},
        {"lr_scheduler_type", "reduce_lr_on_plateau", "'reduce_lr_on_plateau', which follows a metric"},
        {"lr_scheduler_type", "wsd", "'wsd', which is called warmup_stable_decay: expected one of"},
        {"warmup_steps", "-0.1", "warmup_steps cannot be '-0.1': expected a number, 0 or more"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cohort_error err = {0};
        assert_null(read_line(wrong[i].key, ": ", wrong[i].text, &err));
        if (strstr(err.message, wrong[i].says) == NULL && strcmp(wrong[i].says, "yaml") != 0)
            fail_msg("%s: '%s' does not say '%s'", wrong[i].text, err.message, wrong[i].says);
    }
}

/* A count that may be a share is written as the integer that it was in files of before. */
static void test_count(void **state)
{
    (void)state;
    static const char *const counts[][2] = {{"0", "0"}, {"10", "10"}, {"10.0", "10"}, {"0.03", "0.03"}, {"1.5", "1.5"}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        char line[64];
        struct text yaml = {0};
        cohort_error err = {0};
        struct options *o = read_line("warmup_steps", ": ", counts[i][0], &err);
        assert_non_null(o);
        assert_int_equal(options_write_yaml(o, &yaml, &err), COHORT_OK);
        snprintf(line, sizeof line, "\nwarmup_steps: %s\n", counts[i][1]);
        assert_non_null(strstr(yaml.data, line));
        text_free(&yaml);
        options_destroy(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),   cmocka_unit_test(test_reasons),    cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_long_list), cmocka_unit_test(test_parameters), cmocka_unit_test(test_count),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}
