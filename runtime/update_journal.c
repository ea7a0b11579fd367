#include "runtime/update_journal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"

#define FILE_MAX (8u << 20) // the record in hexadecimal digits, a line break, what cgroups.h gives

static void path_of(const struct update_journal *j, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/updates/%s", j->pod->dir, j->name);
}

// "HEX HEX", to be freed; NULL: no memory.
static char *record_text(const struct update_journal *j)
{
    struct buf b;
    buf_init(&b, FILE_MAX);
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(j->record); i++) {
        _cleanup_free_ uint8_t *data = NULL;
        _cleanup_free_ char *hex = NULL;
        size_t len = 0;
        if (j->record[i])
            r = pb_pack(j->record[i], &data, &len);
        hex = r == 0 ? malloc(2 * len + 1) : NULL;
        if (!hex)
            r = -ENOMEM;
        else
            str_hex(data, len, hex);
        if (r == 0)
            r = buf_printf(&b, "%s%s%s", i ? " " : "", j->record[i] ? "=" : "-", hex);
    }
    char *text = r == 0 ? strdup(b.data) : NULL;
    buf_done(&b);
    return text;
}

int update_journal_save(void *arg, const char *text, struct error *err)
{
    const struct update_journal *j = arg;
    char path[PATH_MAX];
    _cleanup_free_ char *record = record_text(j), *all = record ? str_printf("%s\n%s", record, text) : NULL;
    if (!all)
        return error_errno(err, ENOMEM, "note the update");
    (void)snprintf(path, sizeof(path), "%s/updates", j->pod->dir);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "create %s", path);
    path_of(j, path);
    return file_write_atomic(path, all, strlen(all), 0600, false, err);
}

void update_journal_drop(const struct update_journal *j)
{
    char path[PATH_MAX];
    path_of(j, path);
    (void)unlink(path);
}

// Nothing is done twice: a file that can't be read, or values that can't be put back, are told and let go.
static void recover(struct runtime *rt, const struct update_journal *j)
{
    char path[PATH_MAX];
    _cleanup_free_ char *text = NULL;
    struct error err = ERROR_INIT;
    path_of(j, path);
    if (file_read(path, FILE_MAX, &text, NULL, NULL) < 0)
        return;
    _cleanup_free_ char *record = record_text(j);
    char *rest = strchr(text, '\n');
    if (rest)
        *rest++ = '\0';
    struct cgroup_undo *undo = NULL;
    int r = 0;
    if (!record || !rest || !str_eq(text, record)) {
        r = cgroup_undo_parse(rt->cgroups, rest ? rest : "", &undo, &err);
        if (r == 0)
            r = cgroup_undo_update(rt->cgroups, undo, &err);
        cgroup_undo_free(undo);
        if (r < 0)
            log_error("resources of an update that was cut short could not be put back", "pod", j->pod->id,
                      "of", j->name, "error", err.message);
        else
            log_warn("an update of resources that was cut short is taken back", "pod", j->pod->id, "of",
                     j->name);
    }
    update_journal_drop(j);
}

void update_journal_recover(struct runtime *rt, struct pod *pod)
{
    char path[PATH_MAX];
    struct container **all;
    size_t n;
    (void)snprintf(path, sizeof(path), "%s/updates", pod->dir);
    if (access(path, F_OK) < 0 || runtime_container_list(rt, pod, true, &all, &n, NULL) < 0)
        return;
    const struct pod_private *p = pod->private;
    struct update_journal of_pod = {.pod = pod, .name = UPDATE_JOURNAL_POD};
    of_pod.record[0] = p->resources ? &p->resources->base : NULL;
    of_pod.record[1] = p->overhead ? &p->overhead->base : NULL;
    recover(rt, &of_pod);
    for (size_t i = 0; i < n; i++) {
        struct update_journal j = {.pod = pod, .name = all[i]->id};
        j.record[0] = all[i]->private->asked ? &all[i]->private->asked->base : NULL;
        recover(rt, &j);
    }
    runtime_containers_free(all, n);
}
