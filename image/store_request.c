// What crispd asks of a crisp-pull.
#include <stdlib.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/endpoints.h"
#include "image/platform.h"
#include "image/policy.h"
#include "image/store_pull.h"

#define LAYER_BYTES   (UINT64_C(64) << 30) // one unpacked layer
#define LAYER_ENTRIES (4u << 20)

static int fill_credentials(const struct pull_op *op, struct arena *arena, Pull__Credentials *out,
                            const char **server_address, struct error *err)
{
    const Cri__AuthConfig *auth = cri__auth_config__unpack(arena_pb(arena), op->auth_len, op->auth);

    if (!auth)
        return error_errno(err, ENOMEM, "read the credentials");
    out->username = auth->username;
    out->password = auth->password;
    out->auth = auth->auth;
    out->identity_token = auth->identity_token;
    out->registry_token = auth->registry_token;
    *server_address = auth->server_address;
    return 0;
}

// The first of the environment's variables that is set. crispd is no CGI program: HTTP_PROXY is as good as
// its small letters.
static char *environment(const char *name, const char *or_name)
{
    char *value = getenv(name);

    if (str_empty(value))
        value = getenv(or_name);
    return value ? value : (char *)"";
}

static void fill_transfers(const struct image_store *s, Pull__Transfers *out)
{
    out->stall_ms = s->stall_ms;
    out->min_rate = s->min_rate;
    out->http_proxy = environment("http_proxy", "HTTP_PROXY");
    out->https_proxy = environment("https_proxy", "HTTPS_PROXY");
    out->all_proxy = environment("all_proxy", "ALL_PROXY");
    out->no_proxy = environment("no_proxy", "NO_PROXY");
}

static int add_policy(const struct pull_op *op, struct arena *arena, Pull__PullRequest *request,
                      struct error *err)
{
    const struct policy_entry *require;
    int r = policy_check_pull(op->store->policies, op->store->allowed, &op->ref, &require, err);

    if (r < 0 || !require)
        return r;
    request->signature = policy_signature(require, &op->ref, arena);
    return request->signature ? 0 : error_errno(err, ENOMEM, "pull %s", op->key);
}

int pull_request_send(const struct pull_op *op, int sock, const char *staging_dir, struct arena *arena,
                      struct error *err)
{
    Pull__ToPull m = PULL__TO_PULL__INIT;
    Pull__PullRequest request = PULL__PULL_REQUEST__INIT;
    Pull__Credentials credentials = PULL__CREDENTIALS__INIT;
    Pull__Limits limits = PULL__LIMITS__INIT;
    Pull__Transfers transfers = PULL__TRANSFERS__INIT;
    const char *server_address = "";
    bool archive = op->archive_fd >= 0;
    int r = fill_credentials(op, arena, &credentials, &server_address, err);

    if (r == 0 && !archive)
        r = endpoints_build(op->store->registries, &op->ref, server_address, arena, &request, err);
    if (r == 0 && !archive && scheme_is_plain(op->store, op->ref.domain))
        endpoints_prefer_plain(&request);
    if (r == 0)
        r = platform_list_host(arena, &request.platforms, &request.n_platforms, err);
    if (r == 0 && !archive) // an import's names are only known when it is resolved
        r = add_policy(op, arena, &request, err);
    if (r < 0)
        return r;
    limits.layer_bytes = LAYER_BYTES;
    limits.layer_entries = LAYER_ENTRIES;
    limits.parallel = op->store->parallel_layers;
    request.reference = op->key;
    request.archive = archive;
    request.archive_index = op->archive_index;
    if (op->ref.path)
        request.repository = op->ref.path;
    if (op->ref.digest)
        request.digest = op->ref.digest;
    else if (op->ref.tag)
        request.tag = op->ref.tag;
    request.credentials = &credentials;
    request.staging_dir = (char *)staging_dir;
    request.limits = &limits;
    if (!request.signature) // which is asked for anew with each pull
        r = unchanged_digests(op, arena, &request, err);
    if (r < 0)
        return r;
    fill_transfers(op->store, &transfers);
    request.transfers = &transfers;
    m.kind_case = PULL__TO_PULL__KIND_REQUEST;
    m.request = &request;
    return pb_frame_send(sock, &m.base, &op->archive_fd, archive ? 1 : 0, err);
}
