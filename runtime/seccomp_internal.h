// What the seccomp files share; nobody else includes it.
#ifndef RUNTIME_SECCOMP_INTERNAL_H
#define RUNTIME_SECCOMP_INTERNAL_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>

#include "base/buf.h"
#include "runtime/seccomp.h"

#define SECCOMP_NR_MAX    1024 // system call numbers that are told apart; real ones end below 600
#define SECCOMP_ARGS_MAX  6
#define SECCOMP_RULES_MAX 16384

enum seccomp_arch { SECCOMP_X86_64, SECCOMP_X86, SECCOMP_X32, SECCOMP_ARCHES };

enum seccomp_op { SECCOMP_EQ, SECCOMP_NE, SECCOMP_LT, SECCOMP_LE, SECCOMP_GE, SECCOMP_GT };

// (argument & mask) op value
struct seccomp_arg {
    uint32_t index;
    enum seccomp_op op;
    uint64_t mask, value;
};

// One system call, what is to happen, and when: with no args always, else when all of them hold.
struct seccomp_rule {
    const char *name; // not owned
    uint32_t action;  // SECCOMP_RET_*
    struct seccomp_arg args[SECCOMP_ARGS_MAX];
    size_t n_args;
};

struct seccomp_profile {
    uint32_t default_action;
    bool arches[SECCOMP_ARCHES]; // others are killed
    uint32_t flags;              // SECCOMP_FILTER_FLAG_*
    struct seccomp_rule *rules;  // owned
    size_t n_rules, room;
};

void seccomp_profile_done(struct seccomp_profile *p);
int seccomp_profile_add(struct seccomp_profile *p, const struct seccomp_rule *rule); // 0, -ENOMEM, -E2BIG

// seccomp_default.c: the default profile for a container with these capabilities. 0 or -errno.
int seccomp_default_profile(uint64_t caps, struct seccomp_profile *out);

// seccomp_names.c: numbers, as the kernel's ABI of that architecture has them, without x32's bit.
int seccomp_number(enum seccomp_arch arch, const char *name); // -1: not on this architecture, or unknown
bool seccomp_name_exists(const char *name);                   // on any architecture
bool seccomp_number_known(enum seccomp_arch arch, int nr);    // does anybody here know what it is?

// seccomp_json.c: a profile in Docker's (or the OCI runtime spec's) JSON. Rules' names point into *keep,
// which the caller frees after use. field names the config's field in errors.
int seccomp_parse_json(const char *field, const char *text, size_t len, uint64_t caps,
                       struct seccomp_profile *out, void **keep, struct error *err);
void seccomp_json_keep_free(void *keep);

// seccomp_bpf.c: appends the program (struct sock_filter) to out.
int seccomp_compile(const struct seccomp_profile *p, struct buf *out, struct error *err);

#endif
