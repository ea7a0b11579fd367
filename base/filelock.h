// The lock of a daemon on a file: flock(2), with the holder's pid in the file for people to read.
#ifndef BASE_FILELOCK_H
#define BASE_FILELOCK_H

#define FILELOCK_PID_SIZE 16

// Takes the lock on fd (open for writing) and writes this process's pid into the file; the lock holds without
// that (on a full disk), too. -EBUSY: somebody has it; -errno. It goes with the last copy of fd.
//
// A daemon that was killed while it was starting a helper leaves a copy of its descriptors in that one until
// its exec: the lock outlives the daemon by a moment. So a dead holder's lock is waited for, at most 3 s.
int filelock_take(int fd);

// The pid in the file, "" if there is none.
void filelock_holder(int fd, char pid[FILELOCK_PID_SIZE]);

#endif
