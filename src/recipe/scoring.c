#include "recipe/scoring.h"

#include "base/number.h"
#include "recipe/json_rows.h"
#include "recipe/data_open.h"
#include "run/run_folder.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cohort_status read_weights(struct scoring *scoring, const struct options *options, cohort_error *err)
{
    size_t given = options_list_count(options, OPTION_REWARD_WEIGHTS);
    for (int32_t i = 0; i < scoring->n; i++)
        scoring->weights[i] = 1.0;
    if (given == 0)
        return COHORT_OK;
    if (given != (size_t)scoring->n)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--reward-weights has %zu values for %d rewards; give one for each, in the same order", given,
                         (int)scoring->n);
    for (size_t i = 0; i < given; i++) {
        const char *item = options_list_item(options, OPTION_REWARD_WEIGHTS, i);
        if (!number_read(item, strlen(item), &scoring->weights[i]))
            return error_set(err, COHORT_ERR_INTERNAL, "--reward-weights: '%s' was not checked", item);
    }
    return COHORT_OK;
}

static bool is_taken(const struct scoring *scoring, int32_t count, const char *name)
{
    for (int32_t i = 0; i < count; i++)
        if (strcmp(scoring->names[i], name) == 0)
            return true;
    return false;
}

/* Metrics and rows tell rewards apart by name: the second of the same name is called NAME_2. */
static cohort_status name_reward(struct scoring *scoring, int32_t i, cohort_error *err)
{
    struct text text = {0};
    const char *name = reward_name(scoring->rewards[i]);
    TRY(text_printf(&text, err, "%s", name));
    for (int k = 2; is_taken(scoring, i, text.data); k++) {
        text.length = 0;
        TRY(text_printf(&text, err, "%s_%d", name, k));
    }
    scoring->names[i] = text.data;
    return COHORT_OK;
}

/* The n items of a list option; they stay the options'. */
static cohort_status read_texts(const struct options *options, enum option_id id, size_t n, const char ***texts,
                                cohort_error *err)
{
    TRY(mem_alloc(texts, n, sizeof **texts, "rewards", err));
    for (size_t i = 0; i < n; i++)
        (*texts)[i] = options_list_item(options, id, i);
    return COHORT_OK;
}

/* The rewards that the options name. */
static cohort_status create_named(struct scoring *scoring, const struct options *options, size_t named,
                                  cohort_error *err)
{
    const char **delimiters = NULL, **tags = NULL;
    cohort_status status = COHORT_OK;
    struct reward_options reward_options = {.pattern = options_string(options, OPTION_REWARD_PATTERN),
                                            .timeout_s = options_float(options, OPTION_REWARD_TIMEOUT),
                                            .stop = options_stop(options),
                                            .n_delimiters = options_list_count(options, OPTION_REASONING_DELIMITERS),
                                            .n_tags = options_list_count(options, OPTION_REWARD_TAGS),
                                            .max_completion_len = options_int_or(options, OPTION_MAX_COMPLETION_LEN, 0),
                                            .soft_punish_cache = options_int_or(options, OPTION_SOFT_PUNISH_CACHE, -1),
                                            .ngram_size = options_int(options, OPTION_NGRAM_SIZE),
                                            .max_penalty = options_float(options, OPTION_MAX_PENALTY),
                                            .max_len = options_int_or(options, OPTION_MAX_LEN, 0),
                                            .min_length = options_int(options, OPTION_REWARD_MIN_LENGTH),
                                            .max_length = options_int(options, OPTION_REWARD_MAX_LENGTH),
                                            .min_value_wrong = options_float(options, OPTION_MIN_VALUE_WRONG),
                                            .max_value_wrong = options_float(options, OPTION_MAX_VALUE_WRONG),
                                            .min_value_correct = options_float(options, OPTION_MIN_VALUE_CORRECT),
                                            .max_value_correct = options_float(options, OPTION_MAX_VALUE_CORRECT)};
    TRY_GOTO(read_texts(options, OPTION_REASONING_DELIMITERS, reward_options.n_delimiters, &delimiters, err));
    TRY_GOTO(read_texts(options, OPTION_REWARD_TAGS, reward_options.n_tags, &tags, err));
    reward_options.reasoning_delimiters = delimiters;
    reward_options.tags = tags;
    for (size_t i = 0; i < named; i++) {
        TRY_GOTO(
            reward_create(&scoring->rewards[i], options_list_item(options, OPTION_REWARD, i), &reward_options, err));
        scoring->n = ++scoring->n_owned;
    }
cleanup:
    mem_free(delimiters);
    mem_free(tags);
    return status;
}

cohort_status scoring_open(struct scoring *scoring, const struct options *options, const struct reward_list *extra,
                           cohort_error *err)
{
    size_t named = options_list_count(options, OPTION_REWARD), more = extra == NULL ? 0 : extra->count;
    memset(scoring, 0, sizeof *scoring);
    if (named + more == 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no reward given: pass --reward accuracy, regex, think_format, exec:PROGRAM or another of "
                         "README.md");
    TRY(mem_alloc(&scoring->rewards, named + more, sizeof(struct reward *), "rewards", err));
    TRY(mem_alloc(&scoring->names, named + more, sizeof(char *), "rewards", err));
    TRY(mem_alloc(&scoring->weights, named + more, sizeof(double), "rewards", err));
    TRY(create_named(scoring, options, named, err));
    for (size_t i = 0; i < more; i++)
        scoring->rewards[scoring->n++] = extra->rewards[i];
    for (int32_t i = 0; i < scoring->n; i++)
        TRY(name_reward(scoring, i, err));
    return read_weights(scoring, options, err);
}

void scoring_close(struct scoring *scoring)
{
    for (int32_t i = 0; i < scoring->n_owned; i++)
        reward_destroy(scoring->rewards[i]);
    for (int32_t i = 0; scoring->names != NULL && i < scoring->n; i++)
        mem_free((void *)(uintptr_t)scoring->names[i]);
    mem_free(scoring->rewards);
    mem_free(scoring->names);
    mem_free(scoring->weights);
    memset(scoring, 0, sizeof *scoring);
}

cohort_status scoring_rows(const struct scoring *scoring, const struct reward_row *rows, size_t n_rows, double *rewards,
                           cohort_error *err)
{
    double *column = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&column, n_rows, sizeof *column, "rewards", err));
    for (int32_t f = 0; f < scoring->n && status == COHORT_OK; f++) {
        const char *warning = NULL;
        status = reward_score(scoring->rewards[f], rows, n_rows, column, err);
        if (scoring->observer != NULL && (warning = reward_warning(scoring->rewards[f])) != NULL)
            observer_message(scoring->observer, "%s", warning);
        for (size_t i = 0; i < n_rows && status == COHORT_OK; i++)
            rewards[i * (size_t)scoring->n + (size_t)f] = column[i];
    }
    mem_free(column);
    return status;
}

void prompt_free(struct prompt *prompt)
{
    json_decref(prompt->row);
    token_list_free(&prompt->ids);
    text_free(&prompt->text);
    memset(prompt, 0, sizeof *prompt);
}

cohort_status prompt_set_read(struct prompt_set *set, size_t row, struct prompt *prompt, cohort_error *err)
{
    char place[DATA_PLACE];
    json_decref(prompt->row);
    prompt->row = NULL;
    prompt->ids.count = 0;
    prompt->text.length = 0;
    TRY(dataset_row(&set->data, row, &prompt->row, err));
    dataset_place(&set->data, row, place);
    return row_prompt(set->session, prompt->row, place, &set->style, &prompt->ids, &prompt->text, err);
}

/* Whether the rewards can score completions of a row. */
static cohort_status check_rewards(const struct scoring *scoring, const struct prompt_set *set, size_t row,
                                   const json_t *data, cohort_error *err)
{
    char place[DATA_PLACE];
    for (int32_t f = 0; scoring != NULL && f < scoring->n; f++) {
        cohort_status status = reward_check(scoring->rewards[f], data, (int64_t)row, err);
        if (status == COHORT_OK)
            continue;
        dataset_place(&set->data, row, place);
        error_context(err, "%s", place);
        return status;
    }
    return COHORT_OK;
}

/* Reads every row once: a run does not begin with one that it could not ask or score. */
static cohort_status check_prompts(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                                   int32_t max_tokens, const struct options *options, const cohort_observer *observer,
                                   cohort_error *err)
{
    struct prompt prompt = {0};
    cohort_status status = COHORT_OK;
    set->session = session;
    set->style = row_style(options);
    set->style.asks = true;
    TRY(mem_alloc(&set->lengths, set->data.n_rows, sizeof *set->lengths, "prompts", err));
    for (size_t i = 0; i < set->data.n_rows; i++) {
        TRY_GOTO(data_report(&set->data, i, options, observer, err));
        TRY_GOTO(prompt_set_read(set, i, &prompt, err));
        TRY_GOTO(check_rewards(scoring, set, i, prompt.row, err));
        const int32_t n = prompt.ids.count > INT32_MAX ? INT32_MAX : (int32_t)prompt.ids.count;
        if (n > max_tokens) {
            char place[DATA_PLACE];
            dataset_place(&set->data, i, place);
            status = error_set(err, COHORT_ERR_FORMAT,
                               "%s: the prompt has %d tokens, at most %d fit beside the completion; "
                               "shorten it, remove the row, lower "
                               "--max-completion-length or raise --max-prompt-length",
                               place, (int)n, (int)max_tokens);
            goto cleanup;
        }
        set->lengths[i] = n;
        set->longest = n > set->longest ? n : set->longest;
    }
cleanup:
    prompt_free(&prompt);
    return status;
}

cohort_status prompt_set_load(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                              enum option_id named, size_t limit, int32_t max_tokens, const struct options *options,
                              const cohort_observer *observer, cohort_error *err)
{
    memset(set, 0, sizeof *set);
    TRY(data_open(&set->data, options, named, limit, true, observer, err));
    return check_prompts(set, session, scoring, max_tokens, options, observer, err);
}

cohort_status prompt_set_load_spec(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                                   const char *spec, size_t limit, int32_t max_tokens, const struct options *options,
                                   const cohort_observer *observer, cohort_error *err)
{
    memset(set, 0, sizeof *set);
    TRY(data_open_spec(&set->data, spec, limit, true, options, observer, err));
    return check_prompts(set, session, scoring, max_tokens, options, observer, err);
}

cohort_status prompt_set_take(struct prompt_set *set, const struct session *session, const char *const *rows,
                              size_t n_rows, int32_t max_tokens, const struct options *options, cohort_error *err)
{
    memset(set, 0, sizeof *set);
    for (size_t i = 0; i < n_rows; i++)
        TRY(dataset_add(&set->data, rows[i], strlen(rows[i]), err));
    return check_prompts(set, session, NULL, max_tokens, options, NULL, err);
}

void prompt_set_need(const struct prompt_set *set, int32_t context, int32_t max_tokens, int32_t n,
                     struct rollout_need *need)
{
    for (size_t i = 0; i < set->data.n_rows; i++) {
        const int32_t length = set->lengths[i], room = context - length;
        rollout_need_add(need, 1, length, room < max_tokens ? room : max_tokens, n);
    }
}

void prompt_set_free(struct prompt_set *set)
{
    mem_free(set->lengths);
    dataset_free(&set->data);
    memset(set, 0, sizeof *set);
}

static int64_t index_of(const struct prompt_batch *batch, size_t prompt)
{
    const size_t row = batch->rows[prompt];
    return batch->set->indices == NULL ? (int64_t)row : batch->set->indices[row];
}

void scoring_table(const struct prompt_batch *batch, int32_t n_prompts, int32_t n, const struct completion *completions,
                   struct reward_row *table)
{
    for (size_t i = 0; i < (size_t)n_prompts * (size_t)n; i++) {
        const struct prompt *prompt = &batch->prompts[i / (size_t)n];
        const struct completion *c = &completions[i];
        table[i] = (struct reward_row){.data = prompt->row,
                                       .prompt = prompt->text.data,
                                       .completion = c->text,
                                       .prompt_length = prompt->text.length,
                                       .completion_length = c->text_length,
                                       .tokens = c->tokens,
                                       .n_tokens = c->n_tokens,
                                       .length = c->n_tokens,
                                       .finish_reason = finish_reason_name(c->finish_reason),
                                       .prompt_index = index_of(batch, i / (size_t)n),
                                       .completion_index = c->index};
    }
}

cohort_status scoring_completions(const struct scoring *scoring, const struct prompt_batch *batch, int32_t n_prompts,
                                  int32_t n, const struct completion *completions, double *rewards, cohort_error *err)
{
    struct reward_row *table = NULL;
    size_t total = (size_t)n_prompts * (size_t)n;
    TRY(mem_alloc(&table, total, sizeof *table, "reward rows", err));
    scoring_table(batch, n_prompts, n, completions, table);
    cohort_status status = scoring_rows(scoring, table, total, rewards, err);
    mem_free(table);
    return status;
}

cohort_status scoring_write(const struct scoring *scoring, const struct prompt_batch *batch, size_t prompt,
                            int64_t step, const struct completion *c, const double *rewards, double advantage,
                            struct text *out, cohort_error *err)
{
    TRY(text_append(out, "{", 1, err));
    if (step >= 0)
        TRY(text_printf(out, err, "\"step\": %lld, ", (long long)step));
    if (batch->name != NULL)
        TRY(text_printf(out, err, "\"set\": \"%s\", ", batch->name));
    TRY(text_printf(out, err, "\"index\": %lld, \"completion_index\": %d, \"prompt\": ",
                    (long long)index_of(batch, prompt), (int)c->index));
    TRY(json_string_write(batch->prompts[prompt].text.data, batch->prompts[prompt].text.length, out, err));
    TRY(text_printf(out, err, ", \"completion\": "));
    TRY(json_string_write(c->text, c->text_length, out, err));
    TRY(text_printf(out, err, ", \"finish_reason\": \"%s\", \"rewards\": {", finish_reason_name(c->finish_reason)));
    for (int32_t f = 0; f < scoring->n; f++) {
        TRY(text_printf(out, err, "%s", f == 0 ? "" : ", "));
        TRY(json_string_write(scoring->names[f], strlen(scoring->names[f]), out, err));
        TRY(text_append(out, ": ", 2, err));
        TRY(isnan(rewards[f]) ? text_append(out, "null", 4, err) : text_printf(out, err, "%.9g", rewards[f]));
    }
    TRY(text_append(out, "}", 1, err));
    if (!isnan(advantage))
        TRY(text_printf(out, err, ", \"advantage\": %.9g", advantage));
    return text_append(out, "}\n", 2, err);
}

cohort_status scoring_log(const struct scoring *scoring, const struct prompt_batch *prompts,
                          const struct grpo_batch *batch, struct run_folder *run, int64_t step, cohort_error *err)
{
    struct text lines = {0};
    cohort_status status = COHORT_OK;
    int32_t group = batch->n / batch->n_prompts;
    for (int32_t i = 0; i < batch->n; i++)
        TRY_GOTO(scoring_write(scoring, prompts, (size_t)(i / group), step, &batch->completions[i],
                               batch->rewards + (int64_t)i * scoring->n, (double)batch->advantage[i], &lines, err));
    TRY_GOTO(run_folder_log(run, RUN_COMPLETIONS, &lines, err));
cleanup:
    text_free(&lines);
    return status;
}
