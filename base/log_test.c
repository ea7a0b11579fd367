#include "base/log.h"
#include "base/testing.h"
#include "base/error.h"
#include "base/str.h"

#include <fcntl.h>
#include <unistd.h>

static char captured[65536];

// Runs one log call with stderr going to a file, and leaves what was written in `captured`.
#define CAPTURE(call)                                                                                        \
    do {                                                                                                     \
        FILE *f = tmpfile();                                                                                 \
        assert_non_null(f);                                                                                  \
        int saved = dup(STDERR_FILENO);                                                                      \
        assert_true(dup2(fileno(f), STDERR_FILENO) >= 0);                                                    \
        call;                                                                                                \
        assert_true(dup2(saved, STDERR_FILENO) >= 0);                                                        \
        close(saved);                                                                                        \
        rewind(f);                                                                                           \
        size_t got_bytes = fread(captured, 1, sizeof(captured) - 1, f);                                      \
        captured[got_bytes] = '\0';                                                                          \
        fclose(f);                                                                                           \
    } while (0)

static void test_text(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    CAPTURE(log_info("pod ready", "pod", "abc", "ip", NULL, "text", "a \"b\"\n\x01\xff"));
    assert_true(str_has_prefix(captured, "time=20"));
    assert_non_null(strstr(captured, " level=info msg=\"pod ready\" pod=abc ip=\"\" "
                                     "text=\"a \\\"b\\\"\\n\\u0001\xef\xbf\xbd\"\n"));
    CAPTURE(log_debug("quiet"));
    assert_string_equal(captured, "");
    assert_false(log_enabled(LOG_LEVEL_DEBUG));
    errno = ENOTTY;
    CAPTURE(log_error("x"));
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    CAPTURE(log_warn("quiet"));
    assert_string_equal(captured, "");
}

static void test_json(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    CAPTURE(log_debug("m", "k", "v\\\t"));
    assert_true(str_has_prefix(captured, "{\"time\":\"20"));
    assert_true(str_has_suffix(captured, "\"level\":\"debug\",\"msg\":\"m\",\"k\":\"v\\\\\\t\"}\n"));
}

// However long the values: one line, at most 8 KiB, UTF-8, and the JSON closed.
static void test_long(void **state)
{
    static char value[20000];

    (void)state;
    for (size_t shift = 0; shift < 20; shift++) {
        memset(value, '\n', sizeof(value) - 1); // doubles when escaped
        memset(value, 'x', shift);
        for (size_t i = shift; i + 4 < 8000; i += 4)
            memcpy(value + i, "\xf0\x9f\x90\x99", 4);
        log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
        CAPTURE(log_info(value, "k", value, "after", "z"));
        assert_true(strlen(captured) <= 8192);
        assert_true(str_is_utf8(captured));
        assert_true(str_has_suffix(captured, "\"}\n"));
        assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
        log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
        CAPTURE(log_info("m", "k", value, "after", "z"));
        assert_true(strlen(captured) <= 8192 && str_is_utf8(captured));
        assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
    }
}

// Every length around the limit, so that no closing byte runs over the buffer.
static void test_every_length(void **state)
{
    static char value[9000];

    (void)state;
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    for (size_t n = 8000; n < 8250; n++) {
        memset(value, 'y', n);
        value[n] = '\0';
        CAPTURE(log_info("m", "k", value, "tail", value));
        assert_true(strlen(captured) <= 8192);
        assert_true(str_has_suffix(captured, "\"}\n"));
    }
}

static void test_names(void **state)
{
    enum log_level level = LOG_LEVEL_ERROR;
    enum log_format format = LOG_FORMAT_TEXT;

    (void)state;
    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_int_equal(log_level_parse("verbose", &level), -EINVAL);
    assert_int_equal(log_level_parse(NULL, &level), -EINVAL);
    assert_int_equal(log_format_parse("json", &format), 0);
    assert_int_equal(format, LOG_FORMAT_JSON);
    assert_int_equal(log_format_parse("JSON", &format), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),         cmocka_unit_test(test_json),  cmocka_unit_test(test_long),
        cmocka_unit_test(test_every_length), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
