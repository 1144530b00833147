/* optimizer.c — see optimizer.h. Work is cut into ranges of floats that do not depend on the number of threads. */
#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define RANGE ((size_t)1 << 15) /* floats of a task */

zamba_status zb_optimizer_open(zb_optimizer *o, const zb_params *p, size_t begin, size_t end, zamba_error *err)
{
    *o = (zb_optimizer){.p = p, .begin = begin, .end = end};
    const size_t n = (end - begin) / RANGE + 1;
    o->sums = calloc(n, sizeof *o->sums);
    return o->sums != NULL ? ZAMBA_OK : zb_fail_memory(err, "optimizer", n * sizeof *o->sums);
}

void zb_optimizer_close(zb_optimizer *o)
{
    zb_free_aligned(o->m);
    zb_free_aligned(o->v);
    free(o->sums);
    *o = (zb_optimizer){0};
}

zamba_status zb_optimizer_reserve(zb_optimizer *o, zamba_error *err)
{
    const size_t bytes = (o->end - o->begin) * sizeof(float);
    if (o->m != NULL)
        return ZAMBA_OK;
    o->m = zb_calloc_aligned(bytes > 0 ? bytes : 1);
    o->v = zb_calloc_aligned(bytes > 0 ? bytes : 1);
    if (o->m != NULL && o->v != NULL)
        return ZAMBA_OK;
    zb_free_aligned(o->m);
    zb_free_aligned(o->v);
    o->m = o->v = NULL;
    return zb_fail_memory(err, "the optimizer's moments", 2 * bytes);
}

static void run_ranges(const zb_params *p, size_t n_floats, zb_task_fn fn, void *ctx)
{
    zb_pool_run_on(p->pool, p->n_threads, (n_floats + RANGE - 1) / RANGE, fn, ctx);
}

/* ---- the norm ---- */

static void sum_task(void *ctx, size_t task, int worker)
{
    const zb_optimizer *o = ctx;
    const size_t at = o->begin + task * RANGE, n = o->end - at < RANGE ? o->end - at : RANGE;
    (void)worker;
    o->sums[task] = o->p->kernels->sum_squares(o->p->grad + at, n);
}

double zb_optimizer_sum_squares(const zb_optimizer *o)
{
    double sum = 0;
    run_ranges(o->p, o->end - o->begin, sum_task, (void *)o);
    for (size_t i = 0; i < (o->end - o->begin + RANGE - 1) / RANGE; i++)
        sum += o->sums[i];
    return sum;
}

/* ---- the update ---- */

typedef struct update_run {
    const zb_optimizer *o;
    zb_adamw with, without; /* decay */
    int decay_all;
} update_run;

/* The tensor in which a float stands. */
static size_t tensor_at(const zb_params *p, size_t at)
{
    size_t first = 0, end = p->n;
    while (end - first > 1) {
        const size_t mid = (first + end) / 2;
        if (p->at[mid] <= at)
            first = mid;
        else
            end = mid;
    }
    return first;
}

static void update_task(void *ctx, size_t task, int worker)
{
    const update_run *r = ctx;
    const zb_optimizer *o = r->o;
    const zb_params *p = o->p;
    const size_t begin = o->begin + task * RANGE, end = o->end - begin < RANGE ? o->end : begin + RANGE;
    (void)worker;
    for (size_t i = tensor_at(p, begin), at = begin; at < end; i++) {
        const size_t last = p->at[i + 1] < end ? p->at[i + 1] : end;
        const zb_adamw *how = r->decay_all || p->specs[i].decay ? &r->with : &r->without;
        if (last > at)
            p->kernels->adamw(p->value + at, o->m + (at - o->begin), o->v + (at - o->begin), p->grad + at, last - at,
                              how);
        at = last;
    }
}

void zb_optimizer_update(zb_optimizer *o, const zb_update *u)
{
    o->updates++;
    update_run r = {.o = o, .decay_all = u->decay_all};
    r.with = (zb_adamw){.lr = (float)u->rate,
                        .b1 = (float)u->beta1,
                        .b2 = (float)u->beta2,
                        .eps = (float)u->epsilon,
                        .decay = (float)u->decay,
                        .c1 = (float)(1 - pow(u->beta1, (double)o->updates)),
                        .c2 = (float)(1 - pow(u->beta2, (double)o->updates)),
                        .g_scale = (float)u->gradient};
    r.without = r.with;
    r.without.decay = 0;
    run_ranges(o->p, o->end - o->begin, update_task, &r);
}

/* ---- gradients ---- */

static void clear_range(void *ctx, size_t begin, size_t end, int worker)
{
    const zb_params *p = ctx;
    (void)worker;
    memset(p->grad + begin, 0, (end - begin) * sizeof *p->grad);
}

void zb_gradients_clear(const zb_params *p)
{
    zb_params_each(p, clear_range, (void *)p);
}

typedef struct scale_run {
    const zb_params *p;
    float by;
} scale_run;

static void scale_range(void *ctx, size_t begin, size_t end, int worker)
{
    const scale_run *r = ctx;
    (void)worker;
    r->p->kernels->scale(r->p->grad + begin, r->p->grad + begin, r->by, end - begin);
}

void zb_gradients_scale(const zb_params *p, float by)
{
    scale_run r = {p, by};
    zb_params_each(p, scale_range, &r);
}
