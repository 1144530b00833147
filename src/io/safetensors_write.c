/* safetensors_write.c — see safetensors_write.h. */
#include "io/safetensors_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

typedef struct tensor {
    char *name;
    zb_dtype type;
    size_t shape[ZB_MAX_DIMS];
    int n_dims;
    uint64_t bytes;
    size_t file;
} tensor;

struct zb_shards {
    char *folder;
    const char *stem;
    uint64_t most, bytes, in_file;
    tensor *list;
    size_t n, capacity, n_files;
    zb_file_out out;
    size_t current; /* the tensor whose bytes come */
    uint64_t current_done;
    int begun;
    zamba_error why;
};

zamba_status zb_shards_create(zb_shards **out, const char *folder, uint64_t most_bytes, zamba_error *err)
{
    *out = NULL;
    zb_shards *w = calloc(1, sizeof *w);
    if (w == NULL)
        return zb_fail_memory(err, folder, sizeof *w);
    w->folder = strdup(folder);
    w->stem = "model";
    w->most = most_bytes;
    w->out.fd = -1;
    if (w->folder == NULL) {
        free(w);
        return zb_fail_memory(err, folder, strlen(folder));
    }
    *out = w;
    return ZAMBA_OK;
}

void zb_shards_stem(zb_shards *w, const char *stem)
{
    w->stem = stem;
}

void zb_shards_declare(zb_shards *w, const char *name, zb_dtype type, const size_t *shape, int n_dims)
{
    tensor t = {.type = type, .n_dims = n_dims};
    size_t bytes = type < ZB_N_FLOATS ? zb_dtype_bytes(type) : 0;
    if (w->why.code != ZAMBA_OK)
        return;
    int fits = bytes > 0 && n_dims <= ZB_MAX_DIMS;
    for (int d = 0; d < n_dims && fits; d++) {
        t.shape[d] = shape[d];
        fits = zb_mul(bytes, shape[d], &bytes);
    }
    if (!fits || bytes > INT64_MAX / 2 || w->bytes > INT64_MAX / 2) {
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: tensor %.80s is %s, which safetensors files do not hold, or too large",
                w->folder, name, zb_dtype_name(type));
        return;
    }
    if (w->n == w->capacity) {
        const size_t capacity = w->capacity == 0 ? 256 : 2 * w->capacity;
        tensor *grown = realloc(w->list, capacity * sizeof *grown);
        if (grown == NULL) {
            zb_fail_memory(&w->why, w->folder, capacity * sizeof *grown);
            return;
        }
        w->list = grown;
        w->capacity = capacity;
    }
    t.bytes = bytes;
    t.name = strdup(name);
    if (t.name == NULL) {
        zb_fail_memory(&w->why, w->folder, strlen(name));
        return;
    }
    if (w->n_files == 0 || (w->in_file > 0 && w->in_file + bytes > w->most)) {
        w->n_files++;
        w->in_file = 0;
    }
    t.file = w->n_files - 1;
    w->in_file += bytes;
    w->bytes += bytes;
    w->list[w->n++] = t;
}

uint64_t zb_shards_bytes(const zb_shards *w)
{
    return w->bytes;
}

size_t zb_shards_files(const zb_shards *w)
{
    return w->n_files;
}

static void file_name(const zb_shards *w, size_t file, char *buf, size_t n)
{
    if (w->n_files == 1)
        snprintf(buf, n, "%s.safetensors", w->stem);
    else
        snprintf(buf, n, "%s-%05zu-of-%05zu.safetensors", w->stem, file + 1, w->n_files);
}

/* The header of the file whose first tensor is `first`; padded so that the data begins at a multiple of 8. */
static char *make_header(const zb_shards *w, size_t first)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    uint64_t at = 0;
    int bad = header == NULL;
    for (size_t i = first; i < w->n && w->list[i].file == w->list[first].file && !bad; i++) {
        const tensor *t = &w->list[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++)
            bad |= json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        bad |= json_object_set_new(header, t->name,
                                   json_pack("{s:s, s:o, s:[I, I]}", "dtype", zb_dtype_name(t->type), "shape", shape,
                                             "data_offsets", (json_int_t)at, (json_int_t)(at + t->bytes)));
        at += t->bytes;
    }
    char *text = bad ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

static zamba_status open_file(zb_shards *w, zamba_error *err)
{
    char name[64], path[4096];
    unsigned char length[8];
    char *header = make_header(w, w->current);
    if (header == NULL)
        return zb_fail_memory(err, w->folder, 0);
    const size_t n = strlen(header), padded = (n + 7) & ~(size_t)7;
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    file_name(w, w->list[w->current].file, name, sizeof name);
    zamba_status st = zb_path_join(path, sizeof path, w->folder, name, err);
    if (st == ZAMBA_OK)
        st = zb_file_out_open(&w->out, path, err);
    if (st == ZAMBA_OK)
        st = zb_file_out_write(&w->out, length, 8, err);
    if (st == ZAMBA_OK)
        st = zb_file_out_write(&w->out, header, n, err);
    if (st == ZAMBA_OK)
        st = zb_file_out_write(&w->out, "        ", padded - n, err);
    free(header);
    return st;
}

/* Past the tensors that are whole; a file that is whole is closed and the next one begun. */
static zamba_status next_tensor(zb_shards *w, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    while (st == ZAMBA_OK && w->current < w->n && w->current_done == w->list[w->current].bytes) {
        const size_t file = w->list[w->current++].file;
        w->current_done = 0;
        if (w->current < w->n && w->list[w->current].file == file)
            continue;
        st = zb_file_out_commit(&w->out, err);
        if (st == ZAMBA_OK && w->current < w->n)
            st = open_file(w, err);
    }
    return st;
}

zamba_status zb_shards_begin(zb_shards *w, zamba_error *err)
{
    if (w->why.code != ZAMBA_OK)
        return zb_fail(err, w->why.code, "%s", w->why.message);
    if (w->begun || w->n == 0)
        return zb_fail(err, ZAMBA_E_ARG, "%s: begun twice, or without tensors", w->folder);
    w->begun = 1;
    zamba_status st = zb_file_room(w->folder, w->bytes, err);
    if (st == ZAMBA_OK)
        st = open_file(w, err);
    return st == ZAMBA_OK ? next_tensor(w, err) : st;
}

zamba_status zb_shards_append(zb_shards *w, const void *data, size_t n, zamba_error *err)
{
    const unsigned char *p = data;
    zamba_status st = ZAMBA_OK;
    while (n > 0 && st == ZAMBA_OK) {
        if (!w->begun || w->current == w->n)
            return zb_fail(err, ZAMBA_E_ARG, "%s: %zu bytes more than the tensors have", w->folder, n);
        const uint64_t missing = w->list[w->current].bytes - w->current_done;
        const size_t part = n < missing ? n : (size_t)missing;
        st = zb_file_out_write(&w->out, p, part, err);
        p += part;
        n -= part;
        w->current_done += part;
        if (st == ZAMBA_OK)
            st = next_tensor(w, err);
    }
    return st;
}

static zamba_status write_index(const zb_shards *w, zamba_error *err)
{
    char name[64], path[4096];
    json_t *map = json_object();
    int bad = map == NULL;
    for (size_t i = 0; i < w->n && !bad; i++) {
        file_name(w, w->list[i].file, name, sizeof name);
        bad = json_object_set_new(map, w->list[i].name, json_string(name)) != 0;
    }
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)w->bytes, "weight_map", map);
    char *text = bad || index == NULL ? NULL : json_dumps(index, JSON_INDENT(2));
    json_decref(index);
    if (text == NULL)
        return zb_fail_memory(err, w->folder, 0);
    zamba_status st = ZAMBA_OK;
    snprintf(name, sizeof name, "%s.safetensors.index.json", w->stem);
    st = zb_path_join(path, sizeof path, w->folder, name, err);
    if (st == ZAMBA_OK)
        st = zb_file_write(path, (zb_file_part[]){{text, strlen(text)}, {"\n", 1}}, 2, err);
    free(text);
    return st;
}

zamba_status zb_shards_finish(zb_shards *w, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    if (!w->begun || w->current < w->n)
        st = zb_fail(err, ZAMBA_E_ARG, "%s: bytes of tensors are missing", w->folder);
    else if (w->n_files > 1)
        st = write_index(w, err);
    zb_shards_cancel(w);
    return st;
}

void zb_shards_cancel(zb_shards *w)
{
    if (w == NULL)
        return;
    zb_file_out_discard(&w->out);
    for (size_t i = 0; i < w->n; i++)
        free(w->list[i].name);
    free(w->list);
    free(w->folder);
    free(w);
}
