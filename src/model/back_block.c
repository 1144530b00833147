/* back_block.c — one use of a shared block backwards: linear, feed-forward, attention with rope, q, k and v with their
 * adapters, the norm of [x ; x0]. Gradients of what uses share add up over the uses.
 *
 * The forward pass makes half of q, k and v once for all uses (shared_block.c); the function is the same, and the way
 * back is that of the plain product with the normalised [x ; x0]. */
#include <math.h>
#include <string.h>

#include "model/tape_slots.h"

typedef struct back_use {
    zb_tape *t;
    const zb_slot *s;
    const zb_block_weights *b;
    const zb_use_weights *u;
    int32_t block, use, layer;
    size_t q, kv, ld_q, ld_kv, ld_low, step;
} back_use;

static float *of_block(const back_use *r, zb_role role)
{
    return zb_grad(r->t, role, -1, r->block, -1);
}

static float *of_use(const back_use *r, zb_role role)
{
    return zb_grad(r->t, role, -1, r->block, r->use);
}

/* ---- feed-forward ---- */

static void glu_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_use *r = arg;
    const size_t F = t->pass.c->ffn_size, ld = zb_row_length(2 * F);
    (void)partial;
    for (size_t i = row0; i < row1; i++)
        t->pass.k->glu_backward(t->dgate_up + i * ld, t->dgate_up + i * ld + F, t->dact + i * zb_row_length(F),
                                r->s->gate_up + i * ld, r->s->gate_up + i * ld + F, F, t->pass.c->act);
}

static void ffn_norm_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_use *r = arg;
    const size_t h = t->pass.c->hidden_size;
    for (size_t i = row0; i < row1; i++)
        t->pass.k->rmsnorm_backward(t->do_ + i * h, partial, t->dffn_in + i * h, r->s->o + i * h, r->b->ffn_norm, h,
                                    t->pass.c->norm_eps);
}

static void drop_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_use *r = arg;
    const size_t h = t->pass.c->hidden_size;
    (void)partial;
    for (size_t i = row0; i < row1; i++)
        zb_drop_hidden(t, t->dt_ + i * h, t->dt_ + i * h, ZB_DROP_BLOCK, (size_t)r->use, i, 0, h);
}

/* dt_ -> do_ */
static void feed_forward(const back_use *r)
{
    zb_tape *t = r->t;
    const zb_config *c = t->pass.c;
    const size_t h = c->hidden_size, F = c->ffn_size, rows = t->pass.rows, ld_g = zb_row_length(2 * F);
    float *dw = zb_grad(t, ZB_LINEAR, r->layer, -1, r->use);
    if (zb_drops_hidden(t))
        zb_back_rows(t, NULL, 0, drop_rows, r);
    zb_back_begin(t);
    zb_dy dy = zb_back_prepare(t, t->dt_, h, h, rows, dw != NULL);
    zb_back_multiply(t,
                     &(zb_back_job){.parts = {{r->u->linear, dw, dy, r->s->ffn_out, h, zb_lora_on(&r->u->linear_lora)}},
                                    .n_parts = 1,
                                    .dx = t->dffn_out,
                                    .ld_dx = h},
                     1);
    dw = of_block(r, ZB_DOWN);
    zb_back_begin(t);
    dy = zb_back_prepare(t, t->dffn_out, h, h, rows, dw != NULL);
    zb_back_multiply(
        t,
        &(zb_back_job){.parts = {{r->b->down, dw, dy, r->s->act, zb_row_length(F), zb_lora_on(&r->u->down_lora)}},
                       .n_parts = 1,
                       .dx = t->dact,
                       .ld_dx = zb_row_length(F)},
        1);
    zb_back_sum(t, of_block(r, ZB_DOWN_BIAS), t->dffn_out, h, h, rows);
    zb_back_rows(t, NULL, 0, glu_rows, r);
    zb_back_sum(t, of_block(r, ZB_GATE_UP_BIAS), t->dgate_up, ld_g, 2 * F, rows);
    zb_back_begin(t);
    zb_back_job in = {.dx = t->dffn_in, .ld_dx = h};
    if (r->b->gate_up.rows > 0) {
        dy = zb_back_prepare(t, t->dgate_up, ld_g, 2 * F, rows, 1);
        in.parts[in.n_parts++] = (zb_back_part){
            r->b->gate_up, of_block(r, ZB_GATE_UP), dy, r->s->ffn_in, h, zb_lora_on(&r->u->gate_up_lora)};
    } else {
        const zb_dy gate = zb_back_prepare(t, t->dgate_up, ld_g, F, rows, 1),
                    up = zb_back_prepare(t, t->dgate_up + F, ld_g, F, rows, 1);
        in.parts[in.n_parts++] =
            (zb_back_part){r->b->gate, of_block(r, ZB_GATE), gate, r->s->ffn_in, h, zb_lora_on(&r->u->gate_lora)};
        in.parts[in.n_parts++] =
            (zb_back_part){r->b->up, of_block(r, ZB_UP), up, r->s->ffn_in, h, zb_lora_on(&r->u->up_lora)};
    }
    if (c->mlp_adapter) { /* gate_up is one matrix where there are adapters */
        const zb_mat *down = &r->u->gate_up_adapter[0], *up = &r->u->gate_up_adapter[1];
        zb_back_multiply(t,
                         &(zb_back_job){.parts = {{*up, of_use(r, ZB_GATE_UP_ADAPTER_1), dy, r->s->ffn_adapter,
                                                   r->ld_low, zb_lora_on(&r->u->gate_up_adapter_lora[1])}},
                                        .n_parts = 1,
                                        .dx = t->dlow,
                                        .ld_dx = r->ld_low},
                         1);
        const zb_dy low = zb_back_prepare(t, t->dlow, r->ld_low, down->rows, rows, 1);
        in.parts[in.n_parts++] = (zb_back_part){*down, of_use(r, ZB_GATE_UP_ADAPTER_0),           low, r->s->ffn_in,
                                                h,     zb_lora_on(&r->u->gate_up_adapter_lora[0])};
    }
    zb_back_multiply(t, &in, 1);
    zb_back_rows(t, of_block(r, ZB_FFN_NORM), h, ffn_norm_rows, r);
}

/* ---- attention ---- */

/* A key and value head of one run, with every query head that reads it. */
static void attention_task(void *ctx, size_t task, int worker)
{
    const back_use *r = ctx;
    zb_tape *t = r->t;
    const zb_config *c = t->pass.c;
    const zb_span *s = &t->ws->spans[task / c->n_kv_heads];
    const size_t d = c->head_dim, kv = task % c->n_kv_heads, group = c->n_heads / c->n_kv_heads, half = d / 2;
    float *dk = t->dk + s->row * r->ld_kv + kv * d, *dv = t->dv + s->row * r->ld_kv + kv * d;
    for (size_t i = 0; i < s->n; i++) {
        memset(dk + i * r->ld_kv, 0, d * sizeof *dk);
        memset(dv + i * r->ld_kv, 0, d * sizeof *dv);
    }
    for (size_t j = kv * group; j < (kv + 1) * group; j++) {
        const size_t at = s->row * r->ld_q + j * d;
        const zb_attn_backward a = {.dq = t->dq + at,
                                    .dk = dk,
                                    .dv = dv,
                                    .ld_dq = r->ld_q,
                                    .ld_dkv = r->ld_kv,
                                    .q = r->s->q + at,
                                    .k = r->s->k + s->row * r->ld_kv + kv * d,
                                    .v = r->s->v + s->row * r->ld_kv + kv * d,
                                    .out = r->s->attn + at,
                                    .dout = t->dattn + at,
                                    .ld_q = r->ld_q,
                                    .ld_kv = r->ld_kv,
                                    .ld_out = r->ld_q,
                                    .ld_dout = r->ld_q,
                                    .n = s->n,
                                    .head_dim = d,
                                    .scale = 1.0f / sqrtf((float)d / 2.0f),
                                    .scratch = zb_tape_worker(t, worker)};
        if (zb_drops_attention(t)) {
            const zb_attn_drop drop = zb_attn_drop_of(t, s, (size_t)r->use, j);
            zb_attend_dropping_back(t->pass.k, &a, &drop);
        } else
            t->pass.k->attention_backward(&a);
        for (size_t i = 0; c->use_rope && i < s->n; i++)
            t->pass.k->rope_backward(t->dq + at + i * r->ld_q, t->ws->cos + (s->row + i) * half,
                                     t->ws->sin + (s->row + i) * half, d);
    }
    for (size_t i = 0; c->use_rope && i < s->n; i++)
        t->pass.k->rope_backward(dk + i * r->ld_kv, t->ws->cos + (s->row + i) * half, t->ws->sin + (s->row + i) * half,
                                 d);
}

/* do_ -> dq, dk, dv */
static void attention(back_use *r)
{
    zb_tape *t = r->t;
    const size_t h = t->pass.c->hidden_size, rows = t->pass.rows;
    float *dw = of_block(r, ZB_O);
    zb_back_begin(t);
    const zb_dy dy = zb_back_prepare(t, t->do_, h, h, rows, dw != NULL);
    zb_back_multiply(t,
                     &(zb_back_job){.parts = {{r->b->o, dw, dy, r->s->attn, r->ld_q, zb_lora_on(&r->u->o_lora)}},
                                    .n_parts = 1,
                                    .dx = t->dattn,
                                    .ld_dx = r->ld_q},
                     1);
    zb_pool_run_on(t->m->pool, t->pass.n_threads, t->pass.c->n_kv_heads * t->pass.n_spans, attention_task, r);
}

/* ---- q, k, v and the norm of [x ; x0] ---- */

/* dq, dk, dv -> dwide */
static void qkv(const back_use *r)
{
    zb_tape *t = r->t;
    const size_t rows = t->pass.rows, ld_w = zb_row_length(2 * t->pass.c->hidden_size);
    const int adapters = t->pass.c->attn_adapter;
    const zb_mat *w[3] = {&r->b->q, &r->b->k, &r->b->v};
    const zb_mat *adapter[3] = {r->u->q_adapter, r->u->k_adapter, r->u->v_adapter};
    const zb_role role[3] = {ZB_Q, ZB_K, ZB_V}, down[3] = {ZB_Q_ADAPTER_0, ZB_K_ADAPTER_0, ZB_V_ADAPTER_0},
                  up[3] = {ZB_Q_ADAPTER_1, ZB_K_ADAPTER_1, ZB_V_ADAPTER_1};
    const float *d[3] = {t->dq, t->dk, t->dv};
    zb_back_job in = {.dx = t->dwide, .ld_dx = ld_w}, low[3];
    zb_back_begin(t);
    for (int i = 0; i < 3; i++) {
        const size_t n = i == 0 ? r->q : r->kv, ld = i == 0 ? r->ld_q : r->ld_kv;
        const zb_dy dy = zb_back_prepare(t, d[i], ld, n, rows, 1);
        in.parts[in.n_parts++] =
            (zb_back_part){*w[i], of_block(r, role[i]), dy, r->s->wide, ld_w, zb_lora_on(&r->u->qkv_lora[i])};
        if (adapters)
            low[i] = (zb_back_job){.parts = {{adapter[i][1], of_use(r, up[i]), dy, r->s->adapter + (size_t)i * r->step,
                                              r->ld_low, zb_lora_on(&r->u->qkv_adapter_lora[i][1])}},
                                   .n_parts = 1,
                                   .dx = t->dlow + (size_t)i * r->step,
                                   .ld_dx = r->ld_low};
    }
    if (adapters)
        zb_back_multiply(t, low, 3);
    for (int i = 0; adapters && i < 3; i++) {
        const zb_dy dy = zb_back_prepare(t, t->dlow + (size_t)i * r->step, r->ld_low, adapter[i][0].rows, rows, 1);
        in.parts[in.n_parts++] = (zb_back_part){
            adapter[i][0], of_use(r, down[i]), dy, r->s->wide, ld_w, zb_lora_on(&r->u->qkv_adapter_lora[i][0])};
    }
    zb_back_multiply(t, &in, 1);
}

static void concat_norm_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_use *r = arg;
    const size_t h = t->pass.c->hidden_size, ld = zb_row_length(2 * h);
    for (size_t i = row0; i < row1; i++) {
        float *both = t->both + (row0 / ZB_BACK_ROWS) * 2 * h, *d = t->dwide + i * ld;
        memcpy(both, r->s->x + i * h, h * sizeof *both);
        memcpy(both + h, t->ws->x0 + i * h, h * sizeof *both);
        t->pass.k->rmsnorm_backward(d, partial, d, both, r->b->attn_norm, 2 * h, t->pass.c->norm_eps);
        t->pass.k->add(t->dx + i * h, d, h);
        t->pass.k->add(t->dx0 + i * h, d + h, h);
    }
}

/* ---- the block ---- */

void zb_back_block(zb_tape *t, size_t layer)
{
    const zb_config *c = t->pass.c;
    const zb_layer *row = &t->m->plan.layers[layer];
    back_use r = {.t = t,
                  .s = &t->slots[layer],
                  .b = &t->m->weights.blocks[row->shared],
                  .u = &t->m->weights.uses[row->use],
                  .block = row->shared,
                  .use = row->use,
                  .layer = (int32_t)layer,
                  .q = c->n_heads * c->head_dim,
                  .kv = c->n_kv_heads * c->head_dim,
                  .step = zb_adapter_step(c)};
    r.ld_q = zb_row_length(r.q);
    r.ld_kv = zb_row_length(r.kv);
    r.ld_low = zb_row_length(3 * r.step);
    feed_forward(&r);
    attention(&r);
    qkv(&r);
    zb_back_rows(t, of_block(&r, ZB_ATTN_NORM), 2 * c->hidden_size, concat_norm_rows, &r);
}
