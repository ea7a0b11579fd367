// What the files of the cgroup module share; nobody else includes it.
#ifndef RUNTIME_CGROUP_INTERNAL_H
#define RUNTIME_CGROUP_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "runtime/cgroup.h"

#define CGROUP_HIERARCHIES_MAX 24
#define CGROUP_WRITES_MAX      128
#define CGROUP_VALUE_MAX       512  // bytes of a value that is written, with its NUL
#define CGROUP_TEXT_MAX        4096 // bytes of a control file that is kept to be put back

enum cgroup_controller {
    CGROUP_CPU,
    CGROUP_CPUACCT,
    CGROUP_CPUSET,
    CGROUP_MEMORY,
    CGROUP_DEVICES,
    CGROUP_FREEZER,
    CGROUP_BLKIO, // "io" on v2
    CGROUP_PIDS,
    CGROUP_HUGETLB,
    CGROUP_NET_CLS,
    CGROUP_NET_PRIO,
    CGROUP_PERF_EVENT,
    CGROUP_RDMA,
    CGROUP_MISC,
    CGROUP_CONTROLLERS, // how many
};

// One value to be written, and who asked for it.
struct cgroup_write {
    const struct cgroup_hierarchy_fd *root;
    const char *field; // the caller's
    char *file, *value;
    char *before; // the whole file, for putting it back; NULL when it was not noted. What an earlier write of
                  // the list leaves there is told when it is added.
};

// All zero to begin with; ended by cgroup_writes_done().
struct cgroup_writes {
    struct cgroup_write w[CGROUP_WRITES_MAX];
    size_t n;
};

struct cgroup_hierarchy_fd {
    int fd; // of the mount point
};

// Who makes the places of pods (cgroup.driver): crispd by itself, or systemd. What is below them is crispd's
// in both cases.
struct cgroup_manager {
    const char *name;
    int (*open)(struct cgroup_host *h, const struct cgroup_options *o, struct error *err); // sets h->parent
    void (*close)(struct cgroup_host *h); // after a failed open, too
    // cgroup_parent: NULL when none was given.
    int (*pod_path)(const struct cgroup_host *h, const char *cgroup_parent, const char *pod_id,
                    char out[CGROUP_PATH_MAX], struct error *err);
    // The three steps of cgroup.h.
    int (*pod_create)(struct cgroup_host *h, const char *pod_path, uint32_t *made_levels, struct error *err);
    int (*pod_enter)(struct cgroup_host *h, const char *pod_path, const char *leaf, pid_t pid,
                     struct error *err);
    int (*pod_remove)(struct cgroup_host *h, const char *pod_path, uint32_t made_levels, struct error *err);
};

extern const struct cgroup_manager cgroup_manager_cgroupfs;
extern const struct cgroup_manager cgroup_manager_systemd;

// How the kernel's cgroups of a version are worked.
struct cgroup_driver {
    const char *name;
    // After a directory was made at `path` in every hierarchy. leaf: processes will live there; else it is
    // a step on the way, and must hand its controllers down.
    int (*made)(struct cgroup_host *h, const char *path, bool leaf, struct error *err);
    // Resources into writes, in an order that the kernel takes. fresh: the place has its initial values.
    int (*compile)(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *r, bool fresh,
                   struct cgroup_writes *out, struct error *err);
    int (*devices)(struct cgroup_host *h, const char *path, const struct cgroup_devices *d,
                   struct error *err);
    int (*kill)(struct cgroup_host *h, const char *path, struct error *err);
    // Puts the kernel's values into io, whose strings are in arena. What the kernel doesn't tell stays.
    int (*read)(struct cgroup_host *h, const char *path, struct arena *arena,
                Cri__LinuxContainerResources *io);
    int64_t (*oom_kills)(struct cgroup_host *h, const char *path);
};

extern const struct cgroup_driver cgroup_driver_v1;
extern const struct cgroup_driver cgroup_driver_v2;

struct cgroup_bpf_cache; // cgroup_bpf.c

struct cgroup_bus; // cgroup_bus.h

struct cgroup_host {
    const struct cgroup_manager *manager;
    const struct cgroup_driver *driver;
    bool v2;
    struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHIES_MAX]; // strings are owned
    struct cgroup_hierarchy_fd fds[CGROUP_HIERARCHIES_MAX];      // same indexes
    uint32_t controllers[CGROUP_HIERARCHIES_MAX];                // bits of enum cgroup_controller
    dev_t devs[CGROUP_HIERARCHIES_MAX];
    size_t n;
    char *parent; // a path; with systemd a slice's
    char *owner;
    struct cgroup_bus *bus; // the systemd manager's
    bool bus_tried;         // also for pods that it has made, when it isn't the manager any more
    pthread_rwlock_t
        slice_lock; // read: a place or scope is being made; write: an empty level above is removed
    struct cgroup_bpf_cache *bpf; // v2's device programs
};

// Names (cgroup_path.c).
#define CGROUP_SCOPE_PREFIX   "crisp-"
#define CGROUP_SCOPE_SUFFIX   ".scope"
#define CGROUP_SYSTEMD_BOOTED "/run/systemd/system" // as sd_booted(3) has it
// Absolute, no empty, "." or ".." components, none too long for a directory's name.
bool cgroup_path_is_sane(const char *path);
// The place's ancestor of `levels` components; the whole path when it has no more.
void cgroup_path_prefix(const char *path, unsigned levels, char out[CGROUP_PATH_MAX]);
unsigned cgroup_path_levels(const char *path);
const char *cgroup_path_base(const char *path);
bool cgroup_path_is_scope(const char *path); // a pod's place that systemd has made for a crispd
// linux.cgroup_parent in the syntax of each driver, as the place that it means. INVALID_ARGUMENT.
int cgroup_path_of_directory(const char *parent, char out[CGROUP_PATH_MAX], struct error *err);
int cgroup_path_of_slice(const char *parent, char out[CGROUP_PATH_MAX], struct error *err);

// mkdir -p in every hierarchy (cgroup.c). *made: trailing levels that no hierarchy had. leaf: the last one is
// to hold processes. -EAGAIN in the error once the parent has been removed again and again.
int cgroup_make_path(struct cgroup_host *h, const char *path, bool leaf, uint32_t *made, struct error *err);

// Levels above a pod's place that we made and that outlive the pod, as others live there too: the last of
// them removes them, also after a restart of crispd, so the mark is in the kernel. Where marks can't be set,
// the levels stay. Marks the level `gone` above the place, and those above it that are among the trailing
// made_levels. The options' parent stays out. slice_lock is held for writing, since before the level was
// found in use.
void cgroup_hand_over(struct cgroup_host *h, const char *pod_path, unsigned gone, uint32_t made_levels);
// Is the level one of those? Any other is somebody else's. slice_lock is not held.
bool cgroup_is_handed_over(struct cgroup_host *h, const char *path);

const char *cgroup_controller_name(enum cgroup_controller c, bool v2);
int cgroup_controller_parse(const char *name); // -1: unknown
// The hierarchy that has the controller, or NULL.
const struct cgroup_hierarchy_fd *cgroup_root_of(const struct cgroup_host *h, enum cgroup_controller c);

// Fills the host's hierarchies from a mountinfo file (cgroup_detect.c).
int cgroup_detect(struct cgroup_host *h, const char *mountinfo, struct error *err);

// Files of one place (cgroup_file.c). path is a place; file "" stands for the directory itself.
int cgroup_file_open(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                     int flags); // a descriptor or -errno
int cgroup_file_write(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                      const char *value); // 0 or -errno
// Trailing newline cut off; 0, -errno, -E2BIG when it doesn't fit.
int cgroup_file_read(const struct cgroup_hierarchy_fd *root, const char *path, const char *file, char *out,
                     size_t size);
int cgroup_file_read_i64(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                         int64_t *out); // "max" is -1
// The number after `key ` in a flat keyed file such as memory.events. -ENOENT when it isn't there.
int cgroup_file_read_key(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                         const char *key, int64_t *out);
bool cgroup_file_exists(const struct cgroup_hierarchy_fd *root, const char *path, const char *file);
// Calls fn for each pid in the place and below it. Number of pids, or -errno (-ENOENT: no such place).
typedef void (*cgroup_pid_fn)(pid_t pid, void *arg);
long cgroup_each_pid(const struct cgroup_hierarchy_fd *root, const char *path, cgroup_pid_fn fn, void *arg);
// Writes a file of the place and of all below it, deepest first, where that can be done.
void cgroup_write_below(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                        const char *value);
bool cgroup_has_children(const struct cgroup_hierarchy_fd *root, const char *path);
// Removes the place and all below it, deepest first. 0, -EBUSY, -errno; absent is fine.
int cgroup_rmdir_tree(const struct cgroup_hierarchy_fd *root, const char *path);

// Adds a write (printf-like value); file and value are copied, field is not. INVALID_ARGUMENT when the list
// or the value is full.
int cgroup_writes_add(struct cgroup_writes *ws, const struct cgroup_hierarchy_fd *root, const char *field,
                      struct error *err, const char *file, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
void cgroup_writes_done(struct cgroup_writes *ws);
// One per hugepage limit, with the driver's file name suffix ("limit_in_bytes", "max").
int cgroup_writes_add_hugepages(struct cgroup_host *h, const char *path,
                                const Cri__LinuxContainerResources *r, const char *suffix,
                                struct cgroup_writes *ws, struct error *err);
// One per setting.
int cgroup_writes_add_settings(struct cgroup_host *h, const char *path, const struct cgroup_limits *limits,
                               struct cgroup_writes *ws, struct error *err);
// Reads what is there before a list is executed.
int cgroup_writes_note(const char *path, struct cgroup_writes *ws, struct error *err);
// Executes a list. restore: first notes the old values, and puts them back if one write fails.
int cgroup_writes_run(const char *path, struct cgroup_writes *ws, bool restore, struct error *err);
// Puts back what a run with `restore` has changed, the last one first. The first failure is returned, but all
// are tried.
int cgroup_writes_undo(const char *path, const struct cgroup_writes *ws, struct error *err);
// The limits of io's hugepage sizes as the kernel has them, and the values of io's unified keys (v2).
void cgroup_read_hugepages(struct cgroup_host *h, const char *path, const char *suffix,
                           Cri__LinuxContainerResources *io);
void cgroup_read_unified(struct cgroup_host *h, const char *path, struct arena *arena,
                         Cri__LinuxContainerResources *io);

// v1: a pod's place gets another list, and what is below it follows. INVALID_ARGUMENT: too much is below.
int cgroup_cpuset_add(const struct cgroup_hierarchy_fd *root, const char *path, const char *field,
                      const char *file, const char *list, const struct cgroup_leaf *leaves, size_t n_leaves,
                      struct cgroup_writes *ws, struct error *err);
// Is every number of the list "0-3,7" in the other one, too? false also when either is no list.
bool cgroup_list_within(const char *list, const char *all);

// cpu.shares (2..262144) as cpu.weight (1..10000), and back: `asked` if that has this weight, else the least
// shares that have it (1024 for the kernel's default of 100).
uint64_t cgroup_weight_of_shares(int64_t shares);
int64_t cgroup_shares_of_weight(uint64_t weight, int64_t asked);

// The device set that every container has.
extern const struct cgroup_device_rule cgroup_default_devices[];
extern const size_t cgroup_n_default_devices;
bool cgroup_device_is_default(const struct cgroup_device_rule *d); // with whatever access

// A mark that tells whose a leaf is: an extended attribute of its directory in the first hierarchy.
#define CGROUP_OWNER_XATTR "trusted.crisp.owner"
#define CGROUP_OWNER_MAX   256
#define CGROUP_LEVEL_XATTR "trusted.crisp.level" // likewise, of cgroup_hand_over()

// cgroup_bpf.c: attaches a device program to a v2 cgroup; equal rule sets share one program.
int cgroup_bpf_devices(struct cgroup_host *h, const char *path, const struct cgroup_devices *d,
                       struct error *err);
void cgroup_bpf_cache_free(struct cgroup_bpf_cache *c);

#endif
