// Notices changes of a directory that may not exist yet, or be replaced: each folder on the way to it is
// watched for the next one's coming and going.
#ifndef CNI_WATCH_H
#define CNI_WATCH_H

#include <stdbool.h>

struct cni_watch;

// Watches dir (absolute) and, if not NULL, its folder `sub`. Changes made after this returned are seen. NULL
// when inotify isn't to be had (its limits are per user and can be used up): poll then.
struct cni_watch *cni_watch_new(const char *dir, const char *sub);
void cni_watch_free(struct cni_watch *watch);    // NULL is fine
int cni_watch_fd(const struct cni_watch *watch); // readable on events, wanted or not
// Takes the events that are there: was one of them a change of the directory?
bool cni_watch_changed(struct cni_watch *watch);

#endif
