/* guided_tools: turns of all forms of calls, by what is a member and what is not; their calls taken apart again have the names
 * and arguments that were asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "guide/json_schema.h"
#include "support/guide_test.h"
#include "text/response.h"

#include <jansson.h>

#define TOOLS                                                                                                          \
    "[{\"type\": \"function\", \"function\": {\"name\": \"add\", \"parameters\": {\"type\": \"object\", "              \
    "\"properties\": "                                                                                                 \
    "{\"x\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 99}, \"how\": {\"type\": \"string\", \"enum\": "     \
    "[\"fast\", \"slow\"]}}, \"required\": [\"x\"], \"additionalProperties\": false}}}, {\"name\": \"say\", "          \
    "\"parameters\": {\"type\": \"object\", \"properties\": {\"text\": {\"type\": \"string\"}, \"tags\": {\"$ref\": "  \
    "\"#/$defs/t\"}}, \"required\": [\"text\"], \"additionalProperties\": false, \"$defs\": {\"t\": {\"type\": "       \
    "\"array\", \"items\": {\"type\": \"boolean\"}, \"maxItems\": 2}}}}]"

static const char *const special[] = {"<end>",    "<tool_call>",  "</tool_call>",  "<think>",
                                      "</think>", "[TOOL_CALLS]", "<|python_tag|>"};
enum { N_SPECIAL = sizeof special / sizeof *special };

/* with: how many of the special tokens the tokenizer has. */
static struct guide *guide_of(struct tokenizer **tokenizer, struct guide_vocabulary **v, enum response_form form,
                              enum guide_tools mode, const char *tools, size_t with, int32_t *eos, cohort_error *err)
{
    static const char *const tokens[] = {"a", "call", "name", "x"};
    char text[4000];
    struct guide *guide = NULL;
    (void)snprintf(text, sizeof text, "{\"form\": %d, \"mode\": %d, \"tools\": %s}", (int)form, (int)mode, tools);
    *tokenizer = guide_test_tokenizer(tokens, 4, special, with);
    assert_int_equal(guide_vocabulary_create(v, *tokenizer, 0, NULL), COHORT_OK);
    *eos = tokenizer_find(*tokenizer, "<end>");
    const struct guide_options options = {.eos_ids = eos, .n_eos = 1, .after = -1};
    (void)guide_create(&guide, *v, GUIDE_TOOLS, text, strlen(text), &options, "guided_tools", NULL, err);
    return guide;
}

/* Whether a text is a member, written with the special tokens that stand in it. */
static bool is_member(struct guide *guide, const struct tokenizer *tokenizer, const char *text)
{
    struct guide_state *state = NULL;
    struct token_list ids = {0};
    bool alive = true;
    assert_int_equal(guide_start(&state, guide, 1000, 0, NULL), COHORT_OK);
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), true, &ids, NULL), COHORT_OK);
    for (size_t i = 0; i < ids.count && alive; i++) {
        alive = guide_test_bit(guide_mask(state), ids.ids[i]);
        assert_true(guide_accept(state, ids.ids[i]) == alive);
    }
    alive = alive && guide_can_end(state);
    guide_stop(state);
    token_list_free(&ids);
    return alive;
}

struct turns {
    enum response_form form;
    enum guide_tools mode;
    const char *in[7], *out[7];
};

static const struct turns turns[] = {
    {RESPONSE_HERMES,
     GUIDE_TOOLS_AUTO,
     {"", "any text, < and <tool", "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 7}}\n</tool_call>",
      "so:\n<tool_call>\n{\"name\": \"say\", \"arguments\": {\"text\": \"a\\\"\", \"tags\": [true, "
      "false]}}\n</tool_call> and "
      "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 0, \"how\": \"slow\"}}\n</tool_call>",
      "<think>hm</think>\n\nno"},
     {"<tool_call>", "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 100}}\n</tool_call>",
      "<tool_call>\n{\"name\": \"sub\", \"arguments\": {}}\n</tool_call>",
      "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>",
      "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 1}}\n", "a <tool_call> b", "</tool_call>"}},
    {RESPONSE_HERMES,
     GUIDE_TOOLS_REQUIRED,
     {"<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 7}}\n</tool_call>",
      "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 7}}\n</tool_call>\n<tool_call>\n{\"name\": \"say\", "
      "\"arguments\": {\"text\": \"\"}}\n</tool_call>"},
     {"", "text", "a<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 7}}\n</tool_call>",
      "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 7}}\n</tool_call> "}},
    {RESPONSE_HERMES,
     GUIDE_TOOLS_NONE,
     {"", "text <tool", "<think>a</think>"},
     {"<tool_call>", "a <tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 7}}\n</tool_call>"}},
    {RESPONSE_XML,
     GUIDE_TOOLS_AUTO,
     {"text", "<tool_call>\n<function=add>\n<parameter=x>\n12\n</parameter>\n</function>\n</tool_call>",
      "<tool_call>\n<function=add>\n<parameter=x>\n1\n</parameter>\n<parameter=how>\nfast\n</parameter>\n</function>\n"
      "</tool_call>",
      "<tool_call>\n<function=say>\n<parameter=text>\nany \"text\"\n\n<b>\n</parameter>\n<parameter=tags>\n[true]\n"
      "</parameter>\n</function>\n</tool_call>\nmore"},
     {"<tool_call>\n<function=add>\n</function>\n</tool_call>",
      "<tool_call>\n<function=add>\n<parameter=x>\na\n</parameter>\n</function>\n</tool_call>",
      "<tool_call>\n<function=add>\n<parameter=x>\n1\n</parameter>\n<parameter=how>\nhow\n</parameter>\n</function>\n"
      "</tool_call>",
      "<tool_call>\n<function=say>\n<parameter=tags>\n[1]\n</parameter>\n</function>\n</tool_call>"}},
    {RESPONSE_LLAMA,
     GUIDE_TOOLS_AUTO,
     {"text {", "{\"name\": \"add\", \"parameters\": {\"x\": 3}}",
      "<|python_tag|>{\"name\": \"say\", \"parameters\": {\"text\": \"b\"}}"},
     {"{\"name\": \"add\"}", "{\"name\": \"add\", \"parameters\": {\"x\": 3}} more", "text <|python_tag|>",
      "so {\"name\": \"add\", \"parameters\": {\"x\": 3}}"}},
    {RESPONSE_LLAMA, GUIDE_TOOLS_REQUIRED, {"{\"name\": \"add\", \"parameters\": {\"x\": 3}}"}, {"", "text"}},
    {RESPONSE_MISTRAL,
     GUIDE_TOOLS_AUTO,
     {"text", "so [TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"x\": 3}}]",
      "[TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"x\": 3}}, {\"name\": \"say\", \"arguments\": {\"text\": "
      "\"\"}}]"},
     {"[TOOL_CALLS]", "[TOOL_CALLS][]", "[TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"x\": 3}}] more",
      "[TOOL_CALLS]add{\"x\": 3}"}},
};

static void test_members(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++)
        for (int tokens = 0; tokens < 2; tokens++) { /* tags as tokens, and as letters */
            struct tokenizer *tokenizer = NULL;
            struct guide_vocabulary *v = NULL;
            int32_t eos = 0;
            cohort_error err = {0};
            struct guide *guide =
                guide_of(&tokenizer, &v, turns[i].form, turns[i].mode, TOOLS, tokens ? N_SPECIAL : 1, &eos, &err);
            if (guide == NULL)
                fail_msg("%zu: %s", i, err.message);
            for (size_t k = 0; k < 7; k++) {
                if (turns[i].in[k] != NULL && (tokens || strstr(turns[i].in[k], "<|python_tag|>") == NULL) &&
                    !is_member(guide, tokenizer, turns[i].in[k]))
                    fail_msg("%zu, %d: %s", i, tokens, turns[i].in[k]);
                if (turns[i].out[k] != NULL && strcmp(turns[i].out[k], "</tool_call>") != 0 &&
                    (tokens || strstr(turns[i].out[k], "<|python_tag|>") == NULL) &&
                    is_member(guide, tokenizer, turns[i].out[k]))
                    fail_msg("%zu, %d: not %s", i, tokens, turns[i].out[k]);
            }
            guide_release(guide);
            guide_vocabulary_destroy(v);
            tokenizer_destroy(tokenizer);
        }
}

/* A text that was drawn: of the allowed tokens each time one, tags as often as anything. */
static void draw_text(struct guide *guide, const struct tokenizer *tokenizer, uint64_t stream, struct text *out)
{
    struct guide_state *state = NULL;
    int32_t ids[400];
    size_t n_ids = 0;
    assert_int_equal(guide_start(&state, guide, 400, 300, NULL), COHORT_OK);
    for (uint64_t n = 0; n < 400; n++) {
        const uint32_t *mask = guide_mask(state);
        int32_t allowed[600], count = 0, tags = 0;
        for (int32_t id = 0; id < (int32_t)tokenizer_size(tokenizer); id++)
            if (guide_test_bit(mask, id))
                allowed[count++] = id;
        assert_true(count > 0);
        while (tags < count && tokenizer_is_special(tokenizer, allowed[count - 1 - tags]))
            tags++;
        const struct rng_block draw = rng_philox(5, RNG_TEST, stream, n);
        const int32_t id = tags > 0 && draw.word[0] % 4 == 0
                               ? allowed[count - 1 - (int32_t)(draw.word[1] % (uint32_t)tags)]
                               : allowed[draw.word[1] % (uint32_t)count];
        assert_true(guide_accept(state, id));
        if (id == tokenizer_find(tokenizer, "<end>"))
            break;
        ids[n_ids++] = id;
    }
    assert_int_equal(tokenizer_decode(tokenizer, ids, n_ids, false, out, NULL), COHORT_OK);
    guide_stop(state);
}

/* The parameters of the tool of this name; NULL: there is none. */
static const json_t *parameters_of(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i), *function = json_object_get(tool, "function");
        function = function != NULL ? function : tool;
        if (strcmp(json_string_value(json_object_get(function, "name")), name) == 0)
            return json_object_get(function, "parameters");
    }
    return NULL;
}

/* What is drawn and taken apart again has calls of the tools alone, whose arguments are valid. Returns how many. */
static size_t check_drawn(const char *text_of_tools, enum response_form form, enum guide_tools mode, uint64_t texts)
{
    struct tokenizer *tokenizer = NULL;
    struct guide_vocabulary *v = NULL;
    json_t *tools = json_loads(text_of_tools, 0, NULL);
    int32_t eos = 0;
    cohort_error err = {0};
    size_t calls = 0;
    struct guide *guide = guide_of(&tokenizer, &v, form, mode, text_of_tools, N_SPECIAL, &eos, &err);
    if (guide == NULL)
        fail_msg("%s: %s", text_of_tools, err.message);
    for (uint64_t i = 0; i < texts; i++) {
        struct text text = {0};
        struct response response = {0};
        draw_text(guide, tokenizer, i, &text);
        assert_int_equal(
            response_parse(&response, text.data == NULL ? "" : text.data, text.length, form, false, tools, &err),
            COHORT_OK);
        for (size_t c = 0; c < response.n_calls; c++) {
            const struct response_call *call = &response.calls[c];
            bool valid = false;
            if (call->error != NULL || call->name == NULL)
                fail_msg("form %d, mode %d: %s in %s", (int)form, (int)mode, call->error, text.data);
            const json_t *schema = parameters_of(tools, call->name);
            assert_non_null(schema);
            assert_int_equal(json_schema_valid(schema, schema, call->arguments, &valid, &err), COHORT_OK);
            if (!valid)
                fail_msg("form %d, mode %d, tools %s: arguments %s in %s", (int)form, (int)mode, text_of_tools,
                         json_dumps(call->arguments, JSON_ENCODE_ANY), text.data);
        }
        calls += response.n_calls;
        assert_true(mode != GUIDE_TOOLS_REQUIRED || response.n_calls > 0);
        assert_true(mode != GUIDE_TOOLS_NONE || response.n_calls == 0);
        response_free(&response);
        text_free(&text);
    }
    guide_release(guide);
    guide_vocabulary_destroy(v);
    tokenizer_destroy(tokenizer);
    json_decref(tools);
    return calls;
}

static void test_drawn(void **state)
{
    (void)state;
    for (int form = RESPONSE_HERMES; form < RESPONSE_FORMS; form++)
        for (int mode = GUIDE_TOOLS_AUTO; mode < GUIDE_TOOLS_MODES; mode++) {
            const size_t calls = check_drawn(TOOLS, (enum response_form)form, (enum guide_tools)mode, 40);
            assert_true(mode == GUIDE_TOOLS_NONE || calls > 0);
        }
}

/* One to three tools of one to four parameters each, of all kinds that arguments have. */
static void draw_tools(uint64_t stream, struct text *out)
{
    static const char *const kinds[] = {
        "{\"type\": \"integer\", \"minimum\": -3, \"maximum\": 120}",
        "{\"type\": \"number\", \"minimum\": 0, \"maximum\": 9}",
        "{\"type\": \"boolean\"}",
        "{\"type\": \"string\"}",
        "{\"enum\": [\"one\", \"two\"]}",
        "{\"type\": \"string\", \"const\": \"just this\"}",
        "{\"const\": \"that\"}",
        "{\"type\": [\"integer\", \"null\"], \"maximum\": 9, \"minimum\": 0}",
        "{\"type\": \"array\", \"items\": {\"enum\": [1, \"x\", null]}, \"maxItems\": 3}",
        ("{\"type\": \"object\", \"properties\": {\"in\": {\"type\": \"boolean\"}}, \"required\": [\"in\"], "
         "\"additionalProperties\": false}")};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    uint64_t counter = 0;
    cohort_error err = {0};
#define PICK(n)  (rng_philox(11, RNG_TEST, stream, counter++).word[0] % (uint32_t)(n))
#define PUT(...) assert_int_equal(text_printf(out, &err, __VA_ARGS__), COHORT_OK)
    const uint32_t n = 1 + PICK(3);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t m = 1 + PICK(4), wanted = PICK(16);
        PUT("%s{\"type\": \"function\", \"function\": {\"name\": \"tool_%u\", \"parameters\": {\"type\": \"object\", "
            "\"properties\": {",
            i == 0 ? "[" : ", ", i);
        for (uint32_t k = 0; k < m; k++)
            PUT("%s\"p%u\": %s", k > 0 ? ", " : "", k, kinds[PICK(KINDS)]);
        PUT("}, \"required\": [");
        for (uint32_t k = 0, first = 1; k < m; k++)
            if ((wanted >> k & 1) != 0) {
                PUT("%s\"p%u\"", first ? "" : ", ", k);
                first = 0;
            }
        PUT("], \"additionalProperties\": false}}}");
    }
    PUT("]");
#undef PUT
#undef PICK
}

static void test_drawn_tools(void **state)
{
    (void)state;
    size_t calls = 0;
    for (uint64_t i = 0; i < 24; i++) {
        struct text tools = {0};
        draw_tools(i, &tools);
        for (int form = RESPONSE_HERMES; form < RESPONSE_FORMS; form++)
            calls += check_drawn(tools.data, (enum response_form)form,
                                 i % 2 == 0 ? GUIDE_TOOLS_REQUIRED : GUIDE_TOOLS_AUTO, 4);
        text_free(&tools);
    }
    assert_true(calls > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_members), cmocka_unit_test(test_drawn),
                                       cmocka_unit_test(test_drawn_tools)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
