#include "run/store_rows.h"

#include "base/hash.h"

#include <math.h>
#include <string.h>

enum { ABSENT = -1 };

/* A text of store_rows by its place; length ABSENT: none. */
struct kept_text {
    size_t at;
    int64_t length;
};

struct store_kept {
    struct kept_text set, prompt, text, thinking, tools, extra;
    int64_t group, index, row, tokens;
    const char *finish;
    double logp, reward, advantage;
    size_t first_score, n_scores, first_turn, n_turns;
};

struct store_kept_turn {
    struct kept_text role, name, text;
    int64_t tokens;
};

struct store_kept_event {
    int64_t step;
    double time;
    struct kept_text kind, rule, severity, text, json;
};

void store_rows_free(struct store_rows *rows)
{
    mem_free(rows->metrics);
    mem_free(rows->completions);
    mem_free(rows->scores);
    mem_free(rows->turns);
    mem_free(rows->events);
    text_free(&rows->texts);
    memset(rows, 0, sizeof *rows);
}

size_t store_rows_bytes(const struct store_rows *rows)
{
    return sizeof *rows + rows->texts.capacity + rows->metrics_room * sizeof *rows->metrics +
           rows->completions_room * sizeof *rows->completions + rows->scores_room * sizeof *rows->scores +
           rows->turns_room * sizeof *rows->turns + rows->events_room * sizeof *rows->events;
}

bool store_rows_empty(const struct store_rows *rows)
{
    return !rows->is_step && !rows->is_evaluation && rows->n_completions == 0 && rows->n_events == 0;
}

/* ---- gathering ---- */

static cohort_status keep_bytes(struct store_rows *rows, struct store_text text, struct kept_text *kept,
                                cohort_error *err)
{
    *kept = (struct kept_text){.at = rows->texts.length, .length = ABSENT};
    if (text.data == NULL)
        return COHORT_OK;
    TRY(text_append(&rows->texts, text.data, text.length, err));
    kept->length = (int64_t)text.length;
    return text_append(&rows->texts, "", 1, err);
}

static cohort_status keep(struct store_rows *rows, const char *text, struct kept_text *kept, cohort_error *err)
{
    const struct store_text whole = {text, text == NULL ? 0 : strlen(text)};
    return keep_bytes(rows, whole, kept, err);
}

cohort_status store_rows_metric(struct store_rows *rows, const char *name, double value, cohort_error *err)
{
    struct kept_text kept;
    TRY(mem_grow(&rows->metrics, &rows->metrics_room, rows->n_metrics + 1, sizeof *rows->metrics, "metrics", err));
    TRY(keep(rows, name, &kept, err));
    rows->metrics[rows->n_metrics].name = kept.at;
    rows->metrics[rows->n_metrics++].value = value;
    return COHORT_OK;
}

static cohort_status keep_turns(struct store_rows *rows, const struct store_completion *completion, cohort_error *err)
{
    const size_t n = completion->n_turns, first = rows->n_turns;
    TRY(mem_grow(&rows->turns, &rows->turns_room, first + n, sizeof *rows->turns, "turns", err));
    for (size_t i = 0; i < n; i++) {
        const struct store_turn *turn = &completion->turns[i];
        struct store_kept_turn *kept = &rows->turns[first + i];
        TRY(keep_bytes(rows, turn->role, &kept->role, err));
        TRY(keep_bytes(rows, turn->name, &kept->name, err));
        TRY(keep_bytes(rows, turn->text, &kept->text, err));
        kept->tokens = turn->tokens;
    }
    return COHORT_OK;
}

cohort_status store_rows_completion(struct store_rows *rows, const struct store_completion *completion,
                                    cohort_error *err)
{
    struct store_kept kept = {.group = completion->group,
                              .index = completion->index,
                              .row = completion->row,
                              .tokens = completion->tokens,
                              .finish = completion->finish,
                              .logp = completion->logp,
                              .reward = completion->reward,
                              .advantage = completion->advantage,
                              .first_score = rows->n_scores,
                              .n_scores = completion->n_scores,
                              .first_turn = rows->n_turns,
                              .n_turns = completion->n_turns};
    const size_t scores = rows->n_scores + completion->n_scores;
    TRY(mem_grow(&rows->completions, &rows->completions_room, rows->n_completions + 1, sizeof *rows->completions,
                 "completions", err));
    TRY(mem_grow(&rows->scores, &rows->scores_room, scores, sizeof *rows->scores, "rewards", err));
    TRY(keep_bytes(rows, completion->set, &kept.set, err));
    TRY(keep_bytes(rows, completion->prompt, &kept.prompt, err));
    TRY(keep_bytes(rows, completion->text, &kept.text, err));
    TRY(keep_bytes(rows, completion->thinking, &kept.thinking, err));
    TRY(keep_bytes(rows, completion->tools, &kept.tools, err));
    TRY(keep_bytes(rows, completion->extra, &kept.extra, err));
    for (size_t i = 0; i < completion->n_scores; i++) {
        struct kept_text name;
        TRY(keep(rows, completion->names[i], &name, err));
        rows->scores[kept.first_score + i].name = name.at;
        rows->scores[kept.first_score + i].value = completion->scores[i];
    }
    TRY(keep_turns(rows, completion, err));
    rows->n_scores = scores;
    rows->n_turns += completion->n_turns;
    rows->completions[rows->n_completions++] = kept;
    return COHORT_OK;
}

cohort_status store_rows_event(struct store_rows *rows, const struct store_event *event, cohort_error *err)
{
    struct store_kept_event kept = {.step = event->step, .time = event->time};
    TRY(mem_grow(&rows->events, &rows->events_room, rows->n_events + 1, sizeof *rows->events, "events", err));
    TRY(keep(rows, event->kind, &kept.kind, err));
    TRY(keep(rows, event->rule == NULL ? "" : event->rule, &kept.rule, err));
    TRY(keep(rows, event->severity == NULL ? "" : event->severity, &kept.severity, err));
    TRY(keep(rows, event->text, &kept.text, err));
    TRY(keep(rows, event->json, &kept.json, err));
    rows->events[rows->n_events++] = kept;
    return COHORT_OK;
}

/* ---- writing ---- */

/* All return SQLITE_OK or what went wrong. */
#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        const int check_code_ = (call);                                                                                \
        if (check_code_ != SQLITE_OK && check_code_ != SQLITE_DONE)                                                    \
            return check_code_;                                                                                        \
    } while (0)

static int bind_number(sqlite3_stmt *s, int at, double value)
{
    return isnan(value) ? sqlite3_bind_null(s, at) : sqlite3_bind_double(s, at, value);
}

static int bind_text(sqlite3_stmt *s, int at, const struct store_rows *rows, struct kept_text text)
{
    return text.length < 0 ? sqlite3_bind_null(s, at)
                           : sqlite3_bind_text64(s, at, rows->texts.data + text.at, (sqlite3_uint64)text.length,
                                                 SQLITE_STATIC, SQLITE_UTF8);
}

#define STATEMENT(name, id)                                                                                            \
    int name##_code = SQLITE_OK;                                                                                       \
    sqlite3_stmt *name = store_db_statement(db, id, &name##_code);                                                     \
    if (name == NULL)                                                                                                  \
    return name##_code

/* *id = the row that a statement finds. */
static int find_id(sqlite3_stmt *find, int64_t *id)
{
    int code = sqlite3_step(find);
    if (code == SQLITE_ROW) {
        *id = sqlite3_column_int64(find, 0);
        code = SQLITE_OK;
    } else if (code == SQLITE_DONE)
        code = SQLITE_CORRUPT; /* it was just added */
    const int reset = sqlite3_reset(find);
    return code != SQLITE_OK ? code : reset;
}

static int name_id(struct store_db *db, const char *name, size_t length, int64_t *id)
{
    *id = 0;
    if (length == 0)
        return SQLITE_OK;
    STATEMENT(add, STORE_NAME_ADD);
    CHECK(sqlite3_bind_text64(add, 1, name, length, SQLITE_STATIC, SQLITE_UTF8));
    CHECK(store_db_step(add));
    STATEMENT(find, STORE_NAME_FIND);
    CHECK(sqlite3_bind_text64(find, 1, name, length, SQLITE_STATIC, SQLITE_UTF8));
    return find_id(find, id);
}

static int prompt_id(struct store_db *db, const struct store_rows *rows, struct kept_text text, int64_t *id)
{
    struct hash hash;
    char hex[HASH_HEX];
    hash_begin(&hash);
    if (text.length > 0)
        hash_add(&hash, rows->texts.data + text.at, (size_t)text.length);
    hash_end(&hash, hex);
    STATEMENT(find_first, STORE_PROMPT_FIND);
    CHECK(sqlite3_bind_blob(find_first, 1, hex, HASH_BYTES, SQLITE_STATIC));
    const int first = sqlite3_step(find_first);
    if (first == SQLITE_ROW)
        *id = sqlite3_column_int64(find_first, 0);
    CHECK(sqlite3_reset(find_first));
    if (first == SQLITE_ROW)
        return SQLITE_OK;
    STATEMENT(add, STORE_PROMPT_ADD);
    CHECK(sqlite3_bind_blob(add, 1, hex, HASH_BYTES, SQLITE_STATIC));
    CHECK(text.length < 0 ? sqlite3_bind_text(add, 2, "", 0, SQLITE_STATIC) : bind_text(add, 2, rows, text));
    CHECK(store_db_step(add));
    *id = sqlite3_last_insert_rowid(db->handle);
    return SQLITE_OK;
}

static int write_scores(struct store_db *db, const struct store_rows *rows, const struct store_kept *c, int64_t id)
{
    for (size_t i = c->first_score; i < c->first_score + c->n_scores; i++) {
        const char *name = rows->texts.data + rows->scores[i].name;
        int64_t name_of = 0;
        CHECK(name_id(db, name, strlen(name), &name_of));
        STATEMENT(score, STORE_SCORE);
        CHECK(sqlite3_bind_int64(score, 1, id));
        CHECK(sqlite3_bind_int64(score, 2, name_of));
        CHECK(bind_number(score, 3, rows->scores[i].value));
        CHECK(store_db_step(score));
    }
    return SQLITE_OK;
}

static int write_turns(struct store_db *db, const struct store_rows *rows, const struct store_kept *c, int64_t id)
{
    for (size_t i = 0; i < c->n_turns; i++) {
        const struct store_kept_turn *turn = &rows->turns[c->first_turn + i];
        STATEMENT(s, STORE_TURN);
        CHECK(sqlite3_bind_int64(s, 1, id));
        CHECK(sqlite3_bind_int64(s, 2, (int64_t)i));
        CHECK(bind_text(s, 3, rows, turn->role));
        CHECK(bind_text(s, 4, rows, turn->name));
        CHECK(bind_text(s, 5, rows, turn->text));
        CHECK(sqlite3_bind_int64(s, 6, turn->tokens));
        CHECK(store_db_step(s));
    }
    return SQLITE_OK;
}

static int write_completion(struct store_db *db, const struct store_rows *rows, const struct store_kept *c)
{
    int64_t set = 0, prompt = 0;
    CHECK(name_id(db, rows->texts.data + c->set.at, c->set.length < 0 ? 0 : (size_t)c->set.length, &set));
    CHECK(prompt_id(db, rows, c->prompt, &prompt));
    STATEMENT(drop, STORE_SCORE_DROP);
    CHECK(sqlite3_bind_int64(drop, 1, set));
    CHECK(sqlite3_bind_int64(drop, 2, rows->step));
    CHECK(sqlite3_bind_int64(drop, 3, c->group));
    CHECK(sqlite3_bind_int64(drop, 4, c->index));
    CHECK(store_db_step(drop));
    STATEMENT(s, STORE_COMPLETION);
    CHECK(sqlite3_bind_int64(s, 1, rows->step));
    CHECK(sqlite3_bind_int64(s, 2, set));
    CHECK(sqlite3_bind_int64(s, 3, c->group));
    CHECK(sqlite3_bind_int64(s, 4, c->index));
    CHECK(sqlite3_bind_int64(s, 5, c->row));
    CHECK(sqlite3_bind_int64(s, 6, prompt));
    CHECK(sqlite3_bind_text(s, 7, c->finish, -1, SQLITE_STATIC));
    CHECK(sqlite3_bind_int64(s, 8, c->tokens));
    CHECK(bind_number(s, 9, c->logp));
    CHECK(bind_number(s, 10, c->reward));
    CHECK(bind_number(s, 11, c->advantage));
    CHECK(c->text.length < 0 ? sqlite3_bind_text(s, 12, "", 0, SQLITE_STATIC) : bind_text(s, 12, rows, c->text));
    CHECK(bind_text(s, 13, rows, c->thinking));
    CHECK(bind_text(s, 14, rows, c->tools));
    CHECK(bind_text(s, 15, rows, c->extra));
    CHECK(store_db_step(s));
    const int64_t id = sqlite3_last_insert_rowid(db->handle);
    CHECK(write_scores(db, rows, c, id));
    return write_turns(db, rows, c, id);
}

static int write_metrics(struct store_db *db, const struct store_rows *rows)
{
    for (size_t i = 0; i < rows->n_metrics; i++) {
        const char *name = rows->texts.data + rows->metrics[i].name;
        int64_t id = 0;
        CHECK(name_id(db, name, strlen(name), &id));
        STATEMENT(metric, STORE_METRIC);
        CHECK(sqlite3_bind_int64(metric, 1, id));
        CHECK(sqlite3_bind_int64(metric, 2, rows->step));
        CHECK(bind_number(metric, 3, rows->metrics[i].value));
        CHECK(store_db_step(metric));
    }
    return SQLITE_OK;
}

static int write_events(struct store_db *db, const struct store_rows *rows)
{
    for (size_t i = 0; i < rows->n_events; i++) {
        const struct store_kept_event *event = &rows->events[i];
        STATEMENT(s, STORE_EVENT);
        CHECK(sqlite3_bind_int64(s, 1, event->step));
        CHECK(sqlite3_bind_double(s, 2, event->time));
        CHECK(bind_text(s, 3, rows, event->kind));
        CHECK(bind_text(s, 4, rows, event->rule));
        CHECK(bind_text(s, 5, rows, event->severity));
        CHECK(bind_text(s, 6, rows, event->text));
        CHECK(bind_text(s, 7, rows, event->json));
        CHECK(store_db_step(s));
    }
    return SQLITE_OK;
}

/* Removes completions beyond those that are kept. */
static int prune(struct store_db *db, int64_t step, int64_t keep_steps)
{
    static const enum store_statement drops[] = {STORE_PRUNE_SCORES, STORE_PRUNE_TURNS, STORE_PRUNE};
    for (size_t i = 0; i < sizeof drops / sizeof *drops; i++) {
        STATEMENT(drop, drops[i]);
        CHECK(sqlite3_bind_int64(drop, 1, step));
        CHECK(sqlite3_bind_int64(drop, 2, keep_steps));
        CHECK(store_db_step(drop));
    }
    return SQLITE_OK;
}

int store_rows_write(struct store_db *db, const struct store_rows *rows, int64_t keep_steps)
{
    if (rows->is_step) {
        STATEMENT(step, STORE_STEP);
        CHECK(sqlite3_bind_int64(step, 1, rows->step));
        CHECK(bind_number(step, 2, rows->epoch));
        CHECK(sqlite3_bind_double(step, 3, rows->time));
        CHECK(store_db_step(step));
    }
    CHECK(write_metrics(db, rows));
    if (rows->is_evaluation) {
        STATEMENT(evaluation, STORE_EVALUATION);
        CHECK(sqlite3_bind_int64(evaluation, 1, rows->step));
        CHECK(sqlite3_bind_double(evaluation, 2, rows->time));
        CHECK(bind_number(evaluation, 3, rows->evaluation_seconds));
        CHECK(store_db_step(evaluation));
    }
    for (size_t i = 0; i < rows->n_completions; i++)
        CHECK(write_completion(db, rows, &rows->completions[i]));
    CHECK(write_events(db, rows));
    if (keep_steps > 0 && rows->n_completions > 0)
        CHECK(prune(db, rows->step, keep_steps));
    STATEMENT(updated, STORE_UPDATED);
    CHECK(sqlite3_bind_double(updated, 1, rows->time));
    CHECK(store_db_step(updated));
    return SQLITE_OK;
}
