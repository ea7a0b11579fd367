// With the real plugins bridge, host-local and portmap: Debian's, and the reference ones (Go) where they were
// built. All in network and mount namespaces of the test's own: nothing is left, whatever happens.
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/netdev.h"
#include "base/str.h"
#include "base/testing.h"
#include "cni/testing.h"
#include "network/netns.h"
#include "network/network.h"

#define ID       "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define DEBIAN   "/usr/lib/cni"
#define PODS     10
#define BRIDGE   "crisptest0"
#define HOSTPORT 18080

static void *make_netns(void *arg)
{
    struct error err = ERROR_INIT;
    if (unshare(CLONE_NEWNET) < 0)
        return NULL;
    _cleanup_fd_ int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd >= 0 && netns_pin(fd, arg, &err) == 0 && netdev_bring_up_lo(&err) == 0 ? arg : NULL;
}

static void run_thread(void *(*fn)(void *), void *arg, void **result)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
    assert_int_equal(pthread_join(thread, result), 0);
}

// A listening socket on port 80 of the namespace at path (the descriptor, as a pointer; NULL on failure).
static void *listen_in(void *path)
{
    _cleanup_fd_ int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
        return NULL;
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(80)};
    if (bind(sock, (const struct sockaddr *)&any, sizeof(any)) < 0 || listen(sock, 8) < 0) {
        (void)close(sock);
        return NULL;
    }
    return (void *)(intptr_t)sock;
}

static bool can_connect(const char *ip, uint16_t port)
{
    _cleanup_fd_ int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, ip, &to.sin_addr), 1);
    if (connect(sock, (const struct sockaddr *)&to, sizeof(to)) == 0)
        return true;
    struct pollfd p = {.fd = sock, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof(error);
    return poll(&p, 1, 3000) == 1 && getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0;
}

// How many interfaces other than lo and the bridge there are: the pods' host ends.
static size_t count_veths(void)
{
    struct if_nameindex *names = if_nameindex();
    size_t n = 0;
    for (struct if_nameindex *i = names; i && i->if_index; i++)
        n += strncmp(i->if_name, "veth", 4) == 0;
    if_freenameindex(names);
    return n;
}

static void write_conflist(const struct cni_testbed *bed, const char *versions)
{
    _cleanup_free_ char *text = str_printf(
        "{%s, \"name\": \"crisp-test\", \"plugins\": [{\"type\": \"bridge\", \"bridge\": \"%s\","
        " \"isGateway\": true, \"ipMasq\": true, \"hairpinMode\": true, \"ipam\": {\"type\": \"host-local\","
        " \"dataDir\": \"%s/ipam\", \"ranges\": [[{\"subnet\": \"10.251.0.0/24\"}], [{\"subnet\": "
        "\"fd51::/64\"}]],"
        " \"routes\": [{\"dst\": \"0.0.0.0/0\"}, {\"dst\": \"::/0\"}]}},"
        " {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}}]}",
        versions, BRIDGE, bed->root);
    cni_testbed_write(bed, "conf/10-test.conflist", text);
}

static void expect_info(struct network *net, const char *text)
{
    _cleanup_free_ char *info = network_info_json(net);
    if (!strstr(info, text))
        fail_msg("no %s in %s", text, info);
}

static void attach(struct network *net, const char *id, const char *pin, struct network_result *result)
{
    const struct ctx ctx = CTX_NONE;
    const struct network_port port = {.protocol = "tcp", .container_port = 80, .host_port = HOSTPORT};
    struct network_pod pod = {.id = id, .name = "p", .namespace = "n", .uid = "u", .netns_path = pin};
    struct error err = ERROR_INIT;
    pod.ports = &port;
    pod.n_ports = str_eq(id, ID);
    if (network_attach(net, &pod, &ctx, result, &err) < 0)
        fail_msg("%s", err.message);
}

static void check_one_pod(struct network *net, const struct cni_testbed *bed)
{
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    struct network_result result;
    void *sock = NULL, *done = NULL;
    char pin[128];
    (void)snprintf(pin, sizeof(pin), "%s/one", bed->netns_dir);
    run_thread(make_netns, pin, &done);
    assert_non_null(done);
    attach(net, ID, pin, &result);
    assert_int_equal(strv_len(result.ips), 2);
    assert_true(str_has_prefix(result.ips[0], "10.251.0."));
    assert_true(str_has_prefix(result.ips[1], "fd51::"));
    run_thread(listen_in, pin, &sock);
    assert_non_null(sock);
    assert_true(can_connect(result.ips[0], 80));
    assert_true(can_connect("10.251.0.1", HOSTPORT)); // by way of portmap
    assert_int_equal(count_veths(), 1);
    (void)close((int)(intptr_t)sock);
    network_result_done(&result);
    assert_int_equal(network_detach(net, ID, &ctx, &err), 0);
    assert_int_equal(count_veths(), 0);
    assert_false(can_connect("10.251.0.1", HOSTPORT));
    assert_int_equal(netns_unpin(pin, &err), 0);
}

// Pods one after another, for the time that is ours and not the plugins'; then their namespaces vanish before
// DEL, and not one address may stay reserved.
static void check_many_pods(struct network *net, const struct cni_testbed *bed, const char *label)
{
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    char pin[PODS][128], id[PODS][80];
    int64_t ours = 0, plugins = 0;
    for (int i = 0; i < PODS; i++) {
        struct network_result result;
        void *done = NULL;
        (void)snprintf(pin[i], sizeof(pin[i]), "%s/many%d", bed->netns_dir, i);
        (void)snprintf(id[i], sizeof(id[i]), "pod%061d", i);
        run_thread(make_netns, pin[i], &done);
        assert_non_null(done);
        int64_t start = clock_mono_ns();
        attach(net, id[i], pin[i], &result);
        ours += clock_mono_ns() - start - result.plugin_ns;
        plugins += result.plugin_ns;
        network_result_done(&result);
    }
    print_message("%s: ADD %.1f ms in plugins, %.2f ms besides\n", label, (double)plugins / PODS / 1e6,
                  (double)ours / PODS / 1e6);
    assert_int_equal(count_veths(), PODS);
    for (int i = 0; i < PODS; i++) {
        assert_int_equal(netns_unpin(pin[i], &err), 0);
        if (network_detach(net, id[i], &ctx, &err) < 0)
            fail_msg("%s", err.message);
    }
    assert_false(cni_testbed_exists(bed, "ipam/crisp-test/10.251.0.3"));
    for (int64_t end = clock_mono_ns() + 5 * NS_PER_SEC; count_veths() && clock_mono_ns() < end;)
        (void)poll(NULL, 0, 10); // the kernel takes its time to end a namespace
    assert_int_equal(count_veths(), 0);
}

static void check_plugins(const char *dir, const char *versions, const char *expected)
{
    struct cni_testbed bed;
    struct network *net = NULL;
    struct error err = ERROR_INIT;
    struct network_status status;
    const char *const dirs[] = {dir, NULL};
    _cleanup_free_ char *probe = str_printf("%s/portmap", dir);
    if (access(probe, X_OK) < 0)
        TESTING_SKIP("%s isn't there", probe);
    cni_testbed_init(&bed);
    write_conflist(&bed, versions);
    const struct network_options options = {.conf_dir = bed.conf_dir,
                                            .bin_dirs = dirs,
                                            .cache_dir = bed.cache_dir,
                                            .netns_dir = bed.netns_dir,
                                            .exclusive = true};
    assert_int_equal(network_open(&options, &net, &err), 0);
    network_get_status(net, &status);
    if (!status.ready)
        fail_msg("%s", status.message);
    expect_info(net, expected);
    check_one_pod(net, &bed);
    check_many_pods(net, &bed, expected);
    assert_int_equal(network_sweep(net, NULL, 0, &err), 0); // and GC, with 1.1.0
    network_close(net);
    cni_testbed_done(&bed);
}

#define ANY_VERSION "\"cniVersion\": \"0.4.0\", \"cniVersions\": [\"0.4.0\", \"1.0.0\", \"1.1.0\"]"

static void test_debian(void **state)
{
    (void)state;
    check_plugins(DEBIAN, "\"cniVersion\": \"0.4.0\"", "\"cniVersion\":\"0.4.0\"");
    check_plugins(DEBIAN, ANY_VERSION, "\"cniVersion\":\"1.0.0\"");
}

static void test_reference(void **state)
{
    (void)state;
    const char *dir = getenv("CRISP_TEST_CNI_BIN"); // NOLINT(concurrency-mt-unsafe)
    check_plugins(dir ? dir : CRISP_TEST_CNI_BIN, ANY_VERSION, "\"cniVersion\":\"1.1.0\"");
}

int main(void)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        (void)fprintf(stderr, "skipped: needs root for namespaces\n");
        return 0;
    }
    if (netdev_bring_up_lo(NULL) < 0)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_debian), cmocka_unit_test(test_reference)};
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
