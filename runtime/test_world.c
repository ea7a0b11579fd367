#include "runtime/test_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka wants those before it
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "api/pull/pull.pb-c.h"
#include "base/file.h"
#include "base/pb.h"
#include "base/spawn.h"
#include "base/str.h"

static char *copy_of(const char *s)
{
    char *copy = strdup(s);
    assert_non_null(copy);
    return copy;
}

static void run(const char *script)
{
    struct error err = ERROR_INIT;
    struct spawn_result result;
    const struct ctx none = CTX_NONE;
    char *const argv[] = {copy_of("sh"), copy_of("-c"), copy_of(script), NULL};
    char *const envp[] = {copy_of("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), NULL};
    const struct spawn_options o = {.path = "/bin/sh", .argv = argv, .envp = envp};
    int r = spawn_run(&o, NULL, 0, 65536, &none, &result, &err);
    if (r < 0 || result.exit_code != 0)
        fail_msg("%s: %s%s", script, err.message, r == 0 && result.err.data ? result.err.data : "");
    spawn_result_done(&result);
    for (size_t i = 0; i < 3; i++)
        free(argv[i]);
    free(envp[0]);
}

// Busybox and the libraries it needs, as a layer of an image would have them.
static void make_layer(struct world *w)
{
    char script[1024];
    snprintf(script, sizeof(script),
             "set -e; l=%s/layers/base; mkdir -p $l/bin $l/etc $l/tmp; cp /bin/busybox $l/bin/;"
             " for f in $(ldd /bin/busybox | grep -o '/[^ ]*'); do mkdir -p $l$(dirname $f);"
             " cp -L $f $l$f; done;"
             " for a in sh sleep cat echo true false id; do ln $l/bin/busybox $l/bin/$a; done;"
             " echo 'root:x:0:0:root:/root:/bin/sh' >$l/etc/passwd; echo 'root:x:0:' >$l/etc/group",
             w->dir);
    run(script);
}

void world_start(struct world *w)
{
    struct error err = ERROR_INIT;
    char path[256];
    const struct db_module modules[] = {runtime_db_module};
    snprintf(path, sizeof(path), "%s/crisp.db", w->dir);
    if (db_open(path, modules, 1, &w->db, &err) < 0)
        fail_msg("%s", err.message);
    static char *const annotations[] = {(char *)"health", NULL};
    const struct runtime_options options = {.db = w->db,
                                            .annotations_allowed = annotations,
                                            .run_dir = w->run_dir,
                                            .crisp_pod_path = CRISP_POD_PATH,
                                            .cgroup_parent = w->cgroup_parent,
                                            .cgroup_driver = "cgroupfs"};
    if (runtime_open(&options, &w->rt, &err) < 0)
        fail_msg("%s", err.message);
}

void world_stop(struct world *w)
{
    runtime_close(w->rt);
    db_close(w->db);
    w->rt = NULL;
    w->db = NULL;
}

void world_restart(struct world *w)
{
    world_stop(w);
    world_start(w);
}

void world_open(struct world *w)
{
    *w = (struct world){0};
    snprintf(w->dir, sizeof(w->dir), "/tmp/crisp-runtime-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->run_dir, sizeof(w->run_dir), "%s/run", w->dir);
    snprintf(w->cgroup_parent, sizeof(w->cgroup_parent), "/crisp-test-%d", getpid());
    make_layer(w);
    world_start(w);
}

void world_close(struct world *w)
{
    struct error err = ERROR_INIT;
    world_stop(w);
    if (file_remove_tree(w->dir, &err) < 0)
        fail_msg("something is left: %s", err.message);
}

Cri__PodSandboxConfig *world_pod_config(const char *name)
{
    Cri__PodSandboxMetadata m = CRI__POD_SANDBOX_METADATA__INIT;
    Cri__PodSandboxConfig c = CRI__POD_SANDBOX_CONFIG__INIT;
    m.name = (char *)name;
    m.uid = (char *)"uid-1";
    m.namespace_ = (char *)"test";
    c.metadata = &m;
    c.hostname = (char *)name;
    return (Cri__PodSandboxConfig *)pb_dup(&c.base, NULL);
}

Cri__ContainerConfig *world_container_config(const char *name, const char *script)
{
    Cri__ContainerMetadata m = CRI__CONTAINER_METADATA__INIT;
    Cri__ImageSpec image = CRI__IMAGE_SPEC__INIT;
    Cri__ContainerConfig c = CRI__CONTAINER_CONFIG__INIT;
    char *command[] = {(char *)"/bin/sh", (char *)"-c", (char *)script};
    m.name = (char *)name;
    image.image = (char *)"busybox";
    c.metadata = &m;
    c.image = &image;
    c.command = command;
    c.n_command = ARRAY_SIZE(command);
    return (Cri__ContainerConfig *)pb_dup(&c.base, NULL);
}

struct pod *world_pod(struct world *w, const char *name)
{
    struct error err = ERROR_INIT;
    const struct ctx none = CTX_NONE;
    struct pod *pod = NULL;
    bool made;
    _cleanup_fd_ int netns = -1;
    Cri__PodSandboxConfig *config = world_pod_config(name);
    int r = runtime_pod_claim(w->rt, config, "", &none, &pod, &made, &err);
    if (r == 0 && made)
        r = runtime_pod_launch(w->rt, pod, &netns, &err);
    if (r == 0 && made)
        r = runtime_pod_ready(w->rt, pod, NULL, 0, &err);
    if (r < 0)
        fail_msg("%s", err.message);
    cri__pod_sandbox_config__free_unpacked(config, NULL);
    return pod;
}

int world_create(struct world *w, struct pod *pod, const Cri__ContainerConfig *config, struct container **out,
                 struct error *err)
{
    const struct ctx none = CTX_NONE;
    bool made;
    int r = runtime_container_claim(w->rt, pod, config, &none, out, &made, err);
    if (r < 0 || !made)
        return r;
    char layers[128], upper[128], work[128];
    char *lowers[] = {(char *)"base", NULL};
    Pull__ImageConfig image = PULL__IMAGE_CONFIG__INIT;
    snprintf(layers, sizeof(layers), "%s/layers", w->dir);
    snprintf(upper, sizeof(upper), "%s/upper%u", w->dir, w->n_rootfs);
    snprintf(work, sizeof(work), "%s/work%u", w->dir, w->n_rootfs++);
    assert_int_equal(mkdir(upper, 0755), 0);
    assert_int_equal(mkdir(work, 0755), 0);
    const struct container_rootfs rootfs = {.image_id = "sha256:00",
                                            .image_config = &image,
                                            .layers_dir = layers,
                                            .lowers = lowers,
                                            .n_lowers = 1,
                                            .upper = upper,
                                            .work = work};
    r = runtime_container_create(w->rt, *out, &rootfs, err);
    if (r < 0) {
        runtime_container_abandon(w->rt, *out, err);
        container_unref(*out);
        *out = NULL;
    }
    return r;
}

struct container *world_container(struct world *w, struct pod *pod, const char *name, const char *script)
{
    struct error err = ERROR_INIT;
    struct container *c = NULL;
    Cri__ContainerConfig *config = world_container_config(name, script);
    if (world_create(w, pod, config, &c, &err) < 0)
        fail_msg("%s", err.message);
    cri__container_config__free_unpacked(config, NULL);
    return c;
}

void world_remove_container(struct world *w, struct container *c)
{
    struct error err = ERROR_INIT;
    const struct ctx none = CTX_NONE;
    bool gone;
    int r = runtime_container_remove_begin(w->rt, c, &none, &gone, &err);
    if (r == 0 && !gone)
        r = runtime_container_remove_end(w->rt, c, true, &err);
    if (r < 0)
        fail_msg("%s", err.message);
}

void world_wait_gone(const char *path)
{
    for (int i = 0; i < 500 && access(path, F_OK) == 0; i++)
        (void)poll(NULL, 0, 10);
    assert_int_equal(access(path, F_OK), -1);
}

void world_remove_pod(struct world *w, struct pod *pod)
{
    struct error err = ERROR_INIT;
    const struct ctx none = CTX_NONE;
    struct container **all = NULL;
    size_t n = 0;
    int r = runtime_pod_enter(w->rt, pod, &none, &err);
    if (r == 0)
        r = runtime_pod_kill(w->rt, pod, &err);
    if (r == 0)
        r = runtime_pod_stop(w->rt, pod, &err);
    if (r == 0)
        r = runtime_container_list(w->rt, pod, true, &all, &n, &err);
    if (r < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n; i++)
        world_remove_container(w, all[i]);
    runtime_containers_free(all, n);
    if (runtime_pod_forget(w->rt, pod, &err) < 0)
        fail_msg("%s", err.message);
    runtime_pod_leave(w->rt, pod);
    world_wait_gone(pod->dir);
}

void world_wait_exit(struct world *w, struct container *c, struct container_view *v)
{
    for (int i = 0; i < 1000; i++) {
        runtime_container_view(w->rt, c, v);
        if (v->state == CONTAINER_EXITED)
            return;
        (void)poll(NULL, 0, 10);
    }
    fail_msg("container %s does not exit", c->id);
}
