/* gguf.c — the reader of GGUF files. Layout: "GGUF", version u32, number of tensors u64, number of keys u64; keys
 * (name, type u32, value); tensors (name, number of dimensions u32, dimensions u64 fastest first, type u32, offset
 * u64); filled up to the alignment; the tensors' bytes, each at a multiple of it. A text is its length u64 and its
 * bytes. */
#include "io/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above what any model has; below, the file's size is the bound. */
#define MOST_KEYS      ((uint64_t)1 << 16)
#define MOST_TENSORS   ((uint64_t)1 << 20)
#define MOST_NAME      255
#define MOST_DIMS      4
#define MOST_ALIGNMENT ((size_t)1 << 20)
#define MOST_FILES     1000

#define LEAST_KEY    (8 + 1 + 4 + 1)     /* bytes: a name of one letter, type, value */
#define LEAST_TENSOR (8 + 1 + 4 + 4 + 8) /* a name, no dimensions, type, offset       */

/* ggml's types by number: name, numbers in a block, bytes of a block; those of ours are looked up by name. */
static const struct ggml_type {
    const char *name;
    size_t block, bytes;
} ggml_types[] = {
    [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},      [3] = {"Q4_1", 32, 20},
    [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},      [8] = {"Q8_0", 32, 34},      [9] = {"Q8_1", 32, 40},
    [10] = {"Q2_K", 256, 84},    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},   [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},   [16] = {"IQ2_XXS", 256, 66}, [17] = {"IQ2_XS", 256, 74},
    [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},   [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},
    [22] = {"IQ2_S", 256, 82},   [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},         [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},        [28] = {"F64", 1, 8},        [29] = {"IQ1_M", 256, 56},
    [30] = {"BF16", 1, 2},       [34] = {"TQ1_0", 256, 54},   [35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},
    [40] = {"NVFP4", 64, 36},    [41] = {"Q1_0", 128, 18},
};
#define N_GGML_TYPES (sizeof ggml_types / sizeof *ggml_types)

int zb_gguf_type_of(zb_dtype t)
{
    for (size_t i = 0; i < N_GGML_TYPES; i++)
        if (ggml_types[i].name != NULL && strcmp(ggml_types[i].name, zb_dtype_name(t)) == 0)
            return (int)i;
    return -1;
}

static const struct {
    const char *name;
    size_t bytes; /* 0: of no fixed size */
} value_types[ZB_GGUF_N_TYPES] = {{"u8", 1},  {"i8", 1},  {"u16", 2},  {"i16", 2},  {"u32", 4},
                                  {"i32", 4}, {"f32", 4}, {"bool", 1}, {"text", 0}, {"array", 0},
                                  {"u64", 8}, {"i64", 8}, {"f64", 8}};

/* ---- reading ---- */

typedef struct reader {
    const unsigned char *data;
    size_t size, at;
    const char *path;
    zamba_error *err;
} reader;

/* A name of a file, for messages: bytes that are no printable ASCII become '?'; cut after 80. */
static const char *show(char buf[84], const char *name, size_t n)
{
    size_t i = 0;
    for (; i < n && i < 80; i++)
        buf[i] = name[i] >= 0x20 && name[i] < 0x7F ? name[i] : '?';
    buf[i] = '\0';
    return buf;
}

static uint64_t little(const unsigned char *p, size_t n)
{
    uint64_t x = 0;
    for (size_t i = n; i > 0; i--)
        x = x << 8 | p[i - 1];
    return x;
}

static size_t left(const reader *r)
{
    return r->size - r->at;
}

static zamba_status cut(const reader *r, const char *what, uint64_t wanted)
{
    return zb_fail(r->err, ZAMBA_E_FORMAT,
                   "%s: %s wants %llu bytes at byte %zu, the file ends after %zu (cut-off "
                   "download?)",
                   r->path, what, (unsigned long long)wanted, r->at, left(r));
}

static zamba_status take_number(reader *r, size_t n, const char *what, uint64_t *out)
{
    *out = 0;
    if (left(r) < n)
        return cut(r, what, n);
    *out = little(r->data + r->at, n);
    r->at += n;
    return ZAMBA_OK;
}

/* The name of a key or tensor: `what` says of which. */
static zamba_status take_name(reader *r, const char *what, const char **name, size_t *n)
{
    uint64_t bytes;
    char shown[84];
    zamba_status st = take_number(r, 8, what, &bytes);
    if (st != ZAMBA_OK)
        return st;
    if (bytes == 0 || bytes > MOST_NAME)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: %s at byte %zu has %llu bytes, wanted 1 to %d", r->path, what,
                       r->at, (unsigned long long)bytes, MOST_NAME);
    if (left(r) < bytes)
        return cut(r, what, bytes);
    *name = (const char *)r->data + r->at;
    *n = (size_t)bytes;
    r->at += *n;
    for (size_t i = 0; i < *n; i++)
        if ((*name)[i] < 0x21 || (*name)[i] > 0x7E)
            return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: %s \"%s\" holds a byte that is no printable ASCII", r->path,
                           what, show(shown, *name, *n));
    return ZAMBA_OK;
}

/* ---- values ---- */

static zamba_status check_bools(const reader *r, const char *key, const zb_gguf_value *v)
{
    for (size_t i = 0; i < v->bytes; i++)
        if (v->data[i] > 1)
            return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: key %s: a bool is %u, wanted 0 or 1", r->path, key, v->data[i]);
    return ZAMBA_OK;
}

/* The texts of a value; `key` is printable. */
static zamba_status take_texts(reader *r, const char *key, zb_gguf_value *v)
{
    char what[128];
    snprintf(what, sizeof what, "key %s: a text", key);
    if (v->n > left(r) / 8)
        return cut(r, what, v->n <= UINT64_MAX / 8 ? 8 * (uint64_t)v->n : UINT64_MAX);
    for (size_t i = 0; i < v->n; i++) {
        uint64_t bytes;
        zamba_status st = take_number(r, 8, what, &bytes);
        if (st == ZAMBA_OK && bytes > left(r))
            st = cut(r, what, bytes);
        if (st != ZAMBA_OK)
            return st;
        r->at += (size_t)bytes;
    }
    return ZAMBA_OK;
}

static zamba_status take_value(reader *r, const char *key, zb_gguf_value *v)
{
    uint64_t type, n = 1;
    char what[128];
    snprintf(what, sizeof what, "key %s: the value", key);
    zamba_status st = take_number(r, 4, what, &type);
    *v = (zb_gguf_value){0};
    if (st == ZAMBA_OK && type == ZB_GGUF_ARRAY) {
        v->is_array = 1;
        st = take_number(r, 4, what, &type);
        if (st == ZAMBA_OK && type == ZB_GGUF_ARRAY)
            return zb_fail(r->err, ZAMBA_E_UNSUPPORTED, "%s: key %s: an array of arrays, which no model has", r->path,
                           key);
        if (st == ZAMBA_OK)
            st = take_number(r, 8, what, &n);
    }
    if (st != ZAMBA_OK)
        return st;
    if (type >= ZB_GGUF_N_TYPES)
        return zb_fail(r->err, ZAMBA_E_UNSUPPORTED, "%s: key %s: type %llu, wanted 0 to %d", r->path, key,
                       (unsigned long long)type, ZB_GGUF_N_TYPES - 1);
    v->type = (zb_gguf_type)type;
    v->data = r->data + r->at;
    if (n > left(r)) /* every element takes at least a byte */
        return zb_fail(r->err, ZAMBA_E_FORMAT,
                       "%s: key %s: an array of %llu values of type %s, the file ends after "
                       "%zu bytes",
                       r->path, key, (unsigned long long)n, value_types[type].name, left(r));
    v->n = (size_t)n;
    if (v->type == ZB_GGUF_TEXT) {
        st = take_texts(r, key, v);
    } else {
        if (v->n > left(r) / value_types[type].bytes)
            return cut(r, what, (uint64_t)v->n * value_types[type].bytes);
        r->at += v->n * value_types[type].bytes;
    }
    v->bytes = (size_t)(r->data + r->at - v->data);
    return st == ZAMBA_OK && v->type == ZB_GGUF_BOOL ? check_bools(r, key, v) : st;
}

static int compare_names(const char *a, size_t n_a, const char *b, size_t n_b)
{
    const int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order != 0 ? order : (n_a > n_b) - (n_a < n_b);
}

static int by_name(const void *a, const void *b)
{
    const zb_gguf_key *x = a, *y = b;
    return compare_names(x->name, x->n_name, y->name, y->n_name);
}

static zamba_status take_keys(zb_gguf *g, reader *r, uint64_t n)
{
    char shown[84];
    zamba_status st = ZAMBA_OK;
    if (n > MOST_KEYS || n > left(r) / LEAST_KEY)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: %llu keys, the file has %zu bytes and at most %llu are read",
                       r->path, (unsigned long long)n, r->size, (unsigned long long)MOST_KEYS);
    g->keys = calloc((size_t)n + 1, sizeof *g->keys);
    if (g->keys == NULL)
        return zb_fail_memory(r->err, r->path, (size_t)n * sizeof *g->keys);
    for (uint64_t i = 0; i < n && st == ZAMBA_OK; i++) {
        zb_gguf_key *k = &g->keys[g->n_keys];
        st = take_name(r, "the name of a key", &k->name, &k->n_name);
        if (st == ZAMBA_OK)
            st = take_value(r, show(shown, k->name, k->n_name), &k->value);
        g->n_keys += st == ZAMBA_OK;
    }
    if (st != ZAMBA_OK)
        return st;
    qsort(g->keys, g->n_keys, sizeof *g->keys, by_name);
    for (size_t i = 1; i < g->n_keys; i++)
        if (by_name(&g->keys[i - 1], &g->keys[i]) == 0)
            return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: key %s stands in it twice", r->path,
                           show(shown, g->keys[i].name, g->keys[i].n_name));
    return ZAMBA_OK;
}

static zamba_status read_alignment(zb_gguf *g, const reader *r)
{
    const zb_gguf_value *v = zb_gguf_find(g, "general.alignment");
    g->alignment = 32;
    if (v == NULL)
        return ZAMBA_OK;
    if (v->type != ZB_GGUF_U32 || v->is_array)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: general.alignment is %s%s, wanted a u32", r->path,
                       v->is_array ? "an array of " : "", value_types[v->type].name);
    g->alignment = (size_t)little(v->data, 4);
    if (g->alignment == 0 || (g->alignment & (g->alignment - 1)) != 0 || g->alignment > MOST_ALIGNMENT)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: general.alignment is %zu, wanted a power of two up to %zu", r->path,
                       g->alignment, MOST_ALIGNMENT);
    return ZAMBA_OK;
}

/* ---- tensors ---- */

/* One entry of the list. data is not set yet: its offset is returned. */
static zamba_status take_tensor(reader *r, zb_tensor *t, uint64_t *offset)
{
    const char *name;
    size_t n_name, bytes;
    uint64_t n_dims, dim, type;
    char shown[84], what[112];
    zamba_status st = take_name(r, "the name of a tensor", &name, &n_name);
    if (st != ZAMBA_OK)
        return st;
    show(shown, name, n_name);
    snprintf(what, sizeof what, "tensor %s", shown);
    st = take_number(r, 4, what, &n_dims);
    if (st == ZAMBA_OK && n_dims > MOST_DIMS)
        st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: tensor %s: %llu dimensions, at most %d are possible", r->path, shown,
                     (unsigned long long)n_dims, MOST_DIMS);
    if (st != ZAMBA_OK)
        return st;
    t->n_dims = (int)n_dims;
    for (int d = t->n_dims - 1; d >= 0; d--) {
        st = take_number(r, 8, what, &dim);
        if (st != ZAMBA_OK)
            return st;
        if (dim > SIZE_MAX / 2)
            return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: tensor %s: dimension %d is %llu, larger than memory can be",
                           r->path, shown, t->n_dims - 1 - d, (unsigned long long)dim);
        t->shape[d] = (size_t)dim;
    }
    st = take_number(r, 4, what, &type);
    if (st == ZAMBA_OK)
        st = take_number(r, 8, what, offset);
    if (st != ZAMBA_OK)
        return st;
    if (type >= N_GGML_TYPES || ggml_types[type].name == NULL)
        return zb_fail(r->err, ZAMBA_E_UNSUPPORTED,
                       "%s: tensor %s: type number %llu is unknown (made by a newer or "
                       "much older program?)",
                       r->path, shown, (unsigned long long)type);
    const struct ggml_type *g = &ggml_types[type];
    snprintf(t->dtype_name, sizeof t->dtype_name, "%s", g->name);
    t->known = zb_dtype_find(g->name, &t->dtype);
    const size_t row = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 1;
    if (row % g->block != 0)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: tensor %s: rows of %zu, %s wants a multiple of %zu", r->path, shown,
                       row, g->name, g->block);
    bytes = row / g->block;
    int fits = zb_mul(bytes, g->bytes, &bytes);
    for (int d = 0; d + 1 < t->n_dims && fits; d++)
        fits = zb_mul(bytes, t->shape[d], &bytes);
    if (!fits)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: tensor %s: its dimensions multiply to more than memory can be",
                       r->path, shown);
    t->bytes = bytes;
    t->file = r->path;
    t->name = malloc(n_name + 1);
    if (t->name == NULL)
        return zb_fail_memory(r->err, r->path, n_name + 1);
    memcpy(t->name, name, n_name);
    t->name[n_name] = '\0';
    return ZAMBA_OK;
}

static int by_place(const void *a, const void *b)
{
    const zb_tensor *x = a, *y = b;
    if (x->data != y->data)
        return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static zamba_status check_overlap(zb_tensor *items, size_t n, const reader *r)
{
    char a[84], b[84];
    if (n > 0)
        qsort(items, n, sizeof *items, by_place);
    for (size_t i = 1; i < n; i++)
        if ((const unsigned char *)items[i - 1].data + items[i - 1].bytes > (const unsigned char *)items[i].data)
            return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: tensors %s and %s overlap", r->path,
                           show(a, items[i - 1].name, strlen(items[i - 1].name)),
                           show(b, items[i].name, strlen(items[i].name)));
    return ZAMBA_OK;
}

/* Where the data of each is, now that it is known where the list ends. `offset` stands in `data` until then. */
static zamba_status place_tensors(const zb_gguf *g, zb_tensor *items, size_t n, const reader *r)
{
    char shown[84];
    const size_t start = r->at + (g->alignment - r->at % g->alignment) % g->alignment, /* r->at is within the file */
        room = start < r->size ? r->size - start : 0;
    for (size_t i = 0; i < n; i++) {
        zb_tensor *t = &items[i];
        const uint64_t offset = (uint64_t)(uintptr_t)t->data;
        show(shown, t->name, strlen(t->name));
        if (offset % g->alignment != 0)
            return zb_fail(r->err, ZAMBA_E_FORMAT,
                           "%s: tensor %s begins at byte %llu of the data, wanted a multiple of "
                           "the alignment, %zu",
                           r->path, shown, (unsigned long long)offset, g->alignment);
        if (offset > room || t->bytes > room - offset)
            return zb_fail(r->err, ZAMBA_E_FORMAT,
                           "%s: tensor %s: %zu bytes from byte %llu of the data, which has %zu "
                           "(cut-off download?)",
                           r->path, shown, t->bytes, (unsigned long long)offset, room);
        t->data = t->bytes > 0 ? r->data + start + offset : r->data;
    }
    return check_overlap(items, n, r);
}

static zamba_status take_tensors(zb_gguf *g, reader *r, uint64_t n)
{
    zb_tensors *ts = &g->tensors;
    const size_t first = ts->n;
    zamba_status st = ZAMBA_OK;
    if (n > MOST_TENSORS || n > left(r) / LEAST_TENSOR)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: %llu tensors, the file has %zu bytes and at most %llu are read",
                       r->path, (unsigned long long)n, r->size, (unsigned long long)MOST_TENSORS);
    zb_tensor *items = realloc(ts->items, (first + (size_t)n + 1) * sizeof *items);
    if (items == NULL)
        return zb_fail_memory(r->err, r->path, ((size_t)n + 1) * sizeof *items);
    ts->items = items;
    for (uint64_t i = 0; i < n && st == ZAMBA_OK; i++) {
        zb_tensor t = {0};
        uint64_t offset = 0;
        st = take_tensor(r, &t, &offset);
        if (st == ZAMBA_OK && offset > SIZE_MAX)
            st = cut(r, "the data", offset);
        t.data = (const void *)(uintptr_t)offset;
        if (st == ZAMBA_OK)
            ts->items[ts->n++] = t;
        else
            free(t.name);
    }
    return st == ZAMBA_OK ? place_tensors(g, items + first, ts->n - first, r) : st;
}

/* ---- a file ---- */

static zamba_status check_head(reader *r, unsigned *version)
{
    uint64_t v;
    if (r->size < 8 || memcmp(r->data, "GGUF", 4) != 0)
        return zb_fail(r->err, ZAMBA_E_FORMAT, "%s: does not begin with \"GGUF\" and a version (is this a GGUF file?)",
                       r->path);
    r->at = 4;
    zamba_status st = take_number(r, 4, "the version", &v);
    if (st != ZAMBA_OK)
        return st;
    *version = (unsigned)v;
    if (v == 2 || v == 3)
        return ZAMBA_OK;
    if ((v & 0xFFFF) == 0)
        return zb_fail(r->err, ZAMBA_E_UNSUPPORTED,
                       "%s: a big-endian GGUF file; wanted little-endian (convert it with "
                       "gguf-convert-endian)",
                       r->path);
    return zb_fail(r->err, ZAMBA_E_UNSUPPORTED, "%s: GGUF version %llu, wanted 2 or 3%s", r->path,
                   (unsigned long long)v, v == 1 ? " (version 1 was in use for a few weeks of 2023)" : "");
}

/* The tensors are added to those that g has; the keys replace its keys. */
static zamba_status parse(zb_gguf *g, const unsigned char *data, size_t size, const char *path, zamba_error *err)
{
    reader r = {data, size, 0, path, err};
    uint64_t n_tensors, n_keys;
    zamba_status st = check_head(&r, &g->version);
    if (st == ZAMBA_OK)
        st = take_number(&r, 8, "the number of tensors", &n_tensors);
    if (st == ZAMBA_OK)
        st = take_number(&r, 8, "the number of keys", &n_keys);
    if (st == ZAMBA_OK)
        st = take_keys(g, &r, n_keys);
    if (st == ZAMBA_OK)
        st = read_alignment(g, &r);
    if (st == ZAMBA_OK)
        st = take_tensors(g, &r, n_tensors);
    return st;
}

static int tensor_by_name(const void *a, const void *b)
{
    return strcmp(((const zb_tensor *)a)->name, ((const zb_tensor *)b)->name);
}

zamba_status zb_gguf_sort(zb_tensors *ts, zamba_error *err)
{
    char shown[84];
    if (ts->n > 0)
        qsort(ts->items, ts->n, sizeof *ts->items, tensor_by_name);
    for (size_t i = 1; i < ts->n; i++)
        if (strcmp(ts->items[i - 1].name, ts->items[i].name) == 0)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s stands in it twice", ts->items[i].file,
                           show(shown, ts->items[i].name, strlen(ts->items[i].name)));
    return ZAMBA_OK;
}

zamba_status zb_gguf_parse(zb_gguf *out, const unsigned char *data, size_t size, const char *path, zamba_error *err)
{
    *out = (zb_gguf){0};
    zamba_status st = parse(out, data, size, path, err);
    if (st == ZAMBA_OK)
        st = zb_gguf_sort(&out->tensors, err);
    if (st != ZAMBA_OK)
        zb_gguf_close(out);
    return st;
}

int zb_gguf_is(const char *path)
{
    return zb_file_begins(path, "GGUF", 4);
}

/* split.count of the first file of a set; 1 if it is whole. */
static zamba_status count_files(const zb_gguf *g, const char *path, size_t *n, zamba_error *err)
{
    const zb_gguf_value *count = zb_gguf_find(g, "split.count"), *no = zb_gguf_find(g, "split.no");
    int64_t files = 1, number = 0;
    *n = 1;
    if (count == NULL)
        return ZAMBA_OK;
    if (count->is_array || !zb_gguf_int(count, 0, &files) || files < 0 || files > MOST_FILES ||
        (no != NULL && (no->is_array || !zb_gguf_int(no, 0, &number) || number < 0)))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: split.count or split.no is no number of files up to %d", path,
                       MOST_FILES);
    if (files > 1 && number != 0)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: file %lld of a model in %lld files (open the first of them)",
                       path, (long long)number + 1, (long long)files);
    *n = files > 1 ? (size_t)files : 1;
    return ZAMBA_OK;
}

/* "x-00001-of-00003.gguf" to "x-00002-of-00003.gguf". */
static zamba_status name_file(char *out, size_t n_out, const char *path, size_t number, size_t n, zamba_error *err)
{
    char end[40];
    const size_t n_end = (size_t)snprintf(end, sizeof end, "-00001-of-%05zu.gguf", n), n_path = strlen(path);
    if (n_path < n_end || strcmp(path + n_path - n_end, end) != 0)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: the first of %zu files: its name should end in %s", path, n, end);
    const int got = snprintf(out, n_out, "%.*s-%05zu-of-%05zu.gguf", (int)(n_path - n_end), path, number, n);
    return got > 0 && (size_t)got < n_out ? ZAMBA_OK : zb_fail(err, ZAMBA_E_ARG, "%s: path too long", path);
}

/* Map one more file of the set and parse it. */
static zamba_status add_file(zb_gguf *g, const char *path, zamba_error *err)
{
    zb_tensors *ts = &g->tensors;
    zamba_status st = zb_file_map(&ts->files[ts->n_files], path, err);
    if (st != ZAMBA_OK)
        return st;
    const zb_file *f = &ts->files[ts->n_files++];
    return parse(g, f->data, f->size, f->path, err);
}

static zamba_status add_others(zb_gguf *g, const char *path, size_t n, zamba_error *err)
{
    char name[4096];
    zamba_status st = ZAMBA_OK;
    zb_file *files = realloc(g->tensors.files, n * sizeof *files);
    if (files == NULL)
        return zb_fail_memory(err, path, n * sizeof *files);
    g->tensors.files = files;
    for (size_t i = 2; i <= n && st == ZAMBA_OK; i++) {
        zb_gguf part = {.tensors = g->tensors}; /* its own keys; tensors are added to the set */
        st = name_file(name, sizeof name, path, i, n, err);
        if (st == ZAMBA_OK)
            st = add_file(&part, name, err);
        g->tensors = part.tensors;
        free(part.keys);
    }
    return st;
}

zamba_status zb_gguf_open(zb_gguf *out, const char *path, zamba_error *err)
{
    size_t n_files = 1;
    *out = (zb_gguf){0};
    out->tensors.files = calloc(1, sizeof *out->tensors.files);
    zamba_status st =
        out->tensors.files == NULL ? zb_fail_memory(err, path, sizeof *out->tensors.files) : add_file(out, path, err);
    if (st == ZAMBA_OK)
        st = count_files(out, path, &n_files, err);
    if (st == ZAMBA_OK && n_files > 1)
        st = add_others(out, path, n_files, err);
    if (st == ZAMBA_OK)
        st = zb_gguf_sort(&out->tensors, err);
    if (st != ZAMBA_OK)
        zb_gguf_close(out);
    return st;
}

void zb_gguf_close(zb_gguf *g)
{
    free(g->keys);
    zb_tensors_close(&g->tensors);
    *g = (zb_gguf){0};
}

/* ---- values, for those who know what they mean ---- */

const zb_gguf_value *zb_gguf_find(const zb_gguf *g, const char *name)
{
    const zb_gguf_key key = {.name = name, .n_name = strlen(name)};
    const zb_gguf_key *k = g->n_keys == 0 ? NULL : bsearch(&key, g->keys, g->n_keys, sizeof key, by_name);
    return k != NULL ? &k->value : NULL;
}

int zb_gguf_int(const zb_gguf_value *v, size_t i, int64_t *out)
{
    const size_t n = value_types[v->type].bytes;
    if (n == 0 || i >= v->n || v->type == ZB_GGUF_F32 || v->type == ZB_GGUF_F64)
        return 0;
    const uint64_t x = little(v->data + i * n, n);
    switch (v->type) {
    case ZB_GGUF_I8:
        *out = (int8_t)x;
        return 1;
    case ZB_GGUF_I16:
        *out = (int16_t)x;
        return 1;
    case ZB_GGUF_I32:
        *out = (int32_t)x;
        return 1;
    case ZB_GGUF_I64:
        *out = (int64_t)x;
        return 1;
    default:
        *out = (int64_t)x;
        return x <= INT64_MAX;
    }
}

int zb_gguf_real(const zb_gguf_value *v, size_t i, double *out)
{
    int64_t whole;
    if (i < v->n && v->type == ZB_GGUF_F32) {
        *out = (double)zb_bits_f32((uint32_t)little(v->data + 4 * i, 4));
        return 1;
    }
    if (i < v->n && v->type == ZB_GGUF_F64) {
        const uint64_t bits = little(v->data + 8 * i, 8);
        memcpy(out, &bits, 8);
        return 1;
    }
    if (v->type == ZB_GGUF_BOOL || !zb_gguf_int(v, i, &whole))
        return 0;
    *out = (double)whole;
    return 1;
}

const char *zb_gguf_text(const zb_gguf_value *v, size_t *n)
{
    if (v == NULL || v->is_array || v->type != ZB_GGUF_TEXT)
        return NULL;
    *n = v->bytes - 8;
    return (const char *)v->data + 8;
}

int zb_gguf_next_text(zb_gguf_texts *it, const char **text, size_t *n)
{
    if (it->value->type != ZB_GGUF_TEXT || it->i >= it->value->n)
        return 0;
    *n = (size_t)little(it->value->data + it->at, 8);
    *text = (const char *)it->value->data + it->at + 8;
    it->at += 8 + *n;
    it->i++;
    return 1;
}
