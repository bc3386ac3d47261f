/* A completion is walked from part to part: content up to the next tag, what the tag opens up to its end. Each form has
 * a function that takes one call, or several that stand behind one tag. */
#include "text/response.h"

#include "base/json_text.h"

#include <math.h>
#include <string.h>

/* ---- forms ---- */

static const struct {
    enum response_form form;
    const char *sign;
} signs_of[] = {
    {RESPONSE_MISTRAL, "[TOOL_CALLS]"}, {RESPONSE_XML, "<function="},         {RESPONSE_HERMES, "<tool_call>"},
    {RESPONSE_LLAMA, "<|python_tag|>"}, {RESPONSE_LLAMA, "\"parameters\": "}, {RESPONSE_PLAIN, "<arg_key>"},
};
enum { N_SIGNS = sizeof signs_of / sizeof signs_of[0], SIGN_HERMES = 2, SIGN_OTHER = 5 };

void response_form_read(struct response_signs *signs, const char *literal, size_t length)
{
    for (size_t i = 0; i < N_SIGNS; i++)
        if (memmem(literal, length, signs_of[i].sign, strlen(signs_of[i].sign)) != NULL)
            signs->seen |= 1u << i;
}

enum response_form response_form_of(const struct response_signs *signs)
{
    for (size_t i = 0; i < N_SIGNS; i++) {
        const bool other = i == SIGN_HERMES && (signs->seen & 1u << SIGN_OTHER) != 0; /* GLM's keys and values */
        if ((signs->seen & 1u << i) != 0 && !other)
            return signs_of[i].form;
    }
    return RESPONSE_PLAIN;
}

static const struct {
    const char *open, *close;
    bool mistral;
} thinking_tags[] = {{"<think>", "</think>", false}, {"[THINK]", "[/THINK]", true}};
enum { N_TAGS = sizeof thinking_tags / sizeof thinking_tags[0] };

/* ---- text ---- */

struct scan {
    const char *text;
    size_t length;
    enum response_form form;
    const json_t *tools;
    struct response *out;
    cohort_error *err;
};

/* Where word stands in [from, to), or to. */
static size_t find(const struct scan *scan, size_t from, size_t to, const char *word)
{
    const size_t n = strlen(word);
    for (; from < to && to - from >= n; from++) {
        const char *first = memchr(scan->text + from, word[0], to - from - n + 1);
        if (first == NULL)
            return to;
        from = (size_t)(first - scan->text);
        if (memcmp(first, word, n) == 0)
            return from;
    }
    return to;
}

static bool stands(const struct scan *scan, size_t at, const char *word)
{
    const size_t n = strlen(word);
    return at <= scan->length && scan->length - at >= n && memcmp(scan->text + at, word, n) == 0;
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static size_t skip_blanks(const struct scan *scan, size_t at)
{
    while (at < scan->length && blank(scan->text[at]))
        at++;
    return at;
}

/* The span without white space at its ends. */
static void strip(const struct scan *scan, size_t *from, size_t *to)
{
    while (*from < *to && blank(scan->text[*from]))
        ++*from;
    while (*to > *from && blank(scan->text[*to - 1]))
        --*to;
}

bool response_opens_thinking(const char *prompt, size_t length)
{
    for (size_t i = 0; i < N_TAGS; i++) {
        const size_t n = strlen(thinking_tags[i].open);
        size_t end = length;
        while (end > 0 && blank(prompt[end - 1]))
            end--;
        if (end >= n && memcmp(prompt + end - n, thinking_tags[i].open, n) == 0)
            return true;
    }
    return false;
}

/* ---- parts ---- */

static cohort_status add_part(const struct scan *scan, enum response_kind kind, size_t from, size_t to, size_t call)
{
    struct response *out = scan->out;
    if (from == to)
        return COHORT_OK;
    TRY(mem_grow(&out->parts, &out->parts_capacity, out->n_parts + 1, sizeof *out->parts, "parts", scan->err));
    out->parts[out->n_parts++] = (struct response_part){.kind = kind, .from = from, .to = to, .call = call};
    return kind == RESPONSE_CONTENT ? text_append(&out->content, scan->text + from, to - from, scan->err) : COHORT_OK;
}

/* [from, to) with its tags; the thinking itself is [inner, inner_end). */
static cohort_status add_thinking(const struct scan *scan, size_t from, size_t to, size_t inner, size_t inner_end)
{
    struct text *thinking = &scan->out->thinking;
    strip(scan, &inner, &inner_end);
    if (thinking->length > 0 && inner < inner_end)
        TRY(text_append(thinking, "\n\n", 2, scan->err));
    if (inner < inner_end)
        TRY(text_append(thinking, scan->text + inner, inner_end - inner, scan->err));
    return add_part(scan, RESPONSE_THINKING, from, to, 0);
}

static void call_free(struct response_call *call)
{
    mem_free(call->name);
    mem_free(call->id);
    mem_free(call->error);
    json_decref(call->arguments);
}

/* Takes over call, also where it fails. Bytes [from, to) of the completion are its. */
static cohort_status add_call(const struct scan *scan, struct response_call *call, size_t from, size_t to)
{
    struct response *out = scan->out;
    cohort_status status =
        mem_grow(&out->calls, &out->calls_capacity, out->n_calls + 1, sizeof *out->calls, "calls", scan->err);
    if (status != COHORT_OK) {
        call_free(call);
        return status;
    }
    out->calls[out->n_calls++] = *call;
    return add_part(scan, RESPONSE_CALL, from, to, out->n_calls - 1);
}

static cohort_status wrong(const struct scan *scan, struct response_call *call, const char *reason)
{
    return call->error != NULL ? COHORT_OK : mem_strdup(&call->error, reason, strlen(reason), scan->err);
}

/* ---- calls as JSON ---- */

/* Reads {"name": ..., "arguments": ...} at [from, to) into call; "parameters" is Llama's word for the same. */
static cohort_status read_object(const struct scan *scan, size_t from, size_t to, struct response_call *call)
{
    static const char *const words[] = {"arguments", "parameters"};
    json_t *root = NULL;
    cohort_error mistake = {0};
    size_t at = 0, end = 0;
    cohort_status status = json_text_parse(&root, scan->text + from, to - from, "call", 1,
                                           JSON_TEXT_ANY | JSON_TEXT_NUL | JSON_TEXT_REPEATED, &mistake);
    if (status != COHORT_OK)
        return status == COHORT_ERR_MEMORY ? error_set(scan->err, status, "%s", mistake.message)
                                           : wrong(scan, call, mistake.message);
    const json_t *name = json_object_get(root, "name"), *id = json_object_get(root, "id");
    if (!json_is_object(root))
        status = wrong(scan, call, "expected an object with name and arguments");
    else if (!json_is_string(name))
        status = wrong(scan, call, "the call has no name that is a string");
    else
        status = mem_strdup(&call->name, json_string_value(name), json_string_length(name), scan->err);
    if (status == COHORT_OK && json_is_string(id))
        status = mem_strdup(&call->id, json_string_value(id), json_string_length(id), scan->err);
    for (size_t i = 0; i < 2 && call->arguments == NULL && json_is_object(root); i++) {
        json_t *arguments = json_object_get(root, words[i]);
        if (arguments == NULL || json_is_null(arguments))
            continue;
        call->arguments = json_incref(arguments);
        if (json_text_member(scan->text + from, to - from, words[i], &at, &end)) {
            call->arguments_from = from + at;
            call->arguments_to = from + end;
            strip(scan, &call->arguments_from, &call->arguments_to);
        }
    }
    json_decref(root);
    if (status == COHORT_OK && call->error == NULL && call->arguments == NULL) { /* none were named */
        call->arguments = json_object();
        if (call->arguments == NULL)
            status = error_set(scan->err, COHORT_ERR_MEMORY, "cannot make arguments");
    }
    return status;
}

/* Behind <tool_call>, at byte begin: one object up to </tool_call>. *end: behind the tag, or where the call breaks off. */
static cohort_status take_hermes(const struct scan *scan, size_t begin, size_t *end, struct response_call *call)
{
    static const char open[] = "<tool_call>", close[] = "</tool_call>";
    const size_t at = skip_blanks(scan, begin);
    size_t to = at < scan->length && scan->text[at] == '{' ? json_text_end(scan->text, scan->length, at) : 0;
    if (to > 0 && (stands(scan, skip_blanks(scan, to), close) || skip_blanks(scan, to) == scan->length)) {
        call->closed = stands(scan, skip_blanks(scan, to), close);
        *end = skip_blanks(scan, to) + (call->closed ? strlen(close) : 0);
        return read_object(scan, at, to, call);
    }
    to = find(scan, at, scan->length, close);
    *end = to + strlen(close);
    call->closed = to < scan->length;
    if (!call->closed)
        *end = to = find(scan, at, scan->length, open);
    size_t inner = at;
    strip(scan, &inner, &to);
    TRY(read_object(scan, inner, to, call)); /* for its reason */
    return wrong(scan, call, "the call breaks off before </tool_call>");
}

static size_t skip_commas(const struct scan *scan, size_t at, size_t stop)
{
    while (at < stop && (blank(scan->text[at]) || scan->text[at] == ','))
        at++;
    return at;
}

/* Behind [TOOL_CALLS], at byte at: an array of objects. from: where the bytes of the first call begin. *end: behind it, or
 * behind what was cut off; an array without objects is a call too, with what is wrong with it. */
static cohort_status take_array(const struct scan *scan, size_t from, size_t at, size_t *end)
{
    const size_t whole = json_text_end(scan->text, scan->length, at);
    const size_t stop = whole > 0 ? whole - 1 : scan->length;
    at = skip_commas(scan, at + 1, stop);
    do {
        struct response_call call = {0};
        const bool object = at < stop && scan->text[at] == '{';
        const size_t object_end = object ? json_text_end(scan->text, stop, at) : 0;
        const size_t to = object_end > 0 ? object_end : stop;
        call.closed = object_end > 0 || whole > 0;
        cohort_status status = read_object(scan, at, to, &call);
        if (status == COHORT_OK && object_end == 0)
            status = wrong(scan, &call, "the call breaks off");
        if (status != COHORT_OK) {
            call_free(&call);
            return status;
        }
        at = skip_commas(scan, to, stop);
        *end = at < stop ? at : skip_blanks(scan, whole > 0 ? whole : scan->length);
        TRY(add_call(scan, &call, from, *end));
        from = *end;
    } while (at < stop);
    return COHORT_OK;
}

/* Behind [TOOL_CALLS], at byte at: NAME, perhaps [CALL_ID]ID, [ARGS] and an object. */
static cohort_status take_named(const struct scan *scan, size_t at, size_t *end, struct response_call *call)
{
    static const char args[] = "[ARGS]", call_id[] = "[CALL_ID]", again[] = "[TOOL_CALLS]";
    const size_t stop = find(scan, at, scan->length, again);
    const size_t arguments = find(scan, at, stop, args);
    size_t object = arguments < stop ? arguments + strlen(args) : find(scan, at, stop, "{");
    const size_t head_end = arguments < stop ? arguments : object, id = find(scan, at, head_end, call_id);
    size_t name = at, name_end = id;
    strip(scan, &name, &name_end);
    if (name < name_end)
        TRY(mem_strdup(&call->name, scan->text + name, name_end - name, scan->err));
    else
        TRY(wrong(scan, call, "the call has no name"));
    if (id < head_end) {
        size_t from = id + strlen(call_id), to = head_end;
        strip(scan, &from, &to);
        TRY(mem_strdup(&call->id, scan->text + from, to - from, scan->err));
    }
    object = skip_blanks(scan, object);
    const size_t to = object < stop && scan->text[object] == '{' ? json_text_end(scan->text, stop, object) : 0;
    call->closed = to > 0;
    *end = skip_blanks(scan, to > 0 ? to : stop);
    if (to == 0)
        return wrong(scan, call, "the call breaks off, or its arguments are no object");
    call->arguments_from = object;
    call->arguments_to = to;
    cohort_error mistake = {0};
    cohort_status status = json_text_parse(&call->arguments, scan->text + object, to - object, "call", 1,
                                           JSON_TEXT_NUL | JSON_TEXT_REPEATED, &mistake);
    if (status == COHORT_ERR_MEMORY)
        return error_set(scan->err, status, "%s", mistake.message);
    return status == COHORT_OK ? COHORT_OK : wrong(scan, call, mistake.message);
}

/* ---- calls as XML ---- */

/* The schema of a parameter, or NULL. */
static const json_t *schema_of(const json_t *tools, const char *name, const char *key)
{
    size_t at = 0;
    json_t *tool = NULL;
    json_array_foreach((json_t *)(uintptr_t)tools, at, tool)
    {
        const json_t *function = json_object_get(tool, "function");
        if (function == NULL)
            function = tool;
        const char *named = json_string_value(json_object_get(function, "name"));
        if (named != NULL && strcmp(named, name) == 0)
            return json_object_get(json_object_get(json_object_get(function, "parameters"), "properties"), key);
    }
    return NULL;
}

/* Whether raw is the word (in lower case), in whatever case. */
static bool spells(const char *raw, const char *word)
{
    for (; *word != '\0'; raw++, word++)
        if (*raw != *word && *raw != *word - 'a' + 'A')
            return false;
    return *raw == '\0';
}

/* text as a value of one type of JSON schema; NULL: it is none. */
static json_t *value_of_type(const json_t *text, const char *type)
{
    const char *raw = json_string_value(text);
    json_t *value = NULL;
    if (strcmp(type, "boolean") == 0) {
        const bool yes = spells(raw, "true") || strcmp(raw, "1") == 0;
        return yes ? json_true() : spells(raw, "false") || strcmp(raw, "0") == 0 ? json_false() : NULL;
    }
    if (strcmp(type, "null") == 0)
        return strcmp(raw, "null") == 0 || strcmp(raw, "None") == 0 ? json_null() : NULL;
    if (json_text_parse(&value, raw, json_string_length(text), "value", 1,
                        JSON_TEXT_ANY | JSON_TEXT_NUL | JSON_TEXT_REPEATED, NULL) != COHORT_OK)
        return NULL;
    const double number = json_is_real(value) ? json_real_value(value) : 0;
    if (strcmp(type, "integer") == 0 && json_is_real(value) && number == trunc(number) && fabs(number) < 0x1p53) {
        json_decref(value);
        return json_integer((json_int_t)number);
    }
    if ((strcmp(type, "integer") == 0 && json_is_integer(value)) ||
        (strcmp(type, "number") == 0 && json_is_number(value)) ||
        (strcmp(type, "object") == 0 && json_is_object(value)) || (strcmp(type, "array") == 0 && json_is_array(value)))
        return value;
    json_decref(value);
    return NULL;
}

/* text (a new reference is made of it) in the first type of the schema that it has; else as it is. */
static json_t *typed(json_t *text, const json_t *schema)
{
    static const char *const unions[] = {"anyOf", "oneOf"};
    json_t *type = json_object_get(schema, "type"), *choice = NULL, *value = NULL;
    size_t at = 0;
    if (json_is_string(type) && (value = value_of_type(text, json_string_value(type))) != NULL)
        return value;
    json_array_foreach(type, at,
                       choice) if (json_is_string(choice) &&
                                   (value = value_of_type(text, json_string_value(choice))) != NULL) return value;
    for (size_t i = 0; i < sizeof unions / sizeof unions[0]; i++)
        json_array_foreach(json_object_get(schema, unions[i]), at, choice)
        {
            type = json_object_get(choice, "type");
            if (json_is_string(type) && (value = value_of_type(text, json_string_value(type))) != NULL)
                return value;
        }
    if (json_is_true(json_object_get(schema, "nullable")) && (value = value_of_type(text, "null")) != NULL)
        return value;
    return json_incref(text);
}

/* A text among a call's arguments, without the blanks around it, in the type of its schema; else as it is, as in transformers. A new reference. */
static json_t *argument_of(json_t *text, const json_t *schema)
{
    const char *raw = json_string_value(text);
    const size_t length = json_string_length(text);
    size_t from = 0, to = length;
    while (from < to && blank(raw[from]))
        from++;
    while (to > from && blank(raw[to - 1]))
        to--;
    json_t *stripped = json_stringn(raw + from, to - from);
    json_t *value = stripped == NULL ? NULL : typed(stripped, schema);
    if (value == stripped && value != NULL) {
        json_decref(value);
        value = json_incref(text);
    }
    json_decref(stripped);
    return value;
}

/* What a model wrote as a text although the tool's schema has a number, a truth, a list ... there becomes that. */
static cohort_status take_types(const struct scan *scan, struct response_call *call)
{
    const char *key = NULL;
    void *next = NULL;
    json_t *value = NULL;
    if (scan->tools == NULL || call->name == NULL || !json_is_object(call->arguments))
        return COHORT_OK;
    json_object_foreach_safe(call->arguments, next, key, value)
    {
        const json_t *schema = json_is_string(value) ? schema_of(scan->tools, call->name, key) : NULL;
        if (schema == NULL)
            continue;
        if (json_object_set_new(call->arguments, key, argument_of(value, schema)) != 0)
            return error_set(scan->err, COHORT_ERR_MEMORY, "a call: out of memory");
    }
    return COHORT_OK;
}

/* The <parameter=KEY>value</parameter> within [at, to). */
static cohort_status read_parameters(const struct scan *scan, size_t at, size_t to, struct response_call *call)
{
    static const char open[] = "<parameter=", close[] = "</parameter>";
    call->arguments = json_object();
    bool made = call->arguments != NULL;
    while (made && (at = find(scan, at, to, open)) < to) {
        const size_t key = at + strlen(open), key_end = find(scan, key, to, ">");
        size_t from = key_end + 1, end = find(scan, from, to, close);
        char *name = NULL;
        if (key_end == to || memchr(scan->text + key, '\n', key_end - key) != NULL) {
            TRY(wrong(scan, call, "a parameter's name breaks off"));
            at = key;
            continue;
        }
        if (end == to)
            TRY(wrong(scan, call, "a parameter has no </parameter>"));
        at = end;
        strip(scan, &from, &end);
        TRY(mem_strdup(&name, scan->text + key, key_end - key, scan->err));
        json_t *text = json_stringn(scan->text + from, end - from); /* NULL: no UTF-8, or no memory */
        made = text != NULL &&
               json_object_set_new(call->arguments, name, typed(text, schema_of(scan->tools, call->name, name))) == 0;
        json_decref(text);
        mem_free(name);
    }
    return made ? COHORT_OK : wrong(scan, call, "a parameter is not valid UTF-8");
}

/* Behind <tool_call>, at byte begin. */
static cohort_status take_xml(const struct scan *scan, size_t begin, size_t *end, struct response_call *call)
{
    static const char open[] = "<function=", close[] = "</tool_call>", function_end[] = "</function>";
    const size_t at = skip_blanks(scan, begin), stop = find(scan, at, scan->length, close);
    call->closed = stop < scan->length;
    *end = call->closed ? stop + strlen(close) : stop;
    if (!stands(scan, at, open))
        return wrong(scan, call, "expected <function=NAME> behind <tool_call>");
    const size_t name = at + strlen(open), name_end = find(scan, name, stop, ">");
    if (name_end == stop || name == name_end || memchr(scan->text + name, '\n', name_end - name) != NULL)
        return wrong(scan, call, "the function's name breaks off");
    TRY(mem_strdup(&call->name, scan->text + name, name_end - name, scan->err));
    const size_t body_end = find(scan, name_end, stop, function_end);
    if (body_end == stop)
        TRY(wrong(scan, call, "the call breaks off before </function>"));
    return read_parameters(scan, name_end + 1, stop, call);
}

/* ---- Llama's calls ---- */

/* A value of a built-in tool's call, at *at: a string in quotes of either kind, or JSON. NULL: neither. */
static json_t *builtin_value(const struct scan *scan, size_t *at, size_t to)
{
    const char quote = *at < to ? scan->text[*at] : '\0';
    size_t end = *at;
    json_t *value = NULL;
    if (quote == '"' || quote == '\'') {
        for (end++; end < to && scan->text[end] != quote; end++)
            end += scan->text[end] == '\\';
        if (end >= to)
            return NULL;
        if (quote == '\'') {
            value = json_stringn(scan->text + *at + 1, end - *at - 1);
            *at = end + 1;
            return value;
        }
        end++;
    } else if (quote == '{' || quote == '[') {
        end = json_text_end(scan->text, to, *at);
        if (end == 0)
            return NULL;
    } else {
        while (end < to && scan->text[end] != ',' && scan->text[end] != ')')
            end++;
    }
    if (json_text_parse(&value, scan->text + *at, end - *at, "value", 1, JSON_TEXT_ANY | JSON_TEXT_NUL, NULL) !=
        COHORT_OK)
        return NULL;
    *at = end;
    return value;
}

/* NAME.call(key="value", ...) at [from, to). False, with call as it was, if it is anything else. */
static bool read_builtin(const struct scan *scan, size_t from, size_t to, struct response_call *call)
{
    static const char open[] = ".call(";
    const size_t name_end = find(scan, from, to, open);
    size_t at = name_end + strlen(open);
    json_t *arguments = json_object();
    bool good = arguments != NULL && name_end < to && name_end > from;
    for (size_t i = from; good && i < name_end; i++)
        good = scan->text[i] == '_' || (scan->text[i] >= '0' && scan->text[i] <= '9') ||
               ((scan->text[i] | 32) >= 'a' && (scan->text[i] | 32) <= 'z');
    while (good && (at = skip_blanks(scan, at)) < to && scan->text[at] != ')') {
        char key[128];
        const size_t key_end = find(scan, at, to, "=");
        good = key_end < to && key_end - at < sizeof key;
        if (!good)
            break;
        memcpy(key, scan->text + at, key_end - at);
        key[key_end - at] = '\0';
        at = key_end + 1;
        good = json_object_set_new(arguments, key, builtin_value(scan, &at, to)) == 0;
        at = skip_blanks(scan, at);
        if (at < to && scan->text[at] == ',')
            at++;
    }
    good = good && at < to && skip_blanks(scan, at + 1) >= to &&
           mem_strdup(&call->name, scan->text + from, name_end - from, NULL) == COHORT_OK;
    if (good)
        call->arguments = json_incref(arguments);
    json_decref(arguments);
    return good;
}

/* Behind <|python_tag|>, at byte at: objects with ";" between them, or a built-in tool's call, or code. from: where the
 * bytes of the first call begin. Takes all to the end. */
static cohort_status take_python(const struct scan *scan, size_t from, size_t at)
{
    do {
        struct response_call call = {0};
        cohort_status status = COHORT_OK;
        size_t end = scan->length;
        at = skip_blanks(scan, at);
        const bool object = at < scan->length && scan->text[at] == '{';
        const size_t to = object ? json_text_end(scan->text, scan->length, at) : 0;
        call.closed = !object || to > 0;
        if (to > 0) {
            end = skip_blanks(scan, to);
            while (end < scan->length && (scan->text[end] == ';' || blank(scan->text[end])))
                end++;
            status = read_object(scan, at, to, &call);
        } else if (object) {
            status = wrong(scan, &call, "the call breaks off");
        } else if (!read_builtin(scan, at, scan->length, &call)) {
            status = wrong(scan, &call,
                           "expected an object with name and parameters behind <|python_tag|>, or NAME.call(...)");
        }
        if (status != COHORT_OK) {
            call_free(&call);
            return status;
        }
        TRY(add_call(scan, &call, from, end));
        from = at = end;
    } while (at < scan->length);
    return COHORT_OK;
}

/* {"name": ..., "parameters": ...} at byte at, with nothing behind it; cut off, it is a call as far as it goes. False in
 * *taken: it is content. */
static cohort_status take_bare(const struct scan *scan, size_t from, size_t at, bool *taken)
{
    const size_t to = json_text_end(scan->text, scan->length, at);
    struct response_call call = {.closed = to > 0};
    *taken = false;
    if (to > 0 && skip_blanks(scan, to) < scan->length)
        return COHORT_OK;
    cohort_status status = to > 0 ? read_object(scan, at, to, &call) : wrong(scan, &call, "the call breaks off");
    if (status != COHORT_OK || (to > 0 && call.error != NULL)) {
        call_free(&call);
        return status;
    }
    *taken = true;
    return add_call(scan, &call, from, scan->length);
}

/* ---- the walk ---- */

/* Where white space before byte at begins, not before from. */
static size_t before_blanks(const struct scan *scan, size_t from, size_t at)
{
    while (at > from && blank(scan->text[at - 1]))
        at--;
    return at;
}

static const char *call_opener(enum response_form form)
{
    static const char *const openers[RESPONSE_FORMS] = {[RESPONSE_HERMES] = "<tool_call>",
                                                        [RESPONSE_XML] = "<tool_call>",
                                                        [RESPONSE_LLAMA] = "<|python_tag|>",
                                                        [RESPONSE_MISTRAL] = "[TOOL_CALLS]"};
    return openers[form];
}

/* A call, or calls, opened at byte open behind content that begins at from. *at: what comes then. */
static cohort_status take_calls(const struct scan *scan, size_t from, size_t open, size_t *at)
{
    const size_t begin = open + strlen(call_opener(scan->form)), first = before_blanks(scan, from, open);
    const size_t object = skip_blanks(scan, begin);
    TRY(add_part(scan, RESPONSE_CONTENT, from, first, 0));
    *at = scan->length;
    if (scan->form == RESPONSE_LLAMA)
        return take_python(scan, first, begin);
    if (scan->form == RESPONSE_MISTRAL && object < scan->length && scan->text[object] == '[')
        return take_array(scan, first, object, at);
    struct response_call call = {0};
    cohort_status status = scan->form == RESPONSE_HERMES ? take_hermes(scan, begin, at, &call)
                           : scan->form == RESPONSE_XML  ? take_xml(scan, begin, at, &call)
                                                         : take_named(scan, begin, at, &call);
    if (status != COHORT_OK) {
        call_free(&call);
        return status;
    }
    *at = skip_blanks(scan, *at);
    return add_call(scan, &call, first, *at);
}

/* Thinking whose words begin at inner (its bytes at from), up to the tag that closes it. */
static cohort_status take_thinking(const struct scan *scan, size_t from, size_t inner, const char *close, size_t *at)
{
    const size_t end = find(scan, inner, scan->length, close);
    scan->out->thinking_open = end == scan->length;
    *at = end == scan->length ? end : skip_blanks(scan, end + strlen(close));
    return add_thinking(scan, from, *at, inner, end);
}

/* Which thinking tags count. */
static bool thinks_with(const struct scan *scan, size_t tag)
{
    return !thinking_tags[tag].mistral || scan->form == RESPONSE_MISTRAL;
}

/* Content from byte at on, up to what is no content; *at: what comes then. */
static cohort_status take_content(const struct scan *scan, size_t *at)
{
    const size_t from = *at;
    const char *opener = call_opener(scan->form);
    size_t call = opener == NULL ? scan->length : find(scan, from, scan->length, opener), think = scan->length, tag = 0;
    for (size_t i = 0; i < N_TAGS; i++) {
        const size_t found =
            thinks_with(scan, i) ? find(scan, from, scan->length, thinking_tags[i].open) : scan->length;
        if (found < think) {
            think = found;
            tag = i;
        }
    }
    const size_t bare = scan->form == RESPONSE_LLAMA ? find(scan, from, scan->length, "{\"name\"") : scan->length;
    if (bare < call && bare < think) {
        bool taken = false;
        const size_t parts = scan->out->n_parts, length = scan->out->content.length;
        TRY(add_part(scan, RESPONSE_CONTENT, from, before_blanks(scan, from, bare), 0));
        TRY(take_bare(scan, before_blanks(scan, from, bare), bare, &taken));
        *at = scan->length;
        if (taken)
            return COHORT_OK;
        scan->out->n_parts = parts; /* content after all */
        scan->out->content.length = length;
    }
    if (think < call) {
        TRY(add_part(scan, RESPONSE_CONTENT, from, think, 0));
        return take_thinking(scan, think, think + strlen(thinking_tags[tag].open), thinking_tags[tag].close, at);
    }
    if (call < scan->length)
        return take_calls(scan, from, call, at);
    *at = scan->length;
    return add_part(scan, RESPONSE_CONTENT, from, scan->length, 0);
}

/* Thinking that the completion does not open itself: the prompt did, or nobody did and a tag closes it all the same. */
static cohort_status take_beginning(const struct scan *scan, bool in_thinking, size_t *at)
{
    const char *opener = call_opener(scan->form);
    for (size_t i = 0; i < N_TAGS; i++) {
        const size_t close = find(scan, 0, scan->length, thinking_tags[i].close);
        const size_t open = find(scan, 0, close, thinking_tags[i].open);
        const size_t call = opener == NULL ? close : find(scan, 0, close, opener);
        if (!thinks_with(scan, i) || close == scan->length || (!in_thinking && (open < close || call < close)))
            continue;
        size_t inner = 0;
        if (stands(scan, skip_blanks(scan, 0), thinking_tags[i].open)) /* opened twice */
            inner = skip_blanks(scan, 0) + strlen(thinking_tags[i].open);
        return take_thinking(scan, 0, inner, thinking_tags[i].close, at);
    }
    return in_thinking ? take_thinking(scan, 0, 0, thinking_tags[0].close, at) : COHORT_OK;
}

cohort_status response_parse(struct response *out, const char *text, size_t length, enum response_form form,
                             bool in_thinking, const json_t *tools, cohort_error *err)
{
    const struct scan scan = {.text = text, .length = length, .form = form, .tools = tools, .out = out, .err = err};
    size_t at = 0;
    TRY(take_beginning(&scan, in_thinking, &at));
    while (at < length)
        TRY(take_content(&scan, &at));
    for (size_t i = 0; form != RESPONSE_XML && i < out->n_calls; i++)
        TRY(take_types(&scan, &out->calls[i]));
    return COHORT_OK;
}

void response_free(struct response *response)
{
    for (size_t i = 0; i < response->n_calls; i++)
        call_free(&response->calls[i]);
    mem_free(response->calls);
    mem_free(response->parts);
    text_free(&response->thinking);
    text_free(&response->content);
    memset(response, 0, sizeof *response);
}
