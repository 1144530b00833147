/* data_ids.c — see data_ids.h. */
#include "train/data_ids.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/hash.h"
#include "io/file.h"

#define BUFFER ((size_t)64 << 10) /* a multiple of both widths; the hash goes in steps of it */

static zamba_status begin(zb_ids *f, int width, zamba_error *err)
{
    f->width = width;
    f->buffer = malloc(BUFFER);
    return f->buffer != NULL ? ZAMBA_OK : zb_fail_memory(err, "token ids", BUFFER);
}

zamba_status zb_ids_create(zb_ids *f, int width, zamba_error *err)
{
    *f = (zb_ids){.fd = -1};
    const zamba_status st = zb_file_temporary(&f->fd, err);
    return st == ZAMBA_OK ? begin(f, width, err) : st;
}

/* An adopted file is never written: a negative width says so until it is finished. */
zamba_status zb_ids_adopt(zb_ids *f, const char *path, int width, zamba_error *err)
{
    size_t size;
    *f = (zb_ids){.fd = -1};
    const zamba_status st = zb_file_open(&f->fd, &size, path, err);
    return st == ZAMBA_OK ? begin(f, -width, err) : st;
}

void zb_ids_close(zb_ids *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->buffer);
    *f = (zb_ids){.fd = -1};
}

static zamba_status flush(zb_ids *f, zamba_error *err)
{
    f->hash = zb_hash(f->buffer, f->n_buffer, f->hash);
    for (size_t at = 0; f->width > 0 && at < f->n_buffer;) {
        const ssize_t put = write(f->fd, f->buffer + at, f->n_buffer - at);
        if (put < 0 && errno != EINTR)
            return zb_fail(err, ZAMBA_E_IO,
                           "token ids: cannot write a temporary file: %s (TMPDIR names another folder)",
                           strerror(errno));
        at += put > 0 ? (size_t)put : 0;
    }
    f->n_buffer = 0;
    return ZAMBA_OK;
}

zamba_status zb_ids_add(zb_ids *f, uint32_t id, zamba_error *err)
{
    const int width = abs(f->width);
    for (int i = 0; i < width; i++)
        f->buffer[f->n_buffer++] = (unsigned char)(id >> 8 * i);
    f->n++;
    return f->n_buffer == BUFFER ? flush(f, err) : ZAMBA_OK;
}

zamba_status zb_ids_finish(zb_ids *f, zamba_error *err)
{
    const zamba_status st = flush(f, err);
    f->width = abs(f->width);
    free(f->buffer);
    f->buffer = NULL;
    return st;
}

zamba_status zb_ids_read(const zb_ids *f, uint64_t start, size_t n, uint32_t *out, const char *path, zamba_error *err)
{
    /* into the end of the caller's place: widening from there never overtakes what is still to be read */
    const size_t width = (size_t)f->width, bytes = n * width;
    unsigned char *from = (unsigned char *)out + n * sizeof *out - bytes;
    for (size_t at = 0; at < bytes;) {
        const ssize_t got = pread(f->fd, from + at, bytes - at, (off_t)(start * width + at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return zb_fail(err, ZAMBA_E_IO, "%s: cannot read: %s", path, strerror(errno));
        if (got == 0)
            return zb_fail(err, ZAMBA_E_IO, "%s: shorter than when it was opened (it must not change while it is used)",
                           path);
        at += (size_t)got;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t id = 0;
        for (size_t k = 0; k < width; k++)
            id |= (uint32_t)from[i * width + k] << 8 * k;
        out[i] = id;
    }
    return ZAMBA_OK;
}
