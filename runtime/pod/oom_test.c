#include "runtime/pod/oom.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "base/testing.h"
#include "runtime/pod/procstatus.h"

#define MS NS_PER_MS

// The kernel's count is a file of the test's own; times are made up, at `end` the container ends.
static void ends_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        unsigned long kills, seen; // the kernel's count; the watch's
        int64_t last, signalled;   // ns before the end; 0: never
        unsigned long at_signal;
        int exit_code, signal;
        bool oom;
        unsigned long survived;
    } cases[] = {
        {"a plain SIGKILL", 0, 0, 0, 0, 0, 137, SIGKILL, false, 0},
        {"the victim", 1, 1, 5 * MS, 0, 0, 137, SIGKILL, true, 0},
        {"the victim, before the watch has heard of it", 1, 0, 0, 0, 0, 137, SIGKILL, true, 0},
        {"the second victim, long after the first", 2, 1, 900000 * MS, 0, 0, 137, SIGKILL, true, 0},
        {"a child's parent says 137", 1, 1, 3000 * MS, 0, 0, 137, 0, true, 0},
        {"a child's parent says 1", 1, 1, 3000 * MS, 0, 0, 1, 0, true, 0},
        {"got over it", 1, 1, 5 * MS, 0, 0, 0, 0, false, 0},
        {"got over it long ago, and failed", 1, 1, 20000 * MS, 0, 0, 1, 0, false, 0},
        {"got over it, and was killed by others", 1, 1, 3000 * MS, 0, 0, 137, SIGKILL, false, 0},
        {"got over it, and was killed by others soon", 1, 1, 300 * MS, 0, 0, 137, SIGKILL, false, 1},
        {"got over one, and is another's victim", 2, 2, 300 * MS, 0, 0, 137, SIGKILL, true, 1},
        {"got over it, and says so later", 1, 1, 300 * MS, 0, 0, 137, 0, true, 1},
        {"got over it, and was stopped", 1, 1, 3000 * MS, 1000 * MS, 1, 143, 0, false, 0},
        {"got over it, and was killed by us", 1, 1, 1500 * MS, 10 * MS, 1, 137, SIGKILL, false, 0},
        {"the victim, while we killed it", 1, 1, 30 * MS, 10 * MS, 1, 137, SIGKILL, true, 0},
        {"the victim, after a stop signal", 2, 1, 9000 * MS, 500 * MS, 1, 137, SIGKILL, true, 0},
        {"the victim, after a stop signal, heard of", 2, 2, 5 * MS, 500 * MS, 1, 137, SIGKILL, true, 0},
    };
    char dir[256];
    testing_scratch_make(dir);
    char *file = str_printf("%s/memory.events", dir);
    Pod__CgroupPlace place = POD__CGROUP_PLACE__INIT;
    place.v2 = true;
    place.memory_dir = dir;
    const int64_t end = 3600 * NS_PER_SEC;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64];
        int len = snprintf(text, sizeof(text), "oom 1\noom_kill %lu\noom_group_kill 7\n", cases[i].kills);
        assert_int_equal(file_write_atomic(file, text, (size_t)len, 0600, false, NULL), 0);
        struct oom_watch w = {.place = &place,
                              .kills = cases[i].seen,
                              .last_mono_ns = cases[i].last ? end - cases[i].last : 0,
                              .signal_mono_ns = cases[i].signalled ? end - cases[i].signalled : 0,
                              .kills_at_signal = cases[i].at_signal,
                              .survived = cases[i].survived};
        if (oom_watch_explains(&w, &place, cases[i].exit_code, cases[i].signal, end) != cases[i].oom)
            fail_msg("%s", cases[i].why);
    }
    struct oom_watch none = {0};
    assert_false(oom_watch_explains(&none, NULL, 137, SIGKILL, end));
    free(file);
    testing_scratch_remove(dir);
}

// A killed process isn't well any more, before and after it is a zombie; a stopped one is.
static void the_killed_are_told_from_the_living(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    assert_true(procstatus_is_well(pid));
    int status;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(procstatus_is_well(pid));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_false(procstatus_is_well(pid));
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(procstatus_is_well(pid));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(procstatus_is_well(pid));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ends_are_told_apart),
                                       cmocka_unit_test(the_killed_are_told_from_the_living)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
