#include "base/ctx.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void test_no_bounds(void **state)
{
    struct ctx none = CTX_NONE;

    (void)state;
    assert_int_equal(ctx_poll_ms(&none), -1);
    assert_int_equal(ctx_check(&none, NULL), 0);
}

static void test_deadline(void **state)
{
    struct error err = ERROR_INIT;
    struct ctx parent = ctx_with_timeout(NULL, 20 * NS_PER_MS);
    struct ctx child = ctx_with_timeout(&parent, 3600 * NS_PER_SEC);

    (void)state;
    assert_int_equal(child.deadline_mono_ns, parent.deadline_mono_ns);
    assert_in_range(ctx_poll_ms(&child), 1, 20);
    int64_t before = clock_mono_ns();
    assert_int_equal(ctx_wait_fd(&child, -1, POLLIN, &err), -ETIMEDOUT);
    assert_true(clock_mono_ns() - before >= 15 * NS_PER_MS);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(ctx_poll_ms(&child), 0);
    assert_int_equal(ctx_check(&child, &err), -ETIMEDOUT);
    struct ctx past = ctx_with_timeout(NULL, -5);
    assert_int_equal(ctx_check(&past, NULL), -ETIMEDOUT);
    struct ctx far = ctx_with_timeout(NULL, INT64_MAX);
    assert_int_equal(ctx_poll_ms(&far), -1);
}

static void test_cancel_and_ready(void **state)
{
    struct error err = ERROR_INIT;
    _cleanup_fd_ int cancel = eventfd(0, EFD_CLOEXEC);
    struct ctx ctx = CTX_NONE;
    int p[2];

    (void)state;
    ctx.cancel_fd = cancel;
    assert_int_equal(pipe(p), 0);
    assert_int_equal(ctx_wait_fd(&ctx, p[1], POLLOUT, &err), 1);
    assert_int_equal(write(p[1], "x", 1), 1);
    assert_int_equal(ctx_wait_fd(&ctx, p[0], POLLIN, &err), 1);
    assert_int_equal(eventfd_write(cancel, 1), 0);
    assert_int_equal(ctx_wait_fd(&ctx, p[0], POLLIN, &err), -ECANCELED); // the cancel wins
    assert_int_equal(err.status, STATUS_CANCELLED);
    assert_int_equal(ctx_check(&ctx, &err), -ECANCELED);
    close(p[0]);
    close(p[1]);
    ctx.cancel_fd = -1;
    assert_int_equal(ctx_wait_fd(&ctx, p[0], POLLIN, &err), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_bounds),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_cancel_and_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
