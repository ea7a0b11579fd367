// A container's resources: what is asked for, what the kernel has of it, and changing them.
//
// Two messages are kept. `asked` is the config's, with what updates have changed; it is recorded. `in_force`
// is what the kernel says to it, read from the cgroup's files when somebody asks and it is older than a
// second: others may write those files too.
#include "runtime/resources.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/update_journal.h"

#define FRESH_NS  NS_PER_SEC
#define ARENA_MAX (2u << 20)

static void resources_free(Cri__LinuxContainerResources *r)
{
    if (r)
        cri__linux_container_resources__free_unpacked(r, NULL);
}

// ---- What is asked for ----

static const Cri__LinuxContainerResources *configured(const struct container *c)
{
    return c->config->linux ? c->config->linux->resources : NULL;
}

// The lock is held. NULL: nothing.
static const Cri__LinuxContainerResources *asked_now(const struct container *c)
{
    return c->private->asked ? c->private->asked : configured(c);
}

void container_set_resources(struct runtime *rt, struct container *c, Cri__LinuxContainerResources *asked)
{
    struct container_private *p = c->private;
    store_lock(rt);
    Cri__LinuxContainerResources *old = p->asked, *stale = p->in_force;
    p->asked = asked;
    p->in_force = NULL;
    p->resources_version++;
    store_unlock(rt);
    resources_free(old);
    resources_free(stale);
}

int64_t container_oom_score(struct runtime *rt, struct container *c)
{
    store_lock(rt);
    const Cri__LinuxContainerResources *asked = asked_now(c);
    int64_t score = asked ? asked->oom_score_adj : 0;
    store_unlock(rt);
    return score;
}

const Cri__LinuxContainerResources *container_asked_resources(struct runtime *rt, const struct container *c,
                                                              struct arena *arena)
{
    store_lock(rt);
    const Cri__LinuxContainerResources *asked = asked_now(c);
    const Cri__LinuxContainerResources *copy =
        asked ? (const Cri__LinuxContainerResources *)pb_dup(&asked->base, arena) : NULL;
    store_unlock(rt);
    return copy;
}

// A copy in arena. *version: of which one. NULL: no memory.
static Cri__LinuxContainerResources *copy_asked(struct runtime *rt, struct container *c, struct arena *arena,
                                                unsigned *version)
{
    static const Cri__LinuxContainerResources none = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    store_lock(rt);
    const Cri__LinuxContainerResources *asked = asked_now(c);
    Cri__LinuxContainerResources *copy =
        (Cri__LinuxContainerResources *)pb_dup(asked ? &asked->base : &none.base, arena);
    *version = c->private->resources_version;
    store_unlock(rt);
    return copy;
}

// ---- What is in force ----

// false: it has ended.
static bool read_oom_score(int pid, int64_t *score)
{
    char path[48], text[16];
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    _cleanup_fd_ int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return str_parse_i64(text, -1000, 1000, score) == 0;
}

static bool is_fresh(const struct container_private *p)
{
    bool live = p->state == CONTAINER_CREATED || p->state == CONTAINER_RUNNING;
    return !live || (p->in_force && clock_mono_ns() - p->in_force_mono_ns < FRESH_NS);
}

void runtime_container_read_resources(struct runtime *rt, struct container *c)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(ARENA_MAX);
    struct container_view v;
    unsigned version;
    Cri__LinuxContainerResources *asked = arena ? copy_asked(rt, c, arena, &version) : NULL, *now;
    if (!asked)
        return;
    runtime_container_view(rt, c, &v);
    // A cgroup that is gone, or can't be read, is told as it was asked for.
    if (cgroup_read_resources(rt->cgroups, c->cgroup, asked, arena, &now, NULL) < 0)
        now = asked;
    (void)read_oom_score(v.pid, &now->oom_score_adj);
    now = (Cri__LinuxContainerResources *)pb_dup(&now->base, NULL);
    if (!now)
        return;
    struct container_private *p = c->private;
    store_lock(rt);
    if (p->resources_version == version) { // else it is a former one's
        Cri__LinuxContainerResources *old = p->in_force;
        p->in_force = now;
        p->in_force_mono_ns = clock_mono_ns();
        now = old;
    }
    store_unlock(rt);
    resources_free(now);
}

int runtime_container_resources(struct runtime *rt, struct container *c, struct arena *arena,
                                struct container_resources *out, struct error *err)
{
    struct container_private *p = c->private;
    store_lock(rt);
    const Cri__LinuxContainerResources *asked = asked_now(c), *now = p->in_force ? p->in_force : asked;
    *out = (struct container_resources){.fresh = is_fresh(p)};
    if (now)
        out->in_force = (Cri__LinuxContainerResources *)pb_dup(&now->base, arena);
    out->asked_oom_score_adj = asked ? asked->oom_score_adj : 0;
    bool whole = !now || out->in_force;
    store_unlock(rt);
    return whole ? 0 : error_errno(err, ENOMEM, "tell the resources of container %s", c->id);
}

// ---- OOM score ----

static void warn_refused(const struct container *c, int64_t asked, int64_t is)
{
    char want[16], have[16];
    (void)snprintf(want, sizeof(want), "%lld", (long long)asked);
    (void)snprintf(have, sizeof(have), "%lld", (long long)is);
    log_warn("the kernel keeps another OOM score (lowering one takes CAP_SYS_RESOURCE)", "container", c->id,
             "asked", want, "is", have);
}

// to: what all processes that have the first one's score are to get.
static void rescore(struct runtime *rt, struct container *c, int pid, int64_t to)
{
    int64_t is;
    if (!read_oom_score(pid, &is) || is == to)
        return;
    (void)cgroup_set_oom_score(rt->cgroups, c->cgroup, is, to);
    if (read_oom_score(pid, &is) && is != to)
        warn_refused(c, to, is);
}

void container_settle_oom_score(struct runtime *rt, struct container *c, int pid)
{
    const Cri__LinuxContainerResources *config = configured(c);
    int64_t planned = config ? config->oom_score_adj : 0, asked = container_oom_score(rt, c), is;
    if (asked != planned) // changed before it was started
        rescore(rt, c, pid, asked);
    else if (read_oom_score(pid, &is) && is > asked)
        warn_refused(c, asked, is);
}

// ---- Changing them ----

static int update_check(struct runtime *rt, struct container *c, struct error *err)
{
    const struct container_private *p = c->private;
    int r = 0;
    store_lock(rt);
    if (p->forgotten || p->state == CONTAINER_MAKING)
        r = error_set(err, STATUS_NOT_FOUND, ENOENT, "container \"%s\" does not exist%s", c->id,
                      p->forgotten ? "" : " yet: it is being created");
    else if (p->state == CONTAINER_EXITED)
        r = error_set(err, STATUS_FAILED_PRECONDITION, ESRCH, "container %s has exited", c->id);
    store_unlock(rt);
    return r;
}

// Memory and swap are limited together: where only the memory's part changes, the swap's is what is left.
static Cri__LinuxContainerResources *with_swap(const Cri__LinuxContainerResources *change,
                                               const Cri__LinuxContainerResources *merged,
                                               struct arena *arena)
{
    Cri__LinuxContainerResources *out = arena_alloc(arena, sizeof(*out));
    if (!out)
        return NULL;
    *out = *change;
    if (change->memory_limit_in_bytes > 0 && merged->memory_swap_limit_in_bytes > 0)
        out->memory_swap_limit_in_bytes = merged->memory_swap_limit_in_bytes;
    return out;
}

// The cgroup first, then the record: if that fails, the cgroup is put back.
static int update(struct runtime *rt, struct container *c, const Cri__LinuxContainerResources *change,
                  struct arena *arena, struct error *err)
{
    unsigned version;
    Cri__LinuxContainerResources *asked = copy_asked(rt, c, arena, &version);
    Cri__LinuxContainerResources *merged = asked ? resources_merge(asked, change, arena) : NULL;
    Cri__LinuxContainerResources *writes = merged ? with_swap(change, merged, arena) : NULL;
    Cri__LinuxContainerResources *kept =
        writes ? (Cri__LinuxContainerResources *)pb_dup(&merged->base, NULL) : NULL;
    struct cgroup_undo *undo = NULL;
    if (!kept)
        return error_errno(err, ENOMEM, "merge the resources");
    struct update_journal journal = {.pod = c->pod, .name = c->id, .record = {&kept->base}};
    const struct cgroup_update_more more = {.journal = update_journal_save, .arg = &journal};
    int r = policy_validate_resources(rt->policy, kept, err);
    if (r == 0)
        r = cgroup_update_with(rt->cgroups, c->cgroup, writes, &more, &undo, err);
    if (r == 0) {
        struct error why = ERROR_INIT;
        r = record_container_resources(rt, c, kept, err);
        if (r < 0 && cgroup_undo_update(rt->cgroups, undo, &why) < 0)
            log_error("resources could not be put back", "container", c->id, "error", why.message);
        cgroup_undo_free(undo);
    }
    update_journal_drop(&journal);
    if (r < 0) {
        resources_free(kept);
        return r;
    }
    container_set_resources(rt, c, kept);
    return 0;
}

int runtime_container_update(struct runtime *rt, struct container *c,
                             const Cri__LinuxContainerResources *change, const struct ctx *ctx,
                             struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(ARENA_MAX);
    struct container_view v;
    if (!arena)
        return error_errno(err, ENOMEM, "update container %s", c->id);
    int r = policy_validate_resources(rt->policy, change, err);
    if (r == 0) {
        store_lock(rt);
        r = gate_enter(&rt->lock, &c->private->gate, ctx, err);
        store_unlock(rt);
    }
    if (r < 0)
        return error_wrap(err, "update container %s", c->id);
    r = update_check(rt, c, err);
    if (r == 0) {
        r = update(rt, c, change, arena, err);
        if (r < 0)
            error_wrap(err, "update container %s", c->id);
    }
    runtime_container_view(rt, c, &v);
    if (r == 0 && change->oom_score_adj != 0)
        rescore(rt, c, v.pid, change->oom_score_adj);
    store_lock(rt);
    gate_leave(&c->private->gate);
    store_unlock(rt);
    return r;
}
