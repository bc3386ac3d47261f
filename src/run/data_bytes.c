#include "run/data_bytes.h"

#include "base/file.h"
#include "base/scratch.h"
#include "run/data_unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* HELD_LIMIT: of what has no file to lie in. What a disk keeps free of an unpacked file: SPARE_BYTES, or a twentieth of
 * the disk where that is less. */
enum { PIECE = 1 << 18, LOOK_EVERY = 16 << 20 };
static const size_t HELD_LIMIT = (size_t)8 << 30;
static const unsigned long long SPARE_BYTES = (unsigned long long)1 << 30;

static cohort_status io_error(const char *path, const char *doing, cohort_error *err)
{
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

static cohort_status read_some(int fd, const char *path, char *buffer, size_t size, size_t *length, cohort_error *err)
{
    for (;;) {
        const ssize_t n = read(fd, buffer, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_error(path, "read", err);
        *length = (size_t)n;
        return COHORT_OK;
    }
}

/* ---- what is unpacked or comes from a pipe ---- */

/* From the stored bytes to where they are kept: in memory as long as there is room, then in a file. */
struct intake {
    struct data_bytes *bytes;
    struct data_room *room;
    int from;
    const char *beginning; /* bytes that were read already */
    size_t n_beginning, since_look;
    struct scratch scratch;
    int to; /* -1: into memory */
};

static cohort_status take_stored(void *context, char *buffer, size_t size, size_t *length, cohort_error *err)
{
    struct intake *in = context;
    TRY(stop_check(in->bytes->stop, err));
    if (in->n_beginning > 0) {
        *length = in->n_beginning < size ? in->n_beginning : size;
        memcpy(buffer, in->beginning, *length);
        in->beginning += *length;
        in->n_beginning -= *length;
    } else {
        TRY(read_some(in->from, in->bytes->path, buffer, size, length, err));
    }
    hash_add(in->bytes->hash, buffer, *length);
    return COHORT_OK;
}

/* The file that takes what is too large for memory. It has no name as soon as it is open. */
static cohort_status begin_file(struct intake *in, cohort_error *err)
{
    const char *path = in->bytes->path, *slash = strrchr(path, '/');
    char *parent = NULL, *name = NULL;
    cohort_status status = COHORT_OK;
    if (slash == NULL)
        TRY(mem_strdup(&parent, ".", 1, err));
    else
        TRY(mem_strdup(&parent, path, slash == path ? 1 : (size_t)(slash - path), err));
    TRY_GOTO(scratch_recover(parent, err));
    TRY_GOTO(scratch_open(&in->scratch, parent, err));
    TRY_GOTO(file_join(&name, in->scratch.path, "unpacked", err));
    in->to = file_open(name, O_RDWR | O_CREAT | O_EXCL);
    if (in->to < 0)
        status = io_error(name, "create", err);
cleanup:
    mem_free(parent);
    mem_free(name);
    if (status == COHORT_OK)
        return file_write_all(in->to, path, in->bytes->held.data, in->bytes->held.length, err);
    error_context(err, "%s: there is no place beside it to unpack it to; unpack it yourself, with %s", path,
                  strcmp(in->bytes->packing, "gzip") == 0 ? "gzip -dk" : "zstd -dk");
    return status;
}

/* A small file may unpack into any number of bytes: the disk is not filled to its end. */
static cohort_status check_disk(struct intake *in, cohort_error *err)
{
    struct statvfs disk;
    in->since_look = 0;
    if (fstatvfs(in->to, &disk) != 0)
        return COHORT_OK;
    const unsigned long long share = disk.f_blocks / 20,
                             spare = SPARE_BYTES / disk.f_frsize < share ? SPARE_BYTES / disk.f_frsize : share;
    if (disk.f_bavail > spare)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO,
                     "%s: unpacked it has more than %zu MB, and the disk beside it is nearly full; free some space, or "
                     "unpack it on another disk and give that file",
                     in->bytes->path, in->bytes->size >> 20);
}

static cohort_status keep(void *context, const char *piece, size_t length, cohort_error *err)
{
    struct intake *in = context;
    struct data_bytes *bytes = in->bytes;
    TRY(stop_check(bytes->stop, err)); /* a few stored bytes may hold very many */
    const bool to_file = bytes->packing != NULL && bytes->plain;
    if (in->to < 0 && to_file && bytes->held.length + length > in->room->memory) {
        TRY(begin_file(in, err));
        text_free(&bytes->held);
        TRY(check_disk(in, err));
    }
    bytes->size += length;
    if (in->to >= 0) {
        in->since_look += length;
        if (in->since_look >= LOOK_EVERY)
            TRY(check_disk(in, err));
        return file_write_all(in->to, bytes->path, piece, length, err);
    }
    if (bytes->size > HELD_LIMIT)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: has more than %zu GB, which would all be held in memory; give a "
                         "file, unpacked",
                         bytes->path, HELD_LIMIT >> 30);
    return text_append(&bytes->held, piece, length, err);
}

static cohort_status take_plain(struct intake *in, cohort_error *err)
{
    char *buffer = NULL;
    cohort_status status = COHORT_OK;
    size_t length = 0;
    TRY(mem_alloc(&buffer, PIECE, 1, "data", err));
    do {
        TRY_GOTO(take_stored(in, buffer, PIECE, &length, err));
        TRY_GOTO(keep(in, buffer, length, err));
    } while (length > 0);
cleanup:
    mem_free(buffer);
    return status;
}

/* Reads fd to its end; of what comes there, beginning was read already. */
static cohort_status take_all(struct data_bytes *bytes, struct data_room *room, int fd, const char *beginning,
                              size_t n_beginning, cohort_error *err)
{
    struct intake in = {.bytes = bytes,
                        .room = room,
                        .from = fd,
                        .beginning = beginning,
                        .n_beginning = n_beginning,
                        .scratch = {.fd = -1},
                        .to = -1};
    cohort_status status = bytes->packing == NULL
                               ? take_plain(&in, err)
                               : data_unpack(bytes->packing, bytes->path, take_stored, keep, &in, err);
    scratch_close(&in.scratch);
    bytes->hash = NULL;
    bytes->plain = false;
    bytes->fd = in.to;
    if (bytes->packing != NULL && in.to < 0)
        room->memory -= bytes->held.length < room->memory ? bytes->held.length : room->memory;
    return status;
}

/* ---- opening ---- */

cohort_status data_bytes_open(struct data_bytes *bytes, const char *path, struct data_room *room, struct hash *hash,
                              const struct stop *stop, cohort_error *err)
{
    const char *name = path == NULL ? "standard input" : path;
    char beginning[8];
    size_t length = 0, more = 1;
    cohort_status status = COHORT_OK;
    *bytes = (struct data_bytes){.fd = -1, .hash = hash, .stop = stop};
    TRY(mem_strdup(&bytes->path, name, strlen(name), err));
    const int fd = path == NULL ? STDIN_FILENO : file_open(path, O_RDONLY);
    if (fd < 0)
        return io_error(path, "open", err);
    if (fstat(fd, &bytes->seen) == 0 && S_ISDIR(bytes->seen.st_mode)) {
        status = error_set(err, COHORT_ERR_IO, "%s: is a folder, expected a data file", name);
        goto cleanup;
    }
    bytes->plain = path != NULL && S_ISREG(bytes->seen.st_mode);
    while (length < sizeof beginning && more > 0) {
        TRY_GOTO(read_some(fd, name, beginning + length, sizeof beginning - length, &more, err));
        length += more;
    }
    bytes->packing = data_packing(beginning, length);
    bytes->plain = bytes->plain && (bytes->seen.st_size > 0 || length == 0); /* files of /proc say 0 */
    if (!bytes->plain || bytes->packing != NULL) {
        status = take_all(bytes, room, fd, beginning, length, err);
    } else {
        bytes->fd = fd;
        bytes->size = (size_t)bytes->seen.st_size;
        return COHORT_OK;
    }
cleanup:
    if (path != NULL)
        close(fd);
    return status;
}

void data_bytes_close(struct data_bytes *bytes)
{
    if (bytes->path != NULL && bytes->fd >= 0)
        close(bytes->fd);
    mem_free(bytes->path);
    text_free(&bytes->held);
    *bytes = (struct data_bytes){.fd = -1};
}

void data_bytes_rest(struct data_bytes *bytes)
{
    if (!bytes->plain || bytes->fd < 0)
        return;
    close(bytes->fd);
    bytes->fd = -1;
}

static cohort_status changed(const struct data_bytes *bytes, cohort_error *err)
{
    return error_set(err, COHORT_ERR_STATE,
                     "%s: was changed while it is in use: its rows are read as they are needed, so the file must stay "
                     "as it is until the end",
                     bytes->path);
}

/* A plain file is open, and the one that was opened first. */
static cohort_status ready(struct data_bytes *bytes, cohort_error *err)
{
    struct stat now;
    if (!bytes->plain)
        return COHORT_OK;
    if (bytes->fd < 0)
        bytes->fd = file_open(bytes->path, O_RDONLY);
    if (bytes->fd < 0)
        return io_error(bytes->path, "open again", err);
    if (fstat(bytes->fd, &now) != 0)
        return io_error(bytes->path, "stat", err);
    const struct stat *seen = &bytes->seen;
    const bool same = now.st_dev == seen->st_dev && now.st_ino == seen->st_ino && now.st_size == seen->st_size &&
                      now.st_mtim.tv_sec == seen->st_mtim.tv_sec && now.st_mtim.tv_nsec == seen->st_mtim.tv_nsec;
    return same ? COHORT_OK : changed(bytes, err);
}

cohort_status data_bytes_read(struct data_bytes *bytes, size_t at, char *out, size_t length, cohort_error *err)
{
    TRY(ready(bytes, err));
    if (bytes->fd < 0) {
        if (length > 0)
            memcpy(out, bytes->held.data + at, length);
        return COHORT_OK;
    }
    for (size_t done = 0; done < length;) {
        const ssize_t n = pread(bytes->fd, out + done, length - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_error(bytes->path, "read", err);
        if (n == 0)
            return changed(bytes, err);
        done += (size_t)n;
    }
    return COHORT_OK;
}

/* ---- passing over all ---- */

cohort_status data_bytes_pass(struct data_bytes *bytes, data_piece *take, void *context, cohort_error *err)
{
    char *piece = NULL;
    cohort_status status = COHORT_OK;
    if (take == NULL && bytes->hash == NULL)
        return COHORT_OK;
    TRY(mem_alloc(&piece, PIECE, 1, "data", err));
    for (size_t at = 0; at < bytes->size;) {
        const size_t left = bytes->size - at, length = left < PIECE ? left : PIECE;
        TRY_GOTO(stop_check(bytes->stop, err));
        TRY_GOTO(data_bytes_read(bytes, at, piece, length, err));
        if (bytes->hash != NULL)
            hash_add(bytes->hash, piece, length);
        if (take != NULL)
            TRY_GOTO(take(context, piece, length, at, err));
        at += length;
    }
    bytes->hash = NULL;
cleanup:
    mem_free(piece);
    return status;
}
