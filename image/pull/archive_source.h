// An archive in the place of a registry: an OCI image layout as a tar, or what `docker save` writes (which,
// in its newer form, is both; then it is read as the former).
//
// Everything is verified by digest as with a registry, and layers go through the same unpacking children.
#ifndef IMAGE_PULL_ARCHIVE_SOURCE_H
#define IMAGE_PULL_ARCHIVE_SOURCE_H

#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/error.h"
#include "image/pull/layer.h"
#include "image/pull/manifest.h"

#define ARCHIVE_IMAGES_MAX 256
#define ARCHIVE_NAMES_MAX  256 // of one image

struct archive_source;

// Reads what images the tar in fd (the caller's, a regular file) has. request and arena outlive the source.
// INVALID_ARGUMENT: it is no image archive; FAILED_PRECONDITION: none of its images is for this machine;
// DATA_LOSS: damaged.
int archive_source_open(int fd, const Pull__PullRequest *request, struct arena *arena,
                        struct archive_source **out, struct error *err);
void archive_source_free(struct archive_source *s); // NULL is fine

// Image number request->archive_index, as resolve_image() has it, and its names.
int archive_source_resolve(struct archive_source *s, struct manifest *manifest, Pull__PullResolved *out,
                           struct error *err);
// Tells each of the resolved image's layers where its bytes are.
int archive_source_place(struct archive_source *s, struct layer *layers, size_t n, struct error *err);

#endif
