#include "image/pull/retry.h"

#include "base/clock.h"

#define BARE_MAX     2
#define ASKED_MAX    4
#define TOTAL_MAX_MS 120000

int64_t retry_delay_ms(struct retry *r, long retry_after_s)
{
    static const int64_t bare_ms[BARE_MAX] = {200, 800};
    int64_t ms;

    if (r->failures >= (retry_after_s > 0 ? ASKED_MAX : BARE_MAX) || retry_after_s > RETRY_WAIT_MAX_S)
        return -1;
    ms = retry_after_s > 0 ? retry_after_s * 1000 : bare_ms[r->failures];
    ms += (clock_mono_ns() / 1000) % (ms / 4 + 1);
    if (r->waited_ms + ms > TOTAL_MAX_MS)
        return -1;
    r->failures++;
    r->waited_ms += ms;
    return ms;
}
