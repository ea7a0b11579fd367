// crisp run, in its three parts: making (run_make.c), following (run_follow.c), and clearing up
// (run_clean.c).
#ifndef CRI_CLIENT_RUN_H
#define CRI_CLIENT_RUN_H

#include <stdbool.h>

#include "cri/client/cli.h"

#define RUN_ID_LABEL "crisp.run/id" // on the pod: finds it again when the answer that named it got lost

struct run {
    struct cli *cli;
    // What was asked for; the words are argv's.
    bool remove;
    char *name; // of the pod and the container; made up if not given
    char **env;
    const char *image;
    char **args; // NULL-terminated
    // What was made.
    char uid[33];
    char *log_dir;
    char *pod_id;
    char *container_id;
    bool pod_asked; // RunPodSandbox was sent, whatever came back
    bool started;
};

// Image, log folder, pod, container, start. On failure what was made is for run_clean_up().
int run_make(struct run *r, struct error *err);
// Passes the container's output on until it has exited. SIGINT and SIGTERM stop it; a second one at once.
// Returns the exit code, or -errno.
int run_follow(struct run *r, struct error *err);
// Removes pod, container and logs if that was asked for or the container never started; else stops the pod.
// Failures are told on stderr. 0 or -1.
int run_clean_up(struct run *r);

#endif
