// Where two configurations differ, in CRI's words: for the ALREADY_EXISTS of a retry that isn't one.
#include "runtime/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pb.h"

#define DEPTH_MAX 8 // CRI's configs nest less deeply

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return sizeof(void *);
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

// A message that has this one field of m and nothing else; it borrows the value. The caller frees the shell.
static ProtobufCMessage *only_field(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    ProtobufCMessage *shell = calloc(1, m->descriptor->sizeof_message);
    if (!shell)
        return NULL;
    protobuf_c_message_init(m->descriptor, shell);
    memcpy((char *)shell + f->offset, (const char *)m + f->offset, element_size(f));
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        memcpy((char *)shell + f->quantifier_offset, (const char *)m + f->quantifier_offset, sizeof(size_t));
    return shell;
}

static bool field_equal(const ProtobufCMessage *a, const ProtobufCMessage *b,
                        const ProtobufCFieldDescriptor *f)
{
    ProtobufCMessage *x = only_field(a, f), *y = only_field(b, f);
    bool equal = x && y && pb_equal(x, y);
    free(x);
    free(y);
    return equal;
}

static void diff_at(const ProtobufCMessage *a, const ProtobufCMessage *b, char *path, size_t size,
                    unsigned depth)
{
    for (unsigned i = 0; i < a->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &a->descriptor->fields[i];
        if (field_equal(a, b, f))
            continue;
        int n = snprintf(path, size, "%s", f->name);
        if (f->type != PROTOBUF_C_TYPE_MESSAGE || f->label == PROTOBUF_C_LABEL_REPEATED ||
            depth == DEPTH_MAX || n < 0 || (size_t)n + 2 > size)
            return;
        const ProtobufCMessage *x = *(ProtobufCMessage *const *)((const char *)a + f->offset);
        const ProtobufCMessage *y = *(ProtobufCMessage *const *)((const char *)b + f->offset);
        if (!x || !y)
            return;
        path[n] = '.';
        path[n + 1] = '\0';
        diff_at(x, y, path + n + 1, size - (size_t)n - 1, depth + 1);
        if (path[n + 1] == '\0')
            path[n] = '\0'; // only unknown fields differ in there
        return;
    }
}

void config_diff(const ProtobufCMessage *a, const ProtobufCMessage *b, char *path, size_t size)
{
    path[0] = '\0';
    if (!pb_equal(a, b))
        diff_at(a, b, path, size, 0);
}
