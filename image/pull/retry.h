// When to ask once more.
#ifndef IMAGE_PULL_RETRY_H
#define IMAGE_PULL_RETRY_H

#include <stdint.h>

#define RETRY_WAIT_MAX_S 60 // a Retry-After beyond it fails at once: the caller has a back-off of its own

struct retry {
    int failures;      // in a row
    int64_t waited_ms; // all in all
};

// After a transient failure: how many milliseconds to wait before the next attempt, -1 to give up.
// retry_after_s: what the server asked for, 0 when it didn't. Without it: 200 ms, then 800 ms, then -1; with
// it: as long as that, 4 times and two minutes in all at most. Up to a quarter is added, so that nodes which
// were refused together don't come back together.
int64_t retry_delay_ms(struct retry *r, long retry_after_s);

#endif
