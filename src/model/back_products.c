/* back_products.c — products backwards, and sums over rows. A product y = x w^T gives back dx = dy w and dw += dy^T x;
 * both are products of the kernels' one form (rows times rows of a matrix), once what is multiplied has been
 * transposed: w and x a strip of columns at a time in a worker's scratch, dy once and for all. Every element is summed
 * in one order: over all rows of the microbatch, whatever the threads. */
#include <string.h>

#include "model/tape_slots.h"

#define STRIP     ((size_t)64)  /* columns of a strip of plain weights */
#define WIDE      ((size_t)256) /* of one in blocks, which may be as long */
#define PIECE     ((size_t)64)  /* rows that are unpacked together */
#define MOST_JOBS 4

/* ---- gradients by outputs, prepared ---- */

void zb_back_begin(zb_tape *t)
{
    t->prepared_at = 0;
}

static void *take(zb_tape *t, size_t floats)
{
    float *p = t->prepared + t->prepared_at;
    t->prepared_at += (floats + 15) / 16 * 16;
    return p;
}

typedef struct prepare_run {
    const zb_tape *t;
    zb_dy *dy;
} prepare_run;

static void prepare_task(void *ctx, size_t task, int worker)
{
    const prepare_run *r = ctx;
    const zb_kernels *k = r->t->pass.k;
    const zb_dy *dy = r->dy;
    const size_t row0 = task * PIECE, row1 = least(row0 + PIECE, dy->rows);
    (void)worker;
    for (size_t i = row0; dy->b != NULL && i < row1; i++)
        k->to_bf16(dy->b + i * dy->ld_b, dy->y + i * dy->ld, dy->n);
    if (dy->t == NULL)
        return;
    if (dy->b != NULL)
        k->transpose_16((uint16_t *)dy->t + row0, dy->ld_t, dy->b + row0 * dy->ld_b, dy->ld_b, row1 - row0, dy->n);
    else
        k->transpose((float *)dy->t + row0, dy->ld_t, dy->y + row0 * dy->ld, dy->ld, row1 - row0, dy->n);
}

zb_dy zb_back_prepare(zb_tape *t, const float *y, size_t ld, size_t n, size_t rows, int weights)
{
    zb_dy dy = {.y = y, .ld = ld, .n = n, .rows = rows};
    if (n == 0)
        return dy;
    if (t->m->bf16) {
        dy.ld_b = 2 * zb_row_length(n / 2 + 1);
        dy.b = take(t, rows * dy.ld_b / 2);
        dy.ld_t = 2 * zb_row_length(rows / 2 + 1);
        dy.t = weights ? take(t, n * dy.ld_t / 2) : NULL;
    } else {
        dy.ld_t = zb_row_length(rows);
        dy.t = weights ? take(t, n * dy.ld_t) : NULL;
    }
    prepare_run r = {t, &dy};
    zb_pool_run_on(t->m->pool, t->m->n_threads_batch, ceil_div(rows, PIECE), prepare_task, &r);
    return dy;
}

/* ---- the products ---- */

typedef struct multiply_run {
    const zb_tape *t;
    const zb_back_job *jobs;
    size_t n, first_task[MOST_JOBS + 1], x_tasks[MOST_JOBS], strip[MOST_JOBS], split;
} multiply_run;

static size_t width(const zb_back_job *j)
{
    for (size_t i = 0; i < j->n_parts; i++)
        if (j->parts[i].w.rows > 0)
            return j->parts[i].w.cols;
    return 0;
}

static size_t strip_of(const zb_back_job *j)
{
    for (size_t i = 0; i < j->n_parts; i++)
        if (j->parts[i].w.rows > 0 && zb_dtype_block(j->parts[i].w.dtype) > STRIP)
            return WIDE;
    return STRIP;
}

/* Columns [c0, c1) of w as rows: [c1 - c0, w.rows], in what products compute in. */
static zb_mat transposed_weights(const zb_tape *t, const zb_mat *w, size_t c0, size_t c1, float *scratch)
{
    const zb_kernels *k = t->pass.k;
    const int bf16 = t->m->bf16;
    zb_mat m = {.data = scratch, .rows = c1 - c0, .cols = w->rows, .dtype = bf16 ? ZB_BF16 : ZB_F32};
    m.ld = bf16 ? 2 * zb_row_length(w->rows / 2 + 1) : zb_row_length(w->rows);
    if (bf16 && w->dtype == ZB_BF16) {
        k->transpose_16((uint16_t *)scratch, m.ld, (const uint16_t *)w->data + c0, w->ld, w->rows, c1 - c0);
        return m;
    }
    if (!bf16 && w->dtype == ZB_F32) {
        k->transpose(scratch, m.ld, (const float *)w->data + c0, w->ld, w->rows, c1 - c0);
        return m;
    }
    float piece[PIECE * WIDE];
    for (size_t r = 0; r < w->rows; r += PIECE) {
        const size_t n = least(PIECE, w->rows - r);
        for (size_t i = 0; i < n; i++)
            k->unpack(piece + i * WIDE, (const char *)zb_mat_row(w, r + i) + zb_row_bytes(w->dtype, c0), w->dtype,
                      c1 - c0);
        if (bf16)
            k->transpose_to_bf16((uint16_t *)scratch + r, m.ld, piece, WIDE, n, c1 - c0);
        else
            k->transpose(scratch + r, m.ld, piece, WIDE, n, c1 - c0);
    }
    return m;
}

static void multiply(const zb_tape *t, float *y, size_t ld_y, const float *x, const uint16_t *b, size_t ld, size_t m,
                     const zb_mat *w, int accumulate)
{
    if (t->m->bf16)
        t->pass.k->matmul_bf16(y, ld_y, b, ld, m, w, 0, w->rows, accumulate);
    else
        t->pass.k->matmul(y, ld_y, x, ld, m, w, 0, w->rows, accumulate);
}

/* Columns [c0, c1) of dx, some of the rows. */
static void x_task(const zb_tape *t, const zb_back_job *j, size_t c0, size_t c1, size_t part, size_t parts, int worker)
{
    int accumulate = j->accumulate;
    for (size_t i = 0; i < j->n_parts; i++) {
        const zb_back_part *d = &j->parts[i];
        if (d->w.rows == 0)
            continue;
        const size_t step = ceil_div(ceil_div(d->dy.rows, parts), PIECE) * PIECE, row0 = least(part * step, d->dy.rows),
                     row1 = least(row0 + step, d->dy.rows);
        const zb_mat w = transposed_weights(t, &d->w, c0, c1, zb_tape_worker(t, worker));
        if (row1 > row0)
            multiply(t, j->dx + row0 * j->ld_dx + c0, j->ld_dx, d->dy.y + row0 * d->dy.ld, d->dy.b + row0 * d->dy.ld_b,
                     t->m->bf16 ? d->dy.ld_b : d->dy.ld, row1 - row0, &w, accumulate);
        accumulate = 1;
    }
}

/* Columns [c0, c1) of all dw, some of their rows. */
static void w_task(const zb_tape *t, const zb_back_job *j, size_t c0, size_t c1, size_t part, size_t parts, int worker)
{
    const zb_kernels *k = t->pass.k;
    const float *x = NULL;
    float *scratch = zb_tape_worker(t, worker);
    for (size_t i = 0; i < j->n_parts; i++) {
        const zb_back_part *d = &j->parts[i];
        if (d->w.rows == 0 || d->dw == NULL)
            continue;
        const size_t rows = d->dy.rows, step = ceil_div(ceil_div(d->dy.n, parts), PIECE) * PIECE,
                     row0 = least(part * step, d->dy.n), row1 = least(row0 + step, d->dy.n);
        const zb_mat w = {scratch, c1 - c0, rows, t->m->bf16 ? ZB_BF16 : ZB_F32, d->dy.ld_t, NULL};
        if (row1 == row0)
            continue;
        if (x != d->x && t->m->bf16)
            k->transpose_to_bf16((uint16_t *)scratch, w.ld, d->x + c0, d->ld_x, rows, c1 - c0);
        else if (x != d->x)
            k->transpose(scratch, w.ld, d->x + c0, d->ld_x, rows, c1 - c0);
        x = d->x;
        multiply(t, d->dw + row0 * d->w.cols + c0, d->w.cols, (const float *)d->dy.t + row0 * d->dy.ld_t,
                 (const uint16_t *)d->dy.t + row0 * d->dy.ld_t, d->dy.ld_t, row1 - row0, &w, 1);
    }
}

static void multiply_task(void *ctx, size_t task, int worker)
{
    const multiply_run *r = ctx;
    size_t i = 0;
    while (task >= r->first_task[i + 1])
        i++;
    const zb_back_job *j = &r->jobs[i];
    task -= r->first_task[i];
    const int of_x = task < r->x_tasks[i];
    task -= of_x ? 0 : r->x_tasks[i];
    const size_t c0 = task / r->split * r->strip[i], c1 = least(c0 + r->strip[i], width(j));
    (of_x ? x_task : w_task)(r->t, j, c0, c1, task % r->split, r->split, worker);
}

void zb_back_multiply(zb_tape *t, const zb_back_job *jobs, size_t n_jobs)
{
    multiply_run r = {.t = t, .jobs = jobs, .n = n_jobs, .split = 1};
    const size_t threads = (size_t)t->m->n_threads_batch;
    size_t strips = 0, tasks = 0;
    for (size_t i = 0; i < n_jobs; i++) {
        r.strip[i] = strip_of(&jobs[i]);
        strips += 2 * ceil_div(width(&jobs[i]), r.strip[i]);
    }
    while (strips > 0 && strips * r.split < 4 * threads && r.split < 16)
        r.split *= 2;
    for (size_t i = 0; i < n_jobs; i++) {
        const size_t each = ceil_div(width(&jobs[i]), r.strip[i]) * r.split;
        int wanted = 0;
        for (size_t k = 0; k < jobs[i].n_parts; k++)
            wanted |= jobs[i].parts[k].w.rows > 0 && jobs[i].parts[k].dw != NULL;
        r.first_task[i] = tasks;
        r.x_tasks[i] = jobs[i].dx != NULL ? each : 0;
        tasks += r.x_tasks[i] + (wanted ? each : 0);
    }
    for (size_t i = n_jobs; i <= MOST_JOBS; i++)
        r.first_task[i] = tasks;
    zb_pool_run_on(t->m->pool, t->m->n_threads_batch, tasks, multiply_task, &r);
}

/* ---- sums over rows ---- */

typedef struct sum_run {
    const zb_tape *t;
    float *d;
    const float *y;
    size_t ld, n, rows;
} sum_run;

static void sum_task(void *ctx, size_t task, int worker)
{
    const sum_run *r = ctx;
    const size_t c0 = task * STRIP, n = least(STRIP, r->n - c0);
    (void)worker;
    for (size_t i = 0; i < r->rows; i++)
        r->t->pass.k->add(r->d + c0, r->y + i * r->ld + c0, n);
}

void zb_back_sum(zb_tape *t, float *d, const float *y, size_t ld, size_t n, size_t rows)
{
    sum_run r = {t, d, y, ld, n, rows};
    if (d != NULL)
        zb_pool_run_on(t->m->pool, t->m->n_threads_batch, ceil_div(n, STRIP), sum_task, &r);
}

typedef struct rows_run {
    zb_tape *t;
    zb_back_rows_fn fn;
    const void *arg;
    size_t n;
} rows_run;

static void rows_task(void *ctx, size_t task, int worker)
{
    const rows_run *r = ctx;
    float *partial = r->t->partials + task * r->n;
    (void)worker;
    memset(partial, 0, r->n * sizeof *partial);
    r->fn(r->t, r->arg, task * ZB_BACK_ROWS, least((task + 1) * ZB_BACK_ROWS, r->t->pass.rows), partial);
}

void zb_back_rows(zb_tape *t, float *d, size_t n, zb_back_rows_fn fn, const void *arg)
{
    rows_run r = {t, fn, arg, n};
    const size_t blocks = ceil_div(t->pass.rows, ZB_BACK_ROWS);
    zb_pool_run_on(t->m->pool, t->m->n_threads_batch, blocks, rows_task, &r);
    zb_back_sum(t, d, t->partials, n, n, blocks);
}
