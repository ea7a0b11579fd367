#include "runtime/apparmor.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/spawn.h"
#include "base/str.h"

#define PROFILES_MAX    ((size_t)4 << 20) // of the list of loaded profiles
#define PARSER_OUT_MAX  4096
#define PARSER_TIMEOUT  (30 * NS_PER_SEC)
#define DEPRECATED_NAME "localhost/"

static const char *const usual_parsers[] = {"/sbin/apparmor_parser", "/usr/sbin/apparmor_parser", NULL};

struct apparmor {
    const char *profiles;
    const char *const *parsers;
    pthread_mutex_t lock; // of the rest; never held while the parser runs
    pthread_cond_t loaded_or_not;
    bool loading;
    bool loaded; // by this daemon: an older one's text may have been another
};

static bool is_enabled(const char *path)
{
    _cleanup_free_ char *text = NULL;
    return file_read(path, 16, &text, NULL, NULL) == 0 && text[0] == 'Y';
}

int apparmor_open(const struct apparmor_paths *paths, struct apparmor **out, struct error *err)
{
    static const struct apparmor_paths usual = {0};
    const struct apparmor_paths *p = paths ? paths : &usual;
    *out = NULL;
    if (!is_enabled(p->enabled ? p->enabled : "/sys/module/apparmor/parameters/enabled"))
        return 0;
    struct apparmor *a = calloc(1, sizeof(*a));
    if (!a)
        return error_errno(err, ENOMEM, "look for AppArmor");
    a->profiles = p->profiles ? p->profiles : "/sys/kernel/security/apparmor/profiles";
    a->parsers = p->parsers ? p->parsers : usual_parsers;
    (void)pthread_mutex_init(&a->lock, NULL);
    (void)pthread_cond_init(&a->loaded_or_not, NULL);
    *out = a;
    return 0;
}

void apparmor_close(struct apparmor *a)
{
    if (!a)
        return;
    (void)pthread_cond_destroy(&a->loaded_or_not);
    (void)pthread_mutex_destroy(&a->lock);
    free(a);
}

const char *apparmor_parser(const struct apparmor *a)
{
    for (const char *const *path = a->parsers; *path; path++) {
        if (access(*path, X_OK) == 0)
            return *path;
    }
    return NULL;
}

// ---- What is asked for ----

static int bad_name(const char *field, const char *name, const char *why, struct error *err)
{
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: \"%.100s\" %s", field, name, why);
}

static int check_name(const char *field, const char *name, struct error *err)
{
    if (*name == '\0')
        return bad_name(field, name, "is no profile's name: it is empty", err);
    if (strlen(name) > APPARMOR_NAME_MAX)
        return bad_name(field, name, "is longer than a profile's name can be", err);
    for (const char *p = name; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return bad_name(field, name, "has a character that no profile's name has", err);
    }
    return 0;
}

static int choose_deprecated(const char *field, const char *text, struct apparmor_choice *choice,
                             struct error *err)
{
    if (str_empty(text) || str_eq(text, "runtime/default")) {
        // The API calls the two equivalent, and kubelet sends the second only where somebody wrote it.
        choice->kind = str_empty(text) ? APPARMOR_UNSET : APPARMOR_DEFAULT;
        return 0;
    }
    if (str_eq(text, "unconfined")) {
        choice->kind = APPARMOR_UNCONFINED;
        return 0;
    }
    if (!str_has_prefix(text, DEPRECATED_NAME))
        return bad_name(field, text,
                        "(apparmor_profile) is not runtime/default, unconfined or localhost/NAME", err);
    choice->kind = APPARMOR_LOCALHOST;
    choice->name = text + strlen(DEPRECATED_NAME);
    return check_name(field, choice->name, err);
}

int apparmor_choose(const char *field, const Cri__SecurityProfile *profile, const char *deprecated,
                    struct apparmor_choice *choice, struct error *err)
{
    *choice = (struct apparmor_choice){.name = ""};
    if (!profile)
        return choose_deprecated(field, deprecated, choice, err);
    if (profile->profile_type != CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost &&
        !str_empty(profile->localhost_ref))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "%s.localhost_ref: is set, but profile_type isn't Localhost", field);
    switch (profile->profile_type) {
    case CRI__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault:
        choice->kind = APPARMOR_DEFAULT;
        return 0;
    case CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined:
        choice->kind = APPARMOR_UNCONFINED;
        return 0;
    case CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost:
        choice->kind = APPARMOR_LOCALHOST;
        choice->name = profile->localhost_ref;
        // Clients have been seen to send the deprecated form's prefix here too, and peers take it.
        if (str_has_prefix(choice->name, DEPRECATED_NAME))
            choice->name += strlen(DEPRECATED_NAME);
        return check_name(field, choice->name, err);
    default:
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s.profile_type: unknown type %d", field,
                         (int)profile->profile_type);
    }
}

// ---- What is loaded ----

// A line of the kernel's list is "NAME (MODE)"; a name may hold spaces.
static bool list_has(const char *list, const char *name, size_t len)
{
    for (const char *line = list; *line;) {
        const char *end = strchrnul(line, '\n'), *mode = NULL;
        for (const char *p = line; p + 1 < end; p++) {
            if (p[0] == ' ' && p[1] == '(')
                mode = p;
        }
        if (mode && (size_t)(mode - line) == len && memcmp(line, name, len) == 0)
            return true;
        line = *end ? end + 1 : end;
    }
    return false;
}

// A stack ("a//&b") is there when all of it is. Where the list can't be read (securityfs isn't mounted)
// everything counts as loaded: the kernel knows better, at the start.
static bool is_loaded(const struct apparmor *a, const char *name)
{
    _cleanup_free_ char *list = NULL;
    if (file_read(a->profiles, PROFILES_MAX, &list, NULL, NULL) < 0)
        return true;
    for (const char *part = name;;) {
        const char *stacked = strstr(part, "//&");
        if (!list_has(list, part, stacked ? (size_t)(stacked - part) : strlen(part)))
            return false;
        if (!stacked)
            return true;
        part = stacked + strlen("//&");
    }
}

static int no_parser(const char *field, struct error *err)
{
    return error_set(err, STATUS_FAILED_PRECONDITION, ENOENT,
                     "%s: the default profile can't be loaded, as this host has no apparmor_parser: install"
                     " it (Debian: apparmor), or ask for Unconfined",
                     field);
}

int apparmor_check(const struct apparmor *a, const char *field, const struct apparmor_choice *choice,
                   struct error *err)
{
    if (choice->kind == APPARMOR_UNSET || choice->kind == APPARMOR_UNCONFINED)
        return 0;
    if (!a)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                         "%s: a profile is asked for, but this host's kernel has no AppArmor enabled", field);
    if (choice->kind == APPARMOR_DEFAULT)
        return apparmor_parser(a) ? 0 : no_parser(field, err);
    if (!is_loaded(a, choice->name))
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOENT,
                         "%s: the profile \"%.400s\" is not loaded in this host's kernel (apparmor_parser -r"
                         " FILE loads one)",
                         field, choice->name);
    return 0;
}

// ---- Our own ----

static int run_parser(const char *parser, struct error *err)
{
    // From stdin, not cached on disk, and in the place of what an older crispd has loaded: containers that
    // run under it are under the new text at once.
    char *const argv[] = {(char *)(uintptr_t)parser, (char *)"--replace", (char *)"--skip-cache",
                          (char *)"--quiet", NULL};
    char *const envp[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL};
    const struct spawn_options options = {.path = parser, .argv = argv, .envp = envp};
    const struct ctx none = CTX_NONE;
    const struct ctx ctx = ctx_with_timeout(&none, PARSER_TIMEOUT);
    struct spawn_result result = {0};
    int r = spawn_run(&options, apparmor_default_text, strlen(apparmor_default_text), PARSER_OUT_MAX, &ctx,
                      &result, err);
    if (r == 0 && result.exit_code != 0)
        r = error_set(err, STATUS_INTERNAL, EIO, "%s ended with %d: %.*s", parser, result.exit_code,
                      (int)strcspn(result.err.data ? result.err.data : "", "\n"),
                      result.err.data ? result.err.data : "");
    spawn_result_done(&result);
    return r < 0 ? error_wrap(err, "load the AppArmor profile %s", APPARMOR_DEFAULT_NAME) : 0;
}

// One thread loads; who comes meanwhile waits for it, and tries for itself where that failed. What somebody
// else has unloaded meanwhile (aa-teardown) is loaded again.
static int load_default(struct apparmor *a, const char *parser, struct error *err)
{
    bool there = is_loaded(a, APPARMOR_DEFAULT_NAME);
    (void)pthread_mutex_lock(&a->lock);
    for (; a->loading; there = true) // as the one who is at it leaves it
        (void)pthread_cond_wait(&a->loaded_or_not, &a->lock);
    bool mine = !a->loaded || !there;
    a->loading = mine;
    (void)pthread_mutex_unlock(&a->lock);
    if (!mine)
        return 0;
    int r = run_parser(parser, err);
    (void)pthread_mutex_lock(&a->lock);
    a->loading = false;
    a->loaded = r == 0;
    (void)pthread_cond_broadcast(&a->loaded_or_not);
    (void)pthread_mutex_unlock(&a->lock);
    return r;
}

int apparmor_resolve(struct apparmor *a, const char *field, const struct apparmor_choice *choice,
                     const char **name, struct error *err)
{
    *name = "";
    int r = apparmor_check(a, field, choice, err);
    if (r < 0 || !a || choice->kind == APPARMOR_UNCONFINED)
        return r;
    if (choice->kind == APPARMOR_LOCALHOST) {
        *name = choice->name;
        return 0;
    }
    const char *parser = apparmor_parser(a);
    if (!parser) // asked for: it has vanished since the check; else the documented degradation
        return choice->kind == APPARMOR_DEFAULT ? no_parser(field, err) : 0;
    r = load_default(a, parser, err);
    if (r < 0)
        return error_wrap(err, "%s", field);
    *name = APPARMOR_DEFAULT_NAME;
    return 0;
}
