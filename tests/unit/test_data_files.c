/* Every format of data files: the rows that pandas, datasets and pyarrow read from files of theirs
 * (tests/fixtures/data_files, by oracle/data_files.py), rows in any order, packed files, refusals with their place, and
 * files that would take all memory or disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json_text.h"
#include "run/dataset.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/data_files/"

static char folder[] = "/tmp/cohort-data-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *written(const char *name, const char *bytes, size_t length)
{
    const char *path = in_folder(name);
    assert_int_equal(file_write_atomic(path, bytes, length, NULL), COHORT_OK);
    return path;
}

static cohort_status open_set(struct dataset *set, const char *path, cohort_error *err)
{
    return dataset_open(set, &(struct dataset_request){.spec = path}, err);
}

/* A row as text with its keys in order. */
static char *row_text(struct dataset *set, size_t i)
{
    json_t *row = NULL;
    cohort_error err = {0};
    if (dataset_row(set, i, &row, &err) != COHORT_OK)
        fail_msg("row %zu: %s", i, err.message);
    char *text = json_dumps(row, JSON_COMPACT);
    json_decref(row);
    assert_non_null(text);
    return text;
}

static void test_fixtures(void **state)
{
    (void)state;
    static const char *const names[] = {
        "pandas.csv",     "index.csv",      "quoted.csv",          "pandas.tsv",     "blank.csv",     "datasets.csv",
        "pandas.json",    "compact.json",   "pandas.jsonl",        "datasets.jsonl", "rows.jsonl.gz", "rows.csv.zst",
        "nested.parquet", "pandas.parquet", "indented.jsonl",      "calls.jsonl",    "calls.json",    "calls.jsonl.gz",
        "calls.parquet",  "calls.arrow",    "calls_datasets.jsonl"};
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        char path[512], wanted[512];
        struct dataset set, expected;
        cohort_error err = {0};
        snprintf(path, sizeof path, FIXTURES "%s", names[f]);
        snprintf(wanted, sizeof wanted, FIXTURES "%s.expected", names[f]);
        if (open_set(&set, path, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_int_equal(open_set(&expected, wanted, &err), COHORT_OK);
        assert_int_equal(set.n_rows, expected.n_rows);
        assert_true(set.notes.length == 0);
        for (size_t k = 0; k < 3 * set.n_rows; k++) { /* backwards and back and forth */
            const size_t i = k < set.n_rows ? set.n_rows - 1 - k : k * 5 % set.n_rows;
            char *is = row_text(&set, i), *should = row_text(&expected, i);
            if (strcmp(is, should) != 0)
                fail_msg("%s, row %zu:\n%s\nexpected\n%s", names[f], i + 1, is, should);
            free(is);
            free(should);
        }
        dataset_free(&set);
        dataset_free(&expected);
    }
    struct dataset set;
    cohort_error err = {0};
    assert_int_equal(open_set(&set, FIXTURES "empty.json", &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "has no rows"));
}

/* name: of the file; says: what the message has behind the file's name. Whether opening or a row fails is the same to a
 * user. */
static void refuses(const char *name, const char *bytes, size_t length, const char *says)
{
    const char *path = written(name, bytes, length);
    struct dataset set;
    cohort_error err = {0};
    cohort_status status = open_set(&set, path, &err);
    const size_t n = status == COHORT_OK ? set.n_rows : 0;
    for (size_t i = 0; i < n && status == COHORT_OK; i++) {
        json_t *row = NULL;
        status = dataset_row(&set, i, &row, &err);
        json_decref(row);
    }
    if (n > 0)
        dataset_free(&set);
    if (status == COHORT_OK)
        fail_msg("'%s' was accepted", bytes);
    if (strncmp(err.message, path, strlen(path)) != 0 || strstr(err.message, says) == NULL)
        fail_msg("'%s': \"%s\" has no \"%s\"", bytes, err.message, says);
}
#define REFUSES(name, text, says) refuses(name, text, sizeof(text) - 1, says)

static void test_tables_refused(void **state)
{
    (void)state;
    REFUSES("t.csv", "", "the file is empty");
    REFUSES("t.csv", "a,b\n", "has no rows");
    REFUSES("t.csv", "a,b\n1,2\n3\n", ":3: 1 field, the header has 2");
    REFUSES("t.csv", "a,b\n\n1,2\n\"x\ny\",2,3\n", ":4: 3 fields, the header has 2");
    REFUSES("t.csv", "a,b\n1,\"2\n3\n", ":2: a quote opens here and is not closed");
    REFUSES("t.csv", "a,b\r\n\r\n1,\"2\"3\r\n", ":3: text behind a closing quote");
    REFUSES("t.csv", "a,a\n1,2\n", ":1: two columns are called \"a\"");
    REFUSES("t.csv", "a;b\n1;2\n", ":1: one column, \"a;b\"");
    REFUSES("t.csv", "a,b\n1,\xff\n", ":2: column \"b\": byte 1 of the field is no UTF-8");
    REFUSES("t.csv", "a,\xff\n1,2\n", ":1: the name of column 2");
    REFUSES("t.csv", "a,b\n1,x\0y\n", ":2: column \"b\": a NUL byte");
    REFUSES("t.tsv", "a\tb\n1\t2\t3\n", ":2: 3 fields, the header has 2; a field with a tab");
    REFUSES("t.csv", "PK\x03\x04rest", ":1:1: a zip archive");
    REFUSES("t.csv", "SQLite format 3", ":1:1: an SQLite database");
    REFUSES("t.feather", "FEA1\x10", ":1:1: a Feather file of version 1, which is not read");
    REFUSES("t.orc", "ORC\x10", ":1:1: an ORC file; write it as Parquet");
    REFUSES("t.arrow", "Obj\x01", ":1:1: an Avro file");
    char tar[512] = "rows.jsonl";
    memcpy(tar + 257, "ustar", 5);
    refuses("t.tar", tar, sizeof tar, ":1:1: a tar archive; unpack it, with tar -xf");
    REFUSES("t.arrow", "\xff\xff\xff\xff\x10", "it was cut short");
    REFUSES("t.arrow", "\x10", "it was cut short");
    REFUSES("t.jsonl", "ARROW1", "does not end like one (ARROW1)");
}

static void test_arrays_refused(void **state)
{
    (void)state;
    REFUSES("a.json", "[", ":1:2: the file ends before its array does");
    REFUSES("a.json", "[{\"a\": 1},\n {\"a\": [1, \"]\"}", ":2:16: the file ends before its array does");
    REFUSES("a.json", "[{\"a\": \"]}", "the file ends before its array does");
    REFUSES("a.json", "[{\"a\": 1},]", ":1:11: expected an object");
    REFUSES("a.json", "[{\"a\": 1}\n{\"a\": 2}]", ":2:1: expected ',' or ']'");
    REFUSES("a.json", "[1, 2]", ":1:2: expected an object");
    REFUSES("a.json", "[[\"a\"], [1]]", ":1:2: expected an object");
    REFUSES("a.json", "[{\"a\": 1}] x", ":1:12: expected nothing behind the array");
    REFUSES("a.json", "[{\"a\": 1}, {\"a\": x}]", ":row 2:1:7: ");
    REFUSES("a.json", "[{\"a\": 1]]", ":row 1:1:");
    REFUSES("a.json", "[{\"a\": 1, \"a\": 2}]", "duplicate");
}

/* Objects that go on over several lines, and what looks like them. */
static void test_objects(void **state)
{
    (void)state;
    struct dataset set;
    cohort_error err = {0};
    char place[DATA_PLACE];
    static const char text[] = "\xef\xbb\xbf\n{\"data\":\n [{\"a\": \"}\"}]}{\n}\n\n  {\"b\"\n: 2}";
    assert_int_equal(open_set(&set, written("o.json", text, sizeof text - 1), &err), COHORT_OK);
    assert_int_equal(set.n_rows, 3);
    static const char *const rows[] = {"{\"data\":[{\"a\":\"}\"}]}", "{}", "{\"b\":2}"}, *const lines[] = {":2", ":3",
                                                                                                           ":6"};
    for (size_t i = 3; i-- > 0;) {
        char *is = row_text(&set, i);
        assert_string_equal(is, rows[i]);
        free(is);
        dataset_place(&set, i, place);
        assert_string_equal(strrchr(place, ':'), lines[i]);
    }
    dataset_free(&set);
    REFUSES("o.jsonl", "{\n\"a\": 1}\n{\n\"a\": x}\n", ":4:6: ");
    REFUSES("o.jsonl", "{\n\"a\": 1},\n{\n\"a\": 2}\n", ":2:8: expected an object");
    REFUSES("o.jsonl", "{\n\"a\": 1}\n{\n\"a\": 2\n", ":3: the object that begins here does not end before the file");
    /* Lines of which one was cut off. */
    REFUSES("o.jsonl", "{\"a\": 1\n{\"a\": 2}\n",
            ":1: the object does not end in its line: a bracket or a quote is missing");
    REFUSES("o.jsonl", "{\"a\": 1}\n{\"a\": \"2",
            ":2: the object does not end in its line: the file was cut off there");
    REFUSES("o.jsonl", "{\"a\": 1}\n{\"a\":\n2}\n", "jq -c . FILE");
    REFUSES("o.jsonl", "", ": the file is empty; expected one JSON object a line");
    REFUSES("o.json", "\xef\xbb\xbf", ": the file is empty; ");
    REFUSES("o.jsonl", "\n \n", ": has no rows; ");
    REFUSES("o.parquet", "", ": the file is empty, not even a Parquet file");
    REFUSES("o.arrow", "", ": the file is empty, not even an Arrow file");
}

/* What the content says wins; the name is told where it says another format. */
static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes, *note;
    } cases[] = {
        {"x.jsonl", "[{\"a\": \"1\"}]", "holds a JSON array, though its name says JSON lines"},
        {"x.csv", "{\"a\": \"1\"}\n", "holds JSON lines, though its name says CSV"},
        {"x.csv", "[{\"a\": \"1\"}]\n", "holds a JSON array, though its name says CSV"},
        {"x.csv", "a\tb\n1\t2\n", "holds TSV, though its name says CSV"},
        {"x.csv", "a\n1\n", NULL},
        {"x.CSV", "[a],b\n1,2\n", NULL},
        {"x.json", "{\"a\": \"1\"}\n", NULL},
        {"x.json", "\xef\xbb\xbf [{\"a\": \"1\"}]\n", NULL},
        {"x", "{\"a\": \"1\"}\n", NULL},
        {"x", "\n [ {\"a\": \"1\"}]", NULL},
        {"x.csv", "a\xd9\xbf,1\nb,c\n", NULL}, /* a byte of a mark is none */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset set;
        cohort_error err = {0};
        if (open_set(&set, written(cases[i].name, cases[i].bytes, strlen(cases[i].bytes)), &err) != COHORT_OK)
            fail_msg("%s: %s", cases[i].bytes, err.message);
        if (cases[i].note == NULL)
            assert_int_equal(set.notes.length, 0);
        else if (set.notes.data == NULL || strstr(set.notes.data, cases[i].note) == NULL)
            fail_msg("%s: notes '%s'", cases[i].bytes, set.notes.data == NULL ? "" : set.notes.data);
        assert_int_equal(set.n_rows, 1);
        char *row = row_text(&set, 0);
        assert_non_null(strstr(row, strstr(cases[i].bytes, "\xd9\xbf") == NULL ? "1" : "\"a\xd9\xbf\":\"b\""));
        free(row);
        dataset_free(&set);
    }
}

/* A file of n bytes, which are those of a pattern again and again. */
static void write_packed(const char *path, const char *pattern, size_t n, size_t cut)
{
    gzFile file = gzopen(path, "wb1");
    assert_non_null(file);
    struct text block = {0};
    while (block.length < (1 << 20))
        assert_int_equal(text_append(&block, pattern, strlen(pattern), NULL), COHORT_OK);
    for (size_t done = 0; done < n; done += block.length)
        assert_int_equal(gzwrite(file, block.data, (unsigned)block.length), (int)block.length);
    assert_int_equal(gzclose(file), Z_OK);
    text_free(&block);
    if (cut > 0)
        assert_int_equal(truncate(path, (off_t)cut), 0);
}

static size_t entries(const char *path)
{
    size_t n = 0;
    cohort_status status = COHORT_OK;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (file_next_entry(dir, path, &status, NULL) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* A large packed file is unpacked beside itself, into a file that has no name; the hash is of the stored bytes. */
static void test_unpacked_beside(void **state)
{
    (void)state;
    char path[128], hex[HASH_HEX];
    struct dataset set;
    cohort_error err = {0};
    const char row[] = "{\"a\":\"0123456789012345678901234567890123456789\"}\n";
    const size_t before = entries(folder);
    snprintf(path, sizeof path, "%s", in_folder("big.jsonl.gz"));
    write_packed(path, row, (size_t)80 << 20, 0);
    if (open_set(&set, path, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(entries(folder), before + 1);
    assert_true(set.n_rows * (sizeof row - 1) >= (size_t)80 << 20);
    assert_int_equal(set.files[0].data.bytes.held.length, 0);
    for (size_t i = 0; i < set.n_rows; i += set.n_rows / 7) {
        char *text = row_text(&set, i);
        assert_memory_equal(text, row, sizeof row - 2);
        free(text);
    }
    assert_int_equal(hash_file(path, hex, NULL, &err), COHORT_OK);
    assert_string_equal(set.sha256, hex);
    dataset_free(&set);
    if (geteuid() != 0) { /* who may write everywhere has a place */
        assert_int_equal(chmod(folder, 0500), 0);
        assert_int_equal(open_set(&set, path, &err), COHORT_ERR_IO);
        assert_non_null(strstr(err.message, "unpack it yourself, with gzip -dk"));
        assert_int_equal(chmod(folder, 0700), 0);
    }
    unlink(path);
}

/* A few kilobytes that unpack into one row of more than a row may have, and a file that is cut off. */
static void test_packed_refused(void **state)
{
    (void)state;
    char path[128];
    struct dataset set;
    cohort_error err = {0};
    snprintf(path, sizeof path, "%s", in_folder("bomb.jsonl.gz"));
    write_packed(path, "[[[[[[[[", (size_t)200 << 20, 0);
    assert_int_equal(open_set(&set, path, &err), COHORT_ERR_FORMAT);
    write_packed(path, "{\"a\":1}          ", (size_t)200 << 20, 0);
    assert_int_equal(open_set(&set, path, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, ":1: the line is longer than the limit of 64 MB"));
    write_packed(path, "{\"a\":1}\n", (size_t)2 << 20, 3000);
    assert_int_equal(open_set(&set, path, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "gzip stream is cut off"));
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff", 6, 1000), 6);
    close(fd);
    assert_int_equal(open_set(&set, path, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "gzip stream is"));
    unlink(path);
    /* A disk that is full: a limit on the size of files stands for it. */
    snprintf(path, sizeof path, "%s", in_folder("full.jsonl.gz"));
    write_packed(path, "{\"a\":1}\n", (size_t)100 << 20, 0);
    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = (rlim_t)70 << 20;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const cohort_status status = open_set(&set, path, &err);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(status, COHORT_ERR_IO);
    assert_non_null(strstr(err.message, path));
    unlink(path);
}

/* Members of gzip behind each other, with zeros between and behind them, and other bytes behind them. */
static void test_members(void **state)
{
    (void)state;
    static const char member[] = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x4a\x54\xb2\x32\xac\xe5\x02\x00"
                                 "\x46\xa3\xe8\x74\x08\x00\x00\x00";
    static const struct {
        const char *bytes;
        size_t length, rows; /* rows 0: refused */
    } tails[] = {{"", 0, 1}, {"\0\0\0", 3, 1}, {member, sizeof member - 1, 2}, {"x", 1, 0}, {member, 9, 0}};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        struct text bytes = {0};
        struct dataset set;
        cohort_error err = {0};
        assert_int_equal(text_append(&bytes, member, sizeof member - 1, NULL), COHORT_OK);
        assert_int_equal(text_append(&bytes, "\0\0", i == 2 ? 2 : 0, NULL), COHORT_OK);
        assert_int_equal(text_append(&bytes, tails[i].bytes, tails[i].length, NULL), COHORT_OK);
        const cohort_status status = open_set(&set, written("m.jsonl.gz", bytes.data, bytes.length), &err);
        if (status != (tails[i].rows > 0 ? COHORT_OK : COHORT_ERR_FORMAT))
            fail_msg("tail %zu: %s", i, err.message);
        if (status == COHORT_OK)
            assert_int_equal(set.n_rows, tails[i].rows);
        if (status == COHORT_OK)
            dataset_free(&set);
        text_free(&bytes);
    }
}

/* A field, a row and a header without an end, in files that take no place on disk. */
static void test_endless(void **state)
{
    (void)state;
    static const struct {
        const char *name, *begin, *says;
    } cases[] = {{"e.csv", "a,b\n1,\"", ":2: the row is longer than the limit of 64 MB; is a quote not closed?"},
                 {"e.csv", "a,b\n1,", ":2: the row is longer than the limit of 64 MB"},
                 {"e.csv", "a,", ":1: the row is longer than the limit of 64 MB"},
                 {"e.json", "[{\"a\":\"", ": row 1 is longer than the limit of 64 MB"},
                 {"e.jsonl", "{\"a\":\"", ":1: the line is longer than the limit of 64 MB"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = written(cases[i].name, cases[i].begin, strlen(cases[i].begin));
        struct dataset set;
        cohort_error err = {0};
        assert_int_equal(truncate(path, (off_t)1 << 30), 0);
        assert_int_equal(open_set(&set, path, &err), COHORT_ERR_FORMAT);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s", err.message);
        unlink(path);
    }
}

/* Rows are read when they are asked for: a file that was changed meanwhile is an error and not another row. */
static void test_changed(void **state)
{
    (void)state;
    struct dataset set;
    cohort_error err = {0};
    json_t *row = NULL;
    const char *path = written("c.jsonl", "{\"a\":1}\n{\"a\":2}\n", 16);
    assert_int_equal(open_set(&set, path, &err), COHORT_OK);
    assert_int_equal(dataset_row(&set, 1, &row, &err), COHORT_OK);
    json_decref(row);
    assert_int_equal(truncate(path, 8), 0);
    assert_int_equal(dataset_row(&set, 1, &row, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, "was changed while it is in use"));
    assert_null(row);
    dataset_free(&set);
    path = written("c.jsonl", "{\"a\":1}\n{\"a\":2}\n", 16);
    assert_int_equal(open_set(&set, path, &err), COHORT_OK);
    path = written("c.jsonl", "{\"a\":3}\n{\"a\":4}\n", 16); /* another file of that name */
    assert_int_equal(dataset_row(&set, 1, &row, &err), COHORT_ERR_STATE);
    dataset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),       cmocka_unit_test(test_tables_refused),
        cmocka_unit_test(test_arrays_refused), cmocka_unit_test(test_objects),
        cmocka_unit_test(test_names),          cmocka_unit_test(test_unpacked_beside),
        cmocka_unit_test(test_packed_refused), cmocka_unit_test(test_endless),
        cmocka_unit_test(test_changed),        cmocka_unit_test(test_members),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
