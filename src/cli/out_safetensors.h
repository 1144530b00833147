/* out_safetensors.h — writes a safetensors file of f32 tensors, rows in any order, without holding them in memory.
 * The file appears under its name only when it is whole; until then, and on an error, an older one stays. */
#ifndef CLI_OUT_SAFETENSORS_H
#define CLI_OUT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

typedef struct st_tensor {
    char name[192];
    size_t rows, columns; /* columns: of the last dimension */
    int64_t shape[4];
    int n_dims;
    uint64_t offset; /* of its bytes behind the header */
} st_tensor;

typedef struct st_writer {
    const char *path;
    char beside[4096]; /* the file that is written until it is whole; `path` itself if that is a device */
    int fd;
    int direct;
    st_tensor *tensors;
    size_t n_tensors;
    uint64_t n_bytes, data_at;
} st_writer;

/* All return exit codes, a message written. Add every tensor, start, put rows, close. */
int st_add(st_writer *w, const char *name, size_t rows, size_t columns);
/* The same for up to 4 dimensions; none: a single number. */
int st_add_shape(st_writer *w, const char *name, const int64_t *shape, int n_dims);
int st_start(st_writer *w, const char *path);
int st_put(st_writer *w, size_t tensor, size_t first_row, size_t n_rows, const float *data);
/* `code` not 0: throw the file away. Frees everything; fine on a zeroed writer. */
int st_close(st_writer *w, int code);

#endif
