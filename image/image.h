// Images: the store of the node's images, their layers and containers' root filesystems.
//
// Thread-safe. Reads (resolve, list) are answered from memory and never wait for disk or network. Layers are
// kept unpacked, once each, by diffID; names of their folders are short so that overlay's mount options stay
// below a page (127 layers).
//
// On disk, below root_dir:
//   layers/<8 characters>     an unpacked layer, immutable
//   containers/<id>/          upper and work of a container's overlay
//   staging/<pull>/           what a running pull unpacks; emptied at start
//   trash/                    renamed here first, deleted by a background thread
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "api/pull/pull.pb-c.h"
#include "base/ctx.h"
#include "base/db/db.h"
#include "base/error.h"
#include "image/policy_config.h"
#include "image/registry_config.h"

#define IMAGE_LAYERS_MAX 127

struct image_store;

extern const struct db_module image_db_module;

struct image_store_options {
    const char *root_dir;                     // "/var/lib/crisp/image"; made if missing
    const char *crisp_pull_path;              // the program
    struct db *db;                            // opened with image_db_module; outlives the store
    const struct registry_config *registries; // outlives the store; NULL: none configured
    const struct policy_config *policies;     // outlives the store; NULL: all images are accepted
    char *const *allowed;      // prefixes, NULL-terminated, outlives the store; NULL or empty: all
    const char *const *pinned; // references never to be collected, NULL-terminated; may be NULL
    unsigned parallel_layers;  // per pull; 0: a default by the number of CPUs
    unsigned node_layers;      // all pulls' at a time; 0: 16
    int64_t spare_ns;          // how long a crisp-pull waits for the next pull; 0: half a minute
    int64_t stall_ns;          // how long a transfer may be slower than min_rate; 0: a minute
    uint64_t min_rate;         // bytes a second; 0: 1
    // A pull answers when a power cut can't undo it any more; else one soon after the answer leaves the image
    // absent (never half).
    bool sync_before_answer;
    bool offline; // only image_store_verify() will be called: nothing happens in the background but deleting
};

// Reads the records, checks them against the disk, sweeps staging and starts the background thread.
int image_store_open(const struct image_store_options *options, struct image_store **out, struct error *err);
// Cancels running pulls and waits for them. NULL is fine.
void image_store_close(struct image_store *store);

// What image_store_verify() found.
struct image_verified {
    size_t layers, damaged; // looked at; of those whose content is not what was unpacked
    size_t unknown;         // of those that had no checksum yet: they have one now
    size_t condemned;       // damaged ones, those found earlier too, whose folders are still there
    size_t images, damaged_images;
};
// Reads every layer and compares it with its checksum. Each damaged one is logged and not served any more,
// nor are its images until they are pulled again. Takes as long as reading all of them does.
int image_store_verify(struct image_store *store, struct image_verified *out, struct error *err);

// An image as it was at some moment: constant, counted. Fields are the image's own.
struct image {
    char *id;            // "sha256:<config digest>"
    char **repo_tags;    // "registry.k8s.io/pause:3.9"; NULL-terminated, sorted
    char **repo_digests; // "registry.k8s.io/pause@sha256:…"; NULL-terminated, sorted
    // Folder names below layers/, top first; NULL-terminated: those that an overlay needs. Those that
    // mend the others (mend.h) are among them, the first or "name/3"; layers below one that hides them all
    // are left out.
    char **layers;
    char **diff_ids;     // of all layers, top first; with mending "mend:<id>"
    uint64_t size_bytes; // on disk, all layers
    const Pull__ImageConfig *config;
    bool pinned;
    int64_t pulled_ns; // wall time of the first pull
    unsigned refs;     // private
};

struct image *image_ref(struct image *image);
void image_unref(struct image *image); // NULL is fine
void image_unrefp(struct image **image);

// By id ("sha256:<hex>", "<hex>"), by reference in any spelling, or by an unambiguous prefix of the id's hex
// digits (4 or more). -ENOENT (NOT_FOUND) when absent; INVALID_ARGUMENT for what can't be a reference.
// *out is the caller's to unref.
int image_store_resolve(struct image_store *store, const char *ref, struct image **out, struct error *err);
// All images, in the order of their first pull; the caller unrefs each and frees the array, or calls
// image_list_free().
int image_store_list(struct image_store *store, struct image ***out, size_t *n, struct error *err);
void image_list_free(struct image **images, size_t n);

// The manifest for this machine and the config as the registry (or archive) had them.
struct image_source {
    char *manifest_digest; // "" and no manifest: an archive without one
    char *manifest_type;   // "" if nobody said it
    char *chain_id;        // of all layers; "" when there are none
    char *manifest;        // JSON, UTF-8, NUL-terminated
    size_t manifest_len;
    char *config; // likewise; its digest is the image's id
    size_t config_len;
};
// Reads it from the disk. *out is the caller's to image_source_done(). -ENOENT (FAILED_PRECONDITION) for
// images that an older version pulled, or whose manifest or config is over 1 MiB.
int image_store_source(struct image_store *store, const char *image_id, struct image_source *out,
                       struct error *err);
void image_source_done(struct image_source *source);

// Fetches what ref names and returns the image's id (the caller frees). Equal pulls (same reference and
// credentials) join. The pull is called off when nobody waits for it any more; nothing is then left.
// Errors: INVALID_ARGUMENT (bad reference), NOT_FOUND, PERMISSION_DENIED (also by policy:
// "SignatureValidationFailed: …"), UNAUTHENTICATED, UNAVAILABLE
// ("RegistryUnavailable: …", the text that kubelet looks for), DATA_LOSS (digest mismatch, damaged layer),
// FAILED_PRECONDITION (no such platform, forbidden content), RESOURCE_EXHAUSTED, or the ctx's.
int image_store_pull(struct image_store *store, const char *ref, const Cri__AuthConfig *auth,
                     const struct ctx *ctx, char **image_id, struct error *err);

// How a pull goes on. fn is called on the caller's thread with what is known then, whenever that has changed
// and the last call has returned: a slow one misses steps, and the pull doesn't wait for it. An error of fn
// (which fills in err) ends the waiting, not the pull if others wait for it, too.
enum image_layer_state {
    IMAGE_LAYER_WAITING, // for its turn, or for another pull that fetches it
    IMAGE_LAYER_FETCHING,
    IMAGE_LAYER_UNPACKING, // all bytes are there
    IMAGE_LAYER_DONE,      // fetched and unpacked
    IMAGE_LAYER_PRESENT,   // was here already, or another pull brought it
};
struct image_layer_progress {
    char digest[72]; // "sha256:<hex>" of the blob
    uint64_t size, fetched;
    enum image_layer_state state;
};
struct image_watch {
    int (*fn)(void *data, const struct image_layer_progress *layers, size_t n, struct error *err);
    void *data;
};
// As image_store_pull(), watched; watch may be NULL.
int image_store_pull_watched(struct image_store *store, const char *ref, const Cri__AuthConfig *auth,
                             const struct ctx *ctx, const struct image_watch *watch, char **image_id,
                             struct error *err);

// Takes the images of an archive (OCI layout or `docker save`, as a tar; fd: a regular file that is at rest).
// fn is called for each that is recorded. name (NULL: as the archive says): a reference with a tag is the one
// name of the one image, one without goes before the archive's tags. Errors: INVALID_ARGUMENT (no archive, a
// bad name), FAILED_PRECONDITION, DATA_LOSS, RESOURCE_EXHAUSTED, or the ctx's; images that were recorded
// before stay.
typedef int (*image_import_fn)(void *data, const char *id, char *const *names, unsigned index,
                               unsigned n_images, struct error *err);
int image_store_import(struct image_store *store, int fd, const char *name, const struct ctx *ctx,
                       const struct image_watch *watch, image_import_fn fn, void *data, struct error *err);
// A file without a name on the store's disk, for what becomes an import: an fd, or -errno.
int image_store_spool(struct image_store *store, struct error *err);

// Writes the images that refs name as one archive (OCI layout as a tar, which `docker load` takes, too): fn
// gets its bytes, told each image when it is in it: its id here, that in the archive (another: layers' tars
// are made anew) and the names that it has there. A ref that is one of an image's tags exports that name, an
// id or digest all of them. Removal of the images meanwhile does no harm. Errors: as image_store_resolve(),
// those of fn and told (which fill in err), or the ctx's.
typedef int (*image_export_data_fn)(void *data, const void *bytes, size_t len, struct error *err);
typedef int (*image_export_image_fn)(void *data, const char *id, const char *exported_id, char *const *names,
                                     struct error *err);
int image_store_export(struct image_store *store, char *const *refs, size_t n, bool compress,
                       const struct ctx *ctx, image_export_data_fn fn, image_export_image_fn told, void *data,
                       struct error *err);

// Removes the image that ref names (as in resolve) with all its tags. Absent: 0. Layers go with the last
// image and container that uses them; deletion itself happens in the background.
int image_store_remove(struct image_store *store, const char *ref, struct error *err);

// Removes images that nobody holds and that are not pinned: those without a tag, or (all) any; with
// pulled_before_ns only those whose first pull is older. *images (image_list_free()) are those that were
// removed, or with dry_run would be; *freed_bytes what their layers take that nothing else needs.
struct image_prune_options {
    bool all, dry_run;
    int64_t pulled_before_ns; // wall time; 0: however new
    char *const *only;        // ids: of those that fit these only
    size_t n_only;            // 0: all
};
int image_store_prune(struct image_store *store, const struct image_prune_options *options,
                      struct image ***images, size_t *n, uint64_t *freed_bytes, struct error *err);
// Does a container hold the image?
bool image_store_is_held(struct image_store *store, const char *image_id);

// A holder (a container id) keeps an image's layers on disk even if the image is removed. Holds are not
// recorded: whoever owns the containers takes them again at start, before image_rootfs_sweep().
// hold: -ENOENT when no layers of that image are here. release: unknown holders are fine.
int image_store_hold(struct image_store *store, const char *image_id, const char *holder, struct error *err);
void image_store_release(struct image_store *store, const char *image_id, const char *holder);

// What an overlay mount needs: mount(lowerdir=<lowers joined by ':'>,upperdir=…,workdir=…) with layers_dir as
// the current folder. There is always at least one lower.
struct image_rootfs {
    char *layers_dir; // absolute
    char **lowers;    // names relative to layers_dir, top first; NULL-terminated
    size_t n_lowers;
    char *upper;   // absolute
    char *work;    // absolute
    char *volumes; // absolute; not made: for directories that go with the container
};

// Makes the container's folders; what is there already is used (a retry). The caller holds the image.
int image_rootfs_create(struct image_store *store, const struct image *image, const char *container_id,
                        struct image_rootfs *out, struct error *err);
// Bounds what the container may write to its root and to the volumes that its image declares. Once, after
// image_rootfs_create(). FAILED_PRECONDITION where the store's file system can't.
int image_rootfs_limit(struct image_store *store, const char *container_id, uint64_t bytes,
                       struct error *err);
// The same paths for a container made earlier, without touching the disk.
int image_rootfs_get(struct image_store *store, const struct image *image, const char *container_id,
                     struct image_rootfs *out, struct error *err);
void image_rootfs_done(struct image_rootfs *rootfs);
// What a read-only overlay of the image is mounted from: names relative to image_rootfs.layers_dir, top
// first, NULL-terminated, at least two (an image with one layer gets an empty one below it); the caller's to
// strv_free(). The caller holds the image.
int image_volume_layers(struct image_store *store, const struct image *image, char ***lowers,
                        struct error *err);
// Renames them to the trash and returns; absent is fine. Nothing may have them mounted any more.
int image_rootfs_remove(struct image_store *store, const char *container_id, struct error *err);
// Once at start, after the holds are taken again: removes root filesystems of containers that are not in
// live_ids, images that were removed while in use and are not held any more, and layers nobody needs.
int image_rootfs_sweep(struct image_store *store, const char *const *live_ids, size_t n_live,
                       struct error *err);

// What a container's writable layer and the volumes that its image declares take. It is measured in the
// background, every ten seconds while somebody asks and every minute otherwise, later where the layer holds
// more files than can be looked at with a fiftieth of a CPU.
struct image_layer_usage {
    int64_t timestamp_ns; // when it was measured
    uint64_t bytes, inodes;
};
// Never touches the disk. False: not measured yet, or no such container.
bool image_rootfs_usage(struct image_store *store, const char *container_id, struct image_layer_usage *out);
// fs_id of all usages: the store's root_dir. Lives as long as the store.
const char *image_fs_mountpoint(const struct image_store *store);

struct image_fs_usage {
    int64_t timestamp_ns;           // of layers: now
    int64_t container_timestamp_ns; // the oldest measurement of a writable layer
    const char *mountpoint;         // image_fs_mountpoint()
    uint64_t image_bytes, image_inodes;
    uint64_t container_bytes, container_inodes; // the sum of what image_rootfs_usage() tells
};
// Waits a moment, right after the start only, for the first measurements.
void image_fs_usage(struct image_store *store, struct image_fs_usage *out);

// Image.uid and Image.username of the CRI from a config's User: "1000:50" is uid 1000, "www-data:x" a name.
// Returns true and *uid for a number; else false and *name_len bytes of config_user are the name (may be 0).
bool image_user_parse(const char *config_user, int64_t *uid, size_t *name_len);

#endif
