#include "base/db/db.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/ctx.h"
#include "base/str.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char scratch[256], path[300];
static struct error err;

static const char *const v1[] = {"CREATE TABLE pod(id TEXT PRIMARY KEY, state INTEGER, config BLOB)"};
static const char *const v2[] = {"CREATE TABLE pod(id TEXT PRIMARY KEY, state INTEGER, config BLOB)",
                                 "ALTER TABLE pod ADD COLUMN created_ns INTEGER NOT NULL DEFAULT 7"};
static const char *const broken[] = {"CREATE TABLE pod(id TEXT PRIMARY KEY, state INTEGER, config BLOB)",
                                     "CREATE TABLE half(x); SYNTAX ERROR"};
static const struct db_module module_v1 = {"pod", v1, 1}, module_v2 = {"pod", v2, 2},
                              module_bad = {"pod", broken, 2};
static const char *const image_v1[] = {"CREATE TABLE image(id TEXT)"};
static const struct db_module module_image = {"image", image_v1, 1};

static int setup(void **state)
{
    (void)state;
    testing_scratch_make(scratch);
    (void)snprintf(path, sizeof(path), "%s/crisp.db", scratch);
    err = ERROR_INIT;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testing_scratch_remove(scratch);
    return 0;
}

static struct db *open_ok(const struct db_module *m)
{
    struct db *db = NULL;

    if (db_open(path, m, 1, &db, &err) < 0)
        fail_msg("%s", err.message);
    return db;
}

static int count_rows(struct db_row *row, void *data, struct error *e)
{
    (void)row;
    (void)e;
    ++*(int *)data;
    return 0;
}

static int rows(struct db *db)
{
    int n = 0;

    assert_int_equal(db_query(db, &err, count_rows, &n, "SELECT id FROM pod", ""), 0);
    return n;
}

static int check_row(struct db_row *row, void *data, struct error *e)
{
    size_t len = 99;

    (void)e;
    assert_string_equal(db_row_text(row, 0), "p1");
    assert_true(db_row_int(row, 1) == INT64_MIN);
    const void *blob = db_row_blob(row, 2, &len);
    assert_int_equal(len, 4);
    assert_memory_equal(blob, "a\0b\xff", 4);
    assert_string_equal(db_row_text(row, 3), "");
    *(int *)data = 1;
    return 0;
}

static int stop_at_first(struct db_row *row, void *data, struct error *e)
{
    (void)row;
    (void)data;
    return error_set(e, STATUS_ABORTED, EINTR, "enough");
}

static void test_values(void **state)
{
    struct db *db = open_ok(&module_v1);
    int seen = 0;

    (void)state;
    assert_int_equal(
        db_exec(db, &err, "INSERT INTO pod VALUES(?, ?, ?)", "sib", "p1", INT64_MIN, "a\0b\xff", (size_t)4),
        0);
    assert_int_equal(
        db_query(db, &err, check_row, &seen, "SELECT id, state, config, NULL FROM pod WHERE id=?", "s", "p1"),
        0);
    assert_int_equal(seen, 1);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod VALUES(?, 1, ?)", "sb", "p2", NULL, (size_t)0), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod VALUES(?, 1, NULL)", "s", NULL), 0);
    assert_int_equal(rows(db), 3);
    assert_int_equal(db_query(db, &err, stop_at_first, NULL, "SELECT id FROM pod", ""), -EINTR);
    assert_string_equal(err.message, "enough");
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod VALUES(?, 1, NULL)", "s", "p1"), -EEXIST);
    assert_int_equal(err.status, STATUS_ALREADY_EXISTS);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod VALUES(?, 1, NULL)", "si", "p9", INT64_C(1)),
                     -EINVAL);
    assert_int_equal(db_exec(db, &err, "NO SQL AT ALL", ""), -EIO);
    assert_int_equal(db_exec(db, &err, "CREATE TABLE strict(x NOT NULL)", ""), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO strict VALUES(NULL)", ""), -EINVAL);
    assert_int_equal(rows(db), 3);
    for (int i = 0; i < 100; i++) { // more statements than are kept
        char sql[64];
        (void)snprintf(sql, sizeof(sql), "SELECT id FROM pod WHERE state=%d", i);
        assert_int_equal(db_query(db, &err, count_rows, &seen, sql, ""), 0);
    }
    db_close(db);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    db_close(NULL);
}

static struct db *nested_db;

static int nested_query(struct db_row *row, void *data, struct error *e)
{
    return db_query(nested_db, e, count_rows, data, "SELECT id FROM pod", "");
    (void)row;
}

static void test_transactions(void **state)
{
    struct db *db = open_ok(&module_v1);
    int n = 0;

    (void)state;
    assert_int_equal(db_begin(db, DB_SYNC_FULL, &err), 0);
    assert_int_equal(db_begin(db, DB_SYNC_FULL, NULL), -EDEADLK);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod(id) VALUES(?)", "s", "a"), 0);
    db_rollback(db);
    assert_int_equal(rows(db), 0);
    assert_int_equal(db_begin(db, DB_SYNC_NORMAL, &err), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod(id) VALUES(?)", "s", "a"), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod(id) VALUES(?)", "s", "b"), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod(id) VALUES(?)", "s", "b"), -EEXIST);
    assert_int_equal(db_commit(db, &err), 0); // a failed statement doesn't undo the others
    nested_db = db;
    assert_int_equal(db_query(db, &err, nested_query, &n, "SELECT id FROM pod", ""), 0);
    assert_int_equal(n, 4);
    db_close(db);
    db = open_ok(&module_v1);
    assert_int_equal(rows(db), 2);
    db_close(db);
}

static void *insert_many(void *data)
{
    static int next;
    struct db *db = data;

    for (int i = 0; i < 50; i++) {
        char id[32];
        assert_int_equal(db_begin(db, i % 10 ? DB_SYNC_NORMAL : DB_SYNC_FULL, NULL), 0);
        (void)snprintf(id, sizeof(id), "id-%d", next++); // the transaction is what guards `next`
        assert_int_equal(db_exec(db, NULL, "INSERT INTO pod VALUES(?, 0, zeroblob(20000))", "s", id), 0);
        assert_int_equal(db_commit(db, NULL), 0);
    }
    return NULL;
}

// Several writers, and enough of it to keep the checkpoint thread busy: the WAL doesn't grow with the work.
static void test_threads_and_checkpoints(void **state)
{
    struct db *db = open_ok(&module_v1);
    pthread_t threads[4];
    struct stat st;
    char wal[320];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, insert_many, db), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(rows(db), 200);
    (void)snprintf(wal, sizeof(wal), "%s-wal", path);
    struct ctx limit = ctx_with_timeout(NULL, 30 * NS_PER_SEC);
    do { // most of the 4 MB reach the main file, without anybody's commit having waited for it
        struct ctx tick = ctx_with_timeout(&limit, 5 * NS_PER_MS);
        (void)ctx_wait_fd(&tick, -1, 0, NULL);
        assert_int_equal(stat(path, &st), 0);
    } while (st.st_size < 1 << 20 && ctx_check(&limit, NULL) == 0);
    assert_true(st.st_size >= 1 << 20);
    db_close(db);
    assert_int_equal(stat(wal, &st), -1);
    db = open_ok(&module_v1);
    assert_int_equal(rows(db), 200);
    db_close(db);
}

static void test_migrations(void **state)
{
    struct db *db = open_ok(&module_v1);

    (void)state;
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod(id) VALUES('old')", ""), 0);
    db_close(db);
    assert_int_equal(db_open(path, &module_bad, 1, &db, &err), -EIO);
    assert_non_null(strstr(err.message, "from version 1 to 2"));
    db = open_ok(&module_v2); // the failed one left nothing behind
    int n = 0;
    assert_int_equal(db_query(db, &err, count_rows, &n, "SELECT id FROM pod WHERE created_ns=7", ""), 0);
    assert_int_equal(n, 1);
    assert_true(db_exec(db, &err, "SELECT * FROM half", "") < 0);
    db_close(db);
    assert_int_equal(db_open(path, &module_v1, 1, &db, &err), -ENOTSUP);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "version 2, this build knows up to 1"));
    const struct db_module both[] = {module_v2, module_image};
    assert_int_equal(db_open(path, both, 2, &db, &err), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO image VALUES('x')", ""), 0);
    db_close(db);
}

static void test_locked(void **state)
{
    struct db *db = open_ok(&module_v1), *second = NULL;

    (void)state;
    assert_int_equal(db_open(path, &module_v1, 1, &second, &err), -EBUSY);
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    assert_non_null(strstr(err.message, pid));
    assert_non_null(strstr(err.message, path));
    db_close(db);
    db_close(open_ok(&module_v1));
}

static void expect_damaged(void)
{
    struct db *db = NULL;
    struct stat before, after;

    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(db_open(path, &module_v1, 1, &db, &err), -EUCLEAN);
    assert_int_equal(err.status, STATUS_DATA_LOSS);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "move it"));
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_size, after.st_size); // nothing was wiped
    assert_int_equal(before.st_ino, after.st_ino);
}

static void test_damaged(void **state)
{
    (void)state;
    static char garbage[8192];
    memset(garbage, 'g', sizeof(garbage));
    assert_int_equal(file_write_atomic(path, garbage, sizeof(garbage), 0600, false, &err), 0);
    expect_damaged();
    assert_int_equal(unlink(path), 0);

    struct db *db = open_ok(&module_v1);
    for (int i = 0; i < 50; i++)
        assert_int_equal(
            db_exec(db, &err, "INSERT INTO pod VALUES(hex(randomblob(16)), 0, randomblob(3000))", ""), 0);
    db_close(db);
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t page = 1; page < 20; page += 2) // holes in the middle of the tree
        assert_int_equal(pwrite(fd, garbage, 4096, page * 4096), 4096);
    expect_damaged();
}

static void test_unwritable(void **state)
{
    struct db *db = NULL;
    char missing[320];

    (void)state;
    (void)snprintf(missing, sizeof(missing), "%s/no/crisp.db", scratch);
    assert_int_equal(db_open(missing, &module_v1, 1, &db, &err), -ENOENT);
    assert_int_equal(db_open("/proc/crisp.db", &module_v1, 1, &db, &err), -ENOENT);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(db_open(path, &module_v1, 1, &db, &err), -EISDIR);
}

static void test_full(void **state)
{
    struct db *db = open_ok(&module_v1);

    (void)state;
    assert_int_equal(db_exec(db, &err, "PRAGMA max_page_count=20", ""), 0);
    assert_int_equal(db_begin(db, DB_SYNC_FULL, &err), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod VALUES('small', 0, NULL)", ""), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod VALUES('big', 0, zeroblob(200000))", ""), -ENOSPC);
    assert_int_equal(err.status, STATUS_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.message, path));
    db_rollback(db);
    assert_int_equal(rows(db), 0);
    assert_int_equal(db_exec(db, &err, "INSERT INTO pod VALUES('small', 0, NULL)", ""), 0); // it goes on
    db_close(db);
}

static int open_read_only(void)
{
    struct db *db = NULL;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(scratch, scratch, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, scratch, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return 77;
    if (db_open(path, &module_v1, 1, &db, &err) != -EROFS || err.status != STATUS_FAILED_PRECONDITION)
        return 1;
    return strstr(err.message, "read-only") && strstr(err.message, path) ? 0 : 2;
}

static void test_read_only(void **state)
{
    int status = 0;

    (void)state;
    db_close(open_ok(&module_v1));
    pid_t pid = fork();
    if (pid == 0)
        _exit(open_read_only());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WEXITSTATUS(status) == 77)
        TESTING_SKIP("needs root: mounts");
    assert_int_equal(status, 0);
}

// Killed in the middle of its work, a process leaves whole transactions and no lock.
static void test_kill(void **state)
{
    int p[2];

    (void)state;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct db *db = open_ok(&module_v1);
        for (;;) {
            if (db_begin(db, DB_SYNC_NORMAL, NULL) < 0 ||
                db_exec(db, NULL, "INSERT INTO pod(id) VALUES(hex(randomblob(16)))", "") < 0 ||
                db_exec(db, NULL, "INSERT INTO pod(id) VALUES(hex(randomblob(16)))", "") < 0 ||
                db_commit(db, NULL) < 0 || write(p[1], "x", 1) != 1)
                _exit(1);
        }
    }
    close(p[1]);
    char bytes[100];
    int committed = 0;
    while (committed < 500) {
        ssize_t n = read(p[0], bytes, sizeof(bytes));
        assert_true(n > 0);
        committed += (int)n;
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(p[0]);
    struct db *db = open_ok(&module_v1);
    int n = rows(db);
    assert_true(n >= 2 * committed);
    assert_int_equal(n % 2, 0);
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transactions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads_and_checkpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_migrations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_locked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unwritable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
