/* safetensors.c — the safetensors header and the shard index. Every length and offset is checked against the file
 * before use; as in the reference reader, tensors must cover the data without holes or overlaps. */
#define _POSIX_C_SOURCE 200809L
#include "io/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/json.h"

/* Element sizes of the types that a safetensors file may hold beside ours, to check lengths and name them. */
static size_t foreign_size(const char *name)
{
    static const struct {
        const char *name;
        size_t size;
    } types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2},
                 {"U16", 2},  {"I32", 4}, {"U32", 4}, {"F64", 8},     {"I64", 8},     {"U64", 8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0)
            return types[i].size;
    return 0;
}

const char *zb_tensor_type(const zb_tensor *t)
{
    return t->dtype_name[0] != '\0' ? t->dtype_name : zb_dtype_name(t->dtype);
}

const char *zb_shape_text(char *buf, size_t n, const size_t *shape, int n_dims)
{
    size_t used = 0;
    snprintf(buf, n, "[");
    used = strlen(buf);
    for (int i = 0; i < n_dims && used < n; i++) {
        snprintf(buf + used, n - used, "%s%zu", i > 0 ? ", " : "", shape[i]);
        used += strlen(buf + used);
    }
    snprintf(buf + used, n - used, "]");
    return buf;
}

static int json_size(const json_t *v, size_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return 0;
    *out = (size_t)json_integer_value(v);
    return 1;
}

/* One header entry. `data` is the first byte after the header, `n_data` what the file holds from there. */
static zamba_status parse_tensor(zb_tensor *t, const json_t *entry, const unsigned char *data, size_t n_data,
                                 const char *path, zamba_error *err)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    size_t begin, end, want, element;
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s: wanted dtype, shape and data_offsets [begin, end]", path,
                       t->name);
    snprintf(t->dtype_name, sizeof t->dtype_name, "%s", json_string_value(dtype));
    t->known = zb_dtype_parse(t->dtype_name, &t->dtype);
    element = t->known ? zb_dtype_bytes(t->dtype) : foreign_size(t->dtype_name);
    if (element == 0 || strlen(t->dtype_name) != json_string_length(dtype))
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %.80s: unknown dtype %s", path, t->name, t->dtype_name);
    if (json_array_size(shape) > ZB_MAX_DIMS)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s: %zu dimensions, at most %d are read", path, t->name,
                       json_array_size(shape), ZB_MAX_DIMS);
    t->n_dims = (int)json_array_size(shape);
    want = element;
    for (int i = 0; i < t->n_dims; i++)
        if (!json_size(json_array_get(shape, (size_t)i), &t->shape[i]) || !zb_mul(want, t->shape[i], &want))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s: dimension %d is negative, no integer or too large",
                           path, t->name, i);
    if (!json_size(json_array_get(offsets, 0), &begin) || !json_size(json_array_get(offsets, 1), &end) || begin > end)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s: data_offsets are not begin <= end", path, t->name);
    if (end > n_data)
        return zb_fail(err, ZAMBA_E_FORMAT,
                       "%s: tensor %.80s ends at byte %zu of the data, the file has %zu (cut-off download?)", path,
                       t->name, end, n_data);
    if (end - begin != want)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s: %zu bytes, its dtype and shape want %zu", path, t->name,
                       end - begin, want);
    t->data = data + begin;
    t->bytes = want;
    t->file = path;
    return ZAMBA_OK;
}

static int by_data(const void *a, const void *b)
{
    const zb_tensor *x = a, *y = b;
    if (x->data != y->data)
        return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const zb_tensor *)a)->name, ((const zb_tensor *)b)->name);
}

static zamba_status check_cover(zb_tensor *items, size_t n, const unsigned char *data, size_t n_data, const char *path,
                                zamba_error *err)
{
    size_t at = 0;
    if (n > 0)
        qsort(items, n, sizeof *items, by_data);
    for (size_t i = 0; i < n; i++) {
        const size_t begin = (size_t)((const unsigned char *)items[i].data - data);
        if (begin != at)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s begins at byte %zu of the data, wanted %zu (%s)",
                           path, items[i].name, begin, at, begin < at ? "tensors overlap" : "a hole before it");
        at += items[i].bytes;
    }
    if (at != n_data)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes after the last tensor", path, n_data - at);
    return ZAMBA_OK;
}

static size_t length_field(const unsigned char *data)
{
    size_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | data[i];
    return n;
}

/* Of a file that may be anything: no more than it holds. */
static size_t header_bytes(const zb_file *f)
{
    const size_t n = f->size < 8 ? 0 : length_field(f->data);
    return n < f->size ? n : f->size;
}

zamba_status zb_safetensors_parse(zb_tensors *ts, const unsigned char *data, size_t size, const char *path,
                                  zamba_error *err)
{
    json_t *header = NULL;
    const char *name;
    json_t *entry;
    if (size < 8)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes, a header needs 8 (cut-off download?)", path, size);
    const size_t n_header = length_field(data);
    if (n_header > size - 8)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: header of %zu bytes in a file of %zu (cut-off download?)", path,
                       n_header, size);
    zamba_status st = zb_json_parse(&header, (const char *)data + 8, n_header, path, zb_json_large, err);
    if (st == ZAMBA_OK && !json_is_object(header))
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: the header is not a JSON object", path);
    const size_t first = ts->n;
    if (st == ZAMBA_OK && json_object_size(header) > 0) {
        zb_tensor *items = realloc(ts->items, (ts->n + json_object_size(header)) * sizeof *items);
        if (items == NULL)
            st = zb_fail_memory(err, path, json_object_size(header) * sizeof *items);
        else
            ts->items = items;
    }
    if (st == ZAMBA_OK)
        json_object_foreach(header, name, entry)
        {
            if (strcmp(name, "__metadata__") == 0)
                continue;
            zb_tensor t = {.name = strdup(name)};
            st = t.name == NULL ? zb_fail_memory(err, path, strlen(name))
                                : parse_tensor(&t, entry, data + 8 + n_header, size - 8 - n_header, path, err);
            if (st != ZAMBA_OK) {
                free(t.name);
                break;
            }
            ts->items[ts->n++] = t;
        }
    if (st == ZAMBA_OK)
        st = check_cover(first > 0 ? ts->items + first : ts->items, ts->n - first, data + 8 + n_header,
                         size - 8 - n_header, path, err);
    json_decref(header);
    return st;
}

static zamba_status add_file(zb_tensors *ts, const char *path, zamba_error *err)
{
    size_t headers = 0;
    zb_file *files = realloc(ts->files, (ts->n_files + 1) * sizeof *files);
    if (files == NULL)
        return zb_fail_memory(err, path, sizeof *files);
    ts->files = files;
    zamba_status st = zb_file_map(&files[ts->n_files], path, err);
    if (st != ZAMBA_OK)
        return st;
    const zb_file *f = &files[ts->n_files++];
    for (size_t i = 0; i < ts->n_files; i++) /* a thousand files must not take a thousand times what one may take */
        headers += header_bytes(&files[i]);
    if (headers > zb_json_large.max_bytes)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: with this file the headers are %zu bytes, at most %zu are read", path,
                       headers, zb_json_large.max_bytes);
    return zb_safetensors_parse(ts, f->data, f->size, f->path, err);
}

/* A shard's name comes from a file that anyone may have written: a plain name in the same folder, nothing else. */
static int plain_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL && strchr(name, '\\') == NULL;
}

static zamba_status sort(zb_tensors *ts, zamba_error *err)
{
    if (ts->n > 0)
        qsort(ts->items, ts->n, sizeof *ts->items, by_name);
    for (size_t i = 1; i < ts->n; i++)
        if (strcmp(ts->items[i - 1].name, ts->items[i].name) == 0)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s is also in %s", ts->items[i].file, ts->items[i].name,
                           ts->items[i - 1].file);
    return ZAMBA_OK;
}

static zamba_status add_shards(zb_tensors *ts, const char *folder, const char *index_path, zamba_error *err)
{
    json_t *index = NULL, *value;
    const char *name;
    char path[4096];
    zamba_status st = zb_json_read(&index, index_path, zb_json_large, err);
    if (st != ZAMBA_OK)
        return st;
    json_t *map = json_object_get(index, "weight_map"), *seen = json_object();
    if (seen == NULL)
        st = zb_fail_memory(err, index_path, 0);
    else if (!json_is_object(map) || json_object_size(map) == 0)
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: no weight_map (tensor name to file name)", index_path);
    if (st == ZAMBA_OK)
        json_object_foreach(map, name, value)
        {
            const char *file = json_string_value(value);
            if (file == NULL || strlen(file) != json_string_length(value) || !plain_name(file)) {
                st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s: the file must be a plain name in the same folder",
                             index_path, name);
                break;
            }
            if (json_object_get(seen, file) != NULL)
                continue;
            if (json_object_size(seen) >= 1000) {
                st = zb_fail(err, ZAMBA_E_FORMAT, "%s: more than 1000 shards", index_path);
                break;
            }
            if (json_object_set_new(seen, file, json_true()) != 0)
                st = zb_fail_memory(err, index_path, 0);
            if (st == ZAMBA_OK)
                st = zb_path_join(path, sizeof path, folder, file, err);
            if (st == ZAMBA_OK)
                st = add_file(ts, path, err);
            if (st != ZAMBA_OK)
                break;
        }
    if (st == ZAMBA_OK)
        st = sort(ts, err);
    if (st == ZAMBA_OK)
        json_object_foreach(map, name, value)
        {
            const zb_tensor *t = zb_tensors_find(ts, name);
            const char *slash = t != NULL ? strrchr(t->file, '/') : NULL;
            if (t == NULL || strcmp(slash != NULL ? slash + 1 : t->file, json_string_value(value)) != 0) {
                st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.80s should be in %s, but %s", index_path, name,
                             json_string_value(value), t == NULL ? "is not there" : "stands in another file");
                break;
            }
        }
    json_decref(seen);
    json_decref(index);
    return st;
}

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Nothing to read: say what is there instead. */
static zamba_status nothing_found(const char *folder, zamba_error *err)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".bin.index.json"};
    DIR *dir = opendir(folder);
    char found[128] = "";
    if (dir == NULL)
        return zb_fail(err, errno == ENOENT ? ZAMBA_E_NOT_FOUND : ZAMBA_E_IO, "%s: cannot open the folder: %s", folder,
                       strerror(errno));
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++)
            if (ends_with(e->d_name, pickles[i]))
                snprintf(found, sizeof found, "%.100s", e->d_name);
    closedir(dir);
    if (found[0] != '\0')
        return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                       "%s: only pickle weights (%s), which can run any code when read and are refused; wanted "
                       "model.safetensors (save the model again with safe_serialization=True)",
                       folder, found);
    return zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: no model.safetensors and no model.safetensors.index.json", folder);
}

/* Whatever it is: a pipe or a link to nowhere is then refused by its name instead of being overlooked. */
static int stands_there(const char *path)
{
    struct stat sb;
    return lstat(path, &sb) == 0;
}

zamba_status zb_tensors_open_file(zb_tensors *out, const char *path, zamba_error *err)
{
    *out = (zb_tensors){0};
    zamba_status st = add_file(out, path, err);
    if (st == ZAMBA_OK)
        st = sort(out, err);
    if (st != ZAMBA_OK)
        zb_tensors_close(out);
    return st;
}

zamba_status zb_tensors_open(zb_tensors *out, const char *folder, zamba_error *err)
{
    char path[4096];
    *out = (zb_tensors){0};
    zamba_status st = zb_path_join(path, sizeof path, folder, "model.safetensors", err);
    if (st == ZAMBA_OK && stands_there(path)) {
        st = add_file(out, path, err);
        if (st == ZAMBA_OK)
            st = sort(out, err);
    } else if (st == ZAMBA_OK) {
        st = zb_path_join(path, sizeof path, folder, "model.safetensors.index.json", err);
        if (st == ZAMBA_OK)
            st = stands_there(path) ? add_shards(out, folder, path, err) : nothing_found(folder, err);
    }
    if (st != ZAMBA_OK)
        zb_tensors_close(out);
    return st;
}

void zb_tensors_close(zb_tensors *ts)
{
    for (size_t i = 0; i < ts->n; i++)
        free(ts->items[i].name);
    for (size_t i = 0; i < ts->n_files; i++)
        zb_file_unmap(&ts->files[i]);
    free(ts->items);
    free(ts->files);
    *ts = (zb_tensors){0};
}

const zb_tensor *zb_tensors_find(const zb_tensors *ts, const char *name)
{
    const zb_tensor key = {.name = (char *)name};
    return ts->n == 0 ? NULL : bsearch(&key, ts->items, ts->n, sizeof key, by_name);
}
