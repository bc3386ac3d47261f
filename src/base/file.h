/* Files: whole reads, memory maps, and writes that are complete or absent (invariant I6). */
#ifndef COHORT_BASE_FILE_H
#define COHORT_BASE_FILE_H

#include "base/memory.h"

#include <dirent.h>

/* open(2), closed on exec, as a descriptor above 2: a host program may have closed its own 0 to 2, and whoever prints
 * there would print into the file. New files get mode 0666 less the umask. -1 with errno on failure. */
int file_open(const char *path, int flags);

/* Appends the content of path to out. Refuses files over limit bytes (0: no limit). */
cohort_status file_read(const char *path, size_t limit, struct text *out, cohort_error *err);

/* A read-only map of a whole file. data is NULL for an empty file. */
struct file_map {
    const unsigned char *data;
    size_t size;
};
cohort_status file_map_open(struct file_map *map, const char *path, cohort_error *err);
void file_map_close(struct file_map *map);

/* Writes path through a temporary file beside it, fsync and rename: a reader sees the whole old file or the whole
 * new one. On failure the temporary file is removed. */
cohort_status file_write_atomic(const char *path, const void *bytes, size_t length, cohort_error *err);

/* The same through a temporary file that the caller names, on the same file system. It must not exist. If it belongs
 * to a scratch folder (base/scratch.h) it is removed after a crash, too. */
cohort_status file_write_by(const char *temporary, const char *path, const void *bytes, size_t length,
                            cohort_error *err);
/* Writes length bytes to fd, however many calls that takes; path is for the message. */
cohort_status file_write_all(int fd, const char *path, const void *bytes, size_t length, cohort_error *err);
/* Returns the name of the next entry other than . and .., or NULL at the end. *status then says whether the folder
 * was read to its end or readdir failed. */
const char *file_next_entry(DIR *dir, const char *path, cohort_status *status, cohort_error *err);

/* For a name that nothing else has. */
uint64_t file_unique_number(void);

/* What to do about an errno of a file, "; ..." behind the message that names it; "" where that does not follow from it. */
const char *file_advice(int code);

/* Creates path and its missing parents. */
cohort_status file_make_dirs(const char *path, cohort_error *err);
/* Removes a file or a folder with all in it; a missing one is no error. */
cohort_status file_remove_all(const char *path, cohort_error *err);
/* fsync of a folder, so that renames in it survive a crash. */
cohort_status file_sync_dir(const char *path, cohort_error *err);
/* Copies one file, fsyncs the copy. */
cohort_status file_copy(const char *from, const char *to, cohort_error *err);
/* What lies at path; links are followed. Only "no such file", "not a folder" and "name too long" mean absent: every other answer of
 * the system, and a link to nothing, is an error, because taking an optional file for absent would change results in
 * silence. */
enum file_kind { FILE_ABSENT, FILE_FILE, FILE_FOLDER };
cohort_status file_look(const char *path, enum file_kind *kind, cohort_error *err);
cohort_status file_exists(const char *path, bool *there, cohort_error *err);
/* *out = "dir/name", mem_alloc'ed. */
cohort_status file_join(char **out, const char *dir, const char *name, cohort_error *err);

#endif
