// CNI specification versions.
#ifndef CNI_VERSION_H
#define CNI_VERSION_H

#include <stdbool.h>
#include <stddef.h>

#define CNI_VERSION_MAX 16 // bytes of a version string with its NUL

// Versions spoken here, ascending: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0. Older results have another shape.
extern const char *const cni_versions[];
extern const size_t cni_n_versions;

bool cni_version_is_supported(const char *version);
// "MAJOR.MINOR.PATCH", nothing else.
bool cni_version_is_valid(const char *version);
// <0, 0, >0 as a is older than, the same as, newer than b. Both must be valid.
int cni_version_compare(const char *a, const char *b);

#endif
