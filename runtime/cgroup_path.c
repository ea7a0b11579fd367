// Names of places: what linux.cgroup_parent may be, and what becomes of it.
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define FIELD         "linux.cgroup_parent"
#define SLICE         ".slice"
#define UNIT_NAME_MAX 255 // bytes that systemd takes as the name of a unit
// What stays free behind a pod's place: a slash and a container's id of 64 digits.
#define LEAF_ROOM 66

bool cgroup_path_is_sane(const char *path)
{
    if (path[0] != '/' || path[1] == '\0')
        return false;
    for (const char *p = path; *p;) {
        size_t len = strcspn(p + 1, "/");
        if (len == 0 || len > 255 || (len == 1 && p[1] == '.') || (len == 2 && p[1] == '.' && p[2] == '.'))
            return false;
        p += 1 + len;
    }
    return true;
}

void cgroup_path_prefix(const char *path, unsigned levels, char out[CGROUP_PATH_MAX])
{
    size_t len = 0;
    for (unsigned i = 0; i < levels && path[len]; i++)
        len += 1 + strcspn(path + len + 1, "/");
    memcpy(out, path, len);
    out[len] = '\0';
}

unsigned cgroup_path_levels(const char *path)
{
    unsigned n = 0;
    for (const char *p = path; *p; p++)
        n += *p == '/';
    return n;
}

const char *cgroup_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool cgroup_path_is_scope(const char *path)
{
    const char *base = cgroup_path_base(path);
    return str_has_prefix(base, CGROUP_SCOPE_PREFIX) && str_has_suffix(base, CGROUP_SCOPE_SUFFIX);
}

bool cgroup_pod_owns(const char *pod_path, const char *pod_id)
{
    char scope[CGROUP_PATH_MAX];
    const char *base = cgroup_path_base(pod_path);
    (void)snprintf(scope, sizeof(scope), CGROUP_SCOPE_PREFIX "%.512s" CGROUP_SCOPE_SUFFIX, pod_id);
    return str_eq(base, pod_id) || str_eq(base, scope);
}

static int unusable(const char *what, const char *parent, const char *why, struct error *err)
{
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s \"%.300s\" %s", what, parent, why);
}

// ---- cgroupfs: a path as it is ----

int cgroup_path_of_directory(const char *parent, char out[CGROUP_PATH_MAX], struct error *err)
{
    int n = snprintf(out, CGROUP_PATH_MAX, "%s%s", parent[0] == '/' ? "" : "/", parent);
    while (n > 1 && n < CGROUP_PATH_MAX && out[n - 1] == '/')
        out[--n] = '\0';
    if (n < 0 || n >= CGROUP_PATH_MAX - LEAF_ROOM || !cgroup_path_is_sane(out))
        return unusable(FIELD, parent, "is not a usable cgroup path", err);
    if (str_has_suffix(out, SLICE))
        return unusable(
            FIELD, parent,
            "is a systemd slice, but the cgroup driver is cgroupfs: set kubelet's cgroupDriver to "
            "cgroupfs, or crispd's cgroup.driver to systemd",
            err);
    return 0;
}

// ---- systemd: the name of a slice, "a-b.slice", that lives in "/a.slice/a-b.slice" ----

static bool is_unit_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr(":-_.\\", c));
}

// The name without ".slice": parts that are joined by dashes, none of which is empty.
static bool slice_is_sane(const char *name, size_t stem)
{
    if (stem == 0 || stem + strlen(SLICE) > UNIT_NAME_MAX || name[0] == '-' || name[0] == '.' ||
        name[stem - 1] == '-')
        return false;
    for (size_t i = 0; i < stem; i++) {
        if (!is_unit_char(name[i]) || (name[i] == '-' && name[i + 1] == '-'))
            return false;
    }
    return true;
}

static int expand_slice(const char *name, size_t stem, char out[CGROUP_PATH_MAX])
{
    size_t used = 0;
    for (size_t i = 1; i <= stem; i++) {
        if (i < stem && name[i] != '-')
            continue;
        int n = snprintf(out + used, CGROUP_PATH_MAX - used, "/%.*s" SLICE, (int)i, name);
        if (n < 0 || (size_t)n >= CGROUP_PATH_MAX - used)
            return -E2BIG;
        used += (size_t)n;
    }
    return 0;
}

// kubelet sends the whole path ("/kubepods.slice/kubepods-burstable.slice"), peers' configurations and
// critest the name alone. Both mean the same slice, and a path that isn't the name's own one means nothing.
int cgroup_path_of_slice(const char *parent, char out[CGROUP_PATH_MAX], struct error *err)
{
    const char *name = cgroup_path_base(parent);
    if (!str_has_suffix(name, SLICE))
        return unusable(FIELD, parent,
                        "is not a systemd slice, but the cgroup driver is systemd: name one such as "
                        "\"a-b.slice\" (set kubelet's cgroupDriver to systemd, or crispd's cgroup.driver to "
                        "cgroupfs)",
                        err);
    size_t stem = strlen(name) - strlen(SLICE);
    if (stem == 1 && name[0] == '-')
        return unusable(FIELD, parent, "is the root slice, which is no place for pods", err);
    if (!slice_is_sane(name, stem))
        return unusable(FIELD, parent,
                        "is not the name of a systemd slice (letters, digits, \":_.\\\" and single dashes "
                        "between them, at most 255 bytes)",
                        err);
    // Room for the pod's scope, too.
    if (expand_slice(name, stem, out) < 0 || strlen(out) >= CGROUP_PATH_MAX - 2 * LEAF_ROOM - 16)
        return unusable(FIELD, parent, "is nested too deeply", err);
    if (name != parent && !str_eq(parent, out))
        return unusable(FIELD, parent, "is not the path of that slice", err);
    return 0;
}

// ---- Pods and leaves ----

int cgroup_pod_path(const struct cgroup_host *h, const char *cgroup_parent, const char *pod_id,
                    char out[CGROUP_PATH_MAX], struct error *err)
{
    return h->manager->pod_path(h, str_empty(cgroup_parent) ? NULL : cgroup_parent, pod_id, out, err);
}

int cgroup_leaf_path(const char *pod_path, const char *id, char out[CGROUP_PATH_MAX], struct error *err)
{
    int n = snprintf(out, CGROUP_PATH_MAX, "%s/%s", pod_path, id);
    if (n < 0 || n >= CGROUP_PATH_MAX || str_empty(id) || strchr(id, '/') || !cgroup_path_is_sane(out))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "\"%.300s/%.80s\" is not a usable cgroup path",
                         pod_path, id);
    return 0;
}
