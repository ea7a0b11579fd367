// Signatures from the registry that has the image.
#include "base/cleanup.h"
#include "image/pull/signature.h"
#include "image/pull/sigpayload.h"

static int signature_manifest(void *data, const char *reference, struct buf *out, struct error *err)
{
    _cleanup_free_ char *type = NULL;

    return registry_get_manifest(data, reference, out, &type, err);
}

static int signature_referrers(void *data, const char *digest, struct buf *out, struct error *err)
{
    return registry_get_referrers(data, digest, SIGPAYLOAD_ARTIFACT, out, err);
}

static int signature_blob(void *data, const char *digest, size_t max, struct buf *out, struct error *err)
{
    return registry_get_blob(data, digest, max, out, err);
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
