// Rows of pods and containers. Columns are only what is queried or changes; the rest is the message.
#include "runtime/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/db/db.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"

// The numbers of the states are part of the format.
static_assert(POD_MAKING == 0 && POD_READY == 1 && POD_NOTREADY == 2, "recorded");
static_assert(CONTAINER_CREATED == 1 && CONTAINER_RUNNING == 2 && CONTAINER_EXITED == 3, "recorded");

static const char *const migrations[] = {
    "CREATE TABLE runtime_pod(id TEXT PRIMARY KEY, created_at_ns INTEGER NOT NULL, state INTEGER NOT NULL,"
    " handler TEXT NOT NULL, cgroup_levels INTEGER NOT NULL DEFAULT 0, ips TEXT NOT NULL DEFAULT '',"
    " config BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE runtime_container(id TEXT PRIMARY KEY, pod_id TEXT NOT NULL, created_at_ns INTEGER NOT "
    "NULL,"
    " state INTEGER NOT NULL, image_id TEXT NOT NULL, stop_signal INTEGER NOT NULL,"
    " started_at_ns INTEGER NOT NULL DEFAULT 0, finished_at_ns INTEGER NOT NULL DEFAULT 0,"
    " exit_code INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT "
    "'',"
    " user BLOB, config BLOB NOT NULL, start BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE runtime_boot(one INTEGER PRIMARY KEY CHECK(one=1), boot_id TEXT NOT NULL);"
    "CREATE TABLE runtime_bad(kind TEXT NOT NULL, id TEXT NOT NULL, at_ns INTEGER NOT NULL, why TEXT NOT "
    "NULL,"
    " config BLOB);",
    "ALTER TABLE runtime_container ADD COLUMN mounted_images TEXT NOT NULL DEFAULT '';",
    // What updates have made of the configurations' resources; NULL: nothing.
    "ALTER TABLE runtime_container ADD COLUMN resources BLOB;"
    "ALTER TABLE runtime_pod ADD COLUMN resources BLOB;"
    "ALTER TABLE runtime_pod ADD COLUMN overhead BLOB;",
};

const struct db_module runtime_db_module = {
    .name = "runtime",
    .migrations = migrations,
    .n_migrations = ARRAY_SIZE(migrations),
};

// ---- Writing ----

// "a b c", to be freed; NULL on ENOMEM.
static char *join_words(char *const *words)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    int r = buf_append_str(&b, "");
    for (size_t i = 0; r == 0 && words[i]; i++)
        r = buf_printf(&b, "%s%s", i ? " " : "", words[i]);
    char *out = r == 0 ? strdup(b.data ? b.data : "") : NULL;
    buf_done(&b);
    return out;
}

// The other way. NULL on ENOMEM.
static char **split_words(const char *text)
{
    _cleanup_strv_ char **words = strv_new(0);
    while (words && *text) {
        size_t n = strcspn(text, " ");
        _cleanup_free_ char *word = strndup(text, n);
        if (!word || strv_append(&words, word) < 0)
            return NULL;
        text += n + (text[n] == ' ');
    }
    return steal_ptr(&words);
}

int record_pod_insert(struct runtime *rt, const struct pod *pod, struct error *err)
{
    _cleanup_free_ uint8_t *config = NULL;
    size_t len;
    if (pb_pack(&pod->config->base, &config, &len) < 0)
        return error_errno(err, ENOMEM, "record pod sandbox %s", pod->id);
    int r = db_exec(rt->db, err,
                    "INSERT INTO runtime_pod(id, created_at_ns, state, handler, config) VALUES(?,?,?,?,?)",
                    "siisb", pod->id, pod->created_at_ns, (int64_t)POD_MAKING, pod->handler, config, len);
    return r < 0 ? error_wrap(err, "record pod sandbox %s", pod->id) : 0;
}

int record_pod_state(struct runtime *rt, struct pod *pod, enum pod_state state, struct error *err)
{
    struct pod_private *p = pod->private;
    static char *none[] = {NULL};
    _cleanup_free_ char *ips = join_words(p->network_storage.ips ? p->network_storage.ips : none);
    if (!ips)
        return error_errno(err, ENOMEM, "record the state of pod sandbox %s", pod->id);
    int r = db_exec(rt->db, err, "UPDATE runtime_pod SET state=?, cgroup_levels=?, ips=? WHERE id=?", "iiss",
                    (int64_t)state, (int64_t)p->cgroup_levels, ips, pod->id);
    return r < 0 ? error_wrap(err, "record the state of pod sandbox %s", pod->id) : 0;
}

int record_pod_delete(struct runtime *rt, const struct pod *pod, struct error *err)
{
    int r = db_exec(rt->db, err, "DELETE FROM runtime_pod WHERE id=?", "s", pod->id);
    return r < 0 ? error_wrap(err, "drop the record of pod sandbox %s", pod->id) : 0;
}

int record_container_insert(struct runtime *rt, const struct container *c, struct error *err)
{
    _cleanup_free_ uint8_t *config = NULL, *start = NULL;
    size_t config_len, start_len;
    _cleanup_free_ char *images = join_words(c->mounted_images);
    if (!images || pb_pack(&c->config->base, &config, &config_len) < 0 ||
        pb_pack(&c->private->start->base, &start, &start_len) < 0)
        return error_errno(err, ENOMEM, "record container %s", c->id);
    int r = db_exec(
        rt->db, err,
        "INSERT INTO runtime_container(id, pod_id, created_at_ns, state, image_id, stop_signal, config,"
        " start, mounted_images) VALUES(?,?,?,?,?,?,?,?,?)",
        "ssiisibbs", c->id, c->pod->id, c->created_at_ns, (int64_t)CONTAINER_CREATED, c->image_id,
        (int64_t)c->stop_signal, config, config_len, start, start_len, images);
    return r < 0 ? error_wrap(err, "record container %s", c->id) : 0;
}

int record_container_state(struct runtime *rt, struct container *c, struct error *err)
{
    struct container_view v;
    runtime_container_view(rt, c, &v);
    _cleanup_free_ uint8_t *user = NULL;
    size_t user_len = 0;
    if (v.user && pb_pack(&v.user->base, &user, &user_len) < 0)
        return error_errno(err, ENOMEM, "record the state of container %s", c->id);
    // UNKNOWN is for as long as crisp-pod doesn't answer; what is recorded is what it was before.
    enum container_state state = v.state == CONTAINER_UNKNOWN ? CONTAINER_RUNNING : v.state;
    int r = db_exec(
        rt->db, err,
        "UPDATE runtime_container SET state=?, started_at_ns=?, finished_at_ns=?, exit_code=?, reason=?,"
        " message=?, user=? WHERE id=?",
        "iiiissbs", (int64_t)state, v.started_at_ns, v.finished_at_ns, (int64_t)v.exit_code, v.reason,
        v.message, user, user_len, c->id);
    return r < 0 ? error_wrap(err, "record the state of container %s", c->id) : 0;
}

int record_container_resources(struct runtime *rt, const struct container *c,
                               const Cri__LinuxContainerResources *asked, struct error *err)
{
    _cleanup_free_ uint8_t *data = NULL;
    size_t len;
    if (pb_pack(&asked->base, &data, &len) < 0)
        return error_errno(err, ENOMEM, "record the resources of container %s", c->id);
    int r =
        db_exec(rt->db, err, "UPDATE runtime_container SET resources=? WHERE id=?", "bs", data, len, c->id);
    return r < 0 ? error_wrap(err, "record the resources of container %s", c->id) : 0;
}

int record_pod_resources(struct runtime *rt, const struct pod *pod, const struct pod_resources *r,
                         struct error *err)
{
    _cleanup_free_ uint8_t *resources = NULL, *overhead = NULL;
    size_t resources_len = 0, overhead_len = 0;
    if ((r->resources && pb_pack(&r->resources->base, &resources, &resources_len) < 0) ||
        (r->overhead && pb_pack(&r->overhead->base, &overhead, &overhead_len) < 0))
        return error_errno(err, ENOMEM, "record the resources of pod sandbox %s", pod->id);
    int n = db_exec(rt->db, err, "UPDATE runtime_pod SET resources=?, overhead=? WHERE id=?", "bbs",
                    resources, resources_len, overhead, overhead_len, pod->id);
    return n < 0 ? error_wrap(err, "record the resources of pod sandbox %s", pod->id) : 0;
}

int record_container_delete(struct runtime *rt, const struct container *c, struct error *err)
{
    int r = db_exec(rt->db, err, "DELETE FROM runtime_container WHERE id=?", "s", c->id);
    return r < 0 ? error_wrap(err, "drop the record of container %s", c->id) : 0;
}

// Writes until nothing is unsaved. Whoever has set `saving` is the only one here, so that an older state
// never overwrites a newer one. On failure it stays set.
static int save(struct runtime *rt, struct container *c, struct error *err)
{
    struct container_private *p = c->private;
    for (;;) {
        store_lock(rt);
        bool unsaved = p->unsaved && !p->forgotten;
        p->unsaved = false;
        p->saving = unsaved;
        store_unlock(rt);
        if (!unsaved)
            return 0;
        int r = record_container_state(rt, c, err);
        if (r < 0) {
            store_lock(rt);
            p->unsaved = true;
            store_unlock(rt);
            return r;
        }
    }
}

static int save_job(void *data, unsigned attempt)
{
    struct container *c = data;
    struct error err = ERROR_INIT;
    struct container_view v;
    int r = save(c->private->rt, c, &err);
    if (r < 0 && attempt == 0)
        log_error("state not recorded, trying again", "container", c->id, "error", err.message);
    runtime_container_view(c->private->rt, c, &v);
    if (r == 0 && v.state == CONTAINER_EXITED) // said here and not by the monitor, whose thread mustn't block
        log_info("container has exited", "container", c->id, "pod", c->pod->id, "reason", v.reason);
    return r;
}

static void save_job_drop(void *data)
{
    container_unref(data);
}

// true: the caller is the one to save it.
static bool save_begin(struct runtime *rt, struct container *c)
{
    struct container_private *p = c->private;
    store_lock(rt);
    bool ours = !p->saving && p->state != CONTAINER_MAKING;
    p->unsaved = true;
    p->saving = p->saving || ours;
    store_unlock(rt);
    return ours;
}

static void save_queue(struct runtime *rt, struct container *c)
{
    if (worker_add(rt->worker, save_job, save_job_drop, container_ref(c), 0) == 0)
        return;
    store_lock(rt);
    c->private->saving = false; // the next change tries again, and crisp-pod knows the state too
    store_unlock(rt);
}

void record_container_later(struct runtime *rt, struct container *c)
{
    if (save_begin(rt, c))
        save_queue(rt, c);
}

void record_flush(struct runtime *rt)
{
    for (struct map_iter it = {0}; map_next(rt->containers, &it);) {
        struct container *c = it.value;
        struct error err = ERROR_INIT;
        if (c->private->unsaved && record_container_state(rt, c, &err) < 0)
            log_error("state not recorded", "container", c->id, "error", err.message);
    }
}

// ---- Reading ----

struct bad { // found while walking rows, moved afterwards
    struct bad *next;
    const char *kind;
    char id[RUNTIME_ID_LEN + 1];
    char why[256];
};

struct load {
    struct runtime *rt;
    struct bad *bad;
};

static int note_bad(struct load *load, const char *kind, const char *id, const char *why)
{
    log_error("BAD RECORD set aside in table runtime_bad", "kind", kind, "id", id, "why", why);
    struct bad *bad = calloc(1, sizeof(*bad));
    if (!bad)
        return -ENOMEM;
    bad->kind = kind;
    snprintf(bad->id, sizeof(bad->id), "%s", id);
    snprintf(bad->why, sizeof(bad->why), "%s", why);
    bad->next = load->bad;
    load->bad = bad;
    return 0;
}

static ProtobufCMessage *column_message(struct db_row *row, int column,
                                        const ProtobufCMessageDescriptor *type)
{
    size_t len;
    const void *data = db_row_blob(row, column, &len);
    return protobuf_c_message_unpack(type, NULL, len, data ? data : (const void *)"");
}

// NULL: there are none, or they can't be read: then those of the configuration count.
static Cri__LinuxContainerResources *column_resources(struct db_row *row, int column)
{
    size_t len;
    (void)db_row_blob(row, column, &len);
    return len ? (Cri__LinuxContainerResources *)column_message(row, column,
                                                                &cri__linux_container_resources__descriptor)
               : NULL;
}

// "10.0.0.2 fd00::2" into network_storage: 0 or -ENOMEM.
static int load_ips(struct pod_private *p, const char *text)
{
    p->network_storage.ips = split_words(text);
    p->network = &p->network_storage;
    return p->network_storage.ips ? 0 : -ENOMEM;
}

static const char *pod_from_row(struct runtime *rt, struct db_row *row, struct error *err)
{
    const char *id = db_row_text(row, 0);
    int64_t state = db_row_int(row, 2);
    if (!str_is_hex(id, RUNTIME_ID_LEN))
        return "its id is not 64 hex digits";
    if (state < POD_MAKING || state > POD_NOTREADY)
        return "its state is none of those known";
    Cri__PodSandboxConfig *config =
        (Cri__PodSandboxConfig *)column_message(row, 6, &cri__pod_sandbox_config__descriptor);
    if (!config || !config->metadata) {
        if (config)
            cri__pod_sandbox_config__free_unpacked(config, NULL);
        return "its configuration cannot be read";
    }
    struct pod *pod = pod_new(rt, id, db_row_int(row, 1), config, db_row_text(row, 3), err);
    cri__pod_sandbox_config__free_unpacked(config, NULL);
    if (!pod)
        return err->message;
    pod->private->state = (enum pod_state)state;
    pod->private->cgroup_levels = (uint32_t)db_row_int(row, 4);
    pod->private->resources = column_resources(row, 7);
    pod->private->overhead = column_resources(row, 8);
    pod->private->launched = true; // perhaps: taking down what isn't there does nothing
    const char *why = NULL;
    if (map_get(rt->pod_names, pod->private->key))
        why = "another record has the same name, namespace, uid and attempt";
    else if (load_ips(pod->private, db_row_text(row, 5)) < 0 || store_add_pod(rt, pod) < 0)
        why = "out of memory";
    pod_unref(pod);
    return why;
}

static int pod_row(struct db_row *row, void *data, struct error *err)
{
    struct load *load = data;
    struct error why = ERROR_INIT;
    const char *bad = pod_from_row(load->rt, row, &why);
    if (bad && note_bad(load, "pod", db_row_text(row, 0), bad) < 0)
        return error_errno(err, ENOMEM, "read the records");
    return 0;
}

static const char *reason_static(const char *text)
{
    static const char *const known[] = {"Completed",      "Error",   "OOMKilled", "StartError",
                                        "SupervisorDied", "Unknown", ""};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strcmp(known[i], text) == 0)
            return known[i];
    }
    return "Unknown";
}

static const char *container_fill(struct container *c, struct db_row *row)
{
    struct container_private *p = c->private;
    p->start = (Pod__StartRequest *)column_message(row, 13, &pod__start_request__descriptor);
    if (!p->start || !p->start->cgroup)
        return "its launch plan cannot be read";
    p->state = (enum container_state)db_row_int(row, 3);
    p->started_at_ns = db_row_int(row, 6);
    p->finished_at_ns = db_row_int(row, 7);
    p->exit_code = (int32_t)db_row_int(row, 8);
    p->reason = reason_static(db_row_text(row, 9));
    p->image_id = strdup(db_row_text(row, 4));
    const char *message = db_row_text(row, 10);
    p->message = *message ? strdup(message) : NULL;
    size_t user_len;
    (void)db_row_blob(row, 11, &user_len);
    if (user_len > 0)
        p->user = (Pod__ResolvedUser *)column_message(row, 11, &pod__resolved_user__descriptor);
    p->mounted_images = split_words(db_row_text(row, 14));
    p->asked = column_resources(row, 15);
    if (!p->image_id || !p->mounted_images || (*message && !p->message))
        return "out of memory";
    c->mounted_images = p->mounted_images;
    c->image_id = p->image_id;
    c->stop_signal = (int)db_row_int(row, 5);
    return NULL;
}

static const char *container_from_row(struct runtime *rt, struct db_row *row, struct error *err)
{
    const char *id = db_row_text(row, 0);
    int64_t state = db_row_int(row, 3);
    struct pod *pod = map_get(rt->pods, db_row_text(row, 1));
    if (!str_is_hex(id, RUNTIME_ID_LEN))
        return "its id is not 64 hex digits";
    if (!pod)
        return "its pod sandbox has no record";
    if (state < CONTAINER_CREATED || state > CONTAINER_EXITED)
        return "its state is none of those known";
    Cri__ContainerConfig *config =
        (Cri__ContainerConfig *)column_message(row, 12, &cri__container_config__descriptor);
    if (!config || !config->metadata) {
        if (config)
            cri__container_config__free_unpacked(config, NULL);
        return "its configuration cannot be read";
    }
    struct container *c = container_new(rt, pod, id, db_row_int(row, 2), config, err);
    cri__container_config__free_unpacked(config, NULL);
    if (!c)
        return err->message;
    const char *why = container_fill(c, row);
    if (!why && map_get(rt->container_names, c->private->key))
        why = "another record has the same pod sandbox, name and attempt";
    if (!why && store_add_container(rt, c) < 0)
        why = "out of memory";
    container_unref(c);
    return why;
}

static int container_row(struct db_row *row, void *data, struct error *err)
{
    struct load *load = data;
    struct error why = ERROR_INIT;
    const char *bad = container_from_row(load->rt, row, &why);
    if (bad && note_bad(load, "container", db_row_text(row, 0), bad) < 0)
        return error_errno(err, ENOMEM, "read the records");
    return 0;
}

// In one transaction for each, so that a record is never in both tables or in none.
static int move_bad(struct runtime *rt, const struct bad *bad, struct error *err)
{
    bool pod = strcmp(bad->kind, "pod") == 0;
    int r = db_begin(rt->db, DB_SYNC_FULL, err);
    if (r < 0)
        return r;
    r = db_exec(rt->db, err,
                pod ? "INSERT INTO runtime_bad SELECT 'pod', id, ?, ?, config FROM runtime_pod WHERE id=?"
                    : "INSERT INTO runtime_bad SELECT 'container', id, ?, ?, config FROM runtime_container"
                      " WHERE id=?",
                "iss", clock_wall_ns(), bad->why, bad->id);
    if (r == 0)
        r = db_exec(rt->db, err,
                    pod ? "DELETE FROM runtime_pod WHERE id=?" : "DELETE FROM runtime_container WHERE id=?",
                    "s", bad->id);
    if (r < 0) {
        db_rollback(rt->db);
        return r;
    }
    return db_commit(rt->db, err);
}

static int boot_row(struct db_row *row, void *data, struct error *err)
{
    (void)err;
    snprintf(data, 37, "%s", db_row_text(row, 0));
    return 0;
}

int record_check_boot(struct runtime *rt, bool *rebooted, struct error *err)
{
    char last[37] = "";
    int r = db_query(rt->db, err, boot_row, last, "SELECT boot_id FROM runtime_boot", "");
    if (r < 0)
        return r;
    *rebooted = last[0] != '\0' && strcmp(last, rt->boot_id) != 0;
    if (strcmp(last, rt->boot_id) == 0)
        return 0;
    return db_exec(rt->db, err, "INSERT OR REPLACE INTO runtime_boot(one, boot_id) VALUES(1, ?)", "s",
                   rt->boot_id);
}

int record_load(struct runtime *rt, struct error *err)
{
    struct load load = {.rt = rt};
    int r = db_query(rt->db, err, pod_row, &load,
                     "SELECT id, created_at_ns, state, handler, cgroup_levels, ips, config, resources,"
                     " overhead FROM runtime_pod"
                     " ORDER BY created_at_ns",
                     "");
    if (r == 0)
        r = db_query(rt->db, err, container_row, &load,
                     "SELECT id, pod_id, created_at_ns, state, image_id, stop_signal, started_at_ns,"
                     " finished_at_ns, exit_code, reason, message, user, config, start, mounted_images,"
                     " resources FROM "
                     "runtime_container"
                     " ORDER BY created_at_ns",
                     "");
    while (load.bad) {
        struct bad *bad = load.bad;
        load.bad = bad->next;
        struct error why = ERROR_INIT;
        // Reading goes on without it; the next start tries to set it aside again.
        if (r == 0 && move_bad(rt, bad, &why) < 0)
            log_error("a bad record could not be set aside", "kind", bad->kind, "id", bad->id, "error",
                      why.message);
        free(bad);
    }
    return r < 0 ? error_wrap(err, "read the records of pods and containers") : 0;
}
