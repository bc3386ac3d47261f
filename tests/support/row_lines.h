/* Fixtures of rows: a file of JSON lines as our own writer writes them. */
#ifndef COHORT_TESTS_ROW_LINES_H
#define COHORT_TESTS_ROW_LINES_H

#include "base/file.h"
#include "base/json_text.h"

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

#endif
