#include "cri/client/values.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

// "12.5" as 12500000000 (scaled by 10^9): the number of characters read in *len.
static int read_decimal(const char *text, int64_t *billionths, size_t *len)
{
    const char *p = text;
    int64_t whole = 0, part = 0, unit = NS_PER_SEC;

    if (!isdigit((unsigned char)*p))
        return -EINVAL;
    for (; isdigit((unsigned char)*p); p++) {
        if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, *p - '0', &whole))
            return -ERANGE;
    }
    if (*p == '.') {
        for (p++; isdigit((unsigned char)*p); p++) {
            unit /= 10;
            if (unit == 0)
                return -EINVAL;
            part += (*p - '0') * unit;
        }
        if (p[-1] == '.')
            return -EINVAL;
    }
    if (__builtin_mul_overflow(whole, NS_PER_SEC, billionths) ||
        __builtin_add_overflow(*billionths, part, billionths))
        return -ERANGE;
    *len = (size_t)(p - text);
    return 0;
}

int value_cpus(const char *text, int64_t *nano)
{
    size_t len = 0;
    int rc = read_decimal(text, nano, &len);

    return rc < 0 || text[len] == '\0' ? rc : -EINVAL;
}

int value_integer(const char *text, int64_t min, int64_t max, int64_t *out)
{
    return str_parse_i64(*text == '+' ? text + 1 : text, min, max, out);
}

static int scale(int64_t billionths, int64_t factor, int64_t *out)
{
    __int128 product = (__int128)billionths * factor / NS_PER_SEC;

    *out = (int64_t)product;
    return product > INT64_MAX ? -ERANGE : 0;
}

int value_size(const char *text, int64_t *bytes)
{
    static const char letters[] = "kmgtp";
    int64_t number = 0, factor = 1;
    uint64_t whole = 0;
    size_t len = 0;

    if (str_parse_u64(text, 0, INT64_MAX, &whole) == 0) { // more digits than a scaled number has room for
        *bytes = (int64_t)whole;
        return 0;
    }
    int rc = read_decimal(text, &number, &len);
    if (rc < 0)
        return rc;
    const char *unit = text + len;
    const char *found = *unit ? strchr(letters, tolower((unsigned char)*unit)) : NULL;
    if (found) {
        factor = INT64_C(1) << (10 * (found - letters + 1));
        unit++;
        if (tolower((unsigned char)unit[0]) == 'i' && tolower((unsigned char)unit[1]) == 'b')
            unit++;
    }
    if (tolower((unsigned char)*unit) == 'b')
        unit++;
    return *unit == '\0' ? scale(number, factor, bytes) : -EINVAL;
}

int value_duration(const char *text, int64_t *ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ns", 1},
                 {"us", 1000},
                 {"µs", 1000},
                 {"ms", NS_PER_MS},
                 {"s", NS_PER_SEC},
                 {"m", 60 * NS_PER_SEC},
                 {"h", 3600 * NS_PER_SEC}};

    *ns = 0;
    if (str_eq(text, "0"))
        return 0;
    do {
        int64_t number = 0, part = 0;
        size_t len = 0;
        int rc = read_decimal(text, &number, &len);
        if (rc < 0)
            return rc;
        text += len;
        len = strcspn(text, "0123456789.");
        size_t i = 0;
        while (i < ARRAY_SIZE(units) &&
               (strlen(units[i].name) != len || strncmp(text, units[i].name, len) != 0))
            i++;
        if (i == ARRAY_SIZE(units))
            return -EINVAL;
        text += len;
        if (scale(number, units[i].ns, &part) < 0 || __builtin_add_overflow(*ns, part, ns))
            return -ERANGE;
    } while (*text);
    return 0;
}
