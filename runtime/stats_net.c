// Traffic of a pod's interfaces, from net/dev of its network namespace: reading it takes no lock (RCU), while
// a netlink dump takes the rtnl lock that a CNI plugin at work may hold for long.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/stats_cache.h"

#define LINE_MAX_BYTES 256
#define TEXT_MAX       (STATS_INTERFACES_MAX * LINE_MAX_BYTES)
#define COLUMNS        11 // that are read: 16 follow a name
#define STACK_BYTES    (64u << 10)
// A seq_file hands out whole lines up to a page: less than this at once was all.
#define SHORT_TEXT_MAX 3072

struct visit {
    const char *path;
    int fd;
};

static void *visit_main(void *arg)
{
    struct visit *v = arg;
    _cleanup_fd_ int ns = open(v->path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) {
        v->fd = -errno;
        return NULL;
    }
    v->fd = open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC);
    if (v->fd < 0)
        v->fd = -errno;
    return NULL;
}

// By a thread that ends with it: none has to find its way back from the namespace.
int stats_net_open(const char *netns_path)
{
    struct visit v = {.path = netns_path, .fd = -EAGAIN};
    pthread_t thread;
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return -rc;
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    rc = pthread_create(&thread, &attr, visit_main, &v);
    pthread_attr_destroy(&attr);
    if (rc != 0)
        return -rc;
    pthread_join(thread, NULL);
    return v.fd;
}

bool stats_net_parse_line(const char *line, struct interface_stats *out)
{
    // Receive: bytes packets errs drop fifo frame compressed multicast. Transmit: bytes packets errs …
    uint64_t v[COLUMNS];
    const char *name = line + strspn(line, " ");
    size_t len = strcspn(name, ":\n");
    if (name[len] != ':' || len == 0 || len >= sizeof(out->name))
        return false;
    const char *at = name + len + 1;
    for (size_t i = 0; i < COLUMNS; i++) {
        char *end;
        v[i] = strtoull(at, &end, 10);
        if (end == at)
            return false;
        at = end;
    }
    *out =
        (struct interface_stats){.rx_bytes = v[0], .rx_errors = v[2], .tx_bytes = v[8], .tx_errors = v[10]};
    memcpy(out->name, name, len);
    return true;
}

// As much as fits; a line that doesn't is left out.
static ssize_t read_text(int fd, char *text)
{
    size_t used = 0;
    while (used < TEXT_MAX - 1) {
        ssize_t n = pread(fd, text + used, TEXT_MAX - 1 - used, (off_t)used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    while (used > 0 && text[used - 1] != '\n')
        used--;
    text[used] = '\0';
    return (ssize_t)used;
}

static int parse_text(const char *text, struct arena *arena, struct interface_stats **out, size_t *n)
{
    struct interface_stats one;
    size_t lines = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++)
        lines++;
    *n = 0;
    *out = arena_alloc(arena, (lines + 1) * sizeof(**out));
    if (!*out)
        return -ENOMEM;
    for (const char *line = text; *line && *n < STATS_INTERFACES_MAX; line = strchr(line, '\n') + 1) {
        if (stats_net_parse_line(line, &one))
            (*out)[(*n)++] = one;
    }
    return 0;
}

int stats_net_read(int fd, struct arena *arena, struct interface_stats **out, size_t *n)
{
    char few[SHORT_TEXT_MAX + 1];
    ssize_t len = pread(fd, few, SHORT_TEXT_MAX, 0);
    if (len > 0 && len < SHORT_TEXT_MAX && few[len - 1] == '\n') {
        few[len] = '\0';
        return parse_text(few, arena, out, n);
    }
    _cleanup_free_ char *text = malloc(TEXT_MAX);
    len = text ? read_text(fd, text) : -ENOMEM;
    return len < 0 ? (int)len : parse_text(text, arena, out, n);
}
