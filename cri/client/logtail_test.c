#include "cri/client/logtail.h"
#include "base/testing.h"
#include "base/buf.h"

static struct buf written[2];

static int collect(void *data, enum logtail_stream stream, const char *text, size_t len)
{
    (void)data;
    return buf_append(&written[stream], text, len);
}

static const char sample[] = "2026-11-22T03:04:05.123456789Z stdout F one\n"
                             "2026-11-22T03:04:05.123456790Z stdout P two-\n"
                             "2026-11-22T03:04:05.123456791Z stderr P oops \n"
                             "2026-11-22T03:04:05.123456792Z stdout F two\n"
                             "2026-11-22T03:04:05+01:00 stderr F  spaces kept \n"
                             "2026-11-22T03:04:05Z stdout F \n"
                             "2026-11-22T03:04:05Z stdout F:tag:other x\n";

// However the file's bytes arrive, the container's come out.
static void test_every_cut(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < sizeof(sample); piece++) {
        struct logtail t;
        struct error err = ERROR_INIT;
        buf_init(&written[0], 4096);
        buf_init(&written[1], 4096);
        logtail_init(&t, collect, NULL);
        for (size_t at = 0; at < sizeof(sample) - 1; at += piece) {
            size_t left = sizeof(sample) - 1 - at;
            assert_int_equal(logtail_feed(&t, sample + at, left < piece ? left : piece, &err), 0);
        }
        assert_string_equal(written[0].data, "one\ntwo-two\n\nx\n");
        assert_string_equal(written[1].data, "oops  spaces kept \n");
        buf_done(&written[0]);
        buf_done(&written[1]);
    }
}

static void test_bad_logs(void **state)
{
    static const char *const bad[] = {"hello world\n",      "2026 stdin F x\n",
                                      "2026 stdout X y\n",  "\n",
                                      "2026 stdout FX y\n", "{\"log\":\"docker json\", \"a\": 1}\n"};

    (void)state;
    buf_init(&written[0], 4096);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct logtail t;
        struct error err = ERROR_INIT;
        logtail_init(&t, collect, NULL);
        assert_int_equal(logtail_feed(&t, bad[i], strlen(bad[i]), &err), -EBADMSG);
    }
    char endless[LOGTAIL_HEAD_MAX + 10];
    struct logtail t;
    memset(endless, 'x', sizeof(endless));
    logtail_init(&t, collect, NULL);
    assert_int_equal(logtail_feed(&t, endless, sizeof(endless), NULL), -EBADMSG);
    buf_done(&written[0]);
}

static int refuse(void *data, enum logtail_stream stream, const char *text, size_t len)
{
    (void)data;
    (void)stream;
    (void)text;
    (void)len;
    return -EPIPE;
}

static void test_write_failure(void **state)
{
    struct logtail t;

    (void)state;
    logtail_init(&t, refuse, NULL);
    assert_int_equal(logtail_feed(&t, sample, sizeof(sample) - 1, NULL), -EPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_bad_logs),
        cmocka_unit_test(test_write_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
