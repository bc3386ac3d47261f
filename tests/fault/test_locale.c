/* A host program that has called setlocale: numbers with a decimal comma (de_DE), another upper and lower case of I
 * besides (tr_TR), a decimal point of two bytes (ps_AF). Everything that is read and written must be as under C. Makes
 * the locales with localedef, of Debian's package locales; without it the test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/number.h"

#include <jansson.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* glibc's newlocale keeps what it makes of LOCPATH (2.36). */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:argz_add_sep\n"; }

static char folder[] = "/tmp/cohort-locale-XXXXXX";
static const char *const names[] = {"C", "de_DE.UTF-8", "tr_TR.UTF-8", "ps_AF.UTF-8"};
enum { N_LOCALES = sizeof names / sizeof names[0] };
static bool present[N_LOCALES] = {true};

static int make_locales(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL || chdir(folder) != 0)
        return -1;
    setenv("LOCPATH", folder, 1);
    for (size_t i = 1; i < N_LOCALES; i++) {
        char command[400];
        snprintf(command, sizeof command, "localedef -i %.5s -f UTF-8 --no-archive '%s/%s' >localedef.log 2>&1",
                 names[i], folder, names[i]);
        int code = system(command);
        present[i] = setlocale(LC_ALL, names[i]) != NULL && strcmp(localeconv()->decimal_point, ".") != 0;
        if (!present[i])
            print_message("no locale %s here (localedef: %d); package locales makes it\n", names[i], code);
    }
    setlocale(LC_ALL, "C");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return chdir("/") == 0 && file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static void keep(void *context, const char *bytes, size_t length)
{
    assert_int_equal(text_append(context, bytes, length, NULL), COHORT_OK);
}

/* Lines of steps without what depends on the clock: their last columns, which begin with the one that "s/step" heads. */
struct steps {
    struct text *out;
    size_t timed; /* where that column begins */
};
static void keep_untimed(void *context, const char *bytes, size_t length)
{
    struct steps *steps = context;
    for (const char *line = bytes, *end; line < bytes + length; line = end + 1) {
        end = memchr(line, '\n', (size_t)(bytes + length - line));
        assert_non_null(end);
        const size_t n = (size_t)(end - line);
        const char *head = memmem(line, n, " s/step", 7);
        steps->timed = head != NULL ? (size_t)(head - line) : steps->timed;
        assert_true(steps->timed > 0 && n > steps->timed);
        keep(steps->out, line, steps->timed);
        keep(steps->out, "\n", 1);
    }
}

/* Runs a command given as "name value" pairs; what it prints is appended to out. */
static void run(cohort_command command, const char *const *pairs, struct text *out)
{
    cohort_options *options = NULL;
    cohort_error err = {0};
    cohort_observer observer = {.size = sizeof observer, .context = out, .output = keep};
    assert_int_equal(cohort_options_create(&options, command, &err), COHORT_OK);
    for (; *pairs != NULL; pairs += 2)
        if (cohort_options_set(options, pairs[0], pairs[1], pairs[0], &err) != COHORT_OK)
            fail_msg("%s", err.message);
    if (cohort_run(options, &observer, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    cohort_options_destroy(options);
}
#define RUN(command, out, ...) run(command, (const char *const[]){__VA_ARGS__, NULL}, out)
#define CPU                    "threads", "1", "device", "cpu"

static void put(const char *path, const char *content)
{
    assert_int_equal(file_write_atomic(path, content, strlen(content), NULL), COHORT_OK);
}

static void add_file(const char *path, struct text *out)
{
    struct text content = {0};
    cohort_error err = {0};
    if (file_read(path, 0, &content, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(text_append(out, content.data, content.length, NULL), COHORT_OK);
    text_free(&content);
}

/* Lines of metrics without what depends on the clock. Each must be JSON. */
static void add_metrics(const char *path, int expected, struct text *out)
{
    struct text content = {0};
    int lines = 0;
    assert_int_equal(file_read(path, 0, &content, NULL), COHORT_OK);
    for (char *line = content.data, *end; *line != '\0'; line = end + 1, lines++) {
        json_error_t error;
        end = strchr(line, '\n');
        assert_non_null(end);
        json_t *row = json_loadb(line, (size_t)(end - line), 0, &error);
        if (row == NULL)
            fail_msg("%s: %.*s", error.text, (int)(end - line), line);
        for (void *at = json_object_iter(row); at != NULL;) {
            const char *key = json_object_iter_key(at);
            at = json_object_iter_next(row, at);
            if (strstr(key, "time") != NULL || strstr(key, "throughput") != NULL || strstr(key, "memory") != NULL)
                json_object_del(row, key);
        }
        char *dumped = json_dumps(row, JSON_REAL_PRECISION(12));
        assert_int_equal(text_printf(out, NULL, "%s\n", dumped), COHORT_OK);
        free(dumped);
        json_decref(row);
    }
    assert_int_equal(lines, expected);
    text_free(&content);
}

/* A score of every kind of number that goes in and out, in the folder of this locale. */
static void everything(const char *locale, struct text *out)
{
    cohort_error err = {0};
    char here[64];
    snprintf(here, sizeof here, "run-%s", locale);
    assert_int_equal(mkdir(here, 0777), 0);
    assert_int_equal(chdir(here), 0);
    assert_non_null(setlocale(LC_ALL, locale));
    put("d.jsonl", "{\"prompt\": \"1+1=\", \"completion\": \"\\\\boxed{0.25}\", \"answer\": "
                   "\"0.25\", \"x\": 2.5e-3}\n{\"prompt\": \"2+2=\", \"completion\": \"5 INCH\", "
                   "\"answer\": \"5 inch\"}\n");
    put("run.yaml", "temperature: 0.75\nreward_weights: [1, 0.01]\nlearning_rate: 2.5e-3\n"
                    "lr_scheduler_type: linear\nwarmup_steps: 2\n");
    put("r.sh", "i=0\nwhile IFS= read -r line; do [ -z \"$line\" ] && continue; i=$((i + 1)); "
                "echo \"0.$((i % 4))25\"; done\n");
    RUN(COHORT_INIT, out, "preset", "nano", "tokenizer", "bytes", "seed", "1", "out", "m");
    RUN(COHORT_GENERATE, out, "model", "m", "prompt", "ab", "format", "jsonl", "n", "2", "max_tokens", "6",
        "temperature", "0.7", "logit_bias", "65:1.5,66:-2.25", "top_p", "0.95", CPU);
    RUN(COHORT_SCORE, out, "data", "d.jsonl", "reward", "accuracy,regex", "reward_pattern", "INCH", "reward_weights",
        "1,0.01");
    RUN(COHORT_EVAL, out, "model", "m", "data", "d.jsonl", "reward", "exec:sh r.sh", "max_completion_length", "4", CPU);
    RUN(COHORT_INFO, out, "preset", "qwen3-0.6b", "memory", "true", "memory_limit", "12.5", CPU);
    static const char *const steps[] = {"2", "4"};
    for (int i = 0; i < 2; i++) {
        cohort_options *options = NULL;
        struct steps shown = {.out = out};
        cohort_observer observer = {.size = sizeof observer, .context = &shown, .output = keep_untimed};
        const char *const pairs[] = {"model",
                                     "m",
                                     "data",
                                     "d.jsonl",
                                     "reward",
                                     "exec:sh r.sh,regex",
                                     "reward_pattern",
                                     "[a-m]",
                                     "out",
                                     "run",
                                     "num_generations",
                                     "2",
                                     "prompts_per_step",
                                     "2",
                                     "max_completion_length",
                                     "4",
                                     "steps",
                                     steps[i],
                                     "log_completions",
                                     "true",
                                     "lr_scheduler_type",
                                     "constant",
                                     CPU,
                                     i == 0 ? NULL : "resume",
                                     "latest",
                                     NULL};
        assert_int_equal(cohort_options_create(&options, COHORT_GRPO, &err), COHORT_OK);
        for (const char *const *at = pairs; *at != NULL; at += 2)
            assert_int_equal(cohort_options_set(options, at[0], at[1], NULL, &err), COHORT_OK);
        if (cohort_options_read_yaml(options, "run.yaml", &err) != COHORT_OK ||
            cohort_run(options, &observer, &err) != COHORT_OK)
            fail_msg("%s: %s", locale, err.message);
        cohort_options_destroy(options);
        assert_string_equal(setlocale(LC_ALL, NULL), locale); /* the host's is still the host's */
        assert_true(uselocale((locale_t)0) == LC_GLOBAL_LOCALE);
        setlocale(LC_ALL, "C");
        add_metrics("run/metrics.jsonl", 2 * (i + 1), out);
        assert_non_null(setlocale(LC_ALL, locale));
    }
    add_file("run/config.yaml", out);
    add_file("run/reward.svg", out);
    add_file("run/final/config.json", out);
    add_file("run/final/model.safetensors", out);
    /* Messages have numbers too. */
    cohort_options *options = NULL;
    assert_int_equal(cohort_options_create(&options, COHORT_GENERATE, &err), COHORT_OK);
    assert_int_equal(cohort_options_set(options, "xtc_threshold", "0,25", NULL, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "from 0 to 0.5"));
    cohort_options_destroy(options);
    setlocale(LC_ALL, "C");
    assert_int_equal(chdir(folder), 0);
}

static void test_everything(void **state)
{
    (void)state;
    struct text right = {0};
    int compared = 0;
    everything("C", &right);
    assert_non_null(strstr(right.data, "\"reward\": 1}"));
    for (size_t i = 1; i < N_LOCALES; i++) {
        struct text out = {0};
        if (!present[i])
            continue;
        everything(names[i], &out);
        size_t at = 0;
        while (at < right.length && at < out.length && right.data[at] == out.data[at])
            at++;
        if (right.length != out.length || at != right.length)
            fail_msg("%s: byte %zu: '%.60s', under C '%.60s'", names[i], at, out.data + (at > 20 ? at - 20 : 0),
                     right.data + (at > 20 ? at - 20 : 0));
        text_free(&out);
        compared++;
    }
    text_free(&right);
    if (compared == 0)
        skip();
}

static void test_numbers(void **state)
{
    (void)state;
    int compared = 0;
    for (size_t i = 0; i < N_LOCALES; i++) {
        double value = 0;
        char text[NUMBER_BYTES];
        struct text printed = {0};
        cohort_error err = {0};
        if (!present[i])
            continue;
        compared++;
        setlocale(LC_ALL, names[i]);
        assert_true(number_read("0.25", 4, &value) && value == 0.25);
        assert_false(number_read("0,25", 4, &value));
        number_write_float(0.1f, text);
        assert_string_equal(text, "0.1");
        number_write_double(1e-7, text);
        assert_string_equal(text, "1e-07");
        assert_int_equal(text_printf(&printed, NULL, "%.3f %g", 1234.5, 0.5), COHORT_OK);
        assert_string_equal(printed.data, "1234.500 0.5");
        error_set(&err, COHORT_ERR_NUMERIC, "%g", 1.5);
        error_context(&err, "%g", 2.5);
        assert_string_equal(err.message, "2.5: 1.5");
        assert_true(ascii_same("TITLE", "title"));
        text_free(&printed);
        /* A locale of the thread alone is put back as well. */
        locale_t own = newlocale(LC_ALL_MASK, names[i], (locale_t)0);
        locale_t before = uselocale(own);
        assert_true(number_read("0.25", 4, &value) && value == 0.25);
        assert_true(uselocale((locale_t)0) == own);
        uselocale(before);
        freelocale(own);
        setlocale(LC_ALL, "C");
    }
    if (compared < 2)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_everything)};
    return cmocka_run_group_tests(tests, make_locales, remove_folder);
}
