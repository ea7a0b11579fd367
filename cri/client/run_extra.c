// What CRI has no field for: annotations that crispd honours where its configuration allows them.
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/rlimit.h"
#include "base/str.h"
#include "cri/client/run_config.h"

#define JOINED_MAX 1024 // items of one list

static void annotate(struct run_config *c, const char *option, const char *value)
{
    run_config_annotate(c, run_config_printf(c->arena, RUN_ANNOTATION "%s", option), value);
}

static int add_number(struct run_config *c, const char *option, const char *text, int64_t min, int64_t max,
                      struct error *err)
{
    int64_t value = 0;

    int rc = text ? run_config_number(option, text, min, max, &value, err) : 0;
    if (rc == 0 && text)
        annotate(c, option, text);
    return rc;
}

static int add_size(struct run_config *c, const char *option, const char *text, struct error *err)
{
    int64_t bytes = 0;

    int rc = text ? run_config_size(option, text, &bytes, err) : 0;
    if (rc == 0 && text)
        annotate(c, option, run_config_printf(c->arena, "%lld", (long long)bytes));
    return rc;
}

static char *join(struct run_config *c, char **items, char separator)
{
    size_t size = 1;

    for (size_t i = 0; items[i]; i++)
        size += strlen(items[i]) + 1;
    char *text = run_config_alloc(c->arena, size), *end = text;
    for (size_t i = 0; items[i]; i++) {
        if (i > 0)
            *end++ = separator;
        size_t len = strlen(items[i]);
        memcpy(end, items[i], len);
        end += len;
    }
    return text;
}

// DEVICE:RATE, several. A path may have colons, the rate has none.
static int add_rates(struct run_config *c, const char *option, char **rates, bool bytes, struct error *err)
{
    for (size_t i = 0; i < strv_len(rates); i++) {
        const char *colon = strrchr(rates[i], ':');
        int64_t value = 0;
        if (rates[i][0] != '/' || !colon || strchr(rates[i], ','))
            return run_config_bad(err, option, rates[i],
                                  bytes ? "DEVICE:SIZE, as in /dev/sda:1m" : "DEVICE:N, as in /dev/sda:100");
        int rc = bytes ? run_config_size(option, colon + 1, &value, err)
                       : run_config_number(option, colon + 1, 1, INT64_MAX, &value, err);
        if (rc < 0)
            return rc;
    }
    if (strv_len(rates) > 0)
        annotate(c, option, join(c, rates, ','));
    return 0;
}

static int add_storage(struct run_config *c, char **options, struct error *err)
{
    const char *size = NULL;

    for (size_t i = 0; i < strv_len(options); i++) {
        if (!str_has_prefix(options[i], "size="))
            return run_config_bad(err, "storage-opt", options[i], "size=SIZE: there is no other option");
        size = options[i] + strlen("size=");
    }
    int64_t bytes = 0;
    int rc = size ? run_config_size("storage-opt size=", size, &bytes, err) : 0;
    if (rc == 0 && size)
        annotate(c, "storage-size", run_config_printf(c->arena, "%lld", (long long)bytes));
    return rc;
}

// docker writes -1 where setrlimit's words say unlimited.
static int add_ulimits(struct run_config *c, char **limits, struct error *err)
{
    for (size_t i = 0; i < strv_len(limits); i++) {
        size_t len = strcspn(limits[i], "=");
        char name[32];
        struct rlimit_spec spec;
        (void)snprintf(name, sizeof(name), "%.*s=0", (int)len, limits[i]);
        if (!rlimit_parse(name, &spec) || limits[i][len] == '\0' || strchr(limits[i], ','))
            return run_config_bad(err, "ulimit", limits[i],
                                  "NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096 (names as in "
                                  "setrlimit(2), numbers, -1 or unlimited)");
    }
    if (strv_len(limits) > 0)
        annotate(c, "ulimit", join(c, limits, ','));
    return 0;
}

static int add_tmpfs(struct run_config *c, char **mounts, struct error *err)
{
    for (size_t i = 0; i < strv_len(mounts); i++)
        if (mounts[i][0] != '/' || strchr(mounts[i], ';'))
            return run_config_bad(err, "tmpfs", mounts[i],
                                  "an absolute path, and options behind a colon: /run:size=64m,mode=755");
    if (strv_len(mounts) > 0)
        annotate(c, "tmpfs", join(c, mounts, ';'));
    return 0;
}

int run_config_extra(struct run_config *c, const struct extra_options *o, struct error *err)
{
    int64_t shm = 0;

    int rc = add_number(c, "cpu-rt-period", o->cpu_rt_period, 0, INT64_MAX, err);
    if (rc == 0)
        rc = add_number(c, "cpu-rt-runtime", o->cpu_rt_runtime, 0, INT64_MAX, err);
    if (rc == 0)
        rc = add_size(c, "memory-reservation", o->memory_reservation, err);
    if (rc == 0)
        rc = add_number(c, "memory-swappiness", o->memory_swappiness, 0, 100, err);
    if (rc == 0)
        rc = add_number(c, "blkio-weight", o->blkio_weight, 10, 1000, err);
    if (rc == 0 && o->oom_kill_disable)
        annotate(c, "oom-kill-disable", "true");
    if (rc == 0)
        rc = add_rates(c, "device-read-bps", o->device_read_bps, true, err);
    if (rc == 0)
        rc = add_rates(c, "device-write-bps", o->device_write_bps, true, err);
    if (rc == 0)
        rc = add_rates(c, "device-read-iops", o->device_read_iops, false, err);
    if (rc == 0)
        rc = add_rates(c, "device-write-iops", o->device_write_iops, false, err);
    if (rc == 0)
        rc = add_storage(c, o->storage_opt, err);
    if (rc == 0)
        rc = add_ulimits(c, o->ulimit, err);
    if (rc == 0)
        rc = add_tmpfs(c, o->tmpfs, err);
    if (rc == 0 && o->shm_size)
        rc = run_config_size("shm-size", o->shm_size, &shm, err);
    if (rc == 0 && o->shm_size)
        run_config_annotate_pod(c, RUN_ANNOTATION "shm-size",
                                run_config_printf(c->arena, "%lld", (long long)shm));
    return rc;
}
