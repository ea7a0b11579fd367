// A `crisp run` in the making. Its parts: the command line (run.c, run_options.c), CRI's messages
// (run_config.c and its topics), making pod and container (run_make.c), following (run_follow.c), and
// clearing up (run_clean.c).
#ifndef CRI_CLIENT_RUN_H
#define CRI_CLIENT_RUN_H

#include <stdbool.h>

#include "cri/client/cli.h"
#include "cri/client/run_config.h"

struct run {
    struct cli *cli;
    // What was asked for; the words are argv's.
    struct run_options options;
    struct run_config config;
    const char *image;
    char **args; // NULL-terminated
    char *name;  // of the pod and the container; made up if not given
    // What was made.
    char label[33]; // RUN_LABEL_ID: finds the pod again when the answer that named it got lost
    char *pod_uid;  // follows from the name, so that CRI itself lets no two pods have it
    char *log_dir;
    char *pod_id;
    char *container_id;
    int cid_fd;     // of --cidfile
    bool pod_asked; // RunPodSandbox was sent, whatever came back
    bool started;
    int start_code; // the exit code of a failure: CLI_EXIT_RUN_FAILED unless the command is to blame
};

// Image, log folder, pod, container, start. On failure what was made is for run_clean_up().
int run_make(struct run *r, struct error *err);
// Chooses ids of the host that no other pod has (--userns auto).
int run_choose_ids(struct run *r, struct error *err);
// Passes the container's output on until it has exited. SIGINT and SIGTERM stop it; a second one at once.
// Returns the exit code, or -errno.
int run_follow(struct run *r, struct error *err);
// Removes pod, container and logs if that was asked for or the container never started; else stops the pod.
// Failures are told on stderr. 0 or -1.
int run_clean_up(struct run *r);

// The exit code of a container that couldn't be started, from the runtime's words: 127 (no such command), 126
// (it can't be executed), else `other`.
int run_code_of_start_error(const char *message, int other);

#endif
