// Sparse files: GNU tar's own header, and its PAX form 1.0. (Forms 0.0 and 0.1 are all in PAX records.)
#include <stdlib.h>

#include "image/pull/tar_internal.h"

#define AT_SPARSE      386 // four pairs of offset and length, 12 digits each
#define AT_IS_EXTENDED 482
#define AT_REAL_SIZE   483
#define PAIRS_HEADER   4
#define PAIRS_BLOCK    21 // in each block that follows
#define AT_MORE        504

static int take_pairs(struct tar *t, const unsigned char *at, int n, struct error *err)
{
    for (int i = 0; i < n; i++, at += 24) {
        int64_t offset, length;

        if (at[0] == '\0' && at[12] == '\0')
            return 0;
        if (tar_number(at, 12, &offset) < 0 || tar_number(at + 12, 12, &length) < 0 || offset < 0 ||
            length < 0)
            return tar_damaged(err, "a sparse file's header can't be read");
        int r = tar_add_extent(t, (uint64_t)offset, (uint64_t)length, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int tar_read_gnu_sparse(struct tar *t, const unsigned char *header, struct error *err)
{
    unsigned char block[TAR_BLOCK];
    int64_t real_size;
    bool more = header[AT_IS_EXTENDED] != 0;
    int r = take_pairs(t, header + AT_SPARSE, PAIRS_HEADER, err);

    if (r == 0 && (tar_number(header + AT_REAL_SIZE, 12, &real_size) < 0 || real_size < 0))
        r = tar_damaged(err, "a sparse file's header can't be read");
    while (r == 0 && more) {
        r = tar_take(t, block, TAR_BLOCK, err);
        if (r == 0)
            r = take_pairs(t, block, PAIRS_BLOCK, err);
        more = block[AT_MORE] != 0;
    }
    if (r < 0)
        return r;
    t->entry.sparse = true;
    t->entry.size = (uint64_t)real_size;
    if (t->n_extents == 0) // nothing but a hole; none at all would mean PAX form 1.0
        return tar_add_extent(t, 0, 0, err);
    return 0;
}

struct text {
    struct tar *t;
    uint64_t *data_size;
    char block[TAR_BLOCK];
    size_t pos;
};

static int next_number(struct text *x, uint64_t *out, struct error *err)
{
    uint64_t value = 0;

    for (int digits = 0;; digits++) {
        if (x->pos == TAR_BLOCK) {
            if (*x->data_size < TAR_BLOCK)
                return tar_damaged(err, "a sparse file's map ends too early");
            int r = tar_take(x->t, x->block, TAR_BLOCK, err);
            if (r < 0)
                return r;
            *x->data_size -= TAR_BLOCK;
            x->pos = 0;
        }
        char c = x->block[x->pos++];
        if (c == '\n' && digits > 0)
            break;
        if (c < '0' || c > '9' || digits == 18)
            return tar_damaged(err, "a sparse file's map can't be read");
        value = value * 10 + (uint64_t)(c - '0');
    }
    *out = value;
    return 0;
}

int tar_read_pax_sparse(struct tar *t, uint64_t *data_size, struct error *err)
{
    struct text x = {.t = t, .data_size = data_size, .pos = TAR_BLOCK};
    uint64_t n, offset, length;
    int r = next_number(&x, &n, err);

    for (uint64_t i = 0; r == 0 && i < n; i++) {
        r = next_number(&x, &offset, err);
        if (r == 0)
            r = next_number(&x, &length, err);
        if (r == 0)
            r = tar_add_extent(t, offset, length, err);
    }
    return r;
}

int tar_check_extents(const struct tar *t, uint64_t data_size, struct error *err)
{
    uint64_t end = 0, sum = 0;

    for (size_t i = 0; i < t->n_extents; i++) {
        const struct tar_extent *x = &t->extents[i];

        if (x->offset < end || x->offset > t->entry.size || x->length > t->entry.size - x->offset)
            return tar_damaged(err, "a sparse file's pieces overlap or lie outside of it");
        end = x->offset + x->length;
        sum += x->length;
    }
    return sum == data_size ? 0 : tar_damaged(err, "a sparse file's pieces are not as long as its data");
}
