/* JSON schemas against python-jsonschema's verdicts (tests/fixtures/json_schema.json, oracle/json_schema_cases.py), what is
 * refused in a schema with its place, and the reward json_schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "guide/json_schema.h"
#include "reward/reward.h"
#include "support/score_one.h"

#include <math.h>
#include <string.h>

static void test_verdicts(void **state)
{
    (void)state;
    json_error_t error;
    json_t *cases = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/json_schema.json", 0, &error);
    if (cases == NULL)
        fail_msg("json_schema.json:%d: %s", error.line, error.text);
    size_t failed = 0, checked = 0;
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *item = json_array_get(cases, c), *schema = json_object_get(item, "schema"),
                     *values = json_object_get(item, "values");
        const char *expected = json_string_value(json_object_get(item, "valid"));
        cohort_error err = {0};
        if (json_schema_check(schema, "schema", &err) != COHORT_OK)
            fail_msg("%s", err.message);
        for (size_t i = 0; i < json_array_size(values); i++, checked++) {
            bool valid = false;
            assert_int_equal(json_schema_valid(schema, schema, json_array_get(values, i), &valid, &err), COHORT_OK);
            if (valid != (expected[i] == '1')) {
                print_error("schema %zu, value %zu: %s\n", c, i, valid ? "valid" : "not valid");
                failed++;
            }
        }
    }
    json_decref(cases);
    assert_int_equal(failed, 0);
    assert_true(checked > 2500);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *says;
        cohort_status status;
    } wrong[] = {
        {"3", "schema: at #: expected a schema", COHORT_ERR_FORMAT},
        {"{\"properties\": {\"a\": {\"contains\": {}}}}", "at #/properties/a/contains: this keyword is not supported",
         COHORT_ERR_UNSUPPORTED},
        {"{\"anyOf\": [{}, {\"if\": {}}]}", "at #/anyOf/1/if: ", COHORT_ERR_UNSUPPORTED},
        {"{\"type\": \"text\"}", "at #/type: expected null, boolean", COHORT_ERR_FORMAT},
        {"{\"type\": []}", "at #/type: ", COHORT_ERR_FORMAT},
        {"{\"items\": [3]}", "at #/items/0: expected a schema", COHORT_ERR_FORMAT},
        {"{\"required\": [\"a\", 1]}", "at #/required/1: expected the name", COHORT_ERR_FORMAT},
        {"{\"minimum\": \"1\"}", "at #/minimum: expected a number", COHORT_ERR_FORMAT},
        {"{\"multipleOf\": 0}", "at #/multipleOf: expected a number above 0", COHORT_ERR_FORMAT},
        {"{\"maxLength\": -1}", "at #/maxLength: expected a whole number", COHORT_ERR_FORMAT},
        {"{\"pattern\": \"(\"}", "at #/pattern: expected a regular expression", COHORT_ERR_FORMAT},
        {"{\"oneOf\": []}", "at #/oneOf: expected a list of schemas", COHORT_ERR_FORMAT},
        {"{\"$ref\": \"other.json\"}", "at #/$ref: expected a reference", COHORT_ERR_UNSUPPORTED},
        {"{\"$ref\": \"#/$defs/none\"}", "at #/$ref: ", COHORT_ERR_UNSUPPORTED},
        {"{\"$ref\": \"#\"}", "at #/$ref: the references go in a circle", COHORT_ERR_FORMAT},
        {"{\"$defs\": {\"a\": {\"$ref\": \"#/$defs/b\"}, \"b\": {\"$ref\": \"#/$defs/a\"}}}", "circle",
         COHORT_ERR_FORMAT},
        {"{\"uniqueItems\": 1}", "at #/uniqueItems: expected true or false", COHORT_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *schema = json_loads(wrong[i].schema, JSON_DECODE_ANY, NULL);
        cohort_error err = {0};
        assert_non_null(schema);
        assert_int_equal(json_schema_check(schema, "schema", &err), wrong[i].status);
        if (strstr(err.message, wrong[i].says) == NULL)
            fail_msg("'%s' lacks '%s'", err.message, wrong[i].says);
        json_decref(schema);
    }
}

static double score(const char *schema, const char *row, const char *completion)
{
    return score_one("json_schema", &(struct reward_options){.schema = schema}, row, completion);
}

static void test_reward(void **state)
{
    (void)state;
    static const char schema[] =
        "{\"type\": \"object\", \"required\": [\"name\", \"value\"], \"properties\": {\"name\": "
        "true, \"value\": {\"type\": \"integer\"}}, \"additionalProperties\": false}";
    static const struct {
        const char *completion;
        double value;
    } cases[] = {
        {"{\"name\": \"test\", \"value\": 42}", 1.0}, /* mlx-node's own examples */
        {"{\"name\": \"test\"}", 0.5},
        {"no JSON", 0.0},
        {"", 0.0},
        {"{\"name\": \"test\", \"value\": 4", 0.0},
        {"{\"name\": \"test\", \"value\": \"4\"}", 0.5},
        {"{\"name\": \"test\", \"value\": 4, \"more\": 1}", 0.9},
        {"\"name\" and \"value\"", 0.0},
        {"<think>{\"name\": 1, \"value\": 1}</think>\n{\"name\": 1}", 0.5},
        {"<think>[1]</think>\n```json\n{\"name\": 1, \"value\": 1}\n```\n", 1.0},
        {"Here [1] it is: {\"name\": \"a}b\", \"value\": 1} and {}.", 1.0},
        {"[[[{\"name\": 1, \"value\": 1}", 1.0},
        {"3", 0.0},
        {"}{", 0.0},
        {"{\"name\": \"\\", 0.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const double value = score(schema, "{}", cases[i].completion);
        if (value != cases[i].value)
            fail_msg("'%s' gets %g, expected %g", cases[i].completion, value, cases[i].value);
    }
    assert_true(score(NULL, "{\"schema\": {\"type\": \"integer\"}}", "4") == 1);
    assert_true(score(NULL, "{\"schema\": \"{\\\"type\\\": \\\"integer\\\"}\"}", "4.5") == 0);
    /* A value that takes too many steps is not valid, whatever the schema says. */
    static const char deep[] =
        "{\"not\": {\"anyOf\": [{\"items\": {\"$ref\": \"#\"}}, {\"items\": {\"$ref\": \"#\"}}]}}";
    char nested[401];
    memset(nested, '[', 200);
    memset(nested + 200, ']', 200);
    nested[400] = '\0';
    assert_true(score(deep, "{}", nested) == 0);
}

static void test_reward_refused(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *row, *says;
    } wrong[] = {
        {NULL, "{}", "no JSON schema in its column 'schema'"},
        {NULL, "{\"schema\": 3}", "no JSON schema in its column 'schema'"},
        {NULL, "{\"schema\": {\"contains\": {}}}", "column 'schema': at #/contains: "},
        {NULL, "{\"schema\": \"{\"}", "column 'schema':1:"},
        {"{\"if\": {}}", "{}", "--reward-schema: at #/if: "},
        {"{", "{}", "--reward-schema:1:"},
        {"/nonexistent/schema.json", "{}", "/nonexistent/schema.json"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct reward *reward = NULL;
        cohort_error err = {0};
        json_t *data = json_loads(wrong[i].row, 0, NULL);
        cohort_status status =
            reward_create(&reward, "json_schema", &(struct reward_options){.schema = wrong[i].schema}, &err);
        if (status == COHORT_OK)
            status = reward_check(reward, data, 0, &err);
        assert_int_not_equal(status, COHORT_OK);
        if (strstr(err.message, wrong[i].says) == NULL)
            fail_msg("'%s' lacks '%s'", err.message, wrong[i].says);
        reward_destroy(reward);
        json_decref(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_reward),
        cmocka_unit_test(test_reward_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
