// What the files of the annotations share; nobody else includes it.
#ifndef RUNTIME_ANNOTATION_INTERNAL_H
#define RUNTIME_ANNOTATION_INTERNAL_H

#include "runtime/annotation.h"

// One annotation being read.
struct annotation_job {
    const char *name, *value; // name without the prefix
    const Cri__PodSandboxConfig *pod;
    struct arena *arena;
    struct annotations *out;
    struct error *err;
};

// 'annotation "crisp.run/NAME": …', INVALID_ARGUMENT.
int annotation_bad(struct annotation_job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));
int annotation_no_memory(struct annotation_job *job);

// annotation_value.c: single values.
// "65536", "64k", "1G": binary multiples of bytes, as docker has them. len: of text.
bool annotation_parse_size(const char *text, size_t len, uint64_t *out);
// "500ms", "30s", "1m30s", "1.5s" isn't one. At most a day.
bool annotation_parse_duration(const char *text, int64_t *ns);
// The next part of a list up to a separator; NULL at its end.
char *annotation_next(struct annotation_job *job, const char **rest, char separator);

int annotation_read_rt_period(struct annotation_job *job);
int annotation_read_rt_runtime(struct annotation_job *job);
int annotation_read_reservation(struct annotation_job *job);
int annotation_read_swappiness(struct annotation_job *job);
int annotation_read_oom_kill_disable(struct annotation_job *job);
int annotation_read_pids(struct annotation_job *job);
int annotation_read_weight(struct annotation_job *job);
int annotation_read_throttle(struct annotation_job *job);
int annotation_read_storage(struct annotation_job *job);
int annotation_read_shm(struct annotation_job *job);
int annotation_read_ulimit(struct annotation_job *job);
int annotation_read_tmpfs(struct annotation_job *job);  // annotation_tmpfs.c
int annotation_read_health(struct annotation_job *job); // annotation_health.c

#endif
