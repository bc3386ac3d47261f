/* Owns the descriptor, the path and the hash with its buffers. used bytes of the present part are filled; part NULL: none
 * was begun.
 *   open --add...--> open --end--> ended, or failed (removed) --destroy */
#include "base/file_output.h"

#include "base/file.h"
#include "base/hash_behind.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { PART_BYTES = 4 << 20, DIRECT_ALIGN = HASH_BEHIND_ALIGN };

struct file_output {
    char *path;
    int fd;
    struct hash_behind *hash;
    unsigned char *part;
    size_t part_bytes, used;
    off_t at;    /* written */
    bool direct; /* past the page cache */
};

static cohort_status failure(const struct file_output *o, const char *doing, cohort_error *err)
{
    int code = errno;
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s%s", o->path, doing, strerror(code), file_advice(code));
}

/* Whether writes from now on go past the page cache, if the file system can. */
static void set_direct(struct file_output *o, bool direct)
{
#ifdef O_DIRECT
    int flags = fcntl(o->fd, F_GETFL);
    o->direct = flags >= 0 && fcntl(o->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0 && direct;
#else
    o->direct = false;
    (void)direct;
#endif
}

cohort_status file_output_open(struct file_output **out, const char *path, size_t bytes, cohort_error *err)
{
    struct file_output *o = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&o, 1, sizeof *o, "file to write", err));
    o->fd = -1;
    o->part_bytes = bytes < PART_BYTES ? bytes + DIRECT_ALIGN - bytes % DIRECT_ALIGN : PART_BYTES;
    TRY_GOTO(mem_strdup(&o->path, path, strlen(path), err));
    TRY_GOTO(hash_behind_create(&o->hash, o->part_bytes, err));
    o->fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC);
    if (o->fd < 0) {
        status = failure(o, "create", err);
        goto cleanup;
    }
    if (bytes >= 2 * (size_t)PART_BYTES)
        set_direct(o, true);
    *out = o;
cleanup:
    if (status != COHORT_OK)
        file_output_destroy(o);
    return status;
}

/* A part in as many calls as that takes. */
static cohort_status write_part(struct file_output *o, size_t length, cohort_error *err)
{
    for (size_t done = 0; done < length;) {
        if (o->direct && (length - done) % DIRECT_ALIGN != 0)
            set_direct(o, false); /* the end of the file, or a disk that is full */
        ssize_t n = write(o->fd, o->part + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && o->direct) {
            set_direct(o, false); /* a file system that promised what it cannot */
            continue;
        }
        if (n <= 0)
            return failure(o, "write", err);
        done += (size_t)n;
    }
#ifdef SYNC_FILE_RANGE_WRITE
    if (!o->direct && length == PART_BYTES) /* the disk begins now, not at the end; a wish */
        (void)sync_file_range(o->fd, o->at, (off_t)length, SYNC_FILE_RANGE_WRITE);
#endif
    o->at += (off_t)length;
    return COHORT_OK;
}

/* Hands the present part over. */
static cohort_status flush(struct file_output *o, cohort_error *err)
{
    const size_t length = o->used;
    if (length == 0)
        return COHORT_OK;
    hash_behind_add(o->hash, length);
    TRY(write_part(o, length, err));
    o->part = NULL;
    o->used = 0;
    return COHORT_OK;
}

void *file_output_room(struct file_output *o, size_t *length)
{
    if (o->part == NULL)
        o->part = hash_behind_slot(o->hash);
    *length = o->part_bytes - o->used;
    return o->part + o->used;
}

cohort_status file_output_add(struct file_output *o, size_t length, cohort_error *err)
{
    o->used += length;
    return o->used == o->part_bytes ? flush(o, err) : COHORT_OK;
}

cohort_status file_output_end(struct file_output *o, char hex[HASH_HEX], cohort_error *err)
{
    TRY(flush(o, err));
    if (fsync(o->fd) != 0)
        return failure(o, "fsync", err);
    const int fd = o->fd;
    o->fd = -1;
    if (close(fd) != 0) {
        cohort_status status = failure(o, "close", err);
        unlink(o->path);
        return status;
    }
    if (hex != NULL)
        hash_behind_end(o->hash, hex);
    return COHORT_OK;
}

void file_output_destroy(struct file_output *o)
{
    if (o == NULL)
        return;
    if (o->fd >= 0) {
        close(o->fd);
        unlink(o->path);
    }
    hash_behind_destroy(o->hash);
    mem_free(o->path);
    mem_free(o);
}
