#include "base/pb.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "api/cri/api.pb-c.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void label(Cri__PodSandboxConfig__LabelsEntry *e, const char *key, const char *value)
{
    cri__pod_sandbox_config__labels_entry__init(e);
    e->key = (char *)key;
    e->value = (char *)value;
}

static void test_dup_and_equal(void **state)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new(1 << 20);
    Cri__PodSandboxMetadata meta = CRI__POD_SANDBOX_METADATA__INIT;
    Cri__PodSandboxConfig a = CRI__POD_SANDBOX_CONFIG__INIT, b = CRI__POD_SANDBOX_CONFIG__INIT;
    Cri__PodSandboxConfig__LabelsEntry e[4];
    Cri__PodSandboxConfig__LabelsEntry *la[] = {&e[0], &e[1]}, *lb[] = {&e[3], &e[1], &e[2]};

    (void)state;
    meta.name = "pod";
    a.metadata = b.metadata = &meta;
    label(&e[0], "x", "1");
    label(&e[1], "y", "2");
    label(&e[2], "x", "1");
    label(&e[3], "x", "overridden");
    a.labels = la;
    a.n_labels = 2;
    b.labels = lb;
    b.n_labels = 3;
    assert_true(pb_equal(&a.base, &b.base)); // another order, and of two equal keys the last wins
    lb[0] = &e[2];
    lb[2] = &e[3];
    assert_false(pb_equal(&a.base, &b.base));
    assert_false(pb_equal(&a.base, &meta.base));
    assert_false(pb_equal(&a.base, NULL));
    assert_true(pb_equal(NULL, NULL));

    Cri__PodSandboxConfig *copy = (Cri__PodSandboxConfig *)pb_dup(&a.base, arena);
    assert_non_null(copy);
    assert_string_equal(copy->metadata->name, "pod");
    assert_true(pb_equal(&a.base, &copy->base));
    ProtobufCMessage *heap = pb_dup(&a.base, NULL);
    assert_true(pb_equal(&a.base, heap));
    protobuf_c_message_free_unpacked(heap, NULL);
    struct arena *tiny = arena_new(32);
    assert_null(pb_dup(&a.base, tiny));
    arena_free(tiny);
}

static void test_unknown(void **state)
{
    // CreateContainerRequest{config{metadata{field 999: 1}}}
    static const uint8_t data[] = {0x12, 0x05, 0x0a, 0x03, 0xb8, 0x3e, 0x01};
    ProtobufCMessage *m =
        protobuf_c_message_unpack(&cri__create_container_request__descriptor, NULL, sizeof(data), data);

    (void)state;
    assert_non_null(m);
    assert_true(pb_has_unknown(m));
    protobuf_c_message_free_unpacked(m, NULL);
    Cri__VersionRequest known = CRI__VERSION_REQUEST__INIT;
    assert_false(pb_has_unknown(&known.base));
}

static void test_sanitize(void **state)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new(1 << 20);
    Cri__ContainerStatus status = CRI__CONTAINER_STATUS__INIT;
    Cri__ContainerMetadata meta = CRI__CONTAINER_METADATA__INIT;
    Cri__ContainerStatusResponse response = CRI__CONTAINER_STATUS_RESPONSE__INIT;
    Cri__Mount mount = CRI__MOUNT__INIT, *mounts[] = {&mount};
    char good[] = "good";

    (void)state;
    meta.name = good;
    mount.host_path = "/bad\xff";
    status.metadata = &meta;
    status.mounts = mounts;
    status.n_mounts = 1;
    response.status = &status;
    assert_int_equal(pb_sanitize(&response.base, arena), 0);
    assert_string_equal(mount.host_path, "/bad\xef\xbf\xbd");
    assert_ptr_equal(meta.name, good);
    mount.host_path = "\xff";
    struct arena *full = arena_new(0);
    assert_int_equal(pb_sanitize(&response.base, full), -ENOMEM);
    arena_free(full);
}

static void make_pair(int s[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
}

static int take_version(struct pb_frame_reader *r, char **version, int *fds, size_t *n_fds)
{
    ProtobufCMessage *m = NULL;
    int rc = pb_frame_reader_take(r, &cri__version_request__descriptor, NULL, &m, fds, n_fds);

    if (rc == 1) {
        *version = strdup(((Cri__VersionRequest *)m)->version);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    return rc;
}

// Three frames in a row, each with its own descriptors: they don't mix, however they arrive.
static void test_frames_with_fds(void **state)
{
    struct error err = ERROR_INIT;
    struct pb_frame_reader r;
    Cri__VersionRequest m = CRI__VERSION_REQUEST__INIT;
    int s[2], p[2];

    (void)state;
    make_pair(s);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    m.version = "none";
    assert_int_equal(pb_frame_send(s[0], &m.base, NULL, 0, &err), 0);
    m.version = "two";
    assert_int_equal(pb_frame_send(s[0], &m.base, p, 2, &err), 0);
    m.version = "one";
    assert_int_equal(pb_frame_send(s[0], &m.base, &p[1], 1, &err), 0);
    m.version = "";
    assert_int_equal(pb_frame_send(s[0], &m.base, NULL, 0, &err), 0); // an empty message is a frame, too
    close(s[0]);

    static const struct {
        const char *version;
        size_t n_fds;
    } want[] = {{"none", 0}, {"two", 2}, {"one", 1}, {"", 0}};
    size_t got = 0;
    long n;
    pb_frame_reader_init(&r);
    while ((n = pb_frame_reader_feed(&r, s[1])) > 0) {
        int fds[4];
        size_t n_fds = 4;
        _cleanup_free_ char *version = NULL;
        while (take_version(&r, &version, fds, &n_fds) == 1) {
            assert_true(got < ARRAY_SIZE(want));
            assert_string_equal(version, want[got].version);
            assert_int_equal(n_fds, want[got].n_fds);
            for (size_t i = 0; i < n_fds; i++) {
                struct stat st;
                assert_int_equal(fstat(fds[i], &st), 0);
                assert_true(S_ISFIFO(st.st_mode));
                assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
                close(fds[i]);
            }
            got++;
            n_fds = 4;
            free(version);
            version = NULL;
        }
    }
    assert_int_equal(n, 0);
    assert_int_equal(got, ARRAY_SIZE(want));
    pb_frame_reader_done(&r);
    close(s[1]);
    close(p[0]);
    close(p[1]);
}

static void *send_big(void *data)
{
    Cri__ExecSyncResponse m = CRI__EXEC_SYNC_RESPONSE__INIT;
    int sock = *(int *)data;
    static uint8_t bytes[PB_FRAME_MAX - 16];

    memset(bytes, 'z', sizeof(bytes));
    m.stdout.data = bytes;
    m.stdout.len = sizeof(bytes);
    (void)pb_frame_send(sock, &m.base, NULL, 0, NULL);
    close(sock);
    return NULL;
}

static void test_big_frame(void **state)
{
    struct pb_frame_reader r;
    pthread_t sender;
    int s[2], rc = 0;

    (void)state;
    make_pair(s);
    assert_int_equal(fcntl(s[0], F_SETFL, O_NONBLOCK), 0); // blocking send all the same
    assert_int_equal(pthread_create(&sender, NULL, send_big, &s[0]), 0);
    pb_frame_reader_init(&r);
    ProtobufCMessage *m = NULL;
    while (rc == 0 && pb_frame_reader_feed(&r, s[1]) > 0)
        rc = pb_frame_reader_take(&r, &cri__exec_sync_response__descriptor, NULL, &m, NULL, NULL);
    assert_int_equal(rc, 1);
    assert_int_equal(((Cri__ExecSyncResponse *)m)->stdout.len, PB_FRAME_MAX - 16);
    protobuf_c_message_free_unpacked(m, NULL);
    assert_null(r.data); // the big buffer was given back
    pb_frame_reader_done(&r);
    assert_int_equal(pthread_join(sender, NULL), 0);
    close(s[1]);
}

// A peer that doesn't read holds a sender up no longer than the socket's time-out.
static void test_send_timeout(void **state)
{
    struct error err = ERROR_INIT;
    Cri__ExecSyncResponse big = CRI__EXEC_SYNC_RESPONSE__INIT;
    const struct timeval limit = {.tv_usec = 50000};
    int s[2];

    (void)state;
    make_pair(s);
    assert_int_equal(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);
    big.stdout.len = PB_FRAME_MAX / 2; // more than a socket's buffers
    big.stdout.data = calloc(1, big.stdout.len);
    assert_non_null(big.stdout.data);
    (void)alarm(20); // instead of a test that never ends
    assert_int_equal(pb_frame_send(s[0], &big.base, NULL, 0, &err), -ETIMEDOUT);
    (void)alarm(0);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    free(big.stdout.data);
    close(s[0]);
    close(s[1]);
}

static void test_bad_frames(void **state)
{
    struct error err = ERROR_INIT;
    struct pb_frame_reader r;
    ProtobufCMessage *m = NULL;
    int s[2];

    (void)state;
    make_pair(s);
    pb_frame_reader_init(&r);
    assert_int_equal(write(s[0], "\xff\xff\xff\x7f", 4), 4); // 2 GiB announced
    assert_int_equal(pb_frame_reader_feed(&r, s[1]), -EPROTO);
    assert_true(r.alloc < 4096);
    assert_int_equal(pb_frame_reader_take(&r, &cri__version_request__descriptor, NULL, &m, NULL, NULL),
                     -EPROTO);
    pb_frame_reader_done(&r);
    pb_frame_reader_init(&r);
    assert_int_equal(write(s[0], "\x02\0\0\0\x0a\x55", 6), 6); // a string that ends after the message
    while (pb_frame_reader_feed(&r, s[1]) > 0 && r.len < 6)
        ;
    assert_int_equal(pb_frame_reader_take(&r, &cri__version_request__descriptor, NULL, &m, NULL, NULL),
                     -EPROTO);
    assert_int_equal(pb_frame_reader_feed(&r, s[1]), -EAGAIN); // take it first
    pb_frame_reader_done(&r);

    Cri__ExecSyncResponse big = CRI__EXEC_SYNC_RESPONSE__INIT;
    big.stdout.len = PB_FRAME_MAX;
    big.stdout.data = calloc(1, PB_FRAME_MAX);
    assert_int_equal(pb_frame_send(s[0], &big.base, NULL, 0, &err), -EMSGSIZE);
    free(big.stdout.data);
    Cri__VersionRequest small = CRI__VERSION_REQUEST__INIT;
    int fds[PB_FRAME_FDS_MAX + 1] = {0};
    assert_int_equal(pb_frame_send(s[0], &small.base, fds, ARRAY_SIZE(fds), &err), -EINVAL);
    close(s[1]);
    small.version = "x";
    assert_int_equal(pb_frame_send(s[0], &small.base, NULL, 0, &err), -EPIPE); // and no SIGPIPE
    close(s[0]);
}

// Descriptors that nobody takes are closed.
static void test_untaken_fds(void **state)
{
    struct pb_frame_reader r;
    Cri__VersionRequest m = CRI__VERSION_REQUEST__INIT;
    int s[2], p[2];
    char byte;

    (void)state;
    make_pair(s);
    for (int take = 0; take < 2; take++) {
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(pb_frame_send(s[0], &m.base, &p[1], 1, NULL), 0);
        close(p[1]);
        pb_frame_reader_init(&r);
        assert_int_equal(pb_frame_reader_feed(&r, s[1]), 4);
        _cleanup_free_ char *version = NULL;
        if (take)
            assert_int_equal(take_version(&r, &version, NULL, NULL), 1);
        pb_frame_reader_done(&r);
        assert_int_equal(read(p[0], &byte, 1), 0); // EOF: no writer is left
        close(p[0]);
    }
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dup_and_equal), cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_sanitize),      cmocka_unit_test(test_frames_with_fds),
        cmocka_unit_test(test_big_frame),     cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_untaken_fds),   cmocka_unit_test(test_send_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
