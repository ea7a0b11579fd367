// Who the process is: /etc/passwd and /etc/group of the root it runs in.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/pod/child.h"

// The content of a regular file; "" when there is none. Looked at before it is opened: a FIFO would block, a
// device might do anything.
static int read_accounts(const struct child *c, int root, const char *path, char **text, struct error *err)
{
    struct stat st;
    char self[32];
    size_t len;
    _cleanup_fd_ int fd = file_open_in_root(root, path, O_PATH, 0, err);

    if (fd == -ENOENT || fd == -ENOTDIR) {
        *text = strdup("");
        return *text ? 0 : error_errno(err, ENOMEM, "%s", path);
    }
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "%s in the container", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s in the container is no regular file",
                         path);
    (void)snprintf(self, sizeof(self), "fd/%d", fd);
    if (file_read_at(c->proc_self, self, ACCOUNTS_FILE_MAX, text, &len, err) < 0)
        return error_wrap(err, "%s in the container", path);
    if (strlen(*text) != len)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s in the container has NUL bytes", path);
    return 0;
}

int child_resolve_user(struct child *c, const Pod__Process *process, struct error *err)
{
    static const Pod__User nobody_said = POD__USER__INIT;
    const Pod__User *user = process->user ? process->user : &nobody_said;
    _cleanup_free_ char *passwd = NULL, *group = NULL;

    if (user->resolved)
        return account_resolve(user, "", "", &c->account, err);
    _cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_errno(err, errno, "open the container's root");
    int rc = read_accounts(c, root, "/etc/passwd", &passwd, err);
    if (rc == 0)
        rc = read_accounts(c, root, "/etc/group", &group, err);
    return rc == 0 ? account_resolve(user, passwd, group, &c->account, err) : rc;
}
