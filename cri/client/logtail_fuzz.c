// Fuzz: a log file that a container's runtime wrote, or something else. However it is cut, the output is the
// same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cri/client/logtail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int collect(void *data, enum logtail_stream stream, const char *text, size_t len)
{
    return buf_append((struct buf *)data + stream, text, len);
}

static int run(const uint8_t *data, size_t size, size_t piece, struct buf out[2])
{
    struct logtail t;
    int rc = 0;

    buf_init(&out[0], 1 << 20);
    buf_init(&out[1], 1 << 20);
    logtail_init(&t, collect, out);
    for (size_t at = 0; at < size && rc == 0; at += piece)
        rc = logtail_feed(&t, (const char *)data + at, size - at < piece ? size - at : piece, NULL);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole[2], cut[2];

    if (size < 1)
        return 0;
    int a = run(data + 1, size - 1, size, whole);
    int b = run(data + 1, size - 1, data[0] % 16 + 1, cut);
    if (a != b)
        abort();
    for (int i = 0; i < 2; i++) {
        if (whole[i].len != cut[i].len || (whole[i].len && memcmp(whole[i].data, cut[i].data, cut[i].len)))
            abort();
        buf_done(&whole[i]);
        buf_done(&cut[i]);
    }
    return 0;
}
