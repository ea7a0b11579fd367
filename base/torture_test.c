// Every allocation fails in turn: the code says so, leaks nothing and leaves what it was given as it was.
// Linked with --wrap for the allocator (CMakeLists.txt); libc's own calls (strdup, vasprintf) are wrapped by
// name. Leaks are AddressSanitizer's to find.
#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/pb.h"
#include "base/str.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "api/cri/api.pb-c.h"

#include <sys/socket.h>
#include <unistd.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);

static long countdown = -1; // allocations until one fails; -1: none does
static bool failed;

static bool fails(void)
{
    if (countdown < 0 || countdown-- > 0)
        return false;
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return fails() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

// Runs work() with its first, second, … allocation failing until one run needs no more than it gets.
static void torture(void (*work)(void))
{
    for (long n = 0; n < 1000; n++) {
        failed = false;
        countdown = n;
        work();
        countdown = -1;
        if (!failed)
            return;
    }
    fail_msg("never enough memory");
}

static void work_str(void)
{
    _cleanup_strv_ char **v = strv_new(3, "a", "b", "c");

    if (!v)
        return;
    size_t n = strv_len(v);
    int rc = strv_append(&v, "d");
    assert_int_equal(strv_len(v), rc == 0 ? n + 1 : n);
    assert_true(rc == 0 || rc == -ENOMEM);
    _cleanup_free_ char *clean = str_sanitize_utf8("\xff");
    assert_true(clean || failed);
}

static void work_buf(void)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    for (int i = 0; i < 2000; i++) {
        size_t len = b.len;
        int rc = i % 2 ? buf_append(&b, "0123456789", 10) : buf_printf(&b, "%09d,", i);
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_int_equal(b.len, rc == 0 ? len + 10 : len);
    }
    char *taken = buf_steal(&b);
    assert_true(taken || failed);
    free(taken);
}

static void work_map(void)
{
    static int value;
    struct map *m = map_new();

    for (int i = 0; m && i < 50; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "%d", i);
        size_t len = map_len(m);
        int rc = map_set(m, key, &value);
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_int_equal(map_len(m), rc == 0 ? len + 1 : len);
        assert_ptr_equal(map_get(m, key), rc == 0 ? &value : NULL);
    }
    map_free(m);
}

static void work_pb(void)
{
    Cri__PodSandboxMetadata meta = CRI__POD_SANDBOX_METADATA__INIT;
    Cri__RunPodSandboxRequest request = CRI__RUN_POD_SANDBOX_REQUEST__INIT;
    Cri__PodSandboxConfig config = CRI__POD_SANDBOX_CONFIG__INIT;
    _cleanup_(arena_freep) struct arena *arena = arena_new(4096);

    meta.name = "name\xff";
    config.metadata = &meta;
    request.config = &config;
    ProtobufCMessage *heap = pb_dup(&request.base, NULL);
    assert_true(heap || failed);
    if (heap)
        assert_true(pb_equal(heap, &request.base) || failed);
    ProtobufCMessage *copy = arena ? pb_dup(&request.base, arena) : NULL;
    if (copy)
        assert_true(pb_sanitize(copy, arena) == 0 || failed);
    if (heap)
        protobuf_c_message_free_unpacked(heap, NULL);
}

static void work_frames(void)
{
    Cri__VersionRequest m = CRI__VERSION_REQUEST__INIT;
    struct pb_frame_reader r;
    ProtobufCMessage *got = NULL;
    int s[2], rc = 0;

    m.version = "v";
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    pb_frame_reader_init(&r);
    if (pb_frame_send(s[0], &m.base, s, 1, NULL) == 0) {
        while (rc == 0 && pb_frame_reader_feed(&r, s[1]) > 0)
            rc = pb_frame_reader_take(&r, &cri__version_request__descriptor, NULL, &got, NULL, NULL);
        assert_true(rc == 1 || failed);
        if (rc == 1)
            protobuf_c_message_free_unpacked(got, NULL);
    }
    pb_frame_reader_done(&r);
    close(s[0]);
    close(s[1]);
}

static void work_file(void)
{
    struct error err = ERROR_INIT;
    char *text = NULL;

    int rc = file_read("/proc/self/status", 1 << 20, &text, NULL, &err);
    assert_true((rc == 0 && text) || (rc == -ENOMEM && !text && err.status == STATUS_RESOURCE_EXHAUSTED));
    free(text);
    rc = file_mkdir_p("/tmp", 0755, &err);
    assert_true(rc == 0 || rc == -ENOMEM);
}

#define TORTURE(name)                                                                                        \
    static void test_##name(void **state)                                                                    \
    {                                                                                                        \
        (void)state;                                                                                         \
        torture(work_##name);                                                                                \
    }

TORTURE(str)
TORTURE(buf)
TORTURE(map)
TORTURE(pb)
TORTURE(frames)
TORTURE(file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_str), cmocka_unit_test(test_buf),    cmocka_unit_test(test_map),
        cmocka_unit_test(test_pb),  cmocka_unit_test(test_frames), cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
