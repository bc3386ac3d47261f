#ifdef COHORT_SERVE_FOUND

#include "serve/http.h"

#include "base/clock.h"
#include "base/number.h"

#include <dlfcn.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 64 << 10, /* of a connection's headers, and its buffers */
    PENDING_BYTES = 4 << 20, /* written and not read, before the peer counts as gone */
    BLOCK_BYTES = 16 << 10,  /* handed to libmicrohttpd at once */
    EXTRA_HEADERS = 4,
    BODY_SLACK = 8, /* times max_body are read and dropped, so that a peer hears its 413 */
    PATH_BYTES = 512,
    METHOD_BYTES = 16,
    TOO_LARGE = 413
};

/* libmicrohttpd is loaded when a server is opened and not before: it brings TLS and nine more libraries, which programs that
 * embed this one and serve nothing need not have. */
#define LIBRARY "libmicrohttpd.so.12"
#define FUNCTION_LIST(X)                                                                                               \
    X(MHD_add_response_header)                                                                                         \
    X(MHD_create_response_from_buffer)                                                                                 \
    X(MHD_create_response_from_callback)                                                                               \
    X(MHD_destroy_response)                                                                                            \
    X(MHD_get_connection_info)                                                                                         \
    X(MHD_is_feature_supported)                                                                                        \
    X(MHD_lookup_connection_value)                                                                                     \
    X(MHD_queue_response)                                                                                              \
    X(MHD_resume_connection)                                                                                           \
    X(MHD_start_daemon)                                                                                                \
    X(MHD_stop_daemon)                                                                                                 \
    X(MHD_suspend_connection)
#define FUNCTION(name) __typeof__(name) *name;
struct library {
    void *handle;
    FUNCTION_LIST(FUNCTION)
};
#undef FUNCTION

/* A connection, from the moment it is accepted. */
struct peer {
    struct peer *previous, *next;
    int fd;
    double since;           /* it has no request that is there whole */
    struct http_call *call; /* that one; NULL: none */
};

struct http_server {
    struct library mhd;
    struct MHD_Daemon *daemon;
    struct http_config config;
    int port;
    char origin[256];
    pthread_mutex_t lock; /* of the list, which a call's lock is taken within */
    struct peer *peers;
    int n_peers;
    double swept;
    struct pollfd *fds; /* [fds_capacity] of http_sweep */
    struct http_call **calls;
    size_t fds_capacity, calls_capacity;
};

struct http_call {
    struct http_server *server;
    pthread_mutex_t lock;
    int holders;                       /* the connection is one, until its request is over */
    struct MHD_Connection *connection; /* NULL: the request is over */
    char method[METHOD_BYTES], path[PATH_BYTES];
    struct text body;
    size_t dropped; /* bytes of a body that was too large */
    bool begun;     /* handle was called */
    bool suspended, answered, queued, streaming, ended, gone;
    unsigned status;
    char type[64];
    const char *names[EXTRA_HEADERS], *values[EXTRA_HEADERS];
    int n_extra;
    struct text out; /* to be written; of a stream, sent bytes of it were */
    size_t sent;
};

/* ---- Calls ---- */

static struct http_call *call_create(struct http_server *server, const char *url, const char *method)
{
    struct http_call *call = NULL;
    if (mem_alloc(&call, 1, sizeof *call, "request", NULL) != COHORT_OK)
        return NULL;
    if (pthread_mutex_init(&call->lock, NULL) != 0) {
        mem_free(call);
        return NULL;
    }
    call->server = server;
    call->holders = 1;
    snprintf(call->method, sizeof call->method, "%s", method);
    snprintf(call->path, sizeof call->path, "%s", url);
    return call;
}

void http_hold(struct http_call *call)
{
    pthread_mutex_lock(&call->lock);
    call->holders++;
    pthread_mutex_unlock(&call->lock);
}

void http_release(struct http_call *call)
{
    pthread_mutex_lock(&call->lock);
    const bool last = --call->holders == 0;
    pthread_mutex_unlock(&call->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&call->lock);
    text_free(&call->body);
    text_free(&call->out);
    mem_free(call);
}

const char *http_method(const struct http_call *call) { return call->method; }
const char *http_path(const struct http_call *call) { return call->path; }

const char *http_body(const struct http_call *call, size_t *length)
{
    *length = call->body.length;
    return call->body.data == NULL ? "" : call->body.data;
}

const char *http_header(struct http_call *call, const char *name)
{
    return call->connection == NULL
               ? NULL
               : call->server->mhd.MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

void http_add_header(struct http_call *call, const char *name, const char *value)
{
    if (call->n_extra == EXTRA_HEADERS)
        return;
    call->names[call->n_extra] = name;
    call->values[call->n_extra++] = value;
}

/* With the call's lock: lets the I/O thread look at it again. */
static void wake(struct http_call *call)
{
    if (!call->suspended || call->connection == NULL)
        return;
    call->suspended = false;
    call->server->mhd.MHD_resume_connection(call->connection);
}

void http_answer(struct http_call *call, unsigned status, const char *type, struct text *body)
{
    pthread_mutex_lock(&call->lock);
    if (!call->answered) {
        call->answered = call->ended = true;
        call->status = status;
        snprintf(call->type, sizeof call->type, "%s", type);
        call->out = *body;
        memset(body, 0, sizeof *body);
        wake(call);
    }
    pthread_mutex_unlock(&call->lock);
    text_free(body);
}

void http_begin(struct http_call *call, const char *type)
{
    pthread_mutex_lock(&call->lock);
    if (!call->answered) {
        call->answered = call->streaming = true;
        call->status = MHD_HTTP_OK;
        snprintf(call->type, sizeof call->type, "%s", type);
        wake(call);
    }
    pthread_mutex_unlock(&call->lock);
}

void http_write(struct http_call *call, const char *bytes, size_t length)
{
    pthread_mutex_lock(&call->lock);
    if (call->streaming && !call->ended && !call->gone && length > 0) {
        if (call->out.length - call->sent + length > PENDING_BYTES ||
            text_append(&call->out, bytes, length, NULL) != COHORT_OK)
            call->gone = true;
        wake(call);
    }
    pthread_mutex_unlock(&call->lock);
}

void http_end(struct http_call *call)
{
    pthread_mutex_lock(&call->lock);
    if (call->streaming) {
        call->ended = true;
        wake(call);
    }
    pthread_mutex_unlock(&call->lock);
}

bool http_answered(struct http_call *call)
{
    pthread_mutex_lock(&call->lock);
    const bool answered = call->answered;
    pthread_mutex_unlock(&call->lock);
    return answered;
}

bool http_gone(struct http_call *call)
{
    pthread_mutex_lock(&call->lock);
    const bool gone = call->gone;
    pthread_mutex_unlock(&call->lock);
    return gone;
}

/* ---- What libmicrohttpd calls, on the I/O thread ---- */

/* More of a stream. */
static ssize_t read_stream(void *context, uint64_t at, char *to, size_t room)
{
    struct http_call *call = context;
    ssize_t n = 0;
    (void)at;
    pthread_mutex_lock(&call->lock);
    if (call->gone) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (call->sent < call->out.length) {
        const size_t left = call->out.length - call->sent;
        n = (ssize_t)(left < room ? left : room);
        memcpy(to, call->out.data + call->sent, (size_t)n);
        call->sent += (size_t)n;
        if (call->sent == call->out.length)
            call->sent = call->out.length = 0;
    } else if (call->ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        call->server->mhd.MHD_suspend_connection(call->connection);
        call->suspended = true;
    }
    pthread_mutex_unlock(&call->lock);
    return n;
}

static void add_origin(const struct http_server *server, struct MHD_Response *response)
{
    if (server->origin[0] == '\0')
        return;
    server->mhd.MHD_add_response_header(response, "Access-Control-Allow-Origin", server->origin);
    server->mhd.MHD_add_response_header(response, "Access-Control-Allow-Headers",
                                        "authorization, content-type, x-api-key");
    server->mhd.MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    server->mhd.MHD_add_response_header(response, "Vary", "Origin");
}

/* Hands the answer over, whose status and headers do not change any more. Without the call's lock, which read_stream takes
 * under one of libmicrohttpd's that is taken here. */
static enum MHD_Result queue_answer(struct http_call *call, struct MHD_Connection *connection)
{
    struct MHD_Response *response =
        call->streaming ? call->server->mhd.MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES,
                                                                              read_stream, call, NULL)
                        : call->server->mhd.MHD_create_response_from_buffer(
                              call->out.length, call->out.data != NULL ? call->out.data : "", MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    if (call->type[0] != '\0')
        call->server->mhd.MHD_add_response_header(response, "Content-Type", call->type);
    call->server->mhd.MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (call->streaming) {
        call->server->mhd.MHD_add_response_header(response, "Cache-Control", "no-cache");
        call->server->mhd.MHD_add_response_header(response, "X-Accel-Buffering", "no");
    }
    for (int i = 0; i < call->n_extra; i++)
        call->server->mhd.MHD_add_response_header(response, call->names[i], call->values[i]);
    add_origin(call->server, response);
    call->queued = true;
    const enum MHD_Result queued = call->server->mhd.MHD_queue_response(connection, call->status, response);
    call->server->mhd.MHD_destroy_response(response);
    return queued;
}

static struct peer *peer_of(const struct http_server *server, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        server->mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

/* The connection has a call that waits, or has none. */
static void set_call(struct http_server *server, struct MHD_Connection *connection, struct http_call *call)
{
    pthread_mutex_lock(&server->lock);
    struct peer *peer = peer_of(server, connection);
    if (peer != NULL) {
        peer->call = call;
        peer->since = clock_seconds();
    }
    pthread_mutex_unlock(&server->lock);
}

/* What the length says of a body that has not come yet. */
static bool much_too_large(const struct http_server *server, struct MHD_Connection *connection)
{
    const char *length = server->mhd.MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    int64_t bytes = 0;
    return length != NULL && number_read_integer(length, strlen(length), &bytes) &&
           (uint64_t)bytes / BODY_SLACK > server->config.max_body;
}

static const char too_large[] =
    "{\"error\":{\"message\":\"the request's body is larger than --max-body "
    "allows\",\"type\":\"invalid_request_error\",\"code\":\"body_too_large\",\"param\":null}}";

static void answer_too_large(struct http_call *call)
{
    struct text text = {0};
    (void)text_append(&text, too_large, sizeof too_large - 1, NULL);
    http_answer(call, TOO_LARGE, "application/json", &text);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *n_upload, void **request)
{
    struct http_server *server = context;
    struct http_call *call = *request;
    (void)version;
    if (call == NULL) {
        call = call_create(server, url, method);
        *request = call;
        if (call == NULL)
            return MHD_NO;
        call->connection = connection;
        if (!much_too_large(server, connection))
            return MHD_YES;
        answer_too_large(call);
        return queue_answer(call, connection);
    }
    if (*n_upload > 0) {
        if (call->dropped > 0 || call->body.length + *n_upload > server->config.max_body)
            call->dropped += *n_upload;
        else if (text_append(&call->body, upload, *n_upload, NULL) != COHORT_OK)
            return MHD_NO;
        *n_upload = 0;
        return call->dropped / BODY_SLACK > server->config.max_body ? MHD_NO : MHD_YES;
    }
    if (!call->begun) {
        call->begun = true;
        set_call(server, connection, call);
        if (call->dropped > 0)
            answer_too_large(call);
        else
            server->config.handle(server->config.context, call);
    }
    pthread_mutex_lock(&call->lock);
    const bool answered = call->answered;
    if (!answered) {
        server->mhd.MHD_suspend_connection(connection);
        call->suspended = true;
    }
    pthread_mutex_unlock(&call->lock);
    return answered ? queue_answer(call, connection) : MHD_YES;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
    struct http_server *server = context;
    struct http_call *call = *request;
    (void)code;
    if (call == NULL)
        return;
    set_call(server, connection, NULL);
    pthread_mutex_lock(&call->lock);
    call->connection = NULL;
    call->gone = true;
    const unsigned status = call->queued ? call->status : 0;
    pthread_mutex_unlock(&call->lock);
    if (status != 0)
        server->config.over(server->config.context, status);
    http_release(call);
    *request = NULL;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    struct peer *peer = *socket_context;
    pthread_mutex_lock(&server->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            server->mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info != NULL && mem_alloc(&peer, 1, sizeof *peer, "connection", NULL) == COHORT_OK) {
            peer->fd = info->connect_fd;
            peer->since = clock_seconds();
            peer->next = server->peers;
            if (peer->next != NULL)
                peer->next->previous = peer;
            server->peers = peer;
            server->n_peers++;
            *socket_context = peer;
        }
    } else if (peer != NULL) {
        *(peer->previous != NULL ? &peer->previous->next : &server->peers) = peer->next;
        if (peer->next != NULL)
            peer->next->previous = peer->previous;
        server->n_peers--;
        mem_free(peer);
        *socket_context = NULL;
    }
    pthread_mutex_unlock(&server->lock);
}

/* ---- Peers that hung up, and slow ones ---- */

/* Held by the list's lock, a peer's descriptor is open: it is closed behind on_connection. */
static size_t gather(struct http_server *server, double now)
{
    size_t n = 0;
    if (mem_grow(&server->fds, &server->fds_capacity, (size_t)server->n_peers, sizeof *server->fds, "connections",
                 NULL) != COHORT_OK ||
        mem_grow(&server->calls, &server->calls_capacity, (size_t)server->n_peers, sizeof(struct http_call *),
                 "connections", NULL) != COHORT_OK)
        return 0;
    for (struct peer *peer = server->peers; peer != NULL; peer = peer->next) {
        if (peer->call == NULL && now - peer->since > server->config.read_seconds) {
            (void)shutdown(peer->fd, SHUT_RDWR);
            peer->since = now; /* libmicrohttpd closes it */
        } else if (peer->call != NULL) {
            server->fds[n] = (struct pollfd){.fd = peer->fd, .events = POLLRDHUP};
            server->calls[n++] = peer->call;
        }
    }
    return n;
}

void http_sweep(struct http_server *server)
{
    static const double every = 0.02;
    const double now = clock_seconds();
    pthread_mutex_lock(&server->lock);
    if (now - server->swept >= every) {
        server->swept = now;
        const size_t n = gather(server, now);
        if (n > 0 && poll(server->fds, n, 0) > 0)
            for (size_t i = 0; i < n; i++) {
                if ((server->fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
                    continue;
                struct http_call *call = server->calls[i];
                pthread_mutex_lock(&call->lock);
                call->gone = true;
                if (call->streaming)
                    wake(call);
                pthread_mutex_unlock(&call->lock);
            }
    }
    pthread_mutex_unlock(&server->lock);
}

int http_connections(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    const int n = server->n_peers;
    pthread_mutex_unlock(&server->lock);
    return n;
}

/* ---- Opening and closing ---- */

/* The descriptor of a socket that listens, or -1. */
static int listen_at(const struct addrinfo *at)
{
    enum { BACKLOG = 512 };
    const int on = 1, fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && bind(fd, at->ai_addr, at->ai_addrlen) == 0 &&
        listen(fd, BACKLOG) == 0)
        return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = {0};
    socklen_t length = sizeof at;
    if (getsockname(fd, &at.any, &length) != 0)
        return 0;
    return ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
}

static cohort_status listen_socket(const struct http_config *config, int *fd, bool *v6, cohort_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", config->port);
    const int failed = getaddrinfo(config->host, port, &hints, &list);
    if (failed != 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "--host %.200s: %s", config->host, gai_strerror(failed));
    *fd = -1;
    for (const struct addrinfo *at = list; at != NULL && *fd < 0; at = at->ai_next) {
        *fd = listen_at(at);
        *v6 = at->ai_family == AF_INET6;
    }
    const int why = errno;
    freeaddrinfo(list);
    return *fd >= 0
               ? COHORT_OK
               : error_set(err, COHORT_ERR_IO, "cannot listen at %.200s, port %d: %s%s", config->host, config->port,
                           strerror(why), why == EADDRINUSE ? "; --port 0 takes one that is free" : "");
}

static cohort_status load_library(struct library *library, cohort_error *err)
{
    static const char *const names[] = {
#define FUNCTION(name) #name,
        FUNCTION_LIST(FUNCTION)
#undef FUNCTION
    };
    void *places[] = {
#define FUNCTION(name) &library->name,
        FUNCTION_LIST(FUNCTION)
#undef FUNCTION
    };
    library->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library->handle == NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "serving needs " LIBRARY " (Debian: libmicrohttpd12): %s",
                         dlerror());
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *found = dlsym(library->handle, names[i]);
        if (found == NULL)
            return error_set(err, COHORT_ERR_UNSUPPORTED, LIBRARY " has no %s: it is too old", names[i]);
        memcpy(places[i], &found, sizeof found);
    }
    return COHORT_OK;
}

static cohort_status start(struct http_server *server, int fd, bool v6, cohort_error *err)
{
    const struct http_config *c = &server->config;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (v6 ? MHD_USE_IPv6 : 0);
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, c->connections, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)(c->read_seconds + 0.999), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_BYTES, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, server},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, server},
        {MHD_OPTION_END, 0, NULL}, /* of TLS, or of all */
        {MHD_OPTION_END, 0, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    enum { OF_TLS = 7 };
    if (c->certificate != NULL) {
        if (server->mhd.MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
            return error_set(err, COHORT_ERR_UNSUPPORTED, "--tls-cert: this libmicrohttpd was built without TLS");
        flags |= MHD_USE_TLS;
        options[OF_TLS] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)c->certificate};
        options[OF_TLS + 1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)c->key};
    }
    server->daemon = server->mhd.MHD_start_daemon(flags, 0, NULL, NULL, on_request, server, MHD_OPTION_ARRAY, options,
                                                  MHD_OPTION_END);
    if (server->daemon == NULL)
        return error_set(err, COHORT_ERR_IO, "the HTTP server could not be started%s",
                         c->certificate != NULL ? ": are --tls-cert and --tls-key a PEM certificate and its key?" : "");
    return COHORT_OK;
}

cohort_status http_open(struct http_server **out, const struct http_config *config, cohort_error *err)
{
    struct http_server *server = NULL;
    int fd = -1;
    bool v6 = false;
    *out = NULL;
    TRY(mem_alloc(&server, 1, sizeof *server, "server", err));
    server->config = *config;
    if (config->origin != NULL)
        snprintf(server->origin, sizeof server->origin, "%s", config->origin);
    cohort_status status = load_library(&server->mhd, err);
    if (status == COHORT_OK)
        status = listen_socket(config, &fd, &v6, err);
    if (status == COHORT_OK && pthread_mutex_init(&server->lock, NULL) != 0)
        status = error_set(err, COHORT_ERR_MEMORY, "cannot make a lock");
    if (status != COHORT_OK) {
        if (fd >= 0)
            close(fd);
        if (server->mhd.handle != NULL)
            dlclose(server->mhd.handle);
        mem_free(server);
        return status;
    }
    server->port = port_of(fd);
    status = start(server, fd, v6, err);
    if (status != COHORT_OK) {
        close(fd);
        http_close(server);
        return status;
    }
    *out = server;
    return COHORT_OK;
}

int http_port(const struct http_server *server) { return server->port; }

/* Whether answers are under way; with finish they are broken off. */
static bool under_way(struct http_server *server, bool finish)
{
    bool any = false;
    pthread_mutex_lock(&server->lock);
    for (struct peer *peer = server->peers; peer != NULL; peer = peer->next) {
        any = any || peer->call != NULL;
        if (peer->call == NULL || !finish)
            continue;
        pthread_mutex_lock(&peer->call->lock);
        peer->call->gone = true;
        if (!peer->call->answered) {
            peer->call->answered = peer->call->ended = true;
            peer->call->status = MHD_HTTP_SERVICE_UNAVAILABLE;
        }
        wake(peer->call);
        pthread_mutex_unlock(&peer->call->lock);
    }
    pthread_mutex_unlock(&server->lock);
    return any;
}

void http_close(struct http_server *server)
{
    enum { LOOKS = 200, PAUSE_US = 10000 };
    if (server == NULL)
        return;
    for (int i = 0; i < LOOKS && server->daemon != NULL && under_way(server, false); i++)
        usleep(PAUSE_US);
    if (server->daemon != NULL) {
        (void)under_way(server, true); /* a connection that sleeps cannot be closed */
        server->mhd.MHD_stop_daemon(server->daemon);
    }
    pthread_mutex_destroy(&server->lock);
    dlclose(server->mhd.handle);
    mem_free(server->fds);
    mem_free(server->calls);
    mem_free(server);
}

#endif
