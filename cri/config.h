// crispd's configuration: what it is, and where it comes from.
//
// /etc/crisp/crisp.yaml first, then /etc/crisp/conf.d/*.yaml in the order of their names: a key in a later
// file replaces the whole value of an earlier one (registries: host by host; policies: prefix by prefix).
// Every key is a row of config_keys[] (config_table.c), from which parsing, --print-config and
// docs/configuration.md follow.
#ifndef CRI_CONFIG_H
#define CRI_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"

struct arena;
struct policy_config;
struct registry_config;

enum config_cgroup_driver { CONFIG_CGROUP_CGROUPFS, CONFIG_CGROUP_SYSTEMD };

// All strings and lists are the config's own. Paths are absolute and have no "." or ".." in them.
struct config {
    char *root;    // records, images, writable layers: kept over reboots
    char *run_dir; // sockets, locks, pins: gone after a reboot
    char *socket;
    int64_t max_connections;
    int64_t shutdown_grace_ns;
    int64_t log_level;     // enum log_level
    int64_t log_format;    // enum log_format
    int64_t cgroup_driver; // enum config_cgroup_driver
    char *cgroup_parent;
    char *cni_conf_dir;
    char **cni_bin_dirs; // NULL-terminated
    char *cni_cache_dir;
    int64_t cni_plugin_timeout_ns;
    bool cni_exclusive;
    char *streaming_address; // numeric IP and port
    char *runtime_handler;
    char **runtime_rlimits; // NULL-terminated
    bool device_ownership;
    char **cdi_spec_dirs; // NULL-terminated
    int64_t shm_mib;
    int64_t pids_limit;
    char **default_sysctls;       // NULL-terminated
    char **absent_sources_denied; // NULL-terminated
    char **annotations_allowed;   // NULL-terminated
    bool image_sync_before_answer;
    int64_t image_pull_concurrency, image_pull_concurrency_node;
    int64_t image_pull_stall_ns;
    int64_t image_pull_min_rate;          // bytes a second
    char **image_pinned;                  // NULL-terminated
    char **image_allowed;                 // NULL-terminated
    struct policy_config *image_policies; // image/policy_config.h
    struct registry_config *registries;   // image/registry_config.h
    struct arena *arena;                  // where registries and policies are
    char *crisp_pod;                      // programs
    char *crisp_pull;
};

#define CONFIG_FILE_DEFAULT "/etc/crisp/crisp.yaml"
#define CONFIG_DIR_DEFAULT  "/etc/crisp/conf.d"

struct config_source {
    const char *file; // NULL: CONFIG_FILE_DEFAULT, which need not exist
    const char *dir;  // *.yaml of it after the file; NULL: none. A named one has to exist
    bool dir_must_exist;
};

// What is wrong with the configuration, all at once: lines "FILE:LINE: key: what is wrong, what is allowed".
#define CONFIG_PROBLEMS_MAX 20
struct config_problems {
    struct buf text; // at most CONFIG_PROBLEMS_MAX lines
    size_t n;        // all problems, shown or not
};

// 0, or -EINVAL with the problems in *problems (done by the caller in either case).
int config_load(const struct config_source *source, struct config **out, struct config_problems *problems);
void config_problems_init(struct config_problems *p);
void config_problems_done(struct config_problems *p);
void config_free(struct config *c); // NULL is fine
void config_freep(struct config **c);

// The effective configuration as YAML with a comment for each key; loading it gives the same configuration.
int config_print(const struct config *c, struct buf *out);
// The table of all keys as Markdown, for docs/configuration.md.
int config_print_keys(struct buf *out);
// The effective configuration as JSON (no secrets are in it), for the verbose Status. The caller frees.
char *config_json(const struct config *c);

#endif
