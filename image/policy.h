// Which images may come to the node, and signed by whom.
#ifndef IMAGE_POLICY_H
#define IMAGE_POLICY_H

#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/error.h"
#include "image/policy_config.h"
#include "image/reference.h"

// Does a prefix of the configuration ("host[:port][/path]", not "*") hold for the reference? By whole
// components; hosts without regard to case, and to a port that is https's own: those are other names of the
// same registry.
bool policy_prefix_matches(const char *prefix, const struct reference *ref);
// The entry with the longest prefix; NULL: none, which accepts. config may be NULL.
const struct policy_entry *policy_find(const struct policy_config *config, const struct reference *ref);

// May this image be pulled? allowed: prefixes, NULL-terminated; NULL or empty: all. *require: the entry whose
// signature is needed, or NULL. PERMISSION_DENIED when it is not allowed or rejected
// ("SignatureValidationFailed: …").
int policy_check_pull(const struct policy_config *config, char *const *allowed, const struct reference *ref,
                      const struct policy_entry **require, struct error *err);
// May an image come from an archive under this name (NULL: under none)? Signatures can't be verified there: a
// name for which one is required is refused, too.
int policy_check_import(const struct policy_config *config, char *const *allowed, const struct reference *ref,
                        struct error *err);

// What crisp-pull is to verify; in arena. NULL on ENOMEM.
Pull__SignaturePolicy *policy_signature(const struct policy_entry *entry, const struct reference *ref,
                                        struct arena *arena);

#endif
