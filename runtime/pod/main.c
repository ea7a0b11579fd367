// crisp-pod: started by crispd, one per pod; see pod.h.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/pod/container.h"
#include "runtime/pod/pod.h"
#include "runtime/pod/userns.h"
#include "runtime/pod/sys.h"

#define CONTROL_FD      3
#define SHUTDOWN_MAX_NS (10 * NS_PER_SEC)
#define IDLE_NS         (200 * NS_PER_MS)
#define STACK_TRIM      ((size_t)64 << 10)
#define STACK_MARGIN    1024 // for what is called from here

static size_t running(const struct pod *p)
{
    size_t n = 0;

    for (const struct container *c = p->containers; c; c = c->next)
        n += c->phase != CONTAINER_EXITED && c->phase != CONTAINER_PARKED;
    return n;
}

static void end_now(struct pod *p)
{
    while (p->containers) {
        if (p->containers->phase == CONTAINER_PARKED)
            container_kill(p->containers);
        container_free(p->containers);
    }
    spare_end(p);
    _cleanup_free_ char *sock = str_printf("%s/sock", p->dir);
    if (sock)
        (void)unlink(sock);
    conn_reply_ok(p, p->shutdown);
    p->loop.stop = true;
}

void pod_container_gone(struct pod *p)
{
    if (p->shutting_down && running(p) == 0)
        end_now(p);
}

// A crispd that was killed before it could tell of us or set the pod up leaves a process that no record and
// no cgroup leads to. Nothing depends on it yet: it goes by itself.
void pod_end_if_unused(struct pod *p)
{
    if (!p->conns && !p->ready && !p->setup)
        end_now(p);
}

// Something can't be killed (a process stuck in the kernel): say so and stay, as its supervisor.
static void shutdown_fired(struct timer *t)
{
    struct pod *p = container_of(t, struct pod, shutdown_timer);
    struct error err;

    p->shutting_down = false;
    (void)error_set(&err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT,
                    "pod %s: %zu containers are still not dead %d s after SIGKILL", p->id, running(p),
                    (int)(SHUTDOWN_MAX_NS / NS_PER_SEC));
    conn_reply_error(p, p->shutdown, &err, NULL);
}

void pod_shutdown(struct pod *p, struct waiter w, const Pod__ShutdownRequest *request)
{
    struct error err;
    size_t n = running(p);

    if (p->setup || p->shutting_down || (n > 0 && !request->kill)) {
        (void)error_set(&err, p->setup || p->shutting_down ? STATUS_UNAVAILABLE : STATUS_FAILED_PRECONDITION,
                        EBUSY, "pod %s can't end: %s", p->id,
                        p->setup           ? "it is being set up"
                        : p->shutting_down ? "it is ending already"
                                           : "a container runs");
        conn_reply_error(p, w, &err, NULL);
        return;
    }
    p->shutdown = w;
    p->shutting_down = true;
    if (n == 0) {
        end_now(p);
        return;
    }
    p->shutdown_timer.fired = shutdown_fired;
    loop_arm(&p->loop, &p->shutdown_timer, SHUTDOWN_MAX_NS);
    for (struct container *c = p->containers; c; c = c->next)
        if (c->phase < CONTAINER_ENDING && c->phase != CONTAINER_PARKED)
            container_kill(c);
}

// What deep calls have left below the stack's pages that are in use now.
static void trim_stack(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = (here - STACK_MARGIN) / page * page;

    (void)madvise((void *)(end - STACK_TRIM), STACK_TRIM, MADV_DONTNEED); // also where the stack never was
}

static void idle_fired(struct timer *t)
{
    (void)t;
    (void)malloc_trim(0);
    trim_stack();
}

void pod_active(struct pod *p)
{
    loop_arm(&p->loop, &p->idle_timer, IDLE_NS);
}

// A child has died: a container's or an exec's first process, or an orphan that came to us as the subreaper.
static void signals_ready(struct source *s, uint32_t events)
{
    struct pod *p = container_of(s, struct pod, signals);
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    (void)events;
    (void)!read(s->fd, &info, sizeof(info));
    pod_active(p);
    while (!p->loop.stop && (pid = waitpid(-1, &status, WNOHANG)) > 0)
        (void)(container_reap(p, pid, status) || exec_reap(p, pid, status) || setup_reap(p, pid, status) ||
               spare_reap(p, pid));
}

static int watch_signals(struct pod *p, struct error *err)
{
    // The kernel's struct sigaction, all zero: SIG_DFL. Whatever crispd was started with would else be handed
    // down to containers, the two signals too that glibc keeps for itself and won't touch.
    static const unsigned long defaults[4];
    sigset_t set;

    for (int signum = 1; signum <= 64; signum++)
        (void)syscall(SYS_rt_sigaction, signum, defaults, NULL, sizeof(unsigned long));

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    // A request ends it, or SIGKILL: on a node that shuts down, everybody gets SIGTERM, and the containers
    // are to have their time to end before their supervisor.
    for (size_t i = 0; i < pod_n_ignored_signals; i++)
        (void)signal(pod_ignored_signals[i], SIG_IGN);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return error_errno(err, errno, "block signals");
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_errno(err, errno, "watch signals")
                  : loop_add(&p->loop, &p->signals, fd, EPOLLIN, err);
}

// What makes it hard to kill by accident and impossible to look into. None of it is a reason not to run.
static void harden(const char *id)
{
    struct error err;

    (void)prctl(PR_SET_NAME, "crisp-pod"); // it runs from a descriptor, whose number would be its name
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        log_warn("crisp-pod is no subreaper: orphans of containers go to init", "pod", id);
    if (file_write_existing("/proc/self/oom_score_adj", "-998", &err) < 0)
        log_debug("crisp-pod keeps its OOM score", "pod", id, "error", err.message);
    // Long-lived and small: what a request took goes back at once, and leaves no holes among what is kept.
    (void)mallopt(M_TRIM_THRESHOLD, 4 << 10);
    (void)mallopt(M_MMAP_THRESHOLD, 2 << 10);
    (void)mallopt(M_TOP_PAD, 0);
    (void)umask(0022);
}

static int run(struct pod *p, struct error *err)
{
    _cleanup_free_ char *exits = str_printf("%s/exits", p->dir);

    if (!exits)
        return error_errno(err, ENOMEM, "start");
    int rc = file_mkdir_p(exits, 0700, err);
    if (rc == 0)
        rc = loop_init(&p->loop, err);
    if (rc == 0)
        rc = watch_signals(p, err);
    p->own_pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (rc == 0 && p->own_pid_ns < 0)
        rc = error_errno(err, errno, "open /proc/self/ns/pid");
    if (rc == 0)
        rc = conn_listen(p, err);
    if (rc == 0)
        rc = conn_add(p, CONTROL_FD, err);
    if (rc == 0)
        rc = loop_run(&p->loop, err);
    conn_close_all(p);
    return rc;
}

static int usage(void)
{
    static const char text[] =
        "usage: crisp-pod --id POD_ID --dir POD_DIR (descriptor 3: a socket to crispd)\n"
        "crispd starts it; it is of no use by hand.\n";

    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    return 2;
}

// By hand: getopt(3) brings printf, locales and translations into a program that is to stay small.
static bool parse_arguments(int argc, char **argv, const char **id, char **dir)
{
    *id = *dir = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (str_eq(argv[i], "--id"))
            *id = argv[i + 1];
        else if (str_eq(argv[i], "--dir"))
            *dir = argv[i + 1];
        else
            return false;
    }
    return argc == 5 && *id && *dir && pod_id_valid(*id);
}

// crispd asks at its start: says nothing if the answer is yes.
static int probe(const char *image_dir)
{
    struct error err = ERROR_INIT;

    if (userns_probe(image_dir, &err) == 0)
        return 0;
    (void)!write(STDOUT_FILENO, err.message, strlen(err.message));
    return 1;
}

int main(int argc, char **argv)
{
    static struct pod pod;
    const char *id;
    struct error err = ERROR_INIT;

    if (argc == 3 && str_eq(argv[1], "--probe-userns"))
        return probe(argv[2]);
    if (!parse_arguments(argc, argv, &id, &pod.dir))
        return usage();
    (void)snprintf(pod.id, sizeof(pod.id), "%s", id);
    pod.listener.fd = -1;
    pod.signals = (struct source){.fd = -1, .ready = signals_ready};
    pod.idle_timer.fired = idle_fired;
    for (int i = 0; i < POD_NS_COUNT; i++)
        pod.ns[i] = -1;
    pod.mount_template = -1;
    (void)setsid();
    (void)close_range(CONTROL_FD + 1, ~0U, 0); // nothing of crispd's lives on here
    if (chdir("/") < 0)                        // nor is its directory's file system held
        return 1;
    harden(id);
    if (run(&pod, &err) < 0) {
        log_error("crisp-pod ends", "pod", id, "error", err.message);
        return 1;
    }
    return 0;
}
