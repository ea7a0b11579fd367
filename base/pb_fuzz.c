// Fuzz: what a hostile peer can do with frames and with CRI messages. The first byte says how the rest is
// cut.
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "base/arena.h"
#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(ProtobufCMessage *m, struct arena *arena)
{
    (void)pb_has_unknown(m);
    if (!pb_equal(m, m))
        abort();
    if (pb_sanitize(m, arena) < 0)
        return;
    Cri__RunPodSandboxRequest *request = (Cri__RunPodSandboxRequest *)m;
    if (request->runtime_handler && !str_is_utf8(request->runtime_handler))
        abort();
}

static void feed(int sock, struct pb_frame_reader *r, struct arena *arena)
{
    for (;;) {
        ProtobufCMessage *m = NULL;
        long n = pb_frame_reader_feed(r, sock);
        int rc = pb_frame_reader_take(r, &cri__run_pod_sandbox_request__descriptor, arena_pb(arena), &m, NULL,
                                      NULL);
        if (rc == 1)
            check_message(m, arena);
        if (rc < 0 || (n <= 0 && rc != 1))
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new(1 << 20);
    struct pb_frame_reader r;
    int s[2];

    if (size < 1 || size > 60000 || !arena ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) < 0)
        return 0;
    size_t piece = data[0] ? data[0] : size;
    pb_frame_reader_init(&r);
    for (size_t at = 1; at < size; at += piece) {
        if (write(s[0], data + at, size - at < piece ? size - at : piece) < 0)
            break;
        feed(s[1], &r, arena);
    }
    pb_frame_reader_done(&r);
    (void)close(s[0]);
    (void)close(s[1]);
    return 0;
}
