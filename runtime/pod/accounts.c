#include "runtime/pod/accounts.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define FIELDS_MAX 7

struct field {
    const char *at;
    size_t len;
};

// The next line's colon-separated fields: their number, 0 at the end. Lines longer than the file's bound
// can't be; fields past FIELDS_MAX are left off.
static size_t next_line(const char **text, struct field fields[FIELDS_MAX])
{
    while (**text) {
        const char *line = *text, *end = strchrnul(line, '\n');
        size_t n = 0;
        *text = *end ? end + 1 : end;
        if (line == end || *line == '#')
            continue;
        while (n < FIELDS_MAX) {
            const char *colon = memchr(line, ':', (size_t)(end - line));
            fields[n++] = (struct field){line, (size_t)((colon ? colon : end) - line)};
            if (!colon)
                break;
            line = colon + 1;
        }
        return n;
    }
    return 0;
}

static bool field_is(const struct field *f, const char *s)
{
    return strlen(s) == f->len && memcmp(f->at, s, f->len) == 0;
}

static bool field_id(const struct field *f, uint32_t *id)
{
    char digits[16];
    uint64_t value;

    if (f->len == 0 || f->len >= sizeof(digits))
        return false;
    memcpy(digits, f->at, f->len);
    digits[f->len] = '\0';
    if (str_parse_u64(digits, 0, UINT32_MAX - 1, &value) < 0)
        return false;
    *id = (uint32_t)value;
    return true;
}

static void field_copy(const struct field *f, char *out, size_t size)
{
    size_t len = f->len < size ? f->len : size - 1;

    memcpy(out, f->at, len);
    out[len] = '\0';
}

struct passwd_entry {
    char name[ACCOUNTS_NAME_MAX];
    uint32_t uid, gid;
    char home[ACCOUNTS_HOME_MAX];
};

// The first entry of that name, or, with name NULL, of that uid.
static bool find_user(const char *passwd, const char *name, uint32_t uid, struct passwd_entry *out)
{
    struct field f[FIELDS_MAX];

    for (size_t n; (n = next_line(&passwd, f)) > 0;) {
        uint32_t id, gid;
        if (n < 4 || f[0].len >= ACCOUNTS_NAME_MAX || !field_id(&f[2], &id) || !field_id(&f[3], &gid))
            continue;
        if (name ? !field_is(&f[0], name) : id != uid)
            continue;
        field_copy(&f[0], out->name, sizeof(out->name));
        out->uid = id;
        out->gid = gid;
        out->home[0] = '\0';
        if (n >= 6 && f[5].len < sizeof(out->home))
            field_copy(&f[5], out->home, sizeof(out->home));
        return true;
    }
    return false;
}

static bool find_group(const char *group, const char *name, uint32_t *gid)
{
    struct field f[FIELDS_MAX];

    for (size_t n; (n = next_line(&group, f)) > 0;)
        if (n >= 3 && field_is(&f[0], name) && field_id(&f[2], gid))
            return true;
    return false;
}

static bool is_member(const struct field *members, const char *name)
{
    const char *at = members->at, *end = at + members->len;

    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct field one = {at, (size_t)((comma ? comma : end) - at)};
        if (field_is(&one, name))
            return true;
        at += one.len + 1;
    }
    return false;
}

static int add_group(struct account *a, uint32_t gid, struct error *err)
{
    for (size_t i = 0; i < a->n_groups; i++)
        if (a->groups[i] == gid)
            return 0;
    if (a->n_groups == ACCOUNTS_GROUPS_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "user: more than %d supplemental groups",
                         ACCOUNTS_GROUPS_MAX);
    a->groups[a->n_groups++] = gid;
    return 0;
}

// The groups that /etc/group lists the user in. A group of the user's own name is its primary one.
static int add_memberships(struct account *a, const char *group, const char *name, struct error *err)
{
    struct field f[FIELDS_MAX];

    for (size_t n; (n = next_line(&group, f)) > 0;) {
        uint32_t gid;
        if (n < 4 || field_is(&f[0], name) || !is_member(&f[3], name) || !field_id(&f[2], &gid))
            continue;
        int rc = add_group(a, gid, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int split_spec(const char *spec, char *user, char *group, struct error *err)
{
    const char *colon = strchrnul(spec, ':');
    size_t user_len = (size_t)(colon - spec), group_len = *colon ? strlen(colon + 1) : 0;

    if (user_len >= ACCOUNTS_NAME_MAX || group_len >= ACCOUNTS_NAME_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, ENAMETOOLONG, "user: name longer than %d bytes",
                         ACCOUNTS_NAME_MAX - 1);
    memcpy(user, spec, user_len);
    user[user_len] = '\0';
    memcpy(group, *colon ? colon + 1 : "", group_len + 1);
    return 0;
}

static int resolve_user(const Pod__User *user, const char *name, const char *passwd,
                        struct passwd_entry *entry, bool *found, struct error *err)
{
    struct field whole = {name, strlen(name)};
    uint32_t uid = 0;

    memset(entry, 0, sizeof(*entry));
    if (user->has_uid) {
        uid = user->uid;
    } else if (*name && !field_id(&whole, &uid)) {
        *found = find_user(passwd, name, 0, entry);
        return *found ? 0
                      : error_set(err, STATUS_NOT_FOUND, ENOENT,
                                  "user \"%s\" is not in the image's /etc/passwd", name);
    }
    *found = find_user(passwd, NULL, uid, entry);
    entry->uid = uid;
    return 0;
}

static int resolve_group(const Pod__User *user, const char *name, const char *group, uint32_t *gid,
                         struct error *err)
{
    struct field whole = {name, strlen(name)};

    if (user->has_gid) {
        *gid = user->gid;
        return 0;
    }
    if (!*name || find_group(group, name, gid) || field_id(&whole, gid))
        return 0;
    return error_set(err, STATUS_NOT_FOUND, ENOENT, "group \"%s\" is not in the image's /etc/group", name);
}

int account_resolve(const Pod__User *user, const char *passwd, const char *group, struct account *out,
                    struct error *err)
{
    char user_name[ACCOUNTS_NAME_MAX], group_name[ACCOUNTS_NAME_MAX];
    struct passwd_entry entry = {0};
    bool found = false;
    int rc = 0;

    out->n_groups = 0;
    if (user->resolved) {
        entry.uid = user->uid;
        entry.gid = user->gid;
        (void)snprintf(entry.home, sizeof(entry.home), "%s", user->home);
    } else {
        rc = split_spec(user->user, user_name, group_name, err);
        if (rc == 0)
            rc = resolve_user(user, user_name, passwd, &entry, &found, err);
        if (rc == 0)
            rc = resolve_group(user, user->has_uid ? "" : group_name, group, &entry.gid, err);
    }
    out->uid = entry.uid;
    out->gid = entry.gid;
    (void)snprintf(out->home, sizeof(out->home), "%s", entry.home[0] ? entry.home : "/");
    if (rc == 0)
        rc = add_group(out, out->gid, err);
    if (rc == 0 && found && user->merge_image_groups)
        rc = add_memberships(out, group, entry.name, err);
    for (size_t i = 0; rc == 0 && i < user->n_supplemental_groups; i++)
        rc = add_group(out, user->supplemental_groups[i], err);
    return rc;
}
