/* A folder that is complete or absent (I6).
 *
 * Owns the path of the target and a scratch folder beside it (base/scratch.h), in which
 * new/NAME is being written (temporary).
 *   (zero) --begin--> writing --commit--> committed --abandon--> (zero)
 *                     writing --abandon--> (zero)
 * A failed commit leaves the target what it was, unless only the last fsync (of the parent) failed: then it is the new
 * folder.
 *
 * Replacing exchanges the two names in one step where the system can; elsewhere the old folder is renamed to old/NAME
 * of the scratch folder first, and a crash between the two renames is repaired by the next recovery. An old folder with
 * files that are not ours is never deleted: it gets the name NAME.previous-N beside the new one. What a crash leaves
 * behind is removed by the next begin beside it. */
#include "format/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static cohort_status folder_error(const char *path, const char *doing, cohort_error *err)
{
    int code = errno;
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s%s", path, doing, strerror(code), file_advice(code));
}

/* *parent and *name of a path without its trailing slashes. */
static cohort_status split_path(const char *path, char **whole, char **parent, char **name, cohort_error *err)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    TRY(mem_strdup(whole, path, length, err));
    const char *slash = strrchr(*whole, '/');
    const char *last = slash == NULL ? *whole : slash + 1;
    if (*last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "\"%s\": expected the name of a folder to write", path);
    TRY(mem_strdup(name, last, strlen(last), err));
    if (slash == NULL)
        return mem_strdup(parent, ".", 1, err);
    return mem_strdup(parent, *whole, slash == *whole ? 1 : (size_t)(slash - *whole), err);
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* *out = SCRATCH/kind/NAME, its folder made. */
static cohort_status in_scratch(const struct scratch *scratch, const char *kind, const char *name, char **out,
                                cohort_error *err)
{
    char *folder = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&folder, scratch->path, kind, err));
    TRY_GOTO(file_make_dirs(folder, err));
    TRY_GOTO(file_join(out, folder, name, err));
cleanup:
    mem_free(folder);
    return status;
}

cohort_status checkpoint_folder_begin(struct checkpoint_folder *folder, const char *target, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *parent = NULL;
    char *name = NULL;
    enum file_kind kind = FILE_ABSENT;
    memset(folder, 0, sizeof *folder);
    TRY_GOTO(split_path(target, &folder->target, &parent, &name, err));
    TRY_GOTO(file_make_dirs(parent, err));
    /* What cannot be recovered is no reason not to write; a target that waits in there is repaired or the commit
     * fails. */
    (void)scratch_recover(parent, NULL);
    TRY_GOTO(file_look(folder->target, &kind, err));
    if (kind == FILE_FILE) {
        status = error_set(err, COHORT_ERR_IO, "%s: is a file, expected a folder or nothing", folder->target);
        goto cleanup;
    }
    TRY_GOTO(scratch_open(&folder->scratch, parent, err));
    TRY_GOTO(in_scratch(&folder->scratch, "new", name, &folder->temporary, err));
    if (mkdir(folder->temporary, 0777) != 0)
        status = folder_error(folder->temporary, "create the folder", err);
cleanup:
    mem_free(parent);
    mem_free(name);
    if (status != COHORT_OK)
        checkpoint_folder_abandon(folder);
    return status;
}

static cohort_status sync_file(const char *path, cohort_error *err)
{
    int fd = file_open(path, O_RDONLY | O_NOFOLLOW);
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
    const char *name = NULL;
    while (status == COHORT_OK && (name = file_next_entry(dir, path, &status, err)) != NULL) {
        struct stat st;
        char *child = NULL;
        status = file_join(&child, path, name, err);
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

/* A folder with files that are not ours goes to TARGET.previous-N, the first N that is free. */
static cohort_status keep_old(struct checkpoint_folder *folder, cohort_error *err)
{
    for (int n = 1; n < 10000; n++) {
        struct text text = {0};
        TRY(text_printf(&text, err, "%s.previous-%d", folder->target, n));
        if (is_there(text.data)) {
            text_free(&text);
            continue;
        }
        if (rename(folder->target, text.data) != 0) {
            text_free(&text);
            return folder_error(folder->target, "rename it aside", err);
        }
        folder->kept = text.data;
        return COHORT_OK;
    }
    return error_set(err, COHORT_ERR_STATE, "%s: no free name to move it to", folder->target);
}

/* The new folder gets a name that nothing has. */
static cohort_status take_name(const struct checkpoint_folder *folder, cohort_error *err)
{
#ifdef RENAME_NOREPLACE
    if (renameat2(AT_FDCWD, folder->temporary, AT_FDCWD, folder->target, RENAME_NOREPLACE) == 0)
        return COHORT_OK;
    if (errno != EINVAL && errno != ENOSYS) /* EINVAL: not on this file system */
        return folder_error(folder->target, "rename the finished folder to it", err);
#endif
    if (is_there(folder->target) || rename(folder->temporary, folder->target) != 0)
        return folder_error(folder->target, "rename the finished folder to it", err);
    return COHORT_OK;
}

/* The target's name goes to the temporary folder, what had it to the scratch folder or aside. */
static cohort_status put_in_place(struct checkpoint_folder *folder, const char *name, cohort_error *err)
{
    char *stranger = NULL, *old = NULL;
    cohort_status status = COHORT_OK;
    if (!is_there(folder->target) || folder->exclusive)
        return take_name(folder, err);
    TRY(manifest_stranger(folder->target, &stranger, err));
    if (stranger != NULL) {
        mem_free(stranger);
        TRY(keep_old(folder, err));
        return take_name(folder, err);
    }
    if (exchange(folder->temporary, folder->target))
        return COHORT_OK;
    TRY(in_scratch(&folder->scratch, "old", name, &old, err));
    if (rename(folder->target, old) != 0) {
        status = folder_error(folder->target, "rename it aside", err);
    } else if (rename(folder->temporary, folder->target) != 0) {
        status = folder_error(folder->target, "rename the finished folder to it", err);
        if (rename(old, folder->target) != 0) {
            error_context(err, "the folder that was there is now %s", old);
            /* Not to be removed with the scratch folder: the next recovery renames it back. */
            scratch_leave(&folder->scratch);
        }
    }
    mem_free(old);
    return status;
}

cohort_status checkpoint_folder_commit(struct checkpoint_folder *folder, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *whole = NULL;
    char *parent = NULL;
    char *name = NULL;
    if (folder->temporary == NULL)
        return error_set(err, COHORT_ERR_INTERNAL, "commit of a checkpoint folder that was not begun");
    TRY_GOTO(split_path(folder->target, &whole, &parent, &name, err));
    TRY_GOTO(manifest_write(&folder->manifest, folder->temporary, err));
    TRY_GOTO(sync_tree(folder->temporary, err));
    TRY_GOTO(put_in_place(folder, name, err));
    mem_free(folder->temporary);
    folder->temporary = NULL;
    status = file_sync_dir(parent, err);
    /* The old folder goes only when the new name is durable. Should it not go, or should its successor not be durable,
     * the next recovery removes it. */
    if (status == COHORT_OK)
        scratch_close(&folder->scratch);
    else
        scratch_leave(&folder->scratch);
    manifest_free(&folder->manifest);
    mem_free(folder->target);
    folder->target = NULL;
cleanup:
    mem_free(whole);
    mem_free(parent);
    mem_free(name);
    return status;
}

void checkpoint_folder_abandon(struct checkpoint_folder *folder)
{
    if (folder == NULL)
        return;
    scratch_close(&folder->scratch);
    manifest_free(&folder->manifest);
    mem_free(folder->target);
    mem_free(folder->temporary);
    mem_free(folder->kept);
    memset(folder, 0, sizeof *folder);
}

cohort_status checkpoint_folder_remove(const char *target, char **stranger, cohort_error *err)
{
    char *whole = NULL, *parent = NULL, *name = NULL, *doomed = NULL;
    struct scratch scratch = {0};
    cohort_status status = COHORT_OK;
    *stranger = NULL;
    TRY_GOTO(split_path(target, &whole, &parent, &name, err));
    TRY_GOTO(manifest_stranger(whole, stranger, err));
    if (*stranger != NULL)
        goto cleanup;
    TRY_GOTO(scratch_open(&scratch, parent, err));
    TRY_GOTO(file_join(&doomed, scratch.path, name, err));
    if (rename(whole, doomed) != 0) {
        status = folder_error(whole, "rename it before it is deleted", err);
        goto cleanup;
    }
    /* The name must be gone for good before the first file is. */
    TRY_GOTO(file_sync_dir(parent, err));
    TRY_GOTO(file_remove_all(doomed, err));
cleanup:
    scratch_close(&scratch);
    mem_free(whole);
    mem_free(parent);
    mem_free(name);
    mem_free(doomed);
    return status;
}
