/* kl_file.c — see kl_file.h. */
#include "kl_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common.h"
#include "kl.h"
#include "text_score.h"

static const char magic[8] = "zambakl";

typedef struct disk_head {
    char magic[8];
    uint32_t version, head_bytes;
    uint64_t model, n_ids, n_rows, ids_hash;
    uint32_t vocab, window, stride, zero;
    uint64_t check; /* hash of all before */
} disk_head;
_Static_assert(sizeof(disk_head) == 72, "the head of the file has no holes");

static uint64_t head_check(const disk_head *d)
{
    return kl_hash(KL_VERSION, d, offsetof(disk_head, check));
}

kl_head kl_head_of(const zamba_model_info *model, const int32_t *ids, size_t n_ids, size_t window, size_t stride)
{
    return (kl_head){.model = model->fingerprint,
                     .n_ids = n_ids,
                     .n_rows = text_predictions(n_ids, window, stride),
                     .ids_hash = kl_hash(n_ids, ids, n_ids * sizeof *ids),
                     .vocab = (uint32_t)model->vocab_size,
                     .window = (uint32_t)window,
                     .stride = (uint32_t)stride};
}

uint64_t kl_file_bytes(const kl_head *head)
{
    uint64_t ids, rows, all;
    if (__builtin_mul_overflow(head->n_ids, sizeof(int32_t), &ids) ||
        __builtin_mul_overflow(head->n_rows, (uint64_t)kl_row_bytes(head->vocab), &rows) ||
        __builtin_add_overflow(ids, rows, &all) || __builtin_add_overflow(all, sizeof(disk_head), &all) ||
        all > INT64_MAX)
        return 0;
    return all;
}

static void place(kl_file *f)
{
    f->row_bytes = kl_row_bytes(f->head.vocab);
    f->first_row = sizeof(disk_head) + f->head.n_ids * sizeof(int32_t);
}

static int write_at(const kl_file *f, const void *data, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t put = pwrite(f->fd, (const char *)data + done, n - done, (off_t)(at + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return cli_error("%s: %s; what was there before stays", f->path, put < 0 ? strerror(errno) : "full");
        done += (size_t)put;
    }
    return 0;
}

static int read_at(const kl_file *f, void *data, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(f->fd, (char *)data + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return cli_error("%s: %s", f->path, got < 0 ? strerror(errno) : "ends too early (was it cut off?)");
        done += (size_t)got;
    }
    return 0;
}

/* Refuse before hours of work what the disk has no room for. */
static int check_room(const char *path, uint64_t bytes)
{
    char folder[PATH_MAX], need[32], have[32];
    struct statvfs disk;
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + 1 : 1;
    if (n >= sizeof folder)
        return cli_error("%s: the name is too long", path);
    memcpy(folder, slash ? path : ".", n);
    folder[n] = 0;
    if (statvfs(folder, &disk) != 0)
        return cli_error("%s: %s", folder, strerror(errno));
    const uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    fprintf(stderr, "zamba: %s will have %s\n", path, cli_bytes((double)bytes, need));
    if (room < bytes)
        return cli_error("%s: needs %s, the disk has %s left (fewer tokens with --limit?)", path,
                         cli_bytes((double)bytes, need), cli_bytes((double)room, have));
    return 0;
}

/* What stands there already may only be such a file, or empty: a name given by mistake costs no text or model. */
static int check_old(const char *path)
{
    char start[sizeof magic];
    struct stat st;
    if (stat(path, &st) != 0)
        return 0;
    if (!S_ISREG(st.st_mode))
        return cli_error("%s: is no plain file", path);
    if (st.st_size == 0)
        return 0;
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(start, 1, sizeof start, f) : 0;
    if (f)
        fclose(f);
    if (n != sizeof start || memcmp(start, magic, sizeof magic) != 0)
        return cli_error("%s: is there already and no file of --save-kl-base; it is not replaced", path);
    return 0;
}

int kl_file_create(kl_file *f, const char *path, const kl_head *head, const int32_t *ids)
{
    const uint64_t bytes = kl_file_bytes(head);
    *f = (kl_file){.head = *head, .path = path, .fd = -1};
    place(f);
    if (bytes == 0)
        return cli_error("%s: more rows than a file can hold", path);
    int code = check_old(path);
    if (code == 0)
        code = check_room(path, bytes);
    const size_t n = strlen(path) + 32;
    f->part = code ? NULL : malloc(n);
    if (code || !f->part)
        return code ? code : cli_error("out of memory");
    snprintf(f->part, n, "%s.%ld.part", path, (long)getpid());
    f->fd = open(f->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (f->fd < 0) {
        code = cli_error("%s: %s", path, strerror(errno));
        free(f->part);
        f->part = NULL;
        return code;
    }
    disk_head d = {.version = KL_VERSION,
                   .head_bytes = sizeof d,
                   .model = head->model,
                   .n_ids = head->n_ids,
                   .n_rows = head->n_rows,
                   .ids_hash = head->ids_hash,
                   .vocab = head->vocab,
                   .window = head->window,
                   .stride = head->stride};
    memcpy(d.magic, magic, sizeof magic);
    d.check = head_check(&d);
    code = write_at(f, &d, sizeof d, 0);
    return code ? code : write_at(f, ids, (size_t)head->n_ids * sizeof *ids, sizeof d);
}

int kl_file_put(kl_file *f, uint64_t row, const void *packed)
{
    return write_at(f, packed, f->row_bytes, f->first_row + row * f->row_bytes);
}

int kl_file_finish(kl_file *f)
{
    int error = fsync(f->fd) != 0 ? errno : 0;
    if (close(f->fd) != 0 && !error)
        error = errno;
    f->fd = -1;
    if (!error && rename(f->part, f->path) != 0)
        error = errno;
    if (error)
        return cli_error("%s: %s; what was there before stays", f->path, strerror(error));
    free(f->part);
    f->part = NULL;
    return 0;
}

int kl_file_open(kl_file *f, const char *path)
{
    disk_head d;
    struct stat st;
    char a[32], b[32];
    *f = (kl_file){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (f->fd < 0)
        return cli_error("%s: %s%s", path, strerror(errno),
                         errno == ENOENT ? " (make it with the unquantized model and --save-kl-base)" : "");
    if (fstat(f->fd, &st) != 0)
        return cli_error("%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return cli_error("%s: is no plain file", path);
    if ((uint64_t)st.st_size < sizeof d)
        return cli_error("%s: %lld bytes, a file of --save-kl-base has at least %zu", path, (long long)st.st_size,
                         sizeof d);
    if (read_at(f, &d, sizeof d, 0) != 0)
        return 1;
    if (memcmp(d.magic, magic, sizeof magic) != 0)
        return cli_error("%s: is no file of --save-kl-base", path);
    if (d.version != KL_VERSION)
        return cli_error("%s: version %u, wanted %d (made by another zamba?)", path, d.version, KL_VERSION);
    if (d.check != head_check(&d) || d.head_bytes != sizeof d || d.zero != 0)
        return cli_error("%s: the head is damaged", path);
    f->head = (kl_head){d.model, d.n_ids, d.n_rows, d.ids_hash, d.vocab, d.window, d.stride};
    const uint64_t bytes = kl_file_bytes(&f->head);
    if (d.vocab < 1 || d.vocab > INT32_MAX || d.n_ids < 2 || d.n_rows < 1 || d.n_rows >= d.n_ids || d.window < 2 ||
        d.stride < 1 || d.stride > d.window || bytes == 0)
        return cli_error("%s: the head is damaged: impossible sizes", path);
    if (bytes != (uint64_t)st.st_size)
        return cli_error("%s: %s, wanted %s: %llu rows for %u ids (cut off?)", path, cli_bytes((double)st.st_size, a),
                         cli_bytes((double)bytes, b), (unsigned long long)d.n_rows, d.vocab);
    place(f);
    return 0;
}

/* Say where two texts part. */
static int other_text(const kl_file *f, const kl_head *want, const int32_t *ids)
{
    int32_t piece[1024];
    const uint64_t n = f->head.n_ids < want->n_ids ? f->head.n_ids : want->n_ids;
    for (uint64_t at = 0; at < n;) {
        const size_t count = n - at < 1024 ? (size_t)(n - at) : 1024;
        if (read_at(f, piece, count * sizeof *piece, sizeof(disk_head) + at * sizeof *piece) != 0)
            return 1;
        for (size_t i = 0; i < count; i++)
            if (piece[i] != ids[at + i])
                return cli_error("%s: was made from another text: token %llu is %d there, %d here", f->path,
                                 (unsigned long long)(at + i), piece[i], ids[at + i]);
        at += count;
    }
    return cli_error("%s: was made from another text: %llu tokens, here %llu (another --limit?)", f->path,
                     (unsigned long long)f->head.n_ids, (unsigned long long)want->n_ids);
}

int kl_file_match(const kl_file *f, const kl_head *want, const int32_t *ids)
{
    const kl_head *h = &f->head;
    if (h->vocab != want->vocab)
        return cli_error("%s: was made for a vocabulary of %u ids, this model has %u", f->path, h->vocab, want->vocab);
    if (h->n_ids != want->n_ids || h->ids_hash != want->ids_hash)
        return other_text(f, want, ids);
    if (h->window != want->window)
        return cli_error("%s: was made with --window %u, here it is %u", f->path, h->window, want->window);
    if (h->stride != want->stride)
        return cli_error("%s: was made with --stride %u, here it is %u", f->path, h->stride, want->stride);
    if (h->n_rows != want->n_rows)
        return cli_error("%s: %llu predictions, wanted %llu (damaged?)", f->path, (unsigned long long)h->n_rows,
                         (unsigned long long)want->n_rows);
    return 0;
}

int kl_file_get(const kl_file *f, uint64_t row, void *packed)
{
    if (row >= f->head.n_rows)
        return cli_error("%s: row %llu of %llu", f->path, (unsigned long long)row, (unsigned long long)f->head.n_rows);
    return read_at(f, packed, f->row_bytes, f->first_row + row * f->row_bytes);
}

void kl_file_close(kl_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->part) {
        unlink(f->part);
        free(f->part);
    }
    f->fd = -1;
    f->part = NULL;
}
