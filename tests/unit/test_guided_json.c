/* guided_json: 2,000 random schemas with documents that jsonschema judged (oracle/guided_schemas.py), each keyword with documents
 * that are valid and such that are not, what is refused and where, white space, and schemas that mean harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/json_text.h"
#include "guide/guide.h"
#include "support/accepts.h"
#include "guide/json_schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct guide_vocabulary no_words; /* reading a schema looks at no token */

static cohort_status compile(struct grammar_tables *tables, const char *schema, enum guide_whitespace whitespace,
                             enum guide_unsupported unsupported, struct text *ignored, cohort_error *err)
{
    const struct guide_options options = {.after = -1, .whitespace = whitespace, .unsupported = unsupported};
    struct grammar grammar = {0};
    cohort_status status =
        guide_read(&grammar, &no_words, GUIDE_JSON, schema, strlen(schema), &options, "guided_json", ignored, err);
    if (status == COHORT_OK)
        status = grammar_compile(tables, &grammar, "guided_json", err);
    grammar_free(&grammar);
    return status;
}

/* ---- The table ---- */

static const char *schemas_file = COHORT_SOURCE_DIR "/tests/fixtures/guided_schemas.jsonl";

struct counts {
    int schemas, compiled, validated, documents, empty;
};

static struct counts check_table(const char *name)
{
    FILE *file = fopen(name, "r");
    char *line = NULL;
    size_t capacity = 0;
    int schemas = 0, compiled = 0, validated = 0, documents = 0, empty = 0;
    assert_non_null(file);
    while (getline(&line, &capacity, file) > 0) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        struct grammar_tables tables;
        struct text schema = {0};
        cohort_error err = {0};
        assert_int_equal(json_text_write(json_object_get(row, "schema"), JSON_COMPACT, &schema, &err), COHORT_OK);
        const json_t *docs = json_object_get(row, "docs");
        const char *valid = json_string_value(json_object_get(row, "valid"));
        schemas++;
        /* The validator says the same; formats are annotations to it. */
        const json_t *root = json_object_get(row, "schema");
        const bool judged =
            strstr(schema.data, "\"format\"") == NULL && json_schema_check(root, "row", &err) == COHORT_OK;
        for (size_t i = 0; i < json_array_size(docs) && judged; i++) {
            json_t *value = json_loads(json_string_value(json_array_get(docs, i)), JSON_DECODE_ANY, NULL);
            bool holds = false;
            assert_int_equal(json_schema_valid(root, root, value, &holds, &err), COHORT_OK);
            if (holds != (valid[i] == '1'))
                fail_msg("%s: %s: valid %c", schema.data, json_string_value(json_array_get(docs, i)), valid[i]);
            json_decref(value);
            validated++;
        }
        const cohort_status status =
            compile(&tables, schema.data, GUIDE_SPACE_NONE, GUIDE_UNSUPPORTED_REFUSE, NULL, &err);
        if (status == COHORT_OK) {
            compiled++;
            for (size_t i = 0; i < json_array_size(docs); i++) {
                const json_t *doc = json_array_get(docs, i);
                const bool yes = accepts(&tables, json_string_value(doc), json_string_length(doc));
                if (yes != (valid[i] == '1'))
                    fail_msg("%s: %s: valid %c, accepted %d", schema.data, json_string_value(doc), valid[i], yes);
                documents++;
            }
            grammar_tables_free(&tables);
        } else if (strstr(err.message, "nothing to generate") != NULL) {
            empty++;
            if (strchr(valid, '1') != NULL)
                fail_msg("%s: %s", schema.data, err.message);
        } else {
            assert_int_equal(status, COHORT_ERR_UNSUPPORTED);
        }
        text_free(&schema);
        json_decref(row);
    }
    fclose(file);
    free(line);
    print_message("%d schemas, %d compiled, %d without a document, %d documents\n", schemas, compiled, empty,
                  documents);
    return (struct counts){schemas, compiled, validated, documents, empty};
}

static void test_random_schemas(void **state)
{
    (void)state;
    const struct counts n = check_table(schemas_file);
    /* Of the table 1,842 are compiled, with 8,700 documents. */
    assert_true(n.schemas >= 100 && n.compiled > n.schemas * 85 / 100 && n.documents > 4 * n.schemas &&
                n.validated > 3 * n.schemas);
}

/* What several places of a schema say of one object, each in another order of keys. */
static void test_orders(void **state)
{
    (void)state;
    const struct counts n = check_table(COHORT_SOURCE_DIR "/tests/fixtures/guided_orders.jsonl");
    assert_true(n.schemas == 300 && n.compiled > 250 && n.documents > 1500);
}

/* What users of llama.cpp's converter rely on (oracle/guided_converter.py): all of it is compiled. */
static void test_converter(void **state)
{
    (void)state;
    const struct counts n = check_table(COHORT_SOURCE_DIR "/tests/fixtures/guided_converter.jsonl");
    assert_int_equal(n.compiled, n.schemas);
    assert_true(n.schemas > 70 && n.documents > 700);
}

/* ---- Each keyword ---- */

#define MOST 6
static const struct {
    const char *schema, *valid[MOST], *invalid[MOST];
} cases[] = {
    {"true", {"null", "[1, {\"a\": -2.5e+3}]", "\"\\u00e9\\ud83d\\ude00\""}, {"", "[1,2]", "\"\\ud83d\"", "01", "nul"}},
    {"{\"type\": \"string\"}",
     {"\"\"", "\"\\\\\\\"\\/\\n\"", "\"\x7F\xC3\xA9\""},
     {"\"\n\"", "\"\xC3\"", "\"\xED\xA0\x80\"", "1"}},
    {"{\"type\": [\"integer\", \"null\"]}", {"0", "-12", "null"}, {"1.0", "01", "\"a\""}},
    {"{\"type\": \"number\"}", {"0.5", "-1e9", "1E-2"}, {".5", "1.", "+1"}},
    {"{\"enum\": [1.5, \"a\\\"b\", [1, {\"k\": null}], {\"z\": 1, \"a\": []}]}",
     {"1.5", "\"a\\\"b\"", "[1, {\"k\": null}]", "{\"z\": 1, \"a\": []}"},
     {"1.50", "[1]", "{\"a\": [], \"z\": 1}"}},
    {"{\"const\": 1000.0}", {"1000.0", "1000"}, {"1000.1", "100"}},
    {"{\"type\": \"string\", \"enum\": [1, \"a\"]}", {"\"a\""}, {"1"}},
    {"{\"minimum\": 0.1, \"maximum\": 2, \"type\": \"number\"}",
     {"0.1", "2.00", "1.999"},
     {"0.09", "2.01", "-1", "1e0"}},
    {"{\"exclusiveMinimum\": -5, \"exclusiveMaximum\": 12, \"type\": \"integer\"}",
     {"-4", "0", "11"},
     {"-5", "12", "100"}},
    {"{\"minimum\": 3, \"exclusiveMinimum\": true, \"type\": \"integer\"}", {"4", "30"}, {"3", "-4"}},
    {"{\"multipleOf\": 0.25, \"type\": \"number\"}", {"0.75", "-1.50", "3"}, {"0.3", "1.125"}},
    {"{\"multipleOf\": 7, \"minimum\": 10, \"type\": \"integer\"}", {"14", "7007"}, {"7", "15"}},
    {"{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}",
     {"\"ab\"", "\"\xF0\x9F\x98\x80\xC3\xA9x\"", "\"\\ud83d\\ude00a\""},
     {"\"a\"", "\"abcd\"", "\"\\ud83d\\ude00\""}},
    {"{\"type\": \"string\", \"maxLength\": 1000000}", {"\"a\""}, {"1"}},
    {"{\"type\": \"string\", \"pattern\": \"^a|b$\"}", {"\"ax\"", "\"xb\""}, {"\"xa\"", "\"bx\""}},
    {"{\"type\": \"string\", \"pattern\": \"^(^a|^^b)c($|x)$$\"}",
     {"\"ac\"", "\"bc\"", "\"acx\""},
     {"\"xac\"", "\"acy\"", "\"acxx\"", "\"abc\""}},
    {"{\"type\": \"string\", \"pattern\": \"a^b|c$d|^^$$\"}", {"\"\""}, {"\"ab\"", "\"cd\"", "\"a\""}},
    {"{\"type\": \"object\", \"patternProperties\": {\"^^\": {\"enum\": [1, null]}}, "
     "\"additionalProperties\": {\"type\": \"string\"}}",
     {"{\"k\": 1}", "{\"k\": null, \"l\": 1}"},
     {"{\"k\": \"x\"}"}},
    {"{\"type\": \"string\", \"pattern\": \"\\\\\\\\\"}", {"\"a\\\\b\""}, {"\"ab\""}},
    {"{\"type\": \"string\", \"format\": \"uri\"}",
     {"\"http://a.b/c?d=e#f\"", "\"urn:x:y\"", "\"http://[::1]:80/\""},
     {"\"a b\"", "\"//a\"", "\"http://a b\""}},
    {"{\"type\": \"string\", \"format\": \"duration\"}", {"\"P1Y2M3DT4H\"", "\"P2W\""}, {"\"P\"", "\"P1H\"", "\"PT\""}},
    {"{\"type\": \"string\", \"format\": \"hostname\"}", {"\"a-b.example\""}, {"\"-a\"", "\"a..b\"", "\"a_b\""}},
    {"{\"items\": {\"type\": \"integer\"}, \"type\": \"array\"}", {"[]", "[1, 2]"}, {"[1, \"a\"]", "[1,2]", "[, 1]"}},
    {"{\"prefixItems\": [{\"const\": 1}], \"items\": false, \"type\": \"array\"}", {"[]", "[1]"}, {"[2]", "[1, 1]"}},
    {"{\"items\": [{\"const\": 1}], \"additionalItems\": {\"type\": \"null\"}, \"type\": \"array\"}",
     {"[1, null]"},
     {"[1, 1]"}},
    {"{\"minItems\": 2, \"maxItems\": 3, \"items\": {\"type\": \"null\"}, \"type\": \"array\"}",
     {"[null, null]", "[null, null, null]"},
     {"[null]", "[null, null, null, null]", "[]"}},
    {"{\"type\": \"object\", \"properties\": {\"a\": {\"const\": 1}, \"b\": {\"const\": 2}}, \"required\": [\"b\"]}",
     {"{\"b\": 2}", "{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"c\": [], \"cc\": 1}"},
     {"{}", "{\"a\": 1}", "{\"b\": 2, \"a\": 1}", "{\"b\": 3}", "{, \"b\": 2}"}},
    {"{\"type\": \"object\", \"required\": [\"x\"], \"additionalProperties\": {\"type\": \"null\"}}",
     {"{\"x\": null, \"y\": null}"},
     {"{\"y\": null}", "{\"x\": 1}"}},
    {"{\"type\": \"object\", \"patternProperties\": {\"^n\": {\"type\": \"integer\"}, \"s$\": {\"type\": \"string\"}}, "
     "\"additionalProperties\": false}",
     {"{\"n\": 1, \"s\": \"\"}", "{}"},
     {"{\"x\": 1}", "{\"ns\": 1}", "{\"n\": \"\"}"}},
    {"{\"type\": \"object\", \"properties\": {\"a\": false, \"b\": true}}",
     {"{\"b\": 1}", "{\"ab\": 1}"},
     {"{\"a\": 1}", "{\"b\": 1, \"a\": 1}"}},
    {"{\"type\": \"object\", \"maxProperties\": 1}", {"{}", "{\"a\": 1}"}, {"{\"a\": 1, \"b\": 2}"}},
    {"{\"type\": \"object\", \"properties\": {\"a\": true, \"b\": true, \"c\": true}, \"minProperties\": 2, "
     "\"additionalProperties\": false}",
     {"{\"a\": 1, \"c\": 1}", "{\"a\": 1, \"b\": 1, \"c\": 1}"},
     {"{\"b\": 1}", "{}"}},
    {"{\"anyOf\": [{\"type\": \"null\"}, {\"type\": \"integer\", \"minimum\": 5}]}", {"null", "5"}, {"4", "true"}},
    {"{\"oneOf\": [{\"type\": \"string\", \"maxLength\": 1}, {\"type\": \"string\", \"minLength\": 3}]}",
     {"\"\"", "\"abc\""},
     {"\"ab\""}},
    {"{\"allOf\": [{\"minimum\": 2}, {\"maximum\": 4}], \"type\": \"integer\"}", {"2", "4"}, {"1", "5", "3.0"}},
    {"{\"allOf\": [{\"properties\": {\"a\": {\"type\": \"integer\"}}}, {\"properties\": {\"a\": {\"minimum\": 3}}, "
     "\"required\": [\"a\"], \"additionalProperties\": false}], \"type\": \"object\"}",
     {"{\"a\": 3}"},
     {"{\"a\": 2}", "{}", "{\"a\": 3, \"b\": 1}"}},
    {"{\"anyOf\": [{\"required\": [\"a\"]}, {\"required\": [\"b\"]}], \"type\": \"object\", \"properties\": {\"a\": "
     "{\"const\": 1}, "
     "\"b\": {\"const\": 2}}, \"additionalProperties\": false}",
     {"{\"a\": 1}", "{\"b\": 2}", "{\"a\": 1, \"b\": 2}"},
     {"{}"}},
    {"{\"$ref\": \"#/definitions/x~1y\", \"definitions\": {\"x/y\": {\"type\": \"null\"}}}", {"null"}, {"1"}},
    {"{\"$ref\": \"#n\", \"$defs\": {\"x\": {\"$anchor\": \"n\", \"type\": \"null\"}}}", {"null"}, {"1"}},
    {"{\"type\": \"object\", \"properties\": {\"v\": {\"type\": \"integer\"}, \"next\": {\"$ref\": \"#\"}}, "
     "\"additionalProperties\": false}",
     {"{\"v\": 1, \"next\": {\"next\": {}}}"},
     {"{\"next\": 1}", "{\"next\": {\"v\": \"\"}}"}},
    {"{\"$schema\": \"http://json-schema.org/draft-07/schema#\", \"properties\": {\"a\": {\"$ref\": "
     "\"#/definitions/n\", \"maximum\": 1}}, "
     "\"type\": \"object\", \"definitions\": {\"n\": {\"type\": \"integer\"}}}",
     {"{\"a\": 5}"},
     {"{\"a\": \"\"}"}},
    {"{\"properties\": {\"a\": {\"$ref\": \"#/$defs/n\", \"maximum\": 1}}, \"type\": \"object\", \"$defs\": {\"n\": "
     "{\"type\": "
     "\"integer\"}}}",
     {"{\"a\": 1}"},
     {"{\"a\": 5}"}},
};

static void test_keywords(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar_tables tables;
        cohort_error err = {0};
        if (compile(&tables, cases[i].schema, GUIDE_SPACE_NONE, GUIDE_UNSUPPORTED_REFUSE, NULL, &err) != COHORT_OK)
            fail_msg("%s: %s", cases[i].schema, err.message);
        for (size_t k = 0; k < MOST && cases[i].valid[k] != NULL; k++)
            if (!accepts(&tables, cases[i].valid[k], strlen(cases[i].valid[k])))
                fail_msg("%s: %s is valid", cases[i].schema, cases[i].valid[k]);
        for (size_t k = 0; k < MOST && cases[i].invalid[k] != NULL; k++)
            if (accepts(&tables, cases[i].invalid[k], strlen(cases[i].invalid[k])))
                fail_msg("%s: %s is not", cases[i].schema, cases[i].invalid[k]);
        grammar_tables_free(&tables);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *message;
    } refused[] = {
        {"{\"properties\": {\"a\": {\"items\": {\"not\": {}}}}}",
         "at #/properties/a/items/not: this keyword cannot be enforced"},
        {"{\"uniqueItems\": true}", "at #/uniqueItems: this keyword"},
        {"{\"if\": {}}", "at #/if: this keyword"},
        {"{\"minLength\": -1}", "at #/minLength: expected a whole number of at least 0"},
        {"{\"type\": \"text\"}", "at #/type: expected null, boolean"},
        {"{\"$ref\": \"http://a/b\"}", "is no place of a schema within this one"},
        {"{\"$ref\": \"#/nowhere\"}", "$ref \"#/nowhere\" is no place"},
        {"{\"$ref\": \"#/$defs/a\", \"$defs\": {\"a\": {\"minimum\": \"x\"}}}",
         "at #/$defs/a/minimum: expected a number"},
        {"{\"pattern\": \"(?=a)\"}", "at #/pattern: at byte"},
        {"{\"pattern\": \"a(b\"}", "at #/pattern"},
        {"{\"oneOf\": [{\"type\": \"number\"}, {\"type\": \"integer\"}]}", "at #: oneOf: it is not certain"},
        {"{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}",
         "nothing to generate"},
        {"false", "nothing to generate"},
        {"{\"$ref\": \"#\"}", "nothing to generate"},
        {"{\"allOf\": [{\"$ref\": \"#\"}]}", "refer to themselves"},
        {"{\"anyOf\": [{\"type\": \"null\"}, {\"$ref\": \"#\"}]}", "begins with itself"},
        {"{\"minProperties\": 3}", "asks for several properties that are not named"},
        {"{\"multipleOf\": 12345.5, \"type\": \"number\"}", "at #/multipleOf: multipleOf with more than"},
        {"[]", "expected a schema"},
        {"{\"type\": ", "guided_json:1:"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct grammar_tables tables;
        cohort_error err = {0};
        assert_int_not_equal(
            compile(&tables, refused[i].schema, GUIDE_SPACE_NONE, GUIDE_UNSUPPORTED_REFUSE, NULL, &err), COHORT_OK);
        if (strstr(err.message, refused[i].message) == NULL || strncmp(err.message, "guided_json", 11) != 0)
            fail_msg("%s: %s", refused[i].schema, err.message);
    }
}

static void test_ignored(void **state)
{
    (void)state;
    struct grammar_tables tables;
    struct text ignored = {0};
    cohort_error err = {0};
    const char *schema =
        "{\"properties\": {\"a\": {\"not\": {}, \"type\": \"integer\"}, \"b\": {\"format\": \"color\"}}, \"oneOf\": "
        "[{\"minProperties\": 1}, {}], \"type\": \"object\"}";
    assert_int_equal(compile(&tables, schema, GUIDE_SPACE_NONE, GUIDE_UNSUPPORTED_IGNORE, &ignored, &err), COHORT_OK);
    assert_true(accepts(&tables, "{\"a\": 1}", 8));
    assert_false(accepts(&tables, "{\"a\": \"\"}", 9));
    assert_non_null(strstr(ignored.data, "#/properties/a/not\n"));
    assert_non_null(strstr(ignored.data, "#: oneOf, taken for anyOf\n"));
    assert_non_null(strstr(ignored.data, "format \"color\""));
    grammar_tables_free(&tables);
    text_free(&ignored);
}

static void test_white_space(void **state)
{
    (void)state;
    static const char *const good[] = {"{\"a\":[1,2]}", "{\"a\": [1, 2]}", "{\n  \"a\": [\n    1,\n    2\n  ]\n}",
                                       "{ \"a\" : [ 1 , 2 ] }"},
                             *const bad[] = {"{  \"a\":[1,2]}", "{\t\"a\":[1,2]}", "{\"a\":[1,2]}\n",
                                             "{\n                      \"a\":[1,2]}"};
    struct grammar_tables tables;
    cohort_error err = {0};
    assert_int_equal(
        compile(&tables, "{\"properties\": {\"a\": {\"const\": [1, 2]}}, \"type\": \"object\", \"required\": [\"a\"]}",
                GUIDE_SPACE_FLEXIBLE, GUIDE_UNSUPPORTED_REFUSE, NULL, &err),
        COHORT_OK);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!accepts(&tables, good[i], strlen(good[i])) || accepts(&tables, bad[i], strlen(bad[i])))
            fail_msg("%s, or %s", good[i], bad[i]);
    grammar_tables_free(&tables);
}

/* Each ends within seconds, as an error or as something that may be used. */
static void test_hostile(void **state)
{
    (void)state;
    struct text texts[6] = {{0}};
    cohort_error err = {0};
    const double start = clock_seconds();
    /* Alternatives that multiply. */
    assert_int_equal(text_printf(&texts[0], &err, "{\"allOf\": ["), COHORT_OK);
    for (int i = 0; i < 20; i++)
        assert_int_equal(text_printf(&texts[0], &err, "%s{\"anyOf\": [{\"minimum\": %d}, {\"maxLength\": %d}]}",
                                     i > 0 ? ", " : "", i, i),
                         COHORT_OK);
    assert_int_equal(text_printf(&texts[0], &err, "]}"), COHORT_OK);
    /* Levels. */
    for (int i = 0; i < 5000; i++)
        assert_int_equal(text_printf(&texts[1], &err, "{\"items\": "), COHORT_OK);
    assert_int_equal(text_printf(&texts[1], &err, "true"), COHORT_OK);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(text_printf(&texts[1], &err, "}"), COHORT_OK);
    /* References that lead to each other. */
    assert_int_equal(text_printf(&texts[2], &err, "{\"$ref\": \"#/$defs/a0\", \"$defs\": {"), COHORT_OK);
    for (int i = 0; i < 400; i++)
        assert_int_equal(
            text_printf(&texts[2], &err,
                        "\"a%d\": {\"allOf\": [{\"$ref\": \"#/$defs/a%d\"}, {\"$ref\": \"#/$defs/a%d\"}]}, ", i, i + 1,
                        i + 1),
            COHORT_OK);
    assert_int_equal(text_printf(&texts[2], &err, "\"a400\": true}}"), COHORT_OK);
    /* Counts. */
    assert_int_equal(text_printf(&texts[3], &err, "{\"type\": \"string\", \"pattern\": \"(a{1000}){1000}\"}"),
                     COHORT_OK);
    assert_int_equal(text_printf(&texts[4], &err, "{\"type\": \"string\", \"pattern\": \"(a|b)*a(a|b){40}\"}"),
                     COHORT_OK);
    /* Many values. */
    assert_int_equal(text_printf(&texts[5], &err, "{\"enum\": ["), COHORT_OK);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(
            text_printf(&texts[5], &err, "%s\"value number %d of many\"", i > 0 ? ", " : "", i * 7919 % 20011),
            COHORT_OK);
    assert_int_equal(text_printf(&texts[5], &err, "]}"), COHORT_OK);
    for (size_t i = 0; i < 6; i++) {
        struct grammar_tables tables;
        const double before = clock_seconds();
        const cohort_status status =
            compile(&tables, texts[i].data, GUIDE_SPACE_NONE, GUIDE_UNSUPPORTED_REFUSE, NULL, &err);
        print_message("%zu: %.2f s: %.100s\n", i, clock_seconds() - before,
                      status == COHORT_OK ? "compiled" : err.message);
        assert_true(status == COHORT_OK || status == COHORT_ERR_UNSUPPORTED || status == COHORT_ERR_FORMAT);
        if (status == COHORT_OK)
            grammar_tables_free(&tables);
        text_free(&texts[i]);
    }
    assert_true(clock_seconds() - start < 60.0); /* idle: about two */
}

/* Usage: test_guided_json [SCHEMAS.jsonl], of oracle/guided_schemas.py with another seed. */
int main(int argc, char **argv)
{
    if (argc > 1)
        schemas_file = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_schemas), cmocka_unit_test(test_orders),  cmocka_unit_test(test_converter),
        cmocka_unit_test(test_keywords),       cmocka_unit_test(test_refused), cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_white_space),    cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
