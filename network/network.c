#include "network/network.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cni/json.h"
#include "network/internal.h"

#define DEFAULT_TIMEOUT_NS (120 * NS_PER_SEC)

static int copy_options(struct network *net, const struct network_options *o)
{
    net->plugin_timeout_ns = o->plugin_timeout_ns > 0 ? o->plugin_timeout_ns : DEFAULT_TIMEOUT_NS;
    net->exclusive = o->exclusive;
    net->cache_dir = strdup(o->cache_dir);
    net->bin_dirs = strv_new(0);
    net->turns = map_new();
    net->pending = map_new();
    if (!net->cache_dir || !net->bin_dirs || !net->turns || !net->pending)
        return -ENOMEM;
    for (const char *const *dir = o->bin_dirs; *dir; dir++)
        if (strv_append(&net->bin_dirs, *dir) < 0)
            return -ENOMEM;
    return 0;
}

static int start(struct network *net, const struct network_options *o, struct error *err)
{
    int r = copy_options(net, o);
    if (r < 0)
        return error_errno(err, -r, "network");
    net->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    net->gc_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (net->stop_fd < 0 || net->gc_fd < 0)
        return error_errno(err, errno, "network");
    r = file_mkdir_p(o->cache_dir, 0700, err);
    if (r == 0 && o->netns_dir)
        r = file_mkdir_p(o->netns_dir, 0755, err);
    if (r == 0)
        r = cni_record_clean(net->cache_dir, err);
    if (r == 0)
        r = cni_config_open(o->conf_dir, o->bin_dirs, &net->config, err);
    if (r == 0)
        r = network_worker_start(net, err);
    return r;
}

int network_open(const struct network_options *options, struct network **out, struct error *err)
{
    struct network *net = calloc(1, sizeof(*net));
    if (!net)
        return error_errno(err, ENOMEM, "network");
    net->stop_fd = net->gc_fd = -1;
    (void)pthread_mutex_init(&net->lock, NULL);
    (void)pthread_cond_init(&net->changed, NULL);
    int r = start(net, options, err);
    if (r < 0) {
        network_close(net);
        return r;
    }
    *out = net;
    return 0;
}

void network_shutdown(struct network *net)
{
    (void)eventfd_write(net->stop_fd, 1); // first: run_gc() looks at it
    (void)eventfd_write(net->gc_fd, 1);
}

void network_close(struct network *net)
{
    if (!net)
        return;
    network_worker_stop(net);
    cni_config_close(net->config);
    for (struct map_iter it = {0}; net->pending && map_next(net->pending, &it);)
        free(it.value);
    map_free(net->pending);
    map_free(net->turns);
    strv_free(net->bin_dirs);
    free(net->cache_dir);
    free(net->pod_cidr);
    fd_closep(&net->stop_fd);
    fd_closep(&net->gc_fd);
    (void)pthread_cond_destroy(&net->changed);
    (void)pthread_mutex_destroy(&net->lock);
    free(net);
}

void network_get_status(struct network *net, struct network_status *out)
{
    struct cni_config_state state;
    *out = (struct network_status){0};
    cni_config_get_state(net->config, &state);
    out->ready = state.list && !state.problem[0];
    if (!out->ready)
        (void)snprintf(out->reason, sizeof(out->reason), "NetworkPluginNotReady");
    (void)snprintf(out->message, sizeof(out->message), "%s",
                   state.problem[0] ? state.problem : state.load_error);
    cni_conflist_unref(state.list);
}

bool network_is_loaded(struct network *net)
{
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = cni_config_get(net->config);
    return list != NULL;
}

static json_t *list_pending(struct network *net)
{
    json_t *array = json_array();
    int64_t now = clock_mono_ns();
    (void)pthread_mutex_lock(&net->lock);
    for (struct map_iter it = {0}; map_next(net->pending, &it);) {
        const struct pending *p = it.value;
        int64_t wait_ms = p->due_mono_ns > now ? (p->due_mono_ns - now) / NS_PER_MS : 0;
        _cleanup_free_ char *why = str_sanitize_utf8(p->last_error);
        json_t *item = json_pack("{s:s, s:i, s:I, s:s}", "pod", it.key, "attempts", (int)p->attempts,
                                 "nextInMs", (json_int_t)wait_ms, "lastError", why ? why : "");
        if (item)
            (void)json_array_append_new(array, item);
    }
    (void)pthread_mutex_unlock(&net->lock);
    return array;
}

char *network_info_json(struct network *net)
{
    struct cni_config_state state;
    cni_config_get_state(net->config, &state);
    _cleanup_free_ char *load_error = str_sanitize_utf8(state.load_error);
    _cleanup_free_ char *problem = str_sanitize_utf8(state.problem);
    _cleanup_json_ json_t *info = json_object();
    if (state.list) {
        _cleanup_free_ char *path = str_sanitize_utf8(state.list->path);
        json_t *network =
            json_pack("{s:s, s:s, s:s, s:O}", "name", state.list->name, "file", path ? path : "",
                      "cniVersion", state.list->version, "config", state.list->json);
        (void)json_object_set_new(info, "network", network ? network : json_null());
    }
    cni_conflist_unref(state.list);
    (void)json_object_set_new(info, "lastLoadError", json_string(load_error ? load_error : ""));
    (void)json_object_set_new(info, "problem", json_string(problem ? problem : ""));
    (void)json_object_set_new(info, "pendingTearDowns", list_pending(net));
    (void)pthread_mutex_lock(&net->lock);
    (void)json_object_set_new(info, "podCIDR", json_string(net->pod_cidr ? net->pod_cidr : ""));
    (void)pthread_mutex_unlock(&net->lock);
    return info ? json_dumps(info, JSON_COMPACT) : NULL;
}

// 4 or 6; 0: not a CIDR.
static int cidr_family(const char *s, size_t len)
{
    char text[64];
    unsigned char raw[sizeof(struct in6_addr)];
    uint64_t prefix;
    if (len >= sizeof(text))
        return 0;
    memcpy(text, s, len);
    text[len] = '\0';
    char *slash = strchr(text, '/');
    if (!slash)
        return 0;
    *slash = '\0';
    if (inet_pton(AF_INET, text, raw) == 1)
        return str_parse_u64(slash + 1, 0, 32, &prefix) == 0 ? 4 : 0;
    if (inet_pton(AF_INET6, text, raw) == 1)
        return str_parse_u64(slash + 1, 0, 128, &prefix) == 0 ? 6 : 0;
    return 0;
}

int network_set_pod_cidr(struct network *net, const char *cidr, struct error *err)
{
    if (str_empty(cidr))
        return 0;
    size_t first = strcspn(cidr, ",");
    const char *second = cidr[first] ? cidr + first + 1 : NULL;
    int a = cidr_family(cidr, first), b = second ? cidr_family(second, strlen(second)) : 0;
    if (!a || (second && (!b || a == b)))
        return error_set(
            err, STATUS_INVALID_ARGUMENT, EINVAL,
            "pod_cidr \"%.100s\" is neither a CIDR nor an IPv4 and an IPv6 one separated by a comma", cidr);
    char *copy = strdup(cidr);
    if (!copy)
        return error_errno(err, ENOMEM, "pod_cidr");
    (void)pthread_mutex_lock(&net->lock);
    free(net->pod_cidr);
    net->pod_cidr = copy;
    (void)pthread_mutex_unlock(&net->lock);
    return 0;
}
