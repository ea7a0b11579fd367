// Where to ask for images: the parsed `registries` part of the configuration. Owned by whoever parsed it and
// constant while the store is open.
#ifndef IMAGE_REGISTRY_CONFIG_H
#define IMAGE_REGISTRY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

struct registry_mirror {
    const char *url; // "http://127.0.0.1:5000": scheme and host only
    const char
        *path_prefix;    // put before the repository; "{host}" stands for the registry's host; may be NULL
    const char *ca_file; // PEM to trust instead of the system's store; may be NULL
    bool skip_verify;    // don't check the TLS certificate
};

struct registry_host {
    const char *host; // "registry.k8s.io", "127.0.0.1:5000"; "*" for all that have no entry of their own
    const struct registry_mirror *mirrors; // asked in this order, before the registry itself
    size_t n_mirrors;
    bool strict; // never ask the registry itself
};

struct registry_config {
    const struct registry_host *hosts;
    size_t n_hosts;
};

#endif
