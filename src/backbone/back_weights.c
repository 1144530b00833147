/* back_weights.c — gradients of the parameters: sums over all rows of a batch, in tasks that no two of them write to
 * the same numbers. A tensor that several layers use (the shared block's) gets the sum over its uses, in the order of
 * the layers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/back.h"

#define STRIP ((size_t)32) /* outputs of a map of one task */

typedef enum task_kind { TASK_LINEAR, TASK_NORM, TASK_PARTIALS, TASK_EMBEDDING } task_kind;

/* first: its first use, the layer or the embedding; from: first output. */
typedef struct zb_bb_weight_task {
    task_kind kind;
    size_t first, from;
} zb_bb_weight_task;

/* ---- the lists ---- */

typedef struct lists {
    zb_bb_tape *t;
    int write;
} lists;

static void use(lists *s, size_t w, size_t b, size_t out, size_t in, const float *x, const float *dy, size_t rows)
{
    if (s->write)
        s->t->uses[s->t->n_uses] = (zb_bb_use){w, b, out, in, x, dy, rows};
    s->t->n_uses++;
}

static void use_linear(lists *s, const zb_bb_linear *l, const float *x, const float *dy, size_t rows)
{
    if (l->w != ZB_BB_NONE)
        use(s, l->w, l->b, l->out, l->in, x, dy, rows);
}

static void use_norm(lists *s, const zb_bb_norm *n, const float *x, const float *dy, size_t rows)
{
    if (n->w != ZB_BB_NONE)
        use(s, n->w, n->b, 0, s->t->b->plan.H, x, dy, rows);
}

static void use_mamba(lists *s, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g, size_t n)
{
    const zb_bb_plan *p = &s->t->b->plan;
    const int second = l->block_norm.w != ZB_BB_NONE;
    use_norm(s, &l->norm, a->x, second ? g->dfirst : g->dnormed, n);
    if (second)
        use_norm(s, &l->block_norm, a->first, g->dnormed, n);
    use_linear(s, &l->in_proj, a->normed, g->duz, n);
    if (p->gated)
        use_linear(s, &l->conv_proj, a->mean, g->dconv, n);
    use_linear(s, &l->bc_proj, a->u, g->dbc, n);
    if (!p->full_dt)
        use_linear(s, &l->dt_down, a->u, g->dlow, n);
    use_linear(s, &l->dt_up, p->full_dt ? a->u : a->low, g->draw, n);
    use_linear(s, &l->out_proj, a->y, g->dmixed, n);
}

static void use_attention(lists *s, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g, size_t n)
{
    const zb_bb_plan *p = &s->t->b->plan;
    const int narrow = p->proj_in.w != ZB_BB_NONE;
    use_norm(s, &l->attn_norm, a->ax, g->danormed, n);
    if (narrow)
        use_linear(s, &p->proj_in, a->anormed, g->dain, n);
    use_linear(s, &p->qkv, narrow ? a->ain : a->anormed, g->dqkv, n);
    if (p->proj_out.w != ZB_BB_NONE)
        use_linear(s, &p->proj_out, a->attn, g->damixed, n);
}

static void list_uses(lists *s)
{
    zb_bb_tape *t = s->t;
    const zb_bb_plan *p = &t->b->plan;
    t->n_uses = 0;
    use_linear(s, &p->input_proj, p->o.n_embeddings > 0 ? t->embedded : NULL, t->dx, t->rows); /* NULL: the frames */
    for (size_t i = 0; i < (size_t)p->o.num_layers; i++) {
        const zb_bb_layer *l = &p->layers[i];
        const zb_bb_acts *a = &t->acts[i];
        const zb_bb_back *g = &t->back[i];
        if (l->kind != ZAMBA_BACKBONE_LAYER_ATTENTION)
            use_mamba(s, l, a, g, t->rows);
        if (l->kind != ZAMBA_BACKBONE_LAYER_MAMBA)
            use_attention(s, l, a, g, t->rows);
        if (l->ffn1.w != ZB_BB_NONE) {
            use_norm(s, &l->ffn_norm, a->fx, g->dfnormed, t->rows);
            use_linear(s, &l->ffn1, a->fnormed, g->df1, t->rows);
            use_linear(s, &l->ffn2, a->f2, g->dfmixed, t->rows);
        }
    }
    use_norm(s, &p->final_norm, t->x, t->dy, t->rows);
    for (size_t i = 0; i < p->o.n_heads; i++) {
        const zb_bb_head *h = &p->bb_heads[i];
        const int deep = h->hidden.w != ZB_BB_NONE;
        if (deep)
            use_linear(s, &h->hidden, t->outputs, t->dhidden[i], t->outs);
        use_linear(s, &h->out, deep ? t->hidden[i] : t->outputs, t->dlogits + h->logit, t->outs);
    }
}

static void task(lists *s, task_kind kind, size_t first, size_t from)
{
    if (s->write)
        s->t->tasks[s->t->n_tasks] = (zb_bb_weight_task){kind, first, from};
    s->t->n_tasks++;
}

static int used_before(const zb_bb_tape *t, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (t->uses[k].w == t->uses[i].w)
            return 1;
    return 0;
}

static void list_tasks(lists *s)
{
    zb_bb_tape *t = s->t;
    const zb_bb_plan *p = &t->b->plan;
    t->n_tasks = 0;
    for (size_t i = 0; i < t->n_uses; i++) {
        if (used_before(t, i))
            continue;
        if (t->uses[i].out == 0)
            task(s, TASK_NORM, i, 0);
        for (size_t o = 0; o < t->uses[i].out; o += STRIP)
            task(s, TASK_LINEAR, i, o);
    }
    for (size_t i = 0; i < (size_t)p->o.num_layers && !p->gated; i++)
        if (p->layers[i].kind != ZAMBA_BACKBONE_LAYER_ATTENTION)
            task(s, TASK_PARTIALS, i, 0);
    for (size_t i = 0; i < p->o.n_embeddings; i++)
        task(s, TASK_EMBEDDING, i, 0);
}

zamba_status zb_bb_weights_plan(zb_bb_tape *t, zamba_error *err)
{
    lists s = {t, 0};
    list_uses(&s);
    if (t->n_uses > t->most_uses) {
        free(t->uses);
        t->most_uses = 0;
        t->uses = calloc(t->n_uses, sizeof *t->uses);
        if (t->uses == NULL)
            return zb_fail_memory(err, "list of products", t->n_uses * sizeof *t->uses);
        t->most_uses = t->n_uses;
    }
    s.write = 1;
    list_uses(&s);
    s.write = 0;
    list_tasks(&s);
    if (t->n_tasks > t->most_tasks) {
        free(t->tasks);
        t->most_tasks = 0;
        t->tasks = calloc(t->n_tasks, sizeof *t->tasks);
        if (t->tasks == NULL)
            return zb_fail_memory(err, "list of products", t->n_tasks * sizeof *t->tasks);
        t->most_tasks = t->n_tasks;
    }
    s.write = 1;
    list_tasks(&s);
    return ZAMBA_OK;
}

/* ---- the sums ---- */

typedef struct weights_run {
    zb_bb_tape *t;
    const zb_bb_learn *l;
} weights_run;

/* Floats from row to row of the gradient by a map's output: logits of all heads stand side by side. */
static size_t step_of(const zb_bb_tape *t, const zb_bb_use *u)
{
    const zb_bb_plan *p = &t->b->plan;
    return p->logits > 0 && u->dy >= t->dlogits && u->dy < t->dlogits + p->logits ? p->logits : u->out;
}

static void sum_linear(const weights_run *r, size_t first, size_t from)
{
    const zb_bb_tape *t = r->t;
    const zb_bb_use *u = &t->uses[first];
    const size_t n = u->out - from < STRIP ? u->out - from : STRIP, in = u->in;
    float *dw = t->grad + u->w + from * in, sums[STRIP] = {0};
    for (size_t i = first; i < t->n_uses; i++) {
        const zb_bb_use *v = &t->uses[i];
        const size_t step = step_of(t, v);
        if (v->w != u->w)
            continue;
        t->b->k->outer(dw, in, n, in, v->dy + from, 1, step, v->x ? v->x : r->l->frames, in, v->rows, i > first);
        for (size_t row = 0; row < v->rows && u->b != ZB_BB_NONE; row++)
            for (size_t k = 0; k < n; k++)
                sums[k] += v->dy[row * step + from + k];
    }
    if (u->b != ZB_BB_NONE)
        memcpy(t->grad + u->b + from, sums, n * sizeof *sums);
}

static void sum_norm(const weights_run *r, size_t first)
{
    const zb_bb_tape *t = r->t;
    const zb_bb_use *u = &t->uses[first];
    const size_t H = u->in;
    float *dw = t->grad + u->w, *db = t->grad + u->b;
    memset(dw, 0, H * sizeof *dw);
    memset(db, 0, H * sizeof *db);
    for (size_t i = first; i < t->n_uses; i++)
        for (size_t row = 0; t->uses[i].w == u->w && row < t->uses[i].rows; row++) {
            const float *x = t->uses[i].x + row * H, *dy = t->uses[i].dy + row * H;
            double sum = 0, squares = 0;
            for (size_t c = 0; c < H; c++)
                sum += (double)x[c];
            const double mean = sum / (double)H;
            for (size_t c = 0; c < H; c++)
                squares += ((double)x[c] - mean) * ((double)x[c] - mean);
            const float m = (float)mean, scale = (float)(1 / sqrt(squares / (double)H + (double)ZB_BB_LN_EPS));
            for (size_t c = 0; c < H; c++) {
                dw[c] += dy[c] * (x[c] - m) * scale;
                db[c] += dy[c];
            }
        }
}

/* What every sequence summed by itself. A = -exp(A_log): dA_log = A dA. */
static void sum_partials(const weights_run *r, size_t layer)
{
    const zb_bb_tape *t = r->t;
    const zb_bb_plan *p = &t->b->plan;
    const zb_bb_layer *l = &p->layers[layer];
    const size_t I = p->I, K = p->K, N = p->N, each = zb_bb_partial_floats(p);
    float *sum = t->back[layer].partials;
    for (size_t s = 1; s < t->batch; s++)
        t->b->k->add(sum, sum + s * each, each);
    const float *conv = sum, *A = t->b->derived + l->derived, *dA = sum + (K + 1) * I;
    for (size_t c = 0; c < I; c++)
        for (size_t k = 0; k < K; k++)
            t->grad[l->conv_w + c * K + k] = conv[k * I + c];
    memcpy(t->grad + l->conv_b, conv + K * I, I * sizeof(float));
    if (l->A_log == ZB_BB_NONE)
        return;
    for (size_t i = 0; i < I * N; i++)
        t->grad[l->A_log + i] = A[i] * dA[i];
    memcpy(t->grad + l->D, dA + I * N, I * sizeof(float));
}

static void sum_embedding(const weights_run *r, size_t e)
{
    const zb_bb_tape *t = r->t;
    const zb_bb_plan *p = &t->b->plan;
    const size_t width = (size_t)p->o.embeddings[e].width, uses = (size_t)p->o.embeddings[e].uses;
    float *table = t->grad + p->embeddings[e];
    const float *by = p->input_proj.w != ZB_BB_NONE ? t->dframes : t->dx;
    size_t column = p->dense, id = p->dense;
    memset(table, 0, (size_t)p->o.embeddings[e].ids * width * sizeof *table);
    for (size_t i = 0; i < e; i++) {
        column += (size_t)p->o.embeddings[i].uses * (size_t)p->o.embeddings[i].width;
        id += (size_t)p->o.embeddings[i].uses;
    }
    for (size_t row = 0; row < t->rows; row++)
        for (size_t u = 0; u < uses; u++) {
            float *to = table + (size_t)r->l->frames[row * p->F + id + u] * width;
            const float *d = by + row * p->E + column + u * width;
            for (size_t c = 0; c < width; c++)
                to[c] += d[c];
        }
}

static void weight_task(void *ctx, size_t i, int worker)
{
    const weights_run *r = ctx;
    const zb_bb_weight_task *k = &r->t->tasks[i];
    (void)worker;
    switch (k->kind) {
    case TASK_LINEAR:
        sum_linear(r, k->first, k->from);
        break;
    case TASK_NORM:
        sum_norm(r, k->first);
        break;
    case TASK_PARTIALS:
        sum_partials(r, k->first);
        break;
    case TASK_EMBEDDING:
        sum_embedding(r, k->first);
        break;
    }
}

void zb_bb_weights_run(zb_bb_tape *t, const zb_bb_learn *l)
{
    weights_run r = {t, l};
    if (t->pool)
        zb_pool_run(t->pool, t->n_tasks, weight_task, &r);
    else
        for (size_t i = 0; i < t->n_tasks; i++)
            weight_task(&r, i, 0);
}
