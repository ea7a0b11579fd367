// For the tests of cni/ and network/: throw-away directories and made-up plugins.
#ifndef CNI_TESTING_H
#define CNI_TESTING_H

#include <stdbool.h>

struct cni_testbed {
    char root[64]; // a fresh directory
    char conf_dir[96], bin_dir[96], cache_dir[96], netns_dir[96];
    const char *bin_dirs[2]; // bin_dir, NULL
};

void cni_testbed_init(struct cni_testbed *bed); // makes root, conf_dir, bin_dir, netns_dir; aborts on failure
void cni_testbed_done(struct cni_testbed *bed); // removes all
// Writes text to root/relative, by way of a rename (so that watchers see it whole).
void cni_testbed_write(const struct cni_testbed *bed, const char *relative, const char *text);
// Writes an executable shell script bin/name. It starts with code that logs "COMMAND name netns=… args=…" to
// root/calls, keeps stdin in root/stdin.name.COMMAND, and answers VERSION with 0.3.0 to 1.1.0; then comes
// body.
void cni_testbed_plugin(const struct cni_testbed *bed, const char *name, const char *body);
// What root/relative holds ("" if there is no such file). Freed by the caller.
char *cni_testbed_read(const struct cni_testbed *bed, const char *relative);
bool cni_testbed_exists(const struct cni_testbed *bed, const char *relative);

// The body of a plugin that gives 10.9.8.7/24 and fd00::7/64 to the interface.
extern const char cni_testbed_good_plugin[];

#endif
