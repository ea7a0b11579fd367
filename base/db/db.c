// Statements and transactions.
#include "base/db/db_internal.h"

#include <stdarg.h>
#include <string.h>

struct db_row {
    sqlite3_stmt *stmt;
};

int db_error(const struct db *db, sqlite3 *conn, int code, struct error *err, const char *what)
{
    const char *text = conn ? sqlite3_errmsg(conn) : sqlite3_errstr(code);

    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(
            err, STATUS_DATA_LOSS, EUCLEAN,
            "%s: the database %s is damaged (%s); nothing was changed. Restore a copy of it, or move "
            "it and its -wal file away to start with empty records",
            what, db->path, text);
    case SQLITE_FULL:
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOSPC,
                         "%s: no space left for the database %s; free some on its file system", what,
                         db->path);
    case SQLITE_READONLY:
        return error_set(err, STATUS_FAILED_PRECONDITION, EROFS,
                         "%s: the database %s can't be written (%s); is its file system mounted read-only?",
                         what, db->path, text);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return error_set(err, STATUS_FAILED_PRECONDITION, EACCES,
                         "%s: the database %s can't be opened (%s); check its folder and permissions", what,
                         db->path, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, STATUS_UNAVAILABLE, EBUSY, "%s: the database %s is locked by another program",
                         what, db->path);
    case SQLITE_NOMEM:
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM, "%s: out of memory for %s", what, db->path);
    case SQLITE_CONSTRAINT:
        if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
            return error_set(err, STATUS_ALREADY_EXISTS, EEXIST, "%s: database %s: %s", what, db->path, text);
        return error_set(err, STATUS_INTERNAL, EINVAL, "%s: database %s: %s", what, db->path, text);
    case SQLITE_IOERR:
        return error_set(err, STATUS_INTERNAL, EIO, "%s: database %s: %s (system error %d)", what, db->path,
                         text, conn ? sqlite3_system_errno(conn) : 0);
    default:
        return error_set(err, STATUS_INTERNAL, EIO, "%s: database %s: %s", what, db->path, text);
    }
}

int db_run_sql(struct db *db, const char *sql, struct error *err, const char *what)
{
    int code = sqlite3_exec(db->conn, sql, NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : db_error(db, db->conn, code, err, what);
}

void db_finalize_statements(struct db *db)
{
    for (size_t i = 0; i < DB_STATEMENTS_MAX; i++) {
        sqlite3_finalize(db->statements[i].stmt);
        db->statements[i] = (struct statement){0};
    }
}

// A statement for sql, from the cache if it is there and idle. *slot: its place, NULL when it isn't kept.
static int statement_get(struct db *db, const char *sql, sqlite3_stmt **out, struct statement **slot)
{
    struct statement *oldest = NULL;

    *slot = NULL;
    for (size_t i = 0; i < DB_STATEMENTS_MAX; i++) {
        struct statement *s = &db->statements[i];
        if (s->busy)
            continue;
        if (s->stmt && strcmp(sqlite3_sql(s->stmt), sql) == 0) {
            *slot = s;
            break;
        }
        if (!oldest || s->last_use < oldest->last_use)
            oldest = s;
    }
    if (!*slot) {
        sqlite3_stmt *stmt = NULL;
        int code = sqlite3_prepare_v3(db->conn, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
        if (code != SQLITE_OK)
            return code;
        *out = stmt;
        if (!oldest)
            return SQLITE_OK;
        sqlite3_finalize(oldest->stmt);
        oldest->stmt = stmt;
        *slot = oldest;
    }
    (*slot)->busy = true;
    (*slot)->last_use = ++db->uses;
    *out = (*slot)->stmt;
    return SQLITE_OK;
}

static void statement_put(sqlite3_stmt *stmt, struct statement *slot)
{
    if (!slot) {
        sqlite3_finalize(stmt);
        return;
    }
    (void)sqlite3_reset(stmt); // repeats the error of the last step, which has been dealt with
    (void)sqlite3_clear_bindings(stmt);
    slot->busy = false;
}

// The caller's strings and blobs outlive the statement's run: SQLITE_STATIC spares copies.
static int bind_all(sqlite3_stmt *stmt, const char *types, va_list args)
{
    int code = SQLITE_OK;

    if (sqlite3_bind_parameter_count(stmt) != (int)strlen(types))
        return SQLITE_RANGE;
    for (int i = 1; *types && code == SQLITE_OK; types++, i++) {
        if (*types == 's') {
            code = sqlite3_bind_text(stmt, i, va_arg(args, const char *), -1, SQLITE_STATIC);
        } else if (*types == 'i') {
            code = sqlite3_bind_int64(stmt, i, va_arg(args, int64_t));
        } else if (*types == 'b') {
            const void *data = va_arg(args, const void *);
            size_t len = va_arg(args, size_t);
            // A NULL pointer would bind SQL NULL, but an empty blob is meant.
            code = sqlite3_bind_blob64(stmt, i, data ? data : "", len, SQLITE_STATIC);
        } else {
            code = SQLITE_MISUSE;
        }
    }
    return code;
}

int db_set_sync(struct db *db, enum db_sync sync, struct error *err)
{
    if (db->sync == sync || db->in_transaction)
        return 0;
    int rc = db_run_sql(db, sync == DB_SYNC_FULL ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL",
                        err, "set synchronous");
    if (rc == 0)
        db->sync = sync;
    return rc;
}

static int query_locked(struct db *db, struct error *err, db_row_fn fn, void *data, const char *sql,
                        const char *types, va_list args)
{
    sqlite3_stmt *stmt = NULL;
    struct statement *slot = NULL;
    int rc = db_set_sync(db, DB_SYNC_NORMAL, err);
    if (rc < 0)
        return rc;
    int code = statement_get(db, sql, &stmt, &slot);
    if (code != SQLITE_OK)
        return db_error(db, db->conn, code, err, sql);

    code = bind_all(stmt, types, args);
    if (code != SQLITE_OK) {
        rc = error_set(err, STATUS_INTERNAL, EINVAL, "%s: its parameters aren't \"%s\"", sql, types);
        statement_put(stmt, slot);
        return rc;
    }
    while (rc == 0 && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct db_row row = {.stmt = stmt};
        rc = fn ? fn(&row, data, err) : 0;
    }
    if (rc == 0 && code != SQLITE_DONE)
        rc = db_error(db, db->conn, code, err, sql);
    statement_put(stmt, slot);
    return rc;
}

int db_query(struct db *db, struct error *err, db_row_fn fn, void *data, const char *sql, const char *types,
             ...)
{
    va_list args;

    (void)pthread_mutex_lock(&db->mutex);
    va_start(args, types);
    int rc = query_locked(db, err, fn, data, sql, types, args);
    va_end(args);
    (void)pthread_mutex_unlock(&db->mutex);
    return rc;
}

int db_exec(struct db *db, struct error *err, const char *sql, const char *types, ...)
{
    va_list args;

    (void)pthread_mutex_lock(&db->mutex);
    va_start(args, types);
    int rc = query_locked(db, err, NULL, NULL, sql, types, args);
    va_end(args);
    (void)pthread_mutex_unlock(&db->mutex);
    return rc;
}

int64_t db_row_int(struct db_row *row, int column)
{
    return sqlite3_column_int64(row->stmt, column);
}

const char *db_row_text(struct db_row *row, int column)
{
    const unsigned char *text = sqlite3_column_text(row->stmt, column);

    return text ? (const char *)text : "";
}

const void *db_row_blob(struct db_row *row, int column, size_t *len)
{
    const void *blob = sqlite3_column_blob(row->stmt, column);

    *len = (size_t)sqlite3_column_bytes(row->stmt, column);
    return blob ? blob : "";
}

// Transactions

int db_begin(struct db *db, enum db_sync sync, struct error *err)
{
    (void)pthread_mutex_lock(&db->mutex);
    int rc = db->in_transaction
                 ? error_set(err, STATUS_INTERNAL, EDEADLK,
                             "begin in %s: this thread is within a transaction already", db->path)
                 : db_set_sync(db, sync, err);
    if (rc == 0)
        rc = db_run_sql(db, "BEGIN IMMEDIATE", err, "begin a transaction");
    if (rc < 0) {
        (void)pthread_mutex_unlock(&db->mutex);
        return rc;
    }
    db->in_transaction = true;
    return 0;
}

static void end_transaction(struct db *db)
{
    db->in_transaction = false;
    (void)pthread_mutex_unlock(&db->mutex);
}

int db_commit(struct db *db, struct error *err)
{
    int rc = db_run_sql(db, "COMMIT", err, "commit");

    if (rc < 0 && !sqlite3_get_autocommit(db->conn))
        (void)db_run_sql(db, "ROLLBACK", NULL, "rollback");
    end_transaction(db);
    return rc;
}

void db_rollback(struct db *db)
{
    // Some failures (disk full, I/O) have rolled back already, and then autocommit is on.
    if (!sqlite3_get_autocommit(db->conn))
        (void)db_run_sql(db, "ROLLBACK", NULL, "rollback");
    end_transaction(db);
}
