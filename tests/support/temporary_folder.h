/* A temporary folder for the tests of one program: made by group_setup, emptied before every test by setup, removed by
 * group_teardown. Include it after cmocka and base/file.h. */
#ifndef COHORT_TESTS_TEMPORARY_FOLDER_H
#define COHORT_TESTS_TEMPORARY_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[] = "/tmp/cohort-test-XXXXXX";

static inline int group_setup(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static inline int group_teardown(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

/* Every test begins with an empty folder. */
static inline int setup(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK && mkdir(folder, 0777) == 0 ? 0 : -1;
}

static inline const char *in_folder(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static inline void put(const char *name, const char *content)
{
    cohort_error err = {0};
    assert_int_equal(file_write_atomic(in_folder(name), content, strlen(content), &err), COHORT_OK);
}

static inline bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static inline bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static inline size_t count_entries(const char *path)
{
    size_t n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n - 2; /* . and .. */
}

#endif
