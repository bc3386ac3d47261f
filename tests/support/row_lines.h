/* Tests of readers of rows: fixtures as JSON lines as our own writer writes them, wrong files, files that are cut. */
#ifndef COHORT_TESTS_ROW_LINES_H
#define COHORT_TESTS_ROW_LINES_H

#include "base/file.h"
#include "base/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lines {
    struct text text;
    const char *line[256];
    size_t n;
};

/* The lines of a file, each written again by the writer that writes ours. */
static void read_lines(struct lines *lines, const char *path)
{
    struct text content = {0};
    cohort_error err = {0};
    size_t starts[256];
    assert_int_equal(file_read(path, 0, &content, &err), COHORT_OK);
    memset(lines, 0, sizeof *lines);
    for (char *line = content.data, *end; line != NULL && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *json = NULL;
        if (json_text_parse(&json, line, (size_t)(end - line), path, 1, JSON_TEXT_NUL, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_true(lines->n < 256);
        starts[lines->n++] = lines->text.length;
        assert_int_equal(json_text_write(json, JSON_COMPACT, &lines->text, &err), COHORT_OK);
        assert_int_equal(text_append(&lines->text, "", 1, &err), COHORT_OK);
        json_decref(json);
    }
    for (size_t i = 0; i < lines->n; i++)
        lines->line[i] = lines->text.data + starts[i];
    text_free(&content);
}

/* Opens a file and reads every row. */
typedef cohort_status read_every_row(const char *path, cohort_error *err);

/* The fixtures wrong_NAME.SUFFIX, each refused with a message that begins with its path and says why: {NAME, why}. */
static void check_refusals(const char *const (*refusals)[2], size_t n, const char *suffix,
                           const char *(*fixture_of)(const char *name), read_every_row *read)
{
    for (size_t i = 0; i < n; i++) {
        char name[64];
        cohort_error err = {0};
        snprintf(name, sizeof name, "wrong_%s.%s", refusals[i][0], suffix);
        const char *path = fixture_of(name);
        const cohort_status status = read(path, &err);
        if ((status != COHORT_ERR_FORMAT && status != COHORT_ERR_UNSUPPORTED) ||
            strstr(err.message, path) != err.message || strstr(err.message, refusals[i][1]) == NULL)
            fail_msg("%s gave status %d: %s\nexpected in it: %s", name, (int)status, err.message, refusals[i][1]);
    }
}

/* A good file that is cut anywhere, every step bytes, is refused, and never read behind its end. */
static void check_cuts(const char *path, size_t step, read_every_row *read)
{
    char folder[] = "/tmp/cohort-cut-XXXXXX", cut[sizeof folder + 8];
    struct text content = {0};
    cohort_error err = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(cut, sizeof cut, "%s/x", folder);
    assert_int_equal(file_read(path, 0, &content, &err), COHORT_OK);
    for (size_t length = 0; length<content.length; length += step> 0 ? step : 1 + content.length / 97) {
        assert_int_equal(file_write_atomic(cut, content.data, length, &err), COHORT_OK);
        assert_int_not_equal(read(cut, &err), COHORT_OK);
    }
    assert_int_equal(file_write_atomic(cut, content.data, content.length, &err), COHORT_OK);
    assert_int_equal(read(cut, &err), COHORT_OK);
    assert_int_equal(file_remove_all(folder, &err), COHORT_OK);
    text_free(&content);
}

#endif
