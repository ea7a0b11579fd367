// Fuzz target: a layer, from its compressed bytes to files in a directory of its own. Runs as root or not;
// nothing may ever be outside of that directory.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "image/pull/extract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char top[] = "/tmp/crisp-unpack-fuzz-XXXXXX";

static void remove_top(void)
{
    (void)file_remove_tree(top, NULL);
}

static int ignore_opaque(void *data, const char *path, struct error *err)
{
    (void)data;
    (void)path;
    (void)err;
    return 0;
}

static void check_outside(void)
{
    _cleanup_(dir_closep) DIR *dir = opendir(top);
    int n = 0;

    while (dir && readdir(dir))
        n++;
    if (n != 3) // ".", "..", "root"
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    _cleanup_fd_ int fd = memfd_create("layer", MFD_CLOEXEC);
    _cleanup_fd_ int root = -1;
    _cleanup_(inflate_freep) struct inflate *in = NULL;
    Pull__Loose *loose = calloc(1, sizeof(*loose));
    struct extract_options options = {.max_entries = 200, .opaque = ignore_opaque, .loose = loose};
    struct extract_stats stats;
    _cleanup_free_ char *path = NULL;

    if (!made && (!mkdtemp(top) || atexit(remove_top) != 0))
        abort();
    made = true;
    path = str_printf("%s/root", top);
    if (loose)
        pull__loose__init(loose);
    if (!loose || fd < 0 || !path || file_write_all(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        mkdir(path, 0755) < 0 || inflate_new(fd, 16u << 20, &in, NULL) < 0)
        abort();
    root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    options.root_fd = root;
    struct error err = ERROR_INIT;
    if (extract_tar(in, &options, &stats, &err) < 0 && err.errnum == 0)
        abort();
    pull__loose__free_unpacked(loose, NULL);
    check_outside();
    if (file_remove_tree(path, NULL) < 0)
        abort();
    return 0;
}
