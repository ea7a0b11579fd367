// What unit tests need everywhere: cmocka's includes in their order, and a scratch directory.
#ifndef BASE_TESTING_H
#define BASE_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"

// mkdtemp() under $TMPDIR; gone again with testing_scratch_remove().
static inline void testing_scratch_make(char out[256])
{
    const char *base = getenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe)

    (void)snprintf(out, 256, "%s/crisp-test-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(out));
}

// An upper limit of what may take that long: more on a machine that says in CRISP_TIME_SCALE how many times
// slower it is (an emulated one).
static inline int64_t testing_limit(int64_t limit)
{
    const char *scale = getenv("CRISP_TIME_SCALE"); // NOLINT(concurrency-mt-unsafe)
    long factor = scale ? strtol(scale, NULL, 10) : 1;

    return factor > 1 && factor <= 1000 ? limit * factor : limit;
}

// Ends a test that can't be run here, and says why: tests/unit/run counts it as skipped for that reason.
#define TESTING_SKIP(...)                                                                                    \
    do {                                                                                                     \
        print_message("skipped: " __VA_ARGS__);                                                              \
        print_message("\n");                                                                                 \
        skip();                                                                                              \
    } while (0)

static inline void testing_scratch_remove(const char *path)
{
    struct error err = ERROR_INIT;

    if (file_remove_tree(path, &err) < 0)
        fail_msg("%s", err.message);
}

#endif
