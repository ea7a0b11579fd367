// Lists of CPUs and memory nodes, "0-3,7", and v1's hierarchy of them, in which a place can neither have what
// the level above hasn't got nor go without what those below have.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define IDS_MAX 8192 // more than any kernel's NR_CPUS

// false: it is no such list, or has numbers that no host has.
static bool parse(const char *list, unsigned char bits[IDS_MAX / 8])
{
    const char *at = list;
    for (;;) {
        char *end;
        if (*at < '0' || *at > '9')
            return false;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-') {
            at = end + 1;
            if (*at < '0' || *at > '9')
                return false;
            last = strtoul(at, &end, 10);
        }
        if (last >= IDS_MAX || first > last)
            return false;
        for (unsigned long id = first; id <= last; id++)
            bits[id / 8] = (unsigned char)(bits[id / 8] | 1u << id % 8);
        if (*end == '\0')
            return true;
        if (*end != ',')
            return false;
        at = end + 1;
    }
}

bool cgroup_list_within(const char *list, const char *all)
{
    unsigned char a[IDS_MAX / 8] = {0}, b[IDS_MAX / 8] = {0};
    if (!parse(list, a) || !parse(all, b))
        return false;
    for (size_t i = 0; i < sizeof(a); i++) {
        if (a[i] & (unsigned char)~b[i])
            return false;
    }
    return true;
}

// ---- A pod's place and what is below it ----

#define LIST_MAX CGROUP_VALUE_MAX

struct ids {
    unsigned char bits[IDS_MAX / 8];
};

static bool has(const struct ids *ids, unsigned id)
{
    return id < IDS_MAX && (ids->bits[id / 8] & 1u << id % 8);
}

static bool is_empty(const struct ids *ids)
{
    for (size_t i = 0; i < sizeof(ids->bits); i++) {
        if (ids->bits[i])
            return false;
    }
    return true;
}

// false: it is too long.
static bool print(const struct ids *ids, char out[LIST_MAX])
{
    size_t used = 0;
    out[0] = '\0';
    for (unsigned id = 0, last; id < IDS_MAX; id = last + 1) {
        last = id;
        if (!has(ids, id))
            continue;
        while (has(ids, last + 1))
            last++;
        int n =
            snprintf(out + used, LIST_MAX - used, last > id ? "%s%u-%u" : "%s%u", used ? "," : "", id, last);
        if (n < 0 || (size_t)n >= LIST_MAX - used)
            return false;
        used += (size_t)n;
    }
    return true;
}

static const char *asked_of(const char *child, bool cpus, const struct cgroup_leaf *leaves, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(cgroup_path_base(leaves[i].path), child))
            return cpus ? leaves[i].cpus : leaves[i].mems;
    }
    return NULL;
}

struct following {
    const struct cgroup_hierarchy_fd *root;
    const char *path, *field, *file;
    const struct cgroup_leaf *leaves;
    size_t n_leaves;
    struct ids new;
    struct cgroup_writes *ws;
};

// What it was asked to have of the new ones; all of them if that is none.
static int add_child(const struct following *f, const char *child, struct error *err)
{
    char file[NAME_MAX + 32], now[CGROUP_TEXT_MAX], list[LIST_MAX];
    const char *asked = asked_of(child, str_eq(f->file, "cpuset.cpus"), f->leaves, f->n_leaves);
    struct ids own = {{0}};
    if (str_empty(asked) || !parse(asked, own.bits))
        own = f->new;
    for (size_t i = 0; i < sizeof(own.bits); i++)
        own.bits[i] &= f->new.bits[i];
    (void)snprintf(file, sizeof(file), "%s/%s", child, f->file);
    if (!print(is_empty(&own) ? &f->new : &own, list) ||
        cgroup_file_read(f->root, f->path, file, now, sizeof(now)) < 0 || str_eq(now, list))
        return 0;
    return cgroup_writes_add(f->ws, f->root, f->field, err, file, "%s", list);
}

static int add_children(const struct following *f, struct error *err)
{
    int fd = cgroup_file_open(f->root, f->path, "", O_RDONLY | O_DIRECTORY), r = 0;
    _cleanup_(dir_closep) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && fd >= 0)
        (void)close(fd);
    if (!dir)
        return error_errno(err, fd < 0 ? -fd : ENOMEM, "%s: read cgroup %s", f->field, f->path);
    for (const struct dirent *e;
         r == 0 && (e = readdir(dir)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own stream
        if (e->d_type == DT_DIR && !str_eq(e->d_name, ".") && !str_eq(e->d_name, ".."))
            r = add_child(f, e->d_name, err);
    }
    return r;
}

static bool parent_has(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                       const char *list)
{
    char parent[CGROUP_PATH_MAX], all[CGROUP_TEXT_MAX];
    (void)snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
    return cgroup_file_read(root, parent, file, all, sizeof(all)) == 0 && cgroup_list_within(list, all);
}

int cgroup_cpuset_add(const struct cgroup_hierarchy_fd *root, const char *path, const char *field,
                      const char *file, const char *list, const struct cgroup_leaf *leaves, size_t n_leaves,
                      struct cgroup_writes *ws, struct error *err)
{
    struct following f = {.root = root,
                          .path = path,
                          .field = field,
                          .file = file,
                          .leaves = leaves,
                          .n_leaves = n_leaves,
                          .ws = ws};
    struct ids both = {{0}};
    char now[CGROUP_TEXT_MAX], all[LIST_MAX];
    if (str_empty(list))
        return 0;
    if (!cgroup_has_children(root, path) || !parse(list, f.new.bits) || !parent_has(root, path, file, list) ||
        cgroup_file_read(root, path, file, now, sizeof(now)) < 0 || !parse(now, both.bits))
        return cgroup_writes_add(ws, root, field, err, file, "%s", list); // the kernel says what is wrong
    for (size_t i = 0; i < sizeof(both.bits); i++)
        both.bits[i] |= f.new.bits[i];
    bool more = !cgroup_list_within(list, now);
    // What is new comes first, what is to go is last, and between the two those below change.
    more = more && print(&both, all);
    int r = more ? cgroup_writes_add(ws, root, field, err, file, "%s", all) : 0;
    if (r == 0)
        r = add_children(&f, err);
    if (r == 0)
        r = cgroup_writes_add(ws, root, field, err, file, "%s", list);
    if (r == 0 && more && !(ws->w[ws->n - 1].before = strdup(all)))
        r = error_errno(err, ENOMEM, "%s", field);
    return r;
}
