// What tar.c and its parts share.
#ifndef IMAGE_PULL_TAR_INTERNAL_H
#define IMAGE_PULL_TAR_INTERNAL_H

#include "image/pull/tar.h"

int tar_damaged(struct error *err, const char *why); // DATA_LOSS, "the layer's tar is damaged: …"
// Exactly len bytes into out.
int tar_take(struct tar *t, void *out, size_t len, struct error *err);
// A number field: octal, or base-256 when its first bit is set. -EINVAL when it is neither.
int tar_number(const unsigned char *field, size_t size, int64_t *out);
int tar_add_extent(struct tar *t, uint64_t offset, uint64_t length, struct error *err);

// tar_pax.c: what a PAX header says, applied to the entry. data_size is changed by "size".
int tar_apply_pax(struct tar *t, uint64_t *data_size, struct error *err);

// tar_sparse.c
// The old GNU form: extents in the header and in blocks after it.
int tar_read_gnu_sparse(struct tar *t, const unsigned char *header, struct error *err);
// PAX form 1.0: extents as text at the beginning of the data. *data_size becomes what is left.
int tar_read_pax_sparse(struct tar *t, uint64_t *data_size, struct error *err);
// Extents in order, within the file, and as long as the data.
int tar_check_extents(const struct tar *t, uint64_t data_size, struct error *err);

#endif
