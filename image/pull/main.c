// crisp-pull: fetches and unpacks one image for crispd, which starts it with a socket as descriptor 3. Not
// for people: it has no options and reads no configuration.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "image/pull/session.h"
#include "image/pull/unpack.h"

#define CRISPD_FD 3

static int check_start(int argc, char **argv)
{
    int type;
    socklen_t len = sizeof(type);

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("crisp-pull " CRISP_VERSION);
        return 1;
    }
    if (argc == 1 && getsockopt(CRISPD_FD, SOL_SOCKET, SO_TYPE, &type, &len) == 0)
        return 0;
    fputs("crisp-pull is started by crispd to pull an image; there is nothing to do with it by hand.\n",
          stderr);
    return -1;
}

int main(int argc, char **argv)
{
    const struct rlimit no_core = {0, 0};
    struct error err = ERROR_INIT;
    int r = check_start(argc, argv);

    if (r != 0)
        return r < 0 ? 2 : 0;
    // It will hold credentials: neither a core dump nor a debugger of the same user shall see them. And it
    // ends with the thread of crispd that started it.
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)signal(SIGPIPE, SIG_IGN);

    // Before anything else, so that unpacking children inherit nothing worth having.
    int forker = unpack_forker_start(&err);
    if (forker < 0) {
        fprintf(stderr, "crisp-pull: %s\n", err.message);
        return 1;
    }
    return session_run(CRISPD_FD, forker);
}
