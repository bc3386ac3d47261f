/* The list of what a run reads: which files a reward's command line names, its form on disk, and what counts as a
 * difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "recipe/run_inputs.h"
#include "support/temporary_folder.h"

#include <string.h>
#include <unistd.h>

static char start[4096];

/* Paths in commands are relative, as users give them. */
static int setup_here(void **state)
{
    assert_non_null(getcwd(start, sizeof start));
    if (setup(state) != 0 || chdir(folder) != 0)
        return -1;
    put("check.py", "print(1)\n");
    put("my file.json", "{}");
    put("quo\"te.sh", "x");
    return mkdir("sub", 0777) == 0 && mkfifo("pipe", 0666) == 0 ? 0 : -1;
}

static int teardown_here(void **state)
{
    (void)state;
    return chdir(start);
}

/* The command names exactly the files of expected, joined by |. */
static void names(const char *command, const char *expected)
{
    struct run_inputs inputs = {0};
    struct text found = {0};
    cohort_error err = {0};
    assert_int_equal(text_append(&found, "", 0, &err), COHORT_OK);
    assert_int_equal(run_inputs_add_command(&inputs, INPUT_REWARD, command, &err), COHORT_OK);
    assert_true(inputs.read[INPUT_REWARD]);
    for (size_t i = 0; i < inputs.count; i++)
        assert_int_equal(text_printf(&found, &err, "%s%s", i > 0 ? "|" : "", inputs.items[i].path), COHORT_OK);
    if (strcmp(found.data, expected) != 0)
        fail_msg("%s names '%s', expected '%s'", command, found.data, expected);
    text_free(&found);
    run_inputs_free(&inputs);
}

static void test_commands(void **state)
{
    (void)state;
    names("", "");
    names("python3", "");
    names("python3 -u check.py --strict", "check.py");
    names("python3 ./check.py", "./check.py");
    names("python3 check.py 'my file.json' \"my file.json\" my\\ file.json",
          "check.py|my file.json|my file.json|my file.json");
    names("python3 check.py my file.json", "check.py");
    names("./tool --table=check.py --other='my file.json' X=check.py", "check.py|my file.json|check.py");
    names("cat<check.py|sh&&(check.py);check.py>out", "check.py|check.py|check.py");
    names("sh -c 'exec python3 \"my file.json\" check.py'", "my file.json|check.py");
    names("sh -c \"sh -c 'sh -c check.py'\"", "check.py");
    names("sh quo\\\"te.sh 'quo\"te.sh'", "quo\"te.sh|quo\"te.sh");
    names("sh 'check.py", "check.py");          /* an open quote */
    names("sh check.py\\", "");                 /* a backslash at the end stands for itself */
    names("sub pipe /dev/null missing.py", ""); /* no regular files */
}

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void add(struct run_inputs *inputs, enum input_kind kind, const char *path, const char *hex)
{
    assert_int_equal(run_inputs_add(inputs, kind, path, hex, NULL), COHORT_OK);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct run_inputs inputs = {.schedule = "cosine", .steps = 77}, again = {0};
    struct text first = {0}, second = {0};
    cohort_error err = {0};
    add(&inputs, INPUT_REWARD, "b.py", B);
    add(&inputs, INPUT_DATA, "a \"quoted\"\n\xc3\xa9.jsonl", A);
    add(&inputs, INPUT_REWARD, "a.py", A);
    inputs.read[INPUT_TEMPLATE] = true; /* looked, and there is none */
    assert_int_equal(run_inputs_note_change(&inputs, 3, INPUT_DATA, "x: \"y\"", &err), COHORT_OK);
    assert_int_equal(run_inputs_note_change(&inputs, 5, INPUT_SCHEDULE, "z", &err), COHORT_OK);
    assert_int_equal(run_inputs_write(&inputs, &first, &err), COHORT_OK);
    put("inputs.json", first.data);
    if (run_inputs_read(&again, "inputs.json", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(again.count, 3);
    assert_string_equal(again.items[0].path, "a \"quoted\"\n\xc3\xa9.jsonl");
    assert_true(again.read[INPUT_TEMPLATE]);
    assert_false(again.read[INPUT_MODEL]);
    assert_int_equal(run_inputs_write(&again, &second, &err), COHORT_OK);
    assert_string_equal(first.data, second.data);
    run_inputs_free(&inputs);
    run_inputs_free(&again);
    text_free(&first);
    text_free(&second);
}

/* Whether before and now differ in that kind, and in no other. */
static void differ(const struct run_inputs *before, const struct run_inputs *now, int kind, const char *says)
{
    struct text differs[INPUT_KINDS] = {{0}};
    assert_int_equal(run_inputs_compare(before, now, differs, NULL), COHORT_OK);
    for (int k = 0; k < INPUT_KINDS; k++) {
        if ((differs[k].length > 0) != (k == kind))
            fail_msg("%s: '%s'", input_kind_name((enum input_kind)k), differs[k].length > 0 ? differs[k].data : "");
        if (k == kind)
            assert_non_null(strstr(differs[k].data, says));
        text_free(&differs[k]);
    }
}

static void test_compare(void **state)
{
    (void)state;
    struct run_inputs before = {0}, same = {0}, moved = {0}, other = {0}, more = {0}, fewer = {0};
    add(&before, INPUT_DATA, "d", A);
    add(&before, INPUT_REWARD, "r", A);
    add(&before, INPUT_REWARD, "s", B);
    differ(&before, &same, -1, ""); /* has looked at nothing */
    add(&same, INPUT_REWARD, "r", A);
    add(&same, INPUT_REWARD, "s", B);
    add(&same, INPUT_EVAL_DATA, "e", A); /* there was none before */
    differ(&before, &same, -1, "");
    add(&moved, INPUT_DATA, "elsewhere", A);
    differ(&before, &moved, -1, "");
    add(&other, INPUT_REWARD, "r", A);
    add(&other, INPUT_REWARD, "s", A);
    differ(&before, &other, INPUT_REWARD, "s: expected SHA-256 bbbbbbbbbbbb..., found aaaaaaaaaaaa");
    add(&more, INPUT_DATA, "d", A);
    add(&more, INPUT_DATA, "d2", A);
    differ(&before, &more, INPUT_DATA, "d2 (SHA-256 aaaaaaaaaaaa...) is read now");
    add(&fewer, INPUT_REWARD, "r", A);
    differ(&before, &fewer, INPUT_REWARD, "s (SHA-256 bbbbbbbbbbbb...) is not read any more");
    /* What it did not look at is kept, and so is where the first run read what has moved. */
    assert_int_equal(run_inputs_inherit(&moved, &before, NULL), COHORT_OK);
    assert_int_equal(moved.count, 3);
    assert_string_equal(moved.items[0].path, "d");
    differ(&before, &moved, -1, "");
    assert_int_equal(run_inputs_inherit(&fewer, &before, NULL), COHORT_OK);
    assert_int_equal(fewer.count, 2); /* its rewards are its own */

    strcpy(before.schedule, "linear");
    strcpy(moved.schedule, "linear");
    before.steps = moved.steps = 4;
    differ(&before, &moved, -1, "");
    moved.steps = 8;
    differ(&before, &moved, INPUT_SCHEDULE, "planned for 4 steps, this run has 8");
    moved.schedule[0] = '\0'; /* constant: the number has no say, the option tells of the rest */
    differ(&before, &moved, -1, "");
    struct run_inputs *all[] = {&before, &same, &moved, &other, &more, &fewer};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        run_inputs_free(all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commands, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(test_round_trip, setup_here, teardown_here),
        cmocka_unit_test(test_compare),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
