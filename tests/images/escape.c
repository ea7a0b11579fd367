/* What a hostile process in a container tries. Each command prints what it got; the tests judge that. */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* fds: the descriptors that this process was given. */
static int fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    char target[512];

    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(dir))
            continue;
        ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
        printf("%s %.*s\n", e->d_name, n < 0 ? 0 : (int)n, target);
    }
    return 0;
}

static unsigned long long capabilities(pid_t pid)
{
    unsigned long long caps = 0;
    char path[64], line[256];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "CapPrm: %llx", &caps) == 1)
            break;
    if (f)
        fclose(f);
    return caps;
}

/* Is this (readable) link of the process other than our own? */
static int differs(pid_t pid, const char *name)
{
    char path[64], mine[64], a[512] = "", b[512] = "";

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    snprintf(mine, sizeof(mine), "/proc/self/%s", name);
    return readlink(path, a, sizeof(a) - 1) > 0 && readlink(mine, b, sizeof(b) - 1) > 0 && strcmp(a, b) != 0;
}

#define TRIES_MAX 4000

struct prey {
    int traced, early, refused, outside, opened;
    unsigned long long caps;
};

/* Takes hold of a process that has just appeared. Early: it does not run a program of the container yet. */
static int grab(pid_t pid, struct prey *c)
{
    char path[64];
    int status;

    long seized = ptrace(PTRACE_SEIZE, pid, NULL, NULL);

    if (seized < 0 && errno == ESRCH)
        return 0;
    c->refused += seized < 0; /* and again: it may become weaker before it executes */
    for (int i = 0; seized < 0 && errno == EPERM && i < TRIES_MAX; i++)
        seized = ptrace(PTRACE_SEIZE, pid, NULL, NULL);
    if (seized < 0) {
        snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && differs(pid, "exe"))
            c->opened++;
        if (fd >= 0)
            close(fd);
        return 1;
    }
    c->traced++;
    if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0)
        (void)waitpid(pid, &status, __WALL);
    if (differs(pid, "exe")) {
        c->early++;
        c->caps |= capabilities(pid);
        c->outside += differs(pid, "ns/mnt");
    }
    (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return 1;
}

/* tracer SECONDS: attaches to every process that appears in this pid namespace, as early as it can. */
static int tracer(double seconds)
{
    struct prey c = {0};
    double end = now() + seconds;
    pid_t last = fork();

    if (last == 0)
        _exit(0);
    (void)waitpid(last, NULL, 0);
    printf("ready\n");
    fflush(stdout);
    for (unsigned turn = 0; (turn & 1023) || now() < end; turn++)
        for (pid_t pid = last + 1; pid <= last + 4; pid++)
            if (grab(pid, &c))
                last = pid;
    printf("traced=%d early=%d refused=%d outside=%d opened=%d caps=%llx\n", c.traced, c.early, c.refused,
           c.outside, c.opened, c.caps);
    return 0;
}

static void attempt(const char *what, long result)
{
    printf("%s %s\n", what, result < 0 ? strerrordesc_np(errno) : "SUCCEEDED");
}

/* watch SECONDS: looks for a process whose program isn't a file of this container, keeps it open for reading,
   and when that process is gone tries to write to it, and to change its mode, owner, times and attributes. */
static int watch(double seconds)
{
    double end = now() + seconds;
    char path[64];
    int held = -1;
    struct stat own, st;

    if (stat("/proc/self/exe", &own) < 0)
        return 1;
    printf("ready\n");
    fflush(stdout);
    for (pid_t pid = 1; held < 0 && now() < end; pid = pid % 400 + 1) {
        snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev != own.st_dev)
            held = fd;
        else if (fd >= 0)
            close(fd);
    }
    if (held < 0) {
        printf("nothing\n");
        return 0;
    }
    (void)poll(NULL, 0, 500);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", held);
    printf("held %llo\n", (unsigned long long)st.st_mode);
    attempt("write", open(path, O_WRONLY | O_CLOEXEC));
    attempt("truncate", truncate(path, 0));
    attempt("chmod", fchmod(held, 0));
    attempt("chown", fchown(held, 1, 1));
    attempt("times", futimens(held, NULL));
    attempt("link", linkat(AT_FDCWD, path, AT_FDCWD, "/linked", AT_SYMLINK_FOLLOW));
    return 0;
}

/* swap A B SECONDS: two names change places all the time. */
static int swap(const char *a, const char *b, double seconds)
{
    double end = now() + seconds;

    printf("ready\n");
    fflush(stdout);
    for (unsigned turn = 0; (turn & 255) || now() < end; turn++)
        (void)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
    return 0;
}

/* A system call of a process that is stopped within one: that instruction once more, with other registers. */
static long inject(pid_t pid, long nr, long argument)
{
    struct user_regs_struct regs, kept;
    struct iovec all = {&regs, sizeof(regs)};
    int status;

    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &all) < 0)
        return -errno;
    kept = regs;
#if defined(__x86_64__)
    regs.orig_rax = (unsigned long long)-1;
    regs.rip -= 2;
    regs.rax = (unsigned long long)nr;
    regs.rdi = (unsigned long long)argument;
#else
    regs.pc -= 4;
    regs.regs[8] = (unsigned long long)nr;
    regs.regs[0] = (unsigned long long)argument;
#endif
    if (ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &all) < 0 ||
        ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, __WALL) != pid ||
        !WIFSTOPPED(status) || ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &all) < 0)
        return -ESRCH;
#if defined(__x86_64__)
    long result = (long)regs.rax;
#else
    long result = (long)regs.regs[0];
#endif
    all.iov_base = &kept;
    (void)ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &all);
    return result;
}

static void injected(pid_t pid, const char *what, long nr, long argument)
{
    long result = inject(pid, nr, argument);

    printf("%s %s\n", what, result < 0 ? strerrordesc_np((int)-result) : "SUCCEEDED");
}

/* puppet PID: makes a process call what this one's own filter forbids it. */
static int puppet(pid_t pid)
{
    int status;

    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 ||
        waitpid(pid, &status, __WALL) != pid) {
        printf("trace %s\n", strerrordesc_np(errno));
        return 0;
    }
    printf("trace SUCCEEDED\n");
    injected(pid, "read", SYS_read, -1); /* what it may */
    injected(pid, "unshare", SYS_unshare, CLONE_NEWUSER);
    injected(pid, "mmap", SYS_mmap, 0);
    injected(pid, "userfaultfd", SYS_userfaultfd, 0);
    (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "fds") == 0)
        return fds();
    if (strcmp(what, "nap") == 0)
        return poll(NULL, 0, 5);
    if (strcmp(what, "tracer") == 0 && argc > 2)
        return tracer(atof(argv[2]));
    if (strcmp(what, "puppet") == 0 && argc > 2)
        return puppet(atoi(argv[2]));
    if (strcmp(what, "watch") == 0 && argc > 2)
        return watch(atof(argv[2]));
    if (strcmp(what, "swap") == 0 && argc > 4)
        return swap(argv[2], argv[3], atof(argv[4]));
    if (strcmp(what, "chmod") == 0 && argc > 2)
        attempt("chmod", chmod(argv[2], 0));
    if (strcmp(what, "chmod-stdin") == 0)
        attempt("chmod", fchmod(0, 0));
    if (strcmp(what, "open") == 0 && argc > 2)
        attempt("open", open(argv[2], O_RDWR | O_CLOEXEC));
    return 0;
}
