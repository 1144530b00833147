/* mixer.c — the Mamba layers of a pass: norm, in_proj with the convolution and dt behind each tile, the recurrence by
 * spans and heads, gated norm, out_proj added to the residual stream. */
#include <string.h>

#include "model/tape_slots.h"

typedef struct mixer_run {
    const pass *p;
    const zb_layer *row;
    const zb_mixer_weights *w;
    size_t per_span, unit; /* tasks of one span; channels or heads of one task */
} mixer_run;

/* normed = RMSNorm(x), or RMSNorm(x + t) after a shared block; t never enters the residual stream. */
typedef struct norm_args {
    const float *weight;
    operand out;
    int with_t;
} norm_args;

static void norm_row(const pass *p, size_t row, const void *arg)
{
    const norm_args *a = arg;
    const size_t h = p->c->hidden_size;
    float *normed = p->ws->normed + row * h;
    const float *x = p->ws->x + row * h;
    if (a->with_t) {
        memcpy(normed, x, h * sizeof *x);
        p->k->add(normed, p->ws->t + row * h, h);
        x = normed;
    }
    p->k->rmsnorm(normed, x, a->weight, h, p->c->norm_eps);
    zb_round_row(p, a->out, row, 0, h);
}

/* ---- behind the tiles of in_proj ---- */

/* Channels [c0, c1) of the convolution, every span; their inputs are this tile's outputs. */
static void conv_channels(const pass *p, const mixer_run *r, size_t c0, size_t c1)
{
    const zb_config *c = p->c;
    const size_t C = p->m->plan.conv_channels, ld_c = zb_row_length(C), in = zb_row_length(p->m->plan.in_rows);
    const int zamba1 = c->family == ZB_ZAMBA1;
    for (size_t i = 0; i < p->n_spans; i++) {
        const zb_span *s = &p->ws->spans[i];
        const float *x = p->ws->proj + s->row * in + (zamba1 ? 0 : c->mamba_inner);
        p->k->conv1d_silu(p->ws->conv + s->row * ld_c, ld_c, x, in, zamba1 ? 2 : 1, s->n, zb_conv_state(p, s, r->row),
                          r->w->conv, r->w->conv_bias, C, c->mamba_conv, c0, c1);
    }
}

static void after_conv_rows(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    (void)worker;
    conv_channels(p, arg, row0, row1);
}

/* Mamba-1: input and gate of a channel are neighbours. */
static void after_interleaved_rows(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    (void)worker;
    conv_channels(p, arg, row0 / 2, row1 / 2);
}

static void after_dt_rows(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    const mixer_run *r = arg;
    const zb_config *c = p->c;
    const size_t in = zb_row_length(p->m->plan.in_rows), at = c->mamba_inner + p->m->plan.conv_channels + row0;
    (void)worker;
    for (size_t i = 0; i < p->rows; i++)
        p->k->dt_softplus(p->ws->dt + i * c->mamba_heads + row0, p->ws->proj + i * in + at, r->w->dt_bias + row0,
                          row1 - row0, c->dt_min, c->dt_max);
}

/* The rows [first, first + n) of in_proj as a job. */
static product_job in_rows(const pass *p, const zb_mixer_weights *w, operand x, size_t first, size_t n, tile_fn after,
                           const mixer_run *r)
{
    return (product_job){.parts = {{.w = zb_mat_rows(&w->in_proj, first, n),
                                    .x = x,
                                    .y = p->ws->proj + first,
                                    .ld_y = zb_row_length(p->m->plan.in_rows),
                                    .bias = w->in_bias == NULL ? NULL : w->in_bias + first,
                                    .lora = zb_lora_on(&w->in_lora),
                                    .lora_row = first}},
                         .n_parts = 1,
                         .after = after,
                         .arg = r};
}

/* ---- Mamba-2 ---- */

static void ssm_task(void *ctx, size_t task, int worker)
{
    const mixer_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const zb_span *s = &p->ws->spans[task / r->per_span];
    const zb_ssm_dims d = {c->mamba_heads, c->mamba_groups, c->mamba_head_dim, c->mamba_state};
    const size_t ld_c = zb_row_length(p->m->plan.conv_channels), ld_y = zb_row_length(c->mamba_inner),
                 j0 = task % r->per_span * r->unit, j1 = least(j0 + r->unit, d.heads);
    float *h = zb_ssm_state(p, s, r->row);
    for (size_t i = 0, n; i < s->n; i += n) {
        const size_t row = s->row + i;
        const float *x = p->ws->conv + row * ld_c, *B = x + c->mamba_inner, *Cc = B + c->mamba_groups * c->mamba_state;
        const float *dt = p->ws->dt + row * d.heads;
        float *y = p->ws->y + row * ld_y;
        /* chunks end at multiples counted from the sequence's start, however its tokens came */
        n = p->m->recurrent ? 1 : least(s->n - i, ZB_SSD_CHUNK - zb_position(s, row) % ZB_SSD_CHUNK);
        if (n == 1)
            p->k->ssm_step(y, h, x, dt, r->w->A, B, Cc, r->w->D, d, j0, j1);
        else
            p->k->ssd_chunk(y, ld_y, h, x, ld_c, dt, d.heads, r->w->A, B, Cc, ld_c, r->w->D, n, d, j0, j1,
                            p->ws->worker + (size_t)worker * p->ws->worker_floats);
    }
}

static void gated_norm_row(const pass *p, size_t row, const void *arg)
{
    const norm_args *a = arg;
    const size_t ld = zb_row_length(p->c->mamba_inner);
    float *gated = p->ws->gated + row * ld;
    if (p->ws->gated != p->ws->y)
        memcpy(gated, p->ws->y + row * ld, p->c->mamba_inner * sizeof *gated);
    p->k->rmsnorm_gated(gated, p->ws->proj + row * zb_row_length(p->m->plan.in_rows), a->weight, p->c->mamba_inner,
                        p->c->mamba_groups, ZB_GATED_NORM_EPS);
    zb_round_row(p, a->out, row, 0, p->c->mamba_inner);
}

/* States in and out once a span; the chunked form's arithmetic: what old states give, what is added to them, and the
 * triangles between. */
static void count_ssm(const pass *p, double start)
{
    const zb_config *c = p->c;
    const double state = (double)c->mamba_inner * (double)c->mamba_state;
    double flops = 0;
    for (size_t i = 0; i < p->n_spans; i++) {
        const double n = (double)p->ws->spans[i].n, chunk = n < ZB_SSD_CHUNK ? n : ZB_SSD_CHUNK;
        flops += n * 4 * state;
        if (n > 1 && c->family != ZB_ZAMBA1)
            flops += n * (chunk + 1) * (double)(c->mamba_inner + c->mamba_groups * c->mamba_state);
    }
    zb_profile_add(&p->ws->profile, ZB_OP_SSM, start, 8 * state * (double)p->n_spans, flops);
}

static void recurrence2(const pass *p, mixer_run *r)
{
    /* a task takes some heads of one group, so that what the group shares is computed once a task */
    const double start = zb_profile_now(&p->ws->profile);
    const size_t per_group = p->c->mamba_heads / p->c->mamba_groups;
    size_t unit = ceil_div(per_group, (size_t)p->n_threads * 2);
    unit = least(unit < 4 ? 4 : unit, per_group);
    while (per_group % unit != 0)
        unit++;
    r->unit = unit;
    r->per_span = p->c->mamba_heads / unit;
    zb_pool_run_on(p->m->pool, p->n_threads, r->per_span * p->n_spans, ssm_task, r);
    count_ssm(p, start);
}

/* ---- Mamba-1: x_proj and dt_proj of each head, then the scan ---- */

/* A task takes a run of channels of one head. */
static void scan_task(void *ctx, size_t task, int worker)
{
    const mixer_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const zb_span *s = &p->ws->spans[task / r->per_span];
    const size_t P = c->mamba_head_dim, N = c->mamba_state, width = c->mamba_dt_rank + 2 * N,
                 tasks_per_head = ceil_div(P, r->unit), unit = task % r->per_span, head = unit / tasks_per_head,
                 c0 = unit % tasks_per_head * r->unit, c1 = least(c0 + r->unit, P), at = head * P,
                 inner = c->mamba_inner, ld = zb_row_length(inner), in = zb_row_length(p->m->plan.in_rows),
                 ld_bc = c->mamba_heads * width;
    const float *dbc = p->ws->dbc + s->row * ld_bc + head * width + c->mamba_dt_rank;
    (void)worker;
    for (size_t i = 0; i < s->n; i++) {
        const size_t first = (s->row + i) * inner + at + c0;
        p->k->dt_softplus(p->ws->dt + first, p->ws->dt_raw + first, r->w->dt_bias + at + c0, c1 - c0, c->dt_min,
                          c->dt_max);
    }
    p->k->mamba1_scan(p->ws->y + s->row * ld + at, ld, zb_ssm_state(p, s, r->row) + at * N,
                      p->ws->conv + s->row * ld + at, ld, p->ws->dt + s->row * inner + at, inner,
                      p->ws->proj + s->row * in + 2 * at + 1, in, 2, r->w->A + at * N, dbc, dbc + N, ld_bc,
                      r->w->D + at, s->n, N, c0, c1);
}

/* These are small: they keep f32 activations. */
static void recurrence1(const pass *p, mixer_run *r)
{
    const zb_config *c = p->c;
    zb_workspace *ws = p->ws;
    const size_t P = c->mamba_head_dim, H = c->mamba_heads, N = c->mamba_state, width = c->mamba_dt_rank + 2 * N;
    for (size_t first = 0; first < H; first += MAX_JOBS) {
        const size_t n = least(MAX_JOBS, H - first);
        product_job x[MAX_JOBS], dt[MAX_JOBS];
        for (size_t i = 0, h = first; i < n; i++, h++) {
            const operand in = {.x = ws->conv + h * P, .ld = zb_row_length(c->mamba_inner)},
                          low = {.x = ws->dbc + h * width, .ld = H * width};
            x[i] = (product_job){.parts = {{.w = zb_mat_rows(&r->w->x_proj, h * width, width),
                                            .x = in,
                                            .y = ws->dbc + h * width,
                                            .ld_y = H * width}},
                                 .n_parts = 1};
            dt[i] = (product_job){.parts = {{.w = zb_mat_rows(&r->w->dt_proj, h * P, P),
                                             .x = low,
                                             .y = ws->dt_raw + h * P,
                                             .ld_y = c->mamba_inner}},
                                  .n_parts = 1};
        }
        zb_multiply(p, ZB_OP_DT_PROJ, x, n);
        zb_multiply(p, ZB_OP_DT_PROJ, dt, n);
    }
    const double start = zb_profile_now(&ws->profile);
    r->unit = 64;
    r->per_span = H * ceil_div(P, r->unit);
    zb_pool_run_on(p->m->pool, p->n_threads, r->per_span * p->n_spans, scan_task, r);
    count_ssm(p, start);
}

static void round_y_row(const pass *p, size_t row, const void *arg)
{
    const norm_args *a = arg;
    zb_round_row(p, a->out, row, 0, p->c->mamba_inner);
}

/* ---- the layer ---- */

/* Behind a tile of out_proj where dropout is asked for: what is left of it joins the residual stream. */
static void after_out_rows(const pass *p, const void *arg, size_t row0, size_t row1, int worker)
{
    const zb_layer *row = arg;
    const size_t h = p->c->hidden_size;
    (void)worker;
    for (size_t i = 0; i < p->rows; i++) {
        float *y = p->tape->branch + i * h;
        zb_drop_hidden(p->tape, y, y, ZB_DROP_MIXER, (size_t)(row - p->m->plan.layers), i, row0, row1);
        p->k->add(p->ws->x + i * h + row0, y + row0, row1 - row0);
    }
}

void zb_mixer_layer(const pass *p, const zb_layer *row)
{
    const zb_config *c = p->c;
    zb_workspace *ws = p->ws;
    const zb_mixer_weights *w = &p->m->weights.layers[row - p->m->plan.layers];
    const size_t h = c->hidden_size, inner = c->mamba_inner, C = p->m->plan.conv_channels;
    const operand normed = zb_operand(p, ws->normed, h, 0), y = zb_operand(p, ws->gated, zb_row_length(inner), 1);
    mixer_run r = {p, row, w, 0, 0};
    double start = zb_profile_now(&ws->profile);
    zb_each_row(p, norm_row, &(norm_args){w->norm, normed, row->shared >= 0});
    zb_profile_add(&ws->profile, ZB_OP_NORM, start, 0, 0);
    if (row->mixer == ZB_MAMBA1) {
        const product_job job = in_rows(p, w, normed, 0, 2 * inner, after_interleaved_rows, &r);
        zb_multiply(p, ZB_OP_IN_PROJ, &job, 1);
        recurrence1(p, &r);
    } else {
        const product_job jobs[] = {in_rows(p, w, normed, 0, inner, NULL, NULL),
                                    in_rows(p, w, normed, inner, C, after_conv_rows, &r),
                                    in_rows(p, w, normed, inner + C, c->mamba_heads, after_dt_rows, &r)};
        zb_multiply(p, ZB_OP_IN_PROJ, jobs, 3);
        recurrence2(p, &r);
    }
    start = zb_profile_now(&ws->profile);
    zb_each_row(p, row->mixer == ZB_MAMBA1 ? round_y_row : gated_norm_row, &(norm_args){w->gated_norm, y, 0});
    zb_profile_add(&ws->profile, ZB_OP_GATED_NORM, start, 0, 0);
    product_job out = {.parts = {{w->out_proj, y, ws->x, h, w->out_bias, 1, zb_lora_on(&w->out_lora), 0}},
                       .n_parts = 1};
    if (zb_drops_hidden(p->tape)) {
        out.parts[0].y = p->tape->branch;
        out.parts[0].accumulate = 0;
        out.after = after_out_rows;
        out.arg = row;
    }
    zb_multiply(p, ZB_OP_OUT_PROJ, &out, 1);
}
