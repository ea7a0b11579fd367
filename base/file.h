// Files and directories. Every descriptor is O_CLOEXEC. Paths that lead into a container's root are only
// ever resolved by file_open_in_root().
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

// Whole file into a fresh string (NUL-terminated, *len without the NUL; len may be NULL). More than max
// bytes: -EFBIG. at: a directory fd or AT_FDCWD.
int file_read_at(int at, const char *path, size_t max, char **out, size_t *len, struct error *err);
int file_read(const char *path, size_t max, char **out, size_t *len, struct error *err);
// The same of a path that somebody else chose: never blocks on a FIFO or device; anything but a regular file
// is INVALID_ARGUMENT.
int file_read_regular(const char *path, size_t max, char **out, size_t *len, struct error *err);
// Plain open-write-close of an existing file, for /proc, /sys and cgroup files (no O_CREAT, one write).
int file_write_existing(const char *path, const char *text, struct error *err);
// tmp in the same folder, write, fsync (when sync), rename: readers see the old or the new file, whole.
int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode, bool sync,
                      struct error *err);
int file_mkdir_p(const char *path, mode_t mode, struct error *err); // existing directories are fine
// Removes a tree without following links or crossing into other file systems; absent is fine. Mounts inside
// make it fail with -EBUSY or -EXDEV and leave them alone.
int file_remove_tree(const char *path, struct error *err);
// fsync of a directory, so that a rename in it survives a power cut.
int file_sync_dir(const char *path, struct error *err);
// Resolves path inside root_fd as if it were "/" there: symlinks and ".." cannot leave it
// (openat2 RESOLVE_IN_ROOT, Linux 5.6; fails closed where it is missing). Returns an fd or -errno.
int file_open_in_root(int root_fd, const char *path, int flags, mode_t mode, struct error *err);
// As mkdir -p inside a root; missing components get `mode`. Returns an O_PATH fd of the last one.
// Below root_fd, and through no symbolic link at all: for paths that are told to be without. An fd or -errno.
int file_open_beneath(int root_fd, const char *path, int flags);
int file_mkdir_p_in_root(int root_fd, const char *path, mode_t mode, struct error *err);

// I/O that finishes: retries on EINTR and short counts. 0 or -errno (-EPIPE etc.).
int file_write_all(int fd, const void *data, size_t len);
// Reads exactly len bytes: 0, -ENODATA at early EOF, -errno.
int file_read_exact(int fd, void *data, size_t len);

#endif
