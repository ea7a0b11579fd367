// What security modules are told: AppArmor's profile of the process, SELinux's labels of the process, its
// keyring and what is mounted for it.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/sys.h"

#define LABEL_TEXT_MAX 8192

// Through the host's /proc: the container's could be a fake one.
static int write_attr(struct child *c, const char *name, const char *text)
{
    _cleanup_fd_ int fd = openat(c->proc_self, name, O_WRONLY | O_CLOEXEC);

    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int set_profile(struct child *c, const char *profile, struct error *err)
{
    _cleanup_free_ char *text = str_printf("exec %s", profile);

    if (!text)
        return error_errno(err, ENOMEM, "set the AppArmor profile");
    int rc = write_attr(c, "attr/apparmor/exec", text);
    if (rc == -ENOENT) // the file is there since Linux 5.8, so it is the profile that isn't
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOENT,
                         "the AppArmor profile \"%.400s\" is not loaded in this host's kernel", profile);
    return rc < 0 ? error_errno(err, rc, "set the AppArmor profile \"%.400s\"", profile) : 0;
}

// The session keyring that the process has so far was made with crisp-pod's label, which its own might not be
// allowed to use.
static int set_context(struct child *c, const char *label, struct error *err)
{
    int rc = write_attr(c, "attr/keycreate", label);

    if (rc == 0)
        rc = child_leave_keyring(err);
    else
        (void)error_errno(err, rc, "set the SELinux label \"%s\" of the session keyring", label);
    if (rc < 0)
        return rc;
    rc = write_attr(c, "attr/exec", label); // an exec forgets keycreate
    return rc < 0 ? error_errno(err, rc, "set the SELinux label \"%s\"", label) : 0;
}

int child_set_labels(struct child *c, const Pod__Process *process, struct error *err)
{
    int rc = 0;

    if (*process->apparmor_profile)
        rc = set_profile(c, process->apparmor_profile, err);
    if (rc == 0 && *process->selinux_label)
        rc = set_context(c, process->selinux_label, err);
    return rc;
}

// A parked child may have asked for the profile long ago. Whoever unloads it meanwhile makes that wish one
// for no profile at all, without a word.
int child_confirm_labels(struct child *c, const Pod__Process *process, struct error *err)
{
    const char *profile = process->apparmor_profile;
    size_t len = strlen(profile);
    _cleanup_free_ char *now = NULL;

    if (!*profile)
        return 0;
    // "NAME (MODE)"; what reads differently (a stack of profiles) is asked for once more.
    if (file_read_at(c->proc_self, "attr/apparmor/exec", LABEL_TEXT_MAX, &now, NULL, NULL) == 0 &&
        strncmp(now, profile, len) == 0 && str_has_prefix(now + len, " ("))
        return 0;
    return set_profile(c, profile, err);
}

int labels_add_option(struct buf *options, const char *label)
{
    // In quotes, which keep the commas between its categories.
    return *label ? buf_printf(options, ",context=\"%s\"", label) : 0;
}

int labels_set_new_fs(int fs, const char *type, const char *label, struct error *err)
{
    if (!*label || (!str_eq(type, "tmpfs") && !str_eq(type, "devpts")))
        return 0;
    if (fsconfig(fs, FSCONFIG_SET_STRING, "context", label, 0) < 0)
        return error_errno(err, errno, "file system %s: the SELinux label \"%s\"", type, label);
    return 0;
}

static int set_top(int tree, const char *label)
{
    _cleanup_fd_ int dir = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return dir < 0 || fsetxattr(dir, "security.selinux", label, strlen(label) + 1, 0) < 0 ? -errno : 0;
}

int labels_set_new_root(int tree, const char *type, const char *label, struct error *err)
{
    if (!*label || !str_eq(type, "mqueue")) // it takes no mount option; queues inherit their directory's
        return 0;
    int rc = set_top(tree, label);
    return rc < 0 && rc != -EOPNOTSUPP
               ? error_errno(err, rc, "file system %s: the SELinux label \"%s\"", type, label)
               : 0;
}

int labels_begin_volume(struct child *c, int tree, const char *label, struct error *err)
{
    if (!*label)
        return 0;
    int rc = set_top(tree, label);
    if (rc == 0)
        rc = write_attr(c, "attr/fscreate", label);
    return rc < 0 && rc != -EOPNOTSUPP ? error_errno(err, rc, "the SELinux label \"%s\"", label) : 0;
}

void labels_end_volume(struct child *c, const char *label)
{
    if (*label)
        (void)write_attr(c, "attr/fscreate", "\n");
}
