#include "run/store.h"

#include "run/store_begin.h"

#include "base/clock.h"
#include "base/file.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    QUEUE_BYTES = 64 << 20,
    STACK_BYTES = 512 << 10,
    PAGE_BYTES = 8192,
    WAL_PAGES = (16 << 20) / PAGE_BYTES,      /* beyond which it is written back */
    WAL_MANY_PAGES = (256 << 20) / PAGE_BYTES /* a reader keeps it from being written back */
};

struct store {
    struct store_db db;
    struct store_start start;    /* with copies of its texts; step: the last that was handed over */
    struct store_rows *gathered; /* of the transaction to come; NULL: nothing yet */
    bool incomplete;             /* a row of it could not be kept */
    double spent;                /* seconds of the caller's thread */

    pthread_mutex_t lock; /* of everything below, and of db while a thread runs */
    pthread_cond_t work, done;
    pthread_t thread;
    bool threaded, stop, again, busy;
    bool failing;
    int failed_code;
    cohort_error why;
    struct store_rows *first, **last; /* handed over, in order */
    size_t waiting;                   /* bytes of them */
    struct text notes;
    bool told_locked, told_wal;
    double behind;
    int wal_pages;
};

/* ---- the database ---- */

static int count_wal(void *context, sqlite3 *handle, const char *name, int pages)
{
    struct store *store = context;
    (void)handle;
    (void)name;
    store->wal_pages = pages;
    return SQLITE_OK;
}

/* One transaction; a failure has changed nothing. */
static int write_once(struct store_db *db, const struct store_rows *rows, int64_t keep)
{
    int code = SQLITE_OK;
    sqlite3_stmt *begin = store_db_statement(db, STORE_BEGIN, &code);
    if (begin == NULL)
        return code;
    code = store_db_step(begin);
    if (code != SQLITE_DONE)
        return code;
    code = store_rows_write(db, rows, keep);
    if (code == SQLITE_OK) {
        sqlite3_stmt *commit = store_db_statement(db, STORE_COMMIT, &code);
        if (commit != NULL)
            code = store_db_step(commit);
    }
    if (code == SQLITE_DONE)
        return SQLITE_OK;
    if (!sqlite3_get_autocommit(db->handle)) /* some failures have rolled back already */
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

static void note(struct store *store, const char *text) { (void)text_printf(&store->notes, NULL, "%s\n", text); }

/* A damaged database is set aside, and a new one goes on from what metrics.jsonl has. */
static int replace_damaged(struct store *store)
{
    cohort_error why = {0};
    struct text notes = {0};
    struct store_start start = store->start;
    start.checkpoint = NULL;
    cohort_status status = store_begin_anew(&store->db, &start, &notes, &why);
    if (status == COHORT_OK)
        sqlite3_wal_hook(store->db.handle, count_wal, store);
    else
        (void)text_printf(&notes, NULL, "note: %s\n", why.message);
    pthread_mutex_lock(&store->lock);
    if (notes.length > 0)
        (void)text_append(&store->notes, notes.data, notes.length, NULL);
    pthread_mutex_unlock(&store->lock);
    text_free(&notes);
    return status == COHORT_OK ? SQLITE_OK : SQLITE_CORRUPT;
}

/* What failed by chance goes well the second time. */
static int write_rows(struct store *store, const struct store_rows *rows)
{
    int code = store->db.handle == NULL ? SQLITE_CORRUPT : write_once(&store->db, rows, store->start.keep);
    bool again = code == SQLITE_NOMEM || (code & 0xff) == SQLITE_IOERR;
    if (store_db_is_damage(code)) {
        code = replace_damaged(store);
        again = code == SQLITE_OK;
    }
    if (again)
        code = write_once(&store->db, rows, store->start.keep);
    if (code == SQLITE_OK && store->wal_pages > WAL_PAGES) {
        int in_wal = 0, moved = 0;
        (void)sqlite3_wal_checkpoint_v2(store->db.handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_wal, &moved);
        if (in_wal - moved > WAL_MANY_PAGES && !store->told_wal) {
            store->told_wal = true;
            pthread_mutex_lock(&store->lock);
            note(store, "note: a program has been reading run.db for long in one transaction, which makes run.db-wal "
                        "grow; end it, or the disk fills up");
            pthread_mutex_unlock(&store->lock);
        }
    }
    return code;
}

/* With the lock held: writes the first of what waits, without the lock. */
static void write_first(struct store *store)
{
    struct store_rows *rows = store->first;
    cohort_error why = {0};
    store->busy = true;
    store->again = false;
    pthread_mutex_unlock(&store->lock);
    const double begin = clock_seconds();
    const int code = write_rows(store, rows);
    if (code != SQLITE_OK)
        (void)store_db_error(&store->db, code, "write", &why);
    const double seconds = clock_seconds() - begin;
    pthread_mutex_lock(&store->lock);
    store->behind += seconds;
    store->busy = false;
    store->failing = code != SQLITE_OK;
    store->failed_code = code;
    if (store->failing) {
        store->why = why;
    } else {
        store->first = rows->next;
        store->last = store->first == NULL ? &store->first : store->last;
        store->waiting -= store_rows_bytes(rows);
        store_rows_free(rows);
        mem_free(rows);
    }
    pthread_cond_broadcast(&store->done);
}

static void *work(void *context)
{
    struct store *store = context;
    pthread_mutex_lock(&store->lock);
    while (!store->stop) {
        if (store->first != NULL && (!store->failing || store->again))
            write_first(store);
        else
            pthread_cond_wait(&store->work, &store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* Without a thread the caller writes. */
static void start_thread(struct store *store)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0)
        return;
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the host's */
    store->threaded = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 &&
                      pthread_create(&store->thread, &attributes, work, store) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static bool is_locked_out(const struct store *store)
{
    const int code = store->failed_code & 0xff;
    return store->failing && (code == SQLITE_BUSY || code == SQLITE_LOCKED);
}

/* With the lock held: has what waits written, all of it or until no more than most bytes wait. */
static void drain(struct store *store, size_t most)
{
    store->again = true;
    pthread_cond_signal(&store->work);
    while (store->first != NULL && store->waiting > most && (!store->failing || store->again || store->busy)) {
        if (store->threaded)
            pthread_cond_wait(&store->done, &store->lock);
        else
            write_first(store);
    }
}

/* ---- opening and closing ---- */

static cohort_status copy_text(const char **out, const char *text, cohort_error *err)
{
    char *copy = NULL;
    if (text != NULL)
        TRY(mem_strdup(&copy, text, strlen(text), err));
    *out = copy;
    return COHORT_OK;
}

static cohort_status copy_start(struct store_start *to, const struct store_start *from, cohort_error *err)
{
    *to = *from;
    to->run = to->command = to->model = to->config = to->device = to->parent = to->checkpoint = NULL;
    to->inputs = NULL;
    TRY(copy_text(&to->run, from->run, err));
    TRY(copy_text(&to->command, from->command, err));
    TRY(copy_text(&to->model, from->model, err));
    TRY(copy_text(&to->config, from->config, err));
    TRY(copy_text(&to->device, from->device, err));
    TRY(copy_text(&to->parent, from->parent, err));
    struct store_input *inputs = NULL;
    TRY(mem_alloc(&inputs, from->n_inputs, sizeof *inputs, "inputs", err));
    to->inputs = inputs;
    for (size_t i = 0; i < from->n_inputs; i++) {
        TRY(copy_text(&inputs[i].kind, from->inputs[i].kind, err));
        TRY(copy_text(&inputs[i].path, from->inputs[i].path, err));
        TRY(copy_text(&inputs[i].sha256, from->inputs[i].sha256, err));
    }
    return COHORT_OK;
}

/* What is a copy of ours is const for its readers alone. */
static void free_copy(const void *copy)
{
    void *block = NULL;
    memcpy(&block, &copy, sizeof block);
    mem_free(block);
}

static void free_start(struct store_start *start)
{
    const char *const texts[] = {start->run, start->command, start->model, start->config, start->device, start->parent};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free_copy(texts[i]);
    for (size_t i = 0; start->inputs != NULL && i < start->n_inputs; i++) {
        free_copy(start->inputs[i].kind);
        free_copy(start->inputs[i].path);
        free_copy(start->inputs[i].sha256);
    }
    free_copy(start->inputs);
    memset(start, 0, sizeof *start);
}

cohort_status store_open(struct store **out, const struct store_start *start, struct text *notes, cohort_error *err)
{
    struct store *store = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&store, 1, sizeof *store, "store", err));
    store->last = &store->first;
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->work, NULL);
    pthread_cond_init(&store->done, NULL);
    TRY_GOTO(copy_start(&store->start, start, err));
    TRY_GOTO(store_begin(&store->db, start, notes, err));
    sqlite3_wal_hook(store->db.handle, count_wal, store);
    start_thread(store);
    *out = store;
    store = NULL;
cleanup:
    if (store != NULL) {
        store_db_close(&store->db);
        free_start(&store->start);
        mem_free(store);
    }
    return status;
}

cohort_status store_close(struct store *store, const char *outcome, const char *message, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    if (store == NULL)
        return COHORT_OK;
    store_discard(store);
    pthread_mutex_lock(&store->lock);
    drain(store, 0);
    store->stop = true;
    if (store->first != NULL) {
        status = error_set(err, store->why.status, "%s", store->why.message);
        error_context(err,
                      "the last rows of the run are not in its record (a checkpoint may carry them: --resume takes "
                      "them from there)");
    }
    pthread_cond_broadcast(&store->work);
    pthread_mutex_unlock(&store->lock);
    if (store->threaded)
        pthread_join(store->thread, NULL);
    if (store->db.handle != NULL && status == COHORT_OK)
        store_end(&store->db, outcome, message == NULL ? "" : message);
    while (store->first != NULL) {
        struct store_rows *rows = store->first;
        store->first = rows->next;
        store_rows_free(rows);
        mem_free(rows);
    }
    store_db_close(&store->db);
    text_free(&store->notes);
    free_start(&store->start);
    pthread_cond_destroy(&store->done);
    pthread_cond_destroy(&store->work);
    pthread_mutex_destroy(&store->lock);
    mem_free(store);
    return status;
}

/* Closing the connection would write the parent's WAL back; its memory goes with the process. */
void store_leave(struct store *store) { (void)store; }

/* ---- gathering ---- */

bool store_keeps_completions(const struct store *store) { return store != NULL && store->start.keep != 0; }

static cohort_status gather(struct store *store, cohort_error *err)
{
    return store->gathered != NULL ? COHORT_OK
                                   : mem_alloc(&store->gathered, 1, sizeof *store->gathered, "rows of a step", err);
}

void store_discard(struct store *store)
{
    if (store->gathered != NULL)
        store_rows_free(store->gathered);
    mem_free(store->gathered);
    store->gathered = NULL;
    store->incomplete = false;
}

/* A row that could not be kept is one that the step lacks: its commit says so. */
static cohort_status keep_row(struct store *store, cohort_status status)
{
    store->incomplete = store->incomplete || status != COHORT_OK;
    return status;
}

cohort_status store_completion(struct store *store, const struct store_completion *completion, cohort_error *err)
{
    const double begin = clock_seconds();
    cohort_status status = gather(store, err);
    if (status == COHORT_OK)
        status = store_rows_completion(store->gathered, completion, err);
    store->spent += clock_seconds() - begin;
    return keep_row(store, status);
}

static void hand_over(struct store *store, struct store_rows *rows)
{
    pthread_mutex_lock(&store->lock);
    if (rows->is_step && rows->step > store->start.step)
        store->start.step = rows->step;
    *store->last = rows;
    store->last = &rows->next;
    store->waiting += store_rows_bytes(rows);
    store->again = true;
    pthread_cond_signal(&store->work);
    if (!store->threaded || store->waiting > QUEUE_BYTES)
        drain(store, store->threaded ? QUEUE_BYTES : 0);
    pthread_mutex_unlock(&store->lock);
}

/* What the store's thread has met since. A lock of somebody else's is waited out as long as there is room. */
static cohort_status look(struct store *store, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&store->lock);
    if (is_locked_out(store) && store->waiting <= QUEUE_BYTES) {
        if (!store->told_locked)
            note(store, "note: another program has run.db locked; what this run records waits in memory until it lets "
                        "go of it");
        store->told_locked = true;
    } else if (store->failing) {
        status = error_set(err, store->why.status, "%s", store->why.message);
        error_context(err, "what the run records could not be written; it is kept for the next checkpoint");
    } else {
        store->told_locked = false;
    }
    pthread_mutex_unlock(&store->lock);
    return status;
}

cohort_status store_event(struct store *store, const struct store_event *event, cohort_error *err)
{
    struct store_event timed = *event;
    struct store_rows *rows = NULL;
    cohort_status status = COHORT_OK;
    if (!(event->time > 0.0))
        timed.time = store_time();
    TRY_GOTO(mem_alloc(&rows, 1, sizeof *rows, "event", err));
    rows->time = timed.time;
    TRY_GOTO(store_rows_event(rows, &timed, err));
    hand_over(store, rows);
    return look(store, err);
cleanup:
    if (rows != NULL)
        store_rows_free(rows);
    mem_free(rows);
    return status;
}

static cohort_status fill_step(struct store_rows *rows, const struct store_step *step, cohort_error *err)
{
    rows->step = step->step;
    rows->time = store_time();
    rows->epoch = step->epoch;
    rows->is_step = step->is_step;
    rows->is_evaluation = !(step->evaluated < 0.0);
    rows->evaluation_seconds = step->evaluated;
    for (size_t i = 0; i < step->n_metrics; i++)
        TRY(store_rows_metric(rows, step->metrics[i].name, step->metrics[i].value, err));
    return COHORT_OK;
}

cohort_status store_commit(struct store *store, const struct store_step *step, bool *lost, cohort_error *err)
{
    const double begin = clock_seconds();
    cohort_status status = gather(store, err);
    if (status == COHORT_OK)
        status = fill_step(store->gathered, step, err);
    if (status == COHORT_OK && store->incomplete)
        status = error_set(err, COHORT_ERR_MEMORY, "out of memory for what step %lld records", (long long)step->step);
    if (lost != NULL)
        *lost = status != COHORT_OK;
    if (status != COHORT_OK) {
        store_discard(store);
        return status;
    }
    struct store_rows *rows = store->gathered;
    store->gathered = NULL;
    hand_over(store, rows);
    status = look(store, err);
    store->spent += clock_seconds() - begin;
    return status;
}

/* ---- checkpoints ---- */

/* What waits goes into a database of its own in the checkpoint. */
static cohort_status carry_rows(struct store *store, const char *dir, cohort_error *err)
{
    struct store_db carried = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, dir, store_carried_name, err));
    TRY_GOTO(store_carried_open(&carried, path, err));
    for (const struct store_rows *rows = store->first; rows != NULL; rows = rows->next) {
        int code = write_once(&carried, rows, -1);
        if (code != SQLITE_OK) {
            status = store_db_error(&carried, code, "write", err);
            goto cleanup;
        }
    }
cleanup:
    store_db_close(&carried);
    mem_free(path);
    return status;
}

cohort_status store_carry(struct store *store, const char *dir, cohort_error *err)
{
    cohort_error why = {0};
    pthread_mutex_lock(&store->lock);
    drain(store, 0);
    const bool rest = store->first != NULL;
    /* Whatever waits the thread leaves alone until it is asked again, so that the list is ours. */
    store->again = false;
    pthread_mutex_unlock(&store->lock);
    if (rest)
        return carry_rows(store, dir, err);
    /* What was committed and would not be synced is at risk only if the machine stops now; metrics.jsonl has it too. */
    if (store->db.handle != NULL && store_durable(&store->db, &why) != COHORT_OK) {
        pthread_mutex_lock(&store->lock);
        note(store, why.message);
        pthread_mutex_unlock(&store->lock);
    }
    return COHORT_OK;
}

cohort_status store_take_notes(struct store *store, struct text *notes, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&store->lock);
    if (store->notes.length > 0)
        status = text_append(notes, store->notes.data, store->notes.length, err);
    if (status == COHORT_OK)
        store->notes.length = 0;
    pthread_mutex_unlock(&store->lock);
    return status;
}

double store_seconds(struct store *store, double *behind)
{
    pthread_mutex_lock(&store->lock);
    *behind = store->behind;
    pthread_mutex_unlock(&store->lock);
    return store->spent;
}
