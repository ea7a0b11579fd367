// Checkpoints: a connection and a thread of their own, so that fsync of the main file delays no RPC.
#include "base/db/db_internal.h"

#define CHECKPOINT_PAGES 256 // pages in the WAL (1 MiB) that wake the thread

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
        (void)sqlite3_busy_timeout(conn, DB_BUSY_TIMEOUT_MS);
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

int db_checkpoint_start(struct db *db, struct error *err)
{
    (void)sqlite3_wal_hook(db->conn, on_wal_commit, db); // replaces SQLite's automatic checkpoint
    int rc = pthread_create(&db->checkpointer, NULL, checkpoint_loop, db);
    if (rc)
        return error_errno(err, rc, "start the checkpoint thread of %s", db->path);
    db->checkpointer_runs = true;
    return 0;
}

void db_checkpoint_stop(struct db *db)
{
    if (!db->checkpointer_runs)
        return;
    (void)pthread_mutex_lock(&db->checkpoint_mutex);
    db->stopping = true;
    (void)pthread_cond_signal(&db->checkpoint_wanted);
    (void)pthread_mutex_unlock(&db->checkpoint_mutex);
    (void)pthread_join(db->checkpointer, NULL);
    db->checkpointer_runs = false;
}
