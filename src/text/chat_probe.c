#include "text/chat_probe.h"

#include "base/number.h"

#include <string.h>

static const char WORD[] = "hello";

struct probing {
    struct chat_template *chat;
    const struct tokenizer *tokenizer;
    struct chat_findings *found;
};

/* ---- what opens and closes turns ---- */

/* A token with which thinking begins or ends, whatever a family calls it, is the assistant's to write. */
static bool of_thinking(const struct tokenizer *tokenizer, int32_t id)
{
    size_t length = 0;
    const char *text = tokenizer_text(tokenizer, id, &length);
    return text != NULL && (memmem(text, length, "think", 5) != NULL || memmem(text, length, "THINK", 5) != NULL);
}

/* The special tokens of a piece that the template wrote. first gets the first of them, if it is -1. */
static cohort_status markers_of(const struct probing *p, const char *text, size_t length, int32_t *first,
                                cohort_error *err)
{
    struct token_list ids = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(tokenizer_encode(p->tokenizer, text, length, true, &ids, err));
    for (size_t i = 0; i < ids.count; i++) {
        if (!tokenizer_is_special(p->tokenizer, ids.ids[i]) || of_thinking(p->tokenizer, ids.ids[i]))
            continue;
        if (*first < 0)
            *first = ids.ids[i];
        TRY_GOTO(chat_template_add_markers(p->chat, &ids.ids[i], 1, err));
    }
cleanup:
    token_list_free(&ids);
    return status;
}

/* Whether the last span is of that kind and ends with WORD: the template takes such messages. */
static bool ends_with_word(const struct text *text, const struct content_spans *spans, enum content_kind kind)
{
    const struct content_span *last = spans->count == 0 ? NULL : &spans->items[spans->count - 1];
    const size_t n = strlen(WORD);
    return last != NULL && text->data != NULL && last->kind == kind && last->to - last->from >= n &&
           memcmp(text->data + last->to - n, WORD, n) == 0;
}

/* What the template writes around these messages. closing: the last is the assistant's, and the first special token behind
 * its word is what ends a turn. */
static cohort_status probe(const struct probing *p, const json_t *messages, bool closing, bool *rendered,
                           cohort_error *err)
{
    const struct chat_options options = {.add_generation_prompt = !closing};
    struct text text = {0};
    struct content_spans spans = {0};
    cohort_error passed = {0};
    size_t at = 0;
    cohort_status status = chat_template_render(p->chat, messages, &options, "probe", &text, &spans, &passed);
    *rendered = status == COHORT_OK && ends_with_word(&text, &spans, closing ? CONTENT_ASSISTANT : CONTENT_FOREIGN);
    if (status == COHORT_ERR_MEMORY) {
        error_set(err, status, "%s", passed.message);
        goto cleanup;
    }
    status = COHORT_OK;
    for (size_t i = 0; *rendered && i <= spans.count; i++) {
        const size_t end = i < spans.count ? spans.items[i].from : text.length;
        int32_t first = -1;
        if (end > at)
            TRY_GOTO(markers_of(p, text.data + at, end - at, &first, err));
        if (closing && i == spans.count)
            p->found->turn_end = first;
        at = i < spans.count ? spans.items[i].to : end;
    }
cleanup:
    text_free(&text);
    content_spans_free(&spans);
    return status;
}

static const char *role_name(char letter)
{
    return letter == 's' ? "system" : letter == 'u' ? "user" : letter == 't' ? "tool" : "assistant";
}

/* A message as text or as a list of parts. An assistant that calls a tool ('c') says its word beside the call. */
static json_t *probe_message(char letter, bool parts)
{
    json_t *message = json_pack("{s:s}", "role", role_name(letter));
    json_t *content = parts ? json_pack("[{s:s, s:s}]", "type", "text", "text", WORD) : json_string(WORD);
    json_t *more = letter == 'c' ? json_pack("{s:[{s:s, s:s, s:{s:s, s:{}}}]}", "tool_calls", "type", "function", "id",
                                             "abcdef123", "function", "name", "f", "arguments")
                   : letter == 't' ? json_pack("{s:s, s:s}", "name", "f", "tool_call_id", "abcdef123")
                                   : json_object();
    const bool made = message != NULL && more != NULL && json_object_update(message, more) == 0;
    json_decref(more);
    if (json_object_set_new(message, "content", content) == 0 && made)
        return message;
    json_decref(message);
    return NULL;
}

/* Messages of roles ('s', 'u', 'a', 'c', 't') with a word each. */
static cohort_status probe_messages(const char *roles, bool parts, json_t **out, cohort_error *err)
{
    *out = json_array();
    for (; *roles != '\0'; roles++)
        if (json_array_append_new(*out, probe_message(*roles, parts)) != 0) {
            json_decref(*out);
            *out = NULL;
            break;
        }
    return *out != NULL ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "cannot build messages");
}

/* What opens and closes turns, from conversations of one word a message, in the first form that the template takes. */
static cohort_status find_markers(const struct probing *p, cohort_error *err)
{
    static const struct {
        const char *roles;
        bool parts, closing;
    } forms[] = {{"ua", false, true},   {"ua", true, true},    {"suau", false, false},
                 {"suau", true, false}, {"uau", false, false}, {"uau", true, false}};
    bool rendered[2] = {false, false}; /* by closing */
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (rendered[forms[i].closing])
            continue;
        json_t *messages = NULL;
        TRY(probe_messages(forms[i].roles, forms[i].parts, &messages, err));
        cohort_status status = probe(p, messages, forms[i].closing, &rendered[forms[i].closing], err);
        json_decref(messages);
        TRY(status);
    }
    const char *key = NULL;
    json_t *token = NULL;
    json_object_foreach((json_t *)(uintptr_t)tokenizer_special_tokens(p->tokenizer), key, token)
    {
        const int32_t id = tokenizer_find(p->tokenizer, json_string_value(token));
        if (id >= 0 && !of_thinking(p->tokenizer, id))
            TRY(chat_template_add_markers(p->chat, &id, 1, err));
    }
    return COHORT_OK;
}

/* ---- what is not written ---- */

/* The roles of chat_left_out, and conversations whose last message but one (of "ua": the last) is of the role. */
static const struct {
    const char *role, *roles;
    size_t at; /* of the message in question */
} left_out_probes[] = {{"system", "su", 0}, {"user", "u", 0}, {"assistant", "ua", 1}, {"tool", "uct", 2}};
enum { LEFT_OUT_ROLES = sizeof left_out_probes / sizeof left_out_probes[0] };

bool chat_left_out(const struct chat_findings *found, const char *role, bool parts)
{
    for (size_t i = 0; i < LEFT_OUT_ROLES; i++)
        if (strcmp(left_out_probes[i].role, role) == 0)
            return (found->left_out >> (2 * i + parts) & 1) != 0;
    return false;
}

/* *out: the rendering, if the template takes the messages; else nothing, and *rendered is false. */
static cohort_status render(const struct probing *p, const json_t *messages, bool prompt, struct text *out,
                            bool *rendered, cohort_error *err)
{
    const struct chat_options options = {.add_generation_prompt = prompt};
    cohort_error passed = {0};
    const cohort_status status = chat_template_render(p->chat, messages, &options, "probe", out, NULL, &passed);
    *rendered = status == COHORT_OK;
    return status == COHORT_ERR_MEMORY ? error_set(err, status, "%s", passed.message) : COHORT_OK;
}

/* A word that no template has, in the place of the message in question. */
static const char RARE[] = "quokka", CALLED[] = "wallaby";

static bool contains(const struct text *text, const char *word)
{
    const size_t n = strlen(word);
    for (size_t i = 0; i + n <= text->length; i++)
        if (ascii_same_bytes(text->data + i, word, n)) /* a template may write capitals */
            return true;
    return false;
}

static cohort_status find_left_out(const struct probing *p, size_t which, bool parts, unsigned *left_out,
                                   cohort_error *err)
{
    json_t *messages = NULL;
    struct text text = {0};
    bool rendered = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(probe_messages(left_out_probes[which].roles, parts, &messages, err));
    json_t *message = json_array_get(messages, left_out_probes[which].at);
    json_t *content = parts ? json_pack("[{s:s, s:s}]", "type", "text", "text", RARE) : json_string(RARE);
    if (json_object_set_new(message, "content", content) != 0)
        TRY_GOTO(error_set(err, COHORT_ERR_MEMORY, "cannot build messages"));
    TRY_GOTO(render(p, messages, which != 2, &text, &rendered, err));
    *left_out |= (unsigned)(rendered && !contains(&text, RARE)) << (2 * which + parts);
cleanup:
    json_decref(messages);
    text_free(&text);
    return status;
}

/* A call with a word as its name and in its arguments, an object or (text) the JSON text of one. */
static cohort_status set_call(json_t *message, enum chat_beside beside, bool text, cohort_error *err)
{
    json_t *arguments = text ? json_string("{\"wallaby\": 1}") : json_pack("{s:i}", CALLED, 1);
    json_t *calls = json_pack("[{s:s, s:s, s:{s:s, s:o}}]", "type", "function", "id", "abcdef123", "function", "name",
                              CALLED, "arguments", arguments);
    bool made = json_object_set_new(message, "tool_calls", calls) == 0;
    if (beside == BESIDE_ABSENT)
        made = made && json_object_del(message, "content") == 0;
    else if (beside != BESIDE_TEXT)
        made =
            made && json_object_set_new(message, "content", beside == BESIDE_NULL ? json_null() : json_string("")) == 0;
    return made ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "cannot build messages");
}

/* A question and such a call. */
static cohort_status render_call(const struct probing *p, enum chat_beside beside, bool text, struct text *out,
                                 bool *rendered, cohort_error *err)
{
    json_t *messages = NULL;
    cohort_status status = probe_messages("ua", false, &messages, err);
    *rendered = false;
    if (status == COHORT_OK)
        status = set_call(json_array_get(messages, 1), beside, text, err);
    if (status == COHORT_OK)
        status = render(p, messages, false, out, rendered, err);
    json_decref(messages);
    return status;
}

/* *parses: the template takes arguments that are an object, and none that are text. */
static cohort_status find_calls(const struct probing *p, enum chat_beside beside, enum chat_calls *out, bool *parses,
                                cohort_error *err)
{
    bool takes[2] = {false};
    cohort_status status = COHORT_OK;
    *out = CALLS_UNKNOWN;
    for (int text = 0; text < 2 && status == COHORT_OK; text++) {
        struct text written = {0};
        status = render_call(p, beside, text == 1, &written, &takes[text], err);
        if (status == COHORT_OK && takes[text] && *out == CALLS_UNKNOWN)
            *out = contains(&written, CALLED) && (beside != BESIDE_NULL || !contains(&written, "None")) ? CALLS_WRITTEN
                                                                                                        : CALLS_LOST;
        text_free(&written);
    }
    *parses = takes[0] && !takes[1];
    return status;
}

/* What stands before an assistant's words, though the prompt for them ends before it. */
static cohort_status find_unprompted(const struct probing *p, bool parts, bool *done, cohort_error *err)
{
    json_t *asked = NULL, *told = NULL;
    struct text bare = {0}, prompt = {0}, all = {0};
    bool rendered[3] = {false};
    cohort_status status = COHORT_OK;
    TRY_GOTO(probe_messages("u", parts, &asked, err));
    TRY_GOTO(probe_messages("ua", parts, &told, err));
    TRY_GOTO(render(p, asked, false, &bare, &rendered[0], err));
    TRY_GOTO(render(p, asked, true, &prompt, &rendered[1], err));
    TRY_GOTO(render(p, told, false, &all, &rendered[2], err));
    const char *word = rendered[2] && all.length > 0 ? memmem(all.data, all.length, WORD, strlen(WORD)) : NULL;
    for (const char *next = word; next != NULL; word = next != NULL ? next : word) /* the last is the assistant's */
        next = memmem(word + 1, (size_t)(all.data + all.length - word - 1), WORD, strlen(WORD));
    *done = rendered[0] && rendered[1] && word != NULL;
    if (!*done || prompt.length != bare.length || (size_t)(word - all.data) <= prompt.length ||
        (prompt.length > 0 &&
         (memcmp(prompt.data, bare.data, bare.length) != 0 || memcmp(all.data, prompt.data, prompt.length) != 0)))
        goto cleanup;
    const char *between = all.data + prompt.length;
    if (strspn(between, " \t\r\n") < (size_t)(word - between))
        status = mem_strdup(&p->found->unprompted, between, (size_t)(word - between), err);
cleanup:
    json_decref(asked);
    json_decref(told);
    text_free(&bare);
    text_free(&prompt);
    text_free(&all);
    return status;
}

cohort_status chat_probe(struct chat_template *chat, const struct tokenizer *tokenizer, struct chat_findings *found,
                         cohort_error *err)
{
    const struct probing p = {.chat = chat, .tokenizer = tokenizer, .found = found};
    /* found's stay 0 until all probes are rendered: they must not be refused. */
    unsigned left_out = 0;
    enum chat_calls calls[BESIDE_FORMS];
    bool done = false, parses = false;
    TRY(find_markers(&p, err));
    for (size_t i = 0; i < 2 * LEFT_OUT_ROLES; i++)
        TRY(find_left_out(&p, i / 2, i % 2 == 1, &left_out, err));
    for (int parts = 0; parts < 2 && !done; parts++)
        TRY(find_unprompted(&p, parts == 1, &done, err));
    for (int beside = 0; beside < BESIDE_FORMS; beside++) {
        bool here = false;
        TRY(find_calls(&p, (enum chat_beside)beside, &calls[beside], &here, err));
        parses = parses || (here && calls[beside] == CALLS_WRITTEN);
    }
    found->parses_arguments = parses;
    memcpy(found->calls, calls, sizeof calls);
    found->left_out = left_out;
    return COHORT_OK;
}
