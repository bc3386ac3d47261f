#include "run/store_read.h"

#include "base/file.h"
#include "base/lock.h"
#include "run/run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE_STEPS = 128, PAGE_EVENTS = 256 };

cohort_status store_prepare(struct store_reader *reader, const char *sql, sqlite3_stmt **statement, cohort_error *err)
{
    const int code = sqlite3_prepare_v2(reader->db.handle, sql, -1, statement, NULL);
    return code == SQLITE_OK ? COHORT_OK : store_db_error(&reader->db, code, "read", err);
}

cohort_status store_next(struct store_reader *reader, sqlite3_stmt *statement, bool *there, cohort_error *err)
{
    const int code = sqlite3_step(statement);
    *there = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? COHORT_OK : store_db_error(&reader->db, code, "read", err);
}

cohort_status store_copy_column(const struct store_reader *reader, sqlite3_stmt *statement, int column,
                                struct text *texts, size_t *at, int64_t *length, cohort_error *err)
{
    *at = texts->length;
    *length = -1;
    if (sqlite3_column_type(statement, column) == SQLITE_NULL)
        return COHORT_OK;
    const void *bytes = sqlite3_column_blob(statement, column);
    const int n = sqlite3_column_bytes(statement, column);
    if (bytes == NULL && sqlite3_errcode(reader->db.handle) == SQLITE_NOMEM)
        return store_db_error(&reader->db, SQLITE_NOMEM, "read", err);
    TRY(text_append(texts, bytes == NULL ? "" : bytes, bytes == NULL ? 0 : (size_t)n, err));
    *length = bytes == NULL ? 0 : n;
    return text_append(texts, "", 1, err);
}

static double column_number(sqlite3_stmt *statement, int column)
{
    return sqlite3_column_type(statement, column) == SQLITE_NULL ? (double)NAN
                                                                 : sqlite3_column_double(statement, column);
}

cohort_status store_reader_open(struct store_reader *reader, const char *folder, cohort_error *err)
{
    char *path = NULL;
    enum file_kind kind = FILE_ABSENT;
    cohort_status status = COHORT_OK;
    memset(reader, 0, sizeof *reader);
    reader->data_version = -1;
    TRY_GOTO(mem_strdup(&reader->folder, folder, strlen(folder), err));
    TRY_GOTO(file_join(&path, folder, store_file_name, err));
    TRY_GOTO(file_look(path, &kind, err));
    if (kind != FILE_FILE) {
        status = error_set(err, COHORT_ERR_IO, "%s: no run: it has no %s (give a run folder, as in runs/NAME)", folder,
                           store_file_name);
        goto cleanup;
    }
    TRY_GOTO(store_db_open_reader(&reader->db, path, err));
cleanup:
    mem_free(path);
    return status;
}

void store_reader_close(struct store_reader *reader)
{
    store_db_close(&reader->db);
    text_free(&reader->run_texts);
    mem_free(reader->folder);
    memset(reader, 0, sizeof *reader);
}

/* ---- the run ---- */

/* A run that says it is running, whose lock names no process or one that has ended. */
static bool is_gone(const struct store_reader *reader)
{
    struct lock_holder holder = {.pid = 0};
    char *path = NULL;
    bool gone = false;
    if (file_join(&path, reader->folder, run_folder_lock_name, NULL) != COHORT_OK)
        return false;
    const int fd = file_open(path, O_RDONLY);
    mem_free(path);
    if (fd < 0)
        return errno == ENOENT;
    if (lock_read_holder(fd, run_folder_lock_what, &holder))
        gone = holder.pid <= 0 || (holder.here && !holder.alive);
    close(fd);
    return gone;
}

/* The last part of a path. */
static cohort_status copy_name(const char *path, struct text *texts, size_t *at, cohort_error *err)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    *at = texts->length;
    TRY(text_append(texts, path + begin, end - begin, err));
    return text_append(texts, "", 1, err);
}

static const char run_sql[] =
    "SELECT run.command, run.model, run.status, run.message, run.config, s.version, s.sqlite, s.host, s.device, "
    "run.parent, s.pid, (SELECT count(*) FROM start), run.parent_step, (SELECT max(step) FROM step), run.steps, "
    "run.created, run.updated, run.ended, run.keep FROM run LEFT JOIN start s ON s.id = (SELECT max(id) FROM start)";

cohort_status store_read_run(struct store_reader *reader, const cohort_stored_run **run, cohort_error *err)
{
    enum { TEXTS = 10 };
    cohort_stored_run *r = &reader->run;
    struct text *texts = &reader->run_texts;
    const char **const fields[TEXTS] = {&r->command, &r->model,  &r->status, &r->message, &r->config,
                                        &r->version, &r->sqlite, &r->host,   &r->device,  &r->parent};
    size_t at[TEXTS], name = 0;
    int64_t length = 0;
    sqlite3_stmt *s = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    *run = NULL;
    texts->length = 0;
    TRY_GOTO(store_prepare(reader, run_sql, &s, err));
    TRY_GOTO(store_next(reader, s, &there, err));
    if (!there) {
        status = error_set(err, COHORT_ERR_STATE, "%s: has no run in it yet; try again in a moment", reader->db.path);
        goto cleanup;
    }
    for (int i = 0; i < TEXTS; i++) {
        TRY_GOTO(store_copy_column(reader, s, i, texts, &at[i], &length, err));
        if (length < 0)
            TRY_GOTO(text_append(texts, "", 1, err));
    }
    TRY_GOTO(copy_name(reader->folder, texts, &name, err));
    *r = (cohort_stored_run){.size = sizeof *r,
                             .path = reader->folder,
                             .name = texts->data + name,
                             .pid = sqlite3_column_int64(s, 10),
                             .starts = sqlite3_column_int64(s, 11),
                             .parent_step = sqlite3_column_int64(s, 12),
                             .step = sqlite3_column_type(s, 13) == SQLITE_NULL ? -1 : sqlite3_column_int64(s, 13),
                             .steps = sqlite3_column_int64(s, 14),
                             .created = sqlite3_column_double(s, 15),
                             .updated = sqlite3_column_double(s, 16),
                             .ended = sqlite3_column_double(s, 17),
                             .keep = sqlite3_column_int64(s, 18)};
    for (int i = 0; i < TEXTS; i++)
        *fields[i] = texts->data + at[i];
    if (strcmp(r->status, "running") == 0 && is_gone(reader))
        r->status = "gone";
    *run = r;
cleanup:
    sqlite3_finalize(s);
    return status;
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static cohort_status list_one(const char *path, store_visit_run *visit, void *context, bool *more, cohort_error *err)
{
    struct store_reader reader;
    const cohort_stored_run *run = NULL;
    cohort_error why = {0};
    struct text name = {0};
    size_t at = 0;
    cohort_status status = store_reader_open(&reader, path, &why);
    if (status == COHORT_OK)
        status = store_read_run(&reader, &run, &why);
    if (status == COHORT_OK) {
        *more = visit(context, run);
    } else if (status != COHORT_ERR_MEMORY) {
        status = copy_name(path, &name, &at, err);
        const cohort_stored_run broken = {.size = sizeof broken,
                                          .path = path,
                                          .name = name.data,
                                          .command = "",
                                          .model = "",
                                          .status = "unreadable",
                                          .message = why.message,
                                          .config = "",
                                          .version = "",
                                          .sqlite = "",
                                          .host = "",
                                          .device = "",
                                          .parent = "",
                                          .step = -1};
        if (status == COHORT_OK)
            *more = visit(context, &broken);
    } else {
        status = error_set(err, COHORT_ERR_MEMORY, "%s", why.message);
    }
    text_free(&name);
    store_reader_close(&reader);
    return status;
}

static cohort_status has_store(const char *folder, bool *has, cohort_error *err)
{
    char *path = NULL;
    enum file_kind kind = FILE_ABSENT;
    TRY(file_join(&path, folder, store_file_name, err));
    cohort_status status = file_look(path, &kind, err);
    *has = kind == FILE_FILE;
    mem_free(path);
    return status;
}

cohort_status store_read_list(const char *folder, store_visit_run *visit, void *context, cohort_error *err)
{
    char **paths = NULL;
    size_t n = 0, room = 0;
    bool has = false, more = true;
    DIR *dir = NULL;
    const char *name = NULL;
    cohort_status status = COHORT_OK;
    TRY(has_store(folder, &has, err));
    if (has)
        return list_one(folder, visit, context, &more, err);
    dir = opendir(folder);
    if (dir == NULL)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open the folder: %s", folder, strerror(errno));
    while (status == COHORT_OK && (name = file_next_entry(dir, folder, &status, err)) != NULL) {
        if (name[0] == '.')
            continue;
        TRY_GOTO(mem_grow(&paths, &room, n + 1, sizeof(char *), "runs", err));
        TRY_GOTO(file_join(&paths[n], folder, name, err));
        TRY_GOTO(has_store(paths[n], &has, err));
        if (has)
            n++;
        else {
            mem_free(paths[n]);
            paths[n] = NULL;
        }
    }
    TRY_GOTO(status);
    if (n > 0)
        qsort(paths, n, sizeof(char *), by_name);
    for (size_t i = 0; i < n && more; i++)
        TRY_GOTO(list_one(paths[i], visit, context, &more, err));
cleanup:
    closedir(dir);
    for (size_t i = 0; i < room; i++)
        mem_free(paths[i]);
    mem_free(paths);
    return status;
}

cohort_status store_read_changed(struct store_reader *reader, bool *changed, cohort_error *err)
{
    sqlite3_stmt *s = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    *changed = false;
    TRY_GOTO(store_prepare(reader, "PRAGMA data_version", &s, err));
    TRY_GOTO(store_next(reader, s, &there, err));
    if (there) {
        const int64_t now = sqlite3_column_int64(s, 0);
        *changed = now != reader->data_version;
        reader->data_version = now;
    }
cleanup:
    sqlite3_finalize(s);
    return status;
}

cohort_status store_read_inputs(struct store_reader *reader, store_visit_input *visit, void *context, cohort_error *err)
{
    sqlite3_stmt *s = NULL;
    struct text texts = {0};
    size_t n = 0, at[3], *places = NULL, room = 0;
    int64_t length = 0;
    bool there = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(store_prepare(reader, "SELECT kind, path, sha256 FROM input ORDER BY kind, ord", &s, err));
    for (;;) {
        TRY_GOTO(store_next(reader, s, &there, err));
        if (!there)
            break;
        TRY_GOTO(mem_grow(&places, &room, n + 3, sizeof *places, "inputs", err));
        for (int i = 0; i < 3; i++) {
            TRY_GOTO(store_copy_column(reader, s, i, &texts, &at[i], &length, err));
            places[n++] = at[i];
        }
    }
    sqlite3_finalize(s);
    s = NULL;
    for (size_t i = 0; i < n; i += 3) {
        const cohort_stored_input input = {.size = sizeof input,
                                           .kind = texts.data + places[i],
                                           .path = texts.data + places[i + 1],
                                           .sha256 = texts.data + places[i + 2]};
        if (!visit(context, &input))
            break;
    }
cleanup:
    sqlite3_finalize(s);
    text_free(&texts);
    mem_free(places);
    return status;
}

/* ---- metrics ---- */

/* The names that metrics have, in the order of their ids. */
struct metric_names {
    struct text texts;
    struct {
        int64_t id;
        size_t at;
    } * items;
    size_t n, room;
};

static void names_free(struct metric_names *names)
{
    text_free(&names->texts);
    mem_free(names->items);
}

static cohort_status names_read(struct store_reader *reader, struct metric_names *names, cohort_error *err)
{
    sqlite3_stmt *s = NULL;
    bool there = true;
    int64_t length = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(store_prepare(reader,
                           "SELECT id, name FROM name WHERE EXISTS (SELECT 1 FROM metric WHERE name_id = name.id) "
                           "ORDER BY id",
                           &s, err));
    for (;;) {
        TRY_GOTO(store_next(reader, s, &there, err));
        if (!there)
            break;
        TRY_GOTO(mem_grow(&names->items, &names->room, names->n + 1, sizeof *names->items, "metrics", err));
        names->items[names->n].id = sqlite3_column_int64(s, 0);
        TRY_GOTO(store_copy_column(reader, s, 1, &names->texts, &names->items[names->n].at, &length, err));
        names->n++;
    }
cleanup:
    sqlite3_finalize(s);
    return status;
}

/* Steps of a page with their metrics. */
struct step_page {
    int64_t step[PAGE_STEPS];
    double time[PAGE_STEPS], epoch[PAGE_STEPS], seconds[PAGE_STEPS];
    int n;
    double *values; /* [n, names] */
    bool *there;    /* [n, names] */
};

static int place_of(const struct step_page *page, int64_t step)
{
    int low = 0, high = page->n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (page->step[middle] < step)
            low = middle + 1;
        else
            high = middle;
    }
    return low < page->n && page->step[low] == step ? low : -1;
}

/* Every metric of the page's steps: of each name a range. */
static cohort_status fill_page(struct store_reader *reader, const struct metric_names *names, struct step_page *page,
                               cohort_error *err)
{
    sqlite3_stmt *s = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    memset(page->there, 0, (size_t)page->n * names->n);
    TRY_GOTO(
        store_prepare(reader, "SELECT step, value FROM metric WHERE name_id = ?1 AND step BETWEEN ?2 AND ?3", &s, err));
    for (size_t i = 0; i < names->n; i++) {
        sqlite3_reset(s);
        sqlite3_bind_int64(s, 1, names->items[i].id);
        sqlite3_bind_int64(s, 2, page->step[0]);
        sqlite3_bind_int64(s, 3, page->step[page->n - 1]);
        for (;;) {
            TRY_GOTO(store_next(reader, s, &there, err));
            if (!there)
                break;
            const int at = place_of(page, sqlite3_column_int64(s, 0));
            if (at >= 0) {
                page->there[(size_t)at * names->n + i] = true;
                page->values[(size_t)at * names->n + i] = column_number(s, 1);
            }
        }
    }
cleanup:
    sqlite3_finalize(s);
    return status;
}

/* sql: step, t, and a number, of steps between ?1 and ?2, ascending. */
static cohort_status read_page(struct store_reader *reader, const char *sql, int64_t first, int64_t last,
                               struct step_page *page, cohort_error *err)
{
    sqlite3_stmt *s = NULL;
    bool there = true;
    cohort_status status = COHORT_OK;
    page->n = 0;
    TRY_GOTO(store_prepare(reader, sql, &s, err));
    sqlite3_bind_int64(s, 1, first);
    sqlite3_bind_int64(s, 2, last);
    while (page->n < PAGE_STEPS) {
        TRY_GOTO(store_next(reader, s, &there, err));
        if (!there)
            break;
        page->step[page->n] = sqlite3_column_int64(s, 0);
        page->time[page->n] = sqlite3_column_double(s, 1);
        page->epoch[page->n] = column_number(s, 2);
        page->n++;
    }
cleanup:
    sqlite3_finalize(s);
    return status;
}

struct step_visit {
    store_visit_step *step;
    store_visit_evaluation *evaluation;
    void *context;
};

static bool show_step(const struct step_visit *visit, const struct step_page *page, int at,
                      const struct metric_names *names, cohort_metric *room)
{
    static const char of_evaluation[] = "eval_";
    size_t n = 0;
    for (size_t i = 0; i < names->n; i++) {
        const char *name = names->texts.data + names->items[i].at;
        if (page->there[(size_t)at * names->n + i] &&
            (visit->step != NULL || strncmp(name, of_evaluation, sizeof of_evaluation - 1) == 0))
            room[n++] = (cohort_metric){.name = name, .value = page->values[(size_t)at * names->n + i]};
    }
    if (visit->step != NULL) {
        const cohort_stored_step step = {.size = sizeof step,
                                         .step = page->step[at],
                                         .time = page->time[at],
                                         .epoch = page->epoch[at],
                                         .metrics = room,
                                         .n_metrics = n};
        return visit->step(visit->context, &step);
    }
    const cohort_stored_evaluation evaluation = {.size = sizeof evaluation,
                                                 .step = page->step[at],
                                                 .time = page->time[at],
                                                 .seconds = page->epoch[at],
                                                 .metrics = room,
                                                 .n_metrics = n};
    return visit->evaluation(visit->context, &evaluation);
}

static cohort_status read_steps(struct store_reader *reader, const char *sql, int64_t first, int64_t last,
                                const struct step_visit *visit, cohort_error *err)
{
    struct metric_names names = {0};
    struct step_page *page = NULL;
    cohort_metric *room = NULL;
    bool more = true;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&page, 1, sizeof *page, "steps", err));
    TRY_GOTO(names_read(reader, &names, err));
    TRY_GOTO(mem_alloc(&page->values, PAGE_STEPS * names.n, sizeof *page->values, "metrics", err));
    TRY_GOTO(mem_alloc(&page->there, PAGE_STEPS * names.n, sizeof *page->there, "metrics", err));
    TRY_GOTO(mem_alloc(&room, names.n, sizeof *room, "metrics", err));
    while (more && first <= last) {
        TRY_GOTO(read_page(reader, sql, first, last, page, err));
        if (page->n == 0)
            break;
        TRY_GOTO(fill_page(reader, &names, page, err));
        for (int i = 0; i < page->n && more; i++)
            more = show_step(visit, page, i, &names, room);
        if (page->step[page->n - 1] == INT64_MAX)
            break;
        first = page->step[page->n - 1] + 1;
    }
cleanup:
    if (page != NULL) {
        mem_free(page->values);
        mem_free(page->there);
    }
    mem_free(page);
    mem_free(room);
    names_free(&names);
    return status;
}

cohort_status store_read_steps(struct store_reader *reader, int64_t first, int64_t last, store_visit_step *visit,
                               void *context, cohort_error *err)
{
    return read_steps(reader, "SELECT step, t, epoch FROM step WHERE step BETWEEN ?1 AND ?2 ORDER BY step", first, last,
                      &(struct step_visit){.step = visit, .context = context}, err);
}

cohort_status store_read_evaluations(struct store_reader *reader, int64_t first, int64_t last,
                                     store_visit_evaluation *visit, void *context, cohort_error *err)
{
    return read_steps(reader, "SELECT step, t, seconds FROM evaluation WHERE step BETWEEN ?1 AND ?2 ORDER BY step",
                      first, last, &(struct step_visit){.evaluation = visit, .context = context}, err);
}

cohort_status store_read_names(struct store_reader *reader, store_visit_name *visit, void *context, cohort_error *err)
{
    struct metric_names names = {0};
    cohort_status status = names_read(reader, &names, err);
    for (size_t i = 0; status == COHORT_OK && i < names.n; i++)
        if (!visit(context, names.texts.data + names.items[i].at))
            break;
    names_free(&names);
    return status;
}

cohort_status store_read_curve(struct store_reader *reader, const char *name, int64_t first, int64_t last,
                               int64_t **steps, double **values, size_t *n, cohort_error *err)
{
    sqlite3_stmt *s = NULL;
    size_t room[2] = {0}, count = 0;
    bool there = true;
    cohort_status status = COHORT_OK;
    *steps = NULL;
    *values = NULL;
    *n = 0;
    TRY_GOTO(store_prepare(reader,
                           "SELECT step, value FROM metric WHERE name_id = (SELECT id FROM name WHERE name = ?1) AND "
                           "step BETWEEN ?2 AND ?3 ORDER BY step",
                           &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, first);
    sqlite3_bind_int64(s, 3, last);
    TRY_GOTO(mem_grow(steps, &room[0], 64, sizeof **steps, "curve", err));
    TRY_GOTO(mem_grow(values, &room[1], 64, sizeof **values, "curve", err));
    for (;;) {
        TRY_GOTO(store_next(reader, s, &there, err));
        if (!there)
            break;
        TRY_GOTO(mem_grow(steps, &room[0], count + 1, sizeof **steps, "curve", err));
        TRY_GOTO(mem_grow(values, &room[1], count + 1, sizeof **values, "curve", err));
        (*steps)[count] = sqlite3_column_int64(s, 0);
        (*values)[count++] = column_number(s, 1);
    }
    *n = count;
cleanup:
    sqlite3_finalize(s);
    if (status != COHORT_OK) {
        mem_free(*steps);
        mem_free(*values);
        *steps = NULL;
        *values = NULL;
    }
    return status;
}

/* ---- events ---- */

struct event_page {
    cohort_stored_event events[PAGE_EVENTS];
    size_t at[PAGE_EVENTS][5];
    int64_t length[PAGE_EVENTS][5];
    struct text texts;
    int n;
};

static cohort_status read_events(struct store_reader *reader, int64_t after, const char *kind, struct event_page *page,
                                 cohort_error *err)
{
    sqlite3_stmt *s = NULL;
    bool there = true;
    cohort_status status = COHORT_OK;
    page->n = 0;
    page->texts.length = 0;
    TRY_GOTO(store_prepare(reader,
                           kind == NULL ? "SELECT id, step, t, kind, rule, severity, text, json FROM event WHERE id > "
                                          "?1 ORDER BY id"
                                        : "SELECT id, step, t, kind, rule, severity, text, json FROM event WHERE id > "
                                          "?1 AND kind = ?2 ORDER BY id",
                           &s, err));
    sqlite3_bind_int64(s, 1, after);
    if (kind != NULL)
        sqlite3_bind_text(s, 2, kind, -1, SQLITE_STATIC);
    while (page->n < PAGE_EVENTS) {
        TRY_GOTO(store_next(reader, s, &there, err));
        if (!there)
            break;
        page->events[page->n] = (cohort_stored_event){.size = sizeof(cohort_stored_event),
                                                      .id = sqlite3_column_int64(s, 0),
                                                      .step = sqlite3_column_int64(s, 1),
                                                      .time = sqlite3_column_double(s, 2)};
        for (int i = 0; i < 5; i++)
            TRY_GOTO(store_copy_column(reader, s, 3 + i, &page->texts, &page->at[page->n][i], &page->length[page->n][i],
                                       err));
        page->n++;
    }
cleanup:
    sqlite3_finalize(s);
    return status;
}

cohort_status store_read_events(struct store_reader *reader, int64_t after, const char *kind, store_visit_event *visit,
                                void *context, cohort_error *err)
{
    struct event_page *page = NULL;
    bool more = true;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&page, 1, sizeof *page, "events", err));
    do {
        TRY_GOTO(read_events(reader, after, kind, page, err));
        for (int i = 0; i < page->n && more; i++) {
            cohort_stored_event *event = &page->events[i];
            const char **const fields[5] = {&event->kind, &event->rule, &event->severity, &event->text, &event->json};
            for (int f = 0; f < 5; f++)
                *fields[f] = page->length[i][f] < 0 ? NULL : page->texts.data + page->at[i][f];
            after = event->id;
            more = visit(context, event);
        }
    } while (more && page->n == PAGE_EVENTS);
cleanup:
    text_free(&page->texts);
    mem_free(page);
    return status;
}

/* ---- SQL ---- */

static int only_reading(void *context, int action, const char *a, const char *b, const char *c, const char *d)
{
    (void)context;
    (void)a;
    (void)c;
    (void)d;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE: return SQLITE_OK;
    case SQLITE_FUNCTION: return b != NULL && strcmp(b, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
    default: return SQLITE_DENY;
    }
}

static int stop_asked(void *context) { return stop_requested(context) ? 1 : 0; }

static char kind_of(sqlite3_stmt *s, int column)
{
    switch (sqlite3_column_type(s, column)) {
    case SQLITE_INTEGER: return 'i';
    case SQLITE_FLOAT: return 'd';
    case SQLITE_BLOB: return 'b';
    case SQLITE_NULL: return 'n';
    default: return 't';
    }
}

static cohort_status sql_error(struct store_reader *reader, int code, cohort_error *err)
{
    if ((code & 0xff) == SQLITE_INTERRUPT)
        return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
    if ((code & 0xff) == SQLITE_ERROR || (code & 0xff) == SQLITE_AUTH || (code & 0xff) == SQLITE_READONLY)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s (one SELECT over the tables of docs/RUN.md)",
                         reader->db.path, sqlite3_errmsg(reader->db.handle));
    return store_db_error(&reader->db, code, "read", err);
}

static cohort_status show_rows(struct store_reader *reader, sqlite3_stmt *s, store_visit_row *visit, void *context,
                               cohort_error *err)
{
    const int n = sqlite3_column_count(s);
    const char **names = NULL, **values = NULL;
    size_t *lengths = NULL;
    char *kinds = NULL;
    int code = SQLITE_ROW;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&names, (size_t)n, sizeof(char *), "columns", err));
    TRY_GOTO(mem_alloc(&values, (size_t)n, sizeof(char *), "columns", err));
    TRY_GOTO(mem_alloc(&lengths, (size_t)n, sizeof *lengths, "columns", err));
    TRY_GOTO(mem_alloc(&kinds, (size_t)n + 1, 1, "columns", err));
    for (int i = 0; i < n; i++) {
        names[i] = sqlite3_column_name(s, i);
        if (names[i] == NULL) {
            status = store_db_error(&reader->db, SQLITE_NOMEM, "read", err);
            goto cleanup;
        }
    }
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        for (int i = 0; i < n; i++) {
            kinds[i] = kind_of(s, i);
            values[i] = kinds[i] == 'b' ? sqlite3_column_blob(s, i) : (const char *)sqlite3_column_text(s, i);
            lengths[i] = (size_t)sqlite3_column_bytes(s, i);
            if (values[i] == NULL && kinds[i] != 'n')
                values[i] = "";
        }
        const cohort_stored_row row = {
            .size = sizeof row, .n = (size_t)n, .names = names, .values = values, .lengths = lengths, .kinds = kinds};
        if (!visit(context, &row))
            goto cleanup;
    }
    if (code != SQLITE_DONE)
        status = sql_error(reader, code, err);
cleanup:
    mem_free(names);
    mem_free(values);
    mem_free(lengths);
    mem_free(kinds);
    return status;
}

cohort_status store_read_sql(struct store_reader *reader, const char *sql, const struct stop *stop,
                             store_visit_row *visit, void *context, cohort_error *err)
{
    sqlite3 *handle = reader->db.handle;
    sqlite3_stmt *s = NULL;
    const char *rest = NULL;
    void *asked = NULL;
    cohort_status status = COHORT_OK;
    memcpy(&asked, &stop, sizeof asked);
    sqlite3_set_authorizer(handle, only_reading, NULL);
    const int code = sqlite3_prepare_v2(handle, sql, -1, &s, &rest);
    sqlite3_set_authorizer(handle, NULL, NULL);
    if (code != SQLITE_OK)
        status = sql_error(reader, code, err);
    else if (s == NULL || rest[strspn(rest, " \t\r\n;")] != '\0' || !sqlite3_stmt_readonly(s) ||
             sqlite3_column_count(s) == 0)
        status = error_set(err, COHORT_ERR_ARGUMENT, "not one SELECT: the database is read-only here");
    if (status == COHORT_OK) {
        if (stop != NULL)
            sqlite3_progress_handler(handle, 10000, stop_asked, asked);
        status = show_rows(reader, s, visit, context, err);
        sqlite3_progress_handler(handle, 0, NULL, NULL);
    }
    sqlite3_finalize(s);
    return status;
}
