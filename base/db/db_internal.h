// Inside base/db: one database's state, shared by db.c (statements, transactions), db_open.c and
// db_checkpoint.c.
#ifndef BASE_DB_DB_INTERNAL_H
#define BASE_DB_DB_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>

#include "base/db/db.h"

#define DB_STATEMENTS_MAX  24 // prepared statements kept
#define DB_BUSY_TIMEOUT_MS 5000
#define DB_RESERVE_BYTES   (2 << 20) // twice what the log has when a checkpoint begins

struct statement {
    sqlite3_stmt *stmt;
    uint64_t last_use;
    bool busy;
};

struct db {
    char *path;
    int lock_fd;
    sqlite3 *conn;
    pthread_mutex_t mutex; // recursive: held from begin to commit, and by each statement in between
    bool in_transaction;
    enum db_sync sync; // what the connection is set to
    struct statement statements[DB_STATEMENTS_MAX];
    uint64_t uses;

    pthread_t checkpointer;
    bool checkpointer_runs;
    pthread_mutex_t checkpoint_mutex;
    pthread_cond_t checkpoint_wanted;
    bool checkpoint_pending, stopping;
};

// Sets *err from an SQLite result code. conn may be NULL. Returns -errno.
int db_error(const struct db *db, sqlite3 *conn, int code, struct error *err, const char *what);
int db_run_sql(struct db *db, const char *sql, struct error *err, const char *what);
// Outside a transaction: how durable the next commit is.
int db_set_sync(struct db *db, enum db_sync sync, struct error *err);
void db_finalize_statements(struct db *db);

int db_checkpoint_start(struct db *db, struct error *err);
void db_checkpoint_stop(struct db *db);

#endif
