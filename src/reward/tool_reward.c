/* tool_use: whether the calls of tools in a completion are well formed and name a tool that there is, with mlx-node's
 * values.
 *
 *     1     every call names an allowed tool and has arguments
 *     0.7   one of them has no arguments
 *     -0.5  a call that is cut off or malformed, or that names another tool
 *     0     no call; 0.5 where none is required
 *
 * The lowest of a completion's calls counts; calls within the reasoning (before </think>) do not. A call is
 * <tool_call>...</tool_call> with JSON as Qwen and Hermes write it, with <function=NAME><parameter=KEY>..., or with
 * <name>NAME</name><arguments>...</arguments>, which alone mlx-node knows. The tools are --reward-tools, else those of the
 * row's column "tools", else search, calculate and code, as there. */
#include "reward/reward_internal.h"
#include "text/response.h"

#include <string.h>

static const double GOOD = 1.0, WITHOUT_ARGUMENTS = 0.7, BAD = -0.5, OPTIONAL = 0.5;

struct tool_state {
    struct reward_texts *tools;  /* NULL: those of the row */
    struct reward_texts *others; /* of a row without tools */
    bool optional;
};

static const char OPEN[] = "<tool_call>", CLOSE[] = "</tool_call>";

/* Where word begins in s from start on, or the length. */
static size_t find(struct span s, size_t start, const char *word)
{
    const char *at = memmem(s.at + start, s.length - start, word, strlen(word));
    return at == NULL ? s.length : (size_t)(at - s.at);
}

static bool same(struct span s, const char *name)
{
    return name != NULL && strlen(name) == s.length && memcmp(s.at, name, s.length) == 0;
}

static bool is_allowed(const struct tool_state *state, const json_t *row_tools, struct span name)
{
    const struct reward_texts *tools = state->tools;
    if (tools == NULL && json_array_size(row_tools) == 0)
        tools = state->others;
    for (size_t i = 0; tools != NULL && i < tools->n; i++)
        if (same(name, tools->texts[i]))
            return true;
    for (size_t i = 0; tools == NULL && i < json_array_size(row_tools); i++) {
        const json_t *tool = json_array_get(row_tools, i), *function = json_object_get(tool, "function");
        if (same(name, json_string_value(json_object_get(function != NULL ? function : tool, "name"))))
            return true;
    }
    return false;
}

/* <name>NAME</name><arguments>...</arguments> */
static double judge_named(const struct tool_state *state, const json_t *row_tools, struct span body)
{
    static const char name[] = "<name>";
    const size_t start = find(body, 0, name), end = find(body, 0, "</name>");
    if (start == body.length || end == body.length || end <= start + strlen(name))
        return BAD;
    const size_t from = start + strlen(name);
    if (!is_allowed(state, row_tools, reward_trim((struct span){body.at + from, end - from})))
        return BAD;
    const bool arguments = find(body, 0, "<arguments>") < body.length && find(body, 0, "</arguments>") < body.length;
    return arguments ? GOOD : WITHOUT_ARGUMENTS;
}

/* The forms that models of today write, tags included. */
static cohort_status judge_parsed(const struct tool_state *state, const json_t *row_tools, struct span call,
                                  enum response_form form, double *value, cohort_error *err)
{
    struct response response = {0};
    cohort_status status = COHORT_OK;
    *value = BAD;
    TRY_GOTO(response_parse(&response, call.at, call.length, form, false, row_tools, err));
    if (response.n_calls == 1 && response.calls[0].error == NULL && response.calls[0].name != NULL) {
        const struct response_call *found = &response.calls[0];
        const bool arguments =
            form == RESPONSE_XML ? json_object_size(found->arguments) > 0 : found->arguments_from < found->arguments_to;
        if (is_allowed(state, row_tools, (struct span){found->name, strlen(found->name)}))
            *value = arguments ? GOOD : WITHOUT_ARGUMENTS;
    }
cleanup:
    response_free(&response);
    return status;
}

static cohort_status judge(const struct tool_state *state, const struct reward_row *row, double *reward,
                           cohort_error *err)
{
    const struct span s = reward_after_reasoning((struct span){row->completion, row->completion_length});
    const json_t *row_tools = json_object_get(row->data, "tools");
    bool any = false;
    double lowest = GOOD;
    for (size_t at = 0; at < s.length;) {
        const size_t start = find(s, at, OPEN), end = find(s, at, CLOSE);
        double value = BAD;
        if (start == s.length && end == s.length)
            break;
        any = true;
        if (start == s.length || end == s.length || end <= start + strlen(OPEN)) {
            lowest = BAD;
            break;
        }
        const struct span call = {s.at + start, end + strlen(CLOSE) - start};
        const struct span body = reward_trim((struct span){s.at + start + strlen(OPEN), end - start - strlen(OPEN)});
        if (body.length > 0 && body.at[0] == '{')
            TRY(judge_parsed(state, row_tools, call, RESPONSE_HERMES, &value, err));
        else if (find(body, 0, "<function=") == 0 && body.length > 0)
            TRY(judge_parsed(state, row_tools, call, RESPONSE_XML, &value, err));
        else
            value = judge_named(state, row_tools, body);
        lowest = value < lowest ? value : lowest;
        at = end + strlen(CLOSE);
    }
    *reward = any ? lowest : state->optional ? OPTIONAL : 0.0;
    return COHORT_OK;
}

static cohort_status tool_score(void *opaque, const char *name, const struct reward_row *rows, size_t n_rows,
                                double *rewards, cohort_error *err)
{
    (void)name;
    for (size_t i = 0; i < n_rows; i++)
        TRY(judge(opaque, &rows[i], &rewards[i], err));
    return COHORT_OK;
}

static void tool_destroy(void *opaque)
{
    struct tool_state *state = opaque;
    if (state->tools != NULL)
        reward_texts_destroy(state->tools);
    if (state->others != NULL)
        reward_texts_destroy(state->others);
    mem_free(state);
}

cohort_status reward_tools_create(void **out, const struct reward_options *options, cohort_error *err)
{
    static const char *const usual[] = {"search", "calculate", "code"};
    struct tool_state *state = NULL;
    void *texts = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&state, 1, sizeof *state, "reward", err));
    state->optional = options->tool_optional;
    if (options->n_tools > 0) {
        TRY_GOTO(reward_texts_create(&texts, options->tools, options->n_tools, "--reward-tools", err));
        state->tools = texts;
    }
    TRY_GOTO(reward_texts_create(&texts, usual, 3, "--reward-tools", err));
    state->others = texts;
    *out = state;
    return COHORT_OK;
cleanup:
    tool_destroy(state);
    return status;
}

const struct reward_kind reward_kind_tools = {.score = tool_score, .destroy = tool_destroy};
