// Whether a mount source can give and take what its propagation asks for.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/sys.h"

#define MOUNTINFO_MAX ((size_t)16 << 20)

// The optional fields of a mount in mountinfo: "… 98:0 /root /point rw,noatime shared:1 master:2 - ext4 …".
static bool has_peer_field(const char *line, bool or_slave)
{
    const char *dash = strstr(line, " - "), *newline = strchr(line, '\n');

    if (!dash || (newline && newline < dash))
        return false;
    const char *shared = strstr(line, " shared:"), *master = strstr(line, " master:");
    return (shared && shared < dash) || (or_slave && master && master < dash);
}

// 1: it has the peers that it needs; 0: it hasn't.
static int look_in_mountinfo(const Pod__Mount *m, bool or_slave, struct error *err)
{
    _cleanup_free_ char *info = NULL;
    struct statx st;
    char id[32];

    if (statx(AT_FDCWD, m->source, 0, STATX_MNT_ID, &st) < 0)
        return error_errno(err, errno, "mount source %s", m->source);
    int rc = file_read("/proc/self/mountinfo", MOUNTINFO_MAX, &info, NULL, err);
    if (rc < 0)
        return rc;
    int len = snprintf(id, sizeof(id), "%llu ", (unsigned long long)st.stx_mnt_id);
    for (const char *line = info; *line;) {
        if (strncmp(line, id, (size_t)len) == 0)
            return has_peer_field(line, or_slave);
        const char *newline = strchrnul(line, '\n');
        line = *newline ? newline + 1 : newline;
    }
    return 0;
}

// statmount(2) (Linux 6.8) answers in microseconds what takes milliseconds to read from mountinfo on a host
// with thousands of mounts. -ENOSYS where it isn't there, or says nothing of this.
static int ask_kernel(const Pod__Mount *m, bool or_slave)
{
    struct sys_statmount out = {0};
    struct statx st;

    if (statx(AT_FDCWD, m->source, 0, SYS_STATX_MNT_ID_UNIQUE, &st) < 0 ||
        !(st.stx_mask & SYS_STATX_MNT_ID_UNIQUE))
        return -ENOSYS;
    if (sys_statmount(st.stx_mnt_id, SYS_STATMOUNT_MNT_BASIC, &out) < 0 ||
        !(out.mask & SYS_STATMOUNT_MNT_BASIC))
        return -ENOSYS;
    return (out.mnt_propagation & MS_SHARED) || (or_slave && out.mnt_master);
}

// "Bidirectional" needs a source on a shared mount, "HostToContainer" one on a shared or slave mount: else
// events would silently not cross.
int peers_check(const Pod__Mount *m, struct error *err)
{
    bool or_slave = m->propagation == POD__PROPAGATION__PROPAGATION_SLAVE;

    if (m->propagation == POD__PROPAGATION__PROPAGATION_PRIVATE)
        return 0;
    int rc = ask_kernel(m, or_slave);
    if (rc < 0)
        rc = look_in_mountinfo(m, or_slave, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return error_set(
        err, STATUS_FAILED_PRECONDITION, EINVAL,
        "mount source %s is not on a %smount, which the propagation of %s needs (mount --make-rshared)",
        m->source, or_slave ? "shared or slave " : "shared ", m->destination);
}
