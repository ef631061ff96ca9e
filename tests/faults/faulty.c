/* Preloaded into certctl by tests: calls about one place of the disk fail, and the host's clock is off.
 *
 * The plan lies in a file that the test maps too (CERTCTL_TEST_PLAN), so it may change while a process runs. What
 * certctl starts has an environment of its own, and so none of this.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE = 1, FLUSH = 2, RENAME = 4, LINK = 8, MKDIR = 16, CREATE = 32, UNLINK = 64, RIGHTS = 128 };

static struct plan {
    int64_t clock;   /* seconds added to the time of day */
    int32_t kinds;   /* which calls fail; 0 for none */
    int32_t error;   /* with which errno */
    char place[PATH_MAX]; /* a file, or a directory with all below it */
    char after[PATH_MAX]; /* none fails before this is there; empty for always */
} none, *plan = &none;

__attribute__((constructor)) static void map_plan(void)
{
    const char *path = getenv("CERTCTL_TEST_PLAN");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        plan = mapped;
    if (fd >= 0)
        close(fd);
}

static int is_there(const char *path)
{
    size_t length = strlen(plan->place);
    return !strncmp(path, plan->place, length) && (path[length] == '/' || !path[length]);
}

static int fails(enum kind kind, int directory, const char *path)
{
    char at[PATH_MAX], link[64], full[2 * PATH_MAX + 1];
    if (!(plan->kinds & kind))
        return 0;
    snprintf(full, sizeof full, "%s", path ? path : "");
    if (!path || path[0] != '/') {
        snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
        ssize_t length = readlink(link, at, sizeof at - 1);
        at[length < 0 ? 0 : length] = '\0';
        snprintf(full, sizeof full, path ? "%s/%s" : "%s", at, path);
    }
    if (!is_there(full) || (plan->after[0] && access(plan->after, F_OK)))
        return 0;
    errno = plan->error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, parameters, arguments, kind, directory, path) \
    type name parameters { return fails(kind, directory, path) ? -1 : REAL(name) arguments; }

WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), WRITE, fd, NULL)
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), WRITE, fd, NULL)
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), WRITE, fd, NULL)
WRAP(int, ftruncate64, (int fd, off64_t size), (fd, size), WRITE, fd, NULL)
WRAP(int, fsync, (int fd), (fd), FLUSH, fd, NULL)
WRAP(int, fdatasync, (int fd), (fd), FLUSH, fd, NULL)
WRAP(int, rename, (const char *from, const char *to), (from, to), RENAME, AT_FDCWD, to)
WRAP(int, renameat, (int at, const char *from, int dir, const char *to), (at, from, dir, to), RENAME, dir, to)
WRAP(int, link, (const char *from, const char *to), (from, to), LINK, AT_FDCWD, to)
WRAP(int, linkat, (int at, const char *from, int dir, const char *to, int flags), (at, from, dir, to, flags), LINK,
     dir, to)
WRAP(int, symlink, (const char *target, const char *path), (target, path), LINK, AT_FDCWD, path)
WRAP(int, symlinkat, (const char *target, int dir, const char *path), (target, dir, path), LINK, dir, path)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), MKDIR, AT_FDCWD, path)
WRAP(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), MKDIR, dir, path)
WRAP(int, unlink, (const char *path), (path), UNLINK, AT_FDCWD, path)
WRAP(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), UNLINK, dir, path)
WRAP(int, rmdir, (const char *path), (path), UNLINK, AT_FDCWD, path)
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode), RIGHTS, fd, NULL)

#define OPEN(name, parameters, head, directory) \
    int name parameters \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = va_arg(more, mode_t); \
        va_end(more); \
        int writes = flags & (O_CREAT | O_WRONLY | O_RDWR); \
        return writes && fails(CREATE, directory, path) ? -1 : REAL(name)(head, flags, mode); \
    }
OPEN(open, (const char *path, int flags, ...), path, AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), path, AT_FDCWD)
#define TWO(a, b) a, b
OPEN(openat, (int dir, const char *path, int flags, ...), TWO(dir, path), dir)
OPEN(openat64, (int dir, const char *path, int flags, ...), TWO(dir, path), dir)

int clock_gettime(clockid_t which, struct timespec *now)
{
    int result = REAL(clock_gettime)(which, now);
    if (!result && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        now->tv_sec += plan->clock;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int result = REAL(gettimeofday)(now, zone);
    if (!result)
        now->tv_sec += plan->clock;
    return result;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
