/* imatrix.c — sums of squares of what every matrix multiplies, collected while a model computes, and the files that
 * hold them. A product knows its matrix by the address of its weights; here addresses become tensors again. */
#include "model/imatrix.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/gguf_write.h"
#include "model/gguf_names.h"
#include "model/model.h"

#define SUMS   ".in_sum2"
#define COUNTS ".counts"

enum { NAME_BYTES = 160 };

/* ---- collecting ---- */

typedef struct sums {
    size_t parts, cols;
    double *squares; /* [parts, cols] */
    uint64_t *rows;  /* [parts]       */
} sums;

/* Where a matrix, or one of those in a tensor, begins. */
typedef struct source {
    const void *data;
    size_t spec, part;
} source;

struct zamba_imatrix {
    zamba_model *model;
    pthread_mutex_t lock;
    sums *of; /* [n_specs]; cols 0: no matrix */
    source *sources;
    size_t n_sources;
};

size_t zb_spec_parts(const zb_spec *s)
{
    return s->n_dims == 3 ? s->shape[0] : 1;
}

/* Where products begin that multiply part k of a matrix: of q, k and v whose halves were copied, at the half for x. */
static const void *start_of(const zb_weights *w, const zb_spec *s, const zb_mat *m, size_t k)
{
    if ((s->role == ZB_Q || s->role == ZB_K || s->role == ZB_V) && w->blocks[s->block].halves)
        return w->blocks[s->block].x_half[s->role - ZB_Q].data;
    return zb_mat_row(m, k * (m->rows / zb_spec_parts(s)));
}

static int by_data(const void *a, const void *b)
{
    const uintptr_t x = (uintptr_t)((const source *)a)->data, y = (uintptr_t)((const source *)b)->data;
    return (x > y) - (x < y);
}

static zamba_status list_sources(zamba_imatrix *c, zamba_error *err)
{
    const zb_plan *plan = &c->model->plan;
    size_t most = 0;
    for (size_t i = 0; i < plan->n_specs; i++)
        most += zb_spec_parts(&plan->specs[i]);
    c->of = calloc(plan->n_specs + 1, sizeof *c->of);
    c->sources = calloc(most + 1, sizeof *c->sources);
    if (c->of == NULL || c->sources == NULL)
        return zb_fail_memory(err, c->model->path, most * sizeof *c->sources);
    for (size_t i = 0; i < plan->n_specs; i++) {
        const zb_spec *s = &plan->specs[i];
        const zb_mat *m = s->quantizable ? zb_weights_mat(&c->model->weights, s) : NULL;
        if (m == NULL)
            continue;
        sums *to = &c->of[i];
        to->parts = zb_spec_parts(s);
        to->cols = s->shape[s->n_dims - 1];
        to->squares = calloc(to->parts * to->cols, sizeof *to->squares);
        to->rows = calloc(to->parts, sizeof *to->rows);
        if (to->squares == NULL || to->rows == NULL)
            return zb_fail_memory(err, s->name, to->parts * to->cols * sizeof *to->squares);
        for (size_t k = 0; k < to->parts; k++)
            c->sources[c->n_sources++] = (source){start_of(&c->model->weights, s, m, k), i, k};
    }
    qsort(c->sources, c->n_sources, sizeof *c->sources, by_data);
    return ZAMBA_OK;
}

void zb_imatrix_collect(zamba_imatrix *c, const zb_mat *w, const float *x, size_t ld, size_t rows)
{
    const source wanted = {.data = w->data};
    const source *s = w->rows == 0 ? NULL : bsearch(&wanted, c->sources, c->n_sources, sizeof wanted, by_data);
    if (s == NULL)
        return;
    const sums *to = &c->of[s->spec];
    double *squares = to->squares + s->part * to->cols;
    pthread_mutex_lock(&c->lock);
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * ld;
        for (size_t k = 0; k < to->cols; k++)
            squares[k] += (double)row[k] * (double)row[k];
    }
    to->rows[s->part] += rows;
    pthread_mutex_unlock(&c->lock);
}

zamba_status zamba_imatrix_open(zamba_imatrix **out, zamba_model *m, zamba_error *err)
{
    *out = NULL;
    if (m->collector != NULL)
        return zb_fail(err, ZAMBA_E_ARG, "%s: an importance matrix is being collected already", m->path);
    zamba_imatrix *c = calloc(1, sizeof *c);
    if (c == NULL)
        return zb_fail_memory(err, m->path, sizeof *c);
    c->model = m;
    pthread_mutex_init(&c->lock, NULL);
    const zamba_status st = list_sources(c, err);
    if (st != ZAMBA_OK) {
        zamba_imatrix_close(c);
        return st;
    }
    m->collector = c;
    *out = c;
    return ZAMBA_OK;
}

void zamba_imatrix_close(zamba_imatrix *c)
{
    if (c == NULL)
        return;
    if (c->model->collector == c)
        c->model->collector = NULL;
    for (size_t i = 0; c->of != NULL && i < c->model->plan.n_specs; i++) {
        free(c->of[i].squares);
        free(c->of[i].rows);
    }
    free(c->of);
    free(c->sources);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- writing ---- */

static int was_used(const sums *s)
{
    uint64_t rows = 0;
    for (size_t k = 0; k < s->parts; k++)
        rows += s->rows[k];
    return rows > 0;
}

static void declare(zb_gguf_writer *w, const zamba_imatrix *c, size_t i)
{
    const zb_plan *plan = &c->model->plan;
    char name[NAME_BYTES], full[NAME_BYTES + sizeof SUMS];
    zb_gguf_name(name, sizeof name, plan, &plan->specs[i]);
    snprintf(full, sizeof full, "%s" SUMS, name);
    zb_gguf_declare(w, full, ZB_F32, (const size_t[]){c->of[i].parts, c->of[i].cols}, 2);
    snprintf(full, sizeof full, "%s" COUNTS, name);
    zb_gguf_declare(w, full, ZB_F32, (const size_t[]){c->of[i].parts, 1}, 2);
}

/* Both tensors of one entry, as f32. */
static zamba_status append(zb_gguf_writer *w, const sums *s, zamba_error *err)
{
    const size_t n = s->parts * s->cols;
    float *numbers = malloc((n + s->parts) * sizeof *numbers);
    if (numbers == NULL)
        return zb_fail_memory(err, "importance matrix", n * sizeof *numbers);
    for (size_t k = 0; k < n; k++)
        numbers[k] = (float)s->squares[k];
    for (size_t k = 0; k < s->parts; k++)
        numbers[n + k] = (float)s->rows[k];
    zamba_status st = zb_gguf_append(w, numbers, n * sizeof *numbers, err);
    if (st == ZAMBA_OK)
        st = zb_gguf_append(w, numbers + n, s->parts * sizeof *numbers, err);
    free(numbers);
    return st;
}

zamba_status zamba_imatrix_save(const zamba_imatrix *c, const char *path, const char *dataset, uint32_t n_chunks,
                                uint32_t chunk_size, zamba_error *err)
{
    const size_t n = c->model->plan.n_specs;
    zb_gguf_writer *w = NULL;
    size_t n_used = 0;
    for (size_t i = 0; i < n; i++)
        n_used += c->of[i].cols > 0 && was_used(&c->of[i]);
    if (n_used == 0)
        return zb_fail(err, ZAMBA_E_ARG, "%s: nothing was collected (no forward pass since)", path);
    zamba_status st = zb_gguf_create(&w, path, err);
    if (st != ZAMBA_OK)
        return st;
    zb_gguf_put_string(w, "general.type", "imatrix");
    zb_gguf_put_texts(w, "imatrix.datasets", 1);
    zb_gguf_add_text(w, dataset == NULL ? "" : dataset, dataset == NULL ? 0 : strlen(dataset));
    zb_gguf_put_u32(w, "imatrix.chunk_count", n_chunks);
    zb_gguf_put_u32(w, "imatrix.chunk_size", chunk_size);
    for (size_t i = 0; i < n; i++)
        if (c->of[i].cols > 0 && was_used(&c->of[i]))
            declare(w, c, i);
    st = zb_gguf_begin(w, err);
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++)
        if (c->of[i].cols > 0 && was_used(&c->of[i]))
            st = append(w, &c->of[i], err);
    if (st == ZAMBA_OK)
        return zb_gguf_finish(w, err);
    zb_gguf_cancel(w);
    return st;
}

/* ---- reading ---- */

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static zamba_status check_numbers(const zb_tensor *t, zamba_error *err)
{
    if (!t->known || t->dtype != ZB_F32)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %.120s is %s, wanted F32", t->file, t->name, t->dtype_name);
    const unsigned char *p = t->data;
    for (size_t i = 0; i < t->bytes / 4; i++) {
        float x;
        memcpy(&x, p + 4 * i, 4);
        if (!(x >= 0 && isfinite(x)))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: %.120s: number %zu is %g, wanted one from 0 up", t->file, t->name,
                           i, (double)x);
    }
    return ZAMBA_OK;
}

static zamba_status read_entry(zb_importance *e, const zb_gguf *g, const zb_tensor *t, zamba_error *err)
{
    char counts_name[NAME_BYTES + sizeof COUNTS];
    const size_t n_name = strlen(t->name) - strlen(SUMS), cols = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 0,
                 parts = cols > 0 ? t->bytes / sizeof(float) / cols : 0;
    if (n_name >= NAME_BYTES)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: the name of a tensor has %zu bytes, wanted at most %d", t->file,
                       n_name, NAME_BYTES - 1);
    snprintf(counts_name, sizeof counts_name, "%.*s" COUNTS, (int)n_name, t->name);
    const zb_tensor *counts = zb_tensors_find(&g->tensors, counts_name);
    zamba_status st = check_numbers(t, err);
    if (st == ZAMBA_OK && counts == NULL)
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: %.120s has no %s beside it", t->file, t->name, counts_name);
    if (st == ZAMBA_OK)
        st = check_numbers(counts, err);
    if (st == ZAMBA_OK && (cols == 0 || parts == 0 || counts->bytes / sizeof(float) != parts))
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: %s has %zu numbers, wanted %zu: one for each matrix of %.120s", t->file,
                     counts_name, counts->bytes / sizeof(float), parts, t->name);
    if (st != ZAMBA_OK)
        return st;
    *e = (zb_importance){.parts = parts, .cols = cols};
    e->name = strndup(t->name, n_name);
    e->mean = malloc(parts * cols * sizeof *e->mean);
    e->seen = calloc(parts, 1);
    if (e->name == NULL || e->mean == NULL || e->seen == NULL)
        return zb_fail_memory(err, t->file, parts * cols * sizeof *e->mean);
    memcpy(e->mean, t->data, parts * cols * sizeof *e->mean);
    for (size_t k = 0; k < parts; k++) {
        float count;
        memcpy(&count, (const char *)counts->data + k * sizeof count, sizeof count);
        e->seen[k] = count > 0;
        for (size_t i = 0; count > 0 && i < cols; i++)
            e->mean[k * cols + i] /= count;
    }
    return ZAMBA_OK;
}

static zamba_status read_keys(zb_importances *out, const zb_gguf *g, const char *path, zamba_error *err)
{
    size_t n_type = 0, n = 0;
    const char *type = zb_gguf_text(zb_gguf_find(g, "general.type"), &n_type), *text;
    if (type == NULL || n_type != strlen("imatrix") || memcmp(type, "imatrix", n_type) != 0)
        return zb_fail(err, ZAMBA_E_FORMAT,
                       "%s: no importance matrix: general.type is '%.*s', wanted 'imatrix' (`zamba imatrix` makes one)",
                       path, type == NULL ? 0 : (int)(n_type < 40 ? n_type : 40), type == NULL ? "" : type);
    const zb_gguf_value *chunks = zb_gguf_find(g, "imatrix.chunk_count"), *sets = zb_gguf_find(g, "imatrix.datasets");
    int64_t count = 0;
    if (chunks != NULL && !chunks->is_array && zb_gguf_int(chunks, 0, &count) && count > 0 && count <= UINT32_MAX)
        out->n_chunks = (uint32_t)count;
    zb_gguf_texts it = {.value = sets};
    if (sets != NULL && sets->is_array && sets->type == ZB_GGUF_TEXT && zb_gguf_next_text(&it, &text, &n))
        out->dataset = strndup(text, n);
    else
        out->dataset = strdup("");
    return out->dataset == NULL ? zb_fail_memory(err, path, n) : ZAMBA_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const zb_importance *)a)->name, ((const zb_importance *)b)->name);
}

zamba_status zb_importances_read(zb_importances *out, const char *path, zamba_error *err)
{
    zb_gguf g = {0};
    *out = (zb_importances){0};
    zamba_status st = zb_gguf_open(&g, path, err);
    if (st != ZAMBA_OK)
        return st;
    st = read_keys(out, &g, path, err);
    if (st == ZAMBA_OK) {
        out->items = calloc(g.tensors.n + 1, sizeof *out->items);
        if (out->items == NULL)
            st = zb_fail_memory(err, path, g.tensors.n * sizeof *out->items);
    }
    for (size_t i = 0; i < g.tensors.n && st == ZAMBA_OK; i++)
        if (ends_with(g.tensors.items[i].name, SUMS))
            st = read_entry(&out->items[out->n++], &g, &g.tensors.items[i], err);
    if (st == ZAMBA_OK && out->n == 0)
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: no tensor in it ends with '" SUMS "'", path);
    if (st == ZAMBA_OK)
        qsort(out->items, out->n, sizeof *out->items, by_name);
    zb_gguf_close(&g);
    if (st != ZAMBA_OK)
        zb_importances_free(out);
    return st;
}

void zb_importances_free(zb_importances *im)
{
    for (size_t i = 0; i < im->n; i++) {
        free(im->items[i].name);
        free(im->items[i].mean);
        free(im->items[i].seen);
    }
    free(im->items);
    free(im->dataset);
    *im = (zb_importances){0};
}

zamba_status zb_importances_bind(const zb_importances *im, const zb_plan *plan, const char *const *names,
                                 const char *path, const zb_importance **of, size_t *n_without, zamba_error *err)
{
    size_t n_found = 0;
    *n_without = 0;
    for (size_t i = 0; i < plan->n_specs; i++) {
        const zb_spec *s = &plan->specs[i];
        const zb_importance wanted = {.name = (char *)names[i]};
        const zb_importance *e =
            s->quantizable && im->n > 0 ? bsearch(&wanted, im->items, im->n, sizeof wanted, by_name) : NULL;
        const size_t cols = s->shape[s->n_dims - 1], parts = zb_spec_parts(s);
        of[i] = e;
        *n_without += s->quantizable && e == NULL;
        if (e != NULL && (e->cols != cols || e->parts != parts))
            return zb_fail(err, ZAMBA_E_MISMATCH,
                           "%s: %s has %zu x %zu columns, the model's has %zu x %zu (the importance matrix of another "
                           "model?)",
                           path, e->name, e->parts, e->cols, parts, cols);
        n_found += e != NULL;
    }
    if (n_found == im->n)
        return ZAMBA_OK;
    for (size_t k = 0; k < im->n; k++) { /* names are few: a plain search for the message */
        int found = 0;
        for (size_t i = 0; i < plan->n_specs && !found; i++)
            found = of[i] == &im->items[k];
        if (!found)
            return zb_fail(err, ZAMBA_E_MISMATCH,
                           "%s: %s is no matrix of this model, nor are %zu of %zu (the importance matrix of another "
                           "model?)",
                           path, im->items[k].name, im->n - n_found - 1, im->n);
    }
    return ZAMBA_OK;
}
