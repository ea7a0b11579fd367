// Control groups as crisp-pod needs them: join, kill, count OOM kills. Making and limiting them is crispd's.
#ifndef RUNTIME_POD_CGROUPS_H
#define RUNTIME_POD_CGROUPS_H

#include <stdbool.h>
#include <stddef.h>

#include "api/pod/pod.pb-c.h"
#include "base/error.h"

#define CGROUPS_PARENTS_MAX 16

// Keeps a descriptor of the directory that `dir` is in, by which cgroups below it are found faster. Not
// finding it, or a 17th one, costs only that time.
void cgroups_remember_parent(const char *dir);
size_t cgroups_parent_fds(int fds[CGROUPS_PARENTS_MAX]); // how many there are
// Is each of the place's directories below one of them? It can be joined from any mount namespace then.
bool cgroups_within_reach(const Pod__CgroupPlace *place);
// In a child that has joined its cgroups: lets go of them.
void cgroups_close_parents(void);

// The calling process joins dir.
int cgroups_join(const char *dir, struct error *err);
// All of a place; v1: exec_id's child of the freezer hierarchy (cgroups_exec_create()) instead of the
// container's own when exec_id is set.
int cgroups_join_place(const Pod__CgroupPlace *place, const char *exec_id, struct error *err);

// The child cgroup by which an exec's whole tree is killed: of the v2 cgroup, or of the v1 freezer only (a
// memory cgroup per exec would leave zombies in the kernel). *dir: the caller's to free; NULL where the host
// has no freezer.
int cgroups_exec_create(const Pod__CgroupPlace *place, const char *exec_id, char **dir, struct error *err);

// One pass of SIGKILL over a cgroup and the children that execs have in it. Returns how many processes were
// there (0: it is empty), so that the caller repeats it; an absent cgroup is empty. v2: is_v2, by
// cgroup.kill. v1 with a freezer: nobody forks meanwhile.
size_t cgroups_kill(const char *dir, bool is_v2);
// The directory by which a container's processes are found: the freezer's, or the v2 one. NULL: none.
const char *cgroups_kill_dir(const Pod__CgroupPlace *place);
// A signal to each process (not SIGKILL).
size_t cgroups_signal(const char *dir, int signal);
// How often the OOM killer has killed in the place; 0 where that can't be read.
unsigned long cgroups_oom_kills(const Pod__CgroupPlace *place);

#endif
