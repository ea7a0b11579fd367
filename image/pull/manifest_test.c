#include "image/pull/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#define A           "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B           "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OCI_IMAGE   "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX   "application/vnd.oci.image.index.v1+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define CONFIG      "{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A "\",\"size\":7}"
#define LAYER                                                                                                \
    "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"" B "\",\"size\":9}"

static struct arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = arena_new(1 << 20);
    return arena ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static int parse(const char *text, const char *type, struct manifest *m, struct error *err)
{
    *err = ERROR_INIT;
    return manifest_parse(text, strlen(text), type, arena, m, err);
}

static void test_image(void **state)
{
    struct manifest m;
    struct error err;

    (void)state;
    assert_int_equal(parse("{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[" LAYER "," LAYER "]}",
                           OCI_IMAGE, &m, &err),
                     0);
    assert_int_equal(m.kind, MANIFEST_IMAGE);
    assert_string_equal(m.config.digest, A);
    assert_int_equal(m.n_layers, 2);
    assert_string_equal(m.layers[1].digest, B);
    assert_int_equal(m.layers[1].size, 9);
    assert_int_equal(parse("{\"config\":" CONFIG ",\"layers\":[]}", NULL, &m, &err), 0);
    assert_int_equal(m.n_layers, 0);
}

static void test_bad(void **state)
{
    static const struct {
        const char *text, *type, *message;
    } cases[] = {
        {"", NULL, "JSON"},
        {"[]", NULL, "object"},
        {"{}", OCI_IMAGE, "neither"},
        {"{\"schemaVersion\":1,\"layers\":[]}", NULL, "schema 1"},
        {"{\"manifests\":[],\"layers\":[]}", NULL, "claims"},
        {"{\"manifests\":[]}", OCI_INDEX, "0 entries"},
        {"{\"manifests\":[{}]}", OCI_IMAGE, "neither"},
        {"{\"config\":" CONFIG ",\"layers\":[]}", DOCKER_LIST "; charset=utf-8", "neither"},
        {"{\"layers\":[]}", NULL, "config"},
        {"{\"config\":" CONFIG ",\"layers\":{}}", NULL, "layers"},
        {"{\"config\":" CONFIG ",\"layers\":[1]}", NULL, "layer"},
        {"{\"config\":{\"digest\":\"" A "\",\"size\":1},\"layers\":[]}", NULL, "no container image"},
        {"{\"config\":" CONFIG ",\"layers\":[{\"digest\":\"sha256:zz\",\"size\":1}]}", NULL, "digest"},
        {"{\"config\":" CONFIG ",\"layers\":[{\"digest\":\"" B "\",\"size\":-1}]}", NULL, "size"},
        {"{\"config\":" CONFIG ",\"layers\":[{\"digest\":\"" B "\",\"size\":\"1\"}]}", NULL, "size"},
        {"{\"config\":" CONFIG ",\"layers\":[{\"digest\":7,\"size\":1}]}", NULL, "digest"},
        {"{\"config\":" CONFIG ",\"layers\":[{\"mediaType\":\"application/vnd.in-toto+json\",\"digest\":\"" B
         "\",\"size\":1}]}",
         NULL, "no container image: \"application/vnd.in-toto+json\""},
        {"{\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\",\"digest\":\"" A
         "\",\"size\":7},\"layers\":[]}",
         NULL, "no container image: the manifest's config"},
        {"{\"config\":" CONFIG
         ",\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+encrypted\","
         "\"digest\":\"" B "\",\"size\":1}]}",
         NULL, "encrypted"},
        {"{\"mediaType\":7,\"layers\":[]}", NULL, "mediaType"},
        {"{\"mediaType\":\"a\\u0000b\",\"layers\":[]}", NULL, "JSON"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct manifest m;
        struct error err;

        if (parse(cases[i].text, cases[i].type, &m, &err) == 0)
            fail_msg("accepted %s", cases[i].text);
        if (!strstr(err.message, cases[i].message))
            fail_msg("%s: \"%s\" says nothing of \"%s\"", cases[i].text, err.message, cases[i].message);
    }
}

static void test_many_layers(void **state)
{
    _cleanup_(buf_done) struct buf text;
    struct manifest m;
    struct error err;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_append_str(&text, "{\"config\":" CONFIG ",\"layers\":[" LAYER);
    for (int i = 1; i < MANIFEST_LAYERS_MAX; i++)
        buf_append_str(&text, "," LAYER);
    _cleanup_free_ char *most = str_printf("%s]}", text.data);
    assert_int_equal(parse(most, NULL, &m, &err), 0);
    buf_append_str(&text, "," LAYER "]}");
    assert_true(parse(text.data, NULL, &m, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
}

static void test_layer_types(void **state)
{
    static const char *const types[] = {"application/vnd.oci.image.layer.v1.tar",
                                        "application/vnd.oci.image.layer.v1.tar+gzip",
                                        "application/vnd.oci.image.layer.v1.tar+zstd",
                                        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                                        "application/vnd.docker.image.rootfs.diff.tar",
                                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                                        "application/vnd.docker.image.rootfs.diff.tar.zstd",
                                        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                                        "application/octet-stream",
                                        ""};
    struct manifest m;
    struct error err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        _cleanup_free_ char *text = str_printf("{\"config\":" CONFIG ",\"layers\":[{\"mediaType\":\"%s\","
                                               "\"digest\":\"" B "\",\"size\":1,"
                                               "\"urls\":[\"http://169.254.169.254/\"]}]}",
                                               types[i]);
        if (parse(text, NULL, &m, &err) < 0)
            fail_msg("%s: %s", types[i], err.message);
    }
}

static void test_type_is_told(void **state)
{
    struct manifest m;
    struct error err;

    (void)state;
    assert_int_equal(parse("{\"config\":" CONFIG ",\"layers\":[]}", OCI_IMAGE "; charset=x", &m, &err), 0);
    assert_string_equal(m.media_type, OCI_IMAGE);
    assert_int_equal(parse("{\"config\":{\"mediaType\":\"application/octet-stream\",\"digest\":\"" A
                           "\",\"size\":7},\"layers\":[]}",
                           NULL, &m, &err),
                     0);
    assert_string_equal(m.media_type, "");
    assert_true(manifest_type_is_known(OCI_INDEX));
    assert_false(manifest_type_is_known("application/json"));
}

static int parse_config(const char *text, Pull__ImageConfig **config, struct error *err)
{
    *err = ERROR_INIT;
    return image_config_parse(text, strlen(text), arena, config, err);
}

static void test_config(void **state)
{
    Pull__ImageConfig *c;
    struct error err;

    (void)state;
    assert_int_equal(
        parse_config("{\"os\":\"linux\",\"architecture\":\"amd64\",\"created\":\"2023-11-14T22:13:20.5Z\","
                     "\"config\":{\"User\":\"www-data:5\",\"Env\":[\"A=1\",\"B\"],\"Entrypoint\":null,"
                     "\"Cmd\":[\"/bin/sh\"],\"WorkingDir\":\"/w\",\"Volumes\":{\"/data\":{}},"
                     "\"StopSignal\":\"SIGINT\",\"Labels\":{\"k\":\"v\",\"n\":null},"
                     "\"ExposedPorts\":{\"80/tcp\":{}}},"
                     "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\",\"" B "\"]}}",
                     &c, &err),
        0);
    assert_string_equal(c->user, "www-data:5");
    assert_int_equal(c->n_env, 2);
    assert_string_equal(c->env[1], "B");
    assert_int_equal(c->n_entrypoint, 0);
    assert_string_equal(c->cmd[0], "/bin/sh");
    assert_string_equal(c->working_dir, "/w");
    assert_string_equal(c->volumes[0], "/data");
    assert_string_equal(c->stop_signal, "SIGINT");
    assert_int_equal(c->n_labels, 2);
    assert_string_equal(c->labels[1]->value, "");
    assert_string_equal(c->exposed_ports[0], "80/tcp");
    assert_int_equal(c->n_diff_ids, 2);
    assert_int_equal(c->created_ns, INT64_C(1700000000500000000));
    assert_int_equal(parse_config("{}", &c, &err), 0);
    assert_int_equal(parse_config("{\"created\":\"2023-11-14T23:13:20+01:00\"}", &c, &err), 0);
    assert_int_equal(c->created_ns, INT64_C(1700000000000000000));
    assert_int_equal(parse_config("{\"created\":\"yesterday\"}", &c, &err), 0);
    assert_int_equal(c->created_ns, 0);
}

static void test_bad_config(void **state)
{
    static const char *const cases[] = {
        "",
        "null",
        "{\"config\":[]}",
        "{\"config\":{\"Env\":{}}}",
        "{\"config\":{\"Env\":[1]}}",
        "{\"config\":{\"Cmd\":\"sh\"}}",
        "{\"config\":{\"User\":0}}",
        "{\"config\":{\"Labels\":{\"a\":1}}}",
        "{\"config\":{\"Volumes\":[]}}",
        "{\"config\":{\"Env\":[\"a\\u0000b\"]}}",
        "{\"config\":{\"User\":\"\xff\"}}",
        "{\"rootfs\":{\"diff_ids\":[\"sha256:short\"]}}",
        "{\"rootfs\":{\"diff_ids\":[\"../../x\"]}}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Pull__ImageConfig *c;
        struct error err;

        if (parse_config(cases[i], &c, &err) == 0)
            fail_msg("accepted %s", cases[i]);
        assert_true(strlen(err.message) > 0);
    }
}

static void test_large_config(void **state)
{
    _cleanup_(buf_done) struct buf text;
    Pull__ImageConfig *c;
    struct error err;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_append_str(&text, "{\"config\":{\"Env\":[\"a\"");
    for (int i = 0; i < 5000; i++)
        buf_append_str(&text, ",\"a\"");
    buf_append_str(&text, "]}}");
    assert_true(parse_config(text.data, &c, &err) < 0);
    assert_int_equal(err.status, STATUS_RESOURCE_EXHAUSTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image),        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_many_layers),  cmocka_unit_test(test_layer_types),
        cmocka_unit_test(test_type_is_told), cmocka_unit_test(test_config),
        cmocka_unit_test(test_bad_config),   cmocka_unit_test(test_large_config),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
