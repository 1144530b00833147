/* out_safetensors.c — see out_safetensors.h. Layout: 8 bytes header length (little-endian), JSON header padded with
 * spaces to a multiple of 8, tensor bytes in the order in which they were added. */
#include "out_safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

int st_add(st_writer *w, const char *name, size_t rows, size_t columns)
{
    uint64_t bytes;
    st_tensor *larger = realloc(w->tensors, (w->n_tensors + 1) * sizeof *larger);
    if (!larger)
        return cli_error("out of memory");
    w->tensors = larger;
    if (__builtin_mul_overflow((uint64_t)rows, (uint64_t)columns * sizeof(float), &bytes) ||
        w->n_bytes > (uint64_t)INT64_MAX / 2 || bytes > (uint64_t)INT64_MAX / 2)
        return cli_error("%s: %zu rows of %zu are too much for a file", name, rows, columns);
    st_tensor *t = &w->tensors[w->n_tensors++];
    *t = (st_tensor){.rows = rows,
                     .columns = columns,
                     .shape = {(int64_t)rows, (int64_t)columns},
                     .n_dims = 2,
                     .offset = w->n_bytes};
    snprintf(t->name, sizeof t->name, "%s", name);
    w->n_bytes += bytes;
    return 0;
}

int st_add_shape(st_writer *w, const char *name, const int64_t *shape, int n_dims)
{
    const size_t columns = n_dims > 0 ? (size_t)shape[n_dims - 1] : 1;
    size_t rows = 1;
    for (int d = 0; d < n_dims - 1; d++)
        rows *= (size_t)shape[d];
    if (st_add(w, name, rows, columns) != 0)
        return 1;
    st_tensor *t = &w->tensors[w->n_tensors - 1];
    t->n_dims = n_dims;
    for (int d = 0; d < n_dims; d++)
        t->shape[d] = shape[d];
    return 0;
}

static int write_at(st_writer *w, const void *data, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t put = pwrite(w->fd, (const char *)data + done, n - done, (off_t)(at + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return cli_error("%s: %s", w->path, errno == ESPIPE ? "is a pipe, wanted a file" : strerror(errno));
        done += (size_t)put;
    }
    return 0;
}

static char *make_header(const st_writer *w)
{
    json_t *header = json_object();
    char *text = NULL;
    bool fine = header != NULL;
    for (size_t i = 0; fine && i < w->n_tensors; i++) {
        const st_tensor *t = &w->tensors[i];
        const json_int_t end = (json_int_t)(t->offset + (uint64_t)t->rows * t->columns * sizeof(float));
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        fine = json_object_set_new(header, t->name,
                                   json_pack("{s:s, s:o, s:[I,I]}", "dtype", "F32", "shape", shape, "data_offsets",
                                             (json_int_t)t->offset, end)) == 0;
    }
    if (fine)
        text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

int st_start(st_writer *w, const char *path)
{
    struct stat st;
    w->path = path;
    w->fd = -1;
    char *header = make_header(w);
    if (!header)
        return cli_error("out of memory");
    const size_t n = strlen(header), padded = (n + 7) & ~(size_t)7;
    int code = 0;
    w->direct = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    if ((size_t)snprintf(w->beside, sizeof w->beside, w->direct ? "%s" : "%s.%ld.part", path, (long)getpid()) >=
        sizeof w->beside) {
        code = cli_error("%s: the name is too long", path);
    } else {
        w->fd = open(w->beside, (w->direct ? O_WRONLY : O_RDWR | O_CREAT | O_TRUNC) | O_CLOEXEC | O_NONBLOCK, 0666);
        if (w->fd < 0)
            code = cli_error("%s: %s", path, strerror(errno));
    }
    if (code == 0) {
        unsigned char length[8];
        for (int i = 0; i < 8; i++)
            length[i] = (unsigned char)((uint64_t)padded >> (8 * i));
        w->data_at = 8 + padded;
        code = write_at(w, length, 8, 0);
    }
    if (code == 0)
        code = write_at(w, header, n, 8);
    if (code == 0)
        code = write_at(w, "        ", padded - n, 8 + n);
    free(header);
    return code;
}

int st_put(st_writer *w, size_t tensor, size_t first_row, size_t n_rows, const float *data)
{
    const st_tensor *t = &w->tensors[tensor];
    const size_t row = t->columns * sizeof(float);
    return write_at(w, data, n_rows * row, w->data_at + t->offset + (uint64_t)first_row * row);
}

int st_close(st_writer *w, int code)
{
    if (w->path && w->fd >= 0) {
        if (code == 0 && !w->direct && fsync(w->fd) != 0)
            code = cli_error("%s: %s", w->path, strerror(errno));
        if (close(w->fd) != 0 && code == 0)
            code = cli_error("%s: %s", w->path, strerror(errno));
        if (code == 0 && !w->direct && rename(w->beside, w->path) != 0)
            code = cli_error("%s: %s", w->path, strerror(errno));
        if (code != 0 && !w->direct)
            unlink(w->beside);
    }
    free(w->tensors);
    *w = (st_writer){.fd = -1};
    return code;
}
