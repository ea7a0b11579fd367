#include "runtime/pod/crilog.h"

#include "base/testing.h"

#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "base/str.h"

struct fixture {
    char dir[256], path[300];
    struct crilog log;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    testing_scratch_make(f->dir);
    (void)snprintf(f->path, sizeof(f->path), "%s/a/b/0.log", f->dir);
    assert_int_equal(crilog_init(&f->log, f->path, NULL), 0);
    assert_int_equal(crilog_open(&f->log, NULL), 0); // with the directories
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    crilog_done(&f->log);
    testing_scratch_remove(f->dir);
    free(f);
    return 0;
}

// The file with each line's time checked and taken off; the caller frees.
static char *lines(const struct fixture *f)
{
    char *text = NULL;

    assert_int_equal(file_read(f->path, 1 << 20, &text, NULL, NULL), 0);
    char *out = text;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_true(end - line > 31 && line[4] == '-' && line[10] == 'T' && line[29] == 'Z' &&
                    line[30] == ' ');
        size_t len = (size_t)(end + 1 - (line + 31));
        memmove(out, line + 31, len);
        out += len;
        line = end + 1;
    }
    *out = '\0';
    return text;
}

static void expect(const struct fixture *f, const char *wanted)
{
    char *got = lines(f);

    assert_string_equal(got, wanted);
    free(got);
}

static void write_text(struct fixture *f, enum crilog_stream s, const char *text)
{
    crilog_write(&f->log, s, text, strlen(text));
}

static void test_lines(void **state)
{
    struct fixture *f = *state;

    write_text(f, CRILOG_STDOUT, "one\ntwo\n\nthr");
    write_text(f, CRILOG_STDERR, "error\n");
    expect(f, "stdout F one\nstdout F two\nstdout F \nstderr F error\n");
    write_text(f, CRILOG_STDOUT, "ee\nlast");
    crilog_end(&f->log, CRILOG_STDOUT);
    crilog_end(&f->log, CRILOG_STDERR);
    expect(f, "stdout F one\nstdout F two\nstdout F \nstderr F error\nstdout F three\nstdout F last\n");
}

// Every way to cut a text into reads gives the same log.
static void test_any_chunks(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "a\nbb\n\nccc\ndddd";

    for (size_t cut = 1; cut < sizeof(text); cut++) {
        assert_int_equal(truncate(f->path, 0), 0);
        for (size_t at = 0; at < sizeof(text) - 1; at += cut) {
            size_t left = sizeof(text) - 1 - at;
            crilog_write(&f->log, CRILOG_STDOUT, text + at, left < cut ? left : cut);
        }
        crilog_end(&f->log, CRILOG_STDOUT);
        expect(f, "stdout F a\nstdout F bb\nstdout F \nstdout F ccc\nstdout F dddd\n");
    }
}

static void test_long_lines(void **state)
{
    struct fixture *f = *state;
    static const size_t lengths[] = {CRILOG_LINE_MAX - 1, CRILOG_LINE_MAX, CRILOG_LINE_MAX + 1,
                                     3 * CRILOG_LINE_MAX + 5};
    static const size_t chunks[] = {1000, 16384, 65536};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (size_t c = 0; c < 3; c++) {
            size_t len = lengths[i];
            char *text = malloc(len + 1);
            memset(text, 'x', len);
            text[len] = '\n';
            assert_int_equal(truncate(f->path, 0), 0);
            for (size_t at = 0; at < len + 1; at += chunks[c])
                crilog_write(&f->log, CRILOG_STDOUT, text + at,
                             len + 1 - at < chunks[c] ? len + 1 - at : chunks[c]);
            free(text);
            char *got = lines(f);
            size_t seen = 0;
            for (char *line = got; *line; line = strchr(line, '\n') + 1) {
                size_t part = strcspn(line, "\n") - strlen("stdout P ");
                seen += part;
                assert_true(part <= CRILOG_LINE_MAX);
                assert_int_equal(line[7], seen == len ? 'F' : 'P');
                assert_true(seen == len || part == CRILOG_LINE_MAX);
            }
            assert_int_equal(seen, len);
            free(got);
        }
    }
}

static void test_many_short_lines(void **state)
{
    struct fixture *f = *state;
    struct buf b, wanted;

    buf_init(&b, 1 << 20);
    buf_init(&wanted, 1 << 20);
    for (int i = 0; i < 2000; i++) {
        (void)buf_printf(&b, "%d\n", i);
        (void)buf_printf(&wanted, "stderr F %d\n", i);
    }
    crilog_write(&f->log, CRILOG_STDERR, b.data, b.len);
    expect(f, wanted.data);
    buf_done(&b);
    buf_done(&wanted);
}

// A file that stops growing within a line: the loss is counted, and the next line begins on one of its own.
static void test_full(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, small = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    write_text(f, CRILOG_STDOUT, "0123456789\n"); // 51 bytes in the file
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    write_text(f, CRILOG_STDOUT, "abcdefghijklmnopqrstuvwxyz\n"); // 67, of which 49 fit
    write_text(f, CRILOG_STDOUT, "gone\n");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(f->log.bytes_lost, 17 + 4);
    write_text(f, CRILOG_STDOUT, "back\n");
    char *got = NULL;
    assert_int_equal(file_read(f->path, 4096, &got, NULL, NULL), 0);
    assert_non_null(strstr(got, "F abcdefghi\n20"));
    assert_true(str_has_suffix(got, " stdout F back\n"));
    free(got);
}

static void test_no_log(void **state)
{
    struct crilog log;

    (void)state;
    assert_int_equal(crilog_init(&log, "", NULL), 0);
    assert_int_equal(crilog_open(&log, NULL), 0);
    crilog_write(&log, CRILOG_STDOUT, "x\ny", 3);
    crilog_end(&log, CRILOG_STDOUT);
    assert_int_equal(log.bytes_lost, 0);
    crilog_done(&log);
    assert_int_equal(crilog_init(&log, "relative", NULL), -EINVAL);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_lines),      LOG_TEST(test_any_chunks),
        LOG_TEST(test_long_lines), LOG_TEST(test_many_short_lines),
        LOG_TEST(test_full),       cmocka_unit_test(test_no_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
