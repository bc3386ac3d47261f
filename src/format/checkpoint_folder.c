/* A folder that is complete or absent (I6).
 *
 * Owns two paths: target, and temporary, a sibling named .NAME.tmp-PID.
 *   (zero) --begin--> writing --commit--> (zero)
 *                     writing --abandon--> (zero)
 * A failed commit is followed by abandon. The target is then what it was, unless only the last
 * fsync (of the parent) failed: then it is the new folder, and what it replaced waits for the next
 * begin.
 *
 * Replacing exchanges the two names in one step where the system can; elsewhere the old folder is
 * renamed to .NAME.old-PID first, and a crash between the two renames is repaired by the next
 * begin, which renames it back. What a crash leaves behind is removed by the next begin for the
 * same target. */
#include "format/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static cohort_status folder_error(const char *path, const char *doing, cohort_error *err)
{
    int code = errno;
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s%s", path, doing, strerror(code),
                     code == ENOSPC ? "; free some space and try again" : "");
}

/* *parent and *name of a path without its trailing slashes. */
static cohort_status split_path(const char *path, char **whole, char **parent, char **name,
                                cohort_error *err)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    TRY(mem_strdup(whole, path, length, err));
    const char *slash = strrchr(*whole, '/');
    const char *last = slash == NULL ? *whole : slash + 1;
    if (*last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "\"%s\": expected the name of a folder to write",
                         path);
    TRY(mem_strdup(name, last, strlen(last), err));
    if (slash == NULL)
        return mem_strdup(parent, ".", 1, err);
    return mem_strdup(parent, *whole, slash == *whole ? 1 : (size_t)(slash - *whole), err);
}

static cohort_status sibling(char **out, const char *parent, const char *name, const char *kind,
                             cohort_error *err)
{
    struct text text = {0};
    TRY(text_printf(&text, err, "%s/.%s.%s-%ld", parent, name, kind, (long)getpid()));
    *out = text.data;
    return COHORT_OK;
}

/* The process id if entry is .NAME.KIND-PID, else -1. */
static long leftover_pid(const char *entry, const char *name, const char *kind)
{
    size_t n = strlen(name);
    size_t k = strlen(kind);
    if (entry[0] != '.' || strncmp(entry + 1, name, n) != 0 || entry[1 + n] != '.' ||
        strncmp(entry + 2 + n, kind, k) != 0 || entry[2 + n + k] != '-')
        return -1;
    const char *digits = entry + 3 + n + k;
    if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 15)
        return -1;
    return strtol(digits, NULL, 10);
}

/* Another process that is still writing the same target keeps its folder. */
static bool is_alive(long pid)
{
    return pid > 0 && pid != (long)getpid() && (pid_t)pid == pid &&
           (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* Repairs and removes what crashed commits left beside the target. */
static cohort_status clean_leftovers(const char *target, const char *parent, const char *name,
                                     cohort_error *err)
{
    DIR *dir = opendir(parent);
    if (dir == NULL)
        return folder_error(parent, "open the folder", err);
    cohort_status status = COHORT_OK;
    struct dirent *entry = NULL;
    bool there = false;
    while (status == COHORT_OK &&
           (status = file_next_entry(dir, parent, &entry, err)) == COHORT_OK && entry != NULL) {
        long temporary = leftover_pid(entry->d_name, name, "tmp");
        long old = leftover_pid(entry->d_name, name, "old");
        if ((temporary < 0 && old < 0) || is_alive(temporary) || is_alive(old))
            continue;
        char *path = NULL;
        status = file_join(&path, parent, entry->d_name, err);
        if (status == COHORT_OK && old >= 0)
            status = file_exists(target, &there, err);
        if (status == COHORT_OK && old >= 0 && !there) {
            if (rename(path, target) != 0)
                status = folder_error(path, "rename it back to its name", err);
        } else if (status == COHORT_OK) {
            status = file_remove_all(path, err);
        }
        mem_free(path);
    }
    closedir(dir);
    return status;
}

/* The length of NAME if entry is .NAME.tmp-PID or .NAME.old-PID of a process that has ended, else
 * 0. */
static size_t leftover_name(const char *entry)
{
    const char *end = strrchr(entry, '.');
    if (entry[0] != '.' || end == NULL || end <= entry + 1)
        return 0;
    size_t length = (size_t)(end - entry) - 1;
    char name[256];
    if (length >= sizeof name)
        return 0;
    memcpy(name, entry + 1, length);
    name[length] = '\0';
    long temporary = leftover_pid(entry, name, "tmp"), old = leftover_pid(entry, name, "old");
    return (temporary < 0 && old < 0) || is_alive(temporary) || is_alive(old) ? 0 : length;
}

/* Repairs and removes the first such entry; *found: there was one. */
static cohort_status recover_one(const char *parent, bool *found, cohort_error *err)
{
    DIR *dir = opendir(parent);
    char *name = NULL, *target = NULL;
    cohort_status status = COHORT_OK;
    struct dirent *entry = NULL;
    *found = false;
    if (dir == NULL)
        return errno == ENOENT ? COHORT_OK : folder_error(parent, "open the folder", err);
    for (;;) {
        TRY_GOTO(file_next_entry(dir, parent, &entry, err));
        if (entry == NULL)
            break;
        size_t length = leftover_name(entry->d_name);
        if (length == 0)
            continue;
        *found = true;
        TRY_GOTO(mem_strdup(&name, entry->d_name + 1, length, err));
        TRY_GOTO(file_join(&target, parent, name, err));
        status = clean_leftovers(target, parent, name, err);
        break;
    }
cleanup:
    closedir(dir);
    mem_free(name);
    mem_free(target);
    return status;
}

cohort_status checkpoint_folders_recover(const char *parent, cohort_error *err)
{
    for (bool found = true; found;)
        TRY(recover_one(parent, &found, err));
    return COHORT_OK;
}

cohort_status checkpoint_folder_begin(struct checkpoint_folder *folder, const char *target,
                                      cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *parent = NULL;
    char *name = NULL;
    enum file_kind kind = FILE_ABSENT;
    memset(folder, 0, sizeof *folder);
    TRY_GOTO(split_path(target, &folder->target, &parent, &name, err));
    TRY_GOTO(file_make_dirs(parent, err));
    TRY_GOTO(clean_leftovers(folder->target, parent, name, err));
    TRY_GOTO(file_look(folder->target, &kind, err));
    if (kind == FILE_FILE) {
        status = error_set(err, COHORT_ERR_IO, "%s: is a file, expected a folder or nothing",
                           folder->target);
        goto cleanup;
    }
    TRY_GOTO(sibling(&folder->temporary, parent, name, "tmp", err));
    if (mkdir(folder->temporary, 0777) != 0) {
        status = folder_error(folder->temporary, "create the folder", err);
        /* Not ours, so not to be removed by abandon. */
        mem_free(folder->temporary);
        folder->temporary = NULL;
    }
cleanup:
    mem_free(parent);
    mem_free(name);
    if (status != COHORT_OK)
        checkpoint_folder_abandon(folder);
    return status;
}

static cohort_status sync_file(const char *path, cohort_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return folder_error(path, "open", err);
    cohort_status status = COHORT_OK;
    if (fsync(fd) != 0)
        status = folder_error(path, "fsync", err);
    close(fd);
    return status;
}

/* fsync of every file and folder below path, then of path. */
static cohort_status sync_tree(const char *path, cohort_error *err)
{
    DIR *dir = opendir(path);
    if (dir == NULL)
        return folder_error(path, "open the folder", err);
    cohort_status status = COHORT_OK;
    struct dirent *entry = NULL;
    while (status == COHORT_OK &&
           (status = file_next_entry(dir, path, &entry, err)) == COHORT_OK && entry != NULL) {
        struct stat st;
        char *child = NULL;
        status = file_join(&child, path, entry->d_name, err);
        if (status == COHORT_OK && lstat(child, &st) != 0)
            status = folder_error(child, "stat", err);
        else if (status == COHORT_OK && S_ISDIR(st.st_mode))
            status = sync_tree(child, err);
        else if (status == COHORT_OK && S_ISREG(st.st_mode))
            status = sync_file(child, err);
        mem_free(child);
    }
    closedir(dir);
    return status == COHORT_OK ? file_sync_dir(path, err) : status;
}

/* Swaps two names in one step; false where the system or the file system cannot. */
static bool exchange(const char *a, const char *b)
{
#ifdef RENAME_EXCHANGE
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
#else
    (void)a;
    (void)b;
    return false;
#endif
}

/* The target's name goes to the temporary folder; *old is where the replaced folder went, NULL if
 * there was none. */
static cohort_status put_in_place(const struct checkpoint_folder *folder, const char *parent,
                                  const char *name, char **old, cohort_error *err)
{
    bool there = false;
    TRY(file_exists(folder->target, &there, err));
    if (!there) {
        if (rename(folder->temporary, folder->target) != 0)
            return folder_error(folder->target, "rename the finished folder to it", err);
        return COHORT_OK;
    }
    TRY(mem_strdup(old, folder->temporary, strlen(folder->temporary), err));
    if (exchange(folder->temporary, folder->target))
        return COHORT_OK;
    mem_free(*old);
    *old = NULL;
    TRY(sibling(old, parent, name, "old", err));
    if (rename(folder->target, *old) != 0) {
        cohort_status status = folder_error(folder->target, "rename it aside", err);
        mem_free(*old);
        *old = NULL;
        return status;
    }
    if (rename(folder->temporary, folder->target) != 0) {
        cohort_status status =
            folder_error(folder->target, "rename the finished folder to it", err);
        if (rename(*old, folder->target) != 0)
            error_context(err, "the folder that was there is now %s", *old);
        mem_free(*old);
        *old = NULL;
        return status;
    }
    return COHORT_OK;
}

cohort_status checkpoint_folder_commit(struct checkpoint_folder *folder, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *whole = NULL;
    char *parent = NULL;
    char *name = NULL;
    char *old = NULL;
    if (folder->temporary == NULL)
        return error_set(err, COHORT_ERR_INTERNAL,
                         "commit of a checkpoint folder that was not begun");
    TRY_GOTO(split_path(folder->target, &whole, &parent, &name, err));
    TRY_GOTO(sync_tree(folder->temporary, err));
    TRY_GOTO(put_in_place(folder, parent, name, &old, err));
    /* From here on the temporary name is gone or names the old folder, which abandon must not
     * remove before the parent is durable. */
    mem_free(folder->temporary);
    folder->temporary = NULL;
    TRY_GOTO(file_sync_dir(parent, err));
    /* Should the old folder not go, the next begin removes it. */
    if (old != NULL)
        (void)file_remove_all(old, NULL);
    checkpoint_folder_abandon(folder);
cleanup:
    mem_free(whole);
    mem_free(parent);
    mem_free(name);
    mem_free(old);
    return status;
}

void checkpoint_folder_abandon(struct checkpoint_folder *folder)
{
    if (folder == NULL)
        return;
    if (folder->temporary != NULL)
        (void)file_remove_all(folder->temporary, NULL);
    mem_free(folder->target);
    mem_free(folder->temporary);
    memset(folder, 0, sizeof *folder);
}
