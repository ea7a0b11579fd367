// Scope-bound release: `_cleanup_(fd_closep) int fd = -1;`. steal_fd()/steal_ptr() hand ownership out.
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f)   __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(free_ptr)
#define _cleanup_fd_   _cleanup_(fd_closep)

static inline void free_ptr(void *p)
{
    free(*(void **)p);
}

static inline void fd_closep(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static inline void dir_closep(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
    *dir = NULL;
}

static inline void file_closep(FILE **file)
{
    if (*file)
        (void)fclose(*file);
    *file = NULL;
}

static inline int steal_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

static inline void *steal_ptr_(void *pp)
{
    void *taken = *(void **)pp;
    *(void **)pp = NULL;
    return taken;
}
#define steal_ptr(pp) ((__typeof__(*(pp)))steal_ptr_(pp))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
