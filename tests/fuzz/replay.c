// Runs a fuzz target over committed files, without a fuzzer: what was found once stays found, with every
// compiler and under every sanitizer. Usage: NAME_fuzz_replay FILE_OR_DIRECTORY...
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define FILE_MAX (16u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    _cleanup_free_ char *data = NULL;
    struct error err = ERROR_INIT;
    size_t len;

    if (file_read(path, FILE_MAX, &data, &len, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    // Of exactly this size, so that AddressSanitizer sees a byte too many.
    _cleanup_free_ uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        return -1;
    for (size_t i = 0; i < len; i++)
        copy[i] = (uint8_t)data[i];
    (void)LLVMFuzzerTestOneInput(copy, len);
    return 1;
}

// Files run, -1 when one can't be read.
static int run_path(const char *path)
{
    _cleanup_(dir_closep) DIR *dir = opendir(path);
    const struct dirent *d;
    int n = 0;

    if (!dir)
        return run_file(path);
    while ((d = readdir(dir))) {
        _cleanup_free_ char *file = d->d_name[0] == '.' ? NULL : str_printf("%s/%s", path, d->d_name);
        int r = file ? run_file(file) : 0;
        if (r < 0)
            return r;
        n += r;
    }
    return n;
}

int main(int argc, char **argv)
{
    int n = 0;

    for (int i = 1; i < argc; i++) {
        int r = run_path(argv[i]);
        if (r < 0)
            return 1;
        n += r;
    }
    printf("%d files\n", n);
    return n == 0;
}
