// Plugins that outlived a daemon that was killed.
#ifndef CNI_ORPHAN_H
#define CNI_ORPHAN_H

// Kills every process that runs a plugin for this container (its environment says so; nothing else tells it)
// and waits until it is gone, at most two seconds: an ADD that went on behind a DEL's back would leave what
// it makes. Only for container ids that are unique on this machine. The number of processes killed.
int cni_orphan_kill(const char *container_id);

#endif
