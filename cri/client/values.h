// What people write as the value of an option, in docker's notation.
#ifndef CRI_CLIENT_VALUES_H
#define CRI_CLIENT_VALUES_H

#include <stdbool.h>
#include <stdint.h>

// Each: 0, or -EINVAL (not such a value) or -ERANGE (too large).

// "100m", "1.5g", "64KiB", "4096": bytes; k, m, g, t, p are powers of 1024, whatever their case, "b" or "ib"
// may follow.
int value_size(const char *text, int64_t *bytes);
// "0.5", "2": billionths of a CPU. Nine digits behind the point at most.
int value_cpus(const char *text, int64_t *nano);
// "30s", "1m30s", "500ms", "1.5h", "0": nanoseconds. A number alone has no meaning, but for 0.
int value_duration(const char *text, int64_t *ns);
// A decimal number with an optional sign.
int value_integer(const char *text, int64_t min, int64_t max, int64_t *out);

#endif
