/* HTTP alone: connections, bodies, answers and streams, over libmicrohttpd. It knows nothing of models, and nothing else
 * in the tree knows libmicrohttpd (http_without.c stands here in a build without it).
 *
 * One I/O thread of the library's reads requests and writes what there is. A call is one request: the I/O thread hands it
 * to handle when its body is there whole, and any thread may answer it, at once or later, as a whole or as a stream.
 * Everything a peer can make large has a bound: headers, body, connections, what is written and not read, time. */
#ifndef COHORT_SERVE_HTTP_H
#define COHORT_SERVE_HTTP_H

#include "base/memory.h"

struct http_server;
struct http_call;

struct http_config {
    const char *host;              /* a name or an address */
    int port;                      /* 0: any that is free */
    int connections;               /* at once, at most */
    size_t max_body;               /* bytes; a larger one gets 413 */
    double read_seconds;           /* in which a request must be there whole, and an answer be taken */
    const char *certificate, *key; /* PEM texts; NULL: no TLS */
    const char *origin;            /* of other pages that may ask (CORS); NULL: none */
    void (*handle)(void *context, struct http_call *call); /* on the I/O thread, as over */
    void (*over)(void *context, unsigned status);          /* an answer of this status was handed out, or broken off */
    void *context;
};
/* COHORT_ERR_IO with the reason where the address cannot be had; COHORT_ERR_UNSUPPORTED in a build without
 * libmicrohttpd, or for TLS where that has none. */
cohort_status http_open(struct http_server **out, const struct http_config *config, cohort_error *err);
int http_port(const struct http_server *server);
/* All calls that were held must have been answered. Waits two seconds for peers to take their answers. Accepts NULL. */
void http_close(struct http_server *server);
/* Looks for peers that hung up while their calls wait, and for those that send no whole request in time. Any thread,
 * often: it looks once in 20 ms. */
void http_sweep(struct http_server *server);
int http_connections(struct http_server *server);

/* ---- A call. What is asked of it is valid until it is answered; all of these may be called from any thread. ---- */

const char *http_method(const struct http_call *call);
const char *http_path(const struct http_call *call); /* without what stands behind ? */
/* NULL: it is not there. Only while handle runs. */
const char *http_header(struct http_call *call, const char *name);
const char *http_body(const struct http_call *call, size_t *length);
/* Keeps the call beyond handle. Whoever holds one releases it; the answer may still be under way then. */
void http_hold(struct http_call *call);
void http_release(struct http_call *call);
/* One more header of the answer, before it. At most four. name and value stay where they are. */
void http_add_header(struct http_call *call, const char *name, const char *value);
/* The answer as a whole; body is moved out of. Of two answers the first counts. */
void http_answer(struct http_call *call, unsigned status, const char *type, struct text *body);
/* An answer that goes on (server-sent events); then as many http_write as it takes, and http_end. */
void http_begin(struct http_call *call, const char *type);
void http_write(struct http_call *call, const char *bytes, size_t length);
void http_end(struct http_call *call);
/* Whether http_answer or http_begin was called. */
bool http_answered(struct http_call *call);
/* The peer hung up, or does not read: what is written goes nowhere. */
bool http_gone(struct http_call *call);

#endif
