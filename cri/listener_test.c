// The socket: who may bind it, what is removed, how many may connect.
#include "cri/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

struct fixture {
    char dir[64];
    char *socket, *lock;
    int accepted[2]; // a pipe: the listener's thread writes each descriptor that it got
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/crisp-listener-test.XXXXXX");
    if (!mkdtemp(f->dir) || pipe(f->accepted) != 0)
        return -1;
    f->socket = str_printf("%s/run/crisp.sock", f->dir);
    f->lock = str_printf("%s/run/crisp.sock.lock", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int rc = file_remove_tree(f->dir, NULL);
    (void)close(f->accepted[0]);
    (void)close(f->accepted[1]);
    free(f->socket);
    free(f->lock);
    free(f);
    return rc;
}

static void accepted(int fd, void *data)
{
    struct fixture *f = data;
    assert_int_equal(write(f->accepted[1], &fd, sizeof(fd)), sizeof(fd));
}

static int open_listener(struct fixture *f, size_t max, struct listener **out, struct error *err)
{
    struct listener_options options = {
        .path = f->socket, .max_connections = max, .accepted = accepted, .data = f};
    return listener_open(&options, out, err);
}

static int take_accepted(struct fixture *f)
{
    int fd = -1;
    assert_int_equal(read(f->accepted[0], &fd, sizeof(fd)), sizeof(fd));
    return fd;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    return address;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

// A socket somebody else made, listening or only left behind.
static int foreign_socket(const char *path, bool listening)
{
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (listening)
        assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void test_bind_and_remove(void **state)
{
    struct fixture *f = *state;
    struct listener *l = NULL;
    struct stat st;
    assert_int_equal(open_listener(f, 4, &l, NULL), 0);
    assert_int_equal(stat(f->socket, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(listener_start(l, NULL), 0);
    int client = connect_to(f->socket);
    int server = take_accepted(f);
    assert_int_equal(write(client, "x", 1), 1);
    (void)close(client);
    (void)close(server);
    listener_close(l);
    assert_int_not_equal(access(f->socket, F_OK), 0);
    assert_int_not_equal(access(f->lock, F_OK), 0);
}

static void test_second_daemon_is_told(void **state)
{
    struct fixture *f = *state;
    struct listener *l = NULL, *second = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(open_listener(f, 4, &l, NULL), 0);
    assert_int_equal(open_listener(f, 4, &second, &err), -EBUSY);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "is in use by another crispd, pid "));
    assert_int_equal(access(f->socket, F_OK), 0);
    listener_close(l);
}

static void test_stale_socket_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct listener *l = NULL;
    assert_int_equal(file_mkdir_p(f->dir, 0700, NULL), 0);
    (void)close(foreign_socket(f->socket, false));
    assert_int_equal(open_listener(f, 4, &l, NULL), 0);
    listener_close(l);
}

static void test_foreign_things_stay(void **state)
{
    struct fixture *f = *state;
    struct listener *l = NULL;
    struct error err = ERROR_INIT;
    int fd = foreign_socket(f->socket, true);
    assert_int_equal(open_listener(f, 4, &l, &err), -EADDRINUSE);
    assert_non_null(strstr(err.message, "another program serves it"));
    assert_int_equal(access(f->socket, F_OK), 0);
    (void)close(fd);
    assert_int_equal(unlink(f->socket), 0);

    assert_int_equal(file_write_atomic(f->socket, "x", 1, 0600, false, NULL), 0);
    assert_int_equal(open_listener(f, 4, &l, &err), -EEXIST);
    assert_int_equal(unlink(f->socket), 0);
    assert_int_not_equal(access(f->lock, F_OK), 0);

    // Replaced while we run: at the end the other's is left alone.
    assert_int_equal(open_listener(f, 4, &l, &err), 0);
    assert_int_equal(unlink(f->socket), 0);
    fd = foreign_socket(f->socket, true);
    listener_close(l);
    assert_int_equal(access(f->socket, F_OK), 0);
    (void)close(fd);
    assert_int_equal(unlink(f->socket), 0);
}

static void test_connection_cap(void **state)
{
    struct fixture *f = *state;
    struct listener *l = NULL;
    char c;
    assert_int_equal(open_listener(f, 2, &l, NULL), 0);
    assert_int_equal(listener_start(l, NULL), 0);
    int a = connect_to(f->socket), b = connect_to(f->socket);
    int a_server = take_accepted(f), b_server = take_accepted(f);
    int refused = connect_to(f->socket);
    assert_int_equal(read(refused, &c, 1), 0); // closed at once
    (void)close(refused);
    // The server's side ends the one as gRPC does, the client the other.
    (void)shutdown(a_server, SHUT_RDWR);
    (void)close(a_server);
    (void)close(b);
    int again = -1;
    for (int i = 0; i < 100; i++) { // the listener learns of it in its own time
        again = connect_to(f->socket);
        struct pollfd p = {.fd = f->accepted[0], .events = POLLIN};
        if (poll(&p, 1, 50) == 1)
            break;
        (void)close(again);
    }
    (void)close(take_accepted(f));
    (void)close(again);
    (void)close(a);
    (void)close(b_server);
    listener_close(l);
}

static void test_long_path(void **state)
{
    struct fixture *f = *state;
    struct listener *l = NULL;
    struct error err = ERROR_INIT;
    _cleanup_free_ char *path = str_printf("%s/%0120d", f->dir, 1);
    struct listener_options options = {.path = path, .max_connections = 1, .accepted = accepted, .data = f};
    assert_int_equal(listener_open(&options, &l, &err), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bind_and_remove),          cmocka_unit_test(test_second_daemon_is_told),
        cmocka_unit_test(test_stale_socket_is_replaced), cmocka_unit_test(test_foreign_things_stay),
        cmocka_unit_test(test_connection_cap),           cmocka_unit_test(test_long_path),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
