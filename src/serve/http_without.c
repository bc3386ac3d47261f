/* In a build without libmicrohttpd: opening a server says so, and nothing else is reached. */
#ifndef COHORT_SERVE_FOUND

#include "serve/http.h"

cohort_status http_open(struct http_server **out, const struct http_config *config, cohort_error *err)
{
    (void)config;
    *out = NULL;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "this build cannot serve: it was made without libmicrohttpd; install it (Debian: "
                     "libmicrohttpd-dev, as scripts/install-deps does) and build again");
}

int http_port(const struct http_server *server)
{
    (void)server;
    return 0;
}

void http_close(struct http_server *server) { (void)server; }
void http_sweep(struct http_server *server) { (void)server; }

int http_connections(struct http_server *server)
{
    (void)server;
    return 0;
}

const char *http_method(const struct http_call *call)
{
    (void)call;
    return "";
}

const char *http_path(const struct http_call *call)
{
    (void)call;
    return "";
}

const char *http_header(struct http_call *call, const char *name)
{
    (void)call;
    (void)name;
    return NULL;
}

const char *http_body(const struct http_call *call, size_t *length)
{
    (void)call;
    *length = 0;
    return "";
}

void http_hold(struct http_call *call) { (void)call; }
void http_release(struct http_call *call) { (void)call; }

void http_add_header(struct http_call *call, const char *name, const char *value)
{
    (void)call;
    (void)name;
    (void)value;
}

void http_answer(struct http_call *call, unsigned status, const char *type, struct text *body)
{
    (void)call;
    (void)status;
    (void)type;
    text_free(body);
}

void http_begin(struct http_call *call, const char *type)
{
    (void)call;
    (void)type;
}

void http_write(struct http_call *call, const char *bytes, size_t length)
{
    (void)call;
    (void)bytes;
    (void)length;
}

void http_end(struct http_call *call) { (void)call; }

bool http_answered(struct http_call *call)
{
    (void)call;
    return true;
}

bool http_gone(struct http_call *call)
{
    (void)call;
    return true;
}

#endif
