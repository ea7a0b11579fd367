#include "image/layer_sum.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XXH_INLINE_ALL // two functions of it: no library to be there at run time
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/map.h"
#include "base/str.h"

#define CHUNK         (256u << 10)
#define DEPTH_MAX     1024
#define XATTRS_MAX    65536      // of names, and of one value: the kernel's own limits
#define LINKED_MAX    (1u << 20) // inodes with several names that are remembered, so that each is read once
#define PAUSE_ENTRIES 32

struct sum {
    uint64_t low, high;
    char path[PATH_MAX]; // of the entry at hand, below the layer's root
    size_t path_len;
    bool (*pause)(void *data);
    void *data;
    unsigned entries;
    char *buffer, *names;
    XXH3_state_t *content, *entry;
    struct map *linked; // inode number in hex -> its content's hash
    struct error *err;
};

// What has a fixed size of an entry, in the byte order of the host.
struct facts {
    uint64_t mode, uid, gid, size, rdev, links;
    int64_t mtime_s, mtime_ns;
    uint64_t xattrs_low, xattrs_high, content_low, content_high;
};

static int failed(struct sum *s, int errnum, const char *what)
{
    return error_set(s->err, STATUS_INTERNAL, errnum, "%s \"%s\": %s", what, s->path, strerror(errnum));
}

static bool is_the_hosts(const char *xattr)
{
    return str_eq(xattr, "security.selinux") || str_eq(xattr, "security.ima") ||
           str_eq(xattr, "security.evm");
}

// fd may be O_PATH (of a symlink or a device), for which only /proc knows the attributes.
static int hash_xattrs(struct sum *s, int fd, struct facts *facts)
{
    char proc[64];

    (void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    ssize_t len = listxattr(proc, s->names, XATTRS_MAX);
    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : failed(s, errno, "list the attributes of");
    for (const char *name = s->names; name < s->names + len; name += strlen(name) + 1) {
        if (is_the_hosts(name))
            continue;
        ssize_t n = getxattr(proc, name, s->buffer, XATTRS_MAX);
        if (n < 0)
            return failed(s, errno, "read an attribute of");
        (void)XXH3_128bits_reset(s->content);
        (void)XXH3_128bits_update(s->content, name, strlen(name) + 1);
        (void)XXH3_128bits_update(s->content, s->buffer, (size_t)n);
        XXH128_hash_t h = XXH3_128bits_digest(s->content);
        facts->xattrs_low += h.low64;
        facts->xattrs_high += h.high64;
    }
    return 0;
}

static int canceled(struct sum *s)
{
    return error_set(s->err, STATUS_CANCELLED, ECANCELED, "the check of a layer was called off");
}

static int hash_content(struct sum *s, int fd, struct facts *facts)
{
    (void)XXH3_128bits_reset(s->content);
    for (;;) {
        ssize_t n = read(fd, s->buffer, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(s, errno, "read");
        if (n == 0)
            break;
        (void)XXH3_128bits_update(s->content, s->buffer, (size_t)n);
        if (s->pause && s->pause(s->data))
            return canceled(s);
    }
    XXH128_hash_t h = XXH3_128bits_digest(s->content);
    facts->content_low = h.low64;
    facts->content_high = h.high64;
    return 0;
}

// Hard links are read once: an image's applets may be hundreds of names of one file.
static int hash_file(struct sum *s, int fd, const struct stat *st, struct facts *facts)
{
    char key[17];

    if (st->st_nlink < 2)
        return hash_content(s, fd, facts);
    (void)snprintf(key, sizeof(key), "%llx", (unsigned long long)st->st_ino);
    uint64_t *known = map_get(s->linked, key);
    if (known) {
        facts->content_low = known[0];
        facts->content_high = known[1];
        return 0;
    }
    int r = hash_content(s, fd, facts);
    known = r == 0 && map_len(s->linked) < LINKED_MAX ? calloc(2, sizeof(*known)) : NULL;
    if (!known)
        return r;
    known[0] = facts->content_low;
    known[1] = facts->content_high;
    if (map_set(s->linked, key, known) < 0)
        free(known); // it is read again
    return 0;
}

static void add_entry(struct sum *s, const struct facts *facts, const char *target)
{
    (void)XXH3_128bits_reset(s->entry);
    (void)XXH3_128bits_update(s->entry, s->path, s->path_len + 1);
    (void)XXH3_128bits_update(s->entry, facts, sizeof(*facts));
    (void)XXH3_128bits_update(s->entry, target, strlen(target));
    XXH128_hash_t h = XXH3_128bits_digest(s->entry);
    s->low += h.low64; // a sum: the same whatever the order
    s->high += h.high64;
}

static int sum_dir(struct sum *s, int fd, int depth);

static int sum_entry(struct sum *s, int at, const char *name, int depth)
{
    char target[PATH_MAX] = "";
    struct stat st;
    // What it is comes first: only files and directories may be opened.
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(s, errno, "look at");
    bool openable = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
    _cleanup_fd_ int fd =
        openat(at, name, O_CLOEXEC | O_NOFOLLOW | (openable ? O_RDONLY | O_NOATIME | O_NONBLOCK : O_PATH));
    if (fd < 0)
        return failed(s, errno, "open");
    struct facts facts = {.mode = st.st_mode,
                          .uid = st.st_uid,
                          .gid = st.st_gid,
                          .size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0,
                          .rdev = S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? st.st_rdev : 0,
                          .links = S_ISDIR(st.st_mode) ? 0 : st.st_nlink,
                          .mtime_s = st.st_mtim.tv_sec,
                          .mtime_ns = st.st_mtim.tv_nsec};
    int r = S_ISLNK(st.st_mode) ? 0 : hash_xattrs(s, fd, &facts);
    if (r == 0 && S_ISREG(st.st_mode))
        r = hash_file(s, fd, &st, &facts);
    if (S_ISLNK(st.st_mode) && readlinkat(at, name, target, sizeof(target) - 1) < 0)
        r = failed(s, errno, "read the link");
    if (r < 0)
        return r;
    add_entry(s, &facts, target);
    if (++s->entries % PAUSE_ENTRIES == 0 && s->pause && s->pause(s->data))
        return canceled(s);
    return S_ISDIR(st.st_mode) ? sum_dir(s, fd, depth + 1) : 0;
}

static int sum_dir(struct sum *s, int fd, int depth)
{
    if (depth > DEPTH_MAX)
        return failed(s, E2BIG, "look into");
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    _cleanup_(dir_closep) DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *d;
    size_t len = s->path_len;

    if (!dir) {
        int errnum = errno;
        fd_closep(&copy);
        return failed(s, errnum, "read");
    }
    while ((errno = 0, d = readdir(dir))) { // NOLINT(concurrency-mt-unsafe): own stream
        size_t n = strlen(d->d_name);
        if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
            continue;
        if (len + 1 + n >= sizeof(s->path))
            return failed(s, E2BIG, "look into");
        s->path[len] = '/';
        memcpy(s->path + len + 1, d->d_name, n + 1);
        s->path_len = len + 1 + n;
        int r = sum_entry(s, fd, d->d_name, depth);
        if (r < 0)
            return r;
        s->path_len = len;
        s->path[len] = '\0';
    }
    return errno ? failed(s, errno, "read") : 0;
}

static void sum_done(struct sum *s)
{
    for (struct map_iter it = {0}; s->linked && map_next(s->linked, &it);)
        free(it.value);
    map_free(s->linked);
    (void)XXH3_freeState(s->content);
    (void)XXH3_freeState(s->entry);
    free(s->buffer);
    free(s->names);
    free(s);
}

int layer_sum(const char *path, bool (*pause)(void *data), void *data, uint8_t out[LAYER_SUM_LEN],
              struct error *err)
{
    struct sum *s = calloc(1, sizeof(*s));
    int r = 0;

    if (!s)
        return error_errno(err, ENOMEM, "check %s", path);
    s->pause = pause;
    s->data = data;
    s->err = err;
    s->buffer = malloc(CHUNK);
    s->names = malloc(XATTRS_MAX + 1);
    s->content = XXH3_createState();
    s->entry = XXH3_createState();
    s->linked = map_new();
    if (!s->buffer || !s->names || !s->content || !s->entry || !s->linked)
        r = error_errno(err, ENOMEM, "check %s", path);
    if (r == 0)
        r = sum_entry(s, AT_FDCWD, path, 0);
    if (r < 0)
        error_wrap(err, "layer %s", path);
    XXH64_canonicalFromHash((XXH64_canonical_t *)out, s->low);
    XXH64_canonicalFromHash((XXH64_canonical_t *)(out + 8), s->high);
    sum_done(s);
    return r;
}
