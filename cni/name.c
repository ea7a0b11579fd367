#include "cni/name.h"

#include <ctype.h>
#include <net/if.h>
#include <string.h>

#include "base/str.h"

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool cni_name_is_valid(const char *name)
{
    if (str_empty(name) || strlen(name) >= CNI_NAME_MAX || !is_alnum(name[0]))
        return false;
    for (const char *s = name; *s; s++)
        if (!is_alnum(*s) && *s != '_' && *s != '.' && *s != '-')
            return false;
    return true;
}

bool cni_ifname_is_valid(const char *ifname)
{
    if (str_empty(ifname) || strlen(ifname) >= IFNAMSIZ || str_eq(ifname, ".") || str_eq(ifname, ".."))
        return false;
    for (const char *s = ifname; *s; s++)
        if (*s == '/' || *s == ':' || isspace((unsigned char)*s))
            return false;
    return true;
}

bool cni_type_is_valid(const char *type)
{
    if (str_empty(type) || strlen(type) >= CNI_NAME_MAX || str_eq(type, ".") || str_eq(type, ".."))
        return false;
    for (const char *s = type; *s; s++)
        if (*s == '/' || (unsigned char)*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}
