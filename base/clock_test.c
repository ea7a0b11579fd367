#include "base/clock.h"
#include "base/testing.h"
#include "base/error.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

static void test_format(void **state)
{
    char out[CLOCK_RFC3339_MAX];

    (void)state;
    assert_int_equal(clock_format_rfc3339(0, out), 30);
    assert_string_equal(out, "1970-01-01T00:00:00.000000000Z");
    (void)clock_format_rfc3339(INT64_C(1763780645123456789), out);
    assert_string_equal(out, "2025-11-22T03:04:05.123456789Z");
    (void)clock_format_rfc3339(-1, out);
    assert_string_equal(out, "1969-12-31T23:59:59.999999999Z");
    (void)clock_format_rfc3339(INT64_MAX, out);
    assert_string_equal(out, "2262-04-11T23:47:16.854775807Z");
    (void)clock_format_rfc3339(INT64_MIN, out);
    assert_string_equal(out, "1677-09-21T00:12:43.145224192Z");
}

// Against libc, a day at a time with an odd step, over leap years and centuries.
static void test_format_like_libc(void **state)
{
    (void)state;
    for (int64_t s = INT64_C(-9000000000); s < INT64_C(9000000000); s += 86400 * 3 + 3601) {
        char mine[CLOCK_RFC3339_MAX], theirs[CLOCK_RFC3339_MAX];
        time_t t = (time_t)s;
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        (void)clock_format_rfc3339(s * NS_PER_SEC, mine);
        assert_true(strftime(theirs, sizeof(theirs), "%Y-%m-%dT%H:%M:%S.000000000Z", &tm) > 0);
        assert_string_equal(mine, theirs);
    }
}

#define UNIQUE_TIMES 20000

static void *take_times(void *data)
{
    int64_t *times = data;

    for (int i = 0; i < UNIQUE_TIMES; i++)
        times[i] = clock_wall_unique_ns();
    return NULL;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void test_unique(void **state)
{
    static int64_t times[2][UNIQUE_TIMES];
    pthread_t other;

    (void)state;
    assert_int_equal(pthread_create(&other, NULL, take_times, times[1]), 0);
    (void)take_times(times[0]);
    assert_int_equal(pthread_join(other, NULL), 0);
    for (int i = 1; i < UNIQUE_TIMES; i++)
        assert_true(times[0][i] > times[0][i - 1]);
    qsort(times, (size_t)2 * UNIQUE_TIMES, sizeof(int64_t), compare);
    const int64_t *all = times[0];
    for (int i = 1; i < 2 * UNIQUE_TIMES; i++)
        assert_true(all[i] != all[i - 1]);
}

static void test_identity(void **state)
{
    char boot[37];
    uint64_t a = 0, b = 0;

    (void)state;
    assert_int_equal(clock_boot_id(boot), 0);
    assert_int_equal(strlen(boot), 36);
    assert_int_equal(clock_process_start((int)getpid(), &a), 0);
    assert_int_equal(clock_process_start((int)getpid(), &b), 0);
    assert_true(a > 0 && a == b);
    assert_int_equal(clock_process_start(1 << 30, &a), -ESRCH);
    assert_true(clock_mono_ns() <= clock_mono_ns());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_format_like_libc),
        cmocka_unit_test(test_unique),
        cmocka_unit_test(test_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
