"""Protections, and how each is taken out: what `prove` builds, and which tests must then fail.

A mutation replaces pieces of source text, each of which must be there exactly once: whoever changes such a line says
here what the protection is now.
"""
import collections

# tests: a pytest expression for tests/integration, or "unit:PROGRAM:TEST". Where several protections lie behind each
# other, so that one alone can be taken out without harm, a mutation takes all of them.
Mutation = collections.namedtuple("Mutation", "name why edits tests")

CHILD = "runtime/pod/child"

MUTATIONS = [
    Mutation("paths-not-held-in-the-root", "RESOLVE_IN_ROOT: links of an image lead elsewhere",
             [("base/file_tree.c", ".resolve = resolve,", ".resolve = 0,")],
             "linked_mount_target or changes_meanwhile or sub_path"),
    Mutation("sub-path-with-dots", "`..` in the sub path of an image volume",
             [("runtime/policy_container.c", "if (str_empty(m->image_sub_path))", "if (true)")], "sub_path_with_dots"),
    Mutation("system-directories-may-be-links", "/proc over a link (CVE-2019-19921, CVE-2023-27561)",
             [(CHILD + "_mounts.c", 'return error_set(err, STATUS_INVALID_ARGUMENT, ENOTDIR, "%s is a link in the image"'
               ', m->destination);', "return 0;")],
             "without_its_system_directory"),
    Mutation("working-directory-unchecked", "CVE-2024-21626",
             [(CHILD + "_run.c", "if (syscall(SYS_getcwd, now, sizeof(now)) < 0 || now[0] != '/')", "now[0] = 0; if (false)")],
             "working_directory"),
    Mutation("accounts-may-be-anything", "a FIFO for /etc/passwd",
             [(CHILD + "_user.c", "if (!S_ISREG(st.st_mode))", "if (false)")], "hostile_accounts and fifo and passwd"),
    Mutation("accounts-of-any-size", "a huge /etc/passwd",
             [("runtime/pod/accounts.h", "#define ACCOUNTS_FILE_MAX   (1u << 20)", "#define ACCOUNTS_FILE_MAX   (1u << 30)")],
             "hostile_accounts and huge"),
    Mutation("descriptors-stay-open", "all that keeps descriptors from the container",
             [(CHILD + "_run.c", "close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0", "false"),
              (CHILD + ".c", 'c->proc_self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);',
               'c->proc_self = open("/proc/self", O_PATH | O_DIRECTORY);')],
             "test_descriptors"),
    Mutation("hosts-null-for-unused-streams", "the mode of the host's /dev/null, through descriptor 0",
             [(CHILD + "_run.c", "if (null < 0) {\n        if (socketpair(", "if (null < 0)\n        return 0;\n    if (null < 0) {\n        if (socketpair(")],
             "unused_streams"),
    Mutation("masks-are-writable", "the mode of the host's /dev/null, through a masked file",
             [(CHILD + "_mask.c", ".attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,",
               ".attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,")],
             "masks_do_not_open"),
    Mutation("masks-are-the-containers-null", "CVE-2025-31133",
             [(CHILD + "_mask.c", ": null_tree(err);", ': open_tree(root, "dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);')],
             "linked_null"),
    Mutation("console-may-be-a-link", "CVE-2025-52565",
             [(CHILD + "_dev.c", '_cleanup_fd_ int target = file_open_in_root(root, "/dev/console", O_PATH | O_NOFOLLOW, 0, err);',
               '_cleanup_fd_ int target = file_open_in_root(root, "/dev/console", O_PATH, 0, err);')],
             "console_is_no_link"),
    Mutation("proc-of-the-container", "CVE-2025-52881",
             [(CHILD + "_privs.c", 'openat(c->proc_self, "oom_score_adj", O_WRONLY | O_CLOEXEC)',
               'open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)')],
             "own_making"),
    Mutation("kernel-settings-are-writable", "core_pattern, modprobe",
             [(CHILD + "_mask.c", "if (readonly_one(root, plan->readonly_paths[i], err) < 0)", "if (false)")],
             "kernel_settings"),
    Mutation("program-is-writable", "CVE-2019-5736: the copy of crisp-pod",
             [("runtime/supervisor.c", "r = make_readonly(mount, err);", "r = 0;")], "program_of_the_entering"),
    Mutation("exec-in-one-stage", "an exec beside somebody with CAP_SYS_PTRACE",
             [("runtime/pod/exec.c", "if (caps && (caps->bounding >> CAP_SYS_PTRACE & 1))\n        return true;", "return false;")],
             "hostile_tracer"),
    Mutation("children-are-dumpable", "an exec beside a tracer of the same user",
             [("runtime/pod/main.c", "(void)prctl(PR_SET_DUMPABLE, 0);", "")], "tracer_without"),
    Mutation("reaper-keeps-its-root", "a shared pid namespace's first process: /proc/1/root",
             [("runtime/pod/reaper.c", "empty_root() < 0", "false")], "first_process"),
    Mutation("reaper-keeps-its-capabilities", "a shared pid namespace's first process",
             [("runtime/pod/reaper.c", "drop_all() < 0", "false")], "first_process"),
    Mutation("no-new-privs-is-forgotten", "set-user-id programs",
             [(CHILD + "_privs.c", "process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS", "false && prctl(PR_SET_NO_NEW_PRIVS")],
             "set_user_id"),
    Mutation("cgroups-are-writable", "release_agent and limits",
             [("runtime/plan_mounts.c", "(writable ? 0 : MOUNT_ATTR_RDONLY)", "(writable ? 0 : 0)")], "test_cgroups"),
    Mutation("cgroup-namespace-is-the-hosts", "the hierarchy above",
             [("runtime/plan.c", "b.plan->own_cgroup_ns = ", "b.plan->own_cgroup_ns = false && ")], "test_cgroups"),
    Mutation("log-links-are-followed", "a link in the place of a log file",
             [("runtime/pod/crilog.c", " | O_NOFOLLOW, 0640)", ", 0640)")], "log_file and link"),
    Mutation("session-keyring-is-inherited", "keys of whoever started crispd",
             [(CHILD + ".c", "if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 &&", "if (false &&")],
             "unit:pod_launch_test:test_keyring"),
    Mutation("socket-for-everybody", "the socket's mode",
             [("cri/listener.c", "chmod(l->path, 0660)", "chmod(l->path, 0666)")], "socket_and_directories"),
]
