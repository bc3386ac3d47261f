/* Which files the value of --data means: splits of folders as `datasets` finds them (layouts.json, by
 * oracle/data_files.py), weights, names with commas and colons, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json_text.h"
#include "run/data_paths.h"
#include "run/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort-paths-XXXXXX";

static int enter_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : chdir(folder);
}

static int remove_folder(void **state)
{
    (void)state;
    return chdir("/") == 0 && file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static void put(const char *path, const char *text)
{
    char parent[256];
    const char *slash = strrchr(path, '/');
    snprintf(parent, sizeof parent, "%.*s", slash == NULL ? 0 : (int)(slash - path), path);
    if (slash != NULL)
        assert_int_equal(file_make_dirs(parent, NULL), COHORT_OK);
    assert_int_equal(file_write_atomic(path, text, strlen(text), NULL), COHORT_OK);
}

/* The paths that a spec means, each behind a blank, weights as "(w)" before an item's. */
static char *found(const char *spec, struct text *notes)
{
    struct data_paths paths;
    struct text out = {0};
    cohort_error err = {0};
    if (data_paths_find(&paths, spec, notes, &err) != COHORT_OK)
        fail_msg("%s: %s", spec, err.message);
    assert_int_equal(text_append(&out, "", 0, NULL), COHORT_OK);
    for (size_t i = 0; i < paths.n_items; i++) {
        if (paths.items[i].weight > 0.0)
            assert_int_equal(text_printf(&out, NULL, " (%g)", paths.items[i].weight), COHORT_OK);
        for (size_t k = 0; k < paths.items[i].n_paths; k++)
            assert_int_equal(text_printf(&out, NULL, " %s", paths.items[i].paths[k]), COHORT_OK);
    }
    data_paths_free(&paths);
    return out.data;
}

static void means(const char *spec, const char *wanted)
{
    struct text notes = {0};
    char *is = found(spec, &notes);
    if (strcmp(is, wanted) != 0)
        fail_msg("%s means '%s', expected '%s'", spec, is, wanted);
    mem_free(is);
    text_free(&notes);
}

static void refused(const char *spec, const char *says)
{
    struct data_paths paths;
    struct text notes = {0};
    cohort_error err = {0};
    assert_int_not_equal(data_paths_find(&paths, spec, &notes, &err), COHORT_OK);
    if (strstr(err.message, says) == NULL)
        fail_msg("%s: '%s' has no '%s'", spec, err.message, says);
    data_paths_free(&paths);
    text_free(&notes);
}

static void test_layouts(void **state)
{
    (void)state;
    json_t *layouts = NULL;
    size_t i, k;
    json_t *layout, *name;
    assert_int_equal(json_text_read(&layouts, COHORT_SOURCE_DIR "/tests/fixtures/data_files/layouts.json", 0, 0, NULL),
                     COHORT_OK);
    json_array_foreach(layouts, i, layout)
    {
        json_t *splits = json_object_get(layout, "splits");
        const char *split;
        json_t *files;
        assert_int_equal(file_remove_all("layout", NULL), COHORT_OK);
        json_array_foreach(json_object_get(layout, "files"), k, name)
        {
            char path[256];
            snprintf(path, sizeof path, "layout/%s", json_string_value(name));
            put(path, "{\"prompt\": \"x\"}\n");
        }
        json_object_foreach(splits, split, files)
        {
            struct text wanted = {0};
            char spec[128];
            json_array_foreach(files, k, name)
                assert_int_equal(text_printf(&wanted, NULL, " layout/%s", json_string_value(name)), COHORT_OK);
            snprintf(spec, sizeof spec, "layout:%s", split);
            means(spec, wanted.data);
            if (json_object_size(splits) == 1)
                means("layout", wanted.data);
            else
                refused("layout", split);
            text_free(&wanted);
        }
        refused("layout:nothing", "has no split 'nothing'");
    }
    json_decref(layouts);
}

/* Folders that `datasets` saved, by oracle/arrow_files.py: the files that state.json names, and no others. */
static void test_saved(void **state)
{
    (void)state;
    static const char root[] = COHORT_SOURCE_DIR "/tests/fixtures/arrow/";
    static const struct {
        const char *spec;
        size_t n_rows;
        const char *first;
    } sets[] = {{"saved", 7, "p0"}, {"saved_splits:train_sft", 2, "p2"}, {"saved_splits:test_sft", 1, "p1"}};
    char spec[512];
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct dataset set;
        cohort_error err = {0};
        json_t *row = NULL;
        snprintf(spec, sizeof spec, "%s%s", root, sets[i].spec);
        const struct dataset_request request = {.spec = spec};
        if (dataset_open(&set, &request, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_int_equal(set.n_rows, sets[i].n_rows);
        assert_int_equal(dataset_row(&set, set.n_rows - 1, &row, &err), COHORT_OK);
        json_decref(row);
        assert_int_equal(dataset_row(&set, 0, &row, &err), COHORT_OK);
        assert_string_equal(json_string_value(json_object_get(row, "prompt")), sets[i].first);
        json_decref(row);
        dataset_free(&set);
    }
    snprintf(spec, sizeof spec, "%ssaved_splits", root);
    refused(spec, "has the splits test_sft (1 file), train_sft (1 file): name one");
    put("disk/state.json", "{\"_data_files\": [{\"filename\": \"b.arrow\"}]}");
    put("disk/a.arrow", "");
    refused("disk", "disk/state.json: names b.arrow, which is not beside it; get the whole folder");
    put("disk/b.arrow", "");
    means("disk", " disk/b.arrow");
    put("disk/state.json", "{\"_data_files\": [{\"filename\": \"../b.arrow\"}]}");
    refused("disk", "_data_files[0]: expected the name of a file beside it");
    put("disk/state.json", "{\"_data_files\": [], \"_indices_data_files\": [{\"filename\": \"b.arrow\"}]}");
    refused("disk", "with indices beside its rows, by an old version of datasets");
    put("disk/state.json", "{\"global_step\": 3}"); /* another program's */
    means("disk", " disk/a.arrow disk/b.arrow");
    put("cached/set-train.arrow", "");
    put("cached/cache-0123456789abcdef.arrow", "");
    means("cached", " cached/set-train.arrow");
}

/* What would be several data sets, or one twice. */
static void test_folders_refused(void **state)
{
    (void)state;
    put("hub/main/train-00000-of-00001.jsonl", "{}\n");
    put("hub/socratic/train-00000-of-00001.jsonl", "{}\n");
    refused("hub", "lie in several folders, hub/main/ and hub/socratic/");
    means("hub/main", " hub/main/train-00000-of-00001.jsonl");
    put("hub/main/test-00000-of-00001.jsonl", "{}\n");
    refused("hub/main", "has the splits test (1 file), train (1 file): name one, for example hub/main:test");
    means("hub/main:train", " hub/main/train-00000-of-00001.jsonl");
    put("twice/rows.csv", "a\n1\n");
    put("twice/rows.jsonl", "{}\n");
    refused("twice", "several formats, rows.csv and rows.jsonl");
    put("mixed/a.json", "[{}]\n");
    put("mixed/b.jsonl.gz", "");
    put("mixed/c.ndjson", "{}\n");
    means("mixed", " mixed/a.json mixed/b.jsonl.gz mixed/c.ndjson");
    put("none/README.md", "# nothing\n");
    refused("none", "a folder without data files");
    put("cut/data/train-00001-of-00003.jsonl", "{}\n");
    put("cut/data/train-00002-of-00003.jsonl", "{}\n");
    refused("cut", "cut: has 2 of the 3 files of 'train' (...-of-00003): get the others");
    put("cut/data/train-00000-of-00003.jsonl", "{}\n");
    means("cut", " cut/data/train-00000-of-00003.jsonl cut/data/train-00001-of-00003.jsonl "
                 "cut/data/train-00002-of-00003.jsonl");
}

static void test_items(void **state)
{
    (void)state;
    put("a.jsonl", "{}\n");
    put("b.jsonl", "{}\n");
    put("d/train.jsonl", "{}\n");
    put("d/test.jsonl", "{}\n");
    put("odd,name:0.5", "{}\n");
    put("c:2", "{}\n");
    means("a.jsonl", " a.jsonl");
    means("a.jsonl,b.jsonl", " a.jsonl b.jsonl");
    means("a.jsonl:0.7,b.jsonl:3e1", " (0.7) a.jsonl (30) b.jsonl");
    means("a.jsonl:0.7", " a.jsonl");
    means("d:train:2,a.jsonl:1", " (2) d/train.jsonl (1) a.jsonl");
    means("odd,name:0.5", " odd,name:0.5");
    means("odd\\,name:0.5,a.jsonl", " odd,name:0.5 a.jsonl");
    means("odd\\,name:0.5:2,a.jsonl:1", " (2) odd,name:0.5 (1) a.jsonl");
    means("c:2,a.jsonl", " c:2 a.jsonl");
    means("./c:2:3,a.jsonl:1", " (3) ./c:2 (1) a.jsonl");
    means("missing.jsonl", " missing.jsonl"); /* opening it says so */
    means("missing.jsonl:0.5,a.jsonl:0.5", " (0.5) missing.jsonl (0.5) a.jsonl");
    refused("a.jsonl:0,b.jsonl:1", "the weight must be above 0");
    refused("a.jsonl:-1,b.jsonl:1", "the weight must be above 0");
    refused("a.jsonl:x,b.jsonl:1", "is no weight: a number above 0");
    refused("a.jsonl:nan,b.jsonl:1", "is no weight: a number above 0");
    refused("a.jsonl:0.5,b.jsonl", "some files have a weight and some have none");
    refused("a.jsonl,", "empty between two commas");
    refused("", "empty");
    assert_int_equal(symlink("nowhere", "link"), 0);
    refused("link", "a link to something that is not there");
}

/* Sets of several files: rows behind each other, the hash of all bytes, a limit, and a file without rows between. */
static void test_sets(void **state)
{
    (void)state;
    struct dataset set;
    cohort_error err = {0};
    char place[DATA_PLACE], hex[HASH_HEX], all[HASH_HEX];
    put("s/a.csv", "x\n1\n2\n");
    put("s/b.csv", "x\n");
    put("s/c.csv", "x\n3\n");
    put("all", "x\n1\n2\nx\nx\n3\n");
    assert_int_equal(hash_file("all", hex, NULL, &err), COHORT_OK);
    if (dataset_open(&set, &(struct dataset_request){.spec = "s"}, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(set.n_rows, 3);
    assert_string_equal(set.sha256, hex);
    for (size_t k = 0; k < 9; k++) {
        static const char *const values[] = {"1", "2", "3"}, *const places[] = {"s/a.csv:2", "s/a.csv:3", "s/c.csv:2"};
        const size_t i = k * 2 % 3;
        json_t *row = NULL;
        assert_int_equal(dataset_row(&set, i, &row, &err), COHORT_OK);
        assert_string_equal(json_string_value(json_object_get(row, "x")), values[i]);
        dataset_place(&set, i, place);
        assert_string_equal(place, places[i]);
        json_decref(row);
    }
    dataset_free(&set);
    assert_int_equal(dataset_open(&set, &(struct dataset_request){.spec = "s", .limit = 2}, &err), COHORT_OK);
    assert_int_equal(set.n_rows, 2);
    assert_string_equal(set.sha256, hex);
    dataset_free(&set);
    assert_int_equal(dataset_open(&set, &(struct dataset_request){.spec = "s/a.csv:1,s/c.csv:3", .limit = 1}, &err),
                     COHORT_OK);
    assert_int_equal(set.n_rows, 2);
    assert_int_equal(set.n_parts, 2);
    assert_int_equal(set.parts[1].first, 1);
    strcpy(all, set.sha256);
    dataset_free(&set);
    /* Weights are a part of what a set is. */
    assert_int_equal(dataset_open(&set, &(struct dataset_request){.spec = "s/a.csv:1,s/c.csv:2"}, &err), COHORT_OK);
    assert_string_not_equal(set.sha256, all);
    dataset_free(&set);
    assert_int_equal(dataset_open(&set, &(struct dataset_request){.spec = "s/a.csv:1,s/b.csv:2"}, &err),
                     COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "s/b.csv: has no rows, and a weight"));
    assert_int_equal(dataset_open(&set, &(struct dataset_request){.spec = "s/a.csv,s/none.csv"}, &err), COHORT_ERR_IO);
    assert_non_null(strstr(err.message, "s/none.csv: cannot open"));
}

/* Addresses and names of the Hub: nothing is fetched, and the message says how to. What is too long for a name is a list. */
static void test_absent(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"openai/gsm8k",
         "openai/gsm8k: not a folder or a file: there is none of that name here, and only local files are "
         "read; if it is a data set of the Hugging Face Hub, download it first, with 'hf download "
         "openai/gsm8k --repo-type dataset --local-dir DIR', and give DIR"},
        {"openai/gsm8k:train", "'hf download openai/gsm8k --repo-type dataset"},
        {"openai/gsm8k:0.5,s/a.csv:0.5", "'hf download openai/gsm8k --repo-type dataset"},
        {"https://huggingface.co/datasets/a-b/c.d/resolve/main/x.parquet?download=true",
         "'hf download a-b/c.d --repo-type dataset --local-dir DIR'"},
        {"https://huggingface.co/datasets/squad", "'hf download squad --repo-type dataset"},
        {"hf://datasets/a/b@~parquet/c/*.parquet", "'hf download a/b --repo-type dataset"},
        {"https://HF.co/Qwen/Qwen3-0.6B", "'hf download Qwen/Qwen3-0.6B --local-dir DIR'"},
        {"https://example.com/rows.jsonl", "an address, and only local files are read: download it first"},
        {"s3://bucket/rows.jsonl", "an address, and only"},
        {"hf://", "an address, and only"},
        {"https://huggingface.co/", "an address, and only"},
        {"none/rows.jsonl.gz", NULL},
        {"nowhere", NULL},
        {"a/b/c", NULL},
        {"../b", NULL},
        {"a/", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_paths paths;
        cohort_error err = {0};
        const cohort_status status = data_paths_find(&paths, cases[i][0], NULL, &err);
        if (status != (cases[i][1] == NULL ? COHORT_OK : COHORT_ERR_IO) ||
            (cases[i][1] != NULL && strstr(err.message, cases[i][1]) == NULL))
            fail_msg("%s: status %d, \"%s\"", cases[i][0], (int)status, err.message);
        data_paths_free(&paths);
    }
    struct text spec = {0};
    char name[32];
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof name, "l/%029d", i);
        assert_int_equal(text_printf(&spec, NULL, "%s%s.csv", i == 0 ? "" : ",", name), COHORT_OK);
    }
    char *paths = found(spec.data, NULL);
    assert_int_equal(strlen(paths), 400 * 36);
    free(paths);
    text_free(&spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts), cmocka_unit_test(test_saved), cmocka_unit_test(test_folders_refused),
        cmocka_unit_test(test_items),   cmocka_unit_test(test_sets),  cmocka_unit_test(test_absent)};
    return cmocka_run_group_tests(tests, enter_folder, remove_folder);
}
