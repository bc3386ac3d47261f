#include "recipe/row_guide.h"

#include "base/file.h"
#include "base/json_text.h"
#include "recipe/row_prompt.h"
#include "text/response.h"

#include <string.h>

static const char THINK_END[] = "</think>";

/* A list of the option's texts as JSON, which is what guide_create reads. */
static cohort_status choices_text(const struct options *options, struct text *out, cohort_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < options_list_count(options, OPTION_GUIDED_CHOICE); i++)
        if (json_array_append_new(list, json_string(options_list_item(options, OPTION_GUIDED_CHOICE, i))) != 0) {
            json_decref(list);
            list = NULL;
        }
    const cohort_status status = json_text_write(list, JSON_COMPACT, out, err);
    json_decref(list);
    return status;
}

/* An option that guides was given. */
static void ask(struct row_guides *g, enum guide_kind kind, const char *origin, int *n)
{
    g->kind = kind;
    g->origin = origin;
    (*n)++;
}

/* What an option has to say: @COLUMN, the text itself, or a file of it. */
static cohort_status read_source(struct row_guides *g, const char *given, bool is_text, struct text *text,
                                 cohort_error *err)
{
    enum { LARGEST = 1 << 26 };
    if (given[0] == '@' && given[1] != '\0') {
        g->column = given + 1;
        return COHORT_OK;
    }
    if (is_text)
        return text_append(text, given, strlen(given), err);
    const cohort_status status = file_read(given, LARGEST, text, err);
    if (status != COHORT_OK)
        error_context(err, "%s", g->origin);
    return status;
}

/* Whether an option is JSON itself and no name of a file. */
static bool is_json(const char *given)
{
    const char first = given[strspn(given, " \t\r\n")];
    return first == '{' || first == '[' || strcmp(given, "true") == 0;
}

/* Whether an option is a grammar itself: several lines, or one of GBNF or Lark. */
static bool is_grammar(const char *given)
{
    const size_t n = strlen(given);
    return strchr(given, '\n') != NULL || guide_looks_like_grammar(given, n);
}

/* What is asked for, and its text. *n counts how many options ask. */
static cohort_status find_asked(struct row_guides *g, const struct options *options, struct text *text, int *n,
                                cohort_error *err)
{
    const char *regex = options_string(options, OPTION_GUIDED_REGEX),
               *schema = options_string(options, OPTION_GUIDED_JSON),
               *grammar = options_string(options, OPTION_GUIDED_GRAMMAR);
    if (regex != NULL) {
        ask(g, GUIDE_REGEX, "guided_regex", n);
        TRY(text_append(text, regex, strlen(regex), err));
    }
    if (options_list_count(options, OPTION_GUIDED_CHOICE) > 0) {
        ask(g, GUIDE_CHOICE, "guided_choice", n);
        TRY(choices_text(options, text, err));
    }
    if (schema != NULL) {
        ask(g, GUIDE_JSON, "guided_json", n);
        TRY(read_source(g, schema, is_json(schema), text, err));
    }
    if (grammar != NULL) {
        ask(g, GUIDE_GRAMMAR, "guided_grammar", n);
        TRY(read_source(g, grammar, is_grammar(grammar), text, err));
    }
    if (options_choice(options, OPTION_GUIDED_TOOLS) != GUIDE_TOOLS_OFF) {
        ask(g, GUIDE_TOOLS, "guided_tools", n);
        g->tools = (enum guide_tools)options_choice(options, OPTION_GUIDED_TOOLS);
        g->column = "tools"; /* or those of all rows */
    }
    if (*n > 1)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "one option guides completions: give one of guided_regex, guided_choice, guided_json, "
                         "guided_grammar and guided_tools");
    return COHORT_OK;
}

/* Tells what a schema had that is not enforced. */
static void tell_ignored(const struct row_guides *g, const struct text *ignored)
{
    enum { SHOWN = 1500 };
    if (g->observer != NULL && ignored->length > 0)
        observer_message(g->observer, "%s: not enforced: %.*s%s", g->origin,
                         (int)(ignored->length < SHOWN ? ignored->length : SHOWN), ignored->data,
                         ignored->length < SHOWN ? "" : " ...");
}

cohort_status row_guides_open(struct row_guides *guides, const struct session *session, const struct options *options,
                              const cohort_observer *observer, bool trains, cohort_error *err)
{
    const struct model_config *config = &session->model->config;
    const bool after = options_bool(options, OPTION_GUIDED_AFTER_THINK);
    struct text text = {0}, ignored = {0};
    int n = 0;
    cohort_status status = COHORT_OK;
    *guides = (struct row_guides){
        .close = (int32_t)options_int(options, OPTION_GUIDED_CLOSE),
        .masked = trains && options_choice(options, OPTION_GUIDED_LOGPROB) == GUIDE_LOGPROB_MASKED,
    };
    TRY_GOTO(find_asked(guides, options, &text, &n, err));
    if (n == 0 && guides->masked)
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "guided_logprob masked: nothing guides the completions; give guided_json or another of "
                           "docs/GUIDED.md, or leave it out");
    if (n == 0)
        goto cleanup;
    guides->on = true;
    guides->options = (struct guide_options){
        .eos_ids = config->eos_ids,
        .n_eos = config->n_eos,
        .after = after ? tokenizer_find(session->tokenizer, THINK_END) : -1,
        .whitespace = (enum guide_whitespace)options_choice(options, OPTION_GUIDED_WHITESPACE),
        .unsupported = (enum guide_unsupported)options_choice(options, OPTION_GUIDED_UNSUPPORTED),
        .notation = (enum guide_notation)options_choice(options, OPTION_GUIDED_GRAMMAR_KIND),
    };
    guides->observer = observer;
    guides->session = session;
    if (guides->kind == GUIDE_TOOLS && (session->chat == NULL || chat_template_form(session->chat) == RESPONSE_PLAIN)) {
        status = error_set(err, COHORT_ERR_UNSUPPORTED,
                           "guided_tools: the chat template of this model does not say how tools are called");
        goto cleanup;
    }
    if (after && guides->options.after < 0) {
        status = error_set(err, COHORT_ERR_UNSUPPORTED,
                           "guided_after_think: the tokenizer has no token %s to begin behind", THINK_END);
        goto cleanup;
    }
    TRY_GOTO(guide_vocabulary_create(&guides->vocabulary, session->tokenizer, tokenizer_size(session->tokenizer), err));
    if (guides->column == NULL)
        TRY_GOTO(guide_create(&guides->shared, guides->vocabulary, guides->kind, text.data, text.length,
                              &guides->options, guides->origin, &ignored, err));
    tell_ignored(guides, &ignored);
    guides->text = text;
    text = (struct text){0};
cleanup:
    text_free(&text);
    text_free(&ignored);
    return status == COHORT_ERR_FORMAT ? COHORT_ERR_ARGUMENT : status; /* an option's value has the wrong form */
}

void row_guides_close(struct row_guides *guides)
{
    guide_release(guides->shared);
    guide_vocabulary_destroy(guides->vocabulary);
    text_free(&guides->text);
    memset(guides, 0, sizeof *guides);
}

cohort_status row_guides_identity(const struct row_guides *guides, struct run_inputs *inputs, cohort_error *err)
{
    inputs->read[INPUT_GUIDE] = true;
    if (!guides->on || guides->column != NULL)
        return COHORT_OK;
    return run_inputs_add_text(inputs, INPUT_GUIDE, guides->origin, guides->text.data, guides->text.length, err);
}

/* The tools of a row, or those of all, as guide_create reads them. */
static cohort_status tools_text(const struct row_guides *g, const json_t *row, const char *place, struct text *out,
                                cohort_error *err)
{
    static const struct row_style style;
    struct row_settings settings = {0};
    cohort_status status = row_settings(row, place, &style, true, &settings, err);
    const json_t *tools = settings.chat.tools != NULL ? settings.chat.tools : g->session->tools;
    json_t *json = NULL;
    if (status == COHORT_OK) {
        json = json_pack("{s:i, s:i}", "form", (int)chat_template_form(g->session->chat), "mode", (int)g->tools);
        if (json != NULL &&
            json_object_set_new(json, "tools", tools == NULL ? json_array() : json_deep_copy(tools)) == 0)
            status = json_text_write(json, JSON_COMPACT, out, err);
        else
            status = error_set(err, COHORT_ERR_MEMORY, "%s: tools: out of memory", place);
    }
    json_decref(json);
    row_settings_free(&settings);
    return status;
}

/* What a row's column says, as text. */
static cohort_status column_text(const struct row_guides *g, const json_t *row, const char *place, struct text *out,
                                 cohort_error *err)
{
    const json_t *value = json_object_get(row, g->column);
    if (json_is_string(value))
        return text_append(out, json_string_value(value), json_string_length(value), err);
    if (value != NULL && !json_is_null(value) && g->kind == GUIDE_JSON)
        return json_text_write(value, JSON_ENCODE_ANY | JSON_COMPACT, out, err);
    return error_set(err, COHORT_ERR_FORMAT, "%s: %s: the row has no text in its column '%s'", place, g->origin,
                     g->column);
}

cohort_status row_guide_of_text(struct row_guides *guides, const char *text, size_t length, const char *place,
                                struct guide **out, cohort_error *err)
{
    struct text ignored = {0}, copy = {0};
    struct guide *guide = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (guides->shared != NULL && length == guides->text.length &&
        (length == 0 || memcmp(text, guides->text.data, length) == 0)) {
        *out = guide_share(guides->shared);
        return COHORT_OK;
    }
    status = guide_create(&guide, guides->vocabulary, guides->kind, text, length, &guides->options, guides->origin,
                          &ignored, err);
    if (status != COHORT_OK) {
        error_context(err, "%s", place);
        goto cleanup;
    }
    tell_ignored(guides, &ignored);
    *out = guide;
    if (guides->column == NULL)
        goto cleanup;
    TRY_GOTO(text_append(&copy, text, length, err));
    guide_release(guides->shared);
    guides->shared = guide_share(guide);
    text_free(&guides->text);
    guides->text = copy;
    copy = (struct text){0};
cleanup:
    if (status != COHORT_OK) {
        guide_release(guide);
        *out = NULL;
    }
    text_free(&ignored);
    text_free(&copy);
    return status;
}

cohort_status row_guide(struct row_guides *guides, const json_t *row, const char *place, struct guide **out,
                        cohort_error *err)
{
    struct text text = {0};
    *out = NULL;
    if (!guides->on)
        return COHORT_OK;
    if (guides->column == NULL) {
        *out = guide_share(guides->shared);
        return COHORT_OK;
    }
    cohort_status status = guides->kind == GUIDE_TOOLS ? tools_text(guides, row, place, &text, err)
                                                       : column_text(guides, row, place, &text, err);
    if (status == COHORT_OK)
        status = row_guide_of_text(guides, text.data, text.length, place, out, err);
    text_free(&text);
    return status;
}

/* ---- The engine's side ---- */

static const uint32_t *allowed(void *context) { return guide_mask(context); }

static void accept(void *context, int32_t token) { (void)guide_accept(context, token); }

static void turn(void *context, int32_t n_tokens) { guide_rewind(context, n_tokens); }

static bool done(void *context)
{
    const struct guide_state *state = context;
    return guide_must_end(state) && !guide_has_eos(state);
}

cohort_status row_constraints_open(struct row_constraints *c, const struct row_guides *guides, struct guide *guide,
                                   int32_t n, int32_t max_tokens, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    memset(c, 0, sizeof *c);
    if (guide == NULL)
        return COHORT_OK;
    c->n = n;
    c->guide = guide_share(guide);
    TRY_GOTO(mem_alloc(&c->states, (size_t)n, sizeof(struct guide_state *), "guide", err));
    TRY_GOTO(mem_alloc(&c->constraints, (size_t)n, sizeof *c->constraints, "guide", err));
    for (int32_t i = 0; i < n; i++) {
        TRY_GOTO(guide_start(&c->states[i], guide, max_tokens, guides->close, err));
        c->constraints[i] = (struct constraint){c->states[i], allowed, accept, done, turn, guides->masked};
    }
    return COHORT_OK;
cleanup:
    row_constraints_free(c);
    return status;
}

cohort_status row_constraints_ask(struct row_constraints *c, struct row_guides *guides, const json_t *row,
                                  const char *place, int32_t n, int32_t max_tokens, cohort_error *err)
{
    struct guide *guide = NULL;
    TRY(row_guide(guides, row, place, &guide, err));
    const cohort_status status = row_constraints_open(c, guides, guide, n, max_tokens, err);
    guide_release(guide);
    return status;
}

void row_constraints_free(struct row_constraints *c)
{
    for (int32_t i = 0; c->states != NULL && i < c->n; i++)
        guide_stop(c->states[i]);
    mem_free(c->states);
    mem_free(c->constraints);
    guide_release(c->guide);
    memset(c, 0, sizeof *c);
}

cohort_status row_constraints_check(const struct row_constraints *c, cohort_error *err)
{
    const char *problem = c->guide != NULL ? guide_problem(c->guide) : NULL;
    return problem != NULL ? error_set(err, COHORT_ERR_UNSUPPORTED, "guided decoding: %s", problem) : COHORT_OK;
}
