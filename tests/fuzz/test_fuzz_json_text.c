/* Any bytes as JSON text: what is read is what jansson would read where it reads it, what is refused has its place, and
 * rewriting numbers never changes what is otherwise said. */
#include "support/fuzz.h"

#include "base/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A second reading of what was read gives the same. */
static void check_stable(const json_t *json)
{
    cohort_error err = {0};
    json_t *again = NULL;
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL)
        return; /* a key with a NUL is no text that jansson writes */
    if (json_text_parse(&again, text, strlen(text), "again", 1, JSON_TEXT_ANY | JSON_TEXT_NUL, &err) != COHORT_OK ||
        !json_equal(json, again))
        abort();
    json_decref(again);
    free(text);
}

static bool accepted(const uint8_t *data, size_t size)
{
    json_t *json = NULL, *plain = NULL;
    cohort_error err = {0};
    const unsigned flags = JSON_TEXT_ANY | JSON_TEXT_NUL | JSON_TEXT_REPEATED;
    cohort_status status = json_text_parse(&json, (const char *)data, size, "fuzz", 7, flags, &err);
    plain = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (plain != NULL && (status != COHORT_OK || !json_equal(plain, json)))
        abort();
    json_decref(plain);
    if (status == COHORT_OK) {
        check_stable(json);
        json_decref(json);
        return true;
    }
    long long line = 0, column = 0;
    if (json != NULL || status != COHORT_ERR_FORMAT || sscanf(err.message, "fuzz:%lld:%lld: ", &line, &column) != 2 ||
        line < 7 || column < 1 || column > (long long)size + 1)
        abort();
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)accepted(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
#define SEED(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof text - 1                                                                                          \
    }

int main(int argc, char **argv)
{
    static const struct fuzz_seed seeds[] = {
        SEED("{\"a\": 18446744073709551615, \"b\": [1e999, -1E+400, 0.5e-3], \"c\": \"1e999\"}"),
        SEED("{\"a\": NaN, \"b\": [Infinity, -Infinity],\n \"c\": \"NaN \\\" \\\\\"}\n"),
        SEED("[9223372036854775807, -9223372036854775808, 9223372036854775808, 1e308, 1.8e308]"),
        SEED("{\"x\": {\"y\": [true, false, null, \"\\u0000\\ud83d\\ude00\"]}}"), SEED("-1e999")};
    static const char *const words[] = {"1e999", "-",  "18446744073709551615", ".5", "e+",     "NaN", "-Infinity",
                                        "\"",    "\\", "\xef\xbb\xbf",         "\n", "{\"a\":"};
    static const struct fuzz_target target = {.name = "json_text",
                                              .one = LLVMFuzzerTestOneInput,
                                              .accepted = accepted,
                                              .seeds = seeds,
                                              .n_seeds = sizeof seeds / sizeof *seeds,
                                              .words = words,
                                              .n_words = sizeof words / sizeof *words,
                                              .max_size = 1024};
    return fuzz_run(&target, argc, argv);
}
#endif
