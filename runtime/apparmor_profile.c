// The profile for containers that ask for none, or for RuntimeDefault.
//
// It is the second wall behind capabilities, seccomp, masked paths and read-only mounts, for the day that one
// of them has a hole or was opened on purpose (SYS_ADMIN, procMount: Unmasked). So it lets a program do all
// that concerns its own files, sockets and processes, and forbids what would change the node: mounting,
// writing to /proc and /sys outside of what belongs to namespaces, and touching processes outside.
//
// No "abi" line: a parser that knows newer kinds of rules then doesn't enforce those, which we don't give.
// attach_disconnected: pod files and volumes are bind mounts from outside the container's root.
#include "runtime/apparmor.h"

const char apparmor_default_text[] =
    "profile " APPARMOR_DEFAULT_NAME " flags=(attach_disconnected,mediate_deleted) {\n"
    "  network,\n"
    "  unix,\n"
    "  capability,\n"
    "  file,\n"
    "  umount,\n"
    "\n"
    // Processes: those of containers among themselves, and signals from the host.
    "  signal (send, receive) peer=" APPARMOR_DEFAULT_NAME ",\n"
    "  signal (receive) peer=unconfined,\n"
    "  ptrace (trace, read, tracedby, readby) peer=" APPARMOR_DEFAULT_NAME ",\n"
    "\n"
    "  deny mount,\n"
    "\n"
    // /proc: its own files and the kernel's directories are the node's; processes' directories are not
    // named here, nor pressure (triggers are set by writing), nor net (the pod's).
    "  deny /proc/* wkl,\n"
    "  deny /proc/{acpi,asound,bus,driver,dynamic_debug,fs,irq,scsi,tty}/** wkl,\n"
    "  deny /proc/kcore rwkl,\n"
    "  deny /proc/sysrq-trigger rwkl,\n"
    // Sysctls: those of network and IPC namespaces (kernel.shm*, msg*, sem*; fs.mqueue.*) stay writable for
    // containers whose /proc/sys is.
    "  deny /proc/sys/{abi,crypto,debug,dev,sunrpc,user,vm}/** wkl,\n"
    "  deny /proc/sys/fs/[^m]** wkl,\n"
    "  deny /proc/sys/fs/m[^q]** wkl,\n"
    "  deny /proc/sys/kernel/[^ms]** wkl,\n"
    "  deny /proc/sys/kernel/m[^s]** wkl,\n"
    "  deny /proc/sys/kernel/s[^eh]** wkl,\n"
    "  deny /proc/sys/kernel/se[^m]** wkl,\n"
    "  deny /proc/sys/kernel/sh[^m]** wkl,\n"
    "\n"
    // /sys: all but the cgroup file systems; nothing of firmware, power meters and security modules.
    "  deny /sys/[^f]** wkl,\n"
    "  deny /sys/f[^s]** wkl,\n"
    "  deny /sys/fs/[^c]** wkl,\n"
    "  deny /sys/fs/c[^g]** wkl,\n"
    "  deny /sys/firmware/** r,\n"
    "  deny /sys/devices/virtual/powercap/** r,\n"
    "  deny /sys/kernel/security/** r,\n"
    "}\n";
