// syscalls [ABI:NUMBER:ARGUMENT]...: what the filters of this process say of each system call, a line "ABI
// NUMBER VERDICT" each, and of those asked for "ABI:NUMBER:ARGUMENT VERDICT". VERDICT: allow, EPERM, ENOSYS,
// errno N, or the signal that killed the caller ("uretprobe" has no filter in newer kernels, and kills
// whoever calls it).
//
// No call is executed, so that reboot and exit can be tried like any other: a further filter sends those with
// a mark in their last argument to a listener, which answers with an errno that no filter gives. The kernel
// does what the most severe of all filters says, and asking a listener is less severe than an errno or death:
// what reaches the listener is what all other filters allow.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK    0x5ca11ab1
#define ALLOWED 4000 // an errno, as far as the kernel is concerned
#define NUMBERS 600
#define X32     0x40000000
#define UNTRIED 1

enum abi { X86_64, I386, X32_ABI, ABIS };
static const char *const abi_names[ABIS] = {"x86_64", "i386", "x32"};

struct probe {
    enum abi abi;
    long nr, arg;
    const char *asked; // as the user wrote it; NULL: one of all
};

static void fail(const char *what)
{
    fprintf(stderr, "syscalls: %s: %s\n", what, strerror(errno));
    exit(1);
}

// The registers that carry the mark are cleared at once: the C library's own calls leave them as they are.
static long try_64(long nr, long arg)
{
    long result;
    register long mark __asm__("r9") = MARK;
    register long fourth __asm__("r10") = 0;
    register long fifth __asm__("r8") = 0;
    __asm__ volatile("syscall\n\txor %%r9d, %%r9d"
                     : "=a"(result), "+r"(mark)
                     : "0"(nr), "D"(arg), "S"(0L), "d"(0L), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
}

static long try_32(long nr, long arg)
{
    int result;
    __asm__ volatile("sub $128, %%rsp\n\t" // the red zone stays as it is
                     "push %%rbp\n\tmov %2, %%ebp\n\tint $0x80\n\tpop %%rbp\n\tadd $128, %%rsp"
                     : "=a"(result)
                     : "0"((int)nr), "i"(MARK), "b"((int)arg), "c"(0), "d"(0), "S"(0), "D"(0)
                     : "r8", "r9", "r10", "r11", "memory");
    return result;
}

static long try_probe(const struct probe *p)
{
    switch (p->abi) {
    case I386:
        return try_32(p->nr, p->arg);
    case X32_ABI:
        return try_64(p->nr | X32, p->arg);
    default:
        return try_64(p->nr, p->arg);
    }
}

static int install_listener(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        fail("no_new_privs");
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (fd < 0)
        fail("seccomp");
    return fd;
}

// Answers until the caller has ended: end is the end of a pipe that it holds.
static void answer(int listener, int end)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = listener, .events = POLLIN}, {.fd = end, .events = POLLIN}};
        if (poll(fds, 2, 60000) <= 0)
            fail("wait for a call");
        if (fds[0].revents & POLLIN) {
            struct seccomp_notif call = {0};
            if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
                continue; // the caller has gone
            struct seccomp_notif_resp response = {.id = call.id, .error = -ALLOWED};
            (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
        } else if (fds[1].revents) {
            return;
        }
    }
}

// Tries all that is untried; a child does it, which may be killed by what it tries. False: it was, and next
// says where.
static int run_child(const struct probe *probes, size_t n, long *results, volatile size_t *next, int listener,
                     int *status)
{
    int ends[2];
    if (pipe(ends) < 0)
        fail("pipe");
    pid_t pid = fork();
    if (pid < 0)
        fail("fork");
    if (pid == 0) {
        close(ends[0]);
        for (; *next < n; (*next)++)
            results[*next] = try_probe(&probes[*next]);
        _exit(0);
    }
    close(ends[1]);
    answer(listener, ends[0]);
    close(ends[0]);
    if (waitpid(pid, status, 0) != pid)
        fail("wait");
    return WIFEXITED(*status);
}

static void report(const struct probe *p, long result)
{
    if (p->asked)
        printf("%s ", p->asked);
    else
        printf("%s %ld ", abi_names[p->abi], p->nr);
    if (result == -ALLOWED)
        printf("allow\n");
    else if (result == -EPERM)
        printf("EPERM\n");
    else if (result == -ENOSYS)
        printf("ENOSYS\n");
    else if (result > UNTRIED)
        printf("signal %ld\n", result - UNTRIED);
    else
        printf("errno %ld\n", -result);
}

static struct probe parse(const char *text)
{
    struct probe p = {.asked = text};
    char *end;
    for (int abi = 0; abi < ABIS; abi++) {
        size_t len = strlen(abi_names[abi]);
        if (strncmp(text, abi_names[abi], len) != 0 || text[len] != ':')
            continue;
        p.abi = (enum abi)abi;
        p.nr = strtol(text + len + 1, &end, 0);
        p.arg = *end == ':' ? (long)strtoul(end + 1, NULL, 0) : 0;
        return p;
    }
    fprintf(stderr, "syscalls: \"%s\" is not ABI:NUMBER:ARGUMENT\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    static struct probe probes[ABIS * NUMBERS + 256];
    size_t n = 0;
    for (int abi = 0; abi < ABIS; abi++) {
        for (long nr = 0; nr < NUMBERS; nr++)
            probes[n++] = (struct probe){.abi = (enum abi)abi, .nr = nr};
    }
    for (int i = 1; i < argc && n < sizeof(probes) / sizeof(probes[0]); i++)
        probes[n++] = parse(argv[i]);

    size_t size = (n + 1) * sizeof(long);
    long *results = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED)
        fail("mmap");
    volatile size_t *next = (volatile size_t *)&results[n];
    int listener = install_listener(), status;
    while (!run_child(probes, n, results, next, listener, &status)) {
        results[*next] = UNTRIED + (WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        (*next)++;
    }
    for (size_t i = 0; i < n; i++)
        report(&probes[i], results[i]);
    return fflush(stdout) == 0 ? 0 : 1;
}
