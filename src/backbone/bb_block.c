/* bb_block.c — a Mamba layer of the frame model: convolution, recurrence and gate of its four forms between the
 * products. The form `mamba` runs on the kernels of Mamba-1; the others, which are there for old weights, are plain
 * loops. */
#include <math.h>
#include <string.h>

#include "backbone/bb_pass.h"

typedef struct block_job {
    const zb_bb_pass *p;
    const zb_bb_layer *l;
    const zb_bb_acts *a;
    size_t units; /* runs of channels of a segment */
} block_job;

#define UNIT ((size_t)64) /* channels of one task */

static float silu(float x)
{
    return x / (1.0f + expf(-x));
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* ---- convolution ---- */

static void conv_part(const block_job *j, const zb_bb_segment *g, size_t c0, size_t c1)
{
    const zamba_backbone *b = j->p->b;
    const zb_bb_plan *plan = &b->plan;
    const size_t I = plan->I;
    const float *weight = b->derived + j->l->derived + (I * plan->N + 15) / 16 * 16;
    b->k->conv1d_silu(j->a->u + g->row0 * I, I, j->a->uz + g->row0 * 2 * I, 2 * I, 1, g->n, g->state + j->l->conv,
                      weight, b->params + j->l->conv_b, I, plan->K, c0, c1);
}

/* The mean of the last K inputs, zeros before the start. */
static void mean_part(const block_job *j, const zb_bb_segment *g, size_t c0, size_t c1)
{
    const zb_bb_plan *plan = &j->p->b->plan;
    const size_t I = plan->I, K = plan->K;
    float *state = g->state + j->l->conv;
    for (size_t i = 0; i < g->n; i++) {
        const float *u = j->a->uz + (g->row0 + i) * 2 * I;
        float *mean = j->a->mean + (g->row0 + i) * I;
        for (size_t c = c0; c < c1; c++) {
            float sum = 0;
            for (size_t k = 0; k + 1 < K; k++)
                sum += state[k * I + c];
            mean[c] = (sum + u[c]) / (float)K;
            for (size_t k = 0; k + 2 < K; k++)
                state[k * I + c] = state[(k + 1) * I + c];
            if (K > 1)
                state[(K - 2) * I + c] = u[c];
        }
    }
}

/* ---- recurrence ---- */

static void scan_part(const block_job *j, const zb_bb_segment *g, size_t c0, size_t c1)
{
    const zamba_backbone *b = j->p->b;
    const zb_bb_plan *plan = &b->plan;
    const size_t I = plan->I, N = plan->N, r = g->row0;
    const float *bc = j->a->bc + r * 2 * N;
    b->k->mamba1_scan(j->a->y + r * I, I, g->state + j->l->memory, j->a->u + r * I, I, j->a->dt + r * I, I,
                      j->a->uz + r * 2 * I + I, 2 * I, 1, b->derived + j->l->derived, bc, bc + N, 2 * N,
                      b->params + j->l->D, g->n, N, c0, c1);
}

static float mean_of(const float *x, size_t n)
{
    float sum[8] = {0};
    for (size_t i = 0; i < n; i++)
        sum[i & 7] += x[i];
    return (((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]))) / (float)n;
}

/* h = exp(-dt (n + 1)) h + mean(dt) B u;  y = C . h */
static void fixed_part(const block_job *j, const zb_bb_segment *g, size_t c0, size_t c1)
{
    const zamba_backbone *b = j->p->b;
    const zb_bb_plan *plan = &b->plan;
    const size_t I = plan->I, N = plan->N;
    const float *A = b->derived + j->l->derived;
    float *memory = g->state + j->l->memory;
    for (size_t i = 0; i < g->n; i++) {
        const size_t r = g->row0 + i;
        const float *u = j->a->u + r * I, *dt = j->a->dt + r * I, *z = j->a->uz + r * 2 * I + I;
        const float *B = j->a->bc + r * 2 * N, *C = B + N;
        const float mean = mean_of(dt, I);
        for (size_t c = c0; c < c1; c++) {
            float *h = memory + c * N, y = 0;
            const float drive = mean * u[c];
            for (size_t n = 0; n < N; n++) {
                h[n] = expf(dt[c] * A[c * N + n]) * h[n] + drive * B[n];
                y += h[n] * C[n];
            }
            j->a->y[r * I + c] = y * silu(z[c]);
        }
    }
}

/* The sum of 0.9^0 .. 0.9^(n-1). */
static double weight_sum(uint64_t n)
{
    return (1 - pow(0.9, (double)n)) / (1 - 0.9);
}

/* v = g s u. gated: y = v + (1 - g) w v, w by the place from the end; gated_causal: y = v + (1 - g) m. */
static void gated_part(const block_job *j, const zb_bb_segment *g, size_t c0, size_t c1)
{
    const zb_bb_plan *plan = &j->p->b->plan;
    const size_t I = plan->I, N = plan->N;
    const int causal = j->l->memory != ZB_BB_NONE;
    float *memory = causal ? g->state + j->l->memory : NULL;
    for (size_t i = 0; i < g->n; i++) {
        const size_t r = g->row0 + i;
        const float *u = j->a->u + r * I, *z = j->a->uz + r * 2 * I + I, *B = j->a->bc + r * 2 * N, *C = B + N;
        const float gate = sigmoid(mean_of(j->a->dt + r * I, I));
        float dot = 0;
        for (size_t n = 0; n < N; n++)
            dot += B[n] * C[n];
        const float share = gate * sigmoid(dot);
        const float w =
            causal ? 0 : (float)(pow(0.9, (double)(g->length - 1 - (g->frame + i))) / weight_sum(g->length));
        for (size_t c = c0; c < c1; c++) {
            const float v = share * u[c];
            float m = w * v;
            if (causal)
                m = memory[c] = 0.9f * memory[c] + 0.1f * v;
            j->a->y[r * I + c] = (v + (1 - gate) * m) * silu(z[c]);
        }
    }
}

/* ---- tasks: runs of channels of each timeline ---- */

typedef void (*part_fn)(const block_job *j, const zb_bb_segment *g, size_t c0, size_t c1);

static void run_task(const block_job *j, size_t task, part_fn fn)
{
    const size_t I = j->p->b->plan.I, unit = task % j->units;
    const size_t c0 = unit * UNIT, c1 = c0 + UNIT;
    fn(j, &j->p->segments[task / j->units], c0, c1 < I ? c1 : I);
}

static void conv_task(void *ctx, size_t task, int worker)
{
    const block_job *j = ctx;
    (void)worker;
    run_task(j, task, j->p->b->plan.gated ? mean_part : conv_part);
}

static part_fn memory_part(const zb_bb_plan *p)
{
    return p->gated ? gated_part : p->o.block == ZAMBA_BACKBONE_MAMBA_FIXED ? fixed_part : scan_part;
}

static void memory_task(void *ctx, size_t task, int worker)
{
    const block_job *j = ctx;
    (void)worker;
    run_task(j, task, memory_part(&j->p->b->plan));
}

static void parts(const block_job *j, zb_task_fn task, part_fn whole)
{
    if (j->p->pool)
        zb_bb_each(j->p, j->p->n_segments * j->units, task, (void *)(uintptr_t)j);
    else
        for (size_t s = 0; s < j->p->n_segments; s++)
            whole(j, &j->p->segments[s], 0, j->p->b->plan.I);
}

/* ---- rows ---- */

static void silu_piece(const void *ctx, size_t r0, size_t r1)
{
    const block_job *j = ctx;
    const size_t I = j->p->b->plan.I;
    for (size_t i = r0 * I; i < r1 * I; i++)
        j->a->u[i] = silu(j->a->conv[i]);
}

static void dt_piece(const void *ctx, size_t r0, size_t r1)
{
    const block_job *j = ctx;
    const zamba_backbone *b = j->p->b;
    const size_t I = b->plan.I;
    const int fixed = b->plan.o.block == ZAMBA_BACKBONE_MAMBA_FIXED;
    for (size_t r = r0; r < r1; r++)
        b->k->dt_softplus(j->a->dt + r * I, j->a->raw + r * I, b->params + j->l->dt_up.b, I,
                          fixed ? ZB_BB_DT_MIN : 0.0f, fixed ? ZB_BB_DT_MAX : INFINITY);
}

void zb_bb_pass_mamba(const zb_bb_pass *p, size_t layer)
{
    const zb_bb_plan *plan = &p->b->plan;
    const zb_bb_layer *l = &plan->layers[layer];
    const zb_bb_acts *a = &p->acts[layer];
    const block_job job = {p, l, a, (plan->I + UNIT - 1) / UNIT};
    if (a->x)
        memcpy(a->x, p->x, p->rows * plan->H * sizeof(float));
    if (l->block_norm.w != ZB_BB_NONE) {
        zb_bb_norm_pass(p, &l->norm, a->first, p->x);
        zb_bb_norm_pass(p, &l->block_norm, a->normed, a->first);
    } else {
        zb_bb_norm_pass(p, &l->norm, a->normed, p->x);
    }
    zb_bb_product(p, &l->in_proj, a->uz, a->normed, p->rows, 1);
    parts(&job, conv_task, plan->gated ? mean_part : conv_part);
    if (plan->gated) {
        zb_bb_product(p, &l->conv_proj, a->conv, a->mean, p->rows, 1);
        zb_bb_each_row(p, silu_piece, &job);
    }
    zb_bb_product(p, &l->bc_proj, a->bc, a->u, p->rows, 1);
    if (!plan->full_dt)
        zb_bb_product(p, &l->dt_down, a->low, a->u, p->rows, 1);
    zb_bb_product(p, &l->dt_up, a->raw, plan->full_dt ? a->u : a->low, p->rows, 0);
    zb_bb_each_row(p, dt_piece, &job);
    parts(&job, memory_task, memory_part(plan));
    zb_bb_product(p, &l->out_proj, a->mixed, a->y, p->rows, 1);
    zb_bb_residual(p, a->mixed, a->drop);
}
