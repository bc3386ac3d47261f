/* What a program says, line by line. */
#include "environment/environment_internal.h"

#include "base/clock.h"
#include "base/json_text.h"

#include <stdio.h>
#include <string.h>

static bool blank_line(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t')
            return false;
    return true;
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* Whether absent, null, or an integer from least on. */
static bool count_at(const json_t *object, const char *key, json_int_t least, json_int_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value))
        return true;
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= least && *out < (1 << 30);
}

static bool take_ready(struct worker *w, json_t *body, char *why, size_t size)
{
    struct environment *env = w->environment;
    json_int_t protocol = 0, places = 1;
    json_t *tools = json_object_get(body, "tools"), *tool = NULL;
    size_t i = 0;
    bool good = !w->ready && count_at(body, "protocol", 1, &protocol) && protocol == 1 &&
                count_at(body, "concurrency", 1, &places) &&
                (tools == NULL || json_is_null(tools) || json_is_array(tools));
    json_array_foreach(tools, i, tool) good = good && json_is_object(tool);
    if (!good) {
        snprintf(why, size,
                 "said \"ready\" with something else than \"protocol\": 1, \"concurrency\": a number from 1 on and "
                 "\"tools\": a list of schemas");
        return false;
    }
    if (json_array_size(tools) > 0 && env->tools == NULL)
        env->tools = json_incref(tools);
    env->observes = json_is_true(json_object_get(body, "observes"));
    env->is_tools = json_is_true(json_object_get(body, "tools_only"));
    env->rewards = !env->is_tools || json_is_true(json_object_get(body, "rewards"));
    w->places = (int32_t)places;
    w->ready = true;
    return true;
}

static bool take_log(struct worker *w, const json_t *body, size_t length, char *why, size_t size)
{
    const double now = clock_seconds();
    const char *message = text_at(body, "message");
    if (now - w->log_since > 1.0) {
        w->log_since = now;
        w->log_bytes = 0;
    }
    w->log_bytes += length;
    if (w->log_bytes > LOG_LIMIT) {
        snprintf(why, size, "said more than %d bytes of log in a second", (int)LOG_LIMIT);
        return false;
    }
    if (message != NULL)
        environment_tell(w->environment, "environment '%.100s': %.800s", w->environment->options.label, message);
    return true;
}

static bool is_number_or_null(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_number(value);
}

/* {"NAME": number}. */
static bool are_numbers(const json_t *object)
{
    const char *key = NULL;
    json_t *value = NULL;
    if (object == NULL || json_is_null(object))
        return true;
    if (!json_is_object(object))
        return false;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) if (!json_is_number(value)) return false;
    return true;
}

/* Whether an answer has what it should; why[size] else. tool[n_calls]: which calls have a message. */
static bool check_messages(const struct environment_episode *ep, const json_t *messages, char *why, size_t size)
{
    size_t i = 0, n_tools = 0;
    json_t *message = NULL;
    if (messages == NULL || json_is_null(messages))
        return true;
    if (!json_is_array(messages)) {
        snprintf(why, size, "\"messages\" is no list");
        return false;
    }
    json_array_foreach((json_t *)(uintptr_t)messages, i, message)
    {
        const char *role = text_at(message, "role");
        const bool tool = role != NULL && strcmp(role, "tool") == 0;
        if (role == NULL || (!tool && strcmp(role, "user") != 0) ||
            !json_is_string(json_object_get(message, "content"))) {
            snprintf(why, size, "message %zu: expected {\"role\": \"tool\" or \"user\", \"content\": a text}", i + 1);
            return false;
        }
        n_tools += tool ? 1 : 0;
    }
    if (n_tools == 0)
        return true;
    bool good = n_tools == (size_t)ep->n_calls;
    for (int32_t call = 0; good && call < ep->n_calls; call++) {
        size_t found = 0;
        json_array_foreach((json_t *)(uintptr_t)messages, i, message)
        {
            const json_t *named = json_object_get(message, "call");
            const bool one = ep->n_calls == 1 && named == NULL && strcmp(text_at(message, "role"), "tool") == 0;
            found += one || (json_is_integer(named) && json_integer_value(named) == call) ? 1 : 0;
        }
        good = found == 1;
    }
    if (!good)
        snprintf(why, size, "%zu tool messages for %d calls: each call, by its index in \"call\", gets one", n_tools,
                 (int)ep->n_calls);
    return good;
}

static bool check_answer(const struct environment_episode *ep, const json_t *body, bool reply, char *why, size_t size)
{
    json_int_t turn = ep->state == BEGINNING ? 0 : ep->turn;
    const json_int_t wanted = turn;
    if (!count_at(body, "turn", 0, &turn) || (turn != wanted && ep->state != FINISHING)) {
        snprintf(why, size, "answers turn %lld, turn %lld was asked", (long long)turn, (long long)wanted);
        return false;
    }
    if (!is_number_or_null(json_object_get(body, "reward")) || !are_numbers(json_object_get(body, "rewards")) ||
        !are_numbers(json_object_get(body, "metrics"))) {
        snprintf(why, size, "\"reward\" is a number or null, \"rewards\" and \"metrics\" are {\"NAME\": number}");
        return false;
    }
    if (reply && ep->state == FINISHING) {
        snprintf(why, size, "answers \"finish\" with \"reply\", expected \"end\"");
        return false;
    }
    return check_messages(ep, json_object_get(body, "messages"), why, size);
}

static bool note_latency(struct environment *env, struct environment_episode *ep)
{
    const double seconds = clock_seconds() - ep->asked_at;
    ep->spent += seconds;
    if (ep->state != ASKED)
        return true;
    if (mem_grow(&env->latencies, &env->latency_room, env->n_latencies + 1, sizeof *env->latencies, "latencies",
                 NULL) != COHORT_OK)
        return false;
    env->latencies[env->n_latencies++] = seconds;
    return true;
}

/* reply, end or error of an episode. body is borrowed. */
static bool take_answer(struct worker *w, const char *type, const char *id, json_t *body, char *why, size_t size)
{
    struct environment *env = w->environment;
    struct environment_episode *ep = env->first;
    char problem[300] = "";
    while (ep != NULL && !(ep->worker == w && strcmp(ep->id, id) == 0))
        ep = ep->next_one;
    const bool reply = strcmp(type, "reply") == 0, failed = strcmp(type, "error") == 0;
    if (ep != NULL && ep->stuck && !reply) { /* a reply may have crossed the finish, which gets its own answer */
        env->late++;
        environment_unstick(env, ep);
        return true;
    }
    if (ep == NULL || ep->over || ep->state == IDLE || ep->state == QUEUED) {
        env->late++;
        return true;
    }
    bool good = note_latency(env, ep);
    if (failed) {
        const char *message = text_at(body, "message");
        good = good && environment_push(env, ep, ENVIRONMENT_ENDED, json_incref(body), ENVIRONMENT_ERROR,
                                        message == NULL ? "it says no more" : message);
    } else if (!check_answer(ep, body, reply, problem, sizeof problem)) {
        good = good && environment_push(env, ep, ENVIRONMENT_ENDED, json_incref(body), ENVIRONMENT_PROTOCOL, problem);
    } else if (!reply) {
        const enum environment_end end = ep->state == FINISHING ? ep->end
                                         : env->is_tools        ? ENVIRONMENT_NO_CALL
                                                                : ENVIRONMENT_DONE;
        good = good && environment_push(env, ep, ENVIRONMENT_ENDED, json_incref(body), end, NULL);
    } else {
        const bool begun = ep->state == BEGINNING;
        ep->state = IDLE;
        if (!begun || env->observes)
            good = good && environment_push(env, ep, begun ? ENVIRONMENT_BEGUN : ENVIRONMENT_REPLY, json_incref(body),
                                            ENVIRONMENT_DONE, NULL);
        else if (json_object_get(body, "observation") != NULL || json_object_get(body, "prompt") != NULL)
            good = good && environment_push(env, ep, ENVIRONMENT_ENDED, json_incref(body), ENVIRONMENT_PROTOCOL,
                                            "gives an observation or a prompt, and did not say \"observes\": true "
                                            "with its \"ready\"");
    }
    if (!good)
        snprintf(why, size, "out of memory for its answers");
    return good;
}

bool environment_line(struct worker *w, const char *line, size_t length, char *why, size_t size)
{
    json_t *body = NULL;
    if (blank_line(line, length))
        return true;
    (void)json_text_parse(&body, line, length, "answer", 1, JSON_TEXT_NUL, NULL);
    const char *type = text_at(body, "type"), *id = text_at(body, "id");
    bool good = true;
    if (type == NULL && !w->ready && ++w->foreign <= FOREIGN_LINES) {
        environment_tell(w->environment, "environment '%.100s' says: %.*s", w->environment->options.label,
                         (int)(length > 300 ? 300 : length), line);
    } else if (type == NULL) {
        snprintf(why, size,
                 "said '%.*s%s', which is no line of the protocol, {\"type\": ...}; print what is for you to standard "
                 "error (Python: file=sys.stderr in print)",
                 (int)(length > 100 ? 100 : length), line, length > 100 ? "..." : "");
        good = false;
    } else if (strcmp(type, "ready") == 0) {
        good = take_ready(w, body, why, size);
    } else if (strcmp(type, "log") == 0) {
        good = take_log(w, body, length, why, size);
    } else if (!w->ready) {
        snprintf(why, size, "said \"%.40s\" before \"ready\"%s%.200s", type,
                 text_at(body, "message") != NULL ? ": " : "",
                 text_at(body, "message") != NULL ? text_at(body, "message") : "");
        good = false;
    } else if (strcmp(type, "error") == 0 && id == NULL) {
        snprintf(why, size, "gave up: %.300s", text_at(body, "message") != NULL ? text_at(body, "message") : "");
        good = false;
    } else if (id != NULL && (strcmp(type, "reply") == 0 || strcmp(type, "end") == 0 || strcmp(type, "error") == 0)) {
        good = take_answer(w, type, id, body, why, size);
    } else {
        snprintf(why, size, "said \"type\": \"%.40s\"%s; expected ready, reply, end, error or log", type,
                 id == NULL ? " without an id" : "");
        good = false;
    }
    json_decref(body);
    return good;
}
