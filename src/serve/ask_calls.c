/* Calls of tools that are asked for by name, or at least one of any: the answer is held to calls in the form of the model,
 * whose arguments are JSON of each tool's schema (guided_tools). */
#include "base/json_text.h"
#include "serve/ask.h"

#include <string.h>

/* The tools that may be called, a new reference: all, or the one that is named; NULL: there is none of that name. */
static json_t *callable(const struct ask *ask)
{
    if (ask->forced_name == NULL)
        return json_incref(ask->tools);
    for (size_t i = 0; i < json_array_size(ask->tools); i++) {
        json_t *tool = json_array_get(ask->tools, i);
        const char *name = json_string_value(ask_field(ask_field(tool, "function"), "name"));
        if (name != NULL && strcmp(name, ask->forced_name) == 0)
            return json_pack("[O]", tool);
    }
    return NULL;
}

cohort_status ask_forced_calls(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    const struct guide_options options = {
        .eos_ids = ask->eos_ids,
        .n_eos = ask->n_eos,
        .after = ask->thinks ? tokenizer_find(context->session->tokenizer, "</think>") : -1,
    };
    struct text text = {0};
    if (ask->response == RESPONSE_PLAIN || context->vocabulary == NULL)
        return fault_set(fault, 400, "unsupported_value", "tool_choice",
                         "tool_choice: the chat template of this model does not say how tools are called");
    if (ask->thinks && options.after < 0)
        return fault_set(fault, 400, "unsupported_value", "tool_choice",
                         "tool_choice: the tokenizer has no token </think> for calls to begin behind");
    json_t *tools = callable(ask);
    if (tools == NULL)
        return fault_set(fault, 400, "invalid_value", "tool_choice", "tool_choice: there is no tool \"%.80s\"",
                         ask->forced_name);
    json_t *asked =
        json_pack("{s:i, s:i, s:o}", "form", (int)ask->response, "mode", (int)GUIDE_TOOLS_REQUIRED, "tools", tools);
    cohort_status status = json_text_write(asked, JSON_COMPACT, &text, &fault->err);
    json_decref(asked);
    if (status == COHORT_OK)
        status = guide_create(&ask->guide, context->vocabulary, GUIDE_TOOLS, text.data, text.length, &options, "tools",
                              NULL, &fault->err);
    text_free(&text);
    return status;
}
