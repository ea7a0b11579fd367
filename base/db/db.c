#include "base/db/db.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define STATEMENTS_MAX   24  // prepared statements kept
#define CHECKPOINT_PAGES 256 // pages in the WAL (1 MiB) that wake the checkpoint thread
#define BUSY_TIMEOUT_MS  5000

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
    struct statement statements[STATEMENTS_MAX];
    uint64_t uses;

    pthread_t checkpointer;
    bool checkpointer_runs;
    pthread_mutex_t checkpoint_mutex;
    pthread_cond_t checkpoint_wanted;
    bool checkpoint_pending, stopping;
};

struct db_row {
    sqlite3_stmt *stmt;
};

static int db_error(const struct db *db, sqlite3 *conn, int code, struct error *err, const char *what)
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
        return error_set(err, STATUS_ALREADY_EXISTS, EEXIST, "%s: database %s: %s", what, db->path, text);
    case SQLITE_IOERR:
        return error_set(err, STATUS_INTERNAL, EIO, "%s: database %s: %s (system error %d)", what, db->path,
                         text, conn ? sqlite3_system_errno(conn) : 0);
    default:
        return error_set(err, STATUS_INTERNAL, EIO, "%s: database %s: %s", what, db->path, text);
    }
}

static int run_sql(struct db *db, const char *sql, struct error *err, const char *what)
{
    int code = sqlite3_exec(db->conn, sql, NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : db_error(db, db->conn, code, err, what);
}

// Statements

static void statements_finalize(struct db *db)
{
    for (size_t i = 0; i < STATEMENTS_MAX; i++) {
        sqlite3_finalize(db->statements[i].stmt);
        db->statements[i] = (struct statement){0};
    }
}

// A statement for sql, from the cache if it is there and idle. *slot: its place, NULL when it isn't kept.
static int statement_get(struct db *db, const char *sql, sqlite3_stmt **out, struct statement **slot)
{
    struct statement *oldest = NULL;

    *slot = NULL;
    for (size_t i = 0; i < STATEMENTS_MAX; i++) {
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

static int set_sync(struct db *db, enum db_sync sync, struct error *err)
{
    if (db->sync == sync || db->in_transaction)
        return 0;
    int rc = run_sql(db, sync == DB_SYNC_FULL ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err,
                     "set synchronous");
    if (rc == 0)
        db->sync = sync;
    return rc;
}

static int query_locked(struct db *db, struct error *err, db_row_fn fn, void *data, const char *sql,
                        const char *types, va_list args)
{
    sqlite3_stmt *stmt = NULL;
    struct statement *slot = NULL;
    int rc = set_sync(db, DB_SYNC_NORMAL, err);
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
                 : set_sync(db, sync, err);
    if (rc == 0)
        rc = run_sql(db, "BEGIN IMMEDIATE", err, "begin a transaction");
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
    int rc = run_sql(db, "COMMIT", err, "commit");

    if (rc < 0 && !sqlite3_get_autocommit(db->conn))
        (void)run_sql(db, "ROLLBACK", NULL, "rollback");
    end_transaction(db);
    return rc;
}

void db_rollback(struct db *db)
{
    // Some failures (disk full, I/O) have rolled back already, and then autocommit is on.
    if (!sqlite3_get_autocommit(db->conn))
        (void)run_sql(db, "ROLLBACK", NULL, "rollback");
    end_transaction(db);
}

// Checkpoints: a connection and a thread of their own, so that fsync of the main file delays no RPC.

static int on_wal_commit(void *data, sqlite3 *conn, const char *name, int pages)
{
    struct db *db = data;

    (void)conn;
    (void)name;
    if (pages < CHECKPOINT_PAGES)
        return SQLITE_OK;
    (void)pthread_mutex_lock(&db->checkpoint_mutex);
    db->checkpoint_pending = true;
    (void)pthread_cond_signal(&db->checkpoint_wanted);
    (void)pthread_mutex_unlock(&db->checkpoint_mutex);
    return SQLITE_OK;
}

static void checkpoint_once(const char *path)
{
    sqlite3 *conn = NULL;

    // Opened for each: it happens once in a MiB of records, and an idle connection costs memory.
    if (sqlite3_open_v2(path, &conn, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK) {
        (void)sqlite3_busy_timeout(conn, BUSY_TIMEOUT_MS);
        (void)sqlite3_wal_autocheckpoint(conn, 0);
        // A connection that has read nothing yet doesn't know that there is a WAL, and would do nothing.
        (void)sqlite3_exec(conn, "PRAGMA schema_version", NULL, NULL, NULL);
        // A failure leaves the WAL as it is; the next commit asks again.
        (void)sqlite3_wal_checkpoint_v2(conn, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    }
    (void)sqlite3_close(conn);
}

static void *checkpoint_loop(void *data)
{
    struct db *db = data;

    (void)pthread_mutex_lock(&db->checkpoint_mutex);
    while (!db->stopping) {
        if (!db->checkpoint_pending) {
            (void)pthread_cond_wait(&db->checkpoint_wanted, &db->checkpoint_mutex);
            continue;
        }
        db->checkpoint_pending = false;
        (void)pthread_mutex_unlock(&db->checkpoint_mutex);
        checkpoint_once(db->path);
        (void)pthread_mutex_lock(&db->checkpoint_mutex);
    }
    (void)pthread_mutex_unlock(&db->checkpoint_mutex);
    return NULL;
}

// Opening

static int take_lock(struct db *db, struct error *err)
{
    _cleanup_free_ char *path = str_printf("%s.lock", db->path);
    if (!path)
        return error_errno(err, ENOMEM, "open database %s", db->path);
    db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (db->lock_fd < 0 && (errno == EROFS || errno == EACCES))
        return error_set(err, STATUS_FAILED_PRECONDITION, errno,
                         "database %s can't be written; check its permissions and that its file system isn't "
                         "mounted read-only",
                         db->path);
    if (db->lock_fd < 0)
        return error_errno(err, errno, "open %s", path);
    if (flock(db->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        char pid[16];
        int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
        if (ftruncate(db->lock_fd, 0) == 0) // the number is only for people
            (void)!pwrite(db->lock_fd, pid, (size_t)n, 0);
        return 0;
    }
    if (errno != EWOULDBLOCK)
        return error_errno(err, errno, "lock %s", path);
    char holder[16] = "";
    ssize_t n = pread(db->lock_fd, holder, sizeof(holder) - 1, 0);
    holder[n > 0 ? strcspn(holder, "\n") : 0] = '\0';
    return error_set(
        err, STATUS_FAILED_PRECONDITION, EBUSY,
        "database %s is in use by process %s: two daemons can't share a root directory; stop the other "
        "one or configure another root",
        db->path, holder[0] ? holder : "(unknown)");
}

static int first_text(struct db_row *row, void *data, struct error *err)
{
    (void)err;
    (void)snprintf(data, 128, "%s", db_row_text(row, 0));
    return 0;
}

static int first_int(struct db_row *row, void *data, struct error *err)
{
    (void)err;
    *(int64_t *)data = db_row_int(row, 0);
    return 0;
}

static int configure(struct db *db, struct error *err)
{
    static const char *const pragmas[] = {
        "PRAGMA cache_size=-512", "PRAGMA mmap_size=0",        "PRAGMA temp_store=MEMORY",
        "PRAGMA foreign_keys=ON", "PRAGMA trusted_schema=OFF",
    };

    (void)sqlite3_extended_result_codes(db->conn, 1);
    (void)sqlite3_busy_timeout(db->conn, BUSY_TIMEOUT_MS);
    (void)sqlite3_db_config(db->conn, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(pragmas); i++) {
        int rc = run_sql(db, pragmas[i], err, "open");
        if (rc < 0)
            return rc;
    }

    char text[128] = "";
    int rc = db_query(db, err, first_text, text, "PRAGMA quick_check(1)", "");
    if (rc < 0)
        return rc;
    if (!str_eq(text, "ok"))
        return error_set(
            err, STATUS_DATA_LOSS, EUCLEAN,
            "the database %s is damaged (%s); nothing was changed. Restore a copy of it, or move it "
            "and its -wal file away to start with empty records",
            db->path, text);
    rc = db_query(db, err, first_text, text, "PRAGMA journal_mode=WAL", "");
    if (rc < 0)
        return rc;
    if (!str_eq(text, "wal"))
        return error_set(
            err, STATUS_FAILED_PRECONDITION, EROFS,
            "database %s can't use a write-ahead log (mode %s); is its file system read-only or a "
            "network share?",
            db->path, text);
    db->sync = DB_SYNC_FULL; // SQLite's own default: makes set_sync() act
    return set_sync(db, DB_SYNC_NORMAL, err);
}

static int migrate_module(struct db *db, const struct db_module *m, struct error *err)
{
    int64_t version = 0;
    int rc = db_query(db, err, first_int, &version, "SELECT version FROM schema_version WHERE module=?", "s",
                      m->name);
    if (rc < 0)
        return rc;
    if (version < 0 || (uint64_t)version > m->n_migrations)
        return error_set(
            err, STATUS_FAILED_PRECONDITION, ENOTSUP,
            "database %s: the %s records are of version %lld, this build knows up to %zu; start the "
            "newer crispd that wrote them",
            db->path, m->name, (long long)version, m->n_migrations);
    if ((size_t)version == m->n_migrations)
        return 0;
    for (size_t i = (size_t)version; i < m->n_migrations; i++) {
        rc = run_sql(db, m->migrations[i], err, "migrate");
        if (rc < 0)
            return error_wrap(err, "bring the %s records from version %zu to %zu", m->name, i, i + 1);
    }
    return db_exec(db, err, "INSERT OR REPLACE INTO schema_version(module, version) VALUES(?, ?)", "si",
                   m->name, (int64_t)m->n_migrations);
}

static int migrate(struct db *db, const struct db_module *modules, size_t n_modules, struct error *err)
{
    int rc = db_begin(db, DB_SYNC_FULL, err);
    if (rc < 0)
        return rc;
    rc = run_sql(
        db, "CREATE TABLE IF NOT EXISTS schema_version(module TEXT PRIMARY KEY, version INTEGER NOT NULL)",
        err, "migrate");
    for (size_t i = 0; i < n_modules && rc == 0; i++)
        rc = migrate_module(db, &modules[i], err);
    if (rc < 0) {
        db_rollback(db);
        return rc;
    }
    return db_commit(db, err);
}

static int open_connection(struct db *db, struct error *err)
{
    // Created here for its mode: SQLite gives the -wal and -shm files the same.
    _cleanup_fd_ int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, errno, "open database %s", db->path);
    int code = sqlite3_open_v2(db->path, &db->conn, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    return code == SQLITE_OK ? 0 : db_error(db, db->conn, code, err, "open");
}

static int start_checkpointer(struct db *db, struct error *err)
{
    (void)sqlite3_wal_hook(db->conn, on_wal_commit, db); // replaces SQLite's automatic checkpoint
    int rc = pthread_create(&db->checkpointer, NULL, checkpoint_loop, db);
    if (rc)
        return error_errno(err, rc, "start the checkpoint thread of %s", db->path);
    db->checkpointer_runs = true;
    return 0;
}

static void init_locks(struct db *db)
{
    pthread_mutexattr_t attr;

    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&db->mutex, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    (void)pthread_mutex_init(&db->checkpoint_mutex, NULL);
    (void)pthread_cond_init(&db->checkpoint_wanted, NULL);
}

int db_open(const char *path, const struct db_module *modules, size_t n_modules, struct db **out,
            struct error *err)
{
    struct db *db = calloc(1, sizeof(*db));
    if (!db)
        return error_errno(err, ENOMEM, "open database %s", path);
    db->lock_fd = -1;
    init_locks(db);
    db->path = strdup(path);
    int rc = db->path ? take_lock(db, err) : error_errno(err, ENOMEM, "open database %s", path);
    if (rc == 0)
        rc = open_connection(db, err);
    if (rc == 0)
        rc = configure(db, err);
    if (rc == 0)
        rc = migrate(db, modules, n_modules, err);
    if (rc == 0)
        rc = start_checkpointer(db, err);
    if (rc < 0) {
        db_close(db);
        return rc;
    }
    *out = db;
    return 0;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    if (db->checkpointer_runs) {
        (void)pthread_mutex_lock(&db->checkpoint_mutex);
        db->stopping = true;
        (void)pthread_cond_signal(&db->checkpoint_wanted);
        (void)pthread_mutex_unlock(&db->checkpoint_mutex);
        (void)pthread_join(db->checkpointer, NULL);
    }
    statements_finalize(db);
    (void)sqlite3_close(db->conn);
    // The lock file stays: removing it would let two daemons lock two different files of that name.
    fd_closep(&db->lock_fd);
    (void)pthread_cond_destroy(&db->checkpoint_wanted);
    (void)pthread_mutex_destroy(&db->checkpoint_mutex);
    (void)pthread_mutex_destroy(&db->mutex);
    free(db->path);
    free(db);
}
