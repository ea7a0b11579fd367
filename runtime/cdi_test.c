#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/cdi.h"

struct fixture {
    struct arena *arena;
    char dir[32], etc[64], var[64];
    struct cdi *cdi;
    struct error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/crisp-cdi-test-XXXXXX");
    f->arena = arena_new(64u << 20);
    if (!f->arena || !mkdtemp(f->dir))
        return -1;
    (void)snprintf(f->etc, sizeof(f->etc), "%s/etc", f->dir);
    (void)snprintf(f->var, sizeof(f->var), "%s/var", f->dir);
    char *dirs[] = {f->etc, f->var, NULL};
    return mkdir(f->etc, 0755) < 0 ? -1 : cdi_open(dirs, &f->cdi, NULL); // var comes later
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cdi_close(f->cdi);
    arena_free(f->arena);
    int r = file_remove_tree(f->dir, NULL);
    free(f);
    return r;
}

static int parse(struct fixture *f, const char *text, bool yaml, struct cdi_spec **out)
{
    f->err = ERROR_INIT;
    return cdi_parse("f", text, strlen(text), yaml, f->arena, out, &f->err);
}

static const char whole_json[] =
    "{\"cdiVersion\": \"1.0.0\", \"kind\": \"vendor.com/class\", \"annotations\": {\"a\": \"b\"},\n"
    " \"containerEdits\": {\"env\": [\"ALL=1\"], \"deviceNodes\": null},\n"
    " \"devices\": [{\"name\": \"0\", \"annotations\": {}, \"containerEdits\": {\n"
    "   \"env\": [\"A=b=c\", \"E=\"], \"additionalGids\": [0, 44],\n"
    "   \"deviceNodes\": [{\"path\": \"/dev/x\", \"hostPath\": \"/dev/null\", \"type\": \"c\", \"major\": "
    "1,\n"
    "      \"minor\": 3, \"fileMode\": 438, \"permissions\": \"rw\", \"uid\": 7, \"gid\": 0}],\n"
    "   \"mounts\": [{\"hostPath\": \"/lib\", \"containerPath\": \"/l\", \"options\": [\"ro\", \"bind\"]}],\n"
    "   \"hooks\": [{\"hookName\": \"createContainer\", \"path\": \"/bin/h\", \"args\": [\"h\", \"x\"],\n"
    "      \"env\": [\"K=v\"], \"timeout\": 5}]}}]}";
static const char whole_yaml[] = "---\n"
                                 "cdiVersion: v1.0.0\n"
                                 "kind: vendor.com/class\n"
                                 "annotations: {a: b}\n"
                                 "containerEdits:\n"
                                 "  env: [ALL=1]\n"
                                 "  deviceNodes:\n"
                                 "devices:\n"
                                 "- name: \"0\"\n"
                                 "  containerEdits:\n"
                                 "    env: [A=b=c, E=]\n"
                                 "    additionalGIDs: [0, 44]\n"
                                 "    deviceNodes:\n"
                                 "    - {path: /dev/x, hostPath: /dev/null, type: c, major: 0x1, minor: 3,\n"
                                 "       fileMode: 0666, permissions: rw, uid: 7, gid: 0}\n"
                                 "    mounts:\n"
                                 "    - hostPath: /lib\n"
                                 "      containerPath: /l\n"
                                 "      options: [ro, bind]\n"
                                 "    hooks:\n"
                                 "    - hookName: createContainer\n"
                                 "      path: /bin/h\n"
                                 "      args: [h, x]\n"
                                 "      env: [K=v]\n"
                                 "      timeout: 5\n";

static void check_whole(const struct cdi_spec *s)
{
    assert_string_equal(s->kind, "vendor.com/class");
    assert_int_equal(s->edits.env.n, 1);
    assert_int_equal(s->devices.n, 1);
    assert_string_equal(s->devices.v[0].name, "0");
    const struct cdi_edits *e = &s->devices.v[0].edits;
    assert_string_equal(e->key, "devices[0].containerEdits");
    assert_int_equal(e->env.n, 2);
    assert_string_equal(e->env.v[0], "A=b=c");
    assert_int_equal(e->gids.n, 2);
    assert_int_equal(e->gids.v[1], 44);
    const struct cdi_node *d = &e->nodes.v[0];
    assert_int_equal(e->nodes.n, 1);
    assert_string_equal(d->path, "/dev/x");
    assert_string_equal(d->host_path, "/dev/null");
    assert_string_equal(d->type, "c");
    assert_true(d->major.value == 1 && d->minor.value == 3 && d->mode.set && d->mode.value == 0666);
    assert_true(d->uid.set && d->uid.value == 7 && d->gid.set && d->gid.value == 0);
    assert_string_equal(d->permissions, "rw");
    const struct cdi_mount *m = &e->mounts.v[0];
    assert_string_equal(m->container_path, "/l");
    assert_string_equal(m->type, "");
    assert_string_equal(m->options.v[1], "bind");
    const struct cdi_hook *h = &e->hooks.v[0];
    assert_int_equal(h->point, CDI_CREATE_CONTAINER);
    assert_true(h->args.n == 2 && h->env.n == 1 && h->timeout_s.value == 5);
}

static void json_and_yaml_say_the_same(void **state)
{
    struct fixture *f = *state;
    struct cdi_spec *spec;
    if (parse(f, whole_json, false, &spec) < 0)
        fail_msg("%s", f->err.message);
    check_whole(spec);
    if (parse(f, whole_yaml, true, &spec) < 0)
        fail_msg("%s", f->err.message);
    check_whole(spec);
    if (parse(f, whole_json, true, &spec) < 0) // JSON is YAML
        fail_msg("%s", f->err.message);
    check_whole(spec);
}

// A spec of that version with one device, in JSON: head is put beside, edits into the device's edits.
static int parse_version(struct fixture *f, const char *version, const char *kind, const char *name,
                         const char *head, const char *edits)
{
    struct cdi_spec *spec;
    _cleanup_free_ char *text =
        str_printf("{\"cdiVersion\": \"%s\", \"kind\": \"%s\", %s\"devices\": [{\"name\": \"%s\", "
                   "\"containerEdits\": {\"env\": [\"A=b\"]%s%s}}]}",
                   version, kind, head, name, edits[0] ? ", " : "", edits);
    return parse(f, text, false, &spec);
}

static void each_version_has_its_rules(void **state)
{
    struct fixture *f = *state;
    static const char *const versions[] = {"0.3.0", "0.4.0", "0.5.0", "0.6.0",
                                           "0.7.0", "0.8.0", "1.0.0", "1.1.0"};
    static const struct {
        const char *kind, *name, *head, *edits;
        size_t since; // in versions
        const char *key;
    } cases[] = {
        {"v.com/c", "d", "", "", 0, ""},
        {"v.com/c", "d", "",
         "\"mounts\": [{\"hostPath\": \"/a\", \"containerPath\": \"/a\", \"type\": \"tmpfs\"}]", 1,
         "devices[0].containerEdits.mounts[0].type: this key needs"},
        {"v.com/c", "d", "", "\"deviceNodes\": [{\"path\": \"/dev/a\", \"hostPath\": \"/dev/b\"}]", 2,
         "devices[0].containerEdits.deviceNodes[0].hostPath: this key needs"},
        {"v.com/c", "0", "", "", 2, "devices[0]: a name that begins with a digit needs"},
        {"v.com/c.d", "d", "", "", 3, "kind: a class with a dot in it needs"},
        {"v.com/c", "d", "\"annotations\": {\"a\": \"b\"}, ", "", 3, "annotations: this key needs"},
        {"v.com/c", "d", "\"annotations\": {}, ", "", 0, ""},
        {"v.com/c", "d", "", "\"additionalGids\": [5]", 4, "devices[0].containerEdits.additionalGids: "},
        {"v.com/c", "d", "\"containerEdits\": {\"intelRdt\": {\"closID\": \"x\"}}, ", "", 4,
         "containerEdits.intelRdt: this key needs"},
        {"v.com/c", "d", "", "\"netDevices\": [{\"hostInterfaceName\": \"a\", \"name\": \"b\"}]", 7,
         "devices[0].containerEdits.netDevices: this key needs"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
            int r =
                parse_version(f, versions[v], cases[i].kind, cases[i].name, cases[i].head, cases[i].edits);
            if ((r == 0) != (v >= cases[i].since))
                fail_msg("case %zu with %s: %s", i, versions[v], f->err.message);
            _cleanup_free_ char *text =
                str_printf("f: %s%s cdiVersion %s, and this file says %s", cases[i].key,
                           str_has_suffix(cases[i].key, "needs") ? "" : "this key needs",
                           versions[cases[i].since], versions[v]);
            if (r < 0)
                assert_string_equal(f->err.message, text);
        }
    }
    static const char *const unknown[] = {"0.2.0", "0.1.0", "1.2.0", "1.0", "", "x"};
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        assert_true(parse_version(f, unknown[i], "v.com/c", "d", "", "") < 0);
        assert_true(str_has_prefix(f->err.message, "f: cdiVersion: \""));
        assert_non_null(strstr(f->err.message, "known: 0.3.0 to 1.1.0"));
    }
}

#define NODE(text)  "\"deviceNodes\": [{\"path\": \"/dev/a\", " text "}]"
#define MOUNT(text) "\"mounts\": [{\"hostPath\": \"/a\"" text "}]"
#define HOOK(text)  "\"hooks\": [{" text "}]"

static void mistakes_name_their_key(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *edits, *want;
    } cases[] = {
        {"\"nosuch\": 1", "nosuch: unknown key"},
        {"\"env\": [\"A\"]", "not valid JSON"}, // given twice
        {"\"deviceNodes\": {}, \"mounts\": {\"a\": 1}", "mounts: has to be a list"},
        {"\"deviceNodes\": [1]", "deviceNodes[0]: has to be a map of keys"},
        {"\"deviceNodes\": [{}]", "deviceNodes[0]: path: is missing or empty"},
        {"\"deviceNodes\": [{\"path\": 1}]", "deviceNodes[0].path: has to be a text"},
        {"\"deviceNodes\": [{\"path\": \"dev/x\"}]",
         "deviceNodes[0]: path: \"dev/x\" is not an absolute path"},
        {"\"deviceNodes\": [{\"path\": \"/dev/../x\"}]", "deviceNodes[0]: path: \"/dev/../x\" is not"},
        {NODE("\"hostPath\": \"x\""), "deviceNodes[0]: hostPath: \"x\" is not an absolute path"},
        {NODE("\"type\": \"x\""), "deviceNodes[0]: type: \"x\" is not allowed; allowed: b, c, u or p"},
        {NODE("\"permissions\": \"rx\""), "deviceNodes[0]: permissions: \"rx\" is not made of r, w and m"},
        {NODE("\"major\": -1"), "deviceNodes[0].major: has to be a whole number from 0 to 4095"},
        {NODE("\"minor\": 1.5"), "deviceNodes[0].minor: has to be a whole number"},
        {NODE("\"fileMode\": \"0666\""), "deviceNodes[0].fileMode: has to be a whole number from 0 to 4095"},
        {NODE("\"fileMode\": 4096"), "deviceNodes[0].fileMode: has to be a whole number from 0 to 4095"},
        {NODE("\"uid\": 4294967295"), "deviceNodes[0].uid: has to be a whole number"},
        {MOUNT(""), "mounts[0]: containerPath: is missing or empty"},
        {MOUNT(", \"containerPath\": \"a\""), "mounts[0]: containerPath: \"a\" is not an absolute path"},
        {MOUNT(", \"containerPath\": \"//.\""), "mounts[0]: containerPath: \"//.\" would cover"},
        {MOUNT(", \"containerPath\": \"/a\", \"options\": \"ro\""), "mounts[0].options: has to be a list"},
        {HOOK("\"hookName\": \"x\", \"path\": \"/x\""), "hooks[0]: hookName: \"x\" is no hook"},
        {HOOK("\"hookName\": \"poststop\""), "hooks[0]: path: is missing"},
        {HOOK("\"hookName\": \"poststop\", \"path\": \"x\""),
         "hooks[0]: path: \"x\" is not an absolute path"},
        {HOOK("\"hookName\": \"poststop\", \"path\": \"/x\", \"timeout\": 0"),
         "hooks[0].timeout: has to be a whole number from 1"},
        {HOOK("\"hookName\": \"poststop\", \"path\": \"/x\", \"env\": [\"A\"]"),
         "hooks[0]: env[0]: \"A\" is not"},
        {"\"additionalGids\": [-1]", "additionalGids[0]: has to be a whole number"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(parse_version(f, "1.1.0", "v.com/c", "d", "", cases[i].edits) < 0);
        assert_int_equal(f->err.status, STATUS_INVALID_ARGUMENT);
        _cleanup_free_ char *want = str_printf("f: devices[0].containerEdits.%s", cases[i].want);
        if (!str_has_prefix(f->err.message, want) && !strstr(f->err.message, "f:1: not valid JSON"))
            fail_msg("case %zu: %s", i, f->err.message);
    }
}

static void mistakes_in_the_frame(void **state)
{
    struct fixture *f = *state;
    struct cdi_spec *spec;
    static const struct {
        bool yaml;
        const char *text, *want;
    } cases[] = {
        {false, "", "f:1: not valid JSON: "},
        {false, "[]", "f: has to be a map of keys"},
        {false, "{}", "f: cdiVersion: is missing"},
        {false, "{\"cdiVersion\": \"1.0.0\"}", "f: kind: is missing or empty"},
        {false, "{\"cdiVersion\": \"1.0.0\", \"kind\": \"v/c\", \"devices\": []}",
         "f: devices: is missing or empty"},
        {false, "{\"cdiVersion\": \"1.0.0\", \"kind\": \"c\", \"devices\": [{\"name\": \"a\"}]}",
         "f: devices[0]: containerEdits: is missing or empty"},
        {true, "", "f: is empty"},
        {true, "a: [", "f:2: not valid YAML: "},
        {true, "a: 1\na: 2\n", "f:2: a: is given twice"},
        {true, "a: 1\n---\nb: 2\n", "f:3: a second document"},
        {true, "[a]: 1\n", "f:1: a key has to be a text"},
        {true, "cdiVersion: 1\n", "f: cdiVersion: is missing or not a text"},
        {true, "cdiVersion: 1.0.0\nkind: c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n",
         "f: kind: \"c\" is not of the form vendor.com/class"},
        {true, "cdiVersion: 1.0.0\nkind: v/c\ndevices: [{name: a-, containerEdits: {env: [A=b]}}]\n",
         "f: devices[0]: name: \"a-\" is not made of"},
        {true, "cdiVersion: 1.0.0\nkind: v/c\ndevices:\n- &d {name: a, containerEdits: {env: [A=b]}}\n- *d\n",
         "f: devices[1].name: \"a\" is that of devices[0] too"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(parse(f, cases[i].text, cases[i].yaml, &spec) < 0);
        if (!str_has_prefix(f->err.message, cases[i].want))
            fail_msg("case %zu: %s", i, f->err.message);
    }
    // Twenty lines that stand for a million values, and one that contains itself.
    struct buf bomb;
    buf_init(&bomb, 4096);
    assert_int_equal(buf_append_str(&bomb, "a0: &a0 [x]\n"), 0);
    for (int i = 1; i <= 20; i++)
        assert_int_equal(buf_printf(&bomb, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1), 0);
    assert_true(parse(f, bomb.data, true, &spec) < 0);
    buf_done(&bomb);
    assert_non_null(strstr(f->err.message, "is nested too deeply, or too large"));
    assert_true(parse(f, "a: &a [*a]\n", true, &spec) < 0);
}

static void names(void **state)
{
    (void)state;
    static const char *const good[] = {"vendor.com/class=device", "v/c=0", "V-1.x/c_d.e=GPU-0:1.2"};
    static const char *const wrong[] = {"",       "a",       "/dev/x",  "v=c",    "v/c",
                                        "v/c=",   "/c=d",    "v/=d",    "1v/c=d", "v/c=-d",
                                        "v/c=d-", "v/c/e=d", "v/c=d e", "v./c=d", "v/c=d=e"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(cdi_name_valid(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        if (cdi_name_valid(wrong[i]))
            fail_msg("%s", wrong[i]);
}

// ---- Directories ----

static void put(const char *dir, const char *name, const char *text)
{
    _cleanup_free_ char *path = str_printf("%s/%s", dir, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, false, NULL), 0);
}

static void put_spec(const char *dir, const char *name, const char *device, const char *env)
{
    _cleanup_free_ char *text = str_printf(
        "cdiVersion: 0.5.0\nkind: v.com/c\ncontainerEdits: {env: [FILE=%s]}\n"
        "devices:\n- {name: %s, containerEdits: {env: [%s]}}\n- {name: other, containerEdits: {env: [O=]}}\n",
        name, device, env);
    put(dir, name, text);
}

static int resolve(struct fixture *f, struct cdi_set *set, size_t n, char *const *names_)
{
    f->err = ERROR_INIT;
    return cdi_resolve(f->cdi, names_, n, f->arena, set, &f->err);
}

static void empty(struct fixture *f)
{
    (void)file_remove_tree(f->var, NULL);
    assert_int_equal(file_remove_tree(f->etc, NULL), 0);
    assert_int_equal(mkdir(f->etc, 0755), 0);
}

static void edits_come_in_order_and_once(void **state)
{
    struct fixture *f = *state;
    struct cdi_set set;
    char *wanted[] = {"v.com/c=b", "v.com/c=a", "v.com/c=b"};
    empty(f);
    put(f->etc, "x.json",
        "{\"cdiVersion\": \"0.3.0\", \"kind\": \"v.com/c\", \"containerEdits\": {\"env\": [\"X=\"]}, "
        "\"devices\": ["
        "{\"name\": \"a\", \"containerEdits\": {\"env\": [\"A=\"]}},"
        "{\"name\": \"b\", \"containerEdits\": {\"env\": [\"B=\"]}}]}");
    assert_int_equal(resolve(f, &set, 3, wanted), 0);
    assert_int_equal(set.n, 3);
    assert_string_equal(set.v[0].edits->env.v[0], "X=");
    assert_string_equal(set.v[1].edits->env.v[0], "B=");
    assert_string_equal(set.v[2].edits->env.v[0], "A=");
    assert_string_equal(set.v[2].device, "v.com/c=a");
    assert_true(str_has_suffix(set.v[2].file, "/etc/x.json"));
    cdi_set_done(&set);
}

static void later_directories_win_and_changes_are_seen(void **state)
{
    struct fixture *f = *state;
    struct cdi_set set;
    char *wanted[] = {"v.com/c=a"};
    empty(f);
    assert_true(resolve(f, &set, 1, wanted) < 0);
    assert_int_equal(f->err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(f->err.message, "CDI device \"v.com/c=a\": no specification in "));
    put_spec(f->etc, "x.yaml", "a", "FROM=etc");
    assert_int_equal(resolve(f, &set, 1, wanted), 0);
    assert_string_equal(set.v[1].edits->env.v[0], "FROM=etc");
    struct cdi_set old = set; // stays whole whatever changes
    assert_int_equal(mkdir(f->var, 0755), 0);
    put_spec(f->var, "y.yaml", "a", "FROM=var");
    assert_int_equal(resolve(f, &set, 1, wanted), 0);
    assert_string_equal(set.v[1].edits->env.v[0], "FROM=var");
    cdi_set_done(&set);
    put_spec(f->var, "y.yaml", "a", "FROM=new"); // the same size, the same clock tick
    assert_int_equal(resolve(f, &set, 1, wanted), 0);
    assert_string_equal(set.v[1].edits->env.v[0], "FROM=new");
    cdi_set_done(&set);
    assert_string_equal(old.v[1].edits->env.v[0], "FROM=etc");
    cdi_set_done(&old);
    assert_int_equal(file_remove_tree(f->var, NULL), 0);
    assert_int_equal(resolve(f, &set, 1, wanted), 0);
    assert_string_equal(set.v[1].edits->env.v[0], "FROM=etc");
    cdi_set_done(&set);
}

static void settled_files_are_not_read_again(void **state)
{
    struct fixture *f = *state;
    struct cdi_set first, second;
    char *wanted[] = {"v.com/c=a"};
    empty(f);
    put_spec(f->etc, "x.yaml", "a", "A=");
    (void)usleep(1100000); // younger ones may change within a tick of the file system's clock
    assert_int_equal(resolve(f, &first, 1, wanted), 0);
    assert_int_equal(resolve(f, &second, 1, wanted), 0);
    assert_ptr_equal(first.snapshot, second.snapshot);
    cdi_set_done(&second);
    put_spec(f->etc, "x.yaml", "a", "B=");
    assert_int_equal(resolve(f, &second, 1, wanted), 0);
    assert_ptr_not_equal(first.snapshot, second.snapshot);
    assert_string_equal(second.v[1].edits->env.v[0], "B=");
    cdi_set_done(&second);
    cdi_set_done(&first);
}

static void wrong_files_take_nobody_along(void **state)
{
    struct fixture *f = *state;
    struct cdi_set set;
    char *wanted[] = {"v.com/c=a"}, *twice[] = {"v.com/c=other"}, *rdt[] = {"v.com/r=a"};
    _cleanup_free_ char *fifo = str_printf("%s/pipe.json", f->etc);
    empty(f);
    put_spec(f->etc, "x.yaml", "a", "A=");
    put_spec(f->etc, "y.yaml", "b", "B=");
    put(f->etc, "bad.json", "{\"cdiVersion\": \"1.0.0\", \"kind\": \"v.com/c\", \"devices\": [7]}");
    put(f->etc, "ignored.txt", "nothing");
    put(f->etc, "rdt.yaml",
        "cdiVersion: 0.7.0\nkind: v.com/r\ndevices: [{name: a, containerEdits: {intelRdt: {closID: x}}}]\n");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(resolve(f, &set, 1, wanted), 0);
    cdi_set_done(&set);
    assert_true(resolve(f, &set, 1, twice) < 0);
    assert_int_equal(f->err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(f->err.message, "/etc/x.yaml and "));
    assert_non_null(strstr(f->err.message, "/etc/y.yaml have it"));
    assert_true(resolve(f, &set, 1, rdt) < 0);
    assert_int_equal(f->err.status, STATUS_UNIMPLEMENTED);
    assert_non_null(
        strstr(f->err.message, "/etc/rdt.yaml: devices[0].containerEdits.intelRdt: is not supported"));
    _cleanup_free_ char *text = cdi_describe(f->cdi);
    assert_non_null(strstr(text, "/etc/bad.json: devices[0]: has to be a map of keys"));
    assert_non_null(strstr(text, "/etc/pipe.json: is no regular file"));
    assert_non_null(strstr(text, "\"v.com/c=a\""));
    assert_null(strstr(text, "\"v.com/c=other\"")); // of which there are two
    assert_null(strstr(text, "ignored.txt"));
    // A device that isn't there may be in the file that is wrong.
    char *absent[] = {"v.com/c=z"};
    assert_true(resolve(f, &set, 1, absent) < 0);
    assert_non_null(strstr(f->err.message, "one is wrong: "));
    assert_non_null(strstr(f->err.message, "/etc/bad.json: devices[0]: "));
}

struct reader_thread {
    struct cdi *cdi;
    pthread_t thread;
    unsigned bad; // answers that are neither the old nor the new file's
};

static void *resolve_often(void *arg)
{
    struct reader_thread *t = arg;
    char *wanted[] = {"v.com/c=a"};
    for (int i = 0; i < 100; i++) {
        struct arena *arena = arena_new(1u << 20);
        struct cdi_set set;
        if (cdi_resolve(t->cdi, wanted, 1, arena, &set, NULL) == 0) {
            const char *env = set.v[1].edits->env.v[0];
            t->bad += !str_eq(env, "A=1") && !str_eq(env, "A=22");
            cdi_set_done(&set);
        } else {
            t->bad++;
        }
        arena_free(arena);
    }
    return NULL;
}

static void many_read_while_files_change(void **state)
{
    struct fixture *f = *state;
    struct reader_thread threads[4];
    empty(f);
    put_spec(f->etc, "x.yaml", "a", "A=1");
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = (struct reader_thread){.cdi = f->cdi};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, resolve_often, &threads[i]), 0);
    }
    for (int i = 0; i < 50; i++)
        put_spec(f->etc, "x.yaml", "a", i % 2 ? "A=1" : "A=22"); // by rename: never half a file
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_join(threads[i].thread, NULL), 0);
        assert_int_equal(threads[i].bad, 0);
    }
}

static void requests_are_listed(void **state)
{
    struct fixture *f = *state;
    Cri__ContainerConfig config = CRI__CONTAINER_CONFIG__INIT;
    Cri__CDIDevice device = CRI__CDIDEVICE__INIT;
    Cri__CDIDevice *devices[] = {&device};
    Cri__ContainerConfig__AnnotationsEntry a[2];
    Cri__ContainerConfig__AnnotationsEntry *annotations[] = {&a[0], &a[1]};
    char **list;
    size_t n;
    for (size_t i = 0; i < 2; i++)
        cri__container_config__annotations_entry__init(&a[i]);
    a[0].key = "other";
    a[0].value = "x,y";
    a[1].key = "cdi.k8s.io/vendor_plugin";
    a[1].value = "v/c=one,v/c=two";
    config.annotations = annotations;
    config.n_annotations = 1;
    assert_false(cdi_is_requested(&config));
    config.n_annotations = 2;
    assert_true(cdi_is_requested(&config));
    device.name = "v/c=zero";
    config.cdi_devices = devices;
    config.n_cdi_devices = 1;
    assert_int_equal(cdi_check_requests(&config, &f->err), 0);
    assert_int_equal(cdi_list_requests(&config, f->arena, &list, &n, &f->err), 0);
    assert_int_equal(n, 3);
    assert_string_equal(list[0], "v/c=zero");
    assert_string_equal(list[2], "v/c=two");
    a[1].value = "v/c=one,";
    assert_true(cdi_check_requests(&config, &f->err) < 0);
    assert_string_equal(f->err.message,
                        "annotations[\"cdi.k8s.io/vendor_plugin\"]: \"\" is not the name of a CDI "
                        "device (vendor.com/class=name)");
    device.name = "zero";
    assert_true(cdi_check_requests(&config, &f->err) < 0);
    assert_true(str_has_prefix(f->err.message, "CDI_devices[0].name: \"zero\" is not the name"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_and_yaml_say_the_same),
        cmocka_unit_test(each_version_has_its_rules),
        cmocka_unit_test(mistakes_name_their_key),
        cmocka_unit_test(mistakes_in_the_frame),
        cmocka_unit_test(names),
        cmocka_unit_test(edits_come_in_order_and_once),
        cmocka_unit_test(later_directories_win_and_changes_are_seen),
        cmocka_unit_test(settled_files_are_not_read_again),
        cmocka_unit_test(wrong_files_take_nobody_along),
        cmocka_unit_test(many_read_while_files_change),
        cmocka_unit_test(requests_are_listed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
