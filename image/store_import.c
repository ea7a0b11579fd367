// Images of archives: each goes the way of a pull, with a file in the place of the registry.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/policy.h"
#include "image/store_pull.h"

int image_store_spool(struct image_store *s, struct error *err)
{
    int fd = open(s->staging_dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

    return fd >= 0 ? fd : error_errno(err, errno, "make a file in %s", s->staging_dir);
}

// Names

// A normalised name with a tag, and with it NAME@DIGEST if the archive has a manifest.
static int add_reference(char ***names, const struct reference *ref, const char *manifest_digest)
{
    _cleanup_free_ char *name = reference_name(ref);
    _cleanup_free_ char *tagged = name && ref->tag ? str_printf("%s:%s", name, ref->tag) : NULL;
    _cleanup_free_ char *digest = name ? str_printf("%s@%s", name, manifest_digest) : NULL;

    if (!name || !digest || (ref->tag && !tagged) || (tagged && strv_append(names, tagged) < 0))
        return -ENOMEM;
    if (!*manifest_digest)
        return 0;
    for (char **n = *names; *n; n++)
        if (str_eq(*n, digest))
            return 0;
    return strv_append(names, digest);
}

static int add_name(const struct image_store *s, char ***names, const char *text, const char *manifest_digest,
                    struct error *err)
{
    struct reference ref;
    int r = reference_parse(text, &ref, err);

    if (r < 0)
        return error_wrap(err, "a name in the archive can't be used (--name gives another)");
    if (ref.digest && !str_eq(ref.digest, manifest_digest))
        r = error_set(err, STATUS_DATA_LOSS, EBADMSG,
                      "the archive calls the image \"%.300s\", but its manifest is %s", text,
                      *manifest_digest ? manifest_digest : "missing");
    else
        r = policy_check_import(s->policies, s->allowed, &ref, err);
    if (r == 0 && add_reference(names, &ref, manifest_digest) < 0)
        r = error_errno(err, ENOMEM, "name an image");
    reference_done(&ref);
    return r;
}

static int add_tag(const struct image_store *s, char ***names, const char *base, const char *tag,
                   const char *manifest_digest, struct error *err)
{
    _cleanup_free_ char *text = str_printf("%s:%s", base, tag);

    return text ? add_name(s, names, text, manifest_digest, err) : error_errno(err, ENOMEM, "name an image");
}

// The tag of a name in an archive; NULL: none.
static const char *tag_of(const char *name)
{
    const char *slash = strrchr(name, '/'), *colon = strrchr(slash ? slash : name, ':');

    return colon && !strchr(name, '@') ? colon + 1 : NULL;
}

static int names_below(const struct image_store *s, const char *base, const Pull__PullResolved *resolved,
                       char ***names, struct error *err)
{
    int r = 0;
    bool any = false;

    for (size_t i = 0; r == 0 && i < resolved->n_archive_names; i++) {
        const char *tag = tag_of(resolved->archive_names[i]);
        if (tag)
            r = add_tag(s, names, base, tag, resolved->manifest_digest, err);
        any = any || tag;
    }
    for (size_t i = 0; r == 0 && i < resolved->n_archive_tags; i++) {
        r = add_tag(s, names, base, resolved->archive_tags[i], resolved->manifest_digest, err);
        any = true;
    }
    return r == 0 && !any ? add_name(s, names, base, resolved->manifest_digest, err) : r;
}

int import_names(const struct pull_op *op, const Pull__PullResolved *resolved, char ***names,
                 struct error *err)
{
    const struct image_store *s = op->store;
    int r = 0;

    *names = strv_new(0);
    if (!*names)
        return error_errno(err, ENOMEM, "name an image");
    if (op->archive_name && tag_of(op->archive_name) && resolved->archive_images > 1)
        return error_set(
            err, STATUS_INVALID_ARGUMENT, EINVAL,
            "the archive has %u images, which can't all be called \"%s\": give a name without a tag",
            resolved->archive_images, op->archive_name);
    if (op->archive_name && tag_of(op->archive_name))
        return add_name(s, names, op->archive_name, resolved->manifest_digest, err);
    if (op->archive_name)
        return names_below(s, op->archive_name, resolved, names, err);
    // A tag alone says of which repository it is nowhere: such an image has only its id.
    for (size_t i = 0; r == 0 && i < resolved->n_archive_names; i++)
        r = add_name(s, names, resolved->archive_names[i], resolved->manifest_digest, err);
    return r == 0 && !(*names)[0] ? policy_check_import(s->policies, s->allowed, NULL, err) : r;
}

// The work

static int check_name(const char *name, struct error *err)
{
    struct reference ref;
    int r = reference_parse(name, &ref, err);

    if (r < 0)
        return r;
    if (ref.digest)
        r = error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                      "\"%s\" has a digest: an import gives a repository, or a repository and a tag", name);
    reference_done(&ref);
    return r;
}

static int start_import(struct image_store *s, int fd, unsigned index, const char *name, struct pull_op **out,
                        struct error *err)
{
    const struct reference nothing = {0};
    _cleanup_free_ char *key = str_printf("image %u of an archive", index + 1);
    struct pull_op *op = key ? pull_op_new(s, &nothing, key, (const uint8_t *)"", 0) : NULL;
    int r;

    if (!op)
        return error_errno(err, ENOMEM, "import");
    op->archive_fd = fd;
    op->archive_index = index;
    op->archive_name = name;
    op->cancelled = true; // nobody joins it
    pthread_mutex_lock(&s->lock);
    r = pull_op_start(s, op, err);
    pthread_mutex_unlock(&s->lock);
    if (r < 0)
        pull_op_free(op);
    else
        *out = op;
    return r;
}

// One that is called off still reads the file: it is waited for.
static void wait_end(const struct pull_op *op)
{
    struct ctx forever = CTX_NONE;

    while (ctx_wait_fd(&forever, op->done_fd, POLLIN, NULL) != 1)
        ;
}

static int import_one(struct image_store *s, int fd, unsigned index, const char *name, const struct ctx *ctx,
                      const struct image_watch *watch, char **id, char ***names, unsigned *n_images,
                      struct error *err)
{
    struct pull_op *op = NULL;
    int r = start_import(s, fd, index, name, &op, err);

    if (r < 0)
        return r;
    r = pull_watch_wait(op, ctx, watch, err);
    if (r < 0) {
        (void)!write(op->cancel_fd, &(uint64_t){1}, sizeof(uint64_t));
        wait_end(op);
    } else {
        pthread_mutex_lock(&s->lock); // brings over what its thread wrote
        pthread_mutex_unlock(&s->lock);
        r = op->result;
        *err = op->error;
    }
    if (r == 0) { // copies: its thread may still log
        *id = strdup(op->image_id);
        *names = strv_new(0);
        for (char **n = op->names; *names && *n; n++)
            if (strv_append(names, *n) < 0)
                strv_freep(names);
        *n_images = op->archive_images;
        if (!*id || !*names)
            r = error_errno(err, ENOMEM, "import");
    }
    pull_op_leave(s, op);
    return r;
}

int image_store_import(struct image_store *s, int fd, const char *name, const struct ctx *ctx,
                       const struct image_watch *watch, image_import_fn fn, void *data, struct error *err)
{
    unsigned n_images = 1;
    int r = name ? check_name(name, err) : 0;

    for (unsigned i = 0; r == 0 && i < n_images; i++) {
        _cleanup_free_ char *id = NULL;
        _cleanup_strv_ char **names = NULL;

        r = import_one(s, fd, i, name, ctx, watch, &id, &names, &n_images, err);
        if (r == 0)
            r = fn(data, id, names, i, n_images, err);
    }
    return r;
}
