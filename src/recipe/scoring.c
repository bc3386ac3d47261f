#include "recipe/scoring.h"

#include "recipe/row_response.h"
#include "base/json_text.h"
#include "base/number.h"
#include "recipe/json_rows.h"
#include "run/run_folder.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The completions of a prompt, told by where they are. */
struct scored_group {
    const struct completion *completions; /* [n], borrowed, not read */
    size_t n;
    struct reward_job **jobs; /* [rewards] begun; NULL: none */
    json_t *extra;            /* [n] an object of further columns, or null; NULL: none */
};

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
    for (size_t i = 0; i < given; i++)
        scoring->weights[i] = options_list_number(options, OPTION_REWARD_WEIGHTS, i);
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

/* The name of a model's folder, "model" where it has none. */
static cohort_status create_model(struct scoring *scoring, struct reward **out, const char *dir, cohort_error *err)
{
    struct reward_model *model = NULL;
    char *name = NULL;
    size_t length = strlen(dir);
    while (length > 0 && dir[length - 1] == '/')
        length--;
    size_t from = length;
    while (from > 0 && dir[from - 1] != '/')
        from--;
    const bool named = length > from && dir[from] != '.';
    TRY(reward_models_add(&scoring->models, dir, &model, err));
    TRY(mem_strdup(&name, named ? dir + from : "model", named ? length - from : 5, err));
    const cohort_status status = reward_create_callback(out, name, reward_model_score, model, err);
    mem_free(name);
    return status;
}

/* The rewards that the options name. */
static cohort_status create_named(struct scoring *scoring, const struct options *options, size_t named,
                                  cohort_error *err)
{
    const char **delimiters = NULL, **tags = NULL, **tools = NULL;
    cohort_status status = COHORT_OK;
    const bool scale = options_list_count(options, OPTION_JUDGE_SCALE) > 0;
    if (scale && options_list_count(options, OPTION_JUDGE_SCALE) != 2)
        return error_set(err, COHORT_ERR_ARGUMENT, "--judge-scale: expected two numbers, LEAST,MOST, such as 1,10");
    struct reward_options reward_options = {
        .judge_model = options_string(options, OPTION_JUDGE_MODEL),
        .judge_rubric = options_string(options, OPTION_JUDGE_RUBRIC),
        .judge_key_env = options_string(options, OPTION_JUDGE_KEY_ENV),
        .judge_ca = options_string(options, OPTION_JUDGE_CA),
        .judge_least = scale ? options_list_number(options, OPTION_JUDGE_SCALE, 0) : 0.0,
        .judge_most = scale ? options_list_number(options, OPTION_JUDGE_SCALE, 1) : 1.0,
        .judge_retries = (int)options_int(options, OPTION_JUDGE_RETRIES),
        .pattern = options_string(options, OPTION_REWARD_PATTERN),
        .timeout_s = options_float(options, OPTION_REWARD_TIMEOUT),
        .stop = options_stop(options),
        .workers = (int)options_int(options, OPTION_REWARD_WORKERS),
        .python = options_string(options, OPTION_PYTHON),
        .n_delimiters = options_list_count(options, OPTION_REASONING_DELIMITERS),
        .n_tags = options_list_count(options, OPTION_REWARD_TAGS),
        .schema = options_string(options, OPTION_REWARD_SCHEMA),
        .n_tools = options_list_count(options, OPTION_REWARD_TOOLS),
        .tool_optional = options_bool(options, OPTION_REWARD_TOOL_OPTIONAL),
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
    TRY_GOTO(read_texts(options, OPTION_REWARD_TOOLS, reward_options.n_tools, &tools, err));
    reward_options.tags = tags;
    reward_options.tools = tools;
    for (size_t i = 0; i < named; i++) {
        const char *spec = options_list_item(options, OPTION_REWARD, i);
        TRY_GOTO(strncmp(spec, "model:", 6) == 0 ? create_model(scoring, &scoring->rewards[i], spec + 6, err)
                                                 : reward_create(&scoring->rewards[i], spec, &reward_options, err));
        scoring->n = ++scoring->n_owned;
    }
cleanup:
    mem_free(delimiters);
    mem_free(tags);
    mem_free(tools);
    return status;
}

/* The rewards that --reward-cache names keep their scores. */
static cohort_status read_caches(const struct scoring *scoring, const struct options *options, cohort_error *err)
{
    for (size_t i = 0; i < options_list_count(options, OPTION_REWARD_CACHE); i++) {
        const char *name = options_list_item(options, OPTION_REWARD_CACHE, i);
        int32_t f = 0;
        while (f < scoring->n && strcmp(scoring->names[f], name) != 0)
            f++;
        if (f == scoring->n)
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "--reward-cache names '%.80s', but there is no reward of this name; give names as metrics have "
                "them, for example '%.80s'",
                name, scoring->names[0]);
        if (!reward_may_keep_scores(scoring->rewards[f]))
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "--reward-cache names '%.80s', which takes no time: it is for exec:, python: and judge: rewards; leave "
                "it out",
                name);
        TRY(reward_keep_scores(scoring->rewards[f], err));
    }
    return COHORT_OK;
}

cohort_status scoring_open(struct scoring *scoring, const struct options *options, const struct reward_list *extra,
                           cohort_error *err)
{
    size_t named = options_list_count(options, OPTION_REWARD), more = extra == NULL ? 0 : extra->count;
    memset(scoring, 0, sizeof *scoring);
    if (named + more == 0)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "no reward given: pass --reward accuracy, regex, think_format, python:FILE.py:FUNCTION, exec:PROGRAM, "
            "model:DIR or another of docs/REWARDS.md");
    TRY(mem_alloc(&scoring->rewards, named + more, sizeof(struct reward *), "rewards", err));
    TRY(mem_alloc(&scoring->names, named + more, sizeof(char *), "rewards", err));
    TRY(mem_alloc(&scoring->weights, named + more, sizeof(double), "rewards", err));
    TRY(create_named(scoring, options, named, err));
    for (size_t i = 0; i < more; i++)
        scoring->rewards[scoring->n++] = extra->rewards[i];
    for (int32_t i = 0; i < scoring->n; i++)
        TRY(name_reward(scoring, i, err));
    TRY(read_caches(scoring, options, err));
    return read_weights(scoring, options, err);
}

static void jobs_free(struct reward_job **jobs, size_t n)
{
    for (size_t i = 0; jobs != NULL && i < n; i++)
        reward_job_free(jobs[i]);
    mem_free(jobs);
}

void scoring_close(struct scoring *scoring)
{
    scoring_abandon(scoring);
    for (size_t i = 0; i < scoring->n_groups; i++)
        json_decref(scoring->groups[i].extra);
    mem_free(scoring->groups);
    reward_log_free(&scoring->log);
    for (int32_t i = 0; i < scoring->n_owned; i++)
        reward_destroy(scoring->rewards[i]);
    reward_models_close(&scoring->models);
    for (int32_t i = 0; scoring->names != NULL && i < scoring->n; i++)
        mem_free((void *)(uintptr_t)scoring->names[i]);
    mem_free(scoring->rewards);
    mem_free(scoring->names);
    mem_free(scoring->weights);
    memset(scoring, 0, sizeof *scoring);
}

/* --- scoring --- */

/* Rows that a reward scores together: all of them, or those of one prompt where programs share them out. Returns the
 * row after the unit that begins with first. */
static size_t unit_end(const struct reward *reward, const struct reward_row *rows, size_t n_rows, size_t first)
{
    if (reward_workers(reward) == 1)
        return n_rows;
    size_t end = first + 1;
    while (end < n_rows && rows[end].prompt_index == rows[first].prompt_index)
        end++;
    return end;
}

/* jobs[n_rows]: that of a unit stands at its first row, and may be there already. */
static cohort_status start_jobs(const struct scoring *scoring, int32_t f, const struct reward_row *rows, size_t n_rows,
                                struct reward_job **jobs, cohort_error *err)
{
    struct reward *reward = scoring->rewards[f];
    for (size_t first = 0, end = 0; first < n_rows; first = end) {
        end = unit_end(reward, rows, n_rows, first);
        if (jobs[first] == NULL)
            TRY(reward_start(&jobs[first], reward, rows + first, end - first, &scoring->progress, err));
    }
    return COHORT_OK;
}

static cohort_status finish_jobs(const struct scoring *scoring, int32_t f, const struct reward_row *rows, size_t n_rows,
                                 struct reward_job **jobs, double *column, double **column_lists,
                                 struct reward_log *log, cohort_error *err)
{
    for (size_t first = 0; first < n_rows; first++)
        if (jobs[first] != NULL)
            TRY(reward_finish(jobs[first], column + first, column_lists + first, log, first, err));
    return reward_check_finite(scoring->rewards[f], rows, n_rows, column, column_lists, err);
}

/* Moves the column of a reward to its place; where nobody wants lists they are left. */
static void spread(const struct scoring *scoring, int32_t f, const double *column, double **column_lists, size_t n_rows,
                   double *rewards, double **lists)
{
    for (size_t i = 0; i < n_rows; i++)
        rewards[i * (size_t)scoring->n + (size_t)f] = column[i];
    for (size_t i = 0; lists != NULL && i < n_rows; i++) {
        lists[i * (size_t)scoring->n + (size_t)f] = column_lists[i];
        column_lists[i] = NULL;
    }
    reward_lists_clear(column_lists, n_rows);
}

/* jobs[scoring->n][n_rows]: what was begun before; all are the caller's to free. */
static cohort_status score_rows(const struct scoring *scoring, const struct reward_row *rows, size_t n_rows,
                                struct reward_job **jobs, double *rewards, double **lists, struct reward_log *log,
                                cohort_error *err)
{
    double *column = NULL, **column_lists = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&column, n_rows, sizeof *column, "rewards", err));
    TRY_GOTO(mem_alloc(&column_lists, n_rows, sizeof(double *), "rewards", err));
    for (int32_t f = 0; f < scoring->n; f++)
        if (reward_is_program(scoring->rewards[f]))
            TRY_GOTO(start_jobs(scoring, f, rows, n_rows, jobs + (size_t)f * n_rows, err));
    for (int32_t f = 0; f < scoring->n; f++) {
        const char *warning = NULL;
        if (reward_is_program(scoring->rewards[f]))
            continue;
        status = reward_score_lists(scoring->rewards[f], rows, n_rows, column, column_lists, err);
        if (scoring->observer != NULL && (warning = reward_warning(scoring->rewards[f])) != NULL)
            observer_message(scoring->observer, "%s", warning);
        TRY_GOTO(status);
        if (!reward_take_log(scoring->rewards[f], log, 0))
            TRY_GOTO(error_set(err, COHORT_ERR_MEMORY, "rewards: out of memory"));
        spread(scoring, f, column, column_lists, n_rows, rewards, lists);
    }
    for (int32_t f = 0; f < scoring->n; f++) {
        if (!reward_is_program(scoring->rewards[f]))
            continue;
        TRY_GOTO(finish_jobs(scoring, f, rows, n_rows, jobs + (size_t)f * n_rows, column, column_lists, log, err));
        if (log->warning != NULL && scoring->observer != NULL)
            observer_message(scoring->observer, "warning: reward '%s': %s", scoring->names[f],
                             json_string_value(log->warning));
        json_decref(log->warning);
        log->warning = NULL;
        spread(scoring, f, column, column_lists, n_rows, rewards, lists);
    }
cleanup:
    reward_lists_clear(column_lists, n_rows);
    mem_free(column_lists);
    mem_free(column);
    return status;
}

cohort_status scoring_rows(const struct scoring *scoring, const struct reward_row *rows, size_t n_rows, double *rewards,
                           double **lists, struct reward_log *log, cohort_error *err)
{
    struct reward_job **jobs = NULL;
    const size_t n = (size_t)scoring->n * n_rows;
    TRY(mem_alloc(&jobs, n, sizeof(struct reward_job *), "rewards", err));
    cohort_status status = score_rows(scoring, rows, n_rows, jobs, rewards, lists, log, err);
    jobs_free(jobs, n);
    return status;
}

void scoring_take_metrics(struct scoring *scoring, const char *prefix, struct metrics *metrics)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(scoring->log.metrics, name, value)
    {
        const json_t *sum = json_array_get(value, 0);
        const json_int_t count = json_integer_value(json_array_get(value, 1));
        metrics_offer(metrics, json_is_null(sum) ? (double)NAN : json_number_value(sum) / (double)count, "%s%s", prefix,
                      name);
    }
    reward_log_free(&scoring->log);
}

int64_t scoring_row_of(const struct prompt_batch *batch, size_t prompt)
{
    const size_t row = batch->rows[prompt];
    return batch->set->indices == NULL ? (int64_t)row : batch->set->indices[row];
}

/* Of an episode the completion is what the model said last. */
static void say_last(struct reward_row *row, const json_t *episode)
{
    const json_t *messages = json_object_get(episode, "messages");
    for (size_t i = json_array_size(messages); i-- > 0;) {
        const json_t *message = json_array_get(messages, i), *content = json_object_get(message, "content");
        if (strcmp(json_string_value(json_object_get(message, "role")), "assistant") != 0)
            continue;
        row->completion = json_string_value(content);
        row->completion_length = json_string_length(content);
        return;
    }
}

/* A completion of a prompt of the batch as a row for rewards. */
static struct reward_row row_of(const struct prompt_batch *batch, size_t at, const struct completion *c)
{
    const struct prompt *prompt = &batch->prompts[at];
    struct reward_row row = {.data = prompt->row,
                             .prompt = prompt->text.data,
                             .completion = c->text,
                             .prompt_length = prompt->text.length,
                             .completion_length = c->text_length,
                             .tokens = c->tokens,
                             .sampled = c->sampled,
                             .logp = c->logp,
                             .episode = c->episode,
                             .n_tokens = c->n_tokens,
                             .length = c->n_tokens,
                             .finish_reason = finish_reason_name(c->finish_reason),
                             .prompt_index = scoring_row_of(batch, at),
                             .completion_index = c->index};
    if (c->episode != NULL)
        say_last(&row, c->episode);
    row_response_set(&row, batch->set->session, &batch->set->style);
    return row;
}

void scoring_table(const struct prompt_batch *batch, int32_t n_prompts, int32_t n, const struct completion *completions,
                   struct reward_row *table)
{
    for (size_t i = 0; i < (size_t)n_prompts * (size_t)n; i++)
        table[i] = row_of(batch, i / (size_t)n, &completions[i]);
}

static struct scored_group *find_group(const struct scoring *scoring, const struct completion *completion)
{
    for (size_t i = 0; i < scoring->n_groups; i++)
        if (completion >= scoring->groups[i].completions &&
            completion < scoring->groups[i].completions + scoring->groups[i].n)
            return &scoring->groups[i];
    return NULL;
}

/* The group's place in the list, new if need be. */
static cohort_status keep_group(struct scoring *scoring, const struct completion *completions, size_t n,
                                struct scored_group **out, cohort_error *err)
{
    struct scored_group *group = find_group(scoring, completions);
    if (group == NULL) {
        TRY(mem_grow(&scoring->groups, &scoring->groups_capacity, scoring->n_groups + 1, sizeof *scoring->groups,
                     "rewards", err));
        group = &scoring->groups[scoring->n_groups++];
    } else {
        jobs_free(group->jobs, (size_t)scoring->n);
        json_decref(group->extra);
    }
    *group = (struct scored_group){.completions = completions, .n = n};
    *out = group;
    return COHORT_OK;
}

/* Takes groups without anything in them out of the list. */
static void tidy_groups(struct scoring *scoring)
{
    size_t n = 0;
    for (size_t i = 0; i < scoring->n_groups; i++)
        if (scoring->groups[i].jobs != NULL || scoring->groups[i].extra != NULL)
            scoring->groups[n++] = scoring->groups[i];
    scoring->n_groups = n;
}

void scoring_abandon(struct scoring *scoring)
{
    for (size_t i = 0; i < scoring->n_groups; i++) {
        jobs_free(scoring->groups[i].jobs, (size_t)scoring->n);
        scoring->groups[i].jobs = NULL;
    }
    tidy_groups(scoring);
}

void scoring_forget(struct scoring *scoring, const struct completion *completions, size_t n)
{
    for (size_t i = 0; i < scoring->n_groups; i++)
        if (scoring->groups[i].completions >= completions && scoring->groups[i].completions < completions + n) {
            jobs_free(scoring->groups[i].jobs, (size_t)scoring->n);
            scoring->groups[i].jobs = NULL;
            json_decref(scoring->groups[i].extra);
            scoring->groups[i].extra = NULL;
        }
    tidy_groups(scoring);
}

cohort_status scoring_begin(struct scoring *scoring, const struct prompt_batch *batch, size_t prompt, int32_t n,
                            const struct completion *completions, cohort_error *err)
{
    struct reward_row *table = NULL;
    struct scored_group *group = NULL;
    cohort_status status = COHORT_OK;
    bool any = false;
    for (int32_t f = 0; ranks_count(scoring->ranks) == 1 && f < scoring->n; f++)
        any = any || (reward_is_program(scoring->rewards[f]) && reward_workers(scoring->rewards[f]) > 1);
    if (!any)
        return COHORT_OK;
    const struct prompt_batch one = {
        .set = batch->set, .rows = batch->rows + prompt, .prompts = batch->prompts + prompt};
    TRY_GOTO(mem_alloc(&table, (size_t)n, sizeof *table, "reward rows", err));
    scoring_table(&one, 1, n, completions, table);
    TRY_GOTO(keep_group(scoring, completions, (size_t)n, &group, err));
    TRY_GOTO(mem_alloc(&group->jobs, (size_t)scoring->n, sizeof(struct reward_job *), "rewards", err));
    for (int32_t f = 0; f < scoring->n; f++)
        if (reward_is_program(scoring->rewards[f]) && reward_workers(scoring->rewards[f]) > 1)
            TRY_GOTO(reward_start(&group->jobs[f], scoring->rewards[f], table, (size_t)n, &scoring->progress, err));
cleanup:
    mem_free(table);
    return status;
}

/* jobs[scoring->n][n_prompts * n] gets what was begun of these completions. */
static void take_begun(struct scoring *scoring, const struct completion *completions, int32_t n_prompts, int32_t n,
                       struct reward_job **jobs)
{
    const size_t total = (size_t)n_prompts * (size_t)n;
    for (int32_t p = 0; p < n_prompts; p++) {
        struct scored_group *group = find_group(scoring, completions + (size_t)p * (size_t)n);
        if (group == NULL || group->jobs == NULL)
            continue;
        for (int32_t f = 0; f < scoring->n; f++)
            jobs[(size_t)f * total + (size_t)p * (size_t)n] = group->jobs[f];
        mem_free(group->jobs);
        group->jobs = NULL;
    }
    tidy_groups(scoring);
}

cohort_status scoring_move(struct scoring *scoring, const struct completion *from, const struct completion *to,
                           size_t n, cohort_error *err)
{
    const struct scored_group *old = find_group(scoring, from);
    struct scored_group *group = NULL;
    json_t *extra = NULL;
    if (old == NULL || old->extra == NULL)
        return COHORT_OK;
    bool good = (extra = json_array()) != NULL;
    for (size_t i = 0; good && i < n; i++)
        good = json_array_append(extra, json_array_get(old->extra, (size_t)(from - old->completions) + i)) == 0;
    cohort_status status = good ? keep_group(scoring, to, n, &group, err)
                                : error_set(err, COHORT_ERR_MEMORY, "out of memory for what rewards logged");
    if (status == COHORT_OK)
        group->extra = extra;
    else
        json_decref(extra);
    return status;
}

/* Keeps the columns of the log, as an object for each completion. */
static cohort_status keep_extra(struct scoring *scoring, const struct completion *completions, size_t n,
                                const struct reward_log *log, cohort_error *err)
{
    struct scored_group *group = NULL;
    const char *column = NULL;
    json_t *values = NULL, *value = NULL;
    size_t i = 0;
    scoring_forget(scoring, completions, n);
    if (log->extra == NULL || !scoring->keeps_extra)
        return COHORT_OK;
    TRY(keep_group(scoring, completions, n, &group, err));
    group->extra = json_array();
    bool good = group->extra != NULL;
    for (size_t r = 0; good && r < n; r++)
        good = json_array_append_new(group->extra, json_object()) == 0;
    json_object_foreach(log->extra, column, values)
    {
        json_array_foreach(values, i, value) good =
            good && json_object_set(json_array_get(group->extra, i), column, value) == 0;
    }
    return good ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "out of memory for what rewards logged");
}

/* What its environment lost says nothing about the model. */
static void forget_lost(const struct scoring *scoring, const struct completion *completions, size_t total,
                        double *rewards, double **lists)
{
    const size_t n = (size_t)scoring->n;
    for (size_t i = 0; i < total; i++) {
        if (completions[i].finish_reason != FINISH_LOST)
            continue;
        for (size_t f = 0; f < n; f++)
            rewards[i * n + f] = (double)NAN;
        if (lists != NULL)
            reward_lists_clear(lists + i * n, n);
    }
}

static cohort_status score_here(struct scoring *scoring, const struct prompt_batch *batch, int32_t n_prompts, int32_t n,
                                const struct completion *completions, double *rewards, double **lists,
                                cohort_error *err)
{
    struct reward_row *table = NULL;
    struct reward_job **jobs = NULL;
    struct reward_log log = {0};
    const size_t total = (size_t)n_prompts * (size_t)n, n_jobs = (size_t)scoring->n * total;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&table, total, sizeof *table, "reward rows", err));
    TRY_GOTO(mem_alloc(&jobs, n_jobs, sizeof(struct reward_job *), "rewards", err));
    scoring_table(batch, n_prompts, n, completions, table);
    take_begun(scoring, completions, n_prompts, n, jobs);
    TRY_GOTO(score_rows(scoring, table, total, jobs, rewards, lists, &log, err));
    forget_lost(scoring, completions, total, rewards, lists);
    TRY_GOTO(keep_extra(scoring, completions, total, &log, err));
    json_decref(log.extra);
    log.extra = NULL;
    if (!reward_log_merge(&scoring->log, &log, 0))
        status = error_set(err, COHORT_ERR_MEMORY, "out of memory for what rewards logged");
cleanup:
    jobs_free(jobs, n_jobs);
    reward_log_free(&log);
    mem_free(table);
    return status;
}

/* Of a list of rewards of tokens: whether there is one, and its values. */
static cohort_status share_list(struct ranks *ranks, int32_t n_tokens, double **list, cohort_error *err)
{
    bool there = *list != NULL;
    TRY(ranks_broadcast(ranks, 0, &there, sizeof there, err));
    if (!there)
        return COHORT_OK;
    if (*list == NULL)
        TRY(mem_alloc(list, (size_t)n_tokens, sizeof **list, "rewards of tokens", err));
    return ranks_broadcast(ranks, 0, *list, (size_t)n_tokens * sizeof **list, err);
}

cohort_status scoring_completions(struct scoring *scoring, const struct prompt_batch *batch, int32_t n_prompts,
                                  int32_t n, const struct completion *completions, double *rewards, double **lists,
                                  cohort_error *err)
{
    const size_t total = (size_t)n_prompts * (size_t)n;
    bool any = false;
    if (ranks_rank(scoring->ranks) == 0)
        TRY(score_here(scoring, batch, n_prompts, n, completions, rewards, lists, err));
    if (ranks_count(scoring->ranks) == 1)
        return COHORT_OK;
    TRY(ranks_broadcast(scoring->ranks, 0, rewards, total * (size_t)scoring->n * sizeof *rewards, err));
    for (size_t i = 0; lists != NULL && i < total * (size_t)scoring->n; i++)
        any = any || lists[i] != NULL;
    TRY(ranks_broadcast(scoring->ranks, 0, &any, sizeof any, err));
    for (size_t i = 0; lists != NULL && any && i < total * (size_t)scoring->n; i++)
        TRY(share_list(scoring->ranks, completions[i / (size_t)scoring->n].n_tokens, &lists[i], err));
    return COHORT_OK;
}

const json_t *scoring_extra(const struct scoring *scoring, const struct completion *completion)
{
    const struct scored_group *group = find_group(scoring, completion);
    return group == NULL || group->extra == NULL
               ? NULL
               : json_array_get(group->extra, (size_t)(completion - group->completions));
}

/* "extra" of a completion, if rewards added columns to it. */
static cohort_status write_extra(const struct scoring *scoring, const struct completion *c, struct text *out,
                                 cohort_error *err)
{
    const json_t *extra = scoring_extra(scoring, c);
    if (extra == NULL)
        return COHORT_OK;
    TRY(text_append(out, ", \"extra\": ", 11, err));
    return json_text_write(extra, 0, out, err);
}

cohort_status scoring_write_lists(const struct scoring *scoring, double *const *lists, int32_t n_tokens,
                                  struct text *out, cohort_error *err)
{
    bool first = true;
    for (int32_t f = 0; lists != NULL && f < scoring->n; f++) {
        if (lists[f] == NULL)
            continue;
        TRY(text_printf(out, err, first ? ", \"token_rewards\": {" : ", "));
        TRY(json_string_write(scoring->names[f], strlen(scoring->names[f]), out, err));
        for (int32_t t = 0; t < n_tokens; t++) {
            TRY(text_append(out, t == 0 ? ": [" : ", ", t == 0 ? 3 : 2, err));
            TRY(isnan(lists[f][t]) ? text_append(out, "null", 4, err) : text_printf(out, err, "%.9g", lists[f][t]));
        }
        TRY(text_printf(out, err, n_tokens == 0 ? ": []" : "]"));
        first = false;
    }
    return first ? COHORT_OK : text_append(out, "}", 1, err);
}

cohort_status scoring_parsed(const struct prompt_batch *batch, size_t prompt, const struct completion *c, json_t **out,
                             cohort_error *err)
{
    const struct reward_row row = row_of(batch, prompt, c);
    return row_response_notable(&row, out, err);
}

/* "parsed" of a completion that has thinking or calls. */
static cohort_status write_parsed(const struct prompt_batch *batch, size_t prompt, const struct completion *c,
                                  struct text *out, cohort_error *err)
{
    json_t *parsed = NULL;
    TRY(scoring_parsed(batch, prompt, c, &parsed, err));
    if (parsed == NULL)
        return COHORT_OK;
    cohort_status status = text_append(out, ", \"parsed\": ", 12, err);
    if (status == COHORT_OK)
        status = json_text_write(parsed, 0, out, err);
    json_decref(parsed);
    return status;
}

cohort_status scoring_write(const struct scoring *scoring, const struct prompt_batch *batch, size_t prompt,
                            int64_t step, const struct completion *c, const struct scoring_result *result,
                            struct text *out, cohort_error *err)
{
    const double *rewards = result->rewards;
    TRY(text_append(out, "{", 1, err));
    if (step >= 0)
        TRY(text_printf(out, err, "\"step\": %lld, ", (long long)step));
    if (batch->name != NULL)
        TRY(text_printf(out, err, "\"set\": \"%s\", ", batch->name));
    TRY(text_printf(out, err, "\"index\": %lld, \"completion_index\": %d, \"prompt\": ",
                    (long long)scoring_row_of(batch, prompt), (int)c->index));
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
    TRY(write_parsed(batch, prompt, c, out, err));
    const int32_t n_sampled = completion_n_sampled(c);
    TRY(scoring_write_lists(scoring, result->lists, n_sampled, out, err));
    TRY(write_extra(scoring, c, out, err));
    if (c->episode != NULL) {
        TRY(text_append(out, ", \"episode\": ", 13, err));
        TRY(json_text_write(c->episode, 0, out, err));
    }
    if (result->advantage != NULL)
        TRY(text_printf(out, err, ", \"advantage\": %.9g", (double)*result->advantage));
    for (int32_t t = 0; result->token_advantages != NULL && t < n_sampled; t++)
        TRY(text_printf(out, err, "%s%.9g%s", t == 0 ? ", \"token_advantages\": [" : ", ",
                        (double)result->token_advantages[t], t + 1 == n_sampled ? "]" : ""));
    return text_append(out, "}\n", 2, err);
}

cohort_status scoring_log(struct scoring *scoring, const struct prompt_batch *prompts, const struct grpo_batch *batch,
                          struct run_folder *run, int64_t step, cohort_error *err)
{
    struct text lines = {0};
    cohort_status status = COHORT_OK;
    int32_t group = batch->n / batch->n_prompts;
    for (int32_t i = 0; i < batch->n; i++) {
        const int64_t first = (int64_t)i * scoring->n;
        const struct scoring_result result = {.rewards = batch->rewards + first,
                                              .lists = batch->reward_lists == NULL ? NULL : batch->reward_lists + first,
                                              .advantage = isnan(batch->advantage[i]) ? NULL : &batch->advantage[i],
                                              .token_advantages =
                                                  batch->token_advantages == NULL ? NULL : batch->token_advantages[i]};
        TRY_GOTO(
            scoring_write(scoring, prompts, (size_t)(i / group), step, &batch->completions[i], &result, &lines, err));
    }
    TRY_GOTO(run_folder_log(run, RUN_COMPLETIONS, &lines, err));
cleanup:
    scoring_forget(scoring, batch->completions, (size_t)batch->n);
    text_free(&lines);
    return status;
}
