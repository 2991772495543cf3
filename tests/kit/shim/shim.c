/* Faults for a program under test, by LD_PRELOAD: what it asks of the C library fails, waits or lies as the
 * file says that SHIM_RULES names. The file is looked at again every few milliseconds. A rule a line:
 *
 *   clock MS                  CLOCK_REALTIME is so many milliseconds ahead
 *   drift MS                  and so many more each second
 *   sync ERRNO PART           fsync and fdatasync of files whose path has PART in it fail
 *   read MS PART              pread64 of such files takes so much longer
 *   write MS PART             pwrite64 of such files takes so much longer
 *   open ERRNO PART           such files cannot be opened
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RULES_MAX 32
#define EVERY_NS 5000000L

struct rule { char what[8]; long number; char part[128]; };

static struct rule rules[RULES_MAX];
static int count;
static long looked_ns;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long monotonic_ns(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* By system calls alone: what is intercepted here must not come back. */
static void look(void) {
    static char text[4096];
    long now = monotonic_ns();
    if (looked_ns != 0 && now - looked_ns < EVERY_NS) return;
    looked_ns = now;
    count = 0;
    const char *path = getenv("SHIM_RULES");
    if (!path) return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    long length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (length < 0) return;
    text[length] = 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) && count < RULES_MAX) {
        struct rule *rule = &rules[count];
        rule->part[0] = 0;
        if (sscanf(line, "%7s %ld %127s", rule->what, &rule->number, rule->part) >= 2) count++;
    }
}

static int find(const char *what, const char *path, long *number) {
    int found = 0;
    int before = errno;
    pthread_mutex_lock(&lock);
    look();
    for (int i = 0; i < count && !found; i++) {
        if (strcmp(rules[i].what, what)) continue;
        if (path && !strstr(path, rules[i].part)) continue;
        *number = rules[i].number;
        found = 1;
    }
    pthread_mutex_unlock(&lock);
    errno = before;
    return found;
}

static int find_fd(const char *what, int fd, long *number) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return find(what, path, number);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) {
        long ms = 0, drift = 0;
        find("clock", NULL, &ms);
        if (find("drift", NULL, &drift)) ms += drift * (now->tv_sec % 100000);
        now->tv_sec += ms / 1000;
        now->tv_nsec += ms % 1000 * 1000000L;
        if (now->tv_nsec < 0) { now->tv_nsec += 1000000000L; now->tv_sec--; }
        if (now->tv_nsec >= 1000000000L) { now->tv_nsec -= 1000000000L; now->tv_sec++; }
    }
    return result;
}

int fsync(int fd) {
    long number;
    if (find_fd("sync", fd, &number)) { errno = number; return -1; }
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    long number;
    if (find_fd("sync", fd, &number)) { errno = number; return -1; }
    return syscall(SYS_fdatasync, fd);
}

static void wait_where(const char *what, int fd) {
    long number;
    if (find_fd(what, fd, &number)) {
        struct timespec pause = { number / 1000, number % 1000 * 1000000L };
        syscall(SYS_nanosleep, &pause, NULL);
    }
}

ssize_t pread64(int fd, void *to, size_t length, off64_t at) {
    wait_where("read", fd);
    return syscall(SYS_pread64, fd, to, length, at);
}

ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) {
    wait_where("write", fd);
    return syscall(SYS_pwrite64, fd, from, length, at);
}

int open64(const char *path, int flags, ...) {
    long number;
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    if (find("open", path, &number)) { errno = number; return -1; }
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
