/* shared_block.c — one use of a shared attention + MLP block: adapters, q, k and v with rope and pages behind their
 * tiles, attention, feed-forward with the gate behind its tiles, and the use's own linear.
 *
 * The block reads [x ; x0], normalised together: half of what q, k and v multiply is the embedding, which is the same
 * at every use but for the factor of the norm. So W2 (g2 x0) is made once a block and pass, and later uses add it times
 * the ratio of their factor to the first one's. */
#include <string.h>

#include "model/tape_slots.h"

typedef struct block_run {
    const zb_layer *row;
    const zb_block_weights *b;
    const zb_use_weights *u;
    operand wide, adapter;
    int first, reuse;             /* the block's first use; it has several */
    float *half, *factor, *ratio; /* [rows, q + 2 kv], [rows] of the first use, [rows] */
} block_run;

/* wide = RMSNorm([x ; x0]) */
static void concat_norm_row(const pass *p, size_t row, const void *arg)
{
    const block_run *r = arg;
    const size_t h = p->c->hidden_size;
    float *wide = p->ws->wide + row * zb_row_length(2 * h);
    memcpy(wide, p->ws->x + row * h, h * sizeof *wide);
    memcpy(wide + h, p->ws->x0 + row * h, h * sizeof *wide);
    const float factor = p->k->rmsnorm(wide, wide, r->b->attn_norm, 2 * h, p->c->norm_eps);
    if (r->first)
        r->factor[row] = factor;
    r->ratio[row] = factor / r->factor[row];
    zb_round_row(p, r->wide, row, 0, 2 * h);
}

static void after_adapter(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    const block_run *r = arg;
    (void)worker;
    /* three adapters share the buffer; a tile of any of them is rounded by its place, which the caller shifted */
    for (size_t i = 0; i < p->rows; i++)
        zb_round_row(p, r->adapter, i, row0, row1 - row0);
}

/* ---- q, k, v ---- */

typedef struct qkv_arg {
    const block_run *r;
    zb_qkv which;
    float *y;
    size_t ld, half_at;
} qkv_arg;

static void after_qkv(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    const qkv_arg *a = arg;
    const block_run *r = a->r;
    const size_t d = p->c->head_dim, width = zb_row_length((p->c->n_heads + 2 * p->c->n_kv_heads) * d);
    (void)worker;
    for (size_t i = 0; r->reuse && i < p->rows; i++) {
        const float *half = r->half + i * width + a->half_at, by = r->ratio[i];
        float *y = a->y + i * a->ld;
        for (size_t k = row0; k < row1; k++)
            y[k] += by * half[k];
    }
    zb_place_heads(p, (size_t)r->row->use, a->which, row0 / d, row1 / d);
}

static product_job qkv_job(const pass *p, const zb_mat *w, const zb_mat *up, operand low, const qkv_arg *a)
{
    const block_run *r = a->r;
    const zb_lora *lora = zb_lora_on(&r->u->qkv_lora[a->which]); /* of the whole row, whatever w is cut into */
    const size_t h = p->c->hidden_size, width = zb_row_length((p->c->n_heads + 2 * p->c->n_kv_heads) * p->c->head_dim);
    product_job j = {.unit = p->c->head_dim, .after = after_qkv, .arg = a};
    if (r->reuse) {
        j.parts[j.n_parts++] = (product){r->b->x_half[a->which], r->wide, a->y, a->ld, NULL, 0, lora, 0};
        if (r->first)
            j.parts[j.n_parts++] = (product){
                r->b->x0_half[a->which], zb_operand_from(r->wide, h), r->half + a->half_at, width, NULL, 0, NULL, 0};
    } else
        j.parts[j.n_parts++] = (product){*w, r->wide, a->y, a->ld, NULL, 0, lora, 0};
    if (p->c->attn_adapter)
        j.parts[j.n_parts++] =
            (product){*up, low, a->y, a->ld, NULL, 1, zb_lora_on(&r->u->qkv_adapter_lora[a->which][1]), 0};
    return j;
}

static void qkv(const pass *p, const block_run *r)
{
    const zb_config *c = p->c;
    zb_workspace *ws = p->ws;
    const size_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim, step = zb_adapter_step(c),
                 ld = zb_row_length(3 * step);
    const operand low[3] = {r->adapter, zb_operand_from(r->adapter, step), zb_operand_from(r->adapter, 2 * step)};
    if (c->attn_adapter) {
        const block_run at[3] = {{.adapter = low[0]}, {.adapter = low[1]}, {.adapter = low[2]}};
        const zb_mat *down[3] = {&r->u->q_adapter[0], &r->u->k_adapter[0], &r->u->v_adapter[0]};
        product_job jobs[3];
        for (size_t i = 0; i < 3; i++)
            jobs[i] = (product_job){.parts = {{*down[i], r->wide, ws->adapter + i * step, ld, NULL, 0,
                                               zb_lora_on(&r->u->qkv_adapter_lora[i][0]), 0}},
                                    .n_parts = 1,
                                    .after = after_adapter,
                                    .arg = &at[i]};
        zb_multiply(p, ZB_OP_QKV_ADAPTER, jobs, 3);
    }
    const qkv_arg args[3] = {{r, ZB_OF_Q, ws->q, zb_row_length(q), 0},
                             {r, ZB_OF_K, ws->k, zb_row_length(kv), q},
                             {r, ZB_OF_V, ws->v, zb_row_length(kv), q + kv}};
    const product_job jobs[3] = {qkv_job(p, &r->b->q, &r->u->q_adapter[1], low[0], &args[0]),
                                 qkv_job(p, &r->b->k, &r->u->k_adapter[1], low[1], &args[1]),
                                 qkv_job(p, &r->b->v, &r->u->v_adapter[1], low[2], &args[2])};
    zb_multiply(p, ZB_OP_QKV, jobs, 3);
}

/* ---- feed-forward ---- */

static void ffn_norm_row(const pass *p, size_t row, const void *arg)
{
    const block_run *r = arg;
    const size_t h = p->c->hidden_size;
    p->k->rmsnorm(p->ws->ffn_in + row * h, p->ws->o + row * h, r->b->ffn_norm, h, p->c->norm_eps);
    zb_round_row(p, zb_operand(p, p->ws->ffn_in, h, 0), row, 0, h);
}

static void after_gate_up(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    const operand *out = arg;
    const size_t F = p->c->ffn_size, ld = zb_row_length(2 * F);
    (void)worker;
    for (size_t i = 0; i < p->rows; i++) {
        const float *g = p->ws->gate_up + i * ld;
        p->k->glu(p->ws->act + i * p->ws->ld_act + row0, g + row0, g + F + row0, row1 - row0, p->c->act);
        zb_round_row(p, *out, i, row0, row1 - row0);
    }
}

static void after_down(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    (void)worker;
    for (size_t i = 0; i < p->rows; i++)
        zb_round_row(p, *(const operand *)arg, i, row0, row1 - row0);
}

/* Where dropout is asked for. */
static void after_linear(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    const zb_layer *row = arg;
    (void)worker;
    for (size_t i = 0; i < p->rows; i++) {
        float *t = p->ws->t + i * p->c->hidden_size;
        zb_drop_hidden(p->tape, t, t, ZB_DROP_BLOCK, (size_t)row->use, i, row0, row1);
    }
}

static void feed_forward(const pass *p, const block_run *r)
{
    const zb_config *c = p->c;
    zb_workspace *ws = p->ws;
    const zb_block_weights *b = r->b;
    const size_t h = c->hidden_size, F = c->ffn_size, ld = zb_row_length(3 * zb_adapter_step(c)),
                 ld_g = zb_row_length(2 * F);
    const operand in = zb_operand(p, ws->ffn_in, h, 0), act = zb_operand(p, ws->act, ws->ld_act, 1),
                  low = zb_operand(p, ws->ffn_adapter, ld, 2), out = zb_operand(p, ws->ffn_out, h, 0);
    const block_run adapter = {.adapter = low};
    const int joined = b->gate_up.rows > 0;
    const zb_mat gate = joined ? zb_mat_rows(&b->gate_up, 0, F) : b->gate,
                 up = joined ? zb_mat_rows(&b->gate_up, F, F) : b->up;
    const float *bias = b->gate_up_bias;
    const zb_lora *gate_lora = zb_lora_on(joined ? &r->u->gate_up_lora : &r->u->gate_lora),
                  *up_lora = zb_lora_on(joined ? &r->u->gate_up_lora : &r->u->up_lora),
                  *wide_lora = zb_lora_on(&r->u->gate_up_adapter_lora[1]);
    product_job job = {
        .parts = {{gate, in, ws->gate_up, ld_g, bias, 0, gate_lora, 0},
                  {up, in, ws->gate_up + F, ld_g, bias == NULL ? NULL : bias + F, 0, up_lora, joined ? F : 0}},
        .n_parts = 2,
        .after = after_gate_up,
        .arg = &act};
    if (c->mlp_adapter) {
        const zb_mat *wide = &r->u->gate_up_adapter[1];
        zb_multiply(p, ZB_OP_FFN_ADAPTER,
                    &(product_job){.parts = {{r->u->gate_up_adapter[0], in, ws->ffn_adapter, ld, NULL, 0,
                                              zb_lora_on(&r->u->gate_up_adapter_lora[0]), 0}},
                                   .n_parts = 1,
                                   .after = after_adapter,
                                   .arg = &adapter},
                    1);
        job.parts[job.n_parts++] = (product){zb_mat_rows(wide, 0, F), low, ws->gate_up, ld_g, NULL, 1, wide_lora, 0};
        job.parts[job.n_parts++] =
            (product){zb_mat_rows(wide, F, F), low, ws->gate_up + F, ld_g, NULL, 1, wide_lora, F};
    }
    zb_multiply(p, ZB_OP_GATE_UP, &job, 1);
    zb_multiply(
        p, ZB_OP_DOWN,
        &(product_job){.parts = {{b->down, act, ws->ffn_out, h, b->down_bias, 0, zb_lora_on(&r->u->down_lora), 0}},
                       .n_parts = 1,
                       .after = after_down,
                       .arg = &out},
        1);
    zb_multiply(p, ZB_OP_LINEAR,
                &(product_job){.parts = {{r->u->linear, out, ws->t, h, NULL, 0, zb_lora_on(&r->u->linear_lora), 0}},
                               .n_parts = 1,
                               .after = zb_drops_hidden(p->tape) ? after_linear : NULL,
                               .arg = r->row},
                1);
}

/* ---- the block ---- */

void zb_shared_block(const pass *p, const zb_layer *row)
{
    const zb_config *c = p->c;
    zb_workspace *ws = p->ws;
    const size_t h = c->hidden_size, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim,
                 block = (size_t)row->shared;
    const block_run r = {.row = row,
                         .b = &p->m->weights.blocks[block],
                         .u = &p->m->weights.uses[row->use],
                         .wide = zb_operand(p, ws->wide, zb_row_length(2 * h), 0),
                         .adapter = zb_operand(p, ws->adapter, zb_row_length(3 * zb_adapter_step(c)), 2),
                         .first = row->use == row->shared,
                         .reuse = p->m->plan.n_uses > c->n_blocks && p->m->weights.blocks[block].halves,
                         .half = ws->half + block * ws->rows * zb_row_length(q + 2 * kv),
                         .factor = ws->factor + block * ws->rows,
                         .ratio = ws->ratio};
    double start = zb_profile_now(&ws->profile);
    zb_each_row(p, concat_norm_row, &r);
    zb_profile_add(&ws->profile, ZB_OP_ATTN_NORM, start, 0, 0);
    qkv(p, &r);
    zb_attend(p, (size_t)row->use);
    zb_multiply(p, ZB_OP_O,
                &(product_job){.parts = {{r.b->o, zb_operand(p, ws->attn, zb_row_length(q), 1), ws->o, h, NULL, 0,
                                          zb_lora_on(&r.u->o_lora), 0}},
                               .n_parts = 1},
                1);
    start = zb_profile_now(&ws->profile);
    zb_each_row(p, ffn_norm_row, &r);
    zb_profile_add(&ws->profile, ZB_OP_FFN_NORM, start, 0, 0);
    feed_forward(p, &r);
}
