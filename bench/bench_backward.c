/* bench_backward.c — the kernels of the way back, one thread, beside the arithmetic in registers and what memory gives.
 *
 *   bench_backward [SET ...]     sets to measure (generic avx2 avx512 neon ...); default: the one in use
 *
 * Products count as in their closed form, whole squares where a triangle would do. Figures are the best of some runs;
 * time is the thread's own. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_tools.h"
#include "kernels/kernels.h"

/* Seconds of the best of `runs`. */
#define BEST(best, runs, what)                                                                                         \
    double best = INFINITY;                                                                                            \
    for (int run_ = 0; run_ < (runs); run_++) {                                                                        \
        const double start_ = now_s();                                                                                 \
        what;                                                                                                          \
        best = fmin(best, now_s() - start_);                                                                           \
    }

#define MAX_ARRAYS 24

static float *arrays[MAX_ARRAYS];
static size_t n_arrays;

static float *array(size_t n)
{
    if (n_arrays == MAX_ARRAYS)
        exit(1);
    return arrays[n_arrays++] = floats(n);
}

static void free_arrays(void)
{
    while (n_arrays > 0)
        zb_free_aligned(arrays[--n_arrays]);
}

static void line(const zb_kernels *k, const char *what, double s, double gflop, double gbyte)
{
    printf("%-10s %-44s %9.1f us", k->name, what, 1e6 * s);
    if (gflop > 0)
        printf(" %7.1f GFLOP/s", gflop / s);
    if (gbyte > 0)
        printf(" %7.1f GB/s", gbyte / s);
    putchar('\n');
}

static void bench_ssd(const zb_kernels *k, zb_ssm_dims d)
{
    enum { N = ZB_SSD_CHUNK };
    const size_t ld = d.heads * d.head_dim, ld_bc = d.groups * d.d_state, n_h = ld * d.d_state;
    float *h = array(n_h), *dh = array(n_h), *x = array(N * ld), *dx = array(N * ld), *dy = array(N * ld);
    float *B = array(N * ld_bc), *C = array(N * ld_bc), *dB = array(N * ld_bc), *dC = array(N * ld_bc);
    float *dt = array(N * d.heads), *ddt = array(N * d.heads), *A = array(d.heads), *dA = array(d.heads);
    float *scratch = array(zb_ssd_backward_scratch(d));
    char name[64];
    for (size_t i = 0; i < N * d.heads; i++)
        dt[i] = fabsf(dt[i]) * 0.1f;
    for (size_t i = 0; i < d.heads; i++)
        A[i] = -1.0f - fabsf(A[i]);
    BEST(state, 20, k->ssd_state(h, x, ld, dt, d.heads, A, B, ld_bc, N, d, 0, d.heads, scratch));
    BEST(back, 20,
         k->ssd_chunk_backward(dx, ld, ddt, d.heads, dB, dC, ld_bc, dA, dA, dh, dy, ld, h, x, ld, dt, d.heads, A, B, C,
                               ld_bc, A, N, d, 0, d.heads, scratch));
    const double product = 2e-9 * N * (double)d.head_dim * (double)d.d_state, heads = (double)d.heads;
    const double squares = 2e-9 * N * N * (double)d.head_dim * 2, shared = 2e-9 * N * N * (double)d.d_state * 3;
    snprintf(name, sizeof name, "ssd_state, %zu heads of %zu x %zu", d.heads, d.head_dim, d.d_state);
    line(k, name, state, heads * product, 0);
    snprintf(name, sizeof name, "ssd_chunk_backward, %zu heads of %zu x %zu", d.heads, d.head_dim, d.d_state);
    line(k, name, back, heads * (4 * product + squares) + shared, 0);
    free_arrays();
}

static void bench_attention(const zb_kernels *k, size_t n, size_t d)
{
    char name[64];
    zb_attn_backward a = {.dq = array(n * d),
                          .dk = array(n * d),
                          .dv = array(n * d),
                          .ld_dq = d,
                          .ld_dkv = d,
                          .q = array(n * d),
                          .k = array(n * d),
                          .v = array(n * d),
                          .out = array(n * d),
                          .dout = array(n * d),
                          .ld_q = d,
                          .ld_kv = d,
                          .ld_out = d,
                          .ld_dout = d,
                          .n = n,
                          .head_dim = d,
                          .scale = 1 / sqrtf((float)d),
                          .scratch = array(zb_attn_backward_scratch(n, d))};
    BEST(took, 5, k->attention_backward(&a));
    snprintf(name, sizeof name, "attention_backward, %zu rows of %zu", n, d);
    line(k, name, took, 5e-9 * (double)n * (double)(n + 1) * (double)d, 0);
    free_arrays();
}

static void bench_mixers(const zb_kernels *k)
{
    enum { N = 256, CHANNELS = 1024, STATES = 16, TAPS = 4 };
    float *x = array(N * CHANNELS), *dt = array(N * CHANNELS), *z = array(N * CHANNELS), *dy = array(N * CHANNELS);
    float *dx = array(N * CHANNELS), *ddt = array(N * CHANNELS), *dz = array(N * CHANNELS);
    float *A = array(CHANNELS * STATES), *dA = array(CHANNELS * STATES), *bc = array(N * 2 * STATES);
    float *dbc = array(N * 2 * STATES), *D = array(CHANNELS), *dD = array(CHANNELS);
    float *w = array(TAPS * CHANNELS), *dw = array(TAPS * CHANNELS);
    float *scratch = array(zb_scan_backward_scratch(N, STATES, CHANNELS));
    for (size_t i = 0; i < N * CHANNELS; i++)
        dt[i] = fabsf(dt[i]) * 0.1f;
    for (size_t i = 0; i < CHANNELS * STATES; i++)
        A[i] = -1.0f - fabsf(A[i]);
    BEST(conv, 5,
         k->conv1d_silu_backward(dx, CHANNELS, dw, dD, dy, CHANNELS, x, CHANNELS, 1, N, w, D, CHANNELS, TAPS, 0,
                                 CHANNELS));
    printf("%-10s conv1d_silu_backward  %6.2f ns a channel and row\n", k->name, 1e9 * conv / N / CHANNELS);
    BEST(scan, 3,
         k->mamba1_scan_backward(dx, CHANNELS, ddt, CHANNELS, dz, CHANNELS, dbc, dbc + STATES, 2 * STATES, dA, dD, dy,
                                 CHANNELS, x, CHANNELS, dt, CHANNELS, z, CHANNELS, 1, A, bc, bc + STATES, 2 * STATES, D,
                                 N, STATES, 0, CHANNELS, scratch));
    printf("%-10s mamba1_scan_backward  %6.2f ns a channel and row\n", k->name, 1e9 * scan / N / CHANNELS);
    BEST(gated, 5,
         for (size_t t = 0; t < N; t++)
             k->rmsnorm_gated_backward(dx + t * CHANNELS, dz + t * CHANNELS, dw, dy + t * CHANNELS, x + t * CHANNELS,
                                       z + t * CHANNELS, w, CHANNELS, 1, 1e-5f));
    printf("%-10s rmsnorm_gated_backward %5.2f ns a number\n", k->name, 1e9 * gated / N / CHANNELS);
    BEST(norm, 5,
         for (size_t t = 0; t < N; t++)
             k->rmsnorm_backward(dx + t * CHANNELS, dw, dy + t * CHANNELS, x + t * CHANNELS, w, CHANNELS, 1e-5f));
    printf("%-10s rmsnorm_backward      %6.2f ns a number\n", k->name, 1e9 * norm / N / CHANNELS);
    static const char *const acts[] = {"gelu", "silu", "gelu_tanh", "relu"};
    for (zb_act act = ZB_ACT_GELU; act <= ZB_ACT_RELU; act++) {
        BEST(glu, 5,
             for (size_t t = 0; t < N; t++)
                 k->glu_backward(dx, dz, dy + t * CHANNELS, x + t * CHANNELS, z + t * CHANNELS, CHANNELS, act));
        printf("%-10s glu_backward %-10s%5.2f ns a number\n", k->name, acts[act], 1e9 * glu / N / CHANNELS);
    }
    free_arrays();
}

static void bench_rest(const zb_kernels *k)
{
    enum { VOCAB = 4096, PARAMS = 1 << 20 };
    float *p = array(PARAMS), *m = array(PARAMS), *v = array(PARAMS), *g = array(PARAMS), lse;
    const double size = 4e-9 * PARAMS;
    const zb_adamw o = {1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, 0.5f, 1};
    for (size_t i = 0; i < PARAMS; i++)
        v[i] = fabsf(v[i]);
    BEST(adam, 5, k->adamw(p, m, v, g, PARAMS, &o));
    line(k, "adamw, 2^20 parameters (read and written)", adam, 0, 7 * size);
    double sum = 0;
    BEST(squares, 5, sum += k->sum_squares(g, PARAMS));
    line(k, sum > 0 ? "sum_squares of 2^20" : "sum_squares", squares, 0, size);
    BEST(loss, 20, k->cross_entropy(p, VOCAB, 5, 1, 0, &lse));
    printf("%-10s cross_entropy of 4096 %6.2f ns a logit\n", k->name, 1e9 * loss / VOCAB);
    static const size_t shapes[][2] = {{256, 2048}, {2048, 256}, {1000, 1000}};
    for (size_t i = 0; i < 3; i++) {
        const size_t r = shapes[i][0], c = shapes[i][1];
        char name[64];
        BEST(turn, 5, k->transpose(m, r, g, c, r, c));
        snprintf(name, sizeof name, "transpose %zu x %zu", r, c);
        line(k, name, turn, 0, 8e-9 * (double)(r * c));
        BEST(round, 5, k->pair_rows((uint32_t *)(void *)m, c, g, ZB_F32, c, r, c));
        line(k, "  rounded in pairs of rows", round, 0, 6e-9 * (double)(r * c));
    }
    free_arrays();
}

int main(int argc, char **argv)
{
    const zb_kernels *sets[8];
    const size_t n = zb_kernels_all(sets, 8);
    for (size_t i = 0; i < n; i++) {
        const zb_kernels *k = sets[i];
        int wanted = argc == 1 && k == zb_kernels_get();
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], k->name) == 0;
        if (!wanted)
            continue;
        float x = 0.5f;
        double flops = 0;
        BEST(at_most, 5, (x = 0.5f, flops = k->peak(ZB_F32, 1 << 18, &x)));
        printf("%-10s %.1f GFLOP/s in registers\n", k->name, 1e-9 * flops / at_most);
        bench_ssd(k, (zb_ssm_dims){4, 1, 64, 64});
        bench_ssd(k, (zb_ssm_dims){8, 1, 64, 128});
        bench_ssd(k, (zb_ssm_dims){8, 1, 32, 16});
        bench_attention(k, 256, 64);
        bench_attention(k, 1024, 64);
        bench_attention(k, 256, 160);
        bench_mixers(k);
        bench_rest(k);
    }
    return 0;
}
