/* tape.c — a microbatch of training: memory, the forward pass that keeps its activations, the head and the loss some
 * rows at a time, and the walk back over the plan's rows. The stations backwards are back_mixer.c's and back_block.c's.
 */
#include "model/tape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "model/tape_slots.h"

/* ---- memory ---- */

typedef struct layout {
    float *base;
    size_t at;
} layout;

static float *take(layout *l, size_t rows, size_t cols)
{
    float *p = l->base == NULL ? NULL : l->base + l->at;
    l->at += (rows * cols + 15) / 16 * 16;
    return p;
}

static size_t greatest(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void take_mixer(const zb_plan *p, zb_slot *s, layout *l, size_t rows)
{
    const zb_config *c = &p->config;
    const size_t zamba1 = c->family == ZB_ZAMBA1;
    s->normed = take(l, rows, c->hidden_size);
    s->proj = take(l, rows, zb_row_length(p->in_rows));
    s->conv = take(l, rows, zb_row_length(p->conv_channels));
    s->y = take(l, rows, zb_row_length(c->mamba_inner));
    s->gated = zamba1 ? s->y : take(l, rows, zb_row_length(c->mamba_inner));
    s->dt = take(l, rows, zamba1 ? c->mamba_inner : c->mamba_heads);
    s->dt_raw = zamba1 ? take(l, rows, c->mamba_inner) : s->dt;
    s->dbc = take(l, rows, zamba1 * c->mamba_heads * (c->mamba_dt_rank + 2 * c->mamba_state));
}

static void take_block(const zb_plan *p, zb_slot *s, layout *l, size_t rows)
{
    const zb_config *c = &p->config;
    const size_t h = c->hidden_size, q = zb_row_length(c->n_heads * c->head_dim),
                 kv = zb_row_length(c->n_kv_heads * c->head_dim), low = zb_row_length(3 * zb_adapter_step(c));
    s->wide = take(l, rows, zb_row_length(2 * h));
    s->q = take(l, rows, q);
    s->k = take(l, rows, kv);
    s->v = take(l, rows, kv);
    s->attn = take(l, rows, q);
    s->adapter = take(l, rows, low);
    s->ffn_adapter = take(l, rows, low);
    s->o = take(l, rows, h);
    s->ffn_in = take(l, rows, h);
    s->gate_up = take(l, rows, zb_row_length(2 * c->ffn_size));
    s->act = take(l, rows, zb_row_length(c->ffn_size));
    s->ffn_out = take(l, rows, h);
    s->t = take(l, rows, h);
}

/* What is kept. With checkpoints all layers share one place for all but x. */
static size_t lay_out_slots(zb_tape *t, float *base)
{
    const zb_plan *p = &t->m->plan;
    const size_t rows = t->o.rows, h = p->config.hidden_size;
    layout l = {base, 0};
    zb_slot one = {0};
    t->last = take(&l, rows, h);
    if (t->o.checkpoint) {
        take_mixer(p, &one, &l, rows);
        if (p->n_uses > 0)
            take_block(p, &one, &l, rows);
    }
    for (size_t i = 0; i < p->config.n_layers; i++) {
        zb_slot *s = &t->slots[i];
        if (t->o.checkpoint)
            *s = one;
        s->x = take(&l, rows, h);
        if (t->o.checkpoint)
            continue;
        take_mixer(p, s, &l, rows);
        if (p->layers[i].shared >= 0)
            take_block(p, s, &l, rows);
    }
    return l.at;
}

/* Floats of gradients by outputs that stand prepared at the same time: as products of one station take them. Rounded
 * rows and their pairs are as many, but each row may be longer by some cache lines. */
static size_t prepared_floats(const zb_tape *t)
{
    const zb_plan *p = &t->m->plan;
    const zb_config *c = &p->config;
    const size_t hybrid = p->n_uses > 0, low = 3 * zb_adapter_step(c),
                 qkv = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
    size_t widest = greatest(p->in_rows, c->mamba_head_dim + c->mamba_dt_rank + 2 * c->mamba_state);
    widest = greatest(greatest(widest, c->hidden_size), hybrid * greatest(qkv + low, 2 * c->ffn_size + low));
    if (t->m->weights.lora_rank > 0)
        widest += ZB_MOST_LORAS * (t->m->weights.lora_rank + 64);
    return greatest((t->o.rows + 64) * (widest + 512),
                    (ZB_LOSS_ROWS + 64) * (c->vocab_size + t->m->weights.lora_rank + 192)) +
           4096;
}

size_t zb_back_unit(const zb_config *c)
{
    const size_t per_group = c->family == ZB_ZAMBA1 ? 1 : c->mamba_heads / c->mamba_groups;
    size_t unit = least(per_group, 4);
    while (per_group % unit != 0)
        unit--;
    return unit;
}

static size_t widest_input(const zb_plan *p)
{
    const zb_config *c = &p->config;
    const size_t hybrid = p->n_uses > 0;
    return greatest(greatest(c->hidden_size, c->mamba_inner),
                    hybrid * greatest(2 * c->hidden_size, greatest(c->n_heads * c->head_dim, c->ffn_size)));
}

static size_t lay_out_back(zb_tape *t, float *base)
{
    const zb_plan *p = &t->m->plan;
    const zb_config *c = &p->config;
    const size_t rows = t->o.rows, h = c->hidden_size, inner = zb_row_length(c->mamba_inner), hybrid = p->n_uses > 0,
                 zamba1 = c->family == ZB_ZAMBA1, N = c->mamba_state,
                 q = hybrid * zb_row_length(c->n_heads * c->head_dim),
                 kv = hybrid * zb_row_length(c->n_kv_heads * c->head_dim),
                 units = zamba1 ? c->mamba_heads * ceil_div(c->mamba_head_dim, ZB_SCAN_UNIT)
                                : c->mamba_heads / zb_back_unit(c),
                 chunks = zamba1 ? 0 : rows / ZB_SSD_CHUNK + t->o.examples, lora = t->m->weights.lora_rank > 0,
                 drop = t->m->weights.lora_dropout > 0;
    layout l = {base, 0};
    t->dx = take(&l, rows, h);
    t->dx0 = take(&l, rows, h);
    t->dnormed = take(&l, rows, h);
    t->dt_ = take(&l, rows, h);
    t->partials = take(&l, ceil_div(rows, ZB_BACK_ROWS), greatest(greatest(2 * h, c->mamba_inner), h));
    t->prepared_floats = prepared_floats(t);
    t->prepared = take(&l, 1, t->prepared_floats);
    t->dlora = take(&l, rows, lora ? zb_row_length(ZB_MOST_LORAS * zb_lora_step(&t->m->weights)) : 0);
    t->dropped = take(&l, rows, drop * widest_input(p));
    t->ddropped = take(&l, rows, drop * widest_input(p));
    t->branch = take(&l, rows, (t->o.hidden_dropout > 0) * h);
    layout other = l, head = l; /* what stations use in turn */
    t->dgated = take(&l, rows, inner);
    t->dproj = take(&l, rows, zb_row_length(p->in_rows));
    t->dconv = take(&l, rows, zb_row_length(p->conv_channels));
    t->ddt = take(&l, rows, zamba1 ? c->mamba_inner : c->mamba_heads);
    t->ddbc = take(&l, rows, zamba1 * c->mamba_heads * (c->mamba_dt_rank + 2 * N));
    t->shares = take(&l, units * rows, 2 * N);
    t->runs = take(&l, 1,
                   greatest(t->o.examples * (zamba1 ? c->mamba_inner * (N + 1) : 2 * c->mamba_heads),
                            (c->mamba_conv + 1) * p->conv_channels));
    t->states = take(&l, chunks, c->mamba_inner * N);
    t->both = take(&other, ceil_div(rows, ZB_BACK_ROWS), hybrid * 2 * h);
    t->dwide = take(&other, rows, hybrid * zb_row_length(2 * h));
    t->dq = take(&other, rows, q);
    t->dk = take(&other, rows, kv);
    t->dv = take(&other, rows, kv);
    t->dattn = take(&other, rows, q);
    t->dlow = take(&other, rows, hybrid * zb_row_length(3 * zb_adapter_step(c)));
    t->do_ = take(&other, rows, hybrid * h);
    t->dffn_in = take(&other, rows, hybrid * h);
    t->dffn_out = take(&other, rows, hybrid * h);
    t->dact = take(&other, rows, hybrid * zb_row_length(c->ffn_size));
    t->dgate_up = take(&other, rows, hybrid * zb_row_length(2 * c->ffn_size));
    t->logits = take(&head, ZB_LOSS_ROWS, c->vocab_size);
    return greatest(l.at, greatest(other.at, head.at));
}

static size_t worker_floats(const zb_tape *t)
{
    const zb_plan *p = &t->m->plan;
    const zb_config *c = &p->config;
    const size_t rows = t->o.rows, inner = c->mamba_inner, N = c->mamba_state;
    size_t longest = greatest(rows, greatest(p->in_rows, c->hidden_size)), most;
    if (p->n_uses > 0)
        longest = greatest(longest, greatest(2 * c->ffn_size, c->n_heads * c->head_dim));
    longest = greatest(greatest(longest, c->vocab_size), widest_input(p));
    most = (t->m->weights.in_blocks ? 256 : 64) * (longest + 64); /* a strip of columns */
    if (p->n_uses > 0)
        most = greatest(most, zb_attn_backward_scratch(rows, c->head_dim));
    if (p->n_uses > 0 && t->o.attention_dropout > 0)
        most = greatest(most, zb_attend_dropping_scratch(rows));
    if (c->family == ZB_ZAMBA1)
        return greatest(most, zb_scan_backward_scratch(rows, N, ZB_SCAN_UNIT));
    const zb_ssm_dims d = {zb_back_unit(c), 1, c->mamba_head_dim, N};
    return greatest(most, inner * N + greatest(zb_ssd_backward_scratch(d), zb_ssd_scratch(d)));
}

uint64_t zb_tape_bytes(const zb_tape *t)
{
    return (uint64_t)(t->kept_floats + t->back_floats + (size_t)zb_pool_threads(t->m->pool) * t->worker_floats) *
               sizeof(float) +
           zb_workspace_bytes(t->m, t->o.rows);
}

/* One layer's state and pages for all of its tokens. */
static zamba_status open_sequences(zb_tape *t, zamba_error *err)
{
    const zb_plan *p = &t->m->plan;
    const size_t state = p->state_floats / p->config.n_layers;
    t->sequences = calloc(t->o.examples, sizeof *t->sequences);
    t->items = calloc(t->o.examples, sizeof *t->items);
    if (t->sequences == NULL || t->items == NULL)
        return zb_fail_memory(err, "examples", t->o.examples * sizeof *t->sequences);
    for (size_t i = 0; i < t->o.examples; i++) {
        zamba_sequence *s = &t->sequences[i];
        s->model = t->m;
        s->n_ctx = t->o.rows;
        s->max_pages = ceil_div(t->o.rows, ZB_PAGE_TOKENS);
        s->state = zb_calloc_aligned(state * sizeof *s->state);
        s->pages = calloc(s->max_pages, sizeof *s->pages);
        if (s->state == NULL || s->pages == NULL)
            return zb_fail_memory(err, "examples", state * sizeof *s->state);
    }
    return ZAMBA_OK;
}

static void drop_pages(zb_tape *t)
{
    for (size_t i = 0; t->sequences != NULL && i < t->o.examples; i++) {
        zamba_sequence *s = &t->sequences[i];
        for (size_t k = 0; k < s->n_pages; k++)
            zb_page_drop(&t->m->pages, s->pages[k]);
        s->n_pages = 0;
    }
}

zamba_status zb_tape_open(zb_tape **out, zb_params *p, const zb_tape_options *o, zamba_error *err)
{
    *out = NULL;
    if (o->rows == 0 || o->examples == 0)
        return zb_fail(err, ZAMBA_E_ARG, "microbatch: %zu tokens in %zu examples, wanted at least one", o->rows,
                       o->examples);
    zb_tape *t = calloc(1, sizeof *t);
    if (t == NULL)
        return zb_fail_memory(err, "tape", sizeof *t);
    t->m = p->m;
    t->p = p;
    t->o = *o;
    t->slots = calloc(t->m->plan.config.n_layers, sizeof *t->slots);
    t->tokens = calloc(o->rows, sizeof *t->tokens);
    zamba_status st = ZAMBA_OK;
    if (t->slots == NULL || t->tokens == NULL)
        st = zb_fail_memory(err, "tape", t->m->plan.config.n_layers * sizeof *t->slots + o->rows * sizeof *t->tokens);
    if (st == ZAMBA_OK) {
        t->kept_floats = lay_out_slots(t, NULL);
        t->back_floats = lay_out_back(t, NULL);
        t->worker_floats = worker_floats(t);
        const size_t workers = (size_t)zb_pool_threads(t->m->pool) * t->worker_floats;
        t->kept = zb_alloc_aligned(t->kept_floats * sizeof *t->kept);
        t->back = zb_alloc_aligned(t->back_floats * sizeof *t->back);
        t->worker = zb_alloc_aligned(workers * sizeof *t->worker);
        if (t->kept == NULL || t->back == NULL || t->worker == NULL)
            st = zb_fail_memory(err, "activations of a microbatch (fewer tokens in it, or checkpoints of activations)",
                                (t->kept_floats + t->back_floats + workers) * sizeof(float));
    }
    if (st == ZAMBA_OK) {
        lay_out_slots(t, t->kept);
        lay_out_back(t, t->back);
        st = zb_workspace_take(t->m, o->rows, o->examples, ceil_div(o->rows, ZB_PAGE_TOKENS), &t->ws, err);
    }
    if (st == ZAMBA_OK)
        st = open_sequences(t, err);
    if (st != ZAMBA_OK) {
        zb_tape_close(t);
        return st;
    }
    *out = t;
    return ZAMBA_OK;
}

void zb_tape_close(zb_tape *t)
{
    if (t == NULL)
        return;
    drop_pages(t);
    for (size_t i = 0; t->sequences != NULL && i < t->o.examples; i++) {
        zb_free_aligned(t->sequences[i].state);
        free(t->sequences[i].pages);
    }
    if (t->ws != NULL)
        zb_workspace_drop(t->ws);
    free(t->sequences);
    free(t->items);
    zb_free_aligned(t->worker);
    zb_free_aligned(t->back);
    zb_free_aligned(t->kept);
    free(t->tokens);
    free(t->slots);
    free(t);
}

/* ---- forward ---- */

void zb_tape_dropout(zb_tape *t, uint64_t seed)
{
    t->drop_seed = seed;
}

static void keep_row(const pass *p, size_t row, const void *arg)
{
    const zb_slot *s = arg;
    const size_t h = p->c->hidden_size;
    memcpy(s->x + row * h, p->ws->x + row * h, h * sizeof *s->x);
}

void zb_tape_enter(const pass *p, size_t layer)
{
    const zb_plan *plan = &p->m->plan;
    const size_t state = plan->state_floats / plan->config.n_layers;
    zb_workspace *ws = p->ws;
    const zb_slot *s = &p->tape->slots[layer];
    if (s->x != ws->x)
        zb_each_row(p, keep_row, s);
    for (size_t i = 0; i < p->n_spans; i++)
        memset(ws->spans[i].seq->state, 0, state * sizeof *ws->spans[i].seq->state);
    ws->normed = s->normed;
    ws->proj = s->proj;
    ws->conv = s->conv;
    ws->y = s->y;
    ws->gated = s->gated;
    ws->dt = s->dt;
    ws->dt_raw = s->dt_raw;
    ws->dbc = s->dbc;
    if (plan->layers[layer].shared < 0)
        return;
    ws->wide = s->wide;
    ws->q = s->q;
    ws->k = s->k;
    ws->v = s->v;
    ws->attn = s->attn;
    ws->adapter = s->adapter;
    ws->ffn_adapter = s->ffn_adapter;
    ws->o = s->o;
    ws->ffn_in = s->ffn_in;
    ws->gate_up = s->gate_up;
    ws->act = s->act;
    ws->ld_act = zb_row_length(plan->config.ffn_size);
    ws->ffn_out = s->ffn_out;
    ws->t = s->t;
}

void zb_tape_leave(const pass *p)
{
    p->ws->normed = p->tape->last;
}

zamba_status zb_tape_forward(zb_tape *t, const zb_example *examples, size_t n, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    size_t rows = 0;
    drop_pages(t);
    if (n == 0 || n > t->o.examples)
        return zb_fail(err, ZAMBA_E_ARG, "microbatch: %zu examples, wanted 1 to %zu", n, t->o.examples);
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++) {
        zamba_sequence *s = &t->sequences[i];
        if (examples[i].n == 0 || examples[i].n > t->o.rows - rows)
            return zb_fail(err, ZAMBA_E_ARG, "microbatch: example %zu has %zu tokens, wanted 1 to %zu", i,
                           examples[i].n, t->o.rows - rows);
        t->items[i] = (zamba_batch_item){
            .sequence = s, .tokens = examples[i].ids, .n_tokens = examples[i].n, .want = ZAMBA_LOGITS_NONE};
        t->ws->spans[i] = (zb_span){.seq = s, .item = i, .row = rows, .n = examples[i].n, .done = 0};
        for (size_t k = 0; k < examples[i].n; k++)
            t->tokens[rows + k] = examples[i].token + k;
        rows += examples[i].n;
        st = zb_sequence_reserve(s, examples[i].n, err);
    }
    if (st != ZAMBA_OK)
        return st;
    t->pass = (pass){.m = t->m,
                     .c = &t->m->plan.config,
                     .k = t->m->kernels,
                     .ws = t->ws,
                     .items = t->items,
                     .rows = rows,
                     .n_spans = n,
                     .n_threads = t->m->n_threads_batch,
                     .tape = t};
    zb_pass_run(&t->pass);
    memset(t->dnormed, 0, rows * t->m->plan.config.hidden_size * sizeof *t->dnormed);
    return ZAMBA_OK;
}

/* ---- the head and the loss ---- */

static void round_input_row(const pass *p, size_t row, const void *arg)
{
    zb_round_row(p, *(const operand *)arg, row, 0, p->c->hidden_size);
}

typedef struct loss_run {
    zb_tape *t;
    zb_loss_fn fn;
    void *ctx;
    size_t row0, rows;
} loss_run;

static void loss_task(void *ctx, size_t task, int worker)
{
    const loss_run *r = ctx;
    const size_t vocab = r->t->pass.c->vocab_size, end = least((task + 1) * 8, r->rows);
    (void)worker;
    for (size_t i = task * 8; i < end; i++)
        r->fn(r->ctx, r->row0 + i, r->t->logits + i * vocab, vocab);
}

zamba_status zb_tape_loss(zb_tape *t, zb_loss_fn fn, void *ctx, int gradient, zamba_error *err)
{
    const size_t h = t->pass.c->hidden_size, vocab = t->pass.c->vocab_size;
    const zb_mat *head = &t->m->weights.head;
    float *dw = zb_grad(t, t->pass.c->tied_head ? ZB_EMBED : ZB_LM_HEAD, -1, -1, -1);
    (void)err;
    for (size_t row0 = 0; row0 < t->pass.rows; row0 += ZB_LOSS_ROWS) {
        pass part = t->pass;
        part.rows = least(ZB_LOSS_ROWS, t->pass.rows - row0);
        const float *x = t->last + row0 * h;
        const operand in = zb_operand(&part, x, h, 0);
        zb_each_row(&part, round_input_row, &in);
        zb_multiply(
            &part, ZB_OP_HEAD,
            &(product_job){.parts = {{*head, in, t->logits, vocab, NULL, 0, zb_lora_on(&t->m->weights.head_lora), 0}},
                           .n_parts = 1},
            1);
        loss_run r = {t, fn, ctx, row0, part.rows};
        zb_pool_run_on(t->m->pool, part.n_threads, ceil_div(part.rows, 8), loss_task, &r);
        if (!gradient)
            continue;
        zb_back_begin(t);
        const zb_dy dy = zb_back_prepare(t, t->logits, vocab, vocab, part.rows, dw != NULL);
        zb_back_multiply(t,
                         &(zb_back_job){.parts = {{*head, dw, dy, x, h, zb_lora_on(&t->m->weights.head_lora)}},
                                        .n_parts = 1,
                                        .dx = t->dnormed + row0 * h,
                                        .ld_dx = h},
                         1);
    }
    return ZAMBA_OK;
}

/* ---- the walk back ---- */

float *zb_grad(const zb_tape *t, zb_role role, int32_t layer, int32_t block, int32_t use)
{
    for (size_t i = 0; i < t->p->n; i++) {
        const zb_spec *s = &t->p->specs[i];
        if (s->role == role && s->layer == layer && s->block == block && s->use == use)
            return t->p->grad + t->p->at[i];
    }
    return NULL;
}

static void final_norm_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const size_t h = t->pass.c->hidden_size;
    (void)arg;
    for (size_t i = row0; i < row1; i++)
        t->pass.k->rmsnorm_backward(t->dx + i * h, partial, t->dnormed + i * h, t->ws->x + i * h,
                                    t->m->weights.final_norm, h, t->pass.c->norm_eps);
}

/* The lookup: rows of ids add up, in the order of the rows. A task takes some columns. */
static void embed_task(void *ctx, size_t task, int worker)
{
    zb_tape *t = ctx;
    const size_t h = t->pass.c->hidden_size, c0 = task * 64, n = least(64, h - c0);
    float *d = zb_grad(t, ZB_EMBED, -1, -1, -1);
    (void)worker;
    for (size_t i = 0; i < t->pass.n_spans; i++) {
        const zb_span *s = &t->ws->spans[i];
        for (size_t k = 0; k < s->n; k++) {
            const int32_t id = t->items[i].tokens[k];
            const size_t at = (s->row + k) * h + c0;
            if (id == t->pass.c->pad)
                continue;
            t->pass.k->add(d + (size_t)id * h + c0, t->dx + at, n);
            t->pass.k->add(d + (size_t)id * h + c0, t->dx0 + at, n);
        }
    }
}

static void report(zb_tape *t, int32_t layer)
{
    for (size_t i = 0; t->ready != NULL && i < t->p->n; i++) {
        const zb_spec *s = &t->p->specs[i];
        const int32_t at = s->layer >= 0         ? s->layer
                           : s->use >= 0         ? t->m->plan.use_layer[s->use]
                           : s->block >= 0       ? t->m->plan.use_layer[s->block] /* its first use is the last to add */
                           : s->role == ZB_EMBED ? -1
                                                 : (int32_t)t->m->plan.config.n_layers;
        if (at == layer)
            t->ready(t->ready_ctx, i);
    }
}

zamba_status zb_tape_backward(zb_tape *t, zb_ready_fn ready, void *ctx, zamba_error *err)
{
    const zb_config *c = t->pass.c;
    const size_t h = c->hidden_size;
    (void)err;
    t->ready = ready;
    t->ready_ctx = ctx;
    memset(t->dx0, 0, t->pass.rows * h * sizeof *t->dx0);
    zb_back_rows(t, zb_grad(t, ZB_FINAL_NORM, -1, -1, -1), h, final_norm_rows, NULL);
    report(t, (int32_t)c->n_layers);
    for (size_t i = c->n_layers; i-- > 0;) {
        if (t->o.checkpoint && i + 1 < c->n_layers) { /* the last one's are still there */
            memcpy(t->ws->x, t->slots[i].x, t->pass.rows * h * sizeof *t->ws->x);
            zb_pass_layer(&t->pass, i);
        }
        zb_back_mixer(t, i);
        if (t->m->plan.layers[i].shared >= 0)
            zb_back_block(t, i);
        report(t, (int32_t)i);
    }
    if (zb_grad(t, ZB_EMBED, -1, -1, -1) != NULL)
        zb_pool_run_on(t->m->pool, t->pass.n_threads, ceil_div(h, 64), embed_task, t);
    report(t, -1);
    return ZAMBA_OK;
}
