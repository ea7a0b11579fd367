// OCI hooks that the daemon runs, in the host's namespaces; createContainer and startContainer hooks are
// crisp-pod's.
#ifndef RUNTIME_HOOKS_H
#define RUNTIME_HOOKS_H

#include <limits.h>

#include "runtime/store.h"

// Has it any, of whatever kind? Of those that haven't nothing below costs anything.
bool hooks_wanted(const struct container *c);
// POD_DIR/bundles/ID. 0 or -ENAMETOOLONG.
int hooks_bundle_path(const char *pod_dir, const char *id, char out[PATH_MAX]);
// hooks_bundle.c: makes the bundle, with config.json.
int hooks_bundle_make(struct runtime *rt, const struct container *c, struct error *err);
// The container's plan (the arena's); NULL, and the error for that.
#define HOOKS_PLAN_MAX (16u << 20) // of an arena for it
const Pod__LaunchPlan *hooks_plan(const struct container *c, struct arena *arena);
int hooks_no_plan(const struct container *c, struct error *err);
// Noted in the bundle: its program is about to run, and the poststart hooks have not run to their end since.
int hooks_owe_poststart(const struct container *c, struct error *err);
void hooks_settle_poststart(const struct container *c);
bool hooks_poststart_owed(const struct container *c);
// The StartRequest of a container with hooks, and its answer. Makes the bundle: from here on the poststop
// hooks are owed. *told: it has failed, and nothing of it runs, though there may be no answer that says so.
int hooks_start(struct runtime *rt, struct container *c, struct podconn *conn, Pod__Reply **reply, bool *told,
                struct error *err);
// It runs: the poststart hooks. When one fails the container is killed. When the daemon ends meanwhile
// (UNAVAILABLE) it runs on, and the next daemon runs them all again.
int hooks_after_start(struct runtime *rt, struct container *c, int pid, struct error *err);
// Ends a start that is under way if the container has hooks: they may take minutes, and it is to be stopped
// or removed. Nothing for other containers: their launch has its own bound.
void hooks_call_off(struct runtime *rt, struct container *c);
// Runs the poststop hooks if they are owed, and removes the bundle. Waits for another call that does, and for
// a start under way. What a hook fails with is logged only; UNAVAILABLE: the daemon ends, and the next one
// owes them still.
int hooks_stop(struct runtime *rt, struct container *c, struct error *err);
// As a background job. None is needed while it is being started: hooks_start_over() sees to it.
void hooks_stop_later(struct runtime *rt, struct container *c);
// The lock is held: the start is over. true: hooks_stop_later() is to be called.
bool hooks_start_over(struct container *c);
void hooks_recover(struct runtime *rt); // at start: those that an earlier daemon owed, poststart ones too

#endif
