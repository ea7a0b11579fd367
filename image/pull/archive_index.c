#include "image/pull/archive_index.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/map.h"
#include "base/str.h"

#define BLOCK       512
#define NAME_BYTES  4096        // of a name or link, with its NUL
#define RECORDS_MAX (64u << 10) // bytes of one pax header
#define LINKS_MAX   8           // that one name leads through
#define SIZE_TEXT   22          // digits of a pax size

// A header of POSIX.1-1988 (ustar): where its fields are.
struct tar_header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
        version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct tar_header) == BLOCK, "a tar header is a block");

// What headers before a member's own say of it: GNU's long names, or pax records.
struct extra {
    char name[NAME_BYTES], link[NAME_BYTES];
    bool has_name, has_link, has_size;
    uint64_t size;
};

static int read_at(const struct archive_index *a, uint64_t offset, void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(a->fd, (char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -ENODATA;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

// Octal digits, or GNU's base 256 of a positive number. False for what is neither.
static bool parse_number(const char *field, size_t len, uint64_t *out)
{
    const unsigned char *p = (const unsigned char *)field, *end = p + len;

    *out = 0;
    if (*p & 0x80) {
        if (*p != 0x80)
            return false; // negative, or more than 64 bits can hold
        for (p++; p < end; p++) {
            if (*out >> 55)
                return false;
            *out = *out << 8 | *p;
        }
        return true;
    }
    while (p < end && *p == ' ')
        p++;
    for (; p < end && *p >= '0' && *p <= '7'; p++)
        *out = *out << 3 | (uint64_t)(*p - '0'); // twelve digits are 36 bits
    return p == end || *p == ' ' || *p == '\0';
}

static bool checksum_is_right(const struct tar_header *h)
{
    const unsigned char *bytes = (const unsigned char *)h;
    uint64_t stated, sum = 0;

    for (size_t i = 0; i < BLOCK; i++) {
        bool own = i >= offsetof(struct tar_header, checksum) && i < offsetof(struct tar_header, type);
        sum += own ? ' ' : bytes[i];
    }
    return parse_number(h->checksum, sizeof(h->checksum), &stated) && stated == sum;
}

static bool is_zero(const struct tar_header *h)
{
    static const struct tar_header zero;

    return memcmp(h, &zero, sizeof(zero)) == 0;
}

// path relative to the folder `from` (NULL: the top) without "." and "..", into out. False: it leads out, or
// is too long.
static bool clean_name(const char *from, size_t from_len, const char *path, char out[NAME_BYTES])
{
    size_t len = 0;

    if (path[0] == '/')
        return false;
    if (from_len >= NAME_BYTES)
        return false;
    memcpy(out, from ? from : "", from_len);
    len = from_len;
    while (*path) {
        size_t n = strcspn(path, "/");
        if (n == 2 && path[0] == '.' && path[1] == '.') {
            if (len == 0)
                return false;
            while (len > 0 && out[len - 1] != '/')
                len--;
            len -= len > 0;
        } else if (n > 0 && !(n == 1 && path[0] == '.')) {
            if (len + n + 2 > NAME_BYTES)
                return false;
            if (len > 0)
                out[len++] = '/';
            memcpy(out + len, path, n);
            len += n;
        }
        path += n;
        path += *path == '/';
    }
    out[len] = '\0';
    return true;
}

static bool has_dotdot(const char *name)
{
    for (const char *p = name; p; p = strchr(p, '/')) {
        p += *p == '/';
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0'))
            return true;
    }
    return false;
}

static int damaged(struct error *err, uint64_t offset, const char *what)
{
    return error_set(err, STATUS_DATA_LOSS, EBADMSG, "the archive is damaged at byte %llu: %s",
                     (unsigned long long)offset, what);
}

// One "LENGTH KEY=VALUE\n" of a pax header. False: it isn't one.
static bool take_record(const char *key, size_t key_len, const char *value, size_t len, struct extra *extra)
{
    char digits[SIZE_TEXT];

    if (key_len == 4 && memcmp(key, "path", 4) == 0) {
        if (len >= NAME_BYTES || memchr(value, '\0', len))
            return false;
        memcpy(extra->name, value, len);
        extra->name[len] = '\0';
        extra->has_name = true;
    } else if (key_len == 8 && memcmp(key, "linkpath", 8) == 0) {
        if (len >= NAME_BYTES || memchr(value, '\0', len))
            return false;
        memcpy(extra->link, value, len);
        extra->link[len] = '\0';
        extra->has_link = true;
    } else if (key_len == 4 && memcmp(key, "size", 4) == 0) {
        if (len >= sizeof(digits))
            return false;
        memcpy(digits, value, len);
        digits[len] = '\0';
        extra->has_size = true;
        return str_parse_u64(digits, 0, INT64_MAX, &extra->size) == 0;
    } else if (key_len > 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
        return false; // its size isn't what it says
    }
    return true;
}

static bool parse_records(const char *p, size_t len, struct extra *extra)
{
    while (len > 0) {
        size_t stated = 0, digits = 0;
        while (digits < len && digits < 8 && p[digits] >= '0' && p[digits] <= '9')
            stated = stated * 10 + (size_t)(p[digits++] - '0');
        const char *equals = stated <= len ? memchr(p, '=', stated) : NULL;
        if (digits == 0 || stated > len || stated < digits + 4 || p[digits] != ' ' || !equals ||
            p[stated - 1] != '\n')
            return false;
        const char *key = p + digits + 1;
        if (equals <= key || !take_record(key, (size_t)(equals - key), equals + 1,
                                          (size_t)(p + stated - 1 - equals - 1), extra))
            return false;
        p += stated;
        len -= stated;
    }
    return true;
}

// The body of a header that is about the next one.
static int read_extra(const struct archive_index *a, char type, uint64_t offset, uint64_t size,
                      struct extra *extra, struct error *err)
{
    _cleanup_free_ char *body = NULL;
    bool name = type == 'L', good;

    if (size > RECORDS_MAX || (type != 'x' && type != 'g' && size > NAME_BYTES))
        return damaged(err, offset, "a member's name or pax header is too long");
    body = calloc(1, size + 1);
    if (!body)
        return error_errno(err, ENOMEM, "read the archive");
    if (read_at(a, offset, body, size) < 0)
        return damaged(err, offset, "it is truncated");
    if (type == 'g')
        return 0; // comments of git and the like; a size or name for all would make no sense
    if (type == 'x') {
        good = parse_records(body, size, extra);
        return good ? 0 : damaged(err, offset, "a pax header that makes no sense, or a sparse file");
    }
    (void)snprintf(name ? extra->name : extra->link, NAME_BYTES, "%s", body);
    *(name ? &extra->has_name : &extra->has_link) = true;
    return 0;
}

static void take_header_names(const struct tar_header *h, struct extra *extra)
{
    bool posix = memcmp(h->magic, "ustar\0", 6) == 0 && h->prefix[0];

    if (!extra->has_name)
        (void)snprintf(extra->name, NAME_BYTES, "%.*s%s%.*s", posix ? (int)sizeof(h->prefix) : 0, h->prefix,
                       posix ? "/" : "", (int)sizeof(h->name), h->name);
    if (!extra->has_link)
        (void)snprintf(extra->link, NAME_BYTES, "%.*s", (int)sizeof(h->link), h->link);
}

static int link_target(const char *name, char type, const struct extra *extra, char out[NAME_BYTES],
                       struct error *err)
{
    const char *slash = strrchr(name, '/');
    size_t folder = type == '2' && slash ? (size_t)(slash - name) : 0; // hard links start at the top

    if (clean_name(name, folder, extra->link, out) && *out)
        return 0;
    return error_set(err, STATUS_DATA_LOSS, EXDEV,
                     "the archive's member \"%.200s\" is a link out of it, to \"%.200s\"", name, extra->link);
}

static int add_member(struct archive_index *a, char type, const struct extra *extra, uint64_t offset,
                      uint64_t size, struct error *err)
{
    char name[NAME_BYTES], link[NAME_BYTES] = "";
    struct archive_member *m;
    int r = 0;

    if (has_dotdot(extra->name) || !clean_name(NULL, 0, extra->name, name))
        return error_set(err, STATUS_DATA_LOSS, EXDEV,
                         "the archive has a member outside of itself: \"%.200s\"", extra->name);
    if (type == '5' || (*name == '\0' && type != '1' && type != '2'))
        return 0;
    if (type != '0' && type != '\0' && type != '7' && type != '1' && type != '2')
        return error_set(err, STATUS_DATA_LOSS, EBADMSG,
                         "the archive's member \"%.200s\" is neither a file nor a folder nor a link", name);
    if (type == '1' || type == '2')
        r = link_target(name, type, extra, link, err);
    if (r < 0)
        return r;
    if (map_get(a->members, name))
        return error_set(err, STATUS_DATA_LOSS, EEXIST, "the archive has \"%.200s\" twice", name);
    m = arena_alloc(a->arena, sizeof(*m));
    if (m)
        *m = (struct archive_member){.name = arena_strdup(a->arena, name),
                                     .link = *link ? arena_strdup(a->arena, link) : NULL,
                                     .offset = offset,
                                     .size = size};
    if (!m || !m->name || (*link && !m->link) || map_set(a->members, name, m) < 0)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM, "the archive has too many members");
    return map_len(a->members) <= ARCHIVE_MEMBERS_MAX
               ? 0
               : error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "the archive has more than %d members",
                           ARCHIVE_MEMBERS_MAX);
}

// One header and what it is about; *offset goes on to the next. 1: the end.
static int read_member(struct archive_index *a, uint64_t *offset, struct extra *extra, struct error *err)
{
    struct tar_header h;
    uint64_t size, at = *offset + BLOCK;
    bool about_next;

    if (*offset == a->size)
        return 1; // without the two empty blocks at the end: other tools read those, too
    if (a->size - *offset < BLOCK || read_at(a, *offset, &h, BLOCK) < 0)
        return damaged(err, *offset, "it is truncated");
    if (is_zero(&h))
        return 1;
    if (!checksum_is_right(&h) || !parse_number(h.size, sizeof(h.size), &size))
        return damaged(err, *offset, "a header with a wrong checksum or size");
    about_next = h.type == 'x' || h.type == 'g' || h.type == 'L' || h.type == 'K';
    if (!about_next && extra->has_size)
        size = extra->size;
    if (h.type == '1' || h.type == '2' || h.type == '5')
        size = 0;
    if (size > a->size - at)
        return error_set(
            err, STATUS_DATA_LOSS, ENODATA,
            "the archive is truncated: a member at byte %llu has %llu bytes, of which %llu are there",
            (unsigned long long)*offset, (unsigned long long)size, (unsigned long long)(a->size - at));
    *offset = at + (size + BLOCK - 1) / BLOCK * BLOCK;
    if (*offset > a->size)
        *offset = a->size; // the last one's padding is missing
    if (about_next)
        return read_extra(a, h.type, at, size, extra, err);
    take_header_names(&h, extra);
    int r = add_member(a, h.type, extra, at, size, err);
    *extra = (struct extra){0};
    return r;
}

static int check_start(const struct archive_index *a, struct error *err)
{
    struct tar_header h;

    if (a->size < BLOCK || read_at(a, 0, &h, BLOCK) < 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EBADMSG,
                         "this is no image archive: it has %llu bytes only", (unsigned long long)a->size);
    if (memcmp(&h, "\x1f\x8b", 2) == 0 || memcmp(&h, "\x28\xb5\x2f\xfd", 4) == 0 ||
        memcmp(&h, "BZh", 3) == 0 ||
        memcmp(&h,
               "\xfd"
               "7zXZ",
               5) == 0)
        return error_set(
            err, STATUS_INVALID_ARGUMENT, EBADMSG,
            "the archive is compressed: decompress it first, as in `gunzip -c FILE | crisp import -`");
    if (!is_zero(&h) && !checksum_is_right(&h))
        return error_set(err, STATUS_INVALID_ARGUMENT, EBADMSG, "this is no image archive: it isn't a tar");
    return 0;
}

int archive_index_read(struct archive_index *a, int fd, struct arena *arena, struct error *err)
{
    _cleanup_free_ struct extra *extra = calloc(1, sizeof(*extra));
    uint64_t offset = 0;
    struct stat st;
    int r;

    *a = (struct archive_index){.fd = fd, .arena = arena, .members = map_new()};
    if (!extra || !a->members)
        return error_errno(err, ENOMEM, "read the archive");
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(err, STATUS_INTERNAL, EINVAL, "the archive is no regular file");
    a->size = (uint64_t)st.st_size;
    r = check_start(a, err);
    // Each turn takes a block at least; members are bounded, but headers about nothing are not yet.
    for (size_t i = 0; r == 0; i++)
        r = i <= 3 * ARCHIVE_MEMBERS_MAX ? read_member(a, &offset, extra, err)
                                         : damaged(err, offset, "too many headers");
    return r < 0 ? r : 0;
}

void archive_index_done(struct archive_index *a)
{
    map_free(a->members);
    a->members = NULL;
}

const struct archive_member *archive_index_find(const struct archive_index *a, const char *name)
{
    char clean[NAME_BYTES];
    const struct archive_member *m;

    if (has_dotdot(name) || !clean_name(NULL, 0, name, clean))
        return NULL;
    m = map_get(a->members, clean);
    for (int i = 0; m && m->link && i < LINKS_MAX; i++)
        m = map_get(a->members, m->link);
    return m && !m->link ? m : NULL;
}

int archive_index_load(const struct archive_index *a, const struct archive_member *m, size_t max,
                       struct buf *out, struct error *err)
{
    char chunk[16 * 1024];

    if (m->size > max)
        return error_set(err, STATUS_DATA_LOSS, EFBIG,
                         "the archive's \"%.200s\" has %llu bytes, more than %zu", m->name,
                         (unsigned long long)m->size, max);
    buf_done(out);
    buf_init(out, max + 1);
    for (uint64_t done = 0; done < m->size;) {
        size_t n = m->size - done < sizeof(chunk) ? (size_t)(m->size - done) : sizeof(chunk);
        int r = read_at(a, m->offset + done, chunk, n);
        if (r == 0)
            r = buf_append(out, chunk, n);
        if (r < 0)
            return error_errno(err, -r, "read the archive's \"%.200s\"", m->name);
        done += n;
    }
    return 0;
}
