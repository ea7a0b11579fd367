// Which signals the kernel would drop, read from real processes.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "runtime/signals.h"

static void on_signal(int signal)
{
    (void)signal;
}

static void test_dispositions(void **state)
{
    (void)state;
    sigset_t set;

    assert_true(signal_would_be_lost(getpid(), SIGUSR1));
    assert_true(signal(SIGUSR1, on_signal) != SIG_ERR);
    assert_false(signal_would_be_lost(getpid(), SIGUSR1));
    assert_true(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    assert_false(signal_would_be_lost(getpid(), SIGUSR1));
    assert_true(signal(SIGUSR1, SIG_DFL) != SIG_ERR);

    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX); // the mask's highest bit
    assert_true(signal_would_be_lost(getpid(), SIGRTMAX));
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    assert_false(signal_would_be_lost(getpid(), SIGRTMAX));
    assert_int_equal(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
}

static void test_gone(void **state)
{
    (void)state;
    assert_false(signal_would_be_lost(0, SIGTERM));
    assert_false(signal_would_be_lost(INT32_MAX, SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dispositions), cmocka_unit_test(test_gone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
