/* back_mixer.c — a Mamba layer backwards: out_proj, gated norm, the recurrence by runs and heads, convolution, in_proj,
 * norm. Runs began with empty states, so there is no gradient by those. */
#include <string.h>

#include "model/tape_slots.h"

typedef struct back_run {
    zb_tape *t;
    const zb_slot *s;
    const zb_mixer_weights *w;
    int32_t layer;
    size_t unit, units;                  /* heads (Mamba-1: channels) of a task; tasks of a run of tokens */
    size_t stride;                       /* floats of a row of shares: 2 state for each unit              */
    float *dA, *dD, *dconv, *dconv_bias; /* [heads] or [inner, state], [heads] or [inner], [K, channels], [channels] */
} back_run;

static float *grad(const back_run *r, zb_role role)
{
    return zb_grad(r->t, role, r->layer, -1, -1);
}

static size_t inner_ld(const back_run *r)
{
    return zb_row_length(r->t->pass.c->mamba_inner);
}

static size_t proj_ld(const back_run *r)
{
    return zb_row_length(r->t->m->plan.in_rows);
}

static size_t conv_ld(const back_run *r)
{
    return zb_row_length(r->t->m->plan.conv_channels);
}

/* ---- the recurrence of Mamba-2 ---- */

static void gated_norm_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_run *r = arg;
    const zb_config *c = t->pass.c;
    for (size_t i = row0; i < row1; i++) {
        float *d = t->dgated + i * inner_ld(r);
        t->pass.k->rmsnorm_gated_backward(d, t->dproj + i * proj_ld(r), partial, d, r->s->y + i * inner_ld(r),
                                          r->s->proj + i * proj_ld(r), r->w->gated_norm, c->mamba_inner,
                                          c->mamba_groups, ZB_GATED_NORM_EPS);
    }
}

/* First chunk of a run in t->states. */
static size_t first_chunk(const zb_tape *t, size_t span)
{
    size_t n = 0;
    for (size_t i = 0; i < span; i++)
        n += ceil_div(t->ws->spans[i].n, ZB_SSD_CHUNK);
    return n;
}

/* Some heads of one group over one run: their states before each chunk are made again, then the chunks go backwards.
 * To the kernels the unit is a mixer of its own, of one group. */
static void ssm_task(void *ctx, size_t task, int worker)
{
    const back_run *r = ctx;
    zb_tape *t = r->t;
    const zb_config *c = t->pass.c;
    const zb_kernels *k = t->pass.k;
    const size_t span = task / r->units, unit = task % r->units, j0 = unit * r->unit, P = c->mamba_head_dim,
                 N = c->mamba_state, g = j0 / (c->mamba_heads / c->mamba_groups), H = c->mamba_heads, ld_c = conv_ld(r),
                 state = r->unit * P * N;
    const zb_span *s = &t->ws->spans[span];
    const zb_ssm_dims d = {r->unit, 1, P, N};
    const float *A = r->w->A + j0, *D = r->w->D + j0;
    const float *x = r->s->conv + s->row * ld_c + j0 * P, *B = r->s->conv + s->row * ld_c + c->mamba_inner + g * N,
                *C = B + c->mamba_groups * N, *dt = r->s->dt + s->row * H + j0;
    const float *dy = t->dgated + s->row * inner_ld(r) + j0 * P;
    float *dx = t->dconv + s->row * ld_c + j0 * P, *ddt = t->ddt + s->row * H + j0,
          *share = t->shares + s->row * r->stride + unit * 2 * N;
    float *dh = zb_tape_worker(t, worker), *scratch = dh + (state + 15) / 16 * 16;
    const size_t chunks = ceil_div(s->n, ZB_SSD_CHUNK), ld_states = c->mamba_inner * N;
    float *states = t->states + first_chunk(t, span) * ld_states + j0 * P * N;
    memset(states, 0, state * sizeof *states);
    for (size_t i = 0; i + 1 < chunks; i++) {
        const size_t at = i * ZB_SSD_CHUNK;
        float *h = states + (i + 1) * ld_states;
        memcpy(h, states + i * ld_states, state * sizeof *h);
        k->ssd_state(h, x + at * ld_c, ld_c, dt + at * H, H, A, B + at * ld_c, ld_c, ZB_SSD_CHUNK, d, 0, r->unit,
                     scratch);
    }
    for (size_t i = 0; i < s->n; i++)
        memset(share + i * r->stride, 0, 2 * N * sizeof *share);
    memset(dh, 0, state * sizeof *dh);
    for (size_t i = chunks; i-- > 0;) {
        const size_t at = i * ZB_SSD_CHUNK, n = least(ZB_SSD_CHUNK, s->n - at);
        k->ssd_chunk_backward(dx + at * ld_c, ld_c, ddt + at * H, H, share + at * r->stride, share + at * r->stride + N,
                              r->stride, r->dA + span * H + j0, r->dD + span * H + j0, dh, dy + at * inner_ld(r),
                              inner_ld(r), states + i * ld_states, x + at * ld_c, ld_c, dt + at * H, H, A,
                              B + at * ld_c, C + at * ld_c, ld_c, D, n, d, 0, r->unit, scratch);
    }
}

/* What the units say of B and C, added up for each group; and dt back through its softplus. */
static void join_rows2(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_run *r = arg;
    const zb_config *c = t->pass.c;
    const size_t N = c->mamba_state, per_group = r->units / c->mamba_groups, H = c->mamba_heads,
                 dt_at = c->mamba_inner + t->m->plan.conv_channels;
    for (size_t i = row0; i < row1; i++) {
        float *dB = t->dconv + i * conv_ld(r) + c->mamba_inner, *dC = dB + c->mamba_groups * N;
        memset(dB, 0, 2 * c->mamba_groups * N * sizeof *dB);
        for (size_t u = 0; u < r->units; u++) {
            const float *share = t->shares + i * r->stride + u * 2 * N;
            t->pass.k->add(dB + u / per_group * N, share, N);
            t->pass.k->add(dC + u / per_group * N, share + N, N);
        }
        float *draw = t->dproj + i * proj_ld(r) + dt_at;
        t->pass.k->dt_softplus_backward(draw, t->ddt + i * H, r->s->proj + i * proj_ld(r) + dt_at, r->w->dt_bias, H,
                                        c->dt_min, c->dt_max);
        t->pass.k->add(partial, draw, H);
    }
}

/* Gradients by A become those by A_log: A = -exp(A_log). They stand apart for each run of tokens, [runs, n]. */
static void add_runs(const back_run *r, zb_role role, const float *d, size_t n)
{
    float *to = grad(r, role);
    for (size_t i = 0; to != NULL && i < r->t->pass.n_spans; i++)
        for (size_t k = 0; k < n; k++)
            to[k] += d[i * n + k] * (role == ZB_A_LOG ? r->w->A[k] : 1);
}

static void recurrence2(back_run *r)
{
    zb_tape *t = r->t;
    const zb_config *c = t->pass.c;
    const size_t H = c->mamba_heads;
    zb_back_rows(t, grad(r, ZB_GATED_NORM), c->mamba_inner, gated_norm_rows, r);
    r->unit = zb_back_unit(c);
    r->units = H / r->unit;
    r->stride = r->units * 2 * c->mamba_state;
    r->dA = t->runs;
    r->dD = t->runs + t->o.examples * H;
    memset(r->dA, 0, 2 * t->o.examples * H * sizeof *r->dA);
    zb_pool_run_on(t->m->pool, t->pass.n_threads, r->units * t->pass.n_spans, ssm_task, r);
    add_runs(r, ZB_A_LOG, r->dA, H);
    add_runs(r, ZB_D, r->dD, H);
    zb_back_rows(t, grad(r, ZB_DT_BIAS), H, join_rows2, r);
}

/* ---- of Mamba-1 ---- */

static void scan_task(void *ctx, size_t task, int worker)
{
    const back_run *r = ctx;
    zb_tape *t = r->t;
    const zb_config *c = t->pass.c;
    const size_t P = c->mamba_head_dim, N = c->mamba_state, inner = c->mamba_inner,
                 per_head = ceil_div(P, ZB_SCAN_UNIT), span = task / r->units, unit = task % r->units,
                 head = unit / per_head, c0 = unit % per_head * ZB_SCAN_UNIT, c1 = least(c0 + ZB_SCAN_UNIT, P),
                 at = head * P, width = c->mamba_dt_rank + 2 * N, ld_bc = c->mamba_heads * width, ld = inner_ld(r),
                 in = proj_ld(r), ld_c = conv_ld(r);
    const zb_span *s = &t->ws->spans[span];
    const float *dbc = r->s->dbc + s->row * ld_bc + head * width + c->mamba_dt_rank;
    float *share = t->shares + s->row * r->stride + unit * 2 * N;
    for (size_t i = 0; i < s->n; i++)
        memset(share + i * r->stride, 0, 2 * N * sizeof *share);
    t->pass.k->mamba1_scan_backward(
        t->dconv + s->row * ld_c + at, ld_c, t->ddt + s->row * inner + at, inner, t->dproj + s->row * in + 2 * at + 1,
        in, share, share + N, r->stride, r->dA + (span * inner + at) * N, r->dD + span * inner + at,
        t->dgated + s->row * ld + at, ld, r->s->conv + s->row * ld_c + at, ld_c, r->s->dt + s->row * inner + at, inner,
        r->s->proj + s->row * in + 2 * at + 1, in, 2, r->w->A + at * N, dbc, dbc + N, ld_bc, r->w->D + at, s->n, N, c0,
        c1, zb_tape_worker(t, worker));
    for (size_t i = s->row; i < s->row + s->n; i++)
        t->pass.k->dt_softplus_backward(t->ddt + i * inner + at + c0, t->ddt + i * inner + at + c0,
                                        r->s->dt_raw + i * inner + at + c0, r->w->dt_bias + at + c0, c1 - c0, c->dt_min,
                                        c->dt_max);
}

static void join_rows1(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_run *r = arg;
    const zb_config *c = t->pass.c;
    const size_t N = c->mamba_state, width = c->mamba_dt_rank + 2 * N,
                 per_head = ceil_div(c->mamba_head_dim, ZB_SCAN_UNIT);
    for (size_t i = row0; i < row1; i++) {
        float *d = t->ddbc + i * c->mamba_heads * width;
        memset(d, 0, c->mamba_heads * width * sizeof *d);
        for (size_t u = 0; u < r->units; u++)
            t->pass.k->add(d + u / per_head * width + c->mamba_dt_rank, t->shares + i * r->stride + u * 2 * N, 2 * N);
        t->pass.k->add(partial, t->ddt + i * c->mamba_inner, c->mamba_inner);
    }
}

static zb_mat head_rows(const zb_mat *w, size_t head, size_t n)
{
    return zb_mat_rows(w, head * n, n);
}

static void recurrence1(back_run *r)
{
    zb_tape *t = r->t;
    const zb_config *c = t->pass.c;
    const size_t P = c->mamba_head_dim, N = c->mamba_state, H = c->mamba_heads, inner = c->mamba_inner,
                 rank = c->mamba_dt_rank, width = rank + 2 * N, rows = t->pass.rows;
    float *dw_x = grad(r, ZB_X_PROJ), *dw_dt = grad(r, ZB_DT_PROJ);
    r->units = H * ceil_div(P, ZB_SCAN_UNIT);
    r->stride = r->units * 2 * N;
    r->dA = t->runs;
    r->dD = t->runs + t->o.examples * inner * N;
    memset(r->dA, 0, t->o.examples * inner * (N + 1) * sizeof *r->dA);
    zb_pool_run_on(t->m->pool, t->pass.n_threads, r->units * t->pass.n_spans, scan_task, r);
    add_runs(r, ZB_A_LOG, r->dA, inner * N);
    add_runs(r, ZB_D, r->dD, inner);
    zb_back_rows(t, grad(r, ZB_DT_BIAS), inner, join_rows1, r);
    for (size_t h = 0; h < H; h++) { /* dt = dt_proj of the first columns of dbc, then dbc = x_proj of the input */
        zb_back_begin(t);
        const zb_dy dt = zb_back_prepare(t, t->ddt + h * P, inner, P, rows, dw_dt != NULL);
        zb_back_multiply(
            t,
            &(zb_back_job){.parts = {{head_rows(&r->w->dt_proj, h, P), dw_dt != NULL ? dw_dt + h * P * rank : NULL, dt,
                                      r->s->dbc + h * width, H * width, NULL}},
                           .n_parts = 1,
                           .dx = t->ddbc + h * width,
                           .ld_dx = H * width,
                           .accumulate = 1},
            1);
        const zb_dy x = zb_back_prepare(t, t->ddbc + h * width, H * width, width, rows, dw_x != NULL);
        zb_back_multiply(
            t,
            &(zb_back_job){.parts = {{head_rows(&r->w->x_proj, h, width), dw_x != NULL ? dw_x + h * width * P : NULL, x,
                                      r->s->conv + h * P, conv_ld(r), NULL}},
                           .n_parts = 1,
                           .dx = t->dconv + h * P,
                           .ld_dx = conv_ld(r),
                           .accumulate = 1},
            1);
    }
}

/* ---- convolution ---- */

/* Some channels, all runs one after another. */
static void conv_task(void *ctx, size_t task, int worker)
{
    const back_run *r = ctx;
    zb_tape *t = r->t;
    const zb_config *c = t->pass.c;
    const size_t C = t->m->plan.conv_channels, K = c->mamba_conv, c0 = task * 64, c1 = least(c0 + 64, C),
                 stride = c->family == ZB_ZAMBA1 ? 2 : 1, first = c->family == ZB_ZAMBA1 ? 0 : c->mamba_inner;
    (void)worker;
    for (size_t i = 0; i < t->pass.n_spans; i++) {
        const zb_span *s = &t->ws->spans[i];
        t->pass.k->conv1d_silu_backward(t->dproj + s->row * proj_ld(r) + first, proj_ld(r), r->dconv, r->dconv_bias,
                                        t->dconv + s->row * conv_ld(r), conv_ld(r),
                                        r->s->proj + s->row * proj_ld(r) + first, proj_ld(r), stride, s->n, r->w->conv,
                                        r->w->conv_bias, C, K, c0, c1);
    }
}

static void convolution(back_run *r)
{
    zb_tape *t = r->t;
    const size_t C = t->m->plan.conv_channels, K = t->pass.c->mamba_conv;
    float *dw = grad(r, ZB_CONV), *db = grad(r, ZB_CONV_BIAS);
    r->dconv = t->runs;
    r->dconv_bias = r->w->conv_bias != NULL ? t->runs + K * C : NULL;
    memset(t->runs, 0, (K + 1) * C * sizeof *t->runs);
    zb_pool_run_on(t->m->pool, t->pass.n_threads, ceil_div(C, 64), conv_task, r);
    for (size_t i = 0; dw != NULL && i < C; i++)
        for (size_t k = 0; k < K; k++)
            dw[i * K + k] += r->dconv[k * C + i];
    for (size_t i = 0; db != NULL && r->dconv_bias != NULL && i < C; i++)
        db[i] += r->dconv_bias[i];
}

/* ---- the layer ---- */

/* Back through the norm of x, or of x + t; what comes out belongs to both. */
static void norm_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_run *r = arg;
    const size_t h = t->pass.c->hidden_size;
    const int with_t = t->m->plan.layers[r->layer].shared >= 0;
    for (size_t i = row0; i < row1; i++) {
        const float *x = r->s->x + i * h;
        float *d = t->dt_ + i * h;
        if (with_t) {
            memcpy(d, x, h * sizeof *d);
            t->pass.k->add(d, r->s->t + i * h, h);
            x = d;
        }
        t->pass.k->rmsnorm_backward(t->dnormed + i * h, partial, t->dnormed + i * h, x, r->w->norm, h,
                                    t->pass.c->norm_eps);
        memcpy(d, t->dnormed + i * h, h * sizeof *d);
        t->pass.k->add(t->dx + i * h, d, h);
    }
}

static void drop_rows(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial)
{
    const back_run *r = arg;
    const size_t h = t->pass.c->hidden_size;
    (void)partial;
    for (size_t i = row0; i < row1; i++)
        zb_drop_hidden(t, t->branch + i * h, t->dx + i * h, ZB_DROP_MIXER, (size_t)r->layer, i, 0, h);
}

void zb_back_mixer(zb_tape *t, size_t layer)
{
    const zb_config *c = t->pass.c;
    const size_t h = c->hidden_size, rows = t->pass.rows;
    back_run r = {.t = t, .s = &t->slots[layer], .w = &t->m->weights.layers[layer], .layer = (int32_t)layer};
    float *dw = grad(&r, ZB_OUT_PROJ);
    const float *dbranch = zb_drops_hidden(t) ? t->branch : t->dx;
    if (zb_drops_hidden(t))
        zb_back_rows(t, NULL, 0, drop_rows, &r);
    zb_back_begin(t);
    zb_dy dy = zb_back_prepare(t, dbranch, h, h, rows, dw != NULL);
    zb_back_multiply(
        t,
        &(zb_back_job){.parts = {{r.w->out_proj, dw, dy, r.s->gated, inner_ld(&r), zb_lora_on(&r.w->out_lora)}},
                       .n_parts = 1,
                       .dx = t->dgated,
                       .ld_dx = inner_ld(&r)},
        1);
    zb_back_sum(t, grad(&r, ZB_OUT_PROJ_BIAS), dbranch, h, h, rows);
    if (t->m->plan.layers[layer].mixer == ZB_MAMBA1)
        recurrence1(&r);
    else
        recurrence2(&r);
    convolution(&r);
    dw = grad(&r, ZB_IN_PROJ);
    zb_back_begin(t);
    dy = zb_back_prepare(t, t->dproj, proj_ld(&r), t->m->plan.in_rows, rows, dw != NULL);
    zb_back_multiply(t,
                     &(zb_back_job){.parts = {{r.w->in_proj, dw, dy, r.s->normed, h, zb_lora_on(&r.w->in_lora)}},
                                    .n_parts = 1,
                                    .dx = t->dnormed,
                                    .ld_dx = h},
                     1);
    zb_back_sum(t, grad(&r, ZB_IN_PROJ_BIAS), t->dproj, proj_ld(&r), t->m->plan.in_rows, rows);
    zb_back_rows(t, grad(&r, ZB_INPUT_NORM), h, norm_rows, &r);
}
