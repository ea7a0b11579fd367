#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"
#include "base/testing.h"
#include "cni/testing.h"
#include "network/netns.h"
#include "network/network.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char conflist[] =
    "{\"cniVersion\": \"1.0.0\", \"name\": \"net\", \"plugins\": [{\"type\": \"one\"},"
    " {\"type\": \"two\", \"capabilities\": {\"portMappings\": true, \"bandwidth\": true, \"dns\": true,"
    " \"cgroupPath\": true, \"io.kubernetes.cri.pod-annotations\": true}}]}";

struct fixture {
    struct cni_testbed bed;
    struct network *net;
    struct network_pod pod;
    char pin[128];
};

static void *make_netns(void *arg)
{
    struct error err = ERROR_INIT;
    if (unshare(CLONE_NEWNET) < 0)
        return NULL;
    _cleanup_fd_ int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd >= 0 && netns_pin(fd, arg, &err) == 0 ? arg : NULL;
}

static void pin_fresh_netns(char *path)
{
    pthread_t thread;
    void *done = NULL;
    assert_int_equal(pthread_create(&thread, NULL, make_netns, path), 0);
    assert_int_equal(pthread_join(thread, &done), 0);
    assert_non_null(done);
}

static void open_network_as(struct fixture *f, bool exclusive)
{
    struct error err = ERROR_INIT;
    const struct network_options options = {
        .conf_dir = f->bed.conf_dir,
        .bin_dirs = f->bed.bin_dirs,
        .cache_dir = f->bed.cache_dir,
        .netns_dir = f->bed.netns_dir,
        // A GC that is to be called off doesn't end by itself before.
        .plugin_timeout_ns = exclusive ? 60 * NS_PER_SEC : 2 * NS_PER_SEC + testing_limit(NS_PER_SEC) / 2,
        .exclusive = exclusive};
    if (network_open(&options, &f->net, &err) < 0)
        fail_msg("%s", err.message);
}

static void open_network(struct fixture *f)
{
    open_network_as(f, false);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    cni_testbed_init(&f->bed);
    cni_testbed_plugin(&f->bed, "one", cni_testbed_good_plugin);
    cni_testbed_plugin(&f->bed, "two", cni_testbed_good_plugin);
    cni_testbed_write(&f->bed, "conf/a.conflist", conflist);
    (void)snprintf(f->pin, sizeof(f->pin), "%s/pod", f->bed.netns_dir);
    pin_fresh_netns(f->pin);
    f->pod = (struct network_pod){
        .id = ID, .name = "web", .namespace = "default", .uid = "u1", .netns_path = f->pin};
    open_network(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    network_close(f->net);
    assert_int_equal(netns_unpin(f->pin, NULL), 0);
    cni_testbed_done(&f->bed);
    free(f);
    return 0;
}

static bool has_record(struct fixture *f)
{
    return cni_testbed_exists(&f->bed, "cache/" ID ".json");
}

static void wait_until_gone(struct fixture *f)
{
    for (int64_t end = clock_mono_ns() + 8 * NS_PER_SEC; has_record(f);) {
        if (clock_mono_ns() > end)
            fail_msg("the record is still there: %s", network_info_json(f->net));
        (void)poll(NULL, 0, 5);
    }
}

static void expect_calls(struct fixture *f, const char *wanted)
{
    _cleanup_free_ char *calls = cni_testbed_read(&f->bed, "calls");
    char seen[512] = "";
    for (const char *line = calls; *line; line = strchr(line, '\n') + 1) {
        size_t len = strlen(seen);
        const char *space = strchr(strchr(line, ' ') + 1, ' ');
        (void)snprintf(seen + len, sizeof(seen) - len, "%.*s;", (int)(space - line), line);
    }
    assert_string_equal(seen, wanted);
}

static void test_attach_and_detach(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct network_result result, again;
    struct error err = ERROR_INIT;
    const struct network_port ports[] = {
        {NULL, 80, 8080, ""}, {"udp", 53, 0, NULL}, {"udp", 53, 5353, "127.0.0.1"}};
    const struct network_bandwidth bandwidth = {.ingress_bps = 1000000};
    const char *const servers[] = {"10.96.0.10", NULL};
    const struct network_pair notes[] = {{"a", "b"}};
    f->pod.ports = ports;
    f->pod.n_ports = 3;
    f->pod.bandwidth = &bandwidth;
    f->pod.dns_servers = servers;
    f->pod.cgroup_path = "/pods/x";
    f->pod.annotations = notes;
    f->pod.n_annotations = 1;
    if (network_attach(f->net, &f->pod, &ctx, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(result.ips[0], "10.9.8.7");
    assert_string_equal(result.ips[1], "fd00::7");
    assert_null(result.ips[2]);
    assert_true(result.plugin_ns > 0);
    _cleanup_free_ char *in = cni_testbed_read(&f->bed, "stdin.two.ADD"),
                        *calls = cni_testbed_read(&f->bed, "calls");
    assert_non_null(
        strstr(in, "{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\",\"hostIP\":\"\"}"));
    assert_non_null(strstr(in, "\"hostIP\":\"127.0.0.1\""));
    assert_null(strstr(in, "\"hostPort\":0"));
    assert_non_null(strstr(in, "\"bandwidth\":{\"ingressRate\":1000000,\"ingressBurst\":2147483647}"));
    assert_non_null(strstr(in, "\"dns\":{\"servers\":[\"10.96.0.10\"]}"));
    assert_non_null(strstr(in, "\"cgroupPath\":\"/pods/x\""));
    assert_non_null(strstr(in, "\"io.kubernetes.cri.pod-annotations\":{\"a\":\"b\"}"));
    assert_non_null(strstr(calls, "args=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
                                  "K8S_POD_INFRA_CONTAINER_ID=" ID ";K8S_POD_UID=u1\n"));
    assert_int_equal(network_load_result(f->net, ID, &again, &err), 0);
    assert_string_equal(again.ips[0], "10.9.8.7");
    assert_string_equal(again.json, result.json);
    network_result_done(&again);
    network_result_done(&result);
    // DEL works although the configuration is gone.
    _cleanup_free_ char *conf = str_printf("%s/a.conflist", f->bed.conf_dir);
    assert_int_equal(unlink(conf), 0);
    assert_int_equal(network_detach(f->net, ID, &ctx, &err), 0);
    assert_int_equal(network_detach(f->net, ID, &ctx, &err), 0);
    expect_calls(f, "ADD one;ADD two;DEL two;DEL one;");
    assert_false(has_record(f));
    assert_int_equal(network_load_result(f->net, ID, &again, &err), -ENOENT);
    assert_int_equal(err.status, STATUS_NOT_FOUND);
}

static void expect_attach_error(struct fixture *f, const struct ctx *ctx, enum status status,
                                const char *text)
{
    struct network_result result;
    struct error err = ERROR_INIT;
    assert_true(network_attach(f->net, &f->pod, ctx, &result, &err) < 0);
    if (err.status != status || !strstr(err.message, text))
        fail_msg("%s: %s", error_status_name(err.status), err.message);
    assert_null(result.ips);
}

static void test_failed_add_is_undone(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    cni_testbed_plugin(
        &f->bed, "two",
        "[ $CNI_COMMAND = ADD ] && { echo '{\"code\": 100, \"msg\": \"full\"}'; exit 1; }; exit 0");
    expect_attach_error(f, &ctx, STATUS_INTERNAL, "CNI plugin two ADD: full");
    expect_calls(f, "ADD one;ADD two;DEL two;DEL one;");
    assert_false(has_record(f));
}

static void test_time_out_and_cancel(void **state)
{
    struct fixture *f = *state;
    const struct ctx none = CTX_NONE;
    cni_testbed_plugin(&f->bed, "two", "[ $CNI_COMMAND = ADD ] && sleep 60; exit 0");
    struct ctx ctx = ctx_with_timeout(&none, testing_limit(300 * NS_PER_MS));
    expect_attach_error(f, &ctx, STATUS_DEADLINE_EXCEEDED, "CNI plugin two ADD");
    expect_calls(f, "ADD one;ADD two;DEL two;DEL one;");
    assert_false(has_record(f));
    struct ctx called_off = {.deadline_mono_ns = INT64_MAX, .cancel_fd = eventfd(1, EFD_CLOEXEC)};
    expect_attach_error(f, &called_off, STATUS_CANCELLED, "");
    assert_false(has_record(f));
    (void)close(called_off.cancel_fd);
    expect_attach_error(f, &none, STATUS_DEADLINE_EXCEEDED, "CNI plugin two ADD"); // plugin_timeout_ns
}

static void test_no_address(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    cni_testbed_plugin(&f->bed, "two", "echo '{\"cniVersion\": \"1.0.0\"}'");
    expect_attach_error(f, &ctx, STATUS_INTERNAL, "gave eth0 no IP address");
    assert_false(has_record(f));
}

static void test_bad_pods(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    const struct network_port ports[] = {{"icmp", 80, 8080, ""}};
    f->pod.name = "a;K8S_POD_NAMESPACE=kube-system";
    expect_attach_error(f, &ctx, STATUS_INVALID_ARGUMENT, "can't be passed to CNI plugins as K8S_POD_NAME");
    f->pod.name = "a";
    f->pod.ports = ports;
    f->pod.n_ports = 1;
    expect_attach_error(f, &ctx, STATUS_INVALID_ARGUMENT, "unknown protocol \"icmp\"");
    f->pod.n_ports = 0;
    f->pod.netns_path = "/dev/null";
    expect_attach_error(f, &ctx, STATUS_FAILED_PRECONDITION, "/dev/null is not a network namespace");
    f->pod.netns_path = f->pin;
    f->pod.id = "../../etc/passwd";
    expect_attach_error(f, &ctx, STATUS_INVALID_ARGUMENT, "not a pod id");
    assert_false(cni_testbed_exists(&f->bed, "calls"));
}

static void test_not_loaded(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct network_status status;
    network_get_status(f->net, &status);
    assert_true(status.ready);
    assert_string_equal(status.message, "");
    network_close(f->net);
    _cleanup_free_ char *conf = str_printf("%s/a.conflist", f->bed.conf_dir);
    assert_int_equal(unlink(conf), 0);
    open_network(f);
    assert_false(network_is_loaded(f->net));
    network_get_status(f->net, &status);
    assert_false(status.ready);
    assert_string_equal(status.reason, "NetworkPluginNotReady");
    assert_non_null(strstr(status.message, f->bed.conf_dir));
    expect_attach_error(f, &ctx, STATUS_UNAVAILABLE, f->bed.conf_dir);
    assert_false(has_record(f));
}

static void attach(struct fixture *f)
{
    const struct ctx ctx = CTX_NONE;
    struct network_result result;
    struct error err = ERROR_INIT;
    if (network_attach(f->net, &f->pod, &ctx, &result, &err) < 0)
        fail_msg("%s", err.message);
    network_result_done(&result);
}

static void test_failed_del_is_retried(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    attach(f);
    cni_testbed_plugin(&f->bed, "two", "echo '{\"code\": 11, \"msg\": \"later\"}'; exit 1");
    assert_true(network_detach(f->net, ID, &ctx, &err) < 0);
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
    assert_non_null(strstr(err.message, "will be tried again"));
    _cleanup_free_ char *info = network_info_json(f->net);
    assert_non_null(strstr(info, "\"pendingTearDowns\":[{\"pod\":\"" ID "\",\"attempts\":1,"));
    assert_true(has_record(f));
    cni_testbed_plugin(&f->bed, "two", cni_testbed_good_plugin);
    wait_until_gone(f);
}

static void test_missing_plugin_on_del(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    attach(f);
    _cleanup_free_ char *plugin = str_printf("%s/one", f->bed.bin_dir);
    assert_int_equal(unlink(plugin), 0);
    assert_true(network_detach(f->net, ID, &ctx, &err) < 0);
    assert_non_null(strstr(err.message, "CNI plugin one not found"));
    // A restart goes on with it, and so does a repeated call.
    network_close(f->net);
    open_network(f);
    assert_int_equal(network_sweep(f->net, (const char *const[]){ID}, 1, &err), 0);
    cni_testbed_plugin(&f->bed, "one", cni_testbed_good_plugin);
    assert_int_equal(network_detach(f->net, ID, &ctx, &err), 0);
    assert_false(has_record(f));
}

// Nothing is begun that couldn't be undone.
static void test_missing_plugin_on_add(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    _cleanup_free_ char *plugin = str_printf("%s/two", f->bed.bin_dir);
    assert_int_equal(unlink(plugin), 0);
    expect_attach_error(f, &ctx, STATUS_FAILED_PRECONDITION, "CNI plugin two not found");
    assert_false(has_record(f));
    assert_false(cni_testbed_exists(&f->bed, "calls"));
    _cleanup_free_ char *info = network_info_json(f->net);
    assert_non_null(strstr(info, "\"pendingTearDowns\":[]"));
}

static void test_sweep(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    attach(f);
    network_close(f->net);
    assert_int_equal(netns_unpin(f->pin, &err), 0); // as after a reboot
    open_network(f);
    assert_int_equal(network_sweep(f->net, (const char *const[]){ID}, 1, &err), 0);
    (void)poll(NULL, 0, 50);
    assert_true(has_record(f)); // it lives
    assert_int_equal(network_sweep(f->net, NULL, 0, &err), 0);
    wait_until_gone(f);
    expect_calls(f, "ADD one;ADD two;DEL two;DEL one;");
    _cleanup_free_ char *calls = cni_testbed_read(&f->bed, "calls");
    assert_non_null(strstr(calls, "DEL one netns= args=")); // the namespace is gone
}

// A daemon that was killed while ADD ran: the plugin may still be at work, as somebody else's child. How it
// ended.
static int sweep_with_orphan(struct fixture *f, const char *seconds)
{
    struct error err = ERROR_INIT;
    attach(f);
    network_close(f->net);
    _cleanup_free_ char *record = cni_testbed_read(&f->bed, "cache/" ID ".json");
    char *attached = strstr(record, "\"attached\"");
    assert_non_null(attached);
    memcpy(attached, "\"adding\"  ", 10);
    cni_testbed_write(&f->bed, "cache/" ID ".json", record);
    _cleanup_free_ char *command =
        str_printf(": > %s/orphan; sleep %s; : > %s/late", f->bed.root, seconds, f->bed.root);
    const struct spawn_options orphan = {
        .path = "/bin/sh",
        .argv = (char *[]){"sh", "-c", command, NULL},
        .envp = (char *[]){"PATH=/usr/bin:/bin", "CNI_COMMAND=ADD", "CNI_CONTAINERID=" ID, NULL}};
    _cleanup_fd_ int pidfd = -1;
    assert_true(spawn_start(&orphan, &pidfd, &err) > 0);
    while (!cni_testbed_exists(&f->bed, "orphan"))
        (void)poll(NULL, 0, 5);
    open_network(f);
    assert_int_equal(network_sweep(f->net, NULL, 0, &err), 0);
    wait_until_gone(f);
    siginfo_t info = {0};
    assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    return info.si_code;
}

static void test_sweep_after_crash_in_add(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(sweep_with_orphan(f, "60"), CLD_KILLED);
    assert_false(cni_testbed_exists(&f->bed, "late"));
}

// Half a DEL can't be done again: a plugin that comes to its end is let come to it, and only then is there a
// DEL.
static void test_sweep_lets_plugins_finish(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(sweep_with_orphan(f, "0.3"), CLD_EXITED);
    assert_true(cni_testbed_exists(&f->bed, "late"));
}

static void test_bad_record(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    cni_testbed_write(&f->bed, "cache/" ID ".json", "{ torn");
    assert_int_equal(network_detach(f->net, ID, &ctx, &err), 0);
    assert_false(has_record(f));
    assert_true(cni_testbed_exists(&f->bed, "cache/" ID ".json.bad"));
    attach(f);
    assert_int_equal(network_detach(f->net, ID, &ctx, &err), 0);
}

static void test_shutdown_is_quick(void **state)
{
    struct fixture *f = *state;
    const struct ctx none = CTX_NONE;
    cni_testbed_plugin(&f->bed, "two", "sleep 60");
    network_shutdown(f->net);
    int64_t start = clock_mono_ns();
    struct ctx ctx = ctx_with_timeout(&none, testing_limit(1500 * NS_PER_MS));
    expect_attach_error(f, &ctx, STATUS_DEADLINE_EXCEEDED, "CNI plugin two ADD");
    assert_true(clock_mono_ns() - start < testing_limit(20 * NS_PER_SEC)); // not the plugin's 60
    assert_true(has_record(f));                                            // for the next start
}

static void *attach_in_thread(void *arg)
{
    attach(arg);
    return NULL;
}

static void test_one_after_the_other(void **state)
{
    struct fixture *f = *state;
    const struct ctx none = CTX_NONE;
    struct error err = ERROR_INIT;
    pthread_t thread;
    cni_testbed_plugin(&f->bed, "one",
                       "[ $CNI_COMMAND = ADD ] && { sleep 1; echo '{\"cniVersion\": \"1.0.0\"}'; }; exit 0");
    assert_int_equal(pthread_create(&thread, NULL, attach_in_thread, f), 0);
    while (!cni_testbed_exists(&f->bed, "calls"))
        (void)poll(NULL, 0, 5);
    struct ctx ctx = ctx_with_timeout(&none, 50 * NS_PER_MS);
    assert_true(network_detach(f->net, ID, &ctx, &err) < 0);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(network_detach(f->net, ID, &none, &err), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    expect_calls(f, "ADD one;ADD two;DEL two;DEL one;");
}

// The number of times that plugin "one" was told to collect garbage.
static int count_gcs(struct fixture *f)
{
    _cleanup_free_ char *calls = cni_testbed_read(&f->bed, "calls");
    int n = 0;
    for (const char *at = calls; (at = strstr(at, "GC one ")) != NULL; at++)
        n++;
    return n;
}

static void wait_for_gcs(struct fixture *f, int n)
{
    for (int64_t end = clock_mono_ns() + 60 * NS_PER_SEC; count_gcs(f) < n;) {
        if (clock_mono_ns() > end)
            fail_msg("%d GCs instead of %d", count_gcs(f), n);
        (void)poll(NULL, 0, 5);
    }
}

// A GC lists what is valid before it runs: what a pod gets meanwhile would be freed under its feet.
static void test_add_ends_a_gc(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    network_close(f->net);
    cni_testbed_write(&f->bed, "conf/a.conflist",
                      "{\"cniVersion\": \"1.1.0\", \"name\": \"net\", \"plugins\": [{\"type\": \"one\"}]}");
    cni_testbed_plugin(&f->bed, "one",
                       "[ $CNI_COMMAND = GC ] && [ ! -e $root/slow ] && { >$root/slow; exec sleep 60; }\n"
                       "[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\": \"1.1.0\", \"ips\":"
                       " [{\"address\": \"10.9.8.7/24\"}]}'\nexit 0\n");
    open_network_as(f, true);
    assert_int_equal(network_sweep(f->net, NULL, 0, &err), 0);
    while (!cni_testbed_exists(&f->bed, "slow")) // the first one sleeps
        (void)poll(NULL, 0, 5);
    int64_t start = clock_mono_ns();
    attach(f);
    assert_true(clock_mono_ns() - start < 20 * NS_PER_SEC); // the GC was ended for it
    wait_for_gcs(f, 2);                                     // and is made up for
    bool valid = false;                                     // by then the pod's attachment is
    for (int i = 0; i < 4000 && !valid; i++) {
        _cleanup_free_ char *in = cni_testbed_read(&f->bed, "stdin.one.GC");
        valid = strstr(in, ID) != NULL;
        (void)poll(NULL, 0, 5);
    }
    assert_true(valid);
}

static void test_pod_cidr(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    assert_int_equal(network_set_pod_cidr(f->net, "", &err), 0);
    assert_int_equal(network_set_pod_cidr(f->net, "10.1.0.0/16,fd00::/64", &err), 0);
    static const char *const bad[] = {"10.1.0.0",     "10.1.0.0/33", "x/8", "10.1.0.0/16,10.2.0.0/16",
                                      "10.1.0.0/16,", "fd00::/129"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(network_set_pod_cidr(f->net, bad[i], &err), -EINVAL);
    _cleanup_free_ char *info = network_info_json(f->net);
    assert_non_null(strstr(info, "\"podCIDR\":\"10.1.0.0/16,fd00::/64\""));
    assert_non_null(strstr(info, "\"name\":\"net\""));
}

static void test_bandwidth(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    static const struct {
        const char *text;
        int64_t bps;
    } good[] = {{"10M", 10000000},
                {"1Gi", 1073741824},
                {"1500k", 1500000},
                {"2e6", 2000000},
                {"0.5G", 500000000},
                {"1000", 1000},
                {"1P", INT64_C(1000000000000000)},
                {"5000000m", 5000}};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        int64_t bps = 0;
        assert_int_equal(network_bandwidth_parse(good[i].text, &bps, &err), 0);
        assert_int_equal(bps, good[i].bps);
    }
    static const char *const bad[] = {"",   "M",    "-1M",    "10 M", "10X",  "999",
                                      "2P", "1e99", "1.2.3M", "nan",  "0x10M"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int64_t bps = 0;
        assert_true(network_bandwidth_parse(bad[i], &bps, &err) < 0);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    }
}

int main(void)
{
    if (geteuid() != 0) {
        (void)fprintf(stderr, "skipped: needs root for network namespaces\n");
        return 0;
    }
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_attach_and_detach),
        TEST(test_failed_add_is_undone),
        TEST(test_time_out_and_cancel),
        TEST(test_no_address),
        TEST(test_bad_pods),
        TEST(test_not_loaded),
        TEST(test_failed_del_is_retried),
        TEST(test_missing_plugin_on_del),
        TEST(test_missing_plugin_on_add),
        TEST(test_sweep),
        TEST(test_sweep_after_crash_in_add),
        TEST(test_sweep_lets_plugins_finish),
        TEST(test_bad_record),
        TEST(test_shutdown_is_quick),
        TEST(test_one_after_the_other),
        TEST(test_add_ends_a_gc),
        TEST(test_pod_cidr),
        cmocka_unit_test(test_bandwidth),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
