// OOM scores of the processes of a place.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define PASSES_MAX 8 // against processes that fork meanwhile: a child has its parent's score

struct rescore {
    int64_t from, to;
    unsigned changed, refused;
};

static void rescore(pid_t pid, void *arg)
{
    struct rescore *s = arg;
    char path[48], text[16];
    int64_t score;
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    // One descriptor for reading and writing: it stays that process's, or fails.
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (str_parse_i64(text, -1000, 1000, &score) < 0 || score != s->from)
        return; // a process that has set its own keeps it
    int len = snprintf(text, sizeof(text), "%lld", (long long)s->to);
    if (pwrite(fd, text, (size_t)len, 0) >= 0)
        s->changed++;
    else if (errno == EACCES || errno == EPERM)
        s->refused++;
}

int cgroup_set_oom_score(struct cgroup_host *h, const char *path, int64_t from, int64_t to)
{
    struct rescore s = {.from = from, .to = to};
    if (from == to)
        return 0;
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        s.changed = s.refused = 0;
        long n = cgroup_each_pid(&h->fds[0], path, rescore, &s);
        if (n < 0 && n != -ENOENT)
            return (int)n;
        if (s.changed == 0)
            break;
    }
    return s.refused > 0 ? -EPERM : 0;
}
