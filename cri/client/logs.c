// crisp logs: what a container has written, from its log file.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "base/clock.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/find.h"
#include "cri/client/logtail.h"
#include "cri/client/options.h"
#include "cri/client/output.h"

#define PAUSE_NS (200 * NS_PER_MS) // between two looks at a log that is followed

struct logs_options {
    bool follow;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct logs_options, follow, "follow", 'f', OPTION_SWITCH, NULL,
               "go on until the container has ended"),
};
static const struct options table = {
    .command = "logs",
    .usage = "logs [-f] CONTAINER",
    .intro = "Prints what a container has written: stdout to stdout, stderr to stderr.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

static int write_output(void *data, enum logtail_stream stream, const char *text, size_t len)
{
    (void)data;
    return file_write_all(stream == LOGTAIL_STDERR ? STDERR_FILENO : STDOUT_FILENO, text, len);
}

// Where the log is, and whether more of it may come. *path is the caller's.
static int look(struct cli *cli, const char *id, char **path, bool *runs, struct error *err)
{
    _cleanup_message_ Cri__ContainerStatusResponse *response = NULL;
    Cri__ContainerStatusRequest request = CRI__CONTAINER_STATUS_REQUEST__INIT;

    request.container_id = (char *)id;
    int rc = cli_call(cli, "ContainerStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0)
        return rc;
    const Cri__ContainerStatus *s = response->status;
    *runs = s && s->state == CRI__CONTAINER_STATE__CONTAINER_RUNNING;
    if (*path)
        return 0;
    if (!s || str_empty(s->log_path))
        return error_set(err, STATUS_NOT_FOUND, ENOENT, "container %.12s has no log", id);
    *path = strdup(s->log_path);
    return *path ? 0 : error_errno(err, ENOMEM, "read the log of %.12s", id);
}

static int print_log(struct cli *cli, const char *name, bool follow, struct error *err)
{
    _cleanup_free_ char *id = NULL;
    _cleanup_free_ char *path = NULL;
    struct logtail tail;
    bool runs = false;

    logtail_init(&tail, write_output, NULL);
    int rc = find_container(cli, name, &id, err);
    if (rc == 0)
        rc = look(cli, id, &path, &runs, err);
    if (rc < 0)
        return rc;
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open the log %s", path);
    for (;;) {
        long n = logtail_read(&tail, fd, err);
        if (n < 0 || !follow || !runs)
            return n < 0 ? (int)n : 0;
        struct ctx pause = ctx_with_timeout(NULL, PAUSE_NS);
        (void)ctx_wait_fd(&pause, -1, 0, NULL);
        rc = look(cli, id, &path, &runs, err); // before what was written last is read
        if (rc < 0)
            return rc;
    }
}

int command_logs(struct cli *cli, int argc, char **argv)
{
    struct logs_options o = {0};
    struct error err = ERROR_INIT;
    char **words = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &words, &n);
    if (code >= 0)
        return code;
    if (n != 1)
        return options_bad(&table, "logs needs one container");
    int rc = print_log(cli, words[0], o.follow, &err);
    if (rc < 0 && rc != -EPIPE)
        output_error("%s", err.message);
    return rc < 0 ? 1 : 0;
}
