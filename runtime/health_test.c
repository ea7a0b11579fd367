#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/health.h"
#include "runtime/policy.h"

struct configs {
    Cri__PodSandboxConfig pod;
    Cri__ContainerMetadata metadata;
    Cri__ContainerConfig container;
    Cri__ContainerConfig__AnnotationsEntry entry, *entries;
};

static void init(struct configs *c, const char *value)
{
    cri__pod_sandbox_config__init(&c->pod);
    cri__container_config__init(&c->container);
    cri__container_metadata__init(&c->metadata);
    cri__container_config__annotations_entry__init(&c->entry);
    c->container.metadata = &c->metadata;
    c->entries = &c->entry;
    c->container.annotations = &c->entries;
    c->container.n_annotations = 1;
    c->entry.key = (char *)"crisp.run/health";
    c->entry.value = (char *)value;
}

static struct health *make(const char *value)
{
    struct configs c;
    struct health *h = NULL;
    init(&c, value);
    assert_int_equal(health_new(&c.pod, &c.container, &h), 0);
    return h;
}

static void bad_values(void **state)
{
    (void)state;
    static const struct {
        const char *value, *message;
    } cases[] = {
        {"true", "is not a JSON object: "},
        {"[]", "is not a JSON object"},
        {"{\"test\": [\"CMD\", \"a\"]} x", "is not a JSON object: "},
        {"{}", "\"test\" is missing"},
        {"{\"test\": \"true\"}", "\"test\" is not ["},
        {"{\"test\": []}", "\"test\" is not ["},
        {"{\"test\": [\"CMD\"]}", "\"test\" is not ["},
        {"{\"test\": [\"CMD\", \"\"]}", "no program"},
        {"{\"test\": [\"CMD\", \"a\", 7]}", "not a text"},
        {"{\"test\": [\"CMD-SHELL\", \"a\", \"b\"]}", "\"test\" is not ["},
        {"{\"test\": [\"NONE\"], \"every\": \"5s\"}", "\"every\" is not known"},
        {"{\"test\": [\"NONE\"], \"interval\": 5}", "\"interval\" is not a text"},
        {"{\"test\": [\"NONE\"], \"interval\": \"99ms\"}", "\"interval\" is not a text"},
        {"{\"test\": [\"NONE\"], \"timeout\": \"1.5s\"}", "\"timeout\" is not a text"},
        {"{\"test\": [\"NONE\"], \"timeout\": \"25h\"}", "\"timeout\" is not a text"},
        {"{\"test\": [\"NONE\"], \"start_period\": \"\"}", "\"start_period\" is not a text"},
        {"{\"test\": [\"NONE\"], \"retries\": 0}", "\"retries\" is not"},
        {"{\"test\": [\"NONE\"], \"retries\": \"3\"}", "\"retries\" is not"},
        {"{\"test\": [\"NONE\"], \"retries\": 3, \"retries\": 3}", "is not a JSON object"},
    };
    char *all[] = {(char *)"health", NULL};
    const struct policy policy = {.annotations_allowed = all};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct configs c;
        struct error err = ERROR_INIT;
        init(&c, cases[i].value);
        int r = annotations_check_container(&policy, &c.pod, &c.container, &err);
        if (r != -EINVAL || err.status != STATUS_INVALID_ARGUMENT || !strstr(err.message, cases[i].message))
            fail_msg("%s: %d, %s", cases[i].value, r, err.message);
    }
}

static void values_and_defaults(void **state)
{
    (void)state;
    assert_null(make("{\"test\": [\"NONE\"]}"));
    struct health *h = make("{\"test\": [\"CMD\", \"redis-cli\", \"ping\"]}");
    assert_int_equal(h->config->n_test, 2);
    assert_string_equal(h->config->test[1], "ping");
    assert_int_equal(h->config->interval_ns, 30 * NS_PER_SEC);
    assert_int_equal(h->config->timeout_ns, 30 * NS_PER_SEC);
    assert_int_equal(h->config->start_period_ns, 0);
    assert_int_equal(h->config->retries, 3);
    assert_int_equal(h->status, HEALTH_STARTING);
    health_free(h);
    h = make("{\"test\": [\"CMD-SHELL\", \"exit 1\"], \"interval\": \"1m30s\", \"timeout\": \"250ms\","
             " \"start_period\": \"0\", \"start_interval\": \"1s\", \"retries\": 1}");
    assert_int_equal(h->config->n_test, 3);
    assert_string_equal(h->config->test[0], "/bin/sh");
    assert_string_equal(h->config->test[2], "exit 1");
    assert_int_equal(h->config->interval_ns, 90 * NS_PER_SEC);
    assert_int_equal(h->config->timeout_ns, 250 * NS_PER_MS);
    assert_int_equal(h->config->retries, 1);
    health_free(h);
}

static bool result(struct health *h, int code, int64_t at_s)
{
    struct health_result r = {.start_ns = at_s * NS_PER_SEC,
                              .end_ns = at_s * NS_PER_SEC + 1,
                              .exit_code = code,
                              .output = str_printf("%d at %lld", code, (long long)at_s)};
    return health_apply(h, &r, 1000 * NS_PER_SEC);
}

static void states(void **state)
{
    (void)state;
    struct health *h =
        make("{\"test\": [\"CMD\", \"x\"], \"start_period\": \"10s\", \"start_interval\": \"2s\","
             " \"retries\": 2}");
    assert_int_equal(health_delay_ns(h, 1000 * NS_PER_SEC, 1001 * NS_PER_SEC), 2 * NS_PER_SEC);
    for (int i = 1; i < 9; i++) // failures of a start don't count
        assert_false(result(h, 1, 1000 + i));
    assert_int_equal(h->failing_streak, 0);
    assert_int_equal(h->n_log, HEALTH_LOG_MAX);
    assert_string_equal(h->log[0].output, "1 at 1004");
    assert_true(result(h, 0, 1009)); // a success ends it early
    assert_int_equal(h->status, HEALTH_HEALTHY);
    assert_int_equal(health_delay_ns(h, 1000 * NS_PER_SEC, 1009 * NS_PER_SEC), 30 * NS_PER_SEC);
    assert_false(result(h, 1, 1009));
    assert_int_equal(h->failing_streak, 1);
    assert_false(result(h, 0, 1010));
    assert_int_equal(h->failing_streak, 0);
    assert_false(result(h, 1, 1011));
    assert_true(result(h, HEALTH_NO_CODE, 1012));
    assert_int_equal(h->status, HEALTH_UNHEALTHY);
    assert_false(result(h, 1, 1013));
    assert_int_equal(h->failing_streak, 3);
    assert_true(result(h, 0, 1014));
    assert_int_equal(h->status, HEALTH_HEALTHY);
    health_free(h);

    h = make("{\"test\": [\"CMD\", \"x\"], \"retries\": 2}"); // never well: starting until it is ill
    assert_false(result(h, 1, 1001));
    assert_int_equal(h->status, HEALTH_STARTING);
    assert_true(result(h, 1, 1002));
    assert_int_equal(h->status, HEALTH_UNHEALTHY);
    health_free(h);
}

static void the_next_daemon_knows_it_too(void **state)
{
    (void)state;
    static const char config[] = "{\"test\": [\"CMD\", \"x\"], \"retries\": 2}";
    struct health *h = make(config), *next = make(config);
    for (int i = 0; i < 7; i++)
        (void)result(h, 1, 1000 + i);
    char *json = health_json(h);
    assert_non_null(json);
    health_restore(next, json);
    char *again = health_json(next);
    assert_string_equal(again, json);
    assert_int_equal(next->status, HEALTH_UNHEALTHY);
    free(json);
    free(again);
    health_free(next);
    next = make(config);
    health_restore(next, "{\"status\": \"??\", \"failing_streak\": -7, \"log\": {}}");
    health_restore(next, "}");
    assert_int_equal(next->status, HEALTH_STARTING);
    assert_int_equal(next->failing_streak, 0);
    health_free(next);
    health_free(h);
}

static void turns_are_given_away_by_those_that_take_long(void **state)
{
    (void)state;
    struct health_turns t = {0};
    const int64_t start = 5 * NS_PER_SEC;
    for (int i = 0; i < HEALTH_YOUNG; i++)
        assert_true(health_turn_take(&t, start + i));
    assert_false(health_turn_take(&t, start + 100));
    health_turn_give(&t, start + 3);
    assert_true(health_turn_take(&t, start + 200));
    assert_false(health_turn_take(&t, start + 300));
    // None ends: a second later there are as many again, and no more.
    for (int i = 0; i < HEALTH_YOUNG; i++)
        assert_true(health_turn_take(&t, start + 2 * NS_PER_SEC + i));
    assert_false(health_turn_take(&t, start + 2 * NS_PER_SEC + 100));
    health_turn_give(&t, start + 1); // another's by now
    assert_false(health_turn_take(&t, start + 2 * NS_PER_SEC + 200));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_given_away_by_those_that_take_long),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(values_and_defaults),
        cmocka_unit_test(states),
        cmocka_unit_test(the_next_daemon_knows_it_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
