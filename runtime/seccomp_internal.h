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

enum seccomp_arch { SECCOMP_X86_64, SECCOMP_X86, SECCOMP_X32, SECCOMP_AARCH64, SECCOMP_ARCHES };

#if defined(__x86_64__)
#define SECCOMP_NATIVE SECCOMP_X86_64
#elif defined(__aarch64__)
#define SECCOMP_NATIVE SECCOMP_AARCH64
#else
#error "no table of system calls for this architecture: extend runtime/seccomp_numbers.def"
#endif

enum seccomp_op { SECCOMP_EQ, SECCOMP_NE, SECCOMP_LT, SECCOMP_LE, SECCOMP_GE, SECCOMP_GT };

// (argument & mask) op value
struct seccomp_arg {
    uint32_t index;
    enum seccomp_op op;
    uint64_t mask, value;
};

// One system call, what is to happen, and when: with no args always, else when all of them hold. Of several
// conditional rules for one call the first that holds counts; an unconditional one makes them moot.
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
    int newest[SECCOMP_ARCHES];  // seccomp_age() of the newest call that its author knew; 0: all in our table
    struct seccomp_rule *rules;  // owned
    size_t n_rules, room;
};

// What a profile is made for.
struct seccomp_target {
    enum seccomp_arch native;
    uint64_t caps;   // a container's capabilities (bounding set)
    unsigned kernel; // SECCOMP_KERNEL(major, minor)
};

#define SECCOMP_KERNEL(major, minor) ((unsigned)(major) << 16 | (unsigned)(minor))

void seccomp_profile_done(struct seccomp_profile *p);
int seccomp_profile_add(struct seccomp_profile *p, const struct seccomp_rule *rule); // 0, -ENOMEM, -E2BIG

// seccomp_table.c: the default profile's rows. A call is allowed if one of the rows that name it allows it to
// this container on this kernel. Rows of what is never allowed are there for the reader: a test sees that
// every call that has a number is in a row or a condition.
enum seccomp_verdict { SECCOMP_ALLOWED, SECCOMP_DENIED };

struct seccomp_row {
    enum seccomp_verdict verdict;
    uint64_t caps;     // ALLOWED: the container needs one of these; 0: none is needed
    unsigned kernel;   // at least this one; 0: any
    const char *names; // separated by spaces
};

struct seccomp_condition {
    uint64_t unless_caps; // with one of these a row allows it whole
    struct seccomp_rule rule;
};

extern const struct seccomp_row seccomp_rows[];
extern const size_t seccomp_n_rows;
extern const struct seccomp_condition seccomp_conditions[];
extern const size_t seccomp_n_conditions;

// seccomp_default.c: the default profile. 0 or -errno.
int seccomp_default_profile(const struct seccomp_target *t, struct seccomp_profile *out);
// The capabilities that make a difference to it.
uint64_t seccomp_default_caps(void);

// seccomp_numbers.c: numbers, as the kernel's ABI of that architecture has them, without x32's bit.
int seccomp_number(enum seccomp_arch arch, const char *name); // -1: not on this architecture, or unknown
bool seccomp_name_exists(const char *name);                   // on any architecture
const char *seccomp_name_at(size_t i);                        // all names in order; NULL past the last one
bool seccomp_number_known(enum seccomp_arch arch, int nr);    // does anybody here know what it is?
int seccomp_age(enum seccomp_arch arch, int nr); // greater: came into the kernel later. Of one architecture

// seccomp_json.c: a profile in Docker's (or the OCI runtime spec's) JSON. Rules' names point into *keep,
// which the caller frees after use. file names the file in errors.
int seccomp_parse_json(const char *file, const char *text, size_t len, const struct seccomp_target *t,
                       struct seccomp_profile *out, void **keep, struct error *err);
void seccomp_json_keep_free(void *keep);

// seccomp_text.c: what the JSON library doesn't tell or take.
// The line (from 1) of what path leads to, such as "syscalls[3].args[0].op", or of the last part of it that
// is there. text is valid JSON.
int seccomp_text_line(const char *text, size_t len, const char *path);
// A copy (NUL-terminated) in which integers above INT64_MAX are strings. NULL on ENOMEM.
char *seccomp_text_quote_integers(const char *text, size_t len, size_t *out_len);

// seccomp_bpf.c: appends the program (struct sock_filter) to out.
int seccomp_compile(const struct seccomp_profile *p, struct buf *out, struct error *err);

#endif
