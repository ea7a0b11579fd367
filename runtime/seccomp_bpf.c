// From a profile to a BPF program: per architecture a binary search over ranges of system call numbers that
// fare alike. That is a quarter of the instructions of a list of comparisons, and each container's start pays
// for checking and translating them.
#include <linux/audit.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "runtime/seccomp_internal.h"

#define X32_BIT     0x40000000u
#define OFFSET_NR   0 // in struct seccomp_data
#define OFFSET_ARCH 4
#define OFFSET_ARGS 16
#define FIXUPS_MAX  32
#define NO_LINK     (-1)

// What happens to one number. Chains of conditional rules, in order, are links: an index into the profile's
// rules, plus their number for the same rule's second number (x32's own).
struct slot {
    uint32_t action; // when no conditional rule applies
    bool decided;    // an unconditional rule was seen
    int first_link;
    int last_link;
};

struct range {
    uint32_t start;
    const struct slot *slot;
    size_t size; // instructions
};

struct compiler {
    const struct seccomp_profile *profile;
    int *next_link; // by link, for the chains of one architecture
    struct slot slots[SECCOMP_NR_MAX];
    struct range ranges[SECCOMP_NR_MAX + 1];
    size_t n_ranges;
    struct slot beyond; // numbers that nobody knows
    struct sock_filter code[BPF_MAXINSNS];
    size_t n; // may run past BPF_MAXINSNS: then the program is refused
};

static void emit(struct compiler *c, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    if (c->n < BPF_MAXINSNS)
        c->code[c->n] = (struct sock_filter){code, jt, jf, k};
    c->n++;
}

static void emit_load(struct compiler *c, uint32_t offset)
{
    emit(c, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void emit_return(struct compiler *c, uint32_t action)
{
    emit(c, BPF_RET | BPF_K, action, 0, 0);
}

// Jumps to the end of one rule's comparisons (failed) or one comparison's (passed), patched once it is known.
struct fixups {
    struct {
        size_t at;
        bool on_true;
    } f[FIXUPS_MAX];
    size_t n;
};

static void jump_later(struct compiler *c, struct fixups *list, uint16_t op, uint32_t k, bool on_true)
{
    list->f[list->n].at = c->n;
    list->f[list->n++].on_true = on_true;
    emit(c, BPF_JMP | op | BPF_K, k, 0, 0);
}

static void patch(struct compiler *c, const struct fixups *list)
{
    for (size_t i = 0; i < list->n && c->n <= BPF_MAXINSNS; i++) {
        uint8_t distance = (uint8_t)(c->n - list->f[i].at - 1);
        if (list->f[i].on_true)
            c->code[list->f[i].at].jt = distance;
        else
            c->code[list->f[i].at].jf = distance;
    }
}

static void emit_load_masked(struct compiler *c, uint32_t offset, uint32_t mask)
{
    emit_load(c, offset);
    if (mask != UINT32_MAX)
        emit(c, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
}

// One comparison; falls through when it holds. Arguments are compared in halves, the high one first.
static void emit_arg(struct compiler *c, const struct seccomp_arg *a, struct fixups *failed)
{
    struct fixups passed = {.n = 0};
    uint32_t high = (uint32_t)(a->value >> 32), low = (uint32_t)a->value, at = OFFSET_ARGS + 8 * a->index;
    uint32_t mask_high = (uint32_t)(a->mask >> 32), mask_low = (uint32_t)a->mask;
    if (mask_high || high) {
        emit_load_masked(c, at + 4, mask_high); // little endian
        switch (a->op) {
        case SECCOMP_NE:
            jump_later(c, &passed, BPF_JEQ, high, false);
            break;
        case SECCOMP_GT:
        case SECCOMP_GE:
            jump_later(c, &passed, BPF_JGT, high, true);
            jump_later(c, failed, BPF_JEQ, high, false);
            break;
        case SECCOMP_LT:
        case SECCOMP_LE:
            jump_later(c, failed, BPF_JGT, high, true);
            jump_later(c, &passed, BPF_JEQ, high, false);
            break;
        default:
            jump_later(c, failed, BPF_JEQ, high, false);
            break;
        }
    }
    emit_load_masked(c, at, mask_low);
    static const struct {
        uint16_t op;
        bool fails_on_true;
    } low_test[] = {
        [SECCOMP_EQ] = {BPF_JEQ, false}, [SECCOMP_NE] = {BPF_JEQ, true},  [SECCOMP_LT] = {BPF_JGE, true},
        [SECCOMP_LE] = {BPF_JGT, true},  [SECCOMP_GE] = {BPF_JGE, false}, [SECCOMP_GT] = {BPF_JGT, false}};
    jump_later(c, failed, low_test[a->op].op, low, low_test[a->op].fails_on_true);
    patch(c, &passed);
}

static void emit_slot(struct compiler *c, const struct slot *slot)
{
    for (int i = slot->first_link; i != NO_LINK; i = c->next_link[i]) {
        const struct seccomp_rule *rule = &c->profile->rules[(size_t)i % c->profile->n_rules];
        struct fixups failed = {.n = 0};
        for (size_t k = 0; k < rule->n_args; k++)
            emit_arg(c, &rule->args[k], &failed);
        emit_return(c, rule->action);
        patch(c, &failed);
    }
    emit_return(c, slot->action);
}

// Where to halve a run of ranges: so that both sides have as many numbers. The kernel runs the program for
// each number of a table of its own when a filter is installed, and remembers which are always allowed; later
// only the others take the way through the tree. So what counts is the mean over numbers, not over ranges.
static size_t halve(const struct compiler *c, size_t low, size_t high)
{
    uint32_t first = c->ranges[low].start, last = c->ranges[high].start, middle = first + (last - first) / 2;
    size_t at = low + 1;
    while (at < high && c->ranges[at].start <= middle)
        at++;
    // The border that is nearer.
    if (at - 1 > low && middle - c->ranges[at - 1].start < c->ranges[at].start - middle)
        at--;
    return at;
}

// Instructions for a run of ranges. A jump over its left side takes one more where that is far.
static size_t tree_size(const struct compiler *c, size_t low, size_t high)
{
    if (low == high)
        return c->ranges[low].size;
    size_t middle = halve(c, low, high), left = tree_size(c, low, middle - 1);
    return 1 + (left > UINT8_MAX) + left + tree_size(c, middle, high);
}

// A holds the number. Recursion: some 20 deep at most, as each level has half of the numbers.
static void emit_tree(struct compiler *c, size_t low, size_t high)
{
    if (low == high) {
        emit_slot(c, c->ranges[low].slot);
        return;
    }
    size_t middle = halve(c, low, high), left = tree_size(c, low, middle - 1);
    if (left <= UINT8_MAX) {
        emit(c, BPF_JMP | BPF_JGE | BPF_K, c->ranges[middle].start, (uint8_t)left, 0);
    } else {
        emit(c, BPF_JMP | BPF_JGE | BPF_K, c->ranges[middle].start, 0, 1);
        emit(c, BPF_JMP | BPF_JA, (uint32_t)left, 0, 0);
    }
    emit_tree(c, low, middle - 1);
    emit_tree(c, middle, high);
}

static void add_rule(struct compiler *c, size_t index, int nr, bool second)
{
    const struct seccomp_rule *rule = &c->profile->rules[index];
    struct slot *slot = &c->slots[nr];
    int link = (int)(index + (second ? c->profile->n_rules : 0));
    if (rule->n_args == 0) {
        // An unconditional rule makes conditional ones for the same call moot, as libseccomp has it.
        if (!slot->decided)
            slot->action = rule->action;
        slot->decided = true;
        slot->first_link = slot->last_link = NO_LINK;
        return;
    }
    if (slot->decided)
        return;
    c->next_link[link] = NO_LINK;
    if (slot->last_link == NO_LINK)
        slot->first_link = link;
    else
        c->next_link[slot->last_link] = link;
    slot->last_link = link;
}

static bool permits(uint32_t action)
{
    return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
}

// Does the profile's author know what this number is? One who wrote before the call was made can't have meant
// to forbid it.
static bool foreseen(const struct seccomp_profile *p, enum seccomp_arch arch, int nr)
{
    return seccomp_number_known(arch, nr) &&
           (p->newest[arch] == 0 || seccomp_age(arch, nr) <= p->newest[arch]);
}

// Fills the slots for one architecture; with x86_64 also those of x32, which shares its numbers.
static void fill_slots(struct compiler *c, enum seccomp_arch arch)
{
    const struct seccomp_profile *p = c->profile;
    bool with_x32 = arch == SECCOMP_X86_64 && p->arches[SECCOMP_X32];
    // ENOSYS lets a C library use an older way, where EPERM would be the end. A profile that allows by
    // default stays open.
    uint32_t action = permits(p->default_action) ? p->default_action : SECCOMP_RET_ERRNO | ENOSYS;
    c->beyond = (struct slot){.action = action, .first_link = NO_LINK, .last_link = NO_LINK};
    for (int nr = 0; nr < SECCOMP_NR_MAX; nr++) {
        c->slots[nr] = c->beyond;
        if (foreseen(p, arch, nr) || (with_x32 && foreseen(p, SECCOMP_X32, nr)))
            c->slots[nr].action = p->default_action;
    }
    for (size_t i = 0; i < p->n_rules; i++) {
        int nr = seccomp_number(arch, p->rules[i].name);
        if (nr >= 0 && nr < SECCOMP_NR_MAX)
            add_rule(c, i, nr, false);
        int x32 = with_x32 ? seccomp_number(SECCOMP_X32, p->rules[i].name) : -1;
        if (x32 >= 0 && x32 < SECCOMP_NR_MAX && x32 != nr)
            add_rule(c, i, x32, true);
    }
}

static bool same_fate(const struct slot *a, const struct slot *b)
{
    return a->first_link == NO_LINK && b->first_link == NO_LINK && a->action == b->action;
}

static void fill_ranges(struct compiler *c)
{
    c->n_ranges = 0;
    for (uint32_t nr = 0; nr <= SECCOMP_NR_MAX; nr++) {
        const struct slot *slot = nr < SECCOMP_NR_MAX ? &c->slots[nr] : &c->beyond;
        if (nr == 0 || !same_fate(slot, c->ranges[c->n_ranges - 1].slot))
            c->ranges[c->n_ranges++] = (struct range){.start = nr, .slot = slot};
    }
    for (size_t i = 0; i < c->n_ranges; i++) {
        size_t at = c->n;
        emit_slot(c, c->ranges[i].slot); // to see how long it is; overwritten
        c->ranges[i].size = c->n - at;
        c->n = at;
    }
}

static void emit_arch(struct compiler *c, enum seccomp_arch arch)
{
    fill_slots(c, arch);
    fill_ranges(c);
    emit_load(c, OFFSET_NR);
    if (arch == SECCOMP_X86_64) {
        if (c->profile->arches[SECCOMP_X32]) {
            emit(c, BPF_ALU | BPF_AND | BPF_K, ~X32_BIT, 0, 0);
        } else {
            // Number -1 has the bit too: it is what a tracer sets to have a call skipped.
            emit(c, BPF_JMP | BPF_JSET | BPF_K, X32_BIT, 0, 2);
            emit(c, BPF_JMP | BPF_JEQ | BPF_K, UINT32_MAX, 1, 0);
            emit_return(c, SECCOMP_RET_KILL_PROCESS);
        }
    }
    emit_tree(c, 0, c->n_ranges - 1);
}

static void emit_program(struct compiler *c)
{
    static const struct {
        enum seccomp_arch arch;
        uint32_t audit;
    } arches[] = {{SECCOMP_X86_64, AUDIT_ARCH_X86_64},
                  {SECCOMP_AARCH64, AUDIT_ARCH_AARCH64},
                  {SECCOMP_X86, AUDIT_ARCH_I386}};
    emit_load(c, OFFSET_ARCH);
    for (size_t i = 0; i < ARRAY_SIZE(arches); i++) {
        if (!c->profile->arches[arches[i].arch])
            continue;
        emit(c, BPF_JMP | BPF_JEQ | BPF_K, arches[i].audit, 1, 0);
        size_t skip = c->n;
        emit(c, BPF_JMP | BPF_JA, 0, 0, 0);
        emit_arch(c, arches[i].arch);
        if (skip < BPF_MAXINSNS)
            c->code[skip].k = (uint32_t)(c->n - skip - 1);
    }
    emit_return(c, SECCOMP_RET_KILL_PROCESS);
}

int seccomp_compile(const struct seccomp_profile *p, struct buf *out, struct error *err)
{
    _cleanup_free_ struct compiler *c = calloc(1, sizeof(*c));
    _cleanup_free_ int *next = calloc(2 * p->n_rules + 1, sizeof(*next));
    if (!c || !next)
        return error_errno(err, ENOMEM, "compile the seccomp profile");
    c->profile = p;
    c->next_link = next;
    emit_program(c);
    if (c->n > BPF_MAXINSNS)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "the seccomp profile needs more than the %d instructions that the kernel takes",
                         BPF_MAXINSNS);
    int r = buf_append(out, c->code, c->n * sizeof(c->code[0]));
    return r < 0 ? error_errno(err, -r, "compile the seccomp profile") : 0;
}
