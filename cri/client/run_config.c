// The configuration of `crisp run` as a whole, and what its parts share.
#include "cri/client/run_config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/cli.h"
#include "cri/client/values.h"

#define CONFIG_MAX (64 << 20) // bytes; a command line has less

void *run_config_alloc(struct arena *a, size_t size)
{
    void *p = arena_alloc(a, size);

    if (!p) {
        (void)fputs("crisp: out of memory\n", stderr);
        exit(CLI_EXIT_RUN_FAILED); // NOLINT(concurrency-mt-unsafe)
    }
    return p;
}

char *run_config_printf(struct arena *a, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = run_config_alloc(a, (size_t)(len < 0 ? 0 : len) + 1);
    va_start(args, format);
    (void)vsnprintf(text, (size_t)(len < 0 ? 0 : len) + 1, format, args);
    va_end(args);
    return text;
}

void *run_config_grow(struct arena *a, void *list, size_t n)
{
    if (n & (n - 1)) // it has room up to the next power of two
        return list;
    void *larger = run_config_alloc(a, (n ? 2 * n : 1) * sizeof(void *));
    if (n)
        memcpy(larger, list, n * sizeof(void *));
    return larger;
}

int run_config_bad(struct error *err, const char *option, const char *value, const char *must_be)
{
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "--%s \"%s\": must be %s", option, value, must_be);
}

int run_config_pair(struct arena *a, const char *text, char **key, char **value)
{
    size_t len = strcspn(text, "=");

    if (len == 0 || text[len] == '\0')
        return -EINVAL;
    *key = run_config_printf(a, "%.*s", (int)len, text);
    *value = run_config_printf(a, "%s", text + len + 1);
    return 0;
}

int run_config_number(const char *option, const char *text, int64_t min, int64_t max, int64_t *out,
                      struct error *err)
{
    char must_be[128];

    if (value_integer(text, min, max, out) == 0)
        return 0;
    if (max == INT64_MAX)
        (void)snprintf(must_be, sizeof(must_be), "a whole number of at least %lld", (long long)min);
    else
        (void)snprintf(must_be, sizeof(must_be), "a whole number from %lld to %lld", (long long)min,
                       (long long)max);
    return run_config_bad(err, option, text, must_be);
}

int run_config_size(const char *option, const char *text, int64_t *bytes, struct error *err)
{
    int rc = value_size(text, bytes);

    return rc < 0 ? run_config_bad(err, option, text, "a number of bytes, or with a unit: 512k, 100m, 1.5g")
                  : 0;
}

void run_config_label(struct run_config *c, const char *key, const char *value)
{
    Cri__PodSandboxConfig__LabelsEntry *of_pod = run_config_alloc(c->arena, sizeof(*of_pod));
    Cri__ContainerConfig__LabelsEntry *label = run_config_alloc(c->arena, sizeof(*label));

    cri__pod_sandbox_config__labels_entry__init(of_pod);
    cri__container_config__labels_entry__init(label);
    of_pod->key = label->key = (char *)key;
    of_pod->value = label->value = (char *)value;
    RUN_CONFIG_ADD(c->arena, c->pod.labels, c->pod.n_labels, of_pod);
    RUN_CONFIG_ADD(c->arena, c->container.labels, c->container.n_labels, label);
}

void run_config_annotate(struct run_config *c, const char *key, const char *value)
{
    Cri__ContainerConfig__AnnotationsEntry *entry = run_config_alloc(c->arena, sizeof(*entry));

    cri__container_config__annotations_entry__init(entry);
    entry->key = (char *)key;
    entry->value = (char *)value;
    RUN_CONFIG_ADD(c->arena, c->container.annotations, c->container.n_annotations, entry);
}

void run_config_annotate_pod(struct run_config *c, const char *key, const char *value)
{
    Cri__PodSandboxConfig__AnnotationsEntry *entry = run_config_alloc(c->arena, sizeof(*entry));

    cri__pod_sandbox_config__annotations_entry__init(entry);
    entry->key = (char *)key;
    entry->value = (char *)value;
    RUN_CONFIG_ADD(c->arena, c->pod.annotations, c->pod.n_annotations, entry);
}

static int add_pairs(struct run_config *c, const char *option, char **pairs,
                     void (*add)(struct run_config *c, const char *key, const char *value), struct error *err)
{
    for (size_t i = 0; i < strv_len(pairs); i++) {
        char *key, *value;
        if (run_config_pair(c->arena, pairs[i], &key, &value) < 0)
            return run_config_bad(err, option, pairs[i], "NAME=VALUE");
        add(c, key, value);
    }
    return 0;
}

static void init(struct run_config *c, const char *name, const char *uid, const char *image)
{
    cri__pod_sandbox_config__init(&c->pod);
    cri__pod_sandbox_metadata__init(&c->pod_meta);
    cri__linux_pod_sandbox_config__init(&c->pod_linux);
    cri__linux_sandbox_security_context__init(&c->pod_security);
    cri__container_config__init(&c->container);
    cri__container_metadata__init(&c->meta);
    cri__image_spec__init(&c->image);
    cri__linux_container_config__init(&c->container_linux);
    cri__linux_container_resources__init(&c->resources);
    cri__linux_container_security_context__init(&c->security);
    cri__namespace_option__init(&c->namespaces);
    c->pod_meta.name = c->meta.name = (char *)name;
    c->pod_meta.uid = (char *)uid;
    c->pod_meta.namespace_ = (char *)"default";
    c->image.image = c->image.user_specified_image = (char *)image;
    c->pod.metadata = &c->pod_meta;
    c->pod.linux = &c->pod_linux;
    c->pod_linux.security_context = &c->pod_security;
    c->pod_security.namespace_options = c->security.namespace_options = &c->namespaces;
    c->container.metadata = &c->meta;
    c->container.image = &c->image;
    c->container.log_path = (char *)RUN_LOG_NAME;
    c->container.linux = &c->container_linux;
    c->container_linux.resources = &c->resources;
    c->container_linux.security_context = &c->security;
}

int run_config_make(struct run_config *c, struct run_options *o, const char *name, const char *uid,
                    const char *label, const char *image, char **args, struct error *err)
{
    const char *pids = NULL;

    *c = (struct run_config){.arena = arena_new(CONFIG_MAX)};
    if (!c->arena)
        return error_errno(err, ENOMEM, "make the container's configuration");
    init(c, name, uid, image);
    run_config_label(c, RUN_LABEL_ID, label);
    if (o->remove)
        run_config_label(c, RUN_LABEL_REMOVE, "true");
    int rc = add_pairs(c, "label", o->label, run_config_label, err);
    if (rc == 0)
        rc = add_pairs(c, "annotation", o->annotation, run_config_annotate, err);
    if (rc == 0)
        rc = run_config_process(c, &o->process, args, err);
    if (rc == 0)
        rc = run_config_resources(c->arena, &c->resources, &o->resources, &pids, err);
    if (rc == 0 && pids)
        run_config_annotate(c, RUN_ANNOTATION "pids-limit", pids);
    if (rc == 0)
        rc = run_config_mounts(c, o, err);
    if (rc == 0)
        rc = run_config_extra(c, &o->extra, err);
    if (rc == 0)
        rc = run_config_health(c, &o->extra, err);
    if (rc == 0)
        rc = run_config_security(c, &o->security, err);
    return rc < 0 ? rc : run_config_pod(c, &o->pod, err);
}

void run_config_done(struct run_config *c)
{
    arena_freep(&c->arena);
}
