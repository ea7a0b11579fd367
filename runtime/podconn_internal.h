// What podconn.c (calls) and podconn_monitor.c (the thread that reads for all of them) share.
#ifndef RUNTIME_PODCONN_INTERNAL_H
#define RUNTIME_PODCONN_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/podconn.h"

// What epoll points at; each connection has two.
struct source {
    enum { SOURCE_SOCKET, SOURCE_PROCESS } kind;
    struct podconn *conn;
};

struct podconn {
    atomic_uint refs;
    struct monitor *monitor;
    char *name;
    struct podconn_events events;
    void *data;
    int pidfd;
    struct source socket_source, process_source;

    pthread_mutex_t write_lock; // one frame at a time; taken before lock
    pthread_mutex_t lock;       // all below
    pthread_cond_t replied;     // monotonic clock
    int sock;                   // -1: broken. Only the monitor closes it
    uint64_t last_id;
    struct podconn_call *calls;

    struct pb_frame_reader reader; // the monitor's
    bool dead;                     // the monitor's: the process has ended
    struct podconn *next_dead;     // the monitor's
    struct podconn *next_watched;  // the monitor's lock
};

struct monitor {
    int epoll;
    int wake; // readable: end
    pthread_t thread;
    struct podconn *dead; // to be released once this round of events is through
    pthread_mutex_t lock;
    struct podconn *watched; // a reference of each
};

// The monitor's own reference, from podconn_new() to the end of the process, or the monitor's.
void monitor_keep(struct monitor *m, struct podconn *c);
void monitor_release(struct monitor *m, struct podconn *c);

#endif
