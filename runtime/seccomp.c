// Profiles to filters, remembered: many containers share few filters.
#include "runtime/seccomp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/map.h"
#include "base/str.h"
#include "runtime/seccomp_internal.h"

#define CACHED_MAX       64
#define PROFILE_FILE_MAX (256u << 10) // bytes of a Localhost profile
#define FILTER_MAX       (BPF_MAXINSNS * sizeof(struct sock_filter))
#define LOCALHOST_FIELD  "linux.security_context.seccomp.localhost_ref"

struct cached {
    uint32_t flags;
    size_t len;
    uint8_t bpf[];
};

struct seccomp_cache {
    pthread_mutex_t lock;
    struct map *filters; // "default CAPS" or "CAPS" and a profile's text -> struct cached
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

struct seccomp_cache *seccomp_cache_new(void)
{
    struct seccomp_cache *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->filters = map_new();
    if (!c->filters) {
        free(c);
        return NULL;
    }
    (void)pthread_mutex_init(&c->lock, NULL);
    return c;
}

static void forget_all(struct seccomp_cache *c)
{
    for (struct map_iter it = {0}; map_next(c->filters, &it);)
        free(it.value);
    map_free(c->filters);
    c->filters = NULL;
}

void seccomp_cache_free(struct seccomp_cache *c)
{
    if (!c)
        return;
    forget_all(c);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

static int give_out(const void *bpf, size_t len, uint32_t flags, struct arena *arena,
                    struct seccomp_filter *out, struct error *err)
{
    out->bpf = arena_memdup(arena, bpf, len);
    out->len = len;
    out->flags = flags;
    return out->bpf ? 0 : error_errno(err, ENOMEM, "hand on the seccomp filter");
}

static bool look_up(struct seccomp_cache *c, const char *key, struct arena *arena, struct seccomp_filter *out,
                    struct error *err, int *result)
{
    (void)pthread_mutex_lock(&c->lock);
    const struct cached *found = c->filters ? map_get(c->filters, key) : NULL;
    if (found)
        *result = give_out(found->bpf, found->len, found->flags, arena, out, err);
    (void)pthread_mutex_unlock(&c->lock);
    return found != NULL;
}

// Remembering is a convenience: when memory is short, nothing is.
static void remember(struct seccomp_cache *c, const char *key, const struct buf *program, uint32_t flags)
{
    struct cached *new = malloc(sizeof(*new) + program->len);
    if (!new)
        return;
    new->flags = flags;
    new->len = program->len;
    memcpy(new->bpf, program->data, program->len);
    (void)pthread_mutex_lock(&c->lock);
    if (c->filters && map_len(c->filters) >= CACHED_MAX)
        forget_all(c);
    if (!c->filters)
        c->filters = map_new();
    if (!c->filters || map_get(c->filters, key) || map_set(c->filters, key, new) < 0)
        free(new);
    (void)pthread_mutex_unlock(&c->lock);
}

static int make(struct seccomp_cache *c, const char *key, const struct seccomp_profile *p,
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
    char key[64];
    struct seccomp_profile p;
    int r = 0;
    (void)snprintf(key, sizeof(key), "default %llx", (unsigned long long)caps);
    if (look_up(c, key, arena, out, err, &r))
        return r;
    r = seccomp_default_profile(caps, &p);
    if (r < 0)
        return error_errno(err, -r, "make the default seccomp profile");
    r = make(c, key, &p, arena, out, err);
    seccomp_profile_done(&p);
    return r;
}

static int get_localhost(struct seccomp_cache *c, const char *path, uint64_t caps, struct arena *arena,
                         struct seccomp_filter *out, struct error *err)
{
    _cleanup_free_ char *text = NULL, *key = NULL;
    size_t len = 0;
    int r = file_read(path, PROFILE_FILE_MAX, &text, &len, err);
    if (r < 0) {
        if (err)
            error_restatus(err, STATUS_INVALID_ARGUMENT);
        return error_wrap(err, LOCALHOST_FIELD " \"%.200s\"", path);
    }
    key = str_printf("%llx %s", (unsigned long long)caps, text);
    if (!key)
        return error_errno(err, ENOMEM, "read the seccomp profile %s", path);
    if (look_up(c, key, arena, out, err, &r))
        return r;
    struct seccomp_profile p = {0};
    void *keep = NULL;
    r = seccomp_parse_json(path, text, len, caps, &p, &keep, err);
    if (r == 0)
        r = make(c, key, &p, arena, out, err);
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
