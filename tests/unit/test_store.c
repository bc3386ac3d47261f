/* The record of a run: what was written is what cohort.h reads, a run that goes on has no step twice, and a file that is
 * locked, damaged or somebody else's ends well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "run/store.h"
#include "support/temporary_folder.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOOD(call)                                                                                                     \
    do {                                                                                                               \
        cohort_error err = {0};                                                                                        \
        const cohort_status status_ = (call);                                                                          \
        if (status_ != COHORT_OK)                                                                                      \
            fail_msg("%s: %s", #call, err.message);                                                                    \
    } while (0)

static struct store *begin(int64_t step, const char *checkpoint, int64_t keep, struct text *notes)
{
    static const struct store_input inputs[] = {{"data", "a.jsonl", "00"}, {"data", "b.jsonl", "11"}};
    struct store *store = NULL;
    struct text ours = {0};
    const struct store_start start = {.run = folder,
                                      .command = "grpo",
                                      .model = "model",
                                      .config = "steps: 3\n",
                                      .device = "CPU",
                                      .steps = 3,
                                      .step = step,
                                      .keep = keep,
                                      .checkpoint = checkpoint,
                                      .inputs = inputs,
                                      .n_inputs = 2};
    GOOD(store_open(&store, &start, notes == NULL ? &ours : notes, &err));
    text_free(&ours);
    return store;
}

/* A completion whose numbers say which one it is. */
static void add_completion(struct store *store, int64_t step, int64_t group, int64_t index, const char *set)
{
    static const char *const names[] = {"accuracy", "form"};
    const double scores[] = {(double)(index % 3), index == 1 ? (double)NAN : 0.5};
    char text[64], prompt[32];
    snprintf(text, sizeof text, "Step %d, group %d, 50%% of it%c%d", (int)step, (int)group, '\0', (int)index);
    snprintf(prompt, sizeof prompt, "prompt %d", (int)group);
    const struct store_turn turn = {.role = {"tool", 4}, .name = {"f", 1}, .text = {"42", 2}, .tokens = 2};
    const struct store_completion completion = {.set = {set, strlen(set)},
                                                .group = group,
                                                .index = index,
                                                .row = 100 + group,
                                                .prompt = {prompt, strlen(prompt)},
                                                .text = {text, strlen(text) + 2},
                                                .tools = {index == 0 ? "[]" : NULL, 2},
                                                .finish = index == 1 ? "length" : "eos",
                                                .tokens = 7,
                                                .logp = -1.25,
                                                .reward = index == 1 ? (double)NAN : (double)(10 * group + index),
                                                .advantage = set[0] == '\0' ? 0.25 : (double)NAN,
                                                .names = names,
                                                .scores = scores,
                                                .n_scores = 2,
                                                .turns = &turn,
                                                .n_turns = index == 0 ? 1 : 0};
    GOOD(store_completion(store, &completion, &err));
}

static void commit(struct store *store, int64_t step, double reward)
{
    const cohort_metric metrics[] = {{"reward", reward}, {"loss", step == 2 ? (double)NAN : 0.125}};
    const struct store_step row = {
        .step = step, .epoch = (double)step / 4, .metrics = metrics, .n_metrics = 2, .is_step = true, .evaluated = -1};
    GOOD(store_commit(store, &row, NULL, &err));
}

static void do_step(struct store *store, int64_t step, int groups)
{
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < 4; i++)
            add_completion(store, step, g, i, "");
    commit(store, step, (double)step / 10);
}

static cohort_store *look(void)
{
    cohort_store *store = NULL;
    GOOD(cohort_store_open(&store, folder, &err));
    return store;
}

struct seen {
    struct text text;
    int n, stop_at;
};

static bool see(struct seen *seen, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    assert_int_equal(text_append(&seen->text, line, strlen(line), NULL), COHORT_OK);
    return ++seen->n != seen->stop_at;
}

static bool see_step(void *context, const cohort_stored_step *step)
{
    struct seen *seen = context;
    see(seen, "%d:%g", (int)step->step, step->epoch);
    seen->n--;
    assert_true(step->time > 1e9);
    for (size_t i = 0; i < step->n_metrics; i++) {
        see(seen, " %s=%g", step->metrics[i].name, step->metrics[i].value);
        seen->n--;
    }
    return see(seen, "\n");
}

static bool see_completion(void *context, const cohort_stored_completion *c)
{
    assert_int_equal(c->size, sizeof *c);
    assert_int_equal(c->n_rewards, 2);
    assert_string_equal(c->rewards[0].name, "accuracy");
    assert_true(c->rewards[0].value == (double)(c->index % 3));
    assert_true(c->index == 1 ? isnan(c->rewards[1].value) && isnan(c->reward) : c->rewards[1].value == 0.5);
    assert_int_equal(c->text[c->text_length - 1], '0' + (int)c->index); /* behind the NUL */
    assert_null(c->thinking);
    assert_true((c->tool_calls != NULL) == (c->index == 0));
    assert_int_equal(c->row, 100 + c->group);
    assert_true(c->logprob == -1.25);
    return see(context, "%s%d/%d/%d ", c->set, (int)c->step, (int)c->group, (int)c->index);
}

static void expect(struct seen *seen, const char *wanted)
{
    assert_string_equal(seen->text.data == NULL ? "" : seen->text.data, wanted);
    text_free(&seen->text);
    memset(seen, 0, sizeof *seen);
}

/* What the query finds, and that as many are counted. */
static void finds(cohort_store *store, const cohort_completion_query *query, const char *wanted)
{
    struct seen seen = {0};
    int64_t count = 0;
    GOOD(cohort_store_completions(store, query, see_completion, &seen, &err));
    GOOD(cohort_store_count(store, query, &count, &err));
    if (query == NULL || (query->limit == 0 && query->skip == 0 && query->order < COHORT_BEST_FIRST))
        assert_int_equal(count, seen.n);
    expect(&seen, wanted);
}

static bool see_evaluation(void *context, const cohort_stored_evaluation *e)
{
    return see(context, "%d %zu %s ", (int)e->step, e->n_metrics, e->metrics[0].name);
}

static bool see_event(void *context, const cohort_stored_event *e)
{
    return see(context, "%d %d %s %s %s|", (int)e->id, (int)e->step, e->kind, e->text, e->json == NULL ? "" : e->json);
}

static bool see_input(void *context, const cohort_stored_input *i)
{
    return see(context, "%s %s %s|", i->kind, i->path, i->sha256);
}

static bool see_turn(void *context, const cohort_stored_turn *t)
{
    return see(context, "%d %s %s %s %d", (int)t->index, t->role, t->name, t->text, (int)t->tokens);
}

static bool see_row(void *context, const cohort_stored_row *row)
{
    for (size_t i = 0; i < row->n; i++)
        see(context, "%s=%s%c ", row->names[i], row->values[i] == NULL ? "null" : row->values[i], row->kinds[i]);
    return true;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct store *store = begin(-1, NULL, -1, NULL);
    struct seen seen = {0};
    const cohort_stored_run *run = NULL;
    bool changed = false;
    const cohort_metric figures[] = {{"eval_reward", 0.5}, {"eval_pass@1", 0.25}};
    do_step(store, 1, 2);
    do_step(store, 2, 1);
    add_completion(store, 2, 0, 0, "math");
    GOOD(store_commit(
        store, &(struct store_step){.step = 2, .epoch = NAN, .metrics = figures, .n_metrics = 2, .evaluated = 2.5},
        NULL, &err));
    GOOD(store_event(
        store, &(struct store_event){.step = 2, .kind = "warning", .rule = "C1", .text = "hm", .json = "{}"}, &err));
    GOOD(store_carry(store, folder, &err)); /* all is written */
    cohort_store *reader = look();
    GOOD(cohort_store_changed(reader, &changed, &err));
    assert_true(changed);
    GOOD(cohort_store_changed(reader, &changed, &err));
    assert_false(changed);
    GOOD(cohort_store_steps(reader, 0, INT64_MAX, see_step, &seen, &err));
    expect(&seen, "1:0.25 reward=0.1 loss=0.125\n2:0.5 reward=0.2 loss=nan eval_reward=0.5 eval_pass@1=0.25\n");
    GOOD(cohort_store_evaluations(reader, 0, 9, see_evaluation, &seen, &err));
    expect(&seen, "2 2 eval_reward ");
    GOOD(cohort_store_events(reader, 0, NULL, see_event, &seen, &err));
    expect(&seen, "1 2 warning hm {}|");
    GOOD(cohort_store_events(reader, 0, "pause", see_event, &seen, &err));
    expect(&seen, "");
    GOOD(cohort_store_inputs(reader, see_input, &seen, &err));
    expect(&seen, "data a.jsonl 00|data b.jsonl 11|");
    GOOD(cohort_store_turns(reader, 1, "", 1, 0, see_turn, &seen, &err));
    expect(&seen, "0 tool f 42 2");
    int64_t *steps = NULL;
    double *values = NULL;
    size_t n = 0;
    GOOD(cohort_store_curve(reader, "loss", 0, 99, &steps, &values, &n, &err));
    assert_int_equal(n, 2);
    assert_int_equal(steps[1], 2);
    assert_true(values[0] == 0.125 && isnan(values[1]));
    cohort_free(steps);
    cohort_free(values);
    GOOD(cohort_store_run(reader, &run, &err));
    assert_string_equal(run->status, "gone"); /* nobody holds the folder's lock */
    assert_int_equal(run->step, 2);
    assert_int_equal(run->steps, 3);
    assert_int_equal(run->starts, 1);
    GOOD(store_close(store, "failed", "no luck", &err));
    GOOD(cohort_store_changed(reader, &changed, &err));
    assert_true(changed);
    GOOD(cohort_store_run(reader, &run, &err));
    assert_string_equal(run->status, "failed");
    assert_string_equal(run->message, "no luck");
    assert_string_equal(run->config, "steps: 3\n");
    assert_true(run->ended >= run->created);
    cohort_store_close(reader);
}

static void test_queries(void **state)
{
    (void)state;
    struct store *store = begin(-1, NULL, -1, NULL);
    cohort_completion_query q;
    do_step(store, 1, 2);
    do_step(store, 2, 1);
    add_completion(store, 2, 0, 0, "math");
    commit(store, 2, 0.2);
    GOOD(store_close(store, "finished", NULL, &err));
    cohort_store *reader = look();
    finds(reader, NULL, "1/0/0 1/0/1 1/0/2 1/0/3 1/1/0 1/1/1 1/1/2 1/1/3 2/0/0 2/0/1 2/0/2 2/0/3 ");
    cohort_completion_query_init(&q);
    q.first_step = 2;
    finds(reader, &q, "2/0/0 2/0/1 2/0/2 2/0/3 ");
    q.set = "math";
    finds(reader, &q, "math2/0/0 ");
    q.set = "unknown";
    finds(reader, &q, "");
    q.set = NULL;
    finds(reader, &q, "2/0/0 2/0/1 2/0/2 2/0/3 math2/0/0 ");
    cohort_completion_query_init(&q);
    q.finish_reason = "length";
    q.order = COHORT_NEWEST_FIRST;
    finds(reader, &q, "2/0/1 1/1/1 1/0/1 ");
    cohort_completion_query_init(&q);
    q.reward_below = 3;
    q.reward_above = 0;
    finds(reader, &q, "1/0/2 2/0/2 ");
    q.reward_name = "accuracy";
    q.reward_above = 1;
    finds(reader, &q, "1/0/2 1/1/2 2/0/2 ");
    cohort_completion_query_init(&q);
    q.order = COHORT_BEST_FIRST;
    q.limit = 3;
    q.skip = 1;
    finds(reader, &q, "1/1/2 1/1/0 2/0/3 ");
    q.order = COHORT_WORST_FIRST;
    q.skip = 0;
    finds(reader, &q, "1/0/0 2/0/0 1/0/2 ");
    cohort_completion_query_init(&q);
    q.search = "GROUP 1, 50% of";
    finds(reader, &q, "1/1/0 1/1/1 1/1/2 1/1/3 ");
    q.search = "5_%";
    finds(reader, &q, "");
    cohort_completion_query_init(&q);
    q.group = 1;
    q.index = 2;
    finds(reader, &q, "1/1/2 ");
    cohort_store_close(reader);
}

/* Pages join without a seam, in every order. */
static void test_pages(void **state)
{
    (void)state;
    struct store *store = begin(-1, NULL, -1, NULL);
    for (int64_t step = 1; step <= 3; step++)
        do_step(store, step, 50); /* 600 completions */
    GOOD(store_close(store, "finished", NULL, &err));
    cohort_store *reader = look();
    for (int order = COHORT_BY_STEP; order <= COHORT_WORST_FIRST; order++)
        for (int set = 0; set < 2; set++) {
            struct seen seen = {0};
            cohort_completion_query q;
            cohort_completion_query_init(&q);
            q.order = (cohort_completion_order)order;
            q.set = set == 0 ? "" : NULL;
            GOOD(cohort_store_completions(reader, &q, see_completion, &seen, &err));
            assert_int_equal(seen.n, order < COHORT_BEST_FIRST ? 600 : 450);
            const char *text = seen.text.data;
            for (const char *at = text; *at != '\0'; at = strchr(at, ' ') + 1) { /* none comes twice */
                char one[32] = " ";
                memcpy(one + 1, at, (size_t)(strchr(at, ' ') + 1 - at));
                assert_null(strstr(at, one));
            }
            text_free(&seen.text);
            seen = (struct seen){.stop_at = 70};
            GOOD(cohort_store_completions(reader, &q, see_completion, &seen, &err));
            assert_int_equal(seen.n, 70);
            text_free(&seen.text);
        }
    cohort_store_close(reader);
}

static const char all_metrics[] = "SELECT step, name, value FROM metrics ORDER BY step, name";
static const char all_texts[] = "SELECT step, \"group\", \"index\", prompt, reward FROM completions ORDER BY 1, 2, 3";

static void answers(const char *sql, const char *other_folder, struct seen *seen)
{
    cohort_store *reader = NULL;
    GOOD(cohort_store_open(&reader, other_folder, &err));
    GOOD(cohort_store_sql(reader, sql, NULL, see_row, seen, &err));
    cohort_store_close(reader);
}

/* A run that was stopped after step 3 and goes on from the checkpoint of step 1 ends as one that never stopped. */
static void test_resume(void **state)
{
    (void)state;
    struct seen whole[2] = {{{0}, 0, 0}, {{0}, 0, 0}}, resumed = {0};
    struct store *store = begin(-1, NULL, -1, NULL);
    for (int64_t step = 1; step <= 3; step++)
        do_step(store, step, 2);
    GOOD(store_close(store, "finished", NULL, &err));
    answers(all_metrics, folder, &whole[0]);
    answers(all_texts, folder, &whole[1]);
    store = begin(1, NULL, -1, NULL);
    cohort_store *reader = look();
    struct seen seen = {0};
    GOOD(cohort_store_sql(reader, "SELECT max(step) FROM step UNION ALL SELECT count(*) FROM score", NULL, see_row,
                          &seen, &err));
    expect(&seen, "max(step)=1i max(step)=16i ");
    cohort_store_close(reader);
    for (int64_t step = 2; step <= 3; step++)
        do_step(store, step, 2);
    GOOD(store_close(store, "finished", NULL, &err));
    answers(all_metrics, folder, &resumed);
    expect(&resumed, whole[0].text.data);
    answers(all_texts, folder, &resumed);
    expect(&resumed, whole[1].text.data);
    text_free(&whole[0].text);
    text_free(&whole[1].text);
}

static void test_keep(void **state)
{
    (void)state;
    struct store *store = begin(-1, NULL, 2, NULL);
    for (int64_t step = 1; step <= 5; step++)
        do_step(store, step, 1);
    GOOD(store_close(store, "finished", NULL, &err));
    cohort_store *reader = look();
    struct seen seen = {0};
    finds(reader, NULL, "4/0/0 4/0/1 4/0/2 4/0/3 5/0/0 5/0/1 5/0/2 5/0/3 ");
    GOOD(cohort_store_sql(reader,
                          "SELECT (SELECT count(*) FROM score) s, (SELECT count(*) FROM turn) t, (SELECT count(*) "
                          "FROM step) n",
                          NULL, see_row, &seen, &err));
    expect(&seen, "s=16i t=2i n=5i ");
    cohort_store_close(reader);
}

/* What cannot be written waits, and a checkpoint carries it. */
static void test_locked(void **state)
{
    (void)state;
    struct store *store = begin(-1, NULL, -1, NULL);
    struct store_db other = {0};
    struct text notes = {0};
    struct seen seen = {0};
    do_step(store, 1, 1);
    GOOD(store_carry(store, folder, &err));
    GOOD(store_db_open(&other, in_folder("run.db"), &err));
    sqlite3_busy_timeout(other.handle, 0);
    GOOD(store_db_run(&other, "BEGIN IMMEDIATE", &err));
    do_step(store, 2, 1);
    assert_int_equal(mkdir(in_folder("checkpoint"), 0777), 0);
    assert_int_equal(mkdir(in_folder("checkpoint/trainer"), 0777), 0);
    GOOD(store_carry(store, in_folder("checkpoint"), &err)); /* waits for the lock, in vain */
    assert_true(is_there(in_folder("checkpoint/trainer/unwritten.db")));
    do_step(store, 3, 1);
    GOOD(store_take_notes(store, &notes, &err));
    assert_non_null(strstr(notes.data, "another program has run.db locked"));
    text_free(&notes);
    GOOD(store_db_run(&other, "ROLLBACK", &err));
    store_db_close(&other);
    GOOD(store_close(store, "stopped", NULL, &err)); /* now all is there, in order */
    answers("SELECT step FROM step ORDER BY step", folder, &seen);
    expect(&seen, "step=1i step=2i step=3i ");
    /* As if it had died with step 2 waiting. */
    GOOD(store_db_open(&other, in_folder("run.db"), &err));
    GOOD(store_db_run(&other,
                      "DELETE FROM step WHERE step > 1; DELETE FROM metric WHERE step > 1; DELETE FROM score; "
                      "DELETE FROM completion WHERE step > 1; DELETE FROM name WHERE name = 'form'",
                      &err));
    store_db_close(&other);
    for (int i = 0; i < 2; i++) { /* twice from the same checkpoint */
        store = begin(2, in_folder("checkpoint"), -1, NULL);
        GOOD(store_close(store, "stopped", NULL, &err));
        answers("SELECT (SELECT count(*) FROM step) n, (SELECT count(*) FROM completion WHERE step = 2) c, (SELECT "
                "group_concat(name || ifnull(value, '-')) FROM scores WHERE step = 2 AND \"index\" = 1) s",
                folder, &seen);
        expect(&seen, "n=2i c=4i s=accuracy1.0,form-t ");
    }
}

static void write_metrics_file(void)
{
    put("metrics.jsonl", "{\"step\": 1, \"epoch\": 0.25, \"reward\": 0.1, \"loss\": 0.125}\n"
                         "{\"step\": 2, \"epoch\": 0.5, \"reward\": 0.2, \"loss\": null}\n");
}

static void test_damaged(void **state)
{
    (void)state;
    struct store *store = begin(-1, NULL, -1, NULL);
    struct text notes = {0}, bytes = {0};
    struct seen seen = {0};
    do_step(store, 1, 4);
    do_step(store, 2, 4);
    GOOD(store_close(store, "stopped", NULL, &err));
    write_metrics_file();
    GOOD(file_read(in_folder("run.db"), 0, &bytes, &err));
    assert_true(bytes.length > 40000);
    memset(bytes.data + 20000, 0x5a, 20000);
    GOOD(file_write_atomic(in_folder("run.db"), bytes.data, bytes.length, &err));
    text_free(&bytes);
    store = begin(2, NULL, -1, &notes);
    assert_non_null(strstr(notes.data, "run.db.broken-"));
    text_free(&notes);
    do_step(store, 3, 1);
    GOOD(store_close(store, "finished", NULL, &err));
    answers("SELECT step, name, value FROM metrics WHERE step < 3 ORDER BY step, name", folder, &seen);
    expect(&seen, "step=1i name=losst value=0.125d step=1i name=rewardt value=0.1d step=2i name=losst value=nulln "
                  "step=2i name=rewardt value=0.2d ");
}

/* A run of an older version has metrics.jsonl alone. */
static void test_refilled(void **state)
{
    (void)state;
    struct text notes = {0};
    struct seen seen = {0};
    write_metrics_file();
    GOOD(store_close(begin(1, NULL, -1, &notes), "stopped", NULL, &err));
    assert_non_null(strstr(notes.data, "lacked 1 steps up to 1"));
    text_free(&notes);
    answers(all_metrics, folder, &seen);
    expect(&seen, "step=1i name=losst value=0.125d step=1i name=rewardt value=0.1d ");
}

/* What the file says that it is; refused by writer and reader with a message that has why. */
static void foreign(const char *sql, const char *why)
{
    const struct store_start start = {.run = folder, .command = "grpo", .step = -1};
    struct store_db db = {0};
    struct store *store = NULL;
    struct text notes = {0};
    cohort_store *reader = NULL;
    cohort_error refused = {0};
    GOOD(store_db_open(&db, in_folder("run.db"), &err));
    GOOD(store_db_run(&db, sql, &err));
    store_db_close(&db);
    assert_int_equal(store_open(&store, &start, &notes, &refused), COHORT_ERR_UNSUPPORTED);
    assert_non_null(strstr(refused.message, why));
    assert_int_equal(cohort_store_open(&reader, folder, &refused), COHORT_ERR_UNSUPPORTED);
    assert_non_null(strstr(refused.message, why));
    assert_null(store);
    text_free(&notes);
    assert_int_equal(unlink(in_folder("run.db")), 0);
}

static void test_foreign(void **state)
{
    (void)state;
    cohort_store *reader = NULL;
    cohort_error refused = {0};
    assert_int_equal(cohort_store_open(&reader, folder, &refused), COHORT_ERR_IO);
    assert_non_null(strstr(refused.message, "has no run.db"));
    foreign("PRAGMA user_version = 99", "version 99");
    foreign("PRAGMA application_id = 7", "of another program");
}

static void test_sql(void **state)
{
    (void)state;
    static const char *const refused[] = {"DELETE FROM step",
                                          "PRAGMA journal_mode = DELETE",
                                          "ATTACH '/tmp/x.db' AS x",
                                          "SELECT 1; DELETE FROM step",
                                          "INSERT INTO step VALUES(9, 1, 1)",
                                          "BEGIN",
                                          "",
                                          "SELECT nothing FROM nowhere",
                                          "SELECT load_extension('x')",
                                          "WITH a AS (SELECT 1) DELETE FROM step",
                                          "VACUUM"};
    struct store *store = begin(-1, NULL, -1, NULL);
    struct seen seen = {0};
    do_step(store, 1, 1);
    GOOD(store_close(store, "finished", NULL, &err));
    cohort_store *reader = look();
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cohort_error err = {0};
        if (cohort_store_sql(reader, refused[i], NULL, see_row, &seen, &err) != COHORT_ERR_ARGUMENT)
            fail_msg("'%s' was not refused: %s", refused[i], err.message);
    }
    GOOD(cohort_store_sql(reader, "SELECT step, NULL AS n, 'x' || step AS t FROM step; ", NULL, see_row, &seen, &err));
    expect(&seen, "step=1i n=nulln t=x1t ");
    cohort_stop *stop = NULL;
    GOOD(cohort_stop_create(&stop, &err));
    cohort_stop_trigger(stop);
    cohort_error err = {0};
    assert_int_equal(
        cohort_store_sql(reader,
                         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", stop,
                         see_row, &seen, &err),
        COHORT_ERR_CANCELLED);
    cohort_stop_destroy(stop);
    cohort_store_close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_round_trip, setup), cmocka_unit_test_setup(test_queries, setup),
        cmocka_unit_test_setup(test_pages, setup),      cmocka_unit_test_setup(test_resume, setup),
        cmocka_unit_test_setup(test_keep, setup),       cmocka_unit_test_setup(test_locked, setup),
        cmocka_unit_test_setup(test_damaged, setup),    cmocka_unit_test_setup(test_refilled, setup),
        cmocka_unit_test_setup(test_foreign, setup),    cmocka_unit_test_setup(test_sql, setup)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
