/* bench_kernels.c — the kernels against the machine, one thread: bytes per second of products with one row beside a
 * loop that only reads, and arithmetic of products with many rows, attention, and the state-space kernels.
 *
 *   bench_kernels [SET ...]      sets to measure (generic avx2 avx512 neon); default: the one that would be used
 *
 * Every figure is the best of some runs. Shapes are those of Zamba2-1.2B. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core/mem.h"
#include "kernels/kernels.h"

#define MATRIX ((size_t)512 << 20)
#define MAX_M  512
#define ROWS   ((size_t)2048)
#define COLS   ((size_t)2048)

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile uint64_t sink;

/* Seconds of the best of `runs`. */
#define BEST(best, runs, what)                                                                                         \
    double best = INFINITY;                                                                                            \
    for (int run_ = 0; run_ < (runs); run_++) {                                                                        \
        const double start_ = now_s();                                                                                 \
        what;                                                                                                          \
        best = fmin(best, now_s() - start_);                                                                           \
    }

static float *floats(size_t n)
{
    float *p = zb_alloc_aligned(n * sizeof *p);
    if (p == NULL) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    for (size_t i = 0; i < n; i++)
        p[i] = (float)((i * 2654435761u) % 2001) * 1e-3f - 1.0f;
    return p;
}

static void bench_products(const zb_kernels *k, const void *data, float *x, float *y)
{
    BEST(reading, 5, sink += k->read_sum(data, MATRIX));
    printf("%-8s read                       %7.1f GB/s\n", k->name, (double)MATRIX / reading / 1e9);
    for (zb_dtype t = 0; t < ZB_N_DTYPES; t++) {
        const zb_mat whole = {data, MATRIX / COLS / zb_dtype_size(t), COLS, t, COLS};
        BEST(took, 5, k->matmul(y, whole.rows, x, COLS, 1, &whole, 0, whole.rows, 0));
        printf("%-8s matmul %-4s m=1            %7.1f GB/s      %3.0f %% of reading\n", k->name, zb_dtype_name(t),
               (double)MATRIX / took / 1e9, 100 * reading / took);
    }
    for (zb_dtype t = 0; t < ZB_N_DTYPES; t++) {
        const zb_mat part = {data, ROWS, COLS, t, COLS};
        static const size_t m[] = {4, 16, 128, 512};
        for (int i = 0; i < 4; i++) {
            BEST(took, 5, k->matmul(y, ROWS, x, COLS, m[i], &part, 0, ROWS, 0));
            printf("%-8s matmul %-4s m=%-3zu          %7.1f GFLOP/s\n", k->name, zb_dtype_name(t), m[i],
                   2e-9 * (double)(m[i] * ROWS * COLS) / took);
        }
    }
}

static void bench_attention(const zb_kernels *k)
{
    enum { DIM = 128, KEYS = 4096, PAGE = 256 };
    float *q = floats(KEYS * DIM), *kk = floats(KEYS * DIM), *v = floats(KEYS * DIM), *out = floats(KEYS * DIM);
    const float *kp[KEYS / PAGE], *vp[KEYS / PAGE];
    for (size_t i = 0; i < KEYS / PAGE; i++) {
        kp[i] = kk + i * PAGE * DIM;
        vp[i] = v + i * PAGE * DIM;
    }
    static const size_t rows[] = {1, 128};
    for (int i = 0; i < 2; i++) {
        const zb_attn_args a = {out, q, DIM, DIM, rows[i], KEYS - rows[i], kp, vp, PAGE, DIM, 0.125f};
        BEST(took, 5, k->attention(&a));
        printf("%-8s attention, %3zu rows, 4096 keys  %5.1f GFLOP/s  %8.1f us a row and head\n", k->name, rows[i],
               4e-9 * (double)rows[i] * KEYS * DIM / took, 1e6 * took / (double)rows[i]);
    }
    zb_free_aligned(q);
    zb_free_aligned(kk);
    zb_free_aligned(v);
    zb_free_aligned(out);
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
    printf("%-8s ssm_step of a layer        %7.1f us       %5.1f GB/s of state, read and written\n", k->name,
           1e6 * step, 8e-9 * (double)n_h / step);
    BEST(
        chunk, 5,
        k->ssd_chunk(y, ld, h, x, ld, dt, d.heads, A, bc, bc + d.d_state, 2 * d.d_state, A, N, d, 0, d.heads, scratch));
    printf("%-8s ssd_chunk of a layer       %7.1f us a row %5.1f GFLOP/s\n", k->name, 1e6 * chunk / N,
           1e-9 * (double)ld * (4.0 * N * (double)d.d_state + N * N) / chunk);
    BEST(scan, 5,
         k->mamba1_scan(y, ld, h, x, ld, dt, d.heads, x, ld, 1, h + n_h / 2, bc, bc + 16, 2 * d.d_state, A, N, 16, 0,
                        d.heads));
    printf("%-8s mamba1_scan                %7.2f ns a channel and row\n", k->name, 1e9 * scan / N / (double)d.heads);
    float *const all[] = {h, x, y, bc, dt, A, scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        zb_free_aligned(all[i]);
}

int main(int argc, char **argv)
{
    const zb_kernels *sets[8];
    const size_t n = zb_kernels_all(sets, 8);
    unsigned char *data = mmap(NULL, MATRIX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        perror("512 MB");
        return 1;
    }
#ifdef MADV_HUGEPAGE
    (void)madvise(data, MATRIX, MADV_HUGEPAGE);
#endif
    memset(data, 0x3C, MATRIX); /* an ordinary number in every type */
    float *x = floats(MAX_M * COLS), *y = floats(MATRIX / COLS / 2 > MAX_M * ROWS ? MATRIX / COLS / 2 : MAX_M * ROWS);
    for (size_t i = 0; i < n; i++) {
        int wanted = argc < 2 && sets[i] == zb_kernels_get();
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], sets[i]->name) == 0;
        if (wanted) {
            bench_products(sets[i], data, x, y);
            bench_attention(sets[i]);
            bench_mixers(sets[i]);
        }
    }
    zb_free_aligned(x);
    zb_free_aligned(y);
    munmap(data, MATRIX);
    return 0;
}
