#include "image/pull/signature.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/digest.h"
#include "image/pull/sigpayload.h"
#include "image/pull/sigtest.h"

#define INDEX    "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PLATFORM "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OTHER    "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define SIG_TAG  "sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"
#define REF_TAG  "sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PLAT_TAG "sha256-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.sig"
#define THINGS   300

// A registry in memory: texts under names ("manifests/x", "blobs/x", "referrers/x").
struct world {
    char dir[256];
    EVP_PKEY *keys[3]; // two that the policy has, and a stranger's
    char *key_files[2];
    struct {
        char *name, *text;
    } things[THINGS];
    size_t n_things, n_requests;
    const char *broken; // a name that the registry doesn't answer for
    struct arena *arena;
    Pull__SignaturePolicy policy;
    Pull__PullResolved resolved;
    struct error err;
};

static int get(struct world *w, const char *kind, const char *what, struct buf *out, struct error *err)
{
    _cleanup_free_ char *name = str_printf("%s/%s", kind, what);

    w->n_requests++;
    if (w->broken && strstr(name, w->broken))
        return error_set(err, STATUS_UNAVAILABLE, EIO, "RegistryUnavailable: %s", name);
    for (size_t i = w->n_things; i-- > 0;) {
        if (!str_eq(w->things[i].name, name))
            continue;
        buf_init(out, 1 << 20);
        return buf_append_str(out, w->things[i].text);
    }
    return error_set(err, STATUS_NOT_FOUND, ENOENT, "%s is not there", name);
}

static int get_manifest(void *data, const char *reference, struct buf *out, struct error *err)
{
    return get(data, "manifests", reference, out, err);
}

static int get_referrers(void *data, const char *digest, struct buf *out, struct error *err)
{
    return get(data, "referrers", digest, out, err);
}

static int get_blob(void *data, const char *digest, size_t max, struct buf *out, struct error *err)
{
    assert_int_equal(max, SIGPAYLOAD_MAX);
    return get(data, "blobs", digest, out, err);
}

static void put(struct world *w, const char *name, const char *text)
{
    assert_true(w->n_things < THINGS);
    w->things[w->n_things].name = strdup(name);
    w->things[w->n_things++].text = strdup(text);
}

// A signature's entry in a manifest, its payload put as a blob. Static memory.
static const char *entry(struct world *w, int key, const char *digest, const char *repository)
{
    static char text[4096];
    unsigned char sig[1024], base64[2048];
    char blob[DIGEST_TEXT_MAX];
    _cleanup_free_ char *payload =
        str_printf("{\"critical\":{\"identity\":{\"docker-reference\":\"%s\"},\"image\":{"
                   "\"docker-manifest-digest\":\"%s\"},\"type\":\"cosign container image signature\"},"
                   "\"optional\":null}",
                   repository, digest);

    EVP_EncodeBlock(base64, sig, (int)sigtest_sign(w->keys[key], "SHA256", 0, payload, sig));
    assert_int_equal(digest_of(payload, strlen(payload), blob), 0);
    _cleanup_free_ char *name = str_printf("blobs/%s", blob);
    put(w, name, payload);
    (void)snprintf(text, sizeof(text),
                   "{\"mediaType\":\"application/vnd.dev.cosign.simplesigning.v1+json\",\"digest\":\"%s\","
                   "\"size\":%zu,\"annotations\":{\"dev.cosignproject.cosign/signature\":\"%s\"}}",
                   blob, strlen(payload), base64);
    return text;
}

static void put_signature(struct world *w, const char *place, int key, const char *digest,
                          const char *repository)
{
    _cleanup_free_ char *text = str_printf("{\"layers\":[%s]}", entry(w, key, digest, repository));
    _cleanup_free_ char *name = str_printf("manifests/%s", place);

    put(w, name, text);
}

static int verify(struct world *w)
{
    const struct signature_source source = {w, get_manifest, get_referrers, get_blob};

    w->err = ERROR_INIT;
    return signature_verify(&source, &w->policy, &w->resolved, w->arena, &w->err);
}

static void expect(struct world *w, enum status status, const char *text)
{
    int r = verify(w);

    if (status == STATUS_OK) {
        if (r < 0)
            fail_msg("%s", w->err.message);
        return;
    }
    assert_true(r < 0);
    if (w->err.status != status || !strstr(w->err.message, text))
        fail_msg("\"%s\" (%s) says nothing of \"%s\"", w->err.message, error_status_name(w->err.status),
                 text);
    if (status != STATUS_UNAVAILABLE)
        assert_true(str_has_prefix(w->err.message, "SignatureValidationFailed: "));
}

static int setup(void **state)
{
    struct world *w = *state = calloc(1, sizeof(*w));

    testing_scratch_make(w->dir);
    for (size_t i = 0; i < ARRAY_SIZE(w->keys); i++)
        w->keys[i] = sigtest_key("P-256");
    for (size_t i = 0; i < ARRAY_SIZE(w->key_files); i++) {
        _cleanup_free_ char *pem = sigtest_pem(w->keys[i], false);
        w->key_files[i] = str_printf("%s/key%zu", w->dir, i);
        assert_int_equal(file_write_atomic(w->key_files[i], pem, strlen(pem), 0644, false, NULL), 0);
    }
    w->arena = arena_new(8 << 20);
    pull__signature_policy__init(&w->policy);
    w->policy.name = "r.io";
    w->policy.key_files = w->key_files;
    w->policy.n_key_files = 2;
    w->policy.repository = "r.io/app";
    w->policy.tag = "v1";
    pull__pull_resolved__init(&w->resolved);
    w->resolved.manifest_digest = INDEX;
    w->resolved.platform_digest = PLATFORM;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    testing_scratch_remove(w->dir);
    for (size_t i = 0; i < ARRAY_SIZE(w->keys); i++)
        EVP_PKEY_free(w->keys[i]);
    for (size_t i = 0; i < ARRAY_SIZE(w->key_files); i++)
        free(w->key_files[i]);
    for (size_t i = 0; i < w->n_things; i++) {
        free(w->things[i].name);
        free(w->things[i].text);
    }
    arena_free(w->arena);
    free(w);
    return 0;
}

static void test_tag(void **state)
{
    struct world *w = *state;

    expect(w, STATUS_PERMISSION_DENIED, "policy \"r.io\" requires a signature, and " INDEX " has none");
    put_signature(w, SIG_TAG, 1, INDEX, "r.io/app");
    w->n_requests = 0;
    expect(w, STATUS_OK, "");
    assert_int_equal(w->n_requests, 2); // the manifest and the payload: no looking further
}

static void test_platform_manifest(void **state)
{
    struct world *w = *state;

    put_signature(w, PLAT_TAG, 0, PLATFORM, "r.io/app");
    expect(w, STATUS_OK, "");
    // A signature of the one is none of the other.
    w->resolved.platform_digest = INDEX;
    put_signature(w, SIG_TAG, 0, PLATFORM, "r.io/app");
    expect(w, STATUS_PERMISSION_DENIED, "for " PLATFORM ", not for " INDEX);
}

static void test_referrers(void **state)
{
    struct world *w = *state;
    const char *list =
        "{\"manifests\":[{\"digest\":\"" PLATFORM "\",\"artifactType\":\"application/spdx+json\"},"
        "{\"digest\":\"" OTHER "\",\"artifactType\":\"" SIGPAYLOAD_ARTIFACT "\"}]}";

    put_signature(w, OTHER, 0, INDEX, "r.io/app");
    put(w, "manifests/" REF_TAG, list);
    expect(w, STATUS_OK, ""); // the tag, where the registry has no list
    w->things[w->n_things - 1].name[0] = '-';
    expect(w, STATUS_PERMISSION_DENIED, "has none");
    put(w, "referrers/" INDEX, list);
    expect(w, STATUS_OK, "");
    // A stranger's in the tag doesn't hide it.
    put_signature(w, SIG_TAG, 2, INDEX, "r.io/app");
    expect(w, STATUS_OK, "");
}

static void test_strangers(void **state)
{
    struct world *w = *state;

    put_signature(w, SIG_TAG, 2, INDEX, "r.io/app");
    expect(w, STATUS_PERMISSION_DENIED, "of 1 signatures of " INDEX " none is by ");
    assert_non_null(strstr(w->err.message, w->key_files[0]));
    assert_non_null(strstr(w->err.message, " or "));
}

static void test_replayed(void **state)
{
    struct world *w = *state;

    put_signature(w, SIG_TAG, 0, INDEX, "r.io/other"); // the same image, signed for another repository
    expect(w, STATUS_PERMISSION_DENIED, "for repository r.io/other, not for r.io/app");
    put_signature(w, SIG_TAG, 0, OTHER, "r.io/app"); // another image's signature
    expect(w, STATUS_PERMISSION_DENIED, "for " OTHER ", not for " INDEX);
    put_signature(w, SIG_TAG, 0, INDEX, "r.io/app:v0"); // an older tag's
    expect(w, STATUS_PERMISSION_DENIED, "for tag \"v0\", not for \"v1\"");
    w->policy.tag = "";
    expect(w, STATUS_OK, "");
}

static void test_exchanged_payload(void **state)
{
    struct world *w = *state;
    _cleanup_free_ char *good = strdup(entry(w, 0, OTHER, "r.io/app"));
    // The good signature, pointing to a payload of the attacker's.
    const char *bad = strstr(entry(w, 2, INDEX, "r.io/app"), "sha256:");

    memcpy(strstr(good, "sha256:"), bad, strlen(INDEX));
    _cleanup_free_ char *text = str_printf("{\"layers\":[%s]}", good);
    put(w, "manifests/" SIG_TAG, text);
    expect(w, STATUS_PERMISSION_DENIED, "of 1 signatures");
}

static void test_all_keys(void **state)
{
    struct world *w = *state;

    w->policy.all_keys = true;
    put_signature(w, SIG_TAG, 0, INDEX, "r.io/app");
    expect(w, STATUS_PERMISSION_DENIED, w->key_files[1]);
    assert_null(strstr(w->err.message, w->key_files[0]));
    put_signature(w, PLAT_TAG, 1, PLATFORM, "r.io/app");
    expect(w, STATUS_OK, ""); // each says by digest what is run
    _cleanup_free_ char *first = strdup(entry(w, 0, INDEX, "r.io/app"));
    _cleanup_free_ char *both = str_printf("{\"layers\":[%s,%s]}", first, entry(w, 1, INDEX, "r.io/app"));
    put(w, "manifests/" SIG_TAG, both);
    w->resolved.platform_digest = INDEX;
    expect(w, STATUS_OK, "");
}

static void test_many(void **state)
{
    struct world *w = *state;
    _cleanup_(buf_done) struct buf text;

    buf_init(&text, 1 << 20);
    (void)buf_append_str(&text, "{\"layers\":[");
    for (int i = 0; i < 100; i++) {
        (void)buf_append_str(&text, entry(w, 2, INDEX, "r.io/app"));
        (void)buf_append_str(&text, ",");
    }
    (void)buf_append_str(&text, entry(w, 0, INDEX, "r.io/app"));
    (void)buf_append_str(&text, "]}");
    put(w, "manifests/" SIG_TAG, text.data);
    w->n_requests = 0;
    expect(w, STATUS_PERMISSION_DENIED, "of 64 signatures");
    assert_true(w->n_requests < 80);
}

static void test_damaged(void **state)
{
    struct world *w = *state;

    put(w, "manifests/" SIG_TAG, "{\"layers\":7}");
    expect(w, STATUS_PERMISSION_DENIED, "\"layers\" is not an array");
    put(w, "manifests/" SIG_TAG, "no JSON");
    expect(w, STATUS_PERMISSION_DENIED, "JSON");
    put_signature(w, SIG_TAG, 0, INDEX, "r.io/app");
    for (size_t i = 0; i < w->n_things; i++)
        if (str_has_prefix(w->things[i].name, "blobs/"))
            w->things[i].name[0] = '-';
    expect(w, STATUS_PERMISSION_DENIED, "is not there");
}

static void test_unavailable(void **state)
{
    struct world *w = *state;

    put_signature(w, SIG_TAG, 0, INDEX, "r.io/app");
    w->broken = ".sig";
    expect(w, STATUS_UNAVAILABLE, "RegistryUnavailable");
    w->broken = "blobs/";
    expect(w, STATUS_UNAVAILABLE, "RegistryUnavailable");
    w->broken = "referrers/"; // not asked
    expect(w, STATUS_OK, "");
}

static void test_keys(void **state)
{
    struct world *w = *state;

    put_signature(w, SIG_TAG, 0, INDEX, "r.io/app");
    assert_int_equal(unlink(w->key_files[1]), 0);
    expect(w, STATUS_FAILED_PRECONDITION, w->key_files[1]); // even though the other one would do
    w->policy.n_key_files = 1;
    expect(w, STATUS_OK, "");
    w->policy.n_key_files = 0;
    expect(w, STATUS_FAILED_PRECONDITION, "no keys");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tag, setup, teardown),
        cmocka_unit_test_setup_teardown(test_platform_manifest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_referrers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replayed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exchanged_payload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unavailable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
