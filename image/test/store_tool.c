// Drives an image store from a script: one command a line on standard input, one answer a line on standard
// output ("ok …" or "error STATUS message"). For tests only.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "image/image.h"

#define WORDS_MAX 8

struct puller {
    struct tool *tool;
    char *ref;
    uint64_t timeout_ms; // 0: none
    pthread_t thread;
    int result;
    char *id;
    struct error err;
};

struct tool {
    struct image_store *store;
    struct puller background;
    struct registry_mirror mirrors[4];
    struct registry_host host;
    struct registry_config registries;
};

// The settler's sync has faults by the file that TOOL_SYNC_FAULT names: "fail", once; "wait" while it is
// there.
int syncfs(int fd)
{
    const char *path = getenv("TOOL_SYNC_FAULT");
    char what[16] = "wait";

    while (path && str_eq(what, "wait")) {
        FILE *f = fopen(path, "re");
        what[0] = '\0';
        if (f && !fgets(what, sizeof(what), f))
            what[0] = '\0';
        if (f)
            (void)fclose(f);
        (void)usleep(str_eq(what, "wait") ? 10000 : 0);
    }
    if (path && str_eq(what, "fail")) {
        (void)unlink(path);
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_syncfs, fd);
}

static int print_error(const struct error *err)
{
    printf("error %s %s\n", error_status_name(err->status), err->message);
    return 0;
}

static void print_list(const char *name, char *const *v)
{
    printf(" %s=", name);
    for (size_t i = 0; v[i]; i++)
        printf("%s%s", i ? "," : "", v[i]);
}

static int do_pull(struct tool *t, char **w, struct error *err)
{
    Cri__AuthConfig auth = CRI__AUTH_CONFIG__INIT;
    struct ctx none = CTX_NONE, ctx = none;
    _cleanup_free_ char *id = NULL;
    uint64_t ms;
    int r;

    // pull REF [USER PASSWORD | - MILLISECONDS | = IDENTITY_TOKEN]
    if (w[2] && str_eq(w[2], "=")) {
        auth.identity_token = w[3];
    } else if (w[2] && !str_eq(w[2], "-")) {
        auth.username = w[2];
        auth.password = w[3];
    } else if (w[2] && str_parse_u64(w[3], 0, 1000000, &ms) == 0) {
        ctx = ctx_with_timeout(&none, (int64_t)ms * NS_PER_MS);
    }
    r = image_store_pull(t->store, w[1], &auth, &ctx, &id, err);
    if (r == 0)
        printf("ok %s\n", id);
    return r;
}

static int do_status(struct tool *t, char **w, struct error *err)
{
    _cleanup_(image_unrefp) struct image *image = NULL;
    int r = image_store_resolve(t->store, w[1], &image, err);

    if (r < 0)
        return r;
    printf("ok id=%s size=%llu", image->id, (unsigned long long)image->size_bytes);
    print_list("tags", image->repo_tags);
    print_list("digests", image->repo_digests);
    print_list("layers", image->layers);
    printf(" user=%s pinned=%d\n", image->config->user, image->pinned);
    return 0;
}

// source REF: "ok DIGEST TYPE CHAIN" and the two texts, each in a line of its own.
static int do_source(struct tool *t, char **w, struct error *err)
{
    _cleanup_(image_unrefp) struct image *image = NULL;
    _cleanup_(image_source_done) struct image_source source = {0};
    int r = image_store_resolve(t->store, w[1], &image, err);

    if (r == 0)
        r = image_store_source(t->store, image->id, &source, err);
    if (r == 0)
        printf("ok %s|%s|%s|%s|%s\n", source.manifest_digest, source.manifest_type, source.chain_id,
               source.manifest, source.config);
    return r;
}

static int do_list(struct tool *t, char **w, struct error *err)
{
    struct image **images;
    size_t n;
    int r = image_store_list(t->store, &images, &n, err);

    (void)w;
    if (r < 0)
        return r;
    printf("ok");
    for (size_t i = 0; i < n; i++)
        printf(" %s", images[i]->id);
    printf("\n");
    image_list_free(images, n);
    return 0;
}

static int done(int r)
{
    if (r == 0)
        printf("ok\n");
    return r;
}

static int do_remove(struct tool *t, char **w, struct error *err)
{
    return done(image_store_remove(t->store, w[1], err));
}

static int do_hold(struct tool *t, char **w, struct error *err)
{
    return done(image_store_hold(t->store, w[1], w[2], err));
}

static int do_release(struct tool *t, char **w, struct error *err)
{
    (void)err;
    image_store_release(t->store, w[1], w[2]);
    return done(0);
}

static int do_rootfs(struct tool *t, char **w, struct error *err)
{
    _cleanup_(image_unrefp) struct image *image = NULL;
    struct image_rootfs rootfs;
    int r = image_store_resolve(t->store, w[1], &image, err);

    if (r == 0)
        r = image_rootfs_create(t->store, image, w[2], &rootfs, err);
    if (r < 0)
        return r;
    printf("ok layers_dir=%s upper=%s work=%s", rootfs.layers_dir, rootfs.upper, rootfs.work);
    print_list("lowers", rootfs.lowers);
    printf("\n");
    image_rootfs_done(&rootfs);
    return 0;
}

static int do_rootfs_remove(struct tool *t, char **w, struct error *err)
{
    return done(image_rootfs_remove(t->store, w[1], err));
}

static int do_sweep(struct tool *t, char **w, struct error *err)
{
    size_t n = 0;

    while (w[1 + n])
        n++;
    return done(image_rootfs_sweep(t->store, (const char *const *)(w + 1), n, err));
}

static int do_usage(struct tool *t, char **w, struct error *err)
{
    struct image_fs_usage usage;

    (void)w, (void)err;
    image_fs_usage(t->store, &usage);
    printf("ok image=%llu/%llu containers=%llu/%llu\n", (unsigned long long)usage.image_bytes,
           (unsigned long long)usage.image_inodes, (unsigned long long)usage.container_bytes,
           (unsigned long long)usage.container_inodes);
    return 0;
}

static int do_verify(struct tool *t, char **w, struct error *err)
{
    struct image_verified v;
    int r = image_store_verify(t->store, &v, err);

    (void)w;
    if (r == 0)
        printf("ok layers=%zu damaged=%zu unknown=%zu condemned=%zu images=%zu damaged_images=%zu\n",
               v.layers, v.damaged, v.unknown, v.condemned, v.images, v.damaged_images);
    return r;
}

// prune [all]
static int do_prune(struct tool *t, char **w, struct error *err)
{
    struct image_prune_options o = {.all = w[1] != NULL};
    struct image **images;
    uint64_t freed;
    size_t n;
    int r = image_store_prune(t->store, &o, &images, &n, &freed, err);

    if (r < 0)
        return r;
    image_list_free(images, n);
    printf("ok %zu %llu\n", n, (unsigned long long)freed);
    return 0;
}

static void *puller_main(void *data)
{
    struct puller *p = data;
    struct ctx none = CTX_NONE, ctx = none;

    if (p->timeout_ms)
        ctx = ctx_with_timeout(&none, (int64_t)p->timeout_ms * NS_PER_MS);
    p->result = image_store_pull(p->tool->store, p->ref, NULL, &ctx, &p->id, &p->err);
    return NULL;
}

// together N REF...: N pulls of each at once.
static int do_together(struct tool *t, char **w, struct error *err)
{
    struct puller pullers[64] = {0};
    size_t n = 0;
    uint64_t each;
    int r = str_parse_u64(w[1], 1, 8, &each);

    for (char **ref = w + 2; r == 0 && *ref; ref++)
        for (uint64_t i = 0; i < each; i++)
            pullers[n++] = (struct puller){.tool = t, .ref = *ref};
    for (size_t i = 0; i < n; i++)
        pthread_create(&pullers[i].thread, NULL, puller_main, &pullers[i]);
    for (size_t i = 0; i < n; i++) {
        pthread_join(pullers[i].thread, NULL);
        if (pullers[i].result < 0) {
            *err = pullers[i].err;
            r = pullers[i].result;
        }
    }
    if (r == 0)
        printf("ok %s\n", pullers[0].id);
    for (size_t i = 0; i < n; i++)
        free(pullers[i].id);
    return r;
}

// race REF1 MILLISECONDS REF2: the first begins, the second follows, the first gives up.
static int do_race(struct tool *t, char **w, struct error *err)
{
    struct puller first = {.tool = t, .ref = w[1]}, second = {.tool = t, .ref = w[3]};
    int r = str_parse_u64(w[2], 1, 100000, &first.timeout_ms);
    struct timespec half = {.tv_nsec = (long)(first.timeout_ms / 2) * 1000000};

    if (r < 0)
        return r;
    pthread_create(&first.thread, NULL, puller_main, &first);
    nanosleep(&half, NULL);
    puller_main(&second);
    pthread_join(first.thread, NULL);
    *err = second.err;
    if (second.result == 0)
        printf("ok %s %s\n", error_status_name(first.err.status), second.id);
    free(first.id);
    free(second.id);
    return second.result;
}

// begin REF, and end: a pull in the background, and what became of it.
static int do_begin(struct tool *t, char **w, struct error *err)
{
    (void)err;
    t->background = (struct puller){.tool = t, .ref = strdup(w[1])};
    pthread_create(&t->background.thread, NULL, puller_main, &t->background);
    return done(0);
}

static int do_end(struct tool *t, char **w, struct error *err)
{
    struct puller *p = &t->background;
    int r;

    (void)w;
    if (!p->ref)
        return error_set(err, STATUS_FAILED_PRECONDITION, EINVAL, "nothing has begun");
    pthread_join(p->thread, NULL);
    *err = p->err;
    r = p->result;
    if (r == 0)
        printf("ok %s\n", p->id);
    free(p->id);
    free(p->ref);
    *p = (struct puller){0};
    return r;
}

static const struct {
    const char *name;
    size_t words; // at least
    int (*fn)(struct tool *, char **, struct error *);
} commands[] = {
    {"pull", 2, do_pull},     {"status", 2, do_status},
    {"list", 1, do_list},     {"remove", 2, do_remove},
    {"hold", 3, do_hold},     {"release", 3, do_release},
    {"rootfs", 3, do_rootfs}, {"unroot", 2, do_rootfs_remove},
    {"sweep", 1, do_sweep},   {"usage", 1, do_usage},
    {"source", 2, do_source}, {"together", 3, do_together},
    {"race", 4, do_race},     {"verify", 1, do_verify},
    {"prune", 1, do_prune},   {"begin", 2, do_begin},
    {"end", 1, do_end},
};

static void run_line(struct tool *t, char *line)
{
    struct error err = ERROR_INIT;
    char *words[WORDS_MAX + 1] = {NULL}, *save;
    size_t n = 0;

    for (char *w = strtok_r(line, " \n", &save); w && n < WORDS_MAX; w = strtok_r(NULL, " \n", &save))
        words[n++] = w;
    for (size_t i = 0; n > 0 && i < ARRAY_SIZE(commands); i++) {
        if (!str_eq(commands[i].name, words[0]) || n < commands[i].words)
            continue;
        if (commands[i].fn(t, words, &err) < 0)
            print_error(&err);
        return;
    }
    printf("error INVALID_ARGUMENT no such command\n");
}

// "URL,URL!pull,URL!resolve": mirrors with all capabilities or with one.
static void set_mirrors(struct tool *t, char *list)
{
    char *save;

    for (char *url = strtok_r(list, ",", &save); url && t->host.n_mirrors < ARRAY_SIZE(t->mirrors);
         url = strtok_r(NULL, ",", &save)) {
        struct registry_mirror *m = &t->mirrors[t->host.n_mirrors++];
        char *mark = strchr(url, '!');

        m->no_resolve = mark && str_eq(mark, "!pull");
        m->no_pull = mark && str_eq(mark, "!resolve");
        if (mark)
            *mark = '\0';
        m->url = url;
        m->path_prefix = "{host}";
    }
}

static uint64_t number_from_environment(const char *name)
{
    const char *text = getenv(name);
    uint64_t value = 0;

    if (text && str_parse_u64(text, 0, UINT32_MAX, &value) < 0)
        exit(2);
    return value;
}

// store_tool ROOT CRISP_PULL [MIRRORS [strict]]: the mirrors are asked for every registry, under its name.
int main(int argc, char **argv)
{
    struct tool t = {.host = {.host = "*"}};
    struct error err = ERROR_INIT;
    struct db *db = NULL;
    char *line = NULL;
    size_t size = 0;

    if (argc < 3)
        return 2;
    _cleanup_free_ char *db_path = str_printf("%s.db", argv[1]);
    const char *pinned[] = {"pinned.example/a:b", NULL};
    struct image_store_options o = {
        .root_dir = argv[1],
        .crisp_pull_path = argv[2],
        .pinned = pinned,
        .parallel_layers = (unsigned)number_from_environment("TOOL_PULL_LAYERS"),
        .node_layers = (unsigned)number_from_environment("TOOL_NODE_LAYERS"),
        .spare_ns = (int64_t)number_from_environment("TOOL_SPARE_MS") * NS_PER_MS,
        .stall_ns = (int64_t)number_from_environment("TOOL_STALL_MS") * NS_PER_MS,
        .min_rate = number_from_environment("TOOL_MIN_RATE"),
        .sync_before_answer = number_from_environment("TOOL_SYNC") != 0,
    };
    if (argc > 3) {
        set_mirrors(&t, argv[3]);
        t.host.mirrors = t.mirrors;
        t.host.strict = argc > 4;
    }
    t.host.tls.ca_file = getenv("TOOL_CA"); // of the registries themselves
    if (argc > 3 || t.host.tls.ca_file) {
        t.registries = (struct registry_config){&t.host, 1};
        o.registries = &t.registries;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (db_open(db_path, &image_db_module, 1, &db, &err) < 0 ||
        (o.db = db, image_store_open(&o, &t.store, &err)) < 0) {
        print_error(&err);
        db_close(db);
        return 1;
    }
    while (getline(&line, &size, stdin) > 0)
        run_line(&t, line);
    free(line);
    image_store_close(t.store);
    db_close(db);
    return 0;
}
