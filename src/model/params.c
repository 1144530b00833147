/* params.c — masters and gradients in the order of the tensor list; the model's weights bound to them. */
#include "model/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "model/lora.h"
#include "model/workspace.h"

#define RANGE ((size_t)1 << 15) /* floats of a task */

static zamba_status check_types(const zb_params *p, zamba_error *err)
{
    for (size_t i = 0; i < p->n; i++) {
        const zb_tensor *t = p->m->weights.bound[i];
        if (t->dtype >= ZB_N_FLOATS)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                           "%s: tensor %s is %s; whole models are trained in F32, F16 or BF16 (convert it, or train an "
                           "adapter over it)",
                           p->m->path, t->name, t->dtype_name[0] != '\0' ? t->dtype_name : zb_dtype_name(t->dtype));
    }
    return ZAMBA_OK;
}

/* Copy every tensor into the masters; A that was found instead of A_log becomes A_log. */
static void copy_values(zb_params *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const zb_tensor *t = p->m->weights.bound[i];
        zb_spec *s = &p->m->plan.specs[i];
        float *value = p->value + p->at[i];
        zb_to_f32(value, t->data, t->dtype, zb_spec_elements(s));
        for (size_t k = 0; s->is_a && k < zb_spec_elements(s); k++)
            value[k] = logf(-value[k]);
        s->is_a = 0;
    }
}

/* The arenas as the tensors that the weights are bound to: matrices rounded if there is a rounded arena. */
static void describe(zb_params *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const zb_spec *s = &p->m->plan.specs[i];
        zb_tensor *t = &p->tensors[i];
        const int rounded = p->bf16 != NULL && s->quantizable;
        *t = *p->m->weights.bound[i];
        t->data = rounded ? (const void *)(p->bf16 + p->at[i]) : (const void *)(p->value + p->at[i]);
        t->dtype = rounded ? ZB_BF16 : ZB_F32;
        t->dtype_name[0] = '\0';
        t->n_dims = s->n_dims;
        memcpy(t->shape, s->shape, sizeof s->shape);
        t->bytes = zb_row_bytes(t->dtype, zb_spec_elements(s));
    }
}

void zb_params_compute(zamba_model *m, int bf16)
{
    zb_workspace_free_all(m);
    m->bf16 = bf16;
    m->bytes8 = 0;
    m->kv_k = m->kv_v = ZB_KV_F32;
    m->pages.page_bytes = m->plan.n_uses * zb_use_bytes(m);
}

zamba_status zb_params_open(zb_params *p, zamba_model *m, int bf16, zamba_error *err)
{
    *p = (zb_params){.m = m,
                     .pool = m->pool,
                     .n_threads = m->n_threads_batch,
                     .kernels = m->kernels,
                     .n = m->plan.n_specs,
                     .specs = m->plan.specs};
    zamba_status st = check_types(p, err);
    if (st != ZAMBA_OK)
        return st;
    p->at = calloc(p->n + 1, sizeof *p->at);
    p->tensors = calloc(p->n, sizeof *p->tensors);
    for (size_t i = 0; p->at != NULL && i < p->n; i++)
        p->at[i + 1] = p->at[i] + (zb_spec_elements(&m->plan.specs[i]) + 15) / 16 * 16;
    p->floats = p->at != NULL ? p->at[p->n] : 0;
    p->value = zb_calloc_aligned(p->floats * sizeof *p->value);
    p->grad = zb_calloc_aligned(p->floats * sizeof *p->grad);
    p->bf16 = bf16 ? zb_calloc_aligned(p->floats * sizeof *p->bf16) : NULL;
    if (p->at == NULL || p->tensors == NULL || p->value == NULL || p->grad == NULL || (bf16 && p->bf16 == NULL)) {
        zb_params_close(p);
        return zb_fail_memory(err, "parameters and gradients", p->floats * 2 * sizeof(float));
    }
    copy_values(p);
    describe(p);
    zb_params_compute(m, bf16);
    st = zb_weights_rebind(&m->weights, &m->plan, p->tensors, err);
    if (st == ZAMBA_OK)
        zb_params_changed(p);
    else
        zb_params_close(p);
    return st;
}

void zb_params_close(zb_params *p)
{
    zb_lora_training_close(p);
    zb_free_aligned(p->bf16);
    zb_free_aligned(p->grad);
    zb_free_aligned(p->value);
    free(p->tensors);
    free(p->at);
    p->bf16 = NULL;
    p->grad = p->value = NULL;
    p->tensors = NULL;
    p->at = NULL;
}

typedef struct range_run {
    const zb_params *p;
    zb_range_fn fn;
    void *ctx;
} range_run;

static void range_task(void *ctx, size_t task, int worker)
{
    const range_run *r = ctx;
    const size_t begin = task * RANGE, end = begin + RANGE < r->p->floats ? begin + RANGE : r->p->floats;
    r->fn(r->ctx, begin, end, worker);
}

void zb_params_each(const zb_params *p, zb_range_fn fn, void *ctx)
{
    range_run r = {p, fn, ctx};
    zb_pool_run_on(p->pool, p->n_threads, (p->floats + RANGE - 1) / RANGE, range_task, &r);
}

static void round_range(void *ctx, size_t begin, size_t end, int worker)
{
    zb_params *p = ctx;
    (void)worker;
    p->kernels->to_bf16(p->bf16 + begin, p->value + begin, end - begin);
}

void zb_params_changed(zb_params *p)
{
    if (p->bf16 != NULL && p->lora == NULL)
        zb_params_each(p, round_range, p);
    for (size_t i = 0; p->lora == NULL && i < p->n; i++)
        zb_weights_update(&p->m->weights, &p->m->plan, i);
}
