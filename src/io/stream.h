/* stream.h — a file read once from its beginning to its end, in pieces or in lines, unpacked on the way if it is packed
 * with zstd (by its first bytes, whatever its name). What is large and read in any order is mapped instead: file.h. */
#ifndef ZB_STREAM_H
#define ZB_STREAM_H

#include "core/mem.h"

typedef struct zb_stream zb_stream;

/* Errors: those of opening; ZAMBA_E_UNSUPPORTED: packed by something else (gzip, xz, bzip2, zip). */
zamba_status zb_stream_open(zb_stream **out, const char *path, zamba_error *err);
void zb_stream_close(zb_stream *s);

/* The next bytes, n of them except at the end. */
zamba_status zb_stream_read(zb_stream *s, void *data, size_t n, size_t *got, zamba_error *err);

/* The next line with its line end; the last one may have none. *line is the stream's, valid until its next call, and
 * NULL after the last. Longer than max bytes: ZAMBA_E_FORMAT, with the line's number. */
zamba_status zb_stream_line(zb_stream *s, const char **line, size_t *n, size_t max, zamba_error *err);

/* Nonzero: it is unpacked on the way. */
int zb_stream_packed(const zb_stream *s);

/* Lines given so far: the number, from 1, of the last one. */
uint64_t zb_stream_lines(const zb_stream *s);

/* Bytes of the file that were read, and that it has. */
uint64_t zb_stream_done(const zb_stream *s);
uint64_t zb_stream_size(const zb_stream *s);

#endif
