/* bench_kernels.c — the kernels against the machine, one thread: products with few rows beside a loop that only reads
 * memory, products with many rows beside the arithmetic in registers, and the state-space kernels. Attention has a
 * program of its own.
 *
 *   bench_kernels [--huge] [SET or TYPE ...]     sets to measure (generic avx2 avx512 avx512vnni avx512bf16 neon);
 *       default: the one in use. Types of weights (F32 BF16 Q8_0 Q4_K ...): only products with those; default: all
 *       that the set has kernels for. --huge: weights on huge pages (a mapped checkpoint stands on small ones)
 *
 * Memory moves from minute to minute: what is compared to reading is measured in turns with it, and the median of the
 * ratios is shown. Other figures are the best of some runs. Time is the thread's own. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_tools.h"
#include "kernels/kernels.h"

#define MATRIX ((size_t)512 << 20)
#define PART   ((size_t)128 << 20) /* read in turns: no cache holds it */
#define MAX_M  512
#define ROWS   ((size_t)2048)
#define COLS   ((size_t)2048)
#define LD_Q8  (COLS + ZB_Q8_RUN) /* an odd number of cache lines: else rows fight for the same sets of a cache */
#define MOST_Y ((size_t)16 * PART / 512) /* 16 rows of x against rows of 512 bytes or more */

static volatile uint64_t sink;

/* Seconds of the best of `runs`. */
#define BEST(best, runs, what)                                                                                         \
    double best = INFINITY;                                                                                            \
    for (int run_ = 0; run_ < (runs); run_++) {                                                                        \
        const double start_ = now_s();                                                                                 \
        what;                                                                                                          \
        best = fmin(best, now_s() - start_);                                                                           \
    }

/* What is multiplied: activations in f32, bf16 or bytes with weights of a type. */
typedef struct product {
    const zb_kernels *k;
    enum { IN_F32, IN_BF16, IN_BYTES, IN_BYTES_TURNED } in; /* the last with weights turned */
    zb_dtype type;
    const float *x;
    const uint16_t *rounded;
    zb_q8_rows bytes;
    float *y;
} product;

static const char *const kernel_names[] = {"matmul     ", "matmul_bf16", "matmul_q8  ", "... turned "};

/* y of m rows against all of w, so many weight rows at a time. */
static void multiply(const product *p, size_t m, const zb_mat *w, size_t rows_at_once)
{
    for (size_t r = 0; r < w->rows; r += rows_at_once) {
        const size_t to = r + rows_at_once < w->rows ? r + rows_at_once : w->rows;
        if (p->in >= IN_BYTES)
            p->k->matmul_q8(p->y, w->rows, &p->bytes, m, w, r, to, 0);
        else if (p->in == IN_BF16)
            p->k->matmul_bf16(p->y, w->rows, p->rounded, COLS, m, w, r, to, 0);
        else
            p->k->matmul(p->y, w->rows, p->x, COLS, m, w, r, to, 0);
    }
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, rising);
    return v[n / 2];
}

/* Rows of COLS columns over any bytes. */
static zb_mat matrix(const product *p, const char *data, size_t bytes)
{
    zb_mat w = {data, bytes / zb_row_bytes(p->type, COLS), COLS, p->type, COLS, NULL, 0};
    if (p->in == IN_BYTES_TURNED) {
        w.group = zb_turned_bytes(p->type, COLS);
        w.rows = bytes / w.group * ZB_TURN_ROWS;
    }
    return w;
}

enum { TURNS = 9, N_FEW = 8, N_MANY = 4 };

/* Weights from memory, few rows: the share of the speed of reading, and time in units of one row's. */
static void bench_few(const product *p, const char *data)
{
    static const size_t m[N_FEW] = {1, 2, 3, 4, 6, 8, 12, 16};
    double share[N_FEW][TURNS], speed[TURNS];
    for (size_t i = 0; i < TURNS; i++) {
        const char *part = data + i % (MATRIX / PART) * PART;
        const zb_mat w = matrix(p, part, PART);
        double start = now_s();
        sink += p->k->read_sum(part, w.rows * zb_row_bytes(p->type, COLS) / 64 * 64);
        const double reading = now_s() - start;
        speed[i] = (double)PART / reading;
        for (size_t j = 0; j < N_FEW; j++) {
            start = now_s();
            multiply(p, m[j], &w, 256);
            share[j][i] = reading / (now_s() - start);
        }
    }
    printf("%-10s %s %-6s from memory, reading %.1f GB/s:", p->k->name, kernel_names[p->in], zb_dtype_name(p->type),
           median(speed, TURNS) / 1e9);
    double one = 0;
    for (size_t j = 0; j < N_FEW; j++) {
        const double of = median(share[j], TURNS);
        one = j == 0 ? of : one;
        printf("  m=%zu %.0f %% (%.2f)", m[j], 100 * of, one / of);
    }
    putchar('\n');
}

/* Many rows: the share of what the same arithmetic reaches in registers. */
static void bench_many(const product *p, const char *data)
{
    static const size_t m[N_MANY] = {16, 32, 128, 512};
    zb_mat w = matrix(p, data, MATRIX);
    w.rows = ROWS;
    float x = 0.5f;
    double flops = 0;
    static const zb_dtype probed[] = {ZB_F32, ZB_BF16, ZB_Q8_0, ZB_Q8_0};
    BEST(at_most, 5, (x = 0.5f, flops = p->k->peak(probed[p->in], 1 << 18, &x), sink += x > 0));
    printf("%-10s %s %-6s, %.0f Gop/s in registers:", p->k->name, kernel_names[p->in], zb_dtype_name(p->type),
           flops / at_most / 1e9);
    for (size_t j = 0; j < N_MANY; j++) {
        BEST(took, 5, multiply(p, m[j], &w, 64));
        const double rate = 2 * (double)(m[j] * ROWS * COLS) / took;
        printf("  m=%zu %.1f (%.0f %%)", m[j], rate / 1e9, 100 * rate / (flops / at_most));
    }
    putchar('\n');
}

static void bench_products(const zb_kernels *k, const char *data, const float *x, float *y, uint32_t types)
{
    uint16_t *rounded = zb_alloc_aligned(MAX_M * COLS * sizeof *rounded);
    int8_t *q = zb_alloc_aligned(MAX_M * LD_Q8);
    float *scale = zb_alloc_aligned(MAX_M * LD_Q8 / ZB_Q8_RUN * sizeof *scale);
    int16_t *sum = zb_alloc_aligned(MAX_M * LD_Q8 / 16 * sizeof *sum);
    if (rounded == NULL || q == NULL || scale == NULL || sum == NULL)
        return;
    k->to_bf16(rounded, x, MAX_M * COLS);
    BEST(took, 5,
         for (size_t i = 0; i < MAX_M; i++)
             k->to_q8(q + i * LD_Q8, scale + i * (LD_Q8 / ZB_Q8_RUN), sum + i * (LD_Q8 / 16), x + i * COLS, COLS));
    printf("%-10s to_q8: %.2f ns a number\n", k->name, 1e9 * took / (MAX_M * COLS));
    product p = {k, IN_F32, ZB_F32, x, rounded, {q, scale, sum, LD_Q8}, y};
    for (int many = 0; many < 2; many++)
        for (int in = IN_F32; in <= IN_BYTES_TURNED; in++)
            for (int t = 0; t < ZB_N_DTYPES; t++) {
                const int bytes = (int)(k->q8_types >> t & 1);
                const int fits = in == IN_BYTES_TURNED ? bytes && k->turn != NULL && zb_turn_cols((zb_dtype)t) > 0
                                 : in == IN_BYTES      ? bytes
                                 : in == IN_BF16       ? t == ZB_BF16
                                                       : t < ZB_N_FLOATS;
                if (!fits || !(types >> t & 1))
                    continue;
                p.in = in;
                p.type = (zb_dtype)t;
                if (many)
                    bench_many(&p, data);
                else
                    bench_few(&p, data);
            }
    zb_free_aligned(rounded);
    zb_free_aligned(q);
    zb_free_aligned(scale);
    zb_free_aligned(sum);
}

static void bench_mixers(const zb_kernels *k)
{
    const zb_ssm_dims d = {64, 1, 64, 128};
    enum { N = ZB_SSD_CHUNK };
    const size_t ld = d.heads * d.head_dim, n_h = ld * d.d_state;
    float *h = floats(n_h), *x = floats(N * ld), *y = floats(N * ld), *bc = floats(N * 2 * d.d_state);
    float *dt = floats(N * d.heads), *A = floats(d.heads), *scratch = floats(zb_ssd_scratch(d));
    for (size_t i = 0; i < N * d.heads; i++)
        dt[i] = fabsf(dt[i]) * 0.1f;
    for (size_t i = 0; i < d.heads; i++)
        A[i] = -1.0f - fabsf(A[i]);
    BEST(step, 20, k->ssm_step(y, h, x, dt, A, bc, bc + d.d_state, A, d, 0, d.heads));
    printf("%-10s ssm_step of a layer        %7.1f us       %5.1f GB/s of state, read and written\n", k->name,
           1e6 * step, 8e-9 * (double)n_h / step);
    BEST(
        chunk, 5,
        k->ssd_chunk(y, ld, h, x, ld, dt, d.heads, A, bc, bc + d.d_state, 2 * d.d_state, A, N, d, 0, d.heads, scratch));
    printf("%-10s ssd_chunk of a layer       %7.1f us a row %5.1f GFLOP/s\n", k->name, 1e6 * chunk / N,
           1e-9 * (double)ld * (4.0 * N * (double)d.d_state + N * N) / chunk);
    BEST(scan, 5,
         k->mamba1_scan(y, ld, h, x, ld, dt, d.heads, x, ld, 1, h + n_h / 2, bc, bc + 16, 2 * d.d_state, A, N, 16, 0,
                        d.heads));
    printf("%-10s mamba1_scan                %7.2f ns a channel and row\n", k->name, 1e9 * scan / N / (double)d.heads);
    float *const all[] = {h, x, y, bc, dt, A, scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        zb_free_aligned(all[i]);
}

int main(int argc, char **argv)
{
    const zb_kernels *sets[8];
    const size_t n = zb_kernels_all(sets, 8);
    const int huge = argc > 1 && strcmp(argv[1], "--huge") == 0;
    char *data = mmap(NULL, MATRIX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        perror("512 MB");
        return 1;
    }
#ifdef MADV_HUGEPAGE
    (void)madvise(data, MATRIX, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
    memset(data, 0x3C, MATRIX); /* an ordinary number in every type */
    float *x = floats(MAX_M * COLS), *y = floats(MOST_Y);
    uint32_t types = 0;
    int named = 0;
    for (int a = 1 + huge; a < argc; a++) {
        zb_dtype t;
        if (zb_dtype_find(argv[a], &t))
            types |= 1u << t;
        else
            named++;
    }
    for (size_t i = 0; i < n; i++) {
        int wanted = named == 0 && sets[i] == zb_kernels_get();
        for (int a = 1 + huge; a < argc; a++)
            wanted |= strcmp(argv[a], sets[i]->name) == 0;
        if (wanted) {
            bench_products(sets[i], data, x, y, types ? types : ~0u);
            if (types == 0)
                bench_mixers(sets[i]);
        }
    }
    zb_free_aligned(x);
    zb_free_aligned(y);
    munmap(data, MATRIX);
    return 0;
}
