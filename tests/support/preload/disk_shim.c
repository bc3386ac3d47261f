/* Preloaded (LD_PRELOAD) into the program under test: writes down what it does to the files below a folder, and kills it in the middle.
 *
 *   DISK_UNDER=DIR    the folder, absolute
 *   DISK_LOG=FILE     a record of every call that changes something or asks for it to be durable (below); NULL: none
 *   DISK_DATA=1       with the bytes that are written
 *   DISK_KILL_AT=K    SIGKILL comes at the K-th of those calls, from 1: before it, and in a write after half of its bytes
 *   DISK_KILL_OF=...  a pattern (fnmatch) for "call path": K counts calls that it matches, of renames by the new path
 *
 * A record is a line "call inode offset length path[TAB path]\n", the paths relative to DIR, and with DISK_DATA length bytes
 * behind the line of a write. It is written when the call has succeeded, but for that of the kill, which comes before it.
 * One lock is held over a call and its record, so that the order of the records is that of the calls.
 *
 *   create, write, truncate (length), sync, sync-dir, rename, exchange, link, unlink, mkdir, rmdir
 *
 * What SQLite writes through its shared memory (-shm) is not seen; it is made anew after a crash. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "real.h"

static char under[1024];
static size_t under_length;
static long n_calls, kill_at;
static const char *kill_of;
static int log_fd = -1;
static bool with_data;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("DISK_UNDER"), *log = getenv("DISK_LOG"), *at = getenv("DISK_KILL_AT");
    if (dir == NULL)
        return;
    snprintf(under, sizeof under, "%s", dir);
    under_length = strlen(under);
    kill_at = at != NULL ? atol(at) : 0;
    kill_of = getenv("DISK_KILL_OF");
    with_data = getenv("DISK_DATA") != NULL;
    /* Programs that the one under test starts are none of ours. */
    unsetenv("LD_PRELOAD");
    if (log == NULL)
        return;
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    syscall(SYS_close, fd);
}

/* The path below the folder, or NULL: not one of ours. */
static const char *below(const char *path, char room[4096])
{
    if (under_length == 0)
        return NULL;
    if (path[0] != '/') {
        if (getcwd(room, 2048) == NULL)
            return NULL;
        const size_t n = strlen(room);
        snprintf(room + n, 4096 - n, "/%s", strncmp(path, "./", 2) == 0 ? path + 2 : path);
        path = room;
    }
    if (strncmp(path, under, under_length) != 0 || (path[under_length] != '/' && path[under_length] != '\0'))
        return NULL;
    return path[under_length] == '/' ? path + under_length + 1 : ".";
}

static const char *below_fd(int fd, char room[4096])
{
    char link[64];
    if (under_length == 0)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, room, 4095);
    if (n <= 0 || room[0] != '/')
        return NULL;
    room[n] = '\0';
    return below(room, room);
}

static void put(const void *bytes, size_t n)
{
    for (const char *at = bytes; n > 0;) {
        const ssize_t done = syscall(SYS_write, log_fd, at, n);
        if (done <= 0)
            abort();
        at += done;
        n -= (size_t)done;
    }
}

static void record(const char *call, unsigned long inode, long offset, long length, const char *path, const char *to,
                   const void *bytes)
{
    char line[8400];
    if (log_fd < 0)
        return;
    const int n = snprintf(line, sizeof line, "%s %lu %ld %ld %s%s%s\n", call, inode, offset, length, path,
                           to == NULL ? "" : "\t", to == NULL ? "" : to);
    put(line, (size_t)n);
    if (with_data && bytes != NULL)
        put(bytes, (size_t)length);
}

/* With the lock held, before a call: whether it is the last. */
static bool is_last(const char *call, const char *path)
{
    char text[4200];
    snprintf(text, sizeof text, "%s %s", call, path);
    return kill_at > 0 && (kill_of == NULL || fnmatch(kill_of, text, 0) == 0) && ++n_calls == kill_at;
}

static void die(const char *call, const char *path)
{
    record("KILL", 0, 0, 0, call, path, NULL);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void die_if_last(const char *call, const char *path)
{
    if (is_last(call, path))
        die(call, path);
}

static unsigned long inode_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (unsigned long)st.st_ino : 0;
}

static unsigned long inode_at(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? (unsigned long)st.st_ino : 0;
}

/* ---- bytes ---- */

int open(const char *path, int flags, ...)
{
    REAL(int, open, const char *, int, ...)
    mode_t mode = 0;
    char room[4096];
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    const char *name = (flags & (O_CREAT | O_TRUNC)) != 0 ? below(path, room) : NULL;
    if (name == NULL)
        return open_real(path, flags, mode);
    pthread_mutex_lock(&lock);
    const bool there = inode_at(path) != 0;
    if (!there || (flags & O_TRUNC) != 0)
        die_if_last(there ? "truncate" : "create", name);
    const int fd = open_real(path, flags, mode);
    if (fd >= 0 && !there)
        record("create", inode_of(fd), 0, 0, name, NULL, NULL);
    if (fd >= 0 && there && (flags & O_TRUNC) != 0)
        record("truncate", inode_of(fd), 0, 0, name, NULL, NULL);
    pthread_mutex_unlock(&lock);
    return fd;
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

/* offset -1: where the file's position is, or its end. */
static ssize_t write_at(int fd, const void *bytes, size_t n, off_t offset)
{
    REAL(ssize_t, write, int, const void *, size_t)
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)
    char room[4096];
    const char *name = below_fd(fd, room);
    if (name == NULL)
        return offset < 0 ? write_real(fd, bytes, n) : pwrite64_real(fd, bytes, n, offset);
    pthread_mutex_lock(&lock);
    if (is_last("write", name)) {
        if ((offset < 0 ? write_real(fd, bytes, n / 2) : pwrite64_real(fd, bytes, n / 2, offset)) < 0)
            abort();
        die("write", name);
    }
    const ssize_t done = offset < 0 ? write_real(fd, bytes, n) : pwrite64_real(fd, bytes, n, offset);
    if (done > 0)
        record("write", inode_of(fd), (long)(offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset), done, name, NULL,
               bytes);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t n) { return write_at(fd, bytes, n, -1); }
ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t offset) { return write_at(fd, bytes, n, offset); }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) __attribute__((alias("pwrite64")));

int ftruncate(int fd, off_t length)
{
    REAL(int, ftruncate, int, off_t)
    char room[4096];
    const char *name = below_fd(fd, room);
    if (name == NULL)
        return ftruncate_real(fd, length);
    pthread_mutex_lock(&lock);
    die_if_last("truncate", name);
    const int code = ftruncate_real(fd, length);
    if (code == 0)
        record("truncate", inode_of(fd), 0, (long)length, name, NULL, NULL);
    pthread_mutex_unlock(&lock);
    return code;
}
int ftruncate64(int fd, off_t length) __attribute__((alias("ftruncate")));

static int sync_by(int (*call)(int), int fd)
{
    char room[4096];
    struct stat st;
    const char *name = below_fd(fd, room);
    if (name == NULL)
        return call(fd);
    pthread_mutex_lock(&lock);
    const bool known = fstat(fd, &st) == 0;
    const char *what = known && S_ISDIR(st.st_mode) ? "sync-dir" : "sync";
    die_if_last(what, name);
    const int code = call(fd);
    if (code == 0 && known)
        record(what, (unsigned long)st.st_ino, 0, 0, name, NULL, NULL);
    pthread_mutex_unlock(&lock);
    return code;
}

int fsync(int fd)
{
    REAL(int, fsync, int)
    return sync_by(fsync_real, fd);
}

int fdatasync(int fd)
{
    REAL(int, fdatasync, int)
    return sync_by(fdatasync_real, fd);
}

/* ---- names ---- */

static int rename_by(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    REAL(int, renameat2, int, const char *, int, const char *, unsigned)
    char room[4096], other[4096];
    const char *a = below(from, room), *b = below(to, other);
    if (a == NULL && b == NULL)
        return renameat2_real(from_dir, from, to_dir, to, flags);
    if (a == NULL || b == NULL)
        abort(); /* in or out of the folder: nothing that we do */
    pthread_mutex_lock(&lock);
    const char *call = (flags & RENAME_EXCHANGE) != 0 ? "exchange" : "rename";
    die_if_last(call, b);
    const unsigned long inode = inode_at(from);
    const int code = renameat2_real(from_dir, from, to_dir, to, flags);
    if (code == 0)
        record(call, inode, 0, 0, a, b, NULL);
    pthread_mutex_unlock(&lock);
    return code;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return rename_by(from_dir, from, to_dir, to, flags);
}
int rename(const char *from, const char *to) { return rename_by(AT_FDCWD, from, AT_FDCWD, to, 0); }

#define ON_PATH(name)                                                                                                  \
    int name(const char *path)                                                                                         \
    {                                                                                                                  \
        REAL(int, name, const char *)                                                                                  \
        char room[4096];                                                                                               \
        const char *at = below(path, room);                                                                            \
        if (at == NULL)                                                                                                \
            return name##_real(path);                                                                                  \
        pthread_mutex_lock(&lock);                                                                                     \
        die_if_last(#name, at);                                                                                        \
        const unsigned long inode = inode_at(path);                                                                    \
        const int code = name##_real(path);                                                                            \
        if (code == 0)                                                                                                 \
            record(#name, inode, 0, 0, at, NULL, NULL);                                                                \
        pthread_mutex_unlock(&lock);                                                                                   \
        return code;                                                                                                   \
    }
ON_PATH(unlink)
ON_PATH(rmdir)

int mkdir(const char *path, mode_t mode)
{
    REAL(int, mkdir, const char *, mode_t)
    char room[4096];
    const char *at = below(path, room);
    if (at == NULL)
        return mkdir_real(path, mode);
    pthread_mutex_lock(&lock);
    const bool there = inode_at(path) != 0;
    if (!there)
        die_if_last("mkdir", at);
    const int code = mkdir_real(path, mode);
    const int why = errno;
    if (code == 0)
        record("mkdir", inode_at(path), 0, 0, at, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = why;
    return code;
}
