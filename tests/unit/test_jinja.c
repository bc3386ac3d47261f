/* The interpreter of chat templates against jinja2 in transformers' environment: tests/fixtures/jinja/cases.json has
 * templates of our own for every construct, with what transformers renders (oracle/jinja_cases.py).
 *
 *   test_jinja                        the tests
 *   test_jinja --bench                how long a conversation of 20 turns takes
 *   test_jinja --show TEMPLATE ROWS NOW   for oracle/chat_templates.py: each row of a JSONL file without and with a
 *                                     generation prompt, as lines of JSON
 *   test_jinja --hashes FOLDER        for tests/slow/test_trl_templates.sh: FOLDER's templates against the hashes of
 *                                     tests/fixtures/jinja/trl_templates.json */
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json_text.h"
#include "text/chat_template.h"
#include "text/jinja.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/jinja/"

enum { MAX_VARIABLES = 32 };

/* ---- helpers ---- */

static size_t variables_of(const json_t *object, struct jinja_variable *variables)
{
    size_t n = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_t *mutable = (json_t *)(uintptr_t)object;
    json_object_foreach(mutable, key, value)
    {
        assert_true(n < MAX_VARIABLES);
        variables[n++] = (struct jinja_variable){.name = key, .value = value, .origin = JINJA_FOREIGN};
    }
    return n;
}

static json_t *read_json(const char *path)
{
    cohort_error err = {0};
    json_t *json = NULL;
    if (json_text_read(&json, path, 0, JSON_TEXT_ANY | JSON_TEXT_NUL, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return json;
}

/* The rows of a JSONL file, each as it is followed by itself with add_generation_prompt. */
static json_t *read_rows(const char *path)
{
    struct text content = {0};
    cohort_error err = {0};
    json_t *rows = json_array();
    if (file_read(path, 0, &content, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    for (char *line = content.data; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        json_t *row = NULL;
        assert_non_null(end);
        if (json_text_parse(&row, line, (size_t)(end - line), path, 1, JSON_TEXT_NUL, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        json_t *prompted = json_copy(row);
        json_object_set_new(row, "add_generation_prompt", json_false());
        json_object_set_new(prompted, "add_generation_prompt", json_true());
        json_array_append_new(rows, row);
        json_array_append_new(rows, prompted);
        line = end + 1;
    }
    text_free(&content);
    return rows;
}

static struct jinja_template *parse(const char *source, size_t length)
{
    struct jinja_template *template = NULL;
    cohort_error err = {0};
    if (jinja_parse(&template, source, length, "template", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return template;
}

static struct jinja_template *parse_file(const char *path)
{
    struct text source = {0};
    cohort_error err = {0};
    if (file_read(path, 0, &source, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    struct jinja_template *template = parse(source.data, source.length);
    text_free(&source);
    return template;
}

static json_t *spans_json(const struct jinja_span *spans, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, json_pack("[I,I]", (json_int_t)spans[i].from, (json_int_t)spans[i].to));
    return array;
}

/* {"text", "generation"} or {"error"}. */
static json_t *render_json(const struct jinja_template *template, const json_t *values, int64_t now)
{
    struct jinja_variable variables[MAX_VARIABLES];
    const struct jinja_settings settings = {.now = now};
    struct jinja_output out = {0};
    cohort_error err = {0};
    json_t *result = json_object();
    const size_t n = variables_of(values, variables);
    if (jinja_render(template, variables, n, &settings, &out, &err) == COHORT_OK) {
        json_object_set_new(result, "text", json_stringn(out.text.data, out.text.length));
        json_object_set_new(result, "generation", spans_json(out.generation, out.n_generation));
    } else {
        json_object_set_new(result, "error", json_string(err.message));
    }
    jinja_output_free(&out);
    return result;
}

/* ---- what transformers renders ---- */

static void test_cases(void **state)
{
    (void)state;
    json_t *cases = read_json(FIXTURES "cases.json");
    const json_int_t now = json_integer_value(json_object_get(cases, "now"));
    size_t index = 0, failed = 0;
    json_t *one = NULL;
    json_array_foreach(json_object_get(cases, "cases"), index, one)
    {
        const json_t *source = json_object_get(one, "template"), *text = json_object_get(one, "text");
        struct jinja_template *template = NULL;
        cohort_error err = {0};
        json_t *result = NULL;
        if (jinja_parse(&template, json_string_value(source), json_string_length(source), "case", &err) == COHORT_OK)
            result = render_json(template, json_object_get(cases, "variables"), now);
        else
            result = json_pack("{s:s}", "error", err.message);
        const bool same =
            text == NULL ? json_object_get(result, "text") == NULL
                         : json_equal(text, json_object_get(result, "text")) &&
                               json_equal(json_object_get(one, "generation"), json_object_get(result, "generation"));
        if (!same) {
            char *ours = json_dumps(result, JSON_COMPACT), *theirs = json_dumps(one, JSON_COMPACT);
            print_error("case %zu: %s\n  here %s\n", index, theirs, ours);
            free(ours);
            free(theirs);
            failed++;
        }
        json_decref(result);
        jinja_destroy(template);
    }
    assert_true(index > 100);
    assert_int_equal(failed, 0);
    json_decref(cases);
}

/* ---- the templates of the TRL package ---- */

static void hash_of(const json_t *result, char out[13])
{
    const json_t *text = json_object_get(result, "text");
    struct text all = {0};
    cohort_error err = {0};
    size_t index = 0;
    json_t *span = NULL;
    strcpy(out, "error");
    if (text == NULL)
        return;
    assert_int_equal(text_append(&all, json_string_value(text), json_string_length(text), &err), COHORT_OK);
    assert_int_equal(text_append(&all, "", 1, &err), COHORT_OK);
    json_array_foreach(json_object_get(result, "generation"), index, span)
    {
        assert_int_equal(text_printf(&all, &err, "%lld-%lld,", (long long)json_integer_value(json_array_get(span, 0)),
                                     (long long)json_integer_value(json_array_get(span, 1))),
                         COHORT_OK);
    }
    char hex[HASH_HEX];
    struct hash hash;
    hash_begin(&hash);
    hash_add(&hash, all.data, all.length);
    hash_end(&hash, hex);
    memcpy(out, hex, 12);
    out[12] = '\0';
    text_free(&all);
}

static int show(const char *template_path, const char *rows_path, const char *now)
{
    struct jinja_template *template = parse_file(template_path);
    json_t *rows = read_rows(rows_path), *row = NULL;
    size_t index = 0;
    json_array_foreach(rows, index, row)
    {
        json_t *result = render_json(template, row, strtoll(now, NULL, 10));
        char *line = json_dumps(result, JSON_COMPACT);
        puts(line);
        free(line);
        json_decref(result);
    }
    json_decref(rows);
    jinja_destroy(template);
    return 0;
}

/* Returns how many renderings differ; prints their places. */
static int compare_template(const char *path, const char *name, const json_t *expected, const json_t *rows, int64_t now)
{
    struct jinja_template *template = parse_file(path);
    const char *hash = json_string_value(json_object_get(expected, "renderings"));
    int differing = 0;
    size_t index = 0;
    const json_t *row = NULL;
    for (; index < json_array_size(rows); index++) {
        char ours[13];
        row = json_array_get(rows, index);
        json_t *result = render_json(template, row, now);
        hash_of(result, ours);
        const size_t n = strcspn(hash, " ");
        if (strlen(ours) != n || memcmp(ours, hash, n) != 0) {
            char *line = json_dumps(result, JSON_COMPACT);
            printf("%s: conversation %zu, %s a generation prompt: differs from transformers: %.300s\n", name, index / 2,
                   index % 2 == 0 ? "without" : "with", line);
            free(line);
            differing++;
        }
        hash += n + (hash[n] == ' ');
        json_decref(result);
    }
    jinja_destroy(template);
    return differing;
}

static int hashes(const char *folder)
{
    json_t *fixture = read_json(FIXTURES "trl_templates.json"), *rows = read_rows(FIXTURES "conversations.jsonl");
    const int64_t now = json_integer_value(json_object_get(fixture, "now"));
    const char *name = NULL;
    json_t *expected = NULL;
    int differing = 0, templates = 0;
    json_object_foreach(json_object_get(fixture, "templates"), name, expected)
    {
        char *path = NULL, file_hash[HASH_HEX];
        cohort_error err = {0};
        assert_int_equal(file_join(&path, folder, name, &err), COHORT_OK);
        if (hash_file(path, file_hash, NULL, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        if (strcmp(file_hash, json_string_value(json_object_get(expected, "sha256"))) != 0)
            fail_msg("%s is not the file of the released package", path);
        differing += compare_template(path, name, expected, rows, now);
        templates++;
        mem_free(path);
    }
    printf("%d templates, %zu renderings each: %d differ\n", templates, json_array_size(rows), differing);
    json_decref(rows);
    json_decref(fixture);
    return differing == 0 && templates == 72 ? 0 : 1;
}

/* Conversation 12 of the fixture has 20 turns of each side. */
static int bench(void)
{
    const char *source = chat_template_qwen3();
    struct jinja_template *template = parse(source, strlen(source));
    json_t *rows = read_rows(FIXTURES "conversations.jsonl");
    struct jinja_variable variables[MAX_VARIABLES];
    const size_t n = variables_of(json_array_get(rows, 24), variables);
    struct jinja_output out = {0};
    double best = 1e9;
    for (int round = 0; round < 20; round++) {
        const double start = clock_seconds();
        for (int i = 0; i < 100; i++)
            assert_int_equal(jinja_render(template, variables, n, NULL, &out, NULL), COHORT_OK);
        const double each = (clock_seconds() - start) / 100;
        best = each < best ? each : best;
    }
    printf("Qwen3's template, 20 turns, %zu bytes: %.1f us\n", out.text.length, best * 1e6);
    jinja_output_free(&out);
    jinja_destroy(template);
    json_decref(rows);
    return 0;
}

int main(int argc, char **argv)
{
    setenv("TZ", "UTC", 1); /* the time that strftime_now was asked for */
    tzset();
    if (argc == 2 && strcmp(argv[1], "--bench") == 0)
        return bench();
    if (argc == 5 && strcmp(argv[1], "--show") == 0)
        return show(argv[2], argv[3], argv[4]);
    if (argc == 3 && strcmp(argv[1], "--hashes") == 0)
        return hashes(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
