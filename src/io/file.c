/* file.c — mapping, reading and replacing files; the only place that opens files for the library. */
#define _GNU_SOURCE /* realpath, madvise */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define HUGE_FILE ((size_t)16 << 20)

/* Open a regular file and learn its size. O_NONBLOCK: a FIFO in place of a file must not hang us. */
static zamba_status open_regular(int *fd, size_t *size, const char *path, zamba_error *err)
{
    struct stat sb;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return zb_fail(err, errno == ENOENT ? ZAMBA_E_NOT_FOUND : ZAMBA_E_IO, "%s: cannot open: %s", path,
                       strerror(errno));
    zamba_status st = ZAMBA_OK;
    if (fstat(*fd, &sb) != 0)
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot stat: %s", path, strerror(errno));
    else if (!S_ISREG(sb.st_mode))
        st = zb_fail(err, ZAMBA_E_IO, "%s: %s, wanted a regular file", path,
                     S_ISDIR(sb.st_mode) ? "a folder" : "a device, pipe or socket");
    else
        *size = (size_t)sb.st_size;
    if (st != ZAMBA_OK)
        close(*fd);
    return st;
}

zamba_status zb_file_open(int *fd, size_t *size, const char *path, zamba_error *err)
{
    const zamba_status st = open_regular(fd, size, path, err);
    if (st != ZAMBA_OK)
        *fd = -1;
    return st;
}

zamba_status zb_file_temporary(int *fd, zamba_error *err)
{
    char path[4096];
    const char *folder = getenv("TMPDIR");
    folder = folder != NULL && folder[0] != '\0' ? folder : "/tmp";
    *fd = -1;
    const zamba_status st = zb_path_join(path, sizeof path, folder, "zamba-XXXXXX", err);
    if (st != ZAMBA_OK)
        return st;
    *fd = mkostemp(path, O_CLOEXEC);
    if (*fd < 0)
        return zb_fail(err, ZAMBA_E_IO, "%s: cannot create a temporary file there: %s (TMPDIR names another folder)",
                       folder, strerror(errno));
    (void)unlink(path);
    return ZAMBA_OK;
}

zamba_status zb_file_map(zb_file *f, const char *path, zamba_error *err)
{
    int fd;
    *f = (zb_file){0};
    size_t size = 0;
    zamba_status st = open_regular(&fd, &size, path, err);
    if (st != ZAMBA_OK)
        return st;
    f->path = strdup(path);
    if (f->path == NULL)
        st = zb_fail_memory(err, path, strlen(path) + 1);
    if (st == ZAMBA_OK && size > 0) {
        void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            st = zb_fail(err, ZAMBA_E_IO, "%s: cannot map %zu bytes: %s", path, size, strerror(errno));
        else
            f->data = p, f->size = size;
    }
    close(fd);
    if (st != ZAMBA_OK)
        zb_file_unmap(f);
    return st;
}

void zb_file_expect_all(const zb_file *f)
{
#ifdef MADV_HUGEPAGE
    if (f->size >= HUGE_FILE)
        (void)madvise((void *)(uintptr_t)f->data, f->size, MADV_HUGEPAGE);
#endif
    (void)f;
}

int zb_file_forget(const zb_file *f, const void *data, size_t n)
{
    const uintptr_t start = (uintptr_t)f->data, at = (uintptr_t)data, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (f->data == NULL || at < start || at + n > start + f->size)
        return 0;
    const uintptr_t first = (at + page - 1) / page * page, end = (at + n) / page * page; /* whole pages */
    if (end > first)
        (void)madvise((void *)first, end - first, MADV_DONTNEED); /* a private mapping of a file that nobody wrote to */
    return 1;
}

void zb_file_unmap(zb_file *f)
{
    if (f->data != NULL)
        munmap((void *)f->data, f->size);
    free(f->path);
    *f = (zb_file){0};
}

/* Up to max_bytes of a file; `whole`: it must not have more. */
static zamba_status read_regular(zb_buf *out, const char *path, size_t max_bytes, int whole, zamba_error *err)
{
    int fd;
    size_t size = 0, start = out->n;
    zamba_status st = open_regular(&fd, &size, path, err);
    if (st != ZAMBA_OK)
        return st;
    if (size > max_bytes && whole)
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes, at most %zu are read (is this the right file?)", path, size,
                     max_bytes);
    size = size > max_bytes ? max_bytes : size;
    if (st == ZAMBA_OK)
        st = zb_buf_reserve(out, size, err);
    while (st == ZAMBA_OK && out->n - start < size) {
        ssize_t got = read(fd, out->data + out->n, size - (out->n - start));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            st = zb_fail(err, ZAMBA_E_IO, "%s: cannot read: %s", path, strerror(errno));
        if (got <= 0)
            break;
        out->n += (size_t)got;
    }
    if (st == ZAMBA_OK)
        out->data[out->n] = '\0';
    close(fd);
    return st;
}

zamba_status zb_file_read(zb_buf *out, const char *path, size_t max_bytes, zamba_error *err)
{
    return read_regular(out, path, max_bytes, 1, err);
}

zamba_status zb_file_read_start(zb_buf *out, const char *path, size_t n_bytes, zamba_error *err)
{
    return read_regular(out, path, n_bytes, 0, err);
}

int zb_file_begins(const char *path, const void *bytes, size_t n)
{
    unsigned char start[16];
    size_t size, have = 0;
    int fd;
    if (n > sizeof start || open_regular(&fd, &size, path, NULL) != ZAMBA_OK)
        return 0;
    for (ssize_t got = 1; have < n && got > 0;) {
        got = read(fd, start + have, n - have);
        have += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    return have == n && memcmp(start, bytes, n) == 0;
}

static zamba_status write_all(int fd, const char *path, const void *data, size_t n, zamba_error *err)
{
    const char *p = data;
    while (n > 0) {
        ssize_t put = write(fd, p, n < ((size_t)1 << 30) ? n : ((size_t)1 << 30));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return zb_fail(err, ZAMBA_E_IO, "%s: cannot write: %s", path, strerror(errno));
        p += put;
        n -= (size_t)put;
    }
    return ZAMBA_OK;
}

/* So that the rename itself survives a power cut. Not every file system allows it: no error then. */
static void sync_folder_of(const char *path)
{
    char *folder = strdup(path);
    if (folder == NULL)
        return;
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder] = '\0';
    int fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

/* A new, empty file beside `path`; *tmp is its name, to be freed. */
static zamba_status create_beside(int *fd, char **tmp, const char *path, zamba_error *err)
{
    static atomic_uint counter;
    const size_t n_tmp = strlen(path) + 40;
    *fd = -1;
    *tmp = malloc(n_tmp);
    if (*tmp == NULL)
        return zb_fail_memory(err, path, n_tmp);
    for (int tries = 0; *fd < 0 && tries < 100; tries++) {
        snprintf(*tmp, n_tmp, "%s.tmp-%ld-%u", path, (long)getpid(), atomic_fetch_add(&counter, 1));
        *fd = open(*tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd < 0 && errno != EEXIST)
            break;
    }
    if (*fd >= 0)
        return ZAMBA_OK;
    const zamba_status st = zb_fail(err, ZAMBA_E_IO, "%s: cannot create a file beside it: %s", path, strerror(errno));
    free(*tmp);
    *tmp = NULL;
    return st;
}

zamba_status zb_file_out_open(zb_file_out *f, const char *path, zamba_error *err)
{
    struct stat sb;
    const int exists = stat(path, &sb) == 0;
    *f = (zb_file_out){.fd = -1, .path = strdup(path)};
    if (f->path == NULL)
        return zb_fail_memory(err, path, strlen(path) + 1);
    zamba_status st = ZAMBA_OK;
    if (exists && S_ISDIR(sb.st_mode)) {
        st = zb_fail(err, ZAMBA_E_IO, "%s: a folder, wanted the name of a file", path);
    } else if (exists && !S_ISREG(sb.st_mode)) { /* /dev/stdout, a pipe: nothing to replace, the bytes go straight in */
        f->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (f->fd < 0)
            st = zb_fail(err, ZAMBA_E_IO, "%s: cannot open for writing: %s", path, strerror(errno));
    } else {
        f->target = exists ? realpath(path, NULL) : strdup(path); /* a link stays: what it points to is replaced */
        if (f->target == NULL && errno != ENOMEM)
            f->target = strdup(path);
        st = f->target != NULL ? create_beside(&f->fd, &f->tmp, f->target, err)
                               : zb_fail_memory(err, path, strlen(path) + 1);
        if (st == ZAMBA_OK && exists)
            (void)fchmod(f->fd, sb.st_mode & 0777); /* as private as it was; not every file system can */
    }
    if (st != ZAMBA_OK)
        zb_file_out_discard(f);
    return st;
}

zamba_status zb_file_out_write(zb_file_out *f, const void *data, size_t n, zamba_error *err)
{
    return write_all(f->fd, f->path, data, n, err);
}

zamba_status zb_file_out_commit(zb_file_out *f, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    if (f->tmp != NULL && fsync(f->fd) != 0)
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot sync: %s", f->path, strerror(errno));
    if (close(f->fd) != 0 && st == ZAMBA_OK)
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot close: %s", f->path, strerror(errno));
    f->fd = -1;
    if (st == ZAMBA_OK && f->tmp != NULL && rename(f->tmp, f->target) != 0)
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot rename into place: %s", f->path, strerror(errno));
    if (st == ZAMBA_OK && f->tmp != NULL) {
        sync_folder_of(f->target);
        free(f->tmp); /* it is there no more */
        f->tmp = NULL;
    }
    zb_file_out_discard(f);
    return st;
}

void zb_file_out_discard(zb_file_out *f)
{
    if (f->path == NULL)
        return;
    if (f->fd >= 0)
        close(f->fd);
    if (f->tmp != NULL)
        (void)unlink(f->tmp);
    free(f->path);
    free(f->target);
    free(f->tmp);
    *f = (zb_file_out){.fd = -1};
}

zamba_status zb_file_write(const char *path, const zb_file_part *parts, size_t n_parts, zamba_error *err)
{
    zb_file_out f;
    zamba_status st = zb_file_out_open(&f, path, err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t i = 0; i < n_parts && st == ZAMBA_OK; i++)
        st = zb_file_out_write(&f, parts[i].data, parts[i].n, err);
    if (st == ZAMBA_OK)
        return zb_file_out_commit(&f, err);
    zb_file_out_discard(&f);
    return st;
}

zamba_status zb_file_room(const char *path, uint64_t n_bytes, zamba_error *err)
{
    struct stat sb;
    struct statvfs disk;
    if (stat(path, &sb) == 0 && !S_ISREG(sb.st_mode) && !S_ISDIR(sb.st_mode))
        return ZAMBA_OK;
    char *folder = strdup(path);
    if (folder == NULL)
        return zb_fail_memory(err, path, strlen(path) + 1);
    int known = statvfs(folder, &disk) == 0; /* what is not there yet: as the folders above it */
    while (!known) {
        char *slash = strrchr(folder, '/');
        if (slash == NULL || slash == folder) {
            known = statvfs(slash == NULL ? "." : "/", &disk) == 0;
            break;
        }
        *slash = '\0';
        known = statvfs(folder, &disk) == 0;
    }
    free(folder);
    const uint64_t room = known ? (uint64_t)disk.f_bavail * disk.f_frsize : UINT64_MAX;
    if (n_bytes > room)
        return zb_fail(err, ZAMBA_E_IO,
                       "%s: %llu bytes are to be written, the disk has room for %llu (make room, or name another disk)",
                       path, (unsigned long long)n_bytes, (unsigned long long)room);
    return ZAMBA_OK;
}

int zb_file_exists(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode);
}

zamba_status zb_path_join(char *buf, size_t n, const char *folder, const char *name, zamba_error *err)
{
    size_t len = strlen(folder);
    const char *slash = len > 0 && folder[len - 1] == '/' ? "" : "/";
    int got = snprintf(buf, n, "%s%s%s", folder, slash, name);
    if (got < 0 || (size_t)got >= n)
        return zb_fail(err, ZAMBA_E_ARG, "%s: path too long", name);
    return ZAMBA_OK;
}
