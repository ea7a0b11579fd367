#include "base/pb.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

int pb_pack(const ProtobufCMessage *m, uint8_t **data, size_t *len)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *out = malloc(size ? size : 1);

    if (!out)
        return -ENOMEM;
    *len = protobuf_c_message_pack(m, out);
    *data = out;
    return 0;
}

ProtobufCMessage *pb_dup(const ProtobufCMessage *m, struct arena *arena)
{
    uint8_t *data;
    size_t len;

    if (pb_pack(m, &data, &len) < 0)
        return NULL;
    ProtobufCMessage *copy =
        protobuf_c_message_unpack(m->descriptor, arena ? arena_pb(arena) : NULL, len, data);
    free(data);
    return copy;
}

// Walking a message by its descriptor. A visitor sees each message before what is inside it.

static const void *field_at(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    return (const char *)m + f->offset;
}

static size_t field_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    unsigned quantifier;

    memcpy(&quantifier, (const char *)m + f->quantifier_offset, sizeof(quantifier));
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n;
        memcpy(&n, (const char *)m + f->quantifier_offset, sizeof(n));
        return n;
    }
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return quantifier == f->id;
    return 1;
}

// The pointers (messages or strings) that a field holds: the vector of a repeated one, else the field itself.
static void **field_pointers(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, size_t *n)
{
    *n = field_count(m, f);
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return *(void ***)field_at(m, f);
    return (void **)field_at(m, f);
}

bool pb_has_unknown(const ProtobufCMessage *m)
{
    if (m->n_unknown_fields > 0)
        return true;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        size_t n;
        void **values = field_pointers(m, f, &n);
        for (size_t j = 0; j < n; j++)
            if (values[j] && pb_has_unknown(values[j]))
                return true;
    }
    return false;
}

int pb_sanitize(ProtobufCMessage *m, struct arena *arena)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->type != PROTOBUF_C_TYPE_MESSAGE && f->type != PROTOBUF_C_TYPE_STRING)
            continue;
        size_t n;
        void **values = field_pointers(m, f, &n);
        for (size_t j = 0; j < n; j++) {
            if (!values[j])
                continue;
            if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
                int rc = pb_sanitize(values[j], arena);
                if (rc < 0)
                    return rc;
            } else if (!str_is_utf8(values[j])) {
                char *clean = str_sanitize_utf8(values[j]);
                char *kept = arena_strdup(arena, clean);
                free(clean);
                if (!kept)
                    return -ENOMEM;
                values[j] = kept;
            }
        }
    }
    return 0;
}

// A map is a repeated message with fields key = 1 and value = 2 only, whose name ends in "Entry".
static bool is_map_field(const ProtobufCFieldDescriptor *f)
{
    if (f->label != PROTOBUF_C_LABEL_REPEATED || f->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *d = f->descriptor;
    return d->n_fields == 2 && str_eq(d->fields[0].name, "key") && str_eq(d->fields[1].name, "value") &&
           str_has_suffix(d->name, "Entry");
}

struct map_entry {
    void *message;
    size_t order;
};

static int compare_entries(const void *a, const void *b)
{
    const struct map_entry *x = a, *y = b;
    const ProtobufCMessage *mx = x->message, *my = y->message;
    const char *kx = *(char *const *)field_at(mx, &mx->descriptor->fields[0]);
    const char *ky = *(char *const *)field_at(my, &my->descriptor->fields[0]);
    int c = strcmp(kx ? kx : "", ky ? ky : "");

    return c ? c : x->order < y->order ? -1 : x->order > y->order;
}

// Sorts a string-keyed map's entries by key and drops all but the last of equal keys.
static int canonical_map(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    size_t n, kept = 0;
    void **values = field_pointers(m, f, &n);
    const ProtobufCMessageDescriptor *d = f->descriptor;

    if (n < 2 || d->fields[0].type != PROTOBUF_C_TYPE_STRING)
        return 0;
    struct map_entry *entries = calloc(n, sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        entries[i] = (struct map_entry){.message = values[i], .order = i};
    qsort(entries, n, sizeof(*entries), compare_entries);
    for (size_t i = 0; i < n; i++) {
        const ProtobufCMessage *a = entries[i].message, *b = i + 1 < n ? entries[i + 1].message : NULL;
        if (b &&
            str_eq(*(char *const *)field_at(a, &d->fields[0]), *(char *const *)field_at(b, &d->fields[0])))
            continue;
        values[kept++] = entries[i].message;
    }
    free(entries);
    memcpy((char *)m + f->quantifier_offset, &kept, sizeof(kept));
    return 0;
}

static int canonicalize(ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if (is_map_field(f)) {
            int rc = canonical_map(m, f);
            if (rc < 0)
                return rc;
        }
        size_t n;
        void **values = field_pointers(m, f, &n);
        for (size_t j = 0; j < n; j++) {
            int rc = values[j] ? canonicalize(values[j]) : 0;
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

// The packed form of m with its maps in order, allocated in arena. NULL on ENOMEM.
static uint8_t *pack_canonical(const ProtobufCMessage *m, struct arena *arena, size_t *len)
{
    ProtobufCMessage *copy = pb_dup(m, arena);
    if (!copy || canonicalize(copy) < 0)
        return NULL;
    uint8_t *data = arena_alloc(arena, protobuf_c_message_get_packed_size(copy));
    if (data)
        *len = protobuf_c_message_pack(copy, data);
    return data;
}

bool pb_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    if (!a || !b)
        return a == b;
    if (a->descriptor != b->descriptor)
        return false;

    // SIZE_MAX: both are in memory already, so there's nothing to defend.
    struct arena *arena = arena_new(SIZE_MAX);
    size_t len_a = 0, len_b = 0;
    uint8_t *pa = arena ? pack_canonical(a, arena, &len_a) : NULL;
    uint8_t *pb = pa ? pack_canonical(b, arena, &len_b) : NULL;
    bool equal = pb && len_a == len_b && memcmp(pa, pb, len_a) == 0;
    arena_free(arena);
    return equal;
}
