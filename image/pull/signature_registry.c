// Signatures from the registry that has the image.
#include "base/cleanup.h"
#include "image/pull/signature.h"
#include "image/pull/sigpayload.h"

// Signatures may be where the image isn't: on the registry behind a mirror. Layers are asked for as before.
static int signature_manifest(void *data, const char *reference, struct buf *out, struct error *err)
{
    struct registry *registry = data;
    _cleanup_free_ char *type = NULL;
    size_t first = registry->first;
    int r = registry_get_manifest(registry, reference, out, &type, err);

    registry->first = first;
    return r;
}

static int signature_referrers(void *data, const char *digest, struct buf *out, struct error *err)
{
    struct registry *registry = data;
    size_t first = registry->first;
    int r = registry_get_referrers(registry, digest, SIGPAYLOAD_ARTIFACT, out, err);

    registry->first = first;
    return r;
}

static int signature_blob(void *data, const char *digest, size_t max, struct buf *out, struct error *err)
{
    struct registry *registry = data;
    size_t first = registry->first;
    int r = registry_get_blob(registry, digest, max, out, err);

    registry->first = first;
    return r;
}

int signature_verify_registry(struct registry *registry, const Pull__PullRequest *request,
                              struct arena *arena, const Pull__PullResolved *resolved, struct error *err)
{
    const struct signature_source source = {registry, signature_manifest, signature_referrers,
                                            signature_blob};

    if (!request->signature)
        return 0;
    return signature_verify(&source, request->signature, resolved, arena, err);
}
