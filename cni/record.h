// Attachments on disk: one JSON file each, written before ADD runs and removed after DEL. It holds what DEL
// needs when configuration file, daemon or machine have gone through a change meanwhile.
//
// Files are replaced atomically but not fsynced: this is on the path of every pod, and after a power cut the
// kernel's part of an attachment is gone anyway; a file that didn't reach the disk costs at most an address
// that the IPAM plugin has reserved by a file that it didn't fsync either.
#ifndef CNI_RECORD_H
#define CNI_RECORD_H

#include <stdint.h>
#include <jansson.h>

#include "base/error.h"
#include "cni/conflist.h"

#define CNI_RECORD_MAX_BYTES ((size_t)4 << 20)

enum cni_record_state {
    CNI_RECORD_ADDING,   // ADD has begun and may have done anything
    CNI_RECORD_ATTACHED, // result is set
    CNI_RECORD_DELETING, // DEL was asked for and hasn't succeeded yet
};

struct cni_record {
    enum cni_record_state state;
    char *container_id, *ifname, *netns, *args;
    struct cni_conflist *list;
    json_t *capability_args; // or NULL
    json_t *result;          // or NULL
    int64_t created_ns;      // wall clock
};

void cni_record_done(struct cni_record *record);
// Writes DIR/CONTAINER_ID.json (0600; it can hold annotations).
int cni_record_save(const char *dir, const struct cni_record *record, struct error *err);
// NOT_FOUND; DATA_LOSS when the file isn't a record of this container.
int cni_record_load(const char *dir, const char *container_id, struct cni_record *record, struct error *err);
int cni_record_remove(const char *dir, const char *container_id, struct error *err); // absent is fine
// Puts an unreadable one aside as CONTAINER_ID.json.bad, for people to look at.
int cni_record_set_aside(const char *dir, const char *container_id, struct error *err);
// The container ids that have a record. A fresh vector (base/str.h).
int cni_record_list(const char *dir, char ***ids, struct error *err);
// Removes the temporary files that a crash in cni_record_save() left.
int cni_record_clean(const char *dir, struct error *err);
const char *cni_record_state_name(enum cni_record_state state);

#endif
