// Limits, sysctls and privileges.
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/pod/child.h"
#include "runtime/pod/sys.h"

#define SYSCTL_MAX 256

// "net.ipv4.ip_forward" or "net/ipv4/conf/eth0.1/…": the path below /proc/sys. False for what is no name.
static bool sysctl_path(const char *name, char path[SYSCTL_MAX])
{
    bool slashes = strchr(name, '/') != NULL;
    int len = snprintf(path, SYSCTL_MAX, "/proc/sys/%s", name);

    if (!*name || len >= SYSCTL_MAX || strstr(name, ".."))
        return false;
    for (char *at = path + strlen("/proc/sys/"); !slashes && *at; at++)
        if (*at == '.')
            *at = '/';
    return true;
}

int child_write_sysctls(Pod__Sysctl *const *sysctls, size_t n, struct error *err)
{
    char path[SYSCTL_MAX];

    for (size_t i = 0; i < n; i++) {
        const Pod__Sysctl *s = sysctls[i];
        if (!sysctl_path(s->name, path))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "\"%s\" is no sysctl", s->name);
        _cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, s->value, strlen(s->value)) < 0) {
            if (errno == ENOENT)
                (void)error_set(err, STATUS_INVALID_ARGUMENT, ENOENT,
                                "sysctl %s: this kernel lacks it, or has it for the node as a whole only",
                                s->name);
            else
                (void)error_errno(err, errno, "set sysctl %s=%s", s->name, s->value);
            error_restatus(err, STATUS_INVALID_ARGUMENT);
            return -err->errnum;
        }
    }
    return 0;
}

static int set_rlimit(const Pod__Rlimit *r, struct error *err)
{
    struct rlimit64 wanted = {.rlim_cur = r->soft, .rlim_max = r->hard}, now;
    __rlimit_resource_t resource = (__rlimit_resource_t)r->resource;

    if (setrlimit64(resource, &wanted) == 0)
        return 0;
    // Without CAP_SYS_RESOURCE on this host nobody can raise a hard limit: as much as there is, then.
    if (errno != EPERM || getrlimit64(resource, &now) < 0)
        return error_errno(err, errno, "set resource limit %u", r->resource);
    wanted.rlim_max = wanted.rlim_max < now.rlim_max ? wanted.rlim_max : now.rlim_max;
    wanted.rlim_cur = wanted.rlim_cur < wanted.rlim_max ? wanted.rlim_cur : wanted.rlim_max;
    return setrlimit64(resource, &wanted) < 0 ? error_errno(err, errno, "set resource limit %u", r->resource)
                                              : 0;
}

int child_set_limits(const Pod__Process *process, struct error *err)
{
    for (size_t i = 0; i < process->n_rlimits; i++) {
        int rc = set_rlimit(process->rlimits[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

// Hard limits that have to rise; failing that, child_set_limits() makes do with what there is.
static void raise_limits(const Pod__Process *process)
{
    for (size_t i = 0; i < process->n_rlimits; i++) {
        __rlimit_resource_t resource = (__rlimit_resource_t)process->rlimits[i]->resource;
        struct rlimit64 now;
        if (getrlimit64(resource, &now) < 0 || now.rlim_max >= process->rlimits[i]->hard)
            continue;
        now.rlim_max = process->rlimits[i]->hard;
        (void)setrlimit64(resource, &now);
    }
}

static int set_oom_score(struct child *c, const Pod__Process *process, struct error *err)
{
    char text[16];

    // crisp-pod's own -998 must not be inherited. Lower than a former value needs CAP_SYS_RESOURCE: where
    // that is lacking, the score stays (as with peers).
    int len = snprintf(text, sizeof(text), "%d", process->oom_score_adj ? process->oom_score_adj->value : 0);
    _cleanup_fd_ int fd = openat(c->proc_self, "oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || (write(fd, text, (size_t)len) < 0 && errno != EACCES && errno != EPERM))
        return error_errno(err, errno, "set the OOM score to %s", text);
    return 0;
}

int child_settle(struct child *c, const Pod__Process *process, struct error *err)
{
    child_step(c, "limits");
    raise_limits(process);
    int rc = set_oom_score(c, process, err);
    child_step(c, "labels");
    if (rc == 0)
        rc = child_set_labels(c, process, err);
    return rc;
}

// key: see child_stage.c
static int set_caps(uint64_t effective, uint64_t permitted, uint64_t inheritable, uint64_t key)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    for (int i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){.effective = (uint32_t)(effective >> 32 * i),
                                                  .permitted = (uint32_t)(permitted >> 32 * i),
                                                  .inheritable = (uint32_t)(inheritable >> 32 * i)};
    return syscall(SYS_capset, &head, data, 0, 0, 0, key) < 0 ? -errno : 0;
}

static int set_identity(const struct account *a, struct error *err)
{
    gid_t groups[ACCOUNTS_GROUPS_MAX];

    for (size_t i = 0; i < a->n_groups; i++)
        groups[i] = a->groups[i];
    if (setgroups(a->n_groups, groups) < 0)
        return error_errno(err, errno, "set %zu supplemental groups", a->n_groups);
    if (setresgid(a->gid, a->gid, a->gid) < 0)
        return error_errno(err, errno, "become group %u", a->gid);
    if (setresuid(a->uid, a->uid, a->uid) < 0)
        return error_errno(err, errno, "become user %u", a->uid);
    return 0;
}

static int drop_bounding(uint64_t keep, struct error *err)
{
    for (unsigned long n = 0; n < 64; n++) {
        if ((keep >> n & 1) || prctl(PR_CAPBSET_DROP, n) == 0)
            continue;
        if (errno == EINVAL) // after the last capability that this kernel has
            break;
        return error_errno(err, errno, "drop capability %lu", n);
    }
    return 0;
}

static int set_ambient(uint64_t ambient, struct error *err)
{
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long n = 0; n < 64; n++)
        if ((ambient >> n & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0, 0) < 0)
            return error_errno(err, errno, "raise ambient capability %lu", n);
    return 0;
}

// A filter without no_new_privs needs CAP_SYS_ADMIN: it is kept for just that, and only capset() and execve()
// remain for the filter to allow.
int child_drop_privileges(struct child *c, const Pod__Process *process, struct error *err)
{
    static const Pod__Capabilities no_caps = POD__CAPABILITIES__INIT;
    const Pod__Capabilities *caps = process->capabilities ? process->capabilities : &no_caps;
    uint64_t extra = process->seccomp.len && !process->no_new_privileges ? UINT64_C(1) << CAP_SYS_ADMIN : 0;

    int rc = drop_bounding(caps->bounding, err);
    if (rc == 0 && prctl(PR_SET_KEEPCAPS, 1) < 0)
        rc = error_errno(err, errno, "keep capabilities");
    if (rc == 0)
        rc = set_identity(&c->account, err);
    if (rc == 0 && prctl(PR_SET_KEEPCAPS, 0) < 0)
        rc = error_errno(err, errno, "keep capabilities");
    if (rc < 0)
        return rc;
    rc = set_caps(caps->effective | extra, caps->permitted | extra, caps->inheritable, 0);
    if (rc < 0)
        return error_errno(err, rc, "set capabilities (effective %#llx; crisp-pod may lack some of them)",
                           (unsigned long long)caps->effective);
    rc = set_ambient(caps->ambient, err);
    if (rc == 0 && process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        rc = error_errno(err, errno, "set no_new_privs");
    if (rc < 0)
        return rc;
    // Changing ids has cleared the one, and set the other to what fs.suid_dumpable says. The container's
    // processes end with their supervisor.
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_DUMPABLE, 0);
    child_report_executing(c, process);
    if (process->seccomp.len)
        rc = stage_install_filter(c, process, err);
    if (rc == 0 && extra && set_caps(caps->effective, caps->permitted, caps->inheritable, c->key) < 0)
        rc = error_errno(err, errno, "set capabilities (does the seccomp profile allow capset?)");
    return rc;
}
