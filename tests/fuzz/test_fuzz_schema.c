/* Any bytes as a JSON schema and a completion: the schema is refused with its place, or the reward is a number from 0 to 1,
 * the same twice. An input is the schema, a line end, and the completion. */
#include "support/fuzz.h"

#include "support/schema_words.h"

#include "base/error.h"
#include "reward/reward.h"

#include <stdlib.h>
#include <string.h>

static double score(struct reward *reward, const uint8_t *text, size_t length)
{
    struct reward_row row = {
        .prompt = "", .completion = (const char *)text, .completion_length = length, .finish_reason = "eos"};
    double value = -1;
    cohort_error err = {0};
    if (reward_score(reward, &row, 1, &value, &err) != COHORT_OK || !(value >= 0 && value <= 1))
        abort();
    return value;
}

static bool scored(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    const size_t length = end != NULL ? (size_t)(end - data) : size;
    struct reward *reward = NULL;
    cohort_error err = {0};
    char *schema = malloc(length + 2);
    if (schema == NULL)
        return true;
    schema[0] = '{'; /* else it would be the name of a file */
    memcpy(schema + 1, data, length);
    schema[length + 1] = '\0';
    const cohort_status status =
        reward_create(&reward, "json_schema", &(struct reward_options){.schema = schema}, &err);
    free(schema);
    if (status != COHORT_OK) {
        if (strncmp(err.message, "--reward-schema:", 16) != 0)
            abort();
        return false;
    }
    if (score(reward, data + length, size - length) != score(reward, data + length, size - length))
        abort();
    reward_destroy(reward);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)scored(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
/* Without the brace that begins a schema. */
static const char *const texts[] = {
    "\"type\": \"object\", \"required\": [\"a\"], \"properties\": {\"a\": {\"type\": [\"integer\", "
    "\"null\"]}}}\n{\"a\": 1}",
    "\"$defs\": {\"n\": {\"items\": {\"$ref\": \"#/$defs/n\"}}}, \"$ref\": \"#/$defs/n\"}\n[[[]], []]",
    "\"oneOf\": [{\"minimum\": 3}, {\"not\": {\"const\": 2.5}}], \"multipleOf\": 0.5}\n2.5",
    "\"pattern\": \"^a+$\", \"minLength\": 2, \"enum\": [\"aa\"]}\n```json\n\"aa\"\n```",
    "\"items\": {\"allOf\": [{}, true]}, \"uniqueItems\": true, \"maxItems\": 3}\nso [1, 1.0, {\"b\": \"}\"}] it is",
    "\"additionalProperties\": {\"anyOf\": [{}]}, \"propertyNames\": {\"maxLength\": 2}}\n<think>{</think>{\"ab\": "
    "null}"};
static const char *const words[] = {SCHEMA_WORDS, "\"pattern\": \"(a+)+$\"", "\"contains\"", "\"uniqueItems\": true",
                                    "</think>"};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "schema",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = scored,
                                       .words = words,
                                       .n_words = sizeof words / sizeof words[0],
                                       .max_size = 800};
    return fuzz_run_texts(&target, texts, sizeof texts / sizeof texts[0], argc, argv);
}
#endif
