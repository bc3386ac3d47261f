/* guided_tools: text in which calls of tools have the form of the model's chat template and the arguments that the tool's
 * schema asks for. Free text up to what begins a call, then the call, then free text again. */
#include "guide/guide_read.h"

#include "base/json_text.h"
#include "text/response.h"

#include <string.h>

struct tools_reading {
    struct guide_reading *reading;
    struct grammar *g;
    enum response_form form;
    const json_t *tools;
};

/* ---- Pieces of rules; each returns the state where it ends ---- */

static uint32_t put(struct grammar *g, uint32_t rule, uint32_t from, const char *text)
{
    return nfa_bytes(grammar_nfa(g, rule), from, text, strlen(text));
}

/* A tag: the token of this text, where the vocabulary has one, or its letters. */
static uint32_t put_tag(const struct tools_reading *t, uint32_t rule, uint32_t from, const char *tag)
{
    const struct tokenizer *tokenizer = t->reading->vocabulary->tokenizer;
    const int32_t id = tokenizer == NULL ? -1 : tokenizer_find(tokenizer, tag);
    const uint32_t to = put(t->g, rule, from, tag);
    if (id >= 0 && id < t->reading->vocabulary->size)
        nfa_edge(grammar_nfa(t->g, rule), from, LABEL_TOKEN + (uint32_t)id, LABEL_TOKEN + (uint32_t)id, to);
    return to;
}

static bool has_token(const struct tools_reading *t, const char *text)
{
    return t->reading->vocabulary->tokenizer != NULL && tokenizer_find(t->reading->vocabulary->tokenizer, text) >= 0;
}

/* A text as JSON writes it. */
static cohort_status put_json_text(struct grammar *g, uint32_t rule, uint32_t *at, const char *text, cohort_error *err)
{
    struct text json = {0};
    json_t *value = json_string(text);
    cohort_status status = json_text_write(value, JSON_ENCODE_ANY, &json, err);
    if (status == COHORT_OK)
        *at = nfa_bytes(grammar_nfa(g, rule), *at, json.data, json.length);
    json_decref(value);
    text_free(&json);
    return status;
}

/* ---- Free text ---- */

enum { MOST_PREFIX = 32 };

/* How much of the text behind, which is the first n bytes of word and then byte, word begins with. n of the whole word: it
 * is all there. */
static size_t next_prefix(const char *word, size_t n, unsigned char byte)
{
    char text[MOST_PREFIX];
    memcpy(text, word, n);
    text[n] = (char)byte;
    size_t k = n + 1;
    while (k > 0 && memcmp(text + n + 1 - k, word, k) != 0)
        k--;
    return k;
}

/* A rule of texts that do not contain word. Thinking may be in them. */
static uint32_t free_text(const struct tools_reading *t, const char *word)
{
    static const char *const thinking[] = {"<think>", "</think>"};
    const size_t length = strlen(word);
    const uint32_t rule = grammar_rule(t->g, NULL, 0);
    struct nfa *nfa = grammar_nfa(t->g, rule);
    const uint32_t end = nfa_state(nfa);
    uint32_t state[MOST_PREFIX];
    for (size_t n = 0; n < length; n++) {
        state[n] = n == 0 ? grammar_start(t->g, rule) : nfa_state(nfa);
        nfa_skip(nfa, state[n], end);
    }
    for (size_t n = 0; n < length; n++) {
        for (uint32_t lo = 0, hi = 0; lo < 256; lo = hi) {
            const size_t to = next_prefix(word, n, (unsigned char)lo);
            for (hi = lo + 1; hi < 256 && next_prefix(word, n, (unsigned char)hi) == to;)
                hi++;
            if (to < length)
                nfa_edge(nfa, state[n], lo, hi - 1, state[to]);
        }
        for (size_t i = 0; i < sizeof thinking / sizeof *thinking; i++)
            if (has_token(t, thinking[i])) {
                const uint32_t label =
                    LABEL_TOKEN + (uint32_t)tokenizer_find(t->reading->vocabulary->tokenizer, thinking[i]);
                nfa_edge(nfa, state[n], label, label, state[0]);
            }
    }
    grammar_end(t->g, rule, end);
    return rule;
}

/* ---- Calls ---- */

static const char *name_of(const json_t *tool) { return json_string_value(json_object_get(tool, "name")); }

/* Arguments as JSON of the tool's schema; without one, any object. */
static cohort_status put_arguments(const struct tools_reading *t, uint32_t rule, uint32_t *at, const json_t *tool,
                                   cohort_error *err)
{
    json_t *any = json_pack("{s:s}", "type", "object");
    const json_t *schema = json_object_get(tool, "parameters");
    cohort_status status =
        any == NULL
            ? error_set(err, COHORT_ERR_MEMORY, "tools: out of memory")
            : guide_read_schema(t->reading, json_is_object(schema) && json_object_size(schema) > 0 ? schema : any, rule,
                                *at, at, err);
    if (status != COHORT_OK)
        error_context(err, "tool %s", name_of(tool));
    json_decref(any);
    return status;
}

/* {"name": ..., KEY: {...}} of one of the tools. */
static cohort_status json_call(const struct tools_reading *t, const char *key, uint32_t *rule, cohort_error *err)
{
    const json_t *tool = NULL;
    size_t i = 0;
    *rule = grammar_rule(t->g, NULL, 0);
    const uint32_t end = nfa_state(grammar_nfa(t->g, *rule)),
                   open = put(t->g, *rule, grammar_start(t->g, *rule), "{\"name\": ");
    json_array_foreach(t->tools, i, tool)
    {
        uint32_t at = open;
        TRY(put_json_text(t->g, *rule, &at, name_of(tool), err));
        at = put(t->g, *rule, at, ", \"");
        at = put(t->g, *rule, at, key);
        at = put(t->g, *rule, at, "\": ");
        TRY(put_arguments(t, *rule, &at, tool, err));
        nfa_skip(grammar_nfa(t->g, *rule), put(t->g, *rule, at, "}"), end);
    }
    grammar_end(t->g, *rule, end);
    return COHORT_OK;
}

static bool only_texts(const json_t *list)
{
    const json_t *one = NULL;
    size_t i = 0;
    json_array_foreach(list, i, one) if (!json_is_string(one)) return false;
    return json_array_size(list) > 0;
}

/* Whether templates write values of a schema as they stand, which is how they are read too. */
static bool is_text(const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *one = NULL;
    size_t i = 0;
    if (type == NULL)
        return json_is_string(json_object_get(schema, "const")) || only_texts(json_object_get(schema, "enum"));
    if (json_is_string(type))
        return strcmp(json_string_value(type), "string") == 0;
    json_array_foreach(type, i,
                       one) if (json_is_string(one) && strcmp(json_string_value(one), "string") == 0) return true;
    return false;
}

/* A value of the XML-like form: text as it stands up to its closing tag, anything else as JSON. */
static cohort_status put_value(const struct tools_reading *t, uint32_t rule, uint32_t *at, const json_t *tool,
                               const char *key, const json_t *schema, cohort_error *err)
{
    static const char *const unmet[] = {"pattern", "format", "minLength", "maxLength", NULL};
    static const char *const shared[] = {"$defs", "definitions", "$schema", NULL};
    const json_t *parameters = json_object_get(tool, "parameters"), *list = json_object_get(schema, "enum"),
                 *one = NULL, *constant = json_object_get(schema, "const");
    size_t i = 0;
    if (!is_text(schema)) {
        json_t *whole = json_is_object(schema) ? json_copy((json_t *)(uintptr_t)schema) : json_object();
        for (size_t k = 0; whole != NULL && shared[k] != NULL; k++)
            if (json_object_get(parameters, shared[k]) != NULL)
                (void)json_object_set(whole, shared[k], json_object_get(parameters, shared[k]));
        const cohort_status status = whole == NULL ? error_set(err, COHORT_ERR_MEMORY, "tools: out of memory")
                                                   : guide_read_schema(t->reading, whole, rule, *at, at, err);
        json_decref(whole);
        return status;
    }
    for (size_t k = 0; unmet[k] != NULL; k++)
        if (json_object_get(schema, unmet[k]) != NULL) {
            if (t->reading->options->unsupported == GUIDE_UNSUPPORTED_REFUSE)
                return error_set(err, COHORT_ERR_UNSUPPORTED,
                                 "parameter %s: %s: the calls of this model's template carry texts as they stand, of "
                                 "which this keyword cannot be enforced",
                                 key, unmet[k]);
            if (t->reading->ignored != NULL)
                TRY(text_printf(t->reading->ignored, err, "%s of parameter %s\n", unmet[k], key));
        }
    if (json_is_string(constant)) {
        *at = nfa_bytes(grammar_nfa(t->g, rule), *at, json_string_value(constant), json_string_length(constant));
        return COHORT_OK;
    }
    if (!json_is_array(list)) {
        *at = grammar_refer(t->g, rule, *at, free_text(t, "\n</parameter>"));
        return COHORT_OK;
    }
    const uint32_t from = *at;
    *at = nfa_state(grammar_nfa(t->g, rule));
    json_array_foreach(list, i, one) if (json_is_string(one))
        nfa_skip(grammar_nfa(t->g, rule),
                 nfa_bytes(grammar_nfa(t->g, rule), from, json_string_value(one), json_string_length(one)), *at);
    return COHORT_OK;
}

static bool is_required(const json_t *parameters, const char *key)
{
    const json_t *one = NULL;
    size_t i = 0;
    json_array_foreach(json_object_get(parameters, "required"), i,
                       one) if (json_is_string(one) && strcmp(json_string_value(one), key) == 0) return true;
    return false;
}

/* <function=NAME> with its parameters in the order of the schema. */
static cohort_status xml_call(const struct tools_reading *t, uint32_t *rule, cohort_error *err)
{
    const json_t *tool = NULL;
    size_t i = 0;
    *rule = grammar_rule(t->g, NULL, 0);
    const uint32_t end = nfa_state(grammar_nfa(t->g, *rule)),
                   open = put(t->g, *rule, grammar_start(t->g, *rule), "<function=");
    json_array_foreach(t->tools, i, tool)
    {
        json_t *parameters = json_object_get(tool, "parameters"), *schema = NULL;
        const char *key = NULL;
        uint32_t at = put(t->g, *rule, put(t->g, *rule, open, name_of(tool)), ">\n");
        json_object_foreach(json_object_get(parameters, "properties"), key, schema)
        {
            const uint32_t before = at;
            at = put(t->g, *rule, put(t->g, *rule, put(t->g, *rule, at, "<parameter="), key), ">\n");
            const cohort_status status = put_value(t, *rule, &at, tool, key, schema, err);
            if (status != COHORT_OK) {
                error_context(err, "tool %s", name_of(tool));
                return status;
            }
            at = put(t->g, *rule, at, "\n</parameter>\n");
            if (!is_required(parameters, key))
                nfa_skip(grammar_nfa(t->g, *rule), before, at);
        }
        nfa_skip(grammar_nfa(t->g, *rule), put(t->g, *rule, at, "</function>"), end);
    }
    grammar_end(t->g, *rule, end);
    return COHORT_OK;
}

/* A line break, or none. */
static uint32_t put_break(const struct tools_reading *t, uint32_t rule, uint32_t from)
{
    const uint32_t to = put(t->g, rule, from, "\n");
    nfa_skip(grammar_nfa(t->g, rule), from, to);
    return to;
}

/* <tool_call> around a call. */
static uint32_t tagged(const struct tools_reading *t, uint32_t call)
{
    const uint32_t rule = grammar_rule(t->g, NULL, 0);
    uint32_t at = put_break(t, rule, put_tag(t, rule, grammar_start(t->g, rule), "<tool_call>"));
    at = put_break(t, rule, grammar_refer(t->g, rule, at, call));
    grammar_end(t->g, rule, put_tag(t, rule, at, "</tool_call>"));
    return rule;
}

/* What stands behind [TOOL_CALLS], which it includes: a list of calls, or NAME[ARGS]{...}, as the vocabulary has it. */
static cohort_status mistral_calls(const struct tools_reading *t, uint32_t *rule, cohort_error *err)
{
    uint32_t call = 0, at = 0;
    size_t i = 0;
    const json_t *tool = NULL;
    *rule = grammar_rule(t->g, NULL, 0);
    struct nfa *nfa = NULL;
    const uint32_t start = grammar_start(t->g, *rule);
    if (!has_token(t, "[ARGS]")) {
        TRY(json_call(t, "arguments", &call, err));
        const uint32_t first = put(t->g, *rule, put_tag(t, *rule, start, "[TOOL_CALLS]"), "[");
        at = grammar_refer(t->g, *rule, first, call);
        nfa = grammar_nfa(t->g, *rule);
        nfa_skip(nfa, put(t->g, *rule, at, ", "), first);
        grammar_end(t->g, *rule, put(t->g, *rule, at, "]"));
        return COHORT_OK;
    }
    const uint32_t end = nfa_state(grammar_nfa(t->g, *rule)), open = put_tag(t, *rule, start, "[TOOL_CALLS]");
    json_array_foreach(t->tools, i, tool)
    {
        at = put_tag(t, *rule, put(t->g, *rule, open, name_of(tool)), "[ARGS]");
        TRY(put_arguments(t, *rule, &at, tool, err));
        nfa_skip(grammar_nfa(t->g, *rule), at, end);
    }
    /* several calls one behind the other */
    const uint32_t all = grammar_rule(t->g, NULL, 0);
    grammar_end(t->g, *rule, end);
    at = grammar_refer(t->g, all, grammar_start(t->g, all), *rule);
    nfa_skip(grammar_nfa(t->g, all), at, grammar_start(t->g, all));
    grammar_end(t->g, all, at);
    *rule = all;
    return COHORT_OK;
}

/* ---- A turn ---- */

/* Text and calls in turn; with required one call at least, and no text beside them. */
static cohort_status tagged_turn(const struct tools_reading *t, enum guide_tools mode, uint32_t root, cohort_error *err)
{
    uint32_t call = 0;
    struct nfa *nfa = NULL;
    const uint32_t start = grammar_start(t->g, root);
    if (t->form == RESPONSE_XML)
        TRY(xml_call(t, &call, err));
    else
        TRY(json_call(t, "arguments", &call, err));
    call = tagged(t, call);
    if (mode == GUIDE_TOOLS_REQUIRED) {
        const uint32_t behind = grammar_refer(t->g, root, start, call);
        nfa = grammar_nfa(t->g, root);
        nfa_skip(nfa, put(t->g, root, behind, "\n"), start);
        grammar_end(t->g, root, behind);
        return COHORT_OK;
    }
    const uint32_t text = grammar_refer(t->g, root, start, free_text(t, "<tool_call>"));
    nfa_skip(grammar_nfa(t->g, root), grammar_refer(t->g, root, text, call), start);
    grammar_end(t->g, root, text);
    return COHORT_OK;
}

/* Text alone, or a turn that ends with its calls: text before them where before says so. */
static cohort_status ending_turn(const struct tools_reading *t, enum guide_tools mode, uint32_t calls, uint32_t text,
                                 bool before, uint32_t root)
{
    const uint32_t start = grammar_start(t->g, root), end = nfa_state(grammar_nfa(t->g, root));
    uint32_t from = start;
    if (mode == GUIDE_TOOLS_AUTO) {
        const uint32_t behind = grammar_refer(t->g, root, start, text);
        nfa_skip(grammar_nfa(t->g, root), behind, end);
        from = before ? behind : start;
    }
    nfa_skip(grammar_nfa(t->g, root), grammar_refer(t->g, root, from, calls), end);
    grammar_end(t->g, root, end);
    return COHORT_OK;
}

static cohort_status llama_turn(const struct tools_reading *t, enum guide_tools mode, uint32_t root, cohort_error *err)
{
    uint32_t call = 0;
    TRY(json_call(t, "parameters", &call, err));
    const uint32_t rule = grammar_rule(t->g, NULL, 0), start = grammar_start(t->g, rule);
    uint32_t at = nfa_state(grammar_nfa(t->g, rule));
    nfa_skip(grammar_nfa(t->g, rule), start, at);
    if (has_token(t, "<|python_tag|>"))
        nfa_skip(grammar_nfa(t->g, rule), put_tag(t, rule, start, "<|python_tag|>"), at);
    grammar_end(t->g, rule, grammar_refer(t->g, rule, at, call));
    return ending_turn(t, mode, rule, free_text(t, "{\"name\""), false, root);
}

/* ---- Reading ---- */

static const char *trigger_of(enum response_form form)
{
    return form == RESPONSE_LLAMA ? "{\"name\"" : form == RESPONSE_MISTRAL ? "[TOOL_CALLS]" : "<tool_call>";
}

/* The tools as their inner objects: {"name", "parameters"}. */
static cohort_status take_tools(const json_t *given, json_t *tools, const char *origin, cohort_error *err)
{
    json_t *tool = NULL;
    size_t i = 0;
    json_array_foreach(given, i, tool)
    {
        json_t *inner = json_object_get(tool, "function");
        inner = json_is_object(inner) ? inner : tool;
        const char *name = name_of(inner);
        if (name == NULL || name[0] == '\0' || strlen(name) != json_string_length(json_object_get(inner, "name")))
            return error_set(err, COHORT_ERR_FORMAT, "%s: tool %zu has no \"name\"", origin, i + 1);
        if (json_array_append(tools, inner) != 0)
            return error_set(err, COHORT_ERR_MEMORY, "tools: out of memory");
    }
    return COHORT_OK;
}

cohort_status guide_read_tools(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                               cohort_error *err)
{
    struct tools_reading t = {.reading = reading, .g = reading->grammar};
    json_t *json = NULL, *tools = json_array();
    json_int_t form = -1, mode = -1;
    json_t *given = NULL;
    uint32_t calls = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(json_text_parse(&json, text, length, reading->origin, 1, JSON_TEXT_ANY, err));
    if (tools == NULL || json_unpack(json, "{s:I, s:I, s:o}", "form", &form, "mode", &mode, "tools", &given) != 0 ||
        form <= RESPONSE_PLAIN || form >= RESPONSE_FORMS || mode <= GUIDE_TOOLS_OFF || mode >= GUIDE_TOOLS_MODES ||
        !json_is_array(given)) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: expected tools, the form of their calls and a mode",
                           reading->origin);
        goto cleanup;
    }
    t.form = (enum response_form)form;
    t.tools = tools;
    TRY_GOTO(take_tools(given, tools, reading->origin, err));
    if (mode == GUIDE_TOOLS_NONE || json_array_size(tools) == 0) {
        if (mode == GUIDE_TOOLS_REQUIRED) {
            status = error_set(err, COHORT_ERR_ARGUMENT, "%s required: there are no tools to call", reading->origin);
            goto cleanup;
        }
        grammar_end(t.g, root, grammar_refer(t.g, root, grammar_start(t.g, root), free_text(&t, trigger_of(t.form))));
        goto cleanup;
    }
    if (t.form == RESPONSE_HERMES || t.form == RESPONSE_XML)
        status = tagged_turn(&t, (enum guide_tools)mode, root, err);
    else if (t.form == RESPONSE_LLAMA)
        status = llama_turn(&t, (enum guide_tools)mode, root, err);
    else {
        status = mistral_calls(&t, &calls, err);
        if (status == COHORT_OK)
            status = ending_turn(&t, (enum guide_tools)mode, calls, free_text(&t, trigger_of(t.form)), true, root);
    }
cleanup:
    json_decref(json);
    json_decref(tools);
    return status;
}
