#include "base/file.h"

#include "base/absent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *file_advice(int code)
{
    switch (code) {
    case ENOSPC: return "; free some space and try again";
    case EDQUOT: return "; free some space, or have the quota raised, and try again";
    case EROFS: return "; make the file system writable and try again";
    case EACCES:
    case EPERM: return "; make the file and its folder accessible to this user and try again";
    default: return "";
    }
}

static cohort_status io_error(cohort_error *err, const char *path, const char *doing)
{
    int code = errno;
    const char *advice = file_advice(code);
    if (code == ENOENT && absent_is_address(path))
        advice = "; it is an address, and only local files are read: download it first";
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s%s", path, doing, strerror(code), advice);
}

int file_open(const char *path, int flags)
{
    int fd = -1;
    do {
        fd = open(path, flags | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0 && fd <= STDERR_FILENO) {
        int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        int code = errno;
        close(fd);
        errno = code;
        return moved;
    }
    return fd;
}

/* Opens a regular file for reading and tells its size. */
static cohort_status open_regular(const char *path, int *fd, size_t *size, cohort_error *err)
{
    struct stat st;
    *fd = file_open(path, O_RDONLY);
    if (*fd < 0)
        return io_error(err, path, "open");
    if (fstat(*fd, &st) != 0) {
        cohort_status status = io_error(err, path, "stat");
        close(*fd);
        return status;
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return error_set(err, COHORT_ERR_IO, "%s: not a regular file", path);
    }
    *size = (size_t)st.st_size;
    return COHORT_OK;
}

cohort_status file_read(const char *path, size_t limit, struct text *out, cohort_error *err)
{
    int fd = -1;
    struct stat st;
    cohort_status status = COHORT_OK;
    /* Pipes and /dev/stdin are welcome here, so read until the end instead of trusting a size. */
    fd = file_open(path, O_RDONLY);
    if (fd < 0)
        return io_error(err, path, "open");
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        close(fd);
        return error_set(err, COHORT_ERR_IO, "%s: is a folder, expected a file", path);
    }
    char chunk[65536];
    size_t total = 0;
    TRY_GOTO(text_append(out, "", 0, err));
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = io_error(err, path, "read");
            goto cleanup;
        }
        if (n == 0)
            break;
        total += (size_t)n;
        if (limit != 0 && total > limit) {
            status = error_set(err, COHORT_ERR_FORMAT, "%s: larger than the limit of %zu bytes", path, limit);
            goto cleanup;
        }
        TRY_GOTO(text_append(out, chunk, (size_t)n, err));
    }
cleanup:
    close(fd);
    return status;
}

cohort_status file_map_open(struct file_map *map, const char *path, cohort_error *err)
{
    int fd = -1;
    memset(map, 0, sizeof *map);
    TRY(open_regular(path, &fd, &map->size, err));
    cohort_status status = COHORT_OK;
    if (map->size > 0) {
        void *data = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = io_error(err, path, "map");
            map->size = 0;
        } else {
            map->data = data;
        }
    }
    close(fd);
    return status;
}

void file_map_close(struct file_map *map)
{
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->size);
    memset(map, 0, sizeof *map);
}

cohort_status file_write_all(int fd, const char *path, const void *bytes, size_t length, cohort_error *err)
{
    const char *p = bytes;
    while (length > 0) {
        ssize_t n = write(fd, p, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return io_error(err, path, "write");
        p += n;
        length -= (size_t)n;
    }
    return COHORT_OK;
}

cohort_status file_sync_dir(const char *path, cohort_error *err)
{
    int fd = file_open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return io_error(err, path, "open");
    cohort_status status = COHORT_OK;
    if (fsync(fd) != 0 && errno != EINVAL)
        status = io_error(err, path, "fsync");
    close(fd);
    return status;
}

static cohort_status sync_parent(const char *path, cohort_error *err)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return file_sync_dir(".", err);
    char *parent = NULL;
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    TRY(mem_strdup(&parent, path, length, err));
    cohort_status status = file_sync_dir(parent, err);
    mem_free(parent);
    return status;
}

cohort_status file_write_by(const char *temporary, const char *path, const void *bytes, size_t length,
                            cohort_error *err)
{
    cohort_status status = COHORT_OK;
    /* O_EXCL: what is there already belongs to somebody else. */
    int fd = file_open(temporary, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return io_error(err, temporary, "create");
    TRY_GOTO(file_write_all(fd, path, bytes, length, err));
    if (fsync(fd) != 0) {
        status = io_error(err, path, "fsync");
        goto cleanup;
    }
    if (close(fd) != 0) {
        fd = -1;
        status = io_error(err, path, "close");
        goto cleanup;
    }
    fd = -1;
    if (rename(temporary, path) != 0) {
        status = io_error(err, path, "rename");
        goto cleanup;
    }
    return sync_parent(path, err);
cleanup:
    if (fd >= 0)
        close(fd);
    unlink(temporary);
    return status;
}

cohort_status file_write_atomic(const char *path, const void *bytes, size_t length, cohort_error *err)
{
    struct text temporary = {0};
    TRY(text_printf(&temporary, err, "%s.tmp-%016llx", path, (unsigned long long)file_unique_number()));
    cohort_status status = file_write_by(temporary.data, path, bytes, length, err);
    text_free(&temporary);
    return status;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

uint64_t file_unique_number(void)
{
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number) {
        struct timespec t; /* early in a boot; what must not exist is checked anyway */
        clock_gettime(CLOCK_REALTIME, &t);
        number = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        number = number * 0x9e3779b97f4a7c15u + (uint64_t)getpid();
    }
    return number;
}

const char *file_next_entry(DIR *dir, const char *path, cohort_status *status, cohort_error *err)
{
    *status = COHORT_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL && errno != 0)
            *status = io_error(err, path, "read the folder");
        if (entry == NULL)
            return NULL;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            return entry->d_name;
    }
}

cohort_status file_make_dirs(const char *path, cohort_error *err)
{
    char *copy = NULL;
    TRY(mem_strdup(&copy, path, strlen(path), err));
    cohort_status status = COHORT_OK;
    for (char *p = copy + 1; status == COHORT_OK; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char kept = *p;
        *p = '\0';
        if (*copy != '\0' && mkdir(copy, 0777) != 0 && !(errno == EEXIST && is_folder(copy)))
            status = io_error(err, copy, "create the folder");
        *p = kept;
        if (kept == '\0')
            break;
    }
    mem_free(copy);
    return status;
}

cohort_status file_remove_all(const char *path, cohort_error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? COHORT_OK : io_error(err, path, "stat");
    if (!S_ISDIR(st.st_mode))
        return unlink(path) == 0 ? COHORT_OK : io_error(err, path, "remove");
    DIR *dir = opendir(path);
    if (dir == NULL)
        return io_error(err, path, "open the folder");
    cohort_status status = COHORT_OK;
    const char *name = NULL;
    while (status == COHORT_OK && (name = file_next_entry(dir, path, &status, err)) != NULL) {
        char *child = NULL;
        status = file_join(&child, path, name, err);
        if (status == COHORT_OK)
            status = file_remove_all(child, err);
        mem_free(child);
        if (status != COHORT_OK)
            break;
    }
    closedir(dir);
    if (status == COHORT_OK && rmdir(path) != 0)
        status = io_error(err, path, "remove the folder");
    return status;
}

cohort_status file_copy(const char *from, const char *to, cohort_error *err)
{
    struct file_map map;
    TRY(file_map_open(&map, from, err));
    cohort_status status = file_write_atomic(to, map.data, map.size, err);
    file_map_close(&map);
    return status;
}

cohort_status file_look(const char *path, enum file_kind *kind, cohort_error *err)
{
    struct stat st;
    *kind = FILE_ABSENT;
    if (stat(path, &st) == 0) {
        *kind = S_ISDIR(st.st_mode) ? FILE_FOLDER : FILE_FILE;
        return COHORT_OK;
    }
    if (errno == ENAMETOOLONG) /* a list of names, or a text: no file can be called so */
        return COHORT_OK;
    if (errno != ENOENT && errno != ENOTDIR)
        return io_error(err, path, "look at it");
    /* Nothing there, or a link to nothing. */
    if (lstat(path, &st) != 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO,
                     "%s: a link to something that is not there; restore what it points to, or "
                     "remove the link",
                     path);
}

cohort_status file_exists(const char *path, bool *there, cohort_error *err)
{
    enum file_kind kind = FILE_ABSENT;
    TRY(file_look(path, &kind, err));
    *there = kind != FILE_ABSENT;
    return COHORT_OK;
}

cohort_status file_join(char **out, const char *dir, const char *name, cohort_error *err)
{
    struct text text = {0};
    *out = NULL;
    size_t n = strlen(dir);
    const char *slash = n > 0 && dir[n - 1] == '/' ? "" : "/";
    TRY(text_printf(&text, err, "%s%s%s", dir, slash, name));
    *out = text.data;
    return COHORT_OK;
}
