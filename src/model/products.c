/* products.c — the products of a pass: several matrices over the same rows in one run of the pool, tile by tile, each
 * tile followed by what belongs to it; and work that goes row by row. */
#include <string.h>

#include "model/imatrix.h"
#include "model/tape_slots.h"

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
    zb_low low[ZB_MOST_LORAS]; /* of the places with LoRA, each once */
    size_t n_low;
} product_run;

static size_t job_rows(const product_job *j)
{
    for (size_t i = 0; i < j->n_parts; i++)
        if (j->parts[i].w.rows > 0)
            return j->parts[i].w.rows;
    return 0;
}

/* ---- one product, by what the weights are ---- */

/* Weights that no kernel takes as they are: unpacked a piece at a time. A piece of rows and columns is the same
 * whatever m is, so the order of the sums is, too. */
static void unpacked_product(const pass *p, float *y, size_t ld_y, operand x, size_t m, const zb_mat *w, size_t row0,
                             size_t row1, int accumulate)
{
    enum { ROWS = 16, COLS = 512 }; /* a multiple of every block */
    float piece[ROWS * COLS], gathered[ZB_ORDERED_ROWS * COLS];
    for (size_t r0 = row0; r0 < row1; r0 += ROWS)
        for (size_t k = 0; k < w->cols; k += COLS) {
            const size_t n_r = least(ROWS, row1 - r0), n = least(COLS, w->cols - k);
            const zb_mat part = {.data = piece, .rows = n_r, .cols = n, .dtype = ZB_F32, .ld = n};
            for (size_t r = 0; r < n_r; r++)
                p->k->unpack(piece + r * n, (const char *)zb_mat_row(w, r0 + r) + zb_row_bytes(w->dtype, k), w->dtype,
                             n);
            if (w->order == NULL) {
                p->k->matmul(y + r0, ld_y, x.x + k, x.ld, m, &part, 0, n_r, accumulate || k > 0);
                continue;
            }
            for (size_t i = 0; i < m; i += ZB_ORDERED_ROWS) {
                const size_t some = least(ZB_ORDERED_ROWS, m - i);
                for (size_t j = 0; j < some; j++)
                    for (size_t c = 0; c < n; c++)
                        gathered[j * n + c] = x.x[(i + j) * x.ld + w->order[k + c]];
                p->k->matmul(y + i * ld_y + r0, ld_y, gathered, n, some, &part, 0, n_r, accumulate || k > 0);
            }
        }
}

static zb_q8_rows rows8(const zb_bytes8 *b)
{
    return (zb_q8_rows){b->q, b->scale, b->sum, b->ld};
}

/* n numbers into columns from `col` on of a row in 8 bits. */
static void to_row8(const pass *p, const zb_bytes8 *b, size_t row, size_t col, const float *x, size_t n)
{
    const size_t at = row * b->ld + col;
    p->k->to_q8(b->q + at, b->scale + at / ZB_Q8_RUN, b->sum + at / 16, x, n);
}

/* Columns in an order of their own: the rows of x are brought into it, some at a time. */
static void ordered_product(const pass *p, float *y, size_t ld_y, operand x, size_t m, const zb_mat *w, size_t row0,
                            size_t row1, int accumulate, int worker)
{
    float *row;
    const zb_bytes8 b = zb_workspace_ordered(p->ws, w->cols, worker, &row);
    const zb_q8_rows q = rows8(&b);
    for (size_t i = 0; i < m; i += ZB_ORDERED_ROWS) {
        const size_t some = least(ZB_ORDERED_ROWS, m - i);
        for (size_t j = 0; j < some; j++) {
            for (size_t c = 0; c < w->cols; c++)
                row[c] = x.x[(i + j) * x.ld + w->order[c]];
            to_row8(p, &b, j, 0, row, w->cols);
        }
        p->k->matmul_q8(y + i * ld_y, ld_y, &q, some, w, row0, row1, accumulate);
    }
}

/* Training has rows enough to turn the weights a tile at a time: sums of outer products need no sums over lanes, which
 * short rows of weights would spend a third of their time on. */
static void turned_product(const pass *p, float *y, size_t ld_y, operand x, size_t m, const zb_mat *w, size_t row0,
                           size_t row1, int accumulate, int worker)
{
    const zb_outer how = accumulate ? ZB_OUTER_ADD_SUMS : ZB_OUTER_SET_SUMS;
    void *turned = zb_tape_worker(p->tape, worker);
    for (size_t r = row0, n; r < row1; r += n) {
        n = least(TILE_ROWS, row1 - r);
        if (w->dtype == ZB_BF16) {
            p->k->transpose(turned, n, zb_mat_row(w, r), w->ld / 2, n, w->cols / 2);
            p->k->outer_bf16(y + r, ld_y, m, n, x.b, x.ld_b / 2, 1, turned, n, w->cols / 2, how);
        } else {
            p->k->transpose(turned, n, zb_mat_row(w, r), w->ld, n, w->cols);
            p->k->outer(y + r, ld_y, m, n, x.x, x.ld, 1, turned, n, w->cols, how);
        }
    }
}

void zb_matmul(const pass *p, float *y, size_t ld_y, operand x, size_t m, const zb_mat *w, size_t row0, size_t row1,
               int accumulate, int worker)
{
    const int bytes8 = x.q.q != NULL && (p->k->q8_types >> w->dtype & 1) != 0;
    const int pairs = x.b != NULL && w->dtype == ZB_BF16 && w->cols % 2 == 0 && w->ld % 2 == 0;
    if (p->tape != NULL && (pairs || w->dtype == ZB_F32))
        turned_product(p, y, ld_y, x, m, w, row0, row1, accumulate, worker);
    else if (x.b != NULL && w->dtype == ZB_BF16)
        p->k->matmul_bf16(y, ld_y, x.b, x.ld_b, m, w, row0, row1, accumulate);
    else if (w->dtype < ZB_N_FLOATS)
        p->k->matmul(y, ld_y, x.x, x.ld, m, w, row0, row1, accumulate);
    else if (bytes8 && w->order != NULL)
        ordered_product(p, y, ld_y, x, m, w, row0, row1, accumulate, worker);
    else if (bytes8) {
        const zb_q8_rows q = rows8(&x.q);
        p->k->matmul_q8(y, ld_y, &q, m, w, row0, row1, accumulate);
    } else
        unpacked_product(p, y, ld_y, x, m, w, row0, row1, accumulate);
}

static void product_tile(const product_run *r, const product *d, size_t row0, size_t row1, int worker)
{
    const pass *p = r->p;
    if (d->w.rows == 0)
        return;
    zb_matmul(p, d->y, d->ld_y, d->x, p->rows, &d->w, row0, row1, d->accumulate, worker);
    for (size_t i = 0; d->lora != NULL && i < r->n_low; i++)
        if (r->low[i].lora == d->lora)
            zb_lora_add(p, d->y, d->ld_y, &r->low[i], p->rows, d->lora_row, row0, row1);
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
        product_tile(r, &j->parts[k], row0, row1, worker);
    if (j->after != NULL)
        j->after(r->p, j->arg, row0, row1, worker);
}

static size_t tile_rows(const pass *p, const product_job *j, size_t rows)
{
    const zb_mat *w = &j->parts[0].w;
    size_t tile = TILE_ROWS;
    if (p->rows <= ZB_FEW_ROWS && w->rows > 0) {
        tile = TILE_BYTES / (zb_row_bytes(w->dtype, w->cols) + 1);
        tile = p->rows > 1 && tile < FEW_TILE_ROWS ? FEW_TILE_ROWS : tile;
        tile = least(tile, ceil_div(rows, 4 * (size_t)p->n_threads)); /* enough of them to share */
        tile = tile < TILE_ROWS ? TILE_ROWS : tile;
    }
    if (w->order != NULL) /* every task brings x into that order */
        tile = ceil_div(rows, (size_t)p->n_threads);
    size_t unit = j->unit > 0 ? j->unit : TILE_ROWS;
    while (unit % ZB_TURN_ROWS != 0) /* turned rows can be cut there only */
        unit *= 2;
    return ceil_div(tile, unit) * unit;
}

/* The low products of all places with LoRA come first. Returns their arithmetic. */
static double make_low(product_run *r)
{
    const pass *p = r->p;
    double flops = 0;
    for (size_t i = 0; i < r->n; i++)
        for (size_t k = 0; k < r->jobs[i].n_parts; k++) {
            const product *d = &r->jobs[i].parts[k];
            size_t j = 0;
            while (j < r->n_low && r->low[j].lora != d->lora)
                j++;
            if (d->lora == NULL || d->w.rows == 0 || j < r->n_low || j == ZB_MOST_LORAS)
                continue;
            r->low[r->n_low++] =
                (zb_low){d->lora, d->x.x, d->x.ld, p->ws->low + j * zb_lora_step(&p->m->weights), p->ws->ld_low};
            flops += 2 * (double)d->lora->a.rows * (double)(d->lora->a.cols + d->lora->b.rows) * (double)p->rows;
        }
    zb_lora_low(p, r->low, r->n_low, p->rows);
    return flops;
}

void zb_multiply(const pass *p, zb_op op, const product_job *jobs, size_t n_jobs)
{
    const double start = zb_profile_now(&p->ws->profile);
    product_run r = {.p = p, .jobs = jobs, .n = n_jobs};
    size_t tasks = 0;
    double bytes = 0, flops = p->m->weights.lora_rank > 0 ? make_low(&r) : 0;
    for (size_t i = 0; i < n_jobs; i++) {
        const size_t rows = job_rows(&jobs[i]);
        r.tile[i] = rows > 0 ? tile_rows(p, &jobs[i], rows) : 1;
        r.first_task[i] = tasks;
        tasks += ceil_div(rows, r.tile[i]);
        for (size_t k = 0; k < jobs[i].n_parts; k++) {
            const zb_mat *w = &jobs[i].parts[k].w;
            if (p->m->collector != NULL)
                zb_imatrix_collect(p->m->collector, w, jobs[i].parts[k].x.x, jobs[i].parts[k].x.ld, p->rows);
            bytes += (double)w->rows * (double)zb_row_bytes(w->dtype, w->cols);
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
    return (operand){x, ld, p->ws->rounded[which], p->ws->rounded_width[which], p->ws->bytes8[which]};
}

operand zb_operand_from(operand o, size_t col)
{
    o.x += col;
    o.b = o.b == NULL ? NULL : o.b + col;
    if (o.q.q != NULL) {
        o.q.q += col;
        o.q.scale += col / ZB_Q8_RUN;
        o.q.sum += col / 16;
    }
    return o;
}

void zb_round_row(const pass *p, operand o, size_t row, size_t col, size_t n)
{
    if (o.b != NULL)
        p->k->to_bf16(o.b + row * o.ld_b + col, o.x + row * o.ld + col, n);
    const size_t n8 = n / 32 * 32; /* no matrix in blocks has other lengths */
    if (o.q.q != NULL && n8 > 0)
        to_row8(p, &o.q, row, col, o.x + row * o.ld + col, n8);
}

zb_mat zb_mat_rows(const zb_mat *m, size_t first, size_t n)
{
    zb_mat part = *m;
    part.data = zb_mat_row(m, first);
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

/* Small row work is not worth waking anybody: 4 rows to a task, so that one to four rows stay with the caller. More of
 * many: a processor that reads row after row fetches the next by itself. */
void zb_each_row(const pass *p, row_fn fn, const void *arg)
{
    enum { LEAST = 4, MOST = 32, TASKS = 32 };
    const size_t share = p->rows / TASKS;
    row_run r = {p, fn, arg, share < LEAST ? LEAST : least(share, MOST)};
    zb_pool_run_on(p->m->pool, p->n_threads, ceil_div(p->rows, r.per_task), row_task, &r);
}
