/* back_products.c — products backwards, and sums over rows. A product y = x w^T gives back dx = dy w and dw += dy^T x:
 * sums of outer products. In f32 these take everything as it stands. In bf16 they take pairs of what is summed over: dy
 * along its rows for dx and along its columns for dw, both made once and for all; w and x in pairs of rows, a strip of
 * columns at a time in a worker's scratch. Every element is summed in one order: over all rows of the microbatch,
 * whatever the threads. */
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
    for (size_t i = row0; i < row1; i++) {
        k->to_bf16(dy->b + i * dy->ld_b, dy->y + i * dy->ld, dy->n);
        dy->b[i * dy->ld_b + dy->n] = 0; /* of the last pair, if n is odd */
    }
    if (dy->pairs != NULL)
        k->pair_rows(dy->pairs + row0 / 2 * dy->ld_pairs, dy->ld_pairs, dy->b + row0 * dy->ld_b, ZB_BF16, dy->ld_b,
                     row1 - row0, dy->n);
}

zb_dy zb_back_prepare(zb_tape *t, const float *y, size_t ld, size_t n, size_t rows, int weights)
{
    weights |= t->m->weights.lora_rank > 0; /* B of LoRA may want it though w does not */
    zb_dy dy = {.y = y, .ld = ld, .n = n, .rows = rows};
    if (n == 0 || !t->m->bf16)
        return dy;
    dy.ld_b = 2 * zb_row_length(n / 2 + 1);
    dy.b = take(t, rows * dy.ld_b / 2);
    dy.ld_pairs = zb_row_length(n);
    dy.pairs = weights ? take(t, ceil_div(rows, 2) * dy.ld_pairs) : NULL;
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

/* Rows [r, r + n) of w, columns [c0, c1), as f32. */
static void unpack_piece(const zb_tape *t, float *piece, const zb_mat *w, size_t r, size_t n, size_t c0, size_t c1)
{
    for (size_t i = 0; i < n; i++)
        t->pass.k->unpack(piece + i * WIDE, (const char *)zb_mat_row(w, r + i) + zb_row_bytes(w->dtype, c0), w->dtype,
                          c1 - c0);
}

/* Columns [c0, c1) of w in pairs of rows: [w.rows / 2, c1 - c0]. */
static void pair_weights(const zb_tape *t, uint32_t *pairs, const zb_mat *w, size_t c0, size_t c1)
{
    const size_t cols = c1 - c0;
    float piece[PIECE * WIDE];
    if (w->dtype == ZB_BF16) {
        t->pass.k->pair_rows(pairs, cols, (const uint16_t *)w->data + c0, ZB_BF16, w->ld, w->rows, cols);
        return;
    }
    for (size_t r = 0; r < w->rows; r += PIECE) {
        const size_t n = least(PIECE, w->rows - r);
        unpack_piece(t, piece, w, r, n, c0, c1);
        t->pass.k->pair_rows(pairs + r / 2 * cols, cols, piece, ZB_F32, WIDE, n, cols);
    }
}

/* dx [rows from row0 on, columns from c0 on] [+]= dy w in f32. */
static void times_weights(const zb_tape *t, float *dx, size_t ld_dx, const zb_dy *dy, size_t row0, size_t rows,
                          const zb_mat *w, size_t c0, size_t c1, zb_outer how)
{
    const float *y = dy->y + row0 * dy->ld;
    if (w->dtype == ZB_F32) {
        t->pass.k->outer(dx, ld_dx, rows, c1 - c0, y, dy->ld, 1, (const float *)w->data + c0, w->ld, w->rows, how);
        return;
    }
    float piece[PIECE * WIDE];
    for (size_t r = 0; r < w->rows; r += PIECE) {
        const size_t n = least(PIECE, w->rows - r);
        unpack_piece(t, piece, w, r, n, c0, c1);
        t->pass.k->outer(dx, ld_dx, rows, c1 - c0, y + r, dy->ld, 1, piece, WIDE, n, r > 0 ? ZB_OUTER_ADD_SUMS : how);
    }
}

/* Columns [c0, c1) of dx, some of the rows. */
static void x_task(const zb_tape *t, const zb_back_job *j, size_t c0, size_t c1, size_t part, size_t parts, int worker)
{
    uint32_t *pairs = (uint32_t *)(void *)zb_tape_worker(t, worker);
    zb_outer how = j->accumulate ? ZB_OUTER_ADD_SUMS : ZB_OUTER_SET_SUMS;
    for (size_t i = 0; i < j->n_parts; i++) {
        const zb_back_part *d = &j->parts[i];
        if (d->w.rows == 0)
            continue;
        const size_t step = ceil_div(ceil_div(d->dy.rows, parts), PIECE) * PIECE, row0 = least(part * step, d->dy.rows),
                     rows = least(step, d->dy.rows - row0);
        float *dx = j->dx + row0 * j->ld_dx + c0;
        if (rows > 0 && t->m->bf16) {
            pair_weights(t, pairs, &d->w, c0, c1);
            t->pass.k->outer_bf16(dx, j->ld_dx, rows, c1 - c0, d->dy.b + row0 * d->dy.ld_b, d->dy.ld_b / 2, 1, pairs,
                                  c1 - c0, ceil_div(d->w.rows, 2), how);
        } else if (rows > 0)
            times_weights(t, dx, j->ld_dx, &d->dy, row0, rows, &d->w, c0, c1, how);
        how = ZB_OUTER_ADD_SUMS;
    }
}

/* Columns [c0, c1) of all dw, some of their rows. */
static void w_task(const zb_tape *t, const zb_back_job *j, size_t c0, size_t c1, size_t part, size_t parts, int worker)
{
    const zb_kernels *k = t->pass.k;
    const float *paired = NULL; /* whose columns stand in the scratch */
    uint32_t *pairs = (uint32_t *)(void *)zb_tape_worker(t, worker);
    for (size_t i = 0; i < j->n_parts; i++) {
        const zb_back_part *d = &j->parts[i];
        if (d->w.rows == 0 || d->dw == NULL)
            continue;
        const size_t rows = d->dy.rows, step = ceil_div(ceil_div(d->dy.n, parts), PIECE) * PIECE,
                     row0 = least(part * step, d->dy.n), n = least(step, d->dy.n - row0);
        float *dw = d->dw + row0 * d->w.cols + c0;
        if (n > 0 && t->m->bf16) {
            if (paired != d->x)
                k->pair_rows(pairs, c1 - c0, d->x + c0, ZB_F32, d->ld_x, rows, c1 - c0);
            paired = d->x;
            k->outer_bf16(dw, d->w.cols, n, c1 - c0, d->dy.pairs + row0, 1, d->dy.ld_pairs, pairs, c1 - c0,
                          ceil_div(rows, 2), ZB_OUTER_ON);
        } else if (n > 0)
            k->outer(dw, d->w.cols, n, c1 - c0, d->dy.y + row0, 1, d->dy.ld, d->x + c0, d->ld_x, rows, ZB_OUTER_ON);
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

static void multiply(const zb_tape *t, const zb_back_job *jobs, size_t n_jobs)
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

/* ---- LoRA beside them: y = x w^T + low b^T, low = scale (drop(x) a^T) ---- */

typedef struct drop_run {
    const zb_tape *t;
    const zb_lora *lora;
    float *y, *dx; /* y: [rows, cols]; dx: NULL, or what they are added to */
    const float *x;
    size_t ld_y, ld_x, ld_dx, rows;
} drop_run;

static void drop_task(void *ctx, size_t task, int worker)
{
    const drop_run *r = ctx;
    const size_t row0 = task * PIECE, row1 = least(row0 + PIECE, r->rows), cols = r->lora->a.cols;
    (void)worker;
    zb_lora_drop(r->t, r->lora, r->y + row0 * r->ld_y, r->ld_y, r->x + row0 * r->ld_x, r->ld_x, row0, row1 - row0);
    for (size_t i = row0; r->dx != NULL && i < row1; i++)
        r->t->pass.k->add(r->dx + i * r->ld_dx, r->y + i * r->ld_y, cols);
}

/* The part of an A whose input was dropped: of its own, because not all of x belongs to it. */
static void dropped_part(zb_tape *t, const zb_back_job *j, zb_back_part part, const zb_lora *lora)
{
    const size_t cols = lora->a.cols, rows = part.dy.rows, tasks = ceil_div(rows, PIECE);
    drop_run in = {t, lora, t->dropped, NULL, part.x, cols, part.ld_x, 0, rows};
    zb_pool_run_on(t->m->pool, t->m->n_threads_batch, tasks, drop_task, &in);
    part.x = t->dropped;
    part.ld_x = cols;
    multiply(t, &(zb_back_job){.parts = {part}, .n_parts = 1, .dx = t->ddropped, .ld_dx = cols}, 1);
    drop_run out = {t, lora, t->ddropped, j->dx, t->ddropped, cols, cols, j->ld_dx, rows};
    if (j->dx != NULL)
        zb_pool_run_on(t->m->pool, t->m->n_threads_batch, tasks, drop_task, &out);
}

/* low is made again, then db += dy^T low, dlow = scale (dy b), da += dlow^T x, and dlow a belongs to dx. */
static void with_loras(zb_tape *t, const zb_back_job *jobs, size_t n_jobs)
{
    const size_t step = zb_lora_step(&t->m->weights), ld = t->ws->ld_low;
    const int drops = zb_drops_lora(t);
    zb_back_job all[MOST_JOBS];
    zb_low low[ZB_MOST_LORAS];
    zb_back_part up[ZB_MOST_LORAS], down[ZB_MOST_LORAS];
    zb_back_job *of[ZB_MOST_LORAS];
    size_t n = 0;
    memcpy(all, jobs, n_jobs * sizeof *jobs);
    for (size_t i = 0; i < n_jobs; i++)
        for (size_t k = 0; k < jobs[i].n_parts; k++) {
            const zb_back_part *d = &jobs[i].parts[k];
            if (d->w.rows == 0 || d->lora == NULL || n == ZB_MOST_LORAS)
                continue;
            low[n] = (zb_low){d->lora, d->x, d->ld_x, t->ws->low + n * step, ld};
            up[n] = (zb_back_part){d->lora->b, d->lora->db, d->dy, low[n].y, ld, NULL};
            of[n] = &all[i];
            n++;
        }
    if (n > 0)
        zb_lora_low(&t->pass, low, n, up[0].dy.rows);
    for (size_t i = 0; i < n; i++) {
        const zb_lora *lora = low[i].lora;
        const size_t rows = up[i].dy.rows, rank = lora->a.rows;
        float *d = t->dlora + i * step;
        multiply(t, &(zb_back_job){.parts = {up[i]}, .n_parts = 1, .dx = d, .ld_dx = ld}, 1);
        for (size_t r = 0; r < rows && lora->scale != 1.0f; r++)
            t->pass.k->scale(d + r * ld, d + r * ld, lora->scale, rank);
        down[i] =
            (zb_back_part){lora->a, lora->da, zb_back_prepare(t, d, ld, rank, rows, 1), low[i].x, low[i].ld_x, NULL};
        if (!drops && of[i]->n_parts < ZB_BACK_PARTS)
            of[i]->parts[of[i]->n_parts++] = down[i];
    }
    multiply(t, all, n_jobs);
    for (size_t i = 0; i < n && drops; i++)
        dropped_part(t, of[i], down[i], low[i].lora);
}

void zb_back_multiply(zb_tape *t, const zb_back_job *jobs, size_t n_jobs)
{
    if (t->m->weights.lora_rank > 0)
        with_loras(t, jobs, n_jobs);
    else
        multiply(t, jobs, n_jobs);
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
