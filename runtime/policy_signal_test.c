#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>

#include "base/cleanup.h"
#include "runtime/policy_fixture.h"

static void signals_are_complete(void **state)
{
    (void)state;
    const ProtobufCEnumDescriptor *d = &cri__signal__descriptor;
    for (unsigned i = 0; i < d->n_values; i++) {
        Cri__Signal signal = (Cri__Signal)d->values[i].value;
        int number = policy_signal_number(signal);
        if (signal == CRI__SIGNAL__RUNTIME_DEFAULT) {
            assert_int_equal(number, 0);
            continue;
        }
        assert_in_range(number, 1, 64);
        // Aliases (SIGCLD, SIGIOT, SIGPOLL) come back as their signal's usual name.
        assert_int_equal(policy_signal_number(policy_signal_of_number(number)), number);
    }
    assert_int_equal(policy_signal_number(CRI__SIGNAL__SIGRTMIN), 34);
    assert_int_equal(policy_signal_number(CRI__SIGNAL__SIGRTMINPLUS15), 49);
    assert_int_equal(policy_signal_number(CRI__SIGNAL__SIGRTMAXMINUS14), 50);
    assert_int_equal(policy_signal_number(CRI__SIGNAL__SIGRTMAX), 64);
}

static void stop_signal_is_chosen(void **state)
{
    (void)state;
    static const struct {
        Cri__Signal config;
        const char *image;
        int want;
    } cases[] = {
        {CRI__SIGNAL__RUNTIME_DEFAULT, NULL, SIGTERM},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "", SIGTERM},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "SIGQUIT", SIGQUIT},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "quit", SIGQUIT},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "3", SIGQUIT},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "SIGRTMIN+3", 37},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "RTMAX-1", 63},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "RTMIN", 34},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "RTMIN-1", SIGTERM},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "65", SIGTERM},
        {CRI__SIGNAL__RUNTIME_DEFAULT, "SIGNONSENSE", SIGTERM},
        {CRI__SIGNAL__SIGUSR1, "SIGQUIT", SIGUSR1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct configs c;
        init(&c)->container.stop_signal = cases[i].config;
        assert_int_equal(policy_stop_signal(&c.container, cases[i].image), cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_complete),
        cmocka_unit_test(stop_signal_is_chosen),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
