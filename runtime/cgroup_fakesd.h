// A systemd as the tests need it: answers on a socket, makes slices and scopes for real, and misbehaves on
// demand.
#ifndef RUNTIME_CGROUP_FAKESD_H
#define RUNTIME_CGROUP_FAKESD_H

#include "runtime/cgroup_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <systemd/sd-bus.h>

#define FAKESD_UNITS 16

struct fakesd {
    char path[128], address[160]; // of the socket
    int listen_fd, stop[2];
    pthread_t thread;
    struct cgroup_host *host; // where units are made; NULL: nowhere
    sd_bus *bus;
    uint32_t jobs;
    char units[FAKESD_UNITS][256]; // "": free
    // What the next calls do; the test sets them while nothing is under way.
    atomic_int hang;         // so many calls get no answer
    atomic_int hang_up;      // after so many calls, each time before the answer, the connection is closed
    atomic_int late_hang_up; // the same once the unit is made
    atomic_int fail_job;     // so many jobs fail
    // What has been seen.
    atomic_int starts, stops, resets, connections;
    atomic_bool delegate, tasks_free, no_dependencies;
    char slice[256];
    bool closing;
};

static inline char (*fakesd_unit(struct fakesd *f, const char *name))[256]
{
    for (int i = 0; i < FAKESD_UNITS; i++) {
        if (str_eq(f->units[i], name))
            return &f->units[i];
    }
    return NULL;
}

// "/a.slice/a-b.slice/x.scope" of a scope, or of a slice itself (scope NULL).
static inline void fakesd_path(const char *slice, const char *scope, char out[CGROUP_PATH_MAX])
{
    assert_int_equal(cgroup_path_of_slice(slice, out, NULL), 0);
    if (scope)
        (void)snprintf(out + strlen(out), CGROUP_PATH_MAX - strlen(out), "/%s", scope);
}

static inline const struct cgroup_hierarchy_fd *fakesd_root(const struct fakesd *f)
{
    for (size_t i = 0; i < f->host->n; i++) {
        if (f->host->v2 || str_eq(f->host->hierarchies[i].data, "name=systemd"))
            return &f->host->fds[i];
    }
    return NULL;
}

static inline int fakesd_make(struct fakesd *f, const char *scope, pid_t pid)
{
    char path[CGROUP_PATH_MAX], step[CGROUP_PATH_MAX], text[16];
    const struct cgroup_hierarchy_fd *root = fakesd_root(f);
    fakesd_path(f->slice, scope, path);
    for (unsigned n = 1; n <= cgroup_path_levels(path); n++) {
        cgroup_path_prefix(path, n, step);
        if (mkdirat(root->fd, step + 1, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    (void)snprintf(text, sizeof(text), "%d", pid);
    return cgroup_file_write(root, path, "cgroup.procs", text);
}

static inline int fakesd_send_removed(struct fakesd *f, const char *job, uint32_t id, const char *unit)
{
    const char *result = f->fail_job > 0 && f->fail_job-- ? "failed" : "done";
    return sd_bus_emit_signal(f->bus, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                              "JobRemoved", "uoss", id, job, unit, result);
}

// true: this call is not answered.
static inline bool fakesd_misbehaves(struct fakesd *f)
{
    if (f->hang > 0) {
        f->hang--;
        return true;
    }
    if (f->hang_up > 0) {
        f->hang_up--;
        f->closing = true;
        return true;
    }
    return false;
}

static inline int fakesd_answer(struct fakesd *f, sd_bus_message *m, const char *unit)
{
    char job[64];
    uint32_t id = ++f->jobs;
    (void)snprintf(job, sizeof(job), "/org/freedesktop/systemd1/job/%u", id);
    if (f->late_hang_up > 0) {
        f->late_hang_up--;
        f->closing = true;
        return 1;
    }
    int r = sd_bus_reply_method_return(m, "o", job);
    return r < 0 ? r : fakesd_send_removed(f, job, id, unit);
}

static inline int fakesd_read_properties(struct fakesd *f, sd_bus_message *m, uint32_t *pid)
{
    int r = sd_bus_message_enter_container(m, 'a', "(sv)");
    while (r >= 0 && (r = sd_bus_message_enter_container(m, 'r', "sv")) > 0) {
        const char *name, *slice = "", *contents = NULL;
        uint64_t number = 0;
        int yes = -1;
        r = sd_bus_message_read(m, "s", &name);
        if (r >= 0 && str_eq(name, "Slice")) {
            r = sd_bus_message_read(m, "v", "s", &slice);
            (void)snprintf(f->slice, sizeof(f->slice), "%s", slice);
        } else if (r >= 0 && str_eq(name, "PIDs")) {
            r = sd_bus_message_read(m, "v", "au", 1, pid);
        } else if (r >= 0 && str_eq(name, "TasksMax")) {
            r = sd_bus_message_read(m, "v", "t", &number);
            f->tasks_free = number == UINT64_MAX;
        } else if (r >= 0 && sd_bus_message_peek_type(m, NULL, &contents) > 0 && str_eq(contents, "b")) {
            r = sd_bus_message_read(m, "v", "b", &yes);
            f->delegate = f->delegate || (str_eq(name, "Delegate") && yes == 1);
            f->no_dependencies = f->no_dependencies || (str_eq(name, "DefaultDependencies") && yes == 0);
        } else if (r >= 0) {
            r = sd_bus_message_skip(m, "v");
        }
        if (r >= 0)
            r = sd_bus_message_exit_container(m);
    }
    return r;
}

static inline int fakesd_start(sd_bus_message *m, void *data, sd_bus_error *e)
{
    struct fakesd *f = data;
    const char *name, *mode;
    uint32_t pid = 0;
    f->starts++;
    if (fakesd_misbehaves(f))
        return 1;
    int r = sd_bus_message_read(m, "ss", &name, &mode);
    if (r >= 0)
        r = fakesd_read_properties(f, m, &pid);
    if (r < 0)
        return r;
    if (fakesd_unit(f, name))
        return sd_bus_error_setf(e, "org.freedesktop.systemd1.UnitExists",
                                 "Unit %s was already loaded or has a fragment file.", name);
    char(*unit)[256] = fakesd_unit(f, "");
    if (!unit || (f->host && fakesd_make(f, name, (pid_t)pid) < 0))
        return sd_bus_error_setf(e, "org.freedesktop.DBus.Error.Failed", "no unit %s", name);
    (void)snprintf(*unit, sizeof(*unit), "%s", name);
    return fakesd_answer(f, m, name);
}

static inline int fakesd_stop(sd_bus_message *m, void *data, sd_bus_error *e)
{
    struct fakesd *f = data;
    const char *name, *mode;
    f->stops++;
    if (fakesd_misbehaves(f))
        return 1;
    int r = sd_bus_message_read(m, "ss", &name, &mode);
    if (r < 0)
        return r;
    char(*unit)[256] = fakesd_unit(f, name), path[CGROUP_PATH_MAX];
    bool slice = str_has_suffix(name, ".slice");
    if (!unit && !slice)
        return sd_bus_error_setf(e, "org.freedesktop.systemd1.NoSuchUnit", "Unit %s not loaded.", name);
    if (f->host) {
        fakesd_path(slice ? name : f->slice, slice ? NULL : name, path);
        (void)unlinkat(fakesd_root(f)->fd, path + 1, AT_REMOVEDIR);
    }
    if (unit)
        (*unit)[0] = '\0';
    return fakesd_answer(f, m, name);
}

static inline int fakesd_reset(sd_bus_message *m, void *data, sd_bus_error *e)
{
    struct fakesd *f = data;
    f->resets++;
    (void)m;
    return sd_bus_error_setf(e, "org.freedesktop.systemd1.NoSuchUnit", "not loaded");
}

static inline int fakesd_subscribe(sd_bus_message *m, void *data, sd_bus_error *e)
{
    (void)data;
    (void)e;
    return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable fakesd_methods[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("StartTransientUnit", "ssa(sv)a(sa(sv))", "o", fakesd_start, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("StopUnit", "ss", "o", fakesd_stop, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("ResetFailedUnit", "s", "", fakesd_reset, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Subscribe", "", "", fakesd_subscribe, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL("JobRemoved", "uoss", 0),
    SD_BUS_VTABLE_END,
};

static inline void fakesd_drop(struct fakesd *f)
{
    if (f->bus)
        sd_bus_close_unref(f->bus);
    f->bus = NULL;
    f->closing = false;
}

static inline void fakesd_accept(struct fakesd *f)
{
    int fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    sd_id128_t id = {{1}};
    fakesd_drop(f);
    f->connections++;
    if (fd < 0 || sd_bus_new(&f->bus) < 0 || sd_bus_set_fd(f->bus, fd, fd) < 0 ||
        sd_bus_set_server(f->bus, 1, id) < 0 || sd_bus_set_anonymous(f->bus, 1) < 0 ||
        sd_bus_add_object_vtable(f->bus, NULL, "/org/freedesktop/systemd1",
                                 "org.freedesktop.systemd1.Manager", fakesd_methods, f) < 0 ||
        sd_bus_start(f->bus) < 0)
        abort();
}

static inline void *fakesd_main(void *data)
{
    struct fakesd *f = data;
    for (;;) {
        struct pollfd fds[3] = {{.fd = f->stop[0], .events = POLLIN},
                                {.fd = f->listen_fd, .events = POLLIN},
                                {.fd = f->bus ? sd_bus_get_fd(f->bus) : -1}};
        int r = 1;
        fds[2].events = f->bus ? (short)sd_bus_get_events(f->bus) : 0;
        (void)poll(fds, 3, 1000);
        if (fds[0].revents)
            break;
        if (fds[1].revents)
            fakesd_accept(f);
        while (f->bus && !f->closing && (r = sd_bus_process(f->bus, NULL)) > 0)
            ;
        if (r < 0 || f->closing)
            fakesd_drop(f);
    }
    fakesd_drop(f);
    return NULL;
}

static inline void fakesd_open(struct fakesd *f)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    static int count;
    *f = (struct fakesd){0};
    (void)snprintf(f->path, sizeof(f->path), "/tmp/crisp-fakesd-%d-%d", getpid(), count++);
    (void)snprintf(f->address, sizeof(f->address), "unix:path=%s", f->path);
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->path);
    f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(f->listen_fd >= 0);
    assert_int_equal(bind(f->listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(f->listen_fd, 16), 0);
    assert_int_equal(pipe2(f->stop, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, fakesd_main, f), 0);
}

static inline void fakesd_close(struct fakesd *f)
{
    assert_int_equal(close(f->stop[1]), 0);
    assert_int_equal(pthread_join(f->thread, NULL), 0);
    assert_int_equal(close(f->stop[0]) | close(f->listen_fd) | unlink(f->path), 0);
}

#endif
