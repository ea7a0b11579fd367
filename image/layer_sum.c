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
#define BLOCK         (64u << 10) // of content: those of zeros don't count
#define DEPTH_MAX     1024
#define OPEN_MAX      32         // directories that stay open, of those above the one at hand
#define XATTRS_MAX    65536      // of names, and of one value: the kernel's own limits
#define LINKED_MAX    (1u << 20) // inodes with several names that are remembered, so that each is read once
#define PAUSE_ENTRIES 32

// A directory on the way to the entry at hand. One that is closed meanwhile is opened again by "..".
struct level {
    DIR *dir; // NULL: closed
    dev_t dev;
    ino_t ino;
    long position;
    size_t path_len;
};

struct sum {
    uint64_t low, high;
    char path[PATH_MAX]; // of the entry at hand, below the layer's root
    size_t path_len;
    bool (*pause)(void *data);
    void *data;
    unsigned entries;
    char *buffer, *names;
    XXH3_state_t *content, *entry;
    struct map *linked;   // inode number in hex -> its content's hash
    struct level *levels; // DEPTH_MAX + 1
    size_t depth;
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

static bool is_zero(const char *block, size_t n)
{
    return block[0] == '\0' && memcmp(block, block + 1, n - 1) == 0;
}

// Where the next block begins that isn't all hole; at is where one begins. -1: there is none.
static off_t next_block(int fd, off_t at)
{
    off_t data = lseek(fd, at, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? -1 : at; // not every file system knows
    return data - data % BLOCK;
}

static ssize_t read_chunk(int fd, char *buffer, off_t at)
{
    size_t have = 0;

    while (have < CHUNK) {
        ssize_t n = pread(fd, buffer + have, CHUNK - have, at + (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

// Blocks with their places. Holes aren't read, however large, and a copy that has other holes hashes alike.
static int hash_content(struct sum *s, int fd, struct facts *facts)
{
    (void)XXH3_128bits_reset(s->content);
    for (off_t at = 0; facts->size > 0 && (at = next_block(fd, at)) >= 0; at += CHUNK) {
        ssize_t n = read_chunk(fd, s->buffer, at);
        if (n < 0)
            return failed(s, errno, "read");
        for (ssize_t i = 0; i < n; i += BLOCK) {
            size_t len = n - i < (ssize_t)BLOCK ? (size_t)(n - i) : BLOCK;
            uint64_t place = (uint64_t)(at + i);
            if (is_zero(s->buffer + i, len))
                continue;
            (void)XXH3_128bits_update(s->content, &place, sizeof(place));
            (void)XXH3_128bits_update(s->content, s->buffer + i, len);
        }
        if (s->pause && s->pause(s->data))
            return canceled(s);
        if (n < (ssize_t)CHUNK)
            break;
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

static DIR *open_dir(int at, const char *name)
{
    int fd = openat(at, name, O_CLOEXEC | O_NOFOLLOW | O_RDONLY | O_DIRECTORY | O_NOATIME);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (!dir)
        fd_closep(&fd);
    return dir;
}

// Goes down into *fd, which is taken.
static int enter(struct sum *s, int *fd)
{
    struct level *l = &s->levels[s->depth];
    struct stat st;

    if (s->depth > DEPTH_MAX)
        return failed(s, E2BIG, "look into");
    if (fstat(*fd, &st) < 0 || !(l->dir = fdopendir(*fd)))
        return failed(s, errno, "read");
    (void)steal_fd(fd);
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    l->path_len = s->path_len;
    if (s->depth++ > OPEN_MAX) {
        l[-1].position = telldir(l[-1].dir);
        dir_closep(&l[-1].dir);
    }
    return 0;
}

// Back to the directory above.
static int leave(struct sum *s)
{
    struct level *l = &s->levels[--s->depth];
    int r = 0;

    if (s->depth > 0 && !l[-1].dir) {
        DIR *dir = l[-1].dir = open_dir(dirfd(l->dir), "..");
        struct stat st;
        if (!dir || fstat(dirfd(dir), &st) < 0)
            r = failed(s, errno, "go back from");
        else if (st.st_dev != l[-1].dev || st.st_ino != l[-1].ino)
            r = failed(s, ESTALE, "go back from");
        else
            seekdir(dir, l[-1].position);
    }
    dir_closep(&l->dir);
    return r;
}

static int sum_entry(struct sum *s, int at, const char *name)
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
    return S_ISDIR(st.st_mode) ? enter(s, &fd) : 0;
}

// All below the directory that was entered.
static int sum_below(struct sum *s)
{
    int r = 0;

    while (r == 0 && s->depth > 0) {
        const struct level *l = &s->levels[s->depth - 1];
        s->path_len = l->path_len;
        s->path[s->path_len] = '\0';
        errno = 0;
        const struct dirent *d = readdir(l->dir); // NOLINT(concurrency-mt-unsafe): own stream
        if (!d && errno)
            return failed(s, errno, "read");
        if (!d) {
            r = leave(s);
            continue;
        }
        size_t n = strlen(d->d_name);
        if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
            continue;
        if (s->path_len + 1 + n >= sizeof(s->path))
            return failed(s, E2BIG, "look into");
        s->path[s->path_len] = '/';
        memcpy(s->path + s->path_len + 1, d->d_name, n + 1);
        s->path_len += 1 + n;
        r = sum_entry(s, dirfd(l->dir), d->d_name);
    }
    return r;
}

static void sum_done(struct sum *s)
{
    for (struct map_iter it = {0}; s->linked && map_next(s->linked, &it);)
        free(it.value);
    map_free(s->linked);
    for (size_t i = 0; s->levels && i < s->depth; i++)
        dir_closep(&s->levels[i].dir);
    free(s->levels);
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
    s->levels = calloc(DEPTH_MAX + 1, sizeof(*s->levels));
    if (!s->buffer || !s->names || !s->content || !s->entry || !s->linked || !s->levels)
        r = error_errno(err, ENOMEM, "check %s", path);
    if (r == 0)
        r = sum_entry(s, AT_FDCWD, path);
    if (r == 0)
        r = sum_below(s);
    if (r < 0)
        error_wrap(err, "layer %s", path);
    XXH64_canonicalFromHash((XXH64_canonical_t *)out, s->low);
    XXH64_canonicalFromHash((XXH64_canonical_t *)(out + 8), s->high);
    sum_done(s);
    return r;
}
