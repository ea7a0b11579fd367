// docker's notation of sizes, CPUs and durations.
#include "base/testing.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cri/client/values.h"

typedef int (*value_fn)(const char *text, int64_t *out);

struct row {
    const char *text;
    int rc;
    int64_t value;
};

static void check(value_fn fn, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t value = -1;
        int rc = fn(rows[i].text, &value);
        if (rc != rows[i].rc || (rc == 0 && value != rows[i].value))
            fail_msg("\"%s\": %d, %lld", rows[i].text, rc, (long long)value);
    }
}

static void test_sizes(void **state)
{
    static const struct row rows[] = {
        {"0", 0, 0},
        {"100m", 0, 100 << 20},
        {"100M", 0, 100 << 20},
        {"100mb", 0, 100 << 20},
        {"100MiB", 0, 100 << 20},
        {"1.5g", 0, 3LL << 29},
        {"512b", 0, 512},
        {"512", 0, 512},
        {"0.5k", 0, 512},
        {"2t", 0, 2LL << 40},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", -ERANGE, 0},
        {"8192p", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"m", -EINVAL, 0},
        {"100x", -EINVAL, 0},
        {"100mi", -EINVAL, 0},
        {"1.", -EINVAL, 0},
        {"1 m", -EINVAL, 0},
        {"100mm", -EINVAL, 0},
    };

    (void)state;
    check(value_size, rows, ARRAY_SIZE(rows));
}

static void test_cpus(void **state)
{
    static const struct row rows[] = {
        {"0.5", 0, 500000000},        {"2", 0, 2 * NS_PER_SEC}, {"0.000000001", 0, 1},
        {"0.0000000001", -EINVAL, 0}, {"1.5.", -EINVAL, 0},     {".5", -EINVAL, 0},
        {"-1", -EINVAL, 0},           {"half", -EINVAL, 0},     {"", -EINVAL, 0},
        {"9223372037", -ERANGE, 0},
    };

    (void)state;
    check(value_cpus, rows, ARRAY_SIZE(rows));
}

static void test_durations(void **state)
{
    static const struct row rows[] = {
        {"0", 0, 0},
        {"30s", 0, 30 * NS_PER_SEC},
        {"1m30s", 0, 90 * NS_PER_SEC},
        {"500ms", 0, 500 * NS_PER_MS},
        {"1.5h", 0, 5400 * NS_PER_SEC},
        {"3us", 0, 3000},
        {"3µs", 0, 3000},
        {"30", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"-1s", -EINVAL, 0},
        {"1d", -EINVAL, 0},
        {"1s ", -EINVAL, 0},
        {"9000000h", -ERANGE, 0},
    };

    (void)state;
    check(value_duration, rows, ARRAY_SIZE(rows));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_cpus),
        cmocka_unit_test(test_durations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
