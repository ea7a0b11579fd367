#include "image/pull/inflate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"

#define PLAIN_LEN (3 * 1024 * 1024 + 17)

static unsigned char *plain, *packed;
static char plain_digest[DIGEST_TEXT_MAX];

static int setup(void **state)
{
    uint32_t x = 1;

    (void)state;
    plain = malloc(PLAIN_LEN);
    packed = malloc(2 * PLAIN_LEN);
    for (size_t i = 0; i < PLAIN_LEN; i++) {
        x = x * 1664525 + 1013904223;
        plain[i] = (unsigned char)(i % 3 ? 'a' + (x >> 29) : i >> 8);
    }
    return digest_of(plain, PLAIN_LEN, plain_digest);
}

static int teardown(void **state)
{
    (void)state;
    free(plain);
    free(packed);
    return 0;
}

static size_t gzip(const void *data, size_t len, unsigned char *out)
{
    z_stream z = {0};

    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)data;
    z.avail_in = (uInt)len;
    z.next_out = out;
    z.avail_out = 2 * PLAIN_LEN;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return 2 * PLAIN_LEN - z.avail_out;
}

static int input_of(const void *data, size_t len)
{
    int fd = memfd_create("layer", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static int run(const void *data, size_t len, uint64_t max, char digest[DIGEST_TEXT_MAX], struct error *err)
{
    _cleanup_fd_ int fd = input_of(data, len);
    _cleanup_(inflate_freep) struct inflate *in = NULL;

    assert_int_equal(inflate_new(fd, max, &in, err), 0);
    return inflate_finish(in, digest, err);
}

static void expect_plain(size_t len)
{
    char digest[DIGEST_TEXT_MAX];
    struct error err = ERROR_INIT;

    if (run(packed, len, PLAIN_LEN, digest, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(digest, plain_digest);
}

static void test_formats(void **state)
{
    (void)state;
    expect_plain(gzip(plain, PLAIN_LEN, packed));
    expect_plain(ZSTD_compress(packed, 2 * PLAIN_LEN, plain, PLAIN_LEN, 3));
    memcpy(packed, plain, PLAIN_LEN);
    expect_plain(PLAIN_LEN);
}

// Members cut at every kind of place: the decoder reads ahead and must give back what is the next one's.
static void test_members(void **state)
{
    static const size_t cuts[] = {0, 1, 511, 65536, 1000003, PLAIN_LEN};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        size_t n = gzip(plain, cuts[i], packed);
        n += gzip(plain + cuts[i], PLAIN_LEN - cuts[i], packed + n);
        expect_plain(n);
        n = ZSTD_compress(packed, PLAIN_LEN, plain, cuts[i], 1);
        n += ZSTD_compress(packed + n, PLAIN_LEN, plain + cuts[i], PLAIN_LEN - cuts[i], 1);
        expect_plain(n);
    }
}

static void test_damage(void **state)
{
    size_t gz = gzip(plain, PLAIN_LEN, packed);
    char digest[DIGEST_TEXT_MAX];
    struct error err = ERROR_INIT;

    (void)state;
    // Cut anywhere it is too short; the checksum at the end counts too.
    for (size_t i = 1; i < 40; i++)
        assert_int_equal(run(packed, gz - i, PLAIN_LEN, digest, &err), -ENODATA);
    assert_int_equal(run(packed, gz / 2, PLAIN_LEN, digest, &err), -ENODATA);
    assert_int_equal(err.status, STATUS_DATA_LOSS);
    packed[gz - 6] ^= 1; // the CRC
    assert_int_equal(run(packed, gz, PLAIN_LEN, digest, &err), -EBADMSG);
    packed[gz - 6] ^= 1;
    memcpy(packed + gz, "garbage, garbage!", 17);
    assert_int_equal(run(packed, gz + 17, PLAIN_LEN, digest, &err), -EBADMSG);
    assert_int_equal(run(packed, gz, PLAIN_LEN - 1, digest, &err), -EFBIG);
    assert_int_equal(err.status, STATUS_RESOURCE_EXHAUSTED);

    size_t zs = ZSTD_compress(packed, 2 * PLAIN_LEN, plain, PLAIN_LEN, 3);
    assert_int_equal(run(packed, zs - 1, PLAIN_LEN, digest, &err), -ENODATA);
    assert_int_equal(run("", 0, 10, digest, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
