/* Any bytes through a whole server, by the network: as the body of a request to one of its routes, or as all that a connection
 * sends, read to the end or cut off on the way. The server answers with a status of HTTP other than 500, or closes the connection;
 * it stays healthy, and no page of the engine is lost. The first byte says which. */
#include "support/fuzz.h"

#include "base/file.h"
#include "cohort.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER = 1 << 16, LOOK = 32, SECONDS = 20 };

static char folder[] = "/tmp/cohort-fuzz-serve-XXXXXX";
static cohort_options *options;
static cohort_observer observer;
static cohort_stop *stop;
static pthread_t thread;
static _Atomic int port, over;
static unsigned n_asked;

static void must(cohort_status status, const cohort_error *err)
{
    if (status == COHORT_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    abort();
}

static void set(cohort_options *to, const char *name, const char *value)
{
    cohort_error err;
    must(cohort_options_set(to, name, value, "test", &err), &err);
}

static void hear(void *context, const char *text)
{
    const char *colon = strrchr(text, ':');
    (void)context;
    if (strncmp(text, "serving ", 8) == 0 && colon != NULL)
        port = atoi(colon + 1);
}

static void *run_server(void *context)
{
    cohort_error err = {0};
    (void)context;
    if (cohort_run(options, &observer, &err) != COHORT_OK)
        fprintf(stderr, "the server ended: %s\n", err.message);
    over = 1;
    return NULL;
}

static void end_server(void)
{
    cohort_stop_trigger(stop);
    pthread_join(thread, NULL);
    cohort_options_destroy(options);
    cohort_stop_destroy(stop);
    (void)file_remove_all(folder, NULL);
}

static void nap(long milliseconds) { nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL); }

static void set_up(void)
{
    cohort_error err;
    cohort_options *making = NULL;
    char model[64];
    if (mkdtemp(folder) == NULL)
        abort();
    snprintf(model, sizeof model, "%s/m", folder);
    must(cohort_options_create(&making, COHORT_INIT, &err), &err);
    set(making, "preset", "nano");
    set(making, "tokenizer", "bytes");
    set(making, "out", model);
    must(cohort_run(making, NULL, &err), &err);
    cohort_options_destroy(making);
    must(cohort_options_create(&options, COHORT_SERVE, &err), &err);
    set(options, "model", model);
    set(options, "port", "0");
    set(options, "threads", "1");
    set(options, "max_context", "1000");
    set(options, "max_score", "200");
    set(options, "max_body", "0.01");
    set(options, "read_timeout", "1");
    set(options, "max_completion_length", "6");
    set(options, "drain", "0");
    must(cohort_stop_create(&stop, &err), &err);
    must(cohort_options_set_stop(options, stop, &err), &err);
    cohort_observer_init(&observer);
    observer.message = hear;
    if (pthread_create(&thread, NULL, run_server, NULL) != 0)
        abort();
    while (port == 0 && over == 0)
        nap(5);
    if (over != 0)
        exit(77); /* a build without libmicrohttpd */
    atexit(end_server);
}

static int connect_here(void)
{
    const struct timeval seconds = {.tv_sec = SECONDS};
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) != 0)
        abort();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &seconds, sizeof seconds);
    return fd;
}

/* What comes until the connection ends, at most most bytes; -1: nothing for SECONDS. */
static ssize_t receive(int fd, char *to, size_t most)
{
    size_t n = 0;
    while (n < most) {
        const ssize_t got = recv(fd, to + n, most - n, 0);
        if (got < 0)
            return n == 0 ? -1 : (ssize_t)n; /* reset: what was sent and not read came too late */
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static void send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        const ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* it has heard enough */
        bytes += n;
        length -= (size_t)n;
    }
}

/* The status that an answer begins with; 0: none. */
static int status_of(const char *answer, ssize_t n)
{
    return n > 12 && memcmp(answer, "HTTP/1.", 7) == 0 ? atoi(answer + 9) : 0;
}

/* GET path; its answer is in to, NUL-terminated. */
static int get(const char *path, char *to)
{
    char request[200];
    const int fd = connect_here(),
              length = snprintf(request, sizeof request,
                                "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    send_all(fd, request, (size_t)length);
    const ssize_t n = receive(fd, to, ANSWER - 1);
    close(fd);
    to[n > 0 ? n : 0] = '\0';
    return status_of(to, n);
}

/* It is healthy, and when nothing runs all pages are back. */
static void look(void)
{
    static char answer[ANSWER];
    if (get("/health", answer) != 200)
        abort();
    for (int tries = 0; tries < 4000; tries++) {
        if (get("/metrics", answer) != 200)
            abort();
        if (strstr(answer, "\ncohort_kv_pages_used 0\n") != NULL &&
            strstr(answer, "\ncohort_requests_running 0\n") != NULL &&
            strstr(answer, "\ncohort_requests_waiting 0\n") != NULL)
            return;
        nap(5);
    }
    fprintf(stderr, "%s\n", answer);
    abort();
}

static bool ask(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/messages",
                                        "/v1/responses",        "/score",          "/tokenize",
                                        "/detokenize",          "/apply-template"};
    static char answer[ANSWER];
    char head[200];
    if (size == 0)
        return false;
    if (port == 0)
        set_up();
    const unsigned how = data[0];
    const int fd = connect_here();
    if ((how & 16) == 0) {
        const int length = snprintf(head, sizeof head,
                                    "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
                                    "application/json\r\nContent-Length: %zu\r\n\r\n",
                                    paths[how & 7], size - 1);
        send_all(fd, head, (size_t)length);
    }
    send_all(fd, (const char *)data + 1, size - 1);
    int status = 0;
    if ((how & 8) != 0) {
        (void)recv(fd, answer, 1 + how, MSG_DONTWAIT);
    } else {
        if ((how & 16) != 0)
            shutdown(fd, SHUT_WR);
        const ssize_t n = receive(fd, answer, sizeof answer);
        status = status_of(answer, n);
        if (((how & 16) == 0 && status == 0) || status == 500)
            abort();
    }
    close(fd);
    if (over != 0)
        abort();
    if (++n_asked % LOOK == 0)
        look();
    return (how & 24) == 0 ? status == 200 : true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)ask(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
/* The low five bits of the first letter: a route, 8 (cut off), 16 (all that is sent). '@' is 0, 'A' 1 ... 'P' 16. */
static const char *const texts[] = {
    "@{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0.5, \"stop\": [\"a\", \"b\"], "
    "\"seed\": 1}",
    "@{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"stream\": true, \"n\": 3, \"logprobs\": true, "
    "\"top_logprobs\": 2, \"stream_options\": {\"include_usage\": true}}",
    "@{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"response_format\": {\"type\": \"json_schema\", "
    "\"json_schema\": {\"schema\": {\"enum\": [1, 22]}}}, \"max_tokens\": 9}",
    "@{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tool_choice\": \"required\", \"max_tokens\": 40, "
    "\"tools\": "
    "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}]}",
    "A{\"prompt\": [\"ab\", \"b\"], \"n\": 2, \"logit_bias\": {\"97\": -1}, \"logprobs\": 2, \"echo\": true, "
    "\"min_tokens\": 2}",
    "A{\"prompt\": [[1, 2], [3]], \"max_tokens\": 5, \"stop_token_ids\": [1], \"stream\": true, \"guided_regex\": "
    "\"[ab]+\"}",
    "A{\"prompt\": \"x\", \"prompt_logprobs\": 1, \"logprobs_mode\": \"temperature\", \"logprobs\": 0, \"ignore_eos\": "
    "true}",
    "B{\"max_tokens\": 5, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"stream\": true}",
    "C{\"input\": \"x\", \"stream\": true, \"max_output_tokens\": 4}",
    "D{\"prompt\": \"x\", \"tokens\": [1, 2, 3], \"top_logprobs\": 2}",
    "E{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
    "F{\"tokens\": [104, 105]}",
    "G{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
    "H{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"stream\": true, \"max_tokens\": 300, "
    "\"ignore_eos\": true}",
    "I{\"prompt\": \"x\", \"max_tokens\": 300, \"ignore_eos\": true}",
    "PGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.0\r\n\r\n",
    "PPOST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{\"content\": "
    "\"x\"}\r\n0\r\n\r\n",
    "XPOST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\nExpect: "
    "100-continue\r\n\r\n{\"prompt\":"};
static const char *const words[] = {"\"n\": 4, ",
                                    "null",
                                    "[]",
                                    "{}",
                                    "\"\"",
                                    "-1",
                                    "1e308",
                                    "\"stream\": true, ",
                                    "\"stop\": \"e\", ",
                                    "\"min_tokens\": 3, ",
                                    "\"logprobs\": 1, ",
                                    "\"prompt_logprobs\": 1, ",
                                    "\\u0000",
                                    "\\ud800",
                                    "[[[[[[[[",
                                    "\"guided_choice\": [\"a\"], ",
                                    "\"grammar\": \"root ::= [a-c]+\", ",
                                    "\"enable_thinking\": false, ",
                                    "\r\n",
                                    "Content-Length: ",
                                    "HTTP/1.1"};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "serve",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = ask,
                                       .words = words,
                                       .n_words = sizeof words / sizeof words[0],
                                       .max_size = 1200,
                                       .seconds = 0.1}; /* the server takes ten times as much, and both wait */
    return fuzz_run_texts(&target, texts, sizeof texts / sizeof texts[0], argc, argv);
}
#endif
