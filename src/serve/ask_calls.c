/* Calls of tools that are asked for by name, or at least one of any: the answer is held to a grammar of calls in the form
 * of the model, whose arguments are JSON of each tool's schema. */
#include "base/json_text.h"
#include "serve/ask.h"

#include <string.h>

static bool plain_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return name[0] != '\0' && strspn(name, letters) == strlen(name) && strlen(name) <= 64;
}

/* A tag of the model's: the token where there is one, else its text. */
static cohort_status write_tag(const struct tokenizer *tokenizer, const char *tag, struct text *out, cohort_error *err)
{
    const int32_t id = tokenizer_find(tokenizer, tag);
    return id >= 0 ? text_printf(out, err, "<[%d]>", (int)id) : text_printf(out, err, "\"%s\"", tag);
}

static cohort_status write_call(const struct ask_context *context, const char *name, size_t i, struct text *out,
                                cohort_error *err)
{
    const struct tokenizer *tokenizer = context->session->tokenizer;
    TRY(text_printf(out, err, "call_%zu: ", i));
    TRY(write_tag(tokenizer, "<tool_call>", out, err));
    TRY(text_printf(out, err, " \"\\n{\\\"name\\\": \\\"%s\\\", \\\"arguments\\\": \" arguments_%zu \"}\\n\" ", name,
                    i));
    TRY(write_tag(tokenizer, "</tool_call>", out, err));
    return text_append(out, "\n", 1, err);
}

/* The grammar in Lark's notation. */
static cohort_status write_grammar(const struct ask *ask, const struct ask_context *context, struct text *out,
                                   struct fault *fault)
{
    const bool several = ask->forced_name == NULL && !json_is_false(ask_field(ask->body, "parallel_tool_calls"));
    size_t n = 0;
    struct text choice = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < json_array_size(ask->tools); i++) {
        const json_t *function = ask_field(json_array_get(ask->tools, i), "function"),
                     *schema = ask_field(function, "parameters");
        const char *name = json_string_value(ask_field(function, "name"));
        if (ask->forced_name != NULL && strcmp(name, ask->forced_name) != 0)
            continue;
        if (!plain_name(name)) {
            status = fault_set(fault, 400, "invalid_value", "tools",
                               "tools[%zu]: a name is up to 64 letters, digits, _, . and -", i);
            goto cleanup;
        }
        TRY_GOTO(write_call(context, name, i, out, &fault->err));
        TRY_GOTO(text_printf(out, &fault->err, "arguments_%zu: %%json ", i));
        if (schema != NULL)
            TRY_GOTO(json_text_write(schema, JSON_COMPACT, out, &fault->err));
        else
            TRY_GOTO(text_printf(out, &fault->err, "{\"type\": \"object\"}"));
        TRY_GOTO(text_append(out, "\n", 1, &fault->err));
        TRY_GOTO(text_printf(&choice, &fault->err, "%scall_%zu", n++ > 0 ? " | " : "", i));
    }
    if (n == 0) {
        status = fault_set(fault, 400, "invalid_value", "tool_choice", "tool_choice: there is no tool \"%.80s\"",
                           ask->forced_name == NULL ? "" : ask->forced_name);
        goto cleanup;
    }
    TRY_GOTO(text_printf(out, &fault->err, "any: %s\nstart: any%s\n", choice.data, several ? " (\"\\n\" any)*" : ""));
cleanup:
    text_free(&choice);
    return status;
}

cohort_status ask_forced_calls(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    struct text grammar = {0};
    const struct guide_options options = {
        .eos_ids = ask->eos_ids,
        .n_eos = ask->n_eos,
        .after = ask->thinks ? tokenizer_find(context->session->tokenizer, "</think>") : -1,
    };
    if (ask->response != RESPONSE_HERMES || context->vocabulary == NULL)
        return fault_set(fault, 400, "unsupported_value", "tool_choice",
                         "tool_choice: calls can be forced of models alone that write <tool_call> and JSON");
    if (ask->thinks && options.after < 0)
        return fault_set(fault, 400, "unsupported_value", "tool_choice",
                         "tool_choice: the tokenizer has no token </think> for calls to begin behind");
    cohort_status status = write_grammar(ask, context, &grammar, fault);
    if (status == COHORT_OK)
        status = guide_create(&ask->guide, context->vocabulary, GUIDE_GRAMMAR, grammar.data, grammar.length, &options,
                              "tools", NULL, &fault->err);
    text_free(&grammar);
    return status;
}
