/* Any bytes as a JSON schema that guides: refused with its place, or it guides texts (guide_fuzz.h), which are JSON that the
 * validator takes where they ended. */
#include "support/guide_fuzz.h"

#include "support/schema_words.h"

#include "base/json_text.h"
#include "guide/json_schema.h"

/* Whether a number may be one that no double holds, which this reader has as a text. */
static bool goes_far(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const size_t digits = i + 1 + (i + 1 < length && strchr("+-", text[i + 1]) != NULL);
        if (strchr("eE", text[i]) != NULL && digits < length && strspn(text + digits, "0123456789") > 2)
            return true;
    }
    return false;
}

/* A key may come twice where its name is free, which is no JSON for this reader. */
static void check(const char *schema, size_t size, const char *text, size_t length)
{
    json_t *json = NULL, *root = NULL;
    bool valid = true;
    cohort_error err = {0};
    if (goes_far(text, length))
        return;
    const cohort_status status = json_text_parse(&json, text, length, "text", 1, JSON_TEXT_ANY | JSON_TEXT_NUL, &err);
    if (status != COHORT_OK && strstr(err.message, "duplicate") == NULL) {
        fprintf(stderr, "%s: %.*s\n", err.message, (int)length, text);
        abort();
    }
    if (status == COHORT_OK && json_text_parse(&root, schema, size, "fuzz", 1, JSON_TEXT_ANY, &err) == COHORT_OK &&
        json_schema_check(root, "fuzz", &err) == COHORT_OK &&
        json_schema_valid(root, root, json, &valid, &err) == COHORT_OK && !valid) {
        fprintf(stderr, "%.*s: not valid by %.*s\n", (int)length, text, (int)size, schema);
        abort();
    }
    json_decref(json);
    json_decref(root);
}

static bool taken(const uint8_t *data, size_t size) { return guide_fuzz_one(GUIDE_JSON, data, size, check); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)taken(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
static const char *const texts[] = {
    "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": [\"integer\", \"null\"], \"minimum\": -3, "
    "\"multipleOf\": 7}, \"b\": "
    "{\"$ref\": \"#\"}}, \"required\": [\"a\"], \"additionalProperties\": false}",
    "{\"$defs\": {\"n\": {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/n\"}, \"maxItems\": 3}}, \"$ref\": "
    "\"#/$defs/n\"}",
    "{\"oneOf\": [{\"type\": \"string\", \"pattern\": \"^a+$\", \"maxLength\": 5}, {\"type\": \"number\", "
    "\"exclusiveMaximum\": 2.5}]}",
    "{\"type\": \"object\", \"patternProperties\": {\"^a\": {\"enum\": [1, \"x\", null]}}, \"additionalProperties\": "
    "{\"format\": \"date\", "
    "\"type\": \"string\"}, \"minProperties\": 1}",
    "{\"allOf\": [{\"prefixItems\": [true, {\"const\": [1, {\"b\": 2}]}]}, {\"type\": \"array\", \"minItems\": 1}]}",
    "{\"type\": \"object\", \"patternProperties\": {\"^^a|b$$\": {\"enum\": [1, null]}}, \"minProperties\": 1}",
    "{\"anyOf\": [{\"required\": [\"z\"]}, {\"type\": \"boolean\"}], \"title\": \"x\"}"};
static const char *const words[] = {
    SCHEMA_WORDS,           "\"pattern\": \"(a|b)*\"",    "\"maxLength\": 3", "\"minItems\": 99999",
    "\"multipleOf\": 0.01", "\"minimum\": 0.5",           "\"enum\": [1, 2]", "\"const\": {}",
    "\"format\": \"ipv6\"", "\"additionalProperties\": ", "\"allOf\": [",     "\"anyOf\": [{}, ",
    "\"propertyNames\""};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "guide_json",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = taken,
                                       .words = words,
                                       .n_words = sizeof words / sizeof words[0],
                                       .max_size = 700};
    return fuzz_run_texts(&target, texts, sizeof texts / sizeof texts[0], argc, argv);
}
#endif
