// The architecture's number in seccomp filters that are made in crisp-pod.
#ifndef RUNTIME_POD_STAGE_ARCH_H
#define RUNTIME_POD_STAGE_ARCH_H

#include <linux/audit.h>

#if defined(__x86_64__)
#define AUDIT_ARCH_OWN AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_OWN AUDIT_ARCH_AARCH64
#else
#error "this architecture's AUDIT_ARCH_… is to be named here"
#endif

#endif
