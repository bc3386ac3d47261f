/* Requests over HTTP, by libcurl. In a build without it (http_client_without.c) creating a client says so.
 *
 * A client keeps its connection for the next request and serves one thread at a time. Everything has a limit: seconds
 * from the first to the last byte, and bytes of an answer. Redirections are not followed; http and https alone. */
#ifndef COHORT_BASE_HTTP_CLIENT_H
#define COHORT_BASE_HTTP_CLIENT_H

#include "base/memory.h"
#include "base/stop.h"

struct http_client;

struct http_post {
    const char *url;
    const char *body; /* JSON */
    size_t length;
    const char *ca;    /* PEM file of the certificates that an https server is trusted by; NULL: the system's */
    const char *key;   /* sent as a bearer token; NULL: none. It is in no message. */
    double timeout_s;  /* > 0 */
    size_t most_bytes; /* of an answer */
    const struct stop *stop;
};

struct http_answer {
    int code; /* of the answer; 0: none came, and problem says why */
    struct text body;
    double retry_after_s; /* what the server asks to wait; negative: it does not say */
    bool untrusted;       /* none came, for the server's certificate is not trusted, or ca cannot be read */
    char problem[256];
};

cohort_status http_client_create(struct http_client **out, cohort_error *err);
/* Accepts NULL. */
void http_client_destroy(struct http_client *client);
/* COHORT_OK also where no answer came. Errors: COHORT_ERR_CANCELLED, COHORT_ERR_MEMORY. Free answer->body also after one. */
cohort_status http_client_post(struct http_client *client, const struct http_post *post, struct http_answer *answer,
                               cohort_error *err);

#endif
