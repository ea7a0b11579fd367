#include "runtime/pod/testkit.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "base/mount_template.h"

#define REPLY_MAX_MS testing_limit(20000)

extern char **environ;

static const char *const v1_hierarchies[] = {"freezer", "memory", "pids", "cpu"};

bool kit_possible(void)
{
    return geteuid() == 0 && access("/bin/busybox", X_OK) == 0;
}

void kit_run_tool(const char *const argv[])
{
    pid_t pid;
    int status;

    assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

// A layer with Debian's busybox, what it needs to run, and links for the applets that the tests use.
static void make_layer(const struct kit *k)
{
    static const char script[] =
        "set -e; mkdir -p \"$1/bin\" \"$1/etc\" \"$1/tmp\" \"$1/proc\" \"$1/dev\" \"$1/sys\"; cp "
        "/bin/busybox \"$1/bin/\"\n"
        "for lib in $(ldd /bin/busybox | grep -o '/[^ ]*'); do mkdir -p \"$1$(dirname $lib)\"; cp -L $lib "
        "\"$1$lib\"; done\n"
        "for a in sh true false sleep cat echo ls id pwd hostname stat readlink head seq tr kill ps env "
        "mount touch mkdir \\\n"
        "  dd tty stty yes grep wc setsid nc; do ln -sf busybox \"$1/bin/$a\"; done\n"
        "printf 'root:x:0:0:root:/root:/bin/sh\\nwww:x:33:33::/var/www:/bin/false\\n' > \"$1/etc/passwd\"\n"
        "printf 'root:x:0:\\nwww:x:33:\\nextra:x:50:www\\nmore:x:51:www,root\\n' > \"$1/etc/group\"\n"
        "chmod 1777 \"$1/tmp\"";
    char *layer = str_printf("%s/base", k->layers);
    const char *const argv[] = {"sh", "-c", script, "sh", layer, NULL};

    kit_run_tool(argv);
    free(layer);
}

static void start_process(struct kit *k)
{
    int pair[2];
    posix_spawn_file_actions_t actions;
    const char *const argv[] = {"crisp-pod", "--id", "testpod", "--dir", k->dir, NULL};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    int high = fcntl(pair[1], F_DUPFD_CLOEXEC, 10);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, high, 3), 0);
    assert_int_equal(
        posix_spawn(&k->pid, CRISP_POD_PATH, &actions, NULL, (char *const *)(uintptr_t)argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(high);
    (void)close(pair[1]);
    k->sock = pair[0];
}

int kit_setup(void **state)
{
    struct kit *k = calloc(1, sizeof(*k));
    struct error err;

    *state = k;
    if (!kit_possible())
        return 0;
    testing_scratch_make(k->scratch);
    (void)snprintf(k->dir, sizeof(k->dir), "%s/pod", k->scratch);
    (void)snprintf(k->layers, sizeof(k->layers), "%s/layers", k->scratch);
    (void)snprintf(k->log, sizeof(k->log), "%s/logs", k->scratch);
    (void)snprintf(k->cgroup_name, sizeof(k->cgroup_name), "crisp-pod-test-%d", (int)getpid());
    assert_int_equal(file_mkdir_p(k->dir, 0755, &err), 0);
    assert_int_equal(file_mkdir_p(k->layers, 0755, &err), 0);
    make_layer(k);
    k->arena = arena_new((size_t)64 << 20);
    pb_frame_reader_init(&k->reader);
    start_process(k);
    return 0;
}

// The v2 tree of a hybrid host or of a new one; NULL: there is none.
static const char *v2_tree(void)
{
    if (access("/sys/fs/cgroup/unified/cgroup.procs", W_OK) == 0)
        return "/sys/fs/cgroup/unified";
    return access("/sys/fs/cgroup/cgroup.procs", W_OK) == 0 ? "/sys/fs/cgroup" : NULL;
}

// A process that was killed has left its cgroup only when it has been reaped, by whoever its new parent is.
static int remove_when_left(int dir_fd, const char *name)
{
    int64_t end = clock_mono_ns() + testing_limit(5 * NS_PER_SEC);

    while (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0) {
        if (errno != EBUSY || clock_mono_ns() > end)
            return -errno;
        (void)poll(NULL, 0, 5);
    }
    return 0;
}

void kit_remove_cgroups(struct kit *k)
{
    for (size_t i = 0; i <= ARRAY_SIZE(v1_hierarchies); i++) {
        bool v1 = i < ARRAY_SIZE(v1_hierarchies);
        const char *tree = v2_tree();
        char *top = v1 ? str_printf("/sys/fs/cgroup/%s/%s", v1_hierarchies[i], k->cgroup_name)
                       : str_printf("%s/%s", tree ? tree : "/nowhere", k->cgroup_name);
        DIR *dir = opendir(top);
        for (const struct dirent *e; dir && (e = readdir(dir)) != NULL;)
            if (e->d_type == DT_DIR && e->d_name[0] != '.' && remove_when_left(dirfd(dir), e->d_name) < 0)
                fail_msg("cgroup %s/%s is left: %s", top, e->d_name, strerror(errno));
        dir_closep(&dir);
        (void)rmdir(top);
        free(top);
    }
}

static void check_mounts(const struct kit *k)
{
    char *text = NULL;

    assert_int_equal(file_read("/proc/self/mountinfo", (size_t)16 << 20, &text, NULL, NULL), 0);
    if (strstr(text, k->scratch))
        fail_msg("a mount is left below %s", k->scratch);
    free(text);
}

int kit_teardown(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    Pod__ShutdownRequest shutdown = {.base = PROTOBUF_C_MESSAGE_INIT(&pod__shutdown_request__descriptor)};
    int status = -1;

    if (k->pid) {
        shutdown.kill = true;
        r.op_case = POD__REQUEST__OP_SHUTDOWN;
        r.shutdown = &shutdown;
        const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
        assert_null(reply->error);
        assert_int_equal(waitpid(k->pid, &status, 0), k->pid);
        assert_int_equal(status, 0);
        (void)close(k->sock);
        pb_frame_reader_done(&k->reader);
        for (size_t i = 0; i < k->n_reply_fds; i++)
            (void)close(k->reply_fds[i]);
        kit_remove_cgroups(k);
        check_mounts(k);
        testing_scratch_remove(k->scratch);
        arena_free(k->arena);
    }
    free(k);
    return 0;
}

int kit_connect(struct kit *k)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (k->sock >= 0)
        (void)close(k->sock);
    pb_frame_reader_done(&k->reader);
    pb_frame_reader_init(&k->reader);
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%.90s/sock", k->dir);
    k->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(k->sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

void kit_send(struct kit *k, Pod__Request *r, const int *fds, size_t n_fds)
{
    struct error err = ERROR_INIT;

    r->id = ++k->last_id;
    if (pb_frame_send(k->sock, &r->base, fds, n_fds, &err) < 0)
        fail_msg("%s", err.message);
}

// The next message, within the time that anything may take.
static Pod__Reply *next_message(struct kit *k)
{
    int64_t end = clock_mono_ns() + REPLY_MAX_MS * NS_PER_MS;

    for (;;) {
        ProtobufCMessage *m;
        int fds[PB_FRAME_FDS_MAX];
        size_t n_fds = PB_FRAME_FDS_MAX;
        int rc =
            pb_frame_reader_take(&k->reader, &pod__reply__descriptor, arena_pb(k->arena), &m, fds, &n_fds);
        assert_true(rc >= 0);
        if (rc == 1) {
            for (size_t i = 0; i < k->n_reply_fds; i++)
                (void)close(k->reply_fds[i]);
            memcpy(k->reply_fds, fds, n_fds * sizeof(fds[0]));
            k->n_reply_fds = n_fds;
            return (Pod__Reply *)m;
        }
        struct pollfd p = {.fd = k->sock, .events = POLLIN};
        int64_t left = (end - clock_mono_ns()) / NS_PER_MS;
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            fail_msg("crisp-pod does not answer");
        if (pb_frame_reader_feed(&k->reader, k->sock) <= 0)
            fail_msg("crisp-pod has closed the connection");
    }
}

Pod__Reply *kit_receive(struct kit *k, uint64_t id)
{
    for (;;) {
        Pod__Reply *reply = next_message(k);
        if (reply->result_case != POD__REPLY__RESULT_EVENT) {
            assert_int_equal(reply->id, id);
            return reply;
        }
        assert_true(k->n_events < KIT_EVENTS_MAX);
        k->events[k->n_events++] = reply->event;
    }
}

Pod__Reply *kit_call(struct kit *k, Pod__Request *r, const int *fds, size_t n_fds)
{
    kit_send(k, r, fds, n_fds);
    return kit_receive(k, r->id);
}

Pod__Reply *kit_make_pod(struct kit *k, bool shared_pid)
{
    Pod__Request r = POD__REQUEST__INIT;
    Pod__SetupRequest setup = POD__SETUP_REQUEST__INIT;
    Pod__UserNamespace user_ns = POD__USER_NAMESPACE__INIT;
    Pod__IdRange range = POD__ID_RANGE__INIT;

    setup.pod_id = (char *)(uintptr_t) "testpod";
    setup.new_net = setup.new_ipc = setup.new_uts = true;
    setup.hostname = (char *)(uintptr_t) "kit-host";
    setup.shared_pid = shared_pid;
    range.host_id = KIT_HOST_ID;
    range.length = KIT_IDS;
    user_ns.uids = user_ns.gids = &range;
    setup.user_ns = k->user_ns ? &user_ns : NULL;
    r.op_case = POD__REQUEST__OP_SETUP;
    r.setup = &setup;
    _cleanup_fd_ int template = -1;
    struct error err;
    if (mount_template_new(&template, &err) < 0)
        fail_msg("%s", err.message);
    return kit_call(k, &r, &template, 1);
}

void kit_need_pod(struct kit *k)
{
    const Pod__Reply *reply = kit_make_pod(k, false);

    if (reply->error)
        fail_msg("%s", reply->error->message);
}

static void *item(struct kit *k, const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = arena_alloc(k->arena, d->sizeof_message);

    assert_non_null(m);
    protobuf_c_message_init(d, m);
    return m;
}

static char **strings(struct kit *k, const char *const *v, size_t *n)
{
    for (*n = 0; v[*n];)
        ++*n;
    char **out = arena_alloc(k->arena, (*n + 1) * sizeof(*out));
    for (size_t i = 0; i < *n; i++)
        out[i] = arena_strdup(k->arena, v[i]);
    return out;
}

void kit_add_mount(struct kit *k, Pod__LaunchPlan *plan, const char *type, const char *source,
                   const char *destination, const char *data, uint64_t flags)
{
    Pod__Mount *m = item(k, &pod__mount__descriptor);

    m->type = arena_strdup(k->arena, type);
    m->source = arena_strdup(k->arena, source);
    m->destination = arena_strdup(k->arena, destination);
    m->data = arena_strdup(k->arena, data);
    m->flags = flags;
    assert_true(plan->n_mounts < 32);
    plan->mounts[plan->n_mounts++] = m;
}

static void add_devices(struct kit *k, Pod__LaunchPlan *plan)
{
    static const struct {
        const char *path;
        uint32_t minor;
    } devices[] = {
        {"/dev/null", 3}, {"/dev/zero", 5}, {"/dev/full", 7}, {"/dev/random", 8}, {"/dev/urandom", 9}};

    plan->n_devices = ARRAY_SIZE(devices);
    plan->devices = arena_alloc(k->arena, sizeof(*plan->devices) * ARRAY_SIZE(devices));
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        Pod__Device *d = item(k, &pod__device__descriptor);
        d->path = arena_strdup(k->arena, devices[i].path);
        d->type = S_IFCHR;
        d->major = 1;
        d->minor = devices[i].minor;
        d->mode = 0666;
        plan->devices[i] = d;
    }
}

static Pod__Root *make_root(struct kit *k)
{
    Pod__Root *root = item(k, &pod__root__descriptor);
    const char *const lowers[] = {"base", NULL};
    char upper[400], work[400];
    struct error err;

    (void)snprintf(upper, sizeof(upper), "%s/upper-%zu", k->scratch, arena_used(k->arena));
    (void)snprintf(work, sizeof(work), "%s/work-%zu", k->scratch, arena_used(k->arena));
    assert_int_equal(file_mkdir_p(upper, 0755, &err), 0);
    assert_int_equal(file_mkdir_p(work, 0755, &err), 0);
    root->layers_dir = arena_strdup(k->arena, k->layers);
    root->lowers = strings(k, lowers, &root->n_lowers);
    root->upper = arena_strdup(k->arena, upper);
    root->work = arena_strdup(k->arena, work);
    return root;
}

Pod__LaunchPlan *kit_plan(struct kit *k, const char *const *argv)
{
    static const char *const env[] = {"PATH=/bin:/nowhere", "A=b", NULL};
    Pod__LaunchPlan *plan = item(k, &pod__launch_plan__descriptor);
    Pod__Process *process = item(k, &pod__process__descriptor);

    process->args = strings(k, argv, &process->n_args);
    process->env = strings(k, env, &process->n_env);
    process->user = item(k, &pod__user__descriptor);
    process->capabilities = item(k, &pod__capabilities__descriptor);
    process->capabilities->bounding = process->capabilities->effective = process->capabilities->permitted =
        0xa80425fb;
    plan->process = process;
    plan->root = make_root(k);
    plan->own_cgroup_ns = true;
    plan->user_ns = k->user_ns;
    plan->mounts = arena_alloc(k->arena, 32 * sizeof(*plan->mounts));
    kit_add_mount(k, plan, "proc", "", "/proc", "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    kit_add_mount(k, plan, "tmpfs", "", "/dev", "mode=755,size=65536k", MOUNT_ATTR_NOSUID);
    kit_add_mount(k, plan, "devpts", "", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
                  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    kit_add_mount(k, plan, "mqueue", "", "/dev/mqueue", "", MOUNT_ATTR_NOSUID);
    kit_add_mount(k, plan, "sysfs", "", "/sys", "", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
    add_devices(k, plan);
    return plan;
}

Pod__LaunchPlan *kit_plan_sh(struct kit *k, const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};

    return kit_plan(k, argv);
}

Pod__CgroupPlace *kit_place(struct kit *k, const char *id)
{
    Pod__CgroupPlace *place = item(k, &pod__cgroup_place__descriptor);
    struct error err;

    if (access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0)
        return kit_place_v2(k, id);
    place->dirs = arena_alloc(k->arena, ARRAY_SIZE(v1_hierarchies) * sizeof(char *));
    for (size_t i = 0; i < ARRAY_SIZE(v1_hierarchies); i++) {
        char *top = arena_printf(k->arena, "/sys/fs/cgroup/%s", v1_hierarchies[i]);
        char *procs = arena_printf(k->arena, "%s/cgroup.procs", top);
        char *dir = arena_printf(k->arena, "%s/%s/%s", top, k->cgroup_name, id);
        if (access(procs, W_OK) < 0 || file_mkdir_p(dir, 0755, &err) < 0)
            continue;
        place->dirs[place->n_dirs++] = dir;
        if (str_eq(v1_hierarchies[i], "freezer"))
            place->freezer_dir = dir;
        if (str_eq(v1_hierarchies[i], "memory"))
            place->memory_dir = dir;
    }
    return place;
}

Pod__CgroupPlace *kit_place_v2(struct kit *k, const char *id)
{
    Pod__CgroupPlace *place = item(k, &pod__cgroup_place__descriptor);
    const char *tree = v2_tree();
    struct error err;

    if (!tree)
        return NULL;
    char *dir = arena_printf(k->arena, "%s/%s/%s", tree, k->cgroup_name, id);
    if (file_mkdir_p(dir, 0755, &err) < 0)
        return NULL;
    place->v2 = true;
    place->dirs = arena_alloc(k->arena, sizeof(char *));
    place->dirs[place->n_dirs++] = dir;
    place->memory_dir = dir;
    return place;
}

bool kit_freeze(struct kit *k, const Pod__CgroupPlace *place, bool freeze)
{
    if (!place->v2 && !*place->freezer_dir)
        return false;
    const char *file = place->v2 ? arena_printf(k->arena, "%s/cgroup.freeze", place->dirs[0])
                                 : arena_printf(k->arena, "%s/freezer.state", place->freezer_dir);
    const char *word = freeze ? "FROZEN" : "THAWED";
    if (place->v2)
        word = freeze ? "1" : "0";
    assert_int_equal(file_write_existing(file, word, NULL), 0);
    return true;
}

bool kit_limit_memory(struct kit *k, const Pod__CgroupPlace *place, const char *bytes)
{
    if (place->v2) { // the controller is handed down to the parent by whoever made that, here systemd or
                     // nobody
        const char *top = arena_printf(k->arena, "%s/%s/cgroup.subtree_control", v2_tree(), k->cgroup_name);
        const char *swap = arena_printf(k->arena, "%s/memory.swap.max", place->dirs[0]);
        (void)file_write_existing(top, "+memory", NULL);
        (void)file_write_existing(swap, "0", NULL);
    }
    if (!*place->memory_dir)
        return false;
    const char *file = place->v2 ? "memory.max" : "memory.limit_in_bytes";
    return file_write_existing(arena_printf(k->arena, "%s/%s", place->memory_dir, file), bytes, NULL) == 0;
}

const char *kit_exec_dir(struct kit *k, const char *id)
{
    const char *top =
        access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/freezer";

    return arena_printf(k->arena, "%s/%s/%s", top, k->cgroup_name, id);
}

Pod__StartRequest *kit_start_request(struct kit *k, const char *id, const Pod__LaunchPlan *plan)
{
    Pod__StartRequest *start = item(k, &pod__start_request__descriptor);

    start->container_id = arena_strdup(k->arena, id);
    start->cgroup = kit_place(k, id);
    start->stdio = item(k, &pod__stdio__descriptor);
    start->stdio->tty = plan->process->tty;
    start->stdio->log_path = arena_printf(k->arena, "%s/%s/0.log", k->log, id);
    start->plan.len = protobuf_c_message_get_packed_size(&plan->base);
    start->plan.data = arena_alloc(k->arena, start->plan.len);
    (void)protobuf_c_message_pack(&plan->base, start->plan.data);
    start->deadline_ms = (uint32_t)testing_limit(10000);
    return start;
}

Pod__Reply *kit_start(struct kit *k, const char *id, const Pod__LaunchPlan *plan)
{
    Pod__Request r = POD__REQUEST__INIT;

    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, id, plan);
    return kit_call(k, &r, NULL, 0);
}

static Pod__Event *wait_event(struct kit *k, bool (*match)(const Pod__Event *, const char *), const char *id)
{
    for (size_t i = 0;; i++) {
        while (i >= k->n_events) {
            Pod__Reply *reply = next_message(k);
            assert_int_equal(reply->result_case, POD__REPLY__RESULT_EVENT);
            assert_true(k->n_events < KIT_EVENTS_MAX);
            k->events[k->n_events++] = reply->event;
        }
        if (match(k->events[i], id))
            return k->events[i];
    }
}

static bool is_exit(const Pod__Event *e, const char *id)
{
    return e->exit && str_eq(e->exit->container_id, id);
}

static bool is_exec_exit(const Pod__Event *e, const char *id)
{
    return e->exec_exit && str_eq(e->exec_exit->exec_id, id);
}

Pod__ExitRecord *kit_wait_exit(struct kit *k, const char *id)
{
    return wait_event(k, is_exit, id)->exit;
}

Pod__ExecExit *kit_wait_exec(struct kit *k, const char *exec_id)
{
    return wait_event(k, is_exec_exit, exec_id)->exec_exit;
}

void kit_kill(struct kit *k, const char *id, int signal, bool all)
{
    Pod__Request r = POD__REQUEST__INIT;
    Pod__KillRequest kill = POD__KILL_REQUEST__INIT;

    kill.container_id = (char *)(uintptr_t)id;
    kill.signal = signal;
    kill.all = all;
    r.op_case = POD__REQUEST__OP_KILL;
    r.kill = &kill;
    const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    assert_null(reply->error);
}

char *kit_log_raw(struct kit *k, const char *id)
{
    char *path = arena_printf(k->arena, "%s/%s/0.log", k->log, id), *text = NULL;
    struct error err = ERROR_INIT;

    if (file_read(path, (size_t)16 << 20, &text, NULL, &err) < 0)
        fail_msg("%s", err.message);
    char *copy = arena_strdup(k->arena, text);
    free(text);
    return copy;
}

char *kit_log_text(struct kit *k, const char *id)
{
    char *raw = kit_log_raw(k, id), *out = raw;

    for (char *line = raw; *line;) {
        char *end = strchr(line, '\n'), *text = line;
        assert_non_null(end);
        for (int i = 0; i < 3; i++)
            text = strchr(text, ' ') + 1;
        memmove(out, text, (size_t)(end + 1 - text));
        out += end + 1 - text;
        line = end + 1;
    }
    *out = '\0';
    return raw;
}

Pod__ExitRecord *kit_run_sh(struct kit *k, const char *id, const char *script, char **log)
{
    const Pod__Reply *reply = kit_start(k, id, kit_plan_sh(k, script));

    if (reply->error)
        fail_msg("%s", reply->error->message);
    Pod__ExitRecord *e = kit_wait_exit(k, id);
    if (log)
        *log = kit_log_text(k, id);
    return e;
}

Pod__ExecRequest *kit_exec_request(struct kit *k, const char *id, const char *exec_id, const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL}, *const env[] = {"PATH=/bin", NULL};
    Pod__ExecRequest *e = item(k, &pod__exec_request__descriptor);
    Pod__Process *process = item(k, &pod__process__descriptor);

    process->args = strings(k, argv, &process->n_args);
    process->env = strings(k, env, &process->n_env);
    process->user = item(k, &pod__user__descriptor);
    process->user->resolved = true;
    process->capabilities = item(k, &pod__capabilities__descriptor);
    process->capabilities->bounding = process->capabilities->effective = process->capabilities->permitted =
        0xa80425fb;
    e->container_id = arena_strdup(k->arena, id);
    e->exec_id = arena_strdup(k->arena, exec_id);
    e->process = process;
    e->deadline_ms = (uint32_t)testing_limit(5000);
    return e;
}

const char *kit_run_plan(struct kit *k, const char *id, const Pod__LaunchPlan *plan)
{
    const Pod__Reply *reply = kit_start(k, id, plan);

    if (reply->error)
        fail_msg("%s", reply->error->message);
    (void)kit_wait_exit(k, id);
    return kit_log_text(k, id);
}
