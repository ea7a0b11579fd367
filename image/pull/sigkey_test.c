#include "image/pull/sigkey.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/sigtest.h"

#define TEXT "{\"critical\":{}}"

static void expect(EVP_PKEY *pkey, const struct sigkey *key, const char *digest, int padding, bool good)
{
    unsigned char sig[1024];
    size_t len = sigtest_sign(pkey, digest, padding, TEXT, sig);

    assert_int_equal(sigkey_verify(key, TEXT, strlen(TEXT), sig, len), good);
    // Any change of either, or of the length, is another signature.
    assert_false(sigkey_verify(key, TEXT " ", strlen(TEXT) + 1, sig, len));
    assert_false(sigkey_verify(key, TEXT, strlen(TEXT) - 1, sig, len));
    assert_false(sigkey_verify(key, TEXT, strlen(TEXT), sig, len - 1));
    assert_false(sigkey_verify(key, TEXT, strlen(TEXT), sig, 0));
    sig[len / 2] ^= 1;
    assert_false(sigkey_verify(key, TEXT, strlen(TEXT), sig, len));
}

static void test_kinds(void **state)
{
    static const struct {
        const char *kind, *digest;
        int padding;
        bool good;
    } cases[] = {
        {"P-256", "SHA256", 0, true},
        {"P-256", "SHA1", 0, false},
        {"P-384", "SHA256", 0, true},
        {"P-384", "SHA384", 0, true},
        {"P-521", "SHA512", 0, true},
        {"RSA2048", "SHA256", RSA_PKCS1_PADDING, true},
        {"RSA2048", "SHA256", RSA_PKCS1_PSS_PADDING, true},
        {"RSA2048", "SHA1", RSA_PKCS1_PADDING, false},
        {"RSA3072", "SHA256", RSA_PKCS1_PADDING, true},
        {"ED25519", NULL, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        EVP_PKEY *pkey = sigtest_key(cases[i].kind), *other = sigtest_key(cases[i].kind);
        _cleanup_free_ char *pem = sigtest_pem(pkey, false);
        _cleanup_(sigkey_freep) struct sigkey *key = NULL;
        struct error err = ERROR_INIT;

        if (sigkey_parse(pem, strlen(pem), "k", &key, &err) < 0)
            fail_msg("%s: %s", cases[i].kind, err.message);
        expect(pkey, key, cases[i].digest, cases[i].padding, cases[i].good);
        expect(other, key, cases[i].digest, cases[i].padding, false);
        EVP_PKEY_free(pkey);
        EVP_PKEY_free(other);
    }
}

static void test_unsupported(void **state)
{
    static const char *const kinds[][2] = {{"RSA1024", "2048"}, {"secp256k1", "curve"}, {"P-224", "curve"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        EVP_PKEY *pkey = sigtest_key(kinds[i][0]);
        _cleanup_free_ char *pem = sigtest_pem(pkey, false);
        struct error err = ERROR_INIT;
        struct sigkey *key;

        assert_int_equal(sigkey_parse(pem, strlen(pem), "k", &key, &err), -EKEYREJECTED);
        assert_null(key);
        assert_non_null(strstr(err.message, kinds[i][1]));
        EVP_PKEY_free(pkey);
    }
}

static void test_files(void **state)
{
    EVP_PKEY *pkey = sigtest_key("P-256");
    _cleanup_free_ char *pem = sigtest_pem(pkey, false), *private = sigtest_pem(pkey, true);
    _cleanup_free_ char *twice = str_printf("%s%s", pem, pem);
    _cleanup_free_ char *damaged = str_printf("%.60s!!%s", pem, pem + 62);
    _cleanup_free_ char *comment = str_printf("# whose key this is\n%s", pem);
    const struct {
        const char *text, *error;
    } cases[] = {
        {pem, NULL},
        {comment, NULL},
        {"", "not a PEM file"},
        {"hello", "not a PEM file"},
        {private, "private key"},
        {twice, "more than one key"},
        {damaged, "can't be read"},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no public key"},
        {"-----BEGIN PUBLIC KEY-----\n", "can't be read"},
    };
    char dir[256];

    (void)state;
    testing_scratch_make(dir);
    _cleanup_free_ char *path = str_printf("%s/key", dir);
    struct error err = ERROR_INIT;
    struct sigkey *key;
    assert_int_equal(sigkey_load(path, &key, &err), -ENOENT);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, path));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(file_write_atomic(path, cases[i].text, strlen(cases[i].text), 0644, false, &err), 0);
        int r = sigkey_load(path, &key, &err);
        if (!cases[i].error) {
            assert_int_equal(r, 0);
            sigkey_free(key);
            continue;
        }
        assert_true(r < 0);
        assert_null(key);
        if (!strstr(err.message, cases[i].error) || !strstr(err.message, path))
            fail_msg("\"%s\" says nothing of \"%s\"", err.message, cases[i].error);
    }
    assert_int_equal(sigkey_load(dir, &key, &err) < 0, true);
    assert_int_equal(sigkey_load("/dev/zero", &key, &err) < 0, true);
    testing_scratch_remove(dir);
    EVP_PKEY_free(pkey);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds), cmocka_unit_test(test_unsupported),
                                       cmocka_unit_test(test_files)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
