// Unpacked layers become the store's: a name, a rename, and a rename. The disk has time: store_settle.c.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/store.h"

// Eight letters of base32, not yet in use: short, for 127 of them must fit into overlay's mount options.
static int choose_dir(const struct image_store *s, char out[LAYER_DIR_LEN + 1], struct error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";

    for (int tries = 0; tries < 100; tries++) {
        char hex[2 * LAYER_DIR_LEN + 1];
        _cleanup_free_ char *path = NULL;

        if (str_random_hex(hex, 2 * LAYER_DIR_LEN) < 0)
            break;
        for (int i = 0; i < LAYER_DIR_LEN; i++) {
            unsigned value;
            if (sscanf(hex + 2 * i, "%2x", &value) != 1)
                break;
            out[i] = letters[value & 31];
        }
        out[LAYER_DIR_LEN] = '\0';
        path = str_printf("%s/%s", s->layers_dir, out);
        if (path && access(path, F_OK) < 0)
            return 0;
    }
    return error_set(err, STATUS_INTERNAL, EEXIST, "no name for a layer's folder");
}

int layer_publish(struct image_store *s, struct layer *layer, const char *from, struct error *err)
{
    char dir[LAYER_DIR_LEN + 1];
    int r = choose_dir(s, dir, err);

    if (r < 0)
        return r;
    _cleanup_free_ char *to = str_printf("%s/%s", s->layers_dir, dir);
    if (!to)
        return error_errno(err, ENOMEM, "publish a layer");
    // The name is known before the folder is there, so that a sweep leaves it alone.
    pthread_mutex_lock(&s->lock);
    memcpy(layer->dir, dir, sizeof(layer->dir));
    pthread_mutex_unlock(&s->lock);
    if (rename(from, to) < 0)
        return error_errno(err, errno, "publish layer %s",
                           to); // the layer stays its fetcher's, who gives it up
    pthread_mutex_lock(&s->lock);
    bool lost = layer->epoch != s->lost_epoch;
    if (lost) {
        pthread_mutex_unlock(&s->lock);
        (void)trash_put(s, to, err); // or a sweep takes it
        return error_set(err, STATUS_INTERNAL, EIO,
                         "the disk failed to write below %s while layer %s was unpacked; pull again",
                         s->layers_dir, layer->diff_id);
    }
    layer->seq = ++s->publish_seq;
    layer->fetcher = NULL;
    pull_ops_wake(s);
    pthread_mutex_unlock(&s->lock);
    return 0;
}
