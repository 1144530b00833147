/* probe.c — zamba_probe_read: how fast this machine reads memory with a plain loop on so many threads. The yardstick
 * beside which `bench` puts a decoded token; not a kernel. */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"
#include "core/pool.h"

enum { LANES = 32, MOST_REPEATS = 1000 };

typedef struct probe {
    const uint64_t *words;
    size_t n_words, n_parts;
    uint64_t *sums; /* [n_parts * 8]: a cache line each; read afterwards, so that no loop is left out */
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
    const size_t each = p->n_words / p->n_parts / LANES * LANES;
    const uint64_t *w = p->words + part * each;
    uint64_t lanes[LANES] = {0}, sum = 0;
    (void)worker;
    for (size_t i = 0; i < each; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += w[i + k];
    for (size_t k = 0; k < LANES; k++)
        sum += lanes[k];
    p->sums[part * 8] = sum;
}

int32_t zamba_cores(void)
{
    return zb_pool_cores();
}

zamba_status zamba_probe_read(size_t n_bytes, int32_t n_threads, int32_t repeats, double *bytes_per_second,
                              zamba_error *err)
{
    zb_pool *pool = NULL;
    uint64_t *words = NULL, *sums = NULL;
    double best = 0;
    *bytes_per_second = 0;
    if (n_threads < 0 || n_threads > 1024 || repeats < 1 || repeats > MOST_REPEATS)
        return zb_fail(err, ZAMBA_E_ARG, "probe: %d threads and %d repeats, wanted 0 to 1024 and 1 to %d", n_threads,
                       repeats, MOST_REPEATS);
    const size_t n_parts = (size_t)(n_threads > 0 ? n_threads : zb_pool_cores());
    const size_t least = n_parts * LANES * sizeof *words;
    n_bytes = n_bytes / least * least; /* parts of whole lanes: every byte that is counted is read */
    if (n_bytes == 0)
        return zb_fail(err, ZAMBA_E_ARG, "probe: too few bytes, wanted at least %zu for %zu threads", least, n_parts);
    zamba_status st = zb_pool_open(&pool, (int)n_parts, err);
    if (st == ZAMBA_OK) {
        words = zb_alloc_aligned(n_bytes);
        sums = zb_alloc_aligned(n_parts * 8 * sizeof *sums);
        if (words == NULL || sums == NULL)
            st = zb_fail_memory(err, "probe", n_bytes);
    }
    if (st == ZAMBA_OK) {
        probe p = {words, n_bytes / sizeof *words, n_parts, sums};
        memset(words, 1, n_bytes); /* real pages, not the one page of zeros */
        for (int32_t i = 0; i < repeats; i++) {
            const double start = now();
            zb_pool_run(pool, n_parts, read_part, &p);
            const double took = now() - start;
            uint64_t sum = 0;
            for (size_t k = 0; k < n_parts; k++)
                sum += sums[k * 8];
            if (sum != UINT64_C(0x0101010101010101) * (uint64_t)p.n_words)
                st = zb_fail(err, ZAMBA_E_IO, "probe: memory gave back other bytes than were written");
            if (took > 0 && (double)n_bytes / took > best)
                best = (double)n_bytes / took;
        }
    }
    if (st == ZAMBA_OK)
        *bytes_per_second = best;
    zb_free_aligned(words);
    zb_free_aligned(sums);
    zb_pool_close(pool);
    return st;
}
