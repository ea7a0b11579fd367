// A container's standard streams: pipes (or a pty's master) that crisp-pod owns and reads into the log.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/pod/container.h"
#include "runtime/pod/sys.h"

// One read per wakeup and stream: no container can keep the loop from the others. Shared by all, since a
// crisp-pod is to stay small: its pages come into being when there is much to read, and are given back then.
#define READ_MAX  65536
#define READ_KEEP 4096

#define DRAIN_READS 32 // twice what a pipe can hold without privileges

static char *scratch; // not in .bss: it would tear the few pages of that apart

static void output_close(struct output *o)
{
    int fd = o->source.fd;

    if (fd < 0)
        return;
    loop_remove(&o->container->pod->loop, &o->source);
    (void)close(fd);
    crilog_end(&o->container->log, o->stream);
}

// Reads once. Positive: there was something; 0: it has ended; -EAGAIN: there is nothing now.
static int output_read(struct output *o)
{
    ssize_t n;

    do
        n = read(o->source.fd, scratch, READ_MAX);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return -EAGAIN;
    if (n <= 0)
        return 0; // end of file, or EIO: every slave of the pty is closed
    crilog_write(&o->container->log, o->stream, scratch, (size_t)n);
    // Children get a copy of this memory, and somebody of another container may trace them (child_stage.c).
    explicit_bzero(scratch, n < READ_KEEP ? (size_t)n : READ_KEEP);
    if (n > READ_KEEP)
        (void)madvise(scratch + READ_KEEP, READ_MAX - READ_KEEP, MADV_DONTNEED);
    return 1;
}

static void output_ready(struct source *s, uint32_t events)
{
    struct output *o = container_of(s, struct output, source);

    (void)events;
    if (output_read(o) != 0)
        return;
    output_close(o);
    if (o->container->phase == CONTAINER_ENDING)
        container_begin_end(o->container);
}

// output: the child's end is the writing one. Sets *child and *ours (non-blocking).
static int open_pipe(const struct pod *p, bool output, int *child, int *ours, struct error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "open a pipe for the container's output");
    // The child is in the user namespace already, and there hands it on to the container's user.
    if (p->uids.length)
        (void)!fchown(fds[0], p->uids.host_id, p->gids.host_id);
    *child = fds[output ? 1 : 0];
    *ours = fds[output ? 0 : 1];
    return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? error_errno(err, errno, "open a pipe") : 0;
}

int container_open_stdio(struct container *c, int stdio[3], struct error *err)
{
    int rc = 0;

    if (!scratch) {
        void *pages = mmap(NULL, READ_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED)
            return error_errno(err, errno, "memory for the container's output");
        scratch = pages;
    }
    if (c->tty) // its master comes from the child, which alone may open a pty of the container's devpts
        return 0;
    if (c->has_stdin)
        rc = open_pipe(c->pod, false, &stdio[0], &c->stdin_fd, err);
    // The descriptors stay here until the launch has succeeded, and then are watched.
    for (int i = 0; rc == 0 && i < CRILOG_STREAMS; i++)
        rc = open_pipe(c->pod, true, &stdio[i + 1], &c->outputs[i].source.fd, err);
    return rc;
}

int container_watch_output(struct container *c, struct error *err)
{
    if (c->tty) {
        int fd = c->launch.tty;
        if (fd < 0)
            return error_set(err, STATUS_INTERNAL, EIO, "the container's terminal was not handed over");
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
            return error_errno(err, errno, "set up the container's terminal");
        c->outputs[CRILOG_STDOUT].source.fd = steal_fd(&c->launch.tty);
    }
    for (int i = 0; i < CRILOG_STREAMS; i++) {
        struct source *s = &c->outputs[i].source;
        s->ready = output_ready;
        int rc = s->fd < 0 ? 0 : loop_add(&c->pod->loop, s, s->fd, EPOLLIN, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void container_forget_output(const struct pod *p)
{
    for (struct container *c = p->containers; c; c = c->next)
        for (int i = 0; i < CRILOG_STREAMS; i++)
            if (c->log.streams[i].held)
                explicit_bzero(c->log.streams[i].held, c->log.streams[i].alloc);
}

bool container_output_open(const struct container *c)
{
    return c->outputs[CRILOG_STDOUT].source.fd >= 0 || c->outputs[CRILOG_STDERR].source.fd >= 0;
}

void container_drain_output(struct container *c)
{
    for (int i = 0; i < CRILOG_STREAMS; i++) {
        struct output *o = &c->outputs[i];
        for (int reads = 0; o->source.fd >= 0 && reads < DRAIN_READS && output_read(o) > 0;)
            reads++;
    }
}

void container_close_output(struct container *c)
{
    for (int i = 0; i < CRILOG_STREAMS; i++)
        output_close(&c->outputs[i]);
}
