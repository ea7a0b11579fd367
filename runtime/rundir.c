// A pod's files below the run directory, gone after a reboot:
//
//   pods/ID/sock          crisp-pod listens here for a restarted crispd
//   pods/ID/exits/        exit records, by container id
//   pods/ID/state         pid, start time and boot id of crisp-pod
//   pods/ID/hosts, hostname, resolv.conf   bound into containers that bring none of their own
//   pods/ID/shm/          a tmpfs: /dev/shm of the pod, unless it uses the host's
#include "runtime/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/annotation.h"
#include "runtime/selinux.h"

#define HOST_FILE_MAX  (256u << 10) // of /etc/hosts and /etc/resolv.conf
#define STATE_VERSION  1            // of the file "state"
#define STATE_FILE_MAX (256 + CGROUP_PATH_MAX)

const char *rundir_hostname(const struct runtime *rt, const struct pod *pod)
{
    if (pod->host_network || str_empty(pod->config->hostname))
        return rt->node_name;
    return pod->config->hostname;
}

int rundir_make(struct runtime *rt, const struct pod *pod, struct error *err)
{
    (void)rt;
    static const char *const dirs[] = {"", "/exits"};
    char path[PATH_MAX];
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        snprintf(path, sizeof(path), "%s%s", pod->dir, dirs[i]);
        if (mkdir(path, i == 0 ? 0711 : 0700) < 0 && errno != EEXIST)
            return error_errno(err, errno, "make the run directory %s", path);
    }
    return 0;
}

// As containers may read it, whatever their categories: it is reached by way of its pod only.
static const char *file_label(const struct pod *pod)
{
    const struct selinux *s = pod->private->rt->policy->selinux;
    return s ? selinux_file_default(s) : "";
}

static int write_file(const struct pod *pod, const char *name, const char *text, size_t len,
                      struct error *err)
{
    const char *label = file_label(pod);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", pod->dir, name);
    // Not by rename: containers have the file itself mounted. 0644, because they read it as any user.
    _cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return error_errno(err, errno, "make %s", path);
    (void)fchmod(fd, 0644); // whatever the umask says
    uint32_t uid, gid;
    policy_root_ids(pod->config, &uid, &gid);
    if (fchown(fd, uid, gid) < 0)
        return error_errno(err, errno, "set the owner of %s", path);
    if (*label && fsetxattr(fd, "security.selinux", label, strlen(label) + 1, 0) < 0 && errno != EOPNOTSUPP)
        return error_errno(err, errno, "label %s as %s", path, label);
    int r = file_write_all(fd, text, len);
    return r < 0 ? error_errno(err, -r, "write %s", path) : 0;
}

// The node's own file; a node without one gives an empty one.
static int copy_host_file(const struct pod *pod, const char *host_path, const char *name, struct error *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int r = file_read(host_path, HOST_FILE_MAX, &text, &len, err);
    if (r == -ENOENT) {
        *err = ERROR_INIT;
        return write_file(pod, name, "", 0, err);
    }
    return r < 0 ? r : write_file(pod, name, text, len, err);
}

static void append_list(struct buf *b, const char *key, char *const *items, size_t n)
{
    if (n == 0)
        return;
    (void)buf_append_str(b, key);
    for (size_t i = 0; i < n; i++)
        (void)buf_printf(b, " %s", items[i]);
    (void)buf_append_str(b, "\n");
}

static int write_resolv_conf(const struct pod *pod, struct error *err)
{
    const Cri__DNSConfig *dns = pod->config->dns_config;
    if (!dns || (dns->n_servers == 0 && dns->n_searches == 0 && dns->n_options == 0))
        return copy_host_file(pod, "/etc/resolv.conf", "resolv.conf", err);
    struct buf text;
    buf_init(&text, HOST_FILE_MAX);
    append_list(&text, "search", dns->searches, dns->n_searches);
    for (size_t i = 0; i < dns->n_servers; i++)
        (void)buf_printf(&text, "nameserver %s\n", dns->servers[i]);
    append_list(&text, "options", dns->options, dns->n_options);
    int r = write_file(pod, "resolv.conf", text.data ? text.data : "", text.len, err);
    buf_done(&text);
    return r;
}

int rundir_write_hosts(struct runtime *rt, const struct pod *pod, char *const *ips, struct error *err)
{
    if (pod->host_network)
        return copy_host_file(pod, "/etc/hosts", "hosts", err);
    struct buf text;
    buf_init(&text, HOST_FILE_MAX);
    (void)buf_append_str(&text, "127.0.0.1\tlocalhost\n"
                                "::1\tlocalhost ip6-localhost ip6-loopback\n"
                                "fe00::0\tip6-localnet\n"
                                "ff00::0\tip6-mcastprefix\n"
                                "ff02::1\tip6-allnodes\n"
                                "ff02::2\tip6-allrouters\n");
    for (size_t i = 0; ips && ips[i]; i++)
        (void)buf_printf(&text, "%s\t%s\n", ips[i], rundir_hostname(rt, pod));
    int r = write_file(pod, "hosts", text.data ? text.data : "", text.len, err);
    buf_done(&text);
    return r;
}

static int mount_shm(const struct runtime *rt, const struct pod *pod, struct error *err)
{
    const char *label = file_label(pod);
    char path[PATH_MAX], options[128 + SELINUX_LABEL_MAX];
    uint32_t uid, gid;
    policy_root_ids(pod->config, &uid, &gid);
    snprintf(path, sizeof(path), "%s/shm", pod->dir);
    snprintf(options, sizeof(options), "mode=1777,size=%" PRIu64 ",uid=%u,gid=%u%s%s%s",
             annotations_shm_bytes(pod->config, rt->shm_bytes), uid, gid, *label ? ",context=\"" : "", label,
             *label ? "\"" : "");
    if (mkdir(path, 0700) < 0)
        return error_errno(err, errno, "make %s", path);
    if (mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0)
        return error_errno(err, errno, "mount a tmpfs at %s", path);
    return 0;
}

int rundir_fill(struct runtime *rt, const struct pod *pod, struct error *err)
{
    const char *hostname = rundir_hostname(rt, pod);
    char line[256];
    int len = snprintf(line, sizeof(line), "%.250s\n", hostname);
    int r = write_file(pod, "hostname", line, (size_t)len, err);
    if (r == 0)
        r = write_resolv_conf(pod, err);
    if (r == 0 && !policy_host_ipc(pod->config))
        r = mount_shm(rt, pod, err);
    return r;
}

int rundir_remove(const char *dir, struct error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/shm", dir);
    // Detached: it goes when the last container that has it mounted does. Not a mount, or absent: fine.
    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
        return error_errno(err, errno, "unmount %s", path);
    return file_remove_tree(dir, err);
}

int rundir_write_state(const char *dir, const struct rundir_state *state, struct error *err)
{
    char path[PATH_MAX], text[STATE_FILE_MAX];
    snprintf(path, sizeof(path), "%s/state", dir);
    int len = snprintf(text, sizeof(text), "%d %d %" PRIu64 " %s %u\n%s\n", STATE_VERSION, state->pid,
                       state->start_ticks, state->boot_id, state->cgroup_levels, state->cgroup);
    return file_write_atomic(path, text, (size_t)len, 0600, false, err);
}

int rundir_read_state(const char *dir, struct rundir_state *state, struct error *err)
{
    char path[PATH_MAX];
    _cleanup_free_ char *text = NULL;
    snprintf(path, sizeof(path), "%s/state", dir);
    int r = file_read(path, STATE_FILE_MAX, &text, NULL, err);
    if (r < 0)
        return r;
    *state = (struct rundir_state){0};
    char *cgroup = strchr(text, '\n'); // the second line, as a path may hold spaces
    if (cgroup) {
        size_t n = strcspn(++cgroup, "\n");
        if (n < sizeof(state->cgroup))
            memcpy(state->cgroup, cgroup, n);
    }
    int version = 0;
    if (sscanf(text, "%d %d %" SCNu64 " %36s %u", &version, &state->pid, &state->start_ticks, state->boot_id,
               &state->cgroup_levels) != 5 ||
        version != STATE_VERSION || state->pid <= 1)
        return error_set(err, STATUS_DATA_LOSS, EILSEQ, "%s makes no sense", path);
    return 0;
}

int rundir_note_levels(const char *dir, unsigned cgroup_levels, struct error *err)
{
    struct rundir_state state;
    int r = rundir_read_state(dir, &state, err);
    state.cgroup_levels = cgroup_levels;
    return r < 0 ? r : rundir_write_state(dir, &state, err);
}
