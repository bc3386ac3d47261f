#include "run/store_db.h"

#include "base/file.h"
#include "base/number.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

const char store_file_name[] = "run.db";

static const char schema[] =
    "CREATE TABLE run(id INTEGER PRIMARY KEY CHECK(id = 1), name TEXT NOT NULL, command TEXT NOT NULL, "
    "model TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL, config TEXT NOT NULL, steps INTEGER NOT NULL, "
    "parent TEXT NOT NULL, parent_step INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, "
    "ended REAL NOT NULL, keep INTEGER NOT NULL);"
    "CREATE TABLE start(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, t REAL NOT NULL, host TEXT NOT NULL, "
    "pid INTEGER NOT NULL, version TEXT NOT NULL, sqlite TEXT NOT NULL, device TEXT NOT NULL);"
    "CREATE TABLE input(kind TEXT NOT NULL, ord INTEGER NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL, "
    "PRIMARY KEY(kind, ord)) WITHOUT ROWID;"
    "CREATE TABLE name(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "INSERT INTO name(id, name) VALUES(0, '');"
    "CREATE TABLE step(step INTEGER PRIMARY KEY, epoch REAL, t REAL NOT NULL);"
    "CREATE TABLE metric(name_id INTEGER NOT NULL, step INTEGER NOT NULL, value REAL, PRIMARY KEY(name_id, step)) "
    "WITHOUT ROWID;"
    "CREATE TABLE prompt(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL);"
    "CREATE TABLE completion(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, set_id INTEGER NOT NULL, "
    "grp INTEGER NOT NULL, idx INTEGER NOT NULL, row INTEGER NOT NULL, prompt_id INTEGER NOT NULL, "
    "finish TEXT NOT NULL, tokens INTEGER NOT NULL, logp REAL, reward REAL, advantage REAL, text TEXT NOT NULL, "
    "thinking TEXT, tools TEXT, extra TEXT);"
    "CREATE UNIQUE INDEX completion_place ON completion(set_id, step, grp, idx);"
    "CREATE INDEX completion_reward ON completion(set_id, reward);"
    "CREATE TABLE score(completion_id INTEGER NOT NULL, name_id INTEGER NOT NULL, value REAL, "
    "PRIMARY KEY(completion_id, name_id)) WITHOUT ROWID;"
    "CREATE TABLE turn(completion_id INTEGER NOT NULL, idx INTEGER NOT NULL, role TEXT NOT NULL, name TEXT, "
    "text TEXT NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY(completion_id, idx)) WITHOUT ROWID;"
    "CREATE TABLE evaluation(step INTEGER PRIMARY KEY, t REAL NOT NULL, seconds REAL);"
    "CREATE TABLE event(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, t REAL NOT NULL, kind TEXT NOT NULL, "
    "rule TEXT NOT NULL, severity TEXT NOT NULL, text TEXT NOT NULL, json TEXT);"
    "CREATE VIEW metrics AS SELECT step, name, value FROM metric JOIN name ON name.id = name_id;"
    "CREATE VIEW completions AS SELECT step, name.name AS \"set\", grp AS \"group\", idx AS \"index\", row, "
    "prompt.text AS prompt, completion.text AS completion, thinking, tools, finish AS finish_reason, tokens, "
    "logp AS logprob, reward, advantage, extra FROM completion JOIN prompt ON prompt.id = prompt_id "
    "JOIN name ON name.id = set_id;"
    "CREATE VIEW scores AS SELECT step, n.name AS \"set\", grp AS \"group\", idx AS \"index\", f.name AS name, value "
    "FROM score JOIN completion ON completion.id = completion_id JOIN name f ON f.id = name_id "
    "JOIN name n ON n.id = set_id;";

/* ---- what SQLite says ---- */

bool store_db_is_damage(int code) { return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB; }

/* A file that SQLite may not make, it tries to open for reading, and reports that it is not there. */
static int why_not_made(const char *path, int system)
{
    char *folder = NULL;
    const char *slash = strrchr(path, '/');
    if (system != ENOENT || mem_strdup(&folder, slash == NULL ? "." : path,
                                       slash == NULL || slash == path ? 1 : (size_t)(slash - path), NULL) != COHORT_OK)
        return system;
    const int code = access(folder, W_OK) == 0 ? system : errno;
    mem_free(folder);
    return code;
}

cohort_status store_db_error(const struct store_db *db, int code, const char *doing, cohort_error *err)
{
    const char *said = db->handle == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(db->handle);
    switch (code & 0xff) {
    case SQLITE_NOMEM: return error_set(err, COHORT_ERR_MEMORY, "%s: cannot %s: out of memory", db->path, doing);
    case SQLITE_FULL:
        return error_set(err, COHORT_ERR_IO, "%s: cannot %s: the disk is full; free some space and try again", db->path,
                         doing);
    case SQLITE_READONLY:
        return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s; make the file and its folder writable and try again",
                         db->path, doing, said);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, COHORT_ERR_STATE,
                         "%s: cannot %s: another program has it locked; end that program's transaction (readers should "
                         "open it read-only)",
                         db->path, doing);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(err, COHORT_ERR_FORMAT, "%s: cannot %s: %s: the file is damaged", db->path, doing, said);
    default: break;
    }
    int system = db->handle == NULL ? 0 : sqlite3_system_errno(db->handle);
    if ((code & 0xff) == SQLITE_CANTOPEN)
        system = why_not_made(db->path, system);
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s%s%s%s%s", db->path, doing, said, system != 0 ? " (" : "",
                     system != 0 ? strerror(system) : "", system != 0 ? ")" : "", file_advice(system));
}

/* ---- statements ---- */

static const char *const statement_texts[] = {
#define STATEMENT(id, sql) [STORE_##id] = (sql),
    STORE_STATEMENT_LIST(STATEMENT)
#undef STATEMENT
};

sqlite3_stmt *store_db_statement(struct store_db *db, enum store_statement id, int *code)
{
    sqlite3_stmt **at = &db->statements[id];
    if (*at == NULL) {
        *code = sqlite3_prepare_v3(db->handle, statement_texts[id], -1, SQLITE_PREPARE_PERSISTENT, at, NULL);
        return *code == SQLITE_OK ? *at : NULL;
    }
    sqlite3_reset(*at);
    sqlite3_clear_bindings(*at);
    return *at;
}

int store_db_step(sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);
    const int reset = sqlite3_reset(statement);
    if (code == SQLITE_ROW)
        code = SQLITE_DONE;
    return code != SQLITE_DONE && reset != SQLITE_OK ? reset : code;
}

cohort_status store_db_run(struct store_db *db, const char *sql, cohort_error *err)
{
    const int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? COHORT_OK : store_db_error(db, code, "write", err);
}

/* The first column of the first row as text in out[size]. */
static int ask(struct store_db *db, const char *sql, char *out, size_t size)
{
    sqlite3_stmt *statement = NULL;
    out[0] = '\0';
    int code = sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL);
    if (code != SQLITE_OK)
        return code;
    code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        if (text != NULL)
            number_format(out, size, "%s", text);
    }
    const int end = sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : end;
}

static cohort_status ask_number(struct store_db *db, const char *sql, int64_t *out, cohort_error *err)
{
    char text[40];
    const int code = ask(db, sql, text, sizeof text);
    if (code != SQLITE_OK)
        return store_db_error(db, code, "read", err);
    *out = 0;
    (void)number_read_integer(text, strlen(text), out);
    return COHORT_OK;
}

cohort_status store_db_check(struct store_db *db, cohort_error *err)
{
    char said[200];
    const int code = ask(db, "PRAGMA quick_check(1)", said, sizeof said);
    if (code != SQLITE_OK)
        return store_db_error(db, code, "check", err);
    for (char *at = said; (at = strchr(at, '\n')) != NULL;)
        *at = ' '; /* a message is one line */
    return strcmp(said, "ok") == 0 ? COHORT_OK
                                   : error_set(err, COHORT_ERR_FORMAT, "%s: the file is damaged: %s", db->path, said);
}

/* ---- opening ---- */

/* File systems over a network, on which WAL's shared memory does not work, whatever SQLite is told at first. */
static bool is_over_network(const char *path)
{
    static const unsigned long types[] = {
        0x6969,     /* NFS */
        0x517B,     /* SMB */
        0xFF534D42, /* CIFS */
        0xFE534D42, /* SMB2 */
        0x0BD00BD0, /* Lustre */
        0x47504653, /* GPFS */
        0x5346414F, /* AFS */
        0x00C36400, /* CephFS */
        0x19830326, /* BeeGFS */
        0x01021997, /* 9p */
        0x65735546  /* FUSE */
    };
    struct statfs st;
    if (statfs(path, &st) != 0)
        return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (((unsigned long)st.f_type & 0xffffffffUL) == types[i])
            return true;
    return false;
}

/* Whether the database is ours and of a version that we know; *is_new where it has nothing in it yet. */
static cohort_status identify(struct store_db *db, bool *is_new, cohort_error *err)
{
    int64_t application = 0, version = 0, tables = 0;
    TRY(ask_number(db, "PRAGMA application_id", &application, err));
    TRY(ask_number(db, "PRAGMA user_version", &version, err));
    TRY(ask_number(db, "SELECT count(*) FROM sqlite_master", &tables, err));
    *is_new = application == 0 && version == 0 && tables == 0;
    if (*is_new || (application == STORE_APPLICATION && version == STORE_SCHEMA))
        return COHORT_OK;
    if (application != STORE_APPLICATION)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: is a database of another program; give it another name",
                         db->path);
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "%s: its tables are of version %lld, this is cohort %s, which knows version %d: use a newer one",
                     db->path, (long long)version, cohort_version(), STORE_SCHEMA);
}

/* Where the host program has closed its own descriptors 0 to 2, SQLite would take them (it fills them with /dev/null for
 * good): they are held while it opens its files, all of which it does before store_db_open returns. */
struct held_descriptors {
    int fd[STDERR_FILENO + 1], n;
};

static void hold_descriptors(struct held_descriptors *held)
{
    held->n = 0;
    for (int fd = 0; held->n <= STDERR_FILENO; held->fd[held->n++] = fd) {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd > STDERR_FILENO)
            close(fd);
        if (fd < 0 || fd > STDERR_FILENO)
            break;
    }
}

static void release_descriptors(const struct held_descriptors *held)
{
    for (int i = 0; i < held->n; i++)
        close(held->fd[i]);
}

static cohort_status open_handle(struct store_db *db, const char *path, int flags, cohort_error *err)
{
    memset(db, 0, sizeof *db);
    TRY(mem_strdup(&db->path, path, strlen(path), err));
    const int code = sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK)
        return store_db_error(db, code, "open", err);
    sqlite3_busy_timeout(db->handle, 5000);
    return COHORT_OK;
}

/* Sets the journal's mode and reads back what it became. */
static cohort_status set_journal(struct store_db *db, const char *path, cohort_error *err)
{
    char mode[40];
    int code = SQLITE_OK;
    db->journal = "truncate";
    db->no_wal = true;
    if (!is_over_network(path)) {
        code = ask(db, "PRAGMA journal_mode = WAL", mode, sizeof mode);
        if (code == SQLITE_OK && strcmp(mode, "wal") == 0) {
            db->journal = "wal";
            db->no_wal = false;
            return store_db_run(db, "PRAGMA synchronous = NORMAL", err);
        }
        if (code != SQLITE_OK && (code & 0xff) != SQLITE_IOERR && (code & 0xff) != SQLITE_CANTOPEN &&
            (code & 0xff) != SQLITE_PROTOCOL)
            return store_db_error(db, code, "open", err);
    }
    code = ask(db, "PRAGMA journal_mode = TRUNCATE", mode, sizeof mode);
    if (code != SQLITE_OK)
        return store_db_error(db, code, "open", err);
    return store_db_run(db, "PRAGMA synchronous = FULL", err);
}

static cohort_status make_tables(struct store_db *db, cohort_error *err)
{
    char version[80];
    number_format(version, sizeof version, "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
                  (int)STORE_APPLICATION, (int)STORE_SCHEMA);
    TRY(store_db_run(db, "BEGIN IMMEDIATE", err));
    cohort_status status = store_db_run(db, schema, err);
    if (status == COHORT_OK)
        status = store_db_run(db, version, err);
    if (status != COHORT_OK)
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

cohort_status store_db_open(struct store_db *db, const char *path, cohort_error *err)
{
    struct held_descriptors held;
    bool is_new = false;
    char ignored[8];
    int code = SQLITE_OK;
    cohort_status status = COHORT_OK;
    hold_descriptors(&held);
    TRY_GOTO(open_handle(db, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, err));
    TRY_GOTO(store_db_run(db, "PRAGMA page_size = 8192; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY", err));
    TRY_GOTO(identify(db, &is_new, err));
    TRY_GOTO(set_journal(db, path, err));
    TRY_GOTO(store_db_run(db, "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864", err));
    if (is_new)
        TRY_GOTO(make_tables(db, err));
    code = ask(db, "SELECT count(*) FROM sqlite_master", ignored, sizeof ignored); /* every file is open from here on */
    if (code != SQLITE_OK)
        status = store_db_error(db, code, "open", err);
cleanup:
    release_descriptors(&held);
    if (status != COHORT_OK)
        store_db_close(db);
    return status;
}

/* A folder that cannot be written has no room for the shared memory that readers of a WAL need. A run that has ended has
 * no WAL, and may be read without. */
static cohort_status open_unchanging(struct store_db *db, const char *path, cohort_error *err)
{
    struct text uri = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_printf(&uri, err, "file:"));
    for (const char *at = path; *at != '\0'; at++)
        TRY_GOTO(strchr("?#%", *at) != NULL ? text_printf(&uri, err, "%%%02X", (unsigned)(unsigned char)*at)
                                            : text_append(&uri, at, 1, err));
    TRY_GOTO(text_append(&uri, "?immutable=1", 12, err));
    store_db_close(db);
    TRY_GOTO(open_handle(db, uri.data, SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_URI, err));
cleanup:
    text_free(&uri);
    return status;
}

static bool has_wal(const char *path)
{
    struct text wal = {0};
    struct stat st;
    const bool there = text_printf(&wal, NULL, "%s-wal", path) != COHORT_OK || (stat(wal.data, &st) == 0 && st.st_size);
    text_free(&wal);
    return there;
}

cohort_status store_db_open_reader(struct store_db *db, const char *path, cohort_error *err)
{
    bool is_new = false;
    char ignored[8];
    cohort_status status = COHORT_OK;
    struct stat st;
    struct held_descriptors held;
    memset(db, 0, sizeof *db);
    if (stat(path, &st) != 0)
        return error_set(err, COHORT_ERR_IO, "%s: %s", path, strerror(errno));
    hold_descriptors(&held);
    TRY_GOTO(open_handle(db, path, SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX, err));
    const int code = ask(db, "PRAGMA schema_version", ignored, sizeof ignored) & 0xff;
    if ((code == SQLITE_CANTOPEN || code == SQLITE_READONLY || code == SQLITE_IOERR) && !has_wal(path))
        TRY_GOTO(open_unchanging(db, path, err));
    TRY_GOTO(store_db_run(db, "PRAGMA trusted_schema = OFF; PRAGMA query_only = ON; PRAGMA temp_store = MEMORY", err));
    TRY_GOTO(identify(db, &is_new, err));
    if (is_new)
        status = error_set(err, COHORT_ERR_STATE, "%s: has nothing in it yet; try again in a moment", path);
cleanup:
    release_descriptors(&held);
    if (status != COHORT_OK)
        store_db_close(db);
    return status;
}

void store_db_close(struct store_db *db)
{
    for (size_t i = 0; i < N_STORE_STATEMENTS; i++)
        sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->handle);
    mem_free(db->path);
    memset(db, 0, sizeof *db);
}
