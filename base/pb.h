// protobuf-c helpers: packing, deep copies, frames over stream sockets with descriptors attached.
#ifndef BASE_PB_H
#define BASE_PB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/error.h"

// A message packed into fresh memory (the caller frees): 0 or -ENOMEM.
int pb_pack(const ProtobufCMessage *m, uint8_t **data, size_t *len);
// Deep copy into arena (NULL: malloc, free with protobuf_c_message_free_unpacked). NULL on ENOMEM.
ProtobufCMessage *pb_dup(const ProtobufCMessage *m, struct arena *arena);
bool pb_equal(const ProtobufCMessage *a,
              const ProtobufCMessage *b); // by packed bytes; maps as sorted, last wins
// Does m, or a message inside it, carry fields that this build doesn't know?
bool pb_has_unknown(const ProtobufCMessage *m);
// Replaces every string that is not valid UTF-8 in m (recursively) by a sanitised copy from arena: one bad
// label would otherwise make a Go client reject a whole list. 0 or -ENOMEM.
int pb_sanitize(ProtobufCMessage *m, struct arena *arena);

// Frames: u32 length (little endian), then the packed message. Descriptors travel with the first byte.
#define PB_FRAME_MAX     (4u << 20) // bytes of one packed message
#define PB_FRAME_FDS_MAX 8

// Blocking send of one whole frame (EINTR and short writes handled; MSG_NOSIGNAL). The fds stay the caller's.
// -ETIMEDOUT when a blocking socket's SO_SNDTIMEO is over; half a frame may have gone then.
int pb_frame_send(int sock, const ProtobufCMessage *m, const int *fds, size_t n_fds, struct error *err);

// Receiving, for blocking and non-blocking sockets alike: feed, then take.
struct pb_frame_reader {
    uint8_t *data;
    size_t len, alloc;
    int fds[PB_FRAME_FDS_MAX];
    size_t n_fds;
};
void pb_frame_reader_init(struct pb_frame_reader *r);
void pb_frame_reader_done(struct pb_frame_reader *r); // closes descriptors that nobody took
// One recvmsg(2): bytes read, 0 at EOF, -EAGAIN, -errno; -EPROTO for a frame over PB_FRAME_MAX.
long pb_frame_reader_feed(struct pb_frame_reader *r, int sock);
// A whole frame, if one is there: 1 and *m (unpacked with alloc, may be NULL) and its descriptors moved to
// fds (the caller's; *n_fds in: room, out: count); 0 if more bytes are needed; -EPROTO when it won't unpack.
int pb_frame_reader_take(struct pb_frame_reader *r, const ProtobufCMessageDescriptor *desc,
                         ProtobufCAllocator *alloc, ProtobufCMessage **m, int *fds, size_t *n_fds);

#endif
