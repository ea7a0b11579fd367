// The table against the compiled service descriptors, both ways.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/cri/api.pb-c.h"
#include "api/crisp/images.pb-c.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/rpc.h"

static bool is_cri(const struct rpc_method *row)
{
    return str_has_prefix(row->service, "runtime.v1.");
}

static const struct rpc_method *find(const char *service, const char *name)
{
    for (size_t i = 0; i < rpc_table_len; i++) {
        if (strcmp(rpc_table[i].name, name) == 0 && strcmp(rpc_table[i].service, service) == 0)
            return &rpc_table[i];
    }
    return NULL;
}

static void test_every_method_has_its_row(void **state)
{
    (void)state;
    const ProtobufCServiceDescriptor *const services[] = {
        &cri__runtime_service__descriptor, &cri__image_service__descriptor, &crisp__images__descriptor};
    size_t n = 0, of_cri = 0;
    for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
        for (unsigned j = 0; j < services[i]->n_methods; j++, n++) {
            const ProtobufCMethodDescriptor *method = &services[i]->methods[j];
            const struct rpc_method *row = find(services[i]->name, method->name);
            if (!row)
                fail_msg("%s/%s has no row in rpc_table[]", services[i]->name, method->name);
            assert_ptr_equal(row->request, method->input);
            assert_ptr_equal(row->response, method->output);
        }
    }
    assert_int_equal(n, rpc_table_len);
    for (size_t i = 0; i < rpc_table_len; i++)
        of_cri += is_cri(&rpc_table[i]);
    assert_int_equal(of_cri, 41);
}

// protobuf-c drops the `stream` of a method: the rows are held to the API's list.
static void test_streams(void **state)
{
    (void)state;
    static const char *const streams[] = {"StreamPodSandboxes",
                                          "StreamContainers",
                                          "StreamContainerStats",
                                          "StreamPodSandboxStats",
                                          "GetContainerEvents",
                                          "StreamPodSandboxMetrics",
                                          "StreamImages",
                                          "Pull",
                                          "Import",
                                          "Export"};
    size_t n = 0;
    for (size_t i = 0; i < rpc_table_len; i++)
        n += rpc_table[i].stream;
    assert_int_equal(n, ARRAY_SIZE(streams));
    for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
        const struct rpc_method *row = find("runtime.v1.RuntimeService", streams[i]);
        row = row ? row : find("runtime.v1.ImageService", streams[i]);
        row = row ? row : find("crisp.v1.Images", streams[i]);
        assert_non_null(row);
        assert_true(row->stream);
        assert_int_equal(row->class, RPC_WORK); // rpc_send() waits
    }
}

// What kubelet can't do without stays implemented.
static void test_implemented(void **state)
{
    (void)state;
    static const char *const names[] = {"Version",          "Status",
                                        "RuntimeConfig",    "UpdateRuntimeConfig",
                                        "RunPodSandbox",    "StopPodSandbox",
                                        "RemovePodSandbox", "PodSandboxStatus",
                                        "ListPodSandbox",   "CreateContainer",
                                        "StartContainer",   "StopContainer",
                                        "RemoveContainer",  "ListContainers",
                                        "ContainerStatus",  "ReopenContainerLog",
                                        "ExecSync",         "ListImages",
                                        "ImageStatus",      "PullImage",
                                        "RemoveImage",      "ImageFsInfo",
                                        "ContainerStats",   "ListContainerStats",
                                        "PodSandboxStats",  "ListPodSandboxStats"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct rpc_method *row = find("runtime.v1.RuntimeService", names[i]);
        row = row ? row : find("runtime.v1.ImageService", names[i]);
        if (!row || !row->fn)
            fail_msg("%s has no handler", names[i]);
    }
}

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = strstr(text, word); p; p = strstr(p + 1, word)) {
        if (!isalnum((unsigned char)p[len]) && (p == text || !isalnum((unsigned char)p[-1])))
            return true;
    }
    return false;
}

// README.md lists what works; all that is not in that list answers UNIMPLEMENTED.
static void test_readme(void **state)
{
    (void)state;
    _cleanup_free_ char *text = NULL;
    assert_int_equal(file_read(CRISP_SOURCE_DIR "/README.md", 1 << 20, &text, NULL, NULL), 0);
    char *end = strstr(text, "The others answer UNIMPLEMENTED");
    assert_non_null(end);
    *end = '\0';
    size_t n = 0, all = 0;
    for (size_t i = 0; i < rpc_table_len; i++) {
        if (!is_cri(&rpc_table[i]))
            continue;
        all++;
        bool listed = has_word(text, rpc_table[i].name);
        if (listed != (rpc_table[i].fn != NULL))
            fail_msg("README.md is wrong about %s", rpc_table[i].name);
        n += listed;
    }
    char sum[64];
    (void)snprintf(sum, sizeof(sum), "%zu of the %zu RPCs", n, all);
    if (!strstr(text, sum))
        fail_msg("README.md does not say \"%s\"", sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method_has_its_row),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_implemented),
        cmocka_unit_test(test_readme),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
