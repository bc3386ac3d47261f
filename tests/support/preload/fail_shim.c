/* Preloaded (LD_PRELOAD) into the program under test: makes the k-th call of a kind fail, as a machine that is out of
 * memory or whose disk is full would.
 *
 *   FAIL_KIND=alloc   malloc, calloc, realloc, aligned_alloc, posix_memalign: the k-th returns NULL, ENOMEM
 *   FAIL_KIND=file    open, fopen, read, write, fsync, fdatasync, close, ftruncate, mmap, rename, unlink, mkdir, rmdir, stat, lstat,
 *                     fstat, access, opendir, readdir, and SQLite's pread and pwrite: the k-th fails with FAIL_ERRNO (5: EIO)
 *   FAIL_KIND=full    as a disk that is full from the k-th write on: whatever needs room fails with ENOSPC
 *   FAIL_KIND=frozen  as a disk that is read-only from the k-th change on: whatever changes something fails with EROFS
 *   FAIL_KIND=network statfs says that every folder lies on NFS
 *   FAIL_AT=K         which call fails, from 1; 0: none
 *   FAIL_COUNT=FILE   where the number of calls is written at exit
 *   FAIL_UNDER=DIR    of file: only calls on paths below DIR, or on descriptors of such files */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "real.h"

static atomic_long n_calls;
static long fail_at;
static int fail_errno = EIO;
static bool on_alloc, on_file, on_full, on_frozen, on_network, ready;
static char under[512];
static size_t under_length;

__attribute__((constructor)) static void begin(void)
{
    const char *kind = getenv("FAIL_KIND"), *at = getenv("FAIL_AT"), *code = getenv("FAIL_ERRNO"),
               *dir = getenv("FAIL_UNDER");
    fail_at = at != NULL ? atol(at) : 0;
    fail_errno = code != NULL ? atoi(code) : EIO;
    if (dir != NULL)
        snprintf(under, sizeof under, "%s", dir);
    under_length = strlen(under);
    on_alloc = kind != NULL && strcmp(kind, "alloc") == 0;
    on_file = kind != NULL && strcmp(kind, "file") == 0;
    on_full = kind != NULL && strcmp(kind, "full") == 0;
    on_frozen = kind != NULL && strcmp(kind, "frozen") == 0;
    on_network = kind != NULL && strcmp(kind, "network") == 0;
    ready = true;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAIL_COUNT");
    if (path == NULL)
        return;
    char line[32];
    int n = snprintf(line, sizeof line, "%ld\n", atomic_load(&n_calls));
    on_alloc = on_file = on_full = on_frozen = false;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0) {
        if (write(fd, line, (size_t)n) != n)
            abort();
        close(fd);
    }
}

static bool is_time(void) { return atomic_fetch_add(&n_calls, 1) + 1 == fail_at; }

/* ---- memory ---- */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static bool no_memory(void)
{
    if (!ready || !on_alloc || !is_time())
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size) { return no_memory() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return no_memory() ? NULL : __libc_calloc(n, size); }
void *realloc(void *block, size_t size) { return no_memory() ? NULL : __libc_realloc(block, size); }
void *aligned_alloc(size_t alignment, size_t size) { return no_memory() ? NULL : __libc_memalign(alignment, size); }
int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block = no_memory() ? NULL : __libc_memalign(alignment, size);
    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}

/* ---- files ---- */

static bool is_under(const char *path)
{
    char here[4096];
    if (under_length == 0)
        return true;
    if (path[0] == '/')
        return strncmp(path, under, under_length) == 0;
    if (getcwd(here, sizeof here) == NULL)
        return false;
    return strncmp(here, under, under_length) == 0;
}

static bool fails(const char *path)
{
    if (!ready || !on_file || !is_under(path) || !is_time())
        return false;
    errno = fail_errno;
    return true;
}

/* The name that a descriptor was opened by; false: it is no file of a disk. */
static bool path_of(int fd, char path[4096])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 4095);
    if (n <= 0 || path[0] != '/' || strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/pts", 8) == 0 ||
        strncmp(path, "/dev/null", 9) == 0)
        return false;
    path[n] = '\0';
    return true;
}

static bool fails_fd(int fd)
{
    char path[4096];
    return ready && on_file && path_of(fd, path) && fails(path);
}

/* A change of the disk, or more of it: for good from the k-th on. */
static bool refused(const char *path, bool needs_room)
{
    if (!ready || !(on_frozen || (on_full && needs_room)) || !is_under(path))
        return false;
    const long n = atomic_fetch_add(&n_calls, 1) + 1;
    if (fail_at == 0 || n < fail_at)
        return false;
    errno = on_full ? ENOSPC : EROFS;
    return true;
}

static bool refused_fd(int fd, bool room)
{
    char path[4096];
    return ready && (on_full || on_frozen) && path_of(fd, path) && refused(path, room);
}

int open(const char *path, int flags, ...)
{
    REAL(int, open, const char *, int, ...)
    mode_t mode = 0;
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    struct stat st;
    const bool makes = (flags & O_CREAT) != 0 && (on_full || on_frozen) && fstatat(AT_FDCWD, path, &st, 0) != 0,
               writes = on_frozen && (flags & O_ACCMODE) != O_RDONLY;
    return ((makes || writes) && refused(path, true)) || fails(path) ? -1 : open_real(path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

ssize_t write(int fd, const void *bytes, size_t n)
{
    REAL(ssize_t, write, int, const void *, size_t)
    return refused_fd(fd, true) || fails_fd(fd) ? -1 : write_real(fd, bytes, n);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t offset)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)
    return refused_fd(fd, true) || fails_fd(fd) ? -1 : pwrite64_real(fd, bytes, n, offset);
}

ssize_t pread64(int fd, void *bytes, size_t n, off_t offset)
{
    REAL(ssize_t, pread64, int, void *, size_t, off_t)
    return fails_fd(fd) ? -1 : pread64_real(fd, bytes, n, offset);
}

ssize_t read(int fd, void *bytes, size_t n)
{
    REAL(ssize_t, read, int, void *, size_t)
    return fails_fd(fd) ? -1 : read_real(fd, bytes, n);
}

int fsync(int fd)
{
    REAL(int, fsync, int)
    return fails_fd(fd) ? -1 : fsync_real(fd);
}

int fdatasync(int fd)
{
    REAL(int, fdatasync, int)
    return fails_fd(fd) ? -1 : fdatasync_real(fd);
}

/* A close that fails has closed, as on Linux. */
int close(int fd)
{
    REAL(int, close, int)
    bool failing = fails_fd(fd);
    int code = close_real(fd);
    if (failing)
        errno = fail_errno;
    return failing ? -1 : code;
}

int ftruncate(int fd, off_t length)
{
    REAL(int, ftruncate, int, off_t)
    return refused_fd(fd, false) || fails_fd(fd) ? -1 : ftruncate_real(fd, length);
}
int ftruncate64(int fd, off_t length) __attribute__((alias("ftruncate")));

int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *)
    return refused(from, false) || fails(from) ? -1 : rename_real(from, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    REAL(int, renameat2, int, const char *, int, const char *, unsigned)
    return refused(from, false) || fails(from) ? -1 : renameat2_real(from_dir, from, to_dir, to, flags);
}

#define ON_PATH(name)                                                                                                  \
    int name(const char *path)                                                                                         \
    {                                                                                                                  \
        REAL(int, name, const char *)                                                                                  \
        return refused(path, false) || fails(path) ? -1 : name##_real(path);                                           \
    }
ON_PATH(unlink)
ON_PATH(rmdir)

int mkdir(const char *path, mode_t mode)
{
    REAL(int, mkdir, const char *, mode_t)
    struct stat st;
    const bool there = (on_full || on_frozen) && fstatat(AT_FDCWD, path, &st, 0) == 0;
    return (!there && refused(path, true)) || fails(path) ? -1 : mkdir_real(path, mode);
}

int stat(const char *restrict path, struct stat *restrict st)
{
    REAL(int, stat, const char *, struct stat *)
    return fails(path) ? -1 : stat_real(path, st);
}

int lstat(const char *restrict path, struct stat *restrict st)
{
    REAL(int, lstat, const char *, struct stat *)
    return fails(path) ? -1 : lstat_real(path, st);
}

int fstat(int fd, struct stat *st)
{
    REAL(int, fstat, int, struct stat *)
    return fails_fd(fd) ? -1 : fstat_real(fd, st);
}

int access(const char *path, int mode)
{
    REAL(int, access, const char *, int)
    return (on_frozen && (mode & W_OK) != 0 && refused(path, false)) || fails(path) ? -1 : access_real(path, mode);
}

int statfs(const char *path, struct statfs *st)
{
    REAL(int, statfs, const char *, struct statfs *)
    const int code = statfs_real(path, st);
    if (code == 0 && on_network)
        st->f_type = 0x6969;
    return code;
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    REAL(FILE *, fopen, const char *, const char *)
    return fails(path) ? NULL : fopen_real(path, mode);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    REAL(void *, mmap, void *, size_t, int, int, int, off_t)
    return fd >= 0 && fails_fd(fd) ? MAP_FAILED : mmap_real(at, length, protection, flags, fd, offset);
}

DIR *opendir(const char *path)
{
    REAL(DIR *, opendir, const char *)
    return fails(path) ? NULL : opendir_real(path);
}

struct dirent *readdir(DIR *dir)
{
    REAL(struct dirent *, readdir, DIR *)
    return fails_fd(dirfd(dir)) ? NULL : readdir_real(dir);
}
