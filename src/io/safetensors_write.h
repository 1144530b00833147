/* safetensors_write.h — writes the weights of a checkpoint folder from front to back: model.safetensors, or shards with
 * their index. Files are written one after another; the folder is the caller's (see folder_out.h). Knows no model. */
#ifndef ZB_SAFETENSORS_WRITE_H
#define ZB_SAFETENSORS_WRITE_H

#include "io/safetensors.h"

typedef struct zb_shards zb_shards;

/* A new shard begins where a file would hold more than most_bytes of tensors. Touches no file yet. */
zamba_status zb_shards_create(zb_shards **out, const char *folder, uint64_t most_bytes, zamba_error *err);

/* Files are called after this (not copied) instead of "model". Before the first is begun. */
void zb_shards_stem(zb_shards *w, const char *stem);

/* The next tensor, of a plain type. What goes wrong is reported by zb_shards_begin. */
void zb_shards_declare(zb_shards *w, const char *name, zb_dtype type, const size_t *shape, int n_dims);

uint64_t zb_shards_bytes(const zb_shards *w); /* of all tensors */
size_t zb_shards_files(const zb_shards *w);   /* shards, without the index */

/* Then the bytes of all tensors, in the order in which they were declared, in any pieces. */
zamba_status zb_shards_begin(zb_shards *w, zamba_error *err);
zamba_status zb_shards_append(zb_shards *w, const void *data, size_t n, zamba_error *err);

/* All bytes are there: the last file is closed, the index written. Releases the writer, also on an error. */
zamba_status zb_shards_finish(zb_shards *w, zamba_error *err);
void zb_shards_cancel(zb_shards *w); /* NULL is fine; whole shards stay in the folder */

#endif
