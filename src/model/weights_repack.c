/* weights_repack.c — copies of matrices in an order that reads faster. The mapped pages that they were made of are let
 * go: there are never two copies of all weights. */
#define _GNU_SOURCE
#include <string.h>

#include "core/mem.h"
#include "model/weights.h"

/* Copies stand for a matrix now. What was made of a packed one is released; not if it is plain numbers, which can
 * become parameters. */
static void drop_whole(zb_weights *w, const zb_plan *plan, zb_mat *m)
{
    const size_t bytes = m->rows * zb_row_bytes(m->dtype, m->ld);
    size_t at = 0;
    zb_weights_forget(w, m->data, bytes);
    while (at < w->n_copies && w->copies[at] != m->data)
        at++;
    if (at == w->n_copies || m->dtype < ZB_N_FLOATS)
        return;
    for (size_t i = 0; i < plan->n_specs; i++)
        if (w->packed[i].tensor.data == m->data)
            w->packed[i].tensor.data = NULL;
    zb_free_aligned(w->copies[at]);
    w->copies[at] = w->copies[--w->n_copies];
    w->copy_bytes -= bytes;
    m->data = NULL;
}

/* ---- halves of q, k and v ---- */

/* Rows that lie apart, one after another in memory of their own. */
static zamba_status join_rows(zb_weights *w, zb_mat *m, zamba_error *err)
{
    const size_t row = zb_row_bytes(m->dtype, m->cols);
    unsigned char *p = zb_alloc_aligned(m->rows * row);
    zamba_status st = zb_weights_keep(w, p, m->rows * row, err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t r = 0; r < m->rows; r++)
        memcpy(p + r * row, zb_mat_row(m, r), row);
    m->data = p;
    m->ld = m->cols;
    return ZAMBA_OK;
}

/* Blocks whose halves could be copied. */
static size_t n_blocks(const zb_plan *plan)
{
    return plan->n_uses > plan->config.n_blocks ? plan->config.n_blocks : 0;
}

zamba_status zb_weights_join_halves(zb_weights *w, const zb_plan *plan, uint64_t most, zamba_error *err)
{
    uint64_t bytes = 0;
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < n_blocks(plan); i++) {
        const zb_block_weights *b = &w->blocks[i];
        const zb_mat *whole[] = {&b->q, &b->k, &b->v};
        for (int k = 0; k < 3 && b->halves; k++)
            if (b->x_half[k].group == 0)
                bytes += (uint64_t)whole[k]->rows * zb_row_bytes(whole[k]->dtype, whole[k]->cols);
    }
    if (bytes == 0 || bytes > most)
        return ZAMBA_OK;
    for (size_t i = 0; i < n_blocks(plan); i++) {
        zb_block_weights *b = &w->blocks[i];
        zb_mat *whole[] = {&b->q, &b->k, &b->v};
        for (int k = 0; k < 3 && b->halves && st == ZAMBA_OK; k++) {
            if (b->x_half[k].group > 0)
                continue;
            st = join_rows(w, &b->x_half[k], err);
            if (st == ZAMBA_OK)
                st = join_rows(w, &b->x0_half[k], err);
            if (st == ZAMBA_OK)
                drop_whole(w, plan, whole[k]);
        }
    }
    return st;
}

/* ---- matrices in blocks ---- */

typedef struct turning {
    const zb_kernels *k;
    const zb_mat *m;
    unsigned char *to;
    size_t group;
} turning;

enum { GROUPS_A_TASK = 16 };

static void turn_task(void *ctx, size_t task, int worker)
{
    const turning *t = ctx;
    const zb_mat *m = t->m;
    const size_t first = task * GROUPS_A_TASK * ZB_TURN_ROWS, end = first + (size_t)GROUPS_A_TASK * ZB_TURN_ROWS;
    (void)worker;
    for (size_t row = first; row < end && row < m->rows; row += ZB_TURN_ROWS) {
        const size_t n = m->rows - row < ZB_TURN_ROWS ? m->rows - row : ZB_TURN_ROWS;
        t->k->turn(t->to + row / ZB_TURN_ROWS * t->group, zb_mat_row(m, row), zb_row_bytes(m->dtype, m->ld), n,
                   m->dtype, m->cols);
    }
}

static size_t n_groups(const zb_mat *m)
{
    return (m->rows + ZB_TURN_ROWS - 1) / ZB_TURN_ROWS;
}

/* Where passes take a matrix apart: at multiples of what rows? Turned ones can be cut between groups only. */
static size_t cut(const zb_config *c, const zb_spec *s)
{
    switch (s->role) {
    case ZB_IN_PROJ:
        return c->family == ZB_ZAMBA1 ? c->mamba_inner : c->mamba_inner | 2 * c->mamba_groups * c->mamba_state;
    case ZB_GATE_UP:
    case ZB_GATE_UP_ADAPTER_1:
        return c->ffn_size;
    case ZB_X_PROJ:
    case ZB_DT_PROJ:
        return s->shape[1];
    default:
        return ZB_TURN_ROWS;
    }
}

/* Matrices to turn: calls `visit` with each, and with the whole that it is the last part of, or NULL. */
typedef void visit_fn(void *ctx, zb_mat *m, zb_mat *whole);

static void each_turnable(zb_weights *w, const zb_plan *plan, const zb_kernels *k, visit_fn *visit, void *ctx)
{
    const zb_config *c = &plan->config;
    for (size_t i = 0; i < plan->n_specs; i++) {
        const zb_spec *s = &plan->specs[i];
        zb_mat *m = zb_weights_mat(w, s);
        if (m == NULL || m->rows == 0 || m->group > 0 || (k->q8_types >> m->dtype & 1) == 0 ||
            zb_turn_cols(m->dtype) == 0 || cut(c, s) % ZB_TURN_ROWS != 0 ||
            (s->role == ZB_EMBED && !c->tied_head)) /* else only looked up */
            continue;
        const int which = s->role == ZB_Q ? 0 : s->role == ZB_K ? 1 : s->role == ZB_V ? 2 : -1;
        zb_block_weights *b = which >= 0 ? &w->blocks[s->block] : NULL;
        if (b == NULL || !b->halves || n_blocks(plan) == 0) {
            visit(ctx, m, m);
        } else if (b->x_half[which].group == 0) {
            visit(ctx, &b->x_half[which], NULL);
            visit(ctx, &b->x0_half[which], m);
        }
    }
}

typedef struct turn_run {
    zb_weights *w;
    const zb_plan *plan;
    const zb_kernels *k;
    zb_pool *pool;
    unsigned char *to;
    uint64_t bytes;
} turn_run;

static void count_bytes(void *ctx, zb_mat *m, zb_mat *whole)
{
    turn_run *r = ctx;
    (void)whole;
    r->bytes += (uint64_t)n_groups(m) * zb_turned_bytes(m->dtype, m->cols);
}

static void turn_one(void *ctx, zb_mat *m, zb_mat *whole)
{
    turn_run *r = ctx;
    const size_t n = n_groups(m);
    turning t = {r->k, m, r->to, zb_turned_bytes(m->dtype, m->cols)};
    zb_pool_run(r->pool, (n + GROUPS_A_TASK - 1) / GROUPS_A_TASK, turn_task, &t);
    if (whole != NULL)
        drop_whole(r->w, r->plan, whole);
    m->data = r->to;
    m->ld = m->cols;
    m->group = t.group;
    r->to += n * t.group;
}

zamba_status zb_weights_turn(zb_weights *w, const zb_plan *plan, const zb_kernels *k, zb_pool *pool, uint64_t most,
                             zamba_error *err)
{
    turn_run r = {.w = w, .plan = plan, .k = k, .pool = pool};
    each_turnable(w, plan, k, count_bytes, &r);
    if (r.bytes == 0 || r.bytes > most || r.bytes > SIZE_MAX)
        return ZAMBA_OK;
    r.to = zb_alloc_large((size_t)r.bytes);
    if (r.to == NULL && most < UINT64_MAX)
        return ZAMBA_OK;
    zamba_status st = zb_weights_keep(w, r.to, (size_t)r.bytes, err);
    if (st == ZAMBA_OK)
        each_turnable(w, plan, k, turn_one, &r);
    if (plan->config.tied_head)
        w->head = w->embed;
    /* of the little that is still read where it is mapped, what was read in passing need not stay in memory */
    for (size_t i = 0; i < w->tensors.n_files && st == ZAMBA_OK; i++)
        (void)zb_file_forget(&w->tensors.files[i], w->tensors.files[i].data, w->tensors.files[i].size);
    return st;
}
