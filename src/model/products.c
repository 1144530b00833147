/* products.c — the products of a pass: several matrices over the same rows in one run of the pool, tile by tile, each
 * tile followed by what belongs to it; and work that goes row by row. */
#include <string.h>

#include "model/pass.h"

/* Rows of weights in a tile. Few rows of activations wait for memory: long tiles keep one stream going. Many rows are
 * arithmetic: a tile's weights and a block of activations share the second-level cache. Some rows are both, and lose at
 * the start and the end of each tile. */
#define TILE_ROWS     ((size_t)64)
#define TILE_BYTES    ((size_t)512 << 10)
#define FEW_TILE_ROWS ((size_t)1024)

typedef struct product_run {
    const pass *p;
    const product_job *jobs;
    size_t n, first_task[MAX_JOBS + 1], tile[MAX_JOBS];
} product_run;

static size_t job_rows(const product_job *j)
{
    for (size_t i = 0; i < j->n_parts; i++)
        if (j->parts[i].w.rows > 0)
            return j->parts[i].w.rows;
    return 0;
}

void zb_matmul(const pass *p, float *y, size_t ld_y, operand x, size_t m, const zb_mat *w, size_t row0, size_t row1,
               int accumulate)
{
    if (x.b != NULL && w->dtype == ZB_BF16)
        p->k->matmul_bf16(y, ld_y, x.b, x.ld_b, m, w, row0, row1, accumulate);
    else
        p->k->matmul(y, ld_y, x.x, x.ld, m, w, row0, row1, accumulate);
}

static void product_tile(const pass *p, const product *d, size_t row0, size_t row1)
{
    if (d->w.rows == 0)
        return;
    zb_matmul(p, d->y, d->ld_y, d->x, p->rows, &d->w, row0, row1, d->accumulate);
    for (size_t m = 0; d->bias != NULL && m < p->rows; m++)
        p->k->add(d->y + m * d->ld_y + row0, d->bias + row0, row1 - row0);
}

static void product_task(void *ctx, size_t task, int worker)
{
    const product_run *r = ctx;
    size_t i = 0;
    while (task >= r->first_task[i + 1])
        i++;
    const product_job *j = &r->jobs[i];
    const size_t row0 = (task - r->first_task[i]) * r->tile[i], row1 = least(row0 + r->tile[i], job_rows(j));
    for (size_t k = 0; k < j->n_parts; k++)
        product_tile(r->p, &j->parts[k], row0, row1);
    if (j->after != NULL)
        j->after(r->p, j->arg, row0, row1, worker);
}

static size_t tile_rows(const pass *p, const product_job *j, size_t rows)
{
    const zb_mat *w = &j->parts[0].w;
    size_t tile = TILE_ROWS;
    if (p->rows <= ZB_FEW_ROWS && w->rows > 0) {
        tile = TILE_BYTES / (w->cols * zb_dtype_size(w->dtype) + 1);
        tile = p->rows > 1 && tile < FEW_TILE_ROWS ? FEW_TILE_ROWS : tile;
        tile = least(tile, ceil_div(rows, 4 * (size_t)p->n_threads)); /* enough of them to share */
        tile = tile < TILE_ROWS ? TILE_ROWS : tile;
    }
    const size_t unit = j->unit > 0 ? j->unit : TILE_ROWS;
    return ceil_div(tile, unit) * unit;
}

void zb_multiply(const pass *p, zb_op op, const product_job *jobs, size_t n_jobs)
{
    const double start = zb_profile_now(&p->ws->profile);
    product_run r = {.p = p, .jobs = jobs, .n = n_jobs};
    size_t tasks = 0;
    double bytes = 0, flops = 0;
    for (size_t i = 0; i < n_jobs; i++) {
        const size_t rows = job_rows(&jobs[i]);
        r.tile[i] = rows > 0 ? tile_rows(p, &jobs[i], rows) : 1;
        r.first_task[i] = tasks;
        tasks += ceil_div(rows, r.tile[i]);
        for (size_t k = 0; k < jobs[i].n_parts; k++) {
            const zb_mat *w = &jobs[i].parts[k].w;
            bytes += (double)w->rows * (double)w->cols * (double)zb_dtype_size(w->dtype);
            flops += 2 * (double)w->rows * (double)w->cols * (double)p->rows;
        }
    }
    for (size_t i = n_jobs; i <= MAX_JOBS; i++)
        r.first_task[i] = tasks;
    zb_pool_run_on(p->m->pool, p->n_threads, tasks, product_task, &r);
    if (tasks > 0)
        zb_profile_add(&p->ws->profile, op, start, bytes, flops);
}

operand zb_operand(const pass *p, const float *x, size_t ld, int which)
{
    uint16_t *b = p->ws->rounded[which];
    return (operand){x, ld, b, p->ws->rounded_width};
}

operand zb_operand_from(operand o, size_t col)
{
    o.x += col;
    o.b = o.b == NULL ? NULL : o.b + col;
    return o;
}

void zb_round_row(const pass *p, operand o, size_t row, size_t col, size_t n)
{
    if (o.b != NULL)
        p->k->to_bf16(o.b + row * o.ld_b + col, o.x + row * o.ld + col, n);
}

zb_mat zb_mat_rows(const zb_mat *m, size_t first, size_t n)
{
    zb_mat part = *m;
    part.data = (const char *)m->data + first * m->ld * zb_dtype_size(m->dtype);
    part.rows = m->rows == 0 ? 0 : n;
    return part;
}

/* ---- rows ---- */

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
void zb_each_row(const pass *p, row_fn fn, const void *arg)
{
    row_run r = {p, fn, arg, 4};
    zb_pool_run_on(p->m->pool, p->n_threads, ceil_div(p->rows, r.per_task), row_task, &r);
}
