// What cdi_parse.c (reading by tables) and cdi_tables.c (the tables, and checks of what was read) share.
#ifndef RUNTIME_CDI_INTERNAL_H
#define RUNTIME_CDI_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/cdi.h"

#define CDI_KEY_MAX 200

struct cdi_version {
    const char *name;
    unsigned number;
};

struct cdi_reader {
    const char *file;
    struct arena *arena;
    struct error *err;
    const struct cdi_version *version;
    char key[CDI_KEY_MAX]; // where we are: "devices[0].containerEdits.env[2]"
};

enum cdi_kind {
    CDI_TEXT,
    CDI_TEXTS,       // struct cdi_texts
    CDI_NUMBER,      // struct cdi_number within [min, max]
    CDI_GIDS,        // a list of numbers
    CDI_OBJECT,      // a struct of its own at that place
    CDI_OBJECTS,     // pointer and count
    CDI_ANNOTATIONS, // texts by name: they are checked, and mean nothing to us
    CDI_UNSUPPORTED, // const char *: gets the key
};

struct cdi_shape;

struct cdi_field {
    const char *key;
    enum cdi_kind kind;
    size_t offset;
    bool required;
    unsigned since; // the number of the version that brought it; 0: always there
    const struct cdi_shape *shape;
    int64_t min, max;
};

struct cdi_shape {
    size_t size;
    const struct cdi_field *fields;
    size_t n;
    int (*check)(struct cdi_reader *r, void *object); // may be NULL
};

extern const struct cdi_shape cdi_spec_shape; // of a whole file

// An error about the place where the reader is: INVALID_ARGUMENT.
int cdi_bad(struct cdi_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cdi_no_memory(struct cdi_reader *r);
// Goes one step down; the result is what cdi_leave() wants.
size_t cdi_enter(struct cdi_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cdi_leave(struct cdi_reader *r, size_t len);
// An error unless the file's cdiVersion is that one or later. what: as the error begins.
int cdi_needs(struct cdi_reader *r, unsigned since, const char *what);

#endif
