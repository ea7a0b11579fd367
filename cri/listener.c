#include "cri/listener.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/lockfile.h"

#define BACKLOG         128
#define PAUSE_MS        100 // after an accept that failed for want of descriptors
#define EVENTS_PER_WAIT 32

struct listener {
    struct listener_options options;
    char *path;
    struct lockfile lock;
    int fd, stop_fd, epoll_fd;
    dev_t dev; // of the socket that we bound
    ino_t ino;
    bool bound, paused, running;
    pthread_t thread;
    int *shadows; // duplicates of the open connections; the thread's own
    size_t n_connections;
};

static void listener_free(struct listener *l)
{
    if (!l)
        return;
    struct stat st;
    if (l->bound && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        (void)unlink(l->path);
    for (size_t i = 0; i < l->n_connections; i++)
        (void)close(l->shadows[i]);
    free(l->shadows);
    fd_closep(&l->fd);
    fd_closep(&l->stop_fd);
    fd_closep(&l->epoll_fd);
    lockfile_release(&l->lock);
    free(l->path);
    free(l);
}

static void listener_freep(struct listener **l)
{
    listener_free(*l);
}

// With the lock held: makes way for bind(2), unless somebody without the lock serves this path.
static int remove_stale(const char *path, const struct sockaddr_un *address, struct error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "socket %s", path);
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, STATUS_FAILED_PRECONDITION, EEXIST,
                         "socket %s: a file that is no socket is in its place: remove it", path);
    _cleanup_fd_ int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return error_errno(err, errno, "socket %s", path);
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return error_set(err, STATUS_FAILED_PRECONDITION, EADDRINUSE,
                         "socket %s: another program serves it: stop that one, or configure another socket",
                         path);
    if (unlink(path) != 0 && errno != ENOENT)
        return error_errno(err, errno, "remove the stale socket %s", path);
    return 0;
}

static int bind_socket(struct listener *l, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    size_t len = strlen(l->path);
    if (len >= sizeof(address.sun_path))
        return error_set(err, STATUS_INVALID_ARGUMENT, ENAMETOOLONG,
                         "socket %s: a socket's path has at most 107 bytes", l->path);
    memcpy(address.sun_path, l->path, len + 1);
    if (remove_stale(l->path, &address, err) != 0)
        return -err->errnum;
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // The mode set on the descriptor is what the file is born with: nobody else may connect before chmod(2),
    // which is needed as bind(2) applies the umask.
    if (l->fd < 0 || fchmod(l->fd, 0600) != 0 ||
        bind(l->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        return error_errno(err, errno, "bind the socket %s", l->path);
    if (lstat(l->path, &st) == 0) {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
        l->bound = true;
    }
    if (chmod(l->path, 0660) != 0 || listen(l->fd, BACKLOG) != 0)
        return error_errno(err, errno, "listen on the socket %s", l->path);
    return 0;
}

static int make_parent(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return 0;
    _cleanup_free_ char *dir = strndup(path, (size_t)(slash - path));
    if (!dir)
        return error_errno(err, ENOMEM, "socket %s", path);
    return file_mkdir_p(dir, 0755, err);
}

static int lock_socket(struct listener *l, struct error *err)
{
    _cleanup_free_ char *path = str_printf("%s.lock", l->path);
    _cleanup_free_ char *what = str_printf("the socket %s", l->path);
    if (!path || !what)
        return error_errno(err, ENOMEM, "socket %s", l->path);
    return lockfile_take(&l->lock, path, what, err);
}

// epoll's data: the connection's descriptor, or these.
#define DATA_LISTEN UINT64_MAX
#define DATA_STOP   (UINT64_MAX - 1)

static int watch(struct listener *l, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int listener_open(const struct listener_options *options, struct listener **out, struct error *err)
{
    struct error local = ERROR_INIT;
    err = err ? err : &local;
    _cleanup_(listener_freep) struct listener *l = calloc(1, sizeof(*l));
    if (!l)
        return error_errno(err, ENOMEM, "socket %s", options->path);
    *l = (struct listener){
        .options = *options, .lock = LOCKFILE_INIT, .fd = -1, .stop_fd = -1, .epoll_fd = -1};
    l->path = strdup(options->path);
    l->shadows = calloc(options->max_connections, sizeof(int));
    if (!l->path || !l->shadows)
        return error_errno(err, ENOMEM, "socket %s", options->path);
    if (make_parent(l->path, err) != 0 || lock_socket(l, err) != 0 || bind_socket(l, err) != 0)
        return -err->errnum;
    l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->stop_fd < 0 || l->epoll_fd < 0 || watch(l, l->fd, EPOLLIN, DATA_LISTEN) != 0 ||
        watch(l, l->stop_fd, EPOLLIN, DATA_STOP) != 0)
        return error_errno(err, errno, "watch the socket %s", l->path);
    *out = steal_ptr(&l);
    return 0;
}

static void log_peer(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    char pid[16], uid[16];
    if (!log_enabled(LOG_LEVEL_DEBUG) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return;
    (void)snprintf(pid, sizeof(pid), "%d", (int)peer.pid);
    (void)snprintf(uid, sizeof(uid), "%u", (unsigned)peer.uid);
    log_debug("connection accepted", "peer_pid", pid, "peer_uid", uid);
}

// Counting connections whose descriptors gRPC owns and closes: we watch a duplicate for the hang-up that
// comes when either side is through (gRPC shuts a socket down before it closes it).
static int count_connection(struct listener *l, int fd)
{
    _cleanup_fd_ int shadow = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (shadow < 0 || watch(l, shadow, 0, (uint64_t)shadow) != 0) // EPOLLHUP comes unasked
        return -errno;
    l->shadows[l->n_connections++] = steal_fd(&shadow);
    return 0;
}

static void set_paused(struct listener *l, bool paused)
{
    struct epoll_event event = {.events = paused ? 0 : EPOLLIN, .data.u64 = DATA_LISTEN};
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, l->fd, &event);
    l->paused = paused;
}

static void accept_one(struct listener *l)
{
    _cleanup_fd_ int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_error("no connection can be accepted", "socket", l->path, "error", strerror(errno));
            set_paused(l, true);
        }
        return;
    }
    if (l->n_connections >= l->options.max_connections) {
        log_warn("connection refused: too many are open; see max_connections", "socket", l->path);
        return;
    }
    if (count_connection(l, fd) != 0) {
        log_error("connection refused", "socket", l->path, "error", strerror(errno));
        return;
    }
    log_peer(fd);
    l->options.accepted(steal_fd(&fd), l->options.data);
}

static void end_connection(struct listener *l, int shadow)
{
    // Closing alone would leave it in the set as long as gRPC's descriptor of the same socket is open.
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, shadow, NULL);
    (void)close(shadow);
    for (size_t i = 0; i < l->n_connections; i++) {
        if (l->shadows[i] == shadow) {
            l->shadows[i] = l->shadows[--l->n_connections];
            return;
        }
    }
}

static void *listener_main(void *arg)
{
    struct listener *l = arg;
    struct epoll_event events[EVENTS_PER_WAIT];
    for (;;) {
        int n = epoll_wait(l->epoll_fd, events, EVENTS_PER_WAIT, l->paused ? PAUSE_MS : -1);
        if (l->paused)
            set_paused(l, false);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == DATA_STOP)
                return NULL;
            if (events[i].data.u64 == DATA_LISTEN)
                accept_one(l);
            else
                end_connection(l, (int)events[i].data.u64);
        }
    }
}

int listener_start(struct listener *l, struct error *err)
{
    int rc = pthread_create(&l->thread, NULL, listener_main, l);
    if (rc != 0)
        return error_errno(err, rc, "start the thread that accepts connections");
    l->running = true;
    return 0;
}

void listener_close(struct listener *l)
{
    if (!l)
        return;
    if (l->running) {
        uint64_t one = 1;
        (void)!write(l->stop_fd, &one, sizeof(one));
        (void)pthread_join(l->thread, NULL);
    }
    listener_free(l);
}
