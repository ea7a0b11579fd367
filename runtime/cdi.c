// The files of the CDI directories: read when somebody asks for a device, and again when one has changed.
#include "runtime/cdi.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"

#define FILES_MAX     1024 // of one directory
#define ARENA_MAX     ((size_t)64 << 20)
#define PROBLEMS_MAX  64
#define SIGNATURE_MAX ((size_t)1 << 20)
#define READ_BYTES    ((size_t)64 << 10)
#define SETTLED_AFTER_NS                                                                                     \
    NS_PER_SEC // a file this old when it was read can't change unnoticed within a clock tick

struct entry {
    const struct cdi_spec *spec;
    const struct cdi_device *device;
    size_t dir;
    const struct cdi_spec *rival; // of the same directory; NULL: none
};

// What the directories held at one moment. Counted; never changed once others can see it.
struct cdi_snapshot {
    unsigned refs; // the registry's lock
    struct arena *arena;
    struct map *devices;  // qualified name -> struct entry, in the arena
    char **problems;      // of files and devices
    size_t n_broken;      // files that can't be used
    char *broken;         // what is wrong with the first, in the arena
    struct buf signature; // of every file: when it differs, they are read again
    bool settled;         // the signature can be trusted
};

struct cdi {
    pthread_mutex_t lock; // never held while files are read
    char **dirs;
    struct cdi_snapshot *now; // NULL: nothing was read yet
};

static void snapshot_free(struct cdi_snapshot *s)
{
    map_free(s->devices);
    arena_free(s->arena);
    strv_free(s->problems);
    buf_done(&s->signature);
    free(s);
}

static struct cdi_snapshot *snapshot_new(void)
{
    struct cdi_snapshot *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->refs = 1;
    buf_init(&s->signature, SIGNATURE_MAX);
    s->arena = arena_new(ARENA_MAX);
    s->devices = map_new();
    if (s->arena && s->devices)
        return s;
    snapshot_free(s);
    return NULL;
}

static void snapshot_unref(struct cdi *c, struct cdi_snapshot *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&c->lock);
    bool last = --s->refs == 0;
    pthread_mutex_unlock(&c->lock);
    if (last)
        snapshot_free(s);
}

static void problem(struct cdi_snapshot *s, const char *text)
{
    if (strv_len(s->problems) < PROBLEMS_MAX)
        (void)strv_append(&s->problems, text); // without memory it is one less
}

// ---- Listing ----

static bool is_spec_name(const char *name)
{
    return name[0] != '.' && (str_has_suffix(name, ".json") || str_has_suffix(name, ".yaml"));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The names of one directory's spec files, sorted. An absent directory has none.
static int list_dir(const char *path, char ***out, struct error *err)
{
    _cleanup_(dir_closep) DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT || errno == ENOTDIR ? 0 : error_errno(err, errno, "%s", path);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own stream
        if (!is_spec_name(e->d_name))
            continue;
        if (strv_len(*out) == FILES_MAX)
            return error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "%s: more than %d files", path,
                             FILES_MAX);
        if (strv_append(out, e->d_name) < 0)
            return error_errno(err, ENOMEM, "%s", path);
    }
    if (*out)
        qsort(*out, strv_len(*out), sizeof(**out), by_name);
    return 0;
}

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

// One file's line of the signature: who it is and when it was last changed. *newest: of all files.
static int sign_file(const char *path, struct buf *signature, int64_t *newest)
{
    struct stat st = {0};
    int errnum = stat(path, &st) < 0 ? errno : 0;
    if (ns_of(st.st_ctim) > *newest)
        *newest = ns_of(st.st_ctim);
    return buf_printf(signature, "%s %d %llu:%llu %lld %lld %lld\n", path, errnum,
                      (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, (long long)st.st_size,
                      (long long)ns_of(st.st_mtim), (long long)ns_of(st.st_ctim));
}

typedef int (*file_fn)(void *arg, size_t dir, const char *path);

// Calls fn for every spec file, directory by directory. Problems go to s.
static int each_file(const struct cdi *c, struct cdi_snapshot *s, file_fn fn, void *arg)
{
    int r = 0;
    for (size_t i = 0; r == 0 && c->dirs[i]; i++) {
        _cleanup_strv_ char **names = NULL;
        struct error err = ERROR_INIT;
        if (list_dir(c->dirs[i], &names, &err) < 0 && s)
            problem(s, err.message);
        for (size_t k = 0; r == 0 && names && names[k]; k++) {
            _cleanup_free_ char *path = str_printf("%s/%s", c->dirs[i], names[k]);
            r = path ? fn(arg, i, path) : -ENOMEM;
        }
    }
    return r;
}

struct signing {
    struct buf *out;
    int64_t newest;
};

static int sign_one(void *arg, size_t dir, const char *path)
{
    struct signing *s = arg;
    (void)dir;
    return sign_file(path, s->out, &s->newest);
}

// ---- Reading ----

// A FIFO or a device with that name must not hold us up.
static int read_file(const char *path, struct buf *text, struct error *err)
{
    struct stat st;
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: is no regular file", path);
    long n;
    while ((n = buf_read_fd(text, fd, READ_BYTES)) > 0)
        ;
    if (n == -E2BIG)
        return error_set(err, STATUS_INVALID_ARGUMENT, EFBIG, "%s: has more than %zu bytes", path, text->max);
    return n < 0 ? error_errno(err, (int)n, "%s", path) : 0;
}

// A later directory's device takes the place of an earlier one's; two of one directory are a conflict.
static int add_device(struct cdi_snapshot *s, const struct cdi_spec *spec, const struct cdi_device *device,
                      size_t dir)
{
    char name[CDI_NAME_MAX];
    int n = snprintf(name, sizeof(name), "%s=%s", spec->kind, device->name);
    if (n < 0 || (size_t)n >= sizeof(name))
        return -ENAMETOOLONG;
    struct entry *old = map_get(s->devices, name);
    if (old && old->dir == dir) {
        struct error err = ERROR_INIT;
        old->rival = old->rival ? old->rival : spec;
        (void)error_set(&err, STATUS_FAILED_PRECONDITION, EEXIST, "%s: %s has the device %s too", spec->file,
                        old->spec->file, name);
        problem(s, err.message);
        return 0;
    }
    struct entry *e = arena_alloc(s->arena, sizeof(*e));
    if (!e)
        return -ENOMEM;
    *e = (struct entry){.spec = spec, .device = device, .dir = dir};
    return map_set(s->devices, name, e);
}

static int load_file(void *arg, size_t dir, const char *path)
{
    struct cdi_snapshot *s = arg;
    struct error err = ERROR_INIT;
    struct cdi_spec *spec = NULL;
    struct buf text;
    buf_init(&text, CDI_FILE_BYTES_MAX);
    int r = read_file(path, &text, &err);
    if (r == 0)
        r = cdi_parse(path, text.data ? text.data : "", text.len, str_has_suffix(path, ".yaml"), s->arena,
                      &spec, &err);
    buf_done(&text);
    if (r == -ENOENT) // gone since the directory was read
        return 0;
    for (size_t i = 0; r == 0 && i < spec->devices.n; i++) {
        r = add_device(s, spec, &spec->devices.v[i], dir);
        if (r < 0)
            (void)error_errno(&err, r, "%s: devices[%zu].name", path, i);
    }
    if (r < 0) {
        problem(s, err.message);
        if (s->n_broken++ == 0)
            s->broken = arena_strdup(s->arena, err.message);
    }
    return 0;
}

static struct cdi_snapshot *load(struct cdi *c)
{
    struct cdi_snapshot *s = snapshot_new();
    if (!s)
        return NULL;
    struct signing signing = {.out = &s->signature};
    int64_t now = clock_wall_ns();
    int r = each_file(c, NULL, sign_one, &signing);
    if (r == 0 || r == -E2BIG) { // too much to remember: read each time
        s->settled = r == 0 && now - signing.newest > SETTLED_AFTER_NS;
        r = each_file(c, s, load_file, s);
    }
    if (r == 0)
        return s;
    snapshot_free(s);
    return NULL;
}

static bool is_current(struct cdi *c, const struct cdi_snapshot *s)
{
    struct buf signature;
    struct signing signing = {.out = &signature};
    if (!s->settled)
        return false;
    buf_init(&signature, SIGNATURE_MAX);
    bool same = each_file(c, NULL, sign_one, &signing) == 0 && signature.len == s->signature.len &&
                (signature.len == 0 || memcmp(signature.data, s->signature.data, signature.len) == 0);
    buf_done(&signature);
    return same;
}

// A counted snapshot of what is there now. Two callers at once may both read: harmless.
static struct cdi_snapshot *current(struct cdi *c)
{
    pthread_mutex_lock(&c->lock);
    struct cdi_snapshot *s = c->now;
    if (s)
        s->refs++;
    pthread_mutex_unlock(&c->lock);
    if (s && is_current(c, s))
        return s;
    snapshot_unref(c, s);
    s = load(c);
    if (!s)
        return NULL;
    pthread_mutex_lock(&c->lock);
    struct cdi_snapshot *old = c->now;
    c->now = s;
    s->refs++;
    pthread_mutex_unlock(&c->lock);
    snapshot_unref(c, old);
    return s;
}

int cdi_open(char *const *dirs, struct cdi **out, struct error *err)
{
    struct cdi *c = calloc(1, sizeof(*c));
    if (!c)
        return error_errno(err, ENOMEM, "open CDI");
    pthread_mutex_init(&c->lock, NULL);
    c->dirs = calloc(strv_len(dirs) + 1, sizeof(*c->dirs));
    for (size_t i = 0; c->dirs && dirs && dirs[i]; i++) {
        c->dirs[i] = strdup(dirs[i]);
        if (!c->dirs[i]) {
            cdi_close(c);
            return error_errno(err, ENOMEM, "open CDI");
        }
    }
    if (!c->dirs) {
        cdi_close(c);
        return error_errno(err, ENOMEM, "open CDI");
    }
    *out = c;
    return 0;
}

void cdi_close(struct cdi *c)
{
    if (!c)
        return;
    snapshot_unref(c, c->now);
    strv_free(c->dirs);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

// ---- Resolving ----

static int unknown_device(const struct cdi *c, const struct cdi_snapshot *s, const char *name,
                          struct error *err)
{
    struct buf dirs;
    buf_init(&dirs, 400);
    for (size_t i = 0; c->dirs[i]; i++)
        (void)buf_printf(&dirs, "%s%s", i ? ", " : "", c->dirs[i]);
    const char *broken = s->broken ? s->broken : "";
    // What is wrong with a file is most often why a device isn't there.
    int r = error_set(err, STATUS_FAILED_PRECONDITION, ENODEV,
                      "CDI device \"%s\": no specification in %s has it%s%.500s%s", name,
                      dirs.len ? dirs.data : "(no directory is configured)",
                      broken[0] ? "; one is wrong: " : "", broken, s->n_broken > 1 ? " (and others)" : "");
    buf_done(&dirs);
    return r;
}

static int find(const struct cdi *c, const struct cdi_snapshot *s, const char *name, const struct entry **out,
                struct error *err)
{
    const struct entry *e = map_get(s->devices, name);
    if (!e)
        return unknown_device(c, s, name, err);
    if (e->rival)
        return error_set(err, STATUS_FAILED_PRECONDITION, EEXIST,
                         "CDI device \"%s\": both %s and %s have it: take it out of one of them", name,
                         e->spec->file, e->rival->file);
    *out = e;
    return 0;
}

static int add_edits(const struct entry *e, const struct cdi_edits *edits, const char *name,
                     struct cdi_edit *list, size_t *n, struct error *err)
{
    for (size_t i = 0; i < *n; i++) {
        if (list[i].edits == edits)
            return 0;
    }
    if (edits->unsupported)
        return error_set(err, STATUS_UNIMPLEMENTED, ENOTSUP, "CDI device \"%s\": %s: %s: is not supported",
                         name, e->spec->file, edits->unsupported);
    list[(*n)++] = (struct cdi_edit){.edits = edits, .device = name, .file = e->spec->file};
    return 0;
}

int cdi_resolve(struct cdi *c, char *const *names, size_t n, struct arena *arena, struct cdi_set *out,
                struct error *err)
{
    *out = (struct cdi_set){0};
    struct cdi_edit *list = arena_alloc(arena, (2 * n + 1) * sizeof(*list));
    struct cdi_snapshot *s = list ? current(c) : NULL;
    if (!s)
        return error_errno(err, ENOMEM, "look for CDI devices");
    size_t found = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct entry *e = NULL;
        r = find(c, s, names[i], &e, err);
        if (r == 0)
            r = add_edits(e, &e->spec->edits, names[i], list, &found, err);
        if (r == 0)
            r = add_edits(e, &e->device->edits, names[i], list, &found, err);
    }
    if (r < 0) {
        snapshot_unref(c, s);
        return r;
    }
    *out = (struct cdi_set){.v = list, .n = found, .registry = c, .snapshot = s};
    return 0;
}

void cdi_set_done(struct cdi_set *set)
{
    if (set->snapshot)
        snapshot_unref(set->registry, set->snapshot);
    *set = (struct cdi_set){0};
}

char *cdi_describe(struct cdi *c)
{
    struct cdi_snapshot *s = current(c);
    json_t *dirs = json_array(), *devices = json_array(), *errors = json_array();
    for (size_t i = 0; c->dirs[i]; i++)
        (void)json_array_append_new(dirs, json_string(c->dirs[i]));
    for (struct map_iter it = {0}; s && map_next(s->devices, &it);) {
        if (!((const struct entry *)it.value)->rival)
            (void)json_array_append_new(devices, json_string(it.key));
    }
    for (size_t i = 0; s && s->problems && s->problems[i]; i++)
        (void)json_array_append_new(errors, json_string(s->problems[i]));
    json_t *all = json_pack("{s:o, s:o, s:o}", "dirs", dirs, "devices", devices, "errors", errors);
    char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    snapshot_unref(c, s);
    return text;
}
