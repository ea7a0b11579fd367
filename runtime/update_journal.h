// Updates of resources that a crash of crispd cuts short are taken back at its next start: a cgroup has
// several files, and nobody can change them all at one instant. Before the first write, what they hold goes
// to a file beside the pod's run files (which end with the boot, as cgroups do), and with it what will be
// recorded once all is written. A file that is there at the start tells of an update that was cut short, or,
// if that is what is recorded, of one that was whole.
#ifndef RUNTIME_UPDATE_JOURNAL_H
#define RUNTIME_UPDATE_JOURNAL_H

#include "runtime/store.h"

#define UPDATE_JOURNAL_POD "pod" // its own; a container's has its id

struct update_journal {
    const struct pod *pod;
    const char *name;
    const ProtobufCMessage *record[2]; // what will be recorded; NULL: nothing
};
// A cgroup_journal_fn; arg: struct update_journal.
int update_journal_save(void *arg, const char *text, struct error *err);
// The update is over, as a whole or not at all.
void update_journal_drop(const struct update_journal *j);
// At the start, once the records are read: of a pod and its containers.
void update_journal_recover(struct runtime *rt, struct pod *pod);

#endif
