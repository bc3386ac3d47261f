/* The public functions: check arguments, translate handles, nothing else. */
#include "api/handles.h"
#include "api/sized.h"

#include "base/json_text.h"
#include "command/command.h"
#include "recipe/session.h"
#include "rollout/engine.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *summary;
    enum option_command flag;
    command_run *run;
} commands[] = {
    [COHORT_GENERATE] = {"generate", "generate text, or JSONL with exact log-probs", FOR_GENERATE, command_generate},
    [COHORT_LOGPROBS] = {"logprobs", "log-probs of given sequences, bit for bit those of generate", FOR_LOGPROBS,
                         command_logprobs},
    [COHORT_TOKENIZE] = {"tokenize", "token ids of text", FOR_TOKENIZE, command_tokenize},
    [COHORT_INFO] = {"info", "what a model is, what computes here, what memory training takes", FOR_INFO, command_info},
    [COHORT_INIT] = {"init", "write a random checkpoint", FOR_INIT, command_init},
    [COHORT_SFT] = {"sft", "supervised fine-tuning on JSONL", FOR_SFT, command_sft},
    [COHORT_GRPO] = {"grpo", "train with rewards (GRPO and its family)", FOR_GRPO, command_grpo},
    [COHORT_EVAL] = {"eval", "rewards of a model's completions on a data set", FOR_EVAL, command_eval},
    [COHORT_SCORE] = {"score", "rewards of given completions, without a model", FOR_SCORE, command_score},
    [COHORT_BENCH] = {"bench", "measure speed beside this machine's limits", FOR_BENCH, command_bench},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static cohort_status missing(cohort_error *err, const char *function, const char *what)
{
    return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s must not be NULL", function, what);
}

/* A callback of cohort_run may not change what that call reads. */
static cohort_status not_running(const cohort_options *options, const char *function, cohort_error *err)
{
    if (!options->running)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_STATE, "%s: these options are in use by cohort_run; wait until it returns",
                     function);
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
    if (options->running) { /* from a callback: cohort_run still needs them */
        options->destroyed = true;
        return;
    }
    for (size_t i = 0; i < options->n_rewards; i++) {
        reward_destroy(options->rewards[i]);
        mem_free(options->bindings[i]);
    }
    mem_free(options->rewards);
    mem_free(options->bindings);
    options_destroy(options->options);
    mem_free(options);
}

cohort_status cohort_options_set(cohort_options *options, const char *name, const char *value, const char *origin,
                                 cohort_error *err)
{
    if (options == NULL || name == NULL || value == NULL)
        return missing(err, "cohort_options_set", "options, name and value");
    TRY(not_running(options, "cohort_options_set", err));
    return options_set(options->options, name, value, origin == NULL ? name : origin, err);
}

cohort_status cohort_options_read_yaml(cohort_options *options, const char *path, cohort_error *err)
{
    if (options == NULL || path == NULL)
        return missing(err, "cohort_options_read_yaml", "options and path");
    TRY(not_running(options, "cohort_options_read_yaml", err));
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

cohort_status cohort_help(cohort_command command, char **out, cohort_error *err)
{
    struct text text = {0};
    if (out == NULL)
        return missing(err, "cohort_help", "out");
    *out = NULL;
    if (!is_command(command))
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_help: %d is no command", (int)command);
    cohort_status status = options_write_help(commands[command].flag, &text, err);
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

/* From our reward rows to the public ones. */
static cohort_status call_public_reward(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                        cohort_error *err)
{
    const struct reward_binding *binding = context;
    cohort_reward_row *public_rows = NULL;
    const cohort_reward_row **pointers = NULL;
    struct text *texts = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&public_rows, n_rows, sizeof *public_rows, "reward rows", err));
    TRY_GOTO(mem_alloc(&pointers, n_rows, sizeof *pointers, "reward rows", err));
    TRY_GOTO(mem_alloc(&texts, n_rows, sizeof *texts, "reward rows", err));
    for (size_t i = 0; i < n_rows; i++) {
        TRY_GOTO(json_text_write(rows[i].data, JSON_COMPACT, &texts[i], err));
        pointers[i] = &public_rows[i];
        public_rows[i] = (cohort_reward_row){.size = sizeof *public_rows,
                                             .row_json = texts[i].data,
                                             .prompt = rows[i].prompt,
                                             .completion = rows[i].completion,
                                             .tokens = rows[i].tokens,
                                             .n_tokens = rows[i].n_tokens,
                                             .finish_reason = rows[i].finish_reason,
                                             .prompt_index = rows[i].prompt_index,
                                             .completion_index = rows[i].completion_index,
                                             .prompt_length = rows[i].prompt_length,
                                             .completion_length = rows[i].completion_length};
    }
    status = binding->function(binding->context, pointers, n_rows, rewards, err);
cleanup:
    for (size_t i = 0; texts != NULL && i < n_rows; i++)
        text_free(&texts[i]);
    mem_free(texts);
    mem_free(pointers);
    mem_free(public_rows);
    return status;
}

cohort_status cohort_options_add_reward(cohort_options *options, const char *name, cohort_reward_function function,
                                        void *context, cohort_error *err)
{
    if (options == NULL || name == NULL || function == NULL)
        return missing(err, "cohort_options_add_reward", "options, name and function");
    TRY(not_running(options, "cohort_options_add_reward", err));
    size_t n = options->n_rewards;
    struct reward_binding *binding = NULL;
    TRY(mem_grow(&options->rewards, &options->reward_room, n + 1, sizeof(struct reward *), "rewards", err));
    TRY(mem_grow(&options->bindings, &options->binding_room, n + 1, sizeof(struct reward_binding *), "rewards", err));
    TRY(mem_alloc(&binding, 1, sizeof *binding, "reward", err));
    *binding = (struct reward_binding){.function = function, .context = context};
    cohort_status status = reward_create_callback(&options->rewards[n], name, call_public_reward, binding, err);
    if (status != COHORT_OK) {
        mem_free(binding);
        return status;
    }
    options->bindings[n] = binding;
    options->n_rewards++;
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
    TRY(not_running(options, "cohort_options_set_stop", err));
    options->stop = stop;
    options_set_stop(options->options, stop == NULL ? NULL : &stop->stop);
    return COHORT_OK;
}

void cohort_observer_init_sized(cohort_observer *observer, size_t size) { sized_init(&sized_observer, observer, size); }

cohort_status cohort_run(cohort_options *options, const cohort_observer *observer, cohort_error *err)
{
    cohort_observer known = {0};
    if (options == NULL)
        return missing(err, "cohort_run", "options");
    TRY(not_running(options, "cohort_run", err));
    if (observer != NULL)
        TRY(sized_read(&sized_observer, "cohort_run", observer, &known, err));
    struct reward_list extra = {.rewards = options->rewards, .count = options->n_rewards};
    options->running = true;
    cohort_status status = commands[options->command].run(options->options, &extra, &known, err);
    options->running = false;
    if (options->destroyed)
        cohort_options_destroy(options);
    return status;
}
