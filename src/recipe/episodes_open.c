/* How environments are opened, and what they reward. */
#include "recipe/episodes_internal.h"

#include "recipe/episode_story.h"
#include "text/chat_turn.h"

#include <math.h>
#include <string.h>

/* ---- The reward ---- */

/* A turn's reward stands at the turn's last token, that of the whole episode at the completion's last. */
static cohort_status list_of(const struct reward_row *row, double **list, cohort_error *err)
{
    const json_t *turns = json_object_get(row->episode, "turn_rewards"),
                 *last = json_object_get(row->episode, "reward");
    TRY(reward_list_new(list, row->n_tokens, err));
    for (size_t i = 0; i < json_array_size(turns); i++) {
        const json_t *turn = json_array_get(turns, i);
        const json_int_t at = json_integer_value(json_array_get(turn, 0)) - 1;
        if (at >= 0 && at < row->n_tokens)
            (*list)[at] = (isnan((*list)[at]) ? 0.0 : (*list)[at]) + json_number_value(json_array_get(turn, 1));
    }
    int32_t at = row->n_tokens - 1;
    while (at > 0 && row->sampled != NULL && !row->sampled[at])
        at--;
    if (at >= 0 && json_is_number(last))
        (*list)[at] = (isnan((*list)[at]) ? 0.0 : (*list)[at]) + json_number_value(last);
    return COHORT_OK;
}

static cohort_status reward_episodes(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                     double **lists, struct reward_log *log, cohort_error *err)
{
    (void)log;
    const struct episodes *e = context;
    (void)log;
    for (size_t i = 0; i < n_rows; i++) {
        rewards[i] = story_reward(rows[i].episode);
        if (e->per_turn && lists != NULL && !isnan(rewards[i]))
            TRY(list_of(&rows[i], &lists[i], err));
    }
    return COHORT_OK;
}

/* ---- Opening ---- */

/* The command that environment or tools name. */
static cohort_status make_command(struct episodes *e, const struct options *options, const char *spec, bool tools,
                                  cohort_error *err)
{
    static const char exports[] = "export PYTHONUNBUFFERED=1 PYTHONIOENCODING=utf-8\n", exec[] = "exec:";
    if (tools || strncmp(spec, exec, strlen(exec)) != 0 || spec[strlen(exec)] == '\0')
        return environment_python(e->arguments, e->owned, tools ? "tools" : "environment", spec, !tools,
                                  options_string(options, OPTION_PYTHON), err);
    TRY(text_printf(&e->command, err, "%s%s", exports, spec + strlen(exec)));
    char *const arguments[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", e->command.data, NULL};
    memcpy(e->arguments, arguments, sizeof arguments);
    return COHORT_OK;
}

static cohort_status open_environment(struct episodes *e, const struct options *options, const char *spec, bool tools,
                                      const struct environment_binding *bound, const char *run, cohort_error *err)
{
    struct environment_options o = {.workers = (int)options_int(options, OPTION_ENVIRONMENT_WORKERS),
                                    .turn_s = options_float(options, OPTION_TURN_TIMEOUT),
                                    .episode_s = options_float_or(options, OPTION_EPISODE_TIMEOUT, 0.0),
                                    .turns = e->max_turns,
                                    .seed = e->seed & (((uint64_t)1 << 53) - 1),
                                    .run = run,
                                    .stop = options_stop(options),
                                    .tell = e->observer == NULL ? NULL : episodes_tell,
                                    .tell_context = e};
    const char *label = spec != NULL ? spec : bound->name;
    TRY(mem_strdup(&e->label, label, strlen(label), err));
    if (spec != NULL) {
        TRY(make_command(e, options, spec, tools, err));
        o.arguments = e->arguments;
    } else {
        o.function = bound->function;
        o.context = bound->context;
    }
    o.label = e->label;
    return environment_open(&e->environment, &o, err);
}

cohort_status episodes_open(struct episodes *e, struct session *session, const struct options *options,
                            const struct environment_binding *bound, const cohort_observer *observer, const char *run,
                            cohort_error *err)
{
    const char *environment = options_string(options, OPTION_ENVIRONMENT),
               *tools = options_string(options, OPTION_TOOLS), *spec = environment != NULL ? environment : tools;
    const bool trains = options_has(options, "turn_rewards"); /* an evaluation gives tokens no rewards */
    memset(e, 0, sizeof *e);
    e->session = session;
    e->ranks = options_ranks(options);
    e->observer = observer;
    e->style = row_style(options);
    e->max_turns = (int32_t)options_int_or(options, OPTION_MAX_TURNS, 0);
    e->max_iterations = (int32_t)options_int_or(options, OPTION_MAX_TOOL_CALLING_ITERATIONS, -1);
    e->per_turn = trains && options_choice(options, OPTION_TURN_REWARDS) == TURN_REWARDS_PER_TURN;
    e->cuts = options_choice(options, OPTION_OVERLONG) == OVERLONG_CUT;
    e->seed = (uint64_t)options_int(options, OPTION_SEED);
    if (spec == NULL && bound == NULL)
        return COHORT_OK;
    if (environment != NULL && tools != NULL)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "--environment and --tools are both given: an environment has tools of its own, leave one of them "
            "out");
    if (spec != NULL && bound != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the options name '%.200s', and the program has an environment of its own, '%.100s': leave "
                         "one of them out",
                         spec, bound->name);
    if (session->chat == NULL || session->tokenizer == NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "environment '%.200s': the model's folder has no tokenizer with a chat template",
                         spec != NULL ? spec : bound->name);
    TRY(open_environment(e, options, spec, environment == NULL && tools != NULL, bound, run, err));
    TRY(episodes_compare(e, err));
    session->tools = environment_tools(e->environment);
    const struct chat_options chat = {.thinking = e->style.thinking, .tools = session->tools};
    TRY(chat_turn_check(session->chat, session->tokenizer, &chat, session->tools != NULL, err));
    e->hooks = episodes_hooks(e);
    return !environment_rewards(e->environment)
               ? COHORT_OK
               : reward_create_callback(&e->reward, "environment", reward_episodes, e, err);
}

cohort_status episodes_scoring(const struct episodes *episodes, struct scoring *scoring, const struct options *options,
                               const struct reward_list *extra, cohort_error *err)
{
    const size_t own = episodes->reward == NULL ? 0 : 1, more = extra == NULL ? 0 : extra->count;
    struct reward_list all = {.count = own + more};
    TRY(mem_alloc(&all.rewards, all.count, sizeof(struct reward *), "rewards", err));
    if (own > 0)
        all.rewards[0] = episodes->reward;
    for (size_t i = 0; i < more; i++)
        all.rewards[own + i] = extra->rewards[i];
    const cohort_status status = scoring_open(scoring, options, &all, err);
    mem_free(all.rewards);
    return status;
}

void episodes_close(struct episodes *e)
{
    episodes_abandon(e);
    environment_close(e->environment);
    reward_destroy(e->reward);
    text_free(&e->command);
    text_free(&e->said);
    mem_free(e->label);
    mem_free(e->owned[0]);
    mem_free(e->owned[1]);
    memset(e, 0, sizeof *e);
}
