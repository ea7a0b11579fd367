// Statistics of many at once: by several threads, of what runs and what doesn't.
#include "base/testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "runtime/stats.h"
#include "runtime/test_world.h"

#define MANY 200

static const struct ctx none = CTX_NONE;

// All of them the same pod and container, whose files all threads want at once.
static void read_all(struct world *w, struct pod *pod, struct container *c, bool container_runs)
{
    _cleanup_free_ struct stats_item *items = calloc(MANY, sizeof(*items));
    struct stats_batch batch = {.items = items, .n = MANY};
    struct error err = ERROR_INIT;
    assert_non_null(items);
    for (size_t i = 0; i < MANY; i++) {
        items[i].pod = i % 2 ? NULL : pod;
        items[i].container = i % 2 ? c : NULL;
    }
    if (runtime_stats_read(w->rt, &batch, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(items[i].runs, i % 2 == 0 || container_runs);
        if (i % 2 == 0) {
            assert_true(items[i].of_pod.timestamp_ns > 0);
            assert_true(items[i].of_pod.usage.cpu_ns > 0);
        } else if (container_runs) {
            assert_true(items[i].of_container.timestamp_ns > 0);
            assert_true(items[i].of_container.usage.memory_bytes > 0);
        }
    }
    runtime_stats_done(&batch);
}

static void many_are_read_at_once(void **state)
{
    (void)state;
    static struct world w;
    struct error err = ERROR_INIT;
    struct container_view v;
    world_open(&w);
    struct pod *pod = world_pod(&w, "many");
    struct container *c = world_container(&w, pod, "c", "sleep 3600");
    if (runtime_container_start(w.rt, c, &none, &err) < 0)
        fail_msg("%s", err.message);
    read_all(&w, pod, c, true);
    assert_int_equal(runtime_container_stop(w.rt, c, 0, &none, &err), 0);
    world_wait_exit(&w, c, &v);
    read_all(&w, pod, c, false);
    struct stats_batch empty = {.n = 0};
    assert_int_equal(runtime_stats_read(w.rt, &empty, &err), 0);
    runtime_stats_done(&empty);
    container_unref(c);
    world_remove_pod(&w, pod);
    pod_unref(pod);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_are_read_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
