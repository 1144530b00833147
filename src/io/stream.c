/* stream.c — reading in order: a buffer that is filled from the file or by zstd, and lines cut out of it. */
#include "io/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "io/file.h"

#define BUFFER ((size_t)256 << 10)

struct zb_stream {
    char *path;
    int fd;
    size_t size;
    uint64_t done, lines;
    char *data; /* [BUFFER]: what was read (unpacked) and data[at .. n) not given yet */
    size_t at, n;
    zb_buf line; /* one that does not lie in the buffer whole */
    ZSTD_DStream *zstd;
    char *packed; /* [BUFFER] */
    ZSTD_inBuffer in;
    size_t due;  /* what zstd said last: 0 at the end of a frame */
    int pending; /* it may hold more without more input */
};

/* What can be told by the first bytes and is not read here. */
static const struct {
    const char *bytes;
    size_t n;
    const char *name, *cure;
} foreign[] = {
    {"\x1f\x8b", 2, "gzip", "gzip -dc FILE | zstd > FILE.zst"},
    {"\xfd"
     "7zXZ",
     5, "xz", "xz -dc FILE | zstd > FILE.zst"},
    {"BZh", 3, "bzip2", "bzip2 -dc FILE | zstd > FILE.zst"},
    {"PK\x03\x04", 4, "zip", "unzip it"},
    {"PAR1", 4, "Parquet", "write its rows as JSON lines"},
};

static zamba_status check_packing(const char *path, int *zstd, zamba_error *err)
{
    const size_t n = strlen(path);
    *zstd = zb_file_begins(path, "\x28\xb5\x2f\xfd", 4);
    if (!*zstd && n > 4 && strcmp(path + n - 4, ".zst") == 0)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: is not packed with zstd, though its name ends in .zst", path);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (zb_file_begins(path, foreign[i].bytes, foreign[i].n))
            return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: a %s file; plain files and those of zstd are read (%s)", path,
                           foreign[i].name, foreign[i].cure);
    return ZAMBA_OK;
}

zamba_status zb_stream_open(zb_stream **out, const char *path, zamba_error *err)
{
    int zstd = 0;
    *out = NULL;
    zb_stream *s = calloc(1, sizeof *s);
    if (s == NULL)
        return zb_fail_memory(err, path, sizeof *s);
    s->fd = -1;
    zamba_status st = zb_file_open(&s->fd, &s->size, path, err);
    if (st == ZAMBA_OK)
        st = check_packing(path, &zstd, err);
    if (st == ZAMBA_OK) {
        s->path = strdup(path);
        s->data = malloc(BUFFER);
        s->packed = zstd ? malloc(BUFFER) : NULL;
        s->zstd = zstd ? ZSTD_createDStream() : NULL;
        if (s->path == NULL || s->data == NULL || (zstd && (s->packed == NULL || s->zstd == NULL)))
            st = zb_fail_memory(err, path, 2 * BUFFER);
        s->in.src = s->packed;
    }
    if (st == ZAMBA_OK)
        *out = s;
    else
        zb_stream_close(s);
    return st;
}

void zb_stream_close(zb_stream *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0)
        close(s->fd);
    ZSTD_freeDStream(s->zstd);
    zb_buf_free(&s->line);
    free(s->packed);
    free(s->data);
    free(s->path);
    free(s);
}

static zamba_status read_file(zb_stream *s, char *to, size_t *got, zamba_error *err)
{
    ssize_t n;
    do
        n = read(s->fd, to, BUFFER);
    while (n < 0 && errno == EINTR);
    *got = n > 0 ? (size_t)n : 0;
    s->done += *got;
    return n >= 0 ? ZAMBA_OK : zb_fail(err, ZAMBA_E_IO, "%s: cannot read: %s", s->path, strerror(errno));
}

static zamba_status unpack(zb_stream *s, zamba_error *err)
{
    ZSTD_outBuffer out = {s->data, BUFFER, 0};
    while (out.pos == 0) {
        if (s->in.pos == s->in.size && !s->pending) {
            zamba_status st = read_file(s, s->packed, &s->in.size, err);
            s->in.pos = 0;
            if (st != ZAMBA_OK)
                return st;
            if (s->in.size == 0 && s->due != 0)
                return zb_fail(err, ZAMBA_E_FORMAT, "%s: the zstd stream ends in the middle (cut-off download?)",
                               s->path);
            if (s->in.size == 0)
                break;
        }
        s->due = ZSTD_decompressStream(s->zstd, &out, &s->in);
        if (ZSTD_isError(s->due))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: cannot be unpacked, near byte %llu: %s", s->path,
                           (unsigned long long)s->done, ZSTD_getErrorName(s->due));
        s->pending = out.pos == out.size;
    }
    s->n = out.pos;
    return ZAMBA_OK;
}

/* More into the empty buffer; n is 0 at the end. */
static zamba_status fill(zb_stream *s, zamba_error *err)
{
    s->at = s->n = 0;
    return s->zstd != NULL ? unpack(s, err) : read_file(s, s->data, &s->n, err);
}

zamba_status zb_stream_read(zb_stream *s, void *data, size_t n, size_t *got, zamba_error *err)
{
    for (*got = 0; *got < n;) {
        if (s->at == s->n) {
            const zamba_status st = fill(s, err);
            if (st != ZAMBA_OK)
                return st;
            if (s->n == 0)
                break;
        }
        const size_t have = s->n - s->at, want = n - *got, part = have < want ? have : want;
        memcpy((char *)data + *got, s->data + s->at, part);
        s->at += part;
        *got += part;
    }
    return ZAMBA_OK;
}

zamba_status zb_stream_line(zb_stream *s, const char **line, size_t *n, size_t max, zamba_error *err)
{
    s->line.n = 0;
    *line = NULL;
    *n = 0;
    for (;;) {
        if (s->at == s->n) {
            const zamba_status st = fill(s, err);
            if (st != ZAMBA_OK)
                return st;
            if (s->n == 0)
                break;
        }
        const char *start = s->data + s->at, *end = memchr(start, '\n', s->n - s->at);
        const size_t part = end != NULL ? (size_t)(end - start) + 1 : s->n - s->at;
        if (part > max - s->line.n)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s, line %llu: longer than %zu bytes", s->path,
                           (unsigned long long)s->lines + 1, max);
        s->at += part;
        if (end != NULL && s->line.n == 0) { /* whole in the buffer */
            *line = start;
            *n = part;
            break;
        }
        const zamba_status st = zb_buf_append(&s->line, start, part, err);
        if (st != ZAMBA_OK)
            return st;
        if (end != NULL)
            break;
    }
    if (*line == NULL && s->line.n > 0) {
        *line = s->line.data;
        *n = s->line.n;
    }
    s->lines += *line != NULL;
    return ZAMBA_OK;
}

int zb_stream_packed(const zb_stream *s)
{
    return s->zstd != NULL;
}

uint64_t zb_stream_lines(const zb_stream *s)
{
    return s->lines;
}

uint64_t zb_stream_done(const zb_stream *s)
{
    return s->done;
}

uint64_t zb_stream_size(const zb_stream *s)
{
    return s->size;
}
