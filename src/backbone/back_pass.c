/* back_pass.c — a batch there and back: what is kept, one sequence after the other on every thread, layers in their
 * order and then backwards. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/back.h"

/* ---- memory ---- */

static float *place(float *base, size_t *at, size_t n)
{
    float *p = base ? base + *at : NULL;
    *at += (n + 15) / 16 * 16;
    return p;
}

/* place() for what a layer may not have. */
static float *place_if(int there, float *base, size_t *at, size_t n)
{
    return there ? place(base, at, n) : NULL;
}

static size_t place_back(zb_bb_back *g, const zb_bb_plan *p, const zb_bb_layer *l, size_t rows, size_t batch, int drop,
                         float *base)
{
    const int mamba = l->kind != ZAMBA_BACKBONE_LAYER_ATTENTION, attention = l->kind != ZAMBA_BACKBONE_LAYER_MAMBA,
              ffn = l->ffn1.w != ZB_BB_NONE;
    const size_t H = rows * p->H, I = rows * p->I, A = rows * p->A;
    size_t n = 0;
    *g = (zb_bb_back){0};
    g->dmixed = place_if(mamba, base, &n, H);
    g->duz = place_if(mamba, base, &n, 2 * I);
    g->dconv = place_if(mamba && p->gated, base, &n, I);
    g->dbc = place_if(mamba, base, &n, rows * 2 * p->N);
    g->dlow = place_if(mamba && !p->full_dt, base, &n, rows * p->R);
    g->draw = place_if(mamba, base, &n, I);
    g->dnormed = place_if(mamba, base, &n, H);
    g->dfirst = place_if(mamba && l->block_norm.w != ZB_BB_NONE, base, &n, H);
    g->partials = place_if(mamba && !p->gated, base, &n, batch * zb_bb_partial_floats(p));
    g->damixed = place_if(attention, base, &n, H > A ? H : A);
    g->dqkv = place_if(attention, base, &n, 3 * A);
    g->dain = place_if(attention && p->proj_in.w != ZB_BB_NONE, base, &n, A);
    g->danormed = place_if(attention, base, &n, H);
    g->dfmixed = place_if(ffn, base, &n, H);
    g->df1 = place_if(ffn, base, &n, rows * p->ffn);
    g->dfnormed = place_if(ffn, base, &n, H);
    g->drop = place_if(mamba && drop, base, &n, H);
    g->adrop = place_if(attention && drop, base, &n, H);
    g->fdrop = place_if(ffn && drop, base, &n, H);
    return n;
}

/* Lay out everything of the shape at `base`, NULL: only count. */
static size_t lay_out(zb_bb_tape *t, float *base)
{
    const zb_bb_plan *p = &t->b->plan;
    const size_t layers = (size_t)p->o.num_layers, H = t->rows * p->H;
    size_t n = 0;
    for (size_t i = 0; i < layers; i++) {
        n += zb_bb_acts_place(&t->acts[i], p, t->rows, 1, base ? base + n : NULL);
        n += place_back(&t->back[i], p, &p->layers[i], t->rows, t->batch, 1, base ? base + n : NULL);
    }
    t->embedded = place_if(p->o.n_embeddings > 0, base, &n, t->rows * p->E);
    t->x = place(base, &n, H);
    t->y = place(base, &n, H);
    t->dy = place(base, &n, H);
    t->dx = place(base, &n, H);
    t->dframes = place_if(p->input_proj.w != ZB_BB_NONE, base, &n, t->rows * p->E);
    t->outputs = t->all ? t->y : place(base, &n, t->outs * p->H);
    t->logits = place(base, &n, t->outs * p->logits);
    t->dlogits = place(base, &n, t->outs * p->logits);
    for (size_t i = 0; i < p->o.n_heads; i++) {
        const int deep = p->bb_heads[i].hidden.w != ZB_BB_NONE;
        t->hidden[i] = place_if(deep, base, &n, t->outs * p->bb_heads[i].out.in);
        t->dhidden[i] = place_if(deep, base, &n, t->outs * p->bb_heads[i].out.in);
    }
    t->losses = place(base, &n, t->outs * (p->o.n_heads + 1));
    t->right = place(base, &n, t->outs * (p->o.n_heads + 1));
    t->worker_floats = (p->state_floats + 15) / 16 * 16 + (zb_bb_scratch_floats(p, t->seq) + 15) / 16 * 16 +
                       (t->seq * p->H + 15) / 16 * 16 + zb_bb_room_floats(p, t->seq);
    t->workers = place(base, &n, (size_t)t->threads * t->worker_floats);
    return n;
}

/* An upper bound of what lay_out counts, so that no product in it can overflow. */
static zamba_status check_size(const zb_bb_plan *p, size_t batch, size_t seq, zamba_error *err)
{
    size_t rows, each = p->E + p->F + 64 * (p->H + p->I + p->A + p->N + p->R + p->ffn + p->logits + p->W + 64), all;
    for (size_t i = 0; i < p->o.n_heads; i++)
        each += 2 * p->bb_heads[i].out.in;
    if (!zb_mul(batch, seq, &rows) || !zb_mul(rows, each, &all) || !zb_mul(all, (size_t)p->o.num_layers + 4, &all) ||
        !zb_mul(all, sizeof(float), &all))
        return zb_fail(err, ZAMBA_E_ARG, "training: %zu sequences of %zu frames are more than memory can hold", batch,
                       seq);
    return ZAMBA_OK;
}

zamba_status zb_bb_tape_open(zb_bb_tape *t, const zamba_backbone *b, zb_pool *pool, zamba_error *err)
{
    const zb_bb_plan *p = &b->plan;
    *t = (zb_bb_tape){.b = b, .pool = pool, .threads = pool ? zb_pool_threads(pool) : 1};
    t->grad = zb_calloc_aligned(p->n_floats * sizeof(float));
    const size_t layers = (size_t)p->o.num_layers, all = layers * (1 + (size_t)t->threads);
    t->acts = calloc(all, sizeof *t->acts);
    t->back = calloc(all, sizeof *t->back);
    t->worker_acts = t->acts ? t->acts + layers : NULL;
    t->worker_back = t->back ? t->back + layers : NULL;
    if (t->grad && t->acts && t->back)
        return ZAMBA_OK;
    zb_bb_tape_close(t);
    return zb_fail_memory(err, "gradients", p->n_floats * sizeof(float));
}

void zb_bb_tape_close(zb_bb_tape *t)
{
    zb_free_aligned(t->grad);
    zb_free_aligned(t->memory);
    free(t->acts);
    free(t->back);
    free(t->uses);
    free(t->tasks);
    *t = (zb_bb_tape){0};
}

zamba_status zb_bb_tape_shape(zb_bb_tape *t, size_t batch, size_t seq, int all, zamba_error *err)
{
    if (t->batch == batch && t->seq == seq && t->all == all)
        return ZAMBA_OK;
    zamba_status st = check_size(&t->b->plan, batch, seq, err);
    if (st != ZAMBA_OK)
        return st;
    t->batch = batch;
    t->seq = seq;
    t->rows = batch * seq;
    t->all = all;
    t->outs = all ? t->rows : batch;
    const size_t bytes = lay_out(t, NULL) * sizeof(float);
    if (bytes > t->bytes) {
        zb_free_aligned(t->memory);
        t->bytes = 0;
        t->memory = zb_alloc_large(bytes);
        if (t->memory == NULL) {
            t->batch = t->seq = 0;
            return zb_fail_memory(err, "what training keeps of a batch", bytes);
        }
        t->bytes = bytes;
    }
    (void)lay_out(t, t->memory);
    st = zb_bb_weights_plan(t, err);
    if (st != ZAMBA_OK)
        t->batch = t->seq = 0;
    return st;
}

size_t zb_bb_tape_bytes(const zb_bb_tape *t)
{
    return t->bytes + t->b->plan.n_floats * sizeof(float) + t->most_uses * sizeof *t->uses;
}

/* ---- one sequence ---- */

/* The same buffers from a row on. */
static zb_bb_acts acts_at(const zb_bb_acts *a, const zb_bb_plan *p, size_t row)
{
    zb_bb_acts s = *a;
    const struct {
        float **at;
        size_t width;
    } all[] = {{&s.x, p->H},    {&s.normed, p->H},  {&s.first, p->H},  {&s.uz, 2 * p->I}, {&s.mean, p->I},
               {&s.conv, p->I}, {&s.u, p->I},       {&s.bc, 2 * p->N}, {&s.low, p->R},    {&s.raw, p->I},
               {&s.dt, p->I},   {&s.y, p->I},       {&s.mixed, p->H},  {&s.ax, p->H},     {&s.anormed, p->H},
               {&s.ain, p->A},  {&s.qkv, 3 * p->A}, {&s.qn, 3 * p->A}, {&s.attn, p->A},   {&s.amixed, p->H},
               {&s.fx, p->H},   {&s.fnormed, p->H}, {&s.f1, p->ffn},   {&s.f2, p->ffn},   {&s.fmixed, p->H}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (*all[i].at)
            *all[i].at += row * all[i].width;
    return s;
}

static zb_bb_back back_at(const zb_bb_back *g, const zb_bb_plan *p, size_t row)
{
    zb_bb_back s = *g;
    const struct {
        float **at;
        size_t width;
    } all[] = {{&s.dmixed, p->H}, {&s.duz, 2 * p->I},  {&s.dconv, p->I},   {&s.dbc, 2 * p->N}, {&s.dlow, p->R},
               {&s.draw, p->I},   {&s.dnormed, p->H},  {&s.dfirst, p->H},  {&s.damixed, p->H}, {&s.dqkv, 3 * p->A},
               {&s.dain, p->A},   {&s.danormed, p->H}, {&s.dfmixed, p->H}, {&s.df1, p->ffn},   {&s.dfnormed, p->H},
               {&s.drop, p->H},   {&s.adrop, p->H},    {&s.fdrop, p->H}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (*all[i].at)
            *all[i].at += row * all[i].width;
    return s;
}

/* What the branches of a layer are multiplied by. */
static void draw(const zb_bb_run *r, const zb_bb_learn *l, size_t layer, zb_bb_back *g, zb_bb_acts *a)
{
    const zb_bb_branch branches[] = {ZB_BB_BRANCH_MAMBA, ZB_BB_BRANCH_ATTENTION, ZB_BB_BRANCH_FFN};
    float *to[] = {g->drop, g->adrop, g->fdrop};
    for (size_t k = 0; k < 3; k++)
        if (to[k])
            l->draw(l->draw_ctx, to[k], layer, branches[k], r->row0, r->n);
    a->drop = g->drop;
    a->adrop = g->adrop;
    a->fdrop = g->fdrop;
}

static void there(const zb_bb_run *r, const zb_bb_learn *l, zb_bb_acts *acts, zb_bb_back *back, float *state,
                  float *scratch)
{
    zb_bb_tape *t = r->t;
    const zb_bb_plan *p = &r->b->plan;
    const zb_bb_segment segment = {.row0 = 0, .n = r->n, .state = state, .frame = 0, .length = r->n};
    for (size_t i = 0; i < (size_t)p->o.num_layers; i++) {
        acts[i] = acts_at(&t->acts[i], p, r->row0);
        back[i] = back_at(&t->back[i], p, r->row0);
        if (l->draw)
            draw(r, l, i, &back[i], &acts[i]);
        else
            back[i].drop = back[i].adrop = back[i].fdrop = NULL;
    }
    memset(state, 0, p->state_floats * sizeof *state);
    const zb_bb_pass pass = {.b = r->b,
                             .segments = &segment,
                             .n_segments = 1,
                             .rows = r->n,
                             .acts = acts,
                             .embedded = t->embedded ? t->embedded + r->row0 * p->E : NULL,
                             .x = t->x + r->row0 * p->H,
                             .scratch = scratch,
                             .exact = 1};
    zb_bb_pass_run(&pass, l->frames + r->row0 * p->F, t->y + r->row0 * p->H);
}

static void back_again(const zb_bb_run *r, const zb_bb_acts *acts, const zb_bb_back *back)
{
    zb_bb_tape *t = r->t;
    const zb_bb_plan *p = &r->b->plan;
    const size_t bytes = r->n * p->H * sizeof(float);
    memset(r->dx, 0, bytes);
    zb_bb_back_norm(r, &p->final_norm, r->dx, t->dy + r->row0 * p->H, t->x + r->row0 * p->H, r->n);
    for (size_t i = (size_t)p->o.num_layers; i-- > 0;) {
        const zb_bb_layer *l = &p->layers[i];
        if (l->ffn1.w != ZB_BB_NONE)
            zb_bb_back_ffn(r, l, &acts[i], &back[i]);
        if (l->kind != ZAMBA_BACKBONE_LAYER_MAMBA)
            zb_bb_back_attention(r, l, &acts[i], &back[i]);
        if (l->kind != ZAMBA_BACKBONE_LAYER_ATTENTION)
            zb_bb_back_mamba(r, l, &acts[i], &back[i]);
    }
    memcpy(t->dx + r->row0 * p->H, r->dx, bytes);
    if (t->dframes)
        zb_bb_back_product(r, &p->input_proj, t->dframes + r->row0 * p->E, r->dx, r->n, 0);
}

typedef struct batch_run {
    zb_bb_tape *t;
    const zb_bb_learn *l;
} batch_run;

static void sequence_task(void *ctx, size_t i, int worker)
{
    const batch_run *s = ctx;
    zb_bb_tape *t = s->t;
    const zb_bb_plan *p = &t->b->plan;
    const size_t layers = (size_t)p->o.num_layers;
    float *state = t->workers + (size_t)worker * t->worker_floats, *scratch = state + (p->state_floats + 15) / 16 * 16,
          *dx = scratch + (zb_bb_scratch_floats(p, t->seq) + 15) / 16 * 16;
    zb_bb_acts *acts = t->worker_acts + (size_t)worker * layers;
    zb_bb_back *back = t->worker_back + (size_t)worker * layers;
    const zb_bb_run r = {t, t->b, t->b->k, i, i * t->seq, t->seq, dx, dx + (t->seq * p->H + 15) / 16 * 16};
    there(&r, s->l, acts, back, state, scratch);
    zb_bb_back_loss(&r, s->l);
    if (s->l->backward)
        back_again(&r, acts, back);
}

void zb_bb_tape_run(zb_bb_tape *t, const zb_bb_learn *l)
{
    batch_run r = {t, l};
    if (t->pool)
        zb_pool_run(t->pool, t->batch, sequence_task, &r);
    else
        for (size_t i = 0; i < t->batch; i++)
            sequence_task(&r, i, 0);
    if (l->backward)
        zb_bb_weights_run(t, l);
}
