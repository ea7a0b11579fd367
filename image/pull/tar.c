#include "image/pull/tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "image/pull/tar_internal.h"

// The header's fields (POSIX.1, "ustar Interchange Format").
struct field {
    size_t at, size;
};
static const struct field f_name = {0, 100}, f_mode = {100, 8}, f_uid = {108, 8}, f_gid = {116, 8},
                          f_size = {124, 12}, f_mtime = {136, 12}, f_checksum = {148, 8}, f_link = {157, 100},
                          f_major = {329, 8}, f_minor = {337, 8}, f_prefix = {345, 155};
#define AT_TYPE  156
#define AT_MAGIC 257

int tar_damaged(struct error *err, const char *why)
{
    return error_set(err, STATUS_DATA_LOSS, EBADMSG, "the layer's tar is damaged: %s", why);
}

void tar_init(struct tar *t, struct inflate *in)
{
    memset(t, 0, sizeof(*t));
    t->in = in;
    buf_init(&t->name, TAR_NAME_MAX);
    buf_init(&t->link, TAR_NAME_MAX);
    buf_init(&t->pax, TAR_PAX_MAX);
}

void tar_done(struct tar *t)
{
    buf_done(&t->name);
    buf_done(&t->link);
    buf_done(&t->pax);
    free(t->extents);
    t->extents = NULL;
}

// At least one unread byte: 1; 0 at the end.
static int refill(struct tar *t, struct error *err)
{
    const void *data;
    ssize_t n;

    if (t->pos < t->len)
        return 1;
    n = inflate_read(t->in, &data, err);
    if (n <= 0)
        return (int)n;
    t->block = data;
    t->pos = 0;
    t->len = (size_t)n;
    return 1;
}

// As many of len bytes as there are: how many (fewer only at the end).
static ssize_t take_some(struct tar *t, void *out, size_t len, struct error *err)
{
    size_t done = 0;

    while (done < len) {
        int r = refill(t, err);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        size_t n = t->len - t->pos < len - done ? t->len - t->pos : len - done;
        memcpy((char *)out + done, t->block + t->pos, n);
        t->pos += n;
        done += n;
    }
    return (ssize_t)done;
}

int tar_take(struct tar *t, void *out, size_t len, struct error *err)
{
    ssize_t n = take_some(t, out, len, err);

    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : tar_damaged(err, "it ends too early");
}

static int skip(struct tar *t, uint64_t len, struct error *err)
{
    while (len > 0) {
        int r = refill(t, err);
        if (r <= 0)
            return r < 0 ? r : tar_damaged(err, "it ends too early");
        size_t n = t->len - t->pos < len ? t->len - t->pos : (size_t)len;
        t->pos += n;
        len -= n;
    }
    return 0;
}

int tar_number(const unsigned char *field, size_t size, int64_t *out)
{
    uint64_t value = 0;
    size_t i = 0;

    if (field[0] & 0x80) { // GNU: big endian, two's complement
        bool negative = field[0] & 0x40;
        value = negative ? UINT64_MAX : 0;
        for (i = 0; i < size; i++) {
            unsigned char byte = i > 0 ? field[i] : negative ? field[0] : field[0] & 0x7f;
            if (i + 8 < size && byte != (negative ? 0xff : 0))
                return -EINVAL;
            value = value << 8 | byte;
        }
        *out = (int64_t)value;
        return (*out < 0) == negative ? 0 : -EINVAL;
    }
    while (i < size && (field[i] == ' ' || field[i] == '\0'))
        i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        value = value << 3 | (uint64_t)(field[i] - '0');
    for (; i < size; i++)
        if (field[i] != ' ' && field[i] != '\0')
            return -EINVAL;
    *out = (int64_t)value;
    return *out >= 0 ? 0 : -EINVAL;
}

static bool checksum_is_right(const unsigned char *h)
{
    int64_t wanted, sum = 0, signed_sum = 0;

    if (tar_number(h + f_checksum.at, f_checksum.size, &wanted) < 0)
        return false;
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        bool own = i >= f_checksum.at && i < f_checksum.at + f_checksum.size;
        sum += own ? ' ' : h[i];
        signed_sum += own ? ' ' : (signed char)h[i]; // some old tars add signed bytes
    }
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return true; // a fuzzer can't guess it
#endif
    return wanted == sum || wanted == signed_sum;
}

// The next header: 1, 0 at the end of the archive.
static int read_header(struct tar *t, unsigned char h[TAR_BLOCK], struct error *err)
{
    ssize_t n = take_some(t, h, TAR_BLOCK, err);
    bool zero = true;

    if (n <= 0)
        return (int)n; // the end without its marker: tolerated by all
    if (n < TAR_BLOCK)
        return tar_damaged(err, "it ends too early");
    for (size_t i = 0; i < TAR_BLOCK && zero; i++)
        zero = h[i] == 0;
    if (zero)
        return 0;
    return checksum_is_right(h) ? 1 : tar_damaged(err, "a header's checksum is wrong, or this is no tar");
}

static int field_number(const unsigned char *h, struct field f, int64_t *out, struct error *err)
{
    return tar_number(h + f.at, f.size, out) < 0 ? tar_damaged(err, "a header has a field that is no number")
                                                 : 0;
}

static void take_text(const unsigned char *h, struct field f, char *out)
{
    size_t len = strnlen((const char *)h + f.at, f.size);

    memcpy(out, h + f.at, len);
    out[len] = '\0';
}

static void take_names(struct tar *t, const unsigned char *h)
{
    char prefix[156], name[101];

    take_text(h, f_name, name);
    take_text(h, f_link, t->header_link);
    prefix[0] = '\0';
    // Only POSIX's magic has a prefix; GNU's ("ustar  ") keeps other things there.
    if (memcmp(h + AT_MAGIC, "ustar\0", 6) == 0)
        take_text(h, f_prefix, prefix);
    (void)snprintf(t->header_name, sizeof(t->header_name), "%s%s%s", prefix, *prefix ? "/" : "", name);
    t->entry.name = t->has_name ? t->name.data : t->header_name;
    t->entry.link = t->has_link ? t->link.data : t->header_link;
}

static int take_numbers(struct tar *t, const unsigned char *h, uint64_t *size, struct error *err)
{
    struct tar_entry *e = &t->entry;
    int64_t mode, mtime, major = 0, minor = 0, data_size;
    int r = field_number(h, f_mode, &mode, err);

    if (r == 0)
        r = field_number(h, f_uid, &e->uid, err);
    if (r == 0)
        r = field_number(h, f_gid, &e->gid, err);
    if (r == 0)
        r = field_number(h, f_size, &data_size, err);
    if (r == 0)
        r = field_number(h, f_mtime, &mtime, err);
    if (r == 0 && (e->type == TAR_CHAR || e->type == TAR_BLOCK_DEVICE)) {
        r = field_number(h, f_major, &major, err);
        if (r == 0)
            r = field_number(h, f_minor, &minor, err);
    }
    if (r < 0)
        return r;
    if (data_size < 0 || major < 0 || minor < 0 || major > UINT32_MAX || minor > UINT32_MAX)
        return tar_damaged(err, "a header has a number out of range");
    e->mode = (uint32_t)mode & 07777;
    e->mtime.tv_sec = e->atime.tv_sec = mtime;
    e->major = (uint32_t)major;
    e->minor = (uint32_t)minor;
    *size = (uint64_t)data_size;
    return 0;
}

// The data of a header that describes the next one, with its padding.
static int read_into(struct tar *t, uint64_t size, struct buf *out, struct error *err)
{
    char piece[TAR_BLOCK];

    buf_consume(out, out->len);
    if (size > out->max)
        return tar_damaged(err, "a name or PAX header is too long");
    while (size > 0) {
        size_t n = size < TAR_BLOCK ? (size_t)size : TAR_BLOCK;
        int r = tar_take(t, piece, TAR_BLOCK, err);
        if (r == 0 && buf_append(out, piece, n) < 0)
            r = error_errno(err, ENOMEM, "read the layer");
        if (r < 0)
            return r;
        size -= n;
    }
    return buf_append(out, "", 0) < 0 ? error_errno(err, ENOMEM, "read the layer") : 0;
}

static void forget_entry(struct tar *t)
{
    t->entry = (struct tar_entry){0};
    t->has_name = t->has_link = false;
    t->n_extents = t->extent = 0;
    t->offset = 0;
    buf_consume(&t->pax, t->pax.len);
}

// Headers that say something of the next one: 1 when h was such, 0 when it is an entry's own.
static int read_extension(struct tar *t, const unsigned char *h, struct error *err)
{
    uint64_t size;
    int r;

    t->entry.type = h[AT_TYPE];
    if (!strchr("xgLKXV", t->entry.type) || t->entry.type == '\0')
        return 0;
    r = take_numbers(t, h, &size, err);
    if (r < 0)
        return r;
    switch (t->entry.type) {
    case 'x':
    case 'X': // Solaris
        r = read_into(t, size, &t->pax, err);
        break;
    case 'L':
        r = read_into(t, size, &t->name, err);
        t->has_name = t->name.len > 0;
        break;
    case 'K':
        r = read_into(t, size, &t->link, err);
        t->has_link = t->link.len > 0;
        break;
    default: // global PAX headers (a comment, as a rule) and volume labels say nothing about files
        r = size > UINT64_MAX / 2 ? tar_damaged(err, "a header has a number out of range")
                                  : skip(t, (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK, err);
    }
    return r < 0 ? r : 1;
}

int tar_add_extent(struct tar *t, uint64_t offset, uint64_t length, struct error *err)
{
    if (t->n_extents == TAR_EXTENTS_MAX)
        return tar_damaged(err, "a sparse file has too many pieces");
    if (t->n_extents == t->extents_alloc) {
        size_t n = t->extents_alloc ? 2 * t->extents_alloc : 64;
        struct tar_extent *larger = reallocarray(t->extents, n, sizeof(*larger));
        if (!larger)
            return error_errno(err, ENOMEM, "read the layer");
        t->extents = larger;
        t->extents_alloc = n;
    }
    t->extents[t->n_extents++] = (struct tar_extent){offset, length};
    return 0;
}

// Types whose data, if the size says so, isn't there.
static bool is_header_only(int type)
{
    return type >= TAR_HARDLINK && type <= TAR_FIFO;
}

static int finish_entry(struct tar *t, const unsigned char *h, struct error *err)
{
    struct tar_entry *e = &t->entry;
    uint64_t data_size = 0;
    int r;

    if (e->type == '\0' || e->type == '7')
        e->type = TAR_FILE;
    take_names(t, h);
    if (e->type == TAR_FILE && str_has_suffix(e->name, "/")) // how v7 wrote directories
        e->type = TAR_DIR;
    r = take_numbers(t, h, &data_size, err);
    e->size = data_size;
    if (r == 0 && e->type == 'S') {
        e->type = TAR_FILE;
        r = tar_read_gnu_sparse(t, h, err);
    }
    if (r == 0 && t->pax.len > 0)
        r = tar_apply_pax(t, &data_size, err);
    if (r == 0 && is_header_only(e->type))
        data_size = e->size = 0;
    if (r == 0 && data_size > INT64_MAX)
        r = tar_damaged(err, "a header has a number out of range");
    t->padding = (unsigned)(-data_size & (TAR_BLOCK - 1));
    if (r == 0 && e->sparse) {
        if (t->n_extents == 0)
            r = tar_read_pax_sparse(t, &data_size, err);
        if (r == 0)
            r = tar_check_extents(t, data_size, err);
    }
    t->data_left = data_size;
    return r;
}

int tar_next(struct tar *t, const struct tar_entry **entry, struct error *err)
{
    unsigned char h[TAR_BLOCK];
    int r;

    if (t->ended)
        return 0;
    r = skip(t, t->data_left + t->padding, err);
    t->data_left = t->padding = 0;
    forget_entry(t);
    while (r == 0) {
        r = read_header(t, h, err);
        if (r <= 0) {
            t->ended = true;
            return r;
        }
        r = read_extension(t, h, err);
        if (r == 0) {
            r = finish_entry(t, h, err);
            *entry = &t->entry;
            return r < 0 ? r : 1;
        }
        r = r > 0 ? 0 : r;
    }
    return r;
}

ssize_t tar_read(struct tar *t, const void **data, uint64_t *offset, struct error *err)
{
    uint64_t want = t->data_left;
    size_t n;
    int r;

    if (t->entry.sparse) {
        while (t->extent < t->n_extents && t->extents[t->extent].length == 0)
            t->extent++;
        if (t->extent == t->n_extents)
            return 0;
        t->offset = t->extents[t->extent].offset;
        want = t->extents[t->extent].length;
    }
    if (want == 0)
        return 0;
    r = refill(t, err);
    if (r <= 0)
        return r < 0 ? r : tar_damaged(err, "it ends too early");
    n = t->len - t->pos < want ? t->len - t->pos : (size_t)want;
    *data = t->block + t->pos;
    *offset = t->offset;
    t->pos += n;
    t->offset += n;
    t->data_left -= n;
    if (t->entry.sparse) {
        t->extents[t->extent].offset += n;
        t->extents[t->extent].length -= n;
    }
    return (ssize_t)n;
}
