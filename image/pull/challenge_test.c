#include "image/pull/challenge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"

static void test_good(void **state)
{
    static const struct {
        const char *header;
        enum challenge_scheme scheme;
        const char *realm, *service, *scope;
    } cases[] = {
        {"Bearer realm=\"https://auth.example/token\",service=\"reg\",scope=\"repository:a/b:pull\"",
         CHALLENGE_BEARER, "https://auth.example/token", "reg", "repository:a/b:pull"},
        {"bearer realm=https://auth.example/token", CHALLENGE_BEARER, "https://auth.example/token", NULL,
         NULL},
        {"Basic realm=\"a \\\"quoted\\\" realm\"", CHALLENGE_BASIC, "a \"quoted\" realm", NULL, NULL},
        {"Basic", CHALLENGE_BASIC, NULL, NULL, NULL},
        {"Basic realm=x, Bearer realm=\"http://t\", error=\"invalid_token\"", CHALLENGE_BEARER, "http://t",
         NULL, NULL},
        {"Bearer realm=\"http://t\" , service = \"s\", Basic realm=\"b\"", CHALLENGE_BEARER, "http://t", "s",
         NULL},
        {"Negotiate, Basic realm=\"b\"", CHALLENGE_BASIC, "b", NULL, NULL},
        {"Bearer service=\"no realm\"", CHALLENGE_NONE, NULL, NULL, NULL},
        {"Digest realm=\"d\", nonce=\"x\"", CHALLENGE_NONE, NULL, NULL, NULL},
        {"", CHALLENGE_NONE, NULL, NULL, NULL},
        {" , ,", CHALLENGE_NONE, NULL, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct challenge c;
        struct error err = ERROR_INIT;

        if (challenge_parse(cases[i].header, &c, &err) < 0)
            fail_msg("%s: %s", cases[i].header, err.message);
        assert_int_equal(c.scheme, cases[i].scheme);
        assert_true(str_eq(c.realm, cases[i].realm));
        assert_true(str_eq(c.service, cases[i].service));
        assert_true(str_eq(c.scope, cases[i].scope));
        challenge_done(&c);
    }
}

static void test_bad(void **state)
{
    static const char *const cases[] = {"Bearer realm=\"open", "Bearer realm=\"x\\",     "=",
                                        "Bearer realm=",       "Bearer realm=\"x\", =y", "\"quoted\"",
                                        "Bearer \x01=x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct challenge c;

        if (challenge_parse(cases[i], &c, NULL) == 0)
            fail_msg("accepted %s", cases[i]);
        assert_null(c.realm);
    }
}

static void test_long(void **state)
{
    char header[CHALLENGE_VALUE_MAX + 64];
    struct challenge c;

    (void)state;
    memset(header, 'x', sizeof(header));
    memcpy(header, "Bearer realm=\"", 14);
    header[sizeof(header) - 2] = '"';
    header[sizeof(header) - 1] = '\0';
    assert_int_equal(challenge_parse(header, &c, NULL), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
