#include "image/pull/tar_write.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define OCTAL7    UINT64_C(07777777)     // in eight bytes, with their NUL
#define OCTAL11   UINT64_C(077777777777) // in twelve
#define NAME_ROOM 100

// Where a header's fields are (ustar, POSIX.1-1988).
enum {
    AT_NAME = 0,
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_MTIME = 136,
    AT_CHECKSUM = 148,
    AT_TYPE = 156,
    AT_LINK = 157,
    AT_MAGIC = 257,
    AT_MAJOR = 329,
    AT_MINOR = 337,
};

size_t tar_padding(uint64_t size)
{
    return (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

static size_t count_digits(size_t n)
{
    size_t digits = 1;

    for (; n >= 10; n /= 10)
        digits++;
    return digits;
}

// "LENGTH KEY=VALUE\n", where LENGTH counts itself.
static int add_record(struct buf *out, const char *prefix, const char *key, const void *value, size_t len)
{
    size_t rest = 1 + strlen(prefix) + strlen(key) + 1 + len + 1, total = rest + count_digits(rest);
    int r;

    if (count_digits(total) != total - rest)
        total = rest + count_digits(total);
    r = buf_printf(out, "%zu %s%s=", total, prefix, key);
    if (r == 0)
        r = buf_append(out, value, len);
    return r < 0 ? r : buf_append(out, "\n", 1);
}

static int add_text(struct buf *out, const char *key, const char *text)
{
    return add_record(out, "", key, text, strlen(text));
}

static int add_number(struct buf *out, const char *key, uint64_t n, uint64_t max)
{
    char text[24];

    if (n <= max)
        return 0;
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    return add_text(out, key, text);
}

static bool time_fits(const struct tar_entry *e)
{
    return e->mtime_ns == 0 && e->mtime_s >= 0 && (uint64_t)e->mtime_s <= OCTAL11;
}

// Seconds with a fraction; before 1970 the fraction still counts upwards in a timespec, but not here.
static int add_time(struct buf *out, const struct tar_entry *e)
{
    char text[40];
    bool negative = e->mtime_s < 0;
    int64_t s = negative && e->mtime_ns > 0 ? e->mtime_s + 1 : e->mtime_s;
    uint32_t ns = negative && e->mtime_ns > 0 ? 1000000000u - e->mtime_ns : e->mtime_ns;

    if (time_fits(e))
        return 0;
    (void)snprintf(text, sizeof(text), "%s%llu.%09u", negative ? "-" : "",
                   (unsigned long long)(negative ? 0 - (uint64_t)s : (uint64_t)s), ns);
    for (size_t len = strlen(text); text[len - 1] == '0' || text[len - 1] == '.'; len--) {
        bool point = text[len - 1] == '.';
        text[len - 1] = '\0';
        if (point)
            break;
    }
    return add_text(out, "mtime", text);
}

static int collect_records(struct buf *out, const struct tar_entry *e)
{
    int r = 0;

    if (strlen(e->name) > NAME_ROOM)
        r = add_text(out, "path", e->name);
    if (r == 0 && e->link && strlen(e->link) > NAME_ROOM)
        r = add_text(out, "linkpath", e->link);
    if (r == 0)
        r = add_number(out, "size", e->size, OCTAL11);
    if (r == 0)
        r = add_number(out, "uid", e->uid, OCTAL7);
    if (r == 0)
        r = add_number(out, "gid", e->gid, OCTAL7);
    if (r == 0)
        r = add_time(out, e);
    for (size_t i = 0; r == 0 && i < e->n_xattrs; i++)
        r = add_record(out, "SCHILY.xattr.", e->xattrs[i].name, e->xattrs[i].value, e->xattrs[i].len);
    return r;
}

static void put_octal(char *h, int at, size_t width, uint64_t n)
{
    (void)snprintf(h + at, width, "%0*llo", (int)width - 1, (unsigned long long)n);
}

static int append_block(struct buf *out, const struct tar_entry *e, char type, const char *name,
                        uint64_t size)
{
    char h[TAR_BLOCK + 1] = {0}; // snprintf's NUL may be one behind
    unsigned sum = 0;

    (void)strncpy(h + AT_NAME, name, NAME_ROOM); // allowed: no NUL where it is full
    put_octal(h, AT_MODE, 8, e->mode & 07777);
    put_octal(h, AT_UID, 8, e->uid <= OCTAL7 ? e->uid : 0);
    put_octal(h, AT_GID, 8, e->gid <= OCTAL7 ? e->gid : 0);
    put_octal(h, AT_SIZE, 12, size <= OCTAL11 ? size : 0);
    put_octal(h, AT_MTIME, 12, e->mtime_s >= 0 && (uint64_t)e->mtime_s <= OCTAL11 ? (uint64_t)e->mtime_s : 0);
    memset(h + AT_CHECKSUM, ' ', 8);
    h[AT_TYPE] = type;
    if (e->link && type != 'x')
        (void)strncpy(h + AT_LINK, e->link, NAME_ROOM); // allowed: no NUL where it is full
    memcpy(h + AT_MAGIC, "ustar", 6);
    memcpy(h + AT_MAGIC + 6, "00", 2);
    put_octal(h, AT_MAJOR, 8, type == '3' || type == '4' ? e->major : 0);
    put_octal(h, AT_MINOR, 8, type == '3' || type == '4' ? e->minor : 0);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)h[i];
    (void)snprintf(h + AT_CHECKSUM, 7, "%06o", sum);
    return buf_append(out, h, TAR_BLOCK);
}

int tar_write_header(struct buf *out, const struct tar_entry *e)
{
    static const char zeros[TAR_BLOCK];
    struct buf records;
    int r;

    if (e->major > OCTAL7 || e->minor > OCTAL7)
        return -EOVERFLOW;
    buf_init(&records, out->max);
    r = collect_records(&records, e);
    if (r == 0 && records.len > 0) {
        const struct tar_entry pax = {.mode = 0644};
        r = append_block(out, &pax, 'x', "PaxHeaders/entry", records.len);
        if (r == 0)
            r = buf_append(out, records.data, records.len);
        if (r == 0)
            r = buf_append(out, zeros, tar_padding(records.len));
    }
    buf_done(&records);
    return r < 0 ? r : append_block(out, e, e->type, e->name, e->type == '0' ? e->size : 0);
}
