// For tests: a runtime of its own with the real crisp-pod, in directories and cgroups of its own.
#ifndef RUNTIME_TEST_WORLD_H
#define RUNTIME_TEST_WORLD_H

#include "base/db/db.h"
#include "runtime/runtime.h"

struct world {
    char dir[64]; // everything is below
    char run_dir[128];
    char cgroup_parent[64];
    struct db *db;
    struct runtime *rt;
    unsigned n_rootfs;
};

void world_open(struct world *w);  // asserts; opens database and runtime
void world_close(struct world *w); // removes everything
// As after the end of the daemon: closes and opens again. Pods run on.
void world_restart(struct world *w);
void world_stop(struct world *w);  // only the first half
void world_start(struct world *w); // only the second

// A configuration on the heap; the caller frees by protobuf_c_message_free_unpacked().
Cri__PodSandboxConfig *world_pod_config(const char *name);
Cri__ContainerConfig *world_container_config(const char *name, const char *script); // sh -c script

// READY, without a network plugin. The caller unrefs.
struct pod *world_pod(struct world *w, const char *name);
struct container *world_container(struct world *w, struct pod *pod, const char *name, const char *script);
void world_remove_container(struct world *w, struct container *c);
void world_wait_gone(const char *path); // 5 s: what is busy at first is removed in the background
void world_remove_pod(struct world *w, struct pod *pod);
int world_create(struct world *w, struct pod *pod, const Cri__ContainerConfig *config, struct container **out,
                 struct error *err);
void world_wait_exit(struct world *w, struct container *c, struct container_view *v); // 10 s at most

#endif
