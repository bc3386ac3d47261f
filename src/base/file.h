/* Files: whole reads, memory maps, and writes that are complete or absent (invariant I6). */
#ifndef COHORT_BASE_FILE_H
#define COHORT_BASE_FILE_H

#include "base/memory.h"

/* Appends the content of path to out. Refuses files over limit bytes (0: no limit). */
cohort_status file_read(const char *path, size_t limit, struct text *out, cohort_error *err);

/* A read-only map of a whole file. data is NULL for an empty file. */
struct file_map {
    const unsigned char *data;
    size_t size;
};
cohort_status file_map_open(struct file_map *map, const char *path, cohort_error *err);
void file_map_close(struct file_map *map);

/* Writes path by way of a temporary file beside it, fsync and rename: a reader sees the old file or
 * the new one whole. On failure the temporary file is removed. */
cohort_status file_write_atomic(const char *path, const void *bytes, size_t length,
                                cohort_error *err);

/* Creates path and its missing parents. */
cohort_status file_make_dirs(const char *path, cohort_error *err);
/* Removes a file or a folder with all in it; a missing one is no error. */
cohort_status file_remove_all(const char *path, cohort_error *err);
/* fsync of a folder, so that renames in it survive a crash. */
cohort_status file_sync_dir(const char *path, cohort_error *err);
/* Copies one file, fsyncs the copy. */
cohort_status file_copy(const char *from, const char *to, cohort_error *err);
bool file_exists(const char *path);
bool file_is_dir(const char *path);
/* *out = "dir/name", mem_alloc'ed. */
cohort_status file_join(char **out, const char *dir, const char *name, cohort_error *err);

#endif
