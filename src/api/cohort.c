/* The public functions: check arguments, translate handles, nothing else. */
#include "api/handles.h"
#include "api/sized.h"

#include "base/json_text.h"
#include "command/command.h"
#include "rollout/engine.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The rows of command_list.h. That the public names are the same ones in the same order is checked here. */
static const struct {
    const char *name, *summary;
    enum option_command flag;
    command_run *run;
} commands[] = {
#define COMMAND(id, name, ranks, summary, ...) [COHORT_##id] = {#name, summary, FOR_##id, command_##name},
    COMMAND_LIST(COMMAND)
#undef COMMAND
};
#define COMMAND(id, ...)                                                                                               \
    _Static_assert((int)COHORT_##id == (int)COMMAND_##id, "cohort.h has another order of commands");
COMMAND_LIST(COMMAND)
#undef COMMAND

static cohort_status missing(cohort_error *err, const char *function, const char *what)
{
    return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s must not be NULL", function, what);
}

cohort_status options_check_free(const cohort_options *options, const char *function, cohort_error *err)
{
    if (options->user == NULL)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_STATE, "%s: these options are in use by %s", function, options->user);
}

void options_acquire(cohort_options *options, const char *user) { options->user = user; }

void options_release(cohort_options *options)
{
    options->user = NULL;
    if (options->destroyed)
        cohort_options_destroy(options);
}

bool cohort_command_find(const char *name, cohort_command *command)
{
    for (int i = 0; name != NULL && command != NULL && i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            *command = (cohort_command)i;
            return true;
        }
    }
    return false;
}

static bool is_command(cohort_command command) { return (int)command >= 0 && (int)command < N_COMMANDS; }

const char *cohort_command_name(cohort_command command) { return is_command(command) ? commands[command].name : NULL; }

const char *cohort_command_summary(cohort_command command)
{
    return is_command(command) ? commands[command].summary : NULL;
}

cohort_status cohort_options_create(cohort_options **out, cohort_command command, cohort_error *err)
{
    struct cohort_options *options = NULL;
    if (out == NULL)
        return missing(err, "cohort_options_create", "out");
    *out = NULL;
    if (!is_command(command))
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_options_create: %d is no command", (int)command);
    TRY(mem_alloc(&options, 1, sizeof *options, "options", err));
    options->command = command;
    cohort_status status = options_create(&options->options, commands[command].flag, err);
    if (status != COHORT_OK) {
        mem_free(options);
        return status;
    }
    *out = options;
    return COHORT_OK;
}

void cohort_options_destroy(cohort_options *options)
{
    if (options == NULL)
        return;
    if (options->user != NULL) { /* whoever works with them still needs them */
        options->destroyed = true;
        return;
    }
    for (size_t i = 0; i < options->n_rewards; i++) {
        reward_destroy(options->rewards[i]);
        mem_free(options->bindings[i]);
    }
    mem_free(options->rewards);
    mem_free(options->environment.name);
    mem_free(options->bindings);
    options_destroy(options->options);
    mem_free(options);
}

cohort_status cohort_options_set(cohort_options *options, const char *name, const char *value, const char *origin,
                                 cohort_error *err)
{
    if (options == NULL || name == NULL || value == NULL)
        return missing(err, "cohort_options_set", "options, name and value");
    TRY(options_check_free(options, "cohort_options_set", err));
    return options_set(options->options, name, value, origin == NULL ? name : origin, err);
}

cohort_status cohort_options_read_yaml(cohort_options *options, const char *path, cohort_error *err)
{
    if (options == NULL || path == NULL)
        return missing(err, "cohort_options_read_yaml", "options and path");
    TRY(options_check_free(options, "cohort_options_read_yaml", err));
    return options_read_yaml(options->options, path, err);
}

bool cohort_options_reads_yaml(const cohort_options *options)
{
    return options != NULL && options->command != COHORT_INIT;
}

bool cohort_options_has(const cohort_options *options, const char *name)
{
    return options != NULL && name != NULL && options_has(options->options, name);
}

bool cohort_options_is_switch(const cohort_options *options, const char *name)
{
    return options != NULL && name != NULL && options_is_switch(options->options, name);
}

const char *cohort_options_bare(const cohort_options *options)
{
    return options == NULL ? NULL : options_bare(commands[options->command].flag);
}

const char *cohort_options_alone(const cohort_options *options, const char *name)
{
    return options == NULL || name == NULL ? NULL : options_alone(options->options, name);
}

cohort_status cohort_options_get(const cohort_options *options, const char *name, size_t i, char **value,
                                 cohort_error *err)
{
    struct text text = {0};
    bool there = false;
    if (options == NULL || name == NULL || value == NULL)
        return missing(err, "cohort_options_get", "options, name and value");
    *value = NULL;
    cohort_status status = options_write_value(options->options, name, i, &text, &there, err);
    if (status == COHORT_OK && there)
        status = text_append(&text, "", 0, err); /* "" is a value too */
    if (status == COHORT_OK && there)
        *value = text.data;
    else
        text_free(&text);
    return status;
}

cohort_status cohort_help_wide(cohort_command command, int columns, char **out, cohort_error *err)
{
    struct text text = {0};
    if (out == NULL)
        return missing(err, "cohort_help", "out");
    *out = NULL;
    if (!is_command(command))
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_help: %d is no command", (int)command);
    cohort_status status = options_write_help(commands[command].flag, columns, &text, err);
    *out = text.data;
    return status;
}

cohort_status cohort_help(cohort_command command, char **out, cohort_error *err)
{
    return cohort_help_wide(command, 0, out, err);
}

cohort_status cohort_man(const char *command, char **out, cohort_error *err)
{
    struct text text = {0};
    cohort_command found = COHORT_INFO;
    if (out == NULL)
        return missing(err, "cohort_man", "out");
    *out = NULL;
    if (command != NULL && !cohort_command_find(command, &found))
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_man: there is no command '%.80s'", command);
    cohort_status status = options_write_man(command == NULL ? 0 : commands[found].flag, &text, err);
    *out = text.data;
    return status;
}

cohort_status cohort_shell_completion(const char *shell, char **out, cohort_error *err)
{
    struct text text = {0};
    if (out == NULL)
        return missing(err, "cohort_shell_completion", "out");
    *out = NULL;
    if (shell == NULL || (strcmp(shell, "bash") != 0 && strcmp(shell, "zsh") != 0))
        return error_set(err, COHORT_ERR_ARGUMENT, "there is no completion for the shell '%.40s': bash or zsh",
                         shell == NULL ? "" : shell);
    cohort_status status = strcmp(shell, "zsh") == 0 ? options_write_zsh(&text, err) : options_write_bash(&text, err);
    *out = text.data;
    return status;
}

cohort_status cohort_options_docs(char **out, cohort_error *err)
{
    struct text text = {0};
    if (out == NULL)
        return missing(err, "cohort_options_docs", "out");
    cohort_status status = options_write_docs(&text, err);
    *out = text.data;
    return status;
}

void cohort_free(void *block) { mem_free(block); }

void public_rows_free(struct public_rows *rows)
{
    for (size_t i = 0; rows->texts != NULL && i < rows->n; i++)
        text_free(&rows->texts[i]);
    for (size_t i = 0; rows->parsed != NULL && i < rows->n; i++)
        text_free(&rows->parsed[i]);
    for (size_t i = 0; rows->episodes != NULL && i < rows->n; i++)
        text_free(&rows->episodes[i]);
    mem_free(rows->episodes);
    mem_free(rows->logs);
    mem_free(rows->texts);
    mem_free(rows->parsed);
    mem_free(rows->rows);
    mem_free(rows->pointers);
    memset(rows, 0, sizeof *rows);
}

/* The row's completion taken apart, as JSON; nothing where that is not known. */
static cohort_status write_parsed(const struct reward_row *row, struct text *out, cohort_error *err)
{
    json_t *parsed = NULL;
    if (row->parse == NULL)
        return COHORT_OK;
    TRY(row->parse(row, &parsed, err));
    cohort_status status = json_text_write(parsed, JSON_COMPACT, out, err);
    json_decref(parsed);
    return status;
}

cohort_status public_rows_make(struct public_rows *out, const struct reward_row *rows, size_t n, struct reward_log *log,
                               cohort_error *err)
{
    memset(out, 0, sizeof *out);
    out->n = n;
    TRY(mem_alloc(&out->logs, n, sizeof *out->logs, "reward rows", err));
    TRY(mem_alloc(&out->pointers, n, sizeof *out->pointers, "reward rows", err));
    TRY(mem_alloc(&out->rows, n, sizeof *out->rows, "reward rows", err));
    TRY(mem_alloc(&out->texts, n, sizeof *out->texts, "reward rows", err));
    TRY(mem_alloc(&out->parsed, n, sizeof *out->parsed, "reward rows", err));
    TRY(mem_alloc(&out->episodes, n, sizeof *out->episodes, "reward rows", err));
    for (size_t i = 0; i < n; i++) {
        TRY(json_text_write(rows[i].data, JSON_COMPACT, &out->texts[i], err));
        TRY(write_parsed(&rows[i], &out->parsed[i], err));
        if (rows[i].episode != NULL)
            TRY(json_text_write(rows[i].episode, JSON_COMPACT, &out->episodes[i], err));
        out->pointers[i] = &out->rows[i];
        out->logs[i] = (cohort_reward_log){.log = log, .row = i};
        out->rows[i] = (cohort_reward_row){.size = sizeof *out->rows,
                                           .row_json = out->texts[i].data,
                                           .prompt = rows[i].prompt,
                                           .completion = rows[i].completion,
                                           .tokens = rows[i].tokens,
                                           .n_tokens = rows[i].n_tokens,
                                           .logprobs = rows[i].logp,
                                           .finish_reason = rows[i].finish_reason,
                                           .prompt_index = rows[i].prompt_index,
                                           .completion_index = rows[i].completion_index,
                                           .episode_json = out->episodes[i].data,
                                           .prompt_length = rows[i].prompt_length,
                                           .completion_length = rows[i].completion_length,
                                           .parsed_json = out->parsed[i].data,
                                           .parsed_length = out->parsed[i].length,
                                           .log = log == NULL ? NULL : &out->logs[i]};
    }
    return COHORT_OK;
}

static cohort_status not_logged(cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "reward log: out of memory");
}

cohort_status cohort_reward_log_metric(cohort_reward_log *log, const char *name, double value, cohort_error *err)
{
    if (log == NULL || name == NULL || *name == '\0')
        return missing(err, "cohort_reward_log_metric", "log and name");
    return reward_log_metric(log->log, name, value, 1) ? COHORT_OK : not_logged(err);
}

cohort_status cohort_reward_log_extra(cohort_reward_log *log, const char *column, const char *json, cohort_error *err)
{
    json_t *value = NULL;
    if (log == NULL || column == NULL || *column == '\0' || json == NULL)
        return missing(err, "cohort_reward_log_extra", "log, column and json");
    TRY(json_text_parse(&value, json, strlen(json), "cohort_reward_log_extra: json", 1, JSON_TEXT_ANY | JSON_TEXT_NUL,
                        err));
    const bool good = reward_log_extra(log->log, column, log->row, value);
    json_decref(value);
    return good ? COHORT_OK : not_logged(err);
}

static cohort_status call_public_reward(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                        double **lists, struct reward_log *log, cohort_error *err)
{
    (void)lists;
    const struct reward_binding *binding = context;
    struct public_rows handed = {0};
    cohort_status status = public_rows_make(&handed, rows, n_rows, log, err);
    if (status == COHORT_OK)
        status = binding->function(binding->context, handed.pointers, n_rows, rewards, err);
    public_rows_free(&handed);
    return status;
}

static cohort_status call_public_tokens(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                        double **lists, struct reward_log *log, cohort_error *err)
{
    const struct reward_binding *binding = context;
    struct public_rows handed = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < n_rows; i++)
        TRY(reward_list_new(&lists[i], rows[i].n_tokens, err));
    status = public_rows_make(&handed, rows, n_rows, log, err);
    if (status == COHORT_OK)
        status = binding->tokens(binding->context, handed.pointers, n_rows, lists, err);
    for (size_t i = 0; status == COHORT_OK && i < n_rows; i++)
        rewards[i] = reward_list_sum(lists[i], rows[i].n_tokens);
    public_rows_free(&handed);
    return status;
}

static cohort_status add_reward(cohort_options *options, const char *function, const char *name,
                                const struct reward_binding *what, cohort_error *err)
{
    if (options == NULL || name == NULL || (what->function == NULL && what->tokens == NULL))
        return missing(err, function, "options, name and function");
    TRY(options_check_free(options, function, err));
    size_t n = options->n_rewards;
    struct reward_binding *binding = NULL;
    TRY(mem_grow(&options->rewards, &options->reward_room, n + 1, sizeof(struct reward *), "rewards", err));
    TRY(mem_grow(&options->bindings, &options->binding_room, n + 1, sizeof(struct reward_binding *), "rewards", err));
    TRY(mem_alloc(&binding, 1, sizeof *binding, "reward", err));
    *binding = *what;
    cohort_status status = reward_create_callback(
        &options->rewards[n], name, what->function != NULL ? call_public_reward : call_public_tokens, binding, err);
    if (status != COHORT_OK) {
        mem_free(binding);
        return status;
    }
    options->bindings[n] = binding;
    options->n_rewards++;
    return COHORT_OK;
}

cohort_status cohort_options_add_reward(cohort_options *options, const char *name, cohort_reward_function function,
                                        void *context, cohort_error *err)
{
    return add_reward(options, "cohort_options_add_reward", name,
                      &(struct reward_binding){.function = function, .context = context}, err);
}

cohort_status cohort_options_add_token_reward(cohort_options *options, const char *name,
                                              cohort_token_reward_function function, void *context, cohort_error *err)
{
    return add_reward(options, "cohort_options_add_token_reward", name,
                      &(struct reward_binding){.tokens = function, .context = context}, err);
}

static cohort_status call_environment(void *context, struct environment *inner, const char *request, size_t length,
                                      cohort_error *err)
{
    const struct environment_bound *bound = context;
    cohort_environment environment = {.inner = inner};
    cohort_status status = bound->function(bound->context, &environment, request, length, err);
    return status;
}

cohort_status cohort_environment_answer(cohort_environment *environment, const char *answer, size_t length,
                                        cohort_error *err)
{
    if (environment == NULL || answer == NULL)
        return missing(err, "cohort_environment_answer", "environment and answer");
    return environment_say(environment->inner, answer, length, err);
}

cohort_status cohort_options_set_environment(cohort_options *options, const char *name,
                                             cohort_environment_function function, void *context, cohort_error *err)
{
    static const char NAME[] = "cohort_options_set_environment";
    char *copy = NULL;
    if (options == NULL || (function != NULL && name == NULL))
        return missing(err, NAME, "options and name");
    TRY(options_check_free(options, NAME, err));
    if (function != NULL && !options_has(options->options, "environment"))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: these are options of %s; environments are of grpo, rloo, distill and eval", NAME,
                         cohort_command_name(options->command));
    if (function != NULL)
        TRY(mem_strdup(&copy, name, strlen(name), err));
    mem_free(options->environment.name);
    options->bound = (struct environment_bound){.function = function, .context = context};
    options->environment =
        (struct environment_binding){.name = copy, .function = call_environment, .context = &options->bound};
    return COHORT_OK;
}

cohort_status cohort_stop_create(cohort_stop **out, cohort_error *err)
{
    if (out == NULL)
        return missing(err, "cohort_stop_create", "out");
    *out = NULL;
    return mem_alloc(out, 1, sizeof **out, "stop object", err);
}

void cohort_stop_destroy(cohort_stop *stop) { mem_free(stop); }

void cohort_stop_trigger(cohort_stop *stop)
{
    if (stop != NULL)
        atomic_store_explicit(&stop->stop.requested, true, memory_order_relaxed);
}

void cohort_stop_reset(cohort_stop *stop)
{
    if (stop != NULL)
        atomic_store_explicit(&stop->stop.requested, false, memory_order_relaxed);
}

bool cohort_stop_triggered(const cohort_stop *stop) { return stop != NULL && stop_requested(&stop->stop); }

cohort_status cohort_options_set_stop(cohort_options *options, const cohort_stop *stop, cohort_error *err)
{
    if (options == NULL)
        return missing(err, "cohort_options_set_stop", "options");
    TRY(options_check_free(options, "cohort_options_set_stop", err));
    options->stop = stop;
    options_set_stop(options->options, stop == NULL ? NULL : &stop->stop);
    return COHORT_OK;
}

void cohort_observer_init_sized(cohort_observer *observer, size_t size) { sized_init(&sized_observer, observer, size); }

cohort_status options_tell(const cohort_options *options, const cohort_observer *observer, cohort_error *err)
{
    struct text notes = {0};
    cohort_status status = options_notes(options->options, &notes, err);
    if (status == COHORT_OK && notes.length > 0)
        observer_message(observer, "%s", notes.data);
    text_free(&notes);
    return status;
}

cohort_status cohort_run(cohort_options *options, const cohort_observer *observer, cohort_error *err)
{
    cohort_observer known = {0};
    if (options == NULL)
        return missing(err, "cohort_run", "options");
    TRY(options_check_free(options, "cohort_run", err));
    if (observer != NULL)
        TRY(sized_read(&sized_observer, "cohort_run", observer, &known, err));
    struct reward_list extra = {.rewards = options->rewards,
                                .count = options->n_rewards,
                                .environment = options->environment.name == NULL ? NULL : &options->environment};
    struct ranks *ranks = options_ranks(options->options);
    cohort_error own = {0};    /* what is told to other ranks, if the caller wants none */
    if (ranks_rank(ranks) > 0) /* rank 0 speaks */
        known = (cohort_observer){.size = known.size, .context = known.context, .progress = known.progress};
    TRY(options_tell(options, &known, err));
    options_acquire(options, "cohort_run; wait until it returns");
    err = err == NULL ? &own : err;
    cohort_status status = ranks_allowed(options, err);
    if (status == COHORT_OK)
        status = commands[options->command].run(options->options, &extra, &known, err);
    if (status != COHORT_OK)
        ranks_fail(ranks, status, err);
    options_release(options);
    return status;
}
