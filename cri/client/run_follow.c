// The output and the end of `crisp run`'s container.
#include "cri/client/run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/logtail.h"
#include "cri/client/output.h"

// CRI tells of an exit by events, which not every runtime has: ask, quickly at first, then at leisure.
#define ASK_FIRST_NS (2 * NS_PER_MS)
#define ASK_MAX_NS   (200 * NS_PER_MS)
// A runtime that restarts doesn't disturb its containers: wait for it.
#define AWAY_MAX_NS (60 * NS_PER_SEC)
#define STOPS_MAX   2

struct follow {
    struct run *run;
    struct logtail tail;
    int log_fd, inotify_fd;
    int64_t ask_interval_ns, next_ask_ns;
    int64_t away_since_ns; // 0: it answers
    int signals;           // how many have come
    bool stop_again;       // a StopContainer got lost with the runtime that it was sent to
    struct client_call *stops[STOPS_MAX];
    bool exited;
    int exit_code;
};

static int write_output(void *data, enum logtail_stream stream, const char *text, size_t len)
{
    (void)data;
    return file_write_all(stream == LOGTAIL_STDERR ? STDERR_FILENO : STDOUT_FILENO, text, len);
}

// Opens the log once it is there. Inotify is a help only: without it the log is read with each question.
static void open_log(struct follow *f, const char *path)
{
    if (f->log_fd >= 0 || str_empty(path))
        return;
    f->log_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f->log_fd >= 0 && f->inotify_fd >= 0)
        (void)inotify_add_watch(f->inotify_fd, path, IN_MODIFY);
}

static int read_log(struct follow *f, struct error *err)
{
    char events[4096];

    while (f->inotify_fd >= 0 && read(f->inotify_fd, events, sizeof(events)) > 0)
        continue;
    long n = f->log_fd >= 0 ? logtail_read(&f->tail, f->log_fd, err) : 0;
    return n < 0 ? (int)n : 0;
}

// Nobody to answer isn't the container's end.
static int runtime_away(struct follow *f, const struct error *err)
{
    int64_t now = clock_mono_ns();

    // A runtime that shuts down in good order calls off what it was asked; we don't here.
    if (err->status != STATUS_UNAVAILABLE && err->status != STATUS_CANCELLED)
        return -err->errnum;
    if (!f->away_since_ns) {
        f->away_since_ns = now;
        (void)fprintf(stderr, "crisp: the runtime doesn't answer; waiting for it\n");
    }
    return now - f->away_since_ns < AWAY_MAX_NS ? 0 : -err->errnum;
}

static void note_exit(struct follow *f, const Cri__ContainerStatus *s)
{
    f->exited = true;
    f->exit_code =
        str_eq(s->reason, "StartError") ? run_code_of_start_error(s->message, s->exit_code) : s->exit_code;
    if (str_eq(s->reason, "OOMKilled"))
        output_error("the container ran out of memory and was killed");
    else if (!str_empty(s->message) && !str_eq(s->reason, "Completed") && !str_eq(s->reason, "Error"))
        output_error("%s: %s", s->reason, s->message);
}

// StopContainer goes on beside everything else: output during the grace period is still passed on.
static int begin_stop(struct follow *f, int64_t grace_s, struct error *err)
{
    Cri__StopContainerRequest request = CRI__STOP_CONTAINER_REQUEST__INIT;
    struct cli *cli = f->run->cli;

    for (size_t i = 0; i < STOPS_MAX; i++) {
        if (f->stops[i])
            continue;
        request.container_id = f->run->container_id;
        request.timeout = grace_s;
        return client_call_start(cli->client, "StopContainer", &request.base,
                                 cli->timeout_ns + grace_s * NS_PER_SEC, &f->stops[i], err);
    }
    return 0; // it is being killed already
}

static int64_t grace(const struct follow *f, bool at_once)
{
    int64_t seconds = CLI_STOP_GRACE_S;

    if (f->run->options.process.stop_timeout) // checked when the configuration was made
        (void)str_parse_i64(f->run->options.process.stop_timeout, 0, INT64_MAX, &seconds);
    return at_once ? 0 : seconds;
}

static int ask(struct follow *f, struct error *err)
{
    _cleanup_message_ Cri__ContainerStatusResponse *response = NULL;
    Cri__ContainerStatusRequest request = CRI__CONTAINER_STATUS_REQUEST__INIT;
    struct cli *cli = f->run->cli;

    request.container_id = f->run->container_id;
    int rc = client_call(cli->client, &CTX_NONE, "ContainerStatus", &request.base, cli->timeout_ns,
                         (ProtobufCMessage **)&response, err);
    f->ask_interval_ns = f->ask_interval_ns * 2 < ASK_MAX_NS ? f->ask_interval_ns * 2 : ASK_MAX_NS;
    f->next_ask_ns = clock_mono_ns() + f->ask_interval_ns;
    if (rc < 0)
        return runtime_away(f, err);
    f->away_since_ns = 0;
    if (!response->status)
        return error_set(err, STATUS_INTERNAL, EPROTO, "ContainerStatus: an answer without a status");
    open_log(f, response->status->log_path);
    if (response->status->state == CRI__CONTAINER_STATE__CONTAINER_EXITED)
        note_exit(f, response->status);
    else if (f->stop_again)
        rc = begin_stop(f, grace(f, f->signals > 1), err);
    f->stop_again = false;
    return rc;
}

static int take_signals(struct follow *f, struct error *err)
{
    struct signalfd_siginfo info;

    while (read(f->run->cli->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        int rc = begin_stop(f, grace(f, f->signals++ > 0), err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int finish_stop(struct follow *f, size_t i, struct error *err)
{
    int rc = client_call_finish(f->stops[i], NULL, err);

    f->stops[i] = NULL;
    f->ask_interval_ns = ASK_FIRST_NS; // it has exited, if all went well
    f->next_ask_ns = 0;
    if (rc < 0) {
        rc = runtime_away(f, err);
        f->stop_again = rc == 0;
    }
    return rc;
}

static int follow_step(struct follow *f, struct error *err)
{
    struct pollfd p[2 + STOPS_MAX] = {{.fd = f->run->cli->signal_fd, .events = POLLIN},
                                      {.fd = f->inotify_fd, .events = POLLIN}};
    for (size_t i = 0; i < STOPS_MAX; i++)
        p[2 + i] = (struct pollfd){.fd = f->stops[i] ? client_call_fd(f->stops[i]) : -1, .events = POLLIN};
    struct ctx until_ask = {.deadline_mono_ns = f->next_ask_ns, .cancel_fd = -1};

    if (poll(p, ARRAY_SIZE(p), ctx_poll_ms(&until_ask)) < 0 && errno != EINTR)
        return error_errno(err, errno, "poll");
    int rc = p[0].revents ? take_signals(f, err) : 0;
    for (size_t i = 0; i < STOPS_MAX && rc == 0; i++)
        if (p[2 + i].revents)
            rc = finish_stop(f, i, err);
    if (rc == 0)
        rc = read_log(f, err);
    if (rc == 0 && clock_mono_ns() >= f->next_ask_ns)
        rc = ask(f, err);
    return rc;
}

// Whatever ends the following: no call is left, and a container whose output nobody takes is stopped.
static void follow_done(struct follow *f, int rc)
{
    if (rc < 0 && !f->exited)
        (void)begin_stop(f, 0, NULL);
    for (size_t i = 0; i < STOPS_MAX; i++)
        if (f->stops[i])
            (void)client_call_finish(f->stops[i], NULL, NULL);
    fd_closep(&f->log_fd);
    fd_closep(&f->inotify_fd);
}

int run_follow(struct run *r, struct error *err)
{
    struct follow f = {.run = r, .log_fd = -1, .ask_interval_ns = ASK_FIRST_NS};

    logtail_init(&f.tail, write_output, NULL);
    f.inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    int rc = 0;
    while (rc == 0 && !f.exited)
        rc = follow_step(&f, err);
    if (rc == 0)
        rc = read_log(&f, err); // complete by now: it is so before the exit shows
    if (rc == 0 && f.log_fd < 0)
        output_error("the container's log never appeared in %s: is that folder the runtime's, too?",
                     r->log_dir);
    follow_done(&f, rc);
    return rc < 0 ? rc : f.exit_code;
}
