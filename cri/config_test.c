// The configuration: files in order, strictness with exact texts, defaults, and that print and docs agree.
#include "cri/config_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "image/policy_config.h"
#include "image/registry_config.h"

struct fixture {
    char dir[64];
    char *file, *conf_dir;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/crisp-config-test.XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    f->file = str_printf("%s/crisp.yaml", f->dir);
    f->conf_dir = str_printf("%s/conf.d", f->dir);
    *state = f;
    return mkdir(f->conf_dir, 0700);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int rc = file_remove_tree(f->dir, NULL);
    free(f->file);
    free(f->conf_dir);
    free(f);
    return rc;
}

static void put(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, false, NULL), 0);
}

static int load(struct fixture *f, const char *text, struct config **out, struct config_problems *p)
{
    put(f->file, text);
    struct config_source source = {.file = f->file};
    config_problems_init(p);
    return config_load(&source, out, p);
}

static struct config *load_good(struct fixture *f, const char *text)
{
    struct config *c = NULL;
    struct config_problems p;
    int rc = load(f, text, &c, &p);
    if (rc != 0)
        print_error("%s", p.text.data);
    assert_int_equal(rc, 0);
    config_problems_done(&p);
    return c;
}

// The problems of a text, with the file's name taken off each line.
static void expect_problems(struct fixture *f, const char *text, const char *expected)
{
    struct config *c = NULL;
    struct config_problems p;
    assert_int_equal(load(f, text, &c, &p), -EINVAL);
    assert_null(c);
    struct buf b;
    buf_init(&b, 1 << 20);
    for (const char *line = p.text.data; *line;) {
        size_t len = strcspn(line, "\n");
        size_t skip = str_has_prefix(line, f->file) ? strlen(f->file) + 1 : 0;
        assert_int_equal(buf_printf(&b, "%.*s\n", (int)(len - skip), line + skip), 0);
        line += len + (line[len] == '\n');
    }
    assert_string_equal(b.data, expected);
    buf_done(&b);
    config_problems_done(&p);
}

static void test_defaults(void **state)
{
    _cleanup_(config_freep) struct config *c = load_good(*state, "");
    assert_string_equal(c->root, "/var/lib/crisp");
    assert_string_equal(c->run_dir, "/run/crisp");
    assert_string_equal(c->socket, "/run/crisp/crisp.sock");
    assert_string_equal(c->cni_cache_dir, "/var/lib/crisp/cni");
    assert_string_equal(c->cni_bin_dirs[0], "/opt/cni/bin");
    assert_string_equal(c->cni_bin_dirs[1], "/usr/lib/cni");
    assert_null(c->cni_bin_dirs[2]);
    assert_int_equal(c->log_level, LOG_LEVEL_INFO);
    assert_int_equal(c->log_format, LOG_FORMAT_TEXT);
    assert_int_equal(c->cgroup_driver, CONFIG_CGROUP_CGROUPFS);
    assert_int_equal(c->cni_plugin_timeout_ns, 120 * NS_PER_SEC);
    assert_non_null(c->image_pinned);
    assert_null(c->image_pinned[0]);
    assert_null(c->registries);
    assert_true(config_is_normal_path(c->crisp_pod));
    assert_true(config_is_normal_path(c->crisp_pull));
}

static void test_values(void **state)
{
    _cleanup_(config_freep) struct config *c = load_good(*state, "root: /srv/crisp\n"
                                                                 "run_dir: \"/run/crisp two\"\n"
                                                                 "shutdown_grace: 1500ms\n"
                                                                 "log: {level: debug, format: json}\n"
                                                                 "cni:\n"
                                                                 "  bin_dirs: [/a, /b/c]\n"
                                                                 "  exclusive: true\n"
                                                                 "image:\n"
                                                                 "  pinned:\n"
                                                                 "    - registry.k8s.io/pause:3.10\n"
                                                                 "streaming:\n"
                                                                 "  address: '[::1]:0'\n"
                                                                 "cgroup:\n"
                                                                 "  # parent: /x\n");
    assert_string_equal(c->root, "/srv/crisp");
    assert_string_equal(c->socket, "/run/crisp two/crisp.sock");
    assert_string_equal(c->cni_cache_dir, "/srv/crisp/cni");
    assert_int_equal(c->shutdown_grace_ns, 1500 * NS_PER_MS);
    assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(c->log_format, LOG_FORMAT_JSON);
    assert_string_equal(c->cni_bin_dirs[1], "/b/c");
    assert_null(c->cni_bin_dirs[2]);
    assert_true(c->cni_exclusive);
    assert_string_equal(c->image_pinned[0], "registry.k8s.io/pause:3.10");
    assert_string_equal(c->streaming_address, "[::1]:0");
    assert_string_equal(c->cgroup_parent, "/crisp");
}

static void test_systemd_has_slices(void **state)
{
    _cleanup_(config_freep) struct config *plain = load_good(*state, "cgroup: {driver: systemd}\n");
    assert_int_equal(plain->cgroup_driver, CONFIG_CGROUP_SYSTEMD);
    assert_string_equal(plain->cgroup_parent, "crisp.slice");
    _cleanup_(config_freep) struct config *named =
        load_good(*state, "cgroup: {parent: system-pods.slice, driver: systemd}\n");
    assert_string_equal(named->cgroup_parent, "system-pods.slice");
}

#define CGROUP_PARENT_ALLOWED                                                                                \
    "an absolute cgroup path of at most 512 bytes, but not \"/\", without \".\" or \"..\"; with the driver " \
    "systemd the name of a slice, as in a-b.slice"

static const struct {
    const char *text, *problems;
} bad[] = {
    {"roots: /x\n", "1: roots: unknown key; allowed here: root, run_dir, socket, max_connections, "
                    "shutdown_grace, log, cgroup, "
                    "cni, streaming, runtime, annotations, cdi, image, registries, helpers\n"},
    {"log:\n  level: info\n  colour: red\n", "3: log.colour: unknown key; allowed here: level, format\n"},
    {"log:\n  level: loud\n", "2: log.level: \"loud\" is not allowed; allowed: debug, info, warn or error\n"},
    {"log: debug\n", "1: log: expected a map of keys but found a text\n"},
    {"log:\n  level: [info]\n",
     "2: log.level: expected a single value but found a list; allowed: debug, info, warn or error\n"},
    {"log:\n  level:\n",
     "2: log.level: expected a single value but found nothing; allowed: debug, info, warn or error\n"},
    {"root: relative/dir\n",
     "1: root: \"relative/dir\" is not allowed; allowed: an absolute path without \".\", \"..\" or \"//\"\n"},
    {"root: /a/../b\n",
     "1: root: \"/a/../b\" is not allowed; allowed: an absolute path without \".\", \"..\" or \"//\"\n"},
    {"max_connections: many\n",
     "1: max_connections: \"many\" is not allowed; allowed: a whole number from 8 to 4096\n"},
    {"max_connections: \"9\"\n", "1: max_connections: expected a single value but found a text; allowed: a "
                                 "whole number from 8 to 4096\n"},
    {"max_connections: 0\nshutdown_grace: 5\n",
     "1: max_connections: \"0\" is not allowed; allowed: a whole number from 8 to 4096\n"
     "2: shutdown_grace: \"5\" is not allowed; allowed: a duration such as 500ms, 30s or 2m, from 0ms to "
     "5m\n"},
    {"root: /a\nrun_dir: /b\nroot: /c\n", "3: root: is given twice in this file; keep one\n"},
    {"cni:\n  bin_dirs: /opt/cni/bin\n", "2: cni.bin_dirs: expected a list but found a text; allowed: a list "
                                         "of absolute paths without \".\", \"..\" "
                                         "or \"//\"\n"},
    {"cni:\n  bin_dirs: []\n", "2: cni.bin_dirs: is empty; allowed: a list of at least one directory\n"},
    {"cni:\n  exclusive: yes\n", "2: cni.exclusive: \"yes\" is not allowed; allowed: true or false\n"},
    {"cgroup: {driver: upstart}\n",
     "1: cgroup.driver: \"upstart\" is not allowed; allowed: cgroupfs or systemd\n"},
    {"cgroup: {parent: crisp.slice}\n",
     "1: cgroup.parent: is a systemd slice, but cgroup.driver is cgroupfs; "
     "allowed: a path such as /crisp\n"},
    {"cgroup: {driver: systemd, parent: /crisp}\n",
     "1: cgroup.parent: is a path, but cgroup.driver is systemd; allowed: the name of a slice, as in "
     "a-b.slice\n"},
    {"cgroup: {driver: systemd, parent: a--b.slice}\n",
     "1: cgroup.parent: \"a--b.slice\" is not allowed; allowed: " CGROUP_PARENT_ALLOWED "\n"},
    {"cgroup: {driver: systemd, parent: -.slice}\n",
     "1: cgroup.parent: \"-.slice\" is not allowed; allowed: " CGROUP_PARENT_ALLOWED "\n"},
    {"cgroup: {parent: /}\n", "1: cgroup.parent: \"/\" is not allowed; allowed: " CGROUP_PARENT_ALLOWED "\n"},
    {"streaming: {address: 'localhost:80'}\n",
     "1: streaming.address: \"localhost:80\" is not allowed; allowed: a numeric IP address and a port, "
     "127.0.0.1:10010 or [::1]:0 (port 0: any free one)\n"},
    {"root: /run/crisp/data\n",
     "1: root: lies in run_dir, which is emptied by a reboot; choose another directory\n"},
    {"root: /x\nrun_dir: /x/run\n",
     "2: run_dir: lies in root, which is kept over reboots; choose another directory\n"},
    {"root: [unclosed\nlog: {}\n",
     "2: (syntax): not valid YAML: did not find expected ',' or ']' while parsing "
     "a flow sequence\n"},
    {"root: /a\n---\nroot: /b\n", "3: (top): a second document (---) in one file; keep one\n"},
    {"- root\n", "1: (top): expected a map of keys but found a list\n"},
    {"[a]: b\n", "1: (top): a key has to be a short text\n"},
    {"registries: []\n", "1: registries: expected a map of keys\n"},
    {"registries:\n  docker.io:\n    mirror: []\n",
     "3: registries.docker.io.mirror: unknown key; allowed here: mirrors, strict, ca_file, client_cert_file, "
     "client_key_file, skip_verify\n"},
    {"registries:\n  a:\n    client_cert_file: /c.pem\n",
     "3: registries.a.client_key_file: is missing; client_cert_file and client_key_file go together\n"},
    {"registries:\n  a:\n    mirrors:\n      - {url: 'http://m', capabilities: [push]}\n",
     "4: registries.a.mirrors[0].capabilities: expected a list of pull, resolve or both\n"},
    {"registries:\n  a:\n    strict: true\n    mirrors: [{url: 'http://m', capabilities: [pull]}]\n",
     "3: registries.a.strict: no tag could be pulled: no mirror has the capability resolve\n"},
    {"registries:\n  a:\n    strict: true\n    mirrors: [{url: 'http://m', capabilities: [resolve]}]\n",
     "3: registries.a.strict: nothing could be pulled: no mirror has the capability pull\n"},
    {"registries:\n  docker.io:\n    mirrors:\n      - url: 127.0.0.1:5000\n",
     "4: registries.docker.io.mirrors[0].url: expected http://HOST[:PORT] or https://HOST[:PORT] without a "
     "path; "
     "a path goes into path_prefix\n"},
    {"registries:\n  docker.io:\n    mirrors:\n      - path_prefix: x\n",
     "4: registries.docker.io.mirrors[0].url: is missing; expected http://HOST[:PORT] or "
     "https://HOST[:PORT]\n"},
    {"registries:\n  \"docker.io/library\": {strict: false}\n",
     "2: registries.docker.io/library: is not a registry host; expected HOST, HOST:PORT or \"*\"\n"},
    {"registries:\n  a:\n    strict: true\n",
     "3: registries.a.strict: nothing could be pulled: strict without mirrors\n"},
    {"image:\n  allowed: [nginx]\n", "2: image.allowed: \"nginx\" is not allowed; allowed: a list of "
                                     "registry hosts with or without a path, such as "
                                     "registry.k8s.io or ghcr.io/team\n"},
    {"image:\n  policies:\n    nginx: {action: accept}\n",
     "3: image.policies.nginx: is no registry host with or without a path, as in whole image names "
     "(docker.io/library/nginx), nor \"*\"\n"},
    {"image:\n  policies:\n    r.io/UP: {action: accept}\n",
     "3: image.policies.r.io/UP: is no registry host with or without a path, as in whole image names "
     "(docker.io/library/nginx), nor \"*\"\n"},
    {"image:\n  policies:\n    r.io: {action: deny}\n",
     "3: image.policies.r.io.action: expected accept, require or reject\n"},
    {"image:\n  policies:\n    r.io: {}\n",
     "3: image.policies.r.io.action: is missing; expected accept, require or reject\n"},
    {"image:\n  policies:\n    r.io: {action: require}\n",
     "3: image.policies.r.io.keys: is missing; action: require needs the keys of who signs\n"},
    {"image:\n  policies:\n    r.io: {action: accept, keys: [/k]}\n",
     "3: image.policies.r.io.action: keys, all_keys and signed_as go with action: require only\n"},
    {"image:\n  policies:\n    r.io: {action: require, keys: [k]}\n",
     "3: image.policies.r.io.keys: expected absolute paths\n"},
    {"image:\n  policies:\n    r.io: {action: require, keys: []}\n",
     "3: image.policies.r.io.keys: expected a list of 1 to 32 files, each with a public key\n"},
    {"image:\n  policies:\n    r.io: {action: require, keys: [/k], signed_as: x}\n",
     "3: image.policies.r.io.signed_as: expected a registry host and path as in image names, or \"*\" for "
     "any\n"},
    {"image:\n  policies:\n    r.io: {acton: reject}\n",
     "3: image.policies.r.io.acton: unknown key; allowed here: action, keys, all_keys, signed_as\n"},
    {"image:\n  policies: []\n", "2: image.policies: expected a map of keys\n"},
    {"registries:\n  a: {}\n  a: {}\n", "3: registries.a: is given twice in this file; keep one\n"},
    {"registries:\n  r.io: {}\n  R.io:443: {}\n",
     "3: registries.R.io:443: is given twice in this file; keep one\n"},
    {"registries:\n  docker.io: {}\n  registry-1.docker.io: {}\n",
     "3: registries.registry-1.docker.io: is given twice in this file; keep one\n"},
    {"registries:\n  r.io:0443: {}\n",
     "2: registries.r.io:0443: is not a registry host; expected HOST, HOST:PORT or \"*\"\n"},
    {"registries:\n  a:\n    mirrors: [{url: 'http://m:05000'}]\n",
     "3: registries.a.mirrors[0].url: expected http://HOST[:PORT] or https://HOST[:PORT] without a "
     "path; a path goes into path_prefix\n"},
    {"image:\n  policies:\n    r.io/x: {action: accept}\n    R.IO:443/x: {action: reject}\n",
     "4: image.policies.R.IO:443/x: is given twice in this file; keep one\n"},
    {"image:\n  policies:\n    registry-1.docker.io: {action: accept}\n",
     "3: image.policies.registry-1.docker.io: is no registry host with or without a path, as in whole image "
     "names (docker.io/library/nginx), nor \"*\"\n"},
    {"image:\n  policies:\n    r.io:05000: {action: accept}\n",
     "3: image.policies.r.io:05000: is no registry host with or without a path, as in whole image names "
     "(docker.io/library/nginx), nor \"*\"\n"},
};

static void test_bad_texts(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect_problems(*state, bad[i].text, bad[i].problems);
}

static void test_registries(void **state)
{
    struct fixture *f = *state;
    _cleanup_(config_freep) struct config *c =
        load_good(f, "registries:\n"
                     "  registry.k8s.io:\n"
                     "    strict: true\n"
                     "    mirrors:\n"
                     "      - {url: 'http://127.0.0.1:5000', path_prefix: registry.k8s.io}\n"
                     "      - url: https://[::1]:5001\n"
                     "        skip_verify: true\n"
                     "        ca_file: /etc/ca.pem\n"
                     "        capabilities: [pull]\n"
                     "        client_cert_file: /etc/cert.pem\n"
                     "        client_key_file: /etc/key.pem\n"
                     "    ca_file: /etc/own.pem\n"
                     "  '*': {}\n");
    assert_int_equal(c->registries->n_hosts, 2);
    const struct registry_host *host = &c->registries->hosts[0];
    assert_string_equal(host->host, "registry.k8s.io");
    assert_true(host->strict);
    assert_int_equal(host->n_mirrors, 2);
    assert_string_equal(host->mirrors[0].path_prefix, "registry.k8s.io");
    assert_string_equal(host->tls.ca_file, "/etc/own.pem");
    assert_null(host->mirrors[0].tls.ca_file);
    assert_false(host->mirrors[0].no_resolve || host->mirrors[0].no_pull || host->mirrors[1].no_pull);
    assert_true(host->mirrors[1].no_resolve);
    assert_string_equal(host->mirrors[1].tls.cert_file, "/etc/cert.pem");
    assert_string_equal(host->mirrors[1].tls.key_file, "/etc/key.pem");
    assert_string_equal(host->mirrors[1].url, "https://[::1]:5001");
    assert_string_equal(host->mirrors[1].tls.ca_file, "/etc/ca.pem");
    assert_true(host->mirrors[1].tls.skip_verify);
    assert_string_equal(c->registries->hosts[1].host, "*");
}

static void test_too_many_registries(void **state)
{
    struct buf text;
    buf_init(&text, 1u << 16);
    assert_int_equal(buf_append_str(&text, "registries:\n"), 0);
    for (int i = 0; i < 257; i++)
        assert_int_equal(buf_printf(&text, "  h%d: {}\n", i), 0);
    expect_problems(*state, text.data, "258: registries: too many hosts; at most 256 are allowed\n");
    buf_done(&text);
}

static void test_directory_overrides(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *a = str_printf("%s/10-a.yaml", f->conf_dir);
    _cleanup_free_ char *b = str_printf("%s/20-b.yaml", f->conf_dir);
    _cleanup_free_ char *ignored = str_printf("%s/30-c.yaml.bak", f->conf_dir);
    put(f->file, "root: /one\nlog: {level: warn}\ncni: {bin_dirs: [/1, /2]}\n"
                 "registries: {a: {mirrors: [{url: 'http://x'}]}, b: {}}\n"
                 "image: {policies: {r.io: {action: accept}}}\n");
    put(a, "root: /two\ncni: {bin_dirs: [/3]}\nregistries: {'A:443': {}, c: {}}\n"
           "image: {policies: {'R.io:443': {action: reject}}}\n");
    put(b, "root: /three\n");
    put(ignored, "nonsense: 1\n");
    struct config_source source = {.file = f->file, .dir = f->conf_dir, .dir_must_exist = true};
    struct config_problems p;
    _cleanup_(config_freep) struct config *c = NULL;
    config_problems_init(&p);
    assert_int_equal(config_load(&source, &c, &p), 0);
    assert_string_equal(c->root, "/three");
    assert_int_equal(c->log_level, LOG_LEVEL_WARN);
    assert_string_equal(c->cni_bin_dirs[0], "/3");
    assert_null(c->cni_bin_dirs[1]);
    assert_int_equal(c->registries->n_hosts, 3);
    assert_int_equal(c->registries->hosts[0].n_mirrors, 0);
    assert_int_equal(c->image_policies->n_entries, 1);
    assert_int_equal(c->image_policies->entries[0].action, POLICY_REJECT);
    config_problems_done(&p);

    put(b, "\nroot: nowhere\n");
    config_freep(&c);
    config_problems_init(&p);
    assert_int_equal(config_load(&source, &c, &p), -EINVAL);
    assert_true(str_has_prefix(p.text.data, b));
    assert_true(str_has_prefix(p.text.data + strlen(b), ":2: root: \"nowhere\""));
    config_problems_done(&p);
}

static void test_missing_file(void **state)
{
    struct fixture *f = *state;
    struct config_source source = {.file = f->file};
    struct config_problems p;
    struct config *c = NULL;
    (void)remove(f->file);
    config_problems_init(&p);
    assert_int_equal(config_load(&source, &c, &p), -EINVAL);
    assert_non_null(strstr(p.text.data, "No such file or directory"));
    config_problems_done(&p);
}

static void test_many_problems_are_bounded(void **state)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 30; i++)
        assert_int_equal(buf_printf(&b, "k%d: 1\n", i), 0);
    struct config *c = NULL;
    struct config_problems p;
    assert_int_equal(load(*state, b.data, &c, &p), -EINVAL);
    assert_int_equal(p.n, 30);
    assert_non_null(strstr(p.text.data, "… and 10 more\n"));
    config_problems_done(&p);
    buf_done(&b);
}

// Cut and damaged files may be refused but never read out of bounds (the sanitizers watch).
static void test_damaged_text(void **state)
{
    const char *whole = "registries: {a: &x {mirrors: [{url: 'http://x', skip_verify: true}]}, b: *x}\n"
                        "cni: {bin_dirs: [/1, \"/\\u00e4\"]}\nlog: &l {level: *l}\n";
    char text[256];
    for (size_t len = 0; len <= strlen(whole); len++) {
        memcpy(text, whole, len);
        text[len] = '\0';
        for (int flip = 0; flip < 3 && len > 0; flip++) {
            struct config *c = NULL;
            struct config_problems p;
            text[len * 7 % len] ^= (char)(flip * 0x21);
            (void)load(*state, text, &c, &p);
            config_free(c);
            config_problems_done(&p);
        }
    }
}

static void test_print_round_trip(void **state)
{
    struct fixture *f = *state;
    struct buf one, two;
    buf_init(&one, 1 << 20);
    buf_init(&two, 1 << 20);
    _cleanup_(config_freep) struct config *c = load_good(
        f, "root: \"/a \\\"b\\\" \\\\ #c\"\nimage: {pinned: ['x: y']}\nshutdown_grace: 90s\n"
           "registries: {'*': {mirrors: [{url: 'http://h:1', path_prefix: '{host}', ca_file: /c}]}}\n");
    assert_int_equal(config_print(c, &one), 0);
    _cleanup_(config_freep) struct config *again = load_good(f, one.data);
    assert_string_equal(again->root, "/a \"b\" \\ #c");
    assert_string_equal(again->registries->hosts[0].mirrors[0].path_prefix, "{host}");
    assert_int_equal(config_print(again, &two), 0);
    assert_string_equal(one.data, two.data);
    buf_done(&one);
    buf_done(&two);
}

// Each key has what printing and documenting need, a place of its own in struct config, a valid default.
static void test_table_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_keys_len; i++) {
        const struct config_key *key = &config_keys[i];
        assert_non_null(key->doc);
        assert_true(key->offset < sizeof(struct config));
        assert_ptr_equal(config_key_find(key->path), key);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(config_keys[j].offset, key->offset);
        if (key->type == CONFIG_ENUM)
            assert_non_null(key->names[0]);
        if (key->type == CONFIG_INT || key->type == CONFIG_DURATION)
            assert_true(key->min < key->max);
    }
}

static void test_docs_are_current(void **state)
{
    (void)state;
    _cleanup_free_ char *text = NULL;
    struct buf table;
    buf_init(&table, 1 << 20);
    assert_int_equal(config_print_keys(&table), 0);
    assert_int_equal(file_read(CRISP_SOURCE_DIR "/docs/configuration.md", 1 << 20, &text, NULL, NULL), 0);
    if (!strstr(text, table.data))
        fail_msg("docs/configuration.md differs from config_keys[]; put in what crispd --print-keys prints");
    buf_done(&table);
}

static void test_json(void **state)
{
    _cleanup_(config_freep) struct config *c = load_good(*state, "");
    _cleanup_free_ char *json = config_json(c);
    assert_non_null(strstr(json, "\"log.level\":\"info\""));
    assert_non_null(strstr(json, "\"cni.plugin_timeout\":\"2m\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_systemd_has_slices),
        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_registries),
        cmocka_unit_test(test_too_many_registries),
        cmocka_unit_test(test_directory_overrides),
        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_many_problems_are_bounded),
        cmocka_unit_test(test_damaged_text),
        cmocka_unit_test(test_print_round_trip),
        cmocka_unit_test(test_table_is_complete),
        cmocka_unit_test(test_docs_are_current),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
