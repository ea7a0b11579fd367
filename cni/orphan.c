#include "cni/orphan.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/ctx.h"
#include "base/file.h"
#include "base/str.h"

#define ENVIRON_MAX ((size_t)256 << 10)
#define FINISH_NS   (3 * NS_PER_SEC) // of age: what began before the daemon ended has had most of it by now
#define GONE_NS     (2 * NS_PER_SEC)

static bool has_variable(const char *environ_text, size_t len, const char *variable)
{
    for (size_t i = 0; i < len; i += strlen(environ_text + i) + 1)
        if (str_eq(environ_text + i, variable))
            return true;
    return false;
}

static bool is_plugin_of(int pid, const char *variable)
{
    char path[40];
    size_t len = 0;
    _cleanup_free_ char *text = NULL;
    (void)snprintf(path, sizeof(path), "/proc/%d/environ", pid);
    return file_read(path, ENVIRON_MAX, &text, &len, NULL) == 0 && has_variable(text, len, variable);
}

// What is left of FINISH_NS for a process that started at `ticks` since boot.
static int64_t patience_ns(int pid)
{
    uint64_t ticks;
    struct timespec now;
    if (clock_process_start(pid, &ticks) < 0 || clock_gettime(CLOCK_BOOTTIME, &now) != 0)
        return 0;
    int64_t age_ns =
        now.tv_sec * NS_PER_SEC + now.tv_nsec - (int64_t)ticks * (NS_PER_SEC / sysconf(_SC_CLK_TCK));
    return age_ns < FINISH_NS ? FINISH_NS - age_ns : 0;
}

// By pidfd, and looked at again through it, so that a number that was reused meanwhile is not hit.
static bool end_plugin(int pid, const char *variable)
{
    const struct ctx none = CTX_NONE;
    _cleanup_fd_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 || !is_plugin_of(pid, variable))
        return false;
    struct ctx until = ctx_with_timeout(&none, patience_ns(pid));
    if (ctx_wait_fd(&until, pidfd, POLLIN, NULL) == 1 ||
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
        return false;
    until = ctx_with_timeout(&none, GONE_NS);
    (void)ctx_wait_fd(&until, pidfd, POLLIN, NULL);
    return true;
}

int cni_orphan_end(const char *container_id)
{
    _cleanup_free_ char *variable = str_printf("CNI_CONTAINERID=%s", container_id);
    _cleanup_(dir_closep) DIR *proc = opendir("/proc");
    int killed = 0;
    if (!variable || !proc)
        return 0;
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own DIR
        uint64_t pid;
        if (str_parse_u64(entry->d_name, 1, INT32_MAX, &pid) == 0 && (int)pid != getpid() &&
            is_plugin_of((int)pid, variable))
            killed += end_plugin((int)pid, variable);
    }
    return killed;
}
