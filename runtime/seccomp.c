// Profiles to filters, remembered: many containers share few filters.
#include "runtime/seccomp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/seccomp_internal.h"

#define CACHED_MAX       64
#define CACHED_BYTES_MAX (4u << 20)   // keys and filters together
#define PROFILE_FILE_MAX (256u << 10) // bytes of a Localhost profile
#define FILTER_MAX       (BPF_MAXINSNS * sizeof(struct sock_filter))
#define LOCALHOST_FIELD  "linux.security_context.seccomp.localhost_ref"

// What a filter is made of. The native architecture and the kernel are the same for all of one daemon.
struct key {
    uint64_t hash;
    uint64_t caps;
    const char *text; // a Localhost profile's content; NULL: the default profile
    size_t len;
};

struct cached {
    struct key key; // its text is owned
    uint64_t used;  // the least recently used one goes first
    uint32_t flags;
    size_t len;
    uint8_t *bpf;
};

struct seccomp_cache {
    struct seccomp_target host; // without capabilities
    uint64_t default_caps;
    pthread_mutex_t lock; // of what follows
    struct cached entries[CACHED_MAX];
    size_t n, bytes;
    uint64_t uses;
};

void seccomp_profile_done(struct seccomp_profile *p)
{
    free(p->rules);
    p->rules = NULL;
    p->n_rules = p->room = 0;
}

int seccomp_profile_add(struct seccomp_profile *p, const struct seccomp_rule *rule)
{
    if (p->n_rules == SECCOMP_RULES_MAX)
        return -E2BIG;
    if (p->n_rules == p->room) {
        size_t room = p->room ? 2 * p->room : 512;
        struct seccomp_rule *rules = reallocarray(p->rules, room, sizeof(*rules));
        if (!rules)
            return -ENOMEM;
        p->rules = rules;
        p->room = room;
    }
    p->rules[p->n_rules++] = *rule;
    return 0;
}

// The running kernel, or the oldest one that crisp runs on.
static unsigned running_kernel(void)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) < 2)
        return SECCOMP_KERNEL(5, 15);
    return SECCOMP_KERNEL(major, minor);
}

struct seccomp_cache *seccomp_cache_new(void)
{
    struct seccomp_cache *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->host = (struct seccomp_target){.native = SECCOMP_NATIVE, .kernel = running_kernel()};
    c->default_caps = seccomp_default_caps();
    (void)pthread_mutex_init(&c->lock, NULL);
    return c;
}

static size_t cost(const struct cached *e)
{
    return sizeof(*e) + e->key.len + e->len;
}

static void forget(struct seccomp_cache *c, size_t i)
{
    struct cached *e = &c->entries[i];
    c->bytes -= cost(e);
    free((char *)e->key.text);
    free(e->bpf);
    *e = c->entries[--c->n];
}

void seccomp_cache_free(struct seccomp_cache *c)
{
    if (!c)
        return;
    while (c->n > 0)
        forget(c, c->n - 1);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

// FNV-1a: for finding only, what was found is compared.
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static struct key key_make(uint64_t caps, const char *text, size_t len)
{
    struct key key = {.caps = caps, .text = text, .len = len};
    key.hash = hash_bytes(UINT64_C(0xcbf29ce484222325), &caps, sizeof(caps));
    key.hash = hash_bytes(key.hash, text ? text : "", len);
    return key;
}

static bool key_eq(const struct key *a, const struct key *b)
{
    return a->hash == b->hash && a->caps == b->caps && a->len == b->len && !a->text == !b->text &&
           (!a->text || memcmp(a->text, b->text, a->len) == 0);
}

static struct cached *find(struct seccomp_cache *c, const struct key *key)
{
    for (size_t i = 0; i < c->n; i++) {
        if (key_eq(&c->entries[i].key, key))
            return &c->entries[i];
    }
    return NULL;
}

static int give_out(const void *bpf, size_t len, uint32_t flags, struct arena *arena,
                    struct seccomp_filter *out, struct error *err)
{
    out->bpf = arena_memdup(arena, bpf, len);
    out->len = len;
    out->flags = flags;
    return out->bpf ? 0 : error_errno(err, ENOMEM, "hand on the seccomp filter");
}

static bool look_up(struct seccomp_cache *c, const struct key *key, struct arena *arena,
                    struct seccomp_filter *out, struct error *err, int *result)
{
    (void)pthread_mutex_lock(&c->lock);
    struct cached *found = find(c, key);
    if (found) {
        found->used = ++c->uses;
        *result = give_out(found->bpf, found->len, found->flags, arena, out, err);
    }
    (void)pthread_mutex_unlock(&c->lock);
    return found != NULL;
}

static size_t least_recently_used(const struct seccomp_cache *c)
{
    size_t oldest = 0;
    for (size_t i = 1; i < c->n; i++) {
        if (c->entries[i].used < c->entries[oldest].used)
            oldest = i;
    }
    return oldest;
}

// Remembering is a convenience: when memory is short, nothing is.
static void remember(struct seccomp_cache *c, const struct key *key, const struct buf *program,
                     uint32_t flags)
{
    struct cached new = {.key = *key, .flags = flags, .len = program->len, .bpf = malloc(program->len)};
    char *text = key->text ? malloc(key->len + 1) : NULL;
    if (text)
        memcpy(text, key->text, key->len);
    new.key.text = text;
    if (new.bpf)
        memcpy(new.bpf, program->data, program->len);
    (void)pthread_mutex_lock(&c->lock);
    bool keep = new.bpf && (text || !key->text) && !find(c, key); // another thread may have been faster
    if (keep) {
        while (c->n > 0 && (c->n == CACHED_MAX || c->bytes + cost(&new) > CACHED_BYTES_MAX))
            forget(c, least_recently_used(c));
        new.used = ++c->uses;
        c->bytes += cost(&new);
        c->entries[c->n++] = new;
    }
    (void)pthread_mutex_unlock(&c->lock);
    if (!keep) {
        free(text);
        free(new.bpf);
    }
}

static int make(struct seccomp_cache *c, const struct key *key, const struct seccomp_profile *p,
                struct arena *arena, struct seccomp_filter *out, struct error *err)
{
    struct buf program;
    buf_init(&program, FILTER_MAX);
    int r = seccomp_compile(p, &program, err);
    if (r == 0) {
        remember(c, key, &program, p->flags);
        r = give_out(program.data, program.len, p->flags, arena, out, err);
    }
    buf_done(&program);
    return r;
}

static int get_default(struct seccomp_cache *c, uint64_t caps, struct arena *arena,
                       struct seccomp_filter *out, struct error *err)
{
    struct seccomp_target target = c->host;
    target.caps = caps & c->default_caps;
    struct key key = key_make(target.caps, NULL, 0);
    struct seccomp_profile p;
    int r = 0;
    if (look_up(c, &key, arena, out, err, &r))
        return r;
    r = seccomp_default_profile(&target, &p);
    if (r < 0)
        return error_errno(err, -r, "make the default seccomp profile");
    r = make(c, &key, &p, arena, out, err);
    seccomp_profile_done(&p);
    return r;
}

static int get_localhost(struct seccomp_cache *c, const char *path, uint64_t caps, struct arena *arena,
                         struct seccomp_filter *out, struct error *err)
{
    struct seccomp_target target = c->host;
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int r = file_read_regular(path, PROFILE_FILE_MAX, &text, &len, err);
    if (r < 0) {
        if (err)
            error_restatus(err, STATUS_INVALID_ARGUMENT);
        return error_wrap(err, LOCALHOST_FIELD " \"%.200s\"", path);
    }
    struct key key = key_make(caps, text, len);
    if (look_up(c, &key, arena, out, err, &r))
        return r;
    struct seccomp_profile p = {0};
    void *keep = NULL;
    target.caps = caps;
    r = seccomp_parse_json(path, text, len, &target, &p, &keep, err);
    if (r == 0) {
        r = make(c, &key, &p, arena, out, err);
        if (r < 0)
            (void)error_wrap(err, "%.200s", path);
    }
    seccomp_profile_done(&p);
    seccomp_json_keep_free(keep);
    return r < 0 ? error_wrap(err, LOCALHOST_FIELD) : 0;
}

int seccomp_cache_get(struct seccomp_cache *c, const Cri__SecurityProfile *profile, uint64_t caps,
                      struct arena *arena, struct seccomp_filter *out, struct error *err)
{
    *out = (struct seccomp_filter){0};
    if (!profile || profile->profile_type == CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined)
        return 0;
    if (profile->profile_type == CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost)
        return get_localhost(c, profile->localhost_ref, caps, arena, out, err);
    return get_default(c, caps, arena, out, err);
}
