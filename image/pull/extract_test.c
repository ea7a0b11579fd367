#include "image/pull/extract.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define TAR_MAX (1 << 20)

// A tar made by hand: any name, any type, however wrong.
static unsigned char tar[TAR_MAX];
static size_t tar_len;

static char dir[] = "/tmp/crisp-extract-XXXXXX";
static int root_fd = -1;
static char opaque[8][256];
static size_t n_opaque;

static void put_octal(unsigned char *field, size_t size, unsigned long long value)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%0*llo", (int)size - 1, value);
    memcpy(field, text, size);
}

static void add_full(const char *name, char type, const char *link, const char *data, unsigned mode)
{
    unsigned char *h = tar + tar_len;
    size_t len = data ? strlen(data) : 0, sum = 0;

    assert_true(tar_len + 512 + len + 512 <= TAR_MAX);
    memset(h, 0, 512);
    memcpy(h, name, strnlen(name, 100));
    put_octal(h + 100, 8, mode);
    put_octal(h + 108, 8, 0);
    put_octal(h + 116, 8, 0);
    put_octal(h + 124, 12, len);
    put_octal(h + 136, 12, 1700000000);
    memset(h + 148, ' ', 8);
    h[156] = (unsigned char)type;
    if (link)
        memcpy(h + 157, link, strnlen(link, 100));
    memcpy(h + 257, "ustar\00000", 8);
    for (size_t i = 0; i < 512; i++)
        sum += h[i];
    put_octal(h + 148, 7, sum);
    tar_len += 512;
    if (len > 0) {
        memset(tar + tar_len, 0, (len + 511) / 512 * 512);
        memcpy(tar + tar_len, data, len);
        tar_len += (len + 511) / 512 * 512;
    }
}

static void add(const char *name, char type, const char *link_or_data)
{
    bool link = type == '1' || type == '2';

    add_full(name, type, link ? link_or_data : NULL, link ? NULL : link_or_data, type == '5' ? 0755 : 0644);
}

static void add_pax(const char *key, const char *value)
{
    char body[600], record[600];
    int len = (int)(strlen(key) + strlen(value) + 3);

    for (int n = len + 1; n < len + 6; n++) {
        (void)snprintf(record, sizeof(record), "%d %s=%s\n", n, key, value);
        if ((int)strlen(record) == n)
            break;
    }
    (void)snprintf(body, sizeof(body), "%s", record);
    add_full("pax", 'x', NULL, body, 0644);
}

static int remember_opaque(void *data, const char *path, struct error *err)
{
    (void)data;
    (void)err;
    assert_true(n_opaque < ARRAY_SIZE(opaque));
    (void)snprintf(opaque[n_opaque++], sizeof(opaque[0]), "%s", path);
    return 0;
}

static int extract_limited(uint64_t max_entries, struct extract_stats *stats, struct error *err)
{
    _cleanup_fd_ int fd = memfd_create("tar", MFD_CLOEXEC);
    _cleanup_(inflate_freep) struct inflate *in = NULL;
    struct extract_options options = {
        .root_fd = root_fd, .max_entries = max_entries, .opaque = remember_opaque};

    memset(tar + tar_len, 0, 1024);
    assert_int_equal(write(fd, tar, tar_len + 1024), tar_len + 1024);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(inflate_new(fd, TAR_MAX, &in, err), 0);
    return extract_tar(in, &options, stats, err);
}

static struct extract_stats expect_ok(void)
{
    struct extract_stats stats;
    struct error err = ERROR_INIT;

    if (extract_limited(1000, &stats, &err) < 0)
        fail_msg("%s", err.message);
    return stats;
}

static void expect_failure(enum status status, const char *text)
{
    struct extract_stats stats;
    struct error err = ERROR_INIT;

    assert_true(extract_limited(1000, &stats, &err) < 0);
    assert_int_equal(err.status, status);
    if (!strstr(err.message, text))
        fail_msg("\"%s\" says nothing of \"%s\"", err.message, text);
}

static struct stat stat_of(const char *path)
{
    struct stat st;

    if (fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return st;
}

static bool exists(const char *path)
{
    return faccessat(root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int setup(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    if (!mkdtemp(dir))
        return -1;
    char *root = str_printf("%s/root", dir);
    int r = mkdir(root, 0755);
    root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(root);
    tar_len = n_opaque = 0;
    extract_prepare();
    return r < 0 || root_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    fd_closep(&root_fd);
    return file_remove_tree(dir, NULL);
}

static void test_types(void **state)
{
    (void)state;
    add_full("./", '5', NULL, NULL, 0711);
    add_full("d/", '5', NULL, NULL, 01777);
    add_full("d/suid", '0', NULL, "content", 04755);
    add("h", '1', "d/suid");
    add("s", '2', "/absolute/../target");
    add("fifo", '6', NULL);
    struct extract_stats stats = expect_ok();

    assert_int_equal(stats.entries, 6);
    assert_int_equal(stats.inodes, 4);
    assert_int_equal(stat_of(".").st_mode & 07777, 0711);
    assert_int_equal(stat_of("d").st_mode & 07777, 01777);
    assert_int_equal(stat_of("d").st_mtime, 1700000000);
    assert_int_equal(stat_of("d/suid").st_mode & 07777, 04755);
    assert_int_equal(stat_of("h").st_ino, stat_of("d/suid").st_ino);
    assert_true(S_ISLNK(stat_of("s").st_mode));
    assert_true(S_ISFIFO(stat_of("fifo").st_mode));
}

static void test_whiteouts(void **state)
{
    (void)state;
    add("a/.wh.gone", '0', NULL);
    add("a/.wh..wh..opq", '0', NULL);
    add(".wh..wh..opq", '0', NULL);
    add(".wh..wh.aufs", '0', NULL);
    add("b/", '5', NULL);
    add(".wh.b", '0', NULL);
    add(".wh.c", '0', NULL);
    add("c/", '5', NULL);
    add("a/.wh.linked", '1', "a/.wh.gone"); // as AUFS has them
    expect_ok();
    assert_true(S_ISCHR(stat_of("a/linked").st_mode));
    assert_false(exists("a/.wh.linked"));
    struct stat st = stat_of("a/gone");
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(st.st_rdev, 0);
    assert_int_equal(n_opaque, 4);
    assert_string_equal(opaque[0], "a");
    assert_string_equal(opaque[1], "");
    assert_string_equal(opaque[2], "b");
    assert_string_equal(opaque[3], "c");
    assert_false(exists("a/.wh.gone"));
    assert_false(exists(".wh..wh.aufs"));
}

static void test_names(void **state)
{
    static const char *const bad[] = {"..", "../x", "a/../x", "a/b/..", "/../x", "a/.wh...", ".wh.", ".wh.."};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        tar_len = 0;
        add(bad[i], '0', "x");
        expect_failure(STATUS_FAILED_PRECONDITION, "entry");
    }
    tar_len = 0;
    add("/abs//./file", '0', "x");
    add("///", '5', NULL);
    expect_ok();
    assert_true(exists("abs/file"));
    assert_int_equal(stat_of("abs").st_mode & 07777, 0755);
}

static void test_exact_bytes(void **state)
{
    (void)state;
    // Decomposed, composed, and not UTF-8 at all: in PAX headers and outside.
    add_pax("path", "pax-e\xcc\x81");
    add("x", '0', "1");
    add_pax("path", "pax-\xc3\xa9");
    add("x", '0', "2");
    add_pax("path", "pax-\xff\xfe");
    add("x", '0', "3");
    add("raw-e\xcc\x81", '0', "4");
    add("raw-\xff\xfe", '0', "5");
    add_pax("linkpath", "to-e\xcc\x81");
    add("link", '2', "x");
    add_pax("linkpath", "pax-e\xcc\x81");
    add("hard", '1', "x");
    add_pax("linkpath", "pax-\xff\xfe");
    add("hard2", '1', "x");
    expect_ok();
    assert_int_equal(stat_of("hard").st_nlink, 2);
    assert_int_equal(stat_of("hard2").st_nlink, 2);
    assert_true(exists("pax-e\xcc\x81"));
    assert_true(exists("pax-\xc3\xa9"));
    assert_true(exists("pax-\xff\xfe"));
    assert_true(exists("raw-e\xcc\x81"));
    assert_true(exists("raw-\xff\xfe"));
    char target[64] = "";
    assert_true(readlinkat(root_fd, "link", target, sizeof(target) - 1) > 0);
    assert_string_equal(target, "to-e\xcc\x81");
}

static void test_symlink_escapes(void **state)
{
    static const char *const targets[] = {"/tmp", "..", "../../..", "/proc/self/cwd", "/"};
    _cleanup_free_ char *outside = str_printf("%s/victim", dir);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        struct extract_stats stats;

        tar_len = 0;
        add("link", '2', targets[i]);
        add("link/victim", '0', "x");
        (void)extract_limited(10, &stats, NULL); // refused, or contained below the root
        assert_int_equal(access(outside, F_OK), -1);
        assert_int_equal(access("victim", F_OK), -1);
        assert_int_equal(access("/tmp/victim", F_OK), -1);
    }
    tar_len = 0;
    add("hard", '1', "/etc/passwd"); // a lower layer may have it: not made, and told
    _cleanup_free_ char *hard = str_printf("%s/hard", dir);
    struct extract_stats stats;
    assert_int_equal(extract_limited(10, &stats, NULL), 0);
    assert_int_equal(access(hard, F_OK), -1);
    tar_len = 0;
    add("hard", '1', "../victim");
    expect_failure(STATUS_FAILED_PRECONDITION, "hard");
}

static void test_replacements(void **state)
{
    (void)state;
    add("f", '0', "1");
    add("f", '0', "two");
    add("f", '5', NULL);
    add("f/x/y", '0', "1");
    add("f", '2', "g");
    add("g", '0', "target");
    add("f", '0', "again");
    expect_ok();
    assert_int_equal(stat_of("f").st_size, 5);
    assert_int_equal(stat_of("g").st_size, 6);
    tar_len = 0;
    add("s", '0', "1");
    add("s", '1', "./s");
    expect_failure(STATUS_FAILED_PRECONDITION, "itself");
}

static void test_xattrs(void **state)
{
    static const char *const forbidden[] = {"trusted.overlay.opaque", "trusted.overlay.redirect",
                                            "user.overlay.whiteout", "trusted.any"};
    char value[16] = "";

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
        _cleanup_free_ char *key = str_printf("SCHILY.xattr.%s", forbidden[i]);
        tar_len = 0;
        add_pax(key, "y");
        add("f", '0', "x");
        expect_failure(STATUS_FAILED_PRECONDITION, forbidden[i]);
    }
    tar_len = 0;
    add_pax("SCHILY.xattr.security.selinux", "dropped");
    add("g", '0', "x");
    expect_ok();
    _cleanup_fd_ int fd = openat(root_fd, "g", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fgetxattr(fd, "security.selinux", value, sizeof(value)), -1);
}

static void test_damage(void **state)
{
    struct extract_stats stats;
    struct error err = ERROR_INIT;

    (void)state;
    add("f", '0', "x");
    tar[0] ^= 1; // the checksum is wrong now
    expect_failure(STATUS_DATA_LOSS, "tar");
    tar_len = 0;
    for (int i = 0; i < 6; i++)
        add("f", '0', "x");
    assert_true(extract_limited(5, &stats, &err) < 0);
    assert_int_equal(err.status, STATUS_RESOURCE_EXHAUSTED);
    tar_len = 0;
    expect_ok(); // nothing but zeros
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whiteouts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exact_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_symlink_escapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replacements, setup, teardown),
        cmocka_unit_test_setup_teardown(test_xattrs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
