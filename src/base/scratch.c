#include "base/scratch.h"

#include "base/file.h"
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char prefix[] = ".cohort-";
static const char marker_name[] = "cohort-scratch";
static const char what[] = "scratch folder: unfinished work, may be removed when its process is gone";

static cohort_status io_error(cohort_error *err, const char *path, const char *doing)
{
    int code = errno;
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s%s", path, doing, strerror(code),
                     code == ENOSPC ? "; free some space and try again" : "");
}

/* The marker, locked and written. *again: a recovery of another process was in between and took the folder, which
 * looked abandoned: take another one. */
static cohort_status mark(struct scratch *scratch, bool *again, cohort_error *err)
{
    enum lock_result result = LOCK_TAKEN;
    scratch->fd = file_open(scratch->marker, O_RDWR | O_CREAT | O_EXCL);
    if (scratch->fd < 0) {
        *again = errno == ENOENT;
        return *again ? COHORT_OK : io_error(err, scratch->marker, "create");
    }
    TRY(lock_take(scratch->fd, scratch->marker, &result, err));
    if (result == LOCK_HELD) {
        *again = true;
        return COHORT_OK;
    }
    TRY(lock_write_holder(scratch->fd, scratch->marker, what, err));
    if (fsync(scratch->fd) != 0)
        return io_error(err, scratch->marker, "fsync");
    /* Its name too, before anything else is in the folder: one without a marker would be nobody's. */
    return file_sync_dir(scratch->path, err);
}

static void forget(struct scratch *scratch)
{
    if (scratch->path != NULL && scratch->fd >= 0) {
        lock_release(scratch->fd);
        close(scratch->fd);
    }
    mem_free(scratch->path);
    mem_free(scratch->marker);
    *scratch = (struct scratch){.fd = -1};
}

void scratch_leave(struct scratch *scratch) { forget(scratch); }

cohort_status scratch_open(struct scratch *scratch, const char *parent, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    *scratch = (struct scratch){.fd = -1};
    for (int attempt = 0; attempt < 100; attempt++) {
        bool again = false;
        char name[sizeof prefix + 16];
        snprintf(name, sizeof name, "%s%016llx", prefix, (unsigned long long)file_unique_number());
        TRY(file_join(&scratch->path, parent, name, err));
        TRY_GOTO(file_join(&scratch->marker, scratch->path, marker_name, err));
        if (mkdir(scratch->path, 0777) != 0) {
            again = errno == EEXIST;
            if (!again)
                status = io_error(err, scratch->path, "create the folder");
            if (!again)
                goto cleanup;
        } else {
            status = mark(scratch, &again, err);
            if (status == COHORT_OK && !again)
                return COHORT_OK;
            if (!again && scratch->fd >= 0)
                unlink(scratch->marker);
            if (!again)
                rmdir(scratch->path);
            if (status != COHORT_OK)
                goto cleanup;
        }
        forget(scratch);
    }
    return error_set(err, COHORT_ERR_IO, "%s: cannot create a scratch folder in it", parent);
cleanup:
    forget(scratch);
    return status;
}

/* The folder's content first, the marker last: a crash in between leaves a marked folder. */
static cohort_status empty(const char *path, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    const char *name = NULL;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return io_error(err, path, "open the folder");
    while (status == COHORT_OK && (name = file_next_entry(dir, path, &status, err)) != NULL) {
        char *child = NULL;
        if (strcmp(name, marker_name) == 0)
            continue;
        status = file_join(&child, path, name, err);
        if (status == COHORT_OK)
            status = file_remove_all(child, err);
        mem_free(child);
    }
    closedir(dir);
    return status;
}

void scratch_close(struct scratch *scratch)
{
    if (scratch->path == NULL)
        return;
    if (empty(scratch->path, NULL) == COHORT_OK && unlink(scratch->marker) == 0)
        rmdir(scratch->path);
    forget(scratch);
}

/* ---- recovery ---- */

static bool is_scratch_name(const char *name)
{
    size_t n = sizeof prefix - 1;
    return strncmp(name, prefix, n) == 0 && strlen(name) == n + 16 && strspn(name + n, "0123456789abcdef") == 16;
}

/* What made room and whose successor never came gets its name back. */
static cohort_status restore(const char *path, const char *parent, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *old = NULL;
    const char *name = NULL;
    TRY(file_join(&old, path, "old", err));
    DIR *dir = opendir(old);
    if (dir == NULL && errno != ENOENT)
        status = io_error(err, old, "open the folder");
    while (dir != NULL && status == COHORT_OK && (name = file_next_entry(dir, old, &status, err)) != NULL) {
        char *from = NULL, *to = NULL;
        struct stat st;
        status = file_join(&from, old, name, err);
        if (status == COHORT_OK)
            status = file_join(&to, parent, name, err);
        if (status == COHORT_OK && lstat(to, &st) != 0) {
            if (errno != ENOENT || rename(from, to) != 0)
                status = io_error(err, from, "rename it back to its name");
            else
                status = file_sync_dir(parent, err);
        }
        mem_free(from);
        mem_free(to);
    }
    if (dir != NULL)
        closedir(dir);
    mem_free(old);
    return status;
}

/* Whether the marker says that the folder is one of ours. One that a crash cut off was never synced, and such a folder
 * holds nothing else. */
static bool is_marker(const struct scratch *scratch, struct lock_holder *holder)
{
    struct stat st;
    if (fstat(scratch->fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
        !lock_read_holder(scratch->fd, what, holder))
        return false;
    if (!holder->cut)
        return true;
    size_t entries = 0;
    cohort_status status = COHORT_OK;
    DIR *dir = opendir(scratch->path);
    while (dir != NULL && file_next_entry(dir, scratch->path, &status, NULL) != NULL)
        entries++;
    if (dir != NULL)
        closedir(dir);
    return dir != NULL && status == COHORT_OK && entries == 1;
}

static cohort_status recover_one(const char *parent, const char *name, cohort_error *err)
{
    struct scratch left = {.fd = -1};
    struct stat st;
    struct lock_holder holder;
    enum lock_result result = LOCK_HELD;
    cohort_status status = COHORT_OK;
    TRY(file_join(&left.path, parent, name, err));
    TRY_GOTO(file_join(&left.marker, left.path, marker_name, err));
    if (lstat(left.path, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        goto cleanup;
    left.fd = file_open(left.marker, O_RDWR | O_NOFOLLOW);
    if (left.fd < 0) {
        /* A crash between making the folder and the marker; nothing is lost with an empty folder. */
        if (errno == ENOENT)
            rmdir(left.path);
        goto cleanup;
    }
    if (!is_marker(&left, &holder))
        goto cleanup;
    TRY_GOTO(lock_take(left.fd, left.marker, &result, err));
    /* Without locks the process tells, if it is one of this machine. */
    if (result == LOCK_UNSUPPORTED && holder.here && !holder.alive)
        result = LOCK_TAKEN;
    if (result != LOCK_TAKEN)
        goto cleanup;
    TRY_GOTO(restore(left.path, parent, err));
    scratch_close(&left);
cleanup:
    forget(&left);
    return status;
}

cohort_status scratch_recover(const char *parent, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    const char *name = NULL;
    DIR *dir = opendir(parent);
    if (dir == NULL)
        return errno == ENOENT ? COHORT_OK : io_error(err, parent, "open the folder");
    while (status == COHORT_OK && (name = file_next_entry(dir, parent, &status, err)) != NULL)
        if (is_scratch_name(name))
            status = recover_one(parent, name, err);
    closedir(dir);
    return status;
}
