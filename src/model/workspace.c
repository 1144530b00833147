/* workspace.c — sizes and reuse of forward scratch. */
#include "model/workspace.h"

#include <stdlib.h>

#include "core/mem.h"

typedef struct layout {
    float *base;
    size_t at;
} layout;

static float *take_rows(layout *l, size_t rows, size_t cols)
{
    float *p = l->base == NULL ? NULL : l->base + l->at;
    l->at += (rows * cols + 15) / 16 * 16;
    return p;
}

/* Room for rows of n numbers in 8 bits: bytes, scales, sums. */
static zb_bytes8 take_bytes8(layout *l, size_t rows, size_t n)
{
    const size_t ld = ((n + ZB_Q8_RUN - 1) / ZB_Q8_RUN | 1) * ZB_Q8_RUN; /* an odd number of cache lines, too */
    zb_bytes8 b = {.ld = ld};
    b.q = (int8_t *)take_rows(l, rows, ld / 4);
    b.scale = take_rows(l, rows, ld / ZB_Q8_RUN);
    b.sum = (int16_t *)take_rows(l, rows, ld / 32);
    return b;
}

static size_t greatest(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Widths of the operands that the three buffers of rounded rows hold in turn: inputs of a block or a layer; what
 * attention, feed-forward and mixers make; adapters' outputs. */
static void operand_widths(const zb_plan *p, size_t widths[3])
{
    const zb_config *c = &p->config;
    const size_t hybrid = p->n_uses > 0;
    widths[0] = c->hidden_size * (1 + hybrid);
    widths[1] = greatest(c->mamba_inner, hybrid * greatest(c->n_heads * c->head_dim, c->ffn_size));
    widths[2] = hybrid * 3 * zb_adapter_step(c);
}

/* Lay everything out at `base`, or only count when base is NULL; returns the floats needed. */
static size_t lay_out(zb_workspace *ws, const zamba_model *m, size_t rows, float *base)
{
    const zb_plan *p = &m->plan;
    const zb_config *c = &p->config;
    const size_t h = c->hidden_size, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim,
                 zamba1 = c->family == ZB_ZAMBA1, hybrid = p->n_uses > 0,
                 reused = p->n_uses > c->n_blocks ? c->n_blocks : 0;
    layout l = {base, 0};
    ws->x = take_rows(&l, rows, h);
    ws->x0 = take_rows(&l, rows, h);
    ws->t = take_rows(&l, rows, h);
    ws->normed = take_rows(&l, rows, h);
    ws->o = ws->t;
    ws->ffn_in = ws->ffn_out = ws->normed;
    ws->cos = take_rows(&l, rows, c->use_rope ? c->head_dim / 2 : 0);
    ws->sin = take_rows(&l, rows, c->use_rope ? c->head_dim / 2 : 0);
    ws->half = take_rows(&l, rows * reused, zb_row_length(q + 2 * kv));
    ws->factor = take_rows(&l, rows, hybrid * c->n_blocks);
    ws->ratio = take_rows(&l, rows, hybrid);
    ws->ld_low = m->weights.lora_rank > 0 ? zb_row_length(ZB_MOST_LORAS * zb_lora_step(&m->weights)) : 0;
    ws->low = take_rows(&l, rows, ws->ld_low);
    size_t widths[3];
    operand_widths(p, widths);
    for (size_t i = 0; i < 3; i++) {
        ws->rounded_width[i] = m->bf16 ? 2 * zb_row_length(widths[i] / 2 + 1) : 0;
        float *part = take_rows(&l, rows, ws->rounded_width[i] / 2);
        ws->rounded[i] = m->bf16 ? (uint16_t *)part : NULL;
        ws->bytes8[i] = m->bytes8 ? take_bytes8(&l, rows, widths[i]) : (zb_bytes8){0};
    }
    layout other = l; /* the shared block's, in the place of the mixer's */
    ws->proj = take_rows(&l, rows, zb_row_length(p->in_rows));
    ws->conv = take_rows(&l, rows, zb_row_length(p->conv_channels));
    ws->y = take_rows(&l, rows, zb_row_length(c->mamba_inner));
    ws->gated = ws->y;
    ws->dt = take_rows(&l, rows, zamba1 ? c->mamba_inner : c->mamba_heads);
    ws->dt_raw = ws->dt;
    ws->dbc = take_rows(&l, rows, zamba1 * c->mamba_heads * (c->mamba_dt_rank + 2 * c->mamba_state));
    ws->adapter = take_rows(&other, rows, hybrid * zb_row_length(3 * zb_adapter_step(c)));
    ws->ffn_adapter = ws->adapter;
    ws->attn = take_rows(&other, rows, hybrid * zb_row_length(q));
    layout ffn = other; /* wide, q, k and v have been used when the feed-forward begins */
    ws->wide = take_rows(&other, rows, hybrid * zb_row_length(2 * h));
    ws->q = take_rows(&other, rows, hybrid * zb_row_length(q));
    ws->k = take_rows(&other, rows, hybrid * zb_row_length(kv));
    ws->v = take_rows(&other, rows, hybrid * zb_row_length(kv));
    ws->gate_up = take_rows(&ffn, rows, hybrid * zb_row_length(2 * c->ffn_size));
    ws->act = ws->gate_up;
    ws->ld_act = zb_row_length(2 * c->ffn_size);
    return greatest(l.at, greatest(other.at, ffn.at));
}

/* Floats of scratch of a worker; *ordered_at: behind what the callers of products use. */
static size_t worker_floats(const zamba_model *m, size_t rows, size_t *ordered_at)
{
    const zb_plan *p = &m->plan;
    const zb_config *c = &p->config;
    const zb_ssm_dims d = {c->mamba_heads, c->mamba_groups, c->mamba_head_dim, c->mamba_state};
    const size_t ssd = c->family == ZB_ZAMBA1 ? 0 : zb_ssd_scratch(d),
                 head = greatest(rows * ZB_HEAD_TILE, ZB_HEAD_LOGITS);
    /* of the heads of few rows, or of a block of many rows: a second result, and greatest and total of both */
    const size_t attn = p->n_uses == 0 ? 0 : greatest(ZB_ATTN_FEW * c->n_heads, ZB_ATTN_MANY) * (c->head_dim + 4);
    size_t widths[3];
    operand_widths(p, widths);
    const size_t widest = greatest(widths[0], greatest(widths[1], widths[2])),
                 drop = m->weights.lora_dropout > 0 ? ZB_DROP_ROWS * widest : 0;
    *ordered_at = (greatest(greatest(greatest(ssd, head), attn), drop) + 15) / 16 * 16;
    layout l = {NULL, *ordered_at};
    if (m->weights.ordered) {
        take_bytes8(&l, ZB_ORDERED_ROWS, widest);
        take_rows(&l, 1, widest);
    }
    return l.at;
}

zb_bytes8 zb_workspace_ordered(zb_workspace *ws, size_t n, int worker, float **row)
{
    layout l = {ws->worker + (size_t)worker * ws->worker_floats, ws->ordered_at};
    const zb_bytes8 b = take_bytes8(&l, ZB_ORDERED_ROWS, n);
    *row = take_rows(&l, 1, n);
    return b;
}

void zb_workspace_drop(zb_workspace *ws)
{
    zb_free_aligned(ws->block);
    zb_free_aligned(ws->worker);
    zb_free_aligned(ws->parts);
    free(ws->spans);
    free(ws);
}

size_t zb_workspace_bytes(const zamba_model *m, size_t rows)
{
    zb_workspace ws;
    size_t ordered_at;
    return (lay_out(&ws, m, rows, NULL) + (size_t)zb_pool_threads(m->pool) * worker_floats(m, rows, &ordered_at)) *
           sizeof(float);
}

static zamba_status fit_rows(zb_workspace *ws, const zamba_model *m, size_t rows, zamba_error *err)
{
    const size_t floats = lay_out(ws, m, rows, NULL), per_worker = worker_floats(m, rows, &ws->ordered_at),
                 workers = (size_t)zb_pool_threads(m->pool);
    zb_free_aligned(ws->block);
    zb_free_aligned(ws->worker);
    ws->rows = 0;
    ws->block = zb_alloc_aligned(floats * sizeof(float));
    ws->worker = zb_alloc_aligned(workers * per_worker * sizeof(float));
    if (ws->block == NULL || ws->worker == NULL)
        return zb_fail_memory(err, "workspace", (floats + workers * per_worker) * sizeof(float));
    lay_out(ws, m, rows, ws->block);
    ws->worker_floats = per_worker;
    ws->rows = rows;
    return ZAMBA_OK;
}

/* Room for the results of every piece of a context of `pages` pages, where it may be split between threads. */
static size_t part_floats(const zamba_model *m, size_t pages)
{
    const zb_config *c = &m->plan.config;
    const size_t pieces = (pages + ZB_PIECE_PAGES - 1) / ZB_PIECE_PAGES;
    if (m->plan.n_uses == 0 || pieces < 2 || c->n_heads >= ZB_SPLIT_BELOW * (size_t)zb_pool_threads(m->pool))
        return 0;
    return ZB_ATTN_FEW * pieces * c->n_heads * (c->head_dim + 2);
}

zamba_status zb_workspace_take(zamba_model *m, size_t rows, size_t spans, size_t pages, zb_workspace **out,
                               zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    pthread_mutex_lock(&m->workspace_lock);
    zb_workspace *ws = m->workspaces;
    const int profiled = m->profile.on;
    if (ws != NULL)
        m->workspaces = ws->next;
    pthread_mutex_unlock(&m->workspace_lock);
    if (ws == NULL)
        ws = calloc(1, sizeof *ws);
    if (ws == NULL)
        return zb_fail_memory(err, "workspace", sizeof *ws);
    if (ws->rows < rows)
        st = fit_rows(ws, m, rows, err);
    if (st == ZAMBA_OK && ws->span_capacity < spans) {
        zb_span *p = realloc(ws->spans, spans * sizeof *p);
        if (p == NULL)
            st = zb_fail_memory(err, "workspace", spans * sizeof *p);
        else
            ws->spans = p, ws->span_capacity = spans;
    }
    if (st == ZAMBA_OK && ws->part_capacity < part_floats(m, pages)) {
        const size_t n = part_floats(m, pages);
        zb_free_aligned(ws->parts);
        ws->part_capacity = 0;
        ws->parts = zb_alloc_aligned(n * sizeof *ws->parts);
        if (ws->parts == NULL)
            st = zb_fail_memory(err, "workspace", n * sizeof *ws->parts);
        else
            ws->part_capacity = n;
    }
    if (st != ZAMBA_OK) {
        zb_workspace_drop(ws);
        return st;
    }
    ws->profile.on = profiled;
    *out = ws;
    return ZAMBA_OK;
}

void zb_workspace_give(zamba_model *m, zb_workspace *ws)
{
    pthread_mutex_lock(&m->workspace_lock);
    zb_profile_merge(&m->profile, &ws->profile);
    ws->next = m->workspaces;
    m->workspaces = ws;
    pthread_mutex_unlock(&m->workspace_lock);
}

void zb_workspace_free_all(zamba_model *m)
{
    while (m->workspaces != NULL) {
        zb_workspace *ws = m->workspaces;
        m->workspaces = ws->next;
        zb_workspace_drop(ws);
    }
}
