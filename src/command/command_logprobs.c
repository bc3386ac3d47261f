/* cohort logprobs: the log-probs of given sequences, in one pass of the training forward, or the scores that a sequence
 * classifier gives them. Rows as generate prints them; needs no tokenizer. */
#include "command/command.h"
#include "recipe/json_rows.h"
#include "recipe/likelihood.h"
#include "recipe/session.h"

#include <math.h>
#include <string.h>

/* The rows of a file as trees; rows with the same prompt next to each other share it (a group). */
struct scored {
    struct completion_tokens *completions;
    int32_t **prompts, **tokens;
    int32_t *n_prompt;
    float **logp;
    struct tree *trees;
    float *temperature; /* [n_trees] that log-probs are of */
    int32_t n_trees;
    size_t n;
};

/* The option's where it was given; else what the row says that its own log-probs are of. */
static cohort_status temperature_of(const json_t *row, const char *where, const struct options *options, float *out,
                                    cohort_error *err)
{
    const json_t *said = json_object_get(row, "temperature");
    *out = (float)options_float(options, OPTION_TEMPERATURE);
    if (said != NULL && !json_is_null(said) && !options_given(options, OPTION_TEMPERATURE)) {
        if (!json_is_number(said) || !(json_number_value(said) >= 0.0 && json_number_value(said) <= 100.0))
            return error_set(err, COHORT_ERR_FORMAT, "%s: \"temperature\" is no number from 0 to 100", where);
        *out = (float)json_number_value(said);
    }
    *out = *out == 0.0f ? 1.0f : *out;
    return COHORT_OK;
}

static cohort_status read_row(struct scored *s, struct dataset *data, size_t i, const struct session *session,
                              const struct options *options, cohort_error *err)
{
    float temperature = 1.0f;
    const int32_t vocab = session->model->config.vocab_size, context = session->model->max_context;
    char where[DATA_PLACE];
    json_t *row = NULL;
    int32_t n_tokens = 0;
    TRY(dataset_row(data, i, &row, err));
    dataset_place(data, i, where);
    cohort_status status = json_read_ids(row, "prompt_tokens", where, vocab, &s->prompts[i], &s->n_prompt[i], err);
    if (status == COHORT_OK)
        status = json_read_ids(row, "tokens", where, vocab, &s->tokens[i], &n_tokens, err);
    if (status == COHORT_OK)
        status = temperature_of(row, where, options, &temperature, err);
    json_decref(row);
    TRY(status);
    if (s->n_prompt[i] == 0)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"prompt_tokens\" is empty; the first token needs something to follow", where);
    if ((int64_t)s->n_prompt[i] + n_tokens > context)
        return error_set(err, COHORT_ERR_FORMAT, "%s: %d prompt tokens and %d more exceed the model's context of %d%s",
                         where, (int)s->n_prompt[i], (int)n_tokens, (int)context,
                         rope_config_limit(&session->model->config.rope));
    s->completions[i] = (struct completion_tokens){.tokens = s->tokens[i], .n_tokens = n_tokens};
    TRY(mem_alloc(&s->logp[i], (size_t)n_tokens, sizeof(float), "log-probs", err));
    struct tree *last = &s->trees[s->n_trees > 0 ? s->n_trees - 1 : 0];
    if (s->n_trees > 0 && s->temperature[s->n_trees - 1] == temperature && last->n_prompt == s->n_prompt[i] &&
        memcmp(last->prompt, s->prompts[i], (size_t)last->n_prompt * sizeof(int32_t)) == 0)
        last->n_completions++;
    else {
        s->temperature[s->n_trees] = temperature;
        s->trees[s->n_trees++] = (struct tree){
            .prompt = s->prompts[i], .n_prompt = s->n_prompt[i], .completions = &s->completions[i], .n_completions = 1};
    }
    return COHORT_OK;
}

static cohort_status read_rows(struct scored *s, struct dataset *data, const struct session *session,
                               const struct options *options, cohort_error *err)
{
    const size_t n = data->n_rows;
    s->n = n;
    TRY(mem_alloc(&s->completions, n, sizeof *s->completions, "rows", err));
    TRY(mem_alloc(&s->prompts, n, sizeof(int32_t *), "rows", err));
    TRY(mem_alloc(&s->tokens, n, sizeof(int32_t *), "rows", err));
    TRY(mem_alloc(&s->n_prompt, n, sizeof *s->n_prompt, "rows", err));
    TRY(mem_alloc(&s->logp, n, sizeof(float *), "rows", err));
    TRY(mem_alloc(&s->trees, n, sizeof *s->trees, "rows", err));
    TRY(mem_alloc(&s->temperature, n, sizeof *s->temperature, "rows", err));
    for (size_t i = 0; i < n; i++)
        TRY(read_row(s, data, i, session, options, err));
    return COHORT_OK;
}

static void scored_free(struct scored *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->prompts != NULL)
            mem_free(s->prompts[i]);
        if (s->tokens != NULL)
            mem_free(s->tokens[i]);
        if (s->logp != NULL)
            mem_free(s->logp[i]);
    }
    mem_free(s->completions);
    mem_free(s->prompts);
    mem_free(s->tokens);
    mem_free(s->n_prompt);
    mem_free(s->logp);
    mem_free(s->trees);
    mem_free(s->temperature);
}

static const char *text_of(const json_t *row, const char *key, size_t *length)
{
    const json_t *value = json_object_get(row, key);
    *length = json_is_string(value) ? json_string_length(value) : 0;
    return json_string_value(value);
}

static cohort_status print_row(const struct scored *s, size_t i, struct dataset *data, const cohort_observer *observer,
                               cohort_error *err)
{
    struct text text = {0};
    json_t *row = NULL;
    cohort_status status = COHORT_OK;
    TRY(dataset_row(data, i, &row, err));
    const json_t *index = json_object_get(row, "index"), *within = json_object_get(row, "completion_index");
    struct json_row out = {.index = json_is_integer(index) ? json_integer_value(index) : (json_int_t)i,
                           .completion_index = json_is_integer(within) ? json_integer_value(within) : 0,
                           .prompt_tokens = s->prompts[i],
                           .tokens = s->tokens[i],
                           .logprobs = s->logp[i],
                           .temperature = (float)json_number_value(json_object_get(row, "temperature")),
                           .n_prompt = s->n_prompt[i],
                           .n_tokens = s->completions[i].n_tokens,
                           .finish_reason = json_string_value(json_object_get(row, "finish_reason"))};
    for (int32_t t = 0; t < out.n_tokens; t++)
        if (!isfinite(s->logp[i][t])) {
            char where[DATA_PLACE];
            dataset_place(data, i, where);
            status = error_set(err, COHORT_ERR_NUMERIC,
                               "%s: the log-prob of token %d is %g, expected a finite "
                               "number; the weights are damaged",
                               where, (int)t, (double)s->logp[i][t]);
            goto cleanup;
        }
    out.prompt = text_of(row, "prompt", &out.prompt_length);
    out.completion = text_of(row, "completion", &out.completion_length);
    TRY_GOTO(json_row_write(&out, &text, err));
    observer_output(observer, &text);
cleanup:
    text_free(&text);
    json_decref(row);
    return status;
}

static cohort_status print_rows(const struct scored *s, struct dataset *data, const cohort_observer *observer,
                                cohort_error *err)
{
    for (size_t i = 0; i < s->n; i++)
        TRY(print_row(s, i, data, observer, err));
    return COHORT_OK;
}

static cohort_status print_scores(const struct scored *s, const float *scores, int32_t n_labels,
                                  const cohort_observer *observer, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < s->n; i++) {
        TRY_GOTO(text_printf(&text, err, "{\"index\": %zu, \"scores\": [", i));
        for (int32_t label = 0; label < n_labels; label++) {
            const float score = scores[i * (size_t)n_labels + (size_t)label];
            if (!isfinite(score)) {
                status = error_set(err, COHORT_ERR_NUMERIC,
                                   "row %zu: its score is %g, expected a finite number; the weights are damaged", i,
                                   (double)score);
                goto cleanup;
            }
            TRY_GOTO(text_append(&text, ", ", label == 0 ? 0 : 2, err));
            TRY_GOTO(json_float_write(score, &text, err));
        }
        TRY_GOTO(text_append(&text, "]}\n", 3, err));
    }
    observer_output(observer, &text);
cleanup:
    text_free(&text);
    return status;
}

/* A classifier's scores of the rows, each its prompt and tokens as one sequence. */
static cohort_status score_rows(const struct scored *s, struct session *session, struct tree_runner *runner,
                                const cohort_observer *observer, cohort_error *err)
{
    const int32_t n_labels = session->model->config.n_labels;
    float *scores = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&scores, s->n * (size_t)n_labels, sizeof *scores, "scores", err));
    TRY_GOTO(tree_runner_scores(runner, session->model, s->trees, s->n_trees, scores, err));
    TRY_GOTO(print_scores(s, scores, n_labels, observer, err));
cleanup:
    mem_free(scores);
    return status;
}

/* The log-probs of all rows: of trees in a row that have one temperature at once. */
static cohort_status compute(struct scored *s, struct likelihood *likelihood, cohort_error *err)
{
    float *const *logp = s->logp;
    for (int32_t from = 0, to = 0; from < s->n_trees; from = to) {
        int32_t rows = 0;
        for (to = from; to < s->n_trees && s->temperature[to] == s->temperature[from]; to++)
            rows += s->trees[to].n_completions;
        TRY(likelihood_of(likelihood, s->trees + from, to - from, s->temperature[from], logp, err));
        logp += rows;
    }
    return COHORT_OK;
}

cohort_status command_logprobs(struct options *options, const struct reward_list *extra,
                               const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    struct session session = {0};
    struct dataset data = {0};
    struct scored rows = {0};
    struct likelihood likelihood = {0};
    const char *path = options_string(options, OPTION_BATCH);
    int64_t longest = 0;
    cohort_status status = COHORT_OK;
    if (path == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no rows given: pass --batch FILE with {\"prompt_tokens\": [...], "
                         "\"tokens\": [...]} a line");
    TRY_GOTO(dataset_open(&data, &(struct dataset_request){.spec = path, .stop = options_stop(options)}, err));
    TRY_GOTO(session_open(&session, options, NULL, SESSION_CLASSIFIER, observer, err));
    TRY_GOTO(read_rows(&rows, &data, &session, options, err));
    for (size_t i = 0; i < rows.n; i++)
        if (rows.n_prompt[i] + rows.completions[i].n_tokens > longest)
            longest = rows.n_prompt[i] + rows.completions[i].n_tokens;
    likelihood.runner.extras.scores = session.model->config.n_labels > 0;
    TRY_GOTO(likelihood_open(&likelihood, &session, session_micro_tokens(session.model, options), longest, err));
    if (likelihood.runner.extras.scores) {
        TRY_GOTO(score_rows(&rows, &session, &likelihood.runner, observer, err));
        goto cleanup;
    }
    TRY_GOTO(compute(&rows, &likelihood, err));
    TRY_GOTO(print_rows(&rows, &data, observer, err));
cleanup:
    scored_free(&rows);
    likelihood_close(&likelihood);
    dataset_free(&data);
    session_close(&session);
    return status;
}
