// For tests: a crisp-pod of one's own, spoken to as crispd does, with a busybox root and cgroups.
#ifndef RUNTIME_POD_TESTKIT_H
#define RUNTIME_POD_TESTKIT_H

#include "base/testing.h"

#include <sys/types.h>

#include "api/pod/pod.pb-c.h"
#include "base/arena.h"
#include "base/pb.h"

#define KIT_EVENTS_MAX 64
#define KIT_HOST_ID    300000 // a user namespace's root, as the host sees it
#define KIT_IDS        65536

#define NEED_KIT(k)                                                                                          \
    do {                                                                                                     \
        if (!(k)->pid)                                                                                       \
            TESTING_SKIP("needs root and /bin/busybox");                                                     \
    } while (0)

struct kit {
    char scratch[256], dir[300], layers[300], log[300];
    pid_t pid;
    int sock;
    uint64_t last_id;
    struct pb_frame_reader reader;
    struct arena *arena; // of everything that one test makes and receives
    Pod__Event *events[KIT_EVENTS_MAX];
    size_t n_events;
    char cgroup_name[64];
    bool user_ns; // set before kit_make_pod(): with a user namespace, KIT_HOST_ID and KIT_IDS
    int reply_fds[PB_FRAME_FDS_MAX]; // of the last reply
    size_t n_reply_fds;
};

void kit_run_tool(const char *const argv[]); // to its end, which must be a good one
bool kit_possible(void);                     // root, and busybox is there; else the tests skip
// cmocka's setup and teardown: *state is a struct kit. The teardown ends crisp-pod and checks that nothing is
// left: no process, cgroup, mount.
int kit_setup(void **state);
int kit_teardown(void **state);

void kit_remove_cgroups(struct kit *k);
int kit_connect(struct kit *k); // to the pod's socket, as after a restart; replaces k->sock
Pod__Reply *kit_call(struct kit *k, Pod__Request *r, const int *fds, size_t n_fds);
void kit_send(struct kit *k, Pod__Request *r, const int *fds, size_t n_fds);
Pod__Reply *kit_receive(struct kit *k, uint64_t id);
Pod__Reply *kit_make_pod(struct kit *k, bool shared_pid); // SetupRequest with new namespaces
void kit_need_pod(struct kit *k);                         // the same, which must not fail

Pod__LaunchPlan *kit_plan(struct kit *k, const char *const *argv); // NULL-terminated; root as "root"
Pod__LaunchPlan *kit_plan_sh(struct kit *k, const char *script);
Pod__StartRequest *kit_start_request(struct kit *k, const char *id, const Pod__LaunchPlan *plan);
Pod__Reply *kit_start(struct kit *k, const char *id, const Pod__LaunchPlan *plan);
void kit_add_mount(struct kit *k, Pod__LaunchPlan *plan, const char *type, const char *source,
                   const char *destination, const char *data, uint64_t flags);
// A container's cgroups: v1 where the host has those, else v2; a v2 one in any case.
Pod__CgroupPlace *kit_place(struct kit *k, const char *id);
Pod__CgroupPlace *kit_place_v2(struct kit *k, const char *id); // NULL on a host without a v2 tree
bool kit_freeze(struct kit *k, const Pod__CgroupPlace *place, bool freeze);             // false: can't be
bool kit_limit_memory(struct kit *k, const Pod__CgroupPlace *place, const char *bytes); // the same
const char *kit_exec_dir(struct kit *k, const char *id); // below which a container's execs have their cgroups
Pod__ExitRecord *kit_wait_exit(struct kit *k, const char *id);
Pod__ExecExit *kit_wait_exec(struct kit *k, const char *exec_id);
void kit_kill(struct kit *k, const char *id, int signal, bool all);
// Runs a script to its end: the exit record; *log: the file's text (the arena's).
Pod__ExitRecord *kit_run_sh(struct kit *k, const char *id, const char *script, char **log);
// Starts a container that must start, and waits for its end: the text of its log.
const char *kit_run_plan(struct kit *k, const char *id, const Pod__LaunchPlan *plan);
char *kit_log_text(struct kit *k, const char *id); // the log's lines without their heads
char *kit_log_raw(struct kit *k, const char *id);
Pod__ExecRequest *kit_exec_request(struct kit *k, const char *id, const char *exec_id, const char *script);

#endif
