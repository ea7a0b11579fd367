#include "base/error.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/str.h"

static void test_set(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(error_set(&err, STATUS_NOT_FOUND, ENOENT, "container %s", "abc"), -ENOENT);
    assert_int_equal(err.status, STATUS_NOT_FOUND);
    assert_int_equal(err.errnum, ENOENT);
    assert_string_equal(err.message, "container abc");
    assert_int_equal(error_set(&err, STATUS_INTERNAL, 0, "x"), -EINVAL);
    assert_int_equal(error_set(NULL, STATUS_INTERNAL, EIO, "x"), -EIO);
}

static void test_errno(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(error_errno(&err, ENOENT, "open %s", "/x"), -ENOENT);
    assert_string_equal(err.message, "open /x: No such file or directory");
    assert_int_equal(err.status, STATUS_NOT_FOUND);
    assert_int_equal(error_errno(&err, -ENOSPC, "write"), -ENOSPC); // either sign
    assert_int_equal(err.status, STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(error_errno(&err, 99999, "odd"), -99999);
    assert_string_equal(err.message, "odd: unknown error");
    assert_int_equal(error_errno(NULL, EPERM, "x"), -EPERM);
}

static void test_wrap(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    (void)error_set(&err, STATUS_ABORTED, EAGAIN, "inner");
    assert_int_equal(error_wrap(&err, "start %d", 7), -EAGAIN);
    assert_string_equal(err.message, "start 7: inner");
    assert_int_equal(err.status, STATUS_ABORTED);
    assert_int_equal(error_wrap(NULL, "x"), -EIO);

    struct error unset = ERROR_INIT;
    assert_int_equal(error_wrap(&unset, "context"), -EIO);
    assert_int_equal(unset.status, STATUS_INTERNAL);
    error_restatus(&err, STATUS_INVALID_ARGUMENT);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    error_restatus(NULL, STATUS_OK);
}

// Whatever is cut, what remains is UTF-8.
static void test_long_messages_stay_utf8(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        char text[4 * ERROR_MESSAGE_MAX + 8];
        size_t n = shift;
        memset(text, 'a', shift);
        while (n < ERROR_MESSAGE_MAX + 100) {
            memcpy(text + n, "\xf0\x9f\x90\x99", 4);
            n += 4;
        }
        text[n] = '\0';
        struct error err = ERROR_INIT;
        (void)error_set(&err, STATUS_INTERNAL, EIO, "%s", text);
        assert_true(str_is_utf8(err.message));
        assert_in_range(strlen(err.message), ERROR_MESSAGE_MAX - 5, ERROR_MESSAGE_MAX - 1);
        (void)error_wrap(&err, "%s", "x");
        assert_true(str_is_utf8(err.message));
        (void)error_wrap(&err, "%s", text);
        assert_true(str_is_utf8(err.message));
        (void)error_errno(&err, EIO, "%s", text);
        assert_true(str_is_utf8(err.message));
    }
}

static void test_names(void **state)
{
    (void)state;
    for (int s = STATUS_OK; s <= STATUS_UNAUTHENTICATED; s++)
        assert_non_null(error_status_name((enum status)s));
    assert_string_equal(error_status_name(STATUS_NOT_FOUND), "NOT_FOUND");
    assert_string_equal(error_status_name((enum status)99), "UNKNOWN");
    assert_int_equal(error_status_of_errno(0), STATUS_OK);
    assert_int_equal(error_status_of_errno(ETIMEDOUT), STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(error_status_of_errno(-ECANCELED), STATUS_CANCELLED);
    assert_int_equal(error_status_of_errno(EPERM), STATUS_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_errno),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_long_messages_stay_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
