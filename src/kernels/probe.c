/* probe.c — what this machine can do, the yardsticks beside which `bench` puts a decoded token and a prompt: how fast
 * its memory is read by a loop that does nothing else, and how many products its cores do in registers. */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"

enum { GRAIN = 256, MOST_REPEATS = 1000, PEAK_ROUNDS = 1 << 16 };

#define HUGE_PAGE    ((size_t)2 << 20)
#define PEAK_SECONDS 0.02 /* of a measurement: long beside the start of the threads */

typedef struct probe {
    const char *bytes;
    size_t each;    /* bytes of a part */
    uint64_t *sums; /* [n_parts * 8]: a cache line each; read afterwards, so that no loop is left out */
    zb_dtype type;
    size_t rounds;
    double *counts; /* [n_parts * 8] */
} probe;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_part(void *ctx, size_t part, int worker)
{
    const probe *p = ctx;
    (void)worker;
    p->sums[part * 8] = zb_kernels_get()->read_sum(p->bytes + part * p->each, p->each);
}

static void peak_part(void *ctx, size_t part, int worker)
{
    const probe *p = ctx;
    float sink = 0;
    (void)worker;
    p->counts[part * 8] = zb_kernels_get()->peak(p->type, p->rounds, &sink);
    p->counts[part * 8 + 1] = (double)sink;
}

int32_t zamba_cores(void)
{
    return zb_pool_cores();
}

static zamba_status check(int32_t n_threads, int32_t repeats, zamba_error *err)
{
    if (n_threads < 0 || n_threads > 1024 || repeats < 1 || repeats > MOST_REPEATS)
        return zb_fail(err, ZAMBA_E_ARG, "probe: %d threads and %d repeats, wanted 0 to 1024 and 1 to %d", n_threads,
                       repeats, MOST_REPEATS);
    return ZAMBA_OK;
}

zamba_status zamba_probe_read(size_t n_bytes, int32_t n_threads, int32_t repeats, double *bytes_per_second,
                              zamba_error *err)
{
    zb_pool *pool = NULL;
    char *bytes = NULL;
    uint64_t *sums = NULL;
    double best = 0;
    *bytes_per_second = 0;
    zamba_status st = check(n_threads, repeats, err);
    if (st != ZAMBA_OK)
        return st;
    const size_t n_parts = (size_t)(n_threads > 0 ? n_threads : zb_pool_cores());
    const size_t least = n_parts * GRAIN;
    n_bytes = n_bytes / least * least; /* parts of whole vectors: every byte that is counted is read */
    if (n_bytes == 0)
        return zb_fail(err, ZAMBA_E_ARG, "probe: too few bytes, wanted at least %zu for %zu threads", least, n_parts);
    st = zb_pool_open(&pool, (int)n_parts, err);
    if (st == ZAMBA_OK) {
        bytes = zb_alloc_aligned(n_bytes);
        sums = zb_alloc_aligned(n_parts * 8 * sizeof *sums);
        if (bytes == NULL || sums == NULL)
            st = zb_fail_memory(err, "probe", n_bytes);
    }
    if (st == ZAMBA_OK) {
        probe p = {.bytes = bytes, .each = n_bytes / n_parts, .sums = sums};
#ifdef MADV_HUGEPAGE /* the best that the machine can do: whole huge pages inside the block */
        char *huge = bytes + (HUGE_PAGE - (uintptr_t)bytes % HUGE_PAGE) % HUGE_PAGE;
        if (n_bytes > 2 * HUGE_PAGE)
            (void)madvise(huge, n_bytes - HUGE_PAGE - (n_bytes - HUGE_PAGE) % HUGE_PAGE, MADV_HUGEPAGE);
#endif
        memset(bytes, 1, n_bytes); /* real pages, not the one page of zeros */
        for (int32_t i = 0; i < repeats; i++) {
            const double start = now();
            zb_pool_run(pool, n_parts, read_part, &p);
            const double took = now() - start;
            uint64_t sum = 0;
            for (size_t k = 0; k < n_parts; k++)
                sum += sums[k * 8];
            if (sum != UINT64_C(0x0101010101010101) * (uint64_t)(n_bytes / 8))
                st = zb_fail(err, ZAMBA_E_IO, "probe: memory gave back other bytes than were written");
            if (took > 0 && (double)n_bytes / took > best)
                best = (double)n_bytes / took;
        }
    }
    if (st == ZAMBA_OK)
        *bytes_per_second = best;
    zb_free_aligned(bytes);
    zb_free_aligned(sums);
    zb_pool_close(pool);
    return st;
}

zamba_status zamba_probe_products(zamba_compute compute, int32_t n_threads, int32_t repeats, double *flops_per_second,
                                  zamba_error *err)
{
    zb_pool *pool = NULL;
    double best = 0;
    *flops_per_second = 0;
    zamba_status st = check(n_threads, repeats, err);
    static const zb_dtype types[] = {[ZAMBA_COMPUTE_AUTO] = ZB_N_DTYPES,
                                     [ZAMBA_COMPUTE_F32] = ZB_F32,
                                     [ZAMBA_COMPUTE_BF16] = ZB_BF16,
                                     [ZAMBA_COMPUTE_INT8] = ZB_Q8_0};
    if (st == ZAMBA_OK && ((int)compute <= ZAMBA_COMPUTE_AUTO || compute > ZAMBA_COMPUTE_INT8))
        st = zb_fail(err, ZAMBA_E_ARG, "probe: compute is %d, wanted f32, bf16 or int8", (int)compute);
    if (st != ZAMBA_OK)
        return st;
    const size_t n_parts = (size_t)(n_threads > 0 ? n_threads : zb_pool_cores());
    probe p = {.type = types[compute], .rounds = PEAK_ROUNDS};
    p.counts = zb_alloc_aligned(n_parts * 8 * sizeof *p.counts);
    st = p.counts == NULL ? zb_fail_memory(err, "probe", n_parts * 64) : zb_pool_open(&pool, (int)n_parts, err);
    for (int32_t i = 0; i < repeats && st == ZAMBA_OK;) {
        const double start = now();
        zb_pool_run(pool, n_parts, peak_part, &p);
        const double took = now() - start;
        if (took < PEAK_SECONDS && p.rounds < SIZE_MAX / 4) {
            p.rounds *= 2;
            continue;
        }
        double count = 0;
        for (size_t k = 0; k < n_parts; k++)
            count += p.counts[k * 8];
        best = count / took > best ? count / took : best;
        i++;
    }
    if (st == ZAMBA_OK)
        *flops_per_second = best;
    zb_free_aligned(p.counts);
    zb_pool_close(pool);
    return st;
}
