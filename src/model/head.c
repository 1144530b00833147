/* head.c — logits of a pass: the head's product for the rows that asked for it, scattered to the items. */
#include <string.h>

#include "model/imatrix.h"
#include "model/pass.h"

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

typedef struct head_run {
    const pass *p;
    operand x;
    size_t rows, tile;
    zb_low low; /* lora NULL: none */
} head_run;

/* A tile of the vocabulary for every wanted row; the rows were gathered in ws->t. */
static void head_task(void *ctx, size_t task, int worker)
{
    const head_run *r = ctx;
    const pass *p = r->p;
    const zb_mat *head = &p->m->weights.head;
    const size_t most =
        r->rows * ZB_HEAD_TILE < ZB_HEAD_LOGITS ? ZB_HEAD_LOGITS / r->rows / ZB_TURN_ROWS * ZB_TURN_ROWS : ZB_HEAD_TILE;
    for (size_t v0 = task * r->tile, end = least(v0 + r->tile, head->rows), n; v0 < end; v0 += n) {
        n = least(most, end - v0);
        float *tile = p->ws->worker + (size_t)worker * p->ws->worker_floats, *out;
        const zb_mat part = zb_mat_rows(head, v0, n);
        size_t first;
        zb_matmul(p, tile, n, r->x, r->rows, &part, 0, n, 0, worker);
        if (r->low.lora != NULL)
            zb_lora_add(p, tile, n, &r->low, r->rows, v0, 0, n);
        for (size_t i = 0, at = 0; i < p->n_spans; i++) {
            const size_t m = wanted_rows(p, &p->ws->spans[i], &first, &out);
            for (size_t k = 0; k < m; k++, at++)
                memcpy(out + k * head->rows + v0, tile + at * n, n * sizeof *tile);
        }
    }
}

void zb_head(const pass *p)
{
    const double start = zb_profile_now(&p->ws->profile);
    const zb_mat *head = &p->m->weights.head;
    const size_t h = p->c->hidden_size;
    head_run r = {.p = p, .x = zb_operand(p, p->ws->t, h, 0), .tile = ZB_HEAD_TILE};
    size_t first;
    float *out;
    for (size_t i = 0; i < p->n_spans; i++) {
        const size_t m = wanted_rows(p, &p->ws->spans[i], &first, &out);
        memcpy(p->ws->t + r.rows * h, p->ws->normed + first * h, m * h * sizeof *out);
        r.rows += m;
    }
    if (r.rows == 0)
        return;
    if (p->m->collector != NULL)
        zb_imatrix_collect(p->m->collector, head, r.x.x, r.x.ld, r.rows);
    for (size_t i = 0; i < r.rows; i++)
        zb_round_row(p, r.x, i, 0, h);
    if (r.rows <= ZB_FEW_ROWS) /* waits for memory: longer streams */
        r.tile = 16 * ZB_HEAD_TILE;
    r.low = (zb_low){zb_lora_on(&p->m->weights.head_lora), r.x.x, r.x.ld, p->ws->low, p->ws->ld_low};
    if (r.low.lora != NULL)
        zb_lora_low(p, &r.low, 1, r.rows);
    zb_pool_run_on(p->m->pool, p->n_threads, ceil_div(head->rows, r.tile), head_task, &r);
    zb_profile_add(&p->ws->profile, ZB_OP_HEAD, start, (double)head->rows * (double)zb_row_bytes(head->dtype, h),
                   2 * (double)head->rows * (double)h * (double)r.rows);
}
