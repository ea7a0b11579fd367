// Plugins that outlived a daemon that was killed.
#ifndef CNI_ORPHAN_H
#define CNI_ORPHAN_H

// Sees every process to its end that runs a plugin for this container (its environment says so; nothing else
// tells it): an ADD that went on behind a DEL's back would leave what it makes. Plugins finish by themselves
// if they can, because half a DEL cannot be done again (bridge finds its firewall rules by the addresses of
// the interface that it removes first); one that is older than three seconds is killed, and its end awaited
// for at most two. Only for container ids that are unique on this machine. The number of processes killed.
int cni_orphan_end(const char *container_id);

#endif
