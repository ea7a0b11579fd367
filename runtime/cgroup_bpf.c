// Device policy on cgroup v2: a BPF program per rule set, attached to the place. The attachment keeps the
// program alive; the cache only spares loading an equal one again (the verifier takes its time).
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/map.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define INSNS_MAX  2048
#define CACHED_MAX 64 // programs kept open
#define KEY_MAX    65536

struct cgroup_bpf_cache {
    struct map *programs; // rule set as text -> fd + 1
    pthread_mutex_t lock;
};

struct program {
    struct bpf_insn insns[INSNS_MAX];
    size_t n;
};

static void emit(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
    if (p->n < INSNS_MAX) // a full program is refused by the caller
        p->insns[p->n] =
            (struct bpf_insn){.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm};
    p->n++;
}

static int32_t access_bits(const char *access)
{
    int32_t bits = 0;
    for (; *access; access++)
        bits |= *access == 'r'   ? BPF_DEVCG_ACC_READ
                : *access == 'w' ? BPF_DEVCG_ACC_WRITE
                : *access == 'm' ? BPF_DEVCG_ACC_MKNOD
                                 : 0;
    return bits;
}

// r2: access asked for, r3: type, r4: major, r5: minor. A rule that doesn't match jumps behind its own
// return.
static void emit_rule(struct program *p, const struct cgroup_device_rule *d)
{
    int32_t denied = ~access_bits(d->access) & 7;
    int16_t left = (int16_t)(1 + (denied ? 3 : 0) + (d->major >= 0) + (d->minor >= 0) + 2);
    int32_t type = d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
    emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 0, (int16_t)(--left), type);
    if (denied) {
        emit(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_2, 0, 0);
        emit(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, denied);
        left = (int16_t)(left - 3);
        emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_1, 0, left, 0);
    }
    if (d->major >= 0)
        emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, --left, (int32_t)d->major);
    if (d->minor >= 0)
        emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, --left, (int32_t)d->minor);
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void build(struct program *p, const struct cgroup_devices *d)
{
    if (d->allow_all) {
        emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
        emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        return;
    }
    // struct bpf_cgroup_dev_ctx: access_type (type in the low half, access in the high one), major, minor.
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, 0, 0);
    emit(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0);
    emit(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_3, 0, 0, 0xffff);
    emit(p, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_2, 0, 0, 16);
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, 4, 0);
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, 8, 0);
    for (size_t i = 0; i < cgroup_n_default_devices; i++)
        emit_rule(p, &cgroup_default_devices[i]);
    for (size_t i = 0; i < d->n_rules; i++) {
        if (!cgroup_device_is_default(&d->rules[i]))
            emit_rule(p, &d->rules[i]);
    }
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static long sys_bpf(int cmd, union bpf_attr *attr)
{
    return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int load(const struct cgroup_devices *d, struct error *err)
{
    _cleanup_free_ struct program *p = calloc(1, sizeof(*p));
    if (!p)
        return error_errno(err, ENOMEM, "build the device program");
    build(p, d);
    if (p->n > INSNS_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG, "devices: more rules (%zu) than fit a program",
                         d->n_rules);
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (uint64_t)(uintptr_t)p->insns;
    attr.insn_cnt = (uint32_t)p->n;
    attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
    long fd = sys_bpf(BPF_PROG_LOAD, &attr); // O_CLOEXEC always
    return fd < 0 ? error_errno(err, errno, "load the device program") : (int)fd;
}

static char *rules_key(const struct cgroup_devices *d)
{
    struct buf b;
    buf_init(&b, KEY_MAX);
    int r = buf_append_str(&b, d->allow_all ? "all" : "rules");
    for (size_t i = 0; !d->allow_all && r == 0 && i < d->n_rules; i++) {
        if (cgroup_device_is_default(&d->rules[i]))
            continue;
        r = buf_printf(&b, " %c%lld:%lld%s", d->rules[i].type, (long long)d->rules[i].major,
                       (long long)d->rules[i].minor, d->rules[i].access);
    }
    char *key = r == 0 ? buf_steal(&b) : NULL;
    buf_done(&b);
    return key;
}

static int attach(int program, int cgroup, const char *path, struct error *err)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)cgroup;
    attr.attach_bpf_fd = (uint32_t)program;
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    if (sys_bpf(BPF_PROG_ATTACH, &attr) < 0 && errno != EEXIST)
        return error_errno(err, errno, "attach the device program to cgroup %s", path);
    return 0;
}

static pthread_mutex_t make_lock = PTHREAD_MUTEX_INITIALIZER;

static struct cgroup_bpf_cache *cache_of(struct cgroup_host *h)
{
    (void)pthread_mutex_lock(&make_lock);
    if (!h->bpf) {
        struct cgroup_bpf_cache *c = calloc(1, sizeof(*c));
        if (c)
            c->programs = map_new();
        if (c && c->programs) {
            (void)pthread_mutex_init(&c->lock, NULL);
            h->bpf = c;
        } else {
            free(c);
        }
    }
    (void)pthread_mutex_unlock(&make_lock);
    return h->bpf;
}

void cgroup_bpf_cache_free(struct cgroup_bpf_cache *c)
{
    if (!c)
        return;
    for (struct map_iter it = {0}; map_next(c->programs, &it);)
        (void)close((int)(intptr_t)it.value - 1);
    map_free(c->programs);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

int cgroup_bpf_devices(struct cgroup_host *h, const char *path, const struct cgroup_devices *d,
                       struct error *err)
{
    struct cgroup_bpf_cache *cache = cache_of(h);
    _cleanup_free_ char *key = rules_key(d);
    _cleanup_fd_ int cgroup = openat(h->fds[0].fd, path + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0)
        return error_errno(err, errno, "open the cgroup %s", path);
    if (!cache)
        return error_errno(err, ENOMEM, "set the device policy of cgroup %s", path);
    (void)pthread_mutex_lock(&cache->lock);
    int program = key ? (int)(intptr_t)map_get(cache->programs, key) - 1 : -1;
    _cleanup_fd_ int mine = -1;
    if (program < 0) {
        program = mine = load(d, err);
        if (mine >= 0 && key && map_len(cache->programs) < CACHED_MAX &&
            map_set(cache->programs, key, (void *)(intptr_t)(program + 1)) == 0)
            (void)steal_fd(&mine);
    }
    (void)pthread_mutex_unlock(&cache->lock);
    if (program < 0)
        return program;
    return attach(program, cgroup, path, err);
}
