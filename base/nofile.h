// The limit of open files. The daemon raises its own soft limit to the hard one; what it starts, and the
// containers below that, get the one that it was started with: programs that close every possible descriptor
// take minutes under a limit of a million, and select(2) breaks above 1024.
#ifndef BASE_NOFILE_H
#define BASE_NOFILE_H

#include <sys/types.h>

// Raises the soft limit and remembers what it was. Before any other thread runs.
void nofile_raise(void);
// Gives a child that was just started the remembered limit. Does nothing unless it was raised.
void nofile_restore(pid_t child);

#endif
