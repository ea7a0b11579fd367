#include "cri/client/logtail.h"

#include <string.h>
#include <unistd.h>

#include "base/str.h"

void logtail_init(struct logtail *t, logtail_write_fn write_fn, void *data)
{
    *t = (struct logtail){.write = write_fn, .data = data};
}

// "time stream tag" without the last space. A tag is letters or words between colons; P or F comes first.
static int parse_head(struct logtail *t, struct error *err)
{
    char *stream = strchr(t->head, ' ');
    char *tag = stream ? strchr(stream + 1, ' ') : NULL;

    if (tag) {
        *stream++ = '\0';
        *tag++ = '\0';
    }
    if (tag && (str_eq(stream, "stdout") || str_eq(stream, "stderr")) && (*tag == 'P' || *tag == 'F') &&
        (tag[1] == '\0' || tag[1] == ':')) {
        t->stream = *stream && str_eq(stream, "stderr") ? LOGTAIL_STDERR : LOGTAIL_STDOUT;
        t->partial = *tag == 'P';
        return 0;
    }
    return error_set(err, STATUS_INTERNAL, EBADMSG, "the log isn't in CRI format: \"%.64s\"", t->head);
}

// Collects a line's head up to its third space. Returns how many bytes that took.
static long feed_head(struct logtail *t, const char *bytes, size_t len, struct error *err)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '\n' || t->head_len + 1 == sizeof(t->head)) {
            t->head[t->head_len] = '\0';
            return error_set(err, STATUS_INTERNAL, EBADMSG, "the log isn't in CRI format: \"%.64s\"",
                             t->head);
        }
        t->head[t->head_len++] = bytes[i];
        if (bytes[i] != ' ')
            continue;
        t->head[t->head_len] = '\0';
        size_t spaces = 0;
        for (const char *p = t->head; *p; p++)
            spaces += *p == ' ';
        if (spaces < 3)
            continue;
        t->head[t->head_len - 1] = '\0';
        int rc = parse_head(t, err);
        if (rc < 0)
            return rc;
        t->head_len = 0;
        t->in_text = true;
        return (long)i + 1;
    }
    return (long)len;
}

static long feed_text(struct logtail *t, const char *bytes, size_t len, struct error *err)
{
    const char *newline = memchr(bytes, '\n', len);
    size_t text = newline ? (size_t)(newline - bytes) : len;
    size_t out = newline && !t->partial ? text + 1 : text;

    int rc = out ? t->write(t->data, t->stream, bytes, out) : 0;
    if (rc < 0)
        return error_errno(err, rc, "write %s", t->stream == LOGTAIL_STDERR ? "stderr" : "stdout");
    t->in_text = !newline;
    return (long)(newline ? text + 1 : text);
}

int logtail_feed(struct logtail *t, const char *bytes, size_t len, struct error *err)
{
    while (len > 0) {
        long n = t->in_text ? feed_text(t, bytes, len, err) : feed_head(t, bytes, len, err);
        if (n < 0)
            return (int)n;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

long logtail_read(struct logtail *t, int fd, struct error *err)
{
    static char bytes[64 << 10];
    long total = 0;

    for (;;) {
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read the container's log");
        if (n == 0)
            return total;
        int rc = logtail_feed(t, bytes, (size_t)n, err);
        if (rc < 0)
            return rc;
        total += n;
    }
}
