/* Records of runs: each call is a job whose result is JSON text. */
#include "addon.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asking;

struct asking {
    struct job job;
    void (*ask)(struct asking *asking);
    char *folder; /* of openings and lists of runs */
    char *sql;
    /* What a query names; NULL or NaN: it does not. */
    char *set, *reward_name, *finish_reason, *search, *kind;
    double first, last, group, index, below, above, order, limit, skip, after;
};

static void asking_release(napi_env env, struct job *job)
{
    struct asking *a = (struct asking *)job;
    (void)env;
    free(a->folder);
    free(a->sql);
    free(a->set);
    free(a->reward_name);
    free(a->finish_reason);
    free(a->search);
    free(a->kind);
}

/* ---- Structs as JSON --------------------------------------------------------------------------------------------- */

static void member(struct addon_text *text, const char *name, const char *string)
{
    addon_text_key(text, name);
    addon_text_string(text, string);
}

static void bytes_member(struct addon_text *text, const char *name, const char *bytes, size_t length)
{
    addon_text_key(text, name);
    addon_text_json(text, bytes, length);
}

static void number_member(struct addon_text *text, const char *name, double number)
{
    addon_text_key(text, name);
    addon_text_number(text, number);
}

static void begin(struct addon_text *text) { addon_text_say(text, text->length <= 1 ? "{" : ",{"); }

static void metrics_member(struct addon_text *text, const char *name, const cohort_metric *metrics, size_t n)
{
    addon_text_key(text, name);
    addon_text_say(text, "{");
    for (size_t i = 0; i < n; i++)
        number_member(text, metrics[i].name, metrics[i].value);
    addon_text_say(text, "}");
}

static bool write_run(void *context, const cohort_stored_run *run)
{
    struct addon_text *text = context;
    begin(text);
    member(text, "path", run->path);
    member(text, "name", run->name);
    member(text, "command", run->command);
    member(text, "model", run->model);
    member(text, "status", run->status);
    member(text, "message", run->message);
    member(text, "config", run->config);
    member(text, "version", run->version);
    member(text, "host", run->host);
    member(text, "device", run->device);
    member(text, "parent", run->parent);
    number_member(text, "starts", (double)run->starts);
    number_member(text, "parentStep", (double)run->parent_step);
    number_member(text, "step", (double)run->step);
    number_member(text, "steps", (double)run->steps);
    number_member(text, "created", run->created);
    number_member(text, "updated", run->updated);
    number_member(text, "ended", run->ended);
    addon_text_say(text, "}");
    return !text->failed;
}

static bool write_step(void *context, const cohort_stored_step *step)
{
    struct addon_text *text = context;
    begin(text);
    number_member(text, "step", (double)step->step);
    number_member(text, "time", step->time);
    number_member(text, "epoch", step->epoch);
    metrics_member(text, "metrics", step->metrics, step->n_metrics);
    addon_text_say(text, "}");
    return !text->failed;
}

static bool write_completion(void *context, const cohort_stored_completion *c)
{
    struct addon_text *text = context;
    begin(text);
    number_member(text, "step", (double)c->step);
    member(text, "set", c->set);
    number_member(text, "group", (double)c->group);
    number_member(text, "index", (double)c->index);
    number_member(text, "row", (double)c->row);
    bytes_member(text, "prompt", c->prompt, c->prompt_length);
    bytes_member(text, "text", c->text, c->text_length);
    bytes_member(text, "thinking", c->thinking, c->thinking_length);
    addon_text_key(text, "toolCalls");
    addon_text_say(text, c->tool_calls == NULL ? "[]" : c->tool_calls);
    addon_text_key(text, "extra");
    addon_text_say(text, c->extra == NULL ? "null" : c->extra);
    member(text, "finishReason", c->finish_reason);
    number_member(text, "tokens", (double)c->tokens);
    number_member(text, "logprob", c->logprob);
    number_member(text, "reward", c->reward);
    number_member(text, "advantage", c->advantage);
    metrics_member(text, "rewards", c->rewards, c->n_rewards);
    addon_text_say(text, "}");
    return !text->failed;
}

static bool write_event(void *context, const cohort_stored_event *event)
{
    struct addon_text *text = context;
    begin(text);
    number_member(text, "id", (double)event->id);
    number_member(text, "step", (double)event->step);
    number_member(text, "time", event->time);
    member(text, "kind", event->kind);
    member(text, "rule", event->rule);
    member(text, "severity", event->severity);
    member(text, "text", event->text);
    addon_text_say(text, "}");
    return !text->failed;
}

static bool write_input(void *context, const cohort_stored_input *input)
{
    struct addon_text *text = context;
    begin(text);
    member(text, "kind", input->kind);
    member(text, "path", input->path);
    member(text, "sha256", input->sha256);
    addon_text_say(text, "}");
    return !text->failed;
}

static bool write_sql_row(void *context, const cohort_stored_row *row)
{
    struct addon_text *text = context;
    begin(text);
    for (size_t i = 0; i < row->n; i++) {
        addon_text_key(text, row->names[i]);
        if (row->values[i] != NULL && (row->kinds[i] == 'i' || row->kinds[i] == 'd') &&
            strpbrk(row->values[i], "nN") == NULL)
            addon_text_add(text, row->values[i], row->lengths[i]);
        else
            addon_text_json(text, row->values[i], row->lengths[i]);
    }
    addon_text_say(text, "}");
    return !text->failed;
}

/* ---- Jobs -------------------------------------------------------------------------------------------------------- */

static void open_store(struct asking *a)
{
    a->job.status = cohort_store_open(&a->job.worker->handle.store, a->folder, &a->job.err);
}

static void list_runs(struct asking *a)
{
    a->job.status = cohort_runs_list(a->folder, write_run, &a->job.text, &a->job.err);
}

static void show_run(struct asking *a)
{
    const cohort_stored_run *run = NULL;
    a->job.status = cohort_store_run(a->job.worker->handle.store, &run, &a->job.err);
    if (a->job.status == COHORT_OK)
        write_run(&a->job.text, run);
}

static int64_t whole(double value, int64_t otherwise) { return isnan(value) ? otherwise : (int64_t)value; }

static void list_steps(struct asking *a)
{
    a->job.status = cohort_store_steps(a->job.worker->handle.store, whole(a->first, 0), whole(a->last, INT64_MAX),
                                       write_step, &a->job.text, &a->job.err);
}

static cohort_completion_query query_of(const struct asking *a)
{
    cohort_completion_query query;
    cohort_completion_query_init(&query);
    if (a->set != NULL)
        query.set = strcmp(a->set, "*") == 0 ? NULL : a->set;
    query.first_step = whole(a->first, query.first_step);
    query.last_step = whole(a->last, query.last_step);
    query.group = whole(a->group, query.group);
    query.index = whole(a->index, query.index);
    query.reward_below = a->below;
    query.reward_above = a->above;
    query.reward_name = a->reward_name;
    query.finish_reason = a->finish_reason;
    query.search = a->search;
    query.order = (cohort_completion_order)whole(a->order, COHORT_BY_STEP);
    query.limit = whole(a->limit, 0);
    query.skip = whole(a->skip, 0);
    return query;
}

static void list_completions(struct asking *a)
{
    const cohort_completion_query query = query_of(a);
    a->job.status =
        cohort_store_completions(a->job.worker->handle.store, &query, write_completion, &a->job.text, &a->job.err);
}

static void count_completions(struct asking *a)
{
    const cohort_completion_query query = query_of(a);
    int64_t count = 0;
    a->job.status = cohort_store_count(a->job.worker->handle.store, &query, &count, &a->job.err);
    addon_text_number(&a->job.text, (double)count);
}

static void list_events(struct asking *a)
{
    a->job.status = cohort_store_events(a->job.worker->handle.store, whole(a->after, 0), a->kind, write_event,
                                        &a->job.text, &a->job.err);
}

static void list_inputs(struct asking *a)
{
    a->job.status = cohort_store_inputs(a->job.worker->handle.store, write_input, &a->job.text, &a->job.err);
}

static void ask_sql(struct asking *a)
{
    a->job.status = cohort_store_sql(a->job.worker->handle.store, a->sql == NULL ? "" : a->sql, a->job.worker->stop,
                                     write_sql_row, &a->job.text, &a->job.err);
}

static const struct {
    const char *name;
    void (*ask)(struct asking *asking);
    bool list, opens; /* a list of what it writes; works without a store */
} questions[] = {{"open", open_store, true, true},
                 {"runs", list_runs, true, true},
                 {"run", show_run, true, false},
                 {"steps", list_steps, true, false},
                 {"completions", list_completions, true, false},
                 {"count", count_completions, false, false},
                 {"events", list_events, true, false},
                 {"inputs", list_inputs, true, false},
                 {"sql", ask_sql, true, false}};

static void asking_work(struct job *job)
{
    struct asking *a = (struct asking *)job;
    size_t i = 0;
    while (questions[i].ask != a->ask)
        i++;
    if (job->worker->handle.store == NULL && !questions[i].opens) {
        node_job_fail(job, COHORT_ERR_STATE, "the record is not open");
        return;
    }
    addon_text_say(&job->text, questions[i].list ? "[" : "");
    a->ask(a);
    addon_text_say(&job->text, questions[i].list ? "]" : "");
}

static bool get_text(napi_env env, napi_value object, const char *name, char **text)
{
    napi_value value = NULL;
    napi_valuetype type = napi_undefined;
    OK_OR(false, napi_get_named_property(env, object, name, &value));
    OK_OR(false, napi_typeof(env, value, &type));
    if (type != napi_undefined && type != napi_null && (*text = string_of(env, value, NULL)) == NULL)
        return false;
    return true;
}

static bool get_number(napi_env env, napi_value object, const char *name, double *number)
{
    napi_value value = NULL;
    napi_valuetype type = napi_undefined;
    *number = (double)NAN;
    OK_OR(false, napi_get_named_property(env, object, name, &value));
    OK_OR(false, napi_typeof(env, value, &type));
    return type == napi_undefined || type == napi_null || number_of(env, value, number);
}

/* () -> handle */
static napi_value store_new(napi_env env, napi_callback_info info)
{
    napi_value handle = NULL;
    (void)info;
    return worker_new(env, addon_of(env), WORKER_STORE, &handle) == NULL ? NULL : handle;
}

/* (handle, question, {folder, sql, set, first, last, ...}) -> promise of JSON */
static napi_value store_ask(napi_env env, napi_callback_info info)
{
    napi_value values[3];
    char *name = NULL;
    bool good = true;
    if (!arguments(env, info, 3, values))
        return NULL;
    struct worker *worker = worker_of(env, values[0], 1u << WORKER_STORE);
    struct asking *a = worker == NULL ? NULL : calloc(1, sizeof *a);
    if (a == NULL || (name = string_of(env, values[1], NULL)) == NULL) {
        throw_pending(env, "out of memory");
        free(a);
        return NULL;
    }
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++)
        if (strcmp(questions[i].name, name) == 0)
            a->ask = questions[i].ask;
    free(name);
    const struct {
        const char *name;
        char **text;
    } texts[] = {{"folder", &a->folder},
                 {"sql", &a->sql},
                 {"set", &a->set},
                 {"rewardName", &a->reward_name},
                 {"finishReason", &a->finish_reason},
                 {"search", &a->search},
                 {"kind", &a->kind}};
    const struct {
        const char *name;
        double *number;
    } numbers[] = {{"first", &a->first}, {"last", &a->last},   {"group", &a->group}, {"index", &a->index},
                   {"below", &a->below}, {"above", &a->above}, {"order", &a->order}, {"limit", &a->limit},
                   {"skip", &a->skip},   {"after", &a->after}};
    for (size_t i = 0; good && i < sizeof texts / sizeof texts[0]; i++)
        good = get_text(env, values[2], texts[i].name, texts[i].text);
    for (size_t i = 0; good && i < sizeof numbers / sizeof numbers[0]; i++)
        good = get_number(env, values[2], numbers[i].name, numbers[i].number);
    if (!good || a->ask == NULL) {
        throw_pending(env, "there is no such question");
        asking_release(env, &a->job);
        free(a);
        return NULL;
    }
    a->job.work = asking_work;
    a->job.result = result_text;
    a->job.release = asking_release;
    return worker_queue(env, worker, &a->job);
}

bool store_exports(napi_env env, napi_value exports)
{
    return export_function(env, exports, "storeNew", store_new) && export_function(env, exports, "storeAsk", store_ask);
}
