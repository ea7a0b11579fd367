#include "cni/result.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#include "base/str.h"
#include "cni/json.h"
#include "cni/version.h"

static int bad_result(struct error *err, const char *type, const char *text)
{
    return error_set(err, STATUS_INTERNAL, EPROTO, "CNI plugin %s gave a bad result: %s", type, text);
}

// The address of "ADDRESS/LEN" into addr, as the kernel writes it; 4 or 6, or 0 when it is neither.
static int parse_cidr(const char *s, char addr[INET6_ADDRSTRLEN])
{
    const char *slash = s ? strchr(s, '/') : NULL;
    unsigned char raw[sizeof(struct in6_addr)];
    uint64_t len;
    if (!slash || slash - s >= INET6_ADDRSTRLEN)
        return 0;
    memcpy(addr, s, (size_t)(slash - s));
    addr[slash - s] = '\0';
    if (inet_pton(AF_INET, addr, raw) == 1)
        return str_parse_u64(slash + 1, 0, 32, &len) == 0 ? 4 : 0;
    if (inet_pton(AF_INET6, addr, raw) != 1 || str_parse_u64(slash + 1, 0, 128, &len) < 0)
        return 0;
    return inet_ntop(AF_INET6, raw, addr, INET6_ADDRSTRLEN) ? 6 : 0;
}

static int check_array(const json_t *result, const char *key, const char *type, struct error *err)
{
    const json_t *array = json_object_get(result, key), *item;
    char text[80];
    size_t i;
    if (!array || json_is_null(array))
        return 0;
    (void)snprintf(text, sizeof(text), "%s must be an array of at most %d objects", key,
                   CNI_RESULT_MAX_ITEMS);
    if (!json_is_array(array) || json_array_size(array) > CNI_RESULT_MAX_ITEMS)
        return bad_result(err, type, text);
    json_array_foreach(array, i, item)
    {
        if (!json_is_object(item))
            return bad_result(err, type, text);
    }
    return 0;
}

// Checks one of ips[] and sets or drops its "version" as the result's version has it.
static int fix_ip(json_t *ip, size_t n_interfaces, bool versioned, const char *type, struct error *err)
{
    char addr[INET6_ADDRSTRLEN];
    const char *cidr = json_string_value(json_object_get(ip, "address"));
    int family = parse_cidr(cidr, addr);
    if (!family)
        return bad_result(err, type, "ips[].address is not ADDRESS/PREFIX");
    const json_t *index = json_object_get(ip, "interface");
    // Plugins of old wrote -1 for "none"; anything else must point at an interface.
    if (index && !json_is_null(index) &&
        (!json_is_integer(index) || json_integer_value(index) < -1 ||
         json_integer_value(index) >= (json_int_t)n_interfaces))
        return bad_result(err, type, "ips[].interface points at no interface");
    if (!versioned)
        (void)json_object_del(ip, "version");
    else if (json_object_set_new(ip, "version", json_string(family == 4 ? "4" : "6")) < 0)
        return error_errno(err, ENOMEM, "CNI result");
    return 0;
}

static int check_version(const json_t *result, const char *type, struct error *err)
{
    const json_t *version = json_object_get(result, "cniVersion");
    if (json_object_get(result, "ip4") || json_object_get(result, "ip6"))
        return bad_result(err, type,
                          "it has the shape of CNI 0.2.0 (ip4, ip6); 0.3.0 to 1.1.0 are supported");
    if (version && !cni_version_is_supported(json_string_value(version)))
        return bad_result(err, type, "its cniVersion is not one of 0.3.0 to 1.1.0");
    return 0;
}

int cni_result_parse(const char *text, size_t len, const char *type, const char *version, json_t **out,
                     struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    struct error why = ERROR_INIT;
    if (len == 0)
        return bad_result(err, type, "it printed nothing");
    int r = cni_json_parse(text, len, "output", &json, &why);
    if (r < 0)
        return bad_result(err, type, why.message);
    if (!json_is_object(json))
        return bad_result(err, type, "it is not a JSON object");
    const char *const arrays[] = {"interfaces", "ips", "routes"};
    r = check_version(json, type, err);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(arrays); i++)
        r = check_array(json, arrays[i], type, err);
    size_t i, n = json_array_size(json_object_get(json, "interfaces"));
    json_t *ip;
    json_array_foreach(json_object_get(json, "ips"), i, ip)
    {
        if (r == 0)
            r = fix_ip(ip, n, cni_version_compare(version, "1.0.0") < 0, type, err);
    }
    if (r == 0 && json_object_set_new(json, "cniVersion", json_string(version)) < 0)
        r = error_errno(err, ENOMEM, "CNI result");
    if (r == 0)
        *out = steal_ptr(&json);
    return r;
}

// Is this one of the container's own addresses, and not of the host's end?
static bool is_containers(const json_t *result, const json_t *ip, const char *ifname)
{
    const json_t *index = json_object_get(ip, "interface");
    if (!json_is_integer(index) || json_integer_value(index) < 0)
        return true;
    const json_t *iface =
        json_array_get(json_object_get(result, "interfaces"), (size_t)json_integer_value(index));
    return !str_empty(json_string_value(json_object_get(iface, "sandbox"))) &&
           str_eq(json_string_value(json_object_get(iface, "name")), ifname);
}

char **cni_result_addresses(const json_t *result, const char *ifname)
{
    _cleanup_strv_ char **addresses = strv_new(0);
    size_t i;
    json_t *ip;
    if (!addresses)
        return NULL;
    json_array_foreach(json_object_get(result, "ips"), i, ip)
    {
        char addr[INET6_ADDRSTRLEN];
        if (!parse_cidr(json_string_value(json_object_get(ip, "address")), addr) ||
            !is_containers(result, ip, ifname))
            continue;
        if (strv_append(&addresses, addr) < 0)
            return NULL;
    }
    return steal_ptr(&addresses);
}
