// The datagram that systemd waits for.
#include "cri/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

// A socket as systemd has it: a path, or an abstract name written with an @.
static int bind_socket(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    memcpy(address.sun_path, name, len);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(
        bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static void expect_ready(const char *name)
{
    char text[64] = "";
    _cleanup_fd_ int fd = bind_socket(name);
    notify_systemd("READY=1");
    assert_int_equal(recv(fd, text, sizeof(text) - 1, 0), 7);
    assert_string_equal(text, "READY=1");
}

static void test_path_and_abstract(void **state)
{
    (void)state;
    char name[64];
    (void)snprintf(name, sizeof(name), "/tmp/crisp-notify-test-%d", (int)getpid());
    expect_ready(name);
    (void)unlink(name);
    (void)snprintf(name, sizeof(name), "@crisp-notify-test-%d", (int)getpid());
    expect_ready(name);
}

static void test_nobody_there(void **state)
{
    (void)state;
    static const char *const names[] = {"/nonexistent/notify", "@crisp-notify-nobody", "relative", "", "/"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_int_equal(setenv("NOTIFY_SOCKET", names[i], 1), 0);
        notify_systemd("READY=1");
    }
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    notify_systemd("READY=1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_and_abstract),
        cmocka_unit_test(test_nobody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
