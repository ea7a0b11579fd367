// The image, the pod and the container of `crisp run`.
#include "cri/client/run.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/output.h"
#include "cri/client/pull.h"

#define LOG_ROOT "/var/log/crisp"

static int image_is_there(struct run *r, const char *image, bool *there, struct error *err)
{
    _cleanup_message_ Cri__ImageStatusResponse *response = NULL;
    Cri__ImageStatusRequest request = CRI__IMAGE_STATUS_REQUEST__INIT;
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;

    spec.image = (char *)image;
    request.image = &spec;
    int rc = cli_call(r->cli, "ImageStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc == 0)
        *there = response->image != NULL;
    return rc;
}

static int pull(struct run *r, const char *image, struct error *err)
{
    _cleanup_free_ char *id = NULL;

    (void)fprintf(stderr, "crisp: pulling %s\n", image);
    return pull_image(r->cli, image, NULL, isatty(STDERR_FILENO) ? PULL_SHOW_BARS : PULL_SHOW_NONE, &id, err);
}

static int have_image(struct run *r, const char *image, struct error *err)
{
    const char *when = r->options.pull;
    bool there = false;

    int rc = str_eq(when, "always") ? 0 : image_is_there(r, image, &there, err);
    if (rc < 0 || there)
        return rc;
    if (str_eq(when, "never"))
        return error_set(err, STATUS_NOT_FOUND, ENOENT,
                         "image %s is not there, and --pull never forbids pulling", image);
    return pull(r, image, err);
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

static int name_is_taken(const char *name, const char *id, struct error *err)
{
    return error_set(
        err, STATUS_ALREADY_EXISTS, EEXIST,
        "--name %s: container %.12s has this name: remove it (`crisp rm -f %s`), or choose another", name, id,
        name);
}

// Of two that ask at the same moment the runtime refuses one: their pods have the same uid.
static int check_name(struct run *r, struct error *err)
{
    _cleanup_message_ Cri__ListContainersResponse *list = NULL;
    Cri__ListContainersRequest request = CRI__LIST_CONTAINERS_REQUEST__INIT;

    int rc = cli_call(r->cli, "ListContainers", &request.base, (ProtobufCMessage **)&list, err);
    for (size_t i = 0; rc == 0 && i < list->n_containers; i++) {
        const Cri__Container *c = list->containers[i];
        for (size_t j = 0; c->metadata && str_eq(c->metadata->name, r->name) && j < c->n_labels; j++)
            if (str_eq(c->labels[j]->key, RUN_LABEL_ID))
                return name_is_taken(r->name, c->id, err);
    }
    return rc;
}

// Annotations with our prefix mean something to crispd only.
static int warn_of_others(struct run *r, struct error *err)
{
    _cleanup_message_ Cri__VersionResponse *version = NULL;
    Cri__VersionRequest request = CRI__VERSION_REQUEST__INIT;
    const Cri__ContainerConfig *c = &r->config.container;
    const Cri__PodSandboxConfig *p = &r->config.pod;

    if (c->n_annotations + p->n_annotations == 0)
        return 0;
    int rc = cli_call(r->cli, "Version", &request.base, (ProtobufCMessage **)&version, err);
    if (rc < 0 || str_eq(version->runtime_name, "crisp"))
        return rc;
    for (size_t i = 0; i < c->n_annotations + p->n_annotations; i++) {
        const char *key =
            i < c->n_annotations ? c->annotations[i]->key : p->annotations[i - c->n_annotations]->key;
        if (str_has_prefix(key, RUN_ANNOTATION))
            output_error("warning: %s ignores the annotation %s: CRI has no field for it",
                         version->runtime_name, key);
    }
    return 0;
}

static int run_pod(struct run *r, struct error *err)
{
    _cleanup_message_ Cri__RunPodSandboxResponse *response = NULL;
    Cri__RunPodSandboxRequest request = CRI__RUN_POD_SANDBOX_REQUEST__INIT;

    request.config = &r->config.pod;
    request.runtime_handler = (char *)r->config.runtime_handler;
    r->config.pod.log_directory = r->log_dir;
    r->pod_asked = true;
    int rc = cli_call(r->cli, "RunPodSandbox", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0 && err->status == STATUS_ALREADY_EXISTS)
        return error_set(
            err, STATUS_ALREADY_EXISTS, EEXIST,
            "--name %s: a pod that `crisp run` made has this name already: `crisp rm -f %s` removes "
            "it once its container shows in `crisp ps -a`",
            r->name, r->name);
    if (rc < 0)
        return rc;
    r->pod_id = strdup(response->pod_sandbox_id);
    return r->pod_id ? 0 : error_errno(err, ENOMEM, "RunPodSandbox");
}

static int create_container(struct run *r, struct error *err)
{
    _cleanup_message_ Cri__CreateContainerResponse *response = NULL;
    Cri__CreateContainerRequest request = CRI__CREATE_CONTAINER_REQUEST__INIT;

    request.pod_sandbox_id = r->pod_id;
    request.config = &r->config.container;
    request.sandbox_config = &r->config.pod;
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
    int rc = cli_call(r->cli, "StartContainer", &request.base, NULL, err);
    if (rc < 0)
        r->start_code = run_code_of_start_error(err->message, CLI_EXIT_RUN_FAILED);
    r->started = rc == 0;
    return rc;
}

int run_code_of_start_error(const char *message, int other)
{
    static const struct {
        const char *words;
        int code;
    } known[] = {{"not found", 127},         {"no such file", 127},   {"permission denied", 126},
                 {"exec format error", 126}, {"is a directory", 126}, {"not a directory", 127}};
    // crispd, runc and crun all tell what they wanted to execute behind this word.
    const char *exec = message ? strstr(message, "exec") : NULL;

    for (size_t i = 0; exec && i < ARRAY_SIZE(known); i++)
        if (strcasestr(exec, known[i].words))
            return known[i].code;
    return other;
}

static int write_id(const struct run *r, struct error *err)
{
    if (r->cid_fd < 0)
        return 0;
    int rc = file_write_all(r->cid_fd, r->container_id, strlen(r->container_id));
    return rc < 0 ? error_errno(err, -rc, "--cidfile %s", r->options.cidfile) : 0;
}

static int make_ready(struct run *r, struct error *err)
{
    int rc = r->options.name ? check_name(r, err) : 0;

    if (rc == 0)
        rc = warn_of_others(r, err);
    if (rc == 0)
        rc = have_image(r, r->image, err);
    for (size_t i = 0; rc == 0 && i < r->config.n_image_volumes; i++)
        rc = have_image(r, r->config.image_volumes[i], err);
    if (rc == 0 && r->config.userns_auto)
        rc = run_choose_ids(r, err);
    return rc < 0 ? rc : make_log_dir(r, err);
}

int run_make(struct run *r, struct error *err)
{
    int rc = make_ready(r, err);

    if (rc == 0)
        rc = run_pod(r, err);
    if (rc == 0)
        rc = create_container(r, err);
    if (rc == 0)
        rc = write_id(r, err);
    return rc < 0 ? rc : start_container(r, err);
}
