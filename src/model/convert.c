/* convert.c — zamba_convert: a checkpoint as a GGUF file or as a folder. The tensors to write are those of a plan: the
 * checkpoint's own, or for llama.cpp's layout that of a model with as many blocks as uses, whose q, k, v and gate_up
 * are the shared ones plus each use's adapters. Tensors are streamed: copied as they are, or row by row through f32. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/pool.h"
#include "io/folder_out.h"
#include "io/gguf_vocab.h"
#include "io/json.h"
#include "io/safetensors_write.h"
#include "model/gguf_names.h"
#include "model/lora.h"
#include "quant/quant.h"

#define COPY_BYTES  ((size_t)8 << 20) /* written at once                            */
#define CHUNK_BYTES ((size_t)8 << 20) /* of f32 rows that are computed at once      */
#define TASK_ROWS   8                 /* rows of a task: they share the adapter's A */
#define STRETCH     ((size_t)512)     /* columns of it                              */

/* A number that does something beside being stored. */
typedef enum change { CHANGE_NONE, CHANGE_TO_A, CHANGE_TO_A_LOG } change;

/* One tensor to write. */
typedef struct item {
    const zb_spec *spec;   /* of the plan of what is written */
    const zb_tensor *from; /* of the checkpoint              */
    const uint32_t *order; /* of its columns, or NULL        */
    const zb_tensor *low;  /* adapter [rank, cols], or NULL  */
    const zb_tensor *high; /* ... [rows, rank]               */
    const uint32_t *low_order, *high_order;
    const zb_lora *lora; /* what is added to it, or NULL   */
    zb_dtype to;
    change change;
} item;

typedef struct convert {
    zamba_convert_options o;
    const char *in, *out;
    zb_checkpoint from;
    zb_plan plan, merged; /* of the checkpoint; of what is written in llama.cpp's layout */
    const zb_plan *target;
    zb_weights weights;
    item *items;
    size_t n_items;
    json_t *config; /* config.json as the keys of a GGUF file without one tell it */
    int to_gguf, merge;
    zb_gguf_writer *gguf;
    zb_shards *shards;
    zb_folder_out folder;
    zb_pool *pool;
    uint64_t done, total;
    zb_lora_places places; /* of adapters that are merged into it */
    unsigned char *folded; /* [places.n]: it went into the weights */
    zb_lora_item *left;    /* what did not                          */
    size_t n_left;
    zamba_error *err;
} convert;

zamba_convert_options zamba_convert_defaults(void)
{
    return (zamba_convert_options){.size = sizeof(zamba_convert_options), .shard_bytes = 5000000000u};
}

static zamba_status check_options(convert *c, const zamba_convert_options *given, const zamba_convert_result *result)
{
    c->o = zamba_convert_defaults();
    if (c->in == NULL || c->out == NULL || c->out[0] == '\0')
        return zb_fail(c->err, ZAMBA_E_ARG, "convert: the name of the result is empty");
    if ((given != NULL && given->size != sizeof *given) || (result != NULL && result->size != sizeof *result))
        return zb_fail(c->err, ZAMBA_E_ARG,
                       "convert: size is not that of the struct (fill options with "
                       "zamba_convert_defaults())");
    if (given != NULL)
        c->o = *given;
    if ((int)c->o.layout < 0 || c->o.layout > ZAMBA_LAYOUT_LLAMA_CPP || (int)c->o.type < 0 ||
        c->o.type > ZAMBA_CONVERT_BF16 || c->o.n_threads < 0 || c->o.n_threads > 1024 || c->o.shard_bytes == 0)
        return zb_fail(c->err, ZAMBA_E_ARG, "convert: layout %d, type %d, %d threads or shards of %llu bytes are none",
                       (int)c->o.layout, (int)c->o.type, c->o.n_threads, (unsigned long long)c->o.shard_bytes);
    const size_t n = strlen(c->out);
    c->to_gguf = n > 5 && strcmp(c->out + n - 5, ".gguf") == 0;
    if (!c->to_gguf && c->o.layout != ZAMBA_LAYOUT_COMPACT)
        return zb_fail(c->err, ZAMBA_E_ARG, "%s: a layout is of GGUF files: the name should end in .gguf", c->out);
    return ZAMBA_OK;
}

/* ---- what is to be written ---- */

/* The plan of a model with a block for every use. */
static zamba_status build_merged(convert *c)
{
    zb_config config = c->plan.config;
    if (config.family != ZB_ZAMBA2)
        return zb_fail(c->err, ZAMBA_E_UNSUPPORTED, "%s: llama.cpp has no layout for zamba (Mamba-1) models", c->in);
    config.hybrid = malloc(config.n_layers);
    if (config.hybrid == NULL)
        return zb_fail_memory(c->err, c->in, config.n_layers);
    memcpy(config.hybrid, c->plan.config.hybrid, config.n_layers);
    config.n_blocks = c->plan.n_uses > 0 ? c->plan.n_uses : 1;
    config.adapter_rank = 0;
    config.mlp_adapter = config.attn_adapter = 0;
    zamba_status st = zb_plan_build(&c->merged, &config, c->in, c->err);
    for (size_t i = 0; i < c->merged.n_specs && st == ZAMBA_OK; i++)
        c->merged.specs[i].is_a = c->merged.specs[i].role == ZB_A_LOG;
    return st;
}

#define N_ROLES (ZB_DOWN_BIAS + 1)

/* Where the checkpoint's plan has a role of a layer, block or use; n_specs: nowhere. */
typedef struct places {
    size_t *at, stride;
} places;

static size_t place_of(const zb_spec *s)
{
    return (size_t)(s->layer >= 0 ? s->layer : s->use >= 0 ? s->use : s->block >= 0 ? s->block : 0);
}

static zamba_status find_places(places *p, const convert *c)
{
    p->stride = c->plan.config.n_layers + 1;
    p->at = malloc(N_ROLES * p->stride * sizeof *p->at);
    if (p->at == NULL)
        return zb_fail_memory(c->err, c->in, N_ROLES * p->stride * sizeof *p->at);
    for (size_t i = 0; i < N_ROLES * p->stride; i++)
        p->at[i] = c->plan.n_specs;
    for (size_t i = 0; i < c->plan.n_specs; i++)
        p->at[c->plan.specs[i].role * p->stride + place_of(&c->plan.specs[i])] = i;
    return ZAMBA_OK;
}

static const uint32_t *order_of(const convert *c, size_t spec)
{
    return c->weights.packed != NULL ? c->weights.packed[spec].order : NULL;
}

static void take_adapter(const convert *c, const places *p, item *it, zb_role role, size_t use)
{
    const size_t low = p->at[role * p->stride + use], high = p->at[(role + 1) * p->stride + use];
    if (low == c->plan.n_specs || high == c->plan.n_specs)
        return;
    it->low = c->weights.bound[low];
    it->high = c->weights.bound[high];
    it->low_order = order_of(c, low);
    it->high_order = order_of(c, high);
}

/* What a tensor of the merged plan is made of. */
static void find_sources(const convert *c, const places *p, item *it)
{
    const zb_spec *s = it->spec;
    const size_t n_blocks = c->plan.config.n_blocks, place = place_of(s);
    const size_t at = p->at[s->role * p->stride + (s->block >= 0 ? place % n_blocks : place)];
    it->from = c->weights.bound[at];
    it->order = order_of(c, at);
    if (s->role == ZB_GATE_UP)
        take_adapter(c, p, it, ZB_GATE_UP_ADAPTER_0, place);
    else if (s->role == ZB_Q)
        take_adapter(c, p, it, ZB_Q_ADAPTER_0, place);
    else if (s->role == ZB_K)
        take_adapter(c, p, it, ZB_K_ADAPTER_0, place);
    else if (s->role == ZB_V)
        take_adapter(c, p, it, ZB_V_ADAPTER_0, place);
    if (s->role == ZB_A_LOG && !c->plan.specs[at].is_a)
        it->change = CHANGE_TO_A;
}

/* The adapter of a place; NULL: none. */
static const zb_lora *lora_at(convert *c, zb_role role, int32_t layer, int32_t use)
{
    return zb_lora_on(zb_weights_lora(&c->weights, role, layer, use));
}

static int same_lora(const zb_lora *a, const zb_lora *b)
{
    const size_t rank = a->a.rows;
    return b != NULL && rank == b->a.rows && memcmp(a->a.data, b->a.data, rank * a->a.cols * sizeof(float)) == 0 &&
           memcmp(a->b.data, b->b.data, rank * a->b.rows * sizeof(float)) == 0;
}

/* What is added to a tensor. Into a matrix that is used several times goes only what is the same at every use. */
static void take_lora(convert *c, item *it)
{
    const zb_spec *s = it->spec;
    const zb_config *config = &c->plan.config;
    if (c->merge && s->block >= 0)
        it->lora = lora_at(c, s->role, -1, s->block);
    else if (s->block < 0 || s->use >= 0)
        it->lora = lora_at(c, s->role, s->layer, s->use);
    else {
        it->lora = lora_at(c, s->role, -1, s->block);
        for (size_t u = (size_t)s->block; u < c->plan.n_uses && it->lora != NULL; u += config->n_blocks) {
            const zb_lora *other = lora_at(c, s->role, -1, (int32_t)u);
            if (!same_lora(it->lora, other))
                it->lora = NULL;
        }
        for (size_t u = (size_t)s->block; u < c->plan.n_uses && it->lora != NULL; u += config->n_blocks)
            c->folded[lora_at(c, s->role, -1, (int32_t)u)->number] = 1;
    }
    if (it->lora != NULL)
        c->folded[it->lora->number] = 1;
}

/* The places whose adapters went nowhere. */
static zamba_status list_left(convert *c)
{
    c->left = calloc(c->places.n + 1, sizeof *c->left);
    if (c->left == NULL)
        return zb_fail_memory(c->err, c->in, c->places.n * sizeof *c->left);
    for (size_t i = 0; i < c->places.n; i++) {
        const zb_lora_place *p = &c->places.items[i];
        const zb_lora *lora = lora_at(c, p->role, p->layer, p->use);
        if (lora == NULL || c->folded[i])
            continue;
        if (c->merge && p->role >= ZB_GATE_UP_ADAPTER_0 && p->role <= ZB_V_ADAPTER_1)
            return zb_fail(
                c->err, ZAMBA_E_UNSUPPORTED,
                "%s: adapts an adapter of the model, which llama.cpp's layout does not have (merge it into a "
                "folder first)",
                p->module);
        c->left[c->n_left++] =
            (zb_lora_item){p, lora->a.data, lora->b.data, lora->a.rows, (double)lora->a.rows /* b has the scale */};
    }
    if (c->n_left > 0 && c->to_gguf)
        return zb_fail(
            c->err, ZAMBA_E_UNSUPPORTED,
            "%s: its adapter cannot go into the weights, which are used several times and adapted in several "
            "ways (in llama.cpp's layout every use has weights of its own; a folder gets the rest beside it)",
            c->left[0].place->module);
    return ZAMBA_OK;
}

static zamba_status choose_type(const convert *c, item *it)
{
    static const zb_dtype types[] = {
        [ZAMBA_CONVERT_F32] = ZB_F32, [ZAMBA_CONVERT_F16] = ZB_F16, [ZAMBA_CONVERT_BF16] = ZB_BF16};
    const zb_dtype from = it->from->dtype;
    it->to = from;
    if (c->o.type == ZAMBA_CONVERT_F32 || (!it->spec->quantizable && (c->merge || from >= ZB_N_FLOATS)))
        it->to = ZB_F32;
    else if (c->o.type != ZAMBA_CONVERT_AS_IS && it->spec->quantizable)
        it->to = types[c->o.type];
    const char *why = it->to < ZB_N_FLOATS                               ? NULL
                      : !c->to_gguf                                      ? "which a folder of safetensors does not hold"
                      : zb_gguf_type_of(it->to) < 0 || it->order != NULL ? "which GGUF does not hold"
                      : it->low != NULL || it->lora != NULL              ? "into which no adapter can be merged"
                                                                         : NULL;
    if (why == NULL)
        return ZAMBA_OK;
    return zb_fail(c->err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s is %s, %s (unpack it: --type bf16, or f32)", c->in,
                   it->spec->name, zb_tensor_type(it->from), why);
}

static zamba_status list_items(convert *c)
{
    places p = {0};
    c->target = c->merge ? &c->merged : &c->plan;
    c->n_items = c->target->n_specs;
    c->items = calloc(c->n_items + 1, sizeof *c->items);
    zamba_status st = c->items == NULL ? zb_fail_memory(c->err, c->in, c->n_items * sizeof *c->items) : ZAMBA_OK;
    if (st == ZAMBA_OK && c->merge)
        st = find_places(&p, c);
    for (size_t i = 0; i < c->n_items && st == ZAMBA_OK; i++) {
        item *it = &c->items[i];
        it->spec = &c->target->specs[i];
        if (c->merge) {
            find_sources(c, &p, it);
        } else {
            it->from = c->weights.bound[i];
            it->order = order_of(c, i);
            if (it->spec->is_a && !c->to_gguf)
                it->change = CHANGE_TO_A_LOG;
        }
        if (c->places.n > 0)
            take_lora(c, it);
        st = choose_type(c, it);
    }
    if (st == ZAMBA_OK && c->places.n > 0)
        st = list_left(c);
    free(p.at);
    return st;
}

/* ---- the bytes ---- */

static zamba_status put_bytes(convert *c, const void *data, size_t n)
{
    zamba_status st =
        c->to_gguf ? zb_gguf_append(c->gguf, data, n, c->err) : zb_shards_append(c->shards, data, n, c->err);
    c->done += n;
    if (st == ZAMBA_OK && c->o.on_progress != NULL && c->o.on_progress(c->o.user, c->done, c->total) != 0)
        st = zb_fail(c->err, ZAMBA_E_CANCELLED, "%s: stopped; nothing was left", c->out);
    return st;
}

static zamba_status copy(convert *c, const item *it)
{
    const unsigned char *p = it->from->data;
    zamba_status st = ZAMBA_OK;
    for (size_t at = 0; at < it->from->bytes && st == ZAMBA_OK; at += COPY_BYTES)
        st = put_bytes(c, p + at, it->from->bytes - at < COPY_BYTES ? it->from->bytes - at : COPY_BYTES);
    return st;
}

/* Rows of one tensor that are computed together. */
typedef struct chunk {
    const item *it;
    size_t cols, rank, row0, n_rows;
    float *rows;      /* [n_rows, cols]                                    */
    float *spare;     /* [threads, max(cols, rank)]                        */
    size_t n_spare;   /* ... of one thread                                 */
    const float *low; /* [rank, cols]                                      */
    unsigned char *to;
    atomic_size_t bad; /* a row + 1 with a number that cannot be stored, or 0 */
} chunk;

/* One row of a matrix of any type as f32, its columns in their own order. */
static void read_row(float *to, float *spare, const zb_tensor *t, const uint32_t *order, size_t row, size_t cols)
{
    const unsigned char *from = (const unsigned char *)t->data + row * zb_row_bytes(t->dtype, cols);
    zb_row_to_f32(order != NULL ? spare : to, from, t->dtype, cols);
    for (size_t k = 0; order != NULL && k < cols; k++)
        to[order[k]] = spare[k];
}

/* y += b low, for up to TASK_ROWS rows at once and a stretch of columns at a time, which stays in the nearest cache. */
static void add_adapter(float *y, const float *b, const float *low, size_t n_rows, size_t cols, size_t rank)
{
    for (size_t k0 = 0; k0 < cols; k0 += STRETCH) {
        const size_t n = cols - k0 < STRETCH ? cols - k0 : STRETCH;
        for (size_t r = 0; r < rank; r++) {
            const float *a = low + r * cols + k0;
            for (size_t i = 0; i < n_rows; i++) {
                const float f = b[i * rank + r];
                float *row = y + i * cols + k0;
                for (size_t k = 0; k < n; k++)
                    row[k] += f * a[k];
            }
        }
    }
}

static int change_row(float *x, size_t n, change how)
{
    int fine = 1;
    for (size_t i = 0; i < n && how == CHANGE_TO_A; i++)
        x[i] = -expf(x[i]);
    for (size_t i = 0; i < n && how == CHANGE_TO_A_LOG; i++) {
        fine &= x[i] < 0.0f;
        x[i] = logf(-x[i]);
    }
    return fine;
}

/* 0: a finite number became infinite. */
static int store_row(unsigned char *to, zb_dtype type, const float *x, size_t n)
{
    int fine = 1;
    if (type == ZB_F32) {
        memcpy(to, x, n * sizeof *x);
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        const uint16_t h = type == ZB_BF16 ? zb_f32_bf16(x[i]) : zb_f32_f16(x[i]);
        fine &= !isfinite(x[i]) || (h & (type == ZB_BF16 ? 0x7F80 : 0x7C00)) != (type == ZB_BF16 ? 0x7F80 : 0x7C00);
        memcpy(to + 2 * i, &h, 2);
    }
    return fine;
}

static void make_rows(void *ctx, size_t task, int worker)
{
    chunk *k = ctx;
    const item *it = k->it;
    const size_t first = task * TASK_ROWS, left = k->n_rows - first, n = left < TASK_ROWS ? left : TASK_ROWS;
    float *y = k->rows + first * k->cols, *spare = k->spare + (size_t)worker * k->n_spare,
          *b = spare + k->cols + k->rank;
    for (size_t i = 0; i < n; i++)
        read_row(y + i * k->cols, spare, it->from, it->order, k->row0 + first + i, k->cols);
    if (it->low != NULL) {
        for (size_t i = 0; i < n; i++)
            read_row(b + i * k->rank, spare, it->high, it->high_order, k->row0 + first + i, k->rank);
        add_adapter(y, b, k->low, n, k->cols, k->rank);
    }
    if (it->lora != NULL)
        add_adapter(y, (const float *)it->lora->b.data + (k->row0 + first) * it->lora->b.cols, it->lora->a.data, n,
                    k->cols, it->lora->a.rows);
    for (size_t i = 0; i < n; i++)
        if (!change_row(y + i * k->cols, k->cols, it->change) ||
            !store_row(k->to + (first + i) * k->cols * zb_dtype_bytes(it->to), it->to, y + i * k->cols, k->cols))
            atomic_store(&k->bad, k->row0 + first + i + 1);
}

/* All of an adapter's A. */
static zamba_status read_low(float **out, const convert *c, const item *it, size_t cols, size_t rank)
{
    float *spare = malloc(cols * sizeof *spare);
    *out = malloc(rank * cols * sizeof **out);
    zamba_status st =
        *out == NULL || spare == NULL ? zb_fail_memory(c->err, c->in, rank * cols * sizeof **out) : ZAMBA_OK;
    for (size_t r = 0; r < rank && st == ZAMBA_OK; r++)
        read_row(*out + r * cols, spare, it->low, it->low_order, r, cols);
    free(spare);
    return st;
}

static zamba_status compute(convert *c, const item *it)
{
    const zb_spec *s = it->spec;
    const size_t cols = s->shape[s->n_dims - 1], rows = zb_spec_elements(s) / cols, element = zb_dtype_bytes(it->to);
    const size_t fit = CHUNK_BYTES / (cols * sizeof(float)) / TASK_ROWS * TASK_ROWS, step = fit > 0 ? fit : TASK_ROWS;
    const size_t most = step < rows ? step : rows;
    float *low = NULL;
    chunk k = {.it = it, .cols = cols, .rank = it->low != NULL ? it->low->shape[0] : 0};
    k.n_spare = cols + k.rank + TASK_ROWS * k.rank;
    k.rows = malloc(most * cols * sizeof *k.rows);
    k.spare = malloc((size_t)zb_pool_threads(c->pool) * k.n_spare * sizeof *k.spare);
    k.to = malloc(most * cols * element);
    zamba_status st = k.rows == NULL || k.spare == NULL || k.to == NULL
                          ? zb_fail_memory(c->err, c->in, most * cols * sizeof *k.rows)
                          : ZAMBA_OK;
    if (st == ZAMBA_OK && it->low != NULL)
        st = read_low(&low, c, it, cols, k.rank);
    k.low = low;
    for (; k.row0 < rows && st == ZAMBA_OK; k.row0 += k.n_rows) {
        k.n_rows = rows - k.row0 < step ? rows - k.row0 : step;
        zb_pool_run(c->pool, (k.n_rows + TASK_ROWS - 1) / TASK_ROWS, make_rows, &k);
        const size_t bad = atomic_load(&k.bad);
        if (bad > 0)
            st = zb_fail(c->err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s, row %zu: a number %s", c->in, s->name, bad - 1,
                         it->change == CHANGE_TO_A_LOG ? "that should be negative is not"
                         : it->to == ZB_F16            ? "is too large for f16 (take bf16 or f32)"
                                                       : "is too large for bf16 (take f32)");
        else
            st = put_bytes(c, k.to, k.n_rows * cols * element);
    }
    free(low);
    free(k.rows);
    free(k.spare);
    free(k.to);
    return st;
}

/* Pages of the input are not needed again soon: what is held stays small, however large the model. */
static void forget(const convert *c, const zb_tensor *t)
{
    const zb_tensors *ts = &c->weights.tensors;
    for (size_t i = 0; i < ts->n_files; i++)
        if (zb_file_forget(&ts->files[i], t->data, t->bytes))
            return;
}

static zamba_status put_items(convert *c)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < c->n_items && st == ZAMBA_OK; i++) {
        const item *it = &c->items[i];
        const int as_it_is = it->to == it->from->dtype && it->low == NULL && it->lora == NULL && it->order == NULL &&
                             it->change == CHANGE_NONE;
        st = as_it_is ? copy(c, it) : compute(c, it);
        forget(c, it->from);
    }
    return st;
}

/* ---- a GGUF file ---- */

static uint32_t file_type(const convert *c)
{
    uint64_t bytes[ZB_N_DTYPES] = {0};
    int best = 0;
    for (size_t i = 0; i < c->n_items; i++)
        if (c->items[i].spec->quantizable)
            bytes[c->items[i].to] += zb_row_bytes(c->items[i].to, zb_spec_elements(c->items[i].spec));
    for (int t = 1; t < ZB_N_DTYPES; t++)
        best = bytes[t] > bytes[best] ? t : best;
    /* a preset mixes types: its own number says more */
    const zb_gguf_value *said = zb_gguf_find(&c->from.gguf, "general.file_type");
    int64_t number;
    if (c->o.type == ZAMBA_CONVERT_AS_IS && said != NULL && !said->is_array && zb_gguf_int(said, 0, &number) &&
        number >= 0 && number <= UINT32_MAX)
        return (uint32_t)number;
    return zb_gguf_file_type((zb_dtype)best);
}

static zamba_status write_gguf(convert *c)
{
    zamba_status st = zb_gguf_create(&c->gguf, c->out, c->err);
    if (st == ZAMBA_OK)
        st = zb_gguf_put_model(c->gguf, &c->from, c->target, c->merge || c->from.merged, file_type(c), c->err);
    for (size_t i = 0; i < c->n_items && st == ZAMBA_OK; i++) {
        char name[96];
        size_t shape[4];
        const int n_dims = zb_gguf_shape(shape, c->target, c->items[i].spec);
        zb_gguf_name(name, sizeof name, c->target, c->items[i].spec);
        zb_gguf_declare(c->gguf, name, c->items[i].to, shape, n_dims);
    }
    if (st == ZAMBA_OK)
        st = zb_gguf_begin(c->gguf, c->err);
    if (st == ZAMBA_OK)
        st = put_items(c);
    if (st == ZAMBA_OK) {
        zb_gguf_writer *w = c->gguf;
        c->gguf = NULL;
        st = zb_gguf_finish(w, c->err);
    }
    return st;
}

/* ---- a folder ---- */

static zamba_status write_text(const convert *c, const char *name, const char *text, size_t n)
{
    char path[4096];
    const char *slash = strchr(name, '/');
    zamba_status st = zb_path_join(path, sizeof path, c->folder.tmp, name, c->err);
    if (st == ZAMBA_OK && slash != NULL) {
        char folder[64], inner[4096];
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - name), name);
        st = zb_path_join(inner, sizeof inner, c->folder.tmp, folder, c->err);
        if (st == ZAMBA_OK)
            (void)mkdir(inner, 0777); /* what fails here fails in the next line */
    }
    return st == ZAMBA_OK ? zb_file_write(path, &(zb_file_part){text, n}, 1, c->err) : st;
}

/* config.json: as it was, but without a packing that is no more; or as the keys tell it. */
static zamba_status write_config(const convert *c)
{
    zb_buf text = {0};
    json_t *root = c->config;
    zamba_status st = root == NULL ? zb_checkpoint_text(&c->from, "config.json", &text, c->err) : ZAMBA_OK;
    if (st == ZAMBA_OK && root == NULL && c->plan.config.packing.method != ZB_PACK_NONE) {
        st = zb_json_parse(&root, text.data, text.n, c->in, zb_json_small, c->err);
        json_object_del(root, "quantization_config");
    }
    if (st == ZAMBA_OK && root != NULL) {
        char *dump = json_dumps(root, JSON_INDENT(2));
        st = dump != NULL ? write_text(c, "config.json", dump, strlen(dump)) : zb_fail_memory(c->err, c->in, 0);
        free(dump);
    } else if (st == ZAMBA_OK) {
        st = write_text(c, "config.json", text.data != NULL ? text.data : "", text.n);
    }
    if (root != c->config)
        json_decref(root);
    zb_buf_free(&text);
    return st;
}

/* A file that carries no texts: its vocabulary as the keys tell it. */
static zamba_status write_vocabulary(const convert *c)
{
    zb_buf tokenizer = {0}, config = {0};
    zamba_status st = zb_gguf_tokenizer(&tokenizer, &config, &c->from.gguf, c->in, c->err);
    if (st == ZAMBA_E_NOT_FOUND || st == ZAMBA_E_UNSUPPORTED) {
        zb_log(ZAMBA_LOG_WARN, "%s: no tokenizer is written: it has none, or one of another kind", c->in);
        st = ZAMBA_OK;
    } else if (st == ZAMBA_OK) {
        st = write_text(c, "tokenizer.json", tokenizer.data, tokenizer.n);
        if (st == ZAMBA_OK)
            st = write_text(c, "tokenizer_config.json", config.data, config.n);
    }
    zb_buf_free(&tokenizer);
    zb_buf_free(&config);
    return st;
}

static zamba_status write_texts(const convert *c)
{
    size_t n;
    zamba_status st = write_config(c);
    for (size_t i = 0; zb_checkpoint_texts[i] != NULL && st == ZAMBA_OK; i++) {
        zb_buf text = {0};
        if (strcmp(zb_checkpoint_texts[i], "config.json") == 0)
            continue;
        st = zb_checkpoint_text(&c->from, zb_checkpoint_texts[i], &text, c->err);
        if (st == ZAMBA_OK)
            st = write_text(c, zb_checkpoint_texts[i], text.data != NULL ? text.data : "", text.n);
        else if (st == ZAMBA_E_NOT_FOUND)
            st = ZAMBA_OK;
        zb_buf_free(&text);
    }
    if (st == ZAMBA_OK && c->from.is_gguf && zb_gguf_file(&c->from.gguf, "tokenizer.json", &n) == NULL)
        st = write_vocabulary(c);
    return st;
}

/* Adapters that did not go into the weights. */
static zamba_status write_left(const convert *c, const char *folder, const char *name)
{
    char path[4096];
    zamba_status st = zb_path_join(path, sizeof path, folder, name, c->err);
    if (st == ZAMBA_OK)
        (void)mkdir(path, 0777); /* what fails here fails in the next line */
    return st == ZAMBA_OK ? zb_lora_write(path, &c->places, c->left, c->n_left, 0, 0, c->out, c->err) : st;
}

static zamba_status write_folder(convert *c, size_t *n_files)
{
    zamba_status st = zb_folder_out_open(&c->folder, c->out, c->o.force, c->err);
    if (st == ZAMBA_OK)
        st = write_texts(c);
    if (st == ZAMBA_OK)
        st = zb_shards_create(&c->shards, c->folder.tmp, c->o.shard_bytes, c->err);
    for (size_t i = 0; i < c->n_items && st == ZAMBA_OK; i++)
        zb_shards_declare(c->shards, c->items[i].spec->name, c->items[i].to, c->items[i].spec->shape,
                          c->items[i].spec->n_dims);
    if (st == ZAMBA_OK) {
        *n_files = zb_shards_files(c->shards);
        st = zb_shards_begin(c->shards, c->err);
    }
    if (st == ZAMBA_OK)
        st = put_items(c);
    if (st == ZAMBA_OK) {
        zb_shards *w = c->shards;
        c->shards = NULL;
        st = zb_shards_finish(w, c->err);
    }
    if (st == ZAMBA_OK && c->n_left > 0)
        st = write_left(c, c->folder.tmp, "adapter");
    if (st == ZAMBA_OK)
        st = zb_folder_out_commit(&c->folder, zb_checkpoint_texts, c->err);
    return st;
}

/* ---- all of it ---- */

static zamba_status open_input(convert *c)
{
    size_t n;
    zamba_status st = zb_checkpoint_open(&c->from, c->in, c->err);
    if (st == ZAMBA_OK && c->from.is_gguf && !c->to_gguf &&
        (c->from.merged || zb_gguf_file(&c->from.gguf, "config.json", &n) == NULL))
        st = zb_gguf_config(&c->config, &c->from.gguf, c->in, c->err);
    if (st == ZAMBA_OK)
        st = zb_checkpoint_plan(&c->from, &c->plan, ZAMBA_DT_FLOOR_AUTO, c->err);
    if (st == ZAMBA_OK)
        st = zb_weights_open(&c->weights, &c->plan, &c->from, c->err);
    if (st == ZAMBA_OK && c->o.n_loras > 0)
        st = zb_lora_places_list(&c->places, &c->plan, c->err);
    if (st == ZAMBA_OK && c->o.n_loras > 0)
        st = zb_lora_attach(&c->weights, &c->plan, c->o.loras, c->o.n_loras, 0, c->err);
    c->folded = calloc(c->places.n + 1, 1);
    if (st == ZAMBA_OK && c->folded == NULL)
        st = zb_fail_memory(c->err, c->in, c->places.n);
    return st;
}

zamba_status zamba_convert(const char *in, const char *out, const zamba_convert_options *options,
                           zamba_convert_result *result, zamba_error *err)
{
    convert c = {.in = in, .out = out, .err = err};
    size_t n_files = 1;
    zamba_status st = check_options(&c, options, result);
    if (st == ZAMBA_OK)
        st = open_input(&c);
    c.merge = c.o.layout == ZAMBA_LAYOUT_LLAMA_CPP && !c.from.merged;
    if (st == ZAMBA_OK && c.merge)
        st = build_merged(&c);
    if (st == ZAMBA_OK)
        st = list_items(&c);
    if (st == ZAMBA_OK)
        st = zb_pool_open(&c.pool, c.o.n_threads > 0 ? c.o.n_threads : zb_pool_cores(), err);
    for (size_t i = 0; i < c.n_items && st == ZAMBA_OK; i++)
        c.total += zb_row_bytes(c.items[i].to, zb_spec_elements(c.items[i].spec));
    if (st == ZAMBA_OK)
        st = c.to_gguf ? write_gguf(&c) : write_folder(&c, &n_files);
    if (st == ZAMBA_OK && result != NULL)
        *result = (zamba_convert_result){
            .size = sizeof *result, .bytes = c.total, .n_tensors = c.n_items, .n_files = n_files, .n_left = c.n_left};
    zb_gguf_cancel(c.gguf);
    zb_shards_cancel(c.shards);
    zb_folder_out_discard(&c.folder);
    zb_pool_close(c.pool);
    free(c.items);
    free(c.left);
    free(c.folded);
    zb_lora_places_free(&c.places);
    json_decref(c.config);
    zb_weights_close(&c.weights);
    zb_plan_free(&c.merged);
    zb_plan_free(&c.plan);
    zb_checkpoint_close(&c.from);
    return st;
}
