/* Reward programs: good ones, and every way in which one can fail, with its message and without a
 * hang, a leak or a signal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "reward/reward.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort-exec-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* exec: a Python program with this text. */
static struct reward *python(const char *program, double timeout_s)
{
    char spec[300], path[200];
    struct reward *reward = NULL;
    cohort_error err = {0};
    struct reward_options options = {.timeout_s = timeout_s};
    snprintf(path, sizeof path, "%s/check.py", folder);
    assert_int_equal(file_write_atomic(path, program, strlen(program), NULL), COHORT_OK);
    snprintf(spec, sizeof spec, "exec:python3 %s", path);
    if (reward_create(&reward, spec, &options, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_string_equal(reward_name(reward), "check.py");
    return reward;
}

static struct reward *shell(const char *program, double timeout_s)
{
    struct reward *reward = NULL;
    cohort_error err = {0};
    struct reward_options options = {.timeout_s = timeout_s};
    struct text spec = {0};
    assert_int_equal(text_printf(&spec, NULL, "exec:%s", program), COHORT_OK);
    if (reward_create(&reward, spec.data, &options, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    text_free(&spec);
    return reward;
}

enum { MAX_ROWS = 2000 };
static struct reward_row rows[MAX_ROWS];
static const int32_t tokens[] = {5, 6};
static json_t *data;

/* Fills n rows; completions are given or "c". */
static void fill(size_t n, const char *completion)
{
    for (size_t i = 0; i < n; i++)
        rows[i] = (struct reward_row){.data = data,
                                      .prompt = "say\n\"hi\"",
                                      .completion = completion,
                                      .prompt_length = 8,
                                      .completion_length = strlen(completion),
                                      .tokens = tokens,
                                      .n_tokens = 2,
                                      .finish_reason = "eos",
                                      .prompt_index = (int64_t)(i / 2),
                                      .completion_index = (int32_t)(i % 2)};
}

static bool have_python;

static int make_data(void **state)
{
    have_python = system("command -v python3 > /dev/null 2>&1") == 0;
    data = json_loads("{\"prompt\": [1], \"answer\": 0.5, \"deep\": {\"a\": [null, \"\\u00e9\"]}}", 0, NULL);
    return data != NULL ? make_folder(state) : -1;
}

static int free_data(void **state)
{
    json_decref(data);
    return remove_folder(state);
}

/* Scoring n rows must fail within limit_s and say all that is in says (a list that ends with NULL).
 */
static void fails_n(struct reward *reward, size_t n, double limit_s, const char *const says[])
{
    double values[8] = {0};
    cohort_error err = {0};
    double start = now_s();
    cohort_status status = reward_score(reward, rows, n, values, &err);
    double took = now_s() - start;
    if (status != COHORT_ERR_REWARD || err.status != COHORT_ERR_REWARD)
        fail_msg("status %d: %s", status, err.message);
    for (size_t i = 0; says[i] != NULL; i++)
        if (strstr(err.message, says[i]) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", err.message, says[i]);
    if (took > limit_s)
        fail_msg("took %.2f s", took);
    /* And again, at once: what it would say now belongs to no batch. */
    assert_int_equal(reward_score(reward, rows, n, values, &err), COHORT_ERR_REWARD);
    assert_non_null(strstr(err.message, "earlier failure"));
    reward_destroy(reward);
}
#define FAILS(reward, ...) fails_n(reward, 4, 3, (const char *const[]){__VA_ARGS__, NULL})

static void test_good(void **state)
{
    (void)state;
    if (!have_python)
        skip();
    /* Checks all that it gets; answers in all three forms; goes on for two batches. */
    struct reward *reward =
        python("import sys, json\n"
               "batch = []\n"
               "for line in sys.stdin:\n"
               "    batch.append(json.loads(line))\n"
               "    assert batch[-1].get('last_of_batch') in (None, True)\n"
               "    if not batch[-1].get('last_of_batch'): continue\n"
               "    assert len(batch) == 6\n"
               "    for i, r in enumerate(batch):\n"
               "        assert r['prompt'] == 'say\\n\"hi\"' and r['tokens'] == [5, 6], r\n"
               "        assert r['finish_reason'] == 'eos' and r['answer'] == 0.5, r\n"
               "        assert r['deep'] == {'a': [None, '\\u00e9']}, r\n"
               "        assert list(r)[:6] == ['prompt', 'completion', 'tokens', 'finish_reason',\n"
               "                               'prompt_index', 'completion_index'], r\n"
               "        v = r['prompt_index'] + r['completion_index'] * 0.25\n"
               "        print('null' if i == 1 else json.dumps({'reward': v, 'why': 'x'}) if i == 2\n"
               "              else '{\"reward\": null}' if i == 3 else v)\n"
               "    batch = []\n"
               "    print()\n"
               "    sys.stdout.flush()\n",
               30);
    for (int batch = 0; batch < 2; batch++) {
        double values[6] = {0};
        cohort_error err = {0};
        fill(6, "a\xc3\xa9\n\xff");
        if (reward_score(reward, rows, 6, values, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_true(values[0] == 0 && isnan(values[1]) && values[2] == 1 && isnan(values[3]));
        assert_true(values[4] == 2 && values[5] == 2.25);
    }
    double start = now_s();
    reward_destroy(reward); /* ends by itself when its input ends */
    assert_true(now_s() - start < 1.5);
}

/* Far more than a pipe holds, both ways at once, from a program that answers before it reads on,
 * and one that answers first. */
static void test_full_pipes(void **state)
{
    (void)state;
    if (!have_python)
        skip();
    static double values[MAX_ROWS];
    cohort_error err = {0};
    char *big = malloc(10001);
    assert_non_null(big);
    memset(big, 'x', 10000);
    big[10000] = '\0';
    fill(MAX_ROWS, big);
    static const char *const programs[] = {
        /* a long answer a line, as the line comes */
        "import sys, json\n"
        "for line in sys.stdin:\n"
        "    if line.strip():\n"
        "        r = json.loads(line)\n"
        "        print(json.dumps({'reward': len(r['completion']), 'pad': 'y' * 5000}), "
        "flush=True)\n",
        /* all answers before the first line is read */
        "import sys\n"
        "for i in range(2000): print('{\"pad\": \"' + 'y' * 5000 + '\", \"reward\": 10000}')\n"
        "sys.stdout.flush()\n"
        "for line in sys.stdin: pass\n"};
    for (size_t p = 0; p < 2; p++) {
        struct reward *reward = python(programs[p], 30);
        memset(values, 0, sizeof values);
        if (reward_score(reward, rows, MAX_ROWS, values, &err) != COHORT_OK)
            fail_msg("program %zu: %s", p, err.message);
        for (size_t i = 0; i < MAX_ROWS; i++)
            assert_true(values[i] == 10000);
        reward_destroy(reward);
    }
    free(big);
}

static void test_dies(void **state)
{
    (void)state;
    fill(4, "c");
    FAILS(shell("echo oh no >&2; exit 3", 5), "reward 'echo'", "0 of 4 answers", "exit status 3", "oh no");
    FAILS(shell("/nonexistent/program", 5), "exit status 127", "not found");
    FAILS(shell("read x; echo 1; echo 2; echo half >&2; exit 0", 5), "after 2 of 4 answers", "exit status 0", "half");
    FAILS(shell("read x; echo 1; kill -9 $$", 5), "after 1 of 4 answers", "killed by signal 9");
    FAILS(shell("read x; echo 1; exec >&-; sleep 60", 5), "after 1 of 4 answers");
    if (have_python)
        FAILS(python("import sys\nsys.stdin.readline()\nraise ValueError('bad row')\n", 5), "exit status 1",
              "ValueError: bad row");
}

static void test_hangs(void **state)
{
    (void)state;
    fill(4, "c");
    double start = now_s();
    FAILS(shell("read x; echo 1; echo waiting >&2; sleep 60", 0.5), "within 0.5 s", "1 of 4 rows", "--reward-timeout",
          "waiting");
    assert_true(now_s() - start >= 0.5);
    FAILS(shell("trap '' TERM; while :; do sleep 1; done", 0.5), "within 0.5 s", "0 of 4 rows");
    FAILS(shell("echo 1; echo 2; echo 3", 5), "after 3 of 4 answers");

    /* One that will not go is killed, with what it started. */
    char path[100];
    snprintf(path, sizeof path, "%s/pid", folder);
    struct text program = {0}, pid = {0};
    assert_int_equal(text_printf(&program, NULL,
                                 "trap '' TERM; sleep 60 & echo $! > %s; "
                                 "while read -r x; do [ -n \"$x\" ] && echo 1; done; "
                                 "while :; do sleep 1; done",
                                 path),
                     COHORT_OK);
    struct reward *reward = shell(program.data, 5);
    double values[4];
    assert_int_equal(reward_score(reward, rows, 4, values, NULL), COHORT_OK);
    assert_int_equal(file_read(path, 0, &pid, NULL), COHORT_OK);
    pid_t child = (pid_t)atol(pid.data);
    assert_true(child > 1 && kill(child, 0) == 0);
    start = now_s();
    reward_destroy(reward);
    double took = now_s() - start;
    assert_true(took > 1.9 && took < 4);
    /* Killed, it may stay a zombie where nobody reaps orphans. */
    char stat[64], line[256] = "";
    snprintf(stat, sizeof stat, "/proc/%ld/stat", (long)child);
    for (int i = 0; i < 100 && kill(child, 0) == 0; i++) {
        FILE *file = fopen(stat, "r");
        if (file != NULL) {
            if (fgets(line, sizeof line, file) != NULL && strstr(line, ") Z") != NULL)
                i = 100;
            fclose(file);
        }
        usleep(10000);
    }
    assert_true(kill(child, 0) != 0 || strstr(line, ") Z") != NULL);
    text_free(&program);
    text_free(&pid);
}

static void test_garbage(void **state)
{
    (void)state;
    fill(4, "c");
    static const char *const garbage[] = {"hello",
                                          "NaN",
                                          "Infinity",
                                          "1e999",
                                          "true",
                                          "\\\"1\\\"",
                                          "{}",
                                          "1 2",
                                          "{\\\"reward\\\": \\\"x\\\"}",
                                          "{\\\"reward\\\": 1, \\\"reward\\\": 2}",
                                          "0x10"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        char program[200];
        snprintf(program, sizeof program, "read x; echo 1; echo \"%s\"; echo noise >&2; cat >/dev/null", garbage[i]);
        FAILS(shell(program, 5), "row 2 of 4", "expected a finite number");
    }
    FAILS(shell("read x; echo 1; echo [1]; cat >/dev/null", 5), "row 2 of 4",
          "a list of 1 for a completion of 2 tokens");
    FAILS(shell("read x; echo '{\"reward\": [1, 2, 3]}'; cat >/dev/null", 5), "row 1 of 4",
          "a list of 3 for a completion of 2 tokens");
    FAILS(shell("read x; echo '[1, true]'; cat >/dev/null", 5), "item 2 is neither a number nor null");
    FAILS(shell("read x; echo '[1, [2]]'; cat >/dev/null", 5), "item 2 is neither a number nor null");
    if (have_python)
        FAILS(python("import sys\nsys.stdin.readline()\nsys.stdout.write('1' * 30000000)\n"
                     "sys.stdout.flush()\nsys.stdin.read()\n",
                     5),
              "more than 16777216 bytes");
    FAILS(shell("read x; printf '1\\n2\\n3\\n4\\n5\\n'; cat >/dev/null", 5), "more lines than the 4 rows");
    FAILS(shell("read x; printf '1\\n2\\n3\\n4\\n5'; cat >/dev/null", 5), "more than the 4 rows");
    FAILS(shell("read x; printf '1\\n2\\n3\\n4'; cat >/dev/null", 0.5), "3 of 4 rows");
}

static void scores(struct reward *reward, size_t n, const double *right)
{
    double values[8] = {0};
    cohort_error err = {0};
    if (reward_score(reward, rows, n, values, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n; i++)
        assert_true(values[i] == right[i]);
}

/* The program that comes to mind first works, and those written for a batch that ends with an empty line do where they
 * pass it over. Two batches each, the second of one row. */
static void test_natural(void **state)
{
    (void)state;
    if (!have_python)
        skip();
    static const char *const programs[] = {
        "import sys, json\n"
        "for line in sys.stdin:\n"
        "    row = json.loads(line)\n"
        "    print(len(row['completion']), flush=True)\n",
        "import sys, json\n"
        "for line in sys.stdin:\n"
        "    if not line.strip(): continue\n"
        "    print(len(json.loads(line)['completion']), flush=True)\n",
        "import sys, json\n"
        "batch = []\n"
        "for line in sys.stdin:\n"
        "    batch.append(json.loads(line))\n"
        "    if batch[-1].get('last_of_batch'):\n"
        "        print('\\n'.join(str(len(r['completion'])) for r in batch), flush=True)\n"
        "        batch = []\n"};
    static const double four[] = {4, 4, 4, 4};
    fill(4, "abcd");
    for (size_t p = 0; p < sizeof programs / sizeof programs[0]; p++) {
        struct reward *reward = python(programs[p], 30);
        scores(reward, 4, four);
        scores(reward, 1, four);
        reward_destroy(reward);
    }
}

/* A completion is sent whole, NULs too; a column of the data cannot mark the end of a batch. */
static void test_whole_text(void **state)
{
    (void)state;
    if (!have_python)
        skip();
    static const char completion[] = "7\0 and \xff\0";
    static const double right[] = {10, 10, 10, 11};
    json_t *marked = json_pack("{s:b}", "last_of_batch", 1);
    fill(4, completion);
    for (size_t i = 0; i < 4; i++) {
        rows[i].completion_length = sizeof completion - 1;
        rows[i].data = marked;
    }
    struct reward *reward = python("import sys, json\n"
                                   "for line in sys.stdin:\n"
                                   "    assert '\\\\u0000' in line\n"
                                   "    row = json.loads(line)\n"
                                   "    assert row['completion'] == '7\\0 and \\ufffd\\0', row\n"
                                   "    print(10 + bool(row.get('last_of_batch')), flush=True)\n",
                                   30);
    scores(reward, 4, right);
    reward_destroy(reward);
    json_decref(marked);
}

/* What a program that stays silent may have done wrong. */
static void test_silence(void **state)
{
    (void)state;
    fill(4, "c");
    FAILS(shell("cat > /dev/null", 0.5), "within 0.5 s", "it printed nothing",
          "does it flush its output (Python: print(..., flush=True))", "\"last_of_batch\": true", "--reward-timeout");
    FAILS(shell("while read -r x; do [ -z \"$x\" ] && printf '1\\n1\\n1\\n1\\n'; done", 0.5), "it printed nothing",
          "There is none");
    FAILS(shell("printf '1\\n2'; cat > /dev/null", 0.5), "1 of 4 rows", "'2', has no newline");
    FAILS(shell("printf '1\\n2\\n'; cat > /dev/null", 0.5), "2 of 4 rows", "the others are missing");
    char *big = malloc(100001);
    assert_non_null(big);
    memset(big, 'x', 100000);
    big[100000] = '\0';
    fill(4, big);
    FAILS(shell("sleep 60", 0.5), "it does not read its input: the pipe is full");
    free(big);
    fill(4, "c");
    FAILS(shell("read x; echo scoring row 1; cat > /dev/null", 5), "row 1 of 4", "'scoring row 1'", "to standard error",
          "file=sys.stderr");
    if (have_python) {
        unsetenv("PYTHONUNBUFFERED");
        FAILS(python("import sys\nfor line in sys.stdin: print(1)\n", 1), "it printed nothing", "flush=True");
        /* Of a traceback all that there is room for. */
        FAILS(python("import sys, json\n"
                     "def inner(row):\n    return row['nothing']\n"
                     "def outer(row):\n    return inner(row)\n"
                     "for line in sys.stdin: print(outer(json.loads(line)), flush=True)\n",
                     5),
              "Traceback (most recent call last)", "in outer", "in inner", "KeyError: 'nothing'");
    }
}

/* Extra answers that come late are found before the next batch takes them for its own. */
static void test_late_extra(void **state)
{
    (void)state;
    fill(4, "c");
    double values[4] = {0};
    struct reward *reward = shell("for i in 1 2 3 4; do read -r x; done; printf '1\\n2\\n3\\n4\\n'; sleep 0.2; "
                                  "echo 5; cat > /dev/null",
                                  5);
    cohort_error err = {0};
    assert_int_equal(reward_score(reward, rows, 4, values, &err), COHORT_OK);
    assert_true(values[0] == 1 && values[3] == 4);
    usleep(400000);
    FAILS(reward, "batch before");
}

/* A program for one batch only: that batch counts, the next is told. */
static void test_ends_after_batch(void **state)
{
    (void)state;
    fill(4, "c");
    double values[4] = {0};
    cohort_error err = {0};
    struct reward *reward = shell("printf '1\\n2\\n3\\n4'", 5); /* never reads; last line unfinished */
    if (reward_score(reward, rows, 4, values, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_true(values[3] == 4);
    usleep(100000);
    FAILS(reward, "ended after an earlier batch", "exit status 0");
}

static void test_big_stderr(void **state)
{
    (void)state;
    if (!have_python)
        skip();
    fill(4, "c");
    double values[4] = {0};
    cohort_error err = {0};
    /* 2 MB of stderr block nothing, ... */
    struct reward *reward = python("import sys\nfor i in range(4): sys.stdin.readline()\n"
                                   "sys.stderr.write('noise\\n' * 350000)\nprint('1\\n2\\n3\\n4', flush=True)\n"
                                   "sys.stdin.read()\n",
                                   20);
    if (reward_score(reward, rows, 4, values, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    reward_destroy(reward);
    /* ... and of what a failing program wrote, the end is shown. */
    FAILS(python("import sys\nsys.stderr.write('early\\n' + 'noise\\n' * 50000 + 'the reason\\n')\n"
                 "sys.exit(9)\n",
                 20),
          "exit status 9", "...", "the reason");
}

/* The host's SIGPIPE stays the default, which would end this test, and its mask is left alone. */
static void test_no_sigpipe(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_DFL);
    char *big = malloc(200001);
    assert_non_null(big);
    memset(big, 'x', 200000);
    big[200000] = '\0';
    fill(4, big);
    FAILS(shell("exec <&-; sleep 0.1; exit 4", 5), "exit status 4");
    sigset_t mask, pending;
    assert_int_equal(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
    assert_int_equal(sigismember(&mask, SIGPIPE), 0);
    assert_int_equal(sigpending(&pending), 0);
    assert_int_equal(sigismember(&pending, SIGPIPE), 0);
    free(big);
}

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void test_no_leak(void **state)
{
    (void)state;
    fill(4, "c");
    int before = count_fds();
    for (int i = 0; i < 5; i++) {
        reward_destroy(shell("cat > /dev/null", 5));
        FAILS(shell("exit 1", 5), "exit status 1");
    }
    assert_int_equal(count_fds(), before);
    siginfo_t info = {0};
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1); /* no child is left */
}

/* Works for a host that has closed its own standard streams. */
static void test_closed_streams(void **state)
{
    (void)state;
    fill(4, "c");
    double values[4] = {0};
    cohort_error err = {0};
    int kept = dup(STDIN_FILENO);
    close(STDIN_FILENO);
    struct reward *reward = shell("while read -r x; do [ -n \"$x\" ] && echo 2; done; true", 5);
    cohort_status status = reward_score(reward, rows, 4, values, &err);
    reward_destroy(reward);
    dup2(kept, STDIN_FILENO);
    close(kept);
    if (status != COHORT_OK)
        fail_msg("%s", err.message);
    assert_true(values[0] == 2 && values[3] == 2);
}

/* Several programs: batches are begun, finished in another order, or given up; each has its own rows' answers. */
static void test_several(void **state)
{
    (void)state;
    enum { JOBS = 12 };
    struct reward *reward = NULL;
    struct reward_job *jobs[JOBS] = {NULL};
    struct reward_options options = {.timeout_s = 20, .workers = 3};
    struct reward_log log = {0};
    cohort_error err = {0};
    static const char program[] =
        "exec:while read -r row; do r=${row##*prompt_index??}; r=${r%%,*}; sleep 0.0$((r % 3)); "
        "echo \"{\\\"reward\\\": $r, \\\"metrics\\\": {\\\"m\\\": $r}, \\\"extra\\\": {\\\"e\\\": $r}}\"; done";
    if (reward_create(&reward, program, &options, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(reward_workers(reward), 3);
    fill(2 * JOBS, "c");
    for (size_t j = 0; j < JOBS; j++)
        assert_int_equal(reward_start(&jobs[j], reward, rows + 2 * j, 2, NULL, &err), COHORT_OK);
    reward_job_free(jobs[JOBS - 1]);
    for (size_t j = JOBS - 1; j-- > 0;) {
        double values[2] = {0};
        if (reward_finish(jobs[j], values, NULL, &log, 2 * j, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_true(values[0] == (double)j && values[1] == (double)j);
        reward_job_free(jobs[j]);
    }
    assert_int_equal(json_integer_value(json_array_get(json_object_get(log.metrics, "m"), 1)), 2 * (JOBS - 1));
    assert_true(json_real_value(json_array_get(json_object_get(log.metrics, "m"), 0)) == (JOBS - 1) * (JOBS - 2));
    for (size_t i = 0; i < 2 * (JOBS - 1); i++)
        assert_int_equal(json_integer_value(json_array_get(json_object_get(log.extra, "e"), i)), i / 2);
    reward_log_free(&log);
    /* Given up at once. */
    assert_int_equal(reward_start(&jobs[0], reward, rows, 2, NULL, &err), COHORT_OK);
    reward_job_free(jobs[0]);
    reward_destroy(reward);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),       cmocka_unit_test(test_full_pipes),
        cmocka_unit_test(test_dies),       cmocka_unit_test(test_hangs),
        cmocka_unit_test(test_garbage),    cmocka_unit_test(test_natural),
        cmocka_unit_test(test_whole_text), cmocka_unit_test(test_silence),
        cmocka_unit_test(test_late_extra), cmocka_unit_test(test_ends_after_batch),
        cmocka_unit_test(test_big_stderr), cmocka_unit_test(test_no_sigpipe),
        cmocka_unit_test(test_no_leak),    cmocka_unit_test(test_closed_streams),
        cmocka_unit_test(test_several),
    };
    return cmocka_run_group_tests(tests, make_data, free_data);
}
