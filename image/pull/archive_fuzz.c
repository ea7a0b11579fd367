// Fuzz target: an archive, from its bytes to resolved images and the places of their layers.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "image/pull/archive_source.h"

#define ARENA_MAX (32u << 20)
#define LAYERS    128

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_image(int fd, uint32_t index, uint32_t *n_images)
{
    Pull__Platform platform = PULL__PLATFORM__INIT, *platforms[] = {&platform};
    Pull__PullRequest request = PULL__PULL_REQUEST__INIT;
    Pull__PullResolved resolved = PULL__PULL_RESOLVED__INIT;
    static struct layer layers[LAYERS];
    static Pull__Layer descs[LAYERS];
    struct archive_source *source = NULL;
    struct arena *arena = arena_new(ARENA_MAX);
    struct manifest manifest = {0};

    platform.os = (char *)"linux";
    platform.architecture = (char *)"amd64";
    request.platforms = platforms;
    request.n_platforms = 1;
    request.archive_index = index;
    if (arena && archive_source_open(fd, &request, arena, &source, NULL) == 0 &&
        archive_source_resolve(source, &manifest, &resolved, NULL) == 0 && manifest.n_layers <= LAYERS) {
        *n_images = resolved.archive_images;
        for (size_t i = 0; i < manifest.n_layers; i++) {
            pull__layer__init(&descs[i]);
            descs[i].size = manifest.layers[i].size;
            layers[i].desc = &descs[i];
        }
        (void)archive_source_place(source, layers, manifest.n_layers, NULL);
    }
    archive_source_free(source);
    arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_fd_ int fd = memfd_create("archive", MFD_CLOEXEC);
    uint32_t n_images = 1;

    if (fd < 0 || file_write_all(fd, data, size) < 0)
        abort();
    for (uint32_t i = 0; i < n_images && i < 4; i++)
        try_image(fd, i, &n_images);
    return 0;
}
