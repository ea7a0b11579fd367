#include "cni/version.h"

#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

const char *const cni_versions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
const size_t cni_n_versions = ARRAY_SIZE(cni_versions);

bool cni_version_is_supported(const char *version)
{
    for (size_t i = 0; i < cni_n_versions; i++)
        if (str_eq(version, cni_versions[i]))
            return true;
    return false;
}

static bool version_parse(const char *s, unsigned parts[3])
{
    if (!s || strlen(s) >= CNI_VERSION_MAX)
        return false;
    for (int i = 0; i < 3; i++) {
        unsigned n = 0;
        int digits = 0;
        for (; *s >= '0' && *s <= '9'; s++) {
            n = n * 10 + (unsigned)(*s - '0');
            if (++digits > 5)
                return false;
        }
        if (!digits || *s != (i < 2 ? '.' : '\0'))
            return false;
        parts[i] = n;
        s++;
    }
    return true;
}

bool cni_version_is_valid(const char *version)
{
    unsigned parts[3];
    return version_parse(version, parts);
}

int cni_version_compare(const char *a, const char *b)
{
    unsigned pa[3] = {0}, pb[3] = {0};
    (void)version_parse(a, pa);
    (void)version_parse(b, pb);
    for (int i = 0; i < 3; i++)
        if (pa[i] != pb[i])
            return pa[i] < pb[i] ? -1 : 1;
    return 0;
}
