// Opening: the lock, the settings, the check, the migrations.
#include "base/db/db_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/filelock.h"
#include "base/str.h"

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
    int rc = filelock_take(db->lock_fd);
    if (rc == 0)
        return 0;
    if (rc != -EBUSY)
        return error_errno(err, rc, "lock %s", path);
    char holder[FILELOCK_PID_SIZE];
    filelock_holder(db->lock_fd, holder);
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
    (void)sqlite3_busy_timeout(db->conn, DB_BUSY_TIMEOUT_MS);
    (void)sqlite3_db_config(db->conn, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(pragmas); i++) {
        int rc = db_run_sql(db, pragmas[i], err, "open");
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
    db->sync = DB_SYNC_FULL; // SQLite's own default: makes db_set_sync() act
    return db_set_sync(db, DB_SYNC_NORMAL, err);
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
        rc = db_run_sql(db, m->migrations[i], err, "migrate");
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
    rc = db_run_sql(
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

// Space that is set aside beyond the end of a file, so that on a full disk records can still be changed and
// deleted: without that nothing could be removed there. Not every file system can; then there is none.
static void reserve(int fd)
{
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0)
        (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, st.st_size, DB_RESERVE_BYTES);
}

// The log is written from its start again after each checkpoint, and never cut while it is open. SQLite holds
// no POSIX lock on it that closing another descriptor would release.
static void reserve_log(const struct db *db)
{
    _cleanup_free_ char *path = str_printf("%s-wal", db->path);
    _cleanup_fd_ int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;

    reserve(fd);
}

static int open_connection(struct db *db, struct error *err)
{
    // Created here for its mode: SQLite gives the -wal and -shm files the same.
    _cleanup_fd_ int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, errno, "open database %s", db->path);
    reserve(fd); // for checkpoints; here, as SQLite has no lock on it yet
    int code = sqlite3_open_v2(db->path, &db->conn, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    return code == SQLITE_OK ? 0 : db_error(db, db->conn, code, err, "open");
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
    if (rc == 0) {
        reserve_log(db);
        rc = db_checkpoint_start(db, err);
    }
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
    db_checkpoint_stop(db);
    db_finalize_statements(db);
    (void)sqlite3_close(db->conn);
    // The lock file stays: removing it would let two daemons lock two different files of that name.
    fd_closep(&db->lock_fd);
    (void)pthread_cond_destroy(&db->checkpoint_wanted);
    (void)pthread_mutex_destroy(&db->checkpoint_mutex);
    (void)pthread_mutex_destroy(&db->mutex);
    free(db->path);
    free(db);
}
