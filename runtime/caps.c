// Capabilities by name and by set.
#include "runtime/caps.h"

#include <linux/capability.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

// Index is the capability's number.
static const char *const names[] = {
    [CAP_CHOWN] = "CHOWN",
    [CAP_DAC_OVERRIDE] = "DAC_OVERRIDE",
    [CAP_DAC_READ_SEARCH] = "DAC_READ_SEARCH",
    [CAP_FOWNER] = "FOWNER",
    [CAP_FSETID] = "FSETID",
    [CAP_KILL] = "KILL",
    [CAP_SETGID] = "SETGID",
    [CAP_SETUID] = "SETUID",
    [CAP_SETPCAP] = "SETPCAP",
    [CAP_LINUX_IMMUTABLE] = "LINUX_IMMUTABLE",
    [CAP_NET_BIND_SERVICE] = "NET_BIND_SERVICE",
    [CAP_NET_BROADCAST] = "NET_BROADCAST",
    [CAP_NET_ADMIN] = "NET_ADMIN",
    [CAP_NET_RAW] = "NET_RAW",
    [CAP_IPC_LOCK] = "IPC_LOCK",
    [CAP_IPC_OWNER] = "IPC_OWNER",
    [CAP_SYS_MODULE] = "SYS_MODULE",
    [CAP_SYS_RAWIO] = "SYS_RAWIO",
    [CAP_SYS_CHROOT] = "SYS_CHROOT",
    [CAP_SYS_PTRACE] = "SYS_PTRACE",
    [CAP_SYS_PACCT] = "SYS_PACCT",
    [CAP_SYS_ADMIN] = "SYS_ADMIN",
    [CAP_SYS_BOOT] = "SYS_BOOT",
    [CAP_SYS_NICE] = "SYS_NICE",
    [CAP_SYS_RESOURCE] = "SYS_RESOURCE",
    [CAP_SYS_TIME] = "SYS_TIME",
    [CAP_SYS_TTY_CONFIG] = "SYS_TTY_CONFIG",
    [CAP_MKNOD] = "MKNOD",
    [CAP_LEASE] = "LEASE",
    [CAP_AUDIT_WRITE] = "AUDIT_WRITE",
    [CAP_AUDIT_CONTROL] = "AUDIT_CONTROL",
    [CAP_SETFCAP] = "SETFCAP",
    [CAP_MAC_OVERRIDE] = "MAC_OVERRIDE",
    [CAP_MAC_ADMIN] = "MAC_ADMIN",
    [CAP_SYSLOG] = "SYSLOG",
    [CAP_WAKE_ALARM] = "WAKE_ALARM",
    [CAP_BLOCK_SUSPEND] = "BLOCK_SUSPEND",
    [CAP_AUDIT_READ] = "AUDIT_READ",
    [CAP_PERFMON] = "PERFMON",
    [CAP_BPF] = "BPF",
    [CAP_CHECKPOINT_RESTORE] = "CHECKPOINT_RESTORE",
};

int caps_parse(const char *name)
{
    if (!name)
        return -1;
    if (strncasecmp(name, "CAP_", 4) == 0)
        name += 4;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return (int)i;
    }
    return -1;
}

const char *caps_name(int cap)
{
    return cap >= 0 && (size_t)cap < ARRAY_SIZE(names) ? names[cap] : NULL;
}

int caps_count(void)
{
    return (int)ARRAY_SIZE(names);
}

uint64_t caps_default(void)
{
    // What Docker, containerd and CRI-O's users have come to expect.
    return CAPS_BIT(CAP_CHOWN) | CAPS_BIT(CAP_DAC_OVERRIDE) | CAPS_BIT(CAP_FSETID) | CAPS_BIT(CAP_FOWNER) |
           CAPS_BIT(CAP_MKNOD) | CAPS_BIT(CAP_NET_RAW) | CAPS_BIT(CAP_SETGID) | CAPS_BIT(CAP_SETUID) |
           CAPS_BIT(CAP_SETFCAP) | CAPS_BIT(CAP_SETPCAP) | CAPS_BIT(CAP_NET_BIND_SERVICE) |
           CAPS_BIT(CAP_SYS_CHROOT) | CAPS_BIT(CAP_KILL) | CAPS_BIT(CAP_AUDIT_WRITE);
}

int caps_held(uint64_t *out, struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return error_errno(err, errno, "read the daemon's capabilities");
    uint64_t held = data[0].permitted | (uint64_t)data[1].permitted << 32;
    for (int cap = 0; cap < 64; cap++) {
        // Without it in the bounding set an exec'd root would lose it again.
        if (held & CAPS_BIT(cap) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 1)
            held &= ~CAPS_BIT(cap);
    }
    *out = held;
    return 0;
}

// The set that a list of names stands for. *all: whether "ALL" is among them.
static int parse_list(char *const *list, size_t n, const char *field, uint64_t *out, bool *all,
                      struct error *err)
{
    *out = 0;
    *all = false;
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(list[i], "ALL") == 0 || strcasecmp(list[i], "CAP_ALL") == 0) {
            *all = true;
            continue;
        }
        int cap = caps_parse(list[i]);
        if (cap < 0)
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "linux.security_context.capabilities.%s: unknown capability \"%.100s\"", field,
                             list[i]);
        *out |= CAPS_BIT(cap);
    }
    return 0;
}

static int check_held(uint64_t asked, uint64_t held, const char *field, struct error *err)
{
    uint64_t lacking = asked & ~held;
    if (!lacking)
        return 0;
    int cap = __builtin_ctzll(lacking);
    return error_set(
        err, STATUS_FAILED_PRECONDITION, EPERM,
        "linux.security_context.capabilities.%s: CAP_%s cannot be given, the runtime doesn't hold "
        "it itself",
        field, caps_name(cap));
}

int caps_compute(const Cri__Capability *asked, bool privileged, uint64_t held, Pod__Capabilities *out,
                 struct error *err)
{
    static const Cri__Capability none = CRI__CAPABILITY__INIT;
    const Cri__Capability *a = asked ? asked : &none;
    uint64_t add, drop, ambient;
    bool add_all, drop_all, ambient_all;
    int r = parse_list(a->add_capabilities, a->n_add_capabilities, "add_capabilities", &add, &add_all, err);
    if (r == 0)
        r = parse_list(a->drop_capabilities, a->n_drop_capabilities, "drop_capabilities", &drop, &drop_all,
                       err);
    if (r == 0)
        r = parse_list(a->add_ambient_capabilities, a->n_add_ambient_capabilities, "add_ambient_capabilities",
                       &ambient, &ambient_all, err);
    if (r < 0)
        return r;

    pod__capabilities__init(out);
    uint64_t set;
    if (privileged) {
        set = held;
    } else {
        r = check_held(add & ~drop, held, "add_capabilities", err);
        if (r == 0)
            r = check_held(ambient & ~drop, held, "add_ambient_capabilities", err);
        if (r < 0)
            return r;
        set = add_all ? held : caps_default() & held;
        if (drop_all)
            set = 0;
        set = (set | add | ambient) & ~drop;
    }
    if (ambient_all)
        ambient = set;
    ambient &= set;
    out->bounding = out->effective = out->permitted = set;
    // An inheritable set beyond the ambient one would let files with inheritable capabilities give them to
    // anybody in the container (CVE-2022-24769).
    out->inheritable = out->ambient = ambient;
    return 0;
}
