#include "recipe/episode_story.h"

#include "base/json_text.h"

#include <math.h>
#include <string.h>

static cohort_status made(bool good, cohort_error *err)
{
    return good ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "what is said in an episode: out of memory");
}

json_t *story_new(void)
{
    return json_pack("{s:[], s:[], s:[], s:i, s:i, s:i}", "messages", "tokens", "turn_rewards", "calls", 0, "failed", 0,
                     "malformed", 0);
}

bool story_count(json_t *story, const char *key, int64_t n)
{
    return json_object_set_new(story, key, json_integer(json_integer_value(json_object_get(story, key)) + n)) == 0;
}

/* A call as TRL's messages have it; one that is malformed with what is wrong. */
static json_t *call_message(const struct response_call *call)
{
    json_t *function = json_object(), *out = json_object();
    bool good = function != NULL && out != NULL;
    good = good && json_object_set_new(function, "name",
                                       call->name == NULL ? json_string("")
                                                          : json_text_value(call->name, strlen(call->name))) == 0;
    good = good && (call->arguments != NULL ? json_object_set(function, "arguments", call->arguments)
                                            : json_object_set_new(function, "arguments", json_object())) == 0;
    good = good && json_object_set_new(out, "type", json_string("function")) == 0;
    if (good && call->id != NULL)
        good = json_object_set_new(out, "id", json_text_value(call->id, strlen(call->id))) == 0;
    if (good && call->error != NULL)
        good = json_object_set_new(out, "error", json_text_value(call->error, strlen(call->error))) == 0;
    good = json_object_set_new(out, "function", function) == 0 && good;
    if (good)
        return out;
    json_decref(out);
    return NULL;
}

cohort_status story_turn(json_t *story, const struct response *response, int32_t n_tokens, cohort_error *err)
{
    json_t *message = json_pack("{s:s}", "role", "assistant"), *calls = NULL;
    int64_t malformed = 0;
    bool good = message != NULL;
    good = good && json_object_set_new(message, "content",
                                       json_text_value(response->content.data, response->content.length)) == 0;
    if (good && response->thinking.length > 0)
        good = json_object_set_new(message, "reasoning_content",
                                   json_text_value(response->thinking.data, response->thinking.length)) == 0;
    if (good && response->n_calls > 0)
        good = (calls = json_array()) != NULL;
    for (size_t i = 0; good && i < response->n_calls; i++) {
        malformed += response->calls[i].error != NULL ? 1 : 0;
        good = json_array_append_new(calls, call_message(&response->calls[i])) == 0;
    }
    if (calls != NULL)
        good = json_object_set_new(message, "tool_calls", calls) == 0 && good;
    good = json_array_append_new(json_object_get(story, "messages"), message) == 0 && good;
    good = good && json_array_append_new(json_object_get(story, "tokens"), json_integer(n_tokens)) == 0;
    return made(good && story_count(story, "malformed", malformed), err);
}

/* What call_message made of a call, as response has calls. */
static json_t *call_of_message(const json_t *call)
{
    const json_t *function = json_object_get(call, "function");
    const char *name = json_string_value(json_object_get(function, "name"));
    json_t *out = json_object();
    bool good = out != NULL;
    if (good && name != NULL && *name != '\0')
        good = json_object_set(out, "name", json_object_get(function, "name")) == 0;
    good = good && json_object_set(out, "arguments", json_object_get(function, "arguments")) == 0;
    static const char *const keys[] = {"id", "error"};
    for (size_t i = 0; good && i < sizeof keys / sizeof *keys; i++)
        good = json_object_get(call, keys[i]) == NULL ||
               json_object_set(out, keys[i], json_object_get(call, keys[i])) == 0;
    if (good)
        return out;
    json_decref(out);
    return NULL;
}

cohort_status story_calls(const json_t *story, json_t **out, cohort_error *err)
{
    const json_t *messages = json_object_get(story, "messages");
    bool good = (*out = json_array()) != NULL;
    for (size_t i = 0; good && i < json_array_size(messages); i++) {
        const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        for (size_t k = 0; good && k < json_array_size(calls); k++)
            good = json_array_append_new(*out, call_of_message(json_array_get(calls, k))) == 0;
    }
    if (good)
        return COHORT_OK;
    json_decref(*out);
    *out = NULL;
    return made(false, err);
}

cohort_status story_answer(json_t *story, const json_t *messages, int32_t n_tokens, cohort_error *err)
{
    json_t *message = NULL;
    size_t i = 0;
    bool good = true;
    json_array_foreach((json_t *)(uintptr_t)messages, i, message)
    {
        good = good && json_array_append(json_object_get(story, "messages"), message) == 0 &&
               json_array_append_new(json_object_get(story, "tokens"), json_integer(i == 0 ? n_tokens : 0)) == 0;
        if (json_is_true(json_object_get(message, "failed")))
            good = good && story_count(story, "failed", 1);
    }
    return made(good, err);
}

cohort_status story_turn_reward(json_t *story, const json_t *body, int32_t n_tokens, cohort_error *err)
{
    const json_t *reward = json_object_get(body, "reward");
    if (!json_is_number(reward))
        return COHORT_OK;
    return made(json_array_append_new(json_object_get(story, "turn_rewards"),
                                      json_pack("[i, O]", (int)n_tokens, (json_t *)(uintptr_t)reward)) == 0,
                err);
}

cohort_status story_end(json_t *story, const json_t *body, enum environment_end end, const char *why, cohort_error *err)
{
    static const char *const kept[] = {"reward", "rewards", "metrics", "state"};
    bool good = json_object_set_new(story, "end", json_string(environment_end_word(end))) == 0;
    if (why != NULL && why[0] != '\0')
        good = good && json_object_set_new(story, "why", json_text_value(why, strlen(why))) == 0;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        json_t *value = environment_end_loses(end) ? NULL : json_object_get(body, kept[i]);
        if (value != NULL && !json_is_null(value))
            good = good && json_object_set(story, kept[i], value) == 0;
    }
    return made(good, err);
}

double story_reward(const json_t *story)
{
    const json_t *reward = json_object_get(story, "reward"), *turns = json_object_get(story, "turn_rewards");
    double sum = json_is_number(reward) ? json_number_value(reward) : 0.0;
    for (size_t i = 0; i < json_array_size(turns); i++)
        sum += json_number_value(json_array_get(json_array_get(turns, i), 1));
    return json_is_number(reward) || json_array_size(turns) > 0 ? sum : (double)NAN;
}

static json_t *protocol_call(const struct response_call *call, const char *text, const struct response_part *part,
                             size_t index)
{
    const bool span = call->arguments_to > call->arguments_from;
    const size_t from = span ? call->arguments_from : part->from, to = span ? call->arguments_to : part->to;
    json_t *out = json_pack("{s:I}", "index", (json_int_t)index);
    bool good = out != NULL;
    good = good &&
           json_object_set_new(out, "name",
                               call->name == NULL ? json_null() : json_text_value(call->name, strlen(call->name))) == 0;
    good = good &&
           (call->arguments != NULL && call->error == NULL ? json_object_set(out, "arguments", call->arguments)
                                                           : json_object_set_new(out, "arguments", json_null())) == 0;
    good = good && json_object_set_new(out, "arguments_text", json_text_value(text + from, to - from)) == 0;
    if (good && call->error != NULL)
        good = json_object_set_new(out, "error", json_text_value(call->error, strlen(call->error))) == 0;
    if (good)
        return out;
    json_decref(out);
    return NULL;
}

json_t *story_protocol_turn(const struct response *response, const char *text, int32_t number, int32_t used,
                            int32_t left, int64_t turns_left)
{
    json_t *turn = json_pack("{s:i, s:s, s:i, s:i}", "turn", (int)number, "stop", "eos", "tokens_used", (int)used,
                             "tokens_left", (int)left),
           *calls = json_array();
    bool good = turn != NULL && calls != NULL;
    good = good &&
           json_object_set_new(turn, "text", json_text_value(response->content.data, response->content.length)) == 0;
    if (good && response->thinking.length > 0)
        good = json_object_set_new(turn, "thinking",
                                   json_text_value(response->thinking.data, response->thinking.length)) == 0;
    if (good && turns_left >= 0)
        good = json_object_set_new(turn, "turns_left", json_integer(turns_left)) == 0;
    for (size_t i = 0; good && i < response->n_parts; i++) {
        const struct response_part *part = &response->parts[i];
        if (part->kind == RESPONSE_CALL)
            good =
                json_array_append_new(calls, protocol_call(&response->calls[part->call], text, part, part->call)) == 0;
    }
    good = json_object_set_new(turn, "calls", calls) == 0 && good;
    if (good)
        return turn;
    json_decref(turn);
    return NULL;
}
