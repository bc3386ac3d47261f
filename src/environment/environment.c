#include "environment/environment_internal.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/number.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double READY_S = 60.0, GRACE_S = 2.0, GOODBYE_S = 5.0;

#define WORD(id, word, lost) word,
static const char *const end_words[] = {ENVIRONMENT_END_LIST(WORD)};
#undef WORD
#define LOST(id, word, lost) lost,
static const bool end_loses[] = {ENVIRONMENT_END_LIST(LOST)};
#undef LOST

const char *environment_end_word(enum environment_end end) { return end_words[end]; }
bool environment_end_loses(enum environment_end end) { return end_loses[end]; }

void environment_tell(const struct environment *env, const char *format, ...)
{
    char line[1200];
    va_list list;
    if (env->options.tell == NULL)
        return;
    va_start(list, format);
    (void)number_vformat(line, sizeof line, format, list);
    va_end(list);
    env->options.tell(env->options.tell_context, line);
}

/* ---- Episodes and events ---- */

static void episode_free(struct environment *env, struct environment_episode *ep)
{
    *(ep->previous != NULL ? &ep->previous->next_one : &env->first) = ep->next_one;
    *(ep->next_one != NULL ? &ep->next_one->previous : &env->last) = ep->previous;
    json_decref(ep->begin);
    json_decref(ep->next);
    mem_free(ep);
}

static void release_place(struct environment_episode *ep)
{
    if (ep->worker != NULL)
        ep->worker->taken--;
    ep->worker = NULL;
}

bool environment_push(struct environment *env, struct environment_episode *ep, enum environment_event_kind kind,
                      json_t *body, enum environment_end end, const char *why)
{
    if (mem_grow(&env->events, &env->event_room, env->n_events + 1, sizeof *env->events, "events", NULL) != COHORT_OK) {
        json_decref(body);
        return false;
    }
    struct pushed *pushed = &env->events[env->n_events++];
    *pushed = (struct pushed){.episode = ep, .event = {.owner = ep->owner, .kind = kind, .body = body, .end = end}};
    snprintf(pushed->event.why, sizeof pushed->event.why, "%s", why == NULL ? "" : why);
    if (kind != ENVIRONMENT_ENDED)
        return true;
    ep->over = true;
    if (!ep->stuck)
        release_place(ep);
    return true;
}

bool environment_poll(struct environment *env, struct environment_event *event)
{
    while (env->n_polled < env->n_events) {
        struct pushed *pushed = &env->events[env->n_polled++];
        *event = pushed->event;
        if (pushed->event.kind == ENVIRONMENT_ENDED) {
            pushed->episode->polled = true;
            if (!pushed->episode->stuck)
                episode_free(env, pushed->episode);
        }
        if (event->owner != NULL)
            return true;
        json_decref(event->body); /* of a rollout that was given up */
    }
    env->n_polled = env->n_events = 0;
    return false;
}

void environment_unstick(struct environment *env, struct environment_episode *ep)
{
    ep->worker->stuck--;
    ep->stuck = false;
    release_place(ep);
    if (ep->polled)
        episode_free(env, ep);
}

void environment_abandon(struct environment *env)
{
    struct environment_event event;
    for (struct environment_episode *ep = env->first; ep != NULL; ep = ep->next_one)
        ep->owner = NULL;
    while (environment_poll(env, &event))
        json_decref(event.body);
    for (struct environment_episode *ep = env->first, *next = NULL; ep != NULL; ep = next) {
        next = ep->next_one;
        if (ep->stuck)
            continue;
        if (ep->worker == NULL || ep->over) { /* never begun */
            release_place(ep);
            episode_free(env, ep);
            continue;
        }
        (void)environment_finish(env, ep, ENVIRONMENT_CANCELLED, NULL);
    }
}

cohort_status environment_begin(struct environment *env, const char *id, json_t *begin, void *owner,
                                struct environment_episode **out, cohort_error *err)
{
    struct environment_episode *ep = NULL;
    cohort_status status = mem_alloc(&ep, 1, sizeof *ep, "episode", err);
    if (status == COHORT_OK && begin == NULL)
        status = error_set(err, COHORT_ERR_MEMORY, "an episode: out of memory");
    if (status != COHORT_OK) {
        mem_free(ep);
        json_decref(begin);
        return status;
    }
    snprintf(ep->id, sizeof ep->id, "%s", id);
    ep->owner = owner;
    ep->begin = begin;
    ep->previous = env->last;
    *(env->last != NULL ? &env->last->next_one : &env->first) = ep;
    env->last = ep;
    *out = ep;
    return COHORT_OK;
}

cohort_status environment_turn(struct environment *env, struct environment_episode *ep, json_t *turn, int32_t number,
                               int32_t n_calls, cohort_error *err)
{
    (void)env;
    if (turn == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "a turn: out of memory");
    if (ep->over) {
        json_decref(turn);
        return COHORT_OK;
    }
    assert(ep->next == NULL && (ep->state == IDLE || ep->state == QUEUED || ep->state == BEGINNING));
    ep->next = turn;
    ep->turn = number;
    ep->n_calls = n_calls;
    return COHORT_OK;
}

cohort_status environment_finish(struct environment *env, struct environment_episode *ep, enum environment_end end,
                                 cohort_error *err)
{
    (void)env;
    if (ep->over)
        return COHORT_OK;
    json_decref(ep->next);
    ep->next = json_pack("{s:s}", "reason", environment_end_word(end));
    if (ep->next == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "the end of an episode: out of memory");
    ep->finishes = true;
    ep->end = end;
    return COHORT_OK;
}

/* ---- Lines to programs ---- */

/* Appends an object as a line of ASCII, with its type and id first. fields: taken over. */
static cohort_status append_line(struct text *out, const char *type, const char *id, json_t *fields, cohort_error *err)
{
    json_t *line = json_pack("{s:s}", "type", type);
    bool made = line != NULL && fields != NULL;
    if (made && id != NULL)
        made = json_object_set_new(line, "id", json_string(id)) == 0;
    made = made && json_object_update(line, fields) == 0;
    json_decref(fields);
    cohort_status status = made ? json_text_write(line, JSON_COMPACT | JSON_ENSURE_ASCII, out, err)
                                : error_set(err, COHORT_ERR_MEMORY, "a line for an environment: out of memory");
    json_decref(line);
    return status == COHORT_OK ? text_append(out, "\n", 1, err) : status;
}

static cohort_status say_hello(struct worker *w, cohort_error *err)
{
    const struct environment_options *o = &w->environment->options;
    json_t *limits =
        json_pack("{s:i, s:f, s:i}", "line_bytes", (int)LINE_LIMIT, "turn_s", o->turn_s, "turns", (int)o->turns);
    json_t *hello = json_pack("{s:[i], s:i, s:i, s:I, s:o}", "protocol", 1, "worker", w->index, "workers", o->workers,
                              "seed", (json_int_t)o->seed, "limits", limits);
    if (hello != NULL && o->run != NULL)
        json_object_set_new(hello, "run", json_string(o->run));
    if (hello != NULL && o->episode_s > 0)
        json_object_set_new(json_object_get(hello, "limits"), "episode_s", json_real(o->episode_s));
    return append_line(&w->out, "hello", NULL, hello, err);
}

static cohort_status start_worker(struct worker *w, cohort_error *err)
{
    const struct environment_options *o = &w->environment->options;
    char who[160];
    w->ready = false;
    w->places = w->taken = w->stuck = w->foreign = 0;
    w->out.length = w->sent = 0;
    w->deadline = clock_seconds() + READY_S;
    snprintf(who, sizeof who, "environment '%.100s'", o->label);
    if (o->arguments != NULL)
        TRY(child_start(&w->child, who, o->arguments, err));
    w->runs = true;
    return say_hello(w, err);
}

/* What an episode has to say goes to its program: it has a place there and nothing is asked. */
static cohort_status say_next(struct environment *env, struct environment_episode *ep, cohort_error *err)
{
    const double now = clock_seconds();
    json_t *fields = NULL;
    const char *type = NULL;
    if (ep->state == QUEUED) {
        fields = ep->begin;
        ep->begin = NULL;
        ep->state = BEGINNING;
        type = "begin";
    } else {
        fields = ep->next;
        ep->next = NULL;
        ep->state = ep->finishes ? FINISHING : ASKED;
        type = ep->finishes ? "finish" : "turn";
    }
    ep->asked_at = now;
    ep->deadline = env->options.turn_s > 0 ? now + env->options.turn_s : (double)INFINITY;
    if (env->options.episode_s > 0 && now + env->options.episode_s - ep->spent < ep->deadline)
        ep->deadline = now + env->options.episode_s - ep->spent;
    return append_line(&ep->worker->out, type, ep->id, fields, err);
}

static struct worker *free_worker(struct environment *env)
{
    struct worker *best = NULL;
    for (int i = 0; i < env->options.workers; i++) {
        struct worker *w = &env->workers[i];
        if (w->ready && w->taken < w->places && (best == NULL || w->places - w->taken > best->places - best->taken))
            best = w;
    }
    return best;
}

static cohort_status say_all(struct environment *env, cohort_error *err)
{
    struct worker *w = free_worker(env);
    for (struct environment_episode *ep = env->first; ep != NULL; ep = ep->next_one) {
        if (ep->over)
            continue;
        if (ep->state == QUEUED && ep->worker == NULL && w != NULL && (ep->next != NULL || env->observes)) {
            ep->worker = w;
            w->taken++;
            w = free_worker(env);
        }
        if (ep->worker != NULL && (ep->state == QUEUED || (ep->state == IDLE && ep->next != NULL)))
            TRY(say_next(env, ep, err));
    }
    return COHORT_OK;
}

/* ---- What programs do wrong ---- */

/* ended: it may have ended by itself. */
static cohort_status worker_died(struct worker *w, const char *problem, bool ended, cohort_error *err)
{
    struct environment *env = w->environment;
    char why[700];
    const bool by_itself = ended && child_has_ended(&w->child);
    if (by_itself && stop_follows(env->options.stop))
        return stop_check(env->options.stop, err);
    child_end(&w->child, 0);
    child_describe(&w->child, problem, by_itself, false, why, sizeof why);
    child_free(&w->child);
    w->runs = w->ready = false;
    for (struct environment_episode *ep = env->first, *next = NULL; ep != NULL; ep = next) {
        next = ep->next_one;
        if (ep->worker != w)
            continue;
        if (ep->stuck)
            environment_unstick(env, ep);
        else if (!environment_push(env, ep, ENVIRONMENT_ENDED, NULL, ENVIRONMENT_DIED, why))
            return error_set(err, COHORT_ERR_MEMORY, "events of an environment: out of memory");
    }
    env->deaths++;
    if (!env->opened || env->deaths >= MOST_DEATHS) {
        snprintf(env->failure, sizeof env->failure, "%s", why);
        return env->opened ? error_set(err, COHORT_ERR_REWARD,
                                       "environment '%.100s': died %d times while one batch was drawn: %s",
                                       env->options.label, (int)env->deaths, why)
                           : error_set(err, COHORT_ERR_REWARD, "environment '%.100s': %s", env->options.label, why);
    }
    environment_tell(env, "warning: environment '%.100s', worker %d of %d: %s; it is started again", env->options.label,
                     w->index + 1, env->options.workers, why);
    return start_worker(w, err);
}

/* Out of time: the episode is lost for its owner, and its program has a little more time to say so. */
static cohort_status run_out(struct environment *env, struct environment_episode *ep, cohort_error *err)
{
    char why[200];
    const bool whole =
                   env->options.episode_s > 0 && clock_seconds() - ep->asked_at + ep->spent >= env->options.episode_s,
               finishing = ep->state == FINISHING;
    const enum environment_end end = whole ? ENVIRONMENT_EPISODE_TIME : ENVIRONMENT_TURN_TIME;
    number_format(why, sizeof why, "no answer to \"%s\" within %g s",
                  ep->state == BEGINNING ? "begin"
                  : finishing            ? "finish"
                                         : "turn",
                  whole ? env->options.episode_s : env->options.turn_s);
    ep->stuck = true;
    ep->worker->stuck++;
    ep->deadline = clock_seconds() + GRACE_S;
    if (!environment_push(env, ep, ENVIRONMENT_ENDED, NULL, end, why))
        return error_set(err, COHORT_ERR_MEMORY, "events of an environment: out of memory");
    return finishing ? COHORT_OK
                     : append_line(&ep->worker->out, "finish", ep->id,
                                   json_pack("{s:s}", "reason", environment_end_word(end)), err);
}

static cohort_status look_at_clocks(struct environment *env, cohort_error *err)
{
    const double now = clock_seconds();
    for (struct environment_episode *ep = env->first; ep != NULL; ep = ep->next_one)
        if (!ep->over && ep->worker != NULL && ep->state != IDLE && ep->state != QUEUED && now > ep->deadline)
            TRY(run_out(env, ep, err));
    for (int i = 0; i < env->options.workers; i++) {
        struct worker *w = &env->workers[i];
        bool hangs = w->ready && w->stuck > 0 && w->stuck == w->places;
        for (struct environment_episode *ep = env->first; hangs && ep != NULL; ep = ep->next_one)
            hangs = !(ep->stuck && ep->worker == w && now <= ep->deadline);
        if (hangs)
            TRY(worker_died(w, "answers none of its episodes in time", false, err));
        else if (w->runs && !w->ready && now > w->deadline)
            TRY(worker_died(w, "did not say {\"type\":\"ready\"} within 60 s", false, err));
    }
    return COHORT_OK;
}

/* ---- Moving lines ---- */

/* Takes the whole lines of what was read. */
static cohort_status take_lines(struct worker *w, cohort_error *err)
{
    struct text *text = &w->child.output;
    size_t start = 0;
    char why[400] = "";
    bool good = true;
    while (good && start < text->length) {
        const char *line = text->data + start, *newline = memchr(line, '\n', text->length - start);
        if (newline == NULL)
            break;
        size_t length = (size_t)(newline - line);
        start += length + 1;
        if (length > 0 && line[length - 1] == '\r')
            length--;
        good = environment_line(w, line, length, why, sizeof why);
    }
    text->length -= start;
    memmove(text->data, text->data + start, text->length);
    if (good && text->length > LINE_LIMIT) {
        snprintf(why, sizeof why, "said a line of more than %d bytes", (int)LINE_LIMIT);
        good = false;
    }
    return good ? COHORT_OK : worker_died(w, why, false, err);
}

static void write_out(struct worker *w)
{
    while (w->sent < w->out.length && w->child.to >= 0) {
        const ssize_t n = child_write(&w->child, w->out.data + w->sent, w->out.length - w->sent);
        if (n <= 0) {
            if (n < 0 && errno != EAGAIN && errno != EINTR)
                child_close_input(&w->child); /* its end is found where it is read */
            return;
        }
        w->sent += (size_t)n;
    }
    w->out.length = w->sent = 0;
}

static cohort_status read_worker(struct worker *w, cohort_error *err)
{
    if (w->child.errors >= 0 && !child_read_errors(&w->child))
        return error_set(err, COHORT_ERR_MEMORY, "output of an environment: out of memory");
    for (int i = 0; i < 64 && w->child.from >= 0; i++) { /* a flood is taken in parts */
        const size_t before = w->child.output.length;
        if (!child_read(&w->child))
            return error_set(err, COHORT_ERR_MEMORY, "output of an environment: out of memory");
        if (w->child.output.length == before)
            break;
        TRY(take_lines(w, err));
        if (!w->runs || w->child.from < 0)
            return COHORT_OK;
    }
    if (w->child.from < 0 && w->runs)
        return worker_died(w, child_wait(&w->child, 1000) ? "ended" : "closed its standard output", true, err);
    return COHORT_OK;
}

static cohort_status pump_programs(struct environment *env, double seconds, cohort_error *err)
{
    const size_t n = (size_t)env->options.workers;
    struct pollfd *polled = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&polled, 3 * n, sizeof *polled, "environment", err));
    for (size_t i = 0; i < n; i++) {
        const struct worker *w = &env->workers[i];
        const int fds[3] = {w->child.from, w->child.errors, w->sent < w->out.length ? w->child.to : -1};
        for (int k = 0; k < 3; k++)
            polled[3 * i + (size_t)k] =
                (struct pollfd){.fd = w->runs ? fds[k] : -1, .events = k == 2 ? POLLOUT : POLLIN};
    }
    const int found = poll(polled, 3 * n, (int)ceil(seconds * 1e3));
    if (found < 0 && errno != EINTR)
        status = error_set(err, COHORT_ERR_IO, "environment: poll failed: %s", strerror(errno));
    for (size_t i = 0; i < n && status == COHORT_OK && found > 0; i++) {
        struct worker *w = &env->workers[i];
        if (polled[3 * i + 2].revents != 0)
            write_out(w);
        if (polled[3 * i].revents != 0 || polled[3 * i + 1].revents != 0)
            status = read_worker(w, err);
    }
    mem_free(polled);
    return status;
}

/* Hands the lines that wait to the function, one by one, and lets it say what it could not say before. */
static cohort_status pump_function(struct environment *env, cohort_error *err)
{
    struct worker *w = &env->workers[0];
    struct text out = w->out;
    size_t at = 0;
    cohort_status status = COHORT_OK;
    memset(&w->out, 0, sizeof w->out);
    env->in_function = true;
    while (status == COHORT_OK && at < out.length) {
        char *newline = memchr(out.data + at, '\n', out.length - at);
        *newline = '\0';
        const size_t length = (size_t)(newline - (out.data + at));
        status = env->options.function(env->options.context, env, out.data + at, length, err);
        at += length + 1;
    }
    if (status == COHORT_OK)
        status = env->options.function(env->options.context, env, NULL, 0, err);
    env->in_function = false;
    text_free(&out);
    return status;
}

cohort_status environment_say(struct environment *env, const char *line, size_t length, cohort_error *err)
{
    char why[400];
    if (env->options.function == NULL || !env->in_function)
        return error_set(err, COHORT_ERR_STATE, "an environment is answered from within its function");
    if (!environment_line(&env->workers[0], line, length, why, sizeof why))
        return error_set(err, COHORT_ERR_REWARD, "environment '%.100s': %s", env->options.label, why);
    return COHORT_OK;
}

cohort_status environment_pump(struct environment *env, double seconds, cohort_error *err)
{
    static const double look_s = 0.02;
    if (env->failure[0] != '\0')
        return error_set(err, COHORT_ERR_REWARD, "environment '%.100s': stopped by an earlier failure: %s",
                         env->options.label, env->failure);
    for (double end = clock_seconds() + seconds;;) {
        TRY(stop_check(env->options.stop, err));
        TRY(say_all(env, err));
        const double left = end - clock_seconds(), wait = left < look_s ? left : look_s;
        if (env->options.function != NULL) {
            const size_t before = env->n_events;
            TRY(pump_function(env, err));
            if (env->n_events == before && wait > 0)
                (void)poll(NULL, 0, 1);
        } else {
            for (int i = 0; i < env->options.workers; i++)
                write_out(&env->workers[i]);
            TRY(pump_programs(env, env->n_polled < env->n_events || wait < 0 ? 0 : wait, err));
        }
        TRY(look_at_clocks(env, err));
        if (env->n_polled < env->n_events || clock_seconds() >= end)
            return say_all(env, err);
    }
}

/* ---- The life of one ---- */

static bool all_ready(const struct environment *env)
{
    for (int i = 0; i < env->options.workers; i++)
        if (!env->workers[i].ready)
            return false;
    return true;
}

cohort_status environment_open(struct environment **out, const struct environment_options *options, cohort_error *err)
{
    struct environment *env = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&env, 1, sizeof *env, "environment", err));
    env->options = *options;
    if (env->options.function != NULL)
        env->options.workers = 1;
    TRY_GOTO(mem_alloc(&env->workers, (size_t)env->options.workers, sizeof *env->workers, "environment", err));
    for (int i = 0; i < env->options.workers; i++)
        env->workers[i] = (struct worker){.environment = env, .index = i, .child = child_empty};
    for (int i = 0; i < env->options.workers; i++)
        TRY_GOTO(start_worker(&env->workers[i], err));
    while (!all_ready(env))
        TRY_GOTO(environment_pump(env, 0.05, err));
    env->opened = true;
    *out = env;
    return COHORT_OK;
cleanup:
    environment_close(env);
    return status;
}

void environment_close(struct environment *env)
{
    struct environment_event event;
    if (env == NULL)
        return;
    for (int i = 0; env->workers != NULL && i < env->options.workers; i++) {
        struct worker *w = &env->workers[i];
        if (!w->runs || env->options.function != NULL)
            continue;
        if (append_line(&w->out, "stop", NULL, json_object(), NULL) == COHORT_OK)
            write_out(w);
        child_close_input(&w->child);
    }
    const double end = clock_seconds() + GOODBYE_S;
    for (int i = 0; env->workers != NULL && i < env->options.workers; i++) {
        struct worker *w = &env->workers[i];
        const double left = env->failure[0] != '\0' ? 0.0 : end - clock_seconds();
        child_end(&w->child, left > 0 ? (int)(left * 1e3) : 0);
        child_free(&w->child);
        text_free(&w->out);
    }
    while (environment_poll(env, &event))
        json_decref(event.body);
    while (env->first != NULL)
        episode_free(env, env->first);
    mem_free(env->workers);
    mem_free(env->events);
    mem_free(env->latencies);
    json_decref(env->tools);
    mem_free(env);
}

const json_t *environment_tools(const struct environment *env) { return env->tools; }

bool environment_observes(const struct environment *env) { return env->observes; }

bool environment_is_tools(const struct environment *env) { return env->is_tools; }

bool environment_rewards(const struct environment *env) { return env->rewards; }

int64_t environment_places(const struct environment *env)
{
    int64_t n = 0;
    for (int i = 0; i < env->options.workers; i++)
        n += env->workers[i].places;
    return n;
}

void environment_new_round(struct environment *env)
{
    env->deaths = env->late = 0;
    env->n_latencies = 0;
}

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

cohort_status environment_figures(struct environment *env, struct environment_figures *out, cohort_error *err)
{
    const size_t n = env->n_latencies;
    double sum = 0.0;
    (void)err;
    if (n > 0)
        qsort(env->latencies, n, sizeof *env->latencies, compare_seconds);
    for (size_t i = 0; i < n; i++)
        sum += env->latencies[i];
    *out = (struct environment_figures){.late = env->late,
                                        .deaths = env->deaths,
                                        .turns = (int64_t)n,
                                        .latency_mean = n > 0 ? sum / (double)n : 0.0,
                                        .latency_p50 = n > 0 ? env->latencies[(n - 1) / 2] : 0.0,
                                        .latency_p99 = n > 0 ? env->latencies[(n - 1) * 99 / 100] : 0.0};
    return COHORT_OK;
}
