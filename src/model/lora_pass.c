/* lora_pass.c — LoRA within a pass: what comes beside the tiles of a product, in f32 whatever the product computes in,
 * and the inputs that training leaves out. Which files adapters come from is lora.c's. */
#include <string.h>

#include "model/tape_slots.h"

#define LOW_ROWS ((size_t)64)      /* rows of activations of a task */
#define ALONE    ((size_t)1 << 16) /* so few products are not worth waking anybody */
#define FEW_TILE ((size_t)16)      /* rows of a of a task, when the rows of activations make only one */

typedef struct low_run {
    const pass *p;
    const zb_low *low;
    size_t n, rows, blocks, tiles; /* tasks of a place: blocks of rows times tiles of a */
} low_run;

int zb_drops_lora(const zb_tape *t)
{
    return t != NULL && t->drop_seed != 0 && t->m->weights.lora_dropout > 0;
}

void zb_lora_drop(const zb_tape *t, const zb_lora *lora, float *y, size_t ld_y, const float *x, size_t ld_x,
                  size_t row0, size_t n)
{
    for (size_t i = 0; i < n; i++)
        zb_drop(y + i * ld_y, x + i * ld_x, 0, lora->a.cols,
                zb_drop_row(t->drop_seed, ZB_DROP_LORA, lora->number, t->tokens[row0 + i]), t->m->weights.lora_dropout);
}

static void low_task(void *ctx, size_t task, int worker)
{
    const low_run *r = ctx;
    const pass *p = r->p;
    const zb_low *l = &r->low[task / (r->blocks * r->tiles)];
    const zb_lora *lora = l->lora;
    const size_t part = task % (r->blocks * r->tiles), rank = lora->a.rows, row0 = part / r->tiles * LOW_ROWS,
                 row1 = least(row0 + LOW_ROWS, r->rows), step = r->tiles > 1 ? FEW_TILE : rank,
                 a0 = least(part % r->tiles * step, rank), a1 = least(a0 + step, rank);
    const int drops = zb_drops_lora(p->tape);
    float *dropped = p->ws->worker + (size_t)worker * p->ws->worker_floats;
    if (a0 == a1)
        return;
    for (size_t i = row0, n; i < row1; i += n) {
        const float *x = l->x + i * l->ld_x;
        size_t ld = l->ld_x;
        n = drops ? least(ZB_DROP_ROWS, row1 - i) : row1 - i;
        if (drops) {
            ld = lora->a.cols;
            zb_lora_drop(p->tape, lora, dropped, ld, x, l->ld_x, i, n);
            x = dropped;
        }
        p->k->matmul(l->y + i * l->ld_y, l->ld_y, x, ld, n, &lora->a, a0, a1, 0);
        for (size_t k = 0; k < n && lora->scale != 1.0f; k++) {
            float *y = l->y + (i + k) * l->ld_y + a0;
            p->k->scale(y, y, lora->scale, a1 - a0);
        }
    }
}

void zb_lora_low(const pass *p, const zb_low *low, size_t n, size_t rows)
{
    low_run r = {p, low, n, rows, ceil_div(rows, LOW_ROWS), 1};
    for (size_t i = 0; i < n && r.blocks == 1; i++)
        if (ceil_div(low[i].lora->a.rows, FEW_TILE) > r.tiles)
            r.tiles = ceil_div(low[i].lora->a.rows, FEW_TILE);
    size_t work = 0;
    for (size_t i = 0; i < n; i++)
        work += rows * low[i].lora->a.rows * low[i].lora->a.cols;
    if (n > 0)
        zb_pool_run_on(p->m->pool, work < ALONE ? 1 : p->n_threads, n * r.blocks * r.tiles, low_task, &r);
}

void zb_lora_add(const pass *p, float *y, size_t ld_y, const zb_low *low, size_t m, size_t lora_row, size_t row0,
                 size_t row1)
{
    const zb_lora *lora = low->lora;
    if (lora->turned) {
        p->k->outer(y + row0, ld_y, m, row1 - row0, low->y, low->ld_y, 1, (const float *)lora->b.data + lora_row + row0,
                    lora->b.rows, lora->a.rows, 1);
        return;
    }
    const zb_mat b = zb_mat_rows(&lora->b, lora_row, lora->b.rows - lora_row);
    p->k->matmul(y, ld_y, low->y, low->ld_y, m, &b, row0, row1, 1);
}
