/* The end of steering.h that asks: of whoever watches a run. */
#include "run/steering.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json_text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST_ANSWER = 4096 };
static const double PATIENCE = 1.0; /* seconds that a trainer has to answer */

const char steering_socket_name[] = ".cohort.socket";

struct steering_client {
    int fd;
    char *folder;
};

cohort_status steering_address(const char *folder, int *folder_fd, struct sockaddr_un *address, cohort_error *err)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    *folder_fd = file_open(folder, O_PATH | O_DIRECTORY);
    if (*folder_fd < 0)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open the folder: %s", folder, strerror(errno));
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", *folder_fd, steering_socket_name);
    if (faccessat(AT_FDCWD, "/proc/self/fd", F_OK, 0) == 0)
        return COHORT_OK;
    const int n = snprintf(address->sun_path, sizeof address->sun_path, "%s/%s", folder, steering_socket_name);
    if (n >= 0 && (size_t)n < sizeof address->sun_path)
        return COHORT_OK;
    close(*folder_fd);
    *folder_fd = -1;
    return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: the path is too long for a socket, and there is no /proc here",
                     folder);
}

int steering_socket(void)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), code = errno;
    close(fd);
    errno = code;
    return moved;
}

static cohort_status nobody(const char *folder, int code, cohort_error *err)
{
    if (code == EACCES || code == EPERM)
        return error_set(err, COHORT_ERR_STATE, "%s: only the user whose run this is may steer it", folder);
    if (code == EAGAIN)
        return error_set(err, COHORT_ERR_STATE, "%s: the trainer does not take connections now", folder);
    return error_set(err, COHORT_ERR_STATE,
                     "%s: no trainer listens there: the run is not going on, or not on this machine", folder);
}

cohort_status steering_connect(struct steering_client **out, const char *folder, cohort_error *err)
{
    struct steering_client *client = NULL;
    struct sockaddr_un address;
    int folder_fd = -1;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&client, 1, sizeof *client, "connection", err));
    client->fd = -1;
    TRY_GOTO(mem_strdup(&client->folder, folder, strlen(folder), err));
    TRY_GOTO(steering_address(folder, &folder_fd, &address, err));
    client->fd = steering_socket();
    /* A socket that does not block is never "in progress": the trainer's queue takes it, or is full. */
    if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)&address, sizeof address) != 0)
        status = nobody(folder, errno, err);
cleanup:
    if (folder_fd >= 0)
        close(folder_fd);
    if (status == COHORT_OK)
        *out = client;
    else
        steering_disconnect(client);
    return status;
}

void steering_disconnect(struct steering_client *client)
{
    if (client == NULL)
        return;
    if (client->fd >= 0)
        close(client->fd);
    mem_free(client->folder);
    mem_free(client);
}

/* Waits until the socket is ready for these events; false: not by then. */
static bool ready(int fd, short events, double until)
{
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = events};
        const double left = until - clock_seconds();
        const int n = left <= 0.0 ? 0 : poll(&poll_fd, 1, (int)(left * 1000.0) + 1);
        if (n > 0)
            return true;
        if (n == 0 || errno != EINTR)
            return false;
    }
}

static cohort_status silent(const struct steering_client *client, cohort_error *err)
{
    return error_set(err, COHORT_ERR_IO, "%s: the trainer does not answer", client->folder);
}

cohort_status steering_request(struct steering_client *client, const char *word, json_t **answer, cohort_error *err)
{
    const double until = clock_seconds() + PATIENCE;
    char line[MOST_ANSWER];
    size_t length = 0, sent = 0;
    const int n = snprintf(line, sizeof line, "%s\n", word);
    *answer = NULL;
    while (sent < (size_t)n) {
        const ssize_t wrote = send(client->fd, line + sent, (size_t)n - sent, MSG_NOSIGNAL);
        if (wrote > 0)
            sent += (size_t)wrote;
        else if (wrote < 0 && errno != EINTR && (errno != EAGAIN || !ready(client->fd, POLLOUT, until)))
            return silent(client, err);
    }
    while (length == 0 || line[length - 1] != '\n') {
        const ssize_t got = length == sizeof line ? 0 : recv(client->fd, line + length, sizeof line - length, 0);
        if (got > 0)
            length += (size_t)got;
        else if (got == 0 || (errno != EINTR && (errno != EAGAIN || !ready(client->fd, POLLIN, until))))
            return silent(client, err);
    }
    TRY(json_text_parse(answer, line, length, "the trainer's answer", 1, 0, err));
    if (json_is_object(*answer))
        return COHORT_OK;
    json_decref(*answer);
    *answer = NULL;
    return error_set(err, COHORT_ERR_FORMAT, "%s: the trainer's answer is no JSON object", client->folder);
}
