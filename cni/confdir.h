// A directory of network configurations: which one counts.
#ifndef CNI_CONFDIR_H
#define CNI_CONFDIR_H

#include "base/error.h"
#include "cni/conflist.h"

// Loads the first valid *.conflist, *.conf or *.json of dir in the order of their names (bytes). Hidden files
// are passed over: that is what others write before they rename. *skipped gets the first error of a broken
// file that came before (or stays as it is). NOT_FOUND: no such directory or no configuration in it; the
// first broken file's error if there are only such.
//
// current (may be NULL) is the list in use: while its file exists, a broken version of that file doesn't
// switch to another network, but yields current again, with *skipped set.
int cni_confdir_load(const char *dir, struct cni_conflist *current, struct cni_conflist **out,
                     struct error *skipped, struct error *err);

#endif
