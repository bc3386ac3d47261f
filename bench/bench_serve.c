/* The server against its own engine, in turn: how many tokens a second come of so many streams, as a share of what the engine
 * gives when nobody stands between, and how much later a first token comes under load, in steps of the engine. Every stream asks
 * for the next completion when one has ended; lengths differ, prompts begin differently.
 *
 *   cc -O2 -D_GNU_SOURCE -Iinclude bench/bench_serve.c -Lbuild -lcohort -Wl,-rpath,$PWD/build -o build/bench_serve
 *   build/bench_serve PROGRAM MODEL [STREAMS [TOKENS [PROMPT [DEVICE [THREADS [ROUNDS]]]]]]
 *
 * 64 streams, 128 tokens in the middle, prompts of 32, the CPU with all threads, 3 rounds. $FIELDS: more fields of the requests
 * ("return_token_ids": true, so that every token is told, also those that end no character). On a CPU the client's own work is
 * part of the wall clock's share; the share of processor time leaves it out. */
#include "cohort.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAVES = 4, TAIL = 7, MOST_ROUNDS = 99, MOST_STEPS = 1 << 20 };

struct work {
    const char *program, *model, *device, *threads, *fields;
    int streams, tokens, prompt, rounds, n;
};
struct result {
    double seconds, processor, p50, p99, step; /* step: seconds of one, in the middle */
    long tokens;
};

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_serve: %s\n", what);
    exit(1);
}

static void must(cohort_status status, const cohort_error *err)
{
    if (status != COHORT_OK)
        fail(err->message);
}

static int length_of(const struct work *w, int request) { return w->tokens / 2 + 1 + request * 37 % w->tokens; }

static void prompt_of(const struct work *w, int request, int32_t *ids)
{
    for (int i = 0; i < w->prompt; i++)
        ids[i] = 32 + (request * 31 + i * 7 + request / 90 * (i + 1)) % 90;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_size);
    return values[n / 2];
}

/* Of the requests behind the first wave, which come one by one while others decode. */
static void latencies(const struct work *w, const double *first, struct result *out)
{
    const int n = w->n - w->streams;
    double *sorted = malloc((size_t)n * sizeof *sorted);
    if (sorted == NULL)
        fail("out of memory");
    memcpy(sorted, first + w->streams, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    out->p50 = sorted[n / 2];
    out->p99 = sorted[n * 99 / 100];
    free(sorted);
}

/* ---- The engine ---- */

struct alone {
    const struct work *w;
    cohort_model *model;
    double *sent, *first;
    int next;
};

static void submit(struct alone *a)
{
    const int at = a->next++;
    int32_t ids[8192];
    int64_t id = 0;
    cohort_error err;
    cohort_request request;
    cohort_request_init(&request);
    prompt_of(a->w, at, ids);
    request.prompt = ids;
    request.n_prompt = (size_t)a->w->prompt;
    request.max_tokens = length_of(a->w, at);
    request.ignore_eos = true;
    request.seed = (uint64_t)at;
    request.stream = cohort_prompt_stream(ids, request.n_prompt, 0);
    a->sent[at] = now(CLOCK_MONOTONIC);
    must(cohort_submit(a->model, &request, &id, &err), &err);
    if (id % a->w->n != at % a->w->n)
        fail("requests have other numbers than expected");
}

static void on_token(void *context, int64_t request, int32_t index, int32_t token, float logprob, const char *text,
                     size_t length, const char *finish_reason)
{
    struct alone *a = context;
    const int at = (int)(request % a->w->n);
    (void)index, (void)token, (void)logprob, (void)text, (void)length;
    if (a->first[at] == 0)
        a->first[at] = now(CLOCK_MONOTONIC) - a->sent[at];
    if (finish_reason[0] != '\0' && a->next < a->w->n)
        submit(a);
}

static struct result engine_round(struct alone *a)
{
    struct result out = {0};
    static double each[MOST_STEPS];
    int steps = 0;
    cohort_error err;
    cohort_completion c;
    const double begin = now(CLOCK_MONOTONIC), worked = now(CLOCK_PROCESS_CPUTIME_ID);
    memset(a->first, 0, (size_t)a->w->n * sizeof *a->first);
    cohort_completion_init(&c);
    a->next = 0;
    while (a->next < a->w->streams)
        submit(a);
    for (bool busy = true, found = true; busy; steps++) {
        const double from = now(CLOCK_MONOTONIC);
        must(cohort_step(a->model, &busy, &err), &err);
        each[steps % MOST_STEPS] = now(CLOCK_MONOTONIC) - from;
        for (found = true; found;) {
            must(cohort_poll(a->model, &c, &found, &err), &err);
            out.tokens += found ? (long)c.n_tokens : 0;
            cohort_completion_free(&c);
        }
    }
    out.seconds = now(CLOCK_MONOTONIC) - begin;
    out.processor = now(CLOCK_PROCESS_CPUTIME_ID) - worked;
    out.step = middle(each, steps < MOST_STEPS ? steps : MOST_STEPS);
    latencies(a->w, a->first, &out);
    return out;
}

static void engine_open(struct alone *a, const struct work *w)
{
    char number[16];
    cohort_error err;
    cohort_options *options = NULL;
    *a = (struct alone){
        .w = w, .sent = calloc((size_t)w->n, sizeof(double)), .first = calloc((size_t)w->n, sizeof(double))};
    snprintf(number, sizeof number, "%d", w->streams);
    must(cohort_options_create(&options, COHORT_GENERATE, &err), &err);
    must(cohort_options_set(options, "model", w->model, "bench_serve", &err), &err);
    must(cohort_options_set(options, "device", w->device, "bench_serve", &err), &err);
    must(cohort_options_set(options, "threads", w->threads, "bench_serve", &err), &err);
    must(cohort_options_set(options, "decode_concurrency", number, "bench_serve", &err), &err);
    must(cohort_model_open(&a->model, options, w->prompt + 2 * w->tokens, &err), &err);
    cohort_options_destroy(options);
    cohort_on_token(a->model, on_token, a);
}

/* ---- The server ---- */

struct server {
    pid_t pid;
    int port;
    FILE *log;
};

static void server_open(struct server *s, const struct work *w)
{
    int ends[2];
    char streams[16], context[16], waiting[16], line[512];
    snprintf(streams, sizeof streams, "%d", w->streams);
    snprintf(context, sizeof context, "%d", w->prompt + 2 * w->tokens);
    snprintf(waiting, sizeof waiting, "%d", 2 * w->streams);
    if (pipe(ends) != 0 || (s->pid = fork()) < 0)
        fail("cannot start the server");
    if (s->pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        execl(w->program, w->program, "serve", "--model", w->model, "--device", w->device, "--threads", w->threads,
              "--port", "0", "--decode-concurrency", streams, "--max-context", context, "--max-waiting", waiting,
              "--max-connections", "65536", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    s->log = fdopen(ends[0], "r");
    while (s->log != NULL && fgets(line, sizeof line, s->log) != NULL) {
        const char *colon = strrchr(line, ':');
        if (strncmp(line, "serving ", 8) == 0 && colon != NULL) {
            s->port = atoi(colon + 1);
            return;
        }
    }
    fail("the server did not start");
}

static double processor_of(pid_t pid)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    const char *rest = file != NULL && fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
    if (rest == NULL || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        fail("/proc cannot be read");
    fclose(file);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

struct client {
    int fd, request;
    double sent;
    bool first;
    char tail[TAIL];
};

static void ask(struct client *c, const struct work *w, int request)
{
    int32_t ids[8192];
    static char body[1 << 17], head[256];
    size_t n = 0;
    prompt_of(w, request, ids);
    for (int i = 0; i < w->prompt; i++)
        n += (size_t)snprintf(body + n, sizeof body - n, "%s%d", i == 0 ? "{\"prompt\": [" : ", ", (int)ids[i]);
    n +=
        (size_t)snprintf(body + n, sizeof body - n,
                         "], \"max_tokens\": %d, \"ignore_eos\": true, \"temperature\": 1, \"stream\": true, \"seed\": "
                         "%d%s%s}",
                         length_of(w, request), request, w->fields[0] != '\0' ? ", " : "", w->fields);
    const int m = snprintf(head, sizeof head,
                           "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n",
                           n);
    memmove(body + m, body, n);
    memcpy(body, head, (size_t)m);
    c->request = request;
    c->first = true;
    memset(c->tail, 0, sizeof c->tail);
    c->sent = now(CLOCK_MONOTONIC);
    if (send(c->fd, body, n + (size_t)m, MSG_NOSIGNAL) != (ssize_t)(n + (size_t)m)) /* small: it fits the socket */
        fail("a request could not be sent");
}

static int connect_to(int port)
{
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) != 0)
        fail("cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Whether the answer is there to its end. */
static bool take(struct client *c, double *first)
{
    static char bytes[1 << 16];
    static const char end[TAIL] = {'\r', '\n', '0', '\r', '\n', '\r', '\n'};
    const ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n <= 0)
        fail("the server hung up");
    if (c->first && memmem(bytes, (size_t)n, "data: ", 6) != NULL) {
        first[c->request] = now(CLOCK_MONOTONIC) - c->sent;
        c->first = false;
    }
    const size_t kept = (size_t)n < TAIL ? (size_t)n : TAIL;
    memmove(c->tail, c->tail + kept, TAIL - kept);
    memcpy(c->tail + TAIL - kept, bytes + (size_t)n - kept, kept);
    return memcmp(c->tail, end, TAIL) == 0;
}

static struct result server_round(const struct server *s, const struct work *w, double *first)
{
    struct result out = {0};
    struct client *clients = calloc((size_t)w->streams, sizeof *clients);
    struct epoll_event event, ready[64];
    const int epoll = epoll_create1(0);
    int next = 0, open = w->streams;
    if (clients == NULL)
        fail("out of memory");
    for (int i = 0; i < w->streams; i++) {
        clients[i].fd = connect_to(s->port);
        event = (struct epoll_event){.events = EPOLLIN, .data.ptr = &clients[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
    }
    const double begin = now(CLOCK_MONOTONIC), worked = processor_of(s->pid);
    for (int i = 0; i < w->streams; i++)
        ask(&clients[i], w, next++);
    while (open > 0) {
        const int n = epoll_wait(epoll, ready, 64, 60000);
        if (n == 0)
            fail("nothing came for a minute");
        for (int i = 0; i < n; i++) {
            struct client *c = ready[i].data.ptr;
            if (!take(c, first))
                continue;
            out.tokens += length_of(w, c->request);
            if (next < w->n)
                ask(c, w, next++);
            else
                open--;
        }
    }
    out.seconds = now(CLOCK_MONOTONIC) - begin;
    out.processor = processor_of(s->pid) - worked;
    for (int i = 0; i < w->streams; i++)
        close(clients[i].fd);
    close(epoll);
    free(clients);
    latencies(w, first, &out);
    return out;
}

/* ---- In turn ---- */

int main(int argc, char **argv)
{
    const char *fields = getenv("FIELDS");
    struct work w = {.fields = fields != NULL ? fields : "\"return_token_ids\": true"};
    if (argc < 3)
        fail("expected PROGRAM MODEL [STREAMS [TOKENS [PROMPT [DEVICE [THREADS [ROUNDS]]]]]]");
    w.program = argv[1];
    w.model = argv[2];
    w.streams = argc > 3 ? atoi(argv[3]) : 64;
    w.tokens = argc > 4 ? atoi(argv[4]) : 128;
    w.prompt = argc > 5 ? atoi(argv[5]) : 32;
    w.device = argc > 6 ? argv[6] : "cpu";
    w.threads = argc > 7 ? argv[7] : "0";
    w.rounds = argc > 8 ? atoi(argv[8]) : 3;
    w.n = WAVES * w.streams;
    if (w.streams < 1 || w.tokens < 2 || w.prompt < 1 || w.prompt > 8192 || w.rounds < 1 || w.rounds > MOST_ROUNDS)
        fail("a number is out of range");
    struct alone alone;
    struct server server = {0};
    double rate[MOST_ROUNDS], work[MOST_ROUNDS], late[MOST_ROUNDS], share[MOST_ROUNDS], half[MOST_ROUNDS];
    for (int i = 0; i < w.rounds; i++) {
        engine_open(&alone, &w); /* each has the machine's memory to itself */
        (void)engine_round(&alone);
        const struct result a = engine_round(&alone);
        cohort_model_close(alone.model);
        server_open(&server, &w);
        (void)server_round(&server, &w, alone.first);
        const struct result b = server_round(&server, &w, alone.first);
        kill(server.pid, SIGTERM);
        waitpid(server.pid, NULL, 0);
        fclose(server.log);
        free(alone.sent);
        free(alone.first);
        rate[i] = (double)b.tokens / b.seconds / ((double)a.tokens / a.seconds);
        work[i] = a.processor / (double)a.tokens / (b.processor / (double)b.tokens);
        late[i] = (b.p99 - a.p99) / a.step;
        half[i] = (b.p50 - a.p50) / a.step;
        share[i] = b.processor / (double)b.tokens * 1e6;
        printf("engine %.0f tok/s, %.0f us of processor time a token, first token %.1f ms in the middle, p99 %.1f ms, "
               "a step %.2f ms; "
               "server %.0f tok/s, %.0f us, %.1f ms, p99 %.1f ms\n",
               (double)a.tokens / a.seconds, a.processor / (double)a.tokens * 1e6, 1e3 * a.p50, 1e3 * a.p99,
               1e3 * a.step, (double)b.tokens / b.seconds, share[i], 1e3 * b.p50, 1e3 * b.p99);
        fflush(stdout);
    }
    printf("%d streams, medians of %d: the server gives %.1f %% of the engine's tokens a second (95), by processor "
           "time %.1f %%; a first "
           "token comes %.1f steps later in the middle, p99 %.1f (2)\n",
           w.streams, w.rounds, 100 * middle(rate, w.rounds), 100 * middle(work, w.rounds), middle(half, w.rounds),
           middle(late, w.rounds));
    return 0;
}
