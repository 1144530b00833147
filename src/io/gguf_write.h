/* gguf_write.h — writes a GGUF file (version 3) from front to back: keys, then the list of tensors, then their bytes as
 * they come. It grows beside its place and takes it as a whole at the end; on an error or a cancel nothing is left, and
 * an older file stays. The same calls give the same bytes. Knows no model.
 *
 *   zb_gguf_create, zb_gguf_put_* (any number), zb_gguf_declare (each tensor), zb_gguf_begin, zb_gguf_append (the bytes
 *   of all tensors, in the order in which they were declared), zb_gguf_finish or, at any time, zb_gguf_cancel. */
#ifndef ZB_GGUF_WRITE_H
#define ZB_GGUF_WRITE_H

#include "io/gguf.h"

#define ZB_GGUF_ALIGNMENT 32

typedef struct zb_gguf_writer zb_gguf_writer;

/* Touches no file yet. */
zamba_status zb_gguf_create(zb_gguf_writer **out, const char *path, zamba_error *err);

/* Keys, in the order in which they will stand. What goes wrong (no memory, a key twice) is kept and reported by
 * zb_gguf_begin. Texts are bytes of any content; those that others read should be UTF-8. */
void zb_gguf_put_u32(zb_gguf_writer *w, const char *key, uint32_t value);
void zb_gguf_put_u64(zb_gguf_writer *w, const char *key, uint64_t value);
void zb_gguf_put_f32(zb_gguf_writer *w, const char *key, float value);
void zb_gguf_put_f64(zb_gguf_writer *w, const char *key, double value);
void zb_gguf_put_bool(zb_gguf_writer *w, const char *key, int value);
void zb_gguf_put_text(zb_gguf_writer *w, const char *key, const char *text, size_t n);
void zb_gguf_put_string(zb_gguf_writer *w, const char *key, const char *text); /* up to its NUL */
void zb_gguf_put_u32s(zb_gguf_writer *w, const char *key, const uint32_t *values, size_t n);
void zb_gguf_put_i32s(zb_gguf_writer *w, const char *key, const int32_t *values, size_t n);
void zb_gguf_put_f32s(zb_gguf_writer *w, const char *key, const float *values, size_t n);
/* An array of n texts: then zb_gguf_add_text n times. */
void zb_gguf_put_texts(zb_gguf_writer *w, const char *key, size_t n);
void zb_gguf_add_text(zb_gguf_writer *w, const char *text, size_t n);
/* A value as it stands in another file. */
void zb_gguf_put_value(zb_gguf_writer *w, const char *key, size_t n_key, const zb_gguf_value *value);

/* The next tensor. Shapes are row-major, at most 4 dimensions; the last one a whole number of blocks. */
void zb_gguf_declare(zb_gguf_writer *w, const char *name, zb_dtype type, const size_t *shape, int n_dims);

/* Bytes of the whole file, as declared so far. */
uint64_t zb_gguf_bytes(const zb_gguf_writer *w);

/* Report what went wrong so far, see whether the disk has room (E_IO names both numbers), write everything before the
 * tensors' bytes. */
zamba_status zb_gguf_begin(zb_gguf_writer *w, zamba_error *err);

/* The next n bytes of tensors: any part of one, or of several, each ended at its last byte (what stands between them in
 * the file is put there). */
zamba_status zb_gguf_append(zb_gguf_writer *w, const void *data, size_t n, zamba_error *err);

/* All bytes are there: sync, take the place. Releases the writer, also on an error. */
zamba_status zb_gguf_finish(zb_gguf_writer *w, zamba_error *err);

/* Leave nothing behind; releases the writer. NULL is fine. */
void zb_gguf_cancel(zb_gguf_writer *w);

#endif
