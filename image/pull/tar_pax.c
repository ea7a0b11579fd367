// PAX extended headers: records "LENGTH KEY=VALUE\n" (POSIX.1, pax).
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "image/pull/tar_internal.h"

#define XATTR_PREFIX "SCHILY.xattr."

static int pax_number(const char *value, int64_t *out)
{
    return str_parse_i64(value, INT64_MIN, INT64_MAX, out);
}

// "1700000000.123456789", also negative: seconds and nanoseconds, these never negative.
static int pax_time(const char *value, struct timespec *out)
{
    bool negative = *value == '-';
    const char *s = value + negative;
    int64_t seconds = 0;
    long nanoseconds = 0, scale = NS_PER_SEC;

    if (*s < '0' || *s > '9')
        return -EINVAL;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (seconds > (INT64_MAX - 9) / 10)
            return -ERANGE;
        seconds = seconds * 10 + (*s - '0');
    }
    if (*s == '.')
        for (s++; *s >= '0' && *s <= '9'; s++)
            if (scale > 1) {
                scale /= 10;
                nanoseconds += (*s - '0') * scale;
            }
    if (*s != '\0')
        return -EINVAL;
    out->tv_sec = negative ? -seconds - (nanoseconds > 0) : seconds;
    out->tv_nsec = negative && nanoseconds > 0 ? (long)NS_PER_SEC - nanoseconds : nanoseconds;
    return 0;
}

struct pax {
    struct tar *t;
    uint64_t *data_size;
    struct error *err;
    bool has_atime;
    int64_t sparse_offset;  // of form 0.0: the offset whose length is still to come; -1
    const char *sparse_map; // of form 0.1
};

static int apply_xattr(struct pax *p, const char *name, const char *value, size_t len)
{
    struct tar_entry *e = &p->t->entry;

    if (e->n_xattrs == TAR_XATTRS_MAX)
        return tar_damaged(p->err, "an entry has too many extended attributes");
    p->t->xattrs[e->n_xattrs++] = (struct tar_xattr){name, value, len};
    e->xattrs = p->t->xattrs;
    return 0;
}

static int apply_sparse(struct pax *p, const char *key, const char *value)
{
    struct tar_entry *e = &p->t->entry;
    int64_t n;

    e->sparse = true;
    if (str_eq(key, "name")) {
        e->name = value;
        return 0;
    }
    if (str_eq(key, "map")) {
        p->sparse_map = value;
        return 0;
    }
    if (pax_number(value, &n) < 0 || n < 0)
        return -EINVAL;
    if (str_eq(key, "size") || str_eq(key, "realsize")) {
        e->size = (uint64_t)n;
    } else if (str_eq(key, "offset")) {
        p->sparse_offset = n;
    } else if (str_eq(key, "numbytes")) {
        if (p->sparse_offset < 0)
            return -EINVAL;
        int r = tar_add_extent(p->t, (uint64_t)p->sparse_offset, (uint64_t)n, p->err);
        p->sparse_offset = -1;
        return r;
    }
    return 0; // numblocks, major, minor: seen by what else there is
}

// 0, or an error: -EINVAL without a text stands for a value that can't be read.
static int apply(struct pax *p, const char *key, const char *value, size_t len)
{
    struct tar_entry *e = &p->t->entry;
    int64_t n = 0;
    int r = 0;

    if (str_has_prefix(key, XATTR_PREFIX))
        return apply_xattr(p, key + strlen(XATTR_PREFIX), value, len);
    if (strlen(value) != len) // NUL bytes belong only into extended attributes
        return -EINVAL;
    if (str_has_prefix(key, "GNU.sparse."))
        return apply_sparse(p, key + strlen("GNU.sparse."), value);
    if (str_eq(key, "path")) {
        e->name = e->sparse ? e->name : value; // GNU.sparse.name is the better one
    } else if (str_eq(key, "linkpath")) {
        e->link = value;
    } else if (str_eq(key, "mtime")) {
        r = pax_time(value, &e->mtime);
    } else if (str_eq(key, "atime")) {
        p->has_atime = true;
        r = pax_time(value, &e->atime);
    } else if (str_eq(key, "uid")) {
        r = pax_number(value, &e->uid);
    } else if (str_eq(key, "gid")) {
        r = pax_number(value, &e->gid);
    } else if (str_eq(key, "size")) {
        r = pax_number(value, &n);
        if (r == 0 && n < 0)
            r = -EINVAL;
        *p->data_size = (uint64_t)n;
        if (!e->sparse)
            e->size = (uint64_t)n;
    }
    return r;
}

// One record at *pos; the "=" and the line's end become NULs, so that key and value are strings.
static int take_record(char *data, size_t total, size_t *pos, char **key, char **value, size_t *value_len)
{
    char *start = data + *pos, *end, *equals;
    unsigned long len = strtoul(start, &end, 10);

    if (end == start || *end != ' ' || start[0] == '-' || start[0] == '+' || start[0] == ' ' ||
        len > total - *pos || len < (size_t)(end - start) + 3 || start[len - 1] != '\n')
        return -EINVAL;
    *key = end + 1;
    equals = memchr(*key, '=', len - (size_t)(*key - start) - 1);
    if (!equals || equals == *key || memchr(*key, '\0', (size_t)(equals - *key)))
        return -EINVAL;
    *equals = '\0';
    *value = equals + 1;
    start[len - 1] = '\0';
    *value_len = (size_t)(start + len - 1 - *value);
    *pos += len;
    return 0;
}

// "offset,length,offset,length…"
static int apply_map(struct pax *p)
{
    const char *s = p->sparse_map;

    while (s && *s) {
        uint64_t number[2];

        for (int i = 0; i < 2; i++) {
            char *end;
            if (*s < '0' || *s > '9')
                return -EINVAL;
            number[i] = strtoull(s, &end, 10);
            s = end + (*end == ',');
        }
        int r = tar_add_extent(p->t, number[0], number[1], p->err);
        if (r < 0)
            return r;
    }
    return 0;
}

int tar_apply_pax(struct tar *t, uint64_t *data_size, struct error *err)
{
    struct error why = ERROR_INIT;
    struct pax p = {.t = t, .data_size = data_size, .err = &why, .sparse_offset = -1};
    int r = 0;

    for (size_t pos = 0; r == 0 && pos < t->pax.len;) {
        char *key, *value;
        size_t len;

        r = take_record(t->pax.data, t->pax.len, &pos, &key, &value, &len);
        if (r == 0)
            r = apply(&p, key, value, len);
    }
    if (r == 0)
        r = apply_map(&p);
    if (!p.has_atime)
        t->entry.atime = t->entry.mtime;
    if (r < 0 && why.errnum)
        return error_set(err, why.status, why.errnum, "%s", why.message);
    return r < 0 ? tar_damaged(err, "a PAX header can't be read") : 0;
}
