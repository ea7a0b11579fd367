#include "image/pull/export.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/map.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/pull/digest.h"
#include "image/pull/export_config.h"
#include "image/pull/json.h"
#include "image/pull/tar_write.h"
#include "image/pull/unpack.h"

#define CHUNK        (256 * 1024)
#define HEADER_MAX   (64u << 10)
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX    "application/vnd.oci.image.index.v1+json"
#define OCI_CONFIG   "application/vnd.oci.image.config.v1+json"
#define OCI_LAYER    "application/vnd.oci.image.layer.v1.tar"
#define BLOBS        "blobs/sha256/"
#define GZIP_WINDOW  (15 + 16) // 32 KiB, with gzip's header and not zlib's

struct blob {
    char digest[DIGEST_TEXT_MAX], diff_id[DIGEST_TEXT_MAX];
    uint64_t size;
};

struct exporter {
    const Pull__ExportRequest *request;
    int sock, forker, out_fd, spool_fd;
    struct map *layers;  // folder -> struct blob, fresh memory
    struct map *written; // digests of small blobs that are in the archive
    json_t *entries;     // of index.json
    json_t *docker;      // manifest.json
    unsigned char *in, *out;
};

static int put(const struct exporter *x, const void *data, size_t len, struct error *err)
{
    int r = file_write_all(x->out_fd, data, len);

    return r < 0 ? error_errno(err, -r, "hand out the archive") : 0;
}

static int put_header(const struct exporter *x, const char *name, uint64_t size, struct error *err)
{
    const struct tar_entry e = {.name = name, .type = '0', .mode = 0644, .size = size};
    _cleanup_(buf_done) struct buf header;
    int r;

    buf_init(&header, HEADER_MAX);
    r = tar_write_header(&header, &e);
    return r < 0 ? error_errno(err, -r, "write the archive") : put(x, header.data, header.len, err);
}

static int put_padding(const struct exporter *x, uint64_t size, struct error *err)
{
    static const char zeros[TAR_BLOCK];

    return put(x, zeros, tar_padding(size), err);
}

static int put_text(const struct exporter *x, const char *name, const char *text, struct error *err)
{
    size_t len = strlen(text);
    int r = put_header(x, name, len, err);

    if (r == 0)
        r = put(x, text, len, err);
    return r < 0 ? r : put_padding(x, len, err);
}

static void blob_name(const char *digest, char out[sizeof(BLOBS) + 64])
{
    (void)snprintf(out, sizeof(BLOBS) + 64, BLOBS "%s", digest + strlen("sha256:"));
}

// JSON as a blob, once; its descriptor, NULL on failure.
static json_t *put_json_blob(struct exporter *x, const json_t *json, const char *type, struct error *err)
{
    _cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    char digest[DIGEST_TEXT_MAX], name[sizeof(BLOBS) + 64];

    if (!text || digest_of(text, strlen(text), digest) < 0) {
        error_errno(err, ENOMEM, "write the archive");
        return NULL;
    }
    blob_name(digest, name);
    if (!map_get(x->written, digest) &&
        (put_text(x, name, text, err) < 0 || map_set(x->written, digest, x) < 0))
        return NULL;
    return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size",
                     (json_int_t)strlen(text));
}

// Layers

struct packer {
    struct digest *diff, *blob; // blob: of what is compressed; NULL: it isn't
    z_stream z;
    bool z_begun;
    uint64_t size;
};

static void packer_done(struct packer *p)
{
    digest_free(p->diff);
    digest_free(p->blob);
    if (p->z_begun)
        (void)deflateEnd(&p->z);
}

static int packer_begin(struct packer *p, bool compress, struct error *err)
{
    *p = (struct packer){.diff = digest_new(), .blob = compress ? digest_new() : NULL};
    if (!p->diff || (compress && !p->blob))
        return error_errno(err, ENOMEM, "hash a layer");
    if (compress &&
        deflateInit2(&p->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return error_errno(err, ENOMEM, "compress a layer");
    p->z_begun = compress;
    return 0;
}

static int spool(struct exporter *x, struct packer *p, const void *data, size_t len, struct error *err)
{
    int r = file_write_all(x->spool_fd, data, len);

    p->size += len;
    if (r == 0 && p->blob)
        r = digest_update(p->blob, data, len);
    return r < 0 ? error_errno(err, -r, "keep a layer on the image store's disk") : 0;
}

static int pack(struct exporter *x, struct packer *p, size_t len, bool end, struct error *err)
{
    int r = digest_update(p->diff, x->in, len), z = Z_OK;

    if (r < 0)
        return error_errno(err, -r, "hash a layer");
    if (!p->blob)
        return spool(x, p, x->in, len, err);
    p->z.next_in = x->in;
    p->z.avail_in = (uInt)len;
    do {
        p->z.next_out = x->out;
        p->z.avail_out = CHUNK;
        z = deflate(&p->z, end ? Z_FINISH : Z_NO_FLUSH);
        if (z == Z_STREAM_ERROR)
            return error_set(err, STATUS_INTERNAL, EIO, "compress a layer");
        r = spool(x, p, x->out, CHUNK - p->z.avail_out, err);
    } while (r == 0 && p->z.avail_out == 0);
    return r;
}

// The child has said how it went before its end of the pipe was closed.
static int hear_end(int event_fd, const char *dir, struct error *err)
{
    struct pb_frame_reader reader;
    ProtobufCMessage *m = NULL;
    int r = 0;

    pb_frame_reader_init(&reader);
    while (r == 0) {
        size_t n_fds = 0;
        r = pb_frame_reader_take(&reader, &pull__unpack_event__descriptor, NULL, &m, NULL, &n_fds);
        if (r != 0)
            break;
        long n = pb_frame_reader_feed(&reader, event_fd);
        if (n == 0 || (n < 0 && n != -EINTR))
            r = -EPIPE;
    }
    pb_frame_reader_done(&reader);
    if (r < 0)
        return error_set(err, STATUS_INTERNAL, EPIPE,
                         "the process that reads layer %s died: see the system log", dir);
    const Pull__UnpackEvent *event = (const Pull__UnpackEvent *)m;
    r = 0;
    if (event->kind_case == PULL__UNPACK_EVENT__KIND_FAILED)
        r = error_set(err, (enum status)event->failed->status, event->failed->errnum, "layer %s: %s", dir,
                      event->failed->message);
    protobuf_c_message_free_unpacked(m, NULL);
    return r;
}

static int pack_layer(struct exporter *x, struct packer *p, const char *dir, struct error *err)
{
    _cleanup_fd_ int data_fd = -1, event_fd = -1;
    int r = unpack_start_reader(x->forker, dir, &data_fd, &event_fd, err);

    if (r == 0 && (ftruncate(x->spool_fd, 0) < 0 || lseek(x->spool_fd, 0, SEEK_SET) < 0))
        r = error_errno(err, errno, "keep a layer on the image store's disk");
    while (r == 0) {
        ssize_t n = read(data_fd, x->in, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read layer %s", dir);
        r = pack(x, p, (size_t)n, n == 0, err);
        if (n == 0)
            break;
    }
    return r < 0 ? r : hear_end(event_fd, dir, err);
}

static int put_spool(const struct exporter *x, const struct blob *b, struct error *err)
{
    char name[sizeof(BLOBS) + 64];
    off_t at = 0;
    int r;

    blob_name(b->digest, name);
    r = put_header(x, name, b->size, err);
    while (r == 0 && (uint64_t)at < b->size) {
        ssize_t n = sendfile(x->out_fd, x->spool_fd, &at, CHUNK);
        if (n == 0 || (n < 0 && errno != EINTR))
            r = error_errno(err, n < 0 ? errno : ENODATA, "hand out the archive");
    }
    return r < 0 ? r : put_padding(x, b->size, err);
}

static int add_layer(struct exporter *x, const char *dir, const struct blob **out, struct error *err)
{
    struct blob *b = map_get(x->layers, dir);
    struct packer p;
    int r;

    *out = b;
    if (b)
        return 0;
    b = calloc(1, sizeof(*b));
    if (!b || map_set(x->layers, dir, b) < 0) {
        free(b);
        return error_errno(err, ENOMEM, "export");
    }
    r = packer_begin(&p, x->request->compress, err);
    if (r == 0)
        r = pack_layer(x, &p, dir, err);
    if (r == 0 && digest_final(p.diff, b->diff_id) < 0)
        r = error_set(err, STATUS_INTERNAL, EIO, "hash a layer");
    if (r == 0 && p.blob && digest_final(p.blob, b->digest) < 0)
        r = error_set(err, STATUS_INTERNAL, EIO, "hash a layer");
    if (!p.blob)
        memcpy(b->digest, b->diff_id, sizeof(b->digest));
    b->size = p.size;
    packer_done(&p);
    *out = b;
    if (r < 0 || map_get(x->written, b->digest)) // two layers may well have the same files
        return r;
    r = put_spool(x, b, err);
    return r == 0 && map_set(x->written, b->digest, x) < 0 ? error_errno(err, ENOMEM, "export") : r;
}

// Images

static int add_layers(struct exporter *x, const Pull__ExportImage *image, json_t *layers, json_t *diff_ids,
                      json_t *paths, struct error *err)
{
    const char *type = x->request->compress ? OCI_LAYER "+gzip" : OCI_LAYER;

    for (size_t i = 0; i < image->n_layer_dirs; i++) {
        const struct blob *b;
        char name[sizeof(BLOBS) + 64];
        int r = add_layer(x, image->layer_dirs[i], &b, err);

        if (r < 0)
            return r;
        blob_name(b->digest, name);
        (void)json_array_append_new(layers, json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest",
                                                      b->digest, "size", (json_int_t)b->size));
        (void)json_array_append_new(diff_ids, json_string(b->diff_id));
        (void)json_array_append_new(paths, json_string(name));
    }
    return 0;
}

static void add_entries(struct exporter *x, const Pull__ExportImage *image, const json_t *manifest)
{
    for (size_t i = 0; i < image->n_names || i == 0; i++) {
        json_t *entry = json_copy((json_t *)(uintptr_t)manifest);
        const char *name = image->n_names ? image->names[i] : NULL;
        const char *colon = name ? strrchr(name, ':') : NULL;

        if (colon)
            (void)json_object_set_new(entry, "annotations",
                                      json_pack("{s:s, s:s}", "io.containerd.image.name", name,
                                                "org.opencontainers.image.ref.name", colon + 1));
        (void)json_array_append_new(x->entries, entry);
    }
}

static void add_docker(struct exporter *x, const Pull__ExportImage *image, const json_t *config,
                       json_t *paths)
{
    char name[sizeof(BLOBS) + 64];
    json_t *tags = image->n_names ? json_array() : json_null();

    for (size_t i = 0; i < image->n_names; i++)
        (void)json_array_append_new(tags, json_string(image->names[i]));
    blob_name(json_string_value(json_object_get(config, "digest")), name);
    (void)json_array_append_new(
        x->docker, json_pack("{s:s, s:o, s:O}", "Config", name, "RepoTags", tags, "Layers", paths));
}

static int tell_image(const struct exporter *x, const json_t *config, struct error *err)
{
    Pull__FromPull m = PULL__FROM_PULL__INIT;
    Pull__Exported exported = PULL__EXPORTED__INIT;

    exported.image_id = (char *)(uintptr_t)json_string_value(json_object_get(config, "digest"));
    m.kind_case = PULL__FROM_PULL__KIND_EXPORTED;
    m.exported = &exported;
    return pb_frame_send(x->sock, &m.base, NULL, 0, err);
}

static int add_image(struct exporter *x, const Pull__ExportImage *image, struct error *err)
{
    _cleanup_json_ json_t *layers = json_array(), *diff_ids = json_array(), *paths = json_array();
    _cleanup_json_ json_t *config = NULL, *config_desc = NULL, *manifest = NULL, *manifest_desc = NULL;
    int r = layers && diff_ids && paths ? 0 : error_errno(err, ENOMEM, "export");

    if (r == 0)
        r = add_layers(x, image, layers, diff_ids, paths, err);
    if (r == 0)
        r = export_config_make(image, diff_ids, &config, err);
    if (r < 0)
        return r;
    config_desc = put_json_blob(x, config, OCI_CONFIG, err);
    if (!config_desc)
        return -EIO;
    manifest = json_pack("{s:i, s:s, s:O, s:O}", "schemaVersion", 2, "mediaType", OCI_MANIFEST, "config",
                         config_desc, "layers", layers);
    manifest_desc = put_json_blob(x, manifest, OCI_MANIFEST, err);
    if (!manifest_desc)
        return -EIO;
    add_entries(x, image, manifest_desc);
    add_docker(x, image, config_desc, paths);
    return tell_image(x, config_desc, err);
}

static int put_named_json(const struct exporter *x, const char *name, const json_t *json, struct error *err)
{
    _cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

    return text ? put_text(x, name, text, err) : error_errno(err, ENOMEM, "export");
}

static int put_all(struct exporter *x, struct error *err)
{
    static const char end[2 * TAR_BLOCK];
    _cleanup_json_ json_t *index = NULL;
    int r = put_text(x, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err);

    for (size_t i = 0; r == 0 && i < x->request->n_images; i++)
        r = add_image(x, x->request->images[i], err);
    index = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", OCI_INDEX, "manifests", x->entries);
    if (r == 0)
        r = put_named_json(x, "index.json", index, err);
    if (r == 0)
        r = put_named_json(x, "manifest.json", x->docker, err);
    return r < 0 ? r : put(x, end, sizeof(end), err);
}

int export_run(const Pull__ExportRequest *request, int sock, int forker, int out_fd, struct error *err)
{
    struct exporter x = {.request = request, .sock = sock, .forker = forker, .out_fd = out_fd};
    int r = 0;

    x.spool_fd = open(request->spool_dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
    if (x.spool_fd < 0)
        return error_errno(err, errno, "make a file in %s", request->spool_dir);
    x.layers = map_new();
    x.written = map_new();
    x.entries = json_array();
    x.docker = json_array();
    x.in = malloc(CHUNK);
    x.out = malloc(CHUNK);
    if (!x.layers || !x.written || !x.entries || !x.docker || !x.in || !x.out)
        r = error_errno(err, ENOMEM, "export");
    if (r == 0)
        r = put_all(&x, err);
    for (struct map_iter it = {0}; x.layers && map_next(x.layers, &it);)
        free(it.value);
    map_free(x.layers);
    map_free(x.written);
    json_decref(x.entries);
    json_decref(x.docker);
    free(x.in);
    free(x.out);
    fd_closep(&x.spool_fd);
    return r;
}
