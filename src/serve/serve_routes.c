/* What is asked where: the table of routes, who may ask, and the routes that need no engine. */
#include "base/json_text.h"
#include "base/number.h"
#include "serve/serve.h"

#include <stdio.h>
#include <string.h>

/* ---- Who asks ---- */

/* In a time that says nothing of where they differ. */
static bool same_secret(const char *given, const char *secret)
{
    const size_t n = strlen(given), m = strlen(secret);
    unsigned char differ = n != m;
    for (size_t i = 0; i < m; i++)
        differ |= (unsigned char)(secret[i] ^ (i < n ? given[i] : 0));
    return differ == 0;
}

static cohort_status check_key(const struct serve *s, struct http_call *call, struct fault *fault)
{
    static const char bearer[] = "Bearer ";
    if (s->api_key == NULL)
        return COHORT_OK;
    const char *given = http_header(call, "Authorization"), *key = http_header(call, "x-api-key");
    if (given != NULL && ascii_same_bytes(given, bearer, sizeof bearer - 1))
        key = given + sizeof bearer - 1;
    if (key != NULL && same_secret(key, s->api_key))
        return COHORT_OK;
    return fault_set(fault, 401, "invalid_api_key", NULL,
                     "the API key is %s: expected \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"",
                     key == NULL ? "missing" : "wrong");
}

/* Without a key only this machine may ask, and no page of another site through its browser: such a page reaches us under
 * the name of its own host. */
static cohort_status check_host(const struct serve *s, struct http_call *call, struct fault *fault)
{
    static const char *const own[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host = http_header(call, "Host");
    if (s->api_key != NULL || options_bool(s->options, OPTION_WITHOUT_KEY) || host == NULL)
        return COHORT_OK;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        const size_t n = strlen(own[i]);
        if (strlen(host) >= n && ascii_same_bytes(host, own[i], n) && (host[n] == '\0' || host[n] == ':'))
            return COHORT_OK;
    }
    return fault_set(fault, 403, "foreign_host", NULL,
                     "without an API key requests are taken for localhost alone, not for host \"%.100s\"", host);
}

static cohort_status check_type(struct http_call *call, struct fault *fault)
{
    static const char json[] = "application/json";
    const char *type = http_header(call, "Content-Type");
    if (type == NULL || (strlen(type) >= sizeof json - 1 && ascii_same_bytes(type, json, sizeof json - 1)))
        return COHORT_OK;
    return fault_set(fault, 415, "unsupported_media_type", NULL, "Content-Type is %.60s, expected application/json",
                     type);
}

/* ---- Small routes ---- */

/* adapter: its number, or 0 for the model itself. */
static json_t *model_value(const struct serve *s, int32_t adapter)
{
    const char *name = adapter == 0 ? s->name : s->adapters.list[adapter - 1].name;
    json_t *value = json_pack("{s:s, s:s, s:I, s:s, s:i}", "id", name, "object", "model", "created",
                              (json_int_t)s->created, "owned_by", "cohort", "max_model_len", (int)s->reading.context);
    if (value != NULL && adapter > 0)
        json_text_set(&value, "parent", json_string(s->name));
    return value;
}

/* The page with which people talk to the model. */
static cohort_status get_page(struct serve *s, struct http_call *call, struct fault *fault)
{
    static const unsigned char page[] = {
#include "serve/page.inc"
    };
    struct text text = {0};
    (void)s;
    TRY(text_append(&text, (const char *)page, sizeof page - 1, &fault->err));
    http_add_header(call, "Content-Security-Policy",
                    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
                    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    http_answer(call, 200, "text/html; charset=utf-8", &text);
    return COHORT_OK;
}

static cohort_status get_models(struct serve *s, struct http_call *call, struct fault *fault)
{
    json_t *list = json_array();
    (void)fault;
    for (int32_t i = 0; i <= s->adapters.n; i++)
        json_text_add(&list, model_value(s, i));
    answer_json(call, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
    return COHORT_OK;
}

static cohort_status get_model(struct serve *s, struct http_call *call, struct fault *fault)
{
    const char *name = http_path(call) + strlen("/v1/models/");
    const int32_t adapter = serve_adapters_find(&s->adapters, name);
    if (adapter == 0 && strcmp(name, s->name) != 0)
        return fault_set(fault, 404, "model_not_found", "model", "there is no model \"%.200s\" here; this is \"%s\"",
                         name, s->name);
    answer_json(call, 200, model_value(s, adapter));
    return COHORT_OK;
}

static cohort_status get_health(struct serve *s, struct http_call *call, struct fault *fault)
{
    char reason[400];
    (void)fault;
    const unsigned status = serve_health(s, reason);
    answer_json(call, status,
                status == 200 ? json_pack("{s:s}", "status", "ok")
                              : json_pack("{s:s, s:s}", "status", strcmp(reason, "loading") == 0 ? "loading" : "error",
                                          "error", reason));
    return COHORT_OK;
}

static cohort_status get_metrics(struct serve *s, struct http_call *call, struct fault *fault)
{
    struct text text = {0};
    const cohort_status status = serve_metrics_write(s, &text, &fault->err);
    if (status == COHORT_OK)
        http_answer(call, 200, "text/plain; version=0.0.4", &text);
    text_free(&text);
    return status;
}

static json_t *ids_value(const struct token_list *ids)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < ids->count; i++)
        json_text_add(&list, json_integer(ids->ids[i]));
    return list;
}

static json_t *token_texts(const struct tokenizer *tokenizer, const struct token_list *ids)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < ids->count; i++) {
        size_t length = 0;
        const char *bytes = tokenizer_bytes(tokenizer, ids->ids[i], &length);
        json_text_add(&list, json_text_value(bytes == NULL ? "" : bytes, length));
    }
    return list;
}

/* {"content"|"prompt": text} or {"messages": [...]}, with {"add_special", "with_pieces"} of llama.cpp and
 * {"add_special_tokens", "return_token_strs"} of vLLM. */
static cohort_status post_tokenize(struct serve *s, struct http_call *call, struct fault *fault)
{
    static const char *const names[] = {"model",
                                        "content",
                                        "prompt",
                                        "messages",
                                        "tools",
                                        "chat_template_kwargs",
                                        "add_special",
                                        "add_special_tokens",
                                        "parse_special",
                                        "with_pieces",
                                        "return_token_strs",
                                        "add_generation_prompt",
                                        "continue_final_message",
                                        NULL};
    struct ask ask = {.form = ASK_CHAT};
    struct token_list ids = {0};
    const char *text = NULL;
    bool special = false, parse = true, pieces = false;
    size_t length = 0;
    cohort_status status = COHORT_OK;
    const char *body = http_body(call, &length);
    TRY_GOTO(ask_json(&ask.body, body, length, fault));
    TRY_GOTO(ask_known(ask.body, names, s->reading.lenient, fault));
    TRY_GOTO(ask_model(ask.body, &s->reading, &ask.model, fault));
    TRY_GOTO(ask_bool(ask.body, "add_special", &special, fault));
    TRY_GOTO(ask_bool(ask.body, "add_special_tokens", &special, fault));
    TRY_GOTO(ask_bool(ask.body, "parse_special", &parse, fault));
    TRY_GOTO(ask_bool(ask.body, "with_pieces", &pieces, fault));
    TRY_GOTO(ask_bool(ask.body, "return_token_strs", &pieces, fault));
    TRY_GOTO(ask_string(ask.body, "content", &text, fault));
    TRY_GOTO(ask_string(ask.body, "prompt", &text, fault));
    if (ask_field(ask.body, "messages") != NULL) {
        TRY_GOTO(ask_chat_messages(&ask, ask_field(ask.body, "messages"), fault));
        TRY_GOTO(ask_chat_tools(&ask, ask_field(ask.body, "tools"), NULL, fault));
        TRY_GOTO(ask_chat_prompt(&ask, &s->reading, fault));
        ids = ask.prompts[0].ids;
        memset(&ask.prompts[0].ids, 0, sizeof ids);
    } else if (text == NULL) {
        status =
            fault_set(fault, 400, "missing_parameter", "content", "content: expected a text (or prompt, or messages)");
        goto cleanup;
    } else if (special) {
        TRY_GOTO(tokenizer_encode_text(s->session.tokenizer, text, strlen(text), false, &ids, &fault->err));
    } else {
        TRY_GOTO(tokenizer_encode(s->session.tokenizer, text, strlen(text), parse, &ids, &fault->err));
    }
    json_t *value = json_pack("{s:o, s:I, s:i}", "tokens", ids_value(&ids), "count", (json_int_t)ids.count,
                              "max_model_len", (int)s->reading.context);
    if (value != NULL && pieces)
        json_text_set(&value, "token_strs", token_texts(s->session.tokenizer, &ids));
    answer_json(call, 200, value);
cleanup:
    token_list_free(&ids);
    ask_free(&ask);
    return status;
}

static cohort_status post_detokenize(struct serve *s, struct http_call *call, struct fault *fault)
{
    static const char *const names[] = {"model", "tokens", "skip_special_tokens", NULL};
    struct token_list ids = {0};
    struct text text = {0};
    json_t *body = NULL;
    const char *model = NULL;
    bool skip = false;
    size_t length = 0;
    cohort_status status = COHORT_OK;
    const char *bytes = http_body(call, &length);
    TRY_GOTO(ask_json(&body, bytes, length, fault));
    TRY_GOTO(ask_known(body, names, s->reading.lenient, fault));
    TRY_GOTO(ask_model(body, &s->reading, &model, fault));
    TRY_GOTO(ask_bool(body, "skip_special_tokens", &skip, fault));
    if (ask_field(body, "tokens") == NULL)
        status = fault_set(fault, 400, "missing_parameter", "tokens", "tokens: the field is required");
    else
        status = ask_ids(ask_field(body, "tokens"), "tokens", s->session.model->config.vocab_size, &ids, fault);
    if (status == COHORT_OK)
        status = tokenizer_decode(s->session.tokenizer, ids.ids, ids.count, skip, &text, &fault->err);
    if (status == COHORT_OK)
        answer_json(call, 200,
                    json_pack("{s:o, s:o}", "content", json_text_value(text.data, text.length), "prompt",
                              json_text_value(text.data, text.length)));
cleanup:
    token_list_free(&ids);
    text_free(&text);
    json_decref(body);
    return status;
}

static cohort_status post_template(struct serve *s, struct http_call *call, struct fault *fault)
{
    static const char *const names[] = {"model",
                                        "messages",
                                        "tools",
                                        "chat_template_kwargs",
                                        "enable_thinking",
                                        "add_generation_prompt",
                                        "continue_final_message",
                                        NULL};
    struct ask ask = {.form = ASK_CHAT};
    size_t length = 0;
    cohort_status status = COHORT_OK;
    const char *body = http_body(call, &length);
    TRY_GOTO(ask_json(&ask.body, body, length, fault));
    TRY_GOTO(ask_known(ask.body, names, s->reading.lenient, fault));
    TRY_GOTO(ask_model(ask.body, &s->reading, &ask.model, fault));
    TRY_GOTO(ask_chat_messages(&ask, ask_field(ask.body, "messages"), fault));
    TRY_GOTO(ask_chat_tools(&ask, ask_field(ask.body, "tools"), NULL, fault));
    TRY_GOTO(ask_chat_prompt(&ask, &s->reading, fault));
    answer_json(call, 200,
                json_pack("{s:o}", "prompt", json_text_value(ask.prompts[0].text.data, ask.prompts[0].text.length)));
cleanup:
    ask_free(&ask);
    return status;
}

/* ---- Generation ---- */

static cohort_status generate(struct serve *s, struct http_call *call, enum ask_form form, struct fault *fault)
{
    struct ask ask = {0};
    struct job *job = NULL;
    size_t length = 0;
    const char *body = http_body(call, &length);
    const cohort_status status = ask_read(&ask, form, &s->reading, body, length, fault);
    if (status != COHORT_OK) {
        ask_free(&ask);
        return status;
    }
    const uint64_t seed = ask.has_seed ? (uint64_t)ask.seed : serve_seed(s);
    TRY(job_create(&job, &ask, call, s->session.tokenizer, s->fingerprint, seed, &fault->err));
    return serve_submit(s, job, fault);
}

static cohort_status post_chat(struct serve *s, struct http_call *call, struct fault *fault)
{
    return generate(s, call, ASK_CHAT, fault);
}

static cohort_status post_completions(struct serve *s, struct http_call *call, struct fault *fault)
{
    return generate(s, call, ASK_COMPLETION, fault);
}

static cohort_status post_messages(struct serve *s, struct http_call *call, struct fault *fault)
{
    return generate(s, call, ASK_MESSAGES, fault);
}

static cohort_status post_responses(struct serve *s, struct http_call *call, struct fault *fault)
{
    return generate(s, call, ASK_RESPONSES, fault);
}

/* How many tokens the prompt of such a request has. */
static cohort_status post_count(struct serve *s, struct http_call *call, struct fault *fault)
{
    struct ask ask = {.form = ASK_MESSAGES};
    size_t length = 0;
    cohort_status status = COHORT_OK;
    const char *body = http_body(call, &length);
    TRY_GOTO(ask_json(&ask.body, body, length, fault));
    TRY_GOTO(ask_model(ask.body, &s->reading, &ask.model, fault));
    TRY_GOTO(ask_anthropic(&ask, &s->reading, fault));
    answer_json(call, 200, json_pack("{s:I}", "input_tokens", (json_int_t)ask.prompts[0].ids.count));
cleanup:
    ask_free(&ask);
    return status;
}

/* ---- The table ---- */

enum { OPEN = 1 /* without a key */, ALWAYS = 2 /* in every state */, BELOW = 4 /* and what begins with it */ };
struct route {
    const char *method, *path;
    unsigned flags;
    cohort_status (*run)(struct serve *serve, struct http_call *call, struct fault *fault);
    json_t *(*form)(const struct fault *fault);
};
static const struct route routes[] = {
    {"GET", "/", OPEN | ALWAYS, get_page, fault_value},
    {"GET", "/health", OPEN | ALWAYS, get_health, fault_value},
    {"GET", "/v1/health", OPEN | ALWAYS, get_health, fault_value},
    {"GET", "/metrics", ALWAYS, get_metrics, fault_value},
    {"GET", "/v1/models", 0, get_models, fault_value},
    {"GET", "/v1/models/", BELOW, get_model, fault_value},
    {"POST", "/v1/chat/completions", 0, post_chat, fault_value},
    {"POST", "/v1/completions", 0, post_completions, fault_value},
    {"POST", "/v1/messages", 0, post_messages, fault_value_anthropic},
    {"POST", "/v1/messages/count_tokens", 0, post_count, fault_value_anthropic},
    {"POST", "/v1/responses", 0, post_responses, fault_value},
    {"POST", "/v1/weights", 0, serve_weights, fault_value},
    {"POST", "/score", 0, serve_score, fault_value},
    {"POST", "/tokenize", 0, post_tokenize, fault_value},
    {"POST", "/detokenize", 0, post_detokenize, fault_value},
    {"POST", "/apply-template", 0, post_template, fault_value},
};
enum { N_ROUTES = sizeof routes / sizeof routes[0] };

static bool fits(const struct route *route, const char *path)
{
    const size_t n = strlen(route->path);
    return (route->flags & BELOW) != 0 ? strncmp(route->path, path, n) == 0 && path[n] != '\0'
                                       : strcmp(route->path, path) == 0;
}

static const struct route *find_route(struct http_call *call, struct fault *fault)
{
    const char *method = strcmp(http_method(call), "HEAD") == 0 ? "GET" : http_method(call), *other = NULL;
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (!fits(&routes[i], http_path(call)))
            continue;
        if (strcmp(routes[i].method, method) == 0)
            return &routes[i];
        other = routes[i].method;
    }
    if (other == NULL) {
        (void)fault_set(fault, 404, "not_found", NULL, "there is nothing at %.200s", http_path(call));
        return NULL;
    }
    http_add_header(call, "Allow", other);
    (void)fault_set(fault, 405, "method_not_allowed", NULL, "%.200s takes %s, not %s", http_path(call), other,
                    http_method(call));
    return NULL;
}

static cohort_status run_route(struct serve *s, const struct route *route, struct http_call *call, struct fault *fault)
{
    TRY(check_host(s, call, fault));
    if ((route->flags & OPEN) == 0)
        TRY(check_key(s, call, fault));
    if (strcmp(route->method, "POST") == 0)
        TRY(check_type(call, fault));
    if ((route->flags & ALWAYS) == 0)
        TRY(serve_accepts(s, fault));
    return route->run(s, call, fault);
}

void serve_handle(void *context, struct http_call *call)
{
    struct serve *s = context;
    struct fault fault = {0};
    if (strcmp(http_method(call), "OPTIONS") == 0) {
        struct text nothing = {0};
        http_answer(call, 204, "", &nothing);
        return;
    }
    const struct route *route = find_route(call, &fault);
    if (route == NULL || run_route(s, route, call, &fault) != COHORT_OK)
        answer_fault(call, &fault, route == NULL ? fault_value : route->form);
}
