/* back_recurrence.c — the way back through a Mamba block of the frame model, one sequence on one thread. The forms
 * `mamba` and `mamba_fixed` go back through the kernel of Mamba-1's scan: the drive of mamba_fixed, mean(dt) B u, is
 * dt B u' with u' = mean(dt) u / dt, dt being at least ZB_BB_DT_MIN. */
#include <math.h>
#include <string.h>

#include "backbone/back.h"

#define UNIT ((size_t)64) /* channels that the scan looks at together */

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static double mean_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    return sum / (double)n;
}

/* Where a sequence's own gradients stand (zb_bb_partial_floats). */
typedef struct partials {
    float *conv, *conv_b, *A, *D;
} partials;

static partials partials_of(const zb_bb_run *r, const zb_bb_back *g)
{
    const zb_bb_plan *p = &r->b->plan;
    float *at = g->partials + r->index * zb_bb_partial_floats(p);
    return (partials){at, at + p->K * p->I, at + (p->K + 1) * p->I, at + (p->K + 1 + p->N) * p->I};
}

/* ---- the scan ---- */

static void back_scan(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g,
                      const float *u, const float *D, float *du, float *ddt, const float *dy, float *scratch)
{
    const zb_bb_plan *p = &r->b->plan;
    const size_t I = p->I, N = p->N;
    const partials own = partials_of(r, g);
    for (size_t c0 = 0; c0 < I; c0 += UNIT)
        r->k->mamba1_scan_backward(du, I, ddt, I, g->duz + I, 2 * I, g->dbc, g->dbc + N, 2 * N, own.A, own.D, dy, I, u,
                                   I, a->dt, I, a->uz + I, 2 * I, 1, r->b->derived + l->derived, a->bc, a->bc + N,
                                   2 * N, D, r->n, N, c0, c0 + UNIT < I ? c0 + UNIT : I, scratch);
}

static void back_fixed(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g, float *du,
                       float *ddt, const float *dy, float *driven, float *zeros, float *scratch)
{
    const size_t I = r->b->plan.I;
    memset(zeros, 0, I * sizeof *zeros);
    for (size_t i = 0; i < r->n; i++) {
        const float *dt = a->dt + i * I, mean = (float)mean_of(dt, I);
        for (size_t c = 0; c < I; c++)
            driven[i * I + c] = mean * a->u[i * I + c] / dt[c];
    }
    back_scan(r, l, a, g, driven, zeros, du, ddt, dy, scratch);
    for (size_t i = 0; i < r->n; i++) {
        const float *dt = a->dt + i * I, *u = a->u + i * I;
        const double mean = mean_of(dt, I);
        double by_mean = 0;
        for (size_t c = 0; c < I; c++) {
            const double d = (double)du[i * I + c];
            by_mean += d * (double)u[c] / (double)dt[c];
            ddt[i * I + c] -= (float)(d * (double)driven[i * I + c] / (double)dt[c]);
            du[i * I + c] = (float)(d * mean / (double)dt[c]);
        }
        for (size_t c = 0; c < I; c++)
            ddt[i * I + c] += (float)(by_mean / (double)I);
    }
}

/* ---- the gated forms ---- */

/* The gate's two factors of every row: y = v + (1 - gate) m, v = gate open u. */
typedef struct gate_row {
    float gate, open;
} gate_row;

static gate_row gate_of(const zb_bb_plan *p, const zb_bb_acts *a, size_t i)
{
    const float *B = a->bc + i * 2 * p->N, *C = B + p->N;
    float dot = 0;
    for (size_t s = 0; s < p->N; s++)
        dot += B[s] * C[s];
    return (gate_row){sigmoid((float)mean_of(a->dt + i * p->I, p->I)), sigmoid(dot)};
}

/* What m is: of `gated`, v by the place of the frame (0.9^(n-1-t), their sum 1); else the running mean of v. */
static void running_means(const zb_bb_run *r, const zb_bb_acts *a, float *m, int causal)
{
    const zb_bb_plan *p = &r->b->plan;
    const double all = (1 - pow(0.9, (double)r->n)) / (1 - 0.9);
    for (size_t i = 0; i < r->n; i++) {
        const gate_row s = gate_of(p, a, i);
        const float share = s.gate * s.open, w = (float)(pow(0.9, (double)(r->n - 1 - i)) / all);
        for (size_t c = 0; c < p->I; c++) {
            const float v = share * a->u[i * p->I + c];
            m[i * p->I + c] = !causal ? w * v : 0.1f * v + (i > 0 ? 0.9f * m[(i - 1) * p->I + c] : 0);
        }
    }
}

/* dy becomes the gradient by y before silu(z). */
static void back_gate(const zb_bb_run *r, const zb_bb_acts *a, const zb_bb_back *g, const float *m, float *dy)
{
    const zb_bb_plan *p = &r->b->plan;
    for (size_t i = 0; i < r->n; i++) {
        const gate_row s = gate_of(p, a, i);
        const float *z = a->uz + i * 2 * p->I + p->I;
        for (size_t c = 0; c < p->I; c++) {
            const size_t at = i * p->I + c;
            const float open = sigmoid(z[c]), y = s.gate * s.open * a->u[at] + (1 - s.gate) * m[at];
            g->duz[i * 2 * p->I + p->I + c] = dy[at] * y * open * (1 + z[c] * (1 - open));
            dy[at] *= z[c] * open;
        }
    }
}

static void back_gated(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g, float *du,
                       float *ddt, float *dy, float *m, float *dm)
{
    const zb_bb_plan *p = &r->b->plan;
    const size_t I = p->I, N = p->N;
    const int causal = l->memory != ZB_BB_NONE;
    const double all = (1 - pow(0.9, (double)r->n)) / (1 - 0.9);
    running_means(r, a, m, causal);
    back_gate(r, a, g, m, dy);
    memset(dm, 0, I * sizeof *dm);
    for (size_t i = r->n; i-- > 0;) {
        const gate_row s = gate_of(p, a, i);
        const float w = causal ? 0.1f : (float)(pow(0.9, (double)(r->n - 1 - i)) / all), keep = 1 - s.gate;
        const float *u = a->u + i * I, *B = a->bc + i * 2 * N, *C = B + N;
        double by_gate = 0, by_open = 0;
        for (size_t c = 0; c < I; c++) {
            const float d = dy[i * I + c];
            dm[c] = keep * d + (causal ? 0.9f * dm[c] : 0);
            const float dv = d + w * dm[c];
            by_gate += (double)dv * (double)(s.open * u[c]) - (double)d * (double)m[i * I + c];
            by_open += (double)dv * (double)(s.gate * u[c]);
            du[i * I + c] = dv * s.gate * s.open;
        }
        const float by_dt = (float)(by_gate * (double)s.gate * (1 - (double)s.gate) / (double)I);
        const float by_dot = (float)(by_open * (double)s.open * (1 - (double)s.open));
        for (size_t c = 0; c < I; c++)
            ddt[i * I + c] = by_dt;
        for (size_t n = 0; n < N; n++) {
            g->dbc[i * 2 * N + n] = by_dot * C[n];
            g->dbc[i * 2 * N + N + n] = by_dot * B[n];
        }
    }
}

/* ---- convolution ---- */

/* From the gradient by u to that by in_proj's u, through the product over means of the last K. */
static void back_means(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g,
                       const float *du, float *dmean)
{
    const size_t I = r->b->plan.I, K = r->b->plan.K;
    for (size_t i = 0; i < r->n * I; i++) {
        const float x = a->conv[i], s = sigmoid(x);
        g->dconv[i] = du[i] * s * (1 + x * (1 - s));
    }
    zb_bb_back_product(r, &l->conv_proj, dmean, g->dconv, r->n, 0);
    for (size_t i = 0; i < r->n; i++)
        for (size_t c = 0; c < I; c++) {
            float sum = 0;
            for (size_t k = 0; k < K && i + k < r->n; k++)
                sum += dmean[(i + k) * I + c];
            g->duz[i * 2 * I + c] = sum / (float)K;
        }
}

static void back_conv(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g,
                      const float *du)
{
    const zb_bb_plan *p = &r->b->plan;
    const partials own = partials_of(r, g);
    const float *weight = r->b->derived + l->derived + (p->I * p->N + 15) / 16 * 16;
    r->k->conv1d_silu_backward(g->duz, 2 * p->I, own.conv, own.conv_b, du, p->I, a->uz, 2 * p->I, 1, r->n, weight,
                               r->b->params + l->conv_b, p->I, p->K, 0, p->I);
}

/* ---- the block ---- */

void zb_bb_back_mamba(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g)
{
    const zb_bb_plan *p = &r->b->plan;
    const size_t I = p->I, n = r->n;
    const int fixed = p->o.block == ZAMBA_BACKBONE_MAMBA_FIXED;
    float *dy = r->room, *du = dy + n * I, *ddt = du + n * I, *more = ddt + n * I, *row = more + n * I,
          *scratch = row + 2 * I;
    scratch += (16 - (size_t)((uintptr_t)scratch / sizeof(float)) % 16) % 16;
    zb_bb_back_branch(r, g->dmixed, g->drop);
    zb_bb_back_product(r, &l->out_proj, dy, g->dmixed, n, 0);
    memset(g->dbc, 0, n * 2 * p->N * sizeof(float));
    if (!p->gated)
        memset(g->partials + r->index * zb_bb_partial_floats(p), 0, zb_bb_partial_floats(p) * sizeof(float));
    if (p->gated)
        back_gated(r, l, a, g, du, ddt, dy, more, row);
    else if (fixed)
        back_fixed(r, l, a, g, du, ddt, dy, more, row, scratch);
    else
        back_scan(r, l, a, g, a->u, r->b->params + l->D, du, ddt, dy, scratch);
    for (size_t i = 0; i < n; i++)
        r->k->dt_softplus_backward(g->draw + i * I, ddt + i * I, a->raw + i * I, r->b->params + l->dt_up.b, I,
                                   fixed ? ZB_BB_DT_MIN : 0.0f, fixed ? ZB_BB_DT_MAX : INFINITY);
    if (p->full_dt) {
        zb_bb_back_product(r, &l->dt_up, du, g->draw, n, 1);
    } else {
        zb_bb_back_product(r, &l->dt_up, g->dlow, g->draw, n, 0);
        zb_bb_back_product(r, &l->dt_down, du, g->dlow, n, 1);
    }
    zb_bb_back_product(r, &l->bc_proj, du, g->dbc, n, 1);
    if (p->gated)
        back_means(r, l, a, g, du, more);
    else
        back_conv(r, l, a, g, du);
    zb_bb_back_product(r, &l->in_proj, g->dnormed, g->duz, n, 0);
    if (l->block_norm.w != ZB_BB_NONE) {
        memset(g->dfirst, 0, n * p->H * sizeof(float));
        zb_bb_back_norm(r, &l->block_norm, g->dfirst, g->dnormed, a->first, n);
        zb_bb_back_norm(r, &l->norm, r->dx, g->dfirst, a->x, n);
    } else {
        zb_bb_back_norm(r, &l->norm, r->dx, g->dnormed, a->x, n);
    }
}
