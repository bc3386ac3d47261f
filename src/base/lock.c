#include "base/lock.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

cohort_status lock_take(int fd, const char *path, enum lock_result *result, cohort_error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}; /* the whole file */
    int failed = 0;
    do {
        failed = fcntl(fd, F_OFD_SETLK, &lock);
    } while (failed != 0 && errno == EINTR);
    if (failed == 0) {
        *result = LOCK_TAKEN;
        return COHORT_OK;
    }
    switch (errno) {
    case EAGAIN:
    case EACCES: *result = LOCK_HELD; return COHORT_OK;
    case ENOLCK:
    case EINVAL:
    case ENOSYS:
    case EOPNOTSUPP: *result = LOCK_UNSUPPORTED; return COHORT_OK;
    default: return error_set(err, COHORT_ERR_IO, "%s: cannot lock: %s", path, strerror(errno));
    }
}

void lock_release(int fd)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

static void host_name(char *out, size_t size)
{
    if (gethostname(out, size) != 0)
        out[0] = '\0';
    out[size - 1] = '\0';
}

cohort_status lock_write_holder(int fd, const char *path, const char *what, cohort_error *err)
{
    char host[256], since[40];
    struct text text = {0};
    struct tm utc;
    time_t now = time(NULL);
    cohort_status status = COHORT_OK;
    host_name(host, sizeof host);
    if (gmtime_r(&now, &utc) == NULL || strftime(since, sizeof since, "%Y-%m-%dT%TZ", &utc) == 0)
        since[0] = '\0';
    TRY_GOTO(text_printf(&text, err, "cohort %s\nhost %s\npid %ld\nsince %s\n", what, host, (long)getpid(), since));
    if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        status = error_set(err, COHORT_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
        goto cleanup;
    }
    TRY_GOTO(file_write_all(fd, path, text.data, text.length, err));
cleanup:
    text_free(&text);
    return status;
}

/* The rest of the line that begins with key, or "". */
static void read_field(const char *content, const char *key, char *out, size_t size)
{
    size_t n = strlen(key);
    out[0] = '\0';
    for (const char *line = content; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0 && line[n] == ' ') {
            size_t length = strcspn(line + n + 1, "\n");
            if (length < size) {
                memcpy(out, line + n + 1, length);
                out[length] = '\0';
            }
            return;
        }
    }
}

bool lock_read_holder(int fd, const char *what, struct lock_holder *holder)
{
    char content[1024], first[256], number[32], host[256];
    const int length = snprintf(first, sizeof first, "cohort %s\n", what);
    ssize_t n = pread(fd, content, sizeof content - 1, 0);
    memset(holder, 0, sizeof *holder);
    if (n < 0 || length < 0 || (size_t)length >= sizeof first)
        return false;
    while (n > 0 && content[n - 1] == '\0') /* a power cut leaves a file with its length and without its bytes */
        n--;
    content[n] = '\0';
    holder->cut = n < length;
    if (strncmp(content, first, (size_t)(holder->cut ? n : length)) != 0)
        return false;
    if (holder->cut)
        return true;
    read_field(content, "host", holder->host, sizeof holder->host);
    read_field(content, "since", holder->since, sizeof holder->since);
    read_field(content, "pid", number, sizeof number);
    holder->pid = strtol(number, NULL, 10);
    host_name(host, sizeof host);
    holder->here = holder->host[0] != '\0' && strcmp(holder->host, host) == 0;
    holder->alive = holder->here && holder->pid > 0 && (pid_t)holder->pid == holder->pid &&
                    (kill((pid_t)holder->pid, 0) == 0 || errno == EPERM);
    return true;
}
