/* Every choice that the option table offers has a meaning in code, and every meaning is offered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/backend.h"
#include "bench/bench_report.h"
#include "recipe/choices.h"
#include "recipe/run_inputs.h"
#include "format/model_config.h"

#include <string.h>

/* Length of the word at, and what is behind it ("" at the end). */
static size_t next_word(const char *at, const char **rest)
{
    size_t n = strcspn(at, "|");
    *rest = at[n] == '|' ? at + n + 1 : at + n;
    return n;
}

static const struct choice_list *list_of(const char *option)
{
    size_t count = 0;
    const struct choice_list *lists = choice_lists(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(lists[i].option, option) == 0)
            return &lists[i];
    return NULL;
}

static enum option_command a_command(const struct option_spec *spec)
{
    return (enum option_command)(spec->commands & ~(spec->commands - 1));
}

/* Words in the table's order, a value of its own for each; and choice_of gives it. */
static void check_list(const struct option_spec *spec, const struct choice_list *list)
{
    size_t i = 0;
    for (const char *at = spec->choices, *rest = NULL; *at != '\0'; at = rest, i++) {
        size_t n = next_word(at, &rest);
        if (i >= list->count || strlen(list->choices[i].word) != n || memcmp(list->choices[i].word, at, n) != 0)
            fail_msg("%s: choice %zu of the table is '%.*s', of the code '%s'", spec->name, i, (int)n, at,
                     i < list->count ? list->choices[i].word : "none");
        for (size_t j = 0; j < i; j++)
            if (list->choices[j].value == list->choices[i].value)
                fail_msg("%s: %s and %s mean the same", spec->name, list->choices[j].word, list->choices[i].word);
        struct options *options = NULL;
        assert_int_equal(options_create(&options, a_command(spec), NULL), COHORT_OK);
        assert_int_equal(options_set(options, spec->name, list->choices[i].word, "test", NULL), COHORT_OK);
        assert_int_equal(choice_of(options, spec->name), list->choices[i].value);
        options_destroy(options);
    }
    if (i != list->count)
        fail_msg("%s: the code has %zu choices, the table %zu", spec->name, list->count, i);
}

/* Words that are handed on: their reader must know each, or say that the machine lacks it. */
static void check_word(const struct option_spec *spec, const char *word)
{
    cohort_error err = {0};
    if (strcmp(spec->name, "preset") == 0) {
        struct model_config config = {0};
        if (model_config_preset(&config, NULL, word, 0, &err) != COHORT_OK)
            fail_msg("%s", err.message);
    } else if (strcmp(spec->name, "isa") == 0) {
        struct backend *backend = NULL;
        cohort_status status = backend_cpu_create(&backend, word, 1, &err);
        if (status != COHORT_OK && status != COHORT_ERR_UNSUPPORTED)
            fail_msg("%s", err.message);
        backend_destroy(backend);
    } else {
        fail_msg("%s: no list in src/recipe/choices.c, and this test does not know who reads it", spec->name);
    }
}

static void test_table(void **state)
{
    (void)state;
    size_t count = 0, n_lists = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        const struct option_spec *spec = &table[i];
        if (spec->type == OPTION_ENUM && list_of(spec->name) != NULL) {
            check_list(spec, list_of(spec->name));
        } else if (spec->type == OPTION_ENUM) {
            for (const char *at = spec->choices, *rest = NULL; *at != '\0'; at = rest) {
                char word[64] = "";
                memcpy(word, at, next_word(at, &rest));
                check_word(spec, word);
            }
        } else if (spec->type == OPTION_LIST && spec->choices != NULL && strcmp(spec->choices, "ID:NUMBER") != 0) {
            /* Another list wants its reader here. */
            const bool kinds = strcmp(spec->name, "kind") == 0;
            assert_true(kinds || strcmp(spec->name, "accept_changed") == 0);
            size_t k = 0;
            for (const char *at = spec->choices, *rest = NULL; *at != '\0'; at = rest, k++) {
                size_t n = next_word(at, &rest);
                const char *name = kinds             ? bench_kind_name(k)
                                   : k < INPUT_KINDS ? input_kind_name((enum input_kind)k)
                                                     : NULL;
                assert_non_null(name);
                assert_true(strlen(name) == n && memcmp(name, at, n) == 0);
            }
            assert_true(kinds ? bench_kind_name(k) == NULL : k == INPUT_KINDS);
        }
    }
    const struct choice_list *lists = choice_lists(&n_lists);
    for (size_t i = 0; i < n_lists; i++) {
        bool found = false;
        for (size_t j = 0; j < count; j++)
            found = found || (table[j].type == OPTION_ENUM && strcmp(table[j].name, lists[i].option) == 0);
        if (!found)
            fail_msg("%s is no ENUM option", lists[i].option);
    }
}

/* --threads takes what a backend takes. */
static void test_threads(void **state)
{
    (void)state;
    size_t count = 0, n = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        struct backend *backend = NULL;
        if (strcmp(table[i].name, "threads") != 0)
            continue;
        n++;
        cohort_error err = {0};
        if (backend_cpu_create(&backend, "auto", (int)table[i].maximum, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        backend_destroy(backend);
        assert_int_equal(backend_cpu_create(&backend, "auto", (int)table[i].maximum + 1, &err), COHORT_ERR_ARGUMENT);
    }
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
