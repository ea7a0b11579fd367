// The image, the pod and the container of `crisp run`.
#include "cri/client/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/output.h"

#define LOG_ROOT "/var/log/crisp"
#define LOG_NAME "container.log"

static int image_is_there(struct run *r, bool *there, struct error *err)
{
    _cleanup_message_ Cri__ImageStatusResponse *response = NULL;
    Cri__ImageStatusRequest request = CRI__IMAGE_STATUS_REQUEST__INIT;
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;

    spec.image = (char *)r->image;
    request.image = &spec;
    int rc = cli_call(r->cli, "ImageStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc == 0)
        *there = response->image != NULL;
    return rc;
}

static int pull(struct run *r, struct error *err)
{
    Cri__PullImageRequest request = CRI__PULL_IMAGE_REQUEST__INIT;
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;
    struct ctx ctx = CTX_NONE;

    (void)fprintf(stderr, "crisp: pulling %s\n", r->image);
    spec.image = (char *)r->image;
    request.image = &spec;
    ctx.cancel_fd = r->cli->signal_fd;
    return client_call(r->cli->client, &ctx, "PullImage", &request.base,
                       r->cli->timeout_given ? r->cli->timeout_ns : 0, NULL, err);
}

// The runtime writes the log there, so it must be a folder that the runtime sees, too.
static int make_log_dir(struct run *r, struct error *err)
{
    const char *root = getenv("CRISP_LOG_DIR"); // NOLINT(concurrency-mt-unsafe): nobody sets any

    if (str_empty(root)) {
        root = LOG_ROOT;
        if (geteuid() != 0 || file_mkdir_p(LOG_ROOT, 0755, NULL) < 0)
            root = getenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe)
        if (str_empty(root))
            root = "/tmp";
    }
    _cleanup_free_ char *dir = str_printf("%s/%s-XXXXXX", root, r->name);
    if (!dir)
        return error_errno(err, ENOMEM, "make a folder for the log");
    if (!mkdtemp(dir))
        return error_errno(err, errno, "make a folder for the log in %s", root);
    r->log_dir = steal_ptr(&dir);
    return 0;
}

// A namespace of its own for processes, as people expect; the others are the pod's.
static void set_namespaces(Cri__NamespaceOption *options)
{
    cri__namespace_option__init(options);
    options->pid = CRI__NAMESPACE_MODE__CONTAINER;
}

static int run_pod(struct run *r, Cri__PodSandboxConfig *config, struct error *err)
{
    _cleanup_message_ Cri__RunPodSandboxResponse *response = NULL;
    Cri__RunPodSandboxRequest request = CRI__RUN_POD_SANDBOX_REQUEST__INIT;

    request.config = config;
    r->pod_asked = true;
    int rc = cli_call(r->cli, "RunPodSandbox", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0)
        return rc;
    r->pod_id = strdup(response->pod_sandbox_id);
    return r->pod_id ? 0 : error_errno(err, ENOMEM, "RunPodSandbox");
}

// What kubelet hides by default: CRI has no default of its own, an empty list hides nothing.
static const char *const masked_paths[] = {
    "/proc/asound",      "/proc/acpi",          "/proc/interrupts", "/proc/kcore",
    "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
};
static const char *const readonly_paths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                             "/proc/sysrq-trigger"};

static int create_container(struct run *r, Cri__PodSandboxConfig *pod, Cri__ContainerConfig *config,
                            struct error *err)
{
    _cleanup_message_ Cri__CreateContainerResponse *response = NULL;
    Cri__CreateContainerRequest request = CRI__CREATE_CONTAINER_REQUEST__INIT;

    request.pod_sandbox_id = r->pod_id;
    request.config = config;
    request.sandbox_config = pod;
    int rc = cli_call(r->cli, "CreateContainer", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0)
        return rc;
    r->container_id = strdup(response->container_id);
    return r->container_id ? 0 : error_errno(err, ENOMEM, "CreateContainer");
}

static int start_container(struct run *r, struct error *err)
{
    Cri__StartContainerRequest request = CRI__START_CONTAINER_REQUEST__INIT;

    request.container_id = r->container_id;
    return cli_call(r->cli, "StartContainer", &request.base, NULL, err);
}

// Fills the container's configuration, which lives as long as its caller's frame, and creates it.
static int make_container(struct run *r, Cri__PodSandboxConfig *pod, struct error *err)
{
    Cri__ContainerConfig config = CRI__CONTAINER_CONFIG__INIT;
    Cri__ContainerMetadata meta = CRI__CONTAINER_METADATA__INIT;
    Cri__ImageSpec image = CRI__IMAGE_SPEC__INIT;
    Cri__LinuxContainerConfig linux_config = CRI__LINUX_CONTAINER_CONFIG__INIT;
    Cri__LinuxContainerSecurityContext security = CRI__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
    Cri__SecurityProfile seccomp = CRI__SECURITY_PROFILE__INIT; // RuntimeDefault
    Cri__NamespaceOption namespaces;
    size_t n_env = strv_len(r->env);
    _cleanup_free_ Cri__KeyValue *values = calloc(n_env + 1, sizeof(*values));
    _cleanup_free_ Cri__KeyValue **envs = calloc(n_env + 1, sizeof(*envs));
    if (!values || !envs)
        return error_errno(err, ENOMEM, "create the container");

    for (size_t i = 0; i < n_env; i++) {
        char *equals = strchr(r->env[i], '=');
        cri__key_value__init(&values[i]);
        *equals = '\0';
        values[i].key = r->env[i];
        values[i].value.data = (uint8_t *)equals + 1;
        values[i].value.len = strlen(equals + 1);
        envs[i] = &values[i];
    }
    meta.name = r->name;
    image.image = image.user_specified_image = (char *)r->image;
    set_namespaces(&namespaces);
    security.namespace_options = &namespaces;
    security.seccomp = &seccomp;
    security.masked_paths = (char **)masked_paths;
    security.n_masked_paths = ARRAY_SIZE(masked_paths);
    security.readonly_paths = (char **)readonly_paths;
    security.n_readonly_paths = ARRAY_SIZE(readonly_paths);
    linux_config.security_context = &security;
    config.metadata = &meta;
    config.image = &image;
    config.args = r->args;
    config.n_args = strv_len(r->args);
    config.envs = envs;
    config.n_envs = n_env;
    config.log_path = (char *)LOG_NAME;
    config.linux = &linux_config;
    return create_container(r, pod, &config, err);
}

static int make_pod_and_container(struct run *r, struct error *err)
{
    Cri__PodSandboxConfig config = CRI__POD_SANDBOX_CONFIG__INIT;
    Cri__PodSandboxMetadata meta = CRI__POD_SANDBOX_METADATA__INIT;
    Cri__PodSandboxConfig__LabelsEntry label = CRI__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT;
    Cri__PodSandboxConfig__LabelsEntry *labels[] = {&label};
    Cri__LinuxPodSandboxConfig linux_config = CRI__LINUX_POD_SANDBOX_CONFIG__INIT;
    Cri__LinuxSandboxSecurityContext security = CRI__LINUX_SANDBOX_SECURITY_CONTEXT__INIT;
    Cri__NamespaceOption namespaces;
    char hostname[64];

    meta.name = r->name;
    meta.uid = r->uid;
    meta.namespace_ = (char *)"default";
    label.key = (char *)RUN_ID_LABEL;
    label.value = r->uid;
    set_namespaces(&namespaces);
    security.namespace_options = &namespaces;
    linux_config.security_context = &security;
    (void)snprintf(hostname, sizeof(hostname), "%s", r->name);
    config.metadata = &meta;
    config.hostname = hostname;
    config.log_directory = r->log_dir;
    config.labels = labels;
    config.n_labels = ARRAY_SIZE(labels);
    config.linux = &linux_config;
    int rc = run_pod(r, &config, err);
    return rc < 0 ? rc : make_container(r, &config, err);
}

int run_make(struct run *r, struct error *err)
{
    bool there = false;

    int rc = image_is_there(r, &there, err);
    if (rc == 0 && !there)
        rc = pull(r, err);
    if (rc == 0)
        rc = make_log_dir(r, err);
    if (rc == 0)
        rc = make_pod_and_container(r, err);
    if (rc == 0)
        rc = start_container(r, err);
    if (rc == 0)
        r->started = true;
    return rc;
}
