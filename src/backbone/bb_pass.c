/* bb_pass.c — the function itself: rows of frames of some timelines through all layers. The one forward pass of the
 * frame model: a step is a pass of one row, a whole sequence one of many, training one that keeps what it computes.
 * Every number is computed in the same order however many rows stand beside it, so a stream gives the bits of the
 * whole sequence. Takes no memory. What a Mamba block does between its products is in bb_block.c. */
#include <math.h>
#include <string.h>

#include "backbone/bb_pass.h"
#include "backbone/bb_options.h"

/* ---- work in pieces ---- */

void zb_bb_each(const zb_bb_pass *p, size_t n, zb_task_fn fn, void *ctx)
{
    if (p->pool && n > 1)
        zb_pool_run(p->pool, n, fn, ctx);
    else
        for (size_t i = 0; i < n; i++)
            fn(ctx, i, 0);
}

#define PIECE ((size_t)16) /* rows of one task */

typedef struct row_job {
    void (*fn)(const void *ctx, size_t row0, size_t row1);
    const void *ctx;
    size_t rows;
} row_job;

static void row_task(void *ctx, size_t task, int worker)
{
    const row_job *j = ctx;
    const size_t end = (task + 1) * PIECE;
    (void)worker;
    j->fn(j->ctx, task * PIECE, end < j->rows ? end : j->rows);
}

void zb_bb_each_row(const zb_bb_pass *p, void (*fn)(const void *ctx, size_t row0, size_t row1), const void *ctx)
{
    row_job j = {fn, ctx, p->rows};
    if (p->pool == NULL || p->rows <= PIECE)
        fn(ctx, 0, p->rows);
    else
        zb_pool_run(p->pool, (p->rows + PIECE - 1) / PIECE, row_task, &j);
}

/* ---- norms ---- */

/* Sums of sixteen lanes, then of the lanes in one fixed order: what a compiler can do in vectors of any width. */
static float lanes_sum(const float *lane)
{
    float s[8];
    for (int i = 0; i < 8; i++)
        s[i] = lane[i] + lane[i + 8];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static float sum_of(const float *x, size_t n)
{
    float lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            lane[j] += x[i + (size_t)j];
    for (int j = 0; i < n; i++, j++)
        lane[j] += x[i];
    return lanes_sum(lane);
}

static float squares_of(const float *x, size_t n, float mean)
{
    float lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            lane[j] += (x[i + (size_t)j] - mean) * (x[i + (size_t)j] - mean);
    for (int j = 0; i < n; i++, j++)
        lane[j] += (x[i] - mean) * (x[i] - mean);
    return lanes_sum(lane);
}

void zb_bb_norm_rows(float *y, const float *x, size_t rows, size_t n, const float *w, const float *b)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        const float mean = sum_of(x, n) / (float)n;
        const float scale = 1.0f / sqrtf(squares_of(x, n, mean) / (float)n + ZB_BB_LN_EPS);
        for (size_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * scale * w[i] + b[i];
    }
}

typedef struct norm_job {
    float *y;
    const float *x, *w, *b;
    size_t n;
} norm_job;

static void norm_piece(const void *ctx, size_t r0, size_t r1)
{
    const norm_job *j = ctx;
    zb_bb_norm_rows(j->y + r0 * j->n, j->x + r0 * j->n, r1 - r0, j->n, j->w, j->b);
}

void zb_bb_norm_pass(const zb_bb_pass *p, const zb_bb_norm *norm, float *y, const float *x)
{
    const float *params = p->b->params;
    const norm_job j = {y, x, params + norm->w, params + norm->b, p->b->plan.H};
    zb_bb_each_row(p, norm_piece, &j);
}

/* ---- products ---- */

#define SPLIT ((size_t)ZB_PANEL) /* rows of the matrix of one task */

typedef struct product_job {
    const zb_kernels *k;
    const zb_panels *panels;
    const zb_mat *w; /* NULL: panels */
    const float *bias;
    float *y;
    const float *x;
    const zb_q8_rows *q; /* NULL: w is f32 */
    size_t n_out, n_in, rows;
} product_job;

static void product_part(const product_job *j, size_t row0, size_t row1)
{
    if (j->w == NULL) {
        j->k->panels(j->y, j->n_out, j->x, j->n_in, j->rows, j->panels, j->bias, row0, row1);
        return;
    }
    for (size_t r = 0; j->bias && r < j->rows; r++)
        memcpy(j->y + r * j->n_out + row0, j->bias + row0, (row1 - row0) * sizeof(float));
    if (j->q)
        j->k->matmul_q8(j->y, j->n_out, j->q, j->rows, j->w, row0, row1, j->bias != NULL);
    else
        j->k->matmul(j->y, j->n_out, j->x, j->n_in, j->rows, j->w, row0, row1, j->bias != NULL);
}

static void product_task(void *ctx, size_t task, int worker)
{
    const product_job *j = ctx;
    const size_t end = (task + 1) * SPLIT;
    (void)worker;
    product_part(j, task * SPLIT, end < j->n_out ? end : j->n_out);
}

static size_t widest_input(const zb_bb_plan *p)
{
    size_t n = p->E;
    n = n < p->I ? p->I : n;
    n = n < p->A ? p->A : n;
    n = n < p->ffn ? p->ffn : n;
    return (n + 63) / 64 * 64;
}

/* Scratch: a padded row of inputs; rows in bytes, their scales and sums; scores of each head. */
size_t zb_bb_scratch_floats(const zb_bb_plan *p, size_t rows)
{
    const size_t wide = widest_input(p);
    size_t n = (p->heads * p->W + 15) / 16 * 16;
    n += wide + rows * (wide / 4) + (rows * (wide / ZB_Q8_RUN) + 15) / 16 * 16 + (rows * (wide / 32) + 15) / 16 * 16;
    return n;
}

typedef struct q8_places {
    float *row;
    int8_t *q;
    float *scale;
    int16_t *sum;
} q8_places;

static q8_places q8_scratch(const zb_bb_pass *p)
{
    const size_t wide = widest_input(&p->b->plan);
    float *row = p->scratch + (p->b->plan.heads * p->b->plan.W + 15) / 16 * 16, *q = row + wide;
    float *scale = q + p->rows * (wide / 4);
    float *sum = scale + (p->rows * (wide / ZB_Q8_RUN) + 15) / 16 * 16;
    return (q8_places){row, (int8_t *)q, scale, (int16_t *)(void *)sum};
}

/* x in bytes, columns filled up with zeros to whole blocks of the matrix. */
static zb_q8_rows to_bytes(const zb_bb_pass *p, const float *x, size_t rows, size_t cols, size_t padded)
{
    const q8_places s = q8_scratch(p);
    const size_t ld = (padded + ZB_Q8_RUN - 1) / ZB_Q8_RUN * ZB_Q8_RUN;
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * cols;
        if (padded > cols) {
            memcpy(s.row, from, cols * sizeof(float));
            memset(s.row + cols, 0, (padded - cols) * sizeof(float));
            from = s.row;
        }
        p->b->k->to_q8(s.q + r * ld, s.scale + r * (ld / ZB_Q8_RUN), s.sum + r * (ld / 16), from, padded);
    }
    return (zb_q8_rows){s.q, s.scale, s.sum, ld};
}

void zb_bb_product(const zb_bb_pass *p, const zb_bb_linear *l, float *y, const float *x, size_t rows, int with_bias)
{
    const zamba_backbone *b = p->b;
    const zb_bb_packed *packed = &b->packed[l->index];
    const zb_mat plain = {.data = b->params + l->w, .rows = l->out, .cols = l->in, .ld = l->in, .dtype = ZB_F32};
    product_job j = {.k = b->k,
                     .panels = &packed->panels,
                     .bias = with_bias && l->b != ZB_BB_NONE ? b->params + l->b : NULL,
                     .y = y,
                     .x = x,
                     .n_out = l->out,
                     .n_in = l->in,
                     .rows = rows};
    zb_q8_rows q;
    if (p->exact) {
        j.w = &plain;
    } else if (packed->mat.data) {
        q = to_bytes(p, x, rows, l->in, packed->mat.cols);
        j.q = &q;
        j.w = &packed->mat;
    }
    if (p->pool && l->out > SPLIT && rows * l->in * l->out > ((size_t)1 << 16))
        zb_pool_run(p->pool, (l->out + SPLIT - 1) / SPLIT, product_task, &j);
    else
        product_part(&j, 0, l->out);
}

/* x += branch, or of what dropout leaves of it. */
void zb_bb_residual(const zb_bb_pass *p, const float *branch, const float *drop)
{
    const size_t n = p->rows * p->b->plan.H;
    if (drop == NULL)
        p->b->k->add(p->x, branch, n);
    else
        for (size_t i = 0; i < n; i++)
            p->x[i] += branch[i] * drop[i];
}

static void keep(float *to, const zb_bb_pass *p)
{
    if (to)
        memcpy(to, p->x, p->rows * p->b->plan.H * sizeof(float));
}

/* ---- frames ---- */

int zb_bb_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        bad |= (uint32_t)((u & 0x7F800000u) == 0x7F800000u);
    }
    return !bad;
}

zamba_status zb_bb_frames_check(const zamba_backbone *b, const float *frames, size_t rows, const char *what,
                                zamba_error *err)
{
    const zb_bb_plan *p = &b->plan;
    if (b->run.non_finite == ZAMBA_BACKBONE_NON_FINITE_REFUSE && !zb_bb_finite(frames, rows * p->F)) {
        size_t i = 0;
        while (isfinite(frames[i]))
            i++;
        return zb_fail(err, ZAMBA_E_ARG, "%s: number %zu of frame %zu is %s (set non_finite to let such frames pass)",
                       what, i % p->F, i / p->F, isnan(frames[i]) ? "not a number" : "infinite");
    }
    for (size_t r = 0; r < rows && p->dense < p->F; r++) {
        const float *id = frames + r * p->F + p->dense;
        for (size_t e = 0; e < p->o.n_embeddings; e++)
            for (int32_t u = 0; u < p->o.embeddings[e].uses; u++, id++)
                if (!(*id >= 0 && *id < (float)p->o.embeddings[e].ids && *id == (float)(int32_t)*id))
                    return zb_fail(err, ZAMBA_E_ARG, "%s: %g in frame %zu is no id of embedding %s (0 to %d)", what,
                                   (double)*id, r, p->o.embeddings[e].name, p->o.embeddings[e].ids - 1);
    }
    return ZAMBA_OK;
}

static void replace_ids(const zb_bb_pass *p, const float *frames)
{
    const zb_bb_plan *plan = &p->b->plan;
    for (size_t r = 0; r < p->rows; r++) {
        const float *from = frames + r * plan->F, *id = from + plan->dense;
        float *to = p->embedded + r * plan->E;
        memcpy(to, from, plan->dense * sizeof(float));
        to += plan->dense;
        for (size_t e = 0; e < plan->o.n_embeddings; e++) {
            const size_t width = (size_t)plan->o.embeddings[e].width;
            for (int32_t u = 0; u < plan->o.embeddings[e].uses; u++, to += width)
                memcpy(to, p->b->params + plan->embeddings[e] + (size_t)*id++ * width, width * sizeof(float));
        }
    }
}

/* In double: a frame's number reaches 216,000 an hour, and a sine in f32 would lose it. */
static void add_positions(const zb_bb_pass *p)
{
    const size_t H = p->b->plan.H;
    for (size_t s = 0; s < p->n_segments; s++)
        for (size_t i = 0; i < p->segments[s].n; i++) {
            const double at = (double)(p->segments[s].frame + i);
            float *x = p->x + (p->segments[s].row0 + i) * H;
            for (size_t d = 0; d < H; d++)
                x[d] += (float)sin(at / (1.0 + 0.01 * (double)d));
        }
}

void zb_bb_pass_embed(const zb_bb_pass *p, const float *frames)
{
    const zb_bb_plan *plan = &p->b->plan;
    const float *in = frames;
    if (plan->o.n_embeddings > 0) {
        replace_ids(p, frames);
        in = p->embedded;
    }
    if (plan->input_proj.w != ZB_BB_NONE)
        zb_bb_product(p, &plan->input_proj, p->x, in, p->rows, 1);
    else
        memcpy(p->x, in, p->rows * plan->H * sizeof(float));
    if (plan->o.pos_encoding == ZAMBA_BACKBONE_POS_SIN)
        add_positions(p);
}

/* ---- attention ---- */

/* q and k of each head: minus their mean, over sqrt(variance + eps). */
static void qk_piece(const void *ctx, size_t r0, size_t r1)
{
    const zb_bb_pass *p = ((const zb_bb_attn_job *)ctx)->p;
    const zb_bb_acts *a = ((const zb_bb_attn_job *)ctx)->acts;
    const zb_bb_plan *plan = &p->b->plan;
    const size_t d = plan->head_dim;
    for (size_t r = r0; r < r1; r++) {
        const float *x = a->qkv + r * 3 * plan->A;
        float *y = a->qn + r * 3 * plan->A;
        memcpy(y, x, 3 * plan->A * sizeof(float));
        for (size_t h = 0; plan->o.qk_norm && h < 2 * plan->heads; h++) {
            const float mean = sum_of(x + h * d, d) / (float)d;
            const float scale = 1.0f / sqrtf(squares_of(x + h * d, d, mean) / (float)d + ZB_BB_QK_EPS);
            for (size_t i = 0; i < d; i++)
                y[h * d + i] = (x[h * d + i] - mean) * scale;
        }
    }
}

/* Keys of a run of the ring's rows: their scores; their values by weights. */
static void scores_of(const zb_bb_pass *p, float *scores, const float *q, const float *keys, size_t n)
{
    const zb_bb_plan *plan = &p->b->plan;
    const zb_mat w = {.data = keys, .rows = n, .cols = plan->head_dim, .ld = plan->A, .dtype = ZB_F32};
    p->b->k->matmul(scores, n, q, plan->head_dim, 1, &w, 0, n, 0);
}

static void sum_values(const zb_bb_pass *p, float *out, const float *weights, const float *values, size_t n, int more)
{
    const zb_bb_plan *plan = &p->b->plan;
    p->b->k->outer(out, plan->head_dim, 1, plan->head_dim, weights, n, 1, values, plan->A, n, more);
}

/* scores become exp(scale s - max); returns one over their sum. */
static float softmax_weights(float *s, size_t n, float scale)
{
    float most = s[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        most = s[i] > most ? s[i] : most;
    for (size_t i = 0; i < n; i++) {
        s[i] = expf((s[i] - most) * scale);
        sum += s[i];
    }
    return 1.0f / sum;
}

/* One head of one row, its keys and values already in the rings: from the oldest frame in the window to frame `at`,
 * which is one or two runs of the ring. The split is by frame numbers alone, so it is the same in a stream and in a
 * whole sequence. */
static void attend(const zb_bb_pass *p, float *out, const float *q, const float *keys, const float *values, uint64_t at,
                   float *scores)
{
    const zb_bb_plan *plan = &p->b->plan;
    const size_t W = plan->W, A = plan->A, slot = (size_t)(at % W);
    const size_t older = at >= W ? W - 1 - slot : 0, newer = slot + 1;
    if (older > 0)
        scores_of(p, scores, q, keys + newer * A, older);
    scores_of(p, scores + older, q, keys, newer);
    const float by = softmax_weights(scores, older + newer, 1.0f / sqrtf((float)plan->head_dim));
    if (older > 0)
        sum_values(p, out, scores, values + newer * A, older, 0);
    sum_values(p, out, scores + older, values, newer, older > 0);
    for (size_t i = 0; i < plan->head_dim; i++)
        out[i] *= by;
}

/* A head through all rows of all timelines, in their order. */
static void head_task(void *ctx, size_t head, int worker)
{
    const zb_bb_attn_job *j = ctx;
    const zb_bb_pass *p = j->p;
    const zb_bb_plan *plan = &p->b->plan;
    const size_t A = plan->A, at = head * plan->head_dim, bytes = plan->head_dim * sizeof(float);
    (void)worker;
    for (size_t s = 0; s < p->n_segments; s++) {
        const zb_bb_segment *g = &p->segments[s];
        float *keys = g->state + j->layer->keys + at, *values = g->state + j->layer->values + at;
        for (size_t i = 0; i < g->n; i++) {
            const float *q = j->acts->qn + (g->row0 + i) * 3 * A + at;
            const size_t slot = (size_t)((g->frame + i) % plan->W);
            memcpy(keys + slot * A, q + A, bytes);
            memcpy(values + slot * A, q + 2 * A, bytes);
            attend(p, j->acts->attn + (g->row0 + i) * A + at, q, keys, values, g->frame + i,
                   p->scratch + head * plan->W);
        }
    }
}

void zb_bb_pass_attention(const zb_bb_pass *p, size_t layer)
{
    const zb_bb_plan *plan = &p->b->plan;
    const zb_bb_layer *l = &plan->layers[layer];
    const zb_bb_acts *a = &p->acts[layer];
    zb_bb_attn_job job = {p, l, a};
    const float *in = a->anormed;
    keep(a->ax, p);
    zb_bb_norm_pass(p, &l->attn_norm, a->anormed, p->x);
    if (plan->proj_in.w != ZB_BB_NONE) {
        zb_bb_product(p, &plan->proj_in, a->ain, a->anormed, p->rows, 1);
        in = a->ain;
    }
    zb_bb_product(p, &plan->qkv, a->qkv, in, p->rows, 1);
    zb_bb_each_row(p, qk_piece, &job);
    zb_bb_each(p, plan->heads, head_task, &job);
    const float *branch = a->attn;
    if (plan->proj_out.w != ZB_BB_NONE) {
        zb_bb_product(p, &plan->proj_out, a->amixed, a->attn, p->rows, 1);
        branch = a->amixed;
    }
    zb_bb_residual(p, branch, a->adrop);
}

/* ---- feed-forward ---- */

typedef struct gelu_job {
    const zamba_backbone *b;
    const zb_bb_acts *acts;
} gelu_job;

static void gelu_piece(const void *ctx, size_t r0, size_t r1)
{
    const gelu_job *j = ctx;
    const size_t n = j->b->plan.ffn;
    for (size_t r = r0; r < r1; r++)
        j->b->k->glu(j->acts->f2 + r * n, j->acts->f1 + r * n, j->b->ones, n, ZB_ACT_GELU);
}

void zb_bb_pass_ffn(const zb_bb_pass *p, size_t layer)
{
    const zb_bb_layer *l = &p->b->plan.layers[layer];
    const zb_bb_acts *a = &p->acts[layer];
    const gelu_job job = {p->b, a};
    keep(a->fx, p);
    zb_bb_norm_pass(p, &l->ffn_norm, a->fnormed, p->x);
    zb_bb_product(p, &l->ffn1, a->f1, a->fnormed, p->rows, 1);
    zb_bb_each_row(p, gelu_piece, &job);
    zb_bb_product(p, &l->ffn2, a->fmixed, a->f2, p->rows, 1);
    zb_bb_residual(p, a->fmixed, a->fdrop);
}

/* ---- all of it ---- */

void zb_bb_pass_run(const zb_bb_pass *p, const float *frames, float *out)
{
    const zb_bb_plan *plan = &p->b->plan;
    zb_bb_pass_embed(p, frames);
    for (size_t i = 0; i < (size_t)plan->o.num_layers; i++) {
        const zb_bb_layer *l = &plan->layers[i];
        if (l->kind != ZAMBA_BACKBONE_LAYER_ATTENTION)
            zb_bb_pass_mamba(p, i);
        if (l->kind != ZAMBA_BACKBONE_LAYER_MAMBA)
            zb_bb_pass_attention(p, i);
        if (l->ffn1.w != ZB_BB_NONE)
            zb_bb_pass_ffn(p, i);
    }
    zb_bb_norm_pass(p, &plan->final_norm, out, p->x);
}

static float *place(float *base, size_t *at, size_t n)
{
    float *p = base ? base + *at : NULL;
    *at += (n + 15) / 16 * 16;
    return p;
}

size_t zb_bb_acts_place(zb_bb_acts *a, const zb_bb_plan *p, size_t rows, int keep_x, float *base)
{
    const int mamba = p->o.ffn == ZAMBA_BACKBONE_FFN_SHARED || p->o.attention_every > 1;
    const int attention = p->o.attention_every <= p->o.num_layers;
    const int ffn = p->o.ffn == ZAMBA_BACKBONE_FFN_EVERY || attention;
    const size_t H = rows * p->H, I = rows * p->I, A = rows * p->A;
    size_t n = 0;
    *a = (zb_bb_acts){0};
    if (keep_x)
        a->x = place(base, &n, H);
    a->normed = place(base, &n, H);
    a->mixed = place(base, &n, H);
    if (mamba) {
        if (p->o.block != ZAMBA_BACKBONE_MAMBA)
            a->first = place(base, &n, H);
        a->uz = place(base, &n, 2 * I);
        if (p->gated) {
            a->mean = place(base, &n, I);
            a->conv = place(base, &n, I);
        }
        a->u = place(base, &n, I);
        a->bc = place(base, &n, rows * 2 * p->N);
        if (!p->full_dt)
            a->low = place(base, &n, rows * p->R);
        a->raw = place(base, &n, I);
        a->dt = place(base, &n, I);
        a->y = place(base, &n, I);
    }
    if (attention) {
        if (keep_x)
            a->ax = place(base, &n, H);
        a->anormed = place(base, &n, H);
        if (p->proj_in.w != ZB_BB_NONE)
            a->ain = place(base, &n, A);
        a->qkv = place(base, &n, 3 * A);
        a->qn = place(base, &n, 3 * A);
        a->attn = place(base, &n, A);
        a->amixed = place(base, &n, H);
    }
    if (ffn) {
        if (keep_x)
            a->fx = place(base, &n, H);
        a->fnormed = place(base, &n, H);
        a->f1 = place(base, &n, rows * p->ffn);
        a->f2 = place(base, &n, rows * p->ffn);
        a->fmixed = place(base, &n, H);
    }
    return n;
}
