// The full check: every layer is read and compared with the checksum that was taken when it was unpacked.
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/store.h"

// Copies of what is looked at, as `lock` isn't held meanwhile.
static struct layer *copy_layers(struct image_store *s, size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&s->lock);
    struct layer *copies = calloc(map_len(s->layers) + 1, sizeof(*copies));
    for (struct map_iter it = {0}; copies && map_next(s->layers, &it);) {
        const struct layer *layer = it.value;
        if (layer->fetcher && !layer->suspect)
            continue;
        copies[*n] = *layer;
        copies[*n].diff_id = strdup(layer->diff_id);
        *n += copies[*n].diff_id != NULL;
    }
    pthread_mutex_unlock(&s->lock);
    return copies;
}

static int condemn(struct image_store *s, const struct layer *copy, const char *why, struct error *err)
{
    pthread_mutex_lock(&s->write);
    pthread_mutex_lock(&s->lock);
    struct layer *layer = map_get(s->layers, copy->diff_id);
    pthread_mutex_unlock(&s->lock);
    int r = layer && str_eq(layer->dir, copy->dir) ? layer_condemn(s, layer, why, err) : 0;
    pthread_mutex_unlock(&s->write);
    return r;
}

static int verify_layer(struct image_store *s, const struct layer *copy, struct image_verified *out,
                        struct error *err)
{
    _cleanup_free_ char *path = str_printf("%s/%s", s->layers_dir, copy->dir);
    struct error why = ERROR_INIT;
    uint8_t sum[LAYER_SUM_LEN];

    if (!path)
        return error_errno(err, ENOMEM, "verify images");
    int r = layer_sum(path, NULL, NULL, sum, &why);
    out->layers++;
    if (r == -E2BIG || r == -ENOMEM) {
        out->unknown++;
        return 0;
    }
    if (r == 0 && !copy->summed) {
        out->unknown++;
        return layer_record_sum(s, copy->diff_id, copy->dir, sum, err);
    }
    if (r == 0 && memcmp(sum, copy->sum, LAYER_SUM_LEN) == 0) {
        if (!copy->suspect)
            return 0;
        r = layer_judge(s, copy->diff_id, copy->dir, NULL, err);
        return r < 0 ? r : layer_record_sum(s, copy->diff_id, copy->dir, sum, err);
    }
    out->damaged++;
    return condemn(s, copy, r < 0 ? why.message : "its content is not what was unpacked", err);
}

static void count_images(struct image_store *s, struct image_verified *out)
{
    pthread_mutex_lock(&s->lock);
    for (struct layer *l = s->condemned; l; l = l->next)
        out->condemned++;
    for (struct map_iter it = {0}; map_next(s->records, &it);) {
        const struct image_record *record = it.value;
        out->images += !record->removed;
        out->damaged_images += !record->removed && record->damaged;
    }
    pthread_mutex_unlock(&s->lock);
}

int image_store_verify(struct image_store *s, struct image_verified *out, struct error *err)
{
    size_t n;
    struct layer *copies = copy_layers(s, &n);
    int r = copies ? 0 : error_errno(err, ENOMEM, "verify images");

    *out = (struct image_verified){0};
    for (size_t i = 0; i < n; i++) {
        if (r == 0)
            r = verify_layer(s, &copies[i], out, err);
        free(copies[i].diff_id);
    }
    free(copies);
    if (r == 0)
        count_images(s, out);
    return r;
}
