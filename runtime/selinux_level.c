// A pod's pair of categories.
//
// The claim is a link RUN_DIR/selinux/cA,cB to the pod's id: made at once or not at all, there after a
// restart of the daemon, gone after a reboot. Which pairs are tried follows from the id, which is random.
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/selinux.h"

#define CATEGORIES 1024 // c0 to c1023: what policies with categories have
#define DIGITS     5    // of the id, for one pair: 20 bits
#define ID_MAX     64

// The try-th pair of a pod: false when the id has no more.
static bool pair_of(const char *pod_id, unsigned try, char out[SELINUX_LEVEL_MAX])
{
    char digits[DIGITS + 1] = "";
    size_t from = (size_t)try * DIGITS, len = strnlen(pod_id, ID_MAX);
    if (from + DIGITS > len)
        return false;
    memcpy(digits, pod_id + from, DIGITS);
    unsigned long bits = strtoul(digits, NULL, 16);
    unsigned a = (unsigned)(bits % CATEGORIES), b = (unsigned)(bits / CATEGORIES) % CATEGORIES;
    if (a == b)
        b = (b + 1) % CATEGORIES;
    // The kernel writes the smaller one first.
    (void)snprintf(out, SELINUX_LEVEL_MAX, "c%u,c%u", a < b ? a : b, a < b ? b : a);
    return true;
}

static bool is_claimed_by(const char *path, const char *pod_id)
{
    char owner[ID_MAX + 1];
    ssize_t n = readlink(path, owner, sizeof(owner));
    return n > 0 && (size_t)n == strlen(pod_id) && memcmp(owner, pod_id, (size_t)n) == 0;
}

int selinux_level_prepare(const char *run_dir, struct error *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/selinux", run_dir);
    return mkdir(path, 0700) < 0 && errno != EEXIST ? error_errno(err, errno, "make %s", path) : 0;
}

int selinux_level_claim(const char *run_dir, const char *pod_id, char level[SELINUX_LEVEL_MAX],
                        struct error *err)
{
    char path[PATH_MAX], pair[SELINUX_LEVEL_MAX];
    for (unsigned try = 0; pair_of(pod_id, try, pair); try++) {
        (void)snprintf(path, sizeof(path), "%s/selinux/%s", run_dir, pair);
        if (symlink(pod_id, path) == 0 || (errno == EEXIST && is_claimed_by(path, pod_id))) {
            (void)snprintf(level, SELINUX_LEVEL_MAX, "s0:%.40s", pair);
            return 0;
        }
        if (errno != EEXIST)
            return error_errno(err, errno, "make %s", path);
    }
    return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOSPC,
                     "no SELinux categories are left for pod %s: %s/selinux holds those in use", pod_id,
                     run_dir);
}

void selinux_level_release(const char *run_dir, const char *pod_id)
{
    char path[PATH_MAX], pair[SELINUX_LEVEL_MAX];
    for (unsigned try = 0; pair_of(pod_id, try, pair); try++) {
        (void)snprintf(path, sizeof(path), "%s/selinux/%s", run_dir, pair);
        if (is_claimed_by(path, pod_id))
            (void)unlink(path);
    }
}

void selinux_level_sweep(const char *run_dir, bool (*alive)(void *data, const char *pod_id), void *data)
{
    char path[PATH_MAX], owner[ID_MAX + 1];
    (void)snprintf(path, sizeof(path), "%s/selinux", run_dir);
    _cleanup_(dir_closep) DIR *dir = opendir(path);
    const struct dirent *e;
    while (dir && (e = readdir(dir)) != NULL) { // NOLINT(concurrency-mt-unsafe): the stream is ours alone
        ssize_t n = readlinkat(dirfd(dir), e->d_name, owner, sizeof(owner) - 1);
        if (n <= 0)
            continue;
        owner[n] = '\0';
        if (!alive(data, owner))
            (void)unlinkat(dirfd(dir), e->d_name, 0);
    }
}
