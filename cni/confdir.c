#include "cni/confdir.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"

#define MAX_FILES 1024

static int is_candidate(const struct dirent *entry)
{
    return entry->d_name[0] != '.' &&
           (str_has_suffix(entry->d_name, ".conflist") || str_has_suffix(entry->d_name, ".conf") ||
            str_has_suffix(entry->d_name, ".json"));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

// 1: *out is set; 0: not a configuration; negative errno.
static int load_file(const char *path, struct cni_conflist *current, struct cni_conflist **out,
                     struct error *skipped, struct error *err)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    int r = cni_conflist_load(path, out, err);
    if (r == 0)
        return 1;
    if (skipped->status == STATUS_OK)
        *skipped = *err;
    if (current && str_eq(current->path, path)) {
        *out = cni_conflist_ref(current);
        return 1;
    }
    return r;
}

int cni_confdir_load(const char *dir, struct cni_conflist *current, struct cni_conflist **out,
                     struct error *skipped, struct error *err)
{
    struct dirent **entries = NULL;
    struct error bad = ERROR_INIT;
    int n = scandir(dir, &entries, is_candidate, by_name), r = 0;
    if (n < 0)
        return error_set(err, error_status_of_errno(errno), errno, "no CNI configuration: %s: %s", dir,
                         strerror(errno)); // NOLINT(concurrency-mt-unsafe): glibc's is
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *path =
            r <= 0 && i < MAX_FILES ? str_printf("%s/%s", dir, entries[i]->d_name) : NULL;
        if (path)
            r = load_file(path, current, out, skipped, &bad);
        free(entries[i]);
    }
    free(entries);
    if (r > 0)
        return 0;
    if (skipped->status != STATUS_OK) {
        if (err)
            *err = *skipped;
        return -skipped->errnum;
    }
    return error_set(err, STATUS_NOT_FOUND, ENOENT,
                     "no CNI configuration in %s: put the network's .conflist file there", dir);
}
