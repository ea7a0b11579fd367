#include "cni/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

const char cni_testbed_good_plugin[] =
    "[ $CNI_COMMAND = ADD ] && cat <<END\n"
    "{\"cniVersion\": \"1.0.0\", \"interfaces\": [{\"name\": \"br0\"},"
    " {\"name\": \"$CNI_IFNAME\", \"sandbox\": \"$CNI_NETNS\"}],"
    " \"ips\": [{\"address\": \"10.9.8.7/24\", \"gateway\": \"10.9.8.1\", \"interface\": 1},"
    " {\"address\": \"fd00::7/64\", \"interface\": 1}], \"routes\": [{\"dst\": \"0.0.0.0/0\"}], \"dns\": "
    "{}}\n"
    "END\n"
    "exit 0\n";

static void must(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

void cni_testbed_init(struct cni_testbed *bed)
{
    *bed = (struct cni_testbed){.root = "/tmp/crisp-cni-test-XXXXXX"};
    must(mkdtemp(bed->root) != NULL, "mkdtemp");
    (void)snprintf(bed->conf_dir, sizeof(bed->conf_dir), "%s/conf", bed->root);
    (void)snprintf(bed->bin_dir, sizeof(bed->bin_dir), "%s/bin", bed->root);
    (void)snprintf(bed->cache_dir, sizeof(bed->cache_dir), "%s/cache", bed->root);
    (void)snprintf(bed->netns_dir, sizeof(bed->netns_dir), "%s/netns", bed->root);
    must(mkdir(bed->conf_dir, 0755) == 0 && mkdir(bed->bin_dir, 0755) == 0 &&
             mkdir(bed->netns_dir, 0755) == 0,
         "mkdir");
    bed->bin_dirs[0] = bed->bin_dir;
}

void cni_testbed_done(struct cni_testbed *bed)
{
    must(file_remove_tree(bed->root, NULL) == 0, bed->root);
}

static void write_mode(const struct cni_testbed *bed, const char *relative, const char *text, mode_t mode)
{
    _cleanup_free_ char *path = str_printf("%s/%s", bed->root, relative);
    must(path && file_write_atomic(path, text, strlen(text), mode, false, NULL) == 0, relative);
}

void cni_testbed_write(const struct cni_testbed *bed, const char *relative, const char *text)
{
    write_mode(bed, relative, text, 0644);
}

void cni_testbed_plugin(const struct cni_testbed *bed, const char *name, const char *body)
{
    _cleanup_free_ char *relative = str_printf("bin/%s", name);
    _cleanup_free_ char *script =
        str_printf("#!/bin/sh\n"
                   "root=%s name=%s\n"
                   "if [ $CNI_COMMAND = VERSION ]; then\n"
                   "  [ -e $root/versions.$name ] && exec cat $root/versions.$name\n"
                   "  echo '{\"cniVersion\": \"1.1.0\", \"supportedVersions\": [\"0.3.0\", \"0.3.1\", "
                   "\"0.4.0\", \"1.0.0\", "
                   "\"1.1.0\"]}'\n"
                   "  exit 0\n"
                   "fi\n"
                   "echo \"$CNI_COMMAND $name netns=$CNI_NETNS args=$CNI_ARGS\" >> $root/calls\n"
                   "cat > $root/stdin.$name.$CNI_COMMAND\n"
                   "%s",
                   bed->root, name, body);
    must(relative && script, name);
    write_mode(bed, relative, script, 0755);
}

char *cni_testbed_read(const struct cni_testbed *bed, const char *relative)
{
    _cleanup_free_ char *path = str_printf("%s/%s", bed->root, relative);
    char *text = NULL;
    must(path != NULL, relative);
    if (file_read(path, (size_t)8 << 20, &text, NULL, NULL) < 0)
        text = strdup("");
    must(text != NULL, relative);
    return text;
}

bool cni_testbed_exists(const struct cni_testbed *bed, const char *relative)
{
    _cleanup_free_ char *path = str_printf("%s/%s", bed->root, relative);
    must(path != NULL, relative);
    return access(path, F_OK) == 0;
}
