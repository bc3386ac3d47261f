/* What holds an answer to a language: response_format, and the names of vLLM and llama.cpp for the same. */
#include "base/json_text.h"
#include "serve/ask.h"

#include <string.h>

struct wish {
    enum guide_kind kind;
    const char *param;   /* the field it came from; NULL: nothing is asked */
    const json_t *value; /* text, or a schema, or a list of texts */
    bool any_object;     /* JSON of any kind */
};

static cohort_status wish_for(struct wish *wish, enum guide_kind kind, const char *param, const json_t *value,
                              struct fault *fault)
{
    if (value == NULL)
        return COHORT_OK;
    if (wish->param != NULL)
        return fault_set(fault, 400, "invalid_value", param, "%s and %s: one of them can guide an answer", wish->param,
                         param);
    *wish = (struct wish){.kind = kind, .param = param, .value = value};
    return COHORT_OK;
}

static cohort_status read_format(const struct ask *ask, struct wish *wish, struct fault *fault)
{
    const bool responses = ask->form == ASK_RESPONSES;
    const char *param = responses ? "text.format" : "response_format";
    const json_t *format =
        responses ? ask_field(ask_field(ask->body, "text"), "format") : ask_field(ask->body, "response_format");
    const char *type = json_string_value(ask_field(format, "type"));
    if (format == NULL || (type != NULL && strcmp(type, "text") == 0))
        return COHORT_OK;
    if (type == NULL)
        return fault_set(fault, 400, "invalid_type", param, "%s: expected an object with a \"type\"", param);
    const json_t *inner = responses ? format : ask_field(format, "json_schema");
    const json_t *value = strcmp(type, "json_object") == 0   ? format
                          : strcmp(type, "json_schema") == 0 ? ask_field(inner, "schema")
                          : strcmp(type, "regex") == 0       ? ask_field(format, "pattern")
                          : strcmp(type, "grammar") == 0     ? ask_field(format, "grammar")
                                                             : NULL;
    const bool known = strcmp(type, "json_object") == 0 || strcmp(type, "json_schema") == 0 ||
                       strcmp(type, "regex") == 0 || strcmp(type, "grammar") == 0;
    if (!known)
        return fault_set(fault, 400, "unsupported_value", param,
                         "%s: type \"%.40s\" is not supported here; expected text, json_object, json_schema, regex or "
                         "grammar",
                         param, type);
    if (value == NULL)
        return fault_set(fault, 400, "missing_parameter", param, "%s: nothing stands there for type %s", param, type);
    TRY(wish_for(wish,
                 strcmp(type, "regex") == 0     ? GUIDE_REGEX
                 : strcmp(type, "grammar") == 0 ? GUIDE_GRAMMAR
                                                : GUIDE_JSON,
                 param, value, fault));
    wish->any_object = strcmp(type, "json_object") == 0;
    return COHORT_OK;
}

static cohort_status read_structured(const struct ask *ask, struct wish *wish, struct fault *fault)
{
    static const char *const names[] = {"json", "regex", "choice", "grammar", "json_object", NULL};
    const json_t *outputs = ask_field(ask->body, "structured_outputs");
    if (outputs == NULL)
        return COHORT_OK;
    if (!json_is_object(outputs))
        return fault_set(fault, 400, "invalid_type", "structured_outputs", "structured_outputs: expected an object");
    TRY(ask_known(outputs, names, false, fault));
    TRY(wish_for(wish, GUIDE_JSON, "structured_outputs.json", ask_field(outputs, "json"), fault));
    TRY(wish_for(wish, GUIDE_REGEX, "structured_outputs.regex", ask_field(outputs, "regex"), fault));
    TRY(wish_for(wish, GUIDE_CHOICE, "structured_outputs.choice", ask_field(outputs, "choice"), fault));
    TRY(wish_for(wish, GUIDE_GRAMMAR, "structured_outputs.grammar", ask_field(outputs, "grammar"), fault));
    if (json_is_true(ask_field(outputs, "json_object"))) {
        TRY(wish_for(wish, GUIDE_JSON, "structured_outputs.json_object", outputs, fault));
        wish->any_object = true;
    }
    return COHORT_OK;
}

/* The text that guide_create reads. */
static cohort_status wish_text(const struct wish *wish, struct text *text, struct fault *fault)
{
    static const char object[] = "{\"type\": \"object\"}";
    if (wish->any_object)
        return text_append(text, object, sizeof object - 1, &fault->err);
    if (json_is_string(wish->value))
        return text_append(text, json_string_value(wish->value), json_string_length(wish->value), &fault->err);
    if (wish->kind == GUIDE_JSON || (wish->kind == GUIDE_CHOICE && json_is_array(wish->value)))
        return json_text_write(wish->value, JSON_ENCODE_ANY | JSON_COMPACT, text, &fault->err);
    return fault_set(fault, 400, "invalid_type", wish->param, "%s: expected a text", wish->param);
}

static cohort_status find_wish(const struct ask *ask, struct wish *wish, struct fault *fault)
{
    TRY(read_format(ask, wish, fault));
    TRY(read_structured(ask, wish, fault));
    TRY(wish_for(wish, GUIDE_JSON, "guided_json", ask_field(ask->body, "guided_json"), fault));
    TRY(wish_for(wish, GUIDE_REGEX, "guided_regex", ask_field(ask->body, "guided_regex"), fault));
    TRY(wish_for(wish, GUIDE_CHOICE, "guided_choice", ask_field(ask->body, "guided_choice"), fault));
    TRY(wish_for(wish, GUIDE_GRAMMAR, "guided_grammar", ask_field(ask->body, "guided_grammar"), fault));
    TRY(wish_for(wish, GUIDE_GRAMMAR, "grammar", ask_field(ask->body, "grammar"), fault));
    return wish_for(wish, GUIDE_JSON, "json_schema", ask_field(ask->body, "json_schema"), fault);
}

cohort_status ask_guide(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    struct wish wish = {0};
    struct text text = {0};
    bool after = ask->thinks;
    TRY(find_wish(ask, &wish, fault));
    TRY(ask_bool(ask->body, "guided_after_think", &after, fault));
    if (wish.param == NULL && ask->forced && ask->min_tokens > 0)
        return fault_set(fault, 400, "unsupported_value", "min_tokens",
                         "min_tokens together with calls that tool_choice asks for is not supported here");
    if (wish.param == NULL)
        return ask->forced ? ask_forced_calls(ask, context, fault) : COHORT_OK;
    if (context->vocabulary == NULL)
        return fault_set(fault, 400, "unsupported_value", wish.param, "%s: answers cannot be guided here", wish.param);
    if (ask->min_tokens > 0)
        return fault_set(fault, 400, "unsupported_value", "min_tokens",
                         "min_tokens together with %s is not supported here: it is the language that says how long an "
                         "answer is",
                         wish.param);
    if (ask->calls)
        return fault_set(fault, 400, "unsupported_value", wish.param,
                         "%s together with tools is not supported here (\"tool_choice\": \"none\" goes with it)",
                         wish.param);
    const struct guide_options options = {
        .eos_ids = ask->eos_ids,
        .n_eos = ask->n_eos,
        .after = after ? tokenizer_find(context->session->tokenizer, "</think>") : -1,
        .whitespace = GUIDE_SPACE_NONE,
        .unsupported = GUIDE_UNSUPPORTED_REFUSE,
    };
    if (after && options.after < 0)
        return fault_set(fault, 400, "unsupported_value", "guided_after_think",
                         "guided_after_think: the tokenizer has no token </think> to begin behind");
    cohort_status status = wish_text(&wish, &text, fault);
    if (status == COHORT_OK)
        status = guide_create(&ask->guide, context->vocabulary, wish.kind, text.data == NULL ? "" : text.data,
                              text.length, &options, wish.param, NULL, &fault->err);
    if (status != COHORT_OK && fault->status == 0 && fault_http(fault) == 400) {
        fault->status = 400;
        fault->code = "invalid_value";
        memcpy(fault->param, wish.param, strlen(wish.param) + 1);
    }
    text_free(&text);
    return status;
}
