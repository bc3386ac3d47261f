/* Scoring for clients: POST /score, an errand for the engine's thread, and the log-probs of prompts that answers tell of. */
#include "base/json_text.h"
#include "serve/serve.h"

#include <string.h>

struct score_errand {
    struct token_list prompt, tokens;
    int32_t n_top;
    float temperature;
    char *model; /* whose adapter is worn */
};

static void release(void *body)
{
    struct score_errand *asked = body;
    token_list_free(&asked->prompt);
    token_list_free(&asked->tokens);
    mem_free(asked->model);
}

static json_t *token_value(const struct tokenizer *tokenizer, int32_t id, float logprob)
{
    size_t length = 0;
    const char *bytes = tokenizer_bytes(tokenizer, id, &length);
    return json_pack("{s:o, s:i, s:f}", "token", json_text_value(bytes == NULL ? "" : bytes, length), "token_id",
                     (int)id, "logprob", (double)logprob);
}

/* With what a request of this model wears. */
static cohort_status run_scorer(struct serve *s, const char *model, struct score *score, cohort_error *err)
{
    serve_adapters_wear(&s->adapters, s->session.model, model);
    const cohort_status status = scorer_run(&s->scorer, score, err);
    serve_adapters_wear(&s->adapters, s->session.model, NULL);
    return status;
}

static json_t *score_value(const struct serve *s, const char *model, const struct score *score)
{
    json_t *entries = json_array(), *logprobs = json_array();
    for (int32_t t = 0; t < score->n_tokens; t++) {
        json_t *entry = token_value(s->session.tokenizer, score->tokens[t], score->logprobs[t]);
        json_t *top = json_array();
        for (int32_t k = 0; k < score->n_top; k++) {
            const size_t at = (size_t)t * (size_t)score->n_top + (size_t)k;
            json_text_add(&top, token_value(s->session.tokenizer, score->top[at], score->top_logprobs[at]));
        }
        json_text_set(&entry, "top_logprobs", top);
        json_text_add(&entries, entry);
        json_text_add(&logprobs, json_real((double)score->logprobs[t]));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:{s:i, s:i}}", "object", "score", "model", model, "logprobs", logprobs,
                     "content", entries, "usage", "prompt_tokens", (int)score->n_prompt, "completion_tokens",
                     (int)score->n_tokens);
}

static void run(struct serve *s, const void *body, struct http_call *call)
{
    const struct score_errand *asked = body;
    struct score score = {.prompt = asked->prompt.ids,
                          .tokens = asked->tokens.ids,
                          .n_prompt = (int32_t)asked->prompt.count,
                          .n_tokens = (int32_t)asked->tokens.count,
                          .n_top = asked->n_top,
                          .temperature = asked->temperature};
    const size_t n = asked->tokens.count, all = n * (size_t)asked->n_top;
    struct fault fault = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&score.logprobs, n, sizeof(float), "log-probs", &fault.err));
    TRY_GOTO(mem_alloc(&score.top, all, sizeof(int32_t), "log-probs", &fault.err));
    TRY_GOTO(mem_alloc(&score.top_logprobs, all, sizeof(float), "log-probs", &fault.err));
    TRY_GOTO(run_scorer(s, asked->model, &score, &fault.err));
cleanup:
    if (status == COHORT_OK)
        answer_json(call, 200, score_value(s, asked->model, &score));
    else
        answer_fault(call, &fault, fault_value);
    mem_free(score.logprobs);
    mem_free(score.top);
    mem_free(score.top_logprobs);
}

cohort_status serve_prompt_score(struct serve *s, struct job *job, cohort_error *err)
{
    const struct ask *ask = &job->ask;
    if (job->n_open > 0 || !job_lacks_scores(job))
        return COHORT_OK;
    const struct token_list *prompt = &ask->prompts[job->n_scored].ids;
    struct prompt_score *found = &job->prompt_scores[job->n_scored];
    const size_t n = prompt->count - 1, all = n * (size_t)ask->prompt_logprobs;
    job->n_scored++;
    if (n == 0)
        return COHORT_OK;
    TRY(mem_alloc(&found->logprobs, n, sizeof *found->logprobs, "log-probs", err));
    TRY(mem_alloc(&found->top, all, sizeof *found->top, "log-probs", err));
    TRY(mem_alloc(&found->top_logprobs, all, sizeof *found->top_logprobs, "log-probs", err));
    const float drawn = ask->sampling.temperature > 0 ? ask->sampling.temperature : 1.0f;
    return run_scorer(s, ask->model,
                      &(struct score){.prompt = prompt->ids,
                                      .tokens = prompt->ids + 1,
                                      .n_prompt = 1,
                                      .n_tokens = (int32_t)n,
                                      .n_top = ask->prompt_logprobs,
                                      .temperature = ask->logp_temperature > 0 ? ask->logp_temperature : drawn,
                                      .logprobs = found->logprobs,
                                      .top = found->top,
                                      .top_logprobs = found->top_logprobs},
                      err);
}

static cohort_status read_score(struct serve *s, const json_t *json, void *body, struct fault *fault)
{
    static const char *const names[] = {"model",        "prompt", "prompt_tokens", "tokens", "temperature",
                                        "top_logprobs", NULL};
    struct score_errand *out = body;
    const json_t *prompt = ask_field(json, "prompt"), *ids = ask_field(json, "prompt_tokens"),
                 *tokens = ask_field(json, "tokens"), *temperature = ask_field(json, "temperature");
    const int32_t vocab = s->session.model->config.vocab_size;
    const char *model = NULL;
    int64_t top = 0;
    TRY(ask_known(json, names, s->reading.lenient, fault));
    TRY(ask_model(json, &s->reading, &model, fault));
    TRY(mem_strdup(&out->model, model, strlen(model), &fault->err));
    TRY(ask_integer(json, "top_logprobs", 0, ASK_MOST_TOP, &top, fault));
    out->n_top = (int32_t)(top < vocab ? top : vocab);
    out->temperature = 1.0f;
    if (temperature != NULL &&
        !(json_is_number(temperature) && json_number_value(temperature) >= 0 && json_number_value(temperature) <= 100))
        return fault_set(fault, 400, "invalid_value", "temperature", "temperature: expected a number from 0 to 100");
    if (temperature != NULL && json_number_value(temperature) > 0)
        out->temperature = (float)json_number_value(temperature);
    if ((prompt == NULL) == (ids == NULL) || tokens == NULL)
        return fault_set(fault, 400, "missing_parameter", tokens == NULL ? "tokens" : "prompt",
                         "expected tokens, and either prompt (a text) or prompt_tokens");
    if (ids != NULL)
        TRY(ask_ids(ids, "prompt_tokens", vocab, &out->prompt, fault));
    else if (!json_is_string(prompt))
        return fault_set(fault, 400, "invalid_type", "prompt", "prompt: expected a text");
    else
        TRY(tokenizer_encode_text(s->session.tokenizer, json_string_value(prompt), json_string_length(prompt), true,
                                  &out->prompt, &fault->err));
    TRY(ask_ids(tokens, "tokens", vocab, &out->tokens, fault));
    const size_t n = out->prompt.count + out->tokens.count;
    if (out->prompt.count == 0 || out->tokens.count == 0)
        return fault_set(fault, 400, "invalid_value", out->tokens.count == 0 ? "tokens" : "prompt",
                         "prompt and tokens: expected at least one token in each");
    if (n > (size_t)s->scorer.most)
        return fault_set(fault, 400, "context_length_exceeded", "tokens",
                         "prompt and tokens have %zu tokens, --max-score allows %d", n, (int)s->scorer.most);
    return COHORT_OK;
}

cohort_status serve_score(struct serve *s, struct http_call *call, struct fault *fault)
{
    static const struct errand_kind kind = {sizeof(struct score_errand), read_score, run, release, .alone = false};
    return serve_errand(s, call, &kind, fault);
}
