/* lora_train.c — a LoRA adapter as parameters to be trained: which places it takes, its first values, its place beside
 * the weights; saving and loading it. "all-linear" are the places that PEFT calls so without the model's own small
 * adapters. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "io/safetensors.h"
#include "model/lora.h"
#include "model/workspace.h"

struct zb_lora_training {
    zb_lora_places places;
    zb_spec *specs; /* [2 n]: A and B of each place */
    zb_lora_item *items;
    size_t n;
    double alpha, dropout;
    int rslora;
    void *rounded; /* the model's f32 matrices in bf16, or NULL */
    zb_tensor *tensors;
};

/* ---- which places ---- */

static int is_own_adapter(zb_role role)
{
    return role >= ZB_GATE_UP_ADAPTER_0 && role <= ZB_V_ADAPTER_1;
}

/* As PEFT: the whole name, or its end from a point on. */
static int names(const char *target, size_t n, const char *module)
{
    const size_t m = strlen(module);
    return n <= m && memcmp(module + m - n, target, n) == 0 && (n == m || module[m - n - 1] == '.');
}

static int is_all_linear(const char *targets)
{
    return targets == NULL || targets[0] == '\0' || strcmp(targets, "all-linear") == 0;
}

static int chosen(const zb_lora_place *p, const char *targets)
{
    if (is_all_linear(targets))
        return p->role != ZB_LM_HEAD && !is_own_adapter(p->role);
    for (const char *t = targets; *t != '\0';) {
        const size_t n = strcspn(t, ",");
        if (n > 0 && names(t, n, p->module))
            return 1;
        t += n + (t[n] == ',');
    }
    return 0;
}

/* Every name must mean something. */
static zamba_status check_targets(const zb_lora_places *places, const char *targets, zamba_error *err)
{
    for (const char *t = is_all_linear(targets) ? "" : targets; *t != '\0';) {
        const size_t n = strcspn(t, ",");
        size_t k = 0;
        while (k < places->n && !(n > 0 && names(t, n, places->items[k].module)))
            k++;
        if (k == places->n)
            return zb_fail(err, ZAMBA_E_ARG,
                           "LoRA targets: '%.*s' is none of this model's; wanted all-linear, or names such as in_proj, "
                           "out_proj, q_proj, k_proj, v_proj, o_proj, %s, down_proj, linear, lm_head",
                           (int)(n < 60 ? n : 60), t,
                           places->n > 0 && strstr(places->items[0].module, "shared_transf.") ? "gate_proj, up_proj"
                                                                                              : "gate_up_proj");
        t += n + (t[n] == ',');
    }
    return ZAMBA_OK;
}

static zamba_status check_options(const zamba_model *m, const zb_lora_options *o, zamba_error *err)
{
    if (o->rank < 1 || o->rank > 65536)
        return zb_fail(err, ZAMBA_E_ARG, "LoRA rank: %zu, wanted 1 to 65536", o->rank);
    if (!isfinite(o->alpha) || o->alpha <= 0)
        return zb_fail(err, ZAMBA_E_ARG, "LoRA alpha: %g, wanted a number above 0", o->alpha);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return zb_fail(err, ZAMBA_E_ARG, "LoRA dropout: %g, wanted 0 to below 1", o->dropout);
    if (m->weights.lora_rank > 0)
        return zb_fail(err, ZAMBA_E_ARG, "%s: is open with adapters, over which no other is trained", m->path);
    for (size_t i = 0; i < m->plan.n_uses && i < m->plan.config.n_blocks; i++)
        if (m->weights.blocks[i].q.data == NULL || m->weights.blocks[i].k.data == NULL ||
            m->weights.blocks[i].v.data == NULL)
            return zb_fail(err, ZAMBA_E_ARG, "%s: its q, k and v are only there in halves (open it with repack -1)",
                           m->path);
    if (m->weights.ordered)
        return zb_fail(
            err, ZAMBA_E_UNSUPPORTED,
            "%s: the columns of its matrices stand in an order of their own (GPTQ with act-order), over which "
            "nothing can be trained (convert it: zamba convert --type bf16)",
            m->path);
    return ZAMBA_OK;
}

/* ---- the parameters ---- */

static zamba_status list_items(zb_params *p, const zb_lora_options *o, zamba_error *err)
{
    struct zb_lora_training *l = p->lora;
    const size_t most = l->places.n + 1;
    l->items = calloc(most, sizeof *l->items);
    l->specs = calloc(2 * most, sizeof *l->specs);
    p->at = calloc(2 * most + 1, sizeof *p->at);
    if (l->items == NULL || l->specs == NULL || p->at == NULL)
        return zb_fail_memory(err, "adapter", most * sizeof *l->specs);
    p->specs = l->specs;
    for (size_t i = 0; i < l->places.n; i++) {
        const zb_lora_place *place = &l->places.items[i];
        if (!chosen(place, o->targets))
            continue;
        l->items[l->n++] = (zb_lora_item){.place = place, .rank = o->rank, .alpha = o->alpha};
        for (int k = 0; k < 2; k++) {
            char name[512];
            zb_spec *s = &l->specs[p->n];
            snprintf(name, sizeof name, ZB_LORA_NAME, place->module, k == 0 ? 'A' : 'B');
            *s = (zb_spec){.name = strdup(name),
                           .role = k == 0 ? ZB_LORA_A : ZB_LORA_B,
                           .part = ZB_PART_ADAPTER,
                           .layer = place->layer,
                           .use = place->use,
                           .block = -1,
                           .n_dims = 2,
                           .shape = {k == 0 ? o->rank : place->rows, k == 0 ? place->cols : o->rank},
                           .n_uses = 1,
                           .decay = 1};
            if (s->name == NULL)
                return zb_fail_memory(err, name, strlen(name));
            p->at[p->n + 1] = p->at[p->n] + (zb_spec_elements(s) + 15) / 16 * 16;
            p->n++;
        }
    }
    p->floats = p->at[p->n];
    return l->n > 0 ? ZAMBA_OK : zb_fail(err, ZAMBA_E_ARG, "LoRA targets: this model has none of them");
}

/* torch's kaiming_uniform_(a = sqrt 5), as PEFT: A uniform in +-1 / sqrt(columns), B zeros. */
static void first_values(zb_params *p, uint64_t seed)
{
    for (size_t i = 0; i < p->n; i += 2) {
        const zb_spec *s = &p->specs[i];
        const double bound = 1 / sqrt((double)s->shape[1]);
        zb_rng r;
        zb_rng_seed(&r, seed * 0x9E3779B97F4A7C15u + i);
        for (size_t k = 0; k < zb_spec_elements(s); k++)
            p->value[p->at[i] + k] = (float)((2 * zb_rng_f64(&r) - 1) * bound);
    }
}

static void bind(zb_params *p, const zb_lora_options *o)
{
    zb_weights *w = &p->m->weights;
    struct zb_lora_training *l = p->lora;
    for (size_t i = 0; i < l->n; i++) {
        const zb_lora_place *place = l->items[i].place;
        zb_lora *lora = zb_weights_lora(w, place->role, place->layer, place->use);
        const size_t a = p->at[2 * i], b = p->at[2 * i + 1];
        l->items[i].a = p->value + a;
        l->items[i].b = p->value + b;
        *lora = (zb_lora){
            .a = {.data = p->value + a, .rows = o->rank, .cols = place->cols, .dtype = ZB_F32, .ld = place->cols},
            .b = {.data = p->value + b, .rows = place->rows, .cols = o->rank, .dtype = ZB_F32, .ld = o->rank},
            .scale = (float)(o->alpha / (o->rslora ? sqrt((double)o->rank) : (double)o->rank)),
            .number = (uint32_t)i,
            .da = p->grad + a,
            .db = p->grad + b};
    }
    w->lora_rank = o->rank;
    w->lora_dropout = (float)o->dropout;
}

/* Products in bf16 take weights in bf16: plain matrices of other types get a rounded copy. */
static zamba_status round_base(zb_params *p, zamba_error *err)
{
    zamba_model *m = p->m;
    struct zb_lora_training *l = p->lora;
    size_t elements = 0;
    if (m->weights.packed != NULL) /* made from other bytes: they stay as they are */
        return ZAMBA_OK;
    for (size_t i = 0; i < m->plan.n_specs; i++) {
        const zb_dtype t = m->weights.bound[i]->dtype;
        elements += m->plan.specs[i].quantizable && (t == ZB_F32 || t == ZB_F16)
                        ? (zb_spec_elements(&m->plan.specs[i]) + 31) / 32 * 32
                        : 0;
    }
    if (elements == 0)
        return ZAMBA_OK;
    uint16_t *at = l->rounded = zb_alloc_aligned(elements * sizeof *at);
    l->tensors = calloc(m->plan.n_specs, sizeof *l->tensors);
    if (at == NULL || l->tensors == NULL)
        return zb_fail_memory(err, "the model in bf16", elements * sizeof *at);
    for (size_t i = 0; i < m->plan.n_specs; i++) {
        const zb_tensor *from = m->weights.bound[i];
        const size_t n = zb_spec_elements(&m->plan.specs[i]);
        l->tensors[i] = *from;
        if (!m->plan.specs[i].quantizable || (from->dtype != ZB_F32 && from->dtype != ZB_F16))
            continue;
        for (size_t k = 0; k < n; k++) {
            float x;
            zb_to_f32(&x, (const char *)from->data + k * zb_dtype_bytes(from->dtype), from->dtype, 1);
            at[k] = zb_f32_bf16(x);
        }
        l->tensors[i].data = at;
        l->tensors[i].dtype = ZB_BF16;
        l->tensors[i].bytes = n * sizeof *at;
        at += (n + 31) / 32 * 32;
    }
    return zb_weights_rebind(&m->weights, &m->plan, l->tensors, err);
}

zamba_status zb_params_open_lora(zb_params *p, zamba_model *m, const zb_lora_options *o, int bf16, zamba_error *err)
{
    *p = (zb_params){.m = m, .pool = m->pool, .n_threads = m->n_threads_batch, .kernels = m->kernels};
    zamba_status st = check_options(m, o, err);
    if (st != ZAMBA_OK)
        return st;
    p->lora = calloc(1, sizeof *p->lora);
    if (p->lora == NULL)
        return zb_fail_memory(err, "adapter", sizeof *p->lora);
    p->lora->alpha = o->alpha;
    p->lora->dropout = o->dropout;
    p->lora->rslora = o->rslora;
    st = zb_lora_places_list(&p->lora->places, &m->plan, err);
    if (st == ZAMBA_OK)
        st = check_targets(&p->lora->places, o->targets, err);
    if (st == ZAMBA_OK)
        st = list_items(p, o, err);
    if (st == ZAMBA_OK) {
        p->value = zb_calloc_aligned(p->floats * sizeof *p->value);
        p->grad = zb_calloc_aligned(p->floats * sizeof *p->grad);
        if (p->value == NULL || p->grad == NULL)
            st = zb_fail_memory(err, "an adapter and its gradients", p->floats * 2 * sizeof(float));
    }
    if (st == ZAMBA_OK && bf16)
        st = round_base(p, err);
    if (st != ZAMBA_OK) {
        zb_params_close(p);
        return st;
    }
    first_values(p, o->seed);
    bind(p, o);
    zb_params_compute(m, bf16);
    return ZAMBA_OK;
}

void zb_lora_training_close(zb_params *p)
{
    struct zb_lora_training *l = p->lora;
    if (l == NULL)
        return;
    for (size_t i = 0; l->specs != NULL && i < p->n; i++)
        free(l->specs[i].name);
    free(l->specs);
    free(l->items);
    free(l->tensors);
    zb_free_aligned(l->rounded);
    zb_lora_places_free(&l->places);
    free(l);
    p->lora = NULL;
    p->specs = NULL;
    p->n = 0;
}

/* ---- on disk ---- */

zamba_status zb_lora_save(const zb_params *p, const char *folder, const char *base, zamba_error *err)
{
    const struct zb_lora_training *l = p->lora;
    return zb_lora_write(folder, &l->places, l->items, l->n, l->dropout, l->rslora, base, err);
}

zamba_status zb_lora_load(zb_params *p, const char *folder, zamba_error *err)
{
    char path[4096];
    zb_tensors ts = {0};
    zamba_status st = zb_path_join(path, sizeof path, folder, "adapter_model.safetensors", err);
    if (st == ZAMBA_OK)
        st = zb_tensors_open_file(&ts, path, err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t i = 0; i < p->n && st == ZAMBA_OK; i++) {
        const zb_spec *s = &p->specs[i];
        const zb_tensor *t = zb_tensors_find(&ts, s->name);
        if (t == NULL || !t->known || t->dtype >= ZB_N_FLOATS || t->n_dims != 2 || t->shape[0] != s->shape[0] ||
            t->shape[1] != s->shape[1])
            st = zb_fail(err, ZAMBA_E_MISMATCH,
                         "%s: tensor %.160s %s, wanted [%zu, %zu] (an adapter of other rank or "
                         "targets?)",
                         path, s->name, t == NULL ? "is missing" : "has another shape or type", s->shape[0],
                         s->shape[1]);
        else
            zb_to_f32(p->value + p->at[i], t->data, t->dtype, zb_spec_elements(s));
    }
    if (st == ZAMBA_OK && ts.n != p->n)
        st = zb_fail(err, ZAMBA_E_MISMATCH, "%s: %zu tensors, wanted %zu (an adapter of other targets?)", path, ts.n,
                     p->n);
    zb_tensors_close(&ts);
    return st;
}
