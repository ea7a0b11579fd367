// Names of CDI devices, and where a container's config asks for them.
#include <ctype.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cdi.h"

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_alphanumeric(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9');
}

// Alphanumeric with some other characters between.
static bool is_name(const char *s, size_t len, const char *between)
{
    if (len == 0 || !is_alphanumeric(s[0]) || !is_alphanumeric(s[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(s[i]) && (s[i] == '\0' || !strchr(between, s[i])))
            return false;
    }
    return true;
}

bool cdi_vendor_or_class_valid(const char *s, size_t len)
{
    return len <= 253 && len > 0 && is_letter(s[0]) && is_name(s, len, "_-.");
}

bool cdi_device_name_valid(const char *s, size_t len)
{
    return is_name(s, len, "_-.:");
}

static bool is_qualified(const char *name, size_t len)
{
    const char *slash = memchr(name, '/', len), *equals = memchr(name, '=', len);
    if (!slash || !equals || slash > equals || len >= CDI_NAME_MAX)
        return false;
    return cdi_vendor_or_class_valid(name, (size_t)(slash - name)) &&
           cdi_vendor_or_class_valid(slash + 1, (size_t)(equals - slash - 1)) &&
           cdi_device_name_valid(equals + 1, len - (size_t)(equals + 1 - name));
}

bool cdi_name_valid(const char *name)
{
    return is_qualified(name, strlen(name));
}

static bool is_ours(const Cri__ContainerConfig__AnnotationsEntry *a)
{
    return str_has_prefix(a->key, CDI_ANNOTATION);
}

bool cdi_is_requested(const Cri__ContainerConfig *config)
{
    if (config->n_cdi_devices > 0)
        return true;
    for (size_t i = 0; i < config->n_annotations; i++) {
        if (is_ours(config->annotations[i]))
            return true;
    }
    return false;
}

static const char *const form = "is not the name of a CDI device (vendor.com/class=name)";

static int check_annotation(const Cri__ContainerConfig__AnnotationsEntry *a, size_t *total, struct error *err)
{
    const char *at = a->value;
    for (;;) {
        size_t len = strcspn(at, ",");
        if (!is_qualified(at, len))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "annotations[\"%.200s\"]: \"%.*s\" %s",
                             a->key, len < 200 ? (int)len : 200, at, form);
        ++*total;
        if (at[len] == '\0')
            return 0;
        at += len + 1;
    }
}

int cdi_check_requests(const Cri__ContainerConfig *config, struct error *err)
{
    size_t total = config->n_cdi_devices;
    int r = 0;
    for (size_t i = 0; i < config->n_cdi_devices; i++) {
        if (!cdi_name_valid(config->cdi_devices[i]->name))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "CDI_devices[%zu].name: \"%.200s\" %s", i,
                             config->cdi_devices[i]->name, form);
    }
    for (size_t i = 0; r == 0 && i < config->n_annotations; i++) {
        if (is_ours(config->annotations[i]))
            r = check_annotation(config->annotations[i], &total, err);
    }
    if (r == 0 && total > CDI_REQUESTS_MAX)
        r = error_set(err, STATUS_INVALID_ARGUMENT, E2BIG, "CDI_devices: more than %d, with annotations",
                      CDI_REQUESTS_MAX);
    return r;
}

int cdi_list_requests(const Cri__ContainerConfig *config, struct arena *arena, char ***names, size_t *n,
                      struct error *err)
{
    char **list = arena_alloc(arena, CDI_REQUESTS_MAX * sizeof(*list));
    bool short_of_memory = !list;
    *n = 0;
    for (size_t i = 0; list && i < config->n_cdi_devices && *n < CDI_REQUESTS_MAX; i++)
        list[(*n)++] = config->cdi_devices[i]->name;
    for (size_t i = 0; list && i < config->n_annotations; i++) {
        const char *at = config->annotations[i]->value;
        while (is_ours(config->annotations[i]) && *at && *n < CDI_REQUESTS_MAX) {
            size_t len = strcspn(at, ",");
            list[*n] = arena_strndup(arena, at, len);
            short_of_memory = short_of_memory || !list[*n];
            ++*n;
            at += len + (at[len] == ',');
        }
    }
    *names = list;
    return short_of_memory ? error_errno(err, ENOMEM, "list the CDI devices") : 0;
}
