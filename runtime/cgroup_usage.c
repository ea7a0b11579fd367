// Reading what a cgroup uses. Where the numbers come from: Documentation/admin-guide/cgroup-v1/memory.rst and
// cpuacct.rst, cgroup-v2.rst, accounting/psi.rst.
#include "runtime/cgroup_usage.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define TEXT_MAX (16u << 10) // memory.stat of a recent kernel has some 2 KiB
// v1's "no limit" is the highest page counter in bytes, which depends on the page size.
#define LIMIT_NONE (UINT64_C(1) << 62)
#define NS_PER_US  1000

static const struct usage_file {
    enum cgroup_controller controller; // v1's hierarchy
    const char *v1, *v2;
} usage_files[CGROUP_USAGE_FILES] = {
    [CGROUP_USAGE_CPU] = {CGROUP_CPUACCT, "cpuacct.usage", "cpu.stat"},
    [CGROUP_USAGE_MEMORY] = {CGROUP_MEMORY, "memory.usage_in_bytes", "memory.current"},
    [CGROUP_USAGE_MEMORY_STAT] = {CGROUP_MEMORY, "memory.stat", "memory.stat"},
    [CGROUP_USAGE_MEMORY_LIMIT] = {CGROUP_MEMORY, "memory.limit_in_bytes", "memory.max"},
    [CGROUP_USAGE_SWAP] = {CGROUP_MEMORY, NULL, "memory.swap.current"}, // v1: in memory.stat
    [CGROUP_USAGE_SWAP_LIMIT] = {CGROUP_MEMORY, "memory.memsw.limit_in_bytes", "memory.swap.max"},
    [CGROUP_USAGE_PIDS] = {CGROUP_PIDS, "pids.current", "pids.current"},
    // Processes of v1 hierarchies are in the root of the v2 tree: there is no pressure of theirs.
    [CGROUP_USAGE_CPU_PSI] = {CGROUP_CPU, NULL, "cpu.pressure"},
    [CGROUP_USAGE_MEMORY_PSI] = {CGROUP_MEMORY, NULL, "memory.pressure"},
    [CGROUP_USAGE_IO_PSI] = {CGROUP_BLKIO, NULL, "io.pressure"},
};

static bool is_psi(enum cgroup_usage_file file)
{
    return file >= CGROUP_USAGE_CPU_PSI;
}

// ---- Parsing ----

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    return end == text || errno != 0 ? CGROUP_UNKNOWN : v;
}

static uint64_t limit(const char *text)
{
    uint64_t v = number(text); // "max" is no number
    return v >= LIMIT_NONE ? CGROUP_UNKNOWN : v;
}

struct stat_key {
    const char *name;
    size_t len;
    size_t offset; // in struct cgroup_usage
};
#define KEY(name, field)                                                                                     \
    {                                                                                                        \
        name, sizeof(name) - 1, offsetof(struct cgroup_usage, field)                                         \
    }
// v1's plain keys leave out what is below the cgroup: an exec's, and a pod's containers.
static const struct stat_key v1_keys[] = {
    KEY("total_rss", rss_bytes),
    KEY("total_swap", swap_bytes),
    KEY("total_pgfault", page_faults),
    KEY("total_pgmajfault", major_page_faults),
    KEY("total_inactive_file", inactive_file_bytes),
    KEY("hierarchical_memory_limit", memory_bound),
    KEY("hierarchical_memsw_limit", swap_bound),
    {NULL, 0, 0},
};
static const struct stat_key v2_keys[] = {
    KEY("anon", rss_bytes),
    KEY("inactive_file", inactive_file_bytes),
    KEY("pgfault", page_faults),
    KEY("pgmajfault", major_page_faults),
    {NULL, 0, 0},
};
static const struct stat_key v2_cpu_keys[] = {
    KEY("usage_usec", cpu_ns),
    {NULL, 0, 0},
};

// "KEY VALUE" lines. memory.stat has some seventy, of every container and pod: nothing here may be slow.
static void parse_keys(const char *text, const struct stat_key *keys, struct cgroup_usage *out)
{
    for (const char *line = text; *line;) {
        for (const struct stat_key *k = keys; k->name; k++) {
            if (k->name[0] == line[0] && strncmp(k->name, line, k->len) == 0 && line[k->len] == ' ') {
                *(uint64_t *)((char *)out + k->offset) = number(line + k->len + 1);
                break;
            }
        }
        line = strchrnul(line, '\n');
        line += *line == '\n';
    }
}

// "some avg10=0.12 avg60=0.03 avg300=0.00 total=4711\nfull …": the total is in microseconds.
static void parse_psi(const char *text, struct cgroup_psi *out)
{
    for (const char *line = text; line; line = strchr(line, '\n')) {
        struct cgroup_psi_line l;
        unsigned long long total;
        char kind[8];
        line += *line == '\n';
        if (sscanf(line, "%7s avg10=%lf avg60=%lf avg300=%lf total=%llu", kind, &l.avg10, &l.avg60, &l.avg300,
                   &total) != 5)
            continue;
        l.total_ns = total * NS_PER_US;
        if (str_eq(kind, "some"))
            out->some = l;
        else if (str_eq(kind, "full"))
            out->full = l;
        out->known = true;
    }
}

static void parse_swap_limit(bool v2, const char *text, struct cgroup_usage *out)
{
    uint64_t v = limit(text);
    if (v2 || v == CGROUP_UNKNOWN)
        out->swap_limit_bytes = v;
    else if (out->memory_limit_bytes != CGROUP_UNKNOWN) // v1's is of memory and swap together
        out->swap_limit_bytes = v > out->memory_limit_bytes ? v - out->memory_limit_bytes : 0;
}

void cgroup_usage_parse(bool v2, enum cgroup_usage_file file, const char *text, struct cgroup_usage *out)
{
    switch (file) {
    case CGROUP_USAGE_CPU:
        if (!v2) {
            out->cpu_ns = number(text);
            break;
        }
        parse_keys(text, v2_cpu_keys, out);
        out->cpu_ns *= out->cpu_ns == CGROUP_UNKNOWN ? 1 : NS_PER_US;
        break;
    case CGROUP_USAGE_MEMORY:
        out->memory_bytes = number(text);
        break;
    case CGROUP_USAGE_MEMORY_STAT:
        parse_keys(text, v2 ? v2_keys : v1_keys, out);
        break;
    case CGROUP_USAGE_MEMORY_LIMIT:
        out->memory_limit_bytes = limit(text);
        break;
    case CGROUP_USAGE_SWAP:
        out->swap_bytes = number(text);
        break;
    case CGROUP_USAGE_SWAP_LIMIT:
        parse_swap_limit(v2, text, out);
        break;
    case CGROUP_USAGE_PIDS:
        out->pids = number(text);
        break;
    case CGROUP_USAGE_CPU_PSI:
        parse_psi(text, &out->cpu_psi);
        break;
    case CGROUP_USAGE_MEMORY_PSI:
        parse_psi(text, &out->memory_psi);
        break;
    case CGROUP_USAGE_IO_PSI:
        parse_psi(text, &out->io_psi);
        break;
    case CGROUP_USAGE_FILES:
        break;
    }
}

void cgroup_usage_reset(struct cgroup_usage *out)
{
    *out = (struct cgroup_usage){
        .cpu_ns = CGROUP_UNKNOWN,
        .memory_bytes = CGROUP_UNKNOWN,
        .memory_limit_bytes = CGROUP_UNKNOWN,
        .rss_bytes = CGROUP_UNKNOWN,
        .inactive_file_bytes = CGROUP_UNKNOWN,
        .page_faults = CGROUP_UNKNOWN,
        .major_page_faults = CGROUP_UNKNOWN,
        .swap_bytes = CGROUP_UNKNOWN,
        .swap_limit_bytes = CGROUP_UNKNOWN,
        .pids = CGROUP_UNKNOWN,
        .memory_bound = CGROUP_UNKNOWN,
        .swap_bound = CGROUP_UNKNOWN,
    };
}

// ---- Files ----

// Descriptors that are kept, of all cgroups. Half of what the process may have is for everything else.
static atomic_long n_kept;

static bool may_keep(void)
{
    struct rlimit64 limit;
    return getrlimit64(RLIMIT_NOFILE, &limit) == 0 &&
           (limit.rlim_cur == RLIM64_INFINITY || (uint64_t)atomic_load(&n_kept) <= limit.rlim_cur / 2);
}

static void let_go(struct cgroup_usage_files *f, int file)
{
    if (f->fds[file] >= 0)
        atomic_fetch_sub(&n_kept, 1);
    fd_closep(&f->fds[file]);
}

void cgroup_usage_files_init(struct cgroup_usage_files *f)
{
    f->absent = 0;
    for (int i = 0; i < CGROUP_USAGE_FILES; i++)
        f->fds[i] = -1;
}

void cgroup_usage_files_close(struct cgroup_usage_files *f)
{
    for (int i = 0; i < CGROUP_USAGE_FILES; i++)
        let_go(f, i);
    f->absent = 0;
}

// 0: open (counted as kept), or known to be absent. -ENOENT: the whole cgroup isn't there.
static int open_file(const struct cgroup_host *h, const char *path, enum cgroup_usage_file file,
                     struct cgroup_usage_files *f)
{
    bool v2 = cgroup_host_is_v2(h);
    const struct usage_file *u = &usage_files[file];
    const char *name = v2 ? u->v2 : u->v1;
    const struct cgroup_hierarchy_fd *root = v2 ? &h->fds[0] : cgroup_root_of(h, u->controller);
    if (name && root) {
        int fd = cgroup_file_open(root, path, name, O_RDONLY);
        if (fd >= 0) {
            f->fds[file] = fd;
            atomic_fetch_add(&n_kept, 1);
            return 0;
        }
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
            return fd;
        if (!cgroup_file_exists(root, path, ""))
            return -ENOENT;
    }
    f->absent |= 1u << file;
    return 0;
}

// One call gives all of such a file.
static int read_file(int fd, char *text)
{
    ssize_t n;
    do {
        n = pread(fd, text, TEXT_MAX - 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    text[n] = '\0';
    return 0;
}

// Where nothing above has a limit either, v1's memory.stat has told so: two files less for most containers.
static bool is_unlimited(bool v2, enum cgroup_usage_file file, const struct cgroup_usage *u)
{
    return !v2 && ((file == CGROUP_USAGE_MEMORY_LIMIT && u->memory_bound >= LIMIT_NONE) ||
                   (file == CGROUP_USAGE_SWAP_LIMIT && u->swap_bound >= LIMIT_NONE));
}

static int read_one(const struct cgroup_host *h, const char *path, enum cgroup_usage_file file,
                    struct cgroup_usage_files *f, struct cgroup_usage *out)
{
    char text[TEXT_MAX];
    if ((f->absent & (1u << file)) || is_unlimited(cgroup_host_is_v2(h), file, out))
        return 0;
    bool is_new = f->fds[file] < 0;
    int r = is_new ? open_file(h, path, file, f) : 0;
    if (r < 0 || f->fds[file] < 0)
        return r;
    r = read_file(f->fds[file], text);
    if (r == 0)
        cgroup_usage_parse(cgroup_host_is_v2(h), file, text, out);
    if (r < 0 && (is_psi(file) || r != -ENODEV)) { // e.g. pressure that is switched off: EOPNOTSUPP
        f->absent |= 1u << file;
        r = 0;
    }
    if ((f->absent & (1u << file)) || (is_new && !may_keep()))
        let_go(f, file);
    return r;
}

static int read_all(const struct cgroup_host *h, const char *path, uint32_t which,
                    struct cgroup_usage_files *f, struct cgroup_usage *out)
{
    int r = 0;
    cgroup_usage_reset(out);
    for (int i = 0; r == 0 && i < CGROUP_USAGE_FILES; i++) {
        if (which & (1u << i))
            r = read_one(h, path, (enum cgroup_usage_file)i, f, out);
    }
    return r;
}

int cgroup_usage_read(const struct cgroup_host *h, const char *path, uint32_t which,
                      struct cgroup_usage_files *f, struct cgroup_usage *out)
{
    int r = read_all(h, path, which, f, out);
    if (r == -ENODEV) { // the directory was removed; a pod's place may have been made again
        cgroup_usage_files_close(f);
        r = read_all(h, path, which, f, out);
    }
    if (r < 0)
        cgroup_usage_files_close(f);
    return r == -ENODEV ? -ENOENT : r;
}
