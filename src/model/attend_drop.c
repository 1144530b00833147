/* attend_drop.c — attention of training that leaves out some of its weights: softmax first, then what is left of it
 * times v, as transformers has it. Forward and back with the weights of a block of rows in memory, on plain rows of q,
 * k and v; attend.c and the kernels do without that, and without dropout. */
#include <math.h>
#include <string.h>

#include "model/tape_slots.h"

#define BLOCK ((size_t)64) /* query rows */

size_t zb_attend_dropping_scratch(size_t rows)
{
    return 2 * BLOCK * zb_row_length(rows);
}

/* Rows [row0, row0 + n) of a softmax over their keys, [n, ld]; zeros behind them. */
static void weights_of_rows(const zb_kernels *k, float *w, size_t ld, const zb_attn_backward *a, size_t row0, size_t n)
{
    const size_t keys = row0 + n;
    const zb_mat m = {.data = a->k, .rows = keys, .cols = a->head_dim, .dtype = ZB_F32, .ld = a->ld_kv};
    k->matmul(w, ld, a->q + row0 * a->ld_q, a->ld_q, n, &m, 0, keys, 0);
    for (size_t i = 0; i < n; i++) {
        float *row = w + i * ld, greatest = -INFINITY, total = 0;
        const size_t seen = row0 + i + 1;
        for (size_t j = 0; j < seen; j++)
            greatest = row[j] > greatest ? row[j] : greatest;
        for (size_t j = 0; j < seen; j++) {
            row[j] = expf(a->scale * (row[j] - greatest));
            total += row[j];
        }
        k->scale(row, row, 1.0f / total, seen);
        memset(row + seen, 0, (keys - seen) * sizeof *row);
    }
}

/* What is left of n rows of numbers by key. */
static void drop_keys(const zb_attn_drop *d, float *x, size_t ld, size_t row0, size_t n)
{
    for (size_t i = 0; i < n; i++)
        zb_drop(x + i * ld, x + i * ld, 0, row0 + i + 1,
                zb_drop_row(d->seed, ZB_DROP_ATTENTION, d->index, d->tokens[row0 + i]), d->share);
}

/* out of the rows [row0, row0 + n). */
static void forward_rows(const zb_kernels *k, float *out, size_t ld_out, const zb_attn_backward *a,
                         const zb_attn_drop *d, size_t row0, size_t n)
{
    const size_t ld = zb_row_length(a->n);
    weights_of_rows(k, a->scratch, ld, a, row0, n);
    drop_keys(d, a->scratch, ld, row0, n);
    k->outer(out + row0 * ld_out, ld_out, n, a->head_dim, a->scratch, ld, 1, a->v, a->ld_kv, row0 + n, 0);
}

/* With w the softmax and o what is left of it:  out = o v;  dv += o^T dout;  dw = what is left of dout v^T;
 * ds = scale w (dw - sum of w dw);  dq = ds k;  dk += ds^T q. */
static void backward_rows(const zb_kernels *k, const zb_attn_backward *a, const zb_attn_drop *d, size_t row0, size_t n)
{
    const size_t ld = zb_row_length(a->n), keys = row0 + n, dim = a->head_dim;
    float *w = a->scratch, *dw = w + BLOCK * ld;
    const float *q = a->q + row0 * a->ld_q, *dout = a->dout + row0 * a->ld_dout;
    const zb_mat v = {.data = a->v, .rows = keys, .cols = dim, .dtype = ZB_F32, .ld = a->ld_kv};
    weights_of_rows(k, w, ld, a, row0, n);
    k->matmul(dw, ld, dout, a->ld_dout, n, &v, 0, keys, 0);
    drop_keys(d, dw, ld, row0, n);
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t j = 0; j <= row0 + i; j++)
            sum += w[i * ld + j] * dw[i * ld + j];
        for (size_t j = 0; j < keys; j++) /* behind the keys that the row sees w is 0 */
            dw[i * ld + j] = j > row0 + i ? 0.0f : a->scale * w[i * ld + j] * (dw[i * ld + j] - sum);
    }
    k->outer(a->dq + row0 * a->ld_dq, a->ld_dq, n, dim, dw, ld, 1, a->k, a->ld_kv, keys, 0);
    k->outer(a->dk, a->ld_dkv, keys, dim, dw, 1, ld, q, a->ld_q, n, 1);
    drop_keys(d, w, ld, row0, n);
    k->outer(a->dv, a->ld_dkv, keys, dim, w, 1, ld, dout, a->ld_dout, n, 1);
}

void zb_attend_dropping_back(const zb_kernels *k, const zb_attn_backward *a, const zb_attn_drop *d)
{
    for (size_t row0 = 0; row0 < a->n; row0 += BLOCK)
        backward_rows(k, a, d, row0, least(BLOCK, a->n - row0));
}

zb_attn_drop zb_attn_drop_of(const zb_tape *t, const zb_span *s, size_t use, size_t head)
{
    return (zb_attn_drop){.share = t->o.attention_dropout,
                          .seed = t->drop_seed,
                          .index = use * t->m->plan.config.n_heads + head,
                          .tokens = t->tokens + s->row};
}

/* ---- forward ---- */

typedef struct attn_run {
    const pass *p;
    size_t use;
} attn_run;

/* A head of one run; blocks of rows one after another. */
static void forward_task(void *ctx, size_t task, int worker)
{
    const attn_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const zb_span *s = &p->ws->spans[task / c->n_heads];
    const size_t d = c->head_dim, head = task % c->n_heads, kv_head = head / (c->n_heads / c->n_kv_heads),
                 ld_q = zb_row_length(c->n_heads * d), ld_kv = zb_row_length(c->n_kv_heads * d);
    const zb_attn_drop drop = zb_attn_drop_of(p->tape, s, r->use, head);
    const zb_attn_backward a = {.q = p->ws->q + s->row * ld_q + head * d,
                                .k = p->ws->k + s->row * ld_kv + kv_head * d,
                                .v = p->ws->v + s->row * ld_kv + kv_head * d,
                                .ld_q = ld_q,
                                .ld_kv = ld_kv,
                                .n = s->n,
                                .head_dim = d,
                                .scale = 1.0f / sqrtf((float)d / 2.0f),
                                .scratch = zb_tape_worker(p->tape, worker)};
    for (size_t row0 = 0; row0 < s->n; row0 += BLOCK)
        forward_rows(p->k, p->ws->attn + s->row * ld_q + head * d, ld_q, &a, &drop, row0, least(BLOCK, s->n - row0));
}

void zb_attend_dropping(const pass *p, size_t use)
{
    attn_run r = {p, use};
    zb_pool_run_on(p->m->pool, p->n_threads, p->n_spans * p->c->n_heads, forward_task, &r);
}
