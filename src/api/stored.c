/* Reading what runs have recorded: check arguments, translate handles, nothing else. */
#include "api/handles.h"
#include "api/sized.h"

#include "recipe/runs_view.h"

#include <string.h>
#include <unistd.h>

struct cohort_store {
    struct store_reader reader;
    pid_t pid;   /* of the process that opened it */
    int calls;   /* that are going on, one within the other */
    bool closed; /* from within one of them */
};

static cohort_status missing(cohort_error *err, const char *function, const char *what)
{
    return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s must not be NULL", function, what);
}

cohort_status cohort_store_open(cohort_store **out, const char *folder, cohort_error *err)
{
    struct cohort_store *store = NULL;
    if (out == NULL || folder == NULL)
        return missing(err, "cohort_store_open", "out and folder");
    *out = NULL;
    TRY(mem_alloc(&store, 1, sizeof *store, "store", err));
    cohort_status status = store_reader_open(&store->reader, folder, err);
    if (status != COHORT_OK) {
        store_reader_close(&store->reader);
        mem_free(store);
        return status;
    }
    store->pid = getpid();
    *out = store;
    return COHORT_OK;
}

void cohort_store_close(cohort_store *store)
{
    if (store == NULL)
        return;
    if (store->calls > 0) {
        store->closed = true;
        return;
    }
    if (store->pid == getpid()) /* in a child the connection stays the parent's */
        store_reader_close(&store->reader);
    mem_free(store);
}

cohort_status cohort_run_find(const char *runs, const char *name, char **folder, cohort_error *err)
{
    if (runs == NULL || name == NULL || folder == NULL)
        return missing(err, "cohort_run_find", "runs, name and folder");
    return runs_find_in(runs, name, folder, err);
}

cohort_status cohort_shown(const char *text, size_t length, char **out, cohort_error *err)
{
    struct text shown = {0};
    if ((text == NULL && length > 0) || out == NULL)
        return missing(err, "cohort_shown", "text and out");
    *out = NULL;
    cohort_status status = text_append(&shown, "", 0, err);
    if (status == COHORT_OK)
        status = text_append_shown(&shown, text, length, err);
    if (status == COHORT_OK)
        *out = shown.data;
    else
        text_free(&shown);
    return status;
}

static cohort_status begin(cohort_store *store, const char *function, bool complete, cohort_error *err)
{
    if (store == NULL || !complete)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: an argument that must not be NULL is NULL", function);
    if (store->pid != getpid())
        return error_set(err, COHORT_ERR_STATE, "%s: the store was opened before a fork; open it again in the child",
                         function);
    if (store->closed)
        return error_set(err, COHORT_ERR_STATE, "%s: the store was closed by a callback", function);
    store->calls++;
    return COHORT_OK;
}

static cohort_status end(cohort_store *store, cohort_status status)
{
    store->calls--;
    if (store->closed && store->calls == 0)
        cohort_store_close(store);
    return status;
}

cohort_status cohort_store_run(cohort_store *store, const cohort_stored_run **run, cohort_error *err)
{
    TRY(begin(store, "cohort_store_run", run != NULL, err));
    return end(store, store_read_run(&store->reader, run, err));
}

cohort_status cohort_runs_list(const char *folder, bool (*visit)(void *context, const cohort_stored_run *run),
                               void *context, cohort_error *err)
{
    if (folder == NULL || visit == NULL)
        return missing(err, "cohort_runs_list", "folder and visit");
    return store_read_list(folder, visit, context, err);
}

cohort_status cohort_store_changed(cohort_store *store, bool *changed, cohort_error *err)
{
    TRY(begin(store, "cohort_store_changed", changed != NULL, err));
    return end(store, store_read_changed(&store->reader, changed, err));
}

cohort_status cohort_store_inputs(cohort_store *store, bool (*visit)(void *context, const cohort_stored_input *input),
                                  void *context, cohort_error *err)
{
    TRY(begin(store, "cohort_store_inputs", visit != NULL, err));
    return end(store, store_read_inputs(&store->reader, visit, context, err));
}

cohort_status cohort_store_steps(cohort_store *store, int64_t first, int64_t last,
                                 bool (*visit)(void *context, const cohort_stored_step *step), void *context,
                                 cohort_error *err)
{
    TRY(begin(store, "cohort_store_steps", visit != NULL, err));
    return end(store, store_read_steps(&store->reader, first, last, visit, context, err));
}

cohort_status cohort_store_names(cohort_store *store, bool (*visit)(void *context, const char *name), void *context,
                                 cohort_error *err)
{
    TRY(begin(store, "cohort_store_names", visit != NULL, err));
    return end(store, store_read_names(&store->reader, visit, context, err));
}

cohort_status cohort_store_curve(cohort_store *store, const char *name, int64_t first, int64_t last, int64_t **steps,
                                 double **values, size_t *n, cohort_error *err)
{
    TRY(begin(store, "cohort_store_curve", name != NULL && steps != NULL && values != NULL && n != NULL, err));
    return end(store, store_read_curve(&store->reader, name, first, last, steps, values, n, err));
}

void cohort_completion_query_init_sized(cohort_completion_query *query, size_t size)
{
    sized_init(&sized_completion_query, query, size);
}

/* A caller's query as one of ours. */
static cohort_status read_query(const char *function, const cohort_completion_query *given,
                                cohort_completion_query *query, cohort_error *err)
{
    *query = store_all_completions;
    if (given != NULL)
        TRY(sized_read(&sized_completion_query, function, given, query, err));
    if ((int)query->order < COHORT_BY_STEP || (int)query->order > COHORT_WORST_FIRST)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: %d is no order of completions", function, (int)query->order);
    if (query->limit < 0 || query->skip < 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: limit and skip must not be negative", function);
    return COHORT_OK;
}

cohort_status cohort_store_completions(cohort_store *store, const cohort_completion_query *query,
                                       bool (*visit)(void *context, const cohort_stored_completion *completion),
                                       void *context, cohort_error *err)
{
    cohort_completion_query known;
    TRY(read_query("cohort_store_completions", query, &known, err));
    TRY(begin(store, "cohort_store_completions", visit != NULL, err));
    return end(store, store_read_completions(&store->reader, &known, visit, context, err));
}

cohort_status cohort_store_count(cohort_store *store, const cohort_completion_query *query, int64_t *count,
                                 cohort_error *err)
{
    cohort_completion_query known;
    TRY(read_query("cohort_store_count", query, &known, err));
    TRY(begin(store, "cohort_store_count", count != NULL, err));
    return end(store, store_read_count(&store->reader, &known, count, err));
}

cohort_status cohort_store_turns(cohort_store *store, int64_t step, const char *set, int64_t group, int64_t index,
                                 bool (*visit)(void *context, const cohort_stored_turn *turn), void *context,
                                 cohort_error *err)
{
    TRY(begin(store, "cohort_store_turns", set != NULL && visit != NULL, err));
    return end(store, store_read_turns(&store->reader, step, set, group, index, visit, context, err));
}

cohort_status cohort_store_evaluations(cohort_store *store, int64_t first, int64_t last,
                                       bool (*visit)(void *context, const cohort_stored_evaluation *evaluation),
                                       void *context, cohort_error *err)
{
    TRY(begin(store, "cohort_store_evaluations", visit != NULL, err));
    return end(store, store_read_evaluations(&store->reader, first, last, visit, context, err));
}

cohort_status cohort_store_events(cohort_store *store, int64_t after, const char *kind,
                                  bool (*visit)(void *context, const cohort_stored_event *event), void *context,
                                  cohort_error *err)
{
    TRY(begin(store, "cohort_store_events", visit != NULL, err));
    return end(store, store_read_events(&store->reader, after, kind, visit, context, err));
}

cohort_status cohort_store_sql(cohort_store *store, const char *sql, const cohort_stop *stop,
                               bool (*visit)(void *context, const cohort_stored_row *row), void *context,
                               cohort_error *err)
{
    TRY(begin(store, "cohort_store_sql", sql != NULL && visit != NULL, err));
    return end(store, store_read_sql(&store->reader, sql, stop == NULL ? NULL : &stop->stop, visit, context, err));
}
