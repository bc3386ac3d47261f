/* The run folder under failing and killed system calls: every call that changes a file is made to fail, or the process
 * is killed before it, one after the other, and what is on disk is looked at. The calls of the library are caught by
 * functions of the same names in this program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/lock.h"
#include "format/checkpoint.h"
#include "run/run_folder.h"

#include "support/temporary_folder.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the calls ---- */

static long countdown = -1; /* the call at 0 is the one; -1: none */
static bool deadly;         /* kill in place of failing */
static int failure = EIO;
static const char *only = ""; /* of calls whose path ends so */
static bool no_locks, broken_readdir, half;

static bool hit(const char *path)
{
    size_t n = strlen(only);
    if (n > 0 && (path == NULL || strlen(path) < n || strcmp(path + strlen(path) - n, only) != 0))
        return false;
    if (countdown < 0 || countdown-- > 0)
        return false;
    if (deadly)
        kill(getpid(), SIGKILL);
    errno = failure;
    return true;
}

int open(const char *path, int flags, ...);
int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    unsigned mode = (flags & O_CREAT) != 0 ? va_arg(args, unsigned) : 0;
    va_end(args);
    if ((flags & O_CREAT) != 0 && hit(path))
        return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int rename(const char *from, const char *to)
{
    return hit(to) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return hit(to) ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}
int mkdir(const char *path, mode_t mode) { return hit(path) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode); }
int unlink(const char *path) { return hit(path) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
int rmdir(const char *path) { return hit(path) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR); }
ssize_t write(int fd, const void *bytes, size_t length)
{
    if (!hit(NULL))
        return (ssize_t)syscall(SYS_write, fd, bytes, length);
    if (!half)
        return -1;
    half = false; /* a disk that fills up: half of it, and then the error */
    countdown = 0;
    return (ssize_t)syscall(SYS_write, fd, bytes, length / 2);
}
/* What a power cut would do is not tried here, and a disk takes milliseconds. */
int fsync(int fd)
{
    (void)fd;
    return hit(NULL) ? -1 : 0;
}
int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    long argument = va_arg(args, long);
    va_end(args);
    if (command == F_OFD_SETLK && no_locks) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

/* ---- a run ---- */

static cohort_status save(struct run_folder *run, int64_t step, bool periodic, cohort_error *err)
{
    struct checkpoint_folder out = {0};
    struct text notes = {0};
    char *path = NULL, *trainer = NULL, *file = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_folder_checkpoint_path(run->path, step, &path, err));
    TRY_GOTO(checkpoint_folder_begin(&out, path, err));
    TRY_GOTO(file_join(&trainer, out.temporary, "trainer", err));
    TRY_GOTO(file_make_dirs(trainer, err));
    TRY_GOTO(file_join(&file, out.temporary, "config.json", err));
    TRY_GOTO(file_write_atomic(file, "{}", 2, err));
    TRY_GOTO(run_folder_carry(run, out.temporary, err));
    TRY_GOTO(checkpoint_folder_commit(&out, err));
    TRY_GOTO(run_folder_note_periodic(run, step, periodic, err));
    TRY_GOTO(run_folder_prune(run, 2, false, &notes, err));
cleanup:
    checkpoint_folder_abandon(&out);
    text_free(&notes);
    mem_free(path);
    mem_free(trainer);
    mem_free(file);
    return status;
}

static cohort_status log_step(struct run_folder *run, int64_t step, cohort_error *err)
{
    struct text line = {0};
    cohort_status status = text_printf(&line, err, "{\"step\": %lld}\n", (long long)step);
    if (status == COHORT_OK)
        status = run_folder_log(run, RUN_METRICS, &line, err);
    text_free(&line);
    return status;
}

static struct text yaml = {.data = (char[]){"seed: 1\n"}, .length = 8};

/* Steps with a save each, from a new folder or from the newest checkpoint, to step 6. */
static cohort_status train(const char *path, cohort_error *err)
{
    struct run_folder run = {0};
    struct run_steps steps = {0};
    char *from = NULL;
    int64_t step = 0;
    cohort_status status = COHORT_OK;
    TRY(run_folder_checkpoints(path, &steps, NULL, err));
    if (steps.n > 0) {
        step = steps.at[steps.n - 1];
        TRY_GOTO(run_folder_checkpoint_path(path, step, &from, err));
        TRY_GOTO(run_folder_open(&run, path, step, from, &yaml, err));
    } else {
        TRY_GOTO(run_folder_create(&run, path, &yaml, err));
    }
    while (step++ < 6) {
        status = log_step(&run, step, err);
        if (status == COHORT_OK)
            status = run_folder_write(&run, "eval-step.jsonl", "{}", 2, err);
        if (status == COHORT_OK)
            status = save(&run, step, step % 2 == 0, err);
        if (status != COHORT_OK) { /* the last save of a run that fails */
            (void)save(&run, step, false, NULL);
            break;
        }
    }
cleanup:
    run_folder_close(&run);
    run_steps_free(&steps);
    mem_free(from);
    return status;
}

static size_t entries_named(const char *path, const char *prefix)
{
    size_t n = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry = NULL; dir != NULL && (entry = readdir(dir)) != NULL;)
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* Every checkpoint that has its name is whole. */
static void expect_whole(const char *path)
{
    struct run_steps steps = {0};
    cohort_error err = {0};
    assert_int_equal(run_folder_checkpoints(path, &steps, NULL, &err), COHORT_OK);
    for (size_t i = 0; i < steps.n; i++) {
        struct manifest_report report = {0};
        char *checkpoint = NULL;
        assert_int_equal(run_folder_checkpoint_path(path, steps.at[i], &checkpoint, &err), COHORT_OK);
        assert_int_equal(manifest_verify(checkpoint, NULL, &report, NULL, &err), COHORT_OK);
        assert_true(report.found);
        assert_int_equal(report.n_bad, 0);
        text_free(&report.bad);
        mem_free(checkpoint);
    }
    run_steps_free(&steps);
}

/* The run as it is when nobody disturbed it. */
static void expect_finished(const char *path)
{
    struct text metrics = {0};
    struct run_steps steps = {0};
    cohort_error err = {0};
    char *file = NULL;
    assert_int_equal(file_join(&file, path, "metrics.jsonl", &err), COHORT_OK);
    assert_int_equal(file_read(file, 0, &metrics, &err), COHORT_OK);
    assert_string_equal(metrics.data, "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n{\"step\": 4}\n"
                                      "{\"step\": 5}\n{\"step\": 6}\n");
    mem_free(file);
    text_free(&metrics);
    assert_int_equal(run_folder_checkpoints(path, &steps, NULL, &err), COHORT_OK);
    /* Stopped between the last save and its pruning there is one more. */
    assert_in_range(steps.n, 2, 3);
    assert_int_equal(steps.at[steps.n - 1], 6);
    run_steps_free(&steps);
    assert_int_equal(file_join(&file, path, "checkpoints", &err), COHORT_OK);
    assert_int_equal(entries_named(path, ".cohort-"), 0);
    assert_int_equal(entries_named(file, ".cohort-"), 0);
    assert_int_equal(entries_named(path, "eval-step.jsonl"), 1);
    assert_int_equal(entries_named(path, ".mine.tmp-1234567"), 1);
    mem_free(file);
}

/* A run is killed before its k-th change of a file, or that change fails, for every k: what has a name is whole, and
 * the next run ends as if nothing had been. */
static void every_call(bool kills)
{
    cohort_error err = {0};
    bool done = false;
    long k = 0;
    for (; !done; k++) {
        char run[300];
        assert_int_equal(setup(NULL), 0);
        snprintf(run, sizeof run, "%s", in_folder("run"));
        assert_int_equal(file_make_dirs(run, &err), COHORT_OK);
        put("run/.mine.tmp-1234567", "mine");
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            countdown = k;
            deadly = kills;
            cohort_status status = train(run, NULL);
            bool spent = countdown < 0; /* the call came */
            _exit(status == COHORT_OK ? (spent ? 0 : 3) : 1);
        }
        int result = -1;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFEXITED(result) || (kills && WTERMSIG(result) == SIGKILL));
        done = WIFEXITED(result) && WEXITSTATUS(result) == 3;
        expect_whole(run);
        /* A new run that was killed before its first checkpoint starts anew; one that failed has cleaned up behind
         * itself. */
        if (kills && !is_there(in_folder("run/checkpoints/step-1")) &&
            entries_named(in_folder("run/checkpoints"), "step-") == 0) {
            assert_int_equal(file_remove_all(in_folder("run/config.yaml"), &err), COHORT_OK);
            assert_int_equal(file_remove_all(in_folder("run/metrics.jsonl"), &err), COHORT_OK);
        } else if (WIFEXITED(result) && WEXITSTATUS(result) == 1 &&
                   entries_named(in_folder("run/checkpoints"), "step-") == 0) {
            /* A failure before the run stood, or in its first save and the last one, too. */
            unlink(in_folder("run/config.yaml"));
            unlink(in_folder("run/metrics.jsonl"));
        }
        cohort_status status = train(run, &err);
        if (status != COHORT_OK)
            fail_msg("call %ld: %s", k, err.message);
        expect_finished(run);
    }
    print_message("%ld calls\n", k);
    assert_true(k > 200);
}

static void test_killed_at_every_call(void **state)
{
    (void)state;
    every_call(true);
}

static void test_every_call_fails(void **state)
{
    (void)state;
    every_call(false);
}

/* A new run that cannot be made leaves nothing that "try again" would refuse. */
static void test_create_fails(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct run_folder run = {0};
    char path[300];
    snprintf(path, sizeof path, "%s", in_folder("a/run"));
    assert_int_equal(file_make_dirs(in_folder("a"), &err), COHORT_OK);
    for (int k = 0; k < 3; k++) {
        only = k == 0 ? "config.yaml" : k == 1 ? "metrics.jsonl" : "checkpoints";
        failure = ENOSPC;
        countdown = 0;
        assert_int_equal(run_folder_create(&run, path, &yaml, &err), COHORT_ERR_IO);
        assert_non_null(strstr(err.message, "No space left"));
        assert_int_equal(countdown, -1);
        assert_false(is_there(path));
    }
    only = "";
    failure = EIO;
    assert_int_equal(run_folder_create(&run, path, &yaml, &err), COHORT_OK);
    run_folder_close(&run);
    /* A folder of checkpoints alone is a run, too: its checkpoints are not to be pruned. */
    assert_int_equal(file_make_dirs(in_folder("b/checkpoints/step-3"), &err), COHORT_OK);
    assert_int_equal(run_folder_create(&run, in_folder("b"), &yaml, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, "already holds a run (checkpoints)"));
    assert_int_equal(count_entries(in_folder("b")), 1);
}

/* Lines that could not be written travel with the checkpoint, once; lines that we cannot read are not ours to drop. */
static void test_lines(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct run_folder run = {0};
    struct text metrics = {0};
    char path[300], from[400];
    snprintf(path, sizeof path, "%s", in_folder("run"));
    snprintf(from, sizeof from, "%s/checkpoints/step-2", path);
    assert_int_equal(run_folder_create(&run, path, &yaml, &err), COHORT_OK);
    assert_int_equal(log_step(&run, 1, &err), COHORT_OK);
    countdown = 0;
    half = true;
    failure = ENOSPC;
    assert_int_equal(log_step(&run, 2, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "kept for the next checkpoint"));
    assert_int_equal(file_read(in_folder("run/metrics.jsonl"), 0, &metrics, &err), COHORT_OK);
    assert_string_equal(metrics.data, "{\"step\": 1}\n"); /* no half of a line */
    text_free(&metrics);
    assert_int_equal(half, false);
    /* The disk stays full for metrics.jsonl, which is the first write of a save. */
    int metrics_fd = run.logs[RUN_METRICS].fd;
    int read_only = open("/dev/null", O_RDONLY);
    run.logs[RUN_METRICS].fd = read_only;
    assert_int_equal(save(&run, 2, false, &err), COHORT_OK);
    run.logs[RUN_METRICS].fd = metrics_fd;
    close(read_only);
    failure = EIO;
    run_folder_close(&run);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run_folder_open(&run, path, 2, from, &yaml, &err), COHORT_OK);
        run_folder_close(&run);
        assert_int_equal(file_read(in_folder("run/metrics.jsonl"), 0, &metrics, &err), COHORT_OK);
        assert_string_equal(metrics.data, "{\"step\": 1}\n{\"step\": 2}\n");
        text_free(&metrics);
    }
    put("run/metrics.jsonl", "{\"step\": 1}\n{\"loss\": 0,25}\n{\"step\": 3}\n# mine\n"
                             "{\"step\": 2, \"x\": 1,5}\n{\"step\": 2}");
    assert_int_equal(run_folder_open(&run, path, 2, from, &yaml, &err), COHORT_OK);
    run_folder_close(&run);
    assert_int_equal(file_read(in_folder("run/metrics.jsonl"), 0, &metrics, &err), COHORT_OK);
    assert_string_equal(metrics.data, "{\"step\": 1}\n{\"loss\": 0,25}\n# mine\n"
                                      "{\"step\": 2, \"x\": 1,5}\n{\"step\": 2}\n");
    text_free(&metrics);
    /* No byte of it is lost where reading or writing it fails. */
    for (int k = 0; k < 40; k++) {
        put("run/metrics.jsonl", "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n");
        countdown = k;
        cohort_status status = run_folder_open(&run, path, 2, from, &yaml, &err);
        run_folder_close(&run);
        countdown = -1;
        assert_int_equal(file_read(in_folder("run/metrics.jsonl"), 0, &metrics, &err), COHORT_OK);
        assert_int_equal(strncmp(metrics.data, "{\"step\": 1}\n{\"step\": 2}\n", 24), 0);
        text_free(&metrics);
        (void)status;
    }
}

static void test_lock(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct run_folder first = {0}, second = {0};
    char path[300], self[40];
    snprintf(path, sizeof path, "%s", in_folder("run"));
    snprintf(self, sizeof self, "process %ld on ", (long)getpid());
    assert_int_equal(run_folder_create(&first, path, &yaml, &err), COHORT_OK);
    assert_true(first.lock > 2);
    assert_int_equal(fcntl(first.lock, F_GETFD), FD_CLOEXEC);
    /* Another handle of the same process, and another process. */
    assert_int_equal(run_folder_lock(&second, path, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, self));
    assert_non_null(strstr(err.message, " since 20"));
    assert_null(second.path);
    pid_t child = fork();
    if (child == 0)
        _exit(run_folder_lock(&second, path, NULL) == COHORT_ERR_STATE ? 0 : 1);
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    /* Released by its holder though a fork has the description open. */
    child = fork();
    if (child == 0) {
        alarm(10);
        pause();
        _exit(0);
    }
    run_folder_close(&first);
    assert_int_equal(run_folder_lock(&second, path, &err), COHORT_OK);
    run_folder_close(&second);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &result, 0), child);
    /* Released by death. */
    child = fork();
    if (child == 0) {
        if (run_folder_lock(&second, path, NULL) == COHORT_OK)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFSIGNALED(result));
    assert_int_equal(run_folder_lock(&second, path, &err), COHORT_OK);
    run_folder_close(&second);
    /* Of a host that has closed its standard descriptors: no file of ours takes their place. */
    child = fork();
    if (child == 0) {
        for (int fd = 0; fd <= 2; fd++)
            close(fd);
        bool above = run_folder_open(&second, path, 0, path, &yaml, NULL) == COHORT_OK && second.lock > 2 &&
                     second.logs[RUN_METRICS].fd > 2;
        int fd = file_open(path, O_RDONLY);
        run_folder_close(&second);
        _exit(above && fd > 2 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    /* A file system without locks. */
    no_locks = true;
    assert_int_equal(run_folder_lock(&second, path, &err), COHORT_OK);
    assert_true(second.lock_unsupported);
    run_folder_close(&second);
    no_locks = false;
    /* A file of that name that is not ours. */
    put("run/.cohort.lock", "mine");
    assert_int_equal(run_folder_lock(&second, path, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, "is not a lock file of cohort's"));
}

struct dirent *readdir(DIR *dir)
{
    static struct dirent *(*real)(DIR *);
    if (broken_readdir) {
        errno = EIO;
        return NULL;
    }
    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "readdir");
        memcpy(&real, &symbol, sizeof real);
    }
    return real(dir);
}

/* An error of readdir is not the end of the folder. */
static void test_readdir(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct run_steps steps = {0};
    struct run_folder run = {0};
    struct manifest manifest = {0};
    assert_int_equal(file_make_dirs(in_folder("run/checkpoints/step-3"), &err), COHORT_OK);
    broken_readdir = true;
    assert_int_equal(run_folder_checkpoints(in_folder("run"), &steps, NULL, &err), COHORT_ERR_IO);
    assert_int_equal(run_folder_lock(&run, in_folder("run"), &err), COHORT_ERR_IO);
    assert_int_equal(file_remove_all(in_folder("run"), &err), COHORT_ERR_IO);
    assert_int_equal(manifest_write(&manifest, in_folder("run"), &err), COHORT_ERR_IO);
    broken_readdir = false;
    assert_non_null(strstr(err.message, "cannot read the folder"));
    assert_true(is_folder(in_folder("run/checkpoints/step-3")));
    manifest_free(&manifest);
}

/* A checkpoint's name is step-N with N in one form; what is written by the clock is told apart. */
static void test_names_and_prune(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct run_folder run = {0};
    struct run_steps steps = {0};
    struct text odd = {0}, notes = {0};
    char path[300];
    snprintf(path, sizeof path, "%s", in_folder("run"));
    assert_int_equal(run_folder_create(&run, path, &yaml, &err), COHORT_OK);
    for (int64_t step = 1; step <= 6; step++) {
        char name[100];
        snprintf(name, sizeof name, "run/checkpoints/step-%d", (int)step);
        assert_int_equal(file_make_dirs(in_folder(name), &err), COHORT_OK);
        assert_int_equal(run_folder_note_periodic(&run, step, step != 2, &err), COHORT_OK);
    }
    static const char *const names[] = {"step-007", "step-", "step-1x", "step--1", "step-+8", "steps"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[100];
        snprintf(name, sizeof name, "run/checkpoints/%s", names[i]);
        assert_int_equal(file_make_dirs(in_folder(name), &err), COHORT_OK);
    }
    assert_int_equal(run_folder_checkpoints(path, &steps, &odd, &err), COHORT_OK);
    assert_int_equal(steps.n, 6);
    assert_non_null(strstr(odd.data, "checkpoints/step-007\n"));
    run_steps_free(&steps);
    text_free(&odd);
    /* Of those by the clock two stay, and the one that was asked for. A rename that fails is a note. */
    countdown = 0;
    only = "/step-4";
    assert_int_equal(run_folder_prune(&run, 2, true, &notes, &err), COHORT_OK);
    only = "";
    assert_non_null(strstr(notes.data, "step-4: cannot rename it"));
    text_free(&notes);
    assert_int_equal(run_folder_checkpoints(path, &steps, NULL, &err), COHORT_OK);
    assert_int_equal(steps.n, 4); /* 2 4 5 6 */
    run_steps_free(&steps);
    assert_int_equal(run_folder_prune(&run, 2, true, &notes, &err), COHORT_OK);
    assert_int_equal(notes.length, 0);
    assert_int_equal(run_folder_checkpoints(path, &steps, NULL, &err), COHORT_OK);
    assert_int_equal(steps.n, 3);
    assert_int_equal(steps.at[0], 2);
    run_steps_free(&steps);
    /* With a file of the user in it it stays, with a word. */
    put("run/checkpoints/step-2/notes.txt", "mine");
    assert_int_equal(run_folder_prune(&run, 1, false, &notes, &err), COHORT_OK);
    assert_non_null(strstr(notes.data, "step-2 was not removed: notes.txt in it"));
    text_free(&notes);
    assert_true(is_there(in_folder("run/checkpoints/step-2/notes.txt")));
    assert_false(is_there(in_folder("run/checkpoints/step-5")));
    /* A branch that is left. */
    assert_int_equal(run_folder_set_aside(&run, 1, &notes, &err), COHORT_OK);
    assert_non_null(strstr(notes.data, "set-aside-1: step-6 step-2\n"));
    text_free(&notes);
    assert_true(is_there(in_folder("run/checkpoints/set-aside-1/step-2/notes.txt")));
    run_folder_close(&run);
}

/* In memory where that can be had: thousands of folders are made. */
static int setup_in_memory(void **state)
{
    static const char memory[] = "/dev/shm/cohort-XXXXXX";
    _Static_assert(sizeof memory <= sizeof folder, "folder has room for it");
    if (access("/dev/shm", W_OK) == 0)
        memcpy(folder, memory, sizeof memory);
    return group_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_killed_at_every_call, setup),
                                       cmocka_unit_test_setup(test_every_call_fails, setup),
                                       cmocka_unit_test_setup(test_create_fails, setup),
                                       cmocka_unit_test_setup(test_lines, setup),
                                       cmocka_unit_test_setup(test_lock, setup),
                                       cmocka_unit_test_setup(test_readdir, setup),
                                       cmocka_unit_test_setup(test_names_and_prune, setup)};
    return cmocka_run_group_tests(tests, setup_in_memory, group_teardown);
}
