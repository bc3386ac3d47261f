/* Ranks that no MPI joins, each with a GPU, as torchrun's variables describe them: rank 0 listens at an address, every other one
 * has a line to it, a TCP connection. Over it go who is there and the name by which NCCL joins them; all bytes then cross by
 * NCCL. The line stays for words about failures, which NCCL has no way to say: that a rank failed and why, that it is gone (the line
 * is closed), and, when a wait is over its limit, which rank does not wait like the others:
 *
 *     WORD_LATE  to rank 0      my wait is over its limit
 *     WORD_ASK   from rank 0    who waits says
 *     WORD_HERE  to rank 0      I do; who has not said so within ROLL_CALL seconds is named
 *     WORD_FAILED               a notice of ranks_fail; rank 0 hands it on */
#include "ranks/ranks_nccl.h"

#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const double JOINING = 300.0, ROLL_CALL = 3.0; /* seconds */
static const uint32_t MAGIC = 0x636f6852;

enum word_kind { WORD_LATE = 1, WORD_ASK, WORD_HERE, WORD_FAILED };
enum { MOST_NOTICE = 2048 };
struct word {
    int32_t kind;
    char notice[MOST_NOTICE];
};

/* What a rank says first; rank 0 answers with all[count] of these and a name. */
struct hello {
    uint32_t magic;
    int32_t rank, count;
    char host[RANKS_HOST];
    struct presence presence;
};

struct line {
    int *sockets;       /* [count] of rank 0: to each; of others the first: to rank 0; -1: none */
    bool *here;         /* [count] who has answered */
    double late, asked; /* since when that is said, or asked; 0: it is not */
};

/* ---- Bytes on a line ---- */

/* All n bytes, within the socket's time limit. */
static bool send_all(int fd, const void *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        const ssize_t k = send(fd, (const char *)bytes + done, n - done, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        done += (size_t)k;
    }
    return true;
}

static bool receive_all(int fd, void *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        const ssize_t k = recv(fd, (char *)bytes + done, n - done, 0);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        done += (size_t)k;
    }
    return true;
}

static void limit(int fd, double seconds)
{
    const struct timeval time = {.tv_sec = (time_t)seconds, .tv_usec = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

/* ---- Joining ---- */

static cohort_status find_address(struct addrinfo **out, const struct ranks_place *place, cohort_error *err)
{
    char port[16];
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = place->rank == 0 ? AI_PASSIVE : 0};
    snprintf(port, sizeof port, "%d", (int)place->port);
    const int code = getaddrinfo(place->rank == 0 ? NULL : place->host, port, &hints, out);
    if (code == 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO, "rank 0 is to be at %s, port %d, which is no address: %s", place->host,
                     (int)place->port, gai_strerror(code));
}

static cohort_status listen_at(int *out, const struct ranks_place *place, cohort_error *err)
{
    struct addrinfo *all = NULL;
    const int yes = 1;
    int why = 0;
    TRY(find_address(&all, place, err));
    *out = -1;
    for (const struct addrinfo *a = all; a != NULL && *out < 0; a = a->ai_next) {
        const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0)
            (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (fd >= 0 && bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, place->count) == 0) {
            *out = fd;
            continue;
        }
        why = errno;
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(all);
    if (*out >= 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO, "rank 0 cannot listen at port %d (MASTER_PORT): %s", (int)place->port,
                     strerror(why));
}

static cohort_status connect_to(int *out, const struct ranks_place *place, cohort_error *err)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    const double begin = clock_seconds();
    struct addrinfo *all = NULL;
    int why = 0;
    TRY(find_address(&all, place, err));
    *out = -1;
    while (*out < 0 && clock_seconds() - begin < JOINING) {
        for (const struct addrinfo *a = all; a != NULL && *out < 0; a = a->ai_next) {
            const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
            if (fd >= 0)
                limit(fd, 10.0); /* of connecting too */
            if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
                *out = fd;
                continue;
            }
            why = errno;
            if (fd >= 0)
                close(fd);
        }
        if (*out < 0)
            nanosleep(&moment, NULL);
    }
    freeaddrinfo(all);
    if (*out >= 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO, "rank 0 does not answer at %s, port %d (MASTER_ADDR, MASTER_PORT): %s",
                     place->host, (int)place->port, strerror(why));
}

/* Waits for the others and takes in what they say; a stranger is sent away. */
static cohort_status gather_hellos(struct ranks *ranks, int listener, struct hello *all, cohort_error *err)
{
    struct line *line = ranks->state;
    const double begin = clock_seconds();
    int32_t missing = ranks->count - 1;
    while (missing > 0) {
        struct pollfd ready = {.fd = listener, .events = POLLIN};
        struct hello hello;
        if (clock_seconds() - begin > JOINING)
            return error_set(err, COHORT_ERR_IO, "%d of %d ranks have not come within %d s", (int)missing,
                             (int)ranks->count, (int)JOINING);
        if (poll(&ready, 1, 1000) <= 0)
            continue;
        const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        limit(fd, 10.0);
        if (!receive_all(fd, &hello, sizeof hello) || hello.magic != MAGIC || hello.rank < 1 ||
            hello.rank >= ranks->count || hello.count != ranks->count || line->sockets[hello.rank] >= 0) {
            close(fd);
            continue;
        }
        hello.host[RANKS_HOST - 1] = hello.presence.why[sizeof hello.presence.why - 1] = '\0';
        hello.presence.bus[sizeof hello.presence.bus - 1] = '\0';
        all[hello.rank] = hello;
        line->sockets[hello.rank] = fd;
        missing--;
    }
    return COHORT_OK;
}

/* Takes in what all say: who shares this host, and whether they can exchange. */
static cohort_status take_hellos(struct ranks *ranks, const struct hello *all, cohort_error *err)
{
    struct presence *presences = NULL;
    char why[512] = "";
    TRY(mem_alloc(&ranks->hosts, (size_t)ranks->count, sizeof *ranks->hosts, "names of hosts", err));
    TRY(mem_alloc(&presences, (size_t)ranks->count, sizeof *presences, "ranks", err));
    ranks->local_count = 0;
    for (int32_t r = 0; r < ranks->count; r++) {
        memcpy(ranks->hosts[r], all[r].host, sizeof *ranks->hosts);
        presences[r] = all[r].presence;
        ranks->local_count += strcmp(all[r].host, all[ranks->rank].host) == 0 ? 1 : 0;
    }
    const bool impossible = ranks_nccl_impossible(ranks, presences, why, sizeof why);
    mem_free(presences);
    if (!impossible)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "ranks that no MPI joins exchange between GPUs by NCCL, and cannot: %s", why);
}

/* Rank 0's part, and the others'. */
static cohort_status meet(struct ranks *ranks, const struct ranks_place *place, struct hello *all,
                          char name[RANKS_NCCL_NAME], cohort_error *err)
{
    struct line *line = ranks->state;
    if (ranks->rank > 0) {
        TRY(connect_to(&line->sockets[0], place, err));
        limit(line->sockets[0], JOINING);
        if (!send_all(line->sockets[0], &all[ranks->rank], sizeof *all) ||
            !receive_all(line->sockets[0], all, (size_t)ranks->count * sizeof *all) ||
            !receive_all(line->sockets[0], name, RANKS_NCCL_NAME))
            return error_set(err, COHORT_ERR_IO, "rank 0 at %s, port %d has ended, or is no rank of this job",
                             place->host, (int)place->port);
        return COHORT_OK;
    }
    int listener = -1;
    TRY(listen_at(&listener, place, err));
    cohort_status status = gather_hellos(ranks, listener, all, err);
    close(listener);
    if (status == COHORT_OK && all[0].presence.can)
        status = ranks_nccl_name(ranks, name, err);
    for (int32_t r = 1; status == COHORT_OK && r < ranks->count; r++)
        if (!send_all(line->sockets[r], all, (size_t)ranks->count * sizeof *all) ||
            !send_all(line->sockets[r], name, RANKS_NCCL_NAME))
            status = error_set(err, COHORT_ERR_IO, "rank %d (%s) has ended", (int)r, all[r].host);
    return status;
}

/* ---- Words ---- */

static void say(int fd, enum word_kind kind, const void *notice, size_t n)
{
    struct word word = {.kind = (int32_t)kind};
    if (n > 0)
        memcpy(word.notice, notice, n < sizeof word.notice ? n : sizeof word.notice);
    if (fd >= 0)
        (void)send_all(fd, &word, sizeof word);
}

static void say_to_all(const struct ranks *ranks, int32_t but, enum word_kind kind, const void *notice, size_t n)
{
    const struct line *line = ranks->state;
    for (int32_t r = 0; r < ranks->count; r++)
        if (r != but)
            say(line->sockets[r], kind, notice, n);
}

static void notify(struct ranks *ranks, const void *notice, size_t n)
{
    say_to_all(ranks, ranks->rank, WORD_FAILED, notice, n);
}

static cohort_status is_gone(const struct ranks *ranks, int32_t peer, cohort_error *err)
{
    return error_set(err, COHORT_ERR_IO, "rank %d of %d (%s) has ended: its connection is closed", (int)peer,
                     (int)ranks->count, ranks->hosts[peer]);
}

static cohort_status hear(struct ranks *ranks, int32_t peer, const struct word *word, cohort_error *err)
{
    struct line *line = ranks->state;
    switch (word->kind) {
    case WORD_FAILED:
        if (ranks->rank == 0)
            say_to_all(ranks, peer, WORD_FAILED, word->notice, sizeof word->notice);
        return ranks_told(ranks, word->notice, sizeof word->notice, err);
    case WORD_ASK: say(line->sockets[0], WORD_HERE, NULL, 0); return COHORT_OK;
    case WORD_HERE: line->here[peer] = true; return COHORT_OK;
    case WORD_LATE: line->late = line->late > 0.0 ? line->late : clock_seconds(); return COHORT_OK;
    default: return is_gone(ranks, peer, err);
    }
}

/* Rank 0: asks who waits, and in the end says who does not. */
static cohort_status call_roll(struct ranks *ranks, cohort_error *err)
{
    struct line *line = ranks->state;
    if (line->asked == 0.0) {
        line->asked = clock_seconds();
        memset(line->here, 0, (size_t)ranks->count * sizeof *line->here);
        say_to_all(ranks, 0, WORD_ASK, NULL, 0);
    }
    if (clock_seconds() - line->asked < ROLL_CALL)
        return COHORT_OK;
    for (int32_t r = 1; r < ranks->count; r++)
        if (!line->here[r])
            return error_set(err, COHORT_ERR_IO,
                             "rank %d of %d (%s) has not answered for %lld s (--rank-timeout): it hangs, or does what "
                             "takes longer than that",
                             (int)r, (int)ranks->count, ranks->hosts[r], (long long)(ranks->timeout + 0.5));
    return error_set(err, COHORT_ERR_IO, "an exchange between GPUs has not ended within %lld s (--rank-timeout)",
                     (long long)(ranks->timeout + 0.5));
}

static cohort_status look(struct ranks *ranks, double waited, cohort_error *err)
{
    struct line *line = ranks->state;
    for (int32_t r = 0; r < ranks->count; r++) {
        struct pollfd ready = {.fd = line->sockets[r], .events = POLLIN};
        struct word word;
        if (ready.fd < 0 || poll(&ready, 1, 0) <= 0)
            continue;
        if (!receive_all(ready.fd, &word, sizeof word))
            return is_gone(ranks, r, err);
        TRY(hear(ranks, r, &word, err));
    }
    if (ranks->rank == 0)
        return waited > ranks->timeout || line->late > 0.0 ? call_roll(ranks, err) : COHORT_OK;
    if (waited <= ranks->timeout)
        return COHORT_OK;
    if (line->late == 0.0)
        say(line->sockets[0], WORD_LATE, NULL, 0);
    line->late = line->late > 0.0 ? line->late : clock_seconds();
    if (clock_seconds() - line->late < 3.0 * ROLL_CALL)
        return COHORT_OK;
    return error_set(
        err, COHORT_ERR_IO,
        "rank 0 of %d (%s) has not answered for %lld s (--rank-timeout): it hangs, or does what takes longer "
        "than that",
        (int)ranks->count, ranks->hosts[0], (long long)(ranks->timeout + 0.5));
}

/* ---- The job ---- */

/* The others hear why, or find the line closed; whoever started them ends who does not. */
static void end(struct ranks *ranks, int code)
{
    (void)ranks;
    (void)code;
}

static void close_line(struct ranks *ranks)
{
    struct line *line = ranks->state;
    for (int32_t r = 0; line != NULL && line->sockets != NULL && r < ranks->count; r++)
        if (line->sockets[r] >= 0)
            close(line->sockets[r]);
    if (line != NULL) {
        mem_free(line->sockets);
        mem_free(line->here);
    }
    mem_free(line);
    ranks->state = NULL;
}

static const struct ranks_ops operations = {ranks_nccl_exchange, look, notify, end, close_line};

static cohort_status join(struct ranks *ranks, const struct ranks_place *place, cohort_error *err)
{
    struct line *line = ranks->state;
    const size_t count = (size_t)ranks->count;
    char name[RANKS_NCCL_NAME] = "";
    struct hello *all = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&line->sockets, count, sizeof *line->sockets, "ranks", err));
    for (size_t r = 0; r < count; r++)
        line->sockets[r] = -1;
    TRY_GOTO(mem_alloc(&line->here, count, sizeof *line->here, "ranks", err));
    TRY_GOTO(mem_alloc(&all, count, sizeof *all, "ranks", err));
    struct hello *own = &all[ranks->rank];
    own->magic = MAGIC;
    own->rank = ranks->rank;
    own->count = ranks->count;
    (void)gethostname(own->host, sizeof own->host - 1);
    TRY_GOTO(ranks_nccl_begin(ranks, (int)ranks->local_rank, &own->presence, err));
    TRY_GOTO(meet(ranks, place, all, name, err));
    TRY_GOTO(take_hellos(ranks, all, err));
    TRY_GOTO(ranks_nccl_join(ranks, name, err));
cleanup:
    if (ranks->device_ops == NULL)
        ranks_nccl_leave(ranks);
    mem_free(all);
    return status;
}

cohort_status ranks_open_line(struct ranks **out, const struct ranks_place *place, cohort_error *err)
{
    struct ranks *ranks = NULL;
    struct line *line = NULL;
    *out = NULL;
    TRY(mem_alloc(&ranks, 1, sizeof *ranks, "ranks", err));
    *ranks = (struct ranks){.ops = &operations,
                            .rank = place->rank,
                            .count = place->count,
                            .local_rank = place->gpu,
                            .local_count = 1,
                            .timeout = RANKS_PATIENCE};
    cohort_status status = mem_alloc(&line, 1, sizeof *line, "ranks", err);
    ranks->state = line;
    if (status == COHORT_OK)
        status = join(ranks, place, err);
    if (status != COHORT_OK) {
        ranks->failed = true;
        ranks_close(ranks, 1);
        return status;
    }
    *out = ranks;
    return COHORT_OK;
}
