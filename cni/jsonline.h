// Which line of a JSON text a value stands on: jansson forgets positions, and an error that names file and
// line saves its reader the search.
#ifndef CNI_JSONLINE_H
#define CNI_JSONLINE_H

#include <stddef.h>

// The line (from 1) of the value at path, e.g. {"plugins", "#2", "type", NULL}: "#N" is the Nth element of an
// array, anything else an object's key. A path that leads nowhere yields the line of its last part that is
// there. text must be JSON that parsed; anything else is safe but yields some line.
size_t cni_json_line(const char *text, size_t len, const char *const *path);

#endif
