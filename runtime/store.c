// The maps of pods and containers, their counting, finding and listing.
#include "runtime/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/health.h"

// ---- Pods ----

static void pod_free(struct pod *pod)
{
    struct pod_private *p = pod->private;
    if (p) {
        stats_cache_done(&p->stats);
        podconn_unref(p->conn);
        free(p->key);
        free(p->cgroup);
        free(p->supervisor_leaf);
        strv_free(p->network_storage.ips);
        free(p->failure);
        if (p->resources)
            cri__linux_container_resources__free_unpacked(p->resources, NULL);
        if (p->overhead)
            cri__linux_container_resources__free_unpacked(p->overhead, NULL);
        free(p);
    }
    if (pod->config)
        protobuf_c_message_free_unpacked((ProtobufCMessage *)pod->config, NULL);
    free((char *)pod->handler);
    free((char *)pod->dir);
    free((char *)pod->netns);
    free(pod);
}

struct pod *pod_ref(struct pod *pod)
{
    atomic_fetch_add(&pod->private->refs, 1);
    return pod;
}

void pod_unref(struct pod *pod)
{
    if (pod && atomic_fetch_sub(&pod->private->refs, 1) == 1)
        pod_free(pod);
}

void pod_unrefp(struct pod **pod)
{
    pod_unref(*pod);
    *pod = NULL;
}

static char *pod_key(const Cri__PodSandboxMetadata *m)
{
    // '/' can be in none of them (DNS labels and a UUID), and were it so, the lengths would still tell.
    return str_printf("%zu/%zu/%s/%s/%s/%u", strlen(m->namespace_), strlen(m->name), m->namespace_, m->name,
                      m->uid, m->attempt);
}

// Where the pod's cgroups are: where they were made, whatever driver was configured then. A pod from the
// records that has none any more, and whose cgroup_parent is the other driver's, gets a place that is never
// made.
static int pod_place(struct pod *pod, char place[CGROUP_PATH_MAX], struct error *err)
{
    struct runtime *rt = pod->private->rt;
    struct rundir_state state;
    const char *parent = pod->config->linux ? pod->config->linux->cgroup_parent : "";
    if (rundir_read_state(pod->dir, &state, NULL) == 0 && state.cgroup[0] == '/') {
        (void)snprintf(place, CGROUP_PATH_MAX, "%s", state.cgroup);
        return 0;
    }
    int r = cgroup_pod_path(rt->cgroups, parent, pod->id, place, err);
    return r < 0 && !str_empty(parent) ? cgroup_pod_path(rt->cgroups, "", pod->id, place, err) : r;
}

static int pod_paths(struct pod *pod, struct error *err)
{
    struct pod_private *p = pod->private;
    struct runtime *rt = p->rt;
    char place[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];

    pod->dir = str_printf("%s/%s", rt->pods_dir, pod->id);
    pod->netns = pod->host_network ? strdup("") : str_printf("%s/%s", rt->netns_dir, pod->id);
    p->key = pod_key(pod->config->metadata);
    if (!pod->dir || !pod->netns || !p->key)
        return error_errno(err, ENOMEM, "pod sandbox %s", pod->id);
    int r = pod_place(pod, place, err);
    if (r == 0)
        r = cgroup_leaf_path(place, pod->id, leaf, err);
    if (r < 0)
        return r;
    p->cgroup = strdup(place);
    p->supervisor_leaf = strdup(leaf);
    return p->cgroup && p->supervisor_leaf ? 0 : error_errno(err, ENOMEM, "pod sandbox %s", pod->id);
}

struct pod *pod_new(struct runtime *rt, const char *id, int64_t created_at_ns,
                    const Cri__PodSandboxConfig *config, const char *handler, struct error *err)
{
    struct pod *pod = calloc(1, sizeof(*pod));
    if (!pod || !(pod->private = calloc(1, sizeof(*pod->private)))) {
        free(pod);
        error_errno(err, ENOMEM, "pod sandbox");
        return NULL;
    }
    pod->private->rt = rt;
    stats_cache_init(&pod->private->stats);
    atomic_init(&pod->private->refs, 1);
    memcpy(pod->id, id, RUNTIME_ID_LEN);
    pod->created_at_ns = created_at_ns;
    pod->config = (const Cri__PodSandboxConfig *)pb_dup(&config->base, NULL);
    pod->handler = strdup(handler);
    pod->host_network = policy_host_network(config);
    if (!pod->config || !pod->handler) {
        error_errno(err, ENOMEM, "pod sandbox %s", id);
        pod_free(pod);
        return NULL;
    }
    if (pod_paths(pod, err) < 0) {
        pod_free(pod);
        return NULL;
    }
    return pod;
}

int store_add_pod(struct runtime *rt, struct pod *pod)
{
    if (map_set(rt->pods, pod->id, pod) < 0)
        return -ENOMEM;
    if (map_set(rt->pod_names, pod->private->key, pod) < 0) {
        map_remove(rt->pods, pod->id);
        return -ENOMEM;
    }
    pod_ref(pod);
    return 0;
}

void store_drop_pod(struct runtime *rt, struct pod *pod)
{
    if (pod->private->forgotten)
        return;
    pod->private->forgotten = true;
    map_remove(rt->pods, pod->id);
    if (map_get(rt->pod_names, pod->private->key) == pod)
        map_remove(rt->pod_names, pod->private->key);
    pod_unref(pod); // the caller holds another
}

struct podconn *store_pod_conn(struct runtime *rt, struct pod *pod)
{
    store_lock(rt);
    struct podconn *conn = pod->private->conn ? podconn_ref(pod->private->conn) : NULL;
    store_unlock(rt);
    return conn;
}

void runtime_pod_view(struct runtime *rt, struct pod *pod, struct pod_view *out)
{
    struct pod_private *p = pod->private;
    store_lock(rt);
    *out = (struct pod_view){
        .state = p->state,
        .network = p->network,
        .pid = p->pid,
        .cgroup = p->cgroup,
    };
    store_unlock(rt);
}

// ---- Containers ----

static char *no_images[] = {NULL};

static void container_free(struct container *c)
{
    struct container_private *p = c->private;
    if (p) {
        stats_cache_done(&p->stats);
        free(p->key);
        free(p->image_id);
        strv_free(p->mounted_images);
        free(p->cgroup);
        free(p->log_path);
        free(p->message);
        free(p->failure);
        health_free(p->health);
        if (p->start)
            pod__start_request__free_unpacked(p->start, NULL);
        if (p->user)
            pod__resolved_user__free_unpacked(p->user, NULL);
        if (p->asked)
            cri__linux_container_resources__free_unpacked(p->asked, NULL);
        if (p->in_force)
            cri__linux_container_resources__free_unpacked(p->in_force, NULL);
        free(p);
    }
    if (c->config)
        protobuf_c_message_free_unpacked((ProtobufCMessage *)c->config, NULL);
    pod_unref(c->pod);
    free(c);
}

struct container *container_ref(struct container *c)
{
    atomic_fetch_add(&c->private->refs, 1);
    return c;
}

void container_unref(struct container *c)
{
    if (c && atomic_fetch_sub(&c->private->refs, 1) == 1)
        container_free(c);
}

void container_unrefp(struct container **c)
{
    container_unref(*c);
    *c = NULL;
}

static char *log_path_of(const struct pod *pod, const Cri__ContainerConfig *config)
{
    if (str_empty(config->log_path) || str_empty(pod->config->log_directory))
        return strdup("");
    return str_printf("%s/%s", pod->config->log_directory, config->log_path);
}

struct container *container_new(struct runtime *rt, struct pod *pod, const char *id, int64_t created_at_ns,
                                const Cri__ContainerConfig *config, struct error *err)
{
    char leaf[CGROUP_PATH_MAX];
    if (cgroup_leaf_path(pod->private->cgroup, id, leaf, err) < 0)
        return NULL;
    struct container *c = calloc(1, sizeof(*c));
    if (!c || !(c->private = calloc(1, sizeof(*c->private)))) {
        free(c);
        error_errno(err, ENOMEM, "container");
        return NULL;
    }
    struct container_private *p = c->private;
    p->rt = rt;
    stats_cache_init(&p->stats);
    p->reason = "";
    p->kill_at_mono_ns = INT64_MAX;
    atomic_init(&p->refs, 1);
    memcpy(c->id, id, RUNTIME_ID_LEN);
    c->created_at_ns = created_at_ns;
    c->pod = pod_ref(pod);
    c->config = (const Cri__ContainerConfig *)pb_dup(&config->base, NULL);
    c->log_path = p->log_path = log_path_of(pod, config);
    c->cgroup = p->cgroup = strdup(leaf);
    c->image_id = "";
    c->mounted_images = no_images;
    p->key = str_printf("%s/%s/%u", pod->id, config->metadata->name, config->metadata->attempt);
    if (!c->config || !p->log_path || !p->cgroup || !p->key) {
        error_errno(err, ENOMEM, "container %s", id);
        container_free(c);
        return NULL;
    }
    return c;
}

int store_add_container(struct runtime *rt, struct container *c)
{
    if (map_set(rt->containers, c->id, c) < 0)
        return -ENOMEM;
    if (map_set(rt->container_names, c->private->key, c) < 0) {
        map_remove(rt->containers, c->id);
        return -ENOMEM;
    }
    container_ref(c);
    return 0;
}

void store_drop_container(struct runtime *rt, struct container *c)
{
    if (c->private->forgotten)
        return;
    c->private->forgotten = true;
    map_remove(rt->containers, c->id);
    if (map_get(rt->container_names, c->private->key) == c)
        map_remove(rt->container_names, c->private->key);
    container_unref(c); // the caller holds another
}

void runtime_container_view(struct runtime *rt, struct container *c, struct container_view *out)
{
    struct container_private *p = c->private;
    store_lock(rt);
    *out = (struct container_view){
        .state = p->state,
        .started_at_ns = p->started_at_ns,
        .finished_at_ns = p->finished_at_ns,
        .exit_code = p->exit_code,
        .pid = p->state == CONTAINER_RUNNING ? p->pid : 0,
        .reason = p->reason,
        .message = p->message ? p->message : "",
        .user = p->user,
    };
    store_unlock(rt);
}

// ---- Finding ----

// By id or unambiguous prefix; the lock is held.
static int find(const struct map *m, const char *what, const char *id, void **out, struct error *err)
{
    if (str_empty(id))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s id is empty", what);
    *out = map_get(m, id);
    if (*out)
        return 0;
    if (strlen(id) < RUNTIME_ID_LEN) {
        for (struct map_iter it = {0}; map_next(m, &it);) {
            if (!str_has_prefix(it.key, id))
                continue;
            if (*out)
                return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                                 "%s id \"%s\" is ambiguous: give more digits", what, id);
            *out = it.value;
        }
    }
    if (!*out)
        return error_set(err, STATUS_NOT_FOUND, ENOENT, "%s \"%.128s\" does not exist", what, id);
    return 0;
}

int runtime_pod_find(struct runtime *rt, const char *id, struct pod **out, struct error *err)
{
    void *found = NULL;
    store_lock(rt);
    int r = find(rt->pods, "pod sandbox", id, &found, err);
    if (r == 0)
        *out = pod_ref(found);
    store_unlock(rt);
    return r;
}

int runtime_container_find(struct runtime *rt, const char *id, struct container **out, struct error *err)
{
    void *found = NULL;
    store_lock(rt);
    int r = find(rt->containers, "container", id, &found, err);
    if (r == 0)
        *out = container_ref(found);
    store_unlock(rt);
    return r;
}

// ---- Listing ----

static int newest_pod(const void *a, const void *b)
{
    const struct pod *x = *(struct pod *const *)a, *y = *(struct pod *const *)b;
    return x->created_at_ns < y->created_at_ns ? 1 : x->created_at_ns > y->created_at_ns ? -1 : 0;
}

int runtime_pod_list(struct runtime *rt, bool making, struct pod ***out, size_t *n, struct error *err)
{
    store_lock(rt);
    size_t count = 0;
    struct pod **pods = calloc(map_len(rt->pods) + 1, sizeof(struct pod *));
    if (pods) {
        for (struct map_iter it = {0}; map_next(rt->pods, &it);) {
            struct pod *pod = it.value;
            if (making || pod->private->state != POD_MAKING)
                pods[count++] = pod_ref(pod);
        }
    }
    store_unlock(rt);
    if (!pods)
        return error_errno(err, ENOMEM, "list pod sandboxes");
    qsort(pods, count, sizeof(struct pod *), newest_pod);
    *out = pods;
    *n = count;
    return 0;
}

void runtime_pods_free(struct pod **pods, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pod_unref(pods[i]);
    free(pods);
}

static int newest_container(const void *a, const void *b)
{
    const struct container *x = *(struct container *const *)a, *y = *(struct container *const *)b;
    return x->created_at_ns < y->created_at_ns ? 1 : x->created_at_ns > y->created_at_ns ? -1 : 0;
}

int runtime_container_list(struct runtime *rt, const struct pod *pod, bool making, struct container ***out,
                           size_t *n, struct error *err)
{
    store_lock(rt);
    size_t count = 0;
    struct container **all = calloc(map_len(rt->containers) + 1, sizeof(struct container *));
    if (all) {
        for (struct map_iter it = {0}; map_next(rt->containers, &it);) {
            struct container *c = it.value;
            if ((!pod || c->pod == pod) && (making || c->private->state != CONTAINER_MAKING))
                all[count++] = container_ref(c);
        }
    }
    store_unlock(rt);
    if (!all)
        return error_errno(err, ENOMEM, "list containers");
    qsort(all, count, sizeof(struct container *), newest_container);
    *out = all;
    *n = count;
    return 0;
}

void runtime_containers_free(struct container **containers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        container_unref(containers[i]);
    free(containers);
}

int store_wait_claim(struct runtime *rt, const struct claim *claim, const struct ctx *ctx, struct error *err)
{
    bool waited = claim->same && claim->under_way(claim->owner);
    int r = 0;
    while (claim->same && claim->under_way(claim->owner) && !*claim->forgotten && r == 0)
        r = notify_wait(&rt->lock, claim->changed, ctx, err);
    if (r < 0 || !*claim->forgotten)
        return r;
    if (!waited || !*claim->failure)
        return 1;
    *err = **claim->failure;
    return -err->errnum;
}
