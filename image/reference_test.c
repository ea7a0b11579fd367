#include "image/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_good(void **state)
{
    static const struct {
        const char *text, *normal;
    } cases[] = {
        {"busybox", "docker.io/library/busybox:latest"},
        {"busybox:1.36", "docker.io/library/busybox:1.36"},
        {"library/busybox", "docker.io/library/busybox:latest"},
        {"docker.io/busybox", "docker.io/library/busybox:latest"},
        {"index.docker.io/busybox", "docker.io/library/busybox:latest"},
        {"index.docker.io/a/b", "docker.io/a/b:latest"},
        {"user/app", "docker.io/user/app:latest"},
        {"localhost/app", "localhost/app:latest"},
        {"localhost:5000/app:v1", "localhost:5000/app:v1"},
        {"127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"},
        {"[::1]:5000/a", "[::1]:5000/a:latest"},
        {"Registry/app", "Registry/app:latest"},
        {"registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"},
        {"registry.k8s.io/e2e-test-images/busybox:1.29-2", "registry.k8s.io/e2e-test-images/busybox:1.29-2"},
        {"a.b/c__d/e_f/g--h/i.j", "a.b/c__d/e_f/g--h/i.j:latest"},
        {"x:_tag", "docker.io/library/x:_tag"},
        {"x@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64},
        {"r.io/x:tag@sha256:" HEX64, "r.io/x@sha256:" HEX64},
        {"r.io/" HEX64, "r.io/" HEX64 ":latest"},
        {"r.io:443/x", "r.io:443/x:latest"},
        {"docker.io/" HEX64, "docker.io/library/" HEX64 ":latest"},
        {HEX64 ":v1", "docker.io/library/" HEX64 ":v1"},
        {"localhost", "docker.io/library/localhost:latest"},
        {"localhost:5000", "docker.io/library/localhost:5000"},
        {"LOCALHOST/x", "LOCALHOST/x:latest"},
        {"index.docker.io/library/x", "docker.io/library/x:latest"},
        {"registry-1.docker.io/a", "docker.io/library/a:latest"},
        {"Registry-1.docker.io:443/a/b", "docker.io/a/b:latest"},
        {"INDEX.docker.io/a", "docker.io/library/a:latest"},
        {"Docker.io/a", "docker.io/library/a:latest"},
        {"registry-2.docker.io/a", "registry-2.docker.io/a:latest"},
        {"a/b/c/d", "docker.io/a/b/c/d:latest"},
        {"[fd00:1::2]/x:1", "[fd00:1::2]/x:1"},
        {"[FD00::1]:8080/x/y@sha256:" HEX64, "[FD00::1]:8080/x/y@sha256:" HEX64},
        {"x:V1.0-Rc_2", "docker.io/library/x:V1.0-Rc_2"},
        {"r.io/a---b", "r.io/a---b:latest"},
        {"1.2.3.4/x", "1.2.3.4/x:latest"},
        {"x:tag@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64},
        {"localhost:5000/x:1@sha256:" HEX64, "localhost:5000/x@sha256:" HEX64},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct reference ref;
        struct error err = ERROR_INIT;

        if (reference_parse(cases[i].text, &ref, &err) < 0)
            fail_msg("%s: %s", cases[i].text, err.message);
        _cleanup_free_ char *normal = reference_format(&ref);
        assert_string_equal(normal, cases[i].normal);
        reference_done(&ref);

        // What was normalised stays as it is.
        assert_int_equal(reference_parse(normal, &ref, &err), 0);
        _cleanup_free_ char *again = reference_format(&ref);
        assert_string_equal(again, normal);
        reference_done(&ref);
    }
}

static void test_bad(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "Busybox",
        "busy box",
        "busybox:",
        "busybox:-x",
        "busybox:a/b",
        "busybox@",
        "busybox@sha256:abc",
        "busybox@md5:d41d8cd98f00b204e9800998ecf8427e",
        "busybox@sha256:" HEX64 "0",
        "busybox@sha256:ABCDEF6789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "busybox@sha256:" HEX64 "@sha256:" HEX64,
        "/busybox",
        "busybox/",
        "a//b",
        "r.io/",
        "r.io//x",
        "r.io:/x",
        "r.io:0/x",
        "r.io:99999/x",
        "r.io:0443/x",
        "127.0.0.1:05000/x",
        "[::1]:05000/x",
        "010.0.0.1/x",
        "10.1/x",
        "10.0.0.0x1:80/x",
        "167772161:80/x",
        "[::ffff:7f00:1]/x",
        "[1:2]/x",
        "r.io:port/x",
        "-r.io/x",
        "r-.io/x",
        "r..io/x",
        ".io/x",
        "r.io/../x",
        "r.io/./x",
        "r.io/_x",
        "r.io/x_",
        "r.io/x___y",
        "r.io/x..y",
        "r.io/X",
        "r.io/x?y",
        "r.io/x%2fy",
        "r.io/x\ny",
        "http://r.io/x",
        "[::1/x",
        "[]:5/x",
        "\xff\xfe",
        HEX64,
        "user@host/x",
        "r.io/Upper/x",
        "r.io/x/UPPER:tag",
        "Busybox:latest",
        "r.io/x:tag:tag",
        "r.io/x@sha256:" HEX64 ":tag",
        "r.io/x:@sha256:" HEX64,
        "r.io/x@sha512:" HEX64 HEX64,
        "[::1]",
        "[::1]:5000",
        "[fe80::1%eth0]:5000/x",
        "[::1]5000/x",
        "r_x.io/x",
        "r.io./x",
        "r.io/x.",
        "r.io/x-",
        "r.io/a___b",
        "r.io/.x",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct reference ref;
        struct error err = ERROR_INIT;

        if (reference_parse(cases[i], &ref, &err) == 0)
            fail_msg("accepted \"%s\"", cases[i]);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
        assert_true(strlen(err.message) > 0);
        assert_null(ref.path);
    }
}

static void test_long(void **state)
{
    char text[1024];
    struct reference ref;
    struct error err = ERROR_INIT;

    (void)state;
    memset(text, 'a', sizeof(text));
    text[255 - strlen("library/")] = '\0';
    assert_int_equal(reference_parse(text, &ref, &err), 0);
    reference_done(&ref);
    memset(text, 'a', sizeof(text));
    text[256 - strlen("library/")] = '\0';
    assert_int_equal(reference_parse(text, &ref, &err), -EINVAL);
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(reference_parse(text, &ref, &err), -EINVAL);

    // A tag has 128 characters at most.
    memset(text, 'a', sizeof(text));
    text[1] = ':';
    text[2 + 128] = '\0';
    assert_int_equal(reference_parse(text, &ref, &err), 0);
    reference_done(&ref);
    text[2 + 128] = 'a';
    text[2 + 129] = '\0';
    assert_int_equal(reference_parse(text, &ref, &err), -EINVAL);
    assert_int_equal(reference_parse(NULL, &ref, &err), -EINVAL);
}

static void test_same_host(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"r.io", "r.io", true},
        {"r.io", "R.IO:443", true},
        {"r.io:5000", "R.io:5000", true},
        {"r.io", "r.io:444", false},
        {"r.io", "r.io.evil", false},
        {"docker.io", "registry-1.docker.io", true},
        {"INDEX.docker.io:443", "Registry-1.Docker.io", true},
        {"docker.io", "docker.io:80", false},
        {"docker.io", "x.docker.io", false},
        {"[::1]:5000", "[0:0::1]:5000", true},
        {"[FD00::1]", "[fd00::1]:443", true},
        {"[::1]:5000", "[::1]:5001", false},
        {"[::1]", "[::2]", false},
        {"*", "*", true},
        {"*", "r.io", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *a = cases[i].a, *b = cases[i].b;
        if (reference_hosts_are_same(a, strlen(a), b, strlen(b)) != cases[i].same ||
            reference_hosts_are_same(b, strlen(b), a, strlen(a)) != cases[i].same)
            fail_msg("%s, %s", a, b);
    }
}

static void test_loopback(void **state)
{
    static const char *const yes[] = {"localhost",    "localhost:5000", "127.0.0.1",
                                      "127.1.2.3:80", "[::1]",          "[::1]:5000"};
    static const char *const no[] = {"localhost.example.com",
                                     "127.0.0.1.example.com",
                                     "127.0.0.256",
                                     "128.0.0.1",
                                     "[::2]",
                                     "docker.io",
                                     "127.0.0",
                                     "127.evil.com",
                                     "[::1]x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
        assert_true(reference_domain_is_loopback(yes[i]));
    for (size_t i = 0; i < ARRAY_SIZE(no); i++)
        assert_false(reference_domain_is_loopback(no[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_bad),      cmocka_unit_test(test_long),
        cmocka_unit_test(test_same_host), cmocka_unit_test(test_loopback),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
