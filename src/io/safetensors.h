/* safetensors.h — checkpoint files as named tensors: model.safetensors, or shards with their index. Maps; trusts
 * nothing it reads. Knows no model. */
#ifndef ZB_SAFETENSORS_H
#define ZB_SAFETENSORS_H

#include "core/dtype.h"
#include "io/file.h"

#define ZB_MAX_DIMS 8

typedef struct zb_tensor {
    char *name;
    const char *file; /* path, owned by the set                                     */
    const void *data; /* into the mapping                                           */
    size_t bytes;
    size_t shape[ZB_MAX_DIMS];
    int n_dims;
    int known; /* dtype is one of ours; otherwise only dtype_name says which */
    zb_dtype dtype;
    char dtype_name[12];
} zb_tensor;

typedef struct zb_tensors {
    zb_file *files;
    size_t n_files;
    zb_tensor *items; /* sorted by name */
    size_t n;
} zb_tensors;

/* All tensors of a checkpoint folder. Pickle files are never read: if there is nothing else, that is the error. */
zamba_status zb_tensors_open(zb_tensors *out, const char *folder, zamba_error *err);
/* Those of one file. */
zamba_status zb_tensors_open_file(zb_tensors *out, const char *path, zamba_error *err);
void zb_tensors_close(zb_tensors *ts); /* safe on a zeroed set */

const zb_tensor *zb_tensors_find(const zb_tensors *ts, const char *name);

/* Its type as users know it: "BF16"; "GPTQ-4" rather than the blocks that it became. */
const char *zb_tensor_type(const zb_tensor *t);

/* "[256, 64]" into buf, for messages. */
const char *zb_shape_text(char *buf, size_t n, const size_t *shape, int n_dims);

/* One file's worth, appended to `ts` (unsorted); for the fuzzer and for zb_tensors_open. */
zamba_status zb_safetensors_parse(zb_tensors *ts, const unsigned char *data, size_t size, const char *path,
                                  zamba_error *err);

#endif
