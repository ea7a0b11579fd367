#include "base/ctx.h"

#include <limits.h>
#include <poll.h>

#include "base/clock.h"

struct ctx ctx_with_timeout(const struct ctx *parent, int64_t timeout_ns)
{
    struct ctx child = parent ? *parent : CTX_NONE;
    int64_t deadline;

    if (timeout_ns < 0)
        timeout_ns = 0;
    if (__builtin_add_overflow(clock_mono_ns(), timeout_ns, &deadline))
        deadline = INT64_MAX;
    if (deadline < child.deadline_mono_ns)
        child.deadline_mono_ns = deadline;
    return child;
}

int ctx_poll_ms(const struct ctx *ctx)
{
    if (ctx->deadline_mono_ns == INT64_MAX)
        return -1;
    int64_t left = ctx->deadline_mono_ns - clock_mono_ns();
    if (left <= 0)
        return 0;
    int64_t ms = left / NS_PER_MS + (left % NS_PER_MS != 0); // rounded up, so that nobody spins at the end
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static bool is_cancelled(const struct ctx *ctx)
{
    struct pollfd p = {.fd = ctx->cancel_fd, .events = POLLIN};

    return ctx->cancel_fd >= 0 && poll(&p, 1, 0) > 0;
}

int ctx_check(const struct ctx *ctx, struct error *err)
{
    if (is_cancelled(ctx))
        return error_set(err, STATUS_CANCELLED, ECANCELED, "called off by the client");
    if (ctx_poll_ms(ctx) == 0)
        return error_set(err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "the deadline has passed");
    return 0;
}

int ctx_wait_fd(const struct ctx *ctx, int fd, short events, struct error *err)
{
    for (;;) {
        // poll(2) skips entries whose descriptor is negative.
        struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = ctx->cancel_fd, .events = POLLIN}};
        int n = poll(p, 2, ctx_poll_ms(ctx));

        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return error_errno(err, errno, "wait for a descriptor");
        if (n > 0 && p[0].revents & POLLNVAL)
            return error_errno(err, EBADF, "wait for descriptor %d", fd);
        if (n > 0 && p[1].revents)
            return error_set(err, STATUS_CANCELLED, ECANCELED, "called off by the client");
        if (n > 0 && p[0].revents)
            return 1;
        int rc = ctx_check(ctx, err);
        if (rc < 0)
            return rc;
    }
}
