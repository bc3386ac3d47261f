/* Checkpoint folders are complete or absent (I6): commits, leftovers of crashes, kills at any time,
 * full disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "format/architecture.h"
#include "format/checkpoint.h"
#include "format/model_preset.h"

#include "base/file.h"
#include "base/rng.h"
#include "support/temporary_folder.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_copy_tokenizer(void **state)
{
    (void)state;
    cohort_error err = {0};
    assert_int_equal(file_make_dirs(in_folder("to"), &err), COHORT_OK);
    char to[300];
    snprintf(to, sizeof to, "%s", in_folder("to"));
    put("tokenizer.json", "{}");
    put("chat_template.jinja", "hi");
    put("model.safetensors", "no");
    assert_int_equal(checkpoint_copy_tokenizer(folder, to, &err), COHORT_OK);
    assert_true(is_there(in_folder("to/tokenizer.json")));
    assert_true(is_there(in_folder("to/chat_template.jinja")));
    assert_int_equal(count_entries(to), 2);
    assert_int_equal(checkpoint_copy_tokenizer(folder, in_folder("none"), &err), COHORT_ERR_IO);
}

static void put_in(const char *dir, const char *name, const char *content)
{
    char *path = NULL;
    cohort_error err = {0};
    assert_int_equal(file_join(&path, dir, name, &err), COHORT_OK);
    assert_int_equal(file_write_atomic(path, content, strlen(content), &err), COHORT_OK);
    mem_free(path);
}

static void expect_content(const char *name, const char *content)
{
    struct text text = {0};
    cohort_error err = {0};
    assert_int_equal(file_read(in_folder(name), 0, &text, &err), COHORT_OK);
    assert_string_equal(text.data, content);
    text_free(&text);
}

static void test_folder(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct checkpoint_folder out = {0};
    char target[300];
    snprintf(target, sizeof target, "%s", in_folder("deep/step-1/"));
    assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
    assert_int_equal(file_make_dirs(in_folder("none"), &err), COHORT_OK);
    put_in(out.temporary, "f", "one");
    assert_false(is_there(target)); /* absent until the commit */
    assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_OK);
    expect_content("deep/step-1/f", "one");
    assert_int_equal(count_entries(in_folder("deep")), 1);
    assert_null(out.temporary);
    assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_ERR_INTERNAL);
    checkpoint_folder_abandon(&out);

    /* Abandoned: the old one stays. */
    assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
    put_in(out.temporary, "f", "two");
    checkpoint_folder_abandon(&out);
    expect_content("deep/step-1/f", "one");
    assert_int_equal(count_entries(in_folder("deep")), 1);

    /* Replaced: all of the old one is gone. */
    assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
    put_in(out.temporary, "g", "two");
    expect_content("deep/step-1/f", "one");
    assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_OK);
    expect_content("deep/step-1/g", "two");
    assert_false(is_there(in_folder("deep/step-1/f")));
    assert_int_equal(count_entries(in_folder("deep")), 1);

    static const char *const unnamed[] = {"", "/", ".", "..", "a/..", "a/./"};
    for (size_t i = 0; i < sizeof unnamed / sizeof *unnamed; i++) {
        assert_int_equal(checkpoint_folder_begin(&out, unnamed[i], &err), COHORT_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "expected the name of a folder"));
        assert_null(out.target);
    }
    put("file", "x");
    assert_int_equal(checkpoint_folder_begin(&out, in_folder("file"), &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "file: is a file, expected a folder"));
    assert_int_equal(checkpoint_folder_begin(&out, in_folder("file/x"), &err), COHORT_ERR_IO);
    checkpoint_folder_abandon(&out);
    checkpoint_folder_abandon(NULL);
}

/* A child that dies between begin and commit leaves a scratch folder; the next begin removes that and nothing that is
 * not its own, whatever its name. */
static void test_crash(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct checkpoint_folder out = {0}, other = {0};
    char target[300];
    snprintf(target, sizeof target, "%s", in_folder("step"));
    assert_int_equal(file_make_dirs(target, &err), COHORT_OK);
    put("step/f", "one");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool made = checkpoint_folder_begin(&out, target, NULL) == COHORT_OK;
        put_in(out.temporary, "half", "a shard");
        _exit(made ? 0 : 1);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_int_equal(count_entries(folder), 2);
    /* Names of ours on what is not ours: without a marker, with one that says something else, a link; and the forms of
     * older versions. */
    static const char *const foreign[] = {".step.tmp-99999",          ".step.old-99999",          ".notes.tmp-1234567",
                                          ".cohort-0123456789abcdef", ".cohort-1123456789abcdef", "step.tmp-7"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        assert_int_equal(file_make_dirs(in_folder(foreign[i]), &err), COHORT_OK);
        char path[400];
        snprintf(path, sizeof path, "%s", in_folder(foreign[i]));
        put_in(path, "notes", "mine");
    }
    put(".cohort-1123456789abcdef/cohort-scratch", "a shopping list\n");
    put(".cohort-2123456789abcdef", "a file");
    char link[300];
    snprintf(link, sizeof link, "%s", in_folder(".cohort-3123456789abcdef"));
    assert_int_equal(symlink(in_folder("step"), link), 0);
    /* One that is being written by another handle, here of this process. */
    char second[300];
    snprintf(second, sizeof second, "%s", in_folder("step-2"));
    assert_int_equal(checkpoint_folder_begin(&other, second, &err), COHORT_OK);
    assert_int_equal(count_entries(folder), 10);
    assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
    assert_int_equal(count_entries(folder), 11); /* the dead child's is gone, ours has come */
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s/notes", foreign[i]);
        expect_content(path, "mine");
    }
    assert_true(is_folder(other.temporary));
    expect_content("step/f", "one");
    checkpoint_folder_abandon(&out);
    checkpoint_folder_abandon(&other);
    assert_int_equal(count_entries(folder), 9);
}

static const char marker[] = "cohort scratch folder: unfinished work, may be removed when its process is gone\n"
                             "host x\npid 1\nsince 2026\n";

/* A crash between moving the old folder aside and the new one in: the next begin brings the old
 * one back. */
static void test_crash_between_renames(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct checkpoint_folder out = {0};
    char target[300];
    snprintf(target, sizeof target, "%s", in_folder("step"));
    for (int both = 0; both < 2; both++) {
        assert_int_equal(file_make_dirs(in_folder(".cohort-0123456789abcdef/old/step"), &err), COHORT_OK);
        put(".cohort-0123456789abcdef/old/step/f", both ? "old" : "one");
        put(".cohort-0123456789abcdef/cohort-scratch", marker);
        assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
        expect_content("step/f", "one");
        assert_false(is_there(in_folder(".cohort-0123456789abcdef")));
        checkpoint_folder_abandon(&out);
    }
    /* Of a folder and of a marker alone nothing is left either. */
    assert_int_equal(file_make_dirs(in_folder(".cohort-0123456789abcdef"), &err), COHORT_OK);
    assert_int_equal(file_make_dirs(in_folder(".cohort-1123456789abcdef"), &err), COHORT_OK);
    put(".cohort-1123456789abcdef/cohort-scratch", "");
    assert_int_equal(scratch_recover(folder, &err), COHORT_OK);
    assert_int_equal(count_entries(folder), 1);
}

/* What the user has put into a folder outlives it: replaced, it gets another name; pruned, it stays. */
static void test_files_of_the_user(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct checkpoint_folder out = {0};
    char target[300], *stranger = NULL;
    snprintf(target, sizeof target, "%s", in_folder("final"));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
        put_in(out.temporary, "f", i == 0 ? "one" : "two");
        assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_OK);
        assert_true((out.kept != NULL) == (i == 1));
        checkpoint_folder_abandon(&out);
        if (i == 0)
            put("final/README.md", "mine");
    }
    expect_content("final.previous-1/README.md", "mine");
    expect_content("final.previous-1/f", "one");
    expect_content("final/f", "two");
    assert_int_equal(count_entries(folder), 2);
    put("final/notes", "mine");
    assert_int_equal(checkpoint_folder_remove(target, &stranger, &err), COHORT_OK);
    assert_string_equal(stranger, "notes");
    mem_free(stranger);
    expect_content("final/f", "two");
    assert_int_equal(unlink(in_folder("final/notes")), 0);
    assert_int_equal(checkpoint_folder_remove(target, &stranger, &err), COHORT_OK);
    assert_null(stranger);
    assert_int_equal(count_entries(folder), 1);
    /* Two that make one new folder: the second one is told. */
    struct checkpoint_folder second = {0};
    assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
    assert_int_equal(checkpoint_folder_begin(&second, target, &err), COHORT_OK);
    out.exclusive = second.exclusive = true;
    put_in(out.temporary, "f", "first");
    put_in(second.temporary, "f", "second");
    assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_OK);
    assert_int_equal(checkpoint_folder_commit(&second, &err), COHORT_ERR_IO);
    checkpoint_folder_abandon(&out);
    checkpoint_folder_abandon(&second);
    expect_content("final/f", "first");
}

/* The manifest is sha256sum's, finds every change, and minds no file that was added. */
static void test_manifest(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct checkpoint_folder out = {0};
    struct manifest_report report = {0};
    char target[300], command[400];
    snprintf(target, sizeof target, "%s", in_folder("step"));
    snprintf(command, sizeof command, "cd %s && sha256sum -c --quiet SHA256SUMS 2>/dev/null", target);
    for (int damage = 0; damage < 6; damage++) {
        assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
        put_in(out.temporary, "f", "one");
        char deep[400];
        snprintf(deep, sizeof deep, "%s/trainer", out.temporary);
        assert_int_equal(file_make_dirs(deep, &err), COHORT_OK);
        put_in(deep, "state", "two");
        assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_OK);
        checkpoint_folder_abandon(&out);
        static const char *const changes[] = {NULL, "step/mine",      "step/f", "step/trainer/state",
                                              NULL, "step/SHA256SUMS"};
        if (changes[damage] != NULL)
            put(changes[damage], "three");
        if (damage == 4)
            assert_int_equal(unlink(in_folder("step/f")), 0);
        assert_int_equal(manifest_verify(target, NULL, &report, NULL, &err), COHORT_OK);
        assert_true(report.found);
        assert_int_equal(report.n_bad, damage >= 2);
        if (damage < 5)
            assert_int_equal(report.n_files, 2);
        assert_int_equal(system(command) != 0, damage >= 2);
        text_free(&report.bad);
        if (damage == 1)
            assert_int_equal(unlink(in_folder("step/mine")), 0);
    }
    /* Names that lead out of the folder are refused. */
    static const char *const bad[] = {"../f", "/etc/passwd", "a/../../f", "", "a//b", "."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct manifest manifest = {0};
        char text[200];
        bool found = false;
        memset(text, 'a', 64);
        snprintf(text + 64, sizeof text - 64, "  %s\n", bad[i]);
        put("step/SHA256SUMS", text);
        assert_int_equal(manifest_read(&manifest, target, &found, &err), COHORT_ERR_FORMAT);
        assert_non_null(strstr(err.message, "SHA256SUMS:1: expected a SHA-256"));
        manifest_free(&manifest);
    }
}

/* Replaces the target again and again by two files of the same content, until killed. */
static void replace_forever(const char *target)
{
    for (int i = 0;; i++) {
        struct checkpoint_folder out = {0};
        char content[3000];
        char *path = NULL;
        bool ok = checkpoint_folder_begin(&out, target, NULL) == COHORT_OK;
        memset(content, 'a' + i % 26, sizeof content);
        for (int f = 0; ok && f < 2; f++) {
            ok = file_join(&path, out.temporary, f == 0 ? "1" : "2", NULL) == COHORT_OK &&
                 file_write_atomic(path, content, sizeof content, NULL) == COHORT_OK;
            mem_free(path);
        }
        if (!ok || checkpoint_folder_commit(&out, NULL) != COHORT_OK)
            _exit(1);
    }
}

/* Killed anywhere, the target is one whole version, and the next begin leaves no trace of the
 * others. */
static void test_killed(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct checkpoint_folder out = {0};
    char target[300];
    snprintf(target, sizeof target, "%s", in_folder("step"));
    assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
    put_in(out.temporary, "1", "first");
    put_in(out.temporary, "2", "first");
    assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_OK);
    for (uint64_t round = 0; round < 40; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            replace_forever(target);
        usleep(200 + rng_philox(1, RNG_TEST, round, 0).word[0] % 8000);
        int result = -1;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFSIGNALED(result)); /* it did not stop at an error */
        struct text one = {0};
        struct text two = {0};
        assert_int_equal(count_entries(target), 3);
        assert_int_equal(file_read(in_folder("step/1"), 0, &one, &err), COHORT_OK);
        assert_int_equal(file_read(in_folder("step/2"), 0, &two, &err), COHORT_OK);
        assert_string_equal(one.data, two.data);
        assert_true(one.length == 3000 || strcmp(one.data, "first") == 0);
        text_free(&one);
        text_free(&two);
        assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
        checkpoint_folder_abandon(&out);
        assert_int_equal(count_entries(folder), 1);
    }
}

static cohort_status give_ones(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                               cohort_error *err)
{
    (void)context;
    (void)param;
    (void)first;
    (void)err;
    memset(to, 1, (size_t)count * 4);
    return COHORT_OK;
}

/* The disk is full while weights are written over an older checkpoint, in one file or in shards:
 * the child says so, and the older one is whole. */
static void test_full_disk(void **state)
{
    (void)state;
    cohort_error err = {0};
    struct model_config config;
    struct param_table table;
    struct checkpoint_folder out = {0};
    struct text before = {0};
    char target[300];
    snprintf(target, sizeof target, "%s", in_folder("final"));
    assert_int_equal(model_config_preset(&config, NULL, PRESET_NANO, 64, &err), COHORT_OK);
    assert_int_equal(architecture_params(&config, STORAGE_F32, &table, &err), COHORT_OK);
    assert_int_equal(checkpoint_folder_begin(&out, target, &err), COHORT_OK);
    assert_int_equal(checkpoint_write_weights(out.temporary, &table, 0, give_ones, NULL, NULL, &err), COHORT_OK);
    assert_int_equal(checkpoint_folder_commit(&out, &err), COHORT_OK);
    assert_int_equal(file_read(in_folder("final/model.safetensors"), 0, &before, &err), COHORT_OK);

    for (int sharded = 0; sharded < 2; sharded++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            /* Enough for the shards of the embedding and of attention, not for the fifth,
             * mlp.gate_proj alone. */
            struct rlimit limit = {30000, 30000};
            signal(SIGXFSZ, SIG_IGN);
            if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || checkpoint_folder_begin(&out, target, &err) != COHORT_OK)
                _exit(2);
            cohort_status status =
                checkpoint_write_weights(out.temporary, &table, sharded ? 20000 : 0, give_ones, NULL, NULL, &err);
            bool named = strstr(err.message, sharded ? "/model-00005-of-00014.safetensors: cannot write: "
                                                     : "/model.safetensors: cannot write: ") != NULL;
            bool empty = count_entries(out.temporary) == 0;
            checkpoint_folder_abandon(&out);
            _exit(status == COHORT_ERR_IO && named && empty ? 0 : 1);
        }
        int result = -1;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFEXITED(result));
        assert_int_equal(WEXITSTATUS(result), 0);
        assert_int_equal(count_entries(folder), 1);
        assert_int_equal(count_entries(target), 2);
        struct text after = {0};
        assert_int_equal(file_read(in_folder("final/model.safetensors"), 0, &after, &err), COHORT_OK);
        assert_int_equal(after.length, before.length);
        assert_memory_equal(after.data, before.data, before.length);
        text_free(&after);
    }
    text_free(&before);
    param_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_copy_tokenizer, setup),
                                       cmocka_unit_test_setup(test_folder, setup),
                                       cmocka_unit_test_setup(test_crash, setup),
                                       cmocka_unit_test_setup(test_crash_between_renames, setup),
                                       cmocka_unit_test_setup(test_files_of_the_user, setup),
                                       cmocka_unit_test_setup(test_manifest, setup),
                                       cmocka_unit_test_setup(test_killed, setup),
                                       cmocka_unit_test_setup(test_full_disk, setup)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
