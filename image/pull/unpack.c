#include "image/pull/unpack.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/pb.h"
#include "image/pull/extract.h"
#include "image/pull/inflate.h"
#include "image/pull/layer_tar.h"
#include "image/pull/sandbox.h"

#define PIPE_SIZE (1024 * 1024)

static int send_event(int sock, Pull__UnpackEvent *event, struct error *err)
{
    return pb_frame_send(sock, &event->base, NULL, 0, err);
}

static int report_opaque(void *data, const char *path, struct error *err)
{
    Pull__UnpackEvent event = PULL__UNPACK_EVENT__INIT;

    event.kind_case = PULL__UNPACK_EVENT__KIND_OPAQUE_DIR;
    event.opaque_dir.data = (uint8_t *)path;
    event.opaque_dir.len = strlen(path);
    return send_event(*(int *)data, &event, err);
}

static int send_done(int sock, Pull__UnpackDone *done, struct error *err)
{
    Pull__UnpackEvent event = PULL__UNPACK_EVENT__INIT;

    event.kind_case = PULL__UNPACK_EVENT__KIND_DONE;
    event.done = done;
    return send_event(sock, &event, err);
}

// What it allocates goes with the process.
static int unpack_layer(int data_fd, int sock, const Pull__UnpackStart *start, struct error *err)
{
    _cleanup_(inflate_freep) struct inflate *in = NULL;
    char diff_id[DIGEST_TEXT_MAX];
    Pull__Loose loose = PULL__LOOSE__INIT;
    struct extract_options options = {
        .max_entries = start->limits->layer_entries, .opaque = report_opaque, .data = &sock, .loose = &loose};
    struct extract_stats stats;
    Pull__UnpackDone done = PULL__UNPACK_DONE__INIT;
    int64_t busy_ns, wait_ns, started_ns;
    int r = inflate_new(data_fd, start->limits->layer_bytes, &in, err);

    if (r < 0)
        return r;
    extract_prepare();
    options.root_fd = sandbox_enter(start->dir, start->limits->layer_bytes, err);
    if (options.root_fd < 0)
        return options.root_fd;
    started_ns = clock_mono_ns();
    r = extract_tar(in, &options, &stats, err);
    if (r == 0)
        r = inflate_finish(in, diff_id, err);
    if (r < 0)
        return r;
    inflate_times(in, &busy_ns, &wait_ns);
    done.diff_id = diff_id;
    done.bytes = stats.bytes;
    done.inodes = stats.inodes;
    done.inflate_ns = (uint64_t)busy_ns;
    done.write_ns = (uint64_t)(clock_mono_ns() - started_ns - busy_ns - wait_ns);
    if (loose.opaque_root || loose.n_implicit_dirs || loose.n_links)
        done.loose = &loose;
    return send_done(sock, &done, err);
}

static int export_layer(int data_fd, int sock, const Pull__UnpackStart *start, struct error *err)
{
    Pull__UnpackDone done = PULL__UNPACK_DONE__INIT;
    Pull__UnpackEvent event = PULL__UNPACK_EVENT__INIT;
    int root_fd = sandbox_enter_reader(start->dir, err);
    int r = root_fd < 0 ? root_fd : layer_tar_write(root_fd, data_fd, err);

    if (r < 0)
        return r;
    event.kind_case = PULL__UNPACK_EVENT__KIND_DONE;
    event.done = &done;
    return send_event(sock, &event, err);
}

static _Noreturn void child_main(int data_fd, int sock, const Pull__UnpackStart *start)
{
    struct error err = ERROR_INIT;

    if ((start->export ? export_layer : unpack_layer)(data_fd, sock, start, &err) < 0) {
        Pull__PullFailed failed = PULL__PULL_FAILED__INIT;
        Pull__UnpackEvent event = PULL__UNPACK_EVENT__INIT;

        failed.status = err.status;
        failed.errnum = err.errnum;
        failed.message = err.message;
        event.kind_case = PULL__UNPACK_EVENT__KIND_FAILED;
        event.failed = &failed;
        (void)send_event(sock, &event, NULL);
        _exit(1);
    }
    _exit(0);
}

static void fork_child(int sock, const Pull__UnpackStart *start, const int *fds)
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)close(sock);
        child_main(fds[0], fds[1], start);
    }
    // A failed fork is seen as the end of the event socket.
}

static _Noreturn void forker_main(int sock, pid_t parent)
{
    struct pb_frame_reader reader;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "crisp-unpack", 0, 0, 0);
    (void)signal(SIGCHLD, SIG_IGN); // children are reaped by the kernel
    if (getppid() != parent)
        _exit(0);
    pb_frame_reader_init(&reader);
    for (;;) {
        ProtobufCMessage *m = NULL;
        int fds[PB_FRAME_FDS_MAX];
        size_t n_fds = ARRAY_SIZE(fds);
        int r = pb_frame_reader_take(&reader, &pull__unpack_start__descriptor, NULL, &m, fds, &n_fds);

        if (r == 0) {
            long n = pb_frame_reader_feed(&reader, sock);
            if (n == 0 || (n < 0 && n != -EINTR))
                _exit(0);
            continue;
        }
        if (r < 0)
            _exit(1);
        if (n_fds == 2)
            fork_child(sock, (Pull__UnpackStart *)m, fds);
        for (size_t i = 0; i < n_fds; i++)
            (void)close(fds[i]);
        protobuf_c_message_free_unpacked(m, NULL);
    }
}

int unpack_forker_start(struct error *err)
{
    pid_t parent = getpid(), pid;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "start the unpacker");
    pid = fork();
    if (pid < 0) {
        int errnum = errno;
        (void)close(pair[0]);
        (void)close(pair[1]);
        return error_errno(err, errnum, "start the unpacker");
    }
    if (pid == 0) {
        // Nothing but its socket and standard error: above all not the one to crispd.
        if (dup2(pair[1], 3) < 0)
            _exit(1);
        (void)close_range(4, ~0U, 0);
        forker_main(3, parent);
    }
    (void)close(pair[1]);
    return pair[0];
}

int unpack_start(int forker, const char *dir, const Pull__Limits *limits, int *data_fd, int *event_fd,
                 struct error *err)
{
    Pull__UnpackStart start = PULL__UNPACK_START__INIT;
    _cleanup_fd_ int data_rd = -1, data_wr = -1, event_rd = -1, event_wr = -1;
    int pipe_fds[2], pair[2];
    int r;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "start the unpacker");
    data_rd = pipe_fds[0];
    data_wr = pipe_fds[1];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "start the unpacker");
    event_rd = pair[0];
    event_wr = pair[1];
    // The larger the pipe, the fewer switches between the two; past the user's limit the default has to do.
    (void)fcntl(data_wr, F_SETPIPE_SZ, PIPE_SIZE);
    if (fcntl(data_wr, F_SETFL, O_NONBLOCK) < 0 || fcntl(event_rd, F_SETFL, O_NONBLOCK) < 0)
        return error_errno(err, errno, "start the unpacker");
    start.dir = (char *)dir;
    start.limits = (Pull__Limits *)limits;
    r = pb_frame_send(forker, &start.base, (int[]){data_rd, event_wr}, 2, err);
    if (r < 0)
        return error_wrap(err, "start the unpacker");
    *data_fd = steal_fd(&data_wr);
    *event_fd = steal_fd(&event_rd);
    return 0;
}

int unpack_start_reader(int forker, const char *dir, int *data_fd, int *event_fd, struct error *err)
{
    Pull__UnpackStart start = PULL__UNPACK_START__INIT;
    _cleanup_fd_ int data_rd = -1, data_wr = -1, event_rd = -1, event_wr = -1;
    int pipe_fds[2], pair[2];
    int r;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "read layer %s", dir);
    data_rd = pipe_fds[0];
    data_wr = pipe_fds[1];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "read layer %s", dir);
    event_rd = pair[0];
    event_wr = pair[1];
    (void)fcntl(data_wr, F_SETPIPE_SZ, PIPE_SIZE);
    start.dir = (char *)dir;
    start.export = true;
    r = pb_frame_send(forker, &start.base, (int[]){data_wr, event_wr}, 2, err);
    if (r < 0)
        return error_wrap(err, "read layer %s", dir);
    *data_fd = steal_fd(&data_rd);
    *event_fd = steal_fd(&event_rd);
    return 0;
}
