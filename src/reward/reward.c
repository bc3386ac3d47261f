#include "reward/reward_internal.h"

#include <math.h>
#include <string.h>

/* --- rewards of tokens --- */

cohort_status reward_list_new(double **list, int32_t n_tokens, cohort_error *err)
{
    TRY(mem_alloc(list, (size_t)n_tokens, sizeof **list, "rewards of tokens", err));
    for (int32_t t = 0; t < n_tokens; t++)
        (*list)[t] = (double)NAN;
    return COHORT_OK;
}

void reward_lists_clear(double **lists, size_t n)
{
    for (size_t i = 0; lists != NULL && i < n; i++) {
        mem_free(lists[i]);
        lists[i] = NULL;
    }
}

double reward_list_sum(const double *list, int32_t n_tokens)
{
    double sum = 0.0;
    bool any = false;
    for (int32_t t = 0; t < n_tokens; t++)
        if (!isnan(list[t])) {
            sum += list[t];
            any = true;
        }
    return any ? sum : (double)NAN;
}

/* --- callbacks --- */

struct callback_state {
    reward_callback *function;
    void *context;
    struct reward_log log; /* since reward_take_log */
};

static void callback_destroy(void *state)
{
    struct callback_state *callback = state;
    if (callback != NULL)
        reward_log_free(&callback->log);
    mem_free(callback);
}

/* What a function of the caller's returned, and wrote into *said. */
static cohort_status callback_result(cohort_status status, cohort_error *said, const char *name, cohort_error *err)
{
    if (status == COHORT_OK)
        return COHORT_OK;
    if ((int)status < COHORT_OK || (int)status > COHORT_ERR_DIVERGED)
        return error_set(err, COHORT_ERR_REWARD,
                         "reward '%s': its function returned %d, which is no cohort_status; "
                         "expected COHORT_OK, or one of the errors in cohort.h",
                         name, (int)status);
    said->message[sizeof said->message - 1] = '\0';
    if (said->message[0] == '\0')
        return error_set(err, status,
                         "reward '%s': its function failed (%s) and left no message in its "
                         "cohort_error",
                         name, cohort_status_name(status));
    return error_set(err, status, "%s", said->message);
}

static cohort_status callback_score_lists(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                          double *rewards, double **lists, cohort_error *err)
{
    struct callback_state *callback = state;
    cohort_error said = {.status = COHORT_OK};
    return callback_result(callback->function(callback->context, rows, n_rows, rewards, lists, &callback->log, &said),
                           &said, name, err);
}

static struct reward_log *callback_log(void *state) { return &((struct callback_state *)state)->log; }

static const struct reward_kind callback_kind = {
    .destroy = callback_destroy, .score_lists = callback_score_lists, .log = callback_log};

bool reward_take_log(struct reward *reward, struct reward_log *into, size_t first_row)
{
    if (reward->kind->log == NULL)
        return true;
    struct reward_log *log = reward->kind->log(reward->state);
    const bool good = reward_log_merge(into, log, first_row);
    reward_log_free(log);
    return good;
}

/* --- creation --- */

static const char *base_name(const char *path, size_t *length)
{
    for (size_t i = *length; i-- > 0;)
        if (path[i] == '/' && i + 1 < *length) {
            *length -= i + 1;
            return path + i + 1;
        }
    return path;
}

static bool is_interpreter(const char *word, size_t length)
{
    static const char *const names[] = {"sh", "bash", "env", "node", "perl", "ruby", "python"};
    if (length >= 7 && memcmp(word, "python3", 7) == 0)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], word, length) == 0)
            return true;
    return false;
}

/* "/usr/bin/python3 -u rewards/check.py --strict" -> "check.py": the program, or the script where
 * the program only runs one. */
static cohort_status program_name(const char *program, char **name, cohort_error *err)
{
    const char *word = program + strspn(program, " \t\n");
    const char *chosen = word;
    size_t chosen_length = strcspn(word, " \t\n");
    chosen = base_name(chosen, &chosen_length);
    while (is_interpreter(chosen, chosen_length)) {
        const char *next = word + strcspn(word, " \t\n");
        next += strspn(next, " \t\n");
        while (*next == '-') { /* options of the interpreter; -c and -e bring code, which has no name */
            if (next[1] == 'c' || next[1] == 'e')
                return mem_strdup(name, chosen, chosen_length, err);
            next += strcspn(next, " \t\n");
            next += strspn(next, " \t\n");
        }
        if (*next == '\0')
            break;
        word = next;
        chosen_length = strcspn(word, " \t\n");
        chosen = base_name(word, &chosen_length);
    }
    return mem_strdup(name, chosen, chosen_length, err);
}

void reward_texts_destroy(void *state)
{
    struct reward_texts *kept = state;
    for (size_t i = 0; i < kept->n; i++)
        mem_free(kept->texts[i]);
    mem_free(kept);
}

cohort_status reward_texts_create(void **state, const char *const *texts, size_t n, const char *option,
                                  cohort_error *err)
{
    struct reward_texts *kept = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&kept, 1, sizeof *kept + n * sizeof kept->texts[0], "reward", err));
    for (; kept->n < n; kept->n++) {
        const char *text = texts[kept->n];
        if (*text == '\0') {
            status = error_set(err, COHORT_ERR_ARGUMENT, "text %zu of %s is empty; expected one to look for",
                               kept->n + 1, option);
            goto cleanup;
        }
        TRY_GOTO(mem_strdup(&kept->texts[kept->n], text, strlen(text), err));
    }
    *state = kept;
    return COHORT_OK;
cleanup:
    reward_texts_destroy(kept);
    return status;
}

static cohort_status create_named(struct reward *reward, const char *spec, const struct reward_options *options,
                                  cohort_error *err)
{
    static const struct {
        const char *name;
        const struct reward_kind *kind;
    } of_tokens[] =
        {
            {"soft_overlong_punishment", &reward_kind_overlong},
            {"repetition_penalty", &reward_kind_repetition},
            {"cosine_scaled", &reward_kind_cosine},
        },
      of_nothing[] = {
          {"accuracy", &reward_kind_accuracy},    {"xml_count", &reward_kind_xml_count},
          {"integer", &reward_kind_integer},      {"correctness", &reward_kind_correctness},
          {"strict_format", &reward_kind_strict}, {"soft_format", &reward_kind_soft},
      };
    static const struct {
        const char *name;
        const struct reward_kind *kind;
        cohort_status (*create)(void **state, const struct reward_options *options, cohort_error *err);
    } of_options[] = {
        {"length", &reward_kind_length, reward_length_create},
        {"xml_format", &reward_kind_xml_format, reward_xml_create},
        {"reasoning_accuracy", &reward_kind_reasoning, reward_reasoning_create},
        {"json_schema", &reward_kind_schema, reward_schema_create},
        {"tool_use", &reward_kind_tools, reward_tools_create},
    };
    for (size_t i = 0; i < sizeof of_tokens / sizeof of_tokens[0]; i++)
        if (strcmp(spec, of_tokens[i].name) == 0) {
            reward->kind = of_tokens[i].kind;
            return reward_tokens_create(&reward->state, reward->kind, options, err);
        }
    for (size_t i = 0; i < sizeof of_nothing / sizeof of_nothing[0]; i++)
        if (strcmp(spec, of_nothing[i].name) == 0) {
            reward->kind = of_nothing[i].kind;
            return COHORT_OK;
        }
    for (size_t i = 0; i < sizeof of_options / sizeof of_options[0]; i++)
        if (strcmp(spec, of_options[i].name) == 0) {
            reward->kind = of_options[i].kind;
            return of_options[i].create(&reward->state, options, err);
        }
    if (strcmp(spec, "regex") == 0 || strcmp(spec, "format") == 0 || strcmp(spec, "think_format") == 0) {
        const bool format = spec[0] != 'r';
        reward->kind = &reward_kind_pattern;
        return reward_pattern_create(&reward->state, format ? NULL : options->pattern, format, err);
    }
    return error_set(
        err, COHORT_ERR_ARGUMENT,
        "there is no reward '%.80s'; there are accuracy, reasoning_accuracy, cosine_scaled, regex, "
        "think_format (or format), soft_overlong_punishment, repetition_penalty, length, xml_format, "
        "xml_count, correctness, integer, strict_format, soft_format, json_schema, tool_use, exec:PROGRAM, "
        "model:DIR, judge:URL and python:FILE.py:FUNCTION (commas separate rewards: write '\\,' for one within "
        "a program, or put it into a file)",
        spec);
}

cohort_status reward_create(struct reward **out, const char *spec, const struct reward_options *options,
                            cohort_error *err)
{
    static const struct reward_options none = {0};
    struct reward *reward = NULL;
    struct reward_command command = {0};
    char shell[] = "/bin/sh", option[] = "-c";
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (options == NULL)
        options = &none;
    TRY(mem_alloc(&reward, 1, sizeof *reward, "reward", err));
    if (strncmp(spec, "exec:", 5) == 0) {
        if (spec[5 + strspn(spec + 5, " \t\n")] == '\0') {
            status = error_set(err, COHORT_ERR_ARGUMENT, "reward 'exec:' names no program; write exec:PROGRAM [ARGS]");
            goto cleanup;
        }
        TRY_GOTO(program_name(spec + 5, &reward->name, err));
        reward->kind = &reward_kind_exec;
        command = (struct reward_command){.label = spec, .arguments = {shell, option, (char *)(uintptr_t)(spec + 5)}};
        TRY_GOTO(reward_exec_create(&reward->state, &command, options, &reward->name, err));
    } else if (strncmp(spec, "python:", 7) == 0) {
        reward->kind = &reward_kind_exec;
        TRY_GOTO(reward_python_command(&command, spec, options->python, &reward->name, err));
        TRY_GOTO(reward_exec_create(&reward->state, &command, options, &reward->name, err));
    } else if (strncmp(spec, "judge:", 6) == 0) {
        TRY_GOTO(mem_strdup(&reward->name, "judge", 5, err));
        reward->kind = &reward_kind_judge;
        TRY_GOTO(reward_judge_create(&reward->state, spec + 6, options, err));
    } else {
        TRY_GOTO(mem_strdup(&reward->name, spec, strlen(spec), err));
        TRY_GOTO(create_named(reward, spec, options, err));
    }
    *out = reward;
    reward = NULL;
cleanup:
    reward_command_free(&command);
    reward_destroy(reward);
    return status;
}

cohort_status reward_create_callback(struct reward **out, const char *name, reward_callback *callback, void *context,
                                     cohort_error *err)
{
    struct reward *reward = NULL;
    struct callback_state *state = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (callback == NULL || name == NULL || *name == '\0')
        return error_set(err, COHORT_ERR_ARGUMENT, "a reward callback needs a name and a function");
    TRY(mem_alloc(&reward, 1, sizeof *reward, "reward", err));
    TRY_GOTO(mem_strdup(&reward->name, name, strlen(name), err));
    TRY_GOTO(mem_alloc(&state, 1, sizeof *state, "reward", err));
    *state = (struct callback_state){.function = callback, .context = context};
    reward->kind = &callback_kind;
    reward->state = state;
    *out = reward;
    reward = NULL;
cleanup:
    reward_destroy(reward);
    return status;
}

cohort_status reward_check(struct reward *reward, const json_t *data, int64_t prompt_index, cohort_error *err)
{
    static const int32_t no_tokens[1];
    const struct reward_row row = {.data = data,
                                   .prompt = "",
                                   .completion = "",
                                   .tokens = no_tokens,
                                   .finish_reason = "eos",
                                   .prompt_index = prompt_index};
    double ignored = 0.0;
    if (reward->kind == &callback_kind || reward->kind == &reward_kind_exec || reward->kind == &reward_kind_judge)
        return COHORT_OK;
    return reward_score(reward, &row, 1, &ignored, err);
}

cohort_status reward_score(struct reward *reward, const struct reward_row *rows, size_t n_rows, double *rewards,
                           cohort_error *err)
{
    double **lists = NULL;
    TRY(mem_alloc(&lists, n_rows, sizeof(double *), "rewards of tokens", err));
    cohort_status status = reward_score_lists(reward, rows, n_rows, rewards, lists, err);
    reward_lists_clear(lists, n_rows);
    mem_free(lists);
    return status;
}

cohort_status reward_score_lists(struct reward *reward, const struct reward_row *rows, size_t n_rows, double *rewards,
                                 double **lists, cohort_error *err)
{
    if (n_rows == 0)
        return COHORT_OK;
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = (double)NAN;
    if (reward->kind->score_lists != NULL)
        TRY(reward->kind->score_lists(reward->state, reward->name, rows, n_rows, rewards, lists, err));
    else
        TRY(reward->kind->score(reward->state, reward->name, rows, n_rows, rewards, err));
    return reward_check_finite(reward, rows, n_rows, rewards, lists, err);
}

cohort_status reward_check_finite(const struct reward *reward, const struct reward_row *rows, size_t n_rows,
                                  const double *rewards, double *const *lists, cohort_error *err)
{
    for (size_t i = 0; i < n_rows; i++) {
        bool infinite = isinf(rewards[i]);
        for (int32_t t = 0; lists != NULL && lists[i] != NULL && t < rows[i].n_tokens; t++)
            infinite = infinite || isinf(lists[i][t]);
        if (infinite)
            return error_set(err, COHORT_ERR_REWARD,
                             "reward '%s': row %zu of the batch (prompt %lld, completion %d) got an "
                             "infinite reward; expected a finite number or none",
                             reward->name, i + 1, (long long)rows[i].prompt_index, (int)rows[i].completion_index);
    }
    return COHORT_OK;
}

bool reward_is_program(const struct reward *reward) { return reward->kind == &reward_kind_exec; }

bool reward_may_keep_scores(const struct reward *reward)
{
    return reward_is_program(reward) || reward->kind == &reward_kind_judge;
}

cohort_status reward_keep_scores(struct reward *reward, cohort_error *err)
{
    return reward->kind == &reward_kind_judge ? reward_judge_keep_scores(reward->state, err)
                                              : reward_exec_keep_scores(reward->state, err);
}

int reward_workers(const struct reward *reward) { return reward_exec_workers(reward->state); }

cohort_status reward_start(struct reward_job **out, struct reward *reward, const struct reward_row *rows, size_t n_rows,
                           const struct reward_progress *progress, cohort_error *err)
{
    return reward_exec_start(out, reward->state, rows, n_rows, progress, err);
}

const char *reward_warning(struct reward *reward)
{
    return reward->kind->warning == NULL ? NULL : reward->kind->warning(reward->state);
}

const char *reward_name(const struct reward *reward) { return reward->name; }

void reward_destroy(struct reward *reward)
{
    if (reward == NULL)
        return;
    if (reward->kind != NULL && reward->kind->destroy != NULL && reward->state != NULL)
        reward->kind->destroy(reward->state);
    mem_free(reward->name);
    mem_free(reward);
}
