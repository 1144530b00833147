/* bench_attention.c — attention against the machine, one thread, for each way of keeping keys and values: bytes per
 * second of one row over a long context beside a loop that only reads the same memory, and arithmetic of many rows.
 *
 *   bench_attention [SET ...]      sets to measure (generic avx2 avx512 neon); default: the one that would be used
 *
 * Every figure is the best of some runs; reading and attention take turns. Pages lie as in the model's pool: 32 tokens,
 * head by head, keys then values; a row goes through them page by page, head by head. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_tools.h"
#include "kernels/kernels.h"

#define MEMORY ((size_t)512 << 20)
#define PAGE   32
#define KEYS   ((size_t)16384)
#define ROWS   64

static volatile uint64_t sink;
static unsigned char *memory;

typedef struct setting {
    const zb_kernels *k;
    zb_kv_type t;
    size_t dim, heads;
    float *q, *out;     /* [heads or ROWS, dim]    */
    float *sums;        /* [heads]: greatest, total */
    const void **pages; /* [2][KEYS / PAGE] */
} setting;

static void head_pages(const setting *s, size_t head)
{
    const size_t bytes = zb_kv_bytes(s->t, PAGE, s->dim);
    for (size_t i = 0; i < KEYS / PAGE; i++) {
        s->pages[i] = memory + (i * s->heads + head) * 2 * bytes;
        s->pages[KEYS / PAGE + i] = memory + ((i * s->heads + head) * 2 + 1) * bytes;
    }
}

/* One row over all heads, page by page, as a decode step does it. */
static void decode(const setting *s)
{
    const size_t bytes = zb_kv_bytes(s->t, PAGE, s->dim);
    for (size_t i = 0; i < KEYS / PAGE; i++)
        for (size_t h = 0; h < s->heads; h++) {
            const unsigned char *at = memory + (i * s->heads + h) * 2 * bytes;
            const void *k = at, *v = at + bytes;
            const zb_attn_args a = {.out = s->out + h * s->dim,
                                    .q = s->q,
                                    .ld_out = s->dim,
                                    .ld_q = s->dim,
                                    .greatest = s->sums + h * 2,
                                    .total = s->sums + h * 2 + 1,
                                    .n_rows = 1,
                                    .first_pos = KEYS - 1,
                                    .key0 = i * PAGE,
                                    .key1 = i * PAGE + PAGE,
                                    .goes_on = i > 0,
                                    .k_pages = &k,
                                    .v_pages = &v,
                                    .k_type = s->t,
                                    .v_type = s->t,
                                    .page_tokens = PAGE,
                                    .head_dim = s->dim,
                                    .scale = 0.05f};
            s->k->attention(&a);
        }
}

static void prefill(const setting *s, size_t keys, size_t rows)
{
    float greatest[ROWS], total[ROWS];
    const zb_attn_args a = {.out = s->out,
                            .q = s->q,
                            .ld_out = s->dim,
                            .ld_q = s->dim,
                            .greatest = greatest,
                            .total = total,
                            .n_rows = rows,
                            .first_pos = keys - rows,
                            .key1 = keys,
                            .k_pages = s->pages,
                            .v_pages = s->pages + KEYS / PAGE,
                            .k_type = s->t,
                            .v_type = s->t,
                            .page_tokens = PAGE,
                            .head_dim = s->dim,
                            .scale = 0.05f};
    s->k->attention(&a);
}

static void bench(const zb_kernels *k, zb_kv_type t, size_t dim)
{
    setting s = {.k = k, .t = t, .dim = dim};
    s.heads = MEMORY / (KEYS / PAGE * 2 * zb_kv_bytes(t, PAGE, dim));
    s.q = floats(ROWS * dim), s.out = floats((s.heads > ROWS ? s.heads : ROWS) * dim), s.sums = floats(2 * s.heads);
    s.pages = malloc(2 * KEYS / PAGE * sizeof *s.pages);
    float *row = floats(dim);
    if (s.pages == NULL)
        exit(1);
    for (size_t i = 0; i < KEYS / PAGE * 2 * s.heads; i++)
        for (size_t r = 0; r < PAGE; r++)
            k->kv_store(memory + i * zb_kv_bytes(t, PAGE, dim), t, PAGE, dim, r, row);
    const size_t bytes = KEYS / PAGE * 2 * s.heads * zb_kv_bytes(t, PAGE, dim);
    double reading = INFINITY, decoding = INFINITY;
    for (int run = 0; run < 5; run++) {
        double start = now_s();
        sink += k->read_sum(memory, bytes);
        reading = fmin(reading, now_s() - start);
        start = now_s();
        decode(&s);
        decoding = fmin(decoding, now_s() - start);
    }
    printf("%-10s %-4s head %3zu  decode, 16384 keys %6.1f GB/s, reading %5.1f: %3.0f %%   prefill, keys x rows",
           k->name, zb_kv_name(t), dim, (double)bytes / decoding / 1e9, (double)bytes / reading / 1e9,
           100 * reading / decoding);
    static const size_t shapes[][2] = {{512, 64}, {4096, 64}, {4096, 16}};
    head_pages(&s, 0);
    for (int i = 0; i < 3; i++) {
        const size_t keys = shapes[i][0], rows = shapes[i][1];
        double took = INFINITY;
        for (int run = 0; run < 5; run++) {
            const double start = now_s();
            prefill(&s, keys, rows);
            took = fmin(took, now_s() - start);
        }
        const double pairs = (double)(rows * (keys - rows)) + (double)(rows * (rows + 1)) / 2;
        printf("  %zux%zu %5.1f", keys, rows, 4e-9 * pairs * (double)dim / took);
    }
    printf(" GFLOP/s\n");
    zb_free_aligned(s.q);
    zb_free_aligned(s.out);
    zb_free_aligned(s.sums);
    zb_free_aligned(row);
    free(s.pages);
}

int main(int argc, char **argv)
{
    const zb_kernels *sets[8];
    const size_t n = zb_kernels_all(sets, 8);
    static const size_t dims[] = {128, 160, 224};
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("512 MB");
        return 1;
    }
#ifdef MADV_HUGEPAGE
    (void)madvise(memory, MEMORY, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < n; i++) {
        int wanted = argc < 2 && sets[i] == zb_kernels_get();
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], sets[i]->name) == 0;
        for (int t = 0; wanted && t < ZB_N_KV_TYPES; t++)
            for (size_t d = 0; d < 3; d++)
                bench(sets[i], (zb_kv_type)t, dims[d]);
    }
    munmap(memory, MEMORY);
    return 0;
}
