#include "image/pull/layer_unpack.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/loose.h"
#include "image/pull/tree.h"
#include "image/pull/unpack.h"

#define OPAQUE_MAX (64 * 1024)

void layer_unpack_init(struct layer_unpack *u, const Pull__Layer *desc)
{
    *u = (struct layer_unpack){.desc = desc, .data_fd = -1, .event_fd = -1};
    pb_frame_reader_init(&u->events);
}

void layer_unpack_done(struct layer_unpack *u)
{
    fd_closep(&u->data_fd);
    fd_closep(&u->event_fd);
    pb_frame_reader_done(&u->events);
    for (size_t i = 0; i < u->n_opaque; i++)
        free(u->opaque_dirs[i]);
    free(u->opaque_dirs);
    free(u->pending);
    free(u->dir);
    if (u->result)
        pull__unpack_done__free_unpacked(u->result, NULL);
    layer_unpack_init(u, u->desc);
}

int layer_unpack_start(struct layer_unpack *u, int forker, char *dir, const Pull__Limits *limits,
                       struct error *err)
{
    u->dir = dir;
    if (mkdir(dir, 0755) < 0)
        return error_errno(err, errno, "make %s", dir);
    return unpack_start(forker, dir, limits, &u->data_fd, &u->event_fd, err);
}

// Writes what the pipe takes of bytes: how many; the child's end is noticed by its events.
static size_t write_some(struct layer_unpack *u, const char *bytes, size_t len)
{
    size_t done = 0;

    while (done < len && !u->broken) {
        ssize_t n = write(u->data_fd, bytes + done, len - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            u->broken = true;
    }
    return done;
}

static int keep_pending(struct layer_unpack *u, const char *bytes, size_t len)
{
    if (len > u->pending_alloc) {
        char *larger = realloc(u->pending, len);
        if (!larger)
            return -ENOMEM;
        u->pending = larger;
        u->pending_alloc = len;
    }
    memcpy(u->pending, bytes, len);
    u->pending_pos = 0;
    u->pending_len = len;
    return 0;
}

int layer_unpack_write(struct layer_unpack *u, const char *bytes, size_t len)
{
    size_t written = write_some(u, bytes, len);

    if (u->broken)
        return -EPIPE;
    return written < len ? keep_pending(u, bytes + written, len - written) : 0;
}

bool layer_unpack_is_full(const struct layer_unpack *u)
{
    return u->pending_pos < u->pending_len && !u->broken;
}

void layer_unpack_flush(struct layer_unpack *u)
{
    if (layer_unpack_is_full(u))
        u->pending_pos += write_some(u, u->pending + u->pending_pos, u->pending_len - u->pending_pos);
}

void layer_unpack_end(struct layer_unpack *u)
{
    fd_closep(&u->data_fd);
}

static int remember_opaque(struct layer_unpack *u, const ProtobufCBinaryData *path, struct error *err)
{
    char *copy;

    if (u->n_opaque == u->opaque_alloc) {
        size_t n = u->opaque_alloc ? 2 * u->opaque_alloc : 16;
        char **larger = n <= OPAQUE_MAX ? reallocarray(u->opaque_dirs, n, sizeof(*larger)) : NULL;
        if (!larger)
            return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                             "layer %s has too many opaque directories", u->desc->digest);
        u->opaque_dirs = larger;
        u->opaque_alloc = n;
    }
    copy = strndup(path->data ? (const char *)path->data : "", path->len);
    if (!copy)
        return error_errno(err, ENOMEM, "layer %s", u->desc->digest);
    u->opaque_dirs[u->n_opaque++] = copy;
    return 0;
}

// The child has ended; what it left is resolved as strictly as it had to.
static int mark_opaque_dirs(struct layer_unpack *u, struct error *err)
{
    _cleanup_fd_ int root = open(u->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct tree tree;
    int r = 0;

    if (root < 0)
        return error_errno(err, errno, "open %s", u->dir);
    tree_init(&tree, root);
    for (size_t i = 0; r == 0 && i < u->n_opaque; i++) {
        char path[PATH_MAX];
        _cleanup_fd_ int fd = -1;

        r = tree_clean_path(*u->opaque_dirs[i] ? u->opaque_dirs[i] : ".", path, err);
        if (r < 0)
            break;
        fd = tree_open_dir(&tree, path, NULL);
        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
            continue; // a later entry took its place
        if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
            r = error_errno(err, fd < 0 ? -fd : errno, "mark \"%s\" opaque", path);
    }
    tree_done(&tree);
    return r;
}

static int on_unpacked(struct layer_unpack *u, Pull__UnpackEvent *event, struct error *err)
{
    u->result = steal_ptr(&event->done);
    event->kind_case = PULL__UNPACK_EVENT__KIND__NOT_SET;
    if (u->data_fd >= 0)
        return error_set(err, STATUS_INTERNAL, EPROTO, "the unpacker of layer %s ended early",
                         u->desc->digest);
    if (!str_eq(u->result->diff_id, u->desc->diff_id))
        return error_set(err, STATUS_DATA_LOSS, EBADMSG,
                         "digest mismatch: layer %s should unpack to %s, but unpacks to %s", u->desc->digest,
                         u->desc->diff_id, u->result->diff_id);
    if (loose_check(u->result->loose, false, err) < 0)
        return error_wrap(err, "the unpacker of layer %s", u->desc->digest);
    return mark_opaque_dirs(u, err);
}

// 1: the layer is complete.
static int on_event(struct layer_unpack *u, Pull__UnpackEvent *event, struct error *err)
{
    int r;

    switch (event->kind_case) {
    case PULL__UNPACK_EVENT__KIND_OPAQUE_DIR:
        return remember_opaque(u, &event->opaque_dir, err);
    case PULL__UNPACK_EVENT__KIND_FAILED:
        return error_set(err, (enum status)event->failed->status, event->failed->errnum, "layer %s: %s",
                         u->desc->digest, event->failed->message);
    case PULL__UNPACK_EVENT__KIND_DONE:
        r = on_unpacked(u, event, err);
        return r < 0 ? r : 1;
    default:
        return error_set(err, STATUS_INTERNAL, EPROTO, "the unpacker of layer %s talks nonsense",
                         u->desc->digest);
    }
}

int layer_unpack_step(struct layer_unpack *u, struct error *err)
{
    for (;;) {
        ProtobufCMessage *m = NULL;
        size_t n_fds = 0;
        int r = pb_frame_reader_take(&u->events, &pull__unpack_event__descriptor, NULL, &m, NULL, &n_fds);

        if (r > 0) {
            r = on_event(u, (Pull__UnpackEvent *)m, err);
            protobuf_c_message_free_unpacked(m, NULL);
            if (r != 0)
                return r;
            continue;
        }
        long n = r < 0 ? r : pb_frame_reader_feed(&u->events, u->event_fd);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0 && n != -EINTR)
            return error_set(
                err, STATUS_INTERNAL, EPIPE,
                "the unpacker of layer %s died; it does when a layer needs more memory than it may "
                "have, or by a fault of its own: see the system log",
                u->desc->digest);
    }
}
