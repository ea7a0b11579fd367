// Which images may come to the node: the parsed `image.allowed` and `image.policies` of the configuration.
// Owned by whoever parsed it and constant while the store is open.
#ifndef IMAGE_POLICY_CONFIG_H
#define IMAGE_POLICY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

enum policy_action { POLICY_ACCEPT, POLICY_REQUIRE, POLICY_REJECT };

struct policy_entry {
    const char
        *prefix; // "registry.example.com[/path…]", by whole components; "*": all that no other entry is for
    enum policy_action action;
    // Of POLICY_REQUIRE:
    const char *const *keys; // files with a public key each, absolute; read at each pull
    size_t n_keys;
    bool all_keys; // signed by each of them; else by any
    const char
        *signed_as; // signatures name repositories with this in place of the prefix; "*": any; NULL: as it is
};

struct policy_config {
    const struct policy_entry *entries;
    size_t n_entries;
};

#endif
