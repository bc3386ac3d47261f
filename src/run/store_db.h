/* A run's database, run.db: opened for writing or for reading, its schema, its statements, and what SQLite says as a
 * status. docs/RUN.md describes the tables.
 *
 * One connection of one process writes (whoever holds the lock of the run folder); all others read. That matters beyond
 * order: SQLite before 3.51.3 can lose commits where two connections write and checkpoint a WAL at one instant. */
#ifndef COHORT_RUN_STORE_DB_H
#define COHORT_RUN_STORE_DB_H

#include "base/memory.h"

#include <sqlite3.h>
#include <stdint.h>

enum { STORE_SCHEMA = 1, STORE_APPLICATION = 0x63687274 /* "chrt" */ };
extern const char store_file_name[]; /* "run.db" */

/* The statements of a writer, each prepared once. X(ID, SQL) */
#define STORE_STATEMENT_LIST(X)                                                                                        \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                                        \
    X(COMMIT, "COMMIT")                                                                                                \
    X(ROLLBACK, "ROLLBACK")                                                                                            \
    X(NAME_ADD, "INSERT OR IGNORE INTO name(name) VALUES(?1)")                                                         \
    X(NAME_FIND, "SELECT id FROM name WHERE name = ?1")                                                                \
    X(STEP, "INSERT OR REPLACE INTO step(step, epoch, t) VALUES(?1, ?2, ?3)")                                          \
    X(STEP_THERE, "INSERT OR IGNORE INTO step(step, epoch, t) VALUES(?1, ?2, ?3)")                                     \
    X(METRIC, "INSERT OR REPLACE INTO metric(name_id, step, value) VALUES(?1, ?2, ?3)")                                \
    X(PROMPT_ADD, "INSERT OR IGNORE INTO prompt(hash, text) VALUES(?1, ?2)")                                           \
    X(PROMPT_FIND, "SELECT id FROM prompt WHERE hash = ?1")                                                            \
    X(SCORE_DROP,                                                                                                      \
      "DELETE FROM score WHERE completion_id IN (SELECT id FROM completion WHERE set_id = ?1 AND step = ?2 "           \
      "AND grp = ?3 AND idx = ?4)")                                                                                    \
    X(COMPLETION,                                                                                                      \
      "INSERT OR REPLACE INTO completion(step, set_id, grp, idx, row, prompt_id, finish, tokens, logp, reward, "       \
      "advantage, text, thinking, tools, extra) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, "  \
      "?15)")                                                                                                          \
    X(SCORE, "INSERT OR REPLACE INTO score(completion_id, name_id, value) VALUES(?1, ?2, ?3)")                         \
    X(TURN,                                                                                                            \
      "INSERT OR REPLACE INTO turn(completion_id, idx, role, name, text, tokens) VALUES(?1, ?2, ?3, ?4, ?5, ?6)")      \
    X(EVALUATION, "INSERT OR REPLACE INTO evaluation(step, t, seconds) VALUES(?1, ?2, ?3)")                            \
    X(EVENT, "INSERT INTO event(step, t, kind, rule, severity, text, json) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")        \
    X(UPDATED, "UPDATE run SET updated = ?1")                                                                          \
    X(PRUNE_SCORES, "DELETE FROM score WHERE completion_id IN (" STORE_OLD("id") ")")                                  \
    X(PRUNE_TURNS, "DELETE FROM turn WHERE completion_id IN (" STORE_OLD("id") ")")                                    \
    X(PRUNE, "DELETE FROM completion WHERE id IN (" STORE_OLD("id") ")")
/* Completions beyond those of the last ?2 steps (of training) and evaluations (of each other set), at step ?1. */
#define STORE_OLD(columns)                                                                                             \
    "SELECT " columns " FROM completion WHERE set_id = 0 AND step <= ?1 - ?2 UNION ALL SELECT " columns                \
    " FROM completion WHERE set_id > 0 AND step < (SELECT step FROM evaluation ORDER BY step DESC LIMIT 1 OFFSET "     \
    "?2 - 1)"

#define STATEMENT(id, sql) STORE_##id,
enum store_statement { STORE_STATEMENT_LIST(STATEMENT) N_STORE_STATEMENTS };
#undef STATEMENT

struct store_db {
    sqlite3 *handle; /* NULL: closed */
    char *path;
    sqlite3_stmt *statements[N_STORE_STATEMENTS]; /* made when they are first used */
    const char *journal;                          /* "wal" or "truncate"; static */
    bool no_wal;                                  /* WAL was tried and is not to be had here */
};

/* Opens for writing, and makes the file and its tables where there are none. COHORT_ERR_FORMAT: there is a file that is
 * damaged or no database; COHORT_ERR_UNSUPPORTED: it is somebody else's, or of a newer version. *db is zeroed and may be
 * closed after a failure too. */
cohort_status store_db_open(struct store_db *db, const char *path, cohort_error *err);
/* Opens for reading alone; nothing is made or changed, but for the files beside it that SQLite shares with a writer. */
cohort_status store_db_open_reader(struct store_db *db, const char *path, cohort_error *err);
void store_db_close(struct store_db *db);

/* Whether all that the file holds can be read (PRAGMA quick_check); COHORT_ERR_FORMAT. */
cohort_status store_db_check(struct store_db *db, cohort_error *err);
/* Statements without results, separated by semicolons. */
cohort_status store_db_run(struct store_db *db, const char *sql, cohort_error *err);
/* Sets err from the last failure of the connection, whose result code was code. */
cohort_status store_db_error(const struct store_db *db, int code, const char *doing, cohort_error *err);
/* Whether a code means that the file is damaged. */
bool store_db_is_damage(int code);

/* A statement of the list, reset and without values; NULL with *code set. */
sqlite3_stmt *store_db_statement(struct store_db *db, enum store_statement id, int *code);
/* Runs one that gives no rows, and resets it. The result code: SQLITE_DONE where it went well. */
int store_db_step(sqlite3_stmt *statement);

#endif
