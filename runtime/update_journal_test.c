// Updates of resources that the daemon's end cuts short: what a crash leaves is made by hand, and a restart
// finds it.
#include "base/testing.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/resources.h"
#include "runtime/test_world.h"
#include "runtime/update_journal.h"

#define MIB (INT64_C(1) << 20)

static const struct ctx none = CTX_NONE;

struct scene {
    struct world w;
    char pod_id[RUNTIME_ID_LEN + 1], id[RUNTIME_ID_LEN + 1];
    struct pod *pod;
    struct container *c;
};

static void find(struct scene *s)
{
    assert_int_equal(runtime_pod_find(s->w.rt, s->pod_id, &s->pod, NULL), 0);
    assert_int_equal(runtime_container_find(s->w.rt, s->id, &s->c, NULL), 0);
}

static void restart(struct scene *s)
{
    container_unref(s->c);
    pod_unref(s->pod);
    world_restart(&s->w);
    find(s);
}

static int64_t memory_limit(struct scene *s, const char *cgroup)
{
    struct arena *arena = arena_new(1 << 20);
    Cri__LinuxContainerResources *now;
    assert_non_null(arena);
    assert_int_equal(cgroup_read_resources(s->w.rt->cgroups, cgroup, NULL, arena, &now, NULL), 0);
    int64_t limit = now->memory_limit_in_bytes;
    arena_free(arena);
    return limit;
}

static bool journal_is_there(struct scene *s, const char *name)
{
    char *path = str_printf("%s/updates/%s", s->pod->dir, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

// As an update goes, up to the point where the record would be written. record: that one.
static void half_an_update(struct scene *s, const char *name, const char *cgroup, int64_t limit,
                           const Cri__LinuxContainerResources *record)
{
    struct error err = ERROR_INIT;
    Cri__LinuxContainerResources change = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    change.memory_limit_in_bytes = limit;
    struct update_journal journal = {.pod = s->pod, .name = name, .record = {&record->base}};
    const struct cgroup_update_more more = {.journal = update_journal_save, .arg = &journal};
    if (cgroup_update_with(s->w.rt->cgroups, cgroup, &change, &more, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(memory_limit(s, cgroup), limit);
    assert_true(journal_is_there(s, name));
}

static void of_a_container(struct scene *s)
{
    struct error err = ERROR_INIT;
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    r.memory_limit_in_bytes = 64 * MIB;
    if (runtime_container_update(s->w.rt, s->c, &r, &none, &err) < 0)
        fail_msg("%s", err.message);
    assert_false(journal_is_there(s, s->id)); // it was whole
    restart(s);
    assert_int_equal(memory_limit(s, s->c->cgroup), 64 * MIB);

    // Before the record is written: not at all.
    r.memory_limit_in_bytes = 128 * MIB;
    half_an_update(s, s->id, s->c->cgroup, 128 * MIB, &r);
    restart(s);
    assert_int_equal(memory_limit(s, s->c->cgroup), 64 * MIB);
    assert_false(journal_is_there(s, s->id));

    // After it: wholly.
    r.memory_limit_in_bytes = 64 * MIB; // what is recorded
    half_an_update(s, s->id, s->c->cgroup, 256 * MIB, &r);
    restart(s);
    assert_int_equal(memory_limit(s, s->c->cgroup), 256 * MIB);
    assert_false(journal_is_there(s, s->id));
}

static void of_a_pod(struct scene *s)
{
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    int64_t before = memory_limit(s, s->pod->private->cgroup);
    r.memory_limit_in_bytes = 512 * MIB;
    half_an_update(s, UPDATE_JOURNAL_POD, s->pod->private->cgroup, 512 * MIB, &r);
    restart(s);
    assert_int_equal(memory_limit(s, s->pod->private->cgroup), before);
    assert_false(journal_is_there(s, UPDATE_JOURNAL_POD));
}

// Whatever is in the file, the daemon starts, and once only tries to make something of it.
static void of_nonsense(struct scene *s)
{
    static const char *const texts[] = {
        "",
        "\n",
        "no record",
        "=\n{}",
        "x\n[]",
        "x\n{\"cgroup\": \"/../..\", \"files\": []}",
        "x\n{\"cgroup\": \"/a\", \"files\": [[\"/nowhere\", \"memory.max\", \"1\"]]}",
        "x\n{\"cgroup\": \"/a\", \"files\": [[1, 2, 3]]}",
        "x\n{\"cgroup\": \"/a\", \"files\": 7}"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        char *path = str_printf("%s/updates/%s", s->pod->dir, s->id);
        assert_int_equal(file_write_atomic(path, texts[i], strlen(texts[i]), 0600, false, NULL), 0);
        free(path);
        restart(s);
        assert_false(journal_is_there(s, s->id));
        assert_int_equal(memory_limit(s, s->c->cgroup), 256 * MIB);
    }
}

static void updates_are_whole_or_not_at_all(void **state)
{
    (void)state;
    static struct scene s;
    world_open(&s.w);
    struct pod *pod = world_pod(&s.w, "updated");
    struct container *c = world_container(&s.w, pod, "c", "sleep 3600");
    (void)snprintf(s.pod_id, sizeof(s.pod_id), "%s", pod->id);
    (void)snprintf(s.id, sizeof(s.id), "%s", c->id);
    container_unref(c);
    pod_unref(pod);
    find(&s);
    if (cgroup_host_has(s.w.rt->cgroups, "memory")) {
        of_a_container(&s);
        of_a_pod(&s);
        of_nonsense(&s);
    }
    container_unref(s.c);
    world_remove_pod(&s.w, s.pod);
    pod_unref(s.pod);
    world_close(&s.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(updates_are_whole_or_not_at_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
