/* Owns the listening socket, its thread, and the places of clients, which the thread alone touches. Under the mutex: where
 * the run stands (told by the trainer), what was asked (by clients) and whether the run pauses. */
#include "run/steering.h"

#include "base/clock.h"
#include "base/number.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST_REQUEST = 64, STACK_BYTES = 256 << 10 };
static const double ANSWER_PAUSE = 0.02, /* seconds between two answers to a client */
    DEAF_SECONDS = 1.0;                  /* that nobody is let in after the system refused to */

struct client {
    int fd; /* -1: the place is free */
    char in[MOST_REQUEST];
    size_t n_in;
    struct text out;
    size_t sent;
    double heard, next; /* when it last said something, and when it is listened to again */
};

struct steering {
    int folder_fd, listener, wake[2];
    dev_t device; /* of the socket in the folder */
    ino_t inode;
    pthread_t thread;
    bool threaded;
    struct client clients[STEERING_CLIENTS];
    double deaf_until;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct steering_at at;
    double phase_began;
    bool pause, save, paused, ending;
};

/* ---- Answers ---- */

/* Bytes of memory that the process has in use; 0: unknown. */
static long long resident_bytes(void)
{
    char text[128];
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    int64_t pages = 0;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0'; /* size resident shared ... */
    const char *second = strchr(text, ' ');
    if (second == NULL || !number_read_integer(second + 1, strcspn(second + 1, " \n"), &pages))
        return 0;
    return (long long)pages * sysconf(_SC_PAGESIZE);
}

static cohort_status write_status(struct steering *s, struct text *out, cohort_error *err)
{
    pthread_mutex_lock(&s->mutex);
    const struct steering_at at = s->at;
    const bool pause = s->pause, save = s->save, paused = s->paused;
    const double seconds = clock_seconds() - s->phase_began;
    pthread_mutex_unlock(&s->mutex);
    return text_printf(out, err,
                       "{\"phase\": \"%s\", \"step\": %lld, \"steps\": %lld, \"done\": %lld, \"total\": %lld, "
                       "\"unit\": \"%s\", \"per_second\": %.6g, \"ended\": %lld, \"begun\": %lld, \"seconds\": %.3f, "
                       "\"saved_step\": %lld, \"paused\": %s, \"pausing\": %s, \"saving\": %s, \"memory_bytes\": %lld, "
                       "\"pid\": %ld}\n",
                       paused ? "paused" : at.phase, (long long)at.step, (long long)at.steps, (long long)at.done,
                       (long long)at.total, at.unit, at.per_second, (long long)at.ended, (long long)at.begun, seconds,
                       (long long)at.saved_step, paused ? "true" : "false", pause && !paused ? "true" : "false",
                       save ? "true" : "false", resident_bytes(), (long)getpid());
}

static cohort_status say(struct text *out, bool good, const char *text, cohort_error *err)
{
    return text_printf(out, err, "{\"ok\": %s, \"text\": \"%s\"}\n", good ? "true" : "false", text);
}

static cohort_status answer(struct steering *s, const char *word, struct text *out, cohort_error *err)
{
    char text[120];
    if (strcmp(word, "status") == 0)
        return write_status(s, out, err);
    pthread_mutex_lock(&s->mutex);
    if (strcmp(word, "pause") == 0) {
        snprintf(text, sizeof text, "%s",
                 s->paused ? "the run pauses already" : "the run pauses after this step; resume undoes it");
        s->pause = true;
    } else if (strcmp(word, "resume") == 0) {
        snprintf(text, sizeof text, "%s", s->pause ? "the run goes on" : "the run does not pause");
        s->pause = false;
    } else if (strcmp(word, "save") == 0 && s->at.step > 0 && s->at.saved_step == s->at.step && s->paused) {
        snprintf(text, sizeof text, "the checkpoint of step %lld is there already", (long long)s->at.step);
    } else if (strcmp(word, "save") == 0) {
        snprintf(text, sizeof text, "%s",
                 s->paused && s->at.step > 0 ? "a checkpoint is saved now" : "a checkpoint is saved after this step");
        s->save = true;
    } else {
        pthread_mutex_unlock(&s->mutex);
        return say(out, false, "a request is status, pause, resume or save", err);
    }
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    return say(out, true, text, err);
}

/* ---- Clients ---- */

static void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    text_free(&c->out);
    *c = (struct client){.fd = -1};
}

/* The user's own programs, and root's. */
static bool may_steer(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static void let_in(struct steering *s)
{
    struct client *place = &s->clients[0];
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            s->deaf_until = clock_seconds() + DEAF_SECONDS; /* no descriptors: asking again at once would spin */
        return;
    }
    if (fd <= STDERR_FILENO) {
        const int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(fd);
        fd = moved;
    }
    if (fd < 0)
        return;
    if (!may_steer(fd)) {
        close(fd);
        return;
    }
    for (int i = 0; i < STEERING_CLIENTS && place->fd >= 0; i++)
        if (s->clients[i].fd < 0 || s->clients[i].heard < place->heard)
            place = &s->clients[i];
    hang_up(place); /* of a full house the one that has been silent for longest */
    place->fd = fd;
    place->heard = clock_seconds();
}

/* Takes what a client says; false: it is hung up on, as with the two below. */
static bool listen_to(struct client *c, double now)
{
    const ssize_t got = recv(c->fd, c->in + c->n_in, sizeof c->in - c->n_in, 0);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    c->n_in += (size_t)got;
    c->heard = now;
    return true;
}

static bool answer_line(struct steering *s, struct client *c, double now)
{
    char *end = memchr(c->in, '\n', c->n_in);
    if (end == NULL)
        return c->n_in < sizeof c->in; /* longer than every request */
    *end = '\0';
    if (end > c->in && end[-1] == '\r')
        end[-1] = '\0';
    if (answer(s, c->in, &c->out, NULL) != COHORT_OK)
        return false;
    c->n_in -= (size_t)(end + 1 - c->in);
    memmove(c->in, end + 1, c->n_in);
    c->next = now + ANSWER_PAUSE;
    return true;
}

static bool talk(struct steering *s, struct client *c)
{
    const double now = clock_seconds();
    while (c->sent < c->out.length) {
        const ssize_t n = send(c->fd, c->out.data + c->sent, c->out.length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN; /* it does not read: nothing more is read from it either */
        c->sent += (size_t)n;
    }
    text_free(&c->out);
    c->sent = 0;
    if (now < c->next)
        return true;
    if (memchr(c->in, '\n', c->n_in) == NULL && !listen_to(c, now))
        return false;
    return answer_line(s, c, now);
}

/* What the thread waits for; returns how many milliseconds at most (-1: for ever). */
static int wait_for(const struct steering *s, struct pollfd *fds)
{
    const double now = clock_seconds();
    double until = -1.0;
    fds[0] = (struct pollfd){.fd = s->wake[0], .events = POLLIN};
    fds[1] = (struct pollfd){.fd = now < s->deaf_until ? -1 : s->listener, .events = POLLIN};
    if (now < s->deaf_until)
        until = s->deaf_until;
    for (int i = 0; i < STEERING_CLIENTS; i++) {
        const struct client *c = &s->clients[i];
        const bool writes = c->sent < c->out.length, rests = !writes && now < c->next;
        fds[2 + i] = (struct pollfd){.fd = rests ? -1 : c->fd, .events = writes ? POLLOUT : POLLIN};
        /* A line may be there already, of which poll knows nothing. */
        if (c->fd >= 0 && !writes && (rests || memchr(c->in, '\n', c->n_in) != NULL) &&
            (until < 0.0 || c->next < until))
            until = c->next;
    }
    return until < 0.0 ? -1 : until <= now ? 0 : (int)((until - now) * 1000.0) + 1;
}

static void *serve(void *context)
{
    struct steering *s = context;
    struct pollfd fds[2 + STEERING_CLIENTS];
    for (;;) {
        const int milliseconds = wait_for(s, fds), n = poll(fds, 2 + STEERING_CLIENTS, milliseconds);
        if (n < 0 && errno != EINTR)
            break;
        pthread_mutex_lock(&s->mutex);
        const bool ending = s->ending;
        pthread_mutex_unlock(&s->mutex);
        if (ending)
            break;
        const double now = clock_seconds();
        for (int i = 0; i < STEERING_CLIENTS; i++) {
            struct client *c = &s->clients[i];
            const bool waits = c->sent == c->out.length && now >= c->next && memchr(c->in, '\n', c->n_in) != NULL;
            if (c->fd >= 0 && ((n > 0 && fds[2 + i].fd == c->fd && fds[2 + i].revents != 0) || waits) && !talk(s, c))
                hang_up(c);
        }
        if (n > 0 && fds[1].fd >= 0 && fds[1].revents != 0)
            let_in(s);
    }
    for (int i = 0; i < STEERING_CLIENTS; i++)
        hang_up(&s->clients[i]);
    return NULL;
}

/* ---- The trainer's end ---- */

/* Whether somebody takes connections at the socket that lies in the folder. */
static bool is_alive(const struct sockaddr_un *address)
{
    const int fd = steering_socket();
    const bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
                                   (errno != ECONNREFUSED && errno != ENOENT));
    if (fd >= 0)
        close(fd);
    return alive;
}

static cohort_status make_room(const struct steering *s, const struct sockaddr_un *address, const char *folder,
                               cohort_error *err)
{
    struct stat there;
    if (fstatat(s->folder_fd, steering_socket_name, &there, AT_SYMLINK_NOFOLLOW) != 0)
        return COHORT_OK;
    if (!S_ISSOCK(there.st_mode))
        return error_set(err, COHORT_ERR_STATE, "%s/%s is there, and no socket", folder, steering_socket_name);
    if (is_alive(address))
        return error_set(err, COHORT_ERR_STATE, "somebody else listens at %s/%s", folder, steering_socket_name);
    (void)unlinkat(s->folder_fd, steering_socket_name, 0);
    return COHORT_OK;
}

static cohort_status bind_socket(struct steering *s, const char *folder, cohort_error *err)
{
    struct sockaddr_un address;
    struct stat made = {0};
    TRY(steering_address(folder, &s->folder_fd, &address, err));
    TRY(make_room(s, &address, folder, err));
    s->listener = steering_socket();
    /* Linux gives the socket's name the mode that the socket has when it is bound, less the umask: nobody else can connect
     * in the moment between. */
    if (s->listener < 0 || fchmod(s->listener, S_IRUSR | S_IWUSR) != 0 ||
        bind(s->listener, (const struct sockaddr *)&address, sizeof address) != 0)
        return error_set(err, COHORT_ERR_IO, "%s/%s: the file system takes no socket: %s", folder, steering_socket_name,
                         strerror(errno));
    if (fstatat(s->folder_fd, steering_socket_name, &made, AT_SYMLINK_NOFOLLOW) == 0) {
        s->device = made.st_dev;
        s->inode = made.st_ino;
    }
    if ((made.st_mode & (S_IRWXG | S_IRWXO)) != 0 &&
        fchmodat(s->folder_fd, steering_socket_name, S_IRUSR | S_IWUSR, 0) != 0)
        return error_set(err, COHORT_ERR_IO, "%s/%s: cannot be made its owner's alone: %s", folder,
                         steering_socket_name, strerror(errno));
    if (listen(s->listener, STEERING_CLIENTS) != 0)
        return error_set(err, COHORT_ERR_IO, "%s/%s: nobody can be listened to: %s", folder, steering_socket_name,
                         strerror(errno));
    return COHORT_OK;
}

static cohort_status start_thread(struct steering *s, cohort_error *err)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pipe2(s->wake, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set(err, COHORT_ERR_IO, "cannot make a pipe: %s", strerror(errno));
    if (pthread_attr_init(&attributes) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "out of memory for a thread");
    sigfillset(&all); /* the host's signals are not for this thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0
                         ? pthread_create(&s->thread, &attributes, serve, s)
                         : EAGAIN;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    s->threaded = code == 0;
    return code == 0 ? COHORT_OK : error_set(err, COHORT_ERR_IO, "cannot start a thread: %s", strerror(code));
}

cohort_status steering_open(struct steering **out, const char *folder, cohort_error *err)
{
    struct steering *s = NULL;
    *out = NULL;
    TRY(mem_alloc(&s, 1, sizeof *s, "steering", err));
    s->folder_fd = s->listener = s->wake[0] = s->wake[1] = -1;
    for (int i = 0; i < STEERING_CLIENTS; i++)
        s->clients[i].fd = -1;
    s->at.saved_step = -1;
    s->phase_began = clock_seconds();
    pthread_mutex_init(&s->mutex, NULL);
    (void)clock_condition(&s->changed);
    cohort_status status = bind_socket(s, folder, err);
    if (status == COHORT_OK)
        status = start_thread(s, err);
    if (status != COHORT_OK) {
        steering_close(s);
        return status;
    }
    *out = s;
    return COHORT_OK;
}

static void close_descriptors(struct steering *s)
{
    const int fds[] = {s->listener, s->wake[0], s->wake[1], s->folder_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

void steering_close(struct steering *s)
{
    struct stat there;
    if (s == NULL)
        return;
    if (s->threaded) {
        pthread_mutex_lock(&s->mutex);
        s->ending = true;
        pthread_mutex_unlock(&s->mutex);
        (void)!write(s->wake[1], "", 1);
        pthread_join(s->thread, NULL);
    }
    if (s->inode != 0 && fstatat(s->folder_fd, steering_socket_name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        there.st_dev == s->device && there.st_ino == s->inode)
        (void)unlinkat(s->folder_fd, steering_socket_name, 0);
    close_descriptors(s);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
    mem_free(s);
}

void steering_leave(struct steering *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < STEERING_CLIENTS; i++)
        if (s->clients[i].fd >= 0)
            close(s->clients[i].fd);
    close_descriptors(s); /* the memory, whose mutex the parent's thread may hold, stays as it is */
}

void steering_tell(struct steering *s, const struct steering_at *at)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->mutex);
    if (strcmp(s->at.phase, at->phase) != 0 || s->at.step != at->step)
        s->phase_began = clock_seconds();
    s->at = *at;
    pthread_mutex_unlock(&s->mutex);
}

struct steering_asked steering_asked(struct steering *s, bool take)
{
    struct steering_asked asked = {0};
    if (s == NULL)
        return asked;
    pthread_mutex_lock(&s->mutex);
    asked = (struct steering_asked){.pause = s->pause, .save = s->save};
    s->save = s->save && !take;
    pthread_mutex_unlock(&s->mutex);
    return asked;
}

void steering_set_paused(struct steering *s, bool paused)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->mutex);
    s->paused = paused;
    s->phase_began = clock_seconds();
    pthread_mutex_unlock(&s->mutex);
}

void steering_wait(struct steering *s, double seconds)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->mutex);
    clock_wait(&s->changed, &s->mutex, seconds);
    pthread_mutex_unlock(&s->mutex);
}
