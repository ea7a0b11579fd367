// Where to ask for images: the parsed `registries` part of the configuration. Owned by whoever parsed it and
// constant while the store is open.
#ifndef IMAGE_REGISTRY_CONFIG_H
#define IMAGE_REGISTRY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

// How a server is known, and how the node is to it. Paths of PEM files; NULL: not given.
struct registry_tls {
    const char *ca_file;              // to trust instead of the system's store
    const char *cert_file, *key_file; // the client's; both or none
    bool skip_verify;                 // don't check the server's certificate
};

struct registry_mirror {
    const char *url; // "http://127.0.0.1:5000": scheme and host only
    const char
        *path_prefix; // put before the repository; "{host}" stands for the registry's host; may be NULL
    struct registry_tls tls;
    bool no_resolve; // not asked what tags mean
    bool no_pull;    // not asked for anything else
};

struct registry_host {
    const char *host; // "registry.k8s.io", "127.0.0.1:5000"; "*" for all that have no entry of their own
    struct registry_tls tls;               // of the registry itself
    const struct registry_mirror *mirrors; // asked in this order, before the registry itself
    size_t n_mirrors;
    bool strict; // never ask the registry itself
};

struct registry_config {
    const struct registry_host *hosts;
    size_t n_hosts;
};

#endif
