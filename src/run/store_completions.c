/* The completions of a run, found by what a query asks for and shown page by page. */
#include "run/store_read.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PAGE = 64, TEXTS = 7 };

const cohort_completion_query store_all_completions = {.size = sizeof store_all_completions,
                                                       .set = "",
                                                       .first_step = 0,
                                                       .last_step = INT64_MAX,
                                                       .group = -1,
                                                       .index = -1,
                                                       .reward_below = (double)NAN,
                                                       .reward_above = (double)NAN};

/* A completion of a page, with the places of its texts. */
struct found {
    int64_t id, set_id;
    size_t at[TEXTS];
    int64_t length[TEXTS];
    size_t first_score, n_scores;
    cohort_stored_completion shown;
};

struct completion_page {
    struct found items[PAGE];
    int n;
    struct text texts;
    cohort_metric *scores;
    size_t *score_names; /* places in texts */
    size_t n_scores, room[2];
};

/* ---- the query as SQL ---- */

static cohort_status add(struct text *sql, const char *part, cohort_error *err)
{
    return text_append(sql, part, strlen(part), err);
}

static cohort_status add_conditions(const cohort_completion_query *q, struct text *sql, cohort_error *err)
{
    const bool ranged = !isnan(q->reward_below) || !isnan(q->reward_above);
    if (q->reward_name != NULL && ranged)
        TRY(add(sql,
                " JOIN score v ON v.completion_id = c.id AND v.name_id = (SELECT id FROM name WHERE name = :function)",
                err));
    /* The plus keeps the range of steps from being what the rows are found by where their order is that of rewards: all of
     * them would be sorted. Those of a few steps are: walking along all rewards to them would read the whole table. */
    enum { FEW_STEPS = 20 };
    const bool few = q->first_step >= 0 && q->last_step - q->first_step < FEW_STEPS;
    const bool by_reward = !few && (q->order == COHORT_BEST_FIRST || q->order == COHORT_WORST_FIRST);
    TRY(add(sql, by_reward ? " WHERE +c.step BETWEEN :first AND :last" : " WHERE c.step BETWEEN :first AND :last",
            err));
    if (q->set != NULL)
        TRY(add(sql, " AND c.set_id = ifnull((SELECT id FROM name WHERE name = :set), -1)", err));
    if (q->group >= 0)
        TRY(add(sql, " AND c.grp = :group", err));
    if (q->index >= 0)
        TRY(add(sql, " AND c.idx = :index", err));
    if (!isnan(q->reward_below))
        TRY(add(sql, q->reward_name != NULL ? " AND v.value < :below" : " AND c.reward < :below", err));
    if (!isnan(q->reward_above))
        TRY(add(sql, q->reward_name != NULL ? " AND v.value > :above" : " AND c.reward > :above", err));
    if (q->finish_reason != NULL)
        TRY(add(sql, " AND c.finish = :finish", err));
    if (q->search != NULL)
        TRY(add(sql, " AND c.text LIKE :search ESCAPE '\\'", err));
    return COHORT_OK;
}

static void bind_number(sqlite3_stmt *s, const char *name, double value)
{
    const int at = sqlite3_bind_parameter_index(s, name);
    if (at > 0)
        sqlite3_bind_double(s, at, value);
}

static void bind_integer(sqlite3_stmt *s, const char *name, int64_t value)
{
    const int at = sqlite3_bind_parameter_index(s, name);
    if (at > 0)
        sqlite3_bind_int64(s, at, value);
}

/* Every binding of a text may want memory. */
static cohort_status bind_text(struct store_reader *reader, sqlite3_stmt *s, const char *name, const char *value,
                               cohort_error *err)
{
    const int at = sqlite3_bind_parameter_index(s, name);
    const int code = at > 0 ? sqlite3_bind_text(s, at, value, -1, SQLITE_TRANSIENT) : SQLITE_OK;
    return code == SQLITE_OK ? COHORT_OK : store_db_error(&reader->db, code, "read", err);
}

/* What LIKE takes for a text that stands anywhere. */
static cohort_status like(const char *text, struct text *out, cohort_error *err)
{
    TRY(text_append(out, "%", 1, err));
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '%' || *at == '_' || *at == '\\')
            TRY(text_append(out, "\\", 1, err));
        TRY(text_append(out, at, 1, err));
    }
    return text_append(out, "%", 1, err);
}

static cohort_status bind_conditions(struct store_reader *reader, sqlite3_stmt *s, const cohort_completion_query *q,
                                     cohort_error *err)
{
    struct text pattern = {0};
    cohort_status status = COHORT_OK;
    bind_integer(s, ":first", q->first_step);
    bind_integer(s, ":last", q->last_step);
    bind_integer(s, ":group", q->group);
    bind_integer(s, ":index", q->index);
    bind_number(s, ":below", q->reward_below);
    bind_number(s, ":above", q->reward_above);
    if (q->set != NULL)
        TRY_GOTO(bind_text(reader, s, ":set", q->set, err));
    if (q->reward_name != NULL)
        TRY_GOTO(bind_text(reader, s, ":function", q->reward_name, err));
    if (q->finish_reason != NULL)
        TRY_GOTO(bind_text(reader, s, ":finish", q->finish_reason, err));
    if (q->search != NULL) {
        TRY_GOTO(like(q->search, &pattern, err));
        TRY_GOTO(bind_text(reader, s, ":search", pattern.data, err));
    }
cleanup:
    text_free(&pattern);
    return status;
}

/* Rows behind the last one of the page before, and their order. With one set the index gives them in order. */
static cohort_status add_order(const cohort_completion_query *q, bool begun, struct text *sql, cohort_error *err)
{
    switch (q->order) {
    case COHORT_NEWEST_FIRST:
        if (begun)
            TRY(add(sql,
                    q->set != NULL ? " AND (c.step, c.grp, c.idx) < (:step_, :group_, :index_)"
                                   : " AND (c.set_id, c.step, c.grp, c.idx) < (:set_, :step_, :group_, :index_)",
                    err));
        return add(sql, " ORDER BY c.set_id DESC, c.step DESC, c.grp DESC, c.idx DESC", err);
    case COHORT_BEST_FIRST:
        TRY(add(sql, " AND c.reward IS NOT NULL", err));
        if (begun)
            TRY(add(sql, " AND c.reward <= :reward_ AND (c.reward < :reward_ OR c.id < :id_)", err));
        return add(sql, " ORDER BY c.reward DESC, c.id DESC", err);
    case COHORT_WORST_FIRST:
        TRY(add(sql, " AND c.reward IS NOT NULL", err));
        if (begun)
            TRY(add(sql, " AND c.reward >= :reward_ AND (c.reward > :reward_ OR c.id > :id_)", err));
        return add(sql, " ORDER BY c.reward, c.id", err);
    case COHORT_BY_STEP:
    default:
        if (begun)
            TRY(add(sql,
                    q->set != NULL ? " AND (c.step, c.grp, c.idx) > (:step_, :group_, :index_)"
                                   : " AND (c.set_id, c.step, c.grp, c.idx) > (:set_, :step_, :group_, :index_)",
                    err));
        return add(sql, " ORDER BY c.set_id, c.step, c.grp, c.idx", err);
    }
}

/* ---- pages ---- */

static double column_number(sqlite3_stmt *s, int column)
{
    return sqlite3_column_type(s, column) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(s, column);
}

static cohort_status read_scores(struct store_reader *reader, sqlite3_stmt *s, struct completion_page *page,
                                 struct found *found, cohort_error *err)
{
    bool there = true;
    int64_t length = 0;
    found->first_score = page->n_scores;
    sqlite3_reset(s);
    sqlite3_bind_int64(s, 1, found->id);
    for (;;) {
        TRY(store_next(reader, s, &there, err));
        if (!there)
            break;
        TRY(mem_grow(&page->scores, &page->room[0], page->n_scores + 1, sizeof *page->scores, "rewards", err));
        TRY(mem_grow(&page->score_names, &page->room[1], page->n_scores + 1, sizeof *page->score_names, "rewards",
                     err));
        TRY(store_copy_column(reader, s, 0, &page->texts, &page->score_names[page->n_scores], &length, err));
        page->scores[page->n_scores++].value = column_number(s, 1);
    }
    found->n_scores = page->n_scores - found->first_score;
    return COHORT_OK;
}

static cohort_status take_row(struct store_reader *reader, sqlite3_stmt *s, struct completion_page *page,
                              cohort_error *err)
{
    struct found *found = &page->items[page->n];
    found->id = sqlite3_column_int64(s, 0);
    found->set_id = sqlite3_column_int64(s, 1);
    found->shown = (cohort_stored_completion){.size = sizeof found->shown,
                                              .step = sqlite3_column_int64(s, 2),
                                              .group = sqlite3_column_int64(s, 3),
                                              .index = sqlite3_column_int64(s, 4),
                                              .row = sqlite3_column_int64(s, 5),
                                              .tokens = sqlite3_column_int64(s, 6),
                                              .logprob = column_number(s, 7),
                                              .reward = column_number(s, 8),
                                              .advantage = column_number(s, 9)};
    for (int i = 0; i < TEXTS; i++)
        TRY(store_copy_column(reader, s, 10 + i, &page->texts, &found->at[i], &found->length[i], err));
    page->n++;
    return COHORT_OK;
}

static const char columns[] =
    "SELECT c.id, c.set_id, c.step, c.grp, c.idx, c.row, c.tokens, c.logp, c.reward, c.advantage, n.name, p.text, "
    "c.text, c.thinking, c.tools, c.extra, c.finish FROM completion c JOIN prompt p ON p.id = c.prompt_id JOIN name n "
    "ON n.id = c.set_id";

/* The next rows behind those of the page; page->n 0: there are no more. */
static cohort_status read_page(struct store_reader *reader, const cohort_completion_query *q, bool begun, int64_t rest,
                               struct completion_page *page, cohort_error *err)
{
    struct text sql = {0};
    sqlite3_stmt *s = NULL, *scores = NULL;
    const struct found last = page->n > 0 ? page->items[page->n - 1] : page->items[0];
    bool there = true;
    cohort_status status = COHORT_OK;
    TRY_GOTO(add(&sql, columns, err));
    TRY_GOTO(add_conditions(q, &sql, err));
    TRY_GOTO(add_order(q, begun, &sql, err));
    TRY_GOTO(add(&sql, " LIMIT :limit_ OFFSET :offset_", err));
    TRY_GOTO(store_prepare(reader, sql.data, &s, err));
    TRY_GOTO(bind_conditions(reader, s, q, err));
    bind_integer(s, ":limit_", rest < PAGE ? rest : PAGE);
    bind_integer(s, ":offset_", begun ? 0 : q->skip);
    bind_integer(s, ":set_", last.set_id);
    bind_integer(s, ":step_", last.shown.step);
    bind_integer(s, ":group_", last.shown.group);
    bind_integer(s, ":index_", last.shown.index);
    bind_integer(s, ":id_", last.id);
    bind_number(s, ":reward_", last.shown.reward);
    /* Rows are found by the range of steps: it must begin where the page does, not where the query did. */
    if (begun && q->set != NULL && q->order == COHORT_BY_STEP)
        bind_integer(s, ":first", last.shown.step);
    if (begun && q->set != NULL && q->order == COHORT_NEWEST_FIRST)
        bind_integer(s, ":last", last.shown.step);
    page->n = 0;
    page->n_scores = 0;
    page->texts.length = 0;
    while (page->n < PAGE) {
        TRY_GOTO(store_next(reader, s, &there, err));
        if (!there)
            break;
        TRY_GOTO(take_row(reader, s, page, err));
    }
    TRY_GOTO(store_prepare(reader,
                           "SELECT name.name, value FROM score JOIN name ON name.id = name_id WHERE completion_id = ?1 "
                           "ORDER BY name_id",
                           &scores, err));
    for (int i = 0; i < page->n; i++)
        TRY_GOTO(read_scores(reader, scores, page, &page->items[i], err));
cleanup:
    sqlite3_finalize(s);
    sqlite3_finalize(scores);
    text_free(&sql);
    return status;
}

/* Pointers are set when the page is whole: its texts may have moved until then. */
static const cohort_stored_completion *show(struct completion_page *page, int at)
{
    struct found *found = &page->items[at];
    cohort_stored_completion *c = &found->shown;
    const char **const fields[TEXTS] = {&c->set,        &c->prompt, &c->text,         &c->thinking,
                                        &c->tool_calls, &c->extra,  &c->finish_reason};
    size_t *const lengths[TEXTS] = {
        NULL, &c->prompt_length, &c->text_length, &c->thinking_length, &c->tool_calls_length, &c->extra_length, NULL};
    for (int i = 0; i < TEXTS; i++) {
        *fields[i] = found->length[i] < 0 ? NULL : page->texts.data + found->at[i];
        if (lengths[i] != NULL)
            *lengths[i] = found->length[i] < 0 ? 0 : (size_t)found->length[i];
    }
    for (size_t i = found->first_score; i < found->first_score + found->n_scores; i++)
        page->scores[i].name = page->texts.data + page->score_names[i];
    c->rewards = page->scores == NULL ? NULL : page->scores + found->first_score;
    c->n_rewards = found->n_scores;
    return c;
}

cohort_status store_read_completions(struct store_reader *reader, const cohort_completion_query *query,
                                     store_visit_completion *visit, void *context, cohort_error *err)
{
    struct completion_page *page = NULL;
    int64_t rest = query->limit > 0 ? query->limit : INT64_MAX;
    bool more = true;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&page, 1, sizeof *page, "completions", err));
    for (bool begun = false; more && rest > 0; begun = true) {
        TRY_GOTO(read_page(reader, query, begun, rest, page, err));
        const bool full = page->n == PAGE;
        rest -= page->n;
        for (int i = 0; i < page->n && more; i++)
            more = visit(context, show(page, i));
        more = more && full;
    }
cleanup:
    text_free(&page->texts);
    mem_free(page->scores);
    mem_free(page->score_names);
    mem_free(page);
    return status;
}

cohort_status store_read_count(struct store_reader *reader, const cohort_completion_query *query, int64_t *count,
                               cohort_error *err)
{
    struct text sql = {0};
    sqlite3_stmt *s = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    *count = 0;
    TRY_GOTO(add(&sql, "SELECT count(*) FROM completion c", err));
    TRY_GOTO(add_conditions(query, &sql, err));
    TRY_GOTO(store_prepare(reader, sql.data, &s, err));
    TRY_GOTO(bind_conditions(reader, s, query, err));
    TRY_GOTO(store_next(reader, s, &there, err));
    if (there)
        *count = sqlite3_column_int64(s, 0);
cleanup:
    sqlite3_finalize(s);
    text_free(&sql);
    return status;
}

/* ---- turns ---- */

struct kept_turn {
    int64_t index, tokens;
    size_t at[3];
    int64_t length[3];
};

cohort_status store_read_turns(struct store_reader *reader, int64_t step, const char *set, int64_t group, int64_t index,
                               store_visit_turn *visit, void *context, cohort_error *err)
{
    struct text texts = {0};
    struct kept_turn *turns = NULL;
    size_t n = 0, room = 0;
    sqlite3_stmt *s = NULL;
    bool there = true;
    cohort_status status = COHORT_OK;
    TRY_GOTO(store_prepare(reader,
                           "SELECT t.idx, t.tokens, t.role, t.name, t.text FROM turn t JOIN completion c ON c.id = "
                           "t.completion_id WHERE c.set_id = (SELECT id FROM name WHERE name = :set) AND c.step = "
                           ":step AND c.grp = :group AND c.idx = :index ORDER BY t.idx",
                           &s, err));
    TRY_GOTO(bind_text(reader, s, ":set", set, err));
    bind_integer(s, ":step", step);
    bind_integer(s, ":group", group);
    bind_integer(s, ":index", index);
    for (;;) {
        TRY_GOTO(store_next(reader, s, &there, err));
        if (!there)
            break;
        TRY_GOTO(mem_grow(&turns, &room, n + 1, sizeof *turns, "turns", err));
        turns[n].index = sqlite3_column_int64(s, 0);
        turns[n].tokens = sqlite3_column_int64(s, 1);
        for (int i = 0; i < 3; i++)
            TRY_GOTO(store_copy_column(reader, s, 2 + i, &texts, &turns[n].at[i], &turns[n].length[i], err));
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        const struct kept_turn *t = &turns[i];
        const cohort_stored_turn turn = {.size = sizeof turn,
                                         .index = t->index,
                                         .role = texts.data + t->at[0],
                                         .name = t->length[1] < 0 ? "" : texts.data + t->at[1],
                                         .text = texts.data + t->at[2],
                                         .text_length = (size_t)t->length[2],
                                         .tokens = t->tokens};
        if (!visit(context, &turn))
            break;
    }
cleanup:
    sqlite3_finalize(s);
    text_free(&texts);
    mem_free(turns);
    return status;
}
