#include "run/store_begin.h"

#include "base/file.h"
#include "base/json_text.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char store_carried_name[] = "trainer/unwritten.db";

double store_time(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Runs one statement with values: t a text, i an int64_t, d a double. */
static cohort_status run_with(struct store_db *db, cohort_error *err, const char *sql, const char *types, ...)
{
    sqlite3_stmt *statement = NULL;
    va_list args;
    int code = sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL);
    va_start(args, types);
    for (int i = 0; code == SQLITE_OK && types[i] != '\0'; i++)
        code = types[i] == 't'   ? sqlite3_bind_text(statement, i + 1, va_arg(args, const char *), -1, SQLITE_TRANSIENT)
               : types[i] == 'i' ? sqlite3_bind_int64(statement, i + 1, va_arg(args, int64_t))
                                 : sqlite3_bind_double(statement, i + 1, va_arg(args, double));
    va_end(args);
    if (code == SQLITE_OK)
        code = store_db_step(statement);
    cohort_status status = code == SQLITE_DONE ? COHORT_OK : store_db_error(db, code, "write", err);
    sqlite3_finalize(statement);
    return status;
}

/* ---- what of a resumed run's rows stays ---- */

/* Rows of later steps are removed, but for events. */
static cohort_status rewind_to(struct store_db *db, int64_t step, cohort_error *err)
{
    static const char *const drops[] = {
        "DELETE FROM score WHERE completion_id IN (SELECT id FROM completion WHERE step > ?1)",
        "DELETE FROM turn WHERE completion_id IN (SELECT id FROM completion WHERE step > ?1)",
        "DELETE FROM completion WHERE step > ?1",
        "DELETE FROM prompt WHERE ?1 < 0 OR id > (SELECT ifnull(max(prompt_id), 0) FROM completion)",
        "DELETE FROM metric WHERE step > ?1",
        "DELETE FROM evaluation WHERE step > ?1",
        "DELETE FROM step WHERE step > ?1"};
    for (size_t i = 0; i < sizeof drops / sizeof *drops; i++)
        TRY(run_with(db, err, drops[i], "i", step));
    return COHORT_OK;
}

/* Takes over what a checkpoint carries because run.db could not be written then, in place of rows of the same step. */
static cohort_status take_carried(struct store_db *db, cohort_error *err)
{
    static const char *const takes[] = {
        "INSERT OR IGNORE INTO main.name(name) SELECT name FROM carried.name ORDER BY id",
        "INSERT OR IGNORE INTO main.prompt(hash, text) SELECT hash, text FROM carried.prompt ORDER BY id",
        "INSERT OR REPLACE INTO main.step SELECT * FROM carried.step",
        "INSERT OR REPLACE INTO main.evaluation SELECT * FROM carried.evaluation",
        "INSERT OR REPLACE INTO main.metric SELECT n.id, m.step, m.value FROM carried.metric m "
        "JOIN carried.name c ON c.id = m.name_id JOIN main.name n ON n.name = c.name",
        "DELETE FROM main.score WHERE completion_id IN (SELECT id FROM main.completion WHERE step IN "
        "(SELECT step FROM carried.completion))",
        "DELETE FROM main.turn WHERE completion_id IN (SELECT id FROM main.completion WHERE step IN "
        "(SELECT step FROM carried.completion))",
        "INSERT OR REPLACE INTO main.completion(step, set_id, grp, idx, row, prompt_id, finish, tokens, logp, reward, "
        "advantage, text, thinking, tools, extra) SELECT k.step, n.id, k.grp, k.idx, k.row, q.id, k.finish, k.tokens, "
        "k.logp, k.reward, k.advantage, k.text, k.thinking, k.tools, k.extra FROM carried.completion k "
        "JOIN carried.name c ON c.id = k.set_id JOIN main.name n ON n.name = c.name "
        "JOIN carried.prompt p ON p.id = k.prompt_id JOIN main.prompt q ON q.hash = p.hash ORDER BY k.id",
        "INSERT OR REPLACE INTO main.score SELECT m.id, f.id, s.value FROM carried.score s "
        "JOIN carried.completion k ON k.id = s.completion_id JOIN carried.name c ON c.id = k.set_id "
        "JOIN main.name n ON n.name = c.name JOIN main.completion m ON m.set_id = n.id AND m.step = k.step "
        "AND m.grp = k.grp AND m.idx = k.idx JOIN carried.name g ON g.id = s.name_id "
        "JOIN main.name f ON f.name = g.name",
        "INSERT OR REPLACE INTO main.turn SELECT m.id, t.idx, t.role, t.name, t.text, t.tokens FROM carried.turn t "
        "JOIN carried.completion k ON k.id = t.completion_id JOIN carried.name c ON c.id = k.set_id "
        "JOIN main.name n ON n.name = c.name JOIN main.completion m ON m.set_id = n.id AND m.step = k.step "
        "AND m.grp = k.grp AND m.idx = k.idx",
        "INSERT INTO main.event(step, t, kind, rule, severity, text, json) SELECT step, t, kind, rule, severity, text, "
        "json FROM carried.event e WHERE NOT EXISTS (SELECT 1 FROM main.event o WHERE o.t = e.t AND o.kind = e.kind "
        "AND o.text = e.text)"};
    for (size_t i = 0; i < sizeof takes / sizeof *takes; i++)
        TRY(store_db_run(db, takes[i], err));
    return COHORT_OK;
}

/* ---- steps that only metrics.jsonl has ---- */

static cohort_status rows_of_line(json_t *line, struct store_rows *rows, cohort_error *err)
{
    const char *name = NULL;
    json_t *value = NULL;
    rows->is_step = true;
    rows->epoch = NAN;
    rows->evaluation_seconds = NAN;
    json_object_foreach(line, name, value)
    {
        const double number = json_is_number(value) ? json_number_value(value) : (double)NAN;
        if (strcmp(name, "step") == 0)
            rows->step = json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
        else if (strcmp(name, "epoch") == 0)
            rows->epoch = number;
        else
            TRY(store_rows_metric(rows, name, number, err));
        rows->is_evaluation = rows->is_evaluation || strncmp(name, "eval_", 5) == 0;
    }
    return COHORT_OK;
}

static cohort_status is_recorded(struct store_db *db, int64_t step, bool *there, cohort_error *err)
{
    sqlite3_stmt *find = NULL;
    int code = sqlite3_prepare_v2(db->handle, "SELECT 1 FROM step WHERE step = ?1", -1, &find, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(find, 1, step);
    if (code == SQLITE_OK)
        code = sqlite3_step(find);
    *there = code == SQLITE_ROW;
    cohort_status status =
        code == SQLITE_ROW || code == SQLITE_DONE ? COHORT_OK : store_db_error(db, code, "read", err);
    sqlite3_finalize(find);
    return status;
}

static cohort_status refill_line(struct store_db *db, const char *path, const char *text, size_t length, int64_t last,
                                 int64_t *n, cohort_error *err)
{
    json_t *line = NULL;
    struct store_rows rows = {0};
    bool there = false;
    cohort_status status = COHORT_OK;
    status = json_text_parse(&line, text, length, path, 1, 0, err);
    if (status == COHORT_ERR_FORMAT || (status == COHORT_OK && !json_is_object(line))) {
        status = COHORT_OK; /* not one of ours */
        goto cleanup;
    }
    TRY_GOTO(status);
    TRY_GOTO(rows_of_line(line, &rows, err));
    if (rows.step < 0 || rows.step > last)
        goto cleanup;
    TRY_GOTO(is_recorded(db, rows.step, &there, err));
    if (there)
        goto cleanup;
    const int code = store_rows_write(db, &rows, 0);
    if (code != SQLITE_OK)
        status = store_db_error(db, code, "write", err);
    ++*n;
cleanup:
    json_decref(line);
    store_rows_free(&rows);
    return status;
}

static cohort_status count_steps(struct store_db *db, int64_t *n, cohort_error *err)
{
    sqlite3_stmt *count = NULL;
    int code = sqlite3_prepare_v2(db->handle, "SELECT count(*) FROM step", -1, &count, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(count);
    if (code == SQLITE_ROW)
        *n = sqlite3_column_int64(count, 0);
    cohort_status status = code == SQLITE_ROW ? COHORT_OK : store_db_error(db, code, "read", err);
    sqlite3_finalize(count);
    return status;
}

/* Adds the steps up to last that metrics.jsonl has and the database lacks; *n: how many. */
static cohort_status refill(struct store_db *db, const char *run, int64_t last, int64_t *n, cohort_error *err)
{
    char *path = NULL;
    struct text content = {0};
    int64_t recorded = 0, lines = 0;
    bool there = false;
    cohort_status status = COHORT_OK;
    *n = 0;
    TRY_GOTO(file_join(&path, run, "metrics.jsonl", err));
    TRY_GOTO(file_exists(path, &there, err));
    if (!there || last < 0)
        goto cleanup;
    TRY_GOTO(file_read(path, 0, &content, err));
    for (size_t i = 0; i < content.length; i++)
        lines += content.data[i] == '\n';
    TRY_GOTO(count_steps(db, &recorded, err));
    for (const char *line = content.data; lines > recorded && (size_t)(line - content.data) < content.length;) {
        const char *end = memchr(line, '\n', content.length - (size_t)(line - content.data));
        if (end == NULL)
            break;
        TRY_GOTO(refill_line(db, path, line, (size_t)(end - line), last, n, err));
        line = end + 1;
    }
cleanup:
    mem_free(path);
    text_free(&content);
    return status;
}

/* ---- a damaged file ---- */

static cohort_status set_aside(const char *path, struct text *notes, const char *why, cohort_error *err)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    struct text from = {0}, to = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        from.length = to.length = 0;
        TRY_GOTO(text_printf(&from, err, "%s%s", path, ends[i]));
        TRY_GOTO(text_printf(&to, err, "%s.broken-%.0f%s", path, floor(store_time()), ends[i]));
        if (rename(from.data, to.data) != 0 && errno != ENOENT) {
            status =
                error_set(err, COHORT_ERR_IO, "%s: cannot rename it to %s: %s", from.data, to.data, strerror(errno));
            goto cleanup;
        }
        if (i == 0)
            TRY_GOTO(
                text_printf(notes, err,
                            "warning: %s; it is kept as %s, and a new one begins with the steps that metrics.jsonl "
                            "has, without their completions\n",
                            why, to.data));
    }
cleanup:
    text_free(&from);
    text_free(&to);
    return status;
}

/* Opens the database, whole or new. */
static cohort_status open_whole(struct store_db *db, const char *path, bool check, bool *replaced, struct text *notes,
                                cohort_error *err)
{
    cohort_error why = {0};
    cohort_status status = store_db_open(db, path, &why);
    if (status == COHORT_OK && check)
        status = store_db_check(db, &why);
    *replaced = status == COHORT_ERR_FORMAT;
    if (*replaced) {
        store_db_close(db);
        TRY(set_aside(path, notes, why.message, err));
        return store_db_open(db, path, err);
    }
    return status == COHORT_OK ? COHORT_OK : error_set(err, why.status, "%s", why.message);
}

/* ---- beginning ---- */

static const char *or_empty(const char *text) { return text == NULL ? "" : text; }

static const char *base_name(const char *path, struct text *room, cohort_error *err)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    return text_append(room, path + begin, end - begin, err) == COHORT_OK ? room->data : NULL;
}

static cohort_status say_run(struct store_db *db, const struct store_start *s, cohort_error *err)
{
    struct text room = {0};
    const double now = store_time();
    const char *name = base_name(s->run, &room, err);
    if (name == NULL)
        return COHORT_ERR_MEMORY;
    cohort_status status = run_with(
        db, err,
        "INSERT INTO run VALUES(1, ?1, ?2, ?3, 'running', '', ?4, ?5, ?6, ?7, ?8, ?8, 0, ?9) ON CONFLICT(id) DO UPDATE "
        "SET name = ?1, command = ?2, model = ?3, status = 'running', message = '', config = ?4, steps = ?5, "
        "created = CASE WHEN ?10 < 0 THEN ?8 ELSE created END, updated = ?8, ended = 0, keep = ?9",
        "ttttitidii", name, s->command, or_empty(s->model), or_empty(s->config), s->steps, or_empty(s->parent),
        s->parent_step, now, s->keep, s->step);
    text_free(&room);
    return status;
}

static cohort_status say_start(struct store_db *db, const struct store_start *s, cohort_error *err)
{
    char host[256] = "";
    if (gethostname(host, sizeof host) != 0)
        host[0] = '\0';
    host[sizeof host - 1] = '\0';
    return run_with(db, err,
                    "INSERT INTO start(step, t, host, pid, version, sqlite, device) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    "idtittt", s->step < 0 ? (int64_t)0 : s->step, store_time(), host, (int64_t)getpid(),
                    cohort_version(), sqlite3_libversion(), or_empty(s->device));
}

static cohort_status say_inputs(struct store_db *db, const struct store_start *s, cohort_error *err)
{
    int64_t ord = 0;
    TRY(store_db_run(db, "DELETE FROM input", err));
    for (size_t i = 0; i < s->n_inputs; i++) {
        const struct store_input *input = &s->inputs[i];
        ord = i > 0 && strcmp(input->kind, s->inputs[i - 1].kind) == 0 ? ord + 1 : 0;
        TRY(run_with(db, err, "INSERT OR REPLACE INTO input VALUES(?1, ?2, ?3, ?4)", "titt", input->kind, ord,
                     input->path, input->sha256));
    }
    return COHORT_OK;
}

static cohort_status fill(struct store_db *db, const struct store_start *s, bool carries, int64_t *refilled,
                          cohort_error *err)
{
    TRY(rewind_to(db, s->step, err));
    if (carries)
        TRY(take_carried(db, err));
    TRY(refill(db, s->run, s->step, refilled, err));
    TRY(say_run(db, s, err));
    TRY(say_inputs(db, s, err));
    return say_start(db, s, err);
}

/* All that begins a run, in one transaction. */
static cohort_status begin_run(struct store_db *db, const struct store_start *s, int64_t *refilled, cohort_error *err)
{
    char *carried = NULL;
    bool carries = false;
    cohort_status status = COHORT_OK;
    if (s->checkpoint != NULL) {
        TRY_GOTO(file_join(&carried, s->checkpoint, store_carried_name, err));
        TRY_GOTO(file_exists(carried, &carries, err));
    }
    if (carries)
        TRY_GOTO(run_with(db, err, "ATTACH ?1 AS carried", "t", carried));
    status = store_db_run(db, "BEGIN IMMEDIATE", err);
    if (status == COHORT_OK)
        status = fill(db, s, carries, refilled, err);
    if (status == COHORT_OK)
        status = store_db_run(db, "COMMIT", err);
    if (status != COHORT_OK && !sqlite3_get_autocommit(db->handle))
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    if (carries)
        (void)sqlite3_exec(db->handle, "DETACH carried", NULL, NULL, NULL);
cleanup:
    mem_free(carried);
    return status;
}

cohort_status store_begin(struct store_db *db, const struct store_start *start, struct text *notes, cohort_error *err)
{
    char *path = NULL;
    bool replaced = false;
    int64_t refilled = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, start->run, store_file_name, err));
    TRY_GOTO(open_whole(db, path, start->step >= 0, &replaced, notes, err));
    TRY_GOTO(begin_run(db, start, &refilled, err));
    if (db->no_wal)
        TRY_GOTO(
            text_printf(notes, err,
                        "note: the file system of %s has no write-ahead log for SQLite (over a network it would be "
                        "unsafe): run.db is written with a journal, which is slower, and readers hold it up\n",
                        start->run));
    if (refilled > 0 && !replaced)
        TRY_GOTO(
            text_printf(notes, err,
                        "note: run.db lacked %lld steps up to %lld, which are now there from metrics.jsonl, without "
                        "their completions\n",
                        (long long)refilled, (long long)start->step));
cleanup:
    mem_free(path);
    return status;
}

cohort_status store_begin_anew(struct store_db *db, const struct store_start *start, struct text *notes,
                               cohort_error *err)
{
    char *path = NULL;
    int64_t refilled = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, start->run, store_file_name, err));
    store_db_close(db);
    TRY_GOTO(set_aside(path, notes, "run.db is damaged", err));
    TRY_GOTO(store_db_open(db, path, err));
    TRY_GOTO(begin_run(db, start, &refilled, err));
cleanup:
    mem_free(path);
    return status;
}

void store_end(struct store_db *db, const char *status, const char *message)
{
    (void)run_with(db, NULL, "UPDATE run SET status = ?1, message = ?2, ended = ?3, updated = ?3", "ttd", status,
                   message, store_time());
    (void)sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

cohort_status store_durable(struct store_db *db, cohort_error *err)
{
    /* A commit that is synced makes those before it durable too. */
    cohort_status status = store_db_run(db, "PRAGMA synchronous = FULL", err);
    for (int i = 0; status == COHORT_OK && i < 2; i++) {
        status = run_with(db, err, "UPDATE run SET updated = ?1", "d", store_time());
        if (status == COHORT_OK)
            break;
    }
    if (!db->no_wal)
        (void)store_db_run(db, "PRAGMA synchronous = NORMAL", NULL);
    return status;
}

cohort_status store_carried_open(struct store_db *db, const char *path, cohort_error *err)
{
    TRY(store_db_open(db, path, err));
    cohort_status status = store_db_run(db, "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL", err);
    if (status != COHORT_OK)
        store_db_close(db);
    return status;
}
