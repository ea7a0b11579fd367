// SQLite, opened, locked and migrated in one place; each module registers its own tables.
//
// WAL, one connection behind a mutex. synchronous=NORMAL; a transaction begun with DB_SYNC_FULL is on disk
// when db_commit() returns (before a deletion, or when an image is published). Checkpoints run on a thread of
// the database's own. Nothing is ever wiped on its own account: a corrupt, newer or locked database is an
// error that names the file and says what to do.
#ifndef BASE_DB_DB_H
#define BASE_DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct db;

// One module's tables: migration i brings its schema from version i to i + 1. Append only.
struct db_module {
    const char *name;
    const char *const *migrations;
    size_t n_migrations;
};

int db_open(const char *path, const struct db_module *modules, size_t n_modules, struct db **out,
            struct error *err);
void db_close(struct db *db);

enum db_sync { DB_SYNC_NORMAL, DB_SYNC_FULL };
// Transactions hold the connection's mutex from begin to commit or rollback.
int db_begin(struct db *db, enum db_sync sync, struct error *err);
int db_commit(struct db *db, struct error *err); // on failure it has been rolled back
void db_rollback(struct db *db);

// One statement, within a transaction or alone. Parameters by a format of types:
//   s const char * (NULL: SQL NULL)   i int64_t   b const void *, size_t (a blob)
// db_exec(db, err, "UPDATE pod SET state=? WHERE id=?", "is", (int64_t)state, id)
int db_exec(struct db *db, struct error *err, const char *sql, const char *types, ...);

// Rows: the callback gets each; a non-zero return ends the walk and is returned.
struct db_row;
typedef int (*db_row_fn)(struct db_row *row, void *data, struct error *err);
int db_query(struct db *db, struct error *err, db_row_fn fn, void *data, const char *sql, const char *types,
             ...);
int64_t db_row_int(struct db_row *row, int column);
const char *db_row_text(struct db_row *row, int column); // "" for NULL; valid during the callback
const void *db_row_blob(struct db_row *row, int column, size_t *len);

#endif
