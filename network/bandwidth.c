// Kubernetes quantities, as far as bandwidth annotations use them.
#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "network/network.h"

#define MIN_BPS INT64_C(1000)             // what Kubernetes itself accepts
#define MAX_BPS INT64_C(1000000000000000) // 1P

static const struct suffix {
    const char *text;
    double factor;
} suffixes[] = {
    {"", 1},
    {"m", 1e-3},
    {"k", 1e3},
    {"M", 1e6},
    {"G", 1e9},
    {"T", 1e12},
    {"P", 1e15},
    {"E", 1e18},
    {"Ki", 1024.0},
    {"Mi", 1048576.0},
    {"Gi", 1073741824.0},
    {"Ti", 1099511627776.0},
    {"Pi", 1125899906842624.0},
    {"Ei", 1152921504606846976.0},
};

// The digits and the dot at the front of s: their value, or -1 when there are none or too many.
static double parse_number(const char **s)
{
    double value = 0, unit = 1;
    int digits = 0;
    bool dot = false;
    for (; isdigit((unsigned char)**s) || (**s == '.' && !dot); (*s)++) {
        if (**s == '.') {
            dot = true;
            continue;
        }
        if (++digits > 20)
            return -1;
        if (dot)
            unit /= 10;
        value = dot ? value + (**s - '0') * unit : value * 10 + (**s - '0');
    }
    return digits ? value : -1;
}

// What s, the part after the number, multiplies it by; 0 when it is no suffix. "E" alone is 10^18.
static double parse_factor(const char *s)
{
    int64_t exponent;
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++)
        if (str_eq(s, suffixes[i].text))
            return suffixes[i].factor;
    if (*s != 'e' && *s != 'E')
        return 0;
    s += s[1] == '+' ? 2 : 1;
    if (str_parse_i64(s, -18, 18, &exponent) < 0)
        return 0;
    double factor = 1;
    for (; exponent > 0; exponent--)
        factor *= 10;
    for (; exponent < 0; exponent++)
        factor /= 10;
    return factor;
}

int network_bandwidth_parse(const char *quantity, int64_t *bps, struct error *err)
{
    const char *s = quantity ? quantity : "";
    s += *s == '+';
    double number = parse_number(&s), factor = parse_factor(s);
    if (number < 0 || factor <= 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "bandwidth \"%.64s\" is not a quantity such as 10M (bits per second)",
                         quantity ? quantity : "");
    double value = number * factor;
    if (value < (double)MIN_BPS || value > (double)MAX_BPS)
        return error_set(err, STATUS_INVALID_ARGUMENT, ERANGE,
                         "bandwidth %.64s is outside 1k to 1P bits per second", quantity);
    *bps = (int64_t)(value + 0.5);
    return 0;
}
