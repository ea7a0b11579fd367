// Unpacking children: where a layer's bytes meet a parser, and nothing worth stealing.
//
// They are forked by a process that was itself forked before crisp-pull read its request: no credentials, no
// tokens and no connections are in their memory.
#ifndef IMAGE_PULL_UNPACK_H
#define IMAGE_PULL_UNPACK_H

#include "api/pull/pull.pb-c.h"
#include "base/error.h"

// Forks the forker; to be called first of all. Returns the socket to ask it by, or -errno. It dies with the
// calling process.
int unpack_forker_start(struct error *err);

// Has a child forked that unpacks into dir (which exists) what is written to *data_fd (non-blocking; to be
// closed only after all was written and found right: its end is the end of the layer). *event_fd: a socket
// from which UnpackEvents are read, non-blocking, until `done` or `failed`.
int unpack_start(int forker, const char *dir, const Pull__Limits *limits, int *data_fd, int *event_fd,
                 struct error *err);

// Has a child forked that writes the layer in dir as a tar (layer_tar.h) to the pipe whose end *data_fd is.
// What it says at *event_fd (both blocking) when the pipe has ended is `done` or `failed`.
int unpack_start_reader(int forker, const char *dir, int *data_fd, int *event_fd, struct error *err);

#endif
