/* bb_plan.c — from options to the plan: the table of all parameters in the file's order under our names and Edifice's,
 * where each layer finds its own, and where the state of a timeline lies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/bb_options.h"
#include "core/hash.h"

/* The table while it grows; while the plan has none, rows are only counted. */
typedef struct build {
    zb_bb_plan *p;
    size_t n, floats, linears;
    zb_bb_param spare; /* what stands for a row then */
} build;

#define ROUND16(n) (((n) + 15) / 16 * 16)

static size_t add(build *s, const char *name, const char *edifice, size_t rows, size_t cols, zb_bb_fresh fresh)
{
    const size_t at = s->floats;
    if (s->p->params) {
        zb_bb_param *r = &s->p->params[s->n];
        *r = (zb_bb_param){.n_dims = cols > 0 ? 2 : 1,
                           .shape = {rows, cols > 0 ? cols : 1},
                           .offset = at,
                           .count = rows * (cols > 0 ? cols : 1),
                           .fresh = fresh};
        snprintf(r->name, sizeof r->name, "%s", name);
        snprintf(r->edifice, sizeof r->edifice, "%s", edifice);
    }
    s->n++;
    s->floats += ROUND16(rows * (cols > 0 ? cols : 1));
    return at;
}

/* The row that was added last. */
static zb_bb_param *last(build *s)
{
    return s->p->params ? &s->p->params[s->n - 1] : &s->spare;
}

static zb_bb_norm add_norm(build *s, const char *name, const char *edifice)
{
    const size_t H = s->p->H;
    char ours[96], theirs[96];
    zb_bb_norm out;
    snprintf(ours, sizeof ours, "%s.weight", name);
    snprintf(theirs, sizeof theirs, "%s%s", edifice, *edifice ? ".gamma" : "");
    out.w = add(s, ours, theirs, H, 0, ZB_BB_ONE);
    snprintf(ours, sizeof ours, "%s.bias", name);
    snprintf(theirs, sizeof theirs, "%s%s", edifice, *edifice ? ".beta" : "");
    out.b = add(s, ours, theirs, H, 0, ZB_BB_ZERO);
    return out;
}

static zb_bb_linear add_linear(build *s, const char *name, const char *edifice, size_t n_out, size_t n_in, int bias,
                               zb_bb_fresh fresh_bias)
{
    char ours[96], theirs[96];
    zb_bb_linear out = {.b = ZB_BB_NONE, .out = n_out, .in = n_in, .index = s->linears++};
    snprintf(ours, sizeof ours, "%s.weight", name);
    snprintf(theirs, sizeof theirs, "%s%s", edifice, *edifice ? ".kernel" : "");
    out.w = add(s, ours, theirs, n_out, n_in, ZB_BB_GLOROT);
    last(s)->turned = *edifice != '\0';
    snprintf(ours, sizeof ours, "%s.bias", name);
    snprintf(theirs, sizeof theirs, "%s%s", edifice, *edifice ? ".bias" : "");
    if (bias)
        out.b = add(s, ours, theirs, n_out, 0, fresh_bias);
    return out;
}

static const zb_bb_linear no_linear = {.w = ZB_BB_NONE, .b = ZB_BB_NONE, .index = ZB_BB_NONE};
static const zb_bb_norm no_norm = {ZB_BB_NONE, ZB_BB_NONE};

/* Names of a layer's part: "layers.0.x" and "mamba_layer_1_y". */
typedef struct names {
    char ours[64], edifice[64];
} names;

static names part(size_t layer, const char *ours, const char *edifice)
{
    names n;
    snprintf(n.ours, sizeof n.ours, "layers.%zu.%s", layer, ours);
    snprintf(n.edifice, sizeof n.edifice, "mamba_layer_%zu_%s", layer + 1, edifice);
    return n;
}

static zb_bb_linear layer_linear(build *s, size_t i, const char *ours, const char *edifice, size_t n_out, size_t n_in,
                                 int bias, zb_bb_fresh fresh_bias)
{
    const names n = part(i, ours, edifice);
    return add_linear(s, n.ours, n.edifice, n_out, n_in, bias, fresh_bias);
}

static void add_block(build *s, zb_bb_layer *l, size_t i)
{
    const zb_bb_plan *p = s->p;
    const zamba_backbone_options *o = &p->o;
    const int bias = o->proj_bias != 0;
    names n;
    if (o->block != ZAMBA_BACKBONE_MAMBA) {
        n = part(i, "block_norm", "norm");
        l->block_norm = add_norm(s, n.ours, n.edifice);
    }
    l->in_proj = layer_linear(s, i, "in_proj", "in_proj", 2 * p->I, p->H, bias, ZB_BB_ZERO);
    if (p->gated) {
        l->conv_proj = layer_linear(s, i, "conv_proj", "conv_proj", p->I, p->I, 1, ZB_BB_ZERO);
    } else {
        n = part(i, "conv1d.weight", "conv1d.kernel");
        l->conv_w = add(s, n.ours, n.edifice, p->I, p->K, ZB_BB_CONV);
        last(s)->turned = 1;
        n = part(i, "conv1d.bias", "conv1d.bias");
        l->conv_b = add(s, n.ours, n.edifice, p->I, 0, ZB_BB_ZERO);
    }
    l->bc_proj = layer_linear(s, i, "bc_proj", "ssm_bc_proj", 2 * p->N, p->I, bias, ZB_BB_ZERO);
    if (!p->full_dt)
        l->dt_down = layer_linear(s, i, "dt_down", "ssm_dt_rank", p->R, p->I, bias, ZB_BB_ZERO);
    l->dt_up = layer_linear(s, i, "dt_up", "ssm_dt_proj", p->I, p->R, 1, ZB_BB_DT_BIAS);
    if (o->block == ZAMBA_BACKBONE_MAMBA) {
        n = part(i, "A_log", "A_log");
        l->A_log = add(s, n.ours, n.edifice, p->I, p->N, ZB_BB_A_LOG);
        n = part(i, "D", "D");
        l->D = add(s, n.ours, n.edifice, p->I, 0, ZB_BB_ONE);
    }
    l->out_proj = layer_linear(s, i, "out_proj", "out_proj", p->H, p->I, bias, ZB_BB_ZERO);
}

static void add_layer(build *s, zb_bb_layer *l, size_t i)
{
    const zb_bb_plan *p = s->p;
    const names norm = part(i, "norm", "pre_norm");
    *l = (zb_bb_layer){.kind = zb_bb_layer_kind(&p->o, i),
                       .block_norm = no_norm,
                       .ffn_norm = no_norm,
                       .attn_norm = no_norm,
                       .in_proj = no_linear,
                       .bc_proj = no_linear,
                       .dt_down = no_linear,
                       .dt_up = no_linear,
                       .out_proj = no_linear,
                       .conv_proj = no_linear,
                       .ffn1 = no_linear,
                       .ffn2 = no_linear,
                       .conv_w = ZB_BB_NONE,
                       .conv_b = ZB_BB_NONE,
                       .A_log = ZB_BB_NONE,
                       .D = ZB_BB_NONE,
                       .conv = ZB_BB_NONE,
                       .memory = ZB_BB_NONE,
                       .keys = ZB_BB_NONE,
                       .values = ZB_BB_NONE,
                       .derived = ZB_BB_NONE};
    l->norm = add_norm(s, norm.ours, norm.edifice);
    if (l->kind != ZAMBA_BACKBONE_LAYER_ATTENTION)
        add_block(s, l, i);
    if (p->o.ffn == ZAMBA_BACKBONE_FFN_EVERY) {
        const names n = part(i, "ffn_norm", "ffn_pre_norm");
        l->ffn_norm = add_norm(s, n.ours, n.edifice);
        l->ffn1 = layer_linear(s, i, "ffn1", "ffn1", p->ffn, p->H, 1, ZB_BB_ZERO);
        l->ffn2 = layer_linear(s, i, "ffn2", "ffn2", p->H, p->ffn, 1, ZB_BB_ZERO);
    }
    if (l->kind == ZAMBA_BACKBONE_LAYER_ATTENTION)
        l->attn_norm = l->norm;
}

/* The shared block: its own tensors, and where the layers at which it stands find norm and feed-forward. */
static void add_shared(build *s)
{
    zb_bb_plan *p = s->p;
    const zamba_backbone_options *o = &p->o;
    const int bias = o->proj_bias != 0;
    p->proj_in = p->qkv = p->proj_out = no_linear;
    if (o->attention_every > o->num_layers)
        return;
    if (o->ffn == ZAMBA_BACKBONE_FFN_EVERY) {
        p->qkv = add_linear(s, "shared.qkv", "shared_attention_qkv", 3 * p->A, p->H, bias, ZB_BB_ZERO);
        p->proj_out = add_linear(s, "shared.proj_out", "shared_attention_proj_out", p->H, p->A, bias, ZB_BB_ZERO);
        return;
    }
    const zb_bb_norm norm = add_norm(s, "shared.norm", "shared_attention_pre_norm");
    if (p->A != p->H)
        p->proj_in = add_linear(s, "shared.proj_in", "shared_attention_proj_in", p->A, p->H, 1, ZB_BB_ZERO);
    p->qkv = add_linear(s, "shared.qkv", "shared_attention_qkv", 3 * p->A, p->A, bias, ZB_BB_ZERO);
    if (p->A != p->H || o->attn_out_proj)
        p->proj_out = add_linear(s, "shared.proj_out", "shared_attention_proj_out", p->H, p->A, p->A != p->H ? 1 : bias,
                                 ZB_BB_ZERO);
    const zb_bb_norm ffn_norm = add_norm(s, "shared.ffn_norm", "shared_attention_ffn_pre_norm");
    const zb_bb_linear f1 = add_linear(s, "shared.ffn1", "shared_attention_ffn1", p->ffn, p->H, 1, ZB_BB_ZERO);
    const zb_bb_linear f2 = add_linear(s, "shared.ffn2", "shared_attention_ffn2", p->H, p->ffn, 1, ZB_BB_ZERO);
    for (size_t i = 0; p->layers && i < (size_t)o->num_layers; i++)
        if (p->layers[i].kind == ZAMBA_BACKBONE_LAYER_MAMBA_ATTENTION) {
            p->layers[i].attn_norm = norm;
            p->layers[i].ffn_norm = ffn_norm;
            p->layers[i].ffn1 = f1;
            p->layers[i].ffn2 = f2;
        }
}

static void add_extras(build *s)
{
    zb_bb_plan *p = s->p;
    const zamba_backbone_options *o = &p->o;
    char name[96];
    for (size_t i = 0; i < o->n_embeddings; i++) {
        snprintf(name, sizeof name, "embeddings.%s.weight", o->embeddings[i].name);
        const size_t at = add(s, name, "", (size_t)o->embeddings[i].ids, (size_t)o->embeddings[i].width, ZB_BB_GLOROT);
        last(s)->optional = 1;
        if (p->embeddings)
            p->embeddings[i] = at;
    }
    size_t logit = 0, target = 0;
    for (size_t i = 0; i < o->n_heads; i++) {
        const zamba_backbone_head *h = &o->heads[i];
        const size_t first = s->n, n = (size_t)h->n, hidden = (size_t)h->hidden;
        zb_bb_head made = {.hidden = no_linear, .logit = logit, .target = target};
        snprintf(name, sizeof name, "heads.%s.hidden", h->name);
        if (hidden > 0)
            made.hidden = add_linear(s, name, "", hidden, p->H, 1, ZB_BB_ZERO);
        snprintf(name, sizeof name, "heads.%s.out", h->name);
        made.out = add_linear(s, name, "", n, hidden > 0 ? hidden : p->H, 1, ZB_BB_ZERO);
        for (size_t j = first; p->params && j < s->n; j++)
            p->params[j].optional = 1;
        logit += n;
        target += h->kind == ZAMBA_BACKBONE_HEAD_CLASSES ? 1 : n;
        if (p->bb_heads)
            p->bb_heads[i] = made;
    }
    p->logits = logit;
}

static void add_all(build *s)
{
    zb_bb_plan *p = s->p;
    zb_bb_layer spare;
    p->input_proj = no_linear;
    if (p->E != p->H)
        p->input_proj = add_linear(s, "input_proj", "input_projection", p->H, p->E, 1, ZB_BB_ZERO);
    for (size_t i = 0; i < (size_t)p->o.num_layers; i++)
        add_layer(s, p->layers ? &p->layers[i] : &spare, i);
    add_shared(s);
    p->final_norm = add_norm(s, "final_norm", "final_norm");
    add_extras(s);
}

static size_t take(size_t *total, size_t n)
{
    const size_t at = *total;
    *total += n;
    return at;
}

/* State and derived tables of every layer. */
static void place_states(zb_bb_plan *p)
{
    for (size_t i = 0; i < (size_t)p->o.num_layers; i++) {
        zb_bb_layer *l = &p->layers[i];
        if (l->kind != ZAMBA_BACKBONE_LAYER_ATTENTION) {
            l->conv = take(&p->state_floats, (p->K - 1) * p->I);
            if (p->o.block != ZAMBA_BACKBONE_GATED)
                l->memory = take(&p->state_floats, p->gated ? p->I : p->I * p->N);
            if (!p->gated)
                l->derived = take(&p->derived_floats, ROUND16(p->I * p->N) + ROUND16(p->I * p->K));
        }
        if (l->kind != ZAMBA_BACKBONE_LAYER_MAMBA) {
            l->keys = take(&p->state_floats, p->W * p->A);
            l->values = take(&p->state_floats, p->W * p->A);
        }
    }
}

static void *copy_of(const void *from, size_t n)
{
    void *to = malloc(n > 0 ? n : 1);
    if (to && n > 0)
        memcpy(to, from, n);
    return to;
}

/* Own copies of the lists in the options, names included. */
static int own_lists(zb_bb_plan *p)
{
    zamba_backbone_embedding *e = copy_of(p->o.embeddings, p->o.n_embeddings * sizeof *e);
    zamba_backbone_head *h = copy_of(p->o.heads, p->o.n_heads * sizeof *h);
    int good = e != NULL && h != NULL;
    for (size_t i = 0; e && i < p->o.n_embeddings; i++)
        good &= (e[i].name = copy_of(e[i].name, strlen(e[i].name) + 1)) != NULL;
    for (size_t i = 0; h && i < p->o.n_heads; i++)
        good &= (h[i].name = copy_of(h[i].name, strlen(h[i].name) + 1)) != NULL;
    p->o.embeddings = e;
    p->o.heads = h;
    return good;
}

static uint64_t shape_hash(const zb_bb_plan *p)
{
    size_t n;
    const zb_bb_option *t = zb_bb_options_table(&n);
    uint64_t hash = 1;
    for (size_t i = 0; i < n; i++) {
        if (t[i].kind == ZB_BB_SHARE || t[i].at == offsetof(zamba_backbone_options, seq_len))
            continue; /* neither changes the function of a frame */
        int32_t v;
        memcpy(&v, (const char *)&p->o + t[i].at, sizeof v);
        if (t[i].at == offsetof(zamba_backbone_options, head_dim))
            v = (int32_t)p->head_dim;
        if (t[i].kind == ZB_BB_SWITCH)
            v = v != 0;
        hash = zb_hash(&v, sizeof v, hash);
    }
    return hash;
}

zamba_status zb_bb_plan_build(zb_bb_plan *p, const zamba_backbone_options *o, zamba_error *err)
{
    *p = (zb_bb_plan){0};
    const zamba_status st = zamba_backbone_check(o, err);
    if (st != ZAMBA_OK)
        return st;
    p->o = *o;
    p->E = (size_t)o->embed_dim;
    p->F = (size_t)zamba_backbone_frame_size(o);
    p->H = (size_t)o->hidden_size;
    p->I = p->H * (size_t)o->expand_factor;
    p->N = (size_t)o->state_size;
    p->K = (size_t)o->conv_size;
    p->heads = (size_t)o->num_heads;
    p->head_dim = (size_t)zb_bb_head_dim(o);
    p->A = p->heads * p->head_dim;
    p->W = (size_t)o->window_size;
    p->ffn = 4 * p->H;
    p->gated = o->block == ZAMBA_BACKBONE_GATED || o->block == ZAMBA_BACKBONE_GATED_CAUSAL;
    p->full_dt = o->dt_rank == -1;
    const size_t automatic = p->H / (p->gated ? p->N : 16);
    p->R = p->full_dt ? p->I : o->dt_rank > 0 ? (size_t)o->dt_rank : automatic > 1 ? automatic : 1;
    p->dense = p->F;
    for (size_t i = 0; i < o->n_embeddings; i++)
        p->dense -= (size_t)o->embeddings[i].uses;
    build s = {.p = p};
    add_all(&s); /* counts */
    const int owned = own_lists(p);
    p->params = calloc(s.n, sizeof *p->params);
    p->layers = calloc((size_t)o->num_layers, sizeof *p->layers);
    p->embeddings = calloc(o->n_embeddings + 1, sizeof *p->embeddings);
    p->bb_heads = calloc(o->n_heads + 1, sizeof *p->bb_heads);
    if (!owned || !p->params || !p->layers || !p->embeddings || !p->bb_heads) {
        zb_bb_plan_free(p);
        return zb_fail_memory(err, "backbone plan", s.n * sizeof *p->params);
    }
    s = (build){.p = p};
    add_all(&s);
    p->n_params = s.n;
    p->n_floats = s.floats;
    p->n_linears = s.linears;
    place_states(p);
    p->shape_hash = shape_hash(p);
    return ZAMBA_OK;
}

void zb_bb_plan_free(zb_bb_plan *p)
{
    if (p->params || p->layers || p->embeddings || p->bb_heads || p->o.size) { /* the lists are our own then */
        for (size_t i = 0; p->o.embeddings && i < p->o.n_embeddings; i++)
            free((void *)(uintptr_t)p->o.embeddings[i].name);
        for (size_t i = 0; p->o.heads && i < p->o.n_heads; i++)
            free((void *)(uintptr_t)p->o.heads[i].name);
        free((void *)(uintptr_t)p->o.embeddings);
        free((void *)(uintptr_t)p->o.heads);
    }
    free(p->params);
    free(p->layers);
    free(p->embeddings);
    free(p->bb_heads);
    *p = (zb_bb_plan){0};
}

size_t zb_bb_plan_find(const zb_bb_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n_params; i++)
        if (strcmp(p->params[i].name, name) == 0)
            return i;
    return ZB_BB_NONE;
}

zamba_status zamba_backbone_exact_count(const zamba_backbone_options *o, int64_t *count, zamba_error *err)
{
    zb_bb_plan p;
    const zamba_status st = zb_bb_plan_build(&p, o, err);
    if (st != ZAMBA_OK)
        return st;
    *count = 0;
    for (size_t i = 0; i < p.n_params; i++)
        *count += (int64_t)p.params[i].count;
    zb_bb_plan_free(&p);
    return ZAMBA_OK;
}

size_t zamba_backbone_state_bytes(const zamba_backbone_options *o)
{
    zb_bb_plan p;
    if (o == NULL || o->block == ZAMBA_BACKBONE_GATED || zb_bb_plan_build(&p, o, NULL) != ZAMBA_OK)
        return 0;
    const size_t bytes = p.state_floats * sizeof(float);
    zb_bb_plan_free(&p);
    return bytes;
}
