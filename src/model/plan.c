/* plan.c — builds the layer rows and the tensor list from a config. The only place that knows the layout. */
#include "model/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define SMALL_STATE ((size_t)1 << 24) /* floats: never too much */

static const char *const part_names[ZB_N_PARTS] = {"embedding", "mamba", "shared", "adapter", "linear", "norm", "head"};

const char *zb_part_name(zb_part part)
{
    return part_names[part];
}

size_t zb_spec_elements(const zb_spec *s)
{
    size_t n = 1;
    for (int i = 0; i < s->n_dims; i++)
        n *= s->shape[i];
    return n;
}

uint64_t zb_spec_bytes_read(const zb_spec *s, uint64_t bytes)
{
    const uint64_t uses = (uint64_t)s->n_uses;
    if ((s->role == ZB_Q || s->role == ZB_K || s->role == ZB_V) && uses > 1)
        return bytes + (uses - 1) * (bytes / 2);
    return bytes * uses;
}

/* ---- the tensor list ---- */

typedef struct builder {
    zb_plan *plan;
    size_t capacity;
    zamba_status st;
    zamba_error *err;
    const char *name;
    /* context of the entries that follow */
    int32_t layer, block, use;
    zb_part part;
    int32_t n_uses;
} builder;

typedef struct dims {
    size_t d[ZB_SPEC_DIMS];
} dims;

/* 0 in the second or third place: no such dimension. */
#define DIMS(...) ((dims){{__VA_ARGS__}})

static void add(builder *b, zb_role role, dims shape, const char *fmt, ...) ZB_PRINTF(4, 5);

static void add(builder *b, zb_role role, dims shape, const char *fmt, ...)
{
    char name[160];
    va_list args;
    if (b->st != ZAMBA_OK)
        return;
    if (b->plan->n_specs == b->capacity) {
        const size_t capacity = b->capacity == 0 ? 256 : 2 * b->capacity;
        zb_spec *specs = realloc(b->plan->specs, capacity * sizeof *specs);
        if (specs == NULL) {
            b->st = zb_fail_memory(b->err, b->name, capacity * sizeof *specs);
            return;
        }
        b->plan->specs = specs;
        b->capacity = capacity;
    }
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    zb_spec s = {
        .role = role, .part = b->part, .layer = b->layer, .block = b->block, .use = b->use, .n_uses = b->n_uses};
    size_t elements = 4; /* counts bytes of f32, so that all later products fit too */
    for (int i = 0; i < ZB_SPEC_DIMS && shape.d[i] > 0; i++) {
        s.shape[s.n_dims++] = shape.d[i];
        if (!zb_mul(elements, shape.d[i], &elements)) {
            b->st = zb_fail(b->err, ZAMBA_E_FORMAT, "%s: tensor %s would be larger than memory can be", b->name, name);
            return;
        }
    }
    const int small = s.n_dims < 2 || role == ZB_CONV || role == ZB_A_LOG || role == ZB_D || role == ZB_DT_BIAS;
    s.quantizable = !small;
    s.decay = !small && role != ZB_EMBED;
    s.name = strdup(name);
    if (s.name == NULL) {
        b->st = zb_fail_memory(b->err, b->name, strlen(name));
        return;
    }
    if (b->block >= 0) /* "model.layers.<number>" ends where the shared tensor's own name begins */
        s.suffix = (size_t)(strstr(s.name, ".shared_") - s.name);
    b->plan->specs[b->plan->n_specs++] = s;
}

static void add_mamba1(builder *b, const char *at)
{
    const zb_config *c = &b->plan->config;
    const size_t heads = c->mamba_heads, P = c->mamba_head_dim, N = c->mamba_state, rank = c->mamba_dt_rank;
    add(b, ZB_IN_PROJ, DIMS(2 * c->mamba_inner, c->hidden_size), "%s.mamba.in_proj.weight", at);
    if (c->proj_bias)
        add(b, ZB_IN_PROJ_BIAS, DIMS(2 * c->mamba_inner), "%s.mamba.in_proj.bias", at);
    add(b, ZB_CONV, DIMS(c->mamba_inner, 1, c->mamba_conv), "%s.mamba.conv1d.weight", at);
    if (c->conv_bias)
        add(b, ZB_CONV_BIAS, DIMS(c->mamba_inner), "%s.mamba.conv1d.bias", at);
    add(b, ZB_X_PROJ, DIMS(heads, rank + 2 * N, P), "%s.mamba.x_proj_weight", at);
    add(b, ZB_DT_PROJ, DIMS(heads, P, rank), "%s.mamba.dt_proj_weight", at);
    add(b, ZB_DT_BIAS, DIMS(heads, P), "%s.mamba.dt_proj_bias", at);
    add(b, ZB_A_LOG, DIMS(heads, P, N), "%s.mamba.A_log", at);
    add(b, ZB_D, DIMS(heads, P), "%s.mamba.D", at);
    add(b, ZB_OUT_PROJ, DIMS(c->hidden_size, c->mamba_inner), "%s.mamba.out_proj.weight", at);
    if (c->proj_bias)
        add(b, ZB_OUT_PROJ_BIAS, DIMS(c->hidden_size), "%s.mamba.out_proj.bias", at);
}

static void add_mamba2(builder *b, const char *at)
{
    const zb_config *c = &b->plan->config;
    add(b, ZB_IN_PROJ, DIMS(b->plan->in_rows, c->hidden_size), "%s.mamba.in_proj.weight", at);
    if (c->add_bias)
        add(b, ZB_IN_PROJ_BIAS, DIMS(b->plan->in_rows), "%s.mamba.in_proj.bias", at);
    add(b, ZB_CONV, DIMS(b->plan->conv_channels, 1, c->mamba_conv), "%s.mamba.conv1d.weight", at);
    add(b, ZB_CONV_BIAS, DIMS(b->plan->conv_channels), "%s.mamba.conv1d.bias", at);
    add(b, ZB_A_LOG, DIMS(c->mamba_heads), "%s.mamba.A_log", at);
    add(b, ZB_D, DIMS(c->mamba_heads), "%s.mamba.D", at);
    add(b, ZB_DT_BIAS, DIMS(c->mamba_heads), "%s.mamba.dt_bias", at);
    add(b, ZB_GATED_NORM, DIMS(c->mamba_inner), "%s.mamba.norm.weight", at);
    add(b, ZB_OUT_PROJ, DIMS(c->hidden_size, c->mamba_inner), "%s.mamba.out_proj.weight", at);
    if (c->add_bias)
        add(b, ZB_OUT_PROJ_BIAS, DIMS(c->hidden_size), "%s.mamba.out_proj.bias", at);
}

/* The tensors of one shared block, under its first layer. */
static void add_block(builder *b, int32_t block, int32_t first_layer, int32_t n_uses)
{
    const zb_config *c = &b->plan->config;
    const size_t h = c->hidden_size, F = c->ffn_size, wide = 2 * h, q = c->n_heads * c->head_dim,
                 kv = c->n_kv_heads * c->head_dim;
    char at[64];
    b->block = block;
    b->n_uses = n_uses;
    snprintf(at, sizeof at, "model.layers.%d.%s", first_layer,
             c->family == ZB_ZAMBA1 ? "shared_transf" : "shared_transformer");
    b->part = ZB_PART_NORM;
    add(b, ZB_ATTN_NORM, DIMS(wide), "%s.input_layernorm.weight", at);
    add(b, ZB_FFN_NORM, DIMS(h), "%s.pre_ff_layernorm.weight", at);
    b->part = ZB_PART_SHARED;
    add(b, ZB_Q, DIMS(q, wide), "%s.self_attn.q_proj.weight", at);
    add(b, ZB_K, DIMS(kv, wide), "%s.self_attn.k_proj.weight", at);
    add(b, ZB_V, DIMS(kv, wide), "%s.self_attn.v_proj.weight", at);
    add(b, ZB_O, DIMS(h, q), "%s.self_attn.o_proj.weight", at);
    if (c->family == ZB_ZAMBA1) {
        add(b, ZB_GATE, DIMS(F, h), "%s.feed_forward.gate_proj.weight", at);
        add(b, ZB_UP, DIMS(F, h), "%s.feed_forward.up_proj.weight", at);
    } else {
        add(b, ZB_GATE_UP, DIMS(2 * F, h), "%s.feed_forward.gate_up_proj.weight", at);
        if (c->add_bias)
            add(b, ZB_GATE_UP_BIAS, DIMS(2 * F), "%s.feed_forward.gate_up_proj.bias", at);
    }
    add(b, ZB_DOWN, DIMS(h, F), "%s.feed_forward.down_proj.weight", at);
    if (c->add_bias)
        add(b, ZB_DOWN_BIAS, DIMS(h), "%s.feed_forward.down_proj.bias", at);
}

/* The adapters of one use; they are stored inside its shared block, indexed by the use. */
static void add_adapters(builder *b, int32_t block, int32_t first_layer, int32_t use)
{
    static const struct {
        const char *name;
        zb_role role;
    } attn[] = {{"linear_q", ZB_Q_ADAPTER_0}, {"linear_k", ZB_K_ADAPTER_0}, {"linear_v", ZB_V_ADAPTER_0}};
    const zb_config *c = &b->plan->config;
    const size_t r = c->adapter_rank, q = c->n_heads * c->head_dim;
    char at[64];
    b->block = block;
    b->use = use;
    b->n_uses = 1;
    b->part = ZB_PART_ADAPTER;
    snprintf(at, sizeof at, "model.layers.%d.shared_transformer", first_layer);
    if (c->mlp_adapter) {
        add(b, ZB_GATE_UP_ADAPTER_0, DIMS(r, c->hidden_size), "%s.feed_forward.gate_up_proj_adapter_list.%d.0.weight",
            at, use);
        add(b, ZB_GATE_UP_ADAPTER_1, DIMS(2 * c->ffn_size, r), "%s.feed_forward.gate_up_proj_adapter_list.%d.1.weight",
            at, use);
    }
    for (size_t i = 0; c->attn_adapter && i < 3; i++) {
        add(b, attn[i].role, DIMS(r, 2 * c->hidden_size), "%s.self_attn.%s_adapter_list.%d.0.weight", at, attn[i].name,
            use);
        add(b, (zb_role)(attn[i].role + 1), DIMS(q, r), "%s.self_attn.%s_adapter_list.%d.1.weight", at, attn[i].name,
            use);
    }
    b->use = -1;
}

static void add_layer(builder *b, int32_t i)
{
    const zb_layer *row = &b->plan->layers[i];
    const zb_config *c = &b->plan->config;
    char at[64];
    b->block = -1;
    b->layer = i;
    b->n_uses = 1;
    if (row->shared >= 0) {
        b->use = row->use;
        b->part = ZB_PART_LINEAR;
        add(b, ZB_LINEAR, DIMS(c->hidden_size, c->hidden_size), "model.layers.%d.linear.weight", i);
        b->use = -1;
    }
    snprintf(at, sizeof at, row->shared >= 0 ? "model.layers.%d.mamba_decoder" : "model.layers.%d", i);
    b->part = ZB_PART_NORM;
    add(b, ZB_INPUT_NORM, DIMS(c->hidden_size), "%s.input_layernorm.weight", at);
    b->part = ZB_PART_MAMBA;
    if (row->mixer == ZB_MAMBA1)
        add_mamba1(b, at);
    else
        add_mamba2(b, at);
    b->layer = -1;
}

static void add_all(builder *b)
{
    const zb_plan *p = b->plan;
    const zb_config *c = &p->config;
    b->layer = b->block = b->use = -1;
    b->part = ZB_PART_EMBEDDING;
    b->n_uses = c->tied_head ? 1 : 0;
    add(b, ZB_EMBED, DIMS(c->vocab_size, c->hidden_size), "model.embed_tokens.weight");
    for (int32_t i = 0; (size_t)i < c->n_layers; i++)
        add_layer(b, i);
    for (size_t u = 0; u < p->n_uses; u++) {
        const size_t block = u % c->n_blocks; /* whose first use has the same number */
        const int32_t first_layer = p->use_layer[block];
        if (u == block)
            add_block(b, (int32_t)block, first_layer, (int32_t)((p->n_uses - block + c->n_blocks - 1) / c->n_blocks));
        add_adapters(b, (int32_t)block, first_layer, (int32_t)u);
    }
    b->block = -1;
    b->n_uses = 1;
    b->part = ZB_PART_NORM;
    add(b, ZB_FINAL_NORM, DIMS(c->hidden_size), "model.final_layernorm.weight");
    b->part = ZB_PART_HEAD;
    if (!c->tied_head)
        add(b, ZB_LM_HEAD, DIMS(c->vocab_size, c->hidden_size), "lm_head.weight");
}

/* ---- the layer rows and the sizes ---- */

static zamba_status settle_sizes(zb_plan *p, const char *name, zamba_error *err)
{
    const zb_config *c = &p->config;
    size_t conv, ssm, both, gn, q;
    const size_t channels_extra = c->family == ZB_ZAMBA1 ? 0 : 2;
    int ok = zb_mul(c->mamba_groups, c->mamba_state, &gn) && zb_mul(gn, channels_extra, &gn) &&
             zb_add(c->mamba_inner, gn, &p->conv_channels) && zb_mul(p->conv_channels, c->mamba_conv - 1, &conv) &&
             zb_mul(c->mamba_inner, c->mamba_state, &ssm) && zb_add(conv, ssm, &both) &&
             zb_mul(both, c->n_layers, &p->state_floats) && zb_mul(c->n_kv_heads, c->head_dim, &q) &&
             zb_mul(2 * q, p->n_uses, &p->kv_floats) && q <= ((size_t)1 << 32);
    p->in_rows = c->family == ZB_ZAMBA1 ? 2 * c->mamba_inner : c->mamba_inner + p->conv_channels + c->mamba_heads;
    if (!ok || p->state_floats > ((size_t)1 << 40))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: the sizes in it multiply to more than memory can be", name);
    for (size_t i = 0; i < c->n_layers; i++) {
        p->layers[i].conv_at = i * both;
        p->layers[i].ssm_at = i * both + conv;
    }
    return ZAMBA_OK;
}

/* What running takes follows from the config alone, and a checkpoint of a few bytes could ask for any amount. No model
 * that makes sense has more state, or more keys and values of a token, than it has parameters; small ones may. */
static zamba_status check_proportions(const zb_plan *p, const char *name, zamba_error *err)
{
    size_t n_params = 0;
    for (size_t i = 0; i < p->n_specs; i++)
        if (!zb_add(n_params, zb_spec_elements(&p->specs[i]), &n_params))
            n_params = SIZE_MAX;
    const size_t most = n_params > SMALL_STATE ? n_params : SMALL_STATE;
    if (p->state_floats > most || p->kv_floats > most)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                       "%s: a sequence would take %zu numbers and %zu more with each token, the model itself has %zu "
                       "(is this config.json right?)",
                       name, p->state_floats, p->kv_floats, n_params);
    return ZAMBA_OK;
}

zamba_status zb_plan_build(zb_plan *p, zb_config *config, const char *name, zamba_error *err)
{
    *p = (zb_plan){.config = *config};
    *config = (zb_config){0};
    const zb_config *c = &p->config;
    builder b = {.plan = p, .err = err, .name = name};
    p->layers = calloc(c->n_layers, sizeof *p->layers);
    p->use_layer = calloc(c->n_layers, sizeof *p->use_layer);
    if (p->layers == NULL || p->use_layer == NULL)
        b.st = zb_fail_memory(err, name, c->n_layers * sizeof *p->layers);
    for (size_t i = 0; i < c->n_layers && b.st == ZAMBA_OK; i++) {
        zb_layer *row = &p->layers[i];
        *row = (zb_layer){.mixer = c->family == ZB_ZAMBA1 ? ZB_MAMBA1 : ZB_MAMBA2, .shared = -1, .use = -1};
        if (c->hybrid[i]) {
            row->use = (int32_t)p->n_uses;
            row->shared = (int32_t)(p->n_uses % c->n_blocks);
            p->use_layer[p->n_uses++] = (int32_t)i;
        }
    }
    if (b.st == ZAMBA_OK)
        b.st = settle_sizes(p, name, err);
    if (b.st == ZAMBA_OK)
        add_all(&b);
    if (b.st == ZAMBA_OK)
        b.st = check_proportions(p, name, err);
    if (b.st != ZAMBA_OK)
        zb_plan_free(p);
    return b.st;
}

void zb_plan_free(zb_plan *p)
{
    for (size_t i = 0; i < p->n_specs; i++)
        free(p->specs[i].name);
    free(p->specs);
    free(p->layers);
    free(p->use_layer);
    zb_config_free(&p->config);
    *p = (zb_plan){0};
}
