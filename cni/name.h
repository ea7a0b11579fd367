// Names that end up in environments and file names: what the specification allows, and nothing that could
// lead out of a directory.
#ifndef CNI_NAME_H
#define CNI_NAME_H

#include <stdbool.h>

#define CNI_NAME_MAX 128 // bytes of a container id, network name or plugin type with the NUL

// Container ids and network names: a letter or digit, then letters, digits, '_', '.', '-'.
bool cni_name_is_valid(const char *name);
// Interface names as the kernel takes them: 1..15 bytes, not "." or "..", no '/', ':' or white space.
bool cni_ifname_is_valid(const char *ifname);
// Plugin types are looked up in the plugin directories: a plain file name.
bool cni_type_is_valid(const char *type);

#endif
