#include "text/chat_turn.h"

#include "text/chat_training.h"

#include <string.h>

static const char ID[] = "abcdef123"; /* nine letters and digits, as Mistral's templates want them */

static bool is_tool(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role != NULL && strcmp(role, "tool") == 0;
}

static json_t *call_of(const json_t *answer)
{
    const char *name = json_string_value(json_object_get(answer, "name")),
               *id = json_string_value(json_object_get(answer, "tool_call_id"));
    return json_pack("{s:s, s:s, s:{s:s, s:{}}}", "type", "function", "id", id == NULL ? ID : id, "function", "name",
                     name == NULL || *name == '\0' ? "f" : name, "arguments");
}

/* A user's word, the assistant's turn with most calls (0: a word), and the answers. NULL: out of memory. */
static json_t *conversation(const json_t *answers, size_t most)
{
    json_t *list = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content", "dummy", "role", "assistant",
                             "content", most > 0 ? "" : "dummy");
    json_t *calls = most > 0 ? json_array() : NULL, *answer = NULL;
    bool made = list != NULL && (most == 0 || calls != NULL);
    size_t i = 0;
    json_array_foreach((json_t *)(uintptr_t)answers, i, answer)
    {
        json_t *copy = json_copy(answer);
        if (made && is_tool(answer) && json_array_size(calls) < most)
            made = json_array_append_new(calls, call_of(answer)) == 0;
        if (made && is_tool(answer) && json_object_get(answer, "tool_call_id") == NULL)
            made = json_object_set_new(copy, "tool_call_id", json_string(ID)) == 0;
        made = json_array_append_new(list, copy) == 0 && made;
    }
    if (calls != NULL)
        made = json_object_set_new(json_array_get(list, 1), "tool_calls", calls) == 0 && made;
    if (made)
        return list;
    json_decref(list);
    return NULL;
}

/* The byte behind the end of the assistant's turn; 0: it cannot be told. */
static size_t turn_end(const struct text *text, const struct content_spans *spans, const char *marker, size_t length)
{
    size_t at = 0;
    for (size_t i = 0; i < spans->count; i++)
        if (spans->items[i].kind == CONTENT_ASSISTANT)
            at = spans->items[i].to;
    const char *found = at == 0 ? NULL : memmem(text->data + at, text->length - at, marker, length);
    return found == NULL ? 0 : (size_t)(found - text->data) + length;
}

cohort_status chat_turn_render(const struct chat_template *chat, const struct tokenizer *tokenizer,
                               const json_t *answers, const struct chat_options *options, const char *where,
                               struct text *out, struct content_spans *spans, size_t *from, cohort_error *err)
{
    struct chat_options asks = *options;
    size_t n_tools = 0, length = 0, i = 0;
    json_t *answer = NULL;
    const char *marker = tokenizer_text(tokenizer, chat_template_turn_end(chat), &length);
    cohort_status status = COHORT_OK;
    asks.add_generation_prompt = true;
    asks.continue_final = false;
    json_array_foreach((json_t *)(uintptr_t)answers, i, answer) n_tools += is_tool(answer) ? 1 : 0;
    if (marker == NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: the chat template writes no special token behind the assistant's turn, so that it is not "
                         "known where a turn ends",
                         where);
    /* One call, as TRL has it; templates that count calls and answers want as many. */
    for (size_t most = n_tools > 0 ? 1 : 0;; most = n_tools) {
        json_t *messages = conversation(answers, most);
        if (messages == NULL)
            return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build messages", where);
        status = chat_template_render(chat, messages, &asks, where, out, spans, err);
        json_decref(messages);
        if (status == COHORT_OK || status == COHORT_ERR_MEMORY || most >= n_tools)
            break;
    }
    TRY(status);
    *from = turn_end(out, spans, marker, length);
    if (*from == 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: it cannot be told where the assistant's turn ends in what the chat template writes",
                         where);
    return COHORT_OK;
}

/* What a check renders: turns whose words are nowhere else. */
static json_t *checked(bool tools)
{
    if (!tools)
        return json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}, {s:s, s:s}]", "role", "user", "content", "quokka",
                         "role", "assistant", "content", "wallaby", "role", "user", "content", "numbat", "role",
                         "assistant", "content", "dunnart");
    return json_pack("[{s:s, s:s}, {s:s, s:s, s:[{s:s, s:s, s:{s:s, s:{s:s}}}]}, {s:s, s:s, s:s, s:s}, {s:s, s:s}]",
                     "role", "user", "content", "quokka", "role", "assistant", "content", "wallaby", "tool_calls",
                     "type", "function", "id", ID, "function", "name", "potoroo", "arguments", "bettong", "bilby",
                     "role", "tool", "name", "potoroo", "tool_call_id", ID, "content", "numbat", "role", "assistant",
                     "content", "dunnart");
}

cohort_status chat_turn_check(const struct chat_template *chat, const struct tokenizer *tokenizer,
                              const struct chat_options *options, bool tools, cohort_error *err)
{
    static const char where[] = "environment";
    struct chat_training training = {0};
    struct text text = {0};
    struct content_spans spans = {0};
    json_t *messages = checked(tools), *answers = NULL;
    size_t from = 0;
    cohort_status status = COHORT_OK;
    if (messages == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "environment: cannot build messages");
    TRY_GOTO(chat_training_render(&training, chat, messages, options, CHAT_ALL, where, err));
    static const char *const words[] = {"quokka", "wallaby", "numbat", "dunnart", "potoroo", "bilby"};
    for (size_t i = 0; i < (tools ? 6 : 4); i++)
        if (memmem(training.text.data, training.text.length, words[i], strlen(words[i])) == NULL)
            TRY_GOTO(error_set(err, COHORT_ERR_UNSUPPORTED,
                               "%s: the chat template leaves %s out; name a template that writes it by "
                               "--chat-template",
                               where,
                               i >= 4             ? "the assistant's calls of tools"
                               : i == 2 && tools  ? "the answers of tools"
                               : i == 0 || i == 2 ? "a user's message"
                                                  : "an assistant's message"));
    answers = json_pack("[{s:s, s:s, s:s}]", "role", tools ? "tool" : "user", "content", "numbat", "name", "potoroo");
    if (answers == NULL)
        TRY_GOTO(error_set(err, COHORT_ERR_MEMORY, "environment: cannot build messages"));
    TRY_GOTO(chat_turn_render(chat, tokenizer, answers, options, where, &text, &spans, &from, err));
    if (memmem(text.data + from, text.length - from, "numbat", 6) == NULL)
        status = error_set(err, COHORT_ERR_UNSUPPORTED,
                           "%s: the chat template writes an answer before the end of the turn that it answers", where);
cleanup:
    json_decref(messages);
    json_decref(answers);
    chat_training_free(&training);
    text_free(&text);
    content_spans_free(&spans);
    return status;
}
