/* bb_model.c — a backbone's life: its memory, fresh weights, what is asked of it and put into it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/bb_model.h"
#include "core/fixmath.h"
#include "core/rng.h"

/* ---- opening ---- */

static zamba_status check_run(const zamba_backbone_run *run, zamba_error *err)
{
    if (run->size != sizeof *run)
        return zb_fail(err, ZAMBA_E_ARG,
                       "backbone run options of %zu bytes, this library's have %zu (begin with "
                       "zamba_backbone_run_defaults())",
                       run->size, sizeof *run);
    if ((unsigned)run->weights > ZAMBA_BACKBONE_INT8 || (unsigned)run->non_finite > ZAMBA_BACKBONE_NON_FINITE_PASS)
        return zb_fail(err, ZAMBA_E_ARG, "backbone: weights %d or non_finite %d is none of the choices",
                       (int)run->weights, (int)run->non_finite);
    if (run->n_threads < 0 || run->n_threads > 1024)
        return zb_fail(err, ZAMBA_E_ARG, "backbone: n_threads %d (0 to 1024)", run->n_threads);
    return ZAMBA_OK;
}

zamba_status zb_bb_open(zamba_backbone **out, const zamba_backbone_options *o, const zamba_backbone_run *run,
                        zamba_error *err)
{
    const zamba_backbone_run given = run ? *run : zamba_backbone_run_defaults();
    *out = NULL;
    zamba_status st = check_run(&given, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_backbone *b = calloc(1, sizeof *b);
    if (b == NULL)
        return zb_fail_memory(err, "backbone", sizeof *b);
    b->run = given;
    b->k = zb_kernels_get();
    st = zb_bb_plan_build(&b->plan, o, err);
    if (st == ZAMBA_OK) {
        const zb_bb_plan *p = &b->plan;
        const size_t bytes = p->n_floats * sizeof(float);
        b->params = zb_alloc_large(bytes);
        b->derived = zb_alloc_aligned((p->derived_floats + 1) * sizeof(float));
        b->ones = zb_alloc_aligned(p->ffn * sizeof(float));
        b->packed = calloc(p->n_linears + 1, sizeof *b->packed);
        if (!b->params || !b->derived || !b->ones || !b->packed)
            st = zb_fail_memory(err, "a backbone's weights", bytes);
    }
    if (st == ZAMBA_OK) {
        memset(b->params, 0, b->plan.n_floats * sizeof(float));
        for (size_t i = 0; i < b->plan.ffn; i++)
            b->ones[i] = 1;
        const int threads = given.n_threads > 0 ? given.n_threads : zb_pool_cores();
        if (threads > 1)
            st = zb_pool_open(&b->pool, threads, err);
    }
    if (st != ZAMBA_OK) {
        zamba_backbone_close(b);
        return st;
    }
    *out = b;
    return ZAMBA_OK;
}

void zamba_backbone_close(zamba_backbone *b)
{
    if (b == NULL)
        return;
    zb_pool_close(b->pool);
    zb_free_aligned(b->params);
    zb_free_aligned(b->derived);
    zb_free_aligned(b->ones);
    zb_free_aligned(b->packed_data);
    free(b->packed);
    zb_bb_plan_free(&b->plan);
    free(b);
}

/* ---- fresh weights ---- */

static double uniform(zb_rng *g)
{
    return 2 * zb_rng_f64(g) - 1;
}

static void fill_fresh(float *to, const zb_bb_param *r, zb_rng *g)
{
    const double low = zb_fix_log((double)ZB_BB_DT_MIN), high = zb_fix_log((double)ZB_BB_DT_MAX);
    const double glorot = sqrt(6.0 / (double)(r->shape[0] + r->shape[1])), conv = 1 / sqrt((double)r->shape[1]);
    for (size_t i = 0; i < r->count; i++) {
        double x = 0;
        switch (r->fresh) {
        case ZB_BB_GLOROT:
            x = glorot * uniform(g);
            break;
        case ZB_BB_ZERO:
            break;
        case ZB_BB_ONE:
            x = 1;
            break;
        case ZB_BB_CONV:
            x = conv * uniform(g);
            break;
        case ZB_BB_A_LOG:
            x = zb_fix_log((double)(i % r->shape[1] + 1));
            break;
        case ZB_BB_DT_BIAS: { /* the inverse of softplus */
            const double dt = zb_fix_exp(low + (high - low) * zb_rng_f64(g));
            x = dt + zb_fix_log(1 - zb_fix_exp(-dt));
            break;
        }
        }
        to[i] = (float)x;
    }
}

zamba_status zamba_backbone_create(zamba_backbone **out, const zamba_backbone_options *o, const zamba_backbone_run *run,
                                   uint64_t seed, zamba_error *err)
{
    if (out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone: nowhere to put it");
    zamba_status st = zb_bb_open(out, o, run, err);
    if (st != ZAMBA_OK)
        return st;
    zb_rng g;
    zb_rng_seed(&g, seed);
    for (size_t i = 0; i < (*out)->plan.n_params; i++) {
        const zb_bb_param *r = &(*out)->plan.params[i];
        fill_fresh((*out)->params + r->offset, r, &g);
    }
    st = zb_bb_changed(*out, 1, err);
    if (st != ZAMBA_OK) {
        zamba_backbone_close(*out);
        *out = NULL;
    }
    return st;
}

/* ---- what is asked ---- */

const zamba_backbone_options *zamba_backbone_get_options(const zamba_backbone *b)
{
    return &b->plan.o;
}

const zamba_backbone_run *zamba_backbone_get_run(const zamba_backbone *b)
{
    return &b->run;
}

size_t zamba_backbone_bytes(const zamba_backbone *b)
{
    const zb_bb_plan *p = &b->plan;
    return sizeof *b + (p->n_floats + p->derived_floats + p->ffn) * sizeof(float) + b->packed_bytes +
           p->n_linears * sizeof *b->packed + p->n_params * sizeof *p->params +
           (size_t)p->o.num_layers * sizeof *p->layers;
}

size_t zamba_backbone_parameters(const zamba_backbone *b)
{
    return b->plan.n_params;
}

zamba_status zamba_backbone_parameter_at(const zamba_backbone *b, size_t i, zamba_backbone_parameter *out,
                                         zamba_error *err)
{
    if (out == NULL || out->size != sizeof *out)
        return zb_fail(err, ZAMBA_E_ARG, "backbone parameter: the result's size is %zu, not %zu", out ? out->size : 0,
                       sizeof *out);
    if (i >= b->plan.n_params)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "parameter %zu of %zu", i, b->plan.n_params);
    const zb_bb_param *r = &b->plan.params[i];
    *out = (zamba_backbone_parameter){.size = sizeof *out,
                                      .name = r->name,
                                      .edifice = r->edifice,
                                      .n_dims = r->n_dims,
                                      .shape = {(int64_t)r->shape[0], (int64_t)r->shape[1]},
                                      .count = (int64_t)r->count,
                                      .data = b->params + r->offset};
    return ZAMBA_OK;
}

zamba_status zamba_backbone_parameter_set(zamba_backbone *b, const char *name, const float *data, size_t n,
                                          zamba_error *err)
{
    const size_t i = name ? zb_bb_plan_find(&b->plan, name) : ZB_BB_NONE;
    if (i == ZB_BB_NONE || data == NULL)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "the backbone has no parameter \"%.80s\", or no data came with it",
                       name ? name : "");
    const zb_bb_param *r = &b->plan.params[i];
    if (n != r->count)
        return zb_fail(err, ZAMBA_E_MISMATCH, "%s: %zu numbers, it has %zu", r->name, n, r->count);
    if (!zb_bb_finite(data, n))
        return zb_fail(err, ZAMBA_E_ARG, "%s: a number is not finite", r->name);
    memcpy(b->params + r->offset, data, n * sizeof(float));
    return zb_bb_changed_at(b, r->offset, err);
}

zamba_status zamba_backbone_load_weights(zamba_backbone *b, const char *path, zamba_error *err)
{
    const size_t bytes = b->plan.n_floats * sizeof(float);
    float *fresh = zb_alloc_large(bytes);
    if (fresh == NULL)
        return zb_fail_memory(err, "a backbone's weights", bytes);
    memcpy(fresh, b->params, bytes);
    zamba_status st = zb_bb_read(&b->plan, fresh, path, 0, err);
    if (st == ZAMBA_OK) {
        memcpy(b->params, fresh, bytes);
        st = zb_bb_changed(b, 1, err);
    }
    zb_free_aligned(fresh);
    return st;
}
