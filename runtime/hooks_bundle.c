// A container's bundle, POD_DIR/bundles/CONTAINER: what hooks find, and what is owed to them.
//
// It is made when a container with hooks is started and goes when its poststop hooks have run: as long as it
// is there they are owed, also after a restart of the daemon. So are the poststart hooks while the file OWED
// is in it.
#include "runtime/hooks.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/annotation.h"
#include "runtime/oci_config.h"
#include "runtime/resources.h"

#define OWED            "poststart-owed"
#define ANNOTATIONS_MAX (1u << 20)

int hooks_bundle_path(const char *pod_dir, const char *id, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/bundles/%s", pod_dir, id);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

const Pod__LaunchPlan *hooks_plan(const struct container *c, struct arena *arena)
{
    const Pod__StartRequest *start = c->private->start;
    return pod__launch_plan__unpack(arena_pb(arena), start->plan.len, start->plan.data);
}

int hooks_no_plan(const struct container *c, struct error *err)
{
    return error_set(err, STATUS_INTERNAL, EBADMSG, "container %s: its launch plan can't be read", c->id);
}

static int write_config(struct runtime *rt, const struct container *c, const Pod__LaunchPlan *plan,
                        const char *bundle, struct error *err)
{
    _cleanup_free_ char *root = str_printf("%s/mnt/root", bundle);
    _cleanup_free_ char *path = str_printf("%s/config.json", bundle);
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(ANNOTATIONS_MAX);
    struct annotations *annotations = NULL;
    if (!arena || annotations_read(c->pod->config, c->config, arena, &annotations, NULL) < 0)
        return error_errno(err, ENOMEM, "write the bundle of container %s", c->id);
    const struct oci_config_input in = {
        .plan = plan,
        .config = c->config,
        .pid_mode = c->private->start->pid_mode,
        .rootfs = root,
        .cgroup = c->cgroup,
        .netns = c->pod->netns,
        .hostname = rundir_hostname(rt, c->pod),
        .resources = container_asked_resources(rt, c, arena),
        .extra = annotations ? &annotations->cgroup : NULL,
        .pids_limit = rt->pids_limit,
    };
    _cleanup_free_ char *text = root && path ? oci_config_json(&in) : NULL;
    if (!text)
        return error_errno(err, ENOMEM, "write the bundle of container %s", c->id);
    return file_write_atomic(path, text, strlen(text), 0600, false, err);
}

int hooks_bundle_make(struct runtime *rt, const struct container *c, struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(HOOKS_PLAN_MAX);
    const Pod__LaunchPlan *plan = arena ? hooks_plan(c, arena) : NULL;
    char bundle[PATH_MAX], mnt[PATH_MAX];
    if (!plan || !plan->hooks)
        return hooks_no_plan(c, err);
    int r = hooks_bundle_path(c->pod->dir, c->id, bundle);
    int n = snprintf(mnt, sizeof(mnt), "%s/mnt", bundle);
    if (r < 0 || n < 0 || (size_t)n >= sizeof(mnt))
        return error_errno(err, ENAMETOOLONG, "make the bundle of container %s", c->id);
    r = file_mkdir_p(mnt, 0700, err);
    return r < 0 ? r : write_config(rt, c, plan, bundle, err);
}

static int owed_path(const struct container *c, char out[PATH_MAX])
{
    char bundle[PATH_MAX];
    int r = hooks_bundle_path(c->pod->dir, c->id, bundle);
    return r < 0 || snprintf(out, PATH_MAX, "%s/" OWED, bundle) >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int hooks_owe_poststart(const struct container *c, struct error *err)
{
    char path[PATH_MAX];
    int r = owed_path(c, path);
    int fd = r < 0 ? r : open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, r < 0 ? -r : errno, "note that the poststart hooks of container %s are owed",
                           c->id);
    (void)close(fd);
    return 0;
}

void hooks_settle_poststart(const struct container *c)
{
    char path[PATH_MAX];
    if (owed_path(c, path) == 0)
        (void)unlink(path);
}

bool hooks_poststart_owed(const struct container *c)
{
    char path[PATH_MAX];
    return hooks_wanted(c) && owed_path(c, path) == 0 && access(path, F_OK) == 0;
}
