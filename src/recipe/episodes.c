#include "recipe/episodes_internal.h"

#include "base/json_text.h"
#include "base/rng.h"
#include "recipe/episode_story.h"
#include "text/chat_turn.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* An episode goes on in two places: tokens in the engine, states in the environment. It is over when both are. */
struct live_episode {
    struct environment_episode *at; /* the environment's; NULL: it is over there */
    int32_t prompt, index;          /* of the batch, in its group */
    int64_t request;
    json_t *story;
    struct completion *completion; /* where it lies; NULL: the engine is not done with it */
    int32_t turns, n_tokens;       /* of the model; of the completion up to the end of the last one */
    int32_t room;                  /* tokens that fit behind it */
    int32_t n_calls;
    bool waits;       /* the engine waits for an answer */
    bool in_thinking; /* the next turn begins within thinking */
    bool finishes;    /* the environment was told that it is over */
    bool counted;
    json_t *begun; /* what an environment that observes answered to begin; else NULL */
};

static struct live_episode *episode_at(const struct episodes *e, int32_t prompt, int32_t index)
{
    return &e->list[(int64_t)prompt * e->n + index];
}

/* ---- What the environment is told ---- */

static cohort_status finish(struct episodes *e, struct live_episode *live, enum environment_end end, cohort_error *err)
{
    live->finishes = true;
    return live->at == NULL ? COHORT_OK : environment_finish(e->environment, live->at, end, err);
}

/* Control tokens that stand in a turn's words, where no call is, are not its words. */
static cohort_status drop_control(const struct tokenizer *tokenizer, struct text *content, cohort_error *err)
{
    struct token_list ids = {0};
    struct text plain = {0};
    bool any = false;
    cohort_status status = COHORT_OK;
    if (content->length == 0)
        return COHORT_OK;
    TRY_GOTO(tokenizer_encode(tokenizer, content->data, content->length, true, &ids, err));
    for (size_t i = 0; i < ids.count; i++)
        any = any || tokenizer_is_special(tokenizer, ids.ids[i]);
    if (!any)
        goto cleanup;
    TRY_GOTO(text_append(&plain, "", 0, err));
    TRY_GOTO(tokenizer_decode(tokenizer, ids.ids, ids.count, true, &plain, err));
    text_free(content);
    *content = plain;
    memset(&plain, 0, sizeof plain);
cleanup:
    token_list_free(&ids);
    text_free(&plain);
    return status;
}

/* Takes a turn's tokens apart, and keeps them in the story. */
static cohort_status read_turn(struct episodes *e, struct live_episode *live, const int32_t *tokens, int32_t n,
                               bool ended, struct text *text, struct response *response, cohort_error *err)
{
    const struct session *s = e->session;
    TRY(text_append(text, "", 0, err));
    TRY(tokenizer_decode(s->tokenizer, tokens, (size_t)(ended ? n - 1 : n), false, text, err));
    TRY(response_parse(response, text->data, text->length, chat_template_form(s->chat), live->in_thinking, s->tools,
                       err));
    TRY(drop_control(s->tokenizer, &response->content, err));
    live->turns++;
    live->n_calls = ended ? (int32_t)response->n_calls : 0;
    return story_turn(live->story, response, n, err);
}

/* Whether the model's turn is the last without being answered: of calling tools there was enough. */
static bool calls_no_more(const struct episodes *e, const struct live_episode *live)
{
    return e->max_iterations >= 0 && live->turns > e->max_iterations && environment_is_tools(e->environment);
}

static cohort_status take_turn(void *context, int32_t prompt, const struct engine_turn *turn, cohort_error *err)
{
    struct episodes *e = context;
    struct live_episode *live = episode_at(e, prompt, turn->index);
    struct response response = {0};
    struct text text = {0};
    cohort_status status = COHORT_OK;
    live->request = turn->request;
    live->n_tokens = turn->n_tokens;
    live->room = turn->room;
    live->waits = true;
    TRY_GOTO(read_turn(e, live, turn->tokens + turn->first, turn->n_tokens - turn->first, true, &text, &response, err));
    if (live->at == NULL) /* it is lost */
        goto cleanup;
    if (calls_no_more(e, live)) {
        TRY_GOTO(finish(e, live, response.n_calls > 0 ? ENVIRONMENT_TURNS : ENVIRONMENT_NO_CALL, err));
        goto cleanup;
    }
    if (!story_count(live->story, "calls", (int64_t)response.n_calls))
        TRY_GOTO(error_set(err, COHORT_ERR_MEMORY, "what is said in an episode: out of memory"));
    TRY_GOTO(environment_turn(e->environment, live->at,
                              story_protocol_turn(&response, text.data, live->turns, turn->n_tokens, turn->room,
                                                  e->max_turns > 0 ? e->max_turns - live->turns : -1),
                              live->turns, (int32_t)response.n_calls, err));
cleanup:
    response_free(&response);
    text_free(&text);
    return status;
}

/* The engine is done with a completion. */
static cohort_status take_end(void *context, int32_t prompt, struct completion *c, cohort_error *err)
{
    struct episodes *e = context;
    struct live_episode *live = episode_at(e, prompt, c->index);
    struct response response = {0};
    struct text text = {0};
    cohort_status status = COHORT_OK;
    live->completion = c;
    live->waits = false;
    if (live->finishes || c->finish_reason == FINISH_EOS)
        return COHORT_OK;
    /* It was cut within a turn, of which nothing is run. */
    TRY_GOTO(
        read_turn(e, live, c->tokens + live->n_tokens, c->n_tokens - live->n_tokens, false, &text, &response, err));
    live->n_tokens = c->n_tokens;
    TRY_GOTO(finish(e, live, ENVIRONMENT_CUT_TURN, err));
cleanup:
    response_free(&response);
    text_free(&text);
    return status;
}

/* ---- What it answers ---- */

static int compare_calls(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "call"), *y = json_object_get(b, "call");
    if (x == NULL || y == NULL) /* what answers no call comes last, as it stands */
        return (x == NULL) - (y == NULL);
    return (json_integer_value(x) > json_integer_value(y)) - (json_integer_value(x) < json_integer_value(y));
}

/* A message as templates and rewards get it. */
static json_t *clean_message(const json_t *message)
{
    static const char *const keys[] = {"role", "name", "content", "tool_call_id", "failed"};
    json_t *out = json_object();
    bool good = out != NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(message, keys[i]);
        if (value != NULL && !json_is_null(value))
            good = good && json_object_set(out, keys[i], value) == 0;
    }
    if (good)
        return out;
    json_decref(out);
    return NULL;
}

/* The messages of an answer in the order of their calls; a new reference, or NULL. */
static json_t *ordered(const json_t *messages)
{
    json_t *list = json_array();
    size_t n = json_array_size(messages);
    const json_t **items = NULL;
    bool good = list != NULL && mem_alloc((void *)&items, n, sizeof(json_t *), "messages", NULL) == COHORT_OK;
    for (size_t i = 0; good && i < n; i++) { /* few: by insertion, stable */
        const json_t *message = json_array_get(messages, i);
        size_t at = i;
        for (; at > 0 && compare_calls(items[at - 1], message) > 0; at--)
            items[at] = items[at - 1];
        items[at] = message;
    }
    for (size_t i = 0; good && i < n; i++)
        good = json_array_append_new(list, clean_message(items[i])) == 0;
    mem_free(items);
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

static cohort_status end_in_engine(struct live_episode *live, struct engine *engine, cohort_error *err)
{
    if (!live->waits)
        return COHORT_OK;
    live->waits = false;
    return engine_end(engine, live->request, live->index, err);
}

/* The tokens of an answer, behind the EOS of the turn that it answers. */
static cohort_status encode_answer(struct episodes *e, struct live_episode *live, const json_t *messages,
                                   struct token_list *ids, cohort_error *err)
{
    const struct session *s = e->session;
    const struct chat_options options = {.thinking = e->style.thinking};
    struct text text = {0};
    struct content_spans spans = {0};
    size_t from = 0;
    const int32_t end = s->turn_end;
    cohort_status status = COHORT_OK;
    TRY_GOTO(chat_turn_render(s->chat, s->tokenizer, messages, &options, "environment", &text, &spans, &from, err));
    TRY_GOTO(mem_grow(&ids->ids, &ids->capacity, 1, sizeof *ids->ids, "an answer", err));
    ids->ids[ids->count++] = end; /* a tokenizer may look at what it follows */
    TRY_GOTO(row_encode(s, &text, &spans, from, text.length, e->style.trust, ids, err));
    live->in_thinking = response_opens_thinking(text.data + from, text.length - from);
cleanup:
    text_free(&text);
    content_spans_free(&spans);
    return status;
}

/* The messages with contents of so many bytes at most. NULL: out of memory. */
static json_t *cut_messages(const json_t *messages, size_t most)
{
    json_t *list = json_deep_copy(messages), *message = NULL;
    size_t i = 0;
    bool good = list != NULL;
    json_array_foreach(list, i, message)
    {
        const json_t *content = json_object_get(message, "content");
        const char *text = json_string_value(content);
        size_t length = most;
        if (text == NULL || json_string_length(content) <= most)
            continue;
        while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80) /* not within a character */
            length--;
        good = good && json_object_set_new(message, "content", json_stringn(text, length)) == 0;
    }
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

/* Cuts the contents, each to as many bytes as let the answer fit and leave room for the next turn. Where they cannot, both stay what they were. */
static cohort_status cut_answer(struct episodes *e, struct live_episode *live, json_t **messages,
                                struct token_list *ids, cohort_error *err)
{
    size_t low = 0, high = 0, i = 0;
    json_t *message = NULL, *best = NULL;
    cohort_status status = COHORT_OK;
    json_array_foreach(*messages, i, message)
    {
        const size_t length = json_string_length(json_object_get(message, "content"));
        high = length > high ? length : high;
    }
    while (status == COHORT_OK && low <= high) { /* everything below low fits, what is above high does not */
        const size_t most = low + (high - low) / 2;
        struct token_list tried = {0};
        json_t *cut = cut_messages(*messages, most);
        status = cut == NULL ? error_set(err, COHORT_ERR_MEMORY, "an answer: out of memory")
                             : encode_answer(e, live, cut, &tried, err);
        if (status == COHORT_OK && tried.count - 1 < (size_t)live->room) {
            struct token_list worse = *ids;
            *ids = tried;
            tried = worse;
            json_decref(best);
            best = json_incref(cut);
            low = most + 1;
        } else if (most == 0) {
            low = high + 1;
        } else {
            high = most - 1;
        }
        json_decref(cut);
        token_list_free(&tried);
    }
    if (status == COHORT_OK && best != NULL) {
        json_decref(*messages);
        *messages = json_incref(best);
    }
    json_decref(best);
    return status;
}

static cohort_status take_reply(struct episodes *e, struct live_episode *live, struct engine *engine,
                                const json_t *body, cohort_error *err)
{
    struct token_list ids = {0};
    json_t *messages = ordered(json_object_get(body, "messages"));
    cohort_status status = COHORT_OK;
    TRY_GOTO(story_turn_reward(live->story, body, live->n_tokens, err));
    if (messages == NULL)
        TRY_GOTO(error_set(err, COHORT_ERR_MEMORY, "an answer: out of memory"));
    if (json_array_size(messages) == 0 || (e->max_turns > 0 && live->turns >= e->max_turns)) {
        TRY_GOTO(finish(e, live, ENVIRONMENT_TURNS, err));
        status = end_in_engine(live, engine, err);
        goto cleanup;
    }
    TRY_GOTO(encode_answer(e, live, messages, &ids, err));
    if (e->cuts && ids.count - 1 > (size_t)live->room)
        TRY_GOTO(cut_answer(e, live, &messages, &ids, err));
    const size_t n = ids.count - 1;
    if (n > (size_t)live->room) {
        TRY_GOTO(story_answer(live->story, messages, 0, err));
        TRY_GOTO(finish(e, live, ENVIRONMENT_OVERLONG, err));
        status = end_in_engine(live, engine, err);
        goto cleanup;
    }
    TRY_GOTO(story_answer(live->story, messages, (int32_t)n, err));
    if (n == (size_t)live->room)
        TRY_GOTO(finish(e, live, ENVIRONMENT_TOKENS, err));
    live->waits = false;
    live->n_tokens += (int32_t)n;
    status = engine_go_on(engine, live->request, live->index, ids.ids + 1, (int32_t)n, err);
cleanup:
    json_decref(messages);
    token_list_free(&ids);
    return status;
}

static cohort_status take_over(struct episodes *e, struct live_episode *live, struct engine *engine,
                               const struct environment_event *event, cohort_error *err)
{
    json_t *messages = NULL;
    cohort_status status = COHORT_OK;
    (void)e;
    live->at = NULL;
    if (!environment_end_loses(event->end)) {
        messages = ordered(json_object_get(event->body, "messages"));
        TRY_GOTO(messages == NULL ? error_set(err, COHORT_ERR_MEMORY, "an answer: out of memory")
                                  : story_answer(live->story, messages, 0, err));
    }
    TRY_GOTO(story_end(live->story, event->body, event->end, event->why, err));
    status = engine == NULL ? COHORT_OK : end_in_engine(live, engine, err);
cleanup:
    json_decref(messages);
    return status;
}

static cohort_status take_event(struct episodes *e, struct engine *engine, const struct environment_event *event,
                                cohort_error *err)
{
    struct live_episode *live = event->owner;
    return event->kind == ENVIRONMENT_REPLY   ? take_reply(e, live, engine, event->body, err)
           : event->kind == ENVIRONMENT_ENDED ? take_over(e, live, engine, event, err)
                                              : COHORT_OK;
}

static cohort_status answer(void *context, struct engine *engine, bool idle, cohort_error *err)
{
    static const double wait_s = 0.05;
    struct episodes *e = context;
    struct environment_event event;
    const struct engine_stats stats = engine_stats(engine);
    e->waiting += stats.waiting;
    e->first = e->waited == 0 ? stats : e->first;
    e->last = stats;
    e->waited += stats.waiting + stats.running;
    for (int32_t i = 0; i < e->n_prompts * e->n; i++) /* lost while it was decoded */
        if (e->list[i].waits && e->list[i].at == NULL)
            TRY(end_in_engine(&e->list[i], engine, err));
    TRY(environment_pump(e->environment, idle && engine_stats(engine).waiting > 0 ? wait_s : 0.0, err));
    while (environment_poll(e->environment, &event)) {
        const cohort_status status = take_event(e, engine, &event, err);
        json_decref(event.body);
        TRY(status);
    }
    for (int32_t i = 0; i < e->n_prompts * e->n; i++) { /* enough of tools: nothing is asked */
        struct live_episode *live = &e->list[i];
        if (live->waits && live->finishes)
            TRY(end_in_engine(live, engine, err));
    }
    return COHORT_OK;
}

static bool over(void *context, int32_t *prompt)
{
    struct episodes *e = context;
    for (int32_t i = 0; i < e->n_prompts * e->n; i++) {
        struct live_episode *live = &e->list[i];
        if (live->counted || live->completion == NULL || live->at != NULL)
            continue;
        live->counted = true;
        live->completion->episode = json_incref(live->story);
        for (int end = 0; end < ENVIRONMENT_ENDS; end++)
            if (environment_end_loses((enum environment_end)end) &&
                strcmp(json_string_value(json_object_get(live->story, "end")),
                       environment_end_word((enum environment_end)end)) == 0)
                live->completion->finish_reason = FINISH_LOST;
        *prompt = live->prompt;
        return true;
    }
    return false;
}

struct rollout_turns episodes_hooks(struct episodes *e)
{
    return (struct rollout_turns){.context = e, .turn = take_turn, .answer = answer, .ended = take_end, .over = over};
}

/* ---- A rollout ---- */

/* Below 2^53, so that every reader of JSON has it exactly. */
static json_int_t seed_of(uint64_t a, uint64_t b) { return (json_int_t)(rng_stream(a, b) >> 11); }

static json_t *begin_of(const struct episodes *e, const struct episodes_start *start, int32_t p, int32_t i,
                        const json_t *messages)
{
    const uint64_t group = rng_stream(rng_stream(e->seed, start->batch_index), start->ids[p]);
    return json_pack("{s:O, s:O, s:I, s:i, s:I, s:I, s:I, s:b}", "row", start->batch->prompts[p].row, "prompt",
                     (json_t *)(uintptr_t)messages, "group", (json_int_t)p, "index", (int)i, "seed",
                     seed_of(group, UINT64_MAX), "episode_seed", seed_of(group, (uint64_t)i), "step",
                     (json_int_t)start->step, "eval", (int)start->eval);
}

static cohort_status begin_group(struct episodes *e, const struct episodes_start *start, int32_t p, cohort_error *err)
{
    const struct prompt *prompt = &start->batch->prompts[p];
    json_t *messages = NULL;
    cohort_status status = COHORT_OK;
    TRY(row_messages(prompt->row, "row", &start->batch->set->style, &messages, err));
    if (messages == NULL)
        TRY_GOTO(error_set(err, COHORT_ERR_FORMAT,
                           "row %lld: an environment wants prompts that are conversations, and this one is text; give "
                           "\"messages\", or pass --chat",
                           (long long)scoring_row_of(start->batch, (size_t)p)));
    for (int32_t i = 0; i < e->n; i++) {
        struct live_episode *live = episode_at(e, p, i);
        const int64_t serial = e->serial++; /* of all ranks' */
        char id[64];
        if (!e->mine[p])
            continue;
        live->prompt = p;
        live->index = i;
        live->in_thinking = response_opens_thinking(prompt->text.data, prompt->text.length);
        live->story = story_new();
        if (live->story == NULL)
            TRY_GOTO(error_set(err, COHORT_ERR_MEMORY, "an episode: out of memory"));
        snprintf(id, sizeof id, "%lld.%d.%d.%lld", (long long)start->step, (int)p, (int)i, (long long)serial);
        TRY_GOTO(environment_begin(e->environment, id, begin_of(e, start, p, i, messages), live, &live->at, err));
    }
cleanup:
    json_decref(messages);
    return status;
}

/* ---- Environments that observe ---- */

/* The messages of a group's prompt with what its environment adds or puts in their place; a new reference or NULL. */
static json_t *observed(const json_t *messages, const json_t *body)
{
    const json_t *prompt = json_object_get(body, "prompt"), *observation = json_object_get(body, "observation");
    json_t *list = json_deep_copy(json_is_array(prompt) ? prompt : messages);
    json_t *last = json_array_get(list, json_array_size(list) - 1), *content = json_object_get(last, "content");
    struct text text = {0};
    bool good = list != NULL;
    if (good && json_is_string(observation) && json_is_string(content))
        good = text_append(&text, json_string_value(content), json_string_length(content), NULL) == COHORT_OK &&
               text_append(&text, json_string_value(observation), json_string_length(observation), NULL) == COHORT_OK &&
               json_object_set_new(last, "content", json_text_value(text.data, text.length)) == 0;
    text_free(&text);
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

static bool same_prompt(const json_t *a, const json_t *b)
{
    static const char *const keys[] = {"prompt", "observation"};
    for (int i = 0; i < 2; i++) {
        const json_t *x = json_object_get(a, keys[i]), *y = json_object_get(b, keys[i]);
        if (x != y && (x == NULL || y == NULL || !json_equal(x, y)))
            return false;
    }
    return true;
}

/* A group has one prompt, that of its first member; one that was given another cannot be compared with the others. */
static cohort_status observe_group(struct episodes *e, const struct episodes_start *start, int32_t p, cohort_error *err)
{
    const json_t *first = NULL;
    json_t *messages = NULL, *asked = NULL;
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; i < e->n; i++) {
        struct live_episode *live = episode_at(e, p, i);
        if (live->begun == NULL)
            continue;
        first = first == NULL ? live->begun : first;
        if (same_prompt(first, live->begun))
            continue;
        if (!e->warned)
            episodes_tell(e, "warning: the environment gives the members of a group different prompts though their "
                             "seed is one; those that differ from the first are left out (environments/end/protocol)");
        e->warned = true;
        TRY(finish(e, live, ENVIRONMENT_PROTOCOL, err));
    }
    if (first == NULL || start->prompts == NULL ||
        (json_object_get(first, "prompt") == NULL && json_object_get(first, "observation") == NULL))
        return COHORT_OK;
    TRY(row_messages(start->prompts[p].row, "row", &start->batch->set->style, &messages, err));
    asked = observed(messages, first);
    if (asked == NULL)
        status = error_set(err, COHORT_ERR_MEMORY, "an observation: out of memory");
    else
        status = row_prompt_messages(e->session, start->prompts[p].row, asked, "environment", &start->batch->set->style,
                                     &start->prompts[p].ids, &start->prompts[p].text, err);
    for (int32_t i = 0; i < e->n; i++)
        episode_at(e, p, i)->in_thinking =
            response_opens_thinking(start->prompts[p].text.data, start->prompts[p].text.length);
    json_decref(messages);
    json_decref(asked);
    return status;
}

static cohort_status episodes_observe(struct episodes *e, const struct episodes_start *start, cohort_error *err)
{
    int32_t n = 0;
    struct environment_event event;
    for (int32_t p = 0; p < e->n_prompts; p++)
        n += e->mine[p] ? e->n : 0;
    if (environment_places(e->environment) < n)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "the environment observes, so that all %d episodes of a batch begin before the first turn, and "
            "its programs take %lld at once: raise the \"concurrency\" that it says, or "
            "--environment-workers",
            (int)n, (long long)environment_places(e->environment));
    for (int32_t answered = 0; answered < n;) {
        TRY(environment_pump(e->environment, 0.05, err));
        while (environment_poll(e->environment, &event)) {
            struct live_episode *live = event.owner;
            answered += event.kind == ENVIRONMENT_BEGUN || live->begun == NULL ? 1 : 0;
            if (event.kind == ENVIRONMENT_BEGUN)
                live->begun = json_incref(event.body);
            const cohort_status status = take_event(e, NULL, &event, err);
            json_decref(event.body);
            TRY(status);
        }
    }
    for (int32_t p = 0; p < e->n_prompts; p++)
        if (e->mine[p])
            TRY(observe_group(e, start, p, err));
    return episodes_share_prompts(e, start, err);
}

static void free_list(struct episodes *e)
{
    for (int32_t i = 0; e->list != NULL && i < e->n_prompts * e->n; i++) {
        json_decref(e->list[i].story);
        json_decref(e->list[i].begun);
    }
    mem_free(e->list);
    mem_free(e->mine);
    e->list = NULL;
    e->mine = NULL;
    e->n_prompts = e->n = 0;
}

void episodes_abandon(struct episodes *e)
{
    if (e->list != NULL)
        environment_abandon(e->environment);
    free_list(e);
}

cohort_status episodes_start(struct episodes *e, const struct episodes_start *start, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    if (e->environment == NULL)
        return COHORT_OK;
    episodes_abandon(e);
    e->n_prompts = start->n_prompts;
    e->n = start->n;
    e->waiting = e->waited = 0;
    environment_new_round(e->environment);
    TRY_GOTO(mem_alloc(&e->list, (size_t)start->n_prompts * (size_t)start->n, sizeof *e->list, "episodes", err));
    TRY_GOTO(episodes_deal(e, start, err));
    for (int32_t p = 0; p < start->n_prompts; p++)
        TRY_GOTO(begin_group(e, start, p, err));
    if (environment_observes(e->environment))
        TRY_GOTO(episodes_observe(e, start, err));
cleanup:
    if (status != COHORT_OK)
        episodes_abandon(e);
    return status;
}

static int64_t count_of(const json_t *story, const char *key)
{
    return json_integer_value(json_object_get(story, key));
}

/* What programs measured, each the mean of the episodes that have it. */
static bool log_metrics(const json_t *story, struct reward_log *log)
{
    const char *name = NULL;
    json_t *value = NULL;
    char key[160];
    bool good = true;
    json_object_foreach(json_object_get(story, "metrics"), name, value)
    {
        snprintf(key, sizeof key, "environments/%.120s", name);
        good = good && reward_log_metric(log, key, json_number_value(value), 1);
    }
    json_object_foreach(json_object_get(story, "rewards"), name, value)
    {
        snprintf(key, sizeof key, "environments/reward/%.120s", name);
        good = good && reward_log_metric(log, key, json_number_value(value), 1);
    }
    return good;
}

static double share(double part, double all) { return all > 0.0 ? part / all : 0.0; }

/* What is counted of a rollout beside the stories. */
static cohort_status figures_of(const struct episodes *e, struct episodes_figures *out, cohort_error *err)
{
    struct environment_figures figures;
    TRY(environment_figures(e->environment, &figures, err));
    *out = (struct episodes_figures){.waiting = e->waiting,
                                     .waited = e->waited,
                                     .late = figures.late,
                                     .deaths = figures.deaths,
                                     .tokens = e->last.generated_tokens - e->first.generated_tokens,
                                     .steps = e->last.steps - e->first.steps,
                                     .set_back = e->last.set_back - e->first.set_back,
                                     .latency_p50 = figures.latency_p50,
                                     .latency_p99 = figures.latency_p99,
                                     .seconds = e->last.seconds - e->first.seconds,
                                     .single_seconds = e->last.single_seconds - e->first.single_seconds};
    for (int32_t i = 0; i < e->n_prompts * e->n; i++)
        out->turns += e->list[i].turns;
    return episodes_share_figures(e, out, err);
}

cohort_status episodes_end(struct episodes *e, const struct completion *completions, struct reward_log *log,
                           cohort_error *err)
{
    int64_t ends[ENVIRONMENT_ENDS] = {0}, calls = 0, failed = 0, malformed = 0;
    const int32_t n = e->n_prompts * e->n;
    struct episodes_figures f;
    bool good = true;
    char key[64];
    if (e->environment == NULL)
        return COHORT_OK;
    TRY(figures_of(e, &f, err));
    TRY(episodes_share_words(e, err));
    for (int32_t i = 0; i < n; i++) {
        const json_t *story = completions[i].episode;
        calls += count_of(story, "calls");
        failed += count_of(story, "failed");
        malformed += count_of(story, "malformed");
        for (int end = 0; end < ENVIRONMENT_ENDS; end++)
            ends[end] += strcmp(json_string_value(json_object_get(story, "end")),
                                environment_end_word((enum environment_end)end)) == 0;
        good = good && log_metrics(story, log);
    }
    for (int end = 0; end < ENVIRONMENT_ENDS; end++) {
        snprintf(key, sizeof key, "environments/end/%s", environment_end_word((enum environment_end)end));
        good = good && reward_log_metric(log, key, (double)ends[end], n);
    }
    good =
        good && reward_log_metric(log, "environments/turns", (double)f.turns, n) &&
        reward_log_metric(log, "environments/late", (double)f.late, 1) &&
        reward_log_metric(log, "environments/deaths", (double)f.deaths, 1) &&
        reward_log_metric(log, "environments/latency_p50", f.latency_p50, 1) &&
        reward_log_metric(log, "environments/latency_p99", f.latency_p99, 1) &&
        reward_log_metric(log, "rollout/wait_share", share((double)f.waiting, (double)f.waited), 1) &&
        reward_log_metric(log, "rollout/rows", share((double)f.tokens, (double)f.steps), 1) &&
        reward_log_metric(log, "rollout/single_share", share(f.single_seconds, f.seconds), 1) &&
        reward_log_metric(log, "rollout/set_back", (double)f.set_back, 1) &&
        reward_log_metric(log, "tools/call_frequency", (double)calls, n) &&
        reward_log_metric(log, "tools/failure_frequency", calls > 0 ? (double)failed : 0.0, calls > 0 ? calls : 1) &&
        reward_log_metric(log, "tools/malformed_frequency", calls > 0 ? (double)malformed : 0.0, calls > 0 ? calls : 1);
    free_list(e);
    return good ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "figures of an environment: out of memory");
}
