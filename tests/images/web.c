/*
 * A web server that stands in for nginx and httpd in test images. As "nginx" it writes
 * /var/run/nginx.pid and shows "master process" in its command line; as "httpd" it prints
 * a line that names it. Answers every request with a short page. `-p PORT` instead of port 80.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void on_signal(int sig)
{
    (void)sig;
    _exit(0);
}

static int listen_on(int port)
{
    int off = 0, on = 1;
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
    struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, (struct sockaddr *)&any6, sizeof(any6)) == 0 && listen(fd, 64) == 0)
            return fd;
        close(fd);
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&any4, sizeof(any4)) || listen(fd, 64)) {
        fprintf(stderr, "cannot listen on port %d: %s\n", port, strerror(errno));
        exit(1);
    }
    return fd;
}

static void answer(int fd, const char *name)
{
    struct timeval limit = {.tv_sec = 5};
    char request[4096], reply[512];
    size_t have = 0;
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    while (have < sizeof(request) - 1 && (n = read(fd, request + have, sizeof(request) - 1 - have)) > 0) {
        have += (size_t)n;
        request[have] = '\0';
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    if (have == 0)
        return;
    int len = snprintf(reply, sizeof(reply),
                       "HTTP/1.1 200 OK\r\nServer: %s\r\nContent-Type: text/html\r\nContent-Length: %zu\r\n"
                       "Connection: close\r\n\r\nWelcome to %s!\n",
                       name, strlen("Welcome to !\n") + strlen(name), name);
    if (write(fd, reply, (size_t)len) == len)
        shutdown(fd, SHUT_WR);
    while (read(fd, request, sizeof(request)) > 0) /* so that the peer gets a FIN and no RST */
        ;
}

/* The arguments lie one after the other: overwriting them changes /proc/PID/cmdline (no longer than they
 * are). */
static void set_title(int argc, char **argv, const char *title)
{
    size_t room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]) + 1;
    char copy[256];

    snprintf(copy, sizeof(copy), "%s", title);
    memset(argv[0], 0, room);
    memcpy(argv[0], copy, strlen(copy) < room ? strlen(copy) : room - 1);
}

int main(int argc, char **argv)
{
    const char *base = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    bool nginx = strncmp(base, "nginx", 5) == 0;
    const char *name = nginx ? "nginx" : "httpd";
    int port = 80;

    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "-p") == 0)
            port = atoi(argv[i + 1]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGQUIT, on_signal);
    signal(SIGINT, on_signal);
    int fd = listen_on(port);
    prctl(PR_SET_NAME, name);
    if (nginx) {
        FILE *pid = fopen("/var/run/nginx.pid", "w");
        if (pid) {
            fprintf(pid, "%d\n", (int)getpid());
            fclose(pid);
        }
        set_title(argc, argv, "master process nginx");
    } else {
        fprintf(stderr,
                "[mpm_event:notice] AH00489: httpd (stand-in) configured -- resuming normal operations\n");
    }
    for (;;) {
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0)
            continue;
        answer(peer, name);
        close(peer);
    }
}
