// What the tests of cgroups share: a host whose parent is a test's own, and pods in it.
#ifndef RUNTIME_CGROUP_FIXTURE_H
#define RUNTIME_CGROUP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define TRIES 2000 // of one millisecond, for what the kernel does in its own time

struct fixture {
    struct cgroup_host *host;
    struct arena *arena;
    char parent[64];
};

static inline void pause_ms(void)
{
    (void)poll(NULL, 0, 1);
}

static inline int open_host(struct fixture *f, const char *mountinfo)
{
    (void)snprintf(f->parent, sizeof(f->parent), "/crisp-test-%d", getpid());
    struct cgroup_options o = {.parent = f->parent, .mountinfo = mountinfo};
    struct error err = ERROR_INIT;
    if (cgroup_host_open(&o, &f->host, &err) < 0) {
        print_message("%s\n", err.message);
        return -1;
    }
    return 0;
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    f->arena = arena_new(1 << 20);
    return f->arena ? open_host(f, NULL) : -1;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    char first[256];
    (void)snprintf(first, sizeof(first), "%s%s", f->host->hierarchies[0].mount_point, f->parent);
    cgroup_host_close(f->host);
    int left = access(first, F_OK) == 0;
    arena_free(f->arena);
    free(f);
    return left ? -1 : 0;
}

// Makes the pod's place and a leaf; the paths are the fixture's parent's.
static inline void make_pod(struct fixture *f, char pod[CGROUP_PATH_MAX], char leaf[CGROUP_PATH_MAX],
                            uint32_t *made)
{
    assert_int_equal(cgroup_pod_path(f->host, "", "pod", pod, NULL), 0);
    struct error err = ERROR_INIT;
    if (cgroup_pod_create(f->host, pod, made, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(cgroup_leaf_path(pod, "leaf", leaf, NULL), 0);
}

static inline void remove_pod(struct fixture *f, const char *pod, const char *leaf, uint32_t made)
{
    struct error err = ERROR_INIT;
    int r = 0;
    for (int i = 0; i < TRIES && (r = cgroup_remove(f->host, leaf, &err)) == -EBUSY; i++)
        pause_ms();
    if (r < 0)
        fail_msg("%s", err.message);
    assert_int_equal(cgroup_remove(f->host, leaf, NULL), 0); // absent is fine
    assert_int_equal(cgroup_pod_remove(f->host, pod, made, &err), 0);
    assert_int_equal(cgroup_pod_remove(f->host, pod, made, &err), 0);
}

static inline bool needs(struct fixture *f, const char *const *controllers)
{
    for (; *controllers; controllers++) {
        if (!cgroup_host_has(f->host, *controllers))
            return false;
    }
    return !cgroup_host_is_v2(f->host);
}

#endif
