/* gguf_write.c — see gguf_write.h. Keys and the list of tensors are kept in memory as they will stand in the file; the
 * tensors' bytes go straight out. */
#include "io/gguf_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A name inside one of the two buffers. */
typedef struct name_at {
    size_t at, n;
} name_at;

typedef struct names {
    name_at *list;
    size_t n, capacity;
} names;

struct zb_gguf_writer {
    char *path;
    zb_buf keys, tensors; /* as they stand in the file            */
    names key_names, tensor_names;
    size_t texts_left;   /* of an array that was begun           */
    uint64_t *sizes;     /* [tensor_names.n] bytes of each       */
    uint64_t data_bytes; /* of all, filled up to the alignment   */
    zb_file_out out;     /* open from begin on                   */
    size_t current;      /* the tensor whose bytes come          */
    uint64_t current_done;
    int begun;
    zamba_error why; /* the first thing that went wrong before begin */
};

static const unsigned char zeros[ZB_GGUF_ALIGNMENT];

zamba_status zb_gguf_create(zb_gguf_writer **out, const char *path, zamba_error *err)
{
    *out = NULL;
    zb_gguf_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return zb_fail_memory(err, path, sizeof *w);
    w->out.fd = -1;
    w->path = strdup(path);
    if (w->path == NULL) {
        free(w);
        return zb_fail_memory(err, path, strlen(path) + 1);
    }
    *out = w;
    return ZAMBA_OK;
}

static int failed(const zb_gguf_writer *w)
{
    return w->why.code != ZAMBA_OK;
}

/* ---- before the tensors' bytes ---- */

static void add(zb_gguf_writer *w, zb_buf *b, const void *data, size_t n)
{
    if (!failed(w))
        (void)zb_buf_append(b, data, n, &w->why);
}

static void add_number(zb_gguf_writer *w, zb_buf *b, uint64_t x, size_t n)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(x >> 8 * i);
    add(w, b, bytes, n);
}

/* A name, noted in the list too. */
static void add_name(zb_gguf_writer *w, zb_buf *b, names *list, const char *name, size_t n)
{
    if (!failed(w) && w->begun)
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: %.80s comes after the beginning of the data", w->path, name);
    if (!failed(w) && w->texts_left > 0)
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: %zu texts of an array are missing before %.80s", w->path, w->texts_left,
                name);
    if (!failed(w) && (n == 0 || n > 255))
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: a name of %zu bytes, wanted 1 to 255", w->path, n);
    if (!failed(w) && list->n == list->capacity) {
        const size_t capacity = list->capacity == 0 ? 256 : 2 * list->capacity;
        name_at *grown = realloc(list->list, capacity * sizeof *grown);
        uint64_t *sizes = list != &w->tensor_names ? w->sizes : realloc(w->sizes, capacity * sizeof *sizes);
        if (grown != NULL)
            list->list = grown;
        if (list == &w->tensor_names && sizes != NULL)
            w->sizes = sizes;
        if (grown == NULL || (list == &w->tensor_names && sizes == NULL))
            zb_fail_memory(&w->why, w->path, capacity * sizeof *grown);
        else
            list->capacity = capacity;
    }
    add_number(w, b, n, 8);
    if (!failed(w))
        list->list[list->n++] = (name_at){b->n, n};
    add(w, b, name, n);
}

static void put(zb_gguf_writer *w, const char *key, zb_gguf_type type)
{
    add_name(w, &w->keys, &w->key_names, key, strlen(key));
    add_number(w, &w->keys, type, 4);
}

static void put_array(zb_gguf_writer *w, const char *key, zb_gguf_type type, size_t n)
{
    put(w, key, ZB_GGUF_ARRAY);
    add_number(w, &w->keys, type, 4);
    add_number(w, &w->keys, n, 8);
}

void zb_gguf_put_u32(zb_gguf_writer *w, const char *key, uint32_t value)
{
    put(w, key, ZB_GGUF_U32);
    add_number(w, &w->keys, value, 4);
}

void zb_gguf_put_u64(zb_gguf_writer *w, const char *key, uint64_t value)
{
    put(w, key, ZB_GGUF_U64);
    add_number(w, &w->keys, value, 8);
}

void zb_gguf_put_f32(zb_gguf_writer *w, const char *key, float value)
{
    put(w, key, ZB_GGUF_F32);
    add_number(w, &w->keys, zb_f32_bits(value), 4);
}

void zb_gguf_put_f64(zb_gguf_writer *w, const char *key, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    put(w, key, ZB_GGUF_F64);
    add_number(w, &w->keys, bits, 8);
}

void zb_gguf_put_bool(zb_gguf_writer *w, const char *key, int value)
{
    put(w, key, ZB_GGUF_BOOL);
    add_number(w, &w->keys, value != 0, 1);
}

void zb_gguf_put_text(zb_gguf_writer *w, const char *key, const char *text, size_t n)
{
    put(w, key, ZB_GGUF_TEXT);
    add_number(w, &w->keys, n, 8);
    add(w, &w->keys, text, n);
}

void zb_gguf_put_string(zb_gguf_writer *w, const char *key, const char *text)
{
    zb_gguf_put_text(w, key, text, strlen(text));
}

void zb_gguf_put_u32s(zb_gguf_writer *w, const char *key, const uint32_t *values, size_t n)
{
    put_array(w, key, ZB_GGUF_U32, n);
    for (size_t i = 0; i < n; i++)
        add_number(w, &w->keys, values[i], 4);
}

void zb_gguf_put_i32s(zb_gguf_writer *w, const char *key, const int32_t *values, size_t n)
{
    put_array(w, key, ZB_GGUF_I32, n);
    for (size_t i = 0; i < n; i++)
        add_number(w, &w->keys, (uint32_t)values[i], 4);
}

void zb_gguf_put_f32s(zb_gguf_writer *w, const char *key, const float *values, size_t n)
{
    put_array(w, key, ZB_GGUF_F32, n);
    for (size_t i = 0; i < n; i++)
        add_number(w, &w->keys, zb_f32_bits(values[i]), 4);
}

void zb_gguf_put_texts(zb_gguf_writer *w, const char *key, size_t n)
{
    put_array(w, key, ZB_GGUF_TEXT, n);
    w->texts_left = n;
}

void zb_gguf_add_text(zb_gguf_writer *w, const char *text, size_t n)
{
    if (w->texts_left == 0 && !failed(w))
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: a text more than the array was to have", w->path);
    w->texts_left -= w->texts_left > 0;
    add_number(w, &w->keys, n, 8);
    add(w, &w->keys, text, n);
}

void zb_gguf_put_value(zb_gguf_writer *w, const char *key, size_t n_key, const zb_gguf_value *value)
{
    add_name(w, &w->keys, &w->key_names, key, n_key);
    if (value->is_array) {
        add_number(w, &w->keys, ZB_GGUF_ARRAY, 4);
        add_number(w, &w->keys, value->type, 4);
        add_number(w, &w->keys, value->n, 8);
    } else {
        add_number(w, &w->keys, value->type, 4);
    }
    add(w, &w->keys, value->data, value->bytes);
}

static uint64_t padded(uint64_t n)
{
    return (n + ZB_GGUF_ALIGNMENT - 1) / ZB_GGUF_ALIGNMENT * ZB_GGUF_ALIGNMENT;
}

void zb_gguf_declare(zb_gguf_writer *w, const char *name, zb_dtype type, const size_t *shape, int n_dims)
{
    const int number = zb_gguf_type_of(type);
    const size_t row = n_dims > 0 ? shape[n_dims - 1] : 1;
    size_t bytes = zb_dtype_bytes(type);
    int fits = n_dims <= 4 && row % zb_dtype_block(type) == 0 && zb_mul(row / zb_dtype_block(type), bytes, &bytes);
    for (int d = 0; d + 1 < n_dims && fits; d++)
        fits = zb_mul(bytes, shape[d], &bytes);
    fits = fits && bytes < (uint64_t)1 << 60 && w->data_bytes < (uint64_t)1 << 60;
    if (!failed(w) && (number < 0 || !fits))
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: tensor %.80s: %s", w->path, name,
                number < 0 ? "of a type that GGUF does not have" : "its rows are no whole blocks, or it is too large");
    add_name(w, &w->tensors, &w->tensor_names, name, strlen(name));
    add_number(w, &w->tensors, (uint64_t)n_dims, 4);
    for (int d = n_dims - 1; d >= 0; d--)
        add_number(w, &w->tensors, shape[d], 8);
    add_number(w, &w->tensors, (uint64_t)number, 4);
    add_number(w, &w->tensors, w->data_bytes, 8);
    if (failed(w))
        return;
    w->sizes[w->tensor_names.n - 1] = bytes;
    w->data_bytes += padded(bytes);
}

#define HEAD_BYTES (4 + 4 + 8 + 8)

uint64_t zb_gguf_bytes(const zb_gguf_writer *w)
{
    return padded(HEAD_BYTES + (uint64_t)w->keys.n + w->tensors.n) + w->data_bytes;
}

/* ---- the file ---- */

/* Names as texts, so that one that is there twice stands beside itself. */
typedef struct named {
    const char *name;
    size_t n;
} named;

static int by_name(const void *a, const void *b)
{
    const named *x = a, *y = b;
    const int order = memcmp(x->name, y->name, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static zamba_status check_names(const zb_gguf_writer *w, const names *list, const zb_buf *b, const char *what,
                                zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    named *sorted = malloc((list->n + 1) * sizeof *sorted);
    if (sorted == NULL)
        return zb_fail_memory(err, w->path, list->n * sizeof *sorted);
    for (size_t i = 0; i < list->n; i++)
        sorted[i] = (named){b->data + list->list[i].at, list->list[i].n};
    qsort(sorted, list->n, sizeof *sorted, by_name);
    for (size_t i = 1; i < list->n && st == ZAMBA_OK; i++)
        if (by_name(&sorted[i - 1], &sorted[i]) == 0)
            st = zb_fail(err, ZAMBA_E_ARG, "%s: %s %.*s would stand in it twice", w->path, what,
                         (int)(sorted[i].n < 80 ? sorted[i].n : 80), sorted[i].name);
    free(sorted);
    return st;
}

static zamba_status write_number(zb_gguf_writer *w, uint64_t x, size_t n, zamba_error *err)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(x >> 8 * i);
    return zb_file_out_write(&w->out, bytes, n, err);
}

/* Zeros from byte n to the next multiple of the alignment. */
static zamba_status fill(zb_gguf_writer *w, uint64_t n, zamba_error *err)
{
    return zb_file_out_write(&w->out, zeros, (size_t)(padded(n) - n), err);
}

/* Past the tensors that are whole: those without bytes too. */
static zamba_status next_tensor(zb_gguf_writer *w, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    while (st == ZAMBA_OK && w->current < w->tensor_names.n && w->current_done == w->sizes[w->current]) {
        st = fill(w, w->current_done, err);
        w->current++;
        w->current_done = 0;
    }
    return st;
}

zamba_status zb_gguf_begin(zb_gguf_writer *w, zamba_error *err)
{
    if (!failed(w) && w->texts_left > 0)
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: %zu texts of an array are missing", w->path, w->texts_left);
    if (!failed(w) && w->begun)
        zb_fail(&w->why, ZAMBA_E_ARG, "%s: begun twice", w->path);
    if (failed(w))
        return zb_fail(err, w->why.code, "%s", w->why.message);
    zamba_status st = check_names(w, &w->key_names, &w->keys, "key", err);
    if (st == ZAMBA_OK)
        st = check_names(w, &w->tensor_names, &w->tensors, "tensor", err);
    if (st == ZAMBA_OK)
        st = zb_file_room(w->path, zb_gguf_bytes(w), err);
    if (st == ZAMBA_OK)
        st = zb_file_out_open(&w->out, w->path, err);
    if (st != ZAMBA_OK)
        return st;
    w->begun = 1;
    st = zb_file_out_write(&w->out, "GGUF", 4, err);
    if (st == ZAMBA_OK)
        st = write_number(w, 3, 4, err);
    if (st == ZAMBA_OK)
        st = write_number(w, w->tensor_names.n, 8, err);
    if (st == ZAMBA_OK)
        st = write_number(w, w->key_names.n, 8, err);
    if (st == ZAMBA_OK && w->keys.n > 0)
        st = zb_file_out_write(&w->out, w->keys.data, w->keys.n, err);
    if (st == ZAMBA_OK && w->tensors.n > 0)
        st = zb_file_out_write(&w->out, w->tensors.data, w->tensors.n, err);
    if (st == ZAMBA_OK)
        st = fill(w, HEAD_BYTES + (uint64_t)w->keys.n + w->tensors.n, err);
    return st == ZAMBA_OK ? next_tensor(w, err) : st;
}

zamba_status zb_gguf_append(zb_gguf_writer *w, const void *data, size_t n, zamba_error *err)
{
    const unsigned char *p = data;
    zamba_status st = ZAMBA_OK;
    if (!w->begun)
        return zb_fail(err, ZAMBA_E_ARG, "%s: bytes of a tensor before the beginning", w->path);
    while (n > 0 && st == ZAMBA_OK) {
        if (w->current == w->tensor_names.n)
            return zb_fail(err, ZAMBA_E_ARG, "%s: %zu bytes more than the tensors have", w->path, n);
        const uint64_t missing = w->sizes[w->current] - w->current_done;
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

zamba_status zb_gguf_finish(zb_gguf_writer *w, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    if (!w->begun)
        st = zb_fail(err, ZAMBA_E_ARG, "%s: finished before the beginning", w->path);
    else if (w->current < w->tensor_names.n) {
        const name_at at = w->tensor_names.list[w->current];
        st = zb_fail(err, ZAMBA_E_ARG, "%s: tensor %.*s has %llu of %llu bytes", w->path, (int)at.n,
                     w->tensors.data + at.at, (unsigned long long)w->current_done,
                     (unsigned long long)w->sizes[w->current]);
    }
    if (st == ZAMBA_OK)
        st = zb_file_out_commit(&w->out, err);
    zb_gguf_cancel(w);
    return st;
}

void zb_gguf_cancel(zb_gguf_writer *w)
{
    if (w == NULL)
        return;
    zb_file_out_discard(&w->out);
    zb_buf_free(&w->keys);
    zb_buf_free(&w->tensors);
    free(w->key_names.list);
    free(w->tensor_names.list);
    free(w->sizes);
    free(w->path);
    free(w);
}
