// Finding the files of the configuration, reading them in order, defaults, and checks across keys.
#include "cri/config_internal.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define CONFIG_FILE_MAX  (1u << 20)
#define CONFIG_FILES_MAX 256
#define CONFIG_ARENA_MAX (8u << 20)

void config_problems_init(struct config_problems *p)
{
    p->n = 0;
    buf_init(&p->text, 64u << 10);
}

void config_problems_done(struct config_problems *p)
{
    buf_done(&p->text);
}

void config_problem(struct config_problems *p, const char *file, size_t line, const char *key,
                    const char *format, ...)
{
    char what[1024];
    va_list args;
    if (++p->n > CONFIG_PROBLEMS_MAX)
        return;
    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (file && line)
        (void)buf_printf(&p->text, "%s:%zu: %s: %s\n", file, line, key, what);
    else
        (void)buf_printf(&p->text, "%s: %s: %s\n", file ? file : "(default)", key, what);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < config_keys_len; i++)
        config_clear(c, &config_keys[i]);
    arena_free(c->arena);
    free(c);
}

void config_freep(struct config **c)
{
    config_free(*c);
    *c = NULL;
}

// Reads one file. A missing one is a problem only where it was asked for by name.
static void load_file(struct config_loader *l, const char *path, bool must_exist)
{
    _cleanup_free_ char *text = NULL;
    size_t len;
    struct error err = ERROR_INIT;
    l->file = path;
    int rc = file_read(path, CONFIG_FILE_MAX, &text, &len, &err);
    if (rc == -ENOENT && !must_exist)
        return;
    if (rc == -EFBIG)
        config_problem(l->problems, path, 0, "(file)", "is larger than 1 MiB");
    else if (rc != 0)
        config_problem(l->problems, path, 0, "(file)", "%s", strerror(-rc));
    else
        config_read_document(l, text, len);
}

static int is_yaml(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && str_has_suffix(entry->d_name, ".yaml");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); // not alphasort: that follows the locale
}

static void load_dir(struct config_loader *l, const char *dir, bool must_exist)
{
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_yaml, by_name);
    if (n < 0) {
        if (errno != ENOENT || must_exist)
            config_problem(l->problems, dir, 0, "(directory)", "%s", strerror(errno));
        return;
    }
    if (n > CONFIG_FILES_MAX)
        config_problem(l->problems, dir, 0, "(directory)", "has more than 256 files");
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *path = str_printf("%s/%s", dir, entries[i]->d_name);
        if (path && n <= CONFIG_FILES_MAX)
            load_file(l, path, true);
        free(entries[i]);
    }
    free(entries);
}

// A helper program: beside crispd (also as the build tree has it), else where packages put it.
static char *find_helper(const char *name, const char *build_dir)
{
    char exe[4096];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    exe[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash) {
        *slash = '\0';
        const char *const places[] = {".", build_dir, "../libexec/crisp"};
        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
            _cleanup_free_ char *path = str_printf("%s/%s/%s", exe, places[i], name);
            if (path && access(path, X_OK) == 0)
                return realpath(path, NULL);
        }
    }
    return str_printf("/usr/libexec/crisp/%s", name);
}

static char *expand_default(const struct config *c, const char *text)
{
    if (str_has_prefix(text, "{root}"))
        return str_printf("%s%s", c->root, text + strlen("{root}"));
    if (str_has_prefix(text, "{run_dir}"))
        return str_printf("%s%s", c->run_dir, text + strlen("{run_dir}"));
    return strdup(text);
}

static int default_list(struct config *c, const struct config_key *key, const char *text)
{
    int rc = 0;
    while (*text && rc == 0) {
        size_t len = strcspn(text, ",");
        _cleanup_free_ char *item = strndup(text, len);
        rc = item ? config_append_text(c, key, item) : -ENOMEM;
        text += len + (text[len] == ',');
    }
    return rc;
}

static void set_default(struct config_loader *l, const struct config_key *key)
{
    struct config *c = l->config;
    if (key->type == CONFIG_STRINGS || key->type == CONFIG_PATHS) {
        config_clear(c, key);
        // An empty list rather than NULL, so that users need not tell them apart.
        char ***list = config_field(c, key);
        if (!(*list = calloc(1, sizeof(char *))) ||
            (key->default_value && default_list(c, key, key->default_value) != 0))
            config_problem(l->problems, NULL, 0, key->path, "no default could be set");
        return;
    }
    _cleanup_free_ char *text = NULL;
    if (key->offset == offsetof(struct config, crisp_pod))
        text = find_helper("crisp-pod", "../runtime/pod");
    else if (key->offset == offsetof(struct config, crisp_pull))
        text = find_helper("crisp-pull", "../image/pull");
    else if (key->offset == offsetof(struct config, cgroup_parent) &&
             c->cgroup_driver == CONFIG_CGROUP_SYSTEMD)
        text = strdup("crisp.slice");
    else if (key->default_value)
        text = expand_default(c, key->default_value);
    _cleanup_free_ char *allowed = config_allowed(key);
    if (!text || config_set_text(c, key, text) != 0)
        config_problem(l->problems, NULL, 0, key->path,
                       "the default \"%s\" is not allowed, so set this key; allowed: %s", text ? text : "",
                       allowed ? allowed : "");
}

static void set_defaults(struct config_loader *l)
{
    for (size_t i = 0; i < config_keys_len; i++) {
        if (!l->origins[i].file && !config_is_map(&config_keys[i]))
            set_default(l, &config_keys[i]);
    }
    // A list that is given as [] is empty too.
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->type != CONFIG_STRINGS && key->type != CONFIG_PATHS)
            continue;
        char ***list = config_field(l->config, key);
        if (!*list)
            *list = calloc(1, sizeof(char *));
    }
}

static void problem_of(struct config_loader *l, const char *path, const char *what)
{
    const struct config_key *key = config_key_find(path);
    const struct config_origin *origin = &l->origins[key - config_keys];
    config_problem(l->problems, origin->file, origin->line, path, "%s", what);
}

static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return str_has_prefix(path, dir) && (path[len] == '/' || path[len] == '\0');
}

// What each value allows but all together don't.
static void check_across(struct config_loader *l)
{
    const struct config *c = l->config;
    bool systemd = c->cgroup_driver == CONFIG_CGROUP_SYSTEMD;
    if (systemd != config_is_slice(c->cgroup_parent))
        problem_of(
            l, "cgroup.parent",
            systemd ? "is a path, but cgroup.driver is systemd; allowed: the name of a slice, as in a-b.slice"
                    : "is a systemd slice, but cgroup.driver is cgroupfs; allowed: a path such as /crisp");
    if (strcmp(c->root, "/") == 0)
        problem_of(l, "root", "\"/\" is impossible; allowed: a directory of crisp's own");
    if (strcmp(c->run_dir, "/") == 0)
        problem_of(l, "run_dir", "\"/\" is impossible; allowed: a directory of crisp's own");
    if (is_below(c->root, c->run_dir))
        problem_of(l, "root", "lies in run_dir, which is emptied by a reboot; choose another directory");
    else if (is_below(c->run_dir, c->root))
        problem_of(l, "run_dir", "lies in root, which is kept over reboots; choose another directory");
    if (strcmp(c->socket, c->root) == 0 || strcmp(c->socket, c->run_dir) == 0)
        problem_of(l, "socket", "is a directory that is configured as well; choose a file name");
    if (!c->cni_bin_dirs || !c->cni_bin_dirs[0])
        problem_of(l, "cni.bin_dirs", "is empty; allowed: a list of at least one directory");
}

static void load_all(struct config_loader *l, const struct config_source *source)
{
    load_file(l, source->file ? source->file : CONFIG_FILE_DEFAULT, source->file != NULL);
    if (source->dir)
        load_dir(l, source->dir, source->dir_must_exist);
    // Problems of one file would only breed more in what follows from it.
    if (l->problems->n == 0)
        set_defaults(l);
    if (l->problems->n == 0)
        check_across(l);
}

int config_load(const struct config_source *source, struct config **out, struct config_problems *problems)
{
    _cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
    struct config_loader l = {.config = c, .problems = problems};
    if (!c || !(c->arena = arena_new(CONFIG_ARENA_MAX))) {
        config_problem(problems, NULL, 0, "(memory)", "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    load_all(&l, source);
    for (size_t i = 0; i < config_keys_len; i++)
        free(l.origins[i].file);
    if (problems->n > CONFIG_PROBLEMS_MAX)
        (void)buf_printf(&problems->text, "… and %zu more\n", problems->n - CONFIG_PROBLEMS_MAX);
    if (problems->n > 0)
        return -EINVAL;
    *out = steal_ptr(&c);
    return 0;
}
