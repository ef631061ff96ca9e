/* Run a command and watch each change it asks the kernel for; kill it, with all it has started, before one of them.
 *
 *   killer record LOG COMMAND...                    write one line per change: CALL, SUBJECT, ERROR, with tabs
 *   killer kill CALL PATTERN NUMBER COMMAND...      die of SIGKILL before the NUMBER-th such change
 *
 * A change is a system call of any process or thread of the command that alters a file, speaks first to a socket or
 * sends a signal. Its subject is a path, "PATH -> PATH", "tcp:PORT", "unix:PATH" or "signal:NAME PROGRAM"; PATTERN is an
 * fnmatch(3) of it. Only these calls stop the command (seccomp(2), SECCOMP_RET_TRACE): it runs as fast as alone.
 * A run that ends by itself ends with its own status. SIGTERM is for the command.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT (2 * PATH_MAX + 64)
#define MAKES (O_CREAT | O_TRUNC)
#define OPTIONS                                                                                         \
    (PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | \
     PTRACE_O_TRACEEXEC)

enum kind { PATHS, DESCRIPTOR, SOCKET, SIGNAL };

/* Which arguments say what a call is about: two pairs of (directory, path), or the first argument; and the flags. */
struct call {
    int number;
    const char *name;
    enum kind kind;
    int directory, path, other_directory, other_path, flags;
};
#define NONE -1
#define PATH(number, name, directory, path) {number, name, PATHS, directory, path, NONE, NONE, NONE}
#define OPEN(number, directory, path, flags) {number, "open", PATHS, directory, path, NONE, NONE, flags}
#define MOVE(number, name, d, p, od, op) {number, name, PATHS, d, p, od, op, NONE}
#define OF(number, name, kind) {number, name, kind, NONE, NONE, NONE, NONE, NONE}

static const struct call calls[] = {
#ifdef SYS_open /* calls that newer architectures do without */
    OPEN(SYS_open, NONE, 0, 1),
    PATH(SYS_creat, "open", NONE, 0),
    MOVE(SYS_rename, "rename", NONE, 0, NONE, 1),
    MOVE(SYS_link, "link", NONE, 0, NONE, 1),
    PATH(SYS_symlink, "symlink", NONE, 1),
    PATH(SYS_unlink, "unlink", NONE, 0),
    PATH(SYS_rmdir, "rmdir", NONE, 0),
    PATH(SYS_mkdir, "mkdir", NONE, 0),
    PATH(SYS_chmod, "chmod", NONE, 0),
    PATH(SYS_chown, "chown", NONE, 0),
    PATH(SYS_lchown, "chown", NONE, 0),
#endif
    OPEN(SYS_openat, 0, 1, 2),
    MOVE(SYS_renameat, "rename", 0, 1, 2, 3),
    MOVE(SYS_renameat2, "rename", 0, 1, 2, 3),
    MOVE(SYS_linkat, "link", 0, 1, 2, 3),
    PATH(SYS_symlinkat, "symlink", 1, 2),
    PATH(SYS_unlinkat, "unlink", 0, 1),
    PATH(SYS_mkdirat, "mkdir", 0, 1),
    PATH(SYS_fchmodat, "chmod", 0, 1),
    PATH(SYS_fchownat, "chown", 0, 1),
    PATH(SYS_utimensat, "utimens", 0, 1),
    PATH(SYS_truncate, "truncate", NONE, 0),
    OF(SYS_ftruncate, "truncate", DESCRIPTOR),
    OF(SYS_fallocate, "write", DESCRIPTOR),
    OF(SYS_write, "write", DESCRIPTOR),
    OF(SYS_writev, "write", DESCRIPTOR),
    OF(SYS_pwrite64, "write", DESCRIPTOR),
    OF(SYS_pwritev, "write", DESCRIPTOR),
    OF(SYS_sendfile, "write", DESCRIPTOR),
    OF(SYS_fsync, "fsync", DESCRIPTOR),
    OF(SYS_fdatasync, "fsync", DESCRIPTOR),
    OF(SYS_fchmod, "chmod", DESCRIPTOR),
    OF(SYS_fchown, "chown", DESCRIPTOR),
    OF(SYS_bind, "bind", SOCKET),
    OF(SYS_connect, "connect", SOCKET),
    OF(SYS_kill, "kill", SIGNAL),
};
#define CALLS (sizeof calls / sizeof *calls)

static void fail(const char *what) {
    perror(what);
    exit(99);
}

/* Let the kernel stop the command at these calls only; an open that changes nothing is none. */
static void stop_at_changes(void) {
    struct sock_filter program[6 * CALLS + 2], *next = program;
    *next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALLS; i++) {
        int flags = calls[i].flags;
        *next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, flags == NONE ? 1 : 4);
        if (flags != NONE) {
            __u32 at = offsetof(struct seccomp_data, args) + 8 * flags;
            *next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at);
            *next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAKES, 1, 0);
            *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        }
        *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = next - program, .filter = program};
    if (geteuid() != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("PR_SET_NO_NEW_PRIVS");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) fail("PR_SET_SECCOMP");
}

static size_t read_memory(pid_t pid, uint64_t address, void *into, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/mem", pid);
    int memory = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t got = memory < 0 ? -1 : pread(memory, into, size, address);
    if (memory >= 0) close(memory);
    return got < 0 ? 0 : got;
}

static void read_link(pid_t pid, const char *which, char into[PATH_MAX]) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/%s", pid, which);
    ssize_t got = readlink(name, into, PATH_MAX - 1);
    into[got < 0 ? 0 : got] = 0;
}

static void of_descriptor(pid_t pid, int descriptor, char into[PATH_MAX]) {
    char name[32];
    snprintf(name, sizeof name, "fd/%d", descriptor);
    read_link(pid, name, into);
}

/* Write the path of two arguments; without a path it is the directory's own (futimens). */
static void of_path(pid_t pid, const uint64_t *args, int directory, int path, char into[PATH_MAX]) {
    char said[PATH_MAX + 1] = "", base[PATH_MAX];
    if (args[path]) read_memory(pid, args[path], said, PATH_MAX);
    if (said[0] == '/') {
        memcpy(into, said, PATH_MAX);
        return;
    }
    if (directory == NONE || (int)args[directory] == AT_FDCWD)
        read_link(pid, "cwd", base);
    else
        of_descriptor(pid, args[directory], base);
    if (snprintf(into, PATH_MAX, said[0] ? "%s/%s" : "%s%s", base, said) >= PATH_MAX) into[0] = 0;
}

static void of_socket(pid_t pid, const uint64_t *args, char into[TEXT]) {
    struct sockaddr_storage address = {0};
    size_t size = args[2] < sizeof address ? args[2] : sizeof address;
    read_memory(pid, args[1], &address, size);
    if (address.ss_family == AF_INET) snprintf(into, TEXT, "tcp:%d", ntohs(((struct sockaddr_in *)&address)->sin_port));
    if (address.ss_family == AF_UNIX) snprintf(into, TEXT, "unix:%s", ((struct sockaddr_un *)&address)->sun_path);
}

static void of_signal(const uint64_t *args, char into[TEXT]) {
    char name[64], program[32] = "";
    snprintf(name, sizeof name, "/proc/%d/comm", (int)args[0]);
    FILE *file = fopen(name, "re");
    if (file && fscanf(file, "%31s", program) == 1 && args[1])
        snprintf(into, TEXT, "signal:%s %s", sigabbrev_np(args[1]), program);
    if (file) fclose(file);
}

/* Write what a call is about; nothing when it changes no file: a pipe, a terminal, a device. */
static void about(pid_t pid, const struct call *call, const uint64_t *args, char into[TEXT]) {
    char path[PATH_MAX] = "", other[PATH_MAX] = "";
    into[0] = 0;
    if (call->kind == SOCKET) of_socket(pid, args, into);
    if (call->kind == SIGNAL) of_signal(args, into);
    if (call->kind == DESCRIPTOR) of_descriptor(pid, args[0], path);
    if (call->kind == PATHS) of_path(pid, args, call->directory, call->path, path);
    if (call->other_path != NONE) of_path(pid, args, call->other_directory, call->other_path, other);
    if (path[0] == '/' && strncmp(path, "/dev/", 5) && strncmp(path, "/proc/", 6))
        snprintf(into, TEXT, other[0] ? "%s -> %s" : "%s%s", path, other);
}

/* A process or a thread; in a recorded run, the line of the call that it is in. */
struct task {
    pid_t pid;
    char *line;
};
static struct task tasks[1024];
static size_t count;

static struct task *task_of(pid_t pid) {
    for (size_t i = 0; i < count; i++)
        if (tasks[i].pid == pid) return &tasks[i];
    if (count == sizeof tasks / sizeof *tasks) fail("too many processes");
    tasks[count] = (struct task){.pid = pid};
    return &tasks[count++];
}

static void forget(pid_t pid) {
    struct task *task = task_of(pid);
    free(task->line);
    *task = tasks[--count];
}

/* Kill all that was started, also what begins only now; wait until nothing of it runs, and die the same death. */
static void die(void) {
    int status;
    pid_t pid;
    for (size_t i = 0; i < count; i++) kill(tasks[i].pid, SIGKILL);
    while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR)
        if (pid > 0 && WIFSTOPPED(status)) kill(pid, SIGKILL);
    raise(SIGKILL);
}

static FILE *log_file;
static const char *wanted_call, *pattern;
static long number;

/* Called before each change; does not return from the one that was asked for. */
static void met(struct task *task) {
    struct __ptrace_syscall_info info;
    char subject[TEXT];
    size_t i = 0;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task->pid, sizeof info, &info) <= 0) return; /* it has died meanwhile */
    while (i < CALLS && (uint64_t)calls[i].number != info.seccomp.nr) i++;
    if (i == CALLS) return;
    about(task->pid, &calls[i], info.seccomp.args, subject);
    if (!subject[0]) return;
    struct stat found;
    int flags = calls[i].flags == NONE ? O_TRUNC : (int)info.seccomp.args[calls[i].flags];
    if (log_file && !(flags & O_TRUNC) && !lstat(subject, &found)) return; /* it is there and stays as it is */
    if (log_file && asprintf(&task->line, "%s\t%s", calls[i].name, subject) < 0) fail("asprintf");
    if (wanted_call && !strcmp(wanted_call, calls[i].name) && !fnmatch(pattern, subject, FNM_PATHNAME | FNM_PERIOD) &&
        --number == 0)
        die();
}

/* Called after each change of a recorded run: one that failed has changed nothing. */
static void came_back(struct task *task) {
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task->pid, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_EXIT)
        fprintf(log_file, "%s\t%d\n", task->line, info.exit.is_error ? -(int)info.exit.rval : 0);
    free(task->line);
    task->line = NULL;
}

static pid_t command;

static void pass_on(int sent) { kill(command, sent); }

static int follow(void) {
    int status, code = 99;
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR) continue;
        if (pid < 0) return code;
        if (!WIFSTOPPED(status)) {
            forget(pid);
            if (pid == command) code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        struct task *task = task_of(pid);
        int event = status >> 16, sent = WSTOPSIG(status);
        if (event == PTRACE_EVENT_SECCOMP) met(task);
        if (sent == (SIGTRAP | 0x80) && task->line) came_back(task);
        if (event || sent == SIGSTOP || (sent & 0x7f) == SIGTRAP) sent = 0; /* a new child begins with SIGSTOP */
        ptrace(task->line ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, sent);
    }
}

int main(int argc, char **argv) {
    int record = argc > 3 && !strcmp(argv[1], "record"), kills = argc > 5 && !strcmp(argv[1], "kill");
    if (record && !(log_file = fopen(argv[2], "we"))) fail(argv[2]);
    if (kills) wanted_call = argv[2], pattern = argv[3], number = atol(argv[4]);
    if (!record && !kills) return 98;
    command = fork();
    if (command < 0) fail("fork");
    if (command == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) fail("PTRACE_TRACEME");
        raise(SIGSTOP);
        stop_at_changes();
        execvp(argv[record ? 3 : 5], argv + (record ? 3 : 5));
        fail("exec");
    }
    if (waitpid(command, NULL, __WALL) != command || ptrace(PTRACE_SETOPTIONS, command, 0, OPTIONS)) fail("ptrace");
    task_of(command);
    signal(SIGTERM, pass_on);
    ptrace(PTRACE_CONT, command, 0, 0);
    int code = follow();
    if (log_file) fclose(log_file);
    return code;
}
