/* golden.c — reading goldens and running models for the whole-model tests. */
#include "support/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

int golden_open(golden *g, const char *model, const char *file)
{
    char path[512];
    zamba_error err;
    *g = (golden){0};
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/%s", model, file);
    if (!zb_file_exists(path))
        return 0;
    CHECK_OK(zb_file_map(&g->file, path, &err), err);
    CHECK_OK(zb_safetensors_parse(&g->tensors, g->file.data, g->file.size, g->file.path, &err), err);
    return 1;
}

void golden_close(golden *g)
{
    zb_tensors_close(&g->tensors);
    zb_file_unmap(&g->file);
}

const zb_tensor *golden_get(const golden *g, const char *fmt, ...)
{
    char name[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    for (size_t i = 0; i < g->tensors.n; i++)
        if (strcmp(g->tensors.items[i].name, name) == 0)
            return &g->tensors.items[i];
    fail_msg("%s: no tensor %s", g->file.path, name);
    return NULL;
}

int32_t *golden_ids(const zb_tensor *t, size_t *n)
{
    *n = t->bytes / 8;
    assert_string_equal(t->dtype_name, "I64");
    int32_t *ids = malloc(*n * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) {
        int64_t v;
        memcpy(&v, (const char *)t->data + 8 * i, 8);
        ids[i] = (int32_t)v;
    }
    return ids;
}

double golden_tolerance(const char *model, const char *key)
{
    char path[512];
    zamba_error err;
    json_t *root = NULL;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/goldens.json", model);
    if (!zb_file_exists(path))
        return 5e-4; /* logits of the extra goldens: what every goldens.json says too */
    CHECK_OK(zb_json_read(&root, path, zb_json_small, &err), err);
    const double v = json_number_value(json_object_get(json_object_get(root, "tolerance"), key));
    json_decref(root);
    if (!(v > 0))
        fail_msg("%s: no tolerance %s", path, key);
    return v;
}

zamba_model *golden_model(const char *model, zamba_dt_floor floor, int n_threads)
{
    char path[512];
    zamba_error err;
    zamba_model *m = NULL;
    zamba_model_options o = zamba_model_defaults();
    o.dt_floor = floor;
    o.n_threads = n_threads;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", model);
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

float *golden_logits(zamba_model *m, const int32_t *ids, size_t n, const size_t *pieces)
{
    zamba_error err;
    zamba_sequence *s = NULL;
    zamba_model_info info = {.size = sizeof info};
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    const size_t vocab = (size_t)info.vocab_size;
    float *out = malloc(n * vocab * sizeof *out);
    assert_non_null(out);
    CHECK_OK(zamba_sequence_open(&s, m, n, &err), err);
    for (size_t at = 0; at < n;) {
        size_t piece = pieces == NULL ? n : *pieces != 0 ? *pieces++ : 1;
        piece = piece < n - at ? piece : n - at;
        zamba_batch_item item = {s, ids + at, piece, ZAMBA_LOGITS_ALL, out + at * vocab};
        CHECK_OK(zamba_forward(m, &item, 1, NULL, &err), err);
        at += piece;
    }
    zamba_sequence_close(s);
    return out;
}
