/* back_layers.c — the way back through products, norms, attention and the feed-forward, one sequence on one thread. The
 * Mamba block is in back_recurrence.c. Attention is made again in blocks of rows from the queries, keys and values that
 * were kept, so that nothing of the size of rows x rows is. */
#include <math.h>
#include <string.h>

#include "backbone/back.h"

#define BLOCK ((size_t)64) /* rows of attention at once */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Floats that attention needs for n rows: gradients by its output, scores and gradients by them of a block. */
static size_t attention_room(const zb_bb_plan *p, size_t n)
{
    return n * p->A + 2 * BLOCK * smaller(n, BLOCK + p->W);
}

size_t zb_bb_room_floats(const zb_bb_plan *p, size_t n)
{
    const size_t attention = attention_room(p, n), ffn = n * p->ffn + p->ffn,
                 block = 4 * n * p->I + 2 * p->I + zb_scan_backward_scratch(n, p->N, p->I < 64 ? p->I : 64) + 64;
    size_t most = attention > ffn ? attention : ffn;
    most = most > block ? most : block;
    return (most + 15) / 16 * 16;
}

/* ---- pieces ---- */

void zb_bb_back_product(const zb_bb_run *r, const zb_bb_linear *l, float *dx, const float *dy, size_t n, int add)
{
    r->k->outer(dx, l->in, n, l->in, dy, l->out, 1, r->b->params + l->w, l->in, l->out, add);
}

typedef struct stats {
    double mean, scale;
} stats;

static stats stats_of(const float *x, size_t n, double eps)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    return (stats){mean, 1 / sqrt(squares / (double)n + eps)};
}

/* With h = (x - mean) scale and g the gradient by h: dx = scale (g - mean(g) - h mean(g h)). */
void zb_bb_back_norm(const zb_bb_run *r, const zb_bb_norm *norm, float *dx, const float *dy, const float *x, size_t n)
{
    const size_t H = r->b->plan.H;
    const float *w = r->b->params + norm->w;
    for (size_t i = 0; i < n; i++, dx += H, dy += H, x += H) {
        const stats s = stats_of(x, H, (double)ZB_BB_LN_EPS);
        double sum = 0, along = 0;
        for (size_t c = 0; c < H; c++) {
            const double g = (double)dy[c] * (double)w[c];
            sum += g;
            along += g * ((double)x[c] - s.mean);
        }
        const double even = sum / (double)H, slope = along * s.scale * s.scale / (double)H;
        for (size_t c = 0; c < H; c++)
            dx[c] += (float)(s.scale * ((double)dy[c] * (double)w[c] - even - ((double)x[c] - s.mean) * slope));
    }
}

void zb_bb_back_branch(const zb_bb_run *r, float *d, const float *drop)
{
    const size_t n = r->n * r->b->plan.H;
    if (drop == NULL)
        memcpy(d, r->dx, n * sizeof *d);
    else
        for (size_t i = 0; i < n; i++)
            d[i] = r->dx[i] * drop[i];
}

/* ---- feed-forward ---- */

void zb_bb_back_ffn(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g)
{
    const size_t ffn = r->b->plan.ffn;
    float *df2 = r->room, *unused = df2 + r->n * ffn;
    zb_bb_back_branch(r, g->dfmixed, g->fdrop);
    zb_bb_back_product(r, &l->ffn2, df2, g->dfmixed, r->n, 0);
    for (size_t i = 0; i < r->n; i++)
        r->k->glu_backward(g->df1 + i * ffn, unused, df2 + i * ffn, a->f1 + i * ffn, r->b->ones, ffn, ZB_ACT_GELU);
    zb_bb_back_product(r, &l->ffn1, g->dfnormed, g->df1, r->n, 0);
    zb_bb_back_norm(r, &l->ffn_norm, r->dx, g->dfnormed, a->fx, r->n);
}

/* ---- attention ---- */

/* Rows [r0, r1) of one head, which see keys from k0 on. */
typedef struct head_block {
    size_t r0, r1, k0;
    float *p, *ds; /* [r1 - r0, r1 - k0]: weights; gradients by them, then by the scores */
    size_t ld;
} head_block;

/* Weights of every row over the keys of the block; 0 outside of its window. */
static void softmax_block(const head_block *h, size_t window, float scale)
{
    for (size_t r = h->r0; r < h->r1; r++) {
        float *s = h->p + (r - h->r0) * h->ld, most = -INFINITY;
        const size_t from = (r + 1 > window ? r + 1 - window : 0) - h->k0, to = r + 1 - h->k0;
        double sum = 0;
        for (size_t j = from; j < to; j++)
            most = s[j] > most ? s[j] : most;
        for (size_t j = from; j < to; j++) {
            s[j] = expf((s[j] - most) * scale);
            sum += (double)s[j];
        }
        for (size_t j = from; j < to; j++)
            s[j] = (float)((double)s[j] / sum);
        memset(s, 0, from * sizeof *s);
        memset(s + to, 0, (h->ld - to) * sizeof *s);
    }
}

/* ds = scale p (ds - sum of p ds along the row). */
static void softmax_back(const head_block *h, float scale)
{
    for (size_t r = 0; r < h->r1 - h->r0; r++) {
        const float *p = h->p + r * h->ld;
        float *ds = h->ds + r * h->ld;
        double mean = 0;
        for (size_t j = 0; j < h->ld; j++)
            mean += (double)p[j] * (double)ds[j];
        for (size_t j = 0; j < h->ld; j++)
            ds[j] = scale * p[j] * (ds[j] - (float)mean);
    }
}

static void back_head(const zb_bb_run *r, const zb_bb_acts *a, const zb_bb_back *g, const float *dattn, float *room,
                      size_t head)
{
    const zb_bb_plan *p = &r->b->plan;
    const size_t d = p->head_dim, A = p->A, ld = 3 * A, at = head * d;
    const float scale = 1.0f / sqrtf((float)d);
    for (size_t r0 = 0; r0 < r->n; r0 += BLOCK) {
        const size_t r1 = smaller(r0 + BLOCK, r->n), k0 = r0 + 1 > p->W ? r0 + 1 - p->W : 0, n = r1 - r0,
                     keys = r1 - k0;
        const head_block h = {r0, r1, k0, room, room + n * keys, keys};
        const float *q = a->qn + r0 * ld + at, *k = a->qn + k0 * ld + A + at, *v = k + A, *dout = dattn + r0 * A + at;
        float *dq = g->dqkv + r0 * ld + at, *dk = g->dqkv + k0 * ld + A + at, *dv = dk + A;
        const zb_mat k_mat = {.data = k, .rows = keys, .cols = d, .ld = ld, .dtype = ZB_F32};
        const zb_mat v_mat = {.data = v, .rows = keys, .cols = d, .ld = ld, .dtype = ZB_F32};
        r->k->matmul(h.p, keys, q, ld, n, &k_mat, 0, keys, 0);
        softmax_block(&h, p->W, scale);
        r->k->matmul(h.ds, keys, dout, A, n, &v_mat, 0, keys, 0);
        softmax_back(&h, scale);
        r->k->outer(dq, ld, n, d, h.ds, keys, 1, k, ld, keys, 0);
        r->k->outer(dk, ld, keys, d, h.ds, 1, keys, q, ld, n, 1);
        r->k->outer(dv, ld, keys, d, h.p, 1, keys, dout, A, n, 1);
    }
}

/* Through the norms of queries and keys, in place; x: they before. */
static void back_qk(const zb_bb_run *r, const zb_bb_acts *a, float *dqkv)
{
    const zb_bb_plan *p = &r->b->plan;
    const size_t d = p->head_dim;
    for (size_t i = 0; i < r->n; i++)
        for (size_t h = 0; h < 2 * p->heads; h++) {
            const float *x = a->qkv + i * 3 * p->A + h * d;
            float *g = dqkv + i * 3 * p->A + h * d;
            const stats s = stats_of(x, d, (double)ZB_BB_QK_EPS);
            double sum = 0, along = 0;
            for (size_t c = 0; c < d; c++) {
                sum += (double)g[c];
                along += (double)g[c] * ((double)x[c] - s.mean);
            }
            const double even = sum / (double)d, slope = along * s.scale * s.scale / (double)d;
            for (size_t c = 0; c < d; c++)
                g[c] = (float)(s.scale * ((double)g[c] - even - ((double)x[c] - s.mean) * slope));
        }
}

void zb_bb_back_attention(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g)
{
    const zb_bb_plan *p = &r->b->plan;
    float *room = r->room + r->n * p->A;
    const float *dattn = g->damixed;
    zb_bb_back_branch(r, g->damixed, g->adrop);
    if (p->proj_out.w != ZB_BB_NONE) {
        zb_bb_back_product(r, &p->proj_out, r->room, g->damixed, r->n, 0);
        dattn = r->room;
    }
    for (size_t i = 0; i < r->n; i++)
        memset(g->dqkv + i * 3 * p->A + p->A, 0, 2 * p->A * sizeof(float));
    for (size_t h = 0; h < p->heads; h++)
        back_head(r, a, g, dattn, room, h);
    if (p->o.qk_norm)
        back_qk(r, a, g->dqkv);
    if (p->proj_in.w != ZB_BB_NONE) {
        zb_bb_back_product(r, &p->qkv, g->dain, g->dqkv, r->n, 0);
        zb_bb_back_product(r, &p->proj_in, g->danormed, g->dain, r->n, 0);
    } else {
        zb_bb_back_product(r, &p->qkv, g->danormed, g->dqkv, r->n, 0);
    }
    zb_bb_back_norm(r, &l->attn_norm, r->dx, g->danormed, a->ax, r->n);
}
