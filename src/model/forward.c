/* forward.c — the forward pass: walks the plan's rows over a ragged batch and calls the kernel table. Prefill, chunked
 * prefill, decode, batched decode and verification are this one function; docs/MODEL.md "Forward" is the same text in
 * words. Owns no state: sequences and workspaces are handed in. */
#include <math.h>
#include <string.h>

#include "model/workspace.h"

/* One pass over up to ws->rows rows. */
typedef struct pass {
    zamba_model *m;
    const zb_config *c;
    const zb_kernels *k;
    zb_workspace *ws;
    const zamba_batch_item *items;
    const zamba_forward_options *options;
    size_t rows, n_spans;
} pass;

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* ---- products: several matrices over the same rows are one run of the pool ---- */

typedef struct product {
    const zb_mat *w; /* NULL or rows 0: nothing to do                  */
    const float *x;
    size_t ld_x;
    float *y;
    size_t ld_y;
    const float *bias; /* [rows] or NULL                               */
    int accumulate;
} product;

#define MAX_PRODUCTS 6

typedef struct product_run {
    const pass *p;
    const product *list;
    size_t n, first_task[MAX_PRODUCTS + 1], tile;
} product_run;

static void product_task(void *ctx, size_t task, int worker)
{
    const product_run *r = ctx;
    size_t i = 0;
    (void)worker;
    while (task >= r->first_task[i + 1])
        i++;
    const product *p = &r->list[i];
    const size_t row0 = (task - r->first_task[i]) * r->tile, row1 = least(row0 + r->tile, p->w->rows);
    r->p->k->matmul(p->y, p->ld_y, p->x, p->ld_x, r->p->rows, p->w, row0, row1, p->accumulate);
    for (size_t m = 0; p->bias != NULL && m < r->p->rows; m++)
        r->p->k->add(p->y + m * p->ld_y + row0, p->bias + row0, row1 - row0);
}

static void multiply(const pass *p, const product *list, size_t n)
{
    product_run r = {.p = p, .list = list, .n = n, .tile = 64};
    size_t tasks = 0;
    for (size_t i = 0; i < n; i++) {
        r.first_task[i] = tasks;
        tasks += list[i].w == NULL ? 0 : ceil_div(list[i].w->rows, r.tile);
    }
    for (size_t i = n; i <= MAX_PRODUCTS; i++)
        r.first_task[i] = tasks;
    zb_pool_run(p->m->pool, tasks, product_task, &r);
}

/* ---- work on rows ---- */

typedef void (*row_fn)(const pass *p, size_t row, const void *arg);

typedef struct row_run {
    const pass *p;
    row_fn fn;
    const void *arg;
    size_t per_task;
} row_run;

static void row_task(void *ctx, size_t task, int worker)
{
    const row_run *r = ctx;
    const size_t end = least((task + 1) * r->per_task, r->p->rows);
    (void)worker;
    for (size_t row = task * r->per_task; row < end; row++)
        r->fn(r->p, row, r->arg);
}

/* Small row work is not worth waking anybody: 4 rows to a task, so that one to four rows stay with the caller. */
static void each_row(const pass *p, row_fn fn, const void *arg)
{
    row_run r = {p, fn, arg, 4};
    zb_pool_run(p->m->pool, ceil_div(p->rows, r.per_task), row_task, &r);
}

/* normed = RMSNorm(x), or RMSNorm(x + t) after a shared block; t never enters the residual stream. */
typedef struct norm_args {
    const float *weight;
    int with_t;
} norm_args;

static void mixer_norm_row(const pass *p, size_t row, const void *arg)
{
    const norm_args *a = arg;
    const size_t h = p->c->hidden_size;
    float *normed = p->ws->normed + row * h;
    const float *x = p->ws->x + row * h;
    if (a->with_t) {
        memcpy(normed, x, h * sizeof *x);
        p->k->add(normed, p->ws->t + row * h, h);
        x = normed;
    }
    p->k->rmsnorm(normed, x, a->weight, h, p->c->norm_eps);
}

static void final_norm_row(const pass *p, size_t row, const void *arg)
{
    const size_t h = p->c->hidden_size;
    p->k->rmsnorm(p->ws->normed + row * h, p->ws->x + row * h, arg, h, p->c->norm_eps);
}

/* ---- Mamba: tasks over spans and channels or heads ---- */

typedef struct mixer_run {
    const pass *p;
    const zb_layer *row;
    const zb_mixer_weights *w;
    size_t per_span, unit; /* tasks of one span; channels or heads of one task */
} mixer_run;

static void conv_task(void *ctx, size_t task, int worker)
{
    const mixer_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const zb_span *s = &p->ws->spans[task / r->per_span];
    const size_t C = p->m->plan.conv_channels, in = p->m->plan.in_rows, unit = task % r->per_span;
    const size_t c0 = unit * r->unit, c1 = least(c0 + r->unit, C);
    const float *x = p->ws->proj + s->row * in;
    (void)worker;
    if (c->family == ZB_ZAMBA1)
        p->k->conv1d_silu(p->ws->conv + s->row * C, C, x, in, 2, s->n, s->seq->state + r->row->conv_at, r->w->conv,
                          r->w->conv_bias, C, c->mamba_conv, c0, c1);
    else
        p->k->conv1d_silu(p->ws->conv + s->row * C, C, x + c->mamba_inner, in, 1, s->n, s->seq->state + r->row->conv_at,
                          r->w->conv, r->w->conv_bias, C, c->mamba_conv, c0, c1);
    if (unit > 0 || c->family == ZB_ZAMBA1)
        return;
    for (size_t i = 0; i < s->n; i++) /* dt stands behind x, B and C in the projection */
        p->k->dt_softplus(p->ws->dt + (s->row + i) * c->mamba_heads, x + i * in + c->mamba_inner + C, r->w->dt_bias,
                          c->mamba_heads, c->dt_min, c->dt_max);
}

static void ssm_task(void *ctx, size_t task, int worker)
{
    const mixer_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const zb_span *s = &p->ws->spans[task / r->per_span];
    const zb_ssm_dims d = {c->mamba_heads, c->mamba_groups, c->mamba_head_dim, c->mamba_state};
    const size_t C = p->m->plan.conv_channels, j0 = task % r->per_span * r->unit, j1 = least(j0 + r->unit, d.heads);
    float *h = s->seq->state + r->row->ssm_at;
    for (size_t i = 0; i < s->n; i += ZB_SSD_CHUNK) {
        const size_t row = s->row + i, n = least(s->n - i, ZB_SSD_CHUNK);
        const float *x = p->ws->conv + row * C, *B = x + c->mamba_inner, *Cc = B + c->mamba_groups * c->mamba_state;
        const float *dt = p->ws->dt + row * d.heads;
        float *y = p->ws->y + row * c->mamba_inner;
        if (n == 1)
            p->k->ssm_step(y, h, x, dt, r->w->A, B, Cc, r->w->D, d, j0, j1);
        else
            p->k->ssd_chunk(y, c->mamba_inner, h, x, C, dt, d.heads, r->w->A, B, Cc, C, r->w->D, n, d, j0, j1,
                            p->ws->worker + (size_t)worker * p->ws->worker_floats);
    }
}

static void gated_norm_row(const pass *p, size_t row, const void *arg)
{
    p->k->rmsnorm_gated(p->ws->y + row * p->c->mamba_inner, p->ws->proj + row * p->m->plan.in_rows, arg,
                        p->c->mamba_inner, p->c->mamba_groups, ZB_GATED_NORM_EPS);
}

/* Mamba-1: a task takes a run of channels of one head; x_proj and dt_proj were products before it. */
static void scan_task(void *ctx, size_t task, int worker)
{
    const mixer_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const zb_span *s = &p->ws->spans[task / r->per_span];
    const size_t P = c->mamba_head_dim, N = c->mamba_state, width = c->mamba_dt_rank + 2 * N,
                 tasks_per_head = ceil_div(P, r->unit), unit = task % r->per_span, head = unit / tasks_per_head,
                 c0 = unit % tasks_per_head * r->unit, c1 = least(c0 + r->unit, P), at = head * P,
                 inner = c->mamba_inner, ld_bc = c->mamba_heads * width;
    const float *dbc = p->ws->dbc + s->row * ld_bc + head * width + c->mamba_dt_rank;
    (void)worker;
    for (size_t i = 0; i < s->n; i++) {
        float *dt = p->ws->dt + (s->row + i) * inner + at + c0;
        p->k->dt_softplus(dt, dt, r->w->dt_bias + at + c0, c1 - c0, c->dt_min, c->dt_max);
    }
    p->k->mamba1_scan(p->ws->y + s->row * inner + at, inner, s->seq->state + r->row->ssm_at + at * N,
                      p->ws->conv + s->row * inner + at, inner, p->ws->dt + s->row * inner + at, inner,
                      p->ws->proj + s->row * p->m->plan.in_rows + 2 * at + 1, p->m->plan.in_rows, 2, r->w->A + at * N,
                      dbc, dbc + N, ld_bc, r->w->D + at, s->n, N, c0, c1);
}

/* A head's slice of a [heads, rows, cols] stack of matrices. */
static zb_mat head_slice(const zb_mat *stack, size_t heads, size_t head)
{
    zb_mat m = *stack;
    m.rows = stack->rows / heads;
    m.data = (const char *)stack->data + head * m.rows * m.ld * zb_dtype_size(m.dtype);
    return m;
}

static void mamba1_inner(const pass *p, const zb_layer *row, const zb_mixer_weights *w)
{
    const zb_config *c = p->c;
    zb_workspace *ws = p->ws;
    const size_t P = c->mamba_head_dim, width = c->mamba_dt_rank + 2 * c->mamba_state, ld = c->mamba_heads * width;
    for (size_t h = 0; h < c->mamba_heads; h++) {
        const zb_mat x_proj = head_slice(&w->x_proj, c->mamba_heads, h);
        multiply(p, &(product){&x_proj, ws->conv + h * P, c->mamba_inner, ws->dbc + h * width, ld, NULL, 0}, 1);
    }
    for (size_t h = 0; h < c->mamba_heads; h++) {
        const zb_mat dt_proj = head_slice(&w->dt_proj, c->mamba_heads, h);
        multiply(p, &(product){&dt_proj, ws->dbc + h * width, ld, ws->dt + h * P, c->mamba_inner, NULL, 0}, 1);
    }
    mixer_run r = {p, row, w, 0, 64};
    r.per_span = c->mamba_heads * ceil_div(P, r.unit);
    zb_pool_run(p->m->pool, r.per_span * p->n_spans, scan_task, &r);
}

static void mamba2_inner(const pass *p, const zb_layer *row, const zb_mixer_weights *w)
{
    /* a task takes some heads of one group, so that what the group shares is computed once a task */
    const size_t per_group = p->c->mamba_heads / p->c->mamba_groups;
    size_t unit = ceil_div(per_group, (size_t)zb_pool_threads(p->m->pool) * 2);
    unit = least(unit < 4 ? 4 : unit, per_group);
    while (per_group % unit != 0)
        unit++;
    mixer_run r = {p, row, w, p->c->mamba_heads / unit, unit};
    zb_pool_run(p->m->pool, r.per_span * p->n_spans, ssm_task, &r);
    each_row(p, gated_norm_row, w->gated_norm);
}

/* x += mixer(normed) */
static void mixer(const pass *p, const zb_layer *row, const zb_mixer_weights *w)
{
    const zb_config *c = p->c;
    zb_workspace *ws = p->ws;
    const size_t h = c->hidden_size, in = p->m->plan.in_rows;
    multiply(p, &(product){&w->in_proj, ws->normed, h, ws->proj, in, w->in_bias, 0}, 1);
    mixer_run conv = {p, row, w, 0, 512};
    conv.per_span = ceil_div(p->m->plan.conv_channels, conv.unit);
    zb_pool_run(p->m->pool, conv.per_span * p->n_spans, conv_task, &conv);
    if (row->mixer == ZB_MAMBA1)
        mamba1_inner(p, row, w);
    else
        mamba2_inner(p, row, w);
    multiply(p, &(product){&w->out_proj, ws->y, c->mamba_inner, ws->x, h, w->out_bias, 1}, 1);
}

/* ---- the shared attention + MLP block ---- */

static void concat_norm_row(const pass *p, size_t row, const void *arg)
{
    const size_t h = p->c->hidden_size;
    float *wide = p->ws->wide + row * 2 * h;
    memcpy(wide, p->ws->x + row * h, h * sizeof *wide);
    memcpy(wide + h, p->ws->x0 + row * h, h * sizeof *wide);
    p->k->rmsnorm(wide, wide, arg, 2 * h, p->c->norm_eps);
}

static void ffn_norm_row(const pass *p, size_t row, const void *arg)
{
    const size_t h = p->c->hidden_size;
    p->k->rmsnorm(p->ws->normed + row * h, p->ws->t + row * h, arg, h, p->c->norm_eps);
}

static void glu_row(const pass *p, size_t row, const void *arg)
{
    float *g = p->ws->gate_up + row * 2 * p->c->ffn_size;
    (void)arg;
    p->k->glu(g, g, g + p->c->ffn_size, p->c->ffn_size, p->c->act);
}

static const zb_span *span_of(const pass *p, size_t row)
{
    size_t lo = 0, hi = p->n_spans;
    while (hi - lo > 1) {
        const size_t mid = (lo + hi) / 2;
        if (p->ws->spans[mid].row <= row)
            lo = mid;
        else
            hi = mid;
    }
    return &p->ws->spans[lo];
}

/* Position of a row in its sequence; the sequence's length does not move before the whole call is done. */
static size_t position(const zb_span *s, size_t row)
{
    return s->seq->n + s->done + (row - s->row);
}

/* cos and sin of every row's position, as the reference computes them: in f32, inv_freq * position. */
static void rope_angles_row(const pass *p, size_t row, const void *arg)
{
    const size_t half = p->c->head_dim / 2;
    const float pos = (float)position(span_of(p, row), row);
    (void)arg;
    for (size_t i = 0; i < half; i++) {
        const float inv_freq = (float)(1.0 / pow(p->c->rope_theta, (double)(2 * i) / (double)p->c->head_dim));
        p->ws->cos[row * half + i] = cosf(inv_freq * pos);
        p->ws->sin[row * half + i] = sinf(inv_freq * pos);
    }
}

/* Rotate q and k of a row and put k and v into the sequence's page. arg: the use. */
static void store_kv_row(const pass *p, size_t row, const void *arg)
{
    const zb_config *c = p->c;
    const zb_span *s = span_of(p, row);
    const size_t use = *(const size_t *)arg, half = c->head_dim / 2, pos = position(s, row), d = c->head_dim;
    const zb_page *page = s->seq->pages[pos / ZB_PAGE_TOKENS];
    float *q = p->ws->q + row * c->n_heads * d, *k = p->ws->k + row * c->n_kv_heads * d,
          *v = p->ws->v + row * c->n_kv_heads * d;
    const float *cos = p->ws->cos + row * half, *sin = p->ws->sin + row * half;
    for (size_t j = 0; c->use_rope && j < c->n_heads; j++)
        p->k->rope(q + j * d, cos, sin, d);
    for (size_t j = 0; j < c->n_kv_heads; j++) {
        if (c->use_rope)
            p->k->rope(k + j * d, cos, sin, d);
        memcpy(zb_page_rows(&p->m->plan, page, use, 0, j) + pos % ZB_PAGE_TOKENS * d, k + j * d, d * sizeof *k);
        memcpy(zb_page_rows(&p->m->plan, page, use, 1, j) + pos % ZB_PAGE_TOKENS * d, v + j * d, d * sizeof *v);
    }
}

#define ATTN_ROWS 16 /* query rows of one task: they share each page of keys while it is in cache */

typedef struct attn_run {
    const pass *p;
    size_t use;
} attn_run;

/* Tasks are (block of query rows, head); row blocks are found by walking the spans, which are few. */
static void attention_task(void *ctx, size_t task, int worker)
{
    const attn_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const size_t head = task % c->n_heads, kv_head = head / (c->n_heads / c->n_kv_heads), d = c->head_dim,
                 ld = c->n_heads * d;
    size_t block = task / c->n_heads, i = 0;
    while (block >= ceil_div(p->ws->spans[i].n, ATTN_ROWS))
        block -= ceil_div(p->ws->spans[i++].n, ATTN_ROWS);
    const zb_span *s = &p->ws->spans[i];
    const size_t row = s->row + block * ATTN_ROWS, n = least(ATTN_ROWS, s->row + s->n - row),
                 last = position(s, row + n - 1);
    const float **k_pages = p->ws->page_ptrs + (size_t)worker * 2 * p->ws->page_capacity,
                **v_pages = k_pages + p->ws->page_capacity;
    for (size_t j = 0; j <= last / ZB_PAGE_TOKENS; j++) {
        k_pages[j] = zb_page_rows(&p->m->plan, s->seq->pages[j], r->use, 0, kv_head);
        v_pages[j] = zb_page_rows(&p->m->plan, s->seq->pages[j], r->use, 1, kv_head);
    }
    float greatest[ATTN_ROWS], total[ATTN_ROWS];
    const zb_attn_args a = {.out = p->ws->attn + row * ld + head * d,
                            .q = p->ws->q + row * ld + head * d,
                            .ld_out = ld,
                            .ld_q = ld,
                            .n_rows = n,
                            .greatest = greatest,
                            .total = total,
                            .key1 = last + 1,
                            .first_pos = position(s, row),
                            .k_pages = (const void *const *)k_pages,
                            .v_pages = (const void *const *)v_pages,
                            .page_tokens = ZB_PAGE_TOKENS,
                            .head_dim = d,
                            .scale = 1.0f / sqrtf((float)d / 2.0f)}; /* half the head: the input is twice as wide */
    p->k->attention(&a);
    for (size_t j = 0; j < n; j++)
        for (size_t x = 0; x < d; x++)
            a.out[j * ld + x] /= total[j];
}

static void attention(const pass *p, size_t use)
{
    attn_run r = {.p = p, .use = use};
    size_t blocks = 0;
    each_row(p, store_kv_row, &use);
    for (size_t i = 0; i < p->n_spans; i++)
        blocks += ceil_div(p->ws->spans[i].n, ATTN_ROWS);
    zb_pool_run(p->m->pool, blocks * p->c->n_heads, attention_task, &r);
}

/* t = linear(shared(concat(x, x0))) */
static void shared_block(const pass *p, const zb_layer *row)
{
    const zb_config *c = p->c;
    const zb_block_weights *b = &p->m->weights.blocks[row->shared];
    const zb_use_weights *u = &p->m->weights.uses[row->use];
    zb_workspace *ws = p->ws;
    const size_t h = c->hidden_size, F = c->ffn_size, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim,
                 rank = c->adapter_rank, ld_a = 3 * rank;
    each_row(p, concat_norm_row, b->attn_norm);
    multiply(p,
             (const product[]){{&b->q, ws->wide, 2 * h, ws->q, q, NULL, 0},
                               {&b->k, ws->wide, 2 * h, ws->k, kv, NULL, 0},
                               {&b->v, ws->wide, 2 * h, ws->v, kv, NULL, 0},
                               {&u->q_adapter[0], ws->wide, 2 * h, ws->adapter, ld_a, NULL, 0},
                               {&u->k_adapter[0], ws->wide, 2 * h, ws->adapter + rank, ld_a, NULL, 0},
                               {&u->v_adapter[0], ws->wide, 2 * h, ws->adapter + 2 * rank, ld_a, NULL, 0}},
             6);
    if (c->attn_adapter)
        multiply(p,
                 (const product[]){{&u->q_adapter[1], ws->adapter, ld_a, ws->q, q, NULL, 1},
                                   {&u->k_adapter[1], ws->adapter + rank, ld_a, ws->k, kv, NULL, 1},
                                   {&u->v_adapter[1], ws->adapter + 2 * rank, ld_a, ws->v, kv, NULL, 1}},
                 3);
    attention(p, (size_t)row->use);
    multiply(p, &(product){&b->o, ws->attn, q, ws->t, h, NULL, 0}, 1);
    each_row(p, ffn_norm_row, b->ffn_norm);
    multiply(p,
             (const product[]){{&b->gate_up, ws->normed, h, ws->gate_up, 2 * F, b->gate_up_bias, 0},
                               {&b->gate, ws->normed, h, ws->gate_up, 2 * F, NULL, 0},
                               {&b->up, ws->normed, h, ws->gate_up + F, 2 * F, NULL, 0},
                               {&u->gate_up_adapter[0], ws->normed, h, ws->adapter, ld_a, NULL, 0}},
             4);
    if (c->mlp_adapter)
        multiply(p, &(product){&u->gate_up_adapter[1], ws->adapter, ld_a, ws->gate_up, 2 * F, NULL, 1}, 1);
    each_row(p, glu_row, NULL);
    multiply(p, &(product){&b->down, ws->gate_up, 2 * F, ws->normed, h, b->down_bias, 0}, 1);
    multiply(p, &(product){&u->linear, ws->normed, h, ws->t, h, NULL, 0}, 1);
}

/* ---- logits ---- */

/* How many rows of a span want logits, and where the first of them goes; the last token of the item is its last row. */
static size_t wanted_rows(const pass *p, const zb_span *s, size_t *first_row, float **out)
{
    const zamba_batch_item *item = &p->items[s->item];
    const size_t vocab = p->c->vocab_size;
    if (item->want == ZAMBA_LOGITS_ALL) {
        *first_row = s->row;
        *out = item->logits + s->done * vocab;
        return s->n;
    }
    *first_row = s->row + s->n - 1;
    *out = item->logits;
    return item->want == ZAMBA_LOGITS_LAST && s->done + s->n == item->n_tokens;
}

/* A tile of the vocabulary for every wanted row; the rows were gathered in ws->t. */
static void head_task(void *ctx, size_t task, int worker)
{
    const pass *p = ctx;
    const zb_mat *head = &p->m->weights.head;
    const size_t v0 = task * ZB_HEAD_TILE, n = least(ZB_HEAD_TILE, head->rows - v0), h = p->c->hidden_size;
    float *tile = p->ws->worker + (size_t)worker * p->ws->worker_floats, *out;
    const zb_mat part = {(const char *)head->data + v0 * h * zb_dtype_size(head->dtype), n, h, head->dtype, h};
    size_t rows = 0, first;
    for (size_t i = 0; i < p->n_spans; i++)
        rows += wanted_rows(p, &p->ws->spans[i], &first, &out);
    p->k->matmul(tile, n, p->ws->t, h, rows, &part, 0, n, 0);
    for (size_t i = 0, at = 0; i < p->n_spans; i++) {
        const size_t m = wanted_rows(p, &p->ws->spans[i], &first, &out);
        for (size_t r = 0; r < m; r++, at++)
            memcpy(out + r * head->rows + v0, tile + at * n, n * sizeof *tile);
    }
}

static void logits(const pass *p)
{
    const size_t h = p->c->hidden_size;
    size_t rows = 0, first;
    float *out;
    for (size_t i = 0; i < p->n_spans; i++) {
        const size_t m = wanted_rows(p, &p->ws->spans[i], &first, &out);
        memcpy(p->ws->t + rows * h, p->ws->normed + first * h, m * h * sizeof *out);
        rows += m;
    }
    if (rows > 0)
        zb_pool_run(p->m->pool, ceil_div(p->c->vocab_size, ZB_HEAD_TILE), head_task, (void *)p);
}

/* ---- the walk ---- */

static void report_hidden(const pass *p, int32_t layer, const float *rows)
{
    if (p->options == NULL || p->options->on_hidden == NULL)
        return;
    for (size_t i = 0; i < p->n_spans; i++) {
        const zb_span *s = &p->ws->spans[i];
        p->options->on_hidden(p->options->user, s->item, layer, s->done, s->n, rows + s->row * p->c->hidden_size);
    }
}

static void embed_row(const pass *p, size_t row, const void *arg)
{
    const zb_mat *e = &p->m->weights.embed;
    const zb_span *s = span_of(p, row);
    const int32_t id = p->items[s->item].tokens[s->done + row - s->row];
    const size_t h = p->c->hidden_size;
    (void)arg;
    zb_to_f32(p->ws->x + row * h, (const char *)e->data + (size_t)id * h * zb_dtype_size(e->dtype), e->dtype, h);
    memcpy(p->ws->x0 + row * h, p->ws->x + row * h, h * sizeof(float));
}

static void run_pass(const pass *p)
{
    const zb_plan *plan = &p->m->plan;
    const zb_weights *w = &p->m->weights;
    each_row(p, embed_row, NULL);
    if (p->c->use_rope)
        each_row(p, rope_angles_row, NULL);
    report_hidden(p, -1, p->ws->x);
    for (size_t i = 0; i < p->c->n_layers; i++) {
        const zb_layer *row = &plan->layers[i];
        if (row->shared >= 0)
            shared_block(p, row);
        each_row(p, mixer_norm_row, &(norm_args){w->layers[i].norm, row->shared >= 0});
        mixer(p, row, &w->layers[i]);
        report_hidden(p, (int32_t)i, p->ws->x);
    }
    each_row(p, final_norm_row, w->final_norm);
    report_hidden(p, (int32_t)p->c->n_layers, p->ws->normed);
    logits(p);
}

/* ---- the call ---- */

static zamba_status check_item(const zamba_model *m, const zamba_batch_item *item, size_t index, zamba_error *err)
{
    const zamba_sequence *s = item->sequence;
    if (s == NULL || s->model != m)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: no sequence, or one of another model", index);
    if (item->n_tokens == 0 || item->tokens == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: no tokens, wanted at least one", index);
    if ((int)item->want < 0 || item->want > ZAMBA_LOGITS_ALL)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: want is %d, wanted none, last or all", index, (int)item->want);
    if (item->want != ZAMBA_LOGITS_NONE && item->logits == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: logits asked for, but no place to put them", index);
    if (item->n_tokens > s->n_ctx - s->n)
        return zb_fail(err, ZAMBA_E_CONTEXT, "item %zu: %zu tokens read and %zu more are %zu, the context is %zu",
                       index, s->n, item->n_tokens, s->n + item->n_tokens, s->n_ctx);
    for (size_t i = 0; i < item->n_tokens; i++)
        if (item->tokens[i] < 0 || (size_t)item->tokens[i] >= m->plan.config.vocab_size)
            return zb_fail(err, ZAMBA_E_ARG, "item %zu, token %zu: id %d, wanted 0 to %zu", index, i, item->tokens[i],
                           m->plan.config.vocab_size - 1);
    return ZAMBA_OK;
}

/* Fill ws->spans from where the call stands (item, token within it); returns how many rows that is. */
static size_t fill_spans(pass *p, size_t n_items, size_t *item, size_t *done)
{
    p->rows = p->n_spans = 0;
    while (*item < n_items && p->rows < p->m->n_batch) {
        const size_t left = p->items[*item].n_tokens - *done, n = least(left, p->m->n_batch - p->rows);
        p->ws->spans[p->n_spans++] =
            (zb_span){.seq = p->items[*item].sequence, .item = *item, .row = p->rows, .n = n, .done = *done};
        p->rows += n;
        *done += n;
        if (n == left) {
            *done = 0;
            ++*item;
        }
    }
    return p->rows;
}

zamba_status zamba_forward(zamba_model *m, zamba_batch_item *items, size_t n_items,
                           const zamba_forward_options *options, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    size_t marked = 0, tokens = 0, pages = 1, item = 0, done = 0;
    zb_workspace *ws = NULL;
    if (options != NULL && options->size != sizeof *options)
        return zb_fail(err, ZAMBA_E_ARG, "forward options: size is %zu, wanted %zu (set it to sizeof the struct)",
                       options->size, sizeof *options);
    /* everything that can fail comes first: afterwards the states move, all of them */
    for (size_t i = 0; i < n_items && st == ZAMBA_OK; i++) {
        st = check_item(m, &items[i], i, err);
        if (st == ZAMBA_OK && atomic_exchange(&items[i].sequence->in_batch, 1) != 0)
            st = zb_fail(err, ZAMBA_E_ARG, "item %zu: its sequence is already in a batch", i);
        if (st != ZAMBA_OK)
            break;
        marked++;
        st = zb_sequence_reserve(items[i].sequence, items[i].sequence->n + items[i].n_tokens, err);
        tokens = least(m->n_batch, tokens + items[i].n_tokens);
        if (items[i].sequence->max_pages > pages)
            pages = items[i].sequence->max_pages;
    }
    if (st == ZAMBA_OK && n_items > 0)
        st = zb_workspace_take(m, tokens, least(n_items, m->n_batch), pages, &ws, err);
    if (st == ZAMBA_OK && n_items > 0) {
        pass p = {.m = m, .c = &m->plan.config, .k = m->kernels, .ws = ws, .items = items, .options = options};
        while (fill_spans(&p, n_items, &item, &done) > 0)
            run_pass(&p);
        for (size_t i = 0; i < n_items; i++) {
            zamba_sequence *s = items[i].sequence;
            memcpy(s->tokens + s->n, items[i].tokens, items[i].n_tokens * sizeof *s->tokens);
            s->n += items[i].n_tokens;
        }
        zb_workspace_give(m, ws);
    }
    for (size_t i = 0; i < marked; i++)
        atomic_store(&items[i].sequence->in_batch, 0);
    return st;
}
